-- A paused instance begins no task: neither the next of a chain, nor what waits in a queue, nor a
-- second attempt, nor what a lost lease gives back; what has begun ends. After the resume all goes
-- on. It would catch a canvas that runs on along its chains, and a task that is forgotten in a pause.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what jsonb);
CREATE FUNCTION note(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES (i); RETURN i; END $$;
CREATE PROCEDURE settle(advance boolean = false) LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(advance_time => advance, turns => n); END $$;
CREATE FUNCTION status(id uuid) RETURNS text LANGUAGE sql AS $$ SELECT status FROM romancy.instances WHERE instance_id = id $$;
CREATE FUNCTION tasks(id uuid) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(activity || ' ' || status, ', ' ORDER BY activity, status), '') FROM romancy.activity_tasks WHERE instance_id = id $$;
SELECT romancy.define_activity('ext', queue => 'pq', retry => '{"max_attempts": 3, "initial_interval": "1 min", "jitter": 0}');

-- given a canvas whose first task is with a worker, when it is paused, then the end of that task begins nothing
SELECT romancy.run_canvas(romancy.chain(romancy.task('ext', '1'), romancy.task('note'), romancy.task('ext'))) AS id \gset
CALL settle();
SELECT token AS t FROM romancy.fetch_activities('pq', 'w') \gset
SELECT romancy.pause_workflow(:'id') \gset
CALL settle();
SELECT is(status(:'id'), 'paused'::text, 'the canvas is paused');
SELECT is(tasks(:'id'), 'ext running', 'what has begun is not touched');
SELECT is(romancy.heartbeat_activity(:'t'), 'ok', 'its worker goes on');
SELECT ok(romancy.complete_activity(:'t', '"one"'), 'and its result is taken');
CALL settle(true);
SELECT is(tasks(:'id'), 'note paused', 'the next of the chain does not begin');
SELECT is_empty('SELECT what FROM effect', 'it has done nothing');
SELECT is((romancy.get_progress(:'id')).completed, 1::bigint, 'the progress counts what has ended');
SELECT romancy.resume_workflow(:'id') \gset
CALL settle();
SELECT results_eq('SELECT what FROM effect', ARRAY['"one"'::jsonb], 'after the resume it runs');
SELECT is(tasks(:'id'), 'ext ready', 'and the chain goes on');

-- given a task that waits in a queue, when its instance is paused, then no program gets it
SELECT romancy.pause_workflow(:'id') \gset
CALL settle();
SELECT is(tasks(:'id'), 'ext paused', 'a task that is ready is parked');
SELECT is_empty($$ SELECT * FROM romancy.fetch_activities('pq', 'w') $$, 'nobody is given it');
SELECT is((SELECT waiting FROM romancy.queues WHERE name = 'pq'), 1::bigint, 'view queues counts it as waiting');
SELECT romancy.resume_workflow(:'id') \gset
CALL settle();
SELECT attempt AS a, token AS t FROM romancy.fetch_activities('pq', 'w') \gset
SELECT is(:a, 1, 'after the resume it is fetched, as its first attempt');

-- given a running task that fails during a pause, then its next attempt waits for the resume
SELECT romancy.pause_workflow(:'id') \gset
CALL settle();
SELECT ok(romancy.fail_activity(:'t', 'bad luck'), 'its failure is taken');
CALL settle(true);
SELECT is(tasks(:'id'), 'ext paused', 'a second attempt does not begin, however late it is');
SELECT romancy.resume_workflow(:'id') \gset
CALL settle();
CALL settle(true);
SELECT attempt AS a FROM romancy.fetch_activities('pq', 'w', lease => '1 ms') \gset
SELECT is(:a, 2, 'after the resume it does');

-- given a lease that is lost during a pause, then the task is not given to another
SELECT romancy.pause_workflow(:'id') \gset
CALL settle();
SELECT pg_sleep(0.01);
SELECT ok(romancy.run_sweep('lock_cleanup') > 0, 'the lease is over');
SELECT is(tasks(:'id'), 'ext paused', 'the task waits');
SELECT romancy.resume_workflow(:'id') \gset
CALL settle();
SELECT attempt AS a, token AS t FROM romancy.fetch_activities('pq', 'w') \gset
SELECT is(:a, 3, 'for the resume');
SELECT ok(romancy.complete_activity(:'t', '"two"'));
CALL settle();
SELECT is(romancy.get_result(:'id'), '"two"'::jsonb, 'the canvas ends as if nothing had been');

-- given a group whose last member ends during a pause, then the callback comes after it
SELECT romancy.run_canvas(romancy.chord(romancy.group(romancy.task('ext', '1'), romancy.task('ext', '2')), romancy.task('note'))) AS id \gset
CALL settle();
CREATE TEMP TABLE got AS SELECT * FROM romancy.fetch_activities('pq', 'w', 2);
SELECT romancy.pause_workflow(:'id') \gset
CALL settle();
SELECT is((SELECT count(*) FROM got WHERE romancy.complete_activity(token, input)), 2::bigint, 'both members end');
CALL settle();
SELECT is(tasks(:'id'), '', 'the callback is not there yet');
SELECT romancy.resume_workflow(:'id') \gset
CALL settle();
SELECT is(romancy.get_result(:'id'), '[1, 2]'::jsonb, 'after the resume it has run');

-- given spawned activities of a handler, they are treated the same way
CREATE FUNCTION spawns(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(romancy.await_all(ARRAY[romancy.spawn('ext', '1'), romancy.spawn('ext', '2')])); END $$;
SELECT romancy.start_workflow('spawns') AS id \gset
CALL settle();
SELECT token AS t FROM romancy.fetch_activities('pq', 'w') \gset
SELECT romancy.pause_workflow(:'id') \gset
CALL settle();
SELECT is(tasks(:'id'), 'ext paused, ext running', 'what has not begun is parked');
-- when it is cancelled, then parked tasks go
SELECT romancy.cancel_workflow(:'id') \gset
CALL settle();
SELECT is(tasks(:'id'), 'ext running', 'a cancel takes parked tasks away');
SELECT is(romancy.heartbeat_activity(:'t'), 'cancel_requested', 'and the other one''s worker learns of it');

-- given a limit on its start that passes during the pause, then it is found after it
SELECT romancy.define_activity('soon', queue => 'pq', schedule_to_start_timeout => '1 ms');
SELECT romancy.run_canvas(romancy.task('soon')) AS id \gset
CALL settle();
SELECT romancy.pause_workflow(:'id') \gset
CALL settle();
SELECT pg_sleep(0.01);
SELECT romancy.run_sweep('activity_timeouts') \gset
SELECT is(tasks(:'id'), 'soon paused', 'nothing is timed out in a pause');
SELECT romancy.resume_workflow(:'id') \gset
CALL settle();
SELECT romancy.run_sweep('activity_timeouts') \gset
CALL settle();
SELECT is((SELECT error ->> 'sqlstate' FROM romancy.instances WHERE instance_id = :'id'), 'RM006', 'after it, it is');
SELECT is_empty($$ SELECT * FROM romancy.t_task WHERE state NOT IN (1, 3, 6) $$, 'nothing is left');
SELECT * FROM finish();
ROLLBACK;
