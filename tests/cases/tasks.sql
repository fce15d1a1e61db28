-- case: churn
CREATE TASK churn OPTIONS (val = '2020-05-01', test = '2020-07-01') AS PREDICT COUNT(orders.*, 0, 30, days) = 0 FOR EACH customers.customer_id;
-- | task `churn`: binary, `label` of 54 seeds by `customer_id` of `customers` and `anchor`
-- |   horizon 30 days, regime frozen (data cut where test begins)
-- |   train        24  2020-01-02 … 2020-04-01  50.0 % true
-- |   val          12  2020-05-01 … 2020-05-31  50.0 % true
-- |   test         18  2020-07-01 … 2020-08-30  50.0 % true
-- |   note: 2 tables have no time column and are always visible: marks (0 rows), products (2 rows)
-- | WITH anchors AS (
-- |     SELECT TIMESTAMP '2020-05-01 00:00:00' - k * INTERVAL 30 DAY AS anchor, 'train' AS split FROM range(1, 5) r(k)
-- |     UNION ALL SELECT TIMESTAMP '2020-05-01 00:00:00' + k * INTERVAL 30 DAY AS anchor, 'val' AS split FROM range(0, 2) r(k)
-- |     UNION ALL SELECT TIMESTAMP '2020-07-01 00:00:00' + k * INTERVAL 30 DAY AS anchor, 'test' AS split FROM range(0, 3) r(k)
-- | ),
-- | w1 AS (  -- COUNT(orders.*, 0, 30, days)
-- |     SELECT t."customer_id" AS entity, a.anchor, count(*) AS value
-- |     FROM anchors AS a JOIN "orders" AS t
-- |       ON t."ts" > a.anchor AND t."ts" <= a.anchor + INTERVAL 30 DAY
-- |     WHERE t."customer_id" IS NOT NULL
-- |     GROUP BY ALL
-- | )
-- | SELECT e."customer_id" AS "customer_id", a.anchor AS "anchor", coalesce(w1.value, 0) = 0 AS "label", a.split AS "split"
-- | FROM anchors AS a
-- | JOIN "customers" AS e ON e."signup" <= a.anchor
-- | LEFT JOIN w1 ON w1.entity = e."customer_id" AND w1.anchor = a.anchor
-- | WHERE e."customer_id" IS NOT NULL

-- case: churn by share
CREATE TASK churn AS PREDICT NOT EXISTS(orders.*, 0, 30, days) FOR EACH customers.customer_id;
-- | task `churn`: binary, `label` of 54 seeds by `customer_id` of `customers` and `anchor`
-- |   horizon 30 days, regime frozen (data cut where test begins)
-- |   train        36  2020-01-29 … 2020-06-27  50.0 % true
-- |   val           6  2020-07-27 … 2020-07-27  50.0 % true
-- |   test         12  2020-08-26 … 2020-09-25  50.0 % true
-- |   note: validation begins at 2020-07-27 and test at 2020-08-26, chosen by share
-- |   note: 2 tables have no time column and are always visible: marks (0 rows), products (2 rows)
-- | WITH anchors AS (
-- |     SELECT TIMESTAMP '2020-09-25 00:00:00' - k * INTERVAL 30 DAY AS anchor, 'train' AS split FROM range(3, 9) r(k)
-- |     UNION ALL SELECT TIMESTAMP '2020-09-25 00:00:00' - k * INTERVAL 30 DAY AS anchor, 'val' AS split FROM range(2, 3) r(k)
-- |     UNION ALL SELECT TIMESTAMP '2020-09-25 00:00:00' - k * INTERVAL 30 DAY AS anchor, 'test' AS split FROM range(0, 2) r(k)
-- | ),
-- | w1 AS (  -- EXISTS(orders.*, 0, 30, days)
-- |     SELECT t."customer_id" AS entity, a.anchor, true AS value
-- |     FROM anchors AS a JOIN "orders" AS t
-- |       ON t."ts" > a.anchor AND t."ts" <= a.anchor + INTERVAL 30 DAY
-- |     WHERE t."customer_id" IS NOT NULL
-- |     GROUP BY ALL
-- | )
-- | SELECT e."customer_id" AS "customer_id", a.anchor AS "anchor", NOT (coalesce(w1.value, false)) AS "label", a.split AS "split"
-- | FROM anchors AS a
-- | JOIN "customers" AS e ON e."signup" <= a.anchor
-- | LEFT JOIN w1 ON w1.entity = e."customer_id" AND w1.anchor = a.anchor
-- | WHERE e."customer_id" IS NOT NULL

