# A role's activities try to run code, or leave something behind, as the superuser
# that the workers connect as, or as another role whose instances they run. Each
# attack was seen to work against a naive worker.
# It would catch a way to run code with another's rights.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('owners', 'romancy.max_workers' => 2, 'romancy.executors' => 1);

$node->safe_psql('postgres', q{
	CREATE ROLE mallory LOGIN; CREATE ROLE alice LOGIN;
	SELECT romancy.grant_usage('mallory'); SELECT romancy.grant_usage('alice');
	GRANT CREATE ON SCHEMA public TO mallory, alice;
	CREATE TABLE log (at bigserial, what text, who name DEFAULT current_user);
	GRANT ALL ON log TO public; GRANT ALL ON SEQUENCE log_at_seq TO public;
});
$node->safe_psql('postgres', q{
	SET ROLE mallory;
	CREATE FUNCTION note(what text) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO public.log (what) VALUES (what); RETURN 1; END $$;
	CREATE TABLE trap (i int);
	CREATE FUNCTION trap_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN PERFORM public.note('deferred'); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER trap AFTER INSERT ON trap DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION trap_trigger();
	CREATE FUNCTION deferred(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO public.trap VALUES (1); RETURN '1'; END $$;
	CREATE FUNCTION holdable(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT public.note(''holdable'')'; RETURN '1'; END $$;
	CREATE FUNCTION temporary(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE 'CREATE TEMP TABLE orders (i int)';
		EXECUTE 'CREATE FUNCTION pg_temp.t() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN PERFORM public.note(''''temporary''''); RETURN NEW; END''';
		EXECUTE 'CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION pg_temp.t()';
		EXECUTE 'GRANT ALL ON orders TO public';
		RETURN '1';
	END $$;
	CREATE FUNCTION settings(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM set_config('search_path', 'pg_temp, public', false);
		PERFORM set_config('myapp.left_behind', 'mallory', false);
		PERFORM set_config('lock_timeout', '1', false);
		PERFORM pg_advisory_lock(42);
		EXECUTE 'PREPARE left_behind AS SELECT 1';
		RETURN '1';
	END $$;
	CREATE FUNCTION set_role(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN EXECUTE $1 #>> '{}'; PERFORM public.note('role'); RETURN '1'; END $$;
	CREATE FUNCTION attack(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity($1->>'name', $1->'input', retry => '{"max_attempts": 1}');
		RETURN '"done"';
	EXCEPTION WHEN OTHERS THEN RETURN to_jsonb(sqlstate);
	END $$;
});
$node->safe_psql('postgres', q{
	SET ROLE alice;
	CREATE TABLE orders (i int);
	CREATE FUNCTION victim(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO orders VALUES (1);
		INSERT INTO log (what) VALUES ('alice');
		RETURN jsonb_build_object('user', current_user, 'path', current_setting('search_path'),
			'left', current_setting('myapp.left_behind', true), 'lock_timeout', current_setting('lock_timeout'),
			'prepared', (SELECT count(*) FROM pg_prepared_statements),
			'cursors', (SELECT count(*) FROM pg_cursors WHERE is_holdable),
			'advisory', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42));
	END $$;
	CREATE FUNCTION innocent(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.activity('victim'); END $$;
});

sub run_as
{
	my ($role, $workflow, $input) = @_;
	return $node->safe_psql('postgres',
		qq{CALL romancy.run_workflow('$workflow', \$j\$$input\$j\$, timeout => '60s')}, extra_params => ['-U', $role]);
}

for my $name (qw(deferred holdable temporary settings))
{
	is(run_as('mallory', 'attack', qq{{"name": "$name"}}), '"done"', "$name: ran");
	my $seen = run_as('alice', 'innocent', 'null');
	like($seen, qr/"user": "alice"/, "$name: alice's activity runs as alice");
	like($seen, qr/"path": "[^"]*public[^"]*"/, "$name: with her path");
	unlike($seen, qr/"left": "mallory"/, "$name: without his settings");
	like($seen, qr/"lock_timeout": "0"/, "$name: and with the engine's");
	like($seen, qr/"prepared": 0/, "$name: no prepared statement");
	like($seen, qr/"cursors": 0/, "$name: no cursor");
	like($seen, qr/"advisory": 0/, "$name: no lock");
}
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT who, ',') FROM log WHERE what <> 'alice'}), 'mallory', 'his code ran as him alone');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT who, ',') FROM log WHERE what = 'alice'}), 'alice', 'hers as her');
is($node->safe_psql('postgres', q{SELECT count(*) FROM log WHERE what = 'temporary'}), '0', 'his trigger never fired');
is($node->safe_psql('postgres', q{SELECT count(*) FROM public.orders}), '4', 'her rows are in her table');
for my $statement ('SET ROLE postgres', 'SET ROLE alice', 'RESET ROLE', 'SET SESSION AUTHORIZATION alice', 'RESET SESSION AUTHORIZATION', 'SET LOCAL ROLE postgres')
{
	isnt(run_as('mallory', 'attack', qq{{"name": "set_role", "input": "$statement"}}), '"done"', "$statement is refused");
}
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT who, ',') FROM log WHERE what = 'role'}), '', 'no role was taken');

# mallory cannot read, steer or forge alice's instances
my $id = $node->safe_psql('postgres', q{SELECT instance_id FROM romancy.instances WHERE owner = 'alice' LIMIT 1});
for my $call ("get_result('$id')", "cancel_workflow('$id')", "terminate_workflow('$id')", "pause_workflow('$id')",
	"resume_workflow('$id')", "retry_workflow('$id')", "get_history('$id')", "get_value('$id', 'k')")
{
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSELECT romancy.$call", extra_params => ['-U', 'mallory']);
	like($err, qr/RM002/, "$call of another's instance is unknown");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM romancy.instances WHERE owner <> 'mallory'}, extra_params => ['-U', 'mallory']), '0', 'the view shows his own');
for my $table (qw(t_instance t_history t_inbox t_workflow))
{
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT * FROM romancy.$table", extra_params => ['-U', 'mallory']);
	like($err, qr/permission denied/, "no direct access to $table");
}
$node->stop('fast');
done_testing();
