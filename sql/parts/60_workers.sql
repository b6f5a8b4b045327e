/*
 * The worker processes: views of their work, and calls that steer them.
 */
/*
 * pg_restore, and the scripts of pg_dump, set xmloption in their sessions, which no other session does. The rows that come after are those of another
 * database, and the row of t_control that says so may come last: so this one says it from the beginning, with a system identifier that no cluster has.
 */
INSERT INTO romancy.t_control (system_identifier, database_oid, xids_of, timeline)
SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_settings s WHERE s.name = 'xmloption' AND s.source = 'session') THEN 0 ELSE c.system_identifier END,
	d.oid, c.system_identifier,
	/* that of now; the control file's is that of the last checkpoint */
	('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int
FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database();

/* Outputs that expire; the expression stands in src/run/retention.c, too. */
CREATE INDEX t_instance_expires ON romancy.t_instance
	(((finished_at AT TIME ZONE 'UTC') + result_expires))
	WHERE (output IS NOT NULL OR output_seq IS NOT NULL OR output_document IS NOT NULL) AND result_expires IS NOT NULL AND finished_at IS NOT NULL;

CREATE FUNCTION romancy.t_workers(
	OUT pid int, OUT kind text, OUT database text, OUT owner text,
	OUT state text, OUT instance_id uuid, OUT since timestamptz,
	OUT turns bigint, OUT started_at timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'romancy_workers' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION romancy.t_workers() IS 'Internal: for view workers';
REVOKE ALL ON FUNCTION romancy.t_workers() FROM PUBLIC;

CREATE VIEW romancy.workers WITH (security_barrier) AS
SELECT w.pid, w.kind, w.database, w.owner, w.state, w.instance_id, w.since, w.turns, w.started_at
FROM romancy.t_workers() w;
COMMENT ON VIEW romancy.workers IS
	'Processes that run workflows, in all databases: launcher, schedulers, executors, and sessions that drain';
COMMENT ON COLUMN romancy.workers.pid IS 'The process';
COMMENT ON COLUMN romancy.workers.database IS 'The database that it serves';
COMMENT ON COLUMN romancy.workers.owner IS 'The role whose workflows an executor runs';
COMMENT ON COLUMN romancy.workers.started_at IS 'When it was started';
COMMENT ON COLUMN romancy.workers.kind IS 'launcher, scheduler, executor, http, or session (of a drain)';
COMMENT ON COLUMN romancy.workers.state IS 'starting, idle, running, or leaving';
COMMENT ON COLUMN romancy.workers.instance_id IS 'The instance whose turn runs now';
COMMENT ON COLUMN romancy.workers.since IS 'Since when it is in this state, or runs this turn';
COMMENT ON COLUMN romancy.workers.turns IS 'Turns that it has committed';
REVOKE ALL ON romancy.workers FROM PUBLIC;

CREATE FUNCTION romancy.t_sweeps(
	OUT name text, OUT "interval" interval, OUT last_run timestamptz,
	OUT rows bigint, OUT total_rows bigint, OUT runs bigint,
	OUT duration interval, OUT next_due timestamptz, OUT skipped bigint,
	OUT errors bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'romancy_sweeps' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION romancy.t_sweeps() IS 'Internal: for view sweeps';
REVOKE ALL ON FUNCTION romancy.t_sweeps() FROM PUBLIC;

CREATE VIEW romancy.sweeps WITH (security_barrier) AS
SELECT s.name, s."interval", s.last_run, s.rows, s.total_rows, s.runs, s.duration, s.next_due, s.skipped, s.errors
FROM romancy.t_sweeps() s;
COMMENT ON VIEW romancy.sweeps IS
	'Periodic work of the schedulers of this database, and its counts since the server started';
COMMENT ON COLUMN romancy.sweeps.name IS 'Name of the sweep';
COMMENT ON COLUMN romancy.sweeps.last_run IS 'When it ran last';
COMMENT ON COLUMN romancy.sweeps.total_rows IS 'Rows that all runs handled';
COMMENT ON COLUMN romancy.sweeps.runs IS 'Runs';
COMMENT ON COLUMN romancy.sweeps.duration IS 'How long the last run took';
COMMENT ON COLUMN romancy.sweeps.errors IS 'Runs that failed';
COMMENT ON COLUMN romancy.sweeps."interval" IS 'The setting; each interval is drawn anew around it, and grows while there is nothing to do';
COMMENT ON COLUMN romancy.sweeps.rows IS 'Rows that the last run handled';
COMMENT ON COLUMN romancy.sweeps.next_due IS 'When it runs next, if a scheduler is there by then or needed';
COMMENT ON COLUMN romancy.sweeps.skipped IS 'Runs that were left out, because another process held the lock';
REVOKE ALL ON romancy.sweeps FROM PUBLIC;

CREATE FUNCTION romancy.run_sweep(name text) RETURNS bigint
AS 'MODULE_PATHNAME', 'romancy_run_sweep' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION romancy.run_sweep(text) IS 'Runs one batch of a sweep now, of all roles; the number of rows it handled. A scheduler does it, unless the caller is a superuser or the extension''s owner';
REVOKE ALL ON FUNCTION romancy.run_sweep(text) FROM PUBLIC;

CREATE FUNCTION romancy.adopt_database() RETURNS void
AS 'MODULE_PATHNAME', 'romancy_adopt_database' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION romancy.adopt_database() IS
	'Lets workers run in a copy: of a template, of a backup, or a restored dump';
REVOKE ALL ON FUNCTION romancy.adopt_database() FROM PUBLIC;

/* The workers hear of the extension when this script commits. */
CREATE FUNCTION romancy.t_announce() RETURNS void
AS 'MODULE_PATHNAME', 'romancy_announce' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION romancy.t_announce() IS 'Internal: tells the workers that the extension is there';
REVOKE ALL ON FUNCTION romancy.t_announce() FROM PUBLIC;
SELECT romancy.t_announce();
