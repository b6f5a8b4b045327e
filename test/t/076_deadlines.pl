# Each kind of deadline is served in each state of the workers: none, only executors, only a scheduler, places for one, and just after a
# crash restart. All sweeps that could find it late are an hour away, and idle workers do not leave by themselves (but where
# there are to be none). It would catch a deadline that waits for a sweep or for a worker's idle timeout.
# Takes 60 s.
use strict;
use warnings;
use RomancyTest;
use Test::More;

my @hour = map { ("romancy.${_}_interval" => '1h') }
	qw(timer message_timeout message_check lock_cleanup resumption activity_timeout channel_cleanup retention schedule outbox queue_notify);
my $node = romancy_node('deadlines', 'romancy.executors' => 2, 'romancy.max_workers' => 4, 'max_worker_processes' => 16,
	'romancy.worker_idle_timeout' => '1h', restart_after_crash => 'on', @hour);
sub value { return $node->safe_psql('postgres', $_[0]) }
sub kinds { return q{SELECT coalesce(string_agg(DISTINCT kind, ' ' ORDER BY kind), '') FROM romancy.workers WHERE kind <> 'launcher'} }

value(q{
	SELECT romancy.define_activity('leased', queue => 'leased', retry => '{"max_attempts": 1}');
	SELECT romancy.define_activity('beating', queue => 'beating', retry => '{"max_attempts": 1}', heartbeat_timeout => '3 s');
	SELECT romancy.define_activity('unfetched', queue => 'unfetched', retry => '{"max_attempts": 1}', schedule_to_start_timeout => '3 s');
	SELECT romancy.define_activity('closing', queue => 'closing', retry => '{"max_attempts": 1}', start_to_close_timeout => '3 s');
	CREATE FUNCTION naps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(86400); RETURN 'true'; END $$;
	SELECT romancy.define_activity('naps', 'naps(jsonb)', retry => '{"max_attempts": 1}', start_to_close_timeout => '3 s');
	SELECT romancy.define_activity('naps apart', 'naps(jsonb)', transactional => false, retry => '{"max_attempts": 1}', start_to_close_timeout => '3 s');
	CREATE PROCEDURE naps_and_commits(a jsonb, INOUT r jsonb) LANGUAGE plpgsql AS $$ BEGIN COMMIT; PERFORM pg_sleep(86400); r := 'true'; END $$;
	SELECT romancy.define_activity('procedure', 'naps_and_commits(jsonb, jsonb)', transactional => false, retry => '{"max_attempts": 1}', start_to_close_timeout => '3 s');
	CREATE FUNCTION swallows(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN BEGIN PERFORM pg_sleep(86400); EXCEPTION WHEN query_canceled THEN NULL; END; RETURN 'true'; END $$;
	SELECT romancy.define_activity('swallows', 'swallows(jsonb)', retry => '{"max_attempts": 1}', start_to_close_timeout => '3 s');
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn($1#>>'{}')); END $$;
	CREATE FUNCTION again(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF romancy.attempt() = 1 THEN RAISE 'again'; END IF; RETURN 'true'; END $$;
	SELECT romancy.define_activity('again', 'again(jsonb)', retry => '{"initial_interval": "3s", "jitter": 0}');
	CREATE FUNCTION act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity($1#>>'{}'); END $$;
	CREATE FUNCTION sleeps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('3 s'); RETURN 'true'; END $$;
	CREATE FUNCTION receives(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.receive('nothing', '3 s'); RETURN 'true'; END $$;
	CREATE FUNCTION later(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN 'true'; END $$;
	CREATE FUNCTION forever(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 day'); RETURN 'true'; END $$;
	SELECT romancy.define_workflow(w, w || '(jsonb)') FROM unnest('{act,spawns,sleeps,receives,forever}'::text[]) w;
});

# Each step with a deadline, how it is started, and how it ends
my %deadlines = (
	'a lease' => [ q{start_workflow('act', '"leased"')}, 'failed' ],
	'a heartbeat' => [ q{start_workflow('act', '"beating"')}, 'failed' ],
	'schedule_to_start' => [ q{start_workflow('act', '"unfetched"')}, 'failed' ],
	'start_to_close, outside' => [ q{start_workflow('act', '"closing"')}, 'failed' ],
	'start_to_close, in the database' => [ q{start_workflow('act', '"naps"')}, 'failed' ],
	'start_to_close, not transactional' => [ q{start_workflow('act', '"naps apart"')}, 'failed' ],
	'start_to_close, a procedure after its commit' => [ q{start_workflow('act', '"procedure"')}, 'failed' ],
	'start_to_close, code that catches the cancel' => [ q{start_workflow('act', '"swallows"')}, 'failed' ],
	'start_to_close, spawned' => [ q{start_workflow('spawns', '"naps"')}, 'failed' ],
	'start_to_close, spawned and not transactional' => [ q{start_workflow('spawns', '"naps apart"')}, 'failed' ],
	'start_to_close, in a canvas' => [ q{run_canvas(romancy.task('naps'))}, 'failed' ],
	'a retry' => [ q{start_workflow('act', '"again"')}, 'completed' ],
	'a timer' => [ q{start_workflow('sleeps')}, 'completed' ],
	'a receive' => [ q{start_workflow('receives')}, 'failed' ],
	'an execution_timeout' => [ q{start_workflow('forever', execution_timeout => '3 s')}, 'failed' ],
	'a delayed start' => [ q{start_workflow('later', start_at => clock_timestamp() + interval '3 s')}, 'completed' ]);

# Those that an executor serves while it runs the step: there is no such step in the states without one
my @in_database = grep { /^start_to_close, (?!outside)/ } keys %deadlines;

# begin starts one of each, and claims the tasks that are to be claimed. Returns the ids.
sub begin
{
	my ($state, @without) = @_;
	my %ids;
	for my $what (sort keys %deadlines)
	{
		next if grep { $_ eq $what } @without;
		$ids{$what} = value("SELECT romancy.$deadlines{$what}[0]");
	}
	for my $queue ('leased', 'beating', 'closing')
	{
		my $lease = $queue eq 'leased' ? '3 s' : '1 h';
		poll_until($node, qq{SELECT count(*) = 1 FROM romancy.fetch_activities('$queue', 'me', 1, '$lease')}, "$state: a task of queue $queue is claimed");
	}
	return %ids;
}

# over waits for the end of each of them.
sub over
{
	my ($state, %ids) = @_;
	for my $what (sort keys %ids)
	{
		poll_until($node, qq{SELECT status FROM romancy.instances WHERE instance_id = '$ids{$what}'}, "$state: $what", expected => $deadlines{$what}[1]);
		is(value(qq{SELECT error ->> 'sqlstate' FROM romancy.instances WHERE instance_id = '$ids{$what}'}), 'RM006', "$state: $what, by the limit") if $what =~ /^start_to_close/;
	}
	is(value('SELECT count(*) FROM romancy.instances WHERE finished_at IS NULL'), '0', "$state: nothing is left");
}

# conf changes settings; those of the number of places need a restart.
sub conf
{
	my ($restart, %conf) = @_;
	$node->append_conf('postgresql.conf', join('', map { "$_ = '$conf{$_}'\n" } sort keys %conf));
	$restart ? $node->restart : $node->reload;
}

over('as they come', begin('as they come'));

# Only the launcher is there
conf(0, 'romancy.worker_idle_timeout' => '10ms');
my %ids = begin('no worker', @in_database);
poll_until($node, kinds(), 'the workers have left', expected => '');
over('no worker', %ids);

# One place, taken by an executor that rests
conf(1, 'romancy.worker_idle_timeout' => '1h', 'romancy.max_workers' => 1);
%ids = begin('an executor in the only place');
poll_until($node, kinds(), 'it is there alone', expected => 'executor');
over('an executor in the only place', %ids);

# One place, taken by a scheduler that rests: a sweep needs it each second
conf(0, 'romancy.channel_cleanup_interval' => '1s');
%ids = begin('a scheduler in the only place', @in_database);
value(q{SELECT pg_terminate_backend(pid) FROM romancy.workers WHERE kind = 'executor'});
poll_until($node, kinds(), 'it is there alone', expected => 'scheduler');
over('a scheduler in the only place', %ids);

# Just after a crash restart, when shared memory knows nothing; the steps in the database are run again
conf(1, 'romancy.max_workers' => 4, 'romancy.channel_cleanup_interval' => '1h');
%ids = begin('after a crash');
$node->kill9;
start_again($node);
over('after a crash', %ids);
$node->stop;
done_testing();
