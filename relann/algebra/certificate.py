"""The leakage certificate: a proof that no row after a seed's anchor reaches what is predicted.

It looks only at the lifted query, not at how it was made. Every path from a node down to a scan of
a table with a time is followed upwards. A moment t of a node's rows bounds a path when, for every
time a and every database,

    the node's rows with t <= a are the same if rows of the scan after a are taken away.

So it speaks of rows that are missing as much as of those that are there: max(time) bounds no
group, since a later row takes the whole group away. If t bounds a path and t <= u in every row,
then u bounds it, too. At the end every path must be bounded by the seed's own time.

A demand is the one thing that need not be bounded: rows are computed for the keys it asks for, and
where they meet the rows that asked for them again, the others do not matter. A node *asks* along a
path when it is F ⋉ Q, its rows with keys in Q, and the path leads into Q = π(source) alone. Joined
with rows that are part of π(source) themselves, on all the keys, F ⋉ Q is F.

Not covered: parameters, vocabularies and statistics are fitted on all training rows; `now()` and
functions that read the database by themselves are taken for plain functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice, product

from sqlglot import exp

from relann.algebra.asof import Clock, Seeds
from relann.algebra.laterals import Reading, lateral, readings
from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Column,
    Join,
    Map,
    Node,
    Query,
    Scan,
    Select,
    Union,
    Window,
)
from relann.algebra.sql import content_side
from relann.algebra.terms import Content, Field, Term, parsed
from relann.algebra.time_order import (
    Bounds,
    Moment,
    Order,
    bounding,
    comparisons,
    moment,
    raised,
    renaming,
)
from relann.errors import PlanError, QueryError, listing

_OWN_ALIAS = re.compile(r"^(seed|change|nothing|demand( \d+)?)$")  # those that lifting makes up
_PRESERVED_LEFT = ("left", "asof_left")
_ASOF = ("asof", "asof_left")


@dataclass(frozen=True)
class Path:
    """How a prediction reaches a table.

    time     the table's time column, None where it has none and all its rows are always visible
    through  the aliases on the way, outermost first
    because  the comparisons, from the table upwards, that end at the seed's time
    """

    table: str
    time: str | None
    through: tuple[str, ...] = ()
    because: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`c → o → orders.ts`."""
        return " → ".join([*self.through, f"{self.table}.{self.time}" if self.time else self.table])


@dataclass(frozen=True)
class Certificate:
    """A proof that each seed sees the database as of its time; `str` prints it.

    paths  every way to a table, those with a time first
    time   the seed's time column
    end    in the frozen regime the time after which no row is ever seen, else None
    """

    paths: tuple[Path, ...]
    time: str
    end: datetime | None = None

    @property
    def regime(self) -> str:
        """`frozen` or `rolling`."""
        return "rolling" if self.end is None else "frozen"

    def __str__(self) -> str:
        what = "the database as of each seed's anchor"
        if self.end is not None:
            what += f", and nothing after {self.end}"
        names = [f"{p.table}.{p.time}" if p.time else p.table for p in self.paths]
        wide = max(map(len, names), default=0)
        lines = [f"leakage certificate ({self.regime}: {what})"]
        for name, path in zip(names, self.paths, strict=True):
            told = "no time column, always visible"
            if path.time is not None:
                via = f"   via {' → '.join(path.through)}" if path.through else ""
                told = f"<= seed.{self.time}{via}"
            lines.append(f"  {name.ljust(wide)}   {told}")
        return "\n".join(lines)


def certify(lifted: Node, seeds: Seeds, clock: Clock) -> Certificate:
    """Prove that a lifted query reads no row after the anchor of the seed it belongs to.

    `lifted` is what `as_of(query, seeds, clock)` gave, as it is or optimised; `seeds.node` is one
    table or one query left to the database. Raises QueryError for a path that is not bounded, and
    where labels are reached by another way than the seeds themselves.
    """
    return _Prover(seeds, clock).proof(lifted)


