-- case: unknown table
SELECT linear(p.x, 3) AS z FROM papr p;
-- | line 1, column 33: there is no table `papr`. Did you mean `paper`?
-- |     SELECT linear(p.x, 3) AS z FROM papr p
-- |                                     ^^^^

-- case: unknown table inside a content sub-query
SELECT linear(p.x, 3) AS z FROM paper p JOIN (SELECT id FROM venu) v ON v.id = p.id;
-- | line 1, column 62: Table with name venu does not exist! Did you mean "venue"?
-- |     SELECT linear(p.x, 3) AS z FROM paper p JOIN (SELECT id FROM venu) v ON v.id = p.id
-- |                                                                  ^^^^

-- case: unknown column
SELECT linear(p.x, 3) AS z
FROM cites AS c JOIN paper p ON c.src = p.titel;
-- | line 2, column 43: `p` has no column `titel`; it has id, title, year, venue, open, seen, x, label, split. Did you mean `title`?
-- |     FROM cites AS c JOIN paper p ON c.src = p.titel
-- |                                               ^^^^^

-- case: unknown unqualified column
SELECT linear(yeer, 3) AS z FROM paper;
-- | line 1, column 15: there is no column `yeer` here; there are id, label, open, seen, split, title, venue, x, year. Did you mean `year`?
-- |     SELECT linear(yeer, 3) AS z FROM paper
-- |                   ^^^^

-- case: unknown alias
SELECT linear(q.x, 3) AS z FROM paper p;
-- | line 1, column 15: there is no relation `q` here; there are p.
-- |     SELECT linear(q.x, 3) AS z FROM paper p
-- |                   ^

-- case: ambiguous column
SELECT id, linear(p.x, 3) AS z FROM paper p JOIN venue v ON v.id = p.venue;
-- | line 1, column 8: `id` is ambiguous; it could be `p.id` or `v.id`
-- |     SELECT id, linear(p.x, 3) AS z FROM paper p JOIN venue v ON v.id = p.venue
-- |            ^^

-- case: a relation where a column is wanted
SELECT linear(p, 3) AS z FROM paper p;
-- | line 1, column 15: `p` is a relation, not a column; write `p.column`, or `features(p, n)` for all its columns
-- |     SELECT linear(p, 3) AS z FROM paper p
-- |                   ^

-- case: unknown function
SELECT linaer(x, 3) AS z, linear(x, 3) AS y FROM paper;
-- | line 1, column 8: function linaer() is not defined on embeddings. Did you mean `linear`?
-- |     SELECT linaer(x, 3) AS z, linear(x, 3) AS y FROM paper
-- |            ^^^^^^^^^^^

-- case: unknown argument
SELECT linear(x, 3, biaz => false) AS z FROM paper;
-- | line 1, column 8: linear() has no argument `biaz =>`; it takes bias, heads, per, share. Did you mean `bias`?
-- |     SELECT linear(x, 3, biaz => false) AS z FROM paper
-- |            ^^^^^^^^^^^

-- case: wrong number of arguments
SELECT linear(x) AS z FROM paper;
-- | line 1, column 8: linear() takes 2 arguments, not 1
-- |     SELECT linear(x) AS z FROM paper
-- |            ^^^^^^^^

-- case: width is not a number
SELECT linear(x, year) AS z FROM paper;
-- | line 1, column 18: linear() takes a width here, a whole number above 0, not `paper.year`
-- |     SELECT linear(x, year) AS z FROM paper
-- |                      ^^^^

-- case: width is zero
SELECT linear(x, 0) AS z FROM paper;
-- | line 1, column 18: linear() takes a width here, a whole number above 0, not `0`
-- |     SELECT linear(x, 0) AS z FROM paper
-- |                      ^

-- case: bias is not a boolean
SELECT linear(x, 3, bias => 1) AS z FROM paper;
-- | line 1, column 29: `bias =>` takes true or false
-- |     SELECT linear(x, 3, bias => 1) AS z FROM paper
-- |                                 ^

