# Places of the HTTP worker: a namespace that keeps them leaves some for others, and an outcome that another transaction keeps from being recorded keeps no place.
# It would catch a role that stops the requests and the events of all others, by a server of its own that does not answer or by rows that it holds.
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

my $node = romancy_node('httpshares', 'romancy.http_max_in_flight' => 8, 'max_connections' => 30, 'autovacuum' => 'off', 'romancy.http_timeout' => '10min');
my $http = RomancyHttp->new($node);
my $url = $http->url;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return sql("SET SESSION AUTHORIZATION $role; $sql") }
# requests that the server has, and has not answered
sub under_way { my ($name) = @_; return scalar grep { $_->{path} eq "/until/$name" } $http->requests }
sub run { my ($role, $path, $n) = @_; return split /\n/, as($role, "SELECT romancy.start_workflow('calls', to_jsonb('$url/$path'::text)) FROM generate_series(1, $n)") }

sql(q{CREATE FUNCTION calls(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.http('GET', i #>> '{}'); END $$});
for my $role (qw(ann bea))
{
	sql("CREATE ROLE $role LOGIN; SELECT romancy.grant_usage('$role', namespace => '$role'), romancy.allow_http('$role', '$url/*', private => true)");
	sql("ALTER ROLE $role SET romancy.namespace = '$role'");
	as($role, q{SELECT romancy.define_workflow('calls', 'calls(jsonb)')});
}

# ---- a server that does not answer
run('ann', 'until/slow', 20);
poll_until(sub { under_way('slow') == 7 }, 'a namespace has all places but the last ones');
my ($id) = run('bea', 'echo', 1);
as('bea', "CALL romancy.await_result('$id', '60s')");
is(as('bea', "SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'completed', 'the other namespace sends');
as('bea', qq{SELECT romancy.define_destination('d', url => '$url/echo/event', event_types => '{*}'), romancy.send_event('t', '/s')});
poll_until(sub { as('bea', q{SELECT status FROM romancy.outbox}) eq 'published' }, 'and its events');
is(under_way('slow'), 7, 'meanwhile no place was free for the first');
$http->let('slow');
poll_until(sub { as('ann', q{SELECT count(*) FROM romancy.instances WHERE status = 'completed'}) == 20 }, 'then all are sent: places that become free are taken');

# ---- rows that an open transaction holds
my @held = run('ann', 'until/held', 20);
poll_until(sub { under_way('held') == 7 }, 'as many again');
my $holder = $node->background_psql('postgres', on_error_stop => 1);
$holder->query_safe('SET SESSION AUTHORIZATION ann');
$holder->query_safe("BEGIN");
$holder->query_safe("SELECT romancy.cancel_workflow('$_')") for @held;
$http->let('held');
my ($second) = run('ann', 'echo/second', 1);
as('ann', "CALL romancy.await_result('$second', '60s')");
is(as('ann', "SELECT status FROM romancy.instances WHERE instance_id = '$second'"), 'completed', 'rows that a transaction holds keep no place');
$holder->query_safe('ROLLBACK');
poll_until(sub { as('ann', q{SELECT count(*) FROM romancy.instances WHERE status = 'completed'}) == 41 }, 'and their outcomes are recorded when it ends');
is(scalar(grep { $_->{path} eq '/until/held' } $http->requests), 20, 'each was sent once');

# ---- the same with events
as('ann', qq{SELECT romancy.define_destination('e', url => '$url/until/event', event_types => '{e}', max_in_flight => 3)});
as('ann', q{SELECT romancy.send_event('e', '/s', id => 'e' || n) FROM generate_series(1, 3) n});
poll_until(sub { under_way('event') == 3 }, 'events are under way');
$holder->query_safe(q{BEGIN; SELECT romancy.nack_outbox('e' || n, 'held') FROM generate_series(1, 3) n});
as('ann', qq{SELECT romancy.send_event('e', '/s', id => 'e4')});
$http->let('event');
poll_until(sub { as('ann', q{SELECT status FROM romancy.outbox WHERE id = 'e4'}) eq 'published' }, 'the next event goes to the same destination');
$holder->query_safe('ROLLBACK');
poll_until(sub { as('ann', q{SELECT count(*) FROM romancy.outbox WHERE destination = 'e' AND status = 'published'}) == 4 }, 'the others are recorded when the transaction ends');
is(under_way('event'), 4, 'each was sent once');
$holder->quit;
$http->stop;
$node->stop;
done_testing();
