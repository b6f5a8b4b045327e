/* Schedules: instances that are started at the times of an expression. */

/*
 * after_at: all times up to it are settled; next_at: the first time after it. due_at: when the sweep is to look at
 * the schedule: next_at, later by its jitter; '-infinity' when a run that waits may start; NULL while it is paused.
 * anchor: where the periods of @every begin. tries: starts in a row that an error of the engine's own stopped.
 */
CREATE TABLE romancy.t_schedule (
	namespace int,	/* of its name, and of the workflow's */
	name text,
	owner text NOT NULL,
	search_path text NOT NULL,
	cron text NOT NULL,
	timezone text NOT NULL,
	workflow text NOT NULL,
	overlap text NOT NULL,
	input jsonb,
	labels jsonb,
	description text,
	catch_up interval,
	jitter interval,
	pause_on_failure int,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	anchor timestamptz NOT NULL,
	after_at timestamptz NOT NULL,
	next_at timestamptz,
	due_at timestamptz,
	paused_at timestamptz,
	paused_by text,
	note text,
	last_at timestamptz,
	last_run uuid,
	runs bigint NOT NULL DEFAULT 0,
	completed bigint NOT NULL DEFAULT 0,
	failed bigint NOT NULL DEFAULT 0,
	cancelled bigint NOT NULL DEFAULT 0,
	failed_in_row int NOT NULL DEFAULT 0,
	missed jsonb NOT NULL DEFAULT '{}',
	error jsonb,
	PRIMARY KEY (namespace, name)) WITH (fillfactor = 70);
CREATE INDEX t_schedule_due ON romancy.t_schedule (due_at, namespace, name) WHERE due_at IS NOT NULL;
CREATE INDEX t_schedule_attention ON romancy.t_schedule (namespace, name) WHERE paused_by = 'romancy' OR error IS NOT NULL;
COMMENT ON TABLE romancy.t_schedule IS 'Schedules';

/*
 * A run is deleted with its instance. created_at: of the schedule; one of its name may have been dropped before. instance_id: the
 * first of its generations; NULL while the run waits for the one before. state: RomRunState in src/schedules/runs.h.
 */
CREATE TABLE romancy.t_schedule_run (
	namespace int,
	schedule text,
	created_at timestamptz,
	scheduled_at timestamptz,
	instance_id uuid,
	state smallint NOT NULL,
	PRIMARY KEY (namespace, schedule, created_at, scheduled_at));
CREATE UNIQUE INDEX t_schedule_run_instance ON romancy.t_schedule_run (instance_id) WHERE instance_id IS NOT NULL;
CREATE INDEX t_schedule_run_live ON romancy.t_schedule_run (namespace, schedule, created_at, state, scheduled_at) WHERE state < 2;
COMMENT ON TABLE romancy.t_schedule_run IS 'Runs of schedules: the times that wait, and the instances of the others';

/* Ends of runs that are not counted yet, because another transaction held the schedule: what is to be added to its counters; failed -1: lives again. created_at: of the schedule */
CREATE TABLE romancy.t_schedule_end (
	namespace int,
	schedule text,
	end_id bigint GENERATED ALWAYS AS IDENTITY,
	created_at timestamptz NOT NULL,
	completed smallint NOT NULL,
	failed smallint NOT NULL,
	cancelled smallint NOT NULL,
	PRIMARY KEY (namespace, schedule, end_id));
COMMENT ON TABLE romancy.t_schedule_end IS 'Ends of runs that their schedules'' counters do not hold yet';
COMMENT ON SEQUENCE romancy.t_schedule_end_end_id_seq IS 'Order of the ends of runs';

/* started_at: of the server under which the next times were last computed for all schedules: another may know other zones */
CREATE TABLE romancy.t_schedule_zones (started_at timestamptz PRIMARY KEY);
COMMENT ON TABLE romancy.t_schedule_zones IS 'Under which start of the server the times of schedules were computed';

