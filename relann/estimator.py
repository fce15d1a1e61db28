"""A model as an object, in the manner of scikit-learn: fit, predict, score, save, load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pandas as pd
import pyarrow as pa
import torch
from sqlglot import exp
from torch import Tensor, nn

from relann.algebra.parse import statements
from relann.algebra.statements import CreateModel
from relann.algebra.terms import quoted
from relann.duckdb_errors import duckdb_error_text
from relann.errors import DataError, QueryError, Span, listing
from relann.lifecycle import Lifecycle
from relann.models.batches import Part
from relann.models.tasks import Task
from relann.provenance.module import QueryModule
from relann.provenance.sql_elements import text_of
from relann.session import Session
from relann.store import LayerRecord, ModelRecord, Store
from relann.transport import read_folder, write_folder

Data: TypeAlias = Session | duckdb.DuckDBPyConnection | Mapping[str, Any] | pd.DataFrame | pa.Table
"""A database, or data frames by the name of the table that each stands for.

A data frame alone stands for the one table that a model reads."""

_NAME = "model"
_PREDICTED = f"SELECT * FROM ml_predict('{_NAME}')"


class Model:
    """A query with its options, to be trained on any database or on data frames.

    >>> shop = pd.DataFrame({"id": range(40), "size": [i % 7 for i in range(40)]})
    >>> shop["big"] = shop["size"] > 3
    >>> model = Model("SELECT id, big, linear(numeric(size), 1) AS z FROM shop", label="big")
    >>> model.fit({"shop": shop}).predict().columns.to_list()
    ['id', 'big', 'prediction', 'probability']

    `sql` is what stands behind AS in CREATE MODEL, `options` are its OPTIONS. The model is held in
    memory, so a database it is fitted on is only read: `save` keeps it, and `IMPORT MODEL` brings
    it into a database. Raises QueryError for what is wrong with the query's text.
    """

    def __init__(self, sql: str, **options: Any) -> None:
        written = ", ".join(f"{name} = {_literal(name, v)}" for name, v in options.items())
        head = f"CREATE OR REPLACE MODEL {_NAME} OPTIONS ({written}) AS\n"
        self._definition, self._head = head + sql, len(head)
        self._record: ModelRecord | None = None
        self._fitted_on: _Place | None = None
        with self._told():
            found = statements(self._definition)
        if len(found) != 1 or not isinstance(found[0], CreateModel):
            raise QueryError("a model is one query, a SELECT", Span(sql, 0, len(sql)))

    def fit(self, data: Data) -> Model:
        """Train on a database's tables or on data frames; the model itself.

        Raises what CREATE MODEL raises; a model that was fitted before then stays as it was.
        """
        place = _Place.of(data, self._tables())
        with self._told():
            place.session.sql(self._definition)
        self._record = place.store.model(_NAME)
        self._fitted_on = place
        return self

    def predict(self, data: Data | None = None) -> pd.DataFrame:
        """The rows of `ml_predict`: the query's content columns and the prediction.

        `data` is a database, or data frames that stand for all tables the model reads, or for some:
        the others are as they were in `fit`. Without it, all of `fit`'s. The label and the split
        may be missing in a data frame, other columns may not, and further ones are not read.
        """
        return self._at(data).session.sql(_PREDICTED).df()

    def score(self, data: Data | None = None, split: str | None = None) -> float:
        """The accuracy of classes, the R² of numbers; as scikit-learn's.

        Over all labelled rows of `data`; without data over the test rows of `fit`. `split` picks
        other rows: 'train', 'val' or 'test'. NaN where there is none, as of one row's R².
        """
        rows = split or ("test" if data is None else None)
        asked = "NULL" if rows is None else text_of(rows)
        found = self._at(data).session.sql(
            f"SELECT value FROM ml_evaluate('{_NAME}', split => {asked}) "
            "WHERE metric IN ('accuracy', 'r2')"
        )
        ((value,),) = found.fetchall()
        return float("nan") if value is None else float(value)

    def save(self, folder: str | Path) -> None:
        """Write the model into a new folder, as EXPORT MODEL does: see `relann.transport`."""
        record = self._known()
        task = record.options.get("task")
        place = self._fitted_on
        write_folder(
            record, Path(folder), None if task is None or place is None else place.store.task(task)
        )

    @classmethod
    def load(cls, folder: str | Path) -> Model:
        """The model of a folder that `save` or EXPORT MODEL wrote; it is not trained again.

        Raises DataError, with the reason, for any other folder.
        """
        record = read_folder(Path(folder))
        (statement,) = statements(record.definition)
        assert isinstance(statement, CreateModel)
        model = cls.__new__(cls)
        model._definition = record.definition
        model._head = statement.body.span.start
        model._record, model._fitted_on = record, None
        return model

    def to_torch(self, data: Data | None = None) -> Bound:
        """The network with its weights as a module, bound to the rows of `data` (None: `fit`'s).

        Raises QueryError for head = 'gbdt', which has no network.
        """
        place = self._at(data)
        module, part = place.models.network(_NAME)
        return Bound(module, part, place.session.sql(_PREDICTED).df())

    @property
    def metrics(self) -> dict[str, float]:
        """The validation metric of the epoch that was kept."""
        return dict(self._known().metrics)

    def _known(self) -> ModelRecord:
        if self._record is None:
            raise QueryError("this model is not fitted yet: call fit first")
        return self._record

    def _tables(self) -> list[str]:
        """The tables that the query names itself, as they are written."""
        (statement,) = statements(self._definition)
        assert isinstance(statement, CreateModel)
        query = statement.body.query
        common = {c.alias_or_name.lower() for c in query.find_all(exp.CTE)}
        named = {
            t.name: None for t in query.find_all(exp.Table) if isinstance(t.this, exp.Identifier)
        }
        return [n for n in named if n.lower() not in common]

    def _at(self, data: Data | None) -> _Place:
        """Where the fitted model meets some data."""
        record = self._known()
        if data is None:
            if self._fitted_on is None:
                raise DataError(
                    "a loaded model has no data of its own; it reads "
                    f"{listing(record.info['reads'])}: hand them in"
                )
            return self._fitted_on
        place = _Place.of(data, self._tables(), record, self._fitted_on)
        place.store.save_model(replace(record, name=_NAME))
        return place

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors at their place in the user's query, without the head that was written here."""
        try:
            yield
        except QueryError as error:
            span, whole = error.span, self._definition
            if span is None or span.text != whole:
                raise
            if span.start < self._head:
                raise QueryError(error.message) from error
            at = Span(whole[self._head :], span.start - self._head, span.end - self._head)
            raise QueryError(error.message, at) from error


class Bound(nn.Module):
    """A network and the rows it is bound to; its parameters may be trained further.

    `rows` are what `predict` gave for them when it was made, in the order of the scores.
    """

    def __init__(self, network: QueryModule, part: Part, rows: pd.DataFrame) -> None:
        super().__init__()
        self.rows = rows
        self.network = network
        self._part = part

    def forward(self) -> Tensor:
        """The scores of all rows, in the order of `rows`; NaN where there is no prediction.

        Shape (rows, width): a logit for each class, or the number itself.
        """
        scores = self._part.scores(self.network)
        if self._part.valid is None:
            return scores
        valid = torch.from_numpy(self._part.valid)
        return torch.where(valid[:, None], scores, torch.nan)


class _Apart(Store):
    """A database's layers and tasks, and models that are held in memory beside it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__(duckdb.connect())
        self._beside = Store(connection)

    def layers(self) -> list[LayerRecord]:
        """The database's."""
        return self._beside.layers()

    def tasks(self) -> list[Task]:
        """The database's."""
        return self._beside.tasks()


class _Place:
    """A database, or data frames as one, and a session that keeps its models apart."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, frames: Mapping[str, Any] | None = None
    ) -> None:
        self.frames = dict(frames or {})
        self.store = _Apart(connection)
        self.models = Lifecycle(connection, self.store)
        self.session = Session(connection, lambda *_: self.models, owned=False)

    @classmethod
    def of(
        cls,
        data: Data,
        tables: Sequence[str],
        record: ModelRecord | None = None,
        before: _Place | None = None,
    ) -> _Place:
        """Where a query that names some tables reads data.

        Of a fitted model there is the `record`, and where it was fitted.
        """
        if isinstance(data, Session):
            return cls(data.connection)
        if isinstance(data, duckdb.DuckDBPyConnection):
            return cls(data)
        if not isinstance(data, Mapping):
            if len(tables) != 1:
                told = listing(f"`{t}`" for t in tables) or "none by name"
                raise DataError(
                    f"a data frame alone stands for one table, and the query reads {told}; hand in "
                    "{'table': frame, …}"
                )
            data = {tables[0]: data}
        frames = {**({} if before is None else before.frames), **data}
        connection = duckdb.connect()
        connection.execute("SET enable_progress_bar = false").fetchall()
        if record is None:
            for name, frame in frames.items():
                _load(connection, name, frame, f"CREATE TABLE {quoted(name)} AS FROM {{}}")
        else:
            _load_known(connection, frames, record)
        return cls(connection, frames)


def _load(connection: duckdb.DuckDBPyConnection, name: str, frame: Any, sql: str) -> None:
    """Run a statement that reads a data frame as `{}`."""
    try:
        connection.register("relann frame", frame)
        connection.execute(sql.format('"relann frame"')).fetchall()
        connection.unregister("relann frame")
    except duckdb.Error as error:
        raise DataError(
            f"the data frame for `{name}` cannot be a table: {duckdb_error_text(error)}"
        ) from error


def _load_known(
    connection: duckdb.DuckDBPyConnection, frames: Mapping[str, Any], record: ModelRecord
) -> None:
    """Make the tables a model reads, with the columns and types they had when it was fitted."""
    optional = {record.options.get("label"), record.options.get("split")}
    for table, columns in record.info["reads"].items():
        name = next((n for n in frames if quoted(n).lower() == table.lower()), None)
        if name is None:
            raise DataError(
                f"the model reads {listing(record.info['reads'])}, and there is no data frame for "
                f"{table}; there are {listing(frames) or 'none'}"
            )
        frame = frames[name]
        there = list(getattr(frame, "column_names", getattr(frame, "columns", ())))
        if lacking := [c for c in columns if c not in there and c not in optional]:
            raise DataError(
                f"the data frame for `{name}` lacks {listing(f'`{c}`' for c in lacking)}, which "
                f"the model's table had; it has {listing(map(str, there))}"
            )
        made = ", ".join(f"{quoted(c)} {kind}" for c, kind in columns.items())
        connection.execute(f"CREATE TABLE {table} ({made})").fetchall()
        kept = ", ".join(quoted(c) for c in columns if c in there)
        _load(connection, name, frame, f"INSERT INTO {table} ({kept}) SELECT {kept} FROM {{}}")


def _literal(name: str, value: object) -> str:
    """A value of an option as SQL."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return text_of(value)
        case list() | tuple():
            return f"[{', '.join(_literal(name, v) for v in value)}]"
    raise QueryError(
        f"option `{name}` is a {type(value).__name__}; options are texts, numbers, True, False, "
        "None or lists of these"
    )
