-- Bad input to the calls about an instance's life: what each is told, with SQLSTATE, detail and
-- hint. All in one transaction, so that nothing of it reaches a worker.
-- It would catch input that is taken without a word, and an error without the name of the argument.
BEGIN;
SET LOCAL client_min_messages = warning;
DELETE FROM romancy.t_instance;
CREATE SCHEMA bad;
SET LOCAL search_path = bad, public;
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION tell(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE m text; d text; h text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN sqlstate || ': ' || m || coalesce(E'\n  detail: ' || nullif(d, ''), '') || coalesce(E'\n  hint: ' || nullif(h, ''), '');
END $$;
-- how an instance ended, in the same words
CREATE FUNCTION became(id uuid) RETURNS text LANGUAGE sql AS $$
	SELECT status || coalesce(', ' || (error ->> 'sqlstate') || ': ' || (error ->> 'message') || coalesce(E'\n  detail: ' || (error ->> 'detail'), '') || coalesce(E'\n  hint: ' || (error ->> 'hint'), ''), '')
	FROM romancy.instances WHERE instance_id = id $$;
CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES (romancy.step_key()); RETURN $1; END $$;
CREATE FUNCTION one(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES ('one ' || $1::text); RETURN '1'; END $$;
CREATE FUNCTION two(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES ('two ' || $1::text); RETURN '2'; END $$;

-- a cycle of compensations, and one that is its own: each is undone once, and its undoing is not undone
SELECT romancy.define_activity('one', 'one(jsonb)', compensation => 'two'), romancy.define_activity('two', 'two(jsonb)', compensation => 'one');
SELECT romancy.define_activity('own', 'one(jsonb)', compensation => 'own');
CREATE FUNCTION cycle(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('one', '"a"'); PERFORM romancy.activity('two', '"b"'); PERFORM romancy.activity('own', '"c"'); RAISE EXCEPTION 'fails'; END $$;
SELECT romancy.start_workflow('cycle') AS id \gset
CALL romancy.drain() \gset
SELECT became(:'id');
SELECT what FROM effect ORDER BY n;

-- an unknown compensation: by its definition, and by hand; the operator mends it
SELECT romancy.define_activity('undone', 'one(jsonb)', compensation => 'nowhere');
CREATE FUNCTION unknown_compensation(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF $1 = '1' THEN PERFORM romancy.activity('undone'); ELSE PERFORM romancy.register_compensation('nowhere', '1'); END IF;
	RAISE EXCEPTION 'fails';
END $$;
SELECT romancy.start_workflow('unknown_compensation', '1') AS id \gset
SELECT romancy.start_workflow('unknown_compensation', '2') AS id2 \gset
CALL romancy.drain() \gset
SELECT became(i) FROM unnest(array[:'id'::uuid, :'id2']) i;
CREATE FUNCTION nowhere(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
SELECT romancy.resume_workflows('{"workflow": "unknown_compensation"}');
CALL romancy.drain() \gset
SELECT became(i) FROM unnest(array[:'id'::uuid, :'id2']) i;

-- fork, retry and delete of what they are not for
CREATE FUNCTION plain(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('put', $1); END $$;
SELECT romancy.start_workflow('plain', instance_id => '01234567-89ab-7def-8123-0000000000b1') AS completed \gset
CREATE FUNCTION open_spawn(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE h text := romancy.spawn('queued'); BEGIN PERFORM romancy.sleep('1 day'); RETURN romancy.await(h); END $$;
SELECT romancy.define_activity('queued', queue => 'q');
SELECT romancy.start_workflow('open_spawn', instance_id => '01234567-89ab-7def-8123-0000000000b2') AS live \gset
CALL romancy.drain() \gset
SELECT tell(s) FROM unnest(array[
	$$SELECT romancy.fork_workflow('01234567-89ab-7def-8123-0000000000b1', 'put:2')$$,
	$$SELECT romancy.fork_workflow('01234567-89ab-7def-8123-0000000000b2', 'sleep:1')$$,
	$$SELECT romancy.fork_workflow('01234567-89ab-7def-8123-0000000000bb', 'put:1')$$,
	$$SELECT romancy.fork_workflow('01234567-89ab-7def-8123-0000000000b1', NULL)$$,
	$$SELECT romancy.retry_workflow('01234567-89ab-7def-8123-0000000000b1')$$,
	$$SELECT romancy.retry_workflow('01234567-89ab-7def-8123-0000000000b2')$$,
	$$SELECT romancy.delete_workflow('01234567-89ab-7def-8123-0000000000b2')$$,
	$$SELECT romancy.cancel_workflows('{"state": "failed"}')$$,
	$$SELECT romancy.cancel_workflow(NULL)$$]) s;

SELECT romancy.pause_workflow('01234567-89ab-7def-8123-0000000000b2');
CALL romancy.drain() \gset
SELECT tell($$SELECT romancy.retry_workflow('01234567-89ab-7def-8123-0000000000b2')$$);

-- what is for handlers only
SELECT tell(s) FROM unnest(array[
	$$SELECT romancy.recur('1')$$,
	$$SELECT romancy.register_compensation('one', '1')$$,
	$$SELECT romancy.compensate()$$,
	$$SELECT romancy.call_workflow('plain')$$,
	$$SELECT romancy.patched('x')$$]) s;
-- and not for them
CREATE FUNCTION in_handler(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(tell(input #>> '{}')); END $$;
SELECT count(romancy.start_workflow('in_handler', to_jsonb(s))) FROM unnest(array[
	$$SELECT romancy.retry_workflow('01234567-89ab-7def-8123-0000000000b1')$$,
	$$SELECT romancy.fork_workflow('01234567-89ab-7def-8123-0000000000b1', 'put:1')$$,
	$$SELECT romancy.delete_workflow('01234567-89ab-7def-8123-0000000000b1')$$,
	$$CALL romancy.run_workflow('plain')$$]) s;
CALL romancy.drain() \gset
SELECT output #>> '{}' AS told FROM romancy.instances WHERE workflow = 'in_handler' ORDER BY input;

-- recur with spawned work, or a child, that has not ended; recur from an activity
CREATE FUNCTION early(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF $1 = '1' THEN PERFORM romancy.spawn('queued'); END IF;
	IF $1 = '2' THEN PERFORM romancy.spawn_workflow('open_spawn'); END IF;
	IF $1 = '3' THEN PERFORM romancy.activity('recurs', retry => '{"max_attempts": 1}'); END IF;
	RETURN romancy.recur('4');
END $$;
CREATE FUNCTION recurs(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.recur('1'); END $$;
CREATE TABLE ids AS SELECT n, romancy.start_workflow('early', to_jsonb(n)) AS id FROM generate_series(1, 3) n;
CALL romancy.drain() \gset
SELECT became(id) FROM ids ORDER BY n;
ROLLBACK;
