/* The calls of a workflow's handler. */

CREATE FUNCTION romancy.activity(name text, input jsonb DEFAULT NULL, activity_id text DEFAULT NULL, retry jsonb DEFAULT NULL)
RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_activity';
COMMENT ON FUNCTION romancy.activity(text, jsonb, text, jsonb) IS 'In a workflow: run an activity once and return its result';

CREATE FUNCTION romancy.raise_terminal(message text, detail jsonb DEFAULT NULL, error_code text DEFAULT NULL)
RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_raise_terminal';
COMMENT ON FUNCTION romancy.raise_terminal(text, jsonb, text) IS 'In an activity: raise an error that is never retried';

CREATE FUNCTION romancy.sleep(duration interval, activity_id text DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_sleep';
COMMENT ON FUNCTION romancy.sleep(interval, text) IS 'In a workflow: sleep durably';

CREATE FUNCTION romancy.sleep_until(until timestamptz, activity_id text DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_sleep_until';
COMMENT ON FUNCTION romancy.sleep_until(timestamptz, text) IS 'In a workflow: sleep durably up to an instant';

CREATE FUNCTION romancy.workflow_now()
RETURNS timestamptz LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_workflow_now';
COMMENT ON FUNCTION romancy.workflow_now() IS 'In a workflow: the time, recorded for replay';

CREATE FUNCTION romancy.workflow_random()
RETURNS double precision LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_workflow_random';
COMMENT ON FUNCTION romancy.workflow_random() IS 'In a workflow: a random number in [0, 1), recorded for replay';

CREATE FUNCTION romancy.workflow_uuid()
RETURNS uuid LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_workflow_uuid';
COMMENT ON FUNCTION romancy.workflow_uuid() IS 'In a workflow: a UUID of version 7, recorded for replay';

CREATE FUNCTION romancy.patched(change text)
RETURNS boolean LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_patched';
COMMENT ON FUNCTION romancy.patched(text) IS 'In a workflow: true for instances that reach this point first under the new code';

CREATE FUNCTION romancy.set_value(key text, value jsonb)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_set_value';
COMMENT ON FUNCTION romancy.set_value(text, jsonb) IS 'In a workflow: put a value that others read with romancy.get_value';

CREATE FUNCTION romancy.set_labels(labels jsonb)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_set_labels';
COMMENT ON FUNCTION romancy.set_labels(jsonb) IS 'In a workflow: replace the instance''s labels';

CREATE FUNCTION romancy.instance_id()
RETURNS uuid LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'romancy_instance_id';
COMMENT ON FUNCTION romancy.instance_id() IS 'In a workflow or an activity: the running instance';

CREATE FUNCTION romancy.workflow_name()
RETURNS text LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'romancy_workflow_name';
COMMENT ON FUNCTION romancy.workflow_name() IS 'In a workflow or an activity: the name of the running workflow';

CREATE FUNCTION romancy.is_replaying()
RETURNS boolean LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_is_replaying';
COMMENT ON FUNCTION romancy.is_replaying() IS 'In a workflow: will the next step be answered from history';

CREATE FUNCTION romancy.attempt()
RETURNS int LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'romancy_attempt';
COMMENT ON FUNCTION romancy.attempt() IS 'In a workflow or an activity: the number of this attempt, from 1';

CREATE FUNCTION romancy.step_key()
RETURNS text LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'romancy_step_key';
COMMENT ON FUNCTION romancy.step_key() IS 'In an activity: a key of the step, the same on every attempt';

CREATE PROCEDURE romancy.drain(max_turns int DEFAULT NULL, advance_time boolean DEFAULT false, INOUT turns bigint DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_drain';
COMMENT ON PROCEDURE romancy.drain(int, boolean, bigint) IS 'Run everything of the calling role that is ready, in this session';

CREATE FUNCTION romancy.set_progress(done bigint, total bigint DEFAULT NULL, note text DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_set_progress';
COMMENT ON FUNCTION romancy.set_progress(bigint, bigint, text) IS 'In a workflow or an activity: report progress, seen by others at once';

CREATE FUNCTION romancy.await(handle text)
RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_await';
COMMENT ON FUNCTION romancy.await(text) IS 'In a workflow: wait for a spawned step and return its result';

CREATE FUNCTION romancy.await_all(handles text[])
RETURNS jsonb[] LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_await_all';
COMMENT ON FUNCTION romancy.await_all(text[]) IS 'In a workflow: wait for all of these spawned steps';

CREATE FUNCTION romancy.await_any(handles text[], timeout interval DEFAULT NULL, OUT handle text, OUT result jsonb)
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_await_any';
COMMENT ON FUNCTION romancy.await_any(text[], interval) IS 'In a workflow: wait for the first of these spawned steps';

CREATE FUNCTION romancy.spawn_timer(duration interval)
RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_spawn_timer';
COMMENT ON FUNCTION romancy.spawn_timer(interval) IS 'In a workflow: start a timer and return its handle';
