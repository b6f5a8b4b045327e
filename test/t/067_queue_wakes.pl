# A poller that found nothing in a queue, because of a limit or because others had the task, is woken when there is something: after a
# rollback, a savepoint's too, of a limited queue or not, after COMMIT PREPARED and ROLLBACK PREPARED, and after define_activity() with
# other limits; listeners are told, too. A task that is locked by others does not keep waiting pollers busy, and a limit that is far
# away does not keep an activity waiting that has another. It would catch pollers that sleep though there is room, or turn in
# circles, a poller that sees only tasks that it does not have, or takes a wake-up that others need, rows of t_bucket that pile up, a task whose attempt began before its queue had keys and never comes, and limits that a
# promoted standby exceeds, since it has counted while it was one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('queue_wakes', _init => [ allows_streaming => 1 ], 'max_prepared_transactions' => 5, 'synchronous_commit' => 'on');
sub sql { return ($_[1] // $node)->safe_psql('postgres', $_[0]) }

# prepare($queue, $n, $activity): n tasks in a queue
sub prepare
{
	my ($queue, $n, $activity) = (@_, $_[0]);
	sql(qq{
		SELECT romancy.define_activity('$activity', queue => '$queue', retry => '{"max_attempts": 0, "max_duration": null}');
		SELECT romancy.run_canvas(romancy.group(VARIADIC array(SELECT romancy.task('$activity', jsonb_build_object('k', g % 50)) FROM generate_series(1, $n) g)))});
	poll_until($node, "SELECT count(*) >= $n FROM romancy.t_task WHERE activity = '$activity'", "$n tasks in queue $queue");
}
sub token { return qq{(SELECT format('%s.%s.%s', task_id, attempt, lpad(to_hex(fence), 16, '0')) FROM romancy.t_task WHERE queue like '%/$_[0]' AND state = 1 LIMIT 1)} }

my $other = $node->background_psql('postgres');

# comes($queue, $how, $do): a poller of the queue sleeps, and comes when that is done
sub comes
{
	my ($queue, $how, $do) = @_;
	my $s = $node->background_psql('postgres');
	my $pid = $s->query_safe('SELECT pg_backend_pid()');
	$s->query_until(qr/calls/, "\\echo calls\nCALL romancy.poll_activities('$queue', 'w', 1, '1h', '1h', null);\n");
	poll_until($node, "SELECT state = 'active' AND wait_event_type IN ('Extension', 'Timeout') FROM pg_stat_activity WHERE pid = $pid", "$how: it sleeps");
	$do->();
	poll_until($node, "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pid", "$how: it comes");
	$s->quit;
}
sub other { $other->query_safe($_[0]) }
sub fetch_in { return "SELECT count(*) FROM romancy.fetch_activities('$_[0]', 'o', 1, '1h')" }

prepare('free', 5);
other('BEGIN');
other("SELECT count(*) FROM romancy.fetch_activities('free', 'o', 5, '1h')");
comes('free', 'a rollback without limits', sub { other('ROLLBACK') });
other('BEGIN');
other('SAVEPOINT s');
other("SELECT count(*) FROM romancy.fetch_activities('free', 'o', 5, '1h')");
comes('free', 'a savepoint without limits', sub { other('ROLLBACK TO SAVEPOINT s') });
other('COMMIT');
sql("BEGIN; SELECT count(*) FROM romancy.fetch_activities('free', 'o', 5, '1h'); PREPARE TRANSACTION 'p'");
comes('free', 'ROLLBACK PREPARED', sub { sql("ROLLBACK PREPARED 'p'") });

prepare('one', 5);
sql("SELECT romancy.set_queue('one', max_concurrency => 1)");
sql(fetch_in('one'));
sql('BEGIN; SELECT romancy.complete_activity(' . token('one') . "); PREPARE TRANSACTION 'p'");
comes('one', 'COMMIT PREPARED', sub { sql("COMMIT PREPARED 'p'") });

comes('one', 'an end', sub { sql('SELECT romancy.complete_activity(' . token('one') . ')') });
other('BEGIN');
other('SELECT romancy.complete_activity(' . token('one') . ')');
comes('one', 'an end in a transaction', sub { other('COMMIT') });

prepare('act', 5);
sql("SELECT romancy.define_activity('act', queue => 'act', max_concurrency => 1)");
sql(fetch_in('act'));
comes('act', 'a higher limit of an activity', sub { sql("SELECT romancy.define_activity('act', queue => 'act', max_concurrency => 2)") });

# a limit of one activity, whose next token is far away, and one of another
prepare('mix', 4, 'slow');
prepare('mix', 6, 'fast');
sql("SELECT romancy.define_activity('slow', queue => 'mix', rate_limit => '1/h'), romancy.define_activity('fast', queue => 'mix', rate_limit => '1/s')");
is(sql("SELECT string_agg(activity, ' ' ORDER BY activity) FROM romancy.fetch_activities('mix', 'w', 10, '1h')"), 'fast slow', 'one of each');
comes('mix', 'a token of the other activity', sub { });

# a poller that has not all of the queue's activities: it gets past what it does not have, and uses up no wake-up of it
prepare('beside', 200, 'strange');
sql("SELECT romancy.define_activity('known', queue => 'beside')");
my $past = "null, array['known too', 'strange']);";
is(sql("CALL romancy.poll_activities('beside', 'p', 10, '1h', '10ms', $past"), '[]', 'two hundred tasks are not for it');
is(sql(q{SELECT count(*) FROM romancy.t_task WHERE queue LIKE '%/beside' AND state = 0 AND attempt = 0}), '200', 'they are as they were');
is(sql("SELECT count(*) FROM romancy.fetch_activities('beside', 'w', 1000, '1h')"), '200', 'others have them');
my $plain = $node->background_psql('postgres');
my $picky = $node->background_psql('postgres');
my @both = map { $_->query_safe('SELECT pg_backend_pid()') } $plain, $picky;
$plain->query_until(qr/calls/, "\\echo calls\nCALL romancy.poll_activities('beside', 'w', 10, '1h', '1h', null);\n");
poll_until($node, "SELECT state = 'active' AND wait_event_type IN ('Extension', 'Timeout') FROM pg_stat_activity WHERE pid = $both[0]", 'another one waits');
$picky->query_until(qr/calls/, "\\echo calls\nCALL romancy.poll_activities('beside', 'p', 10, '1h', '1h', $past\n");
poll_until($node, "SELECT state = 'active' AND wait_event_type IN ('Extension', 'Timeout') FROM pg_stat_activity WHERE pid = $both[1]", 'and it, too, so it would be told first');
sql("SELECT romancy.run_canvas(romancy.task('strange'))");
poll_until($node, "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $both[0]", 'what one passes over wakes the other');
is(sql("SELECT state FROM pg_stat_activity WHERE pid = $both[1]"), 'active', 'the first waits still');
sql("SELECT romancy.run_canvas(romancy.task('known'))");
poll_until($node, "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $both[1]", 'and comes for what it has');
$_->quit for $plain, $picky;
# with keys, too
prepare('beside keys', 20, 'strange keyed');
sql("SELECT romancy.set_queue('beside keys', per_key => 'k')");
prepare('beside keys', 1, 'known keyed');
like(sql("CALL romancy.poll_activities('beside keys', 'p', 10, '1h', '1h', null, array['strange keyed'])"), qr/"known keyed"/, 'in a queue with keys');
like(($node->psql('postgres', "CALL romancy.poll_activities('beside', 'p', 10, '1h', '0s', null, array['x', null])"))[2], qr/argument "unknown" must not have null elements/, 'names are not null');

# a locked task of a limited queue: who waits does not turn in circles, alone or with others
prepare('locked', 1);
sql("SELECT romancy.set_queue('locked', max_concurrency => 5, rate_limit => '1000/s')");
other('BEGIN');
other(fetch_in('locked'));
my @pollers = map { $node->background_psql('postgres') } 1 .. 3;
my @pids = map { $_->query_safe('SELECT pg_backend_pid()') } @pollers;
$_->query_until(qr/calls/, "\\echo calls\nCALL romancy.poll_activities('locked', 'w', 1, '1h', '1h', null);\n") for @pollers;
my $pids = join ',', @pids;
my $quiet = 0;
sub quiet
{
	my $asleep = sql("SELECT count(*) FROM pg_stat_activity WHERE pid IN ($pids) AND wait_event_type IN ('Extension', 'Timeout')");
	$quiet = $asleep eq '3' ? $quiet + 1 : 0;
	return $quiet == 20;
}
poll_until(\&quiet, 'whenever one looks, three sleep');
other('ROLLBACK');
poll_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid IN ($pids) AND state = 'idle'", 'one of them comes');
sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ($pids)");

# those who listen
prepare('told', 3);
sql("SELECT romancy.set_queue('told', max_concurrency => 1, notify => 'told')");
other('BEGIN');
other(fetch_in('told'));
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN told');
# it hears once more of what is there, and would go to sleep then
my $heard = 0;
sub hears { $heard++ if $listener->query_safe('SELECT 1') =~ /"told"/; return $heard }
sql("SELECT romancy.set_queue('told', max_concurrency => 1, notify => 'told')");
poll_until(\&hears, 'it listens');
$heard = 0;
other('ROLLBACK');
poll_until(\&hears, 'a rollback is told of');
$other->quit;
$listener->quit;

# rows of buckets that are full again go as fast as others come
prepare('pile', 300);
sql("SELECT romancy.set_queue('pile', rate_limit => '1/s', per_key => 'k')");
for my $round (1 .. 4)
{
	is(sql("SELECT count(*) FROM romancy.fetch_activities('pile', 'w', 50, '1h')"), '50', 'one of each key') if $round == 1;
	sql("SELECT count(*) FROM romancy.fetch_activities('pile', 'w', 50, '1h')") if $round > 1;
	poll_until($node, q{SELECT max(full_at) < clock_timestamp() FROM romancy.t_bucket WHERE scope LIKE 'queue:%/pile'}, 'buckets are full');
}
cmp_ok(sql(q{SELECT count(*) FROM romancy.t_bucket WHERE scope LIKE 'queue:%/pile'}), '<=', 60, 'rows of full buckets are gone');

# an attempt that began before its queue had keys, and ends without success: where there is always something else it has its turn, too
prepare('keyed', 1);
is(sql(fetch_in('keyed')), '1', 'it runs');
sql("SELECT romancy.set_queue('keyed', per_key => 'k')");
is(sql('SELECT romancy.heartbeat_activity(' . token('keyed') . ", extend => '1 ms')"), 'ok', 'not for long');
prepare('keyed', 20);
poll_until($node, q{SELECT count(*) = 1 FROM romancy.t_task WHERE queue like '%/keyed' AND state = 0 AND limit_key IS NULL}, 'its lease is lost');
is(sql("SELECT count(*) FROM romancy.fetch_activities('keyed', 'w', 1, '1h')"), '1', 'others are fetched');
is(sql(q{SELECT count(*) FROM romancy.t_task WHERE queue like '%/keyed' AND state = 0 AND limit_key IS NULL}), '0', 'and it has a key by then');

# a standby that is asked, and promoted
prepare('st', 10);
sql("SELECT romancy.set_queue('st', max_concurrency => 2)");
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('queue_wakes_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
my (undef, undef, $err) = $standby->psql('postgres', fetch_in('st'));
like($err, qr/cannot execute .* during recovery/, 'a standby refuses a fetch');
is(sql("SELECT count(*) FROM romancy.fetch_activities('st', 'w', 5, '1h')"), '2', 'the primary gives two');
$node->wait_for_catchup($standby, 'replay');
$node->stop('immediate');
$standby->promote;
is(sql("SELECT count(*) FROM romancy.fetch_activities('st', 'w', 5, '1h')", $standby), '0', 'once promoted it gives none');
$standby->stop;
done_testing();
