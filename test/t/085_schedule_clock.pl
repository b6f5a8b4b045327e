# Schedules on a server whose clock is set ahead and back while it runs, whose zone data is replaced between two starts, and
# whose standby is promoted: a preloaded library (test/cron/world.c) gives the server its clock and its zones. Each time runs once or is
# counted with its reason. It would catch a process that sleeps through a change of the clock, next times of old zone data, a
# zone that is gone and ends a schedule without a word, a TZ of the server's environment that moves times, and a standby that runs what the primary ran.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Copy ();
use File::Path ();
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep);

my $dir = PostgreSQL::Test::Utils::tempdir();
my $config = $ENV{PG_CONFIG} || 'pg_config';
my ($err) = ('');
plan skip_all => 'world.c is written for Linux' unless $^O eq 'linux';
IPC::Run::run([ 'cc', '-shared', '-fPIC', '-O1', '-U_FORTIFY_SOURCE', '-o', "$dir/world.so", "$FindBin::RealBin/../cron/world.c", '-ldl' ], '2>', \$err) or die "world.c: $err";

# the server's zones, and a directory beside that has some of them, and one that changes
my ($zones) = `$config --configure` =~ /--with-system-tzdata=([^' ]+)/;
chomp(my $share = `$config --sharedir`);
$zones //= "$share/timezone";
mkdir "$dir/zones" and mkdir "$dir/zones/Test";
symlink "$zones/$_", "$dir/zones/$_" for grep { -e "$zones/$_" } qw(UTC GMT Etc Europe Asia America Universal Zulu);
sub zone_is { File::Copy::copy("$zones/$_[0]", "$dir/zones/Test/Zone") or die "$_[0]: $!" }
zone_is('Asia/Tokyo');

my $ahead = 0;
sub set_clock
{
	open my $f, '+<', "$dir/clock" or die;
	syswrite $f, pack('q', $ahead = $_[0]);
	return;
}
sub pass_time { return set_clock($ahead + $_[0]) }
open my $f, '>', "$dir/clock" or die;
print $f pack('q', 0);
close $f;
sub start
{
	my ($server) = @_;
	local $ENV{LD_PRELOAD} = "$dir/world.so";
	# a zone of the environment changes nothing
	local $ENV{TZ} = 'Asia/Kolkata';
	local ($ENV{WORLD_CLOCK}, $ENV{WORLD_ZONES}, $ENV{WORLD_ZONES_AT}) = ("$dir/clock", $zones, "$dir/zones");
	return $server->start;
}

my $node = romancy_node('world', _start => 0, _init => [ allows_streaming => 1 ], 'timezone' => 'UTC', 'log_timezone' => 'UTC', 'romancy.schedule_interval' => '1h',
	'romancy.sweep_jitter' => 0, 'romancy.retry_backoff_max' => '1h', 'romancy.worker_idle_timeout' => '500ms');
start($node);
sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }
my $hour = 3600;
my $day = 24 * $hour;

sql(q{
	CREATE EXTENSION romancy;
	CREATE FUNCTION run(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(romancy.scheduled_at()); END $$;
	CREATE VIEW seen AS SELECT s.name, s.runs, s.missed, s.paused, s.note, s.next_run,
		(SELECT count(*) FROM romancy.instances i WHERE i.labels->>'schedule' = s.name) AS instances,
		(SELECT count(DISTINCT i.labels->>'scheduled_at') FROM romancy.instances i WHERE i.labels->>'schedule' = s.name) AS times
		FROM romancy.schedules s;
});
sub seen { return sql("SELECT runs || ' ' || instances || ' ' || times || ' ' || missed FROM seen WHERE name = '$_[0]'") }
sub ran { my ($name, $runs, $what) = @_; return poll_until($node, "SELECT runs FROM seen WHERE name = '$name'", $what, expected => $runs) }

# ---- the clock is set ahead while only the launcher is there, which sleeps until the next time as the clock was
sql(q{SELECT romancy.schedule('one', '@every 1h', 'run', overlap => 'queue', catch_up => '1 year'), romancy.schedule('all', '@every 1h', 'run', overlap => 'allow', catch_up => '1 year'),
	romancy.schedule('day', '@every 1h', 'run', overlap => 'allow')});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'only the launcher is there');
my $began = sql('SELECT clock_timestamp()');
pass_time($hour + 60);
is(sql("SELECT clock_timestamp() - '$began' > '1 hour'"), 't', 'the clock is an hour ahead');
ran('one', 1, 'what came meanwhile runs, though nobody was told');
ran('all', 1, 'each');
pass_time(5 * $hour);
ran('all', 6, 'five hours more: all of five');
ran('one', 2, 'or one of them');
is(seen('one'), '2 2 2 {"merged": 4}', 'the others are counted');
pass_time(7 * $day);
ran('all', 106, 'a week: a hundred of all');
is(seen('all'), '106 106 106 {"catch_up_limit": 68}', 'the others are counted');
ran('day', 30, 'or those of a day');
is(seen('day'), '30 30 30 {"too_old": 144}', 'the others are counted');

# ---- it is set back: nothing runs twice, and the next time waits for the clock
my $next = sql(q{SELECT next_run FROM seen WHERE name = 'all'});
pass_time(-3 * $day);
is(sql("SELECT '$next' - clock_timestamp() > '2 days 23 hours'"), 't', 'the clock is three days back');
sql(q{SELECT romancy.run_sweep('schedules')});
$node->stop;
start($node);
sql(q{SELECT romancy.run_sweep('schedules')});
is(seen('all'), '106 106 106 {"catch_up_limit": 68}', 'nothing runs, not even after a restart');
is(sql(q{SELECT next_run FROM seen WHERE name = 'all'}), $next, 'the next time is the same');
pass_time(3 * $day);
pass_time($hour);
ran('all', 107, 'when the clock is there again it runs');
is(seen('all'), '107 107 107 {"catch_up_limit": 68}', 'each time once');
sql(q{SELECT count(romancy.unschedule(name)) FROM romancy.schedules});

# ---- other zone data after a start: to a time that is further off, to a nearer one, and none
sql(q{SELECT romancy.schedule('zone', '0 3 * * *', 'run', timezone => 'Test/Zone')});
sub shown { return sql("SELECT to_char(next_run AT TIME ZONE '$_[0]', 'HH24:MI') || ' ' || (next_run - clock_timestamp() < '1 day') FROM seen WHERE name = 'zone'") }
is(shown('Asia/Tokyo'), '03:00 true', 'three in the morning, in Tokyo');
like(slurp_file("/proc/$node->{_pid}/environ"), qr{\0TZ=Asia/Kolkata\0}, 'whatever TZ the environment of the server has');
is(sql(q{SELECT romancy.schedule_times('0 3 * * *', after => '2026-03-28 12:00+00', n => 1)}), '2026-03-29 03:00:00+00', 'and in UTC');
my $runs = 0;
for my $zone ('Europe/Berlin', 'Asia/Tokyo', 'America/New_York', 'Asia/Kathmandu')
{
	$node->stop;
	zone_is($zone);
	start($node);
	poll_until($node, "SELECT to_char(next_run AT TIME ZONE '$zone', 'HH24:MI') FROM seen WHERE name = 'zone'", "as if it were $zone", expected => '03:00');
	is(shown($zone), '03:00 true', 'and the next one');
	my $wait = sql(q{SELECT ceil(extract(epoch FROM next_run - clock_timestamp())) FROM seen WHERE name = 'zone'});
	my $when = sql(q{SELECT next_run FROM seen WHERE name = 'zone'});
	pass_time($wait + 1);
	ran('zone', ++$runs, 'it runs');
	is(sql(q{SELECT last_run FROM romancy.schedules WHERE name = 'zone'}), $when, 'for that time');
	is(seen('zone'), "$runs $runs $runs {}", 'each time once, none missed');
}
$node->stop;
unlink "$dir/zones/Test/Zone";
start($node);
poll_until($node, q{SELECT note FROM seen WHERE name = 'zone'}, 'a zone that is gone: it pauses itself', expected => 'timezone "Test/Zone" is not known any more');
like(sql(q{SELECT romancy.health()->>'attention'}), qr/paused itself/, 'health() says so');
my ($rc, $out, $message) = $node->psql('postgres', q{SELECT romancy.resume_schedule('zone')});
like($message, qr/timezone "Test\/Zone" is not the name of a time zone/, 'it cannot be resumed');
pass_time(2 * $day);
$node->stop;
zone_is('Asia/Tokyo');
start($node);
is(sql(q{SELECT romancy.resume_schedule('zone')}), 't', 'when it is there again, it can');
is(shown('Asia/Tokyo'), '03:00 true', 'and goes on');
is(seen('zone'), "$runs $runs $runs {\"paused\": 2}", 'what came meanwhile is counted');
sql(q{SELECT romancy.unschedule('zone')});

# ---- a standby is promoted, hours after the primary died: it catches up, and runs nothing that had run
sql(q{SELECT romancy.schedule('two_one', '@every 1h', 'run'), romancy.schedule('two_all', '@every 1h', 'run', overlap => 'allow')});
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('world_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
start($standby);
sql(q{ALTER SYSTEM SET synchronous_standby_names = '*'; ALTER SYSTEM SET synchronous_commit = on});
$node->reload;
poll_until($node, q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}, 'the standby is synchronous');
pass_time(2 * $hour);
ran('two_all', 2, 'two hours on the primary');
ran('two_one', 1, 'of which one runs');
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'they have ended');
is($standby->safe_psql('postgres', q{SELECT string_agg(runs::text, ' ' ORDER BY name) FROM seen}), '2 1', 'the standby knows, and runs nothing');
$node->stop('immediate');
$node = $standby;
pass_time(3 * $hour);
$standby->promote;
ran('two_all', 5, 'promoted, it runs the three that came meanwhile');
ran('two_one', 2, 'or one of them');
is(seen('two_all'), '5 5 5 {}', 'each once');
is(seen('two_one'), '2 2 2 {"merged": 3}', 'the others are counted');
$standby->stop;
done_testing();
