"""Will a flight arrive late? A two-hop model as a query, against two baselines, on real flights."""

from __future__ import annotations

import math
import time
from importlib.resources import files

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from relann.datasets import nycflights13
from relann.session import Session, connect

DATABASE = "flights.duckdb"
QUESTION = (
    "336,776 flights left New York City in 2013. One hour before one is to leave: will it arrive "
    "more than 30 minutes late?\nTrained on January to August, chosen on September and October, "
    "tested on November and December."
)


def query(name: str) -> str:
    """The text of one of the demonstration's models: `flights` or `flights_alone`."""
    return files("relann.demo").joinpath(f"{name}.sql").read_text()


def main(database: str = DATABASE, console: Console | None = None) -> None:
    """Load, train, compare; leaves the database behind, or adds to the one an earlier run left."""
    console = console or Console()
    began = time.perf_counter()
    with connect(database) as con:
        if "flights" not in con.sql("SHOW TABLES").df()["name"].to_list():
            nycflights13(con.connection)
        console.print(f"\n{QUESTION}\n")
        console.print(Syntax(query("flights"), "sql", word_wrap=True))
        console.print()
        table = Table("", "AUROC", "average precision", "log loss", "seconds")
        table.add_row("base rate", *_base_rate(con), "")
        for name, model in (("flights_alone", "alone"), ("flights", "late")):
            table.add_row(*_trained(con, name, model, console))
        console.print(f"\n{_plan(con)}\n", markup=False, highlight=False)
        console.print(table)
        console.print("\nThree flights of 5 December, and what became of them:\n")
        console.print(str(_three(con)), markup=False, highlight=False)
    console.print(
        f"\n{time.perf_counter() - began:.0f} s in all. The database, models included, is "
        f"{database}. Explore it:\n"
        f"  relann shell --db {database}\n"
        "  SELECT * FROM ml_predict('late', (SELECT flight_id FROM flights WHERE flight = 1));",
        markup=False,
        highlight=False,
    )


def _plan(con: Session) -> str:
    """The plan's size: how many rows each space has, how many steps an epoch takes."""
    plan = con.sql("EXPLAIN ANALYZE MODEL late").message.split("\nPlan\n")[1]
    rows, steps = plan.split("  numbers, every epoch", 1)
    shown = [_shortened(line) for line in rows.splitlines()[1:]]
    count = sum(1 for line in steps.splitlines() if line.strip().startswith("%"))
    return "\n".join(
        [
            "Rows that DuckDB numbered once:",
            *shown,
            f"and {count} steps that torch runs every epoch.",
        ]
    )


def _shortened(line: str, most: int = 60) -> str:
    """A space of the plan: what it is, and its rows at the end of the line."""
    what, _, count = line.rpartition("  ")
    what = what if len(what) <= most else what[: most - 1] + "…"
    return f"{what:{most}}  {count:>14}"


def _base_rate(con: Session) -> list[str]:
    """What always answering with the training months' share of late flights is worth."""
    ((rate, share),) = con.sql(
        "SELECT avg((arr_delay > 30)::INT) FILTER (WHERE month(time_hour) <= 8), "
        "avg((arr_delay > 30)::INT) FILTER (WHERE month(time_hour) >= 11) FROM flights"
    ).fetchall()
    loss = -(share * math.log(rate) + (1 - share) * math.log(1 - rate))
    return ["0.500", f"{share:.3f}", f"{loss:.3f}"]


def _trained(con: Session, name: str, model: str, console: Console) -> list[str]:
    began = time.perf_counter()
    message = con.sql(query(name)).message
    seconds = time.perf_counter() - began
    console.print(message, markup=False, highlight=False)
    found = con.sql(f"SELECT metric, value FROM ml_evaluate('{model}', split => 'test')").fetchall()
    metrics = dict(found)
    label = {"late": "with the aircraft, the airport and the weather", "alone": "the flight alone"}
    told = [f"{metrics[m]:.3f}" for m in ("auroc", "ap", "log_loss")]
    return [label[model], *told, f"{seconds:.0f}"]


def _three(con: Session) -> object:
    return con.sql(
        "SELECT f.carrier || f.flight AS flight, f.origin, f.dest, "
        "strftime(f.sched_dep_time, '%H:%M') AS leaves, round(p.probability, 2) AS says_late, "
        "f.arr_delay AS minutes_late "
        "FROM ml_predict('late', (SELECT flight_id FROM flights "
        "WHERE time_hour::DATE = DATE '2013-12-05' AND arr_delay IS NOT NULL)) AS p "
        "JOIN flights f USING (flight_id) "
        "QUALIFY row_number() OVER (ORDER BY p.probability DESC, flight_id) IN (1, 100, 700) "
        "ORDER BY says_late DESC"
    )
