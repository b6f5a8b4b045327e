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
	CREATE FUNCTION other.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE ALL ON FUNCTION other.mine() FROM public;
	CREATE FUNCTION refuses() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN other.mine(); END $$;
	CREATE FUNCTION drains() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'call "romancy" . drain()'; RETURN 1; END $$;
});
# An error in an expression of PL/pgSQL has no text that names the schema, nor has a name that search_path finds: a function of romancy's name may be meant
my @functions = split /\n/, $node->safe_psql('postgres', q{
	SELECT format('%s(%s)', p.proname, (SELECT string_agg('NULL::' || format_type(t, NULL), ', ' ORDER BY n) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n)))
	FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'romancy'
	WHERE p.prokind = 'f' AND NOT p.proretset AND p.prorettype <> 'trigger'::regtype AND p.proname NOT LIKE 't\_%'});
cmp_ok(scalar(@functions), '>', 90, 'functions of the API');
$node->safe_psql('postgres', join('', map { "CREATE FUNCTION hidden_$_() RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.$functions[$_]; END \$\$;" } 0 .. $#functions));
my $errors = '';
$node->psql('postgres', join(';', 'SET ROLE half', map { "SELECT hidden_$_()" } 0 .. $#functions), stderr => \$errors, on_error_stop => 0);
my @each = grep { /permission denied/ } split /ERROR:  /, $errors;
cmp_ok(scalar(@each), '>', scalar(@functions) - 5, 'they may not be called');
is(join('', grep { !/^HINT:  (If that is romancy\.\w+: t|T)he owner of extension "romancy" lets a role use it: select romancy\.grant_usage\('role'\)\.$/m } @each), '', 'and each has the hint in RETURN');
is(said('half', $_), qq{If that is romancy.health: the owner of extension "romancy" lets a role use it: select romancy.grant_usage('role').}, "with USAGE alone: $_")
  for 'SET search_path = romancy; SELECT health()', q{DO $$ DECLARE x jsonb; BEGIN EXECUTE 'SET search_path = romancy'; x := health(); END $$};
is(said('half', $_), $hint, "with USAGE alone: $_")
  for q{SELECT romancy.start_workflow('x')}, 'SELECT * FROM romancy.instances', 'SELECT "romancy"."health"()', 'SELECT Romancy.HEALTH()', 'CALL romancy.drain()', 'SELECT waits()',
  'SELECT * FROM romancy.waiting', 'SELECT 1; SELECT romancy.health(); SELECT 2', 'SELECT drains()', 'SELECT "romancy" . "health"()',
  q{DO $$ BEGIN EXECUTE format('SELECT %I.%I()', 'romancy', 'health'); END $$};
unlike(said('half', $_), qr/romancy.*lets/, "none for $_") for 'SELECT other.health()', 'SELECT other.health() AS romancy', 'SELECT * FROM romancy.t_instance', 'SELECT romancy.t_monitor()', 'SELECT other.health(), romancy.healthy()', 'SELECT "other" . health()', 'SELECT refuses()';
unlike(said('new', 'SELECT * FROM other.t'), qr/romancy/, 'another schema has no such hint');
$node->safe_psql('postgres', q{SELECT romancy.grant_usage('gone')});
unlike(said('gone', q{SELECT romancy.health()}), qr/ERROR/, 'with the grant it may');
$node->stop('fast');
done_testing();
