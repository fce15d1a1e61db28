"""What a step becomes once it is bound to data, and what it is bound in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from relann.algebra.plan import Gather, Plan, Step
from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import Content, Field, Key, Parameter, Term
from relann.errors import PlanError
from relann.provenance.devices import CPU
from relann.provenance.encoders import Encoders
from relann.provenance.inputs import Inputs
from relann.provenance.kernels.structures import Incidence, Index
from relann.provenance.masks import Mask, Masks, seen
from relann.provenance.texts import Learner

Values = list[Tensor | None]
Run = Callable[[Values], Tensor]
"""One step: reads earlier values by number, gives its own."""


@dataclass(frozen=True)
class Bound:
    """A step ready to run.

    valid      which rows are not NULL (None: all); one entry for each row of the space
    single     whether the value is one row that stands for all of the space
    constant   whether the value depends on no parameter and on no chance
    learned    whether `run` reads a parameter that the operation does not name
    reads      the earlier steps whose values `run` reads (None: all that the operation names)
    zeroed     whether NULL rows hold 0, and what made them ignores their gradient
    owned      whether the value is new memory of the step's width that its gradient does not need,
               so that a step that alone reads it may write over it
    """

    run: Run
    valid: Mask | None = None
    single: bool = False
    constant: bool = False
    learned: bool = False
    reads: tuple[int, ...] | None = None
    zeroed: bool = False
    owned: bool = False


@dataclass
class Surroundings:
    """What steps are bound in: the model's arrays, the data, and the steps bound before.

    `stacks` are those of a `Slice`; `uses` counts how often the value of each step is read;
    `learners` are the text encoders trained with the model, by site; `device` is where its arrays
    are, and `maps`, `inputs`, and every tensor that is made for it.
    """

    plan: Plan
    maps: RowMaps
    inputs: Inputs
    encoders: Encoders
    arrays: Mapping[str, Tensor]
    training: Callable[[], bool]
    generators: Mapping[str, torch.Generator]
    bound: list[Bound] = field(default_factory=list)
    masks: Masks = field(default_factory=Masks)
    incidences: dict[tuple[object, ...], Incidence] = field(default_factory=dict)
    stacks: Mapping[int, Tensor] = field(default_factory=dict)
    uses: Counter[int] = field(default_factory=Counter)
    indexes: dict[tuple[int, object, int], Index] = field(default_factory=dict)
    learners: Mapping[str, Learner] = field(default_factory=dict)
    device: torch.device = CPU

    def rows(self, space: int, via: Content) -> Tensor:
        """For each row of a space the row gathered from, −1: none."""
        found: Tensor = self.maps.gathers[space, via]
        return found

    def groups(self, space: int) -> Tensor:
        """For each row of what a space groups its group."""
        found: Tensor = self.maps.groups[space]
        return found

    def count(self, step: int) -> int:
        """Rows of the space a step's value is over."""
        return self.maps.counts[self.plan.steps[step].space]

    def wide(self, step: int) -> Run:
        """A step's value with one row for each row of its space."""
        if not self.bound[step].single:
            return lambda values: seen(values[step])
        rows = self.count(step)
        return lambda values: seen(values[step]).expand(rows, -1)

    def array(self, parameter: Parameter) -> Tensor:
        """The model's array of a parameter."""
        return self.arrays[parameter.name]

    def incidence(self, key: tuple[object, ...], make: Callable[[], Incidence]) -> Incidence:
        """The incidence of a key, built once."""
        if key not in self.incidences:
            self.incidences[key] = make()
        return self.incidences[key]

    def index(self, space: int, via: Content | Key, rows: Tensor, sources: int) -> Index:
        """Which of so many source rows each row of a space picks, built once for each `via`."""
        key = (space, via, sources)
        if key not in self.indexes:
            self.indexes[key] = Index.build(rows, sources)
        return self.indexes[key]

    def spent(self, step: int) -> bool:
        """Whether the one step that reads a step's value may write over it."""
        return self.bound[step].owned and self.uses[step] == 1

    def lone_gather(self, step: int) -> Gather | None:
        """The gather that a step is, if only one step reads it and it picks more than one row."""
        operation = self.plan.steps[step].operation
        alone = self.uses[step] == 1 and not self.bound[step].single
        return operation if alone and isinstance(operation, Gather) else None

    def gathered(self, space: int, via: Content, source: int) -> Index:
        """Which rows of a step's value a row-number column of a space picks."""
        return self.index(space, via, self.rows(space, via), self.count(source))


def number_of(term: Term) -> int:
    """The earlier step that an argument of a step's term stands for."""
    if not isinstance(term, Field):
        raise PlanError(f"a step's arguments are values of earlier steps, not {term}")
    return int(term.name[1:])


def each(around: Surroundings, number: int, function: Callable[[Tensor], Tensor]) -> Bound:
    """A function of each row by itself."""
    of = around.bound[number]
    return Bound(lambda values: function(seen(values[number])), of.valid, of.single)


def nothing(around: Surroundings, step: Step, valid: Mask | None) -> Bound:
    shape = (around.maps.counts[step.space], step.width)
    empty = torch.zeros(shape, dtype=around.inputs.dtype, device=around.device)
    return Bound(lambda values: empty, valid)
