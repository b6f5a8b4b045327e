/*
 * Tasks: activities that run outside their instance's turn, in the database
 * (queue '') or in a program that fetches them. task_id is a UUID of version 8,
 * otherwise like version 7, so that executors tell tasks from instances.
 *
 * kind: 0 step of a handler, 1 of a canvas, 2 a turn of workflow code outside.
 * state: 0 ready, 1 running under a lease, 2 waits for its next attempt, 3 dead,
 * 4 workflow code outside has asked for something (input) and waits for it, 5 its
 * instance is paused.
 * due_at: when something is to happen to it (state 0: it was not begun in time;
 * 1: the lease's end; 2: the next attempt). held_at, held_until: a ready one in the
 * database waits for a limit of its activity (steps/throttle.h). Durations are in
 * microseconds.
 */
CREATE TABLE romancy.t_task (
	task_id uuid PRIMARY KEY,
	instance_id uuid NOT NULL,
	created_at timestamptz NOT NULL,
	started_at timestamptz,
	claimed_at timestamptz,
	beat_at timestamptz,
	due_at timestamptz,
	held_at timestamptz,
	held_until timestamptz,
	fence bigint,
	lease_us bigint,
	close_us bigint,
	beat_us bigint,
	def_id int,
	priority int NOT NULL,
	attempt int NOT NULL DEFAULT 0,
	kind smallint NOT NULL,
	state smallint NOT NULL,
	queue text NOT NULL,
	owner text NOT NULL,
	activity text NOT NULL,
	step text NOT NULL,
	limit_key text,
	worker_id text,
	input jsonb,
	retry jsonb,
	errors jsonb,
	details jsonb,
	next jsonb) WITH (fillfactor = 80);
