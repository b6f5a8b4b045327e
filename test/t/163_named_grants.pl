# A role that may not use romancy is told which grant is missing: the server's own error for the schema, which is raised before romancy is called,
# has a hint, in sessions, in functions and after revoke_usage, and another schema's has none; with a USAGE that was granted by hand likewise
# its errors for functions, views and types.
# It would catch a first try that ends at "permission denied" with no way on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('grants');
$node->safe_psql('postgres', q{
	CREATE ROLE new; CREATE ROLE gone; CREATE SCHEMA other; CREATE TABLE other.t (n int);
	SELECT romancy.grant_usage('gone'), romancy.revoke_usage('gone');
	CREATE FUNCTION starts() RETURNS uuid LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.start_workflow('x'); END $$;
});
sub said
{
	my ($role, $sql) = @_;
	my $err = '';
	$node->psql('postgres', "SET ROLE $role; $sql", stderr => \$err, on_error_stop => 0);
	return $err =~ /HINT:  (.*)/ ? $1 : $err;
}
my $hint = q{The owner of extension "romancy" lets a role use it: select romancy.grant_usage('role').};
for my $role (qw(new gone))
{
	is(said($role, $_), $hint, "$role: $_")
	  for q{SELECT romancy.start_workflow('x')}, 'SELECT * FROM romancy.instances', 'SELECT romancy.health()', 'CALL romancy.drain()', 'SELECT starts()', q{SELECT NULL::romancy.message};
}
$node->safe_psql('postgres', q{
	CREATE ROLE half; GRANT USAGE ON SCHEMA romancy TO half; GRANT SELECT ON romancy.waiting TO half; GRANT USAGE ON SCHEMA other TO half;
	CREATE FUNCTION other.health() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE ALL ON FUNCTION other.health() FROM public;
	CREATE FUNCTION waits() RETURNS uuid LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.start_workflow('x'); RETURN NULL; END $$;
	CREATE FUNCTION drains() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'call "romancy" . drain()'; RETURN 1; END $$;
});
is(said('half', $_), $hint, "with USAGE alone: $_")
  for q{SELECT romancy.start_workflow('x')}, 'SELECT * FROM romancy.instances', 'SELECT "romancy"."health"()', 'SELECT Romancy.HEALTH()', 'CALL romancy.drain()', 'SELECT waits()',
  'SELECT * FROM romancy.waiting', 'SELECT 1; SELECT romancy.health(); SELECT 2';
unlike(said('half', $_), qr/romancy.*lets/, "none for $_") for 'SELECT other.health()', 'SELECT other.health() AS romancy', 'SELECT * FROM romancy.t_instance', 'SELECT romancy.t_monitor()', 'SELECT other.health(), romancy.healthy()';
unlike(said('new', 'SELECT * FROM other.t'), qr/romancy/, 'another schema has no such hint');
$node->safe_psql('postgres', q{SELECT romancy.grant_usage('gone')});
unlike(said('gone', q{SELECT romancy.health()}), qr/ERROR/, 'with the grant it may');
$node->stop('fast');
done_testing();
