# Receivers that recur every few messages, while publishers roll back, keep their transactions
# open over several generations, and retention deletes the old generations at once; with all other
# sweeps at an hour, and executors killed on the way. Every committed message is received by each of its
# receivers exactly once. It would catch a message that goes to a generation which is no
# more, one that is received by two generations, and a wake-up that went to the old one.
use strict;
use warnings;
use RomancyTest;
use PostgreSQL::Test::Utils;
use Test::More;
use IPC::Run qw(start finish);

my %hour = map { ("romancy.${_}_interval" => '1h') }
	qw(timer message_timeout message_check lock_cleanup resumption activity_timeout channel_cleanup schedule outbox);
my $node = romancy_node('recurring', %hour, 'romancy.retention_interval' => '100ms', 'romancy.retry_backoff_max' => '1s', 'romancy.sweep_jitter' => 0, 'romancy.executors' => 3,
	'romancy.max_workers' => 6, max_worker_processes => 16, max_connections => 60, restart_after_crash => 'on');
my $receivers = 8;

$node->safe_psql('postgres', q{
create table sent (kind text, message_id bigint primary key, receiver int);
create table received (receiver int, message_id bigint, generation int);
create function got(jsonb) returns jsonb language plpgsql as $$
begin insert into received values (($1->>'receiver')::int, ($1->>'message')::bigint, ($1->>'generation')::int); return null; end $$;
-- what is broadcast and what is sent to it, whichever comes, in turn
create function listen(input jsonb) returns jsonb language plpgsql as $$
declare m jsonb; g int := coalesce((input->>'generation')::int, 1); news text; mail text; which text;
begin
	perform romancy.subscribe('news');
	news := romancy.spawn_receive('news');
	mail := romancy.spawn_receive('mail');
	for i in 1 .. 3 loop
		select a.handle, a.result into which, m from romancy.await_any(array[news, mail]) a;
		if m->'data' = '"stop"' then return to_jsonb(g); end if;
		perform romancy.activity('got', input || jsonb_build_object('message', m->'id', 'generation', g));
		if which = news then news := romancy.spawn_receive('news'); else mail := romancy.spawn_receive('mail'); end if;
	end loop;
	return romancy.recur(input || jsonb_build_object('generation', g + 1));
end $$;
select romancy.define_workflow('listen', 'listen(jsonb)', retention => '1 ms');
-- false: it has recurred meanwhile
create function send_to_one() returns boolean language plpgsql as $$
declare t uuid; r int;
begin
	select instance_id, (input->>'receiver')::int into t, r from romancy.instances where workflow = 'listen' and finished_at is null
	order by random() limit 1;
	insert into sent values ('direct', romancy.send_to(t, 'mail', '1'), r);
	return true;
exception when sqlstate 'RM010' or sqlstate 'RM002' then return false;
end $$;
create function send_one() returns void language plpgsql as $$
begin
	if random() < 0.3 then
		insert into sent values ('broadcast', romancy.publish('news', '1'));
	else
		while not send_to_one() loop null; end loop;
	end if;
end $$});
is($node->safe_psql('postgres', "select count(romancy.start_workflow('listen', jsonb_build_object('receiver', i))) from generate_series(1, $receivers) i"),
	$receivers, 'receivers are started');
poll_until($node, "select subscribers = $receivers and waiting = $receivers from romancy.channels where channel = 'news'", 'and wait');

my $file = $node->basedir . '/send.sql';
append_to_file($file, q{
\set r random(1, 10)
begin;
select send_one();
\if :r = 1
rollback;
\elif :r <= 3
select pg_sleep(0.2);
select send_one();
commit;
\else
commit;
\endif
});
my ($out, $err) = ('', '');
my $run = start([ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-U', 'postgres', '-c', 4, '-t', 150, '-f', $file, 'postgres' ],
	'>', \$out, '2>', \$err);
for my $at (50, 150, 250)
{
	poll_until($node, "select count(*) >= $at from sent", "$at are sent");
	$node->safe_psql('postgres', q{select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'romancy executor' limit 1});
}
finish $run;
is($err =~ /ERROR|aborted/ ? $err : '', '', 'the publishers have come to their end');
cmp_ok($node->safe_psql('postgres', 'select count(*) from sent'), '>', 300, 'messages were sent');

poll_until($node, qq{select count(*) = (select sum(case kind when 'broadcast' then $receivers else 1 end) from sent) from received}, 'as many are received as were sent')
	or diag($node->safe_psql('postgres', q{select kind, count(*) from sent group by 1 union all select 'received', count(*) from received
		union all select 'undelivered', count(*) from romancy.t_delivery union all select 'direct', count(*) from romancy.t_message where kind = 'd'}));
is($node->safe_psql('postgres', 'select count(*) from (select 1 from received group by receiver, message_id having count(*) > 1) d'), 0, 'none is received twice by one');
is($node->safe_psql('postgres', qq{select count(*) from generate_series(1, $receivers) r, sent s where s.kind = 'broadcast' and not exists
	(select from received x where x.receiver = r and x.message_id = s.message_id)}), 0, 'each receiver got each broadcast message');
is($node->safe_psql('postgres', q{select count(*) from sent s where kind = 'direct' and not exists (select from received r where r.message_id = s.message_id)}),
	0, 'each direct one was received');
is($node->safe_psql('postgres', q{select count(*) from received r left join sent s using (message_id)
	where s.message_id is null or s.kind = 'direct' and s.receiver <> r.receiver}), 0, 'what was rolled back is not received, and what was sent to one not by another');
cmp_ok($node->safe_psql('postgres', 'select min(generation) from (select max(generation) from received group by receiver) x (generation)'), '>', 10, 'by many generations');

$node->safe_psql('postgres', q{select romancy.publish('news', '"stop"')});
poll_until($node, q{select count(*) = 0 from romancy.instances where finished_at is null}, 'all end when told to');
poll_until($node, q{select count(*) = 0 from romancy.instances}, 'retention clears them away');
is($node->safe_psql('postgres', q{select (select count(*) from romancy.t_subscription) || ' ' || (select count(*) from romancy.t_delivery)
	|| ' ' || (select count(*) from romancy.t_message where kind <> 'b')}), '0 0 0', 'nothing is left behind');
$node->stop;
done_testing();
