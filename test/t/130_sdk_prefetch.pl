# A worker of each library takes more than it has places for (prefetch), keeps the leases of what waits, and gives back what was not begun when it
# is asked to stop: at once, and no attempt is charged. One with a single place serves both workflows and activities. And what it runs knows the time that its
# schedule's run is for. Would catch a task that is kept by a worker that has ended, or that is tried twice.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancySdk;
use RomancyTest;
use Test::More;

my $node = romancy_node('sdk_prefetch', 'max_connections' => 100, 'autovacuum' => 'off');
my @languages = sdk_languages();
sub sql { return $node->safe_psql('postgres', $_[0]) }
my $holder = $node->background_psql('postgres');

for my $language (@languages)
{
	my $role = "fetch_$language";
	my $as = "SET SESSION AUTHORIZATION $role; ";
	my $log = $node->basedir . "/$language.log";
	my $launch = sub { my %env = @_; local @ENV{ keys %env } = values %env; return sdk_start(sdk_url($node, $role), $log, sdk_command($language, 'worker', 'held', 'held')) };
	sql("CREATE ROLE $role LOGIN; SELECT romancy.grant_usage('$role')");
	sql("$as SELECT romancy.define_activity('held', queue => 'held')");
	sql("CREATE FUNCTION $role(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.map('held', '[1, 2, 3, 4, 5, 6, 7, 8]'); END \$\$");
	my $tasks = "SELECT string_agg(format('%s %s', status, n), ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM romancy.activity_tasks WHERE owner = '$role' GROUP BY 1) t";
	my $began = "SELECT count(*) = 2 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.objid = 42 AND NOT l.granted AND a.usename = '$role'";

	$holder->query_safe('SELECT pg_advisory_lock(42)');
	my $id = sql("$as SELECT romancy.start_workflow('$role')");
	poll_until($node, "SELECT ($tasks) = 'ready 8'", "$language: there are eight tasks");
	my $proc = $launch->(ROMANCY_TEST_CONCURRENCY => 2, ROMANCY_TEST_PREFETCH => 3);
	poll_until($node, $began, "$language: two have begun") or diag(slurp_file($log));
	# (one poll takes four; where another was under way, it has got four more)
	poll_until($node, "SELECT count(*) >= 4 FROM romancy.activity_tasks WHERE owner = '$role' AND status = 'running'", "$language: more of them are claimed");
	$proc->signal('TERM');
	poll_until($node, "SELECT ($tasks) = 'ready 6, running 2'", "$language: what was not begun is given back when it is asked to stop") or diag(sql($tasks), slurp_file($log));
	$holder->query_safe('SELECT pg_advisory_unlock(42)');
	# (a second signal would end it at once)
	is(sdk_ended($proc), 'ended', "$language: it ends when the others have ended") or diag(slurp_file($log));
	$proc = $launch->(ROMANCY_TEST_CONCURRENCY => 1);
	is(sql("$as CALL romancy.await_result('$id', '90 s')"), '[1, 2, 3, 4, 5, 6, 7, 8]', "$language: another worker runs the rest");
	is(sql("SELECT count(*) FROM romancy.get_history('$id') WHERE event_type = 'ActivityCompleted' AND coalesce((data #>> '{retry,total_attempts}')::int, 1) = 1"),
		'8', "$language: each was tried once");

	sql("$as SELECT romancy.schedule('yearly', '0 0 1 1 *', 'planned')");
	sql("$as SELECT romancy.backfill_schedule('yearly', '2026-01-01 00:00Z', '2026-01-01 12:00Z')");
	my $run = sql("SELECT instance_id FROM romancy.instances WHERE owner = '$role' AND workflow = 'planned'");
	is(sql("$as CALL romancy.await_result('$run', '90 s')"), '[1767225600, 1767225600]', "$language: the time that a schedule's run is for, in a workflow and in an activity");
	$run = sql("$as SELECT romancy.start_workflow('planned')");
	is(sql("$as CALL romancy.await_result('$run', '90 s')"), '[0, 0]', "$language: there is none in other instances");
	is(sdk_stop($proc), 'ended', "$language: the worker ends when asked") or diag(slurp_file($log));
}
$holder->quit;
$node->stop('fast');
done_testing();
