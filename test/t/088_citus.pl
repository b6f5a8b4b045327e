# Beside Citus: an activity writes to a distributed table exactly once, and romancy's own tables are not distributed. Skipped
# where the server has no Citus. It would catch a table of romancy's that Citus takes over.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

chomp(my $share = `pg_config --sharedir`);
plan skip_all => 'this server has no Citus' unless -f "$share/extension/citus.control";

my $node = romancy_node('citus', _start => 0, max_prepared_transactions => 20);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'citus, romancy'");
$node->start;
sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }
sql(q{
	CREATE EXTENSION citus; CREATE EXTENSION romancy;
	SELECT citus_set_coordinator_host('localhost', current_setting('port')::int);
	CREATE TABLE counter (id int, n int); SELECT create_distributed_table('counter', 'id');
	INSERT INTO counter VALUES (1, 0);
	CREATE FUNCTION count_up(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN UPDATE counter SET n = n + 1 WHERE id = 1; RETURN $1; END $$;
	CREATE FUNCTION counts(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.activity('count_up', $1) $$;
});
for my $table (split /\n/, sql(q{SELECT relname FROM pg_class WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'r'}))
{
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT create_reference_table('romancy.$table')");
	like($err, qr/of romancy cannot be distributed/, "$table is not distributed");
}
sql(q{SELECT romancy.start_workflow('counts', to_jsonb(i)) FROM generate_series(1, 20) i});
poll_until($node, q{SELECT count(*) = 20 FROM romancy.instances WHERE status = 'completed'}, 'workflows write to a distributed table');
is(sql('SELECT n FROM counter'), '20', 'each once');
$node->stop;
done_testing();
