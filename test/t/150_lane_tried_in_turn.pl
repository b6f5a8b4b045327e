# As many steps without end as an owner may have are under way, and more of them wait, of a high priority. Others in the lane of slow steps that can run, since their next step is
# quick (their batch failed at COMMIT), are tried by the executor that is there for quick work. It would catch an executor that tries the one at the head each time.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('tried', 'max_worker_processes' => 12, 'romancy.executors' => 2, 'romancy.max_workers' => 6, 'romancy.eager_runs' => 'off', 'romancy.resumption_interval' => '1h');
sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	CREATE TABLE fk (id int PRIMARY KEY, r int REFERENCES fk DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION refer(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO fk VALUES (($1->>'id')::int, ($1->>'r')::int); RETURN 'true'; END $$;
	CREATE FUNCTION refers(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('refer', $1, retry => '{"max_attempts": 1}'); END $$;
	CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN 'true'; END $$;
	CREATE FUNCTION holds(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('held'); END $$;
	SELECT romancy.start_workflow('refers', jsonb_build_object('id', g, 'r', g)) FROM generate_series(1, 4) g;
});
my $running = q{SELECT count(*) FROM romancy.instances WHERE workflow = 'refers' AND finished_at IS NULL};
poll_until($node, $running, 'the quick step is known', expected => 0);

my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(7)');
value(q{SELECT romancy.start_workflow('holds', priority => 9) FROM generate_series(1, 3)});
poll_until($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted}, 'two steps without end', expected => 2);
value(q{SELECT romancy.start_workflow('refers', jsonb_build_object('id', g, 'r', CASE g WHEN 11 THEN 4711 ELSE g END)) FROM generate_series(11, 12) g});
poll_until($node, $running, 'a batch that fails at COMMIT ends', expected => 0);
is(value(q{SELECT string_agg(status::text, ' ' ORDER BY status) FROM romancy.instances WHERE input->>'id' IN ('11', '12')}), 'completed failed', 'one of it fails');
is(value(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'holds' AND finished_at IS NULL}), '3', 'none of the others has ended');
$holder->query_safe('SELECT pg_advisory_unlock(7)');
$holder->quit;
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'all end');
$node->stop('fast');
done_testing();
