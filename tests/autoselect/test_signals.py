"""Signals by their definitions, on databases drawn at random and on some worked out by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import relann
from relann import QueryError, Session
from relann.autoselect import homophily as homophily_module
from relann.autoselect.ground import Ground, Signal
from relann.autoselect.history import autocorrelation, baselines
from relann.autoselect.homophily import homophily, pairs_sql
from relann.autoselect.paths import paths
from relann.autoselect.probes import seeds_sql
from relann.autoselect.shape import feature_shape, path_shape, size, time_shape
from relann.discovery import discover
from tests.autoselect import clubs
from tests.autoselect.clubs import day, drawn, fill, ground
from tests.shops import YEARS_OF_ORDERS

HORIZONS = {None: None, "3 days": 3}
LABELS: dict[str, Sequence[object]] = {
    "binary": [0, 1],
    "multiclass": [0, 1, 2],
    "regression": [0.5, 1.0, 2.5, 7.0],
}
TEAMMATES = "people → teams ← people"
GAMES = "people ← plays → games ← plays → people"
THIRDS = "the training period's thirds"


def drawn_ground(seed: int, kind: Any, horizon: str | None) -> Ground:
    con = clubs.database("DOUBLE" if kind == "regression" else "INTEGER")
    drawn(Random(seed), con, LABELS[kind])
    return ground(con, kind, horizon)


def by_name(found: Sequence[Signal]) -> dict[tuple[str, str | None], Signal]:
    out = {(s.signal, s.path): s for s in found}
    assert len(out) == len(found), "each signal has a name of its own"
    return out


def same(found: float | None, wanted: float | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)


# -- homophily -------------------------------------------------------------------------------------


def class_insensitive(pairs: Sequence[Any], seeds: Sequence[clubs.Label]) -> float | None:
    """Lim et al. (2021) on pairs (u, anchor, y, v, z): each from a seed to a neighbour."""
    classes = {s.y for s in seeds}
    if not pairs or len(classes) < 2:
        return None
    total = 0.0
    for c in classes:
        own = [z for _, _, y, _, z in pairs if y == c]
        share = sum(s.y == c for s in seeds) / len(seeds)
        if own:
            total += max(0.0, own.count(c) / len(own) - share)
    return total / (len(classes) - 1)


def adjusted(pairs: Sequence[Any]) -> float | None:
    """Platonov et al. (2023) on the same, each an edge with two ends."""
    ends = Counter([p[2] for p in pairs] + [p[4] for p in pairs])
    if len(ends) < 2:
        return None
    chance = sum((n / (2 * len(pairs))) ** 2 for n in ends.values())
    edge = sum(p[2] == p[4] for p in pairs) / len(pairs)
    return (edge - chance) / (1 - chance)


def correlation(values: Sequence[tuple[float, float]]) -> float | None:
    if len({a for a, _ in values}) < 2 or len({b for _, b in values}) < 2:
        return None
    return float(np.corrcoef(np.array(values, dtype=float).T)[0, 1])


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("seed", range(5))
def test_homophily_is_what_its_definition_says(seed: int, kind: str, horizon: str | None) -> None:
    """Every path's pairs, and the measures over them."""
    here = drawn_ground(seed, kind, horizon)
    days = HORIZONS[horizon]
    seeds, sides = clubs.labels(here.connection, days), clubs.meetings(here.connection)
    assert {p.name for p in paths(here)} == set(sides)
    found = by_name(homophily(here))
    measures: dict[str, float | None] = {}
    for path in paths(here):
        wanted = clubs.pairs(sides[path.name], seeds, days)
        rows = here.rows(pairs_sql(here, path))
        assert len(rows) == len(set(rows))
        assert set(rows) == wanted, path.name
        if kind == "regression":
            measures = {"label_correlation": correlation([(p[2], p[4]) for p in wanted])}
        else:
            measures = {
                "class_insensitive_homophily": class_insensitive(list(wanted), seeds),
                "adjusted_homophily": adjusted(list(wanted)),
            }
        for name, value in measures.items():
            signal = found[name, path.name]
            assert same(signal.value, value), (name, path.name, signal.value, value)
            assert signal.rows == len(wanted)
            assert (signal.note is None) == (value is not None)
            assert here.rows(str(signal.sql)), "the query runs by itself"
    for name in measures:
        own = [s for s in found.values() if s.signal == name and s.value is not None]
        total = sum(s.rows or 0 for s in own)
        assert same(found[f"{name}_max", None].value, max(s.value or 0 for s in own))
        mean = sum((s.value or 0) * (s.rows or 0) for s in own) / total
        assert same(found[f"{name}_mean", None].value, mean)


