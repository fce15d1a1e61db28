"""Kernels: values against obvious loops, gradients against differences, bits against threads."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from relann.errors import PlanError
from relann.provenance.kernels import operations, products, structures
from relann.provenance.kernels.gathering import gather, gathered_dot
from relann.provenance.kernels.loops import RUN
from relann.provenance.kernels.memory import empty
from relann.provenance.kernels.products import (
    grouped_linear,
    linear,
    product_sum,
    vector_dot,
    weighted_sum,
)
from relann.provenance.kernels.reducing import (
    segment_cumsum,
    segment_max,
    segment_mean,
    segment_min,
    segment_softmax,
    segment_sum,
)
from relann.provenance.kernels.structures import PADDED, Incidence, Index, Products
from relann.provenance.kernels.threads import SERIAL

WIDTHS = (1, 2, 15, 16, 17, 64, 83)
PATHS = ("compiled", "plain")
drawn = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(autouse=True)
def narrow_products_however_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled loops run what is too little to be worth their call."""
    monkeypatch.setattr(products, "_MANY", 0)


@contextmanager
def computing(path: str) -> Iterator[None]:
    """Everything inside runs on one of the two paths."""
    if path == "compiled":
        yield
    else:
        with mock.patch.object(operations, "COMPILED", ()):
            yield


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Case:
    """A drawn incidence with the pairs it came from."""

    targets: list[int]
    sources: list[int]
    n_targets: int
    n_sources: int
    width: int
    rng: np.random.Generator
    dtype: torch.dtype

    @property
    def pairs(self) -> list[tuple[int, int, int]]:
        """(input, target, source) of the pairs that have both."""
        both = zip(self.targets, self.sources, strict=True)
        return [(i, t, s) for i, (t, s) in enumerate(both) if t >= 0 and s >= 0]

    @property
    def incidence(self) -> Incidence:
        arrays = np.array(self.targets, dtype=np.int64), np.array(self.sources, dtype=np.int64)
        return Incidence.build(*arrays, self.n_targets, self.n_sources)

    def numbers(self, *shape: int) -> Tensor:
        """Few distinct numbers, so that extremes tie."""
        return torch.from_numpy(self.rng.integers(-4, 5, shape) / 2).to(self.dtype)


@st.composite
def cases(draw: st.DrawFn, missing: bool = True) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_targets, n_sources = draw(st.integers(0, 6)), draw(st.integers(0, 7))
    entries = draw(st.integers(0, 25))
    least = -1 if missing and draw(st.booleans()) else 0
    if least == 0 and not (n_targets and n_sources):
        entries = 0
    targets = rng.integers(least, max(n_targets, least + 1), entries)
    sources = rng.integers(least, max(n_sources, least + 1), entries)
    shape = draw(st.sampled_from(["unsorted", "sorted", "sources sorted", "both sorted"]))
    if shape in ("sorted", "both sorted"):
        targets = np.sort(targets)
    if shape in ("sources sorted", "both sorted"):
        sources = np.sort(sources)
    width = draw(st.sampled_from(WIDTHS))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return Case(targets.tolist(), sources.tolist(), n_targets, n_sources, width, rng, dtype)


def same(got: Tensor, expected: Any) -> None:
    expected = torch.as_tensor(np.array(expected), dtype=got.dtype).reshape(got.shape)
    torch.testing.assert_close(got, expected, equal_nan=True)


