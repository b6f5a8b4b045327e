/* The life of an instance: compensation, children, recur, fork. */

CREATE FUNCTION romancy.register_compensation(activity text, input jsonb DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_register_compensation';
COMMENT ON FUNCTION romancy.register_compensation(text, jsonb) IS 'In a workflow: have an activity run if the instance does not complete';

CREATE FUNCTION romancy.compensate()
RETURNS int LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_compensate';
COMMENT ON FUNCTION romancy.compensate() IS 'In a workflow: run the compensations that are registered now; how many succeeded';

CREATE FUNCTION romancy.spawn_workflow(name text, input jsonb DEFAULT NULL, activity_id text DEFAULT NULL,
	on_parent_close text DEFAULT 'cancel', version int DEFAULT NULL, priority int DEFAULT NULL,
	labels jsonb DEFAULT NULL, execution_timeout interval DEFAULT NULL)
RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_spawn_workflow';
COMMENT ON FUNCTION romancy.spawn_workflow(text, jsonb, text, text, int, int, jsonb, interval) IS 'In a workflow: start a child and return its handle';

CREATE FUNCTION romancy.call_workflow(name text, input jsonb DEFAULT NULL, activity_id text DEFAULT NULL,
	on_parent_close text DEFAULT 'cancel', version int DEFAULT NULL, priority int DEFAULT NULL,
	labels jsonb DEFAULT NULL, execution_timeout interval DEFAULT NULL)
RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_call_workflow';
COMMENT ON FUNCTION romancy.call_workflow(text, jsonb, text, text, int, int, jsonb, interval) IS 'In a workflow: run a child and return its result';

CREATE FUNCTION romancy.recur(input jsonb DEFAULT NULL)
RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'romancy_recur';
COMMENT ON FUNCTION romancy.recur(jsonb) IS 'In a workflow: end this instance and continue in a new one; never returns';
