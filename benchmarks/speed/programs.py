"""The programs whose epochs are timed, each a query over the tables of `benchmarks.speed.data`."""

from __future__ import annotations

GCN_CORA = """
WITH x AS (SELECT row, col, val / sum(val) OVER (PARTITION BY row) AS val FROM feature),
     xw AS (SELECT row AS id, sum(embedding(col, 16, initial => 'glorot') * dropout(val, 0.5)) AS x
            FROM x GROUP BY row),
     loop   AS (SELECT src, dst FROM edge WHERE src <> dst UNION ALL SELECT id, id FROM node),
     degree AS (SELECT dst AS id, count(*) AS d FROM loop GROUP BY dst),
     a      AS (SELECT l.src, l.dst, 1 / sqrt(s.d * t.d) AS w
                FROM loop l JOIN degree s ON s.id = l.src JOIN degree t ON t.id = l.dst),
     h      AS (SELECT a.dst AS id, dropout(relu(sum(xw.x * a.w) + param(16)), 0.5) AS x
                FROM a JOIN xw ON xw.id = a.src GROUP BY a.dst)
SELECT n.id, n.label, n.split, sum(linear(h.x, 7) * a.w) AS logits
FROM node n JOIN a ON a.dst = n.id JOIN h ON h.id = a.src GROUP BY ALL
"""

GCN = """
WITH h AS (SELECT id, relu(x) AS x FROM relann.gcn((SELECT id, x FROM node), edge, 64)),
     o AS (SELECT id, x FROM relann.gcn(h, edge, 7))
SELECT n.id, n.label, 'train' AS split, o.x AS logits FROM node n JOIN o ON o.id = n.id
"""

SAGE = """
WITH h AS (SELECT id, relu(x) AS x FROM relann.sage((SELECT id, x FROM node), edge, 64)),
     o AS (SELECT id, x FROM relann.sage(h, edge, 7))
SELECT n.id, n.label, 'train' AS split, o.x AS logits FROM node n JOIN o ON o.id = n.id
"""

GAT = """
WITH h AS (SELECT id, elu(x) AS x FROM relann.gat((SELECT id, x FROM node), edge, 64, heads => 4)),
     o AS (SELECT id, x FROM relann.gat(h, edge, 7))
SELECT n.id, n.label, 'train' AS split, o.x AS logits FROM node n JOIN o ON o.id = n.id
"""

HGT = """
WITH h0 AS (SELECT id, 'author' AS type,
                   relu(sum(embedding(col, 64, initial => 'glorot') * val) + param(64)) AS x
            FROM author_word GROUP BY id
            UNION ALL
            SELECT id, 'paper', relu(sum(embedding(col, 64, initial => 'glorot') * val) + param(64))
            FROM paper_word GROUP BY id
            UNION ALL SELECT id, 'term', relu(linear(x, 64)) FROM term_x
            UNION ALL SELECT id, 'conf', relu(param(64)) FROM node WHERE type = 'conf'),
     {layers}
SELECT n.id, n.label, n.split, linear(o.x, 4) AS logits
FROM node n JOIN {last} o ON o.id = n.id WHERE n.type = 'author'
"""

HGT_1 = HGT.format(layers="h1 AS (SELECT id, type, x FROM relann.hgt(h0, edge, 64))", last="h1")
HGT_2 = HGT.format(
    layers="""h1 AS (SELECT id, type, x FROM relann.hgt(h0, edge, 64)),
     h2 AS (SELECT id, type, x FROM relann.hgt(h1, edge, 64))""",
    last="h2",
)

RGCN = """
WITH e AS (SELECT s AS src, p AS rel, o AS dst FROM triple),
     h AS (SELECT id, relu(x) AS x FROM relann.rgcn_featureless(node, e, 16)),
     o AS (SELECT id, x FROM relann.rgcn(h, e, 4))
SELECT n.id, n.label, n.split, o.x AS logits
FROM node n JOIN o ON o.id = n.id WHERE n.label IS NOT NULL
"""

HYGNN = """
WITH q AS (SELECT id, embedding(id, 64) AS x FROM drug),
     p AS (SELECT id, embedding(id, 64) AS x FROM substructure),
     m AS (SELECT drug AS hyperedge, substructure AS node FROM member),
     h AS (SELECT id, x FROM relann.hygnn(q, p, m, 64))
SELECT pair.a, pair.b, pair.label, pair.split, mlp(concat(u.x, v.x), 64, 1) AS logit
FROM pair JOIN h u ON u.id = pair.a JOIN h v ON v.id = pair.b
"""


def dhn(longest: int) -> str:
    """Two layers of rooted simple cycles up to a length, summed over each graph."""
    lengths = range(2, longest + 1)

    def layer(name: str, source: str) -> str:
        cycles = ",\n".join(
            f"{name}_{k} AS (SELECT id, x FROM relann.cycle_{k}_distinct({source}, edge, 8))"
            for k in lengths
        )
        joins = " ".join(f"LEFT JOIN {name}_{k} ON {name}_{k}.id = v.id" for k in lengths)
        parts = ", ".join(f"coalesce({name}_{k}.x, 0)" for k in lengths)
        mixed = f"SELECT v.id, relu(linear(concat({parts}), 16)) AS x FROM node v {joins}"
        return f"{cycles},\n{name} AS ({mixed})"

    return f"""
WITH one AS (SELECT id, [1.0]::FLOAT[1] AS x FROM node),
{layer("a", "one")},
{layer("b", "a")}
SELECT g.id, g.label, CASE WHEN g.fold = 4 THEN 'test' ELSE 'train' END AS split,
       linear(sum(b.x), 10) AS logits
FROM graph g JOIN node v ON v.graph = g.id JOIN b ON b.id = v.id GROUP BY ALL
"""


TINY = GCN.replace("64", "16").replace("7)", "3)")

TRIANGLES = """
WITH node AS (SELECT id, param(1, initial => 'ones') AS x
              FROM (SELECT DISTINCT src AS id FROM edge))
SELECT a.src AS id, sum(x.x * y.x * z.x) AS triangles
FROM edge a JOIN edge b ON b.src = a.dst JOIN edge c ON c.src = b.dst AND c.dst = a.src
JOIN node x ON x.id = a.src JOIN node y ON y.id = b.src JOIN node z ON z.id = c.src GROUP BY a.src
"""

TREE = """
WITH v AS (SELECT id, embedding(id, 16) AS x FROM node)
SELECT a.src AS id, sum(x.x * y.x * z.x) AS paths
FROM edge a JOIN edge b ON b.src = a.dst JOIN edge c ON c.src = b.dst
JOIN v x ON x.id = a.dst JOIN v y ON y.id = b.dst JOIN v z ON z.id = c.dst GROUP BY a.src
"""

MEANS = """
WITH near AS (SELECT e.dst AS id, avg(v.x) AS x
              FROM edge e JOIN node v ON v.id = e.src GROUP BY e.dst)
SELECT n.id, n.label, 'train' AS split, linear(coalesce(near.x, 0), 7) AS logits
FROM node n LEFT JOIN near ON near.id = n.id
"""
