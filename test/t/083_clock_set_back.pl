# A clock that was two hours ahead and is set right, while the server runs and while it is down. Instances
# that were started meanwhile, slept, waited for another attempt or for a rate
# limit continue; a time that a handler or a caller has named stays. It would catch deadlines, sweeps and rows that wait until the clock is where it was.
# Needs libfaketime (Debian: faketime), which moves the wall clock and leaves the monotonic one. Up to 15 the server forks
# workers in a signal handler, inside of a call that libfaketime does not change, so that they have the true clock: there
# only what a session started is tried.
# Takes 120 s.
use strict;
use warnings;
use File::Spec::Functions qw(rel2abs);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my ($library) = grep { -f } glob('/usr/lib/*/faketime/libfaketime.so.1');
plan skip_all => 'no libfaketime here' unless $library;

my $node = romancy_node('clock', _start => 0, 'romancy.worker_idle_timeout' => '0');
my $file = rel2abs(PostgreSQL::Test::Utils::tempdir()) . '/clock';
sub clock { my ($offset) = @_; open(my $fh, '>', "$file.new") or die; print $fh $offset; close $fh; rename("$file.new", $file) or die; return }

# with the server alone under the false clock
sub start
{
	local %ENV = (%ENV, LD_PRELOAD => $library, FAKETIME_TIMESTAMP_FILE => $file, FAKETIME_NO_CACHE => 1, FAKETIME_DONT_FAKE_MONOTONIC => 1);
	$node->start;
	return;
}
sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

clock('+2h');
start();
cmp_ok(sql('SELECT extract(epoch FROM clock_timestamp())::bigint') - time, '>', 7000, 'the clock is ahead');
sql(q{
	CREATE EXTENSION romancy;
	CREATE TABLE tried (id uuid, n int);
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
	CREATE SEQUENCE tries;
	CREATE FUNCTION second_time(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN IF romancy.attempt() = 1 THEN RAISE EXCEPTION 'not yet'; END IF; RETURN $1; END $$;
	SELECT romancy.define_activity('second_time', 'second_time(jsonb)', retry => '{"initial_interval": "20s", "jitter": 0}');
	SELECT romancy.define_activity('limited', 'quick(jsonb)', rate_limit => '3/m');
	CREATE FUNCTION at_once(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.activity('quick', $1) $$;
	CREATE FUNCTION sleeps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('20 s'); RETURN $1; END $$;
	CREATE FUNCTION awaits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.await(romancy.spawn_timer('20 s')); RETURN $1; END $$;
	CREATE FUNCTION tries_again(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.activity('second_time', $1) $$;
	CREATE FUNCTION listens(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.receive('nothing', '20 s'); RETURN $1; EXCEPTION WHEN SQLSTATE 'RM006' THEN RETURN '"nothing came"'; END $$;
	CREATE FUNCTION waits_for_rate(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN FOR i IN 1 .. 4 LOOP PERFORM romancy.activity('limited', '1'); END LOOP; RETURN $1; END $$;
	CREATE FUNCTION until_then(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep_until(romancy.workflow_now() + interval '1 hour'); RETURN $1; END $$;
	CREATE VIEW ends AS SELECT workflow, status FROM romancy.instances ORDER BY workflow;
});
my @kinds = qw(sleeps awaits tries_again listens waits_for_rate);
my $begin = join(' ', map { "SELECT romancy.start_workflow('$_', '1');" } @kinds) . q{ SELECT romancy.start_workflow('until_then', '1');
	SELECT romancy.start_workflow('at_once', '1', start_at => clock_timestamp() + interval '1 hour');};
my $on_their_way = q{SELECT count(*) FILTER (WHERE status LIKE 'waiting%') = 6 AND count(*) FILTER (WHERE status = 'pending') = 1 FROM ends};
my $left = q{SELECT string_agg(workflow || ' ' || status, ', ' ORDER BY workflow) FROM ends WHERE status <> 'completed'};

# while it runs
my $workers_too = $node->pg_version >= 16;
SKIP:
{
	skip 'workers have the true clock in this version', 7 unless $workers_too;
	sql($begin);
	poll_until($node, $on_their_way, 'each waits for its own, with the clock ahead');
	clock('+0');
	cmp_ok(abs(sql('SELECT extract(epoch FROM clock_timestamp())::bigint') - time), '<', 100, 'the clock is set right');
	poll_until($node, $left, 'those that were to wait for seconds go on within seconds; named instants stay', expected => 'at_once pending, until_then waiting_for_timer');
	like(slurp_file($node->logfile), qr/the clock was set back by 7\d\d\d s/, 'the log says so');
	is(sql(q{SELECT count(*) FROM romancy.instances WHERE workflow IN ('sleeps', 'awaits', 'tries_again', 'listens') AND status = 'completed' AND finished_at > now() + interval '1 hour'}), '0',
		'at the right time');
	poll_until($node, q{SELECT bool_and(next_due < now() + interval '10 minutes') FROM romancy.sweeps WHERE next_due IS NOT NULL}, 'sweeps run as often as before');
	sql(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE status IN ('pending', 'waiting_for_timer')});
	poll_until($node, q{SELECT bool_and(status IN ('completed', 'cancelled')) FROM ends}, 'the others are ended');
	sql(q{SELECT romancy.delete_workflow(instance_id) FROM romancy.instances});
}

# while it is down: what was started and never ran, and what slept
clock('+2h');
$node->stop;
start();
if ($workers_too)
{
	sql($begin);
	poll_until($node, $on_their_way, 'again they wait');
}
$node->append_conf('postgresql.conf', 'romancy.enabled = off');
$node->reload;
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'nothing runs');
sql(q{SELECT romancy.start_workflow('at_once', to_jsonb(i)) FROM generate_series(1, 200) i});
$node->stop('immediate');
clock('+0');
$node->append_conf('postgresql.conf', 'romancy.enabled = on');
start();
poll_until($node, q{SELECT count(*) = 200 FROM ends WHERE workflow = 'at_once' AND status = 'completed'}, 'what was to run at once runs at once');
poll_until($node, $left, 'and what was to wait for seconds goes on', expected => $workers_too ? 'at_once pending, until_then waiting_for_timer' : '');

$node->stop;
done_testing();
