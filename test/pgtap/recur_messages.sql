-- A mailbox stays when its instance continues in another one: recur() writes none
-- of the messages that are not received yet, however many; the deletion of an old generation takes
-- nothing of it, nor gives it to who starts with that id; and the end of the last one empties it.
-- It would catch a recur whose cost grows with the backlog, as it did, and messages that are
-- lost or received twice on the way.
BEGIN;
SELECT no_plan();
CREATE FUNCTION run() RETURNS void LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); END $$;
CREATE TABLE got (n int GENERATED ALWAYS AS IDENTITY, generation int, what jsonb);
CREATE FUNCTION note(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO got (generation, what) VALUES ((input->>'generation')::int, input->'what'); RETURN NULL; END $$;
-- ten of each channel, then the next generation; 'rest' before each, so that there is time to look
CREATE FUNCTION listens(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE m romancy.message; g int := (input->>'generation')::int; channel text;
BEGIN
	PERFORM romancy.subscribe('all');
	IF g > 1 THEN PERFORM romancy.receive('rest'); END IF;
	FOREACH channel IN ARRAY ARRAY['all', 'mine'] LOOP
		FOR i IN 1 .. 10 LOOP
			m := romancy.receive(channel);
			PERFORM romancy.activity('note', jsonb_build_object('generation', g, 'what', m.data));
			IF m.data = '"fail"' THEN RAISE EXCEPTION 'fails'; END IF;
			IF m.data = '"stop"' THEN RETURN to_jsonb(g); END IF;
		END LOOP;
	END LOOP;
	RETURN romancy.recur(jsonb_build_object('generation', g + 1));
END $$;
CREATE VIEW live AS SELECT instance_id AS id FROM romancy.instances WHERE workflow = 'listens' AND status LIKE 'waiting%';
CREATE FUNCTION live() RETURNS uuid LANGUAGE sql AS 'SELECT id FROM live';
CREATE FUNCTION undelivered() RETURNS bigint LANGUAGE sql AS $$
	SELECT (SELECT count(*) FROM romancy.t_delivery WHERE NOT received) + (SELECT count(*) FROM romancy.t_message WHERE kind = 'd') $$;
-- rows written in this transaction, but for those that have come in
CREATE FUNCTION written() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_updated(c) + pg_stat_get_xact_tuples_deleted(c))::bigint
	FROM unnest(ARRAY['romancy.t_delivery', 'romancy.t_message']::regclass[]) c $$;

SELECT romancy.start_workflow('listens', '{"generation": 1}') AS first \gset
SELECT run();
SELECT count(romancy.publish('all', to_jsonb(i))) FROM generate_series(1, 300) i;
SELECT count(romancy.send_to(:'first', 'mine', to_jsonb(1000 + i))) FROM generate_series(1, 200) i;
SELECT written() AS before \gset
SELECT run();
SELECT is((SELECT string_agg(DISTINCT generation::text, ' ') || ': ' || count(*) FROM got), '1: 20', 'the first generation has had twenty');
SELECT is((SELECT count(*) FROM romancy.instances WHERE continued_from = :'first'), 1::bigint, 'and has continued');
SELECT is(undelivered(), 480::bigint, 'the others are there');
SELECT cmp_ok(written() - :before, '<=', 20::bigint, 'and those were not written again: rows are written for what is received');

-- who is addressed
SELECT throws_ok(format('SELECT romancy.send_to(%L, ''mine'')', :'first'), 'RM010', NULL, 'the old one receives nothing more');
SELECT lives_ok('SELECT romancy.send_to(live(), ''mine'', ''1201'')', 'the live one does');
SELECT is((SELECT depth FROM romancy.channels WHERE channel = 'all'), 290::bigint, 'view channels counts what was broadcast');
SELECT is((SELECT depth FROM romancy.channels WHERE channel = 'mine'), 191::bigint, 'and what was sent to it');

-- the first generation is deleted, as retention would
SELECT live() AS second \gset
SELECT ok(romancy.delete_workflow(:'first'), 'the first generation is deleted');
SELECT is(undelivered(), 481::bigint, 'which takes nothing of the mailbox');
SELECT throws_ok(format('SELECT romancy.start_workflow(''listens'', ''{"generation": 1}'', %L)', :'first'), '23505', NULL, 'nobody else gets its id, and with it the mailbox');
SELECT is((SELECT depth FROM romancy.channels WHERE channel = 'mine'), 191::bigint, 'view channels still finds the receiver');
SELECT ok(romancy.run_sweep('channel_cleanup') IS NOT NULL, 'channel_cleanup runs');
SELECT is(undelivered(), 481::bigint, 'and leaves what somebody has still to receive');

-- a fork has a mailbox of its own
SELECT romancy.fork_workflow(:'second', 'receive_rest:1') AS fork \gset
SELECT run();
SELECT lives_ok(format('SELECT romancy.send_to(%L, ''rest'')', :'fork'), 'a fork goes on');
SELECT run();
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'fork'), 'waiting_for_message', 'and waits');
SELECT is(undelivered(), 481::bigint, 'it receives nothing of the other''s');
SELECT romancy.terminate_workflow(:'fork');
SELECT run();
SELECT ok(romancy.delete_workflow(:'fork'), 'it is deleted');
SELECT is(undelivered(), 481::bigint, 'and takes nothing away');

-- from generation to generation, in order, each once
SELECT romancy.send_to(live(), 'rest');
SELECT run();
SELECT romancy.send_to(live(), 'rest');
SELECT run();
SELECT is((SELECT string_agg(what #>> '{}', ' ' ORDER BY n) FROM got), (SELECT string_agg(x::text, ' ' ORDER BY g, x) FROM (
	SELECT i AS x, 2 * ((i - 1) / 10) AS g FROM generate_series(1, 30) i UNION ALL SELECT 1000 + i, 2 * ((i - 1) / 10) + 1 FROM generate_series(1, 30) i) y), 'sixty, in order, each once');
SELECT is((SELECT string_agg(g || ': ' || c, ', ' ORDER BY g) FROM (SELECT generation, count(*) FROM got GROUP BY 1) x (g, c)), '1: 20, 2: 20, 3: 20', 'by three generations');

-- it fails, and keeps its mailbox for a retry, until it is deleted
DELETE FROM romancy.t_delivery;
SELECT undelivered() AS before \gset
SELECT romancy.publish('all', '"fail"');
SELECT live() AS last \gset
SELECT romancy.send_to(live(), 'rest');
SELECT run();
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'last'), 'failed', 'the last generation fails');
SELECT is(undelivered(), :before::bigint, 'its mailbox stays');
SELECT throws_ok(format('SELECT romancy.start_workflow(''listens'', ''{"generation": 1}'', %L)', :'first'), '23505', NULL, 'which it keeps');
SELECT romancy.retry_workflow(:'last');
SELECT run();
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'last'), 'failed', 'it fails again, for it has received that');
SELECT ok(romancy.delete_workflow(:'last'), 'it is deleted');
SELECT is(undelivered(), 0::bigint, 'and the mailbox with it');
SELECT lives_ok(format('SELECT romancy.start_workflow(''listens'', ''{"generation": 1}'', %L)', :'first'), 'then the id is free');
SELECT * FROM finish();
ROLLBACK;
