-- Two layers of graph convolution over graphs whose nodes are all alike.
-- Tables: graph(id, label, split), node(id, graph), edge(src, dst) both ways.
CREATE OR REPLACE MODEL pairs OPTIONS (label = 'label', split = 'split', seed = 0,
                                       epochs = 100, lr = 0.01, weight_decay = 0, metric = 'loss') AS
WITH one AS (SELECT id, [1.0]::FLOAT[1] AS x FROM node),
     g   AS (SELECT id, relu(x) AS x FROM relann.gcn(one, edge, 16)),
     h   AS (SELECT id, relu(x) AS x FROM relann.gcn(g, edge, 16))
SELECT g.id, g.label, g.split, linear(avg(h.x), 6) AS logits
FROM graph g JOIN node v ON v.graph = g.id JOIN h ON h.id = v.id GROUP BY ALL;
