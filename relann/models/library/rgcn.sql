-- Relational graph convolution. Schlichtkrull et al. 2018, https://arxiv.org/abs/1703.06103, equations 2 and 3.
--
--   x'_i = W₀ x_i + b + Σ_r Σ_{j →r i} 1/c_{i,r} W_r x_j      rgcn_basis: W_r = Σ_b a_{r,b} V_b
--
-- Relations are data: one matrix for each value of `rel`. x is any embedding; x' has width n. Edges from or to no node do
-- not count.
CREATE LAYER rgcn(node(id, x), edge(src, rel, dst), n) AS
WITH degree AS (SELECT dst, rel, count(*) AS c FROM edge WHERE src IN (SELECT id FROM node) GROUP BY dst, rel),
     near   AS (SELECT e.dst AS id, sum(linear(v.x, n, per => e.rel, bias => false) / d.c) AS z
                FROM edge e JOIN node v ON v.id = e.src JOIN degree d ON d.dst = e.dst AND d.rel = e.rel
                GROUP BY e.dst)
SELECT v.id, linear(v.x, n) + coalesce(near.z, 0) AS x FROM node v LEFT JOIN near ON near.id = v.id;

CREATE LAYER rgcn_basis(node(id, x), edge(src, rel, dst), n, bases = 30) AS
WITH degree AS (SELECT dst, rel, count(*) AS c FROM edge WHERE src IN (SELECT id FROM node) GROUP BY dst, rel),
     basis  AS (SELECT b FROM range(bases) AS _(b)),
     near   AS (SELECT e.dst AS id, sum(linear(v.x, n, per => basis.b, bias => false)
                                        * param(1, per => [e.rel, basis.b]) / d.c) AS z
                FROM edge e JOIN node v ON v.id = e.src JOIN degree d ON d.dst = e.dst AND d.rel = e.rel
                CROSS JOIN basis GROUP BY e.dst)
SELECT v.id, linear(v.x, n) + coalesce(near.z, 0) AS x FROM node v LEFT JOIN near ON near.id = v.id;

-- The first layer of a graph whose nodes have no features: the rows of W_r are its own, one for each (relation, node).
CREATE LAYER rgcn_featureless(node(id), edge(src, rel, dst), n) AS
WITH degree AS (SELECT dst, rel, count(*) AS c FROM edge WHERE src IN (SELECT id FROM node) GROUP BY dst, rel),
     near   AS (SELECT e.dst AS id, sum(embedding([e.rel, e.src], n, initial => 'glorot') * (1 / d.c)) AS z
                FROM edge e JOIN node v ON v.id = e.src JOIN degree d ON d.dst = e.dst AND d.rel = e.rel GROUP BY e.dst)
SELECT v.id, embedding(v.id, n, initial => 'glorot') + param(n, initial => 'zeros') + coalesce(near.z, 0) AS x
FROM node v LEFT JOIN near ON near.id = v.id;