-- case: everything there is
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', every = '1 week', time = 'at', label = 'big', regime = 'Rolling')
AS PREDICT AVG(orders.total, 0, 1, MONTH, VIA orders.customer_id, WHERE orders.sku <> 'ball') > 2 OR NOT (SUM(orders.total, 0, 2, weeks) < 5 AND EXISTS(orders.sku, 0, 1, month))
FOR EACH customers.customer_id
WHERE COUNT(orders.*, -60, 0, days) >= 1 AND customers.country IN ('DE', 'it''s') AND customers.signup IS NOT NULL;
-- | task `t`: binary, `big` of 31 seeds by `customer_id` of `customers` and `at`
-- |   horizon 1 month, regime rolling (data cut at each anchor)
-- |   train        13  2020-01-03 … 2020-03-27  92.3 % true
-- |   val           5  2020-05-01 … 2020-05-29  100.0 % true
-- |   test         13  2020-07-01 … 2020-09-23  92.3 % true
-- |   note: 2 tables have no time column and are always visible: marks (0 rows), products (2 rows)
-- | WITH anchors AS (
-- |     SELECT TIMESTAMP '2020-05-01 00:00:00' - k * INTERVAL 1 WEEK AS anchor, 'train' AS split FROM range(5, 18) r(k)
-- |     UNION ALL SELECT TIMESTAMP '2020-05-01 00:00:00' + k * INTERVAL 1 WEEK AS anchor, 'val' AS split FROM range(0, 5) r(k)
-- |     UNION ALL SELECT TIMESTAMP '2020-07-01 00:00:00' + k * INTERVAL 1 WEEK AS anchor, 'test' AS split FROM range(0, 13) r(k)
-- | ),
-- | w1 AS (  -- AVG(orders.total, 0, 1, MONTH, VIA orders.customer_id, WHERE orders.sku <> 'ball')
-- |     SELECT t."customer_id" AS entity, a.anchor, avg(t."total") AS value
-- |     FROM anchors AS a JOIN "orders" AS t
-- |       ON t."ts" > a.anchor AND t."ts" <= a.anchor + INTERVAL 1 MONTH
-- |     WHERE t."customer_id" IS NOT NULL AND t."sku" <> 'ball'
-- |     GROUP BY ALL
-- | ),
-- | w2 AS (  -- SUM(orders.total, 0, 2, weeks)
-- |     SELECT t."customer_id" AS entity, a.anchor, sum(t."total")::DOUBLE AS value
-- |     FROM anchors AS a JOIN "orders" AS t
-- |       ON t."ts" > a.anchor AND t."ts" <= a.anchor + INTERVAL 2 WEEK
-- |     WHERE t."customer_id" IS NOT NULL
-- |     GROUP BY ALL
-- | ),
-- | w3 AS (  -- EXISTS(orders.sku, 0, 1, month)
-- |     SELECT t."customer_id" AS entity, a.anchor, count(t."sku") > 0 AS value
-- |     FROM anchors AS a JOIN "orders" AS t
-- |       ON t."ts" > a.anchor AND t."ts" <= a.anchor + INTERVAL 1 MONTH
-- |     WHERE t."customer_id" IS NOT NULL
-- |     GROUP BY ALL
-- | ),
-- | w4 AS (  -- COUNT(orders.*, -60, 0, days)
-- |     SELECT t."customer_id" AS entity, a.anchor, count(*) AS value
-- |     FROM anchors AS a JOIN "orders" AS t
-- |       ON t."ts" > a.anchor - INTERVAL 60 DAY AND t."ts" <= a.anchor
-- |     WHERE t."customer_id" IS NOT NULL
-- |     GROUP BY ALL
-- | )
-- | SELECT e."customer_id" AS "customer_id", a.anchor AS "at", (w1.value > 2 OR NOT ((coalesce(w2.value, 0) < 5 AND coalesce(w3.value, false)))) AS "big", a.split AS "split"
-- | FROM anchors AS a
-- | JOIN "customers" AS e ON e."signup" <= a.anchor
-- | LEFT JOIN w1 ON w1.entity = e."customer_id" AND w1.anchor = a.anchor
-- | LEFT JOIN w2 ON w2.entity = e."customer_id" AND w2.anchor = a.anchor
-- | LEFT JOIN w3 ON w3.entity = e."customer_id" AND w3.anchor = a.anchor
-- | LEFT JOIN w4 ON w4.entity = e."customer_id" AND w4.anchor = a.anchor
-- | WHERE e."customer_id" IS NOT NULL
-- |   AND (coalesce(w4.value, 0) >= 1 AND e."country" IN ('DE', 'it''s') AND e."signup" IS NOT NULL)

-- case: ranking
CREATE TASK next OPTIONS (val = '2020-05-01', test = '2020-07-01') AS PREDICT LIST_DISTINCT(orders.sku, 0, 30, days) RANK TOP 12 FOR EACH customers.customer_id;
-- | task `next`: ranking, top 12 of `products`, `label` of 27 seeds by `customer_id` of `customers` and `anchor`
-- |   horizon 30 days, regime frozen (data cut where test begins)
-- |   train        12  2020-01-02 … 2020-04-01  2 items each
-- |   val           6  2020-05-01 … 2020-05-31  2 items each
-- |   test          9  2020-07-01 … 2020-08-30  2 items each
-- |   note: 2 tables have no time column and are always visible: marks (0 rows), products (2 rows)
-- |   warning: 27 seeds dropped: nothing in their window to take the label from
-- | WITH anchors AS (
-- |     SELECT TIMESTAMP '2020-05-01 00:00:00' - k * INTERVAL 30 DAY AS anchor, 'train' AS split FROM range(1, 5) r(k)
-- |     UNION ALL SELECT TIMESTAMP '2020-05-01 00:00:00' + k * INTERVAL 30 DAY AS anchor, 'val' AS split FROM range(0, 2) r(k)
-- |     UNION ALL SELECT TIMESTAMP '2020-07-01 00:00:00' + k * INTERVAL 30 DAY AS anchor, 'test' AS split FROM range(0, 3) r(k)
-- | ),
-- | w1 AS (  -- LIST_DISTINCT(orders.sku, 0, 30, days)
-- |     SELECT t."customer_id" AS entity, a.anchor, list(DISTINCT t."sku" ORDER BY t."sku") AS value
-- |     FROM anchors AS a JOIN "orders" AS t
-- |       ON t."ts" > a.anchor AND t."ts" <= a.anchor + INTERVAL 30 DAY
-- |     WHERE t."customer_id" IS NOT NULL AND t."sku" IN (SELECT "sku" FROM "products")
-- |     GROUP BY ALL
-- | )
-- | SELECT e."customer_id" AS "customer_id", a.anchor AS "anchor", w1.value AS "label", a.split AS "split"
-- | FROM anchors AS a
-- | JOIN "customers" AS e ON e."signup" <= a.anchor
-- | LEFT JOIN w1 ON w1.entity = e."customer_id" AND w1.anchor = a.anchor
-- | WHERE e."customer_id" IS NOT NULL

