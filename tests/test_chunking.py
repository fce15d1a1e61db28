"""Models of a task whose row maps do not fit: trained, explained and asked in chunks of seeds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import relann
from relann import chunking
from relann.algebra.parse import statements
from relann.algebra.statements import CreateModel
from relann.datasets import load, relbench_tasks
from relann.errors import DataError, QueryError
from relann.lifecycle import Lifecycle
from relann.models.chunks import SeedMaps
from relann.models.learning import Epoch
from relann.published_tasks import create_published_task
from tests.models.test_chunks import SHOP, TWO_HOPS

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = "task = 'churn', batch_size = 32, epochs = 2"
SMALL = f"{OPTIONS}, memory_limit = '200 kB'"
LEFT = "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 'relann %'"


@pytest.fixture
def shop() -> Iterator[relann.Session]:
    with relann.connect() as session:
        session.sql(SHOP)
        yield session
        assert session.sql(LEFT).fetchall() == [(0,)]
        assert not any(t.name.startswith("relann ahead") for t in threading.enumerate())


def created(session: relann.Session, options: str = SMALL, query: str = TWO_HOPS) -> str:
    message = session.sql(f"CREATE OR REPLACE MODEL m OPTIONS ({options}) AS {query}").message
    assert message is not None
    return message


def curve(session: relann.Session) -> list[tuple[object, ...]]:
    return session.sql("SELECT epoch, loss, validation_loss FROM ml_training_info('m')").fetchall()


def predictions(session: relann.Session) -> dict[tuple[object, ...], float]:
    found = session.sql("SELECT customer_id, anchor, probability FROM ml_predict('m')").fetchall()
    return {row[:2]: row[2] for row in found}


def test_the_message_and_explain_tell_the_chunks(
    shop: relann.Session, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="relann"):
        message = created(shop)
    assert "; row maps take about " in message
    assert "and the limit is 200 kB: built in 17 chunks of 32 seeds" in message
    assert "another thread" not in message
    assert any("built in 17 chunks" in r.getMessage() for r in caplog.records)
    told = shop.sql("EXPLAIN MODEL m").message
    assert told is not None
    assert "\n\nChunks\n  row maps take about " in told
    analysed = shop.sql("EXPLAIN ANALYZE MODEL m").message
    assert analysed is not None and "one of them is shown" in analysed


def test_what_fits_is_trained_as_it_was(shop: relann.Session) -> None:
    assert "chunks" not in created(shop, OPTIONS)
    expected = curve(shop)
    assert "chunks" not in created(shop, f"{OPTIONS}, memory_limit = '1 TB'")
    assert curve(shop) == expected
    told = shop.sql("EXPLAIN MODEL m").message
    assert told is not None and "Chunks" not in told


def test_the_same_bits_every_time(shop: relann.Session) -> None:
    """With a thread beside, without one, and whatever was built before."""
    created(shop)
    expected = curve(shop)
    created(shop, OPTIONS)
    created(shop)
    assert curve(shop) == expected
    shop.sql("CREATE TEMP TABLE other AS SELECT 1 AS a")
    assert "not on another thread, as the session has temporary tables" in created(shop)
    assert curve(shop) == expected
    shop.sql("DROP TABLE other")


def test_predictions_and_metrics_do_not_depend_on_chunks(
    shop: relann.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    created(shop, f"{OPTIONS}, memory_limit = '1 TB'")
    shop.sql("INSERT INTO customers SELECT i, 'DE' FROM range(100, 120) t(i)")  # nothing is held
    asked = (
        "SELECT customer_id, probability FROM ml_predict('m', (SELECT customer_id FROM customers), "
        "at => TIMESTAMP '2023-08-01') ORDER BY 1"
    )
    judged = "SELECT metric, value, rows FROM ml_evaluate('m', split => {}) ORDER BY 1"
    splits = ("'test'", "'val'", "NULL")

    def everything() -> tuple[object, ...]:
        return (
            predictions(shop),
            shop.sql(asked).fetchall(),
            [shop.sql(judged.format(s)).fetchall() for s in splits],
        )

    built = []
    build = SeedMaps.build

    def counted(self: SeedMaps, seeds: object) -> object:
        built.append(seeds)
        return build(self, seeds)  # type: ignore[arg-type]

    monkeypatch.setattr(SeedMaps, "build", counted)
    monkeypatch.setattr(chunking, "_limit", lambda models, options: 100_000)
    of_chunks = everything()
    assert len(built) > 20
    built.clear()
    monkeypatch.setattr(chunking, "_limit", lambda models, options: 10**9)
    whole = everything()
    assert not built
    assert of_chunks[0].keys() == whole[0].keys()  # type: ignore[attr-defined]
    for row, value in of_chunks[0].items():  # type: ignore[attr-defined]
        assert whole[0][row] == pytest.approx(value, abs=1e-6)  # type: ignore[index]
    for ours, theirs in zip(of_chunks[1], whole[1], strict=True):  # type: ignore[arg-type]
        assert ours == pytest.approx(theirs, abs=1e-6)
    for ours, theirs in zip(of_chunks[2], whole[2], strict=True):  # type: ignore[arg-type]
        assert [o[::2] for o in ours] == [t[::2] for t in theirs]
        assert [o[1] for o in ours] == pytest.approx([t[1] for t in theirs], abs=1e-5)


def test_trees_predict_in_chunks(shop: relann.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightgbm")
    created(shop, "task = 'churn', head = 'gbdt', rounds = 3", "FROM dfs()")
    whole = predictions(shop)
    shop.sql("INSERT INTO customers VALUES (200, 'DE')")
    monkeypatch.setattr(chunking, "_limit", lambda models, options: 50_000)
    monkeypatch.setattr(chunking, "_FEW", 0)
    assert predictions(shop) == whole


def test_a_ranking(shop: relann.Session) -> None:
    shop.sql(
        "CREATE TASK next_items OPTIONS (val = '2023-07-01', test = '2023-10-01') AS "
        "PREDICT LIST_DISTINCT(orders.sku, 0, 60, days) RANK TOP 5 FOR EACH customers.customer_id"
    )
    message = created(
        shop,
        "task = 'next_items', batch_size = 64, epochs = 1, memory_limit = '20 kB'",
        "WITH o AS (SELECT customer_id, sku, count(*) AS n FROM orders GROUP BY ALL) "
        "SELECT customer_id, sku, linear(numeric(n), 1) AS score FROM o",
    )
    assert "chunks" in message
    found = dict(shop.sql("SELECT metric, value FROM ml_evaluate('m')").fetchall())
    assert 0 < found["map"] <= 1


def test_validation_as_test(shop: relann.Session) -> None:
    created(shop, f"{SMALL}, validation = 'as_test'")
    expected = curve(shop)
    assert len(expected) == 2


# -- the other thread's connection ---------------------------------------------------------------


def test_in_a_transaction_nothing_is_cut(shop: relann.Session) -> None:
    """Training sees the rows that the transaction has written, and the transaction goes on."""
    created(shop)
    before = curve(shop)
    shop.sql("BEGIN")
    shop.sql("UPDATE orders SET total = -3 * total WHERE order_id % 3 = 0")
    message = created(shop)
    assert "`memory_limit` is not kept inside a transaction: row maps are built whole" in message
    assert curve(shop) != before
    shop.sql("SELECT * FROM ml_predict('m')")
    shop.sql("EXPLAIN ANALYZE MODEL m")
    assert shop.sql(LEFT).fetchall() == [(0,)]
    shop.sql("ROLLBACK")
    assert shop.sql("SELECT count(*) FROM orders WHERE total < 0").fetchall() == [(0,)]
    assert curve(shop) == before


def test_the_second_connection_has_the_settings_of_the_first(shop: relann.Session) -> None:
    shop.sql("CREATE SCHEMA s; CREATE TABLE s.extra AS SELECT i AS customer_id, i % 3 AS kind "
             "FROM range(30) t(i); USE s")  # fmt: skip
    query = (
        "SELECT c.customer_id, linear(category(e.kind, 4), 1) AS logit FROM main.customers c "
        "JOIN extra e USING (customer_id)"
    )
    message = created(shop, SMALL.replace("200", "10"), query)
    assert "chunks" in message and "another thread" not in message
    shop.sql("USE main")


@pytest.mark.parametrize(
    ("change", "strange"),
    [
        ("UPDATE orders SET total = total + 100", False),
        ("DELETE FROM people WHERE customer_id < 5", True),
    ],
)
def test_tables_that_change_meanwhile(shop: relann.Session, change: str, strange: bool) -> None:
    """Seen by later chunks; an error where seeds have other rows than were read at first."""
    shop.sql("CREATE TABLE people AS FROM customers")
    query = TWO_HOPS.replace("FROM customers", "FROM people")
    (statement,) = statements(f"CREATE MODEL m OPTIONS ({SMALL}) AS {query}")
    assert isinstance(statement, CreateModel)
    other = shop.connection.cursor()

    def watch(epoch: Epoch) -> bool:
        other.execute(change).fetchall()
        return False

    def train() -> None:
        Lifecycle(shop.connection, shop.store).fitted(statement, watch, in_chunks=True)

    if strange:
        with pytest.raises(DataError, match="the tables were changed while the model was trained"):
            train()
    else:
        train()
    other.close()


def test_an_error_of_the_other_thread_is_told_as_it_is(
    shop: relann.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row that cannot be cast is met in a chunk, not in the samples."""
    shop.sql("ALTER TABLE orders ADD COLUMN note VARCHAR")
    shop.sql("UPDATE orders SET note = order_id::VARCHAR")
    query = (
        "WITH o AS (SELECT customer_id, sum(CAST(note AS INTEGER)) AS n FROM orders "
        "GROUP BY customer_id) SELECT c.customer_id, linear(numeric(o.n), 1) AS logit "
        "FROM customers c LEFT JOIN o USING (customer_id)"
    )
    measured = SeedMaps._measured

    def spoilt_after(self: SeedMaps) -> object:
        found = measured(self)
        self.connection.execute("UPDATE orders SET note = 'none' WHERE order_id = 7").fetchall()
        return found

    monkeypatch.setattr(SeedMaps, "_measured", spoilt_after)
    with pytest.raises(DataError, match="Could not convert string 'none' to INT32"):
        created(shop, SMALL.replace("200", "20"), query)
    monkeypatch.undo()
    shop.sql("UPDATE orders SET note = '7' WHERE order_id = 7")
    assert "chunks" in created(shop, SMALL.replace("200", "20"), query)


