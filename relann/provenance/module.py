"""A plan with weights: row maps in, the values of the output's embedding columns out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relann.algebra.plan import Plan, arguments
from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import Dropout
from relann.provenance.arrays import host
from relann.provenance.bound import Bound, Run, Surroundings, Values
from relann.provenance.devices import CPU
from relann.provenance.encoders import Encoders
from relann.provenance.inputs import Inputs, Known
from relann.provenance.parameters import Scope, generator_for, load, materialise
from relann.provenance.slices import placed
from relann.provenance.steps import bind_step
from relann.provenance.texts import Learner


@dataclass(frozen=True)
class Batch:
    """A plan's steps bound to row maps, to be run as often as wanted.

    program   (step, its run, steps whose values nothing reads afterwards)
    start     values that depend on no parameter, computed already
    outputs   for each output value: its step, how to read it, which rows are not NULL (None: all),
              the last in the memory of the processor
    counts    rows of each space
    once      the steps whose values depend on no parameter
    plan      whose steps these are
    """

    program: tuple[tuple[int, Run, tuple[int, ...]], ...]
    start: tuple[Tensor | None, ...]
    outputs: tuple[tuple[int, Run, Known | None], ...]
    counts: Mapping[int, int]
    once: Sequence[int]
    plan: Plan


class QueryModule(Scope):
    """The network a plan is: its parameters, under the names they have in the query.

    Its arrays are on `device`, and every tensor that a batch holds is; row maps that are elsewhere
    are copied there when they are bound. Start values depend on `seed` and each parameter's name
    only; text encoders that are trained start as they were pretrained. DataError where an encoder
    is not what it was.
    """

    def __init__(
        self,
        plan: Plan,
        encoders: Encoders,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device = CPU,
    ) -> None:
        super().__init__()
        pretrained = {site: origin.load() for site, origin in encoders.pretrained.items()}
        self.plan = plan
        self.encoders = encoders
        self.dtype = dtype
        self.device = device
        self._seed = seed
        self._arrays = materialise(plan, encoders.sizes, seed, dtype, self, device)
        sites = [s.operation.site for s in plan.steps if isinstance(s.operation, Dropout)]
        self._generators = {site: generator_for(seed, site, device) for site in sites}
        self._learners: dict[str, Learner] = {}
        for site, origin in encoders.pretrained.items():
            if origin.trained:
                learner = Learner(pretrained[site], generator_for(seed, f"{site}.encoder"), device)
                self._learners[site] = learner
                for part, value in learner.state.items():
                    name = f"{site}.encoder.{part}"
                    self._arrays[name] = value
                    self.put(name, value)

    @property
    def of_encoders(self) -> list[nn.Parameter]:
        """The weights of the text encoders that are trained with the model."""
        values = {id(v): v for a in self._learners.values() for v in a.state.values()}
        return [v for v in values.values() if isinstance(v, nn.Parameter)]

    def draw_as(self, number: int) -> None:
        """Let dropout draw as the module of this number among several of one seed; 0 is alone."""
        drawn = dict(self._generators)
        drawn.update({f"{site}.encoder": a.generator for site, a in self._learners.items()})
        for name, generator in drawn.items():
            generator.manual_seed(generator_for(self._seed, name).initial_seed() + number)

    def inputs(self, maps: RowMaps, spaces: Collection[int] | None = None) -> Inputs:
        """The content the steps read of some spaces (None: of all), encoded.

        `Inputs.take` slices it along `cut`.
        """
        return Inputs.read(self.plan, maps, self.encoders, self.dtype, spaces).to(self.device)

    def bind(
        self,
        maps: RowMaps,
        inputs: Inputs | None = None,
        stacks: Mapping[int, Tensor] | None = None,
    ) -> Batch:
        """The steps bound to row maps: everything that does not change from epoch to epoch.

        Works out which rows are NULL, builds the sparse structures with their transposes on demand,
        and computes what depends on no parameter. The steps are those of the maps' own plan, which
        may have them elsewhere than the module's. `inputs` are those of `maps`, if there already;
        `stacks` those of the slice that `maps` belong to.

        Raises DataError for numbers that are not finite and for `per` keys that training did not
        have, naming them.
        """
        around = Surroundings(
            maps.plan,
            placed(maps, self.device),
            self.inputs(maps) if inputs is None else inputs,
            self.encoders,
            self._arrays,
            lambda: self.training,
            self._generators,
            stacks={s: rows.to(self.device) for s, rows in (stacks or {}).items()},
            uses=_uses(maps.plan),
            learners=self._learners,
            device=self.device,
        )
        for number in range(len(maps.plan.steps)):
            around.bound.append(bind_step(around, number))
        ends = [step for _, step in maps.plan.values]
        constants, learned = _needed(around.bound, ends)
        return Batch(
            _program(around.bound, learned, ends),
            _folded(around.bound, constants, learned, ends),
            tuple((k, around.wide(k), _known(around.bound[k].valid)) for k in ends),
            dict(maps.counts),
            constants,
            maps.plan,
        )

    def forward(self, batch: Batch) -> list[tuple[Tensor, Known | None]]:
        """The output's embedding columns in order: [rows, width], and which rows are not NULL.

        None means all. What a NULL row holds means nothing.
        """
        values: Values = list(batch.start)
        for number, run, done in batch.program:
            values[number] = run(values)
            for k in done:
                values[k] = None
        return [(read(values), valid) for _, read, valid in batch.outputs]

    def first_strange(self, batch: Batch) -> int | None:
        """The first step whose value is not finite, None if all are."""
        values: Values = list(batch.start)
        for number, constant in enumerate(values):
            if constant is not None and not bool(torch.isfinite(constant).all()):
                return number
        with torch.no_grad():
            for number, run, _ in batch.program:
                value = values[number] = run(values)
                if not bool(torch.isfinite(value).all()):
                    return number
        return None

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over weights by name; DataError, and no change, unless names and shapes agree."""
        load(self._arrays, state)

    def state(self) -> dict[str, Tensor]:
        """A copy of the parameters and running statistics, by name."""
        return {name: value.detach().clone() for name, value in self._arrays.items()}


