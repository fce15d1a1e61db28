"""Row maps of a task's query for some of its seeds at a time, where those of all take too much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from relann.algebra.engines.protocol import Engine, Ints
from relann.algebra.refine import refine
from relann.algebra.rowmaps import RowMaps, running
from relann.algebra.seeded import CHUNK, Seeded, bytes_of
from relann.algebra.sql import node_to_sql
from relann.algebra.terms import quoted
from relann.errors import DataError
from relann.models.program import Program, check_one_row
from relann.models.splits import NAMES, Numbers
from relann.provenance.inputs import encoded_bytes
from relann.schema import duckdb_message

_SEEDS = 'temp."relann seeds"'
_NUMBER = '"#seed"'
_CHOSEN = "relann chosen"
_SAMPLE = 256  # seeds at least, and a 16th of all: two sizes say how maps grow
_LEAST = 1 / 8  # of the limit is for chunks, however much is taken by what all seeds share


@dataclass(frozen=True)
class Growth:
    """What grows with the number of seeds as n^`power`: `most` at `at` seeds, both measured."""

    at: int
    most: float
    power: float

    @classmethod
    def of(cls, few: tuple[int, float], more: tuple[int, float]) -> Growth:
        """From two measurements; never faster than the seeds, never shrinking."""
        (n, less), (at, most) = few, more
        if not less or not most or n == at:
            return cls(at, most, 1.0)
        return cls(at, most, min(1.0, max(0.0, math.log(most / less) / math.log(at / n))))

    def __call__(self, seeds: float) -> float:
        return float(self.most * (seeds / self.at) ** self.power) if self.at else 0.0


@dataclass(frozen=True)
class Sizes:
    """What row maps and their encoded columns take.

    fixed    bytes of what is the same for all seeds
    varying  bytes of the other spaces, by number of seeds
    seeds    how many there are
    """

    fixed: int
    varying: Sequence[Growth]
    seeds: int

    def of(self, seeds: float) -> float:
        """Bytes for some seeds, without what is the same for all."""
        return sum(growth(seeds) for growth in self.varying)

    @property
    def whole(self) -> float:
        """Bytes for all seeds."""
        return self.fixed + self.of(self.seeds)

    def share(self, limit: int, chunks: int) -> float:
        """Bytes that each of so many chunks held at once may take."""
        return max(limit - self.fixed, limit * _LEAST) / chunks

    def most(self, share: float) -> int:
        """How many seeds take no more than a share; at least one."""
        low, high = 1, max(1, self.seeds)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.of(middle) <= share else (low, middle - 1)
        return low


class SeedMaps:
    """Row maps of a program for any of its seeds, which are numbered.

    Two temporary tables are on the connection until `close`.

    sizes   what row maps of so many seeds take, by two samples of them
    plan    the plan that runs, the same for all seeds
    splits  for each seed 'train', 'val', 'test' or ''
    known   which seeds have a label
    """

    def __init__(
        self,
        program: Program,
        engine: Engine,
        connection: duckdb.DuckDBPyConnection,
        split: str | None = None,
        label: str | None = None,
    ) -> None:
        assert program.moment is not None
        self.engine = engine
        self.connection = connection
        self._seeds = program.moment.seeds
        try:
            self._run(
                f"CREATE OR REPLACE TEMP TABLE {_SEEDS} AS "
                f"SELECT row_number() OVER () - 1 AS {_NUMBER}, s.* "
                f"FROM ({node_to_sql(self._seeds.node)}) AS s"
            )
            named = "''" if split is None else quoted(split)
            known = "true" if label is None else f"{quoted(label)} IS NOT NULL"
            found = self.connection.sql(
                f"SELECT {named} AS split, {known} AS known FROM {_SEEDS} ORDER BY {_NUMBER}"
            ).to_arrow_table()
            said = [NAMES.get(s, "") for s in found["split"].to_pylist()]
            self.splits = np.array(said, dtype="U5")
            self.known = found["known"].to_numpy()
            self._show(np.empty(0, dtype=np.int64))
            self.seeded = Seeded.of(program.plan, self._seeds.node, engine)
            self.sizes, counts = self._measured()
            self.plan = refine(self.seeded.plan, counts)
        except duckdb.Error as error:
            self.close()
            raise DataError(f"the seeds cannot be read: {duckdb_message(error)}") from error
        except BaseException:
            self.close()
            raise

    @property
    def count(self) -> int:
        """How many seeds there are."""
        return len(self.splits)

    def of(self, split: str) -> Numbers:
        """The labelled seeds of a split."""
        return np.flatnonzero((self.splits == split) & self.known)

    def build(self, seeds: Numbers) -> tuple[RowMaps, dict[int, object]]:
        """The row maps of the plan that runs for some seeds, and the relation of each space.

        DataError where the query has not one row for each of them.
        """
        maps, held = self._built(seeds)
        check_one_row(self._seeds, maps, lambda: len(seeds))
        return running(maps, self.plan), held

    def close(self) -> None:
        """Drop the tables."""
        with suppress(duckdb.Error):  # an error that ended the transaction has undone them
            for table in (_SEEDS, CHUNK):
                self.connection.execute(f"DROP TABLE IF EXISTS {table}").fetchall()

    def _built(self, seeds: Numbers) -> tuple[RowMaps, dict[int, object]]:
        self._show(seeds)
        return self.seeded.build(self.engine)

    def _show(self, seeds: Numbers) -> None:
        """Make the seeds those of the maps that are built next."""
        self.connection.register(_CHOSEN, pa.table({"n": pa.array(seeds, pa.int64())}))
        try:
            self._run(
                f"CREATE OR REPLACE TEMP TABLE {CHUNK} AS SELECT * EXCLUDE ({_NUMBER}) "
                f'FROM {_SEEDS} SEMI JOIN "{_CHOSEN}" ON n = {_NUMBER} ORDER BY {_NUMBER}'
            )
        finally:
            with suppress(duckdb.Error):  # the same
                self.connection.unregister(_CHOSEN)

    def _run(self, sql: str) -> None:
        try:
            self.connection.execute(sql).fetchall()
        except duckdb.Error as error:
            raise DataError(f"the seeds cannot be read: {duckdb_message(error)}") from error

    def _measured(self) -> tuple[Sizes, dict[int, int]]:
        """How large maps are, and how many rows each space has for all seeds, by two samples."""
        order = np.random.default_rng(0).permutation(self.count)
        more = min(self.count, max(_SAMPLE, self.count // 16))
        encoded = encoded_bytes(self.seeded.plan)
        found = []
        for number in (more // 2, more):
            maps, _ = self._built(np.sort(order[:number]))
            size = bytes_of(maps)
            taken = {s: size[s] + encoded[s] * maps.counts[s] for s in size}
            found.append((number, taken, dict(maps.counts)))
        (few, less, fewer), (most, large, larger) = found
        varying = self.seeded.varying
        counts = dict(larger)
        for s in varying:
            grown = Growth.of((few, fewer[s]), (most, larger[s]))
            counts[s] = max(larger[s], round(grown(self.count)))
        bytes_by = [Growth.of((few, less[s]), (most, large[s])) for s in sorted(varying)]
        fixed = sum(n for s, n in large.items() if s not in varying)
        return Sizes(fixed, bytes_by, self.count), counts


@dataclass(frozen=True)
class Cutting:
    """How seeds are cut into chunks.

    train, val  the numbers of the seeds of each chunk
    kept        whether the validation's only chunk is built once and held
    """

    train: tuple[Numbers, ...]
    val: tuple[Numbers, ...]
    kept: bool


def cut_up(maps: SeedMaps, limit: int, size: int, seed: int) -> Cutting:
    """Training and validation seeds in chunks, three of which are held at once.

    A chunk of training seeds is drawn at random and has a whole number of batches of `size`, but
    the last; validation seeds stay in order, and where one chunk takes them all it is `kept`.
    """
    most = maps.sizes.most(maps.sizes.share(limit, 3))
    train, val = maps.of("train"), maps.of("val")
    drawn = np.random.default_rng(seed).permutation(train)
    whole = max(size, most // size * size)
    even = -(-len(train) // -(-len(train) // whole)) if len(train) else 1
    each = max(size, -(-even // size) * size)
    parts = tuple(np.sort(drawn[b : b + each]) for b in range(0, len(drawn), each))
    pieces = pieces_of(val, most)
    return Cutting(parts, pieces, len(pieces) == 1)


def pieces_of(rows: Numbers, most: int) -> tuple[Numbers, ...]:
    """Rows in as few pieces as there must be, about equally long, in order."""
    if not len(rows):
        return ()
    return tuple(np.array_split(rows, -(-len(rows) // most)))


def chunk_order(seed: int, epoch: int, chunks: int) -> Ints:
    """In which order an epoch, counted from 1, takes the chunks of training seeds."""
    return np.random.default_rng([seed, epoch]).permutation(chunks)
