# An error of the engine's own in a turn that drain runs reaches the caller, and the session goes on: nothing is left open that it could not end.
# It would catch a subtransaction that is left behind at top level, where no ROLLBACK belongs to it: each later statement fails, and COMMIT ends the session.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('drain_errors', 'romancy.enabled' => 'off');
$node->safe_psql('postgres', q{
	CREATE FUNCTION act(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '1'; END $$;
	CREATE FUNCTION wf(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.spawn('ext'); PERFORM romancy.sleep('1 hour'); RETURN romancy.activity('act'); END $$;
	SELECT romancy.define_activity('ext', queue => 'q');
	SELECT romancy.start_workflow('wf');
	CALL romancy.drain()});
my $lock = $node->background_psql('postgres');
$lock->query_safe('BEGIN; LOCK TABLE romancy.t_task IN SHARE MODE');
my ($out, $err) = ('', '');
$node->psql('postgres', q{
	SET statement_timeout = '300ms';
	CALL romancy.drain(advance_time => true);
	SELECT 'goes on';
	BEGIN; SELECT 'in a block'; COMMIT;
	SELECT 'after it'}, on_error_stop => 0, stdout => \$out, stderr => \$err);
like($err, qr/canceling statement due to statement timeout/, 'the end of the instance waits for what is locked: the call fails');
is($out, "goes on\nin a block\nafter it", 'and the session goes on');
unlike($err, qr/aborted|FATAL|server closed/, 'with no transaction that it cannot end');
$lock->query_safe('COMMIT');
is($node->safe_psql('postgres', q{CALL romancy.drain(advance_time => true) \gset
	SELECT status FROM romancy.instances}), 'completed', 'the instance, too');
$lock->quit;
$node->stop;
done_testing();