def test_what_chunks_are_built_from_is_not_kept(shop: relann.Session) -> None:
    """From epoch to epoch; in one transaction DuckDB would keep it until the end."""
    options = SMALL.replace("epochs = 2", "epochs = 5")
    (statement,) = statements(f"CREATE MODEL m OPTIONS ({options}) AS {TWO_HOPS}")
    assert isinstance(statement, CreateModel)
    held = []

    def watch(epoch: Epoch) -> bool:
        held.append(pa.total_allocated_bytes())
        return False

    Lifecycle(shop.connection, shop.store).fitted(statement, watch, in_chunks=True)
    assert held[-1] < 1.3 * held[0]


@pytest.mark.parametrize("begin", ["SELECT 1", "BEGIN"])
def test_an_interrupt_leaves_nothing(shop: relann.Session, begin: str) -> None:
    shop.sql(begin)
    (statement,) = statements(f"CREATE MODEL m OPTIONS ({SMALL}) AS {TWO_HOPS}")
    assert isinstance(statement, CreateModel)

    def watch(epoch: Epoch) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Lifecycle(shop.connection, shop.store).fitted(statement, watch, in_chunks=True)
    assert shop.sql(LEFT).fetchall() == [(0,)]
    assert ("chunks" in created(shop)) == (begin != "BEGIN")
    if begin == "BEGIN":
        shop.sql("COMMIT")
    assert len(curve(shop)) == 2


