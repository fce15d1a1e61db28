-- World Cups of men (1930 to 2022) and women (1991 to 2019).
-- Names repeat keys; counts, lists and results that stand in tables without a time tell the future.
-- Squads, appointments and stages are known on the eve of a tournament, standings and awards at its
-- end, and what happens in a match on its day. Of two paths that say the same one is left: a row of
-- a match has its tournament from there, a match its teams from their appearances.
CREATE TABLE eves AS
SELECT tournament_id, start_date::TIMESTAMP - INTERVAL 1 DAY AS eve, end_date::TIMESTAMP AS ends
FROM tournaments;
CREATE OR REPLACE TABLE tournaments AS
SELECT tournament_id, year, host_country, tournament_name LIKE '%Women%' AS women,
    group_stage, second_group_stage, final_round, round_of_16, quarter_finals, semi_finals,
    third_place_match, e.eve AS known_at
FROM tournaments JOIN eves e USING (tournament_id);
CREATE OR REPLACE TABLE teams AS
SELECT team_id, team_name, mens_team, womens_team, region_name, confederation_id FROM teams;
CREATE OR REPLACE TABLE confederations AS
SELECT confederation_id, confederation_code FROM confederations;
CREATE OR REPLACE TABLE players AS
SELECT player_id, try_cast(birth_date AS TIMESTAMP) AS birth_date, female, goal_keeper, defender,
    midfielder, forward
FROM players;
CREATE OR REPLACE TABLE managers AS SELECT manager_id, female, country_name FROM managers;
CREATE OR REPLACE TABLE stadiums AS
SELECT stadium_id, city_name, country_name, stadium_capacity FROM stadiums;
CREATE OR REPLACE TABLE matches AS
SELECT match_id, tournament_id, stage_name, knockout_stage, stadium_id, home_team_score,
    away_team_score, extra_time, penalty_shootout, match_date::TIMESTAMP AS played_at
FROM matches;
CREATE OR REPLACE TABLE squads AS
SELECT key_id AS squad_id, tournament_id, team_id, player_id, shirt_number, position_code,
    eve AS known_at
FROM squads JOIN eves USING (tournament_id);
CREATE OR REPLACE TABLE qualified_teams AS
SELECT key_id AS qualified_id, tournament_id, team_id, eve AS known_at
FROM qualified_teams JOIN eves USING (tournament_id);
CREATE OR REPLACE TABLE host_countries AS
SELECT key_id AS host_id, tournament_id, team_id, eve AS known_at
FROM host_countries JOIN eves USING (tournament_id);
CREATE OR REPLACE TABLE manager_appointments AS
SELECT key_id AS appointment_id, tournament_id, team_id, manager_id, eve AS known_at
FROM manager_appointments JOIN eves USING (tournament_id);
CREATE OR REPLACE TABLE group_standings AS
SELECT key_id AS standing_id, tournament_id, team_id, stage_number, position, played, wins, draws,
    losses, goals_for, goals_against, points, advanced, ends AS known_at
FROM group_standings JOIN eves USING (tournament_id);
CREATE OR REPLACE TABLE tournament_standings AS
SELECT key_id AS final_standing_id, tournament_id, team_id, position, ends AS known_at
FROM tournament_standings JOIN eves USING (tournament_id);
CREATE OR REPLACE TABLE award_winners AS
SELECT key_id AS win_id, tournament_id, award_name, player_id, team_id, ends AS known_at
FROM award_winners JOIN eves USING (tournament_id);
CREATE OR REPLACE TABLE goals AS
SELECT goal_id, match_id, team_id, player_id, minute_regulation, own_goal, penalty,
    match_date::TIMESTAMP AS scored_at
FROM goals;
CREATE OR REPLACE TABLE bookings AS
SELECT booking_id, match_id, team_id, player_id, minute_regulation, yellow_card,
    red_card, match_date::TIMESTAMP AS booked_at
