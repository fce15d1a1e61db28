"""The options of a search, checked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from relann.algebra.intervals import Interval
from relann.errors import QueryError, Span, did_you_mean, listing
from relann.models.options import Given

Sampler = Literal["tpe", "random"]


class Settings(BaseModel):
    """How a model is looked for.

    task      what it is to predict
    auto      true
    budget    after which no trial begins and running ones end: '10 minutes'
    trials    how many programs are trained at most (None: as the budget allows)
    sampler   'tpe' learns from trials where to look, 'random' does not
    finalists how many of the near-equal best are examined
    guard     whether finalists are told apart by more than their validation metric
    without   a database of the bank that is not learned from: a search on public data that the bank
              holds is blind to its test labels only so
    seed      of the sampler and of all trainings
    judge     address of an OpenAI-compatible server that may choose among the finalists, and
              judge_model what it calls its model
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    task: str
    auto: bool = True
    budget: str = "10 minutes"
    trials: Annotated[int, Field(ge=1)] | None = None
    sampler: Sampler = "tpe"
    finalists: Annotated[int, Field(ge=1)] = 3
    guard: bool = True
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    without: str | None = None
    judge: str | None = None
    judge_model: str = "default"

    _spans: dict[str, Span] = PrivateAttr(default_factory=dict)

    @classmethod
    def parsed(cls, given: Mapping[str, Given], where: Span | None) -> Settings:
        """The settings of a statement or a call; QueryError, at its place, for what is wrong."""
        for name, option in given.items():
            if name not in cls.model_fields:
                raise QueryError(
                    f"a search has no option `{name}`; there are {listing(cls.model_fields, 30)}."
                    + did_you_mean(name, cls.model_fields),
                    option.name_span,
                )
        values: dict[str, Any] = {name: option.value for name, option in given.items()}
        if "task" not in values:
            raise QueryError("a search needs a task: OPTIONS (task = …, auto = true)", where)
        if values.get("auto") is False:
            raise QueryError(
                "a model without a query is looked for with auto = true; else write AS and its "
                "query",
                given["auto"].span,
            )
        try:
            found = cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise QueryError(
                f"`{name}`: {first['msg'][0].lower()}{first['msg'][1:]}, not {first['input']!r}",
                given[name].span,
            ) from None
        found._spans.update({name: option.span for name, option in given.items()})
        _ = found.seconds
        return found

    @property
    def seconds(self) -> float:
        """The budget."""
        interval = Interval.parsed(self.budget, "`budget`", self.span("budget"))
        start = datetime(2000, 1, 1)
        return (interval.after(start) - start) / timedelta(seconds=1)

    def span(self, name: str) -> Span | None:
        """Where a setting's value is given; None where it is not."""
        return self._spans.get(name)
