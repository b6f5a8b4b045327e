-- Runs of a schedule that was dropped and defined anew under its name, runs that wait while it is edited, and
-- drain's clock, which goes on past times at which nothing starts. It would catch the run of a dropped schedule that hinders, pauses or is
-- counted by the next of its name, a waiting run that an edit loses, starts at once or starts as the schedule was, and a drain that ends at a time
-- that starts nothing, or that never ends.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';

CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); END $$;
CREATE PROCEDURE come(schedule text, by interval = '61 min') LANGUAGE sql AS $$
	UPDATE romancy.t_schedule SET after_at = after_at - by, next_at = next_at - by, due_at = due_at - by, anchor = anchor - by WHERE name = schedule;
	SELECT romancy.run_sweep('schedules') $$;
CREATE TABLE broken ();
INSERT INTO broken DEFAULT VALUES;
CREATE FUNCTION waits(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE data jsonb := (romancy.receive('go')).data; BEGIN
	IF data = '"fail"' AND EXISTS (SELECT FROM broken) THEN RAISE EXCEPTION 'no report'; END IF;
	RETURN i; END $$;
CREATE FUNCTION other(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
CREATE FUNCTION shown(schedule text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s/%s/%s %s ok %s failed', runs, running, waiting, completed, failed) || (SELECT coalesce(string_agg(' ' || key || ' ' || value, ''), '') FROM jsonb_each(missed))
		|| CASE WHEN paused THEN ' paused' ELSE '' END FROM romancy.schedules WHERE name = schedule $$;
CREATE FUNCTION waiting(schedule text) RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM romancy.schedule_runs(schedule) WHERE status = 'waiting' $$;
CREATE PROCEDURE go(schedule text, how text = 'on') LANGUAGE plpgsql AS $$ BEGIN
	PERFORM romancy.send_to(instance_id, 'go', to_jsonb(how)) FROM romancy.instances WHERE labels->>'schedule' = schedule AND finished_at IS NULL;
	CALL settle(); END $$;

-- dropped while a run lives and one waits, and defined anew
SELECT romancy.schedule('again', '@every 1h', 'waits', overlap => 'queue', pause_on_failure => 1);
CALL come('again');
CALL settle();
CALL come('again');
SELECT is(shown('again'), '1/1/1 0 ok 0 failed', 'one lives, one waits');
SELECT last_instance AS old FROM romancy.schedules WHERE name = 'again' \gset
SELECT ok(romancy.unschedule('again'), 'dropped');
SELECT romancy.schedule('again', '@every 1h', 'waits', overlap => 'skip', pause_on_failure => 1);
SELECT is(shown('again'), '0/0/0 0 ok 0 failed', 'the new one has no runs');
SELECT is((SELECT count(*) FROM romancy.schedule_runs('again')), 0::bigint, 'nor shows any');
CALL come('again', '62 min');
SELECT is(shown('again'), '1/1/0 0 ok 0 failed', 'the old one''s run is not the run before');
CALL settle();
SELECT romancy.send_to(:'old', 'go', '"fail"') IS NOT NULL AS sent \gset
CALL settle();
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'old'), 'failed', 'the old run fails');
SELECT is(shown('again'), '1/1/0 0 ok 0 failed', 'and pauses nothing');
DELETE FROM broken;
SELECT ok(romancy.retry_workflow(:'old'), 'it is retried');
CALL settle();
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'old'), 'completed', 'the old run completes');
SELECT is(shown('again'), '1/1/0 0 ok 0 failed', 'nor is that counted');
INSERT INTO broken DEFAULT VALUES;
CALL go('again', 'fail');
SELECT is(shown('again'), '1/0/0 0 ok 1 failed paused', 'its own is');
-- what ran for a past time has run, whichever definition it ran for
SELECT romancy.schedule('past', '@daily', 'other');
SELECT is(romancy.backfill_schedule('past', '2026-03-01', '2026-03-04'), 3::bigint, 'three days');
SELECT ok(romancy.unschedule('past'), 'dropped');
SELECT romancy.schedule('past', '@daily', 'other');
SELECT is(romancy.backfill_schedule('past', '2026-03-01', '2026-03-06'), 2::bigint, 'the two days that are missing');
SELECT is(shown('past'), '2/2/0 0 ok 0 failed', 'and no time is counted as missed');
CALL settle();
-- the run of a dropped schedule is deleted, and so is its row
SELECT count(*) AS rows FROM romancy.t_schedule_run WHERE schedule = 'again' \gset
SELECT ok(romancy.delete_workflow(:'old'), 'deleted');
SELECT is((SELECT count(*) FROM romancy.t_schedule_run WHERE schedule = 'again'), :rows - 1::bigint, 'its row too');
SELECT is((SELECT sum(romancy.unschedule(name)::int) FROM unnest(ARRAY['again', 'past']) name), 2::bigint, 'dropped');

