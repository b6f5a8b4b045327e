# soak.pl: the soak that test/soak runs. Work is started under idempotency keys and
# started again when the answer was lost; each step leaves a row in the user's table,
# each message one in the receiver's. Meanwhile something happens every second or two:
# see %events. Instances are deleted soon after their end, so tables have to stay small. With libfaketime (Debian: libfaketime) the clock is set, too (up to 15
# workers do not see that, so that no session is hours ahead of them: test/t/083_clock_set_back.pl).
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep time);

my $seconds = 60 * $ENV{SOAK_MINUTES};
srand($ENV{SOAK_SEED});
diag("for $ENV{SOAK_MINUTES} minutes, SOAK_SEED=$ENV{SOAK_SEED}");

my $node = romancy_node('soak', '_start' => 0, 'wal_level' => 'logical', 'log_line_prefix' => '%m [%p] %e %b ',
	'restart_after_crash' => 'on', 'synchronous_commit' => 'on', 'fsync' => 'off', 'log_statement' => 'none',
	'max_worker_processes' => 20, 'romancy.max_workers' => 8, 'romancy.executors' => 3, 'max_prepared_transactions' => 5,
	'romancy.worker_idle_timeout' => '3s', 'romancy.retention' => '20s', 'romancy.retention_interval' => '2s',
	'romancy.lock_cleanup_interval' => '1s', 'romancy.retry_backoff_max' => '2s', 'romancy.resumption_interval' => '2s',
	'romancy.timer_interval' => '2s', 'autovacuum_naptime' => '5s', 'romancy.reindex_interval' => '1s', 'romancy.channel_cleanup_interval' => '5s');

my ($library) = grep { -f } glob('/usr/lib/*/faketime/libfaketime.so.1');
my $clock = PostgreSQL::Test::Utils::tempdir() . '/clock';
sub set_clock { my ($offset) = @_; open(my $fh, '>', "$clock.new") or die; print $fh $offset; close $fh; rename("$clock.new", $clock) or die; return }
# (where workers have the true clock, what a session two hours ahead starts would wait for them as long, as on no server)
my @steps = $node->pg_version >= 16 ? qw(+0 +0 +3s -3s +2h -2h) : qw(+0 +0 +3s -3s -2h);
set_clock('+0');
sub start
{
	local %ENV = (%ENV, $library ? (LD_PRELOAD => $library, FAKETIME_TIMESTAMP_FILE => $clock, FAKETIME_NO_CACHE => 1, FAKETIME_DONT_FAKE_MONOTONIC => 1) : ());
	for (1 .. 200) { return if $node->start(fail_ok => 1); usleep(100_000) }
	die 'the server does not start';
}
start();

# what roles and the database are set to is not for this session
$ENV{PGOPTIONS} = '-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c synchronous_commit=on -c search_path=public -c default_transaction_isolation=read\\ committed'
	. ' -c DateStyle=ISO -c TimeZone=UTC -c client_encoding=UTF8';

