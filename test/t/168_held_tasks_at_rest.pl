# A task whose time is over while another transaction has its row, open or prepared: the schedulers look at it again now and then, the deadlines of others stay
# exact meanwhile, and it ends soon after that transaction. The same for a task that is ready for its next attempt while the only executor is in a long step. It
# would catch a sweep that runs again at once, thousands of times a second, for as long as another transaction holds the row.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use RomancyTest;
use Test::More;

my $node = romancy_node('held_at_rest', 'max_prepared_transactions' => 2, 'romancy.executors' => 1, map({ ("romancy.$_" . '_interval' => '1h') } qw(lock_cleanup activity_timeout resumption timer)));
sub value { return $node->safe_psql('postgres', $_[0]) }
sub ends { my ($id, $is, $what) = @_; return poll_until($node, "SELECT concat_ws(' ', status, error ->> 'sqlstate') FROM romancy.instances WHERE instance_id = '$id'", $what, expected => $is) }

value(q{
	SELECT romancy.define_activity('held', queue => 'q', retry => '{"max_attempts": 1}'), romancy.define_activity('late', queue => 'unserved', schedule_to_start_timeout => '1 s');
	CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'fails'; END $$;
	SELECT romancy.define_activity('fails', 'fails', retry => '{"initial_interval": "3s", "max_attempts": 2}');
	CREATE FUNCTION blocks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(8); RETURN $1; END $$;
	CREATE FUNCTION step(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn($1 #>> '{}')); END $$;
});

# quiet($what): a loop has thousands in a second (statistics are those of transactions that have ended; processes tell of them in time)
sub quiet
{
	my ($what) = @_;
	my $count = "SELECT sum(xact_commit) FROM pg_stat_database";
	my $before = value($count);
	value('SELECT pg_sleep(2)');
	my $after = value($count);
	cmp_ok($after - $before, '<', 400, "$what: nothing runs again and again");
	return;
}

# claimed($lease): an instance whose task is under a lease of so long, and the task's token
sub claimed
{
	my ($lease) = @_;
	my $id = value(q{SELECT romancy.start_workflow('step', '"held"')});
	poll_until($node, q{SELECT count(*) FROM romancy.t_task WHERE activity = 'held' AND state = 0}, 'a task is ready', expected => 1);
	return ($id, value("SELECT token FROM romancy.fetch_activities('q', 'me', 1, '$lease')"));
}

for my $how ('open', 'prepared')
{
	my $holder = $node->background_psql('postgres');
	my ($id, $token) = claimed('5 s');	# in which another transaction comes to hold it
	$holder->query_safe("BEGIN; SELECT romancy.complete_activity('$token', '1')");
	$holder->query_safe("PREPARE TRANSACTION 'held'") if $how eq 'prepared';
	poll_until($node, q{SELECT count(*) FROM romancy.t_task WHERE state = 1 AND due_at < clock_timestamp()}, "$how: its lease is over", expected => 1);
	quiet($how);
	my ($other) = claimed('500 ms');
	ends($other, 'failed RM009', "$how: another's lease ends");
	my $late = value(q{SELECT romancy.start_workflow('step', '"late"')});
	ends($late, 'failed RM006', "$how: and its schedule_to_start_timeout");
	is(value("SELECT count(*) FROM romancy.instances WHERE instance_id IN ('$other', '$late') AND finished_at > created_at + interval '30 s'"), '0', "$how: not by a sweep of an hour");
	$holder->query_safe($how eq 'prepared' ? "ROLLBACK PREPARED 'held'" : 'ROLLBACK');
	ends($id, 'failed RM009', "$how: the held one's lease ends after that");
	$holder->quit;
}

# A retry that is due, while the only executor is in a long step; another task's time limit has the sweep run
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(8)');
my $retried = value(q{SELECT romancy.start_workflow('step', '"fails"')});
poll_until($node, q{SELECT count(*) FROM romancy.t_task WHERE state = 2}, 'a task waits for its next attempt', expected => 1);
my $id = value(q{SELECT romancy.start_workflow('step', '"blocks"')});
poll_until($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 8 AND NOT granted}, 'the executor is in a long step', expected => 1);
poll_until($node, q{SELECT count(*) FROM romancy.t_task WHERE state = 2 AND due_at < clock_timestamp()}, 'and the attempt is due', expected => 1);
value(q{SELECT romancy.run_sweep('activity_timeouts')});
quiet('a retry that is due');
$holder->query_safe('SELECT pg_advisory_unlock(8)');
ends($id, 'completed', 'the step ends');
ends($retried, 'failed P0001', 'and the next attempt comes');
$holder->quit;
$node->stop('fast');
done_testing();