-- case: classes
CREATE TASK next OPTIONS (val = '2020-05-01', test = '2020-07-01') AS PREDICT FIRST(orders.sku, 0, 30, days) FOR EACH customers.customer_id;
-- | task `next`: binary, `label` of 27 seeds by `customer_id` of `customers` and `anchor`
-- |   horizon 30 days, regime frozen (data cut where test begins)
-- |   train        12  2020-01-02 … 2020-04-01  83.3 % 'kite'
-- |   val           6  2020-05-01 … 2020-05-31  83.3 % 'kite'
-- |   test          9  2020-07-01 … 2020-08-30  66.7 % 'kite'
-- |   note: 2 tables have no time column and are always visible: marks (0 rows), products (2 rows)
-- |   warning: 27 seeds dropped: nothing in their window to take the label from
-- | WITH anchors AS (
-- |     SELECT TIMESTAMP '2020-05-01 00:00:00' - k * INTERVAL 30 DAY AS anchor, 'train' AS split FROM range(1, 5) r(k)
-- |     UNION ALL SELECT TIMESTAMP '2020-05-01 00:00:00' + k * INTERVAL 30 DAY AS anchor, 'val' AS split FROM range(0, 2) r(k)
-- |     UNION ALL SELECT TIMESTAMP '2020-07-01 00:00:00' + k * INTERVAL 30 DAY AS anchor, 'test' AS split FROM range(0, 3) r(k)
-- | ),
-- | w1 AS (  -- FIRST(orders.sku, 0, 30, days)
-- |     SELECT t."customer_id" AS entity, a.anchor, first(t."sku" ORDER BY t."ts", t."order_id", t."sku") FILTER (WHERE t."sku" IS NOT NULL) AS value
-- |     FROM anchors AS a JOIN "orders" AS t
-- |       ON t."ts" > a.anchor AND t."ts" <= a.anchor + INTERVAL 30 DAY
-- |     WHERE t."customer_id" IS NOT NULL
-- |     GROUP BY ALL
-- | )
-- | SELECT e."customer_id" AS "customer_id", a.anchor AS "anchor", w1.value AS "label", a.split AS "split"
-- | FROM anchors AS a
-- | JOIN "customers" AS e ON e."signup" <= a.anchor
-- | LEFT JOIN w1 ON w1.entity = e."customer_id" AND w1.anchor = a.anchor
-- | WHERE e."customer_id" IS NOT NULL

-- case: where looks ahead
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS PREDICT SUM(orders.total, 0, 30, days) FOR EACH customers.customer_id WHERE EXISTS(orders.*, 0, 30, days);
-- | task `t`: regression, `label` of 27 seeds by `customer_id` of `customers` and `anchor`
-- |   horizon 30 days, regime frozen (data cut where test begins)
-- |   train        12  2020-01-02 … 2020-04-01  mean 10, sd 3.861
-- |   val           6  2020-05-01 … 2020-05-31  mean 10, sd 4.05
-- |   test          9  2020-07-01 … 2020-08-30  mean 10, sd 3.708
-- |   note: WHERE looks past the anchor: that a seed is there tells what happens later, and no such choice can be made when predictions are wanted
-- |   note: 2 tables have no time column and are always visible: marks (0 rows), products (2 rows)
-- | WITH anchors AS (
-- |     SELECT TIMESTAMP '2020-05-01 00:00:00' - k * INTERVAL 30 DAY AS anchor, 'train' AS split FROM range(1, 5) r(k)
-- |     UNION ALL SELECT TIMESTAMP '2020-05-01 00:00:00' + k * INTERVAL 30 DAY AS anchor, 'val' AS split FROM range(0, 2) r(k)
-- |     UNION ALL SELECT TIMESTAMP '2020-07-01 00:00:00' + k * INTERVAL 30 DAY AS anchor, 'test' AS split FROM range(0, 3) r(k)
-- | ),
-- | w1 AS (  -- SUM(orders.total, 0, 30, days)
-- |     SELECT t."customer_id" AS entity, a.anchor, sum(t."total")::DOUBLE AS value
-- |     FROM anchors AS a JOIN "orders" AS t
-- |       ON t."ts" > a.anchor AND t."ts" <= a.anchor + INTERVAL 30 DAY
-- |     WHERE t."customer_id" IS NOT NULL
-- |     GROUP BY ALL
-- | ),
-- | w2 AS (  -- EXISTS(orders.*, 0, 30, days)
-- |     SELECT t."customer_id" AS entity, a.anchor, true AS value
-- |     FROM anchors AS a JOIN "orders" AS t
-- |       ON t."ts" > a.anchor AND t."ts" <= a.anchor + INTERVAL 30 DAY
-- |     WHERE t."customer_id" IS NOT NULL
-- |     GROUP BY ALL
-- | )
-- | SELECT e."customer_id" AS "customer_id", a.anchor AS "anchor", coalesce(w1.value, 0) AS "label", a.split AS "split"
-- | FROM anchors AS a
-- | JOIN "customers" AS e ON e."signup" <= a.anchor
-- | LEFT JOIN w1 ON w1.entity = e."customer_id" AND w1.anchor = a.anchor
-- | LEFT JOIN w2 ON w2.entity = e."customer_id" AND w2.anchor = a.anchor
-- | WHERE e."customer_id" IS NOT NULL
-- |   AND coalesce(w2.value, false)