@dataclass(frozen=True)
class _Ask:
    """The node is F ⋉ Q: `keys` are (column of `source`, columns here that are equal to it)."""

    source: Node
    keys: tuple[tuple[str, frozenset[str]], ...]

    def among(self, names: Mapping[str, Iterable[str]]) -> _Ask | None:
        """The same where columns have other names, or none; every key must have one."""
        keys = [(k, frozenset(n for h in here for n in names.get(h, ()))) for k, here in self.keys]
        return _Ask(self.source, tuple(keys)) if all(here for _, here in keys) else None


@dataclass(frozen=True)
class _Way:
    """A path from a node down to a table with a time.

    inner   whether it left the user's own relations: aliases further up do not belong to it
    bounds  the moments that bound it
    lost    why it has no bounds any more
    """

    table: str
    time: str
    through: tuple[str, ...]
    bounds: Bounds
    asks: frozenset[_Ask] = frozenset()
    inner: bool = False
    lost: str = ""

    @property
    def name(self) -> str:
        return Path(self.table, self.time, self.through).name

    def bounded(self, bounds: Bounds, lost: str) -> _Way:
        """The same way with other bounds; `lost` says why if there are none."""
        known = any(not m.constant for m in bounds)
        return replace(self, bounds=bounds, lost="" if known else self.lost or lost)


@dataclass(frozen=True)
class _State:
    """What is known of a node's rows; `labels` are the columns that hold labels of seeds."""

    ways: tuple[_Way, ...] = ()
    order: Order = field(default_factory=Order)
    labels: frozenset[str] = frozenset()


