# Steps that are known to be quick wait for a lock, each in a transaction of its own, on all executors that their role may have: they count as slow steps then. So other quick work of the role
# runs, and where they have all places, one of them is interrupted for the work of another role, without an attempt being counted. It would catch executors that count as those that will
# soon do the quick work that waits, for as long as their own takes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('blocks', 'max_worker_processes' => 12, 'romancy.executors' => 2, 'romancy.max_workers' => 4, 'romancy.eager_runs' => 'off', 'romancy.resumption_interval' => '1h');
sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	CREATE ROLE other LOGIN; SELECT romancy.grant_usage('other');
	CREATE FUNCTION pass(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN to_jsonb(romancy.attempt()); END $$;
	CREATE FUNCTION passes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('pass'); END $$;
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN 'true'; END $$;
	CREATE FUNCTION notes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('note'); END $$;
});
my $blocked = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted};
my $left = q{SELECT count(*) FROM romancy.instances WHERE finished_at IS NULL};
sub learn
{
	value(q{SELECT romancy.start_workflow(w) FROM generate_series(1, 12), unnest(ARRAY['passes', 'notes']) w});
	poll_until($node, $left, 'both steps are known to be quick', expected => 0);
}
# one after the other: each is alone in its transaction
sub block
{
	my ($n) = @_;
	my $holder = $node->background_psql('postgres');
	$holder->query_safe('SELECT pg_advisory_lock(7)');
	for my $i (1 .. $n)
	{
		value(q{SELECT romancy.start_workflow('passes')});
		poll_until($node, $blocked, "$i waits for the lock", expected => $i);
	}
	return $holder;
}
sub over
{
	my ($holder) = @_;
	$holder->query_safe('SELECT pg_advisory_unlock(7)');
	$holder->quit;
	poll_until($node, $left, 'all end', expected => 0);
	is(value(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'passes' AND output <> '1'}), '0', 'by their first attempts');
}

learn();
my $holder = block(2);
value(q{SELECT romancy.start_workflow('notes')});
poll_until($node, $left, 'other quick work of the role runs', expected => 2);
is(value($blocked), '2', 'beside those that wait');
over($holder);

# As many places as the role may have
$node->append_conf('postgresql.conf', 'romancy.max_workers = 2');
$node->restart;
learn();
$holder = block(2);
$node->safe_psql('postgres', q{SELECT romancy.start_workflow('notes')}, extra_params => [ '-U', 'other' ]);
poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE owner = 'other' AND status = 'completed'}, 'the work of another role runs', expected => 1);
over($holder);
$node->stop('fast');
done_testing();
