"""A trained model as plain SQL in its database, checked against its predictions on the spot."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import duckdb
import numpy as np
import pyarrow as pa

from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import quoted
from relann.dialects.translate import Dialect, translate
from relann.duckdb_errors import duckdb_error_text
from relann.errors import DataError, PlanError
from relann.models.boosting import Boosted
from relann.models.head_sql import head_to_sql
from relann.models.prediction import predict
from relann.models.program import Program
from relann.models.splits import Numbers
from relann.models.training import Trained
from relann.models.trees_to_sql import Grown, trees_to_sql
from relann.provenance.to_sql import Expanded, query_to_sql
from relann.store import ModelRecord, Store

log = logging.getLogger("relann")

SAMPLE = 1000
"""How many predictions are compared with torch's, and all that have their content."""
TOLERANCE = 1e-4
"""The largest difference allowed, as a share of the largest of the numbers compared."""


def deploy(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    record: ModelRecord,
    program: Program,
    trained: Trained | Boosted,
    maps: RowMaps,
) -> str:
    """The SELECT that gives what the model predicts, on the rows there are when it runs.

    Its weights and vocabularies are put into tables beside the models. Raises DataError where the
    database is read-only or a term has no form in SQL, PlanError where SQL and torch differ; then
    nothing is kept.
    """
    node = program.optimised.node

    def named(what: str) -> str:
        return store.table_of(record, what)

    made: Grown | Expanded
    if isinstance(trained, Boosted):
        made = trees_to_sql(node, trained, named)
        scores: Sequence[str] = made.scores
    else:
        arrays = {name: tensor.numpy() for name, tensor in trained.weights.items()}
        made = query_to_sql(node, arrays, trained.encoders, named)
        (scores,) = made.embeddings.values()
    contents = [c.name for c in node.columns if not c.learned and c.name != trained.options.split]
    sql = head_to_sql(trained.head, made.sql, scores, contents)
    tables = {named(what): table for what, table in made.tables.items()}
    with store.keeping(tables):
        _check(connection, f"the SQL of model `{record.name}`", sql, trained, maps)
    return sql


def statements(
    connection: duckdb.DuckDBPyConnection,
    record: ModelRecord,
    program: Program,
    trained: Trained | Boosted,
    maps: RowMaps,
    to: Dialect,
) -> list[tuple[str, str]]:
    """The same in another database's words: (kind, SQL) of statements to be run there in order.

    The last is the SELECT, those before it make what it reads beside the model's own tables, which
    are to have the names and columns there that they have here. Nothing is kept in this database.
    Raises DataError for what has no form in SQL or in the dialect, PlanError where DuckDB, given
    the SQL before it is translated, and torch differ.
    """
    node = program.optimised.node
    names: dict[str, str] = {}
    stem = re.sub(r"\W+", "_", f"{record.name}_{record.version}", flags=re.ASCII).lower()
    stem = f"relann.{stem}"

    def named(what: str) -> str:
        mine = f"relann elsewhere {what}"
        if mine not in names:
            kind = re.sub(r"\W.*", "", what)
            names[mine] = f"{stem}_{kind}" + (f"_{len(names)}" if names else "")
        return quoted(mine)

    functions: list[tuple[str, str]] = []
    made: Grown | Expanded
    if isinstance(trained, Boosted):
        made = trees_to_sql(node, trained, named)
        scores: Sequence[str] = made.scores
    else:
        arrays = {name: tensor.numpy() for name, tensor in trained.weights.items()}
        made = query_to_sql(node, arrays, trained.encoders, named, kind="DOUBLE")
        (scores,) = made.embeddings.values()
    contents = [c.name for c in node.columns if not c.learned and c.name != trained.options.split]
    sql = head_to_sql(trained.head, made.sql, scores, contents)
    tables = {f"relann elsewhere {what}": table for what, table in made.tables.items()}
    with ExitStack() as stack:
        for name, table in tables.items():
            connection.register(name, table)
            stack.callback(_unregister, connection, name)
        _check(connection, f"the SQL of model `{record.name}`", sql, trained, maps)
    if isinstance(made, Grown) and to.forest is not None:
        sql = head_to_sql(trained.head, made.cased, scores, contents)
        del tables["relann elsewhere trees"]
        for number, body in enumerate(made.forests, start=1):
            name = f"{names['relann elsewhere trees']}_{number}"
            names[f"relann forest {number}"] = name
            functions.append(("function", to.forest(name, body)))
    kept = [
        ("table", statement)
        for name, table in tables.items()
        for statement in to.table(names[name], table)
    ]
    found = translate(sql, to, names, f"{stem}_layer")
    layers = [
        ("layer", statement)
        for name, select in found.layers
        for statement in (to.layer(name, select) if to.layer is not None else [])
    ]
    return [*to.setup, *functions, *kept, *layers, ("query", found.query)]