class _Prover:
    def __init__(self, seeds: Seeds, clock: Clock) -> None:
        self.seeds = seeds
        self.clock = clock
        self.states: dict[Node, _State] = {}
        self.visible: dict[str, None] = {}
        self.seed_nodes = {seeds.node, content_side(seeds.node)}
        self.label_tables = self._label_tables()

    def proof(self, lifted: Node) -> Certificate:
        self.seed_nodes |= {n for n in lifted.walk() if self._is_seeds(n)}
        for node in lifted.walk(self.seed_nodes):
            self.states[node] = self._state(node)
        self._check_seeds_come_through(lifted)
        whole = self.states[lifted]
        for name in sorted(whole.labels - set(self.seeds.node.names)):
            raise self._labels_reached(f"`{name}` is computed from them")
        found: dict[tuple[str, str, tuple[str, ...]], Path] = {}
        for way in whole.ways:
            chain = self._because(way)
            key = (way.table, way.time, way.through)
            if key not in found or len(chain) < len(found[key].because):
                found[key] = Path(*key, chain)
        named = {table for table, _, through in found if through}
        asked = [k for k in found if not k[2] and k[0] in named]
        for key in asked:  # the way by which rows are asked for, beside the one by which they come
            del found[key]
        timed = sorted(found.values(), key=lambda p: (p.table, p.through))
        always = [Path(_plain(table), None) for table in sorted(self.visible)]
        return Certificate((*timed, *always), self.seeds.time, self.clock.end)

    def _because(self, way: _Way) -> tuple[str, ...]:
        """Why a path is bounded by the seed's time, and by the end; QueryError if it is not."""
        chain = way.bounds.get(Moment(self.seeds.time))
        if chain is None:
            known = listing(dict.fromkeys(str(m) for m in way.bounds if not m.constant))
            reason = way.lost or f"`{known}` is not known to be at or before the seed's time"
            raise QueryError(
                f"rows of `{way.table}` after the anchor reach the prediction, by {way.name}: "
                f"{reason}. Read it where its `{way.time}` <= anchor(), and keep that time in "
                "GROUP BY, PARTITION BY and joins"
            )
        if self.clock.end is None:
            return chain
        ends = [(m.at, told) for m, told in way.bounds.items() if m.at is not None]
        for at, told in sorted(ends):
            if at <= self.clock.end:
                return (*told, *(c for c in chain if c not in told))
        later = f", only up to {min(ends)[0]}" if ends else ""
        raise QueryError(
            f"rows of `{way.table}` after the end of the frozen database, {self.clock.end}, reach "
            f"the prediction, by {way.name}{later}: read it where its `{way.time}` <= TIMESTAMP "
            f"'{self.clock.end}'"
        )

    # -- seeds and labels ------------------------------------------------------------------------

    def _is_seeds(self, node: Node) -> bool:
        """Whether a node is the seeds', perhaps without columns that nobody reads."""
        own = self.seeds.node
        if node in self.seed_nodes:
            return True
        match own, node:
            case Query(sql, _, tables, ()), Query():
                same = (sql, tables, ()) == (node.sql, node.tables, node.inputs)
                return same and set(node.columns) <= set(own.columns)
            case Scan(table), Scan():
                return table == node.table and self._time(table) is None
        return False

    def _label_tables(self) -> frozenset[str]:
        """The table that holds the seeds with their labels, if it is a table of its own."""
        own = self.seeds.node
        if set(own.names) <= {self.seeds.entity, self.seeds.time}:
            return frozenset()
        tables: set[str] = set()
        if isinstance(own, Scan):
            tables = {own.table}
        elif isinstance(own, Query) and not own.inputs:
            tables = set(own.tables) or {r.table for r in readings(parsed(own.sql), {})}
        if len(tables) != 1 or any(self._time(t) is not None for t in tables):
            return frozenset()
        return frozenset(_plain(t).casefold() for t in tables)

    def _labels_reached(self, how: str) -> QueryError:
        names = [c for c in self.seeds.node.names if c not in (self.seeds.entity, self.seeds.time)]
        return QueryError(
            f"labels are unreachable from a model's inputs, and {how}: the seeds' own "
            f"{listing(names)} may only be read beside the prediction"
        )

    def _check_seeds_come_through(self, node: Node) -> None:
        """QueryError unless the seeds' columns are those of one row of the seeds, unchanged.

        The label of a ranking is not: of each pair it says whether the item is one of the seed's.
        """
        columns = {name: name for name in self.seeds.node.names if name != self.seeds.label}
        while node not in self.seed_nodes:
            below: dict[str, str | None]
            match node:
                case Map(source, outputs):
                    made = dict(outputs)
                    below = {n: _field(made.get(c)) for n, c in columns.items()}
                case Alias(source, alias):
                    below = {n: c.removeprefix(f"{alias}.") for n, c in columns.items()}
                case Select(source) | Window(source):
                    below = dict(columns)
                case Join(left, right, kind) if kind != "full":
                    below = dict(columns)
                    on_left = set(columns.values()) <= set(left.names)
                    source = left if on_left or kind != "inner" else right
                case _:
                    source, below = node, dict.fromkeys(columns)
            columns = {n: c for n, c in below.items() if c is not None and c in source.by_name}
            if len(columns) < len(below):
                lost = listing(n for n in below if n not in columns)
                raise QueryError(
                    f"the seeds' {lost} do not come through as they are, so that it is not known "
                    "which anchor a row belongs to. Join the query to the seeds, and keep theirs"
                )
            node = source
        if any(n != c for n, c in columns.items()):
            raise QueryError(f"columns of the seeds are mixed up: {listing(columns.values())}")

    def _time(self, table: str) -> str | None:
        """The time column of a table, which the database finds in any case of letters."""
        return self.clock.times(table) or self.clock.times(table.casefold())

    # -- nodes -----------------------------------------------------------------------------------

    def _state(self, node: Node) -> _State:
        if node in self.seed_nodes:
            names = set(node.names)
            return _State(labels=frozenset(names - {self.seeds.entity, self.seeds.time}))
        match node:
            case Scan():
                return self._scan(node)
            case Query():
                return self._query(node)
            case Alias(source, name):
                renamed: list[_Output] = [(f"{name}.{c.name}", c.name) for c in source.columns]
                state = self._mapped(source, renamed)
                return replace(state, ways=tuple(_entered(w, name) for w in state.ways))
            case Select():
                return self._select(node)
            case Map():
                return self._map(node)
            case Join():
                return self._join(node)
            case Aggregate():
                return self._aggregate(node)
            case Window(source, outputs):
                state = self.states[source]
                keys = [frozenset(o.partition) for _, o in outputs]
                told = set()
                for name, over in outputs:
                    read = {over.column, *over.partition, *(c for c, _, _ in over.order)}
                    told |= {name} if read & state.labels else set()
                ways = _inside(state, [frozenset(map(Moment, k)) for k in keys], source.by_name)
                return _State(_once(ways), state.order, state.labels | told)
            case Union():
                return self._union(node)
        raise PlanError(f"nothing can be proven of {type(node).__name__}")

    def _scan(self, node: Scan) -> _State:
        if _plain(node.table).casefold() in self.label_tables:
            raise self._labels_reached(f"the model reads `{_plain(node.table)}`")
        time = self._time(node.table)
        if time is None:
            self.visible[node.table] = None
            return _State()
        found = moment(_cast(time), node.by_name)
        bounds: Bounds = {} if found is None else {found: ()}
        lost = f"its `{time}` is not read"
        return _State((_Way(_plain(node.table), time, (), {}).bounded(bounds, lost),))

    def _select(self, node: Select) -> _State:
        state, columns = self.states[node.source], node.by_name
        self._check_content(node.predicate, state, "rows are chosen by them")
        if node.predicate.expression == exp.false():
            return replace(state, ways=())
        ways = _inside(state, _partitions([node.predicate], columns), columns)
        order = state.order.given(node.predicate, columns)
        told = comparisons(node.predicate, columns)
        kept = [
            replace(
                w, bounds=raised(w.bounds, order, told, columns), asks=_widened(w.asks, node, order)
            )
            for w in ways
        ]
        return _State(_once(kept), order, state.labels)

    def _map(self, node: Map) -> _State:
        state, source = self.states[node.source], node.source
        contents = [c for _, v in node.outputs for c in _contents(v)]
        for content in contents:
            self._check_content(content, state, None)
        ways = _inside(state, _partitions(contents, source.by_name), source.by_name)
        outputs: list[_Output] = [
            (n, v.expression if isinstance(v, Content) else None) for n, v in node.outputs
        ]
        told = {n for n, v in node.outputs if v.columns & state.labels}
        made = self._mapped(source, outputs, replace(state, ways=tuple(ways)))
        alias = _prefix(n for n, _ in node.outputs)
        read = _prefix(c for _, v in node.outputs for c in v.columns)
        if alias is not None and alias != read:
            made = replace(made, ways=tuple(_entered(w, alias) for w in made.ways))
        return replace(made, labels=frozenset(told))

    def _mapped(
        self, source: Node, outputs: Sequence[_Output], state: _State | None = None
    ) -> _State:
        """What is known when the rows of a source have other columns."""
        state = self.states[source] if state is None else state
        columns = source.by_name
        values = [
            (n, exp.column(v, quoted=True) if isinstance(v, str) else v)
            for n, v in outputs
            if v is not None
        ]
        images = renaming(values, columns)
        names = {m.name: {i.name for i in found} for m, found in images.items() if not m.cast}
        ways = []
        for way in state.ways:
            bounds = {m: told for m, told in way.bounds.items() if m.constant}
            for name, value in values:
                chain = bounding(value, way.bounds, state.order, columns)
                if chain is not None:
                    bounds[Moment(name)] = chain
            for held, told in way.bounds.items():
                if held.cast:
                    bounds |= dict.fromkeys(images.get(held, ()), told)
            asks = frozenset(a for ask in way.asks if (a := ask.among(names)) is not None)
            left = listing(sorted(str(m) for m in way.bounds if not m.constant))
            lost = f"`{left}` is left out before it is compared with the seed's time"
            ways.append(replace(way.bounded(bounds, lost), asks=asks))
        labels = {name for old in state.labels for name in names.get(old, ())}
        return _State(_once(ways), state.order.through(values, columns), frozenset(labels))

    def _aggregate(self, node: Aggregate) -> _State:
        state, by = self.states[node.source], set(node.by)
        if by & state.labels:
            raise self._labels_reached("rows are grouped by them")
        told = set()
        for name, value in node.outputs:
            read = value.columns if isinstance(value, Content) else {value.column, value.where}
            told |= {name} if read & state.labels else set()
            if isinstance(value, Content):
                self._check_content(value, state, None)
        ways = []
        same = {k: (k,) for k in by}
        for way in state.ways:
            bounds = {m: c for m, c in way.bounds.items() if m.constant or m.name in by}
            asks = {a for ask in way.asks if (a := ask.among(same)) is not None}
            if node.by and not node.outputs:
                asks.add(_asked(node))
            keys = f"GROUP BY {listing(node.by)}" if by else "a group of all rows"
            lost = f"{keys} takes in rows of every time"
            ways.append(replace(way.bounded(bounds, lost), asks=frozenset(asks)))
        order = state.order.only(lambda m: m.name in by)
        return _State(_once(ways), order, frozenset(told))

    def _union(self, node: Union) -> _State:
        states = [self.states[p] for p in node.parts]
        ways = [replace(w, asks=frozenset()) for s in states for w in s.ways]
        upto = frozenset.intersection(*(s.order.upto for s in states))
        present = frozenset.intersection(*(s.order.present for s in states))
        labels = frozenset(n for s in states for n in s.labels)
        return _State(_once(ways), Order(upto, present), labels)

    def _check_content(self, content: Content, state: _State, choosing: str | None) -> None:
        if choosing is not None and content.columns & state.labels:
            raise self._labels_reached(choosing)
        if content.expression.find(exp.Query, exp.Table) is not None:
            raise QueryError(
                f"a sub-query inside `{content}` cannot be followed back to the tables it reads; "
                "write it as a join"
            )

    # -- joins -----------------------------------------------------------------------------------

    def _join(self, node: Join) -> _State:
        left, right = (self.states[s] for s in node.sources)
        labels = left.labels | right.labels
        columns = {**node.left.by_name, **node.right.by_name}
        both = _State(order=left.order | right.order, labels=labels)
        if node.on is not None:
            self._check_content(node.on, both, "rows meet by them")
        pairs = both.order.given(node.on, columns)
        order = _order_after(node, left.order, right.order, pairs)
        told = comparisons(node.on, columns)
        ways = []
        for side, state in ((node.left, left), (node.right, right)):
            for way in state.ways:
                if self._answered(node, side, way, pairs):
                    continue
                bounds = {
                    m: c
                    for m, c in raised(way.bounds, pairs, told, columns).items()
                    if _stays(m, way, node, side) or _bounds_join(m, node, side)
                }
                if node.kind == "inner" or (side is node.right and node.kind in _PRESERVED_LEFT):
                    bounds = raised(bounds, order, (), columns)
                bounds = {m: c for m, c in bounds.items() if m.constant or m.name in node.by_name}
                keeps = node.kind == "inner" or (side is node.left and node.kind != "full")
                asks = _widened(way.asks, node, order) if keeps else frozenset()
                what = "finds and misses" if node.kind != "inner" else "finds"
                lost = f"the {node.kind} join {what} rows of every time"
                ways.append(replace(way.bounded(bounds, lost), asks=asks))
        kept = labels & set(node.names)
        return _State(_once(ways), order, kept)

    def _answered(self, node: Join, side: Node, way: _Way, pairs: Order) -> bool:
        """Whether a path only asked, and the other side's rows are among those that asked."""
        if node.kind != "inner" and (side is node.left or node.kind == "full"):
            return False
        other = node.left if side is node.right else node.right
        for ask in way.asks:
            columns = [k for k, _ in ask.keys]
            choices = [
                [c.name for c in other.columns if any(pairs.equal(c.name, h) for h in here)]
                for _, here in ask.keys
            ]
            for names in islice(product(*choices), 64):
                if _is_part(other, list(names), ask.source, columns):
                    return True
        return False

    # -- queries left to the database ------------------------------------------------------------

    def _query(self, node: Query) -> _State:
        inputs = dict(node.inputs)
        below = {name: self.states[source] for name, source in inputs.items()}
        if any(s.labels for s in below.values()):
            raise self._labels_reached("a query left to the database reads them")
        form = lateral(parsed(node.sql), inputs)
        body = parsed(node.sql) if form is None else form.body
        read = list(readings(body, inputs, None if form is None else form.now))
        ways: list[_Way] = []
        if form is not None:
            for way in below[form.asked].ways:
                chain = way.bounds.get(Moment(form.column))
                ways.append(self._of_query(way, chain, form.anchor, (), "asked for"))
        for reading in read:
            if reading.table in below and reading.given:
                found = below[reading.table].ways
            else:
                found = self._table(reading, node)
            for way in found:
                seen = [m for m in reading.upto if m in way.bounds] if form is not None else []
                chain = None
                if seen and form is not None:
                    told = f"{seen[0]} <= {form.anchor}"
                    chain = (*way.bounds[seen[0]], told)
                ends = [c for m in reading.ends if m in way.bounds for c in reading.ends[m]]
                anchor = "" if form is None else form.anchor
                ways.append(self._of_query(way, chain, anchor, ends, reading.reason))
        return _State(_once(ways))

    def _of_query(
        self,
        way: _Way,
        chain: tuple[str, ...] | None,
        anchor: str,
        ends: Iterable[datetime],
        reason: str,
    ) -> _Way:
        bounds = {m: told for m, told in way.bounds.items() if m.constant}
        bounds |= {Moment(at=at): (f"{way.time} <= {at}",) for at in ends}
        if chain is not None:
            bounds[Moment(anchor)] = chain
        return replace(way.bounded(bounds, reason), asks=frozenset())

    def _table(self, reading: Reading, node: Query) -> tuple[_Way, ...]:
        """The way to a table that a text reads."""
        table = _plain(reading.table)
        if table.casefold() in self.label_tables:
            raise self._labels_reached(f"the model reads `{table}`")
        time = self._time(reading.table)
        for known in node.tables:
            if _plain(known).casefold() == table.casefold():
                time = time or self._time(known)
        if reading.opaque:
            raise QueryError(
                f"what `{table}` reads is not known, so nothing can be said about its time; "
                "CREATE TABLE t AS FROM it"
            )
        if time is None:
            self.visible[reading.table] = None
            return ()
        bounds: Bounds = {Moment(time, cast=True): ()}
        return (_Way(table, time, (), bounds),)


