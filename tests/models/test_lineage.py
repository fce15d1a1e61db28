"""What ml_lineage lists made the prediction, and what it does not list had no part in it."""

from __future__ import annotations

import pytest

import relann
from relann import QueryError, Session

LINEAR = (
    "CREATE MODEL m OPTIONS (label = 'label', epochs = 3) AS "
    "SELECT p.id, p.label, sum(linear(q.x, 1) * c.w) AS z "
    "FROM papers p JOIN cites c ON c.src = p.id JOIN papers q ON q.id = c.dst "
    "GROUP BY p.id, p.label"
)
DEEP = (
    "CREATE MODEL m OPTIONS (label = 'label', epochs = 3) AS WITH "
    "h AS (SELECT c.src AS id, relu(avg(linear(q.x, 4))) AS z "
    "      FROM cites c JOIN papers q ON q.id = c.dst GROUP BY c.src), "
    "e AS (SELECT c.src, h.z, linear(h.z, 1) AS s FROM cites c JOIN h ON h.id = c.dst), "
    "a AS (SELECT src, z, softmax(s) OVER (PARTITION BY src) AS s FROM e), "
    "g AS (SELECT src AS id, sum(z * s) AS z FROM a GROUP BY src "
    "      UNION ALL SELECT dst, sum(linear(w, 4)) FROM cites GROUP BY dst), "
    "s AS (SELECT id, sum(z) AS z FROM g GROUP BY id) "
    "SELECT p.id, p.label, linear(features(p, 4) + coalesce(s.z, 0), 1) AS z "
    "FROM papers p LEFT JOIN s ON s.id = p.id"
)
FLAT = (
    "CREATE MODEL m OPTIONS (label = 'label', epochs = 3) AS WITH "
    "h AS (SELECT c.src AS id, max(linear(q.x, 4)) AS z "
    "      FROM cites c JOIN papers q ON q.id = c.dst GROUP BY c.src) "
    "SELECT p.id, p.label, linear(p.x, 1, bias => false) + coalesce(linear(h.z, 1), 0) AS z "
    "FROM papers p LEFT JOIN h ON h.id = p.id"
)


@pytest.fixture
def con() -> Session:
    """Twenty papers and thirty citations of eight of them."""
    session = relann.connect()
    session.sql(
        "CREATE TABLE papers (id INTEGER PRIMARY KEY, x FLOAT[2], label DOUBLE);"
        "INSERT INTO papers SELECT i, [i % 3, (i * 7) % 5], (i * i) % 11 FROM range(20) t(i);"
        "CREATE TABLE cites (src INTEGER, dst INTEGER, w DOUBLE);"
        "INSERT INTO cites SELECT (i * 3) % 8, (i * 7 + 1) % 11, 1 + i % 4 FROM range(30) t(i)"
    )
    return session


def lineage(con: Session, arguments: str) -> list[tuple[str, str, str, int, float]]:
    """What ml_lineage gives."""
    return list(con.sql(f"SELECT * FROM ml_lineage('m', {arguments})"))


def prediction(con: Session, key: int) -> float | None:
    """The prediction of a paper; None if it has none any more."""
    found = list(con.sql(f"SELECT prediction FROM ml_predict('m', (SELECT {key} AS id))"))
    return found[0][0] if found else None


def without(con: Session, table: str, key: str, paper: int) -> float | None:
    """The prediction of a paper as it is without a tuple."""
    column = "id" if table == "papers" else "rowid"
    con.sql("BEGIN")
    con.sql(f"DELETE FROM {table} WHERE {column} = {key}")
    found = prediction(con, paper)
    con.sql("ROLLBACK")
    return found


def test_contributions_to_a_sum_are_what_removal_takes_away(con: Session) -> None:
    """A linear model's: weights and biases of each row."""
    con.sql(LINEAR)
    whole = prediction(con, 3)
    found = lineage(con, "id => 3")
    assert whole is not None
    assert {t for t, *_ in found} == {"papers", "cites"}
    cited = [row for row in found if row[2] in ("c", "q")]
    for table, key, _, depth, contribution in cited:
        left = without(con, table, key, 3)
        assert depth == 1
        assert left is not None
        assert whole - left == pytest.approx(contribution, abs=1e-5)
    assert sum(c for *_, path, _, c in found if path == "c") == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("model", [DEEP, FLAT], ids=["deep", "flat"])
def test_what_is_not_listed_has_no_part(con: Session, model: str) -> None:
    """Removing any other tuple leaves the prediction as it is; some that are listed change it."""
    con.sql(model)
    whole = prediction(con, 3)
    listed = {(t, k) for t, k, *_ in lineage(con, "id => 3")}
    rows = {("papers", str(i)) for i in range(20)} | {("cites", str(i)) for i in range(30)}
    assert listed < rows
    for table, key in sorted(rows - listed):
        assert without(con, table, key, 3) == pytest.approx(whole, abs=1e-6)
    assert any(without(con, t, k, 3) != pytest.approx(whole, abs=1e-6) for t, k in listed)


