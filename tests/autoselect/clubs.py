"""A small database in which people meet in every way there is, drawn at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations_with_replacement
from random import Random
from typing import Any

import duckdb

from relann.autoselect.ground import Ground
from relann.models.tasks import Kind, Task
from relann.schema import Catalog, ForeignKey, Relation, Schema

Meeting = tuple[Any, Any, datetime]
"""(entity, what it may meet others at, since when this is known)"""

_TABLES = """
CREATE TABLE people (id INTEGER, team INTEGER, joined TIMESTAMP);
CREATE TABLE teams (id INTEGER, town VARCHAR);
CREATE TABLE games (id INTEGER, host INTEGER, guest INTEGER, day DATE);
CREATE TABLE plays (id INTEGER, person INTEGER, game INTEGER, began TIMESTAMP);
CREATE TABLE knows (a INTEGER, b INTEGER, since TIMESTAMP);
CREATE TABLE "the seeds" (who INTEGER, "when" TIMESTAMP, y {label}, part VARCHAR);
"""


def day(number: int) -> datetime:
    return datetime(2020, 1, 1) + timedelta(days=number)


def database(label: str = "INTEGER") -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute(_TABLES.format(label=label)).fetchall()
    return con


def fill(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Sequence[object]]) -> None:
    for row in rows:
        marks = ", ".join("?" * len(row))
        con.execute(f'INSERT INTO "{table}" VALUES ({marks})', list(row)).fetchall()


def drawn(random: Random, con: duckdb.DuckDBPyConnection, labels: Sequence[object]) -> None:
    """Rows with NULLs, keys that name nobody, equal times and seeds that are there twice."""

    def one(*values: object) -> Any:
        return random.choice([*values, *values, None])

    def when() -> Any:
        return one(*(day(k) for k in range(1, 13)))

    def date() -> object:
        found = when()
        return None if found is None else found.date()

    fill(con, "people", [(i, one(1, 2, 3), when()) for i in range(6)])
    fill(con, "teams", [(1, "A"), (2, "B")])
    fill(con, "games", [(i, one(0, 1, 2, 9), one(2, 3, 4), date()) for i in range(9)])
    people, games = range(7), (0, 1, 2, 3, 10)
    fill(con, "plays", [(i, one(*people), one(*games), when()) for i in range(14)])
    fill(con, "knows", [(one(*people), one(*people), when()) for _ in range(8)])
    seeds = [
        (one(*people), when(), one(*labels), random.choice(["train"] * 4 + ["val", "test"]))
        for _ in range(60)
    ]
    fill(con, "the seeds", seeds)


def ground(con: duckdb.DuckDBPyConnection, kind: Kind, horizon: str | None) -> Ground:
    """A task on it, its keys stated and not found out."""
    catalog = Catalog(con)

    def relation(name: str, key: str | None, time: str | None, **foreign: str) -> Relation:
        table = catalog.table(f'"{name}"')
        assert table is not None
        keys = tuple(ForeignKey(c, f'"{to}"', "id") for c, to in foreign.items())
        return Relation(table, key, time, keys)

    relations = [
        relation("people", "id", "joined", team="teams"),
        relation("teams", "id", None),
        relation("games", "id", "day", host="people", guest="people"),
        relation("plays", "id", "began", person="people", game="games"),
        relation("knows", None, "since", a="people", b="people"),
    ]
    task = Task(
        name="t",
        entity="who",
        table='"people"',
        key="id",
        time="when",
        label="y",
        split="part",
        kind=kind,
        horizon=horizon,
        seeds='"the seeds"',
    )
    return Ground(con, task, Schema({r.table.name: r for r in relations}))


def meetings(con: duckdb.DuckDBPyConnection) -> dict[str, tuple[list[Meeting], list[Meeting]]]:
    """By the name of each path, what its two sides are."""

    def rows(table: str) -> list[tuple[Any, ...]]:
        return con.execute(f'SELECT * FROM "{table}"').fetchall()

    def known(*given: tuple[Any, Any, Sequence[datetime | None]]) -> Iterator[Meeting]:
        for entity, place, times in given:
            if entity is not None and None not in times:
                yield entity, place, max(t for t in times if t is not None)

    people = {i: joined for i, _, joined in rows("people")}
    teams = {i for i, _ in rows("teams")}
    games = {i: d and datetime(d.year, d.month, d.day) for i, _, _, d in rows("games")}
    mates = [*known(*((i, t, [j]) for i, t, j in rows("people") if t in teams))]
    played = [*known(*((p, g, [at, games[g]]) for _, p, g, at in rows("plays") if g in games))]
    hosted = [*known(*((h, i, [games[i]]) for i, h, _, _ in rows("games")))]
    visited = [*known(*((g, i, [games[i]]) for i, _, g, _ in rows("games")))]
    ab = [*known(*((a, b, [s, people[b]]) for a, b, s in rows("knows") if b in people))]
    ba = [*known(*((b, a, [s, people[a]]) for a, b, s in rows("knows") if a in people))]
    # a row without a key is told from others by whom it names
    of_a = [*known(*((a, (a, b), [s]) for a, b, s in rows("knows")))]
    of_b = [*known(*((b, (a, b), [s]) for a, b, s in rows("knows")))]
    lines = rows("games")
    hg = [*known(*((h, g, [games[i], people[g]]) for i, h, g, _ in lines if g in people))]
    gh = [*known(*((g, h, [games[i], people[h]]) for i, h, g, _ in lines if h in people))]
    at_people = {"games(host, guest)": hg, "games(guest, host)": gh}
    at_people |= {"knows(a, b)": ab, "knows(b, a)": ba}
    found = {
        f"people ← {one} → people ← {other} → people": (at_people[one], at_people[other])
        for one, other in combinations_with_replacement(at_people, 2)
    }
    return {
        **found,
        "people → teams ← people": (mates, mates),
        "people ← plays → games ← plays → people": (played, played),
        "people ← games(host, guest) → people": (hosted, visited),
        "people ← games(host) ← plays → people": (hosted, played),
        "people ← games(guest) ← plays → people": (visited, played),
        "people ← knows(a, b) → people": (of_a, of_b),
    }


@dataclass(frozen=True)
class Label:
    """A training seed, and when its label is known."""

    who: int
    when: datetime
    y: Any
    known: datetime


def labels(con: duckdb.DuckDBPyConnection, horizon: int | None) -> list[Label]:
    """The training seeds, one for each entity and anchor: the one of the larger label."""
    found: dict[tuple[int, datetime], Any] = {}
    for who, when, y, part in con.execute('SELECT * FROM "the seeds"').fetchall():
        if part == "train" and None not in (who, when, y):
            found[who, when] = max(y, found.get((who, when), y))
    ahead = timedelta(days=horizon or 0)
    return [Label(who, when, y, when + ahead) for (who, when), y in found.items()]


def usable(label: Label, anchor: datetime, horizon: int | None) -> bool:
    return label.when < anchor if horizon is None else label.known <= anchor


def latest(
    seeds: Sequence[Label], who: int, anchor: datetime, horizon: int | None, back: int = 0
) -> Any:
    """The label of an entity known at an anchor, `back` before the latest; None for none."""
    known = [s for s in seeds if s.who == who and usable(s, anchor, horizon)]
    known.sort(key=lambda s: s.when, reverse=True)
    return known[back].y if len(known) > back else None


def pairs(
    sides: tuple[list[Meeting], list[Meeting]], seeds: Sequence[Label], horizon: int | None
) -> set[tuple[Any, ...]]:
    """(u, anchor, y, v, z) by definition."""
    found = set()
    for own, their in (sides, sides[::-1]):
        for seed in seeds:
            for e, x, since in own:
                if e != seed.who or since > seed.when:
                    continue
                for v, at, there in their:
                    if at == x and v != e and there <= seed.when:
                        z = latest(seeds, v, seed.when, horizon)
                        if z is not None:
                            found.add((seed.who, seed.when, seed.y, v, z))
    return found
