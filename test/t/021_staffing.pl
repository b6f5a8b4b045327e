# With a place for one worker a lease ends in time, although an executor rests in that place and no scheduler
# is there; romancy.executors, lowered by a reload, sends the surplus away after what they are doing; and owners who share the
# places keep their executors. It would catch a deadline that waits for a worker's idle timeout, executors that outlive a
# setting that was lowered, and owners who send each other's executors away in turn.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('staffing', 'romancy.max_workers' => 1, 'romancy.worker_idle_timeout' => '1h', 'romancy.lock_cleanup_interval' => '1h');
sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	SELECT romancy.define_activity('ext', queue => 'q');
	CREATE FUNCTION asks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('ext'); END $$;
	CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN 'true'; END $$;
	CREATE FUNCTION one_held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('held'); END $$;
	SELECT romancy.start_workflow('asks')});
poll_until($node, q{SELECT count(*) = 1 FROM romancy.activity_tasks WHERE queue = 'q'}, 'a task');
is(value(q{SELECT count(*) FROM romancy.fetch_activities('q', 'me', 1, '1 s')}), '1', 'it is claimed for a second');
poll_until($node, q{SELECT attempt = 1 AND state <> 1 FROM romancy.t_task}, 'its lease ends');
value('SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances');

$node->append_conf('postgresql.conf', "romancy.max_workers = 8\nromancy.executors = 4\n");
$node->restart;
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
value(q{SELECT romancy.start_workflow('one_held') FROM generate_series(1, 6)});
my $waiting = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted};
poll_until($node, $waiting, 'four executors in long steps', expected => '4');
value('ALTER SYSTEM SET romancy.executors = 1'); value('SELECT pg_reload_conf()');
poll_until($node, q{SELECT current_setting('romancy.executors') = '1'}, 'one is allowed');
is(value($waiting), '4', 'they go on with what they are doing');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'all end');
poll_until($node, q{SELECT count(*) FROM romancy.workers WHERE kind = 'executor'}, 'one executor is left', expected => '1');
value(q{ALTER SYSTEM SET romancy.worker_idle_timeout = '100 ms'}); value('SELECT pg_reload_conf()');
poll_until($node, q{SELECT count(*) FROM romancy.workers WHERE kind <> 'launcher'}, 'a shorter idle timeout holds for those who rest already', expected => '0');
value('ALTER SYSTEM RESET romancy.worker_idle_timeout');

# One owner has always more work than executors, another one a little quick work again and again: each keeps its executors
$node->append_conf('postgresql.conf', "romancy.executors = 4\n");
value('ALTER SYSTEM RESET romancy.executors');
$node->restart;
value(q{
	CREATE ROLE other;
	SELECT romancy.grant_usage('other');
	CREATE TABLE ran (what text, pid int DEFAULT pg_backend_pid());
	GRANT ALL ON ran TO other;
	CREATE FUNCTION pause(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.05); INSERT INTO ran VALUES ('pause'); RETURN 'true'; END $$;
	CREATE FUNCTION one_pause(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('pause'); END $$;
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ran VALUES ('quick'); RETURN 'true'; END $$;
	CREATE FUNCTION one_quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('quick'); END $$});
value(q{DO $$ BEGIN
	FOR i IN 1..150 LOOP
		SET LOCAL ROLE other;
		PERFORM romancy.start_workflow('one_pause') FROM generate_series(1, 3);
		RESET ROLE;
		PERFORM romancy.start_workflow('one_quick');
		COMMIT;
		PERFORM pg_sleep(0.02);
	END LOOP; END $$});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'work of two owners');
cmp_ok(value('SELECT count(DISTINCT pid) FROM ran'), '<=', 9, 'no executor left for another that had to be started anew') or
	diag(value('SELECT what, count(DISTINCT pid) FROM ran GROUP BY 1'));
$node->stop('fast');
done_testing();
