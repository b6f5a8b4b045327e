-- Mistakes of a user's first hour, and their errors: each names its cause at once.
-- It would catch a message that names the symptom only, and a fault of the code that is retried for hours.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(57);
SET LOCAL client_min_messages = warning;
CREATE SCHEMA first;
SET LOCAL search_path = first, public;
CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); END $$;
CREATE FUNCTION run(w text, i jsonb = null, OUT status text, OUT error jsonb, OUT id uuid) LANGUAGE plpgsql AS $$
BEGIN
	id := romancy.start_workflow(w, i);
	CALL settle();
	SELECT n.status, n.error INTO status, error FROM romancy.instances n WHERE n.instance_id = id;
END $$;
CREATE FUNCTION attempts(id uuid) RETURNS int LANGUAGE sql AS $$ SELECT (data #>> '{retry,total_attempts}')::int FROM romancy.get_history(id) WHERE event_type = 'ActivityFailed' $$;
CREATE TABLE orders (n int);

-- a write in the handler
CREATE FUNCTION writes(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders VALUES (1); RETURN i; END $$;
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') FROM run('writes')), 'failed 25006', 'a write in a handler fails the instance');
SELECT matches((SELECT error ->> 'hint' FROM run('writes')), 'write in an activity.*romancy\.activity\(\)', 'and the hint says where writes belong');
SELECT matches((SELECT error ->> 'context' FROM run('writes')), '^SQL statement "INSERT INTO orders VALUES \(1\)"\nPL/pgSQL function writes\(jsonb\) line 1 at SQL statement$', 'and where it was');

-- a commit in the handler
CREATE FUNCTION commits(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN COMMIT; RETURN i; END $$;
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') || ' ' || (error ->> 'hint') FROM run('commits')),
	'failed 2D000 The engine commits turns and steps itself. Code that has to commit belongs in the procedure of an activity with transactional => false.',
	'a COMMIT in a handler fails the instance, and the hint says where it belongs');

-- a misspelt activity, or workflow
CREATE FUNCTION charge(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
CREATE FUNCTION misspells(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('chrage', i); END $$;
CREATE FUNCTION misspawns(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('ask_billnig', i)); END $$;
SELECT romancy.define_activity('ask_billing', queue => 'billing');
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') FROM run('misspells')), 'paused RM001', 'a misspelt activity pauses the instance in its first turn');
SELECT id FROM run('misspells') \gset
SELECT alike((SELECT error ->> 'context' FROM romancy.instances WHERE instance_id = :'id'), '%step "chrage:1" of workflow "misspells", instance ' || :'id', 'its context names step, workflow and instance');
CREATE FUNCTION miscalls(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.call_workflow('misspels', i); END $$;
SELECT alike((SELECT error ->> 'context' FROM run('miscalls')), '%step "misspels:1" of workflow "miscalls", instance %', 'and that of a misspelt child');
SELECT matches((SELECT error ->> 'hint' FROM run('misspells')), '^Did you mean "charge"\? ', 'with the function that was meant');
SELECT matches((SELECT error ->> 'hint' FROM run('misspawns')), '^Did you mean "ask_billing"\? ', 'or the definition');
SELECT throws_matching($$ SELECT romancy.start_workflow('no_such_thing_at_all') $$, 'workflow "no_such_thing_at_all" does not exist', 'nothing is like it');
CREATE FUNCTION hint_of(query text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE h text; BEGIN EXECUTE query; RETURN ''; EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT; RETURN h; END $$;
SELECT matches(hint_of($$ SELECT romancy.start_workflow('writse') $$), '^Did you mean "writes"\? ', 'a misspelt workflow');
SELECT unalike(hint_of($$ SELECT romancy.start_workflow('no_such_thing_at_all') $$), 'Did you mean%', 'no suggestion where nothing is like it');

SELECT alike((SELECT error ->> 'context' FROM run('misspawns')), E'%\nPL/pgSQL function misspawns(jsonb) line 1 at RETURN\nstep "ask_billnig:1" of workflow "misspawns", instance %', 'a spawned one has line, step, workflow and instance in its context');
CREATE FUNCTION misnames(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('ask_billnig', i, activity_id => 'ask')); END $$;
SELECT alike((SELECT error ->> 'context' FROM run('misnames')), '%step "ask" of workflow "misnames", instance %', 'the step by its id');
CREATE FUNCTION mismaps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('ask_billnig', '[1, 2]'); END $$;
SELECT alike((SELECT error ->> 'context' FROM run('mismaps')), '%step "ask_billnig:1" of workflow "mismaps", instance %', 'a mapped one');
CREATE FUNCTION misundoes(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.register_compensation('ask_billnig', i); RETURN i; END $$;
SELECT alike((SELECT error ->> 'context' FROM run('misundoes')), E'%line 1 at PERFORM\nstep "register_compensation:1" of workflow "misundoes", instance %', 'a registered one');
CREATE FUNCTION mispaints(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.canvas(romancy.task('ask_billnig')); END $$;
SELECT is((SELECT replace(error ->> 'context', id::text, 'x') FROM run('mispaints')), E'PL/pgSQL function mispaints(jsonb) line 1 at RETURN\nstep "canvas:1" of workflow "mispaints", instance x', 'and one of a canvas, each line once');
CREATE FUNCTION reserve2(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
CREATE FUNCTION reserve(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
SELECT matches(hint_of($$ SELECT romancy.start_workflow('reservee') $$), '^Did you mean "reserve"\? ', 'of two names, the one that a letter too many was added to');
SELECT matches(hint_of($$ SELECT romancy.start_workflow('reesrve') $$), '^Did you mean "reserve"\? ', 'letters that stand the other way round');
SELECT romancy.define_workflow('Reserve_It', 'reserve');
SELECT matches(hint_of($$ SELECT romancy.start_workflow('reserve_it') $$), '^Did you mean "Reserve_It"\? ', 'another case');

-- faults of the code are not tried again
CREATE FUNCTION broken(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	CASE i ->> 'how'
		WHEN 'table' THEN PERFORM count(*) FROM no_such_table;
		WHEN 'feature' THEN RAISE feature_not_supported;
		WHEN 'context' THEN PERFORM romancy.sleep('1s');
		WHEN 'luck' THEN RAISE EXCEPTION 'no luck';
		ELSE RETURN i;
	END CASE;
END $$;
CREATE FUNCTION calls(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('broken', i, retry => i -> 'retry'); END $$;
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') || ' ' || attempts(id) FROM run('calls', '{"how": "table"}')), 'failed 42P01 1', 'a table that is not there: class 42, one attempt');
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') || ' ' || attempts(id) FROM run('calls', '{"how": "feature"}')), 'failed 0A000 1', 'class 0A');
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') || ' ' || attempts(id) FROM run('calls', '{"how": "context"}')), 'failed RM004 1', 'a step in an activity: RM004');
CREATE FUNCTION no_return(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE FUNCTION calls_no_return(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('no_return', i); END $$;
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') || ' ' || attempts(id) FROM run('calls_no_return')), 'failed 2F005 1', 'a function without RETURN: class 2F');
SELECT is((SELECT status FROM run('calls', '{"how": "luck"}')), 'waiting_for_activity', 'other errors are');
SELECT is((SELECT status FROM run('calls', '{"how": "table", "retry": {"retryable_errors": ["42P01"]}}')), 'waiting_for_activity', 'and so is what retryable_errors names');
CREATE FUNCTION maps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('broken', jsonb_build_array(i)); END $$;
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') || ' ' || attempts(id) FROM run('maps', '{"how": "table"}')), 'failed 42P01 1', 'the same of a mapped one');

CREATE FUNCTION grows(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(repeat('x', 1100000)); END $$;
CREATE FUNCTION calls_grows(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('grows', i, retry => i); END $$;
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') || ' ' || attempts(id) FROM run('calls_grows')), 'failed RM011 1', 'a result that is too large: RM011');
SELECT is((SELECT status FROM run('calls_grows', '{"retryable_errors": ["RM011"]}')), 'waiting_for_activity', 'but where retryable_errors names it');
CREATE FUNCTION asks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.start_workflow('charge', idempotency_key => ''); RETURN i; END $$;
CREATE FUNCTION calls_asks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('asks', i); END $$;
SELECT is((SELECT status FROM run('calls_asks')), 'waiting_for_activity', 'RM012 is no class that is not tried again');
CREATE FUNCTION maps_grows(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('grows', '[1]'); END $$;
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') || ' ' || attempts(id) FROM run('maps_grows')), 'failed RM011 1', 'the same of a mapped one');
CREATE FUNCTION passes_on(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.start_workflow('charge', to_jsonb(repeat('x', 1100000))); RETURN i; END $$;
CREATE FUNCTION calls_passes_on(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('passes_on', i); END $$;
CREATE FUNCTION maps_passes_on(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('passes_on', '[1]'); END $$;
SELECT is((SELECT status FROM run('calls_passes_on')), 'waiting_for_activity', 'RM011 of a call that it makes is tried again');
SELECT is((SELECT status FROM run('maps_passes_on')), 'waiting_for_activity', 'of a mapped one, too');
CREATE FUNCTION result_of(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.get_result((i #>> '{}')::uuid); END $$;
CREATE FUNCTION calls_result_of(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('result_of', i); END $$;
SELECT romancy.start_workflow('charge') AS id \gset
SELECT romancy.cancel_workflow(:'id');
CALL settle();
SELECT is((SELECT status FROM run('calls_result_of', to_jsonb(:'id'::text))), 'waiting_for_activity', 'nor is RM008');

-- a misspelt compensation: noticed before there is something to undo
CREATE TABLE paid (n int);
CREATE FUNCTION pay(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO paid VALUES (1); RETURN i; END $$;
CREATE FUNCTION refund(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
SELECT romancy.define_activity('pay', 'pay', compensation => 'refudn'), romancy.define_activity('asks_pay', queue => 'billing', compensation => 'refudn');
CREATE FUNCTION pays(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('pay', i), romancy.sleep('1 day'); RETURN i; END $$;
CREATE FUNCTION spawns_pay(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('pay', i)); END $$;
CREATE FUNCTION pays_outside(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('asks_pay', i); END $$;
SELECT id FROM run('pays') \gset
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') || ' ' || (error ->> 'message') FROM romancy.instances WHERE instance_id = :'id'), 'paused RM001 activity "refudn" does not exist', 'a misspelt compensation pauses the instance');
SELECT matches((SELECT error ->> 'hint' FROM romancy.instances WHERE instance_id = :'id'), '^Did you mean "refund"\? ', 'with the name that was meant');
SELECT alike((SELECT error ->> 'context' FROM romancy.instances WHERE instance_id = :'id'), E'compensation of activity "pay"\n%step "pay:1" of workflow "pays", instance ' || :'id', 'and whose compensation it is, of which step');
SELECT is_empty('SELECT * FROM paid', 'before the activity has run');
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') FROM run('spawns_pay')), 'paused RM001', 'of a spawned activity as well');
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') FROM run('pays_outside')), 'paused RM001', 'and of one with a queue');
SELECT throws_matching($$ SELECT romancy.run_canvas(romancy.task('pay')) $$, 'activity "refudn" does not exist', 'and of a task of a canvas');
SELECT romancy.define_activity('pay', 'pay', compensation => 'refund');
SELECT romancy.resume_workflow(:'id');
CALL settle();
SELECT is((SELECT status || ' ' || (SELECT count(*) FROM paid) FROM romancy.instances WHERE instance_id = :'id'), 'waiting_for_timer 1', 'it goes on when the name is mended');

-- a handler that is not deterministic
CREATE TABLE state (n int);
INSERT INTO state VALUES (1);
CREATE FUNCTION wavers(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('charge', (SELECT jsonb_build_object('n', n) FROM state)); PERFORM romancy.sleep('1 hour'); RETURN i; END $$;
SELECT id FROM run('wavers') \gset
UPDATE state SET n = 2;
CREATE PROCEDURE on_time() LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(advance_time => true, turns => n); END $$;
CALL on_time();
SELECT is((SELECT error ->> 'sqlstate' FROM romancy.instances WHERE instance_id = :'id'), 'RM003', 'a handler that asks for something else');
SELECT matches((SELECT error ->> 'detail' FROM romancy.instances WHERE instance_id = :'id'),
	'asks for activity "charge:1" with input \{"n": 2\}; history holds ActivityCompleted "charge:1" with input \{"n": 1\}', 'shows both inputs');

-- results raise the error with its context
CREATE FUNCTION raises(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no stock' USING ERRCODE = 'P1234'; END $$;
CREATE FUNCTION calls_raises(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('raises', i, retry => '{"max_attempts": 1}'); END $$;
CREATE FUNCTION context_of(id uuid) RETURNS text LANGUAGE plpgsql AS $$ DECLARE c text; BEGIN PERFORM romancy.get_result(id); RETURN ''; EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS c = PG_EXCEPTION_CONTEXT; RETURN c; END $$;
SELECT id FROM run('calls_raises') \gset
SELECT matches(context_of(:'id'), '^PL/pgSQL function raises\(jsonb\) line 1 at RAISE\n(SQL|PL/pgSQL) expression .*\nPL/pgSQL function calls_raises\(jsonb\) line 1 at RETURN\n', 'get_result has the context of the activity and of the handler');

-- handlers by name
SELECT is(romancy.define_workflow('a', handler => 'charge'), 1, 'a handler by its name');
SELECT is((SELECT handler FROM romancy.workflows WHERE name = 'a'), 'first.charge(jsonb)', 'is that function');
SELECT is(romancy.define_workflow('a', 'first.charge(jsonb)'), 1, 'the same with its argument');
SELECT is(romancy.define_workflow('a', 'charge(jsonb)'::regprocedure), 1, 'and as a regprocedure');
SELECT is(romancy.define_workflow('a', queue => 'q'), 2, 'without one, a queue');
CREATE PROCEDURE commits(i jsonb, INOUT o jsonb) LANGUAGE plpgsql AS $$ BEGIN o := i; END $$;
SELECT lives_ok($$ SELECT romancy.define_activity('c', 'commits', transactional => false) $$, 'a procedure by its name');
SELECT throws_ok($$ SELECT romancy.define_workflow('b', handler => 'hello') $$, 'RM012', 'invalid definition of workflow "b"', 'a function that is not there');
SELECT throws_ok($$ SELECT romancy.define_workflow('b', handler => 'hello()') $$, 'RM012', 'invalid definition of workflow "b"', 'with arguments as well');
SELECT alike(hint_of($$ SELECT romancy.define_workflow('b', 'hello()') $$), 'A handler is a function(jsonb) returning jsonb, given as %', 'and the hint says what a handler is');
SELECT alike(hint_of($$ SELECT romancy.define_activity('b', 'hello(') $$), 'A handler is a function(jsonb) returning jsonb, given as %', 'and where it is no name at all');

-- keys
SELECT throws_ok($$ SELECT romancy.start_workflow('charge', idempotency_key => '') $$, 'RM012', 'argument "idempotency_key" must not be empty', 'an empty idempotency key');
SELECT throws_ok($$ SELECT romancy.start_workflows('charge', '{null}', idempotency_keys => '{""}') $$, 'RM012', 'argument "idempotency_keys" must not be empty', 'and one of many');
SELECT * FROM finish();
ROLLBACK;
