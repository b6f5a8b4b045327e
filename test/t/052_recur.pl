# A loop of thousands of generations, with executors killed on the way and
# retention on: each generation's effect stands once, in order; the rows that stand at
# a time are few; and a client that waits by the first id hears of the end. It
# would catch a recur that loses its input or dies between two commits, and
# generations that are not deleted.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep);

my $generations = 4000;
my $node = romancy_node('recur', 'restart_after_crash' => 'on', 'synchronous_commit' => 'on', 'max_worker_processes' => 12,
	'romancy.retention_interval' => '200ms', 'romancy.sweep_batch_size' => 500, 'romancy.sweep_jitter' => 0);
$node->safe_psql('postgres', q{
	CREATE TABLE effect (n int);
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect VALUES ($1::int); RETURN $1; END $$;
	CREATE FUNCTION loop(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('put', $1 -> 'n');
		IF $1 -> 'n' = $1 -> 'last' THEN RETURN '"end"'; END IF;
		RETURN romancy.recur(jsonb_set($1, '{n}', to_jsonb(($1 ->> 'n')::int + 1)));
	END $$;
	SELECT romancy.define_workflow('loop', 'loop(jsonb)', retention => '1 ms');
});
$node->safe_psql('postgres', qq{SELECT romancy.start_workflow('loop', '{"n": 1, "last": $generations}')});

my ($most, $killed) = (0, 0);
for (1 .. 600)
{
	my ($n, $rows) = split /\|/, (eval { $node->safe_psql('postgres',
		q{SELECT (SELECT coalesce(max(n), 0) FROM effect), (SELECT count(*) FROM romancy.instances)}) } // '0|0');
	$most = $rows if ($rows // 0) > $most;
	last if ($n // 0) >= $generations;
	if ($killed < 3 && $n > ($killed + 1) * $generations / 5)
	{
		my $pid = eval { $node->safe_psql('postgres', q{SELECT pid FROM romancy.workers WHERE kind = 'executor' AND pid IS NOT NULL LIMIT 1}) };
		if ($pid)
		{
			kill 'KILL', $pid;
			$killed++;
			# until the server has noticed
			usleep(300_000);
		}
	}
	usleep(20_000);
}
ok($killed > 0, 'executors were killed');
poll_until($node, "SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL", 'the loop came to its end');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n), min(n), max(n) FROM effect'), "$generations|$generations|1|$generations", 'each generation ran once');
cmp_ok($most, '<', $generations, "rows of instances at a time: at most $most");
poll_until($node, 'SELECT count(*) <= 1 FROM romancy.instances', 'retention clears the old ones away');
is($node->safe_psql('postgres', 'SELECT count(*) <= 1 FROM romancy.t_history_archive'), 't', 'with their archives');

# a client that waits by the first id
$node->safe_psql('postgres', q{SELECT romancy.define_workflow('loop', 'loop(jsonb)', retention => '1 d')});
my $id = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('loop', '{"n": 10001, "last": 10200}')});
is($node->safe_psql('postgres', "CALL romancy.await_result('$id', '30 s')"), '"end"', 'await_result follows to the last generation');

done_testing();