def test_validation_seeds_without_rows(shop: relann.Session) -> None:
    """The query has no row for them, in several chunks, and there is nothing to validate on."""
    shop.sql(
        "CREATE TASK seen OPTIONS (entity = 'customer_id', time = 'anchor', label = 'y', "
        "table = 'customers', split = 'split') AS SELECT i % 30 + CASE WHEN i % 3 = 0 THEN 100 "
        "ELSE 0 END AS customer_id, TIMESTAMP '2022-06-01' + to_days(i // 30) AS anchor, "
        "i % 2 = 0 AS y, CASE WHEN i % 3 = 0 THEN 'val' ELSE 'train' END AS split "
        "FROM range(600) t(i)"
    )
    message = created(shop, SMALL.replace("churn", "seen").replace("200", "10"))
    assert "chunks" in message and "200 seeds left out" in message
    assert [row[2] for row in curve(shop)] == [None, None]


def test_a_query_without_one_row_for_each_seed(shop: relann.Session) -> None:
    query = "SELECT customer_id, linear(numeric(total), 1) AS logit FROM orders"
    with pytest.raises(DataError, match=r"the query gives .* rows for .* seeds"):
        created(shop, SMALL.replace("200", "1"), query)


# -- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("task = 'churn', batch_size = 8, memory_limit = '2 XB'", "a size such as '2GB'"),
        ("task = 'churn', batch_size = 8, memory_limit = '120%'", "a size such as '2GB'"),
        ("task = 'churn', batch_size = 8, memory_limit = 5", "takes text|a size such as"),
        ("task = 'churn', memory_limit = '2GB'", "trained in batches"),
        ("label = 'x', batch_size = 8, memory_limit = '2GB'", "trained in batches"),
        ("task = 'churn', head = 'gbdt', memory_limit = '2GB'", "is for networks"),
    ],
)
def test_options_that_are_wrong(shop: relann.Session, options: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        created(shop, options)


# -- real data -----------------------------------------------------------------------------------


def test_driver_position_of_rel_f1(real_data: Callable[[str], Path]) -> None:
    """Chunks give about the model that whole row maps give."""
    folder = real_data("rel-f1")
    with load(folder) as session:
        (task,) = (t for t in relbench_tasks(folder) if t.name == "driver-position")
        create_published_task(session, task, "t", "frozen")
        found = []
        for limit in ("1 TB", "25 MB"):
            options = f"task = 't', batch_size = 256, epochs = 2, memory_limit = '{limit}'"
            message = session.sql(
                f"CREATE OR REPLACE MODEL m OPTIONS ({options}) AS FROM sage(width => 8)"
            ).message
            assert message is not None and ("chunks" in message) == (limit == "25 MB")
            state = session.store.model("m").state
            metrics = session.sql("SELECT metric, value FROM ml_evaluate('m')").fetchall()
            found.append((state, dict(metrics)))
    (whole, expected), (chunked, metrics) = found
    assert whole.keys() == chunked.keys()
    for site, table in whole.items():
        if table.column_names == ["mean", "std"]:
            ours, theirs = chunked[site].to_pylist()[0], table.to_pylist()[0]
            assert ours == pytest.approx(theirs, rel=1e-9)
        else:
            assert chunked[site].to_pylist() == table.to_pylist()
    assert metrics["mae"] == pytest.approx(expected["mae"], rel=0.15)
