# A cancel from outside while drain runs an activity, of whatever kind: the call fails with it, at once, and does not go on with other work. No
# attempt is charged, neither there nor to a task that an executor runs. The cancel of an instance is none of the session's, and a time limit is its own step's.
# It would catch a drain that takes the cancel for an error of the activity's and runs on, and a step that fails because an operator has cancelled a process.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('drain_cancel', 'romancy.enabled' => 'off', 'max_worker_processes' => 12);
sub sql { return $node->safe_psql('postgres', $_[0]) }
sql(q{
	CREATE TABLE go (what text);
	CREATE FUNCTION holds(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN i; END $$;
	SELECT romancy.define_activity('once', 'holds', retry => '{"max_attempts": 1}'), romancy.define_activity('apart', 'holds', transactional => false, retry => '{"max_attempts": 2, "initial_interval": "1ms"}');
	CREATE FUNCTION calls(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('once', i); END $$;
	CREATE FUNCTION maps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('once', '[1, 2, 3]'); END $$;
	CREATE FUNCTION canvases(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.canvas(romancy.group(romancy.task('once', '1'), romancy.task('once', '2'))); END $$;
	CREATE FUNCTION aparts(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('apart', i); END $$;
	CREATE FUNCTION handler(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.workflow_now(); RETURN holds(i); END $$;
});

for my $workflow (qw(calls maps canvases aparts handler))
{
	my $n = sql("SELECT count(*) FROM romancy.start_workflows('$workflow', ARRAY['1', '2']::jsonb[])");
	for my $block (0, 1)
	{
		next if $block && $workflow eq 'aparts';
		my ($out, $err) = ('', '');
		$node->psql('postgres', "SET statement_timeout = '300ms'; " . ($block ? 'BEGIN; ' : '') . 'CALL romancy.drain()', stdout => \$out, stderr => \$err, timeout => $PostgreSQL::Test::Utils::timeout_default);
		like($err, qr/ERROR:  canceling statement due to statement timeout/, "$workflow: drain ends with the cancel" . ($block ? ', in a transaction block' : ''));
	}
	# cancelled by another session
	my $drain = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $drain->query_safe('SELECT pg_backend_pid()');
	$drain->query_until(qr/begun/, "\\echo begun\nCALL romancy.drain();\n\\echo it has ended\n");
	poll_until($node, "SELECT state = 'active' AND wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid", "$workflow: an activity runs");
	sql("SELECT pg_cancel_backend($pid)");
	$drain->query_until(qr/it has ended/, '');
	like($drain->{stderr}, qr/ERROR:  canceling statement due to user request/, "$workflow: by another session, too");
	$drain->{stderr} = '';
	$drain->quit;
	sql('INSERT INTO go VALUES (1)');
	sql('CALL romancy.drain(advance_time => true)');
	# (what an attempt that is not transactional has done is not known, so it counts)
	is(sql("SELECT string_agg(DISTINCT status, ' ') FROM romancy.instances WHERE workflow = '$workflow'"), 'completed', "$workflow: no attempt was charged") if $workflow ne 'aparts';
	sql('TRUNCATE go');
}

# cancel_workflow() ends the instance whose step runs, not the drain of another session
sql(q{CREATE FUNCTION unwanted(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('once', i); END $$});
my $id = sql("SELECT romancy.start_workflow('unwanted', '1')");
my $drain = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $drain->query_safe('SELECT pg_backend_pid()');
$drain->query_until(qr/begun/, "\\echo begun\nCALL romancy.drain();\n\\echo it has ended\n");
poll_until($node, "SELECT state = 'active' AND wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid", 'a step runs in drain');
my $other = sql("SELECT romancy.start_workflow('handler', '2')");
sql("SELECT romancy.cancel_workflow('$id')");
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$id'", 'its instance is cancelled');
sql('INSERT INTO go VALUES (1)');
$drain->query_until(qr/it has ended/, '');
is($drain->{stderr}, '', 'drain is not');
is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$other'"), 'completed', 'it has gone on');
$drain->quit;
sql('TRUNCATE go');

# The time limit of a step that is not transactional is no other step's: neither in drain nor in an executor
sql(q{
	CREATE FUNCTION naps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep((i #>> '{}')::float); RETURN i; END $$;
	SELECT romancy.define_activity('brief', 'naps', transactional => false, start_to_close_timeout => '1 s', retry => '{"max_attempts": 1}');
	SELECT romancy.define_activity('long', 'naps', retry => '{"max_attempts": 1}');
	CREATE FUNCTION brief_then_long(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('brief', '0.01');
		RETURN romancy.activity('long', '1.5');
	END $$;
	CREATE FUNCTION spawns(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.await(romancy.spawn('brief', '0.01'));
		RETURN romancy.await(romancy.spawn('long', '1.5'));
	END $$;
	CREATE FUNCTION exceeds(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN PERFORM romancy.activity('brief', '30'); EXCEPTION WHEN SQLSTATE 'RM006' THEN NULL; END;
		RETURN romancy.activity('long', '0.5');
	END $$;
});
sub limits
{
	my ($how) = @_;
	for my $workflow (qw(brief_then_long spawns exceeds))
	{
		$id = sql("SELECT romancy.start_workflow('$workflow')");
		sql('CALL romancy.drain()') if $how eq 'drain';
		poll_until($node, "SELECT status IN ('completed', 'failed', 'paused') FROM romancy.instances WHERE instance_id = '$id'", "$how, $workflow: it ends");
		is(sql("SELECT status || coalesce(error ->> 'message', '') FROM romancy.instances WHERE instance_id = '$id'"), 'completed', "$how, $workflow: well");
	}
}
limits('drain');

# tasks that an executor runs
sql(q{ALTER SYSTEM SET romancy.enabled = on});
$node->reload;
limits('executor');
for my $workflow (qw(calls maps canvases))
{
	sql("SELECT count(*) FROM romancy.start_workflows('$workflow', ARRAY['1']::jsonb[])");
	for (1 .. 2)
	{
		poll_until($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'romancy executor' AND wait_event = 'PgSleep'}, "$workflow: executors run it");
		sql(q{SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'romancy executor' AND wait_event = 'PgSleep'});
	}
	sql('INSERT INTO go VALUES (1)');
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.waiting}, "$workflow: it ends");
	is(sql(qq{SELECT string_agg(DISTINCT status || coalesce(error ->> 'message', ''), ' ') FROM romancy.instances WHERE workflow = '$workflow'}), 'completed', "$workflow: no attempt was charged");
	sql('TRUNCATE go');
}
$node->stop;
done_testing();
