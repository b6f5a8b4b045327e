# One in eight of many workflows has a step that fails once, and they share their transactions with others: the loser alone is run again. Counted by sequences, which are not rolled
# back: each step of the others runs once. It would catch a batch of which others are run again, because one of it fails, or that ends at it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('losers', 'romancy.executors' => 1, 'romancy.eager_runs' => 'off');
sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	CREATE SEQUENCE firsts; CREATE SEQUENCE seconds; CREATE SEQUENCE failures;
	CREATE TABLE effect (n int);
	CREATE FUNCTION step_one(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('firsts'); INSERT INTO effect VALUES ($1::int); RETURN 'true'; END $$;
	CREATE FUNCTION step_two(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('seconds');
		INSERT INTO effect VALUES ($1::int);
		IF nextval('failures') % 8 = 0 THEN RAISE 'once'; END IF;
		RETURN 'true';
	END $$;
	CREATE FUNCTION two_steps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('step_one', $1); RETURN romancy.activity('step_two', $1); END $$;
	SELECT romancy.start_workflow('two_steps', to_jsonb(g)) FROM generate_series(1, 5) g;
});
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE finished_at IS NULL}, 'the steps are known');
value(q{SELECT setval('firsts', 1, false), setval('seconds', 1, false), setval('failures', 1, false); TRUNCATE effect;
	SELECT romancy.start_workflow('two_steps', to_jsonb(g), labels => '{"n": "160"}') FROM generate_series(1, 160) g});
poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE labels->>'n' = '160' AND status = 'completed'}, 'all end', expected => 160);
my $failed = value('SELECT last_value / 8 FROM failures');
is(value('SELECT last_value FROM seconds'), 160 + $failed, "$failed failed, and ran once more");
is(value('SELECT last_value FROM firsts'), 160 + $failed, 'so did the step before it, and no other');
is(value('SELECT count(*) FROM effect'), '320', 'each effect once');
my $transactions = value(q{SELECT count(DISTINCT xmin::text) FROM romancy.t_instance WHERE labels->>'n' = '160'});
cmp_ok($transactions, '<=', 20, "in $transactions transactions, where sixteen at a time make ten");
$node->stop('fast');
done_testing();
