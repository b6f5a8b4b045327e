# Outcomes of requests that cannot be recorded, as another transaction has a row of theirs, and leases of a worker before that cannot be ended, for the same reason. It would catch others' outcomes and claims that wait for them, ones that
# are lost when there are many, and a task or an event that goes on at the end of its lease only. And servers of tests end with their test, also where that is killed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancyTest;
use Test::More;
use Time::HiRes qw(time);

has_http() or plan skip_all => 'this build has no libcurl';

my $node = romancy_node('httpheld', 'romancy.worker_idle_timeout' => 0, 'max_connections' => 30, 'autovacuum' => 'off', 'romancy.http_timeout' => '10min', 'romancy.http_max_in_flight' => 4);

# ---- a server ends with its test
my $file = $node->basedir . '/left';
my $test = fork // die "fork: $!";
if ($test == 0)
{
	my $server = RomancyHttp->new($node);
	append_to_file($file, $server->{run}{KIDS}[0]{PID});
	kill 'KILL', $$;
}
waitpid $test, 0;
my $left = slurp_file($file);
like($left, qr/^\d+$/, 'a server was started by a test that is killed');
poll_until(sub { !kill 0, $left }, 'and ends with it');
unlink $node->basedir . '/http.port';

my $http = RomancyHttp->new($node);
my $url = $http->url;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sql(qq{
	SELECT romancy.allow_http('postgres', '$url/*', private => true);
	CREATE FUNCTION undo(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN i; END \$\$;
	SELECT romancy.define_activity('until', compensation => 'undo', http => '{"method": "GET", "url": "$url/until/{name}"}');
	CREATE FUNCTION once(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity('until', i); END \$\$;
	CREATE FUNCTION forty(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
	BEGIN
		FOR n IN 1 .. 40 LOOP PERFORM romancy.http('GET', '$url/echo'); END LOOP;
		RETURN '"done"';
	END \$\$});
sub begin { my ($name, $n) = @_; return split /\n/, sql("SELECT romancy.start_workflow('once', '{\"name\": \"$name\"}') FROM generate_series(1, $n)") }
sub sent { my ($name) = @_; return scalar grep { ($_->{path} // '') eq "/until/$name" } $http->requests }
# forty requests, one after the other, while something is held
sub others
{
	my ($what) = @_;
	my $begun = time;
	is(sql(q{CALL romancy.run_workflow('forty', timeout => '170s')}), '"done"', "$what: others go on");
	cmp_ok(time - $begun, '<', 120, "$what: as if there were none");
	return;
}
my $holder = $node->background_psql('postgres', on_error_stop => 1);
sub hold { return $holder->query_safe('BEGIN; ' . join('', map { "SELECT FROM romancy.t_task WHERE instance_id = '$_' FOR UPDATE;" } @_)) }

my ($id) = begin('held', 1);
poll_until(sub { sent('held') == 1 }, 'a request is under way');
hold($id);
$http->let('held');
others('its outcome cannot be recorded');
$holder->query_safe('ROLLBACK');
poll_until($node, "SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$id'", 'it is when it can be');

($id) = begin('unwanted', 1);
poll_until(sub { sent('unwanted') == 1 }, 'another one');
sql(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now' USING ERRCODE = 'lock_not_available'; END $$;
	CREATE TRIGGER refuse BEFORE UPDATE ON romancy.t_task FOR EACH ROW WHEN (NEW.due_at = '-infinity') EXECUTE FUNCTION refuse()});
sql("SELECT romancy.cancel_workflow('$id')");
poll_until(sub { grep { ($_->{closed} // '') eq '/until/unwanted' } $http->closed }, 'is cancelled');
others('its lease cannot be ended');
sql('DROP TRIGGER refuse ON romancy.t_task');
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$id'", 'it ends when it can');

# a worker that takes over what another had in hand
($id) = begin('inherited', 1);
poll_until(sub { sent('inherited') == 1 }, 'one more');
hold($id);
sql(q{SELECT pg_terminate_backend(pid) FROM romancy.workers WHERE kind = 'http'});
others('its worker has ended');
is(sent('inherited'), 1, 'it is not sent again while another transaction has it');
$holder->query_safe('ROLLBACK');
poll_until(sub { sent('inherited') == 2 }, 'it is then');
$http->let('inherited');
poll_until($node, "SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$id'", 'and recorded');

# events that another transaction has: one to be sent again, one that has no attempt left
sql(qq{SELECT romancy.define_destination(n, url => '$url/until/' || n, event_types => ARRAY[n], retry => format('{"initial_interval": "10ms", "max_attempts": %s}', m)::jsonb) FROM (VALUES ('event', 0), ('last', 1)) d (n, m);
	SELECT romancy.send_event(n, '/held', destination => n) FROM unnest(ARRAY['event', 'last']) n});
poll_until(sub { sent('event') + sent('last') == 2 }, 'two events are under way');
$holder->query_safe(q{BEGIN; SELECT FROM romancy.t_outbox FOR UPDATE});
sql(q{SELECT pg_terminate_backend(pid) FROM romancy.workers WHERE kind = 'http'});
others('their worker has ended');
is(sent('event') + sent('last'), 2, 'they are not sent again while another transaction has them');
$holder->query_safe('ROLLBACK');
poll_until(sub { sent('event') == 2 }, 'the one is, as soon as that has ended');
poll_until($node, q{SELECT status = 'dead' FROM romancy.outbox WHERE type = 'last'}, 'the other one is dead');
$http->let('event');
poll_until($node, q{SELECT status = 'published' AND attempt = 2 FROM romancy.outbox WHERE type = 'event'}, 'and recorded');

$holder->query_safe('BEGIN');
for my $round (1 .. 3)
{
	# (the places are free when those of the round before are known to be held)
	my @ids = begin("many$round", 4);
	poll_until(sub { sent("many$round") == 4 }, "round $round: all places are taken");
	$holder->query_safe("SELECT FROM romancy.t_task WHERE instance_id = '$_' FOR UPDATE") for @ids;
	$http->let("many$round");
}
others('many outcomes');
$holder->query_safe('ROLLBACK');
$holder->quit;
poll_until($node, q{SELECT count(*) = 14 FROM romancy.instances WHERE workflow = 'once' AND status = 'completed'}, 'all are recorded when they can be');
is(sent('many1') + sent('many2') + sent('many3'), 12, 'each was sent once');

$http->stop;
$node->stop;
done_testing();
