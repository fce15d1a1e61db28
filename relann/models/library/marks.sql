-- Marks on the input. label_trick: Shi et al. 2021 (UniMP), https://arxiv.org/abs/2009.03509, equation 1; mark: You et al. 2021
-- (identity-aware networks), https://arxiv.org/abs/2101.10320.
--
--   label_trick: x'_i = x_i + mean of the learned vectors of the known labels of i's neighbours, never of its own
--   mark: x'_i = x_i + one learned vector where i is a seed
--
-- `known` must hold labels of training rows only. x' has the width of x, which is n.
CREATE LAYER label_trick(node(id, x), edge(src, dst), known(id, label), n) AS
WITH near AS (SELECT e.dst AS id, avg(embedding(k.label, n)) AS z
              FROM edge e JOIN node s ON s.id = e.src JOIN known k ON k.id = s.id WHERE e.src <> e.dst
              GROUP BY e.dst)
SELECT v.id, v.x + coalesce(near.z, 0) AS x FROM node v LEFT JOIN near ON near.id = v.id;

CREATE LAYER mark(node(id, x), seed(id), n) AS
WITH m AS (SELECT id, param(n) AS z FROM (SELECT DISTINCT id FROM seed))
SELECT v.id, v.x + coalesce(m.z, 0) AS x FROM node v LEFT JOIN m ON m.id = v.id;
