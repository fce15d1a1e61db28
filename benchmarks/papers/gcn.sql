-- Kipf and Welling 2017, https://arxiv.org/abs/1609.02907: Â relu(Â X W₀) W₁ with dropout before each layer.
-- Tables: node(id, label, split), edge(src, dst), feature(row, col, val), a paper's words.
CREATE OR REPLACE MODEL gcn OPTIONS (label = 'label', split = 'split', seed = 0,
                                     epochs = 200, lr = 0.01, weight_decay = 0.0005, metric = 'loss') AS
WITH word AS (SELECT row AS id, col, val / sum(val) OVER (PARTITION BY row) AS val FROM feature),
     x    AS (SELECT id, sum(embedding(col, 16, initial => 'glorot') * dropout(val, 0.5)) AS x FROM word GROUP BY id),
     h    AS (SELECT id, dropout(relu(x), 0.5) AS x FROM relann.gcn(x, edge, 16))
SELECT n.id, n.label, n.split, o.x AS logits FROM node n JOIN relann.gcn(h, edge, 7) o ON o.id = n.id;
