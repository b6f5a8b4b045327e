# Messages under stress, with every sweep at an hour: publishers that roll
# back, keep their transaction open or are killed, hundreds of subscribers, and
# executors killed on the way, by a signal that they obey and by SIGKILL, after which
# the server recovers from a crash. Every committed message is received by each of
# its receivers exactly once, and none else is. It would catch a lost wake-up, a delivery that is
# done twice or half-way, and one skipped because it committed late.
use strict;
use warnings;
use RomancyTest;
use PostgreSQL::Test::Utils;
use Test::More;
use IPC::Run qw(start finish);
use Time::HiRes qw(usleep time);

my %hour = map { ("romancy.${_}_interval" => '1h') }
	qw(timer message_timeout message_check lock_cleanup resumption activity_timeout
	channel_cleanup retention schedule outbox);
my $node = romancy_node('stress', %hour, 'romancy.executors' => 3, 'romancy.max_workers' => 6,
	max_worker_processes => 16, max_connections => 60, 'romancy.worker_idle_timeout' => '60s', restart_after_crash => 'on');

my ($broadcast, $competing, $direct) = (120, 60, 60);

$node->safe_psql('postgres', q{
create table sent (kind text, message_id bigint primary key, target uuid);
create function listen(input jsonb) returns jsonb language plpgsql as $$
declare m romancy.message; n int := 0;
begin
	if input->>'mode' <> 'direct' then
		perform romancy.subscribe(input->>'channel', input->>'mode');
	end if;
	loop
		m := romancy.receive(input->>'channel');
		exit when m.data = '"stop"';
		n := n + 1;
	end loop;
	return to_jsonb(n);
end $$;
create function send_one() returns void language plpgsql as $$
declare r float := random(); t uuid;
begin
	if r < 0.25 then
		insert into sent values ('broadcast', romancy.publish('news', to_jsonb(r)));
	elsif r < 0.65 then
		insert into sent values ('competing', romancy.publish('jobs', to_jsonb(r)));
	else
		select instance_id into t from targets offset floor(random() * (select count(*) from targets)) limit 1;
		insert into sent values ('direct', romancy.send_to(t, 'mail', to_jsonb(r)), t);
	end if;
end $$;
create table listeners as
	select 'broadcast' as kind, romancy.start_workflow('listen', '{"channel": "news", "mode": "broadcast"}') as instance_id
	from generate_series(1, } . $broadcast . q{)
	union all
	select 'competing', romancy.start_workflow('listen', '{"channel": "jobs", "mode": "competing"}')
	from generate_series(1, } . $competing . q{);
create table targets as
	select romancy.start_workflow('listen', '{"channel": "mail", "mode": "direct"}') as instance_id
	from generate_series(1, } . $direct . q{);
});
poll_until($node, "select count(*) = $broadcast + $competing + $direct from romancy.waiting where kind = 'message'",
	'all listeners wait');

my $dir = $node->basedir;
sub script
{
	my ($name, $text) = @_;
	append_to_file("$dir/$name.sql", $text);
	return "$dir/$name.sql";
}
my $mixed = script('mixed', q{
\set r random(1, 10)
begin;
select send_one();
\if :r = 1
rollback;
\elif :r = 2
select pg_sleep(0.03);
select send_one();
commit;
\elif :r = 3
savepoint a;
select send_one();
rollback to a;
commit;
\else
commit;
\endif
});
my $repeatable = script('repeatable', q{
begin isolation level repeatable read;
select 1;
\sleep 5 ms
select send_one();
commit;
});
my $victim = script('victim', q{
begin;
select send_one();
select pg_sleep(0.2);
commit;
});

