# Workflows made at random from a small grammar (steps, loops, blocks, retries, spawned and mapped steps, children, sleeps, receives,
# compensations, own errors) end as a model says, and with the same history, by drain, by one executor and by four, and by four whose
# processes are killed; those that are cancelled at random leave no effect without its history row, and of what they undo
# nothing out, nothing twice and nothing out of order. It would catch a way to run a handler that gives another result than the others.
#
# It runs for PROGRAMS_SECONDS (40) with the same programs each time, 'make programs' for PROGRAMS_SECONDS=600 with others. PROGRAMS_SEED repeats
# a run's programs; when which of them is cancelled or killed is not repeated.
# Takes 40 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyPrograms qw(make_program programs_sql model);
use RomancyTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{PROGRAMS_SECONDS} || 40;
my $seed = $ENV{PROGRAMS_SEED} || 20261129;
my $each = 15;	# programs of a round
note("PROGRAMS_SEED=$seed");
my $json = JSON::PP->new->canonical->allow_nonref;

my $node = romancy_node('programs', 'romancy.executors' => 4, 'romancy.max_workers' => 8, 'max_worker_processes' => 16, 'restart_after_crash' => 'on',
	'romancy.resumption_interval' => '1s', 'romancy.timer_interval' => '1s', 'romancy.activity_timeout_interval' => '1s', 'romancy.retry_backoff_max' => '1s',
	'log_min_messages' => 'fatal', 'romancy.log_failures' => 'off');
sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	CREATE TABLE effect (seq bigserial, run text, p int, k int, what text, attempt int);
	CREATE FUNCTION note(i jsonb, what text) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO effect (run, p, k, what, attempt) VALUES (i->>'run', (i->>'p')::int, (i->>'k')::int, what, romancy.attempt()) $$;
	CREATE FUNCTION act(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM note(i, 'do');
		IF romancy.attempt() <= (i->>'f')::int THEN RAISE EXCEPTION 'step %', i->>'k'; END IF;
		RETURN i->'k';
	END $$;
	CREATE FUNCTION act_slow(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.006); RETURN act(i); END $$;
	CREATE FUNCTION undo(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM note(coalesce(i->'input', i), 'undo'); RETURN 'true'; END $$;
	DO $do$
	DECLARE retry jsonb := '{"max_attempts": 3, "initial_interval": "1ms", "jitter": 0}';
	BEGIN
		PERFORM romancy.define_activity('undo', 'undo(jsonb)', retry => retry);
		PERFORM romancy.define_activity('plain', 'act(jsonb)', retry => retry);
		PERFORM romancy.define_activity('plain_slow', 'act_slow(jsonb)', retry => retry);
		PERFORM romancy.define_activity('undone', 'act(jsonb)', retry => retry, compensation => 'undo');
		PERFORM romancy.define_activity('undone_slow', 'act_slow(jsonb)', retry => retry, compensation => 'undo');
		PERFORM romancy.define_activity('outside', 'act(jsonb)', retry => retry, transactional => false);
	END $do$;
});

sub setting
{
	my ($name, $value) = @_;
	value("ALTER SYSTEM SET $name = '$value'");
	value('SELECT pg_reload_conf()');
	until (value("SELECT current_setting('$name')") eq $value) { usleep(10_000) }
	return;
}

# answer($sql): as value(), also across a crash of the server
sub answer
{
	my ($out, $err);
	for my $try (1 .. 600)
	{
		($out, $err) = ('', '');
		return $out if eval { $node->psql('postgres', $_[0], stdout => \$out, stderr => \$err, on_error_stop => 1) == 0 } && $err eq '';
		usleep(100_000);
	}
	die "no answer: $err";
}

# Procedures of the server start them and disturb them: a client would come too late
value(q{
	CREATE TABLE chosen (run text, p int, name text, messages int);
	CREATE FUNCTION begin_one(c chosen) RETURNS uuid LANGUAGE plpgsql AS $$
	DECLARE id uuid := romancy.start_workflow(c.name, jsonb_build_object('run', c.run, 'p', c.p));
	BEGIN FOR i IN 1..c.messages LOOP PERFORM romancy.send_to(id, 'ch', to_jsonb(i)); END LOOP; RETURN id; END $$;
	CREATE TABLE happened (what text);
	-- starts one after the other; soon after that cancels it, or the one before, or ends an executor
	CREATE PROCEDURE begin_and(what text, of_run text) LANGUAGE plpgsql AS $$
	DECLARE c chosen; ids uuid[];
	BEGIN
		FOR c IN SELECT * FROM chosen WHERE run LIKE of_run || '/%' LOOP
			ids := ids || begin_one(c);
			COMMIT;
			PERFORM pg_sleep(random() * 0.02);
			IF random() < 0.7 THEN
				INSERT INTO happened SELECT what WHERE what = 'cancelled' AND romancy.cancel_workflow(ids[greatest(1, cardinality(ids) - (random() * 2)::int)]);
				INSERT INTO happened SELECT what FROM (SELECT pid FROM romancy.workers WHERE what = 'ended' AND kind = 'executor' ORDER BY random() LIMIT 1) w
					WHERE pg_terminate_backend(pid);
			END IF;
			COMMIT;
		END LOOP;
	END $$;
});

