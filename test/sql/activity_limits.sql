-- Limits of activities that run in the database: rate_limit and max_concurrency of
-- define_activity, for activity(), spawned ones, canvases and compensations.
-- It would catch a limit that one of these ways gets round, and a slot that is not given back.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE TABLE ran (n int, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION act(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ran VALUES ((i ->> 'n')::int); RETURN i -> 'n'; END $$;
CREATE FUNCTION fails(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE FUNCTION wf(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity(i ->> 'a', i); END $$;
CREATE FUNCTION wf_both(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('act', '{"n": 1}'); RETURN romancy.activity(i ->> 'a', i); END $$;
CREATE FUNCTION wf_map(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map(i ->> 'a', i -> 'list'); END $$;
CREATE FUNCTION wf_saga(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('undone', i); PERFORM romancy.activity('undone', i); PERFORM romancy.activity('fails', i); RETURN NULL; END $$;
CREATE FUNCTION start(wf text, a text, count int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(romancy.start_workflow(wf, jsonb_build_object('a', a, 'n', g))) FROM generate_series(1, count) g $$;
CREATE FUNCTION statuses() RETURNS TABLE (status text, kind text, n bigint) LANGUAGE sql AS $$
	SELECT i.status, w.kind, count(*) FROM romancy.instances i LEFT JOIN romancy.waiting w USING (instance_id) GROUP BY 1, 2 ORDER BY 1, 2 $$;
CREATE FUNCTION clear() RETURNS void LANGUAGE sql AS $$
	SELECT romancy.cancel_workflows('{}'); TRUNCATE ran $$;

-- without limits, and with null: no call waits
SELECT romancy.define_activity('none', 'act(jsonb)', rate_limit => NULL, max_concurrency => NULL);
SELECT start('wf', 'none', 50);
CALL romancy.drain() \gset
SELECT * FROM statuses();

-- a bucket: two at once, then one each half hour
SELECT romancy.define_activity('two', 'act(jsonb)', rate_limit => '2/h');
SELECT clear(), start('wf', 'two', 5);
CALL romancy.drain() \gset
SELECT * FROM statuses() WHERE status <> 'cancelled';
SELECT name, until - since BETWEEN '1 second' AND '31 minutes' AS soon FROM romancy.waiting ORDER BY 1, 2;
-- nothing is due: nothing runs
CALL romancy.drain();
SELECT count(*) FROM ran;
-- the times are timers
CALL romancy.drain(advance_time => true) \gset
SELECT * FROM statuses() WHERE status <> 'cancelled';
SELECT count(*), count(DISTINCT n) FROM ran;
SELECT event_type, count(*) FROM romancy.instances i, romancy.get_history(i.instance_id) WHERE i.input ->> 'a' = 'two' GROUP BY 1 ORDER BY 1;

-- a session that moved its clock counts for itself: the bucket is as it was before
SELECT clear(), start('wf', 'two', 1);
CALL romancy.drain() \gset
SELECT * FROM statuses() WHERE status LIKE 'wait%';

-- defined anew with a higher rate, then without: it goes on, at the latest when its time comes
SELECT romancy.define_activity('two', 'act(jsonb)');
CALL romancy.drain(advance_time => true) \gset
SELECT count(*) FROM ran;

-- a step before it in the same handler runs once
SELECT romancy.define_activity('hourly', 'act(jsonb)', rate_limit => '1/h');
SELECT clear(), start('wf_both', 'hourly', 3);
CALL romancy.drain(advance_time => true) \gset
SELECT n, count(*) FROM ran GROUP BY 1 ORDER BY 1;

-- a failed attempt has taken its token; the retry takes another one
SELECT romancy.define_activity('failing', 'fails(jsonb)', rate_limit => '3/h', retry => '{"max_attempts": 5, "initial_interval": "1s"}');
SELECT clear(), start('wf', 'failing', 1);
CALL romancy.drain(advance_time => true) \gset
SELECT i.status, h.data -> 'retry' ->> 'total_attempts' AS attempts, (h.data -> 'retry' ->> 'total_duration_ms')::int / 1000 BETWEEN 1100 AND 1300 AS waited
	FROM romancy.instances i, romancy.get_history(i.instance_id) h WHERE i.input ->> 'a' = 'failing' AND h.event_type = 'ActivityFailed';

-- spawned ones, and those of a canvas
SELECT romancy.define_activity('ten', 'act(jsonb)', rate_limit => '10/h');
SELECT clear(), romancy.start_workflow('wf_map', (SELECT jsonb_build_object('a', 'ten', 'list', jsonb_agg(jsonb_build_object('n', g))) FROM generate_series(1, 25) g)) IS NOT NULL;
CALL romancy.drain() \gset
SELECT count(*), count(DISTINCT n) FROM ran;
SELECT status, attempt, count(*) FROM romancy.activity_tasks GROUP BY 1, 2;
CALL romancy.drain(advance_time => true) \gset
SELECT count(*), count(DISTINCT n) FROM ran;
SELECT output FROM romancy.instances WHERE workflow = 'wf_map';
SELECT clear(), romancy.run_canvas(romancy.chain(romancy.task('hourly', '{"n": 1}'), romancy.task('hourly', '{"n": 2}'))) AS id \gset
CALL romancy.drain(advance_time => true) \gset
SELECT status, output FROM romancy.instances WHERE instance_id = :'id';

-- a task that is held when its instance is paused, and goes on after that
SELECT clear(), romancy.start_workflow('wf_map', '{"a": "hourly", "list": [{"n": 1}, {"n": 2}, {"n": 3}]}') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.pause_workflow(:'id');
CALL romancy.drain(advance_time => true) \gset
SELECT status, count(*) FROM romancy.activity_tasks GROUP BY 1;
SELECT romancy.resume_workflow(:'id');
CALL romancy.drain(advance_time => true) \gset
SELECT status, output FROM romancy.instances WHERE instance_id = :'id';

-- one that has to begin in time does not wait for longer
SELECT romancy.define_activity('soon', 'act(jsonb)', rate_limit => '1/h', schedule_to_start_timeout => '1ms', start_to_close_timeout => '1min', retry => '{"max_attempts": 1}');
SELECT clear(), romancy.start_workflow('wf_map', '{"a": "soon", "list": [{"n": 1}, {"n": 2}]}') AS id \gset
CALL romancy.drain() \gset
SELECT pg_sleep(0.01), romancy.run_sweep('activity_timeouts') > 0;
CALL romancy.drain() \gset
SELECT status, error ->> 'message' FROM romancy.instances WHERE instance_id = :'id';

-- compensations are limited as well
SELECT romancy.define_activity('undo', 'act(jsonb)', rate_limit => '1/h');
SELECT romancy.define_activity('undone', 'act(jsonb)', compensation => 'undo');
SELECT romancy.define_activity('fails', 'fails(jsonb)', retry => '{"max_attempts": 1}');
SELECT clear(), start('wf_saga', 'x', 1);
CALL romancy.drain() \gset
SELECT * FROM statuses() WHERE status = 'compensating';
CALL romancy.drain(advance_time => true) \gset
SELECT status FROM romancy.instances WHERE workflow = 'wf_saga';
SELECT count(*) FROM ran;

-- one process runs one at a time: max_concurrency delays no step in a session
SELECT romancy.define_activity('one', 'act(jsonb)', max_concurrency => 1);
SELECT clear(), start('wf', 'one', 5);
SELECT romancy.start_workflow('wf_map', '{"a": "one", "list": [{"n": 6}, {"n": 7}]}') IS NOT NULL;
CALL romancy.drain() \gset
SELECT count(*), count(DISTINCT n) FROM ran;
SELECT romancy.define_activity('both', 'act(jsonb)', max_concurrency => 1, rate_limit => '1/s');
SELECT clear(), start('wf_both', 'both', 3);
CALL romancy.drain(advance_time => true) \gset
SELECT n, count(*) FROM ran GROUP BY 1 ORDER BY 1;

SELECT romancy.define_activity('bad', 'act(jsonb)', max_concurrency => 0);
SELECT romancy.define_activity('bad', 'act(jsonb)', rate_limit => '0/s');
SELECT romancy.define_activity('bad', 'act(jsonb)', rate_limit => '-1/s');
SELECT romancy.define_activity('bad', 'act(jsonb)', rate_limit => '5');
SELECT romancy.define_activity('bad', 'act(jsonb)', rate_limit => '');
ROLLBACK;

-- all of that was rolled back: the tokens are there again, and none is booked
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE FUNCTION act(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
CREATE FUNCTION wf(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity(i ->> 'a', i); END $$;
SELECT romancy.define_activity('two', 'act(jsonb)', rate_limit => '2/h');
SELECT romancy.define_activity('ten', 'act(jsonb)', rate_limit => '10/h');
SELECT count(romancy.start_workflow('wf', jsonb_build_object('a', CASE WHEN g > 2 THEN 'ten' ELSE 'two' END))) FROM generate_series(1, 12) g;
CALL romancy.drain() \gset
SELECT status, count(*) FROM romancy.instances GROUP BY 1;
ROLLBACK;
