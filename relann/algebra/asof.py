"""Time: a timeless query evaluated on the database as of the anchor of each seed.

Every relation of a lifted query is in one of three states:

    static    it reads no table with a time column: the same rows at every anchor
    since     rows carry the time since when they are known; as of a they are those with since <= a
    anchored  rows carry the anchor they hold for, because others may hold for another one

Projections, selections, unions and inner joins leave rows as they are, known since the latest time
of what they were made from: embeddings are computed once for each row and not once for each anchor.
Groups, windows and outer joins depend on which rows are known: there rows meet the anchors they are
asked for. Which these are comes down from the seeds as a demand, a content query of (keys, anchor)
pairs (magic sets: Bancilhon, Maier, Sagiv and Ullman, PODS 1986).

A group whose rows are only known since some time changes only when one is added. So it is computed
once for each of its versions, the time of its latest row, and every anchor picks the version it
sees: f(group, a) = f(group, max {since <= a}).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce

from sqlglot import exp

from relann.algebra.laterals import of_with
from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Anchor,
    Column,
    Join,
    Map,
    Node,
    Output,
    Over,
    Query,
    Reduce,
    Scan,
    Select,
    Union,
    Window,
    fresh_name,
    passed,
)
from relann.algebra.sql import content_side
from relann.algebra.terms import (
    Coalesce,
    Constant,
    Content,
    Field,
    Term,
    column,
    conjunction,
    conjuncts,
    parsed,
    quoted,
)
from relann.errors import PlanError, SchemaError, listing

TIMESTAMP = "TIMESTAMP"
_ANCHOR = "as of"
_SINCE = "known since"
_VERSION = "version"
_ALWAYS = Content("TIMESTAMP '0001-01-01 00:00:00'", TIMESTAMP)  # since when a static row is known

Names = Mapping[str, str]


@dataclass(frozen=True)
class Clock:
    """Which tables have a time, and where the database ends.

    times  gives the time column of a table (quoted SQL), None where its rows are always known
    end    rows after it are never seen (None: all are, from their time on)
    """

    times: Callable[[str], str | None]
    end: datetime | None = None

    def __str__(self) -> str:
        if self.end is None:
            return "rolling: the database as of each seed's anchor"
        return f"frozen: the database as of each seed's anchor, and no later than {self.end}"

    def since(self, scan: Scan) -> Content | None:
        """Since when a row of a table is known, as a TIMESTAMP."""
        name = self.times(scan.table)
        if name is None:
            return None
        found = scan.by_name[name]
        assert found.type is not None
        if found.type == TIMESTAMP:
            return column(name, TIMESTAMP)
        return Content(_moment(quoted(name), found.type), TIMESTAMP)

    def visible(self, since: str) -> Content:
        """Whether a row with a time is ever seen: one without never is, nor one after the end."""
        end = "IS NOT NULL" if self.end is None else f"<= TIMESTAMP '{self.end}'"
        return Content(f"{quoted(since)} {end}", "BOOLEAN")


@dataclass(frozen=True)
class Seeds:
    """What is asked for: rows of (entity, time) with whatever else they carry, content only.

    `label` is the seeds' column that is to be learned. Where `item` is given, the query has several
    rows for an entity, one for each item it may be paired with, and `label` lists the right ones.
    """

    node: Node
    entity: str
    time: str
    item: str | None = None
    label: str | None = None


def as_of(node: Node, seeds: Seeds, clock: Clock) -> Node:
    """The query's rows for each seed, on the database as of the seed's time.

    One output row for each seed and row of the query whose `seeds.entity` is the seed's. Where
    there is none the query's columns are NULL, and so is `seeds.label`, as nothing can be learned;
    seeds of items have no row then, and `seeds.label` says of each pair whether it is right.
    Columns are the seeds', then the query's others. Raises SchemaError where the query lacks the
    entity or item, or names its prediction like a column of the seeds.
    """
    _check_entity(node, seeds)
    lifting = _Lifting(clock)
    columns = ((_ANCHOR, seeds.time), ("key", seeds.entity))
    demand = Demand(_distinct(seeds.node, columns), ((seeds.entity, "key"),))
    out = lifting.settled(lifting.lift(node, demand))
    seed = Alias(seeds.node, "seed")
    same = [_same(f"seed.{seeds.entity}", seeds.entity)]
    time = f"seed.{seeds.time}"
    if out.anchor is not None:
        same.append(_same(time, out.anchor))
    elif out.since is not None:
        same.append(_upto(out.since, time))
    kind = "left" if seeds.item is None else "inner"
    joined = Join(seed, out.node, kind, conjunction(same))
    outputs: list[Output] = [
        (name, passed(joined.by_name[f"seed.{name}"])) for name in seeds.node.names
    ]
    if seeds.label is not None:
        label = quoted(f"seed.{seeds.label}")
        if seeds.item is not None:
            listed = f"list_contains({label}, {quoted(seeds.item)})"
            right = Content(f"coalesce({listed}, false)", "BOOLEAN")
        else:
            known = f"CASE WHEN NOT {quoted(seeds.entity)} IS NULL THEN {label} END"
            right = Content(known, seeds.node.by_name[seeds.label].type or "")
        outputs = [(n, right if n == seeds.label else v) for n, v in outputs]
    outputs += [(c.name, passed(c)) for c in node.columns if c.name not in seeds.node.by_name]
    return Map(joined, tuple(outputs))


def _check_entity(node: Node, seeds: Seeds) -> None:
    for wanted, what in ((seeds.entity, "predicts for each"), (seeds.item, "ranks each")):
        found = None if wanted is None else node.by_name.get(wanted)
        if wanted is not None and (found is None or found.learned):
            raise SchemaError(
                f"the task {what} `{wanted}`, and the query has no content column of that name; "
                f"it has {listing(node.names)}. Name its key: … AS {wanted}"
            )
    for name in seeds.node.names:
        if name in node.by_name and node.by_name[name].learned:
            raise SchemaError(f"`{name}` is a column of the task; give the prediction another name")


@dataclass(frozen=True)
class Demand:
    """Which rows of a relation are asked for: those whose `keys` and anchor are a row of `node`.

    `node` is content, distinct, with the column `as of`; `keys` are (column of the relation, column
    of `node`). Without keys all rows are asked for at every anchor.
    """

    node: Node
    keys: tuple[tuple[str, str], ...] = ()

    def onto(self, names: Names) -> Demand:
        """The demand on a source whose columns have other names; keys it lacks are left out."""
        return Demand(self.node, tuple((names[c], d) for c, d in self.keys if c in names))

    def pairs(self) -> Node:
        """The distinct (as of, keys): no more columns than there are keys."""
        return _distinct(self.node, ((_ANCHOR, _ANCHOR), *((d, d) for _, d in self.keys)))


@dataclass(frozen=True)
class Versions:
    """Which version of a group each anchor sees: `node` has `as of`, `version` and the keys.

    `keys` are (column of the lifted relation, column of `node`).
    """

    node: Node
    keys: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Lifted:
    """A relation with its time.

    since     the column that says since when a row is known
    anchor    the column of the anchor a row holds for
    versions  the anchors that see the time in `anchor`, where that is a version's (None: itself)

    Without any of them it is static.
    """

    node: Node
    since: str | None = None
    anchor: str | None = None
    versions: Versions | None = None

    @property
    def time(self) -> str | None:
        """The column beside those of the query."""
        return self.since or self.anchor

    def kept_by(self, names: set[str]) -> bool:
        """Whether rows grouped by some columns, or with no others left, still know versions."""
        return self.versions is None or {c for c, _ in self.versions.keys} <= names

    def moved(self, node: Node, names: Names) -> Lifted:
        """The same time beside another node, its columns renamed."""
        versions = self.versions
        if versions is not None:
            keys = tuple((names[c], d) for c, d in versions.keys)
            versions = replace(versions, keys=keys)
        since = None if self.since is None else names[self.since]
        anchor = None if self.anchor is None else names[self.anchor]
        return Lifted(node, since, anchor, versions)


_STATIC, _SOME, _ANCHORED = 0, 1, 2


class _Lifting:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.states: dict[Node, int] = {}
        self.known: dict[tuple[Node, Demand], Lifted] = {}

    # -- states ----------------------------------------------------------------------------------

    def state(self, node: Node) -> int:
        """How a relation will depend on time."""
        for inner in node.walk(self.states):
            if inner not in self.states:
                self.states[inner] = self._state(inner)
        return self.states[node]

    def _state(self, node: Node) -> int:
        below = [self.states[s] for s in node.sources]
        match node:
            case Anchor():
                return _ANCHORED
            case Scan(table):
                return _STATIC if self.clock.times(table) is None else _SOME
            case Query():
                return _ANCHORED if any(below) else _STATIC
            case Join(_, _, kind):
                if kind == "inner" or not any(below):
                    return max(below)
                return below[0] if kind != "full" and not below[1] else _ANCHORED
            case Aggregate() | Window():
                return _ANCHORED if any(below) else _STATIC
            case Map() if any(below) and _windows(node):
                return _ANCHORED
        return max(below, default=_STATIC)

    # -- meeting anchors -------------------------------------------------------------------------

    def expanded(self, of: Lifted, demand: Demand) -> Lifted:
        """The rows with every anchor they are asked for at."""
        if of.anchor is not None:
            return self.settled(of)
        keys = tuple((c, d) for c, d in demand.keys if c in of.node.by_name)
        asked = Alias(Demand(demand.node, keys).pairs(), _alias(of.node))
        time = f"{asked.name}.{_ANCHOR}"
        on = [_same(f"{asked.name}.{d}", c) for c, d in keys]
        if of.since is not None:
            on.append(_upto(of.since, time))
        joined = Join(asked, of.node, "inner", conjunction(on) if on else None)
        anchor = fresh_name(_ANCHOR, of.node.by_name)
        outputs: list[Output] = [(c.name, passed(c)) for c in of.node.columns if c.name != of.since]
        return Lifted(Map(joined, (*outputs, (anchor, column(time, TIMESTAMP)))), anchor=anchor)

    def versioned(self, of: Lifted, demand: Demand) -> Lifted:
        """The rows known at each version that a demanded anchor sees."""
        assert of.since is not None
        keys = tuple((c, d) for c, d in demand.keys if c in of.node.by_name)
        asked = Alias(Demand(demand.node, keys).pairs(), "demand")
        renamed = ((_VERSION, of.since), *((d, c) for c, d in keys))
        changes = Alias(_distinct(of.node, renamed), "change")
        on = [_same(f"demand.{d}", f"change.{d}") for _, d in keys]
        on.append(_upto(f"change.{_VERSION}", f"demand.{_ANCHOR}"))
        seen = Join(asked, changes, "asof", conjunction(on))
        outputs = [(_ANCHOR, f"demand.{_ANCHOR}"), (_VERSION, f"change.{_VERSION}")]
        outputs += [(d, f"demand.{d}") for _, d in keys]
        versions = Versions(_picked(seen, outputs), keys)
        whole = _distinct(versions.node, ((_ANCHOR, _VERSION), *((d, d) for _, d in keys)))
        rows = self.expanded(of, Demand(whole, keys))
        return replace(rows, versions=versions)

    def grouped(self, of: Lifted, groups: set[str], demand: Demand) -> Lifted:
        """The rows by anchor or version, those of a group all together.

        `demand` is on the rows themselves; where it names none of the columns they are grouped by,
        the rows asked for say which groups are.
        """
        if of.since is not None:
            asked = demand.onto({g: g for g in groups})
            if groups and demand.keys and not asked.keys:
                rows = self.expanded(Lifted(content_side(of.node), since=of.since), demand)
                asked = _asking(rows, [(g, g) for g in sorted(groups)])
            of = self.versioned(of, asked)
        return of if of.kept_by(groups) else self.settled(of)

    def restricted(self, of: Lifted, demand: Demand) -> Lifted:
        """Only the rows asked for, where those of a whole group had to be there."""
        keys = {c for c, _ in demand.keys}
        if of.versions is None or not keys or keys & {c for c, _ in of.versions.keys}:
            return of
        of = self.settled(of)
        assert of.anchor is not None
        asked = Alias(demand.pairs(), _alias(of.node))
        on = [_same(f"{asked.name}.{d}", c) for c, d in demand.keys]
        on.append(_same(f"{asked.name}.{_ANCHOR}", of.anchor))
        return replace(of, node=Join(of.node, asked, "semi", conjunction(on)))

    def settled(self, of: Lifted) -> Lifted:
        """Every anchor with the rows of the version it sees."""
        if of.versions is None:
            return of
        assert of.anchor is not None
        seen = Alias(of.versions.node, _alias(of.node))
        on = [_same(f"{seen.name}.{d}", c) for c, d in of.versions.keys]
        on.append(_same(f"{seen.name}.{_VERSION}", of.anchor))
        joined = Join(seen, of.node, "inner", conjunction(on))
        kept: list[Output] = [(c.name, passed(c)) for c in of.node.columns if c.name != of.anchor]
        time = column(f"{seen.name}.{_ANCHOR}", TIMESTAMP)
        return Lifted(Map(joined, (*kept, (of.anchor, time))), anchor=of.anchor)

    # -- nodes -----------------------------------------------------------------------------------

    def lift(self, node: Node, demand: Demand) -> Lifted:
        """The rows of a relation that are asked for, and perhaps others, with their time."""
        state = self.state(node)
        if state != _ANCHORED:
            demand = Demand(Anchor())  # no matter which
        if (node, demand) not in self.known:
            lifted = Lifted(node) if state == _STATIC else self._lifted(node, demand)
            self.known[node, demand] = lifted
        return self.known[node, demand]

    def _lifted(self, node: Node, demand: Demand) -> Lifted:
        match node:
            case Anchor():
                (now,) = node.names
                outputs = [(now, _ANCHOR), (_ANCHOR, _ANCHOR)]
                return Lifted(_picked(Demand(demand.node).pairs(), outputs), anchor=_ANCHOR)
            case Scan():
                return self._scan(node)
            case Query():
                return self._query(node, demand)
            case Alias(source, name):
                names = {n: f"{name}.{n}" for n in source.names}
                below = self.lift(source, demand.onto({v: k for k, v in names.items()}))
                alias = Alias(below.node, name)
                return below.moved(alias, dict(zip(below.node.names, alias.names, strict=True)))
            case Select(source, predicate):
                below = self.lift(source, demand)
                return replace(below, node=Select(below.node, predicate))
            case Map():
                return self._map(node, demand)
            case Join():
                return self._join(node, demand)
            case Aggregate():
                return self._aggregate(node, demand)
            case Window():
                return self._window(node, demand)
            case Union():
                return self._union(node, demand)
        raise PlanError(f"{type(node).__name__} has no meaning in time")

    def _scan(self, node: Scan) -> Lifted:
        time = self.clock.since(node)
        assert time is not None
        since = fresh_name(_SINCE, node.by_name)
        timed = Map(node, (*((c.name, passed(c)) for c in node.columns), (since, time)))
        return Lifted(Select(timed, self.clock.visible(since)), since=since)

    def _map(self, node: Map, demand: Demand) -> Lifted:
        plain = {n: v for n, v in ((n, _plain(v)) for n, v in node.outputs) if v is not None}
        windows = _windows(node)
        groups = reduce(set.__and__, windows) if windows else None
        asked = demand.onto(plain)
        if groups is not None and self.state(node.source) == _ANCHORED:
            asked = asked.onto({g: g for g in groups})
        below = self.lift(node.source, asked)
        outputs = list(node.outputs)
        if groups is not None:
            below = self.grouped(below, groups, asked)
            outputs = [(n, _partitioned(v, below.anchor or "")) for n, v in outputs]
        if not below.kept_by(set(plain.values())):
            below = self.settled(below)
        names = {s: n for n, s in plain.items()}
        if below.time is None:
            return Lifted(Map(below.node, tuple(outputs)))
        time = fresh_name(_ANCHOR if below.since is None else _SINCE, dict(outputs))
        outputs.append((time, column(below.time, TIMESTAMP)))
        made = below.moved(Map(below.node, tuple(outputs)), {**names, below.time: time})
        return self.restricted(made, demand) if groups is not None else made

    def _aggregate(self, node: Aggregate, demand: Demand) -> Lifted:
        demand = demand.onto({k: k for k in node.by})
        below = self.grouped(self.lift(node.source, demand), set(node.by), demand)
        if not node.by:
            below = self.settled(below)
        assert below.anchor is not None
        grouped = Aggregate(below.node, (*node.by, below.anchor), node.outputs)
        if not node.by:
            return self._also_empty(node, grouped, below, demand)
        return replace(below, node=grouped)

    def _also_empty(
        self, node: Aggregate, grouped: Aggregate, below: Lifted, demand: Demand
    ) -> Lifted:
        """A group without keys is there at every anchor, with SQL's answer to no rows at all."""
        anchor = below.anchor
        assert anchor is not None
        asked = Alias(Demand(demand.node).pairs(), "demand")
        time = f"demand.{_ANCHOR}"
        contents = tuple((n, v) for n, v in node.outputs if isinstance(v, Content))
        none = Select(content_side(below.node), Content("false", "BOOLEAN"))
        joined = Join(asked, grouped, "left", _same(time, anchor))
        if contents:
            joined = Join(joined, Alias(Aggregate(none, (), contents), "nothing"))
        missing = f"{quoted(anchor)} IS NULL"
        outputs: list[Output] = []
        for name, value in node.outputs:
            if isinstance(value, Content):
                empty = quoted(f"nothing.{name}")
                case = f"CASE WHEN {missing} THEN {empty} ELSE {quoted(name)} END"
                outputs.append((name, Content(case, value.type)))
            else:
                outputs.append((name, _counted(value, passed(grouped.by_name[name]))))
        outputs.append((anchor, column(time, TIMESTAMP)))
        return Lifted(Map(joined, tuple(outputs)), anchor=anchor)

    def _window(self, node: Window, demand: Demand) -> Lifted:
        groups = reduce(set.__and__, (set(o.partition) for _, o in node.outputs))
        asked = demand.onto({n: n for n in node.source.names})
        if self.state(node.source) == _ANCHORED:
            asked = asked.onto({g: g for g in groups})
        below = self.grouped(self.lift(node.source, asked), groups, asked)
        assert below.anchor is not None
        outputs = tuple((n, _over(o, below.anchor)) for n, o in node.outputs)
        made = Window(below.node, outputs)
        # the order of columns is the node's own, the time's last
        order = [(c.name, passed(c)) for c in node.columns]
        time = (below.anchor, column(below.anchor, TIMESTAMP))
        return self.restricted(replace(below, node=Map(made, (*order, time))), demand)

    def _union(self, node: Union, demand: Demand) -> Lifted:
        first = node.names
        parts = []
        for part in node.parts:
            asked = demand.onto(dict(zip(first, part.names, strict=True)))
            parts.append((self.lift(part, asked), asked))
        if self.state(node) == _ANCHORED:
            met = [self.expanded(lifted, asked) for lifted, asked in parts]
            time = fresh_name(_ANCHOR, first)
            stacked = Union(tuple(_timed(p.node, first, p.anchor, time) for p in met))
            return Lifted(stacked, anchor=time)
        time = fresh_name(_SINCE, first)
        stacked = Union(tuple(_timed(p.node, first, p.since, time) for p, _ in parts))
        return Lifted(stacked, since=time)

    # -- joins -----------------------------------------------------------------------------------

    def _join(self, node: Join, demand: Demand) -> Lifted:
        if self.state(node) != _ANCHORED:
            return self._join_of_rows(node, demand)
        if node.kind == "full":
            return self._full_join(node, Demand(demand.node))
        pairs = _equated(node)
        swapped = node.kind == "inner" and self._right_first(node, demand, pairs)
        one, other = (node.right, node.left) if swapped else (node.left, node.right)
        if swapped:
            pairs = [(right, left) for left, right in pairs]
        asked = demand.onto({**{a: a for a in one.names}, **{b: a for a, b in pairs}})
        if not self.state(other):
            first = self.lift(one, asked)
            return self._joined(node, first, Lifted(other), swapped, None)
        first = self.expanded(self.lift(one, asked), asked)
        if isinstance(other, Anchor):
            return self._with_anchor(first, other)
        further = self._demanded(first, pairs, demand, other)
        second = self.lift(other, further)
        if node.kind in ("asof", "asof_left"):  # which take one inequality, their own
            second = self.expanded(second, further)
        return self._joined(node, first, self.settled(second), swapped, first.anchor)

    def _join_of_rows(self, node: Join, demand: Demand) -> Lifted:
        left, right = self.lift(node.left, demand), self.lift(node.right, demand)
        if left.time is not None and left.time in right.node.by_name:
            right = _retimed(right, left.node)
        joined = Join(left.node, right.node, node.kind, node.on)
        if left.since is None or right.since is None:
            return Lifted(joined, since=left.since or right.since)
        since = fresh_name(_SINCE, joined.by_name)
        both = f"greatest({quoted(left.since)}, {quoted(right.since)})"
        outputs: list[Output] = [(c.name, passed(c)) for c in node.columns]
        return Lifted(Map(joined, (*outputs, (since, Content(both, TIMESTAMP)))), since=since)

    def _right_first(self, node: Join, demand: Demand, pairs: Sequence[tuple[str, str]]) -> bool:
        """Whether the demand says more about the right side, or as much and it costs less."""
        asked = {c for c, _ in demand.keys}
        asked |= {b for a, b in pairs if a in asked} | {a for a, b in pairs if b in asked}
        left, right = (bool(asked & set(side.names)) for side in node.sources)
        return right if left != right else self.state(node.left) > self.state(node.right)

    def _demanded(
        self, first: Lifted, pairs: Sequence[tuple[str, str]], demand: Demand, other: Node
    ) -> Demand:
        """What the rows of one side ask of the other, by the columns that must be equal."""
        if not pairs:
            return demand.onto({c: c for c in other.names})
        assert first.anchor is not None
        wanted = [first.anchor, *(a for a, _ in pairs)]
        source, names = _below_left_joins(first.node, wanted)
        below = Lifted(source, anchor=names[first.anchor])
        return _asking(below, [(names[a], b) for a, b in pairs])

    def _joined(
        self, node: Join, first: Lifted, second: Lifted, swapped: bool, anchor: str | None
    ) -> Lifted:
        """The join, of rows that hold for the same anchor."""
        if second.time is not None and second.time in first.node.by_name:
            second = _retimed(second, first.node)
        left, right = (second, first) if swapped else (first, second)
        on = [] if node.on is None else [node.on]
        if second.anchor is not None:
            assert anchor is not None
            on.append(_same(anchor, second.anchor))
        elif second.since is not None:
            assert anchor is not None
            on.append(_upto(second.since, anchor))
        joined: Node = Join(left.node, right.node, node.kind, conjunction(on) if on else None)
        if second.time is not None and second.time in joined.by_name:
            kept = [c for c in joined.columns if c.name != second.time]
            joined = Map(joined, tuple((c.name, passed(c)) for c in kept))
        return replace(first, node=joined)

    def _with_anchor(self, first: Lifted, other: Anchor) -> Lifted:
        """The anchor itself as a column."""
        assert first.anchor is not None
        (now,) = other.names
        outputs: list[Output] = [(c.name, passed(c)) for c in first.node.columns]
        made = Map(first.node, (*outputs, (now, column(first.anchor, TIMESTAMP))))
        return replace(first, node=made)

    def _full_join(self, node: Join, demand: Demand) -> Lifted:
        left = self.expanded(self.lift(node.left, demand), demand)
        right = self.expanded(self.lift(node.right, demand), demand)
        if right.anchor in left.node.by_name:
            right = _retimed(right, left.node)
        assert left.anchor is not None and right.anchor is not None and node.on is not None
        on = conjunction([node.on, _same(left.anchor, right.anchor)])
        joined = Join(left.node, right.node, "full", on)
        either = f"coalesce({quoted(left.anchor)}, {quoted(right.anchor)})"
        anchor = fresh_name(_ANCHOR, joined.by_name)
        outputs: list[Output] = [(c.name, passed(c)) for c in node.columns]
        return Lifted(Map(joined, (*outputs, (anchor, Content(either, TIMESTAMP)))), anchor=anchor)

    # -- queries left to the database ------------------------------------------------------------

    def _query(self, node: Query, demand: Demand) -> Lifted:
        """A query the algebra does not see into, run once for each anchor on what is known then."""
        asked = Demand(demand.node).pairs()
        inputs: list[tuple[str, Node]] = [(_ASKED, asked)]
        bounds: dict[str, str] = {}
        for name, source in node.inputs:
            below = self.settled(self.lift(source, Demand(demand.node)))
            inputs.append((name, content_side(below.node)))
            kept = ", ".join(quoted(n) for n in source.names)
            if below.time is not None:
                upto = "=" if below.since is None else "<="
                bound = f"{quoted(below.time)} {upto} {_NOW}"
                bounds[name] = f"SELECT {kept} FROM {quoted(name)} WHERE {bound}"
        body = _bounded(parsed(node.sql), bounds)
        anchor = fresh_name(_ANCHOR, node.by_name)
        sql = f"SELECT {_NOW} AS {quoted(anchor)}, q.* FROM {quoted(_ASKED)}, "
        sql += f"LATERAL ({body.sql(dialect='duckdb')}) AS q"
        columns = (Column(anchor, type=TIMESTAMP), *node.columns)
        made = Query(sql, columns, node.tables, tuple(inputs))
        order = [*((n, n) for n in node.names), (anchor, anchor)]
        return Lifted(_picked(made, order), anchor=anchor)


