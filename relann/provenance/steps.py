"""The steps of a plan bound to row maps: one prepared call for each, NULLs settled beforehand.

Which rows are NULL depends on data only, so it is worked out here, once. A NULL row still holds
some finite number; whatever reads values leaves such rows out, and operations that could turn a
number into infinity get a 1 there instead, so that no gradient is 0 · ∞.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from relann.algebra.plan import (
    Gather,
    Partition,
    ProductSum,
    SegmentReduce,
    SparseProduct,
    Stacked,
    Step,
    arguments,
)
from relann.algebra.terms import (
    Apply,
    Coalesce,
    Concat,
    Constant,
    Dot,
    Dropout,
    Encode,
    Field,
    LeakyRelu,
    Learned,
    Lift,
    Linear,
    Lookup,
    Marked,
    Norm,
    Normalize,
    Pretrained,
    Scale,
    Term,
    Tokens,
)
from relann.errors import PlanError
from relann.provenance.arrays import places
from relann.provenance.bound import Bound, Surroundings, Values, each, number_of
from relann.provenance.dropout import dropout
from relann.provenance.kernels.gathering import gather, gathered_dot
from relann.provenance.kernels.products import vector_dot
from relann.provenance.kernels.reducing import segment_mean
from relann.provenance.kernels.structures import Incidence, Index
from relann.provenance.linear_steps import added, bind_linear, rectified, sets_of
from relann.provenance.masks import of_any, of_both, seen
from relann.provenance.norms import batch_norm
from relann.provenance.parameters import running
from relann.provenance.segments import (
    bind_gather,
    bind_partition,
    bind_product,
    bind_product_sum,
    bind_reduce,
    bind_stacked,
)


def bind_step(around: Surroundings, number: int) -> Bound:
    """A step, those before it being bound."""
    step = around.plan.steps[number]
    operation = step.operation
    match operation:
        case Gather():
            made = bind_gather(around, step, operation)
        case SegmentReduce():
            made = bind_reduce(around, step, operation)
        case SparseProduct():
            made = bind_product(around, step, operation)
        case ProductSum():
            made = bind_product_sum(around, step, operation)
        case Partition():
            made = bind_partition(around, step, operation)
        case Stacked():
            made = bind_stacked(around, step, operation)
        case _:
            made = _term(around, step, operation)
    reads = arguments(operation) if made.reads is None else made.reads
    named = isinstance(operation, Term) and bool(operation.parameters)
    constant = made.constant or (
        not (named or made.learned)
        and not isinstance(operation, Dropout)
        and all(around.bound[k].constant for k in reads)
    )
    valid = around.masks.shared(made.valid)
    return replace(made, valid=valid, constant=constant, reads=reads)


def _term(around: Surroundings, step: Step, term: Term) -> Bound:
    inputs, space = around.inputs, step.space
    match term:
        case Field():
            number = number_of(term)
            return Bound(
                lambda values: seen(values[number]),
                around.bound[number].valid,
                around.bound[number].single,
            )
        case Constant(value):
            fixed = torch.full((1, 1), value, dtype=inputs.dtype, device=around.device)
            return Bound(lambda values: fixed, None, single=True)
        case Lift(content):
            vectors, valid = inputs.lifts[space, content]
            return Bound(lambda values: vectors, valid)
        case Encode():
            code = inputs.codes[space, term]
            return Bound(lambda values: code)
        case Apply():
            return _apply(around, term)
        case Linear():
            return bind_linear(around, step, term)
        case Learned():
            return _learned(around, step, term)
        case Lookup(table, key):
            vectors = around.array(table)
            index = around.index(space, key, inputs.keys[space, key], vectors.shape[0])
            return Bound(lambda values: gather(vectors, index))
        case Tokens():
            return _tokens(around, step, term)
        case Pretrained():
            return _pretrained(around, step, term)
        case Dot():
            return _dot(around, term)
        case Concat(parts):
            return _concat(around, [number_of(p) for p in parts])
        case Coalesce(parts):
            return _coalesce(around, step, [number_of(p) for p in parts])
        case Normalize(x):
            return each(around, number_of(x), functional.normalize)
        case LeakyRelu(x, slope):
            return each(around, number_of(x), lambda v: functional.leaky_relu(v, slope))
        case Scale():
            return _scale(around, term)
        case Marked(x):
            number = number_of(x)  # never constant: its gradient is asked for
            return Bound(around.wide(number), around.bound[number].valid, learned=True)
        case Dropout():
            return _dropout(around, term)
        case Norm():
            return _norm(around, term)
    raise PlanError(f"no step computes {type(term).__name__}")


_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": functional.elu,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "neg": torch.neg,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
}
_UNBOUNDED = frozenset(("div", "exp", "log", "sqrt"))
"""Operations that are infinite, or infinitely steep, for some finite numbers."""


def _apply(around: Surroundings, term: Apply) -> Bound:
    numbers = [number_of(a) for a in term.arguments]
    last = numbers[-1]
    valid = of_both([around.bound[k].valid for k in numbers])
    single = all(around.bound[k].single for k in numbers)
    if term.operation in _UNBOUNDED and valid is not None:
        known = valid[:, None]
        one = torch.ones((), dtype=around.inputs.dtype, device=around.device)

        def safe(values: Values) -> Tensor:
            return torch.where(known, seen(values[last]), one)

        single = False
    else:

        def safe(values: Values) -> Tensor:
            return seen(values[last])

    if rectified(around, len(around.bound)) is not None:  # those that read it do it
        return Bound(lambda values: seen(values[last]), valid, single)
    if len(numbers) == 1:
        unary = _UNARY[term.operation]
        return Bound(lambda values: unary(safe(values)), valid, single)
    if term.operation == "add" and (made := added(around, numbers, term.width)) is not None:
        return replace(made, valid=valid)
    binary, first = _BINARY[term.operation], numbers[0]
    return Bound(lambda values: binary(seen(values[first]), safe(values)), valid, single)


def _scale(around: Surroundings, term: Scale) -> Bound:
    """Each slice of a row times its own factor."""
    numbers = [number_of(term.argument), number_of(term.factors)]
    argument, factors = numbers
    both = [around.bound[k] for k in numbers]
    heads = term.factors.width

    def run(values: Values) -> Tensor:
        slices = seen(values[argument]).view(-1, heads, term.width // heads)
        return (slices * seen(values[factors])[:, :, None]).reshape(-1, term.width)

    return Bound(run, of_both([b.valid for b in both]), all(b.single for b in both))


def _learned(around: Surroundings, step: Step, term: Learned) -> Bound:
    array = around.array(term.parameter)
    if term.per is None:
        return Bound(lambda values: array[None], None, single=True)
    sets = sets_of(around, step, term.per, term.parameter, None)
    index = around.index(step.space, term.per, sets, array.shape[0])
    return Bound(lambda values: gather(array, index))


def _tokens(around: Surroundings, step: Step, term: Tokens) -> Bound:
    table = around.array(term.table)
    buckets = table.shape[0]
    words = around.inputs.words[step.space, term.content, buckets]
    incidence = Incidence.build(words.text, words.bucket, words.texts, buckets)
    index = Index.build(words.row_text, words.texts)
    return Bound(lambda values: gather(segment_mean(table, incidence), index))


def _pretrained(around: Surroundings, step: Step, term: Pretrained) -> Bound:
    """The product of each distinct text's vector, gathered to the rows."""
    weight, bias = around.array(term.weight), around.array(term.bias)
    texts = around.inputs.texts[step.space, term.content, term.encoder]
    index = Index.build(texts.row_text, len(texts))
    if texts.vectors is not None:
        fixed = texts.vectors
        return Bound(lambda values: gather(fixed @ weight, index) + bias)
    tokens, learner, training = texts.tokens, around.learners[term.site], around.training
    assert tokens is not None

    def run(values: Values) -> Tensor:
        vectors = learner.vectors(tokens, training()).to(weight.dtype)
        return gather(vectors @ weight, index) + bias

    return Bound(run)


