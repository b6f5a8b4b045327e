# The tables of doc/security.md ("Who can do what to whom") are what the server does: each call in them is made by each role, and each
# function and view of the schema stands in them. It would catch a right that a role gains or loses, a refusal that changes something
# all the same, and a new function whose rights were not considered.
# ROMANCY_RIGHTS=FILE writes the tables into a file as they would be.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $print;
open $print, '>', $ENV{ROMANCY_RIGHTS} or die "$ENV{ROMANCY_RIGHTS}: $!" if $ENV{ROMANCY_RIGHTS};
my %login = (owner => 'shop', 'same namespace' => 'clerk', 'starts only' => 'starter', 'other namespace' => 'other',
	monitor => 'watcher', 'no grant' => 'nobody', superuser => 'postgres');

# ---- the tables: each row is a call, or a view, and its outcome for the role of each column
open my $file, '<', "$FindBin::RealBin/../../doc/security.md" or die "doc/security.md: $!";
my (@rows, @columns);
while (<$file>)
{
	if (/^\| (?:call|view) \| (.*) \|$/) { @columns = split / \| /, $1 }
	elsif (!/^\|/) { @columns = () }
	elsif (@columns && /^\| `(.+?)` \|\s*(.*?)\s*\|$/) { push @rows, { call => $1, cells => [ split /\s*\|\s*/, $2 ], columns => [@columns] } }
}
close $file;
cmp_ok(scalar @rows, '>', 100, 'doc/security.md has tables of calls');

# ---- what the calls are made at: shop's
my $node = romancy_node('rights', 'autovacuum' => 'off');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]) }

sql(q{
	CREATE ROLE shop LOGIN; CREATE ROLE clerk LOGIN; CREATE ROLE starter LOGIN; CREATE ROLE other LOGIN; CREATE ROLE watcher LOGIN; CREATE ROLE nobody LOGIN;
	SELECT romancy.grant_usage('shop'), romancy.grant_usage('clerk', namespace => 'shop'), romancy.grant_usage('starter', namespace => 'shop', define => false),
		romancy.grant_usage('other'), romancy.grant_usage('watcher', monitor => true);
	SELECT romancy.allow_http('shop', 'https://api.example.com/v1/*');
	GRANT CREATE ON SCHEMA public TO shop});
