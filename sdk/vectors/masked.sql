-- A history without the parts that differ from run to run: ids, times, recorded values, the context of errors. Sorted by step, for parallel
-- steps end in any order.
CREATE FUNCTION masked(instance uuid) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(line, E'\n' ORDER BY step, line), '') FROM (
		SELECT coalesce(h.activity_id, '~') AS step, format('%s %s %s', h.event_type,
			regexp_replace(coalesce(h.activity_id, '-'), '[0-9a-f]{8}-[0-9a-f-]{27}', '<id>'),
			CASE WHEN h.event_type = 'ValueRecorded' THEN '<value>' ELSE
			regexp_replace(regexp_replace(regexp_replace((CASE WHEN h.event_type IN ('MessagePublished', 'MessageSent', 'EventSent') THEN h.data - 'result'
				WHEN h.event_type = 'ChannelMessageReceived' THEN h.data #- '{result,id}' #- '{result,publisher}' ELSE h.data END
				#- '{error,context}' #- '{retry,total_duration_ms}')::text,
				'[0-9a-f]{8}-[0-9a-f-]{27}', '<id>', 'g'),
				'[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.+]+', '<time>', 'g'),
				'"timestamp": [0-9.]+', '<time>', 'g') END) AS line
		FROM romancy.get_history(instance) h) x $$;
