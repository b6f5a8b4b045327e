# Settings that a session, a role, a database or the server's configuration
# changes later do not reach an instance that has begun: time zone, formats of dates and numbers, and lowered limits. Each workflow asks in its replay for a
# text that such a setting changes. It would catch RM003 and RM011 for a workflow that did nothing but wait.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('settings', _init => [ extra => ['--encoding=UTF8'] ], 'romancy.worker_idle_timeout' => '0', TimeZone => 'Europe/Berlin');

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

# (a server may be built without libxml)
my $xml = $node->psql('postgres', 'SELECT xmlelement(name b)') == 0 ? q{xmlelement(name b, '\xff'::bytea)::text} : q{'none'};
note('this server has no XML') if $xml eq q{'none'};

sql(q{
	CREATE ROLE other LOGIN;
	SELECT romancy.grant_usage('other');
	GRANT CREATE ON SCHEMA public TO other;
	CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
	-- everything that is written as a text is asked for
	CREATE FUNCTION texts() RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		RETURN jsonb_build_object('now', romancy.workflow_now(), 'date', '05/04/2026'::date::text,
			'interval', '1 day 02:03'::interval::text, 'float', (0.1::float8 + 0.2)::text, 'bytes', '\x00ff'::bytea::text,
			'money', to_char(1234.5, 'L9G999D9'), 'month', to_char(romancy.workflow_now(), 'TMMonth HH24 TZ'),
			'words', to_tsvector('the running dogs')::text, 'xml', XML_OF_BYTES,
			'quoted', format('%I', 'plain'), 'array', '{NULL}'::text[]::text,
			'encoding', current_setting('client_encoding'), 'of client', pg_client_encoding(), 'backslash', current_setting('backslash_quote'));
	END $$;
	CREATE FUNCTION remembers(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE r jsonb;
	BEGIN
		r := romancy.activity('echo', texts());
		PERFORM romancy.receive('go');
		PERFORM romancy.set_value('texts', texts());
		RETURN jsonb_build_object('then', r, 'now', romancy.activity('echo', texts()), 'spawned', romancy.await(romancy.spawn('note_zone')));
	END $$;
	-- an activity reads and writes as its workflow does, wherever it runs
	CREATE FUNCTION note_zone(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(current_setting('TimeZone')) $$;
	CREATE PROCEDURE zone_outside(jsonb, INOUT result jsonb) LANGUAGE plpgsql AS $$ BEGIN result := to_jsonb(current_setting('TimeZone')); COMMIT; END $$;
	SELECT romancy.define_activity('zone_outside', 'zone_outside(jsonb,jsonb)', transactional => false);
	CREATE FUNCTION zones(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.receive('go');
		RETURN jsonb_build_array(romancy.activity('note_zone'), romancy.await(romancy.spawn('note_zone')), romancy.activity('zone_outside'),
			current_setting('TimeZone'));
	END $$;
	CREATE FUNCTION encodes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('echo', to_jsonb(current_setting('client_encoding')));
		RAISE NOTICE 'caf%', chr(233);
		PERFORM romancy.receive('go');
		RETURN romancy.activity('echo', to_jsonb(current_setting('client_encoding')));
	END $$;
	-- a setting that is nobody's: the handler reads the first value, activities the present one
	CREATE FUNCTION region(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_array($1, current_setting('app.region'), current_setting('app.later', true)) $$;
	CREATE FUNCTION regions(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE r jsonb := romancy.activity('region', to_jsonb(current_setting('app.region')));
	BEGIN
		PERFORM romancy.activity('echo', to_jsonb(coalesce(current_setting('app.later', true), '')));
		PERFORM romancy.receive('go');
		RETURN jsonb_build_array(r, current_setting('app.region'), romancy.activity('region', to_jsonb(current_setting('app.region'))), romancy.await(romancy.spawn('region', '1')));
	END $$;
	ALTER DATABASE postgres SET app.region = 'north';
	-- what is large, and many steps
	CREATE FUNCTION large(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('echo', to_jsonb(repeat('x', 20000)));
		PERFORM romancy.publish('nobody', to_jsonb(repeat('y', 20000)));
		PERFORM romancy.set_value('v', to_jsonb(repeat('z', 20000)));
		PERFORM romancy.receive('go');
		PERFORM romancy.activity('far', to_jsonb(repeat('x', 20000)));
		RETURN '"done"';
	END $$;
	CREATE FUNCTION many(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. 40 LOOP PERFORM romancy.activity('echo', to_jsonb(i)); END LOOP;
		RETURN romancy.activity('far', '1');
	END $$;
	CREATE FUNCTION too_large(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN
			PERFORM romancy.activity('echo', to_jsonb(repeat('x', 200000)));
		EXCEPTION WHEN SQLSTATE 'RM011' THEN
			PERFORM romancy.activity('echo', '"smaller"');
		END;
		PERFORM romancy.receive('go');
		RETURN '"done"';
	END $$;
	SELECT romancy.define_activity('far', queue => 'q');
	CREATE FUNCTION answer() RETURNS bigint LANGUAGE sql AS $$
		SELECT count(romancy.complete_activity(token, '1')) FROM romancy.fetch_activities('q', 'me', 100) $$;
} =~ s/XML_OF_BYTES/$xml/r);

$node->append_conf('postgresql.conf', "romancy.max_payload_size = '100kB'");
$node->reload;
my %id = map { $_ => sql("SELECT romancy.start_workflow('$_', '1')") } qw(remembers zones large many too_large regions);
poll_until($node, q{SELECT count(*) = 5 FROM romancy.instances WHERE status = 'waiting_for_message'}, 'they have begun and wait');
poll_until($node, q{SELECT count(*) = 1 FROM romancy.activity_tasks}, 'one for a program');

# what a client asked for when it connected is its own: no superuser has said it, and executors do not have it
{
	local $ENV{PGOPTIONS} = '-c app.client=mine';
	like(sql(q{
		CREATE FUNCTION client(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(current_setting('app.client', true)) $$;
		BEGIN; SELECT romancy.start_workflow('client') AS id \gset
		CALL romancy.drain(); COMMIT;
		SELECT output FROM romancy.instances WHERE instance_id = :'id'}), qr/"mine"/, 'a client has a setting of its own');
	is(sql(q{SELECT count(*) FROM romancy.t_settings s WHERE s::text LIKE '%app.client%'}), '0', 'which is not kept');
}
sql('SELECT romancy.delete_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NOT NULL');

# the server, the database and the role say something else, and new processes hear of it
$node->append_conf('postgresql.conf', q{
	TimeZone = 'Asia/Tokyo'
	DateStyle = 'SQL, DMY'
	IntervalStyle = 'iso_8601'
	romancy.max_payload_size = '10kB'
	romancy.max_history_events = 20
});
sql(q{
	ALTER DATABASE postgres SET extra_float_digits = -3;
	ALTER DATABASE postgres SET bytea_output = 'escape';
	ALTER DATABASE postgres SET default_text_search_config = 'simple';
	ALTER DATABASE postgres SET app.region = 'south';
	ALTER ROLE postgres SET app.later = 'set';
	ALTER DATABASE postgres SET client_encoding = 'latin1';
	ALTER ROLE postgres SET backslash_quote = on;
	ALTER ROLE postgres SET xmlbinary = 'hex';
	ALTER ROLE postgres SET quote_all_identifiers = on;
	ALTER ROLE postgres SET array_nulls = off;
});
$node->restart;
is(sql('SHOW TimeZone'), 'Asia/Tokyo', 'a new session has the new settings');
sql("SELECT romancy.send_to('$_', 'go', '1')") for @id{qw(remembers zones large too_large regions)};
poll_until(sub { sql('SELECT answer()'); return sql(q{SELECT count(*) FROM romancy.instances WHERE status IN ('completed', 'failed', 'paused')}) eq '6' },
	'they go on to an end');
is(sql(q{SELECT string_agg(workflow || ' ' || status || ' ' || coalesce(error ->> 'message', ''), E'\n' ORDER BY workflow) FROM romancy.instances}),
	"large failed input of \"far\" has 20012 bytes, the limit is 10240\nmany completed \nregions completed \nremembers completed \ntoo_large completed \nzones completed ",
	'a replay asks for what it asked for; only a new step meets the new limit');
my $texts = q{FROM romancy.instances, LATERAL (SELECT output -> 'then' AS a, output -> 'now' AS b) x WHERE instance_id = '} . $id{remembers} . q{'};
is(sql("SELECT a - 'now' - 'month' = b - 'now' - 'month' $texts"), 't', 'new steps write as the first ones did') || diag(sql("SELECT jsonb_pretty(a), jsonb_pretty(b) $texts"));
is(sql("SELECT (a ->> 'now' ~ '[+]01:00\$') AND (b ->> 'now' ~ '[+]01:00\$') $texts"), 't', 'in the same time zone');
is(sql("SELECT output FROM romancy.instances WHERE instance_id = '$id{regions}'"),
	'[["north", "north", null], "north", ["north", "south", "set"], [1, "south", "set"]]', 'a setting of an application: the first value for the handler, the present one for activities');
is(sql("SELECT output FROM romancy.instances WHERE instance_id = '$id{zones}'"),
	'["Europe/Berlin", "Europe/Berlin", "Europe/Berlin", "Europe/Berlin"]',
	'an activity, a spawned one and one outside of the transaction have it, too');
is(sql("SELECT string_agg(event_type || ' ' || coalesce(activity_id, ''), ', ' ORDER BY seq) FROM romancy.get_history('$id{too_large}')"),
	'CallFailed echo:1, ActivityCompleted echo:2, ChannelMessageReceived receive_go:1, WorkflowCompleted ', 'a refused input is in history');
my $new = sql("SELECT romancy.start_workflow('zones', '1')");
poll_until($node, "SELECT status = 'waiting_for_message' FROM romancy.instances WHERE instance_id = '$new'", 'one that begins now');
my $fork = sql("SELECT romancy.fork_workflow('$id{zones}', 'note_zone:1')");
sql("SELECT romancy.send_to('$new', 'go', '1')");
poll_until($node, "SELECT count(*) = 2 FROM romancy.instances WHERE instance_id IN ('$new', '$fork') AND status = 'completed'", 'it and a fork end');
is(sql("SELECT output ->> 0 FROM romancy.instances WHERE instance_id = '$new'"), 'Asia/Tokyo', 'a new one has the new settings');
is(sql("SELECT output ->> 0 FROM romancy.instances WHERE instance_id = '$fork'"), 'Europe/Berlin', 'a fork those of its history');

# a session that drains: what it has SET itself does not count, and stays
$node->append_conf('postgresql.conf', 'romancy.enabled = off');
$node->restart;
my $drained = sql(q{SET TimeZone = 'America/Lima'; CREATE TABLE ids AS SELECT romancy.start_workflow('zones', '1') AS id; CALL romancy.drain();
	SELECT romancy.send_to(id, 'go', '1') FROM ids; SET TimeZone = 'Asia/Kabul'; CALL romancy.drain(); SHOW TimeZone});
like($drained, qr/Asia\/Kabul$/, 'the session keeps what it has set');
is(sql('SELECT output FROM romancy.instances JOIN ids ON id = instance_id'), '["Asia/Tokyo", "Asia/Tokyo", "Asia/Tokyo", "Asia/Tokyo"]',
	'a drained one has the settings of a fresh session');

# client_encoding is the session's own, which hears of messages in it; a handler reads the database's, as in an executor
my ($rc, $out, $err) = $node->psql('postgres', q{SET client_encoding = 'latin1'; CREATE TABLE encoded AS SELECT romancy.start_workflow('encodes', '1') AS id; CALL romancy.drain(); SHOW client_encoding});
like($out, qr/latin1$/i, 'the session keeps its encoding');
like($err, qr/NOTICE:  caf\xe9$/m, 'in which a message comes');
like(sql(q{SELECT romancy.send_to(id, 'go', '1') FROM encoded; SET client_encoding = 'utf8'; CALL romancy.drain(); SELECT status || ' ' || output FROM romancy.instances JOIN encoded ON id = instance_id}),
	qr/completed "UTF8"$/, 'what a replay asks for does not depend on it');

# a time zone that this server does not know any more: it goes on, and the log says so
$node->append_conf('postgresql.conf', 'romancy.enabled = on');
$node->restart;
my $lost = sql("SELECT romancy.start_workflow('zones', '1')");
poll_until($node, "SELECT status = 'waiting_for_message' FROM romancy.instances WHERE instance_id = '$lost'", 'one more waits');
sql(q{UPDATE romancy.t_settings SET settings = settings || '{"TimeZone": "Europe/Atlantis"}' WHERE settings ->> 'TimeZone' = 'Asia/Tokyo'});
$node->restart;
sql("SELECT romancy.send_to('$lost', 'go', '1')");
poll_until($node, "SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$lost'", 'it goes on');
like(slurp_file($node->logfile), qr/workflows that began with "TimeZone" set to "Europe\/Atlantis" continue without it/, 'the log says which setting is not accepted');
unlike(slurp_file($node->logfile), qr/does not match its history|XX000/, 'no replay differed');

$node->stop;
done_testing();
