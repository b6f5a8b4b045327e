# A standby runs nothing, and answers; when it is promoted, its workers start by
# themselves and go on where the primary was. Synchronous commit, so that nothing that
# the primary had confirmed is lost. It would catch workers that start on a standby, or
# that need a restart after a promotion.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep);

my $primary = romancy_node('primary', _init => [ allows_streaming => 1 ], 'romancy.timer_interval' => '500ms', 'romancy.worker_idle_timeout' => '2s');
sub sql { return ($_[1] // $primary)->safe_psql('postgres', $_[0]) }
sql(q{
	CREATE TABLE effect (instance uuid, step int);
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect VALUES (romancy.instance_id(), ($1 #>> '{}')::int); RETURN $1; END $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note', '1');
		PERFORM romancy.sleep(($1 #>> '{}')::interval);
		PERFORM romancy.activity('note', '2');
		PERFORM romancy.sleep('100 ms');
		RETURN romancy.activity('note', '3');
	END $$;
});
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->start;
sql(q{ALTER SYSTEM SET synchronous_standby_names = '*'; ALTER SYSTEM SET synchronous_commit = on});
$primary->reload;
poll_until($primary, q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}, 'the standby is synchronous');

sql(q{SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"1 ms"'::jsonb FROM generate_series(1, 20)))});
sql(q{SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"15 s"'::jsonb FROM generate_series(1, 20)))});
sql(q{SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"30 days"'::jsonb FROM generate_series(1, 3)))});
poll_until($primary, q{SELECT count(*) = 20 FROM romancy.instances WHERE status = 'completed'}, 'the primary works');
poll_until($primary, q{SELECT count(*) = 23 FROM romancy.instances WHERE status = 'waiting_for_timer'}, 'the rest sleeps');
poll_until($standby, q{SELECT count(*) = 23 FROM romancy.instances WHERE status = 'waiting_for_timer'}, 'the standby sees it');

is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'romancy%'}, $standby), '0', 'no worker runs on the standby');
is(sql(q{SELECT count(*) FROM romancy.workers}, $standby), '0', 'nor in the view');
is(sql(q{SELECT count(*) > 4 FROM romancy.sweeps}, $standby), 't', 'views can be read');
is(sql(q{SELECT count(*) > 0 FROM romancy.instances i, romancy.get_history(i.instance_id)}, $standby), 't', 'and histories');
is(sql(q{SELECT romancy.get_result(instance_id) FROM romancy.instances WHERE status = 'completed' LIMIT 1}, $standby), '3', 'and results');
for my $call (q{SELECT romancy.start_workflow('steps', '1')}, q{SELECT romancy.cancel_workflow(instance_id) FROM romancy.instances WHERE status = 'waiting_for_timer' LIMIT 1},
	q{CALL romancy.drain()}, q{SELECT romancy.publish('c', '1')}, q{SELECT romancy.run_sweep('retention')}, q{SELECT romancy.adopt_database()}, q{CALL romancy.run_workflow('steps')})
{
	my ($rc, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY sqlstate\n$call");
	like($err, qr/25006|RM|55000/, "$call: an error on a standby") unless $call =~ /drain/ && $rc == 0;
}
ok($standby->safe_psql('postgres', 'SELECT true'), 'which is alive');

# the primary dies in the middle of work
sql(q{SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"100 ms"'::jsonb FROM generate_series(1, 100)))});
$primary->stop('immediate');
$standby->promote;
poll_until($standby, q{SELECT count(*) = 140 FROM romancy.instances WHERE status = 'completed'}, 'promoted, it goes on: all complete');
is(sql(q{SELECT count(*), count(DISTINCT (instance, step)) FROM effect}, $standby), '423|423', 'each step once');
is(sql(q{SELECT count(*) FROM romancy.instances WHERE status = 'waiting_for_timer'}, $standby), '3', 'and the rest sleeps on');
is(sql(q{SET synchronous_commit = local; CALL romancy.run_workflow('steps', '"1 ms"', timeout => '30s')}, $standby), '3', 'new work runs');
unlike(slurp_file($standby->logfile), qr/do not run in database/, 'it is no copy');
$standby->stop('fast');
done_testing();
