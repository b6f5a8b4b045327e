-- Faults of earlier systems that concern the life of an instance, each shown to be
-- absent: a cancelled instance that a timer or a result brings back, a cancel or a start that
-- happens though its transaction rolled back, a recur that loses its input, a sleep
-- in the past that shifts later ids, a failure that is taken back with its history.
-- It would catch the return of any of them.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES ($1 #>> '{}'); RETURN $1; END $$;
CREATE PROCEDURE settle(advance boolean = false) LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(advance_time => advance, turns => n); END $$;
CREATE FUNCTION status(id uuid) RETURNS text LANGUAGE sql AS $$ SELECT status FROM romancy.instances WHERE instance_id = id $$;

CREATE FUNCTION naps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.sleep('1 h'); PERFORM romancy.activity('note', $1); RETURN $1; END $$;
CREATE FUNCTION waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.call_workflow('naps', $1, on_parent_close => 'abandon'); END $$;

-- given a cancelled sleeper, when its time comes, then nothing happens
SELECT romancy.start_workflow('naps', '"cancelled"') AS id \gset
CALL settle();
SELECT romancy.cancel_workflow(:'id') \gset
CALL settle();
CALL settle(true);
SELECT is(status(:'id'), 'cancelled'::text, 'a timer does not bring a cancelled instance back');
SELECT is_empty('SELECT * FROM effect', 'nor run a step of it');
SELECT romancy.resume_workflow(:'id') AS r \gset
SELECT is(:'r'::text, 'f', 'nor does a resume');

-- given a cancelled parent, when its abandoned child ends, then the parent stays as it is
SELECT romancy.start_workflow('waits', '"child"') AS id \gset
CALL settle();
SELECT romancy.cancel_workflow(:'id') \gset
CALL settle();
CALL settle(true);
SELECT is(status(:'id'), 'cancelled'::text, 'the end of a child does not bring its parent back');
SELECT results_eq('SELECT what FROM effect', array['child'], 'the abandoned child went on');
SELECT is_empty('SELECT * FROM romancy.t_inbox', 'and nothing is left in an inbox');

-- given a cancel in a subtransaction that rolls back, then nothing has changed
SELECT romancy.start_workflow('naps', '"goes on"') AS id \gset
CALL settle();
SAVEPOINT s;
SELECT romancy.cancel_workflow(:'id') AS r \gset
SELECT is(:'r'::text, 't', 'the cancel said that it was live');
ROLLBACK TO s;
CALL settle(true);
SELECT is(status(:'id'), 'completed'::text, 'cancel, then rollback, changes nothing');
SAVEPOINT s;
SELECT romancy.start_workflow('naps', '"never"', instance_id => '01234567-89ab-7def-8123-00000000000f') \gset
ROLLBACK TO s;
CALL settle(true);
SELECT is(status('01234567-89ab-7def-8123-00000000000f'), NULL::text, 'a start that rolled back does not happen');

-- given a recur, then the input is there, whole, in the next generation
CREATE FUNCTION again(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN IF $1 ->> 'n' = '3' THEN RETURN $1; END IF; RETURN romancy.recur(jsonb_set($1, '{n}', to_jsonb(($1 ->> 'n')::int + 1))); END $$;
SELECT romancy.start_workflow('again', '{"n": 1, "keep": ["é", null, 1.50, {"deep": [1, [2]]}]}') AS id \gset
CALL settle();
SELECT is(romancy.get_result(:'id'), '{"n": 3, "keep": ["é", null, 1.50, {"deep": [1, [2]]}]}'::jsonb, 'recur keeps its input');
CREATE FUNCTION no_input(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN IF $1 IS NULL THEN RETURN '"null"'; END IF; RETURN romancy.recur(NULL); END $$;
SELECT romancy.start_workflow('no_input', '1') AS id \gset
CALL settle();
SELECT is(romancy.get_result(:'id'), '"null"'::jsonb, 'also one that is null');

-- given a sleep in the past, then it is a step like any other
CREATE FUNCTION late(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.sleep_until('2001-01-01');
	PERFORM romancy.sleep('1 h');
	PERFORM romancy.sleep_until('2002-01-01');
	RETURN $1;
END $$;
SELECT romancy.start_workflow('late') AS id \gset
CALL settle(true);
SELECT results_eq(format('SELECT activity_id FROM romancy.get_history(%L) WHERE event_type = %L', :'id', 'TimerExpired'),
	array['sleep_until:1', 'sleep:1', 'sleep_until:2'], 'a sleep in the past does not shift the ids of later ones');

-- given another IntervalStyle at replay, then a sleep is still the same step
SELECT romancy.start_workflow('naps', '"style"') AS id \gset
SET LOCAL intervalstyle = 'iso_8601';
CALL settle();
SET LOCAL intervalstyle = 'sql_standard';
CALL settle(true);
SELECT is(status(:'id'), 'completed'::text, 'IntervalStyle does not matter for replay');

-- given a block of the handler that is rolled back, then what an activity in it registered stays registered
CREATE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES ('undo ' || ($1 ->> 'result')); RETURN NULL; END $$;
SELECT romancy.define_activity('noted', 'note(jsonb)', compensation => 'undo');
CREATE FUNCTION blocks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM romancy.activity('noted', '"in a block"');
		RAISE EXCEPTION 'rolled back';
	EXCEPTION WHEN OTHERS THEN NULL;
	END;
	RAISE EXCEPTION 'and fails';
END $$;
DELETE FROM effect;
SELECT romancy.start_workflow('blocks') AS id \gset
CALL settle();
SELECT is(status(:'id'), 'failed'::text, 'it failed');
SELECT results_eq('SELECT what FROM effect ORDER BY n', array['in a block', 'undo in a block'], 'an activity in a block that was rolled back is undone, once');

-- the same inline and step by step
DO $$
DECLARE mode text; id uuid;
BEGIN
	FOREACH mode IN ARRAY array['inline', 'step', 'auto'] LOOP
		PERFORM set_config('romancy.turn_mode', mode, true);
		DELETE FROM effect;
		id := romancy.start_workflow('blocks');
		CALL settle();
		IF (SELECT string_agg(what, ',' ORDER BY n) FROM effect) IS DISTINCT FROM 'in a block,undo in a block' THEN
			RAISE EXCEPTION 'turn mode %: %', mode, (SELECT string_agg(what, ',' ORDER BY n) FROM effect);
		END IF;
	END LOOP;
END $$;
SELECT pass('the same in every turn mode');
SELECT * FROM finish();
ROLLBACK;
