"""DuckDB's errors as ours, underlined in the user's own text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache

import duckdb

from relann.errors import QueryError, Span

_EXCERPT = re.compile(r"\n*^LINE (\d+): (.*)\n( *)(\^+)\s*\Z", re.MULTILINE)
_KIND = re.compile(r"\A[A-Z][\w ]*? Error: ")
_LINE = re.compile(r"[^\r\n]*")
_BREAK = re.compile(r"\r\n|\n|\r")
_SPACE = re.compile(r"[^\S\t]")  # DuckDB reads every kind of space as a plain one
_CUT = "..."


def duckdb_error_text(error: Exception) -> str:
    """DuckDB's own words, without the kind of error before and the excerpt of the text after."""
    return _KIND.sub("", _EXCERPT.sub("", str(error))).strip()


def duckdb_error_range(error: Exception, text: str) -> tuple[int, int] | None:
    """Where in `text`, which DuckDB was given, its error points: start and end; None if nowhere.

    DuckDB names the line and draws carets below an excerpt of it, so the place is found by laying
    the excerpt over the line and counting columns as a terminal would.
    """
    found = _EXCERPT.search(str(error))
    if found is None:
        return None
    begins = [0, *(b.end() for b in _BREAK.finditer(text))]
    number, excerpt = int(found[1]), found[2]
    if number > len(begins):
        return None
    line = _line(text, begins[number - 1])
    column = len(found[3]) - len(f"LINE {number}: ")
    at = line.find(excerpt)
    if at < 0:  # cut at one end or both
        inner = excerpt.removesuffix(_CUT)
        if excerpt.startswith(_CUT):
            inner, column = inner[len(_CUT) :], column - len(_CUT)
        at = line.find(inner)
        excerpt = inner
    if at < 0 or column < 0:
        return None
    start = begins[number - 1] + at + _index_at_width(excerpt, column)
    return start, min(start + len(found[4]), len(text))


def query_error(
    error: Exception,
    text: str,
    located: Callable[[int, int], Span],
    otherwise: Span | None = None,
) -> QueryError:
    """A QueryError in DuckDB's words.

    `text` is what DuckDB was given, `located` turns a range of it into a span of the user's text;
    `otherwise` is underlined where DuckDB gives no position.
    """
    place = duckdb_error_range(error, text)
    return QueryError(duckdb_error_text(error), located(*place) if place else otherwise)


def syntax_error(text: str) -> tuple[str, tuple[int, int] | None] | None:
    """What DuckDB's parser says against a text, and where; None when it has nothing to say."""
    try:
        _parser().extract_statements(text)
    except duckdb.Error as error:
        return duckdb_error_text(error), duckdb_error_range(error, text)
    return None


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """A connection of our own, for nothing but its parser."""
    return duckdb.connect()


def _line(text: str, begin: int) -> str:
    found = _LINE.match(text, begin)
    return _SPACE.sub(" ", found[0]) if found else ""


def _index_at_width(text: str, width: int) -> int:
    """The index of the character drawn at a terminal column; tabs count nothing, as in DuckDB."""
    seen = 0
    for index, character in enumerate(text):
        if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc"):
            continue
        if seen >= width:
            return index
        seen += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return len(text)
