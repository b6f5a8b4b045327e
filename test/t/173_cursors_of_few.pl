# A cursor of a role that has few instances, while the statistics of the table change between two of its FETCHes (autovacuum): views take a
# way for such a role, and decide it by statistics. It would catch rows that come twice, or not at all, since the one way was begun and the other ended.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use RomancyTest;
use Test::More;

my $node = romancy_node('cursors', 'romancy.enabled' => 'off', autovacuum => 'off');
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	CREATE ROLE many; CREATE ROLE few LOGIN;
	SELECT romancy.grant_usage('many'), romancy.grant_usage('few');
	GRANT CREATE ON SCHEMA public TO many, few;
	SET ROLE many;
	CREATE FUNCTION of_many(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	SELECT count(romancy.start_workflow('of_many', to_jsonb(i))) FROM generate_series(1, 20000) i;
	SET ROLE few;
	CREATE FUNCTION of_few(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('a')); END $$;
	SELECT romancy.define_activity('a', queue => 'q');
	SELECT count(romancy.start_workflow('of_few', to_jsonb(i))) FROM generate_series(1, 30) i;
});
$node->safe_psql('postgres', 'CALL romancy.drain()', extra_params => [ '-U', 'few' ]);

# fetched($view, $key, $before, $meanwhile): how many rows, and different ones, a cursor gives
sub fetched
{
	my ($view, $key, $before, $meanwhile) = @_;
	return sql(qq{
		$before;
		BEGIN;
		CREATE TEMP TABLE got (k text) ON COMMIT DROP;
		GRANT ALL ON got TO few;
		SET ROLE few;
		DECLARE c CURSOR FOR SELECT $key FROM romancy.$view;
		DO \$\$ DECLARE r record; c refcursor := 'c'; BEGIN FETCH c INTO r; INSERT INTO got VALUES (r.$key); END \$\$;
		RESET ROLE;
		$meanwhile;
		SET ROLE few;
		DO \$\$ DECLARE r record; c refcursor := 'c'; BEGIN LOOP FETCH c INTO r; EXIT WHEN NOT FOUND; INSERT INTO got VALUES (r.$key); END LOOP; END \$\$;
		SELECT count(*) || ' ' || count(DISTINCT k) FROM got;
		COMMIT});
}

my $known = 'ANALYZE romancy.t_instance';
my $unknown = q{UPDATE pg_class SET reltuples = -1 WHERE oid = 'romancy.t_instance'::regclass};
for my $view ([ 'instances', 'instance_id', 30 ], [ 'waiting', 'instance_id', 30 ], [ 'activity_tasks', 'instance_id', 30 ], [ 'versions', 'workflow', 1 ], [ 'queues', 'name', 1 ])
{
	my ($name, $key, $rows) = @$view;
	is(fetched($name, $key, $unknown, $known), "$rows $rows", "$name, when the table is analyzed meanwhile");
	is(fetched($name, $key, $known, $unknown), "$rows $rows", "$name, when the role's instances are not known to be few any more");
}

$node->stop;
done_testing();
