# Running and waiting work, in one look: view waiting, pg_stat_activity, activity_tasks, pollers and queues,
# with workers that run. It would catch a step that runs and is not shown, and a queue whose silence does not show, and an attempt or an error that is not of the step beside it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('waiting', 'max_worker_processes' => 12, 'romancy.max_workers' => 5, 'romancy.executors' => 3);

$node->safe_psql('postgres', q{
	CREATE TABLE go (what text);
	CREATE FUNCTION holds(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN WHILE NOT EXISTS (SELECT FROM go WHERE what = i ->> 0) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN i; END $$;
	CREATE FUNCTION calls(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('holds', i); END $$;
	CREATE FUNCTION maps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('holds', jsonb_build_array(i)); END $$;
	CREATE FUNCTION computes(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.workflow_now(); WHILE NOT EXISTS (SELECT FROM go WHERE what = i ->> 0) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN i; END $$;
	CREATE FUNCTION outside(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('charge', i); END $$;
	SELECT romancy.define_activity('charge', queue => 'payments');
});

sub row { return $node->safe_psql('postgres', $_[0]) }
sub start { return row("SELECT romancy.start_workflow('$_[0]', '[\"$_[0]\"]')") }
sub go { row("INSERT INTO go VALUES ('$_[0]')"); return }

# an activity in a turn
my $id = start('calls');
poll_until($node, "SELECT kind || ' ' || step FROM romancy.waiting WHERE instance_id = '$id'", 'a running activity is shown', expected => 'running holds:1');
is(row("SELECT a.query FROM romancy.waiting w JOIN pg_stat_activity a USING (pid) WHERE instance_id = '$id'"),
	'romancy: workflow "calls", step "holds:1"', 'its process says so in pg_stat_activity');
is(row("SELECT status || ' ' || (since <= clock_timestamp()) || ' ' || (until IS NULL) FROM romancy.waiting WHERE instance_id = '$id'"), 'running true true', 'status, since, until');
go('calls');
poll_until($node, "SELECT count(*) = 0 FROM romancy.waiting WHERE instance_id = '$id'", 'when it has ended it is gone');

# a task in the database
$id = start('maps');
poll_until($node, "SELECT kind || ' ' || step FROM romancy.waiting WHERE instance_id = '$id'", 'a running task is shown', expected => 'running holds:1');
is(row("SELECT t.status || ' ' || (t.pid = w.pid) || ' ' || w.status FROM romancy.activity_tasks t JOIN romancy.waiting w USING (instance_id) WHERE instance_id = '$id'"),
	'running true waiting_for_activity', 'activity_tasks has it as running, in the same process');
go('maps');
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", 'and it ends', expected => 'completed');

# what is awaited has the step and the name that the handler gave it
$node->safe_psql('postgres', q{
	CREATE FUNCTION parent(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.call_workflow('listens'); END $$;
	CREATE FUNCTION listens(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn_receive('news')); END $$;
});
$id = row(q{SELECT romancy.start_workflow('parent')});
poll_until($node, q{SELECT string_agg(kind || ' ' || step || ' ' || name, ', ' ORDER BY workflow DESC) FROM romancy.waiting}, 'a child, and a message',
	expected => 'workflow listens:1 listens, message receive_news:1 news');
row("SELECT romancy.cancel_workflow('$id')");
poll_until($node, q{SELECT count(*) = 0 FROM romancy.waiting}, 'and they end');

# a step that has failed, while another runs: nothing of one is shown as the other's
$node->safe_psql('postgres', q{
	CREATE FUNCTION refuses(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no luck'; END $$;
	CREATE FUNCTION pair(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN to_jsonb(romancy.await_all(array[romancy.spawn('refuses', retry => '{"initial_interval": "1h", "max_interval": "1h", "max_duration": null}'), romancy.spawn('holds', i)])); END $$;
});
$id = start('pair');
poll_until($node, "SELECT concat_ws(' ', kind, step, coalesce(attempt, 0), error ->> 'step', error ->> 'message') FROM romancy.waiting WHERE instance_id = '$id'",
	'the step that runs, and the error of the other', expected => 'running holds:1 0 refuses:1 no luck');
go('pair');
poll_until($node, "SELECT concat_ws(' ', kind, step, attempt, error ->> 'step', error ->> 'message') FROM romancy.waiting WHERE instance_id = '$id'",
	'then the other alone', expected => 'retry refuses:1 1 no luck');
row("SELECT romancy.cancel_workflow('$id')");

# what a limit holds back has had no attempt
$node->safe_psql('postgres', q{
	CREATE FUNCTION rated(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
	CREATE FUNCTION calls_rated(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('rated', i); END $$;
	SELECT romancy.define_activity('rated', 'rated', rate_limit => '1/h');
	SELECT romancy.start_workflows('calls_rated', array_fill('1'::jsonb, array[2]));
});
poll_until($node, q{SELECT kind || ' ' || step || ' ' || attempt FROM romancy.waiting WHERE workflow = 'calls_rated'}, 'held by a limit', expected => 'rate_limit rated:1 0');
row(q{SELECT romancy.cancel_workflows('{"workflow": "calls_rated"}')});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.waiting}, 'all have ended');

# the handler itself
$id = start('computes');
poll_until($node, "SELECT kind || (step IS NULL)::text FROM romancy.waiting WHERE instance_id = '$id'", 'a handler that computes', expected => 'runningtrue');
is(row("SELECT a.query FROM romancy.waiting w JOIN pg_stat_activity a USING (pid) WHERE instance_id = '$id'"), 'romancy: workflow "computes"', 'in pg_stat_activity');
go('computes');
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", 'and it ends', expected => 'completed');

# a queue that no program polls
$id = start('outside');
poll_until($node, "SELECT kind || ' ' || name || ' ' || queue FROM romancy.waiting WHERE instance_id = '$id'", 'it waits for a program', expected => 'activity charge payments');
is(row(q{SELECT ready, definitions, pollers, last_poll IS NULL FROM romancy.queues WHERE name = 'payments'}), '1|1|0|t', 'which nobody is');
my ($err) = ('');
$node->psql('postgres', "CALL romancy.await_result('$id', '1ms')", stderr => \$err);
like($err, qr/at step "charge:1" \(activity, queue "payments"\) since .*No program polls queue "payments"\./, 'a caller who waited is told');
is(row(q{SELECT count(*) FROM romancy.pollers}), '0', 'no poller');
is(row(q{SELECT activity FROM romancy.fetch_activities('payments', 'box 1')}), 'charge', 'now one fetches');
is(row("SELECT worker_id || ' ' || attempt || ' ' || (until > now()) FROM romancy.waiting WHERE instance_id = '$id'"), 'box 1 1 true', 'who has it, and for how long');
is(row(q{SELECT queue, kind, worker_id, owner = current_user, waiting, polls, tasks FROM romancy.pollers}), 'payments|activities|box 1|t|f|1|1', 'a poller');
is(row(q{SELECT running, pollers FROM romancy.queues WHERE name = 'payments'}), '1|1', 'the queue has one');

# one that waits for work, and one that was killed while it waited
my $poll = $node->background_psql('postgres', on_error_stop => 0);
$poll->query_until(qr/begun/, q{\echo begun
CALL romancy.poll_activities('nothing', 'box 2', wait => '1 hour');
});
poll_until($node, q{SELECT waiting FROM romancy.pollers WHERE worker_id = 'box 2'}, 'a program that waits');
is(row(q{SELECT pg_terminate_backend(pid) FROM romancy.pollers WHERE worker_id = 'box 2'}), 't', 'it is terminated');
poll_until($node, q{SELECT NOT waiting FROM romancy.pollers WHERE worker_id = 'box 2'}, 'and waits no more');
is(row(q{SELECT definitions, pollers FROM romancy.queues WHERE name = 'nothing'}), '', 'a queue that only a program names is none');
eval { $poll->quit };

# what needs a human: a queue that no program polls, an instance that the engine has paused
is(row(q{SELECT romancy.health() ->> 'attention'}), '[]', 'nothing needs a human');
row(q{SELECT romancy.define_activity('other', queue => 'parcels')});
$node->safe_psql('postgres', q{CREATE FUNCTION sends(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('other', i); END $$;
	CREATE FUNCTION errs(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('no such', i); END $$});
start('sends');
$id = start('errs');
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", 'paused by the engine', expected => 'paused');
poll_until($node, q{SELECT ready FROM romancy.queues WHERE name = 'parcels'}, 'a task is ready', expected => '1');
row(q{UPDATE romancy.t_task SET created_at = created_at - interval '2 min' WHERE queue LIKE '%/parcels'});
is(row(q{SELECT romancy.health() ->> 'attention'}), q{["1 instance is paused by the engine: see romancy.waiting, paused_by = 'romancy'", "tasks of queue \"parcels\" wait, and no program polls it"]}, 'health names both');
is(row(q{SELECT romancy.health() ->> 'healthy'}), 'true', 'though workflows run');
my $metrics = row(q{SELECT romancy.metrics()});
like($metrics, qr/^romancy_instances\{status="paused"\} 1$/m, 'metrics: live instances by status');
like($metrics, qr/^romancy_paused_by_engine_instances 1$/m, 'those that the engine has paused');
like($metrics, qr/^romancy_queue_tasks\{namespace="\w+",queue="parcels",state="ready"\} 1$/m, 'depth of a queue');
like($metrics, qr/^romancy_queue_oldest_ready_seconds\{namespace="\w+",queue="parcels"\} 12\d/m, 'its age');
like($metrics, qr/^romancy_queue_pollers\{namespace="\w+",queue="parcels"\} 0$/m, 'nobody polls it');
row(q{SELECT * FROM romancy.fetch_activities('parcels', 'box 3')});
is(row(q{SELECT jsonb_array_length(romancy.health() -> 'attention')}), '1', 'when somebody has polled it is silent no more');

# a role sees its own; a queue of its namespace has nothing to do with one of that name in another
$node->safe_psql('postgres', q{CREATE ROLE shop LOGIN; SELECT romancy.grant_usage('shop'); GRANT USAGE, CREATE ON SCHEMA public TO shop; SET ROLE shop;
	SELECT romancy.define_activity('mine', queue => 'payments')});
is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM romancy.waiting), (SELECT count(*) FROM romancy.pollers), (SELECT pollers FROM romancy.queues WHERE name = 'payments'),
	(SELECT string_agg(name, ' ') FROM romancy.activities), (SELECT count(*) FROM romancy.workflows)}, extra_params => ['-U', 'shop']), '0|0|0|mine|0', 'each sees its own');

$node->stop;
done_testing();
