# Owners of every kind, and settings that would stop a worker: each owner's instances run, in a
# session that has the role's own settings, or are paused with an error that says why. An owner
# whose session cannot be made would keep its work, and with a common back-off that of others, waiting for ever. It would catch an owner whose work stands still without a word, and one that holds up others.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('sessions', 'romancy.max_workers' => 4, 'romancy.executors' => 2, 'restart_after_crash' => 'on');
my $version = substr($node->safe_psql('postgres', 'SHOW server_version_num'), 0, 2);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	CREATE SCHEMA o; GRANT USAGE ON SCHEMA o TO public;
	CREATE TABLE o.effect (who name, what text); GRANT ALL ON o.effect TO public;
	CREATE TABLE o.guarded (who name); INSERT INTO o.guarded SELECT rolname FROM pg_roles; GRANT SELECT ON o.guarded TO public;
	ALTER TABLE o.guarded ENABLE ROW LEVEL SECURITY;
	CREATE POLICY p ON o.guarded USING (who = session_user);
	CREATE FUNCTION o.show() RETURNS jsonb LANGUAGE sql AS $$
		SELECT jsonb_build_object('users', concat_ws(' ', current_user, session_user, current_setting('is_superuser')),
			'settings', concat_ws(' ', current_setting('timezone'), current_setting('work_mem'), current_setting('app.own', true), current_setting('client_encoding')),
			'zone', to_char('2026-07-01 12:00+00'::timestamptz, 'HH24:MI')) $$;
	CREATE FUNCTION o.act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO o.effect VALUES (current_user, $1 #>> '{}'); RETURN o.show(); END $$;
	CREATE PROCEDURE o.proc(a jsonb, INOUT r jsonb) LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO o.effect VALUES (current_user, 'proc'); COMMIT; ROLLBACK; r := o.show(); END $$;
	CREATE FUNCTION o.flow(a jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE mine jsonb := o.show();
	BEGIN
		PERFORM romancy.sleep('10 ms');
		IF romancy.activity('o.act', a) <> mine OR romancy.activity('o_proc') <> mine OR romancy.await(romancy.spawn('o.act', a)) <> mine THEN
			RAISE EXCEPTION 'they differ';
		END IF;
		RETURN mine;
	END $$;
	CREATE FUNCTION o.waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.receive('go'); RETURN romancy.activity('o.act', '"waited"'); END $$;
});

# Starts a workflow as a role, in a superuser's session, so that the role need not be able to connect
sub start_as
{
	my ($role, $workflow) = @_;
	# (a definition belongs to a namespace, and each of these roles has one of its own)
	sql(qq{SET ROLE "$role"; SET default_transaction_read_only = off; SELECT romancy.define_activity('o_proc', handler => 'o.proc(jsonb, jsonb)', transactional => false)})
	  if $workflow eq 'flow';
	return sql(qq{SET ROLE "$role"; SET search_path = o; SET default_transaction_read_only = off; SELECT romancy.start_workflow('$workflow', '"$role"')});
}

