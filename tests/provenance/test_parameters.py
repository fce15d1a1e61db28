"""Parameters: start values, names and safetensors bytes."""

from __future__ import annotations

import math

import pytest
import torch

from relann.algebra.nodes import Scan
from relann.algebra.plan import Plan, Rows, Step
from relann.algebra.terms import Field, Key, Learned, Linear, Norm, Parameter, Term, column
from relann.errors import DataError, PlanError
from relann.provenance.parameters import (
    Array,
    Scope,
    arrays,
    from_bytes,
    load,
    materialise,
    start_value,
    to_bytes,
)

KEY = Key("m.linear_0", (column("k", "VARCHAR"),))


def plan_of(*terms: Term) -> Plan:
    steps = tuple(Step(0, t.width, t) for t in terms)
    return Plan((Rows(Scan("t", ()), ()),), steps, 0, (), ())


def test_glorot_uses_the_fan_of_one_set() -> None:
    w = start_value(Array(Parameter("w", (3, 5)), "s"), {"s": 1000}, 0)
    assert w.shape == (1000, 3, 5)
    bound = math.sqrt(6 / 8)
    assert w.abs().max() <= bound
    assert w.abs().max() > 0.99 * bound
    assert w.mean().abs() < 0.02


@pytest.mark.parametrize(
    ("initial", "mean", "std"), [("zeros", 0, 0), ("ones", 1, 0), ("normal", 0, 0.1)]
)
def test_other_start_values(initial: str, mean: float, std: float) -> None:
    w = start_value(Array(Parameter("w", (4000,), initial)), {}, 1)
    assert w.mean().item() == pytest.approx(mean, abs=0.01)
    assert w.std().item() == pytest.approx(std, abs=0.01)


def test_start_values_depend_on_seed_and_own_name_only() -> None:
    a, b = Learned(Parameter("m.a", (3,), "normal")), Learned(Parameter("m.b", (3,), "normal"))
    alone = materialise(plan_of(b), {}, 7, torch.float32, Scope())
    both = materialise(plan_of(a, b), {}, 7, torch.float32, Scope())
    assert torch.equal(alone["m.b"], both["m.b"])
    assert not torch.equal(both["m.a"], both["m.b"])
    other = materialise(plan_of(b), {}, 8, torch.float32, Scope())
    assert not torch.equal(alone["m.b"], other["m.b"])


def test_start_values_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    start_value(Array(Parameter("w", (10,), "normal")), {}, 0)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["m.type.half.training", "m.forward", "m.weight", "m.a", "m.a.b"])
def test_state_dict_has_the_names_of_the_query(name: str) -> None:
    """Names that torch's modules use themselves too, and a name that is another's beginning."""
    scope = Scope()
    plan = plan_of(Learned(Parameter(name, (2,))), Learned(Parameter("m.a", (2,))))
    materialise(plan, {}, 0, torch.float32, scope)
    assert set(scope.state_dict()) == {name, "m.a"}
    assert {n for n, _ in scope.named_parameters()} == {name, "m.a"}
    scope.double()
    assert scope.state_dict()[name].dtype == torch.float64


def test_per_gains_a_leading_axis() -> None:
    weight, bias = Parameter("m.w", (2, 3)), Parameter("m.b", (3,), "zeros")
    plan = plan_of(Linear(Field("%0", 2), weight, bias, KEY))
    found = materialise(plan, {"m.linear_0": 4}, 0, torch.float32, Scope())
    assert found["m.w"].shape == (4, 2, 3)
    assert found["m.b"].shape == (4, 3)


def test_one_array_cannot_be_of_two_forms() -> None:
    p = Parameter("m.p", (2,))
    with pytest.raises(PlanError, match=r"m\.p"):
        arrays(plan_of(Learned(p), Learned(p, KEY)))


def test_batch_norm_keeps_running_statistics_beside_its_parameters() -> None:
    pair = Parameter("m.n.scale", (2,), "ones"), Parameter("m.n.shift", (2,))
    norm = Norm("batch", Field("%0", 2), *pair)
    scope = Scope()
    materialise(plan_of(norm), {}, 0, torch.float32, scope)
    extra = {"m.n.running_mean", "m.n.running_var", "m.n.steps"}
    assert set(scope.state_dict()) == {"m.n.scale", "m.n.shift"} | extra


def state() -> dict[str, torch.Tensor]:
    return {"m.a": torch.arange(3.0), "m.b": torch.ones(2, 2).T, "m.n": torch.tensor(4)}


def test_bytes_give_back_the_same_bits() -> None:
    again = from_bytes(to_bytes(state()))
    assert set(again) == set(state())
    assert all(torch.equal(again[n], t) and again[n].dtype == t.dtype for n, t in state().items())
    assert to_bytes(again) == to_bytes(state())


def test_empty_arrays_survive() -> None:
    assert from_bytes(to_bytes({"a": torch.zeros(0, 3)}))["a"].shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("m.b"), "the weights lack `m.b`"),
        (lambda s: s.update({"m.bb": torch.ones(1)}), "hold `m.bb`, .* not. Did you mean `m.b`"),
        (lambda s: s.update({"m.a": torch.ones(4)}), r"`m.a` has shape \(4,\) in .*, \(3,\)"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(change, message: str) -> None:
    into, wrong = state(), {n: t + 1 for n, t in state().items()}
    change(wrong)
    with pytest.raises(DataError, match=message):
        load(into, wrong)
    assert all(torch.equal(into[n], t) for n, t in state().items())


def test_bytes_of_something_else_are_refused() -> None:
    with pytest.raises(DataError, match="not weights in safetensors format"):
        from_bytes(b"nonsense")