def loop_sum(case: Case, x: Tensor, weight: Tensor) -> list[list[float]]:
    """Σ weight · x pair by pair, column by column."""
    out = [[0.0] * case.width for _ in range(case.n_targets)]
    size = case.width // weight.shape[1]
    for i, t, s in case.pairs:
        for c in range(case.width):
            out[t][c] += float(weight[i, c // size]) * float(x[s, c])
    return out


def members(case: Case) -> list[list[tuple[int, int]]]:
    """(input, source) of each target's pairs, in input order."""
    groups: list[list[tuple[int, int]]] = [[] for _ in range(case.n_targets)]
    for i, t, s in case.pairs:
        groups[t].append((i, s))
    return groups


def differentiated(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """The value and the gradients of Σ value · (fixed pattern)."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    value = function(*leaves)
    pattern = torch.linspace(-1, 1, value.numel(), dtype=value.dtype).view(value.shape)
    grads = torch.autograd.grad(value, leaves, pattern, allow_unused=True)
    zeros = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, leaves, strict=True)]
    return value.detach(), *zeros


# -- incidences and indices ------------------------------------------------------------------------


@drawn
@given(cases())
def test_an_incidence_holds_each_pair_once_under_its_target(case: Case) -> None:
    incidence = case.incidence
    groups = members(case)
    assert incidence.offsets[0] == 0
    for t, group in enumerate(groups):
        entries = range(incidence.offsets[t], incidence.offsets[t + 1])
        order = entries if incidence.order is None else incidence.order[entries]
        assert [(i, s) for i, s in zip(order, incidence.sources[entries], strict=True)] == group
    assert incidence.n_entries == len(case.pairs)
    assert incidence.targets.tolist() == [t for t, g in enumerate(groups) for _ in g]
    assert incidence.whole == (len(case.pairs) == len(case.targets))
    assert incidence.offsets.dtype == incidence.sources.dtype == np.int32


@drawn
@given(cases())
def test_the_transpose_holds_the_same_pairs_under_their_sources(case: Case) -> None:
    turned = case.incidence.transposed
    order = np.arange(turned.n_entries) if turned.order is None else turned.order
    pairs = zip(order.tolist(), turned.sources.tolist(), turned.targets.tolist(), strict=True)
    assert sorted(pairs) == case.pairs
    assert (turned.n_targets, turned.n_sources) == (case.n_sources, case.n_targets)


def test_a_transpose_is_made_once_and_turns_back() -> None:
    incidence = Incidence.build(np.array([1, 0, 1]), np.array([2, 2, 0]), 2, 3)
    assert incidence.transposed is incidence.transposed
    assert incidence.transposed.transposed is incidence


def test_sorted_input_keeps_no_order() -> None:
    ascending = Incidence.build(np.array([0, 0, 2]), np.array([2, 1, 1]), 3, 3)
    assert ascending.order is None
    assert Incidence.build(np.array([0, 2, 0]), np.array([2, 1, 1]), 3, 3).order is not None
    grouping = Incidence.build(np.array([2, 0, 1]), None, 3, 3)
    assert grouping.order is not None
    assert grouping.transposed.order is None


def test_sources_default_to_the_rows_themselves() -> None:
    incidence = Incidence.build(torch.tensor([1, 0, 1]), None, 2, 3)
    assert incidence.sources.tolist() == [1, 0, 2]


def test_read_only_and_torch_numbers_build_the_same() -> None:
    targets = np.array([1, 0, 1], dtype=np.int32)
    expected = Incidence.build(targets.tolist(), None, 2, 3)
    targets.flags.writeable = False
    for given_numbers in (targets, torch.tensor([1, 0, 1]), torch.tensor([1, 0, 1]).int()):
        made = Incidence.build(given_numbers, None, 2, 3)
        assert made.sources.tolist() == expected.sources.tolist()
        assert made.offsets.tolist() == expected.offsets.tolist()


@pytest.mark.parametrize("entries", [SERIAL, 4 * SERIAL])
def test_building_does_not_depend_on_threads(entries: int) -> None:
    rng = np.random.default_rng(0)
    targets, sources = rng.integers(-1, 500, entries), rng.integers(0, 700, entries)
    made = []
    for count in (1, 2, 5):
        with threads(count):
            made.append(Incidence.build(targets, sources, 500, 700))
    kept = np.flatnonzero(targets >= 0)
    order = kept[np.argsort(targets[kept], kind="stable")]
    for incidence in made:
        assert np.array_equal(incidence.picks, order)
        assert np.array_equal(incidence.sources, sources[order])
        assert np.array_equal(incidence.targets, targets[order])
        assert np.array_equal(incidence.transposed.offsets, made[0].transposed.offsets)
        assert np.array_equal(incidence.transposed.picks, made[0].transposed.picks)


@pytest.mark.parametrize(
    ("targets", "sources", "n_targets", "n_sources", "message"),
    [
        ([0, 2], [0, 0], 2, 1, r"row numbers 0…2 are not within -1…1"),
        ([0, -2], [0, 0], 2, 1, r"row numbers -2…0"),
        ([0, 1], [0, 1], 2, 1, r"row numbers 0…1 are not within -1…0"),
        ([0, 1], [0], 2, 1, r"2 targets but 1 sources"),
        ([0, 1], None, 2, 3, r"2 rows cannot be the 3 sources"),
        ([[0, 1]], None, 2, 1, r"2-dimensional"),
        ([0.0, 1.0], None, 2, 2, r"float64"),
    ],
)
def test_bad_numbers_are_refused(
    targets: Any, sources: Any, n_targets: int, n_sources: int, message: str
) -> None:
    arrays = np.array(targets), None if sources is None else np.array(sources)
    with pytest.raises(PlanError, match=message):
        Incidence.build(*arrays, n_targets, n_sources)


def test_a_bad_index_is_refused() -> None:
    with pytest.raises(PlanError, match=r"row numbers 0…3 are not within -1…2"):
        Index.build(np.array([0, 3]), 3)


# -- values against loops --------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@drawn
@given(case=cases())
def test_segment_sum_and_mean(path: str, case: Case) -> None:
    x, ones = case.numbers(case.n_sources, case.width), torch.ones(len(case.targets), 1)
    expected = loop_sum(case, x, ones)
    with computing(path):
        same(segment_sum(x, case.incidence), expected)
        means = [
            [v / max(1, len(g)) for v in row]
            for g, row in zip(members(case), expected, strict=True)
        ]
        same(segment_mean(x, case.incidence), means)


@pytest.mark.parametrize("path", PATHS)
@drawn
@given(case=cases(), heads=st.sampled_from(["one", "flat", "two", "all"]))
def test_weighted_sum(path: str, case: Case, heads: str) -> None:
    count = {"one": 1, "flat": 1, "two": 2 - case.width % 2, "all": case.width}[heads]
    x = case.numbers(case.n_sources, case.width)
    weight = case.numbers(len(case.targets), count)
    with computing(path):
        got = weighted_sum(x, weight[:, 0] if heads == "flat" else weight, case.incidence)
    same(got, loop_sum(case, x, weight))


@pytest.mark.parametrize("path", PATHS)
@drawn
@given(case=cases())
def test_segment_extremes_and_their_gradients(path: str, case: Case) -> None:
    x = case.numbers(case.n_sources, case.width)
    for function, better in ((segment_max, max), (segment_min, min)):
        expected = np.zeros((case.n_targets, case.width))
        pattern = np.linspace(-1, 1, expected.size).reshape(expected.shape)
        grads = np.zeros((case.n_sources, case.width))
        for t, group in enumerate(members(case)):
            for c in range(case.width if group else 0):
                values = [float(x[s, c]) for _, s in group]
                expected[t, c] = better(values)
                grads[group[values.index(better(values))][1], c] += pattern[t, c]
        with computing(path):
            got, grad = differentiated(lambda x, f=function: f(x, case.incidence), x)
        same(got, expected)
        same(grad, grads)


@pytest.mark.parametrize("path", PATHS)
@drawn
@given(case=cases())
def test_segment_softmax_and_cumsum(path: str, case: Case) -> None:
    score = case.numbers(len(case.targets), case.width)
    soft, running = np.zeros(score.shape), np.zeros(score.shape)
    for group in members(case):
        for c in range(case.width):
            total = sum(math.exp(score[i, c]) for i, _ in group)
            sofar = 0.0
            for i, _ in group:
                soft[i, c] = math.exp(score[i, c]) / total
                sofar += float(score[i, c])
                running[i, c] = sofar
    with computing(path):
        same(segment_softmax(score, case.incidence), soft)
        same(segment_cumsum(score, case.incidence), running)


@pytest.mark.parametrize("path", PATHS)
@drawn
@given(case=cases())
def test_gather(path: str, case: Case) -> None:
    x = case.numbers(case.n_sources, case.width)
    expected = [[0.0] * case.width if s < 0 else x[s].tolist() for s in case.sources]
    with computing(path):
        got = gather(x, Index.build(np.array(case.sources, dtype=np.int64), case.n_sources))
    same(got, np.array(expected).reshape(len(case.sources), case.width))


@pytest.mark.parametrize("path", PATHS)
@drawn
@given(case=cases(), heads=st.sampled_from(["one", "two", "all"]))
def test_gathered_dot(path: str, case: Case, heads: str) -> None:
    count = {"one": 1, "two": 2 - case.width % 2, "all": case.width}[heads]
    size = case.width // count
    x, y = case.numbers(case.n_targets, case.width), case.numbers(case.n_sources, case.width)
    left, right = index_pair(case)
    expected = np.zeros((len(left), count))
    for i, t, s in case.pairs:
        for c in range(case.width):
            expected[i, c // size] += float(x[t, c]) * float(y[s, c])
    with computing(path):
        same(gathered_dot(x, y, left, right, count), expected)


def index_pair(case: Case) -> tuple[Index, Index]:
    left = Index.build(np.array(case.targets, dtype=np.int64), case.n_targets)
    return left, Index.build(np.array(case.sources, dtype=np.int64), case.n_sources)


def grouping(case: Case) -> Incidence:
    targets = np.array(case.targets, dtype=np.int64)
    return Incidence.build(targets, None, case.n_targets, len(targets))


@pytest.mark.parametrize("path", PATHS)
@drawn
@given(case=cases(), biased=st.booleans())
def test_grouped_linear(path: str, case: Case, biased: bool) -> None:
    x = case.numbers(len(case.targets), case.width)
    weight = case.numbers(case.n_targets, case.width, 3)
    bias = case.numbers(case.n_targets, 3) if biased else None
    expected = np.zeros((len(x), 3))
    for i, t in enumerate(case.targets):
        if t >= 0:
            expected[i] = (x[i] @ weight[t] + (bias[t] if bias is not None else 0)).numpy()
    with computing(path):
        same(grouped_linear(x, weight, grouping(case), bias), expected)


# -- gradients -------------------------------------------------------------------------------------


def a_case(width: int, seed: int = 0, missing: bool = True) -> Case:
    """Pairs with duplicates, an empty target, a target with one pair and missing sides."""
    targets, sources = [3, 0, 3, 0, 5, 3, 0, 2], [1, 2, 1, 4, 0, 3, 2, 2]
    if missing:
        targets, sources = [*targets, -1, 1], [*sources, 2, -1]
    return Case(targets, sources, 6, 6, width, np.random.default_rng(seed), torch.float64)


def distinct(case: Case, *shape: int) -> Tensor:
    return torch.from_numpy(case.rng.permutation(math.prod(shape)).reshape(shape) / 7.0)


def three_factors(case: Case) -> Products:
    """Each target sums products of a source, the source of the pair before, and itself."""
    sources = case.sources[: len(case.targets)]
    rows = [sources, [*sources[1:], *sources[:1]], case.targets]
    sizes = [case.n_sources, case.n_sources, case.n_targets]
    return Products.build(
        np.array(case.targets), [np.array(r) for r in rows], case.n_targets, sizes
    )


OPERATIONS: dict[str, Callable[[Case], tuple[Callable[..., Tensor], list[Tensor]]]] = {
    "segment_sum": lambda c: (
        lambda x: segment_sum(x, c.incidence),
        [distinct(c, c.n_sources, c.width)],
    ),
    "segment_mean": lambda c: (
        lambda x: segment_mean(x, c.incidence),
        [distinct(c, c.n_sources, c.width)],
    ),
    "segment_min": lambda c: (
        lambda x: segment_min(x, c.incidence),
        [distinct(c, c.n_sources, c.width)],
    ),
    "segment_max": lambda c: (
        lambda x: segment_max(x, c.incidence),
        [distinct(c, c.n_sources, c.width)],
    ),
    "weighted_sum": lambda c: (
        lambda x, w: weighted_sum(x, w, c.incidence),
        [distinct(c, c.n_sources, c.width), distinct(c, len(c.targets))],
    ),
    "weighted_sum heads": lambda c: (
        lambda x, w: weighted_sum(x, w, c.incidence),
        [distinct(c, c.n_sources, 2 * c.width), distinct(c, len(c.targets), 2)],
    ),
    "weighted_sum vector": lambda c: (
        lambda x, w: weighted_sum(x, w, c.incidence),
        [distinct(c, c.n_sources, c.width), distinct(c, len(c.targets), c.width)],
    ),
    "product_sum": lambda c: (
        lambda x, y, z: product_sum([x, y, z], three_factors(c)),
        [
            distinct(c, c.n_sources, c.width),
            distinct(c, c.n_sources, c.width),
            distinct(c, c.n_targets, c.width),
        ],
    ),
    "segment_softmax": lambda c: (
        lambda x: segment_softmax(x, c.incidence),
        [distinct(c, len(c.targets), c.width).div(5)],
    ),
    "segment_cumsum": lambda c: (
        lambda x: segment_cumsum(x, c.incidence),
        [distinct(c, len(c.targets), c.width)],
    ),
    "gather": lambda c: (
        lambda x: gather(x, index_pair(c)[1]),
        [distinct(c, c.n_sources, c.width)],
    ),
    "gathered_dot": lambda c: (
        lambda x, y: gathered_dot(x, y, *index_pair(c)),
        [distinct(c, c.n_targets, c.width), distinct(c, c.n_sources, c.width)],
    ),
    "gathered_dot heads": lambda c: (
        lambda x, y: gathered_dot(x, y, *index_pair(c), heads=2),
        [distinct(c, c.n_targets, 2 * c.width), distinct(c, c.n_sources, 2 * c.width)],
    ),
    "vector_dot": lambda c: (
        vector_dot,
        [distinct(c, c.incidence.n_entries, c.width), distinct(c, 1, c.width)],
    ),
    "vector_dot heads": lambda c: (
        lambda x, v: vector_dot(x, v, heads=2),
        [distinct(c, c.incidence.n_entries, 2 * c.width), distinct(c, 1, 2 * c.width)],
    ),
    "linear": lambda c: (
        linear,
        [
            distinct(c, c.incidence.n_entries, c.width),
            distinct(c, c.width, 5),
            distinct(c, 5) * bool(c.incidence.n_entries),
        ],
    ),
    "linear of one": lambda c: (
        linear,
        [distinct(c, c.incidence.n_entries, c.width), distinct(c, c.width, 1)],
    ),
    "grouped_linear": lambda c: (
        lambda x, w, b: grouped_linear(x, w, grouping(c), b),
        [
            distinct(c, len(c.targets), c.width),
            distinct(c, c.n_targets, c.width, 3),
            distinct(c, c.n_targets, 3),
        ],
    ),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_are_finite_differences(name: str, missing: bool, path: str) -> None:
    function, inputs = OPERATIONS[name](a_case(3, missing=missing))
    with computing(path):
        assert torch.autograd.gradcheck(function, [x.requires_grad_() for x in inputs])


@pytest.mark.parametrize("width", [1, 16, 50, 70])
@pytest.mark.parametrize("name", OPERATIONS)
def test_both_paths_agree_with_gradients(name: str, width: int) -> None:
    rng = np.random.default_rng(width)
    case = a_case(width)
    case.targets = rng.integers(-1, case.n_targets, 400).tolist()
    case.sources = rng.integers(-1, case.n_sources, 400).tolist()
    function, inputs = OPERATIONS[name](case)
    inputs = [x / x.numel() for x in inputs]
    results = {}
    for path in PATHS:
        with computing(path):
            results[path] = differentiated(function, *inputs)
    for got, expected in zip(results["compiled"], results["plain"], strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_pairs_and_no_rows(name: str, path: str) -> None:
    rng = np.random.default_rng(0)
    for targets, n_targets, n_sources in (([], 3, 2), ([], 0, 0), ([-1, -1], 0, 0), ([], 2, 0)):
        case = Case(targets, targets, n_targets, n_sources, 3, rng, torch.float64)
        function, inputs = OPERATIONS[name](case)
        with computing(path):
            value, *grads = differentiated(function, *inputs)
        assert not value.any()
        assert not any(g.any() for g in grads)


def test_a_second_derivative_is_refused() -> None:
    function, (x,) = OPERATIONS["segment_mean"](a_case(2))
    (grad,) = torch.autograd.grad((function(x.requires_grad_()) ** 2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_a_constant_weight_costs_no_gradient_and_keeps_no_rows() -> None:
    case = a_case(4)
    x = distinct(case, case.n_sources, 4).requires_grad_()
    weight = distinct(case, len(case.targets))
    doubled = x * 2
    kept = weakref.ref(doubled)
    out = weighted_sum(doubled, weight, case.incidence)
    del doubled
    assert kept() is None
    with mock.patch.object(products, "dots", side_effect=AssertionError):
        out.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("flat", [True, False])
def test_a_constant_weight_is_put_in_entry_order_once_until_it_changes(flat: bool) -> None:
    case = a_case(4)
    incidence, x = case.incidence, distinct(case, case.n_sources, 4)
    weight = distinct(case, len(case.targets), 1)
    given_weight = weight[:, 0] if flat else weight
    arrange = mock.Mock(wraps=structures.rows_at)

    def check(weight: Tensor, arranged: int) -> None:
        for _ in range(3):
            used = weight[:, 0] if flat else weight
            same(weighted_sum(x, used, incidence).detach(), loop_sum(case, x, weight.detach()))
        assert arrange.call_count == arranged

    with mock.patch.object(structures, "rows_at", arrange):
        check(weight, 1)
        given_weight.mul_(2)
        check(weight, 2)
        check(weight + 1, 3)
        learned = weight.clone().requires_grad_()
        check(learned, 3)
        with torch.inference_mode():
            check(weight.clone(), 3)


def test_rows_that_are_not_contiguous() -> None:
    case = a_case(5)
    x = distinct(case, 5, case.n_sources).t()
    expected = loop_sum(case, x, torch.ones(len(case.targets), 1))
    same(segment_sum(x, case.incidence), expected)
    leaf = x.clone().requires_grad_()
    segment_sum(leaf, case.incidence).sum().backward()  # an expanded gradient
    counts = np.bincount([s for _, _, s in case.pairs], minlength=case.n_sources)
    same(leaf.grad, np.repeat(counts[:, None], 5, axis=1))


# -- numbers at the edge ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_softmax_of_large_and_of_one_score(path: str) -> None:
    incidence = Incidence.build(np.array([0, 0, 1, 0]), None, 2, 4)
    score = torch.tensor([[1e4], [1e4], [-1e30], [-1e4]])
    with computing(path):
        same(segment_softmax(score, incidence), [0.5, 0.5, 1.0, 0.0])


@pytest.mark.parametrize("path", PATHS)
def test_nan_and_infinity_among_extremes(path: str) -> None:
    incidence = Incidence.build(np.array([0, 0, 0, 1, 1, 2]), None, 3, 6)
    x = torch.tensor([1.0, math.nan, 2.0, -math.inf, -math.inf, math.inf])[:, None]
    with computing(path):
        value, grad = differentiated(lambda x: segment_max(x, incidence), x)
        same(segment_min(x, incidence), [math.nan, -math.inf, math.inf])
    same(value, [math.nan, -math.inf, math.inf])
    same(grad, [0, -1, 0, 0, 0, 1])


@pytest.mark.parametrize("degree", [RUN - 1, RUN, RUN + 1, 3 * RUN + 1])
def test_a_target_of_many_entries_is_summed_in_parts(degree: int) -> None:
    rng = np.random.default_rng(degree)
    targets = rng.permutation(np.repeat([0, 2, 3], [5, degree, 2 * degree]))
    incidence = Incidence.build(targets, None, 5, len(targets))
    assert (incidence.cuts is None) == (2 * degree <= RUN)
    for width, heads in ((1, 1), (70, 1), (70, 2), (6, 6)):
        x = torch.from_numpy(rng.normal(size=(len(targets), width)))
        weight = torch.from_numpy(rng.normal(size=(len(targets), heads)))
        expected = np.zeros((5, width))
        np.add.at(expected, targets, (x * weight.repeat_interleave(width // heads, 1)).numpy())
        same(weighted_sum(x, weight, incidence), expected)
        readers = Index.build(incidence.targets, 5)
        _, grad = differentiated(lambda y, r=readers: gather(y, r), torch.ones(5, width))
        assert grad.shape == (5, width)


@pytest.mark.parametrize("degree", [RUN - 1, RUN, RUN + 1, 3 * RUN + 1])
def test_gradients_of_a_source_that_many_entries_read(degree: int) -> None:
    """Its own is summed in parts, its entries' weights have each a gradient of their own."""
    rng = np.random.default_rng(degree)
    sources = rng.permutation(np.repeat([0, 2, 3], [5, degree, 2 * degree]))
    targets = rng.integers(0, 7, len(sources))
    incidence = Incidence.build(targets, sources, 7, 5)
    for width, heads in ((1, 1), (70, 1), (70, 2), (64, 4), (6, 6)):
        x = torch.from_numpy(rng.normal(size=(5, width)))
        weight = torch.from_numpy(rng.normal(size=(len(sources), heads)))
        grad = torch.from_numpy(rng.normal(size=(7, width)))
        wide = weight.repeat_interleave(width // heads, 1)
        to_x = torch.zeros(5, width, dtype=x.dtype)
        to_x.index_add_(0, torch.from_numpy(sources), grad[targets] * wide)
        to_weight = (grad[targets] * x[sources]).view(len(sources), heads, -1).sum(2)
        inputs = x.requires_grad_(), weight.requires_grad_()
        found = torch.autograd.grad(weighted_sum(*inputs, incidence), inputs, grad)
        torch.testing.assert_close(found, (to_x, to_weight))


@pytest.mark.parametrize("inputs, outputs", [(1, 16), (3, 5), (16, 2), (70, 7)])
@pytest.mark.parametrize("rows", [1, 4, 7, RUN + 2])
def test_narrow_products(rows: int, inputs: int, outputs: int) -> None:
    """Rows beyond fours and runs, inputs beyond lanes."""
    rng = torch.Generator().manual_seed(rows)
    shapes = (rows, inputs), (inputs, outputs), (outputs,)
    x, w, b = (torch.randn(s, generator=rng, dtype=torch.float64) for s in shapes)
    grad = torch.randn(rows, outputs, generator=rng, dtype=torch.float64)
    given = [t.requires_grad_() for t in (x, w, b)]
    found = linear(x, w, b)
    torch.testing.assert_close(found, torch.addmm(b, x, w))
    torch.testing.assert_close(
        torch.autograd.grad(found, given, grad), (grad @ w.T, x.T @ grad, grad.sum(0))
    )
    (alone,) = torch.autograd.grad(linear(x.detach(), w.detach(), b), b, grad)
    torch.testing.assert_close(alone, grad.sum(0))


@pytest.mark.parametrize("rows", [0, 1, RUN, 2 * RUN + 1])
def test_a_vectors_gradient_is_summed_in_runs(rows: int) -> None:
    x, vector = torch.ones(rows, 3).requires_grad_(), torch.ones(1, 3).requires_grad_()
    (to_vector,) = torch.autograd.grad(vector_dot(x, vector).sum(), vector)
    assert to_vector.tolist() == [[rows] * 3]
    (to_x,) = torch.autograd.grad(vector_dot(x, vector.detach()).sum(), x)
    assert to_x.tolist() == [[1] * 3] * rows


def test_long_float32_sums_stay_exact() -> None:
    n = 2_000_000
    incidence = Incidence.build(np.zeros(n, dtype=np.int32), None, 1, n)
    x = torch.full((n, 1), 0.1)
    assert segment_sum(x, incidence).item() == pytest.approx(n * float(x[0]), rel=3e-5)
    assert segment_mean(x, incidence).item() == pytest.approx(float(x[0]), rel=3e-5)
    assert segment_cumsum(x, incidence)[-1].item() == pytest.approx(n * float(x[0]), rel=3e-5)
    assert segment_softmax(x, incidence)[0].item() == pytest.approx(1 / n, rel=3e-5)


# -- threads, sizes, memory ------------------------------------------------------------------------


def big_case(rows: int, width: int) -> Case:
    """About `rows`·`width` numbers, some targets with many entries."""
    rng = np.random.default_rng(rows)
    targets = np.where(
        rng.random(rows) < 0.5, rng.integers(0, 3, rows), rng.integers(-1, 300, rows)
    )
    sources = rng.integers(-1, 200, rows)
    return Case(targets.tolist(), sources.tolist(), 300, 200, width, rng, torch.float32)


# grouped_linear is torch's matrix product, whose bits depend on threads on some processors.
@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"grouped_linear"}))
def test_bits_do_not_depend_on_threads(name: str) -> None:
    case = big_case(6000, 40)
    function, inputs = OPERATIONS[name](case)
    inputs = [(x / x.numel() - 0.3).float() for x in inputs]
    results = []
    for count in (1, 2, 5, 2):
        with threads(count):
            results.append(differentiated(function, *inputs))
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize("extra", [-3000, 0, 3000])
def test_sizes_around_the_switch_to_threads(extra: int) -> None:
    width, n_targets = 16, 300
    rows = (SERIAL + extra) // width - n_targets
    case = big_case(rows, width)
    incidence = Incidence.build(
        np.maximum(case.targets, 0), np.maximum(case.sources, 0), n_targets, case.n_sources
    )
    with threads(2):
        work = (incidence.n_entries + n_targets) * width
        assert (len(incidence.chunks(width)) > 2) == (work >= SERIAL)
        x = distinct(case, case.n_sources, width).float()
        got = segment_sum(x, incidence)
    expected = np.zeros((n_targets, width))
    np.add.at(expected, np.maximum(case.targets, 0), x.numpy()[np.maximum(case.sources, 0)])
    torch.testing.assert_close(got, torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("sizes", "padded"),
    [
        ([PADDED, PADDED, PADDED], True),
        ([PADDED - 1, PADDED, 20], True),
        ([PADDED + 1, PADDED], False),
        ([PADDED, 1, 1, 1], False),
        ([3, 0, 2, 4], True),
        ([3, 0, 0, 0], False),
    ],
)
@pytest.mark.parametrize("shuffled", [True, False])
def test_many_small_sets_are_one_batch(sizes: list[int], padded: bool, shuffled: bool) -> None:
    rng = np.random.default_rng(0)
    sets = np.append(np.repeat(np.arange(len(sizes)), sizes), -1)
    sets = rng.permutation(sets) if shuffled else sets[:-1]
    groups = Incidence.build(sets, None, len(sizes), len(sets))
    assert (groups.padding is not None) == padded
    case = Case(sets.tolist(), sets.tolist(), len(sizes), len(sizes), 5, rng, torch.float64)
    inputs = case.numbers(len(sets), 5), case.numbers(len(sizes), 5, 3), case.numbers(len(sizes), 3)

    def looped(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows = [
            x[i] @ weight[s] + bias[s] if s >= 0 else x.new_zeros(3) for i, s in enumerate(sets)
        ]
        return torch.stack(rows)

    got = differentiated(lambda x, w, b: grouped_linear(x, w, groups, b), *inputs)
    for value, expected in zip(got, differentiated(looped, *inputs), strict=True):
        torch.testing.assert_close(value, expected)


def test_chunks_hold_equal_work_however_skewed() -> None:
    targets = np.concatenate([np.zeros(100_000, dtype=np.int64), np.arange(1000)])
    incidence = Incidence.build(targets, None, 1000, len(targets))
    with threads(2):
        bounds = incidence.chunks(64, cut=True)
    assert incidence.cuts is not None
    work = np.diff(incidence.cuts.offsets[bounds] + bounds)
    assert work.max() - work.min() <= 2 * RUN


@pytest.mark.parametrize("bytes_", [(1 << 22) - 256, 1 << 22, (1 << 22) + 256])
def test_memory_is_aligned_to_cache_lines(bytes_: int) -> None:
    rows = bytes_ // 256
    held = [empty(rows + i, 64, torch.empty(0)) for i in range(8)]
    for i, made in enumerate(held):
        assert made.shape == (rows + i, 64)
        assert made.is_contiguous()
        assert made.data_ptr() % 64 == 0


def test_several_python_threads_at_once() -> None:
    case = big_case(6000, 40)
    x = distinct(case, case.n_sources, 40).float()
    incidence = case.incidence
    expected = segment_sum(x, incidence)
    with threads(2), ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: segment_sum(x, incidence), range(40)))
    assert all(torch.equal(m, expected) for m in made)


