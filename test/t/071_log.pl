# The lines of the server's log: a line for each instance that fails or is paused by the engine, with SQLSTATE, message and
# step and no payload; workflow, instance and step in the context of what user code writes; a message of a
# handler once, however often it is replayed; no ERROR, FATAL or PANIC when the server or a worker is told to stop.
# It would catch a failure that the log is silent about, a payload in it, and a line that is repeated.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('log', 'log_min_messages' => 'notice', 'log_statement' => 'none', 'log_min_error_statement' => 'panic', 'romancy.worker_idle_timeout' => '0');

$node->safe_psql('postgres', q{
	CREATE TABLE tries (n int);
	CREATE FUNCTION refuses(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'card declined' USING ERRCODE = 'P1234', DETAIL = 'detail'; END $$;
	CREATE FUNCTION fails(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('refuses', i, retry => '{"max_attempts": 2, "initial_interval": "1ms"}'); END $$;
	CREATE FUNCTION pauses(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('no_such_activity', i); END $$;
	CREATE FUNCTION speaks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'activity speaks'; RETURN i; END $$;
	CREATE FUNCTION talks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		RAISE NOTICE 'first words';
		PERFORM romancy.activity('speaks', i);
		RAISE WARNING 'second words';
		PERFORM romancy.sleep('1ms');
		RAISE LOG 'third words';
		PERFORM romancy.receive('go');
		RAISE NOTICE 'fourth words';
		PERFORM romancy.await(romancy.spawn('speaks', i));
		RAISE NOTICE 'fifth words';
		PERFORM romancy.activity('speaks', i);
		RAISE NOTICE 'last words';
		RETURN i;
	END $$;
});

sub row { return $node->safe_psql('postgres', $_[0]) }
sub start { return row("SELECT romancy.start_workflow('$_[0]', '{\"secret\": \"hush\"}')") }
sub status_is { my ($id, $status, $what) = @_; poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", $what, expected => $status) }
sub written { my $log = slurp_file($node->logfile); my $n = () = $log =~ /$_[0]/g; return $n }

# failures and pauses
my $id = start('fails');
status_is($id, 'failed', 'an instance fails');
poll_until(sub { written(qr/$id/) }, 'the log tells of it');
is(written(qr/LOG:  workflow "fails", instance $id failed at step "refuses:1": P1234: card declined\n/), 1, 'once, with its step, SQLSTATE and message');
$id = start('pauses');
status_is($id, 'paused', 'an instance is paused by the engine');
poll_until(sub { written(qr/$id/) }, 'the log tells of it');
is(written(qr/LOG:  workflow "pauses", instance $id is paused at step "no_such_activity:1": RM001: activity "no_such_activity" does not exist\n.*HINT:  Mend the cause, then call romancy.resume_workflow\('$id'\)\.\n/), 1, 'with what to do');
row("SELECT romancy.pause_workflow('" . (my $by_hand = row(q{SELECT romancy.start_workflow('talks', start_at => now() + interval '1 day')})) . "')");
status_is($by_hand, 'paused', 'one that is paused by hand');

# user code
$id = start('talks');
status_is($id, 'waiting_for_message', 'a handler that talks');
row("SELECT romancy.send_to('$id', 'go', '1')");
status_is($id, 'completed', 'comes to its end');
for my $words ('first words', 'second words', 'third words', 'fourth words', 'fifth words', 'last words')
{
	is(written(qr/\Q$words\E\n/), 1, "$words: once");
}
cmp_ok(written(qr/activity speaks\n/), '>=', 3, 'the activity as often as it ran');
is(written(qr/NOTICE:  first words\n.*CONTEXT:  PL\/pgSQL function talks\(jsonb\) line 3 at RAISE\n\tromancy workflow "talks", instance $id\n/), 1, 'context of a handler');
is(written(qr/WARNING:  activity speaks\n.*CONTEXT:  PL\/pgSQL function speaks\(jsonb\) line 1 at RAISE\n\tromancy workflow "talks", instance $id, step "speaks:1"\n/) > 0, 1, 'context of an activity');
is(written(qr/step "speaks:2"\n/), 1, 'and of a task');
is(written(qr/$by_hand/), 0, 'a pause by hand is no failure');

# off
row(q{ALTER SYSTEM SET romancy.log_failures = off});
row(q{SELECT pg_reload_conf()});
# (a worker that has the new setting has run a turn after it)
poll_until($node, q{SELECT bool_and(pg_terminate_backend(pid, 5000)) FROM romancy.workers WHERE kind = 'executor'}, 'executors are told to leave');
$id = start('fails');
status_is($id, 'failed', 'an instance fails');
$node->stop;
is(written(qr/$id/), 0, 'and with romancy.log_failures off nothing is written');
is(written(qr/hush/), 0, 'no payload in the log');
# (a session of the test's own may still be ending when the server stops)
my @errors = grep { !/ 071_log.pl FATAL:  terminating connection/ } slurp_file($node->logfile) =~ /^.*(?:ERROR|PANIC|FATAL):.*$/mg;
is(join("\n", @errors), '', 'no error, of workers that were told to leave either');

done_testing();
