# Mistakes of newcomers' programs, and accidents that they meet, in each library: calls in "finally" while the code waits, changed programs that catch
# everything, transactions that fail, values that JSON cannot hold, promises and goroutines that are none of ours, tasks that a worker does not
# have, calls that wait beside others, typos in SQL, and the command line on a terminal. It would catch a run that goes on after its end, an error
# that the next run does not see, a worker that dies of one instance, and an error that says something else than what is wrong.
# Takes 60 s.
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

my $node = romancy_node('sdk_faults', 'max_connections' => 200, 'autovacuum' => 'off');
my $sdk = "$FindBin::RealBin/../../sdk";
my %languages = map { $_ => 1 } sdk_languages();
local $ENV{ROMANCY_TEST_URL} = sprintf('postgres:///postgres?host=%s&port=%s&user=%s', $node->host, $node->port, $ENV{PGUSER} // getpwuid($<));
my $out;

if ($languages{python})
{
	local %ENV = (%ENV, sdk_env(), ROMANCY_TEST_CONNINFO => $node->connstr('postgres'));
	for my $class (qw(Sessions Values Client CommandLine RealWorker))
	{
		ok(IPC::Run::run([ '/usr/bin/python3', "$sdk/python/tests/test_faults.py", '-v', $class ], '<', '/dev/null', '>&', \$out), "python: $class") or diag($out);
	}
}
if ($languages{typescript})
{
	ok(IPC::Run::run([ 'node', '--test', RomancySdk::sdk_built('ts') . '/test/faults.test.mjs' ], '<', '/dev/null', '>&', \$out), 'typescript') or diag($out);
}
if ($languages{go})
{
	local $ENV{GOTOOLCHAIN} = 'local';
	local $ENV{GOFLAGS} = '-modcacherw -buildvcs=false';
	local $ENV{GOCACHE} = $ENV{GOCACHE} && -w $ENV{GOCACHE} ? $ENV{GOCACHE} : PostgreSQL::Test::Utils::tempdir() . '/cache';
	ok(IPC::Run::run([ 'go', 'test', '-C', RomancySdk::sdk_built('go'), '-count=1', '-run', 'TestFaults', '.' ], '<', '/dev/null', '>&', \$out), 'go') or diag($out);
}
$node->stop('fast');
done_testing();
