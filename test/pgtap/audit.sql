-- The objects of CREATE EXTENSION, as the catalog has them: owners, grants, SECURITY
-- DEFINER, search_path, comments, views. It would catch an object that came later and
-- was left open to PUBLIC, and a view that its grantees cannot read.
BEGIN;
SELECT no_plan();

CREATE ROLE audit_user;
CREATE ROLE audit_monitor;
SELECT romancy.grant_usage('audit_user'), romancy.grant_usage('audit_monitor', monitor => true);

-- Every object of the extension, and what hangs on them (indexes, sequences, row types, TOAST tables)
CREATE TEMP TABLE member AS
	SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS what
	FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE d.deptype = 'e' AND e.extname = 'romancy';
CREATE TEMP TABLE object AS
	SELECT m.what, 'function' AS kind, p.proname::text AS name, p.proowner AS owner,
		coalesce(p.proacl, acldefault('f', p.proowner)) AS acl, p.prosecdef, p.proconfig, p.oid, p.pronamespace AS nsp, ''::text AS relkind
	FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
	UNION ALL
	SELECT pg_describe_object('pg_class'::regclass, c.oid, 0), CASE c.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END,
		c.relname, c.relowner, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)),
		false, c.reloptions, c.oid, c.relnamespace, c.relkind::text
	FROM pg_class c WHERE c.relnamespace = 'romancy'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
	UNION ALL
	SELECT pg_describe_object('pg_type'::regclass, t.oid, 0), 'type', t.typname, t.typowner,
		coalesce(t.typacl, acldefault('T', t.typowner)), false, NULL, t.oid, t.typnamespace, ''
	FROM pg_type t WHERE t.typnamespace = 'romancy'::regnamespace AND t.typcategory <> 'A'
		AND (t.typrelid = 0 OR (SELECT relkind FROM pg_class WHERE oid = t.typrelid) = 'c')
	UNION ALL
	SELECT 'schema romancy', 'schema', 'romancy', n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner)), false, NULL, n.oid, n.oid, ''
	FROM pg_namespace n WHERE n.nspname = 'romancy';

SELECT cmp_ok(count(*), '>', 100::bigint, 'the objects are found') FROM object;
SELECT is_empty($$ SELECT relname FROM pg_class c WHERE relnamespace = 'romancy'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f')
	AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid) $$, 'every relation in the schema is a member of the extension');
SELECT is_empty($$ SELECT proname FROM pg_proc p WHERE pronamespace = 'romancy'::regnamespace
	AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid) $$, 'every function likewise');
SELECT is_empty($$ SELECT what FROM object WHERE nsp <> 'romancy'::regnamespace $$, 'nothing is outside of schema romancy');

-- owners
SELECT is_empty($$ SELECT what, owner::regrole FROM object WHERE owner <> (SELECT extowner FROM pg_extension WHERE extname = 'romancy') $$,
	'everything belongs to the owner of the extension');

-- grants
SELECT is_empty($$ SELECT o.what, a.privilege_type FROM object o, aclexplode(o.acl) a WHERE a.grantee = 0 $$, 'nothing is granted to PUBLIC');
SELECT is_empty($$ SELECT o.what, a.privilege_type FROM object o, aclexplode(o.acl) a WHERE a.is_grantable AND a.grantee <> o.owner $$,
	'nothing is granted with a grant option');
SELECT is_empty($$ SELECT o.what, a.grantee::regrole, a.privilege_type FROM object o, aclexplode(o.acl) a
	WHERE a.grantee NOT IN (o.owner, 'audit_user'::regrole, 'audit_monitor'::regrole) $$, 'nor to anybody but those it was granted to');
SELECT is_empty($$ SELECT o.what, a.privilege_type FROM object o, aclexplode(o.acl) a
	WHERE a.grantee IN ('audit_user'::regrole, 'audit_monitor'::regrole)
	AND (o.kind, a.privilege_type) NOT IN (('function', 'EXECUTE'), ('view', 'SELECT'), ('type', 'USAGE'), ('schema', 'USAGE')) $$,
	'grant_usage gives EXECUTE on functions, SELECT on views, USAGE on types and the schema, and no more');
