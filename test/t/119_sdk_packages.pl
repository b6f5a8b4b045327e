# The packages of the libraries (wheel and sdist, npm tarball, Go module), built from the tree and installed into an empty environment, where the first
# program of each README runs as it stands, by a role with usage only. It would catch a file that a package lacks, a dependency that it
# does not name, and a README whose first screen does not work.
# Takes 40 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancySdk;
use RomancyTest;
use Test::More;

plan skip_all => 'packages do not depend on the server: this runs with 15, without assertions' unless sdk_alone();

my $sdk = "$FindBin::RealBin/../../sdk";
my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = romancy_node('sdk_packages', 'max_connections' => 100, 'autovacuum' => 'off');
my %languages = map { $_ => 1 } sdk_languages();
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', 'CREATE EXTENSION romancy');
# a role, and so a namespace, for each language
my $user;
sub newcomer { $user = "newcomer_$_[0]"; return $node->safe_psql('shop', "CREATE ROLE $user LOGIN; SELECT romancy.grant_usage('$user')") }
sub as_user { return $node->safe_psql('shop', "SET SESSION AUTHORIZATION $user; $_[0]") }

my $out = '';
# does($what, @command): runs it in folder $dir/user
sub does
{
	my ($what, @command) = @_;
	$out = '';
	my $ok = IPC::Run::run(\@command, '<', '/dev/null', '>&', \$out, init => sub { chdir "$dir/user" or die "chdir: $!" });
	ok($ok, $what) or diag("@command: $out");
	return $ok;
}
sub put { my ($name, $text) = @_; open my $fh, '>', "$dir/user/$name" or die "$name: $!"; print $fh $text; close $fh; return }
# blocks($page, $kind): the programs of a README
sub blocks { my ($page, $kind) = @_; return slurp_file("$sdk/$page/README.md") =~ /^```$kind\n(.*?)^```$/msg }

# the program of a README works: an instance waits for its message, and completes
sub runs
{
	my ($language, @command) = @_;
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGUSER => $user);
	delete @ENV{qw(PYTHONPATH PGDATABASE PGAPPNAME)};
	my $log = "$dir/$language.log";
	my $proc = IPC::Run::start(\@command, '<', '/dev/null', '>', $log, '2>', $log, init => sub { chdir "$dir/user" or die "chdir: $!" });
	$node->poll_query_until('shop', "SELECT count(*) = 1 FROM romancy.workflows WHERE owner = '$user' AND name = 'signup' AND defined")
	  or diag(slurp_file($log));
	my $id = as_user(q{SELECT romancy.start_workflow('signup', '"eva@x"')});
	as_user("SELECT romancy.send_to('$id', 'confirmed')");
	like(as_user("CALL romancy.await_result('$id', '90 s')"), qr/^"account /, "$language: the README's program, with the installed package") or diag(slurp_file($log));
	return $proc;
}

