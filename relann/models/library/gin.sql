-- Graph isomorphism network. Xu et al. 2019, https://arxiv.org/abs/1810.00826, equation 4.1.
--
--   x'_i = MLP((1 + ε) x_i + Σ_{j → i} x_j)      ε learned, two linear layers with relu between them
--
-- x is any embedding; x' has width n.
CREATE LAYER gin(node(id, x), edge(src, dst), n) AS
WITH near AS (SELECT e.dst AS id, sum(v.x) AS z FROM edge e JOIN node v ON v.id = e.src GROUP BY e.dst)
SELECT v.id, mlp((1 + param(1, initial => 'zeros')) * v.x + coalesce(near.z, 0), n, n) AS x
FROM node v LEFT JOIN near ON near.id = v.id;
