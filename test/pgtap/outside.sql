-- doc/tasks.md: workflow code outside. The events that each storage operation
-- leaves in history, the fence of its token, and how pause, cancel, compensations and limits reach such instances.
-- It would catch a call that works with a token of another program or of an earlier claim, and an operation that leaves something else in history.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what jsonb);
CREATE FUNCTION book(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES (jsonb_build_object('book', i)); RETURN i; END $$;
CREATE FUNCTION unbook(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES (jsonb_build_object('unbook', i->'result')); RETURN NULL; END $$;
CREATE PROCEDURE settle(advance boolean = false) LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(advance_time => advance, turns => n); END $$;
CREATE FUNCTION status(id uuid) RETURNS text LANGUAGE sql AS $$ SELECT status FROM romancy.instances WHERE instance_id = id $$;
CREATE FUNCTION story(id uuid) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(event_type || coalesce(' ' || activity_id, ''), ', ' ORDER BY seq) FROM romancy.get_history(id) $$;
CREATE FUNCTION claim() RETURNS text LANGUAGE sql AS $$ SELECT token FROM romancy.fetch_workflows('oq', 'w') $$;
SELECT romancy.define_workflow('out', queue => 'oq');
SELECT romancy.define_activity('book', handler => 'book(jsonb)', compensation => 'unbook');

-- the whole life of one
SELECT romancy.start_workflow('out', '{"x": 1}', labels => '{"l": 1}') AS id \gset
CALL settle();
SELECT instance_id AS i, workflow AS wf, version AS v, status AS s, input AS inp, attempt AS n, deadline AS d, token AS t FROM romancy.fetch_workflows('oq', 'w', lease => '1 h') \gset
SELECT is(ARRAY[:'i', :'wf', :'v', :'s', :'inp', :'n'], ARRAY[:'id', 'out', '1', 'running', '{"x": 1}', '1'], 'a workflow task tells what is to run');
SELECT ok(:'d'::timestamptz BETWEEN clock_timestamp() + '59 min' AND clock_timestamp() + '61 min', 'and how long');
SELECT is(claim(), NULL, 'nobody else gets it');
SELECT is_empty(format('SELECT * FROM romancy.read_history(%L)', :'t'), 'its history is empty');
SELECT lives_ok(format('SELECT romancy.record_activity(%L, %L, %L, %L, %L)', :'t', 'a:1', 'a', '1', '"one"'), 'record_activity');
SELECT throws_ok(format('SELECT romancy.record_activity(%L, %L, %L, %L, %L)', :'t', 'a:1', 'a', '1', '"one"'), 'RM003', NULL, 'a step once only');
SELECT lives_ok(format('SELECT romancy.record_failure(%L, %L, %L, %L, %L, %L)', :'t', 'b:1', 'b', 'bad', 'ValueError', '{"y": 1}'), 'record_failure');
SELECT results_eq(format('SELECT event_type, activity_id, data->%L, data->%L->>%L, data->%L->>%L FROM romancy.read_history(%L)', 'result', 'error', 'code', 'error', 'sqlstate', :'t'),
	$$ VALUES ('ActivityCompleted', 'a:1', '"one"'::jsonb, NULL, NULL), ('ActivityFailed', 'b:1', NULL, 'ValueError', 'RM007') $$, 'read_history gives both');
SELECT results_eq(format('SELECT seq FROM romancy.read_history(%L, 1)', :'t'), ARRAY[2::bigint], 'from a place on');
SELECT results_eq(format('SELECT seq FROM romancy.read_history(%L, 0, 1)', :'t'), ARRAY[1::bigint], 'by pages');
SELECT lives_ok(format('SELECT romancy.extend_lease(%L, %L)', :'t', '2 days'), 'extend_lease');
SELECT ok(due_at > clock_timestamp() + '47 h', 'lengthens it') FROM romancy.t_task WHERE instance_id = :'id';
SELECT lives_ok(format('SELECT romancy.suspend_timer(%L, %L, %L)', :'t', 't:1', clock_timestamp() + '1 h'), 'suspend_timer');
SELECT throws_ok(format('SELECT romancy.extend_lease(%L, %L)', :'t', '1 h'), 'RM009', NULL, 'gives the instance back: the token is over');
CALL settle();
SELECT is(status(:'id'), 'waiting_for_timer'::text, 'it sleeps');
SELECT is(claim(), NULL, 'and is not to be claimed');
CALL settle(true);
SELECT claim() AS t \gset
SELECT lives_ok(format('SELECT romancy.suspend_activity(%L, %L, %L, %L)', :'t', 'book:1', 'book', '"room"'), 'suspend_activity');
CALL settle();
SELECT claim() AS t \gset
SELECT lives_ok(format('SELECT romancy.suspend_receive(%L, %L, %L, %L)', :'t', 'm:1', 'oc', '1 h'), 'suspend_receive');
CALL settle();
SELECT is(status(:'id'), 'waiting_for_message'::text, 'it waits for a message');
SELECT romancy.send_to(:'id', 'oc', '"hello"') \gset
CALL settle();
SELECT claim() AS t \gset
SELECT lives_ok(format('SELECT romancy.suspend_receive(%L, %L, %L, %L)', :'t', 'm:2', 'oc', '1 h'), 'another one');
CALL settle();
CALL settle(true);
SELECT claim() AS t \gset
SELECT is((SELECT data->'result'->>'data' FROM romancy.read_history(:'t') WHERE activity_id = 'm:1'), 'hello', 'the message is in history');
SELECT lives_ok(format('SELECT romancy.complete_workflow(%L, %L)', :'t', '{"ok": true}'), 'complete_workflow');
CALL settle();
SELECT is(romancy.get_result(:'id'), '{"ok": true}'::jsonb, 'its output');
SELECT matches(story(:'id'), '^ActivityCompleted a:1, ActivityFailed b:1, TimerExpired t:1, ActivityCompleted book:1, .*ChannelMessageReceived m:1, MessageTimeout m:2, WorkflowCompleted$', 'the history of it all');

-- each operation, with a token whose lease was lost to another worker
SELECT romancy.start_workflow('out') AS id \gset
CALL settle();
SELECT token AS old FROM romancy.fetch_workflows('oq', 'w1', lease => '1 ms') \gset
SELECT pg_sleep(0.01);
SELECT ok(romancy.run_sweep('lock_cleanup') > 0, 'a lease ends');
SELECT token AS new, attempt AS n FROM romancy.fetch_workflows('oq', 'w2') \gset
SELECT is(:n, 2, 'another worker has the instance');
CREATE FUNCTION each(token text) RETURNS TABLE (call text) LANGUAGE sql AS $$
	SELECT format(c, token) FROM unnest(ARRAY['read_history(%L)', 'record_activity(%L, ''s'', ''n'', NULL, NULL)', 'record_failure(%L, ''s'', ''n'', ''m'')', 'suspend_timer(%L, ''s'', now())',
		'suspend_receive(%L, ''s'', ''c'')', 'suspend_activity(%L, ''s'', ''book'')', 'complete_workflow(%L)', 'fail_workflow(%L, ''m'')', 'extend_lease(%L, ''1 h'')']) c $$;
SELECT throws_ok('SELECT romancy.' || call, 'RM009', NULL, 'the old token: ' || split_part(call, '(', 1)) FROM each(:'old');
SELECT throws_ok('SELECT romancy.' || call, 'RM012', 'malformed token', 'no token: ' || split_part(call, '(', 1)) FROM each('nonsense');
SELECT throws_ok('SELECT romancy.' || call, '22004', NULL, 'NULL: ' || split_part(call, '(', 1)) FROM each(NULL);
SELECT is(story(:'id'), NULL, 'nothing of that is in its history');
SELECT throws_ok(format('SELECT romancy.%s', call), state, NULL, format('%s is %s', call, state))
FROM (VALUES (format('extend_lease(%L, %L)', :'new', '0'), 'RM012'), (format('extend_lease(%L, %L)', :'new', '1 year'), 'RM012'),
	(format('record_activity(%L, %L, %L, NULL, to_jsonb(repeat(%L, 2000000)))', :'new', 's', 'n', 'x'), 'RM011'), (format('complete_workflow(%L, to_jsonb(repeat(%L, 2000000)))', :'new', 'x'), 'RM011'),
	(format('record_activity(%L, %L, %L, NULL, NULL)', :'new', '', 'n'), 'RM012'), (format('record_activity(%L, repeat(%L, 201), %L, NULL, NULL)', :'new', 's', 'n'), 'RM012'),
	(format('suspend_timer(%L, %L, NULL)', :'new', 's'), '22004'), (format('read_history(%L, 0, 0)', :'new'), 'RM012'), (format('read_history(%L, 0, 10001)', :'new'), 'RM012')) b (call, state);

-- pause: what the worker has in hand goes on, what it asks for is done after the resume
SELECT romancy.pause_workflow(:'id') \gset
CALL settle();
SELECT is(status(:'id'), 'paused'::text, 'paused while a worker has it');
SELECT lives_ok(format('SELECT romancy.record_activity(%L, %L, %L, %L, %L)', :'new', 'a:1', 'a', '1', '1'), 'its worker records what it has done');
SELECT lives_ok(format('SELECT romancy.suspend_activity(%L, %L, %L, %L)', :'new', 'book:1', 'book', '"seat"'), 'and asks for more');
CALL settle();
SELECT is_empty($$ SELECT * FROM effect WHERE what = '{"book": "seat"}' $$, 'which is not done in the pause');
SELECT is(claim(), NULL, 'nobody is given the instance');
SELECT romancy.resume_workflow(:'id') \gset
CALL settle();
SELECT isnt_empty($$ SELECT * FROM effect WHERE what = '{"book": "seat"}' $$, 'after it, it is');
SELECT romancy.pause_workflow(:'id') \gset
CALL settle();
SELECT is(claim(), NULL, 'an instance that is ready for a worker is not given away in a pause');
SELECT romancy.resume_workflow(:'id') \gset
CALL settle();
SELECT claim() AS t \gset
SELECT isnt(:'t'::text, NULL::text, 'after it, it is');

-- fail_workflow: the error, and the compensations of what romancy ran
SELECT lives_ok(format('SELECT romancy.fail_workflow(%L, %L, %L, %L)', :'t', 'no seat', '22012', '{"z": 1}'), 'fail_workflow');
CALL settle();
SELECT is(status(:'id'), 'failed'::text, 'it has failed');
SELECT is((SELECT error->>'sqlstate' || ' ' || (error->>'message') FROM romancy.instances WHERE instance_id = :'id'), '22012 no seat', 'with that error');
SELECT is((SELECT count(*) FROM effect WHERE what = '{"unbook": "seat"}'), 1::bigint, 'what was done is undone, once');
SELECT matches(story(:'id'), 'CompensationExecuted.*WorkflowFailed', 'and history says so');

-- cancel while a worker has it: its token is worth nothing, compensations run
SELECT romancy.start_workflow('out') AS id \gset
CALL settle();
SELECT claim() AS t \gset
SELECT romancy.suspend_activity(:'t', 'book:1', 'book', '"car"') \gset
CALL settle();
SELECT claim() AS t \gset
SELECT ok(romancy.cancel_workflow(:'id', 'enough'), 'cancelled');
CALL settle();
SELECT is(status(:'id'), 'cancelled'::text, 'it ends');
SELECT is((SELECT count(*) FROM effect WHERE what = '{"unbook": "car"}'), 1::bigint, 'what was done is undone');
SELECT throws_ok('SELECT romancy.' || call, 'RM009', NULL, 'cancelled: ' || split_part(call, '(', 1)) FROM each(:'t');
SELECT is_empty(format('SELECT * FROM romancy.t_task WHERE instance_id = %L AND state <> 1', :'id'), 'no task of it waits');

-- execution_timeout
SELECT romancy.start_workflow('out', execution_timeout => '1 h') AS id \gset
CALL settle();
SELECT claim() AS t \gset
CALL settle(true);
SELECT is((SELECT status || ' ' || (error->>'sqlstate') FROM romancy.instances WHERE instance_id = :'id'), 'failed RM006', 'a time limit ends it while a worker has it');
SELECT throws_ok(format('SELECT romancy.complete_workflow(%L)', :'t'), 'RM009', NULL, 'whose token is lost then');

-- an activity that is not there does not end it silently
SELECT romancy.start_workflow('out') AS id \gset
CALL settle();
SELECT claim() AS t \gset
SELECT romancy.suspend_activity(:'t', 'x:1', 'no_such_activity') \gset
CALL settle();
SELECT is((SELECT status || ' ' || (error->>'sqlstate') FROM romancy.instances WHERE instance_id = :'id'), 'paused RM001', 'an unknown activity pauses it, for the operator');
SELECT throws_ok('SELECT romancy.t_outside($${}$$)', 'RM004', NULL, 'the handler in its place is not for others');

-- fail_workflow keeps a code that is no SQLSTATE; what a worker recorded is undone as its definition says
DELETE FROM effect;
SELECT romancy.start_workflow('out') AS id \gset
CALL settle();
SELECT claim() AS t \gset
SELECT romancy.record_activity(:'t', 'b:1', 'book', '"x"', '"room 7"') \gset
SELECT romancy.record_failure(:'t', 'b:2', 'book', 'stopped', '57014') \gset
SELECT is((SELECT jsonb_build_array(data->'error'->'sqlstate', data->'error'->'detail') FROM romancy.read_history(:'t') WHERE activity_id = 'b:2'), '["RM006", "57014: stopped"]', 'a failure that no handler would see is RM006');
SELECT romancy.fail_workflow(:'t', 'no more', 'ValueError', '{"y": 1}') \gset
CALL settle();
SELECT is((SELECT error - 'context' FROM romancy.instances WHERE instance_id = :'id'), '{"sqlstate": "RM007", "code": "ValueError", "message": "no more", "detail": "{\"y\": 1}"}'::jsonb, 'fail_workflow: its code is kept');
SELECT results_eq('SELECT what FROM effect', ARRAY['{"unbook": "room 7"}'::jsonb], 'what the worker recorded is undone');

-- a channel's name is checked by the call: the instance is still the worker's
SELECT romancy.start_workflow('out') AS id \gset
CALL settle();
SELECT claim() AS t \gset
SELECT throws_ok(format('SELECT romancy.suspend_receive(%L, %L, %L)', :'t', 'r', ''), 'RM012', 'argument "channel" must have between 1 and 128 bytes', 'suspend_receive: no channel');
SELECT throws_ok(format('SELECT romancy.suspend_receive(%L, %L, %L)', :'t', 'r', repeat('x', 129)), 'RM012', NULL, 'suspend_receive: a long one');
SELECT throws_ok('SELECT romancy.' || format(call, :'t', 's', n), 'RM012', NULL, format('a name of %s bytes: %s', length(n), split_part(call, '(', 1)))
FROM unnest(ARRAY['', repeat('x', 201)]) n, unnest(ARRAY['record_activity(%L, %L, %L, NULL, NULL)', 'record_failure(%L, %L, %L, ''m'')', 'suspend_activity(%L, %L, %L)']) call;
-- any activity_id but the engine's own
SELECT throws_ok(format('SELECT romancy.suspend_timer(%L, %L, now())', :'t', 'romancy.outside'), 'RM012', 'activity_id "romancy.outside" is reserved', 'the engine''s own step');
SELECT lives_ok(format('SELECT romancy.suspend_timer(%L, %L, now())', :'t', 'worker'), 'a step may have any other name');
CALL settle();
SELECT claim() AS t \gset
SELECT results_eq(format('SELECT event_type, activity_id FROM romancy.read_history(%L)', :'t'), $$ VALUES ('TimerExpired', 'worker') $$, 'and ends as any');

-- retry_workflow: from the step whose error the program failed with; read_history has neither it nor what came after
CREATE FUNCTION shaky(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.raise_terminal('shaky'); END $$;
SELECT romancy.start_workflow('out') AS id \gset
CALL settle();
SELECT claim() AS t2 \gset
SELECT romancy.record_activity(:'t2', 'a:1', 'a', NULL, '1') \gset
SELECT romancy.suspend_activity(:'t2', 'shaky:1', 'shaky') \gset
CALL settle();
SELECT claim() AS t2 \gset
SELECT romancy.record_activity(:'t2', 'clean:1', 'clean', NULL, '1') \gset
SELECT romancy.fail_workflow(:'t2', 'shaky', 'RM007') \gset
CALL settle();
SELECT is(status(:'id'), 'failed'::text, 'it fails with its activity''s error');
CREATE OR REPLACE FUNCTION shaky(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"steady"'; END $$;
SELECT ok(romancy.retry_workflow(:'id'), 'retry_workflow');
CALL settle();
SELECT claim() AS t2 \gset
SELECT results_eq(format('SELECT activity_id FROM romancy.read_history(%L) WHERE activity_id IS NOT NULL', :'t2'), ARRAY['a:1'], 'the program sees what came before the failed step');
SELECT throws_ok(format('SELECT romancy.suspend_activity(%L, %L, %L)', :'t2', 'a:1', 'a'), 'RM003', NULL, 'which it cannot do again');
SELECT lives_ok(format('SELECT romancy.suspend_activity(%L, %L, %L)', :'t2', 'shaky:1', 'shaky'), 'the failed step it can');
CALL settle();
SELECT claim() AS t2 \gset
SELECT results_eq(format('SELECT activity_id, data->%L FROM romancy.read_history(%L) WHERE activity_id IS NOT NULL', 'result', :'t2'), $$ VALUES ('a:1', '1'::jsonb), ('shaky:1', '"steady"') $$, 'and finds its new outcome');
SELECT results_eq(format('SELECT activity_id FROM romancy.read_history(%L, 0, 2) WHERE activity_id IS NOT NULL UNION ALL SELECT activity_id FROM romancy.read_history(%L, 5, 100) WHERE activity_id IS NOT NULL', :'t2', :'t2'), ARRAY['a:1', 'shaky:1'], 'by pages too');
SELECT results_eq(format('SELECT seq FROM romancy.read_history(%L, 1, 1)', :'t2'), ARRAY[4::bigint], 'a page is full, though some are left out');
SELECT throws_ok(format('SELECT romancy.record_activity(%L, %L, %L, NULL, NULL)', :'t2', 'shaky:1', 'shaky'), 'RM003', NULL, 'that one stands');
SELECT lives_ok(format('SELECT romancy.record_activity(%L, %L, %L, NULL, %L)', :'t2', 'clean:1', 'clean', '2'), 'what came after is done again');
SELECT romancy.complete_workflow(:'t2') \gset
CALL settle();
SELECT is(status(:'id'), 'completed'::text, 'it completes');

-- romancy.max_history_events holds for what a program records
SELECT romancy.start_workflow('out') AS id \gset
CALL settle();
SELECT claim() AS t2 \gset
UPDATE romancy.t_instance SET last_seq = 50000 WHERE instance_id = :'id';
SELECT throws_ok(format('SELECT romancy.record_activity(%L, %L, %L, NULL, NULL)', :'t2', 's', 'n'), 'RM011', 'history of workflow "out" would exceed 50000 events', 'a history that is full');
SELECT lives_ok(format('SELECT romancy.fail_workflow(%L, %L)', :'t2', 'too long'), 'it can fail still');
CALL settle();
SELECT is(status(:'id'), 'failed'::text, 'and has');

-- the calls of programs are no steps: RM004 in a handler, and nothing done
CREATE FUNCTION meddles(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT romancy.' || (i #>> '{}'); RETURN NULL; END $$;
CREATE TEMP TABLE meddler AS SELECT call, romancy.start_workflow('meddles', to_jsonb(call)) AS id
FROM unnest(ARRAY[format('read_history(%L)', :'t'), format('record_activity(%L, %L, %L, NULL, NULL)', :'t', 's', 'n'), format('record_failure(%L, %L, %L, %L)', :'t', 's', 'n', 'm'),
	format('suspend_timer(%L, %L, now())', :'t', 's'), format('suspend_receive(%L, %L, %L)', :'t', 's', 'c'), format('suspend_activity(%L, %L, %L)', :'t', 's', 'book'),
	format('complete_workflow(%L)', :'t'), format('fail_workflow(%L, %L)', :'t', 'm'), format('extend_lease(%L, %L)', :'t', '1 h')]) call;
CALL settle();
SELECT is(error->>'sqlstate', 'RM004', 'in a handler: ' || call) FROM meddler JOIN romancy.instances ON instance_id = id;
SELECT is((SELECT count(*) FROM romancy.read_history(:'t')), 1::bigint, 'the token is good as before');
SELECT * FROM finish();
ROLLBACK;
