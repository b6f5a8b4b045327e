/* Section 2 of the API: starting, finding and steering instances. */

/* Rights to see and change instances; used by the views and by the engine's queries. */
CREATE FUNCTION romancy.t_shown_status(instance_id uuid, status romancy.t_status)
RETURNS text LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'romancy_shown_status';
REVOKE ALL ON FUNCTION romancy.t_shown_status(uuid, romancy.t_status) FROM PUBLIC;
COMMENT ON FUNCTION romancy.t_shown_status(uuid, romancy.t_status) IS 'Internal: the status of an instance, running while a turn of it is under way';

CREATE FUNCTION romancy.t_may_read(owner text)
RETURNS boolean LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'romancy_may_read';
REVOKE ALL ON FUNCTION romancy.t_may_read(text) FROM PUBLIC;
COMMENT ON FUNCTION romancy.t_may_read(text) IS 'Internal: may the current user see what belongs to this role';

CREATE FUNCTION romancy.t_owners()
RETURNS text[] LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_owners';
REVOKE ALL ON FUNCTION romancy.t_owners() FROM PUBLIC;
COMMENT ON FUNCTION romancy.t_owners() IS 'Internal: the roles whose instances the current user may see; null: all';

/* (its answer is kept for a statement by the process: a parallel worker would give another, after an ANALYZE) */
CREATE FUNCTION romancy.t_owners_of_few()
RETURNS text[] LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'romancy_owners_of_few';
REVOKE ALL ON FUNCTION romancy.t_owners_of_few() FROM PUBLIC;
COMMENT ON FUNCTION romancy.t_owners_of_few() IS 'Internal: the same where these have few instances; null: all, or many';

CREATE FUNCTION romancy.t_may_access(owner text, role oid, steer boolean)
RETURNS boolean LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'romancy_may_access';
REVOKE ALL ON FUNCTION romancy.t_may_access(text, oid, boolean) FROM PUBLIC;
COMMENT ON FUNCTION romancy.t_may_access(text, oid, boolean) IS 'Internal: may that role see, or steer, what belongs to the owner';

CREATE FUNCTION romancy.t_monitor()
RETURNS boolean LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_monitor';
REVOKE ALL ON FUNCTION romancy.t_monitor() FROM PUBLIC;
COMMENT ON FUNCTION romancy.t_monitor() IS 'Internal: a role that may execute this sees the instances of all roles; see romancy.grant_usage';

CREATE FUNCTION romancy.start_workflow(
	name text,
	input jsonb DEFAULT NULL,
	instance_id uuid DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	start_at timestamptz DEFAULT NULL,
	priority int DEFAULT 0,
	labels jsonb DEFAULT NULL,
	version int DEFAULT NULL,
	execution_timeout interval DEFAULT NULL)
RETURNS uuid LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_start_workflow';
REVOKE ALL ON FUNCTION romancy.start_workflow(text, jsonb, uuid, text, timestamptz, int, jsonb, int, interval) FROM PUBLIC;
COMMENT ON FUNCTION romancy.start_workflow(text, jsonb, uuid, text, timestamptz, int, jsonb, int, interval)
	IS 'Start an instance of a workflow; its id';

CREATE FUNCTION romancy.start_workflows(
	name text,
	inputs jsonb[],
	idempotency_keys text[] DEFAULT NULL,
	start_at timestamptz DEFAULT NULL,
	priority int DEFAULT 0,
	labels jsonb DEFAULT NULL,
	version int DEFAULT NULL)
RETURNS SETOF uuid LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_start_workflows';
REVOKE ALL ON FUNCTION romancy.start_workflows(text, jsonb[], text[], timestamptz, int, jsonb, int) FROM PUBLIC;
COMMENT ON FUNCTION romancy.start_workflows(text, jsonb[], text[], timestamptz, int, jsonb, int)
	IS 'Start many instances; their ids in the order of the inputs';

