-- GraphSAGE. Hamilton, Ying and Leskovec 2017, https://arxiv.org/abs/1706.02216, algorithm 1.
--
--   x'_i = W₁ x_i + W₂ aggregate_{j → i} x_j + b       aggregate: mean (sage), max, sum
--
-- x is any embedding; x' has width n. A node without neighbours aggregates 0. W₂ stands inside the mean and the sum: the
-- optimiser takes it out where that is cheaper.
CREATE LAYER sage(node(id, x), edge(src, dst), n) AS
WITH near AS (SELECT e.dst AS id, avg(linear(v.x, n, bias => false)) AS z
              FROM edge e JOIN node v ON v.id = e.src GROUP BY e.dst)
SELECT v.id, linear(v.x, n) + coalesce(near.z, 0) AS x
FROM node v LEFT JOIN near ON near.id = v.id;

CREATE LAYER sage_max(node(id, x), edge(src, dst), n) AS
WITH near AS (SELECT e.dst AS id, max(v.x) AS z FROM edge e JOIN node v ON v.id = e.src GROUP BY e.dst)
SELECT v.id, linear(v.x, n) + linear(coalesce(near.z, 0), n, bias => false) AS x
FROM node v LEFT JOIN near ON near.id = v.id;

CREATE LAYER sage_sum(node(id, x), edge(src, dst), n) AS
WITH near AS (SELECT e.dst AS id, sum(linear(v.x, n, bias => false)) AS z
              FROM edge e JOIN node v ON v.id = e.src GROUP BY e.dst)
SELECT v.id, linear(v.x, n) + coalesce(near.z, 0) AS x
FROM node v LEFT JOIN near ON near.id = v.id;
