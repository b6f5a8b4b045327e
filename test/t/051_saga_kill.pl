# SIGKILL at each point of a saga: before a compensation, inside one, after one has
# committed, and before the final status. Whichever process dies and when, each
# compensation's effect stands once in the user's table, in the right order, and the
# instance ends as failed. It would catch an undoing that commits apart from its
# history row, a saga that is forgotten, and one that begins anew.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = romancy_node('saga', 'restart_after_crash' => 'on', 'synchronous_commit' => 'on', 'max_worker_processes' => 12);

# An activity or a compensation dies at its point, once: the note of it is taken
# away outside the transaction, by a program that the dying process starts.
$node->safe_psql('postgres', q{
	CREATE TABLE effect (n serial, instance uuid, what text);
	CREATE FUNCTION dies_at(point text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE f text := current_setting('data_directory') || '/point';
	BEGIN
		IF pg_read_file('point', 0, 1000, true) = point THEN
			EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'rm ' || f || '; kill -9 ' || pg_backend_pid());
			PERFORM pg_sleep(60);
		END IF;
	END $$;
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'do ' || ($1 #>> '{}'));
		RETURN $1;
	END $$;
	CREATE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM dies_at('before ' || ($1 ->> 'result'));
		INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'undo ' || ($1 ->> 'result'));
		PERFORM dies_at('inside ' || ($1 ->> 'result'));
		RETURN NULL;
	END $$;
	-- dies when the transaction commits: after all that the turn did
	CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN PERFORM dies_at('commit of ' || new.what); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON effect DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit();
	SELECT romancy.define_activity('put', 'put(jsonb)', compensation => 'undo');
	CREATE FUNCTION saga(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1..3 LOOP PERFORM romancy.activity('put', to_jsonb(i)); END LOOP;
		IF $1 = '"cancel"' THEN PERFORM romancy.sleep('1 h'); END IF;
		RAISE EXCEPTION 'saga fails';
	END $$;
});
my $expected = 'do 1,do 2,do 3,undo 3,undo 2,undo 1';

sub wait_for_server
{
	for (1 .. 300)
	{
		my $ok = eval { $node->psql('postgres', 'SELECT 1', stdout => \my $out, stderr => \my $err); defined $out && $out eq '1' };
		return if $ok;
		usleep(100_000);
	}
	die 'the server does not come back';
}

sub run_saga
{
	my ($point, $input, $final) = @_;
	my $file = $node->data_dir . '/point';
	append_to_file($file, $point) if $point;
	my $id = $node->safe_psql('postgres', 'SELECT gen_random_uuid()');
	# (its process may die before this session has ended)
	eval { $node->psql('postgres', "SELECT romancy.start_workflow('saga', '$input', instance_id => '$id')") };
	if ($input eq '"cancel"')
	{
		poll_until($node, "SELECT status = 'waiting_for_timer' FROM romancy.instances WHERE instance_id = '$id'", "$point: it sleeps");
		eval { $node->psql('postgres', "SELECT romancy.cancel_workflow('$id')") };
	}
	if ($point)
	{
		for (1 .. 300) { last unless -e $file; usleep(50_000); }
		ok(!-e $file, "$point: a process was killed there");
		wait_for_server();
	}
	poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", ($point || 'nobody dies') . ": $final", expected => $final);
	is($node->safe_psql('postgres', "SELECT string_agg(what, ',' ORDER BY n) FROM effect WHERE instance = '$id'"), $expected,
		($point || 'nobody dies') . ': each effect once');
	is($node->safe_psql('postgres', "SELECT count(*) FROM romancy.get_history('$id') WHERE event_type = 'CompensationExecuted'"), '3',
		($point || 'nobody dies') . ': three rows of history');
}

run_saga('', '"fail"', 'failed');
run_saga('before 3', '"fail"', 'failed');
run_saga('inside 3', '"fail"', 'failed');
run_saga('commit of undo 3', '"fail"', 'failed');
run_saga('inside 2', '"cancel"', 'cancelled');
run_saga('commit of undo 1', '"cancel"', 'cancelled');

# Before the final status. Compensations share a transaction with what follows them,
# unless a turn has used its time (200 ms): then the next turn goes on, and after the last
# compensation there is one that does nothing but end the instance. It tells the parent,
# in t_inbox, so a lock on this table holds it up, and it dies there. (What the saga
# undoes are the steps that were committed: those of a turn that a cancel or a crash
# interrupts did not happen, and leave no row either.) A procedure that commits inside is
# recorded by the turn after it, which commits before that one begins: it runs and
# stands in history once.
$node->safe_psql('postgres', q{
	CREATE FUNCTION undo_slowly(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(51), pg_sleep(0.4);
		INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'undo ' || ($1 ->> 'result'));
		RETURN NULL;
	END $$;
	CREATE PROCEDURE undo_outside(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(51);
		INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'undo ' || ($1 ->> 'result'));
		COMMIT;
	END $$;
	SELECT romancy.define_activity('undo_outside', 'undo_outside(jsonb, jsonb)', transactional => false);
	CREATE FUNCTION parent(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.call_workflow('saga', $1); END $$;
});
for my $undo ('undo_slowly', 'undo_outside')
{
	my $holder = $node->background_psql('postgres');

	$holder->query_safe('SELECT pg_advisory_lock(51)');
	$node->safe_psql('postgres', "SELECT romancy.define_activity('put', 'put(jsonb)', compensation => '$undo')");
	my $parent = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('parent', '"fail"')});
	my $child = "(SELECT instance_id FROM romancy.t_instance WHERE parent_id = '$parent')";
	poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 51 AND NOT granted}, "before the end, $undo: it compensates");
	$holder->query_safe('BEGIN');
	$holder->query_safe('LOCK TABLE romancy.t_inbox IN SHARE MODE');
	$holder->query_safe('SELECT pg_advisory_unlock(51)');
	my $blocked = q{SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE relation = 'romancy.t_inbox'::regclass
		AND mode = 'RowExclusiveLock' AND NOT granted AND backend_type = 'romancy executor'};
	poll_until($node, "SELECT count(*) = 1 FROM ($blocked) b", "before the end, $undo: the last turn is about to tell its parent");
	is($node->safe_psql('postgres', "SELECT string_agg(what, ',' ORDER BY n) FROM effect WHERE instance = $child"), $expected, "before the end, $undo: all is undone and committed");
	is($node->safe_psql('postgres', "SELECT status FROM romancy.instances WHERE instance_id = $child"), 'compensating', "before the end, $undo: the final status is not");
	my $killed = $node->safe_psql('postgres', $blocked);
	kill 'KILL', $killed;
	eval { $holder->quit };
	poll_until(sub { !kill(0, $killed) }, "before the end, $undo: the executor is killed");
	wait_for_server();
	poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$parent'", "before the end, $undo: the parent hears of it", expected => 'failed');
	is($node->safe_psql('postgres', "SELECT status || ': ' || (error ->> 'message') FROM romancy.instances WHERE instance_id = $child"), 'failed: saga fails', "before the end, $undo: failed, for its reason");
	is($node->safe_psql('postgres', "SELECT string_agg(what, ',' ORDER BY n) FROM effect WHERE instance = $child"), $expected, "before the end, $undo: the effects");
	is($node->safe_psql('postgres', "SELECT string_agg(coalesce(activity_id, event_type), ',' ORDER BY seq) FROM romancy.get_history($child) WHERE event_type LIKE 'Comp%' OR event_type LIKE 'Workflow%'"),
		'put:3,put:2,put:1,WorkflowFailed', "before the end, $undo: one row of history each");
}

