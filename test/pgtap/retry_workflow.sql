-- retry_workflow: which steps run again. Replay goes as far as the place where the
-- failed step raised its error in the handler; what the handler did after that runs again, what
-- ran before, or beside it, does not. It would catch a retry that pauses with RM003
-- because the handler takes another way now, one that waits for work that ended
-- with the instance, one that has to be repeated for each failure of a map(), and one
-- that fails again at once with the error in history.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

CREATE TABLE mended (what text);
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES ($1 #>> '{}'); RETURN $1; END $$;
CREATE FUNCTION breaks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM mended WHERE what = $1 #>> '{}') THEN RAISE EXCEPTION '% is broken', $1 #>> '{}'; END IF;
	INSERT INTO effect (what) VALUES ($1 #>> '{}');
	RETURN $1;
END $$;
SELECT romancy.define_activity('once', 'breaks(jsonb)', retry => '{"max_attempts": 1}');
CREATE PROCEDURE settle(advance boolean = false) LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(advance_time => advance, turns => n); END $$;
CREATE FUNCTION says(id uuid) RETURNS text LANGUAGE sql AS $$
	SELECT status || coalesce(': ' || (error ->> 'message'), ': ' || output::text, '') FROM romancy.instances WHERE instance_id = id $$;

-- runs a workflow until it fails, mends what is named, retries it, and shows how it ended, and the effects
CREATE FUNCTION twice(workflow text, mend text[], times int = 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id uuid;
	story text;
BEGIN
	DELETE FROM mended;
	DELETE FROM effect;
	id := romancy.start_workflow(workflow);
	CALL settle();
	story := says(id);
	INSERT INTO mended SELECT unnest(mend);
	FOR i IN 1..times LOOP
		PERFORM romancy.retry_workflow(id);
		CALL settle(true);
		story := story || ' | ' || says(id);
	END LOOP;
	RETURN story || ' | ' || (SELECT coalesce(string_agg(what, ',' ORDER BY n), '') FROM effect);
END $$;

-- the handler catches the failure of a spawned activity, does something, and raises it again
CREATE FUNCTION reraises(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text; r jsonb;
BEGIN
	h := romancy.spawn('once', '"a"');
	PERFORM romancy.activity('note', '"before"');
	BEGIN
		r := romancy.await(h);
	EXCEPTION WHEN OTHERS THEN
		PERFORM romancy.activity('note', '"caught"');
		PERFORM romancy.await(romancy.spawn('note', '"spawned when caught"'));
		RAISE;
	END;
	RETURN romancy.activity('note', '"after"');
END $$;
-- the same with a failure that is not spawned, and with an error of the handler's own that quotes it
CREATE FUNCTION wraps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM romancy.activity('once', '"a"');
	EXCEPTION WHEN OTHERS THEN
		PERFORM romancy.await(romancy.spawn('note', '"caught"'));
		RAISE EXCEPTION 'it did not work: %', sqlerrm USING ERRCODE = 'XX123';
	END;
	PERFORM romancy.await(romancy.spawn('note', '"after"'));
	RETURN '"done"';
END $$;
-- two fail, and one retry is enough; what ran beside them is not repeated
CREATE FUNCTION both_of(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN to_jsonb(romancy.await_all(array[romancy.spawn('once', '"a"'), romancy.spawn('note', '"beside"'), romancy.spawn('once', '"b"')]));
END $$;
CREATE FUNCTION maps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('once', '["a", "b", "ok", "c"]'); END $$;
CREATE FUNCTION any_of(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE a record;
BEGIN
	SELECT * INTO a FROM romancy.await_any(array[romancy.spawn('once', '"a"'), romancy.spawn_timer('1 h')]);
	PERFORM romancy.activity('note', to_jsonb(a.handle));
	RETURN a.result;
END $$;
-- one failure is caught and dealt with, another ends the workflow: the first is not taken back
CREATE FUNCTION deals_with_one(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE a text := romancy.spawn('once', '"a"'); b text := romancy.spawn('once', '"b"');
BEGIN
	BEGIN
		PERFORM romancy.await(a);
	EXCEPTION WHEN OTHERS THEN PERFORM romancy.activity('note', '"instead of a"');
	END;
	RETURN romancy.await(b);
END $$;
-- what had not begun ended with the instance, and is done after the retry
CREATE FUNCTION unfinished(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text := romancy.spawn('outside', '"left"'); c text := romancy.spawn_workflow('child', '"child"'); d text := romancy.spawn_workflow('child', '"abandoned"', on_parent_close => 'abandon');
BEGIN
	PERFORM romancy.activity('once', '"a"');
	PERFORM romancy.await_all(array[h, c, d]);
	RETURN '"all"';
END $$;
CREATE FUNCTION child(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 min'); RETURN romancy.activity('note', $1); END $$;
SELECT romancy.define_activity('outside', queue => 'q', schedule_to_start_timeout => '1 h');
-- a receive that timed out waits anew, a call that failed is made anew
CREATE FUNCTION waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE m romancy.message; BEGIN m := romancy.receive('news', timeout => '1 min'); RETURN m.data; END $$;
CREATE FUNCTION awaits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE a record; BEGIN SELECT * INTO a FROM romancy.await_any(array[romancy.spawn_receive('news')], '1 min'); RETURN a.result -> 'data'; END $$;
CREATE FUNCTION sends(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.send_to(to_id, 'news') FROM receiver; RETURN '"sent"'; END $$;
CREATE TABLE receiver AS SELECT '01234567-89ab-7def-8123-00000000dead'::uuid AS to_id;
-- an error of the handler's own: everything is replayed, and it goes on from there
CREATE FUNCTION own(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('note', '"before"');
	IF romancy.attempt() = 1 THEN RAISE EXCEPTION 'not yet'; END IF;
	RETURN romancy.activity('note', '"after"');
END $$;

CREATE FUNCTION in_mode(mode text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('romancy.turn_mode', mode, true);
	RETURN NEXT is(twice('reraises', '{a}'), 'failed: a is broken | completed: "after" | before,caught,spawned when caught,a,after', mode || ': caught and raised again');
	RETURN NEXT is(twice('reraises', '{}', 2), 'failed: a is broken | failed: a is broken | failed: a is broken | before,caught,spawned when caught,caught,spawned when caught,caught,spawned when caught',
		mode || ': the same, not mended');
	RETURN NEXT is(twice('wraps', '{a}'), 'failed: it did not work: a is broken | completed: "done" | caught,a,after', mode || ': raised in other words');
	RETURN NEXT is(twice('both_of', '{a,b}'), 'failed: a is broken | completed: ["a", "beside", "b"] | beside,a,b', mode || ': await_all');
	RETURN NEXT is(twice('both_of', '{a}'), 'failed: a is broken | failed: b is broken | beside,a', mode || ': await_all, half mended');
	RETURN NEXT is(twice('maps', '{a,b,c,ok}'), 'failed: a is broken | completed: ["a", "b", "ok", "c"] | a,b,ok,c', mode || ': map');
	RETURN NEXT is(twice('any_of', '{a}'), 'failed: a is broken | completed: "a" | a,once:1', mode || ': await_any');
	RETURN NEXT is(twice('deals_with_one', '{a,b}'), 'failed: b is broken | completed: "b" | instead of a,b', mode || ': a failure that was dealt with stays');
	RETURN NEXT is(twice('own', '{}'), 'failed: not yet | completed: "after" | before,after', mode || ': an error of the handler''s own');
END $$;
SELECT * FROM in_mode('step');
SELECT * FROM in_mode('inline');
SELECT * FROM in_mode('auto');

-- given a parent that fails while a task and two children are under way, when it is retried, then it gets the end of each
DELETE FROM mended;
DELETE FROM effect;
SELECT romancy.start_workflow('unfinished') AS id \gset
CALL settle();
SELECT is(says(:'id'), 'failed: a is broken', 'a parent failed');
SELECT results_eq(format('SELECT input #>> ''{}'', status FROM romancy.instances WHERE parent_id = %L ORDER BY 1', :'id'), $$VALUES ('abandoned', 'waiting_for_timer'), ('child', 'cancelled')$$, 'one child was cancelled with it');
SELECT is_empty($$SELECT * FROM romancy.fetch_activities('q', 'w')$$, 'and so was a task that nobody had begun');
INSERT INTO mended VALUES ('a');
SELECT romancy.retry_workflow(:'id') AS r \gset
CALL settle();
SELECT is(says(:'id'), 'waiting_for_activity', 'after a retry it waits for all of them');
SELECT set_eq(format('SELECT input #>> ''{}'', status FROM romancy.instances WHERE parent_id = %L', :'id'),
	$$VALUES ('abandoned', 'waiting_for_timer'), ('child', 'cancelled'), ('child', 'waiting_for_timer')$$, 'the cancelled child is started anew, the abandoned one is still its child');
SELECT token FROM romancy.fetch_activities('q', 'w') \gset
SELECT romancy.complete_activity(:'token', '1') AS r \gset
SELECT is(:'r'::text, 't', 'the task is there again, in time');
CALL settle(true);
SELECT is(says(:'id'), 'completed: "all"', 'and it ends');
SELECT results_eq('SELECT what FROM effect ORDER BY what', array['a', 'abandoned', 'child'], 'each of them ran once');

-- given the same, when the abandoned child has completed before the retry, then its result counts
DELETE FROM mended;
DELETE FROM effect;
SELECT romancy.start_workflow('unfinished') AS id \gset
CALL settle();
CALL settle(true);
SELECT results_eq('SELECT what FROM effect', array['abandoned'], 'the abandoned child completed');
INSERT INTO mended VALUES ('a');
SELECT romancy.retry_workflow(:'id') AS r \gset
CALL settle();
SELECT token FROM romancy.fetch_activities('q', 'w') \gset
SELECT romancy.complete_activity(:'token', '1') AS r \gset
CALL settle(true);
SELECT is(says(:'id'), 'completed: "all"', 'it gets the result of a child that ended without it');
SELECT results_eq('SELECT what FROM effect ORDER BY what', array['a', 'abandoned', 'child'], 'which did not run again');

-- given a task that a program outside holds while the instance fails and is retried, then its result counts
DELETE FROM mended;
CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text := romancy.spawn('outside', '"held"');
BEGIN PERFORM romancy.sleep('1 min'); PERFORM romancy.activity('once', '"a"'); RETURN romancy.await(h); END $$;
SELECT romancy.start_workflow('held') AS id \gset
CALL settle();
SELECT token FROM romancy.fetch_activities('q', 'w', lease => '1 day') \gset
CALL settle(true);
SELECT is(says(:'id'), 'failed: a is broken', 'an instance fails while its task is held');
SELECT is(romancy.heartbeat_activity(:'token'), 'cancel_requested', 'the program hears of it');
INSERT INTO mended VALUES ('a');
SELECT romancy.retry_workflow(:'id') AS r \gset
CALL settle();
SELECT is(romancy.heartbeat_activity(:'token'), 'ok', 'after a retry it is wanted again');
SELECT is_empty($$SELECT * FROM romancy.fetch_activities('q', 'w')$$, 'and is not given to another');
SELECT romancy.complete_activity(:'token', '"kept"') AS r \gset
CALL settle();
SELECT is(says(:'id'), 'completed: "kept"', 'and its result is the step''s');

SELECT romancy.start_workflow('waits') AS id \gset
CALL settle(true);
SELECT is(says(:'id'), 'failed: no message came on channel "news" in time', 'a receive timed out');
SELECT romancy.retry_workflow(:'id') AS r \gset
CALL settle();
SELECT is(says(:'id'), 'waiting_for_message', 'after a retry it waits anew');
SELECT romancy.send_to(:'id', 'news', '7') AS m \gset
CALL settle();
SELECT is(says(:'id'), 'completed: 7', 'and receives');

SELECT romancy.start_workflow('awaits') AS id \gset
CALL settle(true);
SELECT is(says(:'id'), 'failed: none of 1 awaited steps ended in time', 'an await_any timed out');
SELECT results_eq(format('SELECT data #>> ''{error,sqlstate}'' FROM romancy.get_history(%L) WHERE event_type = ''AwaitTimeout''', :'id'), array['RM006'], 'which history says');
SELECT romancy.retry_workflow(:'id') AS r \gset
CALL settle();
SELECT is(says(:'id'), 'waiting_for_message', 'after a retry it awaits anew');
SELECT romancy.send_to(:'id', 'news', '8') AS m \gset
CALL settle();
SELECT is(says(:'id'), 'completed: 8', 'and gets what it awaits');

SELECT romancy.start_workflow('sends') AS id \gset
CALL settle();
SELECT alike(says(:'id'), 'failed: workflow instance "%" does not exist', 'a call failed');
UPDATE receiver SET to_id = romancy.start_workflow('waits');
SELECT romancy.retry_workflow(:'id') AS r \gset
CALL settle();
SELECT is(says(:'id'), 'completed: "sent"', 'after a retry it is made again');

-- given an instance that went another way after a retry, then replay and a fork of it know what counts
DELETE FROM mended;
DELETE FROM effect;
SELECT romancy.start_workflow('reraises') AS id \gset
CALL settle();
INSERT INTO mended VALUES ('a');
SELECT romancy.retry_workflow(:'id') AS r \gset
CALL settle();
SELECT romancy.fork_workflow(:'id', 'note:2') AS fork \gset
DELETE FROM effect;
CALL settle();
SELECT is(says(:'fork'), 'completed: "after"', 'a fork of a retried instance');
SELECT results_eq('SELECT what FROM effect', array['after'], 'runs what came after');

-- given work that is to be undone, a retry before the compensations ran is one like any other, and after them there is none
CREATE FUNCTION unbook(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES ('undo ' || ($1 ->> 'result')); RETURN NULL; END $$;
SELECT romancy.define_activity('noted', 'note(jsonb)', compensation => 'unbook');
CREATE FUNCTION saga(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.await(romancy.spawn('noted', '"spawned"'));
	RETURN romancy.await(romancy.spawn('once', '"a"'));
END $$;
DELETE FROM mended;
DELETE FROM effect;
SELECT romancy.start_workflow('saga') AS id \gset
CALL settle();
SELECT results_eq('SELECT what FROM effect ORDER BY n', array['spawned', 'undo spawned'], 'spawned work is undone');
SELECT throws_ok(format('SELECT romancy.retry_workflow(%L)', :'id'), 'RM010', format('workflow instance "%s" cannot be retried: its compensations ran', :'id'), 'and there is no retry');
SELECT romancy.fork_workflow(:'id', 'once:1') AS fork \gset
INSERT INTO mended VALUES ('a');
CALL settle();
SELECT is(says(:'fork'), 'completed: "a"', 'but a fork');
-- given subscriptions and groups, when the instance is retried or forked, then it has them at once, not only when it receives
CREATE FUNCTION listens(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message; e romancy.event;
BEGIN
	PERFORM romancy.subscribe('bc'), romancy.subscribe('co', 'competing'), romancy.subscribe('ended');
	PERFORM romancy.join_group('in'), romancy.join_group('out');
	PERFORM romancy.unsubscribe('ended'), romancy.leave_group('out');
	e := romancy.wait_event('ev');
	PERFORM romancy.activity('once', '"a"');
	PERFORM romancy.sleep('1 h');
	m := romancy.receive('bc');
	e := romancy.wait_event('ev');
	RETURN jsonb_build_array(m.data, e.data);
END $$;
CREATE FUNCTION has(id uuid) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', (SELECT string_agg(channel || ':' || mode, ' ' ORDER BY channel) FROM romancy.t_subscription WHERE instance_id = id AND mode <> 'kept'),
		CASE WHEN id IN (SELECT romancy.group_members('in')) THEN 'in' END, CASE WHEN id IN (SELECT romancy.group_members('out')) THEN 'out' END) $$;
DELETE FROM mended;
SELECT romancy.start_workflow('listens') AS id \gset
CALL settle();
SELECT romancy.raise_event('ev', 'test', '0') AS e \gset
CALL settle();
SELECT is(says(:'id'), 'failed: a is broken', 'an instance with subscriptions and groups fails');
SELECT is(has(:'id'), '', 'and has none any more');
INSERT INTO mended VALUES ('a');
SELECT romancy.fork_workflow(:'id', 'once:1') AS fork \gset
SELECT romancy.retry_workflow(:'id') AS r \gset
CALL settle();
SELECT is(says(i), 'waiting_for_timer', 'it is on its way again: ' || what) FROM (VALUES (:'id'::uuid, 'retried'), (:'fork', 'forked')) v (i, what);
SELECT is(has(i), 'bc:broadcast co:competing ev:broadcast in', 'and has them again: ' || what) FROM (VALUES (:'id'::uuid, 'retried'), (:'fork', 'forked')) v (i, what);
SELECT romancy.publish('bc', '1') AS m, romancy.raise_event('ev', 'test', '2') AS e \gset
CALL settle(true);
SELECT is(says(i), 'completed: [1, 2]', 'so that it misses nothing: ' || what) FROM (VALUES (:'id'::uuid, 'retried'), (:'fork', 'forked')) v (i, what);

-- given that others have taken the channel in another mode meanwhile, then receive() says so
CREATE FUNCTION competes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.subscribe('bc', 'competing'); PERFORM romancy.receive('nothing'); RETURN NULL; END $$;
SELECT romancy.start_workflow('competes') \gset
CALL settle();
SELECT romancy.fork_workflow(:'id', 'sleep:1') AS fork \gset
CALL settle();
SELECT is(has(:'fork'), 'co:competing ev:broadcast in', 'a fork is not subscribed to a channel whose mode has changed');
CALL settle(true);
SELECT is((SELECT error ->> 'sqlstate' FROM romancy.instances WHERE instance_id = :'fork'), 'RM005', 'and fails where it receives from it');

-- what it was sent before it failed, and had not received, is there for the retry; what is published while it has failed is not
CREATE FUNCTION reads(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text; late jsonb;
BEGIN
	PERFORM romancy.subscribe('r_bc', 'broadcast'), romancy.subscribe('r_co', 'competing');
	h := romancy.spawn_receive('r_sp');
	PERFORM romancy.receive('r_go');
	PERFORM romancy.subscribe('r_other', 'broadcast');
	PERFORM romancy.sleep('1 s');
	PERFORM romancy.activity('once', '"r"');
	late := romancy.await(h) -> 'data';
	RETURN jsonb_build_array((romancy.receive('r_bc', '0 s')).data, (romancy.receive('r_bc', '0 s')).data, (romancy.receive('r_direct', '0 s')).data,
		(romancy.receive('r_go', '0 s')).data, (romancy.receive('r_other', '0 s')).data, (romancy.wait_event('r_event', '0 s')).data, late);
END $$;
SELECT romancy.start_workflow('reads') AS id \gset
CALL settle();
SELECT romancy.send_to(:'id', 'r_go', '"first"') AS m \gset
CALL settle();
SELECT romancy.publish('r_bc', '1') AS m1, romancy.publish('r_bc', '2') AS m2, romancy.send_to(:'id', 'r_direct', '3') AS m3,
	romancy.send_to(:'id', 'r_go', '4') AS m4, romancy.publish('r_other', '5') AS m5, romancy.send_to(:'id', 'r_sp', '7') AS m7,
	romancy.raise_event('r_event', 'test', '6', instance_id => :'id') AS m6 \gset
CALL settle(true);
SELECT is(says(:'id'), 'failed: r is broken', 'an instance fails with messages that it has not received');
SELECT is((SELECT count(*) FROM romancy.channels WHERE channel = 'r_bc' AND subscribers > 0), 0::bigint, 'it is no subscriber meanwhile');
SELECT romancy.publish('r_bc', '"missed"') AS m \gset
SELECT romancy.run_sweep('channel_cleanup'), romancy.run_sweep('messages'), romancy.run_sweep('channel_cleanup') \gset
INSERT INTO mended VALUES ('r');
SELECT romancy.retry_workflow(:'id') AS r \gset
CALL settle(true);
SELECT is(says(:'id'), 'completed: [1, 2, 3, 4, 5, 6, 7]', 'and receives them when it is retried');
SELECT is((SELECT count(*) FROM romancy.t_delivery) + (SELECT count(*) FROM romancy.t_subscription WHERE channel LIKE 'r\_%')
	+ (SELECT count(*) FROM romancy.t_message WHERE kind = 'd' AND mailbox = :'id'), 0::bigint, 'its end leaves nothing');

-- one that is deleted instead leaves nothing either
DELETE FROM mended WHERE what = 'r';
SELECT romancy.start_workflow('reads') AS id \gset
CALL settle();
SELECT romancy.send_to(:'id', 'r_go', '"first"') AS m \gset
CALL settle();
SELECT romancy.publish('r_bc', '1') AS m1, romancy.send_to(:'id', 'r_direct', '3') AS m3 \gset
CALL settle(true);
SELECT is((SELECT count(*) FROM romancy.t_delivery WHERE mailbox = :'id') || ' ' || (SELECT count(*) FROM romancy.t_message WHERE mailbox = :'id'), '1 1',
	'what it was sent is kept');
SELECT romancy.delete_workflow(:'id') AS d \gset
SELECT is((SELECT count(*) FROM romancy.t_delivery WHERE mailbox = :'id') + (SELECT count(*) FROM romancy.t_message WHERE mailbox = :'id')
	+ (SELECT count(*) FROM romancy.t_subscription WHERE instance_id = :'id'), 0::bigint, 'until it is deleted');

-- a compensation that failed has undone nothing: a fork that fails runs it
CREATE FUNCTION unmake(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM mended WHERE what = 'undo') THEN RAISE EXCEPTION 'cannot undo'; END IF;
	INSERT INTO effect (what) VALUES ('undo ' || ($1 ->> 'result'));
	RETURN $1;
END $$;
SELECT romancy.define_activity('unmake', 'unmake(jsonb)', retry => '{"max_attempts": 1}');
SELECT romancy.define_activity('undone', 'note(jsonb)', compensation => 'unmake');
CREATE FUNCTION books(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('undone', '"one"');
	PERFORM romancy.register_compensation('unmake', '{"result": "two"}');
	PERFORM romancy.await(romancy.spawn('undone', '"three"'));
	RETURN romancy.activity('once', '"booking"');
END $$;
SELECT romancy.start_workflow('books') AS id \gset
CALL settle();
SELECT is((SELECT string_agg(activity_id, ',' ORDER BY seq) FROM romancy.get_history(:'id') WHERE event_type = 'CompensationFailed'),
	'undone:2,register_compensation:1,undone:1', 'no compensation of an instance that fails succeeds');
INSERT INTO mended VALUES ('undo');
DELETE FROM effect;
SELECT romancy.fork_workflow(:'id', 'once:1') AS fork \gset
CALL settle();
SELECT is((SELECT string_agg(what, ',' ORDER BY n) FROM effect), 'undo three,undo two,undo one', 'mended, they run for a fork that fails as well');
DELETE FROM effect;
SELECT romancy.fork_workflow(:'fork', 'once:1') AS fork \gset
CALL settle();
SELECT is((SELECT count(*) FROM effect), 0::bigint, 'and not for a fork of that one');

SELECT * FROM finish();
ROLLBACK;
