"""The errors a user can cause: each message says what is wrong, the value, and what to do."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

Name = TypeVar("Name", bound=str)


class PerturbRLError(Exception):
    """Base of every error a user can mend; the command line prints it in one sentence and exits with 2."""


class DataError(PerturbRLError):
    """The data file is missing, damaged, or does not say what is needed."""


class LeakageError(PerturbRLError):
    """Something was about to be learned from cells that are held out."""


class ConfigurationError(PerturbRLError):
    """An option has a value that cannot work, alone or together with another one."""


class NetworkError(PerturbRLError):
    """A regulatory network file is malformed or the network cannot be used as asked."""


class CheckpointError(PerturbRLError):
    """A checkpoint is missing, damaged, or belongs to another model."""


def listed(names: Sequence[str], limit: int | None = None) -> str:
    """Names as in a sentence, ``A, B and C``; of more than ``limit`` the first ones, and how many more there are."""
    said = list(names[:limit])
    if len(said) < len(names):
        said.append(f"{len(names) - len(said)} more")
    return " and ".join([", ".join(said[:-1]), said[-1]]) if len(said) > 1 else "".join(said)


def closest(name: str, known: Iterable[Name], cutoff: float = 0.6) -> list[Name]:
    """Up to three known names that are spelled most like ``name``, in whatever case.

    Args:
        name: as written.
        known: what could be meant.
        cutoff: of likeness, from 0 to 1 (see ``difflib``).
    """
    folded = {one.casefold(): one for one in known}
    return [folded[near] for near in get_close_matches(name.casefold(), folded, n=3, cutoff=cutoff)]


def option_meant(name: str, options: Sequence[str]) -> str:
    """The end of a sentence about an option that does not exist: the one that was probably meant, or all."""
    near = get_close_matches(name, options, n=1)
    return f"did you mean '{near[0]}'?" if near else f"choose among {', '.join(options)}"
