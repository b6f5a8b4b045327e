# Handlers that share their transactions with others, of which one fails, one blocks
# on a lock and one fails at COMMIT, give the same history and result as step by
# step and alone. It would catch a batch that takes its members down with one of
# them, or charges an attempt for what was another's fault.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('batches', 'romancy.executors' => 1, 'log_min_messages' => 'warning');
$node->safe_psql('postgres', q{
	CREATE TABLE effect (instance uuid, step text);
	CREATE TABLE guarded (i int);
	CREATE TABLE fk (id int PRIMARY KEY, r int REFERENCES fk DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect VALUES (romancy.instance_id(), $1 #>> '{}'); RETURN $1; END $$;
	CREATE FUNCTION fail(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect VALUES (romancy.instance_id(), 'never'); RAISE EXCEPTION 'no' USING ERRCODE = '22012'; END $$;
	CREATE FUNCTION lock_it(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN LOCK TABLE guarded; INSERT INTO effect VALUES (romancy.instance_id(), 'locked'); RETURN to_jsonb(romancy.attempt()); END $$;
	CREATE FUNCTION break_fk(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect VALUES (romancy.instance_id(), 'never'); INSERT INTO fk VALUES (1, 4711); RETURN '1'; END $$;

	CREATE FUNCTION g_straight(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('put', '"a"'); PERFORM romancy.activity('put', '"b"'); RETURN romancy.activity('put', '"c"'); END $$;
	CREATE FUNCTION g_caught(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN PERFORM romancy.activity('put', '"kept"'); PERFORM romancy.activity('fail', retry => '{"max_attempts": 1}');
		EXCEPTION WHEN division_by_zero THEN PERFORM romancy.activity('put', '"caught"'); END;
		RETURN '"caught"';
	END $$;
	CREATE FUNCTION g_sleeps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('put', '"before"'); PERFORM romancy.sleep('50 ms'); RETURN romancy.activity('put', '"after"'); END $$;
	CREATE FUNCTION b_fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('put', '"first"'); RETURN romancy.activity('fail', retry => '{"max_attempts": 1}'); END $$;
	CREATE FUNCTION b_blocks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('put', '"first"'); RETURN romancy.activity('lock_it'); END $$;
	CREATE FUNCTION b_commit(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('put', '"first"'); RETURN romancy.activity('break_fk', retry => '{"max_attempts": 1}');
	EXCEPTION WHEN foreign_key_violation THEN RETURN '"not committed"'; END $$;
	CREATE FUNCTION story(run text) RETURNS TABLE (s text) LANGUAGE sql AS $$
		SELECT DISTINCT i.workflow || ': ' || i.status || ' ' || coalesce(i.output::text, i.error->>'sqlstate') || ' ' ||
			(SELECT string_agg(h.event_type || coalesce(' ' || h.activity_id, '') || coalesce(' ' || (h.data->'retry'->>'total_attempts'), ''), ', ' ORDER BY h.seq) FROM romancy.get_history(i.instance_id) h) || ' | ' ||
			coalesce((SELECT string_agg(e.step, ',' ORDER BY e.step) FROM effect e WHERE e.instance = i.instance_id), '')
		FROM romancy.instances i WHERE i.labels->>'run' = run ORDER BY 1 $$;
});

# load: all of them, mixed, while nothing runs, so that one executor takes them in batches
sub load
{
	my ($run) = @_;
	$node->safe_psql('postgres', qq{
		SELECT romancy.start_workflow(w, labels => '{"run": "$run"}')
		FROM generate_series(1, 8) g, unnest(ARRAY['g_straight', 'b_fails', 'g_caught', 'b_commit', 'g_sleeps', 'g_straight']) w;
		SELECT romancy.start_workflow('b_blocks', labels => '{"run": "$run"}') FROM generate_series(1, 2)});
}
sub setting
{
	my ($name, $value) = @_;
	$node->safe_psql('postgres', $_) for "ALTER SYSTEM SET $name = '$value'", 'SELECT pg_reload_conf()';
	poll_until($node, "SELECT current_setting('$name') = '$value'", "$name = $value");
}
sub run
{
	my ($name, $mode) = @_;
	setting('romancy.enabled', 'off');
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind = 'executor'}, 'no executor');
	setting('romancy.turn_mode', $mode);
	load($name);
	my $s = $node->background_psql('postgres');
	$s->query_safe('BEGIN'); $s->query_safe('LOCK TABLE guarded');
	setting('romancy.enabled', 'on');
	poll_until($node, q{SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'guarded'::regclass}, 'one of them waits for the lock');
	$s->query_safe('COMMIT'); $s->quit;
	poll_until($node, qq{SELECT count(*) = 50 FROM romancy.instances WHERE labels->>'run' = '$name' AND finished_at IS NOT NULL}, "$name: all end");
	return $node->safe_psql('postgres', "SELECT s FROM story('$name')");
}

my $step = run('steps', 'step');
my $auto = run('first', 'auto');
my $again = run('second', 'auto');
is($auto, $step, 'in batches as step by step');
is($again, $step, 'and again, when the executor knows them');
my @lines = split /\n/, $step;
is(scalar(@lines), 6, 'each workflow has one story') or diag($step);
like($step, qr/^b_blocks: completed 1 /m, 'a lock wait is not charged as an attempt');
like($step, qr/^b_commit: completed "not committed" ActivityCompleted put:1, ActivityFailed break_fk:1 1, WorkflowCompleted \| first$/m, 'a failed commit is its activity\'s failure');
like($step, qr/^b_fails: failed 22012 .* \| first$/m, 'a failure leaves what was done before');
is($node->safe_psql('postgres', q{SELECT count(*) FROM effect WHERE step = 'never'}), '0', 'nothing of what failed');
cmp_ok($node->safe_psql('postgres', q{SELECT count(DISTINCT xmin::text) FROM romancy.t_instance WHERE labels->>'run' = 'second' AND workflow = 'g_straight'}), '<', 16, 'they did share transactions');

# A turn that fails in the engine itself is tried again after one second, then two
my $offset = -s $node->logfile;
$node->safe_psql('postgres', 'ALTER TABLE romancy.t_inbox RENAME TO gone');
my $failing = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('g_straight')});
poll_until(sub { scalar(() = slurp_file($node->logfile, $offset) =~ /turn of workflow instance $failing failed.*?It is tried again/gs) >= 2 }, 'a turn fails in the engine, twice');
$node->safe_psql('postgres', 'ALTER TABLE romancy.gone RENAME TO t_inbox');
is(join(' ', (slurp_file($node->logfile, $offset) =~ /It is tried again in (\d+) ms/g)[0, 1]), '1000 2000', 'each time after twice as long');
poll_until($node, qq{SELECT status FROM romancy.instances WHERE instance_id = '$failing'}, 'and it ends when it can', expected => 'completed');
$node->stop('fast');
done_testing();
