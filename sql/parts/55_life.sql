/* The life of an instance: compensation, children, recur, fork. */

CREATE FUNCTION romancy.register_compensation(activity text, input jsonb DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_register_compensation';
COMMENT ON FUNCTION romancy.register_compensation(text, jsonb) IS 'In a workflow: have an activity run if the instance does not complete';

CREATE FUNCTION romancy.compensate()
RETURNS int LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_compensate';
COMMENT ON FUNCTION romancy.compensate() IS 'In a workflow: run the compensations that are registered now; how many succeeded';

CREATE FUNCTION romancy.spawn_workflow(name text, input jsonb DEFAULT NULL, activity_id text DEFAULT NULL,
	on_parent_close text DEFAULT 'cancel', version int DEFAULT NULL, priority int DEFAULT NULL,
	labels jsonb DEFAULT NULL, execution_timeout interval DEFAULT NULL)
RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_spawn_workflow';
COMMENT ON FUNCTION romancy.spawn_workflow(text, jsonb, text, text, int, int, jsonb, interval) IS 'In a workflow: start a child and return its handle';

CREATE FUNCTION romancy.call_workflow(name text, input jsonb DEFAULT NULL, activity_id text DEFAULT NULL,
	on_parent_close text DEFAULT 'cancel', version int DEFAULT NULL, priority int DEFAULT NULL,
	labels jsonb DEFAULT NULL, execution_timeout interval DEFAULT NULL)
RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_call_workflow';
COMMENT ON FUNCTION romancy.call_workflow(text, jsonb, text, text, int, int, jsonb, interval) IS 'In a workflow: run a child and return its result';

CREATE FUNCTION romancy.recur(input jsonb DEFAULT NULL)
RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_recur';
COMMENT ON FUNCTION romancy.recur(jsonb) IS 'In a workflow: end this instance and continue in a new one; never returns';

CREATE FUNCTION romancy.fork_workflow(instance_id uuid, from_activity text, input jsonb DEFAULT NULL)
RETURNS uuid LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_fork_workflow';
COMMENT ON FUNCTION romancy.fork_workflow(uuid, text, jsonb) IS 'Start an instance with the history of another up to, not including, a step';

CREATE FUNCTION romancy.resume_workflows(filter jsonb)
RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_resume_workflows';
COMMENT ON FUNCTION romancy.resume_workflows(jsonb) IS 'Resume all paused instances that a filter selects; how many';

/* Definitions that may be dropped or replaced, and the instances that wait for a mended function. Part 2 is for a role that has few instances. */
CREATE VIEW romancy.versions WITH (security_barrier) AS
	SELECT n.name AS namespace, w.name AS workflow, w.version, w.defined, w.is_current, w.handler, w.queue, w.owner,
		w.created_at, coalesce(i.live, 0) AS live, coalesce(i.paused, 0) AS paused, i.oldest
	FROM romancy.t_workflow w
	LEFT JOIN (
		SELECT def_id, count(*) AS live, count(*) FILTER (WHERE status = 'paused') AS paused,
			min(created_at) AS oldest
		FROM (SELECT t.*, 1 AS part FROM romancy.t_instance t UNION ALL SELECT t.*, 2 FROM romancy.t_instance t) t
		WHERE wake_at IS NOT NULL AND romancy.t_may_read(owner) AND CASE part WHEN 1 THEN (romancy.t_owners_of_few() IS NULL)::int <> 0
			ELSE romancy.t_owners_of_few() IS NOT NULL AND owner = ANY (romancy.t_owners_of_few()) END
		GROUP BY def_id) i USING (def_id)
	LEFT JOIN romancy.t_namespace n ON n.namespace_id = w.namespace
	WHERE i.def_id IS NOT NULL OR romancy.t_may_read(w.owner);
COMMENT ON VIEW romancy.versions IS 'Versions of workflows, and how many live and paused instances each still has';
COMMENT ON COLUMN romancy.versions.namespace IS 'The namespace that the name belongs to';
COMMENT ON COLUMN romancy.versions.workflow IS 'Name of the workflow';
COMMENT ON COLUMN romancy.versions.version IS 'Number of the version';
COMMENT ON COLUMN romancy.versions.defined IS 'False: found by a function''s name';
COMMENT ON COLUMN romancy.versions.is_current IS 'Whether new instances run it';
COMMENT ON COLUMN romancy.versions.handler IS 'The function; null: its code runs outside';
COMMENT ON COLUMN romancy.versions.queue IS 'The queue that programs poll for it';
COMMENT ON COLUMN romancy.versions.owner IS 'The role that defined it';
COMMENT ON COLUMN romancy.versions.created_at IS 'When it was defined or found';
COMMENT ON COLUMN romancy.versions.live IS 'Live instances that run it';
COMMENT ON COLUMN romancy.versions.paused IS 'Those of them that are paused';
COMMENT ON COLUMN romancy.versions.oldest IS 'When the oldest live one was started';