def test_numbers_beyond_32_bits_use_64() -> None:
    assert structures._index_type(2**31) is np.int64
    case = a_case(17)
    x, weight = distinct(case, case.n_sources, 17), distinct(case, len(case.targets))
    with mock.patch.object(structures, "_index_type", lambda *sizes: np.int64):
        incidence = case.incidence
        assert incidence.sources.dtype == np.int64
        assert incidence.transposed.sources.dtype == np.int64
        wide = differentiated(lambda x, w: weighted_sum(x, w, incidence), x, weight)
        wide += differentiated(lambda x: segment_max(x, incidence), x)
    narrow = differentiated(lambda x, w: weighted_sum(x, w, case.incidence), x, weight)
    narrow += differentiated(lambda x: segment_max(x, case.incidence), x)
    for got, expected in zip(wide, narrow, strict=True):
        assert torch.equal(got, expected)


def test_the_identity_index_gives_the_rows_themselves() -> None:
    x = torch.ones(3, 2)
    assert gather(x, Index.build(np.arange(3), 3)) is x
    assert gather(x, Index.build(np.array([0, 2, 1]), 3)) is not x
    assert gather(x, Index.build(np.arange(2), 3)).shape == (2, 2)


def test_pairing_is_kept_while_both_indices_live() -> None:
    left, right = index_pair(a_case(1))
    assert left.paired(right) is left.paired(right)
    assert left.paired(left) is not left.paired(right)


