/*
 * Types of the API that more than one part uses. Programs rely on their
 * columns; a new one may be added at the end.
 */
CREATE TYPE romancy.message AS (
	id bigint,
	channel text,
	data jsonb,
	data_binary bytea,
	metadata jsonb,
	sender uuid,
	publisher text,
	published_at timestamptz);
REVOKE ALL ON TYPE romancy.message FROM PUBLIC;
COMMENT ON TYPE romancy.message IS 'A message as romancy.receive gives it';
COMMENT ON COLUMN romancy.message.sender IS 'The instance that sent it, null: none did';
COMMENT ON COLUMN romancy.message.publisher IS 'The role that published it, with the name that it had then';

CREATE TYPE romancy.event AS (
	id text,
	type text,
	source text,
	specversion text,
	"time" timestamptz,
	subject text,
	datacontenttype text,
	data jsonb,
	data_binary bytea,
	extensions jsonb);
REVOKE ALL ON TYPE romancy.event FROM PUBLIC;
COMMENT ON TYPE romancy.event IS 'A CloudEvent as romancy.wait_event gives it';
