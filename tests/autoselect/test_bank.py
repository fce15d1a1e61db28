"""Banks on disk, and the one that is shipped."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from relann.algebra.parse import statements
from relann.autoselect.bank import SIGNALS, Bank, Journal, key, signal_rows, summary
from relann.autoselect.ground import Signal
from relann.autoselect.trials import Trial
from relann.errors import DataError, QueryError
from tests.autoselect.trials import trial


def bank(*trials: Trial, **signals: float) -> Bank:
    found = [Signal(name, None, value, 1, "") for name, value in signals.items()]
    return Bank(trials, pa.Table.from_pylist(signal_rows("d", "t", found), schema=SIGNALS))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    one = bank(trial(validation=0.5, test=0.4, epochs=3), trial(point="q", error="no"), size=3.0)
    one.write(tmp_path / "b")
    assert Bank.read(tmp_path / "b") == one


def test_the_later_bank_counts() -> None:
    both = bank(trial(validation=0.5), trial(seed=1), size=3.0).joined(
        bank(trial(validation=0.6), size=4.0)
    )
    assert [t.validation for t in both.trials] == [0.6, None]
    assert both.signals.column("value").to_pylist() == [4.0]


def test_a_database_may_be_left_out() -> None:
    both = bank(trial(), trial(database="e"), size=3.0)
    left = both.without("d")
    assert [t.database for t in left.trials] == ["e"] and left.signals.num_rows == 0
    with pytest.raises(QueryError, match="no database `x`"):
        both.without("x")


def test_folders_that_hold_no_bank(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no bank"):
        Bank.read(tmp_path)
    bank(trial()).write(tmp_path)
    (tmp_path / "trials.parquet").write_text("PAR")
    with pytest.raises(DataError, match="is no Parquet file"):
        Bank.read(tmp_path)


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "j.jsonl")
    assert list(journal.rows()) == []
    journal.add([{"a": 1}, {"a": 2}])
    with journal.path.open("a") as file:
        file.write('{"a": 3, "b')
    assert list(journal.rows()) == [{"a": 1}, {"a": 2}]


def test_a_row_after_one_that_was_cut_off(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.path.write_text('{"a": 1}\n{"a": 2, "b')
    journal.add([{"a": 3}])
    assert list(journal.rows()) == [{"a": 1}, {"a": 3}]


def test_summary() -> None:
    trials = [
        trial(validation=0.7, test=0.5),
        trial(point="q", validation=0.6, test=0.9),
        trial(point="r", family="messages", error="no"),
    ]
    assert summary(bank(*trials)) == [["d", "t", "auroc", "3", "1", "–", "0.5000"]]


@pytest.fixture(scope="module")
def shipped() -> Bank:
    return Bank.shipped()


class TestShipped:
    """The bank that comes with the package."""

    def test_is_large_enough(self, shipped: Bank) -> None:
        assert len(shipped.tasks) >= 24
        assert len({database for database, _ in shipped.tasks}) >= 6
        each = Counter((t.database, t.task) for t in shipped.trials)
        assert min(each.values()) >= 12
        assert len({key(t) for t in shipped.trials}) == len(shipped.trials)

    def test_has_both_families_of_every_task(self, shipped: Bank) -> None:
        for task in shipped.tasks:
            scored = {
                t.family
                for t in shipped.trials
                if (t.database, t.task) == task and t.test is not None
            }
            assert scored == {"messages", "features"}, task

    def test_has_signals_of_every_task(self, shipped: Bank) -> None:
        rows = shipped.signals.to_pylist()
        assert {(r["database"], r["task"]) for r in rows} == set(shipped.tasks)

    def test_holds_programs_that_parse(self, shipped: Bank) -> None:
        for one in {t.program for t in shipped.trials}:
            assert len(statements(one)) == 1
        assert all(isinstance(json.loads(t.knobs), dict) for t in shipped.trials)
