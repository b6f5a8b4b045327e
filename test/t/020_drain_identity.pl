# drain in a session that is another role's: a superuser, or any role, after SET ROLE. The owner's code
# gains nothing of the session's: not while it runs, not at the commit, not afterwards by what it leaves.
# (A deferred trigger ran at the commit, and a procedure ran, where RESET ROLE gives the session's own role.) In a
# session of the owner's own, all of it works. It would catch any other way to the session's rights.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('drain_identity', 'romancy.enabled' => 'off');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{CREATE ROLE intruder LOGIN; SELECT romancy.grant_usage('intruder'); CREATE SCHEMA i AUTHORIZATION intruder; ALTER ROLE intruder SET search_path = i});
$node->safe_psql('postgres', q{
	CREATE TABLE seen (what text, cur name, ses name, lured text); GRANT ALL ON seen TO public; GRANT USAGE ON SCHEMA i TO public;
	CREATE FUNCTION note(what text) RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE lured text; statement text;
	BEGIN
		FOREACH statement IN ARRAY ARRAY['RESET ROLE', 'ALTER ROLE intruder SUPERUSER', 'SET ROLE postgres', 'RESET SESSION AUTHORIZATION', 'ALTER ROLE intruder SUPERUSER', 'SET SESSION AUTHORIZATION postgres'] LOOP
			BEGIN
				EXECUTE statement;
				IF statement !~ '^RESET' OR current_user <> 'intruder' THEN lured := concat_ws(', ', lured, statement); END IF;
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		INSERT INTO i.seen VALUES (what, current_user, session_user, lured);
		RETURN true;
	END $$;
	CREATE TABLE late (what text);
	CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM i.note(NEW.what);
		IF NEW.what = 'twice' THEN EXECUTE 'SET CONSTRAINTS ALL DEFERRED'; INSERT INTO i.late VALUES ('again'); END IF; RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
	CREATE FUNCTION act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE how text := $1 #>> '{}';
	BEGIN
		PERFORM i.note('activity');
		IF how = 'deferred' THEN INSERT INTO i.late VALUES ('deferred');
		ELSIF how = 'twice' THEN INSERT INTO i.late VALUES ('twice');
		ELSIF how = 'holdable' THEN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT i.note(''holdable'')';
		ELSIF how = 'temporary' THEN EXECUTE 'CREATE TEMP TABLE late (LIKE i.late)';
		ELSIF how = 'temporary function' THEN EXECUTE 'CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS ''SELECT 1''';
		ELSIF how = 'prepared' THEN EXECUTE 'PREPARE s_1 AS SELECT i.note(''prepared'')';
		ELSIF how = 'settings' THEN PERFORM set_config('search_path', 'i', false), set_config('role', 'none', false);
		END IF;
		RETURN '"done"';
	END $$;
	CREATE FUNCTION flow(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM i.note_ro(); RETURN romancy.activity('act', $1, retry => '{"max_attempts": 1}'); EXCEPTION WHEN OTHERS THEN RETURN to_jsonb(sqlerrm); END $$;
	CREATE FUNCTION note_ro() RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF current_user <> 'intruder' THEN RAISE EXCEPTION 'another'; END IF; BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END; IF current_user <> 'intruder' THEN RAISE EXCEPTION 'another'; END IF; END $$;
	CREATE PROCEDURE proc(a jsonb, INOUT r jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM i.note('procedure'); ROLLBACK; PERFORM i.note('procedure, after'); COMMIT; r := '"done"'; END $$;
	CREATE FUNCTION outside(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('proc'); END $$;
	CREATE FUNCTION spawned(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn(CASE WHEN $1 = '"proc"' THEN 'proc' ELSE 'act' END, $1)); END $$;
	SELECT romancy.define_activity('proc', handler => 'proc(jsonb, jsonb)', transactional => false);
}, extra_params => [ '-U', 'intruder' ]);

# Starts an instance, drains it in a session that $prepare makes, in a block or not, and goes on in that session
sub drain
{
	my ($workflow, $how, $prepare, $block, $user) = @_;
	$node->safe_psql('postgres', qq{SELECT romancy.start_workflow('i.$workflow', '"$how"')}, extra_params => [ '-U', 'intruder' ]);
	my ($begin, $end) = $block ? ('BEGIN', 'RESET ROLE; COMMIT') : ('SELECT', 'RESET ROLE');
	my (undef, $out, $err) = $node->psql('postgres', "$begin; $prepare; CALL romancy.drain(); $end; RESET ROLE; RESET SESSION AUTHORIZATION;",
		extra_params => [ '-U', $user ]);
	return "$out$err";
}

sub nothing_gained
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sql(q{SELECT string_agg(DISTINCT concat_ws(' ', what, cur, lured), '; ') FROM i.seen WHERE (cur <> 'intruder' OR lured IS NOT NULL)}), '', "$what: the owner's code ran as the owner");
	is(sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'intruder'}), 'f', "$what: it gained nothing");
	sql('ALTER ROLE intruder NOSUPERUSER; TRUNCATE i.seen; SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE status NOT IN (\'completed\', \'failed\', \'cancelled\')');
	$node->psql('postgres', 'CALL romancy.drain()', extra_params => [ '-U', 'intruder' ]);
	sql('TRUNCATE i.seen');
	return;
}

my %left = (temporary => 'left temporary objects', 'temporary function' => 'left temporary objects', holdable => 'called DECLARE CURSOR WITH HOLD', prepared => 'called PREPARE', twice => 'left a deferred trigger');
for my $prepare ('SET ROLE intruder', 'SET SESSION AUTHORIZATION intruder')
{
	for my $block (0, 1)
	{
		my $where = $prepare . ($block ? ', in a block' : '');
		for my $workflow (qw(flow spawned))
		{
			for my $how ('nothing', 'deferred', 'settings', sort keys %left)
			{
				next if $workflow eq 'spawned' && $how eq 'settings';
				my $out = drain($workflow, $how, $prepare, $block, 'postgres');
				if ($left{$how}) { like($out, qr/$left{$how} in a session of role/, "$where: $workflow that leaves $how is refused"); }
				else { unlike($out, qr/ERROR/, "$where: $workflow with $how runs"); cmp_ok(sql(q{SELECT count(*) FROM i.seen WHERE what = 'activity'}), '>=', $how eq 'settings' ? 0 : 1, "$where: it did"); }
				nothing_gained("$where: $workflow, $how");
			}
			next if $block;
			my $out = drain($workflow eq 'flow' ? 'outside' : 'spawned', 'proc', $prepare, $block, 'postgres');
			like($out, qr/cannot run in a session of another role/, "$where: a procedure is refused ($workflow)");
			nothing_gained("$where: a procedure ($workflow)");
		}
	}
}

# in the owner's own session nothing of this is refused
for my $how (sort(keys %left), 'deferred')
{
	unlike(drain('flow', $how, 'SELECT', 0, 'intruder'), qr/ERROR/, "its own session: $how");
	nothing_gained("its own session: $how");
}
unlike(drain('outside', 'x', 'SELECT', 0, 'intruder'), qr/ERROR/, 'its own session: a procedure');
is(sql(q{SELECT output FROM romancy.instances WHERE workflow = 'i.outside' AND status = 'completed' LIMIT 1}), '"done"', 'its own session: which has committed inside');
nothing_gained('its own session: a procedure');
$node->stop('fast');
done_testing();
