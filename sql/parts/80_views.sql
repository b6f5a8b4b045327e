/*
 * Views of instances. security_barrier: a function in a query's condition sees
 * no row before may_read has let it through.
 */
CREATE VIEW romancy.instances WITH (security_barrier) AS
	SELECT i.instance_id, i.workflow, w.version,
		romancy.shown_status(i.instance_id, i.status) AS status,
		i.input, i.output, i.error, w.queue, i.owner, i.priority, i.labels,
		i.idempotency_key, i.parent_id, i.continued_from, i.created_at,
		i.started_at, i.updated_at, i.finished_at
	FROM romancy.t_instance i
	LEFT JOIN romancy.t_workflow w ON w.def_id = i.def_id
	WHERE romancy.may_read(i.owner);
REVOKE ALL ON romancy.instances FROM PUBLIC;
COMMENT ON VIEW romancy.instances IS 'Workflow instances of the current role; of all roles for a monitor';

CREATE VIEW romancy.waiting WITH (security_barrier) AS
	SELECT i.instance_id, i.workflow, i.status::text AS status,
		i.wait ->> 'kind' AS kind,
		i.wait ->> 'step' AS step,
		i.wait ->> 'name' AS name,
		(i.wait ->> 'since')::timestamptz AS since,
		(i.wait ->> 'until')::timestamptz AS until
	FROM romancy.t_instance i
	WHERE i.wake_at IS NOT NULL AND i.wait IS NOT NULL
		AND romancy.may_read(i.owner);
REVOKE ALL ON romancy.waiting FROM PUBLIC;
COMMENT ON VIEW romancy.waiting IS 'What each live instance waits for, since when and until when';
