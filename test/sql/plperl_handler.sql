-- Handlers in PL/Perl: eval catches the unwind, and gains nothing by it.
-- It would catch a handler that runs on after the unwind, and a step that is done twice.
SET client_min_messages = warning;
CREATE EXTENSION plperl;
CREATE TABLE perl_effect (what text);
CREATE FUNCTION perl_act(jsonb) RETURNS jsonb LANGUAGE plperl AS $$
	my $plan = spi_prepare('INSERT INTO perl_effect VALUES ($1)', 'text');
	spi_exec_prepared($plan, $_[0]); spi_freeplan($plan);
	return $_[0];
$$;
CREATE FUNCTION perl_plain(jsonb) RETURNS jsonb LANGUAGE plperl AS $$
	my $a = spi_exec_query(q{SELECT romancy.activity('perl_act', '{"n": 1}') AS r})->{rows}[0]{r};
	my $s = spi_exec_query(q{SELECT romancy.sleep('1 hour')});
	my $b = spi_exec_query(q{SELECT romancy.activity('perl_act', '{"n": 2}') AS r})->{rows}[0]{r};
	return "[$a, $b]";
$$;
CREATE FUNCTION perl_eval(jsonb) RETURNS jsonb LANGUAGE plperl AS $$
	for my $n (3 .. 5) {
		eval { spi_exec_query(qq{SELECT romancy.activity('perl_act', '{"n": $n}')}); };
	}
	eval { spi_exec_query(q{SELECT romancy.sleep('1 hour')}); };
	return '"through"';
$$;
CREATE FUNCTION perl_stubborn(jsonb) RETURNS jsonb LANGUAGE plperl AS $$
	while (1) { eval { spi_exec_query(q{SELECT romancy.sleep('1 hour')}); }; }
$$;
CREATE FUNCTION perl_caught(jsonb) RETURNS jsonb LANGUAGE plperl AS $$
	eval { spi_exec_query(q{SELECT romancy.activity('perl_bad', retry => '{"max_attempts": 1}')}); };
	my $e = $@; $e =~ s/ at line.*//s; $e =~ s/"/'/g;
	return qq{"$e"};
$$;
CREATE FUNCTION perl_bad(jsonb) RETURNS jsonb LANGUAGE plperl AS $$ die "perl is unhappy\n"; $$;
BEGIN;	-- so that no worker gets there first
SELECT count(romancy.start_workflow(w)) FROM unnest(ARRAY['perl_plain', 'perl_eval', 'perl_caught']) w;
CALL romancy.drain(advance_time => true);
SELECT workflow, status, output, error->>'message' AS message FROM romancy.instances WHERE workflow LIKE 'perl%' ORDER BY 1;
SELECT * FROM perl_effect ORDER BY 1;
SELECT romancy.start_workflow('perl_stubborn') IS NOT NULL AS started;
CALL romancy.drain();
SELECT workflow, status, error->>'sqlstate' AS sqlstate, error->>'message' AS message FROM romancy.instances WHERE workflow = 'perl_stubborn';
-- a retry finds the failed step, though Perl has added to its message and lost its SQLSTATE
CREATE FUNCTION perl_mended(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF NOT EXISTS (SELECT FROM perl_effect WHERE what = 'mended') THEN RAISE EXCEPTION 'not mended'; END IF; RETURN $1; END $$;
CREATE FUNCTION perl_retried(jsonb) RETURNS jsonb LANGUAGE plperl AS $$
	return spi_exec_query(q{SELECT romancy.activity('perl_mended', '7', retry => '{"max_attempts": 1}') AS r})->{rows}[0]{r};
$$;
SELECT romancy.start_workflow('perl_retried') AS id \gset
CALL romancy.drain();
SELECT status, error->>'message' AS message FROM romancy.instances WHERE instance_id = :'id';
INSERT INTO perl_effect VALUES ('mended');
SELECT romancy.retry_workflow(:'id');
CALL romancy.drain();
SELECT status, output, error FROM romancy.instances WHERE instance_id = :'id';
COMMIT;
DROP TABLE perl_effect;