CREATE PROCEDURE romancy.run_workflow(
	name text,
	input jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	timeout interval DEFAULT NULL,
	INOUT result jsonb DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_run_workflow';
REVOKE ALL ON PROCEDURE romancy.run_workflow(text, jsonb, text, interval, jsonb) FROM PUBLIC;
COMMENT ON PROCEDURE romancy.run_workflow(text, jsonb, text, interval, jsonb)
	IS 'Start an instance, commit, and wait for its result';

CREATE FUNCTION romancy.get_result(instance_id uuid)
RETURNS jsonb LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_get_result';
REVOKE ALL ON FUNCTION romancy.get_result(uuid) FROM PUBLIC;
COMMENT ON FUNCTION romancy.get_result(uuid) IS 'An instance''s output, or its error; null while it runs';

CREATE PROCEDURE romancy.await_result(
	instance_id uuid,
	timeout interval DEFAULT NULL,
	INOUT result jsonb DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_await_result';
REVOKE ALL ON PROCEDURE romancy.await_result(uuid, interval, jsonb) FROM PUBLIC;
COMMENT ON PROCEDURE romancy.await_result(uuid, interval, jsonb) IS 'Wait for an instance''s result';

CREATE FUNCTION romancy.cancel_workflow(instance_id uuid, reason text DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_cancel_workflow';
REVOKE ALL ON FUNCTION romancy.cancel_workflow(uuid, text) FROM PUBLIC;
COMMENT ON FUNCTION romancy.cancel_workflow(uuid, text) IS 'Cancel an instance, with its compensations; true if it was live';

CREATE FUNCTION romancy.terminate_workflow(instance_id uuid, reason text DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_terminate_workflow';
REVOKE ALL ON FUNCTION romancy.terminate_workflow(uuid, text) FROM PUBLIC;
COMMENT ON FUNCTION romancy.terminate_workflow(uuid, text) IS 'Cancel an instance without compensations; true if it was live';

CREATE FUNCTION romancy.pause_workflow(instance_id uuid)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_pause_workflow';
REVOKE ALL ON FUNCTION romancy.pause_workflow(uuid) FROM PUBLIC;
COMMENT ON FUNCTION romancy.pause_workflow(uuid) IS 'Let an instance do nothing until it is resumed';

CREATE FUNCTION romancy.resume_workflow(instance_id uuid)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_resume_workflow';
REVOKE ALL ON FUNCTION romancy.resume_workflow(uuid) FROM PUBLIC;
COMMENT ON FUNCTION romancy.resume_workflow(uuid) IS 'Let a paused instance go on';

CREATE FUNCTION romancy.retry_workflow(instance_id uuid)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_retry_workflow';
REVOKE ALL ON FUNCTION romancy.retry_workflow(uuid) FROM PUBLIC;
COMMENT ON FUNCTION romancy.retry_workflow(uuid) IS 'Run a failed instance again, from its failed step';

CREATE FUNCTION romancy.delete_workflow(instance_id uuid)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_delete_workflow';
REVOKE ALL ON FUNCTION romancy.delete_workflow(uuid) FROM PUBLIC;
COMMENT ON FUNCTION romancy.delete_workflow(uuid) IS 'Delete a finished instance with all that belongs to it';

CREATE FUNCTION romancy.cancel_workflows(filter jsonb)
RETURNS bigint LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_cancel_workflows';
REVOKE ALL ON FUNCTION romancy.cancel_workflows(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION romancy.cancel_workflows(jsonb) IS 'Cancel all live instances that a filter selects; how many';

CREATE FUNCTION romancy.retry_workflows(filter jsonb)
RETURNS bigint LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_retry_workflows';
REVOKE ALL ON FUNCTION romancy.retry_workflows(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION romancy.retry_workflows(jsonb) IS 'Retry all failed instances that a filter selects; how many';

CREATE FUNCTION romancy.list_instances(
	filter jsonb DEFAULT '{}',
	page_size int DEFAULT 50,
	page_token text DEFAULT NULL,
	OUT instance_id uuid,
	OUT namespace text,
	OUT workflow text,
	OUT version int,
	OUT status text,
	OUT input jsonb,
	OUT output jsonb,
	OUT error jsonb,
	OUT queue text,
	OUT owner text,
	OUT priority int,
	OUT labels jsonb,
	OUT idempotency_key text,
	OUT parent_id uuid,
	OUT continued_from uuid,
	OUT created_at timestamptz,
	OUT started_at timestamptz,
	OUT updated_at timestamptz,
	OUT finished_at timestamptz,
	OUT next_page_token text)
RETURNS SETOF record LANGUAGE c VOLATILE ROWS 50 AS 'MODULE_PATHNAME', 'romancy_list_instances';
REVOKE ALL ON FUNCTION romancy.list_instances(jsonb, int, text) FROM PUBLIC;
COMMENT ON FUNCTION romancy.list_instances(jsonb, int, text) IS 'A page of instances that a filter selects, newest first';

CREATE FUNCTION romancy.get_history(
	instance_id uuid,
	after bigint DEFAULT 0,
	page_size int DEFAULT 1000,
	OUT seq bigint,
	OUT event_type text,
	OUT activity_id text,
	OUT data jsonb,
	OUT created_at timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_get_history';
REVOKE ALL ON FUNCTION romancy.get_history(uuid, bigint, int) FROM PUBLIC;
COMMENT ON FUNCTION romancy.get_history(uuid, bigint, int) IS 'The events of an instance, by pages';

CREATE FUNCTION romancy.index_labels()
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'romancy_index_labels';
REVOKE ALL ON FUNCTION romancy.index_labels() FROM PUBLIC;
COMMENT ON FUNCTION romancy.index_labels() IS 'Makes the index by which filters find instances by labels; false where it is there';

CREATE FUNCTION romancy.check_replay(
	workflow text, handler text DEFAULT NULL, filter jsonb DEFAULT NULL,
	OUT instance_id uuid, OUT "position" bigint, OUT recorded text, OUT asked text)
RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_check_replay';
REVOKE ALL ON FUNCTION romancy.check_replay(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION romancy.check_replay(text, text, jsonb)
IS 'Replays histories of a workflow against a handler, carrying out nothing: a row for each that would be paused with RM003';

CREATE FUNCTION romancy.get_archived_history(
	instance_id uuid,
	after bigint DEFAULT 0,
	page_size int DEFAULT 1000,
	OUT seq bigint,
	OUT event_type text,
	OUT activity_id text,
	OUT data jsonb,
	OUT created_at timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_get_archived_history';
REVOKE ALL ON FUNCTION romancy.get_archived_history(uuid, bigint, int) FROM PUBLIC;
COMMENT ON FUNCTION romancy.get_archived_history(uuid, bigint, int)
	IS 'The archived events of an instance that continued in another, by pages';

CREATE FUNCTION romancy.get_value(instance_id uuid, key text)
RETURNS jsonb LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_get_value';
REVOKE ALL ON FUNCTION romancy.get_value(uuid, text) FROM PUBLIC;
COMMENT ON FUNCTION romancy.get_value(uuid, text) IS 'The value that an instance''s handler put under a key last';
