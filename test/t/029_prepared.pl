# Prepared transactions, other modules with hooks around ours, and no preload at all.
# It would catch starts that COMMIT PREPARED leaves lying about until a sweep, hooks and
# shared memory that are not chained, and an API that needs the launcher.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep time);

my $functions = q{
	CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('echo', $1); PERFORM romancy.sleep('50 ms'); RETURN romancy.activity('echo', $1); END $$;
	CREATE FUNCTION waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('30 days'); RETURN $1; END $$;
};
my @intervals = map { ("romancy.$_" => '1h') } qw(timer_interval message_timeout_interval
  message_check_interval lock_cleanup_interval resumption_interval activity_timeout_interval
  channel_cleanup_interval retention_interval schedule_interval outbox_interval);

# --- prepared transactions, with all sweeps at an hour

my $node = romancy_node('prepared', 'max_prepared_transactions' => 10, 'synchronous_commit' => 'on', 'romancy.worker_idle_timeout' => '300ms', @intervals);
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub status_is
{
	my ($labels, $expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, "SELECT string_agg(status, ' ') FROM romancy.instances WHERE labels ? '$labels'", $what, expected => $expected);
}
sql($functions);
sub prepare { return sql("BEGIN; SELECT romancy.start_workflow('steps', labels => '{\"$_[0]\": 1}'); PREPARE TRANSACTION '$_[0]'") }

prepare($_) for qw(a b c d);
usleep(500_000);
is(sql('SELECT count(*) FROM romancy.instances'), '0', 'what is prepared does not run');
sql("COMMIT PREPARED 'a'");
status_is('a', 'completed', 'COMMIT PREPARED starts it at once');
sql("ROLLBACK PREPARED 'b'");
is(sql(q{SELECT count(*) FROM romancy.instances WHERE labels ? 'b'}), '0', 'ROLLBACK PREPARED leaves nothing');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'the workers have left');
sql("COMMIT PREPARED 'c'");
status_is('c', 'completed', 'a worker comes for it');
$node->stop('immediate');
$node->start;
sql("COMMIT PREPARED 'd'");
status_is('d', 'completed', 'also after a crash');
# in one session, among other things
sql(qq{BEGIN; SELECT romancy.start_workflow('steps', labels => '{"e": 1}'); PREPARE TRANSACTION 'e'; BEGIN; SELECT romancy.start_workflow('steps', labels => '{"f": 1}'); COMMIT; COMMIT PREPARED 'e'});
status_is('e', 'completed', 'prepared, and another commit between');
status_is('f', 'completed', 'which runs, too');
# steering
my $id = sql(q{SELECT romancy.start_workflow('waits', labels => '{"w": 1}')});
status_is('w', 'waiting_for_timer', 'one sleeps');
sql("BEGIN; SELECT romancy.cancel_workflow('$id'); PREPARE TRANSACTION 'g'");
usleep(300_000);
status_is('w', 'waiting_for_timer', 'a cancel that is prepared');
sql("COMMIT PREPARED 'g'");
status_is('w', 'cancelled', 'counts when it is committed');
# CREATE EXTENSION in one, in another database
sql('CREATE DATABASE other');
$node->safe_psql('other', "$functions BEGIN; CREATE EXTENSION romancy; SELECT romancy.start_workflow('steps'); PREPARE TRANSACTION 'h'");
usleep(200_000);
$node->safe_psql('other', "COMMIT PREPARED 'h'");
poll_until($node, q{SELECT status = 'completed' FROM romancy.instances}, 'CREATE EXTENSION in a prepared transaction', dbname => 'other');
$node->stop('fast');

# --- other modules with hooks, loaded before and after ours