-- case: seeds by a select
CREATE TASK spend OPTIONS (val = '2020-05-01', test = '2020-07-01', horizon = '30 days') AS
SELECT a.at, customer_id, sum(total) AS spend
FROM (SELECT TIMESTAMP '2020-01-01' + k * INTERVAL 15 DAY AS at FROM range(30) t(k)) a
JOIN orders ON ts > a.at AND ts <= a.at + INTERVAL 30 DAY GROUP BY ALL;
-- | task `spend`: regression, `spend` of 54 seeds by `customer_id` of `customers` and `at`
-- |   horizon 30 days, regime frozen (data cut where test begins)
-- |   train        27  2020-01-01 … 2020-04-30  mean 10, sd 3.793
-- |   val          12  2020-05-15 … 2020-06-29  mean 10, sd 3.977
-- |   test         15  2020-07-14 … 2020-09-12  mean 10, sd 3.928
-- |   note: assumed: time = 'at', entity = 'customer_id', table = 'customers', label = 'spend'
-- |   note: 2 tables have no time column and are always visible: marks (0 rows), products (2 rows)
-- |   warning: 6 seeds dropped: their window of 30 days is not closed when the data ends (2020-10-25)
-- |   warning: 6 seeds of train whose window reaches past 2020-05-01, where val begins: their labels leak
-- |   warning: 6 seeds of val whose window reaches past 2020-07-01, where test begins: their labels leak

-- case: seeds with everything wrong that can be left out
CREATE TASK odd OPTIONS (entity = 'who', table = 'customers', time = 'd', label = 'y', split = 's', kind = 'regression') AS
SELECT * FROM (VALUES
  (1, DATE '2020-02-01', 1.5, 'train', 0), (1, '2020-02-01', 2.5, 'train', 0), (77, '2020-04-01', 2.5, 'train', 0),
  (2, '2020-03-01', 1.5, 'valid', 0), (3, '2020-03-02', 2.5, 'validation', 0), (NULL, '2020-03-01', 1.5, 'test', 0),
  (1, NULL, 1.5, 'test', 0), (1, '2020-05-01', NULL, 'test', 0), (1, '2020-05-01', 'nan'::DOUBLE, 'test', 0), (1, '2020-05-02', 1.5, 'later', 0)
) v(who, d, y, s, more);
-- | task `odd`: regression, `y` of 5 seeds by `who` of `customers` and `d`
-- |   horizon unknown, regime frozen (data cut where test begins)
-- |   train         3  2020-02-01 … 2020-04-01  mean 2.167, sd 0.5774
-- |   val           2  2020-03-01 … 2020-03-02  mean 2, sd 0.7071
-- |   note: columns that are not kept: more
-- |   note: 2 tables have no time column and are always visible: marks (0 rows), products (2 rows)
-- |   warning: 1 seed dropped: no entity (NULL)
-- |   warning: 1 seed dropped: no time (NULL or infinite)
-- |   warning: 2 seeds dropped: no label (NULL, not finite or empty)
-- |   warning: 1 seed dropped: a split that is none of train, val and test
-- |   warning: there are no test seeds
-- |   warning: 1 seed (1 who) not found in `customers`
-- |   warning: 1 seed of an entity and anchor that are there before
-- |   warning: 1 seed of train whose anchor lies at or past 2020-03-01, where val begins: their labels leak
-- |   warning: without a horizon, windows that cross split boundaries or the data's end are not seen; OPTIONS (horizon = '30 days') says how long a window lasts

-- case: no such option
CREATE TASK t OPTIONS (entitiy = 'a') AS SELECT 1 AS a;
-- | QueryError: line 1, column 24: a task has no option `entitiy`; there are entity, time, label, table, split, val, test, horizon, kind, regime, top_k, item_table, sample, every, start. Did you mean `entity`?
-- |     CREATE TASK t OPTIONS (entitiy = 'a') AS SELECT 1 AS a
-- |                            ^^^^^^^

-- case: an option of a wrong type
CREATE TASK t OPTIONS (val = 2020) AS SELECT 1 AS a;
-- | QueryError: line 1, column 30: `val` takes text in quotes, not 2020
-- |     CREATE TASK t OPTIONS (val = 2020) AS SELECT 1 AS a
-- |                                  ^^^^

