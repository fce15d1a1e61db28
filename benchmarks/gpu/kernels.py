"""The kernels alone: they need torch and numba, no database and no data frame library."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor


def _entered() -> None:
    """Make `relann`'s modules importable where what `import relann` takes is not installed."""
    try:
        importlib.import_module("relann")
    except ImportError:
        package = types.ModuleType("relann")
        package.__path__ = [str(Path(__file__).parents[2] / "relann")]
        sys.modules["relann"] = package


_entered()

from relann.provenance.arrays import shared  # noqa: E402
from relann.provenance.devices import synchronise  # noqa: E402
from relann.provenance.kernels import operations  # noqa: E402
from relann.provenance.kernels.gathering import gather, gathered_dot  # noqa: E402
from relann.provenance.kernels.products import (  # noqa: E402
    grouped_linear,
    product_sum,
    weighted_sum,
)
from relann.provenance.kernels.reducing import (  # noqa: E402
    segment_cumsum,
    segment_max,
    segment_mean,
    segment_softmax,
)
from relann.provenance.kernels.structures import Incidence, Index, Products  # noqa: E402


def seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median time of some runs, after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        synchronise(device)
        began = time.perf_counter()
        run()
        synchronise(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


class Sample:
    """Random pairs of rows, some of them −1, and vectors, on a device; the same on every device."""

    def __init__(self, rows: int, pairs: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        self.rows, self.pairs, self.device = rows, pairs, device

        def numbers(least: int, below: int) -> Tensor:
            made = torch.randint(least, below, (pairs,), generator=generator, dtype=torch.int32)
            return made.to(device)

        def vectors(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(device).requires_grad_()

        self.targets, self.sources = numbers(-1, rows), numbers(-1, rows)
        self.sets = numbers(0, 7)
        self.x, self.y, self.each = vectors(rows, 64), vectors(rows, 64), vectors(pairs, 64)
        self.weight, self.heads = vectors(pairs, 1), vectors(pairs, 4)
        self.matrices, self.biases = vectors(7, 64, 16), vectors(7, 16)

    def outcome(self, run: Callable[[Sample], Tensor]) -> list[Tensor]:
        """The value of a function of this, and all gradients of its square."""
        value = run(self)
        value.square().mean().backward()
        learned = (self.x, self.y, self.each, self.weight, self.heads, self.matrices, self.biases)
        found = [value.detach(), *(t.grad for t in learned if t.grad is not None)]
        return [t.cpu().double() for t in found]


def _met(s: Sample) -> Incidence:
    return Incidence.build(s.targets, s.sources, s.rows, s.rows)


def _grouped(s: Sample) -> Incidence:
    return Incidence.build(s.targets, None, s.rows, s.pairs)


def _product(s: Sample) -> Tensor:
    products = Products.build(s.sets, [s.targets, s.sources], 7, [s.rows, s.rows])
    return product_sum([s.x, s.y], products)


KERNELS: dict[str, Callable[[Sample], Tensor]] = {
    "gather": lambda s: gather(s.x, Index.build(s.sources, s.rows)),
    "gathered dot": lambda s: gathered_dot(
        s.x, s.y, Index.build(s.targets, s.rows), Index.build(s.sources, s.rows), 4
    ),
    "sum": lambda s: weighted_sum(s.x, None, _met(s)),
    "weighted sum": lambda s: weighted_sum(s.x, s.weight, _met(s)),
    "weighted sum, 4 heads": lambda s: weighted_sum(s.x, s.heads, _met(s)),
    "mean": lambda s: segment_mean(s.each, _grouped(s)),
    "greatest": lambda s: segment_max(s.each, _grouped(s)),
    "softmax": lambda s: segment_softmax(s.heads, _grouped(s)),
    "running sum": lambda s: segment_cumsum(s.each, _grouped(s)),
    "linear by set": lambda s: grouped_linear(
        s.each, s.matrices, Incidence.build(s.sets, None, 7, s.pairs), s.biases
    ),
    "sum of products": _product,
}
"""Each builds its structures where the row numbers are."""


def apart(run: Callable[[Sample], Tensor], rows: int, pairs: int, device: torch.device) -> float:
    """How far a kernel on the device is from the compiled loops on the CPU: the largest difference
    of values and gradients, over the largest size of any.

    If the device is the CPU, what other devices run is run there.
    """
    sides = []
    for place, compiled in ((torch.device("cpu"), operations.COMPILED), (device, ())):
        with mock.patch.object(operations, "COMPILED", compiled):
            sides.append(Sample(rows, pairs, place).outcome(run))
    return max(
        float((a - b).abs().max() / a.abs().max().clamp(min=1e-6))
        for a, b in zip(*sides, strict=True)
    )


def bandwidths(rows: int, degree: int, width: int, device: torch.device) -> dict[str, float]:
    """GB/s of a copy and of a weighted sum over groups, by relann and by torch's sparse product.

    Counted are each row once for each entry that reads it, its weight, its index and each result.
    """
    x = torch.randn(rows, width, device=device)
    entries = rows * degree
    copy = 2 * x.numel() * 4 / seconds(x.clone, device, 5) / 1e9
    targets, sources = _pairs(rows, degree, device)
    weight = torch.rand(entries, 1, device=device)
    incidence = Incidence.build(targets, sources, rows, rows)
    took = seconds(lambda: weighted_sum(x, weight, incidence), device, 5)
    offsets = torch.arange(0, entries + 1, degree, device=device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR", UserWarning)
        matrix = torch.sparse_csr_tensor(
            offsets, sources, weight[:, 0], (rows, rows), check_invariants=False
        )
    torchs = seconds(lambda: matrix @ x, device, 5)
    moved = (entries * (width * 4 + 4 + 8) + rows * width * 4) / 1e9
    return {
        "copy GB/s": copy,
        "sum GB/s": moved / took,
        "share": moved / took / copy,
        "torch.sparse GB/s": moved / torchs,
    }


def building(rows: int, degree: int, device: torch.device) -> dict[str, float]:
    """Seconds to make a structure of unsorted pairs, with its transpose, on the device; and on the
    CPU with the copy of what the device reads."""

    def made(place: torch.device) -> float:
        sources, targets = _pairs(rows, degree, place)  # sorted by source, not by target

        def run() -> None:
            built = Incidence.build(targets, sources, rows, rows)
            built.on(device)
            built.transposed.on(device)

        return seconds(run, device, 3)

    return {"device s": made(device), "CPU s": made(torch.device("cpu"))}


def _pairs(rows: int, degree: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """As many pairs for each of some rows, in their order, with random ones."""
    generator = np.random.default_rng(0)
    first = torch.from_numpy(np.repeat(np.arange(rows), degree)).to(device)
    return first, torch.from_numpy(generator.integers(0, rows, rows * degree)).to(device)


def handed_over(rows: int) -> dict[str, object]:
    """Whether CuPy's arrays become tensors on the same memory; SystemExit if not.

    Numbers are written right before, on CuPy's stream: torch must wait for them.
    """
    cupy = importlib.import_module("cupy")
    for kind in (cupy.int32, cupy.int64):
        array = (cupy.arange(rows) % 2).astype(kind)
        found = shared(array)
        if found.device.type != "cuda" or found.data_ptr() != array.data.ptr:
            raise SystemExit(f"an array of {kind.__name__} was copied")
        if int(found.sum()) != rows // 2:
            raise SystemExit(f"an array of {kind.__name__} was read too early")
    return {"CuPy": cupy.__version__, "copied": "nothing"}
