/* Workflow code that runs outside: the storage operations of a replay engine. */
CREATE TYPE romancy.workflow_task AS (
	token text, instance_id uuid, workflow text, version int, status text,
	input jsonb, attempt int, deadline timestamptz, history jsonb, namespace text,
	scheduled_at timestamptz);
COMMENT ON TYPE romancy.workflow_task IS 'A claimed workflow instance, as romancy.fetch_workflows returns it';

CREATE FUNCTION romancy.t_outside(input jsonb) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_outside';
COMMENT ON FUNCTION romancy.t_outside(jsonb) IS 'Internal: stands in the handler''s place where a workflow''s code runs outside';

CREATE FUNCTION romancy.fetch_workflows(queue text, worker_id text, max_tasks int DEFAULT 1, lease interval DEFAULT NULL)
RETURNS SETOF romancy.workflow_task LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_fetch_workflows';
COMMENT ON FUNCTION romancy.fetch_workflows(text, text, int, interval) IS 'Claim instances whose workflow code runs outside';

CREATE PROCEDURE romancy.poll_workflows(queue text, worker_id text, max_tasks int DEFAULT 1, lease interval DEFAULT NULL, wait interval DEFAULT '20s', INOUT tasks jsonb DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_poll_workflows';
COMMENT ON PROCEDURE romancy.poll_workflows(text, text, int, interval, interval, jsonb) IS 'Claim instances whose workflow code runs outside, waiting for some without polling';

CREATE PROCEDURE romancy.poll_workflows(queue text, worker_id text, max_tasks int, lease interval, wait interval, INOUT tasks jsonb, unknown text[])
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_poll_workflows';
COMMENT ON PROCEDURE romancy.poll_workflows(text, text, int, interval, interval, jsonb, text[]) IS 'The same, passing over workflows that the caller does not have, which are for others';

CREATE FUNCTION romancy.read_history(token text, after bigint DEFAULT 0, page_size int DEFAULT 1000,
	OUT seq bigint, OUT event_type text, OUT activity_id text, OUT data jsonb, OUT created_at timestamptz)
RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_read_history';
COMMENT ON FUNCTION romancy.read_history(text, bigint, int) IS 'A page of a claimed instance''s history';

CREATE FUNCTION romancy.record_activity(token text, activity_id text, name text, input jsonb, result jsonb)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_record_activity';
COMMENT ON FUNCTION romancy.record_activity(text, text, text, jsonb, jsonb) IS 'Record an activity that the worker ran';

CREATE FUNCTION romancy.record_failure(token text, activity_id text, name text, message text, error_code text DEFAULT NULL, detail jsonb DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_record_failure';
COMMENT ON FUNCTION romancy.record_failure(text, text, text, text, text, jsonb) IS 'Record an activity that failed for good in the worker';

CREATE FUNCTION romancy.record(token text, events jsonb)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_record';
COMMENT ON FUNCTION romancy.record(text, jsonb) IS 'Record steps that the program has done: activities, failures, values, labels, progress, compensations';

CREATE FUNCTION romancy.suspend(token text, commands jsonb, wait_for jsonb DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_suspend';
COMMENT ON FUNCTION romancy.suspend(text, jsonb, jsonb) IS 'Give a claimed instance back with commands, scheduled together, and what to wait for';

CREATE FUNCTION romancy.suspend_timer(token text, activity_id text, until timestamptz)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_suspend_timer';
COMMENT ON FUNCTION romancy.suspend_timer(text, text, timestamptz) IS 'Give a claimed instance back until an instant';

CREATE FUNCTION romancy.suspend_receive(token text, activity_id text, channel text, timeout interval DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_suspend_receive';
COMMENT ON FUNCTION romancy.suspend_receive(text, text, text, interval) IS 'Give a claimed instance back until a message comes';

CREATE FUNCTION romancy.suspend_activity(token text, activity_id text, name text, input jsonb DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_suspend_activity';
COMMENT ON FUNCTION romancy.suspend_activity(text, text, text, jsonb) IS 'Give a claimed instance back until an activity, which romancy runs, has ended';

CREATE FUNCTION romancy.complete_workflow(token text, output jsonb DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_complete_workflow';
COMMENT ON FUNCTION romancy.complete_workflow(text, jsonb) IS 'A claimed instance has come to its end';

CREATE FUNCTION romancy.fail_workflow(token text, message text, error_code text DEFAULT NULL, detail jsonb DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_fail_workflow';
COMMENT ON FUNCTION romancy.fail_workflow(text, text, text, jsonb) IS 'A claimed instance has failed';

CREATE FUNCTION romancy.extend_lease(token text, extend interval)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_extend_lease';
COMMENT ON FUNCTION romancy.extend_lease(text, interval) IS 'Renew the lease of a claimed instance';

CREATE FUNCTION romancy.report_progress(token text, done bigint, total bigint DEFAULT NULL, note text DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_report_progress';
COMMENT ON FUNCTION romancy.report_progress(text, bigint, bigint, text) IS 'Report progress, seen by others at once, from a program that holds a task of the instance';

CREATE FUNCTION romancy.protocol(OUT oldest int, OUT newest int)
RETURNS record LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'romancy_protocol';
COMMENT ON FUNCTION romancy.protocol() IS 'The versions of the protocol between programs and the server that this server speaks';
