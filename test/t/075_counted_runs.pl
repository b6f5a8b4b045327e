# How often the function of an activity runs, counted with sequences, which no rollback takes back: once per attempt when the
# activity is not known to be quick or is transactional => false; otherwise at most once more, for the instance whose turn
# was expected to run through and did not. It would catch a turn that runs steps again for a failure of others, or a
# non-transactional activity that is repeated.
use strict;
use warnings;
use RomancyTest;
use Test::More;

my $node = romancy_node('counted', 'romancy.executors' => 2);
sub value { return $node->safe_psql('postgres', $_[0]) }

# s1 to s4 fail in their first attempts, as many as their input says
value(q{
	DO $do$ BEGIN FOR i IN 1..4 LOOP
		EXECUTE format('CREATE SEQUENCE r%s', i);
		EXECUTE format('CREATE FUNCTION s%s(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval(''r%1$s'');
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
	BEGIN PERFORM romancy.activity('s1', $1); PERFORM romancy.activity('s2', $1); PERFORM romancy.sleep('1 ms'); RETURN romancy.activity('s3', $1); END $$;
	CREATE FUNCTION own(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN PERFORM romancy.activity('s1', $1); RAISE 'own'; EXCEPTION WHEN raise_exception THEN NULL; END;
		RETURN romancy.activity('s2', $1);
	END $$;
	CREATE FUNCTION raises(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('s1', $1); PERFORM romancy.activity('s2', $1); RAISE 'own'; END $$;
	CREATE FUNCTION spawned(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.await_all(ARRAY(SELECT romancy.spawn('s' || i, $1) FROM generate_series(1, 3) i)); RETURN '0'; END $$;
	CREATE FUNCTION mapped(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('s1', jsonb_build_array($1, '{}'::jsonb, '{}'::jsonb)); END $$;
});

# How it runs, its input, its status at the end, and the attempts of s1 to s4
my @cases = (
	[ 'the first of its version fails once', 'one', '{"f1": 1}', 'completed', [ 2, 0, 0, 0 ] ],
	[ 'three succeed, one fails once', 'four', '{"f4": 1}', 'completed', [ 1, 1, 1, 2 ] ],
	[ 'two in a block, the second fails for good', 'caught', '{"f2": 2}', 'completed', [ 1, 2, 0, 0 ] ],
	[ 'two, sleep, one', 'sleeps', '{}', 'completed', [ 1, 1, 1, 0 ] ],
	[ 'an exception of its own around one', 'own', '{}', 'completed', [ 1, 1, 0, 0 ] ],
	[ 'two, then its own raise', 'raises', '{}', 'failed', [ 1, 1, 0, 0 ] ],
	[ 'spawned', 'spawned', '{"f2": 1}', 'completed', [ 1, 2, 1, 0 ] ],
	[ 'mapped', 'mapped', '{"f1": 1}', 'completed', [ 4, 0, 0, 0 ] ],
	[ 'in a canvas', undef, '{"f2": 1}', 'completed', [ 1, 2, 1, 0 ] ]);

# runs ends one instance and returns how often s1 to s4 ran.
sub runs
{
	my ($what, $workflow, $input, $status) = @_;
	value(q{SELECT setval('r' || i, 1, false) FROM generate_series(1, 4) i});
	my $id = value($workflow ? qq{SELECT romancy.start_workflow('$workflow', '$input')}
		: qq{SELECT romancy.run_canvas(romancy.group(romancy.task('s1', '$input'), romancy.task('s2', '$input'), romancy.task('s3', '$input')))});
	poll_until($node, qq{SELECT status FROM romancy.instances WHERE instance_id = '$id'}, "$what: $status", expected => $status);
	return [ split / /, value(q{SELECT concat_ws(' ', (SELECT last_value * is_called::int FROM r1), (SELECT last_value * is_called::int FROM r2),
		(SELECT last_value * is_called::int FROM r3), (SELECT last_value * is_called::int FROM r4))}) ];
}

# define makes the activities anew: nothing is known of a function with another body.
my $bodies = 0;
sub define
{
	my ($transactional) = @_;
	$bodies++;
	value(qq{DO \$do\$ BEGIN FOR i IN 1..4 LOOP
		EXECUTE format('CREATE OR REPLACE FUNCTION s%s(jsonb) RETURNS jsonb LANGUAGE plpgsql AS %L', i,
			(SELECT prosrc || '--$bodies' FROM pg_proc WHERE proname = 's' || i));
		PERFORM romancy.define_activity('s' || i, 's' || i || '(jsonb)', retry => '{"max_attempts": 2, "initial_interval": "1ms"}', transactional => $transactional);
	END LOOP; END \$do\$});
}

for my $transactional ('true', 'false')
{
	for my $case (@cases)
	{
		my ($what, $workflow, $input, $status, $attempts) = @$case;
		define($transactional);
		is_deeply(runs("transactional => $transactional, unknown, $what", $workflow, $input, $status), $attempts, 'once per attempt');
	}
	define($transactional);
	runs('known from now on', 'four', '{}', 'completed') for 1 .. 4;
	is_deeply(runs('nothing fails', 'four', '{}', 'completed'), [ 1, 1, 1, 1 ], 'each once');
	for my $case (@cases)
	{
		my ($what, $workflow, $input, $status, $attempts) = @$case;
		my $runs = runs("transactional => $transactional, known, $what", $workflow, $input, $status);
		my $more = $transactional eq 'true' && $what !~ /spawned|mapped|canvas/ ? 1 : 0;

		is(scalar(grep { $runs->[$_] < $attempts->[$_] || $runs->[$_] > $attempts->[$_] + ($attempts->[$_] > 0 ? $more : 0) } 0 .. 3), 0,
			$more ? 'once per attempt, and at most once more' : 'once per attempt') or diag("@$runs");
	}
}

# A spawned one has run, and its task is locked when its outcome is to be recorded: that waits
my $holder = $node->background_psql('postgres');
value(q{SELECT setval('r' || i, 1, false) FROM generate_series(1, 4) i;
	CREATE FUNCTION held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('r1'), pg_advisory_xact_lock_shared(1); RETURN '1'; END $$;
	SELECT romancy.define_activity('held', 'held(jsonb)', transactional => false);
	CREATE FUNCTION one_held(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('held')); END $$});
$holder->query_safe('SELECT pg_advisory_lock(1)');
value(q{SELECT romancy.start_workflow('one_held')});
poll_until($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'it runs', expected => '1');
$holder->query_safe('BEGIN; SELECT FROM romancy.t_task WHERE step = $$held:1$$ FOR UPDATE; SELECT pg_advisory_unlock(1)');
poll_until($node, q{SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted) + (SELECT last_value - 1 FROM r1)}, 'it waits for the task', expected => '1');
is(value('SELECT last_value FROM r1'), '1', 'and does not run again');
$holder->query_safe('COMMIT');
$holder->quit;
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'it ends');
is(value('SELECT last_value FROM r1'), '1', 'it has run once');

# The bet on quick steps is lost by the instance that fails, not by the others of its version
value(q{SELECT setval('r' || i, 1, false) FROM generate_series(1, 4) i});
define('true');
runs('known from now on', 'four', '{}', 'completed') for 1 .. 4;
value(q{SELECT setval('r' || i, 1, false) FROM generate_series(1, 4) i;
	SELECT count(*) FROM romancy.start_workflows('four', ARRAY(SELECT CASE WHEN i % 100 = 50 THEN '{"f4": 1}'::jsonb ELSE '{}' END FROM generate_series(1, 400) i))});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, '400 instances, one in a hundred fails once');
cmp_ok(value('SELECT last_value FROM r1'), '<=', 408, 'the others ran their steps once');
$node->stop;
done_testing();
