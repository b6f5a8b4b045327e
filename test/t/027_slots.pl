# max_worker_processes is used up, by others or because it is too small: romancy says
# so once, goes on with the workers that it gets, and takes up the rest when there is
# room again. It would catch a launcher that logs in a loop, or that forgets work.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep time);

# of four slots the logical replication launcher takes one, and romancy's another
my $node = romancy_node('slots', 'max_worker_processes' => 4, 'max_parallel_workers' => 4,
	'max_parallel_workers_per_gather' => 4, 'romancy.max_workers' => 4, 'romancy.retry_backoff_max' => '500ms',
	'romancy.worker_idle_timeout' => '200ms');
sub sql { return $node->safe_psql('postgres', $_[0]) }
my $full = qr/out of background worker slots\n.*DETAIL: .*romancy continues with fewer.*\n.*HINT: .*max_worker_processes/;
sub logged { return scalar(() = slurp_file($node->logfile) =~ /$_[0]/g) }
my $force = sql(q{SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')});

sql(q{
	CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('echo', $1); PERFORM romancy.sleep('100 ms'); RETURN romancy.activity('echo', $1); END $$;
});
sub load
{
	my $role = shift // 'postgres';
	return $node->safe_psql('postgres', q{SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT to_jsonb(i) FROM generate_series(1, 20) i))},
		extra_params => [ '-U', $role ]);
}
sub all_done
{
	my ($n, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, qq{SELECT count(*) = $n FROM romancy.instances WHERE status = 'completed'}, $what);
}
# take($n): sessions whose parallel workers hold a slot each until they are cancelled
my @takers;
sub take
{
	my $n = shift;

	# romancy is not to be in the way of this
	sql('ALTER SYSTEM SET romancy.enabled = off');
	$node->reload;
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'no worker is there');
	my $workers = q{(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker')};
	for (1 .. $n)
	{
		my $s = $node->background_psql('postgres', on_error_stop => 0);
		$s->query_until(qr/go/, "\\echo go\nSET $force = on;\n");
		push @takers, $s;
		# the postmaster gives a worker's slot back a moment after it has left: who got none asks again
		poll_until(sub {
				$s->query_until(qr/go/, "\\echo go\nSELECT pg_sleep(1000);\n");
				for (1 .. 20)
				{
					return 1 if sql("SELECT $workers") == @takers;
					usleep(100_000);
				}
				sql(qq{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(1000)%' AND backend_type = 'client backend'
					AND NOT EXISTS (SELECT FROM pg_stat_activity w WHERE w.leader_pid = pg_stat_activity.pid)});
				return 0; }, @takers . ' slots are taken');
	}
	sql('ALTER SYSTEM SET romancy.enabled = on');
	$node->reload;
}
sub give_back
{
	sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND query LIKE '%pg_sleep(1000)%' AND pid <> pg_backend_pid()});
	eval { $_->quit } for @takers;
	@takers = ();
}

load();
all_done(20, 'with two slots: all complete');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'the workers have left');

# one slot is left: scheduler and executors take turns
take(1);
load();
all_done(40, 'with one slot: all complete');
give_back();
is(logged($full), 1, 'that there are too few is said once, with the setting in the hint');

# none is left, from the launcher's start on
$node->restart;
take(2);
load();
poll_until(sub { logged($full) == 2 }, 'without a slot it says so');
usleep(2_500_000);
is(logged($full), 2, 'once, not at every attempt');
is(sql(q{SELECT count(*) FROM romancy.instances WHERE status = 'pending'}), '20', 'the work waits');
like(sql(q{SELECT count(*) FROM romancy.workers WHERE kind = 'launcher'}), qr/1/, 'and so does the launcher');
give_back();
all_done(60, 'slots are free again: all complete');
like(slurp_file($node->logfile), qr/romancy got a background worker slot again/, 'which is said, too');

# one slot for two owners: neither starves
sql(q{CREATE ROLE a LOGIN; CREATE ROLE b LOGIN; SELECT romancy.grant_usage('a'), romancy.grant_usage('b')});
take(1);
load('a');
load('b');
all_done(100, 'with one slot two owners are served');
give_back();
$node->stop('fast');

# from the start: not even one
$node->append_conf('postgresql.conf', "max_worker_processes = 2\nmax_parallel_workers = 2");
$node->start;
load();
poll_until(sub { logged($full) == 3 }, 'max_worker_processes = 2: it says so');
usleep(1_000_000);
is(logged($full), 3, 'once');
cmp_ok(sql(q{CALL romancy.drain()}), '>=', 20, 'drain works');
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->restart;
all_done(120, 'all complete');
$node->stop('fast');
done_testing();