# A role with these attributes and settings runs a workflow to its end
sub runs
{
	my ($role, $attributes, $settings, $expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql(qq{CREATE ROLE "$role" $attributes; SELECT romancy.grant_usage('"$role"'); GRANT ALL ON PROCEDURE o.proc TO "$role"});
	sql(qq{ALTER ROLE "$role" SET $_}) for @$settings;
	my $id = start_as($role, 'flow');
	poll_until($node, qq{SELECT status FROM romancy.instances WHERE instance_id = '$id'}, "$role: completes", expected => 'completed')
	  or diag(sql(qq{SELECT row_to_json(i) FROM romancy.instances i WHERE instance_id = '$id'}));
	my $super = $attributes =~ /\bSUPERUSER/ ? 'on' : 'off';
	is(sql(qq{SELECT output->>'users' FROM romancy.instances WHERE instance_id = '$id'}), "$role $role $super", "$role: its users");
	is(sql(qq{SELECT output->>'$expected->[0]' FROM romancy.instances WHERE instance_id = '$id'}), $expected->[1], "$role: its settings") if $expected;
	is(sql(qq{SELECT count(*) FROM o.effect WHERE who = '$role'}), 3, "$role: its effects");
	return;
}

runs('plain', 'LOGIN', []);
runs('superuser', 'SUPERUSER', []);
runs('no login', 'NOLOGIN', []);
runs('no superuser login', 'NOLOGIN SUPERUSER', []);
runs('limit', 'LOGIN CONNECTION LIMIT 0', []);
runs('expired', q{LOGIN PASSWORD 'x' VALID UNTIL '2001-01-01'}, []);
runs('settings', 'NOLOGIN', [ q{timezone = 'Asia/Tokyo'}, q{work_mem = '7MB'}, q{app.own = 'mine'} ], [ 'settings', 'Asia/Tokyo 7MB mine UTF8' ]);
runs('zone', 'LOGIN', [ q{timezone = 'America/New_York'} ], [ 'zone', '08:00' ]);
runs('read only', 'LOGIN', [ 'default_transaction_read_only = on' ]);
runs('serializable', 'LOGIN', [ 'default_transaction_isolation = serializable', 'default_transaction_deferrable = on' ]);
runs('timeouts', 'LOGIN', [ q{statement_timeout = 1}, q{lock_timeout = 1}, q{idle_in_transaction_session_timeout = 1}, q{idle_session_timeout = 1},
	$version >= 17 ? q{transaction_timeout = 1} : () ]);
runs('preloads', 'LOGIN', [ q{session_preload_libraries = 'no_such_library'}, q{local_preload_libraries = 'no_such_library'} ]);
runs('path', 'LOGIN', [ q{search_path = 'no_such_schema'} ]);
runs('rls off', 'LOGIN', [ q{row_security = off} ]);
runs('exit', 'LOGIN', [ q{exit_on_error = on} ]);
runs('encoding', 'LOGIN', [ q{client_encoding = 'LATIN1'} ]);
runs('formats', 'LOGIN', [ q{DateStyle = 'German'}, q{IntervalStyle = 'sql_standard'}, q{extra_float_digits = -5}, q{bytea_output = escape}, q{standard_conforming_strings = off}, q{transform_null_equals = on}, q{quote_all_identifiers = on} ]);
runs('planner', 'LOGIN', [ q{enable_indexscan = off}, q{enable_bitmapscan = off}, q{enable_indexonlyscan = off}, q{plan_cache_mode = force_custom_plan}, q{session_replication_role = replica}, q{synchronous_commit = off} ]);
runs('odd', 'LOGIN', [ q{log_min_messages = panic}, q{client_min_messages = error}, q{log_min_error_statement = panic}, q{log_statement = 'all'}, q{temp_file_limit = 0}, q{max_stack_depth = '100kB'},
	q{default_tablespace = 'no_such'}, q{temp_tablespaces = 'no_such'}, q{check_function_bodies = off}, q{backslash_quote = off}, q{array_nulls = off}, q{default_toast_compression = pglz}, q{vacuum_cost_delay = 100},
	q{track_activities = off}, q{track_counts = off}, q{lo_compat_privileges = on}, q{xmloption = document}, q{romancy.namespace = 'elsewhere'},
	$version >= 17 ? q{event_triggers = off} : () ]);
sql('CREATE ROLE becomes NOLOGIN; CREATE ROLE "as other" LOGIN; GRANT becomes TO "as other"; ALTER ROLE "as other" SET role = becomes; SELECT romancy.grant_usage(\'"as other"\'); GRANT ALL ON PROCEDURE o.proc TO "as other"');
{
	my $id = start_as('as other', 'flow');
	poll_until($node, qq{SELECT status FROM romancy.instances WHERE instance_id = '$id'}, 'a role with a setting "role": completes', expected => 'completed');
	is(sql(qq{SELECT output->>'users' FROM romancy.instances WHERE instance_id = '$id'}), 'as other as other off', 'as itself');
}

# settings for the role in this database win, and a role's in the database over the role's
sql(q{CREATE ROLE indb NOLOGIN; SELECT romancy.grant_usage('indb'); ALTER ROLE indb SET work_mem = '5MB'; ALTER ROLE indb IN DATABASE postgres SET work_mem = '6MB'; ALTER DATABASE postgres SET app.own = 'db'});
{
	my $id = start_as('indb', 'flow');
	poll_until($node, qq{SELECT output->>'settings' ~ ' 6MB db UTF8\$' FROM romancy.instances WHERE instance_id = '$id'}, 'settings of the role in the database, and of the database')
	  or diag(sql(qq{SELECT row_to_json(i) FROM romancy.instances i WHERE instance_id = '$id'}));
	sql('ALTER DATABASE postgres RESET app.own');
}

# no right to connect
sql(q{REVOKE CONNECT ON DATABASE postgres FROM public});
runs('no connect', 'LOGIN', []);
sql(q{GRANT CONNECT ON DATABASE postgres TO public});

# row-level security by session_user
sql(q{CREATE FUNCTION o.sees(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_agg(who) FROM o.guarded $$; INSERT INTO o.guarded VALUES ('plain')});
{
	my $id = start_as('plain', 'sees');
	poll_until($node, qq{SELECT output FROM romancy.instances WHERE instance_id = '$id'}, 'a policy on session_user', expected => '["plain"]');
}

# Calls SQL in a role's namespace, to which the test's own superuser belongs for so long
sub in_namespace
{
	my ($namespace, $sql) = @_;
	sql("SELECT romancy.grant_usage(current_user::regrole, namespace => '$namespace')");
	sql($sql);
	return sql("SELECT romancy.revoke_usage(current_user::regrole, namespace => '$namespace')");
}

# renamed: known by name, paused, and on it goes under the old name
sql(q{CREATE ROLE renamed LOGIN; SELECT romancy.grant_usage('renamed')});
my $id = start_as('renamed', 'waits');
poll_until($node, qq{SELECT status FROM romancy.instances WHERE instance_id = '$id'}, 'it waits', expected => 'waiting_for_message');
sql('ALTER ROLE renamed RENAME TO another_name');
in_namespace('renamed', q{SELECT romancy.send_to(instance_id, 'go', '1') FROM romancy.instances WHERE status = 'waiting_for_message'});
poll_until($node, qq{SELECT concat_ws(' ', status, error->>'sqlstate') FROM romancy.instances WHERE instance_id = '$id'}, 'renamed: paused with 42704', expected => 'paused 42704');
like(sql(qq{SELECT error->>'message' FROM romancy.instances WHERE instance_id = '$id'}), qr/"renamed".*does not exist/, 'the error says why');
sql(qq{ALTER ROLE another_name RENAME TO renamed; SELECT romancy.resume_workflow('$id')});
poll_until($node, qq{SELECT status FROM romancy.instances WHERE instance_id = '$id'}, 'and named as before: completes', expected => 'completed');
is(sql(q{SELECT string_agg(DISTINCT who, ' ') FROM o.effect WHERE what = 'waited'}), 'renamed', 'as the owner');

# dropped: paused; made anew: the new role's
sql(q{CREATE ROLE dropped LOGIN; SELECT romancy.grant_usage('dropped'); TRUNCATE o.effect});
$id = start_as('dropped', 'waits');
my $later = start_as('dropped', 'waits');
poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE owner = 'dropped' AND status = 'waiting_for_message'}, 'two wait', expected => '2');
sql(q{SELECT romancy.revoke_usage('dropped'); DROP OWNED BY dropped; DROP ROLE dropped});
in_namespace('dropped', qq{SELECT romancy.send_to('$id', 'go', '1')});
poll_until($node, qq{SELECT concat_ws(' ', status, error->>'sqlstate') FROM romancy.instances WHERE instance_id = '$id'}, 'dropped: paused with 42704', expected => 'paused 42704');
is(sql('SELECT count(*) FROM o.effect'), 0, 'nothing ran');
sql(qq{CREATE ROLE dropped NOLOGIN; SELECT romancy.grant_usage('dropped'); SELECT romancy.resume_workflow('$id')});
in_namespace('dropped', qq{SELECT romancy.send_to('$later', 'go', '1')});
poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE owner = 'dropped' AND status = 'completed'}, 'made anew: both complete', expected => '2');
is(sql('SELECT string_agg(DISTINCT who, \' \') FROM o.effect'), 'dropped', 'as the new role');

