"""Our table functions inside statements that are otherwise DuckDB's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from sqlglot import Token, TokenType
from sqlglot.dialects.duckdb import DuckDB

from relann.algebra.bodies import QUERY_HEADS
from relann.algebra.cursor import Cursor
from relann.algebra.lexing import CLOSE, OPEN, Lexed, is_name, is_quoted_name, word
from relann.algebra.statements import Passthrough, Value
from relann.errors import QueryError, Span, did_you_mean, listing

PREFIX = "ml_"
_STARTS_TABLES = ("FROM", "JOIN", "USING", "PIVOT", "UNPIVOT", "DESCRIBE", "SUMMARIZE")
_BEFORE_TABLE = (*_STARTS_TABLES, ",", "LATERAL", ":")
_ENDS_TABLES = (
    "SELECT", "WHERE", "GROUP BY", "HAVING", "QUALIFY", "ORDER BY", "LIMIT", "OFFSET", "WINDOW",
    "UNION", "INTERSECT", "EXCEPT", "SET", "VALUES", "RETURNING",
)  # fmt: skip
_BEFORE_OBJECT = (
    "INTO", "TABLE", "EXISTS", "VIEW", "MACRO", "FUNCTION", "INDEX", "ON", "REFERENCES", "UPDATE",
)  # fmt: skip
_BEFORE_KIND = ("OR", "REPLACE", "TEMP", "TEMPORARY", "RECURSIVE", "MATERIALIZED", "PERSISTENT")
_KEEPERS = ("VIEW", "MACRO", "FUNCTION")
_CONSTANTS = ("TRUE", "FALSE", "NULL")
_COMPUTED = ("CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP")


@dataclass(frozen=True)
class CallArgument:
    """An argument of a table function.

    `kind` is `value` (a constant: `value` holds it), `name` (a bare name: `value` holds it without
    quotes, `sql` as written), `query` (`sql` is the SELECT without its parentheses) or `expression`
    (`sql` is for DuckDB to evaluate). `name` is that of `name => argument`, in lower case.
    """

    name: str | None
    kind: str
    value: Value
    sql: str
    span: Span

    @property
    def query(self) -> str | None:
        """The argument as a query: a SELECT, or all rows of the table it names; None otherwise."""
        if self.kind == "query":
            return self.sql
        return f"SELECT * FROM {self.sql}" if self.kind == "name" else None


@dataclass(frozen=True)
class CommonTables:
    """Common table expressions that a call can see: `WITH` items, each in the user's text."""

    items: tuple[Span, ...]
    recursive: bool


@dataclass(frozen=True)
class TableCall:
    """A table function used as a table.

    `span` is the whole call, `aliased` whether the query gives it a name of its own, `scopes` the
    common table expressions around it, outermost first.
    """

    name: str
    arguments: tuple[CallArgument, ...]
    span: Span
    name_span: Span
    aliased: bool = False
    scopes: tuple[CommonTables, ...] = ()

    def bound(
        self, required: Sequence[str], optional: Sequence[str] = ()
    ) -> dict[str, CallArgument]:
        """The arguments by parameter, positional ones in order; only those given.

        Raises QueryError for a missing, surplus, unknown or repeated argument.
        """
        parameters = (*required, *optional)
        found: dict[str, CallArgument] = {}
        positional = iter(parameters)
        for argument in self.arguments:
            name = argument.name or next(positional, "")
            if not name:
                takes = f"{self.name}() takes {listing(parameters)} and nothing more"
                raise QueryError(takes, argument.span)
            if name not in parameters:
                raise QueryError(
                    f"{self.name}() has no argument `{name}`; it has {listing(parameters)}."
                    + did_you_mean(name, parameters),
                    argument.span,
                )
            if name in found:
                raise QueryError(f"argument `{name}` is given twice", argument.span)
            found[name] = argument
        for name in required:
            if name not in found:
                raise QueryError(f"{self.name}() needs its argument `{name}`", self.span)
        return found


def table_function_calls(
    statement: Passthrough, known: Collection[str], others: Collection[str] = ()
) -> list[TableCall]:
    """The calls of `known` functions used as tables, inner before outer, else in order.

    `others` are functions of that prefix that DuckDB has itself. Raises QueryError for an unknown
    `ml_…` table function, for a known one used as a value, and for a call whose result would have
    to outlive the statement (in a view, a macro or a prepared statement).
    """
    if not any(word(t).startswith(PREFIX.upper()) or is_quoted_name(t) for t in statement.tokens):
        return []
    return _Finder(statement, {k.lower() for k in known}, {o.lower() for o in others}).calls()


