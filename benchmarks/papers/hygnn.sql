-- Saifuddin et al. 2023 (HyGNN), https://arxiv.org/abs/2206.12747: drugs are hyperedges of their substructures.
-- Tables: drug(id), substructure(id), member(drug, substructure), pair(a, b, label, split).
CREATE OR REPLACE MODEL hygnn OPTIONS (label = 'label', split = 'split', seed = 0,
                                       epochs = 300, lr = 0.01, weight_decay = 0, metric = 'auroc') AS
WITH q AS (SELECT id, embedding(id, 64, initial => 'glorot') AS x FROM drug),
     p AS (SELECT id, embedding(id, 64, initial => 'glorot') AS x FROM substructure),
     m AS (SELECT drug AS hyperedge, substructure AS node FROM member),
     h AS (SELECT id, x FROM relann.hygnn(q, p, m, 64))
SELECT pair.a, pair.b, pair.label, pair.split, d.score
FROM pair JOIN relann.decode_mlp(h, pair, 64) d ON d.a = pair.a AND d.b = pair.b;
