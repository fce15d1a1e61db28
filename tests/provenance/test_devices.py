"""What can be proven of other devices on a machine without one.

Row maps are bound and run on a device that is none (`tests.provenance.other_device`), which finds
tensors on the wrong device, copies and waits. The operations that other devices run are run here on
the CPU, against the compiled ones.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import relann.provenance
from relann import connect
from relann.algebra.rowmaps import Partitions
from relann.errors import EngineError, QueryError
from relann.models import training
from relann.models.batches import Sliced
from relann.provenance import devices
from relann.provenance.encoders import Encoders
from relann.provenance.kernels import operations, plain
from relann.provenance.kernels.products import product_sum, weighted_sum
from relann.provenance.kernels.structures import Incidence, Products
from relann.provenance.module import Batch, QueryModule
from relann.provenance.slices import cut, placed
from tests.provenance.other_device import ELSEWHERE, Told, Watch, here
from tests.provenance.plans import random_maps


def outcome(module: QueryModule, batch: Batch) -> list[Tensor]:
    """Values and gradients of a forward and a backward pass."""
    values = [value for value, _ in module(batch)]
    learned = [v for v in values if v.requires_grad]
    if learned:
        torch.autograd.backward(learned, [torch.ones_like(v) for v in learned])
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return [here(t) for t in (*values, *gradients)]


@pytest.mark.parametrize("bags", [(), ("cpu", "meta")])
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_row_maps_elsewhere_are_bound_and_run_there(bags: tuple[str, ...], seed: int) -> None:
    """Random plans, of which slices as well: the bits are those of the CPU, no row number comes
    over, and an epoch neither copies nor waits."""
    maps = random_maps(seed)
    encoders = Encoders.fit(maps.plan, maps)
    random = np.random.default_rng(seed)
    rows = np.flatnonzero(random.random(maps.counts[maps.plan.output]) < 0.7)
    bare = replace(maps, columns={})
    for part in (False, True):
        found = []
        for device in (devices.CPU, ELSEWHERE):
            with (
                mock.patch.object(operations, "COMPILED", ()),
                mock.patch.object(plain, "_BAGS", bags),
                Watch() as watch,
            ):
                module = QueryModule(maps.plan, encoders, device=device)
                inputs, there = module.inputs(maps), placed(bare, device)
                asked = torch.from_numpy(rows).to(device)
                watch.told.forget()
                if part:
                    piece = cut(there, asked)
                    batch = module.bind(piece.maps, inputs.take(piece.maps.kept), piece.stacks)
                else:
                    batch = module.bind(there, inputs)
                assert not watch.told.came
                assert {kind for kind, _ in watch.told.went} <= {torch.bool}  # NULLs of the output
                masks = [valid for _, _, valid in batch.outputs]
                outcome(module, batch)  # what only a gradient needs is built here
                module.zero_grad()
                watch.told.forget()
                found.append([*outcome(module, batch), *masks])
                assert watch.told == Told()
        for one, other in zip(*found, strict=True):
            assert one is other is None or np.array_equal(one, other, equal_nan=True)


def test_products_elsewhere() -> None:
    """Values and gradients of a sum of products, a factor of which is missing, as on the CPU."""
    targets, rows = torch.tensor([1, 0, 1, 1, -1]), [
        torch.tensor([0, 1, 1, -1, 0]), torch.tensor([2, 0, 2, 1, 1])
    ]  # fmt: skip
    found = []
    for device in (devices.CPU, ELSEWHERE):
        with mock.patch.object(operations, "COMPILED", ()), Watch() as watch:
            products = Products.build(targets.to(device), [r.to(device) for r in rows], 3, [2, 3])
            xs = [torch.arange(2.0 * n).view(n, 2).to(device).requires_grad_() for n in (2, 3)]
            for _ in range(2):
                watch.told.forget()
                value = product_sum(xs, products)
                value.backward(torch.ones_like(value))
            assert watch.told == Told()
            found.append([here(t) for t in (value, *(x.grad for x in xs))])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_row_maps_are_copied_once() -> None:
    """From the processor to the model's device, each when it is bound; in slices never again."""
    maps = random_maps(55)
    arrays = [*maps.gathers.values(), *maps.groups.values()]
    arrays += [a for p in maps.partitions.values() for a in (p.ids, p.position, p.upto)]
    sizes = sorted(len(a) for a in arrays if a is not None and len(a))
    assert sizes
    with Watch() as watch:
        module = QueryModule(maps.plan, Encoders.fit(maps.plan, maps), device=ELSEWHERE)
        inputs = module.inputs(maps)
        watch.told.forget()
        module.bind(maps, inputs)
        assert sorted(size for _, size in watch.told.came) == sizes
        source = Sliced(module, maps)
        _ = source.inputs
        watch.told.forget()
        for rows in (np.array([0]), np.array([0, 1])):
            source.part(rows)
        assert sorted(size for _, size in watch.told.came) == [1, 2]  # the rows asked for