@dataclass
class _Level:
    """One pair of brackets, or the whole statement.

    `clause` says what comes next: `tables`, the `condition` of a join, or `values`. `item` is the
    token that begins the WITH item being read, `body_of` the one whose body the brackets hold.
    """

    clause: str = "values"
    opened_for_tables: bool = False
    item: int | None = None
    body_of: int | None = None
    items: list[Span] = field(default_factory=list)
    recursive: bool = False


class _Finder:
    """Walks a statement's tokens once, knowing at every level which clause it is in."""

    def __init__(self, statement: Passthrough, known: set[str], others: set[str]) -> None:
        self.tokens = statement.tokens
        self.lexed = Lexed(statement.span.text, statement.tokens)
        self.known = known
        self.others = others
        self.levels = [_Level()]
        self.found: list[TableCall] = []

    def calls(self) -> list[TableCall]:
        """All calls, inner before outer."""
        for index in range(len(self.tokens)):
            self.step(index)
        return sorted(self.found, key=lambda call: call.span.end)

    def step(self, index: int) -> None:
        """Take one token in."""
        text, level, before = self.word(index), self.levels[-1], self.word(index - 1)
        if text in OPEN:
            tables = self.table_may_stand(index)
            body_of = level.item if before in ("AS", "MATERIALIZED") else None
            self.levels.append(_Level("tables" if tables else "values", tables, body_of=body_of))
        elif text in CLOSE:
            self.close(index)
        elif text == "WITH":
            self.enter_with(index)
        elif text in _STARTS_TABLES and before != "DISTINCT":
            level.clause = "tables"
        elif text in _ENDS_TABLES:
            level.clause = "values"
        elif text == "ON" and level.clause == "tables":
            level.clause = "condition"
        elif text == "," and level.clause == "condition":
            level.clause = "tables"
        elif self.word(index + 1) == "(" and is_name(self.tokens[index]):
            self.function(index)

    def word(self, index: int) -> str:
        """The keyword, name or symbol at an index; empty outside and for quoted things."""
        return word(self.tokens[index]) if 0 <= index < len(self.tokens) else ""

    def table_may_stand(self, index: int) -> bool:
        """Whether the token could be a table: it follows FROM, JOIN or the like."""
        before, level = self.word(index - 1), self.levels[-1]
        opens = before == "(" and level.opened_for_tables
        return level.clause == "tables" and (opens or before in _BEFORE_TABLE)

    def close(self, index: int) -> None:
        """Leave a pair of brackets; a surplus closing one is DuckDB's to refuse."""
        if len(self.levels) == 1:
            return
        body_of = self.levels.pop().body_of
        if body_of is not None:
            level = self.levels[-1]
            level.items.append(self.lexed.span(self.tokens[body_of], self.tokens[index]))
            level.item = index + 2 if self.word(index + 1) == "," else None

    def enter_with(self, index: int) -> None:
        """Begin common table expressions, unless this WITH is of another kind."""
        recursive = self.word(index + 1) == "RECURSIVE"
        first = index + 1 + recursive
        if self.word(first + 1) in ("AS", "("):
            self.levels[-1].item, self.levels[-1].recursive = first, recursive

    def function(self, index: int) -> None:
        """Take in a name with an opening bracket behind."""
        token, before = self.tokens[index], self.word(index - 1)
        name = token.text.lower()
        if not name.startswith(PREFIX) or name in self.others or before == ".":
            return
        as_table = self.table_may_stand(index)
        if name in self.known and as_table:
            self.found.append(self.call(index, name))
        elif name in self.known:
            if before not in _BEFORE_OBJECT and index != self.levels[-1].item:
                raise QueryError(
                    f"{name}() is a table: write SELECT … FROM {name}(…)", self.lexed.span(token)
                )
        elif as_table:
            raise QueryError(
                f"no table function is called `{token.text}`; there are "
                f"{listing(sorted(self.known))}.{did_you_mean(name, self.known)}",
                self.lexed.span(token),
            )

    def call(self, index: int, name: str) -> TableCall:
        """Read the call that begins at an index."""
        token = self.tokens[index]
        self.refuse_keepers(name, token)
        end = self.closing(index + 1)
        scopes = [CommonTables(tuple(v.items), v.recursive) for v in self.levels if v.items]
        return TableCall(
            name,
            self.arguments(self.tokens[index + 2 : end]),
            self.lexed.span(token, self.tokens[end]),
            self.lexed.span(token),
            self.aliased(index, end),
            tuple(scopes),
        )

    def refuse_keepers(self, name: str, token: Token) -> None:
        """Raise QueryError if the statement keeps its text to run it later."""
        kind = next((w for w in map(self.word, range(1, 6)) if w not in _BEFORE_KIND), "")
        keeper = f"CREATE {kind}" if self.word(0) == "CREATE" and kind in _KEEPERS else ""
        if self.word(0) == "PREPARE" or keeper:
            raise QueryError(
                f"{keeper or 'PREPARE'} keeps its query for later, and {name}() runs only now; "
                "keep its rows with CREATE TABLE … AS",
                self.lexed.span(token),
            )

    def closing(self, opening: int) -> int:
        """The index of the bracket that closes the one at `opening`."""
        depth = 0
        for index in range(opening, len(self.tokens)):
            depth += (self.word(index) in OPEN) - (self.word(index) in CLOSE)
            if depth == 0:
                return index
        raise QueryError("`(` is never closed", self.lexed.span(self.tokens[opening]))

    def aliased(self, index: int, end: int) -> bool:
        """Whether the query names the call's table: `AS p`, `p` or `p:` before it."""
        if self.word(index - 1) == ":" or self.word(end + 1) == "AS":
            return True
        following = self.tokens[end + 1 : end + 2]
        return any(t.token_type in DuckDB.Parser.TABLE_ALIAS_TOKENS for t in following)

    def arguments(self, tokens: Sequence[Token]) -> tuple[CallArgument, ...]:
        """The arguments between a call's brackets."""
        parts: list[list[Token]] = [[]]
        depth = 0
        for token in tokens:
            depth += (word(token) in OPEN) - (word(token) in CLOSE)
            if word(token) == "," and depth == 0:
                parts.append([])
            else:
                parts[-1].append(token)
        if parts == [[]]:
            return ()
        if [] in parts:
            raise QueryError("an argument is missing", self.lexed.span(tokens[0], tokens[-1]))
        arguments = tuple(self.argument(part) for part in parts)
        for first, second in pairwise(arguments):
            if first.name is not None and second.name is None:
                raise QueryError("arguments without a name come first", second.span)
        return arguments

    def argument(self, part: Sequence[Token]) -> CallArgument:
        """One argument: what it is called and of which kind it is."""
        name = None
        if len(part) > 1 and word(part[1]) in ("=>", ":="):
            name = part[0].text.lower()
            if len(part) == 2:
                raise QueryError(f"argument `{name}` has no value", self.lexed.span(part[0]))
            part = part[2:]
        elif len(part) > 1 and word(part[1]) == "=" and is_name(part[0]):
            raise QueryError("an argument is named with `=>`", self.lexed.span(part[1]))
        span = self.lexed.span(part[0], part[-1])
        sql = span.text[span.start : span.end]
        for token in part:
            if token.token_type in (TokenType.PLACEHOLDER, TokenType.PARAMETER):
                raise QueryError("a parameter cannot stand inside a table function", span)
        if word(part[0]) in QUERY_HEADS:
            raise QueryError("a query as an argument stands in parentheses", span)
        if word(part[0]) == "(" and len(part) > 2 and word(part[1]) in (*QUERY_HEADS, "VALUES"):
            inner = self.lexed.span(part[1], part[-2])
            return CallArgument(name, "query", None, inner.text[inner.start : inner.end], inner)
        if word(part[0]) in _COMPUTED:
            return CallArgument(name, "expression", None, sql, span)
        if word(part[0]) not in _CONSTANTS and self.is_name_path(part):
            return CallArgument(name, "name", part[0].text if len(part) == 1 else sql, sql, span)
        cursor = Cursor(self.lexed, part)
        try:
            value = cursor.literal("the argument").value
        except QueryError:
            return CallArgument(name, "expression", None, sql, span)
        if cursor.next is not None:
            return CallArgument(name, "expression", None, sql, span)
        return CallArgument(name, "value", value, sql, span)

    def is_name_path(self, part: Sequence[Token]) -> bool:
        """Whether the tokens are `name` or `name.name…`."""
        dots = all(word(t) == "." for t in part[1::2])
        return len(part) % 2 == 1 and dots and all(is_name(t) for t in part[::2])
