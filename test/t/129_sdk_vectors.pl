# sdk/vectors/histories.json, played by a server that is none (server.sql) to the program of each library: what it says to each history, when its run is
# kept and when it is begun anew. The same server speaks other versions of the protocol; and there are a database without
# the extension, one with an old one, and a role without usage. It would catch a library that answers a history otherwise than
# another, and a user who is told nothing that helps.
# Takes 45 s.
use strict;
use warnings;
use Encode qw(encode);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancySdk;
use RomancyTest;
use Test::More;

plan skip_all => 'the server is none of ours but for its errors: this runs with 15, without assertions' unless sdk_alone();

my $vectors = "$FindBin::RealBin/../../sdk/vectors";
my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my $node = romancy_node('sdk_vectors', 'max_connections' => 100, 'autovacuum' => 'off');
my @languages = sdk_languages();
my @vectors = @{ $json->decode(slurp_file("$vectors/histories.json")) };

sub url { my ($user, $database) = @_; my $url = sdk_url($node, $user); $url =~ s{///postgres\?}{///$database?}; return $url }
sub literal { my ($text) = @_; $text =~ s/'/''/g; return "'$text'" }
$node->safe_psql('postgres', 'CREATE DATABASE played; CREATE DATABASE empty; CREATE ROLE stranger LOGIN; CREATE ROLE player SUPERUSER LOGIN');
$node->safe_psql('played', slurp_file("$vectors/server.sql"));

# A library that meets something that it cannot work with says so at once, and ends.
sub tells
{
	my ($what, $url, $said) = @_;
	for my $language (@languages)
	{
		my $log = $node->basedir . "/$language.told.log";
		unlink $log;
		my $proc = sdk_start($url, $log, sdk_command($language, 'programs'));
		poll_until(sub { eval { $proc->pump_nb }; return !$proc->pumpable }, "$language: $what: it ends");
		$proc->kill_kill if $proc->pumpable;
		eval { $proc->finish };
		like(slurp_file($log), $said, "$language: $what");
	}
	return;
}
tells('a database without the extension', url('player', 'empty'), qr/this database lacks extension romancy/);
tells('a role without usage', url('stranger', 'postgres'), qr/the role may not use romancy/);
$node->safe_psql('played', 'UPDATE romancy.spoken SET oldest = 2, newest = 3');
tells('a server that is too new', url('player', 'played'), qr/too new for this library: it speaks no protocol before 2, the library 1/);
$node->safe_psql('played', 'UPDATE romancy.spoken SET oldest = 0, newest = 0');
tells('a server that is too old', url('player', 'played'), qr/too old for this library: it speaks protocol 0, the library 1/);
$node->safe_psql('played', 'ALTER FUNCTION romancy.protocol() RENAME TO protocol_of_tomorrow');
tells('a server from before protocols had versions', url('player', 'played'), qr/too old for this library: function romancy.protocol\(\) does not exist/);
$node->safe_psql('played', 'ALTER FUNCTION romancy.protocol_of_tomorrow() RENAME TO protocol; UPDATE romancy.spoken SET oldest = 1, newest = 1');

# lane($language, $workflow, $vector, $n, $kept): the turns of a vector, of one instance where its run is to be kept, of one each otherwise
my (%expected, @rows);
sub lane
{
	my ($language, $workflow, $vector, $kept) = @_;
	my ($turn, @history) = (0);
	my $program = $json->encode($vector->{program});
	for my $t (@{ $vector->{turns} })
	{
		$turn++;
		for my $event (@{ $t->{history} })
		{
			my $times = delete local $event->{repeat};
			for my $i (1 .. $times // 1)
			{
				my %e = (%$event, seq => @history + 1);
				$e{activity_id} =~ s/%d/$i/ if $times;
				push @history, \%e;
			}
		}
		my $lane = "$language $workflow " . ($kept ? 'kept' : "anew $turn") . ": $vector->{name}";
		my $n = $kept ? $turn : 1;
		push @rows, sprintf '(%s, %d, %s, md5(%s)::uuid, %s, %s, %s)', literal($lane), $n, literal($language), literal($lane), literal($workflow), literal($program),
		  literal($json->encode(\@history));
		# the server gives an empty wait_for as null
		my %expect = %{ $t->{expect} };
		my @calls;
		push @calls, { record => delete $expect{record} } if $expect{record};
		$expected{"$lane/$n"} = $json->encode([ @calls, \%expect ]);
	}
	return;
}
my %workflows = (python => [qw(random_program random_async)], typescript => ['random_program'], go => ['random_program']);
for my $language (@languages)
{
	for my $workflow (@{ $workflows{$language} })
	{
		for my $vector (@vectors) { lane($language, $workflow, $vector, $_) for 1, 0 }
	}
}
$node->safe_psql('played', "INSERT INTO romancy.turn (lane, n, worker, instance_id, workflow, input, history) VALUES $_") for @rows;
for my $language (@languages)
{
	my $log = $node->basedir . "/$language.log";
	local $ENV{ROMANCY_TEST_QUEUE} = $language;
	my $proc = sdk_start(url('player', 'played'), $log, sdk_command($language, 'programs'));
	poll_until(sub { $node->safe_psql('played', "SELECT bool_and(done) FROM romancy.turn WHERE worker = '$language'") eq 't' }, "$language: every turn is answered")
	  or diag(slurp_file($log), $node->safe_psql('played', "SELECT lane, n FROM romancy.turn WHERE worker = '$language' AND given AND NOT done"));
	is(sdk_stop($proc), 'ended', "$language: the worker stops when asked") or diag(slurp_file($log));
}
my $answers = $json->decode(encode('UTF-8', $node->safe_psql('played', q{
	SELECT coalesce(jsonb_object_agg(token, calls), '{}') FROM (
		SELECT token, jsonb_agg(romancy.plain(call) ORDER BY id) AS calls FROM romancy.answer GROUP BY token) a})));
for my $turn (sort keys %expected)
{
	my $got = $answers->{$turn} ? $json->encode($answers->{$turn}) : 'nothing';
	ok($got eq $expected{$turn}, $turn) or diag(sprintf "got: %.2000s\nexpected: %.2000s", $got, $expected{$turn});
}
$node->stop('fast');
done_testing();
