"""The statements of a file, run by several processes: networks by all of them, the rest by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import duckdb

from relann.algebra.engines.choice import DEFAULT
from relann.algebra.lexing import word
from relann.algebra.parse import statements
from relann.algebra.statements import CreateModel, Passthrough, Statement
from relann.errors import QueryError
from relann.lifecycle import Lifecycle
from relann.models.fitted import Fitted
from relann.models.processes import Processes
from relann.models.team import Team
from relann.results import Result
from relann.session import MakeModels, Session, connect
from relann.store import Store

_OF_CONNECTION = {"SET", "RESET", "USE", "ATTACH", "DETACH", "LOAD", "PRAGMA"}
_TRANSACTIONS = {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT"}
_SHARED = 80  # percent of the memory that DuckDB takes at most if nothing else is said


class _Training(Lifecycle):
    """Trains models in a team and does not keep them: the database is open for reading."""

    made: Fitted
    team: Team

    def create_model(self, statement: CreateModel) -> str:
        """See `Lifecycle.create_model`."""
        self.made = self.fitted(statement, team=self.team)
        return ""


class Training:
    """A database file on which a team of processes runs statements.

    A file is written by one process or read by several. So the leader opens it alone for every
    statement but the training of a network, for which all open it read-only; then the leader keeps
    what came out. What holds for one connection (SET, USE, ATTACH, …) is said anew on each.
    """

    def __init__(
        self, database: str, team: Processes, engine: str = DEFAULT, device: str = "cpu"
    ) -> None:
        if database.startswith(":memory:"):
            raise QueryError(
                "several processes share no database in memory: name a file with --db FILE"
            )
        self._database = database
        self._team = team
        self._make = partial(Lifecycle, engine=engine, device=device)
        self._train = partial(_Training, engine=engine, device=device)
        self._said: list[Statement] = []

    def each(self, text: str) -> Iterator[Result]:
        """Run the statements of a text one by one; results in the leader only.

        Raises QueryError for transactions, which end with the connection.
        """
        for statement in statements(text):
            first = word(statement.tokens[0]) if isinstance(statement, Passthrough) else ""
            if first in _TRANSACTIONS:
                raise QueryError(
                    "a transaction is of one connection, and here each statement may have one of "
                    "its own: run it by relann run",
                    statement.span,
                )
            if isinstance(statement, CreateModel):
                yield from self._model(statement)
            elif first in _OF_CONNECTION:
                self._said.append(statement)
            else:
                yield from self._led(statement)

    def _led(self, statement: Statement) -> Iterator[Result]:
        """A statement that the leader runs while the others wait."""
        if self._team.rank == 0:
            with self._connected() as session:
                yield session.run(statement)
        self._team.wait()

    def _model(self, statement: CreateModel) -> Iterator[Result]:
        if self._team.rank == 0:
            with self._connected() as session:
                session.store.check_new(statement.name, statement.replace, statement.name_span)
        self._team.wait()
        made = self._fitted(statement)
        self._team.wait()  # until none reads the file
        if self._team.rank == 0:
            with self._connected() as session:
                models = self._make(session.connection, session.store)
                yield Result(message=models.keep(made))
        self._team.wait()

    def _fitted(self, statement: CreateModel) -> Fitted:
        held: list[_Training] = []

        def make(connection: duckdb.DuckDBPyConnection, store: Store) -> Lifecycle:
            models = self._train(connection, store)
            models.team = self._team
            held.append(models)
            return models

        with self._connected(make) as session:
            session.run(statement)
        return held[0].made

    @contextmanager
    def _connected(self, train: MakeModels | None = None) -> Iterator[Session]:
        """A session of this process, for reading where it trains."""
        make = train or self._make
        with connect(self._database, read_only=train is not None, models=make) as session:
            if train is not None and self._team.here > 1:
                share = _SHARED // self._team.here
                session.connection.execute(f"SET memory_limit = '{share}%'")
            for statement in self._said:
                session.run(statement)
            yield session
