# A prepared CALL run_workflow keeps one plan, is not copied for each execution, and goes on when the extension was dropped and made anew between two executions. Around a run in its caller's session, which has an executor's
# application_name and jit, the session keeps its own: by SHOW and in pg_stat_activity, also where code sets them, in blocks that are rolled back, and where the run is given up.
# It would catch a plan that is made for each execution, one that is used after it has become invalid, and a session that is left with an executor's name.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('calls', 'autovacuum' => 'off', 'romancy.executors' => 1);
sub sql { return $node->safe_psql('postgres', $_[0]) }

my $define = q{PERFORM romancy.define_activity('note', 'note'), romancy.define_workflow('once', 'once')};
sql(qq{
	CREATE TABLE ran (n text, pid int, name text, jit text);
	CREATE TABLE clients (pid int);
	CREATE SEQUENCE here;	-- how often it has begun in a client's session; no rollback takes it back
	SELECT nextval('here');
	CREATE FUNCTION note(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
	BEGIN
		IF EXISTS (SELECT FROM clients WHERE pid = pg_backend_pid()) THEN PERFORM nextval('here'); END IF;
		INSERT INTO ran VALUES (i->>'n', pg_backend_pid(), current_setting('application_name'), current_setting('jit'));
		IF i ? 'sets' THEN PERFORM set_config('application_name', 'evil', false), set_config('jit', 'on', false); END IF;
		IF i ? 'block' THEN
			BEGIN
				PERFORM set_config('application_name', 'worse', true);
				RAISE EXCEPTION 'undone';
			EXCEPTION WHEN raise_exception THEN PERFORM set_config('application_name', 'evil again', true);
			END;
		END IF;
		IF i ? 'fails' THEN RAISE EXCEPTION 'no'; END IF;
		RETURN i;
	END \$\$;
	CREATE FUNCTION once(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity('note', i, retry => '{"max_attempts": 1}'); END \$\$;
	CREATE TABLE seen (step int GENERATED ALWAYS AS IDENTITY, custom bigint, generic bigint);
	-- once, between two executions
	CREATE FUNCTION anew() RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		IF (SELECT count(*) FROM seen) <> 8 THEN RETURN; END IF;
		DROP EXTENSION romancy CASCADE;
		CREATE EXTENSION romancy;
		$define;
	END \$\$;
	DO \$\$ BEGIN $define; END \$\$;
});

# ---------------------------------------------------------------- the session keeps its own name
my $n = 0;
for my $more ('', '"sets": 1', '"block": 1', '"sets": 1, "block": 1', '"sets": 1, "fails": 1')
{
	my ($out, $began);
	my $jit = $more =~ /sets/ ? 'on' : 'off';
	for (1 .. 60)
	{
		my $input = join(', ', qq("n": "@{[++$n]}"), $more || ());
		(undef, $out) = $node->psql('postgres', qq{
			INSERT INTO clients VALUES (pg_backend_pid());
			CALL romancy.run_workflow('once', '{"n": "warm"}'); CALL romancy.run_workflow('once', '{"n": "warm"}');
			SET application_name = 'mine'; SET jit = $jit;
			SELECT last_value FROM here \\gset
			CALL romancy.run_workflow('once', '{$input}');
			SELECT 'began ' || last_value - :last_value FROM here;
			SHOW application_name; SHOW jit;
			SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid();}, on_error_stop => 0);
		($began) = $out =~ /began (\d+)/;
		last if $began == 1;
	}
	is($began, 1, "($more): it runs in the session");
	is(sql("SELECT string_agg(DISTINCT name || ' ' || jit, ',') FROM ran WHERE n = '$n'"), $more =~ /fails/ ? '' : 'romancy executor off', '... with the settings of an executor');
	like($out, qr/began 1\nmine\n$jit\nmine$/, '... which has its own afterwards');
}

# ---------------------------------------------------------------- one plan
my $script = $node->basedir . '/calls.pgbench';
append_to_file($script, q{\set n random(1, 1000)
CALL romancy.run_workflow('once', jsonb_build_object('n', :n::int));
INSERT INTO seen (custom, generic) SELECT sum(custom_plans), sum(generic_plans) FROM pg_prepared_statements WHERE statement LIKE 'CALL%';
SELECT anew();
});
$node->command_ok([ 'pgbench', '-n', '-M', 'prepared', '-t', 16, '-f', $script, $node->connstr('postgres') ], 'a prepared CALL is executed 16 times, the extension is made anew between two of them');
is(sql('SELECT count(*) FROM seen'), 16, 'each of them has come to its end');
is(sql('SELECT max(custom) FROM seen'), 1, 'the plan of the first execution is the only one that was made for one alone');
is(sql('SELECT max(generic) FROM seen'), 15, 'all others have the same one');
is(sql("SELECT count(*) FROM romancy.instances WHERE status = 'completed'"), 8, 'the new extension has run those that came after it');

# ---------------------------------------------------------------- transactions that are aborted inside the CALL, whose plan stays
sql(q{
	CREATE TABLE late (n int);
	CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE foreign_key_violation USING MESSAGE = 'this commit fails'; END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
	CREATE FUNCTION act(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO late VALUES (1); RETURN i; END $$;
	CREATE FUNCTION fails_late(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('act', i, retry => '{"max_attempts": 1}'); END $$;
	SELECT romancy.define_activity('act', 'act'), romancy.define_workflow('fails_late', 'fails_late')});
$script = $node->basedir . '/drains.pgbench';
append_to_file($script, "\\set n 100\nSELECT romancy.start_workflow('fails_late', '{}');\nCALL romancy.drain(max_turns => :n);\n");
sql('ALTER SYSTEM SET romancy.enabled = off'); sql('SELECT pg_reload_conf()');
poll_until($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'romancy executor%'}, 'no executor', expected => '0');
$node->command_ok([ 'pgbench', '-n', '-M', $_, '-t', 4, '-f', $script, $node->connstr('postgres') ], "commits fail in a drain, $_ protocol") for qw(simple extended prepared);
is(sql("SELECT string_agg(DISTINCT status || ' ' || (error ->> 'message'), ', ') || ' ' || count(*) FROM romancy.instances WHERE workflow = 'fails_late'"), 'failed this commit fails 12', 'all have failed for their own reason');

$node->stop;
done_testing();
