-- release_activity, complete_activities and retry_after of fail_activity. It would catch a released task that counts as an attempt or keeps its place.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(25);
SET LOCAL client_min_messages = warning;
CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); END $$;
CREATE FUNCTION asks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('pc', i); END $$;
SELECT romancy.define_activity('pc', queue => 'pcq', retry => '{"max_attempts": 2}');
SELECT romancy.set_queue('pcq', max_concurrency => 2);
SELECT romancy.start_workflow('asks', '[1, 2, 3]') AS id \gset
CALL settle();
CREATE TEMP TABLE got AS SELECT * FROM romancy.fetch_activities('pcq', 'w', 5);
SELECT is((SELECT count(*) FROM got), 2::bigint, 'two at a time');
SELECT is_empty($$ SELECT * FROM romancy.fetch_activities('pcq', 'w') $$, 'no third');
SELECT token AS t, input AS n FROM got ORDER BY input LIMIT 1 \gset
SELECT ok(romancy.release_activity(:'t'), 'released');
SELECT ok(NOT romancy.release_activity(:'t'), 'once');
SELECT ok(NOT romancy.complete_activity(:'t'), 'its token is good for nothing more');
SELECT is((SELECT status || ' ' || attempt || ' ' || (worker_id IS NULL) || (started_at IS NULL) FROM romancy.activity_tasks WHERE input = :'n'), 'ready 0 truetrue', 'no attempt is charged');
CREATE TEMP TABLE again AS SELECT * FROM romancy.fetch_activities('pcq', 'w', 5);
SELECT is((SELECT count(*) || ' ' || min(attempt) FROM again), '1 1', 'its place is free again, and it is a first attempt');
SELECT token AS t FROM again \gset
SELECT ok(romancy.fail_activity(:'t', 'busy', retry_after => '1 hour'), 'failed, to be tried later');
SELECT ok((SELECT due_at BETWEEN now() + interval '59 min' AND now() + interval '61 min' FROM romancy.activity_tasks WHERE status = 'waiting'), 'as it says, not as the policy does');
SELECT token AS t2 FROM got WHERE token NOT IN (SELECT token FROM again) AND input <> :'n' \gset
SELECT is(romancy.complete_activities(ARRAY[:'t', :'t2'], ARRAY['1', '"two"']::jsonb[]), 1::bigint, 'many at once: those whose lease was not lost');
CREATE FUNCTION pg_temp.locked() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'romancy.t_canvas_result'::regclass AND mode = 'RowExclusiveLock' $$;
SELECT is(pg_temp.locked(), 0::bigint, 'the table of ends of canvases is locked by none of a map');
SELECT is(romancy.complete_activities(ARRAY[:'t2', :'t'], ARRAY['1', '2']::jsonb[]), 0::bigint, 'again: the lease is over');
SELECT is(romancy.complete_activities('{}', '{}'), 0::bigint, 'none');
SELECT throws_ok($$ SELECT romancy.complete_activities('{a}', '{}') $$, 'RM012', 'tokens and results differ in length', 'too few results');
SELECT throws_ok($$ SELECT romancy.complete_activities('{a}', '{1}') $$, 'RM012', NULL, 'no token');
SELECT romancy.define_activity('twice', queue => 'twice');
SELECT romancy.run_canvas(romancy.group(romancy.task('twice', '1'), romancy.task('twice', '2'))) AS twice \gset
CALL romancy.drain();
SELECT array_agg(token) AS tokens FROM romancy.fetch_activities('twice', 'me', 2) \gset
SELECT is(romancy.complete_activities(:'tokens'::text[] || :'tokens'::text[], ARRAY['1', '2', '3', '4']::jsonb[]), 2::bigint, 'each token twice in a call: once');
SELECT is(pg_temp.locked(), 1::bigint, 'by those of a canvas it is');
CALL romancy.drain();
SELECT is(romancy.get_result(:'twice'), '[1, 2]', 'by the first');
SELECT romancy.run_canvas(romancy.group(romancy.task('twice', '1'), romancy.task('twice', '2'))) AS over \gset
CALL romancy.drain();
SELECT array_agg(token) AS tokens FROM romancy.fetch_activities('twice', 'me', 2) \gset
SELECT romancy.terminate_workflow(:'over');
CALL romancy.drain();
SELECT is(romancy.complete_activities(:'tokens'::text[] || :'tokens'::text[], ARRAY['1', '2', '3', '4']::jsonb[]), 0::bigint, 'likewise where the instance is over');
CREATE FUNCTION pg_temp.serve(times int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. times LOOP
		PERFORM romancy.complete_activities(ARRAY(SELECT token FROM romancy.fetch_activities('twice', 'me', 1)), ARRAY['1'::jsonb]);
	END LOOP;
	RETURN (SELECT sum(used_bytes)::bigint FROM pg_backend_memory_contexts WHERE name = 'romancy insert');
END $$;
SELECT romancy.run_canvas(romancy.group(VARIADIC ARRAY(SELECT romancy.task('twice', to_jsonb(g)) FROM generate_series(1, 60) g)));
CALL romancy.drain();
SELECT pg_temp.serve(10) AS used \gset
SELECT is(pg_temp.serve(50), :used::bigint, 'a session that serves a queue needs no more memory the longer it does');
SELECT throws_ok($$ SELECT romancy.complete_activities(NULL, '{}') $$, '22004', NULL, 'null');
SELECT throws_ok($$ SELECT romancy.release_activity('a') $$, 'RM012', NULL, 'no token to release');
SELECT is((SELECT count(*) FROM romancy.fetch_activities('pcq', 'w', 5)), 1::bigint, 'the last one can be had');
-- of an instance that is over
CREATE TEMP TABLE last AS SELECT claimed_at FROM romancy.activity_tasks WHERE status = 'running';
SELECT ok(romancy.cancel_workflow(:'id'), 'cancelled');
CALL settle();
SELECT ok(NOT romancy.release_activity(:'t2'), 'nothing to release any more');
SELECT * FROM finish();
ROLLBACK;
