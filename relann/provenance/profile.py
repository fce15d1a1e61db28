"""What each step of a bound plan costs in an epoch, forward and backward."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from relann.algebra.explain import Profile, StepCost
from relann.algebra.terms import Term
from relann.provenance.bound import Values
from relann.provenance.devices import synchronise
from relann.provenance.module import Batch, QueryModule

Loss = Callable[[Tensor], Tensor]
"""From the output's first embedding column, [rows, width], to one number."""

_FEWEST, _MOST, _LONG = 5, 50, 1.0


def profile(module: QueryModule, batch: Batch, loss: Loss) -> Profile:
    """Medians over 5 epochs after one that is not counted, over up to 50 while a second lasts.

    No weight changes. Steps run apart from one another, each with its own backward pass, so that
    the time of one is not another's; what calling that takes by itself is left out. `epoch` is a
    whole training step measured without that, in turn with them: forward, loss, backward and Adam.
    """
    module.train()
    learned = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=0.0, fused=True) if learned else None
    runs: list[dict[int, tuple[float, float, int]]] = []
    wholes: list[Sequence[float]] = []
    call = _call(module)
    began = time.perf_counter()
    while len(runs) <= _FEWEST or (len(runs) <= _MOST and time.perf_counter() - began < _LONG):
        runs.append(_steps(module, batch, loss, call))
        wholes.append(_whole(module, batch, loss, optimizer))
    runs, wholes = runs[1:], wholes[1:]
    costs, sizes = {}, {name: p.numel() for name, p in module.named_parameters()}
    for number, _, _ in batch.program:
        forward, backward, size = (
            statistics.median(run[number][k] for run in runs) for k in range(3)
        )
        costs[number] = StepCost(forward, backward, int(size), _parameters(batch, number, sizes))
    return Profile(
        batch.plan,
        batch.counts,
        frozenset(batch.once),
        costs,
        statistics.median(whole[0] for whole in wholes),
        statistics.median(whole[1] for whole in wholes),
    )


def _parameters(batch: Batch, number: int, sizes: Mapping[str, int]) -> int:
    operation = batch.plan.steps[number].operation
    if not isinstance(operation, Term):
        return 0
    return sum(sizes[p.name] for p in operation.parameters)


def _call(module: QueryModule) -> float:
    """Milliseconds of a backward pass through nothing."""
    leaf = torch.zeros(1, 1, device=module.device, requires_grad=True)
    grad, took = torch.zeros(1, 1, device=module.device), []
    for _ in range(_MOST):
        value = leaf.view_as(leaf)
        began = time.perf_counter()
        torch.autograd.backward(value, grad)
        took.append(_since(began, module))
    return statistics.median(took)


def _steps(
    module: QueryModule, batch: Batch, loss: Loss, call: float
) -> dict[int, tuple[float, float, int]]:
    """Forward and backward milliseconds and bytes of the value, of each step run by itself."""
    values: Values = list(batch.start)
    made: dict[int, tuple[Tensor, float]] = {}
    for number, run, _ in batch.program:
        began = time.perf_counter()
        value = run(values)
        took = _since(began, module)
        made[number] = value, took
        leaf = value.detach()
        values[number] = leaf.requires_grad_() if value.requires_grad else leaf
    scores = batch.outputs[0][1](values)
    if scores.requires_grad:
        loss(scores).backward()  # type: ignore[no-untyped-call]
    found: dict[int, tuple[float, float, int]] = {}
    for number in reversed(list(made)):
        value, forward = made.pop(number)
        kept, backward = values[number], 0.0
        if kept is not None and kept.grad is not None:
            began = time.perf_counter()
            torch.autograd.backward(value, kept.grad)
            backward = max(0.0, _since(began, module) - call)
        found[number] = forward, backward, value.numel() * value.element_size()
        values[number] = None
    module.zero_grad(set_to_none=True)
    return found


def _whole(
    module: QueryModule, batch: Batch, loss: Loss, optimizer: torch.optim.Optimizer | None
) -> Sequence[float]:
    """Milliseconds of a whole training step, and of its loss and optimiser alone."""
    began = time.perf_counter()
    scores = module.forward(batch)[0][0]
    synchronise(module.device)
    middle = time.perf_counter()
    end = loss(scores)
    rest = _since(middle, module)
    if end.requires_grad:
        end.backward()  # type: ignore[no-untyped-call]
    if optimizer is not None:
        middle = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        rest += _since(middle, module)
    return _since(began, module), rest


def _since(began: float, module: QueryModule) -> float:
    synchronise(module.device)
    return 1000 * (time.perf_counter() - began)