SKIP:
{
	my $lib = `pg_config --pkglibdir`;
	chomp $lib;
	$lib = do { local $_ = $ENV{PG_CONFIG} ? `$ENV{PG_CONFIG} --pkglibdir` : $lib; chomp; $_ };
	skip 'no contrib modules', 1 unless -f "$lib/pg_stat_statements.so" && -f "$lib/auto_explain.so";
	for my $order ('pg_stat_statements, romancy, auto_explain', 'auto_explain, romancy, pg_stat_statements', 'romancy, pg_stat_statements, auto_explain, pg_prewarm', 'pg_stat_statements, pg_prewarm, auto_explain, romancy')
	{
		$node->append_conf('postgresql.conf', "shared_preload_libraries = '$order'\nauto_explain.log_min_duration = 0\nauto_explain.log_nested_statements = on\npg_stat_statements.track = all");
		$node->start;
		sql('CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset()');
		is(sql(q{CALL romancy.run_workflow('steps', '1', timeout => '30s')}), '1', "$order: works");
		cmp_ok(sql(q{SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%run_workflow%'}), '>=', 1, 'pg_stat_statements counts');
		sql('CREATE DATABASE unrelated');
		$node->safe_psql('unrelated', 'CREATE EXTENSION romancy');
		sql('DROP DATABASE unrelated');
		$node->stop('fast');
	}
	like(slurp_file($node->logfile), qr/Query Text:.*romancy\.t_instance|duration: .*plan:/s, 'auto_explain sees the statements');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'romancy'");
}

# --- no preload: the API and drain work; one warning per session

my $bare = romancy_node('bare', _preload => 0);
is($bare->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'romancy%'}), '0', 'without preload no worker runs');
$bare->safe_psql('postgres', $functions);
my ($rc, $out, $err) = $bare->psql('postgres', q{
	SELECT romancy.start_workflow('steps', '1'); SELECT romancy.start_workflow('steps', '2'); SELECT romancy.start_workflow('steps', '3')});
is($rc, 0, 'starts work');
is(scalar(() = $err =~ /WARNING/g), 1, 'with one warning');
like($err, qr/shared_preload_libraries/, 'that says what to set');
is($bare->safe_psql('postgres', q{SELECT count(*) FROM romancy.instances WHERE status = 'pending'}), '3', 'they wait');
$bare->safe_psql('postgres', q{CALL romancy.drain(advance_time => true)});
is($bare->safe_psql('postgres', q{SELECT string_agg(status || output::text, ' ' ORDER BY output::text) FROM romancy.instances}), 'completed1 completed2 completed3', 'drain runs them');
$id = $bare->safe_psql('postgres', q{SET client_min_messages = error; SELECT romancy.start_workflow('waits')});
$bare->safe_psql('postgres', "SELECT romancy.pause_workflow('$id'); SELECT romancy.resume_workflow('$id'); SELECT romancy.cancel_workflow('$id', 'why not')");
$bare->safe_psql('postgres', q{CALL romancy.drain()});
is($bare->safe_psql('postgres', "SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'cancelled', 'steering works');
is($bare->safe_psql('postgres', q{SELECT count(*) FROM romancy.workers}), '0', 'view workers is empty');
cmp_ok($bare->safe_psql('postgres', q{SELECT count(*) FROM romancy.sweeps}), '>', 4, 'view sweeps is not');
is($bare->safe_psql('postgres', q{SELECT sum(romancy.run_sweep(name)) >= 0 FROM romancy.sweeps}), 't', 'sweeps can be run');
($rc, $out, $err) = $bare->psql('postgres', q{CALL romancy.run_workflow('steps', timeout => '200 ms')});
isnt($rc, 0, 'run_workflow has nobody to run it, and says so');
$bare->safe_psql('postgres', q{SET client_min_messages = error; DROP EXTENSION romancy CASCADE; CREATE EXTENSION romancy});
# preloaded later, what waits runs
$bare->safe_psql('postgres', q{SET client_min_messages = error; SELECT romancy.start_workflow('steps', '4')});
$bare->append_conf('postgresql.conf', "shared_preload_libraries = 'romancy'");
$bare->restart;
poll_until($bare, q{SELECT string_agg(status, ' ') FROM romancy.instances}, 'preloaded, what has waited runs', expected => 'completed');
$bare->stop('fast');
done_testing();
