# Workers of the libraries for Python, TypeScript and Go: activities with errors and
# retries, a workflow written outside, connections that are cut, a graceful stop, a workflow that a worker does not have; and
# examples/hands_on with its count of statements. test/run installs what they need.
# It would catch a worker that dies of what the server refuses, does not come back, or drops the task it has when it is told to stop.
# Takes 45 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancySdk;
use RomancyTest;
use Test::More;

my $examples = "$FindBin::RealBin/../../examples";
my $node = romancy_node('workers', 'romancy.worker_idle_timeout' => '1s', 'max_connections' => 100, 'autovacuum' => 'off');
my $url = sdk_url($node, $ENV{PGUSER} // scalar getpwuid($<));

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub result { return sql("CALL romancy.await_result('$_[0]', '60 s')") }
# where the workers of a kind wait for work
my $polls = q{FROM pg_stat_activity WHERE query LIKE 'call romancy.poll_%' AND state = 'active' AND wait_event_type = 'Extension'};

sql(q{
	SELECT romancy.define_activity('work', queue => 'jobs', retry => '{"initial_interval": "20ms", "max_attempts": 3}');
	SELECT romancy.define_activity('nobody', queue => 'jobs');
	SELECT romancy.define_workflow('greet', queue => 'code');
	-- upper case takes half as much again here
	SELECT romancy.define_activity('upper', queue => 'jobs', retry => '{"max_attempts": 1}');
	CREATE FUNCTION grow(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('upper', to_jsonb(repeat(U&'\0149', 500000))); END $$;
	CREATE FUNCTION one(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity(coalesce(i->>'name', 'work'), i, 'step'); END $$;
});

for my $ext (sdk_languages())
{
	my (@procs, @logs);
	for my $what ([ 'activities', 'jobs' ], [ 'workflows', 'code' ])
	{
		my $log = $node->basedir . "/$what->[0].$ext.log";
		push @logs, $log;
		push @procs, sdk_start($url, $log, sdk_command($ext, 'worker', @$what));
	}
	poll_until($node, "SELECT count(*) = 2 $polls", "$ext: both workers wait for work") or diag(map { slurp_file($_) } @logs);
	is(result(sql(q{SELECT romancy.start_workflow('greet', '{"name": "you", "upper": true}')})), '{"text": "HELLO, YOU"}',
		"$ext: a workflow outside, with an activity outside");
	is(result(sql(q{SELECT romancy.start_workflow('one', '{"n": 1, "fail": 1}')})), '{"n": 1, "attempt": 2}', "$ext: an activity that fails once");
	is(result(sql(q{SELECT romancy.start_workflow('one', '{"name": "careful"}')})), '{"key": "step", "same": true, "begun": 1}', "$ext: what an attempt has left for the next");
	my $id = sql(q{SELECT romancy.start_workflow('one', '{"n": 2, "never": true}')});
	my ($rc, $out, $err) = $node->psql('postgres', "CALL romancy.await_result('$id', '60 s')");
	like($err, qr/this one never works/, "$ext: an error that is not tried again");
	is(sql("SELECT data->'error'->>'code', data ? 'retry' FROM romancy.get_history('$id') WHERE event_type = 'ActivityFailed'"), 'NonRetryable|f', "$ext: it has its name");
	$id = sql(q{SELECT romancy.start_workflow('one', '{"name": "nobody"}')});
	# it is left to others, and no attempt is counted
	poll_until($node, "SELECT count(*) > 0 FROM (SELECT 1 WHERE pg_read_file('$logs[0]') ~ 'nobody') x", "$ext: an activity that the worker does not know is named in its log");
	poll_until($node, "SELECT status = 'ready' AND attempt = 0 FROM romancy.activity_tasks WHERE instance_id = '$id'", "$ext: and given back, in no attempt");
	is(result(sql(q{SELECT romancy.start_workflow('one', '{"n": 3}')})), '{"n": 3, "attempt": 1}', "$ext: the worker gets past it");
	is(sql("SELECT status, attempt FROM romancy.activity_tasks WHERE instance_id = '$id'"), 'ready|0', "$ext: and leaves it alone");
	sql("SELECT romancy.cancel_workflow('$id')");

	# what the server does not take is the activity's error, or the workflow's; no worker dies of it
	$id = sql(q{SELECT romancy.start_workflow('grow')});
	($rc, $out, $err) = $node->psql('postgres', "CALL romancy.await_result('$id', '60 s')");
	like($err, qr/payload "result" is too large/, "$ext: a result that is too large");
	$id = sql(q{SELECT romancy.start_workflow('greet', jsonb_build_object('name', repeat('x', 1048576 - pg_column_size('{"name": ""}'::jsonb))))});
	($rc, $out, $err) = $node->psql('postgres', "CALL romancy.await_result('$id', '60 s')");
	like($err, qr/payload "output" is too large/, "$ext: an output that is too large");

	# their connections are cut while they wait: they come back
	poll_until($node, "SELECT count(*) = 2 $polls", "$ext: both workers wait");
	is(sql("SELECT count(pg_terminate_backend(pid)) $polls"), '2', "$ext: their connections are cut");
	is(result(sql(q{SELECT romancy.start_workflow('greet', '{"name": "me", "upper": true}')})), '{"text": "HELLO, ME"}', "$ext: they connect again");
	poll_until($node, "SELECT count(*) = 2 $polls", "$ext: both workers wait again");

	# a workflow that this worker does not have is left to another, and not kept from it until the lease of a minute ends
	sql(q{SELECT romancy.define_workflow('of_another', queue => 'code')});
	$id = sql(q{SELECT romancy.start_workflow('of_another')});
	poll_until($node, "SELECT count(*) > 0 FROM romancy.pollers WHERE kind = 'workflows' AND queue = 'code' AND passes_over > 0", "$ext: a workflow that it does not have is passed over");
	is(sql("SELECT attempt, state FROM romancy.t_task WHERE instance_id = '$id'"), '0|0', "$ext: it was given back, in no attempt");
	is(result(sql(q{SELECT romancy.start_workflow('greet', '{"name": "you", "upper": true}')})), '{"text": "HELLO, YOU"}', "$ext: it gets past that");
	is(sql("SELECT attempt, state FROM romancy.t_task WHERE instance_id = '$id'"), '0|0', "$ext: and does not take it again");
	sql("SELECT romancy.cancel_workflow('$id')");

	is(sdk_stop(@procs), 'ended ended', "$ext: they stop when asked, in peace")
	  or diag(map { slurp_file($_) } @logs);
	poll_until($node, "SELECT count(*) = 0 $polls", "$ext: and nothing of them is left");
}

# one task wakes one of those who wait, not all
sql(q{SELECT romancy.define_activity('quick', queue => 'quiet')});
my @idle = map { IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', "call romancy.poll_activities('quiet', 'w$_', wait => '1h')" ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null') } 1 .. 10;
poll_until($node, "SELECT count(*) = 10 $polls", 'ten programs wait');
sql(q{SELECT romancy.run_canvas(romancy.task('quick'))});
poll_until($node, "SELECT count(*) = 9 $polls", 'one task wakes one of them');
$_->kill_kill for @idle;

local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
my $out = qx{$examples/hands_on/run.sh 2>&1};
like($out, qr/project: done, 62 results/, 'the hands-on project is done');
my ($statements) = $out =~ /^statements: (\d+)/m;
cmp_ok($statements // 99999, '<', 400, 'for less than 400 statements') or diag($out);
like($out, qr/^transactions in 5 seconds of waiting: 0$/m, 'and none while waiting') or diag($out);
done_testing();
