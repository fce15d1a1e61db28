"""Small plans and row maps made by hand, and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from relann.algebra.nodes import Over, Scan
from relann.algebra.plan import (
    Gather,
    Groups,
    Operation,
    Partition,
    Plan,
    Rows,
    SegmentReduce,
    Space,
    SparseProduct,
    Stack,
    Stacked,
    Step,
    argument,
)
from relann.algebra.rowmaps import Partitions, RowMaps, partition_key
from relann.algebra.terms import (
    Apply,
    Coalesce,
    Concat,
    Constant,
    Content,
    Dot,
    Field,
    Key,
    Learned,
    Lift,
    Linear,
    Lookup,
    Norm,
    Normalize,
    Parameter,
    Term,
    column,
)

ROWS = Rows(Scan("t", ()), ())
X = column("x", "DOUBLE")
V = column("v", "DOUBLE[3]")
K = column("k", "INTEGER")
F = column("f", "BOOLEAN")
G = column("g", "INTEGER")
O = column("o", "INTEGER")  # noqa: E741
A = column("#a", "INTEGER")
B = column("#b", "INTEGER")


@dataclass
class Draft:
    """A plan being written, with its row maps."""

    spaces: list[Space] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    maps: RowMaps = field(default_factory=lambda: RowMaps(Plan((), (), 0, (), ())))

    def space(self, count: int, space: Space = ROWS, **columns: pa.Array) -> int:
        """A space with columns named x, v, k, f, g or o, or gathers a and b."""
        number = len(self.spaces)
        self.spaces.append(space)
        self.maps.counts[number] = count
        for name, values in columns.items():
            if name in ("a", "b"):
                self.maps.gathers[number, {"a": A, "b": B}[name]] = np.array(values, dtype=np.int32)
            else:
                content = {"x": X, "v": V, "k": K, "f": F, "g": G, "o": O}[name]
                self.maps.columns[number, content] = _array(values, content)
        return number

    def groups(self, source: int, ids: Sequence[int], count: int) -> int:
        """A space of groups; `ids` are those of the source's rows."""
        number = self.space(count, Groups(source, ("g",)))
        self.maps.groups[number] = np.array(ids, dtype=np.int32)
        return number

    def step(self, space: int, width: int, operation: Operation) -> int:
        """A step; its number."""
        self.steps.append(Step(space, width, operation))
        return len(self.steps) - 1

    def value(self, step: int) -> Field:
        """A step's value as an argument."""
        return Field(argument(step), self.steps[step].width)

    def term(self, space: int, term: Term) -> int:
        """A step that is a term."""
        return self.step(space, term.width, term)

    def partition(self, space: int, source: int, how: str, ids: Sequence[int], keys=None) -> int:
        """A window; with order `keys` a running one, peers included, as SQL has it."""
        order = (("o", False, False),) if keys is not None else ()
        operation = Partition(source, Over(how, "x", ("g",), order), (G,), (O,) if order else ())
        width = 1 if how == "count" else self.steps[source].width
        number = self.step(space, width, operation)
        ids = np.array(ids, dtype=np.int32)
        count = int(ids.max(initial=-1)) + 1
        position = upto = None
        if keys is not None:
            position = np.zeros(len(ids), dtype=np.int64)
            upto = np.zeros(len(ids), dtype=np.int64)
            for r in range(len(ids)):
                mates = [m for m in range(len(ids)) if ids[m] == ids[r]]
                ranked = sorted(mates, key=lambda m: (keys[m], m))
                position[r] = ranked.index(r)
                upto[r] = sum(keys[m] <= keys[r] for m in mates)
        made = Partitions(ids, count, position, upto)
        self.maps.partitions[partition_key(self.steps[number])] = made
        return number

    def finished(self, *outputs: int, contents: tuple[tuple[str, Content], ...] = ()) -> RowMaps:
        """The row maps, whose plan gives these steps' values."""
        values = tuple((f"v{i}", step) for i, step in enumerate(outputs))
        space = self.steps[outputs[0]].space
        self.maps.plan = Plan(tuple(self.spaces), tuple(self.steps), space, contents, values)
        read = {(s.space, s.operation.via) for s in self.steps if isinstance(s.operation, Gather)}
        for s in self.steps:
            if isinstance(s.operation, SparseProduct):
                read.add((self.spaces[s.space].source, s.operation.via))
        gathers = {k: v for k, v in self.maps.gathers.items() if k in read}
        return replace(self.maps, gathers=gathers)


def _array(values, content: Content) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    kinds = {
        "DOUBLE": pa.float64(),
        "DOUBLE[3]": pa.list_(pa.float64(), 3),
        "INTEGER": pa.int32(),
        "BOOLEAN": pa.bool_(),
    }
    return pa.array(values, kinds[content.type])


