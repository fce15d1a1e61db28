"""Names, widths and types: what the binder accepts, and what it says when it does not."""

from __future__ import annotations

import duckdb
import pytest

from relann.algebra.layers import Layer
from relann.algebra.nodes import Aggregate, Join, Map, Node, Query, Select, Union, Window
from relann.algebra.terms import Apply, Linear, Lookup, Parameter, Term
from relann.errors import QueryError
from tests import golden
from tests.fixtures import bound, layer, papers


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    """The citation graph."""
    return papers()


def parameters(node: Node) -> list[Parameter]:
    """All parameters of a query."""
    found: dict[Parameter, None] = {}
    for inner in node.walk():
        if isinstance(inner, Map):
            for _, value in inner.outputs:
                if isinstance(value, Term):
                    found.update(dict.fromkeys(value.parameters))
    return list(found)


def nodes(node: Node, kind: type) -> list[Node]:
    """All nodes of one kind."""
    return [n for n in node.walk() if isinstance(n, kind)]


def terms(node: Node, kind: type) -> list[Term]:
    """All terms of one kind."""
    return [
        t
        for n in nodes(node, Map)
        for _, v in n.outputs  # type: ignore[attr-defined]
        if isinstance(v, Term)
        for t in v.walk()
        if isinstance(t, kind)
    ]


