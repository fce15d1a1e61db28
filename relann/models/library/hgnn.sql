-- Hypergraph convolution. Feng et al. 2019 (HGNN), https://arxiv.org/abs/1809.09401; Bai, Zhang and Torr 2021,
-- https://arxiv.org/abs/1901.08150, equation 4: nodes to hyperedges and back.
--
--   X' = D^(-1) H B^(-1) Hᵀ X W + b      H: which node is in which hyperedge; D, B: degrees
--
-- x is any embedding; x' has width n. A node in no hyperedge gets b.
CREATE LAYER hgnn(node(id, x), member(node, hyperedge), n) AS
WITH e AS (SELECT m.hyperedge, avg(linear(v.x, n, bias => false)) AS z                    -- B^(-1) Hᵀ X W
           FROM member m JOIN node v ON v.id = m.node GROUP BY m.hyperedge),
     h AS (SELECT m.node AS id, avg(e.z) AS z                                             -- D^(-1) H …
           FROM member m JOIN e ON e.hyperedge = m.hyperedge GROUP BY m.node)
SELECT v.id, coalesce(h.z, 0) + param(n, initial => 'zeros') AS x FROM node v LEFT JOIN h ON h.id = v.id;
