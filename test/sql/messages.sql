-- Messages, events and groups: the normal ways, by drain, and what is refused, with its error, detail and hint.
-- All in one transaction, so that nothing of it reaches a worker.
-- It would catch a call that takes what it cannot deliver, and an error without a hint.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
-- what other tests left behind is out of sight
DELETE FROM romancy.t_instance;
CREATE SCHEMA msg;
SET LOCAL search_path = msg, public;
CREATE FUNCTION hear(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message; r jsonb := '[]';
BEGIN
	IF input ? 'mode' THEN PERFORM romancy.subscribe('msg.' || (input->>'channel'), input->>'mode'); END IF;
	FOR i IN 1 .. coalesce((input->>'n')::int, 1) LOOP
		m := romancy.receive('msg.' || (input->>'channel'), (input->>'timeout')::interval);
		r := r || coalesce(m.data, 'null');
	END LOOP;
	RETURN r;
END $$;
CREATE FUNCTION start(name text, options jsonb, workflow text DEFAULT 'hear') RETURNS void LANGUAGE sql AS $$
	SELECT romancy.start_workflow(workflow, options || jsonb_build_object('name', name)) $$;
CREATE FUNCTION id(name text) RETURNS uuid LANGUAGE sql AS $$ SELECT instance_id FROM romancy.instances WHERE input->>'name' = $1 $$;
CREATE VIEW shown AS SELECT input->>'name' AS name, status, coalesce(output, error->'sqlstate') AS output, error->>'message' AS message
	FROM romancy.instances WHERE input ? 'name' AND workflow IN ('hear', 'talk', 'member', 'waits', 'calls') ORDER BY created_at, instance_id;

-- broadcast: to each who has subscribed
SELECT romancy.publish('msg.news', '"nobody hears"') > 0 AS published;
SELECT start(n, '{"channel": "news", "mode": "broadcast", "n": 2}') FROM unnest(ARRAY['ann', 'bob']) n;
CALL romancy.drain();
SELECT romancy.publish('msg.news', '1') > 0 AS published;
SELECT channel, mode, depth, subscribers, waiting FROM romancy.channels WHERE channel LIKE 'msg.%';
SELECT romancy.publish('msg.news', '2') > 0 AS published;
CALL romancy.drain();
SELECT * FROM shown;

-- competing: to one, and what was published before
SELECT count(romancy.publish('msg.jobs', to_jsonb(i))) FROM generate_series(1, 3) i;
SELECT start(n, '{"channel": "jobs", "mode": "competing"}') FROM unnest(ARRAY['cid', 'dan', 'eve', 'fay']) n;
CALL romancy.drain();
SELECT count(*) FILTER (WHERE status = 'completed'), jsonb_agg(output ORDER BY output) FILTER (WHERE status = 'completed') FROM shown WHERE name IN ('cid', 'dan', 'eve', 'fay');
SELECT count(*) AS waits FROM romancy.waiting WHERE name = 'msg.jobs';

-- rolled back, it never was
SAVEPOINT a;
SELECT romancy.publish('msg.jobs', '4') > 0 AS published;
ROLLBACK TO a;
CALL romancy.drain();
SELECT count(*) AS waits FROM romancy.waiting WHERE name = 'msg.jobs';

-- direct, before the wait; metadata and binary data
SELECT start('gil', '{"channel": "mail", "n": 2}');
SELECT romancy.send_to(id('gil'), 'msg.mail', '{"k": "v"}', '{"from": "us"}', '\x00ff') > 0 AS sent;
SELECT romancy.send_to(id('gil'), 'msg.mail') > 0 AS sent;
CALL romancy.drain();
SELECT * FROM shown WHERE name = 'gil';
SELECT event_type, activity_id, (data->'result') - ARRAY['id', 'publisher', 'published_at'] AS message FROM romancy.get_history(id('gil')) WHERE event_type LIKE '%Message%';

-- the timeout
SELECT start('hal', '{"channel": "never", "timeout": "1 min"}');
CALL romancy.drain(advance_time => true);
SELECT * FROM shown WHERE name = 'hal';

-- an event, and its repetition
CREATE FUNCTION waits(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE e romancy.event;
BEGIN
	e := romancy.wait_event('msg.paid');
	RETURN to_jsonb(e);
END $$;
SELECT start('ida', '{}', 'waits');
CALL romancy.drain();
SELECT romancy.raise_event('msg.paid', '/shop', '{"n": 1}', 'e1');
SELECT romancy.raise_event('msg.paid', '/shop', '{"n": 2}', 'e1');
CALL romancy.drain();
SELECT * FROM shown WHERE name = 'ida';
SELECT romancy.handle_cloudevent('{"specversion": "1.0", "id": "e2", "source": "/shop", "type": "msg.paid"}');
SELECT romancy.handle_cloudevent('{"specversion": "1.0", "id": "e3", "source": "/shop"}');
SELECT romancy.handle_cloudevent('{"specversion"');

-- groups
CREATE FUNCTION member(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.join_group('msg.team');
	PERFORM romancy.receive('msg.go');
	RETURN to_jsonb((SELECT count(*) FROM romancy.group_members('msg.team')));
END $$;
SELECT start(n, '{}', 'member') FROM unnest(ARRAY['jim', 'kim']) n;
CALL romancy.drain();
SELECT count(*) AS members FROM romancy.group_members('msg.team');
SELECT romancy.send_to(id('jim'), 'msg.go') > 0 AS sent;
CALL romancy.drain();
SELECT * FROM shown WHERE name = 'jim';
SELECT count(*) AS members FROM romancy.group_members('msg.team');

-- what is refused, of a handler
CREATE FUNCTION calls(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE r jsonb := '[]'; c text; m text; d text; h text; s text;
BEGIN
	FOR c IN SELECT jsonb_array_elements_text(input->'calls') LOOP
		BEGIN
			EXECUTE 'SELECT ' || c;
			r := r || to_jsonb(c);
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
			r := r || to_jsonb(concat_ws(' | ', s, m, nullif(d, ''), nullif(h, '')));
		END;
	END LOOP;
	RETURN r;
END $$;
SELECT start('lou', jsonb_build_object('calls', ARRAY[
	$$romancy.subscribe('msg.jobs', 'broadcast')$$, $$romancy.wait_event('msg.jobs')$$, $$romancy.subscribe('msg.x', 'loud')$$, $$romancy.subscribe('')$$, $$romancy.subscribe(NULL)$$,
	$$romancy.receive('msg.x', '1 hour')$$, $$romancy.wait_event('msg.y', '1 hour')$$, $$romancy.receive('')$$, $$romancy.join_group('')$$, $$romancy.spawn_receive(repeat('x', 129))$$]), 'calls');
CALL romancy.drain(advance_time => true);
SELECT jsonb_array_elements_text(output) AS refused FROM shown WHERE name = 'lou';

-- and of a session
SELECT romancy.publish(NULL);
SELECT romancy.publish('');
SELECT romancy.publish(repeat('x', 129));
SELECT romancy.publish('msg.x', to_jsonb(repeat('x', 1100000)));
SELECT romancy.publish('msg.x', NULL, to_jsonb(repeat('x', 1100000)));
SELECT romancy.publish('msg.x', NULL, NULL, repeat('x', 1100000)::bytea);
SELECT romancy.send_to('00000000-0000-7000-8000-000000000000', 'msg.x');
DO $$ BEGIN PERFORM romancy.send_to(msg.id('ann'), 'msg.x');
	EXCEPTION WHEN SQLSTATE 'RM010' THEN RAISE EXCEPTION '%', replace(sqlerrm, msg.id('ann')::text, '(ann)') USING ERRCODE = 'RM010'; END $$;
SELECT romancy.subscribe('msg.x');
SELECT romancy.receive('msg.x');
SELECT romancy.unsubscribe('msg.x');
SELECT romancy.spawn_receive('msg.x');
SELECT romancy.wait_event('msg.x');
SELECT romancy.join_group('msg.x');
SELECT romancy.leave_group('msg.x');
SELECT romancy.raise_event('', '/s');
SELECT romancy.raise_event('t', '');
SELECT romancy.raise_event('t', '/s', id => '');
SELECT romancy.raise_event('t', '/s', extensions => '[]');
DO $$ BEGIN SET LOCAL transaction_read_only = on; PERFORM romancy.publish('msg.x'); END $$;

-- of what has ended nothing is left
SELECT count(romancy.terminate_workflow(instance_id)) FROM romancy.instances WHERE finished_at IS NULL AND workflow IN ('hear', 'member');
CALL romancy.drain();
SELECT count(*) FROM romancy.t_subscription s WHERE channel LIKE 'msg.%' AND mode <> 'kept';
ROLLBACK;
