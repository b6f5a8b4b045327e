# Two that cross over one instance, with workers running: what test/specs/life.spec shows turn by
# turn, here as it happens. Each race is named in its tests and made by locks that are held,
# never by time. One outcome each, as doc/life.md names it. It would catch a turn that
# commits over a cancel, a second cancel that changes the reason, a sweep that deletes what is just
# retried, a timer that wakes a paused instance, and a fork of what is gone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# the safety nets are quick, so that a wake-up that met a locked row is made good soon
my $node = romancy_node('races', 'romancy.timer_interval' => '200ms', 'romancy.resumption_interval' => '200ms', 'romancy.sweep_jitter' => 0);
my ($one, $two) = map { $node->background_psql('postgres') } 1 .. 2;

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub start { my ($workflow, $input) = @_; return sql("SELECT romancy.start_workflow('$workflow', '$input')") }
sub reaches { my ($id, $status, $what) = @_; return poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", $what, expected => $status) }
sub effects { return sql("SELECT coalesce(string_agg(what, ',' ORDER BY n), '') FROM effect WHERE instance = '$_[0]'") }
# the gate is an advisory lock; an activity waits there until its holder commits
sub close_gate { $one->query_safe('BEGIN'); $one->query_safe('SELECT pg_advisory_xact_lock(1)'); return }
sub open_gate { $one->query_safe('COMMIT'); return }
sub at_the_gate { return poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND objsubid = 1 AND NOT granted}, $_[0]) }
sub inbox_empty { return poll_until($node, q{SELECT count(*) = 0 FROM romancy.t_inbox}, $_[0]) }

sql(q{
	CREATE TABLE effect (n serial, instance uuid, what text);
	CREATE TABLE mended (yes boolean);
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), $1 #>> '{}'); RETURN $1; END $$;
	CREATE FUNCTION gate(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM pg_advisory_xact_lock(1); RETURN put($1); END $$;
	CREATE FUNCTION breaks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN IF NOT EXISTS (SELECT FROM mended) THEN RAISE EXCEPTION 'broken'; END IF; RETURN put($1); END $$;
	SELECT romancy.define_activity('breaks', 'breaks(jsonb)', retry => '{"max_attempts": 1}');
	CREATE FUNCTION flow(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('put', '"first"');
		CASE $1 #>> '{}'
			WHEN 'gate' THEN PERFORM romancy.activity('gate', '"gate"');
			WHEN 'timer' THEN PERFORM romancy.sleep('1 day');
			WHEN 'breaks' THEN PERFORM romancy.activity('breaks', '"mended"');
			WHEN 'recur' THEN PERFORM romancy.activity('gate', '"gate"'); RETURN romancy.recur('"timer"');
			ELSE NULL;
		END CASE;
		RETURN romancy.activity('put', '"last"');
	END $$;
	SELECT romancy.define_workflow('flow', 'flow(jsonb)');
});

# ---- complete against cancel: the turn that would complete it is under way when the cancel commits
close_gate();
my $id = start('flow', '"gate"');
at_the_gate('complete against cancel: its last turn is under way');
is(sql("SELECT romancy.cancel_workflow('$id', 'crossed')"), 't', 'complete against cancel: it was live');
reaches($id, 'cancelled', 'complete against cancel: the turn is rolled back, though it still waited for the gate');
open_gate();
is(effects($id) =~ /gate|last/ ? 'ran on' : 'stopped', 'stopped', 'complete against cancel: nothing of that turn stands');

# the other way round: it completes after the canceller's snapshot and before its call
close_gate();
$id = start('flow', '"gate"');
at_the_gate('cancel against complete: its last turn is under way');
$two->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$two->query_safe('SELECT count(*) FROM effect');
open_gate();
reaches($id, 'completed', 'cancel against complete: it completes');
is($two->query_safe("SELECT romancy.cancel_workflow('$id', 'late')"), 't', 'cancel against complete: the cancel says true, by its snapshot');
$two->query_safe('COMMIT');
inbox_empty('cancel against complete: the request is taken away');
is(sql("SELECT status, error FROM romancy.instances WHERE instance_id = '$id'"), 'completed|', 'cancel against complete: it stays completed');
is(effects($id), 'first,gate,last', 'cancel against complete: each step once');

# ---- cancel against cancel: the first to commit names the reason, also if it was called second
$id = start('flow', '"timer"');
reaches($id, 'waiting_for_timer', 'cancel against cancel: it sleeps');
$one->query_safe('BEGIN');
$one->query_safe("SELECT romancy.cancel_workflow('$id', 'asked first')");
$two->query_safe('BEGIN');
$two->query_safe("SELECT romancy.cancel_workflow('$id', 'committed first')");
$two->query_safe('COMMIT');
reaches($id, 'cancelled', 'cancel against cancel: cancelled though the other has not committed');
$one->query_safe('COMMIT');
inbox_empty('cancel against cancel: the second request is taken away');
is(sql("SELECT error ->> 'message' FROM romancy.instances WHERE instance_id = '$id'"), 'committed first', 'cancel against cancel: with the reason of the first to commit');
is(sql("SELECT count(*) FROM romancy.get_history('$id') WHERE event_type = 'WorkflowCancelled'"), '1', 'cancel against cancel: one end');

# ---- retry against retention
sub fail_one
{
	my $what = shift;
	sql(q{TRUNCATE mended; SELECT romancy.define_workflow('flow', 'flow(jsonb)', retention => '1 year')});
	my $failed = start('flow', '"breaks"');
	reaches($failed, 'failed', "$what: it failed");
	return $failed;
}
my $expire = q{SELECT romancy.define_workflow('flow', 'flow(jsonb)', retention => '0 s')};
my $keep = q{SELECT romancy.define_workflow('flow', 'flow(jsonb)', retention => '1 year')};
$id = fail_one('retry against retention');
sql('INSERT INTO mended VALUES (true)');
$one->query_safe('BEGIN');
is($one->query_safe("SELECT romancy.retry_workflow('$id')"), 't', 'retry against retention: retried, not committed');
sql($expire);
sql(q{SELECT romancy.run_sweep('retention')});
is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'failed', 'retry against retention: the sweep passes it by');
sql($keep);
$one->query_safe('COMMIT');
reaches($id, 'completed', 'retry against retention: it runs on');

