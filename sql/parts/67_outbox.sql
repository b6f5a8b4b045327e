/* The outbox: CloudEvents that leave, and where they go. Type outbox_event is what a program gets. */

/*
 * event_types: patterns; NULL: only events that name it. ordered: what is the ordering key of events that bring none. destination_id: what its
 * events belong to, so that one which is defined anew gets none of those of an earlier one of its name. url: NULL: programs fetch its events. signing_secret: a name
 * in t_secret.
 */
CREATE TABLE romancy.t_destination (
	destination_id int GENERATED ALWAYS AS IDENTITY,
	namespace int,	/* of its name */
	name text,
	owner text NOT NULL,
	url text,
	headers jsonb,
	signing_secret text,
	format text NOT NULL DEFAULT 'structured',
	batch_size int,
	max_in_flight int,
	rate_limit text,
	retry jsonb,
	event_types text[],
	ordered text,
	description text,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	paused_at timestamptz,
	paused_by text,
	note text,
	PRIMARY KEY (namespace, name));
CREATE UNIQUE INDEX t_destination_id ON romancy.t_destination (destination_id);
COMMENT ON SEQUENCE romancy.t_destination_destination_id_seq IS 'Ids of destinations';
COMMENT ON TABLE romancy.t_destination IS 'Destinations of events';

/* How a destination with a URL is: written by the process that sends, when a request has failed. In no dump. retry_at: nothing is sent before. destination_id: 0 for ''. */
CREATE TABLE romancy.t_destination_state (
	namespace int,
	destination_id int,
	failures int NOT NULL,	/* in a row */
	retry_at timestamptz,
	failed_at timestamptz,
	refused boolean,	/* it waits for a rule of allow_http, or for a secret */
	error text,
	PRIMARY KEY (namespace, destination_id));
COMMENT ON TABLE romancy.t_destination_state IS 'Failures of destinations with a URL';

/*
 * An event on its way to one destination. destination_id: 0 for '', which is always there; no row has it after the destination was dropped. state: RomOutboxState in src/outbox/state.h. due_at: of a
 * pending one, when it is to be given out; of one under a lease, when that ends; of a final one, since when it is. fence: another number for each
 * lease and replay, 0 before the first. key_hash: of ordering_key, NULL without one. replayed_at: from then on its age counts.
 */
CREATE TABLE romancy.t_outbox (
	outbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	created_at timestamptz NOT NULL,
	due_at timestamptz NOT NULL,
	fence bigint NOT NULL,
	namespace int NOT NULL,
	destination_id int NOT NULL,
	attempt int NOT NULL,
	key_hash int,
	state smallint NOT NULL,
	destination text NOT NULL,
	owner text NOT NULL,
	instance_id uuid,
	ordering_key text,
	type text NOT NULL,
	source text NOT NULL,
	id text NOT NULL,
	subject text,
	datacontenttype text,
	data jsonb,
	data_binary bytea,
	extensions jsonb,
	replayed_at timestamptz,
	error text) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
CREATE UNIQUE INDEX t_outbox_event ON romancy.t_outbox (id, namespace, source, destination, owner);
CREATE INDEX t_outbox_plain ON romancy.t_outbox (namespace, destination_id, owner, due_at, outbox_id) WHERE state < 2 AND key_hash IS NULL;
CREATE INDEX t_outbox_keyed ON romancy.t_outbox (namespace, destination_id, owner, key_hash, ordering_key, outbox_id) WHERE state < 2 AND key_hash IS NOT NULL;
CREATE INDEX t_outbox_busy ON romancy.t_outbox (namespace, destination_id, key_hash, ordering_key) WHERE state = 1;
/* attempt > 0, which is so, is for the planner: it is not to take this one where it needs t_outbox_busy */
CREATE INDEX t_outbox_lease ON romancy.t_outbox (due_at) WHERE state = 1 AND attempt > 0;
CREATE INDEX t_outbox_age ON romancy.t_outbox ((coalesce(replayed_at, created_at))) WHERE state = 0;
CREATE INDEX t_outbox_again ON romancy.t_outbox (due_at) WHERE state = 0 AND attempt > 0;
CREATE INDEX t_outbox_final ON romancy.t_outbox (state, due_at) WHERE state >= 2;
COMMENT ON SEQUENCE romancy.t_outbox_outbox_id_seq IS 'Ids of events in the outbox';
COMMENT ON TABLE romancy.t_outbox IS 'Events on their way to destinations, and, for a while, those whose way has ended';

