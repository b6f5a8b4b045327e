# A quick workflow that run_workflow runs in its caller's session, in the transaction that starts it, leaves what an executor would have left: history, row, values, statistics, effects, and
# the settings and users that its code sees. All else (a failure, a wait, a slow step, a lock, a command that works on the session, a cancel, a commit that fails) is an executor's as ever, and
# nothing of the first try is visible; the session keeps what is its own. Where the session is not its owner's alone, or not as fresh as an executor, nothing runs there.
# It would catch a run under another's rights or settings, one that is seen twice or not at all, a start that is lost with a cancel, and a session that a workflow has changed.
# Takes 35 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# so many sessions at a time may run a workflow: four for each processor
chomp(my $most = 4 * `getconf _NPROCESSORS_ONLN`);
my $node = romancy_node('eager', 'autovacuum' => 'off', 'restart_after_crash' => 'on', 'romancy.executors' => 2, 'max_worker_processes' => 12, 'max_connections' => 60 + $most, 'wal_level' => 'replica', 'max_wal_senders' => 2, 'log_min_messages' => 'notice');
my $perl = has_plperl('a nested function in it');
my $python = has_plpython('a nested function in it');
sub sql { return $node->safe_psql('postgres', $_[0]) }
# output and errors of statements, each in a transaction of its own, as a role (owner of the workflows)
sub as { my ($role, $sql) = @_; my (undef, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql", on_error_stop => 0, extra_params => [ '-U', $role ]); return wantarray ? ($out, $err) : $out }

sql(q{
	CREATE ROLE shop LOGIN; CREATE ROLE boss LOGIN SUPERUSER; GRANT CREATE ON SCHEMA public TO shop;
	SELECT romancy.grant_usage('shop');
	ALTER ROLE shop SET work_mem = '5MB';
});
sql('CREATE EXTENSION plperl') if $perl;
sql('CREATE EXTENSION plpython3u; CREATE FUNCTION public.py(text) RETURNS text LANGUAGE plpython3u AS $$ return plpy.execute("SELECT concat_ws(\' \', current_user, session_user) u")[0]["u"] $$') if $python;
sql('CREATE FUNCTION public.pl(text) RETURNS text LANGUAGE plperl AS $pl$ return spi_exec_query("SELECT concat_ws(\' \', current_user, session_user) u")->{rows}[0]{u} $pl$') if $perl;
# a library in C: one that a run loads may look at messages, too; what its functions do cannot be interrupted
my $so = PostgreSQL::Test::Utils::tempdir() . '/looks.so';
chomp(my $include = `\$PG_CONFIG --includedir-server 2>/dev/null` || `pg_config --includedir-server`);
append_to_file("$so.c", <<'C');
#include "postgres.h"
#include <signal.h>
#include <time.h>
#include <unistd.h>
#include "fmgr.h"
PG_MODULE_MAGIC;
static emit_log_hook_type prev;
static void look(ErrorData *edata) { if (prev) prev(edata); }
void _PG_init(void);
void _PG_init(void) { prev = emit_log_hook; emit_log_hook = look; }
PG_FUNCTION_INFO_V1(looks);
Datum looks(PG_FUNCTION_ARGS) { PG_RETURN_INT32(1); }
PG_FUNCTION_INFO_V1(cancels);
Datum cancels(PG_FUNCTION_ARGS) { time_t end = time(NULL) + 2; kill(getpid(), SIGINT); while (time(NULL) < end) pg_usleep(100000); PG_RETURN_INT32(1); }
PG_FUNCTION_INFO_V1(dies);
Datum dies(PG_FUNCTION_ARGS) { kill(getpid(), SIGKILL); PG_RETURN_INT32(1); }
C
my $c = -e "$include/postgres.h" && system('command -v cc >/dev/null') == 0 && system("cc -w -shared -fPIC -I$include -D_GNU_SOURCE -o $so $so.c") == 0;
if ($c) { sql("CREATE FUNCTION public.$_() RETURNS int LANGUAGE c AS '$so', '$_'") for qw(looks cancels dies) }
as('shop', q{
	CREATE TABLE clients (pid int);
	CREATE TABLE ran (n text, pid int, users text, settings jsonb);
	CREATE SEQUENCE tries;	-- which no rollback takes back
	CREATE SEQUENCE tries_here;
	SELECT nextval('tries'), nextval('tries_here');
	CREATE TABLE late (n text, fails boolean);
	CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO ran VALUES ('late ' || NEW.n, pg_backend_pid(), concat_ws(' ', current_user, session_user), jsonb_build_object('search_path', current_setting('search_path')));
		IF NEW.fails THEN RAISE foreign_key_violation USING MESSAGE = 'this commit fails'; END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
	-- an activity that does what its input says, and notes where and how it ran
	CREATE FUNCTION act(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE here boolean := EXISTS (SELECT FROM clients WHERE pid = pg_backend_pid());
	BEGIN
		PERFORM nextval('tries');
		IF here THEN PERFORM nextval('tries_here'); END IF;
		INSERT INTO ran VALUES (i->>'n', pg_backend_pid(), concat_ws(' ', current_user, session_user, current_setting('role'), current_setting('is_superuser')),
			(SELECT jsonb_object_agg(name, setting) FROM pg_settings WHERE name IN ('TimeZone', 'DateStyle', 'search_path', 'work_mem', 'statement_timeout', 'lock_timeout', 'application_name', 'client_min_messages',
				'extra_float_digits', 'row_security', 'transaction_isolation', 'romancy.namespace', 'enable_seqscan', 'jit')) || jsonb_build_object('query', current_query(), 'statements', (SELECT count(*) FROM pg_prepared_statements WHERE from_sql)));
		RAISE NOTICE 'to the log, %', i->>'n';
		RAISE INFO 'and this';
		IF i ? 'if_here' AND here THEN EXECUTE i->>'if_here'; END IF;
		IF i ? 'do' THEN EXECUTE i->>'do'; END IF;
		IF i ? 'fails' THEN RAISE EXCEPTION 'no %', i->>'n' USING ERRCODE = i->>'fails', HINT = 'none'; END IF;
		RETURN i->'n';
	END $$;
	CREATE FUNCTION two(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE r jsonb;
	BEGIN
		r := romancy.activity('act', i, retry => '{"max_attempts": 2, "initial_interval": "10 ms"}');
		IF i ? 'waits' THEN PERFORM romancy.sleep('20 ms'); END IF;
		IF i ? 'handler' THEN RAISE EXCEPTION 'its own' USING ERRCODE = 'XX123'; END IF;
		RETURN jsonb_build_array(r, romancy.activity('plain', jsonb_build_object('n', r)));
	END $$;
	CREATE FUNCTION plain(i jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$ SELECT i $$;
	CREATE FUNCTION much(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.workflow_now(), romancy.workflow_uuid(), romancy.set_value('k', i), romancy.set_labels('{"a": 1}'), romancy.set_progress(1, 2, 'half');
		PERFORM romancy.publish('news', i), romancy.start_workflow('plain_flow', '"child"', idempotency_key => 'by ' || (i->>'n'));
		RETURN romancy.activity('act', i);
	END $$;
	CREATE FUNCTION plain_flow(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('plain', i); END $$;
	SELECT romancy.define_activity('act', 'act'), romancy.define_activity('plain', 'plain'), romancy.define_workflow('plain_flow', 'plain_flow'), romancy.define_workflow('two', 'two'), romancy.define_workflow('much', 'much');
});

my $n = 0;
# call($workflow, $input, before => ..., after => ..., role => ...): runs it in a new session; its output, where it ran ('here', 'there', '' nowhere), its errors, the output of what is after it, and
# how many times its activity act was begun here
sub call
{
	my ($workflow, $input, %how) = @_;
	my ($out, $err) = as($how{role} // 'shop', ($how{before} // '') . "\n"
		. "INSERT INTO public.clients VALUES (pg_backend_pid());\nSELECT last_value AS tries FROM public.tries_here \\gset\n\\echo <\n" . ($how{call} // "CALL romancy.run_workflow('$workflow', \$j\$$input\$j\$, timeout => '120 s');") . "\n\\echo >\nSELECT last_value - :tries FROM public.tries_here;\n" . ($how{after} // ''));
	my ($result) = $out =~ /<\n(.*?)\n?>/s;
	my ($name) = $input =~ /"n": "([^"]*)"/;
	my $where = $how{killed} ? '' : sql("SELECT coalesce(string_agg(DISTINCT CASE WHEN pid IN (SELECT pid FROM clients) THEN 'here' ELSE 'there' END, ' '), '') FROM ran WHERE n = '$name'");
	my ($tries, $after) = $out =~ />\n(\d+)\n?(.*)/s;
	return ($result // '', $where, $err, $after // '', $tries // 0);
}
# here($workflow, {input}, ...): call(), until one has run here (on a machine with too much to do, what is quick may take long)
sub here
{
	my ($workflow, $input, %how) = @_;
	my @got;
	for (1 .. 60) { @got = call($workflow, input(%$input), %how); last if $got[1] eq 'here' }
	return @got;
}
# left($workflow, {input}, ...): warm(), call(), until one was begun here
sub left
{
	my ($workflow, $input, %how) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @got;
	for (1 .. 60) { warm($workflow); @got = call($workflow, input(%$input), %how); last if $got[4] == 1 }
	is($got[4], 1, 'it was begun here');
	return @got;
}
# meets($error, ...): call(), until it ends with this error
sub meets
{
	my ($error, $workflow, $input, %how) = @_;
	my @got;
	for (1 .. 60) { @got = call($workflow, input(%$input), %how); last if $got[2] =~ $error }
	return @got;
}
sub input { my (%more) = @_; $n++; return qq({"n": "$n") . join('', map { qq(, "$_": ) . ($more{$_} =~ /^true$/ ? 'true' : '"' . $more{$_} =~ s/"/\\"/gr . '"') } sort keys %more) . '}' }
# a version is known to be quick after some runs: until one of them runs here
sub warm { my ($workflow, %how) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return poll_until(sub { my (undef, $where) = call($workflow, input(), %how); $where eq 'here' }, "$workflow: after some runs it runs here") }
sub status { my ($name) = @_; return sql("SELECT coalesce(string_agg(status || ' ' || coalesce(error->>'sqlstate', ''), ', '), '') FROM romancy.instances WHERE input->>'n' = '$name'") }

# ---------------------------------------------------------------- the same as in an executor
warm('two');
warm('much');
# what is left of the instance whose input has this name, without its times and ids
sub traces
{
	my ($name) = @_;
	my $text = sql(qq{
		SELECT to_jsonb(i) - '{instance_id,created_at,started_at,updated_at,finished_at}'::text[], romancy.get_value(instance_id, 'k'), romancy.get_result(instance_id),
			(SELECT jsonb_agg(to_jsonb(h) - 'created_at' ORDER BY seq) FROM romancy.get_history(instance_id) h), created_at <= started_at AND started_at <= finished_at AND updated_at >= started_at,
			(SELECT jsonb_agg(to_jsonb(r) - 'pid') FROM public.ran r WHERE n = '$name'), (SELECT count(*) FROM romancy.instances c WHERE idempotency_key = 'by $name')
		FROM romancy.instances i WHERE input->>'n' = '$name'});
	$text =~ s/"[0-9a-f]{8}-[0-9a-f-]{27}"/<uuid>/g;
	$text =~ s/"\d{4}-\d\d-\d\dT[^"]*"/<time>/g;
	$text =~ s/"result": \d+/"result": <id>/g;
	return $text =~ s/"\Q$name\E"|by \Q$name\E/<n>/gr =~ s/\bno \Q$name\E\b|to the log, \Q$name\E/<n>/gr;
}
sub counts { return sql(q{SELECT concat_ws(' ', (SELECT sum(started) || ' ' || sum(completed) || ' ' || sum(turns) FROM romancy.stat_workflows WHERE workflow = 'two'), (SELECT sum(calls) || ' ' || sum(failures) || ' ' || sum(retries) FROM romancy.stat_activities WHERE activity = 'act'))}) }
sub difference { my @a = split / /, $_[0]; my @b = split / /, $_[1]; return join ' ', map { $b[$_] - $a[$_] } 0 .. $#a }
my $set = q{SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET search_path = pg_catalog, public; SET work_mem = '9MB'; SET statement_timeout = '100 s'; SET lock_timeout = '99 s'; SET enable_seqscan = off; SET client_min_messages = debug1; SET extra_float_digits = 3;};
for my $workflow (qw(two much))
{
	my %left;
	my %counted;
	for my $setting (qw(off on))
	{
		sql("ALTER SYSTEM SET romancy.eager_runs = $setting");
		$node->reload;
		poll_until($node, "SELECT current_setting('romancy.eager_runs') = '$setting'", "eager_runs is $setting");
		my $before = counts();
		my ($result, $where, $err);
		for (1 .. 60) { $before = counts(); ($result, $where, $err) = call($workflow, input(), before => $set); last if $setting eq 'off' || $where eq 'here' }
		is($where, $setting eq 'on' ? 'here' : 'there', "$workflow, eager_runs $setting: where it ran");
		unlike($err, qr/to the log|and this/, 'its messages do not reach the client');
		$left{$setting} = traces($n);
		$counted{$setting} = difference($before, counts());
	}
	is($left{on}, $left{off}, "$workflow: row, history, values, settings and users are the same");
	is($counted{on}, $counted{off}, "$workflow: so are the statistics") if $workflow eq 'two';
}
like(slurp_file($node->logfile), qr/to the log, $n$/m, 'the log has the messages');

# ---------------------------------------------------------------- the session stays as it is
my (undef, $where, $err, $after) = here('two', {do => q(SELECT set_config('TimeZone', 'Asia/Tokyo', false), set_config('my.own', 'x', false), set_config('application_name', 'evil', false))}, before => q{SET application_name = 'mine'; SET TimeZone = 'Africa/Cairo';},
	after => q{SHOW TimeZone; SHOW application_name; SELECT coalesce(current_setting('my.own', true), ''); SHOW work_mem});
is($where, 'here', 'code that sets settings runs here');
is($after, "Africa/Cairo\nmine\n\n5MB", 'and they are the session\'s own afterwards');
(undef, $where, undef, $after) = here('two', {do => q(SELECT pg_advisory_lock(77))}, after => q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()});
is("$where $after", 'here 0', 'an advisory lock is released');
for my $do (q(PREPARE evil AS SELECT 1), q(LISTEN evil), q(CREATE TEMP TABLE ran (n text, pid int, users text, settings jsonb)), q(DECLARE evil CURSOR WITH HOLD FOR SELECT 1), q(DISCARD ALL), q(DEALLOCATE ALL), q(RESET ALL), q(UNLISTEN *), q(EXECUTE mine), q(LOAD 'plpgsql'))
{
	my ($result, $where, $err, $after) = left('two', {if_here => $do}, before => q{PREPARE mine AS SELECT 1; LISTEN mine;},
		after => q{SELECT (SELECT string_agg(name, ' ') FROM pg_prepared_statements WHERE from_sql), (SELECT string_agg(c, ' ') FROM pg_listening_channels() c), (SELECT count(*) FROM pg_cursors WHERE is_holdable), pg_my_temp_schema()});
	is("$result $where $after", qq(["$n", {"n": "$n"}] there mine|mine|0|0), "$do: left to an executor, and nothing is left in the session");
}

SKIP: {
	skip 'no C compiler, or no headers, that it compiles with', 2 if !$c;
	warm('two');
	(undef, $where, $err, $after) = here('two', {if_here => q(SELECT public.looks())}, after => q{CALL romancy.run_workflow('two', '{"n": "again"}'); SELECT 'alive'});
	is("$where $after", qq(here ["again", {"n": "again"}]\nalive), 'a library that looks at messages: the next run of the session goes well');
	unlike($err, qr/server closed|stack depth/, 'without an error');
}

# languages with an interpreter, which keeps what other calls have left in it, whatever the way to call them
as('shop', q{
	CREATE FUNCTION keep(text) RETURNS text LANGUAGE plperl AS '$_SHARED{x} = $_[0] if defined $_[0]; return $_SHARED{x}';
	CREATE FUNCTION keep_as_owner(text) RETURNS text LANGUAGE plperl SECURITY DEFINER AS '$_SHARED{x} = $_[0] if defined $_[0]; return $_SHARED{x}';
	CREATE FUNCTION keep_set(text) RETURNS text LANGUAGE plperl SET work_mem = '3MB' AS '$_SHARED{x} = $_[0] if defined $_[0]; return $_SHARED{x}';
	CREATE FUNCTION keep_trigger() RETURNS trigger LANGUAGE plperl AS '$_SHARED{x} = $_TD->{new}{n}; return';
	CREATE PROCEDURE keep_procedure(text) LANGUAGE plperl AS '$_SHARED{x} = $_[0]';
	CREATE TABLE kept (n text);
	CREATE TRIGGER kept BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION keep_trigger();
}) if $perl;
for my $do ($perl ? (q(SELECT keep('workflow')), q(SELECT keep_as_owner('workflow')), q(SELECT keep_set('workflow')), q(CALL keep_procedure('workflow')), q(INSERT INTO kept VALUES ('workflow')), q(DO LANGUAGE plperl $p$ $_SHARED{x} = 'workflow' $p$)) : ())
{
	my ($result, $where, $err, $after) = left('two', {if_here => $do}, before => q{SELECT keep('session');}, after => q{SELECT keep(NULL)});
	is("$result $where $after", qq(["$n", {"n": "$n"}] there session), "$do: left to an executor, and the session keeps its own");
}
if ($python)
{
	sql('CREATE FUNCTION public.obstinate() RETURNS int LANGUAGE plpython3u AS $$
while True:
    try:
        plpy.execute("SELECT pg_sleep(0.01)")
    except Exception:
        pass
$$; GRANT EXECUTE ON FUNCTION public.obstinate() TO shop');
	my ($result, $where, $err, $after) = left('two', {if_here => 'SELECT public.obstinate()'}, after => q{SELECT 'alive'});
	is("$result $where $after", qq(["$n", {"n": "$n"}] there alive), 'a function that catches all does not end the session');
}

# ---------------------------------------------------------------- left to an executor, as if nothing had been
my $result;
($result, $where, $err) = left('two', {fails => '22012'});
like($err, qr/22012: no $n\n.*HINT:  none/s, 'a failure is the instance\'s');
is(sql("SELECT h.data->'retry'->>'total_attempts' FROM romancy.instances i, romancy.get_history(instance_id) h WHERE input->>'n' = '$n' AND event_type = 'ActivityFailed'"), 2, 'with its attempts');
is(sql("SELECT count(*) FROM public.ran WHERE n = '$n'"), 0, 'without any trace');
($result, $where, $err) = left('two', {if_here => q(SELECT 1 / 0)});
is("$result $where", qq(["$n", {"n": "$n"}] there), 'an error that is none in an executor');
like($err, qr/^$/, 'is not seen');
($result, $where, $err) = left('two', {handler => 'true'});
like($err, qr/XX123: its own/, 'a handler\'s error');
is(status($n), 'failed XX123', 'it has failed');
is(sql("SELECT count(*) FROM public.ran WHERE n = '$n'"), 1, 'its activity ran once');
is(join(' ', (left('two', {waits => 'true'}))[0, 1]), qq(["$n", {"n": "$n"}] there), 'a wait');
is(join(' ', (left('two', {do => 'SELECT pg_sleep(0.4)'}))[0, 1]), qq(["$n", {"n": "$n"}] there), 'a step that is slow this time');
warm('two');

# locks of others: it waits in an executor
my $other = $node->background_psql('postgres');
$other->query_safe('BEGIN; LOCK TABLE public.late IN ACCESS EXCLUSIVE MODE');
my $waiting = $node->background_psql('postgres', extra_params => [ '-U', 'shop' ]);
$waiting->query_until(qr/begun/, "INSERT INTO clients VALUES (pg_backend_pid());\n\\echo begun\nCALL romancy.run_workflow('two', \$j\$" . input(do => q(INSERT INTO late VALUES ('locked', false))) . "\$j\$);\n");
poll_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'romancy executor'}, 'an executor waits for the lock');
$other->query_safe('COMMIT');
poll_until($node, "SELECT count(*) = 1 FROM romancy.instances WHERE input->>'n' = '$n' AND status = 'completed'", 'and goes on');
$waiting->quit;
$other->quit;
warm('two');

# commits that fail, and what is deferred to them
(undef, $where) = here('two', {do => qq(INSERT INTO late VALUES ('fine', false))}, before => 'SET search_path = pg_catalog, public;');
is($where, 'here', 'what is deferred runs');
is(sql(q{SELECT string_agg(DISTINCT users || ' ' || (settings->>'search_path'), ', ') FROM public.ran WHERE n = 'late fine'}), 'shop shop "$user", public', 'as the owner, with the path of a fresh session');
my $uncounted = q{SELECT (SELECT count(*) FROM romancy.instances WHERE workflow = 'two') - (SELECT sum(started) FROM romancy.stat_workflows WHERE workflow = 'two')};
my $before = sql($uncounted);
(undef, undef, $err) = left('two', {do => qq(INSERT INTO late VALUES ('broken', true))});
is(sql($uncounted), $before, 'what is rolled back here, and fails in an executor, is counted once');
like($err, qr/23503: this commit fails/, 'a deferred trigger that fails is the activity\'s error');
is(status($n) . ' ' . sql(q{SELECT count(*) FROM public.ran WHERE n = 'late broken'}), 'failed 23503 0', 'which fails the instance');

# ---------------------------------------------------------------- cancelled, terminated, killed
warm('two');
(undef, undef, $err) = meets(qr/57014/, 'two', {if_here => 'SELECT pg_sleep(0.09)'}, before => q{SET statement_timeout = '40 ms';});
like($err, qr/57014: canceling statement due to statement timeout/, 'a statement_timeout ends the call');
poll_until($node, "SELECT count(*) = 1 FROM romancy.instances WHERE input->>'n' = '$n' AND status = 'completed'", 'the instance goes on in an executor');
is(sql("SELECT count(*) FROM public.ran WHERE n = '$n' AND pid NOT IN (SELECT pid FROM public.clients)"), 1, 'and has run once');
warm('two');
(undef, undef, $err) = meets(qr/57014/, 'two', {if_here => 'SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(0.05)'});
like($err, qr/57014: canceling statement due to user request/, 'a cancel likewise');
poll_until($node, "SELECT count(*) = 1 FROM romancy.instances WHERE input->>'n' = '$n' AND status = 'completed'", 'it goes on, too');
SKIP: {
	skip 'no C compiler, or no headers, that it compiles with', 2 if !$c;
	warm('two');
	# (the code does not look for either of them before both have come)
	(undef, undef, $err) = meets(qr/57014/, 'two', {if_here => q(SELECT public.cancels())});
	like($err, qr/57014: canceling statement due to user request/, 'a cancel that comes together with the limit of such a run is not lost');
	poll_until($node, "SELECT count(*) = 1 FROM romancy.instances WHERE input->>'n' = '$n' AND status = 'completed'", 'nor is the instance');
}
warm('two');
(undef, undef, $err) = meets(qr/57P01/, 'two', {if_here => 'SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(1)'});
like($err, qr/57P01: terminating connection due to administrator command/, 'the client of a session that is terminated is told');
is(status($n), '', 'and has started nothing');
SKIP: {
	skip 'no C compiler, or no headers, that it compiles with', 3 if !$c;
	(undef, undef, $err) = meets(qr/server closed|terminating/, 'two', {if_here => q(SELECT public.dies())}, killed => 1);
	like($err, qr/server closed the connection|terminating connection/, 'a session that is killed');
	poll_until($node, 'SELECT true', 'after which the server restarts');
	is(status($n) . sql("SELECT count(*) FROM public.ran WHERE n = '$n'"), '0', 'has started nothing');
}
warm('two');
warm('much');

# ---------------------------------------------------------------- sessions in which nothing runs
my %not = (
	'SET ROLE' => { role => 'boss', before => 'SET ROLE shop;' },
	'SET SESSION AUTHORIZATION' => { role => 'boss', before => 'SET SESSION AUTHORIZATION shop;' },
	'SET ROLE to itself' => { before => 'SET ROLE shop;' },
	'a temporary table' => { before => 'CREATE TEMP TABLE act (i int);' },
	'a cursor' => { before => 'BEGIN; DECLARE mine CURSOR WITH HOLD FOR SELECT 1; COMMIT;' },
	'an advisory lock' => { before => 'SELECT pg_advisory_lock(1);' },
	'a setting of its own' => { before => q{SET my.tenant = 'a';} },
	# (of the same length: the estimate of what parallel workers are sent does not change)
	'a setting of its own, after another' => { before => q{SET my.one = 'a'; RESET my.one; CALL romancy.run_workflow('two', '{"n": "other"}'); SET my.two = 'a'; CALL romancy.run_workflow('two', '{"n": "other"}'); RESET my.two; SET my.six = 'a';} },
	'a setting since it began' => { before => q{\setenv PGOPTIONS '-c DateStyle=German'} . "\n\\c\n" },
	'another isolation' => { before => 'SET default_transaction_isolation = serializable;' },
	'another encoding' => { before => q{SET client_encoding = 'LATIN1';} },
);
for my $what (sort keys %not)
{
	warm('two');
	my ($result, $where, undef, undef, $tries) = call('two', input(), %{ $not{$what} });
	is("$result $where $tries", qq(["$n", {"n": "$n"}] there 0), "$what: nothing runs here");
}
# inside another procedure, there is more than one statement
as('shop', 'CREATE PROCEDURE outer_one(n text) LANGUAGE plpgsql AS $$ DECLARE r jsonb; BEGIN CALL romancy.run_workflow(\'two\', jsonb_build_object(\'n\', n), result => r); END $$');
warm('two');
my $in = input();
(undef, $where, undef, undef, my $tries) = call('two', $in, call => "CALL outer_one('$n');");
is("$where $tries", 'there 0', 'in a procedure: nothing runs here');
warm('two');
sql('ALTER SYSTEM SET romancy.enabled = off');
$node->reload;
poll_until($node, q{SELECT NOT EXISTS (SELECT FROM romancy.workers WHERE kind = 'executor')}, 'workers are off');
$in = input();
(undef, $where, $err, undef, $tries) = call('two', $in, call => "CALL romancy.run_workflow('two', '$in', timeout => '100 ms');");
like($err, qr/RM006/, 'then nothing runs');
is("$where $tries", ' 0', 'nor here');
sql('ALTER SYSTEM RESET romancy.enabled');
$node->reload;
poll_until($node, "SELECT count(*) = 1 FROM romancy.instances WHERE input->>'n' = '$n' AND status = 'completed'", 'until they are on again');
# a copy that was not adopted
warm('two');
sql('UPDATE romancy.t_control SET system_identifier = 1');
$in = input();
(undef, $where, undef, undef, $tries) = call('two', $in, call => "CALL romancy.run_workflow('two', '$in', timeout => '100 ms');");
like("$where $tries", qr/^(there)? 0$/, 'a copy that was not adopted: nothing runs here');
sql('SELECT romancy.adopt_database()');
poll_until($node, "SELECT count(*) = 1 FROM romancy.instances WHERE input->>'n' = '$n' AND status = 'completed'", 'until it is adopted');
# steps that an executor runs under limits, or apart
for my $definition (q(max_concurrency => 5), q(transactional => false))
{
	as('shop', q{SELECT romancy.define_activity('act', 'act')});
	warm('two');
	as('shop', "SELECT romancy.define_activity('act', 'act', $definition)");
	is(join(' ', (call('two', input()))[0, 1, 4]), qq(["$n", {"n": "$n"}] there 0), "$definition: not here");
}
as('shop', q{SELECT romancy.define_activity('act', 'act', rate_limit => '2/h')});
is(join(' ', (call('two', input()))[0]), qq(["$n", {"n": "$n"}]), 'under a rate limit') for 1 .. 2;
$in = input();
(undef, $where, undef, undef, $tries) = call('two', $in, call => "SELECT romancy.start_workflow('two', '$in');");
poll_until($node, "SELECT status FROM romancy.instances WHERE input->>'n' = '$n'", 'the third waits', expected => 'waiting_for_activity');
(undef, $where, $err, undef, $tries) = call('two', input(), call => "CALL romancy.run_workflow('two', '$in', timeout => '300 ms');");
is("$where $tries", ' 0', 'which holds for all of them together');
like($err, qr/RM006/, 'and the fourth');
as('shop', q{SELECT romancy.define_activity('act', 'act')});

# ---------------------------------------------------------------- whose code runs
warm('two');
for my $statement ('SET ROLE postgres', 'SET SESSION AUTHORIZATION postgres', 'ALTER ROLE shop SUPERUSER', 'SET ROLE boss', 'RESET SESSION AUTHORIZATION; SET ROLE boss')
{
	my (undef, $where, $err) = call('two', input(do => $statement));
	isnt($err, '', "$statement: refused");
	is(sql("SELECT count(*) FROM public.ran WHERE n = '$n'"), 0, 'with all that came before it');
	is(as('shop', 'SELECT current_user, session_user, rolsuper FROM pg_roles WHERE rolname = current_user'), 'shop|shop|f', 'nothing was gained');
}
warm('two');
for my $language (($perl ? 'pl' : ()), ($python ? 'py' : ()))
{
	sql("GRANT EXECUTE ON FUNCTION public.$language(text) TO shop");
	my ($result, undef, $err) = call('two', input(do => qq(INSERT INTO public.ran SELECT 'nested $language', 0, public.$language('who'))));
	is($result, qq(["$n", {"n": "$n"}]), "a function of another language in it ($language)");
	is(sql(qq{SELECT string_agg(DISTINCT users, ', ') FROM public.ran WHERE n = 'nested $language'}), 'shop shop', 'runs as the owner');
}
is(sql(q{SELECT string_agg(DISTINCT users, ', ') FROM public.ran WHERE users LIKE 'shop shop %'}), 'shop shop none off', 'all code ran as the owner, in a session of the owner\'s');
is(sql(q{SELECT count(*) FROM romancy.instances WHERE status NOT IN ('completed', 'failed') AND workflow <> 'two'}), 0, 'nothing is left over');

# ---------------------------------------------------------------- by the extended protocol
my $script = $node->basedir . '/extended.sql';
append_to_file($script, "INSERT INTO clients VALUES (pg_backend_pid());\nCALL romancy.run_workflow('two', '{\"n\": \"by pgbench\"}');\n");
for my $mode (qw(extended prepared))
{
	poll_until(sub {
		sql(q{DELETE FROM public.ran WHERE n = 'by pgbench'});
		$node->run_log([ 'pgbench', '-n', '-M', $mode, '-U', 'shop', '-t', '5', '-f', $script, 'postgres' ]);
		return sql(q{SELECT count(*) > 0 FROM public.ran WHERE n = 'by pgbench' AND pid IN (SELECT pid FROM public.clients)}) eq 't';
	}, "protocol $mode: it runs here, too");
}

# ---------------------------------------------------------------- once for a key
my @with_key;
for (1 .. 60) { warm('two'); $in = input(); @with_key = call('two', $in, call => "CALL romancy.run_workflow('two', '$in', 'key $n');"); last if $with_key[1] eq 'here' }
is(join(' ', @with_key[0, 1, 4]), qq(["$n", {"n": "$n"}] here 1), 'one with a key runs here');
my $named = $n;
is(join(' ', (call('two', input(), call => "CALL romancy.run_workflow('two', '$in', 'key $named');"))[0, 4]), qq(["$named", {"n": "$named"}] 0), 'a key that was used gives the result of then, and nothing runs');
is(sql("SELECT count(*) FROM public.ran WHERE n = '$named'"), 1, 'it ran once');

# ---------------------------------------------------------------- four sessions per processor at the same time, with their commits; what comes beyond them is an executor's
SKIP: {
	skip "the limit of this machine, $most sessions, is more than pgbench is to open", 3 if $most > 128;
	# one that is quick, also beside as many others: nothing but a row
	as('shop', q{
		CREATE FUNCTION put_row(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ran VALUES (i->>'n', pg_backend_pid()); RETURN i; END $$;
		CREATE FUNCTION row_only(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('put_row', i); END $$;
	});
	warm('row_only');
	my $many = $node->basedir . '/many.sql';
	append_to_file($many, "CALL romancy.run_workflow('row_only', '{\"n\": \"many\"}');\n");
	my ($out, $err) = ('', '');
	my $pgbench = IPC::Run::start([ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-U', 'shop', '-c', $most + 3, '-T', 600, '-f', $many, 'postgres' ], '<', \'', '>', \$out, '2>', \$err);
	my $seen = 0;
	my $begun = time;

	# now and then commits wait for a standby that does not exist: who has run a workflow then holds a lock on its table (the others wait for executors)
	# (on a machine with too much to do a run may not be quick, and fewer try: not all need be seen, but some)
	while ($seen < $most && time - $begun < $PostgreSQL::Test::Utils::timeout_default * ($seen > 0 ? 0.3 : 2))
	{
		sql(q{ALTER SYSTEM SET synchronous_standby_names = 'none'});
		$node->reload;
		$node->poll_query_until('postgres', q{SELECT count(*) > 0 AND bool_and(wait_event = 'SyncRep' OR wait_event_type = 'Extension') FROM pg_stat_activity WHERE query ~ '^CALL.*many'}) or last;
		my $n = sql(q{SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE relation = 'public.ran'::regclass AND locktype = 'relation' AND mode = 'RowExclusiveLock' AND query ~ 'CALL.*many'});
		$seen = $n if $n > $seen;
		sql(q{ALTER SYSTEM RESET synchronous_standby_names});
		$node->reload;
	}
	cmp_ok($seen, '<=', $most, "no more than $most sessions run one at a time");
	cmp_ok($seen, '>', 0, 'but some do');
	$pgbench->signal('TERM');
	eval { $pgbench->finish };
}

done_testing();
