"""Whether a model's row maps fit in memory, and what is done chunk by chunk where they do not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TypeVar

import numpy as np

from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.rowmaps import RowMaps
from relann.algebra.sql import node_to_sql
from relann.bound_models import BoundModels, Known
from relann.models.chunked import fit_in_chunks
from relann.models.chunks import SeedMaps, cut_up, pieces_of
from relann.models.learning import Watch
from relann.models.memory import in_words, limit
from relann.models.options import Options
from relann.models.program import Program
from relann.models.training import Trained
from relann.second_connection import second_connection, seen_by_one_only

log = logging.getLogger("relann")

T = TypeVar("T")

_WHOLE = "`memory_limit` is not kept inside a transaction: row maps are built whole"
_FEW = 4096  # seeds up to which sizes are only looked at where `memory_limit` is given


def maps_or_trained(
    models: BoundModels, program: Program, options: Options, watch: Watch
) -> tuple[RowMaps | Trained, str]:
    """The row maps of a model; where those of a task's in batches do not fit, the model trained.

    Beside it a sentence on what became of the limit, empty where all fits. Chunks are built on a
    connection of their own, on another thread, unless the session's one sees what others do not. In
    a transaction nothing is cut: DuckDB would keep what was built of each chunk until its end.
    """
    if not (_in_batches(options) and options.train and options.head is None):
        return models.maps(program), ""
    if models.store.in_transaction():
        told = "" if options.memory_limit is None else _WHOLE
        return models.maps(program), told
    with ExitStack() as stack:
        opened: list[tuple[SeedMaps, Callable[[], None] | None, int, str]] = []

        def too_large() -> bool:
            bytes_allowed = _limit(models, options)
            maps, interrupt, why = stack.enter_context(_seed_maps(models, program, options))
            if maps.sizes.whole <= bytes_allowed or not maps.of("train").size:
                stack.close()
                return False
            opened.append((maps, interrupt, bytes_allowed, why))
            return True

        if options.memory_limit is not None:  # whatever was built before, the same bits every time
            found = None if too_large() else models.maps(program)
        else:
            found = models.maps_unless(program, lambda: _many(models, program) and too_large())
        if found is not None:
            return found, ""
        ((maps, interrupt, bytes_allowed, why),) = opened
        assert options.batch_size is not None
        cutting = cut_up(maps, bytes_allowed, options.batch_size, options.seed)
        told = _told(maps, bytes_allowed, len(cutting.train), len(cutting.train[0]), why)
        log.info("%s", told)
        return fit_in_chunks(maps, cutting, options, interrupt, watch), told


def over_chunks(
    models: BoundModels, known: Known, use: Callable[[RowMaps], T], split: str | None = None
) -> list[T] | None:
    """What `use` makes of the row maps of each chunk of a task's seeds; None where all fit.

    With `split`, 'train', 'val' or 'test', of the seeds that belong to it. They are built one after
    the other, on the session's connection.
    """
    options, program = known.trained.options, known.program
    if program.moment is None or not _may_not_fit(models, program, options):
        return None
    allowed = _limit(models, options)
    column = options.split if program.moment.seeds.label is not None else None
    with closing(SeedMaps(program, models.engine, models.connection, column)) as maps:
        if maps.sizes.whole <= allowed:
            return None
        most = maps.sizes.most(maps.sizes.share(allowed, 1))
        chosen = np.arange(maps.count)
        if split is not None:
            chosen = np.flatnonzero(maps.splits == split)
        pieces = pieces_of(chosen, most)
        log.info("%s", _told(maps, allowed, len(pieces), most, ""))
        return [use(maps.build(piece)[0]) for piece in pieces]


def in_one_chunk(
    models: BoundModels, program: Program, options: Options, use: Callable[[RowMaps], T]
) -> tuple[T, str] | None:
    """What `use` makes of the row maps of a first chunk of training seeds, and what to say of it.

    None where row maps of all seeds fit.
    """
    if not _in_batches(options) or not _may_not_fit(models, program, options):
        return None
    allowed, size = _limit(models, options), options.batch_size
    with closing(
        SeedMaps(program, models.engine, models.connection, options.split, options.label)
    ) as maps:
        if maps.sizes.whole <= allowed:
            return None
        assert size is not None
        parts = cut_up(maps, allowed, size, options.seed).train
        told = _told(maps, allowed, len(parts), len(parts[0]), "")
        return use(maps.build(parts[0])[0]), f"{told}; one of them is shown"


def _in_batches(options: Options) -> bool:
    return options.task is not None and options.batch_size is not None


def _may_not_fit(models: BoundModels, program: Program, options: Options) -> bool:
    """Whether sizes are worth a look: whole maps are not there, and chunks could be built."""
    if models.held(program) is not None or models.store.in_transaction():
        return False
    return options.memory_limit is not None or _many(models, program)


def _many(models: BoundModels, program: Program) -> bool:
    """Whether there are so many seeds that sizes are worth a look where no limit is given."""
    assert program.moment is not None
    sql = f"SELECT count(*) FROM ({node_to_sql(program.moment.seeds.node)})"
    return bool(models.catalog.value(sql) > _FEW)


def _limit(models: BoundModels, options: Options) -> int:
    otherwise = str(models.catalog.value("SELECT current_setting('memory_limit')"))
    return limit(options.memory_limit, otherwise)


@contextmanager
def _seed_maps(
    models: BoundModels, program: Program, options: Options
) -> Iterator[tuple[SeedMaps, Callable[[], None] | None, str]]:
    """Seeds' maps for training, what interrupts their connection, why they have none of their own.

    Nothing is to be interrupted where they are built on the session's connection.
    """
    split, label = options.split, options.label
    why: str | None = "only DuckDB builds row maps on a thread of its own"
    if isinstance(models.engine, DuckDBEngine):
        why = seen_by_one_only(models.connection)
    if why is not None:
        with closing(SeedMaps(program, models.engine, models.connection, split, label)) as maps:
            yield maps, None, why
        return
    with (
        second_connection(models.connection) as second,
        closing(SeedMaps(program, DuckDBEngine(second), second, split, label)) as maps,
    ):
        yield maps, second.interrupt, ""


def _told(maps: SeedMaps, allowed: int, chunks: int, seeds: int, why: str) -> str:
    whole, fixed = in_words(maps.sizes.whole), in_words(maps.sizes.fixed)
    told = (
        f"row maps take about {whole}, {fixed} of it whatever the seeds are, and the limit is "
        f"{in_words(allowed)}: built in {chunks:,} chunks of {seeds:,} seeds"
    )
    return f"{told}, not on another thread, as {why}" if why else told
