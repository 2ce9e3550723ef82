"""Progress bars around work that can take longer than two seconds; nothing where there is no terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

T = TypeVar("T")


def _progress(*columns: BarColumn | MofNCompleteColumn) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    )


@contextmanager
def working(what: str) -> Iterator[None]:
    """A moving bar while something of unknown length is done."""
    with _progress(BarColumn()) as progress:
        progress.add_task(what, total=None)
        yield


def counted(what: str, name_of: Callable[[T], str]) -> Callable[[Sequence[T]], Iterable[T]]:
    """A bar over the items of a sequence that names the one in work."""

    def through(items: Sequence[T]) -> Iterator[T]:
        with _progress(BarColumn(), MofNCompleteColumn()) as progress:
            task = progress.add_task(what, total=len(items))
            for done, item in enumerate(items):
                progress.update(task, completed=done, description=f"{what}: {name_of(item)}", refresh=True)
                yield item

    return through
