# Indexes of romancy that a held snapshot has left mostly empty are rebuilt by a worker of their own, while work
# goes on; not while a snapshot or a transaction would hold the rebuild up, not a DBA's index, and what an interrupted
# rebuild leaves behind is dropped. It would catch indexes that keep the size of the worst hour, and rebuilds that
# wait with a lock, get in the way of DROP DATABASE or DROP EXTENSION, or go on with romancy switched off.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('bloat', autovacuum => 'off', 'romancy.reindex_interval' => '100ms', 'romancy.retry_backoff_max' => '100ms', 'romancy.sweep_jitter' => 0,
	'romancy.worker_idle_timeout' => '0', max_worker_processes => 16);

sub sql { my ($sql, $database) = @_; return $node->safe_psql($database // 'postgres', $sql) }

sub set
{
	my ($name, $value) = @_;
	sql("ALTER SYSTEM SET romancy.$name = '$value'");
	$node->reload;
	poll_until($node, "SELECT setting = '$value' FROM pg_file_settings WHERE name = 'romancy.$name' AND applied", "$name is $value");
	return;
}

# fill(database), empty(database): leave the indexes of a table with many pages and few entries, but for vacuum, whose turn it is
sub fill
{
	my ($database, $rows) = @_;
	$rows //= 40000;
	sql("INSERT INTO romancy.t_received_event SELECT 1, 'bench', md5(g::text), now() FROM generate_series(1, $rows) g ON CONFLICT DO NOTHING", $database);
	return;
}
sub empty  { sql(q{DELETE FROM romancy.t_received_event WHERE id NOT LIKE '000%'},                  $_[0]); return }
sub vacuum { sql('VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) romancy.t_received_event', $_[0]); return }

my $index = 'romancy.t_received_event_pkey';
my $mb = 1024 * 1024;
my $small = "SELECT pg_relation_size('$index') < $mb";
my $large = "SELECT pg_relation_size('$index') > 2 * $mb";
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'romancy rebuilder'};
my $leftover = q{SELECT count(*) FROM pg_class WHERE relname ~ '^t_received_event_pkey_cc(new|old)'};

# Waits until the sweep has run some more times
sub sweeps_run
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $runs = sql(q{SELECT runs FROM romancy.sweeps WHERE name = 'reindex'});
	return poll_until($node, qq{SELECT runs >= $runs + 3 FROM romancy.sweeps WHERE name = 'reindex'}, $what);
}

my $n = 0;
sub work
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql(q{SELECT romancy.start_workflow('flow', '1') FROM generate_series(1, 5)});
	$n += 5;
	return poll_until($node, "SELECT count(*) = $n FROM romancy.instances WHERE status = 'completed'", "$what: work goes on");
}

# The indexes are left mostly empty, with a transaction that has written to the table, so that a rebuild waits for it, not knowing
# that it lasts. Done anew until one does.
my $writer;
sub rebuild_waits
{
	my ($what, $database) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $begun = 0;
	$writer = $node->background_psql($database // 'postgres');
	poll_until(sub {
		if (time - $begun >= 4)
		{
			$writer->query_safe('COMMIT') if $begun;
			fill($database);
			empty($database);
			$writer->query_safe('BEGIN; UPDATE romancy.t_received_event SET received_at = received_at WHERE false');
			vacuum($database);
			$begun = time;
		}
		return sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'romancy rebuilder' AND wait_event_type = 'Lock' AND query LIKE '%rebuilds index%pkey%'});
	}, "$what: a rebuild waits");
	return;
}
sub writer_ends { $writer->query_safe('COMMIT'); $writer->quit; return }

