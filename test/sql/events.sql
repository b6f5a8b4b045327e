-- Type romancy.t_events: how events are stored.
\set VERBOSITY sqlstate

-- What was packed comes back: absent fields, times out of order, repeated inputs and results, all lengths
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
SELECT romancy.events_unpack(romancy.events_pack(events)) = events AS same,
	romancy.events_unpack(romancy.events_pack(events)::text::romancy.t_events) = events AS same_as_text,
	romancy.events_pack(events)::text = events::text AS text_of_the_array,
	pg_column_size(romancy.events_pack(events[1:7])) < pg_column_size(events[1:7]) / 2 AS small FROM given;
SELECT romancy.events_unpack(romancy.events_pack('{}')) AS none, '{}'::romancy.t_events AS none_as_text;
SELECT count(*), max(step) FROM unnest(romancy.events_unpack(romancy.events_pack(
	(SELECT array_agg(ROW(1, 's' || i, NULL, NULL, NULL, NULL, now())::romancy.t_event ORDER BY i) FROM generate_series(1, 1000) i)))) e;

-- and what cannot be an event is refused
SELECT romancy.events_pack(ARRAY[NULL]::romancy.t_event[]);
SELECT romancy.events_pack(ARRAY[ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::romancy.t_event[]);
SELECT romancy.events_pack(ARRAY[ROW(256, NULL, NULL, NULL, NULL, NULL, NULL)]::romancy.t_event[]);
SELECT 'x'::romancy.t_events;
