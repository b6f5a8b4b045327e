# Thousands of broadcast subscribers of one namespace cost its own publishers: a publish to a channel of the same name in another namespace reads
# as many blocks as before, and writes as many rows. Counted, not timed. It would catch a look at subscribers that goes by the channel's name alone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('subscribers', 'autovacuum' => 'off', 'romancy.message_check_interval' => '1h', 'romancy.message_timeout_interval' => '1h', 'romancy.resumption_interval' => '1h',
	'romancy.channel_cleanup_interval' => '1h');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]) }
my $many = 5_000;
sql(qq{CREATE ROLE $_ LOGIN; SELECT romancy.grant_usage('$_')}) for qw(shop hog);
sql(q{CREATE FUNCTION reads(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.subscribe('news');
		RETURN (romancy.receive('news')).data;
	END $$});

# publish($role): blocks that a publish touches, once what it needs is known to the session; in a transaction that is rolled back
sub publish
{
	my ($role) = @_;
	my $plan = as($role, q{BEGIN;
		SELECT romancy.publish('news', '"warm"'); SELECT romancy.publish('news', '"warm"');
		EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off) SELECT romancy.publish('news', '"counted"');
		ROLLBACK});
	my $blocks = 0;
	$plan =~ s/^Planning:.*//ms;
	$blocks += $1 while $plan =~ /\b(?:hit|read)=(\d+)/g;
	return $blocks;
}
sub deliveries { return sql(q{SELECT count(*) FROM romancy.t_delivery}) }

as('shop', q{SELECT romancy.start_workflow('reads')});
poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE status = 'waiting_for_message'}, 'one subscriber of the shop');
my $before = publish('shop');
cmp_ok($before, '>', 0, "a publish to it touches $before blocks");

as('hog', qq{SELECT count(*) FROM romancy.start_workflows('reads', array(SELECT '1'::jsonb FROM generate_series(1, $many)))});
poll_until($node, qq{SELECT count(*) = $many + 1 FROM romancy.instances WHERE status = 'waiting_for_message'}, "$many subscribers of another namespace");
my $after = publish('shop');
# (an index may have got a level more)
cmp_ok($after, '<=', $before + 30, "a publish touches $after blocks then");
my $hog = publish('hog');
cmp_ok($hog, '>', 100 + $after, "one in the other namespace touches $hog: the cost is its own");

is(as('shop', q{SELECT romancy.publish('news', '"for the shop"') IS NULL}), 'f', 'a message of the shop');
poll_until($node, q{SELECT output FROM romancy.instances WHERE owner = 'shop'}, 'has come', expected => '"for the shop"');
is(sql(q{SELECT count(*) FROM romancy.instances WHERE owner = 'hog' AND status <> 'waiting_for_message'}), 0, 'and to none of the others');
is(deliveries(), 0, 'nor is there a row for any of them');
$node->stop;
done_testing();
