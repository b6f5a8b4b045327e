# Queues that are served by a URL, of several roles and namespaces: whose tasks are sent, what both roles may reach, owners that lose their rights or are dropped, and
# what changes while a request is under way, URLs that must not be reached, secrets that are not to be told, and places and errors of one namespace that are not to stop the others. It would
# catch work of a role that goes to the URL of another which could not fetch it, a request to a private address that only one of them may reach, a step that fails because a role is
# not there for a while, a secret in an error, and a queue that keeps the HTTP worker from all others.
# Takes 30 s.
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

my $node = romancy_node('pushshares', 'max_connections' => 30, 'autovacuum' => 'off', 'romancy.http_timeout' => '10min', 'romancy.http_max_in_flight' => 8,
	'romancy.resumption_interval' => '1h', 'fsync' => 'off');
my $http = RomancyHttp->new($node);
my $url = $http->url;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return sql("SET SESSION AUTHORIZATION $role; $sql") }
sub start { my ($role, $input) = @_; return as($role, "SELECT romancy.start_workflow('one', '" . ($input // '{}') . "')") }
sub outcome { my ($role, $id) = @_; my ($rc, $out, $err) = $node->psql('postgres', "SET SESSION AUTHORIZATION $role; CALL romancy.await_result('$id', '60s')"); return $rc == 0 ? $out : $err }
sub paths { my ($id) = @_; return join ' ', map { $_->{path} } grep { $_->{headers}{'idempotency-key'} =~ /^\Q$id\E/ } $http->requests }
sub under_way { my ($path) = @_; return scalar grep { $_->{path} =~ m{^/until/$path} } $http->requests }
sub fails { my ($role, $sql) = @_; my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSET SESSION AUTHORIZATION $role; $sql"); return $err }
# looked($id): the worker has looked at the task of an instance, which is ready: something of another namespace was sent since
sub looked
{
	my ($waits) = @_;
	poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$waits'", 'its task is ready', expected => 'waiting_for_activity') if $waits;
	my $id = start('bea');
	outcome('bea', $id);
	return;
}

sql(q{CREATE FUNCTION one(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity(coalesce(i->>'a', 'it'), i); END $$;
	CREATE FUNCTION many(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('it', i); END $$});
sql("CREATE ROLE $_ LOGIN") for qw(ann bea clerk mallory ops);
sql("SELECT romancy.grant_usage('$_->[0]', namespace => '$_->[1]')") for [ 'ann', 'ann' ], [ 'clerk', 'ann' ], [ 'mallory', 'ann' ], [ 'ops', 'ann' ], [ 'bea', 'bea' ];
sql("ALTER ROLE $_->[0] SET romancy.namespace = '$_->[1]'") for [ 'ann', 'ann' ], [ 'clerk', 'ann' ], [ 'mallory', 'ann' ], [ 'ops', 'ann' ], [ 'bea', 'bea' ];
sql("SELECT romancy.allow_http('$_', '$url/*', private => true)") for qw(ann bea mallory);
for my $role (qw(ann bea))
{
	as($role, qq{SELECT romancy.define_workflow('one', 'one(jsonb)'), romancy.define_workflow('many', 'many(jsonb)'),
		romancy.define_activity('it', queue => 'q', retry => '{"max_attempts": 2, "initial_interval": "10ms"}'), romancy.define_activity('free', queue => 'free'),
		romancy.set_queue('q', push_url => '$url/echo/$role')});
}

# ---- two namespaces
my ($a, $b) = (start('ann'), start('bea'));
outcome('ann', $a);
outcome('bea', $b);
is(paths($a), '/echo/ann', 'a queue of one namespace');
is(paths($b), '/echo/bea', 'and one of that name in another');

# ---- whose tasks
my $id = start('clerk');
looked($id);
is(paths($id), '', 'what the queue\'s owner could not fetch is not sent');
is(as('clerk', "SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'waiting_for_activity', 'it waits');
sql("UPDATE romancy.t_task SET created_at = now() - interval '5 min' WHERE instance_id = '$id'");
like(sql('SELECT romancy.health()'), qr/tasks of queue \\"q\\" wait, and role \\"ann\\", whose URL serves it, may not have them/, 'health() says so');
sql('GRANT clerk TO ann');
like(outcome('clerk', $id), qr/workflows of role "clerk" may not send HTTP requests to "\Q$url\E\/echo\/ann"\nHINT:  .*allow_http\('clerk'/, 'the owner of the work must be allowed to reach the URL as well');
sql("SELECT romancy.allow_http('clerk', '$url/echo/*')");
$id = start('clerk');
like(outcome('clerk', $id), qr/its host has an address that HTTP requests may not go to/, 'private addresses both');
is(paths($id), '', 'nothing was sent');
sql("SELECT romancy.allow_http('clerk', '$url/echo/*', private => true)");
$id = start('clerk');
outcome('clerk', $id);
is(paths($id), '/echo/ann', 'then it is');

# another role gives a URL to a queue that has not been set
as('mallory', "SELECT romancy.set_queue('free', push_url => '$url/echo/mallory')");
$id = start('ann', '{"a": "free", "pin": 1234}');
looked($id);
is(paths($id), '', 'a role of the namespace gets no work of others by a URL');
is(scalar(grep { $_->{path} =~ /mallory/ } $http->requests), 0, 'no request at all');
as('mallory', "SELECT romancy.set_queue('free')");
is(as('ann', q{SELECT count(*) FROM romancy.fetch_activities('free', 'w')}), 1, 'and a program has it when the URL is gone');
as('ann', "SELECT romancy.terminate_workflow('$id')");

# ---- rules and rights that are taken away
sql("SELECT romancy.deny_http('ann'), romancy.deny_http('clerk')");
$id = start('ann');
like(outcome('ann', $id), qr/workflows of role "ann" may not send/, 'a rule that is gone');
sql("SELECT romancy.allow_http('clerk', '$url/*', private => true); REVOKE clerk FROM ann; ALTER ROLE ops SUPERUSER");
sql("SET romancy.namespace = 'ann'; SET ROLE clerk; SELECT romancy.define_activity('of_clerk', queue => 'oc')");
sql("SELECT romancy.allow_http('ops', '$url/*', private => true); SET romancy.namespace = 'ann'; SET ROLE ops; SELECT romancy.set_queue('oc', push_url => '$url/echo/oc'); RESET ROLE; SELECT romancy.deny_http('ops')");
$id = start('clerk', '{"a": "of_clerk"}');
like(outcome('clerk', $id), qr/workflows of role "ops" may not send/, 'a rule of the queue\'s owner that is gone, though the work\'s owner has one');
sql(q{ALTER ROLE ops NOSUPERUSER});
$id = start('clerk', '{"a": "of_clerk"}');
looked($id);
is(as('clerk', "SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'waiting_for_activity', 'an owner that is no superuser any more has no work of others');
as('clerk', "SELECT romancy.terminate_workflow('$id')");
sql("SELECT romancy.allow_http('ann', '$url/*', private => true)");
as('ann', q{SELECT romancy.pause_queue('q')});
$id = start('ann');
poll_until(sub { as('ann', q{SELECT ready FROM romancy.queues WHERE name = 'q'}) eq '1' }, 'a task is ready');
sql("SELECT romancy.revoke_usage('ann')");
sql(q{UPDATE romancy.t_queue SET paused = false});
looked();
looked();
is(paths($id), '', 'an owner without the right to use the namespace sends nothing');
sql("SELECT romancy.grant_usage('ann', namespace => 'ann')");
outcome('ann', $id);
is(paths($id), '/echo/ann', 'when it is given back it does');

# ---- what changes while a request is under way
# a role whose queues serve work of ann's
sub hire { return sql(q{CREATE ROLE boss LOGIN; GRANT ann TO boss; SELECT romancy.grant_usage('boss', namespace => 'ann'); ALTER ROLE boss SET romancy.namespace = 'ann'}) }
hire();
my $n = 0;
# meanwhile($role, $status, $sql): an instance of ann's whose request, of a queue of the role's, was under way when the statement ran, and had this answer after it
sub meanwhile
{
	my ($role, $status, $sql) = @_;
	my $name = 'while' . ++$n;
	as('ann', qq{SELECT romancy.define_activity('$name', queue => '$name', retry => '{"max_attempts": 3, "initial_interval": "10ms"}')});
	as($role, "SELECT romancy.set_queue('$name', push_url => '$url/until/$name/$status')");
	my $one = start('ann', qq({"a": "$name"}));
	poll_until(sub { under_way($name) == 1 }, "$name: a request is under way");
	sql($sql =~ s/:name/$name/gr);
	$http->let($name);
	return ($one, $name);
}
sub retries { my ($one) = @_; return poll_until($node, "SELECT count(*) = 1 FROM romancy.activity_tasks WHERE instance_id = '$one' AND status = 'ready'", 'it has an answer, and is to be sent again') }
my $as_boss = q{SET SESSION AUTHORIZATION boss};
my ($one, $name) = meanwhile('ann', 200, q{SELECT romancy.deny_http('ann')});
is(outcome('ann', $one), qq({"until": "$name"}), 'a rule that is taken away leaves a request that is under way alone');
sql("SELECT romancy.allow_http('ann', '$url/*', private => true)");
($one, $name) = meanwhile('ann', 503, q{SELECT romancy.deny_http('ann')});
like(outcome('ann', $one), qr/workflows of role "ann" may not send/, 'but not its next attempt');
is(under_way($name), 1, 'which is not sent');
sql("SELECT romancy.allow_http('ann', '$url/*', private => true)");
for my $case ([ q{SELECT romancy.revoke_usage('ann', namespace => 'ann')}, q{SELECT romancy.grant_usage('ann', namespace => 'ann')}, 'the owner of the queue loses its grant', 'ann' ],
	[ 'ALTER ROLE boss RENAME TO chief', 'ALTER ROLE chief RENAME TO boss', 'is renamed' ],
	[ 'REVOKE ann FROM boss', 'GRANT ann TO boss', 'is no member of the role any more' ],
	[ 'DROP OWNED BY boss; DROP ROLE boss', undef, 'is dropped' ],
	[ "$as_boss; SELECT romancy.pause_queue(':name')", "$as_boss; SELECT romancy.resume_queue(':name')", 'pauses it' ])
{
	my ($take, $give, $what, $role) = @$case;
	($one, $name) = meanwhile($role // 'boss', 503, $take);
	retries($one);
	looked();
	is(under_way($name), 1, "$what: nothing more is sent");
	defined $give ? sql($give =~ s/:name/$name/gr) : hire();
	like(outcome('ann', $one), qr/HTTP 503/, "$what: until all is as before");
	is(under_way($name), 3, "$what: with all of its attempts");
}
($one, $name) = meanwhile('boss', 200, 'DROP OWNED BY boss; DROP ROLE boss');
is(outcome('ann', $one), qq({"until": "$name"}), 'an answer is recorded also where the owner of the queue was dropped meanwhile');
hire();
($one, $name) = meanwhile('boss', 503, "$as_boss; SELECT romancy.set_queue(':name')");
retries($one);
is(as('ann', "SELECT romancy.complete_activity(token, to_jsonb(attempt)) FROM romancy.fetch_activities('$name', 'w')"), 't', 'a queue that has no URL any more: a program has the next attempt');
is(outcome('ann', $one), 2, 'and ends it');
is(under_way($name), 1, 'which is not sent');

# HTTP activities whose owner is dropped: one is ready, and waits for a role of that name, as its instance does
sub employ { return sql(qq{CREATE ROLE temp LOGIN; SELECT romancy.grant_usage('temp', namespace => 'ann'); ALTER ROLE temp SET romancy.namespace = 'ann'}) }
employ();
sql("SELECT romancy.allow_http('temp', '$url/*', private => true)");
as('temp', qq{SELECT romancy.define_activity('of_temp', http => '{"url": "$url/until/temp"}', max_concurrency => 1)});
my @of_temp = map { start('temp', '{"a": "of_temp"}') } 1 .. 2;
poll_until($node, q{SELECT array_agg(status ORDER BY status) = '{ready,running}' FROM romancy.activity_tasks WHERE activity = 'of_temp'}, 'of two requests of HTTP activities one is under way');
poll_until(sub { under_way('temp') == 1 }, 'and the other one waits');
sql('DROP OWNED BY temp; DROP ROLE temp');
$http->let('temp');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.activity_tasks WHERE activity = 'of_temp' AND status = 'running'}, 'the first has its answer after their role was dropped');
looked();
is(under_way('temp'), 1, 'the second is not sent');
is(sql("SELECT count(*) FROM romancy.get_history('$_') WHERE event_type = 'ActivityFailed'"), 0, 'and has not failed') for @of_temp;
employ();
as('temp', "SELECT romancy.resume_workflow('$_')") for @of_temp;
is(outcome('temp', $_), '{"until": "temp"}', 'they go on when the role is there again') for @of_temp;
is(under_way('temp'), 2, 'and are sent once');

# ---- where a URL must not lead, and what must not be told
sub pushed { my ($to, $more) = @_; as('ann', qq{SELECT romancy.set_queue('q', push_url => '$to'$more)}); $http->forget; return outcome('ann', start('ann')) }
like(pushed("$url/moved", ''), qr/HTTP 301/, 'a redirect is not followed');
is(scalar($http->requests), 1, 'but a failure');
my $port = $http->port;
sql("SELECT romancy.allow_http('ann', 'http://*:*/*')");
like(pushed("http://$_/echo", ''), qr/its host has an address that HTTP requests may not go to/, "a private address: $_")
  for "2130706433:$port", "0x7f.1:$port", "0177.0.0.1:$port", "[::ffff:127.0.0.1]:$port", "localhost:$port", '169.254.169.254';
is(scalar($http->requests), 0, 'which has no request');
like(fails('ann', "SELECT romancy.set_queue('q', push_url => '$_')"), qr/RM012|42501/, "no URL for a queue: $_")
  for 'file:///etc/passwd', "http://user:word\@127.0.0.1:$port/", "http://{host}:$port/", "$url/a/../b", "$url/a%2f..%2fb", "$url/{{secret:key}}", 'gopher://127.0.0.1/', "https://127.0.0.1:$port/";
as('ann', q{SELECT romancy.set_secret('key', 'whsec_bGlvbi9saW9uP2xpb24+bGlvbj9saW9uL2xpb24=', '127.0.0.1'), romancy.set_secret('bearer', 'ti/ger"in\the-tänk', '127.0.0.1')});
my $told = pushed("$url/leaks", q{, signing_secret => 'key', headers => '{"Authorization": "Bearer {{secret:bearer}}"}'});
my ($leak) = $http->requests;
like($told, qr/HTTP 400.*"authorization": "Bearer \[secret\]"/s, 'a failure tells what the server said,');
unlike($told, qr/$_/, 'without secrets') for 'ger', 'bGlvb', $leak->{headers}{'romancy-callback'};
is(as('ann', q{SELECT count(*) FROM romancy.instances i, romancy.get_history(i.instance_id) h WHERE h::text || i::text ~ 'ger|bGlvb'}), 0, 'and so do views and histories');
unlike(join('', grep { !/STATEMENT|statement: |set_secret/ } split /^/, slurp_file($node->logfile)), qr/in.the-t|bGlvb/, 'and the log');
sql("SELECT romancy.deny_http('ann', 'http://*:*/*')");

# ---- places
as('ann', join ';', map { "SELECT romancy.define_activity('n$_', queue => 'n$_'), romancy.set_queue('n$_', push_url => '$url/until/slow$_')" } 1 .. 20);
my @ids = map { start('ann', qq({"a": "n$_"})) } 1 .. 20;
poll_until(sub { under_way('slow') == 7 }, 'a namespace with many queues has all places but the last ones');
looked();
is(under_way('slow'), 7, 'the others send meanwhile');
is(as('ann', q{SELECT count(*) || ' ' || min(pollers) || ' ' || max(pollers) FROM romancy.queues WHERE name ~ '^n\\d' AND ready + running > 0}), '20 1 1', 'the views count what serves them');
like(as('ann', q{SELECT romancy.metrics()}), qr/romancy_queue_pollers\{namespace="ann",queue="n20"\} 1\n/, 'so do the metrics');
$http->let("slow$_") for 1 .. 20;
outcome('ann', $_) for @ids;
is(under_way('slow'), 20, 'then all are sent');

# ---- a queue whose tasks cannot be claimed, as its namespace has too many keys in use
as('ann', q{SELECT romancy.define_activity('flood', queue => 'flood')});
$id = as('ann', q{SELECT romancy.run_canvas(romancy.group(romancy.task('flood', '{"k": 0}'), romancy.task('flood', '{"k": 0}')))});
poll_until($node, "SELECT count(*) = 2 FROM romancy.t_task WHERE instance_id = '$id'", 'two tasks');
sql(qq{INSERT INTO romancy.t_task (task_id, instance_id, created_at, priority, kind, state, queue, owner, activity, step, input, next, def_id)
	SELECT overlay(gen_random_uuid()::text PLACING '8' FROM 15 FOR 1)::uuid, instance_id, created_at, priority, kind, state, queue, owner, activity, step || g, jsonb_build_object('k', g), next, def_id
	FROM (SELECT * FROM romancy.t_task WHERE instance_id = '$id' LIMIT 1) t, generate_series(1, 39998) g});
as('ann', q{SELECT romancy.set_queue('flood', max_concurrency => 1, per_key => 'k')});
my ($out, $err) = ('1', '');
$node->psql('postgres', q{SET SESSION AUTHORIZATION ann; SELECT count(*) FROM romancy.fetch_activities('flood', 'w', 1000, '1h')}, stdout => \$out, stderr => \$err) until $err || $out eq '0';
like($err, qr/too many limits are in use in namespace "ann"/, 'a namespace has as many keys in use as it may');
as('ann', "SELECT romancy.set_queue('q', push_url => '$url/echo/ann', per_key => 'k', max_concurrency => 1)");
my $log = -s $node->logfile;
my $stuck = start('ann', '{"k": "one more"}');
poll_until(sub { slurp_file($node->logfile, $log) =~ /could not send the activities of queue "q" of namespace "ann": too many limits/ }, 'the log tells of a queue that cannot be sent');
$id = start('bea');
like(outcome('bea', $id), qr/"body"/, 'others are sent');
is(paths($stuck), '', 'while it waits');
as('ann', q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE workflow = 'canvas' AND finished_at IS NULL});
like(outcome('ann', $stuck), qr/"body"/, 'until there is room');

$http->stop;
$node->stop;
done_testing();
