# A session remembers the mode of a channel, and learns of every change of it: by a
# subscription that another session commits, by one that was prepared (also by
# a server that knew nothing of it since), and when the mode changes for another one. A stale
# memory would have the message pass by its subscribers for good.
# It would catch a memory that outlives a change of the mode.
use strict;
use warnings;
use RomancyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %hour = map { ("romancy.${_}_interval" => '1h') } qw(message_check channel_cleanup);
my $node = romancy_node('mode', %hour, max_prepared_transactions => 5);
sub query { return $node->safe_psql('postgres', $_[0]) }

query(q{
create function hear(input jsonb) returns jsonb language plpgsql as $$
declare m romancy.message;
begin
	perform romancy.subscribe(input->>'channel', input->>'mode');
	m := romancy.receive(input->>'channel');
	return m.data;
end $$;
create view settled as select channel from romancy.t_subscription s join romancy.t_instance i using (instance_id)
	where i.status = 'waiting_for_message' and (s.mode = 'competing' or s.bound is not null or s.snapshot is null)});
sub hears { my ($channel, $what) = @_;
	poll_until($node, qq{select count(*) = 0 from romancy.instances where status <> 'completed' and input->>'channel' = '$channel'}, $what);
	return query(qq{select string_agg(output #>> '{}', ' ' order by created_at) from romancy.instances where input->>'channel' = '$channel' and output <> '"stop"'}); }

my $p = $node->background_psql('postgres');
my $publish = sub { $p->query_safe("select romancy.publish('$_[0]', '\"$_[1]\"')") };

# no subscriber, then one
$publish->('plain', $_) for qw(nobody nobody);
query(q{select romancy.start_workflow('hear', '{"channel": "plain", "mode": "broadcast"}')});
poll_until($node, q{select exists (select from settled where channel = 'plain')}, 'subscribed');
$publish->('plain', 'first');
is(hears('plain', 'received'), 'first', 'the session that remembered "nobody" reaches the first subscriber');

# the mode changes
$publish->('plain', 'again');
query(q{delete from romancy.t_message where channel = 'plain'});
query(q{select romancy.start_workflow('hear', '{"channel": "plain", "mode": "competing"}')});
poll_until($node, q{select exists (select from settled where channel = 'plain')}, 'subscribed in another mode');
$publish->('plain', 'second');
is(hears('plain', 'received'), 'first second', 'and one who competes, who is woken');

# a subscription in a prepared transaction
$publish->('prepared', 'nobody');
query(q{begin; select romancy.start_workflow('hear', '{"channel": "prepared", "mode": "broadcast"}'); call romancy.drain(); prepare transaction 'p'});
$publish->('prepared', 'nobody') for 1 .. 2;
query(q{select pg_current_xact_id()});
$publish->('other', 'nobody');
query(q{commit prepared 'p'});
poll_until($node, q{select output is not null or i.instance_id is null from romancy.instances i where input->>'channel' = 'prepared'}, 'what crossed it is received');
query(q{begin; select romancy.start_workflow('hear', '{"channel": "after", "mode": "broadcast"}'); call romancy.drain(); prepare transaction 'q'});
$p->quit;

# and by a server that has started since
$node->restart;
$p = $node->background_psql('postgres');
$publish->('after', 'crosses');
query(q{delete from romancy.t_message where channel = 'after'});
query(q{commit prepared 'q'});
poll_until($node, q{select exists (select from settled where channel = 'after')}, 'the prepared subscription is there');
$publish->('after', 'third');
is(hears('after', 'received'), 'third', 'the session that remembered "nobody" from before COMMIT PREPARED reaches it');
$p->quit;
$node->stop;
done_testing();
