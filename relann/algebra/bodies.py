"""Queries inside statements: checked by DuckDB's parser, parsed by sqlglot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from sqlglot import Token, TokenType, exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ErrorLevel, ParseError, SqlglotError

from relann.algebra.lexing import Lexed, nearest, word
from relann.algebra.statements import Body
from relann.duckdb_errors import syntax_error
from relann.errors import QueryError, Span, did_you_mean

QUERY_HEADS = ("SELECT", "WITH", "FROM")
_TYPES_AS_FUNCTIONS = ("NUMERIC",)
_TOO_MANY = re.compile(r"number of provided arguments \((\d+)\).*supported arguments \((\d+)\)")
_CLAUSES = (
    "SELECT", "FROM", "WHERE", "GROUP", "HAVING", "QUALIFY", "ORDER", "LIMIT", "WINDOW", "UNION",
    "JOIN", "LEFT", "RIGHT", "FULL", "INNER", "CROSS", "ASOF", "SEMI", "ANTI", "USING", "VALUES",
    "DISTINCT", "OVER", "PARTITION", "FILTER", "BETWEEN",
)  # fmt: skip


def body(lexed: Lexed, tokens: Sequence[Token], what: str, place: Span | None = None) -> Body:
    """Parse a query. DuckDB's parser is asked first: it is strict, sqlglot's is not."""
    if not tokens:
        raise QueryError(f"{what} is missing after AS", place)
    span = lexed.span(tokens[0], tokens[-1])
    if word(tokens[0]) not in (*QUERY_HEADS, "("):
        known = did_you_mean(word(tokens[0]), QUERY_HEADS)
        raise QueryError(f"{what} must be a SELECT.{known}", lexed.span(tokens[0]))
    if refused := syntax_error(_for_duckdb(tokens, span)):
        message, place_found = refused
        at = place_found and (span.start + place_found[0], span.start + place_found[1])
        raise QueryError(*_explained(lexed, tokens, message, Span(span.text, *at) if at else span))
    try:
        parser = DuckDB().parser(
            error_level=ErrorLevel.IMMEDIATE, error_message_context=len(lexed.text) + 1
        )
        parsed = parser.parse(list(tokens), lexed.text)
    except ParseError as error:
        raise QueryError(*_sqlglot_message(error, span)) from error
    except RecursionError as error:
        raise QueryError(f"{what} is nested too deeply", span) from error
    except (SqlglotError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise QueryError(f"{what} cannot be read", span) from error
    if len(parsed) != 1 or not isinstance(parsed[0], exp.Query):
        raise QueryError(f"{what} must be a SELECT", span)
    return Body(parsed[0], span)


def _for_duckdb(tokens: Sequence[Token], span: Span) -> str:
    """A body's text, functions that DuckDB's grammar takes for types under names it takes."""
    text = span.text[span.start : span.end]
    for token, after in pairwise(tokens):
        if word(token) in _TYPES_AS_FUNCTIONS and word(after) == "(":
            at, end = token.start - span.start, token.end + 1 - span.start
            text = text[:at] + "_" * (end - at) + text[end:]
    return text


def _explained(lexed: Lexed, tokens: Sequence[Token], message: str, span: Span) -> tuple[str, Span]:
    """DuckDB's complaint, with a suggestion where a word next to the place is nearly a clause."""
    near = [i for i, t in enumerate(tokens) if t.start <= span.start <= t.end]
    for index in [i for at in near for i in (at, at - 1) if i >= 0]:
        token = tokens[index]
        if token.token_type == TokenType.VAR and (meant := nearest(word(token), _CLAUSES, ())):
            return f"{message}. Did you mean `{meant}`?", lexed.span(token)
    return message, span


def _sqlglot_message(error: ParseError, whole: Span) -> tuple[str, Span]:
    if not error.errors:
        return "the query cannot be read", whole
    first = error.errors[0]
    start = len(first.get("start_context") or "")
    found = first.get("highlight") or ""
    span = Span(whole.text, start, start + len(found))
    if counts := _TOO_MANY.search(first.get("description") or ""):
        return f"too many arguments: {counts[1]} are given, at most {counts[2]} taken", span
    return f"relann cannot read this part of the query, at `{found}`", span
