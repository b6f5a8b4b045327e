# The library and the SQL objects of the extension are of different versions: the
# workers wait, and say once what to run; ALTER EXTENSION UPDATE lets them go on with
# what was parked. It would catch workers that touch tables of another version, and
# instances that an update loses.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Copy qw(copy);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep);

# An installation of our own, to which versions are added: 0.0 before the
# library's, 9.9 after it. Their objects are the same.
my $dest = PostgreSQL::Test::Utils::tempdir() . '/dest';
my $conf = $ENV{ROMANCY_CONF} // '';
plan skip_all => 'the library is not installed in a folder of its own'
  unless $ENV{ROMANCY_DESTDIR} && $conf =~ s/\Q$ENV{ROMANCY_DESTDIR}\E/$dest/g;
PostgreSQL::Test::RecursiveCopy::copypath($ENV{ROMANCY_DESTDIR}, $dest);
my ($control) = split /\n/, `find '$dest' -name romancy.control`;
(my $folder = $control) =~ s/romancy\.control$//;
my ($version) = slurp_file($control) =~ /default_version = '([^']+)'/;
copy("$folder/romancy--$version.sql", "$folder/romancy--0.0.sql") or die $!;
append_to_file("$folder/romancy--0.0--$version.sql", "COMMENT ON SCHEMA romancy IS 'updated';\n");
append_to_file("$folder/romancy--$version--9.9.sql", "COMMENT ON SCHEMA romancy IS 'too new';\n");
append_to_file("$folder/romancy--9.9--$version.sql", "COMMENT ON SCHEMA romancy IS 'back again';\n");
$ENV{ROMANCY_CONF} = $conf;

my $node = romancy_node('versions', _extension => 0, 'romancy.timer_interval' => '200ms', 'romancy.resumption_interval' => '200ms');
sub sql { return $node->safe_psql('postgres', $_[0]) }
my $pattern = qr/workers do not run in database "postgres"\n.*?DETAIL: .*?version is \Q$version\E, that of the extension's objects is (\S+)\.\n.*?HINT: .*?ALTER EXTENSION romancy UPDATE/s;
sub refusals { return scalar(() = slurp_file($node->logfile) =~ /$pattern/g) }
sub workers_gone
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('romancy scheduler', 'romancy executor')}, $_[0]);
}

# --- the library is newer than the SQL

sql(q{CREATE EXTENSION romancy VERSION '0.0'});
poll_until(sub { refusals() == 1 }, 'the workers refuse an older version, with a hint');
like(slurp_file($node->logfile), qr/extension's objects is 0\.0\./, 'which names it');
sql(q{
	CREATE TABLE effect (instance uuid, step int);
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect VALUES (romancy.instance_id(), ($1 #>> '{}')::int); RETURN $1; END $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note', '1');
		PERFORM romancy.sleep(($1 #>> '{}')::interval);
		RETURN romancy.activity('note', '2');
	END $$;
});
sql(q{SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"1 ms"'::jsonb FROM generate_series(1, 20)))});
workers_gone('no worker stays');
usleep(500_000);
is(sql('SELECT count(*) FROM effect'), '0', 'nothing runs');
is(refusals(), 1, 'and it is said once');
$node->restart;
poll_until(sub { refusals() == 2 }, 'after a restart once more');
sql('BEGIN; ALTER EXTENSION romancy UPDATE; ROLLBACK');
workers_gone('an update that is rolled back changes nothing');
is(sql('SELECT count(*) FROM effect'), '0', 'nothing runs');
sql('ALTER EXTENSION romancy UPDATE');
poll_until($node, q{SELECT count(*) = 20 FROM romancy.instances WHERE status = 'completed'}, 'after the update all of it runs');

# --- the SQL gets newer under live workers, with parked instances

sql(q{SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"29 days"'::jsonb FROM generate_series(1, 20)))});
sql(q{SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"30 days"'::jsonb FROM generate_series(1, 5)))});
poll_until($node, q{SELECT count(*) = 25 FROM romancy.instances WHERE status = 'waiting_for_timer'}, 'instances are parked');
my $before = refusals();
sql(q{ALTER EXTENSION romancy UPDATE TO '9.9'});
poll_until(sub { refusals() > $before }, 'a newer version is refused under way');
workers_gone('the workers leave');
sql(q{SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"1 ms"'::jsonb FROM generate_series(1, 5)))});
make_due($node, q{input = '"29 days"'});
usleep(1_000_000);
is(sql(q{SELECT count(*) FROM romancy.instances WHERE status = 'waiting_for_timer'}), '25', 'due or not, nothing moves');
sql("ALTER EXTENSION romancy UPDATE TO '$version'");
poll_until($node, q{SELECT count(*) = 45 FROM romancy.instances WHERE status = 'completed'}, 'the versions agree again: what was due runs');
is(sql(q{SELECT count(*) FROM romancy.instances WHERE status = 'waiting_for_timer'}), '5', 'the rest sleeps on');
is(sql(q{SELECT count(*), count(DISTINCT (instance, step)) FROM effect}), '95|95', 'each step once');

# --- in quick succession, under load

for my $round (1 .. 5)
{
	sql(q{SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"100 ms"'::jsonb FROM generate_series(1, 20)))});
	sql("ALTER EXTENSION romancy UPDATE TO '9.9'");
	usleep(30_000 * $round);
	sql("ALTER EXTENSION romancy UPDATE TO '$version'");
}
poll_until($node, q{SELECT count(*) = 145 FROM romancy.instances WHERE status = 'completed'}, 'there and back under load: all complete');
is(sql(q{SELECT count(*), count(DISTINCT (instance, step)) FROM effect}), '295|295', 'each step once');
$node->stop('fast');
done_testing();
