# A role that has nothing but grant_usage works against the others with what it may call: sweeps that it runs in a transaction which it keeps open, workers
# of its own that it ends, and code that another's session runs for it. It would catch a schedule of another's that stands still, an owner that waits because
# another's workers fail, and an operator whose check of a replay, or drain after SET ROLE, gives away its prepared statements, its cursors or its session.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('fresh_eye', 'max_worker_processes' => 16, 'romancy.max_workers' => 6, 'romancy.executors' => 4,
	'romancy.worker_idle_timeout' => '100ms', 'romancy.retry_backoff_max' => '1h');

# output and errors of a statement as a role
sub as_role
{
	my ($role, $sql, @more) = @_;
	my ($out, $err) = ('', '');
	$node->psql('postgres', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-U', $role, '-v', 'VERBOSITY=verbose' ], on_error_stop => 0, @more);
	return "$out\n$err";
}

$node->safe_psql('postgres', q{
	CREATE ROLE evil LOGIN; CREATE ROLE good LOGIN; CREATE ROLE watch LOGIN;
	SELECT romancy.grant_usage('evil'), romancy.grant_usage('good'), romancy.grant_usage('watch', monitor => true);
	CREATE SCHEMA evil AUTHORIZATION evil; CREATE SCHEMA good AUTHORIZATION good;
	ALTER ROLE evil SET search_path = evil; ALTER ROLE good SET search_path = good;
	CREATE TABLE public.secret (what text); INSERT INTO public.secret VALUES ('a secret'), ('another secret');
});

# --- a sweep handles rows of all owners, and what it has handled is locked until the caller's transaction ends
#     (the schedule is due in an hour, and its clock is put back: no scheduler knows of it before the sweep)
as_role('good', q{CREATE FUNCTION nightly(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1'; SELECT romancy.schedule('hourly', '@every 1h', 'nightly')});
for my $role (qw(evil watch))
{
	my $session = $node->background_psql('postgres', extra_params => [ '-U', $role ]);

	$node->safe_psql('postgres', q{UPDATE romancy.t_schedule SET next_at = now() - interval '1 second', due_at = now() - interval '1 second'});
	$session->query_safe(q{BEGIN});
	is($session->query_safe(q{SELECT romancy.run_sweep('schedules')}), '1', "$role has the schedules swept");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM romancy.t_schedule WHERE next_at > now()}), '1', 'which is committed');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT FROM romancy.t_schedule FOR UPDATE SKIP LOCKED) t}), '1', 'and holds no row while their transaction is open');
	$session->quit;
}
$node->safe_psql('postgres', q{CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$not now$$; END'; CREATE TRIGGER refuses BEFORE UPDATE ON romancy.t_schedule EXECUTE FUNCTION refuses();
	ALTER TABLE romancy.t_schedule DISABLE TRIGGER refuses; UPDATE romancy.t_schedule SET next_at = now() - interval '1 second', due_at = now() - interval '1 second'; ALTER TABLE romancy.t_schedule ENABLE TRIGGER refuses});
like(as_role('evil', q{SELECT romancy.run_sweep('schedules')}), qr/RM010: sweep "schedules" failed/, 'a sweep that fails is an error');
$node->safe_psql('postgres', q{DROP TRIGGER refuses ON romancy.t_schedule; SELECT romancy.run_sweep('schedules')});
like(as_role('evil', q{BEGIN READ ONLY; SELECT romancy.run_sweep('schedules')}), qr/25006: cannot execute romancy.run_sweep\(\) in a read-only transaction/, 'nor does a read-only transaction have it run');
like(as_role('evil', q{SELECT romancy.run_sweep('nonsense')}), qr/42704: sweep "nonsense" does not exist/, 'a sweep that does not exist');
is($node->safe_psql('postgres', q{SELECT romancy.run_sweep('schedules')}), '0', 'a superuser does');

is($node->safe_psql('postgres', q{CREATE ROLE member IN ROLE postgres; GRANT USAGE ON SCHEMA romancy TO member; GRANT EXECUTE ON FUNCTION romancy.run_sweep TO member; SET ROLE member; SELECT romancy.run_sweep('schedules')}),
	'0', 'and a member of the owner of the extension');

