# The same programs as handlers in the database and in each library: histories are equal, but for times and ids;
# a step in the program's own transaction is done once, and what the server refuses fails the instance. Would catch
# a library whose calls leave another history than a handler's, that drops what stands before an error, or loops on
# an answer that is too large.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use Encode qw(encode);
use IPC::Run ();
use JSON::PP qw(decode_json);
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

my $url = $http ? $http->url : '';
# names that mean something to SQL, to a shell, to JavaScript, also of the queue
my @names = @{ decode_json(slurp_file("$root/sdk/vectors/hostile.json")) };
my $queue = encode('UTF-8', $names[0] . $names[1]);
my @scenarios = (qw(steps parallel saga caught messages generations others leaves more), $http ? qw(web web_parallel) : (), map { "hostile $_" } 0 .. $#names);
sub literal { my ($text) = @_; $text =~ s/'/''/g; return "'$text'" }
# scenario($name): its workflow and its input, as literals
sub scenario
{
	my ($scenario) = @_;
	my ($n) = $scenario =~ /hostile (\d+)/;
	return map { literal(encode('UTF-8', $_)) } "W$names[$n]", JSON::PP->new->allow_nonref->encode($names[$n]) if defined $n;
	return (literal($scenario), literal($scenario =~ /^web/ ? "\"$url\"" : 1));
}
my (%procs, %logs, %history);
for my $role ('sql', @languages)
{
	sql("CREATE ROLE sc_$role LOGIN; SELECT romancy.grant_usage('sc_$role')");
	as($role, "SELECT romancy.define_activity('book', handler => 'book(jsonb)', compensation => 'undo')");
	sql("SELECT romancy.allow_http('sc_$role', '$url/*', private => true)") if $http;
	if ($role eq 'sql')
	{
		as($role, join '; ', map { my $n = encode('UTF-8', $_); 'SELECT romancy.define_activity(' . literal($n) . ", handler => 'sq(jsonb)'), romancy.define_workflow(" . literal("W$n") . ", handler => 'hostile(jsonb)')" } @names);
		next;
	}
	local $ENV{ROMANCY_TEST_QUEUE} = $queue;
	$logs{$role} = $node->basedir . "/$role.log";
	$procs{$role} = sdk_start(sdk_url($node, "sc_$role"), $logs{$role}, sdk_command($role, 'scenarios'));
	poll_until($node, "SELECT count(*) >= 24 FROM romancy.workflows WHERE owner = 'sc_$role' AND defined", "$role: the worker has defined its workflows")
	  or diag(slurp_file($logs{$role}));
}
my %ids;
for my $role ('sql', @languages)
{
	for my $scenario (@scenarios)
	{
		$ids{$role}{$scenario} = as($role, 'BEGIN; SELECT romancy.start_workflow(' . join(', ', scenario($scenario)) . ") AS id \\gset\n" .
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
		# (the activity is of the program's queue there)
		$history{$role}{$scenario} =~ s/, "queue": "(?:[^"\\]|\\.)*"//g if $scenario =~ /hostile/;
	}
	like($history{sql}{$scenario}, qr/^Workflow|\nWorkflow/, "$scenario has a history") unless $scenario eq 'generations';
	is($history{$_}{$scenario}, $history{sql}{$scenario}, "$_: $scenario leaves the history of a handler") for @languages;
}
for my $role (@languages)
{
	my ($rc, $out, $error) = $node->psql('postgres', "SET SESSION AUTHORIZATION sc_$role; SELECT romancy.start_workflow('refused', '1') AS id \\gset\nCALL romancy.await_result(:'id', '90 s')");
	like($error, qr/payload "output" is too large/, "$role: an output that the server does not take fails the instance");
	for my $unfit ((map { [ 'unfit', $_ ] } 0 .. 3), [ 'unfit_error', 0 ], [ 'unfit_step', 0 ], [ 'unfit_step', 1 ])
	{
		my ($name, $n) = @$unfit;
		my ($unfit_rc, $unfit_out, $unfit_error) = $node->psql('postgres', "SET SESSION AUTHORIZATION sc_$role; SELECT romancy.start_workflow('$name', '$n') AS id \\gset\nCALL romancy.await_result(:'id', '90 s')");
		isnt($unfit_rc, 0, "$role: what no document can hold fails the instance ($name $n)");
		unlike($unfit_error, qr/timeout/, "$role: at once ($name $n)");
		like($unfit_error, qr/no  good/, "$role: with its message ($name $n)") if "$name $n" =~ /error|step 1/;
	}
	is(as($role, "SELECT romancy.start_workflow('counted', '1') AS id \\gset\nCALL romancy.await_result(:'id', '90 s')"), '1', "$role: a transaction");
	is(sql("SELECT count(*) FROM counted WHERE who = 'sc_$role'"), '1', "$role: is done once");
	is(sdk_stop($procs{$role}), 'ended', "$role: the worker stops when asked") or diag(slurp_file($logs{$role}));
}
$http->stop if $http;
$node->stop('fast');
done_testing();
