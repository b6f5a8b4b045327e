# Running work, pollers and statistics, from shared memory: a role sees its own and what is granted to it, in functions that views call, too,
# and names of two namespaces are not added up. It would catch a function that shows another's steps, queues or instances, and
# statistics that are counted by name alone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('views');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]) }
sql(qq{CREATE ROLE $_ LOGIN; SELECT romancy.grant_usage('$_'); GRANT CREATE ON SCHEMA public TO $_}) for qw(shop other watcher);
sql(q{SELECT romancy.grant_usage('shop', namespace => 'annex'), romancy.grant_usage('watcher', monitor => true)});

# a step that is held by a lock
sql('CREATE TABLE held (x int); GRANT ALL ON held TO shop');
my $lock = $node->background_psql('postgres');
$lock->query_safe('BEGIN; LOCK TABLE held');
as('shop', q{
	CREATE FUNCTION secret_step(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO held VALUES (1); RETURN '1'; END $$;
	CREATE FUNCTION w(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('secret_step'); END $$;
	SELECT romancy.start_workflow('w')});
poll_until($node, q{SELECT count(*) = 1 FROM romancy.t_running() WHERE step = 'secret_step:1'}, 'a step runs');
is(as('shop', q{SELECT step FROM romancy.t_running()}), 'secret_step:1', 'its owner sees it');
is(as('watcher', q{SELECT step FROM romancy.t_running()}), 'secret_step:1', 'so does a monitor');
is(as('other', q{SELECT count(*) FROM romancy.t_running()}), '0', 'another does not');

# programs that poll
as('shop', q{SELECT romancy.define_activity('pick', queue => 'secret_queue'); SELECT * FROM romancy.fetch_activities('secret_queue', 'secret_worker')});
is(as('shop', q{SELECT namespace, queue, worker_id FROM romancy.pollers}), 'shop|secret_queue|secret_worker', 'the one who polls is seen by itself');
is(as('other', q{SELECT count(*) FROM romancy.t_pollers()}), '0', 'not by a role of another namespace, nor its queue');
sql(q{SELECT romancy.grant_usage('other', namespace => 'shop')});
is(as('other', q{SELECT queue ~ '/secret_queue$' AND worker_id IS NULL AND owner IS NULL FROM romancy.t_pollers()}), 't', 'a role of the namespace sees that somebody polls, not who');
sql(q{SELECT romancy.revoke_usage('other', 'shop')});

# statistics: the same names of the same owner in two namespaces
as('shop', q{
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '1'; END $$;
	CREATE FUNCTION counts(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('quick')); END $$;
	CREATE FUNCTION counts2(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('quick'); END $$;
	SELECT romancy.start_workflow(w) FROM unnest(ARRAY['counts', 'counts2']) w, generate_series(1, 2);
	SET romancy.namespace = 'annex';
	SELECT romancy.start_workflow(w) FROM unnest(ARRAY['counts', 'counts2']) w, generate_series(1, 3)});
poll_until($node, q{SELECT count(*) = 10 FROM romancy.instances WHERE workflow LIKE 'counts%' AND status = 'completed'}, 'ten instances end');
is(as('shop', q{SELECT namespace, calls FROM romancy.stat_activities WHERE activity = 'quick' ORDER BY 1}), "annex|6\nshop|4", 'calls by namespace, of tasks and of steps');
is(as('shop', q{SELECT namespace, completed FROM romancy.stat_workflows WHERE workflow = 'counts' ORDER BY 1}), "annex|3\nshop|2", 'instances by namespace');
like(as('shop', q{SELECT romancy.metrics()}), qr/romancy_activity_calls_total\{namespace="annex",activity="quick",owner="shop"\} 6/, 'metrics tell the namespace');
is(as('other', q{SELECT (SELECT count(*) FROM romancy.t_stat(0)) + (SELECT count(*) FROM romancy.t_stat(1))}), '0', 'another sees none of it');
$lock->quit;
$node->stop;
done_testing();
