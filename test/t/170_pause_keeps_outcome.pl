# A step with transactional => false runs once per attempt, also when its instance is paused while it runs: its outcome, result or failure, is in history before the pause takes effect, and
# the instance goes on from there when it is resumed. The same when its handler cannot be run at that moment, when a pause and its end have both come, and when its process is to leave. It would
# catch a payment that is made twice because its workflow was paused at that moment.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use RomancyTest;
use Test::More;

my $node = romancy_node('pause_keeps', 'romancy.executors' => 2);
sub value { return $node->safe_psql('postgres', $_[0]) }
sub status { my ($id, $is, $what) = @_; return poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", $what, expected => $is) }

value(q{
	CREATE SEQUENCE runs;
	CREATE TABLE later (instance uuid);
	CREATE PROCEDURE pays(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('runs'); COMMIT; PERFORM pg_advisory_xact_lock_shared(8); result := '"paid"'; END $$;
	CREATE FUNCTION calls(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('runs'), pg_advisory_xact_lock_shared(8); RETURN '"paid"'; END $$;
	CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('runs'), pg_advisory_xact_lock_shared(8); RAISE 'no money'; END $$;
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO later VALUES (romancy.instance_id()); RETURN $1; END $$;
	SELECT romancy.define_activity('pays', 'pays(jsonb, jsonb)', transactional => false), romancy.define_activity('calls', 'calls', transactional => false),
		romancy.define_activity('fails', 'fails', transactional => false, retry => '{"max_attempts": 1}');
	CREATE FUNCTION step(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE result jsonb;
	BEGIN
		result := romancy.activity($1 #>> '{}');
		PERFORM romancy.activity('note', result);
		RETURN result;
	END $$;
	CREATE FUNCTION slow_step(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.03); RETURN romancy.activity($1 #>> '{}'); END $$;
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE result jsonb;
	BEGIN
		result := romancy.await(romancy.spawn($1 #>> '{}'));
		PERFORM romancy.activity('note', result);
		RETURN result;
	END $$;
});
my $holder = $node->background_psql('postgres');
my $waits = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 8 AND NOT granted};

# begin($workflow, $activity): an instance whose step has had its effect, and waits
sub begin
{
	my ($workflow, $activity) = @_;
	value(q{SELECT setval('runs', 1, false)});
	$holder->query_safe('SELECT pg_advisory_lock(8)');
	my $id = value(qq{SELECT romancy.start_workflow('$workflow', '"$activity"')});
	poll_until($node, $waits, "$workflow $activity: its step runs", expected => 1);
	return $id;
}

for my $how ([ 'step', 'pays', 'completed' ], [ 'step', 'calls', 'completed' ], [ 'step', 'fails', 'failed' ], [ 'spawns', 'pays', 'completed' ], [ 'spawns', 'fails', 'failed' ])
{
	my ($workflow, $activity, $end) = @$how;
	my $what = "$workflow $activity";
	my $id = begin($workflow, $activity);
	is(value("SELECT romancy.pause_workflow('$id')"), 't', "$what: paused");
	$holder->query_safe('SELECT pg_advisory_unlock(8)');
	status($id, 'paused', "$what: it is, when the step has ended");
	is(value("SELECT count(*) FROM later WHERE instance = '$id'"), '0', "$what: no step after it has run");
	is(value("SELECT count(*) FROM romancy.get_history('$id') WHERE event_type IN ('ActivityCompleted', 'ActivityFailed') AND activity_id = '$activity:1'"), '1', "$what: the outcome is in history") if $workflow eq 'step';
	is(value("SELECT romancy.resume_workflow('$id')"), 't', "$what: resumed");
	status($id, $end, "$what: $end");
	is(value(q{SELECT last_value FROM runs}), '1', "$what: the step has run once");
	is(value("SELECT count(*) FROM later WHERE instance = '$id'"), $end eq 'completed' ? '1' : '0', "$what: and the one after it");

	$id = begin($workflow, $activity);
	value("SELECT romancy.pause_workflow('$id'); SELECT romancy.resume_workflow('$id')");
	$holder->query_safe('SELECT pg_advisory_unlock(8)');
	status($id, $end, "$what: paused and resumed meanwhile: $end");
	is(value(q{SELECT last_value FROM runs}), '1', "$what: paused and resumed meanwhile: once");
}

# Its handler is gone when the step ends, and comes back
my $id = begin('step', 'pays');
value('ALTER FUNCTION step(jsonb) RENAME TO elsewhere');
$holder->query_safe('SELECT pg_advisory_unlock(8)');
status($id, 'paused', 'without its handler: paused');
value('ALTER FUNCTION elsewhere(jsonb) RENAME TO step');
value("SELECT romancy.resume_workflow('$id')");
status($id, 'completed', 'without its handler: completed when it is there again');
is(value(q{SELECT last_value FROM runs}), '1', 'without its handler: the step has run once');

# A request to resume that came before the step had failed for good does not resume the instance that the failure has paused
value(q{SELECT romancy.define_activity('exhausts', 'fails', transactional => false, retry => '{"max_attempts": 1, "on_exhausted": "pause"}')});
$id = begin('step', 'exhausts');
value("SELECT romancy.pause_workflow('$id'); SELECT romancy.resume_workflow('$id')");
$holder->query_safe('SELECT pg_advisory_unlock(8)');
poll_until($node, "SELECT count(*) FROM romancy.t_inbox WHERE instance_id = '$id'", 'exhausted: its requests are dealt with', expected => 0);
status($id, 'paused', 'exhausted: paused');
is(value(q{SELECT last_value FROM runs}), '1', 'exhausted: the step has run once');
is(value("SELECT count(*) FROM romancy.get_history('$id') WHERE event_type = 'WorkflowResumed'"), '0', 'exhausted: not resumed by what came before');

# A compensation that has ended is crossed off, and not undone itself: its handler is gone when it ends, or a cancel comes before its outcome is recorded
value(q{
	CREATE PROCEDURE refunds(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('runs'); COMMIT; PERFORM pg_advisory_xact_lock_shared(8); result := '"refunded"'; END $$;
	SELECT romancy.define_activity('refunds', 'refunds(jsonb, jsonb)', transactional => false, compensation => 'note');
	SELECT romancy.define_activity('note', 'note', compensation => 'refunds');
	CREATE FUNCTION saga(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('note', $1); RAISE 'fault'; END $$;
});
my $undone = q{SELECT string_agg(event_type || ' ' || activity_id, ', ' ORDER BY seq) FROM romancy.get_history('%s') WHERE activity_id IS NOT NULL};
$id = begin('saga', 'x');
value('ALTER PROCEDURE refunds(jsonb, jsonb) RENAME TO refunds_elsewhere');
$holder->query_safe('SELECT pg_advisory_unlock(8)');
status($id, 'paused', 'compensation without its handler: paused');
value('ALTER PROCEDURE refunds_elsewhere(jsonb, jsonb) RENAME TO refunds');
value("SELECT romancy.resume_workflow('$id')");
status($id, 'failed', 'compensation without its handler: failed when it is there again');
is(value(q{SELECT last_value FROM runs}), '1', 'compensation without its handler: it has run once');
is(value(sprintf $undone, $id), 'ActivityCompleted note:1, CompensationExecuted note:1', 'compensation without its handler: history');

$id = begin('saga', 'x');
my $row = $node->background_psql('postgres');
$row->query_safe("BEGIN; SELECT 1 FROM romancy.t_instance WHERE instance_id = '$id' FOR UPDATE");
$holder->query_safe('SELECT pg_advisory_unlock(8)');
poll_until($node, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'romancy executor'}, 'compensation and a cancel: it has ended', expected => 1);
value("SELECT romancy.cancel_workflow('$id')");
$row->query_safe('COMMIT');
$row->quit;
status($id, 'cancelled', 'compensation and a cancel: cancelled');
is(value(q{SELECT last_value FROM runs}), '1', 'compensation and a cancel: it has run once');
is(value(sprintf $undone, $id), 'ActivityCompleted note:1, CompensationExecuted note:1', 'compensation and a cancel: history');

# Its handler is replaced by one that asks for another step first: the result is history, which that one does not match
$id = begin('step', 'pays');
value(q{CREATE OR REPLACE FUNCTION step(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('note', $1); RETURN romancy.activity($1 #>> '{}'); END $$});
$holder->query_safe('SELECT pg_advisory_unlock(8)');
status($id, 'paused', 'another handler: paused');
is(value("SELECT error ->> 'sqlstate' FROM romancy.instances WHERE instance_id = '$id'"), 'RM003', 'another handler: since it does not match');
is(value(sprintf $undone, $id), 'ActivityCompleted pays:1', 'another handler: the result is in history');
value(q{CREATE OR REPLACE FUNCTION step(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE result jsonb; BEGIN result := romancy.activity($1 #>> '{}'); PERFORM romancy.activity('note', result); RETURN result; END $$});
value("SELECT romancy.resume_workflow('$id')");
status($id, 'completed', 'another handler: completed with the former one');
is(value(q{SELECT last_value FROM runs}), '1', 'another handler: the step has run once');

# Its process has to leave when the step ends, and the turns of its workflow take long
value(q{SELECT romancy.start_workflow('slow_step', '"pays"') FROM generate_series(1, 6)});
poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE workflow = 'slow_step' AND status = 'completed'}, 'a slow workflow: known to be slow', expected => 6);
$id = begin('slow_step', 'pays');
value('ALTER SYSTEM SET romancy.enabled = off'); value('SELECT pg_reload_conf()');
poll_until($node, q{SELECT count(*) FROM romancy.workers WHERE kind = 'scheduler'}, 'a slow workflow: its process is to leave', expected => 0);
$holder->query_safe('SELECT pg_advisory_unlock(8)');
poll_until($node, q{SELECT count(*) FROM romancy.workers WHERE kind = 'executor'}, 'a slow workflow: it has left', expected => 0);
value('ALTER SYSTEM SET romancy.enabled = on'); value('SELECT pg_reload_conf()');
status($id, 'completed', 'a slow workflow: completed when workers are there again');
is(value(q{SELECT last_value FROM runs}), '1', 'a slow workflow: the step has run once');
$holder->quit;
$node->stop('fast');
done_testing();
