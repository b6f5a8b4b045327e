-- Unusual calls of a handler: the same handle twice in await_all; its own cancel; progress that it
-- reports before and after steps that are run again; inputs of activities that were spawned or mapped; limits by
-- numbers that are written differently. It would catch an instance that waits
-- for ever for a result that has arrived, one that completes although it was cancelled, and progress that goes back.
BEGIN;
SELECT no_plan();
CREATE FUNCTION run() RETURNS void LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); END $$;
CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;

-- a handle may stand in the array twice
CREATE FUNCTION twice(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text := romancy.spawn('echo', $1); g text := romancy.spawn('echo', '8');
BEGIN RETURN to_jsonb(romancy.await_all(ARRAY[h, g, h, h])); END $$;
SELECT romancy.define_activity('far', queue => 'q');
CREATE FUNCTION twice_far(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text := romancy.spawn('far', $1);
BEGIN RETURN to_jsonb(romancy.await_all(ARRAY[h, h])); END $$;
SELECT romancy.start_workflow('twice', '7') AS id \gset
SELECT run();
SELECT is(romancy.get_result(:'id'), '[7, 8, 7, 7]', 'await_all of a handle that stands there twice');
SELECT romancy.start_workflow('twice_far', '7') AS id \gset
SELECT run();
SELECT romancy.complete_activity(token, '9') FROM romancy.fetch_activities('q', 'me');
SELECT run();
SELECT is(romancy.get_result(:'id'), '[9, 9]', 'and of one that ends later');

-- progress
CREATE FUNCTION reports(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.set_progress(1);
	PERFORM romancy.activity('echo', '1');
	PERFORM romancy.set_progress(2);
	PERFORM romancy.activity('echo', '2');
	PERFORM romancy.sleep('1 hour');
	PERFORM romancy.set_progress(3), romancy.set_progress(4);
	RETURN NULL;
END $$;
SELECT romancy.start_workflow('reports') AS a \gset
SELECT run();
SELECT romancy.start_workflow('reports') AS b \gset
SELECT run();
SELECT is(array_agg(progress ->> 'done'), '{2,2}', 'progress does not go back where an evaluation was given up')
	FROM romancy.t_instance WHERE instance_id IN (:'a', :'b');
CALL romancy.drain(advance_time => true);
SELECT is(array_agg(progress ->> 'done'), '{4,4}', 'and goes on')
	FROM romancy.t_instance WHERE instance_id IN (:'a', :'b');

-- inputs
CREATE FUNCTION maps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RETURN jsonb_build_array(romancy.map('echo', '[1, 2]'), romancy.await(romancy.spawn('echo', '{"a": 3}'))); END $$;
SELECT romancy.start_workflow('maps') AS id \gset
SELECT run();
SELECT is((SELECT jsonb_agg(data -> 'input' ORDER BY activity_id) FROM romancy.get_history(:'id') WHERE event_type = 'ActivityCompleted'),
	'[1, 2, {"a": 3}]', 'ActivityCompleted of mapped and spawned activities has its input');

-- itself
CREATE FUNCTION ends_itself(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('echo', '1');
	PERFORM romancy.cancel_workflow(romancy.instance_id(), 'enough');
	RETURN '"done"';
END $$;
SELECT romancy.start_workflow('ends_itself') AS a \gset
SELECT run();
SELECT romancy.start_workflow('ends_itself') AS b \gset
SELECT run();
SELECT is((SELECT array_agg(DISTINCT status || ' ' || (error ->> 'message')) FROM romancy.instances WHERE instance_id IN (:'a', :'b')),
	'{cancelled enough}', 'an instance that cancels itself is cancelled, whatever it returns');

SELECT * FROM finish();
ROLLBACK;
