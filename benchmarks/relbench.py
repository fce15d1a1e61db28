"""A RelBench task in a session, and query programs compiled as of its seeds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from relann import datasets
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.parse import statements
from relann.algebra.rowmaps import RowMaps, build
from relann.algebra.statements import CreateModel
from relann.datasets import RelBenchTask
from relann.discovery import discover
from relann.models.moments import of_task
from relann.models.options import Options
from relann.models.program import AsOf, Program
from relann.models.tasks import Task
from relann.published_tasks import create_published_task
from relann.schema import Catalog, Schema
from relann.session import Session
from relann.store import Store


@dataclass(frozen=True)
class Prepared:
    """A data set's tables and a task on them, in a database of their own."""

    session: Session
    files: RelBenchTask

    @classmethod
    def of(cls, folder: Path, name: str, condition: str = "true") -> Prepared:
        """The task `t`, of the seeds that meet a condition and whose entity is known by then."""
        session = datasets.load(folder)
        (files,) = [t for t in datasets.relbench_tasks(folder) if t.name == name]
        entity = discover(session.connection).find(str(files.entity_table))
        assert entity is not None
        if entity.time is not None:
            condition += (
                f' AND EXISTS (SELECT 1 FROM {entity.table.name} e WHERE e."{entity.key}" = '
                f'"{files.entity_col}" AND e."{entity.time}" <= seeds."{files.time_col}")'
            )
        create_task(session, files, "frozen", f"SELECT * FROM seeds WHERE {condition}")
        return cls(session, files)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The database."""
        return self.session.connection

    @property
    def task(self) -> Task:
        """The task as the database knows it."""
        return Store(self.connection).task("t")

    @property
    def schema(self) -> Schema:
        """The data set's keys and times."""
        return discover(self.connection)

    @property
    def end(self) -> datetime | None:
        """The test timestamp, where the database is cut."""
        return self.task.test

    def moment(self) -> AsOf:
        """The task's seeds, on the database cut at the test timestamp."""
        return of_task(self.task, "frozen", self.schema, Catalog(self.connection))

    def program(self, text: str) -> Program:
        """A query as of the seeds."""
        (statement,) = statements(f"CREATE MODEL m AS {text}")
        assert isinstance(statement, CreateModel)
        body, catalog = statement.body, Catalog(self.connection)
        return Program.compile(
            body.query, body.span.text, catalog, lambda name: None, "m", (), self.moment()
        )

    def maps(self, program: Program) -> RowMaps:
        """The row maps of a program."""
        return build(program.plan, DuckDBEngine(self.connection))

    def options(self, size: int | None) -> Options:
        """Options of a training without end in batches of a size."""
        return Options(epochs=1_000_000, batch_size=size, lr=0.005).for_task(
            self.task.label, self.task.split
        )


def create_task(
    session: Session, task: RelBenchTask, regime: str, seeds: str = "SELECT * FROM seeds"
) -> None:
    """The task's own tables of seeds as a task `t`."""
    create_published_task(session, task, "t", regime, seeds)
