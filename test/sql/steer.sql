-- cancel, terminate, pause, resume, retry, delete: what they return, and what comes of it.
-- All in one transaction, so that nothing of it reaches a worker.
-- It would catch a call that says it did something and did not, or the other way round.
\set VERBOSITY default
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
-- what other tests left behind is out of sight
DELETE FROM romancy.t_instance;
DELETE FROM romancy.t_workflow;
CREATE SCHEMA flows;
SET LOCAL search_path = flows, public;
CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION note(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log (what) VALUES (input #>> '{}'); RETURN 'true'; END $$;
CREATE FUNCTION breaks(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM log WHERE what = 'mended') THEN
		RAISE EXCEPTION 'broken' USING ERRCODE = 'P1234';
	END IF;
	RETURN '"works"';
END $$;
SELECT romancy.define_activity('breaks', 'breaks(jsonb)', retry => '{"max_attempts": 1}');
CREATE FUNCTION sleeper(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('note', '"before"');
	PERFORM romancy.sleep('1 day');
	PERFORM romancy.activity('note', '"after"');
	RETURN '"slept"';
END $$;
CREATE FUNCTION breaker(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('note', '"once"');
	RETURN romancy.activity('breaks');
END $$;

-- cancel: true while it is live
SELECT romancy.start_workflow('sleeper', instance_id => '01234567-89ab-7def-8123-000000000001') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.cancel_workflow(:'id', 'not needed') AS first, romancy.cancel_workflow(:'id') AS second;
SELECT status FROM romancy.instances WHERE instance_id = :'id';
CALL romancy.drain() \gset
SELECT status, error - 'cancelled_at' - 'cancelled_by' AS error, error ->> 'cancelled_by' = current_user AS by_me, finished_at IS NOT NULL AS finished
	FROM romancy.instances WHERE instance_id = :'id';
SELECT romancy.cancel_workflow(:'id') AS cancel, romancy.terminate_workflow(:'id') AS terminate, romancy.pause_workflow(:'id') AS pause,
	romancy.resume_workflow(:'id') AS resume;
SELECT romancy.get_result(:'id');
SELECT count(*) AS left_over FROM romancy.t_inbox WHERE instance_id = :'id';
-- before its first turn
SELECT romancy.start_workflow('sleeper', instance_id => '01234567-89ab-7def-8123-000000000002') AS id \gset
SELECT romancy.terminate_workflow(:'id');
CALL romancy.drain() \gset
SELECT status, error ->> 'message' AS reason, error ->> 'previous_status' AS previous FROM romancy.instances WHERE instance_id = :'id';

-- pause and resume, as the requests will have it once they are applied
SELECT romancy.start_workflow('sleeper', instance_id => '01234567-89ab-7def-8123-000000000003') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.resume_workflow(:'id') AS not_paused, romancy.pause_workflow(:'id') AS pause, romancy.pause_workflow(:'id') AS again,
	romancy.resume_workflow(:'id') AS resume, romancy.resume_workflow(:'id') AS resume_again, romancy.pause_workflow(:'id') AS pause_2;
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
CALL romancy.drain(advance_time => true) \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
SELECT romancy.resume_workflow(:'id');
CALL romancy.drain(advance_time => true) \gset
SELECT status, output FROM romancy.instances WHERE instance_id = :'id';

-- retry
SELECT romancy.start_workflow('breaker', instance_id => '01234567-89ab-7def-8123-000000000004') AS id \gset
TRUNCATE log;
SELECT romancy.retry_workflow(:'id');
CALL romancy.drain() \gset
SELECT status, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM romancy.instances WHERE instance_id = :'id';
-- (the context is worded otherwise from 18 on: test/pgtap/first_mistakes.sql looks at it)
\set SHOW_CONTEXT never
SELECT romancy.get_result(:'id');
\set SHOW_CONTEXT errors
INSERT INTO log (what) VALUES ('mended');
SELECT romancy.retry_workflow(:'id');
SELECT status, error, finished_at FROM romancy.instances WHERE instance_id = :'id';
SELECT romancy.retry_workflow(:'id');
CALL romancy.drain() \gset
SELECT status, output FROM romancy.instances WHERE instance_id = :'id';
SELECT what FROM log ORDER BY n;
SELECT event_type, activity_id FROM romancy.get_history(:'id');
SELECT data ->> 'by' = current_user AS by_me FROM romancy.get_history(:'id') WHERE event_type = 'WorkflowRetried';
SELECT romancy.retry_workflow(:'id');

-- delete
SELECT romancy.start_workflow('sleeper', idempotency_key => 'k', instance_id => '01234567-89ab-7def-8123-000000000099') AS live \gset
SELECT romancy.delete_workflow(:'live');
SELECT romancy.delete_workflow(:'id');
SELECT count(*) FROM romancy.instances WHERE instance_id = :'id';
SELECT count(*) FROM romancy.t_history WHERE instance_id = :'id';
SELECT romancy.delete_workflow(:'id');
SELECT romancy.terminate_workflow(:'live');
CALL romancy.drain() \gset
SELECT romancy.delete_workflow(:'live');
SELECT romancy.start_workflow('sleeper', idempotency_key => 'k') <> :'live' AS key_is_free;

-- in bulk
SELECT count(*) FROM romancy.start_workflows('sleeper', '{1,2,3}', labels => '{"bulk": 1}');
SELECT count(*) FROM romancy.start_workflows('breaker', '{4,5}', labels => '{"bulk": 2}');
DELETE FROM log;
CALL romancy.drain() \gset
INSERT INTO log (what) VALUES ('mended');
SELECT romancy.cancel_workflows('{"labels": {"bulk": 1}}'), romancy.retry_workflows('{"labels": {"bulk": 2}}'), romancy.cancel_workflows('{"labels": {"bulk": 3}}');
CALL romancy.drain() \gset
SELECT workflow, status, count(*) FROM romancy.instances WHERE labels ? 'bulk' GROUP BY workflow, status ORDER BY workflow, status;
SELECT romancy.cancel_workflows('{"labels": {"bulk": 1}}');
SELECT romancy.cancel_workflows(NULL);
SELECT romancy.cancel_workflows('{"label": {}}');
SELECT romancy.retry_workflows('[]');

-- unknown ones, and another role's
SELECT romancy.cancel_workflow('00000000-0000-0000-0000-000000000000');
SELECT romancy.terminate_workflow('00000000-0000-0000-0000-000000000000');
SELECT romancy.pause_workflow('00000000-0000-0000-0000-000000000000');
SELECT romancy.resume_workflow('00000000-0000-0000-0000-000000000000');
SELECT romancy.retry_workflow('00000000-0000-0000-0000-000000000000');
SELECT romancy.delete_workflow('00000000-0000-0000-0000-000000000000');
SELECT romancy.cancel_workflow(NULL);
SELECT romancy.start_workflow('sleeper', instance_id => '01234567-89ab-7def-8123-456789abcdef') AS id \gset
CREATE ROLE regress_stranger;
SELECT romancy.grant_usage('regress_stranger', monitor => true);
SET ROLE regress_stranger;
SELECT romancy.cancel_workflow(:'id');
SELECT romancy.delete_workflow(:'id');
SELECT romancy.cancel_workflows('{}');
RESET ROLE;

-- not in a handler, but for cancel_workflow
CREATE FUNCTION meddler(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	id uuid := '01234567-89ab-7def-8123-456789abcdef';
BEGIN
	CASE input #>> '{}'
		WHEN 'pause' THEN PERFORM romancy.pause_workflow(id);
		WHEN 'resume' THEN PERFORM romancy.resume_workflow(id);
		WHEN 'terminate' THEN PERFORM romancy.terminate_workflow(id);
		WHEN 'retry' THEN PERFORM romancy.retry_workflow(id);
		WHEN 'delete' THEN PERFORM romancy.delete_workflow(id);
		WHEN 'many' THEN PERFORM romancy.cancel_workflows('{}');
		WHEN 'result' THEN PERFORM romancy.get_result(id);
		WHEN 'define' THEN PERFORM romancy.define_workflow('x', queue => 'q');
		WHEN 'drop' THEN PERFORM romancy.drop_activity('breaks');
		WHEN 'grant' THEN PERFORM romancy.grant_usage('regress_stranger');
	END CASE;
	RETURN NULL;
END $$;
SELECT count(*) FROM romancy.start_workflows('meddler',
	'{"\"pause\"","\"resume\"","\"terminate\"","\"retry\"","\"delete\"","\"many\"","\"result\"","\"define\"","\"drop\"","\"grant\""}');
CALL romancy.drain() \gset
SELECT input, status, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM romancy.instances WHERE workflow = 'meddler' ORDER BY instance_id;
ROLLBACK;