-- case: an option of a wrong choice
CREATE TASK t OPTIONS (kind = 'binnary') AS SELECT 1 AS a;
-- | QueryError: line 1, column 31: `kind` is one of binary, multiclass, regression, ranking, not 'binnary'. Did you mean `binary`?
-- |     CREATE TASK t OPTIONS (kind = 'binnary') AS SELECT 1 AS a
-- |                                   ^^^^^^^^^

-- case: an unknown unit in an option
CREATE TASK t OPTIONS (horizon = '30 dyas') AS SELECT 1 AS a;
-- | QueryError: line 1, column 34: `dyas` is no unit of time; there are seconds, minutes, hours, days, weeks, months, years. Did you mean `days`?
-- |     CREATE TASK t OPTIONS (horizon = '30 dyas') AS SELECT 1 AS a
-- |                                      ^^^^^^^^^

-- case: a horizon without a unit
CREATE TASK t OPTIONS (horizon = '30') AS SELECT 1 AS a;
-- | QueryError: line 1, column 34: `horizon` is a number and a unit, as '30 days', not '30'
-- |     CREATE TASK t OPTIONS (horizon = '30') AS SELECT 1 AS a
-- |                                      ^^^^

-- case: no timestamp
CREATE TASK t OPTIONS (val = 'May', test = '2020-01-01') AS SELECT 1 AS a;
-- | QueryError: line 1, column 30: `val` is a timestamp such as '2005-01-01' or '2005-01-01 12:00:00', not 'May'
-- |     CREATE TASK t OPTIONS (val = 'May', test = '2020-01-01') AS SELECT 1 AS a
-- |                                  ^^^^^

-- case: val without test
CREATE TASK t OPTIONS (val = '2020-01-01') AS SELECT 1 AS a;
-- | QueryError: line 1, column 30: timestamps split in three: give `test` as well
-- |     CREATE TASK t OPTIONS (val = '2020-01-01') AS SELECT 1 AS a
-- |                                  ^^^^^^^^^^^^

-- case: val after test
CREATE TASK t OPTIONS (val = '2020-01-02', test = '2020-01-01') AS SELECT 1 AS a;
-- | QueryError: line 1, column 30: `val` must be before `test`
-- |     CREATE TASK t OPTIONS (val = '2020-01-02', test = '2020-01-01') AS SELECT 1 AS a
-- |                                  ^^^^^^^^^^^^

-- case: every without predict
CREATE TASK t OPTIONS (every = '1 day') AS SELECT 1 AS a;
-- | QueryError: line 1, column 24: `every` is an option of PREDICT; a SELECT has its anchors as rows
-- |     CREATE TASK t OPTIONS (every = '1 day') AS SELECT 1 AS a
-- |                            ^^^^^

-- case: horizon with predict
CREATE TASK t OPTIONS (horizon = '1 day') AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 24: PREDICT says when the label is known by its windows; `horizon` is an option of tasks that are written as SELECT
-- |     CREATE TASK t OPTIONS (horizon = '1 day') AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id
-- |                            ^^^^^^^

-- case: no splits
CREATE TASK t AS SELECT customer_id, ts, total FROM orders;
-- | QueryError: line 1, column 13: a task needs splits: a column that says 'train', 'val' or 'test', by OPTIONS (split = 'column'), or timestamps, by OPTIONS (val = '2005-01-01', test = '2010-01-01')
-- |     CREATE TASK t AS SELECT customer_id, ts, total FROM orders
-- |                 ^

-- case: no such column
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', label = 'totel') AS SELECT customer_id, ts, total FROM orders;
-- | QueryError: line 1, column 73: the query has no column `totel`; it has customer_id, ts, total. Did you mean `total`?
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', label = 'totel') AS SELECT customer_id, ts, total FROM orders
-- |                                                                             ^^^^^^^

-- case: no such table
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', table = 'customer') AS SELECT customer_id, ts, total FROM orders;
-- | QueryError: line 1, column 73: there is no table `customer`; there are products, customers, orders, lines, marks. Did you mean `customers`?
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', table = 'customer') AS SELECT customer_id, ts, total FROM orders
-- |                                                                             ^^^^^^^^^^

-- case: two times
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id, ts, ts AS again, total FROM orders;
-- | QueryError: line 1, column 13: which column is the time is not clear: ts, again can be meant. Say OPTIONS (time = '…'); the query has customer_id, ts, again, total
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id, ts, ts AS again, total FROM orders
-- |                 ^

-- case: no entity
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id AS who, ts, total FROM orders;
-- | QueryError: line 1, column 13: which column is the entity is not clear: no column is named like the key of a table or a foreign key. Say OPTIONS (entity = '…'); the query has who, ts, total
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id AS who, ts, total FROM orders
-- |                 ^

-- case: two labels
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id, ts, total, total AS more FROM orders;
-- | QueryError: line 1, column 13: which column is the label is not clear: total, more can be meant. Say OPTIONS (label = '…'); the query has customer_id, ts, total, more
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id, ts, total, total AS more FROM orders
-- |                 ^

-- case: a time that is a year
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', time = 'y') AS SELECT customer_id, year(ts) AS y, total FROM orders;
-- | QueryError: line 1, column 72: `y` is BIGINT, not a time: anchors are DATE or TIMESTAMP; a year is made one by make_date(y, 1, 1)
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', time = 'y') AS SELECT customer_id, year(ts) AS y, total FROM orders
-- |                                                                            ^^^