def test_importing_compiles_nothing_and_a_forked_child_computes() -> None:
    script = """
        import os
        import numpy as np, torch
        from relann.provenance.kernels.reducing import segment_sum
        from relann.provenance.kernels.structures import Incidence
        from relann.provenance.kernels import loops, threads
        compiled = [v for v in vars(loops).values() if hasattr(v, "nopython_signatures")]
        assert len(compiled) > 10 and not any(v.nopython_signatures for v in compiled)
        torch.set_num_threads(2)
        incidence = Incidence.build(np.arange(20_000) % 700, None, 700, 20_000)
        x = torch.rand(20_000, 16)
        expected = segment_sum(x, incidence)
        assert threads.workers._pool is not None
        child = os.fork()
        if child == 0:
            assert threads.workers._pool is None
            os._exit(0 if torch.equal(segment_sum(x, incidence), expected) else 3)
        assert os.waitpid(child, 0)[1] == 0
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)


# -- wrong shapes ----------------------------------------------------------------------------------


def test_shapes_that_do_not_fit_are_refused() -> None:
    case = a_case(4)
    incidence, (left, right) = case.incidence, index_pair(case)
    x, n = torch.ones(6, 4), len(case.targets)
    with pytest.raises(PlanError, match=r"x has shape \(5, 4\), not \[6, width\]"):
        segment_sum(x[:5], incidence)
    with pytest.raises(PlanError, match=r"x has shape \(6,\)"):
        segment_max(x[:, 0], incidence)
    with pytest.raises(PlanError, match=r"weight has shape \(6, 4\), not \[10, width\]"):
        weighted_sum(x, x, incidence)
    with pytest.raises(PlanError, match="3 weights do not divide a width of 4"):
        weighted_sum(x, torch.ones(n, 3), incidence)
    with pytest.raises(PlanError, match=r"weight is torch\.float64, x is torch\.float32"):
        weighted_sum(x, torch.ones(n).double(), incidence)
    with pytest.raises(PlanError, match=r"score has shape"):
        segment_softmax(x, incidence)
    with pytest.raises(PlanError, match=r"x has shape"):
        segment_cumsum(x, incidence)
    with pytest.raises(PlanError, match=r"x has shape"):
        gather(x[:5], right)
    with pytest.raises(PlanError, match="widths 4 and 4 cannot be 3 equal heads"):
        gathered_dot(x, x, left, right, heads=3)
    with pytest.raises(
        PlanError, match=r"shapes \(6, 4\) and \(4,\) have no inner products over 2"
    ):
        vector_dot(x, torch.ones(4), heads=2)
    with pytest.raises(PlanError, match="the indices have 10 and 2 rows"):
        gathered_dot(x, x, left, Index.build(np.array([0, 1]), 6))
    with pytest.raises(PlanError, match=r"y is torch\.float64, x is torch\.float32"):
        gathered_dot(x, x.double(), left, right)
    with pytest.raises(PlanError, match=r"weight has shape \(6, 3, 2\), not \[6, 4, outputs\]"):
        grouped_linear(torch.ones(n, 4), torch.ones(6, 3, 2), grouping(case))
    with pytest.raises(PlanError, match=r"bias has shape \(6, 3\), not \[6, 2\]"):
        grouped_linear(torch.ones(n, 4), torch.ones(6, 4, 2), grouping(case), torch.ones(6, 3))
