# Steps that last for a day, of several roles: each of them costs its role one place as soon as others wait, also where a role has taken several places
# before the others came. So as long as there is one place more than such roles, workflows of another role run, and so do the sweeps and the schedules. A step that is torn out for that is run
# again from its begin, without an attempt being counted; a step that is not transactional is never run twice for it: it goes on beside those that take its place. It would catch a role that has taken
# what was free and keeps it, also by code that catches the interruption, or by steps that are never run twice.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('several', 'max_worker_processes' => 16, 'romancy.max_workers' => 6, 'romancy.executors' => 4, 'romancy.timer_interval' => '100ms', 'romancy.eager_runs' => 'off');
sub value { return $node->safe_psql('postgres', $_[0]) }
sub as_role { return $node->safe_psql('postgres', $_[1], extra_params => [ '-U', $_[0] ]) }
sub sleeping { return "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename = '$_[0]'" }

value(q{
	CREATE ROLE long1 LOGIN; CREATE ROLE long2 LOGIN; CREATE ROLE long3 LOGIN; CREATE ROLE quick LOGIN;
	SELECT romancy.grant_usage('long1'), romancy.grant_usage('long2'), romancy.grant_usage('long3'), romancy.grant_usage('quick');
	CREATE SEQUENCE began; GRANT ALL ON SEQUENCE began TO public;
	CREATE FUNCTION day(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('began'), pg_sleep(86400); RETURN 'true'; END $$;
	CREATE FUNCTION days(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('day'); END $$;
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(session_user); END $$;
	CREATE FUNCTION notes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('note'); END $$;
});
as_role('long1', q{SELECT romancy.start_workflow('days') FROM generate_series(1, 20)});
poll_until($node, sleeping('long1'), 'one role takes all that it may', expected => 4);
for my $role (qw(long2 long3))
{
	as_role($role, q{SELECT romancy.start_workflow('days') FROM generate_series(1, 20)});
	poll_until($node, sleeping($role) =~ s/count\(\*\)/count(*) > 0/r, "$role has a place");
}
for my $round (1 .. 5)
{
	is(as_role('quick', q{CALL romancy.run_workflow('notes', timeout => '60 s')}), '"quick"', "another role's workflow runs, $round");
}
poll_until($node, q{SELECT last_run > now() - interval '30 s' FROM romancy.sweeps WHERE name = 'timers'}, 'a sweep has run');
my $last = value('SELECT clock_timestamp()');
poll_until($node, qq{SELECT last_run > '$last' FROM romancy.sweeps WHERE name = 'timers'}, 'and goes on to run');
as_role('quick', q{SELECT romancy.schedule('each', '* * * * * *', 'notes')});
poll_until($node, q{SELECT count(*) > 2 FROM romancy.instances WHERE owner = 'quick' AND labels ->> 'schedule' = 'each' AND status = 'completed'}, 'a schedule fires');
as_role('quick', q{SELECT romancy.unschedule('each')});
for my $role (qw(long1 long2 long3))
{
	poll_until($node, sleeping($role) =~ s/count\(\*\)/count(*) > 0/r, "$role keeps a place");
}
cmp_ok(value(sleeping('long1')), '<', 4, 'the first one has given some back');
is(value(q{SELECT count(*) FROM romancy.instances WHERE owner ~ 'long' AND status NOT IN ('pending', 'running')}), '0', 'no instance has failed of it');
is(value(q{SELECT count(*) FROM romancy.waiting WHERE owner ~ 'long' AND attempt > 1}), '0', 'no attempt is counted');
value(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE owner IN ('long2', 'long3')});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE owner IN ('long2', 'long3') AND finished_at IS NULL}, 'the others end');
poll_until($node, sleeping('long1'), 'the first one has them all again', expected => 4);
value(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NULL});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'all end');

# A step that is not transactional has begun once for each attempt, also when others wait
value(q{ALTER SEQUENCE began RESTART});
as_role('long1', q{SELECT romancy.define_activity('day', handler => 'day', transactional => false); SELECT romancy.start_workflow('days') FROM generate_series(1, 20)});
poll_until($node, sleeping('long1'), 'it takes all that it may', expected => 4);
as_role($_, q{SELECT romancy.start_workflow('days')}) for qw(long2 long3);
poll_until($node, sleeping($_), "$_ has a place", expected => 1) for qw(long2 long3);
as_role('quick', q{SELECT romancy.start_workflow('notes')});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE owner = 'quick' AND finished_at IS NULL}, 'another role goes on');
is(value(sleeping('long1')), '4', 'and they are not interrupted');
cmp_ok(value(q{SELECT count(*) FROM romancy.workers WHERE state = 'leaving' AND owner = 'long1'}), '>=', 1, 'one was asked to leave, or more, where the scheduler needed a place as well');
is(value(q{SELECT last_value FROM began}), '6', 'each step has begun once');
value(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NULL});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'all end');

# One that may be torn out is, though others that may not be were asked before it, and have the places after it. (Places are filled in their order.)
$node->append_conf('postgresql.conf', "romancy.worker_idle_timeout = '300ms'");
$node->restart;
value(q{CREATE FUNCTION may(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('once_more'); END $$;
	CREATE FUNCTION once_more(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN LOOP BEGIN PERFORM pg_sleep(86400); EXCEPTION WHEN query_canceled THEN RAISE LOG 'not now'; END; END LOOP; END $$});
as_role('quick', q{CALL romancy.run_workflow('notes')});
as_role('long1', q{SELECT romancy.define_activity('once_more', handler => 'once_more'); SELECT romancy.start_workflow('days') FROM generate_series(1, 3)});
poll_until($node, sleeping('long1'), 'steps that may not be torn out', expected => 3);
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE owner = 'quick'}, 'a place before theirs is free');
as_role('long1', q{SELECT romancy.start_workflow('may')});
poll_until($node, sleeping('long1'), 'and one that may, whose code catches it', expected => 4);
as_role($_, q{SELECT romancy.start_workflow('days')}) for qw(long2 long3);
poll_until($node, sleeping($_), "$_ has a place", expected => 1) for qw(long2 long3);
is(as_role('quick', q{CALL romancy.run_workflow('notes', timeout => '60 s')}), '"quick"', 'another role has its place');
$node->stop('fast');
done_testing();
