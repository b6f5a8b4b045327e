# Times of schedules against cronsim, which follows Debian's cron: random expressions in twelve zones with odd rules, near the changes
# of their clocks. Where they differ, a walk minute by minute decides, and the difference has one of a few reasons (test/cron/oracle.py).
# It would catch a time too many, too few or at another place, whatever the expression and the zone. All 20,000 expressions: make oracle (ROMANCY_CRON_EXPRESSIONS, SEED).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

# an environment of its own, in which the server's driver for Python (python3-psycopg) is seen
my $venv = PostgreSQL::Test::Utils::tempdir();
my ($out, $err) = ('', '');
my $ok = IPC::Run::run([ 'python3', '-m', 'venv', '--system-site-packages', $venv ], '<', \'', '>', \$out, '2>', \$err) &&
	IPC::Run::run([ "$venv/bin/python", '-m', 'pip', '-q', '--disable-pip-version-check', 'install', 'cronsim' ], '<', \'', '>', \$out, '2>', \$err) &&
	IPC::Run::run([ "$venv/bin/python", '-c', 'import cronsim, psycopg' ], '<', \'', '>', \$out, '2>', \$err);
plan skip_all => 'cronsim cannot be installed: ' . (split /\n/, "$out$err" || '?')[-1] unless $ok;

my $node = romancy_node('oracle', 'romancy.enabled' => 'off');
local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
$ok = IPC::Run::run([ "$venv/bin/python", "$FindBin::RealBin/../cron/oracle.py", $ENV{ROMANCY_CRON_EXPRESSIONS} // 1000, $ENV{SEED} // 1 ],
	'<', \'', '>', \$out, '2>', \$err);
ok($ok, 'all equal, or different for a known reason') or diag("$out$err");
like($out, qr/^compared \d{4,}, /m, 'thousands were compared');
note($out);
$node->stop;
done_testing();
