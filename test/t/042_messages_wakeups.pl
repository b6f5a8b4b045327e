# With every sweep at an hour, messages arrive at once, also where a wake-up went to
# somebody who could not use it: a competitor that is busy with a long job, one that is paused,
# a receiver that was woken before a restart, a publisher that prepared its transaction.
use strict;
use warnings;
use RomancyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %hour = map { ("romancy.${_}_interval" => '1h') }
	qw(timer message_timeout message_check lock_cleanup resumption activity_timeout
	channel_cleanup retention schedule outbox);
my $node = romancy_node('wakeups', %hour, 'romancy.executors' => 3, 'romancy.max_workers' => 6,
	max_worker_processes => 16, max_prepared_transactions => 5, 'romancy.message_retention' => '1s');

$node->safe_psql('postgres', q{
create function job(input jsonb) returns jsonb language plpgsql as $$
begin perform pg_advisory_xact_lock_shared(42) where (input->>'long')::boolean; return null; end $$;
create function worker(input jsonb) returns jsonb language plpgsql as $$
declare m romancy.message; n int := 0;
begin
	perform romancy.subscribe('jobs', 'competing');
	loop
		m := romancy.receive('jobs');
		exit when m.data ? 'stop';
		perform romancy.activity('job', m.data);
		n := n + 1;
	end loop;
	return to_jsonb(n);
end $$;
create function listener(input jsonb) returns jsonb language plpgsql as $$
declare m romancy.message;
begin
	perform romancy.subscribe('news');
	m := romancy.receive('news', (input->>'timeout')::interval);
	return m.data;
exception when sqlstate 'RM006' then return '"timeout"';
end $$;
});
sub query { return $node->safe_psql('postgres', $_[0]); }
my $received = q{from romancy.instances i, romancy.get_history(i.instance_id) h where h.event_type = 'ChannelMessageReceived'};

# a busy competitor does not keep a message from an idle one
query(q{select romancy.start_workflow('worker') from generate_series(1, 3)});
poll_until($node, q{select waiting = 3 from romancy.channels where channel = 'jobs'}, 'three workers wait');
for my $round (1 .. 4)
{
	my $session = $node->background_psql('postgres');
	$session->query_safe('select pg_advisory_lock(42)');
	query(q{select romancy.publish('jobs', '{"long": true}')});
	query(q{select romancy.publish('jobs', '{"long": false}')}) for 1 .. 3;
	poll_until($node, "select count(*) = 3 * $round $received and h.seq > 0 and (select count(*) from romancy.get_history(i.instance_id) a
		where a.event_type = 'ActivityCompleted' and a.data->'input'->>'long' = 'false') > 0"
		. " and exists (select from romancy.get_history(i.instance_id) a where a.seq = h.seq + 1 and a.data->'input'->>'long' = 'false')",
		"round $round: the quick jobs are done while the long one runs");
	$session->quit;
	poll_until($node, "select count(*) = 4 * $round $received", 'and that one too');
}

# a paused competitor passes the message on
query(q{select romancy.pause_workflow(instance_id) from (select instance_id from romancy.instances where workflow = 'worker' limit 2) w});
poll_until($node, q{select count(*) = 2 from romancy.instances where status = 'paused'}, 'two are paused');
query(q{select romancy.publish('jobs', '{"long": false}')}) for 1 .. 5;
poll_until($node, "select count(*) = 21 $received", 'the third gets them');

# after a restart shared memory is empty
query(q{select romancy.start_workflow('listener', '{}') from generate_series(1, 3)});
poll_until($node, q{select waiting = 3 from romancy.channels where channel = 'news'}, 'listeners wait');
$node->restart;
query(q{select romancy.publish('news', '1')});
poll_until($node, q{select count(*) = 3 from romancy.instances where workflow = 'listener' and output = '1'}, 'woken after a restart');

# published, and the server dies before anybody is woken
query(q{select romancy.start_workflow('listener', '{}') from generate_series(1, 3)});
poll_until($node, q{select waiting = 3 from romancy.channels where channel = 'news'}, 'listeners wait');
$node->append_conf('postgresql.conf', 'romancy.enabled = off');
$node->restart;
query(q{select romancy.publish('news', '2')});
$node->stop('immediate');
$node->append_conf('postgresql.conf', 'romancy.enabled = on');
$node->start;
poll_until($node, q{select count(*) = 3 from romancy.instances where workflow = 'listener' and output = '2'}, 'found after a crash');

# and many more than a batch of the sweep that looks at all who wait
$node->append_conf('postgresql.conf', "romancy.sweep_batch_size = 1");
$node->restart;
query(q{select romancy.start_workflow('listener', '{}') from generate_series(1, 40)});
poll_until($node, q{select waiting = 40 from romancy.channels where channel = 'news'}, 'listeners wait');
$node->append_conf('postgresql.conf', 'romancy.enabled = off');
$node->restart;
query(q{select romancy.publish('news', '"many"')});
$node->stop('immediate');
$node->append_conf('postgresql.conf', 'romancy.enabled = on');
$node->start;
poll_until($node, q{select count(*) = 40 from romancy.instances where workflow = 'listener' and output = '"many"'}, 'found after a crash, batch after batch');
$node->append_conf('postgresql.conf', "romancy.sweep_batch_size = 100");
$node->restart;

# two-phase commit drops the notes of a transaction
query(q{select romancy.start_workflow('listener', '{}') from generate_series(1, 2)});
poll_until($node, q{select waiting = 2 from romancy.channels where channel = 'news'}, 'listeners wait');
query(q{begin; select romancy.publish('news', '3'); prepare transaction 'p'});
query(q{commit prepared 'p'});
poll_until($node, q{select count(*) = 2 from romancy.instances where workflow = 'listener' and output = '3'}, 'woken by COMMIT PREPARED');

# the timeout is exact as well
query(q{select romancy.start_workflow('listener', '{"timeout": "300ms"}')});
poll_until($node, q{select count(*) = 1 from romancy.instances where workflow = 'listener' and output = '"timeout"'}, 'timeout');

# the sweeps do what is left to them
query(q{select romancy.publish('nobody', '1')});
query(q{select pg_sleep(1.1)});
cmp_ok(query(q{select romancy.run_sweep('channel_cleanup')}), '>', 0, 'channel_cleanup');
query(q{select romancy.run_sweep('channel_cleanup')});
is(query(q{select count(*) from romancy.t_message where kind <> 'd'}), 0, 'retention: nothing is kept for nobody');
like(query(q{select romancy.run_sweep('messages')}), qr/^\d+$/, 'messages');
like(query(q{select romancy.run_sweep('message_timeouts')}), qr/^\d+$/, 'message_timeouts');
$node->stop;
done_testing();