def random_maps(seed: int) -> RowMaps:
    """A plan of random operations over random rows: empty spaces, NULLs, missing rows and ties."""
    draw = _Random(np.random.default_rng(seed))
    for _ in range(draw.rng.integers(3, 12)):
        draw.operation()
    steps = range(len(draw.draft.steps))
    return draw.draft.finished(*(steps if draw.rng.random() < 0.3 else steps[-1:]))


class _Random:
    """Draws steps over nodes (0), edges between them (1), groups of edges (2), nodes with groups
    (3), and all edges as one group (4)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.draft = Draft()
        nodes, edges, groups = (int(rng.integers(0, n)) for n in (5, 9, 4))
        groups = max(groups, 1) if edges else groups
        self.share_null = float(rng.choice([0, 0, 0.3]))
        self.space(nodes)
        low = -1 if self.share_null or not nodes else 0
        ends = [rng.integers(low, max(nodes, low + 1), edges) for _ in "ab"]
        self.space(edges, a=ends[0], b=ends[1])
        ids = rng.integers(0, max(groups, 1), edges)
        self.draft.groups(1, ids, groups)
        self.draft.space(nodes + groups, Stack((0, 2), (), ((), ())))
        self.draft.groups(1, np.zeros(edges), 1)
        self.parameters = 0
        for space in (0, 1):
            self.draft.term(space, Lift(X))
            self.draft.term(space, Lift(V))
            self.draft.term(space, Lookup(self.parameter(3), Key(f"m.s{self.parameters}", (K,))))
            self.draft.term(space, Linear(Field(argument(2 + 4 * space), 3), self.parameter(3, 1)))

    def space(self, count: int, **more) -> None:
        rng = self.rng
        self.draft.space(
            count,
            x=self.nullable(rng.normal(size=count).tolist()),
            v=self.nullable(rng.normal(size=(count, 3)).tolist()),
            k=self.nullable(rng.integers(0, 3, count).tolist()),
            f=self.nullable((rng.random(count) < 0.7).tolist()),
            **more,
        )

    def nullable(self, values: list) -> list:
        return [None if self.rng.random() < self.share_null else v for v in values]

    def parameter(self, *shape: int) -> Parameter:
        self.parameters += 1
        return Parameter(f"m.p{self.parameters}", shape, "normal" if len(shape) == 1 else "glorot")

    def pick(self, where=lambda step: True) -> int | None:
        fit = [k for k, s in enumerate(self.draft.steps) if where(s)]
        return int(self.rng.choice(fit)) if fit else None

    def alike(self, space: int, width: int) -> int | None:
        return self.pick(lambda s: s.space == space and s.width in (1, width))

    def operation(self) -> None:
        kinds = [
            self.unary, self.binary, self.steep, self.linear, self.learned, self.concat,
            self.coalesce, self.gather, self.gather, self.reduce, self.reduce, self.product,
            self.window, self.stacked, self.dot, self.normal,
        ]  # fmt: skip
        kinds[self.rng.integers(len(kinds))]()

    def unary(self) -> None:
        k, draft = self.pick(), self.draft
        names = ["relu", "gelu", "tanh", "sigmoid", "elu", "abs", "neg"]
        draft.term(draft.steps[k].space, Apply(str(self.rng.choice(names)), (draft.value(k),)))

    def binary(self) -> None:
        k, draft = self.pick(), self.draft
        space, width = draft.steps[k].space, draft.steps[k].width
        other = self.alike(space, width)
        name = str(self.rng.choice(["add", "sub", "mul"]))
        pair = [draft.value(k), draft.value(other)]
        self.rng.shuffle(pair)
        draft.term(space, Apply(name, tuple(pair)))

    def steep(self) -> None:
        """Operations that are not defined for every number, on numbers they are defined for.

        What a NULL row holds is not among these.
        """
        k, draft = self.pick(), self.draft
        space = draft.steps[k].space
        if self.rng.random() < 0.3:
            bounded = draft.term(space, Apply("tanh", (draft.value(k),)))
            draft.term(space, Apply("exp", (draft.value(bounded),)))
            return
        half = draft.term(space, Constant(0.5))
        size = draft.term(space, Apply("abs", (draft.value(k),)))
        sure = draft.value(draft.term(space, Apply("add", (draft.value(size), draft.value(half)))))
        gather = self.rng.random() < 0.5 and space == 0
        if gather:  # missing rows hold zeros
            space, source = 1, int(sure.name[1:])
            sure = draft.value(draft.step(1, sure.width, Gather(source, A)))
        name = str(self.rng.choice(["log", "sqrt", "div"]))
        if name == "div":
            other = self.alike(space, sure.width)
            draft.term(space, Apply("div", (draft.value(other), sure)))
        else:
            draft.term(space, Apply(name, (sure,)))

    def linear(self) -> None:
        draft = self.draft
        k = self.pick()
        space, width = draft.steps[k].space, int(self.rng.integers(1, 4))
        per = Key(f"m.s{self.parameters}", (K,)) if space < 2 and self.rng.random() < 0.5 else None
        weight = self.parameter(draft.steps[k].width, width)
        bias = self.parameter(width) if self.rng.random() < 0.5 else None
        draft.term(space, Linear(draft.value(k), weight, bias, per))

    def learned(self) -> None:
        space, width = int(self.rng.integers(5)), int(self.rng.choice([1, 3]))
        key = Key(f"m.s{self.parameters}", (K,), most=2)
        if space > 1 or self.rng.random() < 0.4:
            self.draft.term(space, Learned(self.parameter(width)))
        elif self.rng.random() < 0.5:
            self.draft.term(space, Learned(self.parameter(width), Key(key.site, (K,))))
        else:
            self.draft.term(space, Lookup(self.parameter(width), key))

    def several(self) -> tuple[int, list[Field]]:
        draft = self.draft
        space = draft.steps[self.pick()].space
        chosen = [self.pick(lambda s: s.space == space) for _ in range(self.rng.integers(1, 4))]
        return space, [draft.value(k) for k in chosen]

    def concat(self) -> None:
        space, fields = self.several()
        if sum(f.width for f in fields) < 10:
            self.draft.term(space, Concat(tuple(fields)))

    def coalesce(self) -> None:
        space, fields = self.several()
        wide = next((f.width for f in fields if f.width > 1), 1)
        self.draft.term(space, Coalesce(tuple(f for f in fields if f.width in (1, wide))))

    def gather(self) -> None:
        k = self.pick(lambda s: s.space == 0)
        via = A if self.rng.random() < 0.5 else B
        self.draft.step(1, self.draft.steps[k].width, Gather(k, via))

    def reduce(self) -> None:
        k = self.pick(lambda s: s.space == 1)
        how = str(self.rng.choice(["sum", "avg", "min", "max", "count", "stddev"]))
        where = F if self.rng.random() < 0.4 else None
        if self.rng.random() < 0.3:
            k, how = self.weighted_lookup(), "sum"
        width = 1 if how == "count" else self.draft.steps[k].width
        self.draft.step(int(self.rng.choice([2, 4])), width, SegmentReduce(k, how, where))

    def weighted_lookup(self) -> int:
        draft = self.draft
        key = Key(f"m.s{self.parameters}", (K,), most=2)
        k = draft.term(1, Lookup(self.parameter(3), key))
        weight = self.pick(lambda s: s.space == 1 and s.width == 1)
        if self.rng.random() < 0.3:
            return k
        pair = [draft.value(k), draft.value(weight)]
        self.rng.shuffle(pair)
        return draft.term(1, Apply("mul", tuple(pair)))

    def product(self) -> None:
        draft = self.draft
        k = self.pick(lambda s: s.space == 0)
        weight = self.pick(lambda s: s.space == 1 and s.width == 1)
        weight = None if self.rng.random() < 0.4 else weight
        where = F if self.rng.random() < 0.4 else None
        space = int(self.rng.choice([2, 4]))
        draft.step(space, draft.steps[k].width, SparseProduct(k, A, weight, where))

    def window(self) -> None:
        draft = self.draft
        k = self.pick(lambda s: s.space == 1)
        hows = ["softmax", "sum", "avg", "min", "max", "count"]
        how = str(self.rng.choice(hows))
        running = how != "softmax" and self.rng.random() < 0.5
        count = draft.maps.counts[1]
        shown = np.random.default_rng(5)  # the same partitions each time: they have one key
        ids = np.unique(shown.integers(0, 3, count), return_inverse=True)[1]
        draft.partition(1, k, how, ids, shown.integers(0, 4, count) if running else None)

    def stacked(self) -> None:
        draft = self.draft
        first = self.pick(lambda s: s.space == 0)
        width = draft.steps[first].width
        second = self.pick(lambda s: s.space == 2 and s.width == width)
        if second is not None:
            draft.step(3, width, Stacked((first, second)))

    def dot(self) -> None:
        draft = self.draft
        if self.rng.random() < 0.5:
            k = self.pick(lambda s: s.space == 0)
            width = draft.steps[k].width
            other = self.pick(lambda s: s.space == 0 and s.width == width)
            pair = [draft.step(1, width, Gather(k, A)), draft.step(1, width, Gather(other, B))]
        else:
            k = self.pick()
            space, width = draft.steps[k].space, draft.steps[k].width
            pair = [k, self.pick(lambda s: s.space == space and s.width == width)]
        draft.term(draft.steps[pair[0]].space, Dot(*(draft.value(p) for p in pair)))

    def normal(self) -> None:
        draft = self.draft
        k = self.pick()
        value = draft.value(k)
        if self.rng.random() < 0.5:
            draft.term(draft.steps[k].space, Normalize(value))
        else:
            pair = self.parameter(value.width), self.parameter(value.width)
            draft.term(draft.steps[k].space, Norm("layer", value, *pair))
