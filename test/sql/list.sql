-- list_instances, get_history, get_value and the views: filters, pages, whose rows.
-- All in one transaction, so that nothing of it reaches a worker.
-- It would catch a page that leaves out or repeats an instance, and rows of another role's.
\set VERBOSITY default
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
-- what other tests left behind is out of sight
DELETE FROM romancy.t_instance;
DELETE FROM romancy.t_workflow;
CREATE SCHEMA flows;
SET LOCAL search_path = flows, public;
CREATE FUNCTION order_flow(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	CASE input ->> 'do'
		WHEN 'fail' THEN RAISE EXCEPTION 'out of stock' USING ERRCODE = 'P1234', DETAIL = 'None left.';
		WHEN 'sleep' THEN PERFORM romancy.sleep('1 day');
		ELSE
	END CASE;
	PERFORM romancy.set_value('seen', input);
	RETURN input;
END $$;
CREATE FUNCTION "100%_Sure"(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN input; END $$;
SELECT romancy.start_workflow('order_flow', '{"n": 1, "customer": {"city": "Bonn", "id": 7}}', labels => '{"tier": "gold", "x": 1}', instance_id => '01234567-89ab-7def-8123-000000000001') AS i1 \gset
SELECT romancy.start_workflow('order_flow', '{"n": 2, "customer": {"city": "Köln", "id": "7"}}', labels => '{"tier": "gold"}', instance_id => '01234567-89ab-7def-8123-000000000002') AS i2 \gset
SELECT romancy.start_workflow('order_flow', '{"n": 3, "do": "fail", "list": [{"a": true}]}', instance_id => '01234567-89ab-7def-8123-000000000003') AS i3 \gset
SELECT romancy.start_workflow('order_flow', '{"n": 4, "do": "sleep"}', instance_id => '01234567-89ab-7def-8123-000000000004') AS i4 \gset
SELECT romancy.start_workflow('"100%_Sure"', '{"n": 5}', instance_id => '01234567-89ab-7def-8123-000000000005') AS i5 \gset
SELECT romancy.start_workflow('order_flow', '{"n": 6}', start_at => now() + interval '2 days', instance_id => '01234567-89ab-7def-8123-000000000006') AS i6 \gset
CALL romancy.drain() \gset

SELECT workflow, version, status, input, output, error - 'context' AS error, queue, owner = current_user AS mine, priority, labels,
	idempotency_key, parent_id, continued_from, created_at IS NOT NULL AS created, started_at IS NOT NULL AS started,
	updated_at >= created_at AS updated, finished_at IS NOT NULL AS finished, next_page_token
	FROM romancy.list_instances();
-- the columns are the view's, and one more
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'romancy' AND table_name = 'instances' ORDER BY ordinal_position;
SELECT (SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'romancy.instances'::regclass AND attnum > 0)
	|| 'next_page_token'::name = (SELECT proargnames[4:]::name[] FROM pg_proc WHERE proname = 'list_instances') AS same_columns;

CREATE FUNCTION listed(filter jsonb) RETURNS text LANGUAGE sql AS
	$$ SELECT string_agg(input ->> 'n', ' ' ORDER BY n) FROM romancy.list_instances(filter) WITH ORDINALITY
		l (a, ns, b, c, d, input, f, g, h, i, j, k, l, m, nn, o, p, q, r, s, n) $$;
SELECT listed('{"status": "completed"}'), listed('{"status": "failed"}'), listed('{"status": "waiting_for_timer"}'),
	listed('{"status": "pending"}'), listed('{"status": "paused"}'), listed('{"status": ["failed", "pending"]}'), listed('{}'), listed(NULL);
SELECT listed('{"workflow": "order_flow"}'), listed('{"workflow": "ORDER_FLOW"}'), listed('{"workflow": "order%"}');
SELECT listed('{"search": "ORDER"}'), listed('{"search": "0%_s"}'), listed('{"search": "%"}'), listed('{"search": "_flow"}'), listed('{"search": "nothing"}');
SELECT listed(jsonb_build_object('search', upper(:'i3'))), listed(jsonb_build_object('search', substr(:'i4', 25))), listed('{"search": "89AB-7D"}');
SELECT listed('{"labels": {"tier": "gold"}}'), listed('{"labels": {"x": 1}}'), listed('{"labels": {"x": "1"}}');
SELECT listed('{"input": {"customer.city": "Bonn"}}'), listed('{"input": {"customer.id": 7}}'), listed('{"input": {"customer.id": "7"}}'),
	listed('{"input": {"customer": {"id": 7, "city": "Bonn"}}}'), listed('{"input": {"list.0.a": true}}'), listed('{"input": {"n": 1, "customer.city": "Köln"}}'),
	listed('{"input": {"nothing": null}}'), listed('{"input": {"a''; drop table x; --": 1}}');
SELECT listed('{"status": "completed", "workflow": "order_flow", "labels": {"tier": "gold"}, "input": {"n": 2}, "search": "flow"}');
SELECT listed(jsonb_build_object('created_after', (SELECT created_at FROM romancy.instances WHERE instance_id = :'i4'))) AS inclusive,
	listed(jsonb_build_object('created_before', (SELECT created_at FROM romancy.instances WHERE instance_id = :'i4'))) AS exclusive,
	listed('{"created_after": "2000-01-01", "created_before": "2001-01-01"}') AS long_ago;

-- wrong filters
SELECT listed('{"stauts": "failed"}');
SELECT listed('[]');
SELECT listed('{"status": "done"}');
SELECT listed('{"status": 1}');
SELECT listed('{"status": []}');
SELECT listed('{"status": ["failed", null]}');
SELECT listed('{"workflow": null}');
SELECT listed('{"search": 1}');
SELECT listed('{"created_after": "yesteryear"}');
SELECT listed('{"created_before": 2020}');
SELECT listed('{"labels": "gold"}');
SELECT listed('{"input": []}');
SELECT listed('{"input": {"": 1}}');
SELECT listed('{"input": {"a..b": 1}}');
SELECT listed('{"input": {".a": 1}}');

-- pages
SELECT input -> 'n' AS n, next_page_token AS token FROM romancy.list_instances(page_size => 4) LIMIT 1 \gset
SELECT input -> 'n' AS n FROM romancy.list_instances(page_size => 4);
SELECT count(DISTINCT next_page_token) FROM romancy.list_instances(page_size => 4);
SELECT input -> 'n' AS n, next_page_token FROM romancy.list_instances(page_size => 4, page_token => :'token');
SELECT count(*), count(next_page_token) FROM romancy.list_instances(page_size => 6);
SELECT * FROM romancy.list_instances(page_size => 0);
SELECT * FROM romancy.list_instances(page_size => 1001);
SELECT * FROM romancy.list_instances(page_token => 'x');
SELECT * FROM romancy.list_instances(page_token => '');
SELECT * FROM romancy.list_instances(page_token => replace(:'token', substr(:'token', 20, 1), 'g'));
-- every row once, in order, over pages of rows that share created_at
SELECT count(*) FROM romancy.start_workflows('order_flow', ARRAY(SELECT to_jsonb(g) FROM generate_series(1, 25) g),
	start_at => now() + interval '10 years', labels => '{"bulk": true}') id;
WITH RECURSIVE page AS (
	SELECT 1 AS page, p.* FROM romancy.list_instances('{"labels": {"bulk": true}}', 7) p
	UNION ALL
	SELECT page.page + 1, p.* FROM (SELECT page, next_page_token FROM page WHERE next_page_token IS NOT NULL LIMIT 1) page,
		romancy.list_instances('{"labels": {"bulk": true}}', 7, page.next_page_token) p)
SELECT page, string_agg(input::text, ' ' ORDER BY created_at DESC, instance_id DESC) FROM page GROUP BY page ORDER BY page;

-- history
SELECT seq, event_type, activity_id, data, created_at IS NOT NULL AS created FROM romancy.get_history(:'i1');
SELECT seq, event_type FROM romancy.get_history(:'i1', after => 1);
SELECT seq, event_type FROM romancy.get_history(:'i1', page_size => 1);
SELECT * FROM romancy.get_history(:'i1', after => 100);
SELECT * FROM romancy.get_archived_history(:'i1');
SELECT * FROM romancy.get_history('00000000-0000-0000-0000-000000000000');
SELECT * FROM romancy.get_history(:'i1', page_size => 0);
SELECT * FROM romancy.get_history(NULL);
SELECT romancy.get_value(:'i1', 'seen') -> 'n' AS value, romancy.get_value(:'i1', 'unseen');
SELECT romancy.get_value('00000000-0000-0000-0000-000000000000', 'seen');
-- what they wait for
SELECT workflow, status, kind, step, name, until - since > '23 hours' AS a_day FROM romancy.waiting WHERE instance_id = :'i4';

-- one's own, and for a monitor everybody's
CREATE ROLE regress_reader;
CREATE ROLE regress_monitor;
GRANT USAGE ON SCHEMA flows TO regress_reader, regress_monitor;
SET ROLE regress_reader;
SELECT * FROM romancy.list_instances();
RESET ROLE;
SELECT romancy.grant_usage('regress_reader'), romancy.grant_usage('regress_monitor', monitor => true);
SET ROLE regress_reader;
SELECT romancy.start_workflow('order_flow', '{"n": 7}') IS NOT NULL;
SELECT listed('{}'), (SELECT count(*) FROM romancy.instances), (SELECT count(*) FROM romancy.waiting);
SELECT * FROM romancy.get_history(:'i1');
SELECT romancy.get_result(:'i1');
SELECT romancy.get_value(:'i1', 'seen');
SELECT romancy.t_may_access('postgres', 10, true);
SELECT romancy.t_monitor();
SELECT count(*) FROM romancy.t_instance;
-- nothing leaks through a condition that runs before the view's
CREATE FUNCTION pg_temp.leak(input jsonb) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE WARNING 'saw %', input; RETURN true; END $$;
SELECT count(*) FROM romancy.instances WHERE pg_temp.leak(input);
SET ROLE regress_monitor;
SELECT listed('{"labels": {"tier": "gold"}}'), (SELECT count(*) FROM romancy.instances WHERE NOT labels @> '{"bulk": true}' OR labels IS NULL);
SELECT count(*) FROM romancy.get_history(:'i1');
SELECT romancy.get_result(:'i2') -> 'n' AS result;
SELECT romancy.cancel_workflow(:'i4');
RESET ROLE;
SELECT romancy.revoke_usage('regress_monitor'), romancy.revoke_usage('regress_reader');
SET ROLE regress_monitor;
SELECT * FROM romancy.instances;
RESET ROLE;
-- only the extension's owner grants, and nothing is the public's
SET ROLE regress_reader;
SELECT romancy.grant_usage('regress_reader');
RESET ROLE;
GRANT USAGE ON SCHEMA romancy TO regress_reader;
GRANT EXECUTE ON FUNCTION romancy.grant_usage TO regress_reader;
SET ROLE regress_reader;
SELECT romancy.grant_usage('regress_reader');
RESET ROLE;
SELECT romancy.grant_usage('-');
SELECT romancy.grant_usage(NULL);
REVOKE ALL ON SCHEMA romancy FROM regress_reader;
REVOKE ALL ON FUNCTION romancy.grant_usage FROM regress_reader;
SELECT 'function' AS kind, proname::text AS name FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
	WHERE pronamespace = 'romancy'::regnamespace AND grantee <> proowner
UNION ALL
SELECT 'relation', relname FROM pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner)))
	WHERE relnamespace = 'romancy'::regnamespace AND relkind IN ('r', 'v', 'S') AND grantee <> relowner
UNION ALL
SELECT 'type', typname FROM pg_type, aclexplode(coalesce(typacl, acldefault('T', typowner)))
	WHERE typnamespace = 'romancy'::regnamespace AND typcategory <> 'A' AND grantee <> typowner
		AND (typrelid = 0 OR (SELECT relkind FROM pg_class WHERE oid = typrelid) = 'c')
UNION ALL
SELECT 'schema', nspname FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
	WHERE nspname = 'romancy' AND grantee <> nspowner;
ROLLBACK;
