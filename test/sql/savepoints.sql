-- Starts and requests that savepoints take back, in transactions that commit: nothing of them is left, in the tables or in the session's memory.
-- It would catch a wake-up for an instance that is not there, and memory that grows with savepoints.
SET client_min_messages = warning;
CREATE SCHEMA savepoints;
SET search_path = savepoints, public;
CREATE FUNCTION kept(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN input; END $$;
-- the last note of a transaction is taken back; the next transaction makes notes of its own (it wrote them to freed memory)
BEGIN;
SAVEPOINT s;
SELECT romancy.start_workflow('kept', '"taken back"') IS NOT NULL AS started;
ROLLBACK TO s;
COMMIT;
DO $$
BEGIN
	FOR i IN 1 .. 40 LOOP
		PERFORM romancy.start_workflow('kept', to_jsonb(repeat(i::text, i)));
		BEGIN
			PERFORM romancy.start_workflow('kept', to_jsonb(repeat(i::text, i * 10)));
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN
		END;
	END LOOP;
END $$;
-- the same with a request, and with a message
SELECT romancy.start_workflow('kept', start_at => now() + interval '1 day') AS id \gset
DO $$
BEGIN
	PERFORM romancy.cancel_workflow(instance_id), romancy.publish('savepoints') FROM romancy.instances WHERE workflow = 'kept' AND status = 'pending';
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
END $$;
SELECT romancy.cancel_workflow(:'id');
CALL romancy.run_workflow('kept', '"and goes on"');
DO $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '60 s';
BEGIN
	WHILE EXISTS (SELECT FROM romancy.instances WHERE workflow = 'kept' AND finished_at IS NULL) AND clock_timestamp() < deadline LOOP
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT status, count(*), count(DISTINCT input) FROM romancy.instances WHERE workflow = 'kept' GROUP BY status ORDER BY status;
SELECT count(romancy.delete_workflow(instance_id)) FROM romancy.instances WHERE workflow = 'kept';
DROP SCHEMA savepoints CASCADE;
