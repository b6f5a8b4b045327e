/*
 * Messages: channels, subscriptions, events, groups. Types message and event
 * stand in 10_types.sql.
 *
 * A message published where no subscriber broadcasts is open: for one competing
 * subscriber, who deletes it. A direct one is its receiver's, who deletes it.
 * One that is broadcast has a row in t_delivery for each subscriber that the
 * publisher saw; channel_cleanup deletes it when all have got it.
 *
 * Messages that belong to an instance are in its mailbox, which stays the same when it
 * continues in another one (t_instance.mailbox, or else its own id): so recur()
 * moves no message.
 */

/* A row while the channel has live subscribers that broadcast or compete, and a while longer. */
CREATE TABLE romancy.t_channel (
	namespace int,
	channel text,
	mode text NOT NULL,
	swept pg_snapshot,
	PRIMARY KEY (namespace, channel));
COMMENT ON TABLE romancy.t_channel IS 'The mode that all live subscribers of a channel have in common';
COMMENT ON COLUMN romancy.t_channel.swept IS 'When channel_cleanup looked last: messages of transactions that had ended then, and that all have received, are deleted';

/*
 * xid, snapshot, bound: of a broadcast subscription that publishing
 * transactions may have crossed, unseen and not seeing (src/messages/subscription.c).
 * spawned: pending receives of spawn_receive. pick: a random number, so that
 * competing messages are spread over the subscribers. instance_id is the live
 * generation, mailbox where deliveries go. mode kept: of an instance that has failed and may be retried, so
 * that what it had not received stays.
 */
CREATE TABLE romancy.t_subscription (
	instance_id uuid,
	channel text,
	namespace int NOT NULL,
	mailbox uuid NOT NULL,
	mode text NOT NULL,
	xid xid8 NOT NULL,
	snapshot pg_snapshot,
	bound xid8,
	spawned int NOT NULL DEFAULT 0,
	pick int NOT NULL DEFAULT floor(random() * 2147483647)::int,
	subscribed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (instance_id, channel));
CREATE INDEX t_subscription_channel ON romancy.t_subscription (namespace, channel, mode, pick);
CREATE INDEX t_subscription_spawned ON romancy.t_subscription (namespace, channel, instance_id) WHERE spawned > 0;
CREATE INDEX t_subscription_unsettled ON romancy.t_subscription (namespace, channel) WHERE snapshot IS NOT NULL;
COMMENT ON TABLE romancy.t_subscription IS 'Which live instance receives from which channel';

/* The waiting subscribers of a channel, where most are busy. */
CREATE INDEX t_instance_waits ON romancy.t_instance (namespace, (wait ->> 'name')) WHERE status = 'waiting_for_message';

/* kind: b broadcast, o open, d direct. xid: of the publishing transaction. mailbox: the receiver's, of a direct one. */
CREATE TABLE romancy.t_message (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	xid xid8,
	kind "char" NOT NULL,
	namespace int NOT NULL,
	channel text NOT NULL,
	mailbox uuid,
	sender uuid,
	publisher text,
	data jsonb,
	metadata jsonb,
	data_binary bytea,
	event jsonb) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
CREATE INDEX t_message_direct ON romancy.t_message (mailbox, channel, id) WHERE kind = 'd';
CREATE INDEX t_message_open ON romancy.t_message (namespace, channel, id) WHERE kind = 'o';
/* IS NOT NULL keeps this index from the queries for the oldest open message: where few rows are expected, they
   would sort. A query for broadcast messages that is to use it says xid IS NOT NULL. */
CREATE INDEX t_message_xid ON romancy.t_message (namespace, channel, xid) WHERE kind <> 'd' AND xid IS NOT NULL;
CREATE INDEX t_message_published ON romancy.t_message (published_at) WHERE kind = 'o';
COMMENT ON SEQUENCE romancy.t_message_id_seq IS 'Ids of messages';
COMMENT ON TABLE romancy.t_message IS 'Messages that were not received yet';

/* received: kept so that it is not added again, as long as the subscription is not settled (src/messages/subscription.c). */
CREATE TABLE romancy.t_delivery (
	mailbox uuid,
	channel text,
	message_id bigint,
	received boolean NOT NULL DEFAULT false,
	PRIMARY KEY (mailbox, channel, message_id)) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
