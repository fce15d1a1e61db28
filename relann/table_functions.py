"""The table functions of models: what they predict, how well, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime

import numpy as np
import pyarrow as pa

from relann.algebra.rowmaps import RowMaps
from relann.algebra.table_calls import CallArgument, TableCall
from relann.algebra.terms import quoted
from relann.autoselect.signals import as_table, signals
from relann.bound_models import BoundModels, Known, trained_of
from relann.chunking import over_chunks
from relann.deployment import deploy, statements
from relann.dialects.known import dialect_of
from relann.discovery import discover
from relann.errors import QueryError, placed
from relann.models.boosting import Boosted
from relann.models.moments import of_rows, ranked
from relann.models.prediction import (
    Judged,
    candidates,
    evaluate,
    judged,
    metrics_over,
    predict,
)
from relann.models.program import check_one_row_each
from relann.models.ranking import ranking_metrics, seed_of
from relann.models.splits import NAMES
from relann.models.tasks import Task
from relann.models.training import CURVE
from relann.store import ModelRecord


class TableFunctions:
    """`by_name` gives of each function what makes its rows."""

    def __init__(self, models: BoundModels) -> None:
        self._models = models
        self.by_name: Mapping[str, Callable[[TableCall], pa.Table]] = {
            "ml_predict": self._predict,
            "ml_evaluate": self._evaluate,
            "ml_training_info": self._training_info,
            "ml_weights": self._weights,
            "ml_importance": self._importance,
            "ml_to_sql": self._to_sql,
            "ml_signals": self._signals,
        }

    def _predict(self, call: TableCall) -> pa.Table:
        arguments = call.bound(["model"], ["query", "at"])
        record = self._models.record(arguments["model"])
        task = record.options.get("task")
        if task is not None and len(arguments) > 1:
            return self._predict_asked(record, task, arguments)
        if "at" in arguments:
            raise QueryError(
                "`at` is for models of a task; this one knows no time", arguments["at"].span
            )
        known = self._models.known(arguments["model"])
        if "query" not in arguments:
            return self._predicted(known)
        return predict(known.trained, known.maps, self._models.rows_of(known, arguments["query"]))

    def _predicted(self, known: Known) -> pa.Table:
        """The predictions of all rows, of a task's seeds in chunks where they do not fit."""
        found = over_chunks(self._models, known, lambda maps: predict(known.trained, maps))
        if found is not None:
            return pa.concat_tables(found)
        if known.program.moment is not None and known.program.moment.seeds.label is None:
            check_one_row_each(known.program, known.maps, self._models.catalog)
        return predict(known.trained, known.maps)

    def _predict_asked(
        self, record: ModelRecord, task: str, arguments: Mapping[str, CallArgument]
    ) -> pa.Table:
        """Predictions for entities at times that need not be the task's."""
        query, at = arguments.get("query"), arguments.get("at")
        given = query or at
        assert given is not None
        with placed(given.span):
            if query is not None and query.query is None:
                raise QueryError("the rows to predict are a table or a sub-query", query.span)
            moment = of_rows(
                self._models.store.task(task),
                None if query is None else query.query,
                None if at is None else _time(at),
                discover(self._models.connection),
                self._models.catalog,
            )
            known = self._models.known(arguments["model"], moment)
            return self._predicted(known)

    def _evaluate(self, call: TableCall) -> pa.Table:
        arguments = call.bound(["model"], ["split"])
        known = self._models.known(arguments["model"])
        given = arguments.get("split")
        with placed(call.span if given is None else given.span):
            split = "test" if given is None else given.value
            if split is not None and not isinstance(split, str):
                raise QueryError("`split` is 'train', 'val' or 'test', or NULL for all rows")
            metrics = self._judged(known, split)
            name = known.trained.options.task
            task = None if name is None else self._models.store.task(name)
            if task is None or ranked(task) is None:
                return metrics
            return pa.concat_tables([metrics, self._ranking(known, task, split)])

    def _judged(self, known: Known, split: str | None) -> pa.Table:
        """The metrics of a split's rows, in chunks of a task's seeds where they do not fit."""
        if split is not None and split not in NAMES:
            return evaluate(known.trained, known.maps, split)  # which says what is wrong

        def use(maps: RowMaps) -> Judged | None:
            return judged(known.trained, maps, split)

        parts = over_chunks(self._models, known, use, None if split is None else NAMES[split])
        if parts is None:
            return evaluate(known.trained, known.maps, split)
        return metrics_over(known.trained, parts, split)

    def _ranking(self, known: Known, task: Task, split: str | None) -> pa.Table:
        """How good the order of each seed's items is; `rows` counts seeds."""
        where = "true" if split is None else f"{quoted(task.split)} = '{NAMES[split]}'"
        seeds = self._models.connection.sql(
            f"SELECT {quoted(task.entity)}, {quoted(task.time)}, "
            f"len({quoted(task.label)}) AS count FROM {task.seeds} WHERE {where}"
        ).to_arrow_table()
        pairs = candidates(known.trained, known.maps, split)
        key = (task.entity, task.time)
        found = ranking_metrics(
            pa.table(
                {
                    "seed": seed_of(pairs, key),
                    "score": pairs.column("probability"),
                    "right": pairs.column("right"),
                }
            ),
            pa.table({"seed": seed_of(seeds, key), "count": seeds.column("count")}),
            task.top_k,
        )
        return pa.table(
            {
                "metric": pa.array(found, pa.string()),
                "value": pa.array(found.values(), pa.float64()),
                "rows": pa.array([seeds.num_rows] * len(found), pa.int64()),
            }
        )

    def _training_info(self, call: TableCall) -> pa.Table:
        record = self._models.record(call.bound(["model"])["model"])
        return pa.Table.from_pylist([dict(epoch) for epoch in record.curve], schema=CURVE)

    def _weights(self, call: TableCall) -> pa.Table:
        record = self._models.record(call.bound(["model"])["model"])
        if record.options.get("head") == "gbdt":
            raise QueryError(
                f"model `{record.name}` has trees and no weights; "
                f"ml_importance('{record.name}') says what they split on",
                call.span,
            )
        names, positions, values = [], [], []
        for name, tensor in record.weights.items():
            names.append(np.full(tensor.numel(), name, dtype=object))
            index = np.indices(tuple(tensor.shape)).reshape(tensor.dim(), -1).T
            positions.extend(index.tolist())
            values.append(tensor.double().flatten().numpy())
        return pa.table(
            {
                "parameter": pa.array(np.concatenate(names) if names else [], pa.string()),
                "position": pa.array(positions, pa.list_(pa.int64())),
                "value": pa.array(np.concatenate(values) if values else [], pa.float64()),
            }
        )

    def _importance(self, call: TableCall) -> pa.Table:
        argument = call.bound(["model"])["model"]
        record = self._models.record(argument)
        if record.options.get("head") != "gbdt":
            raise QueryError(
                f"model `{record.name}` is a network, and importance is that of features of "
                f"head = 'gbdt'; its weights are ml_weights('{record.name}')",
                call.span,
            )
        trained = trained_of(record, argument.span)
        assert isinstance(trained, Boosted)
        return trained.importance()

    def _to_sql(self, call: TableCall) -> pa.Table:
        arguments = call.bound(["model"], ["dialect", "at"])
        known = self._known_at(arguments["model"], arguments.get("at"), call)
        if "dialect" in arguments:
            return self._elsewhere(known, arguments["dialect"])
        sql = deploy(
            self._models.connection,
            self._models.store,
            known.record,
            known.program,
            known.trained,
            known.maps,
        )
        return pa.table({"sql": [sql]})

    def _known_at(self, model: CallArgument, at: CallArgument | None, call: TableCall) -> Known:
        """A model, one of a task with all entities of its table at one time as the seeds."""
        record = self._models.record(model)
        task = record.options.get("task")
        if task is None:
            if at is not None:
                raise QueryError("`at` is for models of a task; this one knows no time", at.span)
            return self._models.known(model)
        if at is None:
            raise QueryError(
                f"model `{record.name}` is evaluated as of a time, and SQL needs to know which: "
                f"ml_to_sql('{record.name}', at => TIMESTAMP '…')",
                call.span,
            )
        with placed(at.span):
            moment = of_rows(
                self._models.store.task(task),
                None,
                _time(at),
                discover(self._models.connection),
                self._models.catalog,
            )
            return self._models.known(model, moment)

    def _elsewhere(self, known: Known, dialect: CallArgument) -> pa.Table:
        """The statements that make a model's SQL for another database, the query last."""
        with placed(dialect.span):
            to = dialect_of(dialect.value)
        models = self._models
        found = statements(
            models.connection, known.record, known.program, known.trained, known.maps, to
        )
        kinds, texts = zip(*found, strict=True)
        return pa.table(
            {
                "step": pa.array(range(1, len(found) + 1), pa.int32()),
                "kind": pa.array(kinds, pa.string()),
                "sql": pa.array(texts, pa.string()),
            }
        )

    def _signals(self, call: TableCall) -> pa.Table:
        arguments = call.bound(["task"], ["probes"])
        task, probes = arguments["task"], arguments.get("probes")
        if not isinstance(task.value, str):
            raise QueryError("a task's name stands in quotes: 'churn'", task.span)
        if probes is not None and not isinstance(probes.value, bool):
            raise QueryError("`probes` is true or false", probes.span)
        models = self._models
        known = models.store.task(task.value, task.span)
        wanted = probes is None or probes.value is True
        schema = discover(models.connection)
        return as_table(signals(models.connection, models.engine, known, schema, wanted))


def _time(argument: CallArgument) -> datetime:
    """The time that `at` says."""
    value: object = argument.value
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime) or value.tzinfo is not None:
        raise QueryError(
            "`at` is a time without a time zone, as in TIMESTAMP '2024-01-31'", argument.span
        )
    return value
