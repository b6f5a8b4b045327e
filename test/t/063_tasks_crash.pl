# A worker was told of its task, and then the server crashes: the attempt is counted, the
# lease holds, and limits go on from where they were, even where commits are not waited for. It
# would catch a lease that is handed out before it is durable (the task would be
# given away again as if it had not begun), and a limit that is exceeded by many
# claims at once or after a restart.
use strict;
use warnings;
use IPC::Run ();
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# no other process writes out what was committed lazily
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

# limited queues: many claim at once, each far more than there is to have
$node->safe_psql('postgres', q{
	SELECT romancy.set_queue('rate', rate_limit => '5/h'), romancy.set_queue('several', max_concurrency => 4);
	SELECT romancy.set_queue('keys', max_concurrency => 1, rate_limit => '2/h', per_key => 'tenant');
	SELECT romancy.define_activity(q || '_a', queue => q) FROM unnest(array['rate', 'several', 'keys']) q;
	CREATE FUNCTION wide(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.map(i #>> '{}', (SELECT jsonb_agg(jsonb_build_object('tenant', g % 3)) FROM generate_series(1, 24) g)); END $$;
	SELECT romancy.start_workflow('wide', to_jsonb(q || '_a')) FROM unnest(array['rate', 'several', 'keys']) q;
});
poll_until($node, "SELECT count(*) = 72 FROM romancy.activity_tasks WHERE status = 'ready'", 'tasks of limited queues are ready');
my $claims = join '', map { ("SELECT count(*) FROM romancy.fetch_activities('$_', 'w', 10, '1h');\n") x 2 } qw(rate several keys);
my @claimers = map { my ($in, $out) = ($claims, ''); IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out) } 1 .. 8;
$_->finish for @claimers;
my $running = q{SELECT queue, count(*) FROM romancy.activity_tasks WHERE status = 'running' AND queue <> 'q' GROUP BY 1 ORDER BY 1};
is($node->safe_psql('postgres', $running), "keys|3\nrate|5\nseveral|4", 'no limit is exceeded by eight that claim at once');
$node->stop('immediate');
$node->start;
$node->safe_psql('postgres', $claims);
is($node->safe_psql('postgres', $running), "keys|3\nrate|5\nseveral|4", 'nor after a crash');

# what ends frees its place; its token of the bucket it does not give back
$node->safe_psql('postgres', q{
	SELECT count(romancy.complete_activity(format('%s.%s.%s', task_id, attempt, lpad(to_hex(fence), 16, '0'))))
	FROM romancy.t_task WHERE state = 1 AND queue NOT LIKE '%/q'});
$node->safe_psql('postgres', $claims);
is($node->safe_psql('postgres', $running), "keys|3\nseveral|4", 'places are free again, spent tokens are not');

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