# dropped while a task of its is due: the instance is paused, and goes on
sql(q{CREATE ROLE tasked; SELECT romancy.grant_usage('tasked'); TRUNCATE o.effect;
	CREATE FUNCTION o.fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (SELECT FROM o.effect) THEN RETURN '"done"'; END IF; RAISE EXCEPTION 'not yet'; END $$;
	CREATE FUNCTION o.spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('o.fails', retry => '{"initial_interval": "1 s", "backoff_coefficient": 1, "max_attempts": 0, "max_duration": null}')); END $$});
$id = start_as('tasked', 'spawns');
poll_until($node, qq{SELECT count(*) FROM romancy.t_task WHERE instance_id = '$id' AND attempt > 0}, 'its task waits for its next attempt', expected => '1');
sql(q{SELECT romancy.revoke_usage('tasked'); DROP ROLE tasked});
poll_until($node, qq{SELECT concat_ws(' ', status, error->>'sqlstate') FROM romancy.instances WHERE instance_id = '$id'}, 'dropped, with a task that is due: paused with 42704', expected => 'paused 42704');
sql(qq{CREATE ROLE tasked; SELECT romancy.grant_usage('tasked'); INSERT INTO o.effect VALUES ('x', 'y'); SELECT romancy.resume_workflow('$id')});
poll_until($node, qq{SELECT status FROM romancy.instances WHERE instance_id = '$id'}, 'made anew: completes', expected => 'completed');

