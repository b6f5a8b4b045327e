# A large value is written to WAL once for each instance that has it, however many places show it: a result that a task
# brings and the handler returns, an input that a step gets, too. Each place still shows all of it.
# It would catch a value that is written again where it goes on to: the inbox, history, a task, the output.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('written_once', 'romancy.enabled' => 'off', 'full_page_writes' => 'off', 'autovacuum' => 'off', 'romancy.max_payload_size' => '2MB');
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	-- 300 kB that do not compress; another one for each number
	CREATE FUNCTION make(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(string_agg(encode(sha256(convert_to($1::text || i, 'UTF8')), 'base64'), '' ORDER BY i)) FROM generate_series(1, 6900) i $$;
	CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1 $$;
	CREATE FUNCTION size(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(octet_length($1::text)) $$;
	CREATE FUNCTION direct(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.activity('make', $1) $$;
	CREATE FUNCTION spawned(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.await(romancy.spawn('make', $1)) $$;
	CREATE FUNCTION mapped(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.map('make', jsonb_build_array($1)) -> 0 $$;
	CREATE FUNCTION maps(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.map('make', jsonb_build_array($1)) $$;
	CREATE FUNCTION wraps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE w jsonb = jsonb_build_object('id', 1, 'of', jsonb_build_array(2, romancy.activity('make', $1)));
	BEGIN PERFORM romancy.set_value('w', w); RETURN w; END $$;
	CREATE FUNCTION parent(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.call_workflow('direct', $1) $$;
	CREATE FUNCTION fed_parent(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.call_workflow('fed', $1) $$;
	CREATE FUNCTION fed(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.activity('size', $1) $$;
	CREATE FUNCTION fed_spawn(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.await(romancy.spawn('size', $1)) $$;
	CREATE FUNCTION echoed(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.activity('echo', $1) $$;
	CREATE FUNCTION handed(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.await(romancy.spawn('echo', romancy.activity('make', $1))) $$;
	CREATE FUNCTION sends(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE a jsonb = romancy.activity('make', $1); BEGIN PERFORM romancy.send_event('big', 't', a); RETURN '1'; END $$;
	CREATE FUNCTION recurs(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF jsonb_typeof($1) = 'string' THEN RETURN '1'; END IF; PERFORM romancy.recur(romancy.activity('make', $1)); END $$;
	CREATE FUNCTION publishes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.publish('c', romancy.activity('make', $1)); RETURN '1'; END $$;
	CREATE FUNCTION receives(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE m romancy.message; BEGIN PERFORM romancy.subscribe('c'); SELECT * INTO m FROM romancy.receive('c'); RETURN m.data; END $$;
	CREATE FUNCTION sets(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.set_value('k', romancy.activity('make', $1)); RETURN '1'; END $$;
	CREATE FUNCTION queued(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.activity('outside', $1) $$;
	CREATE FUNCTION fails_once(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE a jsonb = romancy.activity('make', $1); BEGIN PERFORM romancy.activity('breaks', a); RETURN a; END $$;
	CREATE FUNCTION breaks(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF NOT EXISTS (SELECT FROM healed) THEN RAISE 'broken'; END IF; RETURN '1'; END $$;
	CREATE TABLE healed (i int);
	SELECT romancy.define_activity('outside', queue => 'q');
	SELECT romancy.define_workflow('coded', queue => 'qw');
	SELECT romancy.define_activity('breaks', 'breaks', retry => '{"max_attempts": 1}');
	CREATE TABLE big AS SELECT make('0') AS v;
});

my $n = 0;
# copies($copies, $what, $sql, $before): statements write a value of 326 kB that often. $1 is a number of the case's own.
sub copies
{
	my ($copies, $what, $sql, $before) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$n++;
	for ($sql, $before) { s/\$1/'$n'/g if defined; }
	my ($out, $err) = ('', '');
	$node->psql('postgres', "SET statement_timeout = '60s'; SET client_min_messages = warning;\n" . ($before // '')
		. ";\n\\o\nSELECT pg_current_wal_insert_lsn() AS a \\gset\n$sql;\nSELECT 'WAL ' || pg_wal_lsn_diff(pg_current_wal_insert_lsn(), :'a')::bigint;\n", stdout => \$out, stderr => \$err, on_error_stop => 1);
	my ($bytes) = $out =~ /WAL (\d+)/;
	cmp_ok($bytes // 1e9, '<', $copies * 326_000 + 16_000, "$what: written " . ($copies == 1 ? 'once' : "$copies times")) or diag($err);
	note("$what: " . ($bytes // 0));
	return;
}
my $drain = 'CALL romancy.drain()';
copies(1, 'a result that is returned', "SELECT romancy.start_workflow('direct', \$1); $drain");
copies(1, 'of a spawned activity', "SELECT romancy.start_workflow('spawned', \$1); $drain");
copies(1, 'of map()', "SELECT romancy.start_workflow('mapped', \$1); $drain");
copies(1, 'of a canvas', "SELECT romancy.run_canvas(romancy.task('make', \$1)); $drain");
copies(1, 'of a program', "SELECT romancy.complete_activity(:'token', v) FROM big; $drain",
	"SELECT romancy.start_workflow('queued', \$1); $drain; SELECT token FROM romancy.fetch_activities('q', 'w') \\gset\n");
copies(1, 'handed on in a chain', "SELECT romancy.run_canvas(romancy.chain(romancy.task('make', \$1), romancy.task('echo'))); $drain");
copies(1, 'handed on in a chord, in an array', "SELECT romancy.run_canvas(romancy.chord(romancy.group(romancy.task('make', \$1)), romancy.task('size'))); $drain");
copies(2, 'of a child', "SELECT romancy.start_workflow('parent', \$1); $drain");
copies(1, 'handed on to a spawned activity, and back', "SELECT romancy.start_workflow('handed', \$1); $drain");
copies(1, 'an input that an activity gets', "SELECT romancy.start_workflow('fed', v) FROM big; $drain");
copies(1, 'of one of start_workflows()', "SELECT romancy.start_workflows('fed', ARRAY[v]) FROM big; $drain");
copies(1, 'that it gives back', "SELECT romancy.start_workflow('echoed', v) FROM big; $drain");
copies(1, 'that a spawned one gets', "SELECT romancy.start_workflow('fed_spawn', v) FROM big; $drain");
copies(1, 'that a program gets', "SELECT romancy.start_workflow('queued', v) FROM big; $drain; SELECT token FROM romancy.fetch_activities('q', 'w') \\gset\nSELECT romancy.complete_activity(:'token', '1'); $drain");
# the first evaluation, of which it is not known that it waits, is rolled back with the child that it had made
copies(2, 'that a child gets', "SELECT romancy.start_workflow('fed_parent', v) FROM big; $drain", "SELECT romancy.start_workflow('fed_parent', '1'); $drain");
copies(1, 'in the signature of a canvas', "SELECT romancy.run_canvas(romancy.task('size', v)) FROM big; $drain");
copies(1, 'of a canvas', "SELECT romancy.run_canvas(romancy.task('size'), v) FROM big; $drain");
copies(2, 'recur() carries it to the next generation', "SELECT romancy.start_workflow('recurs', \$1); $drain");
copies(1, 'set_value()', "SELECT romancy.start_workflow('sets', \$1); $drain");
copies(1, 'returned in an array', "SELECT romancy.start_workflow('maps', \$1); $drain");
copies(1, 'returned in an object, which a caller of get_value() gets, too', "SELECT romancy.start_workflow('wraps', \$1); $drain");
copies(1, 'the output of a program', "SELECT romancy.complete_workflow(:'token', v) FROM big; $drain",
	"SELECT romancy.start_workflow('coded', \$1); $drain; SELECT token FROM romancy.fetch_workflows('qw', 'w') \\gset\n");
copies(1, 'recorded by a program, and its output', "SELECT romancy.record_activity(:'token', 'a:1', 'a', '1', v) FROM big; SELECT romancy.complete_workflow(:'token', v) FROM big; $drain",
	"SELECT romancy.start_workflow('coded', \$1); $drain; SELECT token FROM romancy.fetch_workflows('qw', 'w') \\gset\n");
# with the event, which leaves alone
copies(2, 'send_event()', "SELECT romancy.start_workflow('sends', \$1); $drain");
# with the message; each receiver has a copy of its own, in its history and its output
copies(2, 'publish()', "SELECT romancy.start_workflow('publishes', \$1); $drain");
copies(5, 'publish() to three', "SELECT romancy.start_workflow('publishes', \$1); $drain", "SELECT romancy.start_workflow('receives') FROM generate_series(1, 3); $drain");
copies(1, 'before a failure', "SELECT romancy.start_workflow('fails_once', \$1); $drain");
copies(0, 'retry_workflow()', "INSERT INTO healed VALUES (1); SELECT romancy.retry_workflow(instance_id) FROM romancy.instances WHERE workflow = 'fails_once'; $drain");
copies(1, 'fork_workflow()', "SELECT romancy.fork_workflow(instance_id, 'breaks:1') FROM romancy.instances WHERE workflow = 'fails_once'; $drain");

# every place shows it: outputs, histories, members of canvases; and a dump takes it along
$node->safe_psql('postgres', "SELECT romancy.start_workflow('queued', v, idempotency_key => 'open') FROM big; SELECT romancy.start_workflow('spawned', '99'); $drain; SELECT romancy.start_workflow('fed_spawn', v) FROM big; CALL romancy.drain(1)");
my $all = q{
	SELECT workflow, status, count(*), sum(length(input::text)), sum(length(output::text)), sum((SELECT sum(length(h.data::text)) FROM romancy.get_history(i.instance_id) h)),
		sum((SELECT sum(length(h.data::text)) FROM romancy.get_archived_history(i.instance_id) h)),
		sum((SELECT sum(length(t.input::text)) FROM romancy.activity_tasks t WHERE t.instance_id = i.instance_id)),
		sum(CASE WHEN workflow = 'canvas' THEN (SELECT sum(coalesce(length(c.input::text), 0) + coalesce(length(c.result::text), 0)) FROM romancy.canvas_tasks(i.instance_id) c) END)
	FROM romancy.instances i GROUP BY 1, 2 ORDER BY 1, 2};
my $shown = $node->safe_psql('postgres', $all);
note($shown);
is($node->safe_psql('postgres', q{SELECT count(*) FROM romancy.instances i WHERE output IS NOT NULL AND output = romancy.get_result(instance_id) AND length(output::text) > 300000
	AND coalesce(output #> '{of,1}', CASE WHEN jsonb_typeof(output) = 'array' THEN output -> 0 ELSE output END) IN (SELECT make(g::text::jsonb) FROM (SELECT generate_series(0, 40) UNION SELECT 99) s (g))}), $node->safe_psql('postgres', q{SELECT count(*) FROM romancy.instances WHERE length(output::text) > 300000}), 'outputs are what was made');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('other'), '-f', $dump ], 'is restored');
is($node->safe_psql('other', $all), $shown, 'with all values');
is($node->safe_psql('other', q{SELECT count(*) FROM romancy.t_document d WHERE NOT EXISTS (SELECT FROM romancy.t_instance i WHERE i.instance_id = d.instance_id)}), '0', 'each of an instance');

# a program whose transaction has an older snapshot gets its input, and what completes gives it on
my $old = $node->background_psql('postgres');
$old->query_safe('SET client_min_messages = warning; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$node->safe_psql('postgres', "UPDATE romancy.t_task SET state = 3 WHERE queue LIKE '%/q'; SELECT romancy.start_workflow('queued', v, idempotency_key => 'later') FROM big; $drain");
is($old->query_safe(q{SELECT length(input::text) FROM romancy.fetch_activities('q', 'older')}), $node->safe_psql('postgres', 'SELECT length(v::text) FROM big'), 'a transaction with an older snapshot fetches a task with its input');
$old->query_safe('ROLLBACK');
$old->quit;

# a row of history holds no more than a few large values, however little room it takes itself, so what reads a row reads no more
$node->safe_psql('postgres', q{
	CREATE FUNCTION many(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1 .. 20 LOOP PERFORM romancy.activity('make', to_jsonb(1000 + i)); END LOOP; RETURN '1'; END $$;
	SELECT romancy.start_workflow('many'); CALL romancy.drain()});
cmp_ok($node->safe_psql('postgres', q{SELECT max(cardinality(romancy.t_events_unpack(h.events))) FROM romancy.t_history h JOIN romancy.t_instance i USING (instance_id) WHERE i.workflow = 'many'}), '<=', 3, 'few large values to a row of history');

# it goes with the instance
$node->safe_psql('postgres', q{SELECT romancy.delete_workflow(instance_id) FROM romancy.instances WHERE status IN ('completed', 'failed', 'recurred')});
is($node->safe_psql('postgres', q{SELECT count(*) FROM romancy.t_document d WHERE NOT EXISTS (SELECT FROM romancy.t_instance i WHERE i.instance_id = d.instance_id)}), '0', 'deleted with its instance');
$node->stop;
done_testing();