-- case: widths do not fit
SELECT linear(x, 3) + linear(x, 4) AS z FROM paper;
-- | line 1, column 8: widths 3 and 4 do not fit together
-- |     SELECT linear(x, 3) + linear(x, 4) AS z FROM paper
-- |            ^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: dot of different widths
SELECT dot(linear(x, 3), linear(x, 4)) AS z FROM paper;
-- | line 1, column 8: dot takes equal widths, these are 3 and 4
-- |     SELECT dot(linear(x, 3), linear(x, 4)) AS z FROM paper
-- |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: text where a number is wanted
SELECT linear(title, 3) AS z FROM paper;
-- | line 1, column 15: `paper.title` is VARCHAR, not a number; wrap it in category()
-- |     SELECT linear(title, 3) AS z FROM paper
-- |                   ^^^^^

-- case: timestamp where a number is wanted
SELECT linear(seen, 3) AS z FROM paper;
-- | line 1, column 15: `paper.seen` is TIMESTAMP, not a number; wrap it in time_since() or features()
-- |     SELECT linear(seen, 3) AS z FROM paper
-- |                   ^^^^

-- case: learned predicate
SELECT id, linear(x, 3) AS z FROM paper WHERE linear(x, 1) > 2;
-- | line 1, column 47: WHERE depends on `linear(…)`, which is learned. Rows, groups and orders are found once, before any weight is known, so they may use content columns only
-- |     SELECT id, linear(x, 3) AS z FROM paper WHERE linear(x, 1) > 2
-- |                                                   ^^^^^^^^^^^

-- case: learned join condition
SELECT a.id, linear(a.x, 3) AS z FROM paper a JOIN paper b ON linear(a.x, 1) > linear(b.x, 1);
-- | line 1, column 63: a join condition depends on `linear(…)`, which is learned. Rows, groups and orders are found once, before any weight is known, so they may use content columns only
-- |     SELECT a.id, linear(a.x, 3) AS z FROM paper a JOIN paper b ON linear(a.x, 1) > linear(b.x, 1)
-- |                                                                   ^^^^^^^^^^^^^

-- case: learned group key
SELECT linear(x, 1) AS k, sum(linear(x, 3)) AS z FROM paper GROUP BY linear(x, 1);
-- | line 1, column 70: a group key depends on `linear(…)`, which is learned. Rows, groups and orders are found once, before any weight is known, so they may use content columns only
-- |     SELECT linear(x, 1) AS k, sum(linear(x, 3)) AS z FROM paper GROUP BY linear(x, 1)
-- |                                                                          ^^^^^^^^^^^

-- case: learned HAVING
SELECT venue, sum(linear(x, 3)) AS z FROM paper GROUP BY venue HAVING sum(linear(x, 1)) > 0;
-- | line 1, column 71: HAVING depends on an aggregate of embeddings, which is learned. Rows, groups and orders are found once, before any weight is known, so they may use content columns only
-- |     SELECT venue, sum(linear(x, 3)) AS z FROM paper GROUP BY venue HAVING sum(linear(x, 1)) > 0
-- |                                                                           ^^^^^^^^^^^^^^^

-- case: learned QUALIFY
SELECT id, linear(x, 3) AS z FROM paper QUALIFY row_number() OVER (ORDER BY linear(x, 1)) < 3;
-- | line 1, column 77: QUALIFY depends on `linear(…)`, which is learned. Rows, groups and orders are found once, before any weight is known, so they may use content columns only
-- |     SELECT id, linear(x, 3) AS z FROM paper QUALIFY row_number() OVER (ORDER BY linear(x, 1)) < 3
-- |                                                                                 ^^^^^^^^^^^

