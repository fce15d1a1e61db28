"""A user's text as tokens, each at its place in that text."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sqlglot import Token, TokenType
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import TokenError

from relann.errors import QueryError, Span

OPEN = {"(": ")", "[": "]", "{": "}"}
CLOSE = {closing: opening for opening, closing in OPEN.items()}
STRINGS = (TokenType.STRING, TokenType.HEREDOC_STRING, TokenType.BYTE_STRING)

_OPAQUE = re.compile(
    r"""
      (?P<comment> --[^\r\n]* )
    | (?P<block> /\* )
    | (?P<closed> [eE]'(?:[^'\\]|\\.|'')*+' | '[^']*+(?:''[^']*+)*+'
                | "[^"]*+(?:""[^"]*+)*+" | `[^`]*+(?:``[^`]*+)*+` )
    | (?P<dollar> \$ (?:[^\W\d]\w*)? \$ )
    | (?P<word> \w[\w$]* )
    | (?P<unclosed> ['"`] )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK = re.compile(r"/\*|\*/")
_NAMES = {"'": "string", '"': "quoted name", "`": "quoted name"}


class _Tokenizer(DuckDB.Tokenizer):
    """DuckDB's tokens as DuckDB has them: no raw commands, no templates; `lex` masks `$$`."""

    COMMANDS: ClassVar[set[TokenType]] = set()
    HEREDOC_STRINGS: ClassVar[list[str | tuple[str, str]]] = []
    IDENTIFIERS: ClassVar[list[str | tuple[str, str]]] = ['"', "`"]


_Tokenizer._COMMENTS.pop("{#", None)


@dataclass(frozen=True)
class Lexed:
    """Tokens of a text, from the character at `start` to the one at `end`, both included."""

    text: str
    tokens: tuple[Token, ...]

    def span(self, first: Token, last: Token | None = None) -> Span:
        """The user's text from one token to another, both included."""
        return Span(self.text, first.start, (last or first).end + 1)

    def after(self, token: Token) -> Span:
        """The empty span behind a token."""
        return Span(self.text, token.end + 1, token.end + 1)


def lex(text: str) -> Lexed:
    """The tokens of a text in DuckDB's dialect, comments left out.

    Raises QueryError for a string, quoted name or comment that does not end, and for characters
    that are not text (half a surrogate pair).
    """
    for index, character in enumerate(text) if not _encodable(text) else ():
        if "\ud800" <= character <= "\udfff":
            raise QueryError("this is not a character", Span(text, index, index + 1))
    masked, dollars = _masked(text)
    try:
        tokens = _Tokenizer().tokenize(masked)
    except TokenError as error:
        start = min(error.start or 0, max(len(text) - 1, 0))
        raise QueryError("this text cannot be read", Span(text, start, start + 1)) from error
    return Lexed(text, tuple(_unmasked(t, text, dollars) for t in tokens))


def word(token: Token) -> str:
    """The token's keyword or name in upper case; empty for anything quoted."""
    return "" if token.token_type in STRINGS or is_quoted_name(token) else token.text.upper()


def is_quoted_name(token: Token) -> bool:
    """Whether the token is a name in quotes."""
    return token.token_type == TokenType.IDENTIFIER


def is_name(token: Token) -> bool:
    """Whether the token can stand as a name: quoted, or a word that SQL does not reserve."""
    return is_quoted_name(token) or token.token_type in DuckDB.Parser.ID_VAR_TOKENS


def nearest(name: str, ours: Sequence[str], theirs: Sequence[str]) -> str:
    """The word of ours that is nearly `name`; empty if it is a known word or nearer to theirs."""
    if name in ours or name in theirs:
        return ""
    close = difflib.get_close_matches(name, [*ours, *theirs], n=1, cutoff=0.7)
    return close[0] if close and close[0] in ours else ""


def check_brackets(lexed: Lexed, tokens: Sequence[Token]) -> None:
    """Raise QueryError at a bracket without its partner."""
    open_: list[tuple[str, Token]] = []
    for token in tokens:
        if token.token_type in STRINGS or is_quoted_name(token):
            continue
        for character in token.text if token.text[:1] in "()[]{}%+-" else "":
            if character in OPEN:
                open_.append((character, token))
            elif character in CLOSE:
                if not open_:
                    raise QueryError(f"`{character}` closes nothing", lexed.span(token))
                opening, at = open_.pop()
                if opening != CLOSE[character]:
                    raise QueryError(
                        f"`{character}` cannot close `{opening}` of {lexed.span(at)}",
                        lexed.span(token),
                    )
    if open_:
        raise QueryError(f"`{open_[-1][0]}` is never closed", lexed.span(open_[-1][1]))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _masked(text: str) -> tuple[str, dict[int, int]]:
    """The text with comments blanked and dollar quotes as plain strings of the same length.

    sqlglot reads `$1,$2` as the start of a dollar quote; here only real ones are. The dictionary
    has the length of the opening quote for each dollar quote's offset.
    """
    parts: list[str] = []
    dollars: dict[int, int] = {}
    done = 0
    while found := _OPAQUE.search(text, done):
        start, end = found.span()
        kind = found.lastgroup
        parts.append(text[done:start])
        done = end
        if kind == "comment":
            parts.append(" " * (end - start))
        elif kind == "block":
            done = _block_end(text, start)
            parts.append(re.sub(r"[^\r\n]", " ", text[start:done]))
        elif kind == "dollar":
            closing = text.find(found[0], end)
            if closing < 0:
                raise QueryError(
                    f"the string opened by `{found[0]}` does not end", _at(text, found)
                )
            done = closing + len(found[0])
            dollars[start] = len(found[0])
            parts.append("'" + "x" * (done - start - 2) + "'")
        elif kind == "unclosed":
            raise QueryError(
                f"the {_NAMES[found[0]]} that starts here does not end", _at(text, found)
            )
        else:
            parts.append(found[0])
    parts.append(text[done:])
    return "".join(parts), dollars


def _block_end(text: str, start: int) -> int:
    depth, done = 0, start
    while found := _BLOCK.search(text, done):
        depth += 1 if found[0] == "/*" else -1
        done = found.end()
        if depth == 0:
            return done
    raise QueryError("the comment that starts here does not end", Span(text, start, start + 2))


def _at(text: str, found: re.Match[str]) -> Span:
    return Span(text, *found.span())


def _unmasked(token: Token, text: str, dollars: dict[int, int]) -> Token:
    if token.start in dollars and token.token_type == TokenType.STRING:
        quote = dollars[token.start]
        token.text = text[token.start + quote : token.end + 1 - quote]
    return token
