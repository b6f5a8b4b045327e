# HTTP activities whose server takes the work (202) and calls back: the step waits for complete_activity or fail_activity with the token of the
# request, without a process, through restarts. It would catch a step that ends with the 202, one that a restart of the worker or of the
# server sends again, one that is lost or waited for when its instance ends, and a token that is found in what the engine keeps.
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

my $node = romancy_node('httpback', 'romancy.worker_idle_timeout' => '200ms', 'max_connections' => 30, 'autovacuum' => 'off',
	map({ ("romancy.${_}_interval" => '1h') } qw(lock_cleanup activity_timeout timer)));
my $http = RomancyHttp->new($node);
my $url = $http->url;
sub sql { return $node->safe_psql('postgres', $_[0]) }

my $retry = q('{"initial_interval": "10ms", "max_attempts": 2}');
sql(qq{
	CREATE FUNCTION one(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity(i->>'a', i); END \$\$;
	CREATE FUNCTION many(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.map('it', i); END \$\$;
	CREATE FUNCTION undo(i jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT i';
	SELECT romancy.define_workflow(f, f || '(jsonb)') FROM unnest(ARRAY['one', 'many']) f;
	SELECT romancy.define_activity('undo', 'undo(jsonb)'), romancy.allow_http('postgres', '$url/*', private => true);
	SELECT romancy.define_activity('it', http => '{"url": "$url/accept", "callback": true}', retry => $retry),
		romancy.define_activity('plain', http => '{"url": "$url/accept"}', retry => $retry),
		romancy.define_activity('direct', http => '{"url": "$url/echo", "callback": true, "result": "full"}', retry => $retry),
		romancy.define_activity('late', http => '{"url": "$url/accept/late", "callback": true}', retry => $retry),
		romancy.define_activity('limited', http => '{"url": "$url/accept", "callback": true}', start_to_close_timeout => '300ms', retry => '{"max_attempts": 1}'),
		romancy.define_activity('undone', http => '{"url": "$url/accept", "callback": true}', compensation => 'undo', retry => $retry);
});
my $gone = q{SELECT count(*) = 0 FROM romancy.workers WHERE kind = 'http'};
sub start { my ($a) = @_; return sql(qq(SELECT romancy.start_workflow('one', '{"a": "$a"}'))) }
sub result { my ($id) = @_; my ($rc, $out, $err) = $node->psql('postgres', "CALL romancy.await_result('$id', '60s')"); return $rc == 0 ? $out : $err }
# the tokens of the requests of an instance, once there are n
sub tokens
{
	my ($id, $n) = @_;
	my @got;
	poll_until(sub { @got = grep { $_->{headers}{'idempotency-key'} =~ /^\Q$id\E/ } $http->requests; return @got >= $n }, "$n requests");
	return map { $_->{headers}{'romancy-callback'} } @got;
}
# the step waits for a call, and for no process
sub waits { my ($id) = @_; poll_until($node, "SELECT count(*) = 1 FROM romancy.activity_tasks WHERE instance_id = '$id' AND status = 'running' AND due_at = 'infinity'", 'it waits for the call'); poll_until($node, $gone, 'without a worker'); return }

# a result
my $id = start('it');
my ($token) = tokens($id, 1);
like($token, qr/\S/, 'the request has a token');
waits($id);
is(sql("SELECT romancy.heartbeat_activity('$token')"), 'ok', 'it holds a lease');
waits($id);
is(sql(qq{SELECT romancy.complete_activity('$token', '{"paid": 1}')}), 't', 'the server completes the step');
is(result($id), '{"paid": 1}', 'with its result');
is(sql("SELECT romancy.complete_activity('$token', '2')"), 'f', 'once');
is(result(start('plain')), 'null', 'of an activity without the key a 202 is the result');
is(scalar(grep { exists $_->{headers}{'romancy-callback'} } $http->requests), 1, 'and its request has no token');

# other statuses are what they always are; what the server sends back has no token
$id = start('direct');
my $direct = result($id);
like($direct, qr/"status": 200/, 'a 200 is the result');
($token) = tokens($id, 1);
unlike($direct, qr/\Q$token\E/, 'without the token');
like($direct, qr/"romancy-callback": "\[secret\]"/, 'which it sent back');

# a failure is tried again, with another token and the same key
$id = start('it');
($token) = tokens($id, 1);
waits($id);
is(sql("SELECT romancy.fail_activity('$token', 'no luck')"), 't', 'the server fails the attempt');
my @tokens = tokens($id, 2);
isnt($tokens[1], $token, 'another attempt has another token');
is(scalar(keys %{ { map { $_->{headers}{'idempotency-key'} => 1 } grep { $_->{headers}{'idempotency-key'} =~ /^\Q$id\E/ } $http->requests } }), 1, 'and the same key');
waits($id);
is(sql("SELECT romancy.complete_activity('$token', '1')"), 'f', 'the first one is worth nothing');
is(sql("SELECT romancy.complete_activity('$tokens[1]', '2')"), 't', 'the second one is');
is(result($id), '2', 'its result');

# a server that calls before it answers
$id = start('late');
($token) = tokens($id, 1);
is(sql("SELECT romancy.complete_activity('$token', '3')"), 't', 'a call before the answer');
is(result($id), '3', 'is the result');
$http->let('late');

# a worker that ends, and a server that crashes, send nothing again
$id = start('it');
($token) = tokens($id, 1);
waits($id);
is(result(start('direct')) =~ /200/, 1, 'another worker comes');
$node->stop('immediate');
$node->start;
is(result(start('direct')) =~ /200/, 1, 'and one after a crash');
is(scalar(tokens($id, 1)), 1, 'it was sent once');
is(sql("SELECT romancy.complete_activity('$token', '4')"), 't', 'the token is good');
is(result($id), '4', 'after that, too');

# a time limit
like(result(start('limited')), qr/exceeded its start_to_close_timeout/, 'start_to_close_timeout');

# an instance that ends does not wait
$id = start('it');
($token) = tokens($id, 1);
waits($id);
sql("SELECT romancy.cancel_workflow('$id')");
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$id'", 'it is cancelled');
is(sql("SELECT romancy.complete_activity('$token', '5')"), 'f', 'a call comes too late');
poll_until($node, "SELECT count(*) = 0 FROM romancy.activity_tasks WHERE instance_id = '$id'", 'no task is left of it');
$id = start('undone');
($token) = tokens($id, 1);
waits($id);
sql("SELECT romancy.cancel_workflow('$id')");
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$id'", 'one with a compensation is cancelled');
is(sql("SELECT count(*) FROM romancy.get_history('$id') WHERE event_type = 'CompensationExecuted'"), 1, 'and compensated: what the server does is not known');
is(sql("SELECT romancy.complete_activity('$token', '6')"), 'f', 'a call comes too late');

# many
$id = sql(q{SELECT romancy.start_workflow('many', (SELECT jsonb_agg(n) FROM generate_series(1, 50) n))});
@tokens = tokens($id, 50);
poll_until($node, "SELECT count(*) = 50 FROM romancy.activity_tasks WHERE instance_id = '$id' AND status = 'running' AND due_at = 'infinity'", '50 wait');
is(sql("SELECT romancy.complete_activities(ARRAY['" . join("','", @tokens) . "'], ARRAY(SELECT to_jsonb(n) FROM generate_series(1, 50) n))"), 50, 'are completed in one call');
is(sql("SELECT jsonb_array_length('" . result($id) . "')"), 50, 'and their results are there');

is(sql(q{SELECT count(*) FROM romancy.activity_tasks WHERE status <> 'dead'}), 0, 'no task is left');
$http->stop;
$node->stop;
done_testing();
