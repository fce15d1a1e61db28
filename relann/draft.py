"""SQL made of stretches of a user's text, which remembers where each came from."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field

from relann.errors import Span


@dataclass(frozen=True)
class Stretch:
    """A piece of the SQL and what it stands for: `start` to `end` of the user's text."""

    sql: str
    start: int
    end: int
    verbatim: bool


@dataclass
class Draft:
    """The user's `text` with stretches of it replaced, to be cut up into SQL."""

    text: str
    replaced: list[Stretch] = field(default_factory=list)

    def replace(self, span: Span, sql: str) -> None:
        """Let `sql` stand for a stretch of the text, and for all replaced inside it before."""
        self.replaced = [r for r in self.replaced if not span.start <= r.start < span.end]
        self.replaced.append(Stretch(sql, span.start, span.end, verbatim=False))
        self.replaced.sort(key=lambda r: r.start)

    def sql(self, span: Span) -> Sql:
        """A stretch of the text as SQL, replacements made, every other character as it is."""
        parts: list[Stretch] = []
        done = span.start
        for replacement in self.replaced:
            if span.start <= replacement.start and replacement.end <= span.end:
                parts.append(self._verbatim(done, replacement.start))
                parts.append(replacement)
                done = replacement.end
        parts.append(self._verbatim(done, span.end))
        return Sql(self.text, tuple(p for p in parts if p.sql))

    def _verbatim(self, start: int, end: int) -> Stretch:
        return Stretch(self.text[start:end], start, end, verbatim=True)


@dataclass(frozen=True)
class Sql:
    """A text for the database, each stretch traced to the user's text."""

    origin: str
    stretches: tuple[Stretch, ...]

    @classmethod
    def plain(cls, text: str) -> Sql:
        """SQL that stands by itself."""
        return cls(text, (Stretch(text, 0, len(text), verbatim=True),))

    def word(self, name: str) -> Span | None:
        """Where a word stands in the user's text these stretches were cut from."""
        for stretch in self.stretches:
            inside = self.origin[stretch.start : stretch.end]
            if found := re.search(rf"\b{re.escape(name)}\b", inside):
                return Span(self.origin, stretch.start + found.start(), stretch.start + found.end())
        return None

    def __str__(self) -> str:
        return "".join(s.sql for s in self.stretches)

    def wrapped(self, before: list[Sql | str], after: str) -> Sql:
        """The same with more SQL around; plain strings come from nowhere in the user's text."""
        start = self.stretches[0].start if self.stretches else 0
        parts: list[Stretch] = []
        for piece in before:
            own = (
                (Stretch(piece, start, start, False),)
                if isinstance(piece, str)
                else piece.stretches
            )
            parts.extend(own)
        end = Stretch(after, start, start, verbatim=False)
        return Sql(self.origin, (*parts, *self.stretches, end))

    def span(self, start: int, end: int) -> Span:
        """Where characters of this SQL stand in the user's text."""
        begins = [0]
        for stretch in self.stretches:
            begins.append(begins[-1] + len(stretch.sql))
        index = min(bisect_right(begins, start) - 1, len(self.stretches) - 1)
        if index < 0:
            return Span(self.origin, 0, 0)
        stretch = self.stretches[index]
        if not stretch.verbatim:
            return Span(self.origin, stretch.start, stretch.end)
        first = stretch.start + start - begins[index]
        return Span(self.origin, first, min(first + end - start, stretch.end))
