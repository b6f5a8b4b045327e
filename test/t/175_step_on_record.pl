# A step with transactional => false that has begun is on record, whatever may end it then: a limit for its begin does not, cancel_task()
# of a canvas's member has it undone, and so has a crash with synchronous_commit off, for a spawned step and one of the handler's own.
# It would catch effects of instances that have failed without them, and effects that nothing undoes.
# Takes 40 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('record', 'restart_after_crash' => 'on', 'wal_writer_delay' => '10s', 'max_worker_processes' => 16, 'romancy.lock_cleanup_interval' => '1h', 'romancy.activity_timeout_interval' => '1h');
my $file = PostgreSQL::Test::Utils::tempdir() . '/effect';
my $runs = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND granted};

sub value { return $node->safe_psql('postgres', $_[0]) }
sub ended { my ($id, $what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return poll_until($node, "SELECT finished_at IS NOT NULL FROM romancy.instances WHERE instance_id = '$id'", $what) }
sub status { return value("SELECT status FROM romancy.instances WHERE instance_id = '$_[0]'") }
sub effects { return value("SELECT string_agg(what, ', ' ORDER BY n) FROM effect WHERE instance = '$_[0]'") }

value(qq{
	CREATE TABLE effect (n serial, instance uuid, what text);
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), \$1 #>> '{}'); RETURN \$1; END \$\$;
	CREATE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'undo ' || coalesce(\$1 ->> 'result', 'null')); RETURN \$1; END \$\$;
	CREATE FUNCTION begun() RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_advisory_xact_lock_shared(7), pg_advisory_xact_lock_shared(8); END \$\$;
	CREATE PROCEDURE commits(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS \$\$ BEGIN PERFORM put('"did"'); COMMIT; PERFORM begun(); PERFORM put('"end"'); result := \$1; END \$\$;
	CREATE PROCEDURE outside(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS \$\$ BEGIN COPY (SELECT 1) TO '$file'; PERFORM begun(); result := \$1; END \$\$;
	SELECT romancy.define_activity('commits', 'commits(jsonb, jsonb)', transactional => false, compensation => 'undo'),
		romancy.define_activity('put', 'put', compensation => 'undo'),
		romancy.define_activity('outside', 'outside(jsonb, jsonb)', transactional => false, compensation => 'undo'),
		romancy.define_activity('soon', 'commits(jsonb, jsonb)', transactional => false, compensation => 'undo', schedule_to_start_timeout => '10 s');
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN PERFORM romancy.activity('put', '"first"'); RETURN romancy.await(romancy.spawn(\$1 #>> '{}', '"a"')); END \$\$;
	CREATE FUNCTION own(jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN PERFORM romancy.activity('put', '"first"'); RETURN romancy.activity(\$1 #>> '{}', '"a"'); END \$\$;
});
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(8)');

# --- it has begun in time, and takes longer than the time in which it has to begin
my $member = value(q{SELECT romancy.run_canvas(romancy.options(romancy.task('commits', '"a"'), expires => '10 s'))});
my $step = value(q{SELECT romancy.start_workflow('spawns', '"soon"')});
poll_until($node, $runs, 'both steps run', expected => 2);
poll_until($node, q{SELECT clock_timestamp() > max(created_at) + interval '11 s' FROM romancy.instances}, 'their limits are over');
value(q{SELECT romancy.run_sweep('activity_timeouts'), romancy.run_sweep('lock_cleanup')});
is(value($runs), '2', 'they run');
isnt(status($member), 'failed', 'a canvas whose member has begun does not fail');
isnt(status($step), 'failed', 'nor does an instance whose step has');
$holder->query_safe('SELECT pg_advisory_unlock(8)');
ended($_, 'it ends') for $member, $step;
is(status($_), 'completed', 'and is completed') for $member, $step;
is(effects($member), 'did, end', 'the member has run once');
is(effects($step), 'first, did, end', 'so has the step');
$holder->query_safe('SELECT pg_advisory_lock(8)');

# --- a member that is cancelled while it runs
my $id = value(q{SELECT romancy.run_canvas(romancy.group(romancy.task('put', '"first"'), romancy.task('commits', '"a"')))});
poll_until($node, $runs, 'a member runs', expected => 1);
poll_until($node, "SELECT count(*) FROM effect WHERE instance = '$id'", 'the other one has run', expected => 2);
is(value("SELECT romancy.cancel_task('$id', '1')"), 't', 'it is cancelled');
ended($id, 'its canvas ends');
is(status($id), 'failed', 'as failed');
is(value("SELECT string_agg(what, ', ' ORDER BY what) FROM effect WHERE instance = '$id'"), 'did, first, undo first, undo null', 'and both are undone');

# --- a crash of the server, of which the commit that announced the step would not be left
value('ALTER SYSTEM SET synchronous_commit = off');
$node->reload;
for my $flow ('spawns', 'own')
{
	unlink $file;
	value('CHECKPOINT');
	$id = value(qq{SET synchronous_commit = on; SELECT romancy.start_workflow('$flow', '"outside"')});
	poll_until($node, $runs, "$flow: the step runs", expected => 1);
	my $pid = value(q{SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND granted});
	value('ALTER SYSTEM SET romancy.enabled = off');
	$node->reload;
	ok(-e $file, "$flow: it has had its effect");
	kill 'KILL', $pid;
	poll_until($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", "$flow: the server starts again");
	eval { $holder->quit };
	$holder = $node->background_psql('postgres');
	$holder->query_safe('SELECT pg_advisory_lock(8)');
	value("SELECT romancy.cancel_workflow('$id')");
	value('ALTER SYSTEM SET romancy.enabled = on');
	$node->reload;
	ended($id, "$flow: the instance ends");
	is(status($id), 'cancelled', "$flow: as cancelled");
	like(effects($id) // '', qr/undo null/, "$flow: and the step is undone");
}

$node->stop;
done_testing();
