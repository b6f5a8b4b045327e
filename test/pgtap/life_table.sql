-- The table of doc/life.md, every pair of a status and an operation: this test is
-- made of that table, so neither can change without the other. It would catch a
-- cell that is not so any more, a status that the table lacks, and an operation
-- that leaves something behind in a final status.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

CREATE TEMP TABLE line (n int GENERATED ALWAYS AS IDENTITY, line text);
\copy line (line) from 'doc/life.md' with (format csv, delimiter E'\x01', quote E'\x02')
CREATE TEMP TABLE expected AS
WITH cells AS (
	SELECT n, array(SELECT trim(c) FROM unnest(string_to_array(trim(BOTH '|' FROM line), '|')) c) AS cell FROM line
	WHERE n > (SELECT min(n) FROM line WHERE line LIKE '## Every status%') AND n < (SELECT min(n) FROM line WHERE line LIKE 'Unknown instances%')
		AND line LIKE '| %' AND line NOT LIKE '| --%'),
head AS (SELECT cell FROM cells ORDER BY n LIMIT 1)
SELECT cells.cell[1] AS status, head.cell[i] AS operation, cells.cell[i] AS outcome, cells.n, i
FROM cells, head, generate_series(2, array_length(head.cell, 1)) i WHERE cells.cell <> head.cell;

SELECT set_eq('SELECT DISTINCT status FROM expected', 'SELECT unnest(enum_range(NULL::romancy.t_status))::text', 'the table has every status');
SELECT set_eq('SELECT DISTINCT operation FROM expected', array['cancel', 'terminate', 'pause', 'resume', 'retry', 'fork', 'delete', 'send_to', 'raise_event'], 'and every operation');

