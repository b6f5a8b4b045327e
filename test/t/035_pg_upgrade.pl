# pg_upgrade from PostgreSQL 15 to the server under test, with instances that wait: the
# old cluster's workers are stopped, pg_upgrade's servers run nothing, and the new
# cluster (another system identifier) goes on when its databases are adopted. It would
# catch columns that pg_upgrade refuses, and work that runs during it.
#
# It needs a newer server than 15 under test, and 15 with its headers beside it
# (ROMANCY_OLD_PG_CONFIG, or Debian's place): the library is built for both.
# Takes 100 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use Cwd qw(abs_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep);

my $old_config = $ENV{ROMANCY_OLD_PG_CONFIG} // '/usr/lib/postgresql/15/bin/pg_config';
plan skip_all => 'the server under test is 15: this runs with the newer ones' if (qx{pg_config --version} =~ m{(\d+)})[0] < 16;
plan skip_all => "there is no $old_config" unless -x $old_config;
# functions made by 15 name $libdir/romancy: without Debian's extension_destdir that is
# looked for in the server's own folder alone, where tests install nothing
chomp(my $new_lib = `pg_config --pkglibdir`);
plan skip_all => 'this server would look for the old functions\' library in its own folder alone'
  unless $ENV{ROMANCY_CONF} =~ /extension_destdir/ || -f "$new_lib/romancy.so";
chomp(my $old_include = `$old_config --includedir-server`);
plan skip_all => 'PostgreSQL 15 has no headers here' unless -f "$old_include/postgres.h";

# the library, built for the old server into a folder of its own
my $tmp = PostgreSQL::Test::Utils::tempdir();
my $tree = abs_path("$FindBin::RealBin/../..");
system("cp -r '$tree' '$tmp/tree' && cd '$tmp/tree' && rm -f \$(find . -name '*.o' -o -name '*.so') && env -u MAKEFLAGS -u MAKELEVEL make -s -j2 PG_CONFIG='$old_config' WERROR= EXTRA_CFLAGS= DESTDIR='$tmp/dest' install >'$tmp/build.log' 2>&1") == 0
  or BAIL_OUT("the library cannot be built for $old_config: " . slurp_file("$tmp/build.log"));
chomp(my $old_bin = `$old_config --bindir`);
chomp(my $old_lib = `$old_config --pkglibdir`);
my $new_conf = $ENV{ROMANCY_CONF};
my $old_conf = "dynamic_library_path = '$tmp/dest$old_lib:\$libdir'\nextension_destdir = '$tmp/dest'";