REVOKE ALL ON romancy.t_destination, romancy.t_destination_state, romancy.t_outbox FROM PUBLIC;

CREATE TYPE romancy.outbox_event AS (
	id text,
	type text,
	source text,
	specversion text,
	"time" timestamptz,
	subject text,
	datacontenttype text,
	data jsonb,
	data_binary bytea,
	extensions jsonb,
	destination text,
	ordering_key text,
	attempt int,
	deadline timestamptz,
	token text);
REVOKE ALL ON TYPE romancy.outbox_event FROM PUBLIC;
COMMENT ON TYPE romancy.outbox_event IS 'A CloudEvent as romancy.fetch_outbox gives it: with its destination, the end of the lease and its token';

CREATE FUNCTION romancy.send_event(type text, source text, data jsonb DEFAULT NULL, id text DEFAULT NULL, subject text DEFAULT NULL,
	datacontenttype text DEFAULT NULL, data_binary bytea DEFAULT NULL, extensions jsonb DEFAULT NULL, destination text DEFAULT NULL,
	ordering_key text DEFAULT NULL)
RETURNS text LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_send_event';
COMMENT ON FUNCTION romancy.send_event(text, text, jsonb, text, text, text, bytea, jsonb, text, text)
	IS 'Put a CloudEvent into the outbox, in the caller''s transaction; returns its id';

CREATE FUNCTION romancy.fetch_outbox(max_events int, lease interval, destination text DEFAULT NULL)
RETURNS SETOF romancy.outbox_event LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_fetch_outbox';
COMMENT ON FUNCTION romancy.fetch_outbox(int, interval, text) IS 'Take events of the outbox under a lease, to publish them';

CREATE FUNCTION romancy.ack_outbox(ids text[])
RETURNS bigint LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_ack_outbox';
COMMENT ON FUNCTION romancy.ack_outbox(text[]) IS 'Events that were fetched are published; how many. By their ids or tokens';

CREATE FUNCTION romancy.nack_outbox(id text, error text)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_nack_outbox';
COMMENT ON FUNCTION romancy.nack_outbox(text, text) IS 'An event that was fetched could not be published: it is given out again later, or is dead';

CREATE FUNCTION romancy.replay_outbox(filter jsonb)
RETURNS bigint LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_replay_outbox';
COMMENT ON FUNCTION romancy.replay_outbox(jsonb) IS 'Make final events of the outbox pending again; how many';

