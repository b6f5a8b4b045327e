# A role that has nothing but grant_usage runs code of every kind in the workers, in every
# language, and ends transactions inside it in every way: rollback, commit, a commit that
# fails, one whose failure is caught, an error, a cancel, a tear-out. Each piece of code notes
# the users it runs as, and tries to become a superuser. All of it must run as the owner, in a
# session that is the owner's. (A procedure's first ROLLBACK once gave it the bootstrap superuser.)
# It would catch the return of that, and any other way to another's rights.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# (autovacuum evaluates index expressions, in a session of its own)
my $node = romancy_node('identity', 'romancy.max_workers' => 3, 'romancy.executors' => 1, 'restart_after_crash' => 'on', 'autovacuum' => 'off');

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as_intruder { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'intruder' ]) }

sql(q{
	CREATE ROLE intruder LOGIN; CREATE ROLE victim LOGIN SUPERUSER;
	SELECT romancy.grant_usage('intruder');
	CREATE SCHEMA i AUTHORIZATION intruder;
	ALTER ROLE intruder SET search_path = i, public;
});
sql('CREATE EXTENSION plperl') if has_plperl('code in it');
sql('CREATE EXTENSION plpython3u') if has_plpython('code in it');

# Every piece of code calls this: it notes its user, and tries to get more rights
as_intruder(q{
	CREATE TABLE seen (at bigserial, what text, cur name, ses name, super text, lured text);
	GRANT ALL ON seen TO public; GRANT ALL ON SEQUENCE seen_at_seq TO public; GRANT USAGE ON SCHEMA i TO public;
	CREATE FUNCTION note_it(what text) RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE lured text; statement text;
	BEGIN
		FOREACH statement IN ARRAY ARRAY['ALTER ROLE intruder SUPERUSER', 'CREATE ROLE owned_' || (random() * 1e9)::int,
			'RESET ROLE', 'SET ROLE postgres', 'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION postgres', 'SET ROLE victim', 'SET SESSION AUTHORIZATION victim'] LOOP
			BEGIN
				EXECUTE statement;
				IF statement !~ '^RESET' OR current_user <> 'intruder' THEN lured := concat_ws(', ', lured, statement); END IF;
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		INSERT INTO i.seen (what, cur, ses, super, lured) VALUES (what, current_user, session_user, current_setting('is_superuser'), lured);
		RETURN true;
	END $$;
	-- (for indexes and the like; a function that is not volatile may call one that is)
	CREATE FUNCTION note(what text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN i.note_it(what); END $$;
	CREATE FUNCTION me() RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT to_jsonb(concat_ws(' ', current_user, session_user, current_setting('is_superuser'), current_setting('role'))) $$;

	-- what runs at the commit
	CREATE TABLE late (what text, fails boolean);
	CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM i.note('at commit, ' || NEW.what);
		IF NEW.fails THEN RAISE foreign_key_violation USING MESSAGE = 'this commit fails'; END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();

	-- every kind of code that a table brings along
	CREATE DOMAIN checked AS int CHECK (i.note('domain') OR value IS NULL);
	CREATE FUNCTION to_number(text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM i.note('function of an operator'); RETURN 1; END $$;
	CREATE TYPE pair AS (a text);
	CREATE FUNCTION same(pair, pair) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN i.note('operator'); END $$;
	CREATE OPERATOR = (LEFTARG = pair, RIGHTARG = pair, FUNCTION = same);
	CREATE FUNCTION as_pair(text) RETURNS pair LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM i.note('cast'); RETURN ROW($1)::i.pair; END $$;
	CREATE CAST (text AS pair) WITH FUNCTION as_pair(text) AS IMPLICIT;
	CREATE TABLE many (id int, d checked, made boolean DEFAULT i.note('default'), gen boolean GENERATED ALWAYS AS (i.note('generated')) STORED, CHECK (i.note('check')));
	CREATE INDEX ON many ((i.note('index')));
	CREATE FUNCTION trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM i.note('trigger, ' || TG_WHEN); RETURN NEW; END $$;
	CREATE TRIGGER b BEFORE INSERT ON many FOR EACH ROW EXECUTE FUNCTION trigger();
	CREATE TRIGGER a AFTER INSERT ON many FOR EACH STATEMENT EXECUTE FUNCTION trigger();
	ALTER TABLE many ENABLE ROW LEVEL SECURITY; ALTER TABLE many FORCE ROW LEVEL SECURITY;
	CREATE POLICY p ON many USING (i.note('policy')) WITH CHECK (i.note('policy, check'));
	CREATE TABLE rows_of (who name); INSERT INTO rows_of VALUES ('intruder'), ('victim'), ('postgres');
	ALTER TABLE rows_of ENABLE ROW LEVEL SECURITY; ALTER TABLE rows_of FORCE ROW LEVEL SECURITY;
	CREATE POLICY p ON rows_of USING (who = current_user AND who = session_user);
	TRUNCATE seen;

	CREATE FUNCTION all_kinds(what text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE p i.pair;
	BEGIN
		PERFORM i.note(what);
		INSERT INTO i.many (id, d) VALUES (1, 1);
		PERFORM FROM i.many;
		p := 'x'::text::i.pair;
		PERFORM ROW('x')::i.pair OPERATOR(i.=) ROW('y')::i.pair;
		INSERT INTO i.late VALUES (what, false);
		EXECUTE format('DECLARE %I CURSOR WITH HOLD FOR SELECT i.note(%L)', 'c' || md5(random()::text), 'holdable');
		IF (SELECT string_agg(who, ' ') FROM i.rows_of) <> 'intruder' THEN RAISE EXCEPTION 'rows of others'; END IF;
	END $$;

	CREATE FUNCTION act(a jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM i.all_kinds('activity ' || (a->>'name'));
		IF a->>'how' = 'error' THEN RAISE EXCEPTION 'an error'; END IF;
		IF a->>'how' = 'failed commit' THEN INSERT INTO i.late VALUES ('failing', true); END IF;
		IF a->>'how' = 'error inside' THEN BEGIN PERFORM i.note('inside'), 1 / 0; EXCEPTION WHEN OTHERS THEN PERFORM i.note('after an error'); END; END IF;
		RETURN i.me();
	END $$;
	CREATE FUNCTION undo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM i.all_kinds('compensation'); RETURN i.me(); END $$;
	CREATE FUNCTION endless(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN LOOP BEGIN PERFORM pg_sleep(100); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;

	CREATE PROCEDURE proc_plpgsql(a jsonb, INOUT r jsonb) LANGUAGE plpgsql AS $$
	DECLARE how text := a->>'how';
	BEGIN
		PERFORM i.all_kinds('procedure, before ' || how);
		IF how = 'rollback' THEN ROLLBACK;
		ELSIF how = 'commit' THEN COMMIT;
		ELSIF how = 'chains' THEN COMMIT AND CHAIN; PERFORM i.note('between chains'); ROLLBACK AND CHAIN;
		ELSIF how = 'error inside' THEN BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN PERFORM i.note('after an error'); END; COMMIT;
		ELSIF how = 'failed commit' THEN INSERT INTO i.late VALUES ('failing', true); COMMIT;
		ELSIF how = 'many' THEN FOR n IN 1 .. 20 LOOP PERFORM i.note('many'); IF n % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF; END LOOP;
		END IF;
		PERFORM i.all_kinds('procedure, after ' || how);
		EXECUTE 'RESET ROLE'; EXECUTE 'RESET SESSION AUTHORIZATION'; EXECUTE 'RESET ALL';
		PERFORM i.note('procedure, after RESET');
		COMMIT;
		PERFORM i.note('procedure, at its end');
		r := i.me();
	END $$;
	CREATE FUNCTION handler(a jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE r jsonb; mine jsonb := i.me();
	BEGIN
		BEGIN
			r := romancy.activity(a->>'name', a, retry => '{"max_attempts": 2, "initial_interval": "10 ms"}');
		EXCEPTION WHEN OTHERS THEN r := to_jsonb(sqlerrm);
		END;
		IF mine <> i.me() THEN RAISE EXCEPTION 'it changed'; END IF;
		RETURN jsonb_build_object('handler', mine, 'activity', r, 'rows', (SELECT string_agg(who, ' ') FROM rows_of));
	END $$;
	CREATE FUNCTION spawning(a jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.await(romancy.spawn(a->>'name', a)); END $$;
	CREATE FUNCTION compensated(a jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('undone', a); RAISE EXCEPTION 'back'; END $$;
	CREATE FUNCTION endless_handler(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN LOOP BEGIN PERFORM romancy.sleep('1 hour'); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
	SELECT romancy.define_activity('act', handler => 'act(jsonb)');
	SELECT romancy.define_activity('undone', handler => 'act(jsonb)', compensation => 'undo');
	SELECT romancy.define_activity('undo', handler => 'undo(jsonb)');
	SELECT romancy.define_activity('outside', handler => 'act(jsonb)', transactional => false);
	SELECT romancy.define_activity('endless', handler => 'endless(jsonb)', start_to_close_timeout => '300 ms');
	SELECT romancy.define_activity('plpgsql', handler => 'proc_plpgsql(jsonb, jsonb)', transactional => false);
});

if ($ENV{ROMANCY_HAS_PLPERL})
{
	as_intruder(q{
		CREATE PROCEDURE proc_plperl(a jsonb, INOUT r jsonb) LANGUAGE plperl AS $$
			my ($how) = $_[0] =~ /"how": "([^"]*)"/;
			my $note = sub { spi_exec_query("SELECT i.all_kinds(" . quote_literal("plperl, $_[0]") . ")") };
			$note->("before $how");
			if ($how eq 'rollback') { spi_rollback() }
			elsif ($how eq 'commit') { spi_commit() }
			elsif ($how eq 'failed commit' or $how eq 'failed commit, caught')
			{
				spi_exec_query("INSERT INTO i.late VALUES ('failing', true)");
				if ($how eq 'failed commit') { spi_commit() } else { eval { spi_commit() }; }
				$note->('after the failed commit');
				eval { spi_exec_query('ALTER ROLE intruder SUPERUSER') };
				eval { spi_commit() };
			}
			elsif ($how eq 'error inside') { eval { spi_exec_query('SELECT 1 / 0') }; $note->('after an error'); spi_rollback(); }
			elsif ($how eq 'many') { for (1 .. 20) { $note->('many'); $_ % 2 ? spi_commit() : spi_rollback() } }
			$note->("after $how");
			spi_commit();
			return { r => spi_exec_query('SELECT i.me() AS r')->{rows}[0]{r} };
		$$;
		SELECT romancy.define_activity('plperl', handler => 'proc_plperl(jsonb, jsonb)', transactional => false);
	});
}
if ($ENV{ROMANCY_HAS_PLPYTHON})
{
	# (untrusted: a superuser makes it, and gives it away)
	sql(q{
		CREATE PROCEDURE i.proc_plpython(a jsonb, INOUT r jsonb) LANGUAGE plpython3u AS $$
import json
how = json.loads(a)['how']
def note(what):
	plpy.execute("SELECT i.all_kinds(" + plpy.quote_literal("plpython, " + what) + ")")
note("before " + how)
if how == 'rollback': plpy.rollback()
elif how == 'commit': plpy.commit()
elif how in ('failed commit', 'failed commit, caught'):
	plpy.execute("INSERT INTO i.late VALUES ('failing', true)")
	if how == 'failed commit': plpy.commit()
	else:
		try: plpy.commit()
		except Exception: pass
	note('after the failed commit')
	try:
		plpy.execute('ALTER ROLE intruder SUPERUSER')
	except plpy.SPIError: pass
	try: plpy.commit()
	except Exception: pass
elif how == 'error inside':
	try: plpy.execute('SELECT 1 / 0')
	except plpy.SPIError: pass
	note('after an error')
	plpy.rollback()
elif how == 'many':
	for n in range(20):
		note('many')
		if n % 2: plpy.commit()
		else: plpy.rollback()
note("after " + how)
plpy.commit()
return {'r': plpy.execute('SELECT i.me() AS r')[0]['r']}
		$$;
		GRANT EXECUTE ON PROCEDURE i.proc_plpython TO intruder;
	});
	as_intruder(q{SELECT romancy.define_activity('plpython', handler => 'proc_plpython(jsonb, jsonb)', transactional => false)});
}

my $me = 'intruder intruder off none';

# No role but the owner was seen since the last look, no role was lured, and something was seen
sub check
{
	my ($what, $min) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sql(q{SELECT string_agg(DISTINCT concat_ws(' ', what, cur, ses, super, lured), '; ') FROM i.seen
		WHERE (cur, ses, super) IS DISTINCT FROM ('intruder', 'intruder', 'off') OR lured IS NOT NULL}), '', "$what: all ran as its owner");
	cmp_ok(sql('SELECT count(*) FROM i.seen'), '>=', $min // 1, "$what: it did run");
	is(sql(q{SELECT count(*) FROM pg_roles WHERE rolname ~ '^owned_' OR rolname = 'intruder' AND rolsuper}), 0, "$what: nothing was gained");
	sql('ALTER ROLE intruder NOSUPERUSER; TRUNCATE i.seen');
	return;
}

sub run_workflow
{
	my ($workflow, $input) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', qq{CALL romancy.run_workflow('$workflow', '$input', timeout => '120 s')}, extra_params => [ '-U', 'intruder' ]);
	return $out . $err;
}

# transactional activities, step by step and inline, as a part of the turn and as tasks
for my $mode (qw(auto step inline))
{
	sql("ALTER SYSTEM SET romancy.turn_mode = $mode"); $node->reload;
	for my $how ('nothing', 'error', 'error inside', 'failed commit')
	{
		my $out = run_workflow('handler', qq{{"name": "act", "how": "$how"}});
		like($out, qr/"handler": "$me"/, "$mode, activity with $how: its handler's users");
		like($out, qr/"rows": "intruder"/, "$mode, activity with $how: row-level security is the owner's in the handler");
		like($out, $how =~ /^(error|failed commit)$/ ? qr/"activity": "(an error|this commit fails)"/ : qr/"activity": "$me"/, "$mode, activity with $how: the activity's");
		check("$mode, activity with $how", $how =~ /^(error|failed commit)$/ ? 0 : 5);
	}
}
sql('ALTER SYSTEM RESET romancy.turn_mode'); $node->reload;
is(run_workflow('spawning', '{"name": "act", "how": "nothing"}'), qq{"$me"}, 'a task: its users');
check('a task', 5);
like(run_workflow('handler', '{"name": "outside", "how": "nothing"}'), qr/"activity": "$me"/, 'a non-transactional function: its users');
check('a non-transactional function', 5);

# procedures: every language, every end of a transaction
for my $language ('plpgsql', $ENV{ROMANCY_HAS_PLPERL} ? 'plperl' : (), $ENV{ROMANCY_HAS_PLPYTHON} ? 'plpython' : ())
{
	for my $how ('nothing', 'rollback', 'commit', 'error inside', 'failed commit', 'many',
		$language eq 'plpgsql' ? 'chains' : 'failed commit, caught')
	{
		for my $workflow (qw(handler spawning))
		{
			next if $workflow eq 'spawning' && $how eq 'failed commit';
			my $out = run_workflow($workflow, qq{{"name": "$language", "how": "$how"}});
			like($out, $how eq 'failed commit' ? qr/this commit fails/ : qr/"$me"/, "$language, $how ($workflow): its users");
			check("$language, $how ($workflow)", $how eq 'failed commit' ? 0 : 2);
		}
	}
}

# compensations
as_intruder(q{DO $$ BEGIN PERFORM romancy.start_workflow('compensated', '{"name": "act", "how": "nothing"}'); END $$});
poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE workflow = 'compensated' AND status = 'failed'}, 'the compensated instance has failed');
is(sql(q{SELECT count(*) FROM i.seen WHERE what = 'compensation'}), 1, 'the compensation ran');
check('a compensation', 5);

# a tear-out of code that catches its cancels, then code of every kind again
like(run_workflow('handler', '{"name": "endless"}'), qr/RM006|start_to_close|time/i, 'an activity that catches its cancels is torn out');
like(run_workflow('handler', '{"name": "act", "how": "nothing"}'), qr/"activity": "$me"/, 'after the tear-out: the owner');
check('after a tear-out');
as_intruder(q{SELECT romancy.start_workflow('endless_handler')});
poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE workflow = 'endless_handler' AND status = 'failed'}, 'a handler that catches the unwind is torn out');
like(run_workflow('handler', '{"name": "plpgsql", "how": "rollback"}'), qr/"activity": "$me"/, 'after that one: the owner');
check('after the tear-out of a handler');

# a cancel in the middle of a procedure that has committed
as_intruder(q{
	CREATE PROCEDURE slow(a jsonb, INOUT r jsonb) LANGUAGE plpgsql AS $$
	BEGIN COMMIT; PERFORM i.note('slow'); COMMIT; PERFORM pg_sleep(600); END $$;
	SELECT romancy.define_activity('slow', handler => 'slow(jsonb, jsonb)', transactional => false);
	SELECT romancy.start_workflow('handler', '{"name": "slow"}');
});
poll_until($node, q{SELECT count(*) = 1 FROM i.seen WHERE what = 'slow'}, 'the procedure is under way');
is(sql(q{SELECT string_agg(DISTINCT usename, ' ') FROM pg_stat_activity WHERE backend_type = 'romancy executor'}), 'intruder', 'pg_stat_activity shows that the executor belongs to its owner');
as_intruder(q{SELECT romancy.cancel_workflow(instance_id) FROM romancy.instances WHERE status = 'running'});
poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE status = 'cancelled'}, 'and cancelled');
like(run_workflow('handler', '{"name": "plpgsql", "how": "rollback"}'), qr/"activity": "$me"/, 'after a cancel: the owner');
check('after a cancel');

# An owner that may become another: what a procedure leaves set does not outlive it
sql('GRANT pg_monitor TO intruder');
as_intruder(q{
	CREATE PROCEDURE leaves(a jsonb, INOUT r jsonb) LANGUAGE plpgsql AS $$
	BEGIN EXECUTE 'SET ROLE pg_monitor'; EXECUTE 'SET default_transaction_read_only = on'; COMMIT; r := to_jsonb(current_user); END $$;
	CREATE FUNCTION late_role() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SET ROLE pg_monitor'; RETURN NULL; END $$;
	CREATE TABLE late_role (i int);
	CREATE CONSTRAINT TRIGGER t AFTER INSERT ON late_role DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late_role();
	CREATE FUNCTION leaves_late(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO i.late_role VALUES (1); RETURN '"done"'; END $$;
	SELECT romancy.define_activity('leaves', handler => 'leaves(jsonb, jsonb)', transactional => false);
});
like(run_workflow('handler', '{"name": "leaves"}'), qr/"activity": "pg_monitor"/, 'a procedure may set its role, as in a session of its own');
like(run_workflow('handler', '{"name": "act", "how": "nothing"}'), qr/"activity": "$me"/, 'and the next activity runs as the owner again');
check('after SET ROLE in a procedure', 5);
run_workflow('handler', '{"name": "leaves_late"}');
like(run_workflow('handler', '{"name": "act", "how": "nothing"}'), qr/"activity": "$me"/, 'nor does a role outlive its commit');
check('after SET ROLE at the commit', 5);

unlike(slurp_file($node->logfile), qr/TRAP:|was terminated by signal/, 'no process died');
$node->stop('fast');
done_testing();
