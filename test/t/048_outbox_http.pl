# Destinations with a URL, against a server that notes what it gets: each format as cloudevents (PyPI) reads it, signatures as standardwebhooks (PyPI)
# verifies them, and the states of events when the receiver fails, limits, refuses, hangs, cuts or is gone. It would catch an event that a receiver
# cannot read, a signature that holds for another body, an event that is lost or sent out of its key's order, one that is sent while its destination must not be
# reached, and a transaction that is held while a receiver takes its time.
# Takes 45 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancyTest;
use Test::More;

has_http() or plan skip_all => 'this build has no libcurl';

my $node = romancy_node('outbox_http', 'romancy.worker_idle_timeout' => '2s', 'max_connections' => 30, 'romancy.http_timeout' => '30s', 'autovacuum' => 'off', 'romancy.outbox_interval' => '500ms',
	'romancy.sweep_jitter' => 0);
my $http = RomancyHttp->new($node);
my $url = $http->url;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub refused { my ($call) = @_; my (undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT romancy.$call"); return $err }
# $n events of a type that stands for a destination: the numbers in what, one after the other, are their data
sub send_events { my ($type, $what, $more) = @_; return sql("SELECT count(romancy.send_event('$type', '/test', to_jsonb(n)" . ($more // '') . ")) FROM generate_series($what) n") }
sub destination { my ($name, $path, $more) = @_; return sql("SELECT romancy.define_destination('$name', url => '$url/$path', event_types => '{$name}'" . ($more // '') . ")") }
sub settled { my ($type, $status, $what) = @_; return poll_until($node, "SELECT count(*) > 0 AND bool_and(status = '$status') FROM romancy.outbox WHERE type = '$type'", $what) }
my $quick = q{, retry => '{"initial_interval": "20 ms", "max_interval": "50 ms", "max_attempts": 0}'};
my $key = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
my $next_key = 'whsec_' . 'QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNk';

# ---- definitions
like(refused("define_destination('d', url => '$url/x')"), qr/42501: workflows of role "postgres" may not send HTTP requests/, 'nothing may be reached');
sql(qq{SELECT romancy.allow_http('postgres', '$url/*', private => true), romancy.set_secret('sig', '$key', '127.0.0.1'), romancy.set_secret('both', '$next_key $key', '127.0.0.1'),
	romancy.set_secret('weak', 'whsec_YWJj', '127.0.0.1'), romancy.set_secret('elsewhere', '$key', 'api.example.com'), romancy.set_secret('k', 'tiger-in-the-tank', '127.0.0.1')});
my %wrong = (url => [ "url => 'ftp://x/'", "url => 'http://u:p\@127.0.0.1/'", "url => '/x'" ],
	headers => [ map { "url => '$url/x', headers => '$_'" } '[]', '{"X-A": 1}', '{"Content-Type": "x"}', '{"ce-id": "x"}', '{"Webhook-Id": "x"}', '{"X A": "x"}', '{"Host": "x"}', '{"X-A": "a\\r\\nX-B: c"}', '{"X-A": "{{secret:none}}"}',
		'{"X-A": "{{secret:elsewhere}}"}' ],
	signing_secret => [ map { "url => '$url/x', signing_secret => '$_'" } 'none', 'weak', 'elsewhere' ],
	format => [ "url => '$url/x', format => 'xml'" ],
	batch_size => [ "url => '$url/x', batch_size => 10", map { "url => '$url/x', format => 'batch', batch_size => $_" } 0, 1001 ],
	max_in_flight => [ map { "url => '$url/x', max_in_flight => $_" } 0, 1001 ],
	rate_limit => [ map { "url => '$url/x', rate_limit => '$_'" } '', 'x', '0/s', '1/d' ]);
for my $argument (sort keys %wrong)
{
	like(refused("define_destination('d', $_)"), qr/RM012: (argument )?"?$argument|RM012: argument "$argument"/, "refused, and named: $_") for @{ $wrong{$argument} };
}
like(refused("define_destination('d', $_)"), qr/RM012: argument "\w+" needs a "url"/, "needs a URL: $_") for q(headers => '{}'), q(signing_secret => 'sig'), q(format => 'batch', batch_size => 5), q(max_in_flight => 5), q(rate_limit => '1/s');
is(sql(q{SELECT count(*) FROM romancy.destinations}), '0', 'nothing was defined');

# ---- formats
my %how = (structured => q{, signing_secret => 'sig', headers => '{"X-Key": "{{secret:k}}", "X-Empty": ""}'}, binary => q{, format => 'binary'},
	batch => q{, format => 'batch', batch_size => 3, signing_secret => 'both'});
sql("SELECT romancy.define_destination('$_', url => '$url/empty/$_', event_types => '{f}'$how{$_})") for sort keys %how;
sql(q{SELECT romancy.send_event('f', '/test', '{"n": [1, "é", null, 1.50]}', id => 'all', subject => 'é "quoted" 100%', extensions => '{"trace": "a b", "n": 3, "b": true}'),
	romancy.send_event('f', '/test', id => 'nothing'), romancy.send_event('f', '/test', 'null', id => 'null'), romancy.send_event('f', '/test', '"<a>"', datacontenttype => 'text/xml', id => 'xml'),
	romancy.send_event('f', '/test', data_binary => '\x00ff', id => 'bytes'), romancy.send_event('f', '/té st', '1', id => 'a b%é')});
settled('f', 'published', 'all formats are delivered');
my @got = $http->requests;
is(join(' ', map { my $p = $_; "$p:" . grep { $_->{path} eq "/empty/$p" } @got } qw(structured binary batch)), 'structured:6 binary:6 batch:2', 'one request for each event, or for up to three');
my ($first) = grep { $_->{path} eq '/empty/structured' } @got;
is($first->{headers}{'x-key'} . '|' . $first->{headers}{'x-empty'}, 'tiger-in-the-tank|', 'with the headers of the destination');
is($first->{headers}{'user-agent'}, 'romancy/0.1', 'and who sends');
my ($nothing) = grep { $_->{path} eq '/empty/binary' && $_->{headers}{'ce-id'} eq 'nothing' } @got;
is($nothing->{headers}{'content-type'} // 'none', 'none', 'no data, no type');

SKIP: {
	my $venv = PostgreSQL::Test::Utils::tempdir();
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ 'python3', '-m', 'venv', '--system-site-packages', $venv ], '<', \'', '>', \$out, '2>', \$err) &&
		IPC::Run::run([ "$venv/bin/python", '-m', 'pip', '-q', '--disable-pip-version-check', 'install', 'cloudevents>=2,<3', 'standardwebhooks' ], '<', \'', '>', \$out, '2>', \$err);
	skip 'cloudevents and standardwebhooks cannot be installed: ' . (split /\n/, "$out$err" || '?')[-1], 1 unless $ok;
	my $log = join '', map { JSON::PP::encode_json($_) . "\n" } @got;
	($out, $err) = ('', '');
	IPC::Run::run([ "$venv/bin/python", "$FindBin::RealBin/../perl/read_events.py", $key, $next_key ], '<', \$log, '>', \$out, '2>', \$err);
	is($err, '', 'each request can be read');
	my @read = map { JSON::PP::decode_json($_) } split /\n/, $out;
	for my $format (qw(structured binary batch))
	{
		my %event = map { $_->{attributes}{id} => $_ } grep { $_->{path} eq "/empty/$format" && $_->{attributes} } @read;
		is(join(',', sort keys %event), "a b%\x{e9},all,bytes,nothing,null,xml", "$format: each event");
		my $json = JSON::PP->new->canonical->allow_nonref;
		is($json->encode($event{all}{data}), $json->encode({ n => [ 1, "\x{e9}", undef, 1.5 ] }), "$format: JSON data");
		is(join('|', map { $event{all}{attributes}{$_} } qw(source specversion subject type datacontenttype trace n)), "/test|1.0|\x{e9} \"quoted\" 100%|f|application/json|a b|3", "$format: attributes");
		like($event{all}{attributes}{b}, qr/^(1|true)$/, "$format: a boolean");
		like($event{all}{attributes}{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00$/, "$format: its time");
		is($event{bytes}{data}, 'base64:AP8=', "$format: binary data");
		is($event{xml}{data}, '<a>', "$format: data of another type");
		is($event{"a b%\x{e9}"}{attributes}{source}, "/t\x{e9} st", "$format: other characters");
	}
	my @signed = map { "$_->{path}:" . join('', map { $_ ? 1 : 0 } @{ $_->{signed} }) } grep { $_->{attributes} } @read;
	is(join(' ', sort keys %{ { map { $_ => 1 } @signed } }), '/empty/batch:11 /empty/binary:00 /empty/structured:10', 'signed with each key of the secret');
	is(join(' ', sort keys %{ { map { join('', map { $_ ? 1 : 0 } @$_{qw(forged late other)}) => 1 } grep { exists $_->{forged} } @read } }), '000', 'a changed body, an old time and another id fail');
	is($_->{headers}{'webhook-id'}, 'all', 'the id is the event\'s') for grep { $_->{path} eq '/empty/structured' && $_->{body} =~ /"id":"all"/ } @got;
	my %ids = map { $_->{headers}{'webhook-id'} => 1 } grep { $_->{path} eq '/empty/batch' } @got;
	is(scalar(grep { /^batch_[0-9a-f]{32}$/ } keys %ids), 2, 'and each batch has one of its own');
}

# ---- answers
destination('flaky', 'flaky', $quick);
send_events('flaky', '1, 3');
settled('flaky', 'published', 'a 503 is tried again');
is(sql(q{SELECT string_agg(DISTINCT attempt::text, ',') FROM romancy.outbox WHERE type = 'flaky'}), '2', 'twice');
for my $how ('later/1', 'later-date/2')
{
	my ($name) = $how =~ /^([a-z-]+)/;
	$http->forget;
	destination($name, $how, $quick);
	send_events($name, '1, 1');
	settled($name, 'published', "$how: tried again");
	my @sent = $http->requests;
	cmp_ok($sent[1]{at} - $sent[0]{at}, '>=', 0.9, "$how: not before the time that the server says");
}
destination('refused', 'status/404');
send_events('refused', '1, 1');
settled('refused', 'invalid', 'a 404 is final');
like(sql(q{SELECT attempt || error FROM romancy.outbox WHERE type = 'refused'}), qr{^1POST \Q$url\E/status/404: HTTP 404: body of 404$}, 'and says why');
destination('two', 'status/503', q{, retry => '{"initial_interval": "20 ms", "max_attempts": 2}'});
send_events('two', '1, 1');
settled('two', 'dead', 'no attempt is left');
destination('hangs', 'hang', q{, retry => '{"max_attempts": 1}'});
destination('cut', 'cut', q{, retry => '{"max_attempts": 1}'});
destination('moved', 'moved', q{, retry => '{"max_attempts": 1}'});
sql(q{ALTER SYSTEM SET romancy.http_timeout = '500ms'; SELECT pg_reload_conf()});
poll_until($node, q{SHOW romancy.http_timeout}, 'a time limit', expected => '500ms');
$http->forget;
send_events($_, '1, 1') for qw(hangs cut moved);
settled($_, 'dead', "$_: no answer") for qw(hangs cut moved);
is(sql(q{SELECT string_agg(regexp_replace(error, '^.*?: ', ''), '; ' ORDER BY type) FROM romancy.outbox WHERE type IN ('hangs', 'moved')}), 'no answer within the time limit; HTTP 301', 'the errors say so');
is(scalar(grep { $_->{path} !~ m{^/(hang|cut|moved)} } $http->requests), 0, 'a redirect is not followed');
sql(q{ALTER SYSTEM RESET romancy.http_timeout; SELECT pg_reload_conf()});

# a batch that is refused goes in single events: one that is wrong keeps no other
destination('mixed', 'refuses/poison', q{, format => 'batch'});
sql(q{SELECT count(romancy.send_event('mixed', '/test', to_jsonb(CASE WHEN n = 3 THEN 'poison' ELSE n::text END))) FROM generate_series(1, 6) n});
poll_until($node, q{SELECT string_agg(status || ' ' || attempt, ',' ORDER BY "time") FROM romancy.outbox WHERE type = 'mixed'}, 'only the wrong event is invalid',
	expected => 'published 1,published 1,invalid 1,published 1,published 1,published 1');

# numbers whose digits are a multiple of the event's bytes would take the worker's memory: such an event is invalid, its batch is sent without it
destination('swollen', 'echo', q{, format => 'batch'});
sql(q{SELECT count(romancy.send_event('swollen', '/test', CASE WHEN n = 3 THEN (SELECT jsonb_agg(1e131071) FROM generate_series(1, 100)) ELSE to_jsonb(n) END)) FROM generate_series(1, 6) n});
poll_until($node, q{SELECT string_agg(status, ',' ORDER BY "time") FROM romancy.outbox WHERE type = 'swollen'}, 'an event with numbers of 13 MB is invalid',
	expected => 'published,published,invalid,published,published,published');
like(sql(q{SELECT string_agg(error, '; ') FROM romancy.outbox WHERE type = 'swollen'}), qr/^the request cannot be made: the event's numbers are too long$/, 'its error says so');

# 410 pauses
destination('gone', 'gate/gone/410');
send_events('gone', '1, 2');
poll_until($node, q{SELECT paused AND paused_by = 'romancy' AND note LIKE '%410%' FROM romancy.destinations WHERE name = 'gone'}, 'a 410 pauses the destination');
poll_until($node, q{SELECT bool_and(status = 'pending' AND attempt = 0 AND lease_until IS NULL) FROM romancy.outbox WHERE type = 'gone'}, 'its events wait');
like(sql(q{SELECT romancy.health() ->> 'attention'}), qr/1 destination is paused by the engine/, 'health tells of it');
$http->let('gone');
$http->forget;
sql(q{SELECT romancy.resume_destination('gone')});
settled('gone', 'published', 'they go when it is resumed');
is(sql(q{SELECT romancy.pause_destination('gone', 'by hand')}), 't', 'paused by hand');
send_events('gone', '3, 3');

# the breaker
destination('down', 'gate/down', $quick);
send_events('down', '1, 30');
poll_until($node, q{SELECT breaker = 'open' AND failures >= 5 AND retry_at > clock_timestamp() AND error LIKE '%HTTP 503%' FROM romancy.destinations WHERE name = 'down'}, 'failures in a row open the breaker');
$http->forget;
like(sql(q{SELECT romancy.health() ->> 'attention'}), qr/1 destination cannot be reached/, 'health tells of it');
like(sql(q{SELECT romancy.metrics()}), qr/romancy_destination_open\{namespace="[^"]*",destination="down"\} 1\n/, 'metrics, too');
send_events('flaky', '4, 6');
poll_until($node, q{SELECT count(*) = 6 AND bool_and(status = 'published') FROM romancy.outbox WHERE type = 'flaky'}, 'others are served');
cmp_ok(scalar(grep { $_->{path} eq '/gate/down' } $http->requests), '<=', 2, 'while it is open nothing is sent but a probe');
poll_until($node, q{SELECT failures > 5 FROM romancy.destinations WHERE name = 'down'}, 'a probe fails');
$http->let('down');
settled('down', 'published', 'a probe that succeeds closes it, and all events go');
is(sql(q{SELECT breaker || failures FROM romancy.destinations WHERE name = 'down'}), 'closed0', 'closed');

# ---- order: one of a key at a time, and one that fails holds its key only
$http->forget;
destination('keys', 'gate/keys', q{, max_in_flight => 20} . $quick);
send_events('keys', '1, 60', q{, ordering_key => 'k' || n % 3});
poll_until($node, q{SELECT count(*) >= 3 FROM romancy.outbox WHERE type = 'keys' AND attempt > 0}, 'the first of each key are tried');
is(sql(q{SELECT count(*) FROM romancy.outbox WHERE type = 'keys' AND attempt > 0}), '3', 'and no others');
$http->let('keys');
sql(q{SELECT romancy.pause_destination('keys'), romancy.resume_destination('keys')});
settled('keys', 'published', 'all of them');
my %order;
for my $n (map { JSON::PP::decode_json($_->{body})->{data} } grep { $_->{path} eq '/gate/keys' } $http->requests)
{
	push @{ $order{ $n % 3 } }, $n unless $n == ($order{ $n % 3 }[-1] // 0);
}
for my $k (0 .. 2) { is("@{ $order{$k} }", join(' ', grep { $_ % 3 == $k } 1 .. 60), "key $k in order") }

# ---- limits
destination('few', 'slow/0.3', q{, max_in_flight => 2});
send_events('few', '1, 6');
my $most = 0;
poll_until(sub {
	my ($n, $left) = split /\|/, sql(q{SELECT count(*) FILTER (WHERE lease_until IS NOT NULL), count(*) FILTER (WHERE status = 'pending') FROM romancy.outbox WHERE type = 'few'});
	$most = $n if $n > $most;
	return $left == 0;
}, 'six of them');
cmp_ok($most, '<=', 2, 'two at a time');
destination('rated', 'echo', q{, rate_limit => '3/s'});
$http->forget;
send_events('rated', '1, 9');
settled('rated', 'published', 'nine events at three a second');
my @at = sort { $a <=> $b } map { $_->{at} } $http->requests;
cmp_ok($at[-1] - $at[0], '>=', 1.8, 'take two seconds');

# ---- what must not be reached is not sent, and not lost
destination('denied', 'echo');
sql(qq{SELECT romancy.deny_http('postgres')});
$http->forget;
send_events('denied', '1, 2');
poll_until($node, q{SELECT error LIKE '%may not send HTTP requests%' FROM romancy.destinations WHERE name = 'denied'}, 'the rule is gone');
is(sql(q{SELECT string_agg(DISTINCT status || attempt, ',') FROM romancy.outbox WHERE type = 'denied'}), 'pending0', 'events wait, and have no attempt');
is(scalar($http->requests), 0, 'nothing was sent');
sql(qq{SELECT romancy.allow_http('postgres', '$url/*')});
destination('denied', 'echo');
poll_until($node, q{SELECT error LIKE '%has an address%' FROM romancy.destinations WHERE name = 'denied'}, 'its address is a private one');
poll_until($node, q{SELECT bool_and(status = 'pending' AND attempt = 0) FROM romancy.outbox WHERE type = 'denied'}, 'no attempt either');
sql(qq{SELECT romancy.allow_http('postgres', '$url/*', private => true)});
destination('denied', 'echo');
settled('denied', 'published', 'allowed, they go');
is(sql(q{SELECT count(*) FROM romancy.outbox o, romancy.destinations d WHERE o::text LIKE '%tiger%' OR d::text LIKE '%tiger%' OR o::text LIKE '%MfKQ9r8%' OR d::text LIKE '%MfKQ9r8%'}), '0', 'no secret is in a view');
destination('echoes', 'gate/x/400', q{, headers => '{"X-Key": "{{secret:k}}"}'});
send_events('echoes', '1, 1');
settled('echoes', 'invalid', 'a receiver that sends a secret back');
like(sql(q{SELECT error FROM romancy.outbox WHERE type = 'echoes'}), qr/gate of \[secret\]/, 'it is in no error');

# ---- programs and the server: each has its own destinations
like(refused(q{fetch_outbox(1, '1 min', 'structured')}), qr/RM010: the events of destination "structured" are sent by the server/, 'a program fetches none of the server\'s');
send_events('gone', '4, 4');
is(sql(q{SELECT count(*) FROM romancy.fetch_outbox(100, '1 min')}), '0', 'nor by chance');
send_events('plain', '1, 1');
is(sql(q{SELECT count(*) FROM romancy.fetch_outbox(100, '1 ms')}), '1', 'it gets what goes nowhere else');
sql(qq{ALTER SYSTEM SET romancy.outbox_url = '$url/echo/default'; SELECT pg_reload_conf()});
poll_until($node, q{SHOW romancy.outbox_url}, 'a URL for all else', expected => "$url/echo/default");
send_events('plain', '2, 3');
settled('plain', 'published', 'and events go there');

# ---- nothing is held while a receiver takes its time, and a destination can be dropped meanwhile
destination('slow', 'until/slow', q{, max_in_flight => 100});
send_events('slow', '1, 50');
poll_until($node, q{SELECT count(*) = 50 FROM romancy.outbox WHERE type = 'slow' AND lease_until IS NOT NULL}, 'fifty are under way');
poll_until($node, q{SELECT count(*) = 1 AND bool_and(backend_xmin IS NULL AND xact_start IS NULL) FROM pg_stat_activity WHERE backend_type = 'romancy http'}, 'the worker has no transaction and no snapshot');
is(sql(q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.backend_type = 'romancy http'}), '0', 'and no lock');
is(sql(q{SELECT romancy.drop_destination('slow', discard => true)}), 't', 'it is dropped');
$http->let('slow');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind = 'http'}, 'the worker leaves when it is idle');
is(sql(q{SELECT string_agg(DISTINCT status, ',') FROM romancy.outbox WHERE type = 'slow'}), 'dead', 'late answers change nothing');
send_events('flaky', '7, 7');
poll_until($node, q{SELECT count(*) = 7 AND bool_and(status = 'published') FROM romancy.outbox WHERE type = 'flaky'}, 'an event calls it again');
$http->forget;
is(sql(q{SELECT romancy.replay_outbox('{"destination": "flaky", "status": "published"}')}), '7', 'replayed');
poll_until($node, q{SELECT count(*) = 7 AND bool_and(status = 'published') FROM romancy.outbox WHERE type = 'flaky'}, 'they are published once more');
cmp_ok(scalar(grep { $_->{path} eq '/flaky' } $http->requests), '>=', 7, 'and sent once more');

# ---- a destination that is defined anew, or replaced, has nothing to do with the answers of the one before
for my $status (410, 503)
{
	for my $how ('dropped', 'replaced')
	{
		my $name = "anew_${how}_$status";
		destination($name, "until/$name/$status", $quick);
		send_events($name, '1, 1');
		poll_until(sub { grep { $_->{path} eq "/until/$name/$status" } $http->requests }, "$name: a request is under way");
		sql("SELECT romancy.drop_destination('$name', discard => true)") if $how eq 'dropped';
		destination($name, 'echo/anew', $quick);
		$http->let($name);
		send_events($name, '2, 2');
		poll_until($node, "SELECT bool_or(status = 'published') FROM romancy.outbox WHERE type = '$name'", "$name: the next event goes out");
		poll_until($node, "SELECT count(*) = 0 FROM romancy.outbox WHERE type = '$name' AND lease_until IS NOT NULL", "$name: the late answer is in");
		is(sql("SELECT paused, failures, breaker, error FROM romancy.destinations WHERE name = '$name'"), 'f|0|closed|', "$name: as if it had never come");
	}
}

# ---- a sender sees the status of an answer, not another role's URL and what its receiver says
sql(q{CREATE ROLE mate LOGIN; SELECT romancy.grant_usage('mate', namespace => (SELECT namespace FROM romancy.destinations WHERE name = 'flaky'), define => false)});
destination('private_path', 'gate/sesame/404');
sql(q{SET SESSION AUTHORIZATION mate; SELECT romancy.send_event('private_path', '/test')});
settled('private_path', 'invalid', 'a receiver refuses an event');
like(sql(q{SELECT error FROM romancy.outbox WHERE type = 'private_path'}), qr/sesame.*HTTP 404: gate of/, 'its owner sees why');
is(sql(q{SET SESSION AUTHORIZATION mate; SELECT error FROM romancy.outbox WHERE type = 'private_path'}), 'HTTP 404', 'its sender sees the status');

$http->stop;
$node->stop;
done_testing();
