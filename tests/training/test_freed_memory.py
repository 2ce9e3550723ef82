"""What a process keeps of what it frees."""

import platform
import subprocess
import sys

import pytest
from smoke_run import build, quiet_trainer

from perturbrl import cli
from perturbrl.training import freed_memory

PROGRAM = """
import sys
import torch
from perturbrl.training.freed_memory import keep_freed_memory

def resident():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * 4096 / 2**20

if sys.argv[1] == 'keep':
    assert keep_freed_memory()
before = resident()
numbers = [torch.ones(5 * 2**20) for _ in range(3)]
del numbers
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_large_arrays_are_kept_after_they_are_freed() -> None:
    kept, returned = (
        float(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True).stdout)
        for how in ("keep", "return")
    )
    assert kept > 50
    assert returned < 20


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not freed_memory.keep_freed_memory()


def test_only_the_command_tells_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python calls run in a process that belongs to somebody else: a notebook."""
    told: list[str] = []
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: told.append("told"))
    built = build()
    quiet_trainer(1).fit(built.model, built.data)
    assert told == []
    monkeypatch.setattr(sys, "argv", ["perturbrl", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert told == ["told"]
