# Claims and ends write rows and index entries without the server's executor: indexes have each row, and no other (amcheck), after claims and ends that
# commit, are rolled back, wholly or to a savepoint, or fail in the middle, and beside REINDEX CONCURRENTLY, an index that is being built and VACUUM; each
# task is claimed once. A task's id stays unique for others: an INSERT of it waits for the claim and is refused, however that ends. A DBA's unique index
# is searched also where the claim only brings a row into it. It would catch an entry that is left out or made twice, and one that is made without the
# search that its index asks for.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('entries', 'romancy.enabled' => 'off', autovacuum => 'off');

sub sql { return $node->safe_psql('postgres', $_[0]) }

plan skip_all => 'needs amcheck' if sql(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'}) == 0;
sql(q{
	CREATE EXTENSION amcheck;
	SELECT romancy.define_activity('ext', queue => 'q');
	CREATE TABLE held (n serial, token text, step text);
	CREATE FUNCTION quick(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
});

sub fill
{
	sql("SELECT romancy.run_canvas(romancy.group(VARIADIC ARRAY(SELECT romancy.task('ext', to_jsonb(g)) FROM generate_series(1, $_[0]) g))); CALL romancy.drain()");
	return;
}
sub sound
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($rc, $out, $err) = $node->psql('postgres', q{SELECT count(bt_index_parent_check(i.indexrelid, true, true)) > 0 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND i.indisvalid AND i.indrelid IN ('romancy.t_task'::regclass, 'romancy.t_instance'::regclass, 'romancy.t_canvas_result'::regclass)});
	is("$out$err", 't', $what);
	return;
}
my $fetch = q{INSERT INTO held (token, step) SELECT token, activity_id FROM romancy.fetch_activities('q', 'w', %d, '1h')};
sub fetch { return sprintf($fetch, $_[0]) }

# Ways in which it ends
fill(1500);
sql(fetch(100)) for 1 .. 3;
sound('after claims');
sql('BEGIN; ' . fetch(100) . '; ROLLBACK') for 1 .. 3;
sound('after claims that were rolled back');
sql('BEGIN; ' . fetch(100) . '; SAVEPOINT s; ' . fetch(100) . '; ROLLBACK TO s; ' . fetch(50) . '; SAVEPOINT t; ' . fetch(50) . '; RELEASE t; COMMIT');
sound('after claims that were rolled back to a savepoint');
is(sql('SELECT count(*) || $$ $$ || count(DISTINCT step) FROM held'), '500 500', 'each was claimed once');
my $end = q{SELECT romancy.complete_activities(array_agg(token), array_agg('1'::jsonb)) FROM (SELECT token FROM held ORDER BY n LIMIT 100) t};
sql("BEGIN; $end; ROLLBACK");
sound('after ends that were rolled back');
is(sql("$end; DELETE FROM held WHERE n <= (SELECT max(n) FROM (SELECT n FROM held ORDER BY n LIMIT 100) t)"), '100', 'they end');
sound('after ends');
sql('VACUUM romancy.t_task');
sound('after a vacuum');

# An INSERT of the id of a task that is being claimed
my $copy = 'INSERT INTO romancy.t_task SELECT * FROM romancy.t_task WHERE task_id = ';
for my $way (qw(COMMIT ROLLBACK))
{
	my $claimer = $node->background_psql('postgres', on_error_stop => 0);
	my $inserter = $node->background_psql('postgres', on_error_stop => 0);
	my $token = $claimer->query_safe(q{BEGIN; SELECT token FROM romancy.fetch_activities('q', 'w', 1, '1h')});
	my $id = substr($token, 0, 36);
	my $pid = $inserter->query_safe('SELECT pg_backend_pid()');

	$inserter->query_until(qr/begun/, "\\echo begun\n$copy'$id';\n");
	poll_until($node, "SELECT wait_event = 'transactionid' FROM pg_stat_activity WHERE pid = $pid", "an INSERT of the id waits for the claim ($way)");
	$claimer->query_safe($way);
	$inserter->query('SELECT 1');
	like($inserter->{stderr}, qr/duplicate key value violates unique constraint "t_task_pkey"/, "and is refused after $way");
	my ($rc, $out, $err) = $node->psql('postgres', "$copy'$id'");
	like($err, qr/duplicate key value violates unique constraint "t_task_pkey"/, 'as one that comes later');
	sql("SELECT romancy.release_activity('$token')");
	$_->quit for $claimer, $inserter;
}
my $instance = sql(q{SELECT romancy.start_workflow('quick')});
sql('CALL romancy.drain()');
my ($rc, $out, $err) = $node->psql('postgres', "INSERT INTO romancy.t_instance SELECT * FROM romancy.t_instance WHERE instance_id = '$instance'");
like($err, qr/duplicate key value violates unique constraint "t_instance_pkey"/, 'so is a second instance of an id whose row a turn has changed');

# A DBA's unique index, which the claim's new version enters: the first one may, the second one may not
sql('TRUNCATE held');
sql(q{UPDATE romancy.t_task SET state = 0, due_at = NULL, fence = NULL WHERE state = 1});
sql('CREATE UNIQUE INDEX one_at_a_time ON romancy.t_task (queue) WHERE state = 1');
($rc, $out, $err) = $node->psql('postgres', fetch(2));
like($err, qr/duplicate key value violates unique constraint "one_at_a_time"/, 'a unique index that a row enters by its claim is searched');
sound('after an error in the middle of a claim');
sql(fetch(1));
($rc, $out, $err) = $node->psql('postgres', fetch(1));
like($err, qr/duplicate key value violates unique constraint "one_at_a_time"/, 'also for the row of another transaction');
is(sql('SELECT count(*) FROM romancy.t_task WHERE state = 1'), 1, 'what it refuses is not claimed');
sound('after errors');
sql('DROP INDEX romancy.one_at_a_time');

# Beside REINDEX CONCURRENTLY, an index of a DBA's that is being built, and VACUUM
sql('TRUNCATE held');
fill(4000);
my $tasks = sql('SELECT count(*) FROM romancy.t_task WHERE state = 0');
my @sessions = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 2;
$_->query_until(qr/begun/, "\\echo begun\n" . (fetch(25) . ";\n") x int($tasks / 50 + 2) . "\\echo over\n") for @sessions;
for (1 .. 3)
{
	sql("REINDEX INDEX CONCURRENTLY romancy.$_") for qw(t_task_pkey t_task_due t_task_instance);
	sql('VACUUM romancy.t_task');
	sql('CREATE UNIQUE INDEX CONCURRENTLY other ON romancy.t_task (task_id, instance_id)');
	sound('with claims, indexes that are made anew and a vacuum beside each other');
	sql('DROP INDEX CONCURRENTLY romancy.other');
}
$_->query_safe('SELECT 1') for @sessions;
is(sql('SELECT count(*) || $$ $$ || count(DISTINCT left(token, 36)) FROM held'), "$tasks $tasks", 'all are claimed, each once');
is(sql('SELECT count(*) FROM romancy.t_task WHERE state = 0'), 0, 'none is left');
sound('at the end');
$_->quit for @sessions;
done_testing();
