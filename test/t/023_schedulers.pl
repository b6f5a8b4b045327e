# The number of schedulers follows romancy.schedulers, however quickly that changes.
# Race: the launcher and each scheduler read the settings at times of their own, so
# shares are given up and asked for while others of them are still on their way out;
# a share that was taken for held, or whose request was taken for served, was missing
# from then on, and with it the safety net of its instances.
# It would catch a scheduler that is missing, or one too many.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{ROUNDS} // 120;
my $node = romancy_node('schedulers',
	'romancy.max_workers' => 8, 'romancy.executors' => 1, max_worker_processes => 20,
	'romancy.worker_idle_timeout' => '0', 'romancy.retry_backoff_max' => '100ms');
my $conf = $node->data_dir . '/postgresql.auto.conf';

# set(N): by hand, because changes come quicker than ALTER SYSTEM
sub set
{
	append_to_file($conf, "romancy.schedulers = $_[0]\n");
	$node->reload;
}

srand($ENV{SEED} // 4711);
$node->safe_psql('postgres', q{CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	SELECT romancy.start_workflow('quick')});
set(2);
poll_until($node, q{SELECT count(*) = 2 FROM romancy.workers WHERE kind = 'scheduler' AND state IN ('idle', 'running')}, 'two schedulers');
$node->safe_psql('postgres', q{CREATE FUNCTION settled(n int, seconds int) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. seconds * 1000 LOOP
			PERFORM FROM romancy.workers WHERE kind = 'scheduler' AND state IN ('idle', 'running') HAVING count(*) = n;
			IF found THEN RETURN true; END IF;
			PERFORM pg_sleep(0.001);
		END LOOP;
		RETURN false;
	END $$});

# settled(N): are there N, and no other?
sub settled
{
	return $node->safe_psql('postgres', "SELECT settled($_[0], $PostgreSQL::Test::Utils::timeout_default)") eq 't';
}

my ($n, $fine) = (2, 0);
for (; $fine < $rounds; $fine++)
{
	# now and then some in a row, none of which all have seen
	for (1 .. (rand() < 0.5 ? 1 : 1 + int(rand(4))))
	{
		$n = 1 + ($n + int(rand(4))) % 5;
		set($n);
		usleep(int(rand(5_000)));
	}
	last if !settled($n);
}
is($fine, $rounds, 'each time there are as many schedulers as there should be') or diag("not $n, but " . $node->safe_psql('postgres', 'SELECT kind, state, since FROM romancy.workers'));
$node->stop('fast');
done_testing();
