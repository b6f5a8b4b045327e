# Limits of activities that run in the database, with several executors: never more than max_concurrency at
# a time, never faster than the rate limit, in handlers, mapped and as procedures; and a slot that is free again when
# its holder ends, fails, is cancelled, terminated or killed. All sweeps are an hour away, so
# instances continue by exact wake-ups. It would catch a slot that leaks, and a
# waiter that is not woken.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(time);

my %sweeps = map { ("romancy.${_}_interval" => '1h') }
	qw(timer message_timeout message_check lock_cleanup resumption activity_timeout channel_cleanup retention schedule outbox);
my $node = romancy_node('activity_limits', %sweeps,
	'restart_after_crash' => 'on', 'synchronous_commit' => 'on', 'max_worker_processes' => 14,
	'romancy.max_workers' => 6, 'romancy.executors' => 3);

# A transaction-level lock per slot: who gets none is one too many. (A process that has one runs one at a time, and is not to
# take another one.)
$node->safe_psql('postgres', q{
	CREATE TABLE effect (what text, n int, at timestamptz DEFAULT clock_timestamp());
	CREATE TABLE go ();
	CREATE FUNCTION work(i jsonb, slots int) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND classid::bigint = slots)
			AND NOT EXISTS (SELECT FROM generate_series(1, slots) s WHERE pg_try_advisory_xact_lock(slots, s)) THEN
			PERFORM romancy.raise_terminal('too many at a time');
		END IF;
		PERFORM pg_sleep(0.002);
		IF (i ->> 'n')::int % 10 = 7 THEN RAISE EXCEPTION 'seven'; END IF;
		INSERT INTO effect VALUES (i ->> 'a', (i ->> 'n')::int);
		RETURN i -> 'n';
	END $$;
	CREATE FUNCTION one(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN work(i, 1); END $$;
	CREATE FUNCTION two(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN work(i, 2); END $$;
	CREATE FUNCTION noted(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect VALUES (i ->> 'a', (i ->> 'n')::int); RETURN i -> 'n'; END $$;
	CREATE FUNCTION waits(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN i; END $$;
	CREATE PROCEDURE waits_outside(i jsonb, INOUT o jsonb) LANGUAGE plpgsql AS $$
	BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP COMMIT; PERFORM pg_sleep(0.02); END LOOP; o := i; END $$;
	CREATE FUNCTION wf(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity(i ->> 'a', i); END $$;
	CREATE FUNCTION wf_map(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.map(i ->> 'a', (SELECT jsonb_agg(i || jsonb_build_object('n', g * 10)) FROM generate_series(1, (i ->> 'n')::int) g)); END $$;
	SELECT romancy.define_activity('one', 'one(jsonb)', max_concurrency => 1, retry => '{"max_attempts": 1}');
	SELECT romancy.define_activity('two', 'two(jsonb)', max_concurrency => 2, retry => '{"max_attempts": 2, "initial_interval": "10ms"}');
	SELECT romancy.define_activity('fast', 'noted(jsonb)', rate_limit => '20/s');
	SELECT romancy.define_activity('hourly', 'noted(jsonb)', rate_limit => '1/h');
	SELECT romancy.define_activity('holds', 'waits(jsonb)', max_concurrency => 1);
});
$node->safe_psql('postgres', q{SELECT romancy.define_activity('outside', 'waits_outside(jsonb,jsonb)', transactional => false, max_concurrency => 1)});

sub start
{
	my ($a, $wf, $n) = @_;
	return $node->safe_psql('postgres', sprintf(q{SELECT romancy.start_workflow('%s', '{"a": "%s", "n": %d}')}, $wf // 'wf', $a, $n // 0));
}
sub status_is
{
	my ($id, $status, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", $what, expected => $status);
}
sub waits_for
{
	my ($id, $kind, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, "SELECT kind FROM romancy.waiting WHERE instance_id = '$id'", $what, expected => $kind);
}
sub live_is_zero { poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE status NOT IN ('completed', 'failed', 'cancelled')}, $_[0]) }

# many at once; some fail
for my $a (qw(one two))
{
	$node->safe_psql('postgres', qq{
		SELECT romancy.start_workflow('wf', jsonb_build_object('a', '$a', 'n', g)) FROM generate_series(1, 60) g;
		SELECT romancy.start_workflow('wf_map', '{"a": "$a", "n": 40}')});
	live_is_zero("all end: $a at a time");
	is($node->safe_psql('postgres', qq{SELECT count(*), count(DISTINCT n) FROM effect WHERE what = '$a' AND n <= 60 AND n % 10 <> 0}), '48|48', 'each that did not fail ran once');
	is($node->safe_psql('postgres', qq{SELECT count(*) FROM effect WHERE what = '$a' AND n % 10 = 0}), '46', 'mapped ones too');
	is($node->safe_psql('postgres', qq{SELECT coalesce(error->>'message', status), count(*) FROM romancy.instances WHERE input->>'a' = '$a' GROUP BY 1 ORDER BY 1}),
		"completed|55\nseven|6", 'and never more ran at a time');
}

# sixty of twenty in a second: two seconds at the least
my $begin = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
$node->safe_psql('postgres', q{
	SELECT romancy.start_workflow('wf', jsonb_build_object('a', 'fast', 'n', g)) FROM generate_series(1, 30) g;
	SELECT romancy.start_workflow('wf_map', '{"a": "fast", "n": 30}')});
live_is_zero('all end: twenty in a second');
is($node->safe_psql('postgres', q{SELECT count(*) FROM effect WHERE what = 'fast'}), '60', 'each ran once');
is($node->safe_psql('postgres', "SELECT max(at) - '$begin' >= '1.99 s' FROM effect WHERE what = 'fast'"), 't', 'and not faster than the limit');

# However the holder of the slot ends, the next gets it. end: what is done to the holder.
sub after
{
	my ($what, $a, $wf, $end, $status) = @_;
	my ($first, $second) = (start($a, $wf, 1), undef);

	poll_until($node, "SELECT count(*) = 1 FROM romancy.workers WHERE instance_id IS NOT NULL AND kind = 'executor'", "$what: one runs");
	$second = start($a, $wf, 1);
	if ($wf eq 'wf')
	{
		waits_for($second, 'max_concurrency', "$what: the other waits");
	}
	else
	{
		poll_until($node, "SELECT held_until IS NOT NULL FROM romancy.t_task WHERE instance_id = '$second'", "$what: the other waits");
	}
	poll_until($node, q{SELECT count(*) = 1 FROM romancy.workers w JOIN pg_stat_activity p USING (pid) WHERE w.kind = 'executor' AND p.backend_xmin IS NOT NULL},
		"$what: and holds no transaction") if $a ne 'outside';
	$end->($first);
	poll_until($node, "SELECT (SELECT status FROM romancy.instances WHERE instance_id = '$first') = '$status'", "$what: the first is $status") if $status;
	poll_until($node, 'SELECT true', 'the server is up');
	$node->safe_psql('postgres', 'INSERT INTO go DEFAULT VALUES');
	status_is($second, 'completed', "$what: the other completes");
	status_is($first, $status // 'completed', "$what: the first is as it should be");
	$node->safe_psql('postgres', 'TRUNCATE go');
	return;
}
sub executor { return $node->safe_psql('postgres', q{SELECT pid FROM romancy.workers WHERE kind = 'executor' AND instance_id IS NOT NULL LIMIT 1}) }

for my $wf (qw(wf wf_map))
{
	after("the end ($wf)", 'holds', $wf, sub { });
	after("a cancel ($wf)", 'holds', $wf, sub { $node->safe_psql('postgres', "SELECT romancy.cancel_workflow('$_[0]')") }, 'cancelled');
	after("a FATAL error ($wf)", 'holds', $wf, sub { $node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . executor() . ')') });
	after("SIGKILL ($wf)", 'holds', $wf, sub { kill 'KILL', executor() });
	after("a procedure's end ($wf)", 'outside', $wf, sub { });
	after("a procedure's FATAL error ($wf)", 'outside', $wf, sub { $node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . executor() . ')') });
}

# what a bucket has left is written down: one that was not used is full after a crash, one that was emptied stays so
status_is(start('hourly'), 'completed', 'after a crash a bucket is as full as it was');
my $hourly = start('hourly');
waits_for($hourly, 'rate_limit', 'then it is empty');
after('a clean restart', 'holds', 'wf', sub { $node->restart });
waits_for($hourly, 'rate_limit', 'after a clean restart, too');
after('a crash', 'holds', 'wf', sub { kill 'KILL', executor() });
is($node->safe_psql('postgres', q{SELECT count(*) FROM effect WHERE what = 'hourly'}), '1', 'and after a crash: it ran once');
$node->safe_psql('postgres', "SELECT romancy.cancel_workflow('$hourly')");
status_is($hourly, 'cancelled', 'one that waits for it is cancelled');
is($node->safe_psql('postgres', q{SELECT key || ' ' || count(*) FROM romancy.t_bucket WHERE full_at > now() GROUP BY key}), 'hourly 1', 'one row says so');

# one that waits and is cancelled does not take the slot away from those behind it
my @ids = map { start('holds') } 1 .. 4;
poll_until($node, q{SELECT count(*) = 3 FROM romancy.waiting WHERE kind = 'max_concurrency'}, 'three wait for the fourth');
my $cancelled = $node->safe_psql('postgres', q{SELECT instance_id FROM romancy.waiting WHERE kind = 'max_concurrency' ORDER BY since LIMIT 1});
$node->safe_psql('postgres', "SELECT romancy.cancel_workflow('$cancelled')");
status_is($cancelled, 'cancelled', 'one of those who wait is cancelled');

# a session that finds the slot taken leaves it (in a transaction block: else it waits for what a worker has in hand)
$node->safe_psql('postgres', 'BEGIN; CALL romancy.drain(advance_time => true); COMMIT');
is($node->safe_psql('postgres', q{SELECT count(*) FROM romancy.waiting WHERE kind = 'max_concurrency'}), '2', 'drain comes to an end while the slot is held');

# a limit that is raised lets the next through at once
$node->safe_psql('postgres', q{SELECT romancy.define_activity('holds', 'waits(jsonb)', max_concurrency => 2)});
poll_until($node, q{SELECT count(*) = 2 FROM romancy.workers WHERE kind = 'executor' AND instance_id IS NOT NULL}, 'with a higher limit two run');
$node->safe_psql('postgres', 'INSERT INTO go DEFAULT VALUES');
live_is_zero('all of them end');
is($node->safe_psql('postgres', q{SELECT count(*) FROM romancy.t_task}), '0', 'no task is left');

# what is left in a bucket is written down at the commit: there may be nothing then to write it to
$node->safe_psql('postgres', 'CREATE DATABASE gone');
is($node->safe_psql('gone', q{
	SET client_min_messages = error;
	CREATE EXTENSION romancy;
	CREATE FUNCTION act(i jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT i $$;
	CREATE FUNCTION wf(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('act', i); END $$;
	SELECT romancy.define_activity('act', 'act(jsonb)', rate_limit => '2/h') IS NULL;
	BEGIN;
	SELECT romancy.start_workflow('wf') IS NOT NULL;
	CALL romancy.drain();
	DROP EXTENSION romancy CASCADE;
	COMMIT;
	SELECT count(*) FROM pg_extension WHERE extname = 'romancy'}), "f\nt\n1\n0", 'DROP EXTENSION in a transaction that has taken a token');
$node->stop;

# without shared memory a session counts for itself
my $alone = romancy_node('activity_limits_alone', _preload => 0);
is($alone->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE FUNCTION act(i jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT i $$;
	CREATE FUNCTION wf(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('act', i); END $$;
	SELECT romancy.define_activity('act', 'act(jsonb)', rate_limit => '2/h', max_concurrency => 1) IS NULL;
	SELECT count(romancy.start_workflow('wf')) FROM generate_series(1, 3);
	CALL romancy.drain();
	CALL romancy.drain();
	SELECT string_agg(status, ' ' ORDER BY status) FROM romancy.instances;
	CALL romancy.drain(advance_time => true);
	SELECT string_agg(status, ' ' ORDER BY status) FROM romancy.instances}),
	"f\n3\n3\n0\ncompleted completed waiting_for_activity\n1\ncompleted completed completed", 'without preload a session has its own buckets');
$alone->stop;
done_testing();
