-- View waiting: what each live instance waits for, why it is paused, what is tried again; views workflows and activities.
-- It would catch an instance that is stuck without a word.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(19);
SET LOCAL client_min_messages = warning;
CREATE TEMP TABLE ids (what text PRIMARY KEY, id uuid);
CREATE FUNCTION pg_temp.id(w text) RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM ids WHERE what = w $$;
CREATE SCHEMA waits;
SET LOCAL search_path = waits, public;
CREATE FUNCTION fails(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no luck' USING ERRCODE = 'P1234'; END $$;
CREATE FUNCTION sleeps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 day'); RETURN i; END $$;
CREATE FUNCTION tries(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('fails', i, retry => '{"initial_interval": "1 hour", "max_interval": "1 hour", "max_duration": null}'); END $$;
CREATE FUNCTION spawns(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('fails', i, retry => '{"initial_interval": "1 hour", "max_interval": "1 hour", "max_duration": null}')); END $$;
CREATE FUNCTION asks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('ask', i); END $$;
CREATE FUNCTION goes(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('gone', i); END $$;
CREATE FUNCTION gone(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
SELECT romancy.define_activity('ask', queue => 'people', description => 'asks somebody', heartbeat_timeout => '1 min');
SELECT romancy.define_workflow('code', queue => 'programs', description => 'runs outside');
INSERT INTO ids SELECT w, romancy.start_workflow(w) FROM unnest('{sleeps,tries,spawns,asks,goes,code}'::text[]) w;
INSERT INTO ids VALUES ('later', romancy.start_workflow('sleeps', start_at => now() + interval '1 day'));
DROP FUNCTION gone(jsonb);
CALL romancy.drain();

CREATE FUNCTION pg_temp.shown(w text) RETURNS text LANGUAGE sql AS
	$$ SELECT concat_ws(' ', status, kind, step, name, 'queue ' || queue, 'attempt ' || attempt) FROM romancy.waiting WHERE instance_id = pg_temp.id(w) $$;
SELECT is((SELECT count(*) FROM romancy.waiting), 7::bigint, 'each live instance has a row');
SELECT is(pg_temp.shown('sleeps'), 'waiting_for_timer timer sleep:1 sleep', 'a timer');
SELECT ok((SELECT until > now() + interval '23 hours' AND since <= clock_timestamp() FROM romancy.waiting WHERE instance_id = pg_temp.id('sleeps')), 'since when, until when');
SELECT is(pg_temp.shown('later'), 'pending start', 'what starts later');
SELECT is((SELECT until FROM romancy.waiting WHERE instance_id = pg_temp.id('later')), now() + interval '1 day', 'and when');
SELECT is(pg_temp.shown('tries'), 'waiting_for_activity retry fails:1 fails attempt 1', 'an activity between attempts');
SELECT is((SELECT (error ->> 'sqlstate') || ' ' || (error ->> 'message') FROM romancy.waiting WHERE instance_id = pg_temp.id('tries')), 'P1234 no luck', 'with its last error');
SELECT ok((SELECT until > now() + interval '50 min' FROM romancy.waiting WHERE instance_id = pg_temp.id('tries')), 'and the next attempt');
SELECT is(pg_temp.shown('spawns'), 'waiting_for_activity retry fails:1 fails attempt 1', 'the same of a spawned one');
SELECT is((SELECT (error ->> 'sqlstate') || ' ' || (error ->> 'message') || (until > now()) FROM romancy.waiting WHERE instance_id = pg_temp.id('spawns')), 'P1234 no lucktrue', 'with its last error and the next attempt');
SELECT is(pg_temp.shown('asks'), 'waiting_for_activity activity ask:1 ask queue people attempt 0', 'a program''s activity');
SELECT is(pg_temp.shown('code'), 'running worker queue programs attempt 0', 'a program''s workflow');
SELECT is((SELECT status || ' ' || kind || ' ' || paused_by || ' ' || (error ->> 'sqlstate') FROM romancy.waiting WHERE instance_id = pg_temp.id('goes')), 'paused paused romancy RM001', 'paused by the engine, and why');

-- paused by a user
SELECT romancy.pause_workflow(pg_temp.id('sleeps'));
CALL romancy.drain();
SELECT is((SELECT status || ' ' || kind || ' ' || paused_by || ' ' || step FROM romancy.waiting WHERE instance_id = pg_temp.id('sleeps')),
	'paused paused ' || current_user || ' sleep:1', 'paused by whom');
SELECT is((SELECT data ->> 'by' FROM romancy.get_history(pg_temp.id('sleeps')) WHERE event_type = 'WorkflowPaused'), current_user::text, 'in its history, too');
SELECT romancy.resume_workflow(pg_temp.id('sleeps'));
CALL romancy.drain();
SELECT is(pg_temp.shown('sleeps'), 'waiting_for_timer timer sleep:1 sleep', 'resumed');

-- definitions
SELECT is((SELECT array[queue, description, heartbeat_timeout::text, transactional::text] FROM romancy.activities WHERE name = 'ask'), '{people,asks somebody,00:01:00,true}', 'activities');
SELECT is((SELECT array[version::text, is_current::text, defined::text, queue, description] FROM romancy.workflows WHERE name = 'code'), '{1,true,true,programs,runs outside}', 'workflows');
SELECT is((SELECT array[version::text, defined::text, handler] FROM romancy.workflows WHERE name = 'sleeps'), '{1,false,waits.sleeps(jsonb)}', 'and those that were not defined');
SELECT * FROM finish();
ROLLBACK;
