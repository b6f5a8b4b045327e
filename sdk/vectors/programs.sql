-- Random programs, as documents (test/t/120_sdk_random.pl makes them), carried out by a handler. The same interpreter stands in programs.py, programs.mjs and
-- ../go/internal/programs/main.go. A program is a list of statements; a number, which the statements change, decides the conditions.
-- Needs scenarios.sql.
CREATE FUNCTION perform(body jsonb, a bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	s jsonb;
	r jsonb;
	n bigint;
BEGIN
	FOR s IN SELECT * FROM jsonb_array_elements(body) LOOP
		n := (s->>'n')::bigint;
		CASE s->>'do'
			WHEN 'activity' THEN a := a + (romancy.activity('sq', to_jsonb(n)) #>> '{}')::bigint;
			WHEN 'named' THEN a := a + (romancy.activity('sq', to_jsonb(a % 100), 'own_' || n) #>> '{}')::bigint;
			WHEN 'parallel' THEN
				SELECT to_jsonb(romancy.await_all(array_agg(romancy.spawn('sq', to_jsonb(g)) ORDER BY g))) INTO r FROM generate_series(1, n) g;
				a := a + (r->>-1)::bigint;
			WHEN 'map_children' THEN
				SELECT to_jsonb(romancy.await_all(array_agg(romancy.spawn_workflow('kid', to_jsonb(g)) ORDER BY g))) INTO r FROM generate_series(1, n) g;
				a := a + (r->>0)::bigint;
			WHEN 'child' THEN a := a + (romancy.call_workflow('kid', to_jsonb(n)) #>> '{}')::bigint;
			WHEN 'canvas' THEN a := a + (romancy.canvas(romancy.chain(romancy.task('sq', to_jsonb(n)), romancy.task('sq'))) #>> '{}')::bigint;
			WHEN 'publish' THEN PERFORM romancy.publish('news', to_jsonb(a));
			WHEN 'set' THEN PERFORM romancy.set_value('k' || n, to_jsonb(a));
			WHEN 'labels' THEN PERFORM romancy.set_labels(jsonb_build_object('l', n));
			WHEN 'values' THEN PERFORM romancy.workflow_now(), romancy.workflow_random(), romancy.workflow_uuid();
			WHEN 'patched' THEN a := a + CASE WHEN romancy.patched('p' || n) THEN 1 ELSE 0 END;
			WHEN 'sleep' THEN PERFORM romancy.sleep('1 ms');
			WHEN 'timer' THEN PERFORM romancy.await_any(ARRAY[romancy.spawn_timer('1 ms')]);
			WHEN 'receive' THEN
				BEGIN
					PERFORM romancy.receive('c' || n, '1 ms');
				EXCEPTION WHEN SQLSTATE 'RM006' THEN
					a := a + 1;
				END;
			WHEN 'book' THEN PERFORM romancy.activity('book', to_jsonb(n));
			WHEN 'register' THEN PERFORM romancy.register_compensation('undo', to_jsonb(n));
			WHEN 'compensate' THEN a := a + romancy.compensate();
			WHEN 'boom' THEN PERFORM romancy.activity('boom', to_jsonb(n));
			WHEN 'raise' THEN RAISE EXCEPTION 'raised %', n USING ERRCODE = 'XX123';
			WHEN 'if' THEN
				IF a % 2 = 0 THEN
					a := perform(s->'then', a);
				ELSE
					a := perform(s->'else', a);
				END IF;
			WHEN 'loop' THEN
				FOR g IN 1 .. n LOOP
					a := perform(s->'body', a);
				END LOOP;
			WHEN 'try' THEN
				BEGIN
					a := perform(s->'body', a);
				EXCEPTION WHEN OTHERS THEN
					a := a + 7;
				END;
		END CASE;
	END LOOP;
	RETURN a;
END $$;
CREATE FUNCTION random_program(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(perform(i, 0)); END $$;
CREATE FUNCTION random_async(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(perform(i, 0)); END $$;
