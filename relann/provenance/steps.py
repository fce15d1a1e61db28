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
    Key,
    LeakyRelu,
    Learned,
    Lift,
    Linear,
    Lookup,
    Marked,
    Norm,
    Normalize,
    Parameter,
    Pretrained,
    Scale,
    Term,
    Tokens,
)
from relann.errors import DataError, PlanError
from relann.provenance.arrays import places
from relann.provenance.bound import Bound, Surroundings, Values
from relann.provenance.dropout import dropout
from relann.provenance.kernels.gathering import gather, gathered_dot
from relann.provenance.kernels.products import grouped_linear, linear, vector_dot
from relann.provenance.kernels.rectified import rectified_linear
from relann.provenance.kernels.reducing import segment_mean
from relann.provenance.kernels.simd import LANES
from relann.provenance.kernels.structures import Incidence, Index
from relann.provenance.masks import Mask, of_any, of_both, seen
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


def number_of(term: Term) -> int:
    """The earlier step that an argument of a step's term stands for."""
    if not isinstance(term, Field):
        raise PlanError(f"a step's arguments are values of earlier steps, not {term}")
    return int(term.name[1:])


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
            return _linear(around, step, term)
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
            return _each(around, number_of(x), functional.normalize)
        case LeakyRelu(x, slope):
            return _each(around, number_of(x), lambda v: functional.leaky_relu(v, slope))
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


def _each(around: Surroundings, number: int, function: Callable[[Tensor], Tensor]) -> Bound:
    """A function of each row by itself."""
    of = around.bound[number]
    return Bound(lambda values: function(seen(values[number])), of.valid, of.single)


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

    if _rectified(around, len(around.bound)) is not None:  # those that read it do it
        return Bound(lambda values: seen(values[last]), valid, single)
    if len(numbers) == 1:
        unary = _UNARY[term.operation]
        return Bound(lambda values: unary(safe(values)), valid, single)
    if term.operation == "add" and (added := _added(around, numbers, term.width)) is not None:
        return replace(added, valid=valid)
    binary, first = _BINARY[term.operation], numbers[0]
    return Bound(lambda values: binary(seen(values[first]), safe(values)), valid, single)


def _added(around: Surroundings, numbers: Sequence[int], width: int) -> Bound | None:
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
            return (of, made) if wide and large and _rectified(around, of) is None else None
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


def _rectified(around: Surroundings, number: int) -> list[int] | None:
    """The steps that read a relu, if it is large and all of them are products with one matrix.

    Those are done together, the first of them for all; see `rectified_linear`.
    """
    steps = around.plan.steps
    operation, space = steps[number].operation, steps[number].space
    if not (isinstance(operation, Apply) and operation.operation == "relu"):
        return None
    readers = [k for k, step in enumerate(steps) if number in arguments(step.operation)]
    alone = len(readers) == around.uses[number] and all(
        isinstance(steps[k].operation, Linear) and _is_plain(steps[k].operation) for k in readers
    )
    large = around.maps.counts[space] * steps[number].width >= _LARGE
    single = around.bound[number_of(operation.arguments[0])].single
    return readers if alone and large and readers and not single else None


def _is_plain(operation: object) -> bool:
    return isinstance(operation, Linear) and operation.per is None and operation.heads == 1


_LARGE = 1 << 20
"""Numbers from which on a value is worth not being made twice."""


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


def _linear(around: Surroundings, step: Step, term: Linear) -> Bound:
    number = number_of(term.argument)
    of = around.bound[number]
    weight = around.array(term.weight)
    bias = None if term.bias is None else around.array(term.bias)
    if term.heads > 1:
        return _linear_by_head(around, step, term)
    if (readers := _rectified(around, number)) is not None:
        return _of_rectified(around, len(around.bound), number, readers)
    if term.per is None:
        matrix = _rows(weight, term.rows)
        if bias is None:  # 0 · W = 0
            made = _each(around, number, lambda x: linear(x, matrix()))
            return replace(made, zeroed=of.zeroed, owned=not of.single)
        added = bias
        made = _each(around, number, lambda x: linear(x, matrix(), added))
        return replace(made, owned=not of.single)
    sets = _sets(around, step, term.per, term.weight, of.valid)
    if not weight.shape[0]:  # nothing but NULL rows
        return _nothing(around, step, of.valid)
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

        return _each(around, number, run)
    sets = _sets(around, step, term.per, term.weight, of.valid)
    count = weight.shape[0]
    if not count:  # nothing but NULL rows
        return _nothing(around, step, of.valid)
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
    sets = _sets(around, step, term.per, term.parameter, None)
    index = around.index(step.space, term.per, sets, array.shape[0])
    return Bound(lambda values: gather(array, index))


def _sets(
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


def _nothing(around: Surroundings, step: Step, valid: Mask | None) -> Bound:
    shape = (around.maps.counts[step.space], step.width)
    empty = torch.zeros(shape, dtype=around.inputs.dtype, device=around.device)
    return Bound(lambda values: empty, valid)


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
        return _each(around, number, lambda x: functional.layer_norm(x, shape, scale, shift))
    of, wide, training = around.bound[number], around.wide(number), around.training
    mean, variance, steps = (around.arrays[n] for n in running(term))
    rows = None if of.valid is None else places(of.valid)
    return Bound(
        lambda values: batch_norm(
            wide(values), rows, scale, shift, mean, variance, steps, training()
        ),
        of.valid,
    )
