# Every program of sdk/COMING_FROM.md runs as it stands, and does what the page says: a policy, a terminal error, a compensation and a timeout; a
# chain with a chord, and a group. Would catch a name on the page that a library does not have.
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

plan skip_all => 'the libraries depend little on the server: this runs with 15' unless qx{pg_config --version} =~ /PostgreSQL 15/;

my $node = romancy_node('sdk_coming_from', 'max_connections' => 100, 'autovacuum' => 'off');
my @languages = sdk_languages();
my $dir = PostgreSQL::Test::Utils::tempdir();
my $page = slurp_file("$FindBin::RealBin/../../sdk/COMING_FROM.md");
my %kind = (python => 'python', typescript => 'ts', go => 'go');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub put { my ($name, $text) = @_; open my $fh, '>', $name or die "$name: $!"; print $fh $text; close $fh; return }
sub does { my ($what, @command) = @_; my $out = ''; my $ok = IPC::Run::run(\@command, '<', '/dev/null', '>&', \$out); ok($ok, $what) or diag($out); return }

# command($language, $name, $program): how a program of the page is run
sub command
{
	my ($language, $name, $program) = @_;
	if ($language eq 'python')
	{
		put("$dir/$name.py", $program);
		return ('/usr/bin/python3', "$dir/$name.py");
	}
	if ($language eq 'typescript')
	{
		my $user = RomancySdk::sdk_built('user');
		mkdir "$user/page";
		put("$user/page/$name.ts", $program);
		does("$language: $name compiles", 'sh', '-c', 'cd "$0" && node "$NODE_PATH/typescript/bin/tsc" --module nodenext --target es2022 --strict --skipLibCheck --types node --typeRoots "$NODE_PATH/@types" "page/$1.ts"', $user, $name);
		return ('node', "$user/page/$name.js");
	}
	my $go = RomancySdk::sdk_built('go') . "/internal/page_$name";
	mkdir $go;
	put("$go/main.go", $program);
	local $ENV{GOTOOLCHAIN} = 'local';
	local $ENV{GOFLAGS} = '-modcacherw -buildvcs=false';
	local $ENV{GOCACHE} = $ENV{GOCACHE} && -w $ENV{GOCACHE} ? $ENV{GOCACHE} : "$dir/cache";
	does("$language: $name compiles", 'go', 'build', '-C', $go, '-o', "$dir/$name", '.');
	return ("$dir/$name");
}

for my $language (@languages)
{
	my $role = "from_$language";
	my $as = "SET SESSION AUTHORIZATION $role; ";
	my ($coming, $canvas) = $page =~ /^```$kind{$language}\n(.*?)^```$/msg;
	my @found = $page =~ /^```$kind{$language}$/mg;
	is(@found, 2, "$language: the page has two programs");
	sql("CREATE ROLE $role LOGIN; SELECT romancy.grant_usage('$role')");
	local @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE)} = ($node->host, $node->port, $role, 'postgres');
	my $start = sub { my ($name, $program) = @_; return sdk_start('', "$dir/$language.$name.log", command($language, $name, $program)) };
	my $ends = sub {
		my ($input, $send) = @_;
		my $id = sql("$as SELECT romancy.start_workflow('coming', '\"$input\"')");
		sql("$as SELECT romancy.send_to('$id', 'confirmed')") if $send;
		my ($rc, $out, $err) = $node->psql('postgres', "$as CALL romancy.await_result('$id', '90 s')");
		return "$out$err";
	};

	my $proc = $start->('coming', $coming);
	poll_until($node, "SELECT count(*) = 1 FROM romancy.workflows WHERE owner = '$role' AND name = 'coming' AND defined", "$language: the worker runs")
	  or diag(slurp_file("$dir/$language.coming.log"));
	is($ends->('eva@x', 1), '"account 5"', "$language: a sign-up");
	like($ends->('nowhere', 0), qr/this is no address/, "$language: a terminal error");
	like($ends->('late@x', 0), qr/nobody confirmed/, "$language: a timeout");
	is(sdk_stop($proc), 'ended', "$language: the worker stops when asked");
	like(slurp_file("$dir/$language.coming.log"), qr/closed account 6/, "$language: its account is closed");

	$proc = $start->('canvas', $canvas);
	poll_until($node, "SELECT count(*) = 2 FROM romancy.instances WHERE owner = '$role' AND workflow <> 'coming' AND parent_id IS NULL AND status = 'completed'",
		"$language: both canvases complete") or diag(slurp_file("$dir/$language.canvas.log"), sql("SELECT workflow, status, error FROM romancy.instances WHERE owner = '$role'"));
	is(sql("SELECT string_agg(output::text, ' ' ORDER BY created_at, instance_id) FROM romancy.instances WHERE owner = '$role' AND workflow <> 'coming' AND parent_id IS NULL"),
		'20 [2, 4]', "$language: a chain with a chord, and a group");
	is(sdk_stop($proc), 'ended', "$language: the worker stops when asked");
}
$node->stop('fast');
done_testing();
