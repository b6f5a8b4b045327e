# Many requests at once, cancels, kills of the worker and the server, DROP DATABASE, shutdown, the worker on demand. It would
# catch a worker that holds a snapshot while it waits, requests that are lost or recorded twice, attempts with different keys, a cancel that leaves the
# connection open, and a shutdown that waits for an answer.
# Takes 35 s.
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

my $node = romancy_node('http_faults', 'romancy.worker_idle_timeout' => '1s', 'max_connections' => 30, 'romancy.http_timeout' => '120s', 'restart_after_crash' => 'on',
	'romancy.http_max_in_flight' => 600, 'log_checkpoints' => 'off');
my $http = RomancyHttp->new($node);
my $url = $http->url;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub under_way { return sql(q{SELECT count(*) FROM romancy.activity_tasks WHERE status = 'running' AND queue = '@http'}) }

my $setup = qq{
	SELECT romancy.allow_http(current_user::regrole, '$url/*', private => true);
	SELECT romancy.define_activity('slow', http => '{"url": "$url/slow/{s}"}', retry => '{"initial_interval": "20ms", "max_attempts": 0, "max_duration": null}');
	CREATE FUNCTION undo(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN i; END \$\$;
	SELECT romancy.define_activity('undone', compensation => 'undo', http => '{"url": "$url/slow/{s}"}');
	CREATE FUNCTION one(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity(i->>'a', i); END \$\$;
	CREATE FUNCTION many(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
	BEGIN RETURN to_jsonb(jsonb_array_length(romancy.map('slow', (SELECT jsonb_agg(jsonb_build_object('s', i->'s', 'n', n)) FROM generate_series(1, (i->>'n')::int) n)))); END \$\$;
};
sql($setup);
is(sql(q{SELECT count(*) FROM romancy.workers WHERE kind = 'http'}), '0', 'no worker before there is a request');

# many at once: more than there is room for, one after the other they would take 400 s
my $begun = time;
is(sql(q{CALL romancy.run_workflow('many', '{"s": 0.5, "n": 800}', timeout => '100s')}), '800', '800 requests of half a second');
cmp_ok(time - $begun, '<', 200, 'many at a time');
is(scalar(keys %{ { map { $_->{headers}{'idempotency-key'} => 1 } $http->requests } }), 800, 'each has a key of its own');

# nothing is held while they wait
my $id = sql(q{SELECT romancy.start_workflow('many', '{"s": 100, "n": 500}')});
poll_until($node, q{SELECT count(*) = 500 FROM romancy.activity_tasks WHERE status = 'running' AND queue = '@http'}, '500 are under way');
poll_until($node, q{SELECT count(*) = 1 AND bool_and(backend_xmin IS NULL AND xact_start IS NULL AND wait_event_type = 'Extension')
	FROM pg_stat_activity WHERE backend_type = 'romancy http'}, 'the worker has no transaction and no snapshot');
is(sql(q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.backend_type = 'romancy http'}), '0', 'and no lock');
is(sql(q{SELECT count(*) FROM romancy.workers WHERE kind = 'http' AND state = 'running'}), '1', 'it is one process');

# one more, and its cancel
$http->forget;
my $other = sql(q{SELECT romancy.start_workflow('one', '{"a": "slow", "s": 99}')});
poll_until(sub { grep { $_->{path} eq '/slow/99' } $http->requests }, 'one more is under way');
my $cancelled = time;
sql("SELECT romancy.cancel_workflow('$other')");
poll_until(sub { $http->closed }, 'its cancel closes the connection');
is(join(',', map { $_->{closed} } $http->closed), '/slow/99', 'only that one');
cmp_ok(($http->closed)[0]{at} - $cancelled, '<', 60, 'long before its answer');
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$other'", 'the instance is cancelled');
poll_until($node, "SELECT count(*) = 0 FROM romancy.activity_tasks WHERE instance_id = '$other'", 'no task is left of it');

# with a compensation: what the request has done is not known, so it is undone
$other = sql(q{SELECT romancy.start_workflow('one', '{"a": "undone", "s": 98}')});
poll_until(sub { grep { $_->{path} eq '/slow/98' } $http->requests }, 'one with a compensation is under way');
sql("SELECT romancy.cancel_workflow('$other')");
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$other'", 'it is cancelled without its answer');
is(sql("SELECT count(*) FROM romancy.get_history('$other') WHERE event_type = 'CompensationExecuted'"), '1', 'and compensated');

# a database with requests under way is dropped
sql('CREATE DATABASE other');
$node->safe_psql('other', "CREATE EXTENSION romancy; $setup SELECT romancy.start_workflow('one', '{\"a\": \"slow\", \"s\": 97}')");
poll_until(sub { grep { $_->{path} eq '/slow/97' } $http->requests }, 'another database sends, too');
is(sql(q{SELECT count(DISTINCT database) FROM romancy.workers WHERE kind = 'http'}), '2', 'by a worker of its own');
$begun = time;
sql('DROP DATABASE other');
cmp_ok(time - $begun, '<', 60, 'it can be dropped before its answer');

# the worker is ended: another one comes, and tries again with the same keys
$http->forget;
sql(q{SELECT pg_terminate_backend(pid) FROM romancy.workers WHERE kind = 'http'});
poll_until(sub { my %n; $n{ $_->{headers}{'idempotency-key'} }++ for grep { $_->{path} eq '/slow/100' } $http->requests; keys %n == 500 }, 'all are sent again');
poll_until($node, q{SELECT count(*) = 500 FROM romancy.activity_tasks WHERE status = 'running' AND queue = '@http' AND attempt = 2}, 'as a second attempt');

# a shutdown does not wait for answers
$begun = time;
$node->stop('fast');
cmp_ok(time - $begun, '<', 60, 'a shutdown with 500 requests under way');
$node->start;
poll_until($node, q{SELECT count(*) = 500 FROM romancy.activity_tasks WHERE status = 'running' AND queue = '@http' AND attempt = 3}, 'they are tried again after it');
sql("SELECT romancy.cancel_workflow('$id')");
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$id'", 'all are cancelled');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.activity_tasks WHERE queue = '@http'}, 'no task is left');

# SIGKILL, again and again: each step has one outcome
my @ids;
sub more { push @ids, split /\n/, sql("SELECT romancy.start_workflow('one', jsonb_build_object('a', 'slow', 's', 0.3, 'n', n)) FROM generate_series(1, $_[0]) n") }
more(60);
for my $round (1 .. 4)
{
	# (all may have been answered between two looks: then there are more)
	poll_until(sub {
		return 1 if sql(q{SELECT count(*) > 0 FROM romancy.workers WHERE kind = 'http' AND pid IS NOT NULL AND state = 'running'}) eq 't';
		more(20) if sql(q{SELECT count(*) = 0 FROM romancy.instances WHERE status NOT IN ('completed', 'failed', 'cancelled')}) eq 't';
		return 0;
	}, "round $round: it runs");
	my $pid = sql(q{SELECT pid FROM romancy.workers WHERE kind = 'http'});
	kill 'KILL', $pid;
	poll_until($node, "SELECT NOT EXISTS (SELECT FROM romancy.workers WHERE pid = $pid)", "round $round: the server is back");
	more(20) if $round < 4;
}
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE status NOT IN ('completed', 'failed', 'cancelled')}, 'all have ended');
is(sql(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'one' AND status = 'completed'}), scalar(@ids), 'well');
is(sql(q{SELECT count(*) FROM romancy.instances i, romancy.get_history(i.instance_id) WHERE workflow = 'one' AND status = 'completed' AND event_type = 'ActivityCompleted'}), scalar(@ids), 'with one outcome each');
my %keys;
$keys{ $_->{headers}{'idempotency-key'} }++ for grep { $_->{path} eq '/slow/0.3' } $http->requests;
is(scalar(keys %keys), scalar(@ids), 'all attempts of a step have one key');