_Output = tuple[str, "exp.Expr | str | None"]


# -- pieces ----------------------------------------------------------------------------------------


def _plain(table: str) -> str:
    return table.replace('"', "")


def _cast(name: str) -> exp.Expr:
    return exp.cast(exp.column(name, quoted=True), "timestamp", dialect="duckdb")


def _field(value: Content | Term | None) -> str | None:
    """The column an output leaves as it is."""
    if isinstance(value, Content):
        return value.field
    return value.name if isinstance(value, Field) else None


def _contents(value: Content | Term) -> list[Content]:
    if isinstance(value, Content):
        return [value]
    return [c for t in value.walk() for c in t.contents]


def _partitions(
    contents: Iterable[Content], columns: Mapping[str, Column]
) -> list[frozenset[Moment]]:
    """What each content window partitions by."""
    found = []
    for content in contents:
        for window in content.expression.find_all(exp.Window):
            keys = [moment(k, columns) for k in window.args.get("partition_by") or []]
            found.append(frozenset(k for k in keys if k is not None))
    return found


def _inside(
    state: _State, partitions: Sequence[frozenset[Moment]], columns: Mapping[str, Column]
) -> list[_Way]:
    """The ways after windows: rows of a partition are seen together."""
    if not partitions:
        return list(state.ways)
    common = frozenset.intersection(*partitions)
    names = {m.name for m in common if not m.cast}
    ways = []
    for way in state.ways:
        kept = {m: c for m, c in way.bounds.items() if m.constant or m in common}
        bounds = raised(kept, state.order, (), columns)
        asks = frozenset(a for a in way.asks if all(here & names for _, here in a.keys))
        keys = f"PARTITION BY {listing(sorted(map(str, common)))}" if common else "of all rows"
        lost = f"a window {keys} looks at rows of every time"
        ways.append(replace(way.bounded(bounds, lost), asks=asks))
    return ways


