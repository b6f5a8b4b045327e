# A worker was told of its task, and then the server crashes: the attempt is counted and
# the lease holds, even where commits are not waited for. It would catch a lease that is handed out
# before it is durable: the task would then be given away again as if nobody had begun it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# nobody else writes out what was committed lazily
my $node = romancy_node('tasks_crash', 'synchronous_commit' => 'off', 'wal_writer_delay' => '10s', 'autovacuum' => 'off');

$node->safe_psql('postgres', q{
	CREATE FUNCTION asks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('ext', i); END $$;
	SELECT romancy.define_activity('ext', queue => 'q');
	SELECT romancy.start_workflow('asks', to_jsonb(g)) FROM generate_series(1, 2) g;
});
poll_until($node, "SELECT count(*) = 2 FROM romancy.activity_tasks WHERE status = 'ready'", 'two tasks are ready');

my %token;
$token{poll} = $node->safe_psql('postgres', q{CALL romancy.poll_activities('q', 'w', 1, '1h', '20s')});
$token{poll} =~ s/.*"token": "([^"]+)".*/$1/s;
$token{fetch} = $node->safe_psql('postgres', q{SELECT token FROM romancy.fetch_activities('q', 'w', 1, '1h')});
$node->stop('immediate');
$node->start;

for my $call (sort keys %token)
{
	my ($id) = split /\./, $token{$call};
	is($node->safe_psql('postgres', "SELECT attempt, status FROM romancy.activity_tasks WHERE task_id = '$id'"),
		'1|running', "$call: the attempt is counted after a crash");
	is($node->safe_psql('postgres', "SELECT romancy.complete_activity('$token{$call}', '1')"),
		't', "$call: and the worker that has it can end it");
}
is($node->safe_psql('postgres', "SELECT count(*) FROM romancy.fetch_activities('q', 'w')"), '0', 'nobody else gets it');
$node->stop;
done_testing();
