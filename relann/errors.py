"""Every error a user meets, underlined in the user's own text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A stretch of a user's text: `text[start:end]`, offsets in characters."""

    text: str
    start: int
    end: int

    @property
    def line(self) -> int:
        """Line of the first character, counted from 1."""
        return self.text.count("\n", 0, self.start) + 1

    @property
    def column(self) -> int:
        """Column of the first character, counted from 1."""
        return self.start - (self.text.rfind("\n", 0, self.start) + 1) + 1

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"

    def underlined(self) -> str:
        """The line holding the span, carets below it; a tab keeps its width."""
        begin = self.text.rfind("\n", 0, self.start) + 1
        stop = self.text.find("\n", begin)
        line = self.text[begin : stop if stop >= 0 else len(self.text)].rstrip("\r")
        lead = "".join("\t" if c == "\t" else " " for c in line[: self.start - begin])
        room = max(1, len(line) - (self.start - begin))
        carets = "^" * max(1, min(self.end - self.start, room))
        return f"    {line}\n    {lead}{carets}"


class RelannError(Exception):
    """Base of every error relann raises on purpose."""


class QueryError(RelannError, ValueError):
    """The text of a statement is wrong: says what, where and what would be right."""

    def __init__(self, message: str, span: Span | None = None) -> None:
        self.message = message
        self.span = span
        super().__init__(message if span is None else f"{span}: {message}\n{span.underlined()}")


class SchemaError(RelannError, ValueError):
    """Columns, widths or types do not fit together."""


class DataError(RelannError, ValueError):
    """The data cannot be used as asked: missing, constant, non-finite, unseen."""


class EngineError(RelannError):
    """An engine, extra or device is missing or refused the work."""


class PlanError(RelannError):
    """A defect of relann itself, never a user's mistake."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean `x`?` for the closest known name, or the empty string."""
    by_fold = {k.casefold(): k for k in known}
    close = difflib.get_close_matches(name.casefold(), by_fold, n=1, cutoff=0.6)
    return f" Did you mean `{by_fold[close[0]]}`?" if close else ""


def listing(names: Iterable[str], most: int = 12) -> str:
    """`a, b, c`, cut after `most` names, in the order given."""
    names = list(names)
    shown = ", ".join(names[:most])
    return shown + (f", … ({len(names)} in all)" if len(names) > most else "")


@contextmanager
def placed(span: Span) -> Iterator[None]:
    """Give errors about a statement as a whole its place."""
    try:
        yield
    except QueryError as error:
        if error.span is not None:
            raise
        raise QueryError(error.message, span) from error
