CREATE OR REPLACE MODEL hygnn OPTIONS (label = 'label', split = 'split', seed = 0,
                                       epochs = 100, lr = 0.01, metric = 'auroc') AS
WITH q AS (SELECT id, embedding(id, 64) AS x FROM drug),
     p AS (SELECT id, embedding(id, 64) AS x FROM substructure),
     m AS (SELECT drug AS hyperedge, substructure AS node FROM member),
     h AS (SELECT id, x FROM relann.hygnn(q, p, m, 64))
SELECT pair.a, pair.b, pair.label, pair.split, d.score
FROM relann.decode_mlp(h, pair, 64) d JOIN pair ON pair.a = d.a AND pair.b = d.b;
