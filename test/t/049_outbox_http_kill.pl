# The process that sends events, and the server, are killed (SIGKILL) under load, round after round, while the receiver fails now and then. Each event of a transaction that
# committed arrives, none of one that did not, by its id once at a receiver that drops doubles, and each key in its order. It would catch an event that is
# lost with its process or acknowledged before it arrived, a lease that nothing ends, two events of a key under way, and a worker that does not come back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancyLoad;
use RomancyTest;
use Test::More;

has_http() or plan skip_all => 'this build has no libcurl';

my $rounds = $ENV{ROMANCY_OUTBOX_HTTP_KILLS} // 26;
my $node = romancy_node('outbox_http_kill', 'romancy.outbox_interval' => '1s', 'romancy.sweep_jitter' => 0, 'romancy.outbox_max_attempts' => 1000000, 'synchronous_commit' => 'on',
	'max_worker_processes' => 12, 'restart_after_crash' => 'on', 'romancy.worker_idle_timeout' => '10s');
my $http = RomancyHttp->new($node);
my $url = $http->url;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub try { return eval { sql($_[0]) } // '' }

# a number of a key is used once, whatever dies; every seventh transaction is rolled back
sql(qq{
	SELECT romancy.allow_http('postgres', '$url/*', private => true), romancy.set_secret('sig', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', '127.0.0.1');
	SELECT romancy.define_destination('single', url => '$url/shaky/single', event_types => '{kill}', signing_secret => 'sig', retry => '{"initial_interval": "10 ms", "max_interval": "100 ms"}');
	SELECT romancy.define_destination('batch', url => '$url/shaky/batch', event_types => '{kill}', format => 'batch', batch_size => 20, retry => '{"initial_interval": "10 ms", "max_interval": "100 ms"}');
	CREATE TABLE sent (k text, n int, PRIMARY KEY (k, n));
	CREATE FUNCTION send_next(key text) RETURNS text LANGUAGE plpgsql AS \$\$
	DECLARE next int := (SELECT coalesce(max(s.n), 0) + 1 FROM sent s WHERE s.k = key);
	BEGIN
		INSERT INTO sent VALUES (key, next);
		RETURN romancy.send_event('kill', '/' || key, to_jsonb(next), id => key || '-' || next, ordering_key => CASE WHEN key <> 'none' THEN key END);
	END \$\$;
});
my $load = RomancyLoad->new($node, map { ($_ => RomancyLoad::transactions("SELECT send_next('$_')")) } qw(a b none));
# what arrived, as it came: lines of the server's log of requests that it has taken. It grows long, so its lines are not decoded
sub arrivals { return grep { /"ok": true/ } split /^/, slurp_file($http->{log}) }

my %killed;
for my $round (1 .. $rounds)
{
	my $before = arrivals();
	poll_until(sub { $load->keep_running; return arrivals() > $before + 10 }, "round $round: events arrive");
	if ($round % 3 == 0)
	{
		$node->kill9;
		start_again($node);
		$killed{server}++;
		next;
	}
	my $pid = '';
	poll_until(sub { $load->keep_running; $pid = try(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'romancy http'}); return $pid ne '' }, "round $round: the process is there");
	$killed{worker} += kill 'KILL', $pid if $pid;
}
$load->stop;
cmp_ok($killed{server} // 0, '>=', int($rounds / 3), 'the server was killed');
cmp_ok($killed{worker} // 0, '>=', $rounds - int($rounds / 3) - 1, 'and the process that sends');

poll_until(sub { return try(q{SELECT count(*) FROM romancy.outbox WHERE status <> 'published'}) eq '0' }, 'all that is left is published');
my (%events, %doubles);
for my $line (arrivals())
{
	my ($path) = $line =~ /"path": "([^"]+)"/;
	while ($line =~ /\\"id\\":\\"([a-z]+)-(\d+)\\"/g)
	{
		if ($events{$path}{id}{"$1-$2"}++) { $doubles{$path}++; next }
		push @{ $events{$path}{key}{$1} }, $2;
	}
}
my $sent = sql(q{SELECT string_agg(k || '-' || n, ' ' ORDER BY k, n) FROM sent});
for my $path ('/shaky/single', '/shaky/batch')
{
	my $arrived = join ' ', map { $_->[0] } sort { $a->[1] cmp $b->[1] || $a->[2] <=> $b->[2] } map { [ $_, split /-/ ] } keys %{ $events{$path}{id} };
	ok($arrived eq $sent, "$path: each event that was sent has arrived, and no other") or diag("arrived: $arrived\nsent: $sent");
	for my $key ('a', 'b')
	{
		my @came = @{ $events{$path}{key}{$key} };
		ok("@came" eq join(' ', 1 .. @came), "$path: key $key in order") or diag("@came");
	}
}
note(scalar(split / /, $sent), ' events, doubles: ', join(', ', map { "$_ $doubles{$_}" } sort keys %doubles), '; killed: ', join(', ', map { "$_ $killed{$_}" } sort keys %killed));

# what was under way when the server ended is sent by the next, though no event calls it
sql(qq{SELECT romancy.define_destination('late', url => '$url/until/late'), romancy.send_event('late', '/late', destination => 'late')});
poll_until(sub { grep { m{"path": "/until/late"} } split /^/, slurp_file($http->{log}) }, 'one is under way');
$node->kill9;
start_again($node);
$http->let('late');
poll_until($node, q{SELECT status = 'published' FROM romancy.outbox WHERE type = 'late'}, 'it is published after the crash');

$http->stop;
$node->stop('fast');
done_testing();
