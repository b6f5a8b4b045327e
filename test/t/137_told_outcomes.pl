# run_workflow gets the outcome of its instance from the wake-up that the end sends, without a look at the tables: an output or error of any size, of an instance that completes, fails, is
# cancelled, paused by the engine or recurs, also when it ends before the caller sleeps, and of many callers at once, each its own. A caller that waits for an instance of an earlier call (a key) looks.
# It would catch an outcome of another instance, one that is cut, and an end that was not heard of.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('told', 'autovacuum' => 'off', 'romancy.executors' => 2, 'max_worker_processes' => 12, 'romancy.eager_runs' => 'off', 'max_connections' => 60);
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub call { my (undef, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nCALL romancy.run_workflow($_[0])"); return "$out$err" }

sql(q{
	CREATE FUNCTION says(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(repeat('x', (i->>'bytes')::int)); END $$;
	CREATE FUNCTION fails(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', repeat('y', (i->>'bytes')::int) USING ERRCODE = 'XX321', DETAIL = 'the detail', HINT = 'the hint'; END $$;
	CREATE FUNCTION echo(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
	CREATE FUNCTION null_one(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
	CREATE FUNCTION again(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF i::int > 0 THEN PERFORM romancy.recur(to_jsonb(i::int - 1)); END IF; RETURN '"the last"'; END $$;
	CREATE FUNCTION waits(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN (romancy.receive('go')).data; END $$;
	CREATE FUNCTION differs(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('missing', i); END $$;
});
for my $bytes (0, 1, 900, 960, 980, 985, 990, 995, 1000, 1005, 2000, 100000)
{
	is(call(qq('says', '{"bytes": $bytes}')), '"' . 'x' x $bytes . '"', "an output of $bytes bytes");
	like(call(qq('fails', '{"bytes": $bytes}')), qr/^psql:.*ERROR:  XX321: y{$bytes}\n?DETAIL:  the detail\nHINT:  the hint\n/s, "an error of $bytes bytes") if $bytes > 0 && $bytes < 10000;
}
is(call(q('null_one')), 'null', 'JSON null');
is(call(q('again', '3')), '"the last"', 'the output of the last generation');
like(call(q('differs', '1')), qr/RM001.*paused/s, 'one that the engine pauses');
like(call(q('waits', '1', timeout => '100 ms')), qr/RM006/, 'a timeout');
poll_until($node, q{SELECT status FROM romancy.instances WHERE workflow = 'waits'}, 'after which it goes on', expected => 'waiting_for_message');
my (undef, undef, $late) = $node->psql('postgres', q{SELECT instance_id FROM romancy.instances WHERE workflow = 'waits' \gset
\set VERBOSITY verbose
CALL romancy.await_result(:'instance_id', timeout => '100 ms');});
like($late, qr/RM006.*waiting_for_message/s, 'a timeout of await_result, which says what it waits for');

# no look: the end is heard while another session has the table to itself, which is so from the commit of the end on
sql(q{
	CREATE FUNCTION gate(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(137); IF i ? 'fails' THEN RAISE EXCEPTION 'no luck'; END IF; RETURN i; END $$;
});
# (a caller that waits for a second looks what keeps it waiting: so nothing is waited for by a process that has to begin first)
my $watcher = $node->background_psql('postgres');
sub see
{
	my ($condition) = @_;
	my $limit = 1000 * $PostgreSQL::Test::Utils::timeout_default;
	$watcher->query_safe("SET statement_timeout = $limit; DO \$\$ BEGIN WHILE NOT coalesce(($condition), false) LOOP PERFORM pg_sleep(0.01), pg_stat_clear_snapshot(); END LOOP; END \$\$");
	return;
}
my $holder = $node->background_psql('postgres');
my $locker = $node->background_psql('postgres');
my $locker_pid = $locker->query_safe('SELECT pg_backend_pid()');
for my $how (['{"is": "fine"}', qr/"is": "fine"/], ['{"fails": 1}', qr/no luck/])
{
	my $looked = 1;

	# (on a machine with too much to do, a second may pass all the same)
	for (1 .. 20)
	{
		my $caller = $node->background_psql('postgres', on_error_stop => 0);
		my $pid = $caller->query_safe('SELECT pg_backend_pid()');
		$holder->query_safe('SELECT pg_advisory_lock(137)');
		$caller->query_until(qr/begun/, "\\echo begun\nCALL romancy.run_workflow('gate', '$how->[0]');\n\\echo it has ended\n");
		see(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 137 AND NOT granted});
		$locker->query_until(qr/begun/, "\\echo begun\nBEGIN; LOCK TABLE romancy.t_instance;\n\\echo it is locked\n");
		see("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $locker_pid");
		$holder->query_safe('SELECT pg_advisory_unlock(137)');
		$locker->query_until(qr/it is locked/, '');
		see("SELECT state = 'idle' OR wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid");
		$looked = $watcher->query_safe("SELECT count(*) FROM pg_locks WHERE pid = $pid AND NOT granted");
		$locker->query_safe('ROLLBACK');
		my $out = $caller->query_until(qr/it has ended/, '');
		like($out . $caller->{stderr}, $how->[1], 'the caller has its outcome') or last;
		$caller->{stderr} = '';
		$caller->quit;
		last if !$looked;
	}
	is($looked, 0, "without a look at the table: $how->[0]");
}
$_->quit for $holder, $locker, $watcher;

# others end it while the caller sleeps
for my $end (['cancel_workflow(instance_id, \'not wanted\')', qr/RM008.*not wanted/s], ['send_to(instance_id, \'go\', \'"gone"\')', qr/"gone"/], ['terminate_workflow(instance_id, \'over\')', qr/RM008.*over/s])
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_until(qr/begun/, "\\set VERBOSITY verbose\n\\echo begun\nCALL romancy.run_workflow('waits', '\"$pid\"');\n\\echo it has ended\n");
	poll_until($node, qq{SELECT count(*) = 1 FROM romancy.instances WHERE input = '"$pid"' AND status = 'waiting_for_message'}, 'it waits');
	sql(qq{SELECT romancy.$end->[0] FROM romancy.instances WHERE input = '"$pid"'});
	my $out = $session->query_until(qr/it has ended/, '');
	like($out . $session->{stderr}, $end->[1], "the caller is told: $end->[0]");
	$session->{stderr} = '';
	$session->quit;
}

# many at once: each gets its own
my $script = $node->basedir . '/own.sql';
append_to_file($script, q{\set n random(1, 1000000000)
CALL romancy.run_workflow('echo', to_jsonb(:n)) \gset
SELECT 1 / (:result = :n)::int;
});
$node->command_ok([ 'pgbench', '-n', '-c', '24', '-j', '2', '-t', '40', '-f', $script, 'postgres' ], 'twenty-four callers, each gets its own');
is(sql(q{SELECT count(*), count(DISTINCT status) FROM romancy.instances WHERE workflow = 'echo'}), '960|1', 'all have run');

# a key: an instance that was started before, live or over
is(call(q('echo', '1', 'key')), 1, 'a new key');
is(call(q('echo', '2', 'key')), 1, 'the same again');
done_testing();
