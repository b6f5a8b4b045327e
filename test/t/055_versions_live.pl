# Versions under a load: a new version is defined while thousands of instances run, and none of them
# notices; create or replace changes the handler of those under way, compatibly, with patched(), and
# not: then a thousand pause with RM003 and an operator's hint, and one call resumes them after
# the mend. It would catch an instance that changes its version, one that fails where it is to pause, and
# a bulk resume that misses some.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('versions');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub counts { return sql("SELECT string_agg(concat_ws(' ', n, version, status, output), ', ' ORDER BY version, status, output::text) FROM (SELECT version, status, output, count(*) AS n FROM romancy.instances WHERE workflow = '$_[0]' GROUP BY 1, 2, 3) c") }

sql(q{
	CREATE TABLE effect (what text);
	CREATE FUNCTION note(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effect VALUES ($1 #>> '{}'); RETURN $1; END $$;
	CREATE FUNCTION v1(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('note', '"begun"'); PERFORM romancy.wait_event('go'); RETURN '1'; END $$;
	CREATE FUNCTION v2(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('note', '"v2"'); RETURN '2'; END $$;
	SELECT romancy.define_workflow('flow', 'v1(jsonb)');
});

# ---- a new version while thousands run: some sleep, some are on their way, some are not begun
sql(q{SELECT count(*) FROM romancy.start_workflows('flow', array_fill('1'::jsonb, array[1500]))});
poll_until($node, q{SELECT count(*) >= 500 FROM romancy.instances WHERE status = 'waiting_for_message'}, 'hundreds are under way');
is(sql(q{SELECT count(*) FROM romancy.start_workflows('flow', array_fill('1'::jsonb, array[1500])); SELECT romancy.define_workflow('flow', 'v2(jsonb)')}), "1500\n2", 'a new version, with others just started');
sql(q{SELECT count(*) FROM romancy.start_workflows('flow', array_fill('1'::jsonb, array[500]))});
sql(q{SELECT romancy.start_workflow('flow', version => 1)});
poll_until($node, q{SELECT count(*) FILTER (WHERE status = 'waiting_for_message') = 3001 AND count(*) FILTER (WHERE status = 'completed') = 500 FROM romancy.instances}, 'each goes its way');
is(sql(q{SELECT string_agg(concat_ws(' ', version, live, paused), ', ' ORDER BY version) FROM romancy.versions WHERE workflow = 'flow'}), '1 3001 0, 2 0 0', 'view versions tells how many live on which');
is($node->psql('postgres', q{DROP FUNCTION v1(jsonb); SELECT romancy.drop_workflow('flow')}, stderr => \my $err), 3, 'it is not dropped while they need it');
like($err, qr/cannot be dropped|in use|needs? it|live/, 'and says so');
sql(q{CREATE OR REPLACE FUNCTION v1(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('note', '"begun"'); PERFORM romancy.wait_event('go'); RETURN '1'; END $$});
sql(q{SELECT romancy.raise_event('go', 'test')});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'all end');
is(counts('flow'), '3001 1 completed 1, 500 2 completed 2', 'each with the function that it started with');
is(sql(q{SELECT string_agg(concat_ws(' ', what, n), ', ' ORDER BY what) FROM (SELECT what, count(*) AS n FROM effect GROUP BY what) e}), 'begun 3001, v2 500', 'each step once');

# ---- create or replace of a handler with a thousand instances under way
sql(q{
	TRUNCATE effect;
	CREATE FUNCTION changes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('note', '"first"'); PERFORM romancy.wait_event('step'); PERFORM romancy.wait_event('last'); RETURN '"old"'; END $$;
	SELECT count(*) FROM romancy.start_workflows('changes', array_fill('1'::jsonb, array[1000]));
});
poll_until($node, q{SELECT count(*) = 1000 FROM romancy.instances WHERE workflow = 'changes' AND status = 'waiting_for_message'}, 'a thousand wait');
# compatible: what is new comes after what they have done, or is guarded
sql(q{
	CREATE OR REPLACE FUNCTION changes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF romancy.patched('before') THEN PERFORM romancy.activity('note', '"new"'); END IF;
		PERFORM romancy.activity('note', '"first"');
		PERFORM romancy.wait_event('step');
		PERFORM romancy.activity('note', '"between"');
		PERFORM romancy.wait_event('last');
		RETURN '"patched"';
	END $$;
	SELECT romancy.raise_event('step', 'test');
});
poll_until($node, q{SELECT count(*) = 1000 FROM romancy.waiting WHERE workflow = 'changes' AND name = 'last'}, 'compatible: they go on with the new body');
is(sql(q{SELECT string_agg(concat_ws(' ', what, n), ', ' ORDER BY what) FROM (SELECT what, count(*) AS n FROM effect GROUP BY what) e}), 'between 1000, first 1000', 'compatible: and do what is new and ahead of them');

# incompatible: another step where they have been
sql(q{
	CREATE OR REPLACE FUNCTION changes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('note', '"other"'); PERFORM romancy.wait_event('last'); RETURN '"wrong"'; END $$;
	SELECT romancy.raise_event('last', 'test');
});
poll_until($node, q{SELECT count(*) = 1000 FROM romancy.instances WHERE workflow = 'changes' AND status = 'paused'}, 'incompatible: a thousand are paused');
is(sql(q{SELECT DISTINCT error ->> 'sqlstate' FROM romancy.instances WHERE workflow = 'changes'}), 'RM003', 'incompatible: by RM003');
is(sql(q{SELECT DISTINCT error ->> 'detail' FROM romancy.instances WHERE workflow = 'changes'}),
	q{The handler asks for activity "note:1" with input "other"; history holds ActivityCompleted "note:1" with input "first". The body of public.changes(jsonb) has changed since the instance ran first.}, 'incompatible: which says what differs');
like(sql(q{SELECT DISTINCT error ->> 'hint' FROM romancy.instances WHERE workflow = 'changes'}), qr/Put the former function back, or guard the change with romancy.patched\(\); then call romancy.resume_workflow\(\)/, 'incompatible: and what to do');
is(sql(q{SELECT concat_ws(' ', live, paused) FROM romancy.versions WHERE workflow = 'changes'}), '1000 1000', 'incompatible: view versions tells it');
is(sql(q{SELECT count(*) FROM effect WHERE what = 'other'}), '0', 'incompatible: nothing has run');
# the mend
sql(q{
	CREATE OR REPLACE FUNCTION changes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM romancy.activity('note', '"first"');
		PERFORM romancy.wait_event('step');
		PERFORM romancy.activity('note', '"between"');
		PERFORM romancy.wait_event('last');
		RETURN '"mended"';
	END $$;
});
is(sql(q{SELECT romancy.resume_workflows('{"workflow": "changes", "status": "paused"}')}), '1000', 'the mend: one call resumes a thousand');
poll_until($node, q{SELECT count(*) = 1000 FROM romancy.instances WHERE workflow = 'changes' AND status = 'completed'}, 'the mend: all complete');
is(counts('changes'), '1000 1 completed "mended"', 'the mend: with the new body');
is(sql(q{SELECT string_agg(concat_ws(' ', what, n), ', ' ORDER BY what) FROM (SELECT what, count(*) AS n FROM effect GROUP BY what) e}), 'between 1000, first 1000', 'the mend: each step once');
$node->stop;
done_testing();
