"""What the README shows is what there is: commands parse, files exist, code runs."""

import argparse
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from places import ROOT
from studies import escape

from perturbrl.cli import parse_config
from perturbrl.twins.checks import check_twin

README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def _commands() -> list[str]:
    return [line for block in _blocks("bash") for line in block.splitlines() if line.strip()]


def test_every_script_and_configuration_it_names_exists() -> None:
    for name in set(re.findall(r"(?:tools|configs|docs|perturbrl)/[\w/.-]+\.\w+", README)):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("path", sorted((ROOT / "docs/results").glob("*.json")), ids=lambda path: path.name)
def test_every_kept_result_is_what_a_command_printed(path: Path) -> None:
    assert isinstance(json.loads(path.read_text()), dict)
    assert f"`{path.name}`" in (ROOT / "docs/results/README.md").read_text()


@pytest.mark.parametrize("command", [c for c in _commands() if " fit " in c])
def test_every_fit_command_is_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(
        command.replace(" --ckpt_path last", "")
    )  # that needs a run, tests/training/test_resume.py
    built = parse_config(arguments[arguments.index("fit") + 1 :])
    assert built.max_epochs


def test_every_command_is_one_that_exists() -> None:
    for command in _commands():
        words = shlex.split(command)
        assert words[0] in {"perturbrl", "tools/quickstart.sh", "tools/test.sh", "torchrun", "python"}, (
            command
        )
        if words[0] == "python":
            assert words[1:3] == ["tools/study.py", "escape"], command
            parser = argparse.ArgumentParser()
            escape.add_arguments(parser)
            assert parser.parse_args(words[3:]).suite in escape.SUITES
        if words[0] == "perturbrl":
            assert words[1] in {"inspect", "plan", "fit", "test", "predict"}, command


def test_the_yaml_it_shows_is_understood(tmp_path: Path) -> None:
    shown = [block for block in _blocks("yaml") if "my_module" not in block]
    assert shown
    for number, block in enumerate(shown):
        (tmp_path / f"{number}.yaml").write_text(block)
        parse_config([f"--config={ROOT / 'configs/smoke.yaml'}", f"--config={tmp_path / f'{number}.yaml'}"])


def test_the_twin_of_twenty_lines_keeps_the_contract() -> None:
    code = next(block for block in _blocks("python") if "ToggleTwin" in block)
    scope: dict[str, object] = {}
    exec(code, scope)
    twin = scope["ToggleTwin"]()
    check_twin(twin)
    low = twin.transition(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2), torch.zeros(1, 2))
    assert torch.allclose(low, torch.tensor([[1.0, 0.0]]), atol=0.05)
    body = code.split("class ToggleTwin", 1)[1].split("check_twin", 1)[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 20
