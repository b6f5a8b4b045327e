# One role's twenty steps that sleep for a day leave a place to the others, with two places and with the default settings: quick workflows of
# two other roles run beside them, their first ones as well, of which nothing is known, and so do its own, of which something is. A cancel of an instance in a batch whose first
# member blocks takes effect while that still blocks. It would catch a last place that goes to a role that has some, a torn one that waits for a day, and a cancel
# that waits for the end of another member's step.
# Takes 45 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('day_long', 'romancy.max_workers' => 2, 'romancy.executors' => 4, 'romancy.resumption_interval' => '1h');
sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	DO $$ DECLARE r text; BEGIN
		FOREACH r IN ARRAY '{sleeper,quick1,quick2}'::text[] LOOP
			EXECUTE format('CREATE ROLE %s LOGIN', r);
			PERFORM romancy.grant_usage(r::regrole);
		END LOOP;
	END $$;
	CREATE SEQUENCE begun;	-- which no rollback takes back
	GRANT ALL ON begun TO sleeper;
	CREATE FUNCTION day(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('begun'); PERFORM pg_sleep(86400); RETURN 'true'; END $$;
	CREATE FUNCTION days(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('day'); END $$;
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(session_user); END $$;
	CREATE FUNCTION notes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('note'); END $$;
	CREATE FUNCTION passes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(5, ($1#>>'{}')::int); RETURN $1; END $$;
	CREATE FUNCTION gate(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('passes', $1); END $$;
});
my $sleeping = q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename = 'sleeper'};
my $begun = 'SELECT last_value FROM begun';

sub beside
{
	my ($what, $places) = @_;
	value(q{SET SESSION AUTHORIZATION sleeper; SELECT romancy.start_workflow('notes') FROM generate_series(1, 4)});
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, "$what: the quick step is known");
	value(q{SET SESSION AUTHORIZATION sleeper; SELECT romancy.start_workflow('days') FROM generate_series(1, 20)});
	# quick work of the same role runs in the place that is left, again and again: its executor there begins no long step. (One that was torn out begins again: then
	# all is tried once more)
	my $more = 1;
	for (my $try = 1; $more && $try <= 10; $try++)
	{
		poll_until($node, $sleeping, "$what: all places but one, and no more, sleep", expected => $places - 1) or last;
		my $before = value($begun);
		for my $round (1 .. 3)
		{
			is(value(q{SET SESSION AUTHORIZATION sleeper; CALL romancy.run_workflow('notes', timeout => '60 s')}), '"sleeper"', "$what: quick work of the same role, $round");
		}
		$more = value($begun) - $before;
	}
	is($more, 0, "$what: and no more long steps have begun");

	# On a machine with too much to do, an idle executor of the one may take so long to leave for the other that a step is torn out for it; then all is tried again
	my $torn = 1;
	for (my $try = 1; $torn && $try <= 10; $try++)
	{
		poll_until($node, $sleeping, "$what: all places but one sleep", expected => $places - 1);
		my $before = value($begun);
		for my $round (1 .. 5)
		{
			is(value(qq{SET SESSION AUTHORIZATION $_; CALL romancy.run_workflow('notes', timeout => '60 s')}), qq{"$_"}, "$what: $_ runs, $round") for qw(quick1 quick2);
		}
		poll_until($node, $sleeping, "$what: the others sleep on", expected => $places - 1);
		$torn = value($begun) - $before;
	}
	is($torn, 0, "$what: and none was torn out for them");
	value(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NULL});
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, "$what: all end");
}
beside('two places', 2);
$node->append_conf('postgresql.conf', "romancy.max_workers = 4\n");
$node->restart;
beside('the default settings', 4);

# One that was torn out of a batch, and so is in the slow lane, runs when its step is quick after all, also where its role may begin no more slow steps
my $quiet = q{SELECT count(*) FROM romancy.instances WHERE workflow = 'gate' AND finished_at IS NULL};
value(q{SET SESSION AUTHORIZATION sleeper; SELECT romancy.start_workflow('gate', '2') FROM generate_series(1, 200)});
poll_until($node, $quiet, 'the step is known', expected => 0);
value(q{SET SESSION AUTHORIZATION sleeper; SELECT romancy.start_workflow('days') FROM generate_series(1, 5)});
poll_until($node, $sleeping, 'a role has what it may have', expected => 3);
my $shut = $node->background_psql('postgres');
$shut->query_safe('SELECT pg_advisory_lock(5, 1)');
value(q{SET SESSION AUTHORIZATION sleeper; SELECT romancy.start_workflow('gate', '1', priority => 1), (SELECT count(romancy.start_workflow('gate', to_jsonb(i))) FROM generate_series(2, 12) i)});
poll_until($node, $quiet, 'one is at the gate, the others have run', expected => 1);
$shut->query_safe('SELECT pg_advisory_unlock(5, 1)');
$shut->quit;
poll_until($node, $quiet, 'it runs, too', expected => 0);
poll_until($node, $sleeping, 'beside the long steps', expected => 3);
value(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NULL});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'all end');

# The step at the gate is known to be quick. Then the gate of number 1 is shut, and members of one batch are behind it
value(q{SELECT romancy.start_workflow('gate', '1') FROM generate_series(1, 20)});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'the step is known');
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(5, 1)');
for my $round (1 .. 10)
{
	# (the last commit is that of the cancel; the batch began before it)
	value(q{DO $$
		DECLARE ids uuid[];
		BEGIN
			PERFORM romancy.start_workflow('gate', '1', priority => 1);
			ids := ARRAY(SELECT romancy.start_workflow('gate', to_jsonb(i)) FROM generate_series(2, 12) i);
			COMMIT;
			PERFORM romancy.cancel_workflow(ids[11]);
		END $$});
	poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE finished_at IS NULL}, "round $round: all but the one at the gate end, and the cancelled one with them");
	poll_until($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 5 AND NOT granted}, "round $round: which is still there", expected => 1);
	value(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NULL});
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, "round $round: it ends");
}
cmp_ok(value(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'gate' AND input = '12' AND status = 'cancelled'}), '>', 0, 'some cancels came in time');
$holder->quit;
$node->stop('fast');
done_testing();