def test_draws_have_pairs() -> None:
    """On every path: else the test above says little."""
    seen: Counter[str] = Counter()
    for seed in range(5):
        here = drawn_ground(seed, "binary", "3 days")
        for path in paths(here):
            seen[path.name] += len(here.rows(pairs_sql(here, path)))
    assert len(seen) == 16
    assert min(seen.values()) >= 2, seen


def test_homophily_by_hand() -> None:
    """Two games of two people each: one pair alike, one not, and nobody is paired with himself."""
    con = clubs.database()
    fill(con, "people", [(i, None, day(0)) for i in range(4)])
    fill(con, "games", [(i, None, None, day(1).date()) for i in (1, 2)])
    fill(con, "plays", [(0, 0, 1, day(1)), (1, 1, 1, day(1)), (2, 2, 2, day(1)), (3, 3, 2, day(1))])
    labels = list(enumerate([1, 1, 0, 1]))
    fill(con, "the seeds", [(u, day(at), y, "train") for at in (2, 9) for u, y in labels])
    here = ground(con, "binary", "3 days")
    found = by_name(homophily(here))
    # pairs on day 9: 1–1, 1–1, 0–1, 1–0; class 1 meets itself in 2 of 3, and is 3/4 of the seeds
    assert found["class_insensitive_homophily", GAMES].value == 0
    assert found["class_insensitive_homophily", GAMES].rows == 4
    # half of the pairs agree; 6 of the 8 ends are 1, and 0.75² + 0.25² = 0.625 would by chance
    assert same(found["adjusted_homophily", GAMES].value, (0.5 - 0.625) / 0.375)
    late = 'DELETE FROM "the seeds" WHERE who IN (2, 3) AND "when" > \'2020-01-05\''
    con.execute(late).fetchall()
    found = by_name(homophily(here))
    one = found["adjusted_homophily", GAMES]
    assert (one.value, one.rows) == (None, 2)
    assert one.note == "all labels of these pairs are of one class"
    other = found["adjusted_homophily", TEAMMATES]
    assert other.note == "no two entities meet here with a label known by then"


