import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from perturbrl.training import progress
from perturbrl.training.progress import counted, working


@pytest.fixture
def terminal(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    screen.isatty = lambda: True
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=screen))
    monkeypatch.setattr(
        progress, "Console", lambda stderr: Console(file=screen, force_terminal=True, width=100)
    )
    return screen


def test_items_pass_through_and_the_one_in_work_is_named(terminal):
    shown = counted("judging", str.upper)
    assert list(shown(["a", "b"])) == ["a", "b"]
    said = terminal.getvalue()
    assert "judging: A" in said
    assert "judging: B" in said
    assert "1/2" in said


def test_work_of_unknown_length_has_a_bar_too(terminal):
    with working("reading cells"):
        pass
    assert "reading cells" in terminal.getvalue()


def test_where_there_is_no_terminal_nothing_is_drawn(capsys):
    with working("reading cells"):
        assert list(counted("judging", str)([1, 2])) == [1, 2]
    assert capsys.readouterr() == ("", "")
