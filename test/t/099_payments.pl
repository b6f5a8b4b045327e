# examples/payments, as `make demo-http` runs it: orders whose steps are half SQL and half requests to services that fail, limit, hang and
# lose their answers, events to two receivers of which one is down for a while, and a kill -9 of the process that sends the requests. It would catch an
# example that does not run, an order that is charged or sent twice or not undone, an event that is lost or out of order, and a proof that proves nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancyTest;
use Test::More;

has_http() or plan skip_all => 'this build has no libcurl';

my $node = romancy_node('payments', _extension => 0, 'restart_after_crash' => 'on', 'max_connections' => 40);
my $example = ($ENV{ROMANCY_WORK} ? "$ENV{ROMANCY_WORK}/tree" : "$FindBin::RealBin/../..") . '/examples/payments';

my ($out, $err);
my $ok;
{
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
	$ok = IPC::Run::run([ "$example/demo.sh", '--inside' ], '<', \'', '>', \$out, '2>', \$err);
}
ok($ok, 'the example runs, and its books balance') or diag("$out\n$err");
like($err, qr/^ERROR:  workflows of role "shop" may not send HTTP requests/m, 'nothing may be reached at first');
is(() = $err =~ /^ERROR/mg, 1, 'and that is the only error');
is(() = $out =~ /\| ok\s*$/mg, 8, 'eight sums, each of them right');
like($out, qr/^\s*accounting \| open /m, 'a receiver was down');
like($out, qr/^ payments\s+\| \Q$_\E\s+\|\s+[1-9]/m, "the payment provider $_") for 'fails', 'limits', 'hangs', 'loses the answer', 'repeats its answer';
like($out, qr/CompensationExecuted \| charge:1.*CompensationExecuted \| reserve_stock:1/s, 'an order is undone, last first');

# the proof fails where a book differs
my $verify = sub {
	my ($change) = @_;
	my ($rc, $o, $e) = $node->psql('postgres', "SET search_path = shop; BEGIN; $change;\n" . slurp_file("$example/verify.sql"), on_error_stop => 1);
	return $e;
};
is($verify->('SELECT'), '', 'nothing differs');
for my $what (qw(charge refund parcel))
{
	like($verify->("INSERT INTO books (SELECT line FROM books WHERE line->>'what' = '$what' LIMIT 1)"), qr/the books do not balance/, "a second $what is found");
	like($verify->("DELETE FROM books WHERE ctid = (SELECT min(ctid) FROM books WHERE line->>'what' = '$what')"), qr/the books do not balance/, "a lost $what is found");
}
like($verify->("DELETE FROM books WHERE line->>'service' = 'accounting' AND line->>'id' = (SELECT min(line->>'id') FROM books WHERE line->>'service' = 'accounting')"), qr/the books do not balance/, 'a lost event is found');

$node->stop;
done_testing();
