-- get_result, await_result, run_workflow. These wait for workers, and so run what is committed.
-- It would catch a wait that hangs, holds a snapshot, or returns before the end.
\set VERBOSITY default
SET client_min_messages = warning;
CREATE SCHEMA results;
SET search_path = results, public;
CREATE FUNCTION answer(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF input ->> 'sleep' IS NOT NULL THEN
		PERFORM romancy.sleep((input ->> 'sleep')::interval);
	END IF;
	IF input ->> 'fail' IS NOT NULL THEN
		RAISE EXCEPTION '%', input ->> 'fail' USING ERRCODE = 'P1234', DETAIL = 'The detail.', HINT = 'The hint.';
	END IF;
	RETURN input -> 'answer';
END $$;
CALL romancy.run_workflow('answer', '{"answer": 42}');
CALL romancy.run_workflow('answer', '{"answer": {"a": [1, "zwei", null]}, "sleep": "20ms"}');
-- no output is JSON null
CALL romancy.run_workflow('answer', '{}');
CALL romancy.run_workflow('answer', '{"fail": "it failed"}');
CALL romancy.run_workflow('answer', '{"answer": 1}', idempotency_key => 'once');
CALL romancy.run_workflow('answer', '{"answer": 2}', idempotency_key => 'once');
CALL romancy.run_workflow('unknown');
\set VERBOSITY sqlstate
CALL romancy.run_workflow('answer', '{"sleep": "1 day"}', idempotency_key => 'long', timeout => '10ms');
\set VERBOSITY default
CALL romancy.run_workflow('answer', timeout => '-1s');

SELECT romancy.start_workflow('answer', '{"answer": "later", "sleep": "2 s"}') AS id \gset
SELECT romancy.get_result(:'id');
CALL romancy.await_result(:'id');
SELECT romancy.get_result(:'id');
CALL romancy.await_result(:'id', '1s');
SELECT romancy.start_workflow('answer', '{"fail": "again"}') AS failing \gset
CALL romancy.await_result(:'failing');
SELECT romancy.get_result(:'failing');
\set VERBOSITY sqlstate
SELECT romancy.start_workflow('answer', '{}', idempotency_key => 'long') AS long \gset
SELECT romancy.cancel_workflow(:'long', 'enough');
CALL romancy.await_result(:'long');
\set VERBOSITY terse
CALL romancy.await_result('00000000-0000-0000-0000-000000000000');
SELECT romancy.get_result('00000000-0000-0000-0000-000000000000');
CALL romancy.await_result(NULL);
SELECT romancy.get_result(NULL);
\set VERBOSITY default

-- where it cannot commit, or the instance could not have begun
BEGIN;
CALL romancy.await_result('00000000-0000-0000-0000-000000000000');
ROLLBACK;
BEGIN;
CALL romancy.run_workflow('answer');
ROLLBACK;
\set VERBOSITY terse
CALL romancy.await_result(romancy.start_workflow('answer', instance_id => '01234567-89ab-7def-8123-000000000001'));
DO $$
DECLARE
	result jsonb;
BEGIN
	PERFORM romancy.start_workflow('answer', instance_id => '01234567-89ab-7def-8123-000000000001');
	CALL romancy.await_result('01234567-89ab-7def-8123-000000000001', NULL, result);
END $$;
DO $$
DECLARE
	result jsonb;
BEGIN
	BEGIN
		CALL romancy.run_workflow('answer', result => result);
	EXCEPTION WHEN division_by_zero THEN
	END;
END $$;
CREATE FUNCTION in_a_function() RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	result jsonb;
BEGIN
	CALL romancy.run_workflow('answer', result => result);
	RETURN result;
END $$;
SELECT in_a_function();
\set VERBOSITY default
-- in DO, and in a procedure
DO $$
DECLARE
	id uuid;
	result jsonb;
BEGIN
	id := romancy.start_workflow('answer', '{"answer": "in DO"}');
	COMMIT;
	CALL romancy.await_result(id, '1 min', result);
	RAISE WARNING 'result %', result;
	CALL romancy.run_workflow('answer', '{"answer": "in DO, run"}', result => result);
	RAISE WARNING 'result %', result;
	FOR i IN 1..3 LOOP
		CALL romancy.run_workflow('answer', jsonb_build_object('answer', i), result => result);
		RAISE WARNING 'result %', result;
	END LOOP;
END $$;
CREATE PROCEDURE outer_procedure(INOUT result jsonb) LANGUAGE plpgsql AS $$
BEGIN
	CALL romancy.run_workflow('answer', '{"answer": "in a procedure"}', result => result);
END $$;
CALL outer_procedure(NULL);
-- the session goes on as before
SELECT romancy.get_result(:'id');
-- what a turn is under way of is running, for the filter as for the column
CREATE FUNCTION sees(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT jsonb_object_agg(filter::text, (SELECT string_agg(status, ' ') FROM romancy.list_instances(jsonb_build_object('status', filter)) WHERE instance_id = romancy.instance_id()))
		FROM unnest('{"\"running\"","\"pending\"","[\"running\", \"failed\"]","[\"pending\", \"failed\"]"}'::jsonb[]) filter);
END $$;
CREATE FUNCTION looks(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('sees'); END $$;
CALL romancy.run_workflow('looks');
DROP SCHEMA results CASCADE;
