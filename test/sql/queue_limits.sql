-- Limits of queues and activities, for each key, and pauses.
-- It would catch a limit that is exceeded, a task that a limit holds for ever, and a key that starves.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT romancy.define_activity('lim', queue => 'lim_q');
SELECT romancy.define_activity('lim2', queue => 'lim_q', max_concurrency => 1);
CREATE FUNCTION wf_lim(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity(coalesce(i ->> 'a', 'lim'), i); END $$;
CREATE FUNCTION take(n int) RETURNS SETOF jsonb LANGUAGE sql AS $$ SELECT input -> 'n' FROM romancy.fetch_activities('lim_q', 'w', n) $$;
CREATE FUNCTION finish() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM (SELECT romancy.complete_activity(format('%s.%s.%s', task_id, attempt, lpad(to_hex(fence), 16, '0'))) AS ok
		FROM romancy.t_task WHERE state = 1) x WHERE ok $$;

-- one at a time for each tenant, tenants in turn
SELECT romancy.set_queue('lim_q', max_concurrency => 1, per_key => 'tenant.id');
SELECT count(romancy.start_workflow('wf_lim', jsonb_build_object('tenant', jsonb_build_object('id', CASE WHEN g < 7 THEN 1 ELSE g - 5 END), 'n', g))) FROM generate_series(1, 8) g;
CALL romancy.drain() \gset
SELECT take(10);
SELECT take(10);
SELECT finish();
SELECT take(10);
SELECT finish();

-- all together
SELECT romancy.set_queue('lim_q', max_concurrency => 2);
SELECT take(1);
SELECT take(10);
SELECT take(10);
SELECT finish();
SELECT name, max_concurrency, rate_limit, per_key, paused, ready, running FROM romancy.queues WHERE name = 'lim_q';

-- a bucket: two at once, then no more this hour
SELECT count(romancy.start_workflow('wf_lim', jsonb_build_object('n', g))) FROM generate_series(11, 14) g;
SELECT romancy.set_queue('lim_q', rate_limit => '2/h');
CALL romancy.drain() \gset
SELECT take(10);
SELECT finish();
SELECT take(10);
SELECT romancy.set_queue('lim_q');
SELECT take(10);
SELECT finish();

-- of an activity
SELECT count(romancy.start_workflow('wf_lim', jsonb_build_object('n', g, 'a', CASE WHEN g < 24 THEN 'lim2' ELSE 'lim' END))) FROM generate_series(21, 25) g;
CALL romancy.drain() \gset
SELECT take(10);
SELECT take(10);
SELECT finish();
SELECT take(10);
SELECT finish();
SELECT take(10);
SELECT finish();

-- paused
SELECT romancy.start_workflow('wf_lim', '{"n": 31}') IS NOT NULL;
CALL romancy.drain() \gset
SELECT romancy.pause_queue('lim_q');
SELECT take(10);
SELECT romancy.resume_queue('lim_q');
SELECT take(10);

SELECT romancy.set_queue('lim_q', max_concurrency => 0);
SELECT romancy.set_queue('lim_q', rate_limit => '2/x');
SELECT romancy.set_queue('lim_q', per_key => '');
SELECT romancy.set_queue('');
SELECT romancy.set_queue('@x');
SELECT romancy.pause_queue(NULL);
SELECT romancy.set_queue('lim_q', notify => '');
SELECT romancy.set_queue('lim_q', notify => repeat('x', 64));
SET LOCAL client_min_messages = notice;
SELECT romancy.pause_queue('limq');
SELECT romancy.pause_queue('lim_q');
ROLLBACK;
