"""Tables in text files, plain or gzipped, with or without a line that names their columns."""

import gzip
import re
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pandas as pd

from perturbrl.errors import DataError


def lines_of(path: Path) -> Iterator[str]:
    """Lines that are not blank.

    Raises:
        DataError: the file is not there, or is no text.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = content.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read as text ({error}); check the path and the file") from error
    yield from (line for line in text.splitlines() if line.strip())


def table_of(path: Path, is_header: Callable[[list[str]], bool]) -> pd.DataFrame:
    """A table with tabs, commas or spaces between columns.

    Args:
        path: the file.
        is_header: whether the fields of a first line are the names of columns.

    Raises:
        DataError: it cannot be read as one.
    """
    lines = list(lines_of(path))
    first = lines[0] if lines else ""
    separator = next((mark for mark in "\t," if mark in first), r"\s+")
    header = 0 if is_header(re.split(separator, first.strip())) else None
    try:
        return pd.read_csv(StringIO("\n".join(lines)), sep=separator, header=header)
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(
            f"'{path}' cannot be read as a table ({error}); give one with tabs or commas"
        ) from error


def has_no_number(fields: list[str]) -> bool:
    """Whether nothing behind the first field is a number."""
    return not any(re.fullmatch(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?", field.strip()) for field in fields[1:])
