/* Section 8 of the API: HTTP activities, what they may reach, and secrets. */

/* Which URLs the instances of a role may call. A role may call only these. */
CREATE TABLE romancy.t_http_rule (
	role text,
	url_pattern text,	/* as src/http/url.c writes it */
	private boolean NOT NULL,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (role, url_pattern));
COMMENT ON TABLE romancy.t_http_rule IS 'Rules: URLs that roles may reach over HTTP';

/* Read by the HTTP worker only; in no dump. */
CREATE TABLE romancy.t_secret (
	namespace int,
	name text,
	value text NOT NULL,
	allowed_host text NOT NULL,
	owner text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (namespace, name));
COMMENT ON TABLE romancy.t_secret IS 'Secrets for the headers of HTTP requests';

CREATE FUNCTION romancy.allow_http(role regrole, url_pattern text, private boolean DEFAULT false)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_allow_http';
COMMENT ON FUNCTION romancy.allow_http(regrole, text, boolean)
	IS 'Let the workflows of a role, and of its members, send requests to URLs that match; private: also to private and local addresses. For the extension''s owner';

CREATE FUNCTION romancy.deny_http(role regrole, url_pattern text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_deny_http';
COMMENT ON FUNCTION romancy.deny_http(regrole, text)
	IS 'Take back what allow_http gave, for one pattern or for all; how many were taken back';

CREATE FUNCTION romancy.set_secret(name text, value text, allowed_host text)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_set_secret';
COMMENT ON FUNCTION romancy.set_secret(text, text, text)
	IS 'Keep a secret for headers of requests to one host, {{secret:name}}; no role can read it';

CREATE FUNCTION romancy.drop_secret(name text)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_drop_secret';
COMMENT ON FUNCTION romancy.drop_secret(text) IS 'Forget a secret';

CREATE FUNCTION romancy.http(method text, url text, body jsonb DEFAULT NULL, headers jsonb DEFAULT NULL, timeout interval DEFAULT NULL,
	activity_id text DEFAULT NULL, retry jsonb DEFAULT NULL)
RETURNS jsonb LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_http';
COMMENT ON FUNCTION romancy.http(text, text, jsonb, jsonb, interval, text, jsonb)
	IS 'In a workflow: send an HTTP request, at least once, and return status, headers and body of its answer';

CREATE FUNCTION romancy.spawn_http(method text, url text, body jsonb DEFAULT NULL, headers jsonb DEFAULT NULL, timeout interval DEFAULT NULL,
	activity_id text DEFAULT NULL, retry jsonb DEFAULT NULL)
RETURNS text LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_spawn_http';
COMMENT ON FUNCTION romancy.spawn_http(text, text, jsonb, jsonb, interval, text, jsonb)
	IS 'In a workflow: send an HTTP request in parallel and return its handle';

CREATE FUNCTION romancy.t_http_address(address text)
RETURNS text LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'romancy_http_address';
COMMENT ON FUNCTION romancy.t_http_address(text) IS 'Internal: public, private or never: may a request go to this address?';

CREATE FUNCTION romancy.t_http_url(template text, input jsonb)
RETURNS text LANGUAGE c IMMUTABLE AS 'MODULE_PATHNAME', 'romancy_http_url';
COMMENT ON FUNCTION romancy.t_http_url(text, jsonb) IS 'Internal: the URL that a template makes of an input, as it is sent';

CREATE FUNCTION romancy.t_http_retry_after(value text, now timestamptz)
RETURNS interval LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'romancy_http_retry_after';
COMMENT ON FUNCTION romancy.t_http_retry_after(text, timestamptz) IS 'Internal: how long the header Retry-After says to wait; null: it says nothing that can be read';

CREATE VIEW romancy.http_rules WITH (security_barrier) AS
	SELECT r.role, r.url_pattern, r.private, r.created_at
	FROM romancy.t_http_rule r
	WHERE romancy.t_may_read(r.role);
COMMENT ON VIEW romancy.http_rules IS 'URLs that may be reached over HTTP, with the roles that may reach them';
COMMENT ON COLUMN romancy.http_rules.role IS 'The role whose workflows, and those of its members, may send requests';
COMMENT ON COLUMN romancy.http_rules.url_pattern IS 'The URLs';
COMMENT ON COLUMN romancy.http_rules.private IS 'Whether private and local addresses may be reached so';
COMMENT ON COLUMN romancy.http_rules.created_at IS 'When it was allowed';
