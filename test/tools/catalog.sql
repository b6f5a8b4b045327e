-- The objects that CREATE EXTENSION made, a line for each fact, for test/tools/catalog-diff: functions with their arguments, types,
-- tables and views with their columns, indexes, constraints, triggers, sequences, grants and comments.
\set QUIET on
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' | '
set search_path = pg_catalog;
create temp view member as
  select d.classid, d.objid from pg_depend d join pg_extension e on d.refobjid = e.oid
   where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and e.extname = 'romancy';
create temp view relation as
  select c.*, c.oid::regclass::text as name from member m join pg_class c on c.oid = m.objid where m.classid = 'pg_class'::regclass;
create temp view fact (kind, object, property, value) as
  -- functions and procedures
  select 'function', f.name, v.*
    from (select p.*, p.oid::regprocedure::text as name, l.lanname from member m
            join pg_proc p on p.oid = m.objid join pg_language l on l.oid = p.prolang where m.classid = 'pg_proc'::regclass) f,
         lateral (values ('arguments', pg_get_function_arguments(f.oid)), ('result', pg_get_function_result(f.oid)),
                         ('kind', f.prokind::text), ('language', f.lanname), ('volatility', f.provolatile::text),
                         ('strict', f.proisstrict::text), ('security definer', f.prosecdef::text),
                         ('parallel', f.proparallel::text), ('settings', f.proconfig::text), ('cost', f.procost::text),
                         ('rows', f.prorows::text), ('support', f.prosupport::text),
                         ('body', case when f.lanname not in ('c', 'internal') then f.prosrc end)) v (property, value)
  union all
  -- types: composite ones have their columns below
  select 'type', format_type(t.oid, null), v.*
    from member m join pg_type t on t.oid = m.objid and m.classid = 'pg_type'::regclass,
         lateral (values ('type', t.typtype::text), ('not null', t.typnotnull::text), ('default', t.typdefault),
                         ('base', case when t.typtype = 'd' then format_type(t.typbasetype, t.typtypmod) end),
                         ('labels', (select string_agg(e.enumlabel, ', ' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid)),
                         ('checks', (select string_agg(c.conname || ' ' || pg_get_constraintdef(c.oid), '; ' order by c.conname)
                                       from pg_constraint c where c.contypid = t.oid))) v (property, value)
   where t.typrelid = 0 or (select relkind from pg_class where oid = t.typrelid) = 'c'
  union all
  select 'relation', r.name, v.*
    from relation r,
         lateral (values ('kind', r.relkind::text), ('persistence', r.relpersistence::text), ('options', r.reloptions::text),
                         ('row security', r.relrowsecurity::text), ('replica identity', r.relreplident::text),
                         ('definition', case when r.relkind = 'v' then pg_get_viewdef(r.oid) end),
                         ('sequence', (select concat_ws(' ', format_type(s.seqtypid, null), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle)
                                         from pg_sequence s where s.seqrelid = r.oid)),
                         ('kept by pg_dump', (select e.extcondition[array_position(e.extconfig, r.oid)] from pg_extension e
                                               where e.extname = 'romancy' and r.oid = any (e.extconfig)))) v (property, value)
  union all
  select 'column', c.name || '.' || a.attname, v.*
    from (select oid, name from relation where relkind <> 'S'
          union select t.typrelid, format_type(t.oid, null) from member m join pg_type t on t.oid = m.objid and t.typtype = 'c'
           where m.classid = 'pg_type'::regclass) c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum,
         lateral (values ('number', a.attnum::text), ('type', format_type(a.atttypid, a.atttypmod)), ('not null', a.attnotnull::text),
                         ('default', pg_get_expr(d.adbin, d.adrelid)), ('identity', a.attidentity::text), ('generated', a.attgenerated::text),
                         ('storage', a.attstorage::text), ('statistics', nullif(a.attstattarget::text, '-1')), -- (pg_attver is a stamp of the server's own)
                         ('options', (select string_agg(o, ', ') from unnest(a.attoptions) o where o not like 'pg_attver=%')),
                         ('grants', a.attacl::text), ('comment', col_description(a.attrelid, a.attnum))) v (property, value)
  union all
  select 'index', i.indexrelid::regclass::text, v.*
    from relation r join pg_index i on i.indrelid = r.oid join pg_class c on c.oid = i.indexrelid,
         lateral (values ('definition', pg_get_indexdef(i.indexrelid)), ('primary', i.indisprimary::text), ('options', c.reloptions::text)) v (property, value)
  union all
  select 'constraint', r.name || '.' || c.conname, 'definition', pg_get_constraintdef(c.oid)
    from relation r join pg_constraint c on c.conrelid = r.oid
  union all
  select 'trigger', r.name || '.' || t.tgname, 'definition', pg_get_triggerdef(t.oid)
    from relation r join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
  union all
  -- whatever else belongs to the extension is named
  select 'member', o.what, 'belongs to', 'romancy' from member m, lateral (select pg_describe_object(m.classid, m.objid, 0) as what) o
  union all
  select 'comment', pg_describe_object(m.classid, m.objid, 0), 'comment', obj_description(m.objid, c.relname)
    from member m join pg_class c on c.oid = m.classid
  union all
  -- one line for each grantee and right
  select 'grant', g.object, coalesce(nullif(x.grantee, 0)::regrole::text, 'public'), string_agg(x.privilege_type || case when x.is_grantable then '*' else '' end, ', ' order by x.privilege_type)
    from (select p.oid::regprocedure::text as object, coalesce(p.proacl, acldefault('f', p.proowner)) as acl
            from member m join pg_proc p on p.oid = m.objid and m.classid = 'pg_proc'::regclass
          union all
          select name, coalesce(relacl, acldefault((case relkind when 'S' then 's' else 'r' end)::"char", relowner)) from relation
          union all
          select format_type(t.oid, null), coalesce(t.typacl, acldefault('T', t.typowner)) from member m join pg_type t on t.oid = m.objid and m.classid = 'pg_type'::regclass
          union all
          select 'schema ' || nspname, coalesce(nspacl, acldefault('n', nspowner)) from pg_namespace where nspname = 'romancy') g,
         aclexplode(g.acl) x
   group by g.object, x.grantee;
-- a value of several lines is one line here, so that diff shows which it is
select kind, object, property, replace(value, E'\n', '\n') from fact where value is not null and value <> ''
 order by kind collate "C", object collate "C", property collate "C", value collate "C";
