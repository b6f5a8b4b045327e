# The library for Go: a sign-up service, a fan-out, a race of steps, errors and a changed program run in test
# sessions and with real workers, of which one is killed. Would catch a run that differs between being kept and
# being replayed, and a step lost over a worker's death.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my ($out, $err) = ('', '');
local $ENV{GOTOOLCHAIN} = 'local';
if (!eval { IPC::Run::run([ 'go', 'version' ], '>', \$out, '2>', \$err) } || $out !~ /go1\.(\d+)/ || $1 < 21)
{
	plan skip_all => 'there is no Go 1.21 or newer';
}

my $node = romancy_node('go_sdk', 'max_connections' => 100, 'autovacuum' => 'off');
my $dir = PostgreSQL::Test::Utils::tempdir();
local $ENV{GOCACHE} = "$dir/cache" unless $ENV{GOCACHE} && -w $ENV{GOCACHE};
local $ENV{GOFLAGS} = '-modcacherw -buildvcs=false';
local $ENV{ROMANCY_TEST_URL} =
  sprintf('postgres:///postgres?host=%s&port=%s&user=%s', $node->host, $node->port, $ENV{PGUSER} // getpwuid($<));

ok(IPC::Run::run([ 'cp', '-r', "$FindBin::RealBin/../../sdk/go", "$dir/sdk" ]), 'a copy');
chdir "$dir/sdk" or BAIL_OUT("chdir: $!");
ok(IPC::Run::run([ 'go', 'vet', './...' ], '>&', \$out), 'go vet finds nothing') or diag($out);
ok(IPC::Run::run([ 'go', 'test', '-count=1', './...' ], '>&', \$out), 'its tests pass') or diag($out);

$node->stop;
done_testing();
