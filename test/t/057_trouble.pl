# An error of the engine itself (here: in a trigger that a DBA put on its
# tables) is recorded with the instance and shown; the instance is tried again
# with growing delays, and after ten tries it is paused, and continues with resume_workflow. A cancel from
# outside is none of this. It would catch an instance that fails for ever in silence.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('trouble', 'romancy.retry_backoff_max' => '20ms');

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

sql(q{
	CREATE FUNCTION echo(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
	CREATE FUNCTION keeps(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.activity('echo', '1'), romancy.set_value('k', $1), romancy.activity('echo', '2'); RETURN '"kept"'; END $$;
	CREATE FUNCTION spawns(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.await(romancy.spawn('echo', '1', activity_id => 'spawned')); END $$;
	CREATE TABLE broken (message text, code text);
	GRANT SELECT ON broken TO public;
	CREATE FUNCTION breaks() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE b record;
	BEGIN
		FOR b IN SELECT * FROM public.broken LOOP RAISE EXCEPTION USING message = b.message, errcode = b.code; END LOOP;
		RETURN coalesce(NEW, OLD);
	END $$;
	CREATE TRIGGER breaks BEFORE INSERT OR UPDATE ON romancy.t_value FOR EACH ROW EXECUTE FUNCTION breaks();
	INSERT INTO broken VALUES ('the table is broken', 'XX001');
});

# goes_on($what): the instance completes, resumed where its ten tries were over before
sub goes_on
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return poll_until(sub {
		my $status = sql(qq{SELECT status FROM romancy.instances WHERE instance_id = '$main::id'});
		sql(qq{SELECT romancy.resume_workflow('$main::id')}) if $status eq 'paused';
		return $status eq 'completed';
	}, $what);
}

our $id = sql(q{SELECT romancy.start_workflow('keeps', '7')});
poll_until($node, qq{SELECT status = 'paused' FROM romancy.instances WHERE instance_id = '$id'}, 'after ten tries it is paused');
is(sql(qq{SELECT error ->> 'message', error ->> 'sqlstate', error ? 'tries' FROM romancy.instances WHERE instance_id = '$id'}), 'the table is broken|XX001|f', 'with the error');
is(sql(qq{SELECT paused_by FROM romancy.waiting WHERE instance_id = '$id'}), 'romancy', 'by the engine');
my @tries = slurp_file($node->logfile) =~ /turn of workflow instance $id failed: the table is broken/g;
is(scalar(@tries), 9, 'it was tried ten times, and after nine of them again');
sql(qq{SELECT romancy.resume_workflow('$id')});
poll_until(sub { scalar(() = slurp_file($node->logfile) =~ /instance $id failed: the table is broken/g) == 18 }, 'resumed, it is tried ten times again');
poll_until($node, qq{SELECT status = 'paused' FROM romancy.instances WHERE instance_id = '$id'}, 'and paused again');
is(sql(qq{SELECT count(*) FROM romancy.t_inbox WHERE instance_id = '$id'}), '0', 'what asked to resume it is used up');
sql(qq{DELETE FROM broken; SELECT romancy.resume_workflow('$id')});
poll_until($node, qq{SELECT status = 'completed' AND output = '"kept"' AND error IS NULL FROM romancy.instances WHERE instance_id = '$id'}, 'mended and resumed, it completes');

# it survives the process, and is over when a turn is saved
sql(q{INSERT INTO broken VALUES ('again', 'XX001')});
$id = sql(q{SELECT romancy.start_workflow('keeps', '7')});
poll_until($node, qq{SELECT (error ->> 'tries')::int > 1 OR status = 'paused' FROM romancy.instances WHERE instance_id = '$id'}, 'another fails');
$node->restart;
sql(q{DELETE FROM broken});
goes_on('after a restart it goes on');

# what time mends is tried for ever
sql(q{INSERT INTO broken VALUES ('no room', '53100')});
$id = sql(q{SELECT romancy.start_workflow('keeps', '7')});
poll_until($node, qq{SELECT (error ->> 'tries')::int > 12 AND status = 'pending' FROM romancy.instances WHERE instance_id = '$id'}, 'a full disk does not pause');
is(sql(qq{SELECT error ->> 'message' = 'no room' AND error ->> 'sqlstate' = '53100' AND attempt > 12 AND until IS NOT NULL FROM romancy.waiting WHERE instance_id = '$id'}), 't',
	'the error and the number of tries are shown while it is tried again');
is(sql(q{SELECT romancy.health() -> 'attention' ->> 0}), q{1 instance is tried again after errors of the engine: see romancy.waiting, error ? 'tries'}, 'health() names it');
like(sql('SELECT romancy.metrics()'), qr/^romancy_engine_error_instances 1$/m, 'and so does metrics()');
sql(q{DELETE FROM broken});
poll_until($node, qq{SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$id'}, 'room again, it completes');
is(sql(q{SELECT romancy.health() ->> 'engine_errors'}), '0', 'and is named no more');

# an error that cannot be written either, as on a full disk
sql(q{INSERT INTO broken VALUES ('no room', '53100'); CREATE TRIGGER breaks BEFORE UPDATE ON romancy.t_instance FOR EACH ROW EXECUTE FUNCTION breaks()});
$id = sql(q{SELECT romancy.start_workflow('keeps', '7')});
poll_until($node, q{SELECT romancy.health() ->> 'attention' ~ 'turns fail, and their errors cannot be written: SQLSTATE 53100 at .*, see romancy.waiting and the server''s log'}, 'health() tells of an error that cannot be written');
poll_until($node, qq{SELECT concat_ws(' ', error ->> 'message', error ->> 'sqlstate', error ->> 'unwritten', attempt = (error ->> 'tries')::int, attempt > 1, until IS NOT NULL) FROM romancy.waiting WHERE instance_id = '$id'},
	'so does waiting', expected => 'no room 53100 53100 t t t');
is(sql(q{SELECT count(*) FROM romancy.waiting WHERE error ? 'unwritten'}), '1', 'for that instance alone');
sql(q{DROP TRIGGER breaks ON romancy.t_instance; DELETE FROM broken});
poll_until($node, qq{SELECT status = 'completed' FROM romancy.instances WHERE instance_id = '$id'}, 'and then it completes, too');

# a task's
sql(q{INSERT INTO broken VALUES ('tasks are broken', 'XX001')});
sql(q{CREATE FUNCTION breaks_on(step text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
	DECLARE b record;
	BEGIN
		FOR b IN SELECT * FROM public.broken WHERE step = 'spawned' LOOP RAISE EXCEPTION USING message = b.message, errcode = b.code; END LOOP;
		RETURN step;
	END $$;
	CREATE INDEX breaks ON romancy.t_inbox (breaks_on(step))});
$id = sql(q{SELECT romancy.start_workflow('spawns', '7')});
poll_until($node, qq{SELECT error ->> 'message' = 'tasks are broken' FROM romancy.waiting WHERE instance_id = '$id'}, 'what fails in a task of it is shown, too');
sql(q{DELETE FROM broken});
goes_on('mended, it completes');
sql(q{DROP INDEX romancy.breaks; DROP TRIGGER breaks ON romancy.t_value});

# texts that go into an index have their limits
my ($rc, $out, $err) = $node->psql('postgres', q{SET search_path TO } . join(',', 'public', map { "a_schema_of_a_rather_long_name_$_" } 1 .. 80) . q{; SELECT romancy.start_workflow('echo', '1')});
like($err, qr/ERROR:  search_path has \d+ bytes, the limit is 2000/, 'a search_path');
sql(q{CREATE FUNCTION long_key(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN PERFORM romancy.set_value((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 100) i), '1'); RETURN '1';
	EXCEPTION WHEN OTHERS THEN RETURN to_jsonb(SQLSTATE || ' ' || SQLERRM); END $$});
$id = sql(q{SELECT romancy.start_workflow('long_key')});
poll_until($node, qq{SELECT output #>> '{}' FROM romancy.instances WHERE instance_id = '$id'}, 'the key of set_value', expected => 'RM012 argument "key" must not exceed 2000 bytes');

$node->stop('fast');
done_testing();
