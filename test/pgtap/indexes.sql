-- Queries of operators are answered from indexes: instances by key, by time, by id, by label where the index is made. It
-- would catch a view whose conditions do not reach the table's indexes, and an index on labels that changes an answer.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
CREATE FUNCTION waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.receive('nothing'); RETURN $1; END $$;
CREATE FUNCTION ends(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
SELECT count(romancy.start_workflow(CASE WHEN i % 2 = 0 THEN 'waits' ELSE 'ends' END, '1', idempotency_key => 'key ' || i, labels => jsonb_build_object('n', i % 10, 'all', true)))
FROM generate_series(1, 300) i \gset
CALL romancy.drain();
SELECT count(romancy.pause_workflow(instance_id)) FROM romancy.instances WHERE labels @> '{"n": 2}' \gset
CALL romancy.drain();
ANALYZE romancy.t_instance;

-- the plan of a query, as text
CREATE FUNCTION plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text; plan text = '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP plan := plan || line || E'\n'; END LOOP;
	RETURN plan;
END $$;
SELECT matches(plan($$ SELECT * FROM romancy.instances WHERE idempotency_key = 'key 7' $$), 'Index Scan using t_instance_key', 'by key');
SELECT matches(plan($$ SELECT * FROM romancy.instances WHERE instance_id = '01a224ee-4328-7575-b7f2-0c51a86e672d' $$), 'Index Scan using t_instance_pkey', 'by id');
SELECT matches(plan($$ SELECT * FROM romancy.instances WHERE workflow = 'ends' AND created_at > now() + interval '1 day' $$), 'Index Scan (Backward )?(using|on) t_instance_created', 'by workflow and time');

SELECT matches(plan(format('SELECT * FROM romancy.instances WHERE status = %L', s)), 'Index Scan (Backward )?(using|on) t_instance_status', 'by status: ' || s) FROM unnest(ARRAY['paused', 'failed', 'cancelled', 'compensating']) s;
SELECT matches(plan($$ SELECT * FROM romancy.instances WHERE status IN ('failed', 'cancelled') $$), 'Index Scan (Backward )?(using|on) t_instance_status', 'by two of them');
SELECT doesnt_match(plan($$ SELECT * FROM romancy.instances WHERE status = 'paused' $$), 'Seq Scan on t_instance', 'and by nothing else');
SELECT matches(plan($$ SELECT * FROM romancy.instances WHERE status = 'failed' AND workflow = 'ends' AND created_at > now() + interval '1 day' $$), 'Index Scan (Backward )?(using|on) t_instance_', 'by status, workflow and time');
SELECT is((SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM romancy.instances GROUP BY 1) c), 'completed 150, paused 30, waiting_for_message 120', 'each instance is there once');
SELECT is((SELECT count(*) FROM romancy.instances WHERE status = 'paused'), 30::bigint, 'the same number by the index');

-- for a role with usage and nothing else: the same plans, and none of the rows
CREATE ROLE reader;
SELECT romancy.grant_usage('reader');
SET LOCAL ROLE reader;
SELECT matches(plan(q), 'Index Scan (Backward )?(using|on) ' || i, 'for a reader: ' || q) FROM (VALUES ('SELECT * FROM romancy.instances WHERE status = ''paused''', 't_instance_status'),
	('SELECT * FROM romancy.instances WHERE idempotency_key = ''key 7''', 't_instance_key'), ('SELECT * FROM romancy.instances WHERE instance_id = ''01a224ee-4328-7575-b7f2-0c51a86e672d''', 't_instance_pkey'),
	('SELECT * FROM romancy.instances WHERE workflow = ''ends'' AND created_at > now() + interval ''1 day''', 't_instance_created')) AS v (q, i);
SELECT is((SELECT count(*) FROM romancy.instances), 0::bigint, 'who sees nothing of others');
RESET ROLE;

-- labels: the same answers with the index as without it
CREATE FUNCTION answers() RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', (SELECT count(*) FROM romancy.list_instances('{"labels": {"n": 2}}', 1000)), (SELECT count(*) FROM romancy.list_instances('{"labels": {"n": 2}, "status": "paused"}', 1000)),
		(SELECT count(*) FROM romancy.list_instances('{"labels": {"all": true}, "status": ["completed", "paused"]}', 1000)), (SELECT count(*) FROM romancy.list_instances('{"labels": {"n": 11}}', 1000)),
		(SELECT count(*) FROM romancy.list_instances('{"labels": {"n": 2}, "status": "completed"}', 1000)), (SELECT count(DISTINCT next_page_token) FROM romancy.list_instances('{"labels": {"all": true}}', 7))) $$;
SELECT is(answers(), '30 30 180 0 0 1', 'filters with labels');
SELECT ok(romancy.index_labels(), 'the index is made');
SELECT ok(NOT romancy.index_labels(), 'once');
SELECT is(answers(), '30 30 180 0 0 1', 'the same answers');
SELECT isnt(pg_stat_get_xact_numscans('romancy.t_instance_labels'::regclass), 0::bigint, 'from the index');
SELECT is(romancy.cancel_workflows('{"labels": {"n": 2}}'), 30::bigint, 'bulk calls as well');
CREATE ROLE stranger;
SELECT romancy.grant_usage('stranger');
SET LOCAL ROLE stranger;
SELECT throws_ok('SELECT romancy.index_labels()', '42501', NULL, 'not for everybody');
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
