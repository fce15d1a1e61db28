"""Reads the head of a statement from left to right."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlglot import Token, TokenType

from relann.algebra.bodies import body
from relann.algebra.lexing import STRINGS, Lexed, is_name, is_quoted_name, word
from relann.algebra.statements import Body, Literal, Named, Value
from relann.errors import QueryError, Span, did_you_mean

VERSION_MARK = "@"
_DEEPEST = 8


class Cursor:
    """Reads a statement's tokens from left to right."""

    def __init__(self, lexed: Lexed, tokens: Sequence[Token]) -> None:
        self.lexed = lexed
        self.tokens = tokens
        self.index = 0

    @property
    def whole(self) -> Span:
        """The place of all tokens together."""
        return self.lexed.span(self.tokens[0], self.tokens[-1])

    @property
    def next(self) -> Token | None:
        """The token that comes next, None at the end."""
        return self.tokens[self.index] if self.index < len(self.tokens) else None

    def place(self) -> Span:
        """Where the next token stands, or where the statement ends."""
        token = self.next
        return self.lexed.after(self.tokens[-1]) if token is None else self.lexed.span(token)

    def error(self, message: str, hint: str = "") -> QueryError:
        """An error at the next token."""
        return QueryError(message + hint, self.place())

    def hint(self, known: Sequence[str]) -> str:
        """` Did you mean …?` for the next token."""
        found = "" if self.next is None else f", found `{self.next.text}`."
        return found + (did_you_mean(word(self.next), known) if self.next is not None else "")

    def at(self, *words: str) -> bool:
        """Whether these keywords or symbols come next."""
        coming = self.tokens[self.index : self.index + len(words)]
        return [word(t) for t in coming] == list(words)

    def take(self, *words: str) -> bool:
        """Step over these keywords or symbols if they come next."""
        found = self.at(*words)
        self.index += len(words) * found
        return found

    def symbol(self, text: str, wanted: str) -> None:
        """Step over a symbol that must come next."""
        if not self.take(text):
            raise self.error(f"expected {wanted}")

    def end(self, message: str) -> None:
        """Raise QueryError unless the statement is over."""
        if self.next is not None:
            raise self.error(message)

    def word_like(self, wanted: str) -> Token:
        """Step over any word or quoted name, keywords included."""
        token = self.next
        if token is None or not (is_quoted_name(token) or token.text.isidentifier()):
            raise self.error(f"expected {wanted}")
        if token.token_type in STRINGS:
            raise self.error(f"expected {wanted} without quotes")
        self.index += 1
        return token

    def name(self, what: str) -> tuple[str, Span]:
        """Step over the name of a new or dropped thing."""
        token = self.next
        if token is None or not is_name(token) or self.at("OPTIONS", "("):
            quoted = token is not None and token.token_type in STRINGS
            raise self.error(f"expected the {what}'s name" + (", without quotes" if quoted else ""))
        if not token.text.strip() or VERSION_MARK in token.text:
            raise self.error(f"a {what}'s name is not blank and has no `{VERSION_MARK}`")
        self.index += 1
        if self.at("."):
            raise self.error(f"a {what}'s name has one part; it belongs to the current database")
        if self.at(VERSION_MARK):
            raise self.error(f"all versions of a {what} share one name; leave `{VERSION_MARK}` out")
        return token.text, self.lexed.span(token)

    def is_table(self) -> bool:
        """Whether the name of a table comes next."""
        return self.next is not None and is_name(self.next)

    def table(self) -> Named:
        """Step over the name of a table, perhaps qualified."""
        first = last = self.tokens[self.index]
        parts = [first.text]
        self.index += 1
        while self.take("."):
            last = self.word_like("a name after `.`")
            parts.append(last.text)
        sql = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
        return Named(sql, self.lexed.span(first, last))

    def column_in_brackets(self, what: str) -> Named:
        """Step over `(column)`; a key of several columns is refused."""
        self.symbol("(", f"`(` and the column of the {what}")
        token = self.word_like("a column's name")
        if self.at(","):
            raise self.error(f"a {what} has one column here")
        self.symbol(")", "`)` after the column")
        return Named(token.text, self.lexed.span(token))

    def is_reference(self) -> bool:
        """Whether all that is left is a name, `name@version` or either as a string."""
        left = self.tokens[self.index :]
        if len(left) == 1:
            return left[0].token_type in STRINGS or is_name(left[0])
        return len(left) == 3 and is_name(left[0]) and left[1].text == VERSION_MARK

    def reference(self, what: str) -> tuple[str, Span]:
        """Step over the name of a stored thing: `name`, `name@2` or either as a string."""
        token = self.next
        if token is None or not (is_name(token) or token.token_type in STRINGS):
            raise self.error(f"expected the {what}'s name")
        self.index += 1
        last, text = token, token.text
        if self.take(VERSION_MARK):
            version = self.next
            if version is None or not version.text.isdecimal():
                raise self.error(f"expected a version number after `{VERSION_MARK}`")
            self.index += 1
            last, text = version, f"{text}{VERSION_MARK}{version.text}"
        return text, self.lexed.span(token, last)

    def literal(self, what: str, depth: int = 0) -> Literal:
        """Step over a value: string, number, true, false, NULL, bare name or a list of these."""
        first = self.next
        if first is None:
            raise self.error(f"{what} has no value")
        if self.take("["):
            if depth == _DEEPEST:
                raise QueryError(f"{what} is nested too deeply", self.lexed.span(first))
            items: list[Value] = []
            while not self.at("]"):
                items.append(self.literal(what, depth + 1).value)
                if not self.take(","):
                    break
            self.symbol("]", "`,` or `]` in a list")
            return Literal(tuple(items), self.lexed.span(first, self.tokens[self.index - 1]))
        if first.token_type in STRINGS:
            self.index += 1
            return Literal(first.text, self.lexed.span(first))
        if self.at("-") or self.at("+") or self.at(".") or first.token_type == TokenType.NUMBER:
            return self._number(first)
        keyword = {"TRUE": True, "FALSE": False, "NULL": None}
        if word(first) in keyword:
            self.index += 1
            return Literal(keyword[word(first)], self.lexed.span(first))
        if is_name(first):
            self.index += 1
            return Literal(first.text, self.lexed.span(first))
        raise self.error(
            f"{what} takes a string, a number, true, false, NULL, a name or a list of these"
        )

    def _number(self, first: Token) -> Literal:
        while self.at("-") or self.at("+") or self.at("."):
            self.index += 1
        last = self.next
        if last is None or last.token_type != TokenType.NUMBER:
            raise self.error("expected a number")
        self.index += 1
        span = self.lexed.span(first, last)
        written = span.text[span.start : span.end].replace(" ", "")
        try:
            value = int(written) if written.lstrip("+-").isdecimal() else float(written)
        except ValueError as error:
            raise QueryError("this is not a number", span) from error
        if not math.isfinite(value):
            raise QueryError("this number is too large", span)
        return Literal(value, span)

    def rest(self) -> Span:
        """The place of everything that is left."""
        return self.lexed.span(self.tokens[self.index], self.tokens[-1])

    def body(self, what: str) -> Body:
        """The query that the rest of the statement is."""
        return body(self.lexed, self.tokens[self.index :], what, self.place())
