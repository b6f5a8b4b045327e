# Settings that get in the way. A database's owner and the roles that own workflows set
# whatever ALTER DATABASE and ALTER ROLE let them; every setting of romancy's is reloaded,
# to both ends of its range, under load. Workflows run on, and the engine's own work is
# done as if nothing had been set; a search_path with operators of another role gains
# nothing.
# It would catch engine SQL that a user's setting changes, and a setting that is not taken over by a reload.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = romancy_node('settings', 'romancy.worker_idle_timeout' => '500ms', 'romancy.timer_interval' => '300ms',
	'romancy.resumption_interval' => '300ms', 'romancy.retention_interval' => '300ms', 'romancy.retry_backoff_max' => '300ms');
sub sql { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

my $functions = q{
	CREATE TABLE public.effect (instance uuid, step int);
	GRANT ALL ON public.effect TO public;
	CREATE FUNCTION public.note(jsonb) RETURNS jsonb LANGUAGE plpgsql SET default_transaction_read_only = off AS $$
	BEGIN INSERT INTO public.effect VALUES (romancy.instance_id(), ($1 #>> '{}')::int); RETURN $1; END $$;
	CREATE FUNCTION public.flaky(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN IF romancy.attempt() OPERATOR(pg_catalog.<) 2 THEN RAISE EXCEPTION 'not yet'; END IF; RETURN '"ok"'; END $$;
	CREATE FUNCTION public.steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('public.note', '1');
		PERFORM romancy.sleep('50 ms');
		PERFORM romancy.activity('public.flaky', retry => '{"initial_interval": "10ms"}');
		PERFORM romancy.set_value('k', '1');
		RETURN romancy.activity('public.note', '2');
	END $$;
};
my %total;
# runs some; $reset is what makes the session that starts them and looks at them sane
sub runs
{
	my ($db, $what, $n) = @_;
	$n //= 10;
	my $reset = q{SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed'; SET statement_timeout = 0;
		SET lock_timeout = 0; SET search_path = pg_catalog; SET datestyle = iso; SET role = none; SET row_security = on; SET bytea_output = hex; SET array_nulls = on;};
	$total{$db} += $n;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql($db, qq{$reset SELECT count(*) FROM romancy.start_workflows('public.steps', array(SELECT to_jsonb(i) FROM generate_series(1, $n) i))});
	my $ok = poll_until($node, qq{$reset SELECT count(*) = $total{$db} FROM romancy.instances WHERE status = 'completed'}, "$what: all complete", dbname => $db);
	$ok or diag($node->safe_psql($db, "$reset SELECT status, error, count(*) FROM romancy.instances GROUP BY 1, 2"));
	is($node->safe_psql($db, "$reset SELECT count(*), count(DISTINCT (instance, step)) FROM public.effect"), join('|', (2 * $total{$db}) x 2), "$what: each step once");
}

# --- hostile settings of a database

sql('CREATE ROLE owner LOGIN; CREATE ROLE user1 LOGIN; CREATE DATABASE hostile OWNER owner');
sql("CREATE EXTENSION romancy; $functions; SELECT romancy.grant_usage('user1'); SELECT romancy.grant_usage('owner')", 'hostile');
runs('hostile', 'before');
my @settings = (
	"statement_timeout = '1ms'", "lock_timeout = '1ms'", 'default_transaction_read_only = on',
	"default_transaction_isolation = 'serializable'", 'default_transaction_deferrable = on', 'row_security = off',
	"idle_in_transaction_session_timeout = '1ms'", "idle_session_timeout = '1ms'", "datestyle = 'German, DMY'", "intervalstyle = 'sql_standard'",
	"timezone = 'Pacific/Kiritimati'", 'array_nulls = off', "bytea_output = 'escape'", 'standard_conforming_strings = off', 'transform_null_equals = on',
	'quote_all_identifiers = on', 'enable_indexscan = off', 'enable_bitmapscan = off', "plan_cache_mode = 'force_custom_plan'", "work_mem = '64kB'",
	"default_tablespace = 'nowhere'", "temp_tablespaces = 'nowhere'", 'extra_float_digits = -15', "xmloption = 'document'", "client_min_messages = 'debug5'",
	"role = 'user1'", "default_table_access_method = 'nowhere'", 'check_function_bodies = off', 'synchronous_commit = off', "plpgsql.variable_conflict = 'error'",
	"exit_on_error = on", "parallel_leader_participation = off", "parallel_setup_cost = 0", "parallel_tuple_cost = 0", "min_parallel_table_scan_size = 0");
push @settings, "transaction_timeout = '1ms'" if $node->pg_version >= 17;
my $force = $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
push @settings, "$force = on";
# (a parallel worker of the test's own session begins with the database's timeouts, whatever the session has)
my $own = " -c $force=off -c max_parallel_workers_per_gather=0";
my $set = 0;
for my $setting (@settings)
{
	my ($rc, $out, $err) = $node->psql('postgres', "SET client_min_messages = error; ALTER DATABASE hostile SET $setting", extra_params => [ '-U', 'owner' ]);
	if ($rc != 0)
	{
		# some only a superuser may set: just as bad
		($rc, $out, $err) = $node->psql('postgres', "SET client_min_messages = error; ALTER DATABASE hostile SET $setting");
	}
	$set++ if $rc == 0;
}
cmp_ok($set, '>=', @settings - 3, 'hostile settings are in force for the database');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE database = 'hostile'}, 'the workers begin anew');
SKIP:
{
	# sessions, too, would be cut off by some of them: what is tested are the workers
	sql(q{ALTER DATABASE hostile RESET statement_timeout; ALTER DATABASE hostile RESET idle_session_timeout; ALTER DATABASE hostile RESET idle_in_transaction_session_timeout});
	sql(q{ALTER DATABASE hostile RESET transaction_timeout}) if $node->pg_version >= 17;
	local $ENV{PGOPTIONS} = '-c client_min_messages=error';
	runs('hostile', 'hostile database');
}
for my $timeout ('statement_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout', $node->pg_version >= 17 ? 'transaction_timeout' : ())
{
	sql("ALTER DATABASE hostile SET $timeout = '1ms'");
}
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE database = 'hostile'}, 'the workers begin anew');
{
	local $ENV{PGOPTIONS} = '-c client_min_messages=error -c statement_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0'
	  . ($node->pg_version >= 17 ? ' -c transaction_timeout=0' : '') . $own;
	runs('hostile', 'and its timeouts');
	# the same for roles: the owner of workflows, and whom the workers connect as
	sql('ALTER DATABASE hostile RESET ALL');
	for my $role ('user1', 'postgres')
	{
		$node->psql('postgres', "SET client_min_messages = error; ALTER ROLE $role SET $_") for grep { !/^role|exit_on_error/ } @settings;
	}
	poll_until($node, q{SET statement_timeout = 0; SELECT count(*) = 0 FROM romancy.workers WHERE database = 'hostile'}, 'the workers begin anew');
	local $ENV{PGOPTIONS} = $ENV{PGOPTIONS} . ' -c lock_timeout=0';
	runs('hostile', 'hostile roles');
}
$ENV{PGOPTIONS} = '-c statement_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off -c lock_timeout=0'
  . ($node->pg_version >= 17 ? ' -c transaction_timeout=0' : '') . $own;
