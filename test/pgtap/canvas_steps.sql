-- Canvases: as steps of handlers, with compensations, names refused at the start, options, all that is started with one, its tasks shown and ended.
-- It would catch a canvas in a handler that runs twice, an effect that is not undone, and a task that cannot be ended.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
CREATE SCHEMA cs;
SET LOCAL search_path = cs, public;
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what text, i jsonb);
CREATE PROCEDURE settle(advance boolean = false) LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(advance_time => advance, turns => n); END $$;
CREATE FUNCTION inc(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb((i #>> '{}')::int + 1); END $$;
CREATE FUNCTION total(i jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$ SELECT to_jsonb(coalesce(sum(x::int), 0)) FROM jsonb_array_elements_text(i) x $$;
CREATE FUNCTION note(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what, i) VALUES ('note', CASE WHEN i ? 'error' THEN i #- '{error,context}' ELSE i END); RETURN i; END $$;
CREATE FUNCTION undo(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what, i) VALUES ('undo', i); RETURN i; END $$;
CREATE FUNCTION bad(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.raise_terminal('bad'); END $$;
CREATE FUNCTION broken(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM no_such_function(); RETURN i; END $$;
SELECT romancy.define_activity('book', 'inc', compensation => 'undo');
SELECT romancy.define_activity('ext', queue => 'csq');
SELECT romancy.define_activity('booked', queue => 'csq', compensation => 'undo');
CREATE FUNCTION run(s jsonb, i jsonb = NULL) RETURNS uuid LANGUAGE plpgsql AS $$ DECLARE id uuid := romancy.run_canvas(s, i); BEGIN CALL settle(); RETURN id; END $$;
CREATE FUNCTION got(id uuid) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', status, coalesce(output #>> '{}', error ->> 'message')) FROM romancy.instances WHERE instance_id = id $$;
CREATE FUNCTION effects() RETURNS text LANGUAGE plpgsql AS $$ DECLARE r text; BEGIN SELECT string_agg(what || ' ' || i::text, ', ' ORDER BY n) INTO r FROM effect; DELETE FROM effect; RETURN r; END $$;
CREATE FUNCTION tasks(id uuid) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(concat_ws(' ', path, activity, status, result, error ->> 'message'), ', ') FROM romancy.canvas_tasks(id) $$;

-- as a step
CREATE FUNCTION steps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text;
BEGIN
	h := romancy.spawn_canvas(romancy.group(romancy.task('inc', '10'), romancy.task('inc', '20')));
	RETURN jsonb_build_array(romancy.canvas(romancy.chain(romancy.task('inc'), romancy.task('inc')), i), romancy.await(h), romancy.canvas(romancy.task('inc', '7'), activity_id => 'mine'));
END $$;
SELECT romancy.start_workflow('steps', '1') AS id \gset
CALL settle();
SELECT is(got(:'id'), 'completed [3, [11, 21], 8]', 'canvases as steps of a handler');
SELECT is((SELECT string_agg(activity_id, ' ' ORDER BY seq) FROM romancy.get_history(:'id') WHERE event_type = 'ChildWorkflowScheduled'), 'canvas:1 canvas:2 mine', 'with their ids');
CREATE FUNCTION fails(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.canvas(romancy.chain(romancy.task('book', '1'), romancy.task('bad'))); EXCEPTION WHEN OTHERS THEN RETURN to_jsonb(SQLERRM); END $$;
SELECT romancy.start_workflow('fails') AS id \gset
CALL settle();
SELECT is(got(:'id') || ' | ' || effects(), 'completed bad | undo {"input": 1, "result": 2}', 'one that fails raises its error, after its compensations');
CREATE FUNCTION misnames(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.canvas(romancy.chain(romancy.task('inc'), romancy.task('inkc'))); END $$;
SELECT romancy.start_workflow('misnames') AS id \gset
CALL settle();
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') || ' ' || (error ->> 'message') FROM romancy.instances WHERE instance_id = :'id'), 'paused RM001 invalid signature at "chain[1]": activity "inkc" does not exist', 'a name that means nothing pauses it');
CREATE FUNCTION inkc(i jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$ SELECT i $$;
SELECT romancy.resume_workflow(:'id');
CALL settle();
SELECT is(got(:'id'), 'completed', 'and mended it goes on');
SELECT throws_ok($$ SELECT romancy.canvas('{"task": "inc"}') $$, 'RM004', NULL, 'canvas() elsewhere');
SELECT throws_ok($$ SELECT romancy.spawn_canvas('{"task": "inc"}') $$, 'RM004', NULL, 'spawn_canvas() elsewhere');

-- names are refused at the start, with the path and what was perhaps meant
SELECT throws_ok($$ SELECT romancy.run_canvas(romancy.chain(romancy.task('inc'), romancy.group(romancy.task('inc'), romancy.task('totla')))) $$, 'RM001', 'invalid signature at "chain[1].group[1]": activity "totla" does not exist', 'a name that means nothing');
SELECT throws_ok($$ SELECT romancy.run_canvas(romancy.chord('[]', romancy.options(romancy.task('inc'), on_error => romancy.task('nothing')))) $$, 'RM001', 'invalid signature at "chord.body.options.on_error": activity "nothing" does not exist', 'in an on_error');
SELECT throws_ok($$ SELECT romancy.run_canvas(romancy.group(romancy.task('totla'), romancy.task('totla'))) $$, 'RM001', 'invalid signature at "group[0]": activity "totla" does not exist', 'which all tasks have');
SELECT throws_ok($$ SELECT romancy.run_canvas(romancy.group(romancy.task('totla'), '{"task": 1}')) $$, 'RM012', 'invalid signature at "group[1].task": the name of an activity is expected', 'other faults are found before');
SELECT throws_ok($$ SELECT romancy.run_canvas(romancy.options(romancy.task('inc'), on_success => romancy.task('nothing'))) $$, 'RM001', NULL, 'in an on_success');

-- compensations: last ended first, whatever part of it failed
SELECT run(romancy.chain(romancy.task('book', '1'), romancy.task('book'), romancy.chord(romancy.group(romancy.task('book', '5'), romancy.task('bad')), romancy.task('total')))) AS id \gset
SELECT is(got(:'id'), 'failed bad', 'a canvas that fails');
SELECT is(effects(), 'undo {"input": 5, "result": 6}, undo {"input": 2, "result": 3}, undo {"input": 1, "result": 2}', 'is undone, last ended first');
SELECT is((SELECT count(*) FROM romancy.get_history(:'id') WHERE event_type = 'CompensationExecuted'), 3::bigint, 'in history');
SELECT throws_ok(format('SELECT romancy.retry_workflow(%L)', :'id'), 'RM010', NULL, 'which cannot be retried then');
SELECT run(romancy.chain(romancy.task('book', '1'), romancy.task('ext'), romancy.task('book'))) AS id \gset
SELECT ok(romancy.cancel_workflow(:'id'), 'one that is cancelled');
CALL settle();
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'id') || ' | ' || effects(), 'cancelled | undo {"input": 1, "result": 2}', 'is undone as well');
-- a program has it while the canvas is cancelled: its effect is undone when it reports
SELECT run(romancy.group(romancy.task('booked', '1'), romancy.task('book', '3'))) AS id \gset
SELECT token AS t FROM romancy.fetch_activities('csq', 'w', lease => '1 h') \gset
SELECT ok(romancy.cancel_workflow(:'id'), 'cancelled while a program has a task');
CALL settle();
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'id'), 'compensating', 'waits for it');
SELECT ok(romancy.complete_activity(:'t', '"done"'), 'its result is taken');
CALL settle(true);
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'id') || ' | ' || effects(), 'cancelled | undo {"input": 1, "result": "done"}, undo {"input": 3, "result": 4}', 'and undone, too');

-- options
SELECT is(got(run(romancy.options(romancy.chain(romancy.task('inc', '1'), romancy.task('inc')), on_success => romancy.task('note')))) || ' | ' || effects(), 'completed 3 | note 3', 'on_success gets the result, which stays');
SELECT is(got(run(romancy.chain(romancy.options(romancy.task('inc', '1'), on_success => romancy.task('bad')), romancy.task('inc')))), 'completed 3', 'one that fails changes nothing');
SELECT is(got(run(romancy.options(romancy.task('bad'), on_success => romancy.task('note')))) || coalesce(effects(), ' | none'), 'failed bad | none', 'and none after a failure');
SELECT run(romancy.chord(romancy.group(romancy.task('bad')), romancy.options(romancy.task('total'), on_error => romancy.task('note')))) AS id \gset
SELECT is(got(:'id') || ' | ' || (SELECT i #>> '{error,message}' FROM effect), 'failed bad | bad', 'on_error of a chord''s body, when its header fails');
DELETE FROM effect;
SELECT run(romancy.chord(romancy.group(romancy.task('inc', '1')), romancy.options(romancy.task('bad'), on_error => romancy.task('note')))) AS id \gset
SELECT is(got(:'id') || ' | ' || (SELECT string_agg(what, ',') FROM effect), 'failed bad | note', 'once, when it fails itself');
DELETE FROM effect;
SELECT run(romancy.chain(romancy.task('inc', '1'), romancy.options(romancy.task('inc'), delay => '1 hour'), romancy.task('inc'))) AS id \gset
SELECT is(tasks(:'id'), '0 inc completed 2, 1 inc waiting, 2 inc pending', 'delay');
SELECT romancy.pause_workflow(:'id');
CALL settle();
SELECT romancy.resume_workflow(:'id');
CALL settle();
SELECT is(tasks(:'id'), '0 inc completed 2, 1 inc waiting, 2 inc pending', 'which a pause does not end');
CALL settle(true);
SELECT is(got(:'id'), 'completed 4', 'until it is over');
SELECT run(romancy.options(romancy.task('ext'), delay => '1 hour')) AS id \gset
SELECT is_empty($$ SELECT * FROM romancy.fetch_activities('csq', 'w') $$, 'a program does not get it before');
CALL settle(true);
SELECT is((SELECT count(*) FROM romancy.fetch_activities('csq', 'w')), 1::bigint, 'but then');
SELECT run(romancy.options(romancy.group(romancy.task('ext')), expires => '1 min', retry => '{"max_attempts": 1}')) AS id \gset
UPDATE romancy.t_task SET due_at = now() - interval '1 s' WHERE instance_id = :'id';
SELECT romancy.run_sweep('activity_timeouts');
CALL settle();
SELECT matches(got(:'id'), '^failed .*schedule_to_start', 'expires: a task that nobody has begun by then fails');
CREATE FUNCTION slow(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN i; END $$;
SELECT matches(got(run(romancy.options(romancy.task('slow'), timeout => '50 ms', retry => '{"max_attempts": 1}'))), '^failed .*exceeded its start_to_close_timeout', 'timeout: of each attempt');
SELECT throws_ok($$ SELECT romancy.options(romancy.task('inc'), delay => '0') $$, 'RM012', NULL, 'no interval');
SELECT throws_ok($$ SELECT romancy.run_canvas('{"task": "inc", "options": {"timeout": "soon"}}') $$, 'RM012', 'invalid signature at "options.timeout": an interval that is longer than nothing is expected', 'no interval in a signature');
SELECT lives_ok($$ SELECT romancy.run_canvas('{"task": "inc", "input": 1, "options": {"timeout": "5 min", "delay": "1 hour"}}') $$, 'an interval as PostgreSQL reads it');

-- faults of the code are not tried again
SELECT run(romancy.task('broken')) AS id \gset
SELECT is((SELECT (errors -> -1 ->> 'sqlstate') || ' ' || attempt FROM romancy.activity_tasks WHERE instance_id = :'id'), '42883 1', 'class 42: one attempt');

-- what it is started with
SELECT romancy.run_canvas(romancy.task('inc', '1'), labels => '{"a": 1}', instance_id => '01234567-89ab-7def-8123-00000000cafe', idempotency_key => 'once', start_at => now() + interval '1 day', priority => 7, execution_timeout => '2 days') AS id \gset
SELECT is(:'id'::text, '01234567-89ab-7def-8123-00000000cafe', 'instance_id');
SELECT is(romancy.run_canvas(romancy.task('inc', '5'), idempotency_key => 'once')::text, :'id', 'idempotency_key');
SELECT is((SELECT array[status, priority::text, labels::text, idempotency_key, workflow] FROM romancy.instances WHERE instance_id = :'id'), array['pending', '7', '{"a": 1}', 'once', 'canvas'], 'the rest');
SELECT is((SELECT until FROM romancy.waiting WHERE instance_id = :'id'), now() + interval '1 day', 'start_at');

-- its tasks
SELECT run(romancy.chain(romancy.task('inc', '1'), romancy.chord(romancy.group(romancy.task('inc'), romancy.task('ext'), romancy.task('bad')), romancy.task('total')), romancy.task('inc'))) AS id \gset
SELECT is(tasks(:'id'), '0 inc completed 2, 1.0 inc completed 3, 1.1 ext ready, 1.2 bad failed bad, 1.body total pending, 2 inc pending', 'canvas_tasks while it runs');
SELECT ok(romancy.cancel_task(:'id', '1.1'), 'cancel_task');
SELECT ok(NOT romancy.cancel_task(:'id', '1.1'), 'once');
SELECT ok(NOT romancy.cancel_task(:'id', '1.0'), 'not what has ended');
CALL settle();
SELECT is(tasks(:'id'), '0 inc completed 2, 1.0 inc completed 3, 1.1 ext failed task "1.1" was cancelled, 1.2 bad failed bad, 1.body total skipped, 2 inc skipped', 'and when it has failed, of the group as well');
SELECT is(got(:'id'), 'failed task "1.1" was cancelled', 'with the first error in the order of the list');
SELECT run(romancy.options(romancy.task('bad'), on_error => romancy.task('note'))) AS id \gset
SELECT is(tasks(:'id'), '0 bad failed bad, on_error note completed ' || (SELECT result::text FROM romancy.canvas_tasks(:'id') WHERE path = 'on_error'), 'an on_error that has run');
SELECT is((SELECT count(*) FROM romancy.canvas_tasks(:'id') WHERE started_at IS NOT NULL AND finished_at >= started_at AND attempt = 1), 2::bigint, 'with times and attempts');
SELECT run(romancy.group(romancy.task('inc', '1'), romancy.task('inc', '2'))) AS id \gset
SELECT is(tasks(:'id'), '0 inc completed 2, 1 inc completed 3', 'and when it has ended well');
SELECT romancy.delete_workflow(:'id');
SELECT is((SELECT count(*) FROM romancy.t_canvas_result WHERE instance_id = :'id'), 0::bigint, 'until it is deleted');
SELECT throws_ok($$ SELECT * FROM romancy.canvas_tasks('00000000-0000-0000-0000-000000000000') $$, 'RM002', NULL, 'an unknown instance');
SELECT throws_ok(format('SELECT * FROM romancy.canvas_tasks(%L)', (SELECT instance_id FROM romancy.instances WHERE workflow = 'steps')), 'RM010', NULL, 'no canvas');
SELECT throws_ok($$ SELECT romancy.cancel_task('00000000-0000-0000-0000-000000000000', '0') $$, 'RM002', NULL, 'an unknown instance');
SELECT * FROM finish();
ROLLBACK;
