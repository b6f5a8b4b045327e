/*
 * Canvas: tasks put together by signatures, which are plain jsonb. An instance
 * of romancy.t_canvas runs one. The successors of a task stand in its own row
 * (t_task.next), those of a long chain in rows of their own, so that a chain goes on without a turn of the instance; only
 * the end of a group is a turn's work.
 */
CREATE TABLE romancy.t_canvas_join (
	join_id uuid PRIMARY KEY,
	instance_id uuid NOT NULL,
	members int NOT NULL,
	failed boolean NOT NULL,
	path text NOT NULL,
	body jsonb,
	options jsonb,
	next jsonb NOT NULL) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
CREATE INDEX t_canvas_join_instance ON romancy.t_canvas_join (instance_id);
CREATE INDEX t_canvas_join_open ON romancy.t_canvas_join (instance_id) WHERE NOT failed;
COMMENT ON TABLE romancy.t_canvas_join IS 'Groups of a canvas that have not ended, or that have failed, and their successors';

/* place: from 0 in the whole chain; those before the first task are missing. Rows are never changed. */
CREATE TABLE romancy.t_canvas_chain (
	instance_id uuid,
	chain_id uuid,
	place int,
	signature jsonb NOT NULL,
	PRIMARY KEY (instance_id, chain_id, place)) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
COMMENT ON TABLE romancy.t_canvas_chain IS 'Signatures of long chains of canvases that have not ended, or that have failed';

/* join_id: of a task whose result went on to the next one, an id that no group has. No row is updated: no group has a hot one. */
CREATE TABLE romancy.t_canvas_result (
	instance_id uuid NOT NULL,
	join_id uuid NOT NULL,
	member int NOT NULL,
	is_task boolean NOT NULL,
	value jsonb,
	error jsonb,
	step text,
	activity text,
	input jsonb,
	attempt int,
	started_at timestamptz,
	finished_at timestamptz,
	value_document uuid,	/* large ones */
	input_document uuid,
	PRIMARY KEY (instance_id, join_id, member));
COMMENT ON TABLE romancy.t_canvas_result IS 'Ends of a canvas''s tasks and groups; kept with the instance';
COMMENT ON COLUMN romancy.t_canvas_result.is_task IS 'Whether it counts for get_progress: a task that is of no on_error';
COMMENT ON COLUMN romancy.t_canvas_result.step IS 'Of a task, activity:path; null for the end of a group';

CREATE FUNCTION romancy.task(name text, input jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_task';
COMMENT ON FUNCTION romancy.task(text, jsonb) IS 'A signature: one task';

CREATE FUNCTION romancy.chain(VARIADIC signatures jsonb[] DEFAULT '{}') RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_chain';
COMMENT ON FUNCTION romancy.chain(jsonb[]) IS 'A signature: one after the other, each with the result before it';

CREATE FUNCTION romancy.group(VARIADIC signatures jsonb[] DEFAULT '{}') RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_group';
COMMENT ON FUNCTION romancy.group(jsonb[]) IS 'A signature: all in parallel; an array of results';

CREATE FUNCTION romancy.chord(header jsonb, body jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN pg_catalog.jsonb_build_object('chord', pg_catalog.jsonb_build_object('header', header, 'body', body));
COMMENT ON FUNCTION romancy.chord(jsonb, jsonb) IS 'A signature: a group, then a callback with its results';

CREATE FUNCTION romancy.options(signature jsonb, retry jsonb DEFAULT NULL, priority int DEFAULT NULL, on_error jsonb DEFAULT NULL, immutable boolean DEFAULT NULL,
	on_success jsonb DEFAULT NULL, delay interval DEFAULT NULL, timeout interval DEFAULT NULL, expires interval DEFAULT NULL)
RETURNS jsonb LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_options';
COMMENT ON FUNCTION romancy.options(jsonb, jsonb, int, jsonb, boolean, jsonb, interval, interval, interval) IS 'A signature with options';

CREATE FUNCTION romancy.t_canvas(input jsonb) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_t_canvas';
COMMENT ON FUNCTION romancy.t_canvas(jsonb) IS 'Internal: the handler of canvases';

CREATE FUNCTION romancy.run_canvas(signature jsonb, input jsonb DEFAULT NULL, labels jsonb DEFAULT NULL, result_expires interval DEFAULT NULL,
	instance_id uuid DEFAULT NULL, idempotency_key text DEFAULT NULL, start_at timestamptz DEFAULT NULL, priority int DEFAULT 0, execution_timeout interval DEFAULT NULL)
RETURNS uuid LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_run_canvas';
COMMENT ON FUNCTION romancy.run_canvas(jsonb, jsonb, jsonb, interval, uuid, text, timestamptz, int, interval) IS 'Start a signature as an instance';

CREATE FUNCTION romancy.canvas(signature jsonb, input jsonb DEFAULT NULL, activity_id text DEFAULT NULL)
RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_canvas';
COMMENT ON FUNCTION romancy.canvas(jsonb, jsonb, text) IS 'In a workflow: run a signature as a child and return its result';

CREATE FUNCTION romancy.spawn_canvas(signature jsonb, input jsonb DEFAULT NULL, activity_id text DEFAULT NULL)
RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_spawn_canvas';
COMMENT ON FUNCTION romancy.spawn_canvas(jsonb, jsonb, text) IS 'In a workflow: start a signature as a child and return its handle';

CREATE FUNCTION romancy.canvas_tasks(instance_id uuid, OUT path text, OUT activity text, OUT status text, OUT attempt int, OUT input jsonb, OUT result jsonb,
	OUT error jsonb, OUT started_at timestamptz, OUT finished_at timestamptz)
RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_canvas_tasks';
COMMENT ON FUNCTION romancy.canvas_tasks(uuid) IS 'All tasks of a canvas, with their states and results';

CREATE FUNCTION romancy.cancel_task(instance_id uuid, path text) RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_cancel_task';
COMMENT ON FUNCTION romancy.cancel_task(uuid, text) IS 'End one task of a canvas, as failed with RM008, whether it runs or not; false if it is not scheduled yet or has ended';

CREATE FUNCTION romancy.get_progress(instance_id uuid, OUT total bigint, OUT completed bigint, OUT failed bigint, OUT running bigint, OUT percent numeric, OUT note text, OUT eta timestamptz)
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_get_progress';
COMMENT ON FUNCTION romancy.get_progress(uuid) IS 'How far an instance is';

CREATE PROCEDURE romancy.await_progress(instance_id uuid, since jsonb DEFAULT NULL, timeout interval DEFAULT '20s', INOUT progress jsonb DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_await_progress';
COMMENT ON PROCEDURE romancy.await_progress(uuid, jsonb, interval, jsonb) IS 'Wait until an instance''s progress differs from the one given';