FROM bookings;
CREATE OR REPLACE TABLE player_appearances AS
SELECT key_id AS appearance_id, match_id, team_id, player_id, position_code, starter,
    match_date::TIMESTAMP AS played_at
FROM player_appearances;
CREATE OR REPLACE TABLE team_appearances AS
SELECT key_id AS team_appearance_id, match_id, team_id, opponent_id, home_team, goals_for,
    goals_against, win, lose, draw, match_date::TIMESTAMP AS played_at
FROM team_appearances;
DROP TABLE awards;
DROP TABLE groups;
DROP TABLE manager_appearances;
DROP TABLE penalty_kicks;
DROP TABLE referee_appearances;
DROP TABLE referee_appointments;
DROP TABLE referees;
DROP TABLE substitutions;
DROP TABLE tournament_stages;
ALTER TABLE players SET (time = NULL);
ALTER TABLE tournaments SET (key = tournament_id, time = known_at);
ALTER TABLE team_appearances ADD FOREIGN KEY (opponent_id) REFERENCES teams (team_id);

-- Does a team reach the knock-out stage, asked on the eve of a tournament that has groups?
CREATE TASK team_reaches_knockout OPTIONS (
    entity = 'team_id', time = 'anchor', label = 'reaches', table = 'teams',
    val = '2002-01-01', test = '2014-01-01', horizon = '60 days', regime = 'rolling') AS
SELECT q.team_id, e.eve AS anchor, bool_or(m.knockout_stage = 1) AS reaches
FROM qualified_teams q JOIN eves e USING (tournament_id)
JOIN tournaments t USING (tournament_id)
JOIN team_appearances a ON a.team_id = q.team_id
JOIN matches m ON m.match_id = a.match_id AND m.tournament_id = q.tournament_id
WHERE t.group_stage = 1 AND t.final_round = 0
GROUP BY ALL;

-- How many goals does a team score in its next match, asked on the eve of it?
CREATE TASK team_goals OPTIONS (
    entity = 'team_id', time = 'anchor', label = 'scored', table = 'teams',
    val = '2002-01-01', test = '2014-01-01', horizon = '1 day', kind = 'regression',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
SELECT team_id, played_at - INTERVAL 1 DAY AS anchor, goals_for AS scored FROM team_appearances;

-- Does a team win its next match, asked on the eve of it?
CREATE TASK team_wins OPTIONS (
    entity = 'team_id', time = 'anchor', label = 'wins', table = 'teams',
    val = '2002-01-01', test = '2014-01-01', horizon = '1 day',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
SELECT team_id, played_at - INTERVAL 1 DAY AS anchor, win = 1 AS wins FROM team_appearances;

-- Does a player of a squad score in the tournament?
CREATE TASK player_scores OPTIONS (
    entity = 'player_id', time = 'anchor', label = 'scores', table = 'players',
    val = '2002-01-01', test = '2014-01-01', horizon = '60 days',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
SELECT s.player_id, s.known_at AS anchor, count(g.goal_id) > 0 AS scores
FROM squads s
LEFT JOIN (goals g JOIN matches m USING (match_id))
    ON g.player_id = s.player_id AND m.tournament_id = s.tournament_id AND g.own_goal = 0
GROUP BY ALL;

-- In how many matches of a tournament does a player of a squad play? Line-ups are known from 1970 on.
CREATE TASK player_appearances_count OPTIONS (
    entity = 'player_id', time = 'anchor', label = 'played', table = 'players',
    val = '2002-01-01', test = '2014-01-01', horizon = '60 days', kind = 'regression',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
SELECT s.player_id, s.known_at AS anchor, count(a.appearance_id) AS played
FROM squads s
LEFT JOIN (player_appearances a JOIN matches m USING (match_id))
    ON a.player_id = s.player_id AND m.tournament_id = s.tournament_id
WHERE s.known_at > TIMESTAMP '1974-01-01'
GROUP BY ALL;
DROP TABLE eves;
