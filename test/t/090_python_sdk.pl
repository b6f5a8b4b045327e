# The library for Python: a sign-up service, a fan-out, a race of steps, errors, a changed program and the
# command line, in test sessions and with real workers, of which one is killed. Would catch a step that is
# lost or done twice over a worker's death, and a library that the server's protocol has left behind.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('python_sdk', 'max_connections' => 100, 'autovacuum' => 'off');
my $sdk = "$FindBin::RealBin/../../sdk/python";
local $ENV{PYTHONPATH} = "$sdk/src";
local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
local $ENV{ROMANCY_TEST_CONNINFO} = $node->connstr('postgres');

for my $class (qw(Sessions Missing CommandLine RealWorker))
{
	my $out;
	ok(IPC::Run::run([ '/usr/bin/python3', "$sdk/tests/test_signup.py", '-v', $class ], '>&', \$out), $class)
	  or diag($out);
}

$node->stop;
done_testing();
