"""What the command line says when it refuses."""

import sys

import pytest

from perturbrl.cli import main


def the_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *command: str
) -> str:
    """The one line of error with which ``perturbrl`` ended, by exit status 2."""
    monkeypatch.setattr(sys, "argv", ["perturbrl", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("perturbrl: error:")]
    assert len(said) == 1
    return said[0]
