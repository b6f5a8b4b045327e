-- define_workflow, define_activity, drop_workflow, drop_activity: what they
-- return, what they refuse, and who may.
-- All in one transaction, so that nothing of it reaches a worker.
-- It would catch a definition that is taken and cannot run, and one that another role may change.
\set VERBOSITY default
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE SCHEMA flows;
SET LOCAL search_path = flows, public;
CREATE FUNCTION f1(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '1'; END $$;
CREATE FUNCTION f2(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '2'; END $$;
CREATE FUNCTION is_strict(jsonb) RETURNS jsonb LANGUAGE plpgsql STRICT AS $$ BEGIN RETURN $1; END $$;
CREATE FUNCTION is_stable(jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN $1; END $$;
CREATE FUNCTION is_immutable(jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION takes_json(json) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
CREATE FUNCTION takes_two(jsonb, jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
CREATE FUNCTION gives_text(jsonb) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
CREATE FUNCTION gives_set(jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN NEXT $1; END $$;
CREATE FUNCTION pg_temp.is_temporary(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
CREATE PROCEDURE p(input jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$ BEGIN result := input; END $$;
CREATE PROCEDURE p_in(input jsonb, other jsonb) LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE PROCEDURE p_definer(input jsonb, INOUT result jsonb) LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN END $$;
CREATE PROCEDURE p_set(input jsonb, INOUT result jsonb) LANGUAGE plpgsql SET work_mem = '4MB' AS $$ BEGIN END $$;

-- a version is a function; going back to an earlier one makes that current again
SELECT romancy.define_workflow('w', 'f1(jsonb)');
SELECT romancy.define_workflow('w', 'f1(jsonb)', description => 'the same');
SELECT romancy.define_workflow('w', 'f2(jsonb)', execution_timeout => '1h', retention => '1 day');
SELECT romancy.define_workflow('w', queue => 'outside');
SELECT romancy.define_workflow('w', 'f1(jsonb)', on_event => 'order.placed');
SELECT name, version, defined, is_current, handler, queue, owner = current_user AS mine, search_path, execution_timeout, retention, on_event, description
	FROM romancy.t_workflow WHERE defined AND name = 'w' ORDER BY version;
-- names match exactly
SELECT romancy.define_workflow('W', 'f1(jsonb)'), romancy.define_workflow('An odd "name"', 'f1(jsonb)');

-- what a handler must be
SELECT romancy.define_workflow('x', 'is_strict(jsonb)');
SELECT romancy.define_workflow('x', 'is_stable(jsonb)');
SELECT romancy.define_workflow('x', 'is_immutable(jsonb)');
SELECT romancy.define_workflow('x', 'takes_json(json)');
SELECT romancy.define_workflow('x', 'takes_two(jsonb, jsonb)');
SELECT romancy.define_workflow('x', 'gives_text(jsonb)');
SELECT romancy.define_workflow('x', 'gives_set(jsonb)');
SELECT romancy.define_workflow('x', 'p(jsonb, jsonb)');
SELECT romancy.define_workflow('x', 'count("any")');
\set VERBOSITY sqlstate
SELECT romancy.define_workflow('x', 'pg_temp.is_temporary(jsonb)');
\set VERBOSITY default
SELECT romancy.define_workflow('x', 'nowhere(jsonb)');
SELECT romancy.define_workflow('x', 0);
-- and the other arguments
SELECT romancy.define_workflow(NULL, 'f1(jsonb)');
SELECT romancy.define_workflow('', 'f1(jsonb)');
SELECT romancy.define_workflow('x');
SELECT romancy.define_workflow('x', 'f1(jsonb)', 'q');
SELECT romancy.define_workflow('x', queue => '');
SELECT romancy.define_workflow('x', 'f1(jsonb)', execution_timeout => '-1s');
SELECT romancy.define_workflow('x', 'f1(jsonb)', execution_timeout => '0');
SELECT romancy.define_workflow('x', 'f1(jsonb)', retention => '-1 day');
SELECT romancy.define_workflow('x', 'f1(jsonb)', on_event => '');
SELECT count(*) FROM romancy.t_workflow WHERE name = 'x';

-- activities
SELECT romancy.define_activity('a', 'f1(jsonb)');
SELECT romancy.define_activity('a', 'f2(jsonb)', retry => '{"max_attempts": 3, "retryable_errors": ["40", "40001", "deadlock_detected"]}',
	compensation => 'undo', start_to_close_timeout => '1s', max_concurrency => 2, rate_limit => '100/m', description => 'd');
SELECT name, handler, queue, retry, compensation, start_to_close_timeout, transactional, max_concurrency, rate_limit, description
	FROM romancy.t_activity WHERE name = 'a';
SELECT romancy.define_activity('b', queue => 'q', schedule_to_start_timeout => '1 min', heartbeat_timeout => '10s');
SELECT romancy.define_activity('c', 'p(jsonb, jsonb)', transactional => false);
SELECT romancy.define_activity('d', 'f1(jsonb)', transactional => false);
SELECT name, handler, queue, transactional FROM romancy.t_activity WHERE name IN ('b', 'c', 'd') ORDER BY name;
SELECT romancy.define_activity('x', 'p(jsonb, jsonb)');
SELECT romancy.define_activity('x', 'p_in(jsonb, jsonb)', transactional => false);
SELECT romancy.define_activity('x', 'p_definer(jsonb, jsonb)', transactional => false);
SELECT romancy.define_activity('x', 'p_set(jsonb, jsonb)', transactional => false);
SELECT romancy.define_activity('x', 'is_strict(jsonb)');
SELECT romancy.define_activity('x');
SELECT romancy.define_activity('x', 'f1(jsonb)', compensation => '');
SELECT romancy.define_activity('x', 'f1(jsonb)', start_to_close_timeout => '-1s');
SELECT romancy.define_activity('x', 'f1(jsonb)', max_concurrency => 0);
\set VERBOSITY terse
SELECT romancy.define_activity('x', 'f1(jsonb)', rate_limit => '');
SELECT romancy.define_activity('x', 'f1(jsonb)', rate_limit => '100');
SELECT romancy.define_activity('x', 'f1(jsonb)', rate_limit => '0/m');
SELECT romancy.define_activity('x', 'f1(jsonb)', rate_limit => '-1/m');
SELECT romancy.define_activity('x', 'f1(jsonb)', rate_limit => '1/d');
SELECT romancy.define_activity('x', 'f1(jsonb)', rate_limit => '1/min');
SELECT romancy.define_activity('x', 'f1(jsonb)', rate_limit => '99999999999/s');
\set VERBOSITY default
-- retry policies
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"max_atempts": 3}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '[]');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"max_attempts": -1}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"max_attempts": 1.5}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"max_attempts": "3"}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"initial_interval": 1}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"initial_interval": "soon"}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"initial_interval": "-1s"}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"backoff_coefficient": 0.5}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"max_interval": null}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"max_duration": "0s"}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"jitter": 1.1}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"retryable_errors": "40001"}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"retryable_errors": ["deadlock_detekted"]}');
SELECT romancy.define_activity('x', 'f1(jsonb)', retry => '{"non_retryable_errors": [1]}');
SELECT romancy.define_activity('x', 'f1(jsonb)',
	retry => '{"max_attempts": 0, "initial_interval": "0s", "backoff_coefficient": 1, "max_interval": "1h", "max_duration": null, "jitter": 0, "retryable_errors": [], "non_retryable_errors": ["23", "P0001", "RM006"]}');

