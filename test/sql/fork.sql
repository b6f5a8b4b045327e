-- fork_workflow: a new instance with a part of another's history. All in one
-- transaction, so that nothing of it reaches a worker.
-- It would catch a fork that does a copied step again, or takes over what belongs to the old instance's own life.
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
DELETE FROM romancy.t_instance;
CREATE SCHEMA forks;
SET LOCAL search_path = forks, public;
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE TABLE mended (yes boolean);
CREATE FUNCTION note(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO effect (what) VALUES (input #>> '{}'); RETURN input; END $$;
CREATE FUNCTION undo(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO effect (what) VALUES ('undo ' || (input ->> 'result')); RETURN input; END $$;
CREATE FUNCTION last(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN IF NOT EXISTS (SELECT FROM mended) THEN RAISE EXCEPTION 'not mended'; END IF; RETURN input; END $$;
SELECT romancy.define_activity('note', 'note(jsonb)', compensation => 'undo');
SELECT romancy.define_activity('last', 'last(jsonb)', retry => '{"max_attempts": 1}');
CREATE FUNCTION flow(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.set_value('step', '1');
	PERFORM romancy.activity('note', '"one"');
	PERFORM romancy.set_labels('{"got": "far"}');
	PERFORM romancy.set_value('step', '2');
	PERFORM romancy.activity('note', '"two"', activity_id => 'second');
	RETURN romancy.activity('last', input);
END $$;
SELECT romancy.start_workflow('flow', '"old"', priority => 3, labels => '{"at": "start"}', idempotency_key => 'k') AS id \gset
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
INSERT INTO mended VALUES (true);
TRUNCATE effect;
SELECT romancy.retry_workflow(:'id');
SELECT romancy.fork_workflow(:'id', 'last:1', '"new"') AS a \gset
SELECT romancy.fork_workflow(:'id', 'second') AS b \gset
SELECT romancy.fork_workflow(:'id', 'note:1') AS c \gset
SELECT romancy.get_value(:'a', 'step'), romancy.get_value(:'b', 'step') AS value_b, romancy.get_value(:'c', 'step') AS value_c;
CALL romancy.drain() \gset
SELECT instance_id = :'a' AS a, instance_id = :'b' AS b, status, input, output, priority, labels, idempotency_key, parent_id, continued_from FROM romancy.instances
	WHERE instance_id <> :'id' ORDER BY created_at, instance_id;
SELECT what FROM effect ORDER BY n;
SELECT seq, event_type, activity_id FROM romancy.get_history(:'a');
SELECT seq, event_type, activity_id FROM romancy.get_history(:'b');

-- compensations that ran for the original are not registered for the fork, those that did not are
DELETE FROM mended;
TRUNCATE effect;
SELECT romancy.start_workflow('flow', '"again"') AS id2 \gset
CALL romancy.drain() \gset
TRUNCATE effect;
SELECT romancy.fork_workflow(:'id2', 'last:1') AS f \gset
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'f';
SELECT what FROM effect ORDER BY n;
SELECT romancy.fork_workflow(:'a', 'second') AS f \gset
TRUNCATE effect;
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'f';
SELECT what FROM effect ORDER BY n;

-- of a live one, and of what it waits for
INSERT INTO mended VALUES (true);
CREATE FUNCTION naps(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('note', '"before"'); PERFORM romancy.sleep('1 day'); RETURN to_jsonb(romancy.workflow_now() IS NOT NULL); END $$;
SELECT romancy.start_workflow('naps') AS id3 \gset
CALL romancy.drain() \gset
TRUNCATE effect;
SELECT romancy.fork_workflow(:'id3', 'sleep:1') AS f \gset
CALL romancy.drain(advance_time => true) \gset
SELECT status, output FROM romancy.instances WHERE instance_id IN (:'id3', :'f');
SELECT what FROM effect ORDER BY n;

-- of one that recurred; from its archive
CREATE FUNCTION rec(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('note', input); IF input = '1' THEN RETURN romancy.recur('2'); END IF; RETURN input; END $$;
SELECT romancy.start_workflow('rec', '1') AS id4 \gset
CALL romancy.drain() \gset
SELECT romancy.fork_workflow(:'id4', 'note:1', '7') AS f \gset
CALL romancy.drain() \gset
SELECT romancy.get_result(:'f');

-- spawned work
CREATE FUNCTION spawns(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text := romancy.spawn_workflow('naps');
BEGIN
	PERFORM romancy.activity('note', '"middle"');
	PERFORM romancy.await(h);
	RETURN romancy.activity('note', '"end"');
END $$;
SELECT romancy.start_workflow('spawns') AS id5 \gset
CALL romancy.drain() \gset
SELECT romancy.fork_workflow(:'id5', 'note:1');
CALL romancy.drain(advance_time => true) \gset
SELECT romancy.fork_workflow(:'id5', 'note:1');
SELECT romancy.fork_workflow(:'id5', 'note:2') AS f \gset
CALL romancy.drain() \gset
SELECT romancy.get_result(:'f');

-- another input than the history was made with
CREATE FUNCTION uses(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('note', input); RETURN romancy.activity('note', '"last"'); END $$;
SELECT romancy.start_workflow('uses', '1') AS id6 \gset
CALL romancy.drain() \gset
SELECT romancy.fork_workflow(:'id6', 'note:2', '2') AS f \gset
CALL romancy.drain() \gset
SELECT status, error ->> 'sqlstate' AS sqlstate FROM romancy.instances WHERE instance_id = :'f';

-- bad input
SELECT romancy.fork_workflow(:'id', 'nothing:1');
SELECT romancy.fork_workflow(:'id', '');
SELECT romancy.fork_workflow(:'id', NULL);
SELECT romancy.fork_workflow('00000000-0000-0000-0000-000000000000', 'note:1');
SELECT romancy.start_workflow('naps', start_at => now() + interval '1 day') AS id7 \gset
SELECT romancy.fork_workflow(:'id7', 'note:1');
CREATE ROLE regress_forker;
SELECT romancy.grant_usage('regress_forker', monitor => true);
SET LOCAL ROLE regress_forker;
SELECT romancy.fork_workflow(:'id', 'note:1');
ROLLBACK;
