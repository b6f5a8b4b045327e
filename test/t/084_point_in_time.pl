# A server that was restored to a point in time beside the original: its workflows are there a second time, and nothing of
# them runs until it is adopted. One without workflows needs no adoption, and a standby that is promoted (034) none either. It
# would catch a copy that runs at once because its system identifier and its database's oid are the original's.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $primary = romancy_node('primary', _init => [ has_archiving => 1, allows_streaming => 1 ], 'romancy.worker_idle_timeout' => '0');
sub sql { return ($_[1] // $primary)->safe_psql('postgres', $_[0]) }
$primary->backup('empty');
sql(q{
	CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.sleep('1 s'); RETURN romancy.activity('echo', $1); END $$;
	SELECT pg_create_restore_point('without work');
});
sql('SELECT pg_switch_wal()');
$primary->backup('b');
sql(q{ALTER SYSTEM SET romancy.enabled = off; SELECT pg_reload_conf()});
poll_until($primary, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'the original rests');
sql(q{SELECT romancy.start_workflow('steps', '1')});
sql(q{SELECT pg_create_restore_point('with work')});
sql(q{SELECT pg_switch_wal()});

# restore($name, $backup, $target): a server of its own, restored to that point
sub restore
{
	my ($name, $backup, $target) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init_from_backup($primary, $backup, has_restoring => 1, standby => 0);
	$node->append_conf('postgresql.conf', "recovery_target_name = '$target'\nrecovery_target_action = 'promote'\nromancy.enabled = on");
	$node->start;
	poll_until($node, 'SELECT NOT pg_is_in_recovery()', "$name is restored");
	return $node;
}

my $copy = restore('copy', 'b', 'with work');
is(sql('SELECT count(*) FROM romancy.instances', $copy), '1', 'the workflow is there');
poll_until($copy, q{SELECT romancy.health()::text LIKE '%adopt%'}, 'health() says that it is a copy, and what to do');
is(sql(q{SELECT count(*) FROM romancy.sweeps WHERE last_run IS NOT NULL}, $copy), '0', 'no sweep runs');
is(sql('SELECT status FROM romancy.instances', $copy), 'pending', 'and it does not');
my ($rc, $out, $err) = $copy->psql('postgres', 'CALL romancy.drain(); SELECT status FROM romancy.instances');
note("drain: $out $err");
sql('SELECT romancy.adopt_database()', $copy);
poll_until($copy, q{SELECT status = 'completed' FROM romancy.instances}, 'adopted, it does');
$copy->restart;
sql(q{SELECT romancy.start_workflow('steps', '2')}, $copy);
poll_until($copy, q{SELECT count(*) = 2 FROM romancy.instances WHERE status = 'completed'}, 'and goes on to after a restart');

# a standby of the copy, promoted, goes on by itself
$copy->backup('c');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($copy, 'c', has_streaming => 1);
$standby->append_conf('postgresql.conf', "recovery_target_name = ''");
$standby->start;
$copy->wait_for_catchup($standby);
$copy->stop;
$standby->promote;
sql(q{SELECT romancy.start_workflow('steps', '3')}, $standby);
poll_until($standby, q{SELECT count(*) = 3 FROM romancy.instances WHERE status = 'completed'}, 'its standby, promoted, goes on by itself');

my $empty = restore('empty', 'empty', 'without work');
sql(q{SELECT romancy.start_workflow('steps', '1')}, $empty);
poll_until($empty, q{SELECT status = 'completed' FROM romancy.instances}, 'a copy without work needs no adoption');

is(sql('SELECT status FROM romancy.instances'), 'pending', 'the original is as it was');
sql(q{ALTER SYSTEM SET romancy.enabled = on; SELECT pg_reload_conf()});
poll_until($primary, q{SELECT status = 'completed' FROM romancy.instances}, 'and goes on by itself');

$_->stop for $primary, $standby, $empty;
done_testing();