-- case: learned partition
SELECT id, softmax(linear(x, 1)) OVER (PARTITION BY linear(x, 2)) AS z FROM paper;
-- | line 1, column 53: PARTITION BY depends on `linear(…)`, which is learned. Rows, groups and orders are found once, before any weight is known, so they may use content columns only
-- |     SELECT id, softmax(linear(x, 1)) OVER (PARTITION BY linear(x, 2)) AS z FROM paper
-- |                                                         ^^^^^^^^^^^

-- case: column outside the group
SELECT id, sum(linear(x, 3)) AS z FROM paper GROUP BY venue;
-- | line 1, column 8: `paper.id` is neither a group key nor inside an aggregate; add it to GROUP BY, or take any_value(paper.id)
-- |     SELECT id, sum(linear(x, 3)) AS z FROM paper GROUP BY venue
-- |            ^^

-- case: aggregate inside a group key
SELECT sum(linear(x, 3)) AS z FROM paper GROUP BY count(*);
-- | line 1, column 51: a group key cannot hold an aggregate
-- |     SELECT sum(linear(x, 3)) AS z FROM paper GROUP BY count(*)
-- |                                                       ^^^^^^^

-- case: softmax without OVER
SELECT softmax(linear(x, 1)) AS z FROM paper;
-- | line 1, column 8: softmax is a window over rows: write softmax(score) OVER (PARTITION BY key)
-- |     SELECT softmax(linear(x, 1)) AS z FROM paper
-- |            ^^^^^^^^^^^^^^^^^^^

-- case: aggregate unknown to embeddings
SELECT venue, median(linear(x, 3)) AS z FROM paper GROUP BY venue;
-- | line 1, column 15: median() cannot reduce embeddings; the aggregates are sum, avg, min, max, count, stddev
-- |     SELECT venue, median(linear(x, 3)) AS z FROM paper GROUP BY venue
-- |                   ^^^^^^^^^^^^^^^^^^

-- case: distinct aggregate of embeddings
SELECT venue, sum(DISTINCT linear(x, 3)) AS z FROM paper GROUP BY venue;
-- | line 1, column 15: DISTINCT cannot reduce embeddings; the aggregates are sum, avg, min, max, count, stddev
-- |     SELECT venue, sum(DISTINCT linear(x, 3)) AS z FROM paper GROUP BY venue
-- |                   ^^^^^^^^^^^^^^^^^^^^^^^^

-- case: frame on a learned window
SELECT id, sum(linear(x, 3)) OVER (ORDER BY year ROWS 2 PRECEDING) AS z FROM paper;
-- | line 1, column 12: a frame (ROWS or RANGE …) is not understood on embeddings; leave it out: with ORDER BY the window runs from the partition's start to the row
-- |     SELECT id, sum(linear(x, 3)) OVER (ORDER BY year ROWS 2 PRECEDING) AS z FROM paper
-- |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: ORDER BY
SELECT id, linear(x, 3) AS z FROM paper ORDER BY id;
-- | line 1, column 50: ORDER has no meaning in a lifted query, whose rows have no order; keep the first rows of each group with QUALIFY row_number() OVER (…) <= k, or order a sub-query without learned functions
-- |     SELECT id, linear(x, 3) AS z FROM paper ORDER BY id
-- |                                                      ^^

-- case: LIMIT
SELECT id, linear(x, 3) AS z FROM paper LIMIT 10;
-- | line 1, column 47: LIMIT has no meaning in a lifted query, whose rows have no order; keep the first rows of each group with QUALIFY row_number() OVER (…) <= k, or order a sub-query without learned functions
-- |     SELECT id, linear(x, 3) AS z FROM paper LIMIT 10
-- |                                                   ^^