sql("ALTER ROLE $_ RESET ALL") for qw(user1 postgres);
delete $ENV{PGOPTIONS};

# --- a search_path of the database owner's, with operators and functions of that owner

$node->safe_psql('hostile', q{
	CREATE SCHEMA evil;
	CREATE TABLE evil.seen (who name DEFAULT current_user, su text DEFAULT current_setting('is_superuser'), what text);
	GRANT USAGE ON SCHEMA evil TO public; GRANT ALL ON evil.seen TO public;
	CREATE FUNCTION evil.note(text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO evil.seen (what) VALUES ($1); EXCEPTION WHEN OTHERS THEN NULL; END $$;
	DO $$
	DECLARE t text; o text;
	BEGIN
		FOREACH t IN ARRAY ARRAY['text', 'uuid', 'jsonb', 'int4', 'int8', 'int2', 'timestamptz', 'oid', 'name', 'interval', 'bool', 'record'] LOOP
			FOREACH o IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>='] LOOP
				EXECUTE format('CREATE FUNCTION evil.%2$I(a %1$s, b %1$s) RETURNS bool LANGUAGE plpgsql AS %3$L', t, 'op' || encode(o::bytea, 'hex') || t,
					format('BEGIN PERFORM evil.note(%L); RETURN a OPERATOR(pg_catalog.%s) b; END', o || ' ' || t, o));
				EXECUTE format('CREATE OPERATOR evil.%2$s (LEFTARG = %1$s, RIGHTARG = %1$s, FUNCTION = evil.%3$I)', t, o, 'op' || encode(o::bytea, 'hex') || t);
			END LOOP;
		END LOOP;
		FOREACH t IN ARRAY ARRAY['now()', 'clock_timestamp()', 'statement_timestamp()'] LOOP
			EXECUTE format('CREATE FUNCTION evil.%1$s RETURNS timestamptz LANGUAGE plpgsql AS %2$L', t, format('BEGIN PERFORM evil.note(%L); RETURN pg_catalog.%s; END', t, t));
		END LOOP;
		FOREACH t IN ARRAY ARRAY['lower', 'unnest', 'coalesce', 'format', 'jsonb_build_object', 'to_jsonb', 'jsonb_array_elements', 'uuid_hash', 'least', 'greatest'] LOOP
			EXECUTE format('CREATE FUNCTION evil.%I(text) RETURNS text LANGUAGE plpgsql AS %L', t, format('BEGIN PERFORM evil.note(%L); RETURN $1; END', t));
		END LOOP;
	END $$;
	CREATE FUNCTION evil.count(anyelement) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.note('count'); RETURN 1; END $$;
	CREATE FUNCTION evil.pg_has_role(name, text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.note('pg_has_role'); RETURN true; END $$;
	-- work that takes the workers through most of their statements; its own code has a path of its own
	CREATE FUNCTION public.echo(jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION public.fails(jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
	CREATE FUNCTION public.child(jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN RETURN romancy.activity('public.echo', $1); END $$;
	CREATE FUNCTION public.again(jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN IF $1 = '2' THEN RETURN $1; END IF; PERFORM romancy.recur('2'); RETURN NULL; END $$;
	CREATE FUNCTION public.wide(jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog AS $$
	BEGIN
		PERFORM romancy.set_value('k', $1), romancy.set_labels('{"l": 1}'), romancy.subscribe('b'), romancy.join_group('g');
		PERFORM romancy.await(romancy.spawn('public.echo', $1)), romancy.call_workflow('public.child', $1), romancy.publish('b', '1'), romancy.receive('b');
		BEGIN PERFORM romancy.activity('public.fails', retry => '{"max_attempts": 2, "initial_interval": "1ms"}'); EXCEPTION WHEN OTHERS THEN NULL; END;
		BEGIN PERFORM romancy.receive('b', timeout => '1 ms'); EXCEPTION WHEN OTHERS THEN NULL; END;
		PERFORM romancy.sleep('1 ms');
		RETURN $1;
	END $$;
	CREATE TABLE evil.t_instance (i int); CREATE TABLE evil.t_history (i int);
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA evil TO public;
	ALTER DATABASE hostile SET search_path = evil, pg_catalog, romancy, public;
});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE database = 'hostile'}, 'the workers begin anew');
my @fast = map { "${_}_interval" } qw(timer resumption lock_cleanup retention activity_timeout message_check message_timeout channel_cleanup queue_notify outbox reindex);
sql("ALTER SYSTEM SET romancy.$_ = '50ms'") for @fast;
sql('ALTER SYSTEM SET romancy.worker_idle_timeout = 0');
$node->reload;
runs('hostile', 'a hostile search_path');
# its own code resolves nothing by a path; the rows are written and read by workers
$node->safe_psql('hostile', q{SET search_path = pg_catalog; SELECT romancy.start_workflow('public.wide', '1'), romancy.start_workflow('public.again', '1'), romancy.start_workflow('public.wide', '2', idempotency_key => 'x')});
poll_until($node, q{SET search_path = pg_catalog; SELECT count(*) = 6 AND bool_and(status IN ('completed', 'recurred')) FROM romancy.instances WHERE workflow ~ 'wide|child|again'}, 'most of what workers do', dbname => 'hostile');
poll_until($node, q{SET search_path = pg_catalog; SELECT bool_and(runs > 0) FROM romancy.sweeps WHERE name NOT IN ('schedules', 'outbox')}, 'and every sweep', dbname => 'hostile');
sql("ALTER SYSTEM RESET romancy.$_") for @fast, 'worker_idle_timeout';
$node->reload;
$node->safe_psql('hostile', q{SET search_path = pg_catalog; SELECT romancy.delete_workflow(instance_id) FROM romancy.instances WHERE workflow ~ 'wide|child|again'});
$node->safe_psql('hostile', q{SET search_path = pg_catalog; SELECT romancy.run_sweep(name) FROM romancy.sweeps});
is($node->safe_psql('hostile', q{SET search_path = pg_catalog; SELECT count(*) FROM evil.seen}), '0', 'none of its functions was run by a worker')
  or diag($node->safe_psql('hostile', q{SET search_path = pg_catalog; SELECT who, su, what, count(*) FROM evil.seen GROUP BY 1, 2, 3}));
is($node->safe_psql('hostile', q{SELECT 1 = 1; SELECT count(*) > 0 FROM evil.seen}) =~ s/.*\n//sr, 't', 'though a plain session runs them');
# the API, in a session with that path, as the superuser
$node->safe_psql('hostile', q{SET search_path = pg_catalog; TRUNCATE evil.seen});
$total{hostile}++;
my $id = $node->safe_psql('hostile', q{SELECT romancy.start_workflow('public.steps', '1')});
$node->safe_psql('hostile', qq{SELECT romancy.pause_workflow('$id'); SELECT romancy.resume_workflow('$id'); CALL romancy.await_result('$id', '30s');
	SELECT status FROM romancy.instances LIMIT 1; SELECT * FROM romancy.list_instances(); SELECT * FROM romancy.get_history('$id'); SELECT * FROM romancy.sweeps; SELECT * FROM romancy.workers; SELECT * FROM romancy.waiting;
	SELECT romancy.run_sweep('timers'), romancy.run_sweep('resumption'), romancy.run_sweep('retention')});
is($node->safe_psql('hostile', q{SET search_path = pg_catalog; SELECT string_agg(DISTINCT what, ' ') FROM evil.seen}), '', 'nor by the functions and views of romancy');

# --- reload of every setting, under load

sql("CREATE EXTENSION IF NOT EXISTS romancy; $functions");
my @all = split /\n/, sql(q{SELECT name, vartype, min_val, max_val, boot_val FROM pg_settings WHERE name LIKE 'romancy.%' AND context IN ('sighup', 'superuser', 'user') ORDER BY name});
cmp_ok(scalar(@all), '>', 20, scalar(@all) . ' settings can be reloaded');
my $reloaded = 0;
for my $line (@all)
{
	my ($name, $type, $min, $max, $boot) = split /\|/, $line, -1;
	my @values =
	    $type eq 'bool' ? ('off', 'on')
	  : $type eq 'string' ? ($name =~ /databases/ ? ('nowhere', 'postgres, hostile') : $name =~ /retry/ ? ('{"max_attempts": 3}') : $name =~ /_(age|expires)$/ ? ('0', '10d') : ('x'))
	  : $type eq 'enum' ? qw(inline step auto)
	  : ($min, $max);
	for my $value (@values, 'DEFAULT')
	{
		my $quoted = $value eq 'DEFAULT' ? $value : "'$value'";
		sql("ALTER SYSTEM SET $name = $quoted");
		$node->reload;
		$reloaded++;
	}
	$total{postgres} += 2;
	sql(q{SELECT count(*) FROM romancy.start_workflows('public.steps', '{1,2}')});
}
sql('ALTER SYSTEM RESET ALL');
$node->reload;
cmp_ok($reloaded, '>', 60, "$reloaded reloads");
runs('postgres', 'after all these reloads');
for my $bad ("romancy.executors = 0", "romancy.sweep_jitter = 2", "romancy.databases = 'a,,b'", "romancy.default_retry = '[]'", 'romancy.nonesuch = 1',
	"romancy.result_expires = 'later'", "romancy.result_expires = '-1'", "romancy.outbox_max_age = '1 lightyear'")
{
	my ($rc, $out, $err) = $node->psql('postgres', "ALTER SYSTEM SET $bad");
	isnt($rc, 0, "$bad is refused");
}

# durations that can be off
is(sql('SHOW romancy.result_expires'), 'off', 'outputs do not expire');
for my $good (qw(2d 86400 off))
{
	sql("ALTER SYSTEM SET romancy.result_expires = '$good'");
	$node->reload;
	poll_until($node, 'SHOW romancy.result_expires', "result_expires = $good", expected => $good);
	my $id = sql(q{SELECT romancy.start_workflow('public.note', start_at => now() + interval '1 year')});
	is(sql("SELECT result_expires FROM romancy.t_instance WHERE instance_id = '$id'"), $good eq 'off' ? '' : $good eq '2d' ? '48:00:00' : '24:00:00', 'holds for who starts then');
}

# A retry policy is checked to its last key, by a session and by a reload
my %fault = ('{' => 'not valid JSON', '"x"' => 'must be a JSON object', '{"max_atempts": 1}' => 'unknown key "max_atempts"', '{"max_attempts": -1}' => 'a whole number',
	'{"max_attempts": "1"}' => 'a whole number', '{"initial_interval": "soon"}' => 'an interval', '{"backoff_coefficient": 0.5}' => 'at least 1', '{"max_interval": 1}' => 'an interval',
	'{"max_duration": "0 s"}' => 'null for no limit', '{"jitter": 2}' => 'from 0 to 1', '{"retryable_errors": ["nonsense"]}' => 'an array of SQLSTATEs', '{"non_retryable_errors": "40"}' => 'an array of SQLSTATEs');
for my $bad (sort keys %fault)
{
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nALTER SYSTEM SET romancy.default_retry = '$bad'");
	like($err, qr/ERROR: +RM012: .*\Q$fault{$bad}\E/s, "a default_retry of $bad is refused");
}
my $policy = '{"max_attempts": 0, "initial_interval": "2s", "backoff_coefficient": 1.5, "max_interval": "1 min", "max_duration": null, "jitter": 0, "retryable_errors": ["40", "unique_violation"], "non_retryable_errors": ["23514"]}';
sql("ALTER SYSTEM SET romancy.default_retry = '$policy'");
$node->reload;
poll_until($node, "SELECT current_setting('romancy.default_retry') = '$policy'", 'a policy with every key is taken');
my $offset = -s $node->logfile;
sql(q{ALTER SYSTEM RESET romancy.default_retry});
$node->append_conf('postgresql.conf', q(romancy.default_retry = '{"jitter": 2}'));
$node->reload;
poll_until(sub { slurp_file($node->logfile, $offset) =~ /invalid value for key "jitter" of "romancy.default_retry"/ }, 'a reload with a wrong one is told of');
is(sql(q{SHOW romancy.default_retry}), $policy, 'and the former one stays');
$node->append_conf('postgresql.conf', q(romancy.default_retry = ''));
$node->reload;
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'romancy launcher'}), '1', 'the launcher is there');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|background worker "romancy [^"]*" \(PID \d+\) exited with exit code/, 'no worker came to grief');
$node->stop('fast');
done_testing();
