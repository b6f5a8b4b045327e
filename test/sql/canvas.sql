-- Canvas: chain, group, chord, options, and what goes wrong.
-- It would catch a callback that starts too early, twice or never, and an error that goes to the wrong handler.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE SCHEMA canvas_test;
SET LOCAL search_path = canvas_test, public;
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what jsonb);
CREATE FUNCTION sq(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(i::int * i::int); END $$;
CREATE FUNCTION inc(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(i::int + 1); END $$;
CREATE FUNCTION total(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT to_jsonb(coalesce(sum(x::int), 0)) FROM jsonb_array_elements_text(i) x); END $$;
CREATE FUNCTION echo(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
CREATE FUNCTION note(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect (what) VALUES (CASE WHEN jsonb_typeof(i) = 'object' THEN i #- '{error,context}' ELSE i END); RETURN i; END $$;
CREATE FUNCTION bad(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.raise_terminal('bad ' || i::text); END $$;
CREATE FUNCTION run(s jsonb, i jsonb DEFAULT NULL) RETURNS uuid LANGUAGE sql AS $$ SELECT romancy.run_canvas(s, i) $$;
CREATE PROCEDURE show(s jsonb, i jsonb DEFAULT NULL, INOUT status text DEFAULT NULL, INOUT output jsonb DEFAULT NULL, INOUT error text DEFAULT NULL, INOUT progress text DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE id uuid := run(s, i); p record; turns bigint;
BEGIN
	CALL romancy.drain(turns => turns);
	SELECT x.status, x.output, x.error ->> 'message' INTO status, output, error FROM romancy.instances x WHERE x.instance_id = id;
	SELECT * INTO p FROM romancy.get_progress(id);
	progress := format('%s of %s, %s failed', p.completed, p.total, p.failed);
END $$;

-- signatures are plain jsonb
SELECT romancy.task('a'), romancy.task('a', '1'), romancy.chain(romancy.task('a'), romancy.task('b')), romancy.group();
SELECT romancy.chord(romancy.group(romancy.task('a')), romancy.task('b'));
SELECT romancy.options(romancy.options(romancy.task('a', '1'), priority => 1, immutable => true), priority => 2, retry => '{"max_attempts": 1}');

CALL show(romancy.task('sq', '3'));
CALL show(romancy.chain(romancy.task('sq'), romancy.task('inc'), romancy.task('inc')), '5');
CALL show(romancy.group(romancy.task('sq', '1'), romancy.chain(romancy.task('sq', '2'), romancy.task('inc')), romancy.group()));
CALL show(romancy.chord(jsonb_build_array(romancy.task('sq', '1'), romancy.task('sq', '2'), romancy.task('sq', '3')), romancy.task('total')));
CALL show(romancy.chord('[]', romancy.task('total')));
CALL show(romancy.group());
-- nested chords; a chord in a chain
CALL show(romancy.chord(romancy.group(romancy.chord(romancy.group(romancy.task('sq', '2'), romancy.task('sq', '3')), romancy.task('total')), romancy.task('sq', '4')), romancy.task('total')));
CALL show(romancy.chain(romancy.group(romancy.task('inc'), romancy.task('sq')), romancy.task('total'), romancy.chord(romancy.group(romancy.task('inc'), romancy.task('inc')), romancy.task('total')), romancy.task('inc')), '7');
-- inputs
CALL show(romancy.chain(romancy.task('sq'), romancy.task('echo', '{"a": 1}')), '2');
CALL show(romancy.chain(romancy.task('sq'), romancy.options(romancy.task('echo', '{"a": 1}'), immutable => true)), '2');
CALL show(romancy.chain(romancy.task('sq'), romancy.task('echo', '[1]')), '2');
CALL show(romancy.task('echo'));

-- errors: the others run on, the first in list order counts, the callback does not run
CALL show(romancy.chord(romancy.group(romancy.task('note', '1'), romancy.task('bad', '2'), romancy.task('bad', '3'), romancy.task('note', '4')), romancy.task('note', '"callback"')));
SELECT what FROM effect ORDER BY n;
TRUNCATE effect;
CALL show(romancy.options(romancy.chain(romancy.task('bad', '1'), romancy.task('note')), on_error => romancy.task('note')));
SELECT what FROM effect ORDER BY n;
TRUNCATE effect;
CALL show(romancy.options(romancy.task('bad', '1'), on_error => romancy.task('bad', '2')));
CALL show(romancy.group(romancy.options(romancy.task('bad', '1'), on_error => romancy.task('note', '"inner"')), romancy.task('sq', '2')));
SELECT what ->> 0 FROM effect;
-- what is left of them: dead tasks, for the operator
SELECT activity, activity_id, status FROM romancy.activity_tasks ORDER BY task_id;
SELECT count(*) AS joins FROM romancy.t_canvas_join JOIN romancy.instances USING (instance_id) WHERE status <> 'failed';

-- a hundred, and deep nesting
SELECT romancy.chord(romancy.group(VARIADIC array(SELECT romancy.task('sq', to_jsonb(g)) FROM generate_series(1, 100) g)), romancy.task('total')) AS hundred \gset
CALL show(:'hundred');
DO $$
DECLARE s jsonb := romancy.task('inc'); status text; output jsonb; error text; progress text;
BEGIN
	FOR i IN 1..50 LOOP s := romancy.chain(s, romancy.task('inc')); END LOOP;
	CALL show(s, '0', status, output, error, progress);
	RAISE WARNING '% % %', status, output, progress;
END $$;

-- cancelled in the middle
SELECT romancy.define_activity('canvas_ext', queue => 'canvas_q');
SELECT romancy.run_canvas(romancy.chord(romancy.group(romancy.task('sq', '2'), romancy.task('canvas_ext'), romancy.task('canvas_ext')), romancy.task('total')), labels => '{"x": 1}') AS id \gset
CALL romancy.drain() \gset
SELECT total, completed, failed, running, percent FROM romancy.get_progress(:'id');
SELECT token FROM romancy.fetch_activities('canvas_q', 'w') \gset
SELECT total, completed, failed, running, percent FROM romancy.get_progress(:'id');
SELECT romancy.cancel_workflow(:'id');
CALL romancy.drain() \gset
SELECT romancy.heartbeat_activity(:'token'), romancy.complete_activity(:'token');
SELECT status, labels FROM romancy.instances WHERE instance_id = :'id';
SELECT count(*) FROM romancy.activity_tasks WHERE instance_id = :'id';

-- a result that is too large to be among others in memory
SELECT run(romancy.group(VARIADIC array(SELECT romancy.task('echo', to_jsonb(repeat('x', 8000))) FROM generate_series(1, 60)))) AS id \gset
CALL romancy.drain() \gset
SELECT status, jsonb_array_length(output) FROM romancy.instances WHERE instance_id = :'id';

-- faults, with their path
SELECT romancy.run_canvas(romancy.chain());
SELECT romancy.run_canvas(romancy.chain(romancy.task('a'), '{"group": [{"task": "x", "foo": 1}]}'));
SELECT romancy.run_canvas(romancy.group(romancy.task('a'), NULL));
SELECT romancy.run_canvas('{"task": 1}');
SELECT romancy.run_canvas('{"task": ""}');
SELECT romancy.run_canvas('[]');
SELECT romancy.run_canvas('{}');
SELECT romancy.run_canvas('{"chord": {"header": 1, "body": {"task": "a"}}}');
SELECT romancy.run_canvas('{"chord": {"header": []}}');
SELECT romancy.run_canvas('{"group": {"task": "a"}}');
SELECT romancy.run_canvas(romancy.options(romancy.task('a'), retry => '{"attempts": 1}'));
SELECT romancy.run_canvas('{"task": "a", "options": {"priority": "high"}}');
SELECT romancy.run_canvas('{"task": "a", "options": {"immutable": 1}}');
SELECT romancy.run_canvas('{"task": "a", "options": {"color": 1}}');
SELECT romancy.run_canvas(romancy.options(romancy.task('a'), on_error => '{"chain": []}'));
SELECT romancy.run_canvas(NULL);
SELECT romancy.options('[]');
SELECT romancy.get_progress('00000000-0000-0000-0000-000000000000');
SELECT romancy.t_canvas('{}');
ROLLBACK;