@pytest.mark.parametrize("name", [c.name for c in golden.read("errors.sql")])
def test_errors(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Each mistake gives the message in the file, underlined in the user's text."""

    def render(sql: str) -> str:
        with pytest.raises(QueryError) as caught:
            bound(con, sql)
        return str(caught.value)

    golden.check("errors.sql", name, render)


def test_widths_and_types(con: duckdb.DuckDBPyConnection) -> None:
    """Output columns carry the widths and types the text implies."""
    node = bound(
        con,
        "SELECT id, year + 1 AS y, x, linear(x, 3) AS a, concat(x, linear(x, 3)) AS b, "
        "x || x AS c, "
        "dot(x, x) AS d, numeric(year) AS e, embedding([venue, year], 5) AS f, param(4) AS g, "
        "mlp(x, 8, 2) AS h, features(p, 6) AS i, text(title, 7) AS j, normalize(x) AS k "
        "FROM paper p",
    )
    assert [str(c) for c in node.columns] == [
        "id INTEGER",
        "y INTEGER",
        "x embedding[32]",
        "a embedding[3]",
        "b embedding[35]",
        "c embedding[64]",
        "d embedding[1]",
        "e embedding[2]",
        "f embedding[5]",
        "g embedding[4]",
        "h embedding[2]",
        "i embedding[6]",
        "j embedding[7]",
        "k embedding[32]",
    ]


def test_parameters_are_named_by_where_they_stand(con: duckdb.DuckDBPyConnection) -> None:
    """Model, sub-query, function and number; biases beside weights."""
    node = bound(
        con,
        "WITH h AS (SELECT id, linear(x, 4) + linear(x, 4, bias => false) AS z FROM paper) "
        "SELECT id, mlp(z, 3, 2) AS y, param(2) AS p FROM h",
    )
    assert sorted(p.name for p in parameters(node)) == [
        "m.h.linear_0.bias",
        "m.h.linear_0.weight",
        "m.h.linear_1.weight",
        "m.mlp_0.0.bias",
        "m.mlp_0.0.weight",
        "m.mlp_0.1.bias",
        "m.mlp_0.1.weight",
        "m.param_0.value",
    ]


def test_a_subquery_read_twice_has_one_set_of_parameters(con: duckdb.DuckDBPyConnection) -> None:
    """A CTE is one relation, however often it is read."""
    node = bound(
        con,
        "WITH h AS (SELECT id, linear(x, 4) AS z FROM paper) "
        "SELECT a.id, dot(a.z, b.z) AS s FROM h a JOIN h b ON a.id = b.id",
    )
    assert len(terms(node, Linear)) == 1


def test_share_ties_call_sites(con: duckdb.DuckDBPyConnection) -> None:
    """Two calls with one name hold one weight."""
    node = bound(
        con,
        "SELECT linear(x, 4, share => 'w') AS a, linear(x * 2, 4, share => 'w') AS b FROM paper",
    )
    assert [p.name for p in parameters(node)] == ["m.w.weight", "m.w.bias"]


def test_an_alias_reused_in_the_select_list_is_the_same_site(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """`relu(k)` after `… AS k` reads k; it does not make a second linear."""
    node = bound(con, "SELECT linear(x, 4) AS k, relu(k) AS r FROM paper")
    assert isinstance(node, Map)
    k, r = dict(node.outputs)["k"], dict(node.outputs)["r"]
    assert isinstance(r, Apply)
    assert r.arguments == (k,)


def test_per_takes_one_or_several_content_expressions(con: duckdb.DuckDBPyConnection) -> None:
    """`per => [a, b]` is one compound key."""
    node = bound(con, "SELECT linear(c.w, 4, per => [c.kind, c.src % 2]) AS z FROM cites c")
    (linear,) = terms(node, Linear)
    assert isinstance(linear, Linear)
    assert linear.per is not None
    assert [str(p) for p in linear.per.parts] == ["c.kind", "c.src % 2"]


def test_features_leaves_out_keys_joins_labels(con: duckdb.DuckDBPyConnection) -> None:
    """Primary keys, columns equated in a join, label and split are not features."""
    node = bound(
        con,
        "SELECT p.id, p.label, p.split, features(p, 4) AS z "
        "FROM paper p JOIN venue v ON v.id = p.venue",
        hidden=("label", "split"),
    )
    read = {c for t in terms(node, Term) for e in t.contents for c in e.columns} | {
        n for t in terms(node, Term) for n in t.fields
    }
    assert read == {"p.title", "p.year", "p.open", "p.seen", "p.x", "x"}
    assert [t.table.name for t in terms(node, Lookup)] == [  # type: ignore[attr-defined]
        "m.features_0.title.weight"
    ]


def test_hidden_columns_are_traced_through_subqueries(con: duckdb.DuckDBPyConnection) -> None:
    """A label that was renamed on the way is still no feature."""
    node = bound(
        con,
        "WITH q AS (SELECT id, label AS y, year FROM paper), "
        "r AS (SELECT *, param(1) AS one FROM q) "
        "SELECT r.id, r.y AS target, features(r, 4, exclude => [one]) AS z FROM r",
        hidden=("target",),
    )
    read = {c for t in terms(node, Term) for e in t.contents for c in e.columns}
    assert read == {"r.year"}  # not the label, and not the key


def test_group_by_all_position_alias_and_expression(con: duckdb.DuckDBPyConnection) -> None:
    """All spellings of a group key give the same groups."""
    texts = [
        "SELECT year % 2 AS k, sum(linear(x, 3)) AS z FROM paper GROUP BY ALL",
        "SELECT year % 2 AS k, sum(linear(x, 3)) AS z FROM paper GROUP BY 1",
        "SELECT year % 2 AS k, sum(linear(x, 3)) AS z FROM paper GROUP BY k",
        "SELECT year % 2 AS k, sum(linear(x, 3)) AS z FROM paper GROUP BY year % 2",
    ]
    assert len({nodes(bound(con, t), Aggregate)[0].names for t in texts}) == 1
    by = [n.by for t in texts for n in nodes(bound(con, t), Aggregate)]  # type: ignore[attr-defined]
    assert by == [("key 0",)] * 4


def test_expressions_over_aggregates_and_keys(con: duckdb.DuckDBPyConnection) -> None:
    """Content and embedding aggregates meet in one select list; HAVING may use content ones."""
    node = bound(
        con,
        "SELECT venue + 1 AS v, count(*) AS n, sum(linear(x, 3)) / count(*) AS z, "
        "max(linear(x, 3)) FILTER (WHERE year > 2000) AS m "
        "FROM paper GROUP BY venue HAVING count(*) > 2",
    )
    assert [str(c) for c in node.columns] == [
        "v INTEGER",
        "n BIGINT",
        "z embedding[3]",
        "m embedding[3]",
    ]
    (aggregate,) = nodes(node, Aggregate)
    assert [r.where for _, r in aggregate.outputs if hasattr(r, "where")] == [None, "filter 0"]  # type: ignore[attr-defined]
    assert len(nodes(node, Select)) == 1


def test_windows(con: duckdb.DuckDBPyConnection) -> None:
    """softmax and running sums are windows over embeddings; row_number stays content."""
    node = bound(
        con,
        "SELECT id, row_number() OVER (PARTITION BY venue ORDER BY year) AS k, "
        "softmax(linear(x, 1)) OVER (PARTITION BY venue) AS a, "
        "sum(linear(x, 2)) OVER (PARTITION BY venue ORDER BY year DESC) AS s FROM paper",
    )
    assert [str(c) for c in node.columns] == [
        "id INTEGER",
        "k BIGINT",
        "a embedding[1]",
        "s embedding[2]",
    ]
    assert len(nodes(node, Window)) == 2


def test_joins(con: duckdb.DuckDBPyConnection) -> None:
    """Every join SQL has; USING shows its column once; RIGHT is LEFT from the other side."""
    for text, kind in {
        "FROM paper p JOIN cites c ON c.src = p.id": "inner",
        "FROM paper p, cites c": "inner",
        "FROM paper p LEFT JOIN cites c ON c.src = p.id": "left",
        "FROM cites c RIGHT JOIN paper p ON c.src = p.id": "left",
        "FROM paper p FULL JOIN cites c ON c.src = p.id": "full",
        "FROM paper p SEMI JOIN cites c ON c.src = p.id": "semi",
        "FROM paper p ANTI JOIN cites c ON c.src = p.id": "anti",
        "FROM paper p ASOF JOIN cites c ON p.id >= c.src": "asof",
        "FROM paper p WHERE p.id IN (SELECT src FROM cites)": "semi",
    }.items():
        (join,) = nodes(bound(con, f"SELECT linear(p.x, 3) AS z {text}"), Join)
        assert isinstance(join, Join)
        assert join.kind == kind
    node = bound(con, "SELECT *, linear(p.x, 3) AS z FROM paper p JOIN venue v USING (id)")
    assert node.names.count("id") == 1
    assert [n for n in node.names if n.startswith("x")] == ["x", "x_1"]


def test_content_subqueries_stay_the_databases(con: duckdb.DuckDBPyConnection) -> None:
    """What has no learned function runs in DuckDB as it is, ORDER BY, LIMIT and all."""
    node = bound(
        con,
        "WITH recent AS (SELECT id FROM paper ORDER BY seen DESC LIMIT 10), "
        "numbers AS (SELECT unnest([1, 2]) AS i) "
        "SELECT p.id, linear(p.x, 3, per => n.i) AS z "
        "FROM paper p JOIN recent USING (id), numbers n, (VALUES (1), (2)) AS v(k), range(2) r(j)",
    )
    assert len(nodes(node, Query)) == 4
    assert not nodes(node, Union)


def test_recursive_content(con: duckdb.DuckDBPyConnection) -> None:
    """A recursive sub-query is content like any other."""
    node = bound(
        con,
        "WITH RECURSIVE reach(id) AS (SELECT 1 UNION SELECT c.dst FROM cites c JOIN reach r "
        "ON c.src = r.id) SELECT p.id, linear(p.x, 3) AS z FROM paper p JOIN reach USING (id)",
    )
    assert [str(c) for c in node.columns] == ["id INTEGER", "z embedding[3]"]


def test_arithmetic_on_arrays_is_lifted(con: duckdb.DuckDBPyConnection) -> None:
    """`sum(FLOAT[n])` is no SQL, but it is a lifted query, learned function or not."""
    node = bound(
        con,
        "WITH s AS (SELECT c.dst AS id, sum(p.x * c.w) AS z FROM cites c "
        "JOIN paper p ON p.id = c.src GROUP BY c.dst) SELECT id, linear(z, 3) AS y FROM s",
    )
    assert str(node.columns[1]) == "y embedding[3]"


def _layers(name: str) -> Layer | None:
    known = {
        "sage": layer(
            "sage",
            ["x", "edges", "n"],
            "SELECT v.id, relu(linear(v.x, n) + linear(coalesce(a.z, 0), n)) AS x FROM x v "
            "LEFT JOIN (SELECT e.dst AS id, avg(u.x) AS z FROM edges e JOIN x u ON u.id = e.src "
            "GROUP BY e.dst) a USING (id)",
        ),
        "relann.twice": layer("twice", ["x"], "SELECT id, x + x AS x FROM x"),
        "endless": layer("endless", ["x"], "SELECT * FROM endless(x)"),
        "broken": layer("broken", ["x"], "SELECT linear(nothing, 3) AS z FROM x"),
    }
    return known.get(name)


def test_layers_nest_and_own_their_parameters(con: duckdb.DuckDBPyConnection) -> None:
    """Each call has its own weights, and a layer's result is a relation like any other."""
    node = bound(con, "SELECT id, x FROM sage(sage(paper, cites, 64), cites, 16)", layers=_layers)
    assert str(node.columns[1]) == "x embedding[16]"
    shapes = [p.shape for p in parameters(node) if p.name.endswith("weight")]
    assert sorted(shapes) == [(32, 64), (32, 64), (64, 16), (64, 16)]
    names = [p.name for p in parameters(node)]
    assert len(set(names)) == len(names) == 8


def test_layers_take_subqueries_and_qualified_names(con: duckdb.DuckDBPyConnection) -> None:
    """A relation argument may be a sub-query; the library is called by `relann.`."""
    node = bound(
        con,
        "SELECT id, linear(x, 2) AS z "
        "FROM relann.twice((SELECT id, x FROM paper WHERE year > 2000))",
        layers=_layers,
    )
    assert str(node.columns[1]) == "z embedding[2]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT * FROM sage(paper, cites)", "needs its argument `n`"),
        ("SELECT * FROM sage(paper, cites, 3, 4)", "takes 3 arguments, not 4"),
        ("SELECT * FROM sage(paper, cites, m => 3)", "no argument `m`"),
        ("SELECT * FROM sage(paper, cites, cites)", "`n` of layer `sage` is a scalar"),
        ("SELECT * FROM sage(paper, 3, 4)", "`edges` of layer `sage` is a relation"),
        ("SELECT * FROM sage(papre, cites, 4)", "no table `papre`. Did you mean `paper`"),
        ("SELECT * FROM endless(paper)", "calls itself without end"),
        ("SELECT * FROM broken(paper)", "in layer `broken`: there is no column `nothing`"),
        ("SELECT * FROM sage(cites, cites, 4)", "in layer `sage`"),
    ],
)
def test_layer_errors(con: duckdb.DuckDBPyConnection, text: str, message: str) -> None:
    """Wrong arguments are told at the call, mistakes inside with the layer's own line."""
    with pytest.raises(QueryError) as caught:
        bound(con, text, layers=_layers)
    assert message in str(caught.value)


