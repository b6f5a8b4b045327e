# A ninth database whose events wait while eight HTTP workers are busy: health() says so, and it has its turn. It would catch a database that waits and does not tell, and one that
# never comes.
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

my $node = romancy_node('httpdbs', 'max_connections' => 40, 'max_worker_processes' => 30, 'autovacuum' => 'off', 'romancy.http_timeout' => '10min', 'romancy.worker_idle_timeout' => '1s',
	'romancy.worker_wait_warning' => '1s');
my $http = RomancyHttp->new($node);
my $url = $http->url;
my @databases = map { "d$_" } 1 .. 9;
for my $db (@databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, qq{CREATE EXTENSION romancy; SELECT romancy.allow_http('postgres', '$url/*', private => true); SELECT romancy.define_destination('d', url => '$url/until/$db', event_types => '{*}')});
}
for my $db (@databases[ 0 .. 7 ])
{
	$node->safe_psql($db, q{SELECT romancy.send_event('t', '/s')});
	poll_until(sub { grep { $_->{path} eq "/until/$db" } $http->requests }, "database $db sends");
}
unlike($node->safe_psql('d9', q{SELECT romancy.health() ->> 'attention'}), qr/waited for a worker/, 'a database that sends nothing misses nothing');
$node->safe_psql('d9', q{SELECT romancy.send_event('t', '/s')});
poll_until(sub { $node->safe_psql('d9', q{SELECT romancy.health() ->> 'attention'}) =~ /HTTP requests or events have waited for a worker for \d+ seconds: other databases have all of the 8 HTTP workers/ },
	'the ninth waits, and says so');
is($node->safe_psql('d9', q{SELECT count(*) FROM romancy.workers WHERE kind = 'http' AND database <> 'd9'}), 8, 'and who has the workers');
$http->let($_) for 'd1', 'd9';
poll_until(sub { grep { $_->{path} eq '/until/d9' } $http->requests }, 'it sends when one of the others has nothing to do');
poll_until(sub { $node->safe_psql('d9', q{SELECT romancy.health() ->> 'attention'}) !~ /waited for a worker/ }, 'and misses nothing any more');
$http->stop;
$node->stop;
done_testing();
