"""What other processes do to a database file in tests: write, hold it, die."""

from __future__ import annotations

import os
import signal
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

import relann
from relann.distributed import Training
from relann.models.processes import joined

TABLE = (
    "CREATE TABLE t AS SELECT i AS id, i % 5 AS a, (i * 7 % 11)::DOUBLE AS y, "
    "['u', 'v', NULL][1 + i % 3] AS k FROM range(120) r(i)"
)
NETWORK = (
    "CREATE OR REPLACE MODEL net OPTIONS (label = 'y', epochs = 3) AS "
    "SELECT id, y, linear(relu(numeric(a) + category(k, 2)), 1) AS z FROM t"
)
TREES = (
    "CREATE OR REPLACE MODEL tree OPTIONS (head = 'gbdt', label = 'y', rounds = 4, min_rows = 2, "
    "exclude = ['id']) AS SELECT id, y, a, k FROM t"
)


def started(target: Any, *arguments: Any) -> tuple[BaseProcess, Connection]:
    """A process that runs a function of this module, and what it sends.

    All are forks of one that has imported relann already: that takes seconds.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.processes"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, theirs))
    process.start()
    theirs.close()
    return process, ours


def predictions(con: relann.Session, *models: str) -> bytes:
    """All predictions of some models, every bit of them."""
    rows = [
        con.sql(f"SELECT * FROM ml_predict('{m}') ORDER BY id").arrow().combine_chunks()
        for m in models
    ]
    return b"".join(
        b"NULL" if buffer is None else buffer.to_pybytes()
        for table in rows
        for column in table.columns
        for chunk in column.chunks
        for buffer in chunk.buffers()
    )


def predict(path: str, models: tuple[str, ...], tell: Connection) -> None:
    """Send what models of a file predict."""
    torch.set_num_threads(1)
    with relann.connect(path, read_only=True) as con:
        tell.send(predictions(con, *models))


def train_forever(path: str, tell: Connection) -> None:
    """Add versions of two models and rows to a table until killed."""
    torch.set_num_threads(1)
    with relann.connect(path) as con:
        tell.send("ready")
        while True:
            con.sql(f"{NETWORK}; INSERT INTO log VALUES (1); {TREES}")
            tell.send("once more")


def hold(path: str, tell: Connection) -> None:
    """Keep a file open for writing until killed."""
    with relann.connect(path) as con:
        con.sql("INSERT INTO log VALUES (2)")
        tell.send("ready")
        signal.pause()


def die_after(path: str, text: str, tell: Connection) -> None:
    """Run statements and be killed at once, with the file open."""
    torch.set_num_threads(1)
    con = relann.connect(path)
    con.sql(text)
    tell.send("done")
    os.kill(os.getpid(), signal.SIGKILL)


def join(rank: int, size: int, port: int, path: str, text: str, tell: Connection) -> None:
    """Run a file's statements as one process of a team; send its messages, or an error's text.

    The text `die` is no statement.
    """
    torch.set_num_threads(1)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
    values = {name: str(v) for name, v in zip(names, (rank, size, rank, size, port), strict=True)}
    os.environ.update(values, MASTER_ADDR="127.0.0.1")
    try:
        with joined() as team, team.together():
            if text == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            messages = [r.message for r in Training(path, team).each(text)]
    except relann.RelannError as error:
        tell.send(f"{type(error).__name__}: {error}")
    else:
        tell.send(messages)
