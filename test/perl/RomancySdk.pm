# RomancySdk: the libraries of sdk/, built once for all tests of a run, and programs that use them.
package RomancySdk;

use strict;
use warnings;
use Exporter 'import';
use Fcntl qw(:flock);
use FindBin;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More ();
use Time::HiRes qw(usleep time);

our @EXPORT = qw(sdk_alone sdk_languages sdk_command sdk_example sdk_env sdk_url sdk_start sdk_ended sdk_stop);

my $root = "$FindBin::RealBin/../..";
my $built;    # folder of what is built
my %have;     # language => 1

sub output
{
	my (@command) = @_;
	my $out = '';
	my $ok = eval { IPC::Run::run(\@command, '<', '/dev/null', '>&', \$out) };
	return ($ok, $out);
}

# has_compiler($language): can it be built here? Otherwise why not.
sub why_not
{
	my ($language) = @_;
	if ($language eq 'python')
	{
		my ($ok) = output('/usr/bin/python3', '-c', 'import psycopg');
		return $ok ? '' : 'python3 has no psycopg';
	}
	return -f(($ENV{NODE_PATH} // '') . '/typescript/bin/tsc') ? '' : 'there is no compiler of TypeScript' if $language eq 'typescript';
	local $ENV{GOTOOLCHAIN} = 'local';
	my ($ok, $out) = output('go', 'version');
	return $ok && $out =~ /go1\.(\d+)/ && $1 >= 21 ? '' : 'there is no Go 1.21 or newer';
}

sub build
{
	my ($language) = @_;
	my @commands;
	if ($language eq 'typescript')
	{
		return if -f "$built/ts/dist/index.js";
		output('rm', '-rf', "$built/ts.new");
		@commands = (
			[ 'cp', '-r', "$root/sdk/typescript", "$built/ts.new" ],
			[ 'ln', '-sfn', $ENV{NODE_PATH}, "$built/ts.new/node_modules" ],
			[ 'node', "$ENV{NODE_PATH}/typescript/bin/tsc", '-p', "$built/ts.new" ],
			# a user's project, with the package beside others: its examples compile against what the package exports
			[ 'mkdir', '-p', "$built/user/node_modules" ],
			[ 'ln', '-sfn', (grep { !m{/romancy$} } glob("$ENV{NODE_PATH}/*"), glob("$ENV{NODE_PATH}/\@*")), "$built/user/node_modules/" ],
			[ 'ln', '-sfn', "$built/ts", "$built/user/node_modules/romancy" ],
			[ 'sh', '-c', 'echo \'{"type": "module"}\' >"$0/package.json"', "$built/user" ],
			[ 'cp', glob("$root/sdk/typescript/examples/*.ts"), "$built/user" ],
			[ 'mv', "$built/ts.new", "$built/ts" ],
			[ 'sh', '-c', 'cd "$0" && node "$NODE_PATH/typescript/bin/tsc" --module nodenext --target es2022 --strict --skipLibCheck --types node --typeRoots "$NODE_PATH/@types" *.ts', "$built/user" ]);
	}
	elsif ($language eq 'go')
	{
		return if -d "$built/bin";
		output('rm', '-rf', "$built/go", "$built/bin.new");
		@commands = (
			[ 'cp', '-r', "$root/sdk/go", "$built/go" ],
			[ 'mkdir', "$built/bin.new" ],
			[ 'go', 'build', '-C', "$built/go", ($ENV{ROMANCY_SDK_COVERAGE} ? ('-cover', '-coverpkg=./...') : ()), '-o', "$built/bin.new/", './examples/...', './internal/...' ],
			[ 'mv', "$built/bin.new", "$built/bin" ]);
	}
	for my $command (@commands)
	{
		my ($ok, $out) = output(@$command);
		die "@$command: $out\n" unless $ok;
	}
	return;
}

# sdk_alone(): is this the server that tests of the libraries' sources and packages run with? They are the same with each; 15 without assertions is the quickest.
sub sdk_alone { return qx{pg_config --version} =~ /PostgreSQL 15/ && qx{pg_config --configure} !~ /--enable-cassert/ }

# sdk_languages(): those of "python", "typescript" and "go" that can run here, built. Each of the others counts as a skipped
# test, so that the summary of the run names it.
sub sdk_languages
{
	my $work = $ENV{ROMANCY_WORK} // '';
	$built = -w $work ? "$work/sdk-built" : PostgreSQL::Test::Utils::tempdir() . '/sdk-built';
	mkdir $built;
	open my $lock, '>', "$built/lock" or die "$built/lock: $!";
	flock $lock, LOCK_EX;
	local $ENV{GOTOOLCHAIN} = 'local';
	local $ENV{GOFLAGS} = '-modcacherw -buildvcs=false';
	local $ENV{GOCACHE} = $ENV{GOCACHE} && -w $ENV{GOCACHE} ? $ENV{GOCACHE} : "$built/cache";
	for my $language (qw(python typescript go))
	{
		my $why = why_not($language);
		if ($why) { Test::More->builder->skip("$language: $why"); next }
		$have{$language} = 1 if Test::More::ok(eval { build($language); 1 }, "$language is built") or Test::More::diag($@);
	}
	return sort keys %have;
}

# python(): the command of Python; with test/tools/sdk-coverage what it runs is counted
sub python
{
	my $counts = $ENV{ROMANCY_SDK_COVERAGE} or return ('/usr/bin/python3');
	return ("$ENV{ROMANCY_PYTHON_TOOLS}/coverage/bin/coverage", 'run', '-p', "--data-file=$counts/python/data", "--source=$root/sdk/python/src");
}

# sdk_command($language, $name, @args): the command that runs program $name of sdk/vectors (in Go: of sdk/go/internal)
sub sdk_command
{
	my ($language, $name, @args) = @_;
	return (python(), "$root/sdk/vectors/$name.py", @args) if $language eq 'python';
	return ('node', "$root/sdk/vectors/$name.mjs", "$built/ts/dist/index.js", @args) if $language eq 'typescript';
	return ("$built/bin/$name", @args);
}

# sdk_example($language, $name): the command that runs an example
sub sdk_example
{
	my ($language, $name) = @_;
	return (python(), "$root/sdk/python/examples/$name.py") if $language eq 'python';
	return ('node', "$built/user/$name.js") if $language eq 'typescript';
	return ("$built/bin/$name");
}

# sdk_built($name): a folder that was built: "ts", "bin"
sub sdk_built { return "$built/$_[0]" }

# sdk_env(): what such a program finds in its environment
sub sdk_env { return (PYTHONPATH => "$root/sdk/python/src", PYTHONDONTWRITEBYTECODE => 1, ROMANCY_TEST_VECTORS => "$root/sdk/vectors") }

# sdk_url($node, $user): a connection string that all libraries take
sub sdk_url
{
	my ($node, $user, $host, $port) = @_;
	return sprintf('postgres:///postgres?host=%s&port=%s&user=%s', $host // $node->host, $port // $node->port, $user);
}

# sdk_start($url, $log, @command): the program, started, with the connection in ROMANCY_TEST_CONNINFO
sub sdk_start
{
	my ($url, $log, @command) = @_;
	local %ENV = (%ENV, sdk_env(), ROMANCY_TEST_CONNINFO => $url);
	delete $ENV{PGAPPNAME};
	return IPC::Run::start(\@command, '<', '/dev/null', '>>', $log, '2>>', $log);
}

# catches_term($proc): has the program asked for SIGTERM? One that is being started is ended by it.
sub catches_term
{
	my ($proc) = @_;
	for my $kid (@{ $proc->{KIDS} })
	{
		open my $fh, '<', "/proc/$kid->{PID}/status" or next;
		my ($caught) = join('', <$fh>) =~ /^SigCgt:\s*([0-9a-f]+)/m;
		return 0 unless hex(substr($caught // '0', -4)) & 1 << 14;
	}
	return 1;
}

# sdk_stop(@procs): asks them to stop, when they can be asked, and waits as sdk_ended() does
sub sdk_stop
{
	my (@procs) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	for my $proc (@procs) { usleep(20_000) while $proc->pumpable && !catches_term($proc) && time < $deadline }
	$_->signal('TERM') for @procs;
	return sdk_ended(@procs);
}

# sdk_ended(@procs): waits for their end; how each of them did: "ended", "died", or "runs" where it does not
sub sdk_ended
{
	my (@procs) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my @how;
	for my $proc (@procs)
	{
		while ($proc->pumpable && time < $deadline) { eval { $proc->pump_nb }; usleep(20_000); }
		if ($proc->pumpable) { $proc->kill_kill; push @how, 'runs' }
		else { push @how, eval { $proc->finish } ? 'ended' : 'died' }
	}
	return join ' ', @how;
}

1;
