-- case: join
SELECT v.name, p.year FROM paper p JOIN venue v ON v.id = p.venue WHERE p.id < 3;
-- | venue 0 | 1990 | paper#0·venue#0
-- | venue 1 | 1991 | paper#1·venue#1
-- | venue 2 | 1992 | paper#2·venue#2

-- case: projection
SELECT DISTINCT venue FROM paper WHERE id IN (3, 8, 14);
-- | 3 | paper#3 + paper#8
-- | 4 | paper#14

-- case: self-join
SELECT a.id FROM venue a JOIN venue b ON b.id <= a.id WHERE a.id < 3;
-- | 0 | venue#0²
-- | 1 | venue#0·venue#1 + venue#1²
-- | 2 | venue#0·venue#2 + venue#1·venue#2 + venue#2²

-- case: union
SELECT id FROM venue WHERE id < 2 UNION SELECT venue FROM paper WHERE id < 7;
-- | 0 | paper#0 + paper#5 + venue#0
-- | 1 | paper#1 + paper#6 + venue#1
-- | 2 | paper#2
-- | 3 | paper#3
-- | 4 | paper#4

-- case: semi join
SELECT id FROM venue WHERE id IN (SELECT venue FROM paper WHERE id < 7) AND id < 3;
-- | 0 | paper#0·venue#0 + paper#5·venue#0
-- | 1 | paper#1·venue#1 + paper#6·venue#1
-- | 2 | paper#2·venue#2

-- case: literal rows
SELECT v.id FROM venue v JOIN (VALUES (1), (1), (2)) t(i) ON t.i = v.id;
-- | 1 | 2·venue#1
-- | 2 | venue#2

-- case: row numbers
SELECT src FROM cites WHERE dst = 31 AND src < 20;
-- | 17 | cites#1
-- | 2 | cites#506
-- | 9 | cites#477

-- case: left join
SELECT p.id FROM paper p
LEFT JOIN venue v ON v.id = p.venue;
-- | line 3, column 11: a LEFT JOIN keeps rows because others are missing, and what is missing has no annotation: JOIN, or UNION ALL of two queries, has
-- |     LEFT JOIN venue v ON v.id = p.venue
-- |               ^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: anti join
SELECT p.id FROM paper p ANTI JOIN cites c ON c.src = p.id;
-- | line 2, column 36: an ANTI JOIN asks that rows are missing, and what is missing has no annotation
-- |     SELECT p.id FROM paper p ANTI JOIN cites c ON c.src = p.id
-- |                                        ^^^^^^^^^^^^^^^^^^^^^^^

-- case: not in
SELECT id FROM paper WHERE id NOT IN (SELECT src FROM cites);
-- | line 2, column 28: NOT IN asks that rows are missing, and what is missing has no annotation
-- |     SELECT id FROM paper WHERE id NOT IN (SELECT src FROM cites)
-- |                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: exists
SELECT id FROM paper p WHERE EXISTS (SELECT 1 FROM cites c WHERE c.src = p.id);
-- | line 2, column 45: EXISTS is not annotated: write it as IN or SEMI JOIN
-- |     SELECT id FROM paper p WHERE EXISTS (SELECT 1 FROM cites c WHERE c.src = p.id)
-- |                                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: except
SELECT id FROM paper EXCEPT SELECT src FROM cites;
-- | line 2, column 8: EXCEPT removes rows, and a semiring has no difference
-- |     SELECT id FROM paper EXCEPT SELECT src FROM cites
-- |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: aggregate
SELECT venue, count(*) AS n FROM paper GROUP BY venue;
-- | line 2, column 15: an aggregate computes a value from all rows of a group, whose annotations only ⊕ combines: group by keys alone, or put the aggregate around the annotated query
-- |     SELECT venue, count(*) AS n FROM paper GROUP BY venue
-- |                   ^^^^^^^

-- case: having
SELECT venue FROM paper GROUP BY venue HAVING max(year) > 2000;
-- | line 2, column 51: an aggregate computes a value from all rows of a group, whose annotations only ⊕ combines: group by keys alone, or put the aggregate around the annotated query
-- |     SELECT venue FROM paper GROUP BY venue HAVING max(year) > 2000
-- |                                                       ^^^^

-- case: window
SELECT id, rank() OVER (ORDER BY year) AS r FROM paper;
-- | line 2, column 12: a window looks at other rows than those its row is derived from
-- |     SELECT id, rank() OVER (ORDER BY year) AS r FROM paper
-- |                ^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: limit
SELECT id FROM paper LIMIT 3;
-- | line 2, column 28: LIMIT keeps rows by their place, and which rows stand first is no derivation
-- |     SELECT id FROM paper LIMIT 3
-- |                                ^

-- case: order
SELECT id FROM paper ORDER BY id;
-- | line 2, column 31: rows of an annotated relation have no order: put ORDER BY outside
-- |     SELECT id FROM paper ORDER BY id
-- |                                   ^^

-- case: recursion
WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 3) SELECT i FROM r;
-- | line 2, column 16: a recursive query may derive a row in infinitely many ways
-- |     WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 3) SELECT i FROM r
-- |                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: scalar sub-query
SELECT id FROM paper WHERE year = (SELECT year FROM paper WHERE id = 3);
-- | line 2, column 43: a sub-query cannot stand inside an expression of a lifted query; join it instead (JOIN, SEMI JOIN, ANTI JOIN, or IN at the top of WHERE)
-- |     SELECT id FROM paper WHERE year = (SELECT year FROM paper WHERE id = 3)
-- |                                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: column taken
SELECT id AS provenance FROM venue;
-- | line 2, column 1: the query has a column `provenance` already, which is where its annotations go; give it another name with AS
-- |     SELECT id AS provenance FROM venue
-- |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: asof join
SELECT p.id FROM paper p ASOF JOIN venue v ON p.venue >= v.id;
-- | line 2, column 36: ASOF JOIN picks rows by how others stand to them, which no annotation says
-- |     SELECT p.id FROM paper p ASOF JOIN venue v ON p.venue >= v.id
-- |                                        ^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: unnest in the select list
SELECT unnest([id, 1]) AS i FROM venue;
-- | line 2, column 8: unnest() in the select list makes rows from one: UNNEST in FROM of a table
-- |     SELECT unnest([id, 1]) AS i FROM venue
-- |            ^^^^^^^^^^^^^

-- case: distinct on
SELECT DISTINCT ON (venue) id FROM paper;
-- | line 2, column 21: DISTINCT ON keeps rows by their place; DISTINCT has a meaning
-- |     SELECT DISTINCT ON (venue) id FROM paper
-- |                         ^^^^^