_ASKED = "anchors asked for"
_NOW = f"{quoted(_ASKED)}.{quoted(_ANCHOR)}"  # a relation no user's query has


def _bounded(body: exp.Expr, bounds: Mapping[str, str]) -> exp.Expr:
    """A query with its inputs cut at the anchor, and `anchor()` as that time."""
    body = body.copy()
    for table in body.find_all(exp.Table):
        table.meta["with"] = not table.db and of_with(table, body)

    def cut(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Anonymous) and node.name.lower() == "anchor":
            return parsed(_NOW).copy()
        if not isinstance(node, exp.Table) or node.name not in bounds:
            return node
        if node.meta["with"]:
            return node
        made = exp.Subquery(
            this=parsed(bounds[node.name]).copy(),
            alias=exp.TableAlias(this=exp.to_identifier(node.alias_or_name, quoted=True)),
        )
        if node.args.get("joins"):
            made.set("joins", [j.transform(cut) for j in node.args["joins"]])
        return made

    return body.transform(cut)


def _moment(time: str, sql_type: str) -> str:
    """A time as a TIMESTAMP; one with a zone in UTC, as seeds have it."""
    return f"timezone('UTC', {time})" if "ZONE" in sql_type else f"CAST({time} AS TIMESTAMP)"


# -- pieces ----------------------------------------------------------------------------------------


