# The same programs as handlers in the database and in each library: histories are equal, but for times and ids;
# a step in the program's own transaction is done once, and what the server refuses fails the instance. Would catch
# a library whose calls leave another history than a handler's, that drops what stands before an error, or loops on
# an answer that is too large.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancySdk;
use RomancyTest;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my $node = romancy_node('conformance', 'max_connections' => 100, 'autovacuum' => 'off');
my @languages = sdk_languages();
my $http = has_http() ? RomancyHttp->new($node) : undef;
$http or Test::More->builder->skip('scenario web: this build has no libcurl');

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return sql("SET SESSION AUTHORIZATION sc_$role; $sql") }

sql(slurp_file("$root/sdk/vectors/$_.sql")) for qw(scenarios masked);
sql(q{
	CREATE TABLE counted (who text);
	GRANT INSERT ON counted TO public;
});

my @scenarios = (qw(steps parallel saga caught messages generations others leaves), $http ? 'web' : ());
my $url = $http ? $http->url : '';
my (%procs, %logs, %history);
for my $role ('sql', @languages)
{
	sql("CREATE ROLE sc_$role LOGIN; SELECT romancy.grant_usage('sc_$role')");
	as($role, "SELECT romancy.define_activity('book', handler => 'book(jsonb)', compensation => 'undo')");
	sql("SELECT romancy.allow_http('sc_$role', '$url/*', private => true)") if $http;
	next if $role eq 'sql';
	$logs{$role} = $node->basedir . "/$role.log";
	$procs{$role} = sdk_start(sdk_url($node, "sc_$role"), $logs{$role}, sdk_command($role, 'scenarios'));
	poll_until($node, "SELECT count(*) >= 12 FROM romancy.workflows WHERE owner = 'sc_$role' AND defined", "$role: the worker has defined its workflows")
	  or diag(slurp_file($logs{$role}));
}
my %ids;
for my $role ('sql', @languages)
{
	for my $scenario (@scenarios)
	{
		$ids{$role}{$scenario} = as($role, "BEGIN; SELECT romancy.start_workflow('$scenario', '" . ($scenario eq 'web' ? "\"$url\"" : 1) . "') AS id \\gset\n" .
			($scenario eq 'messages' ? "SELECT romancy.send_to(:'id', 'go', '\"data\"') \\gset x_\n" : '') . "COMMIT; SELECT :'id'");
	}
}
for my $scenario (@scenarios)
{
	for my $role ('sql', @languages)
	{
		my $id = $ids{$role}{$scenario};
		poll_until($node, "SELECT status::text IN ('completed', 'failed', 'recurred', 'cancelled') FROM romancy.instances WHERE instance_id = '$id'", "$role: $scenario ends")
		  or diag(sql("SELECT status, error FROM romancy.instances WHERE instance_id = '$id'"));
		$history{$role}{$scenario} = sql("SELECT masked('$id')") . "\n" .
		  sql("SELECT status, output, error->>'sqlstate', error->>'message' FROM romancy.instances WHERE instance_id = '$id'");
	}
	like($history{sql}{$scenario}, qr/^Workflow|\nWorkflow/, "$scenario has a history") unless $scenario eq 'generations';
	is($history{$_}{$scenario}, $history{sql}{$scenario}, "$_: $scenario leaves the history of a handler") for @languages;
}
for my $role (@languages)
{
	my ($rc, $out, $error) = $node->psql('postgres', "SET SESSION AUTHORIZATION sc_$role; SELECT romancy.start_workflow('refused', '1') AS id \\gset\nCALL romancy.await_result(:'id', '90 s')");
	like($error, qr/payload "output" is too large/, "$role: an output that the server does not take fails the instance");
	is(as($role, "SELECT romancy.start_workflow('counted', '1') AS id \\gset\nCALL romancy.await_result(:'id', '90 s')"), '1', "$role: a transaction");
	is(sql("SELECT count(*) FROM counted WHERE who = 'sc_$role'"), '1', "$role: is done once");
	is(sdk_stop($procs{$role}), 'ended', "$role: the worker stops when asked") or diag(slurp_file($logs{$role}));
}
$http->stop if $http;
$node->stop('fast');
done_testing();
