-- A large output is written once: it stands with the instance, and its last event shows it from there, until it has
-- expired; one that is a step's result, too, stands with the step, for all that read it. It would catch an output that is written twice, and a reader that does not find it.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
CREATE FUNCTION large(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(string_agg(md5(i::text), '')) FROM generate_series(1, ($1 #>> '{}')::int) i $$;
CREATE FUNCTION returns_it(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.activity('large', $1) $$;
SELECT romancy.start_workflow('returns_it', '10000') AS id \gset
SELECT romancy.start_workflow('returns_it', '2') AS small \gset
CALL romancy.drain();
SELECT is((SELECT length(output #>> '{}') FROM romancy.instances WHERE instance_id = :'id'), 320000, 'it has the output');
SELECT cmp_ok((SELECT sum(octet_length(value::text)) FROM romancy.t_document WHERE instance_id = :'id'), '<', 340000::bigint, 'history has it once, as the result of the activity');
SELECT is((SELECT data -> 'result' FROM romancy.get_history(:'id') WHERE event_type = 'WorkflowCompleted'), romancy.get_result(:'id'), 'WorkflowCompleted shows it');
SELECT is((SELECT data -> 'result' FROM romancy.get_history(:'id', 1, 1)), romancy.get_result(:'id'), 'on a page of its own, too');
SELECT is((SELECT data -> 'result' FROM romancy.get_history(:'small') WHERE event_type = 'WorkflowCompleted'), romancy.get_result(:'small'), 'a small one as well');
SELECT is((SELECT string_agg(event_type, ',' ORDER BY seq) FROM romancy.get_history(:'id')), 'ActivityCompleted,WorkflowCompleted', 'nothing is lost of a page');

-- the same document as a step's result: in one place, of whatever kind the step is and in whatever turn it was
SELECT is((SELECT output::text FROM romancy.t_instance WHERE instance_id = :'id'), NULL, 'not with the instance a second time');
CREATE FUNCTION got(uuid) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', length(romancy.get_result($1) #>> '{}'), (SELECT length(output #>> '{}') FROM romancy.instances WHERE instance_id = $1),
		(SELECT length(output #>> '{}') FROM romancy.list_instances() WHERE instance_id = $1),
		(SELECT length(data #>> '{result}') FROM romancy.get_history($1) WHERE event_type = 'WorkflowCompleted'),
		(SELECT sum(octet_length(value::text)) / 320000 FROM romancy.t_document WHERE instance_id = $1), (SELECT count(output) FROM romancy.t_instance WHERE instance_id = $1)) $$;
CREATE FUNCTION spawns_it(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.await(romancy.spawn('large', $1)) $$;
CREATE FUNCTION calls_it(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.call_workflow('returns_it', $1) $$;
CREATE FUNCTION later(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE a jsonb = romancy.activity('large', $1);
BEGIN
	PERFORM romancy.sleep('1 ms');
	FOR i IN 1 .. 300 LOOP PERFORM romancy.activity('large', '1'); END LOOP;
	RETURN a;
END $$;
CREATE FUNCTION other(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('large', $1); RETURN to_jsonb(repeat('x', 320000)); END $$;
SELECT romancy.start_workflow('spawns_it', '10000') AS spawned \gset
SELECT romancy.start_workflow('calls_it', '10000') AS called \gset
SELECT romancy.start_workflow('later', '10000') AS later \gset
SELECT romancy.start_workflow('other', '10000') AS other \gset
SELECT romancy.run_canvas(romancy.task('large', '10000')) AS canvas \gset
CREATE FUNCTION short(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '1'::jsonb $$;
SELECT romancy.run_canvas(romancy.chain(romancy.task('large', '10000'), romancy.task('short'))) AS chain \gset
CALL romancy.drain(advance_time => true);
SELECT is(got(:'id'), '320000 320000 320000 320000 1 0', 'an activity''s result: all find it with the step');
SELECT is(got(:'spawned'), '320000 320000 320000 320000 1 0', 'a spawned one''s');
SELECT is(got(:'called'), '320000 320000 320000 320000 1 0', 'a child''s');
SELECT is(got(:'later'), '320000 320000 320000 320000 1 0', 'of an earlier turn, among many events');
SELECT is(got(:'other'), '320000 320000 320000 320000 2 0', 'another document is written, too');
SELECT is(got(:'canvas'), '320000 320000 320000 320000 1 0', 'a canvas''s');
SELECT is((SELECT count(*) FROM romancy.instances WHERE output = romancy.get_result(:'id')), 6::bigint, 'and it can be searched for');
SELECT is((SELECT romancy.get_result(romancy.fork_workflow(:'later', 'sleep:1'))), NULL, 'a fork');
CALL romancy.drain(advance_time => true);
SELECT is((SELECT string_agg(length(output #>> '{}')::text, ' ') FROM romancy.instances WHERE workflow = 'later'), '320000 320000', 'gets it, too');

-- others do not see it, also where they know its id
CREATE ROLE stranger;
SELECT FROM romancy.grant_usage('stranger');
SELECT id AS doc FROM romancy.t_document WHERE instance_id = :'id' AND value IS NOT NULL \gset
SELECT (ARRAY[ROW(512 + 1, 's', 'n', NULL, to_jsonb(:'doc'::text), NULL, now())::romancy.t_event])::text AS forged \gset
CREATE FUNCTION asks(who text, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text;
BEGIN
	PERFORM set_config('role', who, true);
	EXECUTE query INTO r;
	RESET ROLE;
	RETURN r;
EXCEPTION WHEN insufficient_privilege THEN RETURN SQLSTATE; END $$;
SELECT is(asks('stranger', format('SELECT length(romancy.t_document_value(%L)::text)', :'doc')), '42501', 'not as a document');
SELECT is(asks('stranger', format('SELECT length((romancy.t_events_unpack(%L))[1].result::text)', :'forged')), '42501', 'not as an event');
SELECT is(asks('stranger', 'SELECT count(*) FROM romancy.instances WHERE output IS NOT NULL'), '0', 'not in a view');
SELECT FROM romancy.grant_usage('stranger', true);
SELECT is(asks('stranger', format('SELECT length(romancy.t_document_value(%L)::text)', :'doc')), '320002', 'a monitor does');
SELECT is(asks('stranger', format('SELECT length((romancy.t_events_unpack(%L))[1].result::text)', :'forged')), '320002', 'in an event, too');
SELECT is(asks('stranger', format('SELECT length(output::text) FROM romancy.instances WHERE instance_id = %L', :'id')), '320002', 'and in a view');

-- it expires
UPDATE romancy.t_instance SET result_expires = '1 s', finished_at = now() - interval '1 min' WHERE instance_id IN (:'later', :'spawned', :'other', :'chain');
SELECT is((SELECT sum(length(result #>> '{}')) FROM romancy.canvas_tasks(:'chain')), 320001::bigint, 'a member of a canvas has it');
SELECT is(romancy.run_sweep('retention') > 0, true, 'it expires');
SELECT throws_ok(format('SELECT romancy.get_result(%L)', :'later'), 'RM010', NULL, 'then it is gone');
SELECT is((SELECT count(output) FROM romancy.instances WHERE instance_id IN (:'later', :'spawned', :'other')), 0::bigint, 'for all');
SELECT is((SELECT count(*) FROM romancy.t_document WHERE instance_id = :'chain'), 0::bigint, 'what members of a canvas have given has expired, too');
SELECT is((SELECT count(*) FROM romancy.t_document WHERE instance_id = :'later'), 1::bigint, 'history keeps what is a step''s');
SELECT is((SELECT count(*) FROM romancy.t_document WHERE instance_id = :'other'), 1::bigint, 'and not what is none''s');
UPDATE romancy.t_instance SET output = NULL, output_seq = NULL WHERE instance_id = :'id';
SELECT is((SELECT data FROM romancy.get_history(:'id') WHERE event_type = 'WorkflowCompleted'), '{}', 'expired, it is gone from there');
SELECT is(romancy.delete_workflow(:'later'), true, 'deleted');
SELECT is((SELECT count(*) FROM romancy.t_document WHERE instance_id = :'later'), 0::bigint, 'it is gone');

-- whatever it consists of, it comes back the same, to the last digit
CREATE FUNCTION shape(jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE $1::text
		WHEN '1' THEN jsonb_build_array(b, 1.50, NULL, jsonb_build_object('a', b, '', 2, 'nothing', '{}'::jsonb), '[]'::jsonb, b)
		WHEN '2' THEN jsonb_build_object('a', jsonb_build_object('b', jsonb_build_array(jsonb_build_array(jsonb_build_array(jsonb_build_array(jsonb_build_array(jsonb_build_array(jsonb_build_object('g', b)))))))), 'z', '1e3'::jsonb)
		WHEN '3' THEN (SELECT jsonb_agg(i) FROM generate_series(1, 20000) i)
		WHEN '4' THEN (SELECT jsonb_object_agg('key ' || i, CASE i % 3 WHEN 0 THEN b WHEN 1 THEN 'null' ELSE to_jsonb(i / 7.0) END) FROM generate_series(1, 10) i)
		WHEN '5' THEN jsonb_build_object('e', repeat('é', 9000), 'q', repeat(E'\\\\"', 9000))
		END FROM romancy.activity('large', '600') b $$;
CREATE FUNCTION same_shape(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE s jsonb = shape($1);
BEGIN
	PERFORM romancy.set_value('s', s);
	RETURN romancy.await(romancy.spawn('echo', jsonb_build_object('in', s)));
END $$;
CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1 $$;
CREATE FUNCTION plain(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT shape($1) $$;
SELECT romancy.start_workflows('same_shape', ARRAY['1', '2', '3', '4', '5']::jsonb[]);
SELECT romancy.start_workflows('plain', ARRAY['1', '2', '3', '4', '5']::jsonb[]);
CALL romancy.drain();
SELECT is((SELECT count(*) FROM romancy.instances s JOIN romancy.instances p ON p.workflow = 'plain' AND p.input = s.input
	WHERE s.workflow = 'same_shape' AND s.status = 'completed' AND length(p.output::text) > 16000 AND s.output = jsonb_build_object('in', p.output) AND s.output::text = jsonb_build_object('in', p.output)::text
		AND romancy.get_value(s.instance_id, 's') = p.output AND romancy.get_result(p.instance_id) = p.output), 5::bigint, 'a value of many large parts');
SELECT is((SELECT count(*) FROM romancy.instances p WHERE p.workflow = 'plain' AND input IN ('1', '4') AND (SELECT sum(octet_length(value::text)) FROM romancy.t_document d WHERE d.instance_id = p.instance_id) BETWEEN 19000 AND 21000),
	2::bigint, 'each part is there once');
SELECT * FROM finish();
ROLLBACK;
