"""The search: CREATE MODEL … OPTIONS (auto = true) and ml_autoselect on a small shop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import relann
from relann.autoselect import search as searching
from relann.autoselect.search import Outlook, Search
from relann.autoselect.settings import Settings
from relann.autoselect.space import TEMPLATES, Knob
from relann.autoselect.trials import Trial
from relann.errors import EngineError, QueryError
from relann.session import Session
from tests.autoselect.test_judge import server
from tests.autoselect.trials import SHOP

pytestmark = pytest.mark.usefixtures("one_thread")

_FEW = {"epochs": 3, "batch_size": 512, "patience": 4}


def _small(knob: Knob) -> Knob:
    """A knob whose values make small programs."""
    cheap = {"max_depth": (1,), "windows": ((None,),), "last": ((),), "within_event": (False,),
             "width": (4, 8), "layers": (1,), "neighbours": (4,)}  # fmt: skip
    return replace(knob, values=cheap.get(knob.name, knob.values))


SMALL = tuple(
    replace(t, knobs=tuple(_small(k) for k in t.knobs), fixed=_FEW if t.name != "dfs" else t.fixed)
    for t in TEMPLATES
    if t.name in ("dfs", "sage", "dfs_mlp")
)
"""Templates whose points take a moment each."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "TEMPLATES", SMALL)
    monkeypatch.setattr(searching, "TEMPLATE_NAMES", [t.name for t in SMALL])


@pytest.fixture
def shop() -> Iterator[Session]:
    with relann.connect() as con:
        con.sql(SHOP)
        yield con


class Memory:
    """Trials that are kept here."""

    def __init__(self) -> None:
        self.kept: list[Trial] = []

    def trials(self) -> list[Trial]:
        return list(self.kept)

    def add(self, trial: Trial) -> None:
        self.kept.append(trial)


def found_by(con: Session, kept: Memory | None = None, family=None, **settings):
    """A search without signals and bank."""
    told: list[str] = []
    outlook = Outlook(None, family, ("nothing is known",), {})
    chosen = Settings(task="churn", **{"budget": "2 minutes", "trials": 3, **settings})
    found = Search(
        con.store.task("churn"), chosen, con._models.fitted, kept or Memory(), outlook, None,
        show=told.append,
    ).run()  # fmt: skip
    return found, told


def test_auto_keeps_a_model_that_predicts(shop: Session) -> None:
    told = shop.sql(
        "CREATE MODEL m OPTIONS (task = 'churn', auto = true, budget = '1 minute', trials = 2)"
    ).message
    assert told.startswith("model `m`, version 1: trained for")
    assert "2 programs were tried" in told and "CREATE MODEL m OPTIONS (task = 'churn'" in told
    assert len(shop.sql("FROM ml_predict('m')").fetchall())
    # the definition is the winner's own text: run again it gives the same model
    definition = shop.store.model("m").definition
    assert "auto" not in definition
    first = shop.sql("FROM ml_evaluate('m', split => 'val')").fetchall()
    shop.sql(definition.replace("CREATE MODEL", "CREATE OR REPLACE MODEL"))
    assert shop.sql("FROM ml_evaluate('m', split => 'val')").fetchall() == first


def test_ml_autoselect_shows_trials_and_the_next_search_goes_on(shop: Session) -> None:
    rows = shop.sql(
        "SELECT rank, template, validation, chosen, program "
        "FROM ml_autoselect('churn', budget => '1 minute', trials => 2)"
    ).fetchall()
    assert [r[0] for r in rows] == [1, 2]
    assert sum(r[3] for r in rows) == 1
    again = shop.sql(
        "SELECT template FROM ml_autoselect('churn', budget => '1 minute', trials => 1)"
    ).fetchall()
    assert len(again) == 3
    # of other data nothing is known
    shop.sql("INSERT INTO orders VALUES (9999, 1, TIMESTAMP '2022-05-05', 1.0)")
    anew = "SELECT * FROM ml_autoselect('churn', budget => '1 minute', trials => 1)"
    assert len(shop.sql(anew).fetchall()) == 1


def test_the_other_family_is_looked_at_once(shop: Session) -> None:
    """The selector's word is checked by one trial of the family it is against."""
    found, _ = found_by(shop, family="features", trials=4)
    assert [t.family for t in found.trials][:2] == ["features", "messages"]
    assert all(t.error is None for t in found.trials)


