# An endless loop, a blocked statement, a dropped owner, a dropped handler and a
# process that dies again and again stop that instance alone; a cancel interrupts
# the running statement, and never another instance's.
# It would catch an instance that takes others down with it, or the worker.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('limits', 'restart_after_crash' => 'on', 'synchronous_commit' => 'on', 'romancy.evaluation_timeout' => '1s');
$node->safe_psql('postgres', q{
	CREATE TABLE t (i int);
	CREATE TABLE locked (i int);
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (1); RETURN $1; END $$;
	CREATE FUNCTION fine(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('put', $1); END $$;
	CREATE FUNCTION loops(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN LOOP END LOOP; END $$;
	CREATE FUNCTION catches(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN LOOP BEGIN PERFORM pg_sleep(10); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
	CREATE FUNCTION naps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN $1; END $$;
	CREATE FUNCTION long(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('naps', $1); END $$;
	CREATE FUNCTION blocks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN LOCK TABLE locked; RETURN $1; END $$;
	CREATE FUNCTION blocked(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('blocks', $1); END $$;
	CREATE FUNCTION dies(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid()); PERFORM pg_sleep(60); RETURN $1; END $$;
	CREATE FUNCTION crashes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('dies', $1); END $$;
	SELECT romancy.define_activity('naps1', handler => 'naps(jsonb)', start_to_close_timeout => '300ms', retry => '{"max_attempts": 1}');
	SELECT romancy.define_activity('stubborn', handler => 'catches(jsonb)', start_to_close_timeout => '200ms', retry => '{"max_attempts": 1}');
	CREATE FUNCTION tries_stubborn(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('put', $1);
		RETURN romancy.activity('stubborn', $1);
	EXCEPTION WHEN OTHERS THEN RETURN to_jsonb(sqlstate || ' ' || sqlerrm); END $$;
	CREATE FUNCTION spawns_stubborn(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.await(romancy.spawn('stubborn', $1)); EXCEPTION WHEN OTHERS THEN RETURN to_jsonb(sqlstate || ' ' || sqlerrm); END $$;
	CREATE FUNCTION limited(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.activity('naps1', $1); EXCEPTION WHEN OTHERS THEN RETURN to_jsonb(sqlstate || ' ' || sqlerrm); END $$;
});

sub start { my ($name, $more) = @_; $more //= ''; return $node->safe_psql('postgres', "SELECT romancy.start_workflow('$name'$more)"); }
sub status_is
{
	my ($id, $status, $state, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, "SELECT status || ' ' || coalesce(error->>'sqlstate', '-') FROM romancy.instances WHERE instance_id = '$id'", $what, expected => "$status $state");
}

my $loops = start('loops');
my $catches = start('catches');
my $limited = start('loops', ", execution_timeout => '500ms'");
is($node->safe_psql('postgres', q{CALL romancy.run_workflow('fine', '1', timeout => '30s')}), '1', 'others keep running');
status_is($loops, 'failed', 'RM011', 'an endless loop is stopped');
status_is($limited, 'failed', 'RM006', 'by its execution_timeout if that is nearer');
status_is($catches, 'failed', 'RM011', 'also one that catches every cancel');
is($node->safe_psql('postgres', q{CALL romancy.run_workflow('limited', timeout => '30s')}),
	'"RM006 activity \"naps1\" exceeded its start_to_close_timeout"', 'start_to_close_timeout can be caught');
# also where the activity catches every cancel; and its process runs others as before
my $puts = $node->safe_psql('postgres', 'SELECT count(*) FROM t');
for my $workflow ('tries_stubborn', 'spawns_stubborn')
{
	is($node->safe_psql('postgres', qq{CALL romancy.run_workflow('$workflow', timeout => '120s')}),
		'"RM006 activity \"stubborn\" exceeded its start_to_close_timeout"', "$workflow: by one that catches the cancel, too");
	is($node->safe_psql('postgres', q{CALL romancy.run_workflow('fine', '2', timeout => '30s')}), '2', 'others run after it') for 1 .. 3;
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), $puts + 7, 'and what was done before it is done once');
my $nap = start('long', ", execution_timeout => '500ms'");
status_is($nap, 'failed', 'RM006', 'execution_timeout inside an activity');

# cancel interrupts: a sleeping one, one that waits for a lock, and no other
my ($a, $b) = (start('long'), start('long'));
poll_until($node, q{SELECT count(*) = 2 FROM romancy.workers WHERE kind = 'executor' AND state = 'running' AND instance_id IS NOT NULL}, 'two statements run');
is($node->safe_psql('postgres', "SELECT romancy.cancel_workflow('$a', 'enough')"), 't', 'cancel says it was live');
status_is($a, 'cancelled', 'RM008', 'a running statement is interrupted');
is($node->safe_psql('postgres', "SELECT error->>'message' FROM romancy.instances WHERE instance_id = '$a'"), 'enough', 'with its reason');
is($node->safe_psql('postgres', "SELECT status FROM romancy.instances WHERE instance_id = '$b'"), 'running', 'the other one goes on');
is($node->safe_psql('postgres', "SELECT romancy.terminate_workflow('$b')"), 't', 'terminate');
status_is($b, 'cancelled', 'RM008', 'ends it as well');
my $s = $node->background_psql('postgres');
$s->query_safe('BEGIN'); $s->query_safe('LOCK TABLE locked');
my $c = start('blocked');
poll_until($node, q{SELECT count(*) > 0 FROM pg_locks WHERE NOT granted}, 'it waits for a lock');
is($node->safe_psql('postgres', q{CALL romancy.run_workflow('fine', '2', timeout => '30s')}), '2', 'others keep running');
$node->safe_psql('postgres', "SELECT romancy.cancel_workflow('$c')");
status_is($c, 'cancelled', 'RM008', 'a lock wait is interrupted');
$s->query_safe('ROLLBACK'); $s->quit;
$s = $node->background_psql('postgres');
my $d = start('long');
poll_until($node, qq{SELECT count(*) = 1 FROM romancy.workers WHERE instance_id = '$d'}, 'it runs');
$s->query_safe('BEGIN'); $s->query_safe("SELECT romancy.cancel_workflow('$d')"); $s->query_safe('ROLLBACK'); $s->quit;
is($node->safe_psql('postgres', "SELECT status FROM romancy.instances WHERE instance_id = '$d'"), 'running', 'a cancel that is rolled back changes nothing');
$node->safe_psql('postgres', "SELECT romancy.terminate_workflow('$d')");
status_is($d, 'cancelled', 'RM008', 'ended');

# dropped handler, lost right, dropped owner: paused, and mended
$node->safe_psql('postgres', q{
	CREATE FUNCTION waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('10 s'); RETURN '1'; END $$;
	CREATE ROLE bob; SELECT romancy.grant_usage('bob'); GRANT CREATE ON SCHEMA public TO bob;
});
my ($e, $f) = split /\n/, $node->safe_psql('postgres', q{SELECT romancy.start_workflow('waits'); SET ROLE bob; SELECT romancy.start_workflow('waits')});
poll_until($node, q{SELECT count(*) = 2 FROM romancy.instances WHERE status = 'waiting_for_timer'}, 'both wait');
$node->safe_psql('postgres', q{ALTER FUNCTION waits(jsonb) RENAME TO gone; SELECT romancy.revoke_usage('bob'); DROP OWNED BY bob; DROP ROLE bob});
status_is($e, 'paused', 'RM001', 'a missing handler pauses');
status_is($f, 'paused', '42704', 'a missing owner pauses');
$node->safe_psql('postgres', "ALTER FUNCTION gone(jsonb) RENAME TO waits; CREATE ROLE bob; SELECT romancy.grant_usage('bob'); SELECT romancy.resume_workflow('$e'), romancy.resume_workflow('$f')");
status_is($e, 'completed', '-', 'and goes on when it is back');
status_is($f, 'completed', '-', 'the owner likewise');

# a turn that takes its process with it
my $g = start('crashes');
status_is($g, 'paused', 'RM011', 'a turn whose process died three times is paused');
is($node->safe_psql('postgres', q{CALL romancy.run_workflow('fine', '3', timeout => '60s')}), '3', 'and the rest goes on');
$node->stop('fast');
done_testing();