CREATE INDEX t_task_ready ON romancy.t_task (queue, (- priority::bigint), task_id) WHERE state = 0;
CREATE INDEX t_task_due ON romancy.t_task (state, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX t_task_held ON romancy.t_task (held_until) WHERE held_until IS NOT NULL AND state = 0;
CREATE INDEX t_task_instance ON romancy.t_task (instance_id);
COMMENT ON TABLE romancy.t_task IS 'Activities scheduled to run outside their instance''s turn';

CREATE FUNCTION romancy.spawn(name text, input jsonb DEFAULT NULL, activity_id text DEFAULT NULL, retry jsonb DEFAULT NULL)
RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_spawn';
COMMENT ON FUNCTION romancy.spawn(text, jsonb, text, jsonb) IS 'In a workflow: schedule an activity in parallel and return its handle for romancy.await';

CREATE FUNCTION romancy.map(name text, inputs jsonb, max_parallel int DEFAULT NULL)
RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_map';
COMMENT ON FUNCTION romancy.map(text, jsonb, int) IS 'In a workflow: run an activity for each element of an array, in parallel, and return the array of results';

CREATE TYPE romancy.activity_task AS (
	token text, instance_id uuid, activity_id text, activity text, input jsonb,
	attempt int, deadline timestamptz, last_details jsonb);
COMMENT ON TYPE romancy.activity_task IS 'A claimed activity: what romancy.fetch_activities returns';

CREATE FUNCTION romancy.fetch_activities(queue text, worker_id text, max_tasks int DEFAULT 1, lease interval DEFAULT NULL)
RETURNS SETOF romancy.activity_task LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_fetch_activities';
COMMENT ON FUNCTION romancy.fetch_activities(text, text, int, interval) IS 'Claim tasks of a queue for a lease';

CREATE PROCEDURE romancy.poll_activities(queue text, worker_id text, max_tasks int DEFAULT 1, lease interval DEFAULT NULL, wait interval DEFAULT '20s', INOUT tasks jsonb DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_poll_activities';
COMMENT ON PROCEDURE romancy.poll_activities(text, text, int, interval, interval, jsonb) IS 'Claim tasks of a queue, waiting for work without polling';

CREATE FUNCTION romancy.complete_activity(token text, result jsonb DEFAULT NULL)
RETURNS boolean LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_complete_activity';
COMMENT ON FUNCTION romancy.complete_activity(text, jsonb) IS 'Record a claimed activity''s result; false if its lease was lost';

CREATE FUNCTION romancy.fail_activity(token text, message text, error_code text DEFAULT NULL, detail jsonb DEFAULT NULL, non_retryable boolean DEFAULT false)
RETURNS boolean LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_fail_activity';
COMMENT ON FUNCTION romancy.fail_activity(text, text, text, jsonb, boolean) IS 'Record the failure of a claimed activity''s attempt; false if its lease was lost';

CREATE FUNCTION romancy.heartbeat_activity(token text, details jsonb DEFAULT NULL, extend interval DEFAULT NULL)
RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_heartbeat_activity';
COMMENT ON FUNCTION romancy.heartbeat_activity(text, jsonb, interval) IS 'Renew a claimed activity''s lease: ok, cancel_requested or lost';

/*
 * Limits of queues. A task of a queue with per_key has a limit_key: the value at
 * that path of its input, '' when there is none. What runs is counted, and keys
 * take their turns, in shared memory.
 */
CREATE TABLE romancy.t_queue (
	name text PRIMARY KEY,
	owner text NOT NULL,
	max_concurrency int,
	rate_limit text,
	per_key text,
	paused boolean NOT NULL DEFAULT false,
	notify text);
COMMENT ON TABLE romancy.t_queue IS 'Limits, pauses and channels of queues; a queue without a row has none';

/*
 * What a bucket has left, or, of a fast one, will have left at the least. Rows are added; the newest
 * counts, and none from full_at on, when the bucket is full.
 */
CREATE TABLE romancy.t_bucket (
	scope text NOT NULL,
	key text NOT NULL,
	tokens double precision NOT NULL,
	at timestamptz NOT NULL,
	full_at timestamptz NOT NULL);
COMMENT ON TABLE romancy.t_bucket IS 'Rate limits of queues and activities: what was left';
CREATE INDEX t_bucket_newest ON romancy.t_bucket (scope, key, at);
CREATE INDEX t_bucket_full ON romancy.t_bucket (full_at);
CREATE INDEX t_activity_limited ON romancy.t_activity (queue) WHERE max_concurrency IS NOT NULL OR rate_limit IS NOT NULL;
CREATE INDEX t_task_keyed ON romancy.t_task (queue, limit_key, (- priority::bigint), task_id) WHERE state = 0 AND limit_key IS NOT NULL;

CREATE FUNCTION romancy.set_queue(name text, max_concurrency int DEFAULT NULL, rate_limit text DEFAULT NULL, per_key text DEFAULT NULL, notify text DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_set_queue';
COMMENT ON FUNCTION romancy.set_queue(text, int, text, text, text) IS 'Set a queue''s limits, and the channel to NOTIFY when there is something to fetch; null: none';

CREATE FUNCTION romancy.pause_queue(name text)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_pause_queue';
COMMENT ON FUNCTION romancy.pause_queue(text) IS 'Let nobody fetch from a queue until romancy.resume_queue';

CREATE FUNCTION romancy.resume_queue(name text)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_resume_queue';
COMMENT ON FUNCTION romancy.resume_queue(text) IS 'Take back romancy.pause_queue';

/* MATERIALIZED: nothing of another role's row is computed. */
CREATE VIEW romancy.activity_tasks WITH (security_barrier) AS
	SELECT t.task_id, t.instance_id, t.step AS activity_id, t.activity, nullif(t.queue, '') AS queue,
		CASE t.state WHEN 0 THEN 'ready' WHEN 1 THEN 'running' WHEN 2 THEN 'waiting' WHEN 5 THEN 'paused' ELSE 'dead' END AS status,
		t.owner, t.priority, t.attempt, t.worker_id, t.created_at, t.started_at, t.claimed_at,
		t.beat_at AS heartbeat_at, t.due_at, t.input, t.errors, t.details AS last_details
	FROM romancy.t_task t
	WHERE t.kind <> 2 AND romancy.may_read(t.owner);
COMMENT ON VIEW romancy.activity_tasks IS 'Activities that wait for, are with, or were given up by workers';

CREATE VIEW romancy.queues WITH (security_barrier) AS
	SELECT coalesce(q.name, c.queue) AS name, q.max_concurrency, q.rate_limit, q.per_key,
		coalesce(q.paused, false) AS paused, coalesce(c.ready, 0) AS ready,
		coalesce(c.running, 0) AS running, coalesce(c.waiting, 0) AS waiting,
		coalesce(c.dead, 0) AS dead, c.oldest_ready, q.notify
	FROM romancy.t_queue q
	FULL JOIN (SELECT pg_catalog.ltrim(t.queue, '@') AS queue,
			count(*) FILTER (WHERE t.state = 0) AS ready,
			count(*) FILTER (WHERE t.state = 1) AS running,
			count(*) FILTER (WHERE t.state IN (2, 5)) AS waiting,
			count(*) FILTER (WHERE t.state = 3) AS dead,
			min(t.created_at) FILTER (WHERE t.state = 0) AS oldest_ready
		FROM romancy.t_task t WHERE t.queue <> '' AND romancy.may_read(t.owner)
		GROUP BY 1) c ON c.queue = q.name
	WHERE q.name IS NULL OR c.queue IS NOT NULL OR romancy.may_read(q.owner);
COMMENT ON VIEW romancy.queues IS 'Queues with limits or tasks: limits, and how many tasks there are';