# --- code of another role's in an operator's session
as_role('evil', q{
	CREATE TABLE stolen (what text, who text); GRANT ALL ON stolen TO public; GRANT USAGE ON SCHEMA evil TO public;
	CREATE FUNCTION fine(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('step', $1); PERFORM romancy.sleep('1 day'); RETURN '1'; END $$;
	CREATE FUNCTION step(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '1'; END $$;
	CREATE SEQUENCE tried;	-- which no rollback takes back
	CREATE FUNCTION gained() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN 'code of evil runs as ' || current_user; END $$;
	CREATE FUNCTION try(statement text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN EXECUTE statement; EXCEPTION WHEN OTHERS THEN NULL; END $$;
	CREATE TABLE trick (statement text);
	INSERT INTO trick VALUES ('SELECT 1');
	CREATE FUNCTION tricks() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE c refcursor; r text; n text;
	BEGIN
		PERFORM evil.try('SELECT nextval(''evil.tried'')');
		PERFORM evil.try(statement) FROM evil.trick;
		FOR n IN SELECT name FROM pg_cursors WHERE name = 'my_cursor' LOOP
			BEGIN c := n; FETCH c INTO r; RAISE EXCEPTION 'read: %', r USING errcode = 'ZZ001'; EXCEPTION WHEN OTHERS THEN IF sqlstate = 'ZZ001' THEN RAISE WARNING '%', sqlerrm; END IF; END;
		END LOOP;
	END $$;
	CREATE FUNCTION handler(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.tricks(); PERFORM romancy.activity('step', $1); PERFORM romancy.sleep('1 day'); RETURN '1'; END $$;
	CREATE FUNCTION act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.tricks(); RETURN '1'; END $$;
	CREATE FUNCTION acting(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('act', $1); RETURN '1'; END $$;
	SELECT romancy.define_workflow('checked', handler => 'fine(jsonb)');
	SELECT romancy.start_workflow('checked', '1');
});
poll_until($node, q{SELECT status FROM romancy.instances WHERE workflow = 'checked'}, 'an instance waits', expected => 'waiting_for_timer');
as_role('evil', q{CREATE OR REPLACE FUNCTION fine(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN evil.handler($1); END $$});

my $after = q{
	EXECUTE mine;
	SELECT 'statements: ' || string_agg(name, ' ') FROM pg_prepared_statements WHERE from_sql;
	SELECT 'cursors: ' || string_agg(name, ' ') FROM pg_cursors;
	SELECT 'listens: ' || c FROM pg_listening_channels() c;
	SELECT 'temporary: ' || a FROM my_temp;};
my $before = q{LISTEN mine; CREATE TEMP TABLE my_temp AS SELECT 'mine' AS a; PREPARE mine AS SELECT 'my statement';};
my $drain = q{SET romancy.namespace = 'evil'; SET ROLE evil; SET search_path = evil; SELECT romancy.start_workflow('acting') IS NOT NULL; CALL romancy.drain(); RESET ROLE;};
# (the first command that is refused ends the evaluation, so each is tried by itself)
for my $trick ('DEALLOCATE mine', 'PREPARE mine AS SELECT evil.gained()', 'PREPARE yours AS SELECT evil.gained()', 'DISCARD TEMP', 'DISCARD PLANS', 'LISTEN evil', 'UNLISTEN *', 'CLOSE ALL', 'DECLARE held CURSOR WITH HOLD FOR SELECT evil.gained()')
{
	$node->safe_psql('postgres', "UPDATE evil.trick SET statement = \$\$$trick\$\$");
	my ($command) = $trick =~ /^(\w+)/;
	for my $how (q{SELECT * FROM romancy.check_replay('checked');}, q{SELECT * FROM romancy.check_replay('checked', 'evil.handler(jsonb)');}, $drain)
	{
		my $tried = $node->safe_psql('postgres', q{SELECT last_value + is_called::int FROM evil.tried});
		my $said = as_role('postgres', "$before $how $after");
		cmp_ok($node->safe_psql('postgres', q{SELECT last_value + is_called::int FROM evil.tried}), '>', $tried, "$trick, in drain: it is tried") if $how eq $drain;
		like($said, qr/42501: a workflow of role "evil" called $command/, "$trick: refused") if $how ne $drain;
		unlike($said, qr/code of evil/, "$trick: no code of another's is left behind: $how");
		like($said, qr/^my statement\nstatements: mine\n\nlistens: mine\ntemporary: mine$/m, "$trick: statements, cursors, channels and tables of the session are what they were") or diag($said);
	}
}
# an open cursor is read by those who know its name, whatever they may read themselves
my $said = as_role('postgres', q{BEGIN; DECLARE my_cursor CURSOR FOR SELECT what FROM public.secret; SELECT * FROM romancy.check_replay('checked', 'evil.handler(jsonb)')});
unlike($said, qr/read: a secret/, 'no cursor of the session is read');
like($said, qr/42501: a workflow of role "evil" does not run while a cursor of role "postgres" is open/, 'the check is refused') or diag($said);

# --- a function of another's that starts a workflow: with a namespace of its own, its caller's does not matter
$node->safe_psql('postgres', q{SELECT romancy.grant_usage('evil', namespace => 'both'), romancy.grant_usage('good', namespace => 'both')});
as_role('good', q{
	CREATE FUNCTION fulfils(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(current_user || '' runs its own'')';
	SET romancy.namespace = good; SELECT romancy.define_workflow('fulfil', handler => 'fulfils(jsonb)');
	CREATE FUNCTION ordered() RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = good SET romancy.namespace = good AS $$ SELECT romancy.start_workflow('fulfil') $$;
	GRANT USAGE ON SCHEMA good TO public});
as_role('evil', q{
	CREATE FUNCTION fulfils(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(current_user || '' runs code of evil'')';
	SET romancy.namespace = both; SELECT romancy.define_workflow('fulfil', handler => 'fulfils(jsonb)')});
for my $namespace (qw(both evil good nonesuch))
{
	like(as_role('evil', "SET romancy.namespace = $namespace; SELECT good.ordered()"), qr/^[0-9a-f-]{36}$/m, "evil calls it in namespace $namespace");
}
poll_until($node, q{SELECT count(*) = 4 AND bool_and(output = '"good runs its own"') FROM romancy.instances WHERE owner = 'good' AND status = 'completed'}, 'its own workflow runs, each time');
$node->safe_psql('postgres', q{SELECT romancy.revoke_usage('evil', namespace => 'both'), romancy.revoke_usage('good', namespace => 'both')});

# --- workers that an owner ends, or that end by themselves, are the owner's failures
my $log_begin = -s $node->logfile;
sub ended { my $log = slurp_file($node->logfile, $log_begin); return $log =~ /^\S+ ([\d:.]+) .*"romancy executor" \(PID \d+\) exited with exit code 1/mg }
as_role('evil', q{
	CREATE FUNCTION ends(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN '1'; END $$;
	SELECT count(*) FROM romancy.start_workflows('ends', array(SELECT '1'::jsonb FROM generate_series(1, 40)));
});
poll_until(sub { 8 <= (() = ended()) }, 'workers of evil end');
# (four run at a time, at most: of eight, some began after a delay of a second, less a quarter, or more)
my @ended = map { my ($h, $m, $s) = split /:/; 3600 * $h + 60 * $m + $s } ended();
my $between = $ended[7] - $ended[0];
$between += 86400 if $between < 0;
cmp_ok($between, '>=', 0.7, 'and those after them have to wait');
as_role('good', q{CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT ''{"it": "ran"}''::jsonb'});
$said = as_role('good', q{CALL romancy.run_workflow('quick', '1', timeout => '30s')});
like($said, qr/"ran"/, q{another owner's workflow runs});
unlike($said, qr/have failed/, 'and it is told nothing of them');
like(as_role('evil', q{CALL romancy.run_workflow('ends', timeout => '100ms')}), qr/Workers of role "evil" have failed \d+ times in a row/, 'the owner is told');
like(as_role('watch', q{SELECT romancy.health()->'attention'}), qr/workers of role .?"evil.?" have failed \d+ times in a row/, 'and those who watch');
as_role('evil', q{CREATE OR REPLACE FUNCTION ends(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT ''1''::jsonb'});

$node->stop;
done_testing();
