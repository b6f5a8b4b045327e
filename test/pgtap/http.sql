-- HTTP activities without a network: what a definition may say, how inputs go into URLs, which addresses are private, rules, secrets, Retry-After.
-- It would catch an input that leads out of a URL's path or adds a header, an address that is taken for a public one, and a rule that lets too much through.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(176);
SET LOCAL client_min_messages = warning;

-- addresses
SELECT is(romancy.t_http_address(a), 'private', a || ' is private') FROM unnest('{127.0.0.1,127.255.255.254,0.0.0.0,0.1.2.3,10.0.0.1,10.255.255.255,100.64.0.1,100.127.255.255,169.254.169.254,172.16.0.1,172.31.255.255,192.0.0.8,
	192.168.1.1,198.18.0.1,198.19.255.255,192.0.2.1,198.51.100.1,203.0.113.1,240.0.0.1,::,::1,::7f00:1,::ffff:127.0.0.1,::ffff:10.1.2.3,::ffff:a9fe:a9fe,::ffff:0:7f00:1,64:ff9b::127.0.0.1,64:ff9b::a00:1,64:ff9b:1::1,2002:7f00:1::,
	2002:a9fe:a9fe::1,2001::1,2001:db8::1,3fff::1,fc00::1,fd00:ec2::254,fe80::1,febf::1,fec0::1,100::1,5f00::1,4000::1}'::text[]) a;
SELECT is(romancy.t_http_address(a), 'never', a || ' is reached by nobody') FROM unnest('{224.0.0.1,239.255.255.255,255.255.255.255,ff02::1,::ffff:224.0.0.1}'::text[]) a;
SELECT is(romancy.t_http_address(a), 'public', a || ' is public') FROM unnest('{1.1.1.1,9.255.255.255,11.0.0.0,100.63.255.255,100.128.0.0,172.15.255.255,172.32.0.0,192.167.255.255,223.255.255.255,2606:4700::1111,2002:101:101::,64:ff9b::1.1.1.1,::ffff:8.8.8.8}'::text[]) a;

-- URLs
SELECT is(romancy.t_http_url('https://API.example.com:443/v1/{a.b}/{n}?q={q}', '{"a": {"b": "x y/ü"}, "n": 7, "q": "a&b=c#d"}'),
	'https://api.example.com/v1/x%20y%2F%C3%BC/7?q=a%26b%3Dc%23d', 'values are percent-encoded, and the URL is in one form');
SELECT is(romancy.t_http_url('http://[::1]:8080', '{}'), 'http://[::1]:8080/', 'an address in brackets');
SELECT is(romancy.t_http_url('https://h/{v.1}?{e}', '{"v": ["a", true], "e": ""}'), 'https://h/true?', 'an element of an array; an empty value in the query');
SELECT throws_like(format('SELECT romancy.t_http_url(%L, %L)', u, i), 'the URL cannot be sent: ' || why, u || ' ' || i)
FROM (VALUES
	('https://{h}/x', '{"h": "evil.example.com"}', '%braces stands in its host'),
	('{u}', '{"u": "https://evil"}', '%does not begin%'),
	('ftp://h/', '{}', '%does not begin%'),
	('file:///etc/passwd', '{}', '%does not begin%'),
	('https://user@h/', '{}', '%a user or a password'),
	('https://h/@x#f', '{}', '%fragment%'),
	('https:///x', '{}', '%not a name%'),
	('https://h..x/', '{}', '%not a name%'),
	('https://h%2fx/', '{}', '%not a name%'),
	(E'https://h\\x/', '{}', '%not a name%'),
	('https://h:0/', '{}', '%its port%'),
	('https://h:70000/', '{}', '%its port%'),
	('https://h:80:90/', '{}', '%'),
	('https://h/a/../b', '{}', '%segment%'),
	('https://h/a/%2e%2E/b', '{}', '%segment%'),
	('https://h/a/..;/b', '{}', '%segment%'),
	('https://h/a/..;x=1/b', '{}', '%segment%'),
	('https://h/a/%2e.%3b/b', '{}', '%segment%'),
	('https://h/v1/{p}', '{"p": ".."}', '%segment%'),
	('https://h/v1/{p}', '{"p": "../admin"}', '%segment%'),
	('https://h/v1/{p}/x', '{"p": "."}', '%segment%'),
	('https://h/v1/{p}', E'{"p": "..\\\\admin"}', '%segment%'),
	('https://h/v1/{p}', '{"p": ""}', '%is empty%'),
	('https://h/v1/{p}', '{}', '%has no string%'),
	('https://h/v1/{p}', '{"p": null}', '%has no string%'),
	('https://h/v1/{p}', '{"p": {"x": 1}}', '%has no string%'),
	('https://h/v1/{p', '{"p": 1}', '%not closed%'),
	('https://h/{}', '{}', '%not closed%'),
	('https://h/a b', '{}', '%percent-encoded'),
	(E'https://h/a\r\nX: y', '{}', '%percent-encoded'),
	('https://h/%zz', '{}', '%hexadecimal%'),
	('https://h/' || repeat('x', 9000), '{}', '%8000 bytes')) v (u, i, why);

