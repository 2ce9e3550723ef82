"""The errors a user can cause: each message says what is wrong, the value, and what to do."""

from collections.abc import Sequence


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
