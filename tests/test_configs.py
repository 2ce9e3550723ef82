"""Every shipped configuration is valid, documents itself, and says what a user would type."""

from pathlib import Path

import pytest
import yaml
from places import CONFIGS

from perturbrl.cli import parse_config

FILES = sorted(CONFIGS.glob("*.yaml"))
COMPLETE = [path for path in FILES if "model" in yaml.safe_load(path.read_text())]


@pytest.mark.parametrize("path", COMPLETE, ids=lambda path: path.stem)
def test_a_configuration_builds(path: Path) -> None:
    built = parse_config([f"--config={path}"])
    assert built.max_epochs is not None


def test_the_overlay_goes_on_top() -> None:
    built = parse_config([f"--config={CONFIGS / 'smoke.yaml'}", f"--config={CONFIGS / 'ddp.yaml'}"])
    assert built.model.rollout.n_cells == 64


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_configuration_says_how_it_is_used(path: Path) -> None:
    text = path.read_text()
    assert "perturbrl fit" in text
    assert path.name in text
    assert "${" not in text, "interpolation is resolved before overrides, so a user could not change it"