$id = fail_one('retention against retry');
sql('INSERT INTO mended VALUES (true)');
$one->query_safe('BEGIN');
$one->query_safe($expire);
$one->query_safe(q{SELECT romancy.run_sweep('retention')});
is($one->query_safe("SELECT count(*) FROM romancy.instances WHERE instance_id = '$id'"), '0', 'retention against retry: deleted, not committed');
is(sql("SELECT romancy.retry_workflow('$id')"), 'f', 'retention against retry: the retry says false, and does not wait');
$one->query_safe('COMMIT');
is($node->psql('postgres', "SELECT romancy.retry_workflow('$id')"), 3, 'retention against retry: and then it is unknown');
is(sql("SELECT count(*) FROM romancy.t_history WHERE instance_id = '$id'"), '0', 'retention against retry: nothing is left of it');
sql($keep);

# ---- pause against a due timer: both are there when a worker gets at the instance
$id = start('flow', '"timer"');
reaches($id, 'waiting_for_timer', 'pause against a due timer: it sleeps');
$one->query_safe('BEGIN');
# the day is over, as far as the instance knows, and no worker gets at it
is($one->query_safe("UPDATE romancy.t_instance SET wake_at = clock_timestamp(), wait = jsonb_set(wait, '{until}', to_jsonb(clock_timestamp())) WHERE instance_id = '$id' RETURNING status"),
	'waiting_for_timer', 'pause against a due timer: the timer is due');
is(sql("SELECT romancy.pause_workflow('$id')"), 't', 'pause against a due timer: paused');
$one->query_safe('COMMIT');
reaches($id, 'paused', 'pause against a due timer: the pause comes first');
inbox_empty('pause against a due timer: the request is applied');
is(effects($id), 'first', 'pause against a due timer: the step after the timer has not run');
is(sql("SELECT romancy.resume_workflow('$id')"), 't', 'pause against a due timer: resumed');
reaches($id, 'completed', 'pause against a due timer: it goes on at once');
is(effects($id), 'first,last', 'pause against a due timer: each step once');

