# Behind a connection pool in transaction mode: the calls that wait, and workers of the libraries, whose polls and
# whose other calls are served by whatever server connection is free. A worker that is to stop
# ends its own call, and no other's (pg_cancel_backend of a process that the pool has given to another by then did).
# It would catch a call that relies on its session, and a cancel that hits another's.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancySdk;
use RomancyTest;
use Test::More;

my $bouncer = $ENV{ROMANCY_PGBOUNCER} // '';
plan skip_all => 'PgBouncer is missing: install patchelf, or PgBouncer of 1.19 or newer' unless -x "$bouncer/pgbouncer";
my $node = romancy_node('pool', 'max_connections' => 100);
my $user = getpwuid($<);
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $port = $node->port;
append_to_file("$dir/pool.ini", <<END);
[databases]
postgres = host=@{[ $node->host ]} port=$port user=$user
[pgbouncer]
listen_addr =
listen_port = $port
unix_socket_dir = $dir
auth_type = any
pool_mode = transaction
default_pool_size = 8
END
my $pool = IPC::Run::start([ "$bouncer/pgbouncer", "$dir/pool.ini" ], '<', '/dev/null', '>', "$dir/log", '2>', "$dir/log");
my $through = "host=$dir port=$port dbname=postgres user=$user";
my $there = sub { my ($o, $e) = ('', ''); return IPC::Run::run([ 'psql', '-XqAtc', 'select 1', $through ], '>', \$o, '2>', \$e) };
poll_until($there, 'the pool answers') or diag(slurp_file("$dir/log"));

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub result { return sql("CALL romancy.await_result('$_[0]', '60 s')") }
my $polls = q{FROM pg_stat_activity WHERE query LIKE 'call romancy.poll_%' AND state = 'active' AND wait_event_type = 'Extension'};

# sessions through the pool, in the order in which they are started
sub session
{
	my ($sql) = @_;
	my %s = (out => '', err => '');
	$s{h} = IPC::Run::start([ 'psql', '-XqAtc', $sql, $through ], '<', '/dev/null', '>', \$s{out}, '2>', \$s{err});
	return \%s;
}
sub ended { my ($s) = @_; $s->{h}->finish; return $s->{out} . $s->{err} }

sql(q{
	SELECT romancy.define_activity('work', queue => 'jobs', retry => '{"initial_interval": "20ms", "max_attempts": 3}');
	SELECT romancy.define_activity('upper', queue => 'jobs');
	SELECT romancy.define_activity('hand', queue => 'hands');
	SELECT romancy.define_activity('idle', queue => 'idle');
	SELECT romancy.define_workflow('greet', queue => 'code');
	CREATE FUNCTION one(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
		PERFORM romancy.set_progress(1, 2);
		RETURN romancy.activity(coalesce(i->>'name', 'work'), i, 'step'); END $$;
});

# each of the calls that wait
my $poller = session(q{call romancy.poll_activities('hands', 'w', wait => '60s')});
poll_until($node, "SELECT count(*) = 1 $polls AND backend_xmin IS NULL", 'a poll through the pool waits, without a snapshot');
my $id = sql(q{SELECT romancy.start_workflow('one', '{"name": "hand"}')});
my $token = (ended($poller) =~ /"token": "([^"]+)"/)[0];
ok(defined $token, 'and is woken by a task');
my $waiter = session("call romancy.await_result('$id', '60s')");
my $follower = session(qq{call romancy.await_progress('$id', '{"finished": false, "completed": 1}', '60s')});
poll_until($node, q{SELECT count(*) = 2 FROM pg_stat_activity WHERE query LIKE 'call romancy.await_%' AND state = 'active' AND wait_event_type = 'Extension'}, 'await_result and await_progress wait');
is(ended(session("select romancy.complete_activity('$token', '7')")), "t\n", 'the task is completed over another server connection');
is(ended($waiter), "7\n", 'await_result');
like(ended($follower), qr/"finished": true/, 'await_progress');
is(ended(session(q{call romancy.poll_workflows('code', 'w', wait => '10ms')})), "[]\n", 'poll_workflows');
is(ended(session(q{call romancy.run_workflow('one', '{"name": "idle"}', timeout => '10ms')})) =~ /timeout/ ? 1 : 0, 1, 'run_workflow');

# workers
for my $ext (sdk_languages())
{
	my (%procs, @logs);
	for my $what ([ 'activities', 'jobs' ], [ 'workflows', 'code' ])
	{
		my $log = $node->basedir . "/$what->[0].$ext.log";
		push @logs, $log;
		$procs{ $what->[1] } = sdk_start(sdk_url($node, $user, $dir), $log, sdk_command($ext, 'worker', @$what));
	}
	my $ids = sql(q{SELECT string_agg(id::text, ' ') FROM romancy.start_workflows('greet', array(SELECT jsonb_build_object('name', 'n' || g, 'upper', true) FROM generate_series(1, 20) g)) id});
	is(join(' ', map { result($_) } split / /, $ids), join(' ', map { qq({"text": "HELLO, N$_"}) } 1 .. 20), "$ext: twenty workflows outside, with activities outside");
	poll_until($node, "SELECT count(*) = 2 $polls", "$ext: both workers wait");

	my $other = session(q{call romancy.poll_activities('hands', 'other', wait => '60s')});
	poll_until($node, "SELECT count(*) = 3 $polls", "$ext: another one waits");
	my $log_before = -s $node->logfile;
	is(sdk_stop($procs{code}), 'ended', "$ext: one is stopped") or diag(map { slurp_file($_) } @logs);
	poll_until($node, "SELECT count(*) = 2 $polls", "$ext: the others wait still");
	is(scalar(() = slurp_file($node->logfile, $log_before) =~ /canceling statement due to user request/g), 1, "$ext: its own call was ended, and not by its time");
	$id = sql(q{SELECT romancy.start_workflow('one', '{"name": "hand"}')});
	$token = (ended($other) =~ /"token": "([^"]+)"/)[0];
	ok(defined $token, "$ext: and get what comes") and sql("SELECT romancy.complete_activity('$token')");
	is(sdk_stop($procs{jobs}), 'ended', "$ext: the other is stopped") or diag(map { slurp_file($_) } @logs);
	is(slurp_file($_), '', "$ext: nothing to complain of") for @logs;
}
$pool->signal('INT');
eval { $pool->finish };
$node->stop('fast');
done_testing();