COMMENT ON TABLE romancy.t_delivery IS 'Broadcast messages that a subscriber has not received yet';

CREATE TABLE romancy.t_received_event (
	namespace int,
	source text,
	id text,
	received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (namespace, source, id));
CREATE INDEX t_received_event_received ON romancy.t_received_event (received_at);
COMMENT ON TABLE romancy.t_received_event IS 'CloudEvents that came in, so that a repeated one is ignored';

CREATE TABLE romancy.t_group (
	namespace int,
	name text,
	instance_id uuid,
	joined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (namespace, name, instance_id));
CREATE INDEX t_group_instance ON romancy.t_group (instance_id);
COMMENT ON TABLE romancy.t_group IS 'Members of groups';

REVOKE ALL ON romancy.t_channel, romancy.t_subscription, romancy.t_message, romancy.t_delivery,
	romancy.t_received_event, romancy.t_group FROM PUBLIC;

CREATE FUNCTION romancy.subscribe(channel text, mode text DEFAULT 'broadcast')
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_subscribe';
COMMENT ON FUNCTION romancy.subscribe(text, text) IS 'In a workflow: receive what is published to a channel from now on';

CREATE FUNCTION romancy.unsubscribe(channel text)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_unsubscribe';
COMMENT ON FUNCTION romancy.unsubscribe(text) IS 'In a workflow: receive nothing more that is published to a channel';

CREATE FUNCTION romancy.receive(channel text, timeout interval DEFAULT NULL, activity_id text DEFAULT NULL)
RETURNS romancy.message LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_receive';
COMMENT ON FUNCTION romancy.receive(text, interval, text) IS 'In a workflow: wait for the oldest message of a channel';

CREATE FUNCTION romancy.spawn_receive(channel text)
RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_spawn_receive';
COMMENT ON FUNCTION romancy.spawn_receive(text) IS 'In a workflow: a handle for the next message of a channel, for romancy.await and its kin';

CREATE FUNCTION romancy.wait_event(type text, timeout interval DEFAULT NULL, activity_id text DEFAULT NULL)
RETURNS romancy.event LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_wait_event';
COMMENT ON FUNCTION romancy.wait_event(text, interval, text) IS 'In a workflow: wait for a CloudEvent of a type';

CREATE FUNCTION romancy.publish(channel text, data jsonb DEFAULT NULL, metadata jsonb DEFAULT NULL, data_binary bytea DEFAULT NULL)
RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_publish';
COMMENT ON FUNCTION romancy.publish(text, jsonb, jsonb, bytea) IS 'Send a message to the subscribers of a channel; returns its id';

CREATE FUNCTION romancy.send_to(instance_id uuid, channel text, data jsonb DEFAULT NULL, metadata jsonb DEFAULT NULL, data_binary bytea DEFAULT NULL)
RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_send_to';
COMMENT ON FUNCTION romancy.send_to(uuid, text, jsonb, jsonb, bytea) IS 'Send a message to one instance; returns its id';

CREATE FUNCTION romancy.raise_event(type text, source text, data jsonb DEFAULT NULL, id text DEFAULT NULL, subject text DEFAULT NULL, event_time timestamptz DEFAULT NULL, datacontenttype text DEFAULT NULL, data_binary bytea DEFAULT NULL, extensions jsonb DEFAULT NULL, instance_id uuid DEFAULT NULL)
RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_raise_event';
COMMENT ON FUNCTION romancy.raise_event(text, text, jsonb, text, text, timestamptz, text, bytea, jsonb, uuid)
	IS 'A CloudEvent comes in: wake who waits for it, start what is defined on it; returns its id';

CREATE FUNCTION romancy.handle_cloudevent(body text, headers jsonb DEFAULT NULL, body_binary bytea DEFAULT NULL)
RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_handle_cloudevent';
COMMENT ON FUNCTION romancy.handle_cloudevent(text, jsonb, bytea) IS 'A CloudEvent as it was received over HTTP; returns the status to answer with';

CREATE FUNCTION romancy.join_group(name text)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_join_group';
COMMENT ON FUNCTION romancy.join_group(text) IS 'In a workflow: be a member of a group until the instance ends';

