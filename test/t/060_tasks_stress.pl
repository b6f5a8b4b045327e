# Worker processes take tasks from a queue while some of them are killed, some are frozen
# past their lease and continued, and executors are killed too. Afterwards each task's
# result is recorded once, a chord's callback has run once with all results in order, limits
# were never exceeded and nothing is stuck. It would catch a token that outlives its lease, a
# lease that is given to nobody, and a fan-in that loses its last member.
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

my $tasks = $ENV{ROMANCY_STRESS_TASKS} // 400;
my $seconds = $ENV{ROMANCY_STRESS_SECONDS} // 8;
my $node = romancy_node('tasks',
	'restart_after_crash' => 'on',
	'synchronous_commit' => 'on',
	'max_worker_processes' => 12,
	'romancy.lock_cleanup_interval' => '1s',
	'romancy.resumption_interval' => '1s',
	'romancy.worker_idle_timeout' => '2s');

$node->safe_psql('postgres', q{
	CREATE TABLE effect (n int);
	CREATE TABLE over (running bigint);
	CREATE TABLE callback (id uuid, results int, ordered boolean);
	CREATE FUNCTION indb(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect VALUES ((i #>> '{}')::int);
		RETURN i;
	END $$;
	CREATE FUNCTION gather(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO callback SELECT romancy.instance_id(), jsonb_array_length(i), i = (SELECT jsonb_agg(x ORDER BY x::int) FROM jsonb_array_elements(i) x);
		RETURN to_jsonb(jsonb_array_length(i));
	END $$;
	CREATE FUNCTION mapped(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.map('ext', (SELECT jsonb_agg(g) FROM generate_series(1, 20) g), 5); END $$;
	SELECT romancy.define_activity('ext', queue => 'q', retry => '{"max_attempts": 0, "max_duration": null}');
	SELECT romancy.define_activity('indb', 'indb(jsonb)', retry => '{"max_attempts": 0, "max_duration": null}');
	SELECT romancy.set_queue('q', max_concurrency => 5);
});

# A worker is a psql that polls, works some milliseconds and completes, again and again. It
# also looks how many run: never more than the limit.
my $script = $node->basedir . '/worker.sql';
append_to_file($script, q{
call romancy.poll_activities('q', 'w', 2, '700ms', '500ms') \gset
insert into over select count(*) from romancy.t_task where queue = 'q' and state = 1 having count(*) > 5;
select pg_sleep(random() * 0.01);
select romancy.complete_activity(t->>'token', t->'input') from jsonb_array_elements(:'tasks'::jsonb) t;
} x 500);
my (@workers, $stop);
sub spawn_worker
{
	my ($in, $out, $err) = ('', '', '');
	push @workers, IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-f', $script ],
		'<', \$in, '>', '/dev/null', '2>', '/dev/null');
}
sub worker_pid { return $_[0]->{KIDS}[0]{PID} }

my $ids = $node->safe_psql('postgres', qq{
	SELECT romancy.run_canvas(romancy.chord(romancy.group(VARIADIC array(
		SELECT CASE WHEN g % 4 = 0 THEN romancy.task('ext', to_jsonb(g)) WHEN g % 4 = 1 THEN romancy.chain(romancy.task('indb', to_jsonb(g)), romancy.task('ext'))
			ELSE romancy.task('indb', to_jsonb(g)) END FROM generate_series(1, $tasks) g)), romancy.task('gather')));
	SELECT romancy.start_workflow('mapped') FROM generate_series(1, 5);
});
spawn_worker() for 1 .. 4;
my ($killed, $frozen, $crashed) = (0, 0, 0);
my %continue;
my $end = time + $seconds;
while (time < $end)
{
	usleep(100_000 + int(rand(200_000)));
	for my $pid (keys %continue)
	{
		next if time < $continue{$pid};
		kill 'CONT', $pid;
		delete $continue{$pid};
	}
	@workers = grep { $_->pumpable || 1 } @workers;
	my $victim = $workers[ int(rand(@workers)) ];
	my $pid = worker_pid($victim);
	my $dice = rand;
	if ($dice < 0.3)
	{
		kill 'KILL', $pid;
		$killed++;
	}
	elsif ($dice < 0.6 && !$continue{$pid})
	{
		kill 'STOP', $pid;
		$continue{$pid} = time + 1.2;
		$frozen++;
	}
	elsif ($dice < 0.65)
	{
		my $executor = eval { $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'romancy executor' LIMIT 1") };
		if ($executor)
		{
			kill 'KILL', $executor;
			$crashed++;
		}
	}
	# those that ended (killed, or without their server) are replaced
	for my $i (0 .. $#workers)
	{
		next if kill(0, worker_pid($workers[$i])) && !is_zombie(worker_pid($workers[$i]));
		eval { $workers[$i]->finish };
		splice @workers, $i, 1;
		spawn_worker();
		last;
	}
}
sub is_zombie
{
	my $stat = eval { slurp_file("/proc/$_[0]/stat") } // return 1;
	return $stat =~ /\) Z/;
}
kill 'CONT', $_ for keys %continue;
note "killed $killed workers, froze $frozen, killed $crashed executors";
spawn_worker() for 1 .. 3;

poll_until($node, q{SELECT bool_and(status = 'completed') FROM romancy.instances}, 'every instance completes');
is($node->safe_psql('postgres', 'SELECT count(*), min(results), bool_and(ordered) FROM callback'),
	"1|$tasks|t", 'the callback ran once, with all results in order');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM effect'),
	join('|', (int($tasks / 4) * 3) x 2), 'what ran in the database ran once');
is($node->safe_psql('postgres', q{
	SELECT count(*), count(DISTINCT (i.instance_id, h.activity_id)) FROM romancy.instances i, romancy.get_history(i.instance_id) h
	WHERE i.workflow = 'mapped' AND h.event_type = 'ActivityCompleted'}), '100|100', 'each result of map is recorded once');
is($node->safe_psql('postgres', q{SELECT count(*) FROM romancy.instances WHERE workflow = 'mapped'
	AND output = (SELECT jsonb_agg(g) FROM generate_series(1, 20) g)}), '5', 'map gives all results in order');
is($node->safe_psql('postgres', 'SELECT count(*) FROM over'), '0', 'never more than max_concurrency ran');
is($node->safe_psql('postgres', 'SELECT count(*) FROM romancy.t_task'), '0', 'no task is left');
kill 'KILL', worker_pid($_) for @workers;
eval { $_->finish } for @workers;
done_testing();