-- dropping
SELECT romancy.drop_workflow('unknown');
SELECT romancy.drop_activity('unknown');
SELECT romancy.drop_workflow('f1');
SELECT romancy.drop_workflow(NULL);
SELECT romancy.drop_workflow('');
SELECT romancy.start_workflow('w', start_at => now() + interval '1 day') AS live \gset
SELECT romancy.drop_workflow('w');
SELECT romancy.terminate_workflow(:'live');
CALL romancy.drain() \gset
SELECT romancy.drop_workflow('w');
SELECT romancy.drop_activity('a');
SELECT count(*) FROM romancy.t_workflow WHERE name = 'w';
-- afterwards the name is one without a definition, and what is left of its instances can be seen
SELECT romancy.start_workflow('w');
SELECT workflow, version, status FROM romancy.instances WHERE instance_id = :'live';

-- the owner, and members of it
CREATE ROLE regress_definer;
CREATE ROLE regress_other;
CREATE ROLE regress_member IN ROLE regress_definer;
SELECT romancy.grant_usage('regress_definer', namespace => 'regress'), romancy.grant_usage('regress_other', namespace => 'regress'), romancy.grant_usage('regress_member', namespace => 'regress');
GRANT USAGE ON SCHEMA flows TO regress_definer, regress_other, regress_member;
SET ROLE regress_definer;
SELECT romancy.define_workflow('owned', 'f1(jsonb)');
SELECT romancy.define_activity('owned', 'f1(jsonb)');
SET ROLE regress_other;
SELECT romancy.define_workflow('owned', 'f2(jsonb)');
SELECT romancy.define_activity('owned', 'f2(jsonb)');
SELECT romancy.drop_workflow('owned');
SELECT romancy.drop_activity('owned');
SET ROLE regress_member;
SELECT romancy.define_workflow('owned', 'f2(jsonb)');
SELECT romancy.drop_activity('owned');
RESET ROLE;
SELECT name, version, owner FROM romancy.t_workflow WHERE name = 'owned' ORDER BY version;
-- who may not execute a function cannot make it a handler
REVOKE EXECUTE ON FUNCTION f1 FROM PUBLIC;
SET ROLE regress_other;
SELECT romancy.define_workflow('theirs', 'f1(jsonb)');
SELECT romancy.define_workflow('theirs', 'f2(jsonb)');
RESET ROLE;
-- the path is recorded without "$user" and pg_temp
SET LOCAL search_path = pg_temp, "$user", flows;
SELECT romancy.define_workflow('pathed', 'f2(jsonb)');
SELECT search_path = format('%I, flows', current_user) FROM romancy.t_workflow WHERE name = 'pathed';
-- what goes into an index has a length
SELECT romancy.define_workflow(repeat('w', 201), 'f2(jsonb)');
SELECT romancy.define_activity(repeat('a', 201), 'f2(jsonb)');
SELECT romancy.define_activity('a', queue => repeat('q', 201));
SELECT romancy.define_workflow('w', 'f2(jsonb)', on_event => repeat('e', 129));
SELECT romancy.start_workflow('f2', idempotency_key => repeat('k', 2001));
SELECT romancy.start_workflows('f2', '{1}', ARRAY[repeat('k', 2001)]);
SELECT romancy.set_queue('q', 1, per_key => k) FROM unnest('{a..b,.a}'::text[]) k;
SELECT romancy.set_queue('q', 1, per_key => 'a.');
ROLLBACK;
