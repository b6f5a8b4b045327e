# A DBA changes the names of things around the tables of romancy while workflows run, besides maintenance (068) and publications (069): of primary
# keys, and of the schema, which gets it back; and a role dumps the database. It would catch an index that is looked for by a name
# which it need not have.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('other_names', 'romancy.worker_idle_timeout' => '0');

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

sql(q{
	CREATE FUNCTION large(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('large', repeat('large', 8000)) $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE large jsonb := romancy.activity('large');
	BEGIN
		PERFORM romancy.set_value('large', large);
		PERFORM romancy.sleep('10ms');
		PERFORM romancy.await(romancy.spawn('outside', large));
		RETURN romancy.call_workflow('child', large);
	END $$;
	CREATE FUNCTION child(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
	SELECT romancy.define_activity('outside', queue => 'outside');
	SELECT romancy.set_queue('outside', per_key => 'large', max_concurrency => 100)
});

# a session that stays connected, and has looked at the tables before
my $kept = $node->background_psql('postgres', on_error_stop => 1);

# round(): workflows and a program, in all kinds of processes
sub round
{
	my ($key) = @_;
	$kept->query_safe("SELECT romancy.start_workflows('steps', array_fill(null::jsonb, array[3]), array['$key 1', '$key 2', '$key 3'])");
	poll_until(sub {
		$kept->query_safe("SELECT count(romancy.complete_activity(token, '1')) FROM romancy.fetch_activities('outside', 'program', 10)");
		return sql("SELECT count(*) FROM romancy.instances WHERE idempotency_key LIKE '$key _' AND status = 'completed' AND output->>'large' = repeat('large', 8000)") eq '3';
	}, "workflows run: $key");
	return;
}

round('before');
sql(q{DO $$
	DECLARE name text;
	BEGIN
		FOR name IN SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE indisprimary AND relnamespace = 'romancy'::regnamespace LOOP
			EXECUTE 'ALTER INDEX ' || name || ' RENAME TO ' || replace(replace(name, 'romancy.', ''), 'pkey', 'primary');
		END LOOP;
	END $$});
is(sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'romancy'::regnamespace AND relname LIKE '%pkey'"), 0, 'no primary key has its name');
round('renamed');
# another index that has the name is no primary key
sql('CREATE INDEX t_document_pkey ON romancy.t_document (copy); CREATE INDEX t_instance_pkey ON romancy.t_instance (created_at)');
round('confused');

# a primary key that was built beside the old one and took its place
sql(q{CREATE UNIQUE INDEX anew ON romancy.t_document (id, copy);
	ALTER TABLE romancy.t_document DROP CONSTRAINT t_document_primary, ADD CONSTRAINT taken PRIMARY KEY USING INDEX anew});
round('replaced');

# a primary key of other columns would be searched for the wrong ones
sql(q{CREATE UNIQUE INDEX other ON romancy.t_instance (created_at, instance_id);
	ALTER TABLE romancy.t_instance DROP CONSTRAINT t_instance_primary, ADD CONSTRAINT other PRIMARY KEY USING INDEX other});
(undef, undef, my $why) = $node->psql('postgres', "BEGIN; SELECT romancy.start_workflow('child', '1'); CALL romancy.drain(); ROLLBACK");
like($why, qr/the primary key of table romancy\.t_instance has other columns\nDETAIL:  It is on \(created_at, instance_id\) instead of \(instance_id\)/, 'a primary key of other columns is refused');
sql(q{CREATE UNIQUE INDEX good ON romancy.t_instance (instance_id);
	ALTER TABLE romancy.t_instance DROP CONSTRAINT other, ADD CONSTRAINT good PRIMARY KEY USING INDEX good});
round('good again');

# another index than a primary key: the error says what is the matter
sql('ALTER INDEX romancy.t_task_ready RENAME TO elsewhere');
my ($rc, $out, $err) = $node->psql('postgres', "SELECT romancy.fetch_activities('nothing', 'program', 10)");
like($err, qr/romancy\.t_task_ready does not exist.*\nHINT: .*An object that was renamed has to have its name back/s, 'an index that is known by its name');
sql('ALTER INDEX romancy.elsewhere RENAME TO t_task_ready');
round('back');

# the schema: everything goes on when it has its name again
sql('ALTER SCHEMA romancy RENAME TO elsewhere; ALTER SCHEMA elsewhere RENAME TO romancy');
round('schema');

# a role that may read all data dumps the database
sql('CREATE ROLE dumper LOGIN; GRANT pg_read_all_data TO dumper');
$node->command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-U', 'dumper', '-f', $node->basedir . '/dump', 'postgres' ], 'a dump needs pg_read_all_data');

is(sql("SELECT count(*) FROM romancy.instances WHERE status <> 'completed'"), 0, 'everything has completed');
unlike(slurp_file($node->logfile), qr/XX0|is tried again in/, 'no error of the engine');

$kept->quit;
$node->stop;
done_testing();
