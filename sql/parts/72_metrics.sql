/* For monitoring systems. The names in metrics() are bound when it is created: no search_path changes them. */
CREATE FUNCTION romancy.health() RETURNS jsonb
AS 'MODULE_PATHNAME', 'romancy_health' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION romancy.health() IS 'Whether workflows run in this database, and what keeps them from it';
REVOKE ALL ON FUNCTION romancy.health() FROM PUBLIC;

CREATE FUNCTION romancy.t_live(OUT status text, OUT by_engine boolean, OUT retried boolean, OUT count bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'romancy_live' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION romancy.t_live() IS 'Internal: for metrics';
REVOKE ALL ON FUNCTION romancy.t_live() FROM PUBLIC;

/*
 * A label's value: backslash, quote and line feed have to be escaped. Dropped workflows and roles have lost what told them
 * apart: a row stands for all that have the same labels, and then has no quantiles.
 */
CREATE FUNCTION romancy.metrics() RETURNS text LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH w AS MATERIALIZED (
	SELECT s.labels, sum(s.started) AS started, sum(s.completed) AS completed, sum(s.failed) AS failed, sum(s.cancelled) AS cancelled,
		sum(s.recurred) AS recurred, sum(s.turns) AS turns, sum(s.completed + s.failed + s.cancelled + s.recurred) AS finished,
		CASE WHEN count(*) = 1 THEN max(s.p50) END AS p50, CASE WHEN count(*) = 1 THEN max(s.p99) END AS p99, sum(s.seconds) AS seconds,
		sum(s.wal_bytes) AS wal_bytes, sum(s.blocks_read) AS blocks_read, sum(s.blocks_hit) AS blocks_hit
	FROM (SELECT s.*, format('{namespace="%s",workflow="%s",version="%s",owner="%s"',
		replace(replace(replace(coalesce(s.namespace, ''), '\', '\\'), '"', '\"'), E'\n', '\n'), replace(replace(replace(coalesce(s.workflow, ''), '\', '\\'), '"', '\"'), E'\n', '\n'), s.version, replace(replace(replace(coalesce(s.owner, ''), '\', '\\'), '"', '\"'), E'\n', '\n')) AS labels
		FROM romancy.stat_workflows s) s
	GROUP BY s.labels
), a AS MATERIALIZED (
	SELECT s.labels, sum(s.calls) AS calls, sum(s.failures) AS failures, sum(s.retries) AS retries,
		CASE WHEN count(*) = 1 THEN max(s.p50) END AS p50, CASE WHEN count(*) = 1 THEN max(s.p99) END AS p99, sum(s.seconds) AS seconds,
		sum(s.wal_bytes) AS wal_bytes
	FROM (SELECT s.*, format('{namespace="%s",activity="%s",owner="%s"',
		replace(replace(replace(coalesce(s.namespace, ''), '\', '\\'), '"', '\"'), E'\n', '\n'), replace(replace(replace(coalesce(s.activity, ''), '\', '\\'), '"', '\"'), E'\n', '\n'), replace(replace(replace(coalesce(s.owner, ''), '\', '\\'), '"', '\"'), E'\n', '\n')) AS labels
		FROM romancy.stat_activities s) s
	GROUP BY s.labels
), h AS MATERIALIZED (
	SELECT romancy.health() AS health
), q AS MATERIALIZED (
	SELECT format('{namespace="%s",queue="%s"', replace(replace(replace(coalesce(q.namespace, ''), '\', '\\'), '"', '\"'), E'\n', '\n'), replace(replace(replace(q.name, '\', '\\'), '"', '\"'), E'\n', '\n')) AS labels,
		q.ready, q.running, q.waiting, q.dead, q.oldest_ready, q.pollers
	FROM romancy.queues q
), s AS MATERIALIZED (
	SELECT format('{namespace="%s",schedule="%s"', replace(replace(replace(coalesce(s.namespace, ''), '\', '\\'), '"', '\"'), E'\n', '\n'), replace(replace(replace(s.name, '\', '\\'), '"', '\"'), E'\n', '\n')) AS labels,
		s.completed, s.failed, s.cancelled, s.missed, s.paused
	FROM romancy.schedules s
), o AS MATERIALIZED (
	SELECT format('{namespace="%s",destination="%s"', replace(replace(replace(coalesce(d.namespace, ''), '\', '\\'), '"', '\"'), E'\n', '\n'), replace(replace(replace(d.name, '\', '\\'), '"', '\"'), E'\n', '\n')) AS labels,
		d.pending, d.fetched, d.invalid, d.expired, d.dead, d.oldest, d.paused, d.breaker, d.failures
	FROM romancy.destinations d
), v (n, name, type, help, labels, value) AS (
	SELECT 1 AS n, 'romancy_up' AS name, 'gauge' AS type, 'Whether workflows run in this database' AS help,
		'' AS labels, ((h.health ->> 'healthy')::bool::int)::numeric AS value FROM h
	UNION ALL SELECT 2, 'romancy_workers', 'gauge', 'Worker processes of all databases', '', (h.health ->> 'workers')::numeric FROM h
	UNION ALL SELECT 3, 'romancy_workers_max', 'gauge', 'romancy.max_workers', '', (h.health ->> 'max_workers')::numeric FROM h
	UNION ALL SELECT 4, 'romancy_overdue_instances', 'gauge', 'Instances due for more than a minute; counted up to 1000',
		'', (h.health ->> 'overdue')::numeric FROM h
	UNION ALL SELECT 5, 'romancy_instances_started_total', 'counter', 'Instances that had their first turn', w.labels || '}', w.started FROM w
	UNION ALL SELECT 6, 'romancy_instances_finished_total', 'counter', 'Instances that ended, by status',
		w.labels || f.label, f.value FROM w, LATERAL (VALUES (',status="completed"}', w.completed), (',status="failed"}', w.failed),
		(',status="cancelled"}', w.cancelled), (',status="recurred"}', w.recurred)) AS f (label, value)
	UNION ALL SELECT 7, 'romancy_turns_total', 'counter', 'Turns that were committed', w.labels || '}', w.turns FROM w
	UNION ALL SELECT 8, 'romancy_instance_duration_seconds', 'summary', 'From the first turn to the end',
		w.labels || f.label, f.value FROM w, LATERAL (VALUES
		(',quantile="0.5"}', extract(epoch FROM w.p50)), (',quantile="0.99"}', extract(epoch FROM w.p99))) AS f (label, value)
		WHERE w.p50 IS NOT NULL
	UNION ALL SELECT 9, 'romancy_instance_duration_seconds_sum', NULL, NULL, w.labels || '}', w.seconds::numeric FROM w WHERE w.finished > 0
	UNION ALL SELECT 10, 'romancy_instance_duration_seconds_count', NULL, NULL, w.labels || '}',
		w.finished FROM w WHERE w.finished > 0
	UNION ALL SELECT 11, 'romancy_workflow_wal_bytes_total', 'counter', 'WAL that turns wrote', w.labels || '}', w.wal_bytes FROM w
	UNION ALL SELECT 12, 'romancy_workflow_blocks_total', 'counter', 'Shared blocks that turns read or found in the buffers',
		w.labels || f.label, f.value FROM w, LATERAL (VALUES (',found="read"}', w.blocks_read), (',found="hit"}', w.blocks_hit)) AS f (label, value)
	UNION ALL SELECT 13, 'romancy_activity_calls_total', 'counter', 'Attempts that ended', a.labels || '}', a.calls FROM a
	UNION ALL SELECT 14, 'romancy_activity_failures_total', 'counter', 'Attempts that failed', a.labels || '}', a.failures FROM a
	UNION ALL SELECT 15, 'romancy_activity_retries_total', 'counter', 'Attempts that were not the first', a.labels || '}', a.retries FROM a
	UNION ALL SELECT 16, 'romancy_activity_duration_seconds', 'summary', 'How long attempts took',
		a.labels || f.label, f.value FROM a, LATERAL (VALUES
		(',quantile="0.5"}', extract(epoch FROM a.p50)), (',quantile="0.99"}', extract(epoch FROM a.p99))) AS f (label, value)
		WHERE a.p50 IS NOT NULL
	UNION ALL SELECT 17, 'romancy_activity_seconds_total', 'counter', 'Time that attempts took', a.labels || '}', a.seconds::numeric FROM a
	UNION ALL SELECT 18, 'romancy_activity_wal_bytes_total', 'counter', 'WAL that they wrote', a.labels || '}', a.wal_bytes FROM a
	UNION ALL SELECT 19, 'romancy_sweep_runs_total', 'counter', 'Runs of sweeps', format('{sweep="%s"}', s.name), s.runs FROM romancy.sweeps s
	UNION ALL SELECT 20, 'romancy_sweep_errors_total', 'counter', 'Runs of sweeps that failed', format('{sweep="%s"}', s.name), s.errors FROM romancy.sweeps s
	UNION ALL SELECT 21, 'romancy_instances', 'gauge', 'Live instances, by status', format('{status="%s"}', l.status), sum(l.count) FROM romancy.t_live() l GROUP BY l.status
	UNION ALL SELECT 22, 'romancy_paused_by_engine_instances', 'gauge', 'Instances that the engine has paused: they need a human', '',
		coalesce(sum(l.count) FILTER (WHERE l.by_engine), 0) FROM romancy.t_live() l
	UNION ALL SELECT 22.5, 'romancy_engine_error_instances', 'gauge', 'Instances that are tried again after an error of the engine', '',
		coalesce(sum(l.count) FILTER (WHERE l.retried), 0) FROM romancy.t_live() l
	UNION ALL SELECT 23, 'romancy_oldest_due_seconds', 'gauge', 'For how long the oldest overdue instance has been due', '', (h.health ->> 'oldest_due_seconds')::numeric FROM h
	UNION ALL SELECT 24, 'romancy_queue_tasks', 'gauge', 'Tasks of queues, by state', q.labels || f.label, f.value FROM q, LATERAL (VALUES
		(',state="ready"}', q.ready), (',state="running"}', q.running), (',state="waiting"}', q.waiting), (',state="dead"}', q.dead)) AS f (label, value)
	UNION ALL SELECT 25, 'romancy_queue_oldest_ready_seconds', 'gauge', 'Age of the oldest task to be fetched', q.labels || '}',
		CASE WHEN q.ready > 0 THEN greatest(extract(epoch FROM clock_timestamp() - q.oldest_ready), 0) ELSE 0 END FROM q
	UNION ALL SELECT 27, 'romancy_schedule_runs_total', 'counter', 'Runs of schedules that ended, by outcome', s.labels || f.label, f.value
		FROM s, LATERAL (VALUES (',outcome="completed"}', s.completed), (',outcome="failed"}', s.failed), (',outcome="cancelled"}', s.cancelled)) AS f (label, value)
	UNION ALL SELECT 28, 'romancy_schedule_missed_total', 'counter', 'Times of schedules that did not run, by reason',
		format('%s,reason="%s"}', s.labels, m.key), m.value::numeric FROM s, LATERAL jsonb_each_text(s.missed) AS m (key, value)
	UNION ALL SELECT 29, 'romancy_schedule_paused', 'gauge', 'Whether a schedule is paused', s.labels || '}', s.paused::int FROM s
	UNION ALL SELECT 30, 'romancy_outbox_events', 'gauge', 'Events of the outbox that are not published, by status', o.labels || f.label, f.value FROM o, LATERAL (VALUES
		(',status="pending"}', o.pending), (',status="fetched"}', o.fetched), (',status="invalid"}', o.invalid), (',status="expired"}', o.expired), (',status="dead"}', o.dead)) AS f (label, value)
	UNION ALL SELECT 31, 'romancy_outbox_oldest_seconds', 'gauge', 'Age of the oldest event of the outbox that is pending or fetched', o.labels || '}',
		CASE WHEN o.oldest IS NULL THEN 0 ELSE greatest(extract(epoch FROM clock_timestamp() - o.oldest), 0) END FROM o
	UNION ALL SELECT 32, 'romancy_destination_paused', 'gauge', 'Whether a destination is paused', o.labels || '}', o.paused::int FROM o
	UNION ALL SELECT 33, 'romancy_destination_open', 'gauge', 'Whether the breaker of a destination with a URL is open', o.labels || '}', (o.breaker <> 'closed')::int FROM o WHERE o.breaker IS NOT NULL
	UNION ALL SELECT 34, 'romancy_destination_failures', 'gauge', 'Requests to a destination that failed in a row', o.labels || '}', o.failures FROM o WHERE o.failures IS NOT NULL
	UNION ALL SELECT 26, 'romancy_queue_pollers', 'gauge', 'Programs that wait for tasks or have polled in the last minute; of a queue with a push_url, processes that send requests (none at rest)', q.labels || '}', q.pollers FROM q
)
SELECT string_agg(m.text, '' ORDER BY m.n) FROM (
	SELECT v.n, CASE WHEN v.help IS NULL THEN '' ELSE format(E'# HELP %s %s\n# TYPE %s %s\n', v.name, v.help, v.name, v.type) END
		|| string_agg(format(E'%s%s %s\n', v.name, v.labels, v.value), '' ORDER BY v.labels) AS text
	FROM (SELECT v.n, v.name, v.type, v.help, v.labels, v.value FROM v) AS v
	GROUP BY v.n, v.name, v.type, v.help) AS m;
END;
COMMENT ON FUNCTION romancy.metrics() IS 'Statistics and health in the text format of Prometheus, of workflows that the caller may see';
REVOKE ALL ON FUNCTION romancy.metrics() FROM PUBLIC;
