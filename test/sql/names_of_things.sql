-- The names that users give channels, events, groups, queues, labels, values, children, compensations, steps, schedules and destinations
-- change nothing either: each goes the same way as "mail" does, or is refused (RM012). It would catch an engine
-- that takes a child for a task of its own, a queue for one of another kind, or a step for a compensation, because of a name.
\set VERBOSITY terse
BEGIN;
SET LOCAL client_min_messages = warning;
DELETE FROM romancy.t_instance;
CREATE SCHEMA names;
SET LOCAL search_path = names, public;
CREATE TABLE name (n int GENERATED ALWAYS AS IDENTITY, name text);
INSERT INTO name (name) VALUES ('mail'), ('compensation_mail'), ('compensation_'), ('compensation_mail:1'), ('await'), ('await_mail'), ('await_any'), ('sleep'),
	('sleep:1'), ('activity'), ('receive'), ('wait_event'), ('spawn_timer'), ('map'), ('recur'), ('register_compensation'), ('register_compensation:1'), ('http'),
	('undoable:1'), ('queued:1'), ('romancy.mail'), ('a/b'), ('1/mail'), ('kept'), ('direct'), ('t_mail'), ('*'), ('LIKE %\_'), ('''"'),
	('@mail'), ('@compensation_mail:1'), ('@http');
CREATE FUNCTION kid(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '7'; END $$;
-- one handler for all: the kind of thing, and its name
CREATE FUNCTION handler(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE name text := input ->> 'name';
BEGIN
	CASE input ->> 'kind'
		WHEN 'channel' THEN PERFORM romancy.subscribe(name); RETURN (romancy.receive(name)).data;
		WHEN 'spawned receive' THEN PERFORM romancy.subscribe(name); RETURN romancy.await(romancy.spawn_receive(name)) -> 'data';
		WHEN 'event' THEN RETURN (romancy.wait_event(name)).data;
		WHEN 'group' THEN PERFORM romancy.join_group(name); RETURN to_jsonb((SELECT count(*) FROM romancy.group_members(name)));
		WHEN 'queue' THEN RETURN romancy.activity('queued');
		WHEN 'label' THEN PERFORM romancy.set_labels(jsonb_build_object(name, name)); RETURN '7';
		WHEN 'value' THEN PERFORM romancy.set_value(name, '7'); RETURN romancy.get_value(romancy.instance_id(), name);
		WHEN 'child' THEN RETURN romancy.call_workflow(name);
		WHEN 'spawned child' THEN RETURN romancy.await(romancy.spawn_workflow(name));
		WHEN 'map' THEN RETURN romancy.map(name, '[1, 2]');
		WHEN 'undone by' THEN PERFORM romancy.activity('undoable'); RAISE 'it fails';
		WHEN 'registered' THEN PERFORM romancy.register_compensation(name, '1'); RAISE 'it fails';
		WHEN 'step' THEN PERFORM romancy.activity('undoable', NULL, name); PERFORM romancy.register_compensation('kid'); RAISE 'it fails';
	END CASE;
END $$;
SELECT romancy.define_activity('kid', 'kid(jsonb)');
-- what happens to an instance that uses the name for that
CREATE FUNCTION story(kind text, name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id uuid;
	story text := '';
	token text;
	t bigint;
BEGIN
	CASE kind
		WHEN 'queue', 'workflow queue' THEN
			PERFORM romancy.set_queue(name, max_concurrency => 1), romancy.define_activity('queued', queue => name), romancy.define_workflow('outside', queue => name);
		WHEN 'child', 'spawned child', 'top' THEN PERFORM romancy.define_workflow(name, 'kid(jsonb)');
		WHEN 'map', 'registered', 'canvas' THEN PERFORM romancy.define_activity(name, 'kid(jsonb)');
		WHEN 'undone by' THEN PERFORM romancy.define_activity(name, 'kid(jsonb)'), romancy.define_activity('undoable', 'kid(jsonb)', compensation => name);
		WHEN 'step' THEN PERFORM romancy.define_activity('undoable', 'kid(jsonb)', compensation => 'kid');
		WHEN 'schedule' THEN
			PERFORM romancy.define_workflow('kid', 'kid(jsonb)'), romancy.schedule(name, '* * * * *', 'kid'), romancy.trigger_schedule(name);
			CALL romancy.drain(turns => t);
			RETURN (SELECT string_agg(status, ' ') FROM romancy.schedule_runs(name));
		WHEN 'destination' THEN
			PERFORM romancy.define_destination(name, event_types => '{story}');
			PERFORM romancy.send_event('story', '/s', '1');
			RETURN (SELECT string_agg(type, ' ') FROM romancy.fetch_outbox(10, '1 min', name));
		ELSE
	END CASE;
	IF kind = 'canvas' THEN
		id := romancy.run_canvas(romancy.chain(romancy.task(name, '1'), romancy.task(name)));
	ELSIF kind IN ('top', 'workflow queue') THEN
		id := romancy.start_workflow(CASE kind WHEN 'top' THEN name ELSE 'outside' END);
	ELSE
		id := romancy.start_workflow('handler', jsonb_build_object('kind', kind, 'name', name), labels => CASE kind WHEN 'label' THEN jsonb_build_object(name, name) END);
	END IF;
	CALL romancy.drain(turns => t);
	CASE kind
		WHEN 'channel', 'spawned receive' THEN PERFORM romancy.publish(name, '7');
		WHEN 'event' THEN PERFORM romancy.raise_event(name, '/s', '7');
		WHEN 'queue' THEN
			SELECT f.token INTO token FROM romancy.fetch_activities(name, 'w') f;
			story := romancy.complete_activity(token, '7') || ' ';
		WHEN 'workflow queue' THEN
			SELECT f.token INTO token FROM romancy.fetch_workflows(name, 'w') f;
			story := romancy.complete_workflow(token, '7') || ' ';
		WHEN 'label' THEN
			story := (SELECT count(*) FROM romancy.list_instances(jsonb_build_object('labels', jsonb_build_object(name, name)))) || ' ';
		ELSE
	END CASE;
	CALL romancy.drain(turns => t);
	RETURN story || (SELECT status || coalesce(' ' || (error ->> 'sqlstate'), '') || coalesce(' ' || output::text, '') FROM romancy.instances WHERE instance_id = id) || ': ' ||
		(SELECT string_agg(event_type, ', ' ORDER BY seq) FROM romancy.get_history(id));
EXCEPTION WHEN SQLSTATE 'RM012' THEN
	RETURN 'refused: RM012';
END $$;
SELECT romancy.define_workflow('handler', 'handler(jsonb)');
SELECT kind, story(kind, name) AS story, count(*), CASE WHEN count(*) < 9 THEN string_agg(name, ' ' ORDER BY n) END AS names
	FROM name, unnest(ARRAY['channel', 'spawned receive', 'event', 'group', 'queue', 'workflow queue', 'label', 'value', 'child', 'spawned child', 'top', 'map', 'canvas',
		'undone by', 'registered', 'step', 'schedule', 'destination']) WITH ORDINALITY AS k (kind, k)
	GROUP BY k, kind, 2 ORDER BY k, 3 DESC;
-- in a diagram, too: a step that is undone is shown by its id, whatever the id is
SELECT (regexp_matches(romancy.timeline(instance_id), 'undo register_\w*'))[1] AS label, count(*) FROM romancy.instances
	WHERE workflow = 'handler' AND input ->> 'kind' = 'step' AND input ->> 'name' = 'register_compensation:1' GROUP BY 1;
ROLLBACK;
