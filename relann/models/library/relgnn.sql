-- Composite message passing through a bridge table. RelGNN: Chen et al. 2025, https://arxiv.org/abs/2502.06784, equations 2 and 3.
--
--   A row of a table with two foreign keys links a source to a target in one step:
--   f = W₁ x_bridge + W₂ x_source      α = softmax of (Q x_target) · (K f) / √d over the target's bridge rows
--   x'_target = W₃ x_target + O Σ α (V f)
--
-- `bridge` holds keys of `source` (NULL: none) and of `target`. All x are any embeddings; x' has width n.
CREATE LAYER relgnn(target(id, x), bridge(source, target, x), source(id, x), n, heads = 1) AS
WITH f   AS (SELECT b.target AS id, linear(b.x, n) + coalesce(linear(s.x, n, bias => false), 0) AS f
             FROM bridge b LEFT JOIN source s ON s.id = b.source),
     e   AS (SELECT f.id, linear(f.f, n) AS v,
                    dot(linear(t.x, n), linear(f.f, n), heads => heads) / sqrt(n / heads) AS e
             FROM f JOIN target t ON t.id = f.id),
     att AS (SELECT id, v, softmax(e) OVER (PARTITION BY id) AS a FROM e),
     z   AS (SELECT id, sum(scale(v, a)) AS z FROM att GROUP BY id)
SELECT t.id, linear(t.x, n) + linear(coalesce(z.z, 0), n, bias => false) AS x FROM target t LEFT JOIN z ON z.id = t.id;
