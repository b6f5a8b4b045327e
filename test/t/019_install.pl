# The owner of a database, who is no superuser, can prepare things before a superuser runs CREATE
# EXTENSION there, and can do afterwards. None of the owner's code runs as the
# superuser, and no object of the extension becomes the owner's. (A schema romancy with a function grant_usage(text), made beforehand, was once
# called by the superuser's SELECT romancy.grant_usage('shop').) It would catch
# an object of another role that the install script takes over or calls.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('install');

# psql as the database's owner, or as the superuser: output and errors
sub as_owner { my (undef, $out, $err) = $node->psql('theirs', $_[0], extra_params => [ '-U', 'dbo' ]); return "$out$err" }
sub as_super { my (undef, $out, $err) = $node->psql('theirs', "\\set VERBOSITY verbose\n$_[0]"); return "$out$err" }

$node->safe_psql('postgres', 'CREATE ROLE dbo LOGIN CREATEROLE; CREATE ROLE shop LOGIN; CREATE DATABASE theirs OWNER dbo');
as_owner(q{CREATE TABLE public.ran (who name, what text); GRANT ALL ON public.ran TO public;
	CREATE FUNCTION public.ran(what text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user, what); RETURN true; END $$});
my $nobody = q{SELECT string_agg(who || ': ' || what, ', ') FROM public.ran WHERE who <> 'dbo'};

# a schema of the owner's
as_owner(q{CREATE SCHEMA romancy; GRANT USAGE ON SCHEMA romancy TO public;
	CREATE FUNCTION romancy.grant_usage(text) RETURNS boolean LANGUAGE sql AS 'SELECT public.ran(''grant_usage'')'});
like(as_super('CREATE EXTENSION romancy'), qr/42501: schema "romancy" belongs to role "dbo".*HINT:  Look at what is in it/s, 'a schema that somebody else owns is refused');
is(as_super($nobody), '', 'and nothing of his has run');
is(as_super('SELECT count(*) FROM pg_extension WHERE extname = \'romancy\''), '0', 'nothing is installed');

# one that was given to the superuser with something in it
as_super('ALTER SCHEMA romancy OWNER TO postgres');
like(as_super('CREATE EXTENSION romancy'), qr/55000: schema "romancy" is not empty.*function romancy.grant_usage\(text\)/s, 'a schema with something in it is refused');
as_super('DROP FUNCTION romancy.grant_usage(text)');
for my $make ('TABLE romancy.t_instance (i int)', 'TYPE romancy.t_status AS ENUM ()', q{OPERATOR romancy.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq)},
	'COLLATION romancy.c FROM "C"', 'SEQUENCE romancy.s', 'VIEW romancy.instances AS SELECT 1')
{
	as_super("CREATE $make");
	like(as_super('CREATE EXTENSION romancy'), qr/schema "romancy" is not empty/, "likewise with $make");
	(my $name = $make) =~ s/^(\w+ \S+).*/$1/;
	$name .= ' (text, text)' if $name =~ /^OPERATOR/;
	as_super("DROP $name");
}

# one in which the owner may create
as_super('GRANT CREATE, USAGE ON SCHEMA romancy TO dbo');
like(as_super('CREATE EXTENSION romancy'), qr/42501: others may create objects in schema "romancy"/, 'a schema in which others may create is refused');
as_super('DROP SCHEMA romancy');

