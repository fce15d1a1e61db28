"""Modules against loops over rows and against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.lower import lower
from relann.algebra.optimize import optimise
from relann.algebra.plan import Gather, Plan, SegmentReduce, SparseProduct
from relann.algebra.refine import refine
from relann.algebra.rowmaps import RowMaps, build, running
from relann.algebra.statistics import Statistics
from relann.algebra.terms import (
    Apply,
    Constant,
    Dot,
    Dropout,
    Encode,
    Key,
    Learned,
    Lift,
    Linear,
    Lookup,
    Norm,
    Parameter,
    Tokens,
    column,
)
from relann.errors import DataError
from relann.provenance.encoders import Encoders
from relann.provenance.inputs import lifted
from relann.provenance.kernels.structures import Incidence
from relann.provenance.module import QueryModule
from relann.provenance.slices import cut
from relann.provenance.words import Words
from relann.schema import Catalog
from tests.fixtures import bound, papers
from tests.provenance import naive
from tests.provenance.plans import A, B, Draft, F, K, V, X, random_maps


def module_of(maps: RowMaps, dtype: torch.dtype = torch.float64, seed: int = 0) -> QueryModule:
    return QueryModule(maps.plan, Encoders.fit(maps.plan, maps), seed, dtype)


def shown(value: torch.Tensor, valid: np.ndarray | None) -> list[list[float] | None]:
    rows = value.tolist()
    return [r if valid is None or valid[i] else None for i, r in enumerate(rows)]


@given(st.integers(0, 2**32))
def test_random_plans_mean_what_loops_say(seed: int) -> None:
    """Values, NULLs and gradients."""
    maps = random_maps(seed)
    module = module_of(maps)
    every = naive.values(module, maps)
    for (value, valid), (_, step) in zip(module(module.bind(maps)), maps.plan.values, strict=True):
        assert value.shape == (len(every[step]), maps.plan.steps[step].width)
        check(module, value, valid, every[step])


@given(st.integers(0, 2**32))
def test_wherever_steps_run_they_mean_the_same(seed: int) -> None:
    """Steps moved over their gathers as made-up numbers of rows would have it."""
    maps = random_maps(seed)
    draw = np.random.default_rng(seed)
    counts = {space: int(draw.choice([1, 100, 10_000])) for space in maps.counts}
    moved = running(maps, refine(maps.plan, counts))
    module = module_of(maps)
    every = naive.values(module, maps)
    found = module(module.bind(moved))
    for (value, valid), (_, step) in zip(found, maps.plan.values, strict=True):
        check(module, value, valid, every[step])


@pytest.mark.parametrize("nodes, below", [(2, True), (7, False)])
def test_terms_go_below_a_gather_together(nodes: int, below: bool) -> None:
    """The first widens rows, so that it alone would stay; both go where that saves enough rows."""
    d = Draft()
    x = d.term(d.space(nodes, x=[1.0] * nodes), Lift(X))
    rows = d.space(8, a=[r % nodes for r in range(8)])
    wide = d.step(rows, 1, Gather(x, A))
    for number, (inner, outer) in enumerate([(1, 30), (30, 8)]):
        wide = d.term(rows, Linear(d.value(wide), Parameter(f"m.{number}", (inner, outer))))
    maps = d.finished(wide)
    moved = refine(maps.plan, maps.counts)
    places = [s.space for s in moved.steps if isinstance(s.operation, Linear)]
    assert places == ([0, 0] if below else [rows, rows])


def test_a_product_runs_where_a_batch_has_the_fewest_rows() -> None:
    """Over all rows below the join; of three of them above it, since all papers are read anyhow."""
    con = papers()
    sql = (
        "SELECT c.src, linear(p.x, 4) AS z, t.z AS t FROM cites c JOIN paper p ON p.id = c.src "
        "CROSS JOIN (SELECT sum(q.x) AS z FROM paper q) t"
    )
    catalog = Catalog(con)
    node = optimise(bound(con, sql), Statistics(catalog.estimate, catalog.sketch)).node
    maps = build(lower(node), DuckDBEngine(con))
    few = cut(maps, np.arange(3))

    def product(plan: Plan) -> int:
        (step,) = (s for s in plan.steps if isinstance(s.operation, Linear))
        return step.space

    assert maps.counts[product(maps.plan)] == maps.counts[product(few.maps.plan)] == 100
    moved = few.running().maps
    assert moved.counts[product(moved.plan)] == 3 == len(few.maps.kept[product(moved.plan)])
    module = module_of(maps)
    ((whole, _), _) = module(module.bind(maps))
    ((some, _), _) = module(module.bind(moved))
    torch.testing.assert_close(some, whole[:3])


def check(module: QueryModule, value: torch.Tensor, valid, expected: list[naive.Row]) -> None:
    known = [i for i, row in enumerate(expected) if row is not None]
    assert (list(range(len(value))) if valid is None else np.flatnonzero(valid).tolist()) == known
    if not known:
        return
    rows = torch.stack([expected[i] for i in known])
    torch.testing.assert_close(value[known], rows, atol=1e-9, rtol=1e-9)
    if not rows.requires_grad:
        return
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=rows.shape))
    parameters = list(module.parameters())
    given_, wanted = (
        torch.autograd.grad((x * weight).sum(), parameters, allow_unused=True, retain_graph=True)
        for x in (value[known], rows)
    )
    for parameter, mine, theirs in zip(parameters, given_, wanted, strict=True):
        zero = torch.zeros_like(parameter)
        torch.testing.assert_close(
            zero if mine is None else mine,
            zero if theirs is None else theirs,
            atol=1e-8,
            rtol=1e-8,
        )


@given(st.integers(0, 2**32))
def test_slices_of_maps_give_the_values_of_the_whole(seed: int) -> None:
    maps = random_maps(seed)
    module = module_of(maps)
    inputs = module.inputs(maps)
    ends = {maps.plan.steps[step].space for _, step in maps.plan.values}
    if ends != {maps.plan.output}:
        return
    ((whole, valid), *_) = module(module.bind(maps, inputs))
    rows = np.flatnonzero(np.random.default_rng(seed).random(len(whole)) < 0.5)
    part = cut(replace(maps, columns={}), rows)
    batch = module.bind(part.maps, inputs.take(part.maps.kept), part.stacks)
    ((some, known), *_) = module(batch)
    if part.rows is not None:
        some = some[part.rows]
        known = None if known is None else known[part.rows.numpy()]
    mask = np.ones(len(whole), dtype=bool) if valid is None else valid
    again = np.ones(len(rows), dtype=bool) if known is None else known
    assert again.tolist() == mask[rows].tolist()
    torch.testing.assert_close(some[again], whole[rows][again], atol=1e-9, rtol=1e-9)


# -- by hand ---------------------------------------------------------------------------------------


def one(maps: RowMaps, **arrays: list) -> list[list[float] | None]:
    """The output, NULL rows as None, with parameters set by the last part of their names."""
    module = module_of(maps)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.rpartition(".")[2] in arrays:
                value = torch.tensor(arrays[name.rpartition(".")[2]], dtype=torch.float64)
                parameter.copy_(value)
        ((value, valid),) = module(module.bind(maps))
    return shown(value, valid)


def test_a_filtered_sum_skips_nulls_and_empty_groups_are_null() -> None:
    d = Draft()
    rows = d.space(5, x=[1.0, None, 3.0, 4.0, None], f=[True, True, None, False, True])
    groups = d.groups(rows, [0, 0, 0, 1, 2], 4)
    x = d.term(rows, Lift(X))
    for how, where, expected in [
        ("sum", None, [[4], [4], None, None]),
        ("sum", F, [[1], None, None, None]),
        ("count", None, [[2], [1], [0], [0]]),
        ("count", F, [[1], [0], [0], [0]]),
        ("avg", None, [[2], [4], None, None]),
        ("min", None, [[1], [4], None, None]),
        ("max", None, [[3], [4], None, None]),
        ("stddev", None, [[2**0.5], None, None, None]),
    ]:
        step = d.step(groups, 1, SegmentReduce(x, how, where))
        found = one(d.finished(step))
        assert [r and pytest.approx(r) for r in found] == expected, (how, where)


def test_a_group_of_equal_rows_has_deviation_zero_and_gradient_zero() -> None:
    d = Draft()
    rows = d.space(3)
    groups = d.groups(rows, [0, 0, 0], 1)
    weight = d.term(rows, Learned(Parameter("m.w", (1,))))
    wide = d.term(rows, Dropout(d.value(weight), 0.0, "m.d"))
    maps = d.finished(d.step(groups, 1, SegmentReduce(wide, "stddev")))
    module = module_of(maps)
    ((value, _),) = module(module.bind(maps))
    value.sum().backward()
    assert value.item() == 0
    assert module.get_parameter("m.w").grad.item() == 0


def test_unseen_keys_are_zero_and_never_trained_and_null_is_a_key() -> None:
    d = Draft()
    rows = d.space(3, k=[7, None, 7])
    step = d.term(rows, Lookup(Parameter("m.e.weight", (2,), "normal"), Key("m.e", (K,))))
    train = d.finished(step)
    module = module_of(train)
    assert module.state()["m.e.weight"].shape == (2, 2)  # 7 and NULL
    d = Draft()
    d.space(4, k=[8, None, 7, None])
    d.steps = list(train.plan.steps)
    ((value, valid),) = module(module.bind(d.finished(0)))
    assert valid is None
    table = module.get_parameter("m.e.weight")
    expected = torch.stack([torch.zeros(2), table[1], table[0], table[1]])
    assert torch.equal(value, expected)
    value.sum().backward()
    assert table.grad.tolist() == [[1, 1], [2, 2]]


def per_linear(keys: list[int | None], xs: list[float | None]) -> RowMaps:
    d = Draft()
    rows = d.space(len(keys), k=keys, x=xs)
    x = d.term(rows, Lift(X))
    weight, bias = Parameter("m.l.weight", (1, 1)), Parameter("m.l.bias", (1,), "zeros")
    return d.finished(d.term(rows, Linear(d.value(x), weight, bias, Key("m.l", (K,)))))


def test_per_picks_each_rows_own_set() -> None:
    maps = per_linear([5, None, 5, 3, None], [1.0, 2.0, None, 4.0, None])
    found = one(maps, weight=[[[2]], [[3]], [[4]]], bias=[[10], [20], [30]])
    assert found == [[12], [26], None, [46], None]  # 5 and NULL twice, 3 once


def test_a_per_value_without_a_set_is_named() -> None:
    module = module_of(per_linear([5, 3], [1.0, 2.0]))
    with pytest.raises(
        DataError,
        match=r"`m\.l\.weight` has one set for each k .* rows, and none for 9, which 2 of 3 rows",
    ):
        module.bind(per_linear([5, 9, 9], [1.0, 1.0, 1.0]))
    with pytest.raises(DataError, match="none for NULL"):
        module.bind(per_linear([None], [1.0]))


def test_a_per_value_without_a_set_does_not_matter_where_the_row_is_null() -> None:
    module = module_of(per_linear([5, 3], [1.0, 2.0]))
    maps = per_linear([5, None], [1.0, None])
    ((value, valid),) = module(module.bind(maps))
    assert valid.tolist() == [True, False]
    value[0].sum().backward()
    none = module_of(per_linear([], []))
    ((value, valid),) = none(none.bind(per_linear([None], [None])))
    assert valid.tolist() == [False]


def test_a_learned_per_value_without_a_set_is_named() -> None:
    def maps(keys: list[int | None]) -> RowMaps:
        d = Draft()
        term = Learned(Parameter("m.p", (2,), "normal"), Key("m.p", (K,)))
        return d.finished(d.term(d.space(len(keys), k=keys), term))

    module = module_of(maps([1, 2]))
    with pytest.raises(DataError, match=r"`m\.p` has one set for each k .* none for NULL"):
        module.bind(maps([None]))


def test_words_average_and_no_words_are_zero() -> None:
    text = column("s", "VARCHAR")
    d = Draft()
    rows = d.space(5)
    d.maps.columns[rows, text] = pa.array(["One two", None, "", "two", "One two"])
    maps = d.finished(d.term(rows, Tokens(Parameter("m.t.weight", (64, 2), "normal"), text)))
    module = module_of(maps)
    ((value, valid),) = module(module.bind(maps))
    words = Words.of(pa.array(["one", "two"]), 64).bucket.tolist()
    assert words[0] != words[1]
    table = module.get_parameter("m.t.weight")
    mean = (table[words[0]] + table[words[1]]) / 2
    zero = torch.zeros(2)
    torch.testing.assert_close(value, torch.stack([mean, zero, zero, table[words[1]], mean]))
    assert valid is None
    value.sum().backward()
    assert table.grad[words[1]].tolist() == [2, 2]
    assert table.grad.sum().item() == 6


def test_encodings_are_fitted_and_never_null() -> None:
    d = Draft()
    rows = d.space(3, x=[1.0, 3.0, None])
    maps = d.finished(d.term(rows, Encode("numeric", "m.n", X)))
    assert one(maps) == [[-1, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize("array", [[1.0, float("inf")], [float("nan"), 1.0]])
def test_a_lifted_number_that_is_not_finite_names_the_column(array: list[float]) -> None:
    d = Draft()
    maps = d.finished(d.term(d.space(2, x=array), Lift(X)))
    with pytest.raises(DataError, match=r"`x` is (inf|nan) in 1 of 2 rows"):
        one(maps)


def test_vectors_that_are_not_finite_or_hold_nulls_name_the_column() -> None:
    for row, message in [
        ([1.0, float("nan"), 0.0], "`v` holds a number that is not finite in 1 of 2 rows"),
        ([1.0, None, 0.0], "`v` holds a NULL inside a vector"),
    ]:
        d = Draft()
        maps = d.finished(d.term(d.space(2, v=[None, row]), Lift(V)))
        with pytest.raises(DataError, match=message):
            one(maps)


def test_vectors_keep_their_rows_in_slices_and_shared_memory() -> None:
    flat = np.arange(12, dtype=np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), 3)
    content = column("v", "FLOAT[3]")
    value, valid = lifted(vectors[1:3], content, torch.float32)
    assert value.tolist() == [[3, 4, 5], [6, 7, 8]]
    assert valid is None
    whole, _ = lifted(vectors, content, torch.float32)
    assert whole.data_ptr() == vectors.values.buffers()[1].address  # not copied
    missing = pa.array([None, [1, 2, 3]], pa.list_(pa.float32(), 3))
    value, valid = lifted(missing, content, torch.float32)
    assert value.tolist() == [[0, 0, 0], [1, 2, 3]]
    assert valid.tolist() == [False, True]
    lists = pa.array([[1.0, 2.0, 3.0]], pa.list_(pa.float64()))
    assert lifted(lists, content, torch.float32)[0].tolist() == [[1, 2, 3]]


# -- training mode ---------------------------------------------------------------------------------


def dropout(p: float, count: int = 1000) -> RowMaps:
    d = Draft()
    one_ = d.term(d.space(count), Constant(1.0))
    return d.finished(d.term(0, Dropout(d.value(one_), p, "m.d")))


def test_dropout_zeroes_each_row_by_itself_in_training_only() -> None:
    maps = dropout(0.25)
    module = module_of(maps)
    batch = module.bind(maps)
    before = torch.random.get_rng_state()
    ((first, _),), ((second, _),) = module(batch), module(batch)
    assert torch.equal(before, torch.random.get_rng_state())
    assert set(first.flatten().tolist()) == {0, 1 / 0.75}
    assert first.mean().item() == pytest.approx(1, abs=0.1)
    assert not torch.equal(first, second)  # drawn anew every time
    again = module_of(maps)
    assert torch.equal(again(again.bind(maps))[0][0], first)
    module.eval()
    assert module(batch)[0][0].unique().tolist() == [1]


def batch_norm_maps(xs: list[float | None]) -> RowMaps:
    d = Draft()
    x = d.term(d.space(len(xs), x=xs), Lift(X))
    norm = Norm(
        "batch",
        d.value(x),
        Parameter("m.n.scale", (1,), "ones"),
        Parameter("m.n.shift", (1,), "zeros"),
    )
    return d.finished(d.term(0, norm))


def test_batch_norm_is_torchs_where_nothing_is_null() -> None:
    xs = [1.0, 2.0, 4.0, -3.0]
    maps = batch_norm_maps(xs)
    module, peer = module_of(maps), torch.nn.BatchNorm1d(1, momentum=None).double()
    batch = module.bind(maps)
    column_ = torch.tensor(xs, dtype=torch.float64)[:, None]
    for _ in range(3):
        torch.testing.assert_close(module(batch)[0][0], peer(column_))
    module.eval(), peer.eval()
    torch.testing.assert_close(module(batch)[0][0], peer(column_))
    assert module.state()["m.n.steps"].item() == 3


def test_batch_norm_leaves_null_rows_out_of_its_statistics() -> None:
    maps = batch_norm_maps([1.0, None, 3.0])
    module = module_of(maps)
    ((value, valid),) = module(module.bind(maps))
    assert valid.tolist() == [True, False, True]
    assert value[[0, 2], 0].tolist() == pytest.approx([-1, 1], abs=1e-4)
    assert module.state()["m.n.running_mean"].tolist() == [2]
    assert module.state()["m.n.running_var"].tolist() == [2]  # the sample's
    for empty in (batch_norm_maps([]), batch_norm_maps([None])):
        fresh = module_of(empty)
        fresh(fresh.bind(empty))
        assert fresh.state()["m.n.steps"].item() == 0


# -- cost ------------------------------------------------------------------------------------------


def test_what_depends_on_no_parameter_is_computed_once() -> None:
    d = Draft()
    rows = d.space(3, x=[1.0, 2.0, 3.0])
    x = d.term(rows, Lift(X))
    scaled = d.term(rows, Apply("mul", (d.value(x), d.value(x))))
    linear = d.term(rows, Linear(d.value(scaled), Parameter("m.w", (1, 1))))
    maps = d.finished(linear)
    batch = module_of(maps).bind(maps)
    assert [number for number, _, _ in batch.program] == [linear]
    assert [number for number, v in enumerate(batch.start) if v is not None] == [scaled]


def test_the_dot_of_two_gathers_makes_neither() -> None:
    d = Draft()
    nodes = d.space(2, x=[1.0, 2.0])
    edges = d.space(3, a=[0, 1, -1], b=[1, 1, 0])
    wide = d.term(nodes, Linear(d.value(d.term(nodes, Lift(X))), Parameter("m.w", (1, 4), "ones")))
    ends = [d.step(edges, 4, Gather(wide, via)) for via in (A, B)]
    dot = d.term(edges, Dot(*(d.value(e) for e in ends)))
    maps = d.finished(dot)
    module = module_of(maps)
    assert [n for n, _, _ in module.bind(maps).program] == [wide, dot]
    assert one(maps) == [[8], [16], None]
    both = d.finished(dot, ends[0])  # a gather that comes out is made
    assert [n for n, _, _ in module_of(both).bind(both).program] == [wide, *ends, dot]


def test_the_sum_of_embeddings_makes_no_row_for_each_key() -> None:
    d = Draft()
    rows = d.space(4, k=[5, None, 5, 3], x=[1.0, 2.0, None, 4.0])
    groups = d.groups(rows, [0, 0, 1, 0], 2)
    table = d.term(rows, Lookup(Parameter("m.e.weight", (2,), "normal"), Key("m.e", (K,))))
    x = d.term(rows, Lift(X))
    product = d.term(rows, Apply("mul", (d.value(x), d.value(table))))
    total = d.step(groups, 2, SegmentReduce(product, "sum"))
    maps = d.finished(total)
    assert [n for n, _, _ in module_of(maps).bind(maps).program] == [total]
    found = one(maps, weight=[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])  # 5, 3, NULL
    assert found == [[1 + 8 + 6, 10 + 80 + 60], None]


def test_values_are_freed_after_their_last_reader() -> None:
    d = Draft()
    rows = d.space(2, x=[1.0, 2.0])
    x = d.term(rows, Linear(d.value(d.term(rows, Lift(X))), Parameter("m.w", (1, 1))))
    y = d.term(rows, Apply("relu", (d.value(x),)))
    z = d.term(rows, Apply("add", (d.value(y), d.value(x))))
    maps = d.finished(z)
    done = {number: freed for number, _, freed in module_of(maps).bind(maps).program}
    assert done == {x: (0,), y: (), z: (x, y)}
    both = d.finished(z, x)
    assert all(x not in freed for _, _, freed in module_of(both).bind(both).program)


def test_groups_reduced_twice_share_one_incidence() -> None:
    d = Draft()
    rows = d.space(3, x=[1.0, None, 3.0])
    groups = d.groups(rows, [0, 1, 0], 2)
    x = d.term(rows, Lift(X))
    y = d.term(rows, Apply("neg", (d.value(x),)))
    steps = [d.step(groups, 1, SegmentReduce(k, how)) for k in (x, y) for how in ("sum", "max")]
    maps = d.finished(*steps)
    built = []
    original = Incidence.build.__func__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Incidence,
            "build",
            classmethod(lambda cls, *args: built.append(args) or original(cls, *args)),
        )
        module_of(maps).bind(maps)
    assert len(built) == 1


# -- weights ---------------------------------------------------------------------------------------


def test_float32_starts_from_the_same_values_as_float64() -> None:
    maps = random_maps(3)
    single, double = module_of(maps, torch.float32), module_of(maps, torch.float64)
    for name, value in single.state().items():
        assert torch.equal(value, double.state()[name].float())


def test_weights_load_by_name() -> None:
    maps = per_linear([5, 3], [1.0, 2.0])
    first, second = module_of(maps, seed=1), module_of(maps, seed=2)
    batch = second.bind(maps)  # bound before, runs with what is loaded after
    second.load(first.state())
    torch.testing.assert_close(second(batch)[0][0], first(first.bind(maps))[0][0])
    with pytest.raises(DataError, match=r"the weights lack `m\.l\.bias`"):
        second.load({"m.l.weight": first.state()["m.l.weight"]})


def test_the_first_step_that_is_not_finite_is_found() -> None:
    d = Draft()
    rows = d.space(2, x=[1.0, 0.0])
    x = d.term(rows, Linear(d.value(d.term(rows, Lift(X))), Parameter("m.w", (1, 1), "ones")))
    step = d.term(rows, Apply("log", (d.value(x),)))
    maps = d.finished(d.term(rows, Apply("add", (d.value(step), d.value(x)))))
    module = module_of(maps)
    assert module.first_strange(module.bind(maps)) == step


@pytest.mark.parametrize("operation", ["div", "log", "sqrt", "exp"])
def test_what_a_null_row_holds_spoils_no_gradient(operation: str) -> None:
    """1 / 0, log 0, the slope of √0 and exp 1000 in a row that is NULL."""
    d = Draft()
    rows = d.space(3, x=[1.0, None, 2.0], v=[[0.0] * 3, [1000.0] * 3, [0.0] * 3])
    weight = d.value(d.term(rows, Learned(Parameter("m.w", (1,), "ones"))))
    x, large = d.value(d.term(rows, Lift(X))), d.value(d.term(rows, Lift(V)))
    scaled = d.value(d.term(rows, Apply("mul", (x, weight))))
    total = d.value(d.term(rows, Apply("add", (scaled, large))))
    argument_ = total if operation == "exp" else scaled
    pair = (weight, argument_) if operation == "div" else (argument_,)
    step = d.term(rows, Apply(operation, pair))
    groups = d.groups(rows, [0, 0, 0], 1)
    maps = d.finished(d.step(groups, d.steps[step].width, SegmentReduce(step, "sum")))
    module = module_of(maps)
    ((value, _),) = module(module.bind(maps))
    value.sum().backward()
    slope = {"div": 0, "log": 2, "sqrt": 0.5 + 2**0.5 / 2, "exp": 3 * (np.e + 2 * np.e**2)}
    assert module.get_parameter("m.w").grad.item() == pytest.approx(slope[operation])


def test_a_sparse_product_leaves_out_missing_rows_nulls_and_what_the_filter_drops() -> None:
    d = Draft()
    nodes = d.space(3, x=[1.0, None, 10.0])
    edges = d.space(
        6, a=[0, 1, 2, -1, 2, 2], x=[2, 2, 2, 2, None, 3], f=[True, True, True, True, True, None]
    )
    groups = d.groups(edges, [0, 0, 0, 0, 1, 1], 3)
    x, weight = d.term(nodes, Lift(X)), d.term(edges, Lift(X))
    for how, where, expected in [
        (weight, None, [[22], [30], None]),
        (weight, F, [[22], None, None]),
        (None, None, [[11], [20], None]),
        (None, F, [[11], [10], None]),
    ]:
        step = d.step(groups, 1, SparseProduct(x, A, how, where))
        assert one(d.finished(step)) == expected
        d.steps.pop()


def test_of_equal_values_the_first_in_order_gets_a_running_windows_gradient() -> None:
    d = Draft()
    rows = d.space(4, k=[0, 1, 2, 3])
    table = d.term(rows, Lookup(Parameter("m.e.weight", (1,), "ones"), Key("m.e", (K,))))
    for how in ("max", "min"):
        step = d.partition(rows, table, how, [0, 0, 0, 0], [3, 2, 1, 0])
        maps = d.finished(step)
        module = module_of(maps)
        ((value, _),) = module(module.bind(maps))
        value.sum().backward()
        assert module.get_parameter("m.e.weight").grad.flatten().tolist() == [0, 0, 0, 4]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("sum", [[3], [3], None, [5], [3]]),
        ("avg", [[1.5], [1.5], None, [5], [1.5]]),
        ("count", [[2], [2], [0], [1], [2]]),
        ("max", [[2], [2], None, [5], [2]]),
        ("min", [[1], [1], None, [5], [1]]),
    ],
)
def test_windows_give_null_rows_a_value_and_leave_them_out(how: str, expected: list) -> None:
    d = Draft()
    rows = d.space(5, x=[1.0, None, None, 5.0, 2.0])
    step = d.partition(rows, d.term(rows, Lift(X)), how, [0, 0, 1, 2, 0])
    assert one(d.finished(step)) == expected


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("sum", [None, [1], [7], [7]]),
        ("avg", [None, [1], [3.5], [3.5]]),
        ("count", [[0], [1], [2], [2]]),
        ("max", [None, [1], [6], [6]]),
        ("min", [None, [1], [1], [1]]),
    ],
)
def test_running_windows_cover_peers(how: str, expected: list) -> None:
    d = Draft()
    rows = d.space(4, x=[None, 1.0, 6.0, None])
    step = d.partition(rows, d.term(rows, Lift(X)), how, [0, 0, 0, 0], [1, 2, 3, 3])
    assert one(d.finished(step)) == expected


def test_softmax_over_each_partition() -> None:
    d = Draft()
    rows = d.space(4, x=[0.0, None, float(np.log(3)), 1000.0])
    step = d.partition(rows, d.term(rows, Lift(X)), "softmax", [0, 0, 0, 1])
    found = one(d.finished(step))
    assert found == [[pytest.approx(0.25)], None, [pytest.approx(0.75)], [1]]
