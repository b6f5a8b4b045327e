# A crash is charged to the turn that the process was running, and to no other: not when a client's session is
# killed, not by an immediate shutdown, a kill of the postmaster or pg_terminate_backend, not to what other executors run, and not to
# others in the same transaction. It would catch instances that are paused with RM011 though they are innocent.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('charges', 'restart_after_crash' => 'on', 'romancy.executors' => 2, 'romancy.resumption_interval' => '1s', 'romancy.timer_interval' => '1s');

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

sql(q{
	CREATE TABLE held (what text);
	INSERT INTO held VALUES ('guilty'), ('innocent');
	CREATE FUNCTION hold(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN WHILE EXISTS (SELECT FROM held WHERE what = input #>> '{}') LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN input; END $$;
	CREATE FUNCTION holds(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('hold', $1); END $$;
});

# pid_of($id): the executor that is in its activity, at last
sub pid_of
{
	my ($id) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until($node, qq{SELECT count(*) = 1 FROM romancy.workers w JOIN pg_stat_activity a USING (pid) WHERE w.instance_id = '$id' AND a.wait_event = 'PgSleep'}, 'it runs');
	return sql(qq{SELECT pid FROM romancy.workers WHERE instance_id = '$id'});
}
sub charged { my ($id) = @_; return sql(qq{SELECT crashes FROM romancy.t_instance WHERE instance_id = '$id'}) }

my $innocent = sql(q{SELECT romancy.start_workflow('holds', '"innocent"')});
for my $round (1 .. 4)
{
	pid_of($innocent);
	my $client = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $client->query('SELECT pg_backend_pid()');
	kill 'KILL', $pid;
	eval { $client->quit };
	poll_until($node, qq{SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid}, "a client's session was killed");
}
pid_of($innocent);
is(charged($innocent), '0', 'clients that crash charge nothing');
for my $round (1 .. 4)
{
	pid_of($innocent);
	$node->stop('immediate');
	$node->start;
}
pid_of($innocent);
is(charged($innocent), '0', 'nor do immediate shutdowns');
for my $round (1 .. 4)
{
	my $pid = pid_of($innocent);
	sql("SELECT pg_terminate_backend($pid, 60000)");
}
pid_of($innocent);
is(charged($innocent), '0', 'nor does who ends an executor');
for my $round (1 .. 2)
{
	pid_of($innocent);
	$node->kill9;
	start_again($node);
}
pid_of($innocent);
is(charged($innocent), '0', 'nor does a postmaster that is killed');

my $guilty = sql(q{SELECT romancy.start_workflow('holds', '"guilty"')});
for my $round (1 .. 3)
{
	pid_of($innocent);
	my $pid = pid_of($guilty);
	kill 'KILL', $pid;
	poll_until($node, qq{SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid}, 'its executor was killed');
}
poll_until($node, qq{SELECT status = 'paused' AND error ->> 'sqlstate' = 'RM011' FROM romancy.instances WHERE instance_id = '$guilty'}, 'what was running there is paused in the end');
pid_of($innocent);
is(charged($innocent), '0', 'what another executor ran is not charged');
sql(q{DELETE FROM held});
poll_until($node, qq{SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$innocent'}, 'and completes');
sql(qq{SELECT romancy.resume_workflow('$guilty')});
poll_until($node, qq{SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$guilty'}, 'so does the other, resumed');

$node->stop('fast');
done_testing();
