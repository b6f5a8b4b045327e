-- set_queue(push_url): which URLs, headers and secrets it takes, whose rights count, what programs are told, what views show to whom. It would catch a URL that is not allowed
-- to the queue's owner, a queue that both a program and the server serve, arguments in another order than the documentation's, and a URL that others read.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

SELECT is(pg_get_function_arguments('romancy.set_queue'::regproc),
	'name text, max_concurrency integer DEFAULT NULL::integer, rate_limit text DEFAULT NULL::text, per_key text DEFAULT NULL::text, push_url text DEFAULT NULL::text, notify text DEFAULT NULL::text, headers jsonb DEFAULT NULL::jsonb, signing_secret text DEFAULT NULL::text',
	'push_url is the fifth argument');

CREATE ROLE push_app;
CREATE ROLE push_peer;
CREATE ROLE push_other;
SELECT romancy.grant_usage('push_app'), romancy.grant_usage('push_peer', namespace => 'push_app'), romancy.grant_usage('push_other');
SELECT romancy.allow_http('push_app', 'https://api.example.com/work/*'), romancy.allow_http('push_other', 'http://127.0.0.1:*/*', private => true);

-- URLs
SET LOCAL ROLE push_app;
SELECT throws_like(format('SELECT romancy.set_queue(%L, push_url => %L)', 'q', u), 'argument "push_url" cannot be used', u)
FROM unnest(ARRAY['ftp://api.example.com/', 'nothing', 'https://{h}/x', 'https://api.example.com/{a', 'https://u@api.example.com/', 'https://api.example.com/../x', '', 'https://api.example.com/a b']) u;
SELECT throws_ok(format('SELECT romancy.set_queue(%L, push_url => %L)', 'q', u), '42501', NULL, u || ' is not allowed')
FROM unnest('{https://api.example.com/,https://api.example.com/workers,http://api.example.com/work/x,https://api.example.com:444/work/x,https://other.example.com/work/x,"https://evil.com/{api.example.com}"}'::text[]) u;
SELECT throws_like($$SELECT romancy.set_queue('q', push_url => 'https://other.example.com/x')$$, 'workflows of role "push_app" may not send HTTP requests to "https://other.example.com/x"', 'the refusal tells whose');
SELECT lives_ok($$SELECT romancy.set_queue('q', 3, '100/m', 'tenant.id', 'https://api.example.com/work/{tenant.id}?n={n}')$$, 'values of the input in path and query');
SELECT is((SELECT ARRAY[max_concurrency::text, rate_limit, per_key, push_url, notify, pushed::text, owner] FROM romancy.queues WHERE name = 'q'),
	'{3,100/m,tenant.id,"https://api.example.com/work/{tenant.id}?n={n}",NULL,true,push_app}', 'by position');

-- headers and secrets
SELECT romancy.set_secret('sign', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'api.example.com'), romancy.set_secret('bearer', 'abcdefgh', 'api.example.com'), romancy.set_secret('elsewhere', 'abcdefgh', 'other.example.com');
SELECT throws_like(format('SELECT romancy.set_queue(%L, push_url => %L, headers => %L)', 'q', 'https://api.example.com/work/x', h), 'argument "headers" cannot be used', h)
FROM unnest(ARRAY['[]', '1', '{"X": 1}', '{"Host": "x"}', '{"Content-Type": "text/plain"}', '{"Webhook-Id": "1"}', '{"webhook-signature": "v1,"}', '{"Idempotency-Key": "1"}', '{"Romancy-Callback": "1"}', '{"traceparent": "1"}', '{"X y": "1"}',
	'{"X": "a\r\nY: b"}', '{"X": "{{secret:none}}"}', '{"X": "{{secret:elsewhere}}"}', '{"X": "{{secrets:bearer}}"}']) h;
SELECT throws_like(format('SELECT romancy.set_queue(%L, push_url => %L, signing_secret => %L)', 'q', 'https://api.example.com/work/x', s), 'argument "signing_secret" cannot be used', s) FROM unnest('{none,bearer,elsewhere,""}'::text[]) s;
SELECT throws_like($$SELECT romancy.set_queue('q', headers => '{}')$$, 'argument "headers" needs "push_url"', 'headers without a URL');
SELECT throws_like($$SELECT romancy.set_queue('q', signing_secret => 'sign')$$, 'argument "signing_secret" needs "push_url"', 'a signature without a URL');
SELECT lives_ok($$SELECT romancy.set_queue('q', push_url => 'https://api.example.com/work/x', headers => '{"Authorization": "Bearer {{secret:bearer}}", "X-Empty": ""}', signing_secret => 'sign')$$, 'headers and a signature');
SELECT is((SELECT max_concurrency FROM romancy.queues WHERE name = 'q'), NULL, 'all is replaced');

