# Every kind of worker is cancelled and terminated, at rest and at work, and the
# server is shut down in every way while work is under way. A cancel costs a unit,
# never the process; after a terminate another one comes; a shutdown comes to an end,
# also when a worker waits for a lock; and nothing is lost or done twice.
# It would catch a worker that ignores a signal, dies of a cancel, or holds up a shutdown.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep time);

my $node = romancy_node('signals', 'synchronous_commit' => 'on', 'romancy.worker_idle_timeout' => '30s',
	'romancy.timer_interval' => '500ms', 'romancy.retry_backoff_max' => '1s');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub pid_of { return sql("SELECT pid FROM romancy.workers WHERE kind = '$_[0]' AND pid IS NOT NULL ORDER BY started_at LIMIT 1") }

sql(q{
	CREATE TABLE effect (instance uuid, step int);
	CREATE TABLE locked (i int);
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect VALUES (romancy.instance_id(), ($1 #>> '{}')::int); RETURN $1; END $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note', '1');
		PERFORM romancy.sleep('200 ms');
		PERFORM romancy.activity('note', '2');
		RETURN romancy.activity('note', '3');
	END $$;
	CREATE SEQUENCE tries;		-- which no rollback takes back
	CREATE FUNCTION nap(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('tries'); PERFORM pg_sleep(1000) WHERE NOT EXISTS (SELECT FROM awake); RETURN $1; END $$;
	CREATE TABLE awake (yes boolean);		-- whether naps are over
	CREATE FUNCTION naps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('note', '1'); RETURN romancy.activity('nap', $1); END $$;
	CREATE FUNCTION block(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN LOCK TABLE locked; RETURN $1; END $$;
	CREATE FUNCTION blocks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('block'); END $$;
});
sub load { return sql("SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '0'::jsonb FROM generate_series(1, $_[0])))") }
my $total = 0;
sub all_done
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $n = shift;
	$total += $n;
	poll_until($node, qq{SELECT count(*) = $total FROM romancy.instances WHERE workflow = 'steps' AND status = 'completed'}, 'all complete');
	is(sql(q{SELECT count(*) FROM effect e JOIN romancy.instances i ON i.instance_id = e.instance WHERE workflow = 'steps'}), 3 * $total, 'each step once');
}

# --- at rest

load(5);
all_done(5);
poll_until($node, q{SELECT count(DISTINCT kind) = 3 FROM romancy.workers}, 'a launcher, a scheduler, an executor');
for my $kind (qw(launcher scheduler executor))
{
	my $pid = pid_of($kind);
	is(sql("SELECT pg_cancel_backend($pid)"), 't', "$kind: pg_cancel_backend");
	usleep(100_000);
	load(5);
	all_done(5);
	is(pid_of($kind), $pid, 'is the same process');
}
for my $kind (qw(scheduler executor launcher))
{
	my $pid = pid_of($kind);
	is(sql("SELECT pg_terminate_backend($pid, 30000)"), 't', "$kind: pg_terminate_backend ends it");
	load(5);
	all_done(5);
	poll_until($node, qq{SELECT count(*) = 0 FROM romancy.workers WHERE pid = $pid}, 'its place is free');
	poll_until($node, qq{SELECT count(*) > 0 FROM romancy.workers WHERE kind = '$kind' AND pid <> $pid}, 'another one comes');
}

# --- at work

my $nap = sql(q{SELECT romancy.start_workflow('naps', '1000')});
poll_until($node, qq{SELECT count(*) = 1 FROM romancy.workers WHERE instance_id = '$nap'}, 'an executor is in a long step');
my $pid = sql("SELECT pid FROM romancy.workers WHERE instance_id = '$nap'");
poll_until($node, "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid", 'asleep');
is(sql("SELECT pg_terminate_backend($pid, 30000)"), 't', 'terminated there');
poll_until($node, qq{SELECT count(*) = 1 FROM romancy.workers WHERE instance_id = '$nap' AND pid <> $pid}, 'another one takes it up');
is(sql(qq{SELECT count(*) <= 1 FROM effect WHERE instance = '$nap'}), 't', 'without doing the first step again');
$pid = sql("SELECT pid FROM romancy.workers WHERE instance_id = '$nap'");
poll_until($node, "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid", 'asleep');
my $tries = sql('SELECT last_value FROM tries');
sql("SELECT pg_cancel_backend($pid)");
poll_until($node, qq{SELECT last_value > $tries FROM tries}, 'pg_cancel_backend interrupts the statement, which is tried again');
load(5);
all_done(5);
sql("SELECT romancy.terminate_workflow('$nap')");
poll_until($node, qq{SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$nap'}, 'it ends');

# several executors that are terminated at once have failed once: the delay before the next one does not grow with their number
my @naps = split /\n/, sql(q{SELECT romancy.start_workflows('naps', array_fill('0'::jsonb, array[3]))});
poll_until($node, q{SELECT count(*) >= 2 FROM romancy.workers JOIN pg_stat_activity USING (pid) WHERE wait_event = 'PgSleep'}, 'executors are in long steps');
sql('INSERT INTO awake VALUES (true)');		# when they are begun again
my $pids = sql(q{SELECT string_agg(pid::text, ',') FROM romancy.workers WHERE kind = 'executor'});
sql("SELECT pg_terminate_backend(pid) FROM unnest(array[$pids]) p (pid)");
poll_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ($pids)", 'all are terminated');
unlike(sql('SELECT romancy.health()'), qr/have failed (?!1 )\d+ times/, 'that is one failure');
poll_until($node, q{SELECT count(*) = 3 FROM romancy.instances WHERE status = 'completed' AND instance_id IN ('} . join(q{','}, @naps) . q{')}, 'they complete');
sql('TRUNCATE awake');
# a scheduler in the middle of a sweep, held up by a lock
my $s = $node->background_psql('postgres');
$pid = pid_of('scheduler');
$s->query_safe('BEGIN');
$s->query_safe('LOCK TABLE romancy.t_instance');
poll_until($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid", 'a sweep waits for a lock');
sql("SELECT pg_cancel_backend($pid)");
$s->query_safe('ROLLBACK');
load(5);
all_done(5);
is(sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), '1', 'a cancelled sweep does not end the scheduler');
$s->query_safe('BEGIN');
$s->query_safe('LOCK TABLE romancy.t_instance');
poll_until($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid", 'a sweep waits for a lock again');
is(sql("SELECT pg_terminate_backend($pid, 30000)"), 't', 'and is terminated there');
$s->query_safe('ROLLBACK');
load(5);
all_done(5);
# in a handler, in whatever evaluation, and whatever it makes of it: the turn runs again
sql(q{
	CREATE TABLE held ();
	GRANT SELECT ON held TO public;
	INSERT INTO held DEFAULT VALUES;
	CREATE FUNCTION held() RETURNS void LANGUAGE plpgsql AS $$ BEGIN WHILE EXISTS (SELECT FROM held) LOOP PERFORM pg_sleep(0.05); END LOOP; END $$;
	CREATE FUNCTION is_held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note', '1'), romancy.sleep('1 ms');
		PERFORM held();
		RETURN romancy.activity('note', '2');
	END $$;
	CREATE FUNCTION is_held_and_catches(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note', '1'), romancy.sleep('1 ms');
		BEGIN PERFORM held(); EXCEPTION WHEN query_canceled THEN PERFORM romancy.sleep('1 hour'); END;
		RETURN romancy.activity('note', '2');
	END $$;
});
for my $workflow (qw(is_held is_held_and_catches))
{
	my $id = sql("SELECT romancy.start_workflow('$workflow')");
	for my $round (1 .. 3)
	{
		poll_until($node, qq{SELECT count(*) = 1 FROM romancy.workers WHERE instance_id = '$id'}, "$workflow: its handler runs");
		my $pid = sql(qq{SELECT pid FROM romancy.workers WHERE instance_id = '$id'});
		poll_until($node, "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid", 'and takes long');
		sql("SELECT pg_cancel_backend($pid)");
	}
	sql('DELETE FROM held');
	poll_until($node, qq{SELECT status FROM romancy.instances WHERE instance_id = '$id'}, 'it completes', expected => 'completed');
	is(sql("SELECT count(*), count(DISTINCT step) FROM effect WHERE instance = '$id'"), '2|2', 'each step once');
	sql('INSERT INTO held DEFAULT VALUES');
}
# in statements of the engine itself: no failure (each turn reads the inbox; whether one writes history depends on how long its steps take)
$s->query_safe('BEGIN');
$s->query_safe('LOCK TABLE romancy.t_inbox');
my $blocked = sql(q{SELECT romancy.start_workflow('is_held')});
poll_until($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'romancy executor' AND wait_event_type = 'Lock'}, 'the engine waits for a lock');
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'romancy executor' AND wait_event_type = 'Lock'});
$s->query_safe('ROLLBACK');
sql('DELETE FROM held');
poll_until($node, qq{SELECT status FROM romancy.instances WHERE instance_id = '$blocked'}, 'it completes', expected => 'completed');
unlike(slurp_file($node->logfile), qr/turn of workflow instance $blocked failed/, 'a cancel of the engine is no failure of its own');

# all of them at once, now and again
for my $round (1 .. 5)
{
	load(20);
	usleep(40_000 * $round);
	sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type IN ('romancy executor', 'romancy scheduler')} .
		($round == 5 ? q{ OR backend_type = 'romancy launcher'} : ''));
}
all_done(100);

# --- shutdown, with work under way and a worker that waits for a lock

for my $mode (qw(smart fast immediate))
{
	load(100);
	my $nap = sql(q{TRUNCATE awake; SELECT romancy.start_workflow('naps', '0')});
	poll_until($node, qq{SELECT count(*) = 1 FROM romancy.workers JOIN pg_stat_activity USING (pid) WHERE instance_id = '$nap' AND wait_event = 'PgSleep'}, "$mode: a long step runs");
	sql('INSERT INTO awake VALUES (true)');		# when it is begun again
	if ($mode ne 'smart')		# which would wait for this session
	{
		$s->query_safe('BEGIN');
		$s->query_safe('LOCK TABLE locked');
		sql(q{SELECT romancy.start_workflow('blocks')});
		poll_until($node, q{SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'locked'::regclass}, 'and one waits for a lock');
	}
	else
	{
		$s->quit;
	}
	my $begin = time;
	$node->stop($mode);
	cmp_ok(time - $begin, '<', 45, 'the server stops');
	eval { $s->quit } if $mode ne 'smart';
	$node->start;
	all_done(100);
	poll_until($node, qq{SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$nap'}, 'the long step, too');
	is(sql("SELECT count(*) FROM effect WHERE instance = '$nap'"), '1', 'once');
	$s = $node->background_psql('postgres');
}
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'those that waited for a lock as well');
$s->quit;
$node->stop('fast');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal (?!3)/, 'the log is clean');
done_testing();
