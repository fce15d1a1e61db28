-- A graph convolutional network (Kipf and Welling 2017, https://arxiv.org/abs/1609.02907) on Cora.
-- Tables: node(id, label, split), edge(src, dst), feature(row, col, val): a paper's words.
--
--   Z = Â · relu(Â · X · W₀) · W₁      Â = D^(-1/2) (A + I) D^(-1/2)

CREATE OR REPLACE MODEL gcn OPTIONS (label = 'label', split = 'split', seed = 0,
                                     epochs = 200, lr = 0.01, weight_decay = 0.0005, metric = 'loss') AS
WITH loop   AS (SELECT src, dst FROM edge UNION ALL SELECT id, id FROM node),            -- A + I
     degree AS (SELECT dst AS id, count(*) AS d FROM loop GROUP BY dst),                 -- D
     a      AS (SELECT l.src, l.dst, 1 / sqrt(s.d * t.d) AS w                            -- Â
                FROM loop l JOIN degree s ON s.id = l.src JOIN degree t ON t.id = l.dst),
     x      AS (SELECT row, col, val / sum(val) OVER (PARTITION BY row) AS val FROM feature),
     xw     AS (SELECT x.row AS id, sum(embedding(x.col, 16, initial => 'glorot') * dropout(x.val, 0.5)) AS z
                FROM x GROUP BY x.row),                                                  -- X · W₀, X sparse
     h      AS (SELECT a.dst AS id, dropout(relu(sum(xw.z * a.w)), 0.5) AS z
                FROM a JOIN xw ON xw.id = a.src GROUP BY a.dst)
SELECT n.id, n.label, n.split, sum(linear(h.z, 7) * a.w) AS logits
FROM node n JOIN a ON a.dst = n.id JOIN h ON h.id = a.src GROUP BY ALL;

SELECT metric, value FROM ml_evaluate('gcn', split => 'test');
