-- romancy's tables are not distributed. Citus puts its trigger on each table that it takes over; here a function of that name
-- stands for it (test/t/088_citus.pl has the real one, where it is). It would catch a table of romancy's that Citus takes over,
-- and a refusal of a DBA's own triggers or of users' tables.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
CREATE FUNCTION citus_truncate_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION my_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TABLE mine (i int);
SELECT throws_ok(format('CREATE TRIGGER t AFTER TRUNCATE ON romancy.%I EXECUTE FUNCTION citus_truncate_trigger()', relname), '0A000', NULL, relname || ' is not distributed')
FROM pg_class WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'r';
SELECT lives_ok('CREATE TRIGGER t AFTER TRUNCATE ON mine EXECUTE FUNCTION citus_truncate_trigger()', 'a user''s table may be');
SELECT lives_ok('CREATE TRIGGER t AFTER TRUNCATE ON romancy.t_value EXECUTE FUNCTION my_trigger()', 'another trigger is not refused');
SELECT * FROM finish();
ROLLBACK;
