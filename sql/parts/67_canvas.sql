/*
 * Canvas: tasks put together by signatures, which are plain jsonb. An instance
 * of romancy.canvas runs one. What comes after a task stands in its own row
 * (t_task.next), so that a chain goes on without a turn of the instance; only
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
	next jsonb NOT NULL);
CREATE INDEX t_canvas_join_instance ON romancy.t_canvas_join (instance_id);
CREATE INDEX t_canvas_join_open ON romancy.t_canvas_join (instance_id) WHERE NOT failed;
COMMENT ON TABLE romancy.t_canvas_join IS 'Groups of a canvas that have not ended, or that have failed: what comes after all their members';

/* join_id: of a task whose result went on to the next one, an id that no group has. Nobody updates a row: no group has a hot one. */
CREATE TABLE romancy.t_canvas_result (
	instance_id uuid NOT NULL,
	join_id uuid NOT NULL,
	member int NOT NULL,
	is_task boolean NOT NULL,
	value jsonb,
	error jsonb,
	PRIMARY KEY (instance_id, join_id, member));
COMMENT ON TABLE romancy.t_canvas_result IS 'Ends of a canvas''s tasks and groups';

CREATE FUNCTION romancy.task(name text, input jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN input IS NULL THEN pg_catalog.jsonb_build_object('task', name)
	ELSE pg_catalog.jsonb_build_object('task', name, 'input', input) END;
COMMENT ON FUNCTION romancy.task(text, jsonb) IS 'A signature: one task';

CREATE FUNCTION romancy.chain(VARIADIC signatures jsonb[] DEFAULT '{}') RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN pg_catalog.jsonb_build_object('chain', pg_catalog.to_jsonb(signatures));
COMMENT ON FUNCTION romancy.chain(jsonb[]) IS 'A signature: one after the other, each with the result before it';

CREATE FUNCTION romancy.group(VARIADIC signatures jsonb[] DEFAULT '{}') RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN pg_catalog.jsonb_build_object('group', pg_catalog.to_jsonb(signatures));
COMMENT ON FUNCTION romancy.group(jsonb[]) IS 'A signature: all in parallel; an array of results';

CREATE FUNCTION romancy.chord(header jsonb, body jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN pg_catalog.jsonb_build_object('chord', pg_catalog.jsonb_build_object('header', header, 'body', body));
COMMENT ON FUNCTION romancy.chord(jsonb, jsonb) IS 'A signature: a group, then a callback with its results';

CREATE FUNCTION romancy.options(signature jsonb, retry jsonb DEFAULT NULL, priority int DEFAULT NULL, on_error jsonb DEFAULT NULL, immutable boolean DEFAULT NULL)
RETURNS jsonb LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_options';
COMMENT ON FUNCTION romancy.options(jsonb, jsonb, int, jsonb, boolean) IS 'A signature with options';

CREATE FUNCTION romancy.canvas(input jsonb) RETURNS jsonb
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_canvas';
COMMENT ON FUNCTION romancy.canvas(jsonb) IS 'Internal: the handler of instances that romancy.run_canvas starts';

CREATE FUNCTION romancy.run_canvas(signature jsonb, input jsonb DEFAULT NULL, labels jsonb DEFAULT NULL, result_expires interval DEFAULT NULL)
RETURNS uuid LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_run_canvas';
COMMENT ON FUNCTION romancy.run_canvas(jsonb, jsonb, jsonb, interval) IS 'Start a signature as an instance';

CREATE FUNCTION romancy.get_progress(instance_id uuid, OUT total bigint, OUT completed bigint, OUT failed bigint, OUT running bigint, OUT percent numeric, OUT note text, OUT eta timestamptz)
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_get_progress';
COMMENT ON FUNCTION romancy.get_progress(uuid) IS 'How far an instance is';

CREATE PROCEDURE romancy.await_progress(instance_id uuid, since jsonb DEFAULT NULL, timeout interval DEFAULT '20s', INOUT progress jsonb DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_await_progress';
COMMENT ON PROCEDURE romancy.await_progress(uuid, jsonb, interval, jsonb) IS 'Wait until an instance''s progress differs from the one given';
