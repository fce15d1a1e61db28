"""How flat the loss is around a trained network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from relann.algebra.rowmaps import RowMaps
from relann.errors import DataError
from relann.models.batches import Part
from relann.models.splits import labelled, output_column, split_rows
from relann.models.training import Trained
from relann.provenance.module import QueryModule
from relann.provenance.slices import cut

ROWS = 2000
"""On how many training rows the loss is looked at, at most."""

NEAR, FAR = 0.05, 0.5
"""Steps of a direction that is as long as the weights: for derivatives, and for the barrier."""


@dataclass(frozen=True)
class Landscape:
    """The training loss around the weights, along two random directions.

    A direction is Gaussian, each row of a weight matrix (each vector of biases) scaled to the norm
    of the weights it is added to, so that scaling the layers of a network changes nothing (Li et
    al., *Visualizing the Loss Landscape of Neural Nets*, NeurIPS 2018,
    <https://arxiv.org/abs/1712.09913>, section 4). Numbers are means over both directions, and
    relative to the loss at the weights themselves.

    gradient   size of the first derivative
    curvature  the second derivative
    barrier    how much the loss rises at most until half the weights' own length away
    """

    gradient: float
    curvature: float
    barrier: float


def landscape(trained: Trained, maps: RowMaps, seed: int = 0) -> Landscape | None:
    """The loss around a network's weights; None where there is nothing to see.

    That is a loss of 0, or one that is not finite nearby. The same weights, rows and seed give the
    same numbers. Raises DataError where no training row has a label.
    """
    options, head = trained.options, trained.head
    assert options.label is not None
    column = output_column(maps.plan, options.label, "label", options.span("label"))
    labels = maps.columns[maps.plan.output, column]
    rows = labelled(labels, split_rows(maps, options.split, options.label, options.seed)["train"])
    if not len(rows):
        raise DataError("no training row has a label")
    source = np.random.default_rng(seed)
    if len(rows) > ROWS:
        rows = np.sort(source.choice(rows, ROWS, replace=False))
    module = trained.module(maps.plan)
    part = Part.bind(module, cut(maps, rows).running())
    targets = torch.from_numpy(head.targets(labels, column)[rows])

    def loss() -> float:
        with torch.no_grad():
            return float(head.value(part.scores(module), targets))

    generator = torch.Generator().manual_seed(seed)
    found = [_along(module, _direction(module, generator), loss) for _ in range(2)]
    numbers = [fmean(values) for values in zip(*found, strict=True)]
    return Landscape(*numbers) if bool(np.isfinite(numbers).all()) else None


def _direction(module: QueryModule, generator: torch.Generator) -> list[Tensor]:
    found = []
    for parameter in module.parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        if parameter.dim() > 1:
            own, other = (t.flatten(1).norm(dim=1) for t in (parameter.detach(), drawn))
            scale = (own / other.clamp_min(1e-12)).reshape(-1, *[1] * (parameter.dim() - 1))
        else:
            scale = parameter.detach().norm() / drawn.norm().clamp_min(1e-12)
        found.append(drawn * scale)
    return found


def _along(
    module: QueryModule, direction: list[Tensor], loss: Callable[[], float]
) -> tuple[float, float, float]:
    start = [p.detach().clone() for p in module.parameters()]

    def at(step: float) -> float:
        with torch.no_grad():
            for parameter, first, way in zip(module.parameters(), start, direction, strict=True):
                parameter.copy_(first + step * way)
        return loss()

    here = at(0.0)
    if here == 0:
        return (float("nan"),) * 3
    back, forth = at(-NEAR), at(NEAR)
    far = [at(step) for step in (-FAR, -FAR / 2, FAR / 2, FAR)]
    at(0.0)
    return (
        abs(forth - back) / (2 * NEAR) / here,
        (forth + back - 2 * here) / NEAR**2 / here,
        (max(back, forth, here, *far) - here) / here,
    )
