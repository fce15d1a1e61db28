"""Tasks: what is to be predicted, for whom, when, and by which split it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from relann.algebra.intervals import Interval
from relann.errors import QueryError, Span, did_you_mean, listing
from relann.models.options import Given

Kind = Literal["binary", "multiclass", "regression", "ranking"]
Regime = Literal["frozen", "rolling"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Task:
    """What to predict.

    name        as the user wrote it; names are the same in any case
    entity      the seeds' column of entity keys
    table       the entity's table (quoted SQL), `key` its key column; None if unknown
    time        the seeds' column of anchors, a TIMESTAMP
    label       the seeds' column to predict; a list of keys where kind is `ranking`
    split       the seeds' column that says 'train', 'val' or 'test'
    kind        what the label is
    horizon     how long after the anchor the label's window closes ('30 days'); None if unknown
    val, test   where the splits begin; None if a column splits and nothing else is known
    regime      `frozen`: the database is cut at the test timestamp; `rolling`: at each anchor
    top_k       how many are ranked; None if it is no ranking or does not say
    item        the key column of `item_table` (quoted SQL), what is ranked
    seeds       the table that holds the seeds (quoted SQL): the four columns, nothing else
    definition  the statement that made the task
    sql         the SELECT that made the seeds, before seeds that cannot be used were dropped
    rows        how many seeds each split has
    """

    name: str
    entity: str
    table: str | None
    key: str | None
    time: str
    label: str
    split: str
    kind: Kind
    horizon: str | None = None
    val: datetime | None = None
    test: datetime | None = None
    regime: Regime = "frozen"
    top_k: int | None = None
    item: str | None = None
    item_table: str | None = None
    seeds: str = ""
    definition: str = ""
    sql: str = ""
    rows: tuple[tuple[str, int], ...] = ()

    @property
    def validates_fresh(self) -> bool:
        """Whether validation seeds see rows as fresh as test seeds do not, and since when is known.

        In regime frozen test seeds see no row since test began, validation seeds all until theirs.
        """
        return self.regime == "frozen" and self.val is not None

    def info(self) -> dict[str, Any]:
        """What a store keeps, as JSON can say it; `seeds` depends on where it is kept."""
        found = asdict(self)
        for stamp in ("val", "test"):
            found[stamp] = found[stamp] and found[stamp].isoformat()
        return {n: v for n, v in found.items() if n not in ("name", "seeds", "definition")}

    @classmethod
    def from_info(cls, name: str, definition: str, seeds: str, info: Mapping[str, Any]) -> Task:
        """The task of what `info` gave."""
        found = dict(info)
        for stamp in ("val", "test"):
            found[stamp] = found[stamp] and datetime.fromisoformat(found[stamp])
        found["rows"] = tuple((split, count) for split, count in found["rows"])
        return cls(name=name, definition=definition, seeds=seeds, **found)


_Count = Annotated[int, Field(ge=1)]


class TaskOptions(BaseModel):
    """How a task is stated; what is left out is found in the SELECT or said by PREDICT.

    entity, time, label    columns; table is the entity's
    split                  a column that says 'train', 'val' or 'test'
    val, test              or: timestamps at which these splits begin
    horizon                how long after its anchor a label's window closes
    kind, regime           as Task has them
    top_k, item_table      of a ranking
    sample                 at most so many seeds of each split, or of training, validation and test
    every, start           PREDICT only: the time between anchors, the first of them at the earliest
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    entity: str | None = None
    time: str | None = None
    label: str | None = None
    table: str | None = None
    split: str | None = None
    val: str | None = None
    test: str | None = None
    horizon: str | None = None
    kind: Kind | None = None
    regime: Regime = "frozen"
    top_k: _Count | None = None
    item_table: str | None = None
    sample: _Count | tuple[_Count, _Count, _Count] | None = None
    every: str | None = None
    start: str | None = None

    _spans: dict[str, Span] = PrivateAttr(default_factory=dict)

    @classmethod
    def parsed(cls, given: Mapping[str, Given], predict: bool = False) -> TaskOptions:
        """The options of a statement, which has a PREDICT or a SELECT.

        Raises QueryError, at the option's place, for unknown names and unfit values.
        """
        for name, option in given.items():
            if name not in cls.model_fields:
                raise QueryError(
                    f"a task has no option `{name}`; there are {listing(cls.model_fields, 30)}."
                    + did_you_mean(name, cls.model_fields),
                    option.name_span,
                )
            if predict and name in _SAID_BY_PREDICT:
                raise QueryError(
                    f"PREDICT says {_SAID_BY_PREDICT[name]}; `{name}` is an option of tasks that "
                    "are written as SELECT",
                    option.name_span,
                )
            if not predict and name in ("every", "start"):
                raise QueryError(
                    f"`{name}` is an option of PREDICT; a SELECT has its anchors as rows",
                    option.name_span,
                )
        values = {n: _folded(n, o.value) for n, o in given.items()}
        try:
            options = cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise QueryError(_message(name, first["input"]), given[name].span) from None
        options._spans.update({name: option.span for name, option in given.items()})
        for name in ("horizon", "every"):
            options.interval(name)
        val, test, start = (options.timestamp(n) for n in ("val", "test", "start"))
        if (val is None) != (test is None):
            missing = "val" if val is None else "test"
            raise QueryError(
                f"timestamps split in three: give `{missing}` as well",
                options.span("val" if test is None else "test"),
            )
        if val is not None and test is not None and val >= test:
            raise QueryError("`val` must be before `test`", options.span("val"))
        if start is not None and val is not None and start >= val:
            raise QueryError("`start` must be before `val`", options.span("start"))
        return options

    def limits(self) -> dict[str, int]:
        """How many seeds each split may have; empty where `sample` is not given."""
        if self.sample is None:
            return {}
        numbers = (self.sample,) * 3 if isinstance(self.sample, int) else self.sample
        return dict(zip(SPLITS, numbers, strict=True))

    def span(self, name: str) -> Span | None:
        """Where the statement gives the option's value; None where it does not."""
        return self._spans.get(name)

    def interval(self, name: str) -> Interval | None:
        """`horizon` or `every` as an interval."""
        text = getattr(self, name)
        return None if text is None else Interval.parsed(text, f"`{name}`", self.span(name))

    def timestamp(self, name: str) -> datetime | None:
        """`val`, `test` or `start` as a timestamp without zone."""
        text = getattr(self, name)
        if text is None:
            return None
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise QueryError(
                f"`{name}` is a timestamp such as '2005-01-01' or '2005-01-01 12:00:00', "
                f"not '{text}'",
                self.span(name),
            ) from None
        if found.tzinfo is not None:
            raise QueryError(
                f"`{name}` has no time zone: anchors are in UTC, or as the data has them",
                self.span(name),
            )
        return found


