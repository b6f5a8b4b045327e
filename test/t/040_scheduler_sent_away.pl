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
use Time::HiRes qw(usleep);

my $node = romancy_node('away', 'romancy.reindex_interval' => '200ms', 'romancy.retry_backoff_max' => '200ms', 'romancy.sweep_jitter' => 0,
	'romancy.max_workers' => 3, 'romancy.worker_idle_timeout' => '0');

sub sql { return $node->safe_psql('postgres', $_[0]) }

my $scheduler = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'romancy scheduler'};
my $runs = q{SELECT runs FROM romancy.sweeps WHERE name = 'reindex'};
my $n = 0;

sql(q{CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN $1; END $$});

# Two steps hold the executors, an instance of which nothing is known either wants the scheduler's place, and has been run when the
# scheduler, which is stopped meanwhile, learns that it is to leave. True: it was told to.
sub sent_away
{
	my ($round, $pid) = @_;
	my $gate = $node->background_psql('postgres');

	$gate->query_safe('SELECT pg_advisory_lock(7)');
	sql(qq{CREATE FUNCTION flow_${round}_$_(jsonb) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RETURN romancy.activity(''held'', \$1); END'}) for 1 .. 3;
	kill 'STOP', $pid or die "no process $pid: $!";
	sql("SELECT romancy.start_workflow('flow_${round}_1', '1'), romancy.start_workflow('flow_${round}_2', '1'), romancy.start_workflow('flow_${round}_3', '1')");
	$n += 3;
	poll_until($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted}, "$round: both executors are in steps", expected => 2);
	usleep(250_000 * $round);	# no process can see whether it was told by now: otherwise there is another round
	$gate->query_safe('SELECT pg_advisory_unlock(7)');
	$gate->quit;
	poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE status = 'completed'}, "$round: all come to their end", expected => $n);
	poll_until($node, q{SELECT count(*) FROM romancy.workers WHERE kind = 'executor' AND state = 'idle'}, "$round: the executors rest", expected => 2);
	my $before = sql($runs);
	kill 'CONT', $pid;
	poll_until($node, "SELECT NOT EXISTS ($scheduler AND pid = $pid) OR ($runs) > $before + 1", "$round: the scheduler has looked");
	return sql("SELECT NOT EXISTS ($scheduler AND pid = $pid)") eq 't';
}

my $told = 0;
for my $round (1 .. 20)
{
	poll_until($node, "SELECT count(*) = 1 FROM ($scheduler AND state = 'idle') s", "$round: a scheduler rests");
	last if $told = sent_away($round, sql($scheduler));
}
ok($told, 'a scheduler was sent away');
poll_until($node, "SELECT EXISTS ($scheduler)", 'another one comes');
my $so_far = sql($runs);
poll_until($node, "SELECT ($runs) > $so_far + 3", 'and the sweeps go on');

$node->stop;
done_testing();
