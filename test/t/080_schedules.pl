# Schedules under a server that dies, rests and comes back: a scheduler killed between the start of a run and the
# update of its schedule, twenty times; restarts after an hour and after a week; sessions that fire the same as the scheduler, and schedulers
# that take over from one another meanwhile; other zone data; what runs at rest; owners that are dropped; dump and restore, and a copy that is adopted. Each time runs once or
# is counted with its reason. It would catch a time that runs twice or is lost, a poll, and a run that starts late because only a sweep saw it.
# Takes 75 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;
use Time::HiRes qw(usleep time);

my $rounds = $ENV{ROMANCY_SCHEDULE_KILLS} // 20;
# sweeps an hour apart: what runs in time was woken by its deadline
my $node = romancy_node('schedules', 'romancy.schedule_interval' => '1h', 'romancy.sweep_jitter' => 0, 'romancy.retry_backoff_max' => '1h',
	'romancy.schedulers' => 1, 'autovacuum' => 'off', 'checkpoint_timeout' => '1h', 'bgwriter_lru_maxpages' => 0, 'timezone' => 'UTC', 'restart_after_crash' => 'on');
sub sql { my ($sql, $db) = @_; return $node->safe_psql($db // 'postgres', $sql) }
sub missed { return sql("SELECT missed FROM romancy.schedules WHERE name = '$_[0]'") }
sub enabled
{
	my ($on) = @_;
	sql("ALTER SYSTEM SET romancy.enabled = $on");
	$node->reload;
	poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'the workers have left') if $on eq 'off';
}

sql(q{
	CREATE TABLE ran (schedule text, scheduled timestamptz, pid int DEFAULT pg_backend_pid());
	CREATE FUNCTION note(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO ran VALUES (i #>> '{}', romancy.scheduled_at()); RETURN i; END $$;
	CREATE FUNCTION run(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('note', i); END $$;
	CREATE FUNCTION waits(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb((romancy.receive('go')).data); END $$;
	CREATE FUNCTION pass(schedule text, by interval) RETURNS void LANGUAGE sql AS $$
		UPDATE romancy.t_schedule SET after_at = after_at - by, next_at = next_at - by, due_at = due_at - by, anchor = anchor - by WHERE name = schedule $$;
});

# ---- a deadline is kept without any sweep, also when no session is there
sql(q{SELECT romancy.schedule('second', '* * * * * *', 'run', '"second"', overlap => 'allow')});
poll_until($node, q{SELECT count(*) >= 4 FROM ran WHERE schedule = 'second'}, 'every second');
is(sql(q{SELECT count(*) - count(DISTINCT scheduled) FROM ran}), 0, 'each once');
sql(q{SELECT romancy.unschedule('second')});

# ---- what waits starts with the end of the one before
sql(q{SELECT romancy.schedule('queued', '@every 1h', 'waits', overlap => 'queue'); SELECT pass('queued', '1 hour'); SELECT romancy.run_sweep('schedules')});
sql(q{SELECT pass('queued', '61 min'); SELECT romancy.run_sweep('schedules')});
is(sql(q{SELECT running || ' ' || waiting FROM romancy.schedules WHERE name = 'queued'}), '1 1', 'one waits');
sql(q{SELECT romancy.send_to(instance_id, 'go', '1') FROM romancy.schedule_runs('queued') WHERE status <> 'waiting'});
poll_until($node, q{SELECT running = 1 AND waiting = 0 AND runs = 2 AND completed = 1 FROM romancy.schedules WHERE name = 'queued'}, 'it starts when that has ended');
sql(q{SELECT romancy.unschedule('queued')});

# ---- killed between the start and the update: the lock lets the sweep lock rows and start runs, but not write the schedule
# (every two seconds: of times that are late, a hundred are run, and those of three minutes are fewer)
sql(q{SELECT romancy.schedule('killed', '*/2 * * * * *', 'run', '"killed"', overlap => 'allow')});
my $held = q{SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND l.relation = 'romancy.t_schedule'::regclass
	AND a.backend_type LIKE 'romancy%'};
my $killed = 0;
for my $round (1 .. $rounds)
{
	my $holder = $node->background_psql('postgres');
	$holder->query_safe('BEGIN; LOCK TABLE romancy.t_schedule IN SHARE MODE');
	my $pid = '';
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	until ($pid) { last if time > $deadline; usleep(20_000); ($pid) = split /\n/, sql($held) }
	last unless $pid;
	$killed += kill 'KILL', $pid;
	my $up = sub { my ($o, $e) = ('', ''); eval { $node->psql('postgres', 'SELECT 1', stdout => \$o, stderr => \$e) }; return $o eq '1' };
	usleep(20_000) until kill(0, $pid) == 0 || time > $deadline;
	eval { $holder->{run}->finish };
	usleep(50_000) until $up->() || time > $deadline;
}
is($killed, $rounds, 'killed each time');
sub all_once
{
	my ($schedule, $step) = @_;
	return sql(qq{SELECT count(DISTINCT scheduled) = count(*) AND extract(epoch FROM max(scheduled) - min(scheduled)) / $step + 1 = count(*) FROM ran WHERE schedule = '$schedule'});
}
my $last = sql(q{SELECT max(scheduled) FROM ran WHERE schedule = 'killed'}) || '-infinity';
poll_until($node, "SELECT max(scheduled) > '$last'::timestamptz + interval '2 s' FROM ran WHERE schedule = 'killed'", 'it goes on');
sql(q{SELECT romancy.pause_schedule('killed')});
# an executor waits for the lock as well, when it ends a run; a run at whose end three were killed is paused until a role resumes it
poll_until(sub {
	sql(q{SELECT romancy.resume_workflow(instance_id) FROM romancy.instances WHERE status = 'paused'});
	return sql(q{SELECT running = 0 FROM romancy.schedules WHERE name = 'killed'}) eq 't';
}, 'all have ended') or diag(sql(q{SELECT status, error FROM romancy.instances WHERE finished_at IS NULL}));
is(all_once('killed', 2), 't', 'each time once') or diag(sql(q{SELECT scheduled, count(*) FROM ran WHERE schedule = 'killed' GROUP BY 1 ORDER BY 1}));
is(missed('killed'), '{}', 'none was missed');
is(sql(q{SELECT runs = completed AND runs = (SELECT count(*) FROM ran WHERE schedule = 'killed') FROM romancy.schedules WHERE name = 'killed'}), 't', 'the counters agree');
sql(q{SELECT romancy.unschedule('killed')});

# ---- a restart after an hour, and after a week; the clock set ahead is the same, set back the next time waits
for my $case ([ 'hour', '1 hour 30 min', 'skip', 1, '{}' ], [ 'hour_all', '1 hour 30 min', 'allow', 1, '{}' ],
	[ 'week', '7 days 30 min', 'skip', 1, '{"merged": 23, "too_old": 144}' ], [ 'week_all', '7 days 30 min', 'allow', 24, '{"too_old": 144}' ])
{
	my ($name, $by, $overlap) = @$case;
	sql("SELECT romancy.schedule('$name', '\@every 1h', 'run', '\"$name\"', overlap => '$overlap')");
}
enabled('off');
sql(q{SELECT pass(name, CASE WHEN name LIKE 'hour%' THEN '1 hour 30 min' ELSE '7 days 30 min' END::interval) FROM romancy.t_schedule WHERE name LIKE 'hour%' OR name LIKE 'week%'});
sql(q{SELECT romancy.schedule('back', '@every 1h', 'run', '"back"'); SELECT pass('back', '-2 days')});
$node->stop;
sql('') if 0;
$node->append_conf('postgresql.conf', "romancy.enabled = on");
sql_offline();
for my $case ([ 'hour', 1, '{}' ], [ 'hour_all', 1, '{}' ], [ 'week', 1, '{"merged": 23, "too_old": 144}' ], [ 'week_all', 24, '{"too_old": 144}' ])
{
	my ($name, $runs, $why) = @$case;
	poll_until($node, "SELECT count(*) = $runs FROM ran WHERE schedule = '$name'", "$name: $runs run after the start");
	is(missed($name), $why, "$name: the rest is counted");
}
is(sql(q{SELECT count(*) FROM ran WHERE schedule = 'back'}), 0, 'a clock that was set back: nothing runs twice');
sql(q{SELECT romancy.unschedule(name) FROM romancy.schedules});
sub sql_offline
{
	# ALTER SYSTEM's value goes before the file's
	my $auto = $node->data_dir . '/postgresql.auto.conf';
	my $conf = slurp_file($auto);
	$conf =~ s/^romancy.enabled.*\n//m;
	open my $f, '>', $auto or die;
	print $f $conf;
	close $f;
	$node->start;
}

# ---- other zone data since the last start: the next times are computed anew, at the start and when they are due
sql(q{SELECT romancy.schedule('zone', '0 3 * * *', 'run', '"zone"', timezone => 'Europe/Berlin')});
my $next = sql(q{SELECT next_run FROM romancy.schedules WHERE name = 'zone'});
enabled('off');
sql(q{UPDATE romancy.t_schedule SET next_at = next_at + interval '1 hour', due_at = due_at + interval '1 hour' WHERE name = 'zone'});
$node->stop;
sql_offline();
poll_until($node, q{SELECT next_run FROM romancy.schedules WHERE name = 'zone'}, 'a time that moved ahead', expected => $next);
sql(q{UPDATE romancy.t_schedule SET next_at = now() - interval '1 s', due_at = now() - interval '1 s' WHERE name = 'zone'; SELECT romancy.run_sweep('schedules')});
is(sql(q{SELECT next_run FROM romancy.schedules WHERE name = 'zone'}) . sql(q{SELECT count(*) FROM ran WHERE schedule = 'zone'}), $next . '0', 'one that moved back does not run at its old place');
sql(q{SELECT romancy.unschedule('zone')});

# ---- two schedulers, of which one fires, and four sessions that fire as well
$node->append_conf('postgresql.conf', "romancy.schedulers = 2\nromancy.schedule_interval = 50ms\nromancy.retry_backoff_max = 50ms");
$node->reload;
sql(q{SELECT romancy.schedule('many' || i, '* * * * * *', 'run', to_jsonb('many' || i), overlap => 'allow') FROM generate_series(1, 20) i});
my @others = map { IPC::Run::start([ 'psql', '-XqAtd', $node->connstr('postgres'), '-c',
	"DO \$\$ BEGIN FOR i IN 1 .. 300 LOOP PERFORM romancy.run_sweep('schedules'); COMMIT; END LOOP; END \$\$" ], '<', \'', '>', '/dev/null', '2>', '/dev/null') } 1 .. 4;
poll_until($node, q{SELECT count(*) = 20 FROM romancy.schedules WHERE name LIKE 'many%' AND completed >= 5}, 'they all run');
$_->finish for @others;
# and the schedulers alone, whose number changes: each leaves at that, and others take over, while a second's runs are started
for my $n (1, 2)
{
	my $old = sql(q{SELECT string_agg(pid::text, ',') FROM romancy.workers WHERE kind = 'scheduler'});
	$node->append_conf('postgresql.conf', "romancy.schedulers = $n");
	$node->reload;
	poll_until($node, "SELECT count(*) = $n AND bool_and(pid NOT IN ($old)) FROM romancy.workers WHERE kind = 'scheduler'", "$n other schedulers");
	my $max = sql(q{SELECT max(scheduled) FROM ran});
	poll_until($node, "SELECT count(DISTINCT schedule) = 20 FROM ran WHERE scheduled > '$max'", 'they go on');
}
sql(q{SELECT romancy.pause_schedule(name) FROM romancy.schedules WHERE name LIKE 'many%'});
poll_until($node, q{SELECT sum(running) = 0 FROM romancy.schedules WHERE name LIKE 'many%'}, 'all have ended');
is(join(',', map { all_once("many$_", 1) } 1 .. 20), join(',', ('t') x 20), 'each time once');
is(sql(q{SELECT string_agg(DISTINCT missed::text, ',') FROM romancy.schedules WHERE name LIKE 'many%'}), '{}', 'none was missed');
sql(q{SELECT romancy.unschedule(name) FROM romancy.schedules});
$node->append_conf('postgresql.conf', "romancy.schedulers = 1\nromancy.schedule_interval = 1h\nromancy.retry_backoff_max = 1h");
$node->reload;

# ---- an owner that is dropped
sql(q{CREATE ROLE gone; SELECT romancy.grant_usage('gone'); GRANT CREATE ON SCHEMA public TO gone});
sql(q{SET ROLE gone; CREATE FUNCTION theirs(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$; SELECT romancy.schedule('gone', '@every 1h', 'theirs')});
sql(q{DROP OWNED BY gone; DROP ROLE gone});
sql(q{SELECT pass('gone', '1 hour'); SELECT romancy.run_sweep('schedules')});
is(sql(q{SELECT missed || (error->>'message') FROM (SELECT missed::text, error FROM romancy.schedules WHERE name = 'gone') s}), '{"error": 1}role "gone" does not exist', 'counted, with the reason');
is(sql(q{SET romancy.namespace = 'gone'; SELECT romancy.unschedule('gone')}), 't', 'a superuser drops it');

# ---- an owner that is renamed: its schedule, its grants and its instances are those of the name
sql(q{CREATE ROLE named; SELECT romancy.grant_usage('named'); GRANT CREATE ON SCHEMA public TO named});
sql(q{SET ROLE named; CREATE FUNCTION whose(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(current_user); END $$; SELECT romancy.schedule('named', '@every 1h', 'whose')});
sql(q{ALTER ROLE named RENAME TO other; SELECT pass('named', '1 hour'); SELECT romancy.run_sweep('schedules')});
is(sql(q{SELECT missed || (error->>'message') || paused FROM (SELECT missed::text, error, paused FROM romancy.schedules WHERE name = 'named') s}), '{"error": 1}role "named" does not existfalse', 'a renamed owner: counted, with the reason');
my ($rc, $out, $err) = $node->psql('postgres', q{SET ROLE other; SELECT romancy.start_workflow('whose')});
like($err, qr/no namespace is granted to role "other"/, 'the new name has no grant');
is(sql(q{SELECT romancy.grant_usage('other', namespace => 'named'); SET ROLE other; CALL romancy.run_workflow('whose')}), "\n\"other\"", 'it is in the namespace when it has');
sql(q{SELECT romancy.revoke_usage('other'); ALTER ROLE other RENAME TO named; SELECT romancy.grant_usage('named'); SELECT pass('named', '1 hour'); SELECT romancy.run_sweep('schedules')});
poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE owner = 'named' AND status = 'completed' AND output = '"named"'}, 'with the name back it runs again, as its owner');
sql(q{SET romancy.namespace = 'named'; SELECT romancy.unschedule('named'); DROP OWNED BY named; DROP ROLE named});

# ---- dump and restore: the copy runs nothing before it is adopted, and then catches up
sql(q{SELECT romancy.schedule('dumped', '@every 1h', 'run', '"dumped"'); SELECT romancy.trigger_schedule('dumped')});
poll_until($node, q{SELECT count(*) = 1 FROM ran WHERE schedule = 'dumped'}, 'it ran');
$node->command_ok([ 'pg_dump', '-Fc', '-f', $node->basedir . '/dump', $node->connstr('postgres') ], 'dumped');
$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE template0');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('copy'), $node->basedir . '/dump' ], 'restored');
sql(q{SELECT pass('dumped', '1 hour')}, 'copy');
is(sql(q{SELECT name || runs || (SELECT count(*) FROM romancy.schedule_runs('dumped')) FROM romancy.schedules}, 'copy'), 'dumped11', 'the schedule and its run are there');
sql(q{SELECT romancy.adopt_database()}, 'copy');
poll_until($node, q{SELECT count(*) = 2 FROM ran WHERE schedule = 'dumped'}, 'adopted, it runs', dbname => 'copy');
sql(q{SELECT romancy.unschedule('dumped')});
sql(q{SELECT romancy.unschedule('dumped')}, 'copy');

# ---- at rest, with 1,000 schedules that are due in an hour
$node->append_conf('postgresql.conf', "romancy.worker_idle_timeout = 1s");
$node->reload;
sql(q{SELECT count(romancy.schedule('rest' || i, '@every 1h', 'run')) FROM generate_series(1, 1000) i; });
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'only the launcher is left', dbname => 'postgres');
sql('CHECKPOINT');
my $look = sub { $node->safe_psql('template1', q{SELECT xact_commit + xact_rollback, pg_current_wal_insert_lsn() FROM pg_stat_database WHERE datname = 'postgres'}) };
my ($before, $after) = ('', $look->());
for (1 .. 50) { $before = $after; usleep(200_000); $after = $look->(); last if $before eq $after }
my $end = time + ($ENV{ROMANCY_IDLE_SECONDS} // 20);
usleep(500_000) while time < $end;
is($look->(), $after, 'no transaction and no WAL');
# a deadline that is later than the launcher's next look at the clock (10 s at most), and earlier than all that it knows
sql(q{SELECT romancy.schedule('near', to_char(now() + interval '15 s', 'FMSS FMMI FMHH24 FMDD FMMM *'), 'run', '"near"')});
poll_until($node, q{SELECT count(*) = 1 FROM ran WHERE schedule = 'near'}, 'the launcher is told of a nearer time', dbname => 'postgres');
$node->stop;
done_testing();
