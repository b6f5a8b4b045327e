# Every SQL block of README.md and doc/*.md runs as it stands, pasted in order into a database of its document's own, and no workflow that
# it starts is paused or fails. A line that ends in a comment "-- shows X" shows the row X, with | between columns. A comment <!-- fragment --> before a block says that it is a part of something; <!-- given: SQL --> names what the
# reader has. It would catch an example that lacks a function, one that drifted from the API, and one that shows what a reader does not see.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancyTest;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $node = romancy_node('docs', 'romancy.max_workers' => 4, 'romancy.worker_idle_timeout' => '1s');
# roles of the reader's; README.md makes its own
$node->safe_psql('postgres', 'CREATE ROLE app; CREATE ROLE web; CREATE ROLE batch');

my ($run, $fragments) = (0, 0);
for my $file ('README.md', map { s{^\Q$top\E/}{}r } sort glob("$top/doc/*.md"))
{
	my $text = slurp_file("$top/$file");
	next unless $text =~ /^```sql$/m;
	(my $db = lc "doc_$file") =~ s/\W+/_/g;
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION romancy') unless $file eq 'README.md';
	while ($text =~ /(?:^<!-- (fragment|given: (.*?)) -->\n)?^```sql\n(.*?)^```$/msg)
	{
		my ($mark, $given, $block) = ($1 // '', $2, $3);
		my $line = 1 + (substr($text, 0, $-[3]) =~ tr/\n//);
		if ($mark eq 'fragment') { $fragments++; next }
	  SKIP:
		{
			skip "$file:$line: this build has no libcurl", 1 if $block =~ m{https?://} && !has_http();
			$node->safe_psql($db, $given) if defined $given;
			my ($rc, $out, $err) = $node->psql($db, $block, on_error_stop => 1);
			is($rc, 0, "$file:$line runs") or diag($err);
			my $rest = "\n$out\n";
			for my $shown ($block =~ /-- shows (.+)$/mg) { ok($rest =~ s/^.*?\n\Q$shown\E(?=\n)//s, "$file:$line shows $shown") or diag($rest) }
			$run++;
		}
	}
	my $waits = q{i.status IN ('pending', 'running')};
	poll_until($node, "SELECT count(*) = 0 FROM romancy.instances i WHERE $waits", "$file: what it starts has come to a wait or to its end", dbname => $db);
	is($node->safe_psql($db, q{SELECT string_agg(workflow || ' ' || status || ' ' || coalesce(error ->> 'message', ''), ', ') FROM romancy.instances WHERE status IN ('paused', 'failed')}),
		'', "$file: nothing that it starts is paused or fails");
	$node->safe_psql('postgres', "DROP DATABASE $db WITH (FORCE)");
}
cmp_ok($run, '>', 20, "$run blocks run, $fragments are fragments");
$node->stop;
done_testing();
