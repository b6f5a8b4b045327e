/*
 * Tasks: activities that run outside their instance's turn, in the database
 * (queue '') or in a program that fetches them. task_id is a UUID of version 8,
 * otherwise like version 7, so that executors tell tasks from instances.
 *
 * kind: 0 step of a handler, 1 of a canvas, 2 a turn of workflow code outside, 3 what
 * undoes a step of a handler.
 * state: 0 ready, 1 running under a lease, 2 waits for its next attempt, 3 dead,
 * 4 workflow code outside has asked for something (input) and waits for it, 5 its
 * instance is paused, 6 running under a lease, its instance has ended: no limit counts it.
 * due_at: when something is to happen to it (state 0: it was not begun in time;
 * 1: the lease's end; 2: the next attempt). held_at, held_until: a ready one in the
 * database waits for a limit of its activity (steps/throttle.h). Durations are in
 * microseconds.
 *
 * The columns that stay as they are come first, those that each claim changes stand together near the end: an UPDATE within a page
 * logs only the bytes between the first and the last one that differ. More than half of a page is left for the claimed rows.
 */
CREATE TABLE romancy.t_task (
	task_id uuid PRIMARY KEY,
	instance_id uuid NOT NULL,
	created_at timestamptz NOT NULL,
	close_us bigint,
	beat_us bigint,
	def_id int,
	priority int NOT NULL,
	kind smallint NOT NULL,
	queue text NOT NULL,	/* '': in the database; else namespace/name, of workflow code outside @namespace/name */
	owner text NOT NULL,
	activity text NOT NULL,
	step text NOT NULL,
	limit_key text,
	retry jsonb,
	next jsonb,
	started_at timestamptz,
	lease_us bigint,
	worker_id text,
	callback boolean,	/* false: the HTTP worker holds it; true: the server that it was sent to has taken it, and completes it by a call: the lease is of no process */
	state smallint NOT NULL,
	attempt int NOT NULL DEFAULT 0,
	claimed_at timestamptz,
	beat_at timestamptz,
	due_at timestamptz,
	fence bigint,
	held_at timestamptz,
	held_until timestamptz,
	details jsonb,
	errors jsonb,
	input jsonb,
	document uuid	/* a large input */) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
