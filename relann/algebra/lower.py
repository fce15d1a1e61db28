"""Lifted query to physical plan: which rows are numbered once, which steps run every epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Column,
    Join,
    Map,
    Node,
    Query,
    Reduce,
    Scan,
    Select,
    Union,
    Window,
)
from relann.algebra.plan import (
    Gather,
    Groups,
    Held,
    Operation,
    Partition,
    Plan,
    Rows,
    SegmentReduce,
    Space,
    Stack,
    Stacked,
    Step,
    argument,
    row_column,
)
from relann.algebra.refine import drop_unread, fuse_gather_scale_sum
from relann.algebra.rules.columns import drop_unused_columns
from relann.algebra.terms import Content, Field, Term, column
from relann.errors import PlanError


@dataclass(frozen=True)
class Ref:
    """An embedding column: step `value`, picked by row numbers `via` (None: row for row)."""

    value: int
    via: Content | None


@dataclass
class Frame:
    """What a node lowered to: its rows and where its embeddings are.

    A held frame's rows are those of `space`, one for one, and `contents` are expressions over that
    space's columns. A virtual frame (`space` None) is a content query not run yet; `via` of its
    embeddings are row-number columns of `node`.
    """

    node: Node | None
    space: int | None
    contents: dict[str, Content]
    fields: dict[str, Ref]


@dataclass
class _RowsBuilder:
    """A Rows space that gains columns as steps ask for them."""

    node: Node
    columns: dict[str, Content] = field(default_factory=dict)
    order: tuple[str, ...] = ()

    def column(self, content: Content) -> Content:
        """The kept column that holds an expression over the node's columns."""
        for name, known in self.columns.items():
            if known is content:
                return column(name, content.type)
        name = content.field or f"expression {len(self.columns)}"
        if name in self.columns:
            name = f"{name} {len(self.columns)}"
        self.columns[name] = content
        return column(name, content.type)

    def built(self) -> Rows:
        """The finished space."""
        return Rows(Map(self.node, tuple(self.columns.items())), tuple(self.columns), self.order)


def lower(node: Node) -> Plan:
    """The plan of a lifted query. Symbolic: reads no data."""
    node = drop_unused_columns(node)
    lowering = _Lowering()
    frame = lowering.held(lowering.frame(node))
    assert frame.space is not None
    contents = tuple((n, lowering.column(frame.space, c)) for n, c in frame.contents.items())
    values = tuple((n, lowering.value(frame, n)) for n in node.names if n in frame.fields)
    spaces = tuple(s.built() if isinstance(s, _RowsBuilder) else s for s in lowering.spaces)
    steps, outputs = fuse_gather_scale_sum(lowering.steps, [v for _, v in values])
    steps, outputs = drop_unread(steps, outputs)
    named = tuple((n, v) for (n, _), v in zip(values, outputs, strict=True))
    return drop_unread_spaces(Plan(spaces, tuple(steps), frame.space, contents, named))