def test_large_joins_are_sampled_by_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of so many pairs, the same ones every time; the note says so, the mean weighs it."""
    here = drawn_ground(1, "binary", None)
    (path,) = (p for p in paths(here) if p.name == GAMES)
    whole = set(here.rows(pairs_sql(here, path)))
    parts = [set(here.rows(pairs_sql(here, path, 3))) for _ in range(2)]
    assert parts[0] == parts[1] < whole
    assert parts[0]
    monkeypatch.setattr(homophily_module, "MOST_PAIRS", 15)
    found = by_name(homophily(here))
    note = found["adjusted_homophily", GAMES].note
    assert note is not None
    assert "pairs, by a hash of their keys" in note
    total = weighted = 0.0
    for (name, _), s in found.items():
        if name == "adjusted_homophily" and s.value is not None and s.rows:
            weight = s.rows * (int(s.note.split()[2]) if s.note else 1)
            total, weighted = total + weight, weighted + weight * s.value
    assert same(found["adjusted_homophily_mean", None].value, weighted / total)


# -- nothing from later, nothing from other splits -------------------------------------------------


def readings(here: Ground) -> dict[tuple[str, str | None], tuple[float | None, int | None]]:
    """Values to nine digits: sums that run in parallel differ in their last."""
    parts = (size, path_shape, feature_shape, time_shape, autocorrelation, homophily)
    found = [s for part in parts for s in part(here)]
    return {
        key: (None if s.value is None else round(s.value, 9), s.rows)
        for key, s in by_name(found).items()
    }


def turn_labels(here: Ground, where: str) -> None:
    here.connection.execute(f'UPDATE "the seeds" SET y = 1 - y WHERE {where}').fetchall()


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_labels_of_other_splits_change_nothing(kind: str) -> None:
    """Not those of validation and test for any signal; not those of test for a baseline."""
    here = drawn_ground(2, kind, "3 days")
    before, measured = readings(here), [s.value for s in baselines(here)]
    turn_labels(here, "part = 'test'")
    assert [s.value for s in baselines(here)] == pytest.approx(measured)
    assert readings(here) == before
    turn_labels(here, "part = 'val'")
    assert readings(here) == before
    turn_labels(here, "part = 'train' AND who = 1")
    assert readings(here) != before


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("seed", range(3))
def test_labels_not_yet_known_change_nothing(seed: int, horizon: str | None) -> None:
    """At any anchor a neighbour's label is what it was, whatever becomes of later ones."""
    here = drawn_ground(seed, "binary", horizon)
    queries = [pairs_sql(here, path) for path in paths(here)]
    before = [here.rows(f"SELECT u, anchor, v, z FROM ({q})") for q in queries]
    changed = 0
    for cut in range(4, 13, 2):
        known = '"when" >=' if horizon is None else '"when" + INTERVAL 3 DAY >'
        late = f"{known} TIMESTAMP '{day(cut)}'"
        turn_labels(here, late)
        for query, rows in zip(queries, before, strict=True):
            now = here.rows(f"SELECT u, anchor, v, z FROM ({query})")
            early = [r for r in now if r[1] <= day(cut)]
            assert Counter(early) == Counter(r for r in rows if r[1] <= day(cut))
            changed += Counter(now) != Counter(rows)
        turn_labels(here, late)
    assert changed, "later anchors do see the change"


def test_rows_after_the_last_anchor_change_nothing() -> None:
    """Of tables that have a time; what has none counts as there from the beginning."""
    here = drawn_ground(3, "binary", "3 days")
    before = readings(here)
    fill(here.connection, "plays", [(90 + i, i % 6, i % 4, day(50)) for i in range(20)])
    fill(here.connection, "knows", [(1, 2, day(50)), (3, 4, day(50))])
    after = readings(here)
    assert after.pop(("rows", None)) != before.pop(("rows", None))
    assert after == before


# -- an entity's own past --------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("seed", range(4))
def test_autocorrelation_is_what_its_definition_says(
    seed: int, kind: str, horizon: str | None
) -> None:
    """Each seed's label with the entity's latest one that is known, and the one before."""
    here, days = drawn_ground(seed, kind, horizon), HORIZONS[horizon]
    seeds = clubs.labels(here.connection, days)
    for lag, signal in enumerate(autocorrelation(here)):
        values = [(s.y, clubs.latest(seeds, s.who, s.when, days, lag)) for s in seeds]
        known = [(y, z) for y, z in values if z is not None]
        wanted = correlation(known)
        if kind == "multiclass":
            wanted = adjusted([(None, None, y, None, z) for y, z in known])
        assert signal.rows == len(known)
        assert same(signal.value, wanted)


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("seed", range(4))
def test_baselines_are_what_their_definitions_say(
    seed: int, kind: str, horizon: str | None
) -> None:
    """Validation metrics of what the training labels known at each anchor say."""
    here, days = drawn_ground(seed, kind, horizon), HORIZONS[horizon]
    seeds = clubs.labels(here.connection, days)
    rows = here.rows('SELECT who, "when", y FROM "the seeds" WHERE part = \'val\'')
    val = [r for r in rows if r[1] is not None and r[2] is not None]
    begins = min(when for _, when, _ in val)
    early = [s.y for s in seeds if clubs.usable(s, begins, days)]
    found = baselines(here)
    if not early:
        assert {s.value for s in found} == {None}
        assert all(s.note == "no training label is known when validation begins" for s in found)
        return

    def mode(values: Sequence[Any]) -> Any:
        return max(sorted(values), key=values.count)

    average: Any = mode if kind == "multiclass" else np.mean
    everyone = average(early)
    means, last = [], []
    for who, when, _ in val:
        past = [s.y for s in seeds if s.who == who and clubs.usable(s, when, days)]
        means.append(average(past) if past else everyone)
        latest = clubs.latest(seeds, who, when, days)
        last.append(everyone if latest is None else latest)
    truth = [y for _, _, y in val]
    values = [s.value for s in found]
    for number, predicted in enumerate([means, last, [everyone] * len(val)]):
        if kind == "regression":
            mae = float(np.mean(np.abs(np.array(truth) - np.array(predicted))))
            assert same(values[2 * number], mae)
            deviation = np.std([s.y for s in seeds], ddof=1)
            assert same(values[2 * number + 1], mae / float(deviation))
        elif kind == "multiclass":
            share = np.mean([t == p for t, p in zip(truth, predicted, strict=True)])
            assert same(values[number], float(share))
        else:
            auroc = roc_auc_score(truth, predicted) if len(set(truth)) == 2 else None
            assert same(values[number], auroc)


