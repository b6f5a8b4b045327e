-- The names that users give their activities and steps change nothing: each name goes the same way as "mail" does.
-- It would catch an engine that takes a step for a compensation, an await or a step of its own because of its name.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
DELETE FROM romancy.t_instance;
CREATE SCHEMA names;
SET LOCAL search_path = names, public;
CREATE TABLE name (n int GENERATED ALWAYS AS IDENTITY, name text);
INSERT INTO name (name) VALUES ('mail'), ('compensation_mail'), ('compensation_'), ('await_mail'), ('await_mail:1'), ('await_any'), ('await'),
	('sleep'), ('activity'), ('spawn_timer'), ('recur'), ('register_compensation'), ('romancy.outside'), ('map_mail'), ('worker'), ('LIKE %\_');
CREATE TABLE seen (n int GENERATED ALWAYS AS IDENTITY, name text, what text);
CREATE FUNCTION undo(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO seen (name, what) VALUES (input ->> 'input', 'undone'); RETURN '1'; END $$;
-- one activity of each name on a queue, with a compensation in the database
SELECT count(romancy.define_activity(name, queue => 'names', compensation => 'undo')::text) FROM name;
-- and one workflow for all: called, or spawned and awaited, beside what has a name of the engine's
CREATE FUNCTION one(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF (input ->> 'spawn')::boolean THEN
		RETURN romancy.await(romancy.spawn(input ->> 'name', input -> 'name'));
	END IF;
	RETURN romancy.activity(input ->> 'name', input -> 'name');
END $$;

-- fetched, then cancelled, then completed: the effect happened, and is undone
CREATE FUNCTION cancelled(name text, spawn boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id uuid := romancy.start_workflow('one', jsonb_build_object('name', name, 'spawn', spawn));
	w record;
	token text;
	story text;
	t bigint;
BEGIN
	CALL romancy.drain(turns => t);
	SELECT status INTO w FROM romancy.instances i WHERE instance_id = id;
	story := w.status;
	SELECT f.token INTO token FROM romancy.fetch_activities('names', 'me') f;
	PERFORM romancy.cancel_workflow(id);
	CALL romancy.drain(turns => t);
	story := story || ', ' || (SELECT status FROM romancy.instances WHERE instance_id = id);
	story := story || ', ' || romancy.complete_activity(token, '1');
	CALL romancy.drain(turns => t);
	story := story || ', ' || (SELECT status FROM romancy.instances WHERE instance_id = id);
	story := story || ', ' || coalesce((SELECT string_agg(what, ' ') FROM seen s WHERE s.name = cancelled.name), 'not undone');
	DELETE FROM seen;
	RETURN story;
END $$;
SELECT cancelled(name, false) AS story, count(*) FROM name GROUP BY 1;
SELECT cancelled(name, true) AS story, count(*) FROM name GROUP BY 1;

-- completed: the history is the same but for the name
CREATE FUNCTION completed(name text, spawn boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id uuid := romancy.start_workflow('one', jsonb_build_object('name', name, 'spawn', spawn));
	t bigint;
BEGIN
	CALL romancy.drain(turns => t);
	PERFORM romancy.complete_activity(f.token, '1') FROM romancy.fetch_activities('names', 'me') f;
	CALL romancy.drain(turns => t);
	RETURN (SELECT string_agg(format('%s %s', event_type, replace(activity_id, name || ':1', 'NAME:1')), ', ' ORDER BY seq) FROM romancy.get_history(id));
END $$;
SELECT completed(name, false) AS story, count(*) FROM name GROUP BY 1;
SELECT completed(name, true) AS story, count(*) FROM name GROUP BY 1;

-- an activity and the compensation of another one never share a step: nor their key for others' idempotency
CREATE TABLE key (what text, key text);
CREATE FUNCTION does(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO key VALUES (input #>> '{}', split_part(romancy.step_key(), '/', 2)); RETURN '1'; END $$;
CREATE FUNCTION undoes(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO key VALUES ('undo ' || (input ->> 'input'), split_part(romancy.step_key(), '/', 2)); RETURN '1'; END $$;
SELECT romancy.define_activity('mail', 'does(jsonb)', compensation => 'undoes');
SELECT romancy.define_activity('compensation_mail', 'does(jsonb)', compensation => 'undoes');
SELECT romancy.define_activity('await_any', 'does(jsonb)', compensation => 'undoes');
CREATE FUNCTION two(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('mail', '"mail"');
	PERFORM romancy.activity('compensation_mail', '"compensation_mail"');
	PERFORM romancy.await_any(ARRAY[romancy.spawn_timer('0')]);
	PERFORM romancy.activity('await_any', '"await_any"');
	RAISE 'it fails';
END $$;
SELECT romancy.start_workflow('two') AS id \gset
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
SELECT * FROM key;
SELECT count(*) - count(DISTINCT key) AS shared FROM key;

-- ids that begin with "@" are the engine's: refused
SELECT romancy.define_activity('@mail', queue => 'names');
SELECT romancy.define_workflow('@mail', 'two(jsonb)');
CREATE FUNCTION asks(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	CASE input #>> '{}'
		WHEN 'name' THEN RETURN romancy.activity('@mail');
		WHEN 'id' THEN RETURN romancy.activity('mail', null, '@compensation_mail:1');
		WHEN 'spawn' THEN RETURN to_jsonb(romancy.spawn('mail', null, '@compensation_mail:1'));
		WHEN 'register' THEN PERFORM romancy.register_compensation('@mail', null);
		WHEN 'child' THEN PERFORM romancy.spawn_workflow('@mail');
	END CASE;
	RETURN 'null';
END $$;
SELECT what, romancy.start_workflow('asks', to_jsonb(what)) AS id INTO TEMP asked FROM unnest(ARRAY['name', 'id', 'spawn', 'register', 'child']) what;
CALL romancy.drain() \gset
SELECT what, status, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM asked JOIN romancy.instances ON instance_id = id ORDER BY what;
ROLLBACK;
