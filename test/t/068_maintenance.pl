# A DBA's maintenance of the tables of romancy while workflows run: REINDEX CONCURRENTLY, VACUUM FULL,
# CLUSTER, additional indexes, any number of them and of any kind, also while they are being built. It would
# catch relations and indexes that a process remembers although they were replaced, and index entries
# that are made too early, twice or not at all (amcheck counts them).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

chomp(my $share = `pg_config --sharedir`);
for my $extension ('amcheck', 'btree_gist')
{
	plan skip_all => "this server has no extension $extension" unless -f "$share/extension/$extension.control";
}
my $node = romancy_node('maintenance', 'max_worker_processes' => 16, 'romancy.max_workers' => 4, 'romancy.worker_idle_timeout' => '0');

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

sql(q{
	CREATE EXTENSION amcheck; CREATE EXTENSION btree_gist;
	CREATE TABLE effect (instance uuid, step int);
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effect VALUES (romancy.instance_id(), ($1 #>> '{}')::int); RETURN $1; END $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.set_value('k', $1), romancy.subscribe('news');
		PERFORM romancy.activity('note', '1');
		PERFORM romancy.sleep('10 ms');
		PERFORM romancy.await(romancy.spawn('note', '2'));
		PERFORM romancy.receive('go');
		RETURN romancy.activity('far', $1);
	END $$;
	SELECT romancy.define_activity('far', queue => 'q', rate_limit => '100000/s');
	CREATE FUNCTION answer() RETURNS bigint LANGUAGE sql AS $$
		SELECT count(romancy.complete_activity(token, '1')) FROM romancy.fetch_activities('q', 'me', 100) $$;
});

# a session that stays, as a program's does, beside executors that stay
my $kept = $node->background_psql('postgres', on_error_stop => 0);
my $n = 0;

# Work through every table, begun and ended by sessions that remember what they have seen
sub work
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $before = $kept->{stderr};
	$kept->query(q{SELECT romancy.start_workflow('steps', '1') FROM generate_series(1, 3)});
	$n += 3;
	$kept->query(q{SELECT romancy.send_to(instance_id, 'go', '1') FROM romancy.instances WHERE created_at = (SELECT max(created_at) FROM romancy.instances)
		OR status <> 'completed'});
	is($kept->{stderr}, '', "$what: a kept session starts and sends");
	$kept->{stderr} = '';
	poll_until(sub {
		$kept->query('SELECT answer()');
		return $kept->query(q{SELECT count(*) FROM romancy.instances WHERE status = 'completed'}) eq "$n";
	}, "$what: all ends");
	is($kept->{stderr}, '', "$what: a kept session polls and answers");
	$kept->{stderr} = '';
	return;
}

my @tables = split /\n/, sql(q{SELECT c.relname FROM pg_class c WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'r' ORDER BY 1});

work('before');
$node->safe_psql('postgres', 'REINDEX SCHEMA CONCURRENTLY romancy');
work('REINDEX CONCURRENTLY');
sql("REINDEX INDEX CONCURRENTLY romancy.t_instance_pkey");
work('of one index');
sql("REINDEX TABLE romancy.$_") for @tables;
work('REINDEX');
sql("VACUUM (FULL, ANALYZE) romancy.$_") for @tables;
work('VACUUM FULL');
sql("CLUSTER romancy.$_->[0] USING $_->[1]") for map { [ split /\|/ ] } split /\n/, sql(q{SELECT c.relname, i.indexrelid::regclass::name FROM pg_class c
	JOIN pg_index i ON i.indrelid = c.oid AND indisprimary WHERE c.relnamespace = 'romancy'::regnamespace AND relkind = 'r'}) =~ s/romancy\.//gr;
work('CLUSTER');

# indexes of the DBA's own: many, and of every kind
for my $table (qw(t_instance t_task t_history t_inbox t_message))
{
	my $key = sql(qq{SELECT attname FROM pg_attribute WHERE attrelid = 'romancy.$table'::regclass AND attnum = 1});
	sql("CREATE INDEX CONCURRENTLY dba_${table}_$_ ON romancy.$table ($key)") for 1 .. 12;
}
sql(q{
	CREATE INDEX dba_brin ON romancy.t_instance USING brin (updated_at);
	CREATE INDEX dba_brin2 ON romancy.t_task USING brin (due_at);
	CREATE INDEX dba_gin ON romancy.t_instance USING gin (input);
	CREATE INDEX dba_hash ON romancy.t_instance USING hash (owner);
	CREATE INDEX dba_gist ON romancy.t_instance USING gist (updated_at);
	CREATE INDEX dba_expression ON romancy.t_instance (lower(workflow)) INCLUDE (owner) WHERE status <> 'failed';
	CREATE UNIQUE INDEX dba_unique ON romancy.t_instance (created_at, instance_id);
	ALTER TABLE romancy.t_task ADD CONSTRAINT dba_deferrable UNIQUE (task_id) DEFERRABLE;
	ALTER TABLE romancy.t_task ADD CONSTRAINT dba_exclude EXCLUDE USING gist (task_id WITH =);
});
cmp_ok(sql(q{SELECT count(*) FROM pg_index WHERE indrelid = 'romancy.t_instance'::regclass}), '>', 20, 'a table has many indexes');
work('many indexes');

# while one is being built
for my $how ('CREATE INDEX CONCURRENTLY dba_built ON romancy.t_instance (priority, instance_id)', 'CREATE UNIQUE INDEX CONCURRENTLY dba_built2 ON romancy.t_task (task_id, priority)',
	'REINDEX TABLE CONCURRENTLY romancy.t_instance', 'REINDEX TABLE CONCURRENTLY romancy.t_task', 'DROP INDEX CONCURRENTLY romancy.dba_built')
{
	my ($table) = $how =~ /(t_\w+)/;
	$table = 't_instance' if $how =~ /^DROP/;
	my $holds = $node->background_psql('postgres');
	$holds->query_safe("BEGIN; LOCK TABLE romancy.$table IN ROW EXCLUSIVE MODE");
	my $builds = $node->background_psql('postgres');
	$builds->query_until(qr/begun/, "\\echo begun\n$how;\n\\echo built\n");
	poll_until($node, qq{SELECT count(*) = 1 FROM pg_stat_activity a JOIN pg_locks l USING (pid) WHERE query = '$how;' AND NOT l.granted}, "$how waits");
	work("during $how");
	$holds->query_safe('COMMIT');
	$holds->quit;
	$builds->query_until(qr/built/, '');
	$builds->quit;
	work("after $how");
}
is(sql(q{SELECT count(*) FROM pg_index WHERE NOT indisvalid}), '0', 'every index is valid');
sql("SELECT bt_index_parent_check(i.indexrelid, true, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
	WHERE c.relnamespace = 'romancy'::regnamespace AND a.amname = 'btree'");
is(sql(q{SET enable_seqscan = off; SET enable_indexscan = off; SELECT count(*) FROM romancy.t_instance WHERE updated_at > '2000-01-01'}),
	sql('SELECT count(*) FROM romancy.t_instance'), 'an index that is not a btree has all rows');
is(sql(q{SET enable_seqscan = off; SELECT count(*) FROM romancy.t_instance WHERE lower(workflow) = 'steps' AND status <> 'failed'}), "$n", 'so has one of an expression');

# dropped again
sql("DROP INDEX $_") for split /\n/, sql(q{SELECT c.oid::regclass FROM pg_class c LEFT JOIN pg_constraint k ON k.conindid = c.oid WHERE relkind = 'i' AND relname LIKE 'dba_%' AND k.oid IS NULL});
work('indexes are dropped');

# settings of tables and columns
for my $table (@tables)
{
	sql("ALTER TABLE romancy.$table SET (autovacuum_vacuum_scale_factor = 0.01, fillfactor = 70), SET UNLOGGED");
	sql("ALTER TABLE romancy.$table SET LOGGED");
}
sql(q{ALTER TABLE romancy.t_instance ALTER workflow SET STATISTICS 1000, ALTER input SET STORAGE external; CREATE STATISTICS romancy.dba_s ON workflow, owner FROM romancy.t_instance;
	ALTER TABLE romancy.t_instance ADD COLUMN dba_note text, ADD COLUMN dba_default int DEFAULT 7; ANALYZE romancy.t_instance});
work('ALTER TABLE SET');

is(sql('SELECT count(*), count(DISTINCT (instance, step)) FROM effect'), (2 * $n) . '|' . (2 * $n), 'each step once');
$kept->quit;
$node->stop('fast');
unlike(slurp_file($node->logfile), qr/ERROR|PANIC|TRAP|terminated by signal/, 'the log has no error');
done_testing();