def _same(one: str, other: str) -> Content:
    return Content(f"{quoted(one)} = {quoted(other)}", "BOOLEAN")


def _upto(since: str, anchor: str) -> Content:
    return Content(f"{quoted(anchor)} >= {quoted(since)}", "BOOLEAN")


def _picked(node: Node, columns: Sequence[tuple[str, str]]) -> Node:
    """Some content columns, as (name, column of the node)."""
    return Map(node, tuple((new, passed(node.by_name[old])) for new, old in columns))


def _distinct(node: Node, columns: Sequence[tuple[str, str]]) -> Node:
    """The distinct values of some content columns, as (name, column of the node)."""
    plain = [*columns] == [(n, n) for n in node.names]
    if plain and isinstance(node, Aggregate) and not node.outputs:
        return node
    picked = _picked(content_side(node), columns)
    return Aggregate(picked, picked.names)


def _alias(node: Node) -> str:
    """A name for a relation that meets a node, so that no columns are named alike."""
    number = 0
    while any(n.startswith(f"demand {number}.") for n in node.names):
        number += 1
    return f"demand {number}"


def _asking(rows: Lifted, pairs: Sequence[tuple[str, str]]) -> Demand:
    """The demand of rows on a relation, by pairs of equal columns: (theirs, the relation's)."""
    assert rows.anchor is not None
    keys = [(f"key {i}", theirs) for i, (theirs, _) in enumerate(pairs)]
    node = _distinct(rows.node, ((_ANCHOR, rows.anchor), *keys))
    return Demand(node, tuple((its, f"key {i}") for i, (_, its) in enumerate(pairs)))


