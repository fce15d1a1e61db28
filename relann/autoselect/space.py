"""The space of query programs: templates, their knobs, and points that are SQL text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from relann.algebra.parse import statements
from relann.algebra.statements import CreateModel
from relann.models.generators.program import identifier, literal
from relann.models.tasks import Task

Family = Literal["messages", "features"]
"""Learned message passing, or aggregates that the database computes."""

Value = str | int | float | bool | None | tuple["Value", ...]


_NOTHING = object()


@dataclass(frozen=True)
class Knob:
    """One choice, with what it can be, the default first.

    It is an `argument` of the program, an `option` of CREATE MODEL, or stands in the query's `text`
    where its name does.
    """

    name: str
    values: tuple[Value, ...]
    place: Literal["argument", "option", "text"] = "argument"


@dataclass(frozen=True)
class Template:
    """Programs of one form: a query with knobs in its arguments, and options of its training.

    body     the query; `{arguments}` stands for the program's, `{entity}` for the task's column
    fixed    options that are the same for all
    """

    name: str
    family: Family
    body: str
    knobs: tuple[Knob, ...]
    fixed: Mapping[str, Value]

    def default(self) -> Point:
        """The point whose knobs all have their first value."""
        return self.point({knob.name: knob.values[0] for knob in self.knobs})

    def point(self, chosen: Mapping[str, Value]) -> Point:
        """The point of some values; a knob that has none of them has its first."""
        values = {
            k.name: chosen[k.name] if chosen.get(k.name, _NOTHING) in k.values else k.values[0]
            for k in self.knobs
        }
        arguments, options, texts = (
            {k.name: values[k.name] for k in self.knobs if k.place == place}
            for place in ("argument", "option", "text")
        )
        told = ", ".join(f"{name} => {written(value)}" for name, value in arguments.items())
        text = self.body.replace("{arguments}", told)
        for name, value in texts.items():
            text = text.replace(f"{{{name}}}", written(value))
        return Point(self.family, self.name, text, {**self.fixed, **options}, values)

    def drawn(self, source: np.random.Generator) -> Point:
        """A point at random, every value of a knob as likely as the others."""
        values = {k.name: k.values[int(source.integers(len(k.values)))] for k in self.knobs}
        return self.point(values)

    def for_task(self, task: Task) -> Template:
        """The template for a task: without past labels where it is not known when they are known.

        Regression is learned by the metric it is judged by.
        """
        without = task.horizon is None
        knobs = tuple(
            Knob(k.name, (False,)) if without and k.name == "labels" else k for k in self.knobs
        )
        fixed = dict(self.fixed)
        if task.kind == "regression":
            fixed["loss"] = "mae"
        body = self.body.replace("{entity}", identifier(task.entity))
        return replace(self, body=body, knobs=knobs, fixed=fixed)


@dataclass(frozen=True)
class Point:
    """One program: the text of its query, options of its training, and the knobs that made them."""

    family: Family
    template: str
    body: str
    options: Mapping[str, Value]
    knobs: Mapping[str, Value]

    def statement(self, model: str, task: str, seed: int = 0, again: bool = False) -> str:
        """The CREATE MODEL statement, to run or to edit; `again` replaces a model of the name."""
        listed = {"task": task, **self.options, "seed": seed}
        told = ", ".join(f"{name} = {written(value)}" for name, value in listed.items())
        head = "CREATE OR REPLACE MODEL" if again else "CREATE MODEL"
        return f"{head} {identifier(model)} OPTIONS ({told}) AS\n{self.body}"

    def parsed(self, model: str, task: str, seed: int = 0) -> CreateModel:
        """The statement, parsed."""
        (statement,) = statements(self.statement(model, task, seed))
        assert isinstance(statement, CreateModel)
        return statement

    @property
    def hash(self) -> str:
        """The same for the same template and knobs, whatever the task and the seed."""
        told = json.dumps([self.template, sorted(self.knobs.items())])
        return hashlib.sha256(told.encode()).hexdigest()[:12]


def written(value: Value) -> str:
    """A value as relann's SQL writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(written(v) for v in value)}]"
    return "NULL" if value is None else literal(value)


def design(
    templates: Sequence[Template], each: Mapping[str, int], seed: int = 0
) -> Iterator[Point]:
    """The default of each template and then points at random, as many of it as `each` says.

    The same templates, numbers and seed give the same points.
    """
    for template in templates:
        # of its name, so that one template more changes nothing
        source = np.random.default_rng([seed, *template.name.encode()])
        found: dict[str, Point] = {}
        first = template.default()
        found[first.hash] = first
        while len(found) < each.get(template.name, 0):
            point = template.drawn(source)
            found.setdefault(point.hash, point)
        yield from found.values()


TRAINING: Mapping[str, int] = {"epochs": 20, "batch_size": 512, "patience": 4}
"""Options that the trainings of all networks share."""

_STEPS = (
    Knob("lr", (0.005, 0.001, 0.002, 0.01), "option"),
    Knob("weight_decay", (0.0, 0.0001), "option"),
)


def _network(name: str, *knobs: Knob) -> Template:
    """A template of networks, with what all of them share."""
    return Template(
        name,
        "messages",
        f"FROM {name}({{arguments}})",
        (
            Knob("width", (64, 32, 128)),
            *knobs,
            Knob("relative_time", ("first", "all")),
            Knob("labels", (False, True)),
            Knob("dropout", (0.0, 0.2)),
            *_STEPS,
        ),
        TRAINING,
    )


_AGGREGATES = (
    Knob("max_depth", (2, 1)),
    Knob("windows", (("1 year", None), (None,), ("30 days", "180 days", "1 year", None))),
    Knob("last", ((1, 5), (), (1, 3, 5, 10))),
    Knob("within_event", (True, False)),
    Knob("labels", (False, True)),
    Knob("max_columns", (1000,)),
)

TEMPLATES: tuple[Template, ...] = (
    Template(
        "dfs",
        "features",
        "FROM dfs({arguments})",
        (
            *_AGGREGATES,
            Knob("lr", (0.05, 0.02, 0.1), "option"),
            Knob("leaves", (8, 4, 16, 31), "option"),
            Knob("min_rows", (50, 20, 100), "option"),
            Knob("columns", (0.1, 0.3, 1.0), "option"),
            Knob("l2", (1.0, 0.0, 10.0), "option"),
        ),
        {"head": "gbdt"},
    ),
    Template(
        "dfs_mlp",
        "features",
        "SELECT d.{entity}, linear(dropout(relu(features(d, {width}, exclude => [{entity}])), "
        "{dropout}), 1) AS logit\nFROM dfs({arguments}) d",
        (
            *_AGGREGATES,
            Knob("width", (64, 32, 128), "text"),
            Knob("dropout", (0.0, 0.2, 0.5), "text"),
            *_STEPS,
        ),
        TRAINING,
    ),
    _network(
        "sage",
        Knob("layers", (2, 1)),  # the bank has no more: three took minutes to compile
        Knob("aggregate", ("avg", "sum", ("avg", "max"))),
        Knob("neighbours", (None, 16, 64)),
    ),
    # a layer of relgnn reaches as far as two of the others; the bank has one
    *(
        _network(name, Knob("layers", layers), Knob("heads", (4, 2)), Knob("neighbours", (32, 8)))
        for name, layers in (("gat", (1, 2)), ("relgnn", (1,)), ("hgt", (1, 2)))
    ),
)
"""All templates, in the order in which they are tried."""
