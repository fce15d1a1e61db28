"""Networks trained by several processes: what one process gives, and errors that end them all."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import relann
from relann.algebra.parse import statements
from relann.algebra.statements import CreateModel
from relann.cli import app
from relann.distributed import Training
from relann.errors import EngineError, QueryError
from relann.lifecycle import Lifecycle
from relann.models.processes import Processes, joined
from relann.models.team import Team
from tests.processes import join, started

ROWS = """
CREATE TABLE item AS
SELECT i AS id, i % 5 AS a, (i * 7 % 11)::DOUBLE AS y, ['u', 'v', NULL][1 + i % 3] AS k,
       ['train', 'train', 'train', 'val', 'test'][1 + i % 5] AS s
FROM range(121) r(i);
CREATE TABLE link AS
SELECT i AS src, (i * 13 + j * 7) % 121 AS dst FROM range(121) r(i), range(4) q(j);
"""
MODEL = """
CREATE MODEL {name} OPTIONS (label = 'y', split = 's', {options}) AS
WITH h AS (
    SELECT l.dst AS id, avg(relu(linear(numeric(i.a), 8) + category(i.k, 8))) AS z
    FROM link l JOIN item i ON i.id = l.src GROUP BY l.dst
)
SELECT i.id, i.y, i.s, linear(relu(category(i.k, 8) + linear(coalesce(h.z, 0), 8)), 1) AS score
FROM item i LEFT JOIN h USING (id);
"""
OPTIONS = {
    "whole": "epochs = 8",
    "parts": "epochs = 3, batch_size = 8, clip = 0.5",  # 73 rows: the last batch has one
    "patient": "epochs = 60, lr = 0.1, patience = 3, optimizer = 'sgd', metric = 'loss'",
}
MODELS = "".join(MODEL.format(name=n, options=o) for n, o in OPTIONS.items())
ONE = MODEL.format(name="m", options="epochs = 2")
WAIT = 60  # seconds, for processes on a machine with other things to do


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def together(path: Sequence[Path] | Path, *texts: str) -> list[Any]:
    """What each process says, given its text; None for one that has died."""
    paths = [path] * len(texts) if isinstance(path, Path) else path
    port = free_port()
    members = [
        started(join, rank, len(texts), port, str(p), text)
        for rank, (p, text) in enumerate(zip(paths, texts, strict=True))
    ]
    said = []
    for process, ours in members:
        assert ours.poll(WAIT), "a process hangs"
        try:
            said.append(ours.recv())
        except EOFError:
            said.append(None)
        process.join(WAIT)
        assert process.exitcode is not None
    return said


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "x.duckdb"
    with relann.connect(path) as con:
        con.sql(ROWS)
    return path


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    """Also with batches that do not divide, and one that leaves a process no row."""
    alone = relann.connect(tmp_path / "alone.duckdb")
    said = [r.message for r in alone.each(ROWS + MODELS + "SHOW MODELS")]
    path = tmp_path / "team.duckdb"
    told, silent = together(path, *[ROWS + "SET threads = 2;" + MODELS + "SHOW MODELS"] * 2)
    assert told == said and silent == []
    team = relann.connect(path, read_only=True)
    for name in OPTIONS:
        one, two = alone.store.model(name), team.store.model(name)
        assert one.info["rows"] == {"train": 73, "val": 24, "test": 24}
        assert one.info == two.info and one.options == two.options
        assert [e["best"] for e in one.curve] == [e["best"] for e in two.curve]
        for column in ("loss", "validation_loss", "validation"):
            curves = [[e[column] for e in model.curve] for model in (one, two)]
            np.testing.assert_allclose(*curves, rtol=1e-4)
        assert one.weights.keys() == two.weights.keys()
        for parameter, value in one.weights.items():
            torch.testing.assert_close(two.weights[parameter], value, rtol=1e-3, atol=1e-4)
    assert len(alone.store.model("patient").curve) < 60
    alone.close(), team.close()


def test_the_command(database: Path, tmp_path: Path) -> None:
    """Of a team of one, as torchrun starts it."""
    environment = {
        **dict.fromkeys(("RANK", "LOCAL_RANK"), "0"),
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "1"),
        "MASTER_ADDR": "127.0.0.1",
    }
    (tmp_path / "x.sql").write_text(ONE + "FROM nowhere")
    arguments = ["train", str(tmp_path / "x.sql"), "--db", str(database)]
    found = CliRunner().invoke(app, arguments, env={**environment, "MASTER_PORT": str(free_port())})
    assert found.exit_code == 1
    assert found.stdout.startswith("model `m`, version 1: trained for 2 epochs")
    assert "x.sql: QueryError: line 9, column 6: Table with name nowhere" in found.stderr


def test_three_processes(database: Path) -> None:
    told, *_ = together(database, *[ONE] * 3)
    assert told[0].startswith("model `m`, version 1: trained for 2 epochs")


class TestAnErrorEndsAll:
    def test_of_one_process(self, database: Path) -> None:
        """The second has the row whose prediction is NULL: id and label are among the largest."""
        text = ONE.replace("coalesce(h.z, 0)", "h.z")
        with relann.connect(database) as con:
            con.sql("DELETE FROM link WHERE dst = 91")
        first, second = together(database, text, text)
        assert "DataError: the prediction is NULL in 1 of 37 labelled training rows" in second
        assert first.startswith("EngineError: process 1 has failed: DataError: the prediction is N")
        with relann.connect(database) as con:
            assert con.store.models() == []

    def test_of_the_leader(self, database: Path) -> None:
        first, second = together(database, *["INSERT INTO nowhere VALUES (1);" + ONE] * 2)
        assert first.startswith("QueryError: line 1, column 1: Table with name nowhere")
        assert second.startswith("EngineError: process 0 has failed: QueryError: line 1, column 1")

    def test_of_every_process(self, database: Path) -> None:
        text = MODEL.format(name="m", options="epochs = 1, metric = 'auroc'")
        first, second = together(database, text, text)
        assert first == second
        assert first.startswith("QueryError: line 2, column") and "is no metric of a" in first

    def test_of_one_that_dies(self, database: Path) -> None:
        survivor, dead = together(database, ONE, "die")
        assert dead is None
        assert survivor.startswith("LostError: another process has ended without saying why")

    def test_where_they_read_other_data(self, database: Path) -> None:
        other = database.with_name("y.duckdb")
        shutil.copy(database, other)
        with relann.connect(other) as con:
            con.sql("UPDATE item SET y = y + 1 WHERE id = 120")
        first, second = together([database, other], ONE, ONE)
        assert first == second
        assert first.startswith("DataError: process 1 and process 0 differ in what they train on")


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("relu(", "relu(batch_norm(", "batch_norm takes mean and deviation over all rows"),
            ("epochs = 2", "epochs = 2, head = 'gbdt'", "head = 'gbdt' is trees: LightGBM grows"),
        ],
    )
    def test_models(self, old: str, new: str, message: str) -> None:
        text = (
            "CREATE MODEL m OPTIONS (label = 'y', epochs = 2) AS "
            "SELECT id, y, linear(relu(linear(numeric(a), 4)), 1) AS score FROM item"
        ).replace(old, new)
        if "batch_norm" in new:
            text = text.replace("4)", "4))")
        else:
            text = text.replace("epochs = 2, ", "").replace("linear(numeric(a), 4)", "a")
            text = text.replace("linear(relu(a), 1) AS score", "a")
        with relann.connect() as con:
            con.sql(ROWS)
            (statement,) = statements(text)
            assert isinstance(statement, CreateModel)
            with pytest.raises(QueryError, match=message):
                Lifecycle(con.connection, con.store).fitted(statement, team=Processes(0, 2, 2))

    def test_transactions_and_memory(self) -> None:
        team = Processes(0, 2, 2)
        with pytest.raises(QueryError, match="a transaction is of one connection"):
            list(Training("x.duckdb", team).each("BEGIN; SELECT 1"))
        with pytest.raises(QueryError, match="no database in memory"):
            Training(":memory:", team)

    def test_more_processes_than_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        team = Processes(0, 2, 2)
        team.use(torch.device("cpu"))
        with pytest.raises(EngineError, match="2 processes on this machine train on GPUs, and it"):
            team.use(torch.device("cuda"))

    def test_no_launcher(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with (
            pytest.raises(EngineError, match=r"none \(MASTER_PORT not set\): torchrun"),
            joined(
                dict.fromkeys(
                    ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"), "1"
                )
            ),
        ):
            pass
        monkeypatch.delenv("RANK", raising=False)
        (tmp_path / "x.sql").write_text("SELECT 1")
        found = CliRunner().invoke(app, ["train", str(tmp_path / "x.sql"), "--db", "x.duckdb"])
        assert found.exit_code == 1 and "torchrun --nproc-per-node 2" in found.output


class Third(Team):
    rank, size = 1, 3


def test_shares_are_all_rows() -> None:
    rows = np.arange(10)
    assert Third().share(rows).tolist() == [3, 4, 5]
    assert Third().share(rows[:1]).tolist() == []
    assert Team().share(rows) is not None and len(Team().share(rows)) == 10


def test_processes_draw_other_masks() -> None:
    with relann.connect() as con:
        con.sql(ROWS)
        con.sql(
            "CREATE MODEL m OPTIONS (label = 'y', epochs = 1) AS "
            "SELECT id, y, linear(dropout(linear(numeric(a), 8), 0.5), 1) AS score FROM item"
        )
        module, part = Lifecycle(con.connection, con.store).network("m")
    module.train()
    drawn = []
    for number in (0, 1, 0):
        module.draw_as(number)
        drawn.append(part.scores(module))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
