# Tasks that a program does not have are left to others: it gives a workflow back as it was, no attempt counted, as an activity, so that another
# one has it at once; and a program that passes a task over does not count as one that serves it: in queues, in health(), for a caller that waits.
# A poll that has much to pass over rests between its looks. It would catch attempts that no program made, tasks that wait for the end of a lease,
# a queue that stands still while a program is shown that polls it, and a poller that looks through others' tasks all the time.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancySdk;
use RomancyTest;
use Test::More;

my $node = romancy_node('passed_over', 'max_connections' => 100, 'autovacuum' => 'off');
my @languages = sdk_languages();
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub attention { return sql(q{SELECT string_agg(p, E'\n' ORDER BY p) FROM jsonb_array_elements_text(romancy.health() -> 'attention') p}) }

# --- what the call does: a workflow that is given back is as it was
sql(q{SELECT romancy.define_workflow('flow', queue => 'flows'), romancy.start_workflow('flow')});
poll_until($node, q{SELECT ready = 1 FROM romancy.queues WHERE name = 'flows'}, 'a workflow waits for a program');
is(sql(q{SELECT romancy.release_activity(token) FROM romancy.fetch_workflows('flows', 'w', 1, '1 h')}), 't', 'it is given back');
my ($token, $attempt) = split /\|/, sql(q{SELECT token, attempt FROM romancy.fetch_workflows('flows', 'w', 1, '1 h')});
is($attempt, '1', 'at once, and no attempt was counted');
sql("SELECT romancy.release_activity('$token')");
is(sql("SELECT romancy.release_activity('$token')"), 'f', 'only its holder can give it back');
my $id = sql(q{SELECT instance_id FROM romancy.instances WHERE workflow = 'flow'});
$token = sql(q{SELECT token FROM romancy.fetch_workflows('flows', 'w', 1, '1 h')});
sql("SELECT romancy.pause_workflow('$id')");
poll_until($node, "SELECT status = 'paused' FROM romancy.instances WHERE instance_id = '$id'", 'it is paused');
is(sql("SELECT romancy.release_activity('$token')"), 't', 'given back in a pause');
is(sql(q{SELECT count(*) FROM romancy.fetch_workflows('flows', 'w')}), '0', 'it is not to be had');
sql("SELECT romancy.resume_workflow('$id')");
poll_until($node, q{SELECT ready = 1 FROM romancy.queues WHERE name = 'flows'}, 'before the pause is over');
sql("SELECT romancy.terminate_workflow('$id')");

# --- a program of each language, for a queue with more than it has
for my $language (@languages)
{
	my $role = "passed_$language";
	my $as = "SET SESSION AUTHORIZATION $role; ";
	my $log = $node->basedir . "/$language.log";
	sql("CREATE ROLE $role LOGIN; SELECT romancy.grant_usage('$role')");
	sql("$as SELECT romancy.define_activity('strange', queue => 'mixed'), romancy.define_workflow('foreign', queue => 'mixed')");
	sql("CREATE FUNCTION $role(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity('strange'); END \$\$");
	my $step = sql("$as SELECT romancy.start_workflow('$role')");
	my $whole = sql("$as SELECT romancy.start_workflow('foreign')");
	poll_until($node, "SELECT ready = 2 AND pollers = 0 FROM romancy.queues WHERE namespace = '$role'", "$language: two tasks that no program has");
	my $proc = sdk_start(sdk_url($node, $role), $log, sdk_command($language, 'worker', 'held', 'mixed'));
	poll_until($node, "SELECT count(*) = 2 FROM romancy.pollers WHERE namespace = '$role' AND waiting AND passes_over = 1", "$language: it polls past them") or diag(slurp_file($log));
	is(sql("SELECT ready, running, pollers FROM romancy.queues WHERE namespace = '$role'"), '2|0|0', "$language: they wait, and no program is there for them");
	my (undef, undef, $err) = $node->psql('postgres', "$as CALL romancy.await_result('$step', '10 ms')");
	like($err, qr/No program that polls queue "mixed" has its next task\./, "$language: a caller is told");
	sql("UPDATE romancy.t_task SET created_at = created_at - interval '2 minutes'");
	is(attention(), qq{tasks of queue "mixed" wait, and no program that polls it has activity "strange"\ntasks of queue "mixed" wait, and no program that polls it has workflow "foreign"},
		"$language: health() names them");
	my ($lease, @claimed) = split /\|/, sql("$as SELECT token, attempt, workflow FROM romancy.fetch_workflows('mixed', 'other')");
	is("@claimed", '1 foreign', "$language: another program has the workflow, at its first attempt");
	is(attention(), qq{tasks of queue "mixed" wait, and no program that polls it has activity "strange"}, "$language: it is served now");
	sql("$as SELECT romancy.complete_workflow('$lease', '1')");
	is(sql("$as CALL romancy.await_result('$whole', '90 s')"), '1', "$language: and ends it");
	($lease, @claimed) = split /\|/, sql("$as SELECT token, attempt, activity FROM romancy.fetch_activities('mixed', 'other')");
	is("@claimed", '1 strange', "$language: the activity, too");
	sql("$as SELECT romancy.complete_activity('$lease', '2')");
	is(sql("$as CALL romancy.await_result('$step', '90 s')"), '2', "$language: and ends it");
	is(sql("SELECT pollers FROM romancy.queues WHERE namespace = '$role'"), '4', "$language: where nothing waits, programs that poll are counted");
	is(sdk_stop($proc), 'ended', "$language: the worker ends when asked") or diag(slurp_file($log));
}

