# A cancel from outside while drain runs an activity, of whatever kind: the call fails with it, at once, and does not go on with other work. No
# attempt is charged, neither there nor to a task that an executor runs. The cancel of an instance is none of the session's, and a time limit is its own step's.
# A cancel that the code catches, in each language, comes through all the same, and the outcome of a step that is not transactional is recorded.
# It would catch a drain that takes the cancel for an error of the activity's and runs on, a step with effects that runs twice, and a step that fails because an operator has cancelled a process.
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

# cancel_workflow() ends the instance whose step runs, transactional or not, not the drain of another session
sql(q{
	CREATE FUNCTION quick(i jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT i';
	CREATE FUNCTION unwanted(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity(i #>> '{}', romancy.activity('quick', i)); END $$;
});
my ($id, $drain, $pid);
for my $activity (qw(once apart))
{
	$id = sql("SELECT romancy.start_workflow('unwanted', '\"$activity\"')");
	$drain = $node->background_psql('postgres', on_error_stop => 0);
	$pid = $drain->query_safe('SELECT pg_backend_pid()');
	$drain->query_until(qr/begun/, "\\echo begun\nCALL romancy.drain();\n\\echo it has ended\n");
	poll_until($node, "SELECT state = 'active' AND wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid", "$activity: a step runs in drain");
	my $other = sql("SELECT romancy.start_workflow('handler', '2')");
	sql("SELECT romancy.cancel_workflow('$id')");
	poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$id'", "$activity: its instance is cancelled");
	sql('INSERT INTO go VALUES (1)');
	$drain->query_until(qr/it has ended/, '');
	is($drain->{stderr}, '', "$activity: drain is not");
	is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$other'"), 'completed', "$activity: it has gone on");
	$drain->quit;
	sql('TRUNCATE go');
}

# cancelled($how): a drain whose step, or handler, sleeps is cancelled; what it says
sub cancelled
{
	my ($how) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $backend = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_until(qr/begun/, "\\echo begun\nCALL romancy.drain();\n\\echo it has ended\n");
	poll_until($node, "SELECT state = 'active' AND wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $backend", "$how: it runs");
	sql("SELECT pg_cancel_backend($backend)");
	$session->query_until(qr/it has ended/, '');
	my $said = $session->{stderr};
	$session->{stderr} = '';
	$session->quit;
	return $said;
}

# The code catches the cancel, in each language: drain ends all the same, and nothing that the step did is kept. (What is not transactional has run once.)
my %catches = (plpgsql => q{BEGIN INSERT INTO ran VALUES (i); BEGIN PERFORM pg_sleep(nap()); EXCEPTION WHEN query_canceled THEN NULL; END; RETURN i; END});
$catches{plperl} = q{spi_exec_query(q(INSERT INTO ran VALUES ('1'))); eval { spi_exec_query('SELECT pg_sleep(nap())') }; return $_[0];} if has_plperl('a cancel that it catches');
$catches{plpython3u} = qq{plpy.execute("INSERT INTO ran VALUES ('1')")\ntry: plpy.execute('SELECT pg_sleep(nap())')\nexcept Exception: pass\nreturn i} if has_plpython('a cancel that it catches');
sql(q{CREATE TABLE ran (i jsonb); CREATE FUNCTION nap() RETURNS int LANGUAGE sql AS 'SELECT CASE WHEN EXISTS (SELECT FROM go) THEN 0 ELSE 1000 END'});
for my $language (sort keys %catches)
{
	sql("CREATE EXTENSION IF NOT EXISTS $language; CREATE OR REPLACE FUNCTION caught(i jsonb) RETURNS jsonb LANGUAGE $language AS \$\$" . ($language eq 'plpgsql' ? '' : "\n") . $catches{$language} . '$$');
	sql(q{CREATE OR REPLACE FUNCTION catcher(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN CASE i #>> '{}' WHEN 'call' THEN romancy.activity('caught', '1') WHEN 'spawn' THEN romancy.await(romancy.spawn('caught', '1')) WHEN 'apart' THEN romancy.activity('caught_apart', '1') END; END $$;
		SELECT romancy.define_activity('caught_apart', 'caught', transactional => false)});
	for my $how (qw(call spawn apart))
	{
		$id = sql("SELECT romancy.start_workflow('catcher', '\"$how\"')");
		like(cancelled("$language, $how"), qr/ERROR:  canceling statement due to user request/, "$language, $how: drain ends with the cancel that the code has caught");
		is(sql('SELECT count(*) FROM ran'), $how eq 'apart' ? '1' : '0', "$language, $how: and its step is undone, unless it ran apart");
		if ($how eq 'apart')
		{
			sql('CALL romancy.drain()');
			is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'completed', "$language, $how: its outcome was recorded");
			is(sql('SELECT count(*) FROM ran'), '1', "$language, $how: and it did not run again");
		}
		sql("SELECT romancy.cancel_workflow('$id'); INSERT INTO go VALUES (1)");
		sql('CALL romancy.drain()');
		sql('TRUNCATE go; TRUNCATE ran');
	}
}
sql(q{CREATE FUNCTION catching(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN BEGIN PERFORM pg_sleep(nap()); EXCEPTION WHEN query_canceled THEN NULL; END; RETURN i; END $$});
$id = sql(q{SELECT romancy.start_workflow('catching', '1')});
like(cancelled('a handler'), qr/ERROR:  canceling statement due to user request/, 'a handler: drain ends with the cancel that it has caught');
is(sql("SELECT status || (SELECT count(*) FROM romancy.get_history('$id')) FROM romancy.instances WHERE instance_id = '$id'"), 'pending0', 'a handler: and what it returned is not taken for its output');
sql("SELECT romancy.cancel_workflow('$id'); INSERT INTO go VALUES (1)");
sql('CALL romancy.drain()');
sql('TRUNCATE go');

# The cancel comes when a step that is not transactional has run, and its outcome is to be recorded: it is
for my $how (qw(call spawn))
{
	sql(q{CREATE OR REPLACE FUNCTION noted(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO ran VALUES (i); WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN i; END $$;
		SELECT romancy.define_activity('noted', 'noted', transactional => false);
		CREATE OR REPLACE FUNCTION notes(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN CASE i #>> '{}' WHEN 'call' THEN romancy.activity('noted', '1') ELSE romancy.await(romancy.spawn('noted', '1')) END; END $$});
	$id = sql("SELECT romancy.start_workflow('notes', '\"$how\"')");
	$drain = $node->background_psql('postgres', on_error_stop => 0);
	$pid = $drain->query_safe('SELECT pg_backend_pid()');
	$drain->query_until(qr/begun/, "\\echo begun\nCALL romancy.drain();\n\\echo it has ended\n");
	poll_until($node, "SELECT state = 'active' AND wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid", "$how: a step runs apart");
	my $locks = $node->background_psql('postgres');
	$locks->query_safe("BEGIN; SELECT FROM romancy.t_instance WHERE instance_id = '$id' FOR UPDATE; SELECT FROM romancy.t_task WHERE instance_id = '$id' FOR UPDATE");
	sql('INSERT INTO go VALUES (1)');
	poll_until($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid", "$how: the row is locked when its outcome is to be recorded");
	sql("SELECT pg_cancel_backend($pid)");
	$locks->query_safe('COMMIT');
	$drain->query_until(qr/it has ended/, '');
	like($drain->{stderr}, qr/ERROR:  canceling statement due to user request/, "$how: the drain is cancelled");
	$drain->{stderr} = '';
	$drain->quit;
	$locks->quit;
	sql('CALL romancy.drain()');
	is(sql("SELECT status || (SELECT count(*) FROM ran) FROM romancy.instances WHERE instance_id = '$id'"), 'completed1', "$how: its outcome was recorded, and it ran once");
	sql('TRUNCATE go; TRUNCATE ran');
}

# The commit that records it fails for what a later step has deferred: it ran once, in drain and in an executor
sql(q{
	CREATE TABLE parent (i int PRIMARY KEY);
	CREATE TABLE deferred (i int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION once_apart(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ran VALUES (i); RETURN i; END $$;
	SELECT romancy.define_activity('once_apart', 'once_apart', transactional => false);
	CREATE FUNCTION defers(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO deferred VALUES (7); RETURN i; END $$;
	SELECT romancy.define_activity('defers', 'defers', retry => '{"max_attempts": 1}');
	CREATE FUNCTION apart_then_deferred(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('once_apart', i);
		BEGIN PERFORM romancy.activity('defers'); EXCEPTION WHEN foreign_key_violation THEN RETURN '"refused"'; END;
		RETURN NULL;
	END $$;
});
sub apart_then_deferred
{
	my ($how) = @_;
	for (1 .. 3)
	{
		$id = sql(q{SELECT romancy.start_workflow('apart_then_deferred', '1')});
		sql('CALL romancy.drain()') if $how eq 'drain';
		poll_until($node, "SELECT output FROM romancy.instances WHERE instance_id = '$id'", "$how: the commit that records a step fails for another", expected => '"refused"');
		is(sql('SELECT count(*) FROM ran'), '1', "$how: the step ran once");
		sql('TRUNCATE ran');
	}
	return;
}
apart_then_deferred('drain');

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

# An activity that catches its time limit without end while an engine statement of it waits for a lock, and is torn out of both: the session has the planner settings
# it had before, no table stays open or locked, and the next instance runs.
sql(q{
	CREATE FUNCTION stubborn(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			BEGIN PERFORM romancy.set_queue('contended', max_concurrency => 2); RETURN i; EXCEPTION WHEN query_canceled THEN NULL; END;
		END LOOP;
	END $$;
	SELECT romancy.define_activity('stubborn', 'stubborn', start_to_close_timeout => '200 ms', retry => '{"max_attempts": 1}');
	CREATE FUNCTION meets_stubborn(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('stubborn', i); END $$;
});
my $holder = $node->background_psql('postgres');
$holder->query_safe(q{SET client_min_messages = warning; BEGIN; SELECT romancy.set_queue('contended', max_concurrency => 1)});
my $logged = -s $node->logfile;
my $session = $node->background_psql('postgres');
my $settings = q{SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN ('enable_seqscan', 'jit', 'search_path', 'transaction_read_only', 'client_min_messages', 'log_min_messages')};
$session->query_safe('SET client_min_messages = warning');
my $had = $session->query_safe($settings);
$id = sql(q{SELECT romancy.start_workflow('meets_stubborn', '1')});
$session->query_safe('CALL romancy.drain()');
is(sql("SELECT status || ' ' || (error ->> 'sqlstate') FROM romancy.instances WHERE instance_id = '$id'"), 'failed RM006', 'an activity that is torn out of an engine statement fails by its time limit');
is($session->query_safe($settings), $had, '... its session has the settings that it had');
is($session->query_safe(q{SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation::regclass::text LIKE 'romancy.%'}), 0, '... and no lock');
$holder->query_safe('ROLLBACK');
$id = sql(q{SELECT romancy.start_workflow('meets_stubborn', '2')});
$session->query_safe('CALL romancy.drain()');
is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'completed', '... and runs the next one');
unlike(slurp_file($node->logfile, $logged), qr/leak|not closed|still referenced|TRAP:/, '... nothing leaked');
$_->quit for $holder, $session;

# tasks that an executor runs
sql(q{ALTER SYSTEM SET romancy.enabled = on});
$node->reload;
limits('executor');
apart_then_deferred('executor');
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
