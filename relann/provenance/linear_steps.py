"""Products with learned matrices as bound steps, and sums; large ones are made in place.

What nothing else reads is written over: one of its parts by a sum, its argument by a relu, which
the products that read it do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from relann.algebra.plan import Step, arguments
from relann.algebra.terms import Apply, Coalesce, Key, Linear, Parameter
from relann.errors import DataError
from relann.provenance.arrays import places
from relann.provenance.bound import Bound, Surroundings, Values, each, nothing, number_of
from relann.provenance.kernels.products import grouped_linear, linear
from relann.provenance.kernels.rectified import rectified_linear
from relann.provenance.kernels.simd import LANES
from relann.provenance.kernels.structures import Incidence
from relann.provenance.masks import Mask, seen

_LARGE = 1 << 20
"""Numbers from which on a value is worth not being made twice."""


def bind_linear(around: Surroundings, step: Step, term: Linear) -> Bound:
    """A product with a matrix, or with one for each head or each set of rows."""
    number = number_of(term.argument)
    of = around.bound[number]
    weight = around.array(term.weight)
    bias = None if term.bias is None else around.array(term.bias)
    if term.heads > 1:
        return _linear_by_head(around, step, term)
    if (readers := rectified(around, number)) is not None:
        return _of_rectified(around, len(around.bound), number, readers)
    if term.per is None:
        matrix = _rows(weight, term.rows)
        if bias is None:  # 0 · W = 0
            made = each(around, number, lambda x: linear(x, matrix()))
            return replace(made, zeroed=of.zeroed, owned=not of.single)
        offset = bias
        made = each(around, number, lambda x: linear(x, matrix(), offset))
        return replace(made, owned=not of.single)
    sets = sets_of(around, step, term.per, term.weight, of.valid)
    if not weight.shape[0]:  # nothing but NULL rows
        return nothing(around, step, of.valid)
    groups = around.incidence(
        ("sets", step.space, term.per, id(of.valid)),
        lambda: Incidence.build(sets, None, weight.shape[0], len(sets)),
    )
    wide = around.wide(number)
    return Bound(lambda values: grouped_linear(wide(values), weight, groups, bias), of.valid)


def _rows(weight: Tensor, rows: tuple[int, int] | None) -> Callable[[], Tensor]:
    """How to read some rows of a weight, as they are at the time; None: all."""
    return (lambda: weight) if rows is None else (lambda: weight[slice(*rows)])


def _linear_by_head(around: Surroundings, step: Step, term: Linear) -> Bound:
    """Each head's slice of a row counts as a row of its own, with the weights of its head."""
    number, heads = number_of(term.argument), term.heads
    of, weight = around.bound[number], around.array(term.weight)
    bias = None if term.bias is None else around.array(term.bias)
    inner, outer = weight.shape[-2:]
    if term.per is None:

        def run(x: Tensor) -> Tensor:
            product = x.view(-1, heads, inner).transpose(0, 1).bmm(weight)
            value = product.transpose(0, 1).reshape(-1, heads * outer)
            return value if bias is None else value + bias

        return each(around, number, run)
    sets = sets_of(around, step, term.per, term.weight, of.valid)
    count = weight.shape[0]
    if not count:  # nothing but NULL rows
        return nothing(around, step, of.valid)
    groups = around.incidence(
        ("sets by head", step.space, term.per, id(of.valid), heads),
        lambda: Incidence.build(_by_head(sets, heads), None, count * heads, len(sets) * heads),
    )
    wide = around.wide(number)

    def run_per(values: Values) -> Tensor:
        slices = wide(values).reshape(-1, inner)
        biases = None if bias is None else bias.view(-1, outer)
        matrices = weight.view(-1, inner, outer)
        return grouped_linear(slices, matrices, groups, biases).view(-1, heads * outer)

    return Bound(run_per, of.valid)


def _by_head(sets: Tensor, heads: int) -> Tensor:
    """The set of each slice of each row, −1 for those of a row of no set."""
    each = sets[:, None] * heads + torch.arange(heads, dtype=sets.dtype, device=sets.device)
    return torch.where(sets[:, None] < 0, -1, each).reshape(-1)


def sets_of(
    around: Surroundings, step: Step, key: Key, parameter: Parameter, valid: Mask | None
) -> Tensor:
    """Which set of a parameter each row takes; a NULL row may have none, −1.

    DataError for a key that has no set, naming it.
    """
    rows = around.inputs.keys[step.space, key]
    if len(rows) and rows.min() < 0:
        strange = rows < 0 if valid is None else (rows < 0) & valid
        if strange.any():
            parts = [around.maps.columns[step.space, p] for p in key.parts]
            vocabulary = around.encoders.vocabularies[key.site]
            value = vocabulary.value(parts, int(places(strange)[0]))
            raise DataError(
                f"`{parameter.name}` has one set for each {key} of the training rows, and none for "
                f"{value}, which {int(strange.sum())} of {len(rows)} rows have"
            )
    return rows


