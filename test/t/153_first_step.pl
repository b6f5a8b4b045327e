# A process comes to its first step without a plan of an engine statement, and with PL/pgSQL loaded: what it has to know before (the workflow, its
# namespace, settings, the activity, a task) is read by index. It would catch a statement that each new executor parses and plans before it does anything,
# and a look-up by index that sees other rows than a SELECT: an uncommitted definition, one that was changed or rolled back, one of another namespace.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('first_step', 'romancy.executors' => 1);
sub value { return $node->safe_psql('postgres', $_[0]) }
sub settled { poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, $_[0]) }

sub executors_gone
{
	value(q{ALTER SYSTEM SET romancy.enabled = off; SELECT pg_reload_conf()});
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind IN ('executor', 'scheduler')}, 'no worker');
	value(q{ALTER SYSTEM SET romancy.enabled = on; SELECT pg_reload_conf()});
}

# output($workflow) is what a run of it returns
sub output
{
	my $id = value("SELECT romancy.start_workflow('$_[0]')");
	settled($_[0]);
	return value("SELECT output #>> '{}' FROM romancy.instances WHERE instance_id = '$id'");
}

is(value(q{SELECT current_setting('plpgsql.variable_conflict', true)}), 'error', 'a session that has called nothing has PL/pgSQL');

# plans() is the engine statements of which the process has plans
value(q{
	CREATE FUNCTION plans(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		RETURN to_jsonb(coalesce((SELECT string_agg(ident, E'\n' ORDER BY ident) FROM pg_backend_memory_contexts
			WHERE name = 'CachedPlanSource' AND ident LIKE '%romancy.t\_%'), ''));
	END $$;
	CREATE FUNCTION one(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('plans'); END $$;
	CREATE FUNCTION defined(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('known'); END $$;
	SELECT romancy.define_activity('known', 'plans(jsonb)');
	SELECT romancy.define_workflow('defined', 'defined(jsonb)')});
output('one');    # the role's row of settings, and the rows of undefined names, are there after that
for my $workflow (qw(one defined))
{
	executors_gone();
	is(output($workflow), '', "the first step of workflow $workflow: no plan");
}

# A task of a canvas, which this session has begun
executors_gone();
value('ALTER SYSTEM SET romancy.enabled = off; SELECT pg_reload_conf()');
my $canvas = value(q{SELECT romancy.run_canvas(romancy.group(romancy.task('plans')))});
value('CALL romancy.drain(max_turns => 1)');
value('ALTER SYSTEM SET romancy.enabled = on; SELECT pg_reload_conf()');
settled('the canvas');
unlike(value("SELECT output FROM romancy.instances WHERE instance_id = '$canvas'"), qr/ t_task|romancy\.t_task/, 'a task: no plan of a statement about it');

# The turn that begins a canvas, and one that continues
executors_gone();
$canvas = value(q{SELECT romancy.run_canvas(romancy.group(romancy.task('plans')))});
settled('a canvas, by one that is new');
unlike(value("SELECT output FROM romancy.instances WHERE instance_id = '$canvas'"), qr/t_activity|INSERT INTO romancy\.t_canvas_join/,
	'the turn that begins a canvas plans neither the look at its activities nor the insert of its group');
value(q{
	CREATE FUNCTION two(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.await(romancy.spawn('plans'));
		RETURN romancy.activity('plans');
	END $$});
executors_gone();
unlike(output('two'), qr/t_history/, 'a turn that continues reads history without a plan');

my $holder = $node->background_psql('postgres');

# Definitions in transactions that are open, committed, rolled back
value(q{
	CREATE FUNCTION old(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"old"'; END $$;
	CREATE FUNCTION new(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"new"'; END $$;
	CREATE FUNCTION act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('changes'); END $$;
	SELECT romancy.define_activity('changes', 'old(jsonb)');
	SELECT romancy.define_workflow('turns', 'old(jsonb)')});
is(output('act') . output('turns'), 'oldold', 'as defined');
my $redefine = q{SELECT romancy.define_activity('changes', 'new(jsonb)'); SELECT romancy.define_workflow('turns', 'new(jsonb)');};
for my $end (qw(ROLLBACK COMMIT))
{
	$holder->query_safe("BEGIN; $redefine");
	$holder->query_safe(q{SELECT romancy.start_workflow('act'), romancy.start_workflow('turns'); CALL romancy.drain()});
	is($holder->query_safe(q{SELECT string_agg(output #>> '{}', ' ') FROM romancy.instances WHERE created_at >= now()}), 'new new',
		"$end: the transaction sees its own definitions");
	executors_gone();
	is(output('act') . output('turns'), 'oldold', "$end: others do not, before");
	$holder->query_safe($end);
	is(output('act') . output('turns'), $end eq 'COMMIT' ? 'newnew' : 'oldold', "$end: and after");
	executors_gone();
	is(output('act') . output('turns'), $end eq 'COMMIT' ? 'newnew' : 'oldold', "$end: a new process, too");
}
$holder->quit;

# The same name in another namespace
value(q{
	CREATE ROLE neighbour LOGIN;
	SELECT romancy.grant_usage('neighbour', define => true);
	GRANT CREATE ON SCHEMA public TO neighbour;
	SET SESSION AUTHORIZATION neighbour;
	SELECT romancy.define_activity('changes', 'old(jsonb)');
	SELECT romancy.start_workflow('act')});
settled('of the neighbour');
is(value(q{SELECT output #>> '{}' FROM romancy.instances WHERE owner = 'neighbour'}), 'old', 'the definition of its own namespace');

done_testing();
