"""A lifted query as SQL is what the query means, in DuckDB, against the oracle in float64."""

from __future__ import annotations

import duckdb
import numpy as np
from hypothesis import given, settings

from relann.algebra import rowmaps
from relann.algebra.lower import lower
from relann.algebra.nodes import Node
from relann.algebra.optimize import optimise
from relann.algebra.terms import Norm, quoted
from relann.provenance.encoders import Encoders
from relann.provenance.module import QueryModule
from relann.provenance.to_sql import query_to_sql
from tests.algebra.test_engines import ENGINES
from tests.fixtures import bound
from tests.oracle import identity
from tests.strategies import Database, databases, lifted_queries, rewritable_queries
from tests.test_meaning import (
    BOUNDED,
    Answer,
    check,
    fanciful,
    oracle_answer,
    plain,
    real_answer,
    sites_of,
    terms_of,
    weights,
)


def arrays_of(node: Node, encoders: Encoders) -> dict[str, np.ndarray]:
    """The parameters of a query as `weights` has them, and its running averages' start values."""
    plan = lower(node)
    state = QueryModule(plan, encoders).state()
    found = {}
    for name, site in sites_of(node).items():
        if name not in state:
            continue  # a column that nothing reads
        shape = tuple(state[name].shape)
        if site is None:
            found[name] = weights((name, None), shape).numpy()
            continue
        columns = [c.to_pylist() for c in encoders.vocabularies[site].table.columns[:-1]]
        keys = [tuple(identity(v) for v in key) for key in zip(*columns, strict=True)]
        sets = [weights((name, key), shape[1:]).numpy() for key in keys]
        found[name] = np.stack(sets) if sets else np.zeros(shape)
    rest = {n: v.double().numpy() for n, v in state.items() if n not in found}
    return {**rest, **found}


def _table(name: str) -> str:
    return f"relann.{quoted(name)}"


def sql_answer(node: Node, con: duckdb.DuckDBPyConnection, encoders: Encoders) -> Answer:
    """What DuckDB says of the query's SQL; it knows no gradients."""
    plan = rowmaps.build(lower(node), ENGINES["duckdb"](con)).plan
    fitted = Encoders.fit(plan, rowmaps.build(lower(node), ENGINES["duckdb"](con)))
    fitted.standards, fitted.periods = encoders.standards, encoders.periods
    expanded = query_to_sql(node, arrays_of(node, fitted), fitted, _table, "DOUBLE")
    con.execute("DROP SCHEMA IF EXISTS relann CASCADE; CREATE SCHEMA relann").fetchall()
    for name, table in expanded.tables.items():
        con.register("kept", table)
        con.execute(f"CREATE TABLE {_table(name)} AS FROM kept").fetchall()
        con.unregister("kept")
    found = con.sql(expanded.sql).to_arrow_table()
    rows = []
    lists = {n: found.column(n).to_pylist() for n in found.column_names}
    for i in range(found.num_rows):
        content = tuple(plain(lists[c.name][i]) for c in node.columns if not c.learned)
        vectors = []
        for c in node.columns:
            if c.learned:
                numbers = [lists[n][i] for n in expanded.embeddings[c.name]]
                assert len({n is None for n in numbers}) == 1, "an embedding is NULL as a whole"
                vectors.append(None if numbers[0] is None else tuple(numbers))
        rows.append((content, tuple(vectors)))
    return Answer(rows, {})


def check_sql(database: Database, sql: str) -> None:
    """Before and after rewriting."""
    con = database.connect()
    node = bound(con, sql)
    maps = rowmaps.build(lower(node), ENGINES["duckdb"](con))
    encoders = Encoders.fit(maps.plan, maps)
    if any(isinstance(t, Norm) and t.kind == "batch" for t in terms_of(node)):
        wanted = real_answer(node, ENGINES["duckdb"](con), encoders, training=False)
    else:
        wanted = oracle_answer(node, con, encoders)
    wanted.gradients.clear()
    check(sql_answer(node, con, encoders), wanted, "as written")
    rewritten = optimise(node, fanciful()).node
    if rewritten is not node:
        check(sql_answer(rewritten, con, encoders), wanted, "rewritten")


@settings(max_examples=100, phases=BOUNDED)
@given(databases(), lifted_queries())
def test_drawn_queries(database: Database, sql: str) -> None:
    """Any query the language has."""
    check_sql(database, sql)


@settings(max_examples=60, phases=BOUNDED)
@given(databases(), rewritable_queries())
def test_rewritten_queries(database: Database, sql: str) -> None:
    """Queries shaped like the left side of a rewrite, or nearly."""
    check_sql(database, sql)
