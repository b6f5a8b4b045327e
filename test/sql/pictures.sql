-- diagram and timeline: of an instance that failed after retries and compensated,
-- of one that waits with parallel branches and a child, and of names that have to
-- be quoted. Ids and spans of time are left out of what is compared.
-- It would catch a picture that is not valid Mermaid or Graphviz, and a step that is missing in it.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
DELETE FROM romancy.t_instance;
CREATE SCHEMA pics;
SET LOCAL search_path = pics, public;
CREATE FUNCTION plain(picture text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(regexp_replace(regexp_replace($1,
		'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}', 'ID', 'g'),
		'(\d+ min )?[0-9.]+ (us|ms|s)\M', 'T', 'g'),
		'\d{4}-\d\d-\d\d \d\d:\d\d:[0-9.]+[-+]\d\d', 'WHEN', 'g'),
		'\|[ #=~.x>]{48}\|', '|chart|', 'g') $$;
CREATE FUNCTION ok(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN input; END $$;
CREATE FUNCTION bad(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a "bad" <thing>; {really}'; END $$;
SELECT romancy.define_activity('ok', 'ok(jsonb)', compensation => 'undo');
SELECT romancy.define_activity('bad', 'bad(jsonb)', retry => '{"max_attempts": 2, "initial_interval": "1 min", "jitter": 0}');
CREATE FUNCTION undo(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN input; END $$;
CREATE FUNCTION fails(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('ok', '1');
	PERFORM romancy.activity('ok', '2', activity_id => 'a "quoted" [id]');
	PERFORM romancy.activity('bad');
	RETURN '1';
END $$;
SELECT romancy.start_workflow('fails') AS id \gset
CALL romancy.drain(advance_time => true) \gset
\pset format unaligned
\pset tuples_only on
SELECT plain(romancy.diagram(:'id'));
SELECT plain(romancy.diagram(:'id', 'dot'));
SELECT plain(romancy.timeline(:'id'));

CREATE FUNCTION naps(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('ok', '"child"'); PERFORM romancy.sleep('1 h'); RETURN '1'; END $$;
CREATE FUNCTION branches(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h text[];
BEGIN
	PERFORM romancy.activity('ok', '"first"');
	h := array[romancy.spawn_timer('1 min'), romancy.spawn_workflow('naps')];
	PERFORM romancy.await(h[1]);
	PERFORM romancy.activity('ok', '"after one"');
	PERFORM romancy.await(h[2]);
	PERFORM romancy.sleep('2 days');
	RETURN '"end"';
END $$;
SELECT romancy.start_workflow('branches') AS id \gset
CALL romancy.drain() \gset
SELECT plain(romancy.diagram(:'id'));
SELECT plain(romancy.timeline(:'id'));
CALL romancy.drain(max_turns => 2, advance_time => true) \gset
SELECT plain(romancy.timeline(:'id'));
CALL romancy.drain(advance_time => true) \gset
SELECT plain(romancy.diagram(:'id'));
SELECT plain(romancy.timeline(:'id'));
SELECT length(romancy.diagram(:'id', 'dot')) > 500;

-- one that waits for a message: its shape has room for the text
CREATE FUNCTION listens(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('ok', '1'); RETURN romancy.receive('order.cancelled.by.customer'); END $$;
SELECT romancy.start_workflow('listens') AS id \gset
CALL romancy.drain() \gset
SELECT plain(romancy.diagram(:'id', 'dot'));

-- names that mean something to Mermaid or Graphviz even within quotes, or to a terminal
CREATE FUNCTION odd(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE name text;
BEGIN
	FOR name IN SELECT jsonb_array_elements_text(input) LOOP PERFORM romancy.activity('ok', activity_id => name); END LOOP;
	RAISE EXCEPTION E'a line\nand "another": 50%%; end';
END $$;
CREATE FUNCTION text_of(picture text) RETURNS text LANGUAGE sql AS $$ SELECT regexp_replace(plain($1), '\n  n\d+ -[^\n]*|\n  classDef[^\n]*', '', 'g') $$;
SELECT romancy.define_workflow(E'two\nlines', 'odd(jsonb)');
SELECT romancy.start_workflow(E'two\nlines', '["end", "direction LR", "redirection  TB:2", "fa:fa-car", "$$x$$", "a\\next", "%%{init: {}}%%", "style:\"q\";", "1. one", "a&amp;b\\N", "日本語日本語日本語日本語日本語", "del\u007f\u009bx"]') AS id \gset
CALL romancy.drain() \gset
SELECT text_of(romancy.diagram(:'id'));
SELECT text_of(romancy.diagram(:'id', 'dot'));
SELECT plain(romancy.timeline(:'id'));

-- activities that are named as the engine's own steps are, between two attempts
CREATE FUNCTION waits_for(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('ok', '1'); RETURN romancy.activity(input #>> '{}'); END $$;
CREATE FUNCTION picture_of(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE id uuid; n bigint;
BEGIN
	PERFORM romancy.define_activity(name, 'bad(jsonb)', retry => '{"max_attempts": 2, "initial_interval": "1 min"}');
	id := romancy.start_workflow('waits_for', to_jsonb(name));
	CALL romancy.drain(turns => n);
	RETURN plain(romancy.timeline(id));
END $$;
SELECT picture_of(name) FROM unnest(ARRAY['await_payment', 'compensation_fee', 'register_compensation_x']) name;

-- the bars themselves: steps of one, two and four hours
CREATE FUNCTION hours(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.sleep('1 h'); PERFORM romancy.sleep('2 h'); PERFORM romancy.sleep('4 h'); RETURN '1'; END $$;
SELECT romancy.start_workflow('hours') AS id \gset
CALL romancy.drain(advance_time => true) \gset
SELECT (regexp_matches(romancy.timeline(:'id'), 'sleep:\d.*?\|[^|]*\|', 'g'))[1];
-- before the first turn
SELECT romancy.start_workflow('hours') AS id \gset
SELECT plain(romancy.diagram(:'id'));
SELECT plain(romancy.timeline(:'id'));
SELECT romancy.diagram(:'id', 'svg');
SELECT romancy.timeline('00000000-0000-0000-0000-000000000000');
CREATE ROLE regress_looker;
SELECT romancy.grant_usage('regress_looker');
SET LOCAL ROLE regress_looker;
\set VERBOSITY sqlstate
SELECT romancy.diagram(:'id');

RESET ROLE;
\set VERBOSITY terse
-- a canvas: its tasks, the steps that follow them, a callback that was called, and tasks that are undone
SELECT romancy.define_activity('ext', queue => 'nobody');
SELECT romancy.run_canvas(romancy.chain(romancy.task('ok', '1'), romancy.chord(romancy.group(romancy.task('ok', '2'), romancy.chain(romancy.task('ok', '3'), romancy.task('ext')), romancy.group(), romancy.task('ok', '4')), romancy.task('ok')))) AS id \gset
CALL romancy.drain() \gset
SELECT plain(romancy.diagram(:'id'));
SELECT plain(romancy.timeline(:'id'));
SELECT romancy.run_canvas(romancy.options(romancy.group(romancy.task('ok', '1'), romancy.task('bad', '2')), on_error => romancy.task('ok'))) AS id \gset
CALL romancy.drain(advance_time => true) \gset
SELECT plain(romancy.diagram(:'id'));
SELECT plain(romancy.timeline(:'id'));
CREATE FUNCTION paints(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM romancy.activity('ok', '0'); RETURN romancy.canvas(romancy.group(romancy.task('ok', '1'), romancy.task('ext'))); END $$;
SELECT romancy.start_workflow('paints') AS id \gset
CALL romancy.drain() \gset
SELECT plain(romancy.diagram(:'id'));
ROLLBACK;
