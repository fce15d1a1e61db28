-- Hypergraph network with two levels of attention. HyGNN: Saifuddin et al. 2023, https://arxiv.org/abs/2206.12747.
--
--   p'_i = relu(Σ_j Y_ij W₂ q_j)      Y = softmax over the hyperedges j of node i of leaky_relu(a · [W₁ p_i ‖ W₂ q_j])
--   q'_j = relu(Σ_i Z_ji W₄ p'_i)     Z = softmax over the nodes i of hyperedge j of leaky_relu(c · [W₃ q_j ‖ W₄ p'_i])
--
-- p and q are any embeddings of nodes and hyperedges; the hyperedges' new one, x, has width n and is 0 for one
-- without nodes.
CREATE LAYER hygnn(hyperedge(id, x), node(id, x), member(hyperedge, node), n) AS
WITH p   AS (SELECT id, dot(z, param(n)) AS a FROM (SELECT id, linear(x, n, bias => false) AS z FROM node)),
     q   AS (SELECT id, z, dot(z, param(n)) AS a FROM (SELECT id, linear(x, n, bias => false) AS z FROM hyperedge)),
     y   AS (SELECT m.node, q.z, softmax(leaky_relu(p.a + q.a)) OVER (PARTITION BY m.node) AS y
             FROM member m JOIN p ON p.id = m.node JOIN q ON q.id = m.hyperedge),
     p2  AS (SELECT node AS id, relu(sum(z * y)) AS p FROM y GROUP BY node),
     pw  AS (SELECT id, z, dot(z, param(n)) AS a FROM (SELECT id, linear(p, n, bias => false) AS z FROM p2)),
     qw  AS (SELECT id, dot(z, param(n)) AS a FROM (SELECT id, linear(x, n, bias => false) AS z FROM hyperedge)),
     z   AS (SELECT m.hyperedge, pw.z, softmax(leaky_relu(pw.a + qw.a)) OVER (PARTITION BY m.hyperedge) AS y
             FROM member m JOIN pw ON pw.id = m.node JOIN qw ON qw.id = m.hyperedge),
     q2  AS (SELECT hyperedge AS id, relu(sum(z * y)) AS x FROM z GROUP BY hyperedge)
SELECT h.id, coalesce(q2.x, 0) AS x FROM hyperedge h LEFT JOIN q2 ON q2.id = h.id;

-- Decoders: a score for each pair of rows of one relation. The pair's own columns are carried along by joining on (a, b).
CREATE LAYER decode_mlp(node(id, x), pair(a, b), n) AS
SELECT pair.a, pair.b, mlp(concat(u.x, v.x), n, 1) AS score
FROM pair JOIN node u ON u.id = pair.a JOIN node v ON v.id = pair.b;

CREATE LAYER decode_dot(node(id, x), pair(a, b)) AS
SELECT pair.a, pair.b, dot(u.x, v.x) AS score
FROM pair JOIN node u ON u.id = pair.a JOIN node v ON v.id = pair.b;

-- As many pairs of nodes that are not in `pair`, in neither order, as there are pairs: drawn by a hash of both and the seed.
CREATE LAYER negative_pairs(node(id), pair(a, b), seed = 0) AS
SELECT u.id AS a, v.id AS b FROM node u JOIN node v ON u.id < v.id
ANTI JOIN pair p ON (p.a = u.id AND p.b = v.id) OR (p.a = v.id AND p.b = u.id)
QUALIFY row_number() OVER (ORDER BY hash(u.id, v.id, seed), u.id, v.id) <= (SELECT count(*) FROM pair);
