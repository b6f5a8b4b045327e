-- Every key of a retry policy, by the attempts that a drain counts and the times between them.
-- It would catch a key that is ignored, an attempt too many or too few, and a delay that is not what the policy says.
BEGIN;
SELECT no_plan();

CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'attempt %', romancy.attempt() USING ERRCODE = coalesce($1->>'state', 'P0001'); END $$;
CREATE FUNCTION wf(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RETURN romancy.activity('fails', $1, retry => $1->'retry'); END $$;

-- run one workflow to its end; what its failure's retry says
CREATE FUNCTION attempts(input jsonb, OUT n int, OUT exhausted boolean, OUT gaps numeric[]) LANGUAGE plpgsql AS $$
DECLARE id uuid := romancy.start_workflow('wf', input); turns bigint; d jsonb;
BEGIN
	CALL romancy.drain(advance_time => true, turns => turns);
	SELECT data->'retry' INTO d FROM romancy.get_history(id) WHERE event_type = 'ActivityFailed';
	n := (d->>'total_attempts')::int;
	exhausted := (d->>'exhausted')::boolean;
	SELECT array_agg(extract(epoch FROM at - before) ORDER BY at) INTO gaps
	FROM (SELECT (e->>'at')::timestamptz AS at, lag((e->>'at')::timestamptz) OVER (ORDER BY e->>'attempt') AS before FROM jsonb_array_elements(d->'errors') e) x WHERE before IS NOT NULL;
END $$;
-- The clock is advanced, but what the machine takes comes on top: up to some seconds are not seen.
CREATE FUNCTION tens(numeric[]) RETURNS numeric[] LANGUAGE sql AS $$ SELECT array_agg(round(g, -1) ORDER BY n) FROM unnest($1) WITH ORDINALITY u(g, n) $$;

SELECT is(n, 5, 'five attempts by default') FROM attempts('{}');
SELECT ok(gaps[1] BETWEEN 0.9 AND 1.1 + late AND gaps[2] BETWEEN 1.8 AND 2.2 + late AND gaps[3] BETWEEN 3.6 AND 4.4 + late, 'after 1, 2 and 4 s: ' || gaps::text) FROM attempts('{}'), (VALUES (0.5)) l(late);
SELECT ok(gaps[1] BETWEEN 900 AND 1105 AND gaps[2] BETWEEN 1800 AND 2205 AND gaps[3] BETWEEN 3600 AND 4405, 'a tenth either way: ' || gaps::text)
FROM attempts('{"retry": {"initial_interval": "1000s", "max_interval": "1 day", "max_duration": null}}');
SELECT is(n, 1, 'max_attempts 1') FROM attempts('{"retry": {"max_attempts": 1}}');
SELECT is(n, 3, 'max_attempts 3') FROM attempts('{"retry": {"max_attempts": 3}}');
SELECT is(exhausted, true, 'it is exhausted then') FROM attempts('{"retry": {"max_attempts": 3}}');
SELECT is(tens(gaps), '{1000,1000}', 'initial_interval, backoff_coefficient 1, no jitter') FROM attempts('{"retry": {"max_attempts": 3, "initial_interval": "1000s", "max_interval": "1 day", "max_duration": null, "backoff_coefficient": 1, "jitter": 0}}');
SELECT is(tens(gaps), '{100,300,500,500}', 'backoff_coefficient 3, max_interval 500 s') FROM attempts('{"retry": {"initial_interval": "100s", "backoff_coefficient": 3, "max_interval": "500s", "max_duration": null, "jitter": 0}}');
SELECT is(n, 4, 'max_duration ends it: 0, 1000, 2000, 3000 s') FROM attempts('{"retry": {"max_attempts": 0, "max_duration": "3500s", "initial_interval": "1000s", "max_interval": "1 day", "backoff_coefficient": 1, "jitter": 0}}');
SELECT is(exhausted, true, 'exhausted, too') FROM attempts('{"retry": {"max_attempts": 0, "max_duration": "3500s", "initial_interval": "1000s", "max_interval": "1 day", "backoff_coefficient": 1, "jitter": 0}}');
SELECT is(n, 50, 'max_duration null and many attempts') FROM attempts('{"retry": {"max_attempts": 50, "max_duration": null, "max_interval": "1h", "jitter": 0}}');
SELECT is(n, 1, 'not among retryable_errors') FROM attempts('{"state": "22012", "retry": {"retryable_errors": ["40001", "deadlock_detected"]}}');
SELECT is(exhausted, false, 'which is not exhausted') FROM attempts('{"state": "22012", "retry": {"retryable_errors": ["40001"]}}');
SELECT is(n, 5, 'retryable by SQLSTATE') FROM attempts('{"state": "22012", "retry": {"retryable_errors": ["22012"]}}');
SELECT is(n, 5, 'by class') FROM attempts('{"state": "22012", "retry": {"retryable_errors": ["22"]}}');
SELECT is(n, 5, 'by name') FROM attempts('{"state": "22012", "retry": {"retryable_errors": ["division_by_zero"]}}');
SELECT is(n, 1, 'non_retryable_errors by class') FROM attempts('{"state": "22012", "retry": {"non_retryable_errors": ["22"]}}');
SELECT is(n, 5, 'others are') FROM attempts('{"state": "40001", "retry": {"non_retryable_errors": ["22"]}}');
SELECT throws_ok(format('SELECT romancy.define_activity(%L, handler => %L, retry => %L)', 'x', 'fails(jsonb)', policy), 'RM012', NULL, 'refused: ' || policy)
FROM unnest(ARRAY['{"max_atempts": 1}', '{"max_attempts": -1}', '{"max_attempts": 1.5}', '{"initial_interval": "soon"}', '{"initial_interval": "-1s"}',
	'{"backoff_coefficient": 0.5}', '{"jitter": 2}', '{"retryable_errors": "40"}', '{"retryable_errors": ["nonsense"]}', '[]', '"x"']) policy;
-- an error that is longer than what can be recorded is cut: it would be tried for ever
CREATE FUNCTION talks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', repeat('ä', 1000000) USING DETAIL = repeat('b', 2000000), HINT = repeat('c', 2000000); END $$;
CREATE FUNCTION listens(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('talks', i, retry => '{"max_attempts": 2}'); END $$;
SELECT romancy.start_workflow('listens') AS id \gset
CALL romancy.drain(advance_time => true) \gset
SELECT is(ARRAY[substr(error->>'message', 32768), substr(error->>'detail', 65536), substr(error->>'hint', 65536)],
	ARRAY['ä... (cut: it had 2000000 bytes)', 'b... (cut: it had 2000000 bytes)', 'c... (cut: it had 2000000 bytes)'], 'an error of some megabytes is cut at 64 kB, and says so')
FROM romancy.instances WHERE instance_id = :'id';
SELECT * FROM finish();
ROLLBACK;
