# A role that may not use romancy is told which grant is missing: the server's own error for the schema, which is raised before romancy is called,
# has a hint, in sessions, in functions and after revoke_usage, and another schema's has none.
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
unlike(said('new', 'SELECT * FROM other.t'), qr/romancy/, 'another schema has no such hint');
$node->safe_psql('postgres', q{SELECT romancy.grant_usage('gone')});
unlike(said('gone', q{SELECT romancy.health()}), qr/ERROR/, 'with the grant it may');
$node->stop('fast');
done_testing();