sub pgbench
{
	my ($app, @args) = @_;
	my ($out, $err) = ('', '');
	return start([ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-U', 'postgres', @args, 'postgres' ],
		'>', \$out, '2>', \$err, init => sub { $ENV{PGAPPNAME} = $app; });
}

my @runs = (pgbench('mixed', '-c', 3, '-t', 45, '-f', $mixed),
	pgbench('repeatable', '-c', 2, '-t', 20, '-f', $repeatable));
for my $round (1 .. 5)
{
	my $v = pgbench('victim', '-c', 3, '-t', 5, '-f', $victim);
	usleep(300_000);
	$node->safe_psql('postgres', q{select pg_terminate_backend(pid) from pg_stat_activity
		where application_name = 'victim' and random() < 0.7});
	$node->safe_psql('postgres', q{select pg_terminate_backend(pid) from pg_stat_activity
		where backend_type = 'romancy executor' limit 1});
	finish $v;
}
finish $_ for @runs;

# The server kills all others where one is killed so: sessions that publish, turns that receive
my $sent = $node->safe_psql('postgres', 'select count(*) from sent');
for my $who (q{application_name = 'victim' and state = 'active'}, q{backend_type = 'romancy executor'}, q{backend_type = 'romancy executor'})
{
	@runs = (pgbench('mixed', '-c', 3, '-T', 600, '-f', $mixed), pgbench('victim', '-c', 3, '-T', 600, '-f', $victim));
	poll_until($node, "select count(*) >= $sent + 20 from sent", 'more are sent');
	poll_until(sub {
			my $pid = $node->safe_psql('postgres', "select pid from pg_stat_activity where $who limit 1");
			return $pid ne '' && kill('KILL', $pid) == 1; }, 'one is killed');
	finish $_ for @runs;
	poll_until($node, 'select true', 'the server is there again');
	$sent = $node->safe_psql('postgres', 'select count(*) from sent');
}
cmp_ok($node->safe_psql('postgres', 'select count(*) from sent'), '>', 100, 'messages were sent');

poll_until($node, q{
select count(*) = (select sum(case kind when 'broadcast' then } . $broadcast . q{ else 1 end) from sent)
from romancy.instances i, romancy.get_history(i.instance_id, page_size => 10000) h
where h.event_type = 'ChannelMessageReceived'}, 'as many are received as were sent');

$node->safe_psql('postgres', q{
create table received as
	select i.instance_id, (h.data->'result'->>'id')::bigint as message_id, h.data->'result'->>'channel' as channel, h.seq
	from romancy.instances i, romancy.get_history(i.instance_id, page_size => 10000) h
	where h.event_type = 'ChannelMessageReceived'});
is($node->safe_psql('postgres', 'select count(*) from (select 1 from received group by instance_id, message_id having count(*) > 1) d'),
	0, 'none is received twice by one');
is($node->safe_psql('postgres', q{select count(*) from (select 1 from received where channel <> 'news' group by message_id having count(*) > 1) d}),
	0, 'competing and direct ones are received by one alone');
is($node->safe_psql('postgres', q{select count(*) from received r left join sent s using (message_id) where s.message_id is null}),
	0, 'what was rolled back is not received');
is($node->safe_psql('postgres', q{select count(*) from sent s join listeners l on l.kind = 'broadcast' and s.kind = 'broadcast'
	left join received r on r.message_id = s.message_id and r.instance_id = l.instance_id where r.message_id is null}),
	0, 'each listener got each broadcast message');
is($node->safe_psql('postgres', q{select count(*) from sent s left join received r using (message_id)
	where s.kind = 'direct' and r.instance_id is distinct from s.target}),
	0, 'direct ones went where they were sent');
cmp_ok($node->safe_psql('postgres', q{select count(distinct instance_id) from received where channel = 'jobs'}), '>', 5,
	'competing ones are spread over the subscribers');

$node->safe_psql('postgres', q{select romancy.publish('news', '"stop"');
	select romancy.publish('jobs', '"stop"') from generate_series(1, } . $competing . q{);
	select romancy.send_to(instance_id, 'mail', '"stop"') from targets});
poll_until($node, q{select count(*) = 0 from romancy.instances where status <> 'completed'}, 'all end when told to');
is($node->safe_psql('postgres', q{select (select count(*) from romancy.t_subscription) || ' ' || (select count(*) from romancy.t_delivery)
	|| ' ' || (select count(*) from romancy.t_message where kind <> 'b')}), '0 0 0', 'nothing is left behind');
$node->stop;
done_testing();
