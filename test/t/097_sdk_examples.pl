# The examples of each library, as a new user runs them: by a role with usage and nothing else, through a connection pool
# in transaction mode where there is one. A sign-up in at most 25 lines, a saga that is undone, a fan-out with progress,
# an agent whose tool takes longer than its lease. Would catch an example that does not run as it stands, a library that
# needs a right or a session of its own, and a lease that is not renewed beside the work.
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

my $sdk = "$FindBin::RealBin/../../sdk";
my $node = romancy_node('sdk_examples', 'max_connections' => 100, 'autovacuum' => 'off');
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my ($host, $port) = ($node->host, $node->port);
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as_user { return sql("SET SESSION AUTHORIZATION newcomer; $_[0]") }
sql(q{CREATE ROLE newcomer LOGIN; SELECT romancy.grant_usage('newcomer')});

# a pool, where there is one
my $bouncer = $ENV{ROMANCY_PGBOUNCER} // '';
my $pool;
if (-x "$bouncer/pgbouncer")
{
	append_to_file("$dir/pool.ini", <<END);
[databases]
postgres = host=$host port=$port user=newcomer
[pgbouncer]
listen_addr =
listen_port = $port
unix_socket_dir = $dir
auth_type = any
pool_mode = transaction
default_pool_size = 12
END
	$pool = IPC::Run::start([ "$bouncer/pgbouncer", "$dir/pool.ini" ], '<', '/dev/null', '>', "$dir/log", '2>', "$dir/log");
	$host = $dir;
	my $there = sub { my ($o, $e) = ('', ''); return IPC::Run::run([ 'psql', '-XqAtc', 'select 1', "host=$dir port=$port dbname=postgres user=newcomer" ], '>', \$o, '2>', \$e) };
	poll_until($there, 'the pool answers') or diag(slurp_file("$dir/log"));
}
else { note('there is no PgBouncer: the examples connect to the server') }

# how each language's example is run, and where it stands
my @languages = sdk_languages();
my %source = (python => 'python/examples/%s.py', typescript => 'typescript/examples/%s.ts', go => 'go/examples/%s/main.go');
my %run = map { my $language = $_; ($language => sub { return sdk_example($language, $_[0]) }) } @languages;

my ($proc, $log);
sub begin
{
	my ($language, $example) = @_;
	my %env = (PGHOST => $host, PGPORT => $port, PGUSER => 'newcomer', PGDATABASE => 'postgres', PYTHONPATH => "$sdk/python/src", PYTHONDONTWRITEBYTECODE => 1);
	local %ENV = (%ENV, %env);
	delete $ENV{PGAPPNAME};
	$log = "$dir/$language.$example.log";
	$proc = IPC::Run::start([ $run{$language}->($example) ], '<', '/dev/null', '>', $log, '2>', $log);
	poll_until($node, "SELECT count(*) = 1 FROM romancy.workflows WHERE owner = 'newcomer' AND name = '$example' AND defined", "$language: $example has defined its workflow")
	  or diag(slurp_file($log));
	return;
}

sub finish
{
	my ($what) = @_;
	is(sdk_stop($proc), 'ended', "$what stops when asked") or diag(slurp_file($log));
	return;
}
sub start { my ($name, $input) = @_; $input =~ s/'/''/g; return as_user("SELECT romancy.start_workflow('$name', '$input')") }
sub result { return as_user("CALL romancy.await_result('$_[0]', '90 s')") }

for my $language (@languages)
{
	my @lines = grep { /\S/ && !m{^\s*(//|/\*|\*|#|""")} } split /\n/, slurp_file(sprintf("$sdk/$source{$language}", 'signup'));
	cmp_ok(scalar(@lines), '<=', 25, "$language: a sign-up in at most 25 lines");

	begin($language, 'signup');
	my $id = start('signup', '"eva@x"');
	as_user("SELECT romancy.send_to('$id', 'confirmed')");
	is(result($id), '"account 5"', "$language: signup");
	finish("$language: signup");
	like(slurp_file($log), qr/to eva\@x: please confirm\n.*to eva\@x: welcome\n/s, "$language: its mails");

	begin($language, 'payment');
	is(result(start('payment', '{"item": "tea", "cents": 500, "address": "Rome"}')), '"parcel to Rome"', "$language: payment");
	$id = start('payment', '{"item": "tea", "cents": 500}');
	my ($rc, $o, $e) = $node->psql('postgres', "SET SESSION AUTHORIZATION newcomer; CALL romancy.await_result('$id', '90 s')");
	like($e, qr/there is no address/, "$language: a payment that fails");
	is(as_user("SELECT string_agg(activity_id, ' ' ORDER BY seq) FROM romancy.get_history('$id') WHERE event_type = 'CompensationExecuted'"),
		'charge:1 reserve:1', "$language: is undone, last first");
	finish("$language: payment");
	like(slurp_file($log), qr/refunded 500 cents\n.*released stock of tea\n/s, "$language: by its activities");

	begin($language, 'report');
	$id = start('report', '["a", "bb", "ccc", "dddd"]');
	is(result($id), '10', "$language: report");
	is(as_user("SELECT completed, total, note FROM romancy.get_progress('$id')"), '4|4|measured', "$language: its progress");
	finish("$language: report");

	begin($language, 'agent');
	$id = start('agent', '"how many words are these"');
	is(result($id), '"it has 5 words"', "$language: agent");
	is(as_user("SELECT sum(coalesce((data->'retry'->>'total_attempts')::int, 1)) FROM romancy.get_history('$id') WHERE event_type = 'ActivityCompleted'"),
		'3', "$language: each step was tried once, though a tool takes longer than the lease");
	finish("$language: agent");
}
if ($pool) { $pool->signal('INT'); eval { $pool->finish }; }
$node->stop('fast');
done_testing();