-- case: a split that is no text
CREATE TASK t OPTIONS (split = 'part') AS SELECT customer_id, ts, total, 1 AS part FROM orders;
-- | QueryError: line 1, column 32: the split column `part` is INTEGER; it is text that says 'train', 'val' or 'test'
-- |     CREATE TASK t OPTIONS (split = 'part') AS SELECT customer_id, ts, total, 1 AS part FROM orders
-- |                                    ^^^^^^

-- case: an entity of another type than the key
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', table = 'customers', entity = 'sku') AS SELECT sku, ts, total FROM orders;
-- | QueryError: line 1, column 95: `sku` is VARCHAR, and the key `customer_id` of `customers` is INTEGER
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', table = 'customers', entity = 'sku') AS SELECT sku, ts, total FROM orders
-- |                                                                                                   ^^^^^

-- case: a label that is a struct
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id, ts, {a: 1} AS label FROM orders;
-- | QueryError: line 1, column 13: the label `label` is STRUCT(a INTEGER); labels are booleans, numbers, text or lists of keys
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id, ts, {a: 1} AS label FROM orders
-- |                 ^

-- case: binary with more values
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', kind = 'binary') AS SELECT customer_id, ts, total FROM orders;
-- | QueryError: line 1, column 72: `total` has 5 values, not two
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', kind = 'binary') AS SELECT customer_id, ts, total FROM orders
-- |                                                                            ^^^^^^^^

-- case: regression of text
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', kind = 'regression') AS SELECT customer_id, ts, sku AS label FROM orders;
-- | QueryError: line 1, column 72: a regression needs numbers; `label` is VARCHAR
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', kind = 'regression') AS SELECT customer_id, ts, sku AS label FROM orders
-- |                                                                            ^^^^^^^^^^^^

-- case: a ranking without lists
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', top_k = 3) AS SELECT customer_id, ts, total FROM orders;
-- | QueryError: line 1, column 73: a ranking has lists as labels; `total` is DOUBLE
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', top_k = 3) AS SELECT customer_id, ts, total FROM orders
-- |                                                                             ^

-- case: no rows
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id, ts, total FROM orders WHERE false;
-- | DataError: task `t` has no seeds: its query gives no rows

-- case: no labels
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id, ts, NULL::INT AS label FROM orders;
-- | DataError: task `t` has no seeds that can be used: 150 seeds dropped: no label (NULL, not finite or empty)

-- case: one class
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id, ts, true AS label FROM orders;
-- | DataError: all 61 training labels of task `t` are true, so there is nothing to learn

-- case: no training seeds
CREATE TASK t OPTIONS (val = '2019-05-01', test = '2020-07-01') AS SELECT customer_id, ts, total FROM orders;
-- | DataError: task `t` has no training seeds; its anchors go from 2020-01-01 to 2020-10-25, `val` is 2019-05-01

-- case: windows that never close
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', horizon = '2 years') AS SELECT customer_id, ts, total FROM orders;
-- | DataError: no window ever closes: the anchors go from 2020-01-01 to 2020-10-25, a window lasts 2 years, and the data ends at 2020-10-25

-- case: anchors after the data
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', horizon = '1 day') AS SELECT customer_id, ts + INTERVAL 9 YEAR AS ts, total FROM orders;
-- | DataError: every anchor lies after the data: the first is 2029-01-01, and the last timestamp of the data is 2020-10-25

-- case: a value that cannot be converted
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id, ts, sku::INT AS label FROM orders;
-- | QueryError: line 1, column 68: Could not convert string 'ball' to INT32 when casting from source column sku
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS SELECT customer_id, ts, sku::INT AS label FROM orders
-- |                                                                        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: predict an unknown function
CREATE TASK t AS PREDICT CUONT(orders.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 26: CUONT() is no aggregate over a window; there are COUNT, COUNT_DISTINCT, SUM, AVG, MIN, MAX, FIRST, LAST, EXISTS, LIST_DISTINCT. Did you mean `COUNT`?
-- |     CREATE TASK t AS PREDICT CUONT(orders.*, 0, 30, days) FOR EACH customers.customer_id
-- |                              ^^^^^

-- case: predict an unknown unit
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, dys) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 49: `dys` is no unit of time; there are seconds, minutes, hours, days, weeks, months, years. Did you mean `days`?
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, dys) FOR EACH customers.customer_id
-- |                                                     ^^^

