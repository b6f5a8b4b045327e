-- The outbox: what is sent, to which destinations, what a program is given and in which order, the states it goes through, and who may do what. Time
-- passes by moving the rows' times. It would catch an event that is lost or given out twice, one of a key that overtakes another, a token
-- that still works when the lease is another program's, and an event that a role of another namespace, or with usage only, can reach.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';

CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(advance_time => true, turns => n); END $$;
CREATE FUNCTION got(max int = 100, destination text = NULL) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(f.data #>> '{}', ',' ORDER BY substr(split_part(f.token, '.', 1), 2)::int) FROM romancy.fetch_outbox(max, '1 min', destination) f $$;
CREATE FUNCTION acked() RETURNS bigint LANGUAGE sql AS $$
	SELECT romancy.ack_outbox(array(SELECT '@' || outbox_id || '.' || fence FROM romancy.t_outbox WHERE state = 1)) $$;
CREATE PROCEDURE later(by interval) LANGUAGE sql AS $$ UPDATE romancy.t_outbox SET due_at = due_at - by, created_at = created_at - by, replayed_at = replayed_at - by $$;

-- attributes
SELECT matches(romancy.send_event('a.b', '/s'), '^[0-9a-f]{8}-[0-9a-f]{4}-7', 'a new id');
SELECT is(romancy.send_event('a.b', '/s', '{"n": 1}', id => 'one', subject => 'x', datacontenttype => 'text/json', extensions => '{"trace": "t", "n": 1, "b": true}'), 'one', 'its own id');
SELECT is(romancy.send_event('a.b', '/s', '{"n": 2}', id => 'one'), 'one', 'again');
SELECT is(romancy.send_event('a.b', '/other', id => 'one', data_binary => '\x00ff'), 'one', 'of another source');
SELECT results_eq($$ SELECT type, source, specversion, subject, datacontenttype, data, data_binary, extensions, destination, ordering_key, attempt,
	deadline > clock_timestamp() AND time <= clock_timestamp() FROM romancy.fetch_outbox(10, '1 min') WHERE id = 'one' ORDER BY source DESC $$,
	$$ VALUES ('a.b', '/s', '1.0', 'x', 'text/json', '{"n": 1}'::jsonb, NULL::bytea, '{"trace": "t", "n": 1, "b": true}'::jsonb, '', NULL::text, 1, true),
	('a.b', '/other', '1.0', NULL, NULL, NULL, '\x00ff', NULL, '', NULL, 1, true) $$, 'a program gets it as it was sent, once for each source and id');
SELECT is(got(), NULL, 'and nobody else while the lease lasts');
SELECT throws_ok($$ SELECT romancy.ack_outbox('{one}') $$, 'RM012', 'event id "one" stands for several events that were fetched', 'an id of two events');
SELECT is(acked(), 3::bigint, 'acknowledged by token');
SELECT is((SELECT string_agg(DISTINCT status, ',') FROM romancy.outbox), 'published', 'published');
SELECT is(acked(), 0::bigint, 'once');
SELECT throws_ok($$ SELECT romancy.nack_outbox('one', 'late') $$, 'RM012', NULL, 'the id still stands for both: an answer about one is not taken for the other''s');
SELECT is(romancy.send_event('a.b', '/s', '{"n": 3}', id => 'one'), 'one', 'the id is known as long as the event is kept');
SELECT is(got(), NULL, 'and is not sent again');

SELECT throws_ok(format('SELECT romancy.send_event(%s)', a), 'RM012', NULL, 'refused: ' || a) FROM unnest(ARRAY[
	$$'', '/s'$$, $$'a', ''$$, $$'a', '/s', id => ''$$, $$'a', E'/s\r\nx: y'$$, $$E'a\tb', '/s'$$, $$'a', '/s', subject => E'\n'$$, $$'a', '/s', datacontenttype => E'a\rb'$$,
	$$'a', '/s', '1', data_binary => 'x'$$, $$'a', '/s', extensions => '[]'$$, $$'a', '/s', extensions => '{"Trace": "x"}'$$, $$'a', '/s', extensions => '{"id": "x"}'$$,
	$$'a', '/s', extensions => '{"x": null}'$$, $$'a', '/s', extensions => '{"x": {}}'$$, $$'a', '/s', extensions => '{"x": "a\nb"}'$$, $$'a', '/s', ordering_key => ''$$,
	$$'a', '/s', extensions => '{"x": 1.5}'$$, $$'a', '/s', extensions => '{"x": 2147483648}'$$, $$'a', '/s', subject => E'a\u0085b'$$, $$'a', '/s', extensions => '{"x": "\u009f"}'$$,
	$$'a', '/s', datacontenttype => 'text/é'$$, $$'a', '/s', ordering_key => E'\x7f'$$, $$'a', '/s', id => '@1.2'$$, $$'a', '/s', id => '@x'$$, $$'a', '/s', id => repeat('x', 1001)$$]) a;
SELECT throws_ok($$ SELECT romancy.send_event(NULL, '/s') $$, '22004', NULL, 'no type');
SELECT throws_ok($$ SELECT romancy.send_event('a', '/s', destination => 'nowhere') $$, 'RM001', 'destination "nowhere" does not exist', 'no such destination');
SELECT throws_ok($$ SELECT romancy.send_event('a', '/s', to_jsonb(repeat('x', 2000000))) $$, 'RM011', NULL, 'too large');
-- what a transaction may not write
CREATE FUNCTION read_only(q text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET LOCAL transaction_read_only = on; EXECUTE q; END $$;
SELECT throws_ok(format('SELECT read_only(%L)', 'SELECT romancy.' || a), '25006', NULL, 'READ ONLY: ' || a) FROM unnest(ARRAY[$$send_event('a', '/s')$$, $$fetch_outbox(1, '1 min')$$, $$ack_outbox('{one}')$$,
	$$nack_outbox('one', 'x')$$, $$replay_outbox('{"id": "one"}')$$, $$define_destination('d')$$, $$drop_destination('d')$$, $$pause_destination('d')$$, $$resume_destination('d')$$]) a;
SELECT is(romancy.send_event('a', '/s', '"é ü  "', subject => 'é', extensions => '{"x": -2147483648, "y": "é"}', id => 'umlaut'), 'umlaut', 'other characters are taken');
SELECT is(got(), 'é ü  ', 'as they are');
SELECT is(acked(), 1::bigint, 'settled');
SELECT is(romancy.send_event('a', '/s', id => '1.2@x'), '1.2@x', 'an id that is nearly a token');
SELECT is(got(), NULL, 'without data');
SELECT is(romancy.ack_outbox('{1.2@x,NULL,nothing}'), 1::bigint, 'is acknowledged by id; what is not there is nothing');
SELECT throws_ok(format('SELECT romancy.%s', replace(f, '$', quote_literal(a))), 'RM012', format('malformed token "%s"', a), format('no token: %s in %s', a, f))
	FROM unnest(ARRAY['@', '@1', '@1.', '@.1', '@1.2x', '@-1.2', '@x.y', '@1.1234567890123456789', '@1.2.3']) a, unnest(ARRAY['ack_outbox(ARRAY[$])', 'nack_outbox($, ''x'')']) f;

-- destinations
SELECT romancy.define_destination('shop', event_types => '{shop.*,exact}'), romancy.define_destination('all', event_types => '{*}'), romancy.define_destination('named', description => 'For those who know');
SELECT romancy.send_event('shop.order', '/s', '1'), romancy.send_event('shopping', '/s', '2'), romancy.send_event('exact', '/s', '3'), romancy.send_event('shop.order.paid', '/s', '4'),
	romancy.send_event('x', '/s', '5', destination => 'named'), romancy.send_event('shop.x', '/s', '6', destination => '');
SELECT is(got(destination => 'shop'), '1,3,4', 'types that match');
SELECT is(got(destination => 'all'), '1,2,3,4', 'all types');
SELECT is(got(destination => 'named'), '5', 'only what names it');
SELECT is(got(destination => ''), '6', 'and the one that is always there');
SELECT throws_ok($$ SELECT romancy.fetch_outbox(1, '1 min', 'nowhere') $$, 'RM001', NULL, 'no such destination');
SELECT throws_ok(format('SELECT romancy.fetch_outbox(%s)', a), 'RM012', NULL, 'refused: ' || a) FROM unnest(ARRAY['0, NULL', '1001, NULL', 'NULL, NULL', $$1, '0'$$, $$1, '8 days'$$]) a;
SELECT is(acked(), 9::bigint, 'all');
SELECT romancy.drop_destination('all');
SELECT romancy.send_event('other', '/s', '7');
SELECT is(got(destination => ''), '7', 'a dropped one gets nothing any more');
SELECT throws_ok(format('SELECT romancy.define_destination(%s)', a), 'RM012', NULL, 'refused: ' || a) FROM unnest(ARRAY[
	$$''$$, $$repeat('x', 201)$$, $$'d', event_types => '{}'$$, $$'d', event_types => '{NULL}'$$, $$'d', event_types => '{shop*}'$$, $$'d', event_types => '{*.x}'$$, $$'d', ordered => 'data'$$,
	$$'d', retry => '{"attempts": 1}'$$, $$'d', retry => '[]'$$, $$'d', retry => '{"on_exhausted": "pause"}'$$, $$'d', retry => '{"retryable_errors": []}'$$]) a;
SELECT romancy.send_event('shop.y', '/s', '8');
SELECT throws_ok($$ SELECT romancy.drop_destination('shop') $$, 'RM010', NULL, 'one with events is not dropped');
SELECT is(romancy.pause_destination('shop', 'moving'), true, 'paused');
SELECT is(romancy.pause_destination('shop'), false, 'it is');
SELECT is(got(), NULL, 'a paused one gives nothing');
SELECT is(got(destination => 'shop'), NULL, 'not by name either');
SELECT results_eq($$ SELECT paused, paused_by = current_user, note, pending, dead, event_types, owner = current_user FROM romancy.destinations WHERE name = 'shop' $$,
	$$ VALUES (true, true, 'moving', 1::bigint, 0::bigint, '{shop.*,exact}'::text[], true) $$, 'as the view shows');
SELECT romancy.define_destination('shop', event_types => '{shop.*}');
SELECT is((SELECT paused FROM romancy.destinations WHERE name = 'shop'), true, 'replaced, it stays paused');
SELECT is(romancy.resume_destination('shop'), true, 'resumed');
SELECT is(romancy.resume_destination('shop'), false, 'it is');
SELECT is(got(), '8', 'and goes on');
SELECT is(romancy.drop_destination('shop', discard => true), true, 'dropped with its events');
SELECT is(romancy.drop_destination('shop'), false, 'once');
SELECT results_eq($$ SELECT status, error FROM romancy.outbox WHERE type = 'shop.y' $$, $$ VALUES ('dead', 'the destination was dropped') $$, 'which are dead');
SELECT is(romancy.ack_outbox(array(SELECT id FROM romancy.outbox WHERE type = 'shop.y')), 0::bigint, 'and cannot be acknowledged');
SELECT throws_ok($$ SELECT romancy.pause_destination('shop') $$, 'RM001', NULL, 'no such destination to pause');
SELECT throws_ok(format('SELECT romancy.%s('''')', f), 'RM012', 'destination "" is always there and cannot be defined, dropped or paused', 'not ' || f)
	FROM unnest(ARRAY['define_destination', 'drop_destination', 'pause_destination', 'resume_destination']) f;
CREATE FUNCTION hint_of(q text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE h text; BEGIN EXECUTE q; RETURN 'none'; EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT; RETURN h; END $$;
SELECT is(hint_of($$SELECT romancy.define_destination('d', retry => '{"attempts": 1}')$$), 'Keys are max_attempts, initial_interval, backoff_coefficient, max_interval, max_duration and jitter.', 'the keys that it takes');
-- a destination whose definition is rolled back has no owner
SAVEPOINT s;
SELECT romancy.define_destination('gone', event_types => '{*}');
SELECT romancy.send_event('q', '/s', '9');
SELECT is(got(destination => 'gone'), '9', 'defined and used in one transaction');
ROLLBACK TO s;
SELECT romancy.send_event('q', '/s', '10');
SELECT is(got(destination => ''), '10', 'rolled back: the event goes where it went before');
SELECT is(acked(), 2::bigint, 'settled');

-- ordering keys
SELECT romancy.send_event('k', '/s', to_jsonb(n), ordering_key => CASE WHEN n < 7 THEN 'k' || n % 2 END) FROM generate_series(1, 8) n;
SELECT is(got(), '1,2,7,8', 'the first of each key, and all without one');
SELECT is(got(), NULL, 'then nothing');
SELECT is(romancy.nack_outbox((SELECT id FROM romancy.outbox WHERE type = 'k' AND data = '1'), 'later'), true, 'a failed one');
SELECT is(romancy.ack_outbox(array(SELECT id FROM romancy.outbox WHERE type = 'k' AND data = '2')), 1::bigint, 'a published one');
SELECT is(got(), '4', 'only the key whose event is final goes on');
CALL later('1 min');
SELECT is(romancy.run_sweep('outbox'), 3::bigint, 'three leases have ended');
CALL later('2 s');
SELECT is(got(), '1,4,7,8', 'each key with the event that it was at');
SELECT is(acked(), 4::bigint, 'acknowledged');
SELECT is(got(), '3,6', 'the next');
SELECT is(acked(), 2::bigint, 'acknowledged');
SELECT is(got(), '5', 'and the last');
SELECT is(acked(), 1::bigint, 'acknowledged');
SELECT romancy.define_destination('line', event_types => '{line}', ordered => 'all'), romancy.define_destination('subjects', event_types => '{line}', ordered => 'subject');
SELECT romancy.send_event('line', '/s', to_jsonb(n), subject => CASE WHEN n < 5 THEN 's' || n % 2 END, ordering_key => CASE WHEN n = 4 THEN 'own' END) FROM generate_series(1, 6) n;
SELECT is(got(destination => 'line'), '1', 'ordered all: one after the other, whatever keys they have');
SELECT is(got(destination => 'subjects'), '1,2,4,5,6', 'by subject, unless they bring a key');
SELECT is(acked(), 6::bigint, 'settled');
SELECT is(got(destination => 'line'), '2', 'the next');
SELECT is(got(destination => 'subjects'), '3', 'the next');
-- one that is final in any other way lets the next one go, too
UPDATE romancy.t_outbox SET attempt = 5 WHERE state = 1;
SELECT is(romancy.nack_outbox(token, 'no'), true, 'the last attempt') FROM (SELECT '@' || outbox_id || '.' || fence AS token FROM romancy.t_outbox WHERE state = 1) t;
SELECT is(got(destination => 'line'), '3', 'after a dead one the next');
SELECT romancy.drop_destination('line', true), romancy.drop_destination('subjects', true);

-- attempts
SELECT romancy.define_destination('hard', event_types => '{hard}', retry => '{"max_attempts": 2, "initial_interval": "10 min", "max_interval": "1 h", "jitter": 0}');
SELECT romancy.send_event('hard', '/s', '1', id => 'h1'), romancy.send_event('hard', '/s', '2', id => 'h2');
SELECT is(got(), '1,2', 'given out');
SELECT is(romancy.nack_outbox('h1', repeat('e', 5000)), true, 'the first attempt fails');
SELECT is(romancy.nack_outbox('h1', 'x'), false, 'once');
SELECT results_eq($$ SELECT status, attempt, length(error), next_attempt - clock_timestamp() BETWEEN '9 min' AND '10 min', lease_until IS NULL FROM romancy.outbox WHERE id = 'h1' $$,
	$$ VALUES ('pending', 1, 4096, true, true) $$, 'it waits as the policy says');
CALL later('10 min');
SELECT is(romancy.run_sweep('outbox'), 1::bigint, 'the other lease ends');
SELECT is((SELECT next_attempt - clock_timestamp() BETWEEN '50 s' AND '1 min' FROM romancy.outbox WHERE id = 'h2'), true, 'that was an attempt: it waits as well, from the end of the lease on');
SELECT is(got(), '1', 'the failed one again');
CALL later('1 min');
SELECT is(got(), '2', 'and the other one');
SELECT is(romancy.nack_outbox('h1', 'still'), true, 'it fails again');
CALL later('10 min');
SELECT is(romancy.run_sweep('outbox'), 1::bigint, 'and the other lease ends again');
SELECT results_eq($$ SELECT id, status, attempt, error, finished_at IS NOT NULL FROM romancy.outbox WHERE type = 'hard' ORDER BY id $$,
	$$ VALUES ('h1', 'dead', 2, 'still', true), ('h2', 'dead', 2, 'the lease ended before the event was acknowledged', true) $$, 'dead after two attempts');
SELECT is((romancy.health() -> 'attention')::text LIKE '%events of the outbox%', true, 'health tells of dead events');
SELECT matches(romancy.metrics(), 'romancy_outbox_events\{namespace="[^"]*",destination="hard",status="dead"\} 2', 'metrics, too');

-- the end of a lease is a failed attempt by max_duration, too
SELECT romancy.define_destination('brief', event_types => '{brief}', retry => '{"max_duration": "5 min", "jitter": 0}');
SELECT romancy.send_event('brief', '/s', '1', id => 'b1');
SELECT is((SELECT count(*) FROM romancy.fetch_outbox(1, '10 min', 'brief')), 1::bigint, 'given out');
CALL later('10 min');
SELECT is(romancy.run_sweep('outbox'), 1::bigint, 'the lease ends after the time that the event has');
SELECT is((SELECT status FROM romancy.outbox WHERE id = 'b1'), 'dead', 'it is dead');
SELECT romancy.drop_destination('brief');
SELECT unalike(romancy.metrics(), '%destination="brief"%', 'a dropped destination is not in the metrics');

-- a token is of one lease, also where a lease was rolled back
SELECT romancy.send_event('s', '/s', '1', id => 's1');
SAVEPOINT lease;
SELECT token AS rolled_back FROM romancy.fetch_outbox(1, '1 min', '') \gset
ROLLBACK TO lease;
SELECT is((SELECT token = :'rolled_back' FROM romancy.fetch_outbox(1, '1 min', '')), false, 'the next lease has another token');
SELECT is(romancy.ack_outbox(ARRAY[:'rolled_back']), 0::bigint, 'and the former is worth nothing');
SELECT is(romancy.ack_outbox('{s1}'), 1::bigint, 'settled');
SELECT romancy.send_event('t', '/s', '1', id => 't1');
CREATE TEMP TABLE tokens AS SELECT token FROM romancy.fetch_outbox(1, '1 min');
CALL later('1 min');
SELECT romancy.run_sweep('outbox');
CALL later('2 s');
SAVEPOINT s;
SELECT is(romancy.nack_outbox(token, 'late'), false, 'no nack after the lease') FROM tokens;
SELECT is(romancy.ack_outbox(array(SELECT token FROM tokens)), 1::bigint, 'but an ack, while nobody else has it');
SELECT is(got(), NULL, 'it is not sent twice then');
ROLLBACK TO s;
SELECT is(got(), '1', 'another program has it');
SELECT is(romancy.ack_outbox(array(SELECT token FROM tokens)), 0::bigint, 'no ack');
SELECT is(romancy.nack_outbox((SELECT token FROM tokens), 'late'), false, 'no nack');
SELECT is(romancy.ack_outbox('{t1}'), 1::bigint, 'by id it is acknowledged');

-- replay, age, retention
SELECT throws_ok(format('SELECT romancy.replay_outbox(%s)', a), 'RM012', NULL, 'refused: ' || a) FROM unnest(ARRAY[$$'{}'$$, $$'[]'$$, $$'{"x": "y"}'$$, $$'{"status": "pending"}'$$, $$'{"id": 1}'$$, $$'{"sent_after": "never"}'$$]) a;
SELECT throws_ok($$ SELECT romancy.replay_outbox(NULL) $$, '22004', NULL, 'no filter');
SELECT is(romancy.replay_outbox('{"status": "dead", "destination": "hard", "sent_before": "infinity"}'), 2::bigint, 'the dead ones again');
SELECT is(romancy.replay_outbox('{"status": "dead", "destination": "hard"}'), 0::bigint, 'once');
SELECT results_eq($$ SELECT status, attempt, error FROM romancy.outbox WHERE type = 'hard' $$, $$ VALUES ('pending', 0, NULL::text), ('pending', 0, NULL) $$, 'as new');
SELECT is(got(), '1,2', 'given out');
SELECT is(romancy.ack_outbox('{h1,h2}'), 2::bigint, 'published');
SELECT is(romancy.replay_outbox('{"id": "h1", "type": "hard", "source": "/s"}'), 1::bigint, 'a published one');
SELECT is(got(), '1', 'goes again');
SELECT is(romancy.ack_outbox('{h1}'), 1::bigint, 'settled');
SELECT ok(count(*) > 20, 'what was published is kept') FROM romancy.outbox WHERE status = 'published';
CALL later('25 hours');
SELECT romancy.run_sweep('outbox');
SELECT results_eq($$ SELECT DISTINCT status FROM romancy.outbox $$, ARRAY['dead'], 'for a day; dead ones longer');
CALL later('31 days');
SELECT romancy.run_sweep('outbox');
SELECT is((SELECT count(*) FROM romancy.outbox), 0::bigint, 'until romancy.retention');

-- in a handler it is a step, in an activity part of its transaction
CREATE FUNCTION noisy(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.send_event('act', '/a', $1); IF $1 = '0' THEN RAISE EXCEPTION 'no' USING ERRCODE = '22012'; END IF; RETURN $1; END $$;
SELECT romancy.define_activity('noisy', 'noisy(jsonb)', retry => '{"max_attempts": 3, "initial_interval": "0"}');
CREATE FUNCTION sender(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE a text; b text;
BEGIN
	a := romancy.send_event('step', '/w', i, subject => 'x');
	PERFORM romancy.sleep('1 ms');
	b := romancy.send_event('step', '/w', i, data_binary => NULL, ordering_key => 'k');
	BEGIN PERFORM romancy.activity('noisy', '0'); EXCEPTION WHEN OTHERS THEN NULL; END;
	PERFORM romancy.activity('noisy', '1');
	RETURN jsonb_build_object('a', a, 'b', b);
END $$;
CREATE TEMP TABLE inst AS SELECT romancy.start_workflow('sender', '"i"') AS id;
CALL settle();
SELECT results_eq($$ SELECT o.type, o.instance_id = inst.id, o.data, o.id = i.output ->> 'a' OR o.id = i.output ->> 'b' OR o.type = 'act'
	FROM romancy.outbox o, inst JOIN romancy.instances i ON i.instance_id = inst.id ORDER BY o.type, o.time $$,
	$$ VALUES ('act', true, '1'::jsonb, true), ('step', true, '"i"', true), ('step', true, '"i"', true) $$, 'each step once; of the activity only what was committed');
SELECT results_eq($$ SELECT h.event_type, h.activity_id FROM inst, romancy.get_history(inst.id) h WHERE h.event_type = 'EventSent' ORDER BY h.seq $$,
	$$ VALUES ('EventSent', 'send_event_step:1'), ('EventSent', 'send_event_step:2') $$, 'recorded');
SELECT is_empty($$ SELECT * FROM romancy.check_replay('sender') $$, 'and replayed');
CREATE FUNCTION fetcher(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.fetch_outbox(1, '1 min'); RETURN 'null'; END $$;
SELECT romancy.start_workflow('fetcher');
CALL settle();
SELECT is(error ->> 'sqlstate', 'RM004', 'a handler cannot fetch') FROM romancy.instances WHERE workflow = 'fetcher';
CREATE FUNCTION started(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
SELECT romancy.define_workflow('started', 'started(jsonb)', on_event => 'loop');
SELECT romancy.send_event('loop', '/s');
CALL settle();
SELECT is((SELECT count(*) FROM romancy.instances WHERE workflow = 'started'), 0::bigint, 'what is sent starts nothing here');
SELECT ok(got() IS NOT NULL, 'taken');
SELECT ok(acked() > 0, 'settled');

-- rights: a and b are in one namespace, user has usage only there, c is elsewhere
CREATE ROLE ob_a; CREATE ROLE ob_b; CREATE ROLE ob_c; CREATE ROLE ob_user; CREATE ROLE ob_monitor; CREATE ROLE ob_none;
SELECT romancy.grant_usage('ob_a', namespace => 'ob'), romancy.grant_usage('ob_b', namespace => 'ob'), romancy.grant_usage('ob_c'), romancy.grant_usage('ob_user', namespace => 'ob', define => false),
	romancy.grant_usage('ob_monitor', monitor => true);
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO ob_a, ob_b, ob_c, ob_user, ob_monitor;
SET ROLE ob_a;
SELECT romancy.define_destination('da', event_types => '{da.*}');
SELECT romancy.send_event('da.x', '/a', '1', id => 'a1'), romancy.send_event('own', '/a', '2', id => 'a2'), romancy.send_event('own', '/a', '3', id => 'a3', ordering_key => 'k');
SET ROLE ob_user;
SELECT throws_ok($$ SELECT romancy.define_destination('du') $$, '42501', NULL, 'usage only: no destination');
SELECT throws_ok($$ SELECT romancy.define_destination('da') $$, '42501', NULL, 'nor in place of one');
SELECT is(romancy.send_event('da.y', '/u', '4', id => 'u1'), 'u1', 'but it sends');
SELECT is(romancy.send_event('own', '/u', '5', id => 'u2', ordering_key => 'k'), 'u2', 'also with a key that others use');
SELECT is(got(), '4', 'and fetches what it has sent, in the order of its key');
SELECT is(romancy.nack_outbox('a1', 'x'), false, 'nothing of others');
SELECT is(romancy.ack_outbox('{a1,a2,a3}'), 0::bigint, 'nor acknowledges it');
SELECT is((SELECT string_agg(id, ',' ORDER BY id) FROM romancy.outbox), 'u1,u2', 'and sees it');
SELECT results_eq($$ SELECT name, owner, pending + fetched FROM romancy.destinations ORDER BY name $$, $$ VALUES ('', NULL::text, 1::bigint), ('da', NULL, 1) $$, 'destinations likewise');
SELECT throws_ok($$ SELECT romancy.pause_destination('da') $$, '42501', 'must be owner of destination "da"', 'another role''s destination cannot be paused');
SELECT throws_ok($$ SELECT romancy.resume_destination('da') $$, '42501', NULL, 'nor resumed');
SELECT throws_ok($$ SELECT romancy.drop_destination('da', true) $$, '42501', NULL, 'nor dropped');
SELECT is(romancy.replay_outbox('{"source": "/a"}'), 0::bigint, 'nothing of others is replayed');
SELECT throws_ok($$ SELECT * FROM romancy.t_outbox $$, '42501', NULL, 'no table');
SELECT throws_ok($$ SELECT * FROM romancy.t_destination $$, '42501', NULL, 'can be read');
SELECT is(romancy.ack_outbox('{u1}'), 1::bigint, 'its own is acknowledged');
SET ROLE ob_b;
SELECT throws_ok($$ SELECT romancy.define_destination('da') $$, '42501', NULL, 'another role that may define does not replace it');
SELECT is(got(), NULL, 'and gets nothing of others');
SELECT is((SELECT count(*) FROM romancy.outbox), 0::bigint, 'nor sees it');
SET ROLE ob_a;
SELECT is(got(), '1,2,3', 'the owner of the destination and sender gets his');
SELECT is((SELECT string_agg(id, ',' ORDER BY id) FROM romancy.outbox), 'a1,a2,a3,u1', 'sees what goes to his destination');
SELECT is(romancy.ack_outbox('{a1,a3}'), 2::bigint, 'settles');
SET ROLE ob_user;
SELECT is(got(), '5', 'now the key is free for another role''s event');
SET ROLE ob_c;
SELECT is(got(), NULL, 'another namespace: nothing to fetch');
SELECT is((SELECT count(*) FROM romancy.outbox) + (SELECT count(*) FROM romancy.destinations), 0::bigint, 'or to see');
SELECT throws_ok($$ SELECT romancy.send_event('x', '/c', destination => 'da') $$, 'RM001', NULL, 'its destinations are not there');
SELECT throws_ok($$ SELECT romancy.pause_destination('da') $$, 'RM001', NULL, 'to pause');
SELECT is(romancy.drop_destination('da', true), false, 'or to drop');
SELECT is(romancy.ack_outbox('{a2,u2}'), 0::bigint, 'its events not to acknowledge');
SELECT is(romancy.nack_outbox('a2', 'x'), false, 'or to give back');
SELECT is(romancy.ack_outbox(array(SELECT '@' || n || '.1' FROM generate_series(1, 200) n)), 0::bigint, 'guessed tokens are worth nothing');
SELECT lives_ok($$ SELECT romancy.define_destination('da') $$, 'the same name is free here');
SELECT is(romancy.send_event('own', '/a', '6', id => 'a2'), 'a2', 'the same id is another event here');
SELECT is(got(), '6', 'of this role');
SET ROLE ob_monitor;
SELECT is((SELECT count(*) FROM romancy.outbox WHERE source IN ('/a', '/u')), 7::bigint, 'a monitor sees all');
SELECT is(got(), NULL, 'and fetches nothing');
-- an id that another role of the namespace has used: the event is sent all the same
SET ROLE ob_b;
SELECT is(romancy.send_event('own', '/a', '"b"', id => 'same'), 'same', 'one role sends');
SET ROLE ob_a;
SELECT is(romancy.send_event('own', '/a', '"a"', id => 'same'), 'same', 'another one, too');
SELECT is((SELECT count(*) FROM romancy.outbox WHERE id = 'same' AND status = 'pending'), 1::bigint, 'and its event is there');
-- a name that another role defines anew: the events of the dropped destination stay with those who sent them
SET ROLE ob_a;
SELECT romancy.define_destination('passed_on', event_types => '{passed.*}');
SET ROLE ob_user;
SELECT romancy.send_event('passed.x', '/u', '"old"', id => 'old1'), romancy.send_event('passed.x', '/u', '"late"', id => 'late1', ordering_key => 'k');
SET ROLE ob_a;
SELECT is(romancy.ack_outbox(array(SELECT token FROM romancy.fetch_outbox(9, '1 min', 'passed_on') WHERE id = 'old1')), 1::bigint, 'one event is published');
SELECT is(romancy.drop_destination('passed_on', discard => true), true, 'its owner drops it');
RESET ROLE;
-- what a transaction sends while another one drops it lives on
UPDATE romancy.t_outbox SET state = 0, attempt = 0, due_at = now() WHERE id = 'late1';
SET ROLE ob_b;
SELECT romancy.define_destination('passed_on', event_types => '{passed.*}');
SELECT is((SELECT count(*) FROM romancy.outbox WHERE destination = 'passed_on'), 0::bigint, 'another role that defines the name anew sees none of them');
SELECT is(romancy.replay_outbox('{"destination": "passed_on"}'), 0::bigint, 'replays none');
SELECT is((SELECT count(*) FROM romancy.fetch_outbox(9, '1 min', 'passed_on')), 0::bigint, 'and fetches none');
SELECT results_eq($$ SELECT pending, dead FROM romancy.destinations WHERE name = 'passed_on' $$, $$ VALUES (0::bigint, 0::bigint) $$, 'nor are they counted');
SET ROLE ob_user;
SELECT is(romancy.send_event('passed.x', '/u', '"new"', id => 'new1', ordering_key => 'k'), 'new1', 'an event for the new one');
SET ROLE ob_b;
SELECT is(got(destination => 'passed_on'), 'new', 'does not wait for one of the old one''s with its key');
SELECT is(romancy.ack_outbox('{new1}'), 1::bigint, 'settled');
SET ROLE ob_user;
SELECT is(got(), 'late', 'the sender fetches what is left');
SELECT is(romancy.ack_outbox('{late1}'), 1::bigint, 'and settles it');
SELECT is(romancy.replay_outbox('{"id": "old1"}'), 1::bigint, 'or sends it again');
SET ROLE ob_b;
SELECT is(got(destination => 'passed_on'), 'old', 'to the destination that has the name now');
SELECT is(romancy.ack_outbox('{old1}'), 1::bigint, 'settled');
RESET ROLE;
-- an event that is replayed has all of its time again
SELECT romancy.define_destination('short', retry => '{"max_duration": "1 min", "initial_interval": "1 s"}', event_types => '{short.*}');
SELECT romancy.send_event('short.x', '/s', id => 'short1');
CALL later('2 min');
SELECT is((SELECT count(*) FROM romancy.fetch_outbox(1, '1 min', 'short')), 1::bigint, 'an old event is fetched');
SELECT is(romancy.nack_outbox('short1', 'no'), true, 'and fails');
SELECT is((SELECT status FROM romancy.outbox WHERE id = 'short1'), 'dead', 'its time is over');
SELECT is(romancy.replay_outbox('{"id": "short1"}'), 1::bigint, 'it is replayed');
SELECT is((SELECT count(*) FROM romancy.fetch_outbox(1, '1 min', 'short')), 1::bigint, 'fetched again');
SELECT is(romancy.nack_outbox('short1', 'no'), true, 'and fails again');
SELECT is((SELECT status FROM romancy.outbox WHERE id = 'short1'), 'pending', 'but is tried again');
SET ROLE ob_none;
SELECT throws_ok($$ SELECT romancy.send_event('x', '/n') $$, '42501', NULL, 'without a grant nothing');
RESET ROLE;

-- what a receiver has answered, and its URL, are for the destination's owner
SET ROLE ob_b;
SELECT romancy.define_destination('theirs');
SET ROLE ob_user;
SELECT lives_ok($$ SELECT romancy.send_event('theirs', '/a', id => 'theirs' || n, destination => 'theirs') FROM generate_series(1, 3) n $$, 'sent to another role''s destination');
RESET ROLE;
UPDATE romancy.t_outbox SET error = 'POST https://h.example.com/hidden: HTTP 404: HTTP 999 body' WHERE id = 'theirs1';
UPDATE romancy.t_outbox SET error = 'POST https://h.example.com/hidden: Could not resolve host: h.example.com' WHERE id = 'theirs2';
UPDATE romancy.t_outbox SET error = 'a program''s' WHERE id = 'theirs3';
SET ROLE ob_user;
SELECT is((SELECT string_agg(error, '; ' ORDER BY id) FROM romancy.outbox WHERE destination = 'theirs'), 'HTTP 404; no answer; a program''s', 'the sender sees the status');
RESET ROLE;
SET ROLE ob_b;
SELECT is((SELECT error FROM romancy.outbox WHERE id = 'theirs1'), 'POST https://h.example.com/hidden: HTTP 404: HTTP 999 body', 'the owner sees all');
SELECT romancy.drop_destination('theirs', discard => true);
RESET ROLE;
UPDATE romancy.t_outbox SET error = 'POST https://h.example.com/hidden: HTTP 404: body' WHERE id = 'theirs1';
SET ROLE ob_user;
SELECT is((SELECT error FROM romancy.outbox WHERE id = 'theirs1'), 'HTTP 404', 'nor is it told after the destination was dropped');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
