# Three roles, one of them with as many steps as there are places, are in steps that last for a day and must not run twice: with a place more than such roles,
# a workflow of a fourth one runs. It would catch a launcher that takes the place of one worker twice, waits for the rest of the day, and plans without a pause meanwhile.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('roles_stay', 'max_worker_processes' => 16, 'romancy.max_workers' => 4, 'romancy.executors' => 4, 'romancy.eager_runs' => 'off', 'romancy.worker_idle_timeout' => '300ms');
sub value { return $node->safe_psql('postgres', $_[0]) }
sub as_role { return $node->safe_psql('postgres', $_[1], extra_params => [ '-U', $_[0] ]) }
sub sleeping { return "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename = '$_[0]'" }

value(q{
	CREATE FUNCTION day(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(86400); RETURN 'true'; END $$;
	CREATE FUNCTION calls(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('day'); END $$;
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(session_user); END $$;
	CREATE FUNCTION notes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('note'); END $$;
});
for my $role (qw(long1 long2 long3 quick))
{
	value("CREATE ROLE $role LOGIN; SELECT romancy.grant_usage('$role')");
	as_role($role, q{SELECT romancy.define_activity('day', handler => 'day(jsonb)', transactional => false)});
}
as_role('long1', q{SELECT romancy.start_workflow('calls') FROM generate_series(1, 6)});
poll_until($node, q{SELECT count(*) >= 3 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename = 'long1'}, 'one role takes all places but one');
for my $role (qw(long2 long3))
{
	as_role($role, q{SELECT romancy.start_workflow('calls')});
	poll_until($node, sleeping($role), "the step of $role begins");
}
is(as_role('quick', q{CALL romancy.run_workflow('notes', timeout => '150 s')}), '"quick"', 'a workflow of a fourth role runs');
is(value(q{SELECT count(DISTINCT usename) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename LIKE 'long%'}), '3', 'the others go on');
$node->stop('fast');
done_testing();
