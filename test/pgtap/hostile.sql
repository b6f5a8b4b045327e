-- A role that may use romancy, and means ill, tries to read, steer, forge, lock out and
-- impersonate another's instances, and to have code run by others: through the API, the
-- tables, search_path, operators, temporary objects and drain. It gains nothing.
-- It would catch a call, a view or a cast that tells or does something for a role that has no right to it.
BEGIN;
SELECT no_plan();

CREATE ROLE victim;
CREATE ROLE mallory;
SELECT romancy.grant_usage('victim', namespace => 'hostile'), romancy.grant_usage('mallory', namespace => 'hostile');
GRANT CREATE, USAGE ON SCHEMA public TO victim, mallory;
GRANT CREATE ON DATABASE :"DBNAME" TO mallory;

-- The result of a role's statement: the first column of its first row, or SQLSTATE and message
CREATE FUNCTION as_role(role name, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text;
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE sql INTO r;
	PERFORM set_config('role', 'none', true);
	RETURN r;
EXCEPTION WHEN OTHERS THEN RETURN sqlstate || ' ' || sqlerrm;
END $$;
CREATE FUNCTION state_of(role name, sql text) RETURNS text LANGUAGE sql AS $$ SELECT left(as_role(role, sql), 5) $$;

CREATE TABLE ran (who name, what text);
GRANT ALL ON ran TO PUBLIC;
SET ROLE victim;
CREATE FUNCTION v_act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user, 'v_act'); RETURN $1; END $$;
CREATE FUNCTION v_wait(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.set_value('secret', '"s3cret"');
	PERFORM romancy.activity('v_act', '"s3cret"');
	PERFORM romancy.join_group('v_group');
	RETURN to_jsonb((romancy.receive('v_channel')).data);
END $$;
CREATE FUNCTION v_done(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('v_act', $1); END $$;
CREATE FUNCTION v_fail(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 's3cret'; END $$;
CREATE FUNCTION v_task(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('v_queued', '"s3cret"'); END $$;
SELECT romancy.define_workflow('v_flow', handler => 'v_wait(jsonb)', on_event => 'v.event');
SELECT romancy.define_activity('v_queued', queue => 'v_queue');
SELECT romancy.start_workflow('v_flow', '"s3cret"', idempotency_key => 'k', labels => '{"a": "s3cret"}') AS wait_id \gset
SELECT romancy.start_workflow('v_done', '"s3cret"') AS done_id \gset
SELECT romancy.start_workflow('v_fail', '"s3cret"') AS fail_id \gset
SELECT romancy.start_workflow('v_task', '"s3cret"') AS task_id \gset
CALL romancy.drain();
RESET ROLE;
SELECT is((SELECT string_agg(status, ' ' ORDER BY status) FROM romancy.instances), 'completed failed waiting_for_activity waiting_for_message', 'the victim''s instances are there');

-- read
SET ROLE mallory;
CREATE TEMP TABLE seen (what text, n bigint);
INSERT INTO seen SELECT 'instances', count(*) FROM romancy.instances UNION ALL SELECT 'waiting', count(*) FROM romancy.waiting
	UNION ALL SELECT 'activity_tasks', count(*) FROM romancy.activity_tasks UNION ALL SELECT 'stat_workflows', count(*) FROM romancy.stat_workflows
	UNION ALL SELECT 'stat_activities', count(*) FROM romancy.stat_activities UNION ALL SELECT 'versions', count(*) FROM romancy.versions v WHERE v::text ~ 's3cret'
	UNION ALL SELECT 'list_instances', count(*) FROM romancy.list_instances() UNION ALL SELECT 'list_instances (failed)', count(*) FROM romancy.list_instances('{"status": "failed"}')
	UNION ALL SELECT 'workers', count(*) FROM romancy.workers UNION ALL SELECT 'metrics', count(*) WHERE romancy.metrics() ~ 'v_act|v_flow|victim'
	UNION ALL SELECT 'queues', count(*) FROM romancy.queues q WHERE q::text ~ 's3cret';
RESET ROLE;
SELECT is(n, 0::bigint, 'sees nothing in ' || what) FROM seen;
-- a leaky function in a condition gets no row that is not its caller's
SET ROLE mallory;
CREATE FUNCTION mallory_leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN IF $1 ~ 's3cret|v_flow|victim' THEN RAISE EXCEPTION 'leaked %', $1; END IF; RETURN false; END $$;
RESET ROLE;
SELECT is(as_role('mallory', format('SELECT count(*) FROM romancy.%I v WHERE mallory_leak(v::text)', c.relname)), '0', 'it sees nothing in ' || c.relname)
	FROM pg_class c WHERE c.relnamespace = 'romancy'::regnamespace AND c.relkind = 'v' ORDER BY c.relname;
SELECT is(state_of('mallory', format(sql, :'wait_id')), 'RM002', 'RM002: ' || sql) FROM unnest(ARRAY[
	'SELECT count(*) FROM romancy.get_history(%L)', 'SELECT romancy.get_value(%L, ''secret'')', 'SELECT romancy.get_result(%L)', 'SELECT romancy.diagram(%L)', 'SELECT romancy.timeline(%L)', 'SELECT romancy.spans(%L)',
	'SELECT romancy.get_progress(%L)', 'SELECT count(*) FROM romancy.get_archived_history(%L)']) AS sql;
SELECT is(state_of('mallory', format('SELECT romancy.get_result(%L)', :'done_id')), 'RM002', 'nor the result of an ended one');
SELECT is(state_of('mallory', 'SELECT count(*) FROM romancy.' || relname), '42501', 'cannot read ' || relname)
	FROM pg_class WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'r' ORDER BY relname;

-- steer
SELECT is(state_of('mallory', format(sql, id)), 'RM002', 'RM002: ' || sql) FROM unnest(ARRAY[
	'SELECT romancy.cancel_workflow(%L)', 'SELECT romancy.terminate_workflow(%L)', 'SELECT romancy.pause_workflow(%L)', 'SELECT romancy.resume_workflow(%L)',
	'SELECT romancy.retry_workflow(%L)', 'SELECT romancy.fork_workflow(%L, ''v_act:1'')', 'SELECT romancy.delete_workflow(%L)']) AS sql,
	unnest(ARRAY[:'wait_id', :'fail_id', :'done_id']::uuid[]) AS id;
SELECT is(as_role('mallory', 'SELECT romancy.cancel_workflows(''{}'')'), '0', 'cancels nothing in bulk');
SELECT is(as_role('mallory', 'SELECT romancy.retry_workflows(''{}'')'), '0', 'retries nothing in bulk');
SELECT is(state_of('mallory', sql), '42501', '42501: ' || sql) FROM unnest(ARRAY[
	'SELECT romancy.define_workflow(''v_flow'', handler => ''v_done(jsonb)'')', 'SELECT romancy.drop_workflow(''v_flow'')',
	'SELECT romancy.define_activity(''v_queued'', handler => ''v_act(jsonb)'')', 'SELECT romancy.drop_activity(''v_queued'')',
	'SELECT romancy.adopt_database()', 'SELECT romancy.grant_usage(''mallory'', true)', 'SELECT romancy.revoke_usage(''victim'')', 'SELECT romancy.stat_reset()',
	'SELECT romancy.t_monitor()']) AS sql;
SELECT is(as_role('mallory', $$ SELECT count(*) FROM romancy.fetch_activities('v_queue', 'm', 10) $$), '0', 'gets no task of another''s queue');
SELECT is(as_role('mallory', $$ SELECT count(*) FROM romancy.fetch_workflows('v_queue', 'm', 10) $$), '0', 'and no workflow task');

-- forge
SELECT is(state_of('mallory', sql), '42501', '42501: ' || sql) FROM unnest(ARRAY[
	format('INSERT INTO romancy.t_inbox (instance_id, kind) VALUES (%L, 1) RETURNING 1', :'wait_id'), 'UPDATE romancy.t_instance SET owner = ''mallory'' RETURNING 1', 'DELETE FROM romancy.t_history RETURNING 1',
	'SELECT 1 FROM romancy.instances FOR UPDATE', 'SELECT nextval(''romancy.t_inbox_id_seq'')',
	'CREATE TABLE romancy.t_mine (i int)', 'CREATE FUNCTION romancy.t_mine() RETURNS int LANGUAGE sql AS ''SELECT 1''', 'CREATE INDEX ON romancy.t_instance (owner)',
	'CREATE TRIGGER t BEFORE INSERT ON romancy.t_instance FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()', 'LOCK TABLE romancy.t_instance', 'TRUNCATE romancy.t_instance']) AS sql;
SELECT task_id::text AS forged FROM romancy.t_task \gset
SET romancy.namespace = 'hostile';
SELECT romancy.fetch_activities('v_queue', 'w') IS NOT NULL AS fetched \gset
RESET romancy.namespace;
SELECT format('%s.%s.%s', :'forged', 1, lpad(to_hex(fence), 16, '0')) AS right_token, format('%s.%s.%s', :'forged', 1, '0123456789abcdef') AS wrong_token FROM romancy.t_task \gset
SELECT is(as_role('mallory', format('SELECT romancy.complete_activity(%L, ''1'')', :'wrong_token')), 'false', 'a forged token does nothing');
SELECT is(as_role('mallory', format('SELECT romancy.complete_activity(%L, ''1'')', :'right_token')), 'false', 'nor does the right one in wrong hands');
SELECT is(as_role('mallory', format('SELECT romancy.fail_activity(%L, ''x'')', :'right_token')), 'false', 'nor to fail it');
SELECT is(as_role('mallory', format('SELECT romancy.heartbeat_activity(%L)', :'right_token')), 'lost', 'nor to keep it');
SELECT is(state_of('mallory', 'SELECT romancy.complete_activity(''nonsense'')'), 'RM012', 'nonsense is none');
SELECT is(as_role('mallory', 'UPDATE romancy.instances SET owner = ''mallory'' RETURNING 1') ~ '^(42501|55000)', true, 'the views cannot be written');
SELECT is(left(as_role('mallory', format('SELECT romancy.raise_event(''e'', ''s'', ''1'', instance_id => %L)', :'wait_id')), 2) <> '25', true, 'an event for another''s instance is ignored');
SELECT is((SELECT count(*) FROM romancy.t_inbox WHERE instance_id = :'wait_id'), 0::bigint, 'and nothing arrives there');
SELECT is(as_role('mallory', $$ SELECT romancy.start_workflow('v_flow', idempotency_key => 'k') $$) = :'wait_id', false, 'an idempotency key is its owner''s own');
SELECT is(state_of('mallory', format('SELECT romancy.start_workflow(''v_flow'', instance_id => %L)', :'wait_id')), '23505', 'an instance cannot be taken over by its id');
SELECT is(as_role('mallory', format('SELECT romancy.delete_workflow(instance_id) FROM romancy.instances WHERE instance_id = %L', :'done_id')), NULL, 'nor found');

-- impersonate: mallory's instances run as mallory, whatever the functions are
SET ROLE mallory;
CREATE FUNCTION m_act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user, 'm_act'); RETURN to_jsonb(current_user); END $$;
CREATE FUNCTION m_set(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1 #>> '{}'; INSERT INTO public.ran VALUES (current_user, 'm_set'); RETURN to_jsonb(current_user); END $$;
CREATE FUNCTION m_flow(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('m_act'); END $$;
CREATE FUNCTION m_flow_set(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('m_set', $1, retry => '{"max_attempts": 1}'); END $$;
CREATE FUNCTION m_drains(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); RETURN to_jsonb(n); END $$;
SELECT romancy.start_workflow('m_flow');
SELECT romancy.start_workflow('v_done', '1');
SELECT romancy.start_workflow('m_flow_set', '"SET ROLE postgres"') AS set1 \gset
SELECT romancy.start_workflow('m_flow_set', '"SET SESSION AUTHORIZATION postgres"') AS set2 \gset
SELECT romancy.start_workflow('m_flow_set', '"RESET ROLE"') AS set3 \gset
SELECT romancy.start_workflow('m_flow_set', '"RESET SESSION AUTHORIZATION"') AS set4 \gset
SELECT romancy.start_workflow('m_drains') AS drains \gset
CALL romancy.drain();
RESET ROLE;
SELECT set_eq($$ SELECT who, what FROM ran $$, $$ VALUES ('victim'::name, 'v_act'), ('mallory'::name, 'm_act'), ('mallory'::name, 'v_act') $$, 'all that ran for mallory ran as mallory');
SELECT is(error ->> 'sqlstate', CASE WHEN input::text ~ 'drain' THEN 'RM004' ELSE '42501' END, 'refused inside: ' || coalesce(input::text, workflow))
	FROM romancy.instances WHERE instance_id IN (:'set1', :'set2', :'set3', :'set4');
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'drains'), 'failed', 'no drain inside a handler');

-- drain: the victim's work is not run by mallory's session, nor mallory's by the superuser's
SELECT as_role('mallory', 'SELECT romancy.start_workflow(''m_flow'')') IS NOT NULL AS ok \gset
SELECT as_role('victim', 'SELECT romancy.start_workflow(''v_done'')') IS NOT NULL AS ok \gset
DELETE FROM ran;
CALL romancy.drain();
SELECT is((SELECT count(*) FROM ran), 0::bigint, 'a superuser''s drain runs nobody else''s work');
SET ROLE mallory;
CALL romancy.drain();
RESET ROLE;
SELECT results_eq('SELECT who, what FROM ran', $$ VALUES ('mallory'::name, 'm_act') $$, 'a drain runs its role''s own');

-- code of mallory's in the way of names and operators that the superuser's and the victim's calls look up
SET ROLE mallory;
CREATE SCHEMA trap;
GRANT USAGE ON SCHEMA trap TO PUBLIC;
CREATE FUNCTION trap.sprung(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user, 'trap ' || $1); EXCEPTION WHEN OTHERS THEN RAISE EXCEPTION 'trap %', $1; END $$;
DO $$
DECLARE t text; o text;
BEGIN
	FOREACH t IN ARRAY ARRAY['text', 'uuid', 'jsonb', 'int4', 'int8', 'int2', 'timestamptz', 'oid', 'name', 'interval', 'bool'] LOOP
		FOREACH o IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>='] LOOP
			EXECUTE format('CREATE FUNCTION trap.%2$I(a %1$s, b %1$s) RETURNS boolean LANGUAGE plpgsql AS %3$L', t, 'op' || encode(o::bytea, 'hex') || t, format('BEGIN PERFORM trap.sprung(%L); RETURN true; END', o || ' ' || t));
			EXECUTE format('CREATE OPERATOR trap.%2$s (LEFTARG = %1$s, RIGHTARG = %1$s, FUNCTION = trap.%3$I)', t, o, 'op' || encode(o::bytea, 'hex') || t);
		END LOOP;
	END LOOP;
	FOREACH t IN ARRAY ARRAY['now()', 'clock_timestamp()', 'current_database()', 'pg_current_snapshot()', 'txid_current()'] LOOP
		EXECUTE format('CREATE FUNCTION trap.%s RETURNS int LANGUAGE plpgsql AS %L', t, format('BEGIN PERFORM trap.sprung(%L); RETURN 1; END', t));
	END LOOP;
	FOREACH t IN ARRAY ARRAY['count', 'coalesce', 'lower', 'unnest', 'jsonb_build_object', 'to_jsonb', 'format'] LOOP
		EXECUTE format('CREATE FUNCTION trap.%I(text) RETURNS text LANGUAGE plpgsql AS %L', t, format('BEGIN PERFORM trap.sprung(%L); RETURN $1; END', t));
	END LOOP;
END $$;
RESET ROLE;
CREATE FUNCTION s_act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user, 's_act'); RETURN $1; END $$;
CREATE FUNCTION s_flow(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.set_value('a', '1'); PERFORM romancy.sleep('0'); PERFORM romancy.publish('s', '1'); RETURN romancy.activity('s_act', romancy.await(romancy.spawn('s_act', '1'))); END $$;
DELETE FROM ran;
-- first plans, so that none is kept from before
DISCARD PLANS;
SET LOCAL search_path = trap, pg_catalog, public;
SELECT romancy.start_workflow('s_flow', '1', idempotency_key => 'x') AS s_id \gset
SELECT count(*) AS n FROM romancy.start_workflows('s_flow', ARRAY['1', '2']::jsonb[]) \gset
CALL romancy.drain(advance_time => true);
SELECT romancy.define_workflow('s_def', handler => 's_flow(jsonb)'), romancy.define_activity('s_act2', handler => 's_act(jsonb)', retry => '{"max_attempts": 2}');
SELECT count(*) FROM romancy.list_instances('{"status": "completed", "search": "s_f", "created_after": "2000-01-01"}');
SELECT count(*) FROM romancy.get_history(:'s_id');
SELECT romancy.get_result(:'s_id'), romancy.get_value(:'s_id', 'a');
SELECT count(*) FROM romancy.instances; SELECT count(*) FROM romancy.waiting; SELECT count(*) FROM romancy.activity_tasks;
SELECT romancy.metrics() IS NOT NULL, romancy.health() ? 'healthy';
SELECT romancy.send_to(romancy.start_workflow('s_flow'), 'c', '1'), romancy.publish('c', '1'), romancy.raise_event('t', 's', '1', id => 'i');
SELECT romancy.cancel_workflows('{"workflow": "s_flow"}'), romancy.retry_workflows('{"workflow": "s_flow"}');
SELECT romancy.run_canvas(romancy.task('s_act', '1'));
CALL romancy.drain(advance_time => true);
SELECT count(*) FROM romancy.fetch_activities('q', 'w'); SELECT romancy.set_queue('q', 2), romancy.pause_queue('q'), romancy.resume_queue('q');
RESET search_path;
SELECT romancy.run_sweep(name) FROM romancy.sweeps;
SELECT set_eq('SELECT DISTINCT what FROM ran', ARRAY['s_act'], 'no trap was sprung in a session whose path begins with them');

-- temporary objects in the session
DELETE FROM ran;
SET ROLE mallory;
CREATE TEMP TABLE t_instance (LIKE ran);
CREATE TEMP TABLE t_inbox (LIKE ran);
CREATE FUNCTION pg_temp.m_act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user, 'temporary m_act'); RETURN '1'; END $$;
SELECT romancy.start_workflow('m_flow');
CALL romancy.drain();
RESET ROLE;
SELECT set_eq('SELECT who, what FROM ran', $$ VALUES ('mallory'::name, 'm_act') $$, 'temporary tables and functions shadow nothing');

-- a SECURITY DEFINER function of the victim's cannot be made to drain
SET ROLE victim;
CREATE FUNCTION v_drain() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); RETURN n; END $$;
RESET ROLE;
SELECT matches(as_role('mallory', 'SELECT v_drain()'), '(SECURITY DEFINER|inside a)', 'no drain under SECURITY DEFINER');

SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'wait_id'), 'waiting_for_message', 'the victim''s instance is as it was');
SELECT * FROM finish();
ROLLBACK;
