# Accounts of limits in shared memory: a namespace that takes as many as it can get is refused more (RM011), and leaves room for others;
# tasks of an instance that has ended free theirs at once, while their programs still hold the leases. It would catch a table that one
# namespace fills for all, a claim that gets nothing and is not told why, places that wait for a lease's end, and tasks that wait for their key.
# Takes 10 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('shares');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return sql("SET ROLE $role; $sql") }

sql(qq{CREATE ROLE $_; SELECT romancy.grant_usage('$_'); GRANT CREATE ON SCHEMA public TO $_}) for qw(hostile shop late);

# tasks($role, $queue, $n): an instance of the role's with $n tasks, each with a key of its own
sub tasks
{
	my ($role, $queue, $n) = @_;
	my $id = as($role, qq{
		SELECT romancy.define_activity('$queue', queue => '$queue');
		SELECT romancy.run_canvas(romancy.group(romancy.task('$queue', '{"k": 0}'), romancy.task('$queue', '{"k": 0}')));});
	($id) = $id =~ /([0-9a-f-]{36})/;
	poll_until($node, "SELECT count(*) = 2 FROM romancy.t_task WHERE instance_id = '$id'", "tasks of $role in queue $queue");
	# the others are copies of one, which takes a second and not minutes
	sql(qq{
		INSERT INTO romancy.t_task (task_id, instance_id, created_at, priority, kind, state, queue, owner, activity, step, input, next, def_id)
		SELECT overlay(gen_random_uuid()::text PLACING '8' FROM 15 FOR 1)::uuid, instance_id, created_at, priority, kind, state, queue, owner, activity, step || g,
			jsonb_build_object('k', g), next, def_id
		FROM (SELECT * FROM romancy.t_task WHERE instance_id = '$id' LIMIT 1) t, generate_series(1, $n - 2) g});
	return $id;
}
# fetch_all($role, $queue): fetches until there is nothing or an error; how many, and the error
sub fetch_all
{
	my ($role, $queue) = @_;
	my $got = 0;
	while (1)
	{
		my ($out, $err) = ('', '');
		$node->psql('postgres', qq{\\set VERBOSITY verbose
			SET ROLE $role; SELECT count(*) FROM romancy.fetch_activities('$queue', 'w', 1000, '1h')}, stdout => \$out, stderr => \$err);
		return ($got, $err) if $err =~ /ERROR/ || $out !~ /^[1-9]/;
		$got += $out;
	}
}

my $flood = tasks('hostile', 'flood', 40_000);
as('hostile', q{SELECT romancy.set_queue('flood', max_concurrency => 1, per_key => 'k')});
my ($got, $err) = fetch_all('hostile', 'flood');
cmp_ok($got, '>=', 30_000, "one namespace alone may have $got");
like($err, qr/RM011: .*too many limits are in use in namespace "hostile"/, 'and is told when it is too much');
like($err, qr/HINT:  Complete or release activities that run/, 'and what to do');

tasks('shop', 'depot', 300);
as('shop', q{SELECT romancy.set_queue('depot', max_concurrency => 1, per_key => 'k')});
($got, $err) = fetch_all('shop', 'depot');
is("$got$err", '299', 'another namespace has its limits, and all that they let through');
# tasks that have no key yet get theirs a thousand at a time, without a pause between
as('shop', q{SELECT romancy.set_queue('ledge', max_concurrency => 1, per_key => 'k')});
tasks('shop', 'ledge', 3_000);
($got, $err) = fetch_all('shop', 'ledge');
is("$got$err", '2999', 'tasks without a key: one call after the other has some, until all have run');
tasks('late', 'late', 10_000);
($got, $err) = fetch_all('late', 'late');
is("$got$err", '10000', 'a third one, too');

# after a crash all is counted anew
$node->stop('immediate');
$node->start;
tasks('shop', 'annex', 50);
as('shop', q{SELECT romancy.set_queue('annex', max_concurrency => 20)});
($got, $err) = fetch_all('shop', 'annex');
is("$got$err", '20', 'after a crash the limits of others hold, and let through');

# an end frees all at once, though the leases stand
as('hostile', "SELECT romancy.terminate_workflow('$flood')");
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$flood'", 'it is terminated');
is(sql(qq{SELECT count(*) > 30000 FROM romancy.activity_tasks WHERE instance_id = '$flood' AND status = 'running'}), 't', 'its programs still run');
tasks('hostile', 'flood', 5_000);
# (what is given back follows the commit)
my $sum = 0;
poll_until(sub { $sum += (fetch_all('hostile', 'flood'))[0]; $sum >= 4999 }, 'its tasks hold no places any more');
is($sum, '4999', 'and each key has one');

# one place: an end of an instance gives it to the next, and the program hears of the end
my $first = tasks('shop', 'one', 2);
as('shop', q{SELECT romancy.set_queue('one', max_concurrency => 1)});
my $token = as('shop', q{SELECT token FROM romancy.fetch_activities('one', 'w', 9, '1h')});
my $second = tasks('shop', 'one', 2);
is(as('shop', q{SELECT count(*) FROM romancy.fetch_activities('one', 'w', 9, '1h')}), '0', 'one may run');
as('shop', "SELECT romancy.terminate_workflow('$first')");
poll_until($node, "SELECT status = 'cancelled' FROM romancy.instances WHERE instance_id = '$first'", 'the first is terminated');
my $next = '';
poll_until(sub { $next = as('shop', q{SELECT instance_id FROM romancy.fetch_activities('one', 'w', 9, '1h')}); $next ne '' }, 'the next begins at once');
is($next, $second, 'that of the other instance');
is(as('shop', "SELECT romancy.heartbeat_activity('$token')"), 'cancel_requested', 'the program is told');
is(as('shop', "SELECT romancy.complete_activity('$token')"), 'f', 'what it has is of no use');
is(as('shop', q{SELECT count(*) FROM romancy.fetch_activities('one', 'w', 9, '1h')}), '0', 'and its end gives no place a second time');
$node->stop;
done_testing();
