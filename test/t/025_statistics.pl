# stat_workflows, stat_activities, metrics and health: what they count is what
# happened, each role sees its own, a clean restart keeps it, and a crash, a damaged
# file or a new CREATE EXTENSION begins anew.
# It would catch a counter that counts what was rolled back, one that counts twice, and numbers of another role's.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('statistics', 'restart_after_crash' => 'on', 'log_min_messages' => 'log');
$node->safe_psql('postgres', q{
	CREATE TABLE t (i int);
	CREATE FUNCTION put(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (1); RETURN $1; END $$;
	CREATE TABLE napped (seconds float);	-- how long it was: this machine may have other things to do
	CREATE FUNCTION nap(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE begun timestamptz := clock_timestamp();
	BEGIN PERFORM pg_sleep(0.05); INSERT INTO napped VALUES (extract(epoch FROM clock_timestamp() - begun)); RETURN $1; END $$;
	CREATE FUNCTION flaky(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN IF romancy.attempt() < 3 THEN RAISE EXCEPTION 'not yet'; END IF; RETURN $1; END $$;
	CREATE FUNCTION three(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('put'); PERFORM romancy.activity('put'); RETURN romancy.activity('put'); END $$;
	CREATE FUNCTION undone(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN PERFORM romancy.activity('put'); RAISE EXCEPTION 'roll it back'; EXCEPTION WHEN raise_exception THEN NULL; END;
		RETURN '1';
	END $$;
	CREATE FUNCTION naps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('nap'); END $$;
	CREATE FUNCTION flakes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.activity('flaky', retry => '{"initial_interval": "10ms"}'); END $$;
	CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'so'; END $$;
	CREATE FUNCTION waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 h'); RETURN '1'; END $$;
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.await_all(ARRAY[romancy.spawn('spawned'), romancy.spawn('spawned')]); RETURN '1'; END $$;
	CREATE FUNCTION spawned(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (1); RETURN $1; END $$;
	CREATE FUNCTION outside(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('queued'); END $$;
	SELECT romancy.define_activity('queued', queue => 'q');
	CREATE ROLE bob; CREATE ROLE eve; CREATE ROLE ops;
	SELECT romancy.grant_usage('bob'), romancy.grant_usage('eve'), romancy.grant_usage('ops', true);
	GRANT INSERT ON t TO bob;
});

sub stats { return $node->safe_psql('postgres', "SELECT * FROM romancy.$_[0] ORDER BY 1, 2, 3"); }
sub workflow_is
{
	my ($name, $expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, "SELECT concat_ws(' ', version, owner, started, completed, failed, cancelled, recurred, turns) FROM romancy.stat_workflows WHERE workflow = '$name' AND owner = 'postgres'",
		$what, expected => $expected);
}
sub activity_is
{
	my ($name, $expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, "SELECT concat_ws(' ', calls, failures, retries) FROM romancy.stat_activities WHERE activity = '$name' AND owner = 'postgres'", $what, expected => $expected);
}

$node->safe_psql('postgres', q{SELECT count(*) FROM romancy.start_workflows('three', array_fill('1'::jsonb, ARRAY[100]))});
$node->safe_psql('postgres', q{SELECT count(*) FROM romancy.start_workflows('naps', array_fill('1'::jsonb, ARRAY[20]))});
$node->safe_psql('postgres', q{SELECT romancy.start_workflow('fails'), romancy.start_workflow('flakes'), romancy.start_workflow('spawns'), romancy.start_workflow('undone')});
my $waits = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('waits')});
my $outside = $node->safe_psql('postgres', q{SELECT romancy.start_workflow('outside')});
poll_until($node, qq{SELECT status = 'waiting_for_timer' FROM romancy.instances WHERE instance_id = '$waits'}, 'it waits');
$node->safe_psql('postgres', qq{SELECT romancy.cancel_workflow('$waits')});
poll_until($node, q{SELECT count(*) = 1 FROM romancy.fetch_activities('q', 'w1')}, 'a task outside');
is($node->safe_psql('postgres', q{SELECT romancy.complete_activity(task_id || '.1.' || lpad(to_hex(fence), 16, '0')) FROM romancy.t_task WHERE queue like '%/q'}), 't', 'is done');

# A turn commits what it has before a step that is not known to be quick: at first, and each time for a slow one
sub turns { return $node->safe_psql('postgres', "SELECT turns FROM romancy.stat_workflows WHERE workflow = '$_[0]' AND owner = 'postgres'") }
poll_until($node, q{SELECT concat_ws(' ', started, completed, failed, cancelled, recurred) FROM romancy.stat_workflows WHERE workflow = 'three' AND owner = 'postgres'},
	'instances that run through', expected => '100 100 0 0 0');
my $turns = turns('three');
ok($turns >= 100 && $turns <= 120, 'have one turn each, but for the first few') or diag($turns);
poll_until($node, q{SELECT concat_ws(' ', started, completed, failed, cancelled, recurred) FROM romancy.stat_workflows WHERE workflow = 'naps' AND owner = 'postgres'},
	'slow ones', expected => '20 20 0 0 0');
$turns = turns('naps');
ok($turns >= 20 && $turns <= 40, 'have two at the most') or diag($turns);
workflow_is('fails', '1 postgres 1 0 1 0 0 1', 'a failed one');
workflow_is('flakes', '1 postgres 1 1 0 0 0 4', 'retries have a turn each, after one that ends before a step that is not known to be quick');
workflow_is('waits', '1 postgres 1 0 0 1 0 2', 'a cancelled one');
workflow_is('outside', '1 postgres 1 1 0 0 0 2', 'one with an activity outside');
workflow_is('undone', '1 postgres 1 1 0 0 0 1', 'one whose inline evaluation was rolled back');
activity_is('put', '301 0 0', 'each activity once, also where it ran inline in vain before');
activity_is('flaky', '3 2 2', 'failures and retries');
activity_is('spawned', '2 0 0', 'spawned ones');
activity_is('queued', '1 0 0', 'those of a queue');
is($node->safe_psql('postgres', q{SELECT p50 BETWEEN '46ms' AND '150ms' + median * interval '1 s', p99 >= p50, seconds BETWEEN 0.9 * total AND total + 4
	FROM romancy.stat_activities, (SELECT sum(seconds) AS total, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median FROM napped) n WHERE activity = 'nap'}), 't|t|t', 'an activity that takes 50 ms');
is($node->safe_psql('postgres', q{SELECT p50 >= '46ms' FROM romancy.stat_workflows WHERE workflow = 'naps'}), 't', 'and its workflow');
is($node->safe_psql('postgres', q{SELECT p50 >= '15ms' FROM romancy.stat_workflows WHERE workflow = 'flakes'}), 't', 'the time of an instance includes its waits');
is($node->safe_psql('postgres', q{SELECT w.wal_bytes BETWEEN 100 * 500 AND 100 * 5000, a.wal_bytes BETWEEN 301 * 50 AND 301 * 500, w.blocks_hit > a.blocks_hit, a.blocks_hit > 0
	FROM romancy.stat_workflows w, romancy.stat_activities a WHERE w.workflow = 'three' AND a.activity = 'put'}), 't|t|t|t', 'WAL and blocks');

# what is rolled back is not counted; drain counts as well
my $before = $node->safe_psql('postgres', q{SELECT calls FROM romancy.stat_activities WHERE activity = 'put' AND owner = 'postgres'});
$node->safe_psql('postgres', q{BEGIN; SELECT romancy.start_workflow('three'); CALL romancy.drain(); ROLLBACK});
activity_is('put', "$before 0 0", 'a drain that is rolled back is not counted');
$node->safe_psql('postgres', q{BEGIN; SELECT romancy.start_workflow('three'); CALL romancy.drain(); COMMIT});
activity_is('put', ($before + 3) . ' 0 0', 'one that commits is');

# who sees what
$node->safe_psql('postgres', q{SET ROLE bob; CALL romancy.run_workflow('three')});
is($node->safe_psql('postgres', q{SET ROLE bob; SELECT string_agg(concat_ws(' ', workflow, owner, completed), ',') FROM romancy.stat_workflows}), 'three bob 1', 'a role sees what is its own');
is($node->safe_psql('postgres', q{SET ROLE eve; SELECT (SELECT count(*) FROM romancy.stat_workflows), (SELECT count(*) FROM romancy.stat_activities)}), '0|0', 'another one nothing');
is($node->safe_psql('postgres', q{SET ROLE ops; SELECT count(DISTINCT owner) FROM romancy.stat_workflows}), '2', 'a monitor all');

# metrics, health
# what told these apart is gone: their rows have the same labels, and a sample may stand there once only
$node->safe_psql('postgres', q{CREATE ROLE gone1; CREATE ROLE gone2; SELECT romancy.grant_usage('gone1'), romancy.grant_usage('gone2')});
for my $role ('gone1', 'gone2')
{
	$node->safe_psql('postgres', qq{SET ROLE $role; CALL romancy.run_workflow('flakes')});
	$node->safe_psql('postgres', q{SELECT romancy.define_workflow('dropped', 'undone(jsonb)'); CALL romancy.run_workflow('dropped'); SELECT romancy.drop_workflow('dropped')});
}
poll_until($node, q{SELECT string_agg(DISTINCT workflow || completed, ',' ORDER BY workflow || completed) || count(*) FROM romancy.stat_workflows WHERE workflow = 'dropped' OR owner LIKE 'gone_'},
	'they are counted', expected => 'dropped1,flakes14');
$node->safe_psql('postgres', q{SELECT romancy.revoke_usage('gone1'), romancy.revoke_usage('gone2'); DROP ROLE gone1; DROP ROLE gone2});
my $metrics = $node->safe_psql('postgres', 'SELECT romancy.metrics()');
my @wrong = grep { !/^(# (HELP|TYPE) \w+ .+|\w+(\{\w+="([^"\\\n]|\\.)*"(,\w+="([^"\\\n]|\\.)*")*\})? -?[0-9.e+-]+)$/ } split /\n/, $metrics;
is("@wrong", '', 'metrics are in the text format of Prometheus');
like($metrics, qr/^romancy_instances_finished_total\{namespace="postgres",workflow="three",version="1",owner="postgres",status="completed"\} 101$/m, 'with what the views show');
my %seen;
my @twice = grep { /^\w/ && $seen{s/ \S+$//r}++ } split /\n/, $metrics;
is("@twice", '', 'no sample stands there twice');
like($metrics, qr/^romancy_instances_started_total\{namespace="postgres",workflow="dropped",version="",owner="postgres"\} 2$/m, 'those with the same labels are added up');
like($metrics, qr{^romancy_activity_calls_total\{namespace="gone1",activity="flaky",owner=""\} 3$}m, 'of activities, those of each namespace');
unlike($metrics, qr/^romancy_instance_duration_seconds\{namespace="postgres",workflow="dropped"[^}]*quantile=/m, 'and have no quantiles');
my %type = $metrics =~ /^# TYPE (\w+) (\w+)$/mg;
my @untyped = grep { my ($name) = /^(\w+)/; $name =~ s/_(sum|count)$//; /quantile=/ ? $type{$name} ne 'summary' : !exists $type{$name} } grep { /^\w/ } split /\n/, $metrics;
is("@untyped", '', 'each family has its type, and quantiles are those of a summary');
like($metrics, qr/^romancy_up 1$/m, 'and whether it is up');
is($node->safe_psql('postgres', q{SELECT romancy.health() ->> 'healthy', romancy.health() ->> 'problems'}), 'true|[]', 'healthy');
$node->safe_psql('postgres', q{ALTER SYSTEM SET romancy.enabled = off; SELECT pg_reload_conf()});
poll_until($node, q{SELECT romancy.health() ->> 'healthy' = 'false' AND romancy.health() ->> 'problems' LIKE '%romancy.enabled is off%'}, 'not healthy when it is off');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'the workers have left');
$node->safe_psql('postgres', q{UPDATE romancy.t_instance SET wake_at = now() - interval '5 min' WHERE instance_id = (SELECT romancy.start_workflow('three'))});
$node->safe_psql('postgres', q{SELECT romancy.start_workflow('three', start_at => now() - interval '5 min')});
is($node->safe_psql('postgres', q{SELECT romancy.health() ->> 'overdue'}), '1', 'overdue work is counted');
$node->safe_psql('postgres', q{ALTER SYSTEM RESET romancy.enabled; SELECT pg_reload_conf()});
poll_until($node, q{SELECT romancy.health() ->> 'healthy'}, 'healthy again', expected => 'true');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.t_instance WHERE wake_at IS NOT NULL}, 'all is done');
poll_until($node, q{SELECT completed = started FROM romancy.stat_workflows WHERE workflow = 'three' AND owner = 'postgres'}, 'and counted');

# restarts
for my $mode ('fast', 'smart')
{
	my ($w, $a) = (stats('stat_workflows'), stats('stat_activities'));
	$node->stop($mode);
	ok(-s $node->data_dir . '/pg_stat/romancy.stat', "a $mode shutdown writes them");
	$node->start;
	ok(!-e $node->data_dir . '/pg_stat/romancy.stat', 'the start takes the file away');
	is(stats('stat_workflows'), $w, "stat_workflows survives a $mode restart");
	is(stats('stat_activities'), $a, 'stat_activities as well');
}
$node->stop('fast');
my $file = $node->data_dir . '/pg_stat/romancy.stat';
open my $fh, '+<', $file or die $!; binmode $fh; seek $fh, 2000, 0; print $fh "\xff\xff\xff"; close $fh;
my $offset = -s $node->logfile;
$node->start;
is(stats('stat_workflows'), '', 'a damaged file is ignored');
like(slurp_file($node->logfile, $offset), qr/ignoring file "pg_stat\/romancy.stat"/, 'and said to be');
$node->safe_psql('postgres', q{CALL romancy.run_workflow('three')});
workflow_is('three', '1 postgres 1 1 0 0 0 1', 'counting goes on');
$node->stop('immediate');
$node->start;
# (what is known of steps is gone with a crash, so its steps may have turns of their own)
sub one_ran
{
	poll_until($node, q{SELECT concat_ws(' ', started, completed, failed, turns BETWEEN 1 AND 4) FROM romancy.stat_workflows WHERE workflow = 'three'}, $_[0], expected => '1 1 0 t');
}
is(stats('stat_workflows'), '', 'a crash begins anew');
$node->safe_psql('postgres', q{CALL romancy.run_workflow('three')});
one_ran('counted');
$node->safe_psql('postgres', 'SELECT romancy.stat_reset()');
is(stats('stat_workflows') . stats('stat_activities'), '', 'stat_reset');
$node->safe_psql('postgres', q{CALL romancy.run_workflow('three')});
one_ran('counted again');
$node->safe_psql('postgres', 'DROP EXTENSION romancy CASCADE');
$node->safe_psql('postgres', 'CREATE EXTENSION romancy');
is(stats('stat_workflows') . stats('stat_activities'), '', 'a new extension begins anew');
$node->stop('fast');
done_testing();
