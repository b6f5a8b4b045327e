# With all sweep intervals at an hour everything still happens at once or at its
# time: starts, sleeps, retries, work found after a crash restart. It would catch
# wake-ups that rest on sweeps, and deadlines that live in shared memory alone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('wake',
	'restart_after_crash' => 'on',
	'synchronous_commit' => 'on',
	map { ("romancy.$_" => '1h') } qw(timer_interval message_timeout_interval
	  message_check_interval lock_cleanup_interval resumption_interval activity_timeout_interval
	  channel_cleanup_interval retention_interval schedule_interval outbox_interval));

$node->safe_psql('postgres', q{
	CREATE TABLE t (who text, at timestamptz DEFAULT clock_timestamp());
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO t VALUES ($1 #>> '{}'); RETURN $1; END $$;
	CREATE FUNCTION flaky(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF romancy.attempt() < 3 THEN RAISE EXCEPTION 'not yet'; END IF;
		RETURN to_jsonb(romancy.attempt());
	END $$;
	CREATE FUNCTION plain(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.activity('put', '"plain"'); END $$;
	CREATE FUNCTION sleeper(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.sleep(($1 #>> '{}')::interval); RETURN romancy.activity('put', '"slept"'); END $$;
	CREATE FUNCTION retries(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.activity('flaky', retry => '{"initial_interval": "200ms"}'); END $$;
});

is($node->safe_psql('postgres', q{CALL romancy.run_workflow('plain', timeout => '30s')}), '"plain"', 'a start runs at once');
is($node->safe_psql('postgres', q{CALL romancy.run_workflow('sleeper', '"1s"', timeout => '30s')}), '"slept"', 'a sleep ends');
is($node->safe_psql('postgres', q{
	SELECT extract(epoch FROM i.finished_at - i.created_at) BETWEEN 1 AND 30 FROM romancy.instances i WHERE workflow = 'sleeper'}),
	't', 'and not before its time');
is($node->safe_psql('postgres', q{CALL romancy.run_workflow('retries', timeout => '30s')}), '3', 'retries happen');
my $later = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('plain', start_at => now() + interval '1 s')});
is($node->safe_psql('postgres', qq{CALL romancy.await_result('$later', '30s')}), '"plain"', 'start_at');

# across a crash restart: a sleeper, a retry and a start that no worker has taken
my ($sleeper, $due) = split /\n/, $node->safe_psql('postgres', q{
	SELECT romancy.start_workflow('sleeper', '"6s"');
	SELECT romancy.start_workflow('sleeper', '"100ms"')});
poll_until($node, qq{SELECT status = 'waiting_for_timer' FROM romancy.instances WHERE instance_id = '$sleeper'}, 'it sleeps');
$node->kill9;
start_again($node);
poll_until($node, qq{SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$due'}, 'a timer that came due while the server was down');
poll_until($node, qq{SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$sleeper'}, 'a timer that was set before the crash');

# a transaction that stays open, and rollbacks
my $s = $node->background_psql('postgres');
$s->query_safe(q{BEGIN});
$s->query_safe(q{SELECT romancy.start_workflow('plain', labels => '{"tx": "open"}')});
$s->query_safe(q{SAVEPOINT a});
$s->query_safe(q{SELECT romancy.start_workflow('plain', labels => '{"tx": "savepoint"}')});
$s->query_safe(q{ROLLBACK TO a});
is($node->safe_psql('postgres', q{SELECT count(*) FROM romancy.instances WHERE labels ? 'tx'}), '0', 'an open transaction shows nothing');
$s->query_safe(q{COMMIT});
$s->query_safe(q{BEGIN});
$s->query_safe(q{SELECT romancy.start_workflow('plain', labels => '{"tx": "rolled back"}')});
$s->query_safe(q{ROLLBACK});
$s->quit;
poll_until($node, q{SELECT status = 'completed' FROM romancy.instances WHERE labels = '{"tx": "open"}'}, 'it runs when it commits');
is($node->safe_psql('postgres', q{SELECT count(*) FROM romancy.instances WHERE labels ? 'tx'}), '1', 'rolled back starts left nothing');
# a handle that stands in await_all() twice ends but once
$node->safe_psql('postgres', q{
	CREATE FUNCTION awaits_twice(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE h text := romancy.spawn('awaited', '1');
	BEGIN RETURN to_jsonb(romancy.await_all(ARRAY[h, h])); END $$;
	CREATE FUNCTION awaited(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
});
my $twice = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('awaits_twice')});
poll_until($node, qq{SELECT output = '[1, 1]' FROM romancy.instances WHERE instance_id = '$twice'}, 'the end of a handle that is awaited twice wakes');

$node->stop('fast');
done_testing();
