-- Kipf and Welling 2017, https://arxiv.org/abs/1609.02907: Â relu(Â X W₀) W₁, dropout before both matrices.
-- Tables: node(id, label, split), edge(src, dst), feature(row, col, val): a paper's words.
CREATE OR REPLACE MODEL gcn OPTIONS (label = 'label', split = 'split', seed = 0,
                                     epochs = 400, lr = 0.01, weight_decay = 0.0005, metric = 'loss') AS
WITH word AS (SELECT row AS id, col, val / sum(val) OVER (PARTITION BY row) AS val FROM feature),
     xw   AS (SELECT id, sum(embedding(col, 16, initial => 'glorot') * dropout(val, 0.5)) AS x FROM word GROUP BY id),
     loop AS (SELECT src, dst FROM edge UNION ALL SELECT id, id FROM node),
     a    AS (SELECT *, 1 / sqrt(count(*) OVER (PARTITION BY src) * count(*) OVER (PARTITION BY dst)) AS w FROM loop),
     h    AS (SELECT a.dst AS id, dropout(relu(sum(xw.x * a.w) + param(16, initial => 'zeros')), 0.5) AS x
              FROM a JOIN xw ON xw.id = a.src GROUP BY a.dst)
SELECT n.id, n.label, n.split, sum(linear(h.x, 7) * a.w) AS logits
FROM node n JOIN a ON a.dst = n.id JOIN h ON h.id = a.src GROUP BY ALL;
