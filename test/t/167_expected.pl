# Executors for steps that a turn spawns start while the turn still runs, so that they are there when it commits. It would catch a launcher that hears of
# spawned steps by the commit alone; executors that are started for what is only expected again and again, or in place of another owner's; a want of processes that is told, and holds up the
# starts of others, for what is only expected.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('expected', 'romancy.executors' => 4, 'romancy.max_workers' => 8, 'max_worker_processes' => 20);
sub value { return $node->safe_psql('postgres', $_[0]) }
sub executors { return "SELECT count(*) FROM romancy.workers WHERE kind = 'executor' AND owner = '$_[0]'" }
sub has { my ($n, $what, $of) = @_; poll_until($node, 'SELECT (' . executors($of // 'postgres') . ") = $n", $what) }
sub ended { poll_until($node, "SELECT finished_at IS NOT NULL FROM romancy.instances WHERE instance_id = '$_[0]'", "$_[1]: ended") }

sub reload
{
	value("ALTER SYSTEM SET $_") for @_;
	value('SELECT pg_reload_conf()');
}

sub executors_gone
{
	reload('romancy.enabled = off');
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind IN ('executor', 'scheduler')}, 'no worker');
	reload('romancy.enabled = on');
}

# wait() waits for lock 1, which a session of this test holds. Each step is of a name of which nothing is known.
value(q{
	CREATE ROLE other LOGIN;
	SELECT romancy.grant_usage('other');
	CREATE FUNCTION wait() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); END $$;
	CREATE FUNCTION step_spawn(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION step_mapped(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION step_leave(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION step_fail(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION step_last(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION step_outside(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE
		steps text[] := '{}';
	BEGIN
		FOR i IN 1 .. ($1->>'n')::int LOOP
			steps := steps || romancy.spawn($1->>'step', to_jsonb(i));
		END LOOP;
		PERFORM public.wait();
		IF $1 ? 'fails' THEN
			RAISE 'as it is to';
		END IF;
		RETURN to_jsonb(cardinality(romancy.await_all(steps)));
	END $$;
	CREATE FUNCTION maps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('step_mapped', '[1, 2, 3]'); END $$;
	SELECT romancy.define_activity('for_programs', queue => 'programs')});

my $holder = $node->background_psql('postgres');

# starts($step, $n, $more) starts a workflow that spawns, with no worker there (unless $stay) and the lock held
sub starts
{
	my ($step, $n, $more, $stay) = @_;

	executors_gone() unless $stay;
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	my $id = value("SELECT romancy.start_workflow('spawns', '{\"step\": \"$step\", \"n\": $n" . ($more // '') . "}')");
	poll_until($node, q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted}, "$step: the turn waits");
	return $id;
}

# beside($what): another role's workflow, for whose executor the launcher makes a plan, has ended
sub beside
{
	ended($node->safe_psql('postgres', "SELECT romancy.start_workflow('quick')", extra_params => ['-U', 'other']), "another role's workflow, $_[0]");
}
sub goes_on { $holder->query_safe('SELECT pg_advisory_unlock(1)') }

my $id = starts('step_spawn', 3);
has(3, 'three spawned steps: two more executors while the turn runs');
poll_until($node, q{SELECT count(*) = 2 FROM romancy.workers WHERE kind = 'executor' AND state = 'idle'}, 'and they wait');
goes_on();
ended($id, 'three steps');
is(value("SELECT status FROM romancy.instances WHERE instance_id = '$id'"), 'completed', 'the workflow has completed');

# map tells how many before the turn writes their rows, for which it waits here
executors_gone();
$holder->query_safe('BEGIN; LOCK TABLE romancy.t_task IN SHARE MODE');
$id = value("SELECT romancy.start_workflow('maps')");
has(3, 'a map of three: two more executors before it has written a task');
$holder->query_safe('COMMIT');
ended($id, 'a map');

$id = starts('step_fail', 9, ', "fails": true');
has(4, 'nine steps: as many as romancy.executors');
goes_on();
ended($id, 'a turn that fails');

$id = starts('for_programs', 5);
beside('and no step for the database');
is(value(executors('postgres')), 1, 'steps for programs need none');
goes_on();
value("SELECT romancy.terminate_workflow('$id')");
ended($id, 'steps for programs');

# those that have left have no successors, whatever plans are made
$id = starts('step_leave', 4);
has(4, 'four steps: three more executors');
reload(q{romancy.worker_idle_timeout = '300ms'});
has(1, 'they leave when they had nothing to do');
beside('after they have left');
is(value(executors('postgres')), 1, 'and are not started again');
goes_on();
ended($id, 'four steps');
reload(q{romancy.worker_idle_timeout = '1min'}, 'romancy.executors = 8');

# The last place is another owner's
$node->append_conf('postgresql.conf', "romancy.max_workers = 4");
$node->restart;
$holder = $node->background_psql('postgres');
$id = starts('step_last', 8);
poll_until($node, 'SELECT (' . executors('postgres') . ') > 1', 'more executors');
beside('of few places');
cmp_ok(value(executors('postgres')), '<=', 3, 'one place is left');
goes_on();
ended($id, 'eight steps');

# With no process left (the server's launcher, romancy's, an executor and a scheduler) nothing is told for what is only expected, and nothing waits for it
$holder->quit;
$node->append_conf('postgresql.conf', "romancy.max_workers = 8\nmax_worker_processes = 4");
$node->restart;
$holder = $node->background_psql('postgres');
value(q{SELECT romancy.start_workflow('quick')});
poll_until($node, q{SELECT string_agg(kind, ' ' ORDER BY kind) FROM romancy.workers WHERE kind IN ('executor', 'scheduler')}, 'all processes are taken', expected => 'executor scheduler');
my $offset = -s $node->logfile;
$id = starts('step_fail', 9, ', "fails": true', 1);
poll_until($node, "SELECT kind FROM romancy.waiting WHERE instance_id = '$id'", 'a turn that has spawned runs, with no process left for more', expected => 'running');
unlike(slurp_file($node->logfile, $offset), qr/out of background worker slots/, 'which the log does not tell as a shortage');
goes_on();
ended($id, 'the turn');

$holder->quit;
$node->stop;
done_testing();
