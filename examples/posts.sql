-- A language model over rows and GraphSAGE over their links, as one model: which posts of a forum
-- (bicycles.meta of Stack Exchange) score above the median? Run it where posts.parquet and
-- postLinks.parquet lie: relann run posts.sql
--
--   x = LM("kind: question; title: …; body: …")      h = relu(SAGE(x))      logit = SAGE(h) + x·w
--
-- OPTIONS (finetune = true) would train the language model too.

CREATE OR REPLACE TABLE post (id BIGINT PRIMARY KEY, kind VARCHAR, title VARCHAR, tags VARCHAR,
                              body VARCHAR, good BOOLEAN, split VARCHAR);
INSERT INTO post
SELECT Id, CASE PostTypeId WHEN 1 THEN 'question' ELSE 'answer' END, Title, Tags,
       left(regexp_replace(Body, '<[^>]*>', ' ', 'g'), 300), Score > 3,
       CASE ntile(10) OVER (ORDER BY CreationDate, Id) WHEN 10 THEN 'test' WHEN 9 THEN 'val' ELSE 'train' END
FROM 'posts.parquet' WHERE PostTypeId IN (1, 2);

CREATE OR REPLACE TABLE edge AS                                   -- answers, links, and back
WITH link AS (SELECT Id AS src, ParentId AS dst FROM 'posts.parquet' WHERE ParentId IS NOT NULL
              UNION SELECT PostId, RelatedPostId FROM 'postLinks.parquet')
SELECT src, dst FROM link UNION SELECT dst, src FROM link;

CREATE OR REPLACE MODEL good_post OPTIONS (label = 'good', split = 'split', epochs = 20, lr = 0.003) AS
WITH node AS (SELECT p.id, text(p, 64, encoder => 'all-MiniLM-L6-v2') AS x FROM post p),
     h    AS (SELECT id, relu(x) AS x FROM relann.sage(node, edge, 64))
SELECT p.id, p.good, p.split, s.x + linear(n.x, 1) AS logit
FROM post p JOIN node n ON n.id = p.id JOIN relann.sage(h, edge, 1) s ON s.id = p.id;

SELECT metric, value FROM ml_evaluate('good_post', split => 'test');
