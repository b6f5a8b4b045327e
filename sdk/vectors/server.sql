-- A server that plays histories: in a database without the extension it stands in its place, gives out the turns of histories.json and
-- notes what the program answers. The runner (test/t/129_sdk_vectors.pl) fills table turn.
CREATE SCHEMA romancy;

-- One turn of one instance: what poll_workflows gives out. The turns of a lane come one after the other.
CREATE TABLE romancy.turn (
	lane text, n int, worker text, instance_id uuid NOT NULL, workflow text NOT NULL, input jsonb, history jsonb NOT NULL,
	given boolean NOT NULL DEFAULT false, done boolean NOT NULL DEFAULT false, PRIMARY KEY (lane, n));
-- The calls of a turn, in order.
CREATE TABLE romancy.answer (id bigserial PRIMARY KEY, token text NOT NULL, call jsonb NOT NULL);
CREATE TABLE romancy.spoken (oldest int NOT NULL, newest int NOT NULL);
INSERT INTO romancy.spoken VALUES (1, 1);

CREATE FUNCTION romancy.protocol(OUT oldest int, OUT newest int) LANGUAGE sql AS 'SELECT oldest, newest FROM romancy.spoken';

CREATE FUNCTION romancy.define_workflow(name text, handler text = NULL, queue text = NULL, execution_timeout interval = NULL, retention interval = NULL,
	on_event text = NULL, description text = NULL) RETURNS int LANGUAGE sql AS 'SELECT 1';

CREATE FUNCTION romancy.define_activity(name text, handler text = NULL, queue text = NULL, retry jsonb = NULL, compensation text = NULL,
	start_to_close_timeout interval = NULL, schedule_to_start_timeout interval = NULL, heartbeat_timeout interval = NULL, transactional boolean = true,
	max_concurrency int = NULL, rate_limit text = NULL, description text = NULL, http jsonb = NULL) RETURNS void LANGUAGE sql AS '';

-- Waits for a turn in a loop: it stands in for a server, and is none.
CREATE PROCEDURE romancy.poll_workflows(queue text, worker_id text, max_tasks int = 1, lease interval = NULL, wait interval = '20s', INOUT tasks jsonb = NULL,
	unknown text[] = NULL)
LANGUAGE plpgsql AS $$
DECLARE
	t romancy.turn;
	until timestamptz := clock_timestamp() + least(wait, '2 s');
BEGIN
	LOOP
		SELECT * INTO t FROM romancy.turn c WHERE NOT c.given AND c.worker = poll_workflows.queue
			AND NOT EXISTS (SELECT FROM romancy.turn b WHERE b.lane = c.lane AND b.n < c.n AND NOT b.done)
			ORDER BY c.lane, c.n LIMIT 1 FOR UPDATE SKIP LOCKED;
		EXIT WHEN FOUND OR clock_timestamp() >= until;
		PERFORM pg_sleep(0.02);
	END LOOP;
	tasks := '[]';
	IF t.lane IS NOT NULL THEN
		UPDATE romancy.turn c SET given = true WHERE c.lane = t.lane AND c.n = t.n;
		tasks := jsonb_build_array(jsonb_build_object('token', t.lane || '/' || t.n, 'instance_id', t.instance_id, 'workflow', t.workflow, 'version', 1,
			'status', 'running', 'namespace', 'n', 'input', t.input, 'attempt', 1, 'deadline', now() + '1 hour', 'scheduled_at', NULL,
			'history', (SELECT coalesce(jsonb_agg(e ORDER BY i), '[]') FROM jsonb_array_elements(t.history) WITH ORDINALITY x (e, i) WHERE i <= 1000)));
	END IF;
END $$;

CREATE FUNCTION romancy.read_history(token text, after bigint = 0, page_size int = 1000, OUT seq bigint, OUT event_type text, OUT activity_id text,
	OUT data jsonb, OUT created_at timestamptz) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT (e ->> 'seq')::bigint, e ->> 'event_type', e ->> 'activity_id', e -> 'data', now()
	FROM romancy.turn t, jsonb_array_elements(t.history) e
	WHERE t.lane || '/' || t.n = token AND (e ->> 'seq')::bigint > after ORDER BY 1 LIMIT page_size $$;

-- note(token, call, over): the program has called; over: the turn ends with that
CREATE FUNCTION romancy.note(token text, call jsonb, over boolean) RETURNS void LANGUAGE sql AS $$
	INSERT INTO romancy.answer (token, call) VALUES (token, call);
	UPDATE romancy.turn t SET done = true WHERE over AND t.lane || '/' || t.n = token $$;

CREATE FUNCTION romancy.record(token text, events jsonb) RETURNS void LANGUAGE sql AS $$
	SELECT romancy.note(token, jsonb_build_object('record', events), false) $$;
CREATE FUNCTION romancy.suspend(token text, commands jsonb, wait_for jsonb = NULL) RETURNS void LANGUAGE sql AS $$
	SELECT romancy.note(token, jsonb_build_object('suspend', commands, 'wait_for', wait_for), true) $$;
CREATE FUNCTION romancy.complete_workflow(token text, output jsonb = NULL) RETURNS void LANGUAGE sql AS $$
	SELECT romancy.note(token, jsonb_build_object('complete', output), true) $$;
CREATE FUNCTION romancy.fail_workflow(token text, message text, error_code text = NULL, detail jsonb = NULL) RETURNS void LANGUAGE sql AS $$
	SELECT romancy.note(token, jsonb_build_object('fail', error_code), true) $$;
CREATE FUNCTION romancy.extend_lease(token text, extend interval) RETURNS void LANGUAGE sql AS $$
	SELECT romancy.note(token, jsonb_build_object('extend', extend), false) $$;

-- plain(call): the call without the differences that mean nothing: nulls, values that it makes up, and how an interval is written.
CREATE FUNCTION romancy.plain(call jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_object_agg(key, CASE WHEN key IN ('record', 'suspend') THEN
		(SELECT coalesce(jsonb_agg(jsonb_strip_nulls(e
			|| CASE WHEN e ->> 'op' IN ('now', 'random', 'uuid') THEN '{"value": "made up"}' ELSE '{}' END::jsonb
			|| CASE WHEN e ? 'duration' THEN jsonb_build_object('duration', (e ->> 'duration')::interval) ELSE '{}' END
			|| CASE WHEN e ->> 'timeout' IS NOT NULL THEN jsonb_build_object('timeout', (e ->> 'timeout')::interval) ELSE '{}' END) ORDER BY i), '[]')
		 FROM jsonb_array_elements(value) WITH ORDINALITY x (e, i)) ELSE value END)
	FROM jsonb_each(call) WHERE value <> 'null' OR key IN ('complete', 'fail') $$;