# ---- a timer that comes due while its instance is paused: what it waits for stays, and the resume
# finds it over. (The wake-up that was on its way made a turn that saved the row without it, and the
# sleep began anew after the resume.)
sql(q{CREATE FUNCTION naps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.sleep(($1 #>> '{}')::interval); RETURN romancy.activity('put', '"awake"'); END $$});
# (all at once, and a sleep that is longer than a slow machine takes to pause it)
my @naps = split /\n/, sql(q{SELECT romancy.start_workflow('naps', '"8 s"') FROM generate_series(1, 5)});
my $naps = join ', ', map { "'$_'" } @naps;
poll_until($node, "SELECT count(*) = 5 FROM romancy.instances WHERE instance_id IN ($naps) AND status = 'waiting_for_timer'", 'a timer in a pause: they sleep');
is(sql("SELECT count(*) FILTER (WHERE romancy.pause_workflow(instance_id)) FROM unnest(ARRAY[$naps]::uuid[]) instance_id"), '5', 'a timer in a pause: paused');
poll_until($node, "SELECT count(*) = 5 FROM romancy.instances WHERE instance_id IN ($naps) AND status = 'paused'", 'a timer in a pause: and stand');
my $waits = "SELECT string_agg(wait::text, ' ' ORDER BY instance_id) FROM romancy.t_instance WHERE instance_id IN ($naps)";
my $before = sql($waits);
like($before, qr/"kind": "timer".*"kind": "timer"/, 'a timer in a pause: it is known what they wait for');
poll_until($node, "SELECT bool_and(clock_timestamp() > (wait ->> 'until')::timestamptz + interval '1 s' OR wait IS NULL) FROM romancy.t_instance WHERE instance_id IN ($naps)",
	'a timer in a pause: the timers are over');
is(sql($waits), $before, 'a timer in a pause: and they wait for the same');
# a turn of each, asked for by a pair of requests that change nothing
sql("BEGIN; SELECT romancy.resume_workflow('$_'); SELECT romancy.pause_workflow('$_'); COMMIT") for @naps;
inbox_empty('a timer in a pause: requests that take each other back are applied');
is(sql($waits), $before, 'a timer in a pause: and change nothing');
is(sql("SELECT romancy.resume_workflow('$_')"), 't', 'a timer in a pause: resumed') for @naps;
reaches($_, 'completed', 'a timer in a pause: goes on at once') for @naps;

# a pause while a turn is under way: the turn goes on to where it commits
close_gate();
$id = start('flow', '"gate"');
at_the_gate('pause against a turn: it is under way');
is(sql("SELECT romancy.pause_workflow('$id')"), 't', 'pause against a turn: the pause does not wait for it');
open_gate();
poll_until($node, "SELECT status IN ('paused', 'completed') FROM romancy.instances WHERE instance_id = '$id'", 'pause against a turn: the turn goes on to its end');
inbox_empty('pause against a turn: the request is applied, or came too late');
sql("SELECT romancy.resume_workflow('$id')");
reaches($id, 'completed', 'pause against a turn: after a resume it completes');
is(effects($id), 'first,gate,last', 'pause against a turn: each step once');

# ---- fork against delete
$id = fail_one('fork against delete');
sql('INSERT INTO mended VALUES (true)');
$one->query_safe('BEGIN');
my $fork = $one->query_safe("SELECT romancy.fork_workflow('$id', 'breaks:1')");
is(sql("SELECT romancy.delete_workflow('$id')"), 'f', 'fork against delete: what is being forked is not deleted');
$one->query_safe('COMMIT');
reaches($fork, 'completed', 'fork against delete: the fork runs');
is(effects($fork), 'mended,last', 'fork against delete: from where it was forked');
$one->query_safe('BEGIN');
is($one->query_safe("SELECT romancy.delete_workflow('$id')"), 't', 'delete against fork: deleted, not committed');
my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSELECT romancy.fork_workflow('$id', 'breaks:1')");
like($err, qr/RM010/, 'delete against fork: being deleted');
$one->query_safe('COMMIT');
($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSELECT romancy.fork_workflow('$id', 'breaks:1')");
like($err, qr/RM002/, 'delete against fork: deleted');

# ---- recur against cancel: the cancel goes to the generation that lives
close_gate();
$id = start('flow', '"recur"');
at_the_gate('recur against cancel: its turn is under way');
$two->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$two->query_safe('SELECT count(*) FROM effect');
open_gate();
reaches($id, 'recurred', 'recur against cancel: it recurred');
is($two->query_safe("SELECT romancy.cancel_workflow('$id', 'the old one')"), 't', 'recur against cancel: the cancel names the old one, by its snapshot');
$two->query_safe('COMMIT');
poll_until($node, "SELECT status || ' ' || (error ->> 'message') FROM romancy.instances WHERE continued_from = '$id'", 'recur against cancel: the successor is cancelled', expected => 'cancelled the old one');

# ---- procedures in flight: a client that waits while the instance is forked, cancelled and deleted
$id = start('flow', '"timer"');
reaches($id, 'waiting_for_timer', 'await_result: it sleeps');
my ($wait_out, $wait_err) = ('', '');
my $waiting = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $node->connstr('postgres'), '-c', "CALL romancy.await_result('$id')" ], '>', \$wait_out, '2>', \$wait_err);
poll_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL romancy.await_result%' AND wait_event_type = 'Extension'}, 'await_result: a client waits');
my $pid = sql(q{SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL romancy.await_result%' AND pid <> pg_backend_pid()});
$fork = sql("SELECT romancy.fork_workflow('$id', 'sleep:1')");
reaches($fork, 'waiting_for_timer', 'await_result: a fork of what it waits for runs by itself');
is(sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND query LIKE 'CALL romancy.await_result%' AND state = 'active'"), '1', 'await_result: the client still waits for the original');
kill 'STOP', $pid;		# it does not look before the row is gone
sql("SELECT romancy.cancel_workflow('$id')");
reaches($id, 'cancelled', 'await_result: cancelled');
is(sql("SELECT romancy.delete_workflow('$id')"), 't', 'await_result: and deleted');
kill 'CONT', $pid;
IPC::Run::finish($waiting);
like($wait_err, qr/RM002/, 'await_result: the client is told that it is gone');
sql("SELECT romancy.cancel_workflow('$fork')");

($wait_out, $wait_err) = ('', '');
$waiting = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $node->connstr('postgres'), '-c', q{CALL romancy.run_workflow('flow', '"timer"', idempotency_key => 'run')} ], '>', \$wait_out, '2>', \$wait_err);
poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE idempotency_key = 'run' AND status = 'waiting_for_timer'}, 'run_workflow: a client waits');
sql(q{SELECT romancy.cancel_workflows('{"workflow": "flow", "status": "waiting_for_timer"}')});
IPC::Run::finish($waiting);
like($wait_err, qr/RM008/, 'run_workflow: the client is told that it was cancelled');

$_->quit for $one, $two;
$node->stop;
done_testing();
