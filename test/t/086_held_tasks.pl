# Turns of instances one of whose tasks another transaction has: a client that called heartbeat_activity, complete_activity or cancel_task in a
# transaction that it leaves open. The owner's one executor goes on with others' turns at once, and what was left is done when the transaction
# has ended, also in a session that drains; likewise a child. It would catch a turn that waits for a row of a client's, and a task that is forgotten for it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# no sweep helps
my $node = romancy_node('held_tasks', 'romancy.executors' => 1, 'romancy.eager_runs' => 'off', 'romancy.worker_idle_timeout' => 0,
	map { ("romancy.${_}_interval" => '1h') } qw(timer resumption activity_timeout lock_cleanup message_timeout message_check));
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub ends { my ($id, $is, $what) = @_; return poll_until($node, "SELECT concat_ws(' ', status, output, error ->> 'sqlstate') FROM romancy.instances WHERE instance_id = '$id'", $what, expected => $is) }
sub token { return sql("SELECT token FROM romancy.fetch_activities('q', 'me', 1, lease => '1h')") }

sql(q{
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1 $$;
	CREATE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1 $$;
	SELECT romancy.define_activity('ext', queue => 'q');
	SELECT romancy.define_activity('done', 'quick', compensation => 'undo');
	CREATE FUNCTION asks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('ext', i); END $$;
	CREATE FUNCTION undoes(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('done', i); RETURN romancy.activity('ext', i); END $$;
	CREATE TABLE mended (x int);
	CREATE FUNCTION son(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF NOT EXISTS (SELECT FROM mended) THEN RAISE EXCEPTION 'broken'; END IF; RETURN i; END $$;
	CREATE FUNCTION father(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.call_workflow('son', i); END $$;
	CREATE FUNCTION breaks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE h text := romancy.spawn('ext', i);
	BEGIN
		PERFORM romancy.receive('go');
		IF NOT EXISTS (SELECT FROM mended) THEN RAISE EXCEPTION 'broken'; END IF;
		RETURN romancy.await(h);
	END $$});
my $holder = $node->background_psql('postgres', on_error_stop => 1);
sub others
{
	my ($what) = @_;
	my $id = sql(q{SELECT romancy.start_workflow('quick', '"others"')});
	return ends($id, 'completed "others"', "$what: others go on");
}

# ---- the end of an instance: its task goes off the accounts later
sql(q{SELECT romancy.set_queue('q', max_concurrency => 1)});
for my $workflow (qw(asks undoes))
{
	my $id = sql("SELECT romancy.start_workflow('$workflow', '1')");
	my $token;
	poll_until(sub { $token = token() }, "$workflow: a program has its task");
	my $next = sql(q{SELECT romancy.start_workflow('asks', '2')});
	$holder->query_safe("BEGIN; SELECT romancy.heartbeat_activity('$token')");
	sql("SELECT romancy.cancel_workflow('$id')");
	ends($id, 'cancelled RM008', "$workflow: it ends while a session has its task");
	others("$workflow, cancelled");
	$holder->query_safe('COMMIT');
	poll_until(sub { $token = token() }, "$workflow: the place in its queue is free before the lease is over");
	is(sql("SELECT romancy.complete_activity('$token', '2')"), 't', "$workflow: for the next");
	ends($next, 'completed 2', "$workflow: which ends");
	poll_until($node, q{SELECT count(*) FROM romancy.t_inbox}, "$workflow: nothing is left to look at", expected => 0);
}

# ---- the end of an instance whose task is being fetched
for my $end (qw(COMMIT ROLLBACK))
{
	my $id = sql(q{SELECT romancy.start_workflow('asks', '1')});
	ends($id, 'waiting_for_activity', "fetch, $end: a task is ready");
	like($holder->query_safe(q{BEGIN; SELECT count(*) FROM romancy.fetch_activities('q', 'me', 1, lease => '1h')}), qr/1$/, "fetch, $end: a session takes it");
	sql("SELECT romancy.cancel_workflow('$id')");
	ends($id, 'cancelled RM008', "fetch, $end: its instance ends");
	others("fetch, $end");
	$holder->query_safe($end);
	my $next = sql(q{SELECT romancy.start_workflow('asks', '2')});
	my $token;
	poll_until(sub { $token = token() }, "fetch, $end: the place in its queue is free before the lease is over");
	is(sql("SELECT romancy.complete_activity('$token', '2')"), 't', "fetch, $end: for the next");
	ends($next, 'completed 2', "fetch, $end: which ends");
	poll_until($node, q{SELECT count(*) FROM romancy.t_inbox}, "fetch, $end: nothing is left to look at", expected => 0);
	is(sql(qq{SELECT count(*) FROM romancy.t_task WHERE instance_id = '$id' AND state IN (0, 2)}), '0', "fetch, $end: nothing is left to fetch");
}

# ---- and whose row another transaction has when what was left is due (a run that starts later than that says when it was tried)
{
	my $id = sql(q{SELECT romancy.start_workflow('asks', '1')});
	my $token;
	poll_until(sub { $token = token() }, 'row: a program has its task');
	my $next = sql(q{SELECT romancy.start_workflow('asks', '2')});
	$holder->query_safe("BEGIN; SELECT romancy.heartbeat_activity('$token')");
	sql("SELECT romancy.cancel_workflow('$id')");
	ends($id, 'cancelled RM008', 'row: its instance ends');
	my $row = $node->background_psql('postgres', on_error_stop => 1);
	$row->query_safe("BEGIN; SELECT FROM romancy.t_instance WHERE instance_id = '$id' FOR UPDATE");
	my $later = sql(q{SELECT romancy.start_workflow('quick', '"later"', start_at => clock_timestamp() + interval '1.5 s')});
	ends($later, 'completed "later"', 'row: the time has come');
	$holder->query_safe('COMMIT');
	$row->query_safe('COMMIT');
	$row->quit;
	poll_until(sub { $token = token() }, 'row: the place in its queue is free before the lease is over');
	is(sql("SELECT romancy.complete_activity('$token', '2')"), 't', 'row: for the next');
	ends($next, 'completed 2', 'row: which ends');
	poll_until($node, q{SELECT count(*) FROM romancy.t_inbox}, 'row: nothing is left to look at', expected => 0);
}
sql(q{SELECT romancy.set_queue('q')});

# ---- the end of a pause
for my $end (qw(ROLLBACK COMMIT))
{
	my $id = sql(q{SELECT romancy.run_canvas(romancy.group(romancy.task('ext', '1'), romancy.task('ext', '2')))});
	poll_until($node, "SELECT count(*) FROM romancy.activity_tasks WHERE instance_id = '$id'", 'two tasks', expected => 2);
	sql("SELECT romancy.pause_workflow('$id')");
	ends($id, 'paused', 'it is paused');
	$holder->query_safe("BEGIN; SELECT romancy.cancel_task('$id', '0')");
	sql("SELECT romancy.resume_workflow('$id')");
	others("$end, resumed");
	my $token;
	poll_until(sub { $token = token() }, "$end: the other task goes on");
	is(sql("SELECT romancy.complete_activity('$token', '\"b\"')"), 't', "$end: and ends");
	$holder->query_safe($end);
	if ($end eq 'ROLLBACK')
	{
		poll_until(sub { $token = token() }, 'the one that was held is ready again');
		sql("SELECT romancy.complete_activity('$token', '\"a\"')");
	}
	ends($id, $end eq 'ROLLBACK' ? 'completed ["a", "b"]' : 'failed RM008', "$end: its end");
	poll_until($node, "SELECT count(*) FROM romancy.t_inbox WHERE instance_id = '$id'", "$end: nothing is left to look at", expected => 0);
}

# ---- retry_workflow while the task of the run before is about to be taken away, or is not
for my $end (qw(ROLLBACK COMMIT))
{
	sql('TRUNCATE mended');
	my $id = sql("SELECT romancy.start_workflow('breaks', '1')");
	my $token;
	poll_until(sub { $token = token() }, "$end: a program has its task");
	sql("SELECT romancy.send_to('$id', 'go', '1')");
	ends($id, 'failed P0001', "$end: it fails");
	like($holder->query_safe("BEGIN; SELECT romancy.complete_activity('$token', '3')"), qr/f$/, "$end: too late");
	sql("INSERT INTO mended VALUES (1); SELECT romancy.retry_workflow('$id')");
	ends($id, 'waiting_for_activity', "$end: retried, it waits for its task");
	others("$end, retried");
	$holder->query_safe($end);
	poll_until(sub { $token = token() }, "$end: its task is made anew") if $end eq 'COMMIT';
	poll_until($node, "SELECT count(*) FROM romancy.t_inbox WHERE instance_id = '$id'", "$end: it was looked at", expected => 0);
	is(sql("SELECT count(*) FROM romancy.activity_tasks WHERE instance_id = '$id'"), '1', "$end: one task");
	is(sql("SELECT romancy.complete_activity('$token', '4')"), 't', "$end: the program's result counts now");
	ends($id, 'completed 4', "$end: it ends");
}

# ---- retry_workflow while another transaction has the child of the run before
sql('TRUNCATE mended');
my $father = sql(q{SELECT romancy.start_workflow('father', '5')});
ends($father, 'failed P0001', 'child: it and its parent fail');
$holder->query_safe("BEGIN; SELECT romancy.retry_workflow(instance_id) FROM romancy.instances WHERE parent_id = '$father'");
sql("INSERT INTO mended VALUES (1); SELECT romancy.retry_workflow('$father')");
others('child, its parent retried');
# (its turn was due before theirs)
is(sql("SELECT status || ' ' || (SELECT count(*) FROM romancy.instances WHERE parent_id = '$father') FROM romancy.instances WHERE instance_id = '$father'"), 'pending 1', 'child: the parent, and its one child, are as they were');
$holder->query_safe('ROLLBACK');
ends($father, 'completed 5', 'child: then it goes on');
is(sql("SELECT string_agg(status, ' ' ORDER BY created_at) FROM romancy.instances WHERE parent_id = '$father'"), 'failed completed', 'child: with another one');

# ---- a canvas is retried
my $canvas = sql(q{SELECT romancy.run_canvas(romancy.group(romancy.task('ext', '1'), romancy.task('quick', '2')))});
my $failing;
poll_until(sub { $failing = token() }, 'canvas: a program has a task');
sql("SELECT romancy.fail_activity('$failing', 'no', non_retryable => true)");
ends($canvas, 'failed RM007', 'canvas: it fails');
$holder->query_safe("BEGIN; SELECT FROM romancy.t_task WHERE instance_id = '$canvas' FOR UPDATE");
sql("SELECT romancy.retry_workflow('$canvas')");
ends($canvas, 'waiting_for_activity', 'canvas: retried, it waits');
others('canvas, retried');
$holder->query_safe('ROLLBACK');
poll_until(sub { $failing = token() }, 'canvas: its task begins again');
sql("SELECT romancy.complete_activity('$failing', '\"ok\"')");
ends($canvas, 'completed ["ok", 2]', 'canvas: it ends');

# ---- a session that drains does not go round in circles, and takes up what is left
$node->append_conf('postgresql.conf', 'romancy.enabled = off');
$node->reload;
poll_until($node, q{SELECT count(*) FROM romancy.workers WHERE kind = 'executor'}, 'no executor', expected => 0);
my $drained = sql(q{SELECT romancy.run_canvas(romancy.task('ext', '1')); CALL romancy.drain()});
$drained =~ s/\n.*//s;
sql("SELECT romancy.pause_workflow('$drained'); CALL romancy.drain()");
$holder->query_safe("BEGIN; SELECT FROM romancy.t_task WHERE instance_id = '$drained' FOR UPDATE");
sql("SELECT romancy.resume_workflow('$drained')");
like(sql('CALL romancy.drain()'), qr/^[1-9]$/, 'drain: an end, though a task is held');
ends($drained, 'waiting_for_activity', 'drain: it is resumed');
is(token(), '', 'drain: its task is not ready');
$holder->query_safe('ROLLBACK');
my $late;
poll_until(sub { sql('CALL romancy.drain()'); return $late = token() }, 'drain: a later one makes it so');

$holder->quit;
$node->stop;
done_testing();
