# Limits of queues are counted in shared memory, and counted anew after a start, however it came to that: what is committed,
# rolled back, prepared, killed or there before the limit was set. Many claim, end and roll back at once: never more run than
# may, and nothing is stuck. It would catch a place that is lost or given twice, and a bucket that a restart or
# a set_queue() with the same limits fills.
# Takes 40 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('queue_limits', 'max_prepared_transactions' => 5, 'max_locks_per_transaction' => 512, 'synchronous_commit' => 'on', 'romancy.lock_cleanup_interval' => '1s');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub fetch { return sql("SELECT count(*) FROM romancy.fetch_activities('$_[0]', 'w', 100, '1h')") }
sub running { return sql("SELECT count(*) FROM romancy.activity_tasks WHERE queue = '$_[0]' AND status = 'running'") }
sub token { return qq{(SELECT format('%s.%s.%s', task_id, attempt, lpad(to_hex(fence), 16, '0')) FROM romancy.t_task WHERE queue like '%/$_[0]' AND state = 1 LIMIT 1)} }
sub complete { return sql("SELECT romancy.complete_activity(" . token($_[0]) . ')') }

# prepare($queue, $n): n tasks in a queue
sub prepare
{
	my ($queue, $n) = @_;
	sql(qq{
		SELECT romancy.define_activity('$queue', queue => '$queue', retry => '{"max_attempts": 0, "max_duration": null}');
		SELECT romancy.run_canvas(romancy.group(VARIADIC array(SELECT romancy.task('$queue', jsonb_build_object('n', g, 'k', g % 5)) FROM generate_series(1, $n) g)))});
	poll_until($node, "SELECT count(*) = $n FROM romancy.t_task WHERE queue like '%/$queue'", "$n tasks in queue $queue");
}

# what ran before there was a limit counts
prepare('late', 10);
is(sql("SELECT count(*) FROM romancy.fetch_activities('late', 'w', 3, '1h')"), '3', 'three run without a limit');
sql("SELECT romancy.set_queue('late', max_concurrency => 4)");
is(fetch('late'), '1', 'with a limit of four there is one more');
sql("SELECT romancy.set_queue('late'), romancy.define_activity('late', queue => 'late', max_concurrency => 6)");
is(fetch('late'), '2', 'the same with a limit of the activity');
complete('late') for 1 .. 2;
is(fetch('late'), '2', 'what ends makes room');

# what is deleted with its instance
sql('SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances');
poll_until($node, q{SELECT bool_and(finished_at IS NOT NULL) FROM romancy.instances}, 'the canvas is terminated');
is(sql('SELECT count(*) FROM romancy.instances, romancy.delete_workflow(instance_id)'), '1', 'and deleted');
prepare('late', 10);
sql("SELECT romancy.define_activity('late', queue => 'late', max_concurrency => 6)");
is(fetch('late'), '6', 'what went with it does not count');

# tokens that claims have booked: another rate, and claims that have gone
prepare('rated', 3);
sql("SELECT romancy.set_queue('rated', rate_limit => '1/h')");
is(fetch('rated'), '1', 'one in an hour');
my $polled = '';
my $waits = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "CALL romancy.poll_activities('rated', 'waits', 1, '1h', '2h', null)" ], '<', \undef, '>', \$polled);
poll_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL romancy.poll%' AND wait_event_type = 'Extension'}, 'a claim waits for the next one');
sql("SELECT romancy.set_queue('rated', rate_limit => '10/s')");
poll_until(sub { $waits->pump_nb; $polled =~ /waits|"token"/ }, 'at another rate it does not wait for what it has booked');
$waits->kill_kill;
sql("SELECT romancy.set_queue('rated', rate_limit => '1/s')");
my $left = 0;
$node->psql('postgres', "SET statement_timeout = '10ms';\n" . ("CALL romancy.poll_activities('rated', 'goes', 1, '1h', '2h', null);\n" x 250), on_error_stop => 0, stdout => \$left);
poll_until(sub { $left =~ /"token"/ || fetch('rated') > 0 }, 'what claims have booked that have gone holds no others up');

