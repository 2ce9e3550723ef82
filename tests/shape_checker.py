"""The run-time checks of the test suite: beartype of every annotation, with axes of one size throughout a call.

Stands in for ``jaxtyping.jaxtyped``, which its import hook puts before every function and class. That one binds the
arguments of each call and checks them twice: kriging's many small calls took twice as long with it as unchecked.
"""

from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from types import FunctionType
from typing import Any, Final, Self, TypeVar, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

Checked = TypeVar("Checked", bound=Callable[..., Any])

_library = jaxtyping.jaxtyped
_SIZES_OF_ONE_CALL: Final = _library("context")
# An int is a float, and what is refused is a TypeError, as of a call without these checks.
_check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))


def jaxtyped(*, typechecker: object) -> Callable[[Checked], Checked]:
    """What decorates a function, or a class, of which the fields of a dataclass are checked."""
    return _checked


def _checked(target: Any) -> Any:
    if isinstance(target, FunctionType):
        return _checked_function(target)
    if is_dataclass(target) and "__init__" in vars(target):
        target.__init__ = _checked_function(target.__init__)
    return target


def _checked_function(function: FunctionType) -> Callable[..., Any]:
    hints = function.__annotations__
    # ``Self``, and the name of a class that is still being made, are known in classes that are decorated as a whole.
    function.__annotations__ = {
        name: Any if hint is Self or isinstance(hint, str) else hint for name, hint in hints.items()
    }
    checked = _check(function)
    function.__annotations__ = checked.__annotations__ = hints
    shapes = [shape for hint in hints.values() for shape in _shapes(hint)]
    if not shapes:
        return checked
    if any("{" in shape for shape in shapes):  # an axis is as long as an argument says
        return _library(checked, typechecker=None)

    @wraps(function)
    def with_shapes(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with _SIZES_OF_ONE_CALL:
            return checked(*args, **kwargs)

    return with_shapes


def _shapes(hint: Any) -> list[str]:
    """Those that an annotation asks for."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return [hint.dim_str]
    return [shape for part in get_args(hint) for shape in _shapes(part)]
