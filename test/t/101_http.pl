# HTTP activities against a server that misbehaves: results of every kind, statuses, Retry-After, answers that are cut, endless,
# too large or packed, redirects, secrets and addresses. It would catch an attempt with another key, an answer that
# is taken although it is not whole, a secret that is kept or goes elsewhere, and a request to an address that was not allowed.
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

my $node = romancy_node('http', 'romancy.worker_idle_timeout' => '1s', 'max_connections' => 30, 'romancy.http_max_response' => '100kB', 'romancy.http_timeout' => '20s', 'autovacuum' => 'off');
my $http = RomancyHttp->new($node);
my $url = $http->url;

sub sql { return $node->safe_psql('postgres', $_[0]) }
# what a workflow that sends this request as an activity, or from its handler, ends with
sub run_it
{
	my ($workflow, $input) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "CALL romancy.run_workflow('$workflow', \$\$$input\$\$, timeout => '60s')");
	return $rc == 0 ? $out : $err;
}
sub declared { my ($keys, $input) = @_; sql("SELECT romancy.define_activity('it', http => \$\$$keys\$\$, retry => '{\"initial_interval\": \"10ms\", \"max_attempts\": 3}')"); return run_it('declared', $input // '{}') }
sub adhoc { my ($path) = @_; return run_it('adhoc', qq({"url": "$url/$path"})) }

sql(qq{
	CREATE FUNCTION declared(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity('it', i); END \$\$;
	CREATE FUNCTION adhoc(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
	BEGIN RETURN romancy.http(coalesce(i->>'method', 'GET'), i->>'url', i->'body', i->'headers', (i->>'timeout')::interval, retry => '{"initial_interval": "10ms", "max_attempts": 2}'); END \$\$;
	SELECT romancy.allow_http('postgres', '$url/*', private => true);
});

# results
like(declared(qq({"url": "$url/echo/{id}?q={q}", "headers": {"X-It": "<{q}>"}}), '{"id": "a b/c", "q": "ä"}'),
	qr{"path": "/echo/a%20b%2Fc\?q=%C3%A4"}, 'an input in the URL');
my ($first) = $http->requests;
is($first->{headers}{'x-it'}, "<\x{c3}\x{a4}>", 'and in a header');
is($first->{method} . ' ' . $first->{headers}{'content-type'}, 'POST application/json', 'a POST of JSON, by default');
like($first->{headers}{traceparent}, qr/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/, 'a trace');
like($first->{headers}{'idempotency-key'}, qr{^[0-9a-f-]{36}/it:1$}, 'a key');
like(declared(qq({"url": "$url/echo", "encoding": "form", "body": "input.f"}), '{"f": {"a": "x y&", "b": 2, "c": null}}'), qr/"body": "a=x%20y%26&b=2"/, 'a form');
like(declared(qq({"url": "$url/echo", "encoding": "base64", "body": "input.b"}), '{"b": "aGVsbG8="}'), qr/"body": "hello"/, 'bytes');
like(declared(qq({"method": "GET", "url": "$url/echo"}), '{"b": 1}'), qr/"body": ""/, 'a GET has no body');
is(declared(qq({"url": "$url/text"})), '"grüße"', 'text');
is(declared(qq({"url": "$url/binary"})), '{"data_binary": "AP8B", "content_type": "image/x"}', 'bytes come as base64');
is(declared(qq({"url": "$url/empty"})), 'null', 'no body');
is(declared(qq({"url": "$url/notjson"})), '"{oops"', 'what is no JSON is text');
like(declared(qq({"url": "$url/notjson", "result": "json"})), qr/the answer is not JSON/, 'or an error, where JSON is asked for');
is(declared(qq({"url": "$url/gzip"})), '{"packed": true}', 'a packed answer');
is(declared(qq({"url": "$url/early"})), '{"early": true}', 'an answer with a 103 before it');
is(declared(qq({"url": "$url/status/404", "expect": "2xx,404"})), '"body of 404"', 'another status is expected');
like(declared(qq({"url": "$url/status/201", "result": "full"})), qr/"body": "body of 201", "status": 201, "headers": \{.*"content-type": "text\/plain"/, 'all of an answer');
like(adhoc('status/200'), qr/"status": 200/, 'from a handler');
like(run_it('adhoc', qq({"url": "$url/echo", "method": "put", "body": {"x": 1}, "headers": {"X-A": "{b}"}})), qr/"x-a": "\{b\}".*|"method": "PUT"/, 'with a method, a body and headers');
is(declared(qq({"url": "$url/closes"})), '{"closes": true}', 'a connection that the server closes') for 1 .. 3;

# statuses
like(declared(qq({"url": "$url/status/404"})), qr{ERROR:  POST \Q$url\E/status/404: HTTP 404\nDETAIL:  body of 404}, 'a 404 is not tried again');
is(sql(q{SELECT data #>> '{error,code}', data ? 'retry' FROM romancy.instances i, romancy.get_history(i.instance_id) WHERE event_type = 'ActivityFailed' ORDER BY i.created_at DESC, seq DESC LIMIT 1}), 'HTTP 404|f', 'its code');
is(declared(qq({"url": "$url/flaky"})), '{"n": 2}', 'a 503 is');
$http->forget;
like(declared(qq({"url": "$url/status/503"})), qr/HTTP 503/, 'until no attempt is left');
my @sent = $http->requests;
is(scalar(@sent), 3, 'three attempts');
is(scalar(keys %{ { map { $_->{headers}{'idempotency-key'} => 1 } @sent } }), 1, 'with one key');
for my $how ('later/1', 'later-date/2')
{
	$http->forget;
	is(declared(qq({"url": "$url/$how"})), '{"n": 2}', "$how: tried again");
	@sent = $http->requests;
	cmp_ok($sent[1]{at} - $sent[0]{at}, '>=', 0.9, "$how: not before the time that the server says");
}
$http->forget;
like(declared(qq({"url": "$url/moved"})), qr/HTTP 301/, 'a redirect is not followed');
is(scalar($http->requests), 1, 'and not tried again');

# answers that are not whole, or too large
for my $broken ('cut', 'half-header')
{
	$http->forget;
	like(declared(qq({"url": "$url/$broken"})), qr{POST \Q$url\E/$broken: \w}, "$broken: an error");
	is(scalar($http->requests), 3, "$broken: it is tried again");
}
for my $large ('endless', 'bomb')
{
	like(declared(qq({"url": "$url/$large"})), qr/the answer has more than 102400 bytes\nHINT:  The limit is romancy.http_max_response/, "$large: an error that names the limit");
}
like(declared(qq({"url": "$url/headers"})), qr/or they are longer than 64 kB/, 'headers without end');
like(declared(qq({"url": "$url/hang", "timeout": "300ms"})), qr/no answer within the time limit/, 'half a header, and then nothing');
like(declared(qq({"url": "$url/slow/60", "timeout": "300ms"})), qr/no answer within the time limit/, 'an answer that comes too late');
like(run_it('adhoc', qq({"url": "$url/slow/60", "timeout": "200ms"})), qr/no answer within the time limit/, 'from a handler, too');

# inputs
like(declared(qq({"url": "$url/echo", "encoding": "$_->[0]"$_->[1]}), '{"f": {' . join(',', map { qq("k$_": 1e131071) } 1 .. 100) . '}}'), qr/cannot be made\nDETAIL:  The reason: the body's numbers are too long/,
	"numbers whose digits would take the worker's memory: $_->[0]") for [ 'json', '' ], [ 'form', ', "body": "input.f"' ];
like(declared(qq({"url": "$url/echo/{id}"}), '{"id": "../x"}'), qr/cannot be made\nDETAIL:  The reason: its path has a segment/, 'an input that would lead out of the path');
like(declared(qq({"url": "$url/echo", "headers": {"X-It": "{id}"}}), '{"id": "a\r\nX-Evil: 1"}'), qr/control character/, 'an input that would add a header');
$http->forget;
sql(qq{CREATE FUNCTION named(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.http('GET', '$url/echo', activity_id => E'a b\r\nX-Evil: 1%'); END \$\$});
like(run_it('named', '{}'), qr/"status": 200/, 'a step with an odd name');
my ($odd) = $http->requests;
like($odd->{headers}{'idempotency-key'}, qr{/a%20b%0D%0AX-Evil:%201%25$}, 'its key is percent-encoded');
is($odd->{headers}{'x-evil'}, undef, 'and adds no header');

# secrets
sql(q{SELECT romancy.set_secret('k', 'tiger-in-the-tank', '127.0.0.1'), romancy.set_secret('other', 'for-others-only', 'api.example.com')});
$http->forget;
like(declared(qq({"url": "$url/echo", "headers": {"Authorization": "Bearer {{secret:k}}"}})), qr/"authorization": "Bearer \[secret\]"/, 'a secret that the server sends back is taken out');
is(($http->requests)[0]{headers}{authorization}, 'Bearer tiger-in-the-tank', 'it was sent');
like(declared(qq({"url": "$url/echo", "headers": {"Authorization": "{{secret:other}}"}})), qr/secret "other" is for host "api.example.com"/, 'a secret for another host');
like(declared(qq({"url": "$url/echo", "headers": {"Authorization": "{{secret:none}}"}})), qr/there is no secret "none"/, 'an unknown secret');
sql(q{SELECT romancy.set_secret('quoted', 'ti"ger\in', '127.0.0.1')});
unlike(declared(qq({"url": "$url/echo", "headers": {"Authorization": "{{secret:quoted}}"}})), qr/ger/, 'also one that JSON writes with escapes');
sql(q{SELECT romancy.set_secret('longer', 'tiger-in-the-tank-and-lion', '127.0.0.1'), romancy.set_secret('umlaut', 'tigür-größe', '127.0.0.1')});
unlike(declared(qq({"url": "$url/echo", "headers": {"X-A": "{{secret:k}}", "X-B": "{{secret:longer}}"}})), qr/lion/, 'also one that begins with another');
like(declared(qq({"url": "$url/echo", "headers": {"X-A": "{{secret:umlaut}}"}})), qr/"x-a": "\[secret\]"/, 'also as a server reads its bytes as Latin-1');
unlike(declared(qq({"url": "$url/typed", "headers": {"Authorization": "{{secret:k}}"}})), qr/tiger/, 'also in the type of an answer that is no text');
like(run_it('adhoc', qq({"url": "$url/echo", "headers": {"Authorization": "{{secret:k}}"}})), qr/\[secret\]/, 'from a handler');
sql(q{SELECT romancy.set_secret('odd', 'tiger/in"the\u0041\tünk', '127.0.0.1')});
my $leak = declared(qq({"url": "$url/leaks", "headers": {"X-A": "{{secret:odd}}", "X-B": "a\\\\b{{secret:k}}c"}}));
like($leak, qr/HTTP 400.*"x-a": "\[secret\]".*"x-b": "a\\\\b\[secret\]c"/s, 'nor is it in the text of a failure, however JSON writes it');
unlike($leak, qr/tiger/, 'whole or in part');
is(sql(q{SELECT count(*) FROM romancy.instances i, romancy.get_history(i.instance_id) h WHERE h::text || i::text LIKE '%tiger%'}), '0', 'it is in no history');
is(sql(q{SELECT count(*) FROM romancy.activity_tasks t WHERE t::text LIKE '%tiger%'}), '0', 'and in no task');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'a dump');
unlike(slurp_file($dump), qr/tiger-in-the-tank/, 'it is not in a dump');
unlike(join('', grep { !/STATEMENT|statement: |set_secret/ } split /^/, slurp_file($node->logfile)), qr/tiger-in-the-tank/, 'nor in the log, but for the statement that set it');

# addresses: what the rule allows by name is refused by its address
sql(qq{SELECT romancy.deny_http('postgres'), romancy.allow_http('postgres', 'http://*:*/*')});
my $port = $http->port;
$http->forget;
for my $host ('127.0.0.1', 'localhost', '127.1', '2130706433', '0x7f000001', '017700000001', '0177.0.0.1', '[::1]', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '0.0.0.0', '[::]')
{
	like(run_it('adhoc', qq({"url": "http://$host:$port/echo"})), qr/has an address that HTTP requests may not go to|: (Could not|URL|Couldn't|Server returned nothing)/, "$host is refused");
}
is(scalar($http->requests), 0, 'no request arrived');
# a connection that stands, of a rule that allows private addresses, is not for those of a rule that does not
sql(qq{CREATE ROLE narrow; SELECT romancy.grant_usage('narrow'), romancy.allow_http('narrow', 'http://127.0.0.1:*/*'); GRANT CREATE ON SCHEMA public TO narrow;
	SELECT romancy.deny_http('postgres'), romancy.allow_http('postgres', 'http://127.0.0.1:*/*', private => true)});
like(adhoc('echo'), qr/"status": 200/, 'a connection stands');
my $id = sql(qq{SET ROLE narrow; SELECT romancy.start_workflow('adhoc', '{"url": "$url/echo"}')});
like(($node->psql('postgres', "CALL romancy.await_result('$id', '60s')"))[2], qr/has an address that HTTP requests may not go to/, 'and is not used for a role without the right');
# a rule that is given again without private takes it back, and says so
like(($node->psql('postgres', q{SELECT romancy.allow_http('postgres', 'http://127.0.0.1:*/*')}))[2],
	qr{NOTICE:  workflows of role "postgres" may not reach private addresses by "http://127.0.0.1:\*/\*" any more\nHINT:.*private => true}, 'a notice says that private addresses may not be reached any more');
is(($node->psql('postgres', q{SELECT romancy.allow_http('postgres', 'http://127.0.0.1:*/*')}))[2], '', 'once');
sql(q{SELECT romancy.deny_http('postgres')});
like(adhoc('echo'), qr/workflows of role "postgres" may not send HTTP requests to "\Q$url\E\/echo"\nHINT:  The owner of extension "romancy" can allow it, with romancy.allow_http\('postgres'/, 'what is not allowed any more is not sent');

poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind = 'http'}, 'the worker leaves when it is idle');
$http->stop;
$node->stop;
done_testing();
