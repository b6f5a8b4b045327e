# At rest: after the idle timeout only the launcher is left, and for 60 seconds
# no transaction commits and the WAL does not move. It would catch polling.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep time);

my $seconds = $ENV{ROMANCY_IDLE_SECONDS} // 60;
my $node = romancy_node('idle',
	'romancy.worker_idle_timeout' => '1s',
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

my $sql = q{SELECT xact_commit, pg_current_wal_insert_lsn() FROM pg_stat_database WHERE datname = 'postgres'};
$node->safe_psql('template1', 'SELECT 1');
# the statistics of the session before arrive when it ends: look until they stand still
my ($before, $after) = ('', $node->safe_psql('template1', $sql));
for (1 .. 50) { $before = $after; usleep(100_000); $after = $node->safe_psql('template1', $sql); last if $before eq $after; }
my $begin = time;
usleep(500_000) while time - $begin < $seconds;
is($node->safe_psql('template1', $sql), $before, "no commit and no WAL in $seconds s");
my @w = workers();
is(scalar(@w), 1, 'still only the launcher');
is($node->safe_psql('postgres', q{CALL romancy.run_workflow('nap', '"1 ms"', timeout => '30s')}), '"1 ms"', 'and it wakes up');
$node->stop('fast');
done_testing();
