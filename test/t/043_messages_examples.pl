# The examples of messages and schedules run as they stand: a human approval with a timeout and a
# reminder, a nightly report, and a work queue with competing workers and a dispatcher.
# It would catch an example that has drifted from the engine.
use strict;
use warnings;
use RomancyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = romancy_node('examples', 'romancy.executors' => 2);
my $root = $ENV{ROMANCY_WORK} ? "$ENV{ROMANCY_WORK}/tree" : '.';

sub example
{
	my ($name, $db) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION romancy');
	my ($out, $err) = run_command([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db),
		'-f', "$root/examples/$name/workflow.sql", '-f', "$root/examples/$name/demo.sql" ]);
	is($err, '', "$name runs");
	return $out;
}

# without workers; 074_drain_beside_workers.pl runs approval beside them
$node->append_conf('postgresql.conf', "romancy.enabled = off");
$node->reload;
poll_until($node, 'show romancy.enabled', 'switched off', expected => 'off');
poll_until($node, q{select count(*) = 0 from romancy.workers where kind <> 'launcher'}, 'the workers have left');
my $out = example('approval', 'approval');
like($out, qr/^ 1\s+\| completed \| \{"approved": true\}$/m, 'approved');
like($out, qr/^ 2\s+\| completed \| \{"reason": "too much", "approved": false\}$/m, 'refused after the reminder');
like($out, qr/^ 3\s+\| completed \| \{"reason": "no answer", "approved": false\}$/m, 'no answer');
my @reminders = $out =~ /Reminder: Expense (\d)/g;
is("@{[sort @reminders]}", '2 3', 'reminders');
like($out, qr/^\s+1 \|\s+99.50$/m, 'one payment');

$out = example('nightly', 'nightly');
like($out, qr/^ at 02:30$/m, 'nightly: a schedule');
like($out, qr/^ waiting_for_message$/m, 'it waits for late figures');
like($out, qr/^ completed\s+\|\s+42.50$/m, 'and reports them');
like($out, qr/^ failed\s+\| RM006$/m, 'a night without figures fails');
like($out, qr/^ f\s+\|\s+2 \|\s+1 \|\s+1 \| t$/m, 'and the schedule goes on');
like($out, qr/^\s+42.50 \|\s+4$/m, 'three nights before are made up for');

$node->append_conf('postgresql.conf', "romancy.enabled = on");
$node->reload;
$out = example('work_queue', 'queue');
like($out, qr/"thumbnails": 240/, 'the dispatcher got them all');
like($out, qr/^\s+240 \|\s+240$/m, 'each file once');
poll_until($node, q{select count(*) = 4 from romancy.instances where workflow = 'work_queue.worker' and output->>'why' = 'stopped'},
	'all workers stopped', dbname => 'queue');
is($node->safe_psql('queue', q{select sum((output->>'done')::int) from romancy.instances where workflow = 'work_queue.worker' and status = 'completed'}),
	240, 'they made them all');
$node->stop;
done_testing();
