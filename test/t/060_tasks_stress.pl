# Worker processes take tasks from a queue while some of them are killed, some are frozen
# past their lease and continued, some lose their connection, and executors are killed too. Afterwards each
# task's result is recorded once, and is one that the server said it took; a chord's callback has run once with
# all results in order, limits were never exceeded and nothing is stuck. Then a chord over 10,000 tasks, with
# workers and executors killed on its way. It would catch a token that outlives its lease, a
# lease that no program gets, and a fan-in that loses its last member.
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
my $big = $ENV{ROMANCY_STRESS_CHORD} // 10_000;
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
	CREATE TABLE answer (token text, taken boolean);
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
	BEGIN RETURN romancy.map('ext_map', (SELECT jsonb_agg(g) FROM generate_series(1, 20) g), 5); END $$;
	SELECT romancy.define_activity('ext', queue => 'q', retry => '{"max_attempts": 0, "max_duration": null}');
	SELECT romancy.define_activity('indb', 'indb(jsonb)', retry => '{"max_attempts": 0, "max_duration": null}');
	SELECT romancy.define_activity('ext_map', queue => 'q', retry => '{"max_attempts": 0, "max_duration": null}');
	SELECT romancy.define_activity('ext_fast', queue => 'fast', retry => '{"max_attempts": 0, "max_duration": null}');
	SELECT romancy.set_queue('q', max_concurrency => 5);
});

# A worker is a psql that polls, works some milliseconds and completes, again and again. It
# also looks how many run: never more than the limit.
my $script = $node->basedir . '/worker.sql';
append_to_file($script, q{
call romancy.poll_activities('q', 'w', 2, '700ms', '500ms') \gset
insert into over select count(*) from romancy.t_task where queue like '%/q' and state = 1 having count(*) > 5;
select pg_sleep(random() * 0.01);
insert into answer select t->>'token', romancy.complete_activity(t->>'token', case when t->>'activity' = 'ext_map' then jsonb_build_object('n', t->'input', 'token', t->'token') else t->'input' end)
from jsonb_array_elements(:'tasks'::jsonb) t;
} x 500);
my $fast_script = $node->basedir . '/fast.sql';
append_to_file($fast_script, q{
call romancy.poll_activities('fast', 'w', 20, '1s', '500ms') \gset
select romancy.complete_activity(t->>'token', t->'input') from jsonb_array_elements(:'tasks'::jsonb) t;
} x 2000);
my @workers;
sub spawn_worker
{
	push @workers, IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-f', $_[0] // $script ],
		'<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
}
sub kill_executor
{
	my $executor = eval { $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'romancy executor' LIMIT 1") };
	return $executor ? kill 'KILL', $executor : 0;
}
sub worker_pid { return $_[0]->{KIDS}[0]{PID} }

my $ids = $node->safe_psql('postgres', qq{
	SELECT romancy.run_canvas(romancy.chord(romancy.group(VARIADIC array(
		SELECT CASE WHEN g % 4 = 0 THEN romancy.task('ext', to_jsonb(g)) WHEN g % 4 = 1 THEN romancy.chain(romancy.task('indb', to_jsonb(g)), romancy.task('ext'))
			ELSE romancy.task('indb', to_jsonb(g)) END FROM generate_series(1, $tasks) g)), romancy.task('gather')));
	SELECT romancy.start_workflow('mapped') FROM generate_series(1, 5);
});
spawn_worker() for 1 .. 4;
my ($killed, $frozen, $cut, $crashed) = (0, 0, 0, 0);
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
		$crashed += kill_executor();
	}
	elsif ($dice < 0.9)
	{
		$cut += eval { $node->safe_psql('postgres', q{
			SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1) x}) } // 0;
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
# three programs at any time: a crash of the server ends them all
sub keep_workers
{
	my @alive;
	for my $w (@workers)
	{
		if (is_zombie(worker_pid($w))) { eval { $w->finish } }
		else { push @alive, $w }
	}
	@workers = @alive;
	spawn_worker(@_) for @workers .. 2;
}
kill 'CONT', $_ for keys %continue;
note "killed $killed workers, froze $frozen, cut $cut connections, killed $crashed executors";