-- case: predict an unknown table
CREATE TASK t AS PREDICT COUNT(order.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 32: there is no table `order`; there are products, customers, orders, lines, marks. Did you mean `orders`?
-- |     CREATE TASK t AS PREDICT COUNT(order.*, 0, 30, days) FOR EACH customers.customer_id
-- |                                    ^^^^^

-- case: predict an unknown column
CREATE TASK t AS PREDICT SUM(orders.totl, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 30: `orders` has no column `totl`; it has order_id, customer_id, referrer, ts, total, sku. Did you mean `total`?
-- |     CREATE TASK t AS PREDICT SUM(orders.totl, 0, 30, days) FOR EACH customers.customer_id
-- |                                  ^^^^^^^^^^^

-- case: predict for an unknown entity
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH custmers.customer_id;
-- | QueryError: line 1, column 64: there is no table `custmers`; there are products, customers, orders, lines, marks. Did you mean `customers`?
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH custmers.customer_id
-- |                                                                    ^^^^^^^^

-- case: predict for a column that is no key
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.country;
-- | QueryError: line 1, column 64: entities of `customers` are told apart by `customer_id`, not by `country`; write FOR EACH customers.customer_id
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.country
-- |                                                                    ^^^^^^^^^^^^^^^^^

-- case: predict without for each
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOREACH customers.customer_id;
-- | QueryError: line 1, column 55: expected FOR EACH and the entity's key, as in FOR EACH customers.customer_id, found `FOREACH`. Did you mean `FOR`?
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOREACH customers.customer_id
-- |                                                           ^^^^^^^

-- case: predict a bare column
CREATE TASK t AS PREDICT total FOR EACH customers.customer_id;
-- | QueryError: line 1, column 26: write the table as well, as `table.column`
-- |     CREATE TASK t AS PREDICT total FOR EACH customers.customer_id
-- |                              ^^^^^

-- case: predict a column of the entity
CREATE TASK t AS PREDICT customers.country = 'DE' AND EXISTS(orders.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 26: what is predicted lies in a window of time; a column of the entity belongs in WHERE, after FOR EACH
-- |     CREATE TASK t AS PREDICT customers.country = 'DE' AND EXISTS(orders.*, 0, 30, days) FOR EACH customers.customer_id
-- |                              ^^^^^^^^^^^^^^^^^^^^^^^^

-- case: predict the past
CREATE TASK t AS PREDICT COUNT(orders.*, -30, 0, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 42: what is predicted lies after the anchor, so its window starts at 0 or later; history belongs in WHERE, after FOR EACH
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, -30, 0, days) FOR EACH customers.customer_id
-- |                                              ^^^^^^^^^^^^

-- case: a window backwards
CREATE TASK t AS PREDICT COUNT(orders.*, 30, 0, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 42: the window ends where it starts or before: it is (anchor + 30, anchor + 0]
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 30, 0, days) FOR EACH customers.customer_id
-- |                                              ^^^^^^^^^^^

-- case: half a window
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 1.5, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 45: the window's end is a whole number of units, and not a huge one
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 1.5, days) FOR EACH customers.customer_id
-- |                                                 ^^^

-- case: a window without its unit
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 47: expected `,` and the window's unit, as in COUNT(orders.*, 0, 90, days)
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30) FOR EACH customers.customer_id
-- |                                                   ^

-- case: all columns summed
CREATE TASK t AS PREDICT SUM(orders.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 30: SUM() takes a column; `orders.*` is for COUNT and EXISTS
-- |     CREATE TASK t AS PREDICT SUM(orders.*, 0, 30, days) FOR EACH customers.customer_id
-- |                                  ^^^^^^^^

-- case: text summed
CREATE TASK t AS PREDICT SUM(orders.sku, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 30: SUM() takes a column of numbers; `sku` is VARCHAR
-- |     CREATE TASK t AS PREDICT SUM(orders.sku, 0, 30, days) FOR EACH customers.customer_id
-- |                                  ^^^^^^^^^^

-- case: a table without time
CREATE TASK t AS PREDICT COUNT(marks.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 32: no time column of `marks` is known, so it has no windows; its columns are mark_id, customer_id, stars
-- |     CREATE TASK t AS PREDICT COUNT(marks.*, 0, 30, days) FOR EACH customers.customer_id
-- |                                    ^^^^^

-- case: a table that is two steps away
CREATE TASK t AS PREDICT COUNT(lines.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 32: `lines` has no foreign key to `customers`; it reaches it by lines.order_id → orders.customer_id, and only direct foreign keys can be aggregated here: write the task as a SELECT with these joins
-- |     CREATE TASK t AS PREDICT COUNT(lines.*, 0, 30, days) FOR EACH customers.customer_id
-- |                                    ^^^^^^^

-- case: the entities themselves
CREATE TASK t AS PREDICT COUNT(customers.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 32: the rows of `customers` are the entities themselves; aggregate a table that has a foreign key to it
-- |     CREATE TASK t AS PREDICT COUNT(customers.*, 0, 30, days) FOR EACH customers.customer_id
-- |                                    ^^^^^^^^^^^

-- case: via another column
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days, VIA orders.sku) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 59: `sku` is no foreign key to `customers`; there are customer_id
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days, VIA orders.sku) FOR EACH customers.customer_id
-- |                                                               ^^^^^^^^^^

-- case: text compared with a number
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) > 'three' FOR EACH customers.customer_id;
-- | QueryError: line 1, column 57: `COUNT(…)` is compared with a number
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) > 'three' FOR EACH customers.customer_id
-- |                                                             ^^^^^^^

-- case: a column compared with another type
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id WHERE customers.country = 3;
-- | QueryError: line 1, column 112: `country`, which is VARCHAR, is compared with text in quotes
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id WHERE customers.country = 3
-- |                                                                                                                    ^

-- case: a comparison with a bare word
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id WHERE customers.country = DE;
-- | QueryError: line 1, column 112: expected a value: a number, text in quotes, true or false
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id WHERE customers.country = DE
-- |                                                                                                                    ^^

-- case: a comparison with null
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id WHERE customers.country = NULL;
-- | QueryError: line 1, column 112: a comparison is with one value; for NULL write IS NULL
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id WHERE customers.country = NULL
-- |                                                                                                                    ^^^^

-- case: where without a comparison
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id WHERE COUNT(orders.*, -30, 0, days);
-- | QueryError: line 1, column 92: COUNT(…) is not true or false; compare it, as in COUNT(…) > 0
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id WHERE COUNT(orders.*, -30, 0, days)
-- |                                                                                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

-- case: where with rows of another table
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id WHERE orders.total > 3;
-- | QueryError: line 1, column 92: only columns of `customers` can be compared here; rows of `orders` are aggregated over a window
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id WHERE orders.total > 3
-- |                                                                                                ^^^^^^^^^^^^

-- case: rows of a window by another table
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days, WHERE customers.country = 'DE') FOR EACH customers.customer_id;
-- | QueryError: line 1, column 61: the rows of a window are chosen by columns of `orders` only
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days, WHERE customers.country = 'DE') FOR EACH customers.customer_id
-- |                                                                 ^^^^^^^^^^^^^^^^^

