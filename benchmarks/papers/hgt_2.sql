-- Two layers.
-- Tables: node(id, type, label, split), edge(src, dst, rel), author_word and paper_word(id, col, val), term_x(id, x).
CREATE OR REPLACE MODEL hgt_2 OPTIONS (label = 'label', split = 'split', seed = 0,
                                       epochs = 100, lr = 0.005, weight_decay = 0.001, metric = 'loss') AS
WITH word AS (SELECT *, 'author' AS type FROM author_word UNION ALL SELECT *, 'paper' FROM paper_word),
     x AS (SELECT id, type, relu(sum(embedding([type, col], 64, initial => 'glorot') * dropout(val, 0.5))) AS x
           FROM word GROUP BY id, type
           UNION ALL SELECT id, 'term', relu(linear(x, 64)) FROM term_x
           UNION ALL SELECT id, 'conf', relu(param(64)) FROM node WHERE type = 'conf'),
     g AS (SELECT id, type, x FROM relann.hgt(x, edge, 64)),
     h AS (SELECT id, x FROM relann.hgt(g, edge, 64))
SELECT n.id, n.label, n.split, linear(dropout(h.x, 0.5), 4) AS logits
FROM node n JOIN h ON h.id = n.id WHERE n.type = 'author';