sub make_node
{
	my ($name, $conf, $path) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, $path ? (install_path => $path) : ());
	my @extra = ('--locale=C', '-E', 'UTF8');
	push @extra, '--no-data-checksums' if $node->pg_version >= 18;
	$node->init(extra => \@extra);
	$node->append_conf('postgresql.conf', "$conf\nshared_preload_libraries = 'romancy'\nromancy.timer_interval = '500ms'\nromancy.resumption_interval = '500ms'\nsynchronous_commit = on\n");
	return $node;
}
(my $old_path = $old_bin) =~ s{/bin$}{};
my $old = make_node('old', $old_conf, $old_path);
my $new = make_node('new', $new_conf);
$old->start;
sub sql { my ($node, $sql, $db) = @_; return $node->safe_psql($db // 'postgres', $sql) }
my $functions = q{
	CREATE EXTENSION romancy;
	CREATE TABLE effect (instance uuid, step int);
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect VALUES (romancy.instance_id(), ($1 #>> '{}')::int); RETURN $1; END $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note', '1');
		PERFORM romancy.sleep(($1 #>> '{}')::interval);
		RETURN romancy.activity('note', '2');
	END $$;
	CREATE FUNCTION listens(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE m romancy.message; BEGIN m := romancy.receive('news'); RETURN m.data; END $$;
	SELECT romancy.define_workflow('named', 'steps(jsonb)');
	SELECT count(*) FROM romancy.start_workflows('named', array(SELECT '"1 ms"'::jsonb FROM generate_series(1, 20)));
	SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"20 s"'::jsonb FROM generate_series(1, 20)));
	SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"30 days"'::jsonb FROM generate_series(1, 3)));
	SELECT romancy.start_workflow('listens');
};
sql($old, 'CREATE DATABASE second');
for my $db (qw(postgres second))
{
	sql($old, $functions, $db);
}
for my $db (qw(postgres second))
{
	poll_until($old, q{SELECT count(*) FILTER (WHERE status = 'completed') = 20 AND count(*) FILTER (WHERE status LIKE 'waiting%') = 24 FROM romancy.instances}, "$db: instances wait", dbname => $db);
	sql($old, q{SELECT romancy.send_to(instance_id, 'news', '"before"') FROM romancy.instances WHERE workflow = 'listens'}, $db);
	poll_until($old, q{SELECT output = '"before"' FROM romancy.instances WHERE workflow = 'listens'}, "$db: one received", dbname => $db);
	# this much must not get lost
	sql($old, q{SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"1 ms"'::jsonb FROM generate_series(1, 20)))}, $db);
}
my $history = q{SELECT md5(string_agg(x::text, ' ' ORDER BY x::text)) FROM (SELECT i.instance_id, i.workflow, i.owner, h.seq, h.event_type, h.data
	FROM romancy.instances i, romancy.get_history(i.instance_id) h WHERE i.workflow = 'named' OR i.workflow = 'listens') x};
my %before = map { $_ => sql($old, $history, $_) } qw(postgres second);
$old->stop('fast');

# Debian's 15.20 gives every column an option of its own (pg_attver), which no newer
# server knows: pg_upgrade fails with any table whatsoever. That is not what is tested.
$old->append_conf('postgresql.conf', 'romancy.enabled = off');
$old->start;
for my $db (qw(postgres second template1))
{
	sql($old, q{UPDATE pg_attribute SET attoptions = NULL WHERE attoptions::text LIKE '%pg_attver%'}, $db);
}
$old->stop('fast');

# where the files of both are is the business of the settings that each server has
$ENV{PGHOST} = $new->host;
my $out = '';
chdir $tmp or die;
my $ok = IPC::Run::run([ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $old_bin, '-B', $new->config_data('--bindir'),
	'-s', $new->host, '-p', $old->port, '-P', $new->port, '-j', '2' ], '>', \$out, '2>&1');
ok($ok, 'pg_upgrade') or diag($out, map { grep { /error|FATAL|ERROR/ } split /^/, slurp_file($_) } glob($new->data_dir . '/pg_upgrade_output.d/*/{*.txt,log/*.log}'));
SKIP:
{
	skip 'pg_upgrade failed', 1 unless $ok;
	$new->start;
	for my $db (qw(postgres second))
	{
		is(sql($new, $history, $db), $before{$db}, "$db: the history is as it was");
	}
	usleep(1_500_000);
	is(sql($new, q{SELECT count(*) FROM romancy.instances WHERE status = 'waiting_for_timer'}), '23', 'the new cluster waits to be told that it is the one');
	my @said = slurp_file($new->logfile) =~ /workers do not run in database "\w+"\n.*\n.*HINT: .*adopt_database/g;
	is(scalar(@said), 2, 'which each database says');
	for my $db (qw(postgres second))
	{
		sql($new, 'SELECT romancy.adopt_database()', $db);
		poll_until($new, q{SELECT count(*) FILTER (WHERE status = 'completed') = 61 AND count(*) FILTER (WHERE status = 'waiting_for_timer') = 3 FROM romancy.instances}, "$db: adopted, it goes on", dbname => $db);
		is(sql($new, q{SELECT count(*), count(DISTINCT (instance, step)) FROM effect}, $db), '123|123', 'each step once');
		is(sql($new, q{CALL romancy.run_workflow('named', '"1 ms"', timeout => '30s')}, $db), '2', 'new work runs');
		my $id = sql($new, q{SELECT romancy.start_workflow('listens')}, $db);
		sql($new, "SELECT romancy.send_to('$id', 'news', '\"after\"')", $db);
		is(sql($new, "CALL romancy.await_result('$id', '30s')", $db), '"after"', 'and messages');
	}
	$new->stop('fast');
}
done_testing();
