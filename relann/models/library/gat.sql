-- Graph attention. Veličković et al. 2018, https://arxiv.org/abs/1710.10903, equations 1 to 5;
-- gatv2: Brody, Alon and Yahav 2022, https://arxiv.org/abs/2105.14491, equation 7.
--
--   z_i = W x_i      e_ij = leaky_relu(a · [z_j ‖ z_i])      gatv2: e_ij = a · leaky_relu(W₁ x_j + W₂ x_i)
--   α_ij = softmax_j e_ij over the neighbours j of i and i itself      x'_i = ‖_heads Σ_j α_ij z_j + b
--
-- x is any embedding; x' has width n, shared equally by the heads.
CREATE LAYER gat(node(id, x), edge(src, dst), n, heads = 1) AS
WITH loop AS (SELECT src, dst FROM edge WHERE src <> dst UNION ALL SELECT id, id FROM node),
     lin  AS (SELECT id, linear(x, n, bias => false) AS z FROM node),
     h    AS (SELECT id, z, dot(z, param(n), heads => heads) AS src, dot(z, param(n), heads => heads) AS dst FROM lin),
     e    AS (SELECT l.dst AS id, s.z, leaky_relu(s.src + t.dst, 0.2) AS e
              FROM loop l JOIN h s ON s.id = l.src JOIN h t ON t.id = l.dst),
     att  AS (SELECT id, z, softmax(e) OVER (PARTITION BY id) AS a FROM e)
SELECT id, sum(scale(z, a)) + param(n, initial => 'zeros') AS x FROM att GROUP BY id;

CREATE LAYER gatv2(node(id, x), edge(src, dst), n, heads = 1) AS
WITH loop AS (SELECT src, dst FROM edge WHERE src <> dst UNION ALL SELECT id, id FROM node),
     h    AS (SELECT id, linear(x, n) AS src, linear(x, n) AS dst FROM node),
     e    AS (SELECT l.dst AS id, s.src AS z, dot(leaky_relu(s.src + t.dst, 0.2), param(n), heads => heads) AS e
              FROM loop l JOIN h s ON s.id = l.src JOIN h t ON t.id = l.dst),
     att  AS (SELECT id, z, softmax(e) OVER (PARTITION BY id) AS a FROM e)
SELECT id, sum(scale(z, a)) + param(n, initial => 'zeros') AS x FROM att GROUP BY id;
