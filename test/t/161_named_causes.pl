# The first look at work that stands still: view waiting, health() and the timeout of await_result name the cause and what to do, for a queue that
# is paused or limited. It would catch an operator who is sent after a program that polls, while the queue is paused.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('causes', 'romancy.worker_idle_timeout' => '0');
$node->safe_psql('postgres', q{
	CREATE FUNCTION calls(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity(i #>> '{}'); END $$;
	CREATE FUNCTION sleeps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.spawn(i #>> '{}'), romancy.sleep('1 day'); RETURN i; END $$;
	SELECT romancy.define_activity('stopped', queue => 'stopped'), romancy.define_activity('slow', queue => 'slow'), romancy.define_workflow('outside', queue => 'coded');
	SELECT romancy.pause_queue('stopped'), romancy.pause_queue('coded'), romancy.set_queue('slow', max_concurrency => 1, rate_limit => '1/h', per_key => 'customer');
});
sub row { return $node->safe_psql('postgres', $_[0]) }
sub said
{
	my ($sql) = @_;
	my ($out, $err) = ('', '');
	$node->psql('postgres', $sql, stdout => \$out, stderr => \$err, extra_params => ['-v', 'VERBOSITY=verbose']);
	return "$out$err";
}

# a paused queue
my $id = row(q{SELECT romancy.start_workflow('calls', '"stopped"')});
poll_until($node, "SELECT concat_ws(' ', kind, step, name, queue) FROM romancy.waiting WHERE instance_id = '$id'", 'waiting says that the queue is paused', expected => 'paused_queue stopped:1 stopped stopped');
my $says = said("CALL romancy.await_result('$id', '10ms')");
like($says, qr/RM006: timeout.*DETAIL:.* at step "stopped:1" \(paused_queue, queue "stopped"\).* Queue "stopped" is paused: romancy\.resume_queue\./s, 'so does the timeout of await_result');
unlike($says, qr/polls/, 'and nothing of programs');
my $coded = row(q{SELECT romancy.start_workflow('outside')});
poll_until($node, "SELECT concat_ws(' ', kind, step, queue) FROM romancy.waiting WHERE instance_id = '$coded'", 'of code that runs outside, too', expected => 'paused_queue coded');
like(said("CALL romancy.await_result('$coded', '10ms')"), qr/for programs of queue "coded".* Queue "coded" is paused: romancy\.resume_queue\./s, 'likewise');
my $sleeper = row(q{SELECT romancy.start_workflow('sleeps', '"stopped"')});
poll_until($node, "SELECT kind FROM romancy.waiting WHERE instance_id = '$sleeper'", 'what waits for a timer waits for that, whatever else was spawned', expected => 'timer');
row(q{UPDATE romancy.t_task SET created_at = created_at - interval '2 min'});
is(row(q{SELECT a FROM jsonb_array_elements_text(romancy.health() -> 'attention') a ORDER BY 1}), qq{tasks of queue "coded" wait, and it is paused: romancy.resume_queue\ntasks of queue "stopped" wait, and it is paused: romancy.resume_queue}, 'health() tells of them');
row(q{SELECT romancy.resume_queue('stopped')});
is(row("SELECT kind FROM romancy.waiting WHERE instance_id = '$id'"), 'activity', 'resumed, it waits for a program');
is(row(q{SELECT a FROM jsonb_array_elements_text(romancy.health() -> 'attention') a WHERE a LIKE '%stopped%'}), 'tasks of queue "stopped" wait, and no program polls it', 'as health() says');

# a limited one
row(q{SELECT romancy.start_workflow('calls', '"slow"')});
poll_until($node, q{SELECT ready FROM romancy.queues WHERE name = 'slow'}, 'a task is ready', expected => '1');
is(row(q{SELECT count(*) FROM romancy.fetch_activities('slow', 'me', 1)}), '1', 'the first of an hour');
$id = row(q{SELECT romancy.start_workflow('calls', '"slow"')});
poll_until($node, q{SELECT ready FROM romancy.queues WHERE name = 'slow'}, 'the second one waits', expected => '1');
like(said("CALL romancy.await_result('$id', '10ms')"), qr/Queue "slow" is limited to max_concurrency 1 and rate_limit 1\/h for each customer\./, 'for which the timeout names the limits');

done_testing;
