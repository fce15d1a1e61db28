"""Which base tuples a prediction came from, and what each contributed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import Marked, Use
from relann.models.batches import Part
from relann.models.losses import Head
from relann.models.splits import Numbers
from relann.provenance.module import QueryModule
from relann.provenance.semirings.how import shown
from relann.provenance.slices import cut

SCHEMA = pa.schema(
    [
        ("table_name", pa.string()),
        ("key", pa.string()),
        ("path", pa.string()),
        ("depth", pa.int32()),
        ("contribution", pa.float64()),
    ]
)

_Place = tuple[str, str, str, int]


def lineage(module: QueryModule, head: Head, maps: RowMaps, rows: Numbers) -> pa.Table:
    """The base tuples that output rows came from, with their contributions, largest first.

    `maps` are those of a `marked` query; `rows` its output rows (distinct, ascending), whose scores
    are added up. The score is the prediction before any softmax or sigmoid: for several classes
    that of the class predicted.

    table_name, key  the tuple: its table and primary key, else its row number, as text
    path             the aliases that lead to it from the outermost query, `o.items`
    depth            how many groups lie between it and the prediction
    contribution     for a tuple inside a group gradient × value, summed over the rows of the group
                     that the tuple is part of; for one of the predicted row itself gradient × what
                     is read of it, encoded. 0 for a tuple that is only there.
    """
    piece = cut(maps, rows)
    part = Part.bind(module, piece)
    values: list[Tensor | None] = list(part.batch.start)
    found: dict[int, Tensor] = {}
    steps = maps.plan.steps
    with torch.enable_grad():
        for number, run, _ in part.batch.program:
            value = run(values)
            if isinstance(steps[number].operation, Marked):
                value = value if value.requires_grad else value.detach().clone().requires_grad_()
                found[number] = value
            values[number] = value
        ((_, read, _),) = part.batch.outputs
        scores = head.used(part.asked(read(values)))
        chosen = scores.gather(1, scores.argmax(dim=1, keepdim=True))
        if part.valid is not None:
            chosen = chosen[torch.from_numpy(part.valid)]
        gradients = _gradients(chosen.sum(), list(found.values()))
    total: dict[_Place, float] = {}
    for (number, value), gradient in zip(found.items(), gradients, strict=True):
        operation, space = steps[number].operation, steps[number].space
        assert isinstance(operation, Marked)
        each = np.zeros(len(value))
        if operation.counted and gradient is not None:
            each = (gradient * value).detach().double().sum(dim=1).cpu().numpy()
        for use in operation.uses:
            for place, amount in _places(use, space, piece.maps, each):
                total[place] = total.get(place, 0.0) + amount
    return _table(total)


def _gradients(score: Tensor, values: list[Tensor]) -> list[Tensor | None]:
    if not values or not score.requires_grad:
        return [None] * len(values)
    return list(torch.autograd.grad(score, values, allow_unused=True))


def _places(
    use: Use, space: int, maps: RowMaps, each: npt.NDArray[np.float64]
) -> Iterator[tuple[_Place, float]]:
    """The tuple of each row, with the row's amount; rows without a tuple are passed over."""
    columns = [maps.columns[space, key].to_pylist() for key in use.keys]
    path = ".".join(use.path)
    for key, amount in zip(zip(*columns, strict=True), each.tolist(), strict=True):
        if any(part is not None for part in key):
            yield (use.table, shown(key), path, use.depth), amount


def _table(total: dict[_Place, float]) -> pa.Table:
    order = sorted(total, key=lambda place: (-abs(total[place]), place[3], place))
    columns = [pa.array([p[i] for p in order], SCHEMA.types[i]) for i in range(4)]
    amounts = pa.array([total[p] + 0.0 for p in order], pa.float64())
    return pa.Table.from_arrays([*columns, amounts], schema=SCHEMA)