class _Lowering:
    def __init__(self) -> None:
        self.spaces: list[_RowsBuilder | Groups | Stack] = []
        self.steps: list[Step] = []
        self.frames: dict[Node, Frame] = {}
        self.rows: dict[Node, int] = {}
        self.known: dict[Step, int] = {}

    # -- spaces and steps ------------------------------------------------------------------------

    def step(self, space: int, width: int, operation: Operation) -> int:
        """The number of a step, the same number for the same step."""
        made = Step(space, width, operation)
        if made not in self.known:
            self.known[made] = len(self.steps)
            self.steps.append(made)
        return self.known[made]

    def space(self, made: Groups | Stack) -> int:
        """The number of a space, the same number for the same space."""
        for number, known in enumerate(self.spaces):
            if known == made:
                return number
        self.spaces.append(made)
        return len(self.spaces) - 1

    def column(self, space: int, content: Content) -> Content:
        """An expression over a space as one the engine can hand over."""
        builder = self.spaces[space]
        return builder.column(content) if isinstance(builder, _RowsBuilder) else content

    def held(self, frame: Frame) -> Frame:
        """The frame with its rows numbered."""
        if frame.space is not None:
            return frame
        assert frame.node is not None
        node = frame.node
        if node not in self.rows:
            self.rows[node] = len(self.spaces)
            self.spaces.append(_RowsBuilder(node))
        vias = {r.via.field for r in frame.fields.values() if r.via is not None}
        contents = {
            c.name: column(c.name, c.type)
            for c in node.columns
            if c.type is not None and c.name not in vias
        }
        return Frame(None, self.rows[node], contents, frame.fields)

    def virtual(self, frame: Frame) -> Frame:
        """The frame as a content query over its numbered rows."""
        if frame.space is None:
            return frame
        space, number = frame.space, row_column(frame.space)
        outputs = {n: self.column(space, c) for n, c in frame.contents.items()}
        fields: dict[str, Ref] = {}
        for name, ref in frame.fields.items():
            if ref.via is None:
                outputs[number] = column(number, "INTEGER")
                fields[name] = Ref(ref.value, column(number, "INTEGER"))
            else:
                via = self.column(space, ref.via)
                assert via.field is not None
                outputs[via.field] = via
                fields[name] = Ref(ref.value, via)
        read = {c: None for o in outputs.values() for c in sorted(o.columns)}
        columns = tuple(Column(n, type=self._type(space, n)) for n in read)
        return Frame(Map(Held(space, columns), tuple(outputs.items())), None, {}, fields)

    def content(self, frame: Frame) -> Node:
        """The frame's content columns as a content query."""
        node = self.virtual(frame).node
        assert node is not None
        vias = {r.via.field for r in frame.fields.values() if r.via is not None}
        hidden = vias | ({row_column(frame.space)} if frame.space is not None else set())
        kept = [c for c in node.columns if c.name not in hidden]
        if len(kept) == len(node.columns):
            return node
        return Map(node, tuple((c.name, column(c.name, c.type or "")) for c in kept))

    def _type(self, space: int, name: str) -> str:
        if name == row_column(space):
            return "INTEGER"
        made = self.spaces[space]
        match made:
            case _RowsBuilder():
                return made.columns[name].type
            case Groups(source, keys, aggregates):
                return self._type(source, name) if name in keys else dict(aggregates)[name].type
            case Stack(_, names, columns):
                return columns[0][names.index(name)].type

    def value(self, frame: Frame, name: str) -> int:
        """The step that holds an embedding column of a held frame, row for row."""
        ref = frame.fields[name]
        if ref.via is None:
            return ref.value
        assert frame.space is not None
        via = self.column(frame.space, ref.via)
        return self.step(frame.space, self.steps[ref.value].width, Gather(ref.value, via))

    def term(self, term: Term, frame: Frame) -> int:
        """The step that holds a term over a held frame's columns."""
        if isinstance(term, Field):
            return self.value(frame, term.name)
        assert frame.space is not None
        space = frame.space
        children = [self.term(c, frame) for c in term.children]
        fields = tuple(Field(argument(c), self.steps[c].width) for c in children)
        operation = term.rebuilt(fields).with_contents(
            lambda c: self.column(space, _over(c, frame.contents))
        )
        return self.step(space, term.width, operation)

    # -- nodes -----------------------------------------------------------------------------------

    def frame(self, node: Node) -> Frame:
        """The frame of a node, made once."""
        for inner in node.walk():
            if inner not in self.frames:
                self.frames[inner] = self._frame(inner)
        return self.frames[node]

    def _frame(self, node: Node) -> Frame:
        match node:
            case Query(_, _, _, inputs) if inputs:
                given = [self.content(self.frames[source]) for source in node.sources]
                return Frame(node.rebuilt(tuple(given)), None, {}, {})
            case Scan() | Query() | Held():
                return Frame(node, None, {}, {})
            case Alias(source, name):
                return self._alias(self.frames[source], name)
            case Select(source, predicate):
                frame = self.virtual(self.frames[source])
                assert frame.node is not None
                return replace(frame, node=Select(frame.node, predicate))
            case Map():
                return self._map(node)
            case Join():
                return self._join(node)
            case Aggregate():
                return self._aggregate(node)
            case Window():
                return self._window(node)
            case Union():
                return self._union(node)
        raise PlanError(f"cannot lower {type(node).__name__}")

    def _alias(self, frame: Frame, name: str) -> Frame:
        if frame.space is not None:
            contents = {f"{name}.{n}": c for n, c in frame.contents.items()}
            return Frame(
                None, frame.space, contents, {f"{name}.{n}": r for n, r in frame.fields.items()}
            )
        assert frame.node is not None
        fields = {}
        for n, ref in frame.fields.items():
            assert ref.via is not None
            fields[f"{name}.{n}"] = Ref(ref.value, ref.via.renamed(_prefixed(ref.via, name)))
        return Frame(Alias(frame.node, name), None, {}, fields)

    def _map(self, node: Map) -> Frame:
        frame = self.frames[node.source]
        content = {n: v for n, v in node.outputs if isinstance(v, Content)}
        terms = {n: v for n, v in node.outputs if isinstance(v, Term)}
        moved = all(isinstance(t, Field) for t in terms.values())
        if moved and frame.space is None:
            assert frame.node is not None
            fields = {n: frame.fields[t.name] for n, t in terms.items() if isinstance(t, Field)}
            outputs = dict(content)
            for name, ref in fields.items():
                assert ref.via is not None
                fields[name] = Ref(ref.value, _kept(outputs, ref.via))
            return Frame(Map(frame.node, tuple(outputs.items())), None, {}, fields)
        frame = self.held(frame)
        contents = {n: _over(c, frame.contents) for n, c in content.items()}
        fields = {}
        for name, term in terms.items():
            if isinstance(term, Field):
                fields[name] = frame.fields[term.name]
            else:
                fields[name] = Ref(self.term(term, frame), None)
        return Frame(None, frame.space, contents, fields)

    def _join(self, node: Join) -> Frame:
        left = self.virtual(self.frames[node.left])
        right = self.virtual(self.frames[node.right])
        assert left.node is not None
        assert right.node is not None
        taken = set(left.node.names)
        clash = {n: _unused(n, taken) for n in right.node.names if n in taken}
        if clash:
            outputs = tuple(
                (clash.get(c.name, c.name), column(c.name, c.type or ""))
                for c in right.node.columns
            )
            renamed = {
                n: Ref(r.value, r.via.renamed(clash) if r.via else None)
                for n, r in right.fields.items()
            }
            right = Frame(Map(right.node, outputs), None, {}, renamed)
        assert right.node is not None
        joined = Join(left.node, right.node, node.kind, node.on)
        kept = node.kind not in ("semi", "anti")
        fields = {**left.fields, **right.fields} if kept else left.fields
        return Frame(joined, None, {}, fields)

    def _aggregate(self, node: Aggregate) -> Frame:
        reductions = {n: v for n, v in node.outputs if isinstance(v, Reduce)}
        aggregates = {n: v for n, v in node.outputs if isinstance(v, Content)}
        if not reductions:
            frame = self.virtual(self.frames[node.source])
            assert frame.node is not None
            grouped = Aggregate(frame.node, node.by, tuple(aggregates.items()))
            return Frame(grouped, None, {}, {})
        frame = self._keyed(self.frames[node.source], node.by)
        assert frame.space is not None
        source = frame.space
        keys = [self.column(source, frame.contents[k]) for k in node.by]
        names = tuple(k.field or "" for k in keys)
        builder = self.spaces[source]
        if isinstance(builder, _RowsBuilder) and not builder.order:
            builder.order = names
        over = {
            n: _over(c, {m: self.column(source, frame.contents[m]) for m in c.columns})
            for n, c in aggregates.items()
        }
        space = self.space(Groups(source, names, tuple(over.items())))
        contents = {k: column(n, c.type) for k, n, c in zip(node.by, names, keys, strict=True)}
        contents |= {n: column(n, c.type) for n, c in aggregates.items()}
        fields = {}
        for name, reduce in reductions.items():
            value = self.value(frame, reduce.column)
            where = None
            if reduce.where is not None:
                where = self.column(source, frame.contents[reduce.where])
            width = 1 if reduce.how == "count" else self.steps[value].width
            step = self.step(space, width, SegmentReduce(value, reduce.how, where))
            fields[name] = Ref(step, None)
        return Frame(None, space, contents, fields)

    def _keyed(self, frame: Frame, by: tuple[str, ...]) -> Frame:
        """A held frame whose group keys are columns of its space."""
        held = self.held(frame)
        assert held.space is not None
        if isinstance(self.spaces[held.space], _RowsBuilder):
            return held
        if all(held.contents[k].field is not None for k in by):
            return held
        return self.held(self.virtual(held))

    def _window(self, node: Window) -> Frame:
        frame = self.held(self.frames[node.source])
        assert frame.space is not None
        space = frame.space
        fields = dict(frame.fields)
        for name, over in node.outputs:
            value = self.value(frame, over.column)
            partition = tuple(self.column(space, frame.contents[c]) for c in over.partition)
            order = tuple(self.column(space, frame.contents[c]) for c, _, _ in over.order)
            builder = self.spaces[space]
            if isinstance(builder, _RowsBuilder) and not builder.order:
                builder.order = tuple(c.field or "" for c in partition)
            width = 1 if over.how == "count" else self.steps[value].width
            step = self.step(space, width, Partition(value, over, partition, order))
            fields[name] = Ref(step, None)
        return Frame(None, space, frame.contents, fields)

    def _union(self, node: Union) -> Frame:
        parts = [self.held(self.frames[p]) for p in node.parts]
        names = tuple(c.name for c in node.columns if not c.learned)
        columns = tuple(tuple(self.column(_space(p), p.contents[n]) for n in names) for p in parts)
        space = self.space(Stack(tuple(_space(p) for p in parts), names, columns))
        contents = {c.name: column(c.name, c.type) for c in node.columns if c.type is not None}
        fields = {}
        for c in node.columns:
            if c.width is not None:
                values = tuple(self.value(p, c.name) for p in parts)
                fields[c.name] = Ref(self.step(space, c.width, Stacked(values)), None)
        return Frame(None, space, contents, fields)


