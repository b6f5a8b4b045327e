# On 100,000 instances of mixed status, with history, inbox, task, message and other
# rows, no claim, sweep, list or result query reads a table from end to end, sorts more than a batch,
# or reads many rows for the few that it wants. The real calls are made, by sessions and by
# workers, and auto_explain writes the plan of every statement under them into the log.
# It would catch a query that is quick in an empty database and slow in a full one.
# Takes 60 s.
use strict;
use warnings;
use Encode qw(encode_utf8);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# (a server out of a wheel comes without the modules of contrib)
chomp(my $lib = `pg_config --pkglibdir`);
plan skip_all => 'this server has no module auto_explain' unless -f "$lib/auto_explain.so";

my $n = 100_000;

# A page is 50 rows, a batch 100, and sweeps pass over ten times as many
my $many = 1000;

my $node = romancy_node('plans', 'autovacuum' => 'off', 'jit' => 'off', 'log_destination' => 'jsonlog', 'logging_collector' => 'on', 'log_directory' => 'json', 'log_filename' => 'server.log',
	'log_statement' => 'none', 'shared_buffers' => '256MB', 'romancy.enabled' => 'off', 'romancy.worker_idle_timeout' => '2s', 'max_wal_size' => '8GB', 'romancy.schedulers' => 2,
	map({ ("romancy.${_}_interval" => '1s') } qw(timer resumption lock_cleanup retention activity_timeout message_check message_timeout channel_cleanup queue_notify outbox reindex)));
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'romancy, auto_explain'
auto_explain.log_min_duration = -1
auto_explain.log_analyze = on
auto_explain.log_timing = off
auto_explain.log_nested_statements = on
auto_explain.log_format = json
});
$node->restart;
$node->safe_psql('postgres', q{
	CREATE ROLE few; SELECT romancy.grant_usage('few');
	CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION w(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('echo', $1); PERFORM romancy.sleep('1 day'); RETURN $1; END $$;
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('echo', $1); END $$;
	CREATE FUNCTION wide(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.set_value('k', $1), romancy.subscribe('b'), romancy.join_group('g');
		PERFORM romancy.await(romancy.spawn('echo', $1)), romancy.publish('b', '1'), romancy.receive('b'), romancy.call_workflow('quick', $1);
		PERFORM romancy.subscribe('long', 'competing'), romancy.receive('long'), romancy.unsubscribe('long'), romancy.subscribe('b2');
		PERFORM romancy.send_to(romancy.instance_id(), 'self', '1'), romancy.receive('self'), romancy.send_to(romancy.instance_id(), 'self', '2');
		PERFORM romancy.await(romancy.spawn_receive('self')), romancy.raise_event('own', 's', instance_id => romancy.instance_id()), romancy.wait_event('own');
		BEGIN PERFORM romancy.receive('silence', '1ms'); EXCEPTION WHEN SQLSTATE 'RM006' THEN NULL; END;
		PERFORM romancy.sleep('1ms');
		RETURN $1;
	END $$;
	CREATE FUNCTION again(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF $1 = '3' THEN RETURN $1; END IF; PERFORM romancy.recur(to_jsonb($1::int + 1)); RETURN NULL; END $$;
	CREATE FUNCTION asks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('queued', $1); END $$;
	SELECT romancy.define_activity('queued', queue => 'q');
	SELECT romancy.start_workflow('w', '0', idempotency_key => 'first'), romancy.start_workflow('w', '0', instance_id => '00000000-0000-7000-8000-000000000000');
});

# Rows as the engine would have left them; what is due is due now and then
$node->safe_psql('postgres', qq{
	BEGIN;
	INSERT INTO romancy.t_instance (instance_id, created_at, wake_at, started_at, updated_at, finished_at, last_seq, def_id, flags, status, owner, workflow,
			parent_id, continued_from, idempotency_key, input, output, error, labels, wait, result_expires, namespace)
		SELECT ('01a0' || lpad(to_hex(i), 8, '0') || '70008000' || lpad(to_hex(i), 12, '0'))::uuid, at,
			CASE WHEN s IN ('completed', 'failed', 'cancelled', 'recurred') THEN NULL WHEN s IN ('paused', 'waiting_for_message', 'waiting_for_activity', 'waiting_for_workflow') THEN 'infinity'
				WHEN i % 500 = 3 THEN now() - interval '1 min' ELSE now() + i * interval '1 s' + interval '1 h' END,
			at, at, CASE WHEN s IN ('completed', 'failed', 'cancelled', 'recurred') THEN at + interval '1 s' END, 1, d.def_id, 0, s::romancy.t_status,
			CASE WHEN i % 10000 = 1 THEN 'few' ELSE 'postgres' END, 'w', CASE WHEN i % 50 = 0 THEN ('01a0' || lpad(to_hex(i + 1), 8, '0') || '70008000' || lpad(to_hex(i + 1), 12, '0'))::uuid END,
			CASE WHEN i % 50 = 7 THEN ('01a0' || lpad(to_hex(i - 1), 8, '0') || '70008000' || lpad(to_hex(i - 1), 12, '0'))::uuid END,
			CASE WHEN i % 2 = 0 THEN 'key ' || i END, jsonb_build_object('i', i), CASE WHEN s = 'completed' THEN '1'::jsonb END,
			CASE WHEN s = 'failed' THEN '{"sqlstate": "P0001", "message": "so"}'::jsonb END, jsonb_build_object('n', i % 1000), NULL, CASE WHEN i % 20 = 0 THEN interval '1 y' END, d.namespace
		FROM generate_series(1, $n) i, (SELECT def_id, namespace FROM romancy.t_workflow LIMIT 1) d,
			LATERAL (SELECT (ARRAY['completed', 'completed', 'completed', 'waiting_for_timer', 'waiting_for_timer', 'waiting_for_message', 'waiting_for_activity', 'failed', 'pending',
				CASE i / 10 % 4 WHEN 0 THEN 'cancelled' WHEN 1 THEN 'paused' WHEN 2 THEN 'recurred' ELSE 'waiting_for_workflow' END])[i % 10 + 1] AS s,
				now() - (CASE WHEN i < $n / 50 THEN 40 ELSE 10 END) * interval '1 day' + i * interval '1 s' AS at) x;
	INSERT INTO romancy.t_history SELECT i.instance_id, 1, h.events FROM romancy.t_instance i, (SELECT romancy.t_events_pack(ARRAY[ROW(1, 'echo:1', NULL, input, '1', NULL, now())::romancy.t_event]) AS events FROM romancy.t_instance LIMIT 1) h WHERE i.last_seq = 1;
	INSERT INTO romancy.t_history_archive SELECT * FROM romancy.t_history h;
	INSERT INTO romancy.t_idempotency SELECT namespace, owner, workflow, idempotency_key, instance_id FROM romancy.t_instance WHERE idempotency_key LIKE 'key %';
	INSERT INTO romancy.t_value SELECT instance_id, 'k', '1' FROM romancy.t_instance;
	INSERT INTO romancy.t_inbox (instance_id, kind, step, result) SELECT instance_id, 3, 'nobody:' || g, '1' FROM romancy.t_instance, generate_series(1, 2) g WHERE status = 'paused';
	INSERT INTO romancy.t_group SELECT namespace, 'group ' || i % 100, instance_id FROM (SELECT namespace, instance_id, row_number() OVER () AS i FROM romancy.t_instance WHERE wake_at IS NOT NULL) x;
	INSERT INTO romancy.t_channel (namespace, channel, mode) SELECT (SELECT namespace FROM romancy.t_workflow LIMIT 1), 'channel ' || i, CASE i % 2 WHEN 0 THEN 'broadcast' ELSE 'competing' END FROM generate_series(0, 999) i;
	INSERT INTO romancy.t_subscription (namespace, instance_id, mailbox, channel, mode, xid)
		SELECT namespace, instance_id, instance_id, 'channel ' || i % 1000, CASE i % 2 WHEN 0 THEN 'broadcast' ELSE 'competing' END, pg_current_xact_id()
		FROM (SELECT namespace, instance_id, row_number() OVER () AS i FROM romancy.t_instance WHERE status = 'waiting_for_message') x;
	INSERT INTO romancy.t_message (namespace, xid, kind, channel, data) SELECT (SELECT namespace FROM romancy.t_workflow LIMIT 1), pg_current_xact_id(), CASE i % 2 WHEN 0 THEN 'b' ELSE 'o' END, 'channel ' || i % 1000 + 1000 * (i % 2), '1' FROM generate_series(1, 20000) i;
	-- one channel with a long queue, and many that compete for it and are busy
	INSERT INTO romancy.t_channel (namespace, channel, mode) SELECT namespace, 'long', 'competing' FROM romancy.t_workflow LIMIT 1;
	INSERT INTO romancy.t_message (namespace, xid, kind, channel, data) SELECT (SELECT namespace FROM romancy.t_workflow LIMIT 1), pg_current_xact_id(), 'o', 'long', '1' FROM generate_series(1, 20000);
	INSERT INTO romancy.t_subscription (namespace, instance_id, mailbox, channel, mode, xid) SELECT namespace, instance_id, instance_id, 'long', 'competing', pg_current_xact_id() FROM romancy.t_instance WHERE status IN ('waiting_for_timer', 'paused') LIMIT 5000;
	INSERT INTO romancy.t_message (namespace, kind, channel, mailbox, data) SELECT namespace, 'd', 'direct', instance_id, '1' FROM romancy.t_instance WHERE status = 'paused';
	INSERT INTO romancy.t_delivery SELECT s.mailbox, s.channel, m.id FROM romancy.t_subscription s JOIN romancy.t_message m USING (channel) WHERE m.kind = 'b' AND s.mode = 'broadcast';
	INSERT INTO romancy.t_received_event SELECT (SELECT namespace FROM romancy.t_workflow LIMIT 1), 'source', 'event ' || i, now() - i * interval '1 s' FROM generate_series(1, 20000) i;
	INSERT INTO romancy.t_task (task_id, instance_id, created_at, started_at, claimed_at, due_at, def_id, priority, attempt, kind, state, queue, owner, activity, step, lease_us, fence, input)
		SELECT overlay(instance_id::text PLACING '8' FROM 15 FOR 1)::uuid, instance_id, created_at, created_at, created_at, CASE WHEN i % 4 IN (1, 2) THEN now() + i * interval '1 s' END, def_id, 0, 1, 0,
			(ARRAY[0, 1, 2, 3])[i % 4 + 1], CASE WHEN i % 8 < 4 THEN 'q' || i % 10 ELSE 'queue ' || i % 10 END, owner, 'queued', 'queued:1', 300000000, i, '1'
		FROM (SELECT *, row_number() OVER () AS i FROM romancy.t_instance WHERE status = 'waiting_for_activity') x;
	-- events: most are published, some of 500 destinations wait, with keys and without, one key has a long queue
	INSERT INTO romancy.t_destination (namespace, name, owner, event_types, created_at, updated_at)
		SELECT (SELECT namespace FROM romancy.t_workflow LIMIT 1), 'd' || i, 'postgres', ARRAY['d' || i || '.*'], now(), now() FROM generate_series(1, 500) i;
	INSERT INTO romancy.t_outbox (created_at, due_at, namespace, attempt, fence, key_hash, state, destination, destination_id, owner, ordering_key, type, source, id, data)
		SELECT at, CASE WHEN i % 4000 = 1 THEN at WHEN i % 20 = 1 THEN now() + interval '1 h' ELSE at END, (SELECT namespace FROM romancy.t_workflow LIMIT 1), 1, 1,
			CASE WHEN i % 2 = 0 THEN i / 40 END, CASE WHEN i % 20 IN (0, 5) THEN 0 WHEN i % 20 = 1 THEN 1 WHEN i % 20 IN (2, 3) THEN 5 ELSE 2 END, 'd' || i % 500 + 1, (SELECT d.destination_id FROM romancy.t_destination d WHERE d.name = 'd' || i % 500 + 1), 'postgres', CASE WHEN i % 2 = 0 THEN 'k' || i / 40 END, 't', '/s', 'event ' || i, '1'
		FROM generate_series(1, 50000) i, LATERAL (SELECT now() - (CASE WHEN i < 1000 THEN interval '40 days' ELSE interval '1 h' END) + i * interval '1 ms' AS at) x;
	INSERT INTO romancy.t_outbox (created_at, due_at, namespace, attempt, fence, key_hash, state, destination, destination_id, owner, ordering_key, type, source, id, data)
		SELECT now(), now(), (SELECT namespace FROM romancy.t_workflow LIMIT 1), 0, 0, 1, 0, 'd1', (SELECT d.destination_id FROM romancy.t_destination d WHERE d.name = 'd1'), 'postgres', 'long', 't', '/s', 'long ' || i, '1' FROM generate_series(1, 10000) i;
	COMMIT;
});
$node->safe_psql('postgres', 'VACUUM ANALYZE');
is($node->safe_psql('postgres', 'SELECT count(*) > 100000, count(DISTINCT status) FROM romancy.t_instance'), 't|10', '100,000 instances of ten statuses');

# The calls, often enough that a generic plan is considered
sub id { my ($i) = @_; return sprintf('01a0%08x70008000%012x', $i, $i); }
my @calls = map { my $i = $_; (
	(map { "SELECT count(*), max(next_page_token) FROM romancy.list_instances('$_')" }
		'{}', '{"workflow": "w"}', (map { qq({"status": "$_"}) } qw(failed paused cancelled waiting_for_timer waiting_for_message waiting_for_activity completed pending recurred)),
		'{"status": ["failed", "paused"]}', '{"search": "00123"}', '{"created_after": "2020-01-01"}', '{"created_before": "2099-01-01"}', '{"status": "failed", "workflow": "w"}'),
	q{SELECT count(*) FROM romancy.list_instances('{}', 50, (SELECT max(next_page_token) FROM romancy.list_instances('{}')))},
	q{SELECT count(*) FROM romancy.list_instances('{"status": "failed"}', 50, (SELECT max(next_page_token) FROM romancy.list_instances('{"status": "failed"}')))},
	(map { my $f = $_; map { sprintf($f, id(100 * $i + $_)) } 0 .. 9 } q{SELECT count(*) FROM romancy.get_history('%s')}, q{SELECT romancy.get_value('%s', 'k')},
		q{DO $$ BEGIN PERFORM romancy.get_result('%s'); EXCEPTION WHEN OTHERS THEN NULL; END $$}, q{SELECT * FROM romancy.instances WHERE instance_id = '%s'}, q{SELECT * FROM romancy.waiting WHERE instance_id = '%s'},
		q{SELECT count(*) FROM romancy.get_archived_history('%s')}, q{SELECT * FROM romancy.get_progress('%s')}),
	(map { my $f = $_; map { sprintf($f, id(1000 + 10 * $i + $_)) } 0 .. 9 } q{SELECT romancy.pause_workflow('%s')}, q{SELECT romancy.resume_workflow('%s')}, q{SELECT romancy.cancel_workflow('%s')},
		q{SELECT romancy.retry_workflow('%s')}, q{DO $$ BEGIN PERFORM romancy.send_to('%s', 'c', '1'); EXCEPTION WHEN OTHERS THEN NULL; END $$}),
	sprintf(q{SELECT romancy.delete_workflow('%s')}, id(2000 + 10 * $i)), sprintf(q{SELECT romancy.fork_workflow('%s', 'echo:1')}, id(3000 + 10 * $i + 7)),
	"SELECT romancy.start_workflow('w', '1', idempotency_key => 'key " . (2 * $i) . "')", "SELECT romancy.start_workflow('quick', '1', idempotency_key => 'new $i')", "SELECT romancy.start_workflow('wide')",
	"SELECT romancy.start_workflow('again', '1')", "SELECT romancy.start_workflow('asks', '1')",
	"SELECT romancy.publish('channel $i', '1')", "SELECT romancy.publish('channel " . ($i + 1) . "', '1')", "SELECT romancy.publish('nowhere', '1')", "SELECT romancy.publish('long', '1')", "SELECT romancy.raise_event('t', 's', '1', id => 'event $i')",
	"SELECT count(*) FROM romancy.group_members('group $i')", "SELECT count(*) FROM romancy.fetch_activities('q0', 'w', 10)", "SELECT count(*) FROM romancy.fetch_activities('q1', 'w', 10)",
	"SELECT count(*) FROM romancy.fetch_workflows('q0', 'w', 10)", "SELECT romancy.health()", q{SELECT romancy.t_report_live()},
	"SELECT romancy.send_event('d$i.x', '/s', '1'), romancy.send_event('d$i.x', '/s', '1', id => 'sent $i', ordering_key => 'k')",
	"SELECT romancy.ack_outbox(array_agg(token)) FROM romancy.fetch_outbox(10, '1 min', 'd1')", "SELECT romancy.ack_outbox(array_agg(id)) FROM romancy.fetch_outbox(10, '1 min', 'd$i')", "SELECT romancy.nack_outbox(token, 'x') FROM romancy.fetch_outbox(3, '1 min')",
	map { "SELECT romancy.run_sweep('$_')" } split /\n/, $node->safe_psql('postgres', 'SELECT name FROM romancy.sweeps')) } 1 .. 8;
my $stderr = '';
$node->psql('postgres', join(";\n", "\\set VERBOSITY sqlstate\nSET auto_explain.log_min_duration = 0", @calls), on_error_stop => 0, stderr => \$stderr);
is(join(' ', grep { !/RM002|RM010|RM008|P0001/ } $stderr =~ /ERROR: +(\w+)/g), '', 'the calls have been made');
$node->safe_psql('postgres', join(";\n", 'SET auto_explain.log_min_duration = 0', 'SET ROLE few',
	map { ('SELECT count(*) FROM romancy.list_instances()', q{SELECT count(*) FROM romancy.list_instances('{"status": "failed"}')}) } 1 .. 8));

# Buffers that views and lists read of tables of thousands of pages: for who sees all, a monitor, a role that may act as the owner of most,
# and the owner of eleven instances, whose rows a bitmap of 32 pages each finds
$node->safe_psql('postgres', q{CREATE ROLE much; CREATE ROLE monitor; SELECT romancy.grant_usage('much'), romancy.grant_usage('monitor', monitor => true); GRANT postgres TO much});
$node->safe_psql('postgres', q{SET ROLE few; SELECT romancy.start_workflow('quick', '1')});
$node->safe_psql('postgres', 'VACUUM ANALYZE romancy.t_instance');
sub buffers
{
	my ($role, $query) = @_;
	# (once before, so that what a new session reads of the catalogs is not counted)
	my ($json) = $node->safe_psql('postgres', "SET auto_explain.log_min_duration = -1; SET ROLE $role; SELECT count(*) FROM ($query) q; EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) $query") =~ /(\[.*)/s;
	my $plan = decode_json($json)->[0]{Plan};
	return $plan->{'Shared Hit Blocks'} + $plan->{'Shared Read Blocks'};
}
cmp_ok($node->safe_psql('postgres', q{SELECT pg_relation_size('romancy.t_instance') / 8192}), '>', 5000, 'of a table that has more');
my %most;
for my $query ((map { "SELECT * FROM romancy.instances WHERE $_" } q{status = 'paused' LIMIT 100}, q{status = 'running'}, q{status = 'compensating'}, q{status = 'failed' LIMIT 50},
		q{idempotency_key = 'key 2000'}, q{workflow = 'nosuch'}, q{workflow = 'w' AND created_at > now() - interval '1 min'},
		q{workflow = 'w' ORDER BY created_at DESC LIMIT 50}, q{owner = 'few'}, q{instance_id = '} . id(7) . q{'}),
	'SELECT * FROM romancy.instances ORDER BY created_at DESC LIMIT 50', 'SELECT * FROM romancy.instances LIMIT 50',
	(map { "SELECT * FROM romancy.list_instances('$_')" } '{}', '{"workflow": "w"}', '{"workflow": "nosuch"}', '{"workflow": "nosuch", "status": "failed"}', '{"status": "paused"}', '{"status": "running"}', '{"workflow": "w", "status": "failed"}',
		'{"status": "completed"}', '{"status": ["failed", "paused"]}', '{"workflow": "nosuch", "created_after": "2020-01-01"}'),
	'SELECT * FROM romancy.waiting LIMIT 50', q{SELECT * FROM romancy.waiting WHERE instance_id = '} . id(7) . q{'},
	(map { "SELECT * FROM romancy.outbox WHERE $_" } q{status = 'dead' LIMIT 50}, q{status = 'invalid'}, q{status = 'expired'}, q{id = 'event 7'}, q{status = 'pending' LIMIT 50}))
{
	for my $role (qw(postgres monitor much few))
	{
		# (who owns few of the live ones, or of the events, reads all of these)
		next if $role eq 'few' && $query =~ /waiting LIMIT|outbox WHERE status/;
		my $n = buffers($role, $query);
		$most{"$role: $query"} = $n if $n > 1500;
	}
}
for my $query ('SELECT * FROM romancy.waiting', q{SELECT * FROM romancy.waiting WHERE paused_by = 'romancy'}, q{SELECT * FROM romancy.waiting WHERE status = 'paused'},
	'SELECT * FROM romancy.instances', 'SELECT status, count(*) FROM romancy.instances GROUP BY 1', q{SELECT * FROM romancy.instances WHERE status = 'completed'}, q{SELECT * FROM romancy.instances WHERE input = '{"i": 1}'},
	'SELECT * FROM romancy.versions', 'SELECT * FROM romancy.queues', 'SELECT * FROM romancy.activity_tasks', 'SELECT queue, status, count(*) FROM romancy.activity_tasks GROUP BY 1, 2',
	q{SELECT * FROM romancy.activity_tasks WHERE queue = 'q' AND status = 'ready'})
{
	my $n = buffers('few', $query);
	$most{"few: $query"} = $n if $n > 1500;
}
is(join("\n", map { "$most{$_} $_" } sort keys %most), '', 'views and lists read few buffers, for each role');
# (its tables are smaller)
unlike($node->safe_psql('postgres', 'SET auto_explain.log_min_duration = -1; SET ROLE few; EXPLAIN (ANALYZE, TIMING OFF) SELECT * FROM romancy.queues'), qr/Rows Removed by Filter: \d{3,}/,
	'queues counts the tasks of a role that has few instances by these');
# what they show is what there is
for my $query ('SELECT instance_id, status, workflow FROM romancy.instances', q{SELECT instance_id, status, workflow FROM romancy.instances WHERE status = 'pending'})
{
	my $all = $node->safe_psql('postgres', "SET auto_explain.log_min_duration = -1; SELECT * FROM ($query" . ($query =~ /WHERE/ ? ' AND' : ' WHERE') . " owner = 'few') q ORDER BY 1");
	cmp_ok(length $all, '>', 40, 'of a role that has few');
	is($node->safe_psql('postgres', "SET auto_explain.log_min_duration = -1; SET ROLE few; SELECT * FROM ($query) q ORDER BY 1"), $all, "it sees its own, each once: $query");
}
is($node->safe_psql('postgres', q{SET auto_explain.log_min_duration = -1; SET ROLE few; SELECT workflow, live, paused FROM romancy.versions WHERE live > 0}), 'quick|1|0', 'and a version has its live ones');
my $pages = $node->safe_psql('postgres', q{SELECT pg_relation_size('romancy.t_instance') / 8192});
cmp_ok(buffers('monitor', q{SELECT * FROM romancy.waiting WHERE kind = 'timer' AND until < '2020-01-01'}), '<', 5 * $pages, 'waiting looks for tasks of those only that have any');
# (one of the 2,500 of a state in 10,000 tasks is on each page)
my $tasks = $node->safe_psql('postgres', q{SELECT pg_relation_size('romancy.t_task') / 8192});
cmp_ok(buffers('monitor', "SELECT * FROM romancy.activity_tasks WHERE status = '$_'"), '<', $tasks / 2, "$_ tasks are found without a look at the others") for qw(paused nosuch);

# Workers: start-up scan, timers, claims, sweeps
$node->append_conf('postgresql.conf', "romancy.enabled = on\nauto_explain.log_min_duration = 0\n");
$node->restart;
poll_until($node, q{SELECT NOT EXISTS (SELECT FROM romancy.t_instance WHERE workflow IN ('quick', 'wide', 'again') AND wake_at IS NOT NULL)
	AND NOT EXISTS (SELECT FROM romancy.t_instance WHERE wake_at < now())}, 'the workers have done what was due')
	or diag($node->safe_psql('postgres', q{SELECT instance_id, workflow, owner, status, wake_at, wait, flags, crashes FROM romancy.t_instance WHERE wake_at < now() OR workflow IN ('quick', 'wide', 'again') AND wake_at IS NOT NULL LIMIT 20}));
poll_until($node, q{SELECT bool_and(runs >= 3) FROM romancy.sweeps WHERE name <> 'schedules'}, 'and every sweep has run')
	or diag($node->safe_psql('postgres', q{SELECT name, runs, errors, last_run, next_due FROM romancy.sweeps}));
$node->safe_psql('postgres', q{SELECT romancy.start_workflow('quick', '1') FROM generate_series(1, 300)});
$node->safe_psql('postgres', q{SELECT romancy.start_workflow('wide', '1') FROM generate_series(1, 50)});
poll_until($node, q{SELECT NOT EXISTS (SELECT FROM romancy.t_instance WHERE workflow IN ('quick', 'wide', 'again') AND wake_at IS NOT NULL)}, 'more work');
$node->stop('fast');

# The lines of the log
my %big = map { $_ => 1 } qw(t_instance t_history t_history_archive t_idempotency t_value t_inbox t_group t_subscription t_message t_delivery t_received_event t_task t_outbox);
my (%bad, %seen, %texts, $ahead);
my $looked = 0;

sub walk
{
	my ($plan, $text, $process) = @_;
	my $rows = ($plan->{'Actual Rows'} // 0) * ($plan->{'Actual Loops'} // 0);
	my $type = $plan->{'Node Type'};
	my $removed = ($plan->{'Rows Removed by Filter'} // 0) * ($plan->{'Actual Loops'} // 0) + ($plan->{'Rows Removed by Index Recheck'} // 0);
	my $rel = $plan->{'Relation Name'} // '';
	my $what;

	if ($type eq 'Seq Scan' && $big{$rel}) { $what = "Seq Scan on $rel"; }
	elsif ($type =~ /Sort/ && $plan->{Plans}[0]{'Actual Rows'} * $plan->{Plans}[0]{'Actual Loops'} > $many) { $what = "$type of $plan->{Plans}[0]{'Actual Rows'} rows"; }
	# (a list with a condition that no index serves has to look further for its page)
	elsif ($type =~ /Scan/ && $big{$rel} && $rows + $removed > 2.5 * $many && $text !~ /t_shown_status/) { $what = "$type on $rel reads " . ($rows + $removed) . ' rows'; }
	$bad{$text} //= [ $what . ' ' . ($plan->{'Index Name'} // ''), "($process) " ] if $what;
	walk($_, $text, $process) for @{ $plan->{Plans} // [] };
}

# text_of($escaped): a query as the log has it, in a string within a string
sub text_of
{
	my ($escaped) = @_;
	my $json = JSON::PP->new->utf8->allow_nonref;
	return $json->decode('"' . encode_utf8($json->decode(qq{"$escaped"})) . '"') =~ s/\s+/ /gr;
}

for my $file (glob($node->data_dir . '/json/*.json'))
{
	open my $fh, '<', $file or die $!;
	while (my $line = <$fh>)
	{
		next unless $line =~ /plan:/ && $line =~ /\\"Query Text\\": \\"(.*?)\\",\\n *\\"[A-Z]/;
		my $text = $texts{$1} //= text_of($1);
		next unless $text =~ /romancy\.t_/;
		next if $text =~ /^SELECT (NOT EXISTS|instance_id, workflow, owner, status, wake_at, wait)/;	# the test's own
		next if $text =~ /updated_at > \$4 ORDER BY/ && !$ahead++;	# what a clock that was ahead has written: once after a start
		next if $text =~ /array_agg\(DISTINCT (def_id|settings)\)/;	# which versions and settings no instance needs: a row is looked at once a day, a thousand at a time
		next if $text =~ /state = 2 ORDER BY due_at LIMIT/;	# fills the heap of deadlines, thousands at a time
		my ($process) = $line =~ /"backend_type":"([^"]*)"/;
		$seen{$text}{$process} = 1;
		# Most plans need no closer look: none of their numbers is a factor of $many or more
		next unless $line =~ /\\"Seq Scan\\"/ || $line =~ /\\"(?:Actual Rows|Actual Loops|Rows Removed by Filter|Rows Removed by Index Recheck)\\": (?:2[5-9]|[3-9]\d|\d{3})/;
		$looked++;
		my ($plan) = decode_json($line)->{message} =~ /plan:\n(.*)\z/s;
		walk(decode_json(encode_utf8($plan))->{Plan}, $text, $process);
	}
	close $fh;
}
my %by;
for my $text (keys %seen) { $by{$_}++ for keys %{ $seen{$text} }; }
note("$by{$_} statements of $_") for sort keys %by;
note("$looked plans had a closer look");
cmp_ok($by{'client backend'} // 0, '>', 40, 'the statements of sessions were seen');
cmp_ok($by{'romancy executor'} // 0, '>', 15, 'those of executors');
cmp_ok($by{'romancy scheduler'} // 0, '>', 8, 'those of schedulers');
is(scalar(keys %bad), 0, 'none reads a big table from end to end, sorts more than a batch, or reads many rows')
  or diag(map { sprintf "%s\n    %s%.1500s\n", @{ $bad{$_} }, $_ } sort keys %bad);
done_testing();
