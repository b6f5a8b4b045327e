# The sweeps, the safety net under exact wake-ups: each finds what it is for, in
# batches, at intervals drawn anew, less and less often while there is nothing to
# do, not while another process holds its lock, and shared by several schedulers.
# It would catch a sweep that never runs, that runs away, or that runs twice.
# Takes 35 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use List::Util qw(min max uniq);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep time);

my $node = romancy_node('sweeps',
	'romancy.max_workers' => 6, 'romancy.executors' => 1, max_worker_processes => 16,
	'romancy.worker_idle_timeout' => '0', 'romancy.retry_backoff_max' => '100ms',
	map { ("romancy.$_" => '1h') } qw(timer_interval message_timeout_interval
	  message_check_interval lock_cleanup_interval resumption_interval activity_timeout_interval
	  channel_cleanup_interval retention_interval schedule_interval outbox_interval));

sub sql { return $node->safe_psql('postgres', $_[0]) }

# set(name => value, ...): changes settings, and sees to it that they hold
sub set
{
	my %conf = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET romancy.$_ = '$conf{$_}'") for sort keys %conf;
	$node->reload;
	for my $name (keys %conf)
	{
		$node->poll_query_until('postgres', "SELECT sourcefile LIKE '%auto.conf' AND current_setting('romancy.$name') = '$conf{$name}' FROM pg_settings WHERE name = 'romancy.$name'")
		  or die "romancy.$name is not $conf{$name}";
	}
}

