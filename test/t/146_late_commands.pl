# A program gives its commands while a turn of its instance is under way, which an outcome of a step in parallel has begun: the turn that has not seen the commands leaves them to
# the next one. It would catch a turn that hands the instance back to a program as if it had carried them out: the program then waits for a step that is none (RM010).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $rounds = 60;
my $node = romancy_node('late_commands', 'romancy.executors' => 3);
sub sql { return $node->safe_psql('postgres', $_[0]) }

# the program: in each round two activities in parallel, and a wait for any of these and of those of the round before
sql(q{
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
	CREATE TABLE program (instance_id uuid PRIMARY KEY, round int NOT NULL DEFAULT 0);
	CREATE FUNCTION run_once(rounds int) RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		t record;
		k int;
		n int := 0;
	BEGIN
		FOR t IN SELECT * FROM romancy.fetch_workflows('outside', 'w', 2, '1h') LOOP
			n := n + 1;
			INSERT INTO program AS p (instance_id) VALUES (t.instance_id) ON CONFLICT (instance_id) DO UPDATE SET round = p.round + 1 RETURNING round INTO k;
			IF k = rounds THEN
				PERFORM romancy.complete_workflow(t.token, to_jsonb(k));
			ELSE
				PERFORM romancy.suspend(t.token,
					(SELECT jsonb_agg(jsonb_build_object('op', 'activity', 'id', format('s:%s:%s', k, i), 'name', 'quick', 'input', k)) FROM generate_series(1, 3) i),
					jsonb_build_object('any', (SELECT jsonb_agg(format('s:%s:%s', r, i)) FROM generate_series(greatest(k - 1, 0), k) r, generate_series(1, 3) i)));
			END IF;
		END LOOP;
		RETURN n;
	END $$;
	SELECT romancy.define_activity('quick', handler => 'quick(jsonb)'), romancy.define_workflow('outside', queue => 'outside');
	SELECT romancy.start_workflow('outside') FROM generate_series(1, 12)});
my $script = $node->basedir . '/run.pgbench';
append_to_file($script, "SELECT run_once($rounds);\n");
my $run = IPC::Run::start([ 'pgbench', '-n', '-c', 6, '-t', 10_000_000, '-f', $script, $node->connstr('postgres') ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
poll_until($node, q{SELECT bool_and(status IN ('completed', 'paused', 'failed')) FROM romancy.instances}, 'all end');
$run->kill_kill;
is(sql(q{SELECT string_agg(DISTINCT status || coalesce(': ' || (error ->> 'message'), ''), E'\n') FROM romancy.instances}), 'completed', 'no command was lost');
$node->stop;
done_testing();