-- case: UNION of embeddings
SELECT id, linear(x, 3) AS z FROM paper UNION SELECT id, linear(x, 3) AS z FROM paper;
-- | line 1, column 8: UNION removes duplicates, and embeddings have no equality; use UNION ALL
-- |     SELECT id, linear(x, 3) AS z FROM paper UNION SELECT id, linear(x, 3) AS z FROM paper
-- |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: UNION ALL of different widths
SELECT id, linear(x, 3) AS z FROM paper UNION ALL SELECT id, linear(x, 4) AS z FROM paper;
-- | line 1, column 8: UNION ALL stacks (id INTEGER, z embedding[3]) and (id INTEGER, z embedding[4]); they must agree
-- |     SELECT id, linear(x, 3) AS z FROM paper UNION ALL SELECT id, linear(x, 4) AS z FROM paper
-- |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: UNION ALL of different numbers of columns
SELECT id, linear(x, 3) AS z FROM paper UNION ALL SELECT linear(x, 3) AS z FROM paper;
-- | line 1, column 58: UNION ALL stacks 2 columns (id, z) and 1 (z); they must agree
-- |     SELECT id, linear(x, 3) AS z FROM paper UNION ALL SELECT linear(x, 3) AS z FROM paper
-- |                                                              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: DISTINCT embeddings
SELECT DISTINCT linear(x, 3) AS z FROM paper;
-- | line 1, column 17: DISTINCT cannot compare embeddings; GROUP BY the content instead
-- |     SELECT DISTINCT linear(x, 3) AS z FROM paper
-- |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: two relations of one name
SELECT linear(p.x, 3) AS z FROM paper p JOIN venue p ON true;
-- | line 1, column 46: two relations are called `p`; give one another alias
-- |     SELECT linear(p.x, 3) AS z FROM paper p JOIN venue p ON true
-- |                                                  ^^^^^^^

-- case: two columns of one name
SELECT id AS z, linear(x, 3) AS z FROM paper;
-- | line 1, column 17: two columns are named `z`; give one another name with AS
-- |     SELECT id AS z, linear(x, 3) AS z FROM paper
-- |                     ^^^^^^^^^^^^^^^^^

-- case: USING a column one side lacks
SELECT linear(p.x, 3) AS z FROM paper p JOIN cites c USING (id);
-- | line 1, column 46: USING (id): `c` has no column `id`
-- |     SELECT linear(p.x, 3) AS z FROM paper p JOIN cites c USING (id)
-- |                                                  ^^^^^^^^^^^^^^^^^

-- case: EXCLUDE of an unknown column
SELECT * EXCLUDE (titel), linear(x, 3) AS z FROM paper;
-- | line 1, column 8: EXCLUDE names `titel`, which is not there. Did you mean `title`?
-- |     SELECT * EXCLUDE (titel), linear(x, 3) AS z FROM paper
-- |            ^^^^^^^^^^^^^^^^

-- case: features of an unknown alias
SELECT features(q, 8) AS z FROM paper p;
-- | line 1, column 17: there is no relation `q` here
-- |     SELECT features(q, 8) AS z FROM paper p
-- |                     ^

-- case: features excludes an unknown column
SELECT features(p, 8, exclude => [titel]) AS z FROM paper p;
-- | line 1, column 35: features() does not read `titel`; it reads title, year, venue, open, seen, x, label, split. Did you mean `title`?
-- |     SELECT features(p, 8, exclude => [titel]) AS z FROM paper p
-- |                                       ^^^^^

-- case: category without a width
SELECT category(title) AS z FROM paper;
-- | line 1, column 8: category() takes 2 arguments, not 1
-- |     SELECT category(title) AS z FROM paper
-- |            ^^^^^^^^^^^^^^

-- case: numeric of text
SELECT numeric(title) AS z FROM paper;
-- | line 1, column 8: numeric() takes a number, `paper.title` is VARCHAR
-- |     SELECT numeric(title) AS z FROM paper
-- |            ^^^^^^^^^^^^^

