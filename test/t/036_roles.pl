# Roles that own workflows are renamed, dropped, locked out, or lose their rights while
# work waits. The work of others goes on; what cannot run is paused with the reason, and
# goes on when it is mended. It would catch a worker that runs work as another role.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = romancy_node('roles', 'romancy.max_workers' => 6, 'max_worker_processes' => 12, 'romancy.executors' => 4,
	'romancy.timer_interval' => '300ms', 'romancy.resumption_interval' => '300ms', 'romancy.retry_backoff_max' => '1s');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sql(q{
	CREATE TABLE seen (who name DEFAULT current_user, instance uuid);
	GRANT ALL ON seen TO public;
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO public.seen (instance) VALUES (romancy.instance_id()); RETURN to_jsonb(current_user); END $$;
	CREATE FUNCTION steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note');
		PERFORM romancy.sleep(coalesce($1 #>> '{}', '500 ms')::interval);
		RETURN romancy.activity('note');
	END $$;
});
my @roles = qw(renamed dropped nologin expired limited member fine);
for my $role (@roles)
{
	sql("CREATE ROLE $role LOGIN; SELECT romancy.grant_usage('$role'); GRANT CREATE ON SCHEMA public TO $role");
}
my %id;
sub becomes
{
	my ($role, $status, $state, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, "SELECT status || ' ' || coalesce(error->>'sqlstate', '-') FROM romancy.instances WHERE instance_id = '$id{$role}'", "$role: $what", expected => "$status $state");
}
# (long enough for what follows on a slow machine: a role that is not there is found by the timer itself, not by the sweep)
@id{@roles} = split /\n/, sql(join ' ', map { "SET ROLE $_; SELECT romancy.start_workflow('steps', '\"12 s\"');" } @roles);
poll_until($node, q{SELECT count(*) = 7 FROM romancy.instances WHERE status = 'waiting_for_timer'}, 'all sleep');

sql(q{
	ALTER ROLE renamed RENAME TO other_name;
	REASSIGN OWNED BY dropped TO postgres; DROP OWNED BY dropped; DROP ROLE dropped;
	ALTER ROLE nologin NOLOGIN; ALTER ROLE expired VALID UNTIL '2000-01-01'; ALTER ROLE limited CONNECTION LIMIT 0;
	REVOKE CREATE ON SCHEMA public FROM member; SELECT romancy.revoke_usage('member');
});
becomes($_, 'completed', '-', 'completes') for qw(fine nologin expired limited);
# a role that still may run functions, but not the API any more, gets one of two answers, and never those of another role
poll_until($node, "SELECT status IN ('completed', 'paused', 'failed') FROM romancy.instances WHERE instance_id = '$id{member}'", 'member: comes to an end, or waits for its right');
becomes($_, 'paused', '42704', 'is paused, for there is no such role') for qw(renamed dropped);
is(sql(qq{SELECT string_agg(DISTINCT who, ',') FROM seen WHERE instance IN ('$id{renamed}', '$id{dropped}')}), 'dropped,renamed', 'nothing was done as anybody else');
like(sql(qq{SELECT error->>'hint' FROM romancy.instances WHERE instance_id = '$id{dropped}'}), qr/\w/, 'with a hint');
sql(q{ALTER ROLE other_name RENAME TO renamed; CREATE ROLE dropped});
sql("SELECT romancy.resume_workflow('$id{renamed}'), romancy.grant_usage('dropped'), romancy.resume_workflow('$id{dropped}')");
becomes($_, 'completed', '-', 'with the name back it goes on') for qw(renamed dropped);
is(sql(q{SELECT count(*) FROM seen WHERE who NOT IN ('renamed', 'dropped', 'nologin', 'expired', 'limited', 'member', 'fine')}), '0', 'each ran as its owner alone');

# found by the scan of a start, not by its timer: paused as well; ended by terminate_workflow, or it goes on when the role is back
sql(q{CREATE ROLE gone; SELECT romancy.grant_usage('gone'); GRANT CREATE ON SCHEMA public TO gone});
my @gone = split /\n/, sql(q{SET ROLE gone; SELECT romancy.start_workflow('steps', '"1 s"', start_at => now() + interval '2 s') FROM generate_series(1, 2)});
sql(q{ALTER SYSTEM SET romancy.enabled = off});
$node->restart;
sql(q{SELECT romancy.revoke_usage('gone'); REASSIGN OWNED BY gone TO postgres; DROP OWNED BY gone; DROP ROLE gone; ALTER SYSTEM RESET romancy.enabled});
$node->restart;
poll_until($node, qq{SELECT string_agg(DISTINCT status || (error->>'sqlstate'), '') FROM romancy.instances WHERE instance_id IN ('$gone[0]', '$gone[1]')}, 'a role is dropped while the server does not run workflows: paused', expected => 'paused42704');
sql("SELECT romancy.terminate_workflow('$gone[0]')");
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$gone[0]'", 'it can be terminated', expected => 'cancelled');
sql("CREATE ROLE gone; SELECT romancy.grant_usage('gone'), romancy.resume_workflow('$gone[1]')");
poll_until($node, "SELECT status FROM romancy.instances WHERE instance_id = '$gone[1]'", 'the other goes on with the role', expected => 'completed');

# in the middle of a load
sql(q{CREATE ROLE busy; SELECT romancy.grant_usage('busy')});
sql(q{SET ROLE busy; SELECT count(*) FROM romancy.start_workflows('steps', array(SELECT '"300 ms"'::jsonb FROM generate_series(1, 200)))});
usleep(200_000);
sql(q{ALTER ROLE busy RENAME TO idle});
usleep(700_000);
sql(q{ALTER ROLE idle RENAME TO busy});
usleep(100_000);
is(sql(q{CALL romancy.run_workflow('steps', timeout => '30s')}), '"postgres"', 'others run meanwhile');
poll_until($node, q{SELECT bool_and(status IN ('paused', 'completed')) FROM romancy.instances WHERE owner = 'busy'}, 'a role is renamed under load and back: some may be paused');
sql(q{SELECT romancy.resume_workflow(instance_id) FROM romancy.instances WHERE owner = 'busy' AND status = 'paused'});
poll_until($node, q{SELECT bool_and(status = 'completed') AND count(*) = 200 FROM romancy.instances WHERE owner = 'busy'}, 'all complete');
is(sql(q{SELECT count(*) FROM seen WHERE who = 'busy'}), '400', 'each step once, as that role');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'the log is clean');
my @noise = slurp_file($node->logfile) =~ /LOG:  role "[^"]*" does not exist/g;
cmp_ok(scalar(@noise), '<', 10, 'and not full');
$node->stop('fast');
done_testing();