class Array:
    """An array that only DLPack reads, as that of another library on its own device."""

    def __init__(self, held: np.ndarray) -> None:
        self.held = held
        self.__dlpack__, self.__dlpack_device__ = held.__dlpack__, held.__dlpack_device__

    def __len__(self) -> int:
        return len(self.held)

    def __array__(self, *_: object) -> np.ndarray:
        raise AssertionError("numpy reads an array of another library")


def test_an_engines_arrays_are_read_where_they_are() -> None:
    """By DLPack, on their own memory, and by nothing else."""
    maps = random_maps(55)
    held = {key: Array(rows) for key, rows in maps.gathers.items()}
    groups = {space: Array(ids) for space, ids in maps.groups.items()}
    partitions = {
        key: Partitions(Array(p.ids), p.count, *(None if a is None else Array(a)
                                                 for a in (p.position, p.upto)))
        for key, p in maps.partitions.items()
    }  # fmt: skip
    others = replace(maps, gathers=held, groups=groups, partitions=partitions)
    for key, rows in placed(others).gathers.items():
        assert rows.data_ptr() == maps.gathers[key].ctypes.data
    module = QueryModule(maps.plan, Encoders.fit(maps.plan, maps))
    rows = np.arange(maps.counts[maps.plan.output])
    for whole in (others, cut(others, rows).maps):
        module.bind(whole)


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_the_path_of_other_devices_gives_the_same(seed: int) -> None:
    """Values and gradients of whole plans, plain torch against compiled loops."""
    maps = random_maps(seed)
    found = []
    for compiled in (operations.COMPILED, ()):
        with mock.patch.object(operations, "COMPILED", compiled):
            module = QueryModule(maps.plan, Encoders.fit(maps.plan, maps), 0, torch.float64)
            outputs = module(module.bind(maps))
            values = [v if valid is None else v[torch.from_numpy(valid)] for v, valid in outputs]
            total = sum((v.square().sum() for v in values), torch.zeros((), dtype=torch.float64))
            if total.requires_grad:
                total.backward()
            gradients = [p.grad for p in module.parameters()]
        found.append((values, [g for g in gradients if g is not None]))
    for one, other in zip(*(v + g for v, g in found), strict=True):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=1e-8)


_MAKERS = {"zeros", "ones", "empty", "full", "arange", "tensor", "eye", "rand", "randn", "linspace"}
_HOST = {  # tensors that are meant for the CPU, by module and function
    ("parameters", "start_value"),
    ("pretrained", "run"),
    ("pretrained", "vectors"),
    ("texts", "vectors"),
    ("learned", "__init__"),
    ("memory", "empty"),
}


