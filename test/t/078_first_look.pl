# Mistakes of a new user, and things that a server has too little of: each time the first look (the view waiting, health(), the
# log) names the cause and what to do. It would catch a workflow that stands still in silence.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# A server whose disk can be filled: a small file system of its own, in a mount namespace that needs no privilege.
my $disk = PostgreSQL::Test::Utils::tempdir() . '/disk';
my $bin = PostgreSQL::Test::Utils::tempdir();
mkdir $disk or BAIL_OUT("mkdir: $!");
my ($uid, $gid) = ($<, $( + 0);
my ($own, $no_disk) = ('', '');
chomp(my $pg_ctl = `sh -c 'command -v pg_ctl'`);
append_to_file("$bin/pg_ctl", <<"SH");
#!/bin/sh
case " \$* " in
*" start "*) exec unshare -Urm sh -c 'mount -t tmpfs -o size=12m,mode=0700 tmpfs "$disk" && exec unshare -U --map-user=$uid --map-group=$gid "\$\@"' sh "$pg_ctl" "\$\@" ;;
*) exec "$pg_ctl" "\$\@" ;;
esac
SH
chmod 0755, "$bin/pg_ctl";
if ($uid == 0
	|| !IPC::Run::run([ 'unshare', '-Urm', 'sh', '-c', qq(mount -t tmpfs -o size=1m,mode=0700 tmpfs "$disk" && exec unshare -U --map-user=$uid --map-group=$gid stat -c %u "$disk") ], '>', \$own, '2>', \$no_disk)
	|| $own ne "$uid\n")
{
	$no_disk = 'this system gives no file system to a user: ' . ($no_disk || 'the owner differs');
}

my %conf = ('romancy.retry_backoff_max' => '20ms', 'romancy.max_workers' => 3, 'romancy.executors' => 2);
my $node = romancy_node('first_look', %conf, '_start' => 0);
my $path = $ENV{PATH};
$ENV{PATH} = "$bin:$path" unless $no_disk;
$node->start;
$ENV{PATH} = $path;

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub logged { return slurp_file($node->logfile) }
# what has waited for more than a minute is told too, beside the cause: that depends on how quick this machine is
sub problems { return sql(q{SELECT string_agg(p, E'\n') FROM jsonb_array_elements_text(romancy.health() -> 'problems') p WHERE p NOT LIKE '% been due for %'}) }
sub attention { return sql(q{SELECT string_agg(p, E'\n') FROM jsonb_array_elements_text(romancy.health() -> 'attention') p}) }

# first_look($workflow, $sqlstate, $message, $to_do): the instance that was started last is paused by the engine with this error, and waiting,
# health() and the log say so
sub first_look
{
	my ($workflow, $sqlstate, $message, $to_do) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, qq{SELECT kind = 'paused' AND paused_by = 'romancy' FROM romancy.waiting WHERE workflow = '$workflow'}, "$workflow is paused");
	like(sql(qq{SELECT error ->> 'sqlstate' || ': ' || (error ->> 'message') FROM romancy.waiting WHERE workflow = '$workflow'}), qr/^$sqlstate: $message/, "$workflow: the cause");
	like(sql(qq{SELECT error ->> 'hint' FROM romancy.waiting WHERE workflow = '$workflow'}), $to_do, 'what to do');
	is(attention(), q{1 instance is paused by the engine: see romancy.waiting, paused_by = 'romancy'}, 'health() asks for a human');
	my $id = sql(qq{SELECT instance_id FROM romancy.waiting WHERE workflow = '$workflow'});
	like(logged(), qr/LOG:  workflow "$workflow", instance $id is paused[^\n]*: $sqlstate: $message.*\n.*HINT:  Mend the cause, then call romancy\.resume_workflow\('$id'\)\./, 'the log says so');
	return $id;
}

