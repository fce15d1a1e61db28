"""relann compare and relann bank, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import relann
from relann import cli
from tests.autoselect.trials import SHOP

TREES = (
    "SELECT c.customer_id, count(o.order_id) AS orders, sum(o.total) AS total FROM customers c "
    "LEFT JOIN orders o USING (customer_id) GROUP BY c.customer_id;\n"
)
NETWORK = (
    "CREATE MODEL mine OPTIONS (task = 'churn', epochs = 2) AS "
    "SELECT c.customer_id, linear(features(c, 4), 1) AS logit FROM customers c\n"
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.duckdb"
    with relann.connect(path) as con:
        con.sql(SHOP)
    (tmp_path / "trees.sql").write_text(TREES)
    (tmp_path / "mine.sql").write_text(NETWORK)
    return path


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [str(a) for a in arguments], env={"COLUMNS": "160"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout + done.stderr


@pytest.mark.parametrize("ending", ["html", "png"])
def test_compare_two_files(shop: Path, tmp_path: Path, ending: str) -> None:
    chart = tmp_path / f"chart.{ending}"
    code, said = run(
        "compare", "--task", "churn", "--db", shop, tmp_path / "trees.sql", tmp_path / "mine.sql",
        "--chart", chart,
    )  # fmt: skip
    assert code == 0, said
    assert "trees.sql" in said and "features" in said and "mine.sql" in said and "messages" in said
    assert "test labels were read once" in said and "regime frozen" in said
    assert chart.stat().st_size > 1000
    if ending == "html":
        assert "linear(features(c, 4), 1)" in chart.read_text()
    with relann.connect(shop, read_only=True) as con:
        assert con.sql("SHOW MODELS").fetchall() == []


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--task", "chrn", "trees.sql"], "Did you mean `churn`"),
        (["--task", "churn"], "there is nothing to compare"),
        (["--task", "churn", "nothing.sql"], "No such file"),
        (["--task", "churn", "wrong.sql"], "there is no table `nowhere`"),
        (["--task", "churn", "--auto", "--budget", "soon"], "`budget` is a number and a unit"),
    ],
)
def test_what_is_wrong(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.sql").write_text("SELECT x FROM nowhere")
    code, said = run("compare", "--db", shop, *arguments)
    assert code == 1 and what in said


def test_a_chart_that_cannot_be_written(shop: Path, tmp_path: Path) -> None:
    code, said = run(
        "compare", "--task", "churn", "--db", shop, tmp_path / "trees.sql",
        "--chart", tmp_path / "no" / "x.html",
    )  # fmt: skip
    assert code == 1 and "cannot write" in said


def test_bank_show_and_add(tmp_path: Path) -> None:
    code, said = run("bank", "show")
    assert code == 0 and "rel-f1" in said and "driver_dnf" in said
    code, said = run("bank", "add", tmp_path / "own", tmp_path)
    assert code == 1 and "holds no bank" in said


def test_bank_build_asks_for_a_known_database(tmp_path: Path) -> None:
    code, said = run("bank", "build", "--data", tmp_path, "--out", tmp_path / "b", "rel-f2")
    assert code == 1 and "Did you mean `rel-f1`" in said
