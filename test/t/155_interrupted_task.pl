# A task in the database whose statement an administrator cancels waits behind those that have not begun: it was no quick one. It would
# catch a long step that keeps an owner's only executor for itself.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('interrupted_task', 'romancy.executors' => 1, 'romancy.max_workers' => 2);
sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock($1::int, 0); RETURN 'true'; END $$;
	CREATE FUNCTION two(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('held', '[7, 8]'); END $$});
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(7, 0), pg_advisory_lock(8, 0)');
value(q{SELECT romancy.start_workflow('two')});
my $waits = q{SELECT classid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND NOT granted};
poll_until($node, $waits, 'the first one is under way', expected => '7');
value(q{SELECT pg_cancel_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND NOT granted});
poll_until($node, $waits, 'cancelled, it lets the other one begin', expected => '8');
$holder->quit;
poll_until($node, q{SELECT status = 'completed' FROM romancy.instances}, 'both end');
is(value(q{SELECT count(*) FROM romancy.get_history((SELECT instance_id FROM romancy.instances)) WHERE data ? 'retry'}), '0', 'no attempt was charged');

done_testing();
