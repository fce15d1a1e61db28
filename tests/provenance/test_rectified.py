"""What training writes over: relu and sums, against the same steps that make new memory."""

from __future__ import annotations

from typing import Any
from unittest import mock

import duckdb
import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.speed import data, programs
from benchmarks.speed.engine import OPTIONS, program
from relann.algebra import rowmaps
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.plan import Gather
from relann.algebra.rowmaps import RowMaps, build
from relann.errors import PlanError
from relann.models.training import learning_of, profiled
from relann.provenance import linear_steps
from relann.provenance.encoders import Encoders
from relann.provenance.kernels import operations, rectified
from relann.provenance.kernels.rectified import rectified_linear
from relann.provenance.module import QueryModule


def arrays(rows: int, outputs: list[int], biased: bool) -> tuple[Tensor, list[Any], list[Any]]:
    """x of some rows and 5 columns, weights and biases, all to be learned."""
    made = torch.Generator().manual_seed(rows)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=made, dtype=torch.float64).requires_grad_()

    biases = [drawn(n) if biased else None for n in outputs]
    return drawn(rows, 5), [drawn(5, n) for n in outputs], biases


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("outputs", [[3], [20], [2, 7, 1]])
@pytest.mark.parametrize("rows", [0, 1, 300])
def test_values_and_gradients_are_those_of_relu_and_product(
    rows: int, outputs: list[int], biased: bool
) -> None:
    """Of blocks of rows, of one and of none; on both paths."""
    x, weights, biases = arrays(rows, outputs, biased)
    leaves = [x, *weights, *(b for b in biases if b is not None)]
    found = []
    for path in ("compiled", "blocks", "plain", "torch"):
        known = () if path == "plain" else operations.COMPILED
        block = 64 if path == "blocks" else 1 << 18
        with (
            mock.patch.object(operations, "COMPILED", known),
            mock.patch.object(rectified, "_BLOCK", block),
        ):
            if path == "torch":
                relu = torch.relu(x * 1)
                made = [
                    relu @ w + (0 if b is None else b) for w, b in zip(weights, biases, strict=True)
                ]
            else:
                made = rectified_linear(x * 1, weights, biases, spent=True)
            total = torch.stack([(m * m.detach().cos()).sum() for m in made]).sum()
            found.append((made, torch.autograd.grad(total, leaves)))
    for values, gradients in found[:-1]:
        for a, b in zip([*values, *gradients], [*found[-1][0], *found[-1][1]], strict=True):
            torch.testing.assert_close(a, b)


def test_a_leaf_and_what_is_read_later_stay_as_they_are() -> None:
    """And a value that is spent is written over, without a gradient too."""
    x, weights, biases = arrays(4, [3], True)
    before = x.detach().clone()
    rectified_linear(x, weights, biases, spent=True)
    assert torch.equal(x, before)
    kept = x * 1
    rectified_linear(kept, weights, biases)
    assert torch.equal(kept, before)
    with torch.no_grad():
        rectified_linear(kept, weights, biases, spent=True)
    assert torch.equal(kept, before.relu())


def test_what_needs_no_gradient_gets_none() -> None:
    """Neither rows nor weights; a product that nothing reads counts as zero."""
    x, weights, biases = arrays(6, [2, 3], True)
    first, _ = rectified_linear(x.detach(), weights, biases)
    first.sum().backward()
    assert x.grad is None and weights[0].grad is not None
    frozen = [w.detach() for w in weights]
    first, _ = rectified_linear(x * 1, frozen, [b.detach() for b in biases])
    first.sum().backward()
    torch.testing.assert_close(x.grad, (x > 0) * frozen[0].sum(1))


def test_a_second_gradient_is_refused() -> None:
    """The first is written over what it needs."""
    x, weights, biases = arrays(3, [2], False)
    ((made),) = rectified_linear(x * 1, weights, biases)
    made.sum().backward(retain_graph=True)
    with pytest.raises(PlanError, match="second time"):
        made.sum().backward()


