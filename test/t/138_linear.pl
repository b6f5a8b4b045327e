# The thousandth step, and the thousandth task of a chain, cost what the tenth does: record_activity, record and suspend_timer read as many
# pages, and the rows of a chain's tasks stay as small; so does the thousandth compensation of a saga, in processor time. A session remembers no more of a history than was committed:
# after a rollback, a savepoint's, too, another session's steps and a retry, record() and record_activity find what is
# there. A long chain with an on_error that fails halfway hands its signature to the on_error, continues from there by retry_workflow, also after a kill and a
# restart, and leaves no row behind. It would catch a search of the whole history at each step or each compensation, the rest of a chain in each
# row, and a step that is taken for recorded, or for new, since its transaction was rolled back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = romancy_node('linear', 'autovacuum' => 'off', 'romancy.resumption_interval' => '1s');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# new_program(): starts an instance of a workflow whose code is a program, and claims it; its token and id
sub new_program
{
	my $id = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('prog')});
	poll_until($node, "SELECT EXISTS (SELECT FROM romancy.t_task WHERE instance_id = '$id' AND state = 0)", 'a program can have it');
	my $token = $node->safe_psql('postgres', q{SELECT token FROM romancy.fetch_workflows('prog_q', 'w', 1, '1 h')});
	return ($token, $id);
}