SELECT is_empty($$ SELECT o.what FROM object o, unnest(ARRAY['audit_user', 'audit_monitor']) r (name)
	WHERE o.relkind IN ('r', 'p') AND (has_table_privilege(r.name, o.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
		OR has_any_column_privilege(r.name, o.oid, 'SELECT, INSERT, UPDATE, REFERENCES')) $$, 'no base table can be touched, nor a column of one');
SELECT is_empty($$ SELECT what FROM object WHERE kind = 'table' AND name NOT LIKE 't\_%' $$, 'the name of each base table begins with t_');
SELECT is_empty($$ SELECT what FROM object WHERE CASE kind WHEN 'sequence' THEN has_sequence_privilege('audit_user', oid, 'USAGE, SELECT, UPDATE') END $$, 'nor a sequence');
SELECT set_eq($$ SELECT name FROM object WHERE kind = 'function' AND name LIKE 't\_%' AND has_function_privilege('audit_user', oid, 'EXECUTE') $$,
	ARRAY['t_canvas', 't_document_value', 't_events_pack', 't_events_unpack', 't_in_turn', 't_live', 't_may_read', 't_namespace_current', 't_outside', 't_owners', 't_owners_of_few', 't_pollers', 't_report_chart', 't_report_escape', 't_report_live', 't_report_table', 't_running', 't_senders', 't_shown_status', 't_stat', 't_status_name', 't_sweeps', 't_unwritten', 't_workers'], 'of internal functions, those that views and reports call');
-- parallel workers would answer anew: rows of a view that has two parts came twice after an ANALYZE within a statement
SELECT is((SELECT proparallel::text FROM pg_proc WHERE oid = 'romancy.t_owners_of_few()'::regprocedure), 'r', 'whose answer is kept for a statement by the process is not asked by parallel workers');
SELECT is_empty($$ SELECT what FROM object WHERE kind = 'function' AND name IN ('t_monitor', 't_may_access') AND has_function_privilege('audit_user', oid, 'EXECUTE') $$,
	'a plain user is no monitor, and cannot ask for others'' rights');
SELECT is((SELECT array_agg(name ORDER BY name) FROM object WHERE kind = 'function' AND has_function_privilege('audit_monitor', oid, 'EXECUTE')
	AND NOT has_function_privilege('audit_user', oid, 'EXECUTE')), ARRAY['t_monitor'], 'a monitor has just the mark in addition');

-- functions
SELECT is_empty($$ SELECT what FROM object WHERE prosecdef $$, 'no function is SECURITY DEFINER');
SELECT is_empty($$ SELECT what, proconfig FROM object WHERE kind = 'function' AND proconfig IS NOT NULL
	AND NOT 'search_path=pg_catalog, pg_temp' = ANY (proconfig) $$, 'a function that sets something sets a safe search_path');
SELECT is_empty($$ SELECT o.what FROM object o JOIN pg_proc p ON p.oid = o.oid JOIN pg_language l ON l.oid = p.prolang WHERE o.kind = 'function'
	AND l.lanname NOT IN ('c', 'internal') AND p.prosqlbody IS NULL AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (o.proconfig), false)
	AND p.prosrc ~ '[^a-z_.]((select|from|join|where|perform|return)[^a-z_])' $$, 'one in SQL has its names bound when it was created, or its path pinned');
SELECT is_empty($$ SELECT o.what, p.probin FROM object o JOIN pg_proc p ON p.oid = o.oid JOIN pg_language l ON l.oid = p.prolang
	WHERE o.kind = 'function' AND l.lanname = 'c' AND p.prosrc NOT LIKE 'romancy\_%' $$, 'all C functions are the library''s own');

-- tables
SELECT is_empty($$ SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM object WHERE kind = 'table') $$, 'no table has a trigger');
SELECT is_empty($$ SELECT conrelid::regclass, conname FROM pg_constraint WHERE conrelid IN (SELECT oid FROM object WHERE kind = 'table')
	AND (contype = 'f' OR condeferrable) $$, 'nor a foreign key, nor a deferrable constraint');
SELECT is_empty($$ SELECT ev_class::regclass, rulename FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM object WHERE kind = 'table') $$, 'nor a rule');
SELECT is_empty($$ SELECT what FROM object WHERE relkind IN ('r', 'p') AND NOT (oid = ANY (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'romancy')) $$,
	'every table is dumped with its rows');

-- views
SELECT is_empty($$ SELECT what FROM object WHERE kind = 'view' AND NOT coalesce('security_barrier=true' = ANY (proconfig), false) $$, 'every view is a security barrier');

-- comments
SELECT is_empty($$ SELECT what FROM object WHERE kind IN ('function', 'view', 'table', 'sequence', 'type') AND obj_description(oid, CASE kind
	WHEN 'function' THEN 'pg_proc' WHEN 'type' THEN 'pg_type' ELSE 'pg_class' END) IS NULL $$, 'every object has a comment');

-- what was granted works
CREATE FUNCTION as_role(role name, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE sql;
	GET DIAGNOSTICS n = ROW_COUNT;
	PERFORM set_config('role', 'none', true);
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN RETURN sqlstate || ' ' || sqlerrm;
END $$;
SELECT is(as_role(r.name, format('SELECT * FROM %s', o.oid::regclass)), 'ok', format('%s reads %s', r.name, o.name))
	FROM object o, unnest(ARRAY['audit_user', 'audit_monitor']) r (name) WHERE o.kind = 'view' ORDER BY r.name, o.name;
SELECT is(as_role('audit_user', 'SELECT romancy.metrics(), romancy.health()'), 'ok', 'and the metrics');

-- and goes again
SELECT romancy.revoke_usage('audit_user'), romancy.revoke_usage('audit_monitor');
SELECT is_empty($$ SELECT pg_describe_object(classid, objid, objsubid) FROM pg_shdepend
	WHERE refclassid = 'pg_authid'::regclass AND refobjid IN ('audit_user'::regrole, 'audit_monitor'::regrole)
	AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) $$, 'revoke_usage leaves nothing');

SELECT * FROM finish();
ROLLBACK;
