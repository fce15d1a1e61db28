-- travel.stackexchange from 2011 to 2017. RelBench's user-engagement, user-badge and post-votes come
-- from the folder's own tables of seeds; these are beside them, with shorter windows.

-- Does a user who was there within 90 days comment in the next 30?
CREATE TASK user_comments OPTIONS (
    val = '2016-07-01', test = '2017-01-01', every = '30 days', start = '2013-01-01',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
PREDICT COUNT(comments.*, 0, 30, days) > 0 FOR EACH users.Id
WHERE COUNT(comments.*, -90, 0, days) > 0 OR COUNT(posts.*, -90, 0, days) > 0;

-- Is a question of the last 30 days that has no answer yet answered in the next 30?
CREATE TASK question_answered OPTIONS (
    entity = 'PostId', time = 'anchor', label = 'answered', table = 'posts',
    val = '2016-07-01', test = '2017-01-01', horizon = '30 days', regime = 'rolling',
    sample = [3000, 1500, 3000]) AS
SELECT a.anchor, q.Id AS PostId, count(n.Id) > 0 AS answered
FROM (SELECT unnest(generate_series(
        TIMESTAMP '2013-01-01', TIMESTAMP '2017-07-25', INTERVAL 10 DAY)) AS anchor) a
JOIN posts q ON q.PostTypeId = 1
    AND q.CreationDate > a.anchor - INTERVAL 30 DAY AND q.CreationDate <= a.anchor
LEFT JOIN posts n ON n.ParentId = q.Id
    AND n.CreationDate > a.anchor AND n.CreationDate <= a.anchor + INTERVAL 30 DAY
WHERE NOT EXISTS (SELECT 1 FROM posts e WHERE e.ParentId = q.Id AND e.CreationDate <= a.anchor)
    AND NOT (a.anchor < TIMESTAMP '2016-07-01' AND a.anchor + INTERVAL 30 DAY > TIMESTAMP '2016-07-01')
    AND NOT (a.anchor < TIMESTAMP '2017-01-01' AND a.anchor + INTERVAL 30 DAY > TIMESTAMP '2017-01-01')
GROUP BY ALL;

-- How many votes up do the posts of a user get in the next 30 days, as ln(1 + n), if they got one
-- within 90 days? Posts written after the anchor do not count.
CREATE TASK user_upvotes OPTIONS (
    entity = 'UserId', time = 'anchor', label = 'upvotes', table = 'users',
    val = '2016-07-01', test = '2017-01-01', horizon = '30 days', regime = 'rolling',
    sample = [3000, 1500, 3000]) AS
SELECT a.anchor, p.OwnerUserId AS UserId,
    ln(1 + count(*) FILTER (WHERE v.CreationDate > a.anchor)) AS upvotes
FROM (SELECT unnest(generate_series(
        TIMESTAMP '2013-01-01', TIMESTAMP '2017-07-25', INTERVAL 30 DAY)) AS anchor) a
JOIN votes v ON v.VoteTypeId = 2 AND v.CreationDate > a.anchor - INTERVAL 90 DAY
    AND v.CreationDate <= a.anchor + INTERVAL 30 DAY
JOIN posts p ON p.Id = v.PostId AND p.CreationDate <= a.anchor
WHERE NOT (a.anchor < TIMESTAMP '2016-07-01' AND a.anchor + INTERVAL 30 DAY > TIMESTAMP '2016-07-01')
    AND NOT (a.anchor < TIMESTAMP '2017-01-01' AND a.anchor + INTERVAL 30 DAY > TIMESTAMP '2017-01-01')
GROUP BY ALL
HAVING count(*) FILTER (WHERE v.CreationDate <= a.anchor) > 0;
