-- The load of test/tools/sanitize: a little of everything, once.
SET client_min_messages = error;
CREATE EXTENSION romancy;
CREATE TABLE t (i int, j jsonb);
CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (1, $1); RETURN $1; END $$;
CREATE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (-1, $1); RETURN $1; END $$;
CREATE FUNCTION flaky(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN IF romancy.attempt() < 2 THEN RAISE EXCEPTION 'not yet' USING DETAIL = 'd', HINT = 'h'; END IF; RETURN '{"a": [1, 2, {"b": null}]}'; END $$;
CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(1 / 0); END $$;
SELECT romancy.define_activity('undoable', 'note(jsonb)', compensation => 'undo');
SELECT romancy.define_activity('outside', queue => 'q');
CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('note', $1);
	PERFORM romancy.sleep('50 ms');
	PERFORM romancy.set_value('k', $1);
	PERFORM romancy.set_labels('{"l": 1}');
	PERFORM romancy.workflow_now(), romancy.workflow_random(), romancy.workflow_uuid(), romancy.patched('p');
	BEGIN PERFORM romancy.activity('fails', retry => '{"max_attempts": 1}'); EXCEPTION WHEN division_by_zero THEN NULL; END;
	RETURN romancy.activity('flaky', $1, retry => '{"initial_interval": "10ms"}');
END $$;
CREATE FUNCTION parallel(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text[];
BEGIN
	FOR i IN 1..4 LOOP h := h || romancy.spawn('note', to_jsonb(i)); END LOOP;
	RETURN to_jsonb(romancy.await_all(h)) || romancy.map('note', '[1, 2, 3]', 2);
END $$;
CREATE FUNCTION parent(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.join_group('g'); RETURN romancy.call_workflow('steps', $1); END $$;
CREATE FUNCTION saga(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('undoable', $1);
	RETURN romancy.activity('fails', retry => '{"max_attempts": 2, "initial_interval": "10ms"}');
END $$;
CREATE FUNCTION receives(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message;
BEGIN
	PERFORM romancy.subscribe('c');
	m := romancy.receive('c');
	BEGIN PERFORM romancy.receive('never', '50 ms'); EXCEPTION WHEN SQLSTATE 'RM006' THEN NULL; END;
	RETURN m.data;
END $$;
CREATE FUNCTION outsides(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('outside', $1); END $$;
CREATE FUNCTION recurs(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN IF ($1 #>> '{}')::int >= 3 THEN RETURN '"end"'; END IF; PERFORM romancy.sleep('10 ms'); RETURN romancy.recur(to_jsonb(($1 #>> '{}')::int + 1)); END $$;
CREATE FUNCTION sleeps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 day'); RETURN '1'; END $$;
CREATE ROLE other; SELECT romancy.grant_usage('other'); GRANT ALL ON t TO other;

SELECT count(*) FROM unnest('{steps,parallel,parent,saga,receives,outsides,recurs,sleeps}'::text[]) w, LATERAL romancy.start_workflows(w, array(SELECT to_jsonb(i) FROM generate_series(1, 3) i));
SET ROLE other;
SELECT romancy.start_workflow('steps', '{"as": "other"}', idempotency_key => 'once'), romancy.start_workflow('steps', '{"as": "other"}', idempotency_key => 'once');
RESET ROLE;
BEGIN; SELECT romancy.start_workflow('steps'); SAVEPOINT a; SELECT romancy.start_workflow('steps'); ROLLBACK TO a; COMMIT;
CALL romancy.run_workflow('steps', '1', timeout => '200s');
DO $$
BEGIN
	FOR i IN 1..100 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM romancy.instances WHERE workflow = 'receives' AND status <> 'waiting_for_message');
		PERFORM pg_sleep(0.2);
		COMMIT;
	END LOOP;
END $$;
SELECT romancy.publish('c', '{"hello": "world"}'), romancy.publish('c', NULL, '{"m": 1}', '\x00ff');
SELECT romancy.send_to(instance_id, 'c', '1') FROM romancy.instances WHERE workflow = 'receives' AND finished_at IS NULL;
SELECT romancy.raise_event('t', 's', '{"x": 1}', 'id1');
SELECT romancy.complete_activity(token, '"done"') FROM romancy.fetch_activities('q', 'w', 2);
SELECT romancy.fail_activity(token, 'no', 'E', '{"d": 1}', true) FROM romancy.fetch_activities('q', 'w', 10);
SELECT romancy.pause_workflow(instance_id), romancy.resume_workflow(instance_id), romancy.cancel_workflow(instance_id, 'enough') FROM romancy.instances WHERE workflow = 'sleeps';
SELECT romancy.run_canvas(romancy.chord(romancy.group(romancy.task('note', '1'), romancy.task('note', '2')), romancy.task('note')));
SELECT romancy.run_sweep(name) FROM romancy.sweeps;

-- parsers of the HTTP room, with random texts: an error is RM012, a URL that is taken is its own one form, a wait is a day at most
DO $$
DECLARE
	seed float8 := (extract(epoch FROM clock_timestamp())::bigint % 1000000) / 1000000.0;
	urls text[] := ARRAY['https://', 'http://', 'HTTP://', 'h', 'example.com', '[::1]', '[', '::', ']', '127.1', ':80', ':0', ':', '/', '//', '..', '.', '%2e', '%', '%zz', '{a}', '{b.c}', '{', '}', '{}', '{{secret:k}}', '{secret:', '?', '#', '@', '*', E'\\', 'ü',
		E'\t', E'\x01', ' ', ';', repeat('x', 300), '-', '_', '&='];
	waits text[] := ARRAY['Sun', 'Sunday', ',', ' ', '29', '-', 'Nov', '2026', '26', '08', ':', '00', '30', 'GMT', '9999999999', '0', 'x', 'ü', E'\t', '99', 'Feb', '31'];
	doc jsonb := '{"a": "x/../y", "b": {"c": ".."}}';
	s text;
	t text;
BEGIN
	PERFORM setseed(seed);
	FOR n IN 1..2500 LOOP
		s := (SELECT string_agg(urls[1 + floor(random() * cardinality(urls))::int], '') FROM generate_series(1, 1 + floor(random() * 10)::int));
		IF random() < 0.6 THEN s := 'https://h' || s; END IF;
		BEGIN
			CASE n % 4
				WHEN 0 THEN
					PERFORM romancy.allow_http('postgres', s, true);
				WHEN 1 THEN
					PERFORM romancy.t_http_address(s);
				WHEN 2 THEN
					PERFORM romancy.define_activity('fuzz', http => jsonb_build_object('url', 'https://h/', 'headers', jsonb_build_object('A', s)));
				ELSE
					t := romancy.t_http_url(s, doc);
					ASSERT romancy.t_http_url(t, '{}') = t, 'one form of ' || s;
			END CASE;
		EXCEPTION WHEN SQLSTATE 'RM012' OR insufficient_privilege THEN
			NULL;
		END;
		s := (SELECT string_agg(waits[1 + floor(random() * cardinality(waits))::int], '') FROM generate_series(1, 1 + floor(random() * 14)::int));
		ASSERT coalesce(romancy.t_http_retry_after(s, now()) BETWEEN '0' AND '24 h', true), 'a wait of ' || s;
	END LOOP;
EXCEPTION WHEN OTHERS THEN
	RAISE EXCEPTION 'seed %, text "%": %', seed, s, SQLERRM;
END $$;
\if :{?url}
-- the HTTP worker, with a server that misbehaves: answers of all kinds, and such that are nearly right
CREATE FUNCTION requests(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN romancy.http('POST', i ->> 'url', i, '{"X-Key": "{{secret:k}}"}', '3 s', retry => '{"max_attempts": 2, "initial_interval": "10ms"}');
EXCEPTION WHEN OTHERS THEN
	RETURN to_jsonb(SQLERRM);
END $$;
SELECT romancy.define_workflow('requests', 'requests(jsonb)'), romancy.allow_http('postgres', :'url' || '/*', private => true), romancy.set_secret('k', 'tiger-in-the-tank', '127.0.0.1');
SELECT romancy.define_destination('posted', url => :'url' || '/flaky', event_types => '{posted}', format => 'batch', headers => '{"X-Key": "{{secret:k}}"}', retry => '{"initial_interval": "10ms"}');
SELECT count(romancy.start_workflow('requests', jsonb_build_object('url', :'url' || '/' || p))) FROM unnest('{echo,text,binary,typed,empty,notjson,status/404,status/302,flaky,later/0,later-date/1,cut,half-header,hang,endless,headers,many-headers/1100,bomb,gzip,moved,early,closes}'::text[]) p;
SELECT count(romancy.start_workflow('requests', jsonb_build_object('url', :'url' || '/fuzz/' || n || '-' || extract(epoch FROM now())::bigint))) FROM generate_series(1, 100) n;
SELECT count(romancy.send_event('posted', '/test', to_jsonb(n))) FROM generate_series(1, 20) n;
\endif
DO $$
BEGIN
	FOR i IN 1..600 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM romancy.instances WHERE finished_at IS NULL);
		PERFORM pg_sleep(0.2);
		COMMIT;
	END LOOP;
END $$;
SELECT workflow, status, count(*) FROM romancy.instances GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FROM romancy.instances i, romancy.get_history(i.instance_id);
SELECT count(*) FROM romancy.list_instances('{"status": "completed"}', 5);
SELECT count(*) FROM romancy.workers; SELECT count(*) FROM romancy.waiting; SELECT count(*) FROM romancy.sweeps;
SELECT length(romancy.html_report()) > 0;
SELECT length(romancy.diagram(instance_id)), length(romancy.timeline(instance_id)), length(romancy.spans(instance_id)::text) FROM romancy.instances WHERE workflow = 'steps' LIMIT 1;
SELECT romancy.retry_workflow(instance_id) FROM romancy.instances WHERE status = 'failed' AND workflow = 'outsides' LIMIT 1;
SELECT romancy.delete_workflow(instance_id) FROM romancy.instances WHERE workflow = 'steps' AND status = 'completed';
CALL romancy.drain();
SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'romancy%';
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'romancy%';
CALL romancy.run_workflow('steps', '2', timeout => '200s');
SELECT error FROM romancy.instances WHERE finished_at IS NULL AND workflow <> 'outsides';
DROP EXTENSION romancy CASCADE;