# -- shape -----------------------------------------------------------------------------------------


def test_path_shape_by_hand() -> None:
    """Of four seeds that see 0, 0, 1 and 3 rows."""
    con = clubs.database()
    fill(con, "people", [(0, None, day(0)), (1, None, day(0))])
    fill(con, "plays", [(i, 0, None, day(at)) for i, at in enumerate([2, 4, 4, 30])])
    seeds = [(0, day(1)), (1, day(5)), (0, day(3)), (0, day(8))]
    fill(con, "the seeds", [(who, at, i % 2, "train") for i, (who, at) in enumerate(seeds)])
    found = by_name(path_shape(ground(con, "binary", None)))
    path = "people ← plays"
    assert same(found["fan_out_mean", path].value, 1.0)
    assert same(found["fan_out_median", path].value, 0.5)
    # the mean absolute difference of all 16 ordered pairs, 20/16, by twice the mean
    assert same(found["fan_out_gini", path].value, 20 / 16 / 2)
    assert same(found["coverage", path].value, 0.5)
    assert same(found["recency_days", path].value, 2.5)
    none = found["fan_out_gini", "people ← games(host)"]
    assert (none.value, none.note) == (None, "no training seed sees any row")
    assert found["depth", None].value == 1
    assert found["tables_reachable", None].value == 5
    assert ("fan_out_mean", "people ← knows(a)") in found


def test_feature_and_time_shape_by_hand() -> None:
    """Columns that are no keys, missing values; the label's mean in thirds of the period."""
    con = clubs.database()
    fill(con, "teams", [(1, "A"), (2, "A"), (3, "A"), (4, None)])
    labels = [(0, 0), (1, 1), (4, 0), (5, 1), (8, 1), (9, 1)]
    fill(con, "the seeds", [(0, day(at), y, "train") for at, y in labels])
    here = ground(con, "binary", None)
    found = by_name([*feature_shape(here), *time_shape(here), *size(here)])
    kinds = {k: found[f"columns_{k}", None].value for k in ("category", "number", "text", "other")}
    assert kinds == {"category": 1, "number": 0, "text": 0, "other": 0}
    assert same(found["missing_share", None].value, 0.25)
    assert found["category_cardinality", None].value == 1
    assert found["span_days", None].value == 9
    assert found["anchor_gap_days", None].value == 1
    assert [found[f"label_mean_{i}", THIRDS].value for i in (1, 2, 3)] == [0.5, 0.5, 1.0]
    assert same(found["label_drift", THIRDS].value, 0.5 / math.sqrt(4 / 6 * 2 / 6 * 6 / 5))
    assert found["entities", None].value == 1
    assert found["foreign_keys", None].value == 7


def test_drift_of_classes_by_hand() -> None:
    """First third: a, a, b, b; last: a, c, c, c. Three of four would have to change."""
    con = clubs.database()
    first = [(i, day(0), y, "train") for i, y in enumerate([0, 0, 1, 1])]
    last = [(i, day(9), y, "train") for i, y in enumerate([0, 2, 2, 2])]
    fill(con, "the seeds", [*first, *last, (0, day(4), 2, "train")])
    drift = by_name(time_shape(ground(con, "multiclass", None)))["label_drift", THIRDS]
    assert same(drift.value, 0.75)
    assert drift.rows == 8


# -- the table function ----------------------------------------------------------------------------


