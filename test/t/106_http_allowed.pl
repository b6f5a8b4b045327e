# Events of a destination that must not be reached, whose secret is gone, or whose owner may not use romancy any more, wait; the rule or the secret that they lack lets them go at its
# commit. It would catch a wait that goes on after it, one that a call which is rolled back ends, and failures that outlive their destination.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancyTest;
use Test::More;

has_http() or plan skip_all => 'this build has no libcurl';

my $node = romancy_node('httpallow', 'max_connections' => 30, 'autovacuum' => 'off', 'romancy.outbox_interval' => '1h');
my $http = RomancyHttp->new($node);
my $url = $http->url;
sub sql { return $node->safe_psql('postgres', $_[0]) }

my $allow = "romancy.allow_http('postgres', '$url/*', private => true)";
sql(qq{SELECT $allow; SELECT romancy.set_secret('k', 'a-secret', '127.0.0.1');
	SELECT romancy.define_destination('d', url => '$url/echo', headers => '{"X-Key": "{{secret:k}}"}', event_types => '{d}');
	SELECT romancy.define_destination('e', url => '$url/echo', event_types => '{e}')});

my $n = 0;
# holds($name, $take, $why, $give, $what): after $take an event to this destination waits for $why, until $give
sub holds
{
	my ($name, $take, $why, $give, $what) = @_;
	sql("SELECT $take; SELECT romancy.send_event('$name', '/test')");
	poll_until($node, "SELECT error LIKE '%$why%' AND retry_at IS NOT NULL FROM romancy.destinations WHERE name = '$name'", "$what: the event waits");
	sql("BEGIN; SELECT $give; ROLLBACK");
	is(sql("SELECT retry_at IS NOT NULL FROM romancy.destinations WHERE name = '$name'"), 't', "$what: a call that is rolled back changes nothing");
	is(sql("BEGIN; SELECT $give; SELECT retry_at IS NULL FROM romancy.destinations WHERE name = '$name'; COMMIT") =~ s/\n//gr, 't', "$what: one that is not lets it go");
	$n++;
	poll_until($node, "SELECT count(*) = $n FROM romancy.outbox WHERE status = 'published'", "$what: it is sent");
	is(sql(q{SELECT max(attempt) FROM romancy.outbox}), '1', "$what: in its first attempt");
	return;
}
holds('d', q{romancy.deny_http('postgres')}, 'may not send HTTP requests', $allow, 'a rule');
holds('d', q{romancy.drop_secret('k')}, 'there is no secret', q{romancy.set_secret('k', 'another', '127.0.0.1')}, 'a secret');
holds('e', "romancy.allow_http('postgres', '$url/*')", 'with private => true', $allow, 'a private address');
is(scalar($http->requests), 3, 'each was sent once');

# a destination of a role that may not use romancy any more gets nothing of what others send
sql(qq{CREATE ROLE mate LOGIN; SELECT romancy.grant_usage('mate', namespace => 'postgres'), romancy.allow_http('mate', '$url/*', private => true);
	SET SESSION AUTHORIZATION mate; SELECT romancy.define_destination('m', url => '$url/echo/mate', event_types => '{m}'); RESET SESSION AUTHORIZATION;
	SELECT romancy.revoke_usage('mate', namespace => 'postgres'); SELECT romancy.send_event('m', '/test')});
poll_until($node, q{SELECT error LIKE 'role "mate" may not use romancy%' FROM romancy.destinations WHERE name = 'm'}, 'the event waits while its owner has no grant');
sql(q{SELECT romancy.grant_usage('mate', namespace => 'postgres')});
poll_until($node, q{SELECT status = 'published' FROM romancy.outbox WHERE type = 'm'}, 'it is sent when the grant is back');
is(scalar(grep { $_->{path} eq '/echo/mate' } $http->requests), 1, 'once');

# a destination that is defined anew, resumed or dropped forgets the failures of its receiver
my $quick = q{retry => '{"initial_interval": "10 ms", "max_interval": "20 ms", "max_attempts": 0}'};
my %forget = (defined => qq{romancy.define_destination('defined', url => '$url/echo/forget', event_types => '{defined}', $quick)}, resumed => q{romancy.pause_destination('resumed'), romancy.resume_destination('resumed')},
	dropped => q{romancy.drop_destination('dropped', discard => true)});
for my $how (sort keys %forget)
{
	sql(qq{SELECT romancy.define_destination('$how', url => '$url/gate/$how', event_types => '{$how}', $quick); SELECT romancy.send_event('$how', '/test') FROM generate_series(1, 6)});
	poll_until($node, "SELECT breaker = 'open' AND retry_at > clock_timestamp() AND error IS NOT NULL FROM romancy.destinations WHERE name = '$how'", "$how: the breaker is open");
	my $id = sql("SELECT destination_id FROM romancy.t_destination WHERE name = '$how'");
	is(sql("BEGIN; SELECT NULL FROM (SELECT $forget{$how}) x; SELECT coalesce(string_agg(concat_ws(' ', failures, retry_at, error), ','), 'none') FROM romancy.t_destination_state WHERE destination_id = $id; ROLLBACK") =~ s/\n//gr,
		$how eq 'dropped' ? 'none' : '0', "$how: nothing is known of it any more");
	$http->let($how);
	sql("SELECT $forget{$how}");
	poll_until($node, "SELECT bool_and(status = 'published') FROM romancy.outbox WHERE type = '$how'", "$how: the events are sent") if $how ne 'dropped';
}

$http->stop;
$node->stop;
done_testing();
