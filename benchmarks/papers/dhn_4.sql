-- Maehara and NT 2024 (NeurIPS), one layer: rooted cycles of 2 to 4 different nodes.
-- Tables: graph(id, label, split), node(id, graph), edge(src, dst) both ways.
CREATE OR REPLACE MODEL dhn OPTIONS (label = 'label', split = 'split', seed = 0,
                                     epochs = 100, lr = 0.01, weight_decay = 0, metric = 'loss') AS
WITH one AS (SELECT id, [1.0]::FLOAT[1] AS x FROM node),
     c   AS (SELECT id, 2 AS k, x FROM relann.cycle_2(one, edge, 8)
             UNION ALL SELECT id, 3, x FROM relann.cycle_3_distinct(one, edge, 8)
             UNION ALL SELECT id, 4, x FROM relann.cycle_4_distinct(one, edge, 8)),
     h   AS (SELECT id, relu(batch_norm(sum(linear(x, 16, per => k)))) AS x FROM c GROUP BY id)
SELECT g.id, g.label, g.split, linear(avg(h.x), 10) AS logits
FROM graph g JOIN node v ON v.graph = g.id JOIN h ON h.id = v.id GROUP BY ALL;