TWO_SUMS = """
WITH h AS (SELECT id, label, relu(linear(x, 8) + linear(x * 2, 8, bias => false)) AS x FROM node)
SELECT id, label, 'train' AS split, linear(x, 3) + linear(x, 3, bias => false) AS logits FROM h
"""
READ_TWICE = """
WITH h AS (SELECT id, linear(x, 8) AS x FROM node),
     r AS (SELECT id, relu(x) + x AS x FROM h)
SELECT n.id, n.label, 'train' AS split, linear(r.x, 3) + linear(h.x, 3) AS logits
FROM node n JOIN r ON r.id = n.id JOIN h ON h.id = n.id
"""


def maps_of(text: str) -> RowMaps:
    """Of a random graph of a hundred nodes."""
    connection = duckdb.connect()
    data.fill(connection, data.tiny(0))
    return build(program(connection, text).plan, DuckDBEngine(connection))


@pytest.mark.parametrize("text", [programs.SAGE, programs.GCN, TWO_SUMS, READ_TWICE])
def test_large_steps_learn_what_small_ones_do(text: str) -> None:
    """The same values and gradients, twice over the same batch; EXPLAIN ANALYZE runs them too."""
    maps = maps_of(text)
    encoders = Encoders.fit(maps.plan, maps)
    found = []
    for large in (0, 2**40):
        with mock.patch.object(linear_steps, "_LARGE", large):
            module = QueryModule(maps.plan, encoders, dtype=torch.float64)
            batch = module.bind(maps)
            for _ in range(2):
                module.zero_grad()
                ((value, _),) = module(batch)
                (value * torch.linspace(-1, 1, value.numel()).view(value.shape)).sum().backward()
            assert module.first_strange(batch) is None
            found.append([value, *(p.grad for p in module.parameters())])
            assert profiled(maps, OPTIONS) is not None
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_two_layers_of_sage_make_one_large_value() -> None:
    """The first layer's sum: products are added to it, and relu is written over it."""
    maps = maps_of(programs.SAGE)
    module = QueryModule(maps.plan, Encoders.fit(maps.plan, maps))
    with mock.patch.object(linear_steps, "_LARGE", 0):
        batch = module.bind(maps)
    made = set()
    values = list(batch.start)
    for number, run, _ in batch.program:
        value = values[number] = run(values)
        if value.shape[1] == 64:
            made.add(value.untyped_storage().data_ptr())
    assert len(made) == 1


def test_rows_that_stay_the_same_are_gathered_once() -> None:
    """A product runs after the gather of a constant; no epoch gathers then."""
    maps = maps_of(programs.SAGE)
    module = QueryModule(maps.plan, Encoders.fit(maps.plan, maps))
    batch = module.bind(maps)
    wide = [
        n
        for n, _, _ in batch.program
        if isinstance(maps.plan.steps[n].operation, Gather) and maps.plan.steps[n].width > 7
    ]
    assert not wide


def test_equal_row_maps_are_kept_once() -> None:
    """Two layers over the same edges; arrays that differ late stay."""
    with mock.patch.object(rowmaps, "_LARGE", 1):
        maps = maps_of(programs.SAGE)
    groups = [g for g in maps.groups.values() if len(g) == 400]
    assert len(groups) == 2 and groups[0] is groups[1]
    long = np.zeros(3000, dtype=np.int32)
    other = long.copy()
    other[-1] = 1
    kept = {1: long, 2: other, 3: long.copy(), 4: long.astype(np.int64)}
    with mock.patch.object(rowmaps, "_LARGE", 1):
        rowmaps._share(kept)
    assert kept[3] is kept[1] and kept[2] is other and kept[4].dtype == np.int64


def test_a_training_holds_no_row_maps_once_it_is_bound() -> None:
    """What all epochs read is in the batch."""
    learning = learning_of(maps_of(programs.SAGE), OPTIONS)
    next(learning.epochs())
    assert learning.train._source is None  # type: ignore[attr-defined]
