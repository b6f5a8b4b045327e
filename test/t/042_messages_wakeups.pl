# With every sweep at an hour, messages arrive at once, also where a wake-up
# went to a receiver that could not use it: a competitor that is busy with a long job, one that is paused,
# a receiver that was woken before a restart, a publisher that prepared its transaction. So do
# events, the starts of on_event, what was sent before the receiver waits or has begun, messages to a
# group, timeouts, and whichever comes first of a message and a timer.
# It would catch a wake-up that is spent on a receiver that cannot use it.
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

# published, and the server dies before an instance is woken
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

# events: for each who waits, for one alone, and those that start workflows
query(q{
create function payer(input jsonb) returns jsonb language plpgsql as $$
declare e romancy.event;
begin
	e := romancy.wait_event('paid', (input->>'timeout')::interval);
	return e.data;
exception when sqlstate 'RM006' then return '"timeout"';
end $$;
create function welcome(input jsonb) returns jsonb language plpgsql as $$ begin return input; end $$;
select romancy.define_workflow('welcome', 'welcome(jsonb)', on_event => 'came');
});
sub waits { return "select count(*) = $_[1] from romancy.instances where workflow = '$_[0]' and status = 'waiting_for_message'"; }
sub gave { return "select count(*) = $_[2] from romancy.instances where workflow = '$_[0]' and output = '$_[1]'"; }
query(q{select romancy.start_workflow('payer', '{}') from generate_series(1, 3)});
poll_until($node, waits('payer', 3), 'three wait for an event');
query(q{select romancy.raise_event('paid', '/shop', '1', 'e1', instance_id => (select instance_id from romancy.instances where workflow = 'payer' limit 1))});
poll_until($node, gave('payer', 1, 1), 'an event for one of them');
is(query(waits('payer', 2)), 't', 'the others wait on');
query(q{select romancy.handle_cloudevent(jsonb_build_object('specversion', '1.0', 'id', 'e2', 'source', '/shop', 'type', 'paid', 'data', 2, 'romancyinstanceid',
	(select instance_id from romancy.instances where workflow = 'payer' and status = 'waiting_for_message' limit 1))::text)});
poll_until($node, gave('payer', 2, 1), 'one that came by HTTP, with romancyinstanceid');
query(q{select romancy.raise_event('paid', '/shop', '3', 'e3')});
poll_until($node, gave('payer', 3, 1), 'and one for all who wait');
query(q{select romancy.start_workflow('payer', '{"timeout": "300ms"}')});
poll_until($node, gave('payer', '"timeout"', 1), 'timeout of wait_event');
query(q{begin; select romancy.raise_event('paid', '/shop', '4', 'e4', instance_id => romancy.start_workflow('payer', '{}')); commit});
poll_until($node, gave('payer', 4, 1), 'an event for one that has not begun');
query(q{select romancy.raise_event('came', '/door', '"Ann"', 'c1'), romancy.raise_event('came', '/door', '"Ann"', 'c1')});
query(q{begin; select romancy.raise_event('came', '/door', '"Bob"', 'c2'); prepare transaction 'c'});
query(q{commit prepared 'c'});
poll_until($node, gave('welcome', '"Ann"', 1), 'started by on_event, once');
poll_until($node, gave('welcome', '"Bob"', 1), 'and by COMMIT PREPARED');

# sent before the receiver has begun, and while it is busy before it waits
query(q{
create function busy(input jsonb) returns jsonb language plpgsql as $$
declare m romancy.message;
begin
	perform romancy.activity('job', input);
	m := romancy.receive('mail', '1 day');
	return m.data;
end $$;
create function team(input jsonb) returns jsonb language plpgsql as $$
declare m romancy.message;
begin
	perform romancy.join_group('team');
	m := romancy.receive('word');
	return m.data;
end $$;
create function first_of(input jsonb) returns jsonb language plpgsql as $$
declare h text[]; a record;
begin
	h := array[romancy.spawn_receive('call'), romancy.spawn_timer((input->>'timer')::interval)];
	select * into a from romancy.await_any(h, (input->>'timeout')::interval);
	return to_jsonb(a.handle);
exception when sqlstate 'RM006' then return '"timeout"';
end $$;
});
query(q{begin; select romancy.send_to(romancy.start_workflow('busy', '{"long": false}'), 'mail', '"before the start"'); commit});
poll_until($node, gave('busy', '"before the start"', 1), 'sent before the receiver has begun');
query(q{begin; select romancy.send_to(romancy.start_workflow('busy', '{"long": false}', start_at => now() + '300ms'), 'mail', '"before its time"'); commit});
poll_until($node, gave('busy', '"before its time"', 1), 'sent before the time of its start');
{
	my $session = $node->background_psql('postgres');
	$session->query_safe('select pg_advisory_lock(42)');
	my $busy = query(q{select romancy.start_workflow('busy', '{"long": true}')});
	poll_until($node, q{select count(*) = 1 from pg_locks where locktype = 'advisory' and not granted}, 'it is busy');
	query("select romancy.send_to('$busy', 'mail', '\"before the wait\"')");
	$session->quit;
	poll_until($node, gave('busy', '"before the wait"', 1), 'sent before the receiver waits');
}

# to all of a group
query(q{select romancy.start_workflow('team') from generate_series(1, 3)});
poll_until($node, waits('team', 3), 'members wait');
is(query(q{select count(romancy.send_to(m, 'word', '"go"')) from romancy.group_members('team') m}), 3, 'a message to each of a group');
poll_until($node, gave('team', '"go"', 3), 'all got it');
is(query(q{select count(*) from romancy.group_members('team')}), 0, 'and the group is empty');

# what comes first: the message, the timer, the timeout
query(q{select romancy.start_workflow('first_of', '{"timer": "1 day"}') from generate_series(1, 2)});
poll_until($node, q{select count(*) = 2 from romancy.t_subscription where channel = 'call' and spawned > 0}, 'receives are spawned');
query(q{select romancy.send_to(instance_id, 'call') from romancy.instances where workflow = 'first_of'});
poll_until($node, gave('first_of', '"receive_call:1"', 2), 'await_any: the message');
query(q{select romancy.start_workflow('first_of', '{"timer": "300ms"}')});
poll_until($node, gave('first_of', '"spawn_timer:1"', 1), 'await_any: the timer');
query(q{select romancy.start_workflow('first_of', '{"timer": "1 day", "timeout": "300ms"}')});
poll_until($node, gave('first_of', '"timeout"', 1), 'await_any: the timeout');

# the sweeps do what is left to them
query(q{select romancy.publish('nobody', '1'); select romancy.raise_event('came', '/many', '1', 'm' || i) from generate_series(1, 150) i});
poll_until($node, q{select romancy.run_sweep('channel_cleanup') is not null and not exists (select from romancy.t_message where kind <> 'd')
	and not exists (select from romancy.t_received_event)}, 'retention: nothing is kept for nobody, no event that only started workflows, and no id of one');
poll_until($node, gave('welcome', 1, 150), 'each of them started one');
like(query(q{select romancy.run_sweep('messages')}), qr/^\d+$/, 'messages');
like(query(q{select romancy.run_sweep('message_timeouts')}), qr/^\d+$/, 'message_timeouts');
$node->stop;
done_testing();
