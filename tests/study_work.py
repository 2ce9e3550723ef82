"""What the runs of the study tests do; a module that processes import quickly."""

import os
import signal


def square(setting: dict[str, int]) -> dict[str, int]:
    return {"square": setting["x"] ** 2}


def two_columns(setting: dict[str, int]) -> dict[str, int]:
    return {"square": setting["x"] ** 2, "note": "one\ntwo"}


def fail(setting: dict[str, int]) -> dict[str, int]:
    raise AssertionError(f"{setting} was run again")


def fail_on_two(setting: dict[str, int]) -> dict[str, int]:
    if setting["x"] == 2:
        raise ValueError("two is too many")
    return square(setting)


def die_on_two(setting: dict[str, int]) -> dict[str, int]:
    if setting["x"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(setting)
