"""Physical plans: spaces of rows an engine numbers once, steps torch runs every epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from relann.algebra.nodes import Column, Node, Over
from relann.algebra.terms import Content, Term


@dataclass(frozen=True, eq=False)
class Held(Node):
    """The rows of an earlier space, numbered: its content columns and the row number `#space`."""

    space: int
    columns: tuple[Column, ...]


def row_column(space: int) -> str:
    """Name of the column that holds row numbers of a space; NULL where an outer join found none."""
    return f"#{space}"


@dataclass(frozen=True)
class Rows:
    """The rows of a content query, materialised. `columns` are those kept.

    Rows are sorted by `order` first; the order is the same for the same data.
    """

    node: Node
    columns: tuple[str, ...]
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class Groups:
    """One row for each distinct value of `keys` in the space `source`; one row without keys.

    Columns are the keys and the content `aggregates`; the row map says each source row's group.
    """

    source: int
    keys: tuple[str, ...]
    aggregates: tuple[tuple[str, Content], ...] = ()


@dataclass(frozen=True)
class Stack:
    """The rows of several spaces, one after the other.

    Each part names its content columns, in the order of `names`.
    """

    parts: tuple[int, ...]
    names: tuple[str, ...]
    columns: tuple[tuple[Content, ...], ...]


Space = Rows | Groups | Stack


@dataclass(frozen=True)
class Gather:
    """Rows of value `source`, picked by the row numbers in column `via`; a missing row is NULL."""

    source: int
    via: Content


@dataclass(frozen=True)
class SegmentReduce:
    """Value `source` reduced over the rows of each group of the step's own space.

    `where` is a boolean content column of the source's space.
    """

    source: int
    how: str
    where: Content | None = None


@dataclass(frozen=True)
class SparseProduct:
    """Σ over a group's rows of weight · source[via]: gather, scale and sum in one pass.

    `source` lives in the space `via` points to, `weight` (None: 1) in the space that is grouped; it
    has one number for each row, or one for each of equal slices of the source's width.
    """

    source: int
    via: Content
    weight: int | None
    where: Content | None = None


@dataclass(frozen=True)
class ProductSum:
    """Σ over a group's rows of Π source[via]: gathers, element-wise product and sum in one pass.

    Each factor, (source, via), is a value in the space its `via` points to; widths are equal.
    """

    factors: tuple[tuple[int, Content], ...]
    where: Content | None = None


@dataclass(frozen=True)
class Partition:
    """Value `source` reduced within partitions of its own space (see `nodes.Over`).

    Partition and order keys are content of the space.
    """

    source: int
    over: Over
    partition: tuple[Content, ...]
    order: tuple[Content, ...] = ()


@dataclass(frozen=True)
class Stacked:
    """The values of each part of a `Stack`, one after the other."""

    sources: tuple[int, ...]


Operation = Term | Gather | SegmentReduce | SparseProduct | ProductSum | Partition | Stacked


@dataclass(frozen=True)
class Step:
    """One value: `width` floats for each row of `space`.

    A Term operation reads its arguments as fields named `%k`, k the number of an earlier step.
    """

    space: int
    width: int
    operation: Operation


def argument(step: int) -> str:
    """How a term names the value of an earlier step."""
    return f"%{step}"


def arguments(operation: Operation) -> tuple[int, ...]:
    """The earlier steps an operation reads."""
    match operation:
        case Term():
            return tuple(sorted(int(name[1:]) for name in operation.fields))
        case Stacked(sources):
            return sources
        case SparseProduct(source, _, weight):
            return (source,) if weight is None else (source, weight)
        case ProductSum(factors):
            return tuple(source for source, _ in factors)
        case _:
            return (operation.source,)


def gathers(step: Step) -> tuple[tuple[int, Content], ...]:
    """(source, via) of every value that an operation picks rows of.

    The row numbers are those of the step's own space; of the space it groups for a product.
    """
    match step.operation:
        case Gather(source, via) | SparseProduct(source, via):
            return ((source, via),)
        case ProductSum(factors):
            return factors
    return ()


@dataclass(frozen=True)
class Plan:
    """What runs: spaces by number (sources first), steps in order, and what comes out.

    `contents` are the output's content columns over the space `output`, `values` its embedding
    columns as step numbers.
    """

    spaces: tuple[Space, ...]
    steps: tuple[Step, ...]
    output: int
    contents: tuple[tuple[str, Content], ...]
    values: tuple[tuple[str, int], ...]

    def rows_of(self, step: Step) -> int:
        """The space over whose rows a step's gathers run."""
        space = self.spaces[step.space]
        if isinstance(step.operation, SparseProduct | ProductSum):
            assert isinstance(space, Groups)
            return space.source
        return step.space

    @cached_property
    def gathered(self) -> Mapping[tuple[int, Content], int]:
        """(space, via) → the space whose rows are picked there, over all gathers."""
        return {
            (self.rows_of(step), via): self.steps[source].space
            for step in self.steps
            for source, via in gathers(step)
        }
