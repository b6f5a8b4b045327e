# One executor runs instances that began under different settings, and plans are kept in its session: a literal ('05/04/2026'::date,
# '2026-06-01 12:00'::timestamptz) is read when a plan is made, so it has to be read anew for an instance of other settings. So has
# what PL/pgSQL's own settings say, where an instance began without them. It would catch RM003 for an instance that waited while
# a database's settings were changed and instances of the same workflow began under the new ones.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('plans_of_settings', 'romancy.executors' => 1, 'romancy.worker_idle_timeout' => '0', TimeZone => 'UTC', DateStyle => 'ISO, MDY');

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

# in PL/pgSQL and in SQL, in the handler itself, in a function that it calls, and in an activity
my $texts = q{jsonb_build_object('at', '2026-06-01 12:00'::timestamptz, 'date', '05/04/2026'::date, 'interval', '-1 2:00'::interval,
	'array', '{NULL}'::text[], 'null', (coalesce(nullif(3, 3)) = NULL) IS NULL)};
(my $called = q{
	CREATE FUNCTION texts() RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN TEXTS; END $$;
	CREATE FUNCTION sql_texts() RETURNS jsonb LANGUAGE sql VOLATILE AS $$ SELECT TEXTS $$;
	CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN jsonb_build_object('asked', $1, 'itself', TEXTS); END $$;
	CREATE FUNCTION reads(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE before jsonb;
	BEGIN
		before := romancy.activity('echo', jsonb_build_array(TEXTS, texts(), sql_texts()));
		PERFORM romancy.receive('go');
		RETURN jsonb_build_array(before, romancy.activity('echo', jsonb_build_array(TEXTS, texts(), sql_texts())));
	END $$;
	CREATE FUNCTION reads_sql(jsonb) RETURNS jsonb LANGUAGE sql AS $$
		SELECT jsonb_build_array(romancy.activity('echo', TEXTS), (SELECT data FROM romancy.receive('go')), romancy.activity('echo', TEXTS)) $$;
	CREATE FUNCTION asserts(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE caught boolean := false;
	BEGIN
		BEGIN
			ASSERT false;
		EXCEPTION WHEN assert_failure THEN
			caught := true;
		END;
		PERFORM romancy.activity('echo', to_jsonb(caught));
		PERFORM romancy.receive('go');
		RETURN to_jsonb(caught);
	END $$;
}) =~ s/TEXTS/$texts/g;
sql($called);

my @workflows = qw(reads reads_sql asserts);

sub start
{
	my ($key) = @_;
	sql("SELECT romancy.start_workflow('$_', idempotency_key => '$key')") for @workflows;
	poll_until($node, "SELECT count(*) = " . @workflows . " FROM romancy.waiting JOIN romancy.instances USING (instance_id) WHERE kind = 'message' AND idempotency_key = '$key'",
		"those of '$key' wait");
	return;
}

# proceed(@keys): lets these end, one after the other, in the same executor
sub proceed
{
	for my $key (@_)
	{
		sql("SELECT romancy.send_to(instance_id, 'go') FROM romancy.instances WHERE idempotency_key = '$key' AND status = 'waiting_for_message'");
		poll_until($node, "SELECT count(*) = 0 FROM romancy.instances WHERE idempotency_key = '$key' AND status NOT IN ('completed', 'paused', 'failed')", "those of '$key' have ended");
	}
	return;
}

start($_) for qw(old older);
is(sql("SELECT count(DISTINCT pid) FROM romancy.workers WHERE kind = 'executor'"), 1, 'one executor');
my $before = sql("SELECT pid FROM romancy.workers WHERE kind = 'executor'");

sql(q{ALTER DATABASE postgres SET TimeZone = 'Asia/Kolkata'; ALTER DATABASE postgres SET DateStyle = 'SQL, DMY'; ALTER DATABASE postgres SET IntervalStyle = 'sql_standard';
	ALTER DATABASE postgres SET array_nulls = off; ALTER DATABASE postgres SET transform_null_equals = on; ALTER DATABASE postgres SET plpgsql.check_asserts = off});
sql("SELECT pg_terminate_backend($before)");
poll_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $before", 'the executor has gone');

# the plans of the new one are made by instances of the new settings, then come replays of the old, and the new again
start($_) for qw(new newer);
proceed(qw(old new older newer));
is(sql(q{SELECT string_agg(workflow || ' ' || status || coalesce(': ' || (error->>'message'), ''), ', ' ORDER BY created_at) FROM romancy.instances WHERE status <> 'completed'}), '', 'all have completed');
is(sql("SELECT count(DISTINCT pid) FROM romancy.workers WHERE kind = 'executor'"), 1, 'in one executor');

# what is read is what the instance's settings say, in all places
for my $workflow (qw(reads reads_sql))
{
	for my $pair ([ 'old', 'older', '2026-06-01T12:00:00+00:00', '2026-05-04', '[null]', 'true' ], [ 'new', 'newer', '2026-06-01T12:00:00+05:30', '2026-04-05', '["NULL"]', 'false' ])
	{
		my ($one, $other, @expected) = @$pair;
		my $place = $workflow eq 'reads' ? '{asked,0}' : '{asked}';
		for my $key ($one, $other)
		{
			for my $at (0, -1)
			{
				my $row = "(SELECT (output->$at) AS o FROM romancy.instances WHERE workflow = '$workflow' AND idempotency_key = '$key')";
				is(sql("SELECT concat_ws(' ', t->>'at', t->>'date', t->>'array', t->>'null') FROM $row r, LATERAL (SELECT o #> '$place') x(t)"), "@expected", "$workflow, $key, $at");
				is(sql("SELECT o->'itself' = o #> '$place' FROM $row r"), 't', '... and in the activity');
			}
		}
	}
}
is(sql(q{SELECT bool_and(output->0->'asked'->0 = output->0->'asked'->1 AND output->0->'asked'->0 = output->0->'asked'->2 AND output->0 = output->1) FROM romancy.instances WHERE workflow = 'reads'}), 't',
	'functions that the handler calls read the same');
is(sql(q{SELECT string_agg(idempotency_key || ' ' || output, ', ' ORDER BY created_at) FROM romancy.instances WHERE workflow = 'asserts'}),
	'old true, older true, new false, newer false', "settings of PL/pgSQL's are those of the beginning");

# a session that has other settings, and plans of its own: they, too, mean afterwards what they meant before
sql(q{CREATE FUNCTION zoned() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb('2026-06-01 12:00'::timestamptz) #>> '{}'; END $$;
	CREATE FUNCTION zone_of(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN jsonb_build_object('at', zoned(), 'pid', pg_backend_pid()); END $$;
	CREATE FUNCTION zone_now(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('zone_of') || jsonb_build_object('here', zoned()); END $$});
poll_until(sub { sql("CALL romancy.run_workflow('zone_now')") =~ /\S/; my $out = sql("SELECT pg_backend_pid(); CALL romancy.run_workflow('zone_now')"); return $out =~ /^(\d+)\n.*"pid": \1\b/ },
	'runs are carried out in the session');
is(sql(q{SET TimeZone = 'Asia/Tokyo'; SELECT zoned(); CALL romancy.run_workflow('zone_now'); SELECT zoned()}) =~ s/, "pid": \d+//r,
	qq{2026-06-01T12:00:00+09:00\n{"at": "2026-06-01T12:00:00+05:30", "here": "2026-06-01T12:00:00+05:30"}\n2026-06-01T12:00:00+09:00}, 'a run in the session');
is(sql(q{SET TimeZone = 'Asia/Tokyo'; SELECT zoned(); BEGIN; SELECT FROM romancy.start_workflow('zone_now', idempotency_key => 'drained'); CALL romancy.drain();
	SELECT output - 'pid' FROM romancy.instances WHERE idempotency_key = 'drained'; SELECT zoned(); ROLLBACK; SELECT zoned()}) =~ s/^\d*\n(?=\{)//mr,
	qq{2026-06-01T12:00:00+09:00\n{"at": "2026-06-01T12:00:00+05:30", "here": "2026-06-01T12:00:00+05:30"}\n2026-06-01T12:00:00+09:00\n2026-06-01T12:00:00+09:00}, 'a drain');

# what the session's own code read while the session had other settings, which it has set back
for my $back ("SET TimeZone = 'Asia/Kolkata'", 'RESET TimeZone')
{
	is(sql(qq{SET TimeZone = 'Asia/Tokyo'; SELECT zoned(); $back; CALL romancy.run_workflow('zone_now')}) =~ s/, "pid": \d+//r,
		qq{2026-06-01T12:00:00+09:00\n{"at": "2026-06-01T12:00:00+05:30", "here": "2026-06-01T12:00:00+05:30"}}, "a run in the session after $back");
	is(sql(qq{SET TimeZone = 'Asia/Tokyo'; SELECT zoned(); $back; BEGIN; SELECT FROM romancy.start_workflow('zone_now', idempotency_key => 'drained'); CALL romancy.drain();
		SELECT output - 'pid' FROM romancy.instances WHERE idempotency_key = 'drained'; ROLLBACK}) =~ s/\n\d*\n+(?=\d*\n?\{)/\n/r,
		qq{2026-06-01T12:00:00+09:00\n{"at": "2026-06-01T12:00:00+05:30", "here": "2026-06-01T12:00:00+05:30"}}, "a drain after $back");
}
is(sql(q{BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SELECT zoned(); ROLLBACK; CALL romancy.run_workflow('zone_now')}) =~ s/, "pid": \d+//r,
	qq{2026-06-01T12:00:00+09:00\n{"at": "2026-06-01T12:00:00+05:30", "here": "2026-06-01T12:00:00+05:30"}}, 'a run after a transaction that had another one');

# what was read for a materialized view and for an index, and what the planner read: the body of an SQL function that it puts in place of a call, in a plan that comes late
sql(q{CREATE FUNCTION tokyo_of(int) RETURNS text IMMUTABLE LANGUAGE plpgsql SET TimeZone = 'Asia/Tokyo' AS $$ BEGIN RETURN public.zoned(); END $$; CREATE TABLE indexed AS SELECT 1 AS i;
	CREATE FUNCTION sql_zoned() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT '2026-06-01 12:00'::timestamptz $$;
	CREATE FUNCTION planned(i int) RETURNS text LANGUAGE plpgsql AS $$ DECLARE r text; BEGIN SELECT sql_zoned() AT TIME ZONE 'UTC' INTO r FROM pg_class WHERE oid = i; RETURN r; END $$;
	CREATE FUNCTION planned_in(zone text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE r text; BEGIN PERFORM set_config('TimeZone', zone, false); r := planned(1259); RESET TimeZone; RETURN r; END $$;
	CREATE FUNCTION zone_planned(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(zoned() || ' ' || planned(1259)); END $$});
for my $first ('CREATE MATERIALIZED VIEW seen AS SELECT tokyo_of(1)', 'CREATE INDEX ON indexed (tokyo_of(i))',
	q{DO $$ BEGIN FOR i IN 1 .. 5 LOOP PERFORM planned_in('Asia/Kolkata'); END LOOP; PERFORM planned_in('Asia/Tokyo'), planned_in('Asia/Tokyo'); END $$})
{
	is(sql("$first; BEGIN; DO \$\$ BEGIN PERFORM romancy.start_workflow('zone_planned', idempotency_key => 'planned'); END \$\$; CALL romancy.drain(); SELECT output #>> '{}' FROM romancy.instances WHERE idempotency_key = 'planned'; ROLLBACK") =~ s/^\d*\n(?=\d{4}-)//r,
		'2026-06-01T12:00:00+05:30 01/06/2026 06:30:00', "a drain after $first");
}

# a session that runs no workflow keeps its plans over subtransactions that are rolled back
my ($rc, $out, $err) = $node->psql('postgres', q{SET client_min_messages = log; SET debug_print_parse = on;
	DO $$ BEGIN FOR i IN 1 .. 50 LOOP BEGIN PERFORM zoned(); RAISE 'caught'; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$});
my $read = () = $err =~ /parse tree:/g;
cmp_ok($read, '>', 1, 'statements that are read are told');
cmp_ok($read, '<', 50, "and those of a loop with exceptions are read once ($read)");

# a turn that waits or fails leaves its settings by an error, and the transaction goes on
sql(q{CREATE FUNCTION zone_waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM zoned(); PERFORM romancy.receive('never'); RETURN to_jsonb(zoned()); END $$;
	CREATE FUNCTION zone_fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', zoned(); END $$});
for my $workflow (qw(zone_waits zone_fails))
{
	is(sql(qq{SET TimeZone = 'Asia/Tokyo'; BEGIN; SELECT FROM romancy.start_workflow('$workflow', idempotency_key => '$workflow'); CALL romancy.drain(); SELECT zoned(); SELECT status FROM romancy.instances WHERE idempotency_key = '$workflow'; COMMIT; SELECT zoned()})
		=~ s/^\n?(?:\d+\n)?//r, "2026-06-01T12:00:00+09:00\n" . ($workflow eq 'zone_waits' ? 'waiting_for_message' : 'failed') . "\n2026-06-01T12:00:00+09:00", "$workflow: what comes after the drain in its transaction");
}

# an activity that has other settings for a while, in an executor and in a session: what it calls is read anew by the handler, at once, and by the next instance
sql(q{CREATE FUNCTION in_tokyo(jsonb) RETURNS jsonb LANGUAGE plpgsql SET TimeZone = 'Asia/Tokyo' AS $$ BEGIN RETURN to_jsonb(zoned()); END $$;
	CREATE FUNCTION local_tokyo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN SET LOCAL TimeZone = 'Asia/Tokyo'; RETURN to_jsonb(zoned()); END $$;
	CREATE FUNCTION fails_in_tokyo(jsonb) RETURNS jsonb LANGUAGE plpgsql SET TimeZone = 'Asia/Tokyo' AS $$ BEGIN RAISE EXCEPTION '%', zoned() USING ERRCODE = '42000'; END $$;
	CREATE PROCEDURE proc_tokyo(jsonb, INOUT r jsonb) LANGUAGE plpgsql AS $$ BEGIN SET TimeZone = 'Asia/Tokyo'; r := to_jsonb(zoned()); END $$;
	SELECT romancy.define_activity('proc_tokyo', handler => 'proc_tokyo(jsonb, jsonb)', transactional => false);
	CREATE FUNCTION asks_tokyo(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE there jsonb;
	BEGIN
		BEGIN
			there := romancy.activity(input #>> '{}');
		EXCEPTION WHEN OTHERS THEN
			there := to_jsonb(SQLERRM);
		END;
		RETURN jsonb_build_array(there, zoned());
	END $$});
my $here = '2026-06-01T12:00:00+05:30';
for my $activity (qw(in_tokyo local_tokyo fails_in_tokyo proc_tokyo))
{
	my $executors = q{FROM pg_stat_activity WHERE backend_type = 'romancy executor'};
	sql("SELECT pg_terminate_backend(pid) $executors");
	poll_until($node, "SELECT count(*) = 0 $executors", 'no executor has plans');
	for my $round (1 .. 2)
	{
		sql("SELECT romancy.start_workflow('asks_tokyo', '\"$activity\"', idempotency_key => '$activity $round')");
		poll_until($node, "SELECT status NOT IN ('pending', 'running') FROM romancy.instances WHERE idempotency_key = '$activity $round'", "$activity has run");
		is(sql("SELECT coalesce(output->>1, error::text) FROM romancy.instances WHERE idempotency_key = '$activity $round'"), $here, "the handler, after $activity in an executor, $round");
	}
	sql("SELECT romancy.start_workflow('zone_now', idempotency_key => 'after $activity')");
	poll_until($node, "SELECT status FROM romancy.instances WHERE idempotency_key = 'after $activity'", 'another workflow after that', expected => 'completed');
	is(sql("SELECT output - 'pid' FROM romancy.instances WHERE idempotency_key = 'after $activity'"), qq{{"at": "$here", "here": "$here"}}, '... reads with its own settings');
	is(sql(qq{CALL romancy.run_workflow('asks_tokyo', '"$activity"'); SELECT zoned()}) =~ s/^\["[^"]*", //r, qq{"$here"]\n$here}, "$activity in a session");
}

$node->stop;
done_testing();
