-- The SQLSTATE of each error that the API of definitions and instances raises.
-- All in one transaction, so that nothing of it reaches a worker.
-- It would catch a SQLSTATE that changes, on which programs rely.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE SCHEMA flows;
SET LOCAL search_path = flows, public;
CREATE FUNCTION f(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN input; END $$;
CREATE FUNCTION sleeper(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 day'); RETURN input; END $$;
CREATE FUNCTION fails(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'P1234'; END $$;
CREATE FUNCTION wrong(input jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION state(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN '00000';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT romancy.define_workflow('live', 'sleeper(jsonb)');
SELECT romancy.start_workflow('live', instance_id => '01234567-89ab-7def-8123-000000000001') AS live \gset
SELECT romancy.start_workflow('f', '1', instance_id => '01234567-89ab-7def-8123-000000000002') AS done \gset
SELECT romancy.start_workflow('fails', instance_id => '01234567-89ab-7def-8123-000000000003') AS failed \gset
SELECT romancy.start_workflow('live', instance_id => '01234567-89ab-7def-8123-000000000004') AS cancelled \gset
SELECT romancy.cancel_workflow(:'cancelled');
CALL romancy.drain() \gset
SELECT state(statement) AS state, statement FROM unnest(ARRAY[
	-- RM001
	$$SELECT romancy.start_workflow('unknown')$$,
	$$SELECT romancy.start_workflow('live', version => 2)$$,
	$$SELECT romancy.drop_workflow('unknown')$$,
	$$SELECT romancy.drop_activity('unknown')$$,
	-- RM002
	$$SELECT romancy.get_result('00000000-0000-0000-0000-000000000000')$$,
	$$SELECT * FROM romancy.get_history('00000000-0000-0000-0000-000000000000')$$,
	$$SELECT romancy.cancel_workflow('00000000-0000-0000-0000-000000000000')$$,
	$$SELECT romancy.retry_workflow('00000000-0000-0000-0000-000000000000')$$,
	$$SELECT romancy.delete_workflow('00000000-0000-0000-0000-000000000000')$$,
	-- its own, and RM008
	$$SELECT romancy.get_result('01234567-89ab-7def-8123-000000000003')$$,
	$$SELECT romancy.get_result('01234567-89ab-7def-8123-000000000004')$$,
	-- RM010
	$$SELECT romancy.delete_workflow('01234567-89ab-7def-8123-000000000001')$$,
	$$SELECT romancy.retry_workflow('01234567-89ab-7def-8123-000000000002')$$,
	$$SELECT romancy.drop_workflow('live')$$,
	-- RM011
	$$SELECT romancy.start_workflow('f', to_jsonb(repeat('x', 2000000)))$$,
	-- RM012
	$$SELECT romancy.start_workflow('wrong')$$,
	$$SELECT romancy.start_workflow('f', labels => '1')$$,
	$$SELECT romancy.start_workflow('f', execution_timeout => '-1s')$$,
	$$SELECT romancy.start_workflows('f', '{1}', '{a,b}')$$,
	$$SELECT romancy.define_workflow('x', 'wrong(jsonb)')$$,
	$$SELECT romancy.define_workflow('x')$$,
	$$SELECT romancy.define_activity('x', 'f(jsonb)', retry => '{"tries": 1}')$$,
	$$SELECT romancy.define_activity('x', 'f(jsonb)', rate_limit => 'fast')$$,
	$$SELECT romancy.list_instances('{"x": 1}')$$,
	$$SELECT romancy.list_instances('{"status": "x"}')$$,
	$$SELECT romancy.list_instances('{"created_after": "x"}')$$,
	$$SELECT romancy.list_instances('{"input": {"": 1}}')$$,
	$$SELECT romancy.list_instances(page_token => 'x')$$,
	$$SELECT romancy.list_instances(page_size => 0)$$,
	$$SELECT romancy.cancel_workflows('{"x": 1}')$$,
	-- standard ones
	$$SELECT romancy.start_workflow('f', instance_id => '01234567-89ab-7def-8123-000000000001')$$,
	$$SELECT romancy.start_workflow(NULL)$$,
	$$CALL romancy.await_result('01234567-89ab-7def-8123-000000000002')$$,
	$$CALL romancy.run_workflow('f')$$]) AS statement;
-- an output that retention took away (JSON null is what a completed instance without output has)
UPDATE romancy.t_instance SET output = NULL WHERE instance_id = :'done';
SELECT state($$SELECT romancy.get_result('01234567-89ab-7def-8123-000000000002')$$);
ROLLBACK;