# what the owner can set and make elsewhere
as_owner(q{
	CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO public;
	CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT public.ran(''operator'')';
	CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq);
	CREATE FUNCTION trap.eq(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT public.ran(''operator, oid'')';
	CREATE OPERATOR trap.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = trap.eq); CREATE OPERATOR trap.<> (LEFTARG = oid, RIGHTARG = oid, FUNCTION = trap.eq);
	CREATE FUNCTION trap.format(text, VARIADIC "any") RETURNS text LANGUAGE internal AS 'text_format';
	CREATE FUNCTION trap.coalesce(text) RETURNS text LANGUAGE sql AS 'SELECT public.ran(''function'')::text';
	CREATE FUNCTION trap.to_jsonb(text) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(public.ran(''to_jsonb''))';
	CREATE TYPE trap.text AS (a int); CREATE DOMAIN trap.uuid AS pg_catalog.text CHECK (public.ran('domain'));
	CREATE TABLE trap.pg_class (relname pg_catalog.text); CREATE VIEW trap.pg_namespace AS SELECT public.ran('view');
	CREATE FUNCTION trap.as_text(public.ran) RETURNS pg_catalog.text LANGUAGE sql AS 'SELECT public.ran(''cast'')::pg_catalog.text';
	CREATE CAST (public.ran AS pg_catalog.text) WITH FUNCTION trap.as_text(public.ran) AS IMPLICIT;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO public; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO public;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO public; ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO public; ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO public;
	ALTER DATABASE theirs SET search_path = trap, pg_catalog, public; ALTER DATABASE theirs SET check_function_bodies = off;
	ALTER DATABASE theirs SET default_tablespace = 'no_such'; ALTER DATABASE theirs SET transform_null_equals = on; ALTER DATABASE theirs SET row_security = off;
	ALTER DATABASE theirs SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE theirs SET DateStyle = 'German'; ALTER DATABASE theirs SET client_min_messages = error;
});
like(as_owner(q{CREATE FUNCTION public.et() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.ran('event trigger'); END $$;
	CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION public.et()}), qr/permission denied to create event trigger/, 'event triggers are not his');
is(as_super('CREATE EXTENSION romancy'), '', 'with all that, the extension is installed');
is(as_super($nobody), '', 'and nothing of his has run');
is(as_super(q{SELECT string_agg(pg_get_userbyid(o), ',') FROM (SELECT relowner FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) 'romancy'::regnamespace
	UNION SELECT proowner FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) 'romancy'::regnamespace
	UNION SELECT typowner FROM pg_catalog.pg_type WHERE typnamespace OPERATOR(pg_catalog.=) 'romancy'::regnamespace
	UNION SELECT nspowner FROM pg_catalog.pg_namespace WHERE oid OPERATOR(pg_catalog.=) 'romancy'::regnamespace) x (o)}), 'postgres', 'everything belongs to the superuser');
is(as_super(q{SELECT string_agg(p.proname, ',') FROM pg_catalog.pg_proc p, pg_catalog.aclexplode(p.proacl) a WHERE p.pronamespace OPERATOR(pg_catalog.=) 'romancy'::regnamespace AND a.grantee OPERATOR(pg_catalog.<>) p.proowner}), '',
	'no default privilege has opened a function');
is(as_super(q{SELECT string_agg(p.relname, ',') FROM pg_catalog.pg_class p, pg_catalog.aclexplode(p.relacl) a WHERE p.relnamespace OPERATOR(pg_catalog.=) 'romancy'::regnamespace AND a.grantee OPERATOR(pg_catalog.<>) p.relowner}), '',
	'nor a table or a view');
is(as_super(q{SELECT string_agg(relname, ',') FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) 'romancy'::regnamespace AND reltablespace OPERATOR(pg_catalog.<>) 0::oid}), '', 'the tables are in the database');

