-- Hu et al. 2020, https://arxiv.org/abs/2003.01332, one layer of 8 heads. Conferences have no features.
-- Tables: node(id, type, label, split), edge(src, dst, rel), author_word and paper_word(id, col, val), term_x(id, x).
CREATE OR REPLACE MODEL hgt OPTIONS (label = 'label', split = 'split', seed = 0,
                                     epochs = 100, lr = 0.005, weight_decay = 0.005, metric = 'accuracy') AS
WITH word AS (SELECT *, 'author' AS type FROM author_word UNION ALL SELECT *, 'paper' FROM paper_word),
     x AS (SELECT id, type, relu(sum(embedding([type, col], 64, initial => 'glorot') * dropout(val, 0.8))) AS x
           FROM word GROUP BY id, type
           UNION ALL SELECT id, 'term', relu(linear(x, 64)) FROM term_x
           UNION ALL SELECT id, 'conf', relu(param(64)) FROM node WHERE type = 'conf')
SELECT n.id, n.label, n.split, linear(dropout(h.x, 0.8), 4) AS logits
FROM node n JOIN relann.hgt(x, edge, 64) h ON h.id = n.id WHERE n.type = 'author';
