-- The scenarios as handlers: what history each library has to write. The same programs stand in scenarios.py,
-- scenarios.mjs and ../go/internal/scenarios/main.go. Run by every role of the test, in its own namespace.
CREATE FUNCTION sq(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(i::int * i::int); END $$;
CREATE FUNCTION boom(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
	RETURN romancy.raise_terminal('declined', error_code => 'Declined'); END $$;
CREATE FUNCTION book(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '{"seat": 7}'; END $$;
CREATE FUNCTION undo(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;

-- steps, one after the other, and what is recorded
CREATE FUNCTION steps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE r jsonb;
BEGIN
	r := romancy.activity('sq', i);
	PERFORM romancy.set_value('stage', '"squared"');
	PERFORM romancy.set_labels('{"kind": "steps"}');
	PERFORM romancy.workflow_now(), romancy.workflow_random(), romancy.workflow_uuid();
	IF romancy.patched('v2') THEN
		PERFORM romancy.publish('news', r);
	END IF;
	PERFORM romancy.sleep('20 ms');
	RETURN romancy.activity('sq', r, 'named');
END $$;

-- another workflow, as a child
-- (99 waits, until it is cancelled)
CREATE FUNCTION kid(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF i = '99' THEN
		PERFORM romancy.receive('never');
	END IF;
	RETURN romancy.activity('sq', i);
END $$;

-- in parallel: activities, children, canvases, timers
CREATE FUNCTION parallel(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE r jsonb[]; c jsonb; k jsonb;
BEGIN
	r := romancy.await_all(ARRAY[romancy.spawn('sq', '2'), romancy.spawn('sq', '3'), romancy.spawn_workflow('kid', '5')]);
	c := romancy.canvas(romancy.chain(romancy.task('sq', '2'), romancy.task('sq')));
	PERFORM romancy.await_any(ARRAY[romancy.spawn_timer('20 ms')]);
	BEGIN
		PERFORM romancy.await_any(ARRAY[romancy.spawn_receive('never')], '20 ms');
	EXCEPTION WHEN SQLSTATE 'RM006' THEN
		NULL;
	END;
	k := romancy.call_workflow('kid', '7');
	RETURN jsonb_build_array(to_jsonb(r), c, k);
END $$;

-- an error that nothing catches: what was done is undone, what was published stays
CREATE FUNCTION saga(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('book', i);
	PERFORM romancy.publish('news', '"before"');
	PERFORM romancy.register_compensation('undo', '"by hand"');
	RAISE EXCEPTION 'no' USING ERRCODE = 'XX123';
END $$;

-- an activity's error that is caught, and undone by hand
CREATE FUNCTION caught(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('book', i);
	PERFORM romancy.activity('boom', i);
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	RETURN to_jsonb(romancy.compensate());
END $$;

-- channels, groups, messages, a timeout
CREATE FUNCTION messages(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message;
BEGIN
	PERFORM romancy.subscribe('chat');
	PERFORM romancy.join_group('crowd');
	BEGIN
		m := romancy.receive('nothing', '20 ms');
	EXCEPTION WHEN SQLSTATE 'RM006' THEN
		m := romancy.receive('go');
	END;
	PERFORM romancy.unsubscribe('chat');
	PERFORM romancy.leave_group('crowd');
	RETURN m.data;
END $$;

-- a new instance with another input
CREATE FUNCTION generations(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF i::int < 2 THEN
		PERFORM romancy.recur(to_jsonb(i::int + 1));
	END IF;
	RETURN i;
END $$;

-- other instances, and events
CREATE FUNCTION others(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE id uuid;
BEGIN
	PERFORM romancy.raise_event('shop.paid', '/shop', '{"n": 1}');
	id := romancy.start_workflow('kid', '99');
	PERFORM romancy.cancel_workflow(id, 'too late');
	RETURN '"started"';
END $$;

-- requests that the server sends, and an event that goes out; the input is a server's URL
CREATE FUNCTION web(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE r jsonb;
BEGIN
	r := romancy.http('post', (i #>> '{}') || '/status/201', '{"a": 1}', '{"x-a": "b"}', '30 s');
	PERFORM romancy.send_event('shop.paid', '/shop', r->'body', ordering_key => 'o-1');
	BEGIN
		PERFORM romancy.http('GET', (i #>> '{}') || '/status/404');
	EXCEPTION WHEN SQLSTATE 'RM007' THEN
		RETURN jsonb_build_array(r->'status', r->'body');
	END;
	RETURN NULL;
END $$;

-- what has options: ids of the program's own, a limit of what runs at once, instants, bytes
CREATE FUNCTION more(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m jsonb; c jsonb; id uuid; b romancy.message;
BEGIN
	m := romancy.map('sq', '[1, 2, 3, 4, 5]', 2);
	PERFORM romancy.sleep('10 ms', 'nap');
	PERFORM romancy.sleep_until('2001-01-01 00:00:00Z', 'past');
	BEGIN PERFORM romancy.receive('nothing', '10 ms', 'ear'); EXCEPTION WHEN SQLSTATE 'RM006' THEN NULL; END;
	BEGIN PERFORM romancy.wait_event('no.such', '10 ms', 'eye'); EXCEPTION WHEN SQLSTATE 'RM006' THEN NULL; END;
	PERFORM romancy.raise_event('shop.seen', '/shop', '{"n": 1}', id => 'e-' || romancy.instance_id(), subject => 's', event_time => '2026-01-01 00:00:00Z');
	id := romancy.start_workflow('kid', '99', start_at => '2126-01-01 00:00:00Z', priority => 3, labels => '{"l": 1}');
	PERFORM romancy.cancel_workflow(id, 'too early');
	c := romancy.call_workflow('kid', '3', 'own_kid', 'abandon', labels => '{"l": 2}', priority => 2);
	PERFORM romancy.send_to(romancy.instance_id(), 'self', metadata => '{"m": 1}', data_binary => '\x00ff');
	b := romancy.receive('self');
	RETURN jsonb_build_array(m, c, get_byte(b.data_binary, 1), romancy.scheduled_at() IS NULL, romancy.workflow_name());
END $$;

-- requests beside an activity, in parallel; the input is a server's URL
CREATE FUNCTION web_parallel(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE r jsonb[];
BEGIN
	r := romancy.await_all(ARRAY[romancy.spawn_http('POST', (i #>> '{}') || '/status/201', '{"a": 1}'), romancy.spawn('sq', '3'),
		romancy.spawn_http('GET', (i #>> '{}') || '/status/202', timeout => '30 s', activity_id => 'mine')]);
	RETURN jsonb_build_array(r[1]->'status', r[2], r[3]->'status');
END $$;

-- names that mean something to a shell, to SQL, to a format, to JavaScript; activity and workflow are of the program. The input: the name.
CREATE FUNCTION hostile(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE n text := i #>> '{}'; a jsonb; h jsonb[]; m romancy.message; k jsonb;
BEGIN
	a := romancy.activity(n, '3');
	h := romancy.await_all(ARRAY[romancy.spawn(n, '2'), romancy.spawn(n, '4')]);
	PERFORM romancy.subscribe(n);
	PERFORM romancy.join_group(n);
	PERFORM romancy.publish(n, '"x"');
	m := romancy.receive(n);
	PERFORM romancy.set_value(n, a);
	PERFORM romancy.set_labels(jsonb_build_object(n, n));
	IF romancy.patched(n) THEN
		k := romancy.call_workflow('kid', '3', 'kid of ' || n);
	END IF;
	PERFORM romancy.register_compensation(n, '1');
	RETURN jsonb_build_array(n, a, h, m.data, k);
END $$;

-- the last thing in the code is a command that nothing waits for
CREATE FUNCTION leaves(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.publish('news', '1');
	PERFORM romancy.set_value('left', 'true');
	RETURN NULL;
END $$;
