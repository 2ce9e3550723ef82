"""The run-time type checker of the test suite: beartype, with ints accepted where floats are asked for."""

from collections.abc import Callable
from typing import Any, Self

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function's annotations, except ``Self``, which beartype knows in decorated classes only."""
    for name, hint in function.__annotations__.items():
        if hint is Self:
            function.__annotations__[name] = Any
    return _check(function)
