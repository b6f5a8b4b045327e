# While the only executor that a database may have is in a long step, the launcher is told once that work waits, and not with each commit: it could do nothing about it. All
# of that runs when the step has ended; and one more executor is started for it, where several are allowed, when their steps turn out to be long. It would catch a launcher
# that plans again for each start, as each plan means work for all processes under the roster's lock, and an owner who is forgotten since the launcher was told before.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

plan skip_all => 'counts the wake-ups of a process in /proc' unless -r '/proc/self/status';

my $node = romancy_node('told_once', 'romancy.executors' => 1, 'romancy.max_workers' => 3, 'romancy.eager_runs' => 'off', 'romancy.worker_idle_timeout' => 0);
sub value { return $node->safe_psql('postgres', $_[0]) }
sub woken { my $pid = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'romancy launcher'}); return slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m ? $1 : die }

value(q{
	CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN 'true'; END $$;
	CREATE FUNCTION holds(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('held'); END $$;
	CREATE FUNCTION nothing(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN 'true'; END $$});
my $waits = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted};
my $starts = q{DO $$ BEGIN FOR i IN 1 .. 300 LOOP PERFORM romancy.start_workflow('nothing'); COMMIT; PERFORM pg_sleep(0.001); END LOOP; END $$};
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(7)');
value(q{SELECT romancy.start_workflow('holds')});
poll_until($node, $waits, 'the executor is in a long step', expected => 1);
value($starts);
my $before = woken();
value($starts);
cmp_ok(woken() - $before, '<', 60, 'three hundred starts do not wake the launcher three hundred times');
is(value(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'nothing' AND finished_at IS NOT NULL}), '0', 'they wait for its end');
$holder->query_safe('SELECT pg_advisory_unlock(7)');
poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE finished_at IS NULL}, 'and run then', expected => 0);
$node->stop;

# With two, which evaluate handlers that wait: when these turn out to take long, one more is started
$node->append_conf('postgresql.conf', "romancy.executors = 2\nromancy.max_workers = 4");
$node->start;
value(q{
	CREATE FUNCTION sleeps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); PERFORM pg_advisory_xact_lock_shared(7); RETURN 'true'; END $$});
$holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(7)');
value(q{SELECT romancy.start_workflow('sleeps'), romancy.start_workflow('sleeps')});
poll_until($node, $waits, 'both executors evaluate handlers that wait', expected => 2);
value(q{SELECT romancy.start_workflow('nothing')});
poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE workflow = 'nothing' AND finished_at IS NULL}, 'one more is started for what is quick', expected => 0);
is(value($waits), '2', 'while they wait still');
$holder->query_safe('SELECT pg_advisory_unlock(7)');
poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE finished_at IS NULL}, 'and all end', expected => 0);
done_testing();
