-- Channels, events and groups, by drain in one transaction. Among these are the faults
-- of earlier systems: the newer message delivered and the older skipped, a delivery that
-- dies half-way, a publish repeated by replay, a cancelled instance brought back by a message, a timeout
-- and a message that both count, a message sent before its wait and dropped, a mode pinned by finished
-- instances, a start that happens though its transaction rolled back. Each has its name in a comment.
-- It would catch the return of any of them.
BEGIN;
SELECT no_plan();
CREATE FUNCTION run() RETURNS void LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); END $$;
CREATE FUNCTION later() RETURNS void LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(advance_time => true, turns => n); END $$;
CREATE FUNCTION status(id uuid) RETURNS text LANGUAGE sql AS $$ SELECT i.status FROM romancy.instances i WHERE i.instance_id = $1 $$;
CREATE FUNCTION events(id uuid, wanted text) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM romancy.get_history($1) h WHERE h.event_type = $2 $$;
CREATE TABLE ids (name text PRIMARY KEY, id uuid);
CREATE FUNCTION start(name text, workflow text, input jsonb DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	INSERT INTO ids VALUES ($1, romancy.start_workflow($2, $3)) $$;
CREATE FUNCTION id(name text) RETURNS uuid LANGUAGE sql AS $$ SELECT i.id FROM ids i WHERE i.name = $1 $$;

-- collects n messages of a channel, subscribing first where a mode is given
CREATE FUNCTION collect(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message; r jsonb := '[]';
BEGIN
	IF input ? 'mode' THEN
		PERFORM romancy.subscribe(input->>'channel', input->>'mode');
	END IF;
	FOR i IN 1 .. (input->>'n')::int LOOP
		m := romancy.receive(input->>'channel', (input->>'timeout')::interval);
		r := r || m.data;
	END LOOP;
	RETURN r;
EXCEPTION WHEN SQLSTATE 'RM006' THEN RETURN r || '"timeout"'::jsonb;
END $$;

-- fault "a signal sent before its wait and dropped"; direct: sent before the wait, in order, with everything that belongs to a message
SELECT start('early', 'collect', '{"channel": "c", "n": 2}');
SELECT lives_ok($$ SELECT romancy.send_to(id('early'), 'c', '1'), romancy.send_to(id('early'), 'c', '2') $$, 'sent before the receiver waits');
SELECT run();
SELECT is(romancy.get_result(id('early')), '[1, 2]', 'and received, oldest first');
CREATE FUNCTION whole(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message;
BEGIN
	SELECT * INTO m FROM romancy.receive('w');
	RETURN to_jsonb(m);
END $$;
CREATE FUNCTION sender(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN to_jsonb(romancy.send_to((input->>'to')::uuid, 'w', NULL, '{"k": [1]}', '\x00ff'));
END $$;
SELECT start('whole', 'whole');
SELECT run();
SELECT is(status(id('whole')), 'waiting_for_message', 'status while it waits');
SELECT is((SELECT kind || ' ' || step || ' ' || name FROM romancy.waiting WHERE instance_id = id('whole')), 'message receive_w:1 w', 'what it waits for');
SELECT start('sender', 'sender', jsonb_build_object('to', id('whole')));
SELECT run();
SELECT is(romancy.get_result(id('whole')) - 'id' - 'published_at', jsonb_build_object('channel', 'w', 'data', NULL, 'data_binary', '\x00ff',
	'metadata', '{"k": [1]}'::jsonb, 'sender', id('sender'), 'publisher', current_user), 'a message with metadata, binary data, sender and publisher');
SELECT is((SELECT data->'result'->>'data_binary' FROM romancy.get_history(id('whole')) WHERE event_type = 'ChannelMessageReceived'), 'AP8=', 'base64 in history');

-- the publisher: the role that calls, of a session, of a function with its owner's rights, of an instance; of an event that comes in, too
CREATE ROLE messages_clerk;
SELECT romancy.grant_usage('messages_clerk', namespace => current_user::text, define => false);
CREATE FUNCTION definers(instance uuid) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT romancy.send_to($1, 'p') $$;
CREATE FUNCTION publishers(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE r jsonb := '[]';
BEGIN
	FOR i IN 1 .. 4 LOOP
		r := r || to_jsonb((romancy.receive('p')).publisher);
	END LOOP;
	RETURN r || to_jsonb(romancy.await(romancy.spawn_receive('p'))->>'publisher');
END $$;
CREATE FUNCTION to_p(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(romancy.send_to((input->>0)::uuid, 'p')); END $$;
SELECT start('publishers', 'publishers');
SELECT set_config('messages.test', id('publishers')::text, true);
SET LOCAL ROLE messages_clerk;
SELECT lives_ok($$ SELECT romancy.send_to(current_setting('messages.test')::uuid, 'p') $$, 'sent by another role of the namespace');
RESET ROLE;
GRANT EXECUTE ON FUNCTION definers(uuid) TO messages_clerk;
SET LOCAL ROLE messages_clerk;
SELECT lives_ok($$ SELECT definers(current_setting('messages.test')::uuid) $$, 'sent by a function with the rights of its owner');
RESET ROLE;
SELECT lives_ok($$ SELECT romancy.send_to(id('publishers'), 'p') $$, 'sent by its own role');
SELECT romancy.raise_event('p', 'source', instance_id => id('publishers')) IS NOT NULL AS raised;
SELECT start('to_p', 'to_p', jsonb_build_array(id('publishers')));
SELECT run();
SELECT is(romancy.get_result(id('publishers')), jsonb_build_array('messages_clerk', current_user, current_user, current_user, current_user), 'each message names its publisher');

-- broadcast: each subscriber, what is published after it subscribed
SELECT is(romancy.publish('b', '"too early"') > 0, true, 'published with nobody there');
SELECT start('b' || i, 'collect', '{"channel": "b", "mode": "broadcast", "n": 2}') FROM generate_series(1, 3) i;
SELECT run();
SELECT romancy.publish('b', '1'), romancy.publish('b', '2');
SELECT is((SELECT depth || ' ' || subscribers || ' ' || waiting || ' ' || mode FROM romancy.channels WHERE channel = 'b'), '7 3 3 broadcast', 'view channels');
SELECT run();
SELECT is((SELECT array_agg(romancy.get_result(id('b' || i))::text) FROM generate_series(1, 3) i), ARRAY['[1, 2]', '[1, 2]', '[1, 2]'], 'each got each, once');

-- competing: one each, and what was published before
SELECT romancy.publish('q', to_jsonb(i)) FROM generate_series(1, 4) i;
SELECT start('q' || i, 'collect', '{"channel": "q", "mode": "competing", "n": 2}') FROM generate_series(1, 3) i;
SELECT run();
SELECT is((SELECT array_agg(v ORDER BY v::text) FROM (SELECT jsonb_array_elements(romancy.get_result(id('q' || i))) v FROM generate_series(1, 3) i) x),
	ARRAY['1', '2', '3', '4']::jsonb[], 'competing: each message to one');
SELECT is((SELECT count(*) FROM generate_series(1, 3) i WHERE status(id('q' || i)) = 'waiting_for_message'), 1::bigint, 'one waits on');

-- modes
CREATE FUNCTION modes(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.subscribe('q', input->>'mode');
	RETURN '"subscribed"';
EXCEPTION WHEN SQLSTATE 'RM005' THEN RETURN to_jsonb(sqlerrm);
END $$;
SELECT start('m1', 'modes', '{"mode": "broadcast"}');
SELECT start('m2', 'modes', '{"mode": "direct"}');
SELECT run();
SELECT is(romancy.get_result(id('m1')), to_jsonb('cannot subscribe to channel "q" as broadcast: it has subscribers as competing'::text), 'RM005 names channel and modes');
SELECT is(romancy.get_result(id('m2')), '"subscribed"', 'direct goes with any mode');
-- fault "a channel's mode pinned by finished instances"
SELECT romancy.cancel_workflow(id('q' || i)) FROM generate_series(1, 3) i;
SELECT run();
SELECT start('m3', 'modes', '{"mode": "broadcast"}');
SELECT run();
SELECT is(romancy.get_result(id('m3')), '"subscribed"', 'finished instances do not pin a mode');
SELECT start('m4', 'modes', '{"mode": "loud"}');
SELECT run();
SELECT throws_ok($$ SELECT romancy.get_result(id('m4')) $$, 'RM012', 'unknown channel mode "loud"');
SELECT is((SELECT count(*) FROM romancy.t_subscription), 0::bigint, 'subscriptions end with their instances');

-- twice the same, and unsubscribing
CREATE FUNCTION twice(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message; a jsonb;
BEGIN
	PERFORM romancy.subscribe('t');
	PERFORM romancy.subscribe('t');
	m := romancy.receive('t');
	a := m.data;
	PERFORM romancy.unsubscribe('t');
	PERFORM romancy.sleep('1 min');
	PERFORM romancy.subscribe('t');
	m := romancy.receive('t');
	RETURN jsonb_build_array(a, m.data);
END $$;
SELECT start('twice', 'twice');
SELECT run();
SELECT romancy.publish('t', '1'), romancy.publish('t', '2');
SELECT run();
SELECT romancy.publish('t', '3');
SELECT later();
SELECT romancy.publish('t', '4');
SELECT run();
SELECT is(romancy.get_result(id('twice')), '[1, 4]', 'subscribing twice changes nothing; unsubscribed, it gets nothing');

-- fault "publishes repeated by replay": publishing from a handler is recorded
CREATE FUNCTION talk(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE a bigint; b bigint;
BEGIN
	a := romancy.publish('talk', '"a"');
	PERFORM romancy.sleep('1 min');
	b := romancy.publish('talk', '"b"');
	PERFORM romancy.sleep('1 min');
	RETURN jsonb_build_array(a < b);
END $$;
SELECT start('heard', 'collect', '{"channel": "talk", "mode": "broadcast", "n": 3, "timeout": "1 hour"}');
SELECT run();
SELECT start('talk', 'talk');
SELECT later();
SELECT is(romancy.get_result(id('heard')), '["a", "b", "timeout"]', 'each publish once, whatever is replayed');
SELECT is((SELECT array_agg(activity_id ORDER BY seq) FROM romancy.get_history(id('talk')) WHERE event_type = 'MessagePublished'), ARRAY['publish_talk:1', 'publish_talk:2'], 'step ids');

-- from an activity: part of its transaction
CREATE FUNCTION says(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.publish('act', to_jsonb(romancy.attempt()));
	IF romancy.attempt() < 3 THEN RAISE EXCEPTION 'again'; END IF;
	RETURN NULL;
END $$;
CREATE FUNCTION actor(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('says'); END $$;
SELECT start('listens', 'collect', '{"channel": "act", "mode": "broadcast", "n": 2, "timeout": "1 hour"}');
SELECT run();
SELECT start('actor', 'actor');
SELECT later();
SELECT is(romancy.get_result(id('listens')), '[3, "timeout"]', 'an attempt that failed published nothing');

-- timeout
CREATE FUNCTION impatient(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message;
BEGIN
	BEGIN
		m := romancy.receive('i', '1 min');
		RETURN m.data;
	EXCEPTION WHEN SQLSTATE 'RM006' THEN
		PERFORM romancy.sleep('1 min');
		m := romancy.receive('i', '1 min');
		RETURN jsonb_build_array('late', m.data);
	END;
END $$;
SELECT start('i1', 'impatient');
SELECT run();
SELECT romancy.send_to(id('i1'), 'i', '1');
SELECT later();
SELECT is(romancy.get_result(id('i1')), '1', 'a message that is there wins over the timeout');
SELECT is(events(id('i1'), 'MessageTimeout') + events(id('i1'), 'ChannelMessageReceived'), 1::bigint, 'history has one of the two');
SELECT start('i2', 'impatient');
SELECT run();
SELECT is((SELECT count(*) FROM romancy.instances WHERE instance_id = id('i2') AND status = 'waiting_for_message'), 1::bigint, 'it waits');
SELECT later();
SELECT throws_ok($$ SELECT romancy.get_result(id('i2')) $$, 'RM006', 'no message came on channel "i" in time');
SELECT is(events(id('i2'), 'MessageTimeout'), 2::bigint, 'both timeouts are recorded, and the same on replay');

-- fault "a cancelled instance brought back by a message"
SELECT start('gone', 'collect', '{"channel": "g", "mode": "broadcast", "n": 1}');
SELECT run();
SELECT romancy.cancel_workflow(id('gone'));
SELECT run();
SELECT throws_ok($$ SELECT romancy.send_to(id('gone'), 'g', '1') $$, 'RM010');
SELECT romancy.publish('g', '1');
SELECT run();
SELECT is(status(id('gone')), 'cancelled', 'a message does not bring a cancelled instance back');

-- several at once
CREATE FUNCTION several(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text[]; a record; r jsonb[];
BEGIN
	h := ARRAY[romancy.spawn_receive('s1'), romancy.spawn_receive('s2'), romancy.spawn_timer('1 day')];
	SELECT * INTO a FROM romancy.await_any(h);
	r := romancy.await_all(h[1:2]);
	RETURN jsonb_build_array(a.handle, a.result->'data', r[1]->'data', r[2]->'data', r[1]->'channel');
END $$;
SELECT start('several', 'several');
SELECT run();
SELECT romancy.send_to(id('several'), 's2', '"second"');
SELECT run();
SELECT romancy.send_to(id('several'), 's1', '"first"');
SELECT run();
SELECT is(romancy.get_result(id('several')), '["receive_s2:1", "second", "first", "second", "s1"]', 'await_any and await_all of receives; the loser stays');
-- both have come: the one that loses has taken nothing, and the one that continues receives it
CREATE FUNCTION one_of(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE a record;
BEGIN
	IF input = 'null' THEN PERFORM romancy.receive('one_go'); END IF;
	SELECT * INTO a FROM romancy.await_any(ARRAY[romancy.spawn_receive('one_1'), romancy.spawn_receive('one_2')]);
	RETURN CASE WHEN input = 'null' THEN romancy.recur(a.result->'data') ELSE jsonb_build_array(input, a.result->'data') END;
END $$;
SELECT start('one_of', 'one_of', 'null');
SELECT run();
SELECT romancy.send_to(id('one_of'), 'one_' || c, to_jsonb(c)) FROM unnest(ARRAY['1', '2', 'go']) c;
SELECT run();
SELECT is(romancy.get_result(id('one_of')), '["1", "2"]', 'the loser of await_any takes nothing along');

-- events
CREATE FUNCTION waits(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE e romancy.event;
BEGIN
	e := romancy.wait_event('order.paid', '1 day');
	RETURN to_jsonb(e);
END $$;
SELECT start('e1', 'waits');
SELECT start('e2', 'waits');
SELECT run();
SELECT is(romancy.raise_event('order.paid', '/shop', '{"n": 1}', 'ev-1', 'subj', '2024-01-02T03:04:05Z', 'application/json', NULL, '{"x": "y"}', id('e1')), 'ev-1', 'raise_event gives the id');
SELECT run();
SELECT is(romancy.get_result(id('e1')), '{"id": "ev-1", "data": {"n": 1}, "time": "2024-01-02T03:04:05+00:00", "type": "order.paid", "source": "/shop", "subject": "subj",
	"extensions": {"x": "y"}, "data_binary": null, "specversion": "1.0", "datacontenttype": "application/json"}', 'the whole event');
SELECT is(status(id('e2')), 'waiting_for_message', 'one instance alone, when it is named');
SELECT romancy.raise_event('order.paid', '/shop', '{"n": 2}', 'ev-1');
SELECT run();
SELECT is(status(id('e2')), 'waiting_for_message', 'a repeated (source, id) is ignored');
SELECT romancy.raise_event('order.paid', '/other', '{"n": 3}', 'ev-1');
SELECT run();
SELECT is(romancy.get_result(id('e2'))->'data', '{"n": 3}', 'another source is another event');
SELECT lives_ok($$ SELECT romancy.raise_event('order.paid', '/s', instance_id => gen_random_uuid()), romancy.raise_event('order.paid', '/s', instance_id => id('e1')) $$, 'an unknown or finished instance is ignored');
SELECT start('e3', 'waits');
SELECT romancy.raise_event('order.paid', '/s', '4', instance_id => id('e3'));
SELECT run();
SELECT is(romancy.get_result(id('e3'))->'data', '4', 'a targeted event before the wait is kept');

-- on_event
CREATE FUNCTION welcome(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN input; END $$;
SELECT romancy.define_workflow('welcome', 'welcome(jsonb)', on_event => 'customer.new');
SELECT is(romancy.handle_cloudevent('{"specversion": "1.0", "id": "c1", "source": "/crm", "type": "customer.new", "data": {"name": "A"}, "tenant": "t1"}',
	'{"Content-Type": "application/cloudevents+json; charset=utf-8"}'), '{"status": 202}', 'structured mode');
SELECT is(romancy.handle_cloudevent('{"specversion": "1.0", "id": "c1", "source": "/crm", "type": "customer.new", "data": {"name": "A"}}'), '{"status": 202}', 'the same again');
SELECT is(romancy.handle_cloudevent('{"name": "B"}', '{"content-type": "application/json", "CE-ID": "c2", "ce-Source": "/crm", "ce-type": "customer.new", "ce-specversion": "1.0", "ce-note": "a%20b"}'),
	'{"status": 202}', 'binary mode, header names in any case');
SELECT run();
SELECT is((SELECT array_agg(output->>'name' ORDER BY output->>'name') FROM romancy.instances WHERE workflow = 'welcome'), ARRAY['A', 'B'], 'each started one instance, with the data as input');
SELECT is((SELECT array_agg((h.seq, h.event_type, h.data->'result'->'extensions')::text ORDER BY h.data->'result'->>'id' DESC) FROM romancy.instances i, romancy.get_history(i.instance_id) h
	WHERE i.workflow = 'welcome' AND h.seq = 1), ARRAY['(1,EventReceived,"{""note"": ""a b""}")', '(1,EventReceived,"{""tenant"": ""t1""}")'], 'the envelope is the first history row, extensions kept');
SELECT is(romancy.handle_cloudevent(NULL, '{"content-type": "image/png", "ce-id": "c3", "ce-source": "/crm", "ce-type": "pic", "ce-specversion": "1.0"}', '\x89504e47'), '{"status": 202}', 'binary data');
SELECT is((SELECT data_binary FROM romancy.t_message WHERE channel = 'pic'), '\x89504e47'::bytea, 'as it came');
SELECT start('e4', 'waits');
SELECT run();
SELECT romancy.handle_cloudevent(format('{"specversion": "1.0", "id": "c4", "source": "/s", "type": "order.paid", "data_base64": "AAEC", "datacontenttype": "application/octet-stream", "romancyinstanceid": "%s"}', id('e4')));
SELECT run();
SELECT is(romancy.get_result(id('e4'))->>'data_binary', '\x000102', 'data_base64, addressed by romancyinstanceid');
SELECT is(romancy.handle_cloudevent(body)->>'error', error, error) FROM (VALUES
	('{"specversion": "1.0", "id"', 'the body is not valid JSON'),
	('[]', 'the body is not a JSON object'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": "\u0000"}', 'the body has \u0000, which jsonb cannot hold'),
	('{"specversion": "1.0", "source": "s", "type": "t"}', 'required attribute "id" is missing'),
	('{"specversion": "1.0", "id": "", "source": "s", "type": "t"}', 'required attribute "id" is missing'),
	('{"specversion": "1.0", "id": "1", "type": "t"}', 'required attribute "source" is missing'),
	('{"specversion": "1.0", "id": "1", "source": "s"}', 'required attribute "type" is missing'),
	('{"id": "1", "source": "s", "type": "t"}', 'required attribute "specversion" is missing'),
	('{"specversion": "0.1", "id": "1", "source": "s", "type": "t"}', 'specversion "0.1" is not known'),
	('{"specversion": "1.0", "id": 1, "source": "s", "type": "t"}', 'attribute "id" is not a string'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": "soon"}', 'attribute "time" is not a timestamp'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": "%%"}', 'data_base64 is not base64'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "romancyinstanceid": "x"}', 'attribute "romancyinstanceid" is not a uuid'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "romancyinstanceid": 1}', 'attribute "romancyinstanceid" is not a uuid'),
	('{"specversion": "1.0", "id": null, "source": "s", "type": "t"}', 'required attribute "id" is missing'),
	('{"specversion": "1.0", "id": "1", "source": "", "type": "t"}', 'required attribute "source" is missing'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": ""}', 'required attribute "type" is missing'),
	('{"specversion": "", "id": "1", "source": "s", "type": "t"}', 'required attribute "specversion" is missing'),
	('{"specversion": "1.0", "id": "1", "source": {}, "type": "t"}', 'attribute "source" is not a string'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": []}', 'attribute "type" is not a string'),
	('{"specversion": 1.0, "id": "1", "source": "s", "type": "t"}', 'attribute "specversion" is not a string'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": true}', 'attribute "subject" is not a string'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "datacontenttype": 1}', 'attribute "datacontenttype" is not a string'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": 1}', 'attribute "time" is not a string'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": 1}', 'attribute "data_base64" is not a string'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "ext": {"a": 1}}', 'attribute "ext" is not a string'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "Ext": "a"}', '"Ext" is not an attribute''s name'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": "now"}', 'attribute "time" is not a timestamp'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": 1, "data_base64": "AAEC"}', 'the event has both data and data_base64'),
	('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "datacontenttype": "application/json", "data_base64": "AAEC"}', 'the data is not valid JSON'),
	(format('{"specversion": "1.0", "id": "1", "source": "s", "type": "%s"}', repeat('t', 129)), 'attribute "type" has more than 128 bytes'),
	(format('{"specversion": "1.0", "id": "1", "source": "%s", "type": "t"}', repeat('s', 1001)), 'attribute "source" or "id" has more than 1000 bytes'),
	(format('{"specversion": "1.0", "id": "%s", "source": "s", "type": "t"}', repeat('1', 1001)), 'attribute "source" or "id" has more than 1000 bytes'),
	(format('{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": "%s"}', repeat('x', 1048577)), 'the data has more than 1048576 bytes'),
	(repeat('x', 1200000), 'the body has more than 1048576 bytes'),
	('', 'the body is not valid JSON'),
	(NULL, 'the body is empty')
) v (body, error);
SELECT is(romancy.handle_cloudevent(body, headers, body_binary), jsonb_build_object('status', 400, 'error', error, 'retryable', false), 'by headers: ' || error)
FROM (SELECT body, headers || extra AS headers, body_binary, error FROM (SELECT '{"content-type": "application/json", "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0"}'::jsonb AS headers) g, (VALUES
	('1', '{"ce-id": ""}'::jsonb, NULL::bytea, 'required attribute "id" is missing'),
	('1', '{"ce-source": ""}', NULL, 'required attribute "source" is missing'),
	('1', '{"ce-type": null}', NULL, 'required attribute "type" is missing'),
	('1', '{"ce-specversion": 1}', NULL, 'required attribute "specversion" is missing'),
	('1', '{"ce-specversion": "2"}', NULL, 'specversion "2" is not known'),
	('1', '{"ce-time": "soon"}', NULL, 'attribute "time" is not a timestamp'),
	('1', '{"ce-subject": "%ff"}', NULL, 'attribute "subject" is not valid text'),
	('1', '{"ce-romancyinstanceid": "x"}', NULL, 'attribute "romancyinstanceid" is not a uuid'),
	('1', '{"ce-a_b": "x"}', NULL, '"a_b" is not an attribute''s name'),
	('nonsense', '{}', NULL, 'the body is not valid JSON'),
	('"\u0000"', '{}', NULL, 'the body has \u0000, which jsonb cannot hold'),
	(NULL, '{}', '\x00ff', 'the body is not valid JSON'),
	(repeat('x', 1048577), '{"content-type": "text/plain"}', NULL, 'the body has more than 1048576 bytes'),
	(NULL, '{"content-type": "image/png"}', repeat('x', 1048577)::bytea, 'the data has more than 1048576 bytes'),
	('[]', '{"content-type": "application/cloudevents-batch+json"}', NULL, 'batches of events are not supported')
) v (body, extra, body_binary, error)) bad;
SELECT is(romancy.handle_cloudevent('{}', '[]')->>'error', 'the headers are not a JSON object', 'headers that are none');
SELECT is((SELECT count(*) FROM romancy.t_message WHERE event->>'source' = 's') + (SELECT count(*) FROM romancy.t_received_event WHERE source = 's'), 0::bigint, 'what is refused leaves nothing, nor its id');
SELECT is(romancy.handle_cloudevent('nonsense'), '{"status": 400, "error": "the body is not valid JSON", "retryable": false}', 'the answer says that it is not to be repeated');

-- header values may be quoted strings (RFC 7230), and are percent-encoded; a time is one of RFC 3339
SELECT is(romancy.handle_cloudevent('{"q": 1}', '{"content-type": "application/json", "ce-id": "\"q \\\"1\\\"\"", "ce-source": "\"/quo%20ted\"", "ce-type": "quoted", "ce-specversion": "\"1.0\"", "ce-time": "2020-01-01t01:00:00.5+01:00"}'), '{"status": 202}', 'quoted headers');
SELECT is((SELECT event FROM romancy.t_message WHERE channel = 'quoted') - 'datacontenttype', '{"id": "q \"1\"", "source": "/quo ted", "type": "quoted", "specversion": "1.0", "time": "2020-01-01T00:00:00.5+00:00"}'::jsonb, 'are taken out of their quotes');
SELECT is(romancy.handle_cloudevent('{}', '{"ce-id": "a%00b", "ce-source": "/q", "ce-type": "quoted", "ce-specversion": "1.0"}')->>'error', 'attribute "id" is not valid text', 'a zero byte in a header');
SELECT is(romancy.handle_cloudevent(jsonb_build_object('specversion', '1.0', 'id', 't' || n, 'source', '/time', 'type', 'timed', 'time', t)::text)->>'error', CASE WHEN good THEN NULL ELSE 'attribute "time" is not a timestamp' END, 'time: ' || t)
FROM (VALUES ('2020-01-01T00:00:00Z', true), ('2020-01-01t00:00:00z', true), ('2020-01-01T00:00:00.123456-08:00', true), ('2020-01-01T00:00:00', false), ('2020-01-01T00:00:00.Z', false), ('2020-01-01T00:00Z', false),
	('2020-01-01T00:00:00 Europe/Berlin', false), ('2020-01-01 00:00:00Z', false), ('2020-13-01T00:00:00Z', false), ('2020-01-01T00:00:00+0100', false), ('Tomorrow', false)) v (t, good), LATERAL md5(t) n;
SELECT throws_ok(format('SELECT romancy.raise_event(%L, %L, id => %L)', 'long', source, id), 'RM012', NULL, 'a long source or id: it would not fit into an index')
FROM (VALUES ('/s', repeat('x', 1001)), (repeat('x', 1001), '1')) v (source, id);
SELECT lives_ok(format('SELECT romancy.raise_event(%L, %L, id => %L)', 'long', repeat('x', 1000), repeat('x', 1000)), 'the longest');

-- events that start workflows and have no subscriber are kept for message_retention, with their ids, and deleted after it
SELECT count(romancy.raise_event('customer.new', '/kept', to_jsonb(i), i::text)) AS raised FROM generate_series(1, 25) i;
SELECT romancy.run_sweep('channel_cleanup') AS swept;
SELECT is((SELECT count(*) FROM romancy.t_received_event WHERE source = '/kept') + (SELECT count(*) FROM romancy.t_message WHERE event->>'source' = '/kept'), 50::bigint, 'young events are kept');
UPDATE romancy.t_message SET published_at = published_at - current_setting('romancy.message_retention')::interval - interval '1 min' WHERE event->>'source' = '/kept';
UPDATE romancy.t_received_event SET received_at = received_at - current_setting('romancy.message_retention')::interval - interval '1 min' WHERE source = '/kept';
SELECT romancy.publish('young', '1') > 0 AS young;
SELECT romancy.run_sweep('channel_cleanup') AS swept;
SELECT is((SELECT count(*) FROM romancy.t_received_event WHERE source = '/kept') + (SELECT count(*) FROM romancy.t_message WHERE event->>'source' = '/kept'), 0::bigint, 'old ones are deleted, message and id');
SELECT is((SELECT count(*) FROM romancy.t_message WHERE channel = 'young'), 1::bigint, 'a young one is not');
SELECT run();
SELECT is((SELECT count(*) FROM romancy.instances WHERE workflow = 'welcome' AND status = 'completed' AND jsonb_typeof(output) = 'number'), 25::bigint, 'each of them started its workflow, once');

-- fault "a start that happens though its transaction rolled back": an event rolled back leaves nothing, and may come again
SAVEPOINT rolled_back;
SELECT romancy.raise_event('customer.new', '/back', '"back"', 'r1');
ROLLBACK TO rolled_back;
SELECT run();
SELECT is((SELECT count(*) FROM romancy.instances WHERE workflow = 'welcome' AND output = '"back"'), 0::bigint, 'rolled back, it started nothing');
SELECT romancy.raise_event('customer.new', '/back', '"back"', 'r1');
SELECT run();
SELECT is((SELECT count(*) FROM romancy.instances WHERE workflow = 'welcome' AND output = '"back"'), 1::bigint, 'nor was it noted as received');

SELECT is((SELECT array_agg(activity_id) FROM romancy.get_history(id('e3')) WHERE event_type = 'EventReceived'), ARRAY['receive_order.paid:1'], 'the step id of wait_event');

-- a message that live subscribers have still to get does not expire; one that no instance took does
CREATE FUNCTION sleeper(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message; r jsonb := '[]';
BEGIN
	IF input->>'mode' <> 'direct' THEN
		PERFORM romancy.subscribe('old_' || (input->>'mode'), input->>'mode');
	END IF;
	PERFORM romancy.sleep('1 min');
	m := romancy.receive('old_' || (input->>'mode'), '1 min');
	RETURN m.data;
EXCEPTION WHEN SQLSTATE 'RM006' THEN RETURN '"expired"';
END $$;
SELECT start('old_' || mode, 'sleeper', jsonb_build_object('mode', mode)) FROM unnest(ARRAY['broadcast', 'competing', 'direct']) mode;
SELECT run();
SELECT romancy.publish('old_broadcast', '1') > 0 AND romancy.publish('old_competing', '1') > 0 AND romancy.send_to(id('old_direct'), 'old_direct', '1') > 0 AS sent;
UPDATE romancy.t_message SET published_at = published_at - current_setting('romancy.message_retention')::interval - interval '1 min' WHERE channel LIKE 'old\_%';
SELECT romancy.run_sweep('channel_cleanup') AS swept FROM generate_series(1, 3);
SELECT later();
SELECT is((SELECT array_agg(romancy.get_result(id('old_' || mode))) FROM unnest(ARRAY['broadcast', 'competing', 'direct']) mode), ARRAY['1', '"expired"', '1']::jsonb[], 'a delivery never expires, a competing message that nobody took does');

-- the value of a spawned receive; an activity id that is used twice
CREATE FUNCTION keys(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m jsonb;
BEGIN
	m := romancy.await(romancy.spawn_receive('keys'));
	RETURN (SELECT jsonb_agg(k ORDER BY k) FROM jsonb_object_keys(m) k);
END $$;
CREATE FUNCTION same_id(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message;
BEGIN
	m := romancy.receive('keys', NULL, 'same');
	m := romancy.receive('keys', NULL, 'same');
	RETURN '"no error"';
END $$;
SELECT start('keys', 'keys'), start('same_id', 'same_id');
SELECT run();
SELECT romancy.send_to(id('keys'), 'keys', '1', '{"m": 1}') > 0 AND romancy.send_to(id('same_id'), 'keys', '1') > 0 AND romancy.send_to(id('same_id'), 'keys', '2') > 0 AS sent;
SELECT run();
SELECT is(romancy.get_result(id('keys')) @> '["id", "channel", "data", "metadata", "published_at"]', true, 'await of a spawned receive gives the whole message');
SELECT is((SELECT error->>'sqlstate' FROM romancy.instances WHERE instance_id = id('same_id')), 'RM003', 'an activity id that is given twice');
SELECT romancy.terminate_workflow(id('same_id'));
SELECT run();

-- a wait_event that times out
CREATE FUNCTION hasty(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN to_jsonb(romancy.wait_event('never.comes', '1 min', 'my wait'));
EXCEPTION WHEN SQLSTATE 'RM006' THEN RETURN to_jsonb(SQLERRM);
END $$;
SELECT start('hasty', 'hasty');
SELECT later();
SELECT is((SELECT array_agg(activity_id ORDER BY seq) FROM romancy.get_history(id('hasty')) WHERE event_type = 'MessageTimeout'), ARRAY['my wait'], 'wait_event under a given id times out, recorded');
SELECT is(status(id('hasty')), 'completed', 'and its handler may go on');

-- fault "a delivery split over commits that left an instance stuck": the turn that takes a message dies after it, and it is there again
CREATE FUNCTION dies(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE m romancy.message;
BEGIN
	PERFORM romancy.subscribe('dies', 'competing');
	m := romancy.receive('dies');
	RETURN m.data;
END $$;
SELECT start('dies', 'dies');
SELECT run();
SELECT romancy.publish('dies', '1') > 0 AS published;
SAVEPOINT half_way;
SELECT run();
SELECT is(romancy.get_result(id('dies')), '1', 'taken');
ROLLBACK TO half_way;
SELECT is(status(id('dies')) || ' ' || events(id('dies'), 'ChannelMessageReceived') || ' ' || (SELECT count(*) FROM romancy.t_message WHERE channel = 'dies'), 'waiting_for_message 0 1', 'rolled back as a whole: it waits, the message is there');
SELECT run();
SELECT is(romancy.get_result(id('dies')), '1', 'and is received again');

-- every call that sends or subscribes is a step of the name that the reference gives it, once, whatever is replayed
CREATE FUNCTION steps(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.subscribe('st'), romancy.publish('st2', '1'), romancy.send_to((input->>'to')::uuid, 'c', '1'), romancy.join_group('st');
	PERFORM romancy.raise_event('st.event', '/st', '1', 'st1');
	PERFORM romancy.handle_cloudevent('{"specversion": "1.0", "id": "st2", "source": "/st", "type": "st.event"}');
	PERFORM romancy.sleep('1 min');
	PERFORM romancy.leave_group('st'), romancy.unsubscribe('st');
	PERFORM romancy.sleep('1 min');
	RETURN NULL;
END $$;
SELECT start('st_to', 'collect', '{"channel": "c", "n": 2}');
SELECT start('steps', 'steps', jsonb_build_object('to', id('st_to')));
SELECT later();
SELECT is((SELECT array_agg(replace(activity_id, id('st_to')::text, '(to)') ORDER BY seq) FROM romancy.get_history(id('steps')) WHERE activity_id !~ '^sleep'), ARRAY['subscribe_st:1', 'publish_st2:1',
	'send_to_(to)_c:1', 'join_group_st:1', 'raise_event_st.event:1', 'handle_cloudevent:1', 'leave_group_st:1', 'unsubscribe_st:1'], 'step ids of all calls');
SELECT is((SELECT count(*) FROM romancy.t_message WHERE channel IN ('st2', 'st.event')) + (SELECT count(*) FROM romancy.t_message WHERE mailbox = id('st_to')) + events(id('st_to'), 'ChannelMessageReceived'), 4::bigint, 'each sent once');
SELECT romancy.cancel_workflow(id('st_to'));
SELECT run();

-- groups
CREATE FUNCTION member(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message;
BEGIN
	PERFORM romancy.join_group('team');
	PERFORM romancy.join_group('team');
	m := romancy.receive('leave');
	PERFORM romancy.leave_group('team');
	m := romancy.receive('end');
	RETURN (SELECT to_jsonb(array_agg(g)) FROM romancy.group_members('team') g);
END $$;
SELECT start('g1', 'member');
SELECT start('g2', 'member');
SELECT run();
SELECT is((SELECT array_agg(g) FROM romancy.group_members('team') g), ARRAY[id('g1'), id('g2')], 'members');
SELECT romancy.send_to(id('g1'), 'leave');
SELECT run();
SELECT is((SELECT array_agg(g) FROM romancy.group_members('team') g), ARRAY[id('g2')], 'one left');
SELECT romancy.send_to(id('g1'), 'end');
SELECT run();
SELECT is(romancy.get_result(id('g1')), to_jsonb(ARRAY[id('g2')]), 'group_members in a handler');
SELECT romancy.terminate_workflow(id('g2'));
SELECT run();
SELECT is((SELECT count(*) FROM romancy.group_members('team')), 0::bigint, 'membership ends with the instance');

-- recur: what was not received goes on
CREATE FUNCTION again(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message;
BEGIN
	PERFORM romancy.subscribe('ra');
	m := romancy.receive('ra');
	IF (input->>'n')::int > 1 THEN
		PERFORM romancy.recur(jsonb_build_object('n', (input->>'n')::int - 1, 'got', input->'got' || m.data));
	END IF;
	RETURN input->'got' || m.data;
END $$;
SELECT start('again', 'again', '{"n": 3, "got": []}');
SELECT run();
SELECT romancy.publish('ra', to_jsonb(i)) FROM generate_series(1, 3) i;
SELECT run();
SELECT is(romancy.get_result(id('again')), '[1, 2, 3]', 'undelivered messages and the subscription move over with recur');

-- a failed instance that is retried has its subscription again
CREATE TABLE switch AS SELECT false AS works;
CREATE FUNCTION breaks(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF NOT (SELECT works FROM switch) THEN RAISE EXCEPTION 'broken'; END IF;
	RETURN NULL;
END $$;
SELECT romancy.define_activity('breaks', 'breaks(jsonb)', retry => '{"max_attempts": 1}');
CREATE FUNCTION fragile(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message;
BEGIN
	PERFORM romancy.subscribe('fr');
	PERFORM romancy.activity('breaks');
	m := romancy.receive('fr');
	RETURN m.data;
END $$;
SELECT start('fragile', 'fragile');
SELECT run();
UPDATE switch SET works = true;
SELECT romancy.retry_workflow(id('fragile'));
SELECT run();
SELECT romancy.publish('fr', '1');
SELECT run();
SELECT is(romancy.get_result(id('fragile')), '1', 'after retry_workflow it is subscribed as before');

-- bad input, and where it may not be called
SELECT throws_ok($$ SELECT romancy.send_to(gen_random_uuid(), 'c', '1') $$, 'RM002');
SELECT throws_ok($$ SELECT romancy.send_to(id('again'), 'c', '1') $$, 'RM010');
SELECT throws_ok($$ SELECT romancy.publish('', '1') $$, 'RM012');
SELECT throws_ok($$ SELECT romancy.publish(repeat('x', 129), '1') $$, 'RM012');
SELECT throws_ok($$ SELECT romancy.publish(NULL, '1') $$, '22004');
SELECT throws_ok($$ SELECT romancy.publish('c', to_jsonb(repeat('x', 1100000))) $$, 'RM011');
SELECT throws_ok($$ SELECT romancy.publish('c', NULL, NULL, repeat('x', 1100000)::bytea) $$, 'RM011');
SELECT throws_ok(format('SELECT romancy.%s', call), 'RM004', NULL, call)
	FROM unnest(ARRAY['subscribe(''c'')', 'unsubscribe(''c'')', 'receive(''c'')', 'wait_event(''c'')', 'spawn_receive(''c'')', 'join_group(''g'')', 'leave_group(''g'')']) call;
SELECT is((SELECT count(*) FROM romancy.t_delivery) + (SELECT count(*) FROM romancy.t_message WHERE kind = 'd'), 0::bigint, 'nothing is left of what has ended');

-- Where few messages are expected, an index over xids must not tempt the planner to sort all open ones to find
-- the oldest: it can not serve a query that does not ask for an xid, even where no other could.
CREATE FUNCTION plan_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text; lines text := '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
		lines := lines || line || E'\n';
	END LOOP;
	RETURN lines;
END $$;
DROP INDEX romancy.t_message_open, romancy.t_message_published;
SET LOCAL enable_seqscan = off;
SELECT unalike(plan_of($$ SELECT m.id FROM romancy.t_message m WHERE m.namespace = 1 AND m.channel = 'c' AND m.kind = 'o'
	AND m.id < 9 ORDER BY m.id LIMIT 1 FOR UPDATE SKIP LOCKED $$), '%t_message_xid%', 'the oldest open message is not looked for by xid');
SELECT * FROM finish();
ROLLBACK;
