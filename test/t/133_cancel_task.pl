# cancel_task ends a task of a canvas in each of its states: ready, waiting for an attempt, parked, with a program, about to be taken by one, and running in the database: in
# an activity, in one that is not transactional, in a drain, in the activity that makes the call, in the same transaction as others. Only that
# step is interrupted; what it did is rolled back; the group ends, on_error runs, a chord's callback never twice; retry_workflow runs it again.
# It would catch a task that runs on, a neighbour that is hit, an end that is delivered twice, and a canvas that waits for ever.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# no sweep helps
my $node = romancy_node('cancel_task', 'max_worker_processes' => 12, 'romancy.max_workers' => 6, 'romancy.executors' => 4,
	map { ("romancy.${_}_interval" => '1h') } qw(timer resumption activity_timeout lock_cleanup message_timeout message_check));
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub tasks { return sql("SELECT string_agg(concat_ws(' ', path, status, error ->> 'sqlstate', result), ', ' ORDER BY path) FROM romancy.canvas_tasks('$_[0]')") }
sub ends { my ($id, $is, $what) = @_; return poll_until($node, "SELECT concat_ws(' ', status, error ->> 'sqlstate', error ->> 'message', output) FROM romancy.instances WHERE instance_id = '$id'", $what, expected => $is) }
sub blocked { my ($n, $what) = @_; return poll_until($node, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 8 AND NOT granted", $what, expected => $n) }

my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(8)');
sql(q{
	CREATE TABLE effect (n serial, instance uuid, what text);
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), $1 #>> '{}'); RETURN $1; END $$;
	CREATE FUNCTION holds(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM put($1); PERFORM pg_advisory_xact_lock(8); RETURN $1; END $$;
	CREATE FUNCTION obstinate(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM put($1); LOOP BEGIN PERFORM pg_advisory_xact_lock(8); RETURN $1; EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
	CREATE PROCEDURE apart(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM put($1); COMMIT; PERFORM pg_advisory_xact_lock(8); result := $1; END $$;
	CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'note ' || ($1 #>> '{error,sqlstate}')); RETURN $1; END $$;
	CREATE FUNCTION total(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'total'); RETURN $1; END $$;
	SELECT romancy.define_activity('apart', 'apart(jsonb, jsonb)', transactional => false);
	SELECT romancy.define_activity('fails', 'fails', retry => '{"initial_interval": "1 h", "max_interval": "1 h", "max_duration": null}');
	SELECT romancy.define_activity('patient', 'fails', retry => '{"max_attempts": 1, "on_exhausted": "pause"}');
	SELECT romancy.define_activity('outside', queue => 'q');
});

# ---- while it runs in the database; its neighbour goes on
for my $kind (qw(holds obstinate apart))
{
	my $id = sql("SELECT romancy.run_canvas(romancy.options(romancy.chord(romancy.group(romancy.task('$kind', '\"a\"'), romancy.task('holds', '\"b\"'), romancy.task('put', '\"c\"')), romancy.task('total')), on_error => romancy.task('note')))");
	blocked(2, "$kind: it runs, and another beside it");
	is(sql("SELECT romancy.cancel_task('$id', '0')"), 't', "$kind: cancelled");
	poll_until($node, "SELECT concat_ws(' ', status, error ->> 'sqlstate', error ->> 'message') FROM romancy.canvas_tasks('$id') WHERE path = '0'", "$kind: it ends", expected => 'failed RM008 task "0" was cancelled');
	blocked(1, "$kind: the other runs on");
	is(sql("SELECT romancy.cancel_task('$id', '0')"), 'f', "$kind: no second time");
	is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'waiting_for_activity', "$kind: the group waits for it");
	$holder->query_safe('SELECT pg_advisory_unlock(8)');
	ends($id, 'failed RM008 task "0" was cancelled', "$kind: then it has failed");
	$holder->query_safe('SELECT pg_advisory_lock(8)');
	is(tasks($id), '0 failed RM008, 1 completed "b", 2 completed "c", body skipped, on_error completed ' . sql("SELECT result FROM romancy.canvas_tasks('$id') WHERE path = 'on_error'"), "$kind: its tasks");
	is(sql("SELECT string_agg(what, ',' ORDER BY what) FROM effect WHERE instance = '$id'"), ($kind eq 'apart' ? 'a,' : '') . 'b,c,note RM008', "$kind: what it did is rolled back, on_error ran, once");
	is(sql("SELECT count(*) FROM romancy.t_inbox WHERE instance_id = '$id'"), '0', "$kind: no request is left");
	sql("SELECT romancy.retry_workflow('$id')");
	blocked(1, "$kind: retried, it runs again");
	$holder->query_safe('SELECT pg_advisory_unlock(8)');
	ends($id, 'completed ["a", "b", "c"]', "$kind: to its end");
	$holder->query_safe('SELECT pg_advisory_lock(8)');
	is(sql("SELECT count(*) FILTER (WHERE what = 'total') FROM effect WHERE instance = '$id'"), '1', "$kind: one callback");
}

# ---- the caller's transaction decides
my $id = sql(q{SELECT romancy.run_canvas(romancy.chain(romancy.task('holds', '"a"'), romancy.task('put')))});
blocked(1, 'it runs');
is(sql("BEGIN; SELECT romancy.cancel_task('$id', '0'); ROLLBACK"), 't', 'cancelled, and rolled back');
is(sql("SELECT romancy.cancel_task('$id', '1')"), 'f', 'what is not scheduled yet cannot be ended');
is(sql("SELECT romancy.cancel_task('$id', '7')"), 'f', 'nor what is none of its tasks');
$holder->query_safe('SELECT pg_advisory_unlock(8)');
ends($id, 'completed "a"', 'nothing has happened');
$holder->query_safe('SELECT pg_advisory_lock(8)');
$id = sql(q{SELECT romancy.run_canvas(romancy.chain(romancy.task('put', '"a"'), romancy.task('holds'), romancy.task('put')))});
blocked(1, 'the second of a chain runs');
is(sql("SELECT romancy.cancel_task('$id', '1')"), 't', 'it is cancelled');
ends($id, 'failed RM008 task "1" was cancelled', 'the chain has failed');
is(tasks($id), '0 completed "a", 1 failed RM008, 2 skipped', 'its tasks');
blocked(0, 'nothing of it runs');

# ---- paused while it runs: the end comes all the same, and what follows waits for the resume
$id = sql(q{SELECT romancy.run_canvas(romancy.options(romancy.task('holds', '"a"'), on_error => romancy.task('note')))});
blocked(1, 'it runs');
sql("SELECT romancy.pause_workflow('$id')");
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", 'paused', expected => 'paused');
is(sql("SELECT romancy.cancel_task('$id', '0')"), 't', 'cancelled');
poll_until($node, "SELECT string_agg(path || ' ' || status, ', ' ORDER BY path) FROM romancy.canvas_tasks('$id')", 'its end, and what waits', expected => '0 failed, on_error paused');
sql("SELECT romancy.resume_workflow('$id')");
ends($id, 'failed RM008 task "0" was cancelled', 'resumed');

# ---- before it has begun, between attempts, and parked after its attempts
$id = sql(q{SELECT romancy.run_canvas(romancy.group(romancy.task('fails'), romancy.options(romancy.task('put', '"later"'), delay => '1 h')))});
poll_until($node, "SELECT attempt FROM romancy.canvas_tasks('$id') WHERE path = '0'", 'it waits for its second attempt', expected => '1');
is(sql("SELECT romancy.cancel_task('$id', '0'), romancy.cancel_task('$id', '1')"), 't|t', 'cancelled');
ends($id, 'failed RM008 task "0" was cancelled', 'failed');
$id = sql(q{SELECT romancy.run_canvas(romancy.group(romancy.task('patient'), romancy.task('put', '1')))});
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", 'paused by a task', expected => 'paused');
is(sql("SELECT romancy.cancel_task('$id', '0')"), 't', 'the parked task is cancelled');
sql("SELECT romancy.resume_workflow('$id')");
ends($id, 'failed RM008 task "0" was cancelled', 'failed');
ok($id, 'a canvas that has ended') && is(sql("SELECT romancy.cancel_task('$id', '1')"), 'f', 'has no task to end');

# ---- with a program: the lease is lost, and the next heartbeat says so
$id = sql(q{SELECT romancy.run_canvas(romancy.options(romancy.chord(romancy.group(romancy.task('outside', '1'), romancy.task('outside', '2')), romancy.task('total')), on_error => romancy.task('note')))});
poll_until($node, "SELECT count(*) FROM romancy.activity_tasks WHERE instance_id = '$id'", 'two tasks for programs', expected => '2');
my ($one, $two) = split /\n/, sql(q{SELECT token FROM romancy.fetch_activities('q', 'w', 2) ORDER BY input});
is(sql("SELECT romancy.heartbeat_activity('$one')"), 'ok', 'a program has it');
is(sql("SELECT romancy.cancel_task('$id', '0')"), 't', 'cancelled');
is(sql("SELECT romancy.heartbeat_activity('$one'), romancy.complete_activity('$one', '1'), romancy.fail_activity('$one', 'no'), romancy.release_activity('$one')"), 'lost|f|f|f', 'the lease is lost');
is(sql("SELECT romancy.heartbeat_activity('$two'), romancy.complete_activity('$two', '2')"), 'ok|t', 'the other is not');
ends($id, 'failed RM008 task "0" was cancelled', 'failed');
is(sql("SELECT string_agg(what, ',') FROM effect WHERE instance = '$id'"), 'note RM008', 'on_error ran');

# ---- while a program's transaction is about to take it, or to end it: the call does not wait for that
for my $end ('COMMIT', 'ROLLBACK')
{
	$id = sql(q{SELECT romancy.run_canvas(romancy.task('outside', '1'))});
	poll_until($node, "SELECT count(*) FROM romancy.activity_tasks WHERE instance_id = '$id'", 'a task for programs', expected => '1');
	my $program = $node->background_psql('postgres');
	$program->query_safe('BEGIN');
	my $token = $program->query_safe(q{SELECT token FROM romancy.fetch_activities('q', 'w')});
	is(sql("SET statement_timeout = '20s'; SELECT romancy.cancel_task('$id', '0')"), 't', "$end of a claim: cancelled meanwhile");
	$program->query_safe($end);
	ends($id, 'failed RM008 task "0" was cancelled', "$end of a claim: failed");
	is(sql("SELECT romancy.heartbeat_activity('$token')"), 'lost', "$end of a claim: lost");
	$id = sql(q{SELECT romancy.run_canvas(romancy.task('outside', '1'))});
	poll_until($node, "SELECT count(*) FROM romancy.activity_tasks WHERE instance_id = '$id'", 'a task for programs', expected => '1');
	$token = sql(q{SELECT token FROM romancy.fetch_activities('q', 'w')});
	$program->query_safe('BEGIN');
	$program->query_safe("SELECT romancy.complete_activity('$token', '1')");
	is(sql("SET statement_timeout = '20s'; SELECT romancy.cancel_task('$id', '0')"), 't', "$end of an end: cancelled meanwhile");
	$program->query_safe($end);
	ends($id, $end eq 'COMMIT' ? 'completed 1' : 'failed RM008 task "0" was cancelled', "$end of an end: the first that commits counts");
	$program->quit;
}

# ---- by an activity: of itself (it has not ended before its transaction has), and of others in its transaction
sql(q{
	CREATE FUNCTION ends(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE p text; said text = '';
	BEGIN
		FOR p IN SELECT jsonb_array_elements_text($1) LOOP said := said || left(romancy.cancel_task(romancy.instance_id(), p)::text, 1); END LOOP;
		RETURN to_jsonb(said);
	END $$;
	SELECT romancy.define_activity('ends', 'ends');
});
$id = sql(q{SELECT romancy.run_canvas(romancy.task('ends', '["0"]'))});
ends($id, 'completed "t"', 'one that cancels itself, and returns, has ended well');
# (in a drain, where each has a transaction of its own; in a block; and in executors, where they share one)
for my $how ('drain', 'block', 'executors')
{
	sql("ALTER SYSTEM SET romancy.enabled = " . ($how eq 'executors' ? 'on' : 'off'));
	$node->reload;
	poll_until($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'romancy executor%'}, 'no executor', expected => '0') if $how ne 'executors';
	my $start = q{SELECT romancy.run_canvas(romancy.chord(romancy.group(romancy.task('ends', '["1", "2", "1"]'), romancy.task('put', '"x"'), romancy.task('put', '"y"'), romancy.task('put', '"z"')), romancy.task('total')))};
	if ($how eq 'block')
	{
		is(sql("BEGIN; $start AS id \\gset\nCALL romancy.drain(); SELECT status, error ->> 'message' FROM romancy.instances WHERE instance_id = :'id'; SELECT string_agg(what, ',' ORDER BY what) FROM effect WHERE instance = :'id'; ROLLBACK") =~ s/^\d+\n//mr,
			"failed|task \"1\" was cancelled\nz", 'in a block: the others are ended, once');
		next;
	}
	my $ended = 0;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	# in executors a neighbour may have ended before, though not in each round
	for (my $i = 1; $i <= ($how eq 'executors' ? 20 : 1) || ($ended == 0 && time < $deadline); $i++)
	{
		$id = sql($start);
		sql('CALL romancy.drain()') if $how eq 'drain';
		poll_until(sub { sql("SELECT finished_at IS NOT NULL FROM romancy.instances WHERE instance_id = '$id'") eq 't' }, "$how: $i ends");
		$ended++ if tasks($id) =~ /[12] failed RM008/;
		like(tasks($id) . sql("SELECT ' ' || status FROM romancy.instances WHERE instance_id = '$id'"),
			$how eq 'drain' ? qr/^0 completed "ttf", 1 failed RM008, 2 failed RM008, 3 completed "z", body skipped failed$/ : qr/^0 completed.*3 completed "z", body (skipped failed|completed .* completed)$/, "$how: the others are ended");
		is(sql("SELECT count(*) FROM effect WHERE instance = '$id'"), sql("SELECT count(*) - 1 FROM romancy.canvas_tasks('$id') WHERE status = 'completed'"), "$how: and what was cancelled has done nothing");
	}
	cmp_ok($ended, '>', 0, "$how: some were cancelled in time");
}

# ---- while a drain of another session runs it
sql('ALTER SYSTEM SET romancy.enabled = off');
$node->reload;
poll_until($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'romancy executor%'}, 'no executor', expected => '0');
for my $kind (qw(holds apart))
{
	$id = sql("SELECT romancy.run_canvas(romancy.chain(romancy.group(romancy.task('$kind', '\"a\"'), romancy.task('put', '\"b\"')), romancy.task('total')))");
	my $drain = $node->background_psql('postgres', on_error_stop => 0);
	$drain->query_until(qr/begun/, "\\echo begun\nCALL romancy.drain();\n\\echo it has ended\n");
	blocked(1, "drain, $kind: it runs");
	is(sql("SELECT romancy.cancel_task('$id', '0.0')"), 't', "drain, $kind: cancelled");
	$drain->query_until(qr/it has ended/, '');
	is($drain->{stderr}, '', "drain, $kind: goes on");
	ends($id, 'failed RM008 task "0.0" was cancelled', "drain, $kind: failed");
	is(tasks($id), '0.0 failed RM008, 0.1 completed "b", 1 skipped', "drain, $kind: its tasks");
	$drain->quit;
}
sql('ALTER SYSTEM SET romancy.enabled = on');
$node->reload;

# ---- at any moment: two hundred canvases, each with a long task that is cancelled somewhen
sql(q{CREATE FUNCTION sleeps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1000); RETURN $1; END $$});
sql(q{DO $$
	DECLARE id uuid; said boolean;
	BEGIN
		FOR i IN 1 .. 200 LOOP
			id := romancy.run_canvas(romancy.chord(romancy.group(romancy.task('sleeps', '1'), romancy.task('put', '2')), romancy.task('total')), labels => '{"any": true}');
			COMMIT;
			PERFORM pg_sleep(0.03 * random());
			LOOP
				said := romancy.cancel_task(id, '0');
				COMMIT;
				EXIT WHEN said;
			END LOOP;
		END LOOP;
	END $$});
poll_until($node, q{SELECT string_agg(DISTINCT concat_ws(' ', status, error ->> 'sqlstate'), ', ') FROM romancy.instances WHERE labels @> '{"any": true}'}, 'all have failed', expected => 'failed RM008');
is(sql(q{SELECT count(*) FROM romancy.t_inbox}), '0', 'no request is left');
blocked(0, 'nothing runs');
$holder->quit;
unlike(slurp_file($node->logfile), qr/ERROR:  (XX|.*tuple concurrently)/, 'no error of the engine in the log');
$node->stop('fast');
done_testing();
