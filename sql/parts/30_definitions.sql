/* Section 1 of the API: definitions. */

CREATE FUNCTION romancy.define_workflow(
	name text,
	handler text DEFAULT NULL,
	queue text DEFAULT NULL,
	execution_timeout interval DEFAULT NULL,
	retention interval DEFAULT NULL,
	on_event text DEFAULT NULL,
	description text DEFAULT NULL)
RETURNS int LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_define_workflow';
REVOKE ALL ON FUNCTION romancy.define_workflow(text, text, text, interval, interval, text, text) FROM PUBLIC;
COMMENT ON FUNCTION romancy.define_workflow(text, text, text, interval, interval, text, text)
	IS 'Define a workflow, or a new version of it; the version';

/* A regprocedure is taken as well. (Without a default: a call without a handler means the one above.) */
CREATE FUNCTION romancy.define_workflow(
	name text,
	handler regprocedure,
	queue text DEFAULT NULL,
	execution_timeout interval DEFAULT NULL,
	retention interval DEFAULT NULL,
	on_event text DEFAULT NULL,
	description text DEFAULT NULL)
RETURNS int LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_define_workflow';
REVOKE ALL ON FUNCTION romancy.define_workflow(text, regprocedure, text, interval, interval, text, text) FROM PUBLIC;
COMMENT ON FUNCTION romancy.define_workflow(text, regprocedure, text, interval, interval, text, text)
	IS 'Define a workflow, or a new version of it; the version';

CREATE FUNCTION romancy.define_activity(
	name text,
	handler text DEFAULT NULL,
	queue text DEFAULT NULL,
	retry jsonb DEFAULT NULL,
	compensation text DEFAULT NULL,
	start_to_close_timeout interval DEFAULT NULL,
	schedule_to_start_timeout interval DEFAULT NULL,
	heartbeat_timeout interval DEFAULT NULL,
	transactional boolean DEFAULT true,
	max_concurrency int DEFAULT NULL,
	rate_limit text DEFAULT NULL,
	description text DEFAULT NULL,
	http jsonb DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_define_activity';
REVOKE ALL ON FUNCTION romancy.define_activity(text, text, text, jsonb, text, interval, interval, interval, boolean, int, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION romancy.define_activity(text, text, text, jsonb, text, interval, interval, interval, boolean, int, text, text, jsonb)
	IS 'Define an activity, anew if it is defined already; max_concurrency and rate_limit: of all its attempts, null for none';

CREATE FUNCTION romancy.define_activity(
	name text,
	handler regprocedure,
	queue text DEFAULT NULL,
	retry jsonb DEFAULT NULL,
	compensation text DEFAULT NULL,
	start_to_close_timeout interval DEFAULT NULL,
	schedule_to_start_timeout interval DEFAULT NULL,
	heartbeat_timeout interval DEFAULT NULL,
	transactional boolean DEFAULT true,
	max_concurrency int DEFAULT NULL,
	rate_limit text DEFAULT NULL,
	description text DEFAULT NULL,
	http jsonb DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_define_activity';
REVOKE ALL ON FUNCTION romancy.define_activity(text, regprocedure, text, jsonb, text, interval, interval, interval, boolean, int, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION romancy.define_activity(text, regprocedure, text, jsonb, text, interval, interval, interval, boolean, int, text, text, jsonb)
	IS 'Define an activity, anew if it is defined already; max_concurrency and rate_limit: of all its attempts, null for none';

CREATE FUNCTION romancy.drop_workflow(name text)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_drop_workflow';
REVOKE ALL ON FUNCTION romancy.drop_workflow(text) FROM PUBLIC;
COMMENT ON FUNCTION romancy.drop_workflow(text) IS 'Drop a workflow''s definition, all of its versions';

CREATE FUNCTION romancy.drop_activity(name text)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_drop_activity';
REVOKE ALL ON FUNCTION romancy.drop_activity(text) FROM PUBLIC;
COMMENT ON FUNCTION romancy.drop_activity(text) IS 'Drop an activity''s definition';
