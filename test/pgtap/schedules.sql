-- Schedules: a year of month ends, overlap by the state of the run before, what is caught up with, counters by reason, edits, pauses,
-- backfills, rights, what is gone. Times pass by moving the rows' times, or by drain's clock. It would catch a time that runs twice or is lost
-- without a trace, an edit that fires at once, a run that does not know its time.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';

CREATE PROCEDURE settle(turns int = NULL, advance boolean = false) LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN
	CALL romancy.drain(max_turns => turns, advance_time => advance, turns => n); END $$;
CREATE FUNCTION say(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(romancy.scheduled_at()); END $$;
CREATE FUNCTION report(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RETURN jsonb_build_object('input', i, 'handler', romancy.scheduled_at(), 'activity', romancy.activity('say')); END $$;
CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no report' USING ERRCODE = 'RX001'; END $$;
CREATE FUNCTION waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb((romancy.receive('go')).data); END $$;
CREATE FUNCTION again(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
	IF (i->>'n')::int < 2 THEN PERFORM romancy.recur(jsonb_build_object('n', (i->>'n')::int + 1)); END IF;
	RETURN to_jsonb(romancy.scheduled_at()) || romancy.activity('say') || to_jsonb((romancy.receive('go')).data); END $$;

-- all of a schedule's times lie so much further back
CREATE PROCEDURE pass(schedule text, by interval) LANGUAGE sql AS $$
	UPDATE romancy.t_schedule SET after_at = after_at - by, next_at = next_at - by, due_at = due_at - by, anchor = anchor - by WHERE name = schedule $$;
CREATE FUNCTION error_of(query text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE query; RETURN repeat('none ', 1000); EXCEPTION WHEN OTHERS THEN RETURN sqlerrm; END $$;
CREATE FUNCTION missed(schedule text) RETURNS jsonb LANGUAGE sql AS $$ SELECT missed FROM romancy.schedules WHERE name = schedule $$;
CREATE FUNCTION counts(schedule text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s runs, %s live, %s wait, %s ok, %s failed, %s cancelled', runs, running, waiting, completed, failed, cancelled) FROM romancy.schedules WHERE name = schedule $$;
CREATE FUNCTION statuses(schedule text) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(status, ',' ORDER BY scheduled) FROM romancy.schedule_runs(schedule, 1000) $$;
CREATE FUNCTION live(schedule text) RETURNS uuid LANGUAGE sql AS $$
	SELECT instance_id FROM romancy.schedule_runs(schedule) WHERE status NOT IN ('completed', 'failed', 'cancelled', 'waiting') ORDER BY scheduled LIMIT 1 $$;

-- a year of month ends
SELECT romancy.schedule('month', '30 17 L * *', 'report', '{"of": "month"}', timezone => 'Europe/Berlin', labels => '{"team": "books"}', description => 'Closes the books');
DO $$ BEGIN FOR i IN 1..12 LOOP CALL settle(advance => true); END LOOP; END $$;
SELECT is(count(*), 12::bigint, 'a year of month ends has run') FROM romancy.schedule_runs('month') WHERE status = 'completed';
SELECT ok(bool_and(extract(day FROM (scheduled AT TIME ZONE 'Europe/Berlin') + interval '1 day') = 1 AND to_char(scheduled AT TIME ZONE 'Europe/Berlin', 'HH24:MI') = '17:30'),
	'each on the last day of its month, at half past five in Berlin') FROM romancy.schedule_runs('month');
SELECT is(count(DISTINCT date_trunc('month', scheduled)), count(*), 'one for each month') FROM romancy.schedule_runs('month');
SELECT ok(bool_and((output->>'handler')::timestamptz = s.scheduled AND (output->>'activity')::timestamptz = s.scheduled AND i.output->'input' = '{"of": "month"}'
	AND i.labels->>'schedule' = 'month' AND i.labels->>'team' = 'books' AND (i.labels->>'scheduled_at')::timestamptz = s.scheduled
	AND i.idempotency_key = 'schedule:month:' || (i.labels->>'scheduled_at')), 'each knows its time: handler, activity, labels, key')
	FROM romancy.schedule_runs('month') s JOIN romancy.instances i USING (instance_id);
SELECT romancy.unschedule('month');
CALL settle(advance => true);
SELECT is((SELECT count(*) FROM romancy.schedules), 0::bigint, 'it is dropped');
SELECT is(romancy.unschedule('month'), false, 'and cannot be dropped again');
-- without a limit, one run of each in a drain
SELECT romancy.schedule('minute', '* * * * *', 'report');
CALL settle(advance => true);
SELECT is(counts('minute'), '1 runs, 0 live, 0 wait, 1 ok, 0 failed, 0 cancelled', 'a drain without max_turns ends');
CALL settle(100, true);
SELECT cmp_ok((SELECT completed FROM romancy.schedules WHERE name = 'minute'), '>', 10::bigint, 'with it, it goes on');
SELECT romancy.unschedule('minute');

-- overlap, by the state of the run before. Three more times come while one lives.
CREATE FUNCTION overlaps(kind text, OUT while_live text, OUT after text, OUT why jsonb) LANGUAGE plpgsql AS $$
DECLARE first uuid;
BEGIN
	PERFORM romancy.schedule(kind, '@every 1h', 'waits', overlap => kind);
	FOR i IN 1..4 LOOP
		CALL settle(advance => true);
	END LOOP;
	while_live := counts(kind);
	FOR i IN 1..6 LOOP
		first := live(kind);
		EXIT WHEN first IS NULL;
		PERFORM romancy.send_to(first, 'go', to_jsonb(i));
		CALL settle();
	END LOOP;
	after := counts(kind);
	why := missed(kind);
	PERFORM romancy.unschedule(kind);
END $$;
SELECT results_eq($$ SELECT kind, o.* FROM unnest(ARRAY['skip', 'queue', 'queue_all', 'allow', 'cancel_previous', 'terminate_previous']) kind, overlaps(kind) o $$,
	$$ VALUES
	('skip', '1 runs, 1 live, 0 wait, 0 ok, 0 failed, 0 cancelled', '1 runs, 0 live, 0 wait, 1 ok, 0 failed, 0 cancelled', '{"overlap": 3}'::jsonb),
	('queue', '1 runs, 1 live, 1 wait, 0 ok, 0 failed, 0 cancelled', '2 runs, 0 live, 0 wait, 2 ok, 0 failed, 0 cancelled', '{"queue_full": 2}'),
	('queue_all', '1 runs, 1 live, 3 wait, 0 ok, 0 failed, 0 cancelled', '4 runs, 0 live, 0 wait, 4 ok, 0 failed, 0 cancelled', '{}'),
	('allow', '4 runs, 4 live, 0 wait, 0 ok, 0 failed, 0 cancelled', '4 runs, 0 live, 0 wait, 4 ok, 0 failed, 0 cancelled', '{}'),
	('cancel_previous', '4 runs, 1 live, 0 wait, 0 ok, 0 failed, 3 cancelled', '4 runs, 0 live, 0 wait, 1 ok, 0 failed, 3 cancelled', '{}'),
	('terminate_previous', '4 runs, 1 live, 0 wait, 0 ok, 0 failed, 3 cancelled', '4 runs, 0 live, 0 wait, 1 ok, 0 failed, 3 cancelled', '{}') $$, 'overlap');

-- a run lives while its instance is paused, and while a later generation lives; it does not when it has failed or was cancelled
SELECT romancy.schedule('lives', '@every 1h', 'waits', overlap => 'skip');
CALL settle(advance => true);
SELECT romancy.pause_workflow(live('lives'));
CALL settle();
CALL settle(advance => true);
SELECT is(missed('lives'), '{"overlap": 1}', 'a paused run lives');
SELECT romancy.resume_workflow(live('lives')), romancy.cancel_workflow(live('lives'));
CALL settle();
CALL settle(advance => true);
SELECT is(counts('lives'), '2 runs, 1 live, 0 wait, 0 ok, 0 failed, 1 cancelled', 'a cancelled one does not');
SELECT romancy.unschedule('lives');
SELECT romancy.schedule('chain', '@every 1h', 'again', '{"n": 0}', overlap => 'queue');
CALL settle(advance => true);
CALL settle(advance => true);
SELECT is(counts('chain'), '1 runs, 1 live, 1 wait, 0 ok, 0 failed, 0 cancelled', 'the third generation of a run lives');
SELECT romancy.send_to(live('chain'), 'go', '"done"');
CALL settle();
SELECT is(counts('chain'), '2 runs, 1 live, 0 wait, 1 ok, 0 failed, 0 cancelled', 'what waited starts at its end');
SELECT ok((SELECT output->0 = to_jsonb(s.scheduled) AND output->1 = output->0 FROM romancy.schedule_runs('chain') s JOIN romancy.instances USING (instance_id) WHERE s.status = 'completed'),
	'and it knew the time of the first generation');
SELECT romancy.unschedule('chain');
SELECT throws_ok($$ SELECT romancy.schedule('bad', '* * * * *', 'report', overlap => 'never') $$, 'RM012');

-- times that were missed
CREATE FUNCTION catches_up(kind text, late text, age text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	PERFORM romancy.schedule(kind || late || age, '@every 1h', 'report', overlap => kind, catch_up => nullif(age, '')::interval);
	CALL pass(kind || late || age, late::interval);
	CALL settle(1000);
	result := (SELECT runs || ' ' || missed FROM romancy.schedules WHERE name = kind || late || age);
	PERFORM romancy.unschedule(kind || late || age);
	RETURN result;
END $$;
SELECT is(catches_up('skip', '1 hour', '1 day'), '1 {}', 'one hour');
SELECT is(catches_up('skip', '1 hour', '0'), '1 {}', 'a time that is seen at once was not missed');
SELECT is(catches_up('skip', '5 hours', '1 day'), '1 {"merged": 4}', 'five hours, skip');
SELECT is(catches_up('queue', '5 hours', '1 day'), '1 {"merged": 4}', 'five hours, queue');
SELECT is(catches_up('allow', '5 hours', '1 day'), '5 {}', 'five hours, allow');
SELECT is(catches_up('queue_all', '5 hours', '1 day'), '5 {}', 'five hours, queue_all');
SELECT is(catches_up('skip', '7 days 30 min', '1 day'), '1 {"merged": 23, "too_old": 144}', 'a week');
SELECT is(catches_up('allow', '7 days 30 min', '1 day'), '24 {"too_old": 144}', 'a week, allow');
SELECT is(catches_up('allow', '7 days 30 min', ''), '100 {"catch_up_limit": 68}', 'a week, allow, of any age');
SELECT romancy.schedule('latest', '@every 1h', 'report');
CALL pass('latest', '5 hours 30 min');
CALL settle();
SELECT cmp_ok(now() - (SELECT scheduled FROM romancy.schedule_runs('latest')), '<', interval '1 hour', 'of several the latest runs');

-- an edit: counters stay, nothing fires at once, and the periods go on
CALL pass('latest', '1 hour');
SELECT romancy.schedule('latest', '@every 1h', 'report', '{"new": true}');
CALL settle();
SELECT is((SELECT runs || ' ' || missed FROM romancy.schedules WHERE name = 'latest'), '1 {"edited": 1, "merged": 4}', 'an edit counts what was due');
SELECT cmp_ok((SELECT next_run - now() FROM romancy.schedules WHERE name = 'latest'), '<', interval '31 min', 'edits do not put @every off');
-- a pause
SELECT ok(romancy.pause_schedule('latest', 'holidays'), 'paused');
SELECT is(romancy.pause_schedule('latest', 'again'), false, 'already paused');
SELECT is((SELECT paused || ' ' || note || coalesce(next_run::text, '') FROM romancy.schedules WHERE name = 'latest'), 'true holidays', 'why');
CALL pass('latest', '3 hours');
CALL settle(advance => true);
SELECT is((SELECT runs FROM romancy.schedules WHERE name = 'latest'), 1::bigint, 'nothing runs meanwhile');
SELECT isnt(romancy.trigger_schedule('latest'), NULL, 'but what is triggered');
SELECT romancy.schedule('latest', '@every 1h', 'report');
SELECT ok((SELECT paused FROM romancy.schedules WHERE name = 'latest'), 'an edit does not end a pause');
CALL pass('latest', '3 hours');
SELECT ok(romancy.resume_schedule('latest'), 'resumed');
SELECT is(romancy.resume_schedule('latest'), false, 'not paused');
CALL settle();
SELECT is((SELECT runs || ' ' || missed || coalesce(note, '') FROM romancy.schedules WHERE name = 'latest'), '2 {"edited": 1, "merged": 4, "paused": 3}', 'nothing runs for the times meanwhile');
SELECT romancy.unschedule('latest');

-- failures
SELECT romancy.schedule('breaks', '@every 1h', 'fails', pause_on_failure => 3, overlap => 'allow');
CALL pass('breaks', '2 hours');
CALL settle();
SELECT is((SELECT failed || ' ' || failed_in_row || ' ' || paused FROM romancy.schedules WHERE name = 'breaks'), '2 2 false', 'two failures');
SELECT romancy.retry_workflow(instance_id) FROM romancy.schedule_runs('breaks') LIMIT 1;
CALL settle();
SELECT is((SELECT failed || ' ' || failed_in_row || ' ' || paused FROM romancy.schedules WHERE name = 'breaks'), '2 2 false', 'one that is retried is counted once');
CALL settle(advance => true);
SELECT is((SELECT failed || ' ' || paused_by || ' ' || note FROM romancy.schedules WHERE name = 'breaks'), '3 romancy 3 failed runs in a row', 'it pauses itself');
SELECT is((SELECT DISTINCT status || ' ' || (error->>'message') FROM romancy.schedule_runs('breaks')), 'failed no report', 'the error is shown');
SELECT ok(romancy.health()->>'attention' LIKE '%1 schedule has paused itself%', 'health() says so');
SELECT ok(romancy.metrics() LIKE '%romancy_schedule_runs_total{namespace="' || current_user || '",schedule="breaks",outcome="failed"} 3%', 'metrics() too') ;
SELECT romancy.unschedule('breaks');

-- a cancelled run counts as neither: it does not pause, and does not end a row of failures
CREATE FUNCTION either(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
	IF (romancy.receive('go')).data = '"fail"' THEN RAISE EXCEPTION 'no report'; END IF;
	RETURN i; END $$;
CREATE PROCEDURE one(schedule text, how text) LANGUAGE plpgsql AS $$ DECLARE id uuid; BEGIN
	CALL pass(schedule, '59 min 59.999 s');
	CALL settle();
	id := live(schedule);
	IF how = 'cancel' THEN PERFORM romancy.cancel_workflow(id); ELSE PERFORM romancy.send_to(id, 'go', to_jsonb(how)); END IF;
	CALL settle(); END $$;
SELECT romancy.schedule('mixed', '@every 1h', 'either', pause_on_failure => 2);
CALL pass('mixed', '1 s');
CALL one('mixed', 'cancel');
CALL one('mixed', 'cancel');
CALL one('mixed', 'fail');
CALL one('mixed', 'cancel');
SELECT is((SELECT format('%s failed, %s in a row, %s cancelled, paused %s', failed, failed_in_row, cancelled, paused) FROM romancy.schedules WHERE name = 'mixed'), '1 failed, 1 in a row, 3 cancelled, paused f', 'cancelled runs beside a failed one');
CALL one('mixed', 'fail');
SELECT is((SELECT format('%s %s', paused, note) FROM romancy.schedules WHERE name = 'mixed'), 't 2 failed runs in a row', 'the next failure is the second in a row');
SELECT romancy.unschedule('mixed');
-- an execution_timeout ends a run that takes too long, and what waits starts
SELECT romancy.define_workflow('takes_long', handler => 'waits', execution_timeout => '30 min');
SELECT romancy.schedule('long', '@every 1h', 'takes_long', overlap => 'queue');
CALL pass('long', '1 hour');
CALL settle();
CALL pass('long', '59 min 59.999 s');
CALL settle();
SELECT is(counts('long'), '1 runs, 1 live, 1 wait, 0 ok, 0 failed, 0 cancelled', 'one takes long, one waits');
CALL settle(2, true);
SELECT is(counts('long'), '2 runs, 1 live, 0 wait, 0 ok, 1 failed, 0 cancelled', 'its time is over');
CALL pass('long', '59 min 59.999 s');
CALL settle();
SELECT ok(romancy.unschedule('long'), 'dropped');
SELECT is((SELECT string_agg(DISTINCT state::text, ',') FROM romancy.t_schedule_run WHERE schedule = 'long'), '1,2', 'with the runs that wait; the live one goes on');
SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE labels->>'schedule' = 'long' AND finished_at IS NULL;
CALL settle();

-- backfill: what has run does not run again
SELECT romancy.schedule('daily', '0 4 * * *', 'report', timezone => 'Asia/Tokyo');
SELECT is(romancy.backfill_schedule('daily', '2026-03-01 00:00+09', '2026-03-04 00:00+09'), 3::bigint, 'three days');
SELECT is(romancy.backfill_schedule('daily', '2026-03-01 00:00+09', '2026-03-05 04:00+09'), 1::bigint, 'one more');
SELECT is(romancy.backfill_schedule('daily', '2026-03-05 04:00+09', '2026-03-08 00:00+09', overlap => 'queue_all'), 3::bigint, 'three, one after the other');
SELECT is(statuses('daily'), 'pending,pending,pending,pending,waiting,waiting,waiting', 'they wait');
CALL settle();
SELECT is(statuses('daily'), 'completed,completed,completed,completed,completed,completed,completed', 'all have run');
SELECT is(romancy.backfill_schedule('daily', '2026-03-08', '2026-03-08'), 0::bigint, 'nothing between');
-- what is asked for again neither ends what runs for those times nor is counted
SELECT romancy.schedule('daily', '0 4 * * *', 'waits', timezone => 'Asia/Tokyo');
SELECT is(romancy.backfill_schedule('daily', '2026-04-01', '2026-04-03'), 2::bigint, 'two days');
SELECT is((SELECT string_agg(romancy.backfill_schedule('daily', '2026-04-01', '2026-04-03', overlap)::text, ' ')
	FROM unnest(ARRAY['skip', 'queue', 'queue_all', 'allow', 'cancel_previous', 'terminate_previous']) overlap), '0 0 0 0 0 0', 'the same two');
CALL settle();
SELECT is(counts('daily') || missed('daily'), '9 runs, 2 live, 0 wait, 7 ok, 0 failed, 0 cancelled{}', 'they live, and no time is counted as missed');
SELECT throws_like($$ SELECT romancy.backfill_schedule('daily', '2026-03-08', '2026-03-01') $$, '%"from_time" must not be later%', 'a range that ends before it begins');
SELECT throws_like($$ SELECT romancy.backfill_schedule('daily', '2026-03-08', clock_timestamp() + interval '1 hour') $$, '%"to_time" must not be in the future', 'one that ends in the future');
SELECT throws_ok($$ SELECT romancy.backfill_schedule('daily', '2026-03-08', 'infinity') $$, 'RM012');
SELECT pg_relation_size('romancy.t_schedule_run') AS size \gset
SELECT throws_ok($$ SELECT romancy.backfill_schedule('daily', '1000-01-01', '2026-03-01') $$, 'RM011');
SELECT is(pg_relation_size('romancy.t_schedule_run'), :size::bigint, 'too many times are refused before any is started');
SELECT throws_ok($$ SELECT romancy.backfill_schedule('daily', NULL, '2026-03-01') $$, '22004');
SELECT romancy.unschedule('daily');

-- of queue_all a hundred wait, and no more
SELECT romancy.schedule('crowd', '@every 1h', 'waits', overlap => 'queue_all', catch_up => NULL);
CALL pass('crowd', '1 hour');
CALL settle();
CALL pass('crowd', '60 hours 1 min');
CALL settle();
CALL pass('crowd', '42 hours 1 min');
CALL settle();
SELECT is(counts('crowd') || missed('crowd'), '1 runs, 1 live, 100 wait, 0 ok, 0 failed, 0 cancelled{"queue_full": 2}', '103 times');
SELECT romancy.send_to(live('crowd'), 'go', '1');
CALL settle();
CALL pass('crowd', '2 hours 1 min');
CALL settle();
SELECT is(counts('crowd') || missed('crowd'), '2 runs, 1 live, 100 wait, 1 ok, 0 failed, 0 cancelled{"queue_full": 3}', 'when one has ended there is one place');
SELECT ok(romancy.metrics() LIKE '%romancy_schedule_missed_total{namespace="' || current_user || '",schedule="crowd",reason="queue_full"} 3%', 'metrics() has them, by reason');
SELECT romancy.unschedule('crowd');
-- a backfill likewise: a hundred at a time, and what has not run is neither lost nor counted
SELECT romancy.schedule('hundreds', '@hourly', 'report', overlap => 'allow');
CREATE TABLE filled (n bigint, runs bigint);
DO $$ BEGIN FOR i IN 1 .. 4 LOOP
	INSERT INTO filled SELECT romancy.backfill_schedule('hundreds', '2026-03-01', '2026-03-11 10:00', overlap => 'queue_all');
	CALL settle();
	UPDATE filled SET runs = (SELECT s.completed FROM romancy.schedules s WHERE s.name = 'hundreds') WHERE runs IS NULL;
END LOOP; END $$;
SELECT is(array_agg(filled ORDER BY runs, n DESC)::text, '{"(101,101)","(101,202)","(48,250)","(0,250)"}', '250 times, a hundred at a time') FROM filled;
SELECT is(count(DISTINCT scheduled) || ' ' || min(scheduled) || ' ' || max(scheduled), '250 2026-03-01 00:00:00+00 2026-03-11 09:00:00+00', 'each ran') FROM romancy.schedule_runs('hundreds', 1000) WHERE status = 'completed';
SELECT is(missed('hundreds'), '{}', 'and none is counted');
SELECT romancy.unschedule('hundreds');

-- jitter: later, the same for the same time, never past the next one
SELECT romancy.schedule('shaky', '0 * * * *', 'report', jitter => '10 min');
SELECT ok((SELECT due_at >= next_at AND due_at < next_at + interval '10 min' FROM romancy.t_schedule WHERE name = 'shaky'), 'later by less than its jitter');
SELECT romancy.schedule('shaky', '0 * * * *', 'report', jitter => '10 days');
SELECT ok((SELECT due_at >= next_at AND due_at < next_at + interval '1 hour' FROM romancy.t_schedule WHERE name = 'shaky'), 'and before the next time');
CALL settle(2, true);
SELECT ok((SELECT extract(minute FROM scheduled) = 0 FROM romancy.schedule_runs('shaky') LIMIT 1), 'the time that it is for is the hour');
SELECT romancy.unschedule('shaky');
-- by a hash of name and time
CREATE FUNCTION later(schedule text) RETURNS interval LANGUAGE sql AS $$ SELECT due_at - next_at FROM romancy.t_schedule WHERE name = schedule $$;
SELECT romancy.schedule(name, '0 0 1 1 *', 'report', jitter => '10 days') FROM unnest(ARRAY['shaky', 'shakier']) name;
CREATE TABLE shaken AS SELECT name, next_at, later(name) AS by FROM romancy.t_schedule WHERE name LIKE 'shak%';
SELECT isnt(later('shakier'), later('shaky'), 'not as much for another name');
SELECT romancy.unschedule('shaky'), romancy.schedule('shaky', '0 0 1 1 *', 'report', jitter => '10 days');
SELECT is(later('shaky'), by, 'as much for the same name and time') FROM shaken WHERE name = 'shaky';
CALL settle(2, true);
SELECT isnt(later('shaky'), by, 'not as much for another time') FROM shaken WHERE name = 'shaky';
SELECT ok(bool_and(r.started >= r.scheduled + by), 'it runs by then, not before') FROM shaken, romancy.schedule_runs(name) r;
SELECT count(romancy.unschedule(name)) FROM shaken;

-- what is gone: the workflow, a right
CREATE FUNCTION goes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN 'true'; END $$;
SELECT romancy.schedule('lost', '@every 1h', 'goes');
DROP FUNCTION goes;
CALL pass('lost', '1 hour');
CALL settle();
SELECT is((SELECT missed::text || ' ' || (error->>'sqlstate') || ' ' || failed_in_row FROM romancy.schedules WHERE name = 'lost'), '{"error": 1} RM001 1', 'a workflow that is gone');
SELECT ok(romancy.health()->>'attention' LIKE '%could not start%', 'health() says so');
CREATE FUNCTION goes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN 'true'; END $$;
CALL pass('lost', '1 hour');
CALL settle();
SELECT is((SELECT runs || ' ' || failed_in_row || ' ' || coalesce(error::text, 'none') FROM romancy.schedules WHERE name = 'lost'), '1 0 none', 'and it is there again');
SELECT throws_ok($$ SELECT romancy.schedule('no', '* * * * *', 'no_such') $$, 'RM001');
SELECT throws_ok($$ SELECT romancy.schedule('no', '* * * * *', 'report', labels => '{"schedule": 1}') $$, 'RM012');
SELECT throws_ok($$ SELECT romancy.schedule('no', '* * * * *', 'report', labels => '[1]') $$, 'RM012');
SELECT throws_ok($$ SELECT romancy.schedule('', '* * * * *', 'report') $$, 'RM012');
SELECT throws_ok($$ SELECT romancy.schedule('no', '* * * * *', 'report', pause_on_failure => 0) $$, 'RM012');
SELECT throws_ok($$ SELECT romancy.schedule('no', '* * * * *', 'report', catch_up => '-1 day') $$, 'RM012');
SELECT throws_ok($$ SELECT romancy.pause_schedule('none') $$, 'RM001');
-- each text has its limit, and the error names the argument
SELECT romancy.schedule('limits', '@every 1h', 'report', description => repeat('d', 10000));
SELECT ok(romancy.pause_schedule('limits', repeat('n', 10000)), 'a long note');
SELECT throws_like($$ SELECT romancy.pause_schedule('limits', repeat('n', 10001)) $$, 'argument "note" must not exceed 10000 bytes');
SELECT throws_ok($$ SELECT romancy.pause_schedule('limits', repeat('n', 10001)) $$, 'RM012');
SELECT throws_like($$ SELECT romancy.schedule('limits', '@every 1h', 'report', description => repeat('d', 10001)) $$, 'argument "description" must not exceed 10000 bytes');
SELECT throws_ok($$ SELECT romancy.schedule('limits', '@every 1h', 'report', description => repeat('d', 10001)) $$, 'RM012');
SELECT throws_like(format('SELECT romancy.define_%s(%L, %L, description => repeat(%L, 10001))', what, 'limits', 'report', 'd'), 'argument "description" must not exceed 10000 bytes', what)
	FROM unnest(ARRAY['workflow', 'activity']) what;
SELECT throws_like(format('SELECT romancy.schedule(repeat(%L, 201), %L, %L)', 'x', '@every 1h', 'report'), 'argument "name" must have between 1 and 200 bytes');
SELECT throws_like($$ SELECT romancy.schedule('limits', repeat('0 0 * * * |', 200), 'report') $$, '%longer than 1000 bytes');
SELECT throws_ok($$ SELECT romancy.schedule('limits', '@every 1h', 'report', to_jsonb(repeat('i', 2000000))) $$, 'RM011');
SELECT throws_ok($$ SELECT romancy.schedule('limits', '@every 1h', 'report', labels => jsonb_build_object('l', repeat('l', 2000000))) $$, 'RM011');
SELECT cmp_ok(length(error), '<', 1000, 'the error for ' || what || ' is short') FROM (VALUES
	('a workflow', $$ SELECT romancy.schedule('limits', '@every 1h', repeat('w', 2000000)) $$), ('a zone', $$ SELECT romancy.schedule('limits', '@every 1h', 'report', timezone => repeat('z', 2000000)) $$),
	('an overlap', $$ SELECT romancy.schedule('limits', '@every 1h', 'report', overlap => repeat('o', 2000000)) $$), ('another''s name', $$ SELECT romancy.resume_schedule(repeat('n', 2000000)) $$),
	('a zone of times', $$ SELECT romancy.schedule_times('@hourly', repeat('z', 2000000)) $$)) x (what, query), error_of(query) error;
SELECT romancy.unschedule('limits');
-- very many times that are late are counted by parts, so that others need not wait for them
SELECT romancy.schedule(kind, '* * * * * *', 'report', overlap => kind, catch_up => age) FROM (VALUES ('allow', NULL::interval), ('skip', NULL), ('queue', '1 min')) x (kind, age);
CREATE TABLE late AS SELECT name, after_at - interval '14 hours' AS since FROM romancy.t_schedule WHERE cron = '* * * * * *';
DO $$ BEGIN FOR i IN 1..3 LOOP CALL pass((ARRAY['allow', 'skip', 'queue'])[i], '14 hours'); END LOOP; END $$;
SELECT romancy.run_sweep('schedules') > 0 AS swept;
SELECT is(array_agg(s.runs ORDER BY s.name), '{0,0,0}', 'one batch does not get to their end') FROM romancy.schedules s JOIN late USING (name);
SELECT romancy.run_sweep('schedules') > 0 AS swept, romancy.run_sweep('schedules') > 0 AS swept_again;
SELECT results_eq($$ SELECT name, runs, (SELECT string_agg(key, ',' ORDER BY key) FROM jsonb_each(missed)), runs + (SELECT sum(value::text::int) FROM jsonb_each(missed) WHERE key <> 'overlap')
		= extract(epoch FROM date_trunc('second', after_at) - date_trunc('second', since)) FROM romancy.t_schedule JOIN late USING (name) ORDER BY name $$,
	$$ VALUES ('allow', 100::bigint, 'catch_up_limit', true), ('queue', 1, 'merged,too_old', true), ('skip', 1, 'merged', true) $$, 'some more do, and each time ran or is counted');
SELECT count(romancy.unschedule(name)) FROM late;
SELECT throws_ok($$ SELECT romancy.trigger_schedule('none') $$, 'RM001');
SELECT throws_ok($$ SELECT romancy.schedule_runs('none') $$, 'RM001');
SELECT throws_ok($$ SELECT romancy.scheduled_at() $$, 'RM004');
CREATE FUNCTION in_handler(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.schedule('x', '* * * * *', 'report'); RETURN 'null'; END $$;
SELECT romancy.start_workflow('in_handler') AS id \gset
CALL settle();
SELECT is((SELECT error->>'sqlstate' FROM romancy.instances WHERE instance_id = :'id'), 'RM004', 'not in a handler');
SELECT romancy.start_workflow('report') AS id \gset
CALL settle();
SELECT is((SELECT output->'handler' FROM romancy.instances WHERE instance_id = :'id'), 'null', 'null in an instance that is no schedule''s');

-- an instance that another session's own call has started under the key of a time: the time is counted
SELECT romancy.schedule('taken', '@every 1h', 'report'), romancy.schedule('taken2', '@every 1h', 'waits', overlap => 'queue');
CALL pass('taken2', '1 hour');
CALL settle();
SELECT romancy.start_workflow(workflow, idempotency_key => format('schedule:%s:%s', name, to_char((next_run - interval '1 h') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))) IS NOT NULL AS started
	FROM romancy.schedules WHERE name = 'taken';
SELECT romancy.start_workflow(workflow, idempotency_key => format('schedule:%s:%s', name, to_char((next_run - interval '61 min') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))) IS NOT NULL AS started
	FROM romancy.schedules WHERE name = 'taken2';
CALL pass('taken', '1 hour');
CALL pass('taken2', '61 min');
CALL settle();
SELECT is(counts('taken') || missed('taken'), '0 runs, 0 live, 0 wait, 0 ok, 0 failed, 0 cancelled{"key_taken": 1}', 'at its time');
SELECT is(counts('taken2') || missed('taken2'), '1 runs, 1 live, 1 wait, 0 ok, 0 failed, 0 cancelled{}', 'or when it has waited');
SELECT romancy.send_to(live('taken2'), 'go', '1');
CALL settle();
SELECT is(counts('taken2') || missed('taken2'), '1 runs, 0 live, 0 wait, 1 ok, 0 failed, 0 cancelled{"key_taken": 1}', 'and its turn comes');
SELECT is((SELECT sum(romancy.unschedule(name)::int) FROM unnest(ARRAY['taken', 'taken2']) name), 2::bigint, 'dropped');

-- one that cannot be handled holds up no other
SELECT romancy.schedule('broken', '@every 1h', 'report'), romancy.schedule('sound', '@every 1h', 'report');
CALL pass('broken', '2 hours');
CALL pass('sound', '1 hour');
UPDATE romancy.t_schedule SET cron = '@every now and then' WHERE name = 'broken';
CALL settle();
SELECT is((SELECT runs FROM romancy.schedules WHERE name = 'sound'), 1::bigint, 'beside one that cannot be read another one runs');
SELECT matches((SELECT paused_by || ' ' || note || ' ' || (error->>'sqlstate') FROM romancy.schedules WHERE name = 'broken'), '^romancy invalid cron expression .* RM012$', 'which pauses itself, and says why');
SELECT throws_ok($$ SELECT romancy.resume_schedule('broken') $$, 'RM012', NULL, 'it cannot be resumed as it is');
SELECT romancy.schedule('broken', '@every 1h', 'report');
SELECT ok(romancy.resume_schedule('broken'), 'but when it is defined anew');
SELECT is((SELECT sum(romancy.unschedule(name)::int) FROM unnest(ARRAY['broken', 'sound']) name), 2::bigint, 'dropped');
-- nor does a superuser's in a namespace in which another role may define by now
SET LOCAL romancy.namespace = 'schedule_now_shared';
CREATE ROLE schedule_carol;
SELECT romancy.grant_usage('schedule_carol', namespace => 'schedule_now_shared', define => false);
SELECT romancy.schedule('root', '@every 1h', 'report'), romancy.schedule('root2', '@every 1h', 'report');
SELECT romancy.grant_usage('schedule_carol', namespace => 'schedule_now_shared');
CALL pass('root', '1 hour');
CALL settle();
SELECT is((SELECT missed::text || ' ' || (error->>'sqlstate') || ' ' || paused FROM romancy.schedules WHERE name = 'root'), '{"error": 1} 42501 false', 'a superuser''s run in a shared namespace is counted');
SELECT is((SELECT sum(romancy.unschedule(name)::int) FROM unnest(ARRAY['root', 'root2']) name), 2::bigint, 'dropped');
SET LOCAL romancy.namespace = '';
-- the sign of a period means the same in every session
SET LOCAL intervalstyle = 'sql_standard';
SELECT throws_ok($$ SELECT romancy.schedule('sign', '@every -1h 2d ago', 'report') $$, 'RM012', NULL, 'whatever its setting of IntervalStyle');
RESET intervalstyle;

-- started, duration: from the first turn of the first generation to the end of the last; of one that lives, until now
CREATE FUNCTION naps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
	PERFORM romancy.sleep('20 min');
	IF i = '0' THEN PERFORM romancy.recur('1'); END IF;
	RETURN i; END $$;
SELECT romancy.schedule('naps', '@every 1h', 'naps', '0', overlap => 'queue');
CALL pass('naps', '1 hour');
CALL settle();
CALL pass('naps', '59 min 59.999 s');
CALL settle();
CREATE TABLE shown AS SELECT r.*, row_number() OVER (ORDER BY scheduled) AS n, clock_timestamp() AS seen FROM romancy.schedule_runs('naps') r;
SELECT is(format('%s %s %s', status, started, duration), 'waiting  ', 'one that waits has neither') FROM shown WHERE n = 2;
SELECT ok(status = 'waiting_for_timer' AND started BETWEEN now() AND seen AND duration BETWEEN '0' AND seen - now() AND error IS NULL AND scheduled < started, 'one that lives') FROM shown WHERE n = 1;
CALL settle(3, true);
CALL settle(3, true);
SELECT is((SELECT (array_agg(r.status ORDER BY r.scheduled))[1] FROM romancy.schedule_runs('naps') r), 'completed', 'the first has ended');
SELECT ok(r.started = i.started_at AND r.duration BETWEEN interval '40 min' AND interval '41 min' AND r.duration = l.finished_at - i.started_at, 'one that recurred: both generations')
	FROM (SELECT * FROM romancy.schedule_runs('naps') ORDER BY scheduled LIMIT 1) r JOIN romancy.instances l USING (instance_id) JOIN shown ON shown.n = 1 JOIN romancy.instances i ON i.instance_id = shown.instance_id;
SELECT ok(bool_and(duration >= '0'), 'none is shorter than nothing') FROM romancy.schedule_runs('naps');
SELECT romancy.unschedule('naps');
SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE labels->>'schedule' = 'naps' AND finished_at IS NULL;
CALL settle();

-- a fork of a run has its time; a run is forgotten with its instance
SELECT romancy.trigger_schedule('lost') AS id \gset
SELECT romancy.schedule('lost', '@every 1h', 'report');
SELECT romancy.trigger_schedule('lost') AS id \gset
CALL settle();
SELECT romancy.fork_workflow(:'id', 'say:1') AS fork \gset
CALL settle();
SELECT is((SELECT output->'activity' FROM romancy.instances WHERE instance_id = :'fork'), (SELECT output->'activity' FROM romancy.instances WHERE instance_id = :'id'), 'a fork');
SELECT count(*) AS n FROM romancy.schedule_runs('lost') \gset
SELECT romancy.delete_workflow(:'id');
SELECT is((SELECT count(*) FROM romancy.schedule_runs('lost')), :n - 1::bigint, 'a run goes with its instance');
-- by the sweep as well: no row is left of runs whose instances it deletes, a chain's too, and those that live stay
CREATE FUNCTION rows_of(name text) RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM romancy.t_schedule_run WHERE schedule = name $$;
SELECT romancy.schedule('kept', '@every 1h', 'again', '{"n": 0}', overlap => 'allow');
SELECT count(romancy.trigger_schedule('kept')) FROM generate_series(1, 3);
CALL settle();
SELECT romancy.send_to(instance_id, 'go', '1') FROM (SELECT * FROM romancy.schedule_runs('kept') ORDER BY scheduled LIMIT 2) r;
CALL settle();
SELECT is(rows_of('kept') || ' ' || counts('kept'), '3 3 runs, 1 live, 0 wait, 2 ok, 0 failed, 0 cancelled', 'two have ended');
UPDATE romancy.t_workflow SET retention = '0 s' WHERE name = 'again';
SELECT romancy.run_sweep('retention') > 0 AS swept, romancy.run_sweep('retention') >= 0 AS swept_again;
SELECT is((SELECT count(*) FROM romancy.instances WHERE labels->>'schedule' = 'kept' AND finished_at IS NOT NULL AND status <> 'recurred'), 0::bigint, 'the sweep deletes their instances');
SELECT is(rows_of('kept') || ' ' || counts('kept'), '1 3 runs, 1 live, 0 wait, 2 ok, 0 failed, 0 cancelled', 'and their rows: the counters stay');
SELECT is((SELECT count(*) FROM romancy.schedule_runs('kept')), 1::bigint, 'the one that lives is shown');
SELECT romancy.unschedule('kept');

-- rights
CREATE ROLE schedule_alice;
CREATE ROLE schedule_bob;
SELECT romancy.grant_usage('schedule_alice'), romancy.grant_usage('schedule_bob');
SET LOCAL ROLE schedule_bob;
SELECT throws_ok($$ SELECT romancy.pause_schedule('lost') $$, 'RM001', NULL, 'another namespace''s schedule is none');
SELECT is(romancy.unschedule('lost'), false, 'it cannot be dropped from there');
SELECT throws_ok($$ SELECT romancy.trigger_schedule('lost') $$, 'RM001');
SELECT throws_ok($$ SELECT romancy.backfill_schedule('lost', now(), now()) $$, 'RM001');
SELECT throws_ok($$ SELECT romancy.schedule_runs('lost') $$, 'RM001');
SELECT is((SELECT count(*) FROM romancy.schedules), 0::bigint, 'another role''s schedules are not seen');
-- the same name in two namespaces: each has its own runs, counters and keys
SELECT romancy.schedule('lost', '@every 1h', 'waits', overlap => 'queue');
SELECT romancy.trigger_schedule('lost') AS id \gset
SELECT is((SELECT string_agg(namespace || '.' || name, ',') FROM romancy.schedules), 'schedule_bob.lost', 'a name of another namespace is free');
SELECT is((SELECT namespace || ' ' || idempotency_key LIKE 'schedule_bob schedule:lost:%' FROM romancy.instances WHERE instance_id = :'id'), true, 'its run belongs there');
RESET ROLE;
CALL pass('lost', '1 hour');
CALL settle();
SELECT is((SELECT string_agg(format('%s %s %s %s', namespace, runs, running, waiting), ', ' ORDER BY namespace) FROM romancy.schedules WHERE name = 'lost' AND namespace = 'schedule_bob'),
	'schedule_bob 1 1 0', 'a superuser sees both, and drains his own alone');
SET LOCAL ROLE schedule_bob;
CALL settle();
SELECT is(counts('lost'), '1 runs, 1 live, 1 wait, 0 ok, 0 failed, 0 cancelled', 'what waits, waits for runs of this namespace');
SELECT romancy.send_to(:'id', 'go', '1');
CALL settle();
SELECT is(counts('lost'), '2 runs, 1 live, 0 wait, 1 ok, 0 failed, 0 cancelled', 'and starts at their end');
SELECT ok(romancy.unschedule('lost'), 'dropped');
RESET ROLE;
SELECT is((SELECT string_agg(namespace, ',') FROM romancy.schedules WHERE name = 'lost'), current_user::text, 'the other one is there');
SELECT ok(romancy.metrics() LIKE '%romancy_schedule_paused{namespace="' || current_user || '",schedule="lost"} 0%', 'metrics() tells namespaces apart');
-- in a common namespace names are common: another role's schedule is seen to be there, and not to be had
SELECT romancy.grant_usage('schedule_alice', namespace => 'schedule_shop'), romancy.grant_usage('schedule_bob', namespace => 'schedule_shop', define => false);
SET LOCAL romancy.namespace = 'schedule_shop';
SET LOCAL ROLE schedule_alice;
SELECT romancy.schedule('shared', '@every 1h', 'report');
SET LOCAL ROLE schedule_bob;
SELECT throws_ok($$ SELECT romancy.schedule('own', '@every 1h', 'report') $$, '42501', NULL, 'a grant without define schedules nothing');
SELECT throws_ok($$ SELECT romancy.pause_schedule('shared') $$, '42501');
SELECT throws_ok($$ SELECT romancy.unschedule('shared') $$, '42501');
SELECT throws_ok($$ SELECT romancy.trigger_schedule('shared') $$, '42501');
RESET ROLE;
SELECT romancy.grant_usage('schedule_bob', namespace => 'schedule_shop');
SET LOCAL ROLE schedule_bob;
SELECT throws_ok($$ SELECT romancy.schedule('shared', '* * * * *', 'report') $$, '42501');
SELECT is((SELECT count(*) FROM romancy.schedules), 0::bigint, 'nor seen');
RESET ROLE;
SELECT ok(romancy.pause_schedule('shared', 'for the night'), 'a superuser names the namespace by the setting');
SELECT is((SELECT paused_by || note FROM romancy.schedules WHERE namespace = 'schedule_shop'), current_user || 'for the night', 'who, and why');
SELECT ok(romancy.unschedule('shared'), 'dropped');
SET LOCAL romancy.namespace = '';
-- nothing starts on behalf of a role from which the right to use romancy was taken; when it is given back the next time runs
CREATE ROLE schedule_dave;
SELECT romancy.grant_usage('schedule_dave');
SET LOCAL ROLE schedule_dave;
SELECT romancy.schedule('daves', '@every 1h', 'report');
RESET ROLE;
SELECT romancy.revoke_usage('schedule_dave');
CALL pass('daves', '1 hour');
SELECT romancy.run_sweep('schedules') > 0 AS swept;
SELECT is((SELECT runs || ' ' || missed || ' ' || (error->>'sqlstate') FROM romancy.schedules WHERE name = 'daves'), '0 {"error": 1} 42501', 'a right that was taken');
SELECT romancy.grant_usage('schedule_dave');
CALL pass('daves', '1 hour');
SELECT romancy.run_sweep('schedules') > 0 AS swept;
SELECT is((SELECT runs || ' ' || missed FROM romancy.schedules WHERE name = 'daves'), '1 {"error": 1}', 'and given back');
CREATE FUNCTION whoami(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(current_user::text); END $$;
SET LOCAL ROLE schedule_alice;
SELECT romancy.schedule('mine', '0 0 * * *', 'whoami');
RESET ROLE;
SET LOCAL romancy.namespace = 'schedule_alice';
SELECT romancy.schedule('mine', '0 1 * * *', 'whoami');
SELECT romancy.trigger_schedule('mine') AS id \gset
SET LOCAL ROLE schedule_alice;
CALL settle();
RESET ROLE;
SELECT is((SELECT owner || output::text FROM romancy.instances WHERE instance_id = :'id'), 'schedule_alice"schedule_alice"', 'it runs as who created it, also after a superuser''s edit');

-- a run that ends after its schedule was dropped is not counted by the next of its name
CREATE FUNCTION waits_go(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN (romancy.receive('go')).data; END $$;
SET LOCAL romancy.namespace = '';
SELECT romancy.schedule('again', '@every 1h', 'waits_go');
SELECT romancy.trigger_schedule('again') AS id \gset
CALL settle();
SELECT ok(romancy.unschedule('again'), 'dropped while its run lives');
SELECT romancy.send_to(:'id', 'go', '1') IS NOT NULL AS sent \gset
CALL settle();
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'id'), 'completed', 'the run ends');
SELECT romancy.schedule('again', '@every 1h', 'waits_go');
SELECT is((SELECT (runs, completed, failed, cancelled)::text FROM romancy.schedules WHERE name = 'again'), '(0,0,0,0)', 'the schedule that is defined anew does not count it');
SELECT * FROM finish();
ROLLBACK;
