# Programs that send events, programs that fetch them, executors whose workflows send them, and the server itself are killed, round after round. Each event
# of a transaction that committed arrives, none of one that did not, each key in order, and at a receiver that knows ids each once; what is sent
# again with the same id is no second event. It would catch an event that is lost with its program, two programs in one ordering key, a lease that no sweep
# ends, a step of a handler that sends twice, an end of a workflow that is told twice or never, and a fetch that reads a backlog.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $rounds = $ENV{ROMANCY_OUTBOX_KILLS} // 24;
my $node = romancy_node('outbox', 'romancy.outbox_interval' => '1h', 'romancy.sweep_jitter' => 0, 'romancy.outbox_max_attempts' => 1000000, 'synchronous_commit' => 'on',
	'max_worker_processes' => 12, 'restart_after_crash' => 'on', 'romancy.worker_idle_timeout' => '2s', 'romancy.resumption_interval' => '1s');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub try { return eval { sql($_[0]) } // '' }

# ---- a lease ends in time: the sweep's interval is an hour
sql(q{SELECT romancy.send_event('lease', '/s', '1'); SELECT FROM romancy.fetch_outbox(1, '300 ms')});
poll_until($node, q{SELECT lease_until IS NULL AND status = 'pending' FROM romancy.outbox WHERE type = 'lease'}, 'a lease ends without a sweep');
poll_until($node, q{SELECT count(*) = 1 FROM romancy.fetch_outbox(1, '1 min')}, 'and the event is given out again');
sql(q{SELECT romancy.ack_outbox(array(SELECT id FROM romancy.outbox WHERE type = 'lease'))});

# ---- the load. A number of a key is used once, whatever dies: the primary key of sent has one sender wait for the other. Arrivals are numbered
# in their order; each is committed before it is acknowledged, as a receiver elsewhere would do
sql(q{
	CREATE TABLE sent (k text, n int, PRIMARY KEY (k, n));
	CREATE TABLE arrived (seq bigint GENERATED ALWAYS AS IDENTITY, id text, k text, n int);
	SELECT romancy.define_destination('kills', event_types => '{kill}');
	SELECT romancy.define_destination('told', event_types => '{romancy.workflow.started,romancy.workflow.completed,romancy.activity.completed}');
	CREATE FUNCTION send_next(key text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE next int := (SELECT coalesce(max(s.n), 0) + 1 FROM sent s WHERE s.k = key);
	BEGIN
		INSERT INTO sent VALUES (key, next);
		RETURN romancy.send_event('kill', '/' || key, to_jsonb(next), id => key || next, ordering_key => CASE WHEN key <> 'none' THEN key END);
	END $$;
	CREATE FUNCTION send_last(key text) RETURNS text LANGUAGE sql AS $$
		SELECT romancy.send_event('kill', '/' || key, to_jsonb(max(s.n)), id => key || max(s.n), ordering_key => CASE WHEN key <> 'none' THEN key END) FROM sent s WHERE s.k = key HAVING max(s.n) > 0 $$;
	CREATE FUNCTION tell(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.send_event('kill', '/' || (i ->> 'k'), i -> 'n', id => (i ->> 'k') || (i ->> 'n'), ordering_key => i ->> 'k');
		INSERT INTO sent VALUES (i ->> 'k', (i ->> 'n')::int);
		RETURN i;
	END $$;
	CREATE FUNCTION flow(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		FOR n IN 1 .. 3 LOOP
			PERFORM romancy.send_event('kill', '/' || (i #>> '{}'), to_jsonb(2 * n - 1), ordering_key => i #>> '{}');
			PERFORM romancy.activity('tell', jsonb_build_object('k', i, 'n', 2 * n));
			PERFORM romancy.sleep('10 ms');
		END LOOP;
		RETURN i;
	END $$;
	SELECT romancy.define_activity('tell', 'tell(jsonb)', retry => '{"max_attempts": 0, "max_duration": null}');
});
my %script;
for my $key (qw(a b none))
{
	$script{$key} = $node->basedir . "/send_$key.sql";
	append_to_file($script{$key}, join('', map { my $end = $_ % 7 == 3 ? 'ROLLBACK' : 'COMMIT'; "BEGIN; SELECT send_next('$key'); $end; SELECT send_last('$key'); SELECT pg_sleep(random() * 0.02);\n" } 1 .. 3000));
}
for my $program (qw(one two three))
{
	$script{$program} = $node->basedir . "/fetch_$program.sql";
	append_to_file($script{$program}, q{
SELECT coalesce(json_agg(f), '[]') AS batch FROM romancy.fetch_outbox(10, '500 ms', 'kills') f \gset
INSERT INTO arrived (id, k, n) SELECT f.id, substr(f.source, 2), f.data::int FROM json_populate_recordset(NULL::romancy.outbox_event, :'batch') f;
SELECT romancy.nack_outbox(f.token, 'perhaps') FROM json_populate_recordset(NULL::romancy.outbox_event, :'batch') f WHERE random() < 0.02;
SELECT romancy.ack_outbox(array(SELECT f.token FROM json_populate_recordset(NULL::romancy.outbox_event, :'batch') f));
SELECT pg_sleep(random() * 0.02);
} x 3000);
}
my (%runs, %killed);
sub pid_of { return $_[0]->{KIDS}[0]{PID} }
sub has_ended { my $stat = eval { slurp_file('/proc/' . pid_of($_[0]) . '/stat') } // return 1; return $stat =~ /\) Z/ }
sub keep_running
{
	for my $name (@_)
	{
		if ($runs{$name})
		{
			next unless has_ended($runs{$name});
			eval { $runs{$name}->finish };
		}
		$runs{$name} = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-f', $script{$name} ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
	}
	return;
}
sub end_all
{
	kill 'KILL', map { pid_of($_) } values %runs;
	eval { $_->finish } for values %runs;
	%runs = ();
	return;
}
my @all = sort keys %script;

srand(15);
my $flows = 0;
for my $round (1 .. $rounds)
{
	my $before;
	poll_until(sub { keep_running(@all); $before = try('SELECT count(*) FROM arrived'); return $before ne '' }, "round $round: the server answers");
	$flows += 3;
	poll_until(sub {
		return try(qq{SELECT count(*) FROM romancy.start_workflows('flow', array(SELECT to_jsonb('f' || n) FROM generate_series($flows - 2, $flows) n), idempotency_keys => array(SELECT 'f' || n FROM generate_series($flows - 2, $flows) n))}) eq '3'
	}, "round $round: workflows are started");
	poll_until(sub { keep_running(@all); my $now = try('SELECT count(*) FROM arrived'); return $now ne '' && $now > $before + 20 }, "round $round: events arrive");
	my $how = (qw(backend program server session executor))[ $round % 5 ];
	if ($how eq 'server')
	{
		$node->kill9;
		start_again($node);
		$killed{$how}++;
	}
	elsif ($how eq 'program')
	{
		for my $name ((@all)[ rand @all ], (qw(one two three))[ rand 3 ])
		{
			$killed{$how} += kill 'KILL', pid_of($runs{$name}) if $runs{$name};
		}
	}
	elsif ($how eq 'session')
	{
		$killed{$how} += try(q{SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 2) x}) || 0;
	}
	else
	{
		my $type = $how eq 'backend' ? 'client backend' : 'romancy executor';
		my $pid;
		poll_until(sub { keep_running(@all); $pid = try(qq{SELECT pid FROM pg_stat_activity WHERE backend_type = '$type' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1}); return $pid ne '' }, "round $round: there is a $type");
		$killed{$how} += kill 'KILL', $pid if $pid;
	}
}
end_all();
cmp_ok($killed{$_} // 0, '>=', int($rounds / 5), "of each kind some were killed: $_") for qw(backend program server session executor);

# ---- what is left
poll_until(sub {
	keep_running('one', 'two');
	# (an instance that was running at three kills is paused, as it should be)
	try(q{SELECT romancy.resume_workflow(instance_id) FROM romancy.instances WHERE status = 'paused'});
	return try(q{SELECT (SELECT count(*) FROM romancy.outbox WHERE status = 'pending' AND destination = 'kills') + (SELECT count(*) FROM romancy.instances WHERE status <> 'completed')}) eq '0';
}, 'all that is left is published, and all workflows complete');
end_all();
sql(qq{INSERT INTO sent SELECT 'f' || f, n FROM generate_series(1, $flows) f, generate_series(1, 5, 2) n});
is(sql(q{SELECT count(*) FROM sent s WHERE NOT EXISTS (SELECT FROM arrived a WHERE a.k = s.k AND a.n = s.n)}), 0, 'each event that was sent has arrived');
is(sql(q{SELECT count(*) FROM arrived a WHERE NOT EXISTS (SELECT FROM sent s WHERE a.k = s.k AND a.n = s.n)}), 0, 'and no other');
is(sql(q{SELECT count(DISTINCT id) = (SELECT count(*) FROM sent) FROM arrived}), 't', 'by its id each once');
is(sql(q{SELECT count(*) FROM (SELECT k, n, lag(n, 1, 0) OVER (PARTITION BY k ORDER BY seq) AS before FROM (SELECT k, n, min(seq) AS seq FROM arrived WHERE k <> 'none' GROUP BY k, n) first) o WHERE n <> before + 1}), 0, 'each key in order');
is(sql(q{SELECT string_agg(DISTINCT status, ','), count(*) = (SELECT count(*) FROM sent) FROM romancy.outbox WHERE destination = 'kills'}), 'published|t', 'each is there once, and published');
is(sql(q{SELECT string_agg(DISTINCT n::text, ' ') FROM (SELECT count(*) || ' ' || string_agg(substr(o.type, 9), ',' ORDER BY o."time") AS n FROM romancy.instances i LEFT JOIN romancy.outbox o ON o.destination = 'told' AND o.subject = i.instance_id::text GROUP BY i.instance_id) x}),
	'5 workflow.started,activity.completed,activity.completed,activity.completed,workflow.completed', 'what became of each workflow was told once, in order');
note(sql(q{SELECT (SELECT count(*) FROM sent) || ' events, ' || count(*) || ' arrivals' FROM arrived}), ', killed: ', join(', ', map { "$_ $killed{$_}" } sort keys %killed));

# ---- a backlog of one key, and of events that wait for their time, costs a fetch no more than one event
sql(q{SELECT romancy.define_destination('deep');
	SELECT count(romancy.send_event('deep', '/d', destination => 'deep', ordering_key => 'one')) FROM generate_series(1, 10000);
	SELECT count(romancy.send_event('deep', '/d', destination => 'deep')) FROM generate_series(1, 5000);
	UPDATE romancy.t_outbox SET due_at = now() + '1 day' WHERE destination = 'deep' AND key_hash IS NULL});
sql(q{VACUUM ANALYZE romancy.t_outbox});
is(sql(q{SELECT count(*) FROM romancy.fetch_outbox(10, '1 min', 'deep')}), 1, 'one of the key');
my $read = sql(q{BEGIN; SELECT FROM romancy.fetch_outbox(10, '1 min', 'deep'); SELECT pg_stat_get_xact_tuples_returned('romancy.t_outbox'::regclass) + pg_stat_get_xact_tuples_fetched('romancy.t_outbox'::regclass); COMMIT});
cmp_ok((split /\n/, $read)[-1], '<', 200, 'a fetch does not read the backlog');

$node->stop('fast');
done_testing();