CREATE FUNCTION romancy.leave_group(name text)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_leave_group';
COMMENT ON FUNCTION romancy.leave_group(text) IS 'In a workflow: be a member of a group no longer';

CREATE FUNCTION romancy.group_members(name text)
RETURNS SETOF uuid LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_group_members';
COMMENT ON FUNCTION romancy.group_members(text) IS 'The live instances that are members of a group';

/* depth: messages that a subscriber has still to receive. A role sees channels that its instances subscribe to. */
CREATE VIEW romancy.channels WITH (security_barrier) AS
	WITH readable AS MATERIALIZED (
		SELECT s.namespace, s.channel, s.mailbox, s.mode,
			s.spawned > 0 OR i.status = 'waiting_for_message' AND i.wait ->> 'name' = s.channel AS waiting
		FROM romancy.t_subscription s JOIN romancy.t_instance i USING (instance_id)
		WHERE i.wake_at IS NOT NULL AND romancy.t_may_read(i.owner) AND s.mode <> 'kept'),
	subscribers AS (
		SELECT r.namespace, r.channel, min(r.mode) FILTER (WHERE r.mode <> 'direct') AS mode,
			count(*) AS subscribers, count(*) FILTER (WHERE r.waiting) AS waiting
		FROM readable r GROUP BY r.namespace, r.channel),
	messages AS (
		SELECT u.namespace, u.channel, count(*) AS depth, min(u.published_at) AS oldest
		FROM (
			SELECT m.namespace, m.channel, m.published_at FROM romancy.t_message m
			WHERE m.kind = 'o' AND ((m.namespace, m.channel) IN (SELECT r.namespace, r.channel FROM readable r)
				OR has_function_privilege('romancy.t_monitor()', 'EXECUTE'))
			UNION ALL
			-- the receiver is the first of its generations, or the last
			SELECT m.namespace, m.channel, m.published_at
			FROM romancy.t_message m JOIN romancy.t_instance i ON i.instance_id = m.mailbox
			WHERE m.kind = 'd' AND i.status <> 'recurred' AND romancy.t_may_read(i.owner)
			UNION ALL
			SELECT m.namespace, m.channel, m.published_at
			FROM romancy.t_message m JOIN romancy.t_instance i ON i.mailbox = m.mailbox
			WHERE m.kind = 'd' AND i.status <> 'recurred' AND romancy.t_may_read(i.owner)
			UNION ALL
			SELECT m.namespace, d.channel, m.published_at
			FROM romancy.t_delivery d JOIN romancy.t_message m ON m.id = d.message_id
			JOIN readable r ON r.mailbox = d.mailbox AND r.channel = d.channel
			WHERE NOT d.received) u
		GROUP BY u.namespace, u.channel)
	SELECT n.name AS namespace, channel, coalesce(s.mode, CASE WHEN s.channel IS NOT NULL THEN 'direct' END) AS mode,
		coalesce(m.depth, 0) AS depth, m.oldest AS oldest_message,
		coalesce(s.subscribers, 0) AS subscribers, coalesce(s.waiting, 0) AS waiting
	FROM subscribers s FULL JOIN messages m USING (namespace, channel)
	LEFT JOIN romancy.t_namespace n ON n.namespace_id = namespace;
REVOKE ALL ON romancy.channels FROM PUBLIC;
COMMENT ON VIEW romancy.channels IS 'Channels with subscribers or undelivered messages: depth, oldest message, subscribers, waiting';
COMMENT ON COLUMN romancy.channels.namespace IS 'The namespace that it belongs to';
COMMENT ON COLUMN romancy.channels.channel IS 'Name of the channel';
COMMENT ON COLUMN romancy.channels.mode IS 'broadcast or competing, while it has live subscribers of these';
COMMENT ON COLUMN romancy.channels.depth IS 'Messages that a subscriber has still to receive';
COMMENT ON COLUMN romancy.channels.oldest_message IS 'When the oldest of them was published';
COMMENT ON COLUMN romancy.channels.subscribers IS 'Live instances that have subscribed';
COMMENT ON COLUMN romancy.channels.waiting IS 'Those of them that wait for a message now';