CREATE FUNCTION romancy.schedule(name text, cron text, workflow text, input jsonb DEFAULT NULL, timezone text DEFAULT 'UTC',
	overlap text DEFAULT 'skip', catch_up interval DEFAULT '1 day', jitter interval DEFAULT NULL, pause_on_failure int DEFAULT NULL,
	labels jsonb DEFAULT NULL, description text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_schedule';
COMMENT ON FUNCTION romancy.schedule(text, text, text, jsonb, text, text, interval, interval, int, jsonb, text)
	IS 'Define a schedule, also in place of one: a workflow is started at each time of a cron expression';

CREATE FUNCTION romancy.unschedule(name text)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_unschedule';
COMMENT ON FUNCTION romancy.unschedule(text) IS 'Drop a schedule; a live run continues. False when there is none';

CREATE FUNCTION romancy.pause_schedule(name text, note text DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_pause_schedule';
COMMENT ON FUNCTION romancy.pause_schedule(text, text) IS 'Start nothing more for a schedule; false when it is paused';

CREATE FUNCTION romancy.resume_schedule(name text)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_resume_schedule';
COMMENT ON FUNCTION romancy.resume_schedule(text) IS 'End a schedule''s pause; nothing runs for the times that passed meanwhile';

CREATE FUNCTION romancy.trigger_schedule(name text)
RETURNS uuid LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_trigger_schedule';
COMMENT ON FUNCTION romancy.trigger_schedule(text) IS 'Start a run of a schedule now, whatever runs, and return its instance';

CREATE FUNCTION romancy.backfill_schedule(name text, from_time timestamptz, to_time timestamptz, overlap text DEFAULT 'allow')
RETURNS bigint LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_backfill_schedule';
COMMENT ON FUNCTION romancy.backfill_schedule(text, timestamptz, timestamptz, text)
	IS 'Start the runs of the times from from_time to before to_time that have none; how many were started or wait';

CREATE FUNCTION romancy.scheduled_at()
RETURNS timestamptz LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'romancy_scheduled_at';
COMMENT ON FUNCTION romancy.scheduled_at() IS 'The time that the running instance of a schedule was meant for; null in others';

CREATE FUNCTION romancy.scheduled_at(token text)
RETURNS timestamptz LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_scheduled_at_of';
COMMENT ON FUNCTION romancy.scheduled_at(text) IS 'The same, for a program that holds a task of the instance';

CREATE FUNCTION romancy.schedule_times(cron text, timezone text DEFAULT 'UTC', after timestamptz DEFAULT now(), n int DEFAULT 10)
RETURNS SETOF timestamptz LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_schedule_times';
COMMENT ON FUNCTION romancy.schedule_times(text, text, timestamptz, int) IS 'The next times of a cron expression';

CREATE FUNCTION romancy.describe_schedule(cron text)
RETURNS text LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_describe_schedule';
COMMENT ON FUNCTION romancy.describe_schedule(text) IS 'A cron expression in English';

CREATE FUNCTION romancy.schedule_runs(name text, n int DEFAULT 20, OUT scheduled timestamptz, OUT started timestamptz,
	OUT status text, OUT error jsonb, OUT duration interval, OUT instance_id uuid)
RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_schedule_runs';
COMMENT ON FUNCTION romancy.schedule_runs(text, int) IS 'The latest runs of a schedule, by the times that they are for';

CREATE VIEW romancy.schedules WITH (security_barrier) AS
	SELECT n.name AS namespace, s.name, s.cron, s.timezone, s.workflow, s.input, s.overlap, s.catch_up, s.jitter, s.pause_on_failure, s.labels,
		s.description, s.owner, s.search_path, s.created_at, s.updated_at,
		s.paused_at IS NOT NULL AS paused, s.paused_at, s.paused_by, s.note,
		CASE WHEN s.paused_at IS NULL THEN s.next_at END AS next_run, s.last_at AS last_run, s.last_run AS last_instance,
		(SELECT pg_catalog.count(*) FROM romancy.t_schedule_run r WHERE r.namespace = s.namespace AND r.schedule = s.name AND r.created_at = s.created_at AND r.state = 1 AND r.state < 2) AS running,
		(SELECT pg_catalog.count(*) FROM romancy.t_schedule_run r WHERE r.namespace = s.namespace AND r.schedule = s.name AND r.created_at = s.created_at AND r.state = 0 AND r.state < 2) AS waiting,
		s.runs, s.completed + u.completed AS completed, s.failed + u.failed AS failed, s.cancelled + u.cancelled AS cancelled, s.failed_in_row, s.missed, s.error
	FROM romancy.t_schedule s
	LEFT JOIN romancy.t_namespace n ON n.namespace_id = s.namespace
	CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.sum(e.completed), 0) AS completed, coalesce(pg_catalog.sum(e.failed), 0) AS failed,
			coalesce(pg_catalog.sum(e.cancelled), 0) AS cancelled
		FROM romancy.t_schedule_end e WHERE e.namespace = s.namespace AND e.schedule = s.name AND e.created_at = s.created_at) u
	WHERE romancy.t_may_read(s.owner);
