# A failed attempt of a step with transactional => false counts, also when the engine pauses the instance before the failure is judged: since its handler is gone, or does not match history any
# more, or the step's own function is gone. After it is resumed the step fails, or is tried again, as it would have been. The same for a compensation; and an outcome is recorded though the activity
# was given a queue meanwhile. It would catch a payment that is tried once more than max_attempts says.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use RomancyTest;
use Test::More;

my $node = romancy_node('failures_kept', 'romancy.executors' => 2);
sub value { return $node->safe_psql('postgres', $_[0]) }
sub status { my ($id, $is, $what) = @_; return poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", $what, expected => $is) }

value(q{
	CREATE SEQUENCE runs;
	CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('runs'), pg_advisory_xact_lock_shared(8); RAISE 'no money'; END $$;
	CREATE FUNCTION pays(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('runs'), pg_advisory_xact_lock_shared(8); RETURN '"paid"'; END $$;
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION ends(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM nextval('runs'), pg_advisory_xact_lock_shared(8); PERFORM romancy.raise_terminal('never again'); RETURN NULL; END $$;
	SELECT romancy.define_activity('once', 'fails', transactional => false, retry => '{"max_attempts": 1}'),
		romancy.define_activity('twice', 'fails', transactional => false, retry => '{"max_attempts": 2, "initial_interval": "1 hour", "max_interval": "1 hour", "max_duration": null}'),
		romancy.define_activity('asks', 'fails', transactional => false, retry => '{"max_attempts": 1, "on_exhausted": "pause"}'),
		romancy.define_activity('ends', 'ends', transactional => false),
		romancy.define_activity('late', 'fails', transactional => false, retry => '{"max_duration": "3s", "initial_interval": "1s", "jitter": 0}');
	CREATE FUNCTION huge(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('runs'), pg_advisory_xact_lock_shared(8); RETURN to_jsonb(repeat('x', 1200000)); END $$;
	CREATE PROCEDURE huge_procedure(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('runs'); COMMIT; PERFORM pg_advisory_xact_lock_shared(8); result := to_jsonb(repeat('x', 1200000)); END $$;
	SELECT romancy.define_activity('huge', 'huge', transactional => false), romancy.define_activity('huge_procedure', 'huge_procedure(jsonb, jsonb)', transactional => false);
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn($1 #>> '{}')); END $$;
	CREATE FUNCTION step(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('note', $1); RETURN romancy.activity($1 #>> '{}'); END $$;
	SELECT romancy.define_activity('note', 'note');
	CREATE FUNCTION saga(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('noted', $1); RAISE 'fault'; END $$;
	SELECT romancy.define_activity('noted', 'note', compensation => 'once');
});
my $holder = $node->background_psql('postgres');
my $waits = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 8 AND NOT granted};

# begin($workflow, $activity): an instance whose step has begun, and waits
sub begin
{
	my ($workflow, $activity) = @_;
	value(q{SELECT setval('runs', 1, false)});
	$holder->query_safe('SELECT pg_advisory_lock(8)');
	my $id = value(qq{SELECT romancy.start_workflow('$workflow', '"$activity"')});
	poll_until($node, $waits, "$workflow $activity: its step runs", expected => 1);
	return $id;
}

# pauses($id, $what, $before, $after): what SQL does before the step ends has the engine pause the instance, and what is done after that lets it go on
sub pauses
{
	my ($id, $what, $before, $after) = @_;
	value($before);
	$holder->query_safe('SELECT pg_advisory_unlock(8)');
	status($id, 'paused', "$what: paused");
	is(value("SELECT paused_by || ' ' || attempt FROM romancy.waiting WHERE instance_id = '$id'"), 'romancy 1', "$what: by the engine, in the first attempt");
	value($after);
	is(value("SELECT romancy.resume_workflow('$id')"), 't', "$what: resumed");
}
my $runs = q{SELECT last_value FROM runs};
my $failed = q{SELECT data -> 'error' ->> 'message' || coalesce(' ' || (data #>> '{retry,total_attempts}'), '') FROM romancy.get_history('%s') WHERE event_type = 'ActivityFailed'};
my $body = q{CREATE OR REPLACE FUNCTION step(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('note', %s); RETURN romancy.activity($1 #>> '{}'); END $$};
my %ways = (
	'its handler is gone' => [ 'ALTER FUNCTION step(jsonb) RENAME TO elsewhere', 'ALTER FUNCTION elsewhere(jsonb) RENAME TO step' ],
	'its handler differs' => [ sprintf($body, q{'"other"'}), sprintf($body, '$1') ],
	'its function is gone' => [ 'ALTER FUNCTION fails(jsonb) RENAME TO fails_elsewhere; ALTER FUNCTION ends(jsonb) RENAME TO ends_elsewhere', 'ALTER FUNCTION fails_elsewhere(jsonb) RENAME TO fails; ALTER FUNCTION ends_elsewhere(jsonb) RENAME TO ends' ],
);
for my $way (sort keys %ways)
{
	my $id = begin('step', 'once');
	pauses($id, $way, @{ $ways{$way} });
	status($id, 'failed', "$way: it has failed");
	is(value($runs), '1', "$way: once");
	is(value(sprintf $failed, $id), 'no money 1', "$way: history");

	$id = begin('step', 'twice');
	pauses($id, "$way, another attempt", @{ $ways{$way} });
	poll_until($node, "SELECT concat_ws(' ', kind, attempt, error ->> 'message') FROM romancy.waiting WHERE instance_id = '$id'", "$way, another attempt: it waits for that", expected => 'retry 1 no money');
	is(value($runs), '1', "$way, another attempt: not before its time");
	value("SELECT romancy.cancel_workflow('$id')");
	status($id, 'cancelled', "$way, another attempt: cancelled");

	$id = begin('step', 'ends');
	pauses($id, "$way, a terminal error", @{ $ways{$way} });
	status($id, 'failed', "$way, a terminal error: failed");
	is(value($runs), '1', "$way, a terminal error: once");
	is(value(sprintf $failed, $id), 'never again', "$way, a terminal error: history");
}

# A result that is too large: final, whether it is judged at once or after a pause
for my $how ([ 'step', 'huge', '' ], [ 'step', 'huge_procedure', '' ], [ 'spawns', 'huge', '' ], [ 'spawns', 'huge_procedure', '' ], [ 'step', 'huge', 'its handler is gone' ])
{
	my ($workflow, $activity, $way) = @$how;
	my $what = "$workflow $activity too large" . ($way ? ", $way" : '');
	my $id = begin($workflow, $activity);
	$way ? pauses($id, $what, @{ $ways{$way} }) : $holder->query_safe('SELECT pg_advisory_unlock(8)');
	status($id, 'failed', "$what: failed");
	is(value("SELECT error ->> 'sqlstate' FROM romancy.instances WHERE instance_id = '$id'"), 'RM011', "$what: with RM011");
	is(value($runs), '1', "$what: once");
}

# on_exhausted: paused once more, with its own error, and then begun anew
my $id = begin('step', 'asks');
pauses($id, 'exhausted', @{ $ways{'its handler is gone'} });
poll_until($node, "SELECT status || ' ' || (error ->> 'message') FROM romancy.instances WHERE instance_id = '$id'", 'exhausted: paused by its failure', expected => 'paused no money');
is(value($runs), '1', 'exhausted: once');
value("SELECT romancy.resume_workflow('$id')");
poll_until($node, $runs, 'exhausted: resumed, it runs again', expected => 2);

# The time of the pause is none of the attempts': max_duration counts up to the failure
$id = begin('step', 'late');
value($ways{'its handler is gone'}[0]);
$holder->query_safe('SELECT pg_advisory_unlock(8)');
status($id, 'paused', 'a long pause: paused');
poll_until($node, "SELECT clock_timestamp() - since > '4 s' FROM romancy.waiting WHERE instance_id = '$id'", 'a long pause: it lasts', expected => 't');
value($ways{'its handler is gone'}[1]);
value("SELECT romancy.resume_workflow('$id')");
poll_until($node, $runs, 'a long pause: tried again after it', expected => 2);

# Cancelled while it is paused: what has failed is not undone
value(q{SELECT romancy.define_activity('once', 'fails', transactional => false, retry => '{"max_attempts": 1}', compensation => 'note')});
$id = begin('step', 'once');
value($ways{'its handler is gone'}[0]);
$holder->query_safe('SELECT pg_advisory_unlock(8)');
status($id, 'paused', 'cancelled: paused before');
value("SELECT romancy.cancel_workflow('$id')");
status($id, 'cancelled', 'cancelled: cancelled');
value($ways{'its handler is gone'}[1]);
is(value("SELECT count(*) FROM romancy.get_history('$id') WHERE event_type LIKE 'Compensation%'"), '0', 'cancelled: no compensation');

# A compensation
$id = begin('saga', 'x');
pauses($id, 'compensation', @{ $ways{'its function is gone'} });
status($id, 'failed', 'compensation: failed');
is(value($runs), '1', 'compensation: it has run once');
is(value("SELECT string_agg(event_type || ' ' || activity_id, ', ' ORDER BY seq) FROM romancy.get_history('$id') WHERE activity_id IS NOT NULL"), 'ActivityCompleted noted:1, CompensationFailed noted:1', 'compensation: history');

# The activity was given a queue meanwhile: what has been done is done
value(q{SELECT romancy.define_activity('pays', 'pays', transactional => false)});
$id = begin('step', 'pays');
value(q{SELECT romancy.define_activity('pays', queue => 'tellers')});
$holder->query_safe('SELECT pg_advisory_unlock(8)');
status($id, 'completed', 'a queue: completed');
is(value($runs), '1', 'a queue: it has run once');
$holder->quit;
$node->stop('fast');
done_testing();
