-- Many tasks at a time: signatures made in C, the members of a group written together, the ends of many tasks in one call.
-- It would catch a signature that differs from what to_jsonb and jsonb_build_object make, a member without its row, an index entry or its
-- place in the queue, an end that is lost, and a DBA's index that is evaluated as the caller.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(30);
SET LOCAL client_min_messages = warning;

-- same: are the two the same document, byte for byte as far as can be seen, and in each of their parts?
CREATE FUNCTION same(a jsonb, b jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RETURN a = b AND a::text = b::text AND pg_column_size(a) = pg_column_size(b) AND jsonb_hash_extended(a, 1) = jsonb_hash_extended(b, 1)
		AND (jsonb_typeof(a) <> 'array' OR NOT EXISTS (SELECT FROM generate_series(0, jsonb_array_length(a) - 1) i WHERE NOT same(a -> i, b -> i)))
		AND (jsonb_typeof(a) <> 'object' OR NOT EXISTS (SELECT FROM jsonb_object_keys(b) k WHERE NOT coalesce(same(a -> k, b -> k), false)));
END $$;
CREATE FUNCTION grouped(s jsonb[]) RETURNS boolean LANGUAGE sql AS
$$ SELECT same(romancy.group(VARIADIC s), jsonb_build_object('group', to_jsonb(s))) AND same(romancy.chain(VARIADIC s), jsonb_build_object('chain', to_jsonb(s))) $$;
CREATE TEMP TABLE odd (v jsonb);
INSERT INTO odd VALUES ('1'), ('-1.5e20'), ('1e-10'), ('123456789012345678901234567890.123'), ('"a"'), ('""'), ('"äöü ☃"'), ('true'), ('false'), ('null'),
	('[]'), ('{}'), ('[[]]'), ('[{}]'), ('[1]'), ('["ab", 1, "abc", 2, "", 3]'), ('{"a": 1, "b": "x", "aa": [1, 2, {"c": null}], "": 5}'),
	((SELECT jsonb_agg(repeat('x', g)) FROM generate_series(1, 100) g)), ((SELECT jsonb_object_agg('k' || g, g) FROM generate_series(1, 100) g));
SELECT is((SELECT count(*) FROM odd WHERE NOT same(romancy.task('n', v), jsonb_build_object('task', 'n'::text, 'input', v))), 0::bigint, 'task: as jsonb_build_object makes it');
SELECT ok(same(romancy.task('n'), '{"task": "n"}') AND same(romancy.task('n', NULL), '{"task": "n"}'), 'task without an input');
SELECT ok(same(romancy.task(NULL), '{"task": null}') AND same(romancy.task(NULL, '1'), '{"task": null, "input": 1}'), 'task without a name');
SELECT ok(same(romancy.task('ä☃"' || repeat('y', 1000)), jsonb_build_object('task', 'ä☃"' || repeat('y', 1000))), 'task with a long name');
SELECT is((SELECT count(*) FROM odd a, odd b WHERE NOT grouped(ARRAY[a.v, b.v, a.v])), 0::bigint, 'group, chain: as to_jsonb makes them, of anything');
SELECT ok((SELECT grouped(array_agg(a.v ORDER BY a.v, b.v)) FROM odd a, odd b), 'of many, some of them large');
SELECT ok((SELECT bool_and(grouped((SELECT array_agg(v ORDER BY v) FROM (SELECT v FROM odd LIMIT n) x))) FROM generate_series(1, 19) n), 'of each number');
SELECT ok((SELECT grouped(array_agg(to_jsonb(g))) FROM generate_series(1, 100) g) AND (SELECT grouped(array_agg(to_jsonb('s' || g))) FROM generate_series(1, 100) g),
	'of numbers, of strings');
SELECT ok(grouped('{}') AND same(romancy.group(), '{"group": []}') AND same(romancy.chain(), '{"chain": []}'), 'of none');
SELECT ok(grouped(ARRAY[NULL, '1', NULL]::jsonb[]), 'of nulls');
SELECT ok(same(romancy.group(VARIADIC NULL::jsonb[]), '{"group": null}'), 'of no array');
SELECT ok(grouped(ARRAY[['1', '2', NULL], ['"a"', '{}', '[]']]::jsonb[]) AND grouped(ARRAY[[['1'], ['2']], [['3'], ['4']]]::jsonb[]), 'of arrays of arrays');
SELECT ok(grouped('[5:7]={1,2,3}'::jsonb[]), 'of one that does not begin at 1');
SELECT is((SELECT string_agg(format('%s %s%s%s', p.oid::regprocedure, provolatile, proparallel, proisstrict), ', ' ORDER BY proname) FROM pg_proc p
	WHERE pronamespace = 'romancy'::regnamespace AND proname IN ('task', 'chain', 'group')),
	'romancy.chain(jsonb[]) isf, romancy."group"(jsonb[]) isf, romancy.task(text,jsonb) isf', 'what planners know of them');

-- a group of more than are written together, into two queues, with priorities, delays, and large inputs
CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); END $$;
SELECT romancy.define_activity('qb_a', queue => 'qb_a');
SELECT romancy.define_activity('qb_b', queue => 'qb_b');
SELECT romancy.run_canvas(romancy.group(VARIADIC ARRAY(SELECT CASE WHEN g % 50 = 0 THEN romancy.options(romancy.task('qb_b', to_jsonb(g)), delay => '1 hour')
	WHEN g % 7 = 0 THEN romancy.options(romancy.task('qb_a', to_jsonb(g)), priority => 5)
	WHEN g % 30 = 1 THEN romancy.group(romancy.task('qb_a', to_jsonb(g)), romancy.task('qb_b', to_jsonb(g)))
	WHEN g % 30 = 2 THEN romancy.task('qb_a', to_jsonb(g || repeat('z', 5000)))
	ELSE romancy.task('qb_' || substr('ab', 1 + g % 2, 1), to_jsonb(g)) END FROM generate_series(1, 300) g))) AS id \gset
