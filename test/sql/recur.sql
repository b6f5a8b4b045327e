-- recur, versions, patched, and bulk resume. All in one transaction, so that
-- nothing of it reaches a worker.
-- It would catch a recur that loses its input or its key, and a version that changes under an instance.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
DELETE FROM romancy.t_instance;
DELETE FROM romancy.t_workflow;
CREATE SCHEMA again;
SET LOCAL search_path = again, public;
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION note(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO effect (what) VALUES (input #>> '{}'); RETURN input; END $$;
CREATE FUNCTION undo(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO effect (what) VALUES ('undo ' || (input ->> 'result')); RETURN input; END $$;
SELECT romancy.define_activity('note', 'note(jsonb)', compensation => 'undo');
CREATE FUNCTION counts(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('note', input);
	PERFORM romancy.set_value('at', input);
	IF input::int >= 4 THEN RAISE EXCEPTION 'enough'; END IF;
	IF input::int = 2 THEN PERFORM romancy.set_labels('{"half": "way"}'); END IF;
	PERFORM romancy.sleep('1 h');
	RETURN romancy.recur(to_jsonb(input::int + 1));
END $$;
SELECT romancy.start_workflow('counts', '1', priority => 5, labels => '{"from": "start"}', idempotency_key => 'k', execution_timeout => '90 min') AS id \gset
CALL romancy.drain(advance_time => true) \gset
SELECT input, status, priority, labels, idempotency_key, output, error ->> 'message' AS error,
	continued_from IS NOT DISTINCT FROM lag(instance_id) OVER (ORDER BY created_at, instance_id) AS in_order
	FROM romancy.instances ORDER BY created_at, instance_id;
-- only the last generation's compensation ran: recur discards
SELECT what FROM effect ORDER BY n;
SELECT romancy.get_result(:'id');
SELECT romancy.get_value(:'id', 'at');
SELECT count(*) AS history FROM romancy.get_history(:'id');
SELECT event_type, activity_id, data -> 'input' AS input FROM romancy.get_archived_history(:'id');
SELECT romancy.start_workflow('counts', '1', idempotency_key => 'k') = :'id' AS same;
-- the key outlives the first generation, as long as there is one
SELECT romancy.delete_workflow(:'id');
SELECT (SELECT input FROM romancy.instances WHERE instance_id = romancy.start_workflow('counts', '1', idempotency_key => 'k')) AS found;
DELETE FROM romancy.t_instance;

-- retention keeps what a live one continued, and constant numbers else
CREATE FUNCTION forever(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.sleep('1 day');
	RETURN romancy.recur(input);
END $$;
SELECT romancy.define_workflow('forever', 'forever(jsonb)', retention => '0 s');
SELECT romancy.start_workflow('forever', '"x"') AS id \gset
CALL romancy.drain(max_turns => 20, advance_time => true) \gset
SELECT count(*) FROM romancy.instances;
-- (the clock went forward in the drain only)
UPDATE romancy.t_instance SET finished_at = now() - interval '1 s', created_at = now() - interval '1 min' WHERE finished_at IS NOT NULL;
SELECT romancy.run_sweep('retention') > 0 AS swept;
SELECT count(*), count(*) FILTER (WHERE status = 'recurred') AS recurred FROM romancy.instances;
SELECT count(*) AS archived FROM romancy.t_history_archive WHERE instance_id IN (SELECT instance_id FROM romancy.t_instance);
SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE status <> 'recurred';
CALL romancy.drain() \gset
SELECT status FROM romancy.instances ORDER BY created_at, instance_id;
\set VERBOSITY sqlstate
SELECT romancy.get_result(:'id');
\set VERBOSITY terse
DELETE FROM romancy.t_instance;

-- a request that comes when it has just recurred goes on to the live one
SELECT romancy.start_workflow('forever', '"y"') AS id \gset
CALL romancy.drain() \gset
CALL romancy.drain(max_turns => 2, advance_time => true) \gset
INSERT INTO romancy.t_inbox (instance_id, kind, detail) VALUES (:'id', 1, '{"reason": "late", "by": "me"}');
CALL romancy.drain() \gset
SELECT status, error ->> 'message' AS reason FROM romancy.instances ORDER BY created_at, instance_id;
SELECT romancy.cancel_workflow(:'id') AS final_now;
DELETE FROM romancy.t_instance;

-- not while spawned work is open, not outside
CREATE FUNCTION quick(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN input; END $$;
CREATE FUNCTION busy(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text := romancy.spawn_workflow('quick', input);
BEGIN
	PERFORM romancy.spawn_timer('1 h');
	BEGIN
		PERFORM romancy.recur(input);
	EXCEPTION WHEN SQLSTATE 'RM010' THEN PERFORM romancy.activity('note', to_jsonb(sqlerrm));
	END;
	IF input = '"again"' THEN RETURN '"went on"'; END IF;
	PERFORM romancy.await(h);
	RETURN romancy.recur('"again"');
END $$;
TRUNCATE effect;
SELECT romancy.start_workflow('busy', '"first"') AS id \gset
CALL romancy.drain() \gset
SELECT status, input, output, error ->> 'message' AS error FROM romancy.instances WHERE workflow = 'busy' ORDER BY created_at, instance_id;
SELECT what FROM effect ORDER BY n;
SELECT romancy.recur('1');
DELETE FROM romancy.t_instance;

-- versions: an instance keeps its function
CREATE FUNCTION greet(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.sleep('1 h'); RETURN '"one"'; END $$;
CREATE FUNCTION greet_2(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('note', '"new"'); PERFORM romancy.sleep('1 h'); RETURN '"two"'; END $$;
SELECT romancy.define_workflow('greet', 'greet(jsonb)');
SELECT romancy.start_workflow('greet') AS a \gset
CALL romancy.drain() \gset
SELECT romancy.define_workflow('greet', 'greet_2(jsonb)');
SELECT romancy.start_workflow('greet') AS b \gset
SELECT romancy.start_workflow('greet', version => 1) AS c \gset
SELECT romancy.start_workflow('greet', version => 3);
SELECT workflow, version, is_current, handler, live, paused FROM romancy.versions WHERE workflow = 'greet' ORDER BY version;
SELECT romancy.drop_workflow('greet');
CALL romancy.drain(advance_time => true) \gset
SELECT version, output FROM romancy.instances WHERE instance_id IN (:'a', :'b', :'c') ORDER BY created_at, instance_id;
SELECT workflow, version, live FROM romancy.versions WHERE workflow = 'greet' ORDER BY version;
SELECT romancy.define_workflow('greet', 'greet(jsonb)') AS back_to;
SELECT romancy.drop_workflow('greet');
DELETE FROM romancy.t_instance;

-- a function replaced under a thousand instances: they pause, and one call resumes them
CREATE FUNCTION edited(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('note', input); PERFORM romancy.sleep('1 h'); PERFORM romancy.activity('note', input); RETURN '"old"'; END $$;
SELECT count(*) FROM romancy.start_workflows('edited', array(SELECT to_jsonb(g) FROM generate_series(1, 1000) g));
CALL romancy.drain() \gset
CREATE OR REPLACE FUNCTION edited(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.sleep('1 h'); PERFORM romancy.activity('note', input); RETURN '"new"'; END $$;
CALL romancy.drain(advance_time => true) \gset
SELECT status, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message, error ->> 'detail' AS detail, error ->> 'hint' AS hint, count(*) FROM romancy.instances GROUP BY 1, 2, 3, 4, 5;
SELECT live, paused FROM romancy.versions WHERE workflow = 'edited';
-- mended with patched()
CREATE OR REPLACE FUNCTION edited(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF NOT romancy.patched('no first note') THEN PERFORM romancy.activity('note', input); END IF;
	PERFORM romancy.sleep('1 h'); PERFORM romancy.activity('note', input); RETURN '"patched"';
END $$;
SELECT romancy.resume_workflows('{"workflow": "edited"}'), romancy.resume_workflows('{"workflow": "edited"}') AS again;
SELECT romancy.start_workflow('edited', '0') AS new \gset
CALL romancy.drain(advance_time => true) \gset
SELECT status, output, count(*) FROM romancy.instances GROUP BY 1, 2;
SELECT event_type FROM romancy.get_history(:'new');
-- one that waits for the step after the point came to it under the old code; what comes after the wait is new to it
DELETE FROM romancy.t_instance;
CREATE FUNCTION waits_first(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.await(romancy.spawn_timer('1 h')); PERFORM romancy.sleep('1 h'); RETURN '"old"'; END $$;
SELECT romancy.start_workflow('waits_first') AS id \gset
CALL romancy.drain() \gset
CALL romancy.drain(max_turns => 1, advance_time => true) \gset
CREATE FUNCTION sleeps_first(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.sleep('1 h'); RETURN '"old"'; END $$;
SELECT romancy.start_workflow('sleeps_first') AS id2 \gset
CREATE FUNCTION awaits_first(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.await(romancy.spawn_timer('1 h')); RETURN '"old"'; END $$;
SELECT romancy.start_workflow('awaits_first') AS id3 \gset
CALL romancy.drain() \gset
SELECT workflow, status FROM romancy.instances ORDER BY workflow;
CREATE OR REPLACE FUNCTION waits_first(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE t text := romancy.spawn_timer('1 h'); p boolean[];
BEGIN
	p := p || romancy.patched('await'); PERFORM romancy.await(t);
	p := p || romancy.patched('sleep'); PERFORM romancy.sleep('1 h');
	RETURN to_jsonb(p || romancy.patched('end'));
END $$;
CREATE OR REPLACE FUNCTION sleeps_first(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE p boolean[];
BEGIN p := p || romancy.patched('sleep'); PERFORM romancy.sleep('1 h'); RETURN to_jsonb(p || romancy.patched('end')); END $$;
CREATE OR REPLACE FUNCTION awaits_first(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE t text := romancy.spawn_timer('1 h'); p boolean[];
BEGIN
	p := p || romancy.patched('await'); PERFORM romancy.await(t);
	p := p || romancy.patched('sleep'); PERFORM romancy.sleep('1 h');
	RETURN to_jsonb(p || romancy.patched('end'));
END $$;
CALL romancy.drain(advance_time => true) \gset
SELECT workflow, status, output FROM romancy.instances ORDER BY workflow;
SELECT romancy.resume_workflows('{"nonsense": 1}');
ROLLBACK;