# The worker is interrupted (pg_cancel_backend) while it waits for a lock: when it makes a request, and again and
# again when it records an answer; and it cannot give up a lease at once. That is nothing of the request's: each goes on as soon as it can.
sql(qq{SELECT romancy.define_activity('until', compensation => 'undo', http => '{"url": "$url/until/{s}"}')});
sub arrived { my ($name) = @_; return poll_until(sub { grep { $_->{path} eq "/until/$name" } $http->requests }, "request $name is under way") }
sub interrupted
{
	my ($lock, $what, $then, $times) = @_;
	my $holder = $node->background_psql('postgres');
	$holder->query_safe("BEGIN; $lock");
	$then->();
	my $seen = '-infinity';
	for my $n (0 .. $times)
	{
		my $wait = "FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE backend_type = 'romancy http' AND NOT granted AND query_start > '$seen'";
		poll_until($node, "SELECT count(*) > 0 $wait", "$what: the worker waits for the lock, $n times interrupted");
		$seen = sql("SELECT max(query_start) $wait");
		sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'romancy http'}) if $n < $times;
	}
	$holder->query_safe('COMMIT');
	$holder->quit;
	return;
}
my $keeps = sql(q{SELECT romancy.start_workflow('one', '{"a": "until", "s": "never"}')});
arrived('never');
my $made;
interrupted('LOCK TABLE romancy.t_http_rule', 'a request', sub { $made = sql(q{SELECT romancy.start_workflow('one', '{"a": "until", "s": "asked"}')}) }, 2);
arrived('asked');