def _entered(way: _Way, alias: str) -> _Way:
    """The way with an alias before it, once it is one of the user's."""
    if way.inner or _OWN_ALIAS.match(alias):
        return replace(way, inner=True)
    if alias == (way.through[0] if way.through else way.table.rpartition(".")[2]):
        return way
    return replace(way, through=(alias, *way.through))


def _prefix(names: Iterable[str]) -> str | None:
    """The alias that all columns have in common."""
    found = {n.partition(".")[0] if "." in n else None for n in names}
    return found.pop() if len(found) == 1 else None


def _once(ways: Iterable[_Way]) -> tuple[_Way, ...]:
    """Ways that differ in no more than the reasons, once."""
    found: dict[object, _Way] = {}
    for way in ways:
        key = (way.table, way.time, way.through, way.inner, frozenset(way.bounds), way.asks)
        held = found.get(key)
        if held is None or _length(way) < _length(held):
            found[key] = way
    return tuple(found.values())


def _length(way: _Way) -> int:
    return sum(map(len, way.bounds.values()))


def _order_after(node: Join, left: Order, right: Order, pairs: Order) -> Order:
    """What holds in the rows of a join, NULL on the side that is not found."""
    match node.kind:
        case "inner" | "asof":
            return pairs
        case "left" | "asof_left":
            found = frozenset((x, y) for x, y in pairs.upto if x.name in node.right.by_name)
            return Order(left.upto | right.upto | found, left.present)
        case "full":
            return Order(left.upto | right.upto)
        case "semi":
            return pairs.only(lambda m: m.name in node.left.by_name)
    return left