def test_tensors_are_made_with_a_device() -> None:
    """Every `torch.zeros(…)` below the plan's module says where, but for those listed."""
    root = Path(relann.provenance.__path__[0])
    silent = set()
    for file in root.rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for call in ast.walk(function):
                match call:
                    case ast.Call(ast.Attribute(ast.Name("torch"), attr), _, keywords):
                        if attr in _MAKERS and all(k.arg != "device" for k in keywords):
                            silent.add((file.stem, function.name))
    assert silent <= _HOST


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_bags_in_half_precision(dtype: torch.dtype) -> None:
    """As in float32, as far as the type goes."""
    generator = torch.Generator().manual_seed(0)
    incidence = Incidence.build(np.array([0, 2, 2, -1, 0]), np.array([1, 0, 2, 2, 1]), 3, 3)
    x = torch.randn(3, 4, generator=generator)
    weight = torch.randn(5, 1, generator=generator)
    exact = weighted_sum(x, weight, incidence)
    with mock.patch.object(operations, "COMPILED", ()):
        found = weighted_sum(x.to(dtype), weight.to(dtype), incidence)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), exact, atol=3e-2, rtol=3e-2)


# -- what users choose ---------------------------------------------------------------------------

SQL = """
CREATE TABLE p AS SELECT i AS id, (i % 7)::DOUBLE AS x, (i % 2)::INTEGER AS y FROM range(60) t(i);
CREATE TABLE c AS SELECT i AS src, (i * 7 + 3) % 60 AS dst FROM range(60) t(i);
"""
MODEL = """
CREATE OR REPLACE MODEL m OPTIONS (label = 'y', epochs = 3, seed = 1{more}) AS
WITH h AS (SELECT c.dst AS id, relu(sum(linear(p.x, 8))) AS z
           FROM c JOIN p ON p.id = c.src GROUP BY c.dst)
SELECT p.id, p.y, linear(h.z, 1) AS logit FROM p JOIN h ON h.id = p.id
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there() -> None:
    """At the option's place, or where the session is made; `auto` takes the CPU."""
    with pytest.raises(EngineError, match=r"the device cuda cannot be used: .*CUDA"):
        connect(device="cuda")
    with pytest.raises(EngineError, match=r"no device is called 'gpu'.*auto, cpu"):
        connect(device="gpu")
    with connect(device="auto") as con:
        con.sql(SQL)
        assert "trained" in (con.sql(MODEL.format(more=", device = 'auto'")).message or "")
        with pytest.raises(QueryError, match=r"line 2.*the device cuda cannot be used"):
            con.sql(MODEL.format(more=", device = 'cuda'"))
        with pytest.raises(QueryError, match=r"`device` is one of auto, cpu, cuda, not 'gpu'"):
            con.sql(MODEL.format(more=", device = 'gpu'"))


def test_mixed_precision_learns_about_the_same() -> None:
    """The loss is near that of float32; weights are float32."""
    losses = []
    for precision in ("float32", "bfloat16"):
        with connect() as con:
            con.sql(SQL)
            con.sql(MODEL.format(more=f", precision = '{precision}', deterministic = true"))
            losses.append(con.sql("SELECT loss FROM ml_training_info('m')").df()["loss"].to_list())
            assert all(w.dtype == torch.float32 for w in con.store.model("m").weights.values())
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)


def test_too_little_memory_names_the_option() -> None:
    """Of training and of prediction."""
    full = torch.OutOfMemoryError("CUDA out of memory")
    with connect() as con:
        con.sql(SQL)
        with mock.patch.object(training, "_learning", side_effect=full):
            for more, told in (("", "batch_size = 1024"), (", batch_size = 8", "it is 8")):
                with pytest.raises(EngineError, match=told):
                    con.sql(MODEL.format(more=more))
        con.sql(MODEL.format(more=""))
        with (
            mock.patch("relann.models.prediction.Part.scores", side_effect=full),
            pytest.raises(EngineError, match="Predict some rows at a time"),
        ):
            con.sql("SELECT * FROM ml_predict('m')")


def test_what_cannot_be_deterministic_is_said() -> None:
    """And the setting is as before afterwards."""
    with (
        pytest.raises(EngineError, match="cumsum_cuda_kernel is not"),
        devices.deterministic(torch.device("cuda"), True),
    ):
        assert torch.are_deterministic_algorithms_enabled()
        raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but …")
    assert not torch.are_deterministic_algorithms_enabled()
