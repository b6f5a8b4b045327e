# A spawned step with transactional => false whose process has died after its effect, and whose next attempt cannot begin, since its procedure is gone or its activity was given a queue: the effect is
# undone when the instance fails, or is cancelled before another attempt; a handler that catches the error goes on, and its history still matches. The same for a canvas's member.
# It would catch effects that nothing undoes because the failure of an attempt that never began took the record of them away.
# Takes 40 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('before_begin', 'romancy.executors' => 2);
my $runs = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND granted};
sub value { return $node->safe_psql('postgres', $_[0]) }
sub status { my ($id, $is, $what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", $what, expected => $is) }
sub effects { return value("SELECT string_agg(what, ', ' ORDER BY n) FROM effect WHERE instance = '$_[0]'") }

value(q{
	CREATE TABLE effect (n serial, instance uuid, what text);
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), $1 #>> '{}'); RETURN $1; END $$;
	CREATE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'undo ' || coalesce($1 ->> 'result', 'null')); RETURN $1; END $$;
	CREATE FUNCTION begun() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7), pg_advisory_xact_lock_shared(8); END $$;
	CREATE PROCEDURE commits(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM put('"did"'); COMMIT; PERFORM begun(); result := $1; END $$;
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('commits', '"a"')); END $$;
	CREATE FUNCTION catches(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN PERFORM romancy.await(romancy.spawn('commits', '"a"')); EXCEPTION WHEN others THEN PERFORM romancy.activity('put', '"caught"'); END;
		PERFORM romancy.receive('goes_on');
		PERFORM romancy.activity('put', '"on"');
		IF $1 = '"fails"' THEN RAISE 'fault'; END IF;
		RETURN $1;
	END $$;
	SELECT romancy.define_activity('put', 'put');
});

# defines($retry): the activity as it is before
sub defines { my $retry = shift; return value(qq{SELECT romancy.define_activity('commits', 'commits(jsonb, jsonb)', transactional => false, compensation => 'undo', retry => '$retry')}) }
my $once = '{"max_attempts": 1}';
my $later = '{"initial_interval": "1 hour", "max_interval": "1 hour", "max_duration": null, "retryable_errors": ["42", "RM"]}';
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(8)');

# dies($start, $retry, $fault): an instance whose step has had its effect; then the fault comes, and its process dies
sub dies
{
	my ($start, $retry, $fault) = @_;
	defines($retry);
	my $id = value("SELECT romancy.$start");
	poll_until($node, $runs, "$start: its step runs", expected => 1);
	value($fault);
	value(q{SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND granted});
	return $id;
}
my $canvas = q{run_canvas(romancy.task('commits', '"a"'))};
my %faults = (
	'its procedure is gone' => [ 'ALTER PROCEDURE commits(jsonb, jsonb) RENAME TO commits_elsewhere', 'ALTER PROCEDURE commits_elsewhere(jsonb, jsonb) RENAME TO commits' ],
	'it has a queue' => [ q{SELECT romancy.define_activity('commits', queue => 'tellers', compensation => 'undo', retry => '{"max_attempts": 1}')}, 'SELECT 1' ],
);
for my $fault (sort keys %faults)
{
	my ($before, $after) = @{ $faults{$fault} };
	for my $start (q{start_workflow('spawns')}, $canvas)
	{
		my $id = dies($start, $once, $before);
		status($id, 'failed', "$start, $fault: failed");
		is(effects($id), 'did, undo null', "$start, $fault: and undone");
		value($after);
	}
	my $id = dies(q{start_workflow('catches', '"a"')}, $once, $before);
	status($id, 'waiting_for_message', "$fault, caught: it goes on");
	value("SELECT romancy.send_to('$id', 'goes_on', '1')");
	status($id, 'completed', "$fault, caught: and completes");
	is(effects($id), 'did, caught, on', "$fault, caught: with what it has done");
	is(value("SELECT count(*) FROM romancy.check_replay('catches')"), '0', "$fault, caught: its history matches");
	value($after);

	$id = dies(q{start_workflow('catches', '"fails"')}, $once, $before);
	status($id, 'waiting_for_message', "$fault, caught, and it fails: it goes on");
	value("SELECT romancy.send_to('$id', 'goes_on', '1')");
	status($id, 'failed', "$fault, caught, and it fails: failed");
	is(effects($id), 'did, caught, on, undo null', "$fault, caught, and it fails: undone");
	value($after);
}

# Another attempt is to come, and the instance is cancelled before
for my $start (q{start_workflow('spawns')}, $canvas)
{
	my $id = dies($start, $later, $faults{'its procedure is gone'}[0]);
	poll_until($node, "SELECT count(*) FROM romancy.t_task WHERE instance_id = '$id' AND state = 2", "$start, cancelled: its next attempt is later", expected => 1);
	value("SELECT romancy.cancel_workflow('$id')");
	status($id, 'cancelled', "$start, cancelled: it is");
	is(effects($id), 'did, undo null', "$start, cancelled: and undone");
	value($faults{'its procedure is gone'}[1]);
}

# A step that has failed by itself is not undone
value(q{CREATE OR REPLACE PROCEDURE commits(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM put('"did"'); RAISE 'no'; END $$});
defines($once);
for my $start (q{start_workflow('spawns')}, $canvas)
{
	my $id = value("SELECT romancy.$start");
	status($id, 'failed', "$start, by itself: failed");
	is(effects($id), '', "$start, by itself: nothing is left, and nothing undone");
}
$holder->quit;
$node->stop('fast');
done_testing();
