# Requests with TLS, against nginx with a CA of the test's own: HTTP/2 and HTTP/1.1, certificates that do not hold, one that asks for a client's certificate. It would
# catch a certificate that is not verified, a CA that is not asked, a connection for each request where one carries a hundred, and a cancel that ends other requests of its connection.
use strict;
use warnings;
use FindBin;
use IO::Socket::INET;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancyNginx;
use RomancyTest;
use Test::More;
use Time::HiRes qw(time);

has_http() or plan skip_all => 'this build has no libcurl';
plan skip_all => RomancyNginx::lacks() if RomancyNginx::lacks();

my $node = romancy_node('http_tls', 'max_connections' => 30, 'autovacuum' => 'off', 'romancy.http_timeout' => '10min');
my $http = RomancyHttp->new($node);
my $nginx = RomancyNginx->new($node, $http->url);
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	CREATE FUNCTION get(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.http('GET', i->>'url', headers => i->'headers', retry => coalesce(i->'retry', '{"max_attempts": 1}')); END $$;
	CREATE FUNCTION many(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		RETURN to_jsonb(cardinality(romancy.await_all(ARRAY(SELECT romancy.spawn_http('GET', i->>'url' || '?' || n, timeout => (i->>'timeout')::interval, retry => '{"max_attempts": 1}') FROM generate_series(1, (i->>'n')::int) n))));
	END $$;
	SELECT romancy.define_workflow(f, f || '(jsonb)') FROM unnest(ARRAY['get', 'many']) f;
	SELECT romancy.allow_http('postgres', 'https://127.0.0.1:*/*', private => true);
	SELECT romancy.set_secret('k', 'tiger-in-the-tank', '127.0.0.1');
});
# answer($url): what a workflow gets, or its error
sub answer
{
	my ($url, $headers) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nCALL romancy.run_workflow('get', jsonb_build_object('url', '$url', 'headers', '" . ($headers // '{}') . "'::jsonb), timeout => '60s')");
	return $out . $err;
}
sub under_way { my ($name) = @_; return scalar grep { exists $_->{path} && $_->{path} =~ m{^/until/$name\b} } $http->requests }

# ---- whom to trust
my $untrusted = qr/RM007: GET https:.*(certificate|SSL)/;
like(answer($nginx->url('h2') . '/echo'), $untrusted, 'a CA that nobody has named is not trusted');
sql("ALTER SYSTEM SET romancy.http_ca_file = '" . $nginx->ca . "'; SELECT pg_reload_conf()");
poll_until($node, q{SHOW romancy.http_ca_file}, 'the CA is named', expected => $nginx->ca);
like(answer($nginx->url('h2') . '/echo/a', '{"X-Key": "{{secret:k}}"}'), qr/"x-key": "\[secret\]"/, 'a server with a certificate of it is');
# (the server logs a request when it has answered it, which may be later than the answer is there)
sub is_logged { my ($server, $n) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return poll_until(sub { $n <= (() = $nginx->answered($server)) }, "$server has logged $n") }
is_logged('h2', 1);
is(join(' ', @{ ($nginx->answered('h2'))[0] }[ 1 .. 3 ]), 'HTTP/2.0 200 /echo/a', 'by HTTP/2');
like(answer($nginx->url('h1') . '/echo'), qr/"status": 200/, 'one without HTTP/2, too');
is_logged('h1', 1);
is(join(' ', @{ ($nginx->answered('h1'))[0] }[ 1 .. 3 ]), 'HTTP/1.1 200 /echo', 'by HTTP/1.1');
$http->forget;
like(answer($nginx->url($_) . '/echo'), $untrusted, "not trusted: $_") for qw(named expired stranger);
is(scalar($http->requests), 0, 'none of those had a request');
is(sql(q{SELECT string_agg(DISTINCT error ->> 'code', ',') FROM romancy.instances WHERE status = 'failed'}), 'HTTP TLS', 'their errors say what it was');
like(answer($nginx->url('client') . '/echo'), qr/HTTP 400.*No required SSL certificate was sent/s, 'a server that wants a certificate of the client refuses');

