# Deadlines in memory: an instance has one, however often it has waited with a time limit; each of its time limits, and one that it sets nearer, still ends a wait when it is due.
# It would catch an instance that is woken in vain once for each message that it has received, and a deadline that is lost when a nearer one comes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# no sweep helps, and none reads the table
my $node = romancy_node('deadlines_of_one', 'autovacuum' => 'off', map { ("romancy.${_}_interval" => '1h') } qw(timer resumption activity_timeout lock_cleanup message_timeout message_check retention channel_cleanup schedule outbox));
sub sql { return $node->safe_psql('postgres', $_[0]) }

# ---------------------------------------------------------------- many time limits of one instance, of which none is reached
sql(q{
	CREATE FUNCTION takes(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE n int := 0;
	BEGIN
		FOR m IN 1 .. (i->>'messages')::int LOOP PERFORM romancy.receive('c', '10 s'); END LOOP;
		BEGIN PERFORM romancy.receive('c', (i->>'last')::interval); EXCEPTION WHEN SQLSTATE 'RM006' THEN RETURN '"over"'; END;
		RETURN '"message"';
	END $$;
	CREATE FUNCTION sleeps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep((i #>> '{}')::interval); RETURN i; END $$;
	CREATE PROCEDURE send(id uuid, n int) LANGUAGE plpgsql AS $$
	BEGIN
		FOR m IN 1 .. n LOOP
			LOOP
				EXIT WHEN (SELECT status = 'waiting_for_message' FROM romancy.instances WHERE instance_id = id)
					AND (SELECT count(*) = m - 1 FROM romancy.get_history(id) WHERE event_type = 'ChannelMessageReceived');
				IF (SELECT finished_at IS NOT NULL FROM romancy.instances WHERE instance_id = id) THEN RAISE EXCEPTION 'it has ended'; END IF;
				COMMIT;
				PERFORM pg_sleep(0.001);
			END LOOP;
			PERFORM romancy.send_to(id, 'c', to_jsonb(m));
			COMMIT;
		END LOOP;
	END $$;
});
# how often indexes of the table of instances were read: an instance that is woken is looked up
sub reads { return sql(q{SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 't_instance'}) }
sub reads_settled
{
	my $last = -1;
	poll_until(sub { my $now = reads(); my $same = $now == $last; $last = $now; return $same && sql(q{SELECT count(*) = 0 FROM romancy.workers WHERE kind = 'executor' AND state = 'running'}) eq 't' }, 'the counters stand still');
	return $last;
}
my $id = sql(q{SELECT romancy.start_workflow('takes', '{"messages": 60, "last": "1 day"}')});
sql("CALL send('$id', 60)");
poll_until($node, "SELECT count(*) FROM romancy.get_history('$id') WHERE event_type = 'ChannelMessageReceived'", 'it has received all', expected => 60);
my $before = reads_settled();
# when this one is over, so are all time limits from before
sql(q{CALL romancy.run_workflow('sleeps', '"10 s"')});
my $reads = reads_settled() - $before;
note("$reads reads");
cmp_ok($reads, '<', 20, 'it was not woken once for each message that it has received');
sql("SELECT romancy.send_to('$id', 'c', '1')");
poll_until($node, "SELECT output FROM romancy.instances WHERE instance_id = '$id'", 'its last wait ends with a message', expected => '"message"');

# ---------------------------------------------------------------- and of which the last is reached: it is later, or nearer, than those before
for my $last ('11 s', '200 ms')
{
	$id = sql(qq{SELECT romancy.start_workflow('takes', '{"messages": 3, "last": "$last"}')});
	sql("CALL send('$id', 3)");
	poll_until($node, "SELECT output FROM romancy.instances WHERE instance_id = '$id'", "a last time limit of $last ends the wait", expected => '"over"');
}

done_testing();
