-- Graph convolution. Kipf and Welling 2017, https://arxiv.org/abs/1609.02907, equation 2.
--
--   X' = D^(-1/2) (A + I) D^(-1/2) X W + b
--
-- x is any embedding; x' has width n. Self-loops of `edge` count once.
CREATE LAYER gcn(node(id, x), edge(src, dst), n) AS
WITH loop   AS (SELECT src, dst FROM edge WHERE src <> dst UNION ALL SELECT id, id FROM node),   -- A + I
     degree AS (SELECT dst AS id, count(*) AS d FROM loop GROUP BY dst)                          -- D
SELECT l.dst AS id, sum(linear(v.x, n, bias => false) / sqrt(s.d * t.d)) + param(n, initial => 'zeros') AS x
FROM loop l JOIN node v ON v.id = l.src
            JOIN degree s ON s.id = l.src JOIN degree t ON t.id = l.dst
GROUP BY l.dst;
