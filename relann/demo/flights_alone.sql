-- The same question to a model that sees the flight's own row and nothing else.
CREATE OR REPLACE MODEL alone OPTIONS (label = 'late', split = 'split', epochs = 40, lr = 0.03, seed = 0) AS
WITH trip AS (
       SELECT flight_id, carrier, origin, dest, distance, hour(sched_dep_time)::VARCHAR AS hour,
              dayname(sched_dep_time) AS weekday, arr_delay > 30 AS late,
              CASE WHEN month(time_hour) <= 8 THEN 'train' WHEN month(time_hour) <= 10 THEN 'val' ELSE 'test' END AS split
       FROM flights WHERE arr_delay IS NOT NULL)
SELECT t.flight_id, t.late, t.split, linear(relu(features(t, 64, exclude => [flight_id])), 1) AS logit
FROM trip t;
