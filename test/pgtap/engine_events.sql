-- The engine's own events: which there are, what they say, who gets them, and that no other role does. It would catch an event that is written though no role
-- asks, one that is missing or told twice, a payload or an error's detail that leaves with one, a listener that starts itself without end, and a
-- listener's fault that stops those whom it listens to.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';

CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(advance_time => true, turns => n); END $$;
CREATE FUNCTION told() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(substr(type, 9), ' ' ORDER BY outbox_id) FROM romancy.t_outbox WHERE destination = 'watch' $$;
CREATE FUNCTION flaky(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF romancy.attempt() < 3 THEN RAISE EXCEPTION 'not yet' USING ERRCODE = 'P0001', DETAIL = 'a secret'; END IF; RETURN '"ok"'; END $$;
CREATE FUNCTION bad(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'bad' USING ERRCODE = '22012', DETAIL = 'a secret'; END $$;
CREATE FUNCTION fine(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
SELECT romancy.define_activity('flaky', 'flaky(jsonb)', retry => '{"initial_interval": "10ms"}'), romancy.define_activity('bad', 'bad(jsonb)', retry => '{"max_attempts": 1}'),
	romancy.define_activity('fine', 'fine(jsonb)'), romancy.define_activity('stops', 'bad(jsonb)', retry => '{"max_attempts": 1, "on_exhausted": "pause"}');
CREATE FUNCTION works(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('fine', i), romancy.await(romancy.spawn('fine', i)); PERFORM romancy.activity('flaky'); RETURN i; END $$;
CREATE FUNCTION fails(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('bad', i); RETURN i; END $$;
CREATE FUNCTION stops(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('stops', i); END $$;
CREATE FUNCTION naps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 year'); RETURN i; END $$;
CREATE FUNCTION again(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF i = '1' THEN PERFORM romancy.recur('2'); END IF; RETURN i; END $$;
SELECT throws_ok($$ SELECT romancy.send_event('romancy.workflow.failed', '/s') $$, 'RM012', NULL, 'nobody else sends such an event');
SELECT romancy.define_destination('all', event_types => '{*}');
SELECT romancy.start_workflow('works', '"payload"'), romancy.start_workflow('fails', '"payload"');
CALL settle();
SELECT is((SELECT count(*) FROM romancy.outbox), 0::bigint, 'where nobody asks there are none; * does not ask');

SELECT romancy.define_destination('watch', event_types => '{romancy.*}');
CREATE TEMP TABLE i AS SELECT romancy.start_workflow('works', '"payload"', labels => '{"l": "x"}') AS id;
CALL settle();
SELECT is(told(), 'workflow.started activity.completed activity.completed activity.retried activity.retried activity.completed workflow.completed', 'a workflow that completes, each once and in order');
SELECT results_eq($$ SELECT DISTINCT o.subject = i.id::text AND o.ordering_key = o.subject AND o.data ->> 'instance_id' = o.subject AND o.data ->> 'workflow' = 'works' AND o.data -> 'labels' = '{"l": "x"}' AND o.data ->> 'namespace' = o.namespace
	AND o.owner = current_user AND o.instance_id = i.id AND o.datacontenttype = 'application/json' AND o.status = 'pending' FROM romancy.outbox o, i $$, ARRAY[true], 'they say of whom');
SELECT results_eq($$ SELECT data ->> 'activity', data ->> 'step', data -> 'attempt', data -> 'error' FROM romancy.t_outbox WHERE type LIKE '%activity%' ORDER BY outbox_id $$,
	$$ VALUES ('fine', 'fine:1', '1'::jsonb, NULL::jsonb), ('fine', 'fine:2', '1', NULL), ('flaky', 'flaky:1', '1', '{"sqlstate": "P0001", "message": "not yet"}'), ('flaky', 'flaky:1', '2', '{"sqlstate": "P0001", "message": "not yet"}'), ('flaky', 'flaky:1', '3', NULL) $$, 'and of which step');
DELETE FROM romancy.t_outbox;
SELECT romancy.start_workflow('fails', '"payload"');
CALL settle();
SELECT is(told(), 'workflow.started activity.failed workflow.failed', 'one that fails');
SELECT is((SELECT count(*) FROM romancy.t_outbox WHERE t_outbox::text ~ 'payload|secret'), 0::bigint, 'no payload leaves, and no detail of an error');
SELECT is((SELECT data -> 'error' FROM romancy.t_outbox WHERE type = 'romancy.workflow.failed'), '{"sqlstate": "22012", "message": "bad"}'::jsonb, 'but what is wrong');
DELETE FROM romancy.t_outbox;
SELECT romancy.retry_workflow(instance_id) FROM romancy.instances WHERE workflow = 'fails' AND error IS NOT NULL ORDER BY created_at DESC LIMIT 1;
CALL settle();
SELECT is(told(), 'activity.failed workflow.failed', 'again: it was started before');
DELETE FROM romancy.t_outbox;
DELETE FROM i;
INSERT INTO i SELECT romancy.start_workflow('stops', '1');
CALL settle();
SELECT is(told(), 'workflow.started workflow.paused', 'one that the engine pauses');
SELECT is((SELECT data #>> '{error,message}' FROM romancy.t_outbox WHERE type = 'romancy.workflow.paused'), 'bad', 'with its error');
SELECT romancy.resume_workflow(id) FROM i;
CALL settle();
SELECT is(told(), 'workflow.started workflow.paused workflow.paused', 'each time');
DELETE FROM romancy.t_outbox;
DELETE FROM i;
INSERT INTO i SELECT romancy.start_workflow('naps', '1');
CALL romancy.drain();
SELECT romancy.pause_workflow(id) FROM i;
CALL romancy.drain();
SELECT romancy.cancel_workflow(id, 'enough') FROM i;
CALL romancy.drain();
SELECT is(told(), 'workflow.started workflow.paused workflow.cancelled', 'one that is steered');
SELECT is((SELECT data #>> '{error,message}' FROM romancy.t_outbox WHERE type = 'romancy.workflow.cancelled'), 'enough', 'with the reason');
DELETE FROM romancy.t_outbox;
SELECT romancy.start_workflow('again', '1');
CALL settle();
SELECT is(told(), 'workflow.started workflow.recurred workflow.started workflow.completed', 'one that recurs');
SELECT romancy.drop_destination('watch', true);
DELETE FROM romancy.t_outbox;
SELECT romancy.define_destination('watch', event_types => '{romancy.workflow.failed,romancy.activity.*}');
SELECT romancy.start_workflow('works', '1'), romancy.start_workflow('fails', '1');
CALL settle();
SELECT is((SELECT string_agg(DISTINCT type, ' ' ORDER BY type) FROM romancy.outbox), 'romancy.activity.completed romancy.activity.failed romancy.activity.retried romancy.workflow.failed', 'only the types that are asked for');
SELECT romancy.drop_destination('watch', true);
DELETE FROM romancy.t_outbox;

-- what is rolled back was not told
SELECT romancy.define_destination('watch', event_types => '{romancy.*}');
SAVEPOINT s;
SELECT romancy.start_workflow('works', '1');
CALL settle();
ROLLBACK TO s;
SELECT is(told(), NULL, 'part of the transaction');
SELECT romancy.drop_destination('watch');

-- workflows that listen
CREATE FUNCTION listens(e jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('bad'); RETURN e; END $$;
SELECT romancy.define_workflow('listens', 'listens(jsonb)', on_event => 'romancy.workflow.failed');
DELETE FROM i;
INSERT INTO i SELECT romancy.start_workflow('fails', '"payload"');
CALL settle();
SELECT results_eq($$ SELECT l.status, l.input ->> 'instance_id' = i.id::text, l.input ->> 'workflow', l.input #>> '{error,message}', l.owner = current_user FROM romancy.instances l, i WHERE l.workflow = 'listens' $$,
	$$ VALUES ('failed', true, 'fails', 'bad', true) $$, 'a workflow is started with the event, and its own failure starts none');
SELECT results_eq($$ SELECT h.event_type, h.data #>> '{event,type}' FROM romancy.instances l, romancy.get_history(l.instance_id) h WHERE l.workflow = 'listens' ORDER BY h.seq LIMIT 1 $$,
	$$ SELECT 'EventReceived', h.data #>> '{event,type}' FROM romancy.instances l, romancy.get_history(l.instance_id) h WHERE l.workflow = 'listens' ORDER BY h.seq LIMIT 1 $$, 'the envelope is in its history');
SELECT is((SELECT count(*) FROM romancy.outbox), 0::bigint, 'and nothing is in the outbox');

-- namespaces, and a listener whose owner may not run it
CREATE ROLE ee_a; CREATE ROLE ee_b; CREATE ROLE ee_c;
SELECT romancy.grant_usage('ee_a', namespace => 'ee'), romancy.grant_usage('ee_b', namespace => 'ee'), romancy.grant_usage('ee_c');
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO ee_a, ee_b, ee_c;
GRANT USAGE ON SCHEMA public TO ee_a, ee_b, ee_c;
SET ROLE ee_c;
SELECT romancy.define_destination('c', event_types => '{romancy.*}');
SELECT romancy.define_workflow('elsewhere', 'fine(jsonb)', on_event => 'romancy.workflow.completed');
SET ROLE ee_b;
SELECT romancy.define_destination('b', event_types => '{romancy.workflow.*}');
SELECT romancy.define_workflow('mine', 'fine(jsonb)', on_event => 'romancy.workflow.completed');
SET ROLE ee_a;
SELECT romancy.start_workflow('fine', '"of a"');
CALL settle();
RESET ROLE;
SELECT results_eq($$ SELECT destination, type, owner FROM romancy.outbox WHERE data ->> 'workflow' = 'fine' ORDER BY type $$, $$ VALUES ('b', 'romancy.workflow.completed', 'ee_a'), ('b', 'romancy.workflow.started', 'ee_a') $$, 'destinations of its namespace are told, and no other');
SELECT results_eq($$ SELECT workflow, owner, namespace FROM romancy.instances WHERE workflow IN ('mine', 'elsewhere') $$, $$ VALUES ('mine', 'ee_b', 'ee') $$, 'and workflows, as who defined them');
UPDATE romancy.t_workflow SET owner = 'postgres' WHERE name = 'mine';
SET ROLE ee_a;
SELECT romancy.start_workflow('fine', '"of a"');
CALL settle();
RESET ROLE;
SELECT results_eq($$ SELECT status, count(*) FROM romancy.instances WHERE workflow = 'fine' GROUP BY 1 $$, $$ VALUES ('completed', 2::bigint) $$, 'a listener that may not be started holds up nobody');
SELECT is((SELECT count(*) FROM romancy.instances WHERE workflow = 'mine'), 1::bigint, 'and is not started');

SELECT * FROM finish();
ROLLBACK;