CALL settle();
SELECT is((SELECT count(*) FROM romancy.t_task WHERE instance_id = :'id'), 309::bigint, 'a row for each member');
SET LOCAL enable_seqscan = off;
SELECT is((SELECT count(*) FROM romancy.t_task WHERE instance_id = :'id' AND state = 2 AND due_at > now()), 6::bigint, 'those with a delay wait');
SELECT is((SELECT count(DISTINCT t.task_id) FROM romancy.t_task i JOIN romancy.t_task t ON t.task_id = i.task_id WHERE i.queue LIKE '%/qb_a' AND i.state = 0), 174::bigint, 'found by the indexes');
RESET enable_seqscan;
CREATE TEMP TABLE got AS SELECT *, row_number() OVER () AS n FROM romancy.fetch_activities('qb_a', 'w', 1000);
SELECT is((SELECT count(*) FROM got), 174::bigint, 'all ready ones of a queue are fetched');
SELECT is((SELECT array_agg(input ORDER BY n) FROM got WHERE n <= 3), ARRAY['7', '14', '21']::jsonb[], 'the first are those of a high priority');
SELECT is((SELECT count(*) FROM got WHERE length(input #>> '{}') > 5000), 9::bigint, 'large inputs are whole');
INSERT INTO got SELECT *, 1000 + row_number() OVER () FROM romancy.fetch_activities('qb_b', 'w', 1000);
SELECT is((SELECT count(*) FROM got), 303::bigint, 'and of the other');
SELECT is((SELECT count(*) FROM got WHERE token ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.1\.[0-9a-f]{16}$' AND step_key = instance_id || '/' || activity_id), 303::bigint, 'tokens and keys');

-- an error in the midst leaves nothing behind, neither rows nor what was gathered
CREATE UNIQUE INDEX qb_once ON romancy.t_canvas_result (activity) WHERE activity = 'qb_b';
SELECT throws_ok('SELECT romancy.complete_activities(array_agg(token ORDER BY n), array_agg(input ORDER BY n)) FROM got', '23505', NULL, 'an index of a DBA is heeded');
SELECT is((SELECT count(*) FROM romancy.t_canvas_result WHERE instance_id = :'id'), 0::bigint, 'nothing was completed');
DROP INDEX romancy.qb_once;

-- an index of a DBA's is evaluated as the extension's owner, not as the caller
CREATE FUNCTION qb_who(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF current_user <> 'qb_role' THEN RETURN $1; END IF;
	RAISE 'evaluated as the caller';
END $$;
CREATE INDEX qb_index ON romancy.t_canvas_result (qb_who(activity));
CREATE ROLE qb_role SUPERUSER;
GRANT ALL ON got TO qb_role;
SET LOCAL ROLE qb_role;
SELECT lives_ok('CREATE TEMP TABLE done AS SELECT romancy.complete_activities(array_agg(token ORDER BY n) || ARRAY[min(token)], array_agg(input ORDER BY n) || ARRAY[''0''::jsonb]) AS n FROM got',
	'completed by another role');
RESET ROLE;
SELECT is((SELECT n FROM done), 303::bigint, 'each once');
SELECT is((SELECT count(*) FROM romancy.t_canvas_result WHERE instance_id = :'id'), 303::bigint, 'a row for each end');
UPDATE romancy.t_task SET due_at = now() - interval '1 second' WHERE instance_id = :'id';
SELECT romancy.complete_activities(array_agg(token), array_agg(input)) FROM romancy.fetch_activities('qb_b', 'w', 1000);
CALL settle();
SELECT is((SELECT count(*) FROM romancy.t_task WHERE instance_id = :'id'), 0::bigint, 'no task is left');
SELECT is((SELECT array_agg(v ORDER BY n) FILTER (WHERE jsonb_typeof(v) = 'array') FROM jsonb_array_elements(romancy.get_result(:'id')) WITH ORDINALITY x (v, n)),
	(SELECT array_agg(jsonb_build_array(g, g) ORDER BY g) FROM generate_series(1, 300) g WHERE g % 30 = 1 AND g % 7 <> 0), 'groups in the group have their results');
SELECT is((SELECT count(*) FROM jsonb_array_elements(romancy.get_result(:'id')) WITH ORDINALITY x (v, n) WHERE v = to_jsonb(n::int)), 282::bigint, 'each result is at its place');
SELECT * FROM finish();
ROLLBACK;