def test_what_is_read_of_the_row_itself(con: Session) -> None:
    """Gradient × input: of a linear term without bias its value; the rest came through groups."""
    con.sql(FLAT)
    found = {path: c for t, k, path, d, c in lineage(con, "id => 12") if d == 0}
    assert found == {"p": pytest.approx(prediction(con, 12), abs=1e-5)}  # 12 cites nothing
    paths = {(path, depth) for _, _, path, depth, _ in lineage(con, "id => 3")}
    assert paths == {("p", 0), ("h.c", 1), ("h.q", 1)}


def test_largest_first(con: Session) -> None:
    """By size, whichever sign."""
    con.sql(DEEP)
    sizes = [abs(c) for *_, c in lineage(con, "(SELECT 3 AS id)")]
    assert sizes == sorted(sizes, reverse=True)
    depths = {path: depth for _, _, path, depth, _ in lineage(con, "(SELECT 3 AS id)")}
    assert depths["s.g.a.e.h.q"] == 3
    assert depths["s.g.cites"] == 2


def test_several_rows_add_up(con: Session) -> None:
    """The contributions to the sum of their scores."""
    con.sql(LINEAR)
    both = {r[:4]: r[4] for r in lineage(con, "(SELECT unnest([3, 4]) AS id)")}
    total: dict[tuple[object, ...], float] = {}
    for key in (3, 4):
        for row in lineage(con, f"id => {key}"):
            total[row[:4]] = total.get(row[:4], 0) + row[4]
    assert both == {k: pytest.approx(v, abs=1e-4) for k, v in total.items()}


def test_names_in_any_case(con: Session) -> None:
    """As everywhere in SQL."""
    con.sql(FLAT.replace("p.id, p.label", "p.id AS Id, p.label"))
    assert lineage(con, "ID => 3") == lineage(con, "(SELECT 3 AS id)") != []


def test_no_such_row(con: Session) -> None:
    """Has no lineage."""
    con.sql(LINEAR)
    assert lineage(con, "id => -1") == []


BY_CUSTOMER = (
    "CREATE MODEL m OPTIONS (task = 'spend', epochs = 3) AS "
    "SELECT c.id, coalesce(sum(linear(o.total, 1)), 0) AS z "
    "FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.id"
)


@pytest.fixture
def shop() -> Session:
    """Five customers, an order a day, and what they spend in twenty days."""
    session = relann.connect()
    session.sql(
        "CREATE TABLE customers (id INTEGER PRIMARY KEY);"
        "INSERT INTO customers FROM range(5);"
        "CREATE TABLE orders (oid INTEGER PRIMARY KEY, customer INTEGER, ts TIMESTAMP, "
        " total INTEGER);"
        "INSERT INTO orders SELECT i, i % 5, TIMESTAMP '2020-01-01' + INTERVAL (i) DAY, 1 + i % 7 "
        "FROM range(120) t(i);"
        "ALTER TABLE orders SET (time = ts);"
        "CREATE TASK spend AS PREDICT SUM(orders.total, 0, 20, days) FOR EACH customers.id"
    )
    return session


def test_a_task_s_model_at_the_time_of_its_seeds(shop: Session) -> None:
    """Only what was known by then made the prediction; the seeds themselves are no tuples."""
    shop.sql(BY_CUSTOMER)
    seed = "id => 3, anchor => TIMESTAMP '2020-02-09'"
    ((whole,),) = shop.sql(
        "SELECT prediction FROM ml_predict('m') WHERE id = 3 AND anchor = TIMESTAMP '2020-02-09'"
    )
    found = lineage(shop, seed)
    known = shop.sql("SELECT oid FROM orders WHERE customer = 3 AND ts <= '2020-02-09'")
    assert {k for t, k, *_ in found if t == "orders"} == {str(k) for (k,) in known}
    assert {(t, k) for t, k, *_ in found if t != "orders"} == {("customers", "3")}
    assert sum(c for t, *_, c in found if t == "orders") == pytest.approx(whole, abs=1e-4)


def test_past_labels_are_tuples(shop: Session) -> None:
    """Named by their content, as they are stored nowhere as such."""
    shop.sql(
        "CREATE MODEL m OPTIONS (task = 'spend', epochs = 3) AS "
        "SELECT c.id, coalesce(sum(linear(s.label, 1)), 0) AS z "
        "FROM customers c LEFT JOIN spend s ON s.id = c.id GROUP BY c.id"
    )
    found = lineage(shop, "id => 3, anchor => TIMESTAMP '2020-02-09'")
    ((name, key),) = [(t, k) for t, k, path, *_ in found if path == "s"]
    assert name.startswith("(SELECT")
    assert key.startswith("(3,2020-01-20")


def test_trees_have_no_lineage(con: Session) -> None:
    """They have importance."""
    con.sql(
        "CREATE MODEL m OPTIONS (head = 'gbdt', label = 'label', rounds = 2, min_rows = 1) AS "
        "SELECT id, x, label FROM papers"
    )
    with pytest.raises(QueryError, match="ml_importance"):
        con.sql("SELECT * FROM ml_lineage('m', id => 3)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "say which predictions"),
        (", idd => 3", "Did you mean `id`"),
        (", (SELECT 3 AS id), id => 3", "not both"),
        (", id => papers", "`id` takes a value"),
    ],
)
def test_messages(con: Session, arguments: str, message: str) -> None:
    """What is wrong with the call."""
    con.sql(LINEAR)
    with pytest.raises(QueryError, match=message):
        con.sql(f"SELECT * FROM ml_lineage('m'{arguments})")
