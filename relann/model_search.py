"""Models that are looked for: what CREATE MODEL … OPTIONS (auto = true) and ml_autoselect do."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from relann.algebra.table_calls import CallArgument, TableCall
from relann.autoselect.bank import Bank
from relann.autoselect.search import Found, Search, outlook
from relann.autoselect.settings import Settings
from relann.autoselect.signals import signals
from relann.autoselect.trials import Trial, ranked
from relann.bound_models import BoundModels
from relann.discovery import discover
from relann.errors import QueryError, Span
from relann.models.fitted import Trainer
from relann.models.progress import say
from relann.models.tasks import Task
from relann.schema import Schema

PROBED = 120.0
"""Seconds of budget from which on the probes, which train two small models, are among the signals
that the selector is asked with."""

COLUMNS = pa.schema(
    [
        ("rank", pa.int32()),
        ("family", pa.string()),
        ("template", pa.string()),
        ("metric", pa.string()),
        ("validation", pa.float64()),
        ("as_test", pa.float64()),
        ("fold", pa.float64()),
        ("barrier", pa.float64()),
        ("epochs", pa.int64()),
        ("seconds", pa.float64()),
        ("chosen", pa.bool_()),
        ("program", pa.string()),
        ("note", pa.string()),
    ]
)


@dataclass(frozen=True)
class KeptTrials:
    """A task's trials in the database, those on the data as they are now."""

    models: BoundModels
    task: Task
    data: str

    @classmethod
    def of(cls, models: BoundModels, task: Task, schema: Schema) -> KeptTrials:
        """Those on the tables of a schema."""
        state = models.engine.data_version([*schema.relations, task.seeds])
        told = f"{task.definition}\n{state}"
        return cls(models, task, hashlib.sha256(told.encode()).hexdigest()[:16])

    def trials(self) -> Sequence[Trial]:
        """Those of this task, on the data as they are."""
        return [Trial(**row) for row in self.models.store.trials(self.task.name, self.data)]

    def add(self, trial: Trial) -> None:
        """Keep one more, where the database can be written."""
        if self.models.store.writable:
            self.models.store.add_trial(self.task.name, self.data, asdict(trial))


def searched(
    models: BoundModels, train: Trainer, settings: Settings, name: str, where: Span | None
) -> Found:
    """What a search for a task's model finds; nothing but its trials is kept.

    Raises QueryError for a task that is not there or ranks, DataError where no program could be
    trained, EngineError without Optuna.
    """
    begun = time.perf_counter()
    task = models.store.task(settings.task, settings.span("task") or where)
    if task.kind == "ranking":
        raise QueryError(f"a search is for one label a seed, and `{task.name}` is a ranking", where)
    schema = discover(models.connection)
    bank = Bank.shipped()
    if settings.without is not None:
        bank = bank.without(settings.without)
    said = signals(
        models.connection, models.engine, task, schema, probes=settings.seconds >= PROBED
    )
    word = outlook(task, said, bank)
    for reason in word.reasons:
        say(reason)
    search = Search(
        task, settings, train, KeptTrials.of(models, task, schema), word, bank, name,
        say, begun + settings.seconds,
    )  # fmt: skip
    return search.run()


def report(found: Found) -> str:
    """How a search went, in sentences, and the winner as SQL."""
    tried = f"{len(found.trials)} programs were tried"
    return "\n".join([*(f"  {r}" for r in found.reasons), f"  {tried}", "", found.trial.program])


def as_table(found: Found) -> pa.Table:
    """The trials, the best validated first, with what is known of the finalists; see COLUMNS."""
    examined = {t.point: t for t in found.finalists}
    rows = []
    good = ranked(t for t in found.trials if t.error is None)
    for rank, trial in enumerate(good, start=1):
        known = asdict(examined.get(trial.point, trial))
        chosen = trial.point == found.trial.point
        note = " ".join(found.reasons) if chosen else None
        rows.append({**known, "rank": rank, "chosen": chosen, "note": note})
    for trial in found.trials:
        if trial not in good:
            rows.append({**asdict(trial), "rank": None, "chosen": False, "note": trial.error})
    return pa.Table.from_pylist(rows, schema=COLUMNS)


def settings_of(call: TableCall) -> Settings:
    """The settings of a call of ml_autoselect."""
    known = [n for n in Settings.model_fields if n not in ("task", "auto")]
    arguments = call.bound(["task"], known)
    return Settings.parsed(
        {name: _Argument(value, call.span) for name, value in arguments.items()}, call.span
    )


@dataclass(frozen=True)
class _Argument:
    """An argument of a call as settings take options."""

    argument: CallArgument
    call: Span

    @property
    def value(self) -> object:
        return self.argument.value

    @property
    def name_span(self) -> Span:
        return self.argument.span or self.call

    @property
    def span(self) -> Span:
        return self.argument.span or self.call
