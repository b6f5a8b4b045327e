# cancel_workflow interrupts what is running, wherever it blocks: a lock, an advisory lock, a
# sleep, a loop in PL/pgSQL, PL/Perl and PL/Python; in an activity of a turn, in a
# spawned one, in a procedure outside the transaction, in a handler, in a compensation. Its
# effects are undone. Ten thousand are cancelled by one call. And schedule_to_start_timeout
# is an exact deadline. It would catch a cancel that leaves the running SQL to finish, one that
# hits another instance, and one that the code has only to catch.
# Takes 35 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# no sweep helps: only wake-ups and exact deadlines do
my $node = romancy_node('cancels', 'max_worker_processes' => 12, 'romancy.max_workers' => 6, 'romancy.executors' => 3,
	map { ("romancy.${_}_interval" => '1h') } qw(timer resumption activity_timeout lock_cleanup message_timeout message_check));
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub reaches { my ($id, $status, $what) = @_; return poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", $what, expected => $status) }

my $holder = $node->background_psql('postgres');
sql(q{
	CREATE TABLE effect (n serial, instance uuid, what text);
	CREATE TABLE held (i int);
	-- the shared advisory lock 7 says that the statement which is to be interrupted has begun
	CREATE FUNCTION begun() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(7)';
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), $1 #>> '{}'); RETURN $1; END $$;
	CREATE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'undo ' || ($1 ->> 'result')); RETURN $1; END $$;
	SELECT romancy.define_activity('put', 'put(jsonb)', compensation => 'undo');
	CREATE FUNCTION table_lock(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM begun(); LOCK TABLE held; RETURN $1; END $$;
	CREATE FUNCTION advisory_lock(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM begun(); PERFORM pg_advisory_xact_lock(8); RETURN $1; END $$;
	CREATE FUNCTION sleep(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM begun(); PERFORM pg_sleep(1000); RETURN $1; END $$;
	CREATE FUNCTION plpgsql_loop(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM begun(); LOOP NULL; END LOOP; END $$;
	CREATE FUNCTION sql_query(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT begun(); SELECT to_jsonb(count(*)) FROM generate_series(1, 1000000000) a, generate_series(1, 1000000000) b';
	-- catches what it can
	CREATE FUNCTION stubborn(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM begun(); LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN OTHERS OR query_canceled THEN EXIT; END; END LOOP; RETURN put('"went on"'); END $$;
	-- catches it again and again
	CREATE FUNCTION obstinate(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM begun(); LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
	CREATE PROCEDURE outside(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'outside'); COMMIT; PERFORM begun(); PERFORM pg_sleep(1000); END $$;
	SELECT romancy.define_activity('outside', 'outside(jsonb, jsonb)', transactional => false, compensation => 'undo');
	-- (the sleep commits the first step, so that there is something to undo)
	CREATE FUNCTION runs(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('put', '"done"'); PERFORM romancy.sleep('1 ms'); RETURN romancy.activity($1 #>> '{}'); END $$;
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('put', '"done"'); RETURN romancy.await(romancy.spawn($1 #>> '{}')); END $$;
	CREATE FUNCTION handler(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('put', '"done"'); PERFORM romancy.sleep('1 ms'); PERFORM begun(); PERFORM pg_sleep(1000); RETURN $1; END $$;
	CREATE FUNCTION bystander(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('bystands'); END $$;
	CREATE FUNCTION bystands(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(9); RETURN to_jsonb(romancy.attempt()); END $$;
});
my @kinds = qw(table_lock advisory_lock sleep plpgsql_loop sql_query stubborn obstinate);
if (has_plperl('cancel of an activity in it'))
{
	sql(q{CREATE EXTENSION plperl; CREATE FUNCTION perl_loop(jsonb) RETURNS jsonb LANGUAGE plperl AS $$ spi_exec_query('SELECT begun()'); while (1) { spi_exec_query('SELECT 1'); } $$});
	push @kinds, 'perl_loop';
}
if (has_plpython('cancel of an activity in it'))
{
	sql(q{CREATE EXTENSION plpython3u; CREATE FUNCTION python_loop(jsonb) RETURNS jsonb LANGUAGE plpython3u AS $$
plpy.execute('SELECT begun()')
while True: plpy.execute('SELECT 1')
$$});
	push @kinds, 'python_loop';
}
$holder->query_safe('BEGIN');
$holder->query_safe('LOCK TABLE held');
$holder->query_safe('SELECT pg_advisory_xact_lock(8), pg_advisory_xact_lock(9)');

# it runs all the while beside the others, and is never hit
my $bystander = sql(q{SELECT romancy.start_workflow('bystander')});
poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 9 AND NOT granted}, 'a bystander runs');

sub cancel_running
{
	my ($workflow, $input, $effects, $before) = @_;
	my $what = $workflow . ($input ? " $input" : '');
	my $id = sql("SELECT romancy.start_workflow('$workflow', '" . ($input ? "\"$input\"" : 'null') . "')");
	poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND granted}, "$what: it runs");
	is(sql("SELECT romancy.cancel_workflow('$id', 'enough')"), 't', "$what: cancelled");
	reaches($id, 'cancelled', "$what: interrupted");
	poll_until($node, q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 7}, "$what: and nothing of it runs on");
	is(sql("SELECT string_agg(what, ',' ORDER BY n) FROM effect WHERE instance = '$id'"), $effects, "$what: undone");
	is(sql("SELECT concat_ws(' ', error ->> 'sqlstate', error ->> 'message', error ->> 'cancelled_by', error ->> 'previous_status', (error ->> 'cancelled_at')::timestamptz <= now()) FROM romancy.instances WHERE instance_id = '$id'"),
		"RM008 enough postgres $before t", "$what: who, when, why, from which status");
	return;
}
# (the status from which is that of the last commit: the turn under way is rolled back; before an activity that
# is not known to be quick it has committed what it had)
cancel_running('runs', $_, 'done,undo done', 'running') for @kinds;
cancel_running('spawns', $_, 'done,undo done', 'waiting_for_activity') for @kinds;
cancel_running('handler', undef, 'done,undo done', 'waiting_for_timer');
# how far it came is not known, so it is undone with a null result
sql(q{CREATE OR REPLACE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'undo ' || coalesce($1 ->> 'result', 'null')); RETURN $1; END $$});
cancel_running('runs', 'outside', 'done,outside,undo null,undo done', 'running');
is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$bystander'"), 'running', 'the bystander still runs');
$holder->query_safe('COMMIT');
poll_until($node, "SELECT output FROM romancy.instances WHERE instance_id = '$bystander'", 'and completes at its first attempt', expected => '1');

# ---- a procedure commits inside, which releases its instance: no other process takes it up meanwhile
sql(q{
	CREATE PROCEDURE commits(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'begun');
		COMMIT;
		PERFORM pg_advisory_lock(10);
		PERFORM pg_advisory_unlock(10);
		INSERT INTO effect (instance, what) VALUES (romancy.instance_id(), 'ended');
		result := '"once"';
	END $$;
	SELECT romancy.define_activity('commits', 'commits(jsonb, jsonb)', transactional => false);
});
for my $workflow (qw(runs spawns))
{
	$holder->query_safe('SELECT pg_advisory_lock(10)');
	my $i = sql(qq{SELECT romancy.start_workflow('$workflow', '"commits"')});
	poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 10 AND NOT granted}, "$workflow commits: it has committed and runs on");
	# every executor there is looks for work, again and again
	sql("SELECT romancy.start_workflow('runs', '\"bystands\"')") for 1 .. 20;
	sql("SELECT romancy.send_to('$i', 'nothing', '1')") for 1 .. 20;
	sql(q{SELECT romancy.run_sweep(name) FROM romancy.sweeps WHERE name IN ('timers', 'resumption')});
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE labels IS NULL AND workflow = 'runs' AND input = '"bystands"' AND finished_at IS NULL}, "$workflow commits: others run beside it");
	is(sql("SELECT string_agg(what, ',' ORDER BY n) FROM effect WHERE instance = '$i'"), 'done,begun', "$workflow commits: begun once");
	$holder->query_safe('SELECT pg_advisory_unlock(10)');
	poll_until($node, "SELECT output FROM romancy.instances WHERE instance_id = '$i'", "$workflow commits: its outcome is recorded", expected => '"once"');
	is(sql("SELECT string_agg(what, ',' ORDER BY n) FROM effect WHERE instance = '$i'"), 'done,begun,ended', "$workflow commits: ended once");
}

# ---- between the attempts of an activity, and of a compensation
sql(q{
	CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
	SELECT romancy.define_activity('fails', 'fails(jsonb)', retry => '{"initial_interval": "1 h", "max_interval": "1 h", "max_duration": null}');
});
my $id = sql(q{SELECT romancy.start_workflow('runs', '"fails"')});
poll_until($node, "SELECT wait ->> 'kind' = 'retry' FROM romancy.t_instance WHERE instance_id = '$id'", 'it waits for its second attempt');
is(sql("SELECT romancy.cancel_workflow('$id')"), 't', 'cancelled between attempts');
reaches($id, 'cancelled', 'and ends at once');
is(sql("SELECT count(*) FROM romancy.get_history('$id') WHERE event_type = 'CompensationExecuted'"), '1', 'undone');

# ---- in bulk
sql(q{CREATE FUNCTION many(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 day'); RETURN NULL; END $$});
sql(q{SELECT count(*) FROM romancy.start_workflows('many', array(SELECT to_jsonb(i) FROM generate_series(1, 10000) i), labels => '{"bulk": true}')});
sql(q{SELECT romancy.start_workflow('many', labels => '{"bulk": false}')});
poll_until($node, q{SELECT count(*) = 10001 FROM romancy.instances WHERE status = 'waiting_for_timer' AND workflow = 'many'}, '10,001 instances wait');
my $s = $node->background_psql('postgres');
$s->query_safe('BEGIN');
is($s->query_safe(q{SELECT romancy.cancel_workflows('{"labels": {"bulk": true}, "status": "waiting_for_timer"}')}), '10000', '10,000 are cancelled by one call');
$s->query_safe('ROLLBACK');
is(sql(q{SELECT count(*) FROM romancy.t_inbox}), '0', 'which can be rolled back');
is(sql(q{SELECT romancy.cancel_workflows('{"labels": {"bulk": true}}')}), '10000', 'again');
$s->quit;
poll_until($node, q{SELECT count(*) = 10000 FROM romancy.instances WHERE status = 'cancelled' AND workflow = 'many'}, 'and all end');
is(sql(q{SELECT string_agg(status, ',') FROM romancy.instances WHERE workflow = 'many' AND status <> 'cancelled'}), 'waiting_for_timer', 'but for the one that was not meant');

# ---- schedule_to_start_timeout: a task that no program begins in time fails, one that is begun in time does not
sql(q{
	SELECT romancy.define_activity('unmanned', queue => 'unmanned', schedule_to_start_timeout => '200 ms');
	SELECT romancy.define_activity('manned', queue => 'manned', schedule_to_start_timeout => '1 h', start_to_close_timeout => '1 h');
	CREATE FUNCTION calls(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity($1 #>> '{}'); END $$;
	CREATE FUNCTION spawned(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn($1 #>> '{}')); END $$;
});
for my $workflow (qw(calls spawned))
{
	$id = sql(qq{SELECT romancy.start_workflow('$workflow', '"unmanned"')});
	reaches($id, 'failed', "$workflow: not begun in time");
	is(sql("SELECT error ->> 'sqlstate' FROM romancy.instances WHERE instance_id = '$id'"), 'RM006', "$workflow: a timeout");
	is(sql(q{SELECT count(*) FROM romancy.fetch_activities('unmanned', 'w')}), '0', "$workflow: and nobody gets it any more");
	$id = sql(qq{SELECT romancy.start_workflow('$workflow', '"manned"')});
	reaches($id, 'waiting_for_activity', "$workflow: it waits for a program");
	is(sql(q{SELECT romancy.complete_activity(token, '7') FROM romancy.fetch_activities('manned', 'w')}), 't', "$workflow: begun in time");
	poll_until($node, "SELECT output FROM romancy.instances WHERE instance_id = '$id'", "$workflow: its result", expected => '7');
}
# ---- at any moment, also between the claim of an instance or a task and the begin of its step: it waits there for those that were claimed with it
sql(q{
	CREATE FUNCTION long(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep($1::float); RETURN $1; END $$;
	CREATE FUNCTION long_called(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('long', $1); END $$;
	CREATE FUNCTION long_spawned(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('long', $1)); END $$;
	CREATE FUNCTION apart_called(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('long_apart', $1); END $$;
	CREATE FUNCTION apart_spawned(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('long_apart', $1)); END $$;
	SELECT romancy.define_activity('long_apart', 'long(jsonb)', transactional => false);
});
for my $workflow (qw(long_called long_spawned))
{
	sql(qq{DO \$\$
		DECLARE last uuid[];
		BEGIN
			FOR i IN 1 .. 50 LOOP
				PERFORM romancy.start_workflow('$workflow', '0.001') FROM generate_series(1, 20);
				last := array(SELECT romancy.start_workflow('$workflow', '1000') FROM generate_series(1, 2));
				COMMIT;
				PERFORM pg_sleep(0.05 * random());
				PERFORM romancy.cancel_workflow(id) FROM unnest(last) id;
				COMMIT;
			END LOOP;
		END \$\$});
	poll_until($node, "SELECT string_agg(DISTINCT status::text, ', ') FROM romancy.instances WHERE workflow = '$workflow' AND input = '1000'", "$workflow: cancelled at any moment, each ends", expected => 'cancelled');
}
# a step that is not transactional begins after a commit, which takes 0.1 s here: many of the cancels come between the two
$node->append_conf('postgresql.conf', "fsync = on\ncommit_siblings = 0\ncommit_delay = 100000");
$node->reload;
for my $workflow (qw(apart_called apart_spawned))
{
	sql(qq{SET synchronous_commit = off;
		DO \$\$
		BEGIN
			FOR i IN 1 .. 3 LOOP
				CREATE TEMP TABLE many AS SELECT romancy.start_workflow('$workflow', '1000') AS id FROM generate_series(1, 2);
				COMMIT;
				FOR i IN 1 .. 2 LOOP
					PERFORM pg_sleep(0.1 * random());
					PERFORM romancy.cancel_workflow(id) FROM many OFFSET i - 1 LIMIT 1;
					COMMIT;
				END LOOP;
				DROP TABLE many;
				COMMIT;
			END LOOP;
		END \$\$});
	poll_until($node, "SELECT string_agg(DISTINCT status::text, ', ') FROM romancy.instances WHERE workflow = '$workflow'", "$workflow: cancelled at any moment, each ends", expected => 'cancelled');
}
$holder->quit;
$node->stop;
done_testing();
