# drain beside workers: the examples print the same with workers as without, drain waits for what a worker has in hand and
# keeps what it has begun, also when it moves the clock. It would catch a drain that returns while a
# worker is about to change what the test looks at next, a worker that runs what a drain has made ready at the time of the wall
# clock, and work that is lost when a drain leaves it. ROMANCY_EXAMPLES sets how often each example runs.
use strict;
use warnings;
use RomancyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = romancy_node('beside', 'romancy.executors' => 4, 'romancy.max_workers' => 8, 'max_worker_processes' => 16,
	'romancy.resumption_interval' => '1h', 'romancy.timer_interval' => '1h');
my $root = $ENV{ROMANCY_WORK} ? "$ENV{ROMANCY_WORK}/tree" : '.';
my $times = $ENV{ROMANCY_EXAMPLES} // 3;
my %files = (approval => ['workflow.sql', 'demo.sql'], subscription => ['subscription.sql']);
sub value { return $node->safe_psql('postgres', $_[0]) }

sub workers
{
	my ($to) = @_;
	$node->append_conf('postgresql.conf', "romancy.enabled = $to");
	$node->reload;
	poll_until($node, 'show romancy.enabled', "workers $to", expected => $to);
	poll_until($node, q{select count(*) = 0 from romancy.workers where kind <> 'launcher'}, 'they have left') if $to eq 'off';
}

# example runs an example in a database of its own and returns what it prints.
sub example
{
	my ($name) = @_;
	$node->safe_psql('postgres', 'CREATE DATABASE example');
	$node->safe_psql('example', 'CREATE EXTENSION romancy');
	my ($out, $err) = run_command([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('example'),
		map { ('-f', "$root/examples/$name/$_") } @{ $files{$name} } ]);
	$node->safe_psql('postgres', 'DROP DATABASE example WITH (FORCE)');
	return $err eq '' ? $out : "failed: $err";
}

workers('off');
my %alone = map { $_ => example($_) } sort keys %files;
like($alone{approval}, qr/Reminder: Expense 3/, 'approval, without workers');
like($alone{subscription}, qr/^ Ben\s+\|\s+7 \| 87.5$/m, 'subscription, without workers');
workers('on');
for my $name (sort keys %files)
{
	my @other = grep { $_ ne $alone{$name} } map { example($name) } 1 .. $times;
	is(scalar(@other), 0, "$name prints the same with workers, $times of $times") or diag($other[0]);
}

value(q{
	CREATE TABLE ran (what text, pid int DEFAULT pg_backend_pid());
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ran VALUES ($1#>>'{}'); RETURN 'true'; END $$;
	CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(7); INSERT INTO ran VALUES ('held'); RETURN 'true'; END $$;
	CREATE FUNCTION one_held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('held'); END $$;
	CREATE FUNCTION one_note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('note', $1); END $$;
	CREATE FUNCTION years(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note', '"alone"');
		PERFORM romancy.map('note', '["mapped", "mapped"]');
		PERFORM romancy.await_all(ARRAY[romancy.spawn('note', '"spawned"'), romancy.spawn('note', '"spawned"')]);
		PERFORM romancy.call_workflow('one_note', '"child"');
		PERFORM romancy.sleep('1 year');
		IF $1::int > 1 THEN RETURN romancy.recur(to_jsonb($1::int - 1)); END IF;
		RETURN 'true';
	END $$;
});
my $all_over = q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL};

# It waits for what a worker has in hand
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(7)');
value(q{SELECT romancy.start_workflow('one_held')});
poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a worker is in a step');
my $drain = $node->background_psql('postgres');
my $pid = $drain->query_safe('SELECT pg_backend_pid()');
$drain->query_until(qr/begun/, "\\echo begun\nCALL romancy.drain();\n");
poll_until($node, qq{SELECT wait_event_type = 'Extension' AND backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $pid}, 'drain waits for it, without a snapshot');
$holder->query_safe('SELECT pg_advisory_unlock(7)');
like($drain->query_safe($all_over), qr|t$|, 'and returns when the instance is over');

# The rest that is ready runs
$holder->query_safe('SELECT pg_advisory_lock(7)');
value(q{SELECT romancy.start_workflow('one_held')});
poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a worker is in a step');
value(q{SELECT romancy.start_workflow('one_note', '"beside"', start_at => now() + interval '1 day')});
$drain->query_until(qr/begun/, "\\echo begun\nCALL romancy.drain(max_turns => 1);\n");
value(q{SELECT romancy.start_workflow('one_note', '"now"')});
poll_until($node, q{SELECT count(*) = 1 FROM ran WHERE what = 'now'}, 'what comes meanwhile runs');
is(value(q{SELECT count(*) FROM ran WHERE what = 'beside'}), '0', 'the clock does not move while a worker is at it');
$holder->query_safe('SELECT pg_advisory_unlock(7)');
$drain->query_safe('SELECT 1');
value('CALL romancy.drain(advance_time => true)');
is(value($all_over), 't', 'all are over');

# It keeps what it has begun, also what its turns make ready: generations, children, mapped and spawned steps
value('TRUNCATE ran');
value(q{SELECT romancy.start_workflow('years', '3', start_at => now() + interval '1 day')});
$pid = $drain->query_safe('SELECT pg_backend_pid()');
$drain->query_safe('CALL romancy.drain(advance_time => true)');
is(value($all_over), 't', 'three years are over');
is(value(qq{SELECT string_agg(DISTINCT what || ' ' || (pid = $pid), ', ' ORDER BY what || ' ' || (pid = $pid)) FROM ran}),
	'alone true, child true, mapped true, spawned true', 'all of it in this session');
is(value('SELECT count(*) FROM ran'), '18', 'once each');

# The workers run what it leaves
value('TRUNCATE ran');
value(q{SELECT romancy.start_workflow('one_note', '"left"', start_at => now() + interval '1 day')});
value(q{CREATE FUNCTION starts(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.await_all(ARRAY(SELECT romancy.spawn('note', '"left"') FROM generate_series(1, 20))); RETURN 'true'; END $$;
	SELECT romancy.start_workflow('starts', start_at => now() + interval '1 hour')});
$drain->query_safe('CALL romancy.drain(max_turns => 2, advance_time => true)');
poll_until($node, q{SELECT count(*) = 20 FROM ran}, 'after max_turns');
poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE finished_at IS NULL}, 'to the end');
value(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NULL});
poll_until($node, $all_over, 'terminated');

value('TRUNCATE ran');
value(q{CREATE FUNCTION dies(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN IF current_setting('application_name') = 'dies' THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END IF;
	INSERT INTO ran VALUES ('survived'); RETURN 'true'; END $$;
	CREATE FUNCTION one_dies(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.await_all(ARRAY[romancy.spawn('note', '"before"'), romancy.spawn('dies')]); RETURN 'true'; END $$;
});
value(q{SELECT romancy.start_workflow('one_dies', start_at => now() + interval '1 hour')});
$node->psql('postgres', q{SET application_name = 'dies'; CALL romancy.drain(advance_time => true)});
poll_until($node, q{SELECT string_agg(what, ' ' ORDER BY what) = 'before survived' FROM ran}, 'after the end of its process');
poll_until($node, $all_over, 'to the end');
$drain->quit;
$holder->quit;
$node->stop;
done_testing();
