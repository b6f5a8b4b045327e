# Tables in shared memory that are not limits have room for each namespace: one that asks for more entries than there are takes its own, and what
# another has stays: the progress of an instance that runs, the programs that poll, the statistics of a workflow, the number of ends that an
# instance waits for, the key that is next, the mark of a queue, what is known of the duration of a step. It would catch a table in which the newest entry takes the place of the oldest, whatever namespace that belongs to.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('memory', 'autovacuum' => 'off', 'romancy.activity_timeout_interval' => '1h', 'romancy.resumption_interval' => '1h');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]) }
sql(qq{CREATE ROLE $_ LOGIN; SELECT romancy.grant_usage('$_')}) for qw(shop hog);
sql(q{
	CREATE FUNCTION once(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '1'; END $$;
	CREATE FUNCTION reports(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.set_progress(1, 2); RETURN '1'; END $$;
	CREATE FUNCTION gate(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.set_progress(3, 10, 'under way'); PERFORM pg_advisory_xact_lock(114); RETURN '1'; END $$;
	CREATE FUNCTION gated(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('gate'); END $$;
	CREATE FUNCTION twice(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('once'); PERFORM romancy.activity('once'); RETURN '1'; END $$;
	CREATE FUNCTION marks(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('marked', (SELECT jsonb_agg(n) FROM generate_series(1, 3000) n)); END $$;
	-- waits for n tasks of a queue at once
	CREATE FUNCTION waits(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE handles text[];
	BEGIN
		FOR n IN 1 .. (i ->> 'n')::int LOOP handles := handles || romancy.spawn('part', i); END LOOP;
		PERFORM romancy.await_all(handles);
		RETURN '1';
	END $$});
as($_, q{SELECT romancy.define_activity('part', queue => 'parts'), romancy.define_activity('gate', handler => 'gate', transactional => false),
	romancy.define_activity('keyed', queue => 'keyed'), romancy.define_workflow('waits', handler => 'waits'), romancy.define_workflow('once', handler => 'once'),
	romancy.set_queue('keyed', per_key => 'k', max_concurrency => 100)}) for qw(shop hog);

# ---------------------------------------------------------------- what shop has
my $lock = $node->background_psql('postgres');
$lock->query_safe('SELECT pg_advisory_lock(114)');
my $running = as('shop', q{SELECT romancy.start_workflow('gated')});
my $progress = "SELECT concat_ws(' ', completed, total, note) FROM romancy.get_progress('$running')";
poll_until($node, $progress, 'an activity that runs has reported', expected => '3 10 under way');

as('shop', q{SELECT count(*) FROM romancy.fetch_activities('idle', 'the shop''s program', 1)});
my $poller = q{SELECT count(*) FROM romancy.pollers WHERE worker_id = 'the shop''s program'};
is(sql($poller), 1, 'a program has asked for work');

as('shop', q{CALL romancy.run_workflow('once', timeout => '60 s')});
my $started = q{SELECT started FROM romancy.stat_workflows WHERE workflow = 'once' AND owner = 'shop'};
poll_until($node, $started, 'a workflow has its statistics', expected => '1');

my $waiting = as('shop', q{SELECT romancy.start_workflow('waits', '{"n": 40}')});
poll_until($node, "SELECT count(*) = 40 FROM romancy.t_task WHERE instance_id = '$waiting'", 'an instance waits for 40 tasks');

as('shop', q{SELECT romancy.run_canvas(romancy.group(variadic array(SELECT romancy.task('keyed', jsonb_build_object('k', k)) FROM unnest('{a,a,b,b,c,c}'::text[]) k)))});
poll_until($node, q{SELECT count(*) = 6 FROM romancy.t_task WHERE queue LIKE '%/keyed'}, 'tasks of three keys are ready');
sub next_key { return as('shop', q{SELECT input ->> 'k' FROM romancy.fetch_activities('keyed', 'w', 1, '1h')}) }
is(next_key(), 'a', 'the first key has its turn');

# steps that are known to be quick are committed together, others apart
sub commits
{
	my $id = as('shop', q{SELECT romancy.start_workflow('twice')});
	poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", 'a workflow of two steps ends', expected => 'completed');
	return sql("SELECT count(DISTINCT xmin::text) FROM romancy.t_history WHERE instance_id = '$id'");
}
my $first = commits();
commits() for 1 .. 5;
cmp_ok(commits(), '<', 2, 'two steps that are known to be quick share a commit');
cmp_ok($first, '>', 1, '(others have one each)');

# claimed tasks leave dead entries in the index while a snapshot may see them; a claim begins after those
as('shop', q{SELECT romancy.define_activity('marked', queue => 'marked'); SELECT count(*) FROM romancy.start_workflows('marks', array(SELECT '1'::jsonb FROM generate_series(1, 4)))});
poll_until($node, q{SELECT count(*) = 12000 FROM romancy.t_task WHERE queue LIKE '%/marked'}, 'tasks of a queue are ready');
my $snapshot = $node->background_psql('postgres');
$snapshot->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()');
as('shop', q{SELECT count(*) FROM romancy.fetch_activities('marked', 'w', 1000, '1h')}) for 1 .. 11;

# blocks that a claim touches; before it the session has claimed from another queue
sub blocks
{
	my ($queue) = @_;
	return as('shop', qq{SELECT count(*) FROM romancy.fetch_activities('another', 'w', 1, '1h');
		EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, FORMAT JSON) SELECT count(*) FROM romancy.fetch_activities('$queue', 'w', 1, '1h')}) =~ /"Shared Hit Blocks": (\d+)/ ? $1 : die;
}
# (now and then a claim reads the whole index, as the first of these does)
my @marked = sort { $a <=> $b } map { blocks('marked') } 1 .. 4;
my ($known, $whole) = @marked[0, -1];

# ---------------------------------------------------------------- the flood
as('hog', q{SELECT count(*) FROM romancy.start_workflows('reports', array(SELECT '1'::jsonb FROM generate_series(1, 12000)))});
as('hog', q{SELECT count(*) FROM generate_series(1, 4000) n, romancy.fetch_activities('idle', 'w' || n, 1)});
as('hog', q{SELECT count(romancy.define_workflow('w' || n, handler => 'once')) FROM generate_series(1, 4000) n;
	SELECT count(romancy.start_workflow('w' || n)) FROM generate_series(1, 4000) n});
as('hog', q{SELECT count(*) FROM romancy.start_workflows('waits', array(SELECT '{"n": 2}'::jsonb FROM generate_series(1, 12000)))});
as('hog', q{SELECT count(romancy.set_queue('k' || n, per_key => 'k', max_concurrency => 1)) FROM generate_series(1, 2000) n;
	SELECT count(*) FROM generate_series(1, 2000) n, romancy.fetch_activities('k' || n, 'w', 1)});
poll_until($node, q{SELECT count(*) = 24000 FROM romancy.t_task t WHERE queue LIKE '%/parts' AND owner = 'hog'}, 'the flood waits for its tasks');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE status IN ('pending', 'running') AND owner = 'hog'}, 'and has run');

# ---------------------------------------------------------------- and what shop still has
is(sql($progress), '3 10 under way', 'progress is shown');
is(sql($poller), 1, 'the program is known');
is(sql($started), 1, 'statistics count on');
is(next_key(), 'b', 'the next key has its turn');
cmp_ok(commits(), '<', 2, 'steps that were known to be quick are');
# (every now and then a claim reads the whole index: the least of some is compared)
my $least = 1e9;
for (1 .. 5)
{
	blocks('marked');
	as('hog', q{SELECT count(*) FROM generate_series(1, 1000) n, romancy.fetch_activities('m' || n, 'w', 1)});
	my $n = blocks('marked');
	$least = $n if $n < $least;
}
note("blocks of a claim after each flood, at least: $least; before: @marked");
cmp_ok($least, '<', ($known + $whole) / 2, "a claim begins at the queue's mark");
$snapshot->quit;
my $turns = q{SELECT turns FROM romancy.stat_workflows WHERE workflow = 'waits' AND owner = 'shop'};
my $before = sql($turns);
for my $n (1 .. 40)
{
	as('shop', q{SELECT romancy.complete_activity(token, '1') FROM romancy.fetch_activities('parts', 'w', 1)});
}
is(as('shop', "CALL romancy.await_result('$waiting', timeout => '60 s')"), 1, 'the instance that waited for 40 ends has ended');
poll_until($node, "SELECT ($turns) > $before", 'its turn is counted');

$lock->query_safe('SELECT pg_advisory_unlock_all()');
is(as('shop', "CALL romancy.await_result('$running', timeout => '60 s')"), 1, 'and the one that reported');
# (one that ends later has ended: a second turn would be counted by now)
is(sql($turns) - $before, 1, 'which had one turn, after the last end');
$lock->quit;
$node->stop;
done_testing();