def _known(mask: Tensor | None) -> Known | None:
    return None if mask is None else host(mask)


def _uses(plan: Plan) -> Counter[int]:
    read = Counter(k for step in plan.steps for k in arguments(step.operation))
    return read + Counter(step for _, step in plan.values)


def _needed(bound: Sequence[Bound], ends: Sequence[int]) -> tuple[list[int], list[int]]:
    """The steps the outputs need: the constant ones and the others, each in order."""
    needed = set(ends)
    for number in range(len(bound) - 1, -1, -1):
        if number in needed:
            needed.update(bound[number].reads or ())
    order = sorted(needed)
    constants = [k for k in order if bound[k].constant]
    return constants, [k for k in order if not bound[k].constant]


def _last_reads(bound: Sequence[Bound], order: Sequence[int]) -> dict[int, int]:
    """For each step that others read, the last of them."""
    return {k: number for number in order for k in bound[number].reads or ()}


def _folded(
    bound: Sequence[Bound], constants: Sequence[int], learned: Sequence[int], ends: Sequence[int]
) -> tuple[Tensor | None, ...]:
    """The values of constant steps that are read later, or that come out."""
    values: Values = [None] * len(bound)
    kept = {*ends, *_last_reads(bound, learned)}
    last = _last_reads(bound, constants)
    with torch.no_grad():
        for number in constants:
            values[number] = bound[number].run(values)
            for k in bound[number].reads or ():
                if last[k] == number and k not in kept:
                    values[k] = None
    return tuple(values)


def _program(
    bound: Sequence[Bound], learned: Sequence[int], ends: Sequence[int]
) -> tuple[tuple[int, Run, tuple[int, ...]], ...]:
    last, kept = _last_reads(bound, learned), set(ends)
    return tuple(
        (
            number,
            bound[number].run,
            tuple(k for k in bound[number].reads or () if last[k] == number and k not in kept),
        )
        for number in learned
    )