-- Retry-After
SELECT is(romancy.t_http_retry_after(v, '2026-11-29 08:00:00+00'), w, 'Retry-After: ' || v)
FROM (VALUES ('120', '2 min'::interval), ('0', '0'), ('999999999999', '24 h'), ('Sun, 29 Nov 2026 08:00:30 GMT', '30 s'), ('Sunday, 29-Nov-26 08:00:30 GMT', '30 s'),
	('Sun Nov 29 08:00:30 2026', '30 s'), ('Sun, 29 Nov 2020 08:00:00 GMT', '0'), ('Sun, 29 Nov 2099 08:00:00 GMT', '24 h'), ('soon', NULL), ('-1', NULL), ('', NULL), ('Sun, 99 Foo 2026 08:00:30 GMT', NULL)) v (v, w);

-- rules and definitions
CREATE ROLE http_user;
CREATE ROLE http_group;
CREATE ROLE http_other;
GRANT http_group TO http_user;
SELECT romancy.grant_usage('http_user');
GRANT CREATE ON SCHEMA public TO http_user;
SELECT romancy.grant_usage('http_other', namespace => 'http_user');
SELECT throws_ok($$SELECT romancy.define_activity('a', http => '{"url": "https://api.example.com/"}')$$, '42501', NULL, 'nothing may be reached, by a superuser neither');
SELECT romancy.allow_http('http_group', 'HTTPS://API.example.com/v1/*');
SELECT is((SELECT url_pattern FROM romancy.http_rules), 'https://api.example.com/v1/*', 'a rule is kept in one form');
SET LOCAL ROLE http_user;
SELECT throws_ok($$SELECT romancy.allow_http('http_user', '*')$$, '42501', NULL, 'a user allows nothing');
SELECT throws_ok($$SELECT romancy.deny_http('http_group')$$, '42501', NULL, 'and takes nothing back');
SELECT lives_ok($$SELECT romancy.define_activity('a', http => '{"url": "https://api.example.com/v1/{x}", "headers": {"A": "Bearer {{secret:k}} {x}"}, "timeout": "5s"}', max_concurrency => 3)$$, 'what the group may reach its member may');
SELECT is((SELECT queue || '' IS NULL AND http ->> 'timeout' = '5s' FROM romancy.activities WHERE name = 'a'), true, 'the view shows the request, and no queue');
SELECT throws_ok(format('SELECT romancy.define_activity(''b'', http => %L)', h), s, NULL, 'refused: ' || h)
FROM (VALUES
	('{"url": "https://api.example.com.evil.com/v1/x"}', '42501'), ('{"url": "https://xapi.example.com/v1/x"}', '42501'), ('{"url": "http://api.example.com/v1/x"}', '42501'),
	('{"url": "https://api.example.com:8443/v1/x"}', '42501'), ('{}', 'RM012'), ('[]', 'RM012'), ('{"url": "https://api.example.com/v1/", "callback": "x"}', 'RM012'),
	('{"url": "https://api.example.com/v1/", "method": "CONNECT"}', 'RM012'), ('{"url": "https://api.example.com/v1/", "timeout": "2 hours"}', 'RM012'),
	('{"url": "https://api.example.com/v1/", "expect": "200,"}', 'RM012'), ('{"url": "https://api.example.com/v1/", "headers": {"Host": "x"}}', 'RM012'),
	('{"url": "https://api.example.com/v1/", "headers": {"X": "a\r\nY: b"}}', 'RM012'), ('{"url": "https://api.example.com/v1/", "headers": {"X y": "a"}}', 'RM012'),
	('{"url": "https://api.example.com/v1/", "headers": {"A": "{{secrt:k}}"}}', 'RM012'), ('{"url": "https://api.example.com/v1/", "headers": {"A": "Bearer {secret:k}"}}', 'RM012'),
	('{"url": "https://api.example.com/v1/{{secret:k}}"}', 'RM012'), ('{"url": "https://api.example.com/v1/{secret:k}"}', 'RM012'), ('{"url": "https://api.example.com/v1/", "body": "{{input}}"}', 'RM012'),
	('{"url": "https://api.example.com/v1/", "headers": {"Idempotency-Key": "a"}}', 'RM012'), ('{"url": "https://api.example.com/v1/", "headers": {"X": 1}}', 'RM012')) v (h, s);
SELECT throws_ok($$SELECT romancy.define_activity('b', queue => 'q', http => '{"url": "https://api.example.com/v1/"}')$$, 'RM012', NULL, 'a request has no queue');
SELECT throws_ok($$SELECT * FROM romancy.fetch_activities('@http', 'me')$$, 'RM012', NULL, 'no program fetches requests');
SELECT throws_ok($$SELECT romancy.http('GET', 'https://api.example.com/v1/')$$, 'RM004', NULL, 'http() is for handlers');

