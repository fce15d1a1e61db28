-- Principal neighbourhood aggregation. Corso et al. 2020, https://arxiv.org/abs/2004.05718, equations 7 and 8.
--
--   h_ij = W₁ [x_i ‖ x_j]      A_i = mean ‖ min ‖ max ‖ deviation of h_ij over the d neighbours j → i
--   S = 1, log(d + 1) / δ, δ / log(d + 1)      δ = mean of log(d + 1) over all nodes
--   x'_i = W₃ W₂ [x_i ‖ S ⊗ A_i]
--
-- x is any embedding; messages and x' have width n. A node without neighbours aggregates 0.
CREATE LAYER pna(node(id, x), edge(src, dst), n) AS
WITH degree AS (SELECT v.id, count(u.id) AS d
                FROM node v LEFT JOIN edge e ON e.dst = v.id LEFT JOIN node u ON u.id = e.src GROUP BY v.id),
     s      AS (SELECT id, d, ln(d + 1) / (avg(ln(d + 1)) OVER ()) AS s FROM degree),
     h      AS (SELECT e.dst AS id, linear(concat(t.x, s.x), n) AS h
                FROM edge e JOIN node s ON s.id = e.src JOIN node t ON t.id = e.dst),
     a      AS (SELECT h.id, concat(avg(h.h), min(h.h), max(h.h),
                                    coalesce(stddev(h.h) * sqrt((s.d - 1) / s.d), 0)) AS a, s.s
                FROM h JOIN s ON s.id = h.id GROUP BY h.id, s.d, s.s)
SELECT v.id, linear(linear(concat(v.x, coalesce(a.a, 0),
                                  coalesce(a.a * a.s, 0),
                                  coalesce(a.a / a.s, 0)), n), n) AS x
FROM node v LEFT JOIN a ON a.id = v.id;
