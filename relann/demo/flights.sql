-- Will a flight arrive more than 30 minutes late? Asked one hour before it is to leave.
CREATE OR REPLACE MODEL late OPTIONS (label = 'late', split = 'split', epochs = 40, lr = 0.03, seed = 0) AS
WITH trip AS (     -- what the timetable says; arr_delay is only the label
       SELECT flight_id, carrier, origin, dest, tailnum, distance, time_hour,
              sched_dep_time - INTERVAL 1 HOUR AS cut, hour(sched_dep_time)::VARCHAR AS hour,
              dayname(sched_dep_time) AS weekday, arr_delay > 30 AS late,
              CASE WHEN month(time_hour) <= 8 THEN 'train' WHEN month(time_hour) <= 10 THEN 'val' ELSE 'test' END AS split
       FROM flights WHERE arr_delay IS NOT NULL),
     leg AS (      -- the aircraft's last three flights that have landed by then
       SELECT t.flight_id, f.arr_delay, f.dep_delay, date_diff('minute', f.arr_time, t.cut) AS ago
       FROM trip t JOIN flights f ON f.tailnum = t.tailnum AND f.arr_time::DATE = t.cut::DATE AND f.arr_time < t.cut
       QUALIFY row_number() OVER (PARTITION BY t.flight_id ORDER BY f.arr_time DESC, f.flight_id) <= 3),
     slot AS (     -- an airport in an hour; known by then: what left it before, the weather it had
       SELECT DISTINCT origin, time_hour, time_hour - INTERVAL 1 HOUR AS cut FROM flights),
     departure AS (
       SELECT s.origin, s.time_hour, f.flight_id, f.carrier, f.dest, f.dep_delay, date_diff('minute', f.dep_time, s.cut) AS ago
       FROM slot s JOIN flights f ON f.origin = s.origin AND f.dep_time::DATE = s.cut::DATE AND f.dep_time < s.cut
       QUALIFY row_number() OVER (PARTITION BY s.origin, s.time_hour ORDER BY f.dep_time DESC, f.flight_id) <= 32),
     weather_then AS (
       SELECT s.origin, s.time_hour, w.* EXCLUDE (weather_id, origin, time_hour)
       FROM slot s ASOF JOIN weather w ON w.origin = s.origin AND w.time_hour <= s.cut - INTERVAL 1 HOUR),
     -- from here on the network: one embedding per flight, one per airport and hour
     aircraft AS (SELECT l.flight_id, avg(relu(features(l, 32))) AS z FROM leg l GROUP BY l.flight_id),
     airport AS (
       SELECT d.origin, d.time_hour, avg(relu(features(d, 32) + linear(coalesce(a.z, 0), 32))) AS z
       FROM departure d LEFT JOIN aircraft a USING (flight_id) GROUP BY d.origin, d.time_hour),
     sky AS (SELECT w.origin, w.time_hour, relu(features(w, 32)) AS z FROM weather_then w)
SELECT t.flight_id, t.late, t.split,
       linear(relu(features(t, 64, exclude => [tailnum, cut]) + linear(coalesce(a.z, 0), 64)
                   + linear(coalesce(p.z, 0), 64) + linear(coalesce(s.z, 0), 64)), 1) AS logit
FROM trip t LEFT JOIN aircraft a USING (flight_id)
            LEFT JOIN airport p USING (origin, time_hour) LEFT JOIN sky s USING (origin, time_hour);
