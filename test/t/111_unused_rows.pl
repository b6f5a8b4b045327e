# Rows that no instance needs any more are deleted, and no role can fill a table that all share: rows of undefined names, of settings and of queues
# without limits. It would catch a row that stays for ever, one that goes though a transaction that still runs is about to use it,
# and a limit that one role reaches and another one feels.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('unused', 'romancy.enabled' => 'off', 'autovacuum' => 'off');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]) }
sub sweep { sql('SELECT romancy.run_sweep(\'retention\')') for 1 .. 6 }
sub rows { return sql("SELECT count(*) FROM romancy.t_workflow WHERE name = '$_[0]'") }

sql(q{CREATE FUNCTION w(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1 $$;
	CREATE FUNCTION waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 day'); RETURN '1'; END $$});
sql(qq{CREATE ROLE $_ LOGIN; SELECT romancy.grant_usage('$_'); GRANT CREATE ON SCHEMA public TO $_}) for qw(shop other);

# as long as an instance needs it, finished or not
my $first = sql(q{SELECT romancy.start_workflow('w')});
sql('CALL romancy.drain()');
sweep();
is(rows('w'), 1, 'a finished instance keeps the row of its undefined name');
is(sql('SELECT count(*) FROM romancy.t_settings'), 1, 'and that of its settings');
sql("SELECT romancy.delete_workflow('$first')");
sweep();
is(rows('w'), 0, 'deleted, it does not');
is(sql('SELECT count(*) FROM romancy.t_settings'), 0, 'nor its settings');

# each schema and function is a row, and goes
sql(q{DO $$ BEGIN FOR i IN 1 .. 50 LOOP
	EXECUTE format('CREATE SCHEMA s%s; CREATE FUNCTION s%s.many(jsonb) RETURNS jsonb LANGUAGE sql AS ''SELECT $1''; SET LOCAL search_path = s%s', i, i, i);
	PERFORM romancy.start_workflow('many'); END LOOP; END $$});
is(rows('many'), 50, 'fifty functions of one name are fifty rows');
sql('CALL romancy.drain()');
sql(q{SELECT romancy.delete_workflow(instance_id) FROM romancy.instances});
sweep();
is(rows('many'), 0, 'and go');

# a transaction that has used the row and is not over
sql(q{SELECT romancy.delete_workflow(romancy.start_workflow('w')) WHERE false; SELECT romancy.start_workflow('w')});
sql('CALL romancy.drain()');
my $open = $node->background_psql('postgres');
$open->query_safe('SELECT romancy.start_workflow(\'w\', start_at => now() + interval \'1 day\')');
sql(q{SELECT romancy.cancel_workflow(instance_id) FROM romancy.instances WHERE status = 'pending'; CALL romancy.drain(); SELECT romancy.delete_workflow(instance_id) FROM romancy.instances});
is(sql('SELECT count(*) FROM romancy.instances'), 0, 'no instance is there, but a session has the row in its cache');
$open->query_safe('BEGIN');
my $late = $open->query_safe('SELECT romancy.start_workflow(\'w\')');
sweep();
is(rows('w'), 1, 'what an open transaction has started keeps the row');
is(sql('SELECT leaving IN (2, 3) FROM romancy.t_workflow WHERE name = \'w\''), 't', 'which is for no other instance');
$open->query_safe('COMMIT');
sweep();
is(rows('w'), 1, 'committed, it does, too');
sql('CALL romancy.drain()');
is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$late'"), 'completed', 'and it runs');

# a transaction that has not used it yet
$open->query_safe('BEGIN; SELECT 1');
sql("SELECT romancy.delete_workflow('$late')");
sweep();
is(rows('w'), 0, 'the row goes while another transaction is open that used it before');
$late = $open->query_safe('SELECT romancy.start_workflow(\'w\')');
$open->query_safe('COMMIT');
sql('CALL romancy.drain()');
is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$late'"), 'completed', 'and that has a new row when it starts one');

# with a snapshot that is older
$open->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM romancy.instances');
sql("SELECT romancy.delete_workflow('$late')");
sweep();
is(rows('w'), 1, 'a snapshot that may show the instance keeps the row');
$open->query_safe('COMMIT');
sweep();
is(rows('w'), 0, 'until it is gone');
$open->quit;

# settings of a role that changes them each time
sql(q{GRANT EXECUTE ON FUNCTION w(jsonb) TO shop, other});
for my $zone (qw(UTC Asia/Tokyo Europe/Paris America/Lima))
{
	sql("ALTER ROLE shop SET timezone = '$zone'");
	as('shop', q{SELECT romancy.start_workflow('w'); CALL romancy.drain()});
}
is(sql('SELECT count(*), min(owner), max(owner) FROM romancy.t_settings'), '4|shop|shop', 'each is a row of the role that has them');
as('other', q{SELECT romancy.start_workflow('w'); CALL romancy.drain()});
is(sql(q{SELECT count(*) FROM romancy.t_settings WHERE owner = 'other'}), 1, 'another has a row of its own');
my $keep = sql(q{SELECT instance_id FROM romancy.instances WHERE owner = 'shop' ORDER BY created_at LIMIT 1});
sql("SELECT romancy.delete_workflow(instance_id) FROM romancy.instances WHERE owner = 'shop' AND instance_id <> '$keep'");
sweep();
is(sql(q{SELECT string_agg(settings ->> 'TimeZone', ' ') FROM romancy.t_settings WHERE owner = 'shop'}), 'UTC', 'those that no instance has go');

# limits, each for the one who reaches it
sql(q{INSERT INTO romancy.t_settings (owner, settings) SELECT 'shop', jsonb_build_object('n', n) FROM generate_series(1, 1000) n});
my $paused = as('shop', q{SELECT romancy.start_workflow('w')});
as('shop', 'CALL romancy.drain()');
is(sql("SELECT status, error ->> 'sqlstate', error ->> 'hint' ~ 'ALTER ROLE' FROM romancy.instances WHERE instance_id = '$paused'"), 'paused|RM011|t', 'too many settings of a role pause its instances');
as('other', q{SELECT romancy.start_workflow('w'); CALL romancy.drain()});
is(sql(q{SELECT string_agg(DISTINCT status::text, ' ') FROM romancy.instances WHERE owner = 'other'}), 'completed', 'not another one\'s');
sweep();
sweep();
as('shop', "SELECT romancy.resume_workflow('$paused')");
as('shop', 'CALL romancy.drain()');
is(sql("SELECT status FROM romancy.instances WHERE instance_id = '$paused'"), 'completed', 'and resumed, it goes on when they are gone');

sql(q{INSERT INTO romancy.t_workflow (namespace, name, version, defined, is_current, handler, owner, search_path)
	SELECT n.namespace_id, 'x' || i, 1, false, true, 'w(jsonb)', 'shop', '' FROM romancy.t_namespace n, generate_series(1, 10000) i WHERE n.name = 'shop'});
my ($rc, $out, $err) = $node->psql('postgres', q{\set VERBOSITY verbose
	SELECT romancy.start_workflow('waits')}, extra_params => [ '-U', 'shop' ]);
like($err, qr/RM011: +namespace "shop" has too many workflows that are not defined.*HINT:.*define_workflow/s, 'so are names');
like(as('other', q{SELECT romancy.start_workflow('waits')}), qr/-/, 'not those of another namespace');
like(as('shop', q{SELECT romancy.define_workflow('waits', handler => 'waits(jsonb)'); SELECT romancy.start_workflow('waits')}), qr/-/, 'defined, it can be started');
sql('SELECT romancy.run_sweep(\'retention\') FROM generate_series(1, 3)');
sweep() for 1 .. 5;
cmp_ok(sql(q{SELECT count(*) FROM romancy.t_workflow WHERE name ~ '^x'}), '<', 10000, 'and they go');

# queues
as('shop', q{SELECT romancy.set_queue('q' || i, max_concurrency => 1), romancy.pause_queue('p' || i) FROM generate_series(1, 20) i});
is(sql('SELECT count(*) FROM romancy.t_queue'), 40, 'limits and pauses of queues are rows');
as('shop', q{SELECT romancy.set_queue('q' || i), romancy.resume_queue('p' || i) FROM generate_series(1, 20) i});
is(sql('SELECT count(*) FROM romancy.t_queue'), 0, 'that go with them');

$node->stop;
done_testing();