-- case: text by an encoder that is not there
SELECT text(title, 8, encoder => './nowhere') AS z FROM paper;
-- | line 1, column 8: there is no text encoder `./nowhere`: ./nowhere is no folder
-- |     SELECT text(title, 8, encoder => './nowhere') AS z FROM paper
-- |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: text by an encoder without quotes
SELECT text(title, 8, encoder => 8) AS z FROM paper;
-- | line 1, column 8: `encoder =>` takes the name or the folder of a text encoder in quotes
-- |     SELECT text(title, 8, encoder => 8) AS z FROM paper
-- |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: text of a row, a column left out that is not there
SELECT text(p, 8, exclude => [titel]) AS z FROM paper p;
-- | line 1, column 31: text() does not read `titel`; it reads title, year, venue, open, seen, x, label, split. Did you mean `title`?
-- |     SELECT text(p, 8, exclude => [titel]) AS z FROM paper p
-- |                                   ^^^^^

-- case: text of a column leaves nothing out
SELECT text(title, 8, exclude => [year]) AS z FROM paper;
-- | line 1, column 35: text() has no argument `exclude =>`; it takes encoder, share.
-- |     SELECT text(title, 8, exclude => [year]) AS z FROM paper
-- |                                       ^^^^

-- case: text of a row above a group
SELECT year, text(p, 8) AS z FROM paper p GROUP BY year;
-- | line 1, column 14: text() stands above GROUP BY; write it inside an aggregate
-- |     SELECT year, text(p, 8) AS z FROM paper p GROUP BY year
-- |                  ^^^^^^^^^

-- case: text of a number
SELECT text(year, 8) AS z FROM paper;
-- | line 1, column 8: text() takes VARCHAR, `paper.year` is INTEGER
-- |     SELECT text(year, 8) AS z FROM paper
-- |            ^^^^^^^^^^^^

-- case: time_since without a task
SELECT time_since(seen, 8) AS z FROM paper;
-- | line 1, column 8: time_since() counts from a task's anchor, and there is no task here; say from when with `at => …`
-- |     SELECT time_since(seen, 8) AS z FROM paper
-- |            ^^^^^^^^^^^^^^^^^^

-- case: time_since of a number
SELECT time_since(year, 8, at => seen) AS z FROM paper;
-- | line 1, column 8: time_since() takes a date or timestamp, `paper.year` is INTEGER
-- |     SELECT time_since(year, 8, at => seen) AS z FROM paper
-- |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: dropout probability out of range
SELECT dropout(linear(x, 3), 1.5) AS z FROM paper;
-- | line 1, column 8: dropout takes a probability in [0, 1), not 1.5
-- |     SELECT dropout(linear(x, 3), 1.5) AS z FROM paper
-- |            ^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: share of different shapes
SELECT linear(x, 3, share => 'w') AS a, linear(x, 4, share => 'w') AS b FROM paper;
-- | line 1, column 41: `w` is shared with a call of another shape: (32, 3) there, (32, 4) here
-- |     SELECT linear(x, 3, share => 'w') AS a, linear(x, 4, share => 'w') AS b FROM paper
-- |                                             ^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: type error in content
SELECT linear(x, 3) AS z, year + title AS y FROM paper;
-- | line 1, column 27: No function matches the given name and argument types '+(INTEGER, VARCHAR)'. You might need to add explicit type casts.
-- |     SELECT linear(x, 3) AS z, year + title AS y FROM paper
-- |                               ^^^^^^^^^^^^

-- case: sub-query inside an expression
SELECT linear(x, 3) AS z, (SELECT max(year) FROM paper) AS y FROM paper;
-- | line 1, column 39: a sub-query cannot stand inside an expression of a lifted query; join it instead (JOIN, SEMI JOIN, ANTI JOIN, or IN at the top of WHERE)
-- |     SELECT linear(x, 3) AS z, (SELECT max(year) FROM paper) AS y FROM paper
-- |                                           ^^^^^^^^^^^^^^^^

