"""Vocabularies, statistics and fixed encodings against values worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
import torch

from relann.algebra.nodes import Scan
from relann.algebra.plan import Plan, Rows, Step
from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import ENCODINGS, Encode, Key, Lookup, Parameter, column
from relann.errors import DataError
from relann.provenance.encoders import (
    Encoders,
    Period,
    Standard,
    Vocabulary,
    elapsed,
    hashes,
    instants,
    numbers,
)
from relann.provenance.words import Words

X = column("x", "DOUBLE")
T = column("t", "TIMESTAMP")


def times(*values: datetime | None) -> np.ndarray:
    return instants(pa.array(values, pa.timestamp("us")), T)


def test_vocabulary_is_by_frequency_then_value_with_null_a_value() -> None:
    v = Vocabulary.fit([[pa.array(["b", "c", "a", "c", None, "b", None])]])
    assert v.table.column(0).to_pylist() == ["b", "c", None, "a"]
    assert v.rows([pa.array(["a", None, "z", "c"])]).tolist() == [3, 2, -1, 1]


def test_vocabulary_does_not_depend_on_row_order() -> None:
    values = ["b", "c", "a", "c", None, "b", "d"]
    assert Vocabulary.fit([[pa.array(values)]]) == Vocabulary.fit([[pa.array(values[::-1])]])


def test_most_keeps_the_most_frequent() -> None:
    v = Vocabulary.fit([[pa.array([1, 2, 2, 3, 3, 3])]], most=2)
    assert v.rows([pa.array([1, 2, 3])]).tolist() == [-1, 1, 0]


@pytest.mark.parametrize(
    ("fitted", "met"),
    [
        (pa.array([True, False, True]), pa.array([False, True])),
        (pa.array([2.5, 1.0, 2.5]), pa.array([1.0, 2.5])),
        (pa.array([date(2020, 1, 1), date(2020, 1, 2)] * 2), pa.array([date(2020, 1, 2)])),
        (pa.array([1, 2, 2], pa.int32()), pa.array([1, 2, 2**40], pa.int64())),
        (pa.array([7, 2**40, 7], pa.int64()), pa.array([7], pa.int8())),
        (pa.array(["x", "y"]).dictionary_encode(), pa.array(["y", "x"])),
        (pa.array(["x", "y"]), pa.array(["y", "q"]).dictionary_encode()),
        (pa.array([b"x", b"y"]), pa.array([b"y"])),
        (pa.array([Decimal("1.5"), Decimal(2)]), pa.array([Decimal("2.0")])),
    ],
    ids=["boolean", "double", "date", "wider", "narrower", "enum", "enum met", "blob", "decimal"],
)
def test_vocabulary_of_every_type_says_what_a_loop_says(fitted: pa.Array, met: pa.Array) -> None:
    v = Vocabulary.fit([[fitted]])
    kept = v.table.column(0).to_pylist()
    expected = [kept.index(m) if m in kept else -1 for m in met.to_pylist()]
    assert v.rows([met]).tolist() == expected


def test_equal_numbers_are_one_key() -> None:
    v = Vocabulary.fit([[pa.array([0.0, -0.0, float("nan"), -float("nan"), None])]])
    assert v.size == 3
    assert len(set(v.rows([pa.array([0.0, -0.0])]))) == 1


def test_compound_keys_are_pairs_not_values_apart() -> None:
    a, b = pa.array(["x", "x", "y", None]), pa.array([1, 2, 1, None])
    v = Vocabulary.fit([[a, b]])
    assert v.rows([a, b]).tolist() == [0, 1, 2, 3]
    new = [pa.array(["y", None, "z", "x"]), pa.array([2, 1, 1, 2])]
    assert v.rows(new).tolist() == [-1, -1, -1, 1]  # each part known, the pair not
    assert v.value(new, 1) == "[NULL, 1]"
    assert v.describe(1) == "[x, 2]"


def test_an_unseen_part_is_not_the_pair_before() -> None:
    a, b = pa.array(["x", "x", "y"]), pa.array([1, 2, 1])
    v = Vocabulary.fit([[a, b]])
    assert v.rows([pa.array(["y", "q"]), pa.array([99, 1])]).tolist() == [-1, -1]


def test_compound_keys_of_three_parts_agree_with_a_loop() -> None:
    rng = np.random.default_rng(0)
    parts = [pa.array(rng.integers(0, 4, 200), mask=rng.random(200) < 0.2) for _ in range(3)]
    v = Vocabulary.fit([[p[:100] for p in parts]])
    kept = [tuple(r[n] for n in ("p0", "p1", "p2")) for r in v.table.to_pylist()]
    met = list(zip(*(p.to_pylist() for p in parts), strict=True))
    assert v.rows(parts).tolist() == [kept.index(m) if m in kept else -1 for m in met]
    assert -1 in v.rows(parts)


def test_empty_vocabulary_knows_nothing() -> None:
    v = Vocabulary.fit([[pa.array([], pa.string())]])
    assert v.rows([pa.array(["a", None])]).tolist() == [-1, -1]


def test_keys_without_a_common_type_are_refused() -> None:
    v = Vocabulary.fit([[pa.array(["a"])]])
    with pytest.raises(DataError, match="keys are string in the model, struct"):
        v.rows([pa.array([{"a": 1}])])
    with pytest.raises(DataError, match="cannot be keys"):
        Vocabulary.fit([[pa.array([{"a": 1}])]])


def test_numbers_are_standardised_by_the_training_rows() -> None:
    s = Standard.fit([numbers(pa.array([1.0, 3.0, None]), X)])
    assert s == Standard(2.0, 1.0)
    encoded = s.encode(numbers(pa.array([4.0, None]), X))
    assert encoded.tolist() == [[2, 0], [0, 1]]


def test_a_constant_has_deviation_one() -> None:
    assert Standard.fit([np.full(7, 1e9 + 0.1)]) == Standard(1e9 + 0.1, 1.0)
    assert Standard.fit([np.full(3, np.nan)]) == Standard(0.0, 1.0)


def test_large_numbers_do_not_overflow() -> None:
    s = Standard.fit([np.array([-1e300, 1e300])])
    assert s.encode(np.array([1e300]))[0, 0] == pytest.approx(1)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_numbers_that_are_not_finite_name_the_column(value: float) -> None:
    with pytest.raises(DataError, match=r"`x` is -?(inf|nan) in 1 of 3 rows"):
        numbers(pa.array([1.0, value, None]), X)


@pytest.mark.parametrize(
    "array",
    [pa.array([1, None], pa.int64()), pa.array([True, None]), pa.array([1, None]).cast("float32")],
)
def test_numbers_of_every_type(array: pa.Array) -> None:
    found = numbers(array, X)
    assert found[0] == 1
    assert np.isnan(found[1])


def test_time_has_position_cycles_and_missing() -> None:
    p = Period.fit([times(datetime(2020, 1, 1), datetime(2020, 1, 11), None)])
    found = p.encode(times(datetime(2020, 1, 6, 6), None, datetime(2020, 1, 21)))
    assert found.shape == (3, ENCODINGS["time"])
    assert found[0, 0] == pytest.approx(5.25 / 10)
    assert found[0, 1:3] == pytest.approx([1, 0])  # 6 o'clock is a quarter of the day
    week = 2 * np.pi * (0.25 / 7)  # 2020-01-06 was a Monday
    assert found[0, 3:5] == pytest.approx([np.sin(week), np.cos(week)])
    month, year = 2 * np.pi * 5.25 / 31, 2 * np.pi * 5.25 / 366
    waves = [np.sin(month), np.cos(month), np.sin(year), np.cos(year)]
    assert found[0, 5:9] == pytest.approx(waves)
    assert found[1].tolist() == [0] * 9 + [1]
    assert found[2, 0] == pytest.approx(2)


def test_time_before_1970_and_single_instants() -> None:
    p = Period.fit([times(datetime(1950, 6, 1))])
    found = p.encode(times(datetime(1950, 6, 1), datetime(1950, 6, 2)))
    assert found[:, 0].tolist() == [0, 1]
    assert np.isfinite(found).all()


@pytest.mark.parametrize("kind", ["date32", "date64", "timestamp[s]", "timestamp[ns]"])
def test_instants_of_every_type(kind: str) -> None:
    made = pa.array([datetime(2020, 1, 2), None], pa.timestamp("s"))
    array = made.cast(kind) if kind.startswith("timestamp") else made.cast(pa.date32()).cast(kind)
    found = instants(array, T)
    assert found[0] == np.datetime64("2020-01-02")
    assert np.isnat(found[1])


@pytest.mark.parametrize(
    "array",
    [
        pa.array([2**31 - 1], pa.int32()).view(pa.date32()),
        pa.array([-(2**63)], pa.int64()).view(pa.timestamp("us")),
    ],
)
def test_infinite_instants_are_refused(array: pa.Array) -> None:
    with pytest.raises(DataError, match="`t` is infinite in 1 of 1 rows"):
        instants(array, T)


def test_elapsed_is_half_way_at_each_scale() -> None:
    found = elapsed(np.array([3600.0, -86400.0, np.nan, 0.0]))
    assert found.shape == (4, ENCODINGS["elapsed"])
    assert found[0, 0] == 0.5
    assert found[1, 1] == 0.5
    assert found[1, 5] == pytest.approx(np.log(2) / 8)
    assert found[:, 6].tolist() == [0, 1, 0, 0]
    assert found[:, 7].tolist() == [0, 0, 1, 0]
    assert found[2, :7].tolist() == [0] * 7
    assert found[3].tolist() == [0] * 8


def test_words_are_runs_of_letters_and_digits_in_lower_case() -> None:
    array = pa.array(["Hello, Wörld-9!", None, "", "hello", "Hello, Wörld-9!", "--"])
    words = Words.of(array, 1 << 14)
    by_text = [words.bucket[words.text == t].tolist() for t in words.row_text]
    assert [len(b) for b in by_text] == [3, 0, 0, 1, 3, 0]
    assert by_text[0][0] == by_text[3][0]
    assert by_text[0] == by_text[4]


def test_some_rows_of_words_are_the_words_of_those_rows() -> None:
    array = pa.array(["a b", "c", None, "a", "c d e"])
    part = Words.of(array, 97).take(torch.tensor([1, 2, 4]))
    alone = Words.of(array.take(pa.array([1, 2, 4])), 97)
    for words in (part, alone):
        assert words.texts == 3
    of = [[w.bucket[w.text == t].tolist() for t in w.row_text] for w in (part, alone)]
    assert of[0] == of[1]


def test_no_text_has_no_words() -> None:
    assert Words.of(pa.array([], pa.string()), 8).texts == 0
    assert Words.of(pa.array([None], pa.string()), 8).text.tolist() == []


def test_words_hash_alike_in_another_process() -> None:
    """Python's own hash of text differs from process to process."""
    code = (
        "import pyarrow as pa; from relann.provenance.encoders import hashes;"
        "from relann.provenance.words import Words;"
        "print(Words.of(pa.array(['alpha beta']), 1000).bucket.tolist(),"
        "hashes(pa.array(['a', None])).tolist())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = Words.of(pa.array(["alpha beta"]), 1000).bucket.tolist()
    assert out.stdout.strip() == f"{here} {hashes(pa.array(['a', None])).tolist()}"
    assert here == [158, 416]


def test_hashes_tell_values_apart_and_not_types() -> None:
    assert len(set(hashes(pa.array([0, 1, None, 2**40])).tolist())) == 4
    assert (hashes(pa.array([5], pa.int8())) == hashes(pa.array([5], pa.int64()))).all()
    assert hashes(pa.array([0.0]))[0] == hashes(pa.array([-0.0]))[0]
    share = (hashes(pa.array(np.arange(10_000))) < np.uint64(2**63)).mean()
    assert share == pytest.approx(0.5, abs=0.02)


def plan_of_two() -> tuple[Plan, RowMaps]:
    """One site read in two spaces, a number and a time."""
    key = column("k", "VARCHAR")
    table = Parameter("m.e.weight", (2,), "normal")
    steps = (
        Step(0, 2, Lookup(table, Key("m.e", (key,), 2))),
        Step(1, 2, Lookup(table, Key("m.e", (key,), 1))),
        Step(0, 2, Encode("numeric", "m.n", X)),
        Step(0, 10, Encode("time", "m.t", T)),
    )
    space = Rows(Scan("t", ()), ())
    plan = Plan((space, space), steps, 0, (), (("a", 0),))
    maps = RowMaps(plan, {0: 3, 1: 2})
    maps.columns[0, key] = pa.array(["a", "b", "b"])
    maps.columns[1, key] = pa.array(["c", "c"])
    maps.columns[0, X] = pa.array([1.0, 2.0, 3.0])
    maps.columns[0, T] = pa.array([datetime(2020, 1, 1)] * 3)
    return plan, maps


def test_steps_of_one_site_share_a_vocabulary() -> None:
    encoders = Encoders.fit(*plan_of_two())
    assert encoders.vocabularies["m.e"].table.column(0).to_pylist() == ["b", "c"]
    assert encoders.sizes == {"m.e": 2}


def test_state_survives_arrow() -> None:
    encoders = Encoders.fit(*plan_of_two())
    assert set(encoders.state()) == {"m.e", "m.n", "m.t"}
    again = Encoders.from_state(encoders.state())
    assert again == encoders
    with pytest.raises(DataError, match="holds no encoder"):
        Encoders.from_state({"x": pa.table({"a": [1]})})
