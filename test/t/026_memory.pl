# An executor's memory does not grow with the turns that it runs, nor beyond bounds
# when it replays a long history; and it does not fill the log, least of all with payloads.
# It would catch a leak in a long-lived context, a history that is kept twice, what is kept for each task of a canvas, and a line per turn.
# Takes 45 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep);

my $turns = $ENV{ROMANCY_MEMORY_TURNS} // 100_000;
my $node = romancy_node('memory', 'romancy.executors' => 1, 'romancy.worker_idle_timeout' => 0, 'romancy.max_history_events' => 60000,
	'autovacuum' => 'off', 'jit' => 'off', 'checkpoint_timeout' => '1h', 'max_wal_size' => '8GB', 'log_autovacuum_min_duration' => -1, 'log_statement' => 'none');
$node->safe_psql('postgres', q{
	CREATE TABLE how_many AS SELECT 10 AS count;
	CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION breaks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken %', $1 USING DETAIL = $1::text, HINT = $1::text; END $$;
	CREATE FUNCTION mix(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		CASE ($1 ->> 'i')::int % 10
		WHEN 0 THEN
			BEGIN PERFORM romancy.activity('breaks', $1, retry => '{"max_attempts": 2, "initial_interval": "1ms"}');
			EXCEPTION WHEN OTHERS THEN PERFORM romancy.activity('echo', $1); END;
		WHEN 1 THEN PERFORM romancy.sleep('1ms');
		WHEN 2 THEN PERFORM romancy.await(romancy.spawn('echo', $1));
		WHEN 3 THEN PERFORM romancy.set_value('k', $1), romancy.set_labels($1);
		WHEN 4 THEN RAISE EXCEPTION 'fails' USING DETAIL = $1::text, HINT = $1::text;
		WHEN 5 THEN PERFORM romancy.publish('nobody', $1);
		ELSE PERFORM romancy.activity('echo', $1), romancy.activity('echo', $1), romancy.activity('echo', $1);
		END CASE;
		RETURN $1;
	END $$;
	CREATE FUNCTION long(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. (SELECT count FROM how_many) LOOP PERFORM romancy.activity('echo', jsonb_build_object('i', i, 'text', repeat('x', 100))); END LOOP;
		PERFORM romancy.sleep('1 day');
		RETURN '1';
	END $$;
});

sub executor { return $node->safe_psql('postgres', q{SELECT pid FROM romancy.workers WHERE kind = 'executor' AND owner = 'postgres'}); }

# kB of this kind in /proc
sub proc
{
	my ($pid, $key) = @_;
	open my $fh, '<', "/proc/$pid/status" or return undef;
	while (<$fh>) { return $1 if /^$key:\s+(\d+) kB/ }
	return undef;
}

# what the executor's memory contexts hold, by its own account in the log
sub contexts
{
	my $pid = executor();
	my $offset = -s $node->logfile;
	$node->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts($pid)");
	my $found;
	poll_until(sub { $found = slurp_file($node->logfile, $offset) =~ /\[$pid\].*Grand total: (\d+) bytes in \d+ blocks; \d+ free \(\d+ chunks\); (\d+) used/ ? $2 : undef }, 'the executor tells of its memory');
	return $found;
}

sub run_turns
{
	my ($n) = @_;
	my $goal = $n + $node->safe_psql('postgres', q{SELECT coalesce(sum(turns), 0) FROM romancy.workers});
	while ($node->safe_psql('postgres', q{SELECT coalesce(sum(turns), 0) FROM romancy.workers}) < $goal)
	{
		$node->safe_psql('postgres', q{SELECT count(*) FROM romancy.start_workflows('mix', array(SELECT jsonb_build_object('i', i, 'secret', 'PAYLOAD_MARKER') FROM generate_series(1, 5000) i))});
		poll_until($node, q{SELECT NOT EXISTS (SELECT FROM romancy.t_instance WHERE wake_at IS NOT NULL)}, "they have run") or last;
	}
}

my $offset = -s $node->logfile;
run_turns($turns / 10);
my $log = slurp_file($node->logfile, $offset);
my ($pid, $used, $rss) = (executor(), contexts(), proc(executor(), 'RssAnon'));
$offset = -s $node->logfile;
run_turns($turns * 9 / 10);
$log .= slurp_file($node->logfile, $offset);
my ($used2, $rss2) = (contexts(), proc(executor(), 'RssAnon'));
is(executor(), $pid, 'it is still the same executor');
note("after a tenth: $used bytes in contexts, $rss kB; at the end: $used2 bytes, $rss2 kB");
cmp_ok($used2, '<=', $used + 256 * 1024, 'its memory contexts hold no more after all the turns than after a tenth of them');
cmp_ok($rss2, '<=', $rss + 4 * 1024, 'nor does the process');
is($node->safe_psql('postgres', q{SELECT count(*) FROM romancy.t_instance WHERE status NOT IN ('completed', 'failed')}), '0', 'all have ended');

# the log: a line for each failed workflow (romancy.log_failures), with SQLSTATE and message and no payload; else nothing
# but what the test's own sessions and the server do
unlike($log, qr/PAYLOAD_MARKER/, 'no payload in the log');
my @lines = grep { /romancy|workflow|activity|executor|broken|fails/i && !/\] \d+_\w+\.pl |statement: |client backend/ } split /\n/, $log;
my @failed = grep { / LOG:  workflow "mix", instance [-0-9a-f]{36} failed: P0001: fails$/ } @lines;
@lines = grep { !/ LOG:  workflow "mix", instance [-0-9a-f]{36} failed: P0001: fails$/ } @lines;
is(scalar(@failed), $node->safe_psql('postgres', q{SELECT count(*) FROM romancy.t_instance WHERE status = 'failed'}), 'a line in the log for each failed workflow');
is(scalar(@lines), 0, 'none for a turn or a retry') or diag(join "\n", @lines[0 .. (@lines > 10 ? 9 : $#lines)]);

# a long history: made from a short one, since it takes long to come about
my $events = 49_990;
my $id = $node->safe_psql('postgres', "SELECT romancy.start_workflow('long')");
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", 'a long one waits', expected => 'waiting_for_timer');
$node->safe_psql('postgres', qq{
	BEGIN;
	INSERT INTO romancy.t_history (instance_id, last_seq, events)
		SELECT '$id', max(i), romancy.t_events_pack(array_agg(ROW(e.kind, 'echo:' || i, e.name, jsonb_build_object('i', i, 'text', repeat('x', 100)),
			jsonb_build_object('i', i, 'text', repeat('x', 100)), NULL, e.at)::romancy.t_event ORDER BY i))
		FROM generate_series(11, $events) i, (SELECT (romancy.t_events_unpack(h.events))[1].* FROM romancy.t_history h WHERE h.instance_id = '$id' ORDER BY last_seq LIMIT 1) e
		GROUP BY i / 500;
	UPDATE romancy.t_instance SET last_seq = $events WHERE instance_id = '$id';
	UPDATE how_many SET count = $events;
	COMMIT});
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . executor() . ')');
$node->safe_psql('postgres', q{CALL romancy.run_workflow('mix', '{"i": 9}', timeout => '30s')});
$pid = executor();
my $base = proc($pid, 'RssAnon');
my $peak = $base;
# (not before all of it is there and the memory has been looked at)
make_due($node, "instance_id = '$id'");
$node->safe_psql('postgres', q{SELECT romancy.run_sweep('timers')});
my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
while (time < $deadline)
{
	my $now = proc($pid, 'RssAnon') // last;
	$peak = $now if $now > $peak;
	last if !-d "/proc/$pid";
	usleep(2_000);
	our $n //= 0;
	last if ++$n % 200 == 0 && $node->safe_psql('postgres', "SELECT status FROM romancy.instances WHERE instance_id = '$id'") eq 'completed';
}
is($node->safe_psql('postgres', "SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'completed', 'it was replayed and ended');
is(executor(), $pid, 'by the executor that was looked at');
my $hwm = proc($pid, 'VmHWM') - proc($pid, 'RssFile') - proc($pid, 'RssShmem');
$peak = $hwm if $hwm > $peak;
note("replay of $events events: $base kB before, at most $peak kB");
cmp_ok($peak - $base, '<', 64 * 1024, 'the replay of 50,000 events takes less than 64 MB');

# As many by running them, up to a wait: each step takes effect once, and the handler is not run from the top for each
$node->safe_psql('postgres', q{
	CREATE TABLE effect (i int);
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect VALUES (($1 ->> 'i')::int); RETURN 'true'; END $$;
	CREATE FUNCTION tick(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
	CREATE FUNCTION runs(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. (SELECT count FROM how_many) LOOP PERFORM romancy.activity('put', jsonb_build_object('i', tick(i), 'text', repeat('x', 100))); END LOOP;
		PERFORM romancy.sleep('1 ms');
		RETURN '1';
	END $$;
});
$node->append_conf('postgresql.conf', 'track_functions = pl');
$node->reload;
for my $run ('the first', 'the second')
{
	$node->safe_psql('postgres', 'TRUNCATE effect');
	$node->safe_psql('postgres', 'SELECT pg_stat_reset()');
	$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . executor() . ')');
	$node->safe_psql('postgres', q{CALL romancy.run_workflow('mix', '{"i": 9}', timeout => '30s')});
	$pid = executor();
	$base = proc($pid, 'RssAnon');
	$id = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('runs')});
	poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", "$run of $events steps and a wait ends", expected => 'completed');
	$hwm = proc($pid, 'VmHWM') - proc($pid, 'RssFile') - proc($pid, 'RssShmem');
	is(executor(), $pid, 'in the executor that was looked at');
	is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT i) FROM effect'), "$events|$events", 'each step took effect once');
	poll_until($node, q{SELECT calls > 0 FROM pg_stat_user_functions WHERE funcname = 'tick'}, 'the executor has reported its calls');
	my $calls = $node->safe_psql('postgres', q{SELECT calls FROM pg_stat_user_functions WHERE funcname = 'tick'});
	note("$run: $base kB before, at most $hwm kB; $calls calls for $events steps");
	cmp_ok($calls, '<', 10 * $events, 'the handler was run through a few times, not once for each step');
	cmp_ok($hwm - $base, '<', 64 * 1024, 'in less than 64 MB');
}

# a canvas of as many tasks as are said to be fine, of two kinds: what is looked up for one is not kept for each
$node->safe_psql('postgres', q{CREATE FUNCTION echo2(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$});
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . executor() . ')');
$node->safe_psql('postgres', q{CALL romancy.run_workflow('mix', '{"i": 9}', timeout => '30s')});
$pid = executor();
$base = proc($pid, 'RssAnon');
$id = $node->safe_psql('postgres', q{SELECT romancy.run_canvas(romancy.group(VARIADIC array(SELECT romancy.task(CASE i % 2 WHEN 0 THEN 'echo' ELSE 'echo2' END, to_jsonb(i)) FROM generate_series(1, 100000) i)))});
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", 'a group of 100,000 tasks ends', expected => 'completed');
is(executor(), $pid, 'in the executor that was looked at');
is($node->safe_psql('postgres', "SELECT jsonb_array_length(output) FROM romancy.instances WHERE instance_id = '$id'"), '100000', 'with all results');
$hwm = proc($pid, 'VmHWM') - proc($pid, 'RssFile') - proc($pid, 'RssShmem');
note("a group of 100,000: $base kB before, at most $hwm kB");
cmp_ok($hwm - $base, '<', 128 * 1024, 'in less than 128 MB');
$node->stop('fast');
done_testing();
