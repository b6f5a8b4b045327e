-- spawn, map, queued activities and their workers' calls. All in one transaction, so that
-- nothing of it reaches an executor.
-- It would catch a task that is given to two programs, and an outcome that counts twice.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE SCHEMA tasks_test;
SET LOCAL search_path = tasks_test, public;
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION sq(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO effect (what) VALUES ('sq ' || i::text); RETURN to_jsonb(i::int * i::int); END $$;
CREATE FUNCTION flaky(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO effect (what) VALUES ('lost');
	IF romancy.attempt() < 3 THEN RAISE EXCEPTION 'attempt % fails', romancy.attempt() USING ERRCODE = '22012'; END IF;
	RETURN to_jsonb(romancy.step_key() LIKE '%/flaky:1');
END $$;
CREATE FUNCTION never(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RETURN romancy.raise_terminal('never ' || i::text, '{"why": 1}', '22012'); END $$;
CREATE FUNCTION story(id uuid) RETURNS TABLE (event_type text, activity_id text, result jsonb, error text) LANGUAGE sql AS $$
	SELECT event_type, activity_id, data -> 'result', data -> 'error' ->> 'message' FROM romancy.get_history(id) $$;

-- several at once, an await that comes late, one that is retried
CREATE FUNCTION several(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text[]; first text; r jsonb;
BEGIN
	h := ARRAY[romancy.spawn('sq', '2'), romancy.spawn('sq', '3', 'three'), romancy.spawn('flaky', NULL, NULL, '{"initial_interval": "1 min", "jitter": 0}')];
	SELECT handle, result INTO first, r FROM romancy.await_any(h);
	RETURN jsonb_build_array(r, to_jsonb(romancy.await_all(h)), romancy.await(h[2]));
END $$;
SELECT romancy.start_workflow('several') AS id \gset
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
SELECT activity, status, attempt, jsonb_array_length(errors) AS errors FROM romancy.activity_tasks;
CALL romancy.drain(advance_time => true) \gset
SELECT status, output FROM romancy.instances WHERE instance_id = :'id';
SELECT event_type, activity_id FROM story(:'id') ORDER BY event_type, activity_id;
SELECT what FROM effect ORDER BY n;
SELECT count(*) FROM romancy.activity_tasks;

-- map: in order, bounded, with an error, with nothing
CREATE FUNCTION mapped(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RETURN romancy.map(i ->> 'f', i -> 'inputs', (i ->> 'max')::int); END $$;
SELECT romancy.start_workflow('mapped', '{"f": "sq", "inputs": [3, 1, 2]}') AS id \gset
SELECT romancy.start_workflow('mapped', '{"f": "sq", "inputs": [3, 1, 2, 5, 4], "max": 2}') AS id2 \gset
SELECT romancy.start_workflow('mapped', '{"f": "sq", "inputs": []}') AS id3 \gset
SELECT romancy.start_workflow('mapped', '{"f": "never", "inputs": [1, 2]}') AS id4 \gset
SELECT romancy.start_workflow('mapped', '{"f": "sq", "inputs": {}}') AS id5 \gset
SELECT romancy.start_workflow('mapped', '{"f": "sq", "inputs": [], "max": 0}') AS id6 \gset
SELECT romancy.start_workflow('mapped', '{"f": "nobody", "inputs": [1]}') AS id7 \gset
CALL romancy.drain() \gset
SELECT status, output, error - 'context' AS error FROM romancy.instances
	WHERE instance_id IN (:'id', :'id2', :'id3', :'id4', :'id5', :'id6', :'id7') ORDER BY instance_id;

-- a queue: priority, then age; a token is good for one attempt
SELECT romancy.define_activity('ext', queue => 'tasks_q', retry => '{"max_attempts": 2, "initial_interval": "1 min", "jitter": 0}');
CREATE FUNCTION outer_ext(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('ext', i); END $$;
SELECT romancy.start_workflow('outer_ext', '1') AS a \gset
SELECT romancy.start_workflow('outer_ext', '2') AS b \gset
SELECT romancy.start_workflow('outer_ext', '3', priority => 5) AS c \gset
CALL romancy.drain() \gset
SELECT status, count(*) FROM romancy.instances WHERE instance_id IN (:'a', :'b', :'c') GROUP BY 1;
CREATE TEMP TABLE got AS SELECT * FROM romancy.fetch_activities('tasks_q', 'w1', 10, '1 h');
SELECT activity_id, activity, input, attempt, deadline > now() AS deadline, last_details FROM got;
SELECT count(*) FROM romancy.fetch_activities('tasks_q', 'w2');
SELECT name, ready, running FROM romancy.queues;
SELECT token AS t1 FROM got WHERE input = '1' \gset
SELECT token AS t2 FROM got WHERE input = '2' \gset
SELECT token AS t3 FROM got WHERE input = '3' \gset
SELECT romancy.complete_activity(:'t3', '"done"'), romancy.complete_activity(:'t3', '"again"');
SELECT romancy.heartbeat_activity(:'t1', '{"at": 1}'), romancy.heartbeat_activity(:'t3');
SELECT romancy.fail_activity(:'t1', 'no luck', 'ValueError', '{"x": 1}'), romancy.fail_activity(:'t1', 'no luck');
SELECT romancy.fail_activity(:'t2', 'bad input', '22023', non_retryable => true);
CALL romancy.drain() \gset
SELECT input, status, output, error - 'context' AS error FROM romancy.instances WHERE instance_id IN (:'b', :'c') ORDER BY input;
SELECT activity, status, attempt, errors -> 0 ->> 'message' AS error, last_details FROM romancy.activity_tasks WHERE queue = 'tasks_q' ORDER BY attempt, status;
CALL romancy.drain(advance_time => true) \gset
SELECT attempt, last_details FROM romancy.fetch_activities('tasks_q', 'w1');
SELECT romancy.cancel_workflow(:'a', 'enough');
CALL romancy.drain() \gset
SELECT format('%s.%s.%s', task_id, attempt, lpad(to_hex(fence), 16, '0')) AS t1 FROM romancy.t_task WHERE state IN (1, 6) \gset
SELECT romancy.heartbeat_activity(:'t1'), romancy.complete_activity(:'t1', '1'), romancy.heartbeat_activity(:'t1');

-- leases end, by the sweep; the attempts are counted
SELECT romancy.start_workflow('outer_ext', '4') AS d \gset
CALL romancy.drain() \gset
SELECT token AS t1 FROM romancy.fetch_activities('tasks_q', 'w1', lease => '1 ms') \gset
SELECT pg_sleep(0.01);
SELECT romancy.complete_activity(:'t1'), romancy.heartbeat_activity(:'t1');
SELECT romancy.run_sweep('lock_cleanup');
SELECT attempt, token AS t1 FROM romancy.fetch_activities('tasks_q', 'w2', lease => '1 ms') \gset
SELECT pg_sleep(0.01);
SELECT romancy.run_sweep('lock_cleanup');
CALL romancy.drain() \gset
SELECT status, error - 'context' AS error FROM romancy.instances WHERE instance_id = :'d';
SELECT activity, status, attempt FROM romancy.activity_tasks WHERE instance_id = :'d';

-- too late to begin
SELECT romancy.define_activity('ext', queue => 'tasks_q', schedule_to_start_timeout => '1 ms');
SELECT romancy.start_workflow('outer_ext', '5') AS e \gset
CALL romancy.drain() \gset
SELECT pg_sleep(0.01);
SELECT romancy.run_sweep('activity_timeouts') > 0 AS swept;
CALL romancy.drain() \gset
SELECT status, error - 'context' AS error FROM romancy.instances WHERE instance_id = :'e';
SELECT romancy.drop_activity('ext');

-- so is a spawned one in the database that no executor came to in time, whatever else it is defined with
CREATE FUNCTION later(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
CREATE FUNCTION outer_later(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('later', i)); END $$;
SELECT romancy.define_activity('later', 'later(jsonb)', schedule_to_start_timeout => '1 ms');
SELECT romancy.start_workflow('outer_later', '5') AS l \gset
CALL romancy.drain(max_turns => 1) \gset
SELECT pg_sleep(0.01);
SELECT romancy.run_sweep('activity_timeouts') > 0 AS swept;
CALL romancy.drain() \gset
SELECT status, error - 'context' AS error FROM romancy.instances WHERE instance_id = :'l';

-- what "when others" would not catch comes as RM006 with the original in its detail, from a program too
SELECT romancy.define_activity('ext', queue => 'tasks_q', retry => '{"max_attempts": 1}');
CREATE FUNCTION breaks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'broken off' USING ERRCODE = i #>> '{}', DETAIL = 'why', HINT = 'what now'; END $$;
CREATE FUNCTION catches(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE d text; h text;
BEGIN
	PERFORM romancy.activity(i ->> 'activity', i -> 'code', retry => '{"max_attempts": 1}');
	RETURN '"no error"';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN jsonb_build_array(sqlstate, sqlerrm, d, h);
END $$;
SELECT count(*) FROM romancy.start_workflows('catches', array(
	SELECT jsonb_build_object('activity', a, 'code', c) FROM unnest(ARRAY['breaks', 'ext']) a, unnest(ARRAY['57014', 'P0004', '22012']) c));
CALL romancy.drain() \gset
SELECT count(*) FROM (SELECT romancy.fail_activity(t.token, 'broken off', t.input #>> '{}', '"why"') FROM romancy.fetch_activities('tasks_q', 'w', 10) t) f;
CALL romancy.drain() \gset
SELECT input, output FROM romancy.instances WHERE workflow = 'catches' ORDER BY input ->> 'activity', input ->> 'code';
SELECT romancy.drop_activity('ext');

-- the last report of a spawned activity outlives its instance's end
CREATE FUNCTION reports(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.set_progress(3, 4, 'nearly'); RETURN i; END $$;
CREATE FUNCTION spawns_report(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('reports', i)); END $$;
SELECT romancy.start_workflow('spawns_report') AS f \gset
CALL romancy.drain() \gset
SELECT status, total, completed, note FROM romancy.instances, romancy.get_progress(:'f') WHERE instance_id = :'f';

-- replay does not need what has been done
CREATE FUNCTION gone(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
CREATE FUNCTION needs_it_no_more(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE r jsonb := jsonb_build_array(romancy.activity('gone', '1'), romancy.await(romancy.spawn('gone', '2')), romancy.map('gone', '[3, 4]'));
BEGIN PERFORM romancy.sleep('1 h'); RETURN r; END $$;
SELECT romancy.start_workflow('needs_it_no_more') AS g \gset
CALL romancy.drain() \gset
DROP FUNCTION gone;
CALL romancy.drain(advance_time => true) \gset
SELECT status, output FROM romancy.instances WHERE instance_id = :'g';

-- bad input
SELECT romancy.spawn('sq');
SELECT romancy.map('sq', '[]');
SELECT romancy.complete_activity('x');
SELECT romancy.complete_activity(:'t1' || '0');
SELECT romancy.complete_activity(upper(:'t1'));
SELECT romancy.complete_activity(NULL);
SELECT romancy.complete_activity('01a1fbd9-e006-8ad1-b225-fb240fccaddf.1.0000000000000000');
SELECT romancy.fail_activity(:'t1', NULL);
SELECT romancy.fetch_activities('tasks_q', 'w', 0);
SELECT romancy.fetch_activities('tasks_q', 'w', 1001);
SELECT romancy.fetch_activities('', 'w');
SELECT romancy.fetch_activities('tasks_q', NULL);
SELECT romancy.fetch_activities('tasks_q', 'w', 1, '0');
SELECT romancy.fetch_activities('tasks_q', 'w', 1, '1 year');
SELECT romancy.fetch_activities('unknown', 'w');
CALL romancy.poll_activities('tasks_q', 'w');
SELECT romancy.complete_activity(:'t1', to_jsonb(repeat('x', 2000000)));
ROLLBACK;
CALL romancy.poll_activities('nothing_here', 'w', wait => '10 ms');
