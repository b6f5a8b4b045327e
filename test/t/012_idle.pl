# At rest: after the idle timeout only the launcher is left, and for 60 seconds, with 50
# programs blocked in poll_activities, no transaction commits and the WAL does not move.
# It would catch polling, by workers or inside the call.
# Takes 65 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep time);

my $seconds = $ENV{ROMANCY_IDLE_SECONDS} // 60;
my $node = romancy_node('idle',
	'romancy.worker_idle_timeout' => '1s', 'max_connections' => 100,
	'romancy.timer_interval' => '1s', 'romancy.resumption_interval' => '1s',
	'autovacuum' => 'off', 'checkpoint_timeout' => '1h', 'bgwriter_lru_maxpages' => 0);

$node->safe_psql('postgres', q{
	CREATE FUNCTION nap(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.sleep(($1 #>> '{}')::interval); RETURN $1; END $$;
	SELECT romancy.start_workflow('nap', '"30 days"');
});
is($node->safe_psql('postgres', q{CALL romancy.run_workflow('nap', '"10 ms"', timeout => '30s')}), '"10 ms"', 'work was done');
$node->safe_psql('postgres', 'CHECKPOINT');

# watched by the process table: a session that asks would itself commit
my $pid = $node->safe_psql('postgres', 'SELECT 1') && do { open my $f, '<', $node->data_dir . '/postmaster.pid' or die; <$f> + 0 };
sub workers
{
	my @found;
	for my $p (glob '/proc/[0-9]*')
	{
		open my $s, '<', "$p/stat" or next;
		my $line = <$s> // next;
		next unless $line =~ /\) \S (\d+) / && $1 == $pid;
		open my $c, '<', "$p/cmdline" or next;
		my $cmd = <$c> // '';
		push @found, $cmd if $cmd =~ /romancy/;
	}
	return @found;
}
poll_until(sub { my @w = workers(); @w == 1 && $w[0] =~ /launcher/ }, 'only the launcher is left');
is(scalar(workers()), 1, 'one process') or diag(join "\n", workers());

# seen from another database: who looks commits, too
sub look { return $node->safe_psql('template1', q{SELECT xact_commit + xact_rollback, pg_current_wal_insert_lsn() FROM pg_stat_database WHERE datname = 'postgres'}) }
# the statistics of a session arrive when it ends, before it leaves pg_stat_activity: look until they stand still
sub look_still
{
	poll_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type = 'client backend' AND query NOT LIKE 'call romancy.poll%'},
		'the sessions have ended', dbname => 'template1');
	my ($before, $after) = ('', look());
	for (1 .. 50) { $before = $after; usleep(100_000); $after = look(); last if $before eq $after; }
	return $after;
}

# Fifty programs wait in poll_activities for as long as $during takes; returns how many transactions they
# were, all told. (What a session counts shows when its call is over, so the count is taken after it.)
my $pollers = 50;
sub with_pollers
{
	my ($what, $during) = @_;
	my ($transactions) = split /\|/, look_still();
	my $in = '';
	my @waiting = map { IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-c',
		"call romancy.poll_activities('quiet', 'w$_', wait => '1 h')" ], '<', \$in, '>', '/dev/null', '2>', '/dev/null') } 1 .. $pollers;
	my $blocked = q{FROM pg_stat_activity WHERE datname = 'postgres' AND query LIKE 'call romancy.poll%' AND state = 'active'
		AND wait_event_type = 'Extension' AND backend_xmin IS NULL AND backend_xid IS NULL};
	poll_until($node, "SELECT count(*) = $pollers $blocked", "$what: $pollers programs wait, without a snapshot", dbname => 'template1');
	$during->();
	is($node->safe_psql('template1', "SELECT count(pg_cancel_backend(pid)) $blocked"), $pollers, "$what: they do so to the end");
	eval { $_->finish } for @waiting;
	poll_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE 'call romancy.poll%' AND datname = 'postgres'}, "$what: they are gone", dbname => 'template1');
	return (split /\|/, look_still())[0] - $transactions;
}
my $at_once = with_pollers('at once', sub { });
my $later = with_pollers("after $seconds s", sub {
	my $before = look_still();
	my $begin = time;
	usleep(500_000) while time - $begin < $seconds;
	is(look(), $before, "no commit and no WAL in $seconds s");
	is(scalar(workers()), 1, 'still only the launcher');
});
cmp_ok($at_once, '>=', $pollers, 'what a call costs is seen');
is($later, $at_once, 'a minute in poll_activities costs no transaction');
is($node->safe_psql('postgres', q{CALL romancy.run_workflow('nap', '"1 ms"', timeout => '30s')}), '"1 ms"', 'and it wakes up');
$node->stop('fast');
done_testing();
