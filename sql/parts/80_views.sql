/*
 * Views of instances. security_barrier: a function in a query's condition sees
 * no row before t_may_read has let it through.
 *
 * Part 1 are the instances by the status of their row, the name of which is indexed; part 2 are those of which a turn is under
 * way, which only shared memory knows. That is read once (r), so that each instance is in one part. Part 3 stands for part 1 where a role
 * has few instances, which an index finds; its condition stands in it, so that it is planned by itself, without the order. The order lets a page of the
 * newest come from an index: what stands behind a barrier is planned without a look at the order that its reader asks for.
 */
CREATE VIEW romancy.instances WITH (security_barrier) AS
	WITH r AS MATERIALIZED (SELECT romancy.t_in_turn() AS ids)
	SELECT i.instance_id, n.name AS namespace, i.workflow, w.version, i.shown AS status,
		i.input,
		/* ROM_SQL_OUTPUT in src/instances/history.h: a large one that is a step's result, too, is written with that */
		CASE WHEN i.output_seq IS NULL THEN coalesce(i.output, romancy.t_document_value(i.output_document)) ELSE
			(SELECT (u.e[pg_catalog.cardinality(u.e) - (h.last_seq - i.output_seq)::int]).result
			 FROM romancy.t_history h, LATERAL (SELECT romancy.t_events_unpack(h.events)) u (e)
			 WHERE h.instance_id = i.instance_id AND h.last_seq >= i.output_seq ORDER BY h.last_seq LIMIT 1) END AS output,
		i.error, w.queue, i.owner, i.priority, i.labels,
		i.idempotency_key, i.parent_id, i.continued_from, i.created_at,
		i.started_at, i.updated_at, i.finished_at
	FROM (
		SELECT t.*, romancy.t_status_name(t.status) AS shown, 1 AS part FROM romancy.t_instance t
		UNION ALL
		SELECT t.*, romancy.t_status_name(t.status), 3 FROM romancy.t_instance t WHERE t.owner = ANY (romancy.t_owners_of_few()) AND romancy.t_owners_of_few() IS NOT NULL
		UNION ALL
		SELECT t.*, 'running'::text, 2 FROM (SELECT DISTINCT x.id FROM pg_catalog.unnest((SELECT r.ids FROM r)) x (id)) u JOIN romancy.t_instance t ON t.instance_id = u.id) i
	LEFT JOIN romancy.t_workflow w ON w.def_id = i.def_id
	LEFT JOIN romancy.t_namespace n ON n.namespace_id = i.namespace
	WHERE CASE i.part
			WHEN 2 THEN i.status IN ('pending', 'running', 'waiting_for_timer', 'waiting_for_message', 'waiting_for_activity', 'waiting_for_workflow')
			ELSE (i.part = 3 OR (romancy.t_owners_of_few() IS NULL)::int <> 0)
				AND NOT (i.instance_id = ANY ((SELECT r.ids FROM r)::uuid[])
				AND i.status IN ('pending', 'running', 'waiting_for_timer', 'waiting_for_message', 'waiting_for_activity', 'waiting_for_workflow'))
		END
		/* the planner takes a third of the rows for what a function lets through, this way for all but a few: then an index is cheaper than a sort */
		AND romancy.t_may_read(i.owner)::int <> 0
	ORDER BY i.created_at DESC, i.instance_id DESC;
