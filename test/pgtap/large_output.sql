-- A large output is written once: it stands with the instance, and its last event shows it from there, until it has
-- expired. It would catch an output that is in history as well, or one that get_history does not show.
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
SELECT cmp_ok((SELECT sum(octet_length(events::text)) FROM romancy.t_history WHERE instance_id = :'id'), '<', 340000::bigint, 'history has it once, as the result of the activity');
SELECT is((SELECT data -> 'result' FROM romancy.get_history(:'id') WHERE event_type = 'WorkflowCompleted'), romancy.get_result(:'id'), 'WorkflowCompleted shows it');
SELECT is((SELECT data -> 'result' FROM romancy.get_history(:'id', 1, 1)), romancy.get_result(:'id'), 'on a page of its own, too');
SELECT is((SELECT data -> 'result' FROM romancy.get_history(:'small') WHERE event_type = 'WorkflowCompleted'), romancy.get_result(:'small'), 'a small one as well');
SELECT is((SELECT string_agg(event_type, ',' ORDER BY seq) FROM romancy.get_history(:'id')), 'ActivityCompleted,WorkflowCompleted', 'nothing is lost of a page');
UPDATE romancy.t_instance SET output = NULL WHERE instance_id = :'id';
SELECT is((SELECT data FROM romancy.get_history(:'id') WHERE event_type = 'WorkflowCompleted'), '{}', 'expired, it is gone from there');
SELECT * FROM finish();
ROLLBACK;