def _dot(around: Surroundings, term: Dot) -> Bound:
    """Inner products; of two gathers read by nothing else, without materialising either."""
    left, right = number_of(term.left), number_of(term.right)
    both = (around.bound[left], around.bound[right])
    valid, single = of_both([b.valid for b in both]), all(b.single for b in both)
    ends = [_picked(around, k) for k in (left, right)]
    heads = term.heads
    if ends[0] is not None and ends[1] is not None:
        (x, i), (y, j) = ends[0], ends[1]
        return Bound(
            lambda values: gathered_dot(seen(values[x]), seen(values[y]), i, j, heads),
            valid,
            reads=(x, y),
        )
    if both[0].single != both[1].single:  # one vector for all rows
        rows, one = (left, right) if both[1].single else (right, left)
        return Bound(lambda values: vector_dot(seen(values[rows]), seen(values[one]), heads), valid)

    def run(values: Values) -> Tensor:
        product = seen(values[left]) * seen(values[right])
        return product.view(-1, heads, term.left.width // heads).sum(2)

    return Bound(run, valid, single)


def _picked(around: Surroundings, number: int) -> tuple[int, Index] | None:
    """What a gather that only one step reads picks from, and which rows."""
    found = around.lone_gather(number)
    if found is None:
        return None
    space = around.plan.steps[number].space
    return found.source, around.gathered(space, found.via, found.source)


def _concat(around: Surroundings, numbers: Sequence[int]) -> Bound:
    single = all(around.bound[k].single for k in numbers)
    valid = of_both([around.bound[k].valid for k in numbers])
    if single:
        return Bound(lambda values: torch.cat([seen(values[k]) for k in numbers], 1), valid, True)
    wide = [around.wide(k) for k in numbers]
    return Bound(lambda values: torch.cat([w(values) for w in wide], 1), valid)


def _coalesce(around: Surroundings, step: Step, numbers: Sequence[int]) -> Bound:
    """The first that is not NULL; those after one that is never NULL are not even read."""
    used: list[int] = []
    for number in numbers:
        used.append(number)
        if around.bound[number].valid is None:
            break
    if len(used) == 2 and around.bound[used[0]].zeroed and _is_zero(around, used[1]):
        filled = used[0]  # it holds the zeros already
        owned = around.spent(filled)
        return Bound(lambda values: seen(values[filled]), reads=(filled,), owned=owned)
    width, last = step.width, used[-1]
    if len(used) == 1:
        of = around.bound[last]
        alone = (last,)
        return Bound(
            lambda values: seen(values[last]).expand(-1, width), of.valid, of.single, reads=alone
        )
    choices = []
    for number in reversed(used[:-1]):
        valid = around.bound[number].valid
        assert valid is not None
        choices.append((number, valid[:, None]))
    rows = around.maps.counts[step.space]

    def run(values: Values) -> Tensor:
        value = seen(values[last])
        for number, known in choices:
            value = torch.where(known, seen(values[number]), value)
        return value.expand(rows, width)

    return Bound(run, of_any([around.bound[k].valid for k in used]), reads=tuple(used))


def _is_zero(around: Surroundings, number: int) -> bool:
    operation = around.plan.steps[number].operation
    return isinstance(operation, Constant) and operation.value == 0


def _dropout(around: Surroundings, term: Dropout) -> Bound:
    number = number_of(term.argument)
    of, wide = around.bound[number], around.wide(number)
    p, generator, training = term.p, around.generators[term.site], around.training

    def run(values: Values) -> Tensor:
        x = wide(values)
        return dropout(x, p, generator) if training() else x

    return Bound(run, of.valid)


def _norm(around: Surroundings, term: Norm) -> Bound:
    number = number_of(term.argument)
    scale, shift = around.array(term.scale), around.array(term.shift)
    if term.kind == "layer":
        shape = (term.width,)
        return each(around, number, lambda x: functional.layer_norm(x, shape, scale, shift))
    of, wide, training = around.bound[number], around.wide(number), around.training
    mean, variance, steps = (around.arrays[n] for n in running(term))
    rows = None if of.valid is None else places(of.valid)
    return Bound(
        lambda values: batch_norm(
            wide(values), rows, scale, shift, mean, variance, steps, training()
        ),
        of.valid,
    )
