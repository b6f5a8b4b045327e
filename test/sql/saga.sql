-- Compensations: what is registered runs last in first out, each once, whatever
-- ends the instance but terminate. All in one transaction, so that nothing of it
-- reaches a worker.
-- It would catch an effect that is not undone, one that is undone twice, and a wrong order.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
DELETE FROM romancy.t_instance;
CREATE SCHEMA sagas;
SET LOCAL search_path = sagas, public;
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE TABLE broken (what text);
CREATE FUNCTION book(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO effect (what) VALUES ('book ' || (input ->> 'what'));
	IF EXISTS (SELECT FROM broken b WHERE b.what = input ->> 'what') THEN
		RAISE EXCEPTION 'no % left', input ->> 'what' USING ERRCODE = 'P0042', DETAIL = 'sold out', HINT = 'another day';
	END IF;
	RETURN jsonb_build_object('booking', input ->> 'what');
END $$;
CREATE FUNCTION unbook(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO effect (what) VALUES (format('unbook %s of %s, attempt %s', input #>> '{result,booking}', input #>> '{input,what}', romancy.attempt()));
	IF EXISTS (SELECT FROM broken b WHERE b.what = 'unbook ' || (input #>> '{input,what}')) THEN
		RAISE EXCEPTION 'cannot unbook %', input #>> '{input,what}';
	END IF;
	RETURN '"undone"';
END $$;
CREATE FUNCTION note(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO effect (what) VALUES ('note ' || (input #>> '{}')); RETURN 'true'; END $$;
SELECT romancy.define_activity('book', 'book(jsonb)', compensation => 'unbook', retry => '{"max_attempts": 1}');
SELECT romancy.define_activity('unbook', 'unbook(jsonb)', retry => '{"max_attempts": 3, "initial_interval": "1 min", "jitter": 0}');
CREATE FUNCTION trip(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('book', '{"what": "flight"}');
	PERFORM romancy.register_compensation('note', '"by hand"');
	PERFORM romancy.activity('book', '{"what": "hotel"}');
	IF input ? 'sleep' THEN PERFORM romancy.sleep((input ->> 'sleep')::interval); END IF;
	PERFORM romancy.activity('book', '{"what": "car"}');
	RETURN '"booked"';
END $$;
CREATE FUNCTION story(id uuid) RETURNS TABLE (event_type text, activity_id text, by text, error text) LANGUAGE sql AS $$
	SELECT event_type, activity_id, data ->> 'name', data -> 'error' ->> 'message' FROM romancy.get_history(id) $$;

-- a failure
INSERT INTO broken VALUES ('car');
SELECT romancy.start_workflow('trip', '{}') AS id \gset
CALL romancy.drain() \gset
SELECT status, error - 'context' AS error FROM romancy.instances WHERE instance_id = :'id';
SELECT * FROM story(:'id');
SELECT what FROM effect ORDER BY n;
SELECT data -> 'input' AS input, data -> 'result' AS result FROM romancy.get_history(:'id') WHERE event_type = 'CompensationExecuted';
SELECT romancy.get_result(:'id');
\set VERBOSITY sqlstate
SELECT romancy.retry_workflow(:'id');
\set VERBOSITY terse
SELECT romancy.retry_workflows('{}');

-- all went well: none runs
TRUNCATE effect, broken;
SELECT romancy.start_workflow('trip', '{}') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.get_result(:'id');
SELECT what FROM effect ORDER BY n;

-- a cancel, while it sleeps
TRUNCATE effect;
SELECT romancy.start_workflow('trip', '{"sleep": "1 day"}') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.cancel_workflow(:'id', 'ill');
CALL romancy.drain() \gset
SELECT status, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS reason, error ->> 'previous_status' AS previous FROM romancy.instances WHERE instance_id = :'id';
SELECT * FROM story(:'id');
SELECT what FROM effect ORDER BY n;

-- terminate runs none
TRUNCATE effect;
SELECT romancy.start_workflow('trip', '{"sleep": "1 day"}') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.terminate_workflow(:'id', 'at once');
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
SELECT what FROM effect ORDER BY n;

-- the execution timeout, and compensations that take longer than it
TRUNCATE effect;
INSERT INTO broken VALUES ('unbook flight');
SELECT romancy.start_workflow('trip', '{"sleep": "1 day"}', execution_timeout => '1 h') AS id \gset
CALL romancy.drain(advance_time => true) \gset
SELECT status, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message, error -> 'compensation_failures' AS failures, finished_at - created_at BETWEEN '1:02' AND '1:04' AS later
	FROM romancy.instances WHERE instance_id = :'id';
SELECT * FROM story(:'id');
SELECT what FROM effect ORDER BY n;
SELECT data -> 'retry' -> 'total_attempts' AS attempts, data -> 'retry' -> 'exhausted' AS exhausted FROM romancy.get_history(:'id') WHERE event_type = 'CompensationFailed';

-- between the attempts of a compensation: what can be done then
TRUNCATE effect, broken;
INSERT INTO broken VALUES ('car'), ('unbook hotel');
SELECT romancy.start_workflow('trip', '{}') AS id \gset
CALL romancy.drain() \gset
SELECT status, error ->> 'message' AS message FROM romancy.instances WHERE instance_id = :'id';
SELECT status, kind, step, name FROM romancy.waiting WHERE instance_id = :'id';
SELECT romancy.pause_workflow(:'id') AS pause, romancy.resume_workflow(:'id') AS resume;
SELECT romancy.drop_activity('unbook');
SELECT romancy.cancel_workflow(:'id', 'too late') AS cancel;
CALL romancy.drain() \gset
SELECT status, error ->> 'message' AS message FROM romancy.instances WHERE instance_id = :'id';
SELECT romancy.cancel_workflow(:'id', 'again') AS cancel;
DELETE FROM broken;
CALL romancy.drain(advance_time => true) \gset
SELECT status, error ->> 'message' AS reason, error ->> 'previous_status' AS previous, error -> 'cause' ->> 'message' AS cause FROM romancy.instances WHERE instance_id = :'id';
SELECT what FROM effect ORDER BY n;
-- terminate leaves the rest
TRUNCATE effect, broken;
INSERT INTO broken VALUES ('car'), ('unbook hotel');
SELECT romancy.start_workflow('trip', '{}') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.terminate_workflow(:'id', 'enough');
CALL romancy.drain(advance_time => true) \gset
SELECT status, error ->> 'message' AS reason FROM romancy.instances WHERE instance_id = :'id';
SELECT * FROM story(:'id');

-- what is registered does not change with the definition
TRUNCATE effect, broken;
SELECT romancy.start_workflow('trip', '{"sleep": "1 h"}') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.define_activity('book', 'book(jsonb)', retry => '{"max_attempts": 1}');
INSERT INTO broken VALUES ('car');
CALL romancy.drain(advance_time => true) \gset
SELECT what FROM effect ORDER BY n;
SELECT romancy.define_activity('book', 'book(jsonb)', compensation => 'unbook', retry => '{"max_attempts": 1}');

-- compensate() in a handler, and what is registered after it
CREATE FUNCTION tries(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE n int;
BEGIN
	PERFORM romancy.activity('book', '{"what": "flight"}');
	PERFORM romancy.activity('book', '{"what": "hotel"}');
	BEGIN
		PERFORM romancy.activity('book', '{"what": "car"}');
	EXCEPTION WHEN SQLSTATE 'P0042' THEN
		n := romancy.compensate();
	END;
	PERFORM romancy.activity('book', '{"what": "train"}');
	IF input ? 'fail' THEN RAISE EXCEPTION 'after all'; END IF;
	RETURN jsonb_build_object('undone', n, 'then', romancy.compensate(), 'nothing', romancy.compensate());
END $$;
TRUNCATE effect;
SELECT romancy.start_workflow('tries', '{}') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.get_result(:'id');
SELECT * FROM story(:'id');
TRUNCATE effect;
SELECT romancy.start_workflow('tries', '{"fail": true}') AS id \gset
CALL romancy.drain() \gset
SELECT status, error ->> 'message' AS message FROM romancy.instances WHERE instance_id = :'id';
SELECT what FROM effect ORDER BY n;
-- its retries are timers as well
TRUNCATE effect;
INSERT INTO broken VALUES ('unbook hotel');
SELECT romancy.start_workflow('tries', '{}') AS id \gset
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
DELETE FROM broken WHERE what = 'unbook hotel';
CALL romancy.drain(advance_time => true) \gset
SELECT romancy.get_result(:'id');
SELECT what FROM effect ORDER BY n;

-- two that undo each other; itself; one that does not exist pauses, and is mended
SELECT romancy.define_activity('unbook', 'unbook(jsonb)', compensation => 'book');
TRUNCATE effect, broken;
INSERT INTO broken VALUES ('car');
SELECT romancy.start_workflow('trip', '{}') AS id \gset
CALL romancy.drain() \gset
SELECT what FROM effect ORDER BY n;
SELECT romancy.define_activity('book', 'book(jsonb)', compensation => 'nobody', retry => '{"max_attempts": 1}');
TRUNCATE effect;
SELECT romancy.start_workflow('trip', '{}') AS id \gset
CALL romancy.drain() \gset
SELECT status, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM romancy.instances WHERE instance_id = :'id';
CREATE FUNCTION nobody(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES ('somebody'); RETURN NULL; END $$;
SELECT romancy.resume_workflow(:'id');
CALL romancy.drain() \gset
SELECT status, error ->> 'message' AS message FROM romancy.instances WHERE instance_id = :'id';
SELECT what FROM effect ORDER BY n;
CREATE FUNCTION registers(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.register_compensation('unknown', '1'); RETURN '1'; END $$;
SELECT romancy.start_workflow('registers') AS id \gset
CALL romancy.drain() \gset
SELECT status, error ->> 'sqlstate' AS sqlstate FROM romancy.instances WHERE instance_id = :'id';
SELECT romancy.terminate_workflow(:'id');
CALL romancy.drain() \gset

-- an effect outside that is under way when the instance is cancelled is waited for, and undone
SELECT romancy.define_activity('outside', queue => 'out', compensation => 'note');
CREATE FUNCTION goes_out(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF input = '"spawn"' THEN RETURN romancy.await(romancy.spawn('outside', input)); END IF;
	RETURN romancy.activity('outside', input);
END $$;
SELECT romancy.start_workflow('goes_out', '"call"') AS id \gset
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_activities('out', 'me') \gset
SELECT romancy.cancel_workflow(:'id');
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
SELECT romancy.heartbeat_activity(:'token'), romancy.complete_activity(:'token', '{"sent": 1}');
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
SELECT event_type, activity_id, data -> 'input' AS input FROM romancy.get_history(:'id') WHERE event_type LIKE 'Comp%';
-- its lease ends: whether it happened is not known
SELECT romancy.start_workflow('goes_out', '"spawn"') AS id \gset
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_activities('out', 'me', 1, '1 min') \gset
SELECT romancy.cancel_workflow(:'id');
CALL romancy.drain(advance_time => true) \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
SELECT event_type, activity_id, data -> 'input' AS input FROM romancy.get_history(:'id') WHERE event_type LIKE 'Comp%';
SELECT romancy.complete_activity(:'token');
-- not begun: nothing to undo
SELECT romancy.start_workflow('goes_out', '"spawn"') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.cancel_workflow(:'id');
CALL romancy.drain() \gset
SELECT * FROM story(:'id');
SELECT count(*) AS tasks FROM romancy.t_task;

-- bad input
SELECT romancy.compensate();
SELECT romancy.register_compensation('note', '1');
CREATE FUNCTION bad(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.register_compensation(NULL, '1'); RETURN '1'; END $$;
SELECT romancy.start_workflow('bad') AS id \gset
CALL romancy.drain() \gset
SELECT romancy.get_result(:'id');
ROLLBACK;