REVOKE ALL ON romancy.instances FROM PUBLIC;
COMMENT ON VIEW romancy.instances IS 'Workflow instances of the current role; of all roles for a monitor';
COMMENT ON COLUMN romancy.instances.instance_id IS 'The instance';
COMMENT ON COLUMN romancy.instances.namespace IS 'The namespace that it and its names belong to';
COMMENT ON COLUMN romancy.instances.workflow IS 'Name of its workflow';
COMMENT ON COLUMN romancy.instances.version IS 'Version of the workflow that it runs';
COMMENT ON COLUMN romancy.instances.status IS 'pending, running, waiting_for_timer, waiting_for_message, waiting_for_activity, waiting_for_workflow, paused, compensating; final: completed, failed, cancelled, recurred';
COMMENT ON COLUMN romancy.instances.input IS 'Its input';
COMMENT ON COLUMN romancy.instances.output IS 'Its result, once it has completed, until that expires';
COMMENT ON COLUMN romancy.instances.error IS 'Why it failed, was cancelled, or is paused by the engine';
COMMENT ON COLUMN romancy.instances.queue IS 'The queue that programs poll for its code';
COMMENT ON COLUMN romancy.instances.owner IS 'The role as which it runs';
COMMENT ON COLUMN romancy.instances.priority IS 'A higher one goes first';
COMMENT ON COLUMN romancy.instances.labels IS 'Its labels';
COMMENT ON COLUMN romancy.instances.idempotency_key IS 'The key that it was started with';
COMMENT ON COLUMN romancy.instances.parent_id IS 'The instance whose child it is';
COMMENT ON COLUMN romancy.instances.continued_from IS 'The instance that it continues (recur)';
COMMENT ON COLUMN romancy.instances.created_at IS 'When it was started';
COMMENT ON COLUMN romancy.instances.started_at IS 'When its first turn began';
COMMENT ON COLUMN romancy.instances.updated_at IS 'When its last turn ended';
COMMENT ON COLUMN romancy.instances.finished_at IS 'When it ended';

/*
 * A row for each live instance. t: the task that it waits for, or one of them that has failed before; its limit is the
 * longest time that a request of it may take (to_send() of src/http/request.c). p: the request that paused it, the last
 * event of its history (WorkflowPaused, 37). r: the process that runs it. Part 1 is for who sees all, part 2 for who sees what is of some
 * roles; the other one is not begun. The planner asks t_owners() how many rows these roles have, and an index finds those of a role that
 * has few. It takes "<> 0" for nearly all rows, and "IS NULL" alone for next to none.
 */
