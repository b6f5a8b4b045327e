# The README's tour works when pasted line by line, and is the one in examples/.
# And outputs expire by the setting. It would catch documentation that drifted.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $readme = slurp_file("$top/README.md");
my ($tour) = $readme =~ /## Five minutes.*?```sql\n(.*?)```/s;
ok($tour, 'the README has a tour');
my $example = slurp_file("$top/examples/quickstart.sql");
my $squeeze = sub { my $s = shift; $s =~ s/--[^\n]*//g; $s =~ s/\s+/ /g; $s =~ s/^ | $//g; return $s };
like($squeeze->($example), qr/\Q@{[$squeeze->($tour)]}\E/, 'examples/quickstart.sql is the same');

my $node = romancy_node('quickstart', 'romancy.result_expires' => '1s');
my ($rc, $out, $err) = $node->psql('postgres', $tour, on_error_stop => 1);
is($rc, 0, 'it runs') or diag($err);
like($out, qr/^3$/m, 'the flaky activity gets through in the third attempt');
is($node->safe_psql('postgres', q{SELECT string_agg(status || ' ' || count, ',' ORDER BY status) FROM (SELECT status, count(*) FROM romancy.instances GROUP BY 1) x}),
	'completed 3', 'three workflows ran, those that were rolled back never were');
is($node->safe_psql('postgres', q{SELECT count(*) FROM mails}), '4', 'two mails for each that was started');

my $id = $node->safe_psql('postgres', q{SELECT instance_id FROM romancy.instances WHERE workflow = 'try_hard'});
poll_until($node, q{SELECT romancy.run_sweep('retention') IS NOT NULL AND (SELECT count(*) = 0 FROM romancy.instances WHERE output IS NOT NULL)}, 'outputs expire');
($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSELECT romancy.get_result('$id')");
like($err, qr/RM010/, 'and get_result says so');
$node->stop('fast');
done_testing();
