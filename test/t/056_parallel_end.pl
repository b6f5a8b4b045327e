# An instance that ends while a part of it, done by another executor, is not committed yet waits
# for that part: what it did has its history row, and its compensation where the instance is undone.
# So for a cancel, a terminate, a failure and a handler that returns. It would catch an end that takes
# a spawned activity for not begun because its transaction is not to be seen.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('parallel_end', 'romancy.executors' => 4, 'romancy.max_workers' => 8, 'max_worker_processes' => 16);

# The commit of an effect waits for the advisory lock 1: no cancel of a step reaches it there
$node->safe_psql('postgres', q{
	CREATE TABLE effect (instance uuid, step text, what text);
	CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN IF NEW.what = 'slow' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER held AFTER INSERT ON effect DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit();
	CREATE FUNCTION act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect VALUES (romancy.instance_id(), romancy.step_key(), $1 #>> '{}');
		IF $1 = '"short"' THEN PERFORM pg_sleep(0.004); END IF;
		RETURN $1;
	END $$;
	CREATE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect VALUES (romancy.instance_id(), romancy.step_key(), 'undo'); RETURN $1; END $$;
	SELECT romancy.define_activity('undo', 'undo(jsonb)');
	SELECT romancy.define_activity('act', 'act(jsonb)', compensation => 'undo');
	CREATE FUNCTION parent(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE h text;
	BEGIN
		h := romancy.spawn('act', '"slow"');
		IF ((romancy.receive('go')).data = '"fail"') THEN RAISE EXCEPTION 'as told'; END IF;
		RETURN '"returned"';
	END $$;
	CREATE FUNCTION six(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE h text[];
	BEGIN
		FOR i IN 1..6 LOOP h := h || romancy.spawn('act', '"short"'); END LOOP;
		IF $1 = '"fails"' THEN h := h || romancy.spawn('broken', retry => '{"max_attempts": 1}'); END IF;
		PERFORM romancy.await_all(h);
		PERFORM romancy.sleep('1 day');
		RETURN 'true';
	END $$;
	CREATE FUNCTION broken(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken' USING ERRCODE = 'P0001'; END $$;
});
sub value { return $node->safe_psql('postgres', $_[0]) }
sub settled { poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, $_[0]) }

# The history of an instance with a part at its commit, and what is seen of it until then
sub ends
{
	my ($how, $do, $meanwhile, $status, $history) = @_;
	my $holder = $node->background_psql('postgres');

	$holder->query_safe('SELECT pg_advisory_lock(1)');
	my $id = value(q{SELECT romancy.start_workflow('parent')});
	poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND objid = 1 AND NOT granted}, "$how: the part is at its commit");
	poll_until($node, qq{SELECT status FROM romancy.instances WHERE instance_id = '$id'}, "$how: the instance waits", expected => 'waiting_for_message');
	value(sprintf($do, $id));
	poll_until($node, qq{SELECT wait ? 'saga' FROM romancy.t_instance WHERE instance_id = '$id'}, "$how: it is to end");
	is(value(qq{SELECT status FROM romancy.instances WHERE instance_id = '$id'}), $meanwhile, "$how: and waits for its part");
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	$holder->quit;
	settled("$how: it ends");
	is(value(qq{SELECT status FROM romancy.instances WHERE instance_id = '$id'}), $status, "$how: as it should");
	is(value(qq{SELECT string_agg(event_type, ' ' ORDER BY seq) FROM romancy.get_history('$id')}), $history, "$how: the part has its history row");
	return $id;
}
ends('cancel', q{SELECT romancy.cancel_workflow('%s')}, 'compensating', 'cancelled', 'ActivityScheduled ActivityCompleted CompensationExecuted WorkflowCancelled');
ends('terminate', q{SELECT romancy.terminate_workflow('%s')}, 'compensating', 'cancelled', 'ActivityScheduled ActivityCompleted WorkflowCancelled');
ends('failure', q{SELECT romancy.send_to('%s', 'go', '"fail"')}, 'compensating', 'failed', 'ActivityScheduled ChannelMessageReceived ActivityCompleted CompensationExecuted WorkflowFailed');
my $done = ends('return', q{SELECT romancy.send_to('%s', 'go', '"return"')}, 'running', 'completed', 'ActivityScheduled ChannelMessageReceived ActivityCompleted WorkflowCompleted');
is(value("SELECT romancy.get_result('$done')"), '"returned"', 'return: with what the handler returned');

# Many, at any moment: no effect without its history row, none without its compensation
my $n = $ENV{ROMANCY_SAGAS} // 1000;
value('TRUNCATE effect');
value(qq{
	DO \$\$
	DECLARE id uuid;
	BEGIN
		FOR i IN 1..$n LOOP
			id := romancy.start_workflow('six', CASE WHEN i % 4 = 0 THEN '"fails"'::jsonb END);
			COMMIT;
			PERFORM pg_sleep(random() * 0.03);
			IF i % 4 <> 0 THEN PERFORM romancy.cancel_workflow(id); END IF;
			COMMIT;
		END LOOP;
	END \$\$});
settled("$n instances that are cancelled or fail");
is(value(q{
	WITH e AS (SELECT instance, count(*) FILTER (WHERE what <> 'undo') AS done, count(*) FILTER (WHERE what = 'undo') AS undone FROM effect GROUP BY 1),
	h AS (SELECT i.instance_id, count(*) FILTER (WHERE h.event_type = 'ActivityCompleted') AS completed, count(*) FILTER (WHERE h.event_type = 'CompensationExecuted') AS executed
		FROM romancy.instances i, romancy.get_history(i.instance_id) h WHERE i.workflow = 'six' GROUP BY 1)
	SELECT count(*) FROM h LEFT JOIN e ON instance = instance_id
	WHERE (coalesce(done, 0), coalesce(undone, 0)) IS DISTINCT FROM (completed, executed) OR completed <> executed}),
	'0', 'each effect has its history row and its compensation');
cmp_ok(value(q{SELECT count(*) FROM effect WHERE what = 'undo'}), '>', 0, 'some were undone');
is(value('SELECT count(*) FROM romancy.t_task WHERE state <> 3'), '0', 'no task is left but those that failed for good');
$node->stop('fast');
done_testing();