CREATE VIEW romancy.waiting WITH (security_barrier) AS
	SELECT i.instance_id, ns.name AS namespace, i.workflow,
		CASE WHEN r.id = i.instance_id AND i.status NOT IN ('paused', 'compensating') THEN 'running' ELSE i.status::text END AS status,
		CASE WHEN r.pid IS NOT NULL THEN 'running'
			WHEN i.status = 'paused' THEN 'paused'
			WHEN i.wait IS NULL AND i.status = 'pending' THEN 'start'
			WHEN i.wait IS NULL THEN 'turn'
			WHEN i.wait ->> 'kind' IN ('activity', 'compensate') AND t.state = 2 THEN 'retry'
			WHEN i.wait ->> 'kind' IN ('activity', 'compensate') AND t.state = 1 AND t.is_request THEN 'request'
			WHEN i.wait ->> 'kind' IN ('activity', 'compensate', 'worker') AND t.is_paused THEN 'paused_queue'
			WHEN i.wait ->> 'kind' = 'receive' THEN 'message'
			ELSE i.wait ->> 'kind' END AS kind,
		coalesce(r.step, CASE WHEN i.wait ->> 'kind' = 'activity' AND i.status <> 'paused' THEN t.step END,
			CASE WHEN i.wait ->> 'kind' <> 'worker' THEN coalesce(i.wait #>> '{detail,awaited}', i.wait ->> 'step') END) AS step,
		CASE WHEN i.wait ->> 'kind' = 'worker' THEN NULL
			WHEN r.step <> i.wait ->> 'step' THEN CASE WHEN r.step = t.step THEN t.activity END
			WHEN i.wait ->> 'kind' = 'activity' AND i.status <> 'paused' AND t.step <> i.wait ->> 'step' THEN t.activity
			ELSE coalesce(i.wait #>> '{detail,awaited_name}', i.wait ->> 'name') END AS name,
		coalesce(r.since, p.at, CASE WHEN t.state = 1 AND t.is_request THEN t.claimed_at END, (i.wait ->> 'since')::timestamptz,
			CASE WHEN i.status = 'pending' THEN i.created_at ELSE i.updated_at END) AS since,
		CASE WHEN r.pid IS NOT NULL OR i.status = 'paused' THEN NULL
			WHEN u.error IS NOT NULL THEN u.until
			WHEN i.error ? 'tries' THEN i.wake_at
			WHEN i.wait IS NULL THEN CASE WHEN i.wake_at > pg_catalog.clock_timestamp() THEN nullif(i.wake_at, 'infinity') END
			WHEN t.state = 1 AND t.is_request THEN t.claimed_at + t.time_limit
			ELSE coalesce((i.wait ->> 'until')::timestamptz, t.due_at) END AS until,
		CASE WHEN u.error IS NOT NULL THEN (u.error ->> 'tries')::int
			WHEN i.error ? 'tries' THEN (i.error ->> 'tries')::int
			WHEN r.step = t.step THEN t.attempt
			WHEN r.pid IS NULL OR r.step = i.wait ->> 'step'
			THEN coalesce((i.wait #>> '{detail,attempt}')::int - (i.wait #> '{detail,held_at}' IS NOT NULL)::int, t.attempt) END AS attempt,
		CASE WHEN u.error IS NOT NULL THEN u.error
			WHEN i.status IN ('paused', 'compensating') THEN i.error
			ELSE coalesce(i.error, i.wait #> '{detail,errors,-1}' || CASE WHEN r.step <> i.wait ->> 'step' THEN pg_catalog.jsonb_build_object('step', i.wait ->> 'step') ELSE '{}' END,
				t.errors -> -1 || CASE WHEN r.step <> t.step THEN pg_catalog.jsonb_build_object('step', t.step) ELSE '{}' END) END AS error,
		CASE WHEN i.status = 'paused' THEN CASE WHEN i.error IS NULL THEN p.detail ->> 'by' ELSE 'romancy' END END AS paused_by,
		t.queue, t.worker_id, r.pid, i.owner, i.created_at
	FROM (SELECT t.*, 1 AS part FROM romancy.t_instance t UNION ALL SELECT t.*, 2 FROM romancy.t_instance t) i
	LEFT JOIN (SELECT DISTINCT ON (r.instance_id) r.id, r.instance_id, r.pid, r.step, r.since FROM romancy.t_running() r
		ORDER BY r.instance_id, r.id = r.instance_id DESC, r.since) r ON r.instance_id = i.instance_id
	LEFT JOIN romancy.t_unwritten() u ON u.instance_id = i.instance_id AND u.at > i.updated_at
	LEFT JOIN LATERAL (SELECT t.step, t.activity, t.state, t.claimed_at, nullif(pg_catalog.substr(t.queue, pg_catalog.strpos(t.queue, '/') + 1), '') AS queue, t.worker_id, t.attempt, t.errors,
			t.queue LIKE '%/@http' OR t.queue LIKE '%/@call' AS is_request,
			t.state = 0 AND t.queue <> '' AND EXISTS (SELECT FROM romancy.t_queue q WHERE q.name = pg_catalog.ltrim(t.queue, '@') AND q.paused) AS is_paused,
			least(t.close_us * '1 microsecond'::interval,
				coalesce(CASE WHEN t.queue LIKE '%/@call' THEN (coalesce(t.input, romancy.t_document_value(t.document)) ->> 'timeout_ms')::int * '1 millisecond'::interval
					WHEN t.queue LIKE '%/@http' THEN (SELECT (a.http ->> 'timeout')::interval FROM romancy.t_activity a WHERE a.namespace = i.namespace AND a.name = t.activity) END,
					pg_catalog.current_setting('romancy.http_timeout', true)::interval)) AS time_limit,
			CASE WHEN t.state IN (1, 2, 6) THEN t.due_at END AS due_at
		FROM romancy.t_task t
		/* here, so that the tasks of those that have none are not looked for */
		WHERE t.instance_id = i.instance_id AND t.state IN (0, 1, 2, 5, 6) AND ((i.flags & 2) <> 0 OR i.wait ->> 'kind' = 'worker')
		ORDER BY t.step = (i.wait ->> 'step') DESC, t.errors IS NULL, t.state = 1 DESC, t.created_at
		LIMIT 1) t ON true
	LEFT JOIN LATERAL (SELECT e.at, e.detail
		FROM (SELECT h.events FROM romancy.t_history h WHERE h.instance_id = i.instance_id AND i.status = 'paused' ORDER BY h.last_seq DESC LIMIT 1) h,
			LATERAL pg_catalog.unnest(romancy.t_events_unpack(h.events)) WITH ORDINALITY AS e (kind, step, name, input, result, detail, at, n)
		WHERE e.kind = 37
		ORDER BY e.n DESC LIMIT 1) p ON i.status = 'paused'
	LEFT JOIN romancy.t_namespace ns ON ns.namespace_id = i.namespace
	WHERE i.wake_at IS NOT NULL AND CASE i.part WHEN 1 THEN (romancy.t_owners() IS NULL)::int <> 0
		ELSE romancy.t_owners() IS NOT NULL AND i.owner = ANY (romancy.t_owners()) END
	/* so that the first rows come from the index of live ones, and not from a look through all */
	ORDER BY i.wake_at, i.instance_id;
REVOKE ALL ON romancy.waiting FROM PUBLIC;
COMMENT ON VIEW romancy.waiting IS 'Every live instance: what it waits for or runs, since when, until when, and what went wrong';
COMMENT ON COLUMN romancy.waiting.instance_id IS 'The instance';
COMMENT ON COLUMN romancy.waiting.namespace IS 'The namespace that it and its names belong to';
COMMENT ON COLUMN romancy.waiting.workflow IS 'Name of its workflow';
COMMENT ON COLUMN romancy.waiting.status IS 'As in view instances';
COMMENT ON COLUMN romancy.waiting.kind IS 'running; paused; start (its first turn); turn (an executor, to go on); timer, message, event, activity, workflow, worker (a program, for workflow code outside); paused_queue (that queue to be resumed); retry (the next attempt); request (an HTTP request is under way); max_concurrency, rate_limit (a limit of the activity); compensate';
COMMENT ON COLUMN romancy.waiting.step IS 'The step that runs or is waited for (of several, one that has failed before, or the oldest); null while the handler itself runs';
COMMENT ON COLUMN romancy.waiting.name IS 'The activity, channel, event type or workflow that it waits for';
COMMENT ON COLUMN romancy.waiting.since IS 'Since when it waits, is paused, runs this step, or a request is under way';
COMMENT ON COLUMN romancy.waiting.until IS 'When it goes on at the latest: a timer, a start, a timeout, the next attempt, the end of a program''s lease, a request''s time limit; held by max_concurrency or rate_limit, when it asks again; null: no time';
COMMENT ON COLUMN romancy.waiting.attempt IS 'Attempts so far of the activity whose step is shown; turns that failed in the engine itself, where error has tries';
COMMENT ON COLUMN romancy.waiting.error IS 'Why it is paused or compensates; or the last error of an activity, or of the engine itself (then it has tries; and unwritten, the SQLSTATE of what keeps it from being written), that is tried again; it has step where another step than that runs meanwhile';
COMMENT ON COLUMN romancy.waiting.paused_by IS 'The role that paused it; romancy: the engine, because of the error';
COMMENT ON COLUMN romancy.waiting.queue IS 'The queue of the task that it waits for; null: the database itself';
COMMENT ON COLUMN romancy.waiting.worker_id IS 'The program that has claimed that task';
COMMENT ON COLUMN romancy.waiting.pid IS 'The server process that runs it, as in pg_stat_activity';
COMMENT ON COLUMN romancy.waiting.owner IS 'The role whose instance it is';
COMMENT ON COLUMN romancy.waiting.created_at IS 'When it was started';

CREATE VIEW romancy.workflows WITH (security_barrier) AS
	SELECT n.name AS namespace, w.name, w.version, w.is_current, w.defined, w.handler, w.queue, w.owner, w.search_path,
		w.execution_timeout, w.retention, w.on_event, w.description, w.created_at
	FROM romancy.t_workflow w
	LEFT JOIN romancy.t_namespace n ON n.namespace_id = w.namespace
	WHERE romancy.t_may_read(w.owner);
REVOKE ALL ON romancy.workflows FROM PUBLIC;
COMMENT ON VIEW romancy.workflows IS 'Definitions of workflows: every version, with all of its settings';
COMMENT ON COLUMN romancy.workflows.namespace IS 'The namespace that the name belongs to';
COMMENT ON COLUMN romancy.workflows.name IS 'Name of the workflow';
COMMENT ON COLUMN romancy.workflows.version IS 'Number of the version, from 1';
COMMENT ON COLUMN romancy.workflows.is_current IS 'Whether new instances run this version';
COMMENT ON COLUMN romancy.workflows.defined IS 'False: not by define_workflow, but found by a function''s name when an instance was started';
COMMENT ON COLUMN romancy.workflows.handler IS 'The function; null: its code runs outside';
COMMENT ON COLUMN romancy.workflows.queue IS 'The queue that programs poll for it; null: it runs in the database';
COMMENT ON COLUMN romancy.workflows.owner IS 'The role that defined it';
COMMENT ON COLUMN romancy.workflows.search_path IS 'Under which its handler and activities run';
COMMENT ON COLUMN romancy.workflows.execution_timeout IS 'How long an instance may live; null: no limit';
COMMENT ON COLUMN romancy.workflows.retention IS 'How long finished instances are kept; null: romancy.retention';
COMMENT ON COLUMN romancy.workflows.on_event IS 'The type of the CloudEvents that start it';
COMMENT ON COLUMN romancy.workflows.description IS 'As given to define_workflow';
COMMENT ON COLUMN romancy.workflows.created_at IS 'When this version was defined or found';

CREATE VIEW romancy.activities WITH (security_barrier) AS
	SELECT n.name AS namespace, a.name, a.handler, CASE WHEN a.http IS NULL THEN a.queue END AS queue, a.owner, a.search_path, a.retry, a.compensation,
		a.start_to_close_timeout, a.schedule_to_start_timeout, a.heartbeat_timeout, a.transactional, a.max_concurrency, a.rate_limit,
		a.description, a.created_at, a.http
	FROM romancy.t_activity a
	LEFT JOIN romancy.t_namespace n ON n.namespace_id = a.namespace
	WHERE romancy.t_may_read(a.owner);
REVOKE ALL ON romancy.activities FROM PUBLIC;
COMMENT ON VIEW romancy.activities IS 'Definitions of activities, with all of their settings';
COMMENT ON COLUMN romancy.activities.namespace IS 'The namespace that the name belongs to';
COMMENT ON COLUMN romancy.activities.name IS 'Name of the activity';
COMMENT ON COLUMN romancy.activities.handler IS 'The function or procedure; null: it has a queue, or is an HTTP request';
COMMENT ON COLUMN romancy.activities.queue IS 'The queue that programs poll for it; null: it runs in the database';
COMMENT ON COLUMN romancy.activities.owner IS 'The role that defined it';
COMMENT ON COLUMN romancy.activities.search_path IS 'Under which it runs';
COMMENT ON COLUMN romancy.activities.retry IS 'Its retry policy, over romancy.default_retry';
COMMENT ON COLUMN romancy.activities.compensation IS 'The activity that undoes it';
COMMENT ON COLUMN romancy.activities.start_to_close_timeout IS 'How long an attempt may take';
COMMENT ON COLUMN romancy.activities.schedule_to_start_timeout IS 'How long a task may wait for a program';
COMMENT ON COLUMN romancy.activities.heartbeat_timeout IS 'How long a program may be silent';
COMMENT ON COLUMN romancy.activities.transactional IS 'Whether its effects commit with its history row';
COMMENT ON COLUMN romancy.activities.max_concurrency IS 'How many attempts may run at a time';
COMMENT ON COLUMN romancy.activities.rate_limit IS 'How many may begin in a time, such as 100/m';
COMMENT ON COLUMN romancy.activities.description IS 'As given to define_activity';
COMMENT ON COLUMN romancy.activities.created_at IS 'When it was defined last';
COMMENT ON COLUMN romancy.activities.http IS 'The HTTP request that it is, as given to define_activity';

CREATE FUNCTION romancy.t_namespace_current()
RETURNS text LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'romancy_namespace_current';
COMMENT ON FUNCTION romancy.t_namespace_current() IS 'Internal: for view namespaces';

/* A row for each grant, and one for a namespace without any. */
CREATE VIEW romancy.namespaces WITH (security_barrier) AS
	SELECT n.name AS namespace, g.role, g.define,
		n.name IS NOT DISTINCT FROM romancy.t_namespace_current() AS is_current
	FROM romancy.t_namespace n
	LEFT JOIN romancy.t_grant g USING (namespace_id)
	WHERE romancy.t_may_read(coalesce(g.role, n.name));
REVOKE ALL ON romancy.namespaces FROM PUBLIC;
COMMENT ON VIEW romancy.namespaces IS 'Namespaces and who may use them';
COMMENT ON COLUMN romancy.namespaces.namespace IS 'Name of the namespace';
COMMENT ON COLUMN romancy.namespaces.role IS 'The role that it is granted to; null: to no role';
COMMENT ON COLUMN romancy.namespaces.define IS 'Whether the role may define and set there, not only start, steer and see';
COMMENT ON COLUMN romancy.namespaces.is_current IS 'Whether names mean this namespace here and now';
