# set_queue(notify => channel): programs that LISTEN are told when there is something to fetch, by
# a worker, once for all that became ready together; never by the transaction that made a task
# ready, and not when there is nothing to fetch.
# It would catch a queue whose programs are not told, and a NOTIFY in the transaction of a user.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('queue_notify', 'romancy.worker_idle_timeout' => '0');
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	SELECT romancy.define_activity('ext', queue => 'nq');
	CREATE FUNCTION fan(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.map('ext', (SELECT jsonb_agg(g) FROM generate_series(1, i::int) g)); END $$;
	SELECT romancy.set_queue('nq', notify => 'work here');
});
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN "work here"');

# what the listener was told since the last look: [payload, pid] each
my @heard;
sub hear
{
	my $out = $listener->query('SELECT 1');
	push @heard, [ $1, $2 ] while $out =~ /Asynchronous notification "work here" with payload "(.*?)" received from server process with PID (\d+)/g;
	return scalar @heard;
}
sub workers { return map { $_ => 1 } split /\n/, sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'romancy scheduler'}) }
# one turn makes fifty tasks ready
my $id = sql(q{SELECT romancy.start_workflow('fan', '50')});
poll_until(sub { hear() >= 1 }, 'a task that becomes ready is told of');
is(sql(q{SELECT ready FROM romancy.queues WHERE name = 'nq'}), '50', 'when it can be fetched');
is(hear(), 1, 'fifty tasks of one turn are told of once');
is($heard[0][0], 'nq', 'with the name of the queue');
my %scheduler = workers();
ok($scheduler{ $heard[0][1] }, 'by a scheduler');

# a client that ends a task and so makes the next of a chain ready does not notify itself
sql(q{SELECT count(romancy.complete_activity(token)) FROM romancy.fetch_activities('nq', 'w', 50)});
sql("CALL romancy.await_result('$id')");
@heard = ();
sql(q{SELECT romancy.run_canvas(romancy.chain(romancy.task('ext', '1'), romancy.task('ext')))});
poll_until(sub { hear() >= 1 }, 'a canvas makes a task ready');
@heard = ();
sql(q{SELECT romancy.complete_activity(token) FROM romancy.fetch_activities('nq', 'w')});
poll_until(sub { hear() >= 1 }, 'so does the end of a task in a chain');
ok($scheduler{ $_->[1] }, "the client's own transaction did not notify") for @heard;

# nothing to fetch, nothing to tell: fetched in the transaction that made it ready
@heard = ();
my $runs = sql(q{SELECT runs FROM romancy.sweeps WHERE name = 'queue_notify'});
sql(q{BEGIN; SELECT romancy.pause_queue('nq'); SELECT romancy.resume_queue('nq'); SELECT count(*) FROM romancy.fetch_activities('nq', 'w', 10); COMMIT});
poll_until($node, qq{SELECT runs > $runs FROM romancy.sweeps WHERE name = 'queue_notify'}, 'the sweep looks');
is(hear(), 0, 'and finds nothing to tell');

# a paused queue is told of when it is resumed
$runs = sql(q{SELECT romancy.pause_queue('nq'); SELECT runs FROM romancy.sweeps WHERE name = 'queue_notify'}) =~ s/\s//gr;
sql(q{SELECT romancy.run_canvas(romancy.task('ext', '2'))});
poll_until($node, qq{SELECT runs > $runs FROM romancy.sweeps WHERE name = 'queue_notify'}, 'the sweep looks at a paused queue');
is(hear(), 0, 'which has nothing to fetch');
sql(q{SELECT romancy.resume_queue('nq')});
poll_until(sub { hear() >= 1 }, 'after resume_queue it has');

# switched off: what comes after it, of another queue, is heard, and it is not
sql(q{SELECT romancy.set_queue('nq'); SELECT romancy.set_queue('nq2', notify => 'work here'); SELECT romancy.define_activity('ext2', queue => 'nq2')});
is(sql(q{SELECT notify IS NULL FROM romancy.queues WHERE name = 'nq'}), 't', 'the channel is gone');
@heard = ();
sql(q{SELECT romancy.run_canvas(romancy.chain(romancy.task('ext', '3'), romancy.task('ext2')))});
poll_until($node, q{SELECT ready = 2 FROM romancy.queues WHERE name = 'nq'}, 'another task is ready');
sql(q{SELECT romancy.complete_activity(token) FROM romancy.fetch_activities('nq', 'w', 2)});
poll_until(sub { hear() >= 1 }, 'the other queue is told of');
is(join(' ', map { $_->[0] } @heard), 'nq2', 'and nothing else');

my ($rc, $out, $err) = $node->psql('postgres', q{SELECT romancy.set_queue('nq', notify => repeat('x', 64))});
like($err, qr/argument "notify" must be a channel's name of 1 to 63 bytes/, 'a name that is no channel');
$listener->quit;
done_testing();
