"""Row maps in chunks of seeds: how seeds are cut, what chunks take, what training makes of them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

import relann
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.parse import statements
from relann.algebra.rowmaps import build
from relann.algebra.seeded import bytes_of
from relann.algebra.statements import CreateModel
from relann.bound_models import BoundModels, options_of
from relann.models.ahead import Ahead
from relann.models.batches import Batches, Part
from relann.models.chunked import fit_in_chunks
from relann.models.chunks import Cutting, Growth, SeedMaps, Sizes, chunk_order, cut_up, pieces_of
from relann.models.memory import available, in_words, limit, parsed_limit
from relann.models.options import Options
from relann.models.program import Program
from relann.models.training import learning_of
from relann.provenance.encoders import Encoders, Standard, Vocabulary
from relann.provenance.fitting import Moments
from relann.provenance.inputs import encoded_bytes
from relann.provenance.slices import cut
from tests.shops import YEARS_OF_ORDERS

SHOP = f"""
{YEARS_OF_ORDERS}CREATE TASK churn OPTIONS (val = '2023-07-01', test = '2023-10-01') AS
    PREDICT COUNT(orders.*, 0, 30, days) = 0 FOR EACH customers.customer_id;
"""

TWO_HOPS = """
WITH p AS (SELECT sku, count(*) AS n, avg(total) AS mean, max(ordered_at) AS latest
           FROM orders GROUP BY sku),
     h AS (SELECT o.customer_id,
                  avg(relu(linear(numeric(o.total), 8) + linear(numeric(p.n), 8)
                           + linear(numeric(p.mean), 8) + category(p.n % 5, 8)
                           + time_since(p.latest, 8) + features(q, 8))) AS z
           FROM orders o JOIN p USING (sku) JOIN products q USING (sku) GROUP BY o.customer_id)
SELECT c.customer_id, linear(relu(features(c, 8) + linear(coalesce(h.z, 0), 8)), 1) AS logit
FROM customers c LEFT JOIN h USING (customer_id)
"""

SHARED = """
WITH s AS (SELECT sku, count(*) AS n, avg(total) AS mean, max(ordered_at) AS latest
           FROM orders GROUP BY sku),
     e AS (SELECT sku, relu(linear(numeric(n), 8) + linear(numeric(mean), 8) + category(n % 5, 8)
                            + features(s, 8)) AS z FROM s),
     h AS (SELECT o.customer_id, avg(relu(linear(e.z, 8) + linear(features(o, 8), 8))) AS z
           FROM orders o JOIN e USING (sku) GROUP BY o.customer_id)
