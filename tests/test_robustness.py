"""Models in a file outlive what happens to processes, files and tables."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

import relann
from relann import DataError, EngineError, QueryError
from tests.processes import (
    NETWORK,
    TABLE,
    TREES,
    die_after,
    hold,
    predict,
    predictions,
    started,
    train_forever,
)

BOTH = ("net", "tree")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A file with a table and two models."""
    file = str(tmp_path / "x.duckdb")
    with relann.connect(file) as con:
        con.sql(f"{TABLE}; CREATE TABLE log (n INTEGER); {NETWORK}; {TREES}")
    return file


def test_another_process_predicts_the_same_bits(path: str) -> None:
    """Networks and trees."""
    with relann.connect(path) as con:
        here = predictions(con, *BOTH)
    process, told = started(predict, path, BOTH)
    assert told.recv() == here
    process.join()


def test_killed_at_any_moment(path: str) -> None:
    """The file opens, its first versions predict the same bits, the others are whole."""
    with relann.connect(path) as con:
        first = predictions(con, "net@1", "tree@1")
    moments, longest = random.Random(5), 0.0
    versions = 1
    for turn in range(11):
        process, told = started(train_forever, path)
        assert told.recv() == "ready"
        if turn:
            time.sleep(moments.uniform(0, longest))
        else:  # how long two models take here
            began = time.perf_counter()
            assert told.recv() == "once more"
            longest = min(1.5 * (time.perf_counter() - began), 1.0)
        process.kill()
        process.join()
        with relann.connect(path) as con:
            assert predictions(con, "net@1", "tree@1") == first
            kept = con.sql("SHOW VERSIONS").fetchall()
            ((logged,),) = con.sql("SELECT count(*) FROM log").fetchall()
            for name in BOTH:
                numbers = [row[1] for row in kept if row[0] == name]
                assert numbers == list(range(len(numbers), 0, -1))
                assert predictions(con, f"{name}@{numbers[0]}")
            nets = sum(row[0] == "net" for row in kept)
            trees = sum(row[0] == "tree" for row in kept)
            # a statement that was over is there, none is there before the one ahead of it
            assert nets >= versions
            assert logged <= nets - 1
            assert trees - 1 <= logged
            versions = nets
    assert versions > 1


def test_killed_between_statements(path: str) -> None:
    """What was done is kept, without being closed; what was in an open transaction is not."""
    process, told = started(die_after, path, f"{NETWORK}; INSERT INTO log VALUES (7)")
    assert told.recv() == "done"
    process.join()
    process, told = started(die_after, path, f"BEGIN; {TREES}; INSERT INTO log VALUES (8)")
    assert told.recv() == "done"
    process.join()
    with relann.connect(path) as con:
        found = con.sql("SELECT name, version FROM relann.models ORDER BY ALL").fetchall()
        assert found == [("net", 1), ("net", 2), ("tree", 1)]
        assert con.sql("SELECT n FROM log").fetchall() == [(7,)]
        assert predictions(con, "net", "tree")


def test_two_processes_cannot_write_at_once(path: str) -> None:
    """The second one is told so, and nothing is lost."""
    process, told = started(hold, path)
    assert told.recv() == "ready"
    with pytest.raises(EngineError, match=r"cannot open database .*another process has it open"):
        relann.connect(path)
    process.kill()
    process.join()
    with relann.connect(path) as con:
        assert con.sql("SELECT n FROM log").fetchall() == [(2,)]
        assert predictions(con, *BOTH)


def test_two_connections_that_replace_a_model_at_once(path: str) -> None:
    """One of them is told that it lost; the other's version is kept."""
    with relann.connect(path) as con, relann.connect(con.connection.cursor()) as other:
        con.sql(f"BEGIN; {NETWORK}")
        with pytest.raises((DataError, QueryError), match=r"conflict|[Cc]onstraint"):
            other.sql(f"BEGIN; {NETWORK}; COMMIT")
            con.sql("COMMIT")
        for one in (con, other):
            try:
                one.sql("ROLLBACK")
            except QueryError as error:
                assert "no transaction is active" in str(error)
        versions = [row[1] for row in con.sql("SHOW VERSIONS OF net").fetchall()]
        assert versions in ([1], [2, 1])
        assert predictions(con, "net")


def test_a_read_only_database(path: str) -> None:
    """Predicts, evaluates, exports; keeps nothing, and says so before training."""
    with relann.connect(path, read_only=True) as con:
        assert predictions(con, *BOTH)
        assert len(con.sql("SELECT * FROM ml_evaluate('net')"))
        con.sql(f"EXPORT MODEL net TO '{path}.net'")
        for text in (NETWORK, f"IMPORT MODEL new FROM '{path}.net'", "DROP MODEL net"):
            with pytest.raises(DataError, match="open read-only"):
                con.sql(text)


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DROP TABLE t", r'model `{}` does not fit .*\n(.*\n)*.*there is no table "t"'),
        ("ALTER TABLE t DROP COLUMN a", r'does not fit .*\n(.*\n)*.*"t" has no column `a`'),
        (
            "ALTER TABLE t ALTER a TYPE VARCHAR USING 'v' || a",
            r"does not fit (.|\n)*`a` of \"t\" is VARCHAR and was BIGINT",
        ),
    ],
)
def test_a_changed_table(path: str, model: str, change: str, message: str) -> None:
    """The error names the model and what has become of its table."""
    with relann.connect(path) as con:
        con.sql(change)
        with pytest.raises(DataError, match=message.format(model)):
            con.sql(f"SELECT * FROM ml_predict('{model}')")


def test_a_model_replaced_under_a_name_in_another_case(path: str) -> None:
    """Its weights are named after the statement that trained it."""
    with relann.connect(path) as con:
        con.sql(NETWORK.replace("MODEL net", "MODEL NET"))
        assert con.sql("SHOW VERSIONS OF nEt").fetchall()[0][:2] == ("net", 2)
        assert predictions(con, "net@1")
        assert predictions(con, "net@2")


def test_an_unknown_version(path: str) -> None:
    """Wherever a version may stand."""
    with relann.connect(path) as con:
        for text in ("SELECT * FROM ml_predict('net@3')", f"EXPORT MODEL net@3 TO '{path}.n'"):
            with pytest.raises(QueryError, match="`net` has no version 3; it has 1"):
                con.sql(text)
