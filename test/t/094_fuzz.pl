# Every function and view of the schema, read from the catalog, with odd arguments, in every place that a statement can run in: at top level, in
# handlers, activities, procedures and triggers, in caught subtransactions, READ ONLY and SERIALIZABLE transactions, prepared ones,
# cursors, drain, at commit, and with statements that are cancelled. Nothing crashes, nothing gives an internal error (class XX). It would catch
# an argument that is not checked, a null that is taken for a value, and state that an error leaves behind.
#
# It runs for FUZZ_SECONDS (60) with the same statements each time, 'make fuzz' for FUZZ_SECONDS=1800 with others. FUZZ_SEED repeats a run; what other sessions do
# meanwhile is not repeated.
# Takes 60 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $seconds = $ENV{FUZZ_SECONDS} || 60;
my $seed = $ENV{FUZZ_SEED} || 20261129;
srand($seed);
note("FUZZ_SEED=$seed");

my $node = romancy_node('fuzz', 'max_prepared_transactions' => 20, 'restart_after_crash' => 'off',
	'log_line_prefix' => '%m [%p] %e %q%u ', 'log_min_error_statement' => 'error', 'log_statement' => 'all',
	'romancy.timer_interval' => '200ms', 'romancy.lock_cleanup_interval' => '200ms', 'romancy.max_payload_size' => '64kB',
	'max_worker_processes' => 20, 'romancy.max_workers' => 6, 'lock_timeout' => '5s');
sub sql { return $node->safe_psql('postgres', $_[0]) }

