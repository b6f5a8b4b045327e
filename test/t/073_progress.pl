# await_progress: one blocking call per change. It returns at once when the progress differs from since, waits
# without a transaction while it does not, is woken by set_progress of a running activity, by the end of a
# canvas's task and by the end of the instance, and gives the progress as it is at its timeout. Results that
# expire: run_canvas(result_expires).
# It would catch a wait that polls, and a change that is not reported.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('progress', 'romancy.retention_interval' => '1h');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub await_now { return sql("CALL romancy.await_progress('$_[0]', $_[1])") }
sub field { my ($json, $key) = @_; return sql("SELECT '$json'::jsonb ->> '$key'") }

# waits in a session of its own; returns what ends the wait
sub wait_for_change
{
	my ($id, $since, $change, $what) = @_;
	my $s = $node->background_psql('postgres');
	$s->query_until(qr/waits/, "\\echo waits\nCALL romancy.await_progress('$id', '$since', '1 h');\n");
	poll_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL romancy.await_progress%' AND state = 'active'
		AND wait_event_type = 'Extension' AND backend_xmin IS NULL}, "$what: the call waits, without a snapshot");
	$change->();
	my $out = $s->query('SELECT 1');
	$s->quit;
	return $out =~ /(\{.*\})/ ? $1 : "nothing in: $out";
}

sql(q{
	SELECT romancy.define_activity('ext', queue => 'pq');
	CREATE FUNCTION steps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.set_progress(1, 4, 'begun'); PERFORM romancy.receive('go'); PERFORM romancy.set_progress(2, 4); PERFORM romancy.receive('go'); RETURN i; END $$;
});

# of a canvas
my $id = sql(q{SELECT romancy.run_canvas(romancy.group(romancy.task('ext', '1'), romancy.task('ext', '2')), result_expires => '1 ms')});
poll_until($node, q{SELECT ready = 2 FROM romancy.queues WHERE name = 'pq'}, 'two tasks are ready');
my $p = await_now($id, 'NULL');
is($p, '{"note": null, "total": 2, "failed": 0, "percent": 0.00, "running": 0, "finished": false, "completed": 0}', 'without since it returns at once');
is(await_now($id, q{'{"completed": 7}'}), $p, 'also when since differs');
is(await_now($id, "'$p', '10 ms'"), $p, 'at the timeout it gives the progress as it is');
is(await_now($id, q{'{"colour": "red"}', '10 ms'}), $p, 'keys that it does not know do not count');
$p = wait_for_change($id, $p, sub { sql(q{SELECT romancy.complete_activity(token, '1') FROM romancy.fetch_activities('pq', 'w')}) }, 'the end of a task');
is(field($p, 'completed'), '1', 'is a change');
$p = wait_for_change($id, '{"finished": false}', sub { sql(q{SELECT romancy.complete_activity(token, '2') FROM romancy.fetch_activities('pq', 'w')}) }, 'the end of the whole');
is(field($p, 'finished'), 'true', 'is one, and says so');
is(await_now($id, "'$p'"), $p, 'what is over is not waited for');

# its result expires, as run_canvas was told
is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'completed', 'the canvas has completed');
poll_until(sub { sql(q{SELECT romancy.run_sweep('retention')}); sql("SELECT output IS NULL FROM romancy.instances WHERE instance_id = '$id'") eq 't' }, 'its result expires');
my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT romancy.get_result('$id')");
like($err, qr/RM010/, 'get_result says that it has');

# of a handler
$id = sql(q{SELECT romancy.start_workflow('steps', '1')});
poll_until($node, "SELECT status = 'waiting_for_message' FROM romancy.instances WHERE instance_id = '$id'", 'a workflow waits');
$p = await_now($id, 'NULL');
is(sql("SELECT completed, total, percent, note FROM romancy.get_progress('$id')"), '1|4|25.00|begun', 'it has told how far it is');
$p = wait_for_change($id, $p, sub { sql("SELECT romancy.send_to('$id', 'go')") }, 'set_progress');
is(field($p, 'completed'), '2', 'is a change');
$p = wait_for_change($id, '{"finished": false}', sub { sql("SELECT romancy.send_to('$id', 'go')") }, 'its end');
is(field($p, 'finished'), 'true', 'is one');

# of no instance
($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nCALL romancy.await_progress('00000000-0000-0000-0000-000000000000')");
like($err, qr/RM002/, 'an unknown instance');
done_testing();
