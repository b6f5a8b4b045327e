# The memory of the HTTP worker follows the bodies under way, one for each; an answer's headers are bounded in number, and an address that may never
# be reached is told as such. It would catch bodies that are kept several times, and addresses and headers with errors that do not say the reason.
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

my $node = romancy_node('httpmemory', 'max_connections' => 30, 'autovacuum' => 'off', 'romancy.max_payload_size' => '8MB',
	map({ ("romancy.${_}_interval" => '1h') } qw(resumption lock_cleanup activity_timeout timer)));
my $http = RomancyHttp->new($node);
my $url = $http->url;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub failed { return ($node->psql('postgres', $_[0]))[2] }

sql(qq{
	CREATE FUNCTION adhoc(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.http(i->>'method', i->>'url', i->'body', timeout => (i->>'timeout')::interval); END \$\$;
	CREATE FUNCTION many(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity('big', to_jsonb(repeat('x', 1000000))); END \$\$;
	SELECT romancy.define_workflow(f, f || '(jsonb)') FROM unnest(ARRAY['adhoc', 'many']) f;
	SELECT romancy.allow_http('postgres', 'http://*:*/*', private => true);
});

like(failed(q{CALL romancy.run_workflow('adhoc', '{"method": "GET", "url": "http://224.0.0.1/"}')}), qr/may never go to\nHINT:  Multicast and broadcast addresses cannot be allowed/, 'a multicast address: the hint does not name a rule');
like(failed(qq{CALL romancy.run_workflow('adhoc', '{"method": "GET", "url": "$url/many-headers/1100"}')}), qr/more than 1000 headers, or they are longer than 64 kB/, 'too many headers');
like(sql(qq{CALL romancy.run_workflow('adhoc', '{"method": "GET", "url": "$url/many-headers/900"}')}), qr/"x": "0, 1, 2, 3, .*, 899"/, 'many of one name are one');

# memory: 20 bodies of 1 MB under way
sql(qq{SELECT romancy.define_activity('big', http => '{"url": "$url/until/go", "result": "none"}', retry => '{"max_attempts": 1}')});
my @big = split /\n/, sql(q{SELECT romancy.start_workflow('many', to_jsonb(n)) FROM generate_series(1, 20) n});
my $pid;
poll_until(sub { ($pid) = sql(q{SELECT pid FROM romancy.workers WHERE kind = 'http'}) =~ /(\d+)/; return $pid && $http->requests >= 20 }, '20 requests are under way');
my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;
note("$kb kB");
cmp_ok($kb, '<', 60_000, 'the worker has each body once');
$http->let('go');
sql("CALL romancy.await_result('$_', '60s')") for @big;
is(sql(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'many' AND status = 'completed'}), 20, 'all are answered');

$http->stop;
$node->stop;
done_testing();
