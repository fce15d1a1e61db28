-- Maehara and NT 2024 (NeurIPS), one layer: rooted cliques of 4 nodes, a layer that is not in the library.
-- Tables: graph(id, label, split), node(id, graph), edge(src, dst) both ways.
CREATE OR REPLACE MODEL pairs OPTIONS (label = 'label', split = 'split', seed = 0,
                                       epochs = 300, lr = 0.01, weight_decay = 0, metric = 'loss') AS
WITH one AS (SELECT id, [1.0]::FLOAT[1] AS x FROM node),
     c   AS (SELECT v.id, coalesce(k.x, 0) AS x FROM node v LEFT JOIN clique_4(one, edge, 8) k ON k.id = v.id),
     h   AS (SELECT id, mlp(batch_norm(linear(x, 16)), 64, 64) AS x FROM c)
SELECT g.id, g.label, g.split, mlp(avg(h.x), 64, 6) AS logits
FROM graph g JOIN node v ON v.graph = g.id JOIN h ON h.id = v.id GROUP BY ALL;
