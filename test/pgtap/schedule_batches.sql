-- Many schedules in one batch of the sweep: each gets what it would get alone, whether the batch is carried out at once or, because
-- one of them cannot be handled, one by one. It would catch a batch that takes what it knows of one schedule for true of the next: that none
-- of its runs lives or waits, that its time has none, that its key is free, that its workflow exists, its owner may run it and its input fits.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';

CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); END $$;
-- time passes for the schedules of these names
CREATE FUNCTION pass(names text, by interval) RETURNS void LANGUAGE sql AS $$
	UPDATE romancy.t_schedule SET after_at = after_at - by, next_at = next_at - by, due_at = due_at - by, anchor = anchor - by WHERE name LIKE names $$;
CREATE FUNCTION come(names text, by interval) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM pass(names, by); RETURN romancy.run_sweep('schedules'); END $$;
CREATE FUNCTION waits(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb((romancy.receive('go')).data); END $$;
CREATE FUNCTION gone(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
CREATE ROLE schedule_bea;
SELECT romancy.grant_usage('schedule_bea');
CREATE SCHEMA schedule_bea AUTHORIZATION schedule_bea;
-- another role's workflow of the same name, in its own namespace
SET LOCAL ROLE schedule_bea;
SET LOCAL search_path = schedule_bea, public;
CREATE FUNCTION schedule_bea.waits(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(current_user::text); END $$;
SELECT romancy.schedule(name, '@every 1h', 'waits') FROM unnest(ARRAY['1 m', '2 m']) name;
RESET ROLE;
SET LOCAL search_path = public;

CREATE FUNCTION prepare(round text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	PERFORM romancy.schedule(round || ' ' || name, '@every 1h', 'waits', overlap => kind, catch_up => '1 year') FROM (VALUES
		('a quiet', 'skip'), ('b lives', 'skip'), ('c quiet', 'queue'), ('d lives', 'queue'), ('e waits', 'queue'), ('f waits', 'queue_all'), ('g quiet', 'allow'), ('h lives', 'allow'),
		('i many', 'allow'), ('j lives', 'cancel_previous'), ('k filled', 'skip'), ('l taken', 'skip'), ('q paused', 'allow'), ('r quiet', 'skip')) v (name, kind);
	PERFORM romancy.schedule(round || ' n large', '@every 1h', 'waits', '1');
	PERFORM romancy.schedule(round || ' o gone', '@every 1h', 'gone');
	PERFORM romancy.pause_schedule(round || ' q paused');
	PERFORM come(round || ' ' || name, '1 h') FROM unnest(ARRAY['b lives', 'd lives', 'e waits', 'f waits', 'h lives', 'j lives']) name;
	CALL settle();
	PERFORM come(round || ' ' || name, '61 min') FROM unnest(ARRAY['e waits', 'f waits']) name;
END $$;
CREATE FUNCTION make_due(round text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	PERFORM pass(round || ' %', '70 min');
	PERFORM pass(round || ' i many', '2 h');
	PERFORM romancy.backfill_schedule(round || ' k filled', now() - interval '61 min', now());
	PERFORM romancy.start_workflow('waits', idempotency_key => 'schedule:' || s.name || ':' || to_char(s.next_run AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) FROM romancy.schedules s WHERE s.name = round || ' l taken';
END $$;
-- runs / live / waiting and what was missed; the instances' owners and inputs agree with their schedules
CREATE FUNCTION shown(round text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s/%s/%s%s', split_part(s.name, ' ', 2), runs, running, waiting, (SELECT string_agg(' ' || key || ' ' || value, '') FROM jsonb_each(missed)))
	FROM romancy.schedules s WHERE s.name LIKE round || ' %' ORDER BY s.name COLLATE "C" $$;
CREATE TABLE expected (n int GENERATED ALWAYS AS IDENTITY, shown text);
INSERT INTO expected (shown) VALUES ('a 1/1/0'), ('b 1/1/0 overlap 1'), ('c 1/1/0'), ('d 1/1/1'), ('e 1/1/1 queue_full 1'), ('f 1/1/2'), ('g 1/1/0'), ('h 2/2/0'),
	('i 3/3/0'), ('j 1/1/1'), ('k 1/1/0'), ('l 0/0/0 key_taken 1'), ('m 1/1/0'), ('n 0/0/0 error 1'), ('o 0/0/0 error 1'), ('q 0/0/0'), ('r 1/1/0');

SELECT prepare(round) FROM unnest(ARRAY['1', '2']) round;
DROP FUNCTION gone(jsonb);
SELECT make_due('1');
-- too large for a run, as after a change of romancy.max_payload_size
UPDATE romancy.t_schedule SET input = to_jsonb(repeat('x', 1100000)) WHERE name = '2 n large';
SELECT is(romancy.run_sweep('schedules'), 16::bigint, 'one batch');
SELECT results_eq($$ SELECT * FROM shown('1') $$, $$ SELECT CASE shown WHEN 'n 0/0/0 error 1' THEN 'n 1/1/0' ELSE shown END FROM expected ORDER BY n $$, 'each as it would alone');
-- the second round has one that cannot be read
SELECT romancy.schedule('2 p', '@every 1h', 'waits');
SELECT make_due('2');
UPDATE romancy.t_schedule SET cron = 'never' WHERE name = '2 p';
SELECT is(romancy.run_sweep('schedules'), 17::bigint, 'another batch');
SELECT is((SELECT paused || paused_by FROM romancy.schedules WHERE name = '2 p'), 'trueromancy', 'in which one pauses itself');
SELECT ok(romancy.unschedule('2 p'), 'that is dropped');
SELECT results_eq($$ SELECT * FROM shown('2') $$, $$ SELECT shown FROM expected ORDER BY n $$, 'the others as if it were not there');
SELECT is((SELECT count(*) FROM romancy.instances WHERE labels ? 'schedule' AND (owner = 'schedule_bea') <> (labels->>'schedule' LIKE '_ m')), 0::bigint, 'each runs as its owner');
SELECT is((SELECT string_agg(DISTINCT n.name, ',') FROM romancy.t_instance i JOIN romancy.t_namespace n ON n.namespace_id = i.namespace WHERE i.labels->>'schedule' LIKE '_ m'), 'schedule_bea', 'and in its namespace');
SELECT is((SELECT count(*) FROM romancy.schedules s JOIN romancy.instances i ON i.instance_id = s.last_instance WHERE i.labels->>'schedule' = s.name AND (i.labels->>'scheduled_at')::timestamptz = s.last_run),
	(SELECT count(*) FROM romancy.schedules WHERE runs > 0), 'the last run of each is its own');
SELECT is((SELECT count(*) FROM romancy.schedules WHERE NOT paused AND next_run <= now()), 0::bigint, 'and each has its next time');
SELECT * FROM finish();
ROLLBACK;