# ---------------------------------------------------------------- where statements run
my @roles = qw(fuzz_a fuzz_b postgres);
sql(q{
	CREATE TABLE fuzz_seen (sqlstate text, message text, statement text, place text);
	CREATE TABLE fuzz_trigger (statement text);
	CREATE TABLE fuzz_deferred (statement text);
	GRANT ALL ON fuzz_seen, fuzz_trigger, fuzz_deferred TO PUBLIC;
	-- one statement; an internal error is noted, and told in the log, for what was noted may be rolled back
	CREATE FUNCTION fuzz_run(s text, place text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE s;
	EXCEPTION WHEN internal_error OR data_corrupted OR index_corrupted THEN
		RAISE WARNING 'XX-CAUGHT % in %: %', sqlerrm, place, s;
	WHEN OTHERS THEN NULL;
	END $$;
	CREATE FUNCTION fuzz_workflow(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE s text;
	BEGIN
		FOR s IN SELECT jsonb_array_elements_text(i -> 'caught') LOOP PERFORM fuzz_run(s, 'handler'); END LOOP;
		FOR s IN SELECT jsonb_array_elements_text(i -> 'plain') LOOP EXECUTE s; END LOOP;
		RETURN i;
	END $$;
	CREATE FUNCTION fuzz_activity(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM fuzz_run(i ->> 0, 'activity');
		EXECUTE i ->> 1;
		RETURN i;
	END $$;
	CREATE PROCEDURE fuzz_procedure(i jsonb, INOUT r jsonb) LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM fuzz_run(i ->> 0, 'procedure');
		COMMIT;
		PERFORM fuzz_run(i ->> 1, 'procedure');
		ROLLBACK;
		EXECUTE i ->> 0;
		COMMIT;
		EXECUTE i ->> 1;
	END $$;
	CREATE FUNCTION fuzz_on_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM fuzz_run(new.statement, 'trigger'); EXECUTE new.statement; RETURN new; END $$;
	CREATE TRIGGER fuzz_before BEFORE INSERT ON fuzz_trigger FOR EACH ROW EXECUTE FUNCTION fuzz_on_row();
	-- (catches nothing: a block that catches an error in a deferred trigger fails an assertion of PostgreSQL 15's own, xact.c)
	CREATE FUNCTION fuzz_on_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE new.statement; RETURN new; END $$;
	CREATE CONSTRAINT TRIGGER fuzz_at_commit AFTER INSERT ON fuzz_deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fuzz_on_commit();
	CREATE FUNCTION fuzz_plain(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
	CREATE FUNCTION fuzz_waits(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN (romancy.receive('ch')).data; END $$;
});
for my $role (@roles)
{
	sql("CREATE ROLE $role LOGIN; SELECT romancy.grant_usage('$role')") unless $role eq 'postgres';
	sql(qq{SET ROLE $role;
		SELECT romancy.define_activity('fuzz_activity', handler => 'public.fuzz_activity(jsonb)', retry => '{"max_attempts": 2, "initial_interval": "10ms"}'),
			romancy.define_activity('fuzz_procedure', handler => 'public.fuzz_procedure(jsonb, jsonb)', transactional => false, retry => '{"max_attempts": 2, "initial_interval": "10ms"}'),
			romancy.define_activity('ext', queue => 'q', compensation => 'fuzz_plain'), romancy.define_activity('act', handler => 'public.fuzz_plain(jsonb)', compensation => 'act2'),
			romancy.define_activity('act2', handler => 'public.fuzz_plain(jsonb)', max_concurrency => 1),
			romancy.define_workflow('wf', handler => 'public.fuzz_workflow(jsonb)'), romancy.define_workflow('outside', queue => 'wq'),
			romancy.define_workflow('ev', handler => 'public.fuzz_plain(jsonb)', on_event => 'ev');
		SELECT romancy.start_workflow('fuzz_waits'), romancy.start_workflow('outside'), romancy.run_canvas(romancy.group(romancy.task('ext'), romancy.task('act')))});
}

# ---------------------------------------------------------------- arguments
my $deep = '[' x 900 . ']' x 900;
my @text = ("NULL", "''", "'a'", "'wf'", "'act'", "'act2'", "'ext'", "'outside'", "'fuzz_plain'", "'fuzz_waits'", "'q'", "'wq'", "'ch'", "'g'", "'ev'", "'k'", "'1/q'", "'\@q'", "'\@x'",
	"'fuzz_activity'", "'public.fuzz_plain(jsonb)'", "'public.fuzz_plain'", "'fuzz_procedure(jsonb, jsonb)'", "'pg_catalog.jsonb_typeof(jsonb)'", "'nowhere(jsonb)'", "'\"'", "E'\\n\\t'", "'%s %1\$s'", "repeat('x', 70)", "repeat('y', 300)", "repeat('z', 70000)",
	"'ü€𝄞'", "'0'", "'-1'", "'100/m'", "'1/s'", "'0/s'", "'broadcast'", "'competing'", "'direct'", "'cancel'", "'abandon'", "'mermaid'", "'dot'", "'timers'", "'retention'", "'* * * * *'", "'\@every 1s'", "'H H * * *'", "'0 0 31 2 *'", "'Europe/Berlin'", "'UTC'",
	"'skip'", "'queue_all'", "'cancel_previous'", "'act:1'", "'sleep:1'", "'receive_ch:1'", "'42501'", "'RM003'", "'00000'", "'ValueError'", "'{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"ev\"}'", "'{'", "'POST'", "'http://127.0.0.1:1/x'",
	"(SELECT format('%s.%s.%s', task_id, attempt, lpad(to_hex(fence), 16, '0')) FROM fuzz_tokens ORDER BY random() LIMIT 1)",
	"(SELECT token FROM romancy.fetch_activities('q', 'w') LIMIT 1)", "(SELECT token FROM romancy.fetch_workflows('wq', 'w') LIMIT 1)", "(SELECT next_page_token FROM romancy.list_instances(page_size => 1))");
my @jsonb = ("NULL", "'null'", "'{}'", "'[]'", "'[null]'", "'1'", "'1e400'", "'\"x\"'", "'true'", "'$deep'", "jsonb_build_object('a', repeat('x', 70000))", "'{\"a\": {\"b\": [1, {\"c\": null}]}}'", "'[1, 2, 3]'", "'[[1], {\"k\": 1}]'",
	"'{\"max_attempts\": 2, \"initial_interval\": \"1ms\"}'", "'{\"max_attempts\": -1}'", "'{\"max_attempts\": 1e30}'", "'{\"initial_interval\": \"-1s\"}'", "'{\"backoff_coefficient\": 1e308}'", "'{\"jitter\": 2}'", "'{\"retryable_errors\": [1]}'", "'{\"on_exhausted\": \"pause\"}'",
	"'{\"status\": \"running\"}'", "'{\"status\": [\"failed\"]}'", "'{\"labels\": {\"a\": \"b\"}}'", "'{\"input\": {\"a.b\": 1}}'", "'{\"search\": \"%\"}'", "'{\"created_after\": \"infinity\"}'", "'{\"nowhere\": 1}'", "'{\"workflow\": null}'",
	"romancy.task('act')", "romancy.task('ext', '{\"a\": 1}')", "romancy.group(romancy.task('act'), romancy.task('act2'))", "romancy.chain(romancy.task('act'), romancy.task('ext'))", "romancy.chord('[]', romancy.task('act'))", "'{\"chain\": []}'", "'{\"type\": \"group\", \"signatures\": 1}'", "'{\"any\": [\"a\"]}'", "'{\"all\": []}'",
	"'[{\"op\": \"timer\", \"id\": \"sleep:1\", \"until\": \"infinity\"}]'", "'[{\"op\": \"activity\", \"id\": \"act:1\", \"name\": \"act\"}]'", "'[{\"op\": \"child\", \"id\": \"wf:1\", \"name\": \"wf\"}, {\"op\": \"receive\", \"id\": \"r\", \"channel\": \"ch\"}]'", "'[{\"op\": 1}]'", "'[{\"op\": \"recur\"}]'", "'[{\"op\": \"publish\", \"id\": \"publish_ch:1\", \"channel\": \"ch\"}]'",
	"'[{\"kind\": \"now\"}, {\"type\": \"activity\", \"id\": \"act:1\", \"name\": \"act\", \"result\": 1}]'", "'{\"method\": \"GET\", \"url\": \"http://127.0.0.1:1/{a}\"}'");
my %pool = (
	text => \@text, name => \@text, jsonb => \@jsonb,
	int4 => ["NULL", 0, 1, -1, 2, 1000, 2147483647, -2147483648], int8 => ["NULL", 0, 1, -1, 1000, '9223372036854775807', "'-9223372036854775808'"],
	bool => [qw(NULL true false)], float8 => ["NULL", 0, "'nan'", "'infinity'", -1],
	interval => ["NULL", map { "'$_'" } '0', '1 ms', '10 ms', '-1 s', '1 s', '1 mon', '178000000 years', '-178000000 years', '2 days -1 sec', '2147483647 days', '1 hour'],
	timestamptz => ["NULL", "now()", "now() + '20 ms'", map { "'$_'" } 'infinity', '-infinity', 'epoch', '4713-01-01 BC', '294276-12-31', '2000-02-30'],
	uuid => ["NULL", "gen_random_uuid()", "'00000000-0000-0000-0000-000000000000'", ("(SELECT instance_id FROM fuzz_ids ORDER BY random() LIMIT 1)") x 12, ("(SELECT instance_id FROM romancy.instances ORDER BY random() LIMIT 1)") x 4],
	bytea => ["NULL", "''", "'\\x00ff'", "decode(repeat('00', 70000), 'hex')"],
	_text => ["NULL", "'{}'", "'{a,NULL}'", "'{{a,b},{c,d}}'", "'[0:1]={a,b}'", "ARRAY['act:1', 'sleep:1']", "ARRAY(SELECT token FROM romancy.fetch_activities('q', 'w', 3))", "array_fill('x'::text, ARRAY[3000])"],
	_jsonb => ["NULL", "'{}'", "ARRAY[NULL::jsonb]", "ARRAY['1', '{}']::jsonb[]", "ARRAY[romancy.task('act'), romancy.task('ext')]", "ARRAY[['1'], ['2']]::jsonb[]", "array_fill('1'::jsonb, ARRAY[300])"],
	regrole => ["NULL", "'fuzz_a'", "'fuzz_b'", "0", "99999999"], regprocedure => ["NULL", "0", "'public.fuzz_plain(jsonb)'"],
	oid => ["NULL", 0, 1, 99999999],
	t_events => ["NULL"], _t_event => ["NULL"], t_status => ["NULL", "'failed'"], cstring => ["NULL"],
);
sql(q{CREATE TABLE fuzz_tokens AS SELECT task_id, attempt, fence FROM romancy.t_task LIMIT 0; CREATE TABLE fuzz_ids (instance_id uuid);
	GRANT ALL ON fuzz_tokens, fuzz_ids TO PUBLIC});

# The objects: functions and procedures with their arguments, and views
my @functions;
for my $line (split /\n/, sql(q{
	SELECT p.proname, p.prokind, p.provariadic <> 0, p.pronargs - p.pronargdefaults,
		coalesce((SELECT string_agg(t.typname || ':' || coalesce(p.proargnames[a.n], ''), ',' ORDER BY a.n) FROM unnest(p.proargtypes) WITH ORDINALITY a (type, n) JOIN pg_type t ON t.oid = a.type), '')
	FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	WHERE p.pronamespace = 'romancy'::regnamespace AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) ORDER BY 1, 5}))
{
	my ($name, $kind, $variadic, $required, $args) = split /\|/, $line;
	push @functions, { name => $name, kind => $kind, variadic => $variadic eq 't', required => $required, args => [ map { [ split /:/, $_, 2 ] } split /,/, $args ], weight => $name =~ /^t_/ ? 1 : 4 };
}
my @views = split /\n/, sql(q{SELECT relname FROM pg_class WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'v'});
cmp_ok(scalar @functions, '>', 100, scalar(@functions) . ' functions and ' . @views . ' views');
my @weighted = map { ($_) x $_->{weight} } @functions;
# these end the session's database or make the others' grants go
my %not_as_superuser = map { $_ => 1 } qw(revoke_usage t_announce);
my (%called, %unknown);

sub Max { return $_[0] > 0 ? $_[0] : 0 }
sub pick { return $_[0][rand @{$_[0]}] }
sub value
{
	my $type = shift;
	$unknown{$type} = 1 unless $pool{$type};
	my $v = pick($pool{$type} || ['NULL']);
	return $v if $type eq 'cstring';
	return "$v\::romancy.$type" if $type =~ /^t_/;
	return "$v\::romancy.t_event[]" if $type eq '_t_event';
	return $v . ($v =~ /^(NULL|'|-?\d)/ && $type !~ /^_/ ? "::$type" : $type =~ /^_(.*)/ ? "::${1}[]" : '');
}

# call($role): a statement, without semicolon: a call with odd arguments, or a look at a view
sub call
{
	my $role = shift;
	return 'SELECT count(*), max(x::text) FROM romancy.' . pick(\@views) . ' x' if rand() < 0.03;
	my $f = pick(\@weighted);
	redo_pick($role, \$f);
	$called{$f->{name}} = 1;
	my @args;
	my $n = 0;
	for my $arg (@{$f->{args}})
	{
		my ($type, $name) = @$arg;
		# what has a default is given sometimes, and by its name
		next if $n++ >= $f->{required} && rand() < 0.6;
		my $prefix = $name eq '' ? '' : qq{"$name" => };
		$prefix = "VARIADIC $prefix" if $f->{variadic} && $n == @{$f->{args}};
		$prefix = 'VARIADIC ' if $f->{variadic} && $n == @{$f->{args}} && @args == $n - 1;
		push @args, $prefix . value($type);
	}
	my $call = qq{romancy."$f->{name}"(} . join(', ', @args) . ')';
	return "CALL $call" if $f->{kind} eq 'p';
	return rand() < 0.2 ? "SELECT * FROM $call" : "SELECT $call";
}
sub redo_pick
{
	my ($role, $f) = @_;
	$$f = pick(\@weighted) while $role eq 'postgres' && $not_as_superuser{$$f->{name}};
}
my $tags = 0;
sub quoted { my $s = shift; my $tag = '$f' . ++$tags . '$'; return "$tag$s$tag" }
sub array { return 'ARRAY[' . join(', ', map { quoted($_) } @_) . ']::text[]' }

# piece($role): some statements of a session, in one of the places
sub piece
{
	my $role = shift;
	my ($one, $two, $three) = (call($role), call($role), call($role));
	my $gid = 'g' . int(rand 1e9);
	my $input = rand() < 0.5 ? "jsonb_build_object('plain', to_jsonb(" . array($one, $two) . "))" : "jsonb_build_object('caught', to_jsonb(" . array($one, $two, $three) . "), 'plain', to_jsonb(" . array($three) . "))";
	my $activity = rand() < 0.5 ? 'fuzz_activity' : 'fuzz_procedure';
	my $step = "SELECT romancy.activity('$activity', to_jsonb(" . array($one, $two) . "))";
	my @places = (
		sub { "$one;" }, sub { "$one;" }, sub { "$one;" },
		sub { "SELECT public.fuzz_run(" . quoted($one) . ", 'caught');" },
		sub { "DO \$do\$ BEGIN PERFORM public.fuzz_run(" . quoted($one) . ", 'do'); PERFORM public.fuzz_run(" . quoted($two) . ", 'do'); " . (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . "; END \$do\$;" },
		sub { "SELECT romancy.start_workflow('wf', $input);" }, sub { "SELECT romancy.start_workflow('wf', $input);" },
		sub { "SELECT romancy.start_workflow('wf', jsonb_build_object('plain', jsonb_build_array(" . quoted($step) . ")));" },
		sub { "SELECT romancy.start_workflow('wf', jsonb_build_object('caught', jsonb_build_array(" . quoted($step) . ', ' . quoted($three) . ")));" },
		sub { "INSERT INTO public.fuzz_trigger VALUES (" . quoted($one) . ");" },
		# (no drain, which has subtransactions, as above)
		sub { "BEGIN; INSERT INTO public.fuzz_deferred VALUES (" . quoted($one =~ /^CALL/ ? 'SELECT 1' : $one) . "), (" . quoted($two =~ /^CALL/ ? 'SELECT 2' : $two) . "); COMMIT;" },
		sub { "BEGIN READ ONLY; $one; ROLLBACK;" },
		sub { "BEGIN ISOLATION LEVEL SERIALIZABLE; $one; $two; COMMIT;" },
		sub { "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; $one; COMMIT;" },
		sub { "BEGIN ISOLATION LEVEL REPEATABLE READ; $one; SAVEPOINT s; $two; ROLLBACK TO s; $three; RELEASE s; COMMIT;" },
		sub { "BEGIN; SAVEPOINT a; $one; SAVEPOINT b; $two; ROLLBACK TO a; $three; COMMIT;" },
		sub { "BEGIN; $one; PREPARE TRANSACTION '$gid'; " . (rand() < 0.6 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid';" },
		sub { my $s = $one =~ /^SELECT/ ? $one : 'SELECT 1'; "BEGIN; DECLARE c CURSOR " . (rand() < 0.4 ? 'WITH HOLD ' : '') . "FOR $s; FETCH 1 FROM c; $two; FETCH 2 FROM c; COMMIT; CLOSE c;" },
		sub { "CALL romancy.drain(max_turns => " . int(rand 20) . ", advance_time => " . (rand() < 0.5 ? 'true' : 'false') . ");" },
		sub { "BEGIN; SELECT romancy.start_workflow('wf', $input); CALL romancy.drain(max_turns => 10, advance_time => " . (rand() < 0.5 ? 'true' : 'false') . "); " . (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . ";" },
		sub { "BEGIN; SELECT romancy.start_workflow('wf', $input); SAVEPOINT s; CALL romancy.drain(max_turns => 10); ROLLBACK TO s; $one; CALL romancy.drain(max_turns => 3); COMMIT;" },
		sub { "SET statement_timeout = '" . (1 + int(rand 30)) . "ms'; $one; $two; SET statement_timeout = '1s';" },
		sub { "PREPARE p AS " . ($one =~ /^SELECT/ ? $one : 'SELECT 1') . "; EXECUTE p; EXECUTE p; DEALLOCATE p;" },
		sub { "COPY (" . ($one =~ /^SELECT/ ? $one : 'SELECT 1') . ") TO STDOUT;" },
		sub { "SET romancy.namespace = " . pick(["'nowhere'", "'fuzz_a'", "''", "'" . ('x' x 100) . "'"]) . "; $one; RESET romancy.namespace;" },
		sub { "SET ROLE " . pick(\@roles) . "; $one; RESET ROLE;" },
		sub { "INSERT INTO public.fuzz_ids SELECT instance_id FROM romancy.instances ORDER BY random() LIMIT 3;" },
		sub { "WITH f AS (SELECT token FROM romancy.fetch_activities('q', 'w', 2)) INSERT INTO public.fuzz_tokens SELECT split_part(token, '.', 1)::uuid, split_part(token, '.', 2)::int, ('x' || split_part(token, '.', 3))::bit(64)::bigint FROM f;" },
	);
	return pick(\@places)->();
}

# ---------------------------------------------------------------- running
my $deadline = time + $seconds;
my $statements = 0;
my $dead = '';
while (time < $deadline && !$dead)
{
	my @runs;
	for my $role (@roles)
	{
		my @pieces = map { piece($role) } 1 .. 60;
		my $in = "\\set QUIET on\nSET statement_timeout = '1s'; SET client_min_messages = warning;\n" . join("\n", @pieces) . "\n";
		my ($out, $err) = ('', '');
		$statements += @pieces;
		push @runs, [ IPC::Run::start([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=0', '-d', $node->connstr('postgres'), '-U', $role ], '<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout(120 + $PostgreSQL::Test::Utils::timeout_default)), \$err ];
	}
	for my $run (@runs)
	{
		eval { $run->[0]->finish; 1 } or do { $dead = "a session hangs: $@"; $run->[0]->kill_kill; };
		$dead ||= 'the server ended a session' if ${$run->[1]} =~ /server closed the connection unexpectedly|could not connect|connection to server/;
	}
	# what a drop took away
	if (!$dead)
	{
		$node->psql('postgres', "SELECT gid, pg_terminate_backend(0) FROM pg_prepared_xacts WHERE false");
		$node->psql('postgres', "TRUNCATE fuzz_ids; INSERT INTO fuzz_ids SELECT instance_id FROM romancy.t_instance ORDER BY random() LIMIT 100; DELETE FROM romancy.t_schedule");
	}
}
my $log = slurp_file($node->logfile);
is($dead, '', "sessions live on, after $statements statements");
unlike($log, qr/terminated by signal|TRAP: |PANIC: /, 'no process crashed');
# (statements are logged, too: what counts is the state of a line, and what workers tell of instances)
my @lines = split /\n/, $log;
my $bad = qr/\] XX\w{3} .*(ERROR|FATAL|PANIC|WARNING):|XX-CAUGHT .* in \w+: |SQLSTATE XX\w{3}|TRAP:|was terminated by signal/;
# what the session did before
for my $i (grep { $lines[$_] =~ $bad && $lines[$_] !~ /statement: |STATEMENT: |RAISE WARNING/ } 0 .. $#lines)
{
	my ($pid) = $lines[$i] =~ /\[(\d+)\]|PID: (\d+)/ or next;
	my @before = grep { /\[$pid\]/ } @lines[Max($i - 3000) .. $i];
	diag(join "\n", map { substr $_, 0, 600 } @before[Max(@before - 25) .. $#before]);
	last;
}
my @internal = grep { /\] XX\w{3} .*(ERROR|FATAL|PANIC|WARNING):|XX-CAUGHT .* in \w+: |SQLSTATE XX\w{3}/ && !/statement: |STATEMENT: |RAISE WARNING/ } split /\n/, $log;
my %kinds;
for (@internal) { my $m = s/^.*?(ERROR|FATAL|PANIC|WARNING|LOG): +//r; $m =~ s/\d+/N/g; $kinds{substr $m, 0, 160}++ }
is(scalar(@internal), 0, 'no internal error') or diag(map { "$kinds{$_} x $_\n" } sort keys %kinds);
is(join(' ', sort keys %unknown), '', 'values of every type of argument');
is($node->safe_psql('postgres', "SELECT count(*) FROM romancy.t_instance WHERE error ->> 'sqlstate' LIKE 'XX%' AND error ->> 'message' NOT IN ('a')"), '0', 'no instance has one') unless $dead;
my @left = grep { !$called{$_->{name}} } @functions;
is(join(' ', map { $_->{name} } @left), '', 'every function was called') if $seconds >= 60;
$node->stop('immediate');
done_testing();