def added(around: Surroundings, numbers: Sequence[int], width: int) -> Bound | None:
    """The sum of two values, written over one that nothing else reads; None if there is none.

    A large product that is added is added as it is made.
    """
    for k, other in (numbers, numbers[::-1]):
        if not around.spent(k) or k == other or around.plan.steps[k].width != width:
            continue
        if (found := _lone_product(around, other)) is not None:
            return _with_product(around, k, *found)

        def run(values: Values, k: int = k, other: int = other) -> Tensor:
            x, y = seen(values[k]), seen(values[other])
            return x + y if _is_fixed(x, y) else x.add_(y)

        return Bound(run, owned=True)
    return None


def _is_fixed(x: Tensor, y: Tensor) -> bool:
    """Whether y cannot be added into x: another type, or a step that runs by itself."""
    return x.dtype != y.dtype or (x.is_leaf and x.requires_grad)


def _lone_product(around: Surroundings, number: int) -> tuple[int, Linear] | None:
    """What a large product that one step reads is of, and the product; NULL rows may hold 0."""
    step = around.plan.steps[number]
    if around.uses[number] != 1:
        return None
    match step.operation:
        case Linear(bias=None) as made if _is_plain(made):
            of = number_of(made.argument)
            rows = around.maps.counts[step.space]
            wide = step.width > LANES  # few outputs have loops of their own
            large = rows * step.width >= _LARGE and not around.bound[of].single
            return (of, made) if wide and large and rectified(around, of) is None else None
        case Coalesce():  # zeros that are there already
            reads = around.bound[number].reads or ()
            return _lone_product(around, reads[0]) if around.bound[number].owned else None
    return None


def _with_product(around: Surroundings, number: int, of: int, term: Linear) -> Bound:
    """A value that nothing else reads plus a product."""
    matrix = _rows(around.array(term.weight), term.rows)

    def run(values: Values) -> Tensor:
        x, y = seen(values[number]), seen(values[of])
        weight = matrix()
        if _is_fixed(x, y) or torch.is_autocast_enabled(x.device.type):
            return x + y @ weight
        return x.addmm_(y, weight)

    return Bound(run, owned=True, learned=True, reads=(number, of))


def rectified(around: Surroundings, number: int) -> list[int] | None:
    """The steps that read a relu, if it is large and all of them are products with one matrix.

    Those are done together, the first of them for all; see `rectified_linear`.
    """
    steps = around.plan.steps
    operation, space = steps[number].operation, steps[number].space
    if not (isinstance(operation, Apply) and operation.operation == "relu"):
        return None
    if around.maps.counts[space] * steps[number].width < _LARGE:
        return None
    readers = [k for k, step in enumerate(steps) if number in arguments(step.operation)]
    alone = len(readers) == around.uses[number] and all(
        _is_plain(steps[k].operation) for k in readers
    )
    single = around.bound[number_of(operation.arguments[0])].single
    return readers if alone and readers and not single else None


def _is_plain(operation: object) -> bool:
    return isinstance(operation, Linear) and operation.per is None and operation.heads == 1


def _of_rectified(around: Surroundings, number: int, of: int, readers: Sequence[int]) -> Bound:
    """One of the products that read a relu `of`: the first makes all, the others are there then."""
    valid = around.bound[of].valid
    read = [around.plan.steps[k].operation for k in readers]
    terms = [t for t in read if isinstance(t, Linear)]
    matrices = [_rows(around.array(t.weight), t.rows) for t in terms]
    biases = [None if t.bias is None else around.array(t.bias) for t in terms]
    (before,) = around.bound[of].reads or ()
    spent = around.spent(before)

    def alone(values: Values) -> Tensor:
        at = readers.index(number)
        return rectified_linear(seen(values[of]), [matrices[at]()], [biases[at]])[0]

    def there(values: Values) -> Tensor:
        found = values[number]
        return alone(values) if found is None else found

    def run(values: Values) -> Tensor:
        x = seen(values[of])
        if x.is_leaf and x.requires_grad:  # a step by itself
            return alone(values)
        found = rectified_linear(x, [matrix() for matrix in matrices], biases, spent)
        for k, value in zip(readers, found, strict=True):
            values[k] = value
        return found[0]

    if number != readers[0]:
        return Bound(there, valid, learned=True, reads=(readers[0],))
    return Bound(run, valid, learned=True)
