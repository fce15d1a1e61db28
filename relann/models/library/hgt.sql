-- Heterogeneous graph transformer. Hu et al. 2020, https://arxiv.org/abs/2003.01332, equations 3 to 5.
--
--   k, q, v = K_τ x, Q_τ x, V_τ x                τ the type of the node, φ the relation of the edge
--   e = (k W_φ) · q μ_{τ(s),φ,τ(t)} / √d         for each head; α = softmax of e over all edges into t
--   z_t = Σ_s α (v M_φ)                          x' = g A_τ gelu(z) + (1 − g) x,   g = sigmoid(skip_τ)
--
-- Types and relations are data. x and x' have width n, shared equally by the heads.
CREATE LAYER hgt(node(id, type, x), edge(src, dst, rel), n, heads = 8) AS
WITH kqv AS (SELECT id, type, linear(x, n, per => type) AS k, linear(x, n, per => type) AS q,
                    linear(x, n, per => type) AS v FROM node),
     e   AS (SELECT e.dst AS id, linear(s.v, n, heads => heads, per => e.rel, bias => false) AS m,
                    dot(linear(s.k, n, heads => heads, per => e.rel, bias => false), t.q, heads => heads)
                    * param(heads, per => [s.type, e.rel, t.type], initial => 'ones') / sqrt(n / heads) AS e
             FROM edge e JOIN kqv s ON s.id = e.src JOIN kqv t ON t.id = e.dst),
     att AS (SELECT id, m, softmax(e) OVER (PARTITION BY id) AS a FROM e),
     z   AS (SELECT id, sum(scale(m, a)) AS z FROM att GROUP BY id),
     o   AS (SELECT v.id, v.type, v.x, sigmoid(param(1, per => v.type, initial => 'ones')) AS g,
                    linear(gelu(coalesce(z.z, 0)), n, per => v.type) AS o
             FROM node v LEFT JOIN z ON z.id = v.id)
SELECT id, type, g * o + (1 - g) * x AS x FROM o;
