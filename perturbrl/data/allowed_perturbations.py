"""Which perturbations a user lets be dosed: named one by one, or by a file such as a list of transcription factors."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from perturbrl.data.labels import Label
from perturbrl.errors import ConfigurationError, DataError, listed

_NAMED = 6
# What no perturbation is likely to end with.
_ENDINGS = (".txt", ".csv", ".tsv", ".list", ".gz")


@dataclass(frozen=True)
class AllowedPerturbations:
    """The only perturbations that may be dosed.

    Attributes:
        names: in the order given, each once.
        file: that they were read from. Of those in a file only what the data know is meant.
    """

    names: tuple[str, ...]
    file: str | None = None

    @classmethod
    def of(cls, given: str | Sequence[str]) -> "AllowedPerturbations":
        """Names as they are, and the lines of a file; one text that is no file is one name.

        Raises:
            ConfigurationError: there is no name, or one that is no single perturbation.
            DataError: there is no such file, it is no text, or it has no name.
        """
        path = Path(given) if isinstance(given, str) else None
        if path is not None and not path.is_file() and (path.suffix.lower() in _ENDINGS or "/" in str(given)):
            raise DataError(
                f"there is no file '{given}' with names of perturbations; check the path, or give names as a list"
            )
        if path is None or not path.is_file():
            return cls(_singles([given] if isinstance(given, str) else given))
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"'{path}' cannot be read as text ({error}); give one symbol a line") from error
        names = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
        if not names:
            raise DataError(f"'{path.name}' has no name; give one symbol a line")
        return cls(names, path.name)

    def among(self, known: Collection[str]) -> tuple[str, ...]:
        """Of a file the names that are known, of others all: who names one means it.

        Raises:
            ConfigurationError: none of the file is known.
        """
        if self.file is None:
            return self.names
        place = set(known)
        found = tuple(name for name in self.names if name in place)
        if not found:
            raise ConfigurationError(
                f"'{self.file}' has none of the {len(place)} names that could be dosed: it has "
                f"{listed(self.names, _NAMED)}, the data know {listed(sorted(place), _NAMED)}; give symbols of the "
                "same species, in the same case"
            )
        return found


def _singles(names: Sequence[str]) -> tuple[str, ...]:
    if not len(names):
        raise ConfigurationError(
            "allowed_perturbations is empty, so nothing may be dosed; name at least one, or leave it out to allow all"
        )
    for name in names:
        if not name.strip():
            raise ConfigurationError(
                "allowed_perturbations has an empty name; name perturbations, or leave it out"
            )
        label = Label.parse(name, doses=False)
        if label.is_control or label.is_combination:
            kind = "the control" if label.is_control else f"a combination of {listed(label.names)}"
            raise ConfigurationError(
                f"allowed_perturbations has '{name}', which is {kind}; name single perturbations, which may be dosed "
                "together"
            )
    return tuple(dict.fromkeys(names))