def test_an_interrupt_leaves_its_trials(shop: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, run = Memory(), searching.run
    calls = []

    def interrupted(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(*arguments, **named)

    monkeypatch.setattr(searching, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found_by(shop, kept)
    assert len(kept.kept) == 1
    monkeypatch.setattr(searching, "run", run)
    found, told = found_by(shop, kept, trials=1)
    assert told[0].startswith("1 trials of an earlier search")
    assert len(found.trials) == 2


def test_the_same_seed_searches_the_same(shop: Session) -> None:
    first, second = (found_by(shop, trials=5)[0] for _ in range(2))
    assert [t.point for t in first.trials] == [t.point for t in second.trials]
    assert first.trial.point == second.trial.point


def test_networks_that_fall_behind_stop_early(
    shop: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pruner that has seen enough ends a training after the epoch it was told."""
    optuna = pytest.importorskip("optuna")
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda self: True)
    found, _ = found_by(shop, trials=7, sampler="random")
    stopped = [t for t in found.trials if t.error and "stopped early" in t.error]
    assert stopped and all(t.epochs == 1 for t in stopped)
    assert found.trial not in stopped


def test_a_budget_too_small_still_gives_one_model(shop: Session) -> None:
    """The first training ends with what it has, and no other begins."""
    found, _ = found_by(shop, trials=None, budget="1 second")
    assert len(found.trials) >= 1 and found.trial.validation is not None


def test_the_judge_chooses_or_the_vote_does(shop: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relann.autoselect.guard.NEAR", 1.0)  # all are near-equal
    with server('{"choice": 2, "reason": "the simplest"}') as (address, _):
        found, _ = found_by(shop, judge=address)
    assert found.trial.point == found.finalists[2].point
    assert "the judge chose" in found.reasons[-1] and "the simplest" in found.reasons[-1]
    with server("no idea") as (address, _):
        other, _ = found_by(shop, judge=address)
    assert other.trial.point == other.finalists[other.vote.choice].point
    assert "the judge did not choose: the answer" in other.reasons[-1]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("auto = true", "a search needs a task"),
        ("task = 'churn', auto = true, budget = 'soon'", "`budget` is a number and a unit"),
        ("task = 'churn', auto = true, epochs = 3", "a search has no option `epochs`"),
        ("task = 'churn', auto = true, trials = 0", "`trials`"),
        ("task = 'churn', auto = false", "is looked for with auto = true"),
        ("task = 'chrn', auto = true", "no task is called `chrn`. Did you mean `churn`"),
    ],
)
def test_what_is_wrong_with_a_statement(shop: Session, options: str, what: str) -> None:
    with pytest.raises(QueryError) as raised:
        shop.sql(f"CREATE MODEL m OPTIONS ({options})")
    assert what in str(raised.value) and "^" in str(raised.value)


def test_a_query_and_auto_do_not_go_together(shop: Session) -> None:
    with pytest.raises(QueryError, match="no option `auto`"):
        shop.sql("CREATE MODEL m OPTIONS (task = 'churn', auto = true) AS FROM sage()")


def test_one_table_only(shop: Session) -> None:
    """No foreign keys, no history: programs of the entity's own columns, and it is said so."""
    with relann.connect() as con:
        con.sql(
            "CREATE TABLE people AS SELECT i AS id, i % 7 AS a, i % 5 AS b FROM range(200) t(i);"
            "ALTER TABLE people SET (key = id);"
            "CREATE TASK odd OPTIONS (entity = 'id', time = 'at', label = 'y', table = 'people', "
            "split = 'part') AS SELECT id, TIMESTAMP '2022-06-01' AS at, a + b > 5 AS y, "
            "['train', 'train', 'val', 'test'][1 + id % 4] AS part FROM people"
        )
        told = con.sql(
            "CREATE MODEL m OPTIONS (task = 'odd', auto = true, budget = '1 minute', trials = 3)"
        ).message
        assert "3 programs were tried" in told
        (value,) = con.sql("SELECT value FROM ml_evaluate('m') WHERE metric = 'auroc'").fetchall()[
            0
        ]
        assert value > 0.9


def test_without_optuna(shop: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str):
        raise ImportError(name)

    monkeypatch.setattr(searching, "import_module", missing)
    with pytest.raises(EngineError, match=r"relann\[auto\]"):
        found_by(shop)