# a task's row that a session has locked holds up its own answer, and no other
my $locked = sql(q{SELECT romancy.start_workflow('one', '{"a": "until", "s": "locked"}')});
arrived('locked');
my $session = $node->background_psql('postgres');
$session->query_safe("BEGIN; SELECT FROM romancy.t_task WHERE instance_id = '$locked' FOR UPDATE");
$http->let('locked');
is(sql(q{CALL romancy.run_workflow('one', '{"a": "slow", "s": 0}', timeout => '60s')}), '{"slow": "0"}', 'others are recorded');
is(sql("SELECT count(*) FROM romancy.get_history('$locked') WHERE event_type = 'ActivityCompleted'"), '0', 'the one that is locked is not');
$session->query_safe('COMMIT');
$session->quit;
poll_until($node, "SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$locked'", 'it is, as soon as it can be');

interrupted('LOCK TABLE romancy.t_task IN SHARE MODE', 'an answer', sub { $http->let('asked') }, 8);
poll_until($node, "SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$made'", 'it is recorded');
sql(q{
	CREATE SEQUENCE tries;
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF nextval('public.tries') <= 3 THEN RAISE 'not now' USING ERRCODE = 'lock_not_available'; END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER refuse BEFORE UPDATE ON romancy.t_task FOR EACH ROW WHEN (NEW.due_at = '-infinity') EXECUTE FUNCTION refuse()});
sql("SELECT romancy.cancel_workflow('$keeps')");
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$keeps'", 'a request that is not wanted is given up, whatever is in the way at first');
cmp_ok(sql('SELECT last_value FROM tries'), '>', 3, 'after errors');
sql('DROP TRIGGER refuse ON romancy.t_task');

# a namespace's limits hold: two at a time
sql(qq{SELECT romancy.define_activity('slow', http => '{"url": "$url/slow/{s}"}', max_concurrency => 2)});
is(sql(q{CALL romancy.run_workflow('many', '{"s": 0.1, "n": 8}', timeout => '60s')}), '8', 'with a limit of two');
is(sql(q{SELECT count(*) FROM romancy.activity_tasks WHERE status <> 'dead'}), '0', 'nothing is left');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind = 'http'}, 'the worker leaves');
$http->stop;
$node->stop;
done_testing();
