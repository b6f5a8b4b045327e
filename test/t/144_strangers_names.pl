# A role with nothing but grant_usage neither delays nor learns names of another namespace: what one defines or drops in an open transaction keeps no name of another's locked, whatever
# the hashes of the names are; health() names the queues whose tasks the caller may see, and those of a role with many do not take their place.
# It would catch a lock that two namespaces share, names of queues that are told to strangers, and a flood of silent queues that hides another role's.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('strangers_names', 'romancy.enabled' => 'off');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; my (undef, $out, $err) = $node->psql('postgres', $sql, on_error_stop => 0, extra_params => [ '-U', $role ]); return "$out$err" }
sub attention { return as($_[0], q{SELECT string_agg(a, ', ') FROM jsonb_array_elements_text(romancy.health() -> 'attention') a WHERE a LIKE '%queue%'}) }
sql(q{
	CREATE ROLE stranger LOGIN; CREATE ROLE shop LOGIN; CREATE ROLE watcher LOGIN;
	SELECT romancy.grant_usage('stranger'); SELECT romancy.grant_usage('shop'); SELECT romancy.grant_usage('watcher', monitor => true);
	GRANT CREATE ON SCHEMA public TO stranger, shop;
});

# ---------------------------------------------------------------- a pair of names whose hashes, each taken together with its namespace, are the same
my ($theirs, $mine) = split /\|/, sql(q{
	SET enable_nestloop = off;
	WITH n AS (SELECT (SELECT namespace_id FROM romancy.t_namespace WHERE name = 'stranger') AS theirs, (SELECT namespace_id FROM romancy.t_namespace WHERE name = 'shop') AS mine),
	h AS MATERIALIZED (SELECT 'name' || g AS name, hashtext('name' || g)::bigint & 4294967295 AS h FROM generate_series(1, 200000) g),
	a AS MATERIALIZED (SELECT name, h # ((n.theirs + 2654435769 + (h << 6) + (h >> 2)) & 4294967295) AS hash FROM h, n),
	b AS MATERIALIZED (SELECT name, h # ((n.mine + 2654435769 + (h << 6) + (h >> 2)) & 4294967295) AS hash FROM h, n)
	SELECT a.name, b.name FROM a JOIN b USING (hash) LIMIT 1});
like("$theirs $mine", qr/^name\d+ name\d+$/, 'two names with one hash');
as('stranger', 'CREATE FUNCTION theirs(i jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$ SELECT i $$');
as('shop', 'CREATE FUNCTION mine(i jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$ SELECT i $$');
my $open = $node->background_psql('postgres', extra_params => [ '-U', 'stranger' ]);
for my $kind (qw(workflow activity))
{
	$open->query_safe("BEGIN; SELECT romancy.define_$kind('$theirs', 'theirs')");
	is(as('shop', "SET lock_timeout = '3 s'; SELECT romancy.define_$kind('$mine', 'mine') IS NOT NULL"), 't', "$kind: a stranger's open definition delays none");
	is(as('shop', "SET lock_timeout = '3 s'; SELECT romancy.drop_$kind('$mine') IS NOT NULL"), 't', "$kind: nor a drop");
	# of one namespace they take turns
	like(as('stranger', "SET lock_timeout = '100 ms'; SELECT romancy.define_$kind('$theirs', 'theirs')"), qr/lock timeout/, "$kind: one name is defined by one at a time");
	$open->query_safe('ROLLBACK');
}
$open->quit;

# ---------------------------------------------------------------- queues that no program polls
for my $role (qw(stranger shop))
{
	my ($name, $n) = $role eq 'shop' ? ('payroll', 1) : ('a', 30);
	as($role, "SELECT romancy.define_activity('$name' || g, queue => '$name' || g) FROM generate_series(1, $n) g; SELECT romancy.run_canvas(romancy.group(variadic array(SELECT romancy.task('$name' || g) FROM generate_series(1, $n) g))); CALL romancy.drain()");
}
is(sql('SELECT count(*) FROM romancy.activity_tasks'), 31, 'tasks wait for programs');
sql(q{UPDATE romancy.t_task SET created_at = created_at - interval '2 minutes'});
is(attention('shop'), 'tasks of queue "payroll1" wait, and no program polls it', 'a role is told of its own queues, and of no other');
unlike(attention('stranger'), qr/payroll/, 'nor is a stranger');
like(attention('stranger'), qr/queue "a1"/, 'who is told of the queues of that role');
sql(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE owner = 'stranger'});
as('stranger', 'CALL romancy.drain()');
is(attention($_), 'tasks of queue "payroll1" wait, and no program polls it', "$_ is told of all") for qw(watcher postgres);

done_testing();