# ---- many at once
# start($at, $path, $n): a workflow of so many requests; and its connections
sub start { my ($at, $path, $n, $timeout) = @_; return sql("SELECT romancy.start_workflow('many', jsonb_build_object('url', '$at/$path', 'n', $n, 'timeout', '" . ($timeout // '10min') . "'))") }
sub connections { my ($server, $path) = @_; my %seen = map { $_->[0] => 1 } grep { $_->[3] =~ m{^/$path\b} } $nginx->answered($server); return scalar keys %seen }
my $id = start($nginx->url('h2'), 'until/h2', 300);
poll_until(sub { under_way('h2') == 300 }, '300 requests are under way by HTTP/2');
my $one = sql("SELECT romancy.start_workflow('get', jsonb_build_object('url', '" . $nginx->url('h2') . "/slow/99'))");
poll_until(sub { grep { $_->{path} eq '/slow/99' } $http->requests }, 'one more');
sql("SELECT romancy.cancel_workflow('$one')");
poll_until(sub { grep { ($_->{closed} // '') eq '/slow/99' } $http->closed }, 'its cancel ends it');
is(scalar($http->closed), 1, 'and no other of its connection');
$http->let('h2');
sql("CALL romancy.await_result('$id', '60s')");
is(sql("SELECT romancy.get_result('$id')"), 300, 'all have their answers');
poll_until(sub { 300 == grep { $_->[3] =~ m{^/until/h2\b} } $nginx->answered('h2') }, 'all are logged');
cmp_ok(connections('h2', 'until/h2'), '<=', 8, 'of a few connections');

$http->forget;
$one = sql("SELECT romancy.start_workflow('get', jsonb_build_object('url', '" . $nginx->url('h2') . "/slow/98'))");
poll_until(sub { grep { $_->{path} eq '/slow/98' } $http->requests }, 'a request that has its connection for itself');
sql("SELECT romancy.cancel_workflow('$one')");
poll_until(sub { grep { ($_->{closed} // '') eq '/slow/98' } $http->closed }, 'its cancel ends it, too');

$id = start($nginx->url('h1'), 'until/h1', 60);
poll_until(sub { under_way('h1') == 60 }, '60 requests are under way to a server without HTTP/2');
$http->let('h1');
sql("CALL romancy.await_result('$id', '60s')");
poll_until(sub { connections('h1', 'until/h1') == 60 }, 'with a connection each');

$id = start($nginx->url('few'), 'echo', 200);
sql("CALL romancy.await_result('$id', '60s')");
is(sql("SELECT romancy.get_result('$id')"), 200, 'a server that ends each connection after 50 requests: all have answers');

# a server that takes connections and says nothing: each request ends in its own time, though the first has no connection yet
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 100) or die "listen: $!";
$id = start('https://127.0.0.1:' . $silent->sockport, 'x', 20, '2s');
poll_until($node, "SELECT status = 'failed' FROM romancy.instances WHERE instance_id = '$id'", 'no handshake');
like(sql("SELECT error FROM romancy.instances WHERE instance_id = '$id'"), qr/RM006/, 'is no answer in time');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.activity_tasks WHERE status <> 'dead'}, 'for none of them');
$silent->close;

# one that times out alone on its connection
$http->forget;
my $alone = time;
my $last = start($nginx->url('h2'), 'slow/50', 1, '1s');
poll_until($node, "SELECT status IN ('completed', 'failed') FROM romancy.instances WHERE instance_id = '$last'", 'one alone times out');
poll_until(sub { grep { $_->{closed} =~ m{^/slow/50} } $http->closed }, 'the server hears of it');
cmp_ok(time - $alone, '<', 30, 'at once');

$nginx->stop;
$http->stop;
$node->stop;
done_testing();