def test_content_of_a_lifted_relation(con: duckdb.DuckDBPyConnection) -> None:
    """A sub-query that reads only content of a lifted one is content: DuckDB counts its rows."""
    node = bound(
        con,
        "WITH h AS (SELECT c.dst AS id, sum(linear(p.x, 4)) AS z FROM cites c "
        "JOIN paper p ON p.id = c.src GROUP BY c.dst), "
        "loops AS (SELECT src, dst FROM cites UNION ALL SELECT id, id AS other FROM h), "
        "degree AS (SELECT dst AS id, count(*) AS d FROM loops GROUP BY dst) "
        "SELECT h.id, h.z / d.d AS z FROM h JOIN degree d USING (id)",
    )
    assert [str(c) for c in node.columns] == ["id INTEGER", "z embedding[4]"]
    degrees = [n for n in nodes(node, Query) if "d" in n.names]
    assert len(degrees) == 1
    assert "linear" not in degrees[0].sql  # type: ignore[attr-defined]


def test_a_constant_beside_a_group_is_not_its_key(con: duckdb.DuckDBPyConnection) -> None:
    """The 1 of a width is not the 1 that is a group key."""
    node = bound(con, "SELECT 1 AS one, linear(sum(linear(w, 2)), 1) AS z FROM cites GROUP BY ALL")
    assert [str(c) for c in node.columns] == ["one INTEGER", "z embedding[1]"]


def test_functions_of_arrays_are_lifted(con: duckdb.DuckDBPyConnection) -> None:
    """coalesce and element-wise functions of `FLOAT[n]` columns, without a learned function."""
    node = bound(
        con,
        "WITH q AS (SELECT id, coalesce(x, 0) AS a, tanh(x) AS b, x || x AS c FROM paper) "
        "SELECT id, linear(a + b, 3) + linear(c, 3) AS z FROM q",
    )
    assert str(node.columns[1]) == "z embedding[3]"
