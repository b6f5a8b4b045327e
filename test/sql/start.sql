-- start_workflow, start_workflows: names, arguments, idempotency.
-- All in one transaction, so that nothing of it reaches a worker.
-- It would catch a second instance for one key, and a start that is taken and cannot run.
\set VERBOSITY default
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
-- what other tests left behind is out of sight
DELETE FROM romancy.t_instance;
DELETE FROM romancy.t_workflow;
CREATE SCHEMA flows;
CREATE SCHEMA "Odd";
SET LOCAL search_path = flows, public;
CREATE FUNCTION hello(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN jsonb_build_object('hello', input); END $$;
CREATE FUNCTION "Odd"."Name"(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"odd"'; END $$;
CREATE FUNCTION not_a_handler(input jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION hello_v2(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"v2"'; END $$;

-- an undefined name is read as SQL reads a function's name
SELECT romancy.start_workflow('hello', '{"n": 1}') AS id \gset
SELECT romancy.start_workflow('HELLO') IS NOT NULL, romancy.start_workflow('flows.hello') IS NOT NULL,
	romancy.start_workflow('"Odd"."Name"') IS NOT NULL;
SELECT workflow, version, status, input, owner = current_user AS mine, priority, labels, queue, parent_id, started_at, finished_at
	FROM romancy.instances WHERE instance_id = :'id';
SELECT name, defined, version, handler, search_path FROM romancy.t_workflow WHERE NOT defined ORDER BY name;
-- starting again finds the same row
SELECT romancy.start_workflow('hello') IS NOT NULL;
SELECT count(*) FROM romancy.t_workflow WHERE name = 'hello';
CALL romancy.drain() \gset
SELECT workflow, status, output FROM romancy.instances ORDER BY workflow, created_at;
SELECT substr(:'id', 15, 1) AS uuid_version;

-- what cannot be started
SELECT romancy.start_workflow('unknown');
SELECT romancy.start_workflow('no.such.function');
SELECT romancy.start_workflow('elsewhere.hello');
SELECT romancy.start_workflow('"Hello"');
SELECT romancy.start_workflow('not a name(');
SELECT romancy.start_workflow('');
SELECT romancy.start_workflow(NULL);
SELECT romancy.start_workflow('not_a_handler');
SELECT romancy.start_workflow('hello', version => 2);
SELECT romancy.start_workflow('hello', version => 0);
SELECT romancy.start_workflow('hello', version => -1);
SELECT * FROM romancy.start_workflows('hello', '{1}', version => 0);
SELECT romancy.start_workflow('hello(jsonb)');
SELECT romancy.start_workflow('hello', labels => '[]');
SELECT romancy.start_workflow('hello', execution_timeout => '-1s');
SELECT romancy.start_workflow('hello', execution_timeout => '0');
SELECT romancy.start_workflow('hello', start_at => 'infinity');

-- definitions come before functions, and match exactly
SELECT romancy.define_workflow('hello', 'hello_v2(jsonb)');
SELECT romancy.start_workflow('hello') AS v2 \gset
SELECT romancy.start_workflow('HELLO') AS undefined \gset
SELECT romancy.define_workflow('hello', 'hello(jsonb)');
SELECT romancy.start_workflow('hello') AS current \gset
SELECT romancy.start_workflow('hello', version => 1) AS old \gset
SELECT romancy.start_workflow('hello', version => 3);
SELECT romancy.start_workflow('hello', version => -1);
CALL romancy.drain() \gset
SELECT n, version, output FROM romancy.instances
	JOIN (VALUES (1, :'v2'::uuid), (2, :'undefined'), (3, :'current'), (4, :'old')) v (n, id) ON id = instance_id ORDER BY n;

-- ids, idempotency keys
SELECT romancy.start_workflow('hello', instance_id => '01234567-89ab-7def-8123-456789abcdef');
SELECT romancy.start_workflow('hello', instance_id => '01234567-89ab-7def-8123-456789abcdef');
SELECT romancy.start_workflow('hello', '1', idempotency_key => 'k') AS first \gset
SELECT romancy.start_workflow('hello', '2', idempotency_key => 'k') = :'first' AS same;
SELECT romancy.start_workflow('hello_v2', idempotency_key => 'k') <> :'first' AS other_workflow;
SELECT romancy.start_workflow('hello', '2', instance_id => '01234567-89ab-7def-8123-456789abcde0', idempotency_key => 'k') = :'first' AS key_wins;
SELECT input, idempotency_key FROM romancy.instances WHERE instance_id = :'first';
SELECT count(*) FROM romancy.instances WHERE workflow = 'hello' AND idempotency_key = 'k';
-- a start that is rolled back did not happen, its key included
SAVEPOINT s;
SELECT romancy.start_workflow('hello', idempotency_key => 'again') AS gone \gset
ROLLBACK TO s;
SELECT romancy.start_workflow('hello', idempotency_key => 'again') <> :'gone' AS new;
SELECT count(*) FROM romancy.instances WHERE instance_id = :'gone';
-- nor what an undefined name resolved to in it
SAVEPOINT s;
CREATE FUNCTION passing(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '0'; END $$;
SELECT romancy.start_workflow('passing') IS NOT NULL;
ROLLBACK TO s;
SELECT romancy.start_workflow('passing');

-- a function that comes earlier in the path takes over; so does another path
CREATE SCHEMA early;
SET LOCAL search_path = early, flows, public;
SELECT romancy.start_workflow('hello_v2') IS NOT NULL;
CREATE FUNCTION early.hello_v2(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"early"'; END $$;
SELECT romancy.start_workflow('hello_v2') AS early \gset
SET LOCAL search_path = flows, public;
SELECT romancy.start_workflow('hello_v2') AS late \gset
CALL romancy.drain() \gset
SELECT romancy.get_result(:'early'), romancy.get_result(:'late');
-- a handler that is gone, or is none any more
SELECT romancy.define_workflow('gone', 'hello_v2(jsonb)');
SAVEPOINT s;
DROP FUNCTION hello_v2(jsonb);
SELECT romancy.start_workflow('gone');
ROLLBACK TO s;
SELECT romancy.start_workflow('gone') IS NOT NULL;
ALTER FUNCTION hello_v2(jsonb) STRICT;
SELECT romancy.start_workflow('gone');

-- later, by priority, with labels and a deadline
SELECT romancy.start_workflow('hello', start_at => now() + interval '1 hour', priority => 7, labels => '{"a": 1}',
	execution_timeout => '1 day') AS later \gset
CALL romancy.drain() \gset
SELECT status, priority, labels FROM romancy.instances WHERE instance_id = :'later';
SELECT wake_at = now() + interval '1 hour' AS wake_at, deadline = now() + interval '25 hours' AS deadline
	FROM romancy.t_instance WHERE instance_id = :'later';
CALL romancy.drain(advance_time => true) \gset
SELECT status FROM romancy.instances WHERE instance_id = :'later';

-- many at once
SELECT count(*), count(DISTINCT id) FROM romancy.start_workflows('hello', ARRAY(SELECT to_jsonb(g) FROM generate_series(1, 2500) g),
	start_at => now() + interval '10 years', labels => '{"bulk": true}') id;
SELECT count(*), bool_and(id < next) FROM (
	SELECT instance_id AS id, lead(instance_id) OVER (ORDER BY (input)::int) AS next
	FROM romancy.instances WHERE labels = '{"bulk": true}') x;
SELECT array_agg(id ORDER BY n) AS ids FROM romancy.start_workflows('hello', '{1,NULL,"\"x\""}') WITH ORDINALITY s (id, n) \gset
SELECT input FROM romancy.instances WHERE instance_id = ANY (:'ids'::uuid[]) ORDER BY array_position(:'ids'::uuid[], instance_id);
SELECT * FROM romancy.start_workflows('hello', '{}');
-- keys: existing ones, equal ones, nulls
SELECT array_agg(id ORDER BY n) AS ids FROM romancy.start_workflows('hello', '{1,2,3,4,5,6}', '{k,new,NULL,new,NULL,other}') WITH ORDINALITY s (id, n) \gset
SELECT ids[1] = :'first' AS existing, ids[2] = ids[4] AS equal, ids[3] <> ids[5] AS nulls, cardinality(ids)
	FROM (SELECT :'ids'::uuid[] AS ids) x;
SELECT input, idempotency_key FROM romancy.instances WHERE instance_id = ANY (:'ids'::uuid[]) ORDER BY input;
SELECT * FROM romancy.start_workflows('hello', '{1,2}', '{k}');
SELECT * FROM romancy.start_workflows('hello', NULL);
SELECT * FROM romancy.start_workflows('unknown', '{1}');

-- too large
SELECT romancy.start_workflow('hello', to_jsonb(repeat('x', 2000000)));
SELECT * FROM romancy.start_workflows('hello', ARRAY['1', to_jsonb(repeat('x', 2000000))]);
SELECT romancy.start_workflow('hello', labels => jsonb_build_object('x', repeat('x', 2000000)));

-- who may execute the handler may start it
CREATE ROLE regress_starter;
SELECT romancy.grant_usage('regress_starter');
GRANT USAGE ON SCHEMA flows TO regress_starter;
REVOKE EXECUTE ON FUNCTION hello FROM PUBLIC;
SET ROLE regress_starter;
SELECT romancy.start_workflow('hello');
SELECT romancy.start_workflow('HELLO');
SELECT romancy.start_workflow('"Odd"."Name"');
RESET ROLE;
GRANT EXECUTE ON FUNCTION hello TO regress_starter;
SET ROLE regress_starter;
SELECT romancy.start_workflow('hello', '"by another"', idempotency_key => 'k') <> :'first' AS own_key;
SELECT workflow, input, owner FROM romancy.instances;
RESET ROLE;

-- a recorded step in a handler: the same instances on every replay, as the handler's owner
CREATE FUNCTION starter(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	one uuid := romancy.start_workflow('hello', '"one"', idempotency_key => 'from a handler', labels => '{"by": "starter"}');
	many uuid[];
BEGIN
	many := array(SELECT romancy.start_workflows('hello', '{1,2}', labels => '{"by": "starter"}'));
	PERFORM romancy.sleep('1 hour');
	RETURN jsonb_build_object('one', one, 'many', many, 'cancelled', romancy.cancel_workflow(one));
END $$;
SELECT romancy.start_workflow('starter') AS starter \gset
CALL romancy.drain(advance_time => true) \gset
SELECT event_type, activity_id, data -> 'input' AS input FROM romancy.get_history(:'starter') WHERE event_type = 'WorkflowStarted';
SELECT event_type, activity_id FROM romancy.get_history(:'starter') WHERE event_type <> 'WorkflowStarted';
SELECT jsonb_array_length(result -> 'many'), result -> 'cancelled' AS cancelled
	FROM (SELECT romancy.get_result(:'starter') AS result) r;
SELECT input, status, output FROM romancy.instances WHERE labels = '{"by": "starter"}' ORDER BY created_at, instance_id;
SELECT count(*) FROM romancy.instances WHERE instance_id IN (
	SELECT (romancy.get_result(:'starter') ->> 'one')::uuid
	UNION ALL SELECT e::uuid FROM jsonb_array_elements_text(romancy.get_result(:'starter') -> 'many') e);
-- race: a timer that comes due between drain's look at what is due and its look for the next timer belongs to neither; drain ended there
CREATE FUNCTION dozer(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.sleep((input #>> '{}')::interval); RETURN '"awake"'; END $$;
CREATE FUNCTION asleep() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id uuid;
	n bigint;
BEGIN
	FOR i IN 1 .. 400 LOOP
		BEGIN
			id := romancy.start_workflow('dozer', to_jsonb(i % 100 * 40 || ' us'));
			CALL romancy.drain(advance_time => true, turns => n);
			IF romancy.get_result(id) IS NULL THEN RETURN 'left asleep'; END IF;
			RAISE SQLSTATE 'XX000';	-- leaves nothing for the next to wade through
		EXCEPTION WHEN SQLSTATE 'XX000' THEN NULL;
		END;
	END LOOP;
	RETURN 'none';
END $$;
SELECT asleep();
ROLLBACK;
