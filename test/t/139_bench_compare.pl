# bench/run --compare says which figures of a run are worse than a saved run's, by how much and with how much noise. It would catch
# a slower figure that it passes over, one that is told where the runs themselves differ as much, times that are compared with those of another
# machine, and less time that is taken for a loss.
use strict;
use warnings;
use FindBin;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $run = "$FindBin::RealBin/../../bench/run";
plan skip_all => 'needs python3' if system('python3 -c "" 2>/dev/null') != 0;
my $dir = PostgreSQL::Test::Utils::tempdir;

# saved($name, $machine, [metric, value, unit, runs, more]...): a file as bench/run writes it
sub saved
{
	my ($name, $machine, @metrics) = @_;
	my @rows = map {
		my ($metric, $value, $unit, $runs, $more) = @$_;
		qq({"metric": "$metric", "value": $value, "unit": "$unit", "runs": [$runs]) . ($more // '') . '}'
	} @metrics;
	PostgreSQL::Test::Utils::append_to_file("$dir/$name",
		qq({"results": [{"name": "x", "title": "(x) all", "machine": "$machine", "scale": 1.0, "metrics": [) . join(', ', @rows) . ']}]}');
	return "$dir/$name";
}

# compare($old, $new): exit code and output
sub compare
{
	my ($out, $err);
	my $ok = IPC::Run::run([ 'python3', '-B', $run, '--compare', @_ ], '>', \$out, '2>', \$err);
	is($err, '', 'no error');
	return ($? >> 8, $out);
}

my $old = saved('old', 'one', [ 'rate', 1000, 'tasks/s', '990, 1000, 1010' ], [ 'noisy', 1000, 'tasks/s', '800, 1000, 1200' ], [ 'time', 10, 'ms', '9.9, 10, 10.1' ],
	[ 'ratio', 0.9, '', '0.89, 0.9, 0.91' ], [ 'growth', 2, '', '2, 2.01, 1.99', ', "aim": "<= 2.2"' ], [ 'steady', 1000, 'tasks/s', '999, 1000, 1001' ]);
my $new = saved('new', 'one', [ 'rate', 900, 'tasks/s', '890, 900, 910' ], [ 'noisy', 900, 'tasks/s', '700, 900, 1100' ], [ 'time', 8, 'ms', '7.9, 8, 8.1' ],
	[ 'ratio', 0.8, '', '0.79, 0.8, 0.81' ], [ 'growth', 3, '', '3, 3.01, 2.99', ', "aim": "<= 2.2"' ], [ 'steady', 995, 'tasks/s', '994, 995, 996' ]);
my ($rc, $out) = compare($old, $new);
is($rc, 3, 'something is slower');
like($out, qr/6 figures, 3 slower, 1 quicker/, 'so many');
my ($slower, $quicker) = split /^quicker:/m, $out;
like($slower, qr/-10\.0% \(noise 1\.5%\): rate: 1000 -> 900 tasks\/s \[\(x\) all\]/, 'a rate that has fallen, and its noise');
like($slower, qr/-11\.1% \(noise [\d.]+%\): ratio/, 'a ratio');
like($slower, qr/\+50\.0% \(noise [\d.]+%\): growth/, 'one that is to be small has grown');
unlike($out, qr/noisy|steady/, 'neither what is in the noise nor less than a hundredth');
like($quicker, qr/-20\.0% \(noise [\d.]+%\): time/, 'less time is quicker');

my $other = saved('other', 'two', [ 'rate', 100, 'tasks/s', '99, 100, 101' ], [ 'ratio', 0.9, '', '0.89, 0.9, 0.91' ]);
($rc, $out) = compare($old, $other);
is($rc, 0, 'on another machine');
like($out, qr/1 figures, 0 slower/, 'ratios alone are compared');

my $alike = saved('alike', 'one', [ 'ratio', 0.5, '', '0.5, 0.5, 0.51' ], [ 'ratio', 0.9, '', '0.89, 0.9, 0.91' ]);
($rc, $out) = compare($alike, $alike);
is($rc, 0, 'two figures of one name are compared each with its own');
like($out, qr/2 figures, 0 slower, 0 quicker/, 'and neither has changed');

my $once = saved('once', 'one', [ 'rate', 900, 'tasks/s', '900' ]);
($rc, $out) = compare($old, $once);
is($rc, 0, 'a figure that was measured once proves nothing');
like($out, qr/measured once.*\n  -10\.0%: rate/, 'but is told');

done_testing();