WHEN = "OPTIONS (val = '2023-07-01', test = '2023-10-01') AS PREDICT"
TASKS = f"""
CREATE TASK churn {WHEN} COUNT(orders.*, 0, 30, days) = 0 FOR EACH customers.customer_id;
CREATE TASK spend {WHEN} SUM(orders.total, 0, 30, days) FOR EACH customers.customer_id;
CREATE TASK next_items {WHEN} LIST_DISTINCT(orders.sku, 0, 60, days) RANK TOP 5
FOR EACH customers.customer_id;
CREATE TASK busy OPTIONS (entity = 'customer_id', val = '2023-07-01', test = '2023-10-01',
    table = 'customers', kind = 'multiclass', horizon = '30 days') AS
SELECT o.customer_id, a.at, least(2, count(*) // 2) AS orders
FROM (SELECT TIMESTAMP '2022-01-07' + k * INTERVAL 30 DAY AS at FROM range(24) t(k)) a
JOIN orders o ON o.ordered_at > a.at AND o.ordered_at <= a.at + INTERVAL 30 DAY GROUP BY ALL;
"""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shop() -> Session:
    session = relann.connect()
    session.sql(YEARS_OF_ORDERS)
    session.sql(TASKS)
    return session


def values(session: Session, task: str, probes: bool = True) -> dict[str, float | None]:
    query = f"SELECT signal, value FROM ml_signals('{task}', probes => {probes})"
    return dict(session.sql(query).fetchall())


def test_the_table_function(shop: Session) -> None:
    """Rows in any query: each with a meaning, without a value with the reason; its SQL runs."""
    rows = shop.sql("SELECT * FROM ml_signals('churn')").arrow().to_pylist()
    found = {r["signal"]: r["value"] for r in rows}
    assert found["seeds_train"] == 540
    assert found["probe_features_seconds"] > 0
    assert all(r["meaning"] for r in rows)
    assert all(r["note"] for r in rows if r["value"] is None)
    for row in rows:
        if row["sql"] is not None:
            assert shop.sql(row["sql"]).fetchall(), row["signal"]
    again = shop.sql("SELECT * FROM ml_signals('churn', probes => false)").arrow().to_pylist()
    cheap = [r for r in rows if not r["signal"].startswith("probe_")]
    for one, other in zip(again, cheap, strict=True):
        assert same(one.pop("value"), other.pop("value"))
        assert one == other


def test_probes_beat_chance(shop: Session) -> None:
    """Each kind of task has its metric; both probes learn something on this regular data."""
    churn, spend, busy = (values(shop, task) for task in ("churn", "spend", "busy"))
    for probe in ("probe_features", "probe_messages"):
        assert (churn[f"{probe}_auroc"] or 0) > 0.55
        assert 0 < (spend[f"{probe}_mae"] or 0) < 1.1 * (spend["global_mean_mae"] or 0)
        assert (busy[f"{probe}_accuracy"] or 0) > 0.3


def test_probes_learn_from_training_labels_only(shop: Session) -> None:
    """Turning validation labels round turns AUROC round, and test labels matter to nobody."""
    names = ("probe_features_auroc", "probe_messages_auroc")

    def measured() -> list[float | None]:
        found = values(shop, "churn")
        return [found[name] for name in names]

    before, seeds = measured(), shop.store.task("churn").seeds
    for split, wanted in (("test", before), ("val", [1 - (b or 0) for b in before])):
        turn = f"UPDATE {seeds} SET label = NOT label WHERE split = '{split}'"
        shop.connection.execute(turn).fetchall()
        assert measured() == pytest.approx(wanted)
        shop.connection.execute(turn).fetchall()
    here = Ground(shop.connection, shop.store.task("churn"), discover(shop.connection))
    splits = dict(here.rows(f"SELECT split, count(*) FROM ({seeds_sql(here)}) GROUP BY 1"))
    assert splits["train"] + splits["val"] == 540
    assert splits["test"] == 90


