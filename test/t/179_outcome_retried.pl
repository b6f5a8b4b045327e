# The outcome of a step with transactional => false that cannot be recorded at once, since the engine's own transaction fails (the disk is full, an index of a DBA's is broken, a statement is cancelled),
# is recorded later: the step, which has had its effects, does not run again. If that fails for too long, or the workers have to leave, the instance is paused with an error that says so; then
# a cancel has the step undone, and resuming it runs the step again. It would catch a payment that is made twice because the disk was full for a moment.
# Takes 60 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('outcome', 'romancy.executors' => 2, 'romancy.retry_backoff_max' => '10s');
sub value { return $node->safe_psql('postgres', $_[0]) }
sub status { my ($id, $is, $what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", $what, expected => $is) }
sub setting { my ($name, $is) = @_; value("ALTER SYSTEM SET $name = '$is'"); return $node->reload }

value(q{
	CREATE SEQUENCE runs;
	CREATE TABLE effect (n serial, instance uuid, what text);
	CREATE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'undo ' || coalesce($1 ->> 'result', 'null')); RETURN $1; END $$;
	CREATE PROCEDURE pays(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('runs'); COMMIT; PERFORM pg_advisory_xact_lock_shared(8); result := '"paid"'; END $$;
	CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('runs'), pg_advisory_xact_lock_shared(8); RAISE 'no money'; END $$;
	SELECT romancy.define_activity('pays', 'pays(jsonb, jsonb)', transactional => false, compensation => 'undo'),
		romancy.define_activity('fails', 'fails', transactional => false, compensation => 'undo', retry => '{"max_attempts": 1}');
	CREATE FUNCTION step(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity($1 #>> '{}'); END $$;
	CREATE FUNCTION big(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(string_agg(md5(i::text || ($1 #>> '{}')), '')) FROM generate_series(1, 16384) i $$;
	CREATE FUNCTION large(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. 10 LOOP PERFORM romancy.activity('big', to_jsonb(i)); END LOOP;
		PERFORM romancy.receive('go');
		RETURN romancy.activity($1 #>> '{}');
	END $$;
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn($1 #>> '{}')); END $$;
	CREATE TABLE broken (code text);
	CREATE TABLE broken_for_all (code text);
	GRANT SELECT ON broken, broken_for_all TO public;
	-- an index that breaks what records the outcome of a step of the handler's own, and of a spawned one; not what announces it, or pauses
	CREATE FUNCTION breaks(fails boolean) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
	DECLARE b record;
	BEGIN
		FOR b IN SELECT * FROM public.broken WHERE fails UNION ALL SELECT * FROM public.broken_for_all LOOP RAISE EXCEPTION USING message = 'no room', errcode = b.code; END LOOP;
		RETURN true;
	END $$;
	CREATE INDEX breaks ON romancy.t_instance (public.breaks(status <> 'paused' AND coalesce(wait ->> 'kind', '') <> 'procedure'));
	CREATE INDEX breaks_too ON romancy.t_inbox (public.breaks(step IS NOT NULL));
});
my $holder = $node->background_psql('postgres');
my $waits = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 8 AND NOT granted};
my $runs = q{SELECT last_value FROM runs};

# ends_broken($workflow, $activity, $code): an instance whose step has run, and whose outcome cannot be recorded
sub ends_broken
{
	my ($workflow, $activity, $code) = @_;
	value(q{SELECT setval('runs', 1, false)});
	$holder->query_safe('SELECT pg_advisory_lock(8)');
	my $id = value(qq{SELECT romancy.start_workflow('$workflow', '"$activity"')});
	poll_until($node, $waits, "$workflow $activity: its step runs", expected => 1);
	value("INSERT INTO broken VALUES ('$code')");
	$holder->query_safe('SELECT pg_advisory_unlock(8)');
	return $id;
}
my $tells = q{SELECT error ->> 'message' FROM romancy.waiting WHERE instance_id = '%s' AND error ? 'tries' AND error ? 'unwritten'};
my %end = (pays => 'completed', fails => 'failed');

for my $how ([ 'step', 'pays', '53100' ], [ 'step', 'fails', '53100' ], [ 'step', 'pays', '57014' ], [ 'spawns', 'pays', '53100' ], [ 'spawns', 'fails', 'XX001' ])
{
	my ($workflow, $activity, $code) = @$how;
	my $what = "$workflow $activity $code";
	my $id = ends_broken(@$how);
	poll_until($node, sprintf($tells, $id), "$what: waiting tells of it", expected => qq{outcome of step "$activity:1" could not be recorded: no room});
	value('DELETE FROM broken');
	status($id, $end{$activity}, "$what: $end{$activity} when there is room");
	is(value($runs), '1', "$what: the step has run once");
	is(value("SELECT count(*) FROM effect WHERE instance = '$id'"), '0', "$what: and is not undone");
}

# Cancelled meanwhile
my $id = ends_broken('step', 'pays', '53100');
poll_until($node, sprintf($tells, $id), 'cancelled: waiting tells of it', expected => 'outcome of step "pays:1" could not be recorded: no room');
value("SELECT romancy.cancel_workflow('$id')");
value('DELETE FROM broken');
status($id, 'cancelled', 'cancelled: it is');
is(value($runs), '1', 'cancelled: the step has run once');
is(value("SELECT what FROM effect WHERE instance = '$id'"), 'undo paid', 'cancelled: and is undone, with its result');

# Its process has to leave
for my $workflow ('step', 'spawns')
{
	$id = ends_broken($workflow, 'pays', '53100');
	poll_until($node, sprintf($tells, $id), "$workflow, leaves: waiting tells of it", expected => 'outcome of step "pays:1" could not be recorded: no room');
	setting('romancy.enabled', 'off');
	poll_until($node, q{SELECT count(*) FROM romancy.workers WHERE kind = 'executor'}, "$workflow, leaves: it has left", expected => 0);
	is(value("SELECT status || ': ' || (error ->> 'message') FROM romancy.instances WHERE instance_id = '$id'"), 'paused: outcome of step "pays:1" could not be recorded: no room', "$workflow, leaves: paused");
	value('DELETE FROM broken');
	value("SELECT romancy.cancel_workflow('$id')");
	setting('romancy.enabled', 'on');
	status($id, 'cancelled', "$workflow, leaves: cancelled");
	is(value($runs), '1', "$workflow, leaves: the step has run once");
	is(value("SELECT what FROM effect WHERE instance = '$id'"), 'undo null', "$workflow, leaves: and is undone");
}

# For too long
setting('romancy.retry_backoff_max', '100ms');
for my $workflow ('step', 'spawns')
{
	$id = ends_broken($workflow, 'pays', '53100');
	status($id, 'paused', "$workflow, too long: paused");
	is(value("SELECT (error ->> 'message') || ' ' || (error ->> 'sqlstate') FROM romancy.instances WHERE instance_id = '$id'"), 'outcome of step "pays:1" could not be recorded: no room 53100', "$workflow, too long: with an error that says why");
	is(value($runs), '1', "$workflow, too long: the step has run once");
	value('DELETE FROM broken');
	value("SELECT romancy.resume_workflow('$id')");
	status($id, 'completed', "$workflow, too long: resumed, it completes");
	is(value($runs), '2', "$workflow, too long: and has run once more, as its error says");
}
# Nothing can be written for longer than that, the pause neither: the outcome stays with its process, which does not keep what the tries have read
setting('romancy.retry_backoff_max', '1500ms');
$id = value(q{SELECT romancy.start_workflow('large', '"pays"')});
status($id, 'waiting_for_message', 'nothing can be written: its history is large');
$holder->query_safe('SELECT pg_advisory_lock(8)');
value(qq{SELECT setval('runs', 1, false); SELECT romancy.send_to('$id', 'go')});
poll_until($node, $waits, 'nothing can be written: its step runs', expected => 1);
value("INSERT INTO broken_for_all VALUES ('53100')");
$holder->query_safe('SELECT pg_advisory_unlock(8)');
my $log = $node->logfile;
sub tries { return scalar(() = slurp_file($log) =~ /instance $id failed: outcome of step/g) }
poll_until(sub { tries() >= 3 }, 'nothing can be written: it has been tried');
my $pid = value(q{SELECT pid FROM romancy.workers WHERE kind = 'executor' AND state = 'running'});
my $kept = sub { return slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m ? $1 : die 'no memory' };
my $before = $kept->();
# (the first has no line; the tenth, and each fifth after it, has one when the pause has failed, and only then comes a pause again)
poll_until(sub { tries() >= 9 }, 'nothing can be written: more often than it takes to pause it');
my $after = $kept->();
cmp_ok($after, '<', $before + 20_000, "nothing can be written: its process keeps no more kB for that ($before, $after)");
is(value("SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'running', 'nothing can be written: it is not paused');
value('DELETE FROM broken_for_all');
status($id, 'completed', 'nothing can be written: completed when there is room');
is(value($runs), '1', 'nothing can be written: the step has run once');
$holder->quit;
$node->stop('fast');
done_testing();
