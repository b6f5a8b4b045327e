# RomancyTest: clusters with romancy, for test/t. It adds to PostgreSQL::Test::Cluster
# where the library was installed to (test/run sets ROMANCY_CONF), and waiting.
package RomancyTest;

use strict;
use warnings;
use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(romancy_node romancy_conf poll_until make_due start_again has_plperl has_plpython);

# The lines of postgresql.conf that every romancy cluster needs
sub romancy_conf
{
	my $conf = $ENV{ROMANCY_CONF} // die "ROMANCY_CONF is not set: run this by 'make test KINDS=tap ONLY=name'";
	return "$conf\nshared_preload_libraries = 'romancy'\n";
}

# romancy_node($name, %conf): a cluster, started, with the extension in database
# postgres. %conf are settings; the keys with an underscore in front are options:
#   _init => [...]     arguments of ->init, such as allows_streaming => 1
#   _start => 0        only initialised
#   _extension => 0    without CREATE EXTENSION
#   _preload => 0      without shared_preload_libraries
# As in all clusters of PostgreSQL::Test::Cluster, fsync is off (which only an
# operating system's crash would notice) and so is restart_after_crash: a test
# that kills a process on purpose says restart_after_crash => 'on'.
sub romancy_node
{
	my ($name, %conf) = @_;
	my $init = delete $conf{_init} // [];
	my $start = delete $conf{_start} // 1;
	my $extension = delete $conf{_extension} // $start;
	my $preload = delete $conf{_preload} // 1;
	my $node = PostgreSQL::Test::Cluster->new($name);

	init($node, @$init);
	my $base = romancy_conf();
	$base =~ s/^shared_preload_libraries.*\n//m unless $preload;
	$node->append_conf('postgresql.conf', $base);
	for my $key (sort keys %conf)
	{
		(my $value = $conf{$key}) =~ s/'/''/g;
		$node->append_conf('postgresql.conf', "$key = '$value'\n");
	}
	$node->start if $start;
	$node->safe_psql('postgres', 'CREATE EXTENSION romancy') if $extension;
	return $node;
}

# init($node, @args): $node->init. Before 17 the module runs initdb for each cluster; here it copies
# what test/run has made once, as that of 17 does. Only the first cluster of a test is a copy: the identifier
# of a server tells it from others, so two of a test have two.
my $copied = 0;
sub init
{
	my ($node, @args) = @_;
	my $run = \&PostgreSQL::Test::Utils::system_or_bail;

	local $ENV{INITDB_TEMPLATE} = $ENV{INITDB_TEMPLATE};
	delete $ENV{INITDB_TEMPLATE} if $copied++;
	no warnings 'redefine';
	local *PostgreSQL::Test::Utils::system_or_bail = sub {
		my ($program, $option, $folder, @more) = @_;
		@_ = ('cp', '-RPp', $ENV{INITDB_TEMPLATE}, $folder) if $ENV{INITDB_TEMPLATE} && "$program $option @more" eq 'initdb -D -A trust -N';
		goto &$run;
	};
	$node->init(@args);
	return;
}

# pause($begun): between two looks at what is waited for since $begun. A long wait is looked at less
# often, since each look starts a psql and the machine has other tests to run.
sub pause
{
	my ($begun) = @_;
	my $tenth = (time - $begun) / 10;
	usleep(1_000_000 * ($tenth < 0.05 ? 0.05 : $tenth > 0.5 ? 0.5 : $tenth));
	return;
}

# poll_until($node, $sql, $what, %opt): waits until the query gives 't' (or
# $opt{expected}), in database postgres (or $opt{dbname}); one test named $what.
# A server that is down or restarting is waited for as well: an error is no answer.
# poll_until(sub { ... }, $what): the same with a condition in Perl.
sub poll_until
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $begun = time;
	my $deadline = $begun + $PostgreSQL::Test::Utils::timeout_default;

	if (ref $_[0] eq 'CODE')
	{
		my ($condition, $what) = @_;
		until ($condition->())
		{
			return fail($what) if time > $deadline;
			pause($begun);
		}
		return pass($what);
	}

	my ($node, $sql, $what, %opt) = @_;
	my $expected = $opt{expected} // 't';
	my ($out, $err);
	while (1)
	{
		($out, $err) = ('', '');
		eval {
			$node->psql($opt{dbname} // 'postgres', $sql, stdout => \$out, stderr => \$err);
			1;
		} or $err = $@;
		return pass($what // $sql) if $err eq '' && $out eq $expected;
		last if time > $deadline;
		pause($begun);
	}
	diag("waited in vain for '$expected' from: $sql\nlast output: $out\nlast error: $err");
	return fail($what // $sql);
}

# make_due($node, $where): the timers and timeouts of these instances were over a minute ago, as far
# as they know. So a test need not be quicker than a timer. No process is woken: a sweep finds them.
sub make_due
{
	my ($node, $where) = @_;
	$node->safe_psql('postgres', qq{UPDATE romancy.t_instance SET wake_at = now() - interval '1 minute',
		wait = CASE WHEN wait ? 'until' THEN jsonb_set(wait, '{until}', to_jsonb(now() - interval '1 minute')) ELSE wait END
		WHERE $where AND wake_at IS NOT NULL});
	return;
}

# start_again($node): after kill9. The children of a killed postmaster take a moment to
# notice; until then it cannot start.
sub start_again
{
	my ($node) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	until ($node->start(fail_ok => 1))
	{
		die 'the server does not start again' if time > $deadline;
		$node->{_pid} = undef;	# of the old postmaster, which is not gone yet
		usleep(100_000);
	}
	return;
}

# has_plperl($what), has_plpython($what): has the server this language? Where it has not, the
# test of $what counts as skipped, so that the summary of the run names it.
sub has_plperl { return has_language('PL/Perl', $ENV{ROMANCY_HAS_PLPERL}, @_) }
sub has_plpython { return has_language('PL/Python', $ENV{ROMANCY_HAS_PLPYTHON}, @_) }
sub has_language
{
	my ($language, $there, $what) = @_;
	Test::More->builder->skip("this server has no $language: $what") unless $there;
	return !!$there;
}

1;