-- case: EXISTS
SELECT linear(x, 3) AS z FROM paper p WHERE EXISTS (SELECT 1 FROM cites c WHERE c.src = p.id);
-- | line 1, column 60: a sub-query cannot stand inside an expression of a lifted query; join it instead (JOIN, SEMI JOIN, ANTI JOIN, or IN at the top of WHERE)
-- |     SELECT linear(x, 3) AS z FROM paper p WHERE EXISTS (SELECT 1 FROM cites c WHERE c.src = p.id)
-- |                                                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: embedding of a learned key
SELECT embedding(linear(x, 1), 3) AS z FROM paper;
-- | line 1, column 18: the key of embedding() depends on `linear(…)`, which is learned. Rows, groups and orders are found once, before any weight is known, so they may use content columns only
-- |     SELECT embedding(linear(x, 1), 3) AS z FROM paper
-- |                      ^^^^^^^^^^^

-- case: unknown layer
SELECT z FROM relann.gnc(paper, cites, 3);
-- | line 1, column 22: there is no layer `relann.gnc`
-- |     SELECT z FROM relann.gnc(paper, cites, 3)
-- |                          ^^^^^^^^^^^^^^^^^^^

-- case: mistake in a sub-query nobody reads
WITH unread AS (SELECT linear(nothing, 3) AS z FROM paper) SELECT linear(x, 3) AS z FROM paper;
-- | line 1, column 31: there is no column `nothing` here; there are id, label, open, seen, split, title, venue, x, year.
-- |     WITH unread AS (SELECT linear(nothing, 3) AS z FROM paper) SELECT linear(x, 3) AS z FROM paper
-- |                                   ^^^^^^^

-- case: LEFT JOIN without a condition
SELECT linear(p.x, 3) AS z FROM paper p LEFT JOIN venue v;
-- | line 1, column 51: a LEFT JOIN needs ON or USING
-- |     SELECT linear(p.x, 3) AS z FROM paper p LEFT JOIN venue v
-- |                                                       ^^^^^^^

-- case: GROUP BY position out of range
SELECT venue, sum(linear(x, 3)) AS z FROM paper GROUP BY 3;
-- | line 1, column 58: GROUP BY 3: there are 2 columns
-- |     SELECT venue, sum(linear(x, 3)) AS z FROM paper GROUP BY 3
-- |                                                              ^

-- case: recursive embeddings
WITH RECURSIVE r AS (SELECT id, linear(x, 3) AS z FROM paper UNION ALL SELECT id, z FROM r) SELECT * FROM r;
-- | line 1, column 16: a recursive query cannot hold learned functions
-- |     WITH RECURSIVE r AS (SELECT id, linear(x, 3) AS z FROM paper UNION ALL SELECT id, z FROM r) SELECT * FROM r
-- |                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: GROUPING SETS
SELECT venue, sum(linear(x, 3)) AS z FROM paper GROUP BY ROLLUP (venue);
-- | line 1, column 66: groups of several grains are not understood in a lifted query
-- |     SELECT venue, sum(linear(x, 3)) AS z FROM paper GROUP BY ROLLUP (venue)
-- |                                                                      ^^^^^

-- case: case over embeddings
SELECT CASE WHEN year > 2000 THEN linear(x, 3) END AS z FROM paper;
-- | line 1, column 18: CASE does not choose among embeddings; multiply by a condition, as in `x * (year > 2000)::INTEGER`, filter an aggregate, or stack cases with UNION ALL
-- |     SELECT CASE WHEN year > 2000 THEN linear(x, 3) END AS z FROM paper
-- |                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: tabs keep the caret in place
SELECT	linear(nothing, 3) AS z FROM paper;
-- | line 1, column 15: there is no column `nothing` here; there are id, label, open, seen, split, title, venue, x, year.
-- |     SELECT	linear(nothing, 3) AS z FROM paper
-- |           	       ^^^^^^^

-- case: DISTINCT ON
SELECT DISTINCT ON (year) id, year, linear(x, 3) AS z FROM paper;
-- | line 1, column 21: DISTINCT ON keeps the first row by an order, and a lifted query has none; keep it with QUALIFY row_number() OVER (…) = 1
-- |     SELECT DISTINCT ON (year) id, year, linear(x, 3) AS z FROM paper
-- |                         ^^^^
