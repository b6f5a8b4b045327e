# No owner waits for another's slow step: executors share slow steps among them, a quick step before
# a slow one is committed before that begins, quick instances run beside an endless one, and an
# owner's endless steps leave a place to others; a step that is replaced, or fails often, is not quick. It would catch an executor that
# keeps members which an idle one could run, and a transaction that holds a quick step's locks for as long as a slow one takes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('slow_steps', 'romancy.executors' => 4, 'romancy.max_workers' => 8, 'max_worker_processes' => 16,
	'romancy.resumption_interval' => '1h');

# together() is a step that is over when as many run it at the same time as its input says: no clock decides
$node->safe_psql('postgres', q{
	CREATE ROLE other;
	CREATE TABLE effect (id int PRIMARY KEY, n int);
	INSERT INTO effect SELECT g, 0 FROM generate_series(1, 20) g;
	CREATE TABLE ran (step text, pid int, xid xid8 DEFAULT pg_current_xact_id());
	GRANT ALL ON effect, ran TO other;
	CREATE FUNCTION waiting(key int) RETURNS bigint LANGUAGE sql AS
	$$ SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = key AND objsubid = 2 $$;
	CREATE FUNCTION together(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(1, pg_backend_pid());
		WHILE waiting(1) < ($1->>'n')::int AND NOT EXISTS (SELECT FROM ran WHERE step = 'met' || ($1->>'key')) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
		INSERT INTO ran VALUES ('met' || ($1->>'key'), pg_backend_pid());
		RETURN 'true';
	END $$;
	CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM pg_advisory_xact_lock(($1->>'lock')::int, 0); INSERT INTO ran VALUES ('held', pg_backend_pid()); RETURN 'true'; END $$;
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN UPDATE effect SET n = n + 1 WHERE id = ($1->>'id')::int; INSERT INTO ran VALUES ('quick', pg_backend_pid()); RETURN 'true'; END $$;
	CREATE FUNCTION mapped(jsonb) RETURNS jsonb LANGUAGE plpgsql AS
	$$ BEGIN RETURN romancy.map('together', (SELECT jsonb_agg($1) FROM generate_series(1, ($1->>'n')::int))); END $$;
	CREATE FUNCTION one_together(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('together', $1); END $$;
	CREATE FUNCTION one_held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('held', $1); END $$;
	CREATE FUNCTION one_quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('quick', $1); END $$;
	CREATE FUNCTION quick_then_held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('quick', $1);
		PERFORM romancy.activity('held', $1);
		PERFORM romancy.activity('quick', $1);
		RETURN romancy.activity('quick', $1);
	END $$;
	SELECT romancy.grant_usage('other');
});
sub settled { poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, $_[0]) }
sub value { return $node->safe_psql('postgres', $_[0]) }

# Cold: nothing is known of the step, no executor is there. Four have to run it at the same time, or none ends.
value(q{SELECT romancy.start_workflow('mapped', '{"n": 4, "key": 1}')});
settled('a map over four, by four executors');
is(value(q{SELECT count(DISTINCT pid) FROM ran WHERE step = 'met1'}), '4', 'each by another one');

# Warm, as instances of one commit, and sixteen and seventeen of them
for my $n (4, 16, 17)
{
	value(qq{SELECT romancy.start_workflow('one_together', '{"n": 4, "key": "i$n"}') FROM generate_series(1, $n)});
	settled("$n instances of one commit");
	like(value(qq{SELECT count(DISTINCT pid) FROM ran WHERE step = 'meti$n'}), qr/^[45]$/, 'by all executors, and perhaps one more that came for what might be quick');
}

# The effects of a quick step are committed, and its row is free, while the slow step after it runs
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(7, 0)');
value(q{SELECT romancy.start_workflow('one_quick', '{"id": 1}') FROM generate_series(1, 4)});
settled('the quick step is known');
my $id = value(q{SELECT romancy.start_workflow('quick_then_held', '{"id": 2, "lock": 7}')});
poll_until($node, q{SELECT waiting(7) = 2}, 'it is in its slow step');
is(value('SELECT n FROM effect WHERE id = 2'), '1', 'what the quick one did is committed');
value(q{SET lock_timeout = '1ms'; UPDATE effect SET n = n + 10 WHERE id = 2});
pass('and others change the row at once');
is(value(qq{SELECT string_agg(event_type || ' ' || activity_id, ', ') FROM romancy.get_history('$id')}), 'ActivityCompleted quick:1', 'its history row as well');

# Quick instances, in the same commit as endless ones, run
value(q{SELECT romancy.start_workflow('one_held', '{"lock": 7}');
	SELECT romancy.start_workflow('one_quick', jsonb_build_object('id', g)) FROM generate_series(3, 12) g});
poll_until($node, q{SELECT count(*) = 10 FROM effect WHERE id BETWEEN 3 AND 12 AND n = 1}, 'ten quick ones beside endless ones');

# All of an owner's executors are in endless steps: quick work of the same owner, and of another one, runs
value(q{SELECT romancy.start_workflow('one_held', '{"lock": 7}') FROM generate_series(1, 20)});
poll_until($node, q{SELECT waiting(7) = 5}, 'four endless steps at the same time, for four executors');
value(q{SELECT romancy.start_workflow('one_quick', '{"id": 13}')});
poll_until($node, q{SELECT n = 1 FROM effect WHERE id = 13}, 'a quick one of the same owner runs');
value(q{SET SESSION AUTHORIZATION other; SELECT romancy.start_workflow('one_quick', '{"id": 14}')});
poll_until($node, q{SELECT n = 1 FROM effect WHERE id = 14}, 'a quick one of another owner runs');
is(value('SELECT waiting(7)'), '5', 'no more than that');
$holder->query_safe('SELECT pg_advisory_unlock(7, 0)');
$holder->quit;
settled('all end when they can');
is(value('SELECT n FROM effect WHERE id = 2'), '13', 'and the quick steps after a slow one ran once each');
is(value(qq{SELECT count(*) FROM ran WHERE step = 'held' AND xid IN (SELECT xid FROM ran WHERE step = 'quick')}), '0', 'a slow step shares its transaction with nothing');

# A step whose function is replaced is unknown again, and one that often fails is not quick: what ran before it is committed first
value(q{
	CREATE TABLE mood AS SELECT true AS good;
	CREATE FUNCTION moody(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN IF NOT (SELECT good FROM mood) THEN RAISE EXCEPTION 'no'; END IF; INSERT INTO ran VALUES ('moody', pg_backend_pid()); RETURN 'true'; END $$;
	CREATE FUNCTION quick_then_moody(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('quick', $1); RETURN romancy.activity('moody', $1); END $$;
	SELECT romancy.define_activity('moody', 'moody(jsonb)', retry => '{"max_attempts": 1}');
	SELECT romancy.start_workflow('quick_then_moody', '{"id": 17}') FROM generate_series(1, 8)});
settled('a second quick step is known');
my $shared = q{SELECT count(*) > 0 FROM ran WHERE step = 'moody' AND xid IN (SELECT xid FROM ran WHERE step = 'quick')};
value(q{TRUNCATE ran; SELECT romancy.start_workflow('quick_then_moody', '{"id": 17}')});
settled('the two of them');
is(value($shared), 't', 'share a transaction');
value(q{UPDATE mood SET good = false; SELECT romancy.start_workflow('quick_then_moody', '{"id": 17}') FROM generate_series(1, 16)});
settled('the second one fails again and again');
value(q{UPDATE mood SET good = true; TRUNCATE ran; SELECT romancy.start_workflow('quick_then_moody', '{"id": 17}')});
settled('and once more');
is(value(q{SELECT count(*) FROM ran WHERE step = 'moody'}), '1', 'with success');
is(value($shared), 'f', 'in a transaction of its own');
value(q{
	CREATE FUNCTION replaced(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN 'true'; END $$;
	CREATE FUNCTION quick_then_replaced(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('quick', $1); RETURN romancy.activity('replaced', $1); END $$;
	SELECT romancy.start_workflow('quick_then_replaced', '{"id": 18}') FROM generate_series(1, 8)});
settled('a third quick step is known');
$holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(7, 0)');
value(q{UPDATE effect SET n = 0 WHERE id = 18;
	CREATE OR REPLACE FUNCTION replaced(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(7, 0); RETURN 'true'; END $$;
	SELECT romancy.start_workflow('quick_then_replaced', '{"id": 18}')});
poll_until($node, q{SELECT waiting(7) = 2}, 'replaced, it waits');
is(value('SELECT n FROM effect WHERE id = 18'), '1', 'what ran before it is committed');
$holder->query_safe('SELECT pg_advisory_unlock(7, 0)');
$holder->quit;
settled('and it ends');

# Profiles outlive a restart: quick ones share a transaction from the first turn on
value('TRUNCATE ran');
$node->restart;
value(q{SELECT romancy.start_workflow('one_quick', jsonb_build_object('id', g)) FROM generate_series(3, 12) g});
settled('after a restart');
cmp_ok(value(q{SELECT count(DISTINCT xid) FROM ran}), '<', 10, 'quick ones share a transaction');

# With places for two workers one owner's endless steps leave one to the others
$node->append_conf('postgresql.conf', "romancy.max_workers = 2\nromancy.executors = 2\n");
$node->restart;
$holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(7, 0)');
value(q{SELECT romancy.start_workflow('one_held', '{"lock": 7}') FROM generate_series(1, 5)});
poll_until($node, q{SELECT waiting(7) = 2}, 'one endless step');
value(q{SET SESSION AUTHORIZATION other; SELECT romancy.start_workflow('one_quick', '{"id": 15}')});
poll_until($node, q{SELECT n = 1 FROM effect WHERE id = 15}, 'the last place is for others');
value(q{SELECT romancy.start_workflow('one_quick', '{"id": 16}')});
poll_until($node, q{SELECT n = 1 FROM effect WHERE id = 16}, 'and for quick work of the same owner');
is(value('SELECT waiting(7)'), '2', 'still one endless step');
$holder->query_safe('SELECT pg_advisory_unlock(7, 0)');
$holder->quit;
settled('all end');
$node->stop('fast');
done_testing();
