# Limits of activities in the database have room for each owner: one that uses as many limited activities as it can get leaves
# places for another's. It would catch a table in shared memory that is first come, first served.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('limits', 'autovacuum' => 'off', 'romancy.activity_timeout_interval' => '1h', 'romancy.resumption_interval' => '1h');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]) }
sql(qq{CREATE ROLE $_ LOGIN; SELECT romancy.grant_usage('$_')}) for qw(shop hog);
sql(q{CREATE FUNCTION act(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1 $$;
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN FOR i IN ($1 ->> 'from')::int .. ($1 ->> 'to')::int LOOP PERFORM romancy.spawn(replace($1 ->> 'name', '#', i::text), to_jsonb(i)); END LOOP;
		PERFORM romancy.sleep('1 day'); RETURN '1'; END $$;
	CREATE FUNCTION calls(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN FOR i IN 1 .. 50 LOOP PERFORM romancy.activity('s' || i); END LOOP; RETURN '1'; END $$;});

# as many activities whose bucket is not full as there may be
as('hog', q{SELECT romancy.define_activity('r' || i, handler => 'act', rate_limit => '2/h') FROM generate_series(1, 6000) i});
as('hog', q{SELECT count(romancy.start_workflow('spawns', jsonb_build_object('name', 'r#', 'from', i * 250 + 1, 'to', i * 250 + 250))) FROM generate_series(0, 23) i});
poll_until($node, q{SELECT count(*) = 24 FROM romancy.instances WHERE status = 'waiting_for_timer'}, 'everything is spawned');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.t_task WHERE state = 1 OR state = 0 AND held_until IS NULL}, 'and has run, or is held');
cmp_ok(sql('SELECT count(*) FROM romancy.t_task'), '>', 0, 'some are held: there is no place for them');
as('shop', q{SELECT romancy.define_activity('s' || i, handler => 'act', rate_limit => '100/h') FROM generate_series(1, 50) i});
is(as('shop', q{CALL romancy.run_workflow('calls', timeout => '60 s')}), '1', 'another owner\'s limited activities find their places');

$node->stop;
done_testing();
