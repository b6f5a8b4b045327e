/*
 * Statistics, in shared memory: counts and costs of workflows and activities.
 */
CREATE FUNCTION romancy.t_stat(kind int,
	OUT name text, OUT namespace int, OUT id int, OUT owner text,
	OUT c0 bigint, OUT c1 bigint, OUT c2 bigint, OUT c3 bigint, OUT c4 bigint, OUT c5 bigint,
	OUT p50 interval, OUT p99 interval, OUT seconds float8,
	OUT wal_bytes bigint, OUT blocks_read bigint, OUT blocks_hit bigint, OUT since timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'romancy_stat' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 100;
COMMENT ON FUNCTION romancy.t_stat(int) IS 'Internal: for views stat_workflows (0) and stat_activities (1)';
REVOKE ALL ON FUNCTION romancy.t_stat(int) FROM PUBLIC;

CREATE VIEW romancy.stat_workflows WITH (security_barrier) AS
SELECT n.name AS namespace, s.name AS workflow, w.version, s.owner, s.c0 AS started, s.c1 AS completed, s.c2 AS failed, s.c3 AS cancelled,
	s.c4 AS recurred, s.c5 AS turns, s.p50, s.p99, s.seconds, s.wal_bytes, s.blocks_read, s.blocks_hit, s.since
FROM romancy.t_stat(0) s
LEFT JOIN romancy.t_workflow w ON w.def_id = s.id
LEFT JOIN romancy.t_namespace n ON n.namespace_id = s.namespace;
COMMENT ON VIEW romancy.stat_workflows IS
	'Counts and costs of the workflows of this database, by version and owner; kept over a clean restart';
COMMENT ON COLUMN romancy.stat_workflows.namespace IS 'The namespace that they belong to';
COMMENT ON COLUMN romancy.stat_workflows.workflow IS 'Name of the workflow';
COMMENT ON COLUMN romancy.stat_workflows.version IS 'Its version; null when that was dropped';
COMMENT ON COLUMN romancy.stat_workflows.completed IS 'Instances that completed';
COMMENT ON COLUMN romancy.stat_workflows.failed IS 'Instances that failed';
COMMENT ON COLUMN romancy.stat_workflows.cancelled IS 'Instances that were cancelled';
COMMENT ON COLUMN romancy.stat_workflows.recurred IS 'Instances that continued in another';
COMMENT ON COLUMN romancy.stat_workflows.owner IS 'Whose instances they were; null when the role is gone';
COMMENT ON COLUMN romancy.stat_workflows.started IS 'Instances that had their first turn';
COMMENT ON COLUMN romancy.stat_workflows.turns IS 'Turns that were committed';
COMMENT ON COLUMN romancy.stat_workflows.p50 IS 'Half of the instances that ended took no longer than this from their first turn, waiting included; up to 6.3 % off';
COMMENT ON COLUMN romancy.stat_workflows.p99 IS 'The same for 99 of 100';
COMMENT ON COLUMN romancy.stat_workflows.seconds IS 'Sum of these times';
COMMENT ON COLUMN romancy.stat_workflows.wal_bytes IS 'WAL that the turns wrote, with their activities, without commit records';
COMMENT ON COLUMN romancy.stat_workflows.blocks_read IS 'Shared blocks that the turns had to read';
COMMENT ON COLUMN romancy.stat_workflows.blocks_hit IS 'Shared blocks that the turns found in the buffers';
COMMENT ON COLUMN romancy.stat_workflows.since IS 'Counted from then on';
REVOKE ALL ON romancy.stat_workflows FROM PUBLIC;

CREATE VIEW romancy.stat_activities WITH (security_barrier) AS
SELECT n.name AS namespace, s.name AS activity, s.owner, s.c0 AS calls, s.c1 AS failures, s.c2 AS retries, s.p50, s.p99, s.seconds,
	s.wal_bytes, s.blocks_read, s.blocks_hit, s.since
FROM romancy.t_stat(1) s
LEFT JOIN romancy.t_namespace n ON n.namespace_id = s.namespace;
COMMENT ON VIEW romancy.stat_activities IS
	'Counts and costs of the activities of this database, by owner of the instances; kept over a clean restart';
COMMENT ON COLUMN romancy.stat_activities.namespace IS 'The namespace that the name belongs to';
COMMENT ON COLUMN romancy.stat_activities.activity IS 'Name of the activity';
COMMENT ON COLUMN romancy.stat_activities.owner IS 'For whose instances they ran; null when the role is gone';
COMMENT ON COLUMN romancy.stat_activities.calls IS 'Attempts that ended';
COMMENT ON COLUMN romancy.stat_activities.failures IS 'Those that failed';
COMMENT ON COLUMN romancy.stat_activities.retries IS 'Those that were not the first of their step';
COMMENT ON COLUMN romancy.stat_activities.p50 IS
	'Half of the attempts took no longer than this; of attempts in external workers, only first ones, from their claim; up to 6.3 % off';
COMMENT ON COLUMN romancy.stat_activities.p99 IS 'The same for 99 of 100';
COMMENT ON COLUMN romancy.stat_activities.seconds IS 'Sum of these times';
COMMENT ON COLUMN romancy.stat_activities.wal_bytes IS 'WAL that they wrote; 0 for external workers';
COMMENT ON COLUMN romancy.stat_activities.blocks_read IS 'Shared blocks that they had to read';
COMMENT ON COLUMN romancy.stat_activities.blocks_hit IS 'Shared blocks that they found in the buffers';
COMMENT ON COLUMN romancy.stat_activities.since IS 'Counted from then on';
REVOKE ALL ON romancy.stat_activities FROM PUBLIC;

CREATE FUNCTION romancy.stat_reset() RETURNS void
AS 'MODULE_PATHNAME', 'romancy_stat_reset' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION romancy.stat_reset() IS 'Statistics of this database begin anew; for the owner of the extension';
REVOKE ALL ON FUNCTION romancy.stat_reset() FROM PUBLIC;
