"""Where the anchors of a PREDICT statement lie: so that every window closes inside its split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from relann.algebra.intervals import Interval, shown
from relann.errors import QueryError, Span, listing
from relann.models.tasks import TaskOptions

MOST_ANCHORS = 100_000


@dataclass(frozen=True)
class Anchors:
    """`origin + k * step` for k from `first` to `last`, both included, all of one split."""

    split: str
    origin: datetime
    step: Interval
    first: int
    last: int

    def times(self) -> list[datetime]:
        """The anchors, in the order of k."""
        return [self.step.after(self.origin, k) for k in range(self.first, self.last + 1)]

    def sql(self) -> str:
        """A SELECT of columns anchor and split."""
        step = Interval(abs(self.step.count), self.step.unit)
        sign = "-" if self.step.count < 0 else "+"
        return (
            f"SELECT TIMESTAMP '{self.origin}' {sign} k * {step.sql} AS anchor, "
            f"'{self.split}' AS split FROM range({self.first}, {self.last + 1}) r(k)"
        )


@dataclass(frozen=True)
class Placed:
    """The anchors of all splits, where validation and test begin, and what to tell."""

    parts: tuple[Anchors, ...]
    val: datetime
    test: datetime
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placing:
    """What anchors are placed by.

    ends     how long after the anchor each window closes
    covered  first and last timestamp of the data each window is taken of
    step     the time between anchors
    start    the first anchor at the earliest
    span     what is underlined where no option is to blame
    """

    ends: Sequence[Interval]
    covered: Sequence[tuple[datetime, datetime]]
    step: Interval
    start: datetime
    options: TaskOptions
    span: Span

    def placed(self) -> Placed:
        """From `val` and `test` on and back, or back from the last anchor whose window closes.

        Raises QueryError where a split would be left without anchors.
        """
        last = self._last()
        if last is None or last < self.start:
            raise QueryError(
                f"no window closes: the data goes from {shown(self.start)} to "
                f"{shown(max(end for _, end in self.covered))}, and a window ends "
                f"{listing(sorted({str(e) for e in self.ends}))} after its anchor",
                self.span,
            )
        val, test = self.options.timestamp("val"), self.options.timestamp("test")
        if val is None or test is None:
            return self._by_share(last)
        return self._by_timestamps(val, test, last)

    def _last(self) -> datetime | None:
        """The last anchor whose windows all close inside the data."""
        pairs = zip(self.ends, self.covered, strict=True)
        try:
            return min(end.after(last, -1) for end, (_, last) in pairs)
        except OverflowError:
            return None

    def _closes(self, anchor: datetime) -> datetime:
        return max(end.after(anchor) for end in self.ends)

    def _by_timestamps(self, val: datetime, test: datetime, last: datetime) -> Placed:
        options, start = self.options, self.start
        if test > last:
            raise QueryError(
                "no window closes after `test`: the last anchor whose window the data covers is "
                f"{shown(last)}",
                options.span("test"),
            )
        if self._closes(val) > test:
            raise QueryError(
                f"the window of the anchor `val` closes at {shown(self._closes(val))}, "
                "after `test` begins",
                options.span("val"),
            )
        if val <= start:
            message = f"no anchor for training: the data begins at {shown(start)}"
            raise QueryError(message, options.span("val"))
        back = self._back()
        train = self._part("train", val, back, lambda a: a < start)
        first = next((k for k in range(1, train.last + 1)
                      if self._closes(back.after(val, k)) <= val), None)  # fmt: skip
        if first is None:
            raise QueryError(
                f"no anchor for training: none of `val` − k × {self.step} is "
                f"{shown(start)} or later with its window closed at `val`",
                options.span("val"),
            )
        parts = (
            Anchors("train", val, back, first, train.last),
            self._part("val", val, self.step, lambda a: self._closes(a) > test),
            self._part("test", test, self.step, lambda a: a > last),
        )
        return Placed(parts, val, test)

    def _by_share(self, last: datetime) -> Placed:
        """The last tenth of the anchors for test, the tenth before for validation."""
        back = self._back()
        whole = self._part("all", last, back, lambda a: a < self.start).times()
        if len(whole) < 3:
            fit = "anchor with a closed window fits" if len(whole) == 1 else (
                "anchors with a closed window fit")  # fmt: skip
            raise QueryError(
                f"only {len(whole)} {fit} between {shown(self.start)} and {shown(last)}; "
                "training, validation and test need one each. OPTIONS (every = '…') sets how far "
                "apart they are",
                self.span,
            )
        most = len(whole) - 1
        at_test = min(most - 2, round(0.1 * most))
        at_val = max(at_test + 1, round(0.2 * most))
        while at_val < most - 1 and self._closes(whole[at_val]) > whole[at_test]:
            at_val += 1  # validation needs one closed window at least
        test, val = whole[at_test], whole[at_val]
        in_val = [k for k in range(at_test + 1, at_val + 1) if self._closes(whole[k]) <= test]
        in_train = [k for k in range(at_val + 1, most + 1) if self._closes(whole[k]) <= val]
        for name, found in (("validation", in_val), ("training", in_train)):
            if not found:
                raise QueryError(
                    f"no {name} anchor has its window closed before the next split begins; there "
                    f"are {len(whole)} anchors from {shown(whole[-1])} to {shown(last)}. Give "
                    "`val` and `test`, or a shorter window",
                    self.span,
                )
        notes = [f"validation begins at {shown(val)} and test at {shown(test)}, chosen by share"]
        if left_out := len(whole) - (at_test + 1) - len(in_val) - len(in_train):
            notes.append(
                f"{left_out} anchors are left out, as their windows reach into the next split"
            )
        parts = (
            Anchors("train", last, back, in_train[0], in_train[-1]),
            Anchors("val", last, back, in_val[0], in_val[-1]),
            Anchors("test", last, back, 0, at_test),
        )
        return Placed(parts, val, test, tuple(notes))

    def _back(self) -> Interval:
        return Interval(-self.step.count, self.step.unit)

    def _part(
        self, split: str, origin: datetime, step: Interval, over: Callable[[datetime], bool]
    ) -> Anchors:
        """Anchors from the origin up to the last before one is over."""
        last = -1
        for k in count():
            try:
                if over(step.after(origin, k)):
                    break
            except OverflowError:
                break
            last = k
            if last >= MOST_ANCHORS:
                raise QueryError(
                    f"there would be more than {MOST_ANCHORS:,} anchors; OPTIONS (every = '…') "
                    "sets how far apart they are, `start` where they begin",
                    self.options.span("every") or self.span,
                )
        return Anchors(split, origin, step, 0, last)