# --- a program that holds a task of the queue may be busy; one that does not have the next task is not
sql(q{SELECT romancy.define_activity('mine', queue => 'half'), romancy.define_activity('yours', queue => 'half');
	SELECT romancy.run_canvas(romancy.task('mine'))});
poll_until($node, q{SELECT ready = 1 FROM romancy.queues WHERE name = 'half'}, 'a task');
like(sql(q{CALL romancy.poll_activities('half', 'w', 1, '1 h', '1 s', null, array['yours'])}), qr/"mine"/, 'a program has it');
sql(q{SELECT romancy.run_canvas(romancy.task('yours'))});
poll_until($node, q{SELECT ready = 1 FROM romancy.queues WHERE name = 'half'}, 'another task');
sql(q{UPDATE romancy.t_task SET created_at = created_at - interval '2 minutes'});
is(attention(), 'tasks of queue "half" wait, and no program that polls it has activity "yours"', 'is not for a program that has said so, busy or not');
sql(q{SELECT count(*) FROM romancy.fetch_activities('half', 'x', 1, '1 h')});

# --- a poll with much to pass over rests
sql(q{SELECT romancy.define_activity('strange', queue => 'crowd'), romancy.define_activity('known', queue => 'crowd');
	SELECT romancy.run_canvas(romancy.group(VARIADIC array(SELECT romancy.task('strange') FROM generate_series(1, 6100))))});
poll_until($node, q{SELECT ready = 6100 FROM romancy.queues WHERE name = 'crowd'}, 'a crowd of tasks');
sql(q{CREATE TABLE tokens AS SELECT token FROM romancy.fetch_activities('crowd', 'o', 100, '1 h')});
sql(q{SELECT pg_stat_reset()});
my $picky = $node->background_psql('postgres');
my $pid = $picky->query_safe('SELECT pg_backend_pid()');
$picky->query_until(qr/calls/, "\\echo calls\nCALL romancy.poll_activities('crowd', 'p', 1, '1 h', '1 h', null, array['strange']);\n");
poll_until($node, "SELECT state = 'active' AND wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid", 'a poller that passes them over');
# each of these wakes it; they come slowly enough that it could look at each
sql(q{DO $$ DECLARE t text; BEGIN FOR t IN SELECT token FROM tokens LOOP PERFORM romancy.release_activity(t), pg_sleep(0.01); COMMIT; END LOOP; END $$});
sql(q{SELECT romancy.run_canvas(romancy.task('known'))});
poll_until($node, "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pid", 'it comes for what it has');
$picky->quit;
my $looks = 0;
poll_until(sub { return $looks = sql(q{SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 't_task_ready'}) }, 'its looks are counted');
cmp_ok($looks, '<', 60, 'it was woken a hundred times, and has looked far less often');
$node->stop('fast');
done_testing();
