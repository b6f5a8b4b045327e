-- Children: results, errors, what the end of a parent does, depth. All in one
-- transaction, so that nothing of it reaches a worker.
-- It would catch a child that outlives its parent against its will, and a result that gets lost on the way.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
DELETE FROM romancy.t_instance;
CREATE SCHEMA kids;
SET LOCAL search_path = kids, public;
CREATE TABLE mended (yes boolean);
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION note(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO effect (what) VALUES (input #>> '{}'); RETURN input; END $$;
CREATE FUNCTION child(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('note', coalesce(input -> 'note', '"child"'));
	IF input ? 'sleep' THEN PERFORM romancy.sleep((input ->> 'sleep')::interval); END IF;
	IF input ? 'fail' AND NOT EXISTS (SELECT FROM mended) THEN
		RAISE EXCEPTION 'child fails' USING ERRCODE = input ->> 'fail', DETAIL = 'its detail', HINT = 'its hint';
	END IF;
	IF (input ->> 'again')::int > 0 THEN
		RETURN romancy.recur(jsonb_set(input, '{again}', to_jsonb((input ->> 'again')::int - 1)));
	END IF;
	RETURN input;
END $$;
CREATE FUNCTION tree() RETURNS TABLE (workflow text, status text, parent text, error text) LANGUAGE sql AS $$
	SELECT i.workflow, i.status, p.workflow, i.error ->> 'message' FROM romancy.instances i
	LEFT JOIN romancy.instances p ON p.instance_id = i.parent_id ORDER BY i.created_at, i.instance_id $$;

-- results, in order and in parallel
CREATE FUNCTION parent(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text[];
BEGIN
	h := array[romancy.spawn_workflow('child', '{"n": 1, "sleep": "2 h"}'), romancy.spawn_workflow('child', '{"n": 2, "sleep": "1 h"}', activity_id => 'mine')];
	RETURN jsonb_build_array(romancy.call_workflow('child', '{"n": 3}'), h, (SELECT a.handle FROM romancy.await_any(h) a),
		array_to_json(romancy.await_all(h)), romancy.await(h[1]));
END $$;
SELECT romancy.start_workflow('parent', priority => 7, labels => '{"a": 1}') AS id \gset
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
SELECT kind, name FROM romancy.waiting WHERE instance_id = :'id';
CALL romancy.drain(advance_time => true) \gset
SELECT romancy.get_result(:'id');
SELECT event_type, activity_id, data - 'instance_id' AS data FROM romancy.get_history(:'id');
SELECT workflow, priority, labels FROM romancy.instances ORDER BY created_at, instance_id;
DELETE FROM romancy.t_instance;

-- errors come with their SQLSTATE, message and detail; what "when others" cannot see is RM006
CREATE FUNCTION catches(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE d text; h text;
BEGIN
	PERFORM romancy.call_workflow('child', input);
	RETURN '"no error"';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN jsonb_build_array(sqlstate, sqlerrm, d, h);
END $$;
SELECT romancy.start_workflow('catches', '{"fail": "P0099"}') AS a \gset
SELECT romancy.start_workflow('catches', '{"fail": "P0004"}') AS b \gset
SELECT romancy.start_workflow('catches', '{"sleep": "1 day"}') AS c \gset
CALL romancy.drain() \gset
SELECT romancy.cancel_workflow(instance_id, 'not needed') FROM romancy.instances WHERE parent_id = :'c';
CALL romancy.drain() \gset
SELECT romancy.get_result(:'a'), romancy.get_result(:'b'), romancy.get_result(:'c');
DELETE FROM romancy.t_instance;

-- a child that recurs: its last generation answers
SELECT romancy.start_workflow('catches', '{"again": 3, "sleep": "1 h"}') AS id \gset
CREATE FUNCTION waits(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.call_workflow('child', input); END $$;
SELECT romancy.start_workflow('waits', '{"again": 2}') AS id2 \gset
CALL romancy.drain(advance_time => true) \gset
SELECT romancy.get_result(:'id'), romancy.get_result(:'id2');
SELECT status, count(*), count(parent_id) AS with_parent FROM romancy.instances WHERE workflow = 'child' GROUP BY status ORDER BY status;
DELETE FROM romancy.t_instance;

-- the parent ends: children are cancelled, or abandoned
CREATE FUNCTION leaves(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.spawn_workflow('child', '{"sleep": "1 day"}');
	PERFORM romancy.spawn_workflow('child', '{"sleep": "1 day", "note": "abandoned"}', on_parent_close => 'abandon');
	IF input = '"sleep"' THEN PERFORM romancy.sleep('1 h'); END IF;
	IF input = '"fail"' THEN RAISE EXCEPTION 'parent fails'; END IF;
	RETURN NULL;
END $$;
SELECT romancy.start_workflow('leaves', '"return"'), romancy.start_workflow('leaves', '"fail"') \gset
SELECT romancy.start_workflow('leaves', '"sleep"') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.cancel_workflow(:'id', 'stop');
CALL romancy.drain() \gset
SELECT i.workflow, i.input, i.status, p.status AS parents, i.error ->> 'message' AS error FROM romancy.instances i JOIN romancy.instances p ON p.instance_id = i.parent_id
	ORDER BY p.created_at, p.instance_id, i.created_at, i.instance_id;
CALL romancy.drain(advance_time => true) \gset
SELECT status, count(*) FROM romancy.instances WHERE workflow = 'child' GROUP BY status ORDER BY status;
SELECT count(*) AS left_over FROM romancy.t_inbox;
-- a parent with a live child is not deleted, and not swept either
SELECT romancy.start_workflow('leaves', '"return"') AS id \gset
CALL romancy.drain() \gset
\set VERBOSITY sqlstate
SELECT romancy.delete_workflow(:'id');
\set VERBOSITY terse
DELETE FROM romancy.t_instance;

-- retry of a parent runs the failed child again, and nothing else
TRUNCATE effect;
CREATE FUNCTION retried(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text := romancy.spawn_workflow('child', '{"fail": "P0098", "note": "failing"}');
BEGIN
	PERFORM romancy.activity('note', '"beside"');
	RETURN romancy.call_workflow('child', '{"note": "good"}') || romancy.await(h);
END $$;
SELECT romancy.start_workflow('retried') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.get_result(:'id');
INSERT INTO mended VALUES (true);
SELECT romancy.retry_workflow(:'id');
CALL romancy.drain() \gset
SELECT romancy.get_result(:'id');
SELECT what, count(*) FROM effect GROUP BY what ORDER BY what;
SELECT * FROM tree();
DELETE FROM romancy.t_instance;

-- compensations of a child run when its parent is cancelled
SELECT romancy.define_activity('note', 'note(jsonb)', compensation => 'undo');
CREATE FUNCTION undo(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES ('undo ' || (input ->> 'result')); RETURN NULL; END $$;
TRUNCATE effect;
SELECT romancy.start_workflow('waits', '{"sleep": "1 day", "note": "mine"}') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.cancel_workflow(:'id');
CALL romancy.drain() \gset
SELECT what FROM effect ORDER BY n;
SELECT * FROM tree();
DELETE FROM romancy.t_instance;

-- a result that comes while the parent is paused
SELECT romancy.start_workflow('waits', '{"sleep": "1 h"}') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.pause_workflow(:'id');
CALL romancy.drain(advance_time => true) \gset
SELECT * FROM tree();
SELECT romancy.resume_workflow(:'id');
CALL romancy.drain() \gset
SELECT * FROM tree();
DELETE FROM romancy.t_instance;

-- depth, and bad input
CREATE FUNCTION deep(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.call_workflow('deep', input); END $$;
SELECT romancy.start_workflow('deep') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.get_result(:'id');
SELECT status, count(*) FROM romancy.instances GROUP BY status;
SELECT romancy.call_workflow('child');
SELECT romancy.spawn_workflow('child');
CREATE FUNCTION wrong(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	CASE input #>> '{}'
		WHEN 'close' THEN RETURN romancy.call_workflow('child', on_parent_close => 'ignore');
		WHEN 'name' THEN RETURN romancy.call_workflow('nobody');
		WHEN 'null' THEN RETURN romancy.call_workflow(NULL);
		WHEN 'version' THEN RETURN romancy.call_workflow('child', version => 3);
		WHEN 'limit' THEN RETURN romancy.call_workflow('child', '{"sleep": "1 day"}', execution_timeout => '1 min');
	END CASE;
END $$;
SELECT input #>> '{}' AS what, romancy.start_workflow('wrong', input) IS NOT NULL AS started FROM jsonb_array_elements('["close", "name", "null", "version", "limit"]') input;
CALL romancy.drain(advance_time => true) \gset
SELECT input, status, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM romancy.instances WHERE workflow = 'wrong' ORDER BY created_at, instance_id;
ROLLBACK;
