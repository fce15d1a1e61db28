"""What can be proven of other devices on a machine without one.

A tensor that a batch makes on the wrong device is found with fake tensors: torch checks devices and
computes nothing. The operations that other devices run are run here on the CPU, against the
compiled ones.
"""

from __future__ import annotations

import ast
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import relann.provenance
from relann import connect
from relann.errors import EngineError, QueryError
from relann.models import training
from relann.provenance import devices
from relann.provenance.encoders import Encoders
from relann.provenance.kernels import operations, plain
from relann.provenance.kernels.products import weighted_sum
from relann.provenance.kernels.structures import Incidence
from relann.provenance.module import QueryModule
from tests.provenance.plans import random_maps

ELSEWHERE = torch.device("meta")


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_no_step_makes_a_tensor_elsewhere(seed: int) -> None:
    """Random plans, forward and backward, where an operation on two devices raises."""
    maps = random_maps(seed)
    encoders = Encoders.fit(maps.plan, maps)
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        mock.patch.object(plain, "_BAGS", ("meta",)),
    ):
        module = QueryModule(maps.plan, encoders, device=ELSEWHERE)
        assert all(p.device == ELSEWHERE for p in module.state_dict().values())
        for value, _ in module(module.bind(maps)):
            assert value.device == ELSEWHERE
            if value.requires_grad:
                value.sum().backward(retain_graph=True)


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
