/*
 * Base tables of the engine. They are not API: views and types own the plain
 * names, these begin with t_. No foreign keys (they would take row locks that
 * block), no triggers. Autovacuum's settings: those whose rows come and go are vacuumed when a
 * hundredth of their rows, and 2,000, are dead; doc/operations.md says why. Only the executor that holds an instance's row lock
 * changes its row; all others put a request into its inbox.
 */
CREATE TYPE romancy.t_status AS ENUM (
	'pending', 'running', 'waiting_for_timer', 'waiting_for_message',
	'waiting_for_activity', 'waiting_for_workflow', 'paused', 'compensating',
	'completed', 'failed', 'cancelled', 'recurred');
COMMENT ON TYPE romancy.t_status IS 'Status of a workflow instance; the last four are final';

CREATE FUNCTION romancy.t_status_name(status romancy.t_status)
RETURNS text LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_status_name';
REVOKE ALL ON FUNCTION romancy.t_status_name(romancy.t_status) FROM PUBLIC;
COMMENT ON FUNCTION romancy.t_status_name(romancy.t_status) IS 'Internal: the name of a status; for an index, and for view instances';

/* kind: RomEventType in src/instances/history.h */
CREATE TYPE romancy.t_event AS (
	kind smallint, step text, name text, input jsonb, result jsonb,
	detail jsonb, at timestamptz);
COMMENT ON TYPE romancy.t_event IS 'One history event; romancy.get_history shows it';

/* Events as they are stored: src/instances/pack.c. Its text form is that of t_event[]. */
CREATE TYPE romancy.t_events;
CREATE FUNCTION romancy.t_events_in(cstring) RETURNS romancy.t_events
LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_t_events_in';
COMMENT ON FUNCTION romancy.t_events_in(cstring) IS 'Internal: input function of romancy.t_events';
CREATE FUNCTION romancy.t_events_out(romancy.t_events) RETURNS cstring
LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_t_events_out';
COMMENT ON FUNCTION romancy.t_events_out(romancy.t_events) IS 'Internal: output function of romancy.t_events';
CREATE TYPE romancy.t_events (
	INPUT = romancy.t_events_in, OUTPUT = romancy.t_events_out,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended);
COMMENT ON TYPE romancy.t_events IS 'The events of a turn, packed';
CREATE FUNCTION romancy.t_events_pack(events romancy.t_event[]) RETURNS romancy.t_events
LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'romancy_events_pack';
COMMENT ON FUNCTION romancy.t_events_pack(romancy.t_event[]) IS 'Internal: events in the form in which they are stored';
CREATE FUNCTION romancy.t_events_unpack(events romancy.t_events) RETURNS romancy.t_event[]
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'romancy_events_unpack';
COMMENT ON FUNCTION romancy.t_events_unpack(romancy.t_events) IS 'Internal: the events that a stored value holds';

/* Which cluster and database the rows below belong to: a copy runs nothing until adopted. */
CREATE TABLE romancy.t_control (
	system_identifier bigint NOT NULL,
	database_oid oid NOT NULL,
	xids_of bigint NOT NULL,
	timeline int NOT NULL,
	adopted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (system_identifier, database_oid, adopted_at));
COMMENT ON TABLE romancy.t_control IS 'The cluster and database that the work in this schema belongs to';
COMMENT ON COLUMN romancy.t_control.timeline IS 'The cluster''s timeline then: a later one that began at a recovery target is a copy''s';
COMMENT ON COLUMN romancy.t_control.xids_of IS 'Identifier of the cluster whose transaction ids stand in the tables of messages';

/*
 * Namespaces, what every name belongs to, and who may use which. Roles as names. A superuser's own namespace
 * has no grant and is inserted at the superuser's first call.
 */
CREATE TABLE romancy.t_namespace (
	namespace_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name text NOT NULL UNIQUE);
COMMENT ON SEQUENCE romancy.t_namespace_namespace_id_seq IS 'Numbers of namespaces';
COMMENT ON TABLE romancy.t_namespace IS 'Namespaces, to which names of definitions, channels, events, groups, queues and schedules belong';

CREATE TABLE romancy.t_grant (
	role text,
	namespace_id int,
	define boolean NOT NULL,
	PRIMARY KEY (role, namespace_id));
CREATE INDEX t_grant_namespace ON romancy.t_grant (namespace_id);
COMMENT ON TABLE romancy.t_grant IS 'Which role may use which namespace, and define in it';

/*
 * A version of a workflow is a function. defined = false: resolved from an undefined name under search_path; such
 * a row goes when no instance needs it, by the steps of leaving (src/run/unused.c), the last of them in transaction leaving_xid.
 */
