/* romancy: durable workflows inside PostgreSQL. Built from sql/parts; do not edit the result. */
\echo Use "CREATE EXTENSION romancy" to load this file. \quit

SET LOCAL search_path TO pg_catalog, pg_temp;
/* Settings of the database must not decide where our tables are, and how they are stored */
SET LOCAL default_tablespace TO '';
SET LOCAL default_table_access_method TO heap;

/*
 * A schema of this name that another role has made, has put something into, or may put something into, is refused: a function
 * in it, such as romancy.grant_usage(text), would be called by those who mean ours.
 */
DO $guard$
DECLARE
	nsp pg_catalog.pg_namespace;
	found pg_catalog.text;
BEGIN
	SELECT n.* INTO nsp FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) 'romancy';
	IF nsp.nspowner OPERATOR(pg_catalog.<>) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user) THEN
		RAISE insufficient_privilege USING
			MESSAGE = pg_catalog.format('schema "romancy" belongs to role "%s", not to "%s", who installs the extension',
				pg_catalog.pg_get_userbyid(nsp.nspowner), current_user),
			HINT = 'Look at what is in it, drop it, then run CREATE EXTENSION romancy again.';
	END IF;
	SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) INTO found FROM pg_catalog.pg_depend d
		WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) nsp.oid
			AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass LIMIT 1;
	IF found IS NOT NULL THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = 'schema "romancy" is not empty',
			DETAIL = pg_catalog.format('It contains %s.', found),
			HINT = 'Look at what is in it, drop it, then run CREATE EXTENSION romancy again.';
	END IF;
	IF EXISTS (SELECT FROM pg_catalog.aclexplode(nsp.nspacl) a
		WHERE a.privilege_type OPERATOR(pg_catalog.=) 'CREATE' AND a.grantee OPERATOR(pg_catalog.<>) nsp.nspowner) THEN
		RAISE insufficient_privilege USING
			MESSAGE = 'others may create objects in schema "romancy"',
			HINT = 'Revoke CREATE on it, or drop it, then run CREATE EXTENSION romancy again.';
	END IF;
END $guard$;