# what the owner can do afterwards
for my $statement ('CREATE FUNCTION romancy.grant_usage(text) RETURNS int LANGUAGE sql AS \'SELECT 1\'', 'CREATE TABLE romancy.mine (i int)', 'ALTER SCHEMA romancy OWNER TO dbo',
	'ALTER SCHEMA romancy RENAME TO old', 'DROP SCHEMA romancy CASCADE', 'DROP EXTENSION romancy', 'ALTER EXTENSION romancy UPDATE', 'ALTER EXTENSION romancy ADD FUNCTION public.ran(text)',
	'GRANT USAGE ON SCHEMA romancy TO shop', 'ALTER FUNCTION romancy.metrics() OWNER TO dbo', 'SELECT count(*) FROM romancy.t_instance',
	'CREATE TRIGGER t BEFORE INSERT ON romancy.t_instance FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'CREATE RULE r AS ON INSERT TO romancy.t_instance DO ALSO SELECT public.ran(\'rule\')', 'CREATE POLICY p ON romancy.t_instance USING (public.ran(\'policy\'))',
	'ALTER TABLE romancy.t_instance ENABLE ROW LEVEL SECURITY', 'ALTER TABLE romancy.t_instance ADD CHECK (public.ran(\'check\'))', 'CREATE INDEX ON romancy.t_instance ((public.ran(\'index\')))',
	'ALTER TABLE romancy.t_instance ALTER owner SET DEFAULT public.ran(\'default\')', 'CREATE TABLE public.child () INHERITS (romancy.t_instance)', 'CREATE STATISTICS public.s ON owner, workflow FROM romancy.t_instance',
	'CREATE PUBLICATION p FOR TABLE romancy.t_instance', 'CREATE CAST (romancy.t_status AS text) WITH INOUT AS IMPLICIT', 'COMMENT ON FUNCTION romancy.metrics() IS \'x\'',
	'CREATE OPERATOR CLASS public.c DEFAULT FOR TYPE romancy.t_status USING btree AS OPERATOR 1 <(anyenum, anyenum)', 'REASSIGN OWNED BY postgres TO dbo', 'SELECT romancy.grant_usage(\'shop\')', 'VACUUM FULL romancy.t_instance',
	'DROP OWNED BY postgres', 'ALTER EXTENSION romancy SET SCHEMA public', 'ALTER EXTENSION romancy DROP FUNCTION romancy.metrics()', 'ALTER VIEW romancy.instances SET (security_barrier = off)',
	'CREATE OR REPLACE VIEW romancy.instances AS SELECT 1', 'ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT ALL ON TABLES TO public',
	'CREATE PUBLICATION p FOR ALL TABLES', 'BEGIN; LOCK romancy.t_instance', 'CREATE TRANSFORM FOR romancy.t_status LANGUAGE sql (FROM SQL WITH FUNCTION pg_catalog.now())',
	'ALTER DATABASE theirs SET session_preload_libraries = \'x\'', 'ALTER DATABASE theirs SET romancy.turn_mode = \'step\'', 'ALTER DATABASE theirs SET session_replication_role = replica',
	'ALTER ROLE ALL SET search_path = trap', 'ALTER ROLE postgres IN DATABASE theirs SET search_path = trap', 'ALTER SYSTEM SET romancy.enabled = off', 'SELECT count(*) FROM romancy.t_secret')
{
	like(as_owner($statement), qr/must be (owner|superuser|able|member)|permission denied|WARNING:  (skipping|permission)|WARNING.*can (vacuum)|not permitted|cannot be (changed|set)/, "refused afterwards: $statement");
}

# and the superuser's use, under the database's own settings, with the owner's objects in the way
my $uses = q{SELECT romancy.grant_usage('shop'); SELECT romancy.grant_usage('shop'::regrole, true); SELECT romancy.t_monitor() IS NULL; SELECT count(*) FROM romancy.instances; SELECT count(*) FROM romancy.list_instances('{"search": "x"}');
	SELECT romancy.metrics() IS NULL, romancy.health() IS NULL; SELECT count(*) FROM romancy.waiting; SELECT count(*) FROM romancy.stat_workflows; SELECT romancy.adopt_database() IS NULL; SELECT romancy.revoke_usage('shop')};
unlike(as_super($uses), qr/ERROR/, 'a superuser uses romancy there');
is(as_super($nobody), '', 'and nothing of his has run as anybody else');

# temporary objects of the owner's that have the names of what romancy's statements read
as_super(q{SELECT romancy.grant_usage('dbo')});
my $mine = as_owner(q{
	CREATE FUNCTION public.flow(pg_catalog.jsonb) RETURNS pg_catalog.jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('0 s'); RETURN romancy.activity('public.act'); END $$;
	CREATE FUNCTION public.act(pg_catalog.jsonb) RETURNS pg_catalog.jsonb LANGUAGE sql AS $$ SELECT pg_catalog.to_jsonb(current_user) $$;
	CREATE TEMP TABLE t_instance (instance_id pg_catalog.uuid); CREATE TEMP TABLE t_task (task_id pg_catalog.uuid); CREATE TEMP TABLE t_namespace (namespace_id int, name pg_catalog.text);
	CREATE TEMP VIEW pg_roles AS SELECT public.ran('temporary view'); CREATE TEMP VIEW pg_proc AS SELECT public.ran('temporary view');
	CREATE DOMAIN pg_temp.uuid AS pg_catalog.text CHECK (public.ran('temporary domain')); CREATE DOMAIN pg_temp.jsonb AS pg_catalog.text CHECK (public.ran('temporary domain'));
	CREATE DOMAIN pg_temp.text AS pg_catalog.int4 CHECK (public.ran('temporary domain')); CREATE DOMAIN pg_temp.timestamptz AS pg_catalog.text CHECK (public.ran('temporary domain'));
	CREATE DOMAIN pg_temp.regrole AS pg_catalog.text CHECK (public.ran('temporary domain')); CREATE DOMAIN pg_temp.int4 AS pg_catalog.text CHECK (public.ran('temporary domain'));
	CREATE FUNCTION pg_temp.now() RETURNS pg_catalog.timestamptz LANGUAGE sql AS $$ SELECT public.ran('temporary function'); SELECT pg_catalog.now() $$;
	CREATE FUNCTION pg_temp.eq(pg_catalog.text, pg_catalog.text) RETURNS boolean LANGUAGE sql AS 'SELECT public.ran(''temporary operator'')';
	CREATE OPERATOR pg_temp.= (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = pg_temp.eq);
	SET search_path = pg_temp, pg_catalog;
	SELECT romancy.define_workflow('flow', handler => 'public.flow(pg_catalog.jsonb)'); SELECT romancy.define_activity('queued', queue => 'q', rate_limit => '5/s');
	CALL romancy.run_workflow('flow', timeout => '60 s');
	SELECT pg_catalog.count(*) FROM romancy.start_workflows('flow', array['1', '2']::pg_catalog.jsonb[]); CALL romancy.drain();
	SELECT romancy.publish('c', '1'); SELECT romancy.set_queue('q', max_concurrency => 1, per_key => 'k'); SELECT pg_catalog.count(*) FROM romancy.fetch_activities('q', 'w');
	SELECT romancy.schedule('s', '0 1 * * *', 'flow'); SELECT romancy.unschedule('s'); SELECT romancy.send_event('t', 's') IS NULL; SELECT romancy.raise_event('t', 's') IS NULL;
	SELECT pg_catalog.count(*) > 0 FROM romancy.list_instances(), romancy.get_history(instance_id) h; SELECT pg_catalog.count(*) > 0 FROM romancy.instances; SELECT romancy.health() IS NULL;
	SELECT romancy.diagram(instance_id) IS NULL, romancy.timeline(instance_id) IS NULL FROM romancy.instances; SELECT romancy.cancel_workflows('{}');
	SELECT romancy.drop_workflow('flow');});
unlike($mine, qr/ERROR/, 'he uses romancy, with temporary objects in the way');
like($mine, qr/"dbo"/, 'and his workflow ran as himself');
is(as_super($nobody), '', 'none of it ran as anybody else');

# a setting of the database does not put a superuser into its owner's namespace, where the owner's definitions would meet what the superuser sets
as_owner(q{ALTER DATABASE theirs SET romancy.namespace = 'dbo'});
for my $call ("define_activity('x', queue => 'q')", "set_queue('q', max_concurrency => 1)", "publish('c', '1')", "send_event('t', 's')", "start_workflow('flow')")
{
	like(as_super("SELECT romancy.$call"), qr/42501: namespace "dbo" is not granted to role "postgres".*DETAIL:  Setting romancy.namespace of the database/s, "refused to a superuser there: $call");
}
unlike(as_super($uses), qr/ERROR/, 'what concerns the whole of romancy works');
unlike(as_super(q{SET romancy.namespace = ''; SELECT romancy.publish('c', '1')}), qr/ERROR/, 'in a namespace of his own');
unlike(as_super(q{SET romancy.namespace = 'dbo'; SELECT romancy.publish('c', '1')}), qr/ERROR/, 'and, where he says so himself, in that one');
unlike(as_owner(q{SELECT romancy.publish('c', '1')}), qr/ERROR/, 'it holds for those to whom it is granted');
$node->stop('fast');
done_testing();
