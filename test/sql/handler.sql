-- Calls that a handler and its activities may make, and the errors of those that they may not.
-- It would catch a call that does something unrecorded in a handler, and an error that does not say what to do.
\set VERBOSITY default
SET client_min_messages = warning;
-- outside a workflow
SELECT romancy.activity('a');
SELECT romancy.sleep('1s');
SELECT romancy.sleep_until('2001-01-01');
SELECT romancy.workflow_now();
SELECT romancy.workflow_random();
SELECT romancy.workflow_uuid();
SELECT romancy.patched('x');
SELECT romancy.set_value('k', '1');
SELECT romancy.set_labels('{}');
SELECT romancy.instance_id();
SELECT romancy.workflow_name();
SELECT romancy.is_replaying();
SELECT romancy.attempt();
SELECT romancy.step_key();
SELECT romancy.set_progress(1);
SELECT romancy.await('x');
SELECT romancy.await_all('{x}');
SELECT romancy.await_any('{x}');
SELECT romancy.spawn_timer('1s');
SELECT romancy.spawn_timer(NULL);
SELECT romancy.set_value(NULL, '1');
SELECT romancy.set_labels('[]');
SELECT romancy.raise_terminal('stop', '{"a": 1}', 'P0001');

-- what a handler is told: each case is a workflow of its own, its error is shown
CREATE FUNCTION fine(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
CREATE TABLE target (i int);
CREATE FUNCTION h(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE r jsonb; n bigint; seen jsonb;
BEGIN
	CASE $1 #>> '{}'
		WHEN 'null name' THEN PERFORM romancy.activity(NULL);
		WHEN 'empty name' THEN PERFORM romancy.activity('');
		WHEN 'long id' THEN PERFORM romancy.activity('fine', activity_id => repeat('x', 201));
		WHEN 'wrong policy key' THEN PERFORM romancy.activity('fine', retry => '{"max_atempts": 1}');
		WHEN 'wrong policy value' THEN PERFORM romancy.activity('fine', retry => '{"max_attempts": "many"}');
		WHEN 'null sleep' THEN PERFORM romancy.sleep(NULL);
		WHEN 'endless sleep' THEN PERFORM romancy.sleep_until('infinity');
		WHEN 'insert' THEN INSERT INTO target VALUES (1);
		WHEN 'update' THEN UPDATE target SET i = 2;
		WHEN 'ddl' THEN CREATE TABLE other (i int);
		WHEN 'read write' THEN SET TRANSACTION READ WRITE;
		WHEN 'set read write' THEN PERFORM set_config('transaction_read_only', 'off', true);
		WHEN 'no handle' THEN PERFORM romancy.await('nothing:1');
		WHEN 'no handles' THEN PERFORM romancy.await_any('{}');
		WHEN 'labels' THEN PERFORM romancy.set_labels('[1]');
		WHEN 'payload' THEN PERFORM romancy.activity('fine', to_jsonb(repeat('x', 2000000)));
		WHEN 'define' THEN PERFORM romancy.define_activity('fine2', handler => 'fine(jsonb)');
		WHEN 'result' THEN PERFORM romancy.get_result(romancy.instance_id());
		WHEN 'drain' THEN CALL romancy.drain(turns => n);
		WHEN 'negative progress' THEN PERFORM romancy.set_progress(-1);
		WHEN 'spawn of no name' THEN PERFORM romancy.spawn('');
		WHEN 'map of no name' THEN PERFORM romancy.map('', '[]');
		WHEN 'compensation of no name' THEN PERFORM romancy.register_compensation('', '1');
		WHEN 'child of no name' THEN PERFORM romancy.call_workflow('', activity_id => 'x');
		WHEN 'version 0' THEN PERFORM romancy.spawn_workflow('fine', version => 0);
		WHEN 'version -1' THEN PERFORM romancy.start_workflow('fine', version => -1);
		WHEN 'sleep for ever' THEN PERFORM romancy.sleep('178000000 years');
		-- over before it begins
		WHEN 'sleep of long ago' THEN PERFORM romancy.sleep('-1000000 years');
		WHEN 'timer of long ago' THEN PERFORM romancy.await(romancy.spawn_timer('-1 h'));
		-- what it has put itself, up to here, on the first run and on replay; a key that is called like the step
		WHEN 'values' THEN
			PERFORM romancy.set_value('k', '1');
			seen := jsonb_build_array(romancy.get_value(romancy.instance_id(), 'k'), romancy.get_value(romancy.instance_id(), 'set_value'));
			PERFORM romancy.set_value('set_value', seen);
			PERFORM romancy.set_value('k', '2');
			PERFORM romancy.sleep('1 ms');
			RETURN seen || romancy.get_value(romancy.instance_id(), 'set_value') || romancy.get_value(romancy.instance_id(), 'k');
	END CASE;
	RETURN '"not refused"';
END $$;
CREATE FUNCTION inner_call(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	CASE $1 #>> '{}'
		WHEN 'activity in activity' THEN PERFORM romancy.activity('fine');
		WHEN 'sleep in activity' THEN PERFORM romancy.sleep('1s');
		WHEN 'drain in activity' THEN CALL romancy.drain(turns => n);
		WHEN 'context' THEN RETURN jsonb_build_array(romancy.workflow_name(), romancy.attempt(), romancy.step_key() = romancy.instance_id() || '/inner_call:1');
	END CASE;
	RETURN '"not refused"';
END $$;
CREATE FUNCTION h2(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RETURN romancy.activity('inner_call', $1, retry => '{"max_attempts": 1}'); END $$;

BEGIN;	-- so that no worker gets there first
SELECT count(*) FROM romancy.start_workflows('h', array(SELECT to_jsonb(c) FROM unnest(ARRAY[
	'null name', 'empty name', 'long id', 'wrong policy key', 'wrong policy value', 'null sleep', 'endless sleep',
	'insert', 'update', 'ddl', 'read write', 'set read write', 'no handle', 'no handles', 'labels', 'payload', 'define', 'result', 'drain',
	'negative progress', 'spawn of no name', 'map of no name', 'compensation of no name', 'child of no name', 'version 0', 'version -1', 'sleep for ever', 'sleep of long ago', 'timer of long ago', 'values']) c));
SELECT count(*) FROM romancy.start_workflows('h2', array(SELECT to_jsonb(c) FROM unnest(ARRAY[
	'activity in activity', 'sleep in activity', 'drain in activity', 'context']) c));
CALL romancy.drain(advance_time => true);
SELECT input #>> '{}' AS input, status, output, error->>'sqlstate' AS sqlstate, error->>'message' AS message, error->>'hint' AS hint
FROM romancy.instances WHERE workflow IN ('h', 'h2') ORDER BY input #>> '{}';
SELECT count(*) FROM target;
-- a handler that raises an error before it has come to where it was: no failure, and nothing is undone
CREATE FUNCTION halfway(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('fine'); PERFORM romancy.sleep('1 h'); RETURN '"there"'; END $$;
SELECT romancy.start_workflow('halfway') AS id \gset
CALL romancy.drain();
CREATE OR REPLACE FUNCTION halfway(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 / 0; PERFORM romancy.activity('fine'); PERFORM romancy.sleep('1 h'); RETURN '"there"'; END $$;
CALL romancy.drain(advance_time => true);
SELECT status, error - 'context' AS error FROM romancy.instances WHERE instance_id = :'id';
CREATE OR REPLACE FUNCTION halfway(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('fine'); PERFORM romancy.sleep('1 h'); RETURN '"there"'; END $$;
SELECT romancy.resume_workflow(:'id');
CALL romancy.drain(advance_time => true);
SELECT romancy.get_result(:'id');
-- an input that is not given any more is another input
CREATE FUNCTION given(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('fine', '1'); PERFORM romancy.sleep('1 h'); RETURN '"there"'; END $$;
SELECT romancy.start_workflow('given') AS id \gset
CALL romancy.drain();
CREATE OR REPLACE FUNCTION given(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('fine'); PERFORM romancy.sleep('1 h'); RETURN '"there"'; END $$;
CALL romancy.drain(advance_time => true);
SELECT status, error ->> 'message' AS message FROM romancy.instances WHERE instance_id = :'id';
COMMIT;
DROP FUNCTION halfway, given;
DROP TABLE target;
DROP FUNCTION h, h2, inner_call, fine;
