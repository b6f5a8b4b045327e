# raise_terminal with a message and a detail of 60 MB each: they are cut, with a mark, before they are copied. It would catch
# a process that takes a multiple of the memory that the texts themselves have.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('terminal', 'romancy.enabled' => 'off', 'jit' => 'off');
plan skip_all => 'no /proc' unless -r '/proc/self/status';
$node->safe_psql('postgres', q{
	CREATE TABLE args (message text, detail jsonb);
	INSERT INTO args VALUES (repeat('m', 60000000), to_jsonb(repeat('d', 60000000)));
	CREATE FUNCTION ends(i jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT romancy.raise_terminal(message, detail) FROM args $$;
	CREATE FUNCTION calls(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('ends'); END $$;
	SELECT romancy.start_workflow('calls')});

# in a session of its own, whose most memory is that of the call
my ($most) = $node->safe_psql('postgres', q{CALL romancy.drain(); SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s+(\d+) kB')}) =~ /(\d+)\s*$/;
is($node->safe_psql('postgres', q{SELECT status || ' ' || (error ->> 'sqlstate') || ' ' || right(error ->> 'message', 33) || ' ' || right(error ->> 'detail', 33) FROM romancy.instances}),
	'failed RM007 m... (cut: it had 60000000 bytes) d... (cut: it had 60000002 bytes)', 'both are cut, and say so');
# (the two texts, the detail as JSON and as text with the room that a text which grows has)
cmp_ok($most / 1024, '<', 480, 'and take no more memory than they must');

done_testing;
