"""What a user would measure: named one by one, singles and combinations, or by a file such as a library."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perturbrl.data.allowed_perturbations import AllowedPerturbations
from perturbrl.errors import ConfigurationError


@dataclass(frozen=True)
class CandidateNames:
    """Names of candidates.

    Attributes:
        names: in the order given, each once.
        file: that they were read from; who names one in a list means it, of a file only what can be one is meant.
    """

    names: tuple[str, ...]
    file: str | None = None

    @classmethod
    def of(cls, given: str | Sequence[str]) -> "CandidateNames":
        """Names as they are, and the lines of a file; one text that is no file is one name.

        Raises:
            ConfigurationError: there is no name, or an empty one.
            DataError: the file is no text, or has no name.
        """
        if isinstance(given, str) and Path(given).is_file():
            listed = AllowedPerturbations.of(given)
            return cls(listed.names, listed.file)
        names = tuple(dict.fromkeys([given] if isinstance(given, str) else given))
        if not names or not all(name.strip() for name in names):
            raise ConfigurationError(
                f"candidates are {list(names)}, and an empty name is none; name at least one, or leave candidates out"
            )
        return cls(names)
