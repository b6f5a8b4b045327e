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
	CREATE FUNCTION sleeps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 day'); RETURN i; END $$;
	CREATE FUNCTION many(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
});
as('shop', q{SELECT romancy.schedule('ticks', '* * * * * *', 'quick')});
# the schedule fires n more times (what is waited for is not counted by a look at each of sixty thousand instances)
sub ticks
{
	my ($n, $what) = @_;
	my $count = q{SELECT runs FROM romancy.schedules WHERE name = 'ticks'};
	my $before = value($count);
	return poll_until($node, "SELECT ($count) >= $before + $n", $what);
}
ticks(1, 'a schedule fires');

# five thousand schedules of one role are due before one of another's
as('hog', q{SELECT count(romancy.schedule('s' || i, '@every 1h', 'quick')) FROM generate_series(1, 5000) i});
as('shop', q{SELECT romancy.schedule('hourly', '@every 1h', 'quick')});
value(q{UPDATE romancy.t_schedule SET after_at = after_at - by, next_at = next_at - by, due_at = due_at - by, anchor = anchor - by FROM (VALUES ('hog', interval '71 min'), ('shop', '70 min')) v (role, by) WHERE owner = role AND name <> 'ticks'});
value(q{SELECT romancy.run_sweep('schedules')});
poll_until($node, q{SELECT sum(runs) FROM romancy.schedules WHERE name <> 'ticks'}, 'all fire', expected => 5001);
is(value(q{SELECT count(*) FROM romancy.instances WHERE labels->>'schedule' <> 'ticks'}), 5001, 'once each');
cmp_ok(value(q{SELECT count(*) FROM romancy.instances h, romancy.instances s WHERE s.labels->>'schedule' = 'hourly' AND h.owner = 'hog' AND h.created_at < s.created_at}), '<', 2500, 'that one is not the last');

as('hog', q{SELECT count(*) FROM romancy.start_workflows('days', array_fill('1'::jsonb, ARRAY[40000]))});
poll_until($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename = 'hog'}, 'a backlog of steps that do not end');
ticks(5, 'it fires beside it');
as('shop', q{SELECT count(*) FROM romancy.start_workflows('many', array_fill('1'::jsonb, ARRAY[10000]))});
poll_until($node, q{SELECT completed FROM romancy.stat_workflows WHERE workflow = 'many'}, 'ten thousand of one transaction run', expected => 10000);
my $maps = as('shop', q{SELECT romancy.start_workflow('maps', (SELECT jsonb_agg(i) FROM generate_series(1, 6000) i))});
poll_until($node, "SELECT output = '6000' FROM romancy.instances WHERE instance_id = '$maps'", 'and a map over six thousand');
my $sleeps = as('shop', q{SELECT romancy.start_workflow('sleeps')});
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$sleeps'", 'one sleeps', expected => 'waiting_for_timer');
my $late = as('shop', q{SELECT romancy.start_workflow('quick', '"late"', start_at => now() + interval '3 s')});
# (its timer is due, and no process knows that it is)
make_due($node, "instance_id = '$sleeps'");
$node->stop('immediate');
$node->start;
poll_until($node, "SELECT count(*) = 2 FROM romancy.instances WHERE instance_id IN ('$sleeps', '$late') AND status = 'completed'", 'after a crash, a timer and a start are found behind the backlog');
ticks(3, 'and the schedule fires');
is(value(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'days' AND finished_at IS NULL}), 40000, 'the backlog is still there');
$node->stop('immediate');
done_testing();
