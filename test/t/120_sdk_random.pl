# Random programs: the same ones as handlers in PL/pgSQL and with each library, in Python plain and async in turn. Their histories, outputs and errors are
# equal. It would catch a library that numbers steps, orders commands, or treats errors in another way than a handler, in a
# combination of which no scenario was made.
#
# RANDOM_PROGRAMS is their number (40); RANDOM_SEED makes others than the usual ones.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancySdk;
use RomancyTest;
use Test::More;

plan skip_all => 'the libraries depend little on the server: this runs with 15' unless qx{pg_config --version} =~ /PostgreSQL 15/;

my $n = $ENV{RANDOM_PROGRAMS} || 40;
my $seed = $ENV{RANDOM_SEED} || 20261129;
srand($seed);
note("RANDOM_PROGRAMS=$n RANDOM_SEED=$seed");

my $vectors = "$FindBin::RealBin/../../sdk/vectors";
my $node = romancy_node('sdk_random', 'max_connections' => 100, 'autovacuum' => 'off');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return sql("SET SESSION AUTHORIZATION rp_$role; $sql") }
my @languages = sdk_languages();
sql(slurp_file("$vectors/$_.sql")) for qw(scenarios programs masked);

my $named = 0;
my @simple = (qw(activity activity named parallel map_children child canvas publish set labels values patched sleep timer receive book register compensate boom));
sub statement
{
	my ($depth) = @_;
	my $r = rand;
	return { do => 'if', then => body($depth + 1), else => body($depth + 1) } if $depth < 3 && $r < 0.10;
	return { do => 'loop', n => 1 + int rand 3, body => [ grep { $_->{do} ne 'named' } @{ body($depth + 1) } ] } if $depth < 2 && $r < 0.18;
	return { do => 'try', body => [ @{ body($depth + 1) }, rand() < 0.5 ? { do => 'raise', n => int rand 10 } : () ] } if $depth < 3 && $r < 0.30;
	return { do => 'raise', n => int rand 10 } if $r > 0.99;
	my $do = $simple[ rand @simple ];
	# a step's own id is for one step, and no program ends at its first fault
	return { do => 'named', n => ++$named } if $do eq 'named' && $depth == 0;
	return { do => 'try', body => [ { do => 'boom', n => 1 } ] } if $do eq 'boom' && rand() < 0.8;
	return { do => $do eq 'named' ? 'activity' : $do, n => 1 + int rand 5 };
}
sub body { my ($depth) = @_; return [ map { statement($depth) } 1 .. 1 + int rand($depth == 0 ? 10 : 4) ] }
my $json = JSON::PP->new->canonical;
my @programs = map { $json->encode(body(0)) } 1 .. $n;

my (%procs, %logs, %ids);
for my $role ('sql', @languages)
{
	sql("CREATE ROLE rp_$role LOGIN; SELECT romancy.grant_usage('rp_$role')");
	as($role, "SELECT romancy.define_activity('book', handler => 'book(jsonb)', compensation => 'undo')");
	next if $role eq 'sql';
	$logs{$role} = $node->basedir . "/$role.log";
	$procs{$role} = sdk_start(sdk_url($node, "rp_$role"), $logs{$role}, sdk_command($role, 'programs'));
}
for my $role ('sql', @languages)
{
	poll_until($node, "SELECT count(*) = 3 FROM romancy.workflows WHERE owner = 'rp_$role' AND defined", "$role: the worker has defined its workflows")
	  or diag(slurp_file($logs{$role})) if $role ne 'sql';
	my @calls = map { sprintf "SELECT romancy.start_workflow('%s', '%s')", ($_ % 2 ? 'random_program' : 'random_async'), $programs[$_] } 0 .. $#programs;
	$ids{$role} = [ split /\n/, as($role, join ';', @calls) ];
}
for my $role ('sql', @languages)
{
	poll_until($node, "SELECT count(*) = $n FROM romancy.instances WHERE owner = 'rp_$role' AND workflow LIKE 'random_%' AND status IN ('completed', 'failed')", "$role: all end")
	  or diag(sql("SELECT status, error, input FROM romancy.instances WHERE owner = 'rp_$role' AND workflow LIKE 'random_%' AND status NOT IN ('completed', 'failed')"), $logs{$role} ? slurp_file($logs{$role}) : '');
}
# history($id): it, the end, and the histories of children in the order of their steps
sub history
{
	my ($id) = @_;
	return sql("SELECT masked('$id'); SELECT status, output, error->>'sqlstate', error->>'message', labels FROM romancy.instances WHERE instance_id = '$id'");
}
my %ends;
for my $i (0 .. $#programs)
{
	my $expected = history($ids{sql}[$i]);
	$ends{ ($expected =~ /^(completed|failed)\|/m)[0] }++;
	for my $role (@languages)
	{
		is(history($ids{$role}[$i]), $expected, "$role: program $i") or diag("RANDOM_SEED=$seed, program $i: $programs[$i]");
	}
}
note('handlers: ' . join ', ', map { "$ends{$_} $_" } sort keys %ends);
for my $role (@languages)
{
	is(sdk_stop($procs{$role}), 'ended', "$role: the worker stops when asked") or diag(slurp_file($logs{$role}));
}
$node->stop('fast');
done_testing();