SELECT c.customer_id, linear(relu(features(c, 8) + linear(coalesce(h.z, 0), 8)), 1) AS logit
FROM customers c LEFT JOIN h USING (customer_id)
"""

QUERIES = {
    "two hops": TWO_HOPS,
    "rows that seeds share": SHARED,
    "every path of the schema": "FROM sage(layers => 2, width => 8)",
    "aggregated features": """
        WITH o AS (SELECT customer_id, count(*) AS n, sum(total) AS spent, max(ordered_at) AS latest
                   FROM orders GROUP BY customer_id)
        SELECT c.customer_id, linear(relu(category(c.country, 8) + linear(numeric(o.n), 8)
               + linear(numeric(o.spent), 8) + time_since(o.latest, 8)), 1) AS logit
        FROM customers c LEFT JOIN o USING (customer_id)""",
    "attention": """
        WITH m AS (SELECT customer_id, linear(features(o, 4), 4) AS v, features(o, 4) AS k
                   FROM orders o),
             a AS (SELECT customer_id, v, softmax(linear(k, 1)) OVER (PARTITION BY customer_id) AS w
                   FROM m),
             h AS (SELECT customer_id, sum(v * w) AS z FROM a GROUP BY customer_id)
        SELECT c.customer_id, linear(coalesce(h.z, 0), 1) AS logit
        FROM customers c LEFT JOIN h USING (customer_id)""",
    "orders and products stacked": """
        WITH u AS (SELECT customer_id, features(o, 4) AS x FROM orders o
                   UNION ALL
                   SELECT o.customer_id, features(q, 4) AS x
                   FROM orders o JOIN products q USING (sku)),
             h AS (SELECT customer_id, avg(relu(x)) AS z FROM u GROUP BY customer_id)
        SELECT c.customer_id, linear(coalesce(h.z, 0), 1) AS logit
        FROM customers c LEFT JOIN h USING (customer_id)""",
}


@pytest.fixture(scope="module")
def shop(one_thread: None) -> Iterator[relann.Session]:
    with relann.connect() as session:
        session.sql(SHOP)
        yield session


def asked(session: relann.Session, query: str, **more: object) -> tuple[Program, Options]:
    (statement,) = statements(
        f"CREATE MODEL m OPTIONS (task = 'churn', batch_size = 32, epochs = 3) AS {query}"
    )
    assert isinstance(statement, CreateModel)
    models = BoundModels(session.connection, session.store)
    options, moment = models.moment(options_of(statement))
    layers = models.layers()
    made = models.program(statement.body, "m", options, layers, models.training(options, moment))
    return made, options.model_copy(update=more)


def opened(session: relann.Session, program: Program, options: Options) -> SeedMaps:
    return SeedMaps(
        program,
        DuckDBEngine(session.connection),
        session.connection,
        options.split,
        options.label,
    )


class Grouped:
    """Batches of row maps of all seeds, in the order in which chunks would have them."""

    def __init__(self, batches: Batches, chunks: list[np.ndarray], seed: int) -> None:
        self.batches, self.chunks, self.seed, self.epoch = batches, chunks, seed, 0
        self.targets, self.count = batches.targets, batches.count

    def shuffled(self, source: np.random.Generator) -> Iterator[tuple[Part, Tensor]]:
        self.epoch += 1
        for number in chunk_order(self.seed, self.epoch, len(self.chunks)):
            places = self.chunks[number]
            order = source.permutation(len(places))
            for begin in range(0, len(order), 32):
                yield self.batches._part(np.sort(places[order[begin : begin + 32]]))

    def ordered(self) -> list[tuple[Part, Tensor]]:
        raise AssertionError("only training rows are grouped")


def standards_of(encoders: Encoders) -> dict[str, tuple[float, float]]:
    return {site: (s.mean, s.std) for site, s in encoders.standards.items()}


@pytest.mark.parametrize(
    ("name", "own_thread"), [("two hops", True), *((name, False) for name in QUERIES)]
)
def test_losses_are_those_of_whole_row_maps(
    shop: relann.Session, name: str, own_thread: bool
) -> None:
    """The same batches in the same order, one time from maps of all seeds, one time from chunks."""
    program, options = asked(shop, QUERIES[name])
    whole = build(program.plan, DuckDBEngine(shop.connection))
    maps = opened(shop, program, options)
    try:
        drawn = np.random.default_rng(0).permutation(np.flatnonzero(maps.splits == "train"))
        chunks = tuple(np.sort(c) for c in np.array_split(drawn, 4))
        val = np.flatnonzero(maps.splits == "val")
        cutting = Cutting(chunks, (val[:40], val[40:]), False)
        interrupt = shop.connection.interrupt if own_thread else None
        found = fit_in_chunks(maps, cutting, options, interrupt)
        key = 'SELECT customer_id, anchor FROM temp."relann seeds" ORDER BY "#seed"'
        seeds = shop.connection.execute(key).fetchall()
    finally:
        maps.close()
    learning = learning_of(whole, options)
    assert isinstance(learning.train, Batches)
    contents = dict(whole.plan.contents)
    output = [whole.columns[whole.plan.output, contents[n]] for n in ("customer_id", "anchor")]
    row_of = {k: i for i, k in enumerate(zip(*(c.to_pylist() for c in output), strict=True))}
    places = [
        np.sort(np.searchsorted(learning.train.rows, [row_of[seeds[s]] for s in c])) for c in chunks
    ]
    learning.train = Grouped(learning.train, places, options.seed)
    expected = list(learning.epochs())
    learning.finish()
    curve = found.curve.to_pylist()
    for ours, theirs in zip(curve, expected, strict=True):
        assert ours["loss"] == pytest.approx(theirs.loss, rel=1e-6)
        assert ours["validation_loss"] == pytest.approx(theirs.validation_loss, rel=1e-6)
        assert ours["validation"] == pytest.approx(theirs.validation, rel=1e-6)
    for weight, value in learning.best_state.items():
        torch.testing.assert_close(found.weights[weight], value, rtol=1e-4, atol=1e-5)
    theirs = learning.module.encoders
    ours = found.encoders
    assert {s: v.table.to_pylist() for s, v in ours.vocabularies.items()} == {
        s: v.table.to_pylist() for s, v in theirs.vocabularies.items()
    }
    assert ours.periods == theirs.periods
    assert standards_of(ours).keys() == standards_of(theirs).keys()
    for site, numbers in standards_of(ours).items():
        assert numbers == pytest.approx(standards_of(theirs)[site], rel=1e-12)


def test_encoders_do_not_depend_on_how_seeds_are_cut(shop: relann.Session) -> None:
    program, options = asked(shop, SHARED, epochs=1)
    states = []
    for number in (2, 9):
        maps = opened(shop, program, options)
        try:
            train, val = (np.flatnonzero(maps.splits == s) for s in ("train", "val"))
            drawn = np.random.default_rng(number).permutation(train)
            cutting = Cutting(tuple(np.array_split(drawn, number)), (val,), True)
            states.append(fit_in_chunks(maps, cutting, options, None).encoders)
        finally:
            maps.close()
    few, many = states
    for site, vocabulary in few.vocabularies.items():
        assert vocabulary.table.equals(many.vocabularies[site].table)
    for site, numbers in standards_of(few).items():
        assert numbers == pytest.approx(standards_of(many)[site], rel=1e-12)


def test_a_chunk_is_what_the_whole_maps_hold_of_its_seeds(shop: relann.Session) -> None:
    """Row by row the same content, in the same order."""
    program, options = asked(shop, QUERIES["every path of the schema"])
    whole = build(program.plan, DuckDBEngine(shop.connection))
    maps = opened(shop, program, options)
    try:
        key = 'SELECT customer_id, anchor FROM temp."relann seeds" ORDER BY "#seed"'
        seeds = shop.connection.execute(key).fetchall()
        chosen = np.arange(3, maps.count, 7)
        part, _ = maps.build(chosen)
    finally:
        maps.close()
    contents = dict(whole.plan.contents)
    output = [whole.columns[whole.plan.output, contents[n]] for n in ("customer_id", "anchor")]
    row_of = {k: i for i, k in enumerate(zip(*(c.to_pylist() for c in output), strict=True))}
    rows = np.sort([row_of[seeds[s]] for s in chosen])
    expected = cut(whole, rows).maps
    own = cut(part, np.arange(part.counts[part.plan.output])).maps
    assert own.counts == expected.counts
    for place, values in expected.columns.items():
        assert own.columns[place].equals(values)
    for gather in expected.gathers.keys() & own.gathers.keys():
        np.testing.assert_array_equal(own.gathers[gather], expected.gathers[gather])
    for space, ids in expected.groups.items():
        np.testing.assert_array_equal(own.groups[space], ids)


def test_sizes_are_told_from_samples(shop: relann.Session) -> None:
    program, options = asked(shop, TWO_HOPS)
    whole = build(program.plan, DuckDBEngine(shop.connection))
    maps = opened(shop, program, options)
    maps.close()
    each = encoded_bytes(program.plan)
    held = sum(n + each[s] * whole.counts[s] for s, n in bytes_of(whole).items())
    assert 0.7 < maps.sizes.whole / held < 1.4
    assert sum(bytes_of(whole).values()) == whole.nbytes()


# -- how seeds are cut ---------------------------------------------------------------------------


def test_growth_is_a_power_between_none_and_linear() -> None:
    assert Growth.of((100, 10.0), (200, 20.0))(800) == pytest.approx(80)
    assert Growth.of((100, 10.0), (200, 10.0))(800) == pytest.approx(10)
    assert Growth.of((100, 10.0), (200, 90.0))(400) == pytest.approx(180)  # no faster than seeds
    assert Growth.of((0, 0.0), (1, 5.0))(4) == pytest.approx(20)
    assert Growth.of((0, 0.0), (0, 0.0))(4) == 0


def test_shares_and_the_seeds_they_take() -> None:
    sizes = Sizes(1000, [Growth(10, 100.0, 1.0)], 500)
    assert sizes.whole == 6000
    assert sizes.share(4000, 3) == 1000
    assert sizes.most(1000) == 100
    assert sizes.share(800, 2) == 50  # an eighth, though what is shared takes more than there is
    assert sizes.most(1) == 1


class Fake:
    """Seeds that take ten bytes each."""

    def __init__(self, train: int, val: int) -> None:
        self.splits = np.array(["val"] * val + ["train"] * train)
        self.known = np.ones(train + val, dtype=bool)
        self.known[-1] = False
        self.sizes = Sizes(0, [Growth(1, 10.0, 1.0)], train + val)

    of = SeedMaps.of


def test_chunks_are_whole_batches_of_all_labelled_seeds() -> None:
    maps = Fake(1001, 100)
    found = cut_up(maps, 3 * 3000, 64, 0)  # type: ignore[arg-type]
    assert [len(c) for c in found.train] == [256, 256, 256, 232]
    assert found.kept and len(found.val) == 1
    together = np.sort(np.concatenate(found.train))
    np.testing.assert_array_equal(together, np.arange(100, 1100))
    same = cut_up(maps, 3 * 3000, 64, 0)  # type: ignore[arg-type]
    assert all((a == b).all() for a, b in zip(found.train, same.train, strict=True))
    other = cut_up(maps, 3 * 3000, 64, 1)  # type: ignore[arg-type]
    assert any((a != b).any() for a, b in zip(found.train, other.train, strict=True))


def test_a_chunk_has_a_batch_at_least() -> None:
    found = cut_up(Fake(100, 100), 60, 32, 0)  # type: ignore[arg-type]
    assert [len(c) for c in found.train] == [32, 32, 32, 3]
    assert not found.kept and [len(c) for c in found.val] == [2] * 50


def test_pieces() -> None:
    assert pieces_of(np.arange(0), 3) == ()
    assert [list(p) for p in pieces_of(np.arange(7), 3)] == [[0, 1, 2], [3, 4], [5, 6]]


# -- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        ("2GB", 2e9, "b"),
        ("1.5 GiB", 1.5 * 2**30, "b"),
        (" 500 mb ", 5e8, "b"),
        ("64 bytes", 64, "b"),
        ("3KiB", 3072, "b"),
        ("25%", 0.25, "%"),
    ],
)
def test_sizes_as_they_are_written(text: str, number: float, unit: str) -> None:
    assert parsed_limit(text) == (number, unit)


@pytest.mark.parametrize("text", ["", "2", "GB", "-1GB", "0GB", "2 XB", "101%", "0%", "1e9B"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        parsed_limit(text)


def system(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_what_is_available(tmp_path: Path) -> None:
    assert available(tmp_path) is None
    system(tmp_path, proc__meminfo="MemTotal: 900 kB\nMemAvailable: 500 kB\n")
    assert available(tmp_path) == 500 * 1024
    system(tmp_path, proc__self__cgroup="1:cpu:/x\n0::/jobs/one\n")
    system(tmp_path, sys__fs__cgroup__jobs__one__memory=".")
    folder = tmp_path / "sys/fs/cgroup/jobs"
    (folder / "memory.max").write_text("300000\n")
    (folder / "memory.current").write_text("200000\n")
    assert available(tmp_path) == 100_000  # the group above bounds it
    (folder / "memory.stat").write_text("anon 5\ninactive_file 30000\n")
    assert available(tmp_path) == 130_000
    (folder / "memory.max").write_text("max\n")
    assert available(tmp_path) == 500 * 1024


def test_what_is_available_in_a_group_of_version_1(tmp_path: Path) -> None:
    system(tmp_path, proc__meminfo="MemAvailable: 500 kB\n", proc__self__cgroup="4:cpu,memory:/a\n")
    folder = tmp_path / "sys/fs/cgroup/memory"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("1000")
    (folder / "memory.usage_in_bytes").write_text("1200")
    assert available(tmp_path) == 0


def test_a_limit() -> None:
    assert limit("3kB", "1 GB") == 3000
    here = available()
    half, whole = limit(None, "1000 B"), limit("100%", "1000 B")
    assert half == 500 if here is None else 0 < half < whole * 0.7


def test_bytes_in_words() -> None:
    assert [in_words(n) for n in (12, 4100, 2.5e6, 1.234e10)] == ["12 B", "4.1 kB", "2.5 MB",
                                                                 "12.3 GB"]  # fmt: skip


# -- fitted piece by piece -----------------------------------------------------------------------


def test_moments_are_those_of_all_numbers() -> None:
    draw = np.random.default_rng(0)
    parts = [draw.normal(5, 3, 100), draw.normal(-2, 1e6, 7), np.array([]), np.array([np.nan, 4.0])]
    total = Moments()
    for part in parts:
        total = total.merged(Moments.of(part))
    expected = Standard.fit(parts)
    assert (total.standard().mean, total.standard().std) == pytest.approx(
        (expected.mean, expected.std), rel=1e-12
    )
    assert Moments().standard() == Standard.fit([np.array([])])
    same = Moments.of(np.full(3, 7.5)).merged(Moments.of(np.full(2, 7.5)))
    assert same.standard() == Standard.fit([np.full(5, 7.5)])
    huge = Moments.of(np.array([1e300, -1e300])).merged(Moments.of(np.array([1e-300])))
    assert np.isfinite(huge.standard().std)


def test_vocabularies_of_parts_are_those_of_the_whole() -> None:
    first, second = pa.array(["b", "a", None, "b"]), pa.array(["c", None, "a", "a", "d"])
    parts = Vocabulary.fit([[first]]).merged(Vocabulary.fit([[second]]))
    whole = Vocabulary.fit([[pa.concat_arrays([first, second])]])
    assert parts.first(None).table.equals(whole.table)
    both = Vocabulary.fit([[pa.concat_arrays([first, second])]], 2)
    assert parts.first(2).table.equals(both.table)


# -- ahead ---------------------------------------------------------------------------------------


def test_the_next_one_is_made_while_one_is_used() -> None:
    made = threading.Event()

    def make(key: int) -> str:
        if key == 1:
            made.set()
        return f"{key} by {threading.current_thread().name.startswith('relann')}"

    with Ahead(iter(range(3)), make, lambda: None) as ahead:
        assert ahead.take() == (0, "0 by True")
        assert made.wait(5)
        assert [ahead.take() for _ in range(2)] == [(1, "1 by True"), (2, "2 by True")]
    with Ahead(iter(range(3)), make, None) as ahead:
        assert ahead.take() == (0, "0 by False")


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals of threads")
def test_an_interrupt_of_who_waits() -> None:
    """Ctrl-C while the main thread waits for what the other one makes."""
    asked_to_stop = threading.Event()
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
    with (
        pytest.raises(KeyboardInterrupt),
        Ahead(iter([0]), lambda key: asked_to_stop.wait(20), asked_to_stop.set) as ahead,
    ):
        timer.start()
        ahead.take()
    timer.join()
    assert not any(t.name.startswith("relann") for t in threading.enumerate())


def test_an_error_is_raised_where_its_thing_is_taken() -> None:
    def make(key: int) -> int:
        return 1 // key

    with Ahead(iter([1, 0]), make, lambda: None) as ahead:
        assert ahead.take() == (1, 1)
        with pytest.raises(ZeroDivisionError):
            ahead.take()
    assert not any(t.name.startswith("relann") for t in threading.enumerate())


def test_leaving_interrupts_what_is_being_made() -> None:
    asked_to_stop, begun = threading.Event(), threading.Event()

    def make(key: int) -> None:
        if key:
            begun.set()
            assert asked_to_stop.wait(10)

    with pytest.raises(KeyboardInterrupt), Ahead(iter([0, 1]), make, asked_to_stop.set) as ahead:
        ahead.take()
        assert begun.wait(5)
        raise KeyboardInterrupt
    assert not any(t.name.startswith("relann") for t in threading.enumerate())
