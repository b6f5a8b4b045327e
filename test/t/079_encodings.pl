# Databases that are not in UTF-8: what comes in as UTF-8 bytes (headers with %XX, binary bodies, data_base64) becomes text of the database's
# encoding, what that lacks is answered with 400, and other texts go through workflows unchanged. It would catch bytes of one encoding that are
# kept as another's, and an error where an answer is due. Keys of a queue are equal where the numbers are.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('encodings', 'romancy.enabled' => 'off');
local $ENV{PGCLIENTENCODING} = 'UTF8';
my $db;
sub sql { return $node->safe_psql($db, $_[0]) }

# the status of the answer, and, where it is 202, the length and the text of the event's data and type
sub event
{
	my ($arguments) = @_;
	my $answer = sql("SELECT romancy.handle_cloudevent($arguments)");
	my ($status) = $answer =~ /"status": (\d+)/;
	return $status if $status != 202;
	sql('CALL romancy.drain()');
	return "$status " . sql(q{SELECT concat_ws(' ', e ->> 'type', e ->> 'subject', e ->> 'data', length(e ->> 'type' || (e ->> 'data')))
		FROM (SELECT output AS e FROM romancy.instances ORDER BY created_at DESC, instance_id DESC LIMIT 1) x});
}
my $headers = sub { return sprintf(q{'{"ce-specversion": "1.0", "ce-id": "%s", "ce-source": "s", "ce-type": "t", "ce-subject": "%s", "content-type": "application/json"}'}, $_[0], $_[1]) };
my $structured = sub { return sprintf(q{{"specversion":"1.0","id":"%s","source":"s","type":"t","subject":"x",%s}}, @_) };

my %expected = (
	UTF8 => [ '202 t x é 2', '202 t x € 2', '202 t é y 2', '202 t € y 2', '400', '202 t x é 2', '202 t x é€ 3', '400', '202 t x é 2', '202 t é z 2' ],
	LATIN1 => [ '202 t x é 2', '400', '202 t é y 2', '400', '400', '202 t x é 2', '400', '400', '202 t x é 2', '202 t é z 2' ],
	SQL_ASCII => [ '400', '400', '202 t é y 2', '202 t € y 2', undef, '202 t x é 3', '202 t x é€ 6', undef, '202 t x é 3', '202 t é z 2' ]);
for my $encoding (sort keys %expected)
{
	$db = 'postgres';
	sql("CREATE DATABASE \L$encoding\E ENCODING '$encoding' TEMPLATE template0 LOCALE 'C'");
	$db = lc $encoding;
	sql(q{CREATE EXTENSION romancy;
		CREATE FUNCTION takes(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
		BEGIN RETURN (SELECT to_jsonb(e) FROM romancy.wait_event('t') e); END $$;
		CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
		CREATE FUNCTION fails(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.activity('echo', $1), romancy.set_value('é', $1); RAISE EXCEPTION 'é' USING DETAIL = 'é'; END $$});
	my @events = (
		q{'} . $structured->(1, '"data":"\\u00e9"') . q{'},
		q{'} . $structured->(2, '"data":"\\u20ac"') . q{'},
		q{'"y"', } . $headers->(3, '%C3%A9'),
		q{'"y"', } . $headers->(4, '%E2%82%AC'),
		q{'"y"', } . $headers->(5, '%C3'),
		q{null, body_binary => '} . $structured->(6, '"data":"\\303\\251"') . q{'},
		q{null, body_binary => '} . $structured->(7, '"data":"\\303\\251\\342\\202\\254"') . q{'},
		q{null, body_binary => '"\\377"', headers => } . $headers->(8, 'x'),
		q{'} . $structured->(9, '"datacontenttype":"application/json","data_base64":"IsOpIg=="') . q{'},
		q{'"z"', } . $headers->(10, 'é'));
	my $n = 0;
	for my $event (@events)
	{
		my $expected = $expected{$encoding}[ $n++ ];
		next unless defined $expected;
		sql(q{SELECT romancy.start_workflow('takes'); CALL romancy.drain()});
		is(event($event), $expected, "$encoding: event $n");
		sql(q{SELECT romancy.terminate_workflow(instance_id) FROM romancy.instances WHERE finished_at IS NULL; CALL romancy.drain()});
	}
	my $id = sql(q{SELECT romancy.start_workflow('fails', '"é"', idempotency_key => 'é', labels => '{"é": "é"}'); CALL romancy.drain()});
	$id =~ s/\n.*//s;
	is(sql(qq{SELECT error ->> 'message', error ->> 'detail', input, idempotency_key, labels, romancy.get_value(instance_id, 'é') FROM romancy.instances WHERE instance_id = '$id'}),
		'é|é|"é"|é|{"é": "é"}|"é"', "$encoding: texts of a workflow");
	like(sql("SELECT romancy.timeline('$id') || romancy.diagram('$id') || romancy.diagram('$id', 'dot')"), qr/é/, "$encoding: pictures");
}

# keys of a queue: 7, 7.0 and 7.00 are one, and so is the text "7"
$db = 'utf8';
sql(q{SELECT romancy.define_activity('keyed', queue => 'keyed'), romancy.set_queue('keyed', max_concurrency => 1, per_key => 'tenant');
	CREATE FUNCTION keys(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.map('keyed', $1); END $$;
	SELECT romancy.start_workflow('keys', '[{"tenant": 7}, {"tenant": 7.0}, {"tenant": 7.00}, {"tenant": "7"}, {"tenant": 8}, {"tenant": 70}]'); CALL romancy.drain()});
is(sql(q{SELECT string_agg(input ->> 'tenant', ' ' ORDER BY input ->> 'tenant') FROM romancy.fetch_activities('keyed', 'w', 10)}), '7 70 8', 'one task of each key');

$node->stop;
done_testing();