# A cancel while a compensation waits for its next attempt neither brings the attempt
# forward nor charges one: the rest run when they would have, and the end is another.
$node->safe_psql('postgres', q{
	CREATE TABLE repaired (yes boolean);
	CREATE FUNCTION undo_hourly(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF $1 ->> 'result' = '2' AND NOT EXISTS (SELECT FROM repaired) THEN RAISE EXCEPTION 'not yet'; END IF;
		INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'undo ' || ($1 ->> 'result') || ' at attempt ' || romancy.attempt());
		RETURN NULL;
	END $$;
	SELECT romancy.define_activity('undo_hourly', 'undo_hourly(jsonb)', retry => '{"initial_interval": "2000 s", "max_interval": "2000 s", "max_duration": "9000 s", "jitter": 0}');
	SELECT romancy.define_activity('put', 'put(jsonb)', compensation => 'undo_hourly');
});
my $retrying = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('saga', '"fail"')});
poll_until($node, "SELECT status = 'compensating' AND wait ->> 'kind' = 'retry' FROM romancy.t_instance WHERE instance_id = '$retrying'", 'between attempts: it waits for the second');
my $until = $node->safe_psql('postgres', "SELECT wait ->> 'until' FROM romancy.t_instance WHERE instance_id = '$retrying'");
$node->safe_psql('postgres', 'INSERT INTO repaired VALUES (true)');
is($node->safe_psql('postgres', "SELECT romancy.cancel_workflow('$retrying', 'enough')"), 't', 'between attempts: it is cancelled');
poll_until($node, "SELECT wait -> 'saga' ->> 'status' = 'cancelled' FROM romancy.t_instance WHERE instance_id = '$retrying'", 'between attempts: the cancel has arrived');
is($node->safe_psql('postgres', "SELECT status, wait ->> 'kind', wait ->> 'until' FROM romancy.t_instance WHERE instance_id = '$retrying'"), "compensating|retry|$until", 'between attempts: it waits as before');
$node->safe_psql('postgres', "UPDATE romancy.t_instance SET wake_at = now() - interval '1 min', wait = jsonb_set(wait, '{until}', to_jsonb(now() - interval '1 min')) WHERE instance_id = '$retrying'");
$node->safe_psql('postgres', q{SELECT sum(romancy.run_sweep(name)) FROM romancy.sweeps WHERE name IN ('timers', 'activity_timeouts')});
poll_until($node, "SELECT concat_ws(', ', status, error ->> 'message', error -> 'cause' ->> 'message') FROM romancy.instances WHERE instance_id = '$retrying'",
	'between attempts: cancelled in the end, with its failure as the cause', expected => 'cancelled, enough, saga fails');
