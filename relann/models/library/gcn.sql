-- Graph convolution. Kipf and Welling 2017, https://arxiv.org/abs/1609.02907, equation 2.
--
--   X' = D^(-1/2) (A + I) D^(-1/2) X W + b
--
-- x is any embedding; x' has width n. Self-loops of `edge` count once; edges from or to no node, not at all.
CREATE LAYER gcn(node(id, x), edge(src, dst), n) AS
WITH loop   AS (SELECT src, dst FROM edge                                                      -- A + I
                WHERE src <> dst AND src IN (SELECT id FROM node) AND dst IN (SELECT id FROM node)
                UNION ALL SELECT id, id FROM node),
     degree AS (SELECT dst AS id, count(*) AS d FROM loop GROUP BY dst)                        -- D
SELECT l.dst AS id, sum(linear(v.x, n, bias => false) / sqrt(s.d * t.d)) + param(n, initial => 'zeros') AS x
FROM loop l JOIN node v ON v.id = l.src
            JOIN degree s ON s.id = l.src JOIN degree t ON t.id = l.dst
GROUP BY l.dst;