-- runs that wait, by the overlap that the schedule has after the edit: they keep their places, and start one after the other as it is then
CREATE FUNCTION edited(kind text, OUT at_once text, OUT time_comes text, OUT first_ends text, OUT started jsonb) LANGUAGE plpgsql AS $$
DECLARE name text := 'edited ' || kind; BEGIN
	PERFORM romancy.schedule(name, '@every 1h', 'waits', '"old"', overlap => 'queue_all');
	CALL come(name);
	CALL settle();
	CALL come(name);
	CALL come(name);
	PERFORM romancy.schedule(name, '@every 2h', 'waits', '"new"', overlap => kind, labels => '{"of": "new"}');
	PERFORM romancy.run_sweep('schedules');
	at_once := shown(name);
	CALL come(name, '125 min');
	CALL settle();
	time_comes := shown(name);
	CALL go(name);
	CALL settle();
	first_ends := shown(name);
	started := (SELECT jsonb_agg(DISTINCT i.input || (i.labels->'of')) FROM romancy.instances i WHERE i.labels->>'schedule' = name AND i.input <> '"old"');
	PERFORM romancy.unschedule(name);
	PERFORM romancy.terminate_workflow(i.instance_id) FROM romancy.instances i WHERE i.labels->>'schedule' = name AND i.finished_at IS NULL;
	CALL settle();
END $$;
CREATE TABLE expected (kind text, at_once text, time_comes text, first_ends text);
INSERT INTO expected VALUES
	('skip', '1/1/2 0 ok 0 failed', '1/1/2 0 ok 0 failed overlap 1', '2/1/1 1 ok 0 failed overlap 1'),
	('queue', '1/1/2 0 ok 0 failed', '1/1/2 0 ok 0 failed queue_full 1', '2/1/1 1 ok 0 failed queue_full 1'),
	('queue_all', '1/1/2 0 ok 0 failed', '1/1/3 0 ok 0 failed', '2/1/2 1 ok 0 failed'),
	('allow', '1/1/2 0 ok 0 failed', '2/2/2 0 ok 0 failed', '3/1/1 2 ok 0 failed'),
	('cancel_previous', '1/1/2 0 ok 0 failed', '2/1/0 0 ok 0 failed superseded 2', '2/0/0 1 ok 0 failed superseded 2'),
	('terminate_previous', '1/1/2 0 ok 0 failed', '2/1/0 0 ok 0 failed superseded 2', '2/0/0 1 ok 0 failed superseded 2');
SELECT is(f::text, (e.at_once, e.time_comes, e.first_ends, '[["new", "new"]]'::jsonb)::text, 'runs wait, and the schedule becomes ' || e.kind)
	FROM expected e, edited(e.kind) f;
-- while it is paused an edit keeps them too, and a workflow that the edit names is the one that starts
SELECT romancy.schedule('paused', '@every 1h', 'waits', overlap => 'queue');
CALL come('paused');
CALL settle();
CALL come('paused');
SELECT ok(romancy.pause_schedule('paused'), 'paused');
CALL go('paused');
SELECT romancy.schedule('paused', '@every 1h', 'other', overlap => 'queue');
SELECT romancy.run_sweep('schedules') >= 0 AS swept \gset
SELECT is(shown('paused'), '1/0/1 1 ok 0 failed paused', 'it waits for the pause to end');
SELECT ok(romancy.resume_schedule('paused'), 'resumed');
SELECT romancy.run_sweep('schedules') >= 0 AS swept \gset
CALL settle();
SELECT is(shown('paused'), '2/0/0 2 ok 0 failed', 'it runs');
SELECT is((SELECT string_agg(workflow, ' ' ORDER BY created_at) FROM romancy.instances WHERE labels->>'schedule' = 'paused'), 'waits other', 'as the schedule is then');
SELECT is(romancy.unschedule('paused'), true, 'dropped');

-- drain: a time at which nothing starts does not end it
CREATE FUNCTION gone(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
CREATE FUNCTION sleeps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('150 min'); RETURN i; END $$;
CREATE PROCEDURE advance(max_turns int = NULL) LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(max_turns, advance_time => true, turns => n); END $$;
CREATE PROCEDURE clear() LANGUAGE plpgsql AS $$ BEGIN
	PERFORM romancy.unschedule(name) FROM romancy.schedules;
	PERFORM romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NULL;
	CALL settle(); END $$;
SELECT romancy.schedule('broken', '@every 10min', 'gone'), romancy.schedule('later', '@every 30min', 'other');
DROP FUNCTION gone(jsonb);
CALL advance();
SELECT is(shown('broken'), '0/0/0 0 ok 0 failed error 1', 'one that cannot start fires once');
SELECT is(shown('later'), '1/0/0 1 ok 0 failed', 'and the one after it too');
CALL clear();
-- by number of turns: times at which nothing starts take none, and are all passed in their order
SELECT romancy.schedule('sleeps', '@every 1h', 'sleeps', overlap => 'skip');
CALL advance(2);
SELECT is(shown('sleeps'), '1/0/0 1 ok 0 failed overlap 2', 'the two times that its run slept through');
CALL advance(2);
SELECT is(shown('sleeps'), '2/0/0 2 ok 0 failed overlap 4', 'and the next');
CALL clear();
-- where nothing but such times is left, it ends
SELECT romancy.schedule('stuck', '@every 1h', 'waits', overlap => 'skip');
CALL advance(10);
SELECT is(split_part(shown('stuck'), ' overlap', 1), '1/1/0 0 ok 0 failed', 'a run that waits for a message is waited for no longer');
SELECT romancy.schedule('yearly', '@every 12h', 'other');
CALL advance(1);
SELECT is(shown('yearly'), '1/0/0 1 ok 0 failed', 'but as long as another schedule has a time, the clock goes on');
SELECT ok((SELECT (missed->>'overlap')::int >= 11 FROM romancy.schedules WHERE name = 'stuck'), 'and each time until then is counted');
CALL clear();
SELECT * FROM finish();
ROLLBACK;