# goes_on($id): mended and resumed, it completes
sub goes_on
{
	my ($id) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql("SELECT romancy.resume_workflow('$id')");
	poll_until($node, "SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$id'", 'mended and resumed, it completes');
	is(attention(), '', 'and health() asks for nothing');
	return;
}

sql(q{
	CREATE EXTENSION romancy;
	CREATE FUNCTION charge(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
});

# --- a typo in an activity's name
sql(q{CREATE FUNCTION typo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('chrage', $1); END $$; SELECT romancy.start_workflow('typo', '1')});
my $id = first_look('typo', 'RM001', 'activity "chrage" does not exist', qr/^Did you mean "charge"\?/);
sql(q{CREATE OR REPLACE FUNCTION typo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('charge', $1); END $$});
goes_on($id);

# --- a typo in an activity's body: a fault of the code is not tried again
sql(q{CREATE TABLE paid (amount int);
	CREATE FUNCTION pay(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO paid (amuont) VALUES (1); RETURN $1; END $$;
	CREATE FUNCTION body(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('pay', $1); END $$});
$id = sql(q{SELECT romancy.start_workflow('body', '1')});
poll_until($node, qq{SELECT status = 'failed' FROM romancy.instances WHERE instance_id = '$id'}, 'a typo in a body');
like(sql(qq{SELECT error ->> 'message', error ->> 'context' FROM romancy.instances WHERE instance_id = '$id'}), qr/^column "amuont" of relation "paid" does not exist\|PL\/pgSQL function pay\(jsonb\) line 1/, 'the cause and the line');
like(logged(), qr/LOG:  workflow "body", instance $id failed at step "pay:1": 42703: column "amuont" of relation "paid" does not exist/, 'in the log, too');
is(sql(qq{SELECT coalesce(data #>> '{retry,total_attempts}', '1') FROM romancy.get_history('$id') WHERE event_type = 'ActivityFailed'}), '1', 'it was not tried again');

# --- functions that were dropped
sql(q{CREATE FUNCTION gone(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.receive('go'); RETURN romancy.activity('charge', $1); END $$});
$id = sql(q{SELECT romancy.start_workflow('gone', '1')});
poll_until($node, qq{SELECT status = 'waiting_for_message' FROM romancy.instances WHERE instance_id = '$id'}, 'it waits');
sql(qq{DROP FUNCTION gone(jsonb); SELECT romancy.send_to('$id', 'go')});
first_look('gone', 'RM001', 'function public\.gone\(jsonb\) of workflow "gone" does not exist', qr/^Create the function again, or define the workflow with another one\.$/);
sql(q{CREATE FUNCTION gone(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.receive('go'); RETURN romancy.activity('charge', $1); END $$});
goes_on($id);

sql(q{CREATE FUNCTION take(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1'; SELECT romancy.define_activity('take_it', 'take(jsonb)'); DROP FUNCTION take(jsonb);
	CREATE FUNCTION takes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('take_it', $1); END $$; SELECT romancy.start_workflow('takes', '1')});
$id = first_look('takes', 'RM001', 'function public\.take\(jsonb\) of activity "take_it" does not exist', qr/^Create the function again, or define the activity with another one\.$/);
sql(q{CREATE FUNCTION take(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1'});
goes_on($id);

# --- a handler that is not deterministic
sql(q{CREATE TABLE moods (mood text); INSERT INTO moods VALUES ('good');
	CREATE FUNCTION moody(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('charge', (SELECT to_jsonb(mood) FROM moods)), romancy.receive('go'); RETURN '1'; END $$});
$id = sql(q{SELECT romancy.start_workflow('moody')});
poll_until($node, qq{SELECT status = 'waiting_for_message' FROM romancy.instances WHERE instance_id = '$id'}, 'it waits');
sql(qq{UPDATE moods SET mood = 'bad'; SELECT romancy.send_to('$id', 'go')});
first_look('moody', 'RM003', 'replay of workflow "moody" does not match its history at position 1: another input', qr/^A handler must ask for the same steps in every replay: use romancy\.workflow_now\(\)/);
is(sql(q{SELECT error ->> 'detail' FROM romancy.waiting WHERE workflow = 'moody'}), 'The handler asks for activity "charge:1" with input "bad"; history holds ActivityCompleted "charge:1" with input "good". The body of public.moody(jsonb) has not changed since the instance ran first.', 'both are shown');
sql(q{UPDATE moods SET mood = 'good'});
goes_on($id);

# --- queues that no program polls: of an activity and of a workflow, and one whose name is misspelt
sql(q{SELECT romancy.define_activity('parcel', queue => 'parcels'), romancy.define_workflow('flow', queue => 'flows');
	CREATE FUNCTION sends(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('parcel', $1); END $$;
	SELECT romancy.start_workflow('sends'), romancy.start_workflow('flow')});
poll_until($node, q{SELECT count(*) = 2 FROM romancy.waiting WHERE queue IS NOT NULL}, 'two wait for programs');
is(sql(q{SELECT workflow, kind, step, queue, coalesce(worker_id, 'nobody') FROM romancy.waiting ORDER BY workflow}), "flow|worker||flows|nobody\nsends|activity|parcel:1|parcels|nobody", 'waiting names the queues, and no program');
sql(q{UPDATE romancy.t_task SET created_at = created_at - interval '2 minutes'});
is(attention(), qq{tasks of queue "parcels" wait, and no program polls it\ntasks of queue "flows" wait, and no program polls it}, 'after a minute health() names them');
sql(q{SELECT romancy.define_activity('parcel', queue => 'parcles')});
is(attention(), qq{tasks of queue "parcels" wait, and no program polls it; nothing is defined for it\ntasks of queue "flows" wait, and no program polls it}, 'and one for which nothing is defined');
is(sql(q{SELECT name, pollers, definitions FROM romancy.queues ORDER BY name}), "flows|0|1\nparcels|0|0\nparcles|0|1", 'the view queues tells the same');
sql(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.waiting});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.waiting}, 'they end');

# --- a full disk
SKIP:
{
	skip $no_disk, 7 if $no_disk;
	sql(qq{CREATE TABLESPACE small LOCATION '$disk'});
	sql(q{CREATE FUNCTION big(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(string_agg(md5(i::text || random()), '')) FROM generate_series(1, 1000) i $$;
		CREATE FUNCTION keeps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('big'); RETURN '"kept"'; END $$;
		ALTER TABLE romancy.t_history SET TABLESPACE small; ALTER TABLE romancy.t_document SET TABLESPACE small;
		ALTER SYSTEM SET romancy.enabled = off});
	$node->reload;
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'no worker is there');
	$id = sql(q{SELECT romancy.start_workflow('keeps')});
	is(problems(), 'romancy.enabled is off', 'and health() says that none is to be');
	sql(qq{COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; cat /dev/zero > $disk/filler || true'});
	sql('ALTER SYSTEM RESET romancy.enabled');
	$node->reload;
	poll_until($node, qq{SELECT (error ->> 'tries')::int > 1 AND attempt > 1 AND until IS NOT NULL FROM romancy.waiting WHERE instance_id = '$id'}, 'it is tried again');
	like(sql(qq{SELECT error ->> 'sqlstate', error ->> 'message', error ->> 'hint' FROM romancy.waiting WHERE instance_id = '$id'}), qr/^53100\|could not extend file .*: No space left on device\|Check free disk space\.$/, 'the cause, and what to do');
	is(attention(), q{1 instance is tried again after errors of the engine: see romancy.waiting, error ? 'tries'}, 'health() asks for a human');
	like(logged(), qr/LOG:  turn of workflow instance $id failed: could not extend file .*: No space left on device/, 'the log says so');
	sql(qq{COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; rm $disk/filler'});
	poll_until($node, qq{SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$id'}, 'with room again it completes');
	sql('ALTER TABLE romancy.t_history SET TABLESPACE pg_default; ALTER TABLE romancy.t_document SET TABLESPACE pg_default; DROP TABLESPACE small');
}

# --- no place for workers, in several ways: what is started says so when it is waited for, health() says so at once
sub no_worker
{
	my ($what, $problem, %conf) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->append_conf('postgresql.conf', "$_ = $conf{$_}") for sort keys %conf;
	$node->restart;
	my $id = sql(q{SELECT romancy.start_workflow('typo', '2')});
	poll_until(sub { my $found = problems() // ''; $found =~ $problem }, "$what: health()");
	is(sql(qq{SELECT kind, status FROM romancy.waiting WHERE instance_id = '$id'}), 'start|pending', 'it waits for its start');
	my ($rc, $out, $err) = $node->psql('postgres', "CALL romancy.await_result('$id', '1500 ms')");
	my $sentence = ucfirst(problems());
	$sentence =~ s/^Romancy/romancy/;
	like($err, qr/WARNING:  workflows do not run in this database as things are\nDETAIL:  \Q$sentence\E\./, 'who waits for it is warned');
	like($err, qr/ERROR:  timeout while waiting.*\nDETAIL:  It is pending since .*\Q$sentence\E\./, 'and told at the timeout');
	return $id;
}
no_worker('no preload', qr/^romancy is not in shared_preload_libraries: no worker runs until it is added there and the server restarted$/, shared_preload_libraries => "''");
like(logged(), qr/WARNING:  romancy is not loaded at server start, so no worker runs workflows\n.*HINT:  Add romancy to shared_preload_libraries/, 'a start warns, too');
no_worker('not even a launcher', qr/^the launcher has not started: max_worker_processes \(0\) has to leave it a process, and another to each worker$/,
	shared_preload_libraries => 'romancy', max_worker_processes => 0);
no_worker('a launcher only', qr/^work waits for a worker, and there is none to be had: raise max_worker_processes \(now 1\)$/,
	max_worker_processes => 1, max_logical_replication_workers => 0);
poll_until(sub { logged() =~ /LOG:  .*out of background worker slots\n.*DETAIL: .*romancy continues with fewer.*\n.*HINT: .*max_worker_processes/ }, 'the log says so');
# work of other roles and databases that waits is no obstacle to a role that may not see it, and none in another database
sql(q{CREATE ROLE without_work LOGIN; SELECT romancy.grant_usage('without_work'); CREATE DATABASE quiet});
$node->safe_psql('quiet', 'CREATE EXTENSION romancy');
is($node->safe_psql('postgres', q{SELECT romancy.health()->'problems'}, extra_params => [ '-U', 'without_work' ]), '[]', 'a role whose work does not wait');
is($node->safe_psql('quiet', q{SELECT romancy.health()->'problems'}), '[]', 'a database whose work does not wait');
sql('DROP DATABASE quiet');
no_worker('left out', qr/^romancy\.databases leaves this database out$/, max_worker_processes => 8, 'romancy.databases' => 'another');
no_worker('disabled', qr/^romancy\.enabled is off$/, 'romancy.databases' => "''", 'romancy.enabled' => 'off');

# as executors = 0 would be: there is no such value, and a file that has it is told so
my ($rc, $out, $err) = $node->psql('postgres', 'ALTER SYSTEM SET romancy.executors = 0');
like($err, qr/ERROR:  0 is outside the valid range for parameter "romancy\.executors" \(1 \.\. \d+\)/, 'executors = 0 is refused');
$node->append_conf('postgresql.conf', "romancy.executors = 0\nromancy.enabled = on");
$node->restart;
like(logged(), qr/0 is outside the valid range for parameter "romancy\.executors"/, 'and in a file it is in the log');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.waiting}, 'with a worker all of them complete');
is(problems() . attention(), '', 'and all is well');

$node->stop;
done_testing();
