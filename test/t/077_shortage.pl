# Long steps of one role occupy all places: health() says whose they are and for how long, and which setting to raise; what
# waits is counted, what runs is not; what waits for romancy.worker_wait_warning is told by health() and the log, though sweeps look at what runs again and again; the other role's quick
# workflow runs meanwhile. It would catch work that waits in silence, and a wait that begins anew with each sweep.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# a sweep comes several times within the time that is too long
my $node = romancy_node('shortage', 'romancy.max_workers' => 5, 'romancy.executors' => 2, 'max_worker_processes' => 16,
	'romancy.worker_wait_warning' => '5s', 'romancy.resumption_interval' => '100ms', 'romancy.retry_backoff_max' => '100ms');
sub value { return $node->safe_psql('postgres', $_[0]) }
my $says = sub { return "SELECT coalesce(bool_or(a ~ '$_[0]'), false) FROM jsonb_array_elements_text(romancy.health() -> 'attention') a" };

value(q{
	CREATE ROLE greedy LOGIN;
	CREATE ROLE modest LOGIN;
	SELECT romancy.grant_usage('greedy'), romancy.grant_usage('modest');
	GRANT CREATE ON SCHEMA public TO greedy, modest;
	SET SESSION AUTHORIZATION greedy;
	CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock_shared(1); RETURN 'true'; END $$;
	CREATE FUNCTION one_held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('held'); END $$;
	SET SESSION AUTHORIZATION modest;
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"quick"'; END $$});
is(value(q{SELECT romancy.health() -> 'occupied'}), '[]', 'at rest nobody occupies a place');

my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
my $log = -s $node->logfile;
value(q{SET SESSION AUTHORIZATION greedy; SELECT romancy.start_workflow('one_held', start_at => now() - interval '5 min') FROM generate_series(1, 6)});
my $waiting = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted};
poll_until($node, $waiting, 'as many long steps as executors', expected => '2');
is(value(q{SELECT o ->> 'database', o ->> 'owner', (o ->> 'executors')::int >= 2, (o ->> 'longest_seconds')::int >= 0
	FROM jsonb_array_elements(romancy.health() -> 'occupied') o WHERE o ->> 'owner' = 'greedy'}), 'postgres|greedy|t|t', 'health() has the owner, in how many executors, and for how long');
is(value(q{SET SESSION AUTHORIZATION modest; CALL romancy.run_workflow('quick', timeout => '60 s')}), '"quick"', 'a quick workflow of another role runs');
poll_until($node, q{SELECT romancy.health() ->> 'overdue'}, 'four of six have been due for long: what runs for long does not wait', expected => '4');
poll_until($node, $says->('work has waited for a worker for [0-9]+ seconds.*raise romancy.executors \(now 2\)'), 'after that time health() names the setting');
$node->wait_for_log(qr/LOG: .*work of role "greedy" in database "postgres" has waited for a worker for [0-9]+ s\n.*DETAIL: .*for role "greedy" for [0-9]+ s.*\n.*HINT: .*romancy\.executors \(now 2\)/, $log);
pass('so does the log');

# raised, as it says
value('ALTER SYSTEM SET romancy.executors = 8'); value('SELECT pg_reload_conf()');
poll_until($node, $waiting, 'more of them run', expected => '4');
poll_until($node, $says->('raise romancy.max_workers \(now 5\)'), 'then it is romancy.max_workers');
value('ALTER SYSTEM SET romancy.worker_wait_warning = 0'); value('SELECT pg_reload_conf()');
poll_until($node, $says->('has waited for a worker'), 'unless nobody wants to know', expected => 'f');
value('ALTER SYSTEM SET romancy.worker_wait_warning = 1'); value('SELECT pg_reload_conf()');
poll_until($node, $says->('has waited for a worker'), 'somebody does');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'all end');
poll_until($node, $says->('has waited for a worker'), 'nothing waits', expected => 'f');
$node->stop;
done_testing();