def _unregister(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    with suppress(duckdb.Error):  # a query that failed has ended the transaction
        connection.unregister(name)


def _check(
    connection: duckdb.DuckDBPyConnection,
    what: str,
    sql: str,
    trained: Trained | Boosted,
    maps: RowMaps,
) -> None:
    """Compare the SQL's predictions with torch's; raises PlanError where they differ."""
    expected = predict(trained, maps, _sample(connection, maps))
    difference = _difference(connection, sql, expected)
    if difference > TOLERANCE:
        raise PlanError(f"{what} differs from torch by {difference:.1e} of the largest number")
    told = f"{what} and torch differ by at most %.1e of the largest number, in %d rows"
    log.info(told, difference, expected.num_rows)


def _sample(connection: duckdb.DuckDBPyConnection, maps: RowMaps) -> Numbers | None:
    """Some output rows, and all whose content is that of one of them; None: all rows."""
    rows = maps.counts[maps.plan.output]
    if rows <= SAMPLE:
        return None
    contents = {n: maps.columns[maps.plan.output, c] for n, c in maps.plan.contents}
    output = pa.table({**contents, "#row": pa.array(np.arange(rows))})
    chosen = output.take(pa.array(np.linspace(0, rows - 1, SAMPLE).astype(np.int64)))
    same = _same(list(contents))
    connection.register("relann output", output)
    connection.register("relann chosen", chosen)
    try:
        found = connection.sql(
            f'SELECT "#row" FROM "relann output" a SEMI JOIN "relann chosen" b ON {same} ORDER BY 1'
        ).to_arrow_table()
    finally:
        connection.unregister("relann output")
        connection.unregister("relann chosen")
    numbers: Numbers = found.column(0).to_numpy()
    return numbers


def _same(names: Sequence[str]) -> str:
    pairs = [f"a.{quoted(n)} IS NOT DISTINCT FROM b.{quoted(n)}" for n in names]
    return " AND ".join(pairs) or "TRUE"


def _difference(connection: duckdb.DuckDBPyConnection, sql: str, expected: pa.Table) -> float:
    """How far predictions lie apart at most, by the size of the largest.

    Rows of one content are compared by how many there are, how many NULLs among these, and by their
    mean. Infinite where any of the first two differ.
    """
    names = expected.column_names
    column = next(n for n in ("scores", "probability", "prediction") if n in names)
    contents = [n for n in names if n not in ("scores", "probability", "prediction")]
    kind = expected.schema.field(column).type
    first, width = quoted(column), 1
    if pa.types.is_list(kind):
        known = expected.column(column).drop_null()
        width = len(known[0]) if len(known) else 1
        elements = [f"{first}[{i + 1}]" for i in range(width)]
    else:
        elements = [first]
    keys = [quoted(c) for c in contents]
    means = ", ".join(f"coalesce(avg({e}), 0) AS m{i}" for i, e in enumerate(elements))
    grouped = (
        f"SELECT {', '.join([*keys, 'count(*) AS rows', f'count({first}) AS known', means])} "
        "FROM {} " + (f"GROUP BY {', '.join(keys)}" if keys else "")
    )
    mine, theirs = grouped.format(f"({sql})"), grouped.format('"relann expected"')
    apart = [f"max(abs(a.m{i} - b.m{i}))" for i in range(width)]
    sizes = [f"max(abs(b.m{i}))" for i in range(width)]
    connection.register("relann expected", expected)
    try:
        ((wrong, far, size),) = connection.execute(
            f"WITH a AS ({mine}), b AS ({theirs}) "
            "SELECT count(*) FILTER (WHERE (a.rows = b.rows AND a.known = b.known) IS NOT TRUE), "
            f"greatest({', '.join(apart)}), greatest({', '.join(sizes)}) "
            f"FROM b LEFT JOIN a ON {_same(contents)}"
        ).fetchall()
    except duckdb.Error as error:
        raise DataError(f"the model's SQL does not run: {duckdb_error_text(error)}") from error
    finally:
        with suppress(duckdb.Error):  # a query that failed has ended the transaction
            connection.unregister("relann expected")
    if wrong:
        return float("inf")
    return float(far or 0) / (float(size or 0) or 1)
