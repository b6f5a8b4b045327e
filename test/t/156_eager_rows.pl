# The row of an instance that its caller's session runs is written once, when it is completed: no update, no second version. Code that looks at the rows of instances, also in a block whose error it
# catches, by a function, or after a rollback, finds its own there as in an executor: then it has run once more with the row, and from then on the row of that version is written before, in all sessions.
# It would catch code that misses its instance's row, one that is written twice, effects of the first try that stay, and a start with a key that is lost or doubled.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('rows', 'autovacuum' => 'off', 'romancy.executors' => 1);
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($sql) = @_; my (undef, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql", on_error_stop => 0, extra_params => [ '-U', 'shop' ]); return ($out, $err) }

sql(q{CREATE ROLE shop LOGIN; GRANT CREATE ON SCHEMA public TO shop; SELECT romancy.grant_usage('shop');});
as(q{
	CREATE SEQUENCE tries;
	SELECT nextval('tries');
	CREATE TABLE effects (n text);
	CREATE TABLE late (n text);
	CREATE FUNCTION own() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM romancy.instances WHERE instance_id = romancy.instance_id() $$;
	CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO effects SELECT 'late ' || status FROM romancy.instances WHERE input->>'n' = NEW.n; RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
	CREATE FUNCTION look(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE found text := '';
	BEGIN
		IF i->>'n' <> 'child' THEN PERFORM nextval('tries'); END IF;
		INSERT INTO effects VALUES (i->>'n');
		CASE i->>'look'
			WHEN 'view' THEN found := own();
			WHEN 'join' THEN SELECT count(*) INTO found FROM romancy.instances JOIN effects ON input->>'n' = effects.n WHERE effects.n = i->>'n';
			WHEN 'caught' THEN
				BEGIN found := 1 / own(); EXCEPTION WHEN division_by_zero THEN found := 'missing'; END;
			WHEN 'caught below' THEN
				BEGIN
					BEGIN found := 1 / own(); EXCEPTION WHEN division_by_zero THEN found := 'missing'; END;
					RAISE EXCEPTION 'undone';
				EXCEPTION WHEN raise_exception THEN NULL;
				END;
			WHEN 'result' THEN
				BEGIN found := coalesce(romancy.get_result(romancy.instance_id())::text, 'none'); EXCEPTION WHEN OTHERS THEN found := SQLSTATE; END;
			WHEN 'history' THEN SELECT count(*) INTO found FROM romancy.get_history(romancy.instance_id());
			WHEN 'waiting' THEN SELECT count(*) INTO found FROM romancy.waiting WHERE instance_id = romancy.instance_id();
			WHEN 'send' THEN
				BEGIN PERFORM romancy.send_to(romancy.instance_id(), 'x'); found := 'sent'; EXCEPTION WHEN OTHERS THEN found := SQLSTATE; END;
			WHEN 'start' THEN found := (romancy.start_workflow('once', '{"n": "child"}') IS NOT NULL)::text;
			WHEN 'late' THEN INSERT INTO late VALUES (i->>'n');
			ELSE NULL;
		END CASE;
		RETURN jsonb_build_array(found, pg_backend_pid());
	END $$;
	CREATE FUNCTION once(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('look', i); END $$;
	SELECT romancy.define_activity('look', 'look'), romancy.define_workflow('once', 'once');
});
# versions of one workflow for each way to look: a session remembers which ones do
my @ways = ('view', 'join', 'caught', 'caught below', 'result', 'history', 'waiting', 'send', 'start', 'late');
as("SELECT romancy.define_workflow('once $_', 'once')") for @ways;

my $n = 0;
# runs($workflow, $way, $times): what $times calls in one session have found, of which all ran there, and how often the activity was begun there for each; until that is so
sub runs
{
	my ($workflow, $way, $times) = @_;
	my ($found, $begun);
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	# (a machine that stalls has the version's turns known as not quick, until they have been for a while)
	while (time <= $until)
	{
		my $call = join "\n", map { $n++; "SELECT last_value AS t FROM tries \\gset\nCALL romancy.run_workflow('$workflow', '{\"n\": \"$n\", \"look\": \"$way\"}', timeout => '60 s') \\gset\nSELECT :'result'::jsonb->>0, :'result'::jsonb->>1 = pg_backend_pid()::text, last_value - :t FROM tries;" } 1 .. $times;
		my ($out, $err) = as($call);
		diag($err) if $err ne '';
		my @rows = map { [ split /\|/, $_, -1 ] } split /\n/, $out;
		next if grep { $_->[1] ne 't' } @rows;
		return (join(' ', map { $_->[0] } @rows), join(' ', map { $_->[2] } @rows));
	}
	return ('never all here', '');
}

# ---------------------------------------------------------------- one version of the row
my ($found, $begun) = runs('once', '', 3);
is($begun, '1 1 1', 'a workflow of one step, three times in its caller\'s session');
my $updates = 'unknown';
my $until = time + $PostgreSQL::Test::Utils::timeout_default;
for (my $try = 1; time <= $until; $try++)
{
	my $read = q{SELECT pg_stat_force_next_flush() AS flushed \gset
SELECT n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relid = 'romancy.t_instance'::regclass;};
	poll_until($node, 'SELECT NOT EXISTS (SELECT FROM romancy.instances WHERE finished_at IS NULL)', 'all have ended') if $try > 1;
	my ($out) = as(join "\n", $read, map({ $n++; "CALL romancy.run_workflow('once', '{\"n\": \"$n\"}') \\gset\nSELECT :'result'::jsonb->>1 = pg_backend_pid()::text;" } 1 .. 3), $read);
	my ($before, @here) = split /\n/, $out;
	my $after = pop @here;
	next if "@here" ne 't t t';
	$updates = $after - $before;
	last if $updates == 0;
}
is($updates, 0, 'three more update no row of an instance');
my $rows = sql(q{SELECT count(*) FILTER (WHERE status = 'completed' AND started_at >= created_at AND finished_at >= started_at AND updated_at = finished_at), count(*) FROM romancy.instances});
my ($complete, $all) = split /\|/, $rows;
is($complete, $all, 'all of them are complete');

# ---------------------------------------------------------------- what code finds
my %executor;
sql('ALTER SYSTEM SET romancy.eager_runs = off');
$node->reload;
poll_until($node, q{SELECT current_setting('romancy.eager_runs') = 'off'}, 'eager_runs is off');
for my $way (@ways)
{
	$n++;
	my ($got, $err) = as("CALL romancy.run_workflow('once $way', '{\"n\": \"$n\", \"look\": \"$way\"}') \\gset\nSELECT :'result'::jsonb->>0, :'result'::jsonb->>1 = pg_backend_pid()::text");
	($executor{$way}, my $here) = split /\|/, $got;
	is($here, 'f', "$way: in an executor");
}
sql('ALTER SYSTEM RESET romancy.eager_runs');
$node->reload;
poll_until($node, q{SELECT current_setting('romancy.eager_runs') = 'on'}, 'eager_runs is on');
for my $way (@ways)
{
	my ($found, $begun) = runs("once $way", $way, 2);
	is($found, "$executor{$way} $executor{$way}", "$way: it finds the same in its caller's session");
	like($begun, $way eq 'late' ? qr/^1 1$/ : qr/^[12] 1$/, "$way: the first time it was begun anew, with the row (or that was seen before, by a call that ended elsewhere); then the row was there");
	($found, $begun) = runs("once $way", $way, 1);
	is($begun, '1', "$way: in other sessions as well");
}
is(sql(q{SELECT count(*) FROM effects GROUP BY n HAVING count(*) > 1 AND n !~ 'late|child'}), '', 'nothing of the first try has stayed');
is(sql(q{SELECT string_agg(DISTINCT n, ', ') FROM effects WHERE n ~ 'late'}), 'late completed', 'a deferred trigger sees the completed row, as in an executor');

# ---------------------------------------------------------------- while the table is locked, as by CREATE INDEX
my $lock = $node->background_psql('postgres');
$lock->query_safe('BEGIN; LOCK TABLE romancy.t_instance IN SHARE MODE');
my $had = sql('SELECT count(*) FROM romancy.t_instance');
(undef, my $said) = as("SET statement_timeout = '500ms';\nCALL romancy.run_workflow('once', '{\"n\": \"locked\"}')");
like($said, qr/57014.*statement timeout/, 'a call that waits for the lock can be cancelled');
my $caller = $node->background_psql('postgres', on_error_stop => 0, extra_params => [ '-U', 'shop' ]);
my $pid = $caller->query_safe('SELECT pg_backend_pid()');
$caller->query_until(qr/begun/, "\\echo begun\nCALL romancy.run_workflow('once', '{\"n\": \"locked\"}');\n");
poll_until($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid", 'another waits');
sql("SELECT pg_terminate_backend($pid)");
poll_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 'and can be ended');
$lock->query_safe('COMMIT');
$lock->quit;
eval { $caller->quit };
is(sql('SELECT count(*) FROM romancy.t_instance'), $had, 'neither has started anything');

# ---------------------------------------------------------------- with a key
(undef, my $errors) = as("CALL romancy.run_workflow('once', '{\"n\": \"key\"}', idempotency_key => 'k') \\gset\nCALL romancy.run_workflow('once', '{\"n\": \"key\"}', idempotency_key => 'k');");
is($errors, '', 'a key is used twice');
is(sql(q{SELECT count(*), min(status), min(idempotency_key) FROM romancy.instances WHERE idempotency_key = 'k'}), '1|completed|k', 'one instance has it');
is(sql(q{SELECT count(*) FROM effects WHERE n = 'key'}), 1, 'which ran once');

done_testing();