def _plain(value: Content | Term) -> str | None:
    """The column an output leaves as it is; embeddings are no keys."""
    return value.field if isinstance(value, Content) else None


def _below_left_joins(node: Node, wanted: Sequence[str]) -> tuple[Node, dict[str, str]]:
    """Where columns come from: a node with the same distinct values of them, and their names there.

    Left joins neither add nor lose values of their left side, so that what a chain of them asks of
    its relations is asked once, by the first.
    """
    names = {name: name for name in wanted}
    while True:
        match node:
            case Map(source, outputs) if not _windows(node):
                plain = {n: _plain(v) for n, v in outputs}
                fields = {name: plain[here] for name, here in names.items()}
                found = {name: field for name, field in fields.items() if field is not None}
                if len(found) < len(names):
                    return node, names
                node, names = source, found
            case Join(left, _, "left" | "asof_left") if set(names.values()) <= set(left.names):
                node = left
            case _:
                return node, names


def _contents(value: Content | Term) -> list[Content]:
    if isinstance(value, Content):
        return [value]
    return [c for t in value.walk() for c in t.contents]


def _windows(node: Map) -> list[set[str]]:
    """The columns each content window partitions by."""
    found = []
    for _, value in node.outputs:
        for content in _contents(value):
            for window in content.expression.find_all(exp.Window):
                keys = window.args.get("partition_by") or []
                found.append({k.name for k in keys if isinstance(k, exp.Column)})
    return found


