# Members of which nothing is known begin at once, each by another executor: no executor takes several of them to find out, one after the
# other, that they are long. It would catch a cold start in which a handler is evaluated in vain, and executors that come and find
# nothing because the first one has it all. A configuration that is read anew while workers start reaches them.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('cold_start', 'romancy.executors' => 4, 'romancy.max_workers' => 8, 'max_worker_processes' => 16);
sub value { return $node->safe_psql('postgres', $_[0]) }
sub settled { poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, $_[0]) }

# met() is over when four run it at the same time; the log tells how often the handler was evaluated
value(q{
	CREATE FUNCTION met(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(1, pg_backend_pid());
		WHILE (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1) < 4 AND NOT pg_try_advisory_lock_shared(2, 0) LOOP
			PERFORM pg_sleep(0.001);
		END LOOP;
		PERFORM pg_sleep(0.05);
		RETURN to_jsonb(pg_backend_pid());
	END $$;
	CREATE FUNCTION one(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		RAISE LOG 'the handler is evaluated';
		RETURN romancy.activity('met');
	END $$});
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(2, 0)');
value(q{SELECT romancy.start_workflow('one') FROM generate_series(1, 4)});
settled('four instances, by four executors that were not there');
is(value('SELECT count(DISTINCT output) FROM romancy.instances'), '4', 'each by another one');
is(scalar(() = slurp_file($node->logfile) =~ /LOG: +the handler is evaluated/g), 4, 'none was evaluated in vain (what is replayed is not logged again)');
$holder->quit;

# Others are started for a burst of what nothing is known of, and turn out to be quick: they share transactions after that
value(q{
	CREATE FUNCTION quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(txid_current()); END $$;
	CREATE FUNCTION one_quick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('quick'); END $$;
	SELECT romancy.start_workflow('one_quick') FROM generate_series(1, 500)});
settled('five hundred quick ones');
cmp_ok(value(q{SELECT count(DISTINCT output) FROM romancy.instances WHERE workflow = 'one_quick'}), '<', 200, 'most in a few transactions');

# Ended executors come again with the settings of now
for my $level (qw(256 512 256))
{
	value("ALTER SYSTEM SET work_mem = '$level'; SELECT pg_reload_conf()");
	value(q{CREATE OR REPLACE FUNCTION shows(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(current_setting('work_mem')); END $$});
	value(q{SELECT pg_terminate_backend(pid) FROM romancy.workers WHERE kind = 'executor'});
	my $id = value(q{SELECT romancy.start_workflow('shows')});
	settled("a run with $level");
	is(value("SELECT output #>> '{}' FROM romancy.instances WHERE instance_id = '$id'"), "${level}kB", 'with the new setting');
}

done_testing();
