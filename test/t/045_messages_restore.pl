# Subscriptions and messages, of one whose first generation is deleted, too, are restored in another cluster, whose transaction ids are
# behind those in the dump, or ahead of them. A message that overlapped a subscription before the dump is
# received, and so is what is published after the restore; what was published before a
# subscription is not, nor anything twice; and no row stays for ever because a transaction of
# the old cluster seems not to be over.
# It would catch a comparison of transaction ids of two clusters.
use strict;
use warnings;
use RomancyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %hour = map { ("romancy.${_}_interval" => '1h') } qw(message_check channel_cleanup);
my $node = romancy_node('old', %hour);
sub sql { my ($sql, $n) = @_; return ($n // $node)->safe_psql('postgres', $sql) }
sub use_up { my ($count, $n) = @_;
	sql("do \$\$ begin for i in 1 .. $count loop perform pg_current_xact_id(); commit; end loop; end \$\$", $n) }
my $waits = q{select count(*) = %d from romancy.waiting where kind = 'message'};

sql(q{
create function hear(input jsonb) returns jsonb language plpgsql as $$
declare m romancy.message; r text[];
begin
	perform romancy.subscribe(input->>'channel');
	if input->>'name' = 'first' and not input ? 'again' then perform romancy.recur(input || '{"again": true}'); end if;
	loop
		m := romancy.receive(input->>'channel');
		exit when m.data = '"stop"';
		r := r || (m.data #>> '{}');
	end loop;
	return to_jsonb(array_to_string(r, ' '));
end $$;
create function hears(name text, channel text) returns void language sql as $$
	select romancy.start_workflow('hear', jsonb_build_object('name', name, 'channel', channel)) $$;
select hears('first', 'c')});
poll_until($node, sprintf($waits, 1), 'one subscribes, and continues in another');
is(sql(q{select romancy.delete_workflow(instance_id) from romancy.instances where status = 'recurred'}), 't', 'its first generation is deleted');
sql(q{select romancy.pause_workflow(instance_id) from romancy.instances});
poll_until($node, q{select status = 'paused' from romancy.instances}, 'and sleeps');
sql(q{select romancy.publish('c', '"one"'); select romancy.publish('quiet', '"one"')});
use_up(3000);
sql(q{select romancy.publish('c', '"two"'); select romancy.publish('quiet', '"two"')});

# these two are open when the second one subscribes; no session looks any more when the first commits
my $crossing = $node->background_psql('postgres');
$crossing->query_safe(q{begin; select romancy.publish('c', '"crossing"')});
my $open = $node->background_psql('postgres');
$open->query_safe('begin; select pg_current_xact_id()');
sql(q{select hears('second', 'c')});
poll_until($node, q{select bound is not null from romancy.t_subscription order by subscribed_at desc limit 1}, 'another one subscribes');
poll_until($node, q{select count(*) = 1 from romancy.instances where status = 'waiting_for_message'}, 'and waits');
$node->append_conf('postgresql.conf', 'romancy.enabled = off');
$node->reload;
poll_until($node, 'select count(*) = 0 from romancy.workers where kind <> \'launcher\'', 'the workers have left');
$crossing->query_safe('commit');
is(sql(q{select snapshot is not null and bound is not null from romancy.t_subscription order by subscribed_at desc limit 1}), 't', 'it is not settled');
my $dir = PostgreSQL::Test::Utils::tempdir();
$node->command_ok([ 'pg_dump', '-f', "$dir/dump.sql", '-d', $node->connstr('postgres') ], 'dumped');
$_->quit for $crossing, $open;

for my $case ([ 'behind', 0 ], [ 'ahead', 6000 ])
{
	my ($name, $xids) = @$case;
	my $n = romancy_node($name, %hour, _extension => 0);
	use_up($xids, $n);
	$n->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.sql", '-d', $n->connstr('postgres') ], "$name: restored");
	sql(q{select romancy.publish('c', '"three"')}, $n);
	sql(q{select romancy.adopt_database()}, $n);
	sql(q{select hears('third', 'c'), hears('fourth', 'quiet')}, $n);
	sql(q{select romancy.resume_workflow(instance_id) from romancy.instances where input->>'name' = 'first'}, $n);
	poll_until($n, sprintf($waits, 4), 'all wait');
	sql(q{select romancy.publish(c, d) from unnest(array['c', 'quiet']) c, unnest(array['"four"', '"stop"']::jsonb[]) d}, $n);
	poll_until($n, q{select bool_and(status = 'completed') from romancy.instances}, 'all have ended');
	is(sql(q{select string_agg((input->>'name') || ': ' || (output #>> '{}'), ', ' order by created_at, input->>'name') from romancy.instances}, $n),
		'first: one two crossing three four, second: crossing three four, third: four, fourth: four', 'each got what is its own, once');
	sql(q{select romancy.run_sweep('channel_cleanup')}, $n) for 1 .. 3;
	is(sql(q{select (select count(*) from romancy.t_message where kind = 'b') + (select count(*) from romancy.t_delivery)
		+ (select count(*) from romancy.t_subscription) + (select count(*) from romancy.t_channel)}, $n), '0', 'and nothing of it stays');
	$n->stop;
}
$node->stop;
done_testing();
