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

    A first line with one field less than the others names all columns but the first, which names the rows, as R's
    ``write.table`` has it. Row names are the table's index then, but for numbers that count the rows from 1.

    Args:
        path: the file.
        is_header: whether the fields of a first line, without quotes, are the names of columns.

    Raises:
        DataError: it cannot be read as one.
    """
    lines = list(lines_of(path))
    first = lines[0] if lines else ""
    separator = next((mark for mark in "\t," if mark in first), r"\s+")
    fields = [field.strip().strip("\"'") for field in re.split(separator, first.strip())]
    try:
        table = pd.read_csv(
            StringIO("\n".join(lines)), sep=separator, header=0 if is_header(fields) else None
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(
            f"'{path}' cannot be read as a table ({error}); give one with tabs or commas"
        ) from error
    if table.index.nlevels > 1:
        raise DataError(
            f"the first line of '{path.name}' names {table.shape[1]} columns, and other lines have "
            f"{table.shape[1] + table.index.nlevels}; name every column"
        )
    counted = list(table.index) == list(range(1, len(table) + 1))
    return table.reset_index(drop=True) if counted else table


def names_rows(table: pd.DataFrame) -> bool:
    """Whether a table of ``table_of`` has row names."""
    return not isinstance(table.index, pd.RangeIndex)


def has_no_number(fields: list[str]) -> bool:
    """Whether nothing behind the first field is a number."""
    return not any(re.fullmatch(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?", field.strip()) for field in fields[1:])
