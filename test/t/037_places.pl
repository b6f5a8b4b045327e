# An executor that rests makes room for one more of another owner whose executor is in a long turn; and where
# notes for others lie in the ring all the time it leaves, too. Otherwise the second instance of an owner, or
# a pause of what runs, waited for as long as the resting one chose to stay: with worker_idle_timeout = 0, for ever.
# It would catch a resting executor that is not asked to make room, and work of which the launcher is not told.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('places', 'romancy.executors' => 2, 'romancy.max_workers' => 4, 'romancy.worker_idle_timeout' => '0',
	map { ("romancy.$_" => '1h') } qw(timer_interval resumption_interval lock_cleanup_interval));
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as
{
	my ($role, $call) = @_;
	return sql("SET ROLE $role; SELECT $call");
}
sub completes { return poll_until($node, "SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$_[0]'", $_[1]) }

sql(q{
	CREATE ROLE a; CREATE ROLE b; SELECT romancy.grant_usage('a'), romancy.grant_usage('b');
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared($1::int); RETURN $1; END $$;
	CREATE FUNCTION holds(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('held', $1); END $$;
});
my $resting = q{SELECT count(*) = 1 FROM romancy.workers WHERE kind = 'executor' AND owner = 'b' AND state = 'idle'};
my $holder = $node->background_psql('postgres');
$holder->query_safe("SELECT pg_advisory_lock($_)") for 1, 2;

# b's executor rests before a's work comes
completes(as('b', q{romancy.start_workflow('quick')}), 'b has an executor');
poll_until($node, $resting, 'which rests');
my $first = as('a', q{romancy.start_workflow('holds', '1')});
poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted}, 'the executor of a is in a long turn');
my $second = as('a', q{romancy.start_workflow('quick')});
completes($second, 'and another instance of a runs beside it');
is(sql(q{SELECT count(*) FROM romancy.workers WHERE kind = 'executor' AND owner = 'a'}), '2', 'in the place of the executor that rested');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
completes($first, 'the first one ends');
poll_until($node, q{SELECT count(*) = 2 FROM romancy.workers WHERE kind = 'executor' AND owner = 'a' AND state = 'idle'}, 'both rest');
completes(as('b', q{romancy.start_workflow('quick')}), 'b is served again');

# race: b's executor comes to rest when a's work waits already
my ($b) = as('b', q{romancy.start_workflow('holds', '2')});
poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND NOT granted}, 'b is busy');
$holder->query_safe('SELECT pg_advisory_lock(1)');
$first = as('a', q{romancy.start_workflow('holds', '1')});
poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted}, 'a is busy');
$second = as('a', q{romancy.start_workflow('quick')});
$holder->query_safe('SELECT pg_advisory_unlock(2)');
completes($b, 'b ends');
completes($second, 'a has its place');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
completes($first, 'and ends');
$holder->quit;
$node->stop('fast');
done_testing();
