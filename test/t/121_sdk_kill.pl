# Workers of each library are killed, stopped for longer than their leases, and cut off, again and again, while they run workflows: each step that
# is transactional is done once, each other at least once, every instance completes, and workers end when asked. It would catch a lease that is
# not lost, a token that is no fence, a broken connection that fails an instance, and a worker that does not come back.
#
# CROWD is the number of instances of each library (100); CROWD=2000 is the long run.
# Takes 40 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancySdk;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep time);

plan skip_all => 'the libraries depend little on the server: this runs with 15' unless qx{pg_config --version} =~ /PostgreSQL 15/;

my $crowd = $ENV{CROWD} || 100;
my $seed = $ENV{CROWD_SEED} || 20261129;
srand($seed);
note("CROWD=$crowd CROWD_SEED=$seed");

my $node = romancy_node('sdk_kill', 'max_connections' => 200, 'autovacuum' => 'off');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($language, $sql) = @_; return sql("SET SESSION AUTHORIZATION kill_$language; $sql") }

my @languages = sdk_languages();
# a failure shows the log of the workers
my (%procs, %logs, %stopped, %done, %begun, %did);
sub launch { my ($l, $n) = @_; $procs{$l}[$n] = sdk_start(sdk_url($node, "kill_$l"), $logs{$l}, sdk_command($l, 'crowd')); return }
for my $l (@languages)
{
	sql(qq{CREATE ROLE kill_$l LOGIN; SELECT romancy.grant_usage('kill_$l');
		CREATE SCHEMA kill_$l AUTHORIZATION kill_$l; ALTER ROLE kill_$l SET search_path = kill_$l});
	as($l, q{CREATE TABLE crowd_step (n int, step text);
		CREATE FUNCTION inside(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO crowd_step VALUES (i::int, 'inside'); RETURN i; END $$});
	$logs{$l} = $node->basedir . "/$l.log";
	launch($l, $_) for 0, 1;
	poll_until($node, "SELECT count(*) > 0 FROM romancy.workflows WHERE owner = 'kill_$l' AND defined AND name = 'crowd'", "$l: its workers run") or diag(slurp_file($logs{$l}));
	poll_until($node, "SELECT count(*) > 0 FROM romancy.workflows WHERE owner = 'kill_$l' AND defined AND name = 'plain_crowd'", "$l: both kinds of workflows") if $l eq 'python';
	($done{$l}, $begun{$l}) = (0, 0);
}
# begin($l, $n): the next n instances; in Python plain and async in turn
sub begin
{
	my ($l, $n) = @_;
	my ($from, $name) = ($begun{$l} + 1, $l eq 'python' ? "CASE n % 2 WHEN 0 THEN 'crowd' ELSE 'plain_crowd' END" : "'crowd'");
	$begun{$l} = $begun{$l} + $n > $crowd ? $crowd : $begun{$l} + $n;
	as($l, "SELECT count(id) FROM generate_series($from, $begun{$l}) n, romancy.start_workflow($name, to_jsonb(n)) id");
	return;
}

# a disturbance when each part of them has begun
my $part = int(($crowd + 39) / ($crowd > 400 ? 40 : 20));
my @kinds = ('kill', 'stop', 'cut');
my $deadline = time + 3 * $PostgreSQL::Test::Utils::timeout_default + $crowd;
my $total = $crowd * @languages;
while (time < $deadline)
{
	my %count = map { split /\|/ } split /\n/, sql(q{SELECT owner, count(*) FROM romancy.instances WHERE status IN ('completed', 'failed') GROUP BY owner});
	my $sum = 0;
	for my $l (@languages)
	{
		$done{$l} = $count{"kill_$l"} // 0;
		$sum += $done{$l};
		# one that is stopped goes on when its leases are over
		if ($stopped{$l} && time > $stopped{$l}{at} + 3) { $stopped{$l}{proc}->signal('CONT'); delete $stopped{$l}; }
		next if $begun{$l} >= $crowd || $done{$l} < $begun{$l} - $part / 2;
		begin($l, $part);
		usleep(int rand 300_000);
		my $n = int rand 2;
		my $kind = $kinds[ $did{$l}++ % @kinds ];
		if ($kind eq 'stop' && !$stopped{$l}) { $procs{$l}[$n]->signal('STOP'); $stopped{$l} = { at => time, proc => $procs{$l}[$n], n => $n }; }
		elsif ($kind eq 'cut') { sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'kill_$l' AND backend_type = 'client backend'") }
		else
		{
			# (not the one that is stopped: the other is all that works)
			$n = $stopped{$l}{n} if $stopped{$l};
			delete $stopped{$l};
			$procs{$l}[$n]->kill_kill(grace => 1);
			launch($l, $n);
		}
	}
	last if $sum >= $total;
	usleep(100_000);
}
for my $l (@languages)
{
	$stopped{$l}{proc}->signal('CONT') if $stopped{$l};
	note("$l: " . ($did{$l} // 0) . ' disturbances');
	cmp_ok($did{$l} // 0, '>=', 6, "$l: it was disturbed");
	is(sql("SELECT string_agg(format('%s: %s', status, n), ', ' ORDER BY status) FROM (SELECT status::text, count(*) AS n FROM romancy.instances WHERE owner = 'kill_$l' GROUP BY 1) s"),
		"completed: $crowd", "$l: every instance completes")
	  or diag(sql("SELECT status, error, (SELECT string_agg(format('%s %s', event_type, activity_id), ', ' ORDER BY seq) FROM romancy.get_history(instance_id)) FROM romancy.instances WHERE owner = 'kill_$l' AND status <> 'completed' LIMIT 5"),
		join('', (split /^/, slurp_file($logs{$l}))[-60 .. -1]));
	is(sql("SELECT count(*) FROM romancy.instances WHERE owner = 'kill_$l' AND output = to_jsonb(input::int * 2)"), $crowd, "$l: with the right output");
	is(sql("SELECT string_agg(format('%s: %s, %s', step, n, each), '; ' ORDER BY step) FROM (SELECT step, count(*) AS n, count(DISTINCT n) AS each FROM kill_$l.crowd_step WHERE step <> 'outside' GROUP BY 1) s"),
		join('; ', map { "$_: $crowd, $crowd" } qw(first inside second)), "$l: a transactional step is done once");
	is(sql("SELECT count(DISTINCT n) FROM kill_$l.crowd_step WHERE step = 'outside'"), $crowd, "$l: any other at least once");
	note("$l: steps outside: " . sql("SELECT count(*) FROM kill_$l.crowd_step WHERE step = 'outside'"));
	is(sdk_stop(@{ $procs{$l} }), 'ended ended', "$l: workers end when asked") or diag(join('', (split /^/, slurp_file($logs{$l}))[-60 .. -1]));
}
$node->stop('fast');
done_testing();