sql(q{
	CREATE FUNCTION nap(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.sleep(($1 #>> '{}')::interval); RETURN $1; END $$;
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION flaky(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN IF romancy.attempt() < 2 THEN RAISE EXCEPTION 'not yet'; END IF; RETURN '"second"'; END $$;
	CREATE FUNCTION retries(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.activity('flaky', retry => '{"initial_interval": "2000s", "max_interval": "2000s", "max_duration": "9000s"}'); END $$;
	CREATE FUNCTION listens(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.receive('nothing', '1 hour'); RETURN '0'; EXCEPTION WHEN SQLSTATE 'RM006' THEN RETURN '"timeout"'; END $$;
	SELECT romancy.define_activity('outside', queue => 'q');
	CREATE FUNCTION external(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.activity('outside'); END $$;
});

# only a sweep finds work that is made overdue by an UPDATE of the table
sub overdue
{
	return make_due($node, $_[0]);
}

# --- run_sweep: each of them does what it is for, now

my $names = sql(q{SELECT string_agg(name, ' ' ORDER BY name) FROM romancy.sweeps});
like($names, qr/\b$_\b/, "there is a sweep \"$_\"") for qw(activity_timeouts lock_cleanup resumption retention timers);
is(sql(q{SELECT string_agg(name, ' ' ORDER BY name) FROM romancy.sweeps WHERE romancy.run_sweep(name) = 0}), $names,
	'with nothing to do each handles no row');
my ($rc, $out, $err) = $node->psql('postgres', "SELECT romancy.run_sweep('nonesuch')");
like($err, qr/sweep "nonesuch" does not exist.*HINT.*timers/s, 'an unknown one');

my $nap = sql(q{SELECT romancy.start_workflow('nap', '"30 days"')});
my $retry = sql(q{SELECT romancy.start_workflow('retries')});
my $listens = sql(q{SELECT romancy.start_workflow('listens')});
poll_until($node, q{SELECT string_agg(status, ' ' ORDER BY status) FROM romancy.instances}, 'they wait',
	expected => 'waiting_for_activity waiting_for_message waiting_for_timer');
overdue('true');
usleep(300_000);
is(sql(q{SELECT count(*) FROM romancy.instances WHERE finished_at IS NULL}), '3', 'an overdue row alone moves nothing');
is(sql(q{SELECT romancy.run_sweep('timers')}), '1', 'timers: found');
poll_until($node, qq{SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$nap'}, 'and run');
is(sql(q{SELECT romancy.run_sweep('activity_timeouts')}), '1', 'activity_timeouts: found');
poll_until($node, qq{SELECT output = '"second"' FROM romancy.instances WHERE instance_id = '$retry'}, 'and tried again');
is(sql(q{SELECT romancy.run_sweep('message_timeouts')}), '1', 'message_timeouts: found');
poll_until($node, qq{SELECT output = '"timeout"' FROM romancy.instances WHERE instance_id = '$listens'}, 'and timed out');

my $external = sql(q{SELECT romancy.start_workflow('external')});
my $token;
poll_until(sub { $token = sql(q{SELECT token FROM romancy.fetch_activities('q', 'dies', 1, '100ms')}) }, 'a task is taken');
usleep(200_000);
cmp_ok(sql(q{SELECT romancy.run_sweep('lock_cleanup') + total_rows FROM romancy.sweeps WHERE name = 'lock_cleanup'}), '>=', 1, 'lock_cleanup: takes a lost lease back, if it was not asked for already');
my $second;
poll_until(sub { $second = sql(q{SELECT token FROM romancy.fetch_activities('q', 'lives', 1, '60s')}) }, 'and another worker gets the task');
is(sql("SELECT romancy.complete_activity('$token', '1'), romancy.complete_activity('$second', '2')"), 'f|t', 'the first one has lost it');
poll_until($node, qq{SELECT output = '2' FROM romancy.instances WHERE instance_id = '$external'}, 'the second one counts');

sql(q{SELECT romancy.define_workflow('shortlived', 'quick(jsonb)', retention => '0.1 s')});
sql(q{SELECT count(*) FROM romancy.start_workflows('shortlived', array(SELECT to_jsonb(i) FROM generate_series(1, 25) i))});
poll_until($node, q{SELECT count(*) = 25 FROM romancy.instances WHERE workflow = 'shortlived' AND status = 'completed'}, 'they complete');
usleep(200_000);
set(sweep_batch_size => 10);
is(sql(q{SELECT romancy.run_sweep('retention')}), '10', 'retention: a batch');
is(sql(q{SELECT romancy.run_sweep('retention')}), '10', 'another one');
is(sql(q{SELECT romancy.run_sweep('retention')}), '5', 'and the rest');
is(sql(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'shortlived'}), '0', 'they are gone');
is(sql(q{SELECT count(*) FROM romancy.t_history h WHERE NOT EXISTS (SELECT FROM romancy.t_instance i WHERE i.instance_id = h.instance_id)}), '0',
	'with their history');

# by itself the sweep commits batch by batch: no transaction deletes more than one
sql(q{
	CREATE TABLE gone (xid xid8);
	CREATE FUNCTION is_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.gone VALUES (pg_current_xact_id()); RETURN NULL; END $$;
	CREATE TRIGGER is_gone AFTER DELETE ON romancy.t_instance FOR EACH ROW EXECUTE FUNCTION is_gone();
	SELECT count(*) FROM romancy.start_workflows('shortlived', array(SELECT to_jsonb(i) FROM generate_series(1, 35) i))});
set(retention_interval => '100ms');
poll_until($node, 'SELECT count(*) = 35 FROM gone', 'retention by itself: all are gone');
is(sql('SELECT count(*) >= 4, max(n) <= 10 FROM (SELECT count(*) AS n FROM gone GROUP BY xid) x'), 't|t', 'in transactions of a batch each');
set(retention_interval => '1h');
sql('DROP TRIGGER is_gone ON romancy.t_instance');

# what was started while the clock was ahead: the look at it goes on behind the live ones, which are more than one look sees
set(sweep_batch_size => 1);
my @ahead = split /\n/, sql(q{SELECT romancy.start_workflow('nap', '"1 hour"') FROM generate_series(1, 25)});
my $over = sql(q{SELECT romancy.start_workflow('shortlived')});
poll_until($node, "SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$over'", 'one is over');
sql("UPDATE romancy.t_instance SET created_at = created_at + CASE instance_id WHEN '$over' THEN interval '2 days' ELSE '1 day' END WHERE instance_id IN ('$over', '" . join("', '", @ahead) . "')");
set(retention_interval => '50ms');
poll_until($node, "SELECT count(*) = 0 FROM romancy.instances WHERE instance_id = '$over'", 'retention: also one behind many live ones of a time ahead');
set(retention_interval => '1h', sweep_batch_size => 10);
sql("SELECT romancy.terminate_workflow('$_')") for @ahead;
poll_until($node, "SELECT count(*) = 0 FROM romancy.instances WHERE workflow = 'nap' AND created_at > now() + interval '1 hour' AND finished_at IS NULL", 'they are ended');
sql('DELETE FROM romancy.t_instance WHERE created_at > now()');

# messages to instances that have ended, one of which is just being deleted by a session: the others go
my @ended = split /\n/, sql(q{SELECT romancy.start_workflow('nap', '"1 hour"') FROM generate_series(1, 2)});
sql("SELECT romancy.terminate_workflow('$_')") for @ended;
poll_until($node, "SELECT count(*) = 2 FROM romancy.instances WHERE status = 'cancelled' AND instance_id IN ('$ended[0]', '$ended[1]')", 'two have ended');
sql("INSERT INTO romancy.t_message (namespace, kind, channel, mailbox, data) SELECT namespace, 'd', 'late', instance_id, '1' FROM romancy.t_instance WHERE instance_id IN ('$ended[0]', '$ended[1]')");
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe("BEGIN; SELECT romancy.delete_workflow('$ended[0]')");
set(channel_cleanup_interval => '50ms');
poll_until($node, "SELECT count(*) = 0 FROM romancy.t_message WHERE mailbox = '$ended[1]'", 'channel_cleanup: past a message that another transaction deletes');
$session->query_safe('ROLLBACK');
$session->quit;
poll_until($node, "SELECT count(*) = 0 FROM romancy.t_message WHERE mailbox = '$ended[0]'", 'which goes when that is over');
set(channel_cleanup_interval => '1h');

# one of whose tasks a program has in an open transaction: it stays until that ends, and keeps the scheduler from nothing
sql(q{SELECT romancy.define_workflow('heldback', 'external(jsonb)', retention => '0.1 s')});
my $heldback = sql(q{SELECT romancy.start_workflow('heldback')});
my $held;
poll_until(sub { $held = sql(q{SELECT token FROM romancy.fetch_activities('q', 'holds', 1, '1h')}) }, 'a program has its task');
sql("SELECT romancy.terminate_workflow('$heldback')");
my $program = $node->background_psql('postgres', on_error_stop => 1);
$program->query_safe("BEGIN; SELECT romancy.complete_activity('$held', '1')");
$over = sql(q{SELECT romancy.start_workflow('shortlived')});
set(retention_interval => '50ms');
poll_until($node, "SELECT count(*) = 0 FROM romancy.instances WHERE instance_id = '$over'", 'retention: past an instance of which another transaction has a task');
is(sql("SELECT count(*) FROM romancy.instances WHERE instance_id = '$heldback'"), '1', 'which stays');
$program->query_safe('COMMIT');
$program->quit;
poll_until($node, "SELECT count(*) = 0 FROM romancy.instances WHERE instance_id = '$heldback'", 'until that has ended');
set(retention_interval => '1h');

# --- limits: rows of a batch, and instances that resumption hands out

set(enabled => 'off');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'nobody runs');
sql(q{SELECT count(*) FROM romancy.start_workflows('quick', array(SELECT to_jsonb(i) FROM generate_series(1, 40) i))});
is(sql(q{SELECT romancy.run_sweep('resumption')}), '10', 'resumption: no more than the batch');
set(max_concurrent_resumptions => 3);
is(sql(q{SELECT romancy.run_sweep('resumption')}), '3', 'nor than max_concurrent_resumptions');
set(max_concurrent_resumptions => 10);
is(sql(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'quick' AND status = 'pending'}), '40', 'while off, nothing runs');
set(enabled => 'on');
poll_until($node, q{SELECT count(*) = 40 FROM romancy.instances WHERE workflow = 'quick' AND status = 'completed'}, 'on again: all run');

# --- by themselves: interval, jitter, back-off

# The intervals that a sweep draws, in milliseconds
sub drawn
{
	my ($name, $n) = @_;
	my %seen;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	while (keys %seen < $n && time < $deadline)
	{
		my ($run, $ms) = split /\|/, sql(qq{
			SELECT runs, round(extract(epoch FROM next_due - last_run - duration) * 1000) FROM romancy.sweeps WHERE name = '$name'});
		$seen{$run} = $ms if defined $ms && $ms ne '';
		usleep(30_000);
	}
	return values %seen;
}

set(sweep_jitter => '0.5', timer_interval => '100ms');
poll_until($node, q{SELECT runs > 2 FROM romancy.sweeps WHERE name = 'timers'}, 'timers: runs by itself');
my @ms = drawn('timers', 20);
cmp_ok(scalar(@ms), '>=', 20, 'and goes on');
cmp_ok(scalar(uniq(@ms)), '>=', 8, 'intervals are drawn anew');
# (written down a moment after the run, so give or take that)
cmp_ok(min(@ms), '>=', 48, 'not shorter than the jitter allows');
cmp_ok((sort { $a <=> $b } @ms)[int(0.8 * @ms)], '<=', 170, 'nor longer (a busy machine is late now and then)');
cmp_ok(max(@ms) - min(@ms), '>=', 30, 'all over the range') or diag("@ms");

set(sweep_jitter => '0', retry_backoff_max => '2s');
poll_until($node, q{SELECT next_due - last_run > '1.9 s' FROM romancy.sweeps WHERE name = 'timers'}, 'with nothing to do the interval grows to romancy.retry_backoff_max');
my $so_far = sql(q{SELECT runs FROM romancy.sweeps WHERE name = 'timers'});
poll_until($node, qq{SELECT runs > $so_far FROM romancy.sweeps WHERE name = 'timers'}, 'it runs again');
is(sql(q{SELECT next_due - last_run - duration BETWEEN '1.9 s' AND '2.1 s' FROM romancy.sweeps WHERE name = 'timers'}), 't', 'and no further');
my $work = sql(q{SELECT romancy.start_workflow('nap', '"30 days"')});
poll_until($node, qq{SELECT status = 'waiting_for_timer' FROM romancy.instances WHERE instance_id = '$work'}, 'there is work');
# (it grows again in less than a second: a session looks all the time)
sql(q{CREATE FUNCTION is_reset(seconds int) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. seconds * 1000 LOOP
			PERFORM FROM romancy.sweeps WHERE name = 'timers' AND next_due - last_run - duration < '500 ms';
			IF found THEN RETURN true; END IF;
			PERFORM pg_sleep(0.001);
		END LOOP;
		RETURN false;
	END $$});
my $looks = $node->background_psql('postgres');
$looks->query_until(qr/looks/, "\\echo looks\nSELECT 'reset ' || is_reset($PostgreSQL::Test::Utils::timeout_default);\n");
poll_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT ''reset%' AND wait_event = 'PgSleep'}, 'somebody looks');
overdue("instance_id = '$work'");
like($looks->query('SELECT 1'), qr/reset true/, 'work resets it');
$looks->quit;
poll_until($node, qq{SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$work'}, 'and is done');

# a batch that was full is followed by the next one at once, whatever the interval
set(retry_backoff_max => '100ms', timer_interval => '6s', sweep_batch_size => 10);
sql(q{SELECT count(*) FROM romancy.start_workflows('nap', array(SELECT '"30 days"'::jsonb FROM generate_series(1, 45)))});
poll_until($node, q{SELECT count(*) = 45 FROM romancy.instances WHERE status = 'waiting_for_timer'}, '45 sleep');
overdue("status = 'waiting_for_timer'");
my $begin = time;
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'all are found');
cmp_ok(time - $begin, '<', 22, 'in less than five intervals');
is(sql(q{SELECT max(rows) <= 10 FROM romancy.sweeps}), 't', 'ten at a time');

# --- the lock: who does not get it skips the run, and says so

my $so = PostgreSQL::Test::Utils::tempdir() . '/hold.so';
SKIP:
{
	my $include = `\$PG_CONFIG --includedir-server 2>/dev/null` || `pg_config --includedir-server`;
	chomp $include;
	open my $c, '>', "$so.c" or die;
	print $c <<'C';
#include "postgres.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"
PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(hold);
/* hold(n): the lock of sweep n, which SQL functions cannot take */
Datum
hold(PG_FUNCTION_ARGS)
{
	LOCKTAG tag;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0x524F4D01, PG_GETARG_INT32(0) << 8, 3);
	PG_RETURN_BOOL(LockAcquire(&tag, ExclusiveLock, false, false) == LOCKACQUIRE_OK);
}
C
	close $c;
	skip 'no C compiler, or no headers', 6 unless
	  -d $include && system("cc -w -shared -fPIC -I$include -D_GNU_SOURCE -o $so $so.c") == 0;
	sql("CREATE FUNCTION hold(int) RETURNS bool LANGUAGE c AS '$so', 'hold'");

	my $s = $node->background_psql('postgres');
	$s->query_safe('BEGIN');
	my $number = sql(q{SELECT n - 1 FROM romancy.t_sweeps() WITH ORDINALITY s(a,b,c,d,e,f,g,h,i,j,n) WHERE a = 'timers'});
	set(timer_interval => '100ms');
	$s->query_safe("SELECT hold($number)");
	poll_until($node, q{SELECT skipped > 2 FROM romancy.sweeps WHERE name = 'timers'}, 'while another one holds the lock the runs are skipped');
	my $runs = sql(q{SELECT runs FROM romancy.sweeps WHERE name = 'timers'});
	my $held = sql(q{SELECT romancy.start_workflow('nap', '"30 days"')});
	poll_until($node, qq{SELECT status = 'waiting_for_timer' FROM romancy.instances WHERE instance_id = '$held'}, 'other work goes on');
	overdue("instance_id = '$held'");
	usleep(500_000);
	is(sql(q{SELECT runs FROM romancy.sweeps WHERE name = 'timers'}), $runs, 'nothing runs twice');
	is(sql(q{SELECT string_agg(DISTINCT objsubid::text, ',') FROM pg_locks WHERE locktype = 'advisory'}), '3', 'it is a lock that SQL cannot take');
	set(retry_backoff_max => '1s');
	poll_until($node, q{SELECT next_due - now() > '300 ms' FROM romancy.sweeps WHERE name = 'timers'}, 'contention makes the interval grow');
	$s->query_safe('ROLLBACK');
	$s->quit;
	poll_until($node, qq{SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$held'}, 'the lock is free: the sweep runs again');
}

# --- what SQL can lock by any key is none of ours: sessions' advisory locks hold nothing up

sql(q{CREATE ROLE mallory LOGIN; SELECT romancy.set_queue('q', 1), romancy.define_activity('asked', queue => 'q')});
{
	my $m = $node->background_psql('postgres', extra_params => [ '-U', 'mallory' ]);
	# classes of romancy's locks: sweeps, definitions, queues, prepared transactions; their keys: numbers, and hashes of names
	$m->query_safe(q{SELECT count(pg_advisory_lock(c, k)), count(pg_advisory_lock(c::bigint << 32 | (k::bigint & 4294967295)))
		FROM unnest(ARRAY[x'524F4D01', x'726f6d51', x'726f6d57', x'726f6d41']::bit(32)[]) b, LATERAL (SELECT b::int) AS cc(c),
			LATERAL (SELECT n << 8 | p FROM generate_series(0, 20) n, generate_series(0, 2) p UNION ALL SELECT hashtext(name) FROM unnest('{q,other,asked,quick}'::text[]) name UNION SELECT 0) AS kk(k)});
	cmp_ok(sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid IN (1, 2)}), '>', 400, 'a hostile session holds whatever keys there are');
	my %before = map { split /\|/ } split /\n/, sql(q{SELECT name, runs FROM romancy.sweeps});
	my $asked = sql(q{CREATE FUNCTION asks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('asked', $1); END $$; SELECT romancy.start_workflow('asks', '1')});
	set(timer_interval => '50ms', resumption_interval => '50ms', retention_interval => '50ms');
	poll_until($node, qq{SELECT runs > $before{$_} FROM romancy.sweeps WHERE name = '$_'}, "sweep $_ runs beside it") for qw(timers resumption retention);
	is(sql(q{SET lock_timeout = '20s'; SELECT romancy.define_workflow('other', handler => 'quick(jsonb)')}), '1', 'a workflow is defined');
	poll_until($node, q{SET lock_timeout = '20s'; SELECT count(*) = 1 FROM romancy.fetch_activities('q', 'w')}, 'a task is fetched from a queue with a limit');
	is(sql("SET lock_timeout = '20s'; SELECT romancy.cancel_workflow('$asked')"), 't', 'and its instance is cancelled');
	$m->quit;
	set(timer_interval => '1h', resumption_interval => '1h', retention_interval => '1h');
}

# --- several schedulers share the sweeps by a hash of the instance's id

# (now and then only, so that the one which is stopped below is not in the middle of a sweep, and holds nothing)
set(schedulers => 2, timer_interval => '1s', retry_backoff_max => '1s', sweep_batch_size => 100);
poll_until($node, q{SELECT count(*) = 2 FROM romancy.workers WHERE kind = 'scheduler' AND state <> 'starting'}, 'two schedulers');
# race: a scheduler that reads the new setting before the launcher does is replaced, and the others come all the same
for my $n (3, 2, 4, 1, 3, 2)
{
	set(schedulers => $n);
	poll_until($node, qq{SELECT count(*) = $n FROM romancy.workers WHERE kind = 'scheduler' AND state IN ('idle', 'running')}, "now $n");
}
# a further one that finds no place comes when one becomes free
is(sql(q{SELECT count(*) FROM romancy.workers WHERE kind = 'executor'}), '1', 'an executor has one of the six places');
set(schedulers => 6);
poll_until($node, q{SELECT count(*) = 5 FROM romancy.workers WHERE kind = 'scheduler' AND state IN ('idle', 'running')}, 'five of six find a place');
sql(q{SELECT pg_terminate_backend(pid) FROM romancy.workers WHERE kind = 'executor'});
poll_until($node, q{SELECT count(*) = 6 FROM romancy.workers WHERE kind = 'scheduler' AND state IN ('idle', 'running')}, 'the sixth follows');
set(schedulers => 2);
poll_until($node, q{SELECT count(*) = 2 FROM romancy.workers WHERE kind = 'scheduler' AND state IN ('idle', 'running')}, 'and two remain');
sql(q{SELECT count(*) FROM romancy.start_workflows('nap', array(SELECT '"30 days"'::jsonb FROM generate_series(1, 60)), labels => '{"shared": true}')});
poll_until($node, q{SELECT count(*) = 60 FROM romancy.instances WHERE status = 'waiting_for_timer'}, 'sixty sleep');
my $pid;
poll_until(sub { $pid = sql(q{SELECT min(pid) FROM romancy.workers WHERE kind = 'scheduler' AND state = 'idle' HAVING count(*) = 2}) }, 'both rest');
kill 'STOP', $pid;
overdue("status = 'waiting_for_timer'");
my $share = q{(uuid_hash(instance_id)::bigint & 2147483647) % 2};
poll_until($node, qq{SELECT array_agg(status = 'completed' ORDER BY n) IN ('{t,f}', '{f,t}') FROM (
	SELECT $share AS n, min(status) AS status FROM romancy.instances WHERE labels ? 'shared' GROUP BY 1 HAVING count(DISTINCT status) = 1) x},
	'with one of them stopped, exactly one share is done');
usleep(500_000);
is(sql(qq{SELECT count(DISTINCT $share) FROM romancy.instances WHERE labels ? 'shared' AND status = 'completed'}), '1', 'and nothing of the other');
kill 'CONT', $pid;
poll_until($node, q{SELECT count(*) = 60 FROM romancy.instances WHERE labels ? 'shared' AND status = 'completed'}, 'the other does its share');
set(schedulers => 1);
poll_until($node, q{SELECT count(*) = 1 FROM romancy.workers WHERE kind = 'scheduler' AND state IN ('idle', 'running')}, 'one is enough again');
sql(q{SELECT count(*) FROM romancy.start_workflows('nap', array(SELECT '"30 days"'::jsonb FROM generate_series(1, 20)), labels => '{"alone": true}')});
poll_until($node, q{SELECT count(*) = 20 FROM romancy.instances WHERE status = 'waiting_for_timer'}, 'twenty sleep');
overdue("status = 'waiting_for_timer'");
poll_until($node, q{SELECT count(*) = 20 FROM romancy.instances WHERE labels ? 'alone' AND status = 'completed'}, 'it does all of it');

# --- an error is logged once, counted, and does not end the scheduler

set(timer_interval => '200ms', retry_backoff_max => '200ms');
$pid = sql(q{SELECT pid FROM romancy.workers WHERE kind = 'scheduler'});
sql('ALTER TABLE romancy.t_instance RENAME COLUMN wake_at TO wake_up_at');
poll_until($node, q{SELECT errors > 5 FROM romancy.sweeps WHERE name = 'timers'}, 'a sweep that fails is tried again');
my $log = slurp_file($node->logfile);
sql('ALTER TABLE romancy.t_instance RENAME COLUMN wake_up_at TO wake_at');
my @lines = $log =~ /romancy scheduler.*ERROR:.*wake_at|ERROR:.*column i?\.?"?wake_at"? does not exist/g;
cmp_ok(scalar(@lines), '>=', 1, 'it is logged');
cmp_ok(scalar(@lines), '<', 6, 'but not each time') or diag(scalar(@lines));
my $runs = sql(q{SELECT runs FROM romancy.sweeps WHERE name = 'timers'});
poll_until($node, qq{SELECT runs > $runs FROM romancy.sweeps WHERE name = 'timers'}, 'mended, it runs');
is(sql(q{SELECT pid FROM romancy.workers WHERE kind = 'scheduler'}), $pid, 'in the same process');
like(slurp_file($node->logfile), qr/sweep "timers" runs again, after \d+ failures/, 'which says so');

$node->stop('fast');
done_testing();
