# Queues that are served by a URL (set_queue(push_url)): each activity is posted there, signed, and its answer, or a later call with the token, ends it; limits,
# pauses, cancels, compensations, two namespaces, whose tasks and which URLs. It would catch a task that is not sent, or sent to a URL that is not allowed to both
# roles, one that a program fetches as well, a request that goes on when its instance has ended, and a step with two outcomes.
# Takes 35 s.
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256_base64);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP ();
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancyTest;
use Test::More;

has_http() or plan skip_all => 'this build has no libcurl';

my $node = romancy_node('push', 'romancy.worker_idle_timeout' => '1s', 'max_connections' => 40, 'autovacuum' => 'off', 'romancy.http_timeout' => '60s',
	'romancy.resumption_interval' => '1s', map({ ("romancy.${_}_interval" => '1h') } qw(lock_cleanup activity_timeout timer)));
my $http = RomancyHttp->new($node);
my $url = $http->url;
my $json = JSON::PP->new->canonical;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub fails { my ($sql) = @_; my ($rc, $out, $err) = $node->psql('postgres', $sql); return $err }
sub as { my ($role, $sql) = @_; return sql("SET SESSION AUTHORIZATION $role; $sql") }
sub set { my ($path, $more) = @_; return sql("SELECT romancy.set_queue('q', push_url => '$url/$path'" . ($more ? ", $more" : '') . ')') }
sub start { my ($workflow, $input) = @_; return sql("SELECT romancy.start_workflow('$workflow', \$\$$input\$\$)") }
sub result { my ($id) = @_; my ($rc, $out, $err) = $node->psql('postgres', "CALL romancy.await_result('$id', '60s')"); return $rc == 0 ? $out : $err }
sub one { my ($input) = @_; return result(start('one', $input // '{}')) }
# requests of an instance, once there are n
sub sent
{
	my ($id, $n) = @_;
	my @got;
	poll_until(sub { @got = grep { $_->{headers}{'idempotency-key'} =~ /^\Q$id\E/ } $http->requests; return @got >= $n }, "$n requests of $id");
	return @got;
}
sub under_way { my ($name) = @_; return scalar grep { $_->{path} eq "/until/$name" } $http->requests }
my $retry = q('{"initial_interval": "10ms", "max_attempts": 3}');

sql(qq{
	CREATE FUNCTION one(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity('it', i); END \$\$;
	CREATE FUNCTION named(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity(i->>'a', i); END \$\$;
	CREATE FUNCTION many(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.map('it', i); END \$\$;
	CREATE FUNCTION saga(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN PERFORM romancy.activity('done', i); PERFORM romancy.activity('undone', i); RAISE 'no'; END \$\$;
	SELECT romancy.define_workflow(f, f || '(jsonb)') FROM unnest(ARRAY['one', 'named', 'many', 'saga']) f;
	SELECT romancy.allow_http('postgres', '$url/*', private => true);
	SELECT romancy.define_activity('it', queue => 'q', retry => $retry),
		romancy.define_activity('beats', queue => 'q', heartbeat_timeout => '300ms', retry => '{"max_attempts": 1}'),
		romancy.define_activity('brief', queue => 'q', start_to_close_timeout => '300ms', retry => '{"max_attempts": 1}'),
		romancy.define_activity('undo', queue => 'u', retry => $retry),
		romancy.define_activity('done', queue => 'u', compensation => 'undo', retry => $retry),
		romancy.define_activity('undone', queue => 'q', compensation => 'undo', retry => $retry);
});

# ---- what is sent, and what is a result
set('echo');
my $id = start('one', '{"a": "grüße", "n": 1.50}');
my $echo = $json->decode(result($id));
my ($request) = sent($id, 1);
my $task = $json->decode($request->{body} =~ s/([\x80-\xff]+)/$1/r);
is($request->{method} . ' ' . $request->{headers}{'content-type'}, 'POST application/json', 'a POST of JSON');
is(join(' ', sort keys %$task), 'activity activity_id attempt deadline input instance_id last_details step_key token', 'of an activity_task');
is("$task->{activity} $task->{activity_id} $task->{attempt} $task->{instance_id} $task->{step_key}", "it it:1 1 $id $id/it:1", 'with all that a program gets');
like($request->{body}, qr/"input": \{"a": "gr\xc3\xbc\xc3\x9fe", "n": 1.50\}/, 'and its input');
is($request->{headers}{'romancy-callback'}, $task->{token}, 'the token is in a header, too');
is($request->{headers}{'idempotency-key'}, "$id/it:1", 'and the key of the step');
like($request->{headers}{traceparent}, qr/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/, 'and a trace');
unlike($request->{headers}{'webhook-signature'} // '', qr/./, 'not signed without a secret');
like($echo->{body}, qr/"token": "\[secret\]"/, 'the token that the server sends back is in no result');
is(sql("SELECT romancy.complete_activity('$task->{token}', '1')"), 'f', 'it is worth nothing any more');
set('text');
is(one(), '"grüße"', 'a result that is text');
set('echo/{customer.id}?x={n}');
like(one('{"customer": {"id": "a/b"}, "n": 2}'), qr{"path": "/echo/a%2Fb\?x=2"}, 'values of the input in the URL');
like(one('{"n": 2}'), qr/cannot be made\nDETAIL:  The reason: the input has no string, number or boolean "customer.id"/, 'which it may lack');

# ---- statuses
set('status/404');
like(one(), qr{POST \Q$url\E/status/404: HTTP 404\nDETAIL:  body of 404}, 'a 404 fails the step');
$http->forget;
set('status/503');
$id = start('one', '{}');
like(result($id), qr/HTTP 503/, 'a 503 does when no attempt is left');
my @sent = sent($id, 3);
is(scalar(@sent), 3, 'three attempts');
is(join(' ', map { $json->decode($_->{body})->{attempt} } @sent), '1 2 3', 'are counted');
is(scalar(keys %{ { map { $_->{headers}{'idempotency-key'} => 1 } @sent } }), 1, 'have one key');
is(scalar(keys %{ { map { $_->{headers}{'romancy-callback'} => 1 } @sent } }), 3, 'and a token each');
set('later/1');
$id = start('one', '{}');
is(result($id), '{"n": 2}', 'a 429 is tried again');
@sent = sent($id, 2);
cmp_ok($sent[1]{at} - $sent[0]{at}, '>=', 0.9, 'not before the time that the server says');
set('until/never');
like(result(start('named', '{"a": "brief"}')), qr/no answer within the time limit|exceeded its start_to_close_timeout/, 'start_to_close_timeout limits the request');

# ---- 202: a call ends it
set('accept');
$id = start('one', '{}');
my ($accepted) = sent($id, 1);
poll_until($node, "SELECT count(*) = 1 FROM romancy.activity_tasks WHERE instance_id = '$id' AND status = 'running' AND due_at = 'infinity'", 'a 202 leaves it to a call');
my $token = $json->decode($accepted->{body})->{token};
is(sql("SELECT romancy.heartbeat_activity('$token')"), 'ok', 'it holds a lease');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind = 'http'}, 'no worker waits for it');
$node->stop('immediate');
$node->start;
is(sql(qq{SELECT romancy.complete_activity('$token', '{"late": 1}')}), 't', 'also after a crash');
is(result($id), '{"late": 1}', 'its result');
is(scalar(sent($id, 1)), 1, 'it was sent once');
$id = start('one', '{}');
($accepted) = sent($id, 1);
is(sql("SELECT romancy.fail_activity('" . $json->decode($accepted->{body})->{token} . "', 'no luck')"), 't', 'a failure');
@sent = sent($id, 2);
sql("SELECT romancy.complete_activity('" . $json->decode($sent[1]{body})->{token} . "', '2')");
is(result($id), '2', 'is tried again');
like(result(start('named', '{"a": "beats"}')), qr/exceeded its heartbeat_timeout/, 'a heartbeat_timeout holds for one that calls back');

# ---- signed, with headers
my $key = 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
sql("SELECT romancy.set_secret('sign', 'whsec_$key', '127.0.0.1'), romancy.set_secret('bearer', 'tiger-in-the-tank', '127.0.0.1')");
set('echo', q{signing_secret => 'sign', headers => '{"Authorization": "Bearer {{secret:bearer}}"}'});
$id = start('one', '{"a": "ü"}');
my $signed = result($id);
($request) = sent($id, 1);
my $h = $request->{headers};
is($h->{'webhook-id'}, $h->{'idempotency-key'}, 'signed: the id is the key of the step');
my $mac = hmac_sha256_base64(join('.', $h->{'webhook-id'}, $h->{'webhook-timestamp'}, $request->{body}), decode_base64($key));
$mac .= '=' while length($mac) % 4;
is($h->{'webhook-signature'}, "v1,$mac", 'the signature of id, time and body');
is($h->{authorization}, 'Bearer tiger-in-the-tank', 'a secret in a header');
unlike($signed, qr/tiger/, 'is in no result');
is(sql(q{SELECT pushed, push_url, signing_secret, headers, owner FROM romancy.queues WHERE name = 'q'}), qq(t|$url/echo|sign|{"Authorization": "Bearer {{secret:bearer}}"}|postgres), 'view queues');

my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'a dump');
like(slurp_file($dump), qr{\t\Q$url\E/echo\t.*\tsign\n}, 'has the URL of the queue');
unlike(slurp_file($dump), qr/tiger-in/, 'and no secret');

# ---- programs
like(fails(q{SELECT * FROM romancy.fetch_activities('q', 'w')}), qr/queue "q" is served by a URL/, 'no program fetches');
like(fails(q{\set VERBOSITY verbose
CALL romancy.poll_activities('q', 'w', wait => '1s')}), qr/RM010/, 'nor polls');
sql(q{SELECT romancy.set_queue('q')});
my $poller = $node->background_psql('postgres', on_error_stop => 0);
$poller->query_until(qr/begun/, qq{\\echo begun\nCALL romancy.poll_activities('q', 'w', wait => NULL);\n\\echo ended\n});
poll_until($node, q{SELECT waiting FROM romancy.pollers WHERE queue = 'q'}, 'a program waits for a queue');
set('echo');
poll_until($node, q{SELECT NOT waiting FROM romancy.pollers WHERE queue = 'q'}, 'and is told when it is served by a URL');
eval { $poller->quit };
sql(q{SELECT romancy.pause_queue('q')});
$id = start('one', '{}');
poll_until($node, "SELECT ready = 1 FROM romancy.queues WHERE name = 'q'", 'a task waits');
sql(q{SELECT romancy.set_queue('q'), romancy.resume_queue('q')});
is(sql(q{SELECT romancy.release_activity(token) FROM romancy.fetch_activities('q', 'w')}), 't', 'without a URL programs fetch again');
sql("SELECT romancy.cancel_workflow('$id')");
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$id'", 'cancelled');

# a lease of a program's is not the worker's: neither its start nor its end touches it
$id = start('one', '{"kept": 1}');
poll_until($node, q{SELECT ready = 1 FROM romancy.queues WHERE name = 'q'}, 'ready');
$token = sql(q{SELECT token FROM romancy.fetch_activities('q', 'w')});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind = 'http'}, 'no worker');
set('echo');
one();
is(sql("SELECT romancy.complete_activity('$token', '7')"), 't', 'a task that a program has when the URL is set stays with it');
is(result($id), '7', 'to its end');

# ---- limits and pauses
set('until/two', 'max_concurrency => 2');
$id = start('many', '[1, 2, 3, 4, 5]');
poll_until(sub { under_way('two') == 2 }, 'max_concurrency: two are under way');
poll_until($node, q{SELECT ready = 3 AND running = 2 FROM romancy.queues WHERE name = 'q'}, 'three wait');
$http->let('two');
result($id);
is(under_way('two'), 5, 'then all are sent');
set('until/keys', q{max_concurrency => 1, per_key => 'k'});
$id = start('many', '[{"k": "a"}, {"k": "a"}, {"k": "b"}, {"k": "b"}]');
poll_until(sub { under_way('keys') == 2 }, 'per_key: one of each key');
poll_until($node, q{SELECT ready = 2 FROM romancy.queues WHERE name = 'q'}, 'the others wait');
$http->let('keys');
result($id);
set('echo', q{rate_limit => '2/s'});
$http->forget;
$id = start('many', '[1, 2, 3, 4, 5, 6]');
result($id);
my @at = sort { $a <=> $b } map { $_->{at} } sent($id, 6);
# (when they came: of two seconds, so much is left where the first one came late)
cmp_ok($at[5] - $at[0], '>=', 1, 'rate_limit: two at once, and four more in two seconds');
set('echo');
sql(q{SELECT romancy.pause_queue('q')});
$http->forget;
$id = start('one', '{}');
poll_until($node, q{SELECT ready = 1 AND paused FROM romancy.queues WHERE name = 'q'}, 'paused: it waits');
sql(q{SELECT romancy.resume_queue('q')});
result($id);
is(scalar(sent($id, 1)), 1, 'and is sent when the queue goes on');

# ---- an instance that ends; compensations, canvases
set('hang');
$id = start('one', '{}');
sent($id, 1);
sql("SELECT romancy.cancel_workflow('$id')");
poll_until(sub { scalar $http->closed }, 'a cancel closes the connection');
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$id'", 'it is cancelled');
$http->forget;
sql("SELECT romancy.set_queue('u', push_url => '$url/echo')");
$id = start('saga', '{}');
sent($id, 2);
sql("SELECT romancy.cancel_workflow('$id')");
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$id'", 'one that compensates');
is(scalar($http->closed), 1, 'closes it as well');
is(sql("SELECT string_agg(activity_id, ' ' ORDER BY seq) FROM romancy.get_history('$id') WHERE event_type = 'CompensationExecuted'"), 'undone:1 done:1', 'and compensations are sent');
$http->forget;
$id = start('one', '{}');
sent($id, 1);
sql(q{SELECT romancy.set_queue('q')});
sql("SELECT romancy.cancel_workflow('$id')");
poll_until(sub { scalar $http->closed }, 'also of a queue that has no URL any more');
set('echo');
$id = sql(q{SELECT romancy.run_canvas(romancy.chain(romancy.task('it', '1'), romancy.group(romancy.task('it'), romancy.task('it')), romancy.task('it')))});
like(result($id), qr/"body"/, 'a canvas');
is(scalar(sent($id, 4)), 4, 'of four requests');
set('hang');
$http->forget;
$id = sql(q{SELECT romancy.run_canvas(romancy.chain(romancy.task('it', '1'), romancy.task('it')))});
sent($id, 1);
is(sql("SELECT romancy.cancel_task('$id', path) FROM romancy.canvas_tasks('$id') WHERE status = 'running'"), 't', 'a task of it is cancelled');
poll_until(sub { scalar $http->closed }, 'which closes the connection');

# ---- drain sends nothing
set('echo');
sql(q{ALTER SYSTEM SET romancy.enabled = off; SELECT pg_reload_conf()});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'no worker runs');
$id = start('one', '{}');
sql('CALL romancy.drain()');
is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'waiting_for_activity', 'drain leaves it to the worker');
sql(q{ALTER SYSTEM RESET romancy.enabled; SELECT pg_reload_conf()});
like(result($id), qr/"body"/, 'that sends it when it runs');

# ---- kills of the worker and of the server: one outcome for each task
set('shaky');
sql(qq{SELECT romancy.define_activity('it', queue => 'q', retry => '{"initial_interval": "10ms", "max_interval": "50ms", "max_attempts": 0, "max_duration": null}')});
$http->forget;
my @ids = map { start('many', '[' . join(',', 1 .. 40) . ']') } 1 .. 10;
for my $round (1 .. 10)
{
	my $before = scalar $http->requests;
	poll_until(sub { scalar($http->requests) > $before + 10 || sql(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'many' AND finished_at IS NULL}) == 0 }, "round $round: requests");
	if ($round % 5 == 0)
	{
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		sql(q{SELECT pg_terminate_backend(pid) FROM romancy.workers WHERE kind = 'http'});
	}
}
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE workflow = 'many' AND finished_at IS NULL}, 'all end');
my $list = join(',', map { "'$_'" } @ids);
is(sql("SELECT count(*) FROM romancy.instances WHERE instance_id IN ($list) AND status = 'completed' AND jsonb_array_length(output) = 40"), 10, 'well, with all results');
is(sql("SELECT count(*) || ' ' || count(DISTINCT (instance_id, activity_id)) FROM unnest(ARRAY[$list]::uuid[]) i (instance_id), romancy.get_history(instance_id) WHERE event_type IN ('ActivityCompleted', 'ActivityFailed')"), '400 400',
	'each task has one outcome');
my %ok = map { $_->{headers}{'idempotency-key'} => 1 } grep { $_->{ok} } $http->requests;
is(scalar(keys %ok), 400, 'and the server has seen each');
is(sql(q{SELECT count(*) FROM romancy.activity_tasks WHERE status <> 'dead'}), 0, 'no task is left');
is(sql(q{SELECT running FROM romancy.queues WHERE name = 'q'}), 0, 'none is counted as running');

$http->stop;
$node->stop;
done_testing();
