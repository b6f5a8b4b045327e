# With one executor, and no place for another: a cancel, a termination and the execution_timeout of an instance that waits for its parts take effect while the
# executor runs one of these; its compensations run, the parts that have not begun never do, and each effect has its history row. A step of another instance goes
# on. It would catch a cancel that waits for the end of the step that it is to stop, one that lets the next part begin, and one that hits others.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# (one place, so there is no scheduler while the executor is there)
my $node = romancy_node('one_executor', 'romancy.executors' => 1, 'romancy.max_workers' => 1, 'log_min_messages' => 'warning');
sub value { return $node->safe_psql('postgres', $_[0]) }
sub ends { my ($id, $is, $what) = @_; return poll_until($node, "SELECT concat_ws(' ', status, error ->> 'sqlstate') FROM romancy.instances WHERE instance_id = '$id'", $what, expected => $is) }

value(q{
	CREATE TABLE effect (n serial, instance uuid, what text);
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), $1 #>> '{}'); RETURN $1; END $$;
	CREATE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'undo ' || coalesce($1 ->> 'result', 'null')); RETURN $1; END $$;
	CREATE SEQUENCE runs;
	CREATE FUNCTION begun() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('runs'), pg_advisory_xact_lock_shared(7), pg_advisory_xact_lock_shared(8); END $$;
	-- "quick" is, all others wait for the lock; some catch what interrupts them
	CREATE FUNCTION part(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM put($1);
		IF $1 <> '"quick"' THEN PERFORM begun(); END IF;
		RETURN $1;
	END $$;
	CREATE FUNCTION obstinate(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM put($1); LOOP BEGIN IF $1 <> '"quick"' THEN PERFORM begun(); END IF; EXIT; EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; RETURN $1; END $$;
	CREATE PROCEDURE apart(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$ BEGIN COMMIT; IF $1 <> '"quick"' THEN PERFORM begun(); END IF; PERFORM put($1); result := $1; END $$;
	CREATE PROCEDURE commits(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM put('"did"'); COMMIT; PERFORM begun(); result := $1; END $$;
	SELECT romancy.define_activity('commits', 'commits(jsonb, jsonb)', transactional => false, compensation => 'undo');
	SELECT romancy.define_activity('put', 'put', compensation => 'undo'), romancy.define_activity('part', 'part', compensation => 'undo'),
		romancy.define_activity('obstinate', 'obstinate', compensation => 'undo'), romancy.define_activity('apart', 'apart(jsonb, jsonb)', transactional => false, compensation => 'undo');
	CREATE FUNCTION maps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('put', '"first"'); RETURN romancy.map($1 #>> '{}', '["quick", "a", "b", "c"]'); END $$;
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('put', '"first"');
		RETURN romancy.await_all(ARRAY[romancy.spawn('part', '"quick"'), romancy.spawn($1 #>> '{}', '"a"'), romancy.spawn($1 #>> '{}', '"b"')]);
	END $$;
	CREATE FUNCTION limited(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN maps($1); END $$;
	SELECT romancy.define_workflow('limited', 'limited', execution_timeout => '500 ms');
	CREATE FUNCTION limited_apart(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN spawns($1); END $$;
	SELECT romancy.define_workflow('limited_apart', 'limited_apart', execution_timeout => '4 s');
	CREATE FUNCTION calls(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('part', $1); END $$;
});
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(8)');
my $runs = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND granted};

# consistent($id, $what): what is done and not undone, and the history of it
sub consistent
{
	my ($id, $what) = @_;
	is(value("SELECT count(*) FILTER (WHERE what LIKE 'undo%') || ' of ' || count(*) FILTER (WHERE what NOT LIKE 'undo%') FROM effect WHERE instance = '$id'"),
		value("SELECT count(*) FILTER (WHERE event_type = 'CompensationExecuted') || ' of ' || count(*) FILTER (WHERE event_type = 'ActivityCompleted') FROM romancy.get_history('$id')"), "$what: effects and history");
	is(value("SELECT count(*) FROM romancy.t_task WHERE instance_id = '$id'"), '0', "$what: no task is left");
	is(value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7"), '0', "$what: and none runs");
	return;
}
for my $how (['maps', 'part'], ['maps', 'obstinate'], ['maps', 'apart'], ['spawns', 'part'], ['spawns', 'apart'])
{
	my ($workflow, $activity) = @$how;
	my $what = "$workflow $activity";
	my $id = value(qq{SELECT romancy.start_workflow('$workflow', '"$activity"')});
	poll_until($node, $runs, "$what: the executor runs one of its parts", expected => 1);
	my $begun = value('SELECT last_value FROM runs');
	is(value("SELECT romancy.cancel_workflow('$id')"), 't', "$what: cancelled");
	ends($id, 'cancelled RM008', "$what: it ends");
	is(value('SELECT last_value FROM runs'), $begun, "$what: no other part began") if $activity ne 'obstinate';
	is(value("SELECT string_agg(what, ',' ORDER BY what) FROM effect WHERE instance = '$id' AND what LIKE 'undo f%'"), 'undo first', "$what: its first step is undone");
	consistent($id, $what);
}

# Terminated: no compensation, and the step is interrupted all the same
my $id = value(q{SELECT romancy.start_workflow('spawns', '"part"')});
poll_until($node, $runs, 'terminate: one of its parts runs', expected => 1);
value("SELECT romancy.terminate_workflow('$id')");
ends($id, 'cancelled RM008', 'terminate: it ends');
is(value("SELECT count(*) FROM effect WHERE instance = '$id' AND what LIKE 'undo%'"), '0', 'terminate: nothing is undone');

# Its time is over
$id = value(q{SELECT romancy.start_workflow('limited', '"part"')});
ends($id, 'failed RM006', 'execution_timeout: it ends');
is(value("SELECT count(*) > 0 FROM effect WHERE instance = '$id'"), 't', 'execution_timeout: it had begun');
consistent($id, 'execution_timeout');

# Effects that a step outside of any transaction has committed before it was interrupted are undone: how far it came is not known
for my $how ([ 'spawns', 'cancelled RM008' ], [ 'maps', 'cancelled RM008' ], [ 'limited_apart', 'failed RM006' ])
{
	my ($workflow, $end) = @$how;
	$id = value(qq{SELECT romancy.start_workflow('$workflow', '"commits"')});
	poll_until($node, $runs, "$workflow, committed: one of its parts runs", expected => 1);
	is(value("SELECT romancy.cancel_workflow('$id')"), 't', "$workflow, committed: cancelled") if $workflow ne 'limited_apart';
	ends($id, $end, "$workflow, committed: it ends");
	is(value("SELECT count(*) FILTER (WHERE what = 'did') || ' ' || count(*) FILTER (WHERE what = 'undo null') FROM effect WHERE instance = '$id'"), '1 1', "$workflow, committed: what it has done is undone");
	is(value("SELECT count(*) FROM romancy.get_history('$id') WHERE event_type = 'ActivityFailed' AND data::text LIKE '%was interrupted by the end of its workflow%'"), '1', "$workflow, committed: the history tells");
}

# The same of a canvas's member; what comes after it does not begin
for my $how ([ 'cancelled RM008', 'NULL' ], [ 'failed RM006', q{'4 s'} ])
{
	my ($end, $timeout) = @$how;
	$id = value(qq{SELECT romancy.run_canvas(romancy.options(romancy.chain(romancy.group(romancy.task('put', '"first"'), romancy.task('commits', '"a"')), romancy.task('put', '"next"')),
		on_error => romancy.task('put', '"on_error"')), execution_timeout => $timeout)});
	poll_until($node, $runs, "canvas, committed: a member runs, $end", expected => 1);
	is(value("SELECT romancy.cancel_workflow('$id')"), 't', 'canvas, committed: cancelled') if $end =~ /RM008/;
	ends($id, $end, "canvas, committed: it ends, $end");
	is(value("SELECT string_agg(what, ',' ORDER BY what) FROM effect WHERE instance = '$id' AND what <> 'first' AND what <> 'undo first'"), 'did,undo null', 'canvas, committed: what its member has done is undone, and nothing comes after it');
	is(value("SELECT count(*) FILTER (WHERE what = 'first') - count(*) FILTER (WHERE what = 'undo first') FROM effect WHERE instance = '$id'"), '0', 'canvas, committed: and the other member, if it ran');
	is(value("SELECT concat_ws(' ', status, attempt, error ->> 'sqlstate', error ->> 'unknown') FROM romancy.canvas_tasks('$id') WHERE activity = 'commits'"), 'failed 1 RM008 true', 'canvas, committed: canvas_tasks tells');
	is(value("SELECT count(*) FROM romancy.t_task WHERE instance_id = '$id'"), '0', 'canvas, committed: no task is left');
}

# And of one whose process has ended in the middle of it, before another one could begin it again
for my $workflow ('spawns', 'maps', 'canvas')
{
	$id = $workflow eq 'canvas' ? value(q{SELECT romancy.run_canvas(romancy.group(romancy.task('put', '"first"'), romancy.task('commits', '"a"')))})
		: value(qq{SELECT romancy.start_workflow('$workflow', '"commits"')});
	poll_until($node, $runs, "$workflow, its process ends: one of its parts runs", expected => 1);
	is(value("BEGIN; SELECT romancy.cancel_workflow('$id'); SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND granted; COMMIT"), "t\nt", "$workflow, its process ends: cancelled");
	ends($id, 'cancelled RM008', "$workflow, its process ends: it ends");
	is(value("SELECT count(*) FILTER (WHERE what = 'did') > 0, count(*) FILTER (WHERE what = 'undo null') FROM effect WHERE instance = '$id'"), 't|1', "$workflow, its process ends: what it has done is undone");
	is(value("SELECT count(*) FROM romancy.t_task WHERE instance_id = '$id'"), '0', "$workflow, its process ends: no task is left");
}

# Another instance's step is not interrupted: it waits for the same lock after it, in one attempt
my $other = value(q{SELECT romancy.start_workflow('calls', '"other"')});
poll_until($node, $runs, 'another: its step runs', expected => 1);
my $begun = value('SELECT last_value FROM runs');
$id = value(q{SELECT romancy.start_workflow('spawns', '"part"')});
is(value("SELECT romancy.cancel_workflow('$id')"), 't', 'another: one that waits for the executor is cancelled');
is(value($runs), '1', 'another: the step goes on');
$holder->query_safe('SELECT pg_advisory_unlock(8)');
ends($other, 'completed', 'another: completed');
ends($id, 'cancelled RM008', 'another: and the cancelled one has ended');
is(value('SELECT last_value FROM runs'), $begun, 'another: at its first attempt, and no part of the other one began');

# In a session that drains, while no worker runs
value('ALTER SYSTEM SET romancy.enabled = off'); value('SELECT pg_reload_conf()');
poll_until($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'romancy executor%'}, 'drain: no executor', expected => '0');
$holder->query_safe('SELECT pg_advisory_lock(8)');
$id = value(q{SELECT romancy.start_workflow('maps', '"part"')});
my $drain = $node->background_psql('postgres', on_error_stop => 0);
$drain->query_until(qr/begun/, "\\echo begun\nCALL romancy.drain();\n\\echo it has ended\n");
poll_until($node, $runs, 'drain: one of its parts runs', expected => 1);
is(value("SELECT romancy.cancel_workflow('$id')"), 't', 'drain: cancelled');
$drain->query_until(qr/it has ended/, '');
is($drain->{stderr}, '', 'drain: it goes on');
ends($id, 'cancelled RM008', 'drain: it ends');
consistent($id, 'drain');
$id = value(q{SELECT romancy.start_workflow('spawns', '"commits"')});
$drain->query_until(qr/begun/, "\\echo begun\nCALL romancy.drain();\n\\echo it has ended\n");
poll_until($node, $runs, 'drain, committed: one of its parts runs', expected => 1);
is(value("SELECT romancy.cancel_workflow('$id')"), 't', 'drain, committed: cancelled');
$drain->query_until(qr/it has ended/, '');
is($drain->{stderr}, '', 'drain, committed: it goes on');
ends($id, 'cancelled RM008', 'drain, committed: it ends');
is(value("SELECT count(*) FILTER (WHERE what = 'did') || ' ' || count(*) FILTER (WHERE what = 'undo null') FROM effect WHERE instance = '$id'"), '1 1', 'drain, committed: what it has done is undone');
$drain->quit;
value('ALTER SYSTEM SET romancy.enabled = on'); value('SELECT pg_reload_conf()');

# At any moment, also between the claim of a part and the begin of its step
value(q{DO $$
	DECLARE id uuid;
	BEGIN
		FOR i IN 1 .. 60 LOOP
			id := romancy.start_workflow(CASE i % 2 WHEN 0 THEN 'maps' ELSE 'spawns' END, CASE i % 3 WHEN 0 THEN '"apart"' ELSE '"part"' END::jsonb);
			COMMIT;
			PERFORM pg_sleep(0.02 * random());
			PERFORM romancy.cancel_workflow(id);
			COMMIT;
		END LOOP;
	END $$});
poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE finished_at IS NULL}, 'many: each ends, though none of their steps can', expected => 0);
is(value(q{SELECT count(*) FROM romancy.t_task}), '0', 'many: no task is left');
is(value(q{
	SELECT coalesce(string_agg(concat_ws(' ', workflow, input, effects, history), '; '), '')
	FROM romancy.instances i,
		LATERAL (SELECT string_agg(what, ',' ORDER BY what) AS effects, count(*) FILTER (WHERE what NOT LIKE 'undo%') AS n FROM effect e WHERE e.instance = i.instance_id) e,
		LATERAL (SELECT string_agg(concat(event_type, ' ', activity_id), ',' ORDER BY seq) AS history, count(*) FILTER (WHERE event_type = 'ActivityCompleted') AS m FROM romancy.get_history(i.instance_id)) h
	WHERE i.workflow IN ('maps', 'spawns') AND i.status = 'cancelled' AND i.error ->> 'message' = 'cancelled' AND e.n <> h.m AND effects NOT LIKE '%did%'}), '', 'many: each effect has its history row');
$node->stop('fast');
done_testing();