def _stays(bound: Moment, way: _Way, node: Join, side: Node) -> bool:
    """Whether what bounds a path below a join still does.

    Not the moments of the nearest row: a later row takes its place.
    """
    sure = bound.constant or side is node.left or node.kind not in _ASOF
    return sure and bound in way.bounds


def _bounds_join(bound: Moment, node: Join, side: Node) -> bool:
    """Whether what bounds a path in the pairs that meet bounds it in a join.

    Moments of the other side do, unless they can be NULL where nothing is found: rows up to such a
    moment meet the same rows as before. Constants do where the rows after them then never matter.
    """
    if node.kind == "inner":
        return True
    other = node.right if side is node.left else node.left
    if bound.constant:
        return side is node.right and node.kind != "full"
    if side is node.left and node.kind == "anti":
        return False
    return bound.name in other.by_name


def _asked(node: Aggregate) -> _Ask:
    """The distinct rows of an aggregate as keys of where they come from."""
    source: Node = node.source
    columns = {k: k for k in node.by}
    while (below := _copied(source, columns)) is not None:
        source, columns = below
    keys = ((columns[k], frozenset({k})) for k in node.by)
    return _Ask(source, tuple(keys))


def _copied(node: Node, columns: Mapping[str, str]) -> tuple[Node, dict[str, str]] | None:
    """A node whose rows have the same distinct values in the columns, further down."""
    match node:
        case Map(source, outputs):
            made = dict(outputs)
            fields = {k: _field(made[c]) for k, c in columns.items()}
            found = {k: f for k, f in fields.items() if f is not None}
            return (source, found) if len(found) == len(columns) else None
        case Alias(source, alias):
            return source, {k: c.removeprefix(f"{alias}.") for k, c in columns.items()}
        case Aggregate(source, by) if set(columns.values()) <= set(by):
            return source, dict(columns)
    return None


def _is_part(node: Node, names: list[str], whole: Node, columns: list[str]) -> bool:
    """Whether some columns of a node's rows are, together, columns of rows of another node."""
    if node is whole:
        return names == columns
    below = _copied(node, {str(i): n for i, n in enumerate(names)})
    if below is not None:
        return _is_part(below[0], list(below[1].values()), whole, columns)
    match node:
        case Select(source) | Window(source) if set(names) <= set(source.names):
            return _is_part(source, names, whole, columns)
        case Join(left, right, kind) if kind != "full":
            if set(names) <= set(left.names):
                return _is_part(left, names, whole, columns)
            if kind in ("inner", "asof") and set(names) <= set(right.names):
                return _is_part(right, names, whole, columns)
    return False


def _widened(asks: frozenset[_Ask], node: Node, order: Order) -> frozenset[_Ask]:
    """The asks with every column that is equal to one of theirs."""
    names = {
        h: {c.name for c in node.columns if not c.learned and order.equal(c.name, h)}
        for ask in asks
        for _, here in ask.keys
        for h in here
    }
    return frozenset(a for ask in asks if (a := ask.among(names)) is not None)
