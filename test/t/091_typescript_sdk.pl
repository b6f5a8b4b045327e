# The library for TypeScript: it compiles, and a sign-up service, fan-outs (by handles and by promises), a race
# of steps, errors and a changed program run in test sessions and with real workers, of which one is killed. Would
# catch a run that differs between being kept and being replayed, and a step lost over a worker's death.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $modules = $ENV{NODE_PATH} // '';
if (!-f "$modules/typescript/bin/tsc")
{
	plan skip_all => 'there is no compiler of TypeScript (npm install typescript)';
}

my $node = romancy_node('typescript_sdk', 'max_connections' => 100, 'autovacuum' => 'off');
my $sdk = PostgreSQL::Test::Utils::tempdir() . '/sdk';
local $ENV{ROMANCY_TEST_URL} =
  sprintf('postgres:///postgres?host=%s&port=%s&user=%s', $node->host, $node->port, $ENV{PGUSER} // getpwuid($<));

my $out = '';
ok(IPC::Run::run([ 'cp', '-r', "$FindBin::RealBin/../../sdk/typescript", $sdk ]), 'a copy');
unlink "$sdk/node_modules";
symlink $modules, "$sdk/node_modules" or BAIL_OUT("symlink: $!") unless -e "$sdk/node_modules";
ok(IPC::Run::run([ 'node', "$modules/typescript/bin/tsc", '-p', $sdk ], '>&', \$out), 'it compiles') or diag($out);
ok(IPC::Run::run([ 'node', '--test', "$sdk/test/signup.test.mjs" ], '>&', \$out), 'its tests pass') or diag($out);

$node->stop;
done_testing();