CREATE FUNCTION romancy.define_destination(name text, url text DEFAULT NULL, headers jsonb DEFAULT NULL, signing_secret text DEFAULT NULL,
	format text DEFAULT 'structured', batch_size int DEFAULT NULL, max_in_flight int DEFAULT NULL, rate_limit text DEFAULT NULL, retry jsonb DEFAULT NULL,
	event_types text[] DEFAULT NULL, ordered text DEFAULT NULL, description text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_define_destination';
COMMENT ON FUNCTION romancy.define_destination(text, text, jsonb, text, text, int, int, text, jsonb, text[], text, text)
	IS 'Define a destination of events, also in place of one; with a URL the server sends them';

CREATE FUNCTION romancy.drop_destination(name text, discard boolean DEFAULT false)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_drop_destination';
COMMENT ON FUNCTION romancy.drop_destination(text, boolean) IS 'Drop a destination; false when there is none';

CREATE FUNCTION romancy.pause_destination(name text, note text DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_pause_destination';
COMMENT ON FUNCTION romancy.pause_destination(text, text) IS 'Give out no more events of a destination; false when it is paused';

CREATE FUNCTION romancy.resume_destination(name text)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_resume_destination';
COMMENT ON FUNCTION romancy.resume_destination(text) IS 'End a destination''s pause; false when it is not paused';

/* A URL, and what its receiver has answered, is for those who may see the destination: a sender is told the status. */
CREATE VIEW romancy.outbox WITH (security_barrier) AS
	SELECT n.name AS namespace, o.id, o.type, o.source, o.created_at AS "time", o.subject, o.datacontenttype, o.data, o.data_binary,
		o.extensions, o.destination, o.ordering_key,
		o.status, o.attempt,
		CASE WHEN o.error NOT LIKE 'POST http%' OR romancy.t_may_read(coalesce(d.owner, '')) THEN o.error
			ELSE coalesce(pg_catalog.substring(o.error, '^POST \S+: (HTTP \d+)'), 'no answer') END AS error,
		CASE WHEN o.state = 0 THEN o.due_at END AS next_attempt, CASE WHEN o.state = 1 THEN o.due_at END AS lease_until,
		CASE WHEN o.state >= 2 THEN o.due_at END AS finished_at, o.owner, o.instance_id
	/* a part for each index, so that a status is a constant for the planner, which then leaves the others out */
	FROM (
		SELECT o.*, 'pending'::text AS status, 0 AS part FROM romancy.t_outbox o
		UNION ALL SELECT o.*, 'pending', 1 FROM romancy.t_outbox o
		UNION ALL SELECT o.*, 'published', 2 FROM romancy.t_outbox o
		UNION ALL SELECT o.*, 'invalid', 3 FROM romancy.t_outbox o
		UNION ALL SELECT o.*, 'expired', 4 FROM romancy.t_outbox o
		UNION ALL SELECT o.*, 'dead', 5 FROM romancy.t_outbox o) o
	LEFT JOIN romancy.t_destination d ON d.destination_id = o.destination_id
	LEFT JOIN romancy.t_namespace n ON n.namespace_id = o.namespace
	WHERE CASE o.part WHEN 0 THEN o.state < 2 AND o.key_hash IS NULL WHEN 1 THEN o.state < 2 AND o.key_hash IS NOT NULL
			WHEN 2 THEN o.state = 2 WHEN 3 THEN o.state = 3 WHEN 4 THEN o.state = 4 ELSE o.state = 5 END
		AND (romancy.t_may_read(o.owner) OR romancy.t_may_read(d.owner));
REVOKE ALL ON romancy.outbox FROM PUBLIC;
COMMENT ON VIEW romancy.outbox IS 'Events that the current role has sent, or that go to a destination of its; of all roles for a monitor';
COMMENT ON COLUMN romancy.outbox.namespace IS 'The namespace in which it was sent';
COMMENT ON COLUMN romancy.outbox.id IS 'Its id';
COMMENT ON COLUMN romancy.outbox.type IS 'Its type';
COMMENT ON COLUMN romancy.outbox.source IS 'Its source';
COMMENT ON COLUMN romancy.outbox."time" IS 'When it was sent';
COMMENT ON COLUMN romancy.outbox.subject IS 'Its subject';
COMMENT ON COLUMN romancy.outbox.datacontenttype IS 'The media type of its data, if its sender gave one';
COMMENT ON COLUMN romancy.outbox.data IS 'Its data';
COMMENT ON COLUMN romancy.outbox.data_binary IS 'Its data, where they are binary';
COMMENT ON COLUMN romancy.outbox.extensions IS 'Its extension attributes';
COMMENT ON COLUMN romancy.outbox.destination IS 'Where it goes; a row for each destination. Empty: the one that is always there';
COMMENT ON COLUMN romancy.outbox.ordering_key IS 'The next event of this key and destination is given out after this one is final';
COMMENT ON COLUMN romancy.outbox.status IS 'pending, or final: published, invalid, expired, dead';
COMMENT ON COLUMN romancy.outbox.attempt IS 'How often it was given out';
COMMENT ON COLUMN romancy.outbox.error IS 'Of the last attempt that failed; of another role''s destination with a URL the status only';
COMMENT ON COLUMN romancy.outbox.next_attempt IS 'From when on it can be fetched';
COMMENT ON COLUMN romancy.outbox.lease_until IS 'Until when a program has it';
COMMENT ON COLUMN romancy.outbox.finished_at IS 'Since when it is final';
COMMENT ON COLUMN romancy.outbox.owner IS 'The role that sent it';
COMMENT ON COLUMN romancy.outbox.instance_id IS 'The instance whose handler or activity sent it';

/* Counts are of what the reader may see. Published events, which are many, are not counted; those of dropped destinations are in view outbox only. */
CREATE VIEW romancy.destinations WITH (security_barrier) AS
	WITH live AS MATERIALIZED (
		SELECT o.namespace, o.destination_id, o.owner, o.state, o.created_at FROM romancy.t_outbox o WHERE o.state < 2 AND o.key_hash IS NULL
		UNION ALL SELECT o.namespace, o.destination_id, o.owner, o.state, o.created_at FROM romancy.t_outbox o WHERE o.state < 2 AND o.key_hash IS NOT NULL
		UNION ALL SELECT o.namespace, o.destination_id, o.owner, o.state, o.created_at FROM romancy.t_outbox o WHERE o.state >= 2 AND o.state > 2),
	counts AS (
		SELECT l.namespace, l.destination_id, d.name, count(*) FILTER (WHERE l.state = 0) AS pending, count(*) FILTER (WHERE l.state = 1) AS fetched,
			count(*) FILTER (WHERE l.state = 3) AS invalid, count(*) FILTER (WHERE l.state = 4) AS expired, count(*) FILTER (WHERE l.state = 5) AS dead,
			min(l.created_at) FILTER (WHERE l.state < 2) AS oldest
		FROM live l LEFT JOIN romancy.t_destination d ON d.destination_id = l.destination_id
		WHERE (d.destination_id IS NOT NULL OR l.destination_id = 0) AND (romancy.t_may_read(l.owner) OR romancy.t_may_read(d.owner)) GROUP BY 1, 2, 3),
	defined AS (
		SELECT d.* FROM romancy.t_destination d WHERE romancy.t_may_read(d.owner))
	SELECT n.name AS namespace, coalesce(d.name, c.name, '') AS name, d.url, d.headers, d.signing_secret, CASE WHEN d.url IS NOT NULL THEN d.format END AS format,
		d.batch_size, d.max_in_flight, d.rate_limit, d.retry, d.event_types, d.ordered, d.description, d.owner, d.created_at, d.updated_at,
		d.paused_at IS NOT NULL AS paused, d.paused_at, d.paused_by, d.note, coalesce(c.pending, 0) AS pending, coalesce(c.fetched, 0) AS fetched,
		coalesce(c.invalid, 0) AS invalid, coalesce(c.expired, 0) AS expired, coalesce(c.dead, 0) AS dead, c.oldest,
		CASE WHEN d.url IS NULL THEN NULL WHEN coalesce(s.failures, 0) < 5 THEN 'closed' WHEN s.retry_at > pg_catalog.clock_timestamp() THEN 'open' ELSE 'half open' END AS breaker,
		CASE WHEN d.url IS NOT NULL THEN coalesce(s.failures, 0) END AS failures, CASE WHEN s.retry_at > pg_catalog.clock_timestamp() THEN s.retry_at END AS retry_at,
		s.failed_at, s.error
	FROM defined d FULL JOIN counts c ON c.destination_id = d.destination_id
	LEFT JOIN romancy.t_destination_state s ON s.namespace = coalesce(d.namespace, c.namespace) AND s.destination_id = coalesce(d.destination_id, c.destination_id)
		AND (d.name IS NOT NULL OR c.destination_id = 0 AND romancy.t_may_read(''))
	LEFT JOIN romancy.t_namespace n ON n.namespace_id = coalesce(d.namespace, c.namespace);
REVOKE ALL ON romancy.destinations FROM PUBLIC;
COMMENT ON VIEW romancy.destinations IS 'Destinations of the current role, and those that it has sent events to; of all roles for a monitor';
COMMENT ON COLUMN romancy.destinations.namespace IS 'The namespace that its name belongs to';
COMMENT ON COLUMN romancy.destinations.name IS 'Its name; empty: the one that is always there';
COMMENT ON COLUMN romancy.destinations.url IS 'Where the server posts its events; null: programs fetch them (or, of the empty one, romancy.outbox_url is used)';
COMMENT ON COLUMN romancy.destinations.headers IS 'Headers of its requests, with the names of secrets';
COMMENT ON COLUMN romancy.destinations.signing_secret IS 'The name of the secret that its requests are signed with';
COMMENT ON COLUMN romancy.destinations.format IS 'structured, binary or batch';
COMMENT ON COLUMN romancy.destinations.batch_size IS 'Events of a request, with format batch; null: romancy.outbox_batch_size';
COMMENT ON COLUMN romancy.destinations.max_in_flight IS 'Requests at a time; null: 10';
COMMENT ON COLUMN romancy.destinations.rate_limit IS 'Requests in a period; null: any number';
COMMENT ON COLUMN romancy.destinations.retry IS 'Its retry policy; null: the defaults';
COMMENT ON COLUMN romancy.destinations.event_types IS 'Patterns of the types that it gets; null: only events that name it';
COMMENT ON COLUMN romancy.destinations.ordered IS 'Gives the ordering key of events that have none';
COMMENT ON COLUMN romancy.destinations.description IS 'For people';
COMMENT ON COLUMN romancy.destinations.owner IS 'The role that defined it; null where the caller is no member of it, and for the destination without a name';
COMMENT ON COLUMN romancy.destinations.created_at IS 'When it was created';
COMMENT ON COLUMN romancy.destinations.updated_at IS 'When it was created or last replaced';
COMMENT ON COLUMN romancy.destinations.paused IS 'Whether it is paused';
COMMENT ON COLUMN romancy.destinations.paused_at IS 'Since when';
COMMENT ON COLUMN romancy.destinations.paused_by IS 'The role that paused it';
COMMENT ON COLUMN romancy.destinations.note IS 'Why it is paused';
COMMENT ON COLUMN romancy.destinations.pending IS 'Events that wait to be fetched';
COMMENT ON COLUMN romancy.destinations.fetched IS 'Events that programs have fetched and not settled';
COMMENT ON COLUMN romancy.destinations.invalid IS 'Events that the receiver refused for good';
COMMENT ON COLUMN romancy.destinations.expired IS 'Events that no program took in time (romancy.outbox_max_age)';
COMMENT ON COLUMN romancy.destinations.dead IS 'Events that were given up after their last attempt';
COMMENT ON COLUMN romancy.destinations.oldest IS 'When the oldest event was sent that is pending or fetched';
COMMENT ON COLUMN romancy.destinations.breaker IS 'Of one with a URL: closed; open, nothing is sent; half open, one request is tried';
COMMENT ON COLUMN romancy.destinations.failures IS 'Requests that failed in a row';
COMMENT ON COLUMN romancy.destinations.retry_at IS 'Nothing is sent before';
COMMENT ON COLUMN romancy.destinations.failed_at IS 'When a request failed last';
COMMENT ON COLUMN romancy.destinations.error IS 'How a request failed last';

REVOKE ALL ON FUNCTION romancy.send_event(text, text, jsonb, text, text, text, bytea, jsonb, text, text), romancy.fetch_outbox(int, interval, text),
	romancy.ack_outbox(text[]), romancy.nack_outbox(text, text), romancy.replay_outbox(jsonb),
	romancy.define_destination(text, text, jsonb, text, text, int, int, text, jsonb, text[], text, text), romancy.drop_destination(text, boolean), romancy.pause_destination(text, text),
	romancy.resume_destination(text) FROM PUBLIC;