-- programs
SELECT throws_ok($$SELECT * FROM romancy.fetch_activities('q', 'w')$$, 'RM010', 'queue "q" is served by a URL', 'a program cannot fetch');
SELECT throws_ok($$SELECT * FROM romancy.fetch_activities('q', 'w')$$, 'RM010', NULL, 'also when it tries again');
SELECT lives_ok($$SELECT * FROM romancy.fetch_workflows('q', 'w')$$, 'turns of workflow code are polled');
SELECT is((SELECT count(*) FROM romancy.pollers WHERE queue = 'q' AND waiting), 0::bigint, 'nobody waits');

-- of others
RESET ROLE;
SET LOCAL ROLE push_peer;
SELECT throws_ok($$SELECT romancy.set_queue('q')$$, '42501', 'must be owner of queue "q"', 'another role of the namespace does not take the URL away');
SELECT throws_ok($$SELECT romancy.set_queue('q', push_url => 'https://api.example.com/work/y')$$, '42501', NULL, 'nor sets another one');
SELECT throws_ok($$SELECT romancy.set_queue('peers', push_url => 'https://api.example.com/work/y')$$, '42501', 'workflows of role "push_peer" may not send HTTP requests to "https://api.example.com/work/y"', 'its own queue has its own rights');
SELECT throws_ok($$SELECT * FROM romancy.fetch_activities('q', 'w')$$, 'RM010', NULL, 'nor fetches');
SELECT is((SELECT count(*) FROM romancy.queues WHERE push_url IS NOT NULL OR headers IS NOT NULL OR signing_secret IS NOT NULL), 0::bigint, 'nor sees the URL');
SELECT romancy.define_activity('uses', queue => 'q');
SELECT is((SELECT ARRAY[pushed::text, push_url, headers::text, signing_secret, owner] FROM romancy.queues WHERE name = 'q'), '{true,NULL,NULL,NULL,NULL}', 'also of a queue that it uses: but that there is one');
RESET ROLE;
SET LOCAL ROLE push_other;
SELECT lives_ok($$SELECT romancy.set_queue('q', push_url => 'http://127.0.0.1:8080/x')$$, 'another namespace has a queue of that name');
SELECT is((SELECT array_agg(push_url) FROM romancy.queues WHERE name = 'q'), '{http://127.0.0.1:8080/x}', 'and sees its own');
SELECT throws_ok($$SELECT romancy.set_queue('z', push_url => 'http://127.0.0.1:8080/x', headers => '{"X": "{{secret:bearer}}"}')$$, 'RM012', NULL, 'secrets of another namespace are not there');
RESET ROLE;

-- the owner's rights count, not the caller's
SELECT set_config('romancy.namespace', 'push_app', true);
GRANT push_app TO push_peer;
SELECT throws_ok($$SELECT romancy.set_queue('q', push_url => 'https://other.example.com/x')$$, '42501', 'workflows of role "push_app" may not send HTTP requests to "https://other.example.com/x"', 'a superuser gives the owner no more than it has');
SET LOCAL ROLE push_peer;
SELECT lives_ok($$SELECT romancy.set_queue('q', push_url => 'https://api.example.com/work/y')$$, 'a member of the owner sets it');
RESET ROLE;
SELECT romancy.deny_http('push_app');
SELECT throws_ok($$SELECT romancy.set_queue('q', push_url => 'https://api.example.com/work/y')$$, '42501', NULL, 'not when the rule is gone');
SELECT is(jsonb_path_exists(romancy.health(), '$.** ? (@ like_regex "no program polls")'), false, 'health() does not miss programs');

-- gone
SELECT lives_ok($$SELECT romancy.set_queue('q')$$, 'the URL is taken away');
SELECT is((SELECT count(*) FROM romancy.t_queue WHERE push_url IS NOT NULL AND name LIKE '%/q'), 1::bigint, 'the other namespace''s is there');
SELECT lives_ok($$SELECT * FROM romancy.fetch_activities('q', 'w')$$, 'programs fetch again');

-- how many
SELECT romancy.allow_http('push_app', 'https://api.example.com/work/*');
SET LOCAL ROLE push_app;
SELECT lives_ok($$SELECT romancy.set_queue('n' || n, push_url => 'https://api.example.com/work/x') FROM generate_series(1, 1000) n$$, 'a thousand queues');
SELECT throws_ok($$SELECT romancy.set_queue('one more', push_url => 'https://api.example.com/work/x')$$, 'RM011', 'too many queues of the namespace are served by a URL', 'and no more');
SELECT lives_ok($$SELECT romancy.set_queue('n7', push_url => 'https://api.example.com/work/y')$$, 'one of them is set again');
RESET ROLE;
SELECT set_config('romancy.namespace', '', true);
SET LOCAL ROLE push_other;
SELECT lives_ok($$SELECT romancy.set_queue('more', push_url => 'http://127.0.0.1/')$$, 'in another namespace, too');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
