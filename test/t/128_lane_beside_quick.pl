# Slow steps beside quick work of the same role that has no end (a workflow that recurs): beside one slow step that has no end, either, with two executors;
# with one executor, where they take turns, also when each slow step takes longer than the longest wait, and when there are many short ones. It would catch a lane for
# what is not quick that stands still as long as there is quick work, a step of a second after which the next one comes before quick work, and a lane that moves once in a second.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('lane', 'max_worker_processes' => 16, 'romancy.max_workers' => 6, 'romancy.executors' => 2, 'romancy.eager_runs' => 'off');
sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	CREATE SEQUENCE beats;
	CREATE TABLE goes_on AS SELECT;
	CREATE TABLE ran (id int GENERATED ALWAYS AS IDENTITY, what text, at timestamptz DEFAULT clock_timestamp());
	CREATE FUNCTION beat(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('beats'); RETURN to_jsonb(EXISTS (SELECT FROM goes_on)); END $$;
	CREATE FUNCTION again(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF romancy.activity('beat') = 'false' THEN RETURN 'null'; END IF; RETURN romancy.recur('null'); END $$;
	CREATE FUNCTION mark(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ran (what) VALUES ('quick'); RETURN 'true'; END $$;
	CREATE FUNCTION marks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('mark'); END $$;
	CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN 'true'; END $$;
	CREATE FUNCTION holds(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('held'); END $$;
	CREATE FUNCTION pause(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(8), pg_sleep($1::float8); INSERT INTO ran (what) VALUES ('slow'); RETURN 'true'; END $$;
	CREATE FUNCTION pauses(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('pause', $1); END $$;
	SELECT romancy.define_workflow('again', 'again(jsonb)', retention => '1 ms');
	SELECT romancy.start_workflow('again'), romancy.start_workflow('marks');
});
my $held = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted};
my $left = q{SELECT count(*) FROM romancy.instances WHERE workflow IN ('pauses', 'marks', 'holds') AND finished_at IS NULL};
poll_until($node, q{SELECT last_value > 50 FROM beats}, 'it recurs');
poll_until($node, $left, 'the step is known', expected => 0);

# One of two executors is in an endless step, the other one has quick work without end
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(7)');
value(q{SELECT romancy.start_workflow('holds')});
poll_until($node, $held, 'an endless step', expected => 1);
value(q{SELECT romancy.start_workflow('pauses', '0.02') FROM generate_series(1, 5)});
poll_until($node, $left, 'others run beside it', expected => 1);
my $beats = value('SELECT last_value FROM beats');
poll_until($node, qq{SELECT last_value > $beats + 5 FROM beats}, 'and the quick ones go on');
is(value($held), '1', 'beside the endless one');
$holder->query_safe('SELECT pg_advisory_unlock(7)');
$holder->quit;
poll_until($node, $left, 'which ends', expected => 0);

# With one executor: many short ones
value('ALTER SYSTEM SET romancy.executors = 1'); value('SELECT pg_reload_conf()');
poll_until($node, q{SELECT count(*) FROM romancy.workers WHERE kind = 'executor'}, 'one executor is left', expected => 1);
value(q{TRUNCATE ran; SELECT romancy.start_workflow('pauses', '0.02') FROM generate_series(1, 12)});
poll_until($node, $left, 'twelve short ones', expected => 0);
cmp_ok(value(q{SELECT min(gap) FROM (SELECT extract(epoch FROM at - lag(at) OVER (ORDER BY id)) AS gap FROM ran) g}), '<', 0.8, 'more than one in a second (each would be so long after the one before)');

# With one executor: quick work that comes during the first of several that take more than a second is done before the last
value(q{TRUNCATE goes_on});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'no more quick work');
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(8)');
value(q{TRUNCATE ran; SELECT romancy.start_workflow('pauses', '1.2') FROM generate_series(1, 3)});
poll_until($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 8 AND NOT granted}, 'a long step', expected => 1);
value(q{SELECT romancy.start_workflow('marks')});
$gate->query_safe('SELECT pg_advisory_unlock(8)');
$gate->quit;
poll_until($node, $left, 'all end', expected => 0);
isnt(value(q{SELECT what FROM ran ORDER BY id DESC LIMIT 1}), 'quick', 'quick work comes before the last of them');
$node->stop('fast');
done_testing();
