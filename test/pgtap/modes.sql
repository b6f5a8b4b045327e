-- Every sample handler gives the same history and result inline, step by step, and
-- with others in one drain. It would catch an inline path that keeps what an
-- exception block rolled back, or a replay that differs from the first run.
BEGIN;
SELECT no_plan();

CREATE TABLE effect (run text, what text);
CREATE FUNCTION ok_act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.effect VALUES (current_setting('test.run'), 'ok ' || coalesce($1::text, 'NULL')); RETURN $1; END $$;
CREATE FUNCTION bad_act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.effect VALUES (current_setting('test.run'), 'bad');
	RAISE EXCEPTION 'bad thing' USING ERRCODE = '22012', DETAIL = 'the detail', HINT = 'the hint';
END $$;
CREATE FUNCTION flaky_act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF romancy.attempt() < 3 THEN RAISE EXCEPTION 'attempt %', romancy.attempt(); END IF;
	INSERT INTO public.effect VALUES (current_setting('test.run'), 'flaky');
	RETURN to_jsonb(romancy.attempt());
END $$;
CREATE FUNCTION null_act(jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$ SELECT NULL::jsonb $$;
CREATE FUNCTION sql_act(jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
	INSERT INTO public.effect VALUES (current_setting('test.run'), 'sql ' || $1::text); SELECT $1 $$;
CREATE FUNCTION terminal_act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RETURN romancy.raise_terminal('no more', '{"why": 1}', 'ValueError'); END $$;

CREATE FUNCTION s_plain(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN jsonb_build_array(romancy.activity('ok_act', $1), romancy.activity('ok_act', NULL), romancy.activity('null_act'),
		romancy.activity('sql_act', '[1, [2, {"a": null}]]'), romancy.activity('ok_act', '1234567890123456789012345678901234567890.000'));
END $$;
CREATE FUNCTION s_sql(jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
	SELECT jsonb_build_object('a', romancy.activity('ok_act', $1));
	SELECT romancy.activity('sql_act', '"x"') $$;
CREATE FUNCTION s_caught(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE s text; m text; d text; h text;
BEGIN
	PERFORM romancy.activity('ok_act', '"before"');
	BEGIN
		PERFORM romancy.activity('ok_act', '"inside"');
		PERFORM romancy.activity('bad_act', retry => '{"max_attempts": 2, "initial_interval": "1ms"}');
	EXCEPTION WHEN division_by_zero THEN
		GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	END;
	RETURN jsonb_build_array(s, m, d, h);
END $$;
CREATE FUNCTION s_undone(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM romancy.activity('ok_act', '"stays"');
		RAISE EXCEPTION 'own error';
	EXCEPTION WHEN OTHERS THEN PERFORM romancy.activity('ok_act', '"after"');
	END;
	RETURN '"done"';
END $$;
CREATE FUNCTION s_failed(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('ok_act', '1'); PERFORM romancy.activity('bad_act', retry => '{"max_attempts": 1}'); RETURN '1'; END $$;
CREATE FUNCTION s_own(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('ok_act', '1'); RAISE EXCEPTION 'own' USING ERRCODE = 'XX123'; END $$;
CREATE FUNCTION s_flaky(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RETURN romancy.activity('flaky_act', retry => '{"initial_interval": "1s", "jitter": 0}'); END $$;
CREATE FUNCTION s_terminal(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RETURN romancy.activity('terminal_act'); EXCEPTION WHEN SQLSTATE 'RM007' THEN RETURN to_jsonb(sqlerrm); END $$;
CREATE FUNCTION s_sleeps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE n int := 0;
BEGIN
	PERFORM romancy.sleep('-1 day');
	FOR i IN 1..3 LOOP
		PERFORM romancy.activity('ok_act', to_jsonb(i));
		PERFORM romancy.sleep('30 days');
		n := n + 1;
	END LOOP;
	PERFORM romancy.sleep_until('2001-01-01');
	RETURN to_jsonb(n);
END $$;
CREATE FUNCTION s_values(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE t1 timestamptz; t2 timestamptz; r float8; u uuid;
BEGIN
	t1 := romancy.workflow_now(); r := romancy.workflow_random(); u := romancy.workflow_uuid();
	PERFORM romancy.set_value('k', '{"v": 1}');
	PERFORM romancy.set_labels('{"l": "x"}');
	PERFORM romancy.activity('ok_act', to_jsonb(t1));
	PERFORM romancy.activity('ok_act', to_jsonb(r));
	PERFORM romancy.activity('ok_act', to_jsonb(u));
	t2 := romancy.workflow_now();
	RETURN to_jsonb(t2 >= t1 AND r >= 0 AND r < 1 AND romancy.patched('p1'));
END $$;
CREATE FUNCTION s_swallows(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..3 LOOP
		BEGIN PERFORM romancy.activity('ok_act', to_jsonb(i)); EXCEPTION WHEN query_canceled THEN NULL; END;
	END LOOP;
	BEGIN PERFORM romancy.sleep('1 s'); EXCEPTION WHEN query_canceled THEN NULL; END;
	RETURN '"through"';
END $$;
CREATE FUNCTION s_loop(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE r record; total int := 0;
BEGIN
	FOR r IN SELECT i FROM generate_series(1, 40) i LOOP
		total := total + (romancy.activity('ok_act', to_jsonb(r.i)) #>> '{}')::int;
	END LOOP;
	RETURN to_jsonb(total);
END $$;
CREATE FUNCTION s_ids(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('ok_act', '1', 'first');
	PERFORM romancy.activity('ok_act', '2');
	PERFORM romancy.activity('ok_act', '3', activity_id => 'third');
	RETURN '1';
END $$;
CREATE FUNCTION s_timers(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text[]; first text; late text := 'no';
BEGIN
	h := ARRAY[romancy.spawn_timer('2 h'), romancy.spawn_timer('1 h')];
	SELECT handle INTO first FROM romancy.await_any(h);
	PERFORM romancy.activity('ok_act', to_jsonb(first));
	BEGIN PERFORM romancy.await_any(h[1:1], '1 min'); EXCEPTION WHEN SQLSTATE 'RM006' THEN late := 'yes'; END;
	PERFORM romancy.await_all(h);
	RETURN jsonb_build_array(first, late);
END $$;

CREATE TABLE result (run text, workflow text, status text, output jsonb, error jsonb, events text, effects text);

-- runs every sample in one mode, all together or one by one
CREATE PROCEDURE run_all(run text, mode text, together boolean) LANGUAGE plpgsql AS $$
DECLARE w text; id uuid; ids uuid[] := '{}'; n bigint;
BEGIN
	PERFORM set_config('test.run', run, true);
	PERFORM set_config('romancy.turn_mode', mode, true);
	FOR w IN SELECT proname FROM pg_proc WHERE proname LIKE 's\_%' AND pronamespace = 'public'::regnamespace ORDER BY 1 LOOP
		id := romancy.start_workflow(w, to_jsonb(w));
		ids := ids || id;
		IF NOT together THEN CALL romancy.drain(advance_time => true, turns => n); END IF;
	END LOOP;
	CALL romancy.drain(advance_time => true, turns => n);
	INSERT INTO result
	SELECT run, i.workflow, i.status, i.output, i.error - 'context',
		(SELECT string_agg(concat_ws(' ', h.event_type, h.activity_id, CASE WHEN h.event_type NOT IN ('ValueRecorded', 'ActivityFailed', 'TimerExpired', 'WorkflowFailed')
				AND NOT (i.workflow = 's_values' AND h.event_type = 'ActivityCompleted') THEN (h.data - 'retry' - 'until')::text END), E'\n' ORDER BY h.seq) FROM romancy.get_history(i.instance_id) h), NULL
	FROM romancy.instances i WHERE i.instance_id = ANY (ids);
	UPDATE result r SET effects = (SELECT string_agg(what, ',' ORDER BY what) FROM effect e WHERE e.run = r.run AND e.what !~ '\d{4}-\d\d|\.\d{5}|\w{8}-\w{4}') WHERE r.run = run_all.run;
END $$;

CALL run_all('step', 'step', false);
CALL run_all('inline', 'inline', false);
CALL run_all('auto', 'auto', false);
CALL run_all('together', 'auto', true);

SELECT unnest(ARRAY[is(a.status, b.status, b.run || ' ' || b.workflow || ': status'), is(a.output, b.output, b.run || ' ' || b.workflow || ': output'),
	is(a.error, b.error, b.run || ' ' || b.workflow || ': error'), is(b.events, a.events, b.run || ' ' || b.workflow || ': history')])
FROM result a JOIN result b USING (workflow) WHERE a.run = 'step' AND b.run <> 'step' ORDER BY b.run, b.workflow;
SELECT is(b.effects, a.effects, b.run || ': effects') FROM (SELECT DISTINCT run, effects FROM result) a, (SELECT DISTINCT run, effects FROM result) b WHERE a.run = 'step' AND b.run <> 'step';

SELECT is(status, CASE WHEN workflow IN ('s_failed', 's_own') THEN 'failed' ELSE 'completed' END, workflow || ' ends as it should') FROM result WHERE run = 'step';
SELECT is(output, '["22012", "bad thing", "the detail", "the hint"]', 'an error reaches the handler whole') FROM result WHERE workflow = 's_caught';
SELECT is(output, '["s_plain", null, null, [1, [2, {"a": null}]], 1234567890123456789012345678901234567890.000]', 'every JSON type survives') FROM result WHERE workflow = 's_plain';
SELECT is(output::text, '["s_plain", null, null, [1, [2, {"a": null}]], 1234567890123456789012345678901234567890.000]', 'to the digit') FROM result WHERE workflow = 's_plain';
SELECT is(output, '3', 'the third attempt succeeds') FROM result WHERE workflow = 's_flaky';
SELECT is(output, '"no more"', 'a terminal error is not retried') FROM result WHERE workflow = 's_terminal';
SELECT is(output, '"done"', 'what a rolled back block did stays done') FROM result WHERE workflow = 's_undone';
SELECT is(output, '"through"', 'a swallowed unwind gains nothing') FROM result WHERE workflow = 's_swallows';
SELECT is((SELECT count(*) FROM effect WHERE run = 'step' AND what = 'ok "stays"'), 1::bigint, 'an effect in a rolled back block, once');
SELECT is((SELECT count(*) FROM effect WHERE what = 'bad'), 0::bigint, 'failed attempts leave nothing');
SELECT is((SELECT sum((data->'retry'->>'total_attempts')::int) FROM romancy.instances i, romancy.get_history(i.instance_id) h WHERE h.event_type = 'ActivityFailed' AND i.workflow = 's_caught'),
	8::bigint, 'attempts are counted, in every mode');
SELECT is(data->'retry'->>'total_attempts', '3', 'of a success as well') FROM romancy.instances i, romancy.get_history(i.instance_id) h WHERE h.event_type = 'ActivityCompleted' AND i.workflow = 's_flaky';
SELECT ok(NOT data ? 'retry' AND data->'error'->>'code' = 'ValueError' AND data->'error'->>'sqlstate' = 'RM007', 'a terminal error has its code and no retry')
	FROM romancy.instances i, romancy.get_history(i.instance_id) h WHERE h.event_type = 'ActivityFailed' AND i.workflow = 's_terminal';
SELECT is(romancy.get_value(instance_id, 'k'), '{"v": 1}', 'get_value') FROM romancy.instances WHERE workflow = 's_values';
SELECT is(labels, '{"l": "x"}', 'set_labels') FROM romancy.instances WHERE workflow = 's_values';
SELECT results_eq($$SELECT DISTINCT activity_id FROM romancy.instances i, romancy.get_history(i.instance_id) h WHERE i.workflow = 's_ids' AND activity_id IS NOT NULL ORDER BY 1$$,
	ARRAY['first', 'ok_act:1', 'third'], 'ids: given ones do not count');
SELECT * FROM finish();
ROLLBACK;