sql(q{
	CREATE FUNCTION step(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
	CREATE FUNCTION flow(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('10 ms'); RETURN romancy.activity('step', i); END $$;
	CREATE INDEX t_received_event_dba ON romancy.t_received_event (id);
});
my $dba = sql(q{SELECT 'romancy.t_received_event_dba'::regclass::oid});

# --- a snapshot from before: entries of dead rows are in use
my $old = $node->background_psql('postgres');
fill();
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
empty();
vacuum();
sweeps_run('under a snapshot that sees the rows');
is(sql($large), 't', 'nothing is rebuilt that is full of their entries');
is(sql(q{SELECT total_rows FROM romancy.sweeps WHERE name = 'reindex'}), '0', 'and no worker started for it');

# --- a snapshot from after: vacuum can do its work, and a rebuild would wait for it
$old->query_safe('COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
poll_until($node, q{SELECT xact_start < clock_timestamp() - interval '5 s' FROM pg_stat_activity WHERE state = 'idle in transaction'}, 'it lasts');
vacuum();
poll_until($node, q{SELECT total_rows > 3 FROM romancy.sweeps WHERE name = 'reindex'}, 'workers have looked at the index');
is(sql($large), 't', 'it is not rebuilt while a snapshot lasts');
is(sql("$workers AND wait_event_type = 'Lock'"), '0', 'no rebuild waits');
is(sql($leftover), '0', 'none was begun');
work('under a snapshot');

$old->query_safe('COMMIT');
$old->quit;
poll_until($node, $small, 'without it the index is rebuilt');
work('after a rebuild');
poll_until(sub { slurp_file($node->logfile) =~ /LOG:  rebuilt index "t_received_event_pkey", which was mostly empty: \d{4,} kB before, \d{2,3} kB after/ }, 'the log says so');
is(sql(q{SELECT 'romancy.t_received_event_dba'::regclass::oid, pg_relation_size('romancy.t_received_event_dba') > 1048576}), "$dba|t", 'an index of the DBA is left alone');

# --- one that grows again soon rests meanwhile
set(reindex_interval => '1h');
fill();
empty();
vacuum();
is(sql(q{SELECT romancy.run_sweep('reindex')}), '0', 'an index that was just rebuilt is left alone for some time');
is(sql($large), 't', 'and keeps its size');
fill('postgres', 100000);
empty();
vacuum();
sql(q{SELECT romancy.run_sweep('reindex')});
poll_until($node, $small, 'unless it has become larger than it was before');
set(reindex_interval => '100ms');

# --- beside sessions that create and drop tables, which makes each process forget the oid of the extension's owner
my $script = PostgreSQL::Test::Utils::tempdir() . '/churn.sql';
PostgreSQL::Test::Utils::append_to_file($script, "CREATE TEMP TABLE churn (i int);\nDROP TABLE churn;\n");
my ($churn_in, $churn_out) = ('', '');
my $churn = IPC::Run::start([ 'pgbench', '-n', '-c', '3', '-T', '1000', '-f', $script, $node->connstr('postgres') ], '<', \$churn_in, '>', \$churn_out, '2>', \$churn_out);
for my $round (1 .. 3)
{
	fill('postgres', 20000);
	empty();
	vacuum();
	poll_until($node, $small, "beside tables that come and go, $round");
}
$churn->kill_kill;

# --- interrupted by its end: what is left of it goes
rebuild_waits('interrupted');
cmp_ok(sql($leftover), '>=', 1, 'an index is being built');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'romancy rebuilder'});
poll_until($node, q{SELECT count(*) = 1 FROM pg_index i JOIN pg_class c ON c.oid = indexrelid WHERE relname = 't_received_event_pkey_ccnew' AND NOT indisvalid}, 'it is left behind');
writer_ends();
poll_until($node, $small, 'the next worker rebuilds');
poll_until($node, "$leftover", 'and drops what was left', expected => '0');
work('after an interrupted one');

# --- what a DBA builds is no leftover
$node->psql('postgres', 'CREATE UNIQUE INDEX CONCURRENTLY dba_ccnew ON romancy.t_received_event (namespace)');
$writer = $node->background_psql('postgres');
$writer->query_safe('BEGIN; UPDATE romancy.t_received_event SET received_at = received_at WHERE false');
my $builder = $node->background_psql('postgres');
$builder->query_until(qr/begun/, "\\echo begun\nREINDEX INDEX CONCURRENTLY $index;\n\\echo built\n");
poll_until($node, $leftover, 'a DBA rebuilds an index', expected => '1');
sweeps_run('meanwhile');
is(sql($leftover), '1', 'what it builds is there');
writer_ends();
$builder->query_until(qr/built/, '');
$builder->quit;
is(sql("SELECT indisvalid FROM pg_index WHERE indexrelid = '$index'::regclass"), 't', 'it is done');
is(sql(q{SELECT indisvalid FROM pg_index WHERE indexrelid = 'romancy.dba_ccnew'::regclass}), 'f', 'an invalid index of the DBA is left alone, too');

# --- switched off
rebuild_waits('switched off');
set(enabled => 'off');
poll_until($node, $workers, 'the worker ends', expected => '0');
like(slurp_file($node->logfile), qr/could not rebuild index "t_received_event_pkey".*\n.*canceling statement due to (user request|lock timeout)/, 'it was asked to');
writer_ends();
set(reindex_bloated => 'off');
set(enabled => 'on');
sweeps_run('switched off');
is(sql($large) . sql($workers), 't0', 'with romancy.reindex_bloated off there is none');
set(reindex_bloated => 'on');
poll_until($node, $small, 'and on again');

# --- databases and the extension go
sql('CREATE DATABASE other');
sql('CREATE EXTENSION romancy; SELECT romancy.define_activity($$far$$, queue => $$q$$)', 'other');
rebuild_waits('in a database that goes', 'other');
eval { $writer->quit };
sql('DROP DATABASE other WITH (FORCE)');
is(sql(q{SELECT count(*) FROM pg_database WHERE datname = 'other'}), '0', 'a database is dropped meanwhile');
rebuild_waits('of an extension that goes');
my $dropper = $node->background_psql('postgres');
$dropper->query_until(qr/begun/, "\\echo begun\nDROP EXTENSION romancy CASCADE;\n\\echo dropped\n");
poll_until($node, $workers, 'the worker ends', expected => '0');
writer_ends();
$dropper->query_until(qr/dropped/, '');
$dropper->quit;
is(sql(q{SELECT count(*) FROM pg_extension WHERE extname = 'romancy'}), '0', 'the extension is dropped');

$node->stop('fast');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|ERROR:  deadlock detected/, 'the log has no error of the server');
done_testing();
