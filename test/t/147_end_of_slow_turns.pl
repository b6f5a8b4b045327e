# A workflow whose turns are known to be slow has steps that last for a day, as many as its role may have under way: to terminate, to cancel or to pause such instances, or to end them by their time limits, needs a
# turn, which decides without the workflow's code, and waits for no place among slow steps. It would catch instances that go on until their steps end, since their end waits for these.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('slow_turns', 'max_worker_processes' => 12, 'romancy.executors' => 2, 'romancy.max_workers' => 4, 'romancy.eager_runs' => 'off', 'romancy.timer_interval' => '100ms');
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	CREATE FUNCTION day(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(86400); RETURN 'true'; END $$;
	CREATE FUNCTION slow(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM sum(sqrt(g)) FROM generate_series(1, 200000) g;
		IF $1 = '"day"' THEN RETURN romancy.await(romancy.spawn('day')); END IF;
		RETURN $1;
	END $$;
	SELECT romancy.define_activity('day', handler => 'day(jsonb)', transactional => false)});
is(sql(q{CALL romancy.run_workflow('slow', '"known"')}), '"known"', 'turns of the workflow are known') for 1 .. 3;

my $sleeping = q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'};
my %end = (
	'terminate_workflow' => q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NULL},
	'cancel_workflow' => q{SELECT romancy.cancel_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NULL},
	'execution_timeout' => q{UPDATE romancy.t_instance SET deadline = now() - interval '1 minute', wake_at = now() - interval '1 minute' WHERE finished_at IS NULL});
for my $end (sort keys %end)
{
	sql(q{SELECT romancy.start_workflow('slow', '"day"') FROM generate_series(1, 2)});
	poll_until($node, $sleeping, "$end: two steps are under way", expected => 2);
	# this one has not begun: no more may
	sql(q{SELECT romancy.start_workflow('slow', '"day"')});
	sql($end{$end});
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, "$end: all end");
	poll_until($node, $sleeping, "$end: and their steps", expected => 0);
}
sql(q{SELECT romancy.start_workflow('slow', '"day"') FROM generate_series(1, 2)});
poll_until($node, $sleeping, 'two steps are under way', expected => 2);
sql(q{SELECT romancy.pause_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NULL});
poll_until($node, q{SELECT count(*) = 2 FROM romancy.instances WHERE status = 'paused'}, 'both are paused');
$node->stop('fast');
done_testing();
