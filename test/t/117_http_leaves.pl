# The HTTP worker leaves when it is idle, also while a request waits for a rate limit, and another one is there in time. Where the server has no more
# processes, an idle one leaves for the worker of another database. No sweep helps: their intervals are an hour. It would catch a worker that forgets
# what it is to do when it leaves, one that stays though others wait for its process, and calls of http() that are taken and cannot be sent.
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

my $node = romancy_node('httpleave', 'romancy.worker_idle_timeout' => '200ms', 'max_connections' => 30, 'autovacuum' => 'off',
	map({ ("romancy.${_}_interval" => '1h') } qw(resumption lock_cleanup activity_timeout timer)));
my $http = RomancyHttp->new($node);
my $url = $http->url;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub failed { return ($node->psql('postgres', $_[0]))[2] }

sql(qq{
	CREATE FUNCTION once(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity('it', i); END \$\$;
	CREATE FUNCTION seldom(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity('rare', i); END \$\$;
	CREATE FUNCTION adhoc(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.http(i->>'method', i->>'url', i->'body', timeout => (i->>'timeout')::interval); END \$\$;
	SELECT romancy.define_workflow(f, f || '(jsonb)') FROM unnest(ARRAY['once', 'seldom', 'adhoc']) f;
	SELECT romancy.allow_http('postgres', 'http://*:*/*', private => true);
});
my $gone = q{SELECT count(*) = 0 FROM romancy.workers WHERE kind = 'http'};

# a rate limit that is longer than the worker is idle
my $it = qq{SELECT romancy.define_activity('it', http => '{"url": "$url/echo"}', retry => '{"max_attempts": 1}', rate_limit};
sql("$it => '1/s')");
my @ids = split /\n/, sql(q{SELECT romancy.start_workflow('once', to_jsonb(n)) FROM generate_series(1, 3) n});
sql("CALL romancy.await_result('$_', '60s')") for @ids;
is(sql(q{SELECT count(*) FROM romancy.instances WHERE status = 'completed'}), 3, 'requests that wait for a rate limit are sent');
poll_until($node, $gone, 'then the worker leaves');

# it does not stay for one that is much longer, nor is it missed when the limit changes
$it =~ s/'it'/'rare'/;
sql("$it => '1/m')");
@ids = split /\n/, sql(q{SELECT romancy.start_workflow('seldom', to_jsonb(n)) FROM generate_series(1, 2) n});
poll_until($node, q{SELECT count(*) = 4 FROM romancy.instances WHERE status = 'completed'}, 'one is sent at once');
poll_until($node, $gone, 'the worker leaves while the other waits for a minute');
is(sql(q{SELECT count(*) FROM romancy.activity_tasks}), 1, 'which waits');
sql("$it => '1000/s')");
sql("CALL romancy.await_result('$_', '60s')") for @ids;
is(sql(q{SELECT count(*) FROM romancy.instances WHERE status = 'completed'}), 5, 'the new limit lets it go');
poll_until($node, $gone, 'and the worker leaves');

# what one call may not have
like(failed(qq{CALL romancy.run_workflow('adhoc', '{"method": "GET", "url": "$url/echo", "timeout": "900 us"}')}), qr/"timeout" is not an interval from a millisecond to an hour/, 'a timeout below a millisecond');
like(failed(qq{CALL romancy.run_workflow('adhoc', '{"method": "head", "url": "$url/echo", "body": 1}')}), qr/A HEAD request has no body/, 'a body of HEAD');
like(failed(qq{CALL romancy.run_workflow('adhoc', '{"method": "GET", "url": "http://$_/"}')}), qr/its host is not a name or an address/, "no host: $_") for '[....]', '[::1', '[:::]', '[1.2.3.4]', '[12345::]', '[::1%25lo]';
poll_until($node, $gone, 'the worker leaves when it is idle');
$http->stop;
$node->stop;

# four processes for three databases: the launcher, and an executor and an HTTP worker of one database at a time; idle ones stay for an hour
my $tight = romancy_node('httptight', 'romancy.worker_idle_timeout' => '1h', 'max_worker_processes' => 4, 'max_logical_replication_workers' => 0, 'max_connections' => 30);
$http = RomancyHttp->new($tight);
$url = $http->url;
for my $db (qw(a b c a))
{
	$tight->safe_psql('postgres', "CREATE DATABASE $db") if $tight->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = '$db'") eq '0';
	$tight->safe_psql($db, qq{
		CREATE EXTENSION romancy;
		CREATE FUNCTION adhoc(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.http('GET', i->>'url')->'status'; END \$\$;
		SELECT romancy.define_workflow('adhoc', 'adhoc(jsonb)'), romancy.allow_http('postgres', 'http://*:*/*', private => true)}) if $tight->safe_psql($db, q{SELECT count(*) FROM pg_extension WHERE extname = 'romancy'}) eq '0';
	my ($rc, $out, $err) = $tight->psql($db, qq{CALL romancy.run_workflow('adhoc', '{"url": "$url/echo"}', timeout => '60s')});
	is($out, 200, "database $db gets an HTTP worker: those of others are idle") or diag($err);
}
$http->stop;
$tight->stop;
done_testing();
