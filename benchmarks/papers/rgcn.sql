-- Schlichtkrull et al. 2018, https://arxiv.org/abs/1703.06103, entity classification without features or bases.
-- Tables: node(id, label, split), triple(s, p, o) with the inverse of every triple.
CREATE OR REPLACE MODEL rgcn OPTIONS (label = 'label', split = 'split', seed = 0,
                                      epochs = 50, lr = 0.01, weight_decay = 0) AS
WITH edge AS (SELECT s AS src, p AS rel, o AS dst FROM triple),
     h    AS (SELECT id, dropout(relu(x), 0.5) AS x FROM relann.rgcn_featureless(node, edge, 16))
SELECT n.id, n.label, n.split, o.x AS logits
FROM node n JOIN relann.rgcn(h, edge, 4) o ON o.id = n.id WHERE n.label IS NOT NULL;
