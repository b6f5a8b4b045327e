-- Each overlap by each state of the run before: the fate of a time that comes then, after the turns that it causes, and when the run
-- before has ended. The answers are written by hand. It would catch a state that is taken for dead or for alive, a run that is neither
-- started nor counted, and one that waits for an end that nothing tells it.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';

CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); END $$;
-- a time comes for a schedule, and no turn of any instance: the second one is a millisecond after the first
CREATE PROCEDURE come(schedule text, by interval = '1 hour') LANGUAGE sql AS $$
	UPDATE romancy.t_schedule SET after_at = after_at - by, next_at = next_at - by, due_at = due_at - by, anchor = anchor - by WHERE name = schedule;
	SELECT romancy.run_sweep('schedules') $$;
CREATE TABLE broken ();
CREATE FUNCTION child(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb((romancy.receive('go')).data); END $$;
CREATE FUNCTION say(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '1'; END $$;
CREATE FUNCTION waits(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
	IF i->>'n' < '2' THEN PERFORM romancy.recur(jsonb_build_object('state', i->'state', 'n', ((i->>'n')::int + 1)::text)); END IF;
	CASE i->>'state'
		WHEN 'completed', 'deleted' THEN RETURN '1';
		WHEN 'failed' THEN RAISE EXCEPTION 'no report';
		WHEN 'sleeping' THEN PERFORM romancy.sleep('100 days');
		WHEN 'with a task' THEN PERFORM romancy.activity('outside');
		WHEN 'with a child' THEN PERFORM romancy.call_workflow('child');
		WHEN 'failed, and retried' THEN IF EXISTS (SELECT FROM broken) THEN RAISE EXCEPTION 'no report'; END IF;
		WHEN 'compensating' THEN PERFORM romancy.activity('undoable');
		ELSE NULL;
	END CASE;
	RETURN to_jsonb((romancy.receive('go')).data); END $$;
SELECT romancy.define_activity('outside', queue => 'nobody_polls'), romancy.define_activity('undoable', handler => 'say', compensation => 'outside');

CREATE FUNCTION before(schedule text) RETURNS uuid LANGUAGE sql AS $$ SELECT instance_id FROM romancy.schedule_runs(schedule) ORDER BY scheduled LIMIT 1 $$;
CREATE FUNCTION shown(schedule text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s/%s/%s%s', runs, running, waiting, (SELECT string_agg(' ' || key || ' ' || value, '') FROM jsonb_each(missed))) FROM romancy.schedules WHERE name = schedule $$;

-- the schedule's run is brought into the state
CREATE PROCEDURE bring(schedule text, state text) LANGUAGE plpgsql AS $$ DECLARE done boolean; BEGIN
	INSERT INTO broken DEFAULT VALUES;
	CALL come(schedule);
	IF state <> 'pending' THEN CALL settle(); END IF;
	CASE state
		WHEN 'paused' THEN PERFORM romancy.pause_workflow(before(schedule));
		WHEN 'cancelled', 'compensating' THEN PERFORM romancy.cancel_workflow(before(schedule));
		WHEN 'terminated' THEN PERFORM romancy.terminate_workflow(before(schedule));
		WHEN 'deleted' THEN done := romancy.delete_workflow(before(schedule));
		WHEN 'failed, and retried' THEN
			DELETE FROM broken;
			done := romancy.retry_workflow(before(schedule));
		WHEN 'recurred, and ended' THEN PERFORM romancy.send_to(before(schedule), 'go', '1');
		ELSE NULL;
	END CASE;
	IF state <> 'pending' THEN CALL settle(); END IF;
END $$;

CREATE FUNCTION fate(state text, kind text, OUT was text, OUT at_once text, OUT after_turns text, OUT at_end text) LANGUAGE plpgsql AS $$
DECLARE name text := kind || ' ' || state; run uuid; BEGIN
	PERFORM romancy.schedule(name, '@every 1h', 'waits', jsonb_strip_nulls(jsonb_build_object('state', state, 'n', CASE WHEN state LIKE 'recurred%' THEN '0' END)), overlap => kind);
	CALL bring(name, state);
	SELECT r.status INTO was FROM romancy.schedule_runs(name) r ORDER BY scheduled LIMIT 1;
	run := before(name);
	CALL come(name, '59 min 59.999 s');
	at_once := shown(name);
	CALL settle();
	after_turns := shown(name);
	IF (SELECT finished_at IS NULL FROM romancy.instances WHERE instance_id = run) THEN
		PERFORM romancy.terminate_workflow(run);
		CALL settle();
	END IF;
	at_end := shown(name);
	PERFORM romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE labels->>'schedule' = name AND finished_at IS NULL;
	CALL settle();
	PERFORM romancy.unschedule(name);
END $$;

/*
 * runs / live / waiting, and what was missed: when the time has come, after the turns, and when the run before has ended. A run
 * that completes or fails at once is over after the turns.
 */
CREATE TABLE expected AS
	SELECT s.state, o.kind, s.was, o.at_once, o.after_turns, o.at_end
	FROM (VALUES ('pending', 'pending'), ('waiting', 'waiting_for_message'), ('sleeping', 'waiting_for_timer'), ('with a task', 'waiting_for_activity'), ('with a child', 'waiting_for_workflow'), ('failed, and retried', 'waiting_for_message'),
		('paused', 'paused'),
		('recurred twice', 'waiting_for_message')) s (state, was),
	(VALUES
		('skip', '1/1/0 overlap 1', '1/1/0 overlap 1', '1/0/0 overlap 1'),
		('queue', '1/1/1', '1/1/1', '2/1/0'),
		('queue_all', '1/1/1', '1/1/1', '2/1/0'),
		('allow', '2/2/0', '2/2/0', '2/1/0'),
		('cancel_previous', '1/1/1', '2/1/0', '2/1/0'),
		('terminate_previous', '1/1/1', '2/1/0', '2/1/0')) o (kind, at_once, after_turns, at_end)
	UNION ALL VALUES
		-- its compensation takes its time: a cancelled run lives until it is over, a terminated one does not
		('compensating', 'skip', 'compensating', '1/1/0 overlap 1', '1/1/0 overlap 1', '1/0/0 overlap 1'),
		('compensating', 'queue', 'compensating', '1/1/1', '1/1/1', '2/1/0'),
		('compensating', 'queue_all', 'compensating', '1/1/1', '1/1/1', '2/1/0'),
		('compensating', 'allow', 'compensating', '2/2/0', '2/2/0', '2/1/0'),
		('compensating', 'cancel_previous', 'compensating', '1/1/1', '1/1/1', '2/1/0'),
		('compensating', 'terminate_previous', 'compensating', '1/1/1', '2/1/0', '2/1/0')
	UNION ALL
	-- one that has ended hinders nothing
	SELECT s.state, kind, s.was, '2/1/0', s.after, s.after
	FROM (VALUES ('completed', 'completed', '2/0/0'), ('failed', 'failed', '2/0/0'), ('cancelled', 'cancelled', '2/1/0'), ('terminated', 'cancelled', '2/1/0'), ('deleted', NULL, '2/0/0'),
		('recurred, and ended', 'completed', '2/1/0')) s (state, was, after),
	unnest(ARRAY['skip', 'queue', 'queue_all', 'allow', 'cancel_previous', 'terminate_previous']) kind;
SELECT is(count(*), 15 * 6::bigint, 'each state by each overlap') FROM expected;
SELECT is(f::text, (e.was, e.at_once, e.after_turns, e.at_end)::text, e.kind || ', the run before is ' || e.state) FROM expected e, fate(e.state, e.kind) f;
SELECT * FROM finish();
ROLLBACK;
