# The end of many tasks of programs, told in one call, keeps the memory of one: a task is read with its input, which may be large.
# It would catch a complete_activities that keeps the inputs of all tasks of a call until its end.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('memory_of_ends', 'romancy.executors' => 1, 'romancy.max_payload_size' => '16MB');
sub value { return $node->safe_psql('postgres', $_[0]) }

# kB of a process's own memory, at most
sub most
{
	my ($pid) = @_;
	my %kb;

	open my $fh, '<', "/proc/$pid/status" or die "no process $pid: $!";
	while (<$fh>) { $kb{$1} = $2 if /^(VmHWM|RssFile|RssShmem):\s+(\d+) kB/ }
	return $kb{VmHWM} - $kb{RssFile} - $kb{RssShmem};
}

# The tasks of an instance have their input in common, which is stored once
my ($tasks, $mb) = (40, 4);
value(qq{
	CREATE FUNCTION asks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
	DECLARE
		large jsonb := to_jsonb(repeat('x', $mb * 1000000));
		steps text[] := '{}';
	BEGIN
		FOR i IN 1 .. $tasks LOOP
			steps := steps || romancy.spawn('large', large);
		END LOOP;
		RETURN to_jsonb(cardinality(romancy.await_all(steps)));
	END \$\$;
	SELECT romancy.define_activity('large', queue => 'large')});
my $id = value("SELECT romancy.start_workflow('asks')");
poll_until($node, q{SELECT coalesce(sum(ready), 0) FROM romancy.queues WHERE name = 'large'}, 'all tasks wait for a program', expected => $tasks);
is(value(q{CREATE TABLE got AS SELECT token FROM romancy.fetch_activities('large', 'w', 1000); SELECT count(*) FROM got}), $tasks, 'it fetches them');

my $session = $node->background_psql('postgres');
my $pid = $session->query_safe('SELECT pg_backend_pid()');
is($session->query_safe(q{SELECT romancy.complete_activities('{}', '{}')}), 0, 'what any call needs');
my $before = most($pid);
is($session->query_safe(q{SELECT romancy.complete_activities(array_agg(token), array_agg('1'::jsonb)) FROM got}), $tasks, 'all end in one call');
my $grown = most($pid) - $before;
note("$tasks ends with an input of $mb MB: $grown kB");
cmp_ok($grown, '<', $tasks * $mb * 1024 / 2, 'in less memory than half of their inputs');
poll_until($node, "SELECT output FROM romancy.instances WHERE instance_id = '$id'", 'the instance goes on', expected => $tasks);
$session->quit;
$node->stop('fast');
done_testing();