as('shop', q{
	CREATE FUNCTION act(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1 $$;
	CREATE FUNCTION done(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '1'; END $$;
	CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('act'); RAISE EXCEPTION 'no'; END $$;
	CREATE FUNCTION waits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.set_value('key', '1'); PERFORM romancy.activity('act'); PERFORM romancy.join_group('group');
		PERFORM romancy.subscribe('channel'); PERFORM romancy.wait_event('type'); RETURN '1'; END $$;
	CREATE FUNCTION calls(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('step'); END $$;
	SELECT romancy.define_workflow('flow', handler => 'waits'), romancy.define_workflow('unused', handler => 'done'), romancy.define_workflow('outside', queue => 'queue'),
		romancy.define_activity('step', queue => 'queue'), romancy.define_activity('act', handler => 'act'), romancy.define_activity('idle', handler => 'act');
	SELECT romancy.set_queue('queue', max_concurrency => 10);
	SELECT romancy.schedule('daily', '0 0 * * *', 'done'), romancy.schedule('paused', '0 0 * * *', 'flow'), romancy.pause_schedule('paused'), romancy.trigger_schedule('daily');
	SELECT romancy.set_secret('key', 'value', 'api.example.com'), romancy.set_secret('unused', 'value', 'api.example.com');
	SELECT romancy.define_destination('billing', event_types => '{*}'), romancy.define_destination('held'), romancy.define_destination('unused'), romancy.pause_destination('held');
	SELECT romancy.send_event('type', 'source', id => 'sent'), romancy.send_event('type', 'source', id => 'gone', destination => 'billing'), romancy.send_event('type', 'source', destination => 'billing')});
my %object;
my $quiet = q{SELECT count(*) = 0 FROM romancy.instances WHERE status IN ('pending', 'running')};
$object{ $_->[0] } = as('shop', "SELECT romancy.start_workflow('$_->[1]')")
	for [ waiting_id => 'flow' ], [ paused_id => 'flow' ], [ finished_id => 'done' ], [ failed_id => 'fails' ], [ working_id => 'calls' ];
poll_until($node, $quiet, 'instances run');
as('shop', "SELECT romancy.pause_workflow('$object{paused_id}')");
poll_until($node, q{SELECT count(*) = 1 FROM romancy.instances WHERE status = 'paused'}, 'one is paused');
$object{token} = as('shop', q{SELECT token FROM romancy.fetch_activities('queue', 'robot', lease => '1 day')});
$object{canvas_id} = as('shop', q{SELECT romancy.run_canvas(romancy.task('step'))});
as('shop', q{SELECT romancy.start_workflow('outside')});
poll_until($node, q{SELECT count(*) = 1 FROM romancy.t_task WHERE kind = 1}, 'a canvas has a task');
poll_until($node, q{SELECT count(*) = 1 FROM romancy.t_task WHERE kind = 2}, 'workflow code outside has one');
$object{code_token} = as('shop', q{SELECT token FROM romancy.fetch_workflows('queue', 'robot', lease => '1 day')});
as('shop', "SELECT romancy.record_activity('$object{code_token}', 'a:0', 'a', '1', '1'); SELECT romancy.start_workflow('outside')");
poll_until($node, q{SELECT count(*) = 2 FROM romancy.t_task WHERE kind = 2}, 'and another');
$object{event_token} = as('shop', q{SELECT token FROM romancy.fetch_outbox(1, '1 day', 'billing')});
$object{ended_token} = as('shop', q{SELECT token FROM romancy.fetch_outbox(1, '1 day', 'billing')});
as('shop', "SELECT romancy.ack_outbox(ARRAY['$object{ended_token}'])");
sql($_) for 'ALTER SYSTEM SET romancy.enabled = off', 'SELECT pg_reload_conf()';
poll_until($node, q{SELECT count(*) = 0 FROM romancy.workers WHERE kind <> 'launcher'}, 'nothing runs any more');
as('shop', q{SELECT romancy.start_workflow('done')});
is(as('shop', q{SELECT string_agg(status, ' ' ORDER BY status) FROM (SELECT DISTINCT status FROM romancy.instances) i}),
	'completed failed paused pending running waiting_for_activity waiting_for_message', 'instances of all kinds are there');

# ---- what there is of the namespace shop's, and the outcome of a call
sql(q{
	CREATE FUNCTION state_of_shop() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		id int := (SELECT namespace_id FROM romancy.t_namespace WHERE name = 'shop');
		ours uuid[] := ARRAY(SELECT instance_id FROM romancy.t_instance WHERE namespace = id);
		t record; part text; whole text := '';
	BEGIN
		FOR t IN SELECT c.relname AS name, (SELECT array_agg(a.attname) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0) AS columns
			FROM pg_class c WHERE c.relnamespace = 'romancy'::regnamespace AND c.relkind = 'r' ORDER BY 1
		LOOP
			CONTINUE WHEN NOT t.columns && ARRAY['namespace', 'namespace_id', 'instance_id', 'mailbox']::name[] AND t.name <> 't_queue';
			EXECUTE format('SELECT md5(coalesce(string_agg(r::text, %L ORDER BY r::text), %L)) FROM romancy.%I r WHERE %s', '|', '', t.name,
				CASE WHEN 'namespace' = ANY (t.columns) THEN format('namespace = %s', id) WHEN 'namespace_id' = ANY (t.columns) THEN format('namespace_id = %s', id)
				WHEN 'instance_id' = ANY (t.columns) THEN format('instance_id = ANY (%L)', ours) WHEN 'mailbox' = ANY (t.columns) THEN format('mailbox = ANY (%L)', ours)
				ELSE format('name LIKE %L', id || '/%') END) INTO part;
			whole := whole || t.name || ' ' || part || ' ';
		END LOOP;
		RETURN whole;
	END $$;
	CREATE FUNCTION becomes(role name, call text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE r text[]; before text := state_of_shop(); outcome text; after text;
	BEGIN
		PERFORM set_config('role', CASE role WHEN 'postgres' THEN 'none' ELSE role END, true);
		EXECUTE 'SELECT array_agg(r::text) FROM romancy.' || call INTO r;
		PERFORM set_config('role', 'none', true);
		after := state_of_shop();
		outcome := CASE WHEN r IS NULL OR r <@ ARRAY[NULL, '0', '[]', '(,)']::text[] THEN 'nothing' WHEN r = '{false}' THEN 'false' WHEN r = '{lost}' THEN 'lost' ELSE 'yes' END
			|| CASE WHEN before = after THEN '' ELSE ' changed' END;
		RAISE EXCEPTION 'undo' USING ERRCODE = 'ZZ000';
	EXCEPTION
		WHEN SQLSTATE 'ZZ000' THEN RETURN outcome;
		WHEN OTHERS THEN RETURN sqlstate;
	END $$});

sub called { my ($call) = @_; $call =~ s/\b$_\b(?!')/'$object{$_}'/g for keys %object; return $call }

# a procedure waits, so it is called at top level
sub call_procedure
{
	my ($role, $call) = @_;
	my $before = sql('SELECT state_of_shop()');
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nCALL romancy.$call", extra_params => [ '-U', $role ]);
	return $1 if $err =~ /ERROR: +(\w{5}):/;
	return ($out =~ /^(?:|0|\[\])$/ ? 'nothing' : 'yes') . (sql('SELECT state_of_shop()') eq $before ? '' : ' changed');
}

# of a view: what it has of shop's
my %where = map { /(.*)\|(.*)/ } split /\n/, sql(q{SELECT c.relname, CASE WHEN bool_or(a.attname = 'owner') THEN ' WHERE owner = ''shop''' WHEN bool_or(a.attname = 'namespace') THEN ' WHERE namespace = ''shop''' ELSE '' END
	FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'romancy'::regnamespace AND c.relkind = 'v' GROUP BY 1});
$where{workers} = '';
my %kind = map { /(.*)\|(.*)/ } split /\n/, sql(q{SELECT DISTINCT proname, prokind FROM pg_proc WHERE pronamespace = 'romancy'::regnamespace});
my (%seen, @calls);
for my $row (@rows)
{
	($row->{name}) = $row->{call} =~ /^(\w+)/;
	$seen{ $row->{name} } = 1;
	for my $column (reverse @{ $row->{columns} })
	{
		my $role = $login{$column} // die "no role for column $column";
		(my $call = called($row->{call}) . ' r' . ($where{ $row->{name} } // '')) =~ s/'/''/g;
		push @calls, "SELECT becomes('$role', '$call');" unless ($kind{ $row->{name} } // '') eq 'p';
	}
}
my @became = split /\n/, sql(join "\n", @calls);
is(scalar @became, scalar @calls, 'each call became something');
for my $row (@rows)
{
	my @got;
	# what a procedure does is not undone, so the owner comes last
	for my $i (reverse 0 .. $#{ $row->{columns} })
	{
		my $role = $login{ $row->{columns}[$i] };
		my $want = $row->{cells}[$i] // '';
		my $got = ($kind{ $row->{name} } // '') eq 'p' ? call_procedure($role, called($row->{call})) : shift @became;
		my $changed = $got =~ s/ changed//;
		# elsewhere: whatever it does or refuses, it is about what the caller's own namespace has of that name
		$got = 'elsewhere' if $want eq 'elsewhere' && !$changed && $got !~ /^XX/;
		$got .= ' (changed)' if $changed && ($got ne 'yes' || $role =~ /^(?:other|watcher|nobody)$/);
		unshift @got, $got;
		is($got, $want, "$row->{call}: $row->{columns}[$i]") unless $print;
	}
	print $print '| `', $row->{call}, '` | ', join(' | ', @got), " |\n" if $print;
}

# ---- nothing is left out
my $internal = q{'t\_%'};
for my $name (split /\n/, sql(qq{SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'romancy'::regnamespace AND proname NOT LIKE $internal
	UNION SELECT relname FROM pg_class WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'v' ORDER BY 1}))
{
	ok($seen{$name}, "$name stands in a table of doc/security.md");
}
# base tables and what begins with t_ are granted to no role
for my $role (qw(shop clerk starter other watcher nobody))
{
	is(sql(qq{SELECT count(*) FROM pg_class c WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'r'
		AND has_table_privilege('$role', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')}), 0, "$role has no right on a base table");
	is(sql(qq{SELECT count(*) FROM pg_class c WHERE relnamespace = 'romancy'::regnamespace AND relkind = 'v'
		AND has_table_privilege('$role', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')}), 0, "$role reads views, and no more");
}
$node->stop;
done_testing();
