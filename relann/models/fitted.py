"""A model that is trained and not kept yet: what a database keeps, and what a search compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from relann.algebra.rowmaps import RowMaps
from relann.algebra.statements import CreateModel
from relann.errors import QueryError
from relann.models.boosting import Boosted, fit_boosted
from relann.models.learning import Watch, unwatched
from relann.models.options import Options
from relann.models.program import AsOf, Program
from relann.models.team import ALONE, Team
from relann.models.training import Trained, fit


@dataclass(frozen=True)
class Fitted:
    """A trained model with the query it is of.

    program   what it was trained on
    moment    the seeds of its task, of all splits; None without a task
    ids       output columns that say which row it is
    layers    definitions of the layers it uses, by name
    compiled  the same query for other seeds, or on a database that ends elsewhere
    built     a program's row maps
    chunks    how row maps were built where those of all seeds did not fit; empty where they did
    """

    statement: CreateModel
    options: Options
    program: Program
    moment: AsOf | None
    ids: frozenset[str]
    layers: Mapping[str, str]
    trained: Trained | Boosted
    compiled: Callable[[AsOf], Program]
    built: Callable[[Program], RowMaps]
    chunks: str = ""

    @property
    def maps(self) -> RowMaps:
        """The row maps it was trained on."""
        return self.built(self.program)

    @property
    def whole(self) -> RowMaps:
        """The row maps for all seeds of its task, which are more than it was trained on where
        validation = 'as_test'."""
        if self.moment is None or self.moment is self.program.moment:
            return self.maps
        return self.built(self.compiled(self.moment))

    def until(self, end: datetime, split: str) -> RowMaps:
        """The row maps for the task's seeds of a split, on a database that ends at a time."""
        assert self.moment is not None and self.options.split is not None
        asked = self.moment.of_splits(self.options.split, split).until(end)
        return self.built(self.compiled(asked))

    def on_splits(
        self, splits: pa.Array, watch: Watch = unwatched
    ) -> tuple[Trained | Boosted, RowMaps]:
        """The same model trained anew where rows belong to other splits, and its row maps.

        `splits` has one of 'train', 'val', 'test' or NULL for each output row.
        """
        maps = self.maps
        assert self.options.split is not None
        column = dict(maps.plan.contents)[self.options.split]
        moved = replace(maps, columns={**maps.columns, (maps.plan.output, column): splits})
        return trained_on(moved, self.trained.options, self.ids, watch), moved

    def column(self, name: str) -> pa.Array:
        """A content column of the output."""
        maps = self.maps
        return maps.columns[maps.plan.output, dict(maps.plan.contents)[name]]


def trained_on(
    maps: RowMaps,
    options: Options,
    ids: frozenset[str],
    watch: Watch = unwatched,
    team: Team = ALONE,
) -> Trained | Boosted:
    """A model trained on row maps with the head its options name.

    QueryError for trees in a team of several processes.
    """
    if options.head is None:
        return fit(maps, options, watch, team)
    if team.size > 1:
        raise QueryError(
            "several processes train networks, and head = 'gbdt' is trees: LightGBM grows them on "
            "all cores of one process. Create the model by relann run",
            options.span("head"),
        )
    return fit_boosted(maps, options, ids, watch)


class Trainer(Protocol):
    """What trains the statement of a model."""

    def __call__(self, statement: CreateModel, watch: Watch = unwatched) -> Fitted:
        """The trained model; nothing is kept. Errors are those of CREATE MODEL."""