# (the server may still be recovering from the last kill)
poll_until(sub { keep_workers(); 't' eq (eval { $node->safe_psql('postgres', q{SELECT bool_and(status = 'completed') FROM romancy.instances}) } // '') }, 'every instance completes');
is($node->safe_psql('postgres', 'SELECT count(*), min(results), bool_and(ordered) FROM callback'),
	"1|$tasks|t", 'the callback ran once, with all results in order');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM effect'),
	join('|', (int($tasks / 4) * 3) x 2), 'what ran in the database ran once');
is($node->safe_psql('postgres', q{
	SELECT count(*), count(DISTINCT (i.instance_id, h.activity_id)) FROM romancy.instances i, romancy.get_history(i.instance_id) h
	WHERE i.workflow = 'mapped' AND h.event_type = 'ActivityCompleted'}), '100|100', 'each result of map is recorded once');
is($node->safe_psql('postgres', q{SELECT count(*) FROM romancy.instances WHERE workflow = 'mapped'
	AND (SELECT jsonb_agg(o->'n') FROM jsonb_array_elements(output) o) = (SELECT jsonb_agg(g) FROM generate_series(1, 20) g)}), '5', 'map gives all results in order');
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT token FROM answer WHERE taken GROUP BY 1 HAVING count(*) > 1) x}), '0', 'no token was good twice');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM romancy.instances i, jsonb_array_elements(i.output) o WHERE i.workflow = 'mapped'
	AND NOT EXISTS (SELECT FROM answer a WHERE a.taken AND a.token = o->>'token')}), '0', 'each result came with a token that was taken');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM answer a WHERE NOT a.taken AND EXISTS (SELECT FROM romancy.instances i, jsonb_array_elements(i.output) o WHERE i.workflow = 'mapped' AND o->>'token' = a.token)}),
	'0', 'and none with one that was refused');
is($node->safe_psql('postgres', 'SELECT count(*) FROM over'), '0', 'never more than max_concurrency ran');
is($node->safe_psql('postgres', 'SELECT count(*) FROM romancy.t_task'), '0', 'no task is left');

sub no_workers
{
	kill 'KILL', worker_pid($_) for @workers;
	eval { $_->finish } for @workers;
	@workers = ();
}
no_workers();

# The big chord. A process is killed while it is under way, wherever that is on this machine.
my $chord = $node->safe_psql('postgres', qq{
	TRUNCATE callback, effect;
	SELECT romancy.run_canvas(romancy.chord(romancy.group(VARIADIC array(
		SELECT CASE WHEN g % 10 = 0 THEN romancy.task('ext_fast', to_jsonb(g)) ELSE romancy.task('indb', to_jsonb(g)) END FROM generate_series(1, $big) g)), romancy.task('gather')));
});

sub chord_says { keep_workers($fast_script); return 't' eq (eval { $node->safe_psql('postgres', "SELECT $_[0] FROM romancy.get_progress('$chord')") } // '') }
my $kills = 0;
for my $part (0.1, 0.3, 0.5, 0.7, 0.9)
{
	poll_until(sub { chord_says("completed >= $big * $part") }, "a chord over $big tasks is past " . 100 * $part . ' %');
	kill 'KILL', worker_pid($workers[0]);
	$kills += kill_executor();
}
cmp_ok($kills, '>', 0, "executors were killed on its way: $kills");
poll_until(sub { chord_says("completed > $big") }, 'all have ended, the callback too');
poll_until($node, "SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$chord'", 'the chord completes');
is($node->safe_psql('postgres', 'SELECT count(*), min(results), bool_and(ordered) FROM callback'), "1|$big|t", 'its callback ran once, with all results in order');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM effect'), join('|', ($big - int($big / 10)) x 2), 'what ran in the database ran once');
is($node->safe_psql('postgres', "SELECT completed, failed FROM romancy.get_progress('$chord')"), ($big + 1) . '|0', 'the progress says so');
is($node->safe_psql('postgres', 'SELECT count(*) FROM romancy.t_task'), '0', 'and no task is left');
no_workers();
done_testing();
