# A session that is kept over DROP EXTENSION and CREATE EXTENSION (by another session, or by itself) goes on: all views, health(), metrics(), html_report(), called directly, in
# prepared statements and in functions that have plans of their own, as a superuser and as a monitor. While the extension is gone it gets an ordinary error.
# It would catch an oid, a plan or a description of a table that is kept too long (XX000: could not open relation, cache lookup failed).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('new_extension');
my $create = q{SET client_min_messages = error; CREATE EXTENSION IF NOT EXISTS romancy; SELECT romancy.grant_usage('mon', true)};
my $drop = 'SET client_min_messages = error; DROP EXTENSION romancy CASCADE';
$node->safe_psql('postgres', "CREATE ROLE mon LOGIN; $create");
my @views = split /\n/, $node->safe_psql('postgres', q{SELECT relname FROM pg_class WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'v' AND relname !~ '^t_' ORDER BY 1});
cmp_ok(scalar(@views), '>', 15, 'views');
my @calls = qw(html_report() metrics() health() list_instances() schedule_times('@hourly'));
my @queries = map { "SELECT count(v::text) FROM romancy.$_ v" } @views, @calls;
$node->safe_psql('postgres', 'CREATE FUNCTION kept() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; t bigint = 0; BEGIN '
	. join(' ', map { s/SELECT count\(v::text\)/SELECT count(v::text) INTO n/r . '; t := t + n;' } @queries) . ' RETURN t; END $$');
my %session = map { $_ => $node->background_psql('postgres', on_error_stop => 0) } qw(superuser monitor);
$session{monitor}->query_safe('SET SESSION AUTHORIZATION mon');
my $n = 0;
my @statements = ('SELECT kept()');
for my $query (@queries)
{
	$_->query_safe("PREPARE p$n AS $query") for values %session;
	push @statements, $query, 'EXECUTE p' . $n++;
}
sub all
{
	my ($what, $gone) = @_;
	for my $who (sort keys %session)
	{
		my $s = $session{$who};
		my @bad;
		$s->{stderr} = '';
		$s->query_safe('\set VERBOSITY sqlstate');
		for my $statement (@statements)
		{
			$s->{stderr} = '';
			$s->query($statement);
			my ($state) = $s->{stderr} =~ /ERROR:\s+(\w+)/;
			push @bad, "$statement: " . ($state // 'no error') if $gone ? ($state // '') !~ /^(?:42P01|42883|3F000|42704|55000)$/ : defined $state;
		}
		is(join("\n", @bad), '', "$what: $who");
	}
	return;
}
all('at first');
$node->safe_psql('postgres', "$drop; $create");
all('another session has made it anew');
$node->safe_psql('postgres', $drop);
all('it is gone', 1);
$node->safe_psql('postgres', $create);
all('it is back');
$session{superuser}->query_safe($drop);
$session{superuser}->query_safe($create);
all('the session itself has made it anew');
$_->quit for values %session;
unlike(slurp_file($node->logfile), qr/could not open relation|cache lookup failed|TRAP|PANIC/, 'no internal error in the log');
$node->stop;
done_testing();