REVOKE ALL ON romancy.schedules FROM PUBLIC;
COMMENT ON VIEW romancy.schedules IS 'Schedules of the current role; of all roles for a monitor';
COMMENT ON COLUMN romancy.schedules.namespace IS 'The namespace that its name belongs to';
COMMENT ON COLUMN romancy.schedules.name IS 'Its name';
COMMENT ON COLUMN romancy.schedules.cron IS 'The expression; romancy.describe_schedule says it in English';
COMMENT ON COLUMN romancy.schedules.timezone IS 'In which the expression is read';
COMMENT ON COLUMN romancy.schedules.workflow IS 'The workflow that is started';
COMMENT ON COLUMN romancy.schedules.input IS 'Its input';
COMMENT ON COLUMN romancy.schedules.overlap IS 'The fate of a time at which an earlier run is live';
COMMENT ON COLUMN romancy.schedules.catch_up IS 'How old a missed time may be to be run still; null: any age';
COMMENT ON COLUMN romancy.schedules.jitter IS 'Up to how much later than their times runs start';
COMMENT ON COLUMN romancy.schedules.pause_on_failure IS 'After how many failed runs in a row it pauses itself';
COMMENT ON COLUMN romancy.schedules.labels IS 'Labels of its runs, besides schedule and scheduled_at';
COMMENT ON COLUMN romancy.schedules.description IS 'For people';
COMMENT ON COLUMN romancy.schedules.owner IS 'The role that its runs run as';
COMMENT ON COLUMN romancy.schedules.search_path IS 'In which the workflow''s name is looked up';
COMMENT ON COLUMN romancy.schedules.created_at IS 'When it was created';
COMMENT ON COLUMN romancy.schedules.updated_at IS 'When it was created or last replaced';
COMMENT ON COLUMN romancy.schedules.paused IS 'Whether it is paused';
COMMENT ON COLUMN romancy.schedules.paused_at IS 'Since when';
COMMENT ON COLUMN romancy.schedules.paused_by IS 'The role that paused it; romancy, if it paused itself';
COMMENT ON COLUMN romancy.schedules.note IS 'Why it is paused';
COMMENT ON COLUMN romancy.schedules.next_run IS 'Its next time, to which jitter is added';
COMMENT ON COLUMN romancy.schedules.last_run IS 'The time that the run started last was for';
COMMENT ON COLUMN romancy.schedules.last_instance IS 'Its instance';
COMMENT ON COLUMN romancy.schedules.running IS 'Runs that live';
COMMENT ON COLUMN romancy.schedules.waiting IS 'Runs that wait for the end of another one';
COMMENT ON COLUMN romancy.schedules.runs IS 'Runs that were started';
COMMENT ON COLUMN romancy.schedules.completed IS 'Runs that ended well';
COMMENT ON COLUMN romancy.schedules.failed IS 'Runs that failed';
COMMENT ON COLUMN romancy.schedules.cancelled IS 'Runs that were cancelled';
COMMENT ON COLUMN romancy.schedules.failed_in_row IS 'Runs that failed, or could not be started, since the last that ended well';
COMMENT ON COLUMN romancy.schedules.missed IS 'Times that did not run, by reason';
COMMENT ON COLUMN romancy.schedules.error IS 'Of the last start, if it failed';

REVOKE ALL ON FUNCTION romancy.schedule(text, text, text, jsonb, text, text, interval, interval, int, jsonb, text),
	romancy.unschedule(text), romancy.pause_schedule(text, text), romancy.resume_schedule(text), romancy.trigger_schedule(text),
	romancy.backfill_schedule(text, timestamptz, timestamptz, text), romancy.schedule_runs(text, int), romancy.scheduled_at(), romancy.scheduled_at(text),
	romancy.schedule_times(text, text, timestamptz, int), romancy.describe_schedule(text) FROM PUBLIC;
