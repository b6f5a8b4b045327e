# One role's backlog, of more than the queues in memory hold and of steps that do not end, keeps nothing from the others: their schedules fire, also where thousands of one role are due before, a start of ten thousand in one transaction
# (more than a transaction's notes hold) and a map over thousands run to their end, and after a crash their timers and starts are found behind the backlog's. It would catch a scan that waits for room, for as long as the
# backlog takes, while no sweep runs, schedules that are served strictly by time, and work of others that is found only when the backlog is gone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# no sweep finds the instances
my $node = romancy_node('backlog', 'autovacuum' => 'off', 'fsync' => 'off', 'restart_after_crash' => 'on', map({ ("romancy.${_}_interval" => '1h') } qw(resumption timer message_timeout activity_timeout)));
sub value { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return value("SET SESSION AUTHORIZATION $role; $sql") }

value(q{
	CREATE ROLE hog LOGIN; CREATE ROLE shop LOGIN;
	SELECT romancy.grant_usage('hog'), romancy.grant_usage('shop');
	CREATE FUNCTION day(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(86400); RETURN 'true'; END $$;
	CREATE FUNCTION days(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('day'); END $$;
	CREATE FUNCTION quick(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
	CREATE FUNCTION maps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(jsonb_array_length(romancy.map('quick', i))); END $$;
	CREATE FUNCTION sleeps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('3 s'); RETURN i; END $$;
});
as('shop', q{SELECT romancy.schedule('ticks', '* * * * * *', 'quick')});
# the schedule fires n more times
sub ticks
{
	my ($n, $what) = @_;
	my $count = q{SELECT count(*) FROM romancy.instances WHERE labels->>'schedule' = 'ticks'};
	my $before = value($count);
	return poll_until($node, "SELECT ($count) >= $before + $n", $what);
}
ticks(1, 'a schedule fires');

# five thousand schedules of one role are due before one of another's
as('hog', q{SELECT count(romancy.schedule('s' || i, '0 * * * *', 'quick')) FROM generate_series(1, 5000) i});
as('shop', q{SELECT romancy.schedule('hourly', '0 * * * *', 'quick')});
value(q{UPDATE romancy.t_schedule SET after_at = now() - interval '70 min', next_at = now() - interval '10 min', due_at = now() - CASE owner WHEN 'hog' THEN interval '9 min' ELSE '8 min' END WHERE name <> 'ticks'});
value(q{SELECT romancy.run_sweep('schedules')});
poll_until($node, q{SELECT count(*) = 5001 FROM romancy.instances WHERE labels->>'schedule' <> 'ticks'}, 'all fire');
cmp_ok(value(q{SELECT count(*) FROM romancy.instances h, romancy.instances s WHERE s.labels->>'schedule' = 'hourly' AND h.owner = 'hog' AND h.created_at < s.created_at}), '<', 2500, 'that one is not the last');

as('hog', q{SELECT count(*) FROM romancy.start_workflows('days', array_fill('1'::jsonb, ARRAY[40000]))});
poll_until($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename = 'hog'}, 'a backlog of steps that do not end');
ticks(5, 'it fires beside it');
as('shop', q{SELECT count(*) FROM romancy.start_workflows('quick', array_fill('"many"'::jsonb, ARRAY[10000]))});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE input = '"many"' AND status <> 'completed'}, 'ten thousand of one transaction run');
as('shop', q{SELECT romancy.start_workflow('maps', (SELECT jsonb_agg(i) FROM generate_series(1, 6000) i))});
poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE workflow = 'maps' AND output = '6000'}, 'and a map over six thousand');
as('shop', q{SELECT romancy.start_workflow('sleeps')});
poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE workflow = 'sleeps' AND status = 'waiting_for_timer'}, 'one sleeps');
as('shop', q{SELECT romancy.start_workflow('quick', '"late"', start_at => now() + interval '3 s')});
$node->stop('immediate');
$node->start;
poll_until($node, q{SELECT count(*) = 2 FROM romancy.instances WHERE (workflow = 'sleeps' OR input = '"late"') AND status = 'completed'}, 'after a crash, a timer and a start are found behind the backlog');
ticks(3, 'and the schedule fires');
is(value(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'days' AND finished_at IS NULL}), 40000, 'the backlog is still there');
$node->stop('immediate');
done_testing();
