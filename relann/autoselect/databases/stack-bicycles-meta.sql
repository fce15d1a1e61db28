-- The small site about the site on bicycles, 2010 to 2023.
-- Counts and dates as of the dump tell what happened after any anchor: they go.
ALTER TABLE users DROP COLUMN Reputation;
ALTER TABLE users DROP COLUMN LastAccessDate;
ALTER TABLE users DROP COLUMN Views;
ALTER TABLE users DROP COLUMN UpVotes;
ALTER TABLE users DROP COLUMN DownVotes;
ALTER TABLE users DROP COLUMN AccountId;
ALTER TABLE posts DROP COLUMN Score;
ALTER TABLE posts DROP COLUMN ViewCount;
ALTER TABLE posts DROP COLUMN AnswerCount;
ALTER TABLE posts DROP COLUMN CommentCount;
ALTER TABLE posts DROP COLUMN FavoriteCount;
ALTER TABLE posts DROP COLUMN AcceptedAnswerId;
ALTER TABLE posts DROP COLUMN LastEditorUserId;
ALTER TABLE posts DROP COLUMN LastEditorDisplayName;
ALTER TABLE posts DROP COLUMN LastEditDate;
ALTER TABLE posts DROP COLUMN LastActivityDate;
ALTER TABLE posts DROP COLUMN ClosedDate;
ALTER TABLE posts DROP COLUMN CommunityOwnedDate;
ALTER TABLE posts DROP COLUMN OwnerDisplayName;
ALTER TABLE posts DROP COLUMN ContentLicense;
ALTER TABLE comments DROP COLUMN Score;
ALTER TABLE comments DROP COLUMN UserDisplayName;
ALTER TABLE comments DROP COLUMN ContentLicense;
-- The history repeats every text that a post has had.
ALTER TABLE postHistory DROP COLUMN "Text";
ALTER TABLE postHistory DROP COLUMN RevisionGUID;
ALTER TABLE postHistory DROP COLUMN ContentLicense;
ALTER TABLE postHistory DROP COLUMN UserDisplayName;
DROP TABLE tags;

-- Does a user who got a badge within two years get another in the next 180 days?
CREATE TASK user_badge OPTIONS (
    val = '2017-01-01', test = '2019-01-01', every = '90 days', start = '2011-06-01',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
PREDICT COUNT(badges.*, 0, 180, days) > 0 FOR EACH users.Id
WHERE COUNT(badges.*, -730, 0, days) > 0;

-- Does a user who wrote within two years write a post or a comment in the next 180 days?
CREATE TASK user_writes OPTIONS (
    val = '2016-01-01', test = '2018-01-01', every = '90 days', start = '2011-06-01',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
PREDICT COUNT(posts.*, 0, 180, days) > 0 OR COUNT(comments.*, 0, 180, days) > 0
FOR EACH users.Id
WHERE COUNT(posts.*, -730, 0, days) > 0 OR COUNT(comments.*, -730, 0, days) > 0;

-- Does a post that got a vote within a year get another in the next 180 days?
CREATE TASK post_voted OPTIONS (
    val = '2016-01-01', test = '2018-01-01', every = '90 days', start = '2011-06-01',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
PREDICT COUNT(votes.*, 0, 180, days) > 0 FOR EACH posts.Id
WHERE COUNT(votes.*, -365, 0, days) > 0;

-- How many votes does a post of the last year get in the next 180 days, as ln(1 + n)?
CREATE TASK post_votes OPTIONS (
    entity = 'PostId', time = 'anchor', label = 'votes', table = 'posts',
    val = '2015-01-01', test = '2018-01-01', horizon = '180 days', regime = 'rolling',
    sample = [3000, 1500, 3000]) AS
SELECT a.anchor, p.Id AS PostId, ln(1 + count(v.Id)) AS votes
FROM (SELECT unnest(generate_series(
        TIMESTAMP '2010-11-01', TIMESTAMP '2023-02-01', INTERVAL 45 DAY)) AS anchor) a
JOIN posts p ON p.CreationDate <= a.anchor AND p.CreationDate > a.anchor - INTERVAL 365 DAY
LEFT JOIN votes v ON v.PostId = p.Id
    AND v.CreationDate > a.anchor AND v.CreationDate <= a.anchor + INTERVAL 180 DAY
WHERE NOT (a.anchor < TIMESTAMP '2015-01-01' AND a.anchor + INTERVAL 180 DAY > TIMESTAMP '2015-01-01')
    AND NOT (a.anchor < TIMESTAMP '2018-01-01' AND a.anchor + INTERVAL 180 DAY > TIMESTAMP '2018-01-01')
GROUP BY ALL;