def test_a_task_may_be_called_like_a_table() -> None:
    """The probes read the table; entities whose row is not known yet are predicted as well."""
    with relann.connect() as con:
        con.sql(YEARS_OF_ORDERS)
        con.sql("ALTER TABLE customers ADD COLUMN signup TIMESTAMP")
        con.sql("UPDATE customers SET signup = TIMESTAMP '2022-06-01' WHERE customer_id < 9")
        con.sql("UPDATE customers SET signup = TIMESTAMP '2021-01-01' WHERE customer_id >= 9")
        con.sql("CREATE TASK orders OPTIONS (val = '2023-07-01', test = '2023-10-01', "
                "entity = 'customer_id', table = 'customers', horizon = '30 days') AS "
                "SELECT customer_id, TIMESTAMP '2022-01-07' + k * INTERVAL 30 DAY AS moment, "
                "customer_id * k % 3 = 0 AS y FROM customers, range(24) t(k)")  # fmt: skip
        found = values(con, "orders")
    assert found["probe_features_auroc"] is not None
    assert found["probe_messages_auroc"] is not None


def test_rankings_have_some_signals(shop: Session) -> None:
    """What lists of keys have no value of is said."""
    rows = shop.sql("SELECT signal, value, note FROM ml_signals('next_items')").fetchall()
    notes = {name: note for name, value, note in rows if value is None}
    assert notes["homophily"] == "lists of keys have no homophily: the task is a ranking"
    assert notes["probe_features_metric"] == "probes are not for rankings"
    assert {n: v for n, v, _ in rows}["fan_out_mean"] > 0


def test_a_task_without_its_entities_table() -> None:
    """It has what needs its seeds alone."""
    with relann.connect() as con:
        con.sql("CREATE TABLE visits AS SELECT i % 7 AS who, TIMESTAMP '2020-01-01' + i * INTERVAL "
                "1 DAY AS moment, (i * i % 5 > 1) AS y FROM range(300) t(i)")  # fmt: skip
        con.sql("CREATE TASK v OPTIONS (entity = 'who', time = 'moment', label = 'y', "
                "val = '2020-06-01', test = '2020-08-01') AS SELECT who, moment, y "
                "FROM visits")  # fmt: skip
        rows = con.sql("SELECT signal, value, note FROM ml_signals('v')").fetchall()
    notes = {name: note for name, value, note in rows if value is None}
    for name in ("adjusted_homophily", "depth", "columns_number", "probe_features_auroc"):
        assert notes[name] == "task `v` does not know its entities' table"
    assert {n: v for n, v, _ in rows}["label_autocorrelation_lag_1"] is not None


def test_a_database_of_one_table() -> None:
    """Nobody meets anybody; the entity's own columns are still there to learn from."""
    with relann.connect() as con:
        con.sql("CREATE TABLE users (id INTEGER PRIMARY KEY, age INTEGER)")
        con.sql("INSERT INTO users SELECT i, i % 50 FROM range(60) t(i)")
        con.sql("CREATE TASK u OPTIONS (entity = 'id', table = 'users', val = '2020-06-01', "
                "test = '2020-08-01') AS SELECT id, TIMESTAMP '2020-01-01' + k * INTERVAL 20 DAY "
                "AS moment, (id * k % 50 < 20) AS y FROM users, range(13) t(k)")  # fmt: skip
        rows = con.sql("SELECT signal, value, note FROM ml_signals('u')").fetchall()
    notes = {name: note for name, value, note in rows if value is None}
    assert notes["adjusted_homophily"] == "no foreign keys connect two entities"
    assert not any(name.startswith("probe_") for name in notes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("ml_signals()", "needs its argument `task`"),
        ("ml_signals(3)", "a task's name stands in quotes"),
        ("ml_signals('chrun')", "no task is called `chrun`. Did you mean `churn`"),
        ("ml_signals('churn', probes => 3)", "`probes` is true or false"),
        ("ml_signals('churn', prob => true)", "Did you mean `probes`"),
    ],
)
def test_errors_say_what_would_be_right(shop: Session, call: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        shop.sql(f"SELECT * FROM {call}")


def test_nothing_is_left_behind(shop: Session) -> None:
    """No table and no view."""
    listed = "SELECT table_name FROM duckdb_tables() UNION ALL SELECT view_name FROM duckdb_views()"
    before = shop.sql(listed).fetchall()
    values(shop, "churn")
    assert shop.sql(listed).fetchall() == before
