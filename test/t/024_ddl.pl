# DDL around live workflows: DROP and CREATE EXTENSION, DROP DATABASE and CREATE
# DATABASE ... TEMPLATE, committed and rolled back, in quick succession, with work
# in flight; and databases of others, dropped while a worker is busy. It would catch
# workers that are in the way, that survive their extension, or that run a copy.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep time);

my $node = romancy_node('ddl', 'max_worker_processes' => 16, 'romancy.max_workers' => 6,
	'romancy.timer_interval' => '1s', 'romancy.resumption_interval' => '1s');

sub sql { my ($sql, $db) = @_; return $node->safe_psql($db // 'postgres', $sql) }

# functions that every database gets
my $functions = q{
	CREATE TABLE effect (instance uuid, step int);
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect VALUES (romancy.instance_id(), ($1 #>> '{}')::int); RETURN $1; END $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note', '1');
		PERFORM romancy.sleep('500 ms');
		RETURN romancy.activity('note', '2');
	END $$;
	CREATE FUNCTION long(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.sleep('30 days'); RETURN $1; END $$;
	CREATE FUNCTION spin(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE stop timestamptz := clock_timestamp() + ($1 #>> '{}')::interval;
	BEGIN WHILE clock_timestamp() < stop LOOP END LOOP; RETURN $1; END $$;
	CREATE FUNCTION spins(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.activity('spin', $1); END $$;
	CREATE FUNCTION plain(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.activity('note', '1'); END $$;
};
sub load
{
	my ($workflow, $n, $db) = @_;
	return sql("SELECT count(*) FROM romancy.start_workflows('$workflow', array(SELECT to_jsonb(i) FROM generate_series(1, $n) i))", $db);
}
sub done_is
{
	my ($n, $what, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, "SELECT count(*) = $n FROM romancy.instances WHERE status = 'completed' AND workflow = 'steps'", $what, dbname => $db // 'postgres');
	is(sql('SELECT count(*), count(DISTINCT (instance, step)) FROM effect', $db), (2 * $n) . '|' . (2 * $n), 'each step once');
}
sub workers_gone
{
	my ($db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '$db' AND backend_type LIKE 'romancy%'", "no worker is left in $db");
}

# --- DROP EXTENSION, with work in flight

sql($functions);
load('steps', 100);
my ($rc, $out, $err) = $node->psql('postgres', q{BEGIN; SET lock_timeout = '20s'; DROP EXTENSION romancy CASCADE; ROLLBACK;});
is($err =~ s/NOTICE.*\n(DETAIL.*\n)?//gr, '', 'DROP EXTENSION, rolled back');
done_is(100, 'nothing is lost by it');
for my $round (1 .. 3)
{
	load('steps', 50);
	load('long', 10);
	usleep(100_000 * $round);
	my $begin = time;
	($rc, $out, $err) = $node->psql('postgres', q{SET client_min_messages = error; SET lock_timeout = '20s'; DROP EXTENSION romancy CASCADE});
	is($err, '', "round $round: DROP EXTENSION with work in flight");
	cmp_ok(time - $begin, '<', 45, 'in time');
	sql('CREATE EXTENSION romancy; TRUNCATE effect');
	is(sql('SELECT count(*) FROM romancy.instances'), '0', 'a new one is empty');
}
load('steps', 30);
done_is(30, 'and works');
sql('SET client_min_messages = error; BEGIN; DROP EXTENSION romancy CASCADE; CREATE EXTENSION romancy; COMMIT; TRUNCATE effect');
load('steps', 10);
done_is(10, 'dropped and created in one transaction');
sql('SET client_min_messages = error; DROP EXTENSION romancy CASCADE');
workers_gone('postgres');
sql('BEGIN; CREATE EXTENSION romancy; ROLLBACK');
usleep(300_000);
workers_gone('postgres');
# what was prepared holds its locks; then it counts
sql('BEGIN; CREATE EXTENSION romancy; SAVEPOINT a; SELECT romancy.start_workflow(\'plain\'); ROLLBACK TO a; SELECT romancy.start_workflow(\'plain\'); COMMIT');
poll_until($node, q{SELECT string_agg(status, ',') = 'completed' FROM romancy.instances}, 'CREATE EXTENSION and a start in one transaction');

# --- DROP DATABASE, with workers in it

for my $round (1 .. 3)
{
	sql('CREATE DATABASE other');
	sql('CREATE EXTENSION romancy', 'other');
	sql($functions, 'other');
	load('steps', 50, 'other');
	load('spins', 1, 'other') if $round == 2;
	poll_until($node, q{SELECT count(*) > 0 FROM romancy.workers WHERE database = 'other'}, "round $round: workers are there");
	my $begin = time;
	sql('DROP DATABASE other' . ($round == 3 ? ' WITH (FORCE)' : ''));
	cmp_ok(time - $begin, '<', 45, 'DROP DATABASE goes through');
}
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE database = 'other' OR database IS NULL AND kind <> 'launcher'}, 'no worker is left');

# one that fails leaves the work where it was
sql('CREATE DATABASE other');
sql('CREATE EXTENSION romancy', 'other');
sql($functions, 'other');
load('steps', 20, 'other');
my $session = $node->background_psql('other');
$session->query_safe('SELECT 1');
($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE other');
like($err, qr/is being accessed by other users/, 'a session is in the way of DROP DATABASE');
done_is(20, 'and the work goes on', 'other');
($rc, $out, $err) = $node->psql('postgres', 'CREATE ROLE nobody_special; SET ROLE nobody_special; DROP DATABASE other');
like($err, qr/must be owner/, 'who may not drop it may not');
$session->quit;

# --- CREATE DATABASE ... TEMPLATE: a copy with work runs nothing until it is adopted

load('long', 5, 'other');
load('steps', 5, 'other');
sql('CREATE DATABASE copy TEMPLATE other');
done_is(25, 'the original goes on', 'other');
poll_until(sub { slurp_file($node->logfile) =~ /workers do not run in database "copy".*?HINT.*?adopt_database/s }, 'the copy waits, and says so');
is(sql(q{SELECT count(*) > 0 FROM romancy.instances WHERE status <> 'completed'}, 'copy'), 't', 'its work is there');
usleep(1_500_000);
my $before = sql('SELECT count(*) FROM effect', 'copy');
sql(q{SELECT romancy.start_workflow('plain')}, 'copy');
usleep(700_000);
is(sql('SELECT count(*) FROM effect', 'copy'), $before, 'nothing runs, not even what is started there');
($rc, $out, $err) = $node->psql('copy', q{SET ROLE nobody_special; SELECT romancy.adopt_database()});
like($err, qr/permission denied/, 'not everybody may adopt it');
sql('SELECT romancy.adopt_database()', 'copy');
poll_until($node, q{SELECT count(*) = 26 FROM romancy.instances WHERE status = 'completed'}, 'adopted, all of it runs', dbname => 'copy');
poll_until($node, q{SELECT string_agg(DISTINCT status, ',') FROM romancy.instances WHERE workflow = 'long'}, 'and what sleeps sleeps on', dbname => 'copy', expected => 'waiting_for_timer');
my @said = slurp_file($node->logfile) =~ /workers do not run in database "copy"/g;
is(scalar(@said), 1, 'it was said once');
# an empty template needs no adoption
sql('CREATE DATABASE empty'); sql('CREATE EXTENSION romancy', 'empty'); sql($functions, 'empty');
sql('CREATE DATABASE fresh TEMPLATE empty');
load('steps', 3, 'fresh');
done_is(3, 'a copy of a database without work just works', 'fresh');
sql('ALTER DATABASE fresh RENAME TO renamed');
load('steps', 3, 'renamed');
done_is(6, 'a database that was renamed, too', 'renamed');
# race: a workflow that is started in such a copy before a worker has looked there is not taken for work that was copied
sql("ALTER SYSTEM SET romancy.databases = 'postgres'");
$node->reload;
poll_until(sub { sql(q{SELECT count(*) FROM romancy.workers WHERE database = 'empty'}) eq '0' }, 'workers leave the databases that are not named');
sql('CREATE DATABASE early TEMPLATE empty');
load('steps', 3, 'early');
sql('ALTER SYSTEM RESET romancy.databases');
$node->reload;
done_is(3, 'what was started in a copy before any worker came runs', 'early');
sql("DROP DATABASE $_") for qw(copy other empty renamed early);

# --- databases of others, while a worker is in a long turn or a long sweep

sql(q{SELECT romancy.start_workflow('spins', '"40 s"')});
poll_until($node, q{SELECT count(*) = 1 FROM romancy.workers WHERE state = 'running' AND instance_id IS NOT NULL}, 'a long turn runs');
my $begin = time;
sql('CREATE DATABASE unrelated');
sql('DROP DATABASE unrelated');
cmp_ok(time - $begin, '<', 30, 'an unrelated DROP DATABASE does not wait for it');
is(sql(q{SELECT count(*) FROM romancy.instances WHERE finished_at IS NULL AND workflow = 'spins'}), '1', 'which is still at it');

$node->stop('fast');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|ERROR:  (relation|schema).*romancy.*does not exist/, 'the log is clean');
done_testing();
