"""Tables in text files, plain or gzipped, with or without a line that names their columns."""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pandas as pd

from perturbrl.errors import DataError


def lines_of(path: Path) -> Iterator[str]:
    """Lines that are not blank.

    Raises:
        DataError: the file is not there, or is no text.
    """
    with _opened(path) as file:
        yield from (line.rstrip("\n") for line in file if line.strip())


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8") as file
        ):
            yield file
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read as text ({error}); check the path and the file") from error


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
    first = next(lines_of(path), "")
    if not first:
        raise DataError(f"'{path.name}' is empty; give a table with tabs or commas")
    separator = next((mark for mark in "\t," if mark in first), r"\s+")
    fields = [field.strip().strip("\"'") for field in re.split(separator, first.strip())]
    with _opened(path) as file:
        try:
            table = pd.read_csv(file, sep=separator, header=0 if is_header(fields) else None)
        except UnicodeDecodeError:
            raise
        except ValueError as error:
            raise DataError(
                f"'{path}' cannot be read as a table ({error}); give one with tabs or commas"
            ) from error
    if table.index.nlevels > 1:
        raise DataError(
            f"the first line of '{path.name}' names {table.shape[1]} columns, and other lines have "
            f"{table.shape[1] + table.index.nlevels}; name every column"
        )
    if names_rows(table) and list(table.index) == list(range(1, len(table) + 1)):
        return table.reset_index(drop=True)
    return table


def names_rows(table: pd.DataFrame) -> bool:
    """Whether a table of ``table_of`` has row names."""
    return not isinstance(table.index, pd.RangeIndex)


def has_no_number(fields: list[str]) -> bool:
    """Whether nothing behind the first field is a number."""
    return not any(re.fullmatch(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?", field.strip()) for field in fields[1:])
