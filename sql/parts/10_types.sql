/*
 * Types of the API. Programs rely on their columns; a new one may be added at
 * the end.
 */
CREATE TYPE romancy.message AS (
	id bigint,
	channel text,
	data jsonb,
	data_binary bytea,
	metadata jsonb,
	sender uuid,
	published_at timestamptz);
REVOKE ALL ON TYPE romancy.message FROM PUBLIC;
COMMENT ON TYPE romancy.message IS 'A message as romancy.receive gives it';

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

CREATE TYPE romancy.activity_task AS (
	token text,
	instance_id uuid,
	activity_id text,
	activity text,
	input jsonb,
	attempt int,
	deadline timestamptz,
	last_details jsonb);
REVOKE ALL ON TYPE romancy.activity_task FROM PUBLIC;
COMMENT ON TYPE romancy.activity_task IS 'An activity as an external worker claims it';

CREATE TYPE romancy.workflow_task AS (
	token text,
	instance_id uuid,
	workflow text,
	version int,
	status text,
	input jsonb,
	attempt int,
	deadline timestamptz,
	last_details jsonb);
REVOKE ALL ON TYPE romancy.workflow_task FROM PUBLIC;
COMMENT ON TYPE romancy.workflow_task IS 'A workflow instance as an external worker claims it';
