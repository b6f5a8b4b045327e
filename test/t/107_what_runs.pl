# Work that is under way is shown: view waiting has HTTP requests with their time limit and retries of every kind of task,
# and a canvas's tasks that run are running in canvas_tasks, get_progress, diagram and timeline. It would catch a retry that
# looks like work, the lease of a worker that looks like a deadline, and a picture that leaves out members.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancyTest;
use Test::More;

my $node = romancy_node('what_runs', 'max_worker_processes' => 12, 'romancy.max_workers' => 6, 'romancy.executors' => 4, 'romancy.http_timeout' => '15min');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub start { my ($workflow, $input) = @_; return sql("SELECT romancy.start_workflow('$workflow', '" . ($input // 'null') . "')") }
# shown($id, $columns, $expected, $what): the row of view waiting becomes that
sub shown
{
	my ($id, $columns, $expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return poll_until($node, "SELECT concat_ws(' ', $columns) FROM romancy.waiting WHERE instance_id = '$id'", $what, expected => $expected);
}
# a span of about so many minutes, that may have begun a while ago on a busy machine
sub about { my ($span, $minutes) = @_; return "(CASE WHEN $span BETWEEN '1 min'::interval * ($minutes / 2.0) AND '1 min'::interval * ($minutes + 1) THEN '$minutes min' ELSE ($span)::text END)" }

sql(q{
	CREATE TABLE go (what text);
	CREATE FUNCTION holds(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN WHILE NOT EXISTS (SELECT FROM go WHERE what = i #>> '{}') LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN i; END $$;
	CREATE FUNCTION quick(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
	CREATE FUNCTION fails(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no luck' USING ERRCODE = 'P1234'; END $$;
	SELECT romancy.define_activity('tries', 'fails', retry => '{"initial_interval": "30 min", "max_interval": "30 min", "jitter": 0, "max_duration": null}');
	SELECT romancy.define_activity('parcel', queue => 'parcels', retry => '{"initial_interval": "30 min", "max_interval": "30 min", "jitter": 0, "max_duration": null}');
	CREATE FUNCTION parcel_flow(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('parcel', i); END $$;
	CREATE FUNCTION several(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN to_jsonb(romancy.await_all(ARRAY[romancy.spawn('parcel', i), romancy.spawn('tries', i), romancy.spawn('quick', i)])); END $$;
	CREATE FUNCTION mapped(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('holds', i); END $$;
});

# --- tasks that are tried again
my $id = start('parcel_flow', '1');
shown($id, 'kind, step, name, queue', 'activity parcel:1 parcel parcels', 'a task for a program');
my $token = sql(q{SELECT token FROM romancy.fetch_activities('parcels', 'box', lease => '10 min')});
shown($id, 'kind, worker_id, ' . about('until - now()', 10), 'activity box 10 min', 'a program has it, until its lease ends');
sql("SELECT romancy.fail_activity('$token', 'no stamp')");
shown($id, q{kind, step, error ->> 'message', attempt, } . about('until - now()', 30), 'retry parcel:1 no stamp 1 30 min', 'its next attempt');
$id = start('several', '1');
shown($id, q{kind, step, name, error ->> 'message', attempt, } . about('until - now()', 30), 'retry tries:1 tries no luck 1 30 min', 'of several, the one that has failed');
my $canvas = sql(q{SELECT romancy.run_canvas(romancy.group(romancy.task('quick', '1'), romancy.task('tries', '1'), romancy.task('parcel', '1')))});
shown($canvas, q{kind, step, name, error ->> 'sqlstate'}, 'retry tries:1 tries P1234', 'and of a canvas');
like(sql("SELECT romancy.timeline('$canvas')"), qr/^quick:0 .*\ntries:1 .*waits for its next attempt\nparcel:2 .*ready$/m, 'its timeline has all members');

# --- a step that runs between two transactions
sql(q{SELECT romancy.define_activity('apart', 'holds', transactional => false)});
sql(q{CREATE FUNCTION apart_flow(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('apart', i); END $$});
$id = start('apart_flow', '"apart"');
shown($id, 'kind, step', 'running apart:1', 'a step that is not transactional');
is(sql("SELECT count(*) || ' ' || min(status) FROM romancy.instances WHERE instance_id = '$id'"), '1 running', 'its instance is there once');
sql(q{INSERT INTO go VALUES ('apart')});
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$id'", 'it ends', expected => 'completed');

# --- HTTP requests
SKIP:
{
	skip 'this build has no libcurl', 8 unless has_http();
	my $http = RomancyHttp->new($node);
	my $url = $http->url;
	sql(qq{
		SELECT romancy.allow_http('postgres', '$url/*', private => true);
		SELECT romancy.define_activity('named', http => '{"url": "$url/until/never", "timeout": "5 min"}'), romancy.define_activity('closed', http => '{"url": "$url/until/never"}', start_to_close_timeout => '3 min'),
			romancy.define_activity('setting', http => '{"url": "$url/until/never"}'),
			romancy.define_activity('again', http => '{"url": "$url/status/503"}', retry => '{"initial_interval": "30 min", "max_interval": "30 min", "jitter": 0, "max_duration": null}');
		CREATE FUNCTION requests(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity(i #>> '{}'); END \$\$;
		CREATE FUNCTION ad_hoc(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.http('GET', '$url/until/never', timeout => '8 min'); END \$\$});
	for (['requests', '"named"', 'named', 5], ['requests', '"closed"', 'closed', 3], ['requests', '"setting"', 'setting', 15], ['ad_hoc', 'null', 'http', 8])
	{
		my ($workflow, $input, $name, $minutes) = @$_;
		$id = start($workflow, $input);
		shown($id, 'kind, step, name, attempt, ' . about('until - since', $minutes), "request $name:1 $name 1 $minutes min", "$name: a request is under way, with its time limit");
	}
	$id = start('requests', '"again"');
	shown($id, q{kind, step, name, substring(error ->> 'message', 'HTTP \d+$'), attempt, } . about('until - now()', 30), 'retry again:1 again HTTP 503 1 30 min', 'a request that is tried again');
	sql(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.waiting WHERE workflow IN ('requests', 'ad_hoc')});
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.waiting WHERE workflow IN ('requests', 'ad_hoc')}, 'they end');
	$http->stop;
}

# --- tasks in the database that run
$canvas = sql(q{SELECT romancy.run_canvas(romancy.chord(romancy.group(romancy.task('quick', '1'), romancy.chain(romancy.task('holds', '"one"'), romancy.task('quick', '2'))), romancy.task('quick')))});
poll_until($node, "SELECT string_agg(path || ' ' || status, ', ' ORDER BY path) FROM romancy.canvas_tasks('$canvas')", 'canvas_tasks has the one that runs',
	expected => '0 completed, 1.0 running, 1.1 pending, body pending');
is(sql("SELECT attempt FROM romancy.canvas_tasks('$canvas') WHERE path = '1.0'"), '1', 'the attempt that runs is counted');
is(sql("SELECT completed, running, total FROM romancy.get_progress('$canvas')"), '1|1|4', 'get_progress counts it');
my $diagram = sql("SELECT romancy.diagram('$canvas')");
like($diagram, qr/n2\["quick:0<br\/>[^"]*"\]:::done\n  n1 --> n2\n  n3\["holds:1\.0<br\/>[^"]*<br\/>running"\]:::open\n  n1 --> n3\n  n4\["quick:1\.1<br\/>[^"]*<br\/>pending"\]:::open\n  n3 --> n4\n  n5\["quick#58;body<br\/>[^"]*<br\/>pending"\]:::open\n  n2 --> n5\n  n4 --> n5\n/,
	'the diagram has all members, what follows what, and the one that runs');
like(sql("SELECT romancy.timeline('$canvas')"), qr/^quick:0 .*\nholds:1\.0 .*, running\nquick:1\.1 .*, pending\nquick:body .*, pending$/m, 'so has the timeline');
like(sql("SELECT romancy.diagram('$canvas', 'dot')"), qr/holds:1\.0\\n[^"]*\\nrunning"/, 'in both languages');
$id = start('mapped', '["two", "three"]');
poll_until($node, "SELECT array_length(regexp_split_to_array(romancy.timeline('$id'), ', running'), 1) - 1", 'spawned tasks that run, in a picture', expected => '2');
my $call = sql(q{CREATE FUNCTION calls(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.workflow_now(); RETURN romancy.activity('holds', i); END $$; SELECT romancy.start_workflow('calls', '"four"')});
poll_until($node, "SELECT romancy.timeline('$call') ~ 'holds:1 .*, running'", 'a step that a turn runs');
sql(q{INSERT INTO go VALUES ('one'), ('two'), ('three'), ('four')});
poll_until($node, "SELECT count(*) = 3 FROM romancy.instances WHERE instance_id IN ('$canvas', '$id', '$call') AND status = 'completed'", 'they complete');
unlike(sql("SELECT romancy.diagram('$canvas') || romancy.timeline('$canvas')"), qr/running|pending/, 'and nothing runs in the picture');

$node->stop;
done_testing();
