# Steps that last for a day and are not transactional, so that they are never interrupted for others: functions, procedures, spawned, mapped, in a canvas,
# compensations. A role that has taken several places with them, when others come, keeps one of these; its other steps go on, in processes beyond
# romancy.max_workers. So with one place more than such roles a workflow of another role runs, and a step has begun once. It would catch a role that keeps the others out for
# as long as its steps last, and one whose steps beyond its places become more and more.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('stay', 'max_worker_processes' => 16, 'romancy.max_workers' => 4, 'romancy.executors' => 4, 'romancy.eager_runs' => 'off', 'romancy.worker_idle_timeout' => '300ms');
sub value { return $node->safe_psql('postgres', $_[0]) }
sub as_role { return $node->safe_psql('postgres', $_[1], extra_params => [ '-U', $_[0] ]) }
sub sleeping { return "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename = '$_[0]'" }

value(q{
	CREATE ROLE long1 LOGIN; CREATE ROLE long2 LOGIN; CREATE ROLE quick LOGIN;
	SELECT romancy.grant_usage('long1'), romancy.grant_usage('long2'), romancy.grant_usage('quick');
	CREATE SEQUENCE began; GRANT ALL ON SEQUENCE began TO public;
	CREATE FUNCTION day(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('began'), pg_sleep(86400); RETURN 'true'; END $$;
	CREATE PROCEDURE day_with_commits(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('began'); COMMIT; PERFORM pg_sleep(86400); END $$;
	CREATE FUNCTION done(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN 'true'; END $$;
	CREATE FUNCTION calls(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity($1 #>> '{}'); END $$;
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('day')); END $$;
	CREATE FUNCTION maps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('day', '[1, 2, 3, 4, 5, 6]'); END $$;
	CREATE FUNCTION undoes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('done'); RAISE 'undo it'; END $$;
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(session_user); END $$;
	CREATE FUNCTION notes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('note'); END $$;
});
for my $role (qw(long1 long2))
{
	as_role($role, q{
		SELECT romancy.define_activity('day', handler => 'day(jsonb)', transactional => false);
		SELECT romancy.define_activity('day_with_commits', handler => 'day_with_commits(jsonb, jsonb)', transactional => false);
		SELECT romancy.define_activity('done', handler => 'done(jsonb)', compensation => 'day')});
}
my %kind = (
	'a function' => q{SELECT romancy.start_workflow('calls', '"day"') FROM generate_series(1, 6)},
	'a procedure' => q{SELECT romancy.start_workflow('calls', '"day_with_commits"') FROM generate_series(1, 6)},
	'spawned' => q{SELECT romancy.start_workflow('spawns') FROM generate_series(1, 6)},
	'mapped' => q{SELECT romancy.start_workflow('maps')},
	'in a canvas' => q{SELECT romancy.run_canvas(romancy.group(variadic array(SELECT romancy.task('day') FROM generate_series(1, 6))))},
	'a compensation' => q{SELECT romancy.start_workflow('undoes') FROM generate_series(1, 6)});
for my $kind (sort keys %kind)
{
	value('ALTER SEQUENCE began RESTART');
	as_role('long1', $kind{$kind});
	poll_until($node, sleeping('long1'), "$kind: one role takes all places but one", expected => 3);
	as_role('long2', $kind{$kind});
	poll_until($node, sleeping('long2') =~ s/count\(\*\)/count(*) > 0/r, "$kind: a second role takes the last one");
	is(as_role('quick', q{CALL romancy.run_workflow('notes', timeout => '150 s')}), '"quick"', "$kind: a workflow of another role runs");
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE owner = 'quick' AND state = 'running'}, "$kind: and has ended");
	is(as_role('quick', q{CALL romancy.run_workflow('notes', timeout => '150 s')}), '"quick"', "$kind: another one as well");
	is(value(sleeping('long1')), '3', "$kind: the first role's steps go on");
	poll_until($node, q{SELECT last_value = (SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename IN ('long1', 'long2')) FROM began}, "$kind: each began once");
	cmp_ok(value(q{SELECT count(*) FROM romancy.workers WHERE owner = 'long1'}), '>', 2, "$kind: in processes of which the view tells");
	value(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NULL});
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, "$kind: all end") or
	  diag(value(q{SELECT * FROM romancy.workers}), "\n", value(q{SELECT owner, workflow, status, count(*) FROM romancy.instances WHERE finished_at IS NULL GROUP BY 1, 2, 3}), "\n", value('SELECT romancy.health()'), "\n", value(q{SELECT * FROM romancy.activity_tasks}));
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE state = 'leaving'}, "$kind: and those who were beyond their places leave");
}
$node->stop('fast');
done_testing();
