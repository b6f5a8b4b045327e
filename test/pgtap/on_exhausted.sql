-- "on_exhausted": "pause" of a retry policy: the instance is paused with the activity's error, and after resume_workflow
-- tries again, with all attempts; called, spawned, mapped, in queues, as a compensation. It would catch a task that stays parked.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(26);
SET LOCAL client_min_messages = warning;
CREATE SCHEMA ex;
SET LOCAL search_path = ex, public;
CREATE TABLE broken ();
CREATE TABLE tries (what text);
CREATE FUNCTION work(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF i = '"terminal"' THEN PERFORM romancy.raise_terminal('never', error_code => 'P9999'); END IF;
	IF i = '"fault"' AND EXISTS (SELECT FROM pg_class WHERE relname = 'broken') THEN PERFORM no_such_function(); END IF;
	IF EXISTS (SELECT FROM pg_class WHERE relname = 'broken') THEN RAISE EXCEPTION 'out of order' USING ERRCODE = 'P1234'; END IF;
	RETURN to_jsonb(romancy.attempt());
END $$;
SELECT romancy.define_activity('work', 'work', retry => '{"on_exhausted": "pause", "max_attempts": 2, "initial_interval": "1 min", "jitter": 0}');
SELECT romancy.define_activity('ext', queue => 'exq', retry => '{"on_exhausted": "pause", "max_attempts": 1}');
CREATE FUNCTION calls(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('work', i); END $$;
CREATE FUNCTION spawns(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('work', i)); END $$;
CREATE FUNCTION maps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('work', '[1, 2]'); END $$;
CREATE FUNCTION asks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('ext', i); END $$;
CREATE FUNCTION fine(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
SELECT romancy.define_activity('undone', 'fine', compensation => 'work');
CREATE FUNCTION undoes(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('undone', i); RAISE EXCEPTION 'stop' USING ERRCODE = 'P0007'; END $$;
CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(advance_time => true, turns => n); END $$;
CREATE TEMP TABLE ids AS SELECT w AS what, romancy.start_workflow(w) AS id FROM unnest('{calls,spawns,maps,asks,undoes}'::text[]) w;
INSERT INTO ids VALUES ('terminal', romancy.start_workflow('calls', '"terminal"')), ('fault', romancy.start_workflow('calls', '"fault"')), ('raced', romancy.start_workflow('spawns')),
	('held', romancy.start_workflow('spawns'));
CREATE FUNCTION id(w text) RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM ids WHERE what = w $$;
CREATE FUNCTION state(w text) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', status, error ->> 'sqlstate', error ->> 'message', output) FROM romancy.instances WHERE instance_id = id(w) $$;
CALL settle();
CREATE TEMP TABLE got AS SELECT * FROM romancy.fetch_activities('exq', 'me');
SELECT ok((SELECT romancy.fail_activity(token, 'gone wrong', 'P4321') FROM got), 'a program fails its only attempt');
CALL settle();

SELECT is(state('calls'), 'paused P1234 out of order', 'called: paused with the error after the last attempt');
SELECT is((SELECT step || ' ' || name || ' ' || paused_by || ' ' || attempt FROM romancy.waiting WHERE instance_id = id('calls')), 'work:1 work romancy 2', 'the view tells the step');
SELECT is((SELECT count(*) FROM romancy.get_history(id('calls')) WHERE event_type = 'ActivityFailed'), 0::bigint, 'the step has not failed');
SELECT is(state('spawns'), 'paused P1234 out of order', 'spawned');
SELECT is(state('maps'), 'paused P1234 out of order', 'mapped');
SELECT is(state('asks'), 'paused P4321 gone wrong', 'in a queue');
SELECT is(state('undoes'), 'paused P1234 out of order', 'a compensation');
SELECT is(state('fault'), 'paused 42883 function no_such_function() does not exist', 'a fault of the code, at once');
SELECT is(state('terminal'), 'failed P9999 never', 'not after raise_terminal');

-- resumed while it is still broken: all attempts again
SELECT romancy.resume_workflow(id('calls')), romancy.resume_workflow(id('spawns'));
CALL settle();
SELECT is(state('calls'), 'paused P1234 out of order', 'resumed too early: paused again');
SELECT is((SELECT count(*) FROM romancy.get_history(id('calls')) WHERE event_type = 'WorkflowPaused'), 2::bigint, 'a second time');
SELECT is(state('spawns'), 'paused P1234 out of order', 'spawned, too');

-- mended
DROP TABLE broken;
SELECT is(romancy.resume_workflows('{"status": "paused"}'), 8::bigint, 'resumed');
CALL settle();
SELECT is(state('calls'), 'completed 1', 'the attempts have begun anew');
SELECT is(state('spawns'), 'completed 1', 'spawned');
-- (the other task may have had attempts left when the instance was paused)
SELECT matches(state('maps'), '^completed \[[12], [12]\]$', 'mapped');
SELECT is(state('fault'), 'completed 1', 'the fault is mended');
SELECT is(state('undoes'), 'failed P0007 stop', 'the compensation has run');
SELECT is((SELECT count(*) FROM romancy.get_history(id('undoes')) WHERE event_type = 'CompensationExecuted'), 1::bigint, 'once');
SELECT is((SELECT input FROM romancy.fetch_activities('exq', 'me')), NULL, 'the program''s task is to be had again');
SELECT is((SELECT count(*) FROM romancy.activity_tasks WHERE queue = 'exq' AND status = 'running'), 1::bigint, 'and it has it');
SELECT is((SELECT count(*) FROM romancy.activity_tasks WHERE queue IS NULL), 0::bigint, 'no other task is left');

-- wrong values
SELECT throws_ok($$ SELECT romancy.define_activity('x', 'fine', retry => '{"on_exhausted": "stop"}') $$, 'RM012', 'invalid value for key "on_exhausted" of "retry"', 'a wrong value');
SELECT throws_ok($$ SELECT romancy.define_activity('x', 'fine', retry => '{"on_exhausted": 1}') $$, 'RM012', NULL, 'a wrong type');
SELECT lives_ok($$ SELECT romancy.define_activity('x', 'fine', retry => '{"on_exhausted": "fail"}') $$, 'the default can be given');
SELECT * FROM finish();
ROLLBACK;
