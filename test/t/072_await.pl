# await_result and run_workflow: an instance that the engine pauses ends the wait with its error, at once; a timeout tells where the
# instance stands, its last error, and why workers do not run. It would catch a caller that waits for ever for an instance that is never run.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('await', 'romancy.worker_idle_timeout' => '0');
$node->safe_psql('postgres', q{
	CREATE FUNCTION misspells(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('no_such', i); END $$;
	CREATE FUNCTION refuses(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no luck' USING ERRCODE = 'P1234'; END $$;
	CREATE FUNCTION tries(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('refuses', i, retry => '{"initial_interval": "1h", "max_interval": "1h", "max_duration": null}'); END $$;
	CREATE FUNCTION echoes(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
	CREATE FUNCTION goes(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.receive('go'); RETURN romancy.activity('later', i); END $$;
});

# what psql says when it waits; without a timeout of its own
sub said
{
	my ($sql, $db) = @_;
	my ($out, $err) = ('', '');
	$node->psql($db // 'postgres', $sql, stdout => \$out, stderr => \$err, extra_params => ['-v', 'VERBOSITY=verbose']);
	return "$out$err";
}
sub row { return $node->safe_psql('postgres', $_[0]) }

# paused by the engine
like(said(q{CALL romancy.run_workflow('misspells')}), qr/ERROR:  RM001: activity "no_such" does not exist\n.*HINT:.*The instance is paused: when the cause is mended, romancy\.resume_workflow\('[-0-9a-f]{36}'\) goes on\./s,
	'run_workflow ends with the error of an instance that is paused');
my $id = row(q{SELECT instance_id FROM romancy.instances WHERE workflow = 'misspells'});
like(said("CALL romancy.await_result('$id')"), qr/ERROR:  RM001: /, 'and so does await_result');
row(q{CREATE FUNCTION no_such(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"mended"'; END $$});
is(said("SELECT romancy.resume_workflow('$id');\nCALL romancy.await_result('$id')"), "t\n\"mended\"", 'after resume_workflow, at once, it waits');

# one that is paused while a session waits
$id = row(q{SELECT romancy.start_workflow('goes')});
my $wait = $node->background_psql('postgres', on_error_stop => 0);
$wait->query_until(qr/begun/, "\\echo begun\nCALL romancy.await_result('$id');\n");
poll_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE 'CALL romancy.await%'}, 'somebody waits');
row("SELECT romancy.send_to('$id', 'go')");
poll_until(sub { $wait->{run}->pump_nb; $wait->{stderr} =~ /activity "later" does not exist/ }, 'and hears of it');
$wait->quit;

# a pause by hand is none of these
$id = row(q{SELECT romancy.start_workflow('goes')});
row("SELECT romancy.pause_workflow('$id')");
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", 'paused by hand', expected => 'paused');
like(said("CALL romancy.await_result('$id', '10ms')"), qr/RM006: timeout.*DETAIL:  It is paused, by \w+ since/s, 'the wait goes on, and its timeout says by whom');

# timeouts
$id = row(q{SELECT romancy.start_workflow('tries')});
poll_until($node, "SELECT kind FROM romancy.waiting WHERE instance_id = '$id'", 'it waits for its next attempt', expected => 'retry');
like(said("CALL romancy.await_result('$id', '10ms')"), qr/RM006: .*DETAIL:  It is waiting_for_activity, at step "refuses:1" \(retry\) since .* UTC, attempts: 1\. Its last error is P1234: no luck\.\n/s, 'a timeout tells the step and the last error');

# what keeps workers from running
row(q{ALTER SYSTEM SET romancy.enabled = off});
row(q{SELECT pg_reload_conf()});
poll_until($node, q{SHOW romancy.enabled}, 'no worker may run', expected => 'off');
like(said(q{CALL romancy.run_workflow('echoes', timeout => '10ms')}), qr/RM006: .*DETAIL:  It is pending since .*\. romancy\.enabled is off\.\n/s, 'the timeout says so');
like(said(q{CALL romancy.run_workflow('echoes', timeout => '1500ms')}), qr/WARNING:  RM010: workflows do not run in this database as things are\nDETAIL:  romancy\.enabled is off\.\n.*RM006/s, 'and after a second a warning does');
row(q{ALTER SYSTEM RESET romancy.enabled});
row(q{SELECT pg_reload_conf()});
is(said(q{CALL romancy.run_workflow('echoes', '1')}), '1', 'and then they run');

# a copy that was not adopted, with a live instance
$id = row(q{SELECT romancy.start_workflow('goes')});
$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
like(said("CALL romancy.await_result('$id', '10ms')", 'copy'), qr/DETAIL:.*of which this is a copy: see romancy\.adopt_database\(\)\./, 'a copy');

# no preload
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
like(said(q{CALL romancy.run_workflow('echoes', timeout => '10ms')}), qr/DETAIL:  It is pending.*romancy is not in shared_preload_libraries: no worker runs until it is added there and the server restarted\./, 'no preload');

# a place for no worker
$node->append_conf('postgresql.conf', qq{shared_preload_libraries = 'romancy'\nmax_worker_processes = 1\nmax_logical_replication_workers = 0\nmax_parallel_workers = 0});
$node->restart;
$id = row(q{SELECT romancy.start_workflow('echoes')});
poll_until($node, q{SELECT romancy.health() ->> 'healthy'}, 'a server without a place for a worker', expected => 'false');
like(said("CALL romancy.await_result('$id', '10ms')"), qr/DETAIL:  It is pending.*Work waits for a worker, and there is none to be had: raise max_worker_processes \(now 1\)\./, 'is told as well');
$node->stop;
done_testing();
