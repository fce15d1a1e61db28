-- Flights from New York City in June and July 2013. A flight's schedule is known a day before; how
-- it went, when it has landed (or, cancelled, when it should have): two tables. Readings of the
-- weather are known when their hour is over.
CREATE TABLE landings AS
SELECT flight_id AS landing_id, carrier, tailnum, origin, dest, distance,
    extract(hour FROM sched_dep_time) AS hour, dep_delay, arr_delay, air_time,
    arr_delay IS NULL AS cancelled,
    coalesce(arr_time, sched_arr_time)::TIMESTAMP AS landed_at
FROM flights
WHERE time_hour >= TIMESTAMP '2013-06-01' AND time_hour < TIMESTAMP '2013-08-01';
CREATE OR REPLACE TABLE flights AS
SELECT flight_id, carrier, flight, tailnum, origin, dest, distance, sched_dep_time, sched_arr_time,
    sched_dep_time - INTERVAL 1 DAY AS known_at
FROM flights
WHERE time_hour >= TIMESTAMP '2013-06-01' AND time_hour < TIMESTAMP '2013-08-01';
CREATE OR REPLACE TABLE weather AS
SELECT * EXCLUDE (time_hour), time_hour + INTERVAL 1 HOUR AS known_at
FROM weather
WHERE time_hour >= TIMESTAMP '2013-06-01' AND time_hour < TIMESTAMP '2013-08-01';
ALTER TABLE flights SET (key = flight_id, time = known_at);
ALTER TABLE landings SET (key = landing_id, time = landed_at);
ALTER TABLE weather SET (key = weather_id, time = known_at);
ALTER TABLE weather ADD FOREIGN KEY (origin) REFERENCES airports (faa);
ALTER TABLE flights ADD FOREIGN KEY (carrier) REFERENCES airlines (carrier);
ALTER TABLE flights ADD FOREIGN KEY (tailnum) REFERENCES planes (tailnum);
ALTER TABLE flights ADD FOREIGN KEY (origin) REFERENCES airports (faa);
ALTER TABLE flights ADD FOREIGN KEY (dest) REFERENCES airports (faa);
ALTER TABLE landings ADD FOREIGN KEY (carrier) REFERENCES airlines (carrier);
ALTER TABLE landings ADD FOREIGN KEY (tailnum) REFERENCES planes (tailnum);
ALTER TABLE landings ADD FOREIGN KEY (origin) REFERENCES airports (faa);
ALTER TABLE landings ADD FOREIGN KEY (dest) REFERENCES airports (faa);

-- Does a flight land more than 15 minutes late, asked at midnight before it?
CREATE TASK flight_late OPTIONS (
    entity = 'flight_id', time = 'anchor', label = 'late', table = 'flights',
    val = '2013-07-06', test = '2013-07-17', horizon = '1 day', regime = 'rolling',
    sample = [3000, 1500, 3000]) AS
SELECT f.flight_id, date_trunc('day', f.sched_dep_time) AS anchor, l.arr_delay > 15 AS late
FROM flights f JOIN landings l ON l.landing_id = f.flight_id
WHERE l.arr_delay IS NOT NULL AND f.sched_dep_time >= TIMESTAMP '2013-06-05'
    AND date_trunc('day', f.sched_dep_time) < TIMESTAMP '2013-07-31';

-- Which share of a plane's flights of the next 3 days lands more than 15 minutes late?
CREATE TASK plane_late_share OPTIONS (
    entity = 'tailnum', time = 'anchor', label = 'late_share', table = 'planes',
    val = '2013-07-06', test = '2013-07-17', horizon = '3 days', kind = 'regression',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
SELECT a.anchor, p.tailnum, avg((l.arr_delay > 15)::INT) AS late_share
FROM (SELECT unnest(generate_series(
        TIMESTAMP '2013-06-06', TIMESTAMP '2013-07-27', INTERVAL 1 DAY)) AS anchor) a
JOIN landings l ON l.landed_at > a.anchor AND l.landed_at <= a.anchor + INTERVAL 3 DAY
JOIN planes p USING (tailnum)
WHERE l.arr_delay IS NOT NULL AND a.anchor NOT IN (TIMESTAMP '2013-07-04', '2013-07-05',
    '2013-07-15', '2013-07-16')
GROUP BY ALL HAVING count(*) >= 2;

-- Is a plane that flew within 7 days grounded in New York for the next 2, no flight landing?
CREATE TASK plane_absent OPTIONS (
    val = '2013-07-06', test = '2013-07-17', every = '1 day', start = '2013-06-07',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
PREDICT COUNT(landings.*, 0, 2, days) = 0 FOR EACH planes.tailnum
WHERE COUNT(landings.*, -7, 0, days) > 0;

-- By how many minutes are the next day's flights to an airport late, on average?
CREATE TASK airport_delay OPTIONS (
    val = '2013-07-06', test = '2013-07-17', every = '1 day', start = '2013-06-06',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
PREDICT AVG(landings.arr_delay, 0, 1, day, VIA landings.dest) FOR EACH airports.faa;
