"""PREDICT … FOR EACH …, read by hand from left to right."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import Token, TokenType

from relann.algebra.cursor import Cursor
from relann.algebra.intervals import Interval, unit_named
from relann.algebra.lexing import STRINGS, Lexed, is_name, lex, word
from relann.algebra.pql import (
    All,
    Column,
    Compared,
    Comparison,
    Condition,
    Not,
    Predict,
    Some,
    Value,
    Windowed,
)
from relann.errors import QueryError, Span, did_you_mean, listing

FUNCTIONS = (
    "COUNT", "COUNT_DISTINCT", "SUM", "AVG", "MIN", "MAX", "FIRST", "LAST", "EXISTS",
    "LIST_DISTINCT",
)  # fmt: skip
_ROWS = ("COUNT", "EXISTS")  # that take `table.*`
_OPERATORS = {"=": "=", "==": "=", "<>": "<>", "!=": "<>"} | {o: o for o in ("<", "<=", ">", ">=")}
_DEEPEST = 50
_SHAPE = "as in COUNT(orders.*, 0, 90, days)"


def prediction(span: Span) -> Predict:
    """What the text of a PREDICT statement says; `span` is its place in the user's text.

    Raises QueryError for what is wrong; names are not looked up.
    """
    lexed = lex(span.text)
    own = [t for t in lexed.tokens if span.start <= t.start and t.end < span.end]
    return parsed(lexed, own)


def parsed(lexed: Lexed, tokens: Sequence[Token]) -> Predict:
    """The same of tokens, the first of which is PREDICT."""
    return _Reader(Cursor(lexed, tokens)).predict()


class _Reader:
    """Reads one statement; `_inside` says that the conditions read now are on single rows."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._inside = False
        self._depth = 0

    def predict(self) -> Predict:
        cursor = self._cursor
        whole = cursor.whole
        cursor.take("PREDICT")
        target = self._condition()
        top_k = self._top_k(target)
        if not cursor.take("FOR", "EACH"):
            raise cursor.error(
                "expected FOR EACH and the entity's key, as in FOR EACH customers.customer_id",
                cursor.hint(("FOR", "RANK", "AND", "OR")),
            )
        entity = self._column("the entity's key", rows=False)
        where = None
        if cursor.take("WHERE"):
            where = self._condition()
            _check_condition(where)
        cursor.end("the statement should end here")
        if not isinstance(target, Windowed):
            _check_condition(target)
        return Predict(target, top_k, entity, where, whole)

    def _top_k(self, target: Condition) -> int | None:
        cursor = self._cursor
        lists = isinstance(target, Windowed) and target.function == "LIST_DISTINCT"
        if cursor.at("RANK"):
            if not lists:
                raise cursor.error("RANK TOP ranks what LIST_DISTINCT(…) lists, nothing else")
            if not cursor.take("RANK", "TOP"):
                raise cursor.error("expected RANK TOP and a number")
            k, span = self._whole_number("how many to rank")
            if k < 1:
                raise QueryError("at least 1 is ranked", span)
            return k
        if lists:
            raise cursor.error("LIST_DISTINCT(…) is ranked: write RANK TOP and a number after it")
        return None

    # -- conditions ------------------------------------------------------------------------------

    def _condition(self) -> Condition:
        parts = [self._conjunction()]
        while self._cursor.take("OR"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def _conjunction(self) -> Condition:
        parts = [self._negation()]
        while self._cursor.take("AND"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _negation(self) -> Condition:
        cursor = self._cursor
        if not (cursor.at("NOT") or cursor.at("(")):
            return self._leaf()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise cursor.error("the condition is nested too deeply")
        if cursor.take("NOT"):
            negated = self._negation()
            if isinstance(negated, Windowed) and negated.function != "EXISTS":
                raise QueryError(*_uncompared(negated))
            found: Condition = Not(negated)
        else:
            cursor.take("(")
            found = self._condition()
            cursor.symbol(")", "`)` after a condition")
        self._depth -= 1
        return found

    def _leaf(self) -> Condition:
        cursor = self._cursor
        first = cursor.next
        after = cursor.tokens[cursor.index + 1 : cursor.index + 2]
        if first is not None and after and word(after[0]) == "(":
            if self._inside:
                raise cursor.error("the rows of a window are chosen by their own columns only")
            return self._aggregate(first)
        if first is None or not is_name(first):
            raise cursor.error(f"expected an aggregate over a window, {_SHAPE}")
        column = self._column("a column", rows=False)
        return self._comparison(column, first)

    def _comparison(self, column: Column, first: Token) -> Comparison:
        cursor = self._cursor
        values: list[Value] = []
        if cursor.take("IS", "NOT", "NULL"):
            operator = "IS NOT NULL"
        elif cursor.take("IS", "NULL"):
            operator = "IS NULL"
        elif cursor.at("IN") or cursor.at("NOT", "IN"):
            operator = "NOT IN" if cursor.take("NOT") else "IN"
            cursor.take("IN")
            cursor.symbol("(", "`(` and values after IN")
            while True:
                values.append(self._value())
                if not cursor.take(","):
                    break
            cursor.symbol(")", "`,` or `)` after a value")
        elif taken := self._operator():
            operator = taken
            values.append(self._value())
        else:
            raise cursor.error(
                f"expected {listing(['=', '<>', '<', '<=', '>', '>=', 'IN', 'IS NULL'])} "
                f"after `{column.table}.{column.column}`"
            )
        return Comparison(column, operator, tuple(values), self._since(first))

    def _operator(self) -> str | None:
        found = None if self._cursor.next is None else _OPERATORS.get(word(self._cursor.next))
        self._cursor.index += found is not None
        return found

    def _value(self) -> Value:
        cursor = self._cursor
        token = cursor.next
        bare = token is not None and token.token_type not in STRINGS and is_name(token)
        if bare and not any(cursor.at(w) for w in ("TRUE", "FALSE", "NULL")):
            raise cursor.error("expected a value: a number, text in quotes, true or false")
        found = cursor.literal("the comparison")
        if found.value is None or isinstance(found.value, tuple):
            raise QueryError("a comparison is with one value; for NULL write IS NULL", found.span)
        return Value(found.value, found.span)

    # -- aggregates ------------------------------------------------------------------------------

    def _aggregate(self, first: Token) -> Condition:
        cursor = self._cursor
        function = word(first)
        if function not in FUNCTIONS:
            raise QueryError(
                f"{first.text}() is no aggregate over a window; there are {listing(FUNCTIONS)}."
                + did_you_mean(function, FUNCTIONS),
                cursor.lexed.span(first),
            )
        cursor.index += 2
        column = self._column(f"what to aggregate, {_SHAPE}", rows=True)
        if column.column is None and function not in _ROWS:
            raise QueryError(
                f"{function}() takes a column; `{column.table}.*` is for COUNT and EXISTS",
                column.span,
            )
        cursor.symbol(",", f"`,` and the window's start, {_SHAPE}")
        window = cursor.next
        start, _ = self._whole_number("the window's start")
        cursor.symbol(",", f"`,` and the window's end, {_SHAPE}")
        end, _ = self._whole_number("the window's end")
        cursor.symbol(",", f"`,` and the window's unit, {_SHAPE}")
        unit_token = cursor.word_like(f"a unit of time, {_SHAPE}")
        unit = unit_named(unit_token.text, cursor.lexed.span(unit_token))
        assert window is not None
        window_span = cursor.lexed.span(window, unit_token)
        if start >= end:
            raise QueryError(
                f"the window ends where it starts or before: it is (anchor + {start}, "
                f"anchor + {end}]",
                window_span,
            )
        via, where = self._restrictions()
        cursor.symbol(")", "`)` after the window")
        made = Windowed(
            function,
            column,
            Interval(start, unit),
            Interval(end, unit),
            where,
            via,
            self._since(first),
            window_span,
        )
        if operator := self._operator():
            if function in ("EXISTS", "LIST_DISTINCT"):
                raise QueryError(f"{function}(…) is not compared with anything", made.span)
            return Compared(made, operator, self._value(), self._since(first))
        return made

    def _restrictions(self) -> tuple[Column | None, Condition | None]:
        """VIA foreign key and WHERE condition on the rows, each after a comma that may be left."""
        cursor = self._cursor
        via, where = None, None
        cursor.take(",")
        if cursor.take("VIA"):
            via = self._column("the foreign key", rows=False)
            cursor.take(",")
        if cursor.take("WHERE"):
            self._inside = True
            where = self._condition()
            self._inside = False
        return via, where

    def _column(self, what: str, rows: bool) -> Column:
        cursor = self._cursor
        parts: list[Token] = []
        while True:
            token = cursor.next
            if parts and rows and cursor.take("*"):
                break
            if token is None or not is_name(token):
                raise cursor.error(f"expected {what}" if not parts else "expected a column's name")
            parts.append(token)
            cursor.index += 1
            if not cursor.take("."):
                break
        last = cursor.tokens[cursor.index - 1]
        star = word(last) == "*"
        names = parts if star else parts[:-1]
        whole = cursor.lexed.span(parts[0], last)
        if not names:
            raise QueryError("write the table as well, as `table.column`", whole)
        table = ".".join(t.text for t in names)
        return Column(
            table,
            None if star else parts[-1].text,
            cursor.lexed.span(names[0], names[-1]),
            whole,
        )

    def _whole_number(self, what: str) -> tuple[int, Span]:
        cursor = self._cursor
        token = cursor.next
        numeric = token is not None and token.token_type == TokenType.NUMBER
        if not (numeric or cursor.at("-") or cursor.at("+")):
            raise cursor.error(f"{what} is a whole number")
        found = cursor.literal(what)
        if not isinstance(found.value, int) or abs(found.value) > 10**9:
            raise QueryError(f"{what} is a whole number of units, and not a huge one", found.span)
        return found.value, found.span

    def _since(self, first: Token) -> Span:
        return self._cursor.lexed.span(first, self._cursor.tokens[self._cursor.index - 1])


def _check_condition(condition: Condition) -> None:
    """Raise QueryError for an aggregate that stands where true or false is wanted."""
    match condition:
        case Windowed(function) if function != "EXISTS":
            raise QueryError(*_uncompared(condition))
        case Not(part):
            _check_condition(part)
        case All(parts) | Some(parts):
            for part in parts:
                _check_condition(part)


def _uncompared(aggregate: Windowed) -> tuple[str, Span]:
    if aggregate.function == "LIST_DISTINCT":
        return "LIST_DISTINCT(…) stands alone after PREDICT, with RANK TOP", aggregate.span
    return (
        f"{aggregate.function}(…) is not true or false; compare it, as in "
        f"{aggregate.function}(…) > 0",
        aggregate.span,
    )