is($node->safe_psql('postgres', "SELECT string_agg(what, ',' ORDER BY n) FROM effect WHERE instance = '$retrying' AND what LIKE 'undo%'"),
	'undo 3 at attempt 1,undo 2 at attempt 2,undo 1 at attempt 1', 'between attempts: all undone, once, none charged for the cancel');

# Between a compensation that has committed and the next: it waits for its second
# attempt when everything is killed, and knows it afterwards.
$node->safe_psql('postgres', q{
	CREATE TABLE mended (yes boolean);
	CREATE FUNCTION undo_later(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF $1 ->> 'result' = '2' AND NOT EXISTS (SELECT FROM mended) THEN RAISE EXCEPTION 'not yet'; END IF;
		INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'undo ' || ($1 ->> 'result') || ' at attempt ' || romancy.attempt());
		RETURN NULL;
	END $$;
	SELECT romancy.define_activity('undo_later', 'undo_later(jsonb)', retry => '{"initial_interval": "5 s", "max_interval": "5 s", "jitter": 0}');
	SELECT romancy.define_activity('put', 'put(jsonb)', compensation => 'undo_later');
});
my $id = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('saga', '"fail"')});
poll_until($node, "SELECT status = 'compensating' AND wait ->> 'kind' = 'retry' FROM romancy.t_instance WHERE instance_id = '$id'", 'it waits for a second attempt');
# (mended before the restart, which may take as long as the attempt is away)
$node->safe_psql('postgres', 'INSERT INTO mended VALUES (true)');
$node->stop('immediate');
$node->start;
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", 'it goes on after a restart', expected => 'failed');
is($node->safe_psql('postgres', "SELECT string_agg(what, ',' ORDER BY n) FROM effect WHERE instance = '$id' AND what LIKE 'undo%'"),
	'undo 3 at attempt 1,undo 2 at attempt 2,undo 1 at attempt 1', 'with its attempts counted, each once');

# A cancel interrupts the statement that is running, whether it is an activity's (then
# it is compensated) or a compensation's (then it runs again, and no attempt is charged).
$node->safe_psql('postgres', q{
	CREATE FUNCTION naps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN $1; END $$;
	CREATE FUNCTION slow_undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(52);
		INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'undo ' || ($1 ->> 'result') || ' at attempt ' || romancy.attempt());
		RETURN NULL;
	END $$;
	SELECT romancy.define_activity('put', 'put(jsonb)', compensation => 'slow_undo');
	CREATE FUNCTION long(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	-- (the sleep commits the first step: else a cancel of the second rolls it back, and there is nothing to undo)
	BEGIN PERFORM romancy.activity('put', '1'); PERFORM romancy.sleep('10 ms'); RETURN romancy.activity('naps'); END $$;
});
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(52)');
$id = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('long')});
poll_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 'an activity is running');
is($node->safe_psql('postgres', "SELECT romancy.cancel_workflow('$id', 'first')"), 't', 'it is cancelled');
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", 'and compensates', expected => 'compensating');
my $undoing = q{FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE locktype = 'advisory' AND objid = 52 AND NOT granted};
poll_until($node, "SELECT count(*) = 1 $undoing", 'a compensation is running');
my $statement = $node->safe_psql('postgres', "SELECT xact_start $undoing");
is($node->safe_psql('postgres', "SELECT romancy.cancel_workflow('$id', 'second')"), 't', 'it is cancelled again');
poll_until($node, "SELECT count(*) = 1 $undoing AND xact_start <> '$statement'", 'which interrupts it, and it runs again');
$holder->quit;
poll_until($node, "SELECT status || ' ' || (error ->> 'message') FROM romancy.instances WHERE instance_id = '$id'", 'and ends, for the first reason', expected => 'cancelled first');
is($node->safe_psql('postgres', "SELECT string_agg(what, ',' ORDER BY n) FROM effect WHERE instance = '$id'"), 'do 1,undo 1 at attempt 1', 'undone once');

done_testing();
