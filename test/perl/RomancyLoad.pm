# RomancyLoad: sessions that run scripts beside a test that kills the server, for tests of what survives. A session whose server went away begins its script again.
package RomancyLoad;

use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Utils;

# new($node, $name => $sql, ...): the scripts; none runs before keep_running
sub new
{
	my ($class, $node, %sql) = @_;
	my $self = bless { node => $node, runs => {} }, $class;
	for my $name (keys %sql)
	{
		$self->{script}{$name} = $node->basedir . "/load_$name.sql";
		append_to_file($self->{script}{$name}, $sql{$name});
	}
	return $self;
}

# transactions($statement): a script of many, every seventh of which is rolled back
sub transactions
{
	my ($statement) = @_;
	return join '', map { my $end = $_ % 7 == 3 ? 'ROLLBACK' : 'COMMIT'; "BEGIN; $statement; $end; SELECT pg_sleep(random() * 0.1);\n" } 1 .. 5000;
}

sub pid_of { return $_[0]->{KIDS}[0]{PID} }
sub has_ended { my $stat = eval { slurp_file('/proc/' . pid_of($_[0]) . '/stat') } // return 1; return $stat =~ /\) Z/ }

# each script runs, from now on or again
sub keep_running
{
	my ($self) = @_;
	my $runs = $self->{runs};
	for my $name (sort keys %{ $self->{script} })
	{
		if ($runs->{$name})
		{
			next unless has_ended($runs->{$name});
			eval { $runs->{$name}->finish };
		}
		$runs->{$name} = IPC::Run::start([ 'psql', '-XqAt', '-d', $self->{node}->connstr('postgres'), '-f', $self->{script}{$name} ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
	}
	return;
}

sub stop
{
	my ($self) = @_;
	my @runs = values %{ $self->{runs} };
	kill 'KILL', map { pid_of($_) } @runs;
	eval { $_->finish } for @runs;
	$self->{runs} = {};
	return;
}

1;
