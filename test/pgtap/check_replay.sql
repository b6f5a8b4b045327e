-- check_replay: histories of live, finished, failed and archived instances against handlers that fit and that do not.
-- It would catch a check that carries something out, that takes a fitting handler for another one, that overlooks a
-- difference, or that shows what the caller may not steer.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

CREATE TABLE effect (what text);
CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect VALUES ($1 #>> '{}'); RETURN $1; END $$;
CREATE FUNCTION orders(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text;
BEGIN
	PERFORM romancy.activity('note', '"a"');
	h := romancy.spawn('note', '"b"');
	PERFORM romancy.await(h);
	IF i ->> 'kind' = 'waits' THEN PERFORM romancy.receive('go'); END IF;
	IF i ->> 'kind' = 'fails' THEN RAISE EXCEPTION 'no'; END IF;
	IF i ->> 'kind' = 'recurs' THEN PERFORM romancy.recur('{"kind": "waits"}'); END IF;
	RETURN to_jsonb(romancy.workflow_now());
END $$;
SELECT romancy.define_workflow('orders', 'orders');
SELECT romancy.start_workflow('orders', jsonb_build_object('kind', k)) FROM unnest(ARRAY['waits', 'fails', 'recurs', 'returns']) k;
CALL romancy.drain();
SELECT is((SELECT string_agg(status, ',' ORDER BY status) FROM romancy.instances), 'completed,failed,recurred,waiting_for_message,waiting_for_message', 'instances of each kind');
DELETE FROM effect;
CREATE TEMP TABLE before AS SELECT instance_id, status, last_seq, updated_at FROM romancy.t_instance;

-- what fits
SELECT is_empty($$ SELECT * FROM romancy.check_replay('orders') $$, 'the handler that made the histories fits them all');
CREATE FUNCTION orders_v2(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text;
BEGIN
	PERFORM romancy.activity('note', '"a"');
	h := romancy.spawn('note', '"b"');
	PERFORM romancy.await(h);
	IF i ->> 'kind' = 'waits' THEN PERFORM romancy.receive('go'); END IF;
	IF romancy.patched('more') THEN PERFORM romancy.activity('note', '"new"'); PERFORM romancy.set_progress(7); END IF;
	IF i ->> 'kind' = 'fails' THEN RAISE EXCEPTION 'no'; END IF;
	IF i ->> 'kind' = 'recurs' THEN PERFORM romancy.recur('{"kind": "waits"}'); END IF;
	RETURN to_jsonb(romancy.workflow_now());
END $$;
SELECT is_empty($$ SELECT * FROM romancy.check_replay('orders', 'orders_v2') $$, 'and so does one that is patched');

-- what does not
CREATE FUNCTION orders_v3(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('note', '"A"');
	RETURN NULL;
END $$;
SELECT results_eq($$ SELECT position, recorded, asked, count(*) FROM romancy.check_replay('orders', 'orders_v3(jsonb)') GROUP BY 1, 2, 3 $$,
	$$ VALUES (1::bigint, 'ActivityCompleted "note:1" with input "a"', 'activity "note:1" with input "A"', 5::bigint) $$, 'another input: where, what history holds, what is asked for');
CREATE FUNCTION orders_v4(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('note', '"a"');
	IF i ->> 'kind' IN ('waits', 'recurs') THEN PERFORM romancy.await(romancy.spawn('note', '"b"')); END IF;
	RETURN NULL;
END $$;
SELECT results_eq($$ SELECT i.input ->> 'kind', position, recorded, asked FROM romancy.check_replay('orders', 'orders_v4') c JOIN romancy.instances i USING (instance_id) ORDER BY 1 $$,
	$$ VALUES ('fails', 2::bigint, 'ActivityScheduled "note:2"', 'its end'), ('returns', 2, 'ActivityScheduled "note:2"', 'its end') $$, 'those that differ, and no others');
SELECT is((SELECT count(*) FROM romancy.check_replay('orders', 'orders_v3', '{"status": "failed"}')), 1::bigint, 'a filter');
SELECT is((SELECT count(*) FROM romancy.check_replay('others', 'orders_v3')), 0::bigint, 'another workflow');

-- a changed body, as it is now
CREATE OR REPLACE FUNCTION orders(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 s'); RETURN NULL; END $$;
SELECT is((SELECT count(*) FROM romancy.check_replay('orders') WHERE asked = 'sleep "sleep:1"'), 5::bigint, 'null: what they run, as it is now');

-- nothing was carried out, and nothing changed
SELECT is_empty('SELECT * FROM effect', 'no activity ran');
SELECT is_empty($$ SELECT instance_id, status, last_seq, updated_at FROM romancy.t_instance EXCEPT SELECT * FROM before $$, 'no instance has changed');
SELECT is((SELECT count(*) FROM romancy.instances i, romancy.get_progress(i.instance_id) p WHERE p.completed > 0), 0::bigint, 'no progress was said');

-- errors, rights
SELECT throws_ok($$ SELECT * FROM romancy.check_replay('orders', 'nothing') $$, 'RM012', NULL, 'no such handler');
SELECT throws_ok($$ SELECT * FROM romancy.check_replay('orders', 'now()') $$, 'RM012', NULL, 'no handler');
SELECT throws_ok($$ SELECT * FROM romancy.check_replay('orders', NULL, '{"color": 1}') $$, 'RM012', NULL, 'no such filter');
CREATE ROLE stranger;
SELECT romancy.grant_usage('stranger');
SET LOCAL ROLE stranger;
SELECT is_empty($$ SELECT * FROM romancy.check_replay('orders') $$, 'another role sees nothing');
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
