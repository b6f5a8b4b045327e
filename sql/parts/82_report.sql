/* The report: a page over the views, which show the caller what it may see. Names are bound when it is created. */
CREATE FUNCTION romancy.t_report_escape(text)
RETURNS text LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'romancy_report_escape';
COMMENT ON FUNCTION romancy.t_report_escape(text) IS 'Internal: text for html_report';

CREATE FUNCTION romancy.t_report_table(title text, columns text[], cells text[])
RETURNS text LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'romancy_report_table';
COMMENT ON FUNCTION romancy.t_report_table(text, text[], text[]) IS 'Internal: a table of html_report';

CREATE FUNCTION romancy.t_report_chart(instance_id uuid)
RETURNS text LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_report_chart';
COMMENT ON FUNCTION romancy.t_report_chart(uuid) IS 'Internal: an instance''s timeline for html_report; null where the caller may not see it';

CREATE FUNCTION romancy.t_report_live()
RETURNS uuid[] LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_report_live';
COMMENT ON FUNCTION romancy.t_report_live() IS 'Internal: the live instances that html_report shows';

CREATE FUNCTION romancy.html_report() RETURNS text LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
WITH h AS MATERIALIZED (
	SELECT romancy.health() AS health
), live AS MATERIALIZED (
	SELECT romancy.t_report_live() AS ids
), w AS MATERIALIZED (
	SELECT w.* FROM romancy.waiting w WHERE w.instance_id = ANY ((SELECT live.ids FROM live)::uuid[])
), failed AS MATERIALIZED (
	SELECT l.* FROM romancy.list_instances('{"status": ["failed", "cancelled"]}', 50) l
), charts AS MATERIALIZED (
	(SELECT w.instance_id, 1 AS part, w.created_at FROM w WHERE w.error IS NOT NULL OR w.status = 'paused' ORDER BY w.created_at DESC LIMIT 20)
	UNION ALL
	(SELECT f.instance_id, 2, f.created_at FROM failed f ORDER BY f.created_at DESC LIMIT 20)
)
SELECT '<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src ''none''; style-src ''unsafe-inline''">
<title>romancy: ' || romancy.t_report_escape(current_database()::text) || '</title>
<style>
body { font: 14px sans-serif; margin: 2em; color: #202124 }
table { border-collapse: collapse; margin-bottom: 1.5em }
th, td { border: 1px solid #dadce0; padding: 3px 8px; text-align: left; vertical-align: top; overflow-wrap: anywhere }
th { background: #f1f3f4 }
pre { background: #f8f9fa; padding: 8px; overflow-x: auto }
.good { color: #1e8e3e } .bad { color: #d93025 }
</style></head><body>
<h1>romancy in database ' || romancy.t_report_escape(current_database()::text) || '</h1>
<p>What role ' || romancy.t_report_escape(current_user::text) || ' may see, at ' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC; all times are UTC.</p>
' || CASE WHEN (h.health ->> 'healthy')::boolean THEN '<p class="good">Workflows run in this database.</p>' ELSE '<p class="bad">Workflows do not run as they should.</p>' END || '
'
	|| romancy.t_report_table('Problems', ARRAY['what keeps workflows from running'],
		(SELECT array_agg(p.value ORDER BY p.n) FROM jsonb_array_elements_text(h.health -> 'problems') WITH ORDINALITY AS p (value, n)))
	|| romancy.t_report_table('What needs a human', ARRAY['finding'],
		(SELECT array_agg(p.value ORDER BY p.n) FROM jsonb_array_elements_text(h.health -> 'attention') WITH ORDINALITY AS p (value, n)))
	|| romancy.t_report_table('Live instances', ARRAY['status', 'instances', 'paused by the engine', 'tried again after its errors'],
		(SELECT array_agg(ARRAY[s.status, s.count::text, s.paused::text, s.retried::text] ORDER BY s.status)
		FROM (SELECT l.status, sum(l.count) AS count, coalesce(sum(l.count) FILTER (WHERE l.by_engine), 0) AS paused, coalesce(sum(l.count) FILTER (WHERE l.retried), 0) AS retried
			FROM romancy.t_live() l GROUP BY l.status) s))
	|| romancy.t_report_table('What waits, is paused or runs', ARRAY['instance', 'namespace', 'workflow', 'status', 'kind', 'step', 'for', 'since', 'until', 'attempt', 'error', 'paused by', 'queue', 'process', 'owner'],
		(SELECT array_agg(ARRAY[w.instance_id::text, w.namespace, w.workflow, w.status, w.kind, w.step, w.name, to_char(w.since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'),
			to_char(w.until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), w.attempt::text, concat_ws(': ', w.error ->> 'sqlstate', w.error ->> 'message'), w.paused_by, w.queue, w.pid::text, w.owner]
			ORDER BY w.error IS NULL, w.since, w.instance_id) FROM w))
	|| romancy.t_report_table('Failed and cancelled, the last fifty', ARRAY['instance', 'namespace', 'workflow', 'version', 'status', 'error', 'started', 'ended', 'owner'],
		(SELECT array_agg(ARRAY[f.instance_id::text, f.namespace, f.workflow, f.version::text, f.status, concat_ws(': ', f.error ->> 'sqlstate', f.error ->> 'message'),
			to_char(f.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), to_char(f.finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), f.owner]
			ORDER BY f.created_at DESC, f.instance_id DESC) FROM failed f))
	|| coalesce('<h2>Timelines of these</h2>' || (SELECT string_agg(romancy.t_report_chart(c.instance_id), '' ORDER BY c.part, c.created_at DESC, c.instance_id) FROM charts c), '')
	|| romancy.t_report_table('Workflows', ARRAY['namespace', 'workflow', 'version', 'owner', 'started', 'completed', 'failed', 'cancelled', 'recurred', 'half within (s)', '99 % within (s)'],
		(SELECT array_agg(ARRAY[s.namespace, s.workflow, s.version::text, s.owner, s.started::text, s.completed::text, s.failed::text, s.cancelled::text, s.recurred::text,
			round(extract(epoch FROM s.p50), 3)::text, round(extract(epoch FROM s.p99), 3)::text] ORDER BY s.seconds DESC, s.workflow, s.version)
		FROM (SELECT * FROM romancy.stat_workflows ORDER BY seconds DESC LIMIT 200) s))
	|| romancy.t_report_table('Activities', ARRAY['namespace', 'activity', 'owner', 'attempts', 'failures', 'retries', 'half within (s)', '99 % within (s)'],
		(SELECT array_agg(ARRAY[s.namespace, s.activity, s.owner, s.calls::text, s.failures::text, s.retries::text,
			round(extract(epoch FROM s.p50), 3)::text, round(extract(epoch FROM s.p99), 3)::text] ORDER BY s.seconds DESC, s.activity)
		FROM (SELECT * FROM romancy.stat_activities ORDER BY seconds DESC LIMIT 200) s))
	|| romancy.t_report_table('Queues', ARRAY['namespace', 'queue', 'paused', 'ready', 'running', 'waiting', 'given up', 'oldest ready', 'definitions', 'pollers', 'last poll'],
		(SELECT array_agg(ARRAY[q.namespace, q.name, q.paused::text, q.ready::text, q.running::text, q.waiting::text, q.dead::text,
			to_char(q.oldest_ready AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), q.definitions::text, CASE WHEN q.pushed THEN 'URL' ELSE q.pollers::text END, to_char(q.last_poll AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')]
			ORDER BY q.namespace, q.name) FROM romancy.queues q))
	|| romancy.t_report_table('Schedules', ARRAY['namespace', 'schedule', 'cron', 'time zone', 'workflow', 'paused by', 'next run', 'last run', 'runs', 'completed', 'failed', 'error'],
		(SELECT array_agg(ARRAY[s.namespace, s.name, s.cron, s.timezone, s.workflow, CASE WHEN s.paused THEN coalesce(s.paused_by, '?') END,
			to_char(s.next_run AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), to_char(s.last_run AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), s.runs::text, s.completed::text, s.failed::text, s.error ->> 'message']
			ORDER BY s.namespace, s.name) FROM romancy.schedules s))
	|| romancy.t_report_table('Destinations', ARRAY['namespace', 'destination', 'paused by', 'breaker', 'failures in a row', 'pending', 'fetched', 'invalid', 'expired', 'given up', 'oldest'],
		(SELECT array_agg(ARRAY[d.namespace, d.name, CASE WHEN d.paused THEN coalesce(d.paused_by, '?') END, d.breaker, d.failures::text, d.pending::text, d.fetched::text, d.invalid::text, d.expired::text, d.dead::text,
			to_char(d.oldest AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')] ORDER BY d.namespace, d.name) FROM romancy.destinations d))
	|| romancy.t_report_table('Workers', ARRAY['process', 'kind', 'database', 'owner', 'state', 'instance', 'since', 'turns', 'started'],
		(SELECT array_agg(ARRAY[k.pid::text, k.kind, k.database, k.owner, k.state, k.instance_id::text, to_char(k.since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), k.turns::text,
			to_char(k.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')] ORDER BY k.kind, k.pid) FROM romancy.workers k))
	|| romancy.t_report_table('Programs that poll', ARRAY['namespace', 'queue', 'kind', 'program', 'owner', 'process', 'waits', 'last poll', 'tasks'],
		(SELECT array_agg(ARRAY[p.namespace, p.queue, p.kind, p.worker_id, p.owner, p.pid::text, p.waiting::text, to_char(p.last_poll AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), p.tasks::text]
			ORDER BY p.namespace, p.queue, p.worker_id) FROM romancy.pollers p))
	|| romancy.t_report_table('Sweeps', ARRAY['sweep', 'last run', 'rows', 'runs', 'next due', 'skipped', 'errors'],
		(SELECT array_agg(ARRAY[s.name, to_char(s.last_run AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), s.total_rows::text, s.runs::text,
			to_char(s.next_due AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), s.skipped::text, s.errors::text] ORDER BY s.name) FROM romancy.sweeps s))
	|| '</body></html>
'
FROM h;
END;
COMMENT ON FUNCTION romancy.html_report() IS 'An HTML page of what the caller may see: health, live and failed instances, statistics, queues, schedules, workers; without inputs and results';
REVOKE ALL ON FUNCTION romancy.html_report() FROM PUBLIC;
