-- record() and suspend(): all that a handler can do, for a program that runs workflow code. Would
-- catch a step that a program records or asks for and history does not hold as a handler's.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE SCHEMA protocol_test;
SET LOCAL search_path = protocol_test, public;
CREATE FUNCTION sq(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(i::int * i::int); END $$;
CREATE FUNCTION undo(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION child(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 s'); RETURN i; END $$;
CREATE FUNCTION listener(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb((romancy.receive('protocol_out')).data); END $$;
SELECT romancy.define_workflow('prot', queue => 'protocol_q');
SELECT romancy.start_workflow('prot', '{"a": 1}') AS id \gset
CALL romancy.drain() \gset
SELECT token, history FROM romancy.fetch_workflows('protocol_q', 'w') \gset
\echo :history

-- what was done is recorded, once, in one call
SELECT romancy.record(:'token', '[
	{"op": "activity", "id": "charge:1", "name": "charge", "input": {"n": 1}, "result": 5},
	{"op": "activity", "id": "mail:1", "name": "mail", "input": null, "error": {"message": "no route", "code": "ValueError", "detail": {"a": 1}}},
	{"op": "now", "id": "workflow_now:1", "value": "2026-01-01T00:00:00Z"},
	{"op": "random", "id": "workflow_random:1", "value": 0.5},
	{"op": "uuid", "id": "workflow_uuid:1", "value": "00000000-0000-0000-0000-000000000001"},
	{"op": "patched", "id": "patched_x:1", "change": "x"},
	{"op": "set_value", "id": "set_value:1", "key": "stage", "value": "charged"},
	{"op": "set_labels", "id": "set_labels:1", "labels": {"k": "v"}},
	{"op": "register_compensation", "id": "register_compensation:1", "activity": "undo", "input": 7},
	{"op": "progress", "done": 1, "total": 4, "note": "one"}]');
SELECT seq, event_type, activity_id, data - 'detail' AS data FROM romancy.read_history(:'token');
SELECT romancy.get_value(:'id', 'stage'), (SELECT labels FROM romancy.instances WHERE instance_id = :'id');
SELECT completed, total, note FROM romancy.get_progress(:'id');
-- again, after a lost connection, say
SELECT romancy.record(:'token', '[{"op": "activity", "id": "charge:1", "name": "charge", "input": {"n": 1}, "result": 6},
	{"op": "activity", "id": "charge:2", "name": "charge", "input": {"n": 2}, "result": 7}]');
SELECT seq, activity_id, data -> 'result' AS result FROM romancy.read_history(:'token', 8);

-- commands, scheduled together, and what to wait for
SELECT romancy.suspend(:'token', '[
	{"op": "subscribe", "id": "subscribe_news:1", "channel": "news"},
	{"op": "publish", "id": "publish_out:1", "channel": "protocol_out", "data": "published"},
	{"op": "join_group", "id": "join_group_g:1", "name": "protocol_g"},
	{"op": "activity", "id": "sq:1", "name": "sq", "input": 3},
	{"op": "activity", "id": "second", "name": "sq", "input": 4},
	{"op": "timer", "id": "spawn_timer:1", "duration": "1 hour"},
	{"op": "receive", "id": "spawn_receive_m:1", "channel": "m"},
	{"op": "child", "id": "child:1", "name": "child", "input": "young"}]',
	'{"all": ["sq:1", "second"]}');
CALL romancy.drain() \gset
SELECT token, history FROM romancy.fetch_workflows('protocol_q', 'w') \gset
SELECT x ->> 'event_type' AS event_type, x ->> 'activity_id' AS activity_id, x #> '{data,result}' AS result
	FROM jsonb_array_elements(:'history') WITH ORDINALITY e(x, n) WHERE n > 10 AND x ->> 'activity_id' NOT LIKE 'publish%' ORDER BY n;
SELECT count(*) FROM romancy.group_members('protocol_g') g WHERE g = :'id';
-- any of the others; the message comes
SELECT romancy.suspend(:'token', '[]', '{"any": ["spawn_timer:1", "spawn_receive_m:1"]}');
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';
SELECT romancy.send_to(:'id', 'm', '{"hello": 1}') IS NOT NULL AS sent;
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w') \gset
SELECT event_type, activity_id, data #> '{result,data}' AS message FROM romancy.read_history(:'token') ORDER BY seq DESC LIMIT 1;
-- in vain: the timeout is recorded
SELECT romancy.suspend(:'token', '[{"op": "receive", "id": "spawn_receive_m:2", "channel": "m"}]',
	'{"any": ["spawn_receive_m:2"], "timeout": "1 minute", "id": "await_any:1"}');
CALL romancy.drain(advance_time => true) \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w') \gset
SELECT event_type, activity_id, data #>> '{error,sqlstate}' AS sqlstate FROM romancy.read_history(:'token') WHERE event_type = 'AwaitTimeout';
SELECT romancy.complete_workflow(:'token');
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id';

-- without wait_for the last command is called as a handler calls it: no announcement in history
SELECT romancy.start_workflow('prot') AS id2 \gset
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w') \gset
SELECT romancy.suspend(:'token', '[{"op": "activity", "id": "sq:1", "name": "sq", "input": 5}]');
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w') \gset
SELECT romancy.suspend(:'token', '[{"op": "timer", "id": "sleep:1", "duration": "10 s"}]');
CALL romancy.drain(advance_time => true) \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w') \gset
SELECT romancy.suspend(:'token', '[{"op": "receive", "id": "receive_c:1", "channel": "c", "timeout": "1 s"}]');
CALL romancy.drain(advance_time => true) \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w') \gset
SELECT romancy.suspend(:'token', '[{"op": "child", "id": "kid", "name": "child", "input": 1}]');
CALL romancy.drain(advance_time => true) \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w') \gset
SELECT event_type, activity_id, data -> 'result' AS result FROM romancy.read_history(:'token');
-- compensations of a program: registered, run, counted
SELECT romancy.record(:'token', '[{"op": "register_compensation", "id": "register_compensation:1", "activity": "undo", "input": 1}]');
SELECT romancy.suspend(:'token', '[{"op": "compensate", "id": "compensate:1"}]');
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w') \gset
SELECT event_type, activity_id, data -> 'result' AS result FROM romancy.read_history(:'token') WHERE event_type LIKE 'Compensat%';
-- recur
SELECT romancy.suspend(:'token', '[{"op": "recur", "id": "recur:1", "input": {"generation": 2}}]');
CALL romancy.drain() \gset
SELECT status FROM romancy.instances WHERE instance_id = :'id2';
SELECT input, status FROM romancy.instances WHERE continued_from = :'id2';

-- a changed program is paused, by record and by suspend and by itself
SELECT romancy.start_workflow('prot') AS id3 \gset
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w', 10) WHERE instance_id = :'id3' \gset
SELECT romancy.record(:'token', '[{"op": "activity", "id": "a:1", "name": "a", "input": 1, "result": 1}]');
SELECT romancy.record(:'token', '[{"op": "activity", "id": "a:1", "name": "a", "input": 2, "result": 1}]');
CALL romancy.drain() \gset
SELECT status, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM romancy.instances WHERE instance_id = :'id3';
SELECT romancy.resume_workflow(:'id3');
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w', 10) WHERE instance_id = :'id3' \gset
SELECT romancy.suspend(:'token', '[{"op": "activity", "id": "a:1", "name": "a", "input": 3}]', '{"all": ["a:1"]}');
CALL romancy.drain() \gset
SELECT status, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM romancy.instances WHERE instance_id = :'id3';
SELECT romancy.resume_workflow(:'id3');
CALL romancy.drain() \gset
SELECT status, error ->> 'sqlstate' AS sqlstate FROM romancy.instances WHERE instance_id = :'id3';

-- what is wrong is said, and loses nothing
SELECT romancy.start_workflow('prot') AS id4 \gset
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w', 10) WHERE instance_id = :'id4' \gset
SELECT romancy.record(:'token', '{}');
SELECT romancy.record(:'token', '[1]');
SELECT romancy.record(:'token', '[{"op": "nop", "id": "x"}]');
SELECT romancy.record(:'token', '[{"op": "activity", "name": "x"}]');
SELECT romancy.record(:'token', '[{"op": "activity", "id": "x"}]');
SELECT romancy.record(:'token', '[{"op": "activity", "id": "x", "name": "x", "error": 5}]');
SELECT romancy.record(:'token', '[{"op": "now", "id": "x"}]');
SELECT romancy.record(:'token', '[{"op": "set_labels", "id": "x", "labels": 1}]');
SELECT romancy.record(:'token', '[{"op": "activity", "id": "x", "name": "x"}, {"op": "activity", "id": "x", "name": "x"}]');
SELECT romancy.suspend(:'token', '[]');
SELECT romancy.suspend(:'token', '[{"op": "nop", "id": "x"}]');
SELECT romancy.suspend(:'token', '[{"op": "timer", "id": "x"}]');
SELECT romancy.suspend(:'token', '[{"op": "timer", "id": "x", "duration": "soon"}]');
SELECT romancy.suspend(:'token', '[{"op": "send_to", "id": "x", "instance_id": "me", "channel": "c"}]');
SELECT romancy.suspend(:'token', '[{"op": "publish", "id": "x", "channel": ""}]');
SELECT romancy.suspend(:'token', '[{"op": "publish", "id": "x", "channel": "c", "data_binary": "#"}]');
SELECT romancy.suspend(:'token', '[{"op": "activity", "id": "x", "name": "sq", "retry": {"attempts": 1}}]');
SELECT romancy.suspend(:'token', '[{"op": "event", "id": "x", "type": "t"}, {"op": "timer", "id": "y", "duration": "1 s"}]');
SELECT romancy.suspend(:'token', '[{"op": "receive", "id": "x", "channel": "c", "timeout": "1 s"}]', '{"any": ["x"]}');
SELECT romancy.suspend(:'token', '[]', '{"any": []}');
SELECT romancy.suspend(:'token', '[]', '{"all": ["x"], "timeout": "1 s"}');
SELECT romancy.suspend(:'token', '[]', '{"some": ["x"]}');
SELECT romancy.suspend('x', '[]', '{"all": ["x"]}');
-- an unknown step to wait for pauses
SELECT romancy.suspend(:'token', '[]', '{"all": ["unknown"]}');
CALL romancy.drain() \gset
SELECT status, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM romancy.instances WHERE instance_id = :'id4';

-- canvases are commands, too, waited for or beside others
SELECT romancy.start_workflow('prot') AS id5 \gset
CALL romancy.drain() \gset
SELECT token, namespace = current_user AS own_namespace FROM romancy.fetch_workflows('protocol_q', 'w', 10) WHERE instance_id = :'id5' \gset
\echo :own_namespace
SELECT romancy.suspend(:'token', '[{"op": "canvas", "id": "x", "signature": 5}]');
SELECT romancy.suspend(:'token', '[{"op": "canvas", "id": "x"}]');
SELECT romancy.suspend(:'token', jsonb_build_array(jsonb_build_object('op', 'canvas', 'id', 'canvas:1', 'signature',
	romancy.chain(romancy.task('sq', '3'), romancy.task('sq')))));
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w', 10) WHERE instance_id = :'id5' \gset
SELECT romancy.suspend(:'token', jsonb_build_array(
	jsonb_build_object('op', 'canvas', 'id', 'canvas:2', 'signature', romancy.group(romancy.task('sq', '4'), romancy.task('sq', '5'))),
	jsonb_build_object('op', 'canvas', 'id', 'canvas:3', 'signature', romancy.task('sq'), 'input', 6)), '{"all": ["canvas:2", "canvas:3"]}');
CALL romancy.drain() \gset
SELECT token FROM romancy.fetch_workflows('protocol_q', 'w', 10) WHERE instance_id = :'id5' \gset
SELECT event_type, activity_id, data -> 'result' AS result FROM romancy.read_history(:'token')
	WHERE event_type = 'ChildWorkflowCompleted' ORDER BY activity_id;
-- another signature than history holds
SELECT romancy.suspend(:'token', jsonb_build_array(jsonb_build_object('op', 'canvas', 'id', 'canvas:2', 'signature', romancy.task('sq', '4'))),
	'{"all": ["canvas:2"]}');
CALL romancy.drain() \gset
SELECT status, error ->> 'sqlstate' AS sqlstate, error ->> 'message' AS message FROM romancy.instances WHERE instance_id = :'id5';

-- what a step is undone by is read in the instance's namespace, wherever the program's session is
SELECT romancy.define_activity('pay', queue => 'protocol_pay', compensation => 'undo');
SELECT romancy.start_workflow('prot') AS id6 \gset
SELECT romancy.start_workflow('prot') AS id7 \gset
CALL romancy.drain() \gset
SELECT max(token) FILTER (WHERE instance_id = :'id6') AS token6, max(token) FILTER (WHERE instance_id = :'id7') AS token7
	FROM romancy.fetch_workflows('protocol_q', 'w', 10) \gset
CREATE ROLE romancy_regress_protocol;
SELECT romancy.grant_usage('romancy_regress_protocol', namespace => 'romancy_regress_protocol');
SET LOCAL romancy.namespace = 'romancy_regress_protocol';
SELECT romancy.record(:'token6', '[{"op": "activity", "id": "pay:1", "name": "pay", "input": 1, "result": 2}]');
SELECT romancy.record_activity(:'token7', 'pay:1', 'pay', '1', '2');
SELECT romancy.fail_workflow(:'token6', 'no') IS NULL, romancy.fail_workflow(:'token7', 'no') IS NULL;
CALL romancy.drain() \gset
SET LOCAL romancy.namespace = DEFAULT;
CALL romancy.drain() \gset
SELECT event_type, activity_id FROM romancy.get_history(:'id6') WHERE event_type LIKE 'Compensation%';
SELECT event_type, activity_id FROM romancy.get_history(:'id7') WHERE event_type LIKE 'Compensation%';
ROLLBACK;
