# A session whose call meets DROP EXTENSION of another session: the call waits for that transaction, and then gets an ordinary error, whatever
# it was about to do; after CREATE EXTENSION the same session works again. It would catch an internal error (XX000) or a crash.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('dropped', 'romancy.enabled' => 'off');
my $db = 'postgres';
sub sql { return $node->safe_psql('postgres', $_[0]) }

my $setup = q{
	SELECT romancy.define_activity('work', queue => 'q'), romancy.define_workflow('outside', queue => 'q');
	SELECT romancy.start_workflow('flow', '1'), romancy.start_workflow('waits'), romancy.start_workflow('outside');
	CALL romancy.drain()};
sql(q{
	CREATE FUNCTION flow(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('work', i); END $$;
	CREATE FUNCTION waits(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.subscribe('c'); RETURN to_jsonb(romancy.receive('c')); END $$;
});

# (not metrics(): the server itself raises XX000 for a function whose body is SQL before that runs, and so where it first meets the row type of a result)
my @calls = (
	q{SELECT romancy.start_workflow('flow', '2')},
	q{SELECT count(*) FROM romancy.start_workflows('flow', ARRAY['1', '2']::jsonb[])},
	q{SELECT romancy.start_workflow('flow', '2', idempotency_key => 'k')},
	q{SELECT romancy.publish('c', '1')},
	q{SELECT romancy.send_to(:'id', 'c', '1')},
	q{SELECT romancy.raise_event('t', 's')},
	q{SELECT romancy.send_event('t', 's')},
	q{SELECT romancy.cancel_workflow(:'id')},
	q{SELECT romancy.pause_workflow(:'id')},
	q{SELECT romancy.get_result(:'id')},
	q{SELECT * FROM romancy.get_history(:'id')},
	q{SELECT * FROM romancy.list_instances()},
	q{SELECT count(*) FROM romancy.instances},
	q{SELECT count(*) FROM romancy.waiting},
	q{SELECT * FROM romancy.fetch_activities('q', 'w')},
	q{SELECT * FROM romancy.fetch_workflows('q', 'w')},
	q{SELECT romancy.complete_activity(:'token')},
	q{CALL romancy.poll_activities('q', 'w', wait => '1 hour')},
	q{CALL romancy.drain()},
	q{CALL romancy.await_result(:'id')},
	q{CALL romancy.run_workflow('flow', '1', timeout => '1 hour')},
	q{SELECT romancy.define_activity('other', queue => 'q')},
	q{SELECT romancy.define_workflow('other', 'flow')},
	q{SELECT romancy.schedule('s', '@hourly', 'flow')},
	q{SELECT romancy.set_queue('q', max_concurrency => 1)},
	q{SELECT romancy.run_sweep('timers')},
	q{SELECT romancy.run_sweep('retention')},
	q{SELECT romancy.run_canvas(romancy.task('work'))},
	q{SELECT romancy.get_progress(:'id')},
	q{SELECT romancy.timeline(:'id')},
	q{SELECT romancy.spans(:'id')},
	q{SELECT romancy.health()},
	q{SELECT romancy.delete_workflow(:'id')},
	q{SELECT romancy.grant_usage('dropped_role')});
sql('CREATE ROLE dropped_role');

# the session of the calls knows the extension from before: what it keeps (oids, plans, descriptions of tables) is stale afterwards
my $caller = $node->background_psql('postgres', on_error_stop => 0);
my $dropper = $node->background_psql('postgres', on_error_stop => 0);
$_->query_safe('SET client_min_messages = error') for $caller, $dropper;
my %state;
for my $call (@calls)
{
	$caller->query_safe($setup);
	$caller->query_safe(q{SELECT instance_id AS id FROM romancy.instances WHERE workflow = 'waits' LIMIT 1 \gset});
	$caller->query_safe(q{SELECT count(*) FROM romancy.fetch_workflows('none', 'w')});
	$caller->query_safe(q{SELECT token FROM romancy.fetch_activities('q', 'w') LIMIT 1 \gset});
	my $pid = $caller->query_safe('SELECT pg_backend_pid()');
	$dropper->query_safe('BEGIN; DROP EXTENSION romancy CASCADE');
	my $done = "$pid done";
	$caller->query_until(qr/begun/, "\\echo begun\n$call;\n\\echo $done :SQLSTATE\n");
	poll_until($node, "SELECT cardinality(pg_blocking_pids($pid)) > 0", "$call waits");
	$dropper->query_safe('COMMIT');
	my $out = $caller->query_until(qr/\Q$done\E \w+/, '');
	my ($sqlstate) = $out =~ /\Q$done\E (\w+)/;
	$state{$sqlstate}++;
	unlike($sqlstate, qr/^(?:XX|00000)/, "$call: an ordinary error");
	$caller->{stderr} = '';
	$dropper->query_safe('CREATE EXTENSION romancy');
}
diag(join ', ', map { "$_: $state{$_}" } sort keys %state);
is($caller->query_safe(q{SELECT count(*) FROM romancy.instances}), '0', 'the session goes on with the new extension');
unlike(slurp_file($node->logfile), qr/ERROR:  XX000|could not open relation|cache lookup failed|TRAP|PANIC/, 'nor is there an internal error in the log');
$caller->quit;
$dropper->quit;
$node->stop;
done_testing();