# sql($sql) -> value, or undef when the server did not answer
sub sql
{
	my ($sql, $db) = @_;
	my ($out, $err) = ('', '');
	my $rc = eval { $node->psql($db // 'postgres', $sql, stdout => \$out, stderr => \$err, on_error_stop => 1, timeout => 60) };
	return $out if defined $rc && $rc == 0;
	diag("unexpected: $err\nfrom: $sql") if $err =~ /ERROR:/ && $err !~ /deadlock|lock timeout|lock not available|could not obtain lock|canceling|recovery mode|starting up|shutting down|shut down|terminating|closed the connection|being accessed/;
	return undef;
}
sub must { my $r; until (defined($r = sql(@_))) { usleep(100_000) } return $r }

must('CREATE EXTENSION romancy');
must(q{
	CREATE TABLE effect (key text, step text, at timestamptz DEFAULT clock_timestamp());
	CREATE TABLE got (message text);
	CREATE TABLE sent (up_to int PRIMARY KEY);
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect (key, step) VALUES ($1->>'key', $1->>'step'); RETURN $1->'step'; END $$;
	CREATE FUNCTION flaky(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect (key, step) VALUES ($1->>'key', $1->>'step');
		IF romancy.attempt() < 3 THEN RAISE EXCEPTION 'not yet'; END IF;
		RETURN $1->'step';
	END $$;
	CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
	CREATE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect (key, step) VALUES ($1->'input'->>'key', 'undone'); RETURN NULL; END $$;
	CREATE FUNCTION keep(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO got VALUES ($1 #>> '{}'); RETURN $1; END $$;
	SELECT romancy.define_activity('undoable', 'note(jsonb)', compensation => 'undo');
	CREATE FUNCTION step(jsonb, text) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1 || jsonb_build_object('step', $2) $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note', step($1, '1'));
		PERFORM romancy.sleep('300 ms');
		-- text of values whose form depends on settings: a replay asks for the same
		PERFORM romancy.activity('note', step($1, '2') || jsonb_build_object('at', romancy.workflow_now(), 'text', concat_ws(' ', romancy.workflow_now(),
			romancy.workflow_now() - 'epoch'::timestamptz, 0.1::float8 + 0.2::float8, '\x00ff'::bytea, date '2026-11-29')));
		PERFORM romancy.activity('flaky', step($1, '3'), retry => '{"initial_interval": "50ms", "max_attempts": 0, "max_duration": null}');
		RETURN romancy.activity('note', step($1, '4'));
	END $$;
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1..4 LOOP PERFORM romancy.activity('note', step($1, i::text)); END LOOP;
		RETURN '1';
	END $$;
	CREATE FUNCTION parallel(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE h text[];
	BEGIN
		FOR i IN 1..4 LOOP h := h || romancy.spawn('note', step($1, i::text)); END LOOP;
		RETURN to_jsonb(romancy.await_all(h));
	END $$;
	SELECT romancy.define_activity('ext', queue => 'soak');
	CREATE FUNCTION outside(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE h text[];
	BEGIN
		FOR i IN 1..4 LOOP h := h || romancy.spawn('ext', step($1, i::text)); END LOOP;
		RETURN to_jsonb(romancy.await_all(h));
	END $$;
	-- a program's round, in one transaction
	CREATE FUNCTION serve() RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE t record; n bigint = 0;
	BEGIN
		FOR t IN SELECT token, input FROM romancy.fetch_activities('soak', 'program', 100) LOOP
			INSERT INTO effect (key, step) VALUES (t.input->>'key', t.input->>'step');
			IF NOT romancy.complete_activity(t.token, t.input->'step') THEN RAISE EXCEPTION 'a lease that was just given is lost'; END IF;
			n := n + 1;
		END LOOP;
		RETURN n;
	END $$;
	CREATE FUNCTION canvas_of(key text) RETURNS jsonb LANGUAGE sql AS $$
		SELECT romancy.chord(romancy.group(variadic array(SELECT romancy.task('note', step(jsonb_build_object('key', key), i::text)) FROM generate_series(1, 3) i)),
			romancy.options(romancy.task('note', step(jsonb_build_object('key', key), '4')), immutable => true)) $$;
	-- values large enough for a row of their own, in steps, in a map, as an output
	CREATE FUNCTION whole(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect (key, step) VALUES ($1->>'key', CASE WHEN md5($1->>'text') = $1->>'md5' THEN $1->>'step' ELSE 'spoiled' END);
		RETURN $1;
	END $$;
	CREATE FUNCTION large(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE text text = (SELECT string_agg(md5(concat($1->>'key', i)), '') FROM generate_series(1, 800) i); v jsonb;
	BEGIN
		v := romancy.activity('whole', step($1, '1') || jsonb_build_object('text', text, 'md5', md5(text)));
		v := romancy.map('whole', jsonb_build_array(step(v, '2'), step(v, '3')));
		PERFORM romancy.sleep('200 ms');
		RETURN romancy.activity('whole', step(v -> 0, '4'));
	END $$;
	CREATE FUNCTION child(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('note', step($1, '2')); RETURN romancy.activity('note', step($1, '3')); END $$;
	CREATE FUNCTION parent(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note', step($1, '1'));
		PERFORM romancy.call_workflow('child', $1);
		RETURN romancy.activity('note', step($1, '4'));
	END $$;
	CREATE FUNCTION saga(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1..3 LOOP PERFORM romancy.activity('undoable', step($1, i::text)); END LOOP;
		RETURN romancy.activity('fails', retry => '{"max_attempts": 1}');
	END $$;
	CREATE FUNCTION consumer(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE m romancy.message;
	BEGIN
		PERFORM romancy.subscribe('work', 'competing');
		FOR i IN 1..25 LOOP
			m := romancy.receive('work');
			PERFORM romancy.activity('keep', m.data);
		END LOOP;
		RETURN romancy.recur($1);
	END $$;
	CREATE FUNCTION ticks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.sleep('1 s'); PERFORM romancy.recur(to_jsonb(($1 #>> '{}')::int + 1)); END $$;
	CREATE FUNCTION sleeps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('30 days'); RETURN '1'; END $$;
	CREATE FUNCTION naps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); RETURN '1'; END $$;
	CREATE FUNCTION long(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('naps'); END $$;
	CREATE ROLE other; GRANT EXECUTE ON FUNCTION canvas_of TO other; SELECT romancy.grant_usage('other'); GRANT ALL ON effect, got TO other;
});
# (each role has a namespace of its own)
must(q{SET ROLE other; SELECT romancy.define_activity('undoable', 'note(jsonb)', compensation => 'undo')});
must(q{SELECT count(*) FROM romancy.start_workflows('consumer', array(SELECT to_jsonb(i) FROM generate_series(1, 3) i), array(SELECT 'consumer' || i FROM generate_series(1, 3) i))});
must(q{SELECT romancy.start_workflow('ticks', '0', idempotency_key => 'ticks')});

# --- what happens

my ($long, $long_until);
my %happened;
sub pid_of
{
	my $pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'romancy $_[0]' ORDER BY random() LIMIT 1");
	return $pid && $pid =~ /^\d+$/ ? $pid : undef;
}
sub one { my ($sql) = @_; return sql("$sql ORDER BY random() LIMIT 1") }
my $table = q{SELECT oid::regclass FROM pg_class WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'r'};
my $index = q{SELECT indexrelid::regclass FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'r'};
# what another role, or the database, may be set to without any harm to what its functions do
my %settings = (TimeZone => [qw(UTC Asia/Tokyo America/St_Johns)], DateStyle => [ 'ISO, DMY', 'German', 'SQL, MDY' ], IntervalStyle => [qw(postgres iso_8601 sql_standard)], extra_float_digits => [ 0, 3, -5 ],
	bytea_output => [qw(hex escape)], statement_timeout => [ '50ms', 0 ], idle_in_transaction_session_timeout => ['50ms'], idle_session_timeout => ['50ms'], work_mem => ['64kB'], enable_indexscan => ['off'], enable_seqscan => ['off'],
	plan_cache_mode => [qw(force_custom_plan force_generic_plan)], jit_above_cost => [0], synchronous_commit => ['off'], search_path => [ '""', 'pg_temp, public' ], client_min_messages => [qw(debug5 error)], row_security => ['off'],
	client_encoding => [qw(LATIN1 UTF8)], default_transaction_deferrable => ['on'], xmloption => ['document'], check_function_bodies => ['off'], quote_all_identifiers => ['on'], array_nulls => ['off'], log_min_messages => ['error'],
	session_replication_role => ['replica']);
my %events = (
	'reindex concurrently' => sub { my $what = rand 2 < 1 ? 'TABLE' : 'INDEX'; my $name = one($what eq 'TABLE' ? $table : $index) or return; sql("SET lock_timeout = '5s'; REINDEX $what CONCURRENTLY $name") },
	'rewrite' => sub {
		my $name = one($table) or return;
		my $key = sql("SELECT conindid::regclass FROM pg_constraint WHERE conrelid = '$name'::regclass AND contype = 'p'");
		sql("SET lock_timeout = '3s'; " . ($key && rand 2 < 1 ? "CLUSTER $name USING " . ($key =~ s/.*\.//r) : "VACUUM FULL $name"));
	},
	'a publication' => sub { defined sql(rand 2 < 1 ? 'CREATE PUBLICATION everything FOR ALL TABLES' : 'DROP PUBLICATION IF EXISTS everything') },
	'an added index' => sub {
		if (rand 2 < 1) { my $name = one($table) or return; my $column = one("SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = '$name'::regclass AND attnum > 0 AND NOT attisdropped AND atttypid IN ('uuid'::regtype, 'text'::regtype, 'int8'::regtype, 'timestamptz'::regtype)") or return;
			sql("SET lock_timeout = '5s'; CREATE INDEX CONCURRENTLY added_" . int(rand 1e9) . " ON $name ($column)"); }
		else { my $name = one(q{SELECT oid::regclass FROM pg_class WHERE relname LIKE 'added_%'}) or return; sql("SET lock_timeout = '5s'; DROP INDEX CONCURRENTLY $name"); }
	},
	'odd settings' => sub {
		my $whose = ('ROLE other', 'ROLE postgres', 'DATABASE postgres', 'ROLE other IN DATABASE postgres')[ rand 4 ];
		my $name = (keys %settings)[ rand keys %settings ];
		my $value = $settings{$name}[ rand @{ $settings{$name} } ];
		$value = "'$value'" unless $value =~ /["]|pg_temp/;
		sql(rand 3 < 1 ? "ALTER $whose RESET ALL" : "ALTER $whose SET $name = $value");
	},
	'kill a client' => sub {
		my $client = eval { $node->background_psql('postgres', on_error_stop => 0, timeout => 60) } or return;
		my $pid = eval { $client->query_safe('SELECT pg_backend_pid()') };
		if ($pid)
		{
			my $what = ('CALL romancy.drain();', q{BEGIN; SELECT serve();}, q{BEGIN; SELECT romancy.start_workflow('sleeps') FROM generate_series(1, 50);}, q{CALL romancy.poll_activities('nothing', 'w', wait => '1 min');}, q{CALL romancy.drain();})[ rand 5 ];
			eval { $client->query_until(qr/begun/, "\\echo begun\n$what\n") };
			usleep(rand 200_000);
			kill rand 2 < 1 ? 'KILL' : 'TERM', $pid;
		}
		eval { $client->{run}->kill_kill };
	},
	$library ? ('a step of the clock' => sub { set_clock($steps[ rand @steps ]) }) : (),
	'terminate a worker' => sub { sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'romancy%' ORDER BY random() LIMIT 1}) },
	'cancel a worker' => sub { sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'romancy%' ORDER BY random() LIMIT 1}) },
	'kill a worker' => sub { my $pid = pid_of((qw(executor executor scheduler launcher))[ rand 4 ]); kill 'KILL', $pid if $pid },
	'crash' => sub { $node->kill9; start() },
	'restart' => sub { $node->stop((qw(fast immediate))[ rand 2 ], fail_ok => 1); start() },
	'reload' => sub {
		my @set = ([ executors => 1, 2, 3, 4 ], [ schedulers => 1, 2, 3 ], [ sweep_batch_size => 5, 100 ], [ timer_interval => '200ms', '2s' ], [ sweep_jitter => 0, 0.5 ],
			[ enabled => 'off', 'on', 'on' ], [ max_concurrent_resumptions => 1, 10 ], [ turn_mode => qw(inline step auto) ], [ databases => '', 'postgres' ], [ worker_idle_timeout => '100ms', '3s' ]);
		my ($name, @values) = @{ $set[ rand @set ] };
		sql("ALTER SYSTEM SET romancy.$name = '$values[ rand @values ]'");
		eval { $node->reload };
		if ($name eq 'enabled') { usleep(500_000); sql('ALTER SYSTEM SET romancy.enabled = on'); eval { $node->reload } }
	},
	'DDL on a table in use' => sub { sql(q{SET lock_timeout = '3s'; ALTER TABLE effect ADD COLUMN more int; ALTER TABLE effect DROP COLUMN more}) },
	'DDL on a handler' => sub { my $f = (qw(note steps keep child))[ rand 4 ]; sql("DO \$d\$ BEGIN EXECUTE pg_get_functiondef('$f(jsonb)'::regprocedure); END \$d\$") },
	'lock of a table' => sub { sql(q{SET lock_timeout = '3s'; BEGIN; LOCK TABLE effect IN EXCLUSIVE MODE; SELECT pg_sleep(0.5); COMMIT}) },
	'another database' => sub {
		sql('CREATE DATABASE other');
		sql(q{CREATE EXTENSION romancy; CREATE FUNCTION f(jsonb) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN PERFORM romancy.sleep(''100 ms''); RETURN $1; END';
			SELECT count(*) FROM romancy.start_workflows('f', array(SELECT to_jsonb(i) FROM generate_series(1, 50) i))}, 'other');
		usleep(rand 500_000);
		sql('DROP DATABASE IF EXISTS other' . (rand 2 < 1 ? ' WITH (FORCE)' : ''));
	},
	'a copy' => sub { sql('CREATE DATABASE copy TEMPLATE postgres'); usleep(rand 300_000); sql('DROP DATABASE IF EXISTS copy WITH (FORCE)') },
	'vacuum' => sub { sql('VACUUM ' . (rand 4 < 1 ? 'FULL ' : '') . 'romancy.' . (qw(t_instance t_history t_inbox t_message))[ rand 4 ]) },
	'a long transaction' => sub {
		return if $long;
		$long = eval { $node->background_psql('postgres', on_error_stop => 0) } or return;
		eval { $long->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ'); $long->query_safe('SELECT count(*) FROM romancy.t_instance') };
		$long_until = time + 5 + rand 20;
	},
	'steering' => sub {
		sql(q{SELECT romancy.start_workflow('sleeps') FROM generate_series(1, 5); SELECT romancy.start_workflow('long')});
		sql(q{SELECT romancy.pause_workflow(instance_id) FROM (SELECT instance_id FROM romancy.instances WHERE workflow IN ('steps', 'sleeps') AND finished_at IS NULL LIMIT 20) x});
		usleep(rand 300_000);
		must(q{SELECT romancy.resume_workflow(instance_id) FROM romancy.instances WHERE workflow IN ('steps', 'sleeps')});
		sql(q{SELECT romancy.cancel_workflow(instance_id) FROM romancy.instances WHERE workflow IN ('sleeps', 'long') AND finished_at IS NULL});
	},
	'a prepared transaction' => sub {
		my $key = 'prepared' . time;
		sql("BEGIN; SELECT romancy.start_workflow('quick', '{\"key\": \"-\"}', idempotency_key => '$key'); PREPARE TRANSACTION 'p'");
		must(q{SELECT count(*) FROM pg_prepared_xacts}) ne '0' and sql((rand 2 < 1 ? 'COMMIT' : 'ROLLBACK') . " PREPARED 'p'");
		sql("ROLLBACK PREPARED 'p'") if must(q{SELECT count(*) FROM pg_prepared_xacts}) ne '0';
	});
# crashes are rarer than the rest
my @bag = map { /crash|restart|kill|copy|rewrite/ ? ($_) : ($_) x 3 } sort keys %events;

# --- memory, from time to time: what is a process's own, in kilobytes
my %most;
sub measure
{
	my $rows = sql(q{SELECT pid, backend_type FROM pg_stat_activity WHERE backend_type LIKE 'romancy%'}) // return;
	for (split /\n/, $rows)
	{
		my ($pid, $kind) = split /\|/;
		open my $f, '<', "/proc/$pid/status" or next;
		while (<$f>) { $most{$kind} = $1 if /^RssAnon:\s+(\d+)/ && $1 > ($most{$kind} // 0) }
	}
}

# --- the load

my @kinds = qw(steps quick parallel parent saga outside canvas large);
my (%started, $messages, $batch);
$messages = $batch = 0;
my $begin = time;
my $next = time + 2;
my $measured = time;
my $largest = 0;
while (time < $begin + $seconds)
{
	$batch++;
	my $kind = $kinds[ rand @kinds ];
	my $n = 1 + int rand 20;
	my @keys = map { "$kind-$batch-$_" } 1 .. $n;
	my $role = rand 4 < 1 && $kind ne 'outside' ? 'other' : 'postgres';
	my $inputs = join ',', map { "'{\"key\": \"$_\"}'" } @keys;
	my $keys = join ',', map { "'$_'" } @keys;
	my $start = $kind eq 'canvas' ? "SELECT count(romancy.run_canvas(canvas_of(k), idempotency_key => k)) FROM unnest(array[$keys]) k"
		: "SELECT count(*) FROM romancy.start_workflows('$kind', array[$inputs]::jsonb[], array[$keys])";
	until (defined sql("SET ROLE $role; $start"))
	{
		usleep(200_000);
	}
	push @{ $started{$kind} }, @keys;
	sql('SELECT serve()');

	# messages: when the answer was lost, the table tells whether they were sent
	my $from = $messages + 1;
	$messages += 10;
	until (defined sql("BEGIN; INSERT INTO sent VALUES ($messages); SELECT romancy.publish('work', to_jsonb(i)) FROM generate_series($from, $messages) i; COMMIT"))
	{
		usleep(200_000);
		last if must("SELECT count(*) FROM sent WHERE up_to = $messages") eq '1';
	}
	if (time > $next)
	{
		my $what = $bag[ rand @bag ];
		$happened{$what}++;
		$events{$what}->();
		$next = time + 0.5 + rand 2;
	}
	if ($long && time > $long_until)
	{
		eval { $long->query('ROLLBACK'); $long->quit };
		undef $long;
	}
	if (time > $measured + 3)
	{
		measure();
		my $size = sql(q{SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'r'}) || 0;
		$largest = $size if $size > $largest;
		$measured = time;
	}
	# the machine is shared: no more than a thousand in flight
	while ((sql(q{SELECT count(*) FROM romancy.instances WHERE finished_at IS NULL}) // 0) > 1000) { usleep(200_000) }
}
if ($long) { eval { $long->query('ROLLBACK'); $long->quit } }
diag(join ', ', map { "$_: $happened{$_}" } sort keys %happened);

# --- the end

set_clock('+0');
must('DROP PUBLICATION IF EXISTS everything');
must("ALTER $_ RESET ALL") for 'ROLE other', 'ROLE postgres', 'DATABASE postgres', 'ROLE other IN DATABASE postgres';
must('ALTER SYSTEM RESET ALL');
$node->reload;
my $live = q{workflow NOT IN ('consumer', 'ticks') AND finished_at IS NULL};
must(q{SELECT romancy.cancel_workflow(instance_id) FROM romancy.instances WHERE workflow IN ('sleeps', 'long') AND finished_at IS NULL});
# who was paused by being killed three times running has to be let go on
my %paused;
for (1 .. 600)
{
	must('SELECT serve()');
	$paused{$_}++ for split /\n/, must(q{SELECT concat_ws(' ', workflow, error ->> 'sqlstate', error ->> 'message') FROM romancy.instances WHERE status = 'paused' AND error ->> 'sqlstate' IS DISTINCT FROM 'RM011'});
	must(q{SELECT romancy.resume_workflow(instance_id) FROM romancy.instances WHERE status = 'paused'});
	last if must("SELECT count(*) FROM romancy.instances WHERE $live") eq '0';
	usleep(300_000);
}
is(must("SELECT string_agg(DISTINCT workflow || ' ' || status, ', ') FROM romancy.instances WHERE $live"), '', 'everything comes to its end');
is(join(', ', sort keys %paused), '', 'nothing was paused but for being killed');
for my $kind (sort keys %started)
{
	my $expected = @{ $started{$kind} };
	my $steps = $kind eq 'saga' ? 6 : 4;
	is(must("SELECT count(DISTINCT key) FROM effect WHERE key LIKE '$kind-%'"), $expected, "$kind: none of the $expected is lost");
	is(must("SELECT string_agg(key || ' ' || n, ', ') FROM (SELECT key, count(*) AS n FROM effect WHERE key LIKE '$kind-%' GROUP BY key HAVING count(*) <> $steps LIMIT 10) x"),
		'', "$kind: each step once");
	is(must("SELECT string_agg(DISTINCT key || ' ' || step, ', ') FROM (SELECT key, step FROM effect WHERE key LIKE '$kind-%' AND step <> 'undone' GROUP BY 1, 2 HAVING count(*) > 1 LIMIT 10) x"),
		'', "$kind: none twice");
}
is(must("SELECT count(*) FROM effect WHERE step = 'spoiled'"), '0', 'large values are whole');
poll_until($node, "SELECT count(*) = $messages FROM got", "all $messages messages are received");
is(must('SELECT count(DISTINCT message) FROM got'), $messages, 'each once');
is(must(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'consumer' AND finished_at IS NULL}), '3', 'the receivers live on');
is(must(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'ticks' AND finished_at IS NULL}), '1', 'and so does the clock');
cmp_ok(must(q{SELECT input::text::int FROM romancy.instances WHERE workflow = 'ticks' AND finished_at IS NULL}), '>', $seconds / 6, 'which has ticked');
poll_until($node, q{SELECT count(*) < 100 FROM romancy.instances}, 'what has ended is deleted');
is(must(q{SELECT count(*) FROM romancy.t_history h WHERE NOT EXISTS (SELECT FROM romancy.t_instance i WHERE i.instance_id = h.instance_id)}), '0', 'with its history');
is(must(q{SELECT count(*) FROM romancy.t_inbox b WHERE NOT EXISTS (SELECT FROM romancy.t_instance i WHERE i.instance_id = b.instance_id)}), '0', 'and its inbox');
is(must(q{SELECT count(*) FROM romancy.t_document d WHERE NOT EXISTS (SELECT FROM romancy.t_instance i WHERE i.instance_id = d.instance_id)}), '0', 'and its large values');
is(must(q{SELECT count(*) FROM romancy.t_idempotency b WHERE NOT EXISTS (SELECT FROM romancy.t_instance i WHERE i.instance_id = b.instance_id)}), '0', 'and its keys');
cmp_ok($largest / 1048576, '<', 200, sprintf('tables stayed below 200 MB (%.0f)', $largest / 1048576));
measure();
cmp_ok($most{$_} / 1024, '<', 64, sprintf('memory of the %s stayed below 64 MB (%.1f)', $_, $most{$_} / 1024)) for sort keys %most;
my $log = slurp_file($node->logfile);
my %internal;
# The server's own: what a session with client_min_messages = debug5 is told when its socket is closed already, and what a REINDEX CONCURRENTLY
# that was killed leaves for the next one to skip.
$log =~ s/^.* LOG:  could not send data to client: Bad file descriptor\n//mg;
$log =~ s/^.* WARNING:  cannot reindex invalid index "pg_toast\.pg_toast_\d+_index_ccnew\d*" concurrently, skipping\n//mg;
$internal{$1}++ while $log =~ /^\S+ \S+ \S+ \[\d+\] (XX\d+ .*)$/mg;
is(join("\n", map { "$internal{$_} times $_" } sort keys %internal), '', 'no internal error in the log');
unlike($log, qr/PANIC:|TRAP:|terminated by signal (?!9)|invalid memory alloc|cache lookup failed/, 'the log has nothing that it must not have');
cmp_ok(length($log) / 1048576, '<', 5 + $ENV{SOAK_MINUTES}, 'and is not full');
$node->stop('fast');
done_testing();