def _partitioned(value: Content | Term, anchor: str) -> Content | Term:
    """The value with every content window inside the rows of one anchor."""

    def inside(content: Content) -> Content:
        if not content.windowed:
            return content
        tree = content.expression.copy()
        for window in tree.find_all(exp.Window):
            keys = window.args.get("partition_by") or []
            window.set("partition_by", [*keys, exp.column(anchor, quoted=True)])
        return Content(tree.sql(dialect="duckdb"), content.type)

    if isinstance(value, Content):
        return inside(value)
    return value.transformed(lambda t: t.with_contents(inside) if t.contents else None)


def _over(over: Over, anchor: str) -> Over:
    return replace(over, partition=(*over.partition, anchor))


def _counted(reduction: Reduce | Content, value: Content | Term) -> Content | Term:
    """A count is 0 where there is no group; other reductions are NULL as they are."""
    if isinstance(reduction, Reduce) and reduction.how == "count":
        assert isinstance(value, Field)
        return Coalesce((value, Constant(0.0)))
    return value


def _timed(node: Node, names: Sequence[str], time: str | None, name: str) -> Node:
    """The node's columns in the query's order, then its time under a name."""
    own = [c for c in node.columns if c.name != time]
    outputs: list[Output] = [(n, passed(c)) for n, c in zip(names, own, strict=True)]
    value = _ALWAYS if time is None else column(time, TIMESTAMP)
    return Map(node, (*outputs, (name, value)))


def _retimed(of: Lifted, beside: Node) -> Lifted:
    """The relation with a time column that is not named like one of another relation."""
    assert of.time is not None
    name = fresh_name(of.time, {*beside.names, *of.node.names})
    names = {n: name if n == of.time else n for n in of.node.names}
    outputs = tuple((names[c.name], passed(c)) for c in of.node.columns)
    return of.moved(Map(of.node, outputs), names)


def _equated(node: Join) -> list[tuple[str, str]]:
    """(left column, right column) that a join's condition says are equal."""
    found = []
    left, right = set(node.left.names), set(node.right.names)
    for part in conjuncts(node.on) if node.on is not None else []:
        equal = part.expression.unnest()
        if isinstance(equal, exp.EQ):
            sides = [equal.this, equal.expression]
            if all(isinstance(s, exp.Column) for s in sides):
                a, b = (s.name for s in sides)
                if a in right and b in left:
                    a, b = b, a
                if a in left and b in right:
                    found.append((a, b))
    return found