CREATE INDEX t_task_ready ON romancy.t_task (queue, (- priority::bigint), task_id) WHERE state = 0;
CREATE INDEX t_task_due ON romancy.t_task (state, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX t_task_held ON romancy.t_task (held_until) WHERE held_until IS NOT NULL AND state = 0;
CREATE INDEX t_task_instance ON romancy.t_task (instance_id);
/* the few that are neither ready nor due at a time: for view activity_tasks */
CREATE INDEX t_task_rest ON romancy.t_task (state) WHERE state <> 0 AND due_at IS NULL;
COMMENT ON TABLE romancy.t_task IS 'Activities scheduled to run outside their instance''s turn';

CREATE FUNCTION romancy.spawn(name text, input jsonb DEFAULT NULL, activity_id text DEFAULT NULL, retry jsonb DEFAULT NULL)
RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_spawn';
COMMENT ON FUNCTION romancy.spawn(text, jsonb, text, jsonb) IS 'In a workflow: schedule an activity in parallel and return its handle for romancy.await';

CREATE FUNCTION romancy.map(name text, inputs jsonb, max_parallel int DEFAULT NULL)
RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_map';
COMMENT ON FUNCTION romancy.map(text, jsonb, int) IS 'In a workflow: run an activity for each element of an array, in parallel, and return the array of results';

CREATE TYPE romancy.activity_task AS (
	token text, instance_id uuid, activity_id text, activity text, input jsonb,
	attempt int, deadline timestamptz, last_details jsonb, step_key text);
COMMENT ON TYPE romancy.activity_task IS 'A claimed activity, as romancy.fetch_activities returns it';

CREATE FUNCTION romancy.fetch_activities(queue text, worker_id text, max_tasks int DEFAULT 1, lease interval DEFAULT NULL)
RETURNS SETOF romancy.activity_task LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_fetch_activities';
COMMENT ON FUNCTION romancy.fetch_activities(text, text, int, interval) IS 'Claim tasks of a queue for a lease';

CREATE PROCEDURE romancy.poll_activities(queue text, worker_id text, max_tasks int DEFAULT 1, lease interval DEFAULT NULL, wait interval DEFAULT '20s', INOUT tasks jsonb DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_poll_activities';
COMMENT ON PROCEDURE romancy.poll_activities(text, text, int, interval, interval, jsonb) IS 'Claim tasks of a queue, waiting for work without polling';

CREATE PROCEDURE romancy.poll_activities(queue text, worker_id text, max_tasks int, lease interval, wait interval, INOUT tasks jsonb, unknown text[])
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_poll_activities';
COMMENT ON PROCEDURE romancy.poll_activities(text, text, int, interval, interval, jsonb, text[]) IS 'The same, passing over activities that the caller does not have, which are for others';

CREATE FUNCTION romancy.complete_activity(token text, result jsonb DEFAULT NULL)
RETURNS boolean LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_complete_activity';
COMMENT ON FUNCTION romancy.complete_activity(text, jsonb) IS 'Record a claimed activity''s result; false if its lease was lost';

CREATE FUNCTION romancy.fail_activity(token text, message text, error_code text DEFAULT NULL, detail jsonb DEFAULT NULL, non_retryable boolean DEFAULT false, retry_after interval DEFAULT NULL)
RETURNS boolean LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_fail_activity';
COMMENT ON FUNCTION romancy.fail_activity(text, text, text, jsonb, boolean, interval) IS 'Record the failure of a claimed activity''s attempt; false if its lease was lost';

CREATE FUNCTION romancy.release_activity(token text)
RETURNS boolean LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_release_activity';
COMMENT ON FUNCTION romancy.release_activity(text) IS 'Give a claimed activity, or workflow, back untouched, no attempt charged; false if its lease was lost';

CREATE FUNCTION romancy.complete_activities(tokens text[], results jsonb[])
RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_complete_activities';
COMMENT ON FUNCTION romancy.complete_activities(text[], jsonb[]) IS 'Record the results of many claimed activities; how many whose lease was not lost';

CREATE FUNCTION romancy.heartbeat_activity(token text, details jsonb DEFAULT NULL, extend interval DEFAULT NULL)
RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_heartbeat_activity';
COMMENT ON FUNCTION romancy.heartbeat_activity(text, jsonb, interval) IS 'Renew a claimed activity''s lease: ok, cancel_requested or lost';

/*
 * Limits of queues. A task of a queue with per_key has a limit_key: the value at
 * that path of its input, '' when there is none. Running tasks are counted, and keys
 * take their turns, in shared memory.
 */
CREATE TABLE romancy.t_queue (
	name text PRIMARY KEY,	/* as in t_task: namespace/name */
	owner text NOT NULL,
	max_concurrency int,
	rate_limit text,
	per_key text,
	paused boolean NOT NULL DEFAULT false,
	notify text,
	push_url text,	/* its activities are sent there */
	headers jsonb,	/* of these requests */
	signing_secret text);	/* a name in t_secret */
CREATE INDEX t_queue_pushed ON romancy.t_queue (name) WHERE push_url IS NOT NULL;
COMMENT ON TABLE romancy.t_queue IS 'Limits, pauses, URLs and channels of queues; a queue without a row has none';

/*
 * The contents of a bucket, or, of a fast one, the least that it will have. Rows are added; the newest
 * counts, and none from full_at on, when the bucket is full.
 */
CREATE TABLE romancy.t_bucket (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	scope text NOT NULL,
	key text NOT NULL,
	tokens double precision NOT NULL,
	at timestamptz NOT NULL,
	full_at timestamptz NOT NULL) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
COMMENT ON SEQUENCE romancy.t_bucket_id_seq IS 'Numbers of the rows of romancy.t_bucket';
COMMENT ON TABLE romancy.t_bucket IS 'Rate limits of queues and activities: the tokens that were left';
CREATE INDEX t_bucket_newest ON romancy.t_bucket (scope, key, at);
CREATE INDEX t_bucket_full ON romancy.t_bucket (full_at);
CREATE INDEX t_activity_limited ON romancy.t_activity (queue) WHERE max_concurrency IS NOT NULL OR rate_limit IS NOT NULL;
CREATE INDEX t_task_keyed ON romancy.t_task (queue, limit_key, (- priority::bigint), task_id) WHERE state = 0 AND limit_key IS NOT NULL;

CREATE FUNCTION romancy.set_queue(name text, max_concurrency int DEFAULT NULL, rate_limit text DEFAULT NULL, per_key text DEFAULT NULL, push_url text DEFAULT NULL,
	notify text DEFAULT NULL, headers jsonb DEFAULT NULL, signing_secret text DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_set_queue';
COMMENT ON FUNCTION romancy.set_queue(text, int, text, text, text, text, jsonb, text)
	IS 'Set a queue''s limits, the URL that its activities are sent to, and the channel to NOTIFY when there is something to fetch; null: none';

CREATE FUNCTION romancy.pause_queue(name text)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_pause_queue';
COMMENT ON FUNCTION romancy.pause_queue(text) IS 'Stop programs from fetching from a queue until romancy.resume_queue';

CREATE FUNCTION romancy.resume_queue(name text)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_resume_queue';
COMMENT ON FUNCTION romancy.resume_queue(text) IS 'Take back romancy.pause_queue';

/* Running work and polling programs, from shared memory. */
CREATE FUNCTION romancy.t_running(OUT id uuid, OUT instance_id uuid, OUT pid int, OUT step text, OUT since timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'romancy_running' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 5;
COMMENT ON FUNCTION romancy.t_running() IS 'Internal: for views waiting and activity_tasks';
REVOKE ALL ON FUNCTION romancy.t_running() FROM PUBLIC;

CREATE FUNCTION romancy.t_unwritten(OUT instance_id uuid, OUT at timestamptz, OUT until timestamptz, OUT error jsonb)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'romancy_unwritten' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 1;
COMMENT ON FUNCTION romancy.t_unwritten() IS 'Internal: for view waiting: errors of turns that could not be written';
REVOKE ALL ON FUNCTION romancy.t_unwritten() FROM PUBLIC;

CREATE FUNCTION romancy.t_in_turn()
RETURNS uuid[] LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'romancy_in_turn';
COMMENT ON FUNCTION romancy.t_in_turn() IS 'Internal: for view instances: those that run a turn now';
REVOKE ALL ON FUNCTION romancy.t_in_turn() FROM PUBLIC;

CREATE FUNCTION romancy.t_pollers(
	OUT queue text, OUT worker_id text, OUT owner text, OUT pid int, OUT waiting boolean,
	OUT since timestamptz, OUT last_poll timestamptz, OUT polls bigint, OUT tasks bigint,
	OUT passes_over int, OUT unknown int[])
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'romancy_pollers' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 20;
COMMENT ON FUNCTION romancy.t_pollers() IS 'Internal: for views pollers and queues';
REVOKE ALL ON FUNCTION romancy.t_pollers() FROM PUBLIC;

CREATE FUNCTION romancy.t_senders()
RETURNS bigint LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'romancy_senders';
COMMENT ON FUNCTION romancy.t_senders() IS 'Internal: for view queues: processes that send the tasks of queues with a push_url';
REVOKE ALL ON FUNCTION romancy.t_senders() FROM PUBLIC;

CREATE VIEW romancy.pollers WITH (security_barrier) AS
SELECT n.name AS namespace, pg_catalog.substr(p.queue, pg_catalog.strpos(p.queue, '/') + 1) AS queue, CASE WHEN p.queue LIKE '@%' THEN 'workflows' ELSE 'activities' END AS kind,
	p.worker_id, p.owner, p.pid, p.waiting, p.since, p.last_poll, p.polls, p.tasks, p.passes_over
FROM romancy.t_pollers() p
LEFT JOIN romancy.t_namespace n ON n.namespace_id = pg_catalog.split_part(pg_catalog.ltrim(p.queue, '@'), '/', 1)::int
WHERE p.owner IS NOT NULL;
REVOKE ALL ON romancy.pollers FROM PUBLIC;
COMMENT ON VIEW romancy.pollers IS 'Programs that have polled queues of this database since the server started, a row for each queue and worker_id; about the last 1,000';
COMMENT ON COLUMN romancy.pollers.namespace IS 'The namespace that the queue belongs to';
COMMENT ON COLUMN romancy.pollers.queue IS 'The queue';
COMMENT ON COLUMN romancy.pollers.kind IS 'activities (poll_activities, fetch_activities), or workflows';
COMMENT ON COLUMN romancy.pollers.worker_id IS 'As the program calls itself';
COMMENT ON COLUMN romancy.pollers.owner IS 'The role as which it polled last';
COMMENT ON COLUMN romancy.pollers.pid IS 'The server process that it polled with last';
COMMENT ON COLUMN romancy.pollers.waiting IS 'Whether it waits for work now';
COMMENT ON COLUMN romancy.pollers.since IS 'When it polled first';
COMMENT ON COLUMN romancy.pollers.last_poll IS 'When a call of it began or ended last';
COMMENT ON COLUMN romancy.pollers.polls IS 'Calls';
COMMENT ON COLUMN romancy.pollers.tasks IS 'Tasks that it got';
COMMENT ON COLUMN romancy.pollers.passes_over IS 'Of how many names it leaves tasks to others, as it does not have them';

/*
 * A part for each index, so that a status is a constant for the planner, which then leaves the others out; of those that are ready the
 * queues are found first (ready), and each one's tasks by its name. Part 2 is for a role that has few instances, whose tasks are found by these, part 1 for all
 * others, part 3 are tasks that run in the database, which only shared memory knows (r).
 */
CREATE VIEW romancy.activity_tasks WITH (security_barrier) AS
	WITH RECURSIVE r AS MATERIALIZED (SELECT r.id, r.pid, r.since FROM romancy.t_running() r),
	ids AS MATERIALIZED (SELECT coalesce(pg_catalog.array_agg(r.id), '{}') AS ids FROM r),
	ready (queue) AS (
		(SELECT t.queue FROM romancy.t_task t WHERE t.state = 0 ORDER BY t.queue LIMIT 1)
		UNION ALL
		SELECT (SELECT t.queue FROM romancy.t_task t WHERE t.state = 0 AND t.queue > q.queue ORDER BY t.queue LIMIT 1) FROM ready q WHERE q.queue IS NOT NULL)
	SELECT t.task_id, t.instance_id, n.name AS namespace, t.step AS activity_id, t.activity, nullif(pg_catalog.substr(t.stored, pg_catalog.strpos(t.stored, '/') + 1), '') AS queue,
		t.shown AS status,
		t.owner, t.priority, t.attempt, t.worker_id, t.created_at, t.started_at, coalesce(t.since, t.claimed_at) AS claimed_at,
		t.beat_at AS heartbeat_at, t.due_at, coalesce(t.input, romancy.t_document_value(t.document)) AS input, t.errors, t.details AS last_details, t.pid
	FROM (
		SELECT t.*, q.queue AS stored, 'ready'::text AS shown, NULL::int AS pid, NULL::timestamptz AS since, 1 AS part FROM ready q JOIN romancy.t_task t ON t.queue = q.queue WHERE t.state = 0
		UNION ALL SELECT t.*, t.queue, 'running', NULL, NULL, 1 FROM romancy.t_task t WHERE t.state IN (1, 6) AND t.due_at IS NOT NULL
		UNION ALL SELECT t.*, t.queue, 'waiting', NULL, NULL, 1 FROM romancy.t_task t WHERE t.state = 2 AND t.due_at IS NOT NULL
		UNION ALL SELECT t.*, t.queue, 'paused', NULL, NULL, 1 FROM romancy.t_task t WHERE t.state = 5 AND t.due_at IS NOT NULL
		UNION ALL SELECT t.*, t.queue, 'dead', NULL, NULL, 1 FROM romancy.t_task t WHERE t.state IN (3, 4) AND t.due_at IS NOT NULL
		UNION ALL SELECT t.*, t.queue, 'paused', NULL, NULL, 1 FROM romancy.t_task t WHERE t.state = 5 AND t.state <> 0 AND t.due_at IS NULL
		UNION ALL SELECT t.*, t.queue, 'dead', NULL, NULL, 1 FROM romancy.t_task t WHERE t.state IN (3, 4) AND t.state <> 0 AND t.due_at IS NULL
		UNION ALL SELECT t.*, t.queue, CASE t.state WHEN 2 THEN 'waiting' ELSE 'running' END, NULL, NULL, 1 FROM romancy.t_task t WHERE t.state IN (1, 2, 6) AND t.state <> 0 AND t.due_at IS NULL
		UNION ALL SELECT t.*, t.queue, CASE t.state WHEN 0 THEN 'ready' WHEN 2 THEN 'waiting' WHEN 5 THEN 'paused' WHEN 1 THEN 'running' WHEN 6 THEN 'running' ELSE 'dead' END, NULL, NULL, 2
			FROM romancy.t_instance i JOIN romancy.t_task t ON t.instance_id = i.instance_id WHERE i.owner = ANY (romancy.t_owners_of_few()) AND romancy.t_owners_of_few() IS NOT NULL
		UNION ALL SELECT t.*, t.queue, 'running', r.pid, r.since, 3 FROM r JOIN romancy.t_task t ON t.task_id = r.id) t
	LEFT JOIN romancy.t_workflow w ON w.def_id = t.def_id
	LEFT JOIN romancy.t_namespace n ON n.namespace_id = w.namespace
	WHERE t.kind <> 2 AND romancy.t_may_read(t.owner)
		AND CASE t.part WHEN 1 THEN (romancy.t_owners_of_few() IS NULL)::int <> 0 AND NOT t.task_id = ANY ((SELECT i.ids FROM ids i)::uuid[])
			WHEN 2 THEN NOT t.task_id = ANY ((SELECT i.ids FROM ids i)::uuid[]) ELSE true END;
COMMENT ON VIEW romancy.activity_tasks IS 'Activities that wait for, are with, or were given up by workers';
COMMENT ON COLUMN romancy.activity_tasks.task_id IS 'The task';
COMMENT ON COLUMN romancy.activity_tasks.instance_id IS 'The instance whose step it is';
COMMENT ON COLUMN romancy.activity_tasks.namespace IS 'The namespace of its names';
COMMENT ON COLUMN romancy.activity_tasks.activity_id IS 'The step';
COMMENT ON COLUMN romancy.activity_tasks.activity IS 'Name of the activity';
COMMENT ON COLUMN romancy.activity_tasks.queue IS 'The queue that programs poll; null: it runs in the database';
COMMENT ON COLUMN romancy.activity_tasks.status IS 'ready; running; waiting (for the next attempt); paused (its instance is); dead (given up)';
COMMENT ON COLUMN romancy.activity_tasks.owner IS 'The role whose instance it is of';
COMMENT ON COLUMN romancy.activity_tasks.priority IS 'A higher one goes first';
COMMENT ON COLUMN romancy.activity_tasks.attempt IS 'Attempts begun (in the database: that failed)';
COMMENT ON COLUMN romancy.activity_tasks.worker_id IS 'The program that claimed it last';
COMMENT ON COLUMN romancy.activity_tasks.created_at IS 'When it was scheduled';
COMMENT ON COLUMN romancy.activity_tasks.started_at IS 'When the first attempt began';
COMMENT ON COLUMN romancy.activity_tasks.claimed_at IS 'When the attempt under way began';
COMMENT ON COLUMN romancy.activity_tasks.heartbeat_at IS 'The last heartbeat of the attempt under way';
COMMENT ON COLUMN romancy.activity_tasks.due_at IS 'The end of the lease, the next attempt, or when it must have begun';
COMMENT ON COLUMN romancy.activity_tasks.input IS 'Its input';
COMMENT ON COLUMN romancy.activity_tasks.errors IS 'Errors of earlier attempts, the last 20';
COMMENT ON COLUMN romancy.activity_tasks.last_details IS 'The details that came with the last heartbeat';
COMMENT ON COLUMN romancy.activity_tasks.pid IS 'The server process that runs it, of one that runs in the database';

/* Part 2 is for a role that has few instances, whose tasks are found by these. */
CREATE VIEW romancy.queues WITH (security_barrier) AS
	SELECT n.name AS namespace, pg_catalog.substr(x.stored, pg_catalog.strpos(x.stored, '/') + 1) AS name, q.max_concurrency, q.rate_limit, q.per_key,
		coalesce(q.paused, false) AS paused, coalesce(c.ready, 0) AS ready,
		coalesce(c.running, 0) AS running, coalesce(c.waiting, 0) AS waiting,
		coalesce(c.dead, 0) AS dead, c.oldest_ready, q.notify,
		coalesce(d.definitions, 0) AS definitions, CASE WHEN q.push_url IS NOT NULL THEN h.pollers ELSE coalesce(p.pollers, 0) END AS pollers, p.last_poll,
		q.push_url IS NOT NULL AS pushed, o.push_url, o.headers, o.signing_secret, o.owner
	FROM romancy.t_queue q
	FULL JOIN (SELECT pg_catalog.ltrim(t.queue, '@') AS queue,
			count(*) FILTER (WHERE t.state = 0) AS ready,
			count(*) FILTER (WHERE t.state IN (1, 6)) AS running,
			count(*) FILTER (WHERE t.state IN (2, 5)) AS waiting,
			count(*) FILTER (WHERE t.state = 3) AS dead,
			min(t.created_at) FILTER (WHERE t.state = 0) AS oldest_ready
		FROM (SELECT t.queue, t.state, t.created_at, t.owner, 1 AS part FROM romancy.t_task t
			UNION ALL SELECT t.queue, t.state, t.created_at, t.owner, 2 FROM romancy.t_instance i JOIN romancy.t_task t ON t.instance_id = i.instance_id
				WHERE i.owner = ANY (romancy.t_owners_of_few()) AND romancy.t_owners_of_few() IS NOT NULL) t
		WHERE t.queue <> '' AND romancy.t_may_read(t.owner) AND CASE t.part WHEN 1 THEN (romancy.t_owners_of_few() IS NULL)::int <> 0 ELSE true END
		GROUP BY 1) c ON c.queue = q.name
	FULL JOIN (SELECT u.queue, count(*) AS definitions, pg_catalog.bool_or(romancy.t_may_read(u.owner)) AS mine
		FROM (SELECT a.namespace || '/' || a.queue AS queue, a.owner FROM romancy.t_activity a WHERE a.queue IS NOT NULL
			UNION ALL SELECT w.namespace || '/' || w.queue, w.owner FROM romancy.t_workflow w WHERE w.queue IS NOT NULL AND w.is_current) u
		GROUP BY 1) d ON d.queue = coalesce(q.name, c.queue)
	LEFT JOIN (SELECT pg_catalog.ltrim(p.queue, '@') AS queue, count(*) FILTER (WHERE (p.waiting OR p.last_poll > pg_catalog.now() - '1 minute'::interval)
				AND (h.activity IS NULL OR pg_catalog.hashtext(h.activity) <> ALL (p.unknown))) AS pollers,
			max(p.last_poll) AS last_poll
		FROM romancy.t_pollers() p
		LEFT JOIN LATERAL (SELECT t.activity FROM romancy.t_task t WHERE p.unknown IS NOT NULL AND t.queue = p.queue AND t.state = 0
			ORDER BY (- t.priority::bigint), t.task_id LIMIT 1) h ON true
		GROUP BY 1) p ON p.queue = coalesce(q.name, c.queue, d.queue)
	CROSS JOIN (SELECT romancy.t_senders() AS pollers) h
	CROSS JOIN LATERAL (SELECT coalesce(q.name, c.queue, d.queue) AS stored) x
	LEFT JOIN LATERAL (SELECT q.push_url, q.headers, q.signing_secret, q.owner WHERE romancy.t_may_read(q.owner)) o ON true
	LEFT JOIN romancy.t_namespace n ON n.namespace_id = pg_catalog.split_part(x.stored, '/', 1)::int
	WHERE c.queue IS NOT NULL OR romancy.t_may_read(q.owner) OR d.mine;
COMMENT ON VIEW romancy.queues IS 'Queues with limits, definitions or tasks: limits, how many tasks there are, and who polls';
COMMENT ON COLUMN romancy.queues.namespace IS 'The namespace that it belongs to';
COMMENT ON COLUMN romancy.queues.name IS 'Name of the queue';
COMMENT ON COLUMN romancy.queues.max_concurrency IS 'How many tasks may run at a time; with per_key, of each key';
COMMENT ON COLUMN romancy.queues.rate_limit IS 'How many may begin in a time, such as 100/m; with per_key, of each key';
COMMENT ON COLUMN romancy.queues.per_key IS 'The path into the input whose values have limits of their own';
COMMENT ON COLUMN romancy.queues.paused IS 'Whether it is paused: no program can fetch from it';
COMMENT ON COLUMN romancy.queues.ready IS 'Tasks to be fetched';
COMMENT ON COLUMN romancy.queues.running IS 'Tasks that programs have claimed';
COMMENT ON COLUMN romancy.queues.waiting IS 'Tasks that wait for their next attempt, or whose instance is paused';
COMMENT ON COLUMN romancy.queues.dead IS 'Tasks that were given up';
COMMENT ON COLUMN romancy.queues.oldest_ready IS 'When the oldest task to be fetched was scheduled';
COMMENT ON COLUMN romancy.queues.notify IS 'The channel that is notified of tasks';
COMMENT ON COLUMN romancy.queues.definitions IS 'Activities and workflows that are defined with it; 0: perhaps a misspelt name';
COMMENT ON COLUMN romancy.queues.pollers IS 'Programs that wait for its tasks now or have polled in the last minute, and do not pass over the next one; of one with a push_url: 1 while the process that sends its tasks runs, else 0';
COMMENT ON COLUMN romancy.queues.last_poll IS 'When a program polled last, since the server started';
COMMENT ON COLUMN romancy.queues.pushed IS 'Whether its activities are served by a URL: no program polls them';
COMMENT ON COLUMN romancy.queues.push_url IS 'The URL that its activities are sent to, for those who see the owner''s';
COMMENT ON COLUMN romancy.queues.headers IS 'Headers of these requests, likewise';
COMMENT ON COLUMN romancy.queues.signing_secret IS 'The secret that signs these requests, likewise';
COMMENT ON COLUMN romancy.queues.owner IS 'The role that set it first, likewise';
