# Changes that a DBA may make to the database around romancy: a publication of all tables, triggers on its tables,
# event triggers, and logical replication into a database that has it. It would catch a table without a
# primary key (each UPDATE and DELETE of it fails then, for ever), and work of another server that is run here too.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my %conf = ('max_worker_processes' => 16, 'romancy.worker_idle_timeout' => '0', 'romancy.retention_interval' => '1s', 'romancy.result_expires' => '0',
	map({ ("romancy.${_}_interval" => '1s') } qw(timer resumption lock_cleanup activity_timeout message_check message_timeout channel_cleanup)));
my $node = romancy_node('publisher', _init => [ allows_streaming => 'logical' ], %conf);

sub sql { my ($sql, $on) = @_; return ($on // $node)->safe_psql('postgres', $sql) }

my $functions = q{
	CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION all_of_it(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.set_value('k', $1), romancy.set_value('k', '2'), romancy.subscribe('news'), romancy.join_group('g');
		PERFORM romancy.await(romancy.spawn('echo', '2')), romancy.map('echo', '[1,2]');
		PERFORM romancy.send_to(romancy.instance_id(), 'self', '1'), romancy.receive('self');
		PERFORM romancy.sleep('10 ms');
		RETURN romancy.activity('far', $1);
	END $$;
	CREATE FUNCTION again(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF $1 = '2' THEN RETURN $1; END IF; PERFORM romancy.recur('2'); END $$;
	SELECT romancy.define_activity('far', queue => 'q');
	SELECT romancy.set_queue('q', rate_limit => '1000/s', max_concurrency => 100);
};
sql(q{CREATE TABLE app (id int PRIMARY KEY)});
sql($functions);
sql(q{CREATE PUBLICATION everything FOR ALL TABLES});

sub work
{
	my ($what, $n) = @_;
	sql(q{SELECT romancy.start_workflow('all_of_it', '1', idempotency_key => gen_random_uuid()::text), romancy.start_workflow('again', '1'),
		romancy.run_canvas(romancy.chord(romancy.group(romancy.task('echo', '1'), romancy.chain(romancy.task('echo', '2'), romancy.task('echo'))), romancy.task('echo')))});
	poll_until(sub {
		sql(q{SELECT romancy.complete_activity(token, '1') FROM romancy.fetch_activities('q', 'me', 100)});
		return sql(q{SELECT count(*) FROM romancy.instances WHERE status NOT IN ('completed', 'recurred')}) eq '0';
	}, "$what: all ends");
	sql(q{SELECT romancy.delete_workflow(instance_id) FROM romancy.instances});
	is(sql(q{SELECT count(*) FROM romancy.instances}), '0', "$what: and is deleted");
	return;
}
work('a publication of all tables');

sql(q{SELECT romancy.define_workflow('short', 'all_of_it(jsonb)', retention => '1 ms'); SELECT romancy.start_workflow('short', '1')});
poll_until(sub {
	sql(q{SELECT romancy.complete_activity(token, '1') FROM romancy.fetch_activities('q', 'me', 100)});
	return sql('SELECT count(*) FROM romancy.t_instance') eq '0';
}, 'retention deletes');
is(sql(q{SELECT string_agg(c.relname, ',') FROM pg_class c WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'r' AND relreplident <> 'd'}), '', 'nothing was done about it but primary keys');

# --- triggers and event triggers

sql(q{
	CREATE TABLE seen (what text);
	GRANT INSERT ON seen TO public;
	CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (TG_OP); RETURN coalesce(NEW, OLD); END $$;
	CREATE FUNCTION ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (TG_TAG); END $$;
	CREATE EVENT TRIGGER ends ON ddl_command_end EXECUTE FUNCTION ddl();
	CREATE EVENT TRIGGER starts ON ddl_command_start EXECUTE FUNCTION ddl();
	CREATE EVENT TRIGGER drops ON sql_drop EXECUTE FUNCTION ddl();
});
sql("CREATE TRIGGER look AFTER INSERT OR UPDATE OR DELETE ON romancy.$_ FOR EACH ROW EXECUTE FUNCTION look()")
	for split /\n/, sql(q{SELECT relname FROM pg_class WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'r' AND relname <> 't_control'});
work('triggers and event triggers');
sql("DROP TRIGGER look ON romancy.$_")
	for split /\n/, sql(q{SELECT relname FROM pg_class WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'r' AND relname <> 't_control'});

# --- into a database that has romancy

my $copy = romancy_node('subscriber', _init => [ allows_streaming => 'logical' ], %conf);
sql($functions . q{
	CREATE TABLE app (id int PRIMARY KEY);
	CREATE FUNCTION starts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.start_workflow('public.echo', to_jsonb(NEW.id)); RETURN NEW; END $$;
	CREATE TRIGGER starts AFTER INSERT ON app FOR EACH ROW EXECUTE FUNCTION starts();
	ALTER TABLE app ENABLE ALWAYS TRIGGER starts}, $copy);
sql('CREATE PUBLICATION only_app FOR TABLE app');
sql(q{CREATE SUBSCRIPTION s CONNECTION $$} . $node->connstr('postgres') . q{$$ PUBLICATION only_app}, $copy);
$copy->wait_for_subscription_sync($node, 's');
sql('INSERT INTO app VALUES (7)');
poll_until($copy, q{SELECT output = '7' AND status = 'completed' FROM romancy.instances}, 'a row that is replicated starts a workflow, which runs');

# --- all of it into another server (an upgrade by logical replication), which then takes over

my $next = romancy_node('next', _init => [ allows_streaming => 'logical' ], %conf, 'romancy.enabled' => 'off');
sql(q{CREATE TABLE app (id int PRIMARY KEY); CREATE TABLE seen (what text);} . $functions =~ s/SELECT romancy.*//gr, $next);
sql(q{CREATE SUBSCRIPTION all_of_it CONNECTION $$} . $node->connstr('postgres') . q{$$ PUBLICATION everything}, $next);
$next->wait_for_subscription_sync($node, 'all_of_it');
my $id = sql(q{SELECT romancy.start_workflow('all_of_it', '1')});
# (it waits for activities in the database before that, which the new server would run itself, a moment later)
poll_until($node, q{SELECT count(*) = 1 FROM romancy.activity_tasks WHERE queue = 'q'}, 'one waits for a program');
sql(q{ALTER SYSTEM SET romancy.enabled = 'off'});
$node->reload;
$node->wait_for_catchup('all_of_it');
sql('ALTER SUBSCRIPTION all_of_it DISABLE; ALTER SUBSCRIPTION all_of_it SET (slot_name = NONE); DROP SUBSCRIPTION all_of_it', $next);
sql(q{ALTER SYSTEM SET romancy.enabled = 'on'}, $next);
$next->reload;
poll_until(sub { slurp_file($next->logfile) =~ /workers do not run in database "postgres".*?HINT.*?adopt_database/s }, 'the new server waits, and says so');
sql('SELECT romancy.adopt_database()', $next);
is(sql(q{SELECT count(romancy.complete_activity(token, '1')) FROM romancy.fetch_activities('q', 'me', 100)}, $next), '1', 'the task is there');
poll_until($next, qq{SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$id'}, 'adopted, it goes on');
sql(q{SELECT romancy.start_workflow('all_of_it', '1') FROM generate_series(1, 5)}, $next);
poll_until(sub {
	sql(q{SELECT romancy.complete_activity(token, '1') FROM romancy.fetch_activities('q', 'me', 100)}, $next);
	return sql(q{SELECT count(*) FROM romancy.instances WHERE status = 'completed'}, $next) eq '6';
}, 'and what is new gets ids that are free');

$_->stop('fast') for $next, $copy, $node;
unlike(slurp_file($_->logfile), qr/ERROR|PANIC|TRAP|terminated by signal/, 'the log has no error') for $node, $copy, $next;
done_testing();
