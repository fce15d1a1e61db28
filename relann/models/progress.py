"""Progress on a terminal: a line for a training, sentences for a search."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("relann")

Show = Callable[[str], None]
"""Says what the epoch that has just ended came to."""


def _quiet(status: str) -> None:
    """Nothing."""


@contextmanager
def progress(epochs: int, shown: bool = True) -> Iterator[Show]:
    """A line on standard error with a bar and the time left, as long as the block runs.

    Silent where standard error is no terminal, and unless `shown`.
    """
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield _quiet
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as line:
        task = line.add_task("training", total=epochs)
        yield lambda status: line.update(task, advance=1, description=status)


def say(status: str) -> None:
    """A line on standard error where it is a terminal, else in the log."""
    console = Console(stderr=True)
    if console.is_terminal:
        console.print(status, highlight=False, markup=False)
    else:
        log.info("%s", status)