# prepared transactions, also over a restart
prepare('two', 10);
sql("SELECT romancy.set_queue('two', max_concurrency => 2)");
my $err;
$node->psql('postgres', "BEGIN; SELECT count(*) FROM romancy.fetch_activities('two', 'w'); PREPARE TRANSACTION 'f'", stderr => \$err);
like($err, qr/cannot PREPARE a transaction that has fetched activities of a queue with limits/, 'a claim under a limit cannot be prepared');
is(fetch('two'), '2', 'it has left its place');
for my $restart (0, 1)
{
	for my $end ('ROLLBACK', 'COMMIT')
	{
		sql('BEGIN; SELECT romancy.complete_activity(' . token('two') . "); PREPARE TRANSACTION 'p'");
		if ($restart)
		{
			$node->stop('immediate');
			$node->start;
		}
		is(fetch('two'), '0', 'one whose end is prepared still runs');
		sql("$end PREPARED 'p'");
		is(fetch('two'), $end eq 'COMMIT' ? '1' : '0', "$end PREPARED" . ($restart ? ' after a crash' : ''));
		is(running('two'), '2', 'two run');
	}
}
is(sql("BEGIN; SELECT romancy.complete_activity(" . token('two') . "); SELECT count(*) FROM romancy.fetch_activities('two', 'w', 9, '1h'); PREPARE TRANSACTION 'both'; COMMIT PREPARED 'both'"), "t\n1", 'one ended and one fetched can be prepared');
is(fetch('two') . running('two'), '02', 'and still two run');
# a count by a transaction that has ended one itself
sql("BEGIN; PREPARE TRANSACTION 'n'");
sql("COMMIT PREPARED 'n'");
is(sql("BEGIN; SELECT romancy.complete_activity(" . token('two') . "); SELECT count(*) FROM romancy.fetch_activities('two', 'w', 9, '1h'); COMMIT"), "t\n1", 'one ended and one fetched, and all counted between');
is(fetch('two') . running('two'), '02', 'and two run');

# buckets
prepare('slow', 20);
sql("SELECT romancy.set_queue('slow', rate_limit => '5/h')");
is(sql("SELECT count(*) FROM romancy.fetch_activities('slow', 'w', 2, '1h')"), '2', 'two of five an hour');
sql("BEGIN; SELECT count(*) FROM romancy.fetch_activities('slow', 'w', 2, '1h'); ROLLBACK");
sql("SELECT romancy.set_queue('slow', rate_limit => '5/h')");
$node->restart;
is(sql("SELECT count(*) FROM romancy.fetch_activities('slow', 'w', 1, '1h')"), '1', 'after a restart there is one more');
$node->stop('immediate');
$node->start;
is(fetch('slow'), '2', 'and after a crash two, neither more nor less');
prepare('fast', 100);
sql("SELECT romancy.set_queue('fast', rate_limit => '50/s')");
is(sql("SELECT count(*) FROM romancy.fetch_activities('fast', 'w', 30, '1h')"), '30', 'a fast one is full at first');
is(sql("SELECT count(*) FROM romancy.t_bucket WHERE scope LIKE 'queue:%/fast'"), '1', 'and written down once');
my $begun = sql('SELECT clock_timestamp()');
$node->restart;
my $got = 0;
poll_until(sub { $got += fetch('fast'); $got >= 70 }, 'after a restart the others come');
is(sql("SELECT clock_timestamp() - '$begun' >= '0.4 s'"), 't', 'not faster than it lets through');

# dropped and made again
is(running('two'), '2', 'two run');
sql('DROP EXTENSION romancy CASCADE');
sql('CREATE EXTENSION romancy');
prepare('two', 10);
sql("SELECT romancy.set_queue('two', max_concurrency => 2)");
is(fetch('two'), '2', 'after DROP EXTENSION nothing runs');

