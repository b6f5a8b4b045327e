-- Type romancy.t_events: how events are stored.
-- It would catch a change of the stored format, which the history of running instances would not survive.
\set VERBOSITY sqlstate

-- Packed values come back: absent fields, times out of order, repeated inputs and results, all lengths
CREATE TEMP TABLE given AS
SELECT ARRAY[
	ROW(1, 'step:1', NULL, '{"n": 1}', '1', NULL, '2026-11-01 12:00:00.000001+00'),
	ROW(1, 'step:2', 'other name', '{"n": 1}', '1', '{"retry": {"total_attempts": 2}}', '2026-11-01 12:00:00+00'),
	ROW(1, 'step:3', NULL, '{"n": 2}', NULL, NULL, '2026-11-01 12:00:00+00'),
	ROW(1, 'step:4', NULL, NULL, '{"n": 2}', NULL, '1999-12-31 00:00:00+00'),
	ROW(1, 'step:5', NULL, '{"n": 2}', '{"n": 2}', NULL, '2199-12-31 00:00:00+00'),
	ROW(255, '', '', 'null', '[]', '{}', NULL),
	ROW(9, NULL, NULL, NULL, '{"n": 2}', NULL, '2026-11-01 12:00:01+00'),
	ROW(1, repeat('ü', 100), NULL, to_jsonb(repeat('x', 127)), to_jsonb(repeat('y', 20000)), NULL, '2026-11-01 12:00:01+00')
]::romancy.t_event[] AS events;
SELECT romancy.t_events_unpack(romancy.t_events_pack(events)) = events AS same,
	romancy.t_events_unpack(romancy.t_events_pack(events)::text::romancy.t_events) = events AS same_as_text,
	romancy.t_events_pack(events)::text = events::text AS text_of_the_array,
	pg_column_size(romancy.t_events_pack(events[1:7])) < pg_column_size(events[1:7]) / 2 AS small FROM given;
SELECT romancy.t_events_unpack(romancy.t_events_pack('{}')) AS none, '{}'::romancy.t_events AS none_as_text;
SELECT count(*), max(step) FROM unnest(romancy.t_events_unpack(romancy.t_events_pack(
	(SELECT array_agg(ROW(1, 's' || i, NULL, NULL, NULL, NULL, now())::romancy.t_event ORDER BY i) FROM generate_series(1, 1000) i)))) e;

-- and what cannot be an event is refused
SELECT romancy.t_events_pack(ARRAY[NULL]::romancy.t_event[]);
SELECT romancy.t_events_pack(ARRAY[ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::romancy.t_event[]);
SELECT romancy.t_events_pack(ARRAY[ROW(256, NULL, NULL, NULL, NULL, NULL, NULL)]::romancy.t_event[]);
SELECT 'x'::romancy.t_events;

-- Events of the turn that ends an instance stand in its row, unless it is large; a retry moves it
BEGIN;
SET LOCAL client_min_messages = warning;
DELETE FROM romancy.t_instance;
DELETE FROM romancy.t_workflow;
CREATE SCHEMA ends;
SET LOCAL search_path = ends, public;
CREATE FUNCTION work(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF input ->> 'fails' <> coalesce(current_setting('ends.mended', true), 'no') THEN PERFORM romancy.raise_terminal('not yet'); END IF;
	RETURN to_jsonb(repeat('x', (input ->> 'size')::int));
END $$;
CREATE FUNCTION flow(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF input ? 'sleeps' THEN PERFORM romancy.sleep('1 s'); END IF;
	PERFORM romancy.activity('work', input);
	PERFORM romancy.set_value('k', input);
	RETURN romancy.activity('work', input || '{"size": 3}');
END $$;
SELECT count(romancy.start_workflow('flow', input, labels => jsonb_build_object('n', n)))
FROM unnest('{"{\"size\": 1}","{\"size\": 5000}","{\"size\": 1, \"sleeps\": 1}","{\"size\": 1, \"fails\": \"yes\"}"}'::jsonb[]) WITH ORDINALITY x (input, n);
CALL romancy.drain(advance_time => true) \gset
CREATE VIEW stored AS
SELECT labels -> 'n' AS n, status, last_seq,
	(SELECT count(*) FROM unnest(romancy.t_events_unpack(i.events))) AS in_row,
	(SELECT sum(cardinality(romancy.t_events_unpack(h.events))) FROM romancy.t_history h WHERE h.instance_id = i.instance_id) AS in_history,
	(SELECT string_agg(seq || ' ' || event_type, ', ' ORDER BY seq) FROM romancy.get_history(instance_id)) AS shown,
	(SELECT count(*) FROM romancy.get_history(instance_id, after => last_seq - 1)) AS last_page
FROM romancy.t_instance i;
SELECT * FROM stored ORDER BY n;
SET LOCAL ends.mended = 'yes';
SELECT romancy.retry_workflow(instance_id) FROM romancy.t_instance WHERE status = 'failed';
SELECT * FROM stored WHERE n = '4';
CALL romancy.drain() \gset
SELECT * FROM stored WHERE n = '4';
SELECT romancy.fork_workflow(instance_id, 'work:2') IS NOT NULL AS forked FROM romancy.t_instance WHERE labels -> 'n' IN ('1', '4') ORDER BY labels -> 'n';
CALL romancy.drain() \gset
SELECT * FROM stored WHERE n IN ('1', '4') ORDER BY n, in_row;
ROLLBACK;
