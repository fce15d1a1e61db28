-- A multilayer perceptron on the rows of one relation: two linear layers with relu between them.
--
--   x' = W₂ relu(W₁ x + b₁) + b₂      of widths `hidden` and n
CREATE LAYER mlp(node(id, x), n, hidden = 64) AS
SELECT id, mlp(x, hidden, n) AS x FROM node;
