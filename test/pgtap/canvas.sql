-- doc/tasks.md: each sentence about signatures, run_canvas, get_progress and await_progress has a test here
-- (many processes at once: test/t/060; a pause: pause_tasks.sql), and so has each fault of a signature, with its path.
-- It would catch a sentence of that page that is not true any more, and a fault that is reported at the wrong path.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what text, input jsonb);
CREATE FUNCTION echo(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what, input) VALUES ('echo', i); RETURN i; END $$;
CREATE FUNCTION callback(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what, input) VALUES ('callback', i); RETURN to_jsonb(coalesce(jsonb_array_length(i), -1)); END $$;
CREATE FUNCTION handled(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what, input) VALUES ('handled', i #- '{error,context}'); RETURN i; END $$;
CREATE FUNCTION inc(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(i::int + 1); END $$;
CREATE FUNCTION bad(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.raise_terminal('bad ' || (i #>> '{}')); END $$;
CREATE FUNCTION flaky(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF romancy.attempt() < 3 THEN RAISE 'not yet'; END IF; RETURN to_jsonb(romancy.attempt()); END $$;
CREATE PROCEDURE settle(advance boolean = false) LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(advance_time => advance, turns => n); END $$;
CREATE FUNCTION run(s jsonb, i jsonb = NULL) RETURNS uuid LANGUAGE plpgsql AS $$ DECLARE id uuid := romancy.run_canvas(s, i); BEGIN CALL settle(); RETURN id; END $$;
CREATE FUNCTION got(id uuid) RETURNS jsonb LANGUAGE sql AS $$ SELECT CASE WHEN status = 'completed' THEN output ELSE to_jsonb(status || ': ' || (error->>'message')) END FROM romancy.instances WHERE instance_id = id $$;
CREATE FUNCTION effects(w text) RETURNS SETOF jsonb LANGUAGE sql AS $$ SELECT input FROM effect WHERE what = w ORDER BY n $$;
CREATE FUNCTION progress(id uuid) RETURNS text LANGUAGE sql AS $$ SELECT format('%s of %s, %s failed, %s running, %s %%', completed, total, failed, running, percent) FROM romancy.get_progress(id) $$;
SELECT romancy.define_activity('ext', queue => 'cq');

-- signatures are plain jsonb: they compose, and can be stored and read back
CREATE TEMP TABLE stored AS SELECT romancy.chain(romancy.task('inc', '1'), romancy.task('inc')) AS s, '{"chain": [{"task": "inc", "input": 1}, {"task": "inc"}]}'::jsonb AS written;
SELECT is(s, written, 'a signature is what can be written by hand') FROM stored;
SELECT is(got(run(s::text::jsonb)), '3', 'a stored one runs') FROM stored;
SELECT is(romancy.options(romancy.options(romancy.task('a'), priority => 1, immutable => true), priority => 2), '{"task": "a", "options": {"priority": 2, "immutable": true}}'::jsonb, 'options add up; the last counts');

-- chain: each gets the result before it
SELECT is(got(run(romancy.chain(romancy.task('inc'), romancy.task('inc'), romancy.task('inc')), '4')), '7', 'chain: each gets the result before it, the first the input');
SELECT is(got(run(romancy.chain(romancy.task('inc')), '4')), '5', 'a chain of one');
-- group: in parallel, an array of results in order; may be empty
SELECT is(got(run(romancy.group(romancy.task('inc', '1'), romancy.task('inc'), romancy.chain(romancy.task('inc'), romancy.task('inc'))), '5')), '[2, 6, 7]', 'group: results in order; each member gets the input');
SELECT is(got(run(romancy.group(VARIADIC array(SELECT romancy.task('echo', to_jsonb(g)) FROM generate_series(1, 20) g)))), (SELECT jsonb_agg(g) FROM generate_series(1, 20) g), 'a group of a list');
SELECT is(got(run(romancy.group())), '[]', 'an empty group');
SELECT is(got(run(romancy.chain(romancy.group(), romancy.task('echo')))), '[]', 'an empty group in a chain');
SELECT is(got(run(romancy.group(romancy.group(), romancy.group(romancy.group(), romancy.task('inc', '1'))))), '[[], [[], 2]]', 'groups in groups');
-- chord: the header a group or an array, then a callback with its results, once; an empty header fires at once
DELETE FROM effect;
SELECT is(got(run(romancy.chord(romancy.group(romancy.task('inc', '1'), romancy.task('inc', '2')), romancy.task('callback')))), '2', 'chord: the header a group');
SELECT is(got(run(romancy.chord(jsonb_build_array(romancy.task('inc', '1'), romancy.task('inc', '2'), romancy.task('inc', '3')), romancy.task('callback')))), '3', 'or an array');
SELECT is(got(run(romancy.chord('[]', romancy.task('callback')))), '0', 'or empty');
SELECT is(got(run(romancy.chord(romancy.group(), romancy.task('callback')))), '0', 'or an empty group');
SELECT results_eq($$ SELECT * FROM effects('callback') $$, ARRAY['[2, 3]', '[2, 3, 4]', '[]', '[]']::jsonb[], 'each callback ran once, with all results in order');
SELECT is(got(run(romancy.chord(romancy.group(romancy.chord(romancy.group(romancy.task('inc', '1')), romancy.task('echo')), romancy.task('inc', '5')), romancy.chain(romancy.task('echo'), romancy.task('callback'))))), '2', 'chords in chords; a callback that is a chain');

-- inputs: none, an object, immutable, any other
DELETE FROM effect;
SELECT is(got(run(romancy.chain(romancy.task('inc', '1'), romancy.task('echo')))), '2', 'no input of its own: the result before it');
SELECT is(got(run(romancy.chain(romancy.task('inc', '1'), romancy.task('echo', '{"a": 1}')))), '{"a": 1, "previous": 2}', 'an object: with the key previous');
SELECT is(got(run(romancy.chain(romancy.task('inc', '1'), romancy.task('echo', '{"a": 1, "previous": 0}')))), '{"a": 1, "previous": 2}', 'in the place of one that it has');
SELECT is(got(run(romancy.chain(romancy.task('inc', '1'), romancy.options(romancy.task('echo', '{"a": 1}'), immutable => true)))), '{"a": 1}', 'unless immutable');
SELECT is(got(run(romancy.options(romancy.chain(romancy.task('inc', '1'), romancy.task('echo', '{"a": 1}')), immutable => true))), '{"a": 1}', 'which holds for all below');
SELECT is(got(run(romancy.chain(romancy.task('inc', '1'), romancy.task('echo', input)))), input, format('any other is passed as it is: %s', input)) FROM unnest(ARRAY['[1]', '"x"', '7', 'true', 'null']::jsonb[]) input;
SELECT is(got(run(romancy.chord(romancy.group(romancy.task('inc', '1')), romancy.task('echo', '{"a": 1}')))), '{"a": 1, "previous": [2]}', 'a callback with an object');
SELECT is(got(run(romancy.task('echo', '{"a": 1}'), '9')), '{"a": 1, "previous": 9}', 'the input of run_canvas is the result before the first');

-- options: retry, priority
SELECT run(romancy.options(romancy.chain(romancy.task('flaky')), retry => '{"max_attempts": 3, "initial_interval": "1 min"}')) AS id \gset
CALL settle(true);
SELECT is(got(:'id'), '3', 'retry holds for the tasks below');
SELECT run(romancy.options(romancy.task('flaky'), retry => '{"max_attempts": 1}')) AS id \gset
SELECT is(got(:'id'), '"failed: not yet"', 'and counts');
SELECT run(romancy.group(romancy.task('ext', '1'), romancy.options(romancy.task('ext', '2'), priority => 5), romancy.options(romancy.group(romancy.task('ext', '3'), romancy.options(romancy.task('ext', '4'), priority => -1)), priority => 3))) AS id \gset
CREATE TEMP TABLE taken AS SELECT row_number() OVER () AS nr, * FROM romancy.fetch_activities('cq', 'w', 10);
SELECT results_eq('SELECT input FROM taken ORDER BY nr', ARRAY['2', '3', '1', '4']::jsonb[], 'priority: of a task, of all below, the nearest counts');
SELECT is(progress(:'id'), '0 of 4, 0 failed, 4 running, 0.00 %', 'what runs is counted');
SELECT count(romancy.complete_activity(token, input)) FROM taken WHERE nr < 4 \gset
CALL settle();
SELECT is(progress(:'id'), '3 of 4, 0 failed, 1 running, 75.00 %', 'and what has ended');
SELECT ok(eta > clock_timestamp() - interval '1 s', 'the end is estimated') FROM romancy.get_progress(:'id');
SELECT romancy.complete_activity(token, input) FROM taken WHERE nr = 4 \gset
CALL settle();
SELECT is(got(:'id'), '[1, 2, [3, 4]]', 'in list order whatever order they ended in');
SELECT is(progress(:'id'), '4 of 4, 0 failed, 0 running, 100.00 %', 'after the end the count stays');
SELECT is((SELECT eta FROM romancy.get_progress(:'id')), NULL, 'and nothing is estimated');

-- errors: the others run on, then the first in list order; the callback does not run; on_error gets {error, signature}
DELETE FROM effect;
SELECT run(romancy.options(romancy.chord(romancy.group(romancy.task('echo', '1'), romancy.task('ext'), romancy.task('bad', '"b"'), romancy.task('echo', '2')), romancy.task('callback')), on_error => romancy.task('handled'))) AS id \gset
SELECT results_eq($$ SELECT * FROM effects('echo') $$, ARRAY['1', '2']::jsonb[], 'the others run on');
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'id'), 'waiting_for_activity', 'the group fails when all have ended');
SELECT is(progress(:'id'), '2 of 5, 1 failed, 0 running, 60.00 %', 'failed ones count');
SELECT romancy.fail_activity(token, 'bad a', non_retryable => true) FROM romancy.fetch_activities('cq', 'w') \gset
CALL settle();
SELECT is(got(:'id'), '"failed: bad a"', 'with the first error in list order, not in time');
SELECT is_empty($$ SELECT * FROM effects('callback') $$, 'the callback does not run');
SELECT results_eq($$ SELECT i->'error'->>'message', i->'signature' ? 'chord' FROM effects('handled') i $$, $$ VALUES ('bad a', true) $$, 'on_error gets the error and the signature that failed, once');
SELECT is((SELECT count(*) FROM romancy.activity_tasks WHERE instance_id = :'id' AND status = 'dead'), 2::bigint, 'dead tasks stay visible');
DELETE FROM effect;
SELECT is(got(run(romancy.chain(romancy.task('bad', '"x"'), romancy.task('echo')))), '"failed: bad x"', 'a chain ends with its first error');
SELECT is_empty($$ SELECT * FROM effects('echo') $$, 'what comes after does not run');
SELECT is(got(run(romancy.options(romancy.task('bad', '"x"'), on_error => romancy.task('bad', '"y"')))), '"failed: bad x"', 'an on_error that fails changes nothing');
SELECT is(got(run(romancy.group(romancy.options(romancy.task('bad', '"x"'), on_error => romancy.task('handled')), romancy.task('inc', '1')))), '"failed: bad x"', 'a canvas whose on_error succeeded has still failed');
SELECT is((SELECT count(*) FROM effects('handled')), 1::bigint, 'though it ran');
SELECT is(got(run(romancy.options(romancy.task('inc', '1'), on_error => romancy.task('handled')))), '2', 'without an error it does not run');
SELECT is((SELECT count(*) FROM effects('handled')), 1::bigint, 'no, it does not');
SELECT is(got(run(romancy.chord(romancy.group(romancy.task('inc', '1')), romancy.task('bad', '"callback"')))), '"failed: bad callback"', 'a callback that fails');
CREATE FUNCTION goes(i jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS 'SELECT i';
SELECT romancy.run_canvas(romancy.task('goes')) AS id \gset
DROP FUNCTION goes(jsonb);
CALL settle(true);
SELECT is((SELECT status || ' ' || (error->>'sqlstate') FROM romancy.instances WHERE instance_id = :'id'), 'failed RM001', 'an activity that does not exist any more');

-- a chord's header that is a group with options: they hold for its members; its on_error comes when one of them fails, not for the callback
DELETE FROM effect;
SELECT run(romancy.options(romancy.chord(romancy.options(romancy.group(romancy.task('bad', '"x"'), romancy.task('inc', '1')), on_error => romancy.task('handled', '{"of": "header"}')), romancy.task('callback')), on_error => romancy.task('handled', '{"of": "chord"}'))) AS id \gset
SELECT is(got(:'id'), '"failed: bad x"', 'a header that fails');
SELECT results_eq($$ SELECT i->>'of', i->'previous'->'signature' ? 'group' FROM effects('handled') i $$, $$ VALUES ('header', true), ('chord', false) $$, 'its on_error, with the group as the signature, then the chord''s');
SELECT is(progress(:'id'), '1 of 3, 1 failed, 0 running, 66.66 %', 'neither counts');
SELECT is((SELECT count(DISTINCT activity_id) || ' of ' || count(*) FROM romancy.activity_tasks WHERE instance_id = :'id'), '1 of 1', 'the failed task has an id of its own');
DELETE FROM effect;
SELECT is(got(run(romancy.chord(romancy.options(romancy.group(romancy.task('inc', '1')), on_error => romancy.task('handled')), romancy.task('bad', '"callback"')))), '"failed: bad callback"', 'a callback that fails');
SELECT is_empty($$ SELECT * FROM effects('handled') $$, 'is not the header''s error');
SELECT is(got(run(romancy.chord(romancy.options(romancy.group(), on_error => romancy.task('handled')), romancy.task('callback')))), '0', 'an empty header with an on_error');
SELECT is(got(run(romancy.chain(romancy.task('inc', '1'), romancy.chord(romancy.options(romancy.group(romancy.task('echo', '{"a": 1}')), immutable => true), romancy.task('echo', '{"b": 1}'))))), '{"b": 1, "previous": [{"a": 1}]}', 'immutable for the header alone');
SELECT is(got(run(romancy.chord(romancy.options(romancy.group(romancy.task('flaky')), retry => '{"max_attempts": 1}'), romancy.task('callback')))), '"failed: not yet"', 'retry for the header');
SELECT run(romancy.chord(romancy.options(romancy.group(romancy.task('ext', '1')), priority => 5), romancy.task('ext', '{}'))) AS id \gset
SELECT is((SELECT priority FROM romancy.activity_tasks WHERE instance_id = :'id'), 5, 'priority for the header');
SELECT romancy.complete_activity(token) FROM romancy.fetch_activities('cq', 'w', 10) \gset
CALL settle();
SELECT is((SELECT priority FROM romancy.activity_tasks WHERE instance_id = :'id'), 0, 'not for its callback');
SELECT romancy.complete_activity(token) FROM romancy.fetch_activities('cq', 'w', 10) \gset
CALL settle();

-- what has no task in it costs nothing, however much of it there is
SELECT is(got(run(romancy.chain(VARIADIC array(SELECT romancy.group() FROM generate_series(1, 3000)) || romancy.task('callback') || array(SELECT romancy.chord('[]', romancy.chain(romancy.group())) FROM generate_series(1, 3000))))), '[]', 'six thousand empty groups and chords in a chain');

-- a result of some size, and many members
SELECT is(length(got(run(romancy.group(VARIADIC array(SELECT romancy.task('echo', to_jsonb(repeat('x', 1000))) FROM generate_series(1, 500) g))))::text), 500 * 1004, 'half a megabyte of results');

-- retry_workflow: what failed begins again, what had succeeded stays, and what comes after goes on
CREATE TABLE fixed (what text);
CREATE FUNCTION needs(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO effect (what, input) VALUES ('needs', i);
	IF NOT EXISTS (SELECT FROM fixed WHERE what = coalesce(i ->> 'what', i #>> '{}')) THEN PERFORM romancy.raise_terminal('needs ' || coalesce(i ->> 'what', i #>> '{}')); END IF;
	RETURN i;
END $$;
CREATE FUNCTION again(id uuid) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN DELETE FROM effect; PERFORM romancy.retry_workflow(id); CALL settle(); RETURN got(id); END $$;
CREATE FUNCTION ran() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(what || ' ' || input, ', ' ORDER BY what, input) FROM effect $$;
CREATE FUNCTION left_over(id uuid) RETURNS bigint LANGUAGE sql AS $$ SELECT (SELECT count(*) FROM romancy.t_canvas_join j WHERE j.instance_id = id) + (SELECT count(*) FROM romancy.t_task t WHERE t.instance_id = id) $$;
DELETE FROM effect;
SELECT run(romancy.chain(romancy.task('echo', '1'), romancy.chord(romancy.group(
	romancy.task('echo', '2'), romancy.task('needs', '"a"'),
	romancy.chain(romancy.task('echo', '3'), romancy.task('needs', '{"what": "b"}'), romancy.task('echo')),
	romancy.group(romancy.task('echo', '4'), romancy.task('needs', '"c"')), romancy.group(romancy.task('echo', '5')), romancy.group()),
	romancy.task('callback')), romancy.task('needs', '{"what": "d"}'))) AS id \gset
SELECT is(got(:'id'), '"failed: needs a"', 'a canvas that fails in three places');
SELECT is(ran(), 'echo 1, echo 2, echo 3, echo 4, echo 5', 'so much has run (what fails is rolled back)');
SELECT is(progress(:'id'), '5 of 11, 3 failed, 0 running, 72.72 %', 'says its progress');
INSERT INTO fixed VALUES ('b'), ('c');
SELECT is(again(:'id'), '"failed: needs a"', 'one place is not mended');
SELECT is(ran(), 'echo {"what": "b", "previous": 3}, needs "c", needs {"what": "b", "previous": 3}', 'only what had failed, and what comes after it, has run');
INSERT INTO fixed VALUES ('a');
SELECT is(again(:'id'), '"failed: needs d"', 'now the group succeeds');
SELECT is(ran(), 'callback [2, "a", {"what": "b", "previous": 3}, [4, "c"], [5], []], needs "a"', 'and its callback has all results, the kept ones too');
INSERT INTO fixed VALUES ('d');
SELECT is(again(:'id'), '{"what": "d", "previous": 6}', 'the last of the chain');
SELECT is(ran(), 'needs {"what": "d", "previous": 6}', 'ran alone');
SELECT is(progress(:'id'), '11 of 11, 0 failed, 0 running, 100.00 %', 'the progress counts each once');
SELECT is(left_over(:'id'), 0::bigint, 'and nothing is left over');
TRUNCATE fixed;
-- on_error, of a task and of a group, and one that fails itself: again when its task fails again, and not else
DELETE FROM effect;
SELECT run(romancy.options(romancy.group(romancy.options(romancy.task('needs', '"a"'), on_error => romancy.task('handled')), romancy.task('echo', '1')),
	on_error => romancy.group(romancy.task('handled'), romancy.task('needs', '{"what": "h"}')))) AS id \gset
SELECT is(got(:'id'), '"failed: needs a"', 'on_error of a task and of a group');
SELECT is(again(:'id'), '"failed: needs a"', 'retried in vain');
SELECT is((SELECT string_agg(what, ' ' ORDER BY what) FROM effect), 'handled handled', 'each runs again');
INSERT INTO fixed VALUES ('a');
SELECT is(again(:'id'), '["a", 1]', 'mended');
SELECT is(ran(), 'needs "a"', 'what handled the error does not run');
SELECT is(left_over(:'id'), 0::bigint, 'nothing is left over');
TRUNCATE fixed;
-- one that ends by its timeout has tasks that are missing: it begins anew
SELECT romancy.run_canvas(romancy.group(romancy.task('needs', '"a"'), romancy.task('ext', '1'))) AS id \gset
CALL settle();
UPDATE romancy.t_instance SET deadline = clock_timestamp() + interval '1 s', wake_at = clock_timestamp() + interval '1 s' WHERE instance_id = :'id';
CALL settle(true);
SELECT is((SELECT error ->> 'sqlstate' FROM romancy.instances WHERE instance_id = :'id'), 'RM006', 'one that has exceeded its time');
UPDATE romancy.t_instance SET deadline = NULL WHERE instance_id = :'id';
INSERT INTO fixed VALUES ('a');
DELETE FROM effect;
SELECT romancy.retry_workflow(:'id');
CALL settle();
SELECT is((SELECT count(romancy.complete_activity(token, '2')) FROM romancy.fetch_activities('cq', 'w')), 1::bigint, 'begins anew');
CALL settle();
SELECT is(got(:'id'), '["a", 2]', 'and succeeds');
SELECT is(left_over(:'id'), 0::bigint, 'nothing is left over');
TRUNCATE fixed;
-- what is kept goes with its instance
SELECT run(romancy.group(romancy.task('needs', '"a"'), romancy.task('echo', '1'))) AS id \gset
SELECT cmp_ok(left_over(:'id'), '>', 0::bigint, 'a failed one keeps its results');
SELECT romancy.delete_workflow(:'id');
SELECT is(left_over(:'id'), 0::bigint, 'until it is deleted');
-- a dead task of a queue
SELECT romancy.run_canvas(romancy.chord(romancy.group(romancy.task('ext', '1'), romancy.task('ext', '2')), romancy.task('callback'))) AS id \gset
CALL settle();
SELECT is((SELECT count(CASE WHEN input = '1' THEN romancy.complete_activity(token, '1') ELSE romancy.fail_activity(token, 'no', non_retryable => true) END) FROM romancy.fetch_activities('cq', 'w', 9)), 2::bigint, 'one ends well, one does not');
CALL settle();
SELECT is(got(:'id'), '"failed: no"', 'so it fails');
SELECT romancy.retry_workflow(:'id');
CALL settle();
SELECT results_eq($$ SELECT input, attempt, romancy.complete_activity(token, '2') FROM romancy.fetch_activities('cq', 'w', 9) $$, $$ VALUES ('2'::jsonb, 1, true) $$, 'the dead one is there again, as new');
CALL settle();
SELECT is(got(:'id'), '2', 'and the callback runs');

-- run_canvas: an instance like others
SELECT romancy.run_canvas(romancy.task('inc', '1'), labels => '{"k": "v"}', result_expires => '1 day') AS id \gset
SELECT is((SELECT labels FROM romancy.instances WHERE instance_id = :'id'), '{"k": "v"}', 'labels');
CALL settle();
SELECT is(romancy.get_result(:'id'), '2', 'get_result');
SELECT run(romancy.group(romancy.task('ext'), romancy.chain(romancy.task('ext'), romancy.task('echo')))) AS id \gset
SELECT token AS t FROM romancy.fetch_activities('cq', 'w') \gset
SELECT ok(romancy.cancel_workflow(:'id'), 'cancel_workflow');
CALL settle();
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'id'), 'cancelled', 'ends it');
SELECT is(romancy.heartbeat_activity(:'t'), 'cancel_requested', 'and tells its workers');
SELECT ok(NOT romancy.complete_activity(:'t'), 'whose results are not wanted');
SELECT results_eq('SELECT (SELECT count(*) FROM romancy.t_canvas_join JOIN romancy.instances USING (instance_id) WHERE status <> ''failed''), (SELECT count(*) FROM romancy.t_task WHERE state <> 3)', 'VALUES (0::bigint, 0::bigint)', 'no group and no task of all these is left, but of what has failed');

-- get_progress of another instance: what it said
CREATE FUNCTION reports(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.set_progress(3, 8, 'half'); PERFORM romancy.sleep('1 h'); RETURN i; END $$;
SELECT romancy.start_workflow('reports') AS id \gset
CALL settle();
SELECT results_eq(format('SELECT completed, total, percent, note FROM romancy.get_progress(%L)', :'id'), $$ VALUES (3::bigint, 8::bigint, 37.50, 'half') $$, 'set_progress is seen by others');
CREATE FUNCTION reports_much(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.set_progress(i::bigint, 9223372036854775807); RETURN i; END $$;
SELECT romancy.start_workflow('reports_much', '4611686018427387904') AS half, romancy.start_workflow('reports_much', '9223372036854775807') AS much \gset
CALL settle();
CREATE FUNCTION reports_little(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.set_progress(1, 9223372036854775807); PERFORM romancy.sleep('1 h'); RETURN i; END $$;
SELECT romancy.start_workflow('reports_little') AS little \gset
CALL settle();
SELECT pg_sleep(0.01);
SELECT is(eta, NULL, 'an end after the end of time is not estimated') FROM romancy.get_progress(:'little');
SELECT is(percent, p, 'of 2^63, ' || p || ' %') FROM (VALUES (:'half'::uuid, 50.00), (:'much', 100.00)) v (id, p), romancy.get_progress(id);
SELECT throws_ok('SELECT romancy.get_progress($$00000000-0000-0000-0000-000000000000$$)', 'RM002', NULL, 'an unknown instance');
SELECT throws_ok(format('CALL romancy.await_progress(%L)', :'id'), '25001', NULL, 'await_progress says that it cannot be in a transaction block');

-- faults, with their path
SELECT throws_ok(format('SELECT romancy.run_canvas(%L)', s), 'RM012', message, message)
FROM (VALUES
	('{"chain": []}', 'invalid signature at "chain": a chain must not be empty'),
	('{"chain": [{"task": "a"}, {"chain": []}]}', 'invalid signature at "chain[1].chain": a chain must not be empty'),
	('{"group": [{"task": "x", "foo": 1}]}', 'invalid signature at "group[0].foo": unknown key'),
	('{"group": [null]}', 'invalid signature at "group[0]": an object is expected'),
	('{"group": {"task": "a"}}', 'invalid signature at "group": an array of signatures is expected'),
	('{"task": 1}', 'invalid signature at "task": the name of an activity is expected'),
	('{"task": ""}', 'invalid signature at "task": the name of an activity is expected'),
	('[]', 'invalid signature at "$": an object is expected'), ('1', 'invalid signature at "$": an object is expected'),
	('{}', 'invalid signature at "$": it is none of task, chain, group and chord'),
	('{"task": "a", "group": []}', 'invalid signature at "group": unknown key'),
	('{"chord": {"header": 1, "body": {"task": "a"}}}', 'invalid signature at "chord.header": an array of signatures is expected'),
	('{"chord": {"header": {"task": "a"}, "body": {"task": "a"}}}', 'invalid signature at "chord.header": a group or an array is expected'),
	('{"chord": {"header": []}}', 'invalid signature at "chord.body": an object is expected'),
	('{"chord": {"header": [], "body": {"task": "a"}, "x": 1}}', 'invalid signature at "chord.x": unknown key'),
	('{"task": "a", "options": {"priority": "high"}}', 'invalid signature at "options.priority": an integer is expected'),
	('{"task": "a", "options": {"immutable": 1}}', 'invalid signature at "options.immutable": true or false is expected'),
	('{"task": "a", "options": {"color": 1}}', 'invalid signature at "options.color": unknown option'),
	('{"task": "a", "options": {"on_error": {"chain": []}}}', 'invalid signature at "options.on_error.chain": a chain must not be empty')) f (s, message);
SELECT throws_ok($$ SELECT romancy.run_canvas('{"task": "a", "options": {"retry": {"attempts": 1}}}') $$, 'RM012', NULL, 'a retry policy with a wrong key');
-- a cycle cannot be written in JSON; what a program makes of one by following it is nested without end
SELECT throws_ok(format('SELECT romancy.run_canvas(%L)', repeat('{"group": [', 300) || '{"task": "a"}' || repeat(']}', 300)), 'RM012', NULL, 'a signature that goes on without end');
SELECT throws_like(format('SELECT romancy.run_canvas(%L)', repeat('{"group": [', 300) || '{"task": "a"}' || repeat(']}', 300)), '%nested deeper than 200', 'it says so');
SELECT is(got(run(format('%s{"task": "inc", "input": 1}%s', repeat('{"group": [', 190), repeat(']}', 190))::jsonb)) #>> array_fill('0'::text, ARRAY[190]), '2', 'a hundred and ninety levels are run');
SELECT throws_ok('SELECT romancy.run_canvas(NULL)', '22004', NULL, 'no signature');
SELECT throws_ok($$ SELECT romancy.options('[]') $$, 'RM012', NULL, 'options of no signature');
SELECT throws_ok($$ SELECT romancy.t_canvas('{}') $$, 'RM004', NULL, 'the handler of canvases is not for others');
CREATE FUNCTION sneaks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.run_canvas(romancy.task('inc')); RETURN NULL; END $$;
SELECT romancy.start_workflow('sneaks') AS id \gset
CALL settle();
SELECT is((SELECT error->>'sqlstate' FROM romancy.instances WHERE instance_id = :'id'), 'RM004', 'not in a handler');
-- tasks of an on_error do not count, however it is put together
SELECT run(romancy.options(romancy.task('bad', '"a"'), on_error => romancy.chain(romancy.group(romancy.task('handled'), romancy.chain(romancy.task('handled'), romancy.group(romancy.task('handled')))), romancy.task('handled')))) AS id \gset
SELECT is(progress(:'id'), '0 of 1, 1 failed, 0 running, 100.00 %', 'groups in an on_error do not count');
SELECT throws_ok($$ SELECT romancy.run_canvas('{"task": "inc", "options": {"priority": 1.5}}') $$, 'RM012', 'invalid signature at "options.priority": an integer is expected', 'half a priority');
SELECT lives_ok($$ SELECT romancy.run_canvas('{"task": "inc", "input": 1, "options": {"priority": 2.0}}') $$, 'a whole one, however it is written');
SELECT * FROM finish();
ROLLBACK;
