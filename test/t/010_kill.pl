# Executors, and in other rounds the postmaster, die by SIGKILL at random moments
# of a load of multi-step workflows. Afterwards every instance has completed and
# every step's row stands in the user's table exactly once. It would catch an
# effect that commits apart from its history row, and work that is not found again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep time);

my $rounds = 20;
my $per_round = 150;
my $node = romancy_node('kill',
	'restart_after_crash' => 'on',
	'synchronous_commit' => 'on',
	'max_worker_processes' => 12,
	'romancy.worker_idle_timeout' => '2s');

$node->safe_psql('postgres', q{
	CREATE TABLE effect (instance uuid, step text, round int);
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect VALUES (romancy.instance_id(), $1->>'step', ($1->>'round')::int);
		PERFORM pg_sleep(random() * 0.004);
		RETURN $1;
	END $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1..3 LOOP
			PERFORM romancy.activity('note', jsonb_build_object('step', i, 'round', $1->'round'));
		END LOOP;
		PERFORM romancy.sleep('0.2 s');
		FOR i IN 4..5 LOOP
			PERFORM romancy.activity('note', jsonb_build_object('step', i, 'round', $1->'round'));
		END LOOP;
		RETURN $1;
	END $$;
	CREATE FUNCTION straight(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1..5 LOOP
			PERFORM romancy.activity('note', jsonb_build_object('step', i, 'round', $1->'round'));
		END LOOP;
		RETURN $1;
	END $$;
});

srand(4711);
my $killed = 0;
for my $round (1 .. $rounds)
{
	my $half = $per_round / 2;
	# the server may be about to restart: the keys make it safe to ask again
	my $started;
	for (1 .. 200)
	{
		$started = eval {
			$node->safe_psql('postgres', qq{
				SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT jsonb_build_object('round', $round) FROM generate_series(1, $half)),
					idempotency_keys => array(SELECT 'a $round ' || i FROM generate_series(1, $half) i));
				SELECT count(*) FROM romancy.start_workflows('straight', array(SELECT jsonb_build_object('round', $round) FROM generate_series(1, $half)),
					idempotency_keys => array(SELECT 'b $round ' || i FROM generate_series(1, $half) i));
			});
			1;
		} and last;
		usleep(100_000);
	}
	ok($started, "round $round: started") or diag($@);
	usleep(int(rand(400_000)));
	if ($round % 4 == 0)
	{
		$node->kill9;
		start_again($node);
		$killed++;
	}
	else
	{
		# after a restart it takes a moment until one is there; on a quick machine all is done before
		my $pid;
		for (1 .. 100)
		{
			(my $rest, $pid) = split /\|/, eval { $node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM romancy.instances WHERE finished_at IS NULL),
				(SELECT pid FROM romancy.workers WHERE kind = 'executor' AND pid IS NOT NULL ORDER BY random() LIMIT 1)}) } // '1|';
			last if $pid || $rest == 0;
			usleep(50_000);
		}
		if ($pid)
		{
			kill 'KILL', $pid;
			$killed++;
		}
	}
}
cmp_ok($killed, '>=', 15, "processes were killed in most rounds ($killed)");

# One that was running at three kills in a row is paused (RM011), as it should be: here it is not its fault.
my $total = $rounds * $per_round;
my $paused = 0;
poll_until(sub {
	$paused += eval { $node->safe_psql('postgres', q{SELECT count(*) FROM romancy.instances, romancy.resume_workflow(instance_id) r WHERE status = 'paused' AND error->>'sqlstate' = 'RM011' AND r}) } // 0;
	return ((eval { $node->safe_psql('postgres', q{SELECT count(*) FROM romancy.instances WHERE status = 'completed'}) } // '') eq $total);
}, "all $total instances complete");
cmp_ok($paused, '<', 10, "hardly any was killed three times ($paused)");
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT status, ',') FROM romancy.instances}),
	'completed', 'none is stuck, failed or paused');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM (SELECT instance, step FROM effect GROUP BY 1, 2 HAVING count(*) <> 1) x}),
	'0', "no step's row is there twice");
is($node->safe_psql('postgres', 'SELECT count(*) FROM effect'), $total * 5, "no step's row is missing");
$node->stop('fast');
done_testing();