# choose puts the programs of a run, each so many times, where the procedures find them
sub choose
{
	my ($run, $times, @programs) = @_;
	value('INSERT INTO chosen VALUES ' . join(', ', map { my $n = $_; map { "('$run/$n', $_->{number}, '$_->{name}', $_->{model}{received})" } @programs } 1 .. $times));
	return;
}

my $open = q{SELECT count(*) FROM romancy.instances WHERE finished_at IS NULL};

# settle waits until all are over; meanwhile is called again and again. False: they are not.
sub settle
{
	my ($meanwhile) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	while (answer($open) ne '0')
	{
		return 0 if time > $deadline;
		$meanwhile->() if $meanwhile;
		usleep(20_000);
	}
	return 1;
}

# look reads the end of a run: program => {instances, effects}
sub look
{
	my ($run) = @_;
	my %seen;
	my $rows = $json->decode(answer(qq{SELECT coalesce(jsonb_agg(jsonb_build_object('p', (i.input->>'p')::int, 'workflow', i.workflow, 'status', i.status, 'output', i.output, 'error', i.error->>'message',
		'events', (SELECT jsonb_agg(jsonb_build_object('event', concat_ws(' ', h.event_type, h.activity_id, h.data->'retry'->>'total_attempts'), 'type', h.event_type,
			'k', coalesce(h.data->'input'->'input'->'k', h.data->'input'->'k')) ORDER BY h.seq)
			FROM romancy.get_history(i.instance_id) h))), '[]')
		FROM romancy.instances i WHERE i.input->>'run' = '$run'}));
	push @{ $seen{ $_->{p} }{instances} }, $_ for @$rows;
	my $effects = $json->decode(answer(qq{SELECT coalesce(jsonb_agg(jsonb_build_object('p', p, 'k', k, 'what', what, 'attempt', attempt) ORDER BY seq), '[]') FROM effect WHERE run = '$run'}));
	push @{ $seen{ $_->{p} }{effects} }, $_ for @$effects;
	return \%seen;
}

