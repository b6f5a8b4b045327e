# Type checkers and linters of each language: mypy --strict and ruff; tsc --strict and eslint; gofmt, go vet and staticcheck. It would catch a call that the
# types of a library do not allow, or no longer describe.
# Takes 50 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Utils;
use RomancySdk;
use Test::More;

plan skip_all => 'the sources do not depend on the server: this runs with 15, without assertions' unless sdk_alone();

my $sdk = "$FindBin::RealBin/../../sdk";
my $dir = PostgreSQL::Test::Utils::tempdir();
sub clean
{
	my ($what, $folder, @command) = @_;
	my $out = '';
	my $ok = eval { IPC::Run::run(\@command, '<', '/dev/null', '>&', \$out, init => sub { chdir $folder or die "chdir: $!" }) };
	ok($ok, "$what is clean") or diag("@command: $out");
	return;
}
IPC::Run::run([ 'cp', '-r', $sdk, "$dir/sdk" ]) or BAIL_OUT('cp');

SKIP: {
	my $tools = ($ENV{ROMANCY_PYTHON_TOOLS} // '') . '/venv/bin';
	skip 'there are no mypy and ruff', 1 unless -x "$tools/mypy" && -x "$tools/ruff";
	clean('mypy --strict', "$dir/sdk/python", "$tools/mypy", '--cache-dir', "$dir/mypy");
	local $ENV{MYPYPATH} = 'src';
	clean('mypy --strict, of programs that use the library', "$dir/sdk/python", "$tools/mypy", '--cache-dir', "$dir/mypy", 'examples/signup.py', 'examples/report.py');
	clean('ruff', "$dir/sdk/python", "$tools/ruff", 'check', '--no-cache', '.', '../vectors');
}
SKIP: {
	my $modules = $ENV{NODE_PATH} // '';
	skip 'there is no eslint', 1 unless -f "$modules/eslint/bin/eslint.js" && -f "$modules/typescript/bin/tsc";
	symlink $modules, "$dir/sdk/typescript/node_modules" or BAIL_OUT("symlink: $!") unless -e "$dir/sdk/typescript/node_modules";
	clean('eslint', "$dir/sdk/typescript", 'node', "$modules/eslint/bin/eslint.js", 'src');
	like(slurp_file("$sdk/typescript/tsconfig.json"), qr/"strict": true/, 'the compiler is strict (and finds nothing where the tests compile the library)');
}
SKIP: {
	my ($version, $err) = ('', '');
	local $ENV{GOTOOLCHAIN} = 'local';
	skip 'there is no Go 1.21 or newer', 1 unless eval { IPC::Run::run([ 'go', 'version' ], '>', \$version, '2>', \$err) } && $version =~ /go1\.(\d+)/ && $1 >= 21;
	local $ENV{GOCACHE} = $ENV{GOCACHE} && -w $ENV{GOCACHE} ? $ENV{GOCACHE} : "$dir/cache";
	local $ENV{GOFLAGS} = '-modcacherw -buildvcs=false';
	clean('gofmt', "$dir/sdk/go", 'sh', '-c', 'test -z "$(gofmt -l .)" || { gofmt -d .; exit 1; }');
	clean('go vet', "$dir/sdk/go", qw(go vet ./...));
	my $linter = ($ENV{ROMANCY_GO_TOOLS} // '') . '/staticcheck';
	skip 'there is no staticcheck', 1 unless -x $linter;
	local $ENV{STATICCHECK_CACHE} = "$dir/staticcheck";
	clean('staticcheck', "$dir/sdk/go", $linter, './...');
}
done_testing();