SKIP: {
	my $tools = $ENV{ROMANCY_PYTHON_TOOLS} // '';
	skip 'there are no tools for Python packages', 1 unless $languages{python} && -f "$tools/ready";
	newcomer('python');
	mkdir "$dir/user";
	does('python: a copy', 'cp', '-r', "$sdk/python", "$dir/python") or last;
	does('python: sdist and wheel are built', 'sh', '-c', 'cd "$1" && exec "$2" -c "from setuptools import build_meta as b; b.build_sdist(\'dist\'); b.build_wheel(\'dist\')"',
		'sh', "$dir/python", "$tools/venv/bin/python") or last;
	my ($wheel) = glob("$dir/python/dist/*.whl");
	my ($sdist) = glob("$dir/python/dist/*.tar.gz");
	does('python: an empty environment', '/usr/bin/python3', '-m', 'venv', "$dir/empty");
	my @pip = ("$dir/empty/bin/pip", 'install', '-q', '--disable-pip-version-check', '--no-index');
	does('python: the wheel is installed', @pip, '--find-links', "$tools/wheels", $wheel) or last;
	does('python: with its command line tool', "$dir/empty/bin/romancy", '--help');
	does('python: with its types', 'sh', '-c', 'ls "$0"/lib/python3*/site-packages/romancy/py.typed', "$dir/empty");
	my $files = qx{cd '$dir' && mkdir sd && tar -xzf '$sdist' -C sd --strip-components=1 && cd sd && '$tools/venv/bin/python' -c "from setuptools import build_meta as b; print(b.build_wheel('.'))" >/dev/null 2>&1; '$tools/venv/bin/python' -m zipfile -l *.whl | awk '{print \$1}'};
	my $want = qx{'$tools/venv/bin/python' -m zipfile -l '$wheel' | awk '{print \$1}'};
	is($files, $want, 'python: the sdist makes the same wheel');
	my @blocks = blocks('python', 'python');
	put('signup.py', $blocks[0]);
	my $proc = runs('python', "$dir/empty/bin/python", 'signup.py');
	put('client.py', "from signup import signup\n$blocks[1]");
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGUSER => $user);
	delete $ENV{PYTHONPATH};
	does('python: and the second', "$dir/empty/bin/python", 'client.py');
	like($out, qr/^account /, 'python: which prints the result');
	is(sdk_stop($proc), 'ended', 'python: it stops when asked') or diag(slurp_file("$dir/python.log"));
}
SKIP: {
	my $cache = $ENV{ROMANCY_NPM_CACHE} // '';
	skip 'there is no cache of npm packages', 1 unless $languages{typescript} && -f "$cache/ready";
	system 'rm', '-rf', "$dir/user";
	mkdir "$dir/user";
	newcomer('typescript');
	put('package.json', '{"type": "module"}');
	# (npm writes into its cache and looks for its settings)
	local $ENV{HOME} = $dir;
	my @npm = ('npm', '--cache', "$dir/npm", '--no-audit', '--no-fund', '--loglevel=error', '--no-update-notifier');
	does('typescript: a copy', 'cp', '-rL', '--no-preserve=mode', $cache, "$dir/npm");
	does('typescript: a copy of the library', 'sh', '-c', 'mkdir "$1" && cd "$0" && cp -r dist src test package.json README.md "$1"', RomancySdk::sdk_built('ts'), "$dir/ts") or last;
	does('typescript: the tarball is made', 'sh', '-c', 'cd "$0" && "$@" pack', "$dir/ts", @npm) or last;
	my ($tarball) = glob("$dir/ts/*.tgz");
	my @files = split /\n/, qx{tar -tzf '$tarball'};
	is(join(' ', grep { !m{^package/(?:dist/\w+\.(?:js|d\.ts)|package\.json|README\.md)$} } @files), '', 'typescript: it holds the compiled library and nothing else');
	does('typescript: it is installed into an empty project', @npm, 'install', '--offline', $tarball) or last;
	my @blocks = blocks('typescript', 'ts');
	# (it names the folder of the server's socket, for node-postgres knows none by itself)
	ok($blocks[0] =~ s{host=/var/run/postgresql\b}{'host=' . $node->host}e, 'typescript: the README\'s program names a server');
	put('signup.ts', $blocks[0]);
	put('worker.ts', $blocks[1]);
	put('client.ts', "$blocks[2]import { app } from './signup.js';\nawait app.end();\n");
	does('typescript: the README\'s programs compile with it', 'node', "$ENV{NODE_PATH}/typescript/bin/tsc", qw(--module nodenext --target es2022 --strict --skipLibCheck --types node --typeRoots), "$ENV{NODE_PATH}/\@types",
		'signup.ts', 'worker.ts', 'client.ts') or last;
	my $proc = runs('typescript', 'node', 'worker.js');
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGUSER => $user);
	does('typescript: and the second', 'node', 'client.js');
	like($out, qr/^account /, 'typescript: which prints the result');
	is(sdk_stop($proc), 'ended', 'typescript: it stops when asked') or diag(slurp_file("$dir/typescript.log"));
}
SKIP: {
	skip 'there is no Go', 1 unless $languages{go};
	system 'rm', '-rf', "$dir/user";
	mkdir "$dir/user";
	newcomer('go');
	local $ENV{GOTOOLCHAIN} = 'local';
	local $ENV{GOCACHE} = $ENV{GOCACHE} && -w $ENV{GOCACHE} ? $ENV{GOCACHE} : "$dir/cache";
	# (the modules that it needs are in the cache: no network)
	local $ENV{GOPROXY} = 'off';
	local $ENV{GOFLAGS} = '-mod=mod -modcacherw -buildvcs=false';
	local $ENV{GOSUMDB} = 'off';
	does('go: a copy', 'cp', '-r', "$sdk/go", "$dir/go");
	put('main.go', (blocks('go', 'go'))[0]);
	does('go: an empty module', 'go', 'mod', 'init', 'shop');
	does('go: with the library', 'go', 'mod', 'edit', '-require', 'romancy@v0.1.0', '-replace', "romancy=$dir/go");
	does('go: the README\'s program compiles with it', 'go', 'build', '-o', "$dir/signup", '.') or last;
	my $proc = runs('go', "$dir/signup");
	is(sdk_stop($proc), 'ended', 'go: it stops when asked') or diag(slurp_file("$dir/go.log"));
}
$node->stop('fast');
done_testing();