-- case: a window inside a window
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days, WHERE COUNT(orders.*, 0, 1, day) > 0) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 61: the rows of a window are chosen by their own columns only
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days, WHERE COUNT(orders.*, 0, 1, day) > 0) FOR EACH customers.customer_id
-- |                                                                 ^^^^^

-- case: a list without rank
CREATE TASK t AS PREDICT LIST_DISTINCT(orders.sku, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 65: LIST_DISTINCT(…) is ranked: write RANK TOP and a number after it
-- |     CREATE TASK t AS PREDICT LIST_DISTINCT(orders.sku, 0, 30, days) FOR EACH customers.customer_id
-- |                                                                     ^^^

-- case: rank without a list
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) RANK TOP 3 FOR EACH customers.customer_id;
-- | QueryError: line 1, column 55: RANK TOP ranks what LIST_DISTINCT(…) lists, nothing else
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) RANK TOP 3 FOR EACH customers.customer_id
-- |                                                           ^^^^

-- case: a list of what is no key
CREATE TASK t AS PREDICT LIST_DISTINCT(orders.total, 0, 30, days) RANK TOP 3 FOR EACH customers.customer_id;
-- | QueryError: line 1, column 40: LIST_DISTINCT() lists keys of another table; `total` is no foreign key. Those of `orders` are customer_id, sku
-- |     CREATE TASK t AS PREDICT LIST_DISTINCT(orders.total, 0, 30, days) RANK TOP 3 FOR EACH customers.customer_id
-- |                                            ^^^^^^^^^^^^

-- case: windows longer than the data
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, years) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 42: no window closes: the data goes from 2020-01-01 to 2020-10-25, and a window ends 30 years after its anchor
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, years) FOR EACH customers.customer_id
-- |                                              ^^^^^^^^^^^^

-- case: too few anchors
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 6, months) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 42: only 1 anchor with a closed window fits between 2020-01-01 and 2020-04-25; training, validation and test need one each. OPTIONS (every = '…') sets how far apart they are
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 6, months) FOR EACH customers.customer_id
-- |                                              ^^^^^^^^^^^^

-- case: too many anchors
CREATE TASK t OPTIONS (every = '1 second') AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 32: there would be more than 100,000 anchors; OPTIONS (every = '…') sets how far apart they are, `start` where they begin
-- |     CREATE TASK t OPTIONS (every = '1 second') AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id
-- |                                    ^^^^^^^^^^

-- case: test after the data
CREATE TASK t OPTIONS (val = '2020-05-01', test = '2030-07-01') AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 51: no window closes after `test`: the last anchor whose window the data covers is 2020-09-25
-- |     CREATE TASK t OPTIONS (val = '2020-05-01', test = '2030-07-01') AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id
-- |                                                       ^^^^^^^^^^^^

-- case: validation too close to test
CREATE TASK t OPTIONS (val = '2020-06-20', test = '2020-07-01') AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 30: the window of the anchor `val` closes at 2020-07-20, after `test` begins
-- |     CREATE TASK t OPTIONS (val = '2020-06-20', test = '2020-07-01') AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id
-- |                                  ^^^^^^^^^^^^

-- case: val before the data
CREATE TASK t OPTIONS (val = '2019-06-20', test = '2020-07-01') AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 30: no anchor for training: the data begins at 2020-01-01
-- |     CREATE TASK t OPTIONS (val = '2019-06-20', test = '2020-07-01') AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id
-- |                                  ^^^^^^^^^^^^

-- case: columns of one name
CREATE TASK t OPTIONS (label = 'Customer_Id') AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id;
-- | QueryError: line 1, column 32: the seeds would have two columns of one name: customer_id, anchor, Customer_Id, split; name them by OPTIONS (time = …, label = …)
-- |     CREATE TASK t OPTIONS (label = 'Customer_Id') AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id
-- |                                    ^^^^^^^^^^^^^

-- case: more after the end
CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id LIMIT 3;
-- | QueryError: line 1, column 86: the statement should end here
-- |     CREATE TASK t AS PREDICT COUNT(orders.*, 0, 30, days) FOR EACH customers.customer_id LIMIT 3
-- |                                                                                          ^^^^^
