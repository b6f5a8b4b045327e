-- html_report and spans: what they show, to whom, and that nothing that a user has named is markup, a control character or a span of its own.
-- It would catch a name or an error that gets into the page unescaped, an instance that another role sees there, inputs and results in
-- either of them, a span without its trace or parent, and a span id that is not the one of an HTTP request's traceparent.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(33);
SET LOCAL client_min_messages = warning;
CREATE ROLE regress_shop;
CREATE ROLE regress_other;
CREATE ROLE regress_watcher;
SELECT romancy.grant_usage('regress_shop'), romancy.grant_usage('regress_other'), romancy.grant_usage('regress_watcher', monitor => true);
GRANT CREATE ON SCHEMA public TO regress_shop;

SET SESSION AUTHORIZATION regress_shop;
CREATE FUNCTION good(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"a result that is secret"'; END $$;
CREATE FUNCTION bad(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ends </pre><script>alert("1")</script> & `x`'; END $$;
CREATE FUNCTION kid(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('good', '"an input that is secret"'); END $$;
CREATE FUNCTION hostile(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.activity('good', '"an input that is secret"');
	PERFORM romancy.call_workflow('kid');
	PERFORM romancy.sleep('1 hour');
	PERFORM romancy.activity('bad', activity_id => $1 #>> '{}', retry => '{"max_attempts": 3, "initial_interval": "1 min", "jitter": 0}');
	RETURN '1';
END $$;
CREATE FUNCTION waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('good'); PERFORM romancy.sleep('1 day'); RETURN '1'; END $$;
SELECT romancy.define_workflow('<img src=x onerror=alert(2)>', 'hostile(jsonb)') \gset
SELECT romancy.start_workflow('<img src=x onerror=alert(2)>', to_jsonb(E'</td>\u202Eé\u0085\x1b<svg/onload=3>'::text)) AS failed \gset
CALL romancy.drain(advance_time => true) \gset
SELECT romancy.start_workflow('waits') AS waits \gset
CALL romancy.drain() \gset
SELECT romancy.schedule('<u>nightly</u>', '0 0 * * *', 'waits') \gset

-- the page
SELECT romancy.html_report() AS page, romancy.spans(:'failed') AS spans, romancy.spans(:'waits') AS live \gset
RESET SESSION AUTHORIZATION;
SELECT ok(:'page' LIKE '<!DOCTYPE html>%</html>' || chr(10), 'html_report is a whole page');
SELECT ok(:'page' ~ 'default-src ''none''' AND :'page' !~* '<script|<img|<svg|<u>|<link|javascript:|src="|href=', 'it has no script, no picture, no link, and its policy allows none');
SELECT is((SELECT string_agg(DISTINCT lower(t[1]), ' ' ORDER BY lower(t[1])) FROM regexp_matches(:'page', '</?([^\s<>/]+)', 'g') t),
	'!doctype body details h1 h2 head html meta p pre style summary table td th title tr', 'all of its elements are the report''s own');
SELECT ok(:'page' LIKE '%&#60;img src&#61;x onerror&#61;alert(2)&#62;%', 'a workflow''s name is text');
SELECT ok(:'page' LIKE '%&#60;/pre&#62;&#60;script&#62;alert(&#34;1&#34;)&#60;/script&#62; &#38; &#96;x&#96;%', 'an error is text');
SELECT ok(:'page' LIKE '%&#60;u&#62;nightly&#60;/u&#62;%', 'a schedule''s name is text');
SELECT ok(:'page' ~ 'svg/onload&#61;' , 'a step''s name is text');
SELECT ok(:'page' !~ '[^\n\t\x20-\x7e]' AND :'page' ~ '&#65533;&#233;' AND :'page' !~ '&#(8238|27|133);', 'the page is printable ASCII; what changes the direction of text is replaced');
SELECT ok(:'page' NOT LIKE '%secret%', 'it has no inputs and no results');
SELECT ok(:'page' LIKE '%' || :'waits' || '%' AND :'page' LIKE '%<td>waiting_for_timer</td><td>timer</td><td>sleep:1</td>%', 'an instance that waits is there, and for what');
SELECT ok(:'page' LIKE '%<details><summary>%' || :'failed' || ': failed</summary>%3 attempts%</pre></details>%', 'the failed one has its timeline');
SELECT ok(:'page' LIKE '%<td>waiting_for_timer</td><td>1</td><td>0</td><td>0</td>%', 'live instances are counted by status');

-- spans
CREATE TEMP TABLE span AS SELECT s.value AS span, s.n FROM jsonb_array_elements(:'spans'::jsonb #> '{resourceSpans,0,scopeSpans,0,spans}') WITH ORDINALITY AS s (value, n);
CREATE FUNCTION pg_temp.attribute(span jsonb, key text) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(a -> 'value' ->> 'stringValue', a -> 'value' ->> 'intValue') FROM jsonb_array_elements($1 -> 'attributes') a WHERE a ->> 'key' = $2 $$;
SELECT is((SELECT count(*) FROM span WHERE span ->> 'traceId' = replace(:'failed', '-', '')), 8::bigint, 'the instance, its four steps and three attempts are spans of its trace');
SELECT is((SELECT count(DISTINCT (span ->> 'traceId', span ->> 'spanId')) FROM span), (SELECT count(*) FROM span), 'each span has an id of its own in its trace');
SELECT ok((SELECT bool_and(span ->> 'spanId' ~ '^[0-9a-f]{16}$' AND span ->> 'spanId' !~ '^0+$' AND span ->> 'traceId' ~ '^[0-9a-f]{32}$'
	AND (span ->> 'startTimeUnixNano')::numeric <= (span ->> 'endTimeUnixNano')::numeric) FROM span), 'ids and times are OTLP''s');
SELECT is((SELECT count(*) FROM span WHERE span ->> 'parentSpanId' IS NULL), 2::bigint, 'the roots are the instance and its child');
SELECT ok((SELECT bool_and(EXISTS (SELECT FROM span p WHERE p.span ->> 'spanId' = s.span ->> 'parentSpanId' AND p.span ->> 'traceId' = s.span ->> 'traceId'))
	FROM span s WHERE s.span ->> 'parentSpanId' IS NOT NULL), 'each parent is a span of the same trace');
SELECT is((SELECT jsonb_agg(jsonb_build_array(pg_temp.attribute(span, 'romancy.attempt'), span #> '{status,code}', span #>> '{status,message}' IS NOT NULL) ORDER BY n) FROM span WHERE pg_temp.attribute(span, 'romancy.attempt') IS NOT NULL),
	'[["1", 2, true], ["2", 2, true], ["3", 2, true]]', 'attempts have their number and error');
SELECT is((SELECT (span ->> 'endTimeUnixNano')::numeric - (span ->> 'startTimeUnixNano')::numeric >= 3600000000000 FROM span WHERE span ->> 'name' = 'sleep:1'), true, 'an hour is an hour');
SELECT is((SELECT l.value ->> 'spanId' FROM span, jsonb_array_elements(span -> 'links') l WHERE span ->> 'name' = 'kid:1'),
	(SELECT span ->> 'spanId' FROM span WHERE span ->> 'name' = 'kid'), 'the step of a child names the child''s span');
SELECT is((SELECT l.value ->> 'spanId' FROM span, jsonb_array_elements(span -> 'links') l WHERE span ->> 'name' = 'kid'),
	(SELECT span ->> 'spanId' FROM span WHERE span ->> 'name' = 'kid:1'), 'and the child''s that of the step');
SELECT ok((SELECT string_agg(span::text, '') FROM span) NOT LIKE '%secret%', 'inputs and results are no attributes');
SELECT is((SELECT lpad(to_hex(hashtextextended('good:1', 1)), 16, '0')), (SELECT span ->> 'spanId' FROM span WHERE span ->> 'name' = 'good:1' AND span ->> 'traceId' = replace(:'failed', '-', '')), 'an attempt''s id is the hash that traceparent has');
SELECT is((SELECT jsonb_agg(s.value ->> 'name') FROM jsonb_array_elements(:'live'::jsonb #> '{resourceSpans,0,scopeSpans,0,spans}') s), '["good:1"]', 'of a live instance, what has ended');
SELECT is(romancy.spans(:'failed'), :'spans'::jsonb, 'exported again it is the same');

-- to whom
CREATE FUNCTION pg_temp.as_role(role name, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	PERFORM set_config('role', role, true);
	BEGIN
		EXECUTE sql INTO result;
	EXCEPTION WHEN OTHERS THEN result := SQLSTATE;
	END;
	PERFORM set_config('role', 'none', true);
	RETURN result;
END $$;
CREATE ROLE regress_nobody;
SELECT ok(page LIKE '<!DOCTYPE html>%' AND page NOT LIKE '%' || :'failed' || '%' AND page NOT LIKE '%' || :'waits' || '%' AND page NOT LIKE '%nightly%' AND page NOT LIKE '%alert(%', 'another role sees nothing of it')
	FROM pg_temp.as_role('regress_other', 'SELECT romancy.html_report()') page;
SELECT is(pg_temp.as_role('regress_other', format('SELECT romancy.t_report_chart(%L)', :'failed')), NULL, 'nor by the function that draws the timelines');
SELECT is(pg_temp.as_role('regress_other', format('SELECT romancy.spans(%L)', :'failed')), 'RM002', 'nor its spans');
SELECT ok(page LIKE '%' || :'failed' || '%' AND page LIKE '%nightly%', 'a monitor sees all') FROM pg_temp.as_role('regress_watcher', 'SELECT romancy.html_report()') page;
SELECT is(pg_temp.as_role('regress_watcher', format('SELECT romancy.spans(%L)', :'failed'))::jsonb, :'spans'::jsonb, 'and the spans');
SELECT is(pg_temp.as_role('regress_nobody', 'SELECT romancy.html_report()'), '42501', 'without a grant there is no report');
SELECT is(pg_temp.as_role('regress_nobody', format('SELECT romancy.spans(%L)', :'failed')), '42501', 'and no span');
SELECT is(romancy.t_report_table('<', '{}', '{a}') || romancy.t_report_table('<', NULL, '{a}'), repeat(E'<h2>&#60;</h2>\n<p>None.</p>\n', 2), 'a table without columns is none');
SELECT * FROM finish();
ROLLBACK;