# Many at once. A claim may be rolled back, or part of it, or its end; leases are short and are lost. Each client
# looks whether too many run.
sql('CREATE TABLE over (queue text, running bigint)');
prepare($_, 300) for qw(all keys);
sql(q{
	SELECT romancy.set_queue('all', max_concurrency => 4), romancy.set_queue('keys', max_concurrency => 1, per_key => 'k');
	SELECT romancy.define_activity('keys', queue => 'keys', max_concurrency => 3, retry => '{"max_attempts": 0, "max_duration": null}')});
my $script = $node->basedir . '/claims.pgbench';
my $body = '';
for my $queue (qw(all keys))
{
	$body .= qq{
\\set n random(1, 3)
\\set dice random(1, 10)
begin;
savepoint s;
select coalesce(array_agg(token), '{}') as tokens from romancy.fetch_activities('$queue', 'w', :n, '2s') \\gset
\\if :dice = 1
rollback;
\\elif :dice = 2
rollback to savepoint s;
select count(romancy.complete_activity(token, '1')) from romancy.fetch_activities('$queue', 'w', 1, '2s');
commit;
\\elif :dice = 3
select count(romancy.complete_activity(t, '1')) from unnest(cast(:tokens as text[])) t;
select count(*) from romancy.fetch_activities('$queue', 'w', 1, '100ms');
commit;
\\else
commit;
insert into over select '$queue', count(*) from romancy.t_task where queue like '%/$queue' and state = 1 having count(*) > case '$queue' when 'all' then 4 else 3 end;
insert into over select limit_key, count(*) from romancy.t_task where queue like '%/keys' and state = 1 group by 1 having count(*) > 1;
begin;
\\if :dice > 7
select count(pg_advisory_xact_lock_shared(g)) from generate_series(1, 3000) g;
\\endif
select count(romancy.complete_activity(t, '1')) from unnest(cast(:tokens as text[])) t;
\\if :dice = 4
rollback;
\\else
commit;
\\endif
\\endif
};
}
append_to_file($script, $body);
my @bench = map { IPC::Run::start([ 'pgbench', '-n', '-M', 'prepared', '-c', 4, '-t', 1_000_000, '-f', $script, $node->connstr('postgres') ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null') } 1 .. 2;
# Meanwhile all is counted anew again and again. (The many locks above are let go between the moment at which others see the
# end and that at which its place is free, and a count may come in between.)
my $again = $node->basedir . '/again.pgbench';
append_to_file($again, "begin;\nprepare transaction 'again';\ncommit prepared 'again';\n");
push @bench, IPC::Run::start([ 'pgbench', '-n', '-c', 1, '-R', 20, '-t', 1_000_000, '-f', $again, $node->connstr('postgres') ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
for my $part (1 .. 3)
{
	poll_until($node, "SELECT count(*) < 600 - 150 * $part FROM romancy.t_task WHERE split_part(queue, '/', 2) IN ('all', 'keys')", "part $part is done");
	sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench' ORDER BY random() LIMIT 1});
}
poll_until($node, q{SELECT count(*) = 0 FROM romancy.t_task WHERE split_part(queue, '/', 2) IN ('all', 'keys')}, 'all are done: no place was lost');
$_->kill_kill for @bench;
is(sql('SELECT count(*) FROM over'), '0', 'and never did more run than may');
poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE status = 'completed'}, 'both canvases complete', expected => '2');
$node->stop;

# without shared memory a session counts under a lock
my $alone = romancy_node('queue_limits_alone', _preload => 0);
is($alone->safe_psql('postgres', q{
	SET client_min_messages = error;
	SELECT romancy.define_activity('ext', queue => 'q') IS NULL, romancy.set_queue('q', max_concurrency => 2) IS NULL;
	SELECT romancy.run_canvas(romancy.group(VARIADIC array_fill(romancy.task('ext'), array[5]))) IS NOT NULL;
	CALL romancy.drain();
	SELECT count(*) FROM romancy.fetch_activities('q', 'w', 1);
}), "f|f\nt\n1\n1", 'without preload one of two is fetched');
is($alone->safe_psql('postgres', q{SELECT count(*) FROM romancy.fetch_activities('q', 'w', 5)}), '1', 'and one more by another session');
$alone->stop;
done_testing();