CREATE TABLE romancy.t_workflow (
	def_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	namespace int NOT NULL,
	name text NOT NULL,
	version int NOT NULL,
	defined boolean NOT NULL,
	is_current boolean NOT NULL,
	handler text,
	queue text,
	owner text NOT NULL,
	search_path text NOT NULL,
	execution_timeout interval,
	retention interval,
	on_event text,
	description text,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	leaving smallint NOT NULL DEFAULT 0,
	leaving_xid xid8,
	looked_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE UNIQUE INDEX t_workflow_defined ON romancy.t_workflow (namespace, name, version) WHERE defined;
CREATE UNIQUE INDEX t_workflow_current ON romancy.t_workflow (namespace, name) WHERE defined AND is_current;
/* not unique: a unique one would make the first start of a name wait for another's open transaction */
CREATE INDEX t_workflow_resolved ON romancy.t_workflow (namespace, name, handler, search_path) WHERE NOT defined;
CREATE INDEX t_workflow_on_event ON romancy.t_workflow (namespace, on_event) WHERE on_event IS NOT NULL AND is_current;
COMMENT ON SEQUENCE romancy.t_workflow_def_id_seq IS 'Numbers of versions of workflows';
COMMENT ON TABLE romancy.t_workflow IS 'Versions of workflows, defined or resolved from a function''s name';
COMMENT ON COLUMN romancy.t_workflow.looked_at IS 'When sweep retention last looked for instances of an undefined one';

CREATE TABLE romancy.t_activity (
	namespace int,
	name text,
	handler text,
	queue text,
	retry jsonb,
	compensation text,
	start_to_close_timeout interval,
	schedule_to_start_timeout interval,
	heartbeat_timeout interval,
	transactional boolean NOT NULL,
	max_concurrency int,
	rate_limit text,
	owner text NOT NULL,
	search_path text NOT NULL,
	description text,
	http jsonb,	/* the request that it is; then queue is '@http' */
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (namespace, name));
COMMENT ON TABLE romancy.t_activity IS 'Defined activities';

/*
 * The settings that values are read and written with (src/turn/settings.c), by name, as instances of the owner had them at
 * their first turn. leaving and so on: as in t_workflow.
 */
CREATE TABLE romancy.t_settings (
	settings_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	owner text NOT NULL,
	settings jsonb NOT NULL,
	leaving smallint NOT NULL DEFAULT 0,
	leaving_xid xid8,
	looked_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX t_settings_owner ON romancy.t_settings (owner);
COMMENT ON SEQUENCE romancy.t_settings_settings_id_seq IS 'Numbers of rows of settings';
COMMENT ON TABLE romancy.t_settings IS 'Settings that are fixed for instances: time zone, formats of dates and numbers, language of messages';

/*
 * wake_at: when it is to have a turn without anything else happening: start,
 * timer, retry, deadline, or at once; 'infinity' while it waits for something
 * without a time; NULL when it is final. wait: what the handler is blocked on.
 * flags: ROM_HAS_* of src/instances/instance.h, what has to be tidied at its end. events: those of the turn
 * that ended it, where they are small; the last of its history. NULL while it lives. mailbox: where its
 * messages are, the id of the first of the generations that it continues; NULL for its own id. settings: the
 * row of t_settings, NULL before the first turn.
 *
 * The columns that a turn changes stand together in the middle, and more than half of a page is left for
 * the new versions of its rows: an UPDATE within a page logs only what lies between the first and the
 * last byte that differ, and need not lock the row first.
 */
CREATE TABLE romancy.t_instance (
	instance_id uuid PRIMARY KEY,
	parent_id uuid,
	continued_from uuid,
	mailbox uuid,
	created_at timestamptz NOT NULL,
	deadline timestamptz,
	result_expires interval,
	scheduled_at timestamptz,
	def_id int NOT NULL,
	namespace int NOT NULL,
	priority int NOT NULL DEFAULT 0,
	depth smallint NOT NULL DEFAULT 0,
	crashes smallint NOT NULL DEFAULT 0,
	flags int NOT NULL DEFAULT 0,
	settings int,
	status romancy.t_status NOT NULL,
	resume_status romancy.t_status,
	wake_at timestamptz,
	started_at timestamptz,
	updated_at timestamptz NOT NULL,
	finished_at timestamptz,
	last_seq bigint NOT NULL DEFAULT 0,
	body_hash bigint,
	output jsonb,
	output_seq bigint,
	output_document uuid,	/* a large one that is no step's result */
	events romancy.t_events,
	error jsonb,
	wait jsonb,
	progress jsonb,
	labels jsonb,
	owner text NOT NULL,
	workflow text NOT NULL,
	parent_step text,
	parent_close text,
	idempotency_key text,
	input jsonb) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000);
CREATE INDEX t_instance_wake ON romancy.t_instance (wake_at, instance_id) WHERE wake_at IS NOT NULL;
CREATE INDEX t_instance_created ON romancy.t_instance (created_at, instance_id);
/* by the name of a status, as view instances has it. An instance that starts and completes, as most do, is never in it. */
CREATE INDEX t_instance_status ON romancy.t_instance (romancy.t_status_name(status), created_at, instance_id)
	WHERE romancy.t_status_name(status) NOT IN ('pending', 'completed');
/* the planner is to know how many have completed, too, which the statistics of that index do not say */
ALTER INDEX romancy.t_instance_status ALTER COLUMN 1 SET STATISTICS 0;
CREATE STATISTICS romancy.t_instance_names ON (romancy.t_status_name(status)) FROM romancy.t_instance;
/* a role, or a workflow, of which there are few: some bytes for 32 pages, in which nothing is written but the first of a name */
CREATE INDEX t_instance_few ON romancy.t_instance USING brin
	(owner text_bloom_ops (n_distinct_per_range = 256), workflow text_bloom_ops (n_distinct_per_range = 256)) WITH (pages_per_range = 32);
CREATE INDEX t_instance_parent ON romancy.t_instance (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX t_instance_continued ON romancy.t_instance (continued_from) WHERE continued_from IS NOT NULL;
CREATE INDEX t_instance_key ON romancy.t_instance (idempotency_key) WHERE idempotency_key IS NOT NULL;
/* those that are tried again after an error of the engine's */
CREATE INDEX t_instance_trouble ON romancy.t_instance (instance_id) WHERE error ? 'tries' AND wake_at IS NOT NULL;
/* a chain of generations has one row in it, that of the last */
CREATE INDEX t_instance_mailbox ON romancy.t_instance (mailbox) WHERE mailbox IS NOT NULL AND status <> 'recurred';
COMMENT ON TABLE romancy.t_instance IS 'Workflow instances; written by the executor that holds the row';

CREATE TABLE romancy.t_idempotency (
	namespace int,
	owner text,
	workflow text,
	idempotency_key text,
	instance_id uuid NOT NULL,
	PRIMARY KEY (namespace, owner, workflow, idempotency_key));
CREATE INDEX t_idempotency_instance ON romancy.t_idempotency (instance_id);
COMMENT ON TABLE romancy.t_idempotency IS 'Idempotency keys of workflow starts';

/* A row holds the events that one turn added (a long turn: several rows); last_seq is the last one's number. See t_instance.events. */
CREATE TABLE romancy.t_history (
	instance_id uuid,
	last_seq bigint,
	events romancy.t_events NOT NULL,
	PRIMARY KEY (instance_id, last_seq));
COMMENT ON TABLE romancy.t_history IS 'Append-only history of live and finished instances';

CREATE TABLE romancy.t_history_archive (
	instance_id uuid,
	last_seq bigint,
	events romancy.t_events NOT NULL,
	PRIMARY KEY (instance_id, last_seq));
COMMENT ON TABLE romancy.t_history_archive IS 'History of instances that continued in another (recur)';

/*
 * Large values of an instance, each written once; history, the inbox and others refer to them: src/instances/document.c. id: of the instance
 * and the value; copy: any number, since two may write one at once. value NULL: the instance's input, or what is at
 * the end of places in it; else the members of value at these places are other documents, parts.
 */
CREATE TABLE romancy.t_document (
	id uuid,
	copy bigint,
	instance_id uuid NOT NULL,
	value jsonb,
	places int[],
	parts uuid[],
	PRIMARY KEY (id, copy));
CREATE INDEX t_document_instance ON romancy.t_document (instance_id);
COMMENT ON TABLE romancy.t_document IS 'Large values of instances, to which their other rows refer; kept with the instance';

CREATE FUNCTION romancy.t_document_value(id uuid)
RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'romancy_document';
COMMENT ON FUNCTION romancy.t_document_value(uuid) IS 'Internal: a large value of an instance; for views';

/* Requests to an instance and results for its steps. kind: RomInboxKind in src/instances/inbox.h */
CREATE TABLE romancy.t_inbox (
	instance_id uuid,
	id bigint GENERATED ALWAYS AS IDENTITY,
	kind smallint NOT NULL,
	step text,
	result jsonb,
	error jsonb,
	detail jsonb,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	document uuid,	/* a large result */
	PRIMARY KEY (instance_id, id)) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
COMMENT ON SEQUENCE romancy.t_inbox_id_seq IS 'Order in which things have arrived';
COMMENT ON TABLE romancy.t_inbox IS 'Requests and results that have arrived for instances; their next turn applies them';

CREATE TABLE romancy.t_value (
	instance_id uuid,
	key text,
	value jsonb,
	document uuid,	/* a large one */
	PRIMARY KEY (instance_id, key));
COMMENT ON TABLE romancy.t_value IS 'Values that handlers put with romancy.set_value';