_SAID_BY_PREDICT = {
    "entity": "for whom in FOR EACH",
    "table": "for whom in FOR EACH",
    "split": "when, so time splits it (`val` and `test`)",
    "horizon": "when the label is known by its windows",
    "top_k": "how many to rank in RANK TOP",
    "item_table": "what to rank by its foreign key",
}
_CHOICES: dict[str, object] = {"kind": Kind, "regime": Regime}


def _folded(name: str, value: object) -> object:
    return value.lower() if name in _CHOICES and isinstance(value, str) else value


def _message(name: str, given: object) -> str:
    shown = f"'{given}'" if isinstance(given, str) else str(given)
    if name in _CHOICES:
        choices = get_args(_CHOICES[name])
        hint = did_you_mean(given, choices) if isinstance(given, str) else ""
        return f"`{name}` is one of {listing(choices)}, not {shown}.{hint}"
    if name == "sample":
        written = f"[{', '.join(map(str, given))}]" if isinstance(given, tuple) else shown
        return (
            "`sample` takes a whole number, 1 or more, or three of them for training, validation "
            f"and test, as in [3000, 1000, 1000], not {written}"
        )
    if name == "top_k":
        return f"`top_k` takes a whole number, 1 or more, not {shown}"
    return f"`{name}` takes text in quotes, not {shown}"