CREATE TABLE mended (yes boolean);
CREATE TABLE effect (what jsonb);
CREATE FUNCTION first(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect VALUES ($1); RETURN $1; END $$;
CREATE FUNCTION breaks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN IF NOT EXISTS (SELECT FROM mended) THEN RAISE EXCEPTION 'broken'; END IF; RETURN $1; END $$;
SELECT romancy.define_activity('once', 'breaks(jsonb)', retry => '{"max_attempts": 1}');
CREATE FUNCTION child(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 day'); RETURN $1; END $$;
CREATE FUNCTION lives(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('first', input);
	CASE input #>> '{}'
		WHEN 'running' THEN FOR i IN 1..100 LOOP PERFORM romancy.activity('first', to_jsonb(i)); END LOOP;
		WHEN 'waiting_for_timer', 'paused', 'cancelled' THEN PERFORM romancy.sleep('1 day');
		WHEN 'waiting_for_message' THEN PERFORM romancy.receive('nothing comes');
		WHEN 'waiting_for_activity' THEN PERFORM romancy.activity('breaks');
		WHEN 'waiting_for_workflow' THEN PERFORM romancy.call_workflow('child');
		WHEN 'compensating' THEN PERFORM romancy.register_compensation('breaks', '1'); RAISE EXCEPTION 'fails';
		WHEN 'failed' THEN PERFORM romancy.activity('once');
		WHEN 'recurred' THEN RETURN romancy.recur('"waiting_for_timer"');
		ELSE NULL;
	END CASE;
	RETURN input;
END $$;

-- lets everything run that is ready now, in this transaction
CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN CALL romancy.drain(turns => n); END $$;

-- brings a new instance into a status
CREATE FUNCTION born(status text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE id uuid := romancy.start_workflow('lives', to_jsonb(status)); n bigint;
BEGIN
	IF status = 'pending' THEN RETURN id; END IF;
	-- step by step, a turn ends after so many activities
	IF status = 'running' THEN
		PERFORM set_config('romancy.turn_mode', 'step', true);
		CALL romancy.drain(max_turns => 1, turns => n);
		PERFORM set_config('romancy.turn_mode', 'auto', true);
		RETURN id;
	END IF;
	CALL settle();
	IF status = 'paused' THEN PERFORM romancy.pause_workflow(id); CALL settle(); END IF;
	IF status = 'cancelled' THEN PERFORM romancy.cancel_workflow(id); CALL settle(); END IF;
	RETURN id;
END $$;

-- does it, and says what came of it in the words of the table
CREATE FUNCTION outcome(id uuid, operation text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before text := (SELECT i.status FROM romancy.instances i WHERE i.instance_id = id);
	after text;
	done boolean;
	fork uuid;
	turns bigint;
BEGIN
	CASE operation
		WHEN 'cancel' THEN done := romancy.cancel_workflow(id);
		WHEN 'terminate' THEN done := romancy.terminate_workflow(id);
		WHEN 'pause' THEN done := romancy.pause_workflow(id);
		WHEN 'resume' THEN done := romancy.resume_workflow(id);
		WHEN 'retry' THEN INSERT INTO mended VALUES (true); done := romancy.retry_workflow(id);
		WHEN 'delete' THEN done := romancy.delete_workflow(id);
		WHEN 'fork' THEN fork := romancy.fork_workflow(id, 'first:1');
		WHEN 'send_to' THEN PERFORM romancy.send_to(id, 'c', '1');
		WHEN 'raise_event' THEN PERFORM romancy.raise_event('t', 's', '1', instance_id => id);
	END CASE;
	IF operation IN ('send_to', 'raise_event') THEN
		CALL settle();
		RETURN CASE WHEN before <> (SELECT status FROM romancy.instances WHERE instance_id = id) AND before NOT IN ('pending', 'running') THEN 'another status'
			WHEN EXISTS (SELECT FROM romancy.t_message m WHERE m.mailbox = outcome.id) THEN 'kept' ELSE 'no' END;
	END IF;
	IF fork IS NOT NULL THEN
		RETURN CASE WHEN before = (SELECT status FROM romancy.instances WHERE instance_id = id)
			AND (SELECT status FROM romancy.instances WHERE instance_id = fork) = 'pending' THEN 'new' END;
	END IF;
	IF NOT EXISTS (SELECT FROM romancy.instances WHERE instance_id = id) THEN
		RETURN CASE WHEN done AND NOT EXISTS (SELECT FROM romancy.t_history WHERE instance_id = id)
			AND NOT EXISTS (SELECT FROM romancy.t_history_archive WHERE instance_id = id) THEN 'gone' END;
	END IF;
	IF done THEN
		CALL settle();
		RETURN '→ ' || (SELECT status FROM romancy.instances WHERE instance_id = id);
	END IF;
	RETURN CASE WHEN before = (SELECT status FROM romancy.instances WHERE instance_id = id) THEN 'no' END;
EXCEPTION WHEN SQLSTATE 'RM010' OR SQLSTATE 'RM012' OR SQLSTATE 'RM002' THEN
	RETURN sqlstate;
END $$;

CREATE FUNCTION try(status text, operation text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE id uuid; got text;
BEGIN
	DELETE FROM romancy.t_instance;
	DELETE FROM romancy.t_inbox;
	DELETE FROM mended;
	id := born(status);
	IF (SELECT i.status FROM romancy.instances i WHERE instance_id = id) IS DISTINCT FROM status THEN
		RETURN format('the instance is %s', (SELECT i.status FROM romancy.instances i WHERE instance_id = id));
	END IF;
	got := outcome(id, operation);
	IF EXISTS (SELECT FROM romancy.t_inbox b JOIN romancy.t_instance i USING (instance_id) WHERE i.finished_at IS NOT NULL) THEN
		RETURN got || ', and something is left in the inbox of a finished instance';
	END IF;
	RETURN got;
END $$;

SELECT is(try(status, operation), outcome, format('%s: %s', status, operation)) FROM expected ORDER BY n, i;
SELECT * FROM finish();
ROLLBACK;