# as_model says how a program's end differs from the model's: '' for not at all.
sub as_model
{
	my ($program, $seen) = @_;
	my $model = $program->{model};
	my ($root) = grep { $_->{workflow} eq $program->{name} } @{ $seen->{instances} };
	my $is = $json->encode([ $root->{status}, $root->{status} eq 'completed' ? $root->{output} : $root->{error} ]);
	my $should = $json->encode([ $model->{status}, $model->{status} eq 'completed' ? $model->{output} : $model->{error} ]);
	return "it is $is, and should be $should" if $is ne $should;

	my $effects = sub { my ($what, $attempt) = @_; return join(' ', map { $attempt ? "$_->{k}/$_->{attempt}" : $_->{k} } grep { $_->{what} eq $what && !$model->{may}{ $_->{k} } } @{ $seen->{effects} // [] }) };
	$is = join(' ', sort split / /, $effects->('do', 1));
	$should = join(' ', sort map { "$_/$model->{done}{$_}" } grep { !$model->{may}{$_} } keys %{ $model->{done} });
	return "effects are $is, and should be $should" if $is ne $should;
	my @undone = grep { !$model->{may}{ $_->[0] } } @{ $model->{undone} };
	$is = join(' ', sort split / /, $effects->('undo', 0));
	$should = join(' ', sort map { $_->[0] } @undone);
	return "undone is $is, and should be $should" if $is ne $should;
	return '';
}

# whole says what is wrong with an end, whatever it is: effects and history rows that do not match, compensations that lack or came twice.
sub whole
{
	my ($program, $seen) = @_;
	my (%do, %undo, %completed, %executed);
	for (@{ $seen->{effects} // [] }) { ($_->{what} eq 'do' ? \%do : \%undo)->{ $_->{k} }++ }
	for my $instance (@{ $seen->{instances} })
	{
		my (@done, @undone);
		for (@{ $instance->{events} // [] })
		{
			next unless defined $_->{k};
			if ($_->{type} eq 'ActivityCompleted') { $completed{ $_->{k} }++; push @done, $_->{k} if $program->{undoes}{ $_->{k} } }
			if ($_->{type} eq 'CompensationExecuted') { $executed{ $_->{k} }++; push @undone, $_->{k} if $program->{undoes}{ $_->{k} } }
		}
		next if $program->{compensates};
		my $should = $instance->{status} eq 'completed' ? '' : join(' ', reverse @done);
		return "$instance->{workflow} $instance->{status}: done @done, undone @undone" if "@undone" ne $should;
	}
	for my $k (sort { $a <=> $b } keys %{ { %do, %completed } })
	{
		next if $program->{outside}{$k};
		return "step $k: " . ($do{$k} // 0) . ' effects, ' . ($completed{$k} // 0) . ' history rows' if ($do{$k} // 0) != ($completed{$k} // 0) || ($do{$k} // 0) > 1;
	}
	for my $k (sort { $a <=> $b } keys %{ { %undo, %executed } })
	{
		return "step $k: undone " . ($undo{$k} // 0) . ', ' . ($executed{$k} // 0) . ' history rows' if ($undo{$k} // 0) != ($executed{$k} // 0) || ($undo{$k} // 0) > 1;
	}
	return '';
}

# story is what is compared between ways to run it: statuses, outputs and events, but of steps that may have run or not.
sub story
{
	my ($program, $seen) = @_;
	return '' if %{ $program->{model}{may} };
	return join("\n", sort map { my $i = $_; join("\n", "$i->{workflow} $i->{status} " . $json->encode($i->{output}) . ' ' . ($i->{error} // ''), map { "  $_" } sort map { $_->{event} } @{ $i->{events} // [] }) } @{ $seen->{instances} });
}

# facts of a program that the checks need
sub facts
{
	my ($program) = @_;
	my $sql = programs_sql($program);
	my (%undoes, %outside);
	$program->{sql} = $sql;
	while ($sql =~ /'(\w+)', (?:jsonb_build_array\((.*?)\)\);|\$1 \|\| '\{"k": (\d+))/g)
	{
		my ($act, $k, $list) = ($1, $3, $2);
		for ($list ? $list =~ /"k": (\d+)/g : $k) { $undoes{$_} = 1 if $act =~ /^undone/; $outside{$_} = 1 if $act eq 'outside' }
	}
	@{$program}{qw(undoes outside compensates model)} = (\%undoes, \%outside, scalar($sql =~ /compensate\(\)|register_compensation/), model($program));
	return $program;
}

my $failures = 0;
sub check
{
	my ($program, $how, $problem, $seen) = @_;
	return if $problem eq '';
	return if ++$failures > 3;
	fail("program $program->{number}, $how: $problem");
	diag($program->{sql}, $json->pretty->encode({ model => $program->{model}, seen => $seen }));
	$json->pretty(0);
	return;
}

my $until = time + $seconds;
my ($round, $count, $crashes, $loose) = (0, 0, 0, 0);
while (time < $until && !$failures)
{
	$round++;
	srand($seed + $round);
	my @programs = map { facts(make_program($round * 100 + $_)) } 1 .. $each;
	my %stories;
	value(join('', map { $_->{sql} } @programs));
	$count += @programs;
	$loose += grep { %{ $_->{model}{may} } } @programs;

	for my $how ('drain', 'one executor', 'four executors', 'cancelled', 'ended', $round % 4 == 1 ? 'crashed' : ())
	{
		# an activity of a transaction of its own runs at least once when its process ends
		my @these = grep { $how !~ /ended|crashed/ || !%{ $_->{outside} } } @programs;
		my $times = $how =~ /cancelled|ended/ ? 3 : 1;
		my $run = "$round $how";
		my $meanwhile;

		choose($run, $times, @these);
		setting('romancy.executors', $how eq 'one executor' ? 1 : 4);
		if ($how eq 'drain')
		{
			setting('romancy.enabled', 'off');
			until (value(q{SELECT count(*) FROM romancy.workers WHERE kind <> 'launcher'}) eq '0') { usleep(10_000) }
			$meanwhile = sub { value('CALL romancy.drain(advance_time => true)') };
		}
		value($times > 1 ? "CALL begin_and('$how', '$run')" : "SELECT begin_one(c) FROM chosen c WHERE run LIKE '$run/%'");
		if ($how eq 'crashed')
		{
			my $pid = value(q{SELECT coalesce(min(pid), 0) FROM romancy.workers WHERE kind = 'executor'});
			$crashes += kill('KILL', $pid) if $pid;
		}
		if (!settle($meanwhile))
		{
			fail("round $round, $how: all end");
			diag(answer(q{SELECT jsonb_pretty(jsonb_agg(w)) FROM romancy.waiting w}));
			diag($_->{sql}) for @these;
			$failures++;
			last;
		}
		setting('romancy.enabled', 'on') if $how eq 'drain';
		for my $time (1 .. $times)
		{
			my $seen = look("$run/$time");
			for my $p (@these)
			{
				my $its = $seen->{ $p->{number} };
				check($p, $how, whole($p, $its), $its);
				next if $how eq 'cancelled';
				check($p, $how, as_model($p, $its), $its);
				my $story = story($p, $its);
				$stories{ $p->{number} } //= $story;
				check($p, $how, $story eq $stories{ $p->{number} } ? '' : "another history than by drain:\n$story\n--\n$stories{$p->{number}}", $its);
			}
		}
	}
}
my %happened = map { split /\|/ } split /\n/, answer(q{SELECT what, count(*) FROM happened GROUP BY 1});
is($failures, 0, "$count programs in $round rounds (PROGRAMS_SEED=$seed)");
note("$loose of them with steps that may run or not, $crashes crashes");
cmp_ok($happened{$_} // 0, '>', 0, "some were $_: " . ($happened{$_} // 0)) for 'cancelled', 'ended';
is(answer(q{SELECT count(*) FROM romancy.t_task WHERE state <> 3}), '0', 'no task is left but those that failed for good');
$node->stop('fast');
done_testing();