def _space(frame: Frame) -> int:
    assert frame.space is not None
    return frame.space


def _over(content: Content, contents: Mapping[str, Content]) -> Content:
    """An expression over a frame's columns as one over its space's columns."""
    return content.substituted({n: contents[n].sql for n in content.columns})


def _prefixed(content: Content, name: str) -> dict[str, str]:
    return {c: f"{name}.{c}" for c in content.columns}


def _kept(outputs: dict[str, Content], via: Content) -> Content:
    """A row-number column passed through a Map, under a name no other column has."""
    for name, value in outputs.items():
        if value is via:
            return column(name, via.type)
    name = _unused(via.field or "#", set(outputs))
    outputs[name] = via
    return column(name, via.type)


def _unused(name: str, taken: set[str]) -> str:
    number = 1
    fresh = name
    while fresh in taken:
        fresh = f"{name}'{number}"
        number += 1
    taken.add(fresh)
    return fresh


def drop_unread_spaces(plan: Plan) -> Plan:
    """The plan without spaces nothing reads; every space keeps its number's order."""
    needed: set[int] = {plan.output} | {s.space for s in plan.steps}
    for number in range(len(plan.spaces) - 1, -1, -1):
        if number in needed:
            needed |= set(space_sources(plan.spaces[number]))
    if len(needed) == len(plan.spaces):
        return plan
    raise PlanError("a space is never read")


def space_sources(space: Space) -> tuple[int, ...]:
    """The earlier spaces a space is made from."""
    match space:
        case Rows(node):
            return tuple(n.space for n in node.walk() if isinstance(n, Held))
        case Groups(source):
            return (source,)
        case Stack(parts):
            return parts
