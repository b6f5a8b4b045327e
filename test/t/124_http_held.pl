# Servers of tests end with their test. It would catch one that is left behind by a test that was killed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancyTest;
use Test::More;

has_http() or plan skip_all => 'this build has no libcurl';

my $node = romancy_node('httpheld', 'max_connections' => 30, 'autovacuum' => 'off', 'romancy.http_timeout' => '10min');

# ---- a server ends with its test
my $file = $node->basedir . '/left';
my $test = fork // die "fork: $!";
if ($test == 0)
{
	my $server = RomancyHttp->new($node);
	append_to_file($file, $server->{run}{KIDS}[0]{PID});
	kill 'KILL', $$;
}
waitpid $test, 0;
my $left = slurp_file($file);
like($left, qr/^\d+$/, 'a server was started by a test that is killed');
poll_until(sub { !kill 0, $left }, 'and ends with it');
unlink $node->basedir . '/http.port';

$node->stop;
done_testing();
