-- Workflow code outside: the storage operations of a replay engine, fenced by the token.
-- It would catch an operation that works with a token that is no longer valid.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE SCHEMA outside_test;
SET LOCAL search_path = outside_test, public;
CREATE FUNCTION sq(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(i::int * i::int); END $$;
CREATE FUNCTION bad(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.raise_terminal('bad'); END $$;
SELECT romancy.define_workflow('ord', queue => 'outside_q');
SELECT romancy.start_workflow('ord', '{"a": 1}') AS id \gset
SELECT * FROM romancy.fetch_workflows('outside_q', 'w');
CALL romancy.drain() \gset
SELECT status, queue FROM romancy.instances WHERE instance_id = :'id';
SELECT workflow, version, status, input, attempt, token FROM romancy.fetch_workflows('outside_q', 'w') \gset got_
\echo :got_workflow :got_version :got_status :got_input :got_attempt
SELECT count(*) FROM romancy.fetch_workflows('outside_q', 'w');
SELECT count(*) FROM romancy.fetch_activities('outside_q', 'w');
SELECT romancy.record_activity(:'got_token', 'a:1', 'a', '1', '"one"');
SELECT romancy.record_activity(:'got_token', 'a:1', 'a', '1', '"one"');
SELECT romancy.record_failure(:'got_token', 'b:1', 'b', 'no good', 'ValueError', '{"x": 1}');
SELECT romancy.extend_lease(:'got_token', '1 h');
SELECT romancy.suspend_timer(:'got_token', 'a:1', now());
SELECT romancy.suspend_timer(:'got_token', 't:1', now() + interval '1 h');
SELECT romancy.extend_lease(:'got_token', '1 h');
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
CALL romancy.drain(advance_time => true) \gset
SELECT token FROM romancy.fetch_workflows('outside_q', 'w') \gset
SELECT seq, event_type, activity_id, data - 'until' - 'input' FROM romancy.read_history(:'token');
SELECT seq FROM romancy.read_history(:'token', 1, 1);
SELECT romancy.suspend_activity(:'token', 'sq:1', 'sq', '7');
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('outside_q', 'w') \gset
SELECT romancy.suspend_activity(:'token', 'bad:1', 'bad');
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('outside_q', 'w') \gset
SELECT event_type, activity_id, data -> 'result' AS result, data -> 'error' ->> 'message' AS error FROM romancy.read_history(:'token', 3);
SELECT romancy.suspend_receive(:'token', 'm:1', 'outside_ch', '1 h');
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
SELECT romancy.send_to(:'id', 'outside_ch', '{"hello": 1}') IS NOT NULL AS sent;
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('outside_q', 'w') \gset
SELECT event_type, activity_id, data - 'input' - 'result' AS data, data -> 'result' -> 'data' AS message FROM romancy.read_history(:'token', 5);
SELECT romancy.complete_workflow(:'token', '{"done": true}');
CALL romancy.drain() \gset
SELECT status, output FROM romancy.instances WHERE instance_id = :'id';
SELECT romancy.extend_lease(:'token', '1 h');
SELECT count(*) FROM romancy.t_task WHERE instance_id = :'id';

-- failed; cancelled while a worker has it; a lost lease
SELECT romancy.start_workflow('ord') AS id \gset
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('outside_q', 'w') \gset
SELECT romancy.fail_workflow(:'token', 'bad luck', '22012', '{"x": 1}');
CALL romancy.drain() \gset
SELECT status, error FROM romancy.instances WHERE instance_id = :'id';
SELECT romancy.start_workflow('ord') AS id \gset
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('outside_q', 'w') \gset
SELECT romancy.cancel_workflow(:'id');
CALL romancy.drain() \gset
SELECT romancy.record_activity(:'token', 'a:1', 'a', NULL, NULL);
SELECT status FROM romancy.instances WHERE instance_id = :'id';
SELECT romancy.start_workflow('ord') AS id \gset
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('outside_q', 'w', lease => '1 ms') \gset
SELECT pg_sleep(0.01);
SELECT romancy.run_sweep('lock_cleanup') > 0 AS swept;
SELECT attempt, token AS token2 FROM romancy.fetch_workflows('outside_q', 'w2') \gset
SELECT romancy.complete_workflow(:'token');
SELECT romancy.read_history(:'token');
SELECT romancy.complete_workflow(:'token2', '"second"');
CALL romancy.drain() \gset
SELECT status, output FROM romancy.instances WHERE instance_id = :'id';
SELECT romancy.extend_lease('x', '1 h');
SELECT romancy.suspend_timer(:'token', 'x', NULL);
SELECT romancy.t_outside('{}');
ROLLBACK;
