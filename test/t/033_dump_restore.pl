# Running workflows are dumped and restored: with psql, pg_restore (in parallel, too, and
# with the row that says whose they are at the end), into another database of the same cluster and into another cluster. Nothing is lost;
# the restored copy runs nothing until it is adopted, whenever its workers look; the
# original goes on. It would catch work that is done twice, by original and copy.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep time);

my @conf = ('max_worker_processes' => 16, 'romancy.max_workers' => 8, 'romancy.timer_interval' => '100ms',
	'romancy.resumption_interval' => '100ms', 'romancy.retry_backoff_max' => '100ms');
my $node = romancy_node('dump', @conf);
my $dir = PostgreSQL::Test::Utils::tempdir();
sub sql { my ($sql, $db, $n) = @_; return ($n // $node)->safe_psql($db // 'postgres', $sql) }

# effects go to a sequence, too, which no rollback and no restored table hides
sql(q{
	CREATE TABLE effect (instance uuid, step int);
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect VALUES (romancy.instance_id(), ($1 #>> '{}')::int); RETURN $1; END $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note', '1');
		PERFORM romancy.set_value('k', $1);
		PERFORM romancy.sleep(($1 #>> '{}')::interval);
		RETURN romancy.activity('note', '2');
	END $$;
	CREATE FUNCTION listens(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE m romancy.message;
	BEGIN
		PERFORM romancy.subscribe('news');
		m := romancy.receive('news');
		RETURN m.data;
	END $$;
	CREATE FUNCTION outsides(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('outside'); END $$;
	SELECT romancy.define_workflow('named', 'steps(jsonb)');
	SELECT romancy.define_activity('outside', queue => 'q');
	SELECT count(*) FROM romancy.start_workflows('named', array(SELECT '"1 ms"'::jsonb FROM generate_series(1, 10)));
	SELECT romancy.start_workflow('listens'); SELECT romancy.start_workflow('outsides');
	SELECT romancy.start_workflow('steps', '"30 days"', idempotency_key => 'once');
	SELECT romancy.start_workflow('steps', '"1 s"', start_at => now() + interval '20 s');
	SELECT romancy.define_destination('bills', retry => '{"max_attempts": 7}', event_types => '{bill.*}', ordered => 'source');
	SELECT romancy.send_event('bill.sent', '/shop', to_jsonb(n), id => 'bill ' || n, extensions => '{"n": 1}') FROM generate_series(1, 3) n;
	SELECT romancy.send_event('other', '/shop', data_binary => '\x00ff', id => 'binary');
	SELECT count(*) FROM romancy.fetch_outbox(10, '1 day', 'bills');
});
poll_until($node, q{SELECT count(*) = 10 FROM romancy.instances WHERE status = 'completed'}, 'some complete');
poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE status = 'waiting_for_message'}, 'one listens');
poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE status = 'waiting_for_activity'}, 'one waits for outside');
# (long enough for the dumps to be made meanwhile, on a slow machine too)
sql(q{SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"20 s"'::jsonb FROM generate_series(1, 20)))});
poll_until($node, q{SELECT count(*) = 21 FROM romancy.instances WHERE status = 'waiting_for_timer'}, 'others sleep');
is(sql(q{SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'romancy'
	WHERE c.relkind IN ('r', 'p', 'S') AND NOT c.oid = ANY (e.extconfig)}), '', 'all tables are marked for pg_dump (sql/parts/85_dump.sql)');
my $kept = q{SELECT md5(string_agg(x::text, ' ' ORDER BY x::text)) FROM (SELECT instance_id, workflow, status, input, output, owner, created_at FROM romancy.instances
	UNION ALL SELECT i.instance_id, h.event_type, h.activity_id, h.data, NULL, NULL, h.created_at FROM romancy.instances i, romancy.get_history(i.instance_id) h
	UNION ALL SELECT NULL, id, status, to_jsonb(o), NULL, owner, "time" FROM romancy.outbox o UNION ALL SELECT NULL, name, NULL, to_jsonb(d), NULL, owner, created_at FROM romancy.destinations d) x};

$node->command_ok([ 'pg_dump', '-f', "$dir/plain.sql", '-d', $node->connstr('postgres') ], 'pg_dump, plain');
$node->command_ok([ 'pg_dump', '-Fd', '-f', "$dir/folder", '-d', $node->connstr('postgres') ], 'pg_dump, as a folder');
my $original = sql($kept);

my $other = romancy_node('restored', @conf, _extension => 0);
my %where = (plain => [ $node, 'copy1' ], parallel => [ $node, 'copy2' ], cluster => [ $other, 'postgres' ], last => [ $node, 'copy3' ]);
sql("CREATE DATABASE $_") for qw(copy1 copy2 copy3);
my $begin = time;
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain.sql", '-d', $node->connstr('copy1') ], 'restored by psql');
$node->command_ok([ 'pg_restore', '-j2', '-d', $node->connstr('copy2'), "$dir/folder" ], 'by pg_restore -j2');
$other->command_ok([ 'pg_restore', '-1', '-d', $other->connstr('postgres'), "$dir/folder" ], 'into another cluster');
# as pg_restore -j may do it: first the instances, and when workers have looked the row of t_control
my ($list) = run_command([ 'pg_restore', '-l', "$dir/folder" ]);
my ($control, @rest) = sort { ($b =~ /TABLE DATA romancy t_control/) <=> ($a =~ /TABLE DATA romancy t_control/) } split /\n/, $list;
append_to_file("$dir/first", join("\n", @rest) . "\n");
append_to_file("$dir/last", "$control\n");
my $log_at = -s $node->logfile;
$node->command_ok([ 'pg_restore', '-d', $node->connstr('copy3'), '-L', "$dir/first", "$dir/folder" ], 'by pg_restore, but for one row');
poll_until(sub { return slurp_file($node->logfile, $log_at) =~ /workers do not run in database "copy3"/ }, 'workers have looked, and left');
is(sql(q{SELECT romancy.health()->>'adopted'}, 'copy3'), 'false', 'it is a copy from the beginning');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('copy3'), '-L', "$dir/last", "$dir/folder" ], 'and that row');
# until well after everything in them is due, with workers that look all the time
poll_until($node, q{SELECT count(*) = 31 FROM romancy.instances WHERE status = 'completed'}, 'the original goes on');
sql(q{SELECT romancy.run_sweep(name) FROM romancy.sweeps}, @{ $where{$_} }[1, 0]) for keys %where;
sql(q{SELECT romancy.publish('news', '"to all"')}, @{ $where{$_} }[1, 0]) for keys %where;
usleep(1_000_000);
for my $how (sort keys %where)
{
	my ($n, $db) = @{ $where{$how} };
	is(sql('SELECT count(*) FROM effect', $db, $n), '41', "$how: nothing ran in the copy");
	is(sql($kept, $db, $n), $original, "$how: and all of it is there");
	my ($rc, $out, $err) = $n->psql($db, q{CALL romancy.drain(); SELECT count(*) FROM romancy.instances WHERE status = 'completed'});
	diag("drain in a copy: $rc $out $err") if $rc != 0;
}
is(sql(q{SELECT count(*) = 2 * (SELECT count(*) FROM romancy.instances WHERE status = 'completed' AND workflow <> 'listens') + 1 FROM effect}), 't', 'the original did each step once');

# adopted, each goes on where the dump was
for my $how (sort keys %where)
{
	my ($n, $db) = @{ $where{$how} };
	sql('SELECT romancy.adopt_database()', $db, $n);
	poll_until($n, q{SELECT count(*) = 32 FROM romancy.instances WHERE status = 'completed'}, "$how: adopted, what was due runs", dbname => $db);
	is(sql(q{SELECT count(*), count(DISTINCT (instance, step)) FROM effect}, $db, $n), '63|63', 'each step once');
	is(sql(q{SELECT output FROM romancy.instances WHERE workflow = 'listens'}, $db, $n), '"to all"', 'the message of before the adoption arrived');
	is(sql(q{SELECT romancy.complete_activity(token, '"done"') FROM romancy.fetch_activities('q', 'w')}, $db, $n), 't', 'the external task is there');
	poll_until($n, q{SELECT output = '"done"' FROM romancy.instances WHERE workflow = 'outsides'}, 'and counts', dbname => $db);
	is(sql(q{SELECT romancy.start_workflow('steps', idempotency_key => 'once') = instance_id FROM romancy.instances WHERE idempotency_key = 'once'}, $db, $n), 't', 'idempotency keys are kept');
	# the lease that a program had holds in the copy, too, and its key waits
	is(sql(q{SELECT romancy.send_event('bill.paid', '/shop', '4', id => 'bill 4'), romancy.send_event('bill.paid', '/shop', '5', id => 'bill 3'); SELECT count(*) FROM romancy.fetch_outbox(10, '1 min', 'bills')}, $db, $n), "bill 4|bill 3\n0", 'the outbox goes on');
	is(sql(q{SELECT romancy.ack_outbox('{bill 1}'); SELECT data, extensions, attempt FROM romancy.fetch_outbox(10, '1 min', 'bills')}, $db, $n), "1\n2|{\"n\": 1}|1", 'in order');
	is(sql(q{SELECT id, data_binary FROM romancy.fetch_outbox(10, '1 min', '')}, $db, $n), 'binary|\x00ff', 'binary events are there');
	is(sql(q{SELECT romancy.ack_outbox('{bill 2}'); SELECT string_agg(data::text, ',' ORDER BY "time") FROM romancy.outbox WHERE destination = 'bills' AND status = 'pending'}, $db, $n), "1\n3,4", 'and ids are known');
	is(sql(q{SELECT string_agg(DISTINCT romancy.get_value(instance_id, 'k')::text, ',') FROM romancy.instances WHERE workflow = 'named'}, $db, $n), '"1 ms"', 'and values');
	is(sql(q{CALL romancy.run_workflow('named', '"2 ms"', timeout => '30s')}, $db, $n), '2', 'new work runs');
}
is(sql(q{SELECT count(*) FROM romancy.instances WHERE status = 'waiting_for_message'}), '1', 'the original is as it was');
# dumped again from a copy that was adopted: one control row
$node->command_ok([ 'pg_dump', '-f', "$dir/again.sql", '-d', $node->connstr('copy1') ], 'a dump of a copy');
is(sql('SELECT count(*) FROM romancy.t_control', 'copy1'), '1', 'one control row');
$node->stop('fast');
$other->stop('fast');
done_testing();
