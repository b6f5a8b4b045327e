# A scheduler that is sent away, since work wants its place, says when the sweeps are due next, so that another one comes for them
# though the work has been done meanwhile. It would catch sweeps that do not run any more until there is other work.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('away', 'romancy.reindex_interval' => '200ms', 'romancy.retry_backoff_max' => '200ms', 'romancy.sweep_jitter' => 0,
	'romancy.max_workers' => 3, 'romancy.worker_idle_timeout' => '0');

sub sql { return $node->safe_psql('postgres', $_[0]) }

my $runs = q{SELECT runs FROM romancy.sweeps WHERE name = 'reindex'};
my $scheduler = q{SELECT pid FROM romancy.workers WHERE kind = 'scheduler'};
my $told = q{SELECT count(*) FROM romancy.workers WHERE kind = 'scheduler' AND state = 'leaving'};

sql(q{CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN $1; END $$});
sql(qq{CREATE FUNCTION flow_$_(jsonb) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RETURN romancy.activity(''held'', \$1); END'}) for 1 .. 2;
sql(q{CREATE ROLE another; SELECT romancy.grant_usage('another'); GRANT CREATE ON SCHEMA public TO another});
sql(q{SET ROLE another; CREATE FUNCTION of_another(jsonb) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'});

# Two steps hold the executors: all places are taken.
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(7)');
sql("SELECT romancy.start_workflow('flow_1', '1'), romancy.start_workflow('flow_2', '1')");
poll_until($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted}, 'both executors are in steps', expected => 2);

# Stopped while it rests, which is most of the time, since another owner's work wants its place only then.
my $pid;
for (1 .. 50)
{
	poll_until($node, "SELECT count(*) = 1 FROM ($scheduler AND state = 'idle') s", 'a scheduler rests');
	$pid = sql($scheduler);
	kill 'STOP', $pid or die "no process $pid: $!";
	last if sql("SELECT count(*) FROM ($scheduler AND pid = $pid AND state = 'idle') s") eq '1';
	kill 'CONT', $pid;
}
sql(q{SET ROLE another; SELECT romancy.start_workflow('of_another', '1')});
poll_until($node, $told, 'the scheduler is told to leave, for work of another owner', expected => 1);

# All work is done before it learns that.
$gate->query_safe('SELECT pg_advisory_unlock(7)');
$gate->quit;
poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE status = 'completed'}, 'all come to their end', expected => 3);
poll_until($node, q{SELECT count(*) FROM romancy.workers WHERE kind = 'executor' AND state <> 'idle'}, 'the executors rest', expected => 0);
kill 'CONT', $pid;
poll_until($node, "SELECT NOT EXISTS ($scheduler AND pid = $pid)", 'the scheduler leaves');

poll_until($node, "SELECT EXISTS ($scheduler)", 'another one comes');
my $so_far = sql($runs);
poll_until($node, "SELECT ($runs) > $so_far + 3", 'and the sweeps go on');

$node->stop;
done_testing();
