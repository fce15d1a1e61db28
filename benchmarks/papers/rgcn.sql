CREATE OR REPLACE MODEL rgcn OPTIONS (label = 'label', split = 'split', seed = 0,
                                      epochs = 50, lr = 0.01, weight_decay = 0.0005) AS
WITH e AS (SELECT s AS src, p AS rel, o AS dst FROM triple),
     h AS (SELECT id, relu(x) AS x FROM relann.rgcn_featureless(node, e, 16)),
     o AS (SELECT id, x FROM relann.rgcn(h, e, 4))
SELECT n.id, n.label, n.split, o.x AS logits FROM node n JOIN o ON o.id = n.id WHERE n.label IS NOT NULL;
