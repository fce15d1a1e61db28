-- Formula 1 from 1950 to 2023. RelBench's driver-dnf, driver-top3 and driver-position come from the
-- folder's own tables of seeds; these are beside them, at RelBench's timestamps.

-- Does a constructor that raced within a year score points in the next 90 days?
CREATE TASK constructor_scores OPTIONS (
    val = '2005-01-01', test = '2010-01-01', every = '60 days', regime = 'rolling',
    sample = [3000, 1500, 3000]) AS
PREDICT SUM(constructor_results.points, 0, 90, days) > 0 FOR EACH constructors.constructorId
WHERE COUNT(constructor_results.*, -365, 0, days) > 0;

-- Does a driver who raced within a year score points in the next 60 days?
CREATE TASK driver_scores OPTIONS (
    val = '2005-01-01', test = '2010-01-01', every = '60 days', regime = 'rolling',
    sample = [3000, 1500, 3000]) AS
PREDICT SUM(results.points, 0, 60, days) > 0 FOR EACH drivers.driverId
WHERE COUNT(results.*, -365, 0, days) > 0;

-- How many places does a driver gain between grid and finish, on average over the next 60 days?
CREATE TASK driver_places_gained OPTIONS (
    entity = 'driverId', time = 'anchor', label = 'gained', table = 'drivers',
    val = '2005-01-01', test = '2010-01-01', horizon = '60 days', regime = 'rolling',
    sample = [3000, 1500, 3000]) AS
SELECT a.anchor, r.driverId, avg(r.grid - r.positionOrder) AS gained
FROM (SELECT unnest(generate_series(
        TIMESTAMP '1960-01-02', TIMESTAMP '2023-01-01', INTERVAL 60 DAY)) AS anchor) a
JOIN results r ON r.date > a.anchor AND r.date <= a.anchor + INTERVAL 60 DAY
WHERE r.grid > 0
    -- no window of one split reaches into the next
    AND NOT (a.anchor < TIMESTAMP '2005-01-01' AND a.anchor + INTERVAL 60 DAY > TIMESTAMP '2005-01-01')
    AND NOT (a.anchor < TIMESTAMP '2010-01-01' AND a.anchor + INTERVAL 60 DAY > TIMESTAMP '2010-01-01')
GROUP BY ALL;

-- Where does a driver qualify, on average over the next 60 days?
CREATE TASK driver_qualifying OPTIONS (
    val = '2010-01-01', test = '2015-01-01', every = '30 days', regime = 'rolling',
    sample = [3000, 1500, 3000]) AS
PREDICT AVG(qualifying.position, 0, 60, days) FOR EACH drivers.driverId;
