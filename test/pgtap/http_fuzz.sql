-- URL templates, patterns, addresses, headers and Retry-After with random texts, the same in each run. It would catch an input that leads to another host or out of the path,
-- a URL with a second form, a header with a line of its own, a wait that is not bounded, and an error that is none of the parsers'.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(6);
SET LOCAL client_min_messages = warning;

CREATE FUNCTION pg_temp.pieces(p text[], most int) RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT coalesce(string_agg(p[1 + floor(random() * cardinality(p))::int], ''), '') FROM generate_series(1, floor(random() * (most + 1))::int) $$;

-- a percent-encoded text as it was
CREATE FUNCTION pg_temp.decoded(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT convert_from(coalesce(string_agg(CASE WHEN m[1] LIKE '\%__' ESCAPE '\' AND length(m[1]) = 3 THEN decode(substr(m[1], 2), 'hex') ELSE convert_to(m[1], 'UTF8') END, ''::bytea ORDER BY n), ''), 'UTF8')
	FROM regexp_matches(t, '%[0-9A-Fa-f]{2}|.', 'g') WITH ORDINALITY r (m, n) $$;

CREATE FUNCTION pg_temp.fuzz(rounds int) RETURNS TABLE (what text, counted bigint, wrong text) LANGUAGE plpgsql AS $$
DECLARE
	odd text[] := ARRAY['a', 'b', '.', '..', '/', '\', '%2e', '%2F', '%', '%00', ' ', E'\t', E'\r', E'\n', E'\u0001', E'\u007f', 'ü', '€', '😀', '?', '#', '@', ':', ';', '&', '=', '+', '{', '}', '{{secret:k}}', '*', '[::1]', 'http://', '127.0.0.1', '"', '''', '0', 'x'];
	urls text[] := ARRAY['https://', 'http://', 'HTTP://', 'h', 'example.com', '[::1]', '[', ']', '127.1', ':80', ':0', ':', '/', '//', '..', '.', '%2e', '%', '{a}', '{b.c}', '{', '}', '{{secret:k}}', '?', '#', '@', '*', '\', 'ü', ' ', E'\n', E'\u0001'];
	waits text[] := ARRAY['1', '9', '60', '-', '+', ' ', ',', ':', 'Sun', 'Sunday', ', ', '29', 'Nov', '-Nov-26', '2026', '1969', '08:00:30', '24:61:61', ' GMT', '99999999999999999999', '0x1', 'ü', E'\n', '.5', 'Feb 30'];
	n_url bigint := 0; n_text bigint := 0; n_form bigint := 0; n_wait bigint := 0; n_head bigint := 0; n_rule bigint := 0;
	bad text[] := '{}';
	s text; t text; v text; q text; w interval;
BEGIN
	FOR i IN 1 .. rounds LOOP
		-- an input in the path and in the query: it arrives as it is, there, and nowhere else
		v := pg_temp.pieces(odd, 5);
		q := pg_temp.pieces(odd, 5);
		BEGIN
			t := romancy.t_http_url('https://h:8443/v1/{a}/x?q={b.c}&z=1', jsonb_build_object('a', v, 'b', jsonb_build_object('c', q)));
			n_url := n_url + 1;
			IF t !~ '^https://h:8443/v1/[^/?#]+/x\?q=[^&#?]*&z=1$' OR t ~ '[^!-~]' OR pg_temp.decoded(substring(t FROM '/v1/([^/]+)/x')) <> v OR pg_temp.decoded(substring(t FROM 'q=([^&]*)&')) <> q
				OR v ~ '^\.{1,2}$' THEN
				bad := bad || format('%s from %s and %s', t, v, q);
			END IF;
		EXCEPTION WHEN SQLSTATE 'RM012' THEN NULL; WHEN OTHERS THEN bad := bad || format('%s: %s of input %s', SQLSTATE, SQLERRM, v);
		END;
		-- a whole URL: refused, or in one form, of printable characters, with a host that is a name or an address
		s := CASE WHEN random() < 0.7 THEN 'https://h' ELSE '' END || pg_temp.pieces(urls, 6);
		BEGIN
			t := romancy.t_http_url(s, '{"a": "1", "b": {"c": "2"}}');
			n_text := n_text + 1;
			IF romancy.t_http_url(t, '{}') <> t OR t !~ '^https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]*)?/[!-~]*$' OR t ~ '[#\\]' OR split_part(t, '?', 1) ~* '[^:/]/(\.|%2e){1,2}(/|;|$)' THEN
				bad := bad || format('%s from %s', t, s);
			END IF;
			n_form := n_form + 1;
		EXCEPTION WHEN SQLSTATE 'RM012' THEN NULL; WHEN OTHERS THEN bad := bad || format('%s: %s of URL %s', SQLSTATE, SQLERRM, s);
		END;
		-- a wait: none, or one from nothing to a day
		s := pg_temp.pieces(waits, 5);
		w := romancy.t_http_retry_after(s, '2026-11-29 08:00:00+00');
		n_wait := n_wait + 1;
		IF w < '0' OR w > '24 h' THEN
			bad := bad || format('a wait of %s from %s', w, s);
		END IF;
		CONTINUE WHEN i % 20 <> 0;
		-- a rule: refused, or never for another scheme
		s := CASE WHEN random() < 0.7 THEN 'https://h' ELSE '' END || pg_temp.pieces(urls, 2);
		BEGIN
			PERFORM romancy.allow_http(current_user::regrole, s, true);
			n_rule := n_rule + 1;
		EXCEPTION WHEN SQLSTATE 'RM012' THEN NULL; WHEN OTHERS THEN bad := bad || format('%s: %s of rule %s', SQLSTATE, SQLERRM, s);
		END;
		-- a header: refused, or without a control character
		v := pg_temp.pieces(odd, 3);
		s := CASE WHEN random() < 0.5 THEN 'X-A' ELSE pg_temp.pieces(odd, 3) END;
		BEGIN
			PERFORM romancy.define_activity('fuzz', http => jsonb_build_object('url', 'https://h/', 'headers', jsonb_build_object(s, v)));
			n_head := n_head + 1;
			IF s || v ~ '[\u0001-\u0008\u000a-\u001f\u007f]' OR s !~ '^[!#$%&''*+.^_`|~0-9A-Za-z-]+$' THEN
				bad := bad || format('header %s: %s', s, v);
			END IF;
		EXCEPTION WHEN SQLSTATE 'RM012' OR insufficient_privilege THEN NULL; WHEN OTHERS THEN bad := bad || format('%s: %s of header %s: %s', SQLSTATE, SQLERRM, s, v);
		END;
	END LOOP;
	RETURN QUERY VALUES ('inputs', n_url, bad[1]), ('URLs', n_text, bad[2]), ('forms', n_form, bad[3]), ('waits', n_wait, bad[4]), ('rules', n_rule, bad[5]), ('headers', n_head, bad[6]);
END $$;

SELECT romancy.allow_http(current_user::regrole, 'https://h/*', true);
SELECT setseed(0.29);
CREATE TEMP TABLE seen AS SELECT * FROM pg_temp.fuzz(3000);
SELECT is((SELECT string_agg(wrong, E'\n') FROM seen), NULL, 'nothing is taken that should be refused, and no other error is raised');
SELECT cmp_ok(counted, '>', least, what || ' were taken, too')
FROM seen JOIN (VALUES ('inputs', 300::bigint), ('URLs', 100), ('waits', 2000), ('rules', 5), ('headers', 5)) v (name, least) ON name = what;
SELECT * FROM finish();
ROLLBACK;
