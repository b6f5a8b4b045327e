# The reference workers of examples/workers, where their languages and drivers are at hand:
# activities with errors and retries, a workflow written outside, a graceful stop; and
# examples/hands_on with its count of statements. At rest, workers blocked in
# poll_activities cost no transaction and no WAL.
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

my $examples = "$FindBin::RealBin/../../examples";
my $node = romancy_node('workers', 'romancy.worker_idle_timeout' => '1s', 'max_connections' => 100, 'autovacuum' => 'off');
my $conninfo = $node->connstr('postgres');
my %languages;

$languages{py} = [ '/usr/bin/python3' ] if -x '/usr/bin/python3' && system('/usr/bin/python3 -c "import psycopg" 2>/dev/null') == 0;
# node finds pg in NODE_PATH, or where npm put it for these tests
$languages{js} = [ 'node' ] if system('node -e "require(\'pg\')" 2>/dev/null') == 0;

$node->safe_psql('postgres', q{
	SELECT romancy.define_activity('work', queue => 'jobs', retry => '{"initial_interval": "20ms", "max_attempts": 3}');
	SELECT romancy.define_activity('upper', queue => 'jobs');
	SELECT romancy.define_workflow('greet', queue => 'code');
	CREATE FUNCTION one(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('work', i); END $$;
});

for my $ext (sort keys %languages)
{
	my @procs;
	my $target = $ext eq 'py' ? $conninfo : sprintf('postgres:///postgres?host=%s&port=%s&user=%s', $node->host, $node->port, $ENV{PGUSER} // getpwuid($<));
	for my $what ([ 'activity_worker', 'jobs' ], [ 'workflow_worker', 'code' ])
	{
		my $log = $node->basedir . "/$what->[0].$ext.log";
		push @procs, IPC::Run::start([ @{ $languages{$ext} }, "$examples/workers/$what->[0].$ext", $target, $what->[1] ], '>', $log, '2>', $log);
	}
	my $id = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('greet', '{"name": "you", "upper": true}')});
	is($node->safe_psql('postgres', "CALL romancy.await_result('$id', '20s')"), '{"text": "HELLO, YOU"}', "$ext: a workflow outside, with an activity outside");
	$id = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('one', '{"n": 1, "fail": 1}')});
	is($node->safe_psql('postgres', "CALL romancy.await_result('$id', '20s')"), '{"n": 1, "attempt": 2}', "$ext: an activity that fails once");
	$id = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('one', '{"n": 2, "never": true}')});
	my ($rc, $out, $err) = $node->psql('postgres', "CALL romancy.await_result('$id', '20s')");
	like($err, qr/this one never works/, "$ext: an error that is not tried again");
	is($node->safe_psql('postgres', "SELECT error->>'code' FROM romancy.instances WHERE instance_id = '$id'") =~ /^$|NonRetryable/, 1, "$ext: with its name");
	$_->signal('TERM') for @procs;
	my $deadline = time + 10;
	my $left = 2;
	while ($left && time < $deadline)
	{
		$left = grep { $_->pumpable } @procs;
		usleep(50_000);
		eval { $_->pump_nb } for @procs;
	}
	eval { $_->finish } for @procs;
	pass("$ext: workers stop when asked");
}

# 20 blocked workers and nothing to do
my @idle = map { my ($i, $o, $e) = ('', '', ''); IPC::Run::start([ 'psql', '-XqAt', '-d', $conninfo, '-c', "call romancy.poll_activities('quiet', 'w$_', wait => '1h')" ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null') } 1 .. 20;
poll_until($node, q{SELECT count(*) = 20 FROM pg_stat_activity WHERE query LIKE 'call romancy.poll%' AND wait_event IS NOT NULL AND backend_xmin IS NULL AND state = 'active'}, 'twenty workers wait without a snapshot');
poll_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'romancy%' AND backend_type <> 'romancy launcher'}, 'romancy itself has come to rest');
my $look = q{SELECT pg_stat_clear_snapshot(), (SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database), pg_current_wal_insert_lsn()};
usleep(1_500_000);
my ($before) = $node->safe_psql('template1', 'CHECKPOINT; ' . q{SELECT pg_current_wal_insert_lsn()});
usleep(3_000_000);
my $moved = $node->safe_psql('template1', "SELECT pg_current_wal_insert_lsn() - '$before'::pg_lsn");
cmp_ok($moved, '<', 500, 'while they wait nothing writes WAL');
$node->safe_psql('postgres', q{SELECT romancy.define_activity('quick', queue => 'quiet'); CREATE FUNCTION two(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('quick', i); END $$; SELECT romancy.start_workflow('two', '1')});
poll_until($node, q{SELECT count(*) = 19 FROM pg_stat_activity WHERE query LIKE 'call romancy.poll%' AND state = 'active'}, 'one task wakes one of them');
kill 'KILL', map { $_->{KIDS}[0]{PID} } @idle;
eval { $_->finish } for @idle;

SKIP:
{
	skip 'python3-psycopg is not installed', 2 unless $languages{py};
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
	my $out = qx{$examples/hands_on/run.sh 2>&1};
	like($out, qr/project: done, 62 results/, 'the hands-on project is done');
	my ($statements) = $out =~ /^statements: (\d+)/m;
	cmp_ok($statements // 99999, '<', 400, 'for less than 400 statements') or diag($out);
}
done_testing();
