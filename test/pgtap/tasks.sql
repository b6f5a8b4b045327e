-- doc/tasks.md: each sentence of the calls for programs outside has a test here (waiting and
-- processes: test/t/011, 012, 060 to 062; a paused instance: pause_tasks.sql), and so has each bad input.
-- It would catch a sentence of that page that is not true any more, and input that is taken and does harm later.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
CREATE ROLE tasks_owner;
CREATE ROLE tasks_other;
SELECT romancy.grant_usage('tasks_owner', namespace => 'tasks'), romancy.grant_usage('tasks_other', namespace => 'tasks');
GRANT CREATE ON SCHEMA public TO tasks_owner;
CREATE PROCEDURE settle(advance boolean = false) LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(advance_time => advance, turns => n); END $$;
CREATE FUNCTION status(id uuid) RETURNS text LANGUAGE sql AS $$ SELECT status FROM romancy.instances WHERE instance_id = id $$;
CREATE FUNCTION one(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity(i->>'do', i, 'step'); END $$;
CREATE FUNCTION begin_one(input jsonb, priority int = 0) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE id uuid := romancy.start_workflow('one', input, priority => priority);
BEGIN CALL settle(); RETURN id; END $$;
CREATE FUNCTION failed(id uuid, OUT sqlstate text, OUT code text, OUT message text, OUT detail text, OUT retry boolean, OUT attempts int) LANGUAGE sql AS $$
	SELECT data->'error'->>'sqlstate', data->'error'->>'code', data->'error'->>'message', data->'error'->>'detail', data ? 'retry', (data->'retry'->>'total_attempts')::int
	FROM romancy.get_history(id) WHERE event_type = 'ActivityFailed' $$;
CREATE FUNCTION dead(id uuid) RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM romancy.activity_tasks WHERE instance_id = id AND status = 'dead' $$;
SELECT romancy.define_activity('ext', queue => 'tq', retry => '{"max_attempts": 2, "initial_interval": "1 min", "jitter": 0}');
SELECT romancy.define_activity('once', queue => 'tq', retry => '{"max_attempts": 1}');

-- fetch_activities: at most max_tasks, highest priority first, then oldest; a lease
SELECT begin_one('{"do": "ext", "n": 1}') AS a \gset
SELECT begin_one('{"do": "ext", "n": 2}') AS b \gset
SELECT begin_one('{"do": "ext", "n": 3}', 7) AS c \gset
SELECT begin_one('{"do": "ext", "n": 4}', -1) AS d \gset
CREATE TEMP TABLE got AS SELECT row_number() OVER () AS nr, * FROM romancy.fetch_activities('tq', 'worker 1', 3, '1 h');
SELECT results_eq('SELECT (input->>$$n$$)::int FROM got ORDER BY nr', ARRAY[3, 1, 2], 'highest priority first, then oldest, no more than asked for');
SELECT results_eq($$ SELECT instance_id, activity_id, activity, attempt, last_details FROM got WHERE nr = 2 $$,
	format($$ VALUES (%L::uuid, 'step', 'ext', 1, NULL::jsonb) $$, :'a'), 'a task tells its instance, its step, its activity and its attempt');
SELECT ok(deadline BETWEEN clock_timestamp() + '59 min' AND clock_timestamp() + '61 min', 'and when its lease ends') FROM got WHERE nr = 1;
SELECT is((SELECT count(DISTINCT token) FROM got), 3::bigint, 'each has a token of its own');
SELECT results_eq('SELECT (input->>$$n$$)::int FROM romancy.fetch_activities($$tq$$, $$worker 2$$, 10)', ARRAY[4], 'what is claimed nobody else gets');
SELECT is((SELECT worker_id FROM romancy.activity_tasks WHERE instance_id = :'a'), 'worker 1', 'the view tells who has it');
SELECT is_empty($$ SELECT * FROM romancy.fetch_activities('tq', 'w') $$, 'no work: no rows');
SELECT is_empty($$ SELECT * FROM romancy.fetch_activities('no such queue', 'w') $$, 'an unknown queue is an empty one');
SELECT token AS ta FROM got WHERE nr = 2 \gset
SELECT token AS tb FROM got WHERE nr = 3 \gset
SELECT token AS tc FROM got WHERE nr = 1 \gset

-- complete_activity
SELECT ok(romancy.complete_activity(:'tc', '{"done": 1}'), 'a result is taken');
SELECT ok(NOT romancy.complete_activity(:'tc', '{"done": 2}'), 'once');
SELECT ok(NOT romancy.fail_activity(:'tc', 'no'), 'a failure after it is not');
SELECT is(romancy.heartbeat_activity(:'tc'), 'lost', 'its lease is lost');
CALL settle();
SELECT is(romancy.get_result(:'c'), '{"done": 1}'::jsonb, 'the first result counts');
SELECT romancy.cancel_workflow(:'d') \gset
CALL settle();

-- heartbeat_activity: the last details reach the next attempt; extend; ok, cancel_requested, lost
SELECT is(romancy.heartbeat_activity(:'ta', '{"at": 1}'), 'ok', 'a heartbeat');
SELECT is(romancy.heartbeat_activity(:'ta', '{"at": 2}', '2 h'), 'ok', 'with details and a longer lease');
SELECT is(romancy.heartbeat_activity(:'ta'), 'ok', 'without details the last ones stay');
SELECT ok(due_at > clock_timestamp() + '110 min', 'the lease was extended, and a heartbeat renews it by its length') FROM romancy.activity_tasks WHERE instance_id = :'a';
SELECT ok(romancy.fail_activity(:'ta', 'no luck', 'ValueError', '{"x": 1}'), 'the attempt fails');
SELECT is((SELECT status FROM romancy.activity_tasks WHERE instance_id = :'a'), 'waiting', 'another one will come');
SELECT is_empty($$ SELECT * FROM romancy.fetch_activities('tq', 'w') $$, 'not at once');
CALL settle(true);
SELECT token AS t2, attempt AS n, last_details AS details FROM romancy.fetch_activities('tq', 'w') \gset
SELECT is(:n, 2, 'after its interval, as the second attempt');
SELECT is(:'details'::jsonb, '{"at": 2}'::jsonb, 'with the last details of the first');
SELECT is(romancy.heartbeat_activity(:'ta'), 'lost', 'the first attempt''s token is lost');
SELECT ok(NOT romancy.complete_activity(:'ta', '"old"'), 'and changes nothing');
SELECT romancy.cancel_workflow(:'b') \gset
CALL settle();
SELECT is(romancy.heartbeat_activity(:'tb'), 'cancel_requested', 'a cancel reaches the worker through its heartbeat');
SELECT ok(NOT romancy.complete_activity(:'tb', '"late"'), 'a result is not wanted then');
SELECT is(romancy.heartbeat_activity(:'tb'), 'lost', 'and after it the lease is over');
SELECT is(status(:'b'), 'cancelled'::text, 'the instance is what it was');

-- fail_activity: the policy, a SQLSTATE or another name, detail; then the task is dead, visible, and can be tried again
SELECT ok(romancy.fail_activity(:'t2', 'no luck again', 'ValueError', '{"x": 2}'), 'the last attempt fails');
CALL settle();
SELECT is(status(:'a'), 'failed'::text, 'the instance fails');
SELECT results_eq(format('SELECT * FROM failed(%L)', :'a'), $$ VALUES ('RM007', 'ValueError', 'no luck again', '{"x": 2}', true, 2) $$, 'its history tells the error, with its own name, and the attempts');
SELECT is(dead(:'a'), 1::bigint, 'the dead task stays visible');
SELECT is((SELECT jsonb_array_length(errors) FROM romancy.activity_tasks WHERE instance_id = :'a'), 2, 'with its errors');
SELECT is((SELECT dead FROM romancy.queues WHERE name = 'tq'), 1::bigint, 'view queues counts it');
SELECT is_empty($$ SELECT * FROM romancy.fetch_activities('tq', 'w') $$, 'nobody is given it');
SELECT ok(romancy.retry_workflow(:'a'), 'retry_workflow');
CALL settle();
SELECT token AS t, attempt AS n FROM romancy.fetch_activities('tq', 'w') \gset
SELECT is(:n, 1, 'tries the step again from its first attempt');
SELECT ok(romancy.complete_activity(:'t', '"at last"'));
CALL settle();
SELECT is(romancy.get_result(:'a'), '"at last"'::jsonb, 'and the instance completes');
SELECT begin_one('{"do": "ext"}') AS a \gset
SELECT token AS t FROM romancy.fetch_activities('tq', 'w') \gset
SELECT ok(romancy.fail_activity(:'t', 'bad input', '22023', non_retryable => true), 'non_retryable');
CALL settle();
SELECT results_eq(format('SELECT * FROM failed(%L)', :'a'), $$ VALUES ('22023', NULL, 'bad input', NULL, false, NULL::int) $$, 'ends it with its first attempt, with the SQLSTATE given');
SELECT romancy.define_activity('picky', queue => 'tq', retry => '{"max_attempts": 5, "initial_interval": "1 min", "non_retryable_errors": ["22"]}');
SELECT begin_one('{"do": "picky"}') AS a \gset
SELECT token AS t FROM romancy.fetch_activities('tq', 'w') \gset
SELECT ok(romancy.fail_activity(:'t', 'division by zero', '22012'), 'an error of a class that the policy does not retry');
CALL settle();
SELECT is((SELECT sqlstate FROM failed(:'a')), '22012', 'ends it as well');

-- a lease that ends: the sweep gives the work to another; the token is a fence
SELECT begin_one('{"do": "ext"}') AS a \gset
SELECT token AS t1 FROM romancy.fetch_activities('tq', 'w1', lease => '1 ms') \gset
SELECT pg_sleep(0.01);
SELECT ok(NOT romancy.complete_activity(:'t1', '"too late"'), 'after the lease''s end a result is not taken, though nobody else has it yet');
SELECT is(romancy.heartbeat_activity(:'t1', '{"at": 9}'), 'lost', 'nor does a heartbeat bring it back');
SELECT ok(romancy.run_sweep('lock_cleanup') > 0, 'the sweep takes it');
SELECT token AS t2, attempt AS n, last_details IS NULL AS no_details FROM romancy.fetch_activities('tq', 'w2') \gset
SELECT is(:n, 2, 'another worker has it, as the next attempt');
SELECT ok(:'no_details'::boolean, 'details of a lost lease are not kept');
SELECT ok(NOT romancy.complete_activity(:'t1', '"old"') AND NOT romancy.fail_activity(:'t1', 'old'), 'the old holder can change nothing');
SELECT ok(romancy.complete_activity(:'t2', '"new"'), 'the new one can');
CALL settle();
SELECT is(romancy.get_result(:'a'), '"new"'::jsonb, 'its result counts');

-- time limits of an activity
SELECT romancy.define_activity('beats', queue => 'tq', heartbeat_timeout => '1 ms', retry => '{"max_attempts": 1}');
SELECT begin_one('{"do": "beats"}') AS a \gset
SELECT token AS t FROM romancy.fetch_activities('tq', 'w', lease => '1 h') \gset
SELECT pg_sleep(0.01);
SELECT is(romancy.heartbeat_activity(:'t'), 'lost', 'heartbeat_timeout ends the lease before its time');
SELECT romancy.run_sweep('lock_cleanup') \gset
CALL settle();
SELECT results_eq(format('SELECT sqlstate, message FROM failed(%L)', :'a'), $$ VALUES ('RM006', 'activity "beats" exceeded its heartbeat_timeout') $$, 'with its own error');
SELECT romancy.define_activity('beats', queue => 'tq', heartbeat_timeout => '1 h', retry => '{"max_attempts": 1}');
SELECT begin_one('{"do": "beats"}') AS a \gset
SELECT token AS t FROM romancy.fetch_activities('tq', 'w', lease => '1 min') \gset
SELECT romancy.heartbeat_activity(:'t', extend => '2 days') \gset
SELECT ok(due_at < clock_timestamp() + '61 min', 'a lease is never longer than to the next heartbeat due') FROM romancy.activity_tasks WHERE instance_id = :'a';
SELECT ok(romancy.complete_activity(:'t'), 'a heartbeat in time');
CALL settle();
SELECT is(romancy.get_result(:'a'), 'null'::jsonb, 'keeps it; no result is JSON null');
SELECT romancy.define_activity('short', queue => 'tq', start_to_close_timeout => '1 ms', retry => '{"max_attempts": 2, "initial_interval": "1 min", "jitter": 0}');
SELECT begin_one('{"do": "short"}') AS a \gset
SELECT token AS t FROM romancy.fetch_activities('tq', 'w', lease => '1 h') \gset
SELECT pg_sleep(0.01);
SELECT is(romancy.heartbeat_activity(:'t'), 'lost', 'start_to_close_timeout: no heartbeat prolongs it');
SELECT romancy.run_sweep('lock_cleanup') \gset
SELECT is((SELECT status FROM romancy.activity_tasks WHERE instance_id = :'a'), 'waiting', 'it is retried by the policy');
CALL settle(true);
SELECT count(*) FROM romancy.fetch_activities('tq', 'w', lease => '1 h') \gset
SELECT pg_sleep(0.01);
SELECT romancy.run_sweep('lock_cleanup') \gset
CALL settle();
SELECT results_eq(format('SELECT sqlstate, message, attempts FROM failed(%L)', :'a'), $$ VALUES ('RM006', 'activity "short" exceeded its start_to_close_timeout', 2) $$, 'and then fails with its own error');
SELECT romancy.define_activity('soon', queue => 'tq', schedule_to_start_timeout => '1 ms');
SELECT begin_one('{"do": "soon"}') AS a \gset
SELECT pg_sleep(0.01);
SELECT romancy.run_sweep('activity_timeouts') \gset
CALL settle();
SELECT results_eq(format('SELECT sqlstate, message, retry FROM failed(%L)', :'a'), $$ VALUES ('RM006', 'activity "soon" exceeded its schedule_to_start_timeout', false) $$, 'schedule_to_start_timeout: nobody claimed it in time, no retry');

-- who may fetch: a member of the role that owns the instance
SET LOCAL ROLE tasks_owner;
CREATE FUNCTION theirs(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('ext', i); END $$;
SELECT romancy.define_activity('ext', queue => 'tq', retry => '{"max_attempts": 2, "initial_interval": "1 min", "jitter": 0}');
SELECT romancy.start_workflow('theirs', '"mine"') AS o \gset
RESET ROLE;
CALL settle();
SET LOCAL ROLE tasks_owner;
CREATE PROCEDURE settle_mine() LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); END $$;
CALL settle_mine();
RESET ROLE;
SET LOCAL ROLE tasks_other;
SELECT is_empty($$ SELECT * FROM romancy.fetch_activities('tq', 'w') $$, 'tasks of another role are passed over');
SELECT is_empty($$ SELECT * FROM romancy.activity_tasks $$, 'and not to be seen');
RESET ROLE;
SET LOCAL ROLE tasks_owner;
SELECT token AS t FROM romancy.fetch_activities('tq', 'w') \gset
RESET ROLE;
SET LOCAL ROLE tasks_other;
SELECT ok(NOT romancy.complete_activity(:'t', '"stolen"'), 'another role''s token does nothing: complete');
SELECT ok(NOT romancy.fail_activity(:'t', 'stolen'), 'fail');
SELECT is(romancy.heartbeat_activity(:'t'), 'lost', 'heartbeat');
RESET ROLE;
SET LOCAL ROLE tasks_owner;
SELECT ok(romancy.complete_activity(:'t', '"own"'), 'its own role''s does');
RESET ROLE;

-- bad input
SELECT begin_one('{"do": "once"}') AS a \gset
SELECT token AS t FROM romancy.fetch_activities('tq', 'w') \gset
SELECT throws_ok(format('SELECT romancy.%s', call), 'RM012', 'malformed token', format('a token that is %s: %s', why, call))
FROM (VALUES ('x', 'no token'), (:'t' || '0', 'too long'), (left(:'t', -1), 'cut off'), (upper(:'t'), 'in capitals'), (replace(:'t', '.', '-'), 'without its dots'), ('', 'empty')) b (token, why),
	LATERAL (VALUES (format('complete_activity(%L)', b.token)), (format('fail_activity(%L, %L)', b.token, 'm')), (format('heartbeat_activity(%L)', b.token)),
		(format('read_history(%L)', b.token)), (format('extend_lease(%L, %L)', b.token, '1 h'))) c (call);
SELECT ok(NOT romancy.complete_activity(regexp_replace(:'t', '.$', CASE right(:'t', 1) WHEN '0' THEN '1' ELSE '0' END)), 'a token with another fence');
SELECT ok(NOT romancy.complete_activity(regexp_replace(:'t', '\.1\.', '.2.')), 'with another attempt');
SELECT ok(NOT romancy.complete_activity('01a1fbd9-e006-8ad1-b225-fb240fccaddf.1.0000000000000000'), 'of another task');
SELECT throws_ok(format('SELECT romancy.%s', call), state, NULL, format('%s is %s', call, state))
FROM (VALUES
	($$fetch_activities('tq', 'w', 1, '0')$$, 'RM012'), ($$fetch_activities('tq', 'w', 1, '-1 s')$$, 'RM012'), ($$fetch_activities('tq', 'w', 1, '1 year')$$, 'RM012'),
	($$fetch_activities('tq', 'w', 0)$$, 'RM012'), ($$fetch_activities('tq', 'w', 1001)$$, 'RM012'), ($$fetch_activities('', 'w')$$, 'RM012'),
	($$fetch_activities(repeat('q', 201), 'w')$$, 'RM012'), ($$fetch_activities('@tc', 'w')$$, 'RM012'), ($$fetch_workflows('@tc', 'w')$$, 'RM012'),
	($$define_activity('at', queue => '@tc')$$, 'RM012'), ($$define_workflow('at', queue => '@tc')$$, 'RM012'), ($$fetch_activities('tq', repeat('w', 201))$$, 'RM012'),
	($$fetch_activities(NULL, 'w')$$, '22004'), ($$fetch_activities('tq', NULL)$$, '22004'), ($$complete_activity(NULL)$$, '22004'),
	($$fetch_workflows('tq', 'w', 1, '0')$$, 'RM012'), ($$fetch_workflows('tq', 'w', 1, '1 year')$$, 'RM012'),
	(format($$fail_activity(%L, NULL)$$, :'t'), '22004'), (format($$heartbeat_activity(%L, extend => '0')$$, :'t'), 'RM012'), (format($$heartbeat_activity(%L, extend => '1 year')$$, :'t'), 'RM012'),
	(format($$complete_activity(%L, to_jsonb(repeat('x', 2000000)))$$, :'t'), 'RM011'), (format($$fail_activity(%L, repeat('x', 2000000))$$, :'t'), 'RM011'),
	(format($$fail_activity(%L, 'm', detail => to_jsonb(repeat('x', 2000000)))$$, :'t'), 'RM011'), (format($$heartbeat_activity(%L, to_jsonb(repeat('x', 2000000)))$$, :'t'), 'RM011'),
	($$spawn('ext')$$, 'RM004'), ($$map('ext', '[]')$$, 'RM004')) b (call, state);
SELECT throws_ok('CALL romancy.poll_activities($$tq$$, $$w$$)', '25001', NULL, 'poll_activities says that it cannot be in a transaction block');
SELECT throws_ok('CALL romancy.poll_workflows($$tq$$, $$w$$)', '25001', NULL, 'poll_workflows too');
SELECT ok(romancy.complete_activity(:'t', '"fine"'), 'after all that the token is as good as before');

-- a token of a workflow is none for the calls of activities, and the other way round
SELECT romancy.define_workflow('code', queue => 'tc');
SELECT romancy.start_workflow('code') AS w \gset
CALL settle();
SELECT token AS tw FROM romancy.fetch_workflows('tc', 'w') \gset
SELECT ok(NOT romancy.complete_activity(:'tw') AND NOT romancy.fail_activity(:'tw', 'm'), 'a workflow''s token ends no activity');
SELECT begin_one('{"do": "once"}') AS a \gset
SELECT token AS t FROM romancy.fetch_activities('tq', 'w') \gset
SELECT throws_ok(format('SELECT romancy.%s', call), 'RM009', NULL, format('an activity''s token is no workflow''s: %s', call))
FROM unnest(ARRAY[format('complete_workflow(%L)', :'t'), format('extend_lease(%L, %L)', :'t', '1 h'), format('read_history(%L)', :'t'), format('suspend_timer(%L, %L, now())', :'t', 's')]) c (call);

-- an error that "when others" would not see is raised as RM006, with the original in its detail; a code outlives the handler
CREATE FUNCTION catches(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE d text;
BEGIN
	RETURN romancy.activity('once', i);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL;
	RETURN jsonb_build_array(SQLSTATE, SQLERRM, d);
END $$;
CREATE TEMP TABLE caught AS SELECT code, romancy.start_workflow('catches') AS id FROM unnest(ARRAY['57014', 'P0004']) code;
CALL settle();
SELECT ok(bool_and(romancy.fail_activity(token, 'stopped', code)), 'they are failed')
FROM romancy.fetch_activities('tq', 'w', 10) f JOIN caught ON id = f.instance_id;
CALL settle();
SELECT is(romancy.get_result(id), jsonb_build_array('RM006', 'activity "once" was interrupted', code || ': stopped'), 'caught: ' || code) FROM caught;
SELECT begin_one('{"do": "once"}') AS id \gset
SELECT ok(romancy.fail_activity(token, 'bad value', 'ValueError')) FROM romancy.fetch_activities('tq', 'w', 10) WHERE instance_id = :'id';
CALL settle();
SELECT is((SELECT error - 'context' FROM romancy.instances WHERE instance_id = :'id'), '{"sqlstate": "RM007", "code": "ValueError", "message": "bad value"}'::jsonb, 'a code that no handler has caught is the instance''s');

-- the calls of programs are no steps: RM004 in a handler, and nothing done
CREATE FUNCTION meddles(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT romancy.' || (i #>> '{}'); RETURN NULL; END $$;
SELECT begin_one('{"do": "once"}') AS id \gset
SELECT token AS t FROM romancy.fetch_activities('tq', 'w', 10) WHERE instance_id = :'id' \gset
CREATE TEMP TABLE meddler AS SELECT call, romancy.start_workflow('meddles', to_jsonb(call)) AS id
FROM unnest(ARRAY[format('complete_activity(%L)', :'t'), format('fail_activity(%L, %L)', :'t', 'm'), format('heartbeat_activity(%L)', :'t')]) call;
CALL settle();
SELECT is(error->>'sqlstate', 'RM004', 'in a handler: ' || call) FROM meddler JOIN romancy.instances ON instance_id = id;
SELECT ok(romancy.complete_activity(:'t'), 'the token is good as before');

SELECT * FROM finish();
ROLLBACK;