# A role that loses SUPERUSER is none in its next session, and in no other's
sql(q{CREATE ROLE demoted SUPERUSER; SELECT romancy.grant_usage('demoted')});
$id = start_as('demoted', 'flow');
poll_until($node, qq{SELECT output->>'users' FROM romancy.instances WHERE instance_id = '$id'}, 'a superuser', expected => 'demoted demoted on');
sql(q{ALTER ROLE demoted NOSUPERUSER; GRANT ALL ON PROCEDURE o.proc TO demoted});
sql(q{CREATE FUNCTION o.grasp(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN ALTER ROLE demoted SUPERUSER; RETURN '"done"'; EXCEPTION WHEN insufficient_privilege THEN RETURN '"refused"'; END $$;
	CREATE FUNCTION o.grasping(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('o.grasp'); END $$});
$id = start_as('demoted', 'grasping');
poll_until($node, qq{SELECT output FROM romancy.instances WHERE instance_id = '$id'}, 'demoted: no superuser any more', expected => '"refused"');

# Settings of a database by its owner stop neither executors nor schedulers
sql(q{
	CREATE ROLE dbo LOGIN; CREATE DATABASE theirs OWNER dbo;
});
$node->safe_psql('theirs', q{
	CREATE EXTENSION romancy; CREATE ROLE tenant LOGIN; SELECT romancy.grant_usage('tenant'), romancy.grant_usage('dbo');
	CREATE SCHEMA t AUTHORIZATION tenant;
});
$node->safe_psql('theirs', q{
	CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO public; CREATE TABLE trap.sprung (who name); GRANT ALL ON trap.sprung TO public;
	CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO trap.sprung VALUES (current_user); RETURN true; END $$;
	CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq);
	CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN INSERT INTO trap.sprung VALUES (current_user); RETURN clock_timestamp(); END $$;
	ALTER DATABASE theirs SET search_path = trap, pg_catalog;
	ALTER DATABASE theirs SET default_transaction_read_only = on; ALTER DATABASE theirs SET default_transaction_isolation = serializable;
	ALTER DATABASE theirs SET statement_timeout = 1; ALTER DATABASE theirs SET lock_timeout = 1; ALTER DATABASE theirs SET idle_session_timeout = 1;
	ALTER DATABASE theirs SET row_security = off; ALTER DATABASE theirs SET client_encoding = 'LATIN1'; ALTER DATABASE theirs SET exit_on_error = on;
	ALTER DATABASE theirs SET role = dbo;
	}, extra_params => [ '-U', 'dbo' ]);
$ENV{PGOPTIONS} = '-c idle_session_timeout=0 -c statement_timeout=0 -c lock_timeout=0 -c exit_on_error=off -c role=none -c search_path=public';
$node->safe_psql('theirs', qq{
	BEGIN READ WRITE; SET LOCAL statement_timeout = 0; SET LOCAL search_path = t; SET LOCAL ROLE tenant;
	CREATE FUNCTION t.act(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(current_user)';
	CREATE FUNCTION t.flow(jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN PERFORM romancy.sleep('10 ms'); RETURN romancy.activity('t.act'); END \$\$;
	SELECT romancy.start_workflow('t.flow');
	COMMIT});
poll_until($node, q{BEGIN; SET LOCAL ROLE postgres; SET LOCAL statement_timeout = 0; SET LOCAL search_path = pg_catalog; SELECT output FROM romancy.instances; COMMIT}, 'in a database whose owner has set what stops sessions', expected => '"tenant"', dbname => 'theirs');
is($node->safe_psql('theirs', q{BEGIN; SET LOCAL ROLE postgres; SET LOCAL search_path = pg_catalog; SELECT count(*) FROM trap.sprung WHERE who <> 'tenant'; COMMIT}), 0, 'and none but the tenant called what stands in the way');

# The right to use romancy is taken from an owner while an instance waits: it is paused, not failed, and goes on with the right
delete $ENV{PGOPTIONS};
sql(q{CREATE ROLE revoked LOGIN; SELECT romancy.grant_usage('revoked'); GRANT USAGE ON SCHEMA o TO revoked});
sql(q{CREATE FUNCTION o.naps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('2 s'); RETURN romancy.activity('o.act', $1); END $$});
my $waits = start_as('revoked', 'naps');
poll_until($node, "SELECT status = 'waiting_for_timer' FROM romancy.instances WHERE instance_id = '$waits'", 'an instance waits');
sql("SELECT romancy.revoke_usage('revoked')");
poll_until($node, "SELECT status IN ('paused', 'failed') FROM romancy.instances WHERE instance_id = '$waits'", 'it wakes without the right');
is(sql("SELECT status, error ->> 'sqlstate' FROM romancy.instances WHERE instance_id = '$waits'"), 'paused|42501', 'and is paused');
sql("SELECT romancy.grant_usage('revoked'), romancy.resume_workflow('$waits')");
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$waits'", 'with the right it goes on', expected => 'completed');

unlike(slurp_file($node->logfile), qr/TRAP:|was terminated by signal/, 'no process died');
$node->stop('fast');
done_testing();