-- what looks like a secret and is none: the error says where
SELECT throws_ok($$SELECT romancy.define_activity('b', http => '{"url": "https://api.example.com/v1/", "headers": {"X-Key": "{{secrets:k}}"}}')$$, 'RM012', 'invalid HTTP request of activity "b"', 'a mistyped secret in a header');
SELECT throws_ok(format('SELECT romancy.define_destination(''d'', ''https://api.example.com/v1/'', headers => %L)', h), 'RM012', 'argument "headers" cannot be used', 'of a destination: ' || h)
FROM (VALUES ('{"A": "{{secrt:k}}"}'), ('{"A": "{{ secret:k }}"}'), ('{"A": "x {secret:k}"}'), ('{"A": "{{k}}"}'), ('{"A": "{{secret:k"}')) v (h);
CREATE FUNCTION http_calls(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM romancy.http('POST', i ->> 'url', i -> 'body', i -> 'headers');
	RETURN '"sent"';
EXCEPTION WHEN SQLSTATE 'RM012' THEN
	DECLARE
		why text;
	BEGIN
		GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
		RETURN to_jsonb(why);
	END;
END $$;
SELECT romancy.define_workflow('http_calls', 'http_calls(jsonb)');
CREATE FUNCTION said(i jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id uuid := romancy.start_workflow('http_calls', i);
	t bigint;
BEGIN
	CALL romancy.drain(turns => t);
	RETURN (SELECT output #>> '{}' FROM romancy.instances WHERE instance_id = id);
END $$;
SELECT matches(said(i::jsonb || '{"url": "https://api.example.com/v1/"}' || i::jsonb), why, 'http(): ' || i)
FROM (VALUES
	('{"headers": {"A": "{{secrt:k}}"}}', '^Argument "headers".*header "A"'), ('{"headers": {"A": "{{ secret:k }}"}}', '^Argument "headers".*header "A"'), ('{"headers": {"A": "{secret:k}"}}', '^Argument "headers".*header "A"'),
	('{"headers": {"A": "a\r\nb"}}', 'header "A": it has a control character'), ('{"url": "https://api.example.com/v1/{id}"}', '^Argument "url" has a brace'), ('{"url": "https://api.example.com/v1/{{secret:k}}"}', '^Argument "url" has a brace'),
	('{"body": {"a": ["{{secret:k}}"]}}', '^Argument "body".*headers only')) v (i, why);

-- secrets
SELECT lives_ok($$SELECT romancy.set_secret('k', 'very-secret-value', 'API.example.com')$$, 'a secret is set');
SELECT throws_ok($$SELECT * FROM romancy.t_secret$$, '42501', NULL, 'and cannot be read');
SELECT throws_ok(format('SELECT romancy.set_secret(%L, %L, %L)', n, v, h), 'RM012', NULL, 'refused: ' || n || ' for ' || h)
FROM (VALUES ('', 'v', 'h'), ('a}b', 'v', 'h'), ('a', '', 'h'), ('a', E'v\nw', 'h'), ('a', 'v', 'https://h'), ('a', 'v', 'h:80'), ('a', 'v', 'h/p')) v (n, v, h);
SET LOCAL ROLE http_other;
SELECT throws_ok($$SELECT romancy.set_secret('k', 'mine', 'evil.example.com')$$, '42501', NULL, 'another role does not replace it');
SELECT throws_ok($$SELECT romancy.drop_secret('k')$$, '42501', NULL, 'nor drops it');
SELECT throws_ok($$SELECT romancy.drop_secret('none')$$, 'RM001', NULL, 'an unknown one');
SELECT is((SELECT count(*) FROM romancy.http_rules), 0::bigint, 'it does not see the rules of others');
SET LOCAL ROLE http_user;
SELECT lives_ok($$SELECT romancy.drop_secret('k')$$, 'its owner drops it');
RESET ROLE;

-- private addresses: the refusal says how they are allowed
CREATE FUNCTION hint_of(q text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE h text; BEGIN EXECUTE q; RETURN 'none'; EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT; RETURN h; END $$;
SELECT is(hint_of(format('SELECT romancy.define_activity(''b'', http => %L)', jsonb_build_object('url', u))) LIKE '%, private => true).', p, 'does the hint say private => true? ' || u)
FROM (VALUES ('http://127.0.0.1:8080/x', true), ('http://localhost/x', true), ('http://a.localhost/x', true), ('http://[::1]/', true), ('http://2130706433/', true), ('http://0x7f.1/', true), ('http://10.1.2.3/', true),
	('http://[::ffff:10.1.2.3]/', true), ('http://8.8.8.8/', false), ('http://[2606:4700::1111]/', false), ('https://notlocalhost/', false)) v (u, p);
SELECT is(romancy.deny_http('http_group', 'https://api.example.com/v1/*') + romancy.deny_http('http_group'), 1::bigint, 'a rule is taken back');
SELECT throws_ok($$SELECT romancy.allow_http('http_user', 'https://h/*/x')$$, 'RM012', NULL, 'a pattern has one asterisk, at the end');
SELECT * FROM finish();
ROLLBACK;