# pages($session, $sql): how many pages a statement reads
sub pages
{
	my ($session, $sql) = @_;
	my $plan = $session->query_safe("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) $sql");
	my ($hit) = $plan =~ /shared hit=(\d+)/;
	my ($read) = $plan =~ /read=(\d+)/;
	return ($hit // 0) + ($read // 0);
}

$node->safe_psql('postgres', q{
	SELECT romancy.define_workflow('prog', queue => 'prog_q');
	CREATE TABLE switch (broken boolean);
	INSERT INTO switch VALUES (true);
	CREATE TABLE told (n int);
	CREATE FUNCTION inc(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(coalesce((i ->> 'previous')::int, 0) + 1); END $$;
	CREATE FUNCTION break(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT broken FROM switch) THEN RAISE EXCEPTION 'broken'; END IF;
		RETURN inc(i);
	END $$;
	CREATE FUNCTION tell(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO told VALUES (jsonb_array_length(i -> 'signature' -> 'chain'));
		RETURN NULL;
	END $$;
	SELECT romancy.define_activity('break', 'break(jsonb)', retry => '{"max_attempts": 1}');
});

# A queue with keys: the entries of tasks that have ended are passed without a look at their rows
$node->safe_psql('postgres', q{
	SELECT romancy.define_activity('keyed', queue => 'keyed');
	SELECT romancy.set_queue('keyed', per_key => 'k');
	SELECT romancy.run_canvas(romancy.group(VARIADIC ARRAY(SELECT romancy.task('keyed', '{"k": 1}') FROM generate_series(1, 1000))));
});
poll_until($node, q{SELECT count(*) FROM romancy.t_task WHERE queue LIKE '%keyed'}, 'a thousand tasks with one key', expected => 1000);
{
	my $worker = $node->background_psql('postgres');
	my $claim = q{SELECT romancy.complete_activity(token, '1') FROM romancy.fetch_activities('keyed', 'w', 1, '1 h')};
	my $some = sub { my ($n) = @_; return qq{DO \$\$ BEGIN FOR i IN 1 .. $n LOOP PERFORM romancy.complete_activity(token, '1') FROM romancy.fetch_activities('keyed', 'w', 1, '1 h'); COMMIT; END LOOP; END \$\$} };
	# how many entries of the index a claim is given
	my $entries = sub {
		my $read = q{SELECT pg_stat_get_xact_tuples_returned('romancy.t_task_keyed'::regclass)};
		my ($before, undef, $after) = split /\n/, $worker->query_safe("BEGIN; $read; $claim; $read; COMMIT");
		return $after - $before;
	};
	$worker->query_safe($some->(20));
	my $early = $entries->();
	$worker->query_safe($some->(900));
	# (an entry is marked by a claim when no session's snapshot sees its task any more: of some claims, one follows such a claim)
	my $late = $entries->();
	for (1 .. 40)
	{
		last if $late <= $early + 25;
		usleep(100_000);
		my $n = $entries->();
		$late = $n if $n < $late;
	}
	cmp_ok($late, '<=', $early + 25, "claims after the 921st are given about as many entries of the index as the 21st ($late, $early)");
	$worker->quit;
}

# Steps
my ($token, $id) = new_program();
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $of = sub { my ($n, $result) = @_; return "SELECT romancy.record_activity('$token', 's:$n', 'act', '$n', '" . ($result // $n) . "')" };
$session->query_safe(qq{SELECT count(*) FROM (SELECT romancy.record_activity('$token', 's:' || i, 'act', to_jsonb(i), to_jsonb(i)) FROM generate_series(1, 10) i) x});
my $few = pages($session, $of->(11));
$session->query_safe(qq{DO \$\$ BEGIN FOR i IN 12 .. 4000 LOOP PERFORM romancy.record_activity('$token', 's:' || i, 'act', to_jsonb(i), to_jsonb(i)); COMMIT; END LOOP; END \$\$});
$session->query_safe($of->(4001));
my $many = pages($session, $of->(4002));
cmp_ok($many, '<=', $few + 10, "step 4,002 reads about as many pages as step 11 ($many, $few)");

# the same for record() and suspend_timer(), of two other instances
my %read;
# (the first makes the plans)
for my $steps (20, 10, 4000)
{
	my ($other) = new_program();
	my $record = sub { my ($from, $to) = @_; return qq{SELECT romancy.record('$other', (SELECT jsonb_agg(jsonb_build_object('op', 'activity', 'id', 'r:' || i, 'name', 'act', 'input', i, 'result', i)) FROM generate_series($from, $to) i))} };
	my $suspend = qq{SELECT romancy.suspend_timer('$other', 'sleep:1', now() + interval '1 h')};
	$session->query_safe($record->($_, $_ + 9)) for map { 10 * $_ + 1 } 0 .. $steps / 10 - 1;
	$read{record}{$steps} = pages($session, $record->($steps + 1, $steps + 1));
	$read{suspend_timer}{$steps} = pages($session, $suspend);
}
cmp_ok($read{$_}{4000}, '<=', $read{$_}{10} + 10, "$_() of step 4,001 reads about as many pages as of step 11 ($read{$_}{4000}, $read{$_}{10})") for sort keys %read;

my $held = 'is used twice';
my $again = sub { my ($n) = @_; my ($rc, undef, $err) = $node->psql('postgres', $of->($n)); return $err };
like($again->(7), qr/$held/, 'another session finds a step');
$session->query($of->(4000));
like($session->{stderr}, qr/$held/, 'and so does this one');
$session->{stderr} = '';
$session->query_safe('BEGIN; ' . $of->(5001) . '; SAVEPOINT a; ' . $of->(5002) . '; ROLLBACK TO a; ' . $of->(5002) . '; ROLLBACK;');
is($node->safe_psql('postgres', $of->(5001) . '; ' . $of->(5002)), "\n", 'rolled back, the steps are new to another session');
for my $n (5001, 5002)
{
	$session->query($of->($n));
	like($session->{stderr}, qr/$held/, "that it recorded $n this one finds");
	$session->{stderr} = '';
}
$session->query_safe('BEGIN; ' . $of->(5003) . '; ROLLBACK;');
$session->query_safe($of->(5003));
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT activity_id) FROM romancy.t_history h, unnest(romancy.t_events_unpack(h.events)) e(kind, activity_id, name, input, result, detail, at) WHERE instance_id = '$id' AND activity_id LIKE 's:%'"),
	'4005|4005', 'each step is there once');
$session->query_safe(qq{SELECT romancy.record('$token', '[{"op": "activity", "id": "s:4000", "name": "act", "input": 4000, "result": 0}, {"op": "activity", "id": "t:1", "name": "act", "result": 1}]')});
is($node->safe_psql('postgres', "SELECT last_seq - (SELECT count(*) FROM romancy.t_history h, unnest(romancy.t_events_unpack(h.events)) WHERE h.instance_id = i.instance_id) FROM romancy.t_instance i WHERE instance_id = '$id'"), '0', 'record() adds what is missing');
$session->query_safe(qq{SELECT romancy.fail_workflow('$token', 'no', 'X')});
poll_until($node, "SELECT status = 'failed' FROM romancy.instances WHERE instance_id = '$id'", 'it failed');
$node->safe_psql('postgres', "SELECT romancy.retry_workflow('$id')");
poll_until($node, "SELECT EXISTS (SELECT FROM romancy.t_task WHERE instance_id = '$id' AND state = 0)", 'a program can have it again');
$token = $session->query_safe(q{SELECT token FROM romancy.fetch_workflows('prog_q', 'w', 1, '1 h')});
$session->query($of->(4000));
like($session->{stderr}, qr/$held/, 'what succeeded before the retry is there');
$session->quit;

# A saga, in a session whose processor time is read
sql(q{
	CREATE SEQUENCE undone;
	CREATE FUNCTION undo(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN nextval('undone'); END $$;
	CREATE FUNCTION saga(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		FOR n IN 1 .. i::int LOOP PERFORM romancy.register_compensation('undo', i); END LOOP;
		PERFORM romancy.receive('never');
		RETURN NULL;
	END $$});
my %spent;
for my $n (1000, 4000)
{
	my $saga = sql("SELECT romancy.start_workflow('saga', '$n')");
	poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$saga'", "a saga of $n waits", expected => 'waiting_for_message');
	sql(q{ALTER SYSTEM SET romancy.enabled = off});
	$node->reload;
	poll_until($node, q{SELECT count(*) FROM romancy.workers WHERE kind = 'executor'}, 'no executor', expected => '0');
	sql("SELECT setval('undone', 1, false); SELECT romancy.cancel_workflow('$saga')");
	my $drain = $node->background_psql('postgres');
	my $pid = $drain->query_safe('SELECT pg_backend_pid()');
	my $ticks = sub { my @stat = split ' ', slurp_file("/proc/$pid/stat") =~ s/^.*\) //r; return $stat[11] + $stat[12] };
	my $before = $ticks->();
	$drain->query_safe('CALL romancy.drain()');
	$spent{$n} = $ticks->() - $before;
	$drain->quit;
	is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$saga'") . ' ' . sql('SELECT last_value FROM undone'), "cancelled $n", "$n compensations ran");
	sql(q{ALTER SYSTEM RESET romancy.enabled});
	$node->reload;
}
cmp_ok($spent{4000}, '<', 6 * $spent{1000} + 10, "four times the compensations take about four times the processor's time ($spent{4000}, $spent{1000} ticks)");

# A chain
my $n = 400;
my $chain = $node->safe_psql('postgres', qq{SELECT romancy.run_canvas(romancy.options(romancy.chain(VARIADIC array(
	SELECT romancy.task(CASE i WHEN 300 THEN 'break' ELSE 'inc' END, jsonb_build_object('x', md5(i::text))) FROM generate_series(1, $n) i)), on_error => romancy.task('tell')))});
poll_until($node, "SELECT status = 'failed' FROM romancy.instances WHERE instance_id = '$chain'", 'the chain failed halfway');
is($node->safe_psql('postgres', 'SELECT * FROM told'), $n, 'its on_error got the whole signature');
cmp_ok($node->safe_psql('postgres', "SELECT max(pg_column_size(next)) FROM romancy.t_task WHERE instance_id = '$chain'"), '<', 1000, 'its dead task carries no copy of the rest');
$node->kill9;
start_again($node);
$node->safe_psql('postgres', "UPDATE switch SET broken = false; SELECT romancy.retry_workflow('$chain')");
poll_until($node, "SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$chain'", 'it continues from there');
is($node->safe_psql('postgres', "SELECT romancy.get_result('$chain')"), $n, 'with the result before');
is($node->safe_psql('postgres', "SELECT count(*) FROM romancy.t_canvas_result WHERE instance_id = '$chain' AND is_task"), $n, 'each task ran once');
is($node->safe_psql('postgres', 'SELECT count(*) FROM romancy.t_canvas_chain'), 0, 'and no row of the chain is left');

$node->stop;
done_testing();
