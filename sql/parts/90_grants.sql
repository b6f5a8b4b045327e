/* Rights. Nothing is granted to PUBLIC: neither functions, nor types, nor tables. */

CREATE FUNCTION romancy.grant_usage(role regrole, monitor boolean DEFAULT false, namespace text DEFAULT NULL, define boolean DEFAULT true)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_grant_usage';
COMMENT ON FUNCTION romancy.grant_usage(regrole, boolean, text, boolean)
	IS 'Let a role use a namespace, by default one of its own, or as a monitor see everything; again after ALTER EXTENSION UPDATE';

CREATE FUNCTION romancy.revoke_usage(role regrole, namespace text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'romancy_revoke_usage';
COMMENT ON FUNCTION romancy.revoke_usage(regrole, text) IS 'Take back what romancy.grant_usage gave, for one namespace or for all';

REVOKE ALL ON ALL ROUTINES IN SCHEMA romancy FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA romancy FROM PUBLIC;
REVOKE ALL ON TYPE romancy.t_status, romancy.t_event, romancy.t_events,
	romancy.activity_task, romancy.workflow_task, romancy.outbox_event FROM PUBLIC;
