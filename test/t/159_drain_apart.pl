# drain outside a transaction block runs steps as executors do: one that is not known to be quick has a transaction of its own, what the steps before it did
# is committed when it begins, and a turn that fails, waits or raises does not repeat it. How many turns a script needs does not depend on what is known. It would
# catch a drain that bets on steps of which nothing is known, or which are slow, and runs them twice; one that keeps the locks of a quick step during a slow one, or the
# memory of each transaction of a turn until its end; and a max_turns that does not bound attempts that follow at once, or cuts a long turn in two.
use strict;
use warnings;
use RomancyTest;
use Test::More;

my $node = romancy_node('drain_apart', 'romancy.enabled' => 'off');
sub value { return $node->safe_psql('postgres', $_[0]) }

# s1 to s4 fail in their first attempts, as many as their input says
value(q{
	DO $do$ BEGIN FOR i IN 1..4 LOOP
		EXECUTE format('CREATE SEQUENCE r%s', i);
		EXECUTE format('CREATE FUNCTION s%s(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval(''r%1$s''), pg_sleep(coalesce(($1->>''takes'')::float, 0));
			IF romancy.attempt() <= coalesce(($1->>''f%1$s'')::int, 0) THEN RAISE ''step %1$s''; END IF; RETURN ''%1$s''; END $$', i);
	END LOOP; END $do$;
	CREATE FUNCTION one(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('s1', $1); END $$;
	CREATE FUNCTION four(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN FOR i IN 1..3 LOOP PERFORM romancy.activity('s' || i, $1); END LOOP; RETURN romancy.activity('s4', $1); END $$;
	CREATE FUNCTION caught(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN PERFORM romancy.activity('s1', $1); PERFORM romancy.activity('s2', $1); EXCEPTION WHEN OTHERS THEN RETURN to_jsonb(sqlerrm); END;
		RETURN '0';
	END $$;
	CREATE FUNCTION sleeps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('s1', $1); PERFORM romancy.activity('s2', $1); PERFORM romancy.sleep('1 day'); RETURN romancy.activity('s3', $1); END $$;
	CREATE FUNCTION own(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN PERFORM romancy.activity('s1', $1); RAISE 'own'; EXCEPTION WHEN raise_exception THEN NULL; END;
		RETURN romancy.activity('s2', $1);
	END $$;
	CREATE FUNCTION raises(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('s1', $1); PERFORM romancy.activity('s2', $1); RAISE 'own'; END $$;
	CREATE FUNCTION spawned(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.await_all(ARRAY(SELECT romancy.spawn('s' || i, $1) FROM generate_series(1, 3) i)); RETURN '0'; END $$;
	CREATE FUNCTION mapped(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('s1', jsonb_build_array($1, $1 - 'f1', $1 - 'f1')); END $$;
	CREATE FUNCTION canvas(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN RETURN romancy.canvas(romancy.group(romancy.task('s1', $1), romancy.task('s2', $1), romancy.task('s3', $1))); END $$;
});

# How it runs, the failures in its input, and the attempts of s1 to s4
my @cases = (
	[ 'the first of its version fails once', 'one', '"f1": 1', '2 0 0 0' ],
	[ 'three succeed, one fails once', 'four', '"f4": 1', '1 1 1 2' ],
	[ 'two in a block, the second fails for good', 'caught', '"f2": 2', '1 2 0 0' ],
	[ 'two, sleep, one', 'sleeps', '"f1": 0', '1 1 1 0' ],
	[ 'an exception of its own around one', 'own', '"f1": 0', '1 1 0 0' ],
	[ 'two, then its own raise', 'raises', '"f1": 0', '1 1 0 0' ],
	[ 'spawned', 'spawned', '"f2": 1', '1 2 1 0' ],
	[ 'mapped', 'mapped', '"f1": 1', '4 0 0 0' ],
	[ 'in a canvas', 'canvas', '"f2": 1', '1 2 1 0' ]);

# define makes the activities anew: nothing is known of a function with another body.
my $bodies = 0;
sub define
{
	my ($transactional) = @_;
	$bodies++;
	return qq{DO \$do\$ BEGIN FOR i IN 1..4 LOOP
		EXECUTE format('CREATE OR REPLACE FUNCTION s%s(jsonb) RETURNS jsonb LANGUAGE plpgsql AS %L', i,
			(SELECT prosrc || '--$bodies' FROM pg_proc WHERE proname = 's' || i));
		PERFORM romancy.define_activity('s' || i, 's' || i || '(jsonb)', retry => '{"max_attempts": 2, "initial_interval": "1h", "max_interval": "1h", "max_duration": null}', transactional => $transactional);
	END LOOP; END \$do\$;\n};
}

# runs ends one instance; it prints the turns and how often s1 to s4 ran.
sub runs
{
	my ($workflow, $input) = @_;
	return qq{SELECT count(setval('r' || i, 1, false)) AS none FROM generate_series(1, 4) i \\gset
		SELECT romancy.start_workflow('$workflow', '{$input}') AS id \\gset
		CALL romancy.drain(advance_time => true) \\gset
		SELECT :turns || ': ' || concat_ws(' ', (SELECT last_value * is_called::int FROM r1), (SELECT last_value * is_called::int FROM r2),
			(SELECT last_value * is_called::int FROM r3), (SELECT last_value * is_called::int FROM r4));\n};
}

my $unknown = join('', map { define('true') . runs(@$_[ 1, 2 ]) } @cases);
my $slow = define('true') . runs('four', '"takes": 0.01') x 3 . join('', map { runs($_->[1], "$_->[2], \"takes\": 0.01") } @cases);
my $apart = join('', map { define('false') . runs(@$_[ 1, 2 ]) } @cases);
my $quick = define('true') . runs('four', '"f1": 0') x 4 . join('', map { runs(@$_[ 1, 2 ]) } @cases);
my @unknown = split /\n/, value($unknown);
my @slow = split /\n/, value($slow);
my @apart = split /\n/, value($apart);
my @quick = split /\n/, value($quick);

splice @slow, 0, 3;
is((splice @quick, 0, 4)[3], '1: 1 1 1 1', 'nothing fails: one turn, each once');
for my $i (0 .. $#cases)
{
	my ($what, $attempts, $turns) = ($cases[$i][0], $cases[$i][3], $unknown[$i] =~ /^(\d+)/);
	like($unknown[$i], qr/: $attempts$/, "unknown, $what: once per attempt");
	like($slow[$i], qr/: $attempts$/, "slow, $what: once per attempt");
	like($apart[$i], qr/: $attempts$/, "not transactional, $what: once per attempt");
	next if $what =~ /spawned|mapped|canvas/;	# several attempts may be due at once
	like($slow[$i], qr/^$turns: /, "slow, $what: in as many turns");
	like($quick[$i], qr/^$turns: /, "quick, $what: in as many turns");
}

# While a slow step runs, what the quick one before it did is committed and its lock is free
value(q{
	CREATE TABLE stock (n int); INSERT INTO stock VALUES (0);
	CREATE FUNCTION take(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN UPDATE stock SET n = n + 1; RETURN '1'; END $$;
	CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN '1'; END $$;
	CREATE FUNCTION takes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('take'); END $$;
	CREATE FUNCTION take_and_hold(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('take'); PERFORM romancy.activity('held'); RETURN romancy.activity('take'); END $$;
	SELECT romancy.start_workflow('takes') FROM generate_series(1, 4);
	CALL romancy.drain();
	SELECT romancy.start_workflow('take_and_hold')});
my $holder = $node->background_psql('postgres');
my $drain = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
$drain->query_until(qr/begun/, "\\echo begun\nCALL romancy.drain();\n");
poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'the slow step runs');
is(value('SELECT n FROM stock FOR UPDATE NOWAIT'), '5', 'what the quick one did is committed, and its lock is free');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
$drain->quit;
is(value('SELECT n FROM stock'), '6', 'it goes on after it');

# Attempts that follow at once count; a long turn counts once, also when other instances have turns in the middle of it
value(q{
	CREATE SEQUENCE tries; CREATE SEQUENCE long_steps;
	CREATE FUNCTION bad(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('tries'), pg_sleep(($1->>'takes')::float); RAISE 'bad'; END $$;
	CREATE FUNCTION retries(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('bad', $1, retry => '{"max_attempts": 500, "initial_interval": "0s"}'); END $$;
	CREATE FUNCTION long_step(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('long_steps'), pg_sleep(0.006); RETURN '1'; END $$;
	CREATE FUNCTION long_turn(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..110 LOOP PERFORM romancy.activity('long_step'); END LOOP; RETURN '1'; END $$;
});
for my $takes (0, 0.006, 0.006, 0.006)
{
	is(value(qq{SELECT romancy.start_workflow('retries', '{"takes": $takes}') AS id \\gset
		SELECT setval('tries', 1, false) AS none \\gset
		CALL romancy.drain(max_turns => 3) \\gset
		SELECT romancy.terminate_workflow(:'id') AS none \\gset
		SELECT :turns || ' ' || last_value FROM tries;
		CALL romancy.drain() \\gset}), '3 3', "three turns, three attempts of $takes s");
}
is(value(q{SELECT count(romancy.start_workflow('long_turn')) AS none FROM generate_series(1, 2) \gset
	CALL romancy.drain(max_turns => 2) \gset
	SELECT :turns || ' ' || last_value FROM long_steps;
	SELECT count(*) FROM romancy.instances WHERE workflow = 'long_turn' AND status = 'completed'}), "2 220\n2", 'a turn of many slow steps is one');

# A turn holds no more memory than its largest transaction needs: 40 results of 100 kB, not the sum of all histories
value(q{
	CREATE TABLE used (bytes bigint);
	CREATE FUNCTION large(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO used SELECT sum(total_bytes) FROM pg_backend_memory_contexts;
		PERFORM pg_sleep(0.006); RETURN to_jsonb(repeat('x', 100000)); END $$;
	CREATE FUNCTION larges(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..40 LOOP PERFORM romancy.activity('large'); END LOOP; RETURN '1'; END $$;
	SELECT romancy.start_workflow('larges') FROM generate_series(1, 2);
	CALL romancy.drain()});
cmp_ok(value('SELECT (max(bytes) - min(bytes)) / 1000000 FROM used'), '<', 40, 'megabytes that a drain adds for 80 results of 100 kB');
$node->stop;

# Without shared memory nothing becomes known, and each step is apart
$node = romancy_node('not_preloaded', '_preload' => 0);
value(q{
	CREATE SEQUENCE ran;
	CREATE FUNCTION step(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('ran'); RETURN '1'; END $$;
	CREATE FUNCTION then_waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..3 LOOP PERFORM romancy.activity('step'); END LOOP; RETURN romancy.sleep('1 day'); END $$;
});
is(value(q{SELECT romancy.start_workflow('then_waits') AS id \gset
	CALL romancy.drain() \gset
	SELECT :turns || ' ' || last_value FROM ran;}), '1 3', 'without preload: each step once, one turn');
$node->stop;
done_testing();
