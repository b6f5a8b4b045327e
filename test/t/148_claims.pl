# A claim reads rows without the executor, and keeps what a statement would do: in a REPEATABLE READ transaction an instance that another session has
# run since the snapshot is error 40001 (not its newest row beside an older inbox and history); one that is locked is passed over; requests in the inbox come in
# their order; indexes that are made anew under a session, or between two instances of its drain, are found. A time of a message comes out of a replay as it
# went in, in whatever zone it was written down. It would catch a claim that mixes snapshots, an oid that is kept too long, and a time that is read otherwise
# than the server reads it. A limit that an activity gets or loses, in another session or in a transaction that is rolled back, holds for the next fetch.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyTest;
use Test::More;

my $node = romancy_node('claims', 'romancy.enabled' => 'off', 'autovacuum' => 'off');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{
	CREATE FUNCTION quick(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$;
	CREATE FUNCTION hears(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE m romancy.message;
	BEGIN
		PERFORM romancy.subscribe('news');
		m := romancy.receive('news');
		PERFORM romancy.receive('more');
		RETURN to_jsonb(extract(epoch FROM m.published_at));
	END $$;
});

sub status { return sql("SELECT status FROM romancy.instances WHERE instance_id = '$_[0]'") }

# Another session's turn since the snapshot
my $id = sql(q{SELECT romancy.start_workflow('quick')});
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM romancy.instances');
sql('CALL romancy.drain()');
is(status($id), 'completed', 'another session has run it');
$session->query('CALL romancy.drain()');
like($session->{stderr}, qr/could not serialize access due to concurrent update/, 'which an older snapshot does not see, and is told');
$session->{stderr} = '';
$session->query('ROLLBACK');

# One that is locked, beside one that is not
my ($held, $free) = (sql(q{SELECT romancy.start_workflow('quick')}), sql(q{SELECT romancy.start_workflow('quick')}));
$session->query_safe("BEGIN; SELECT 1 FROM romancy.t_instance WHERE instance_id = '$held' FOR UPDATE");
sql('CALL romancy.drain()');
is(status($held), 'pending', 'a row that another transaction holds is passed over');
is(status($free), 'completed', 'the others are run');
$session->query_safe('COMMIT');
sql('CALL romancy.drain()');
is(status($held), 'completed', 'and it is run when it is free');

# The order of the inbox
$id = sql(q{SELECT romancy.start_workflow('hears')});
sql('CALL romancy.drain()');
sql("SELECT romancy.pause_workflow('$id'), romancy.resume_workflow('$id'), romancy.pause_workflow('$id')");
sql('CALL romancy.drain()');
is(status($id), 'paused', 'requests are applied in the order in which they came');
sql("SELECT romancy.cancel_workflow('$id')");
sql('CALL romancy.drain()');
is(status($id), 'cancelled', 'also one that comes later');

# Indexes of another oid, under a session that has used them, and in the middle of a drain
$session->query_safe('CALL romancy.drain()');
for my $index (qw(t_instance_pkey t_inbox_pkey))
{
	sql("REINDEX INDEX CONCURRENTLY romancy.$index");
	$id = sql(q{SELECT romancy.start_workflow('quick')});
	$session->query_safe('CALL romancy.drain()');
	is(status($id), 'completed', "after $index was made anew");
}
sql(q{
	CREATE FUNCTION remakes(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN REINDEX INDEX romancy.t_inbox_pkey; RETURN NULL; END $$;
	CREATE FUNCTION remaker(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('remakes'); END $$;
});
my @ids = map { sql("SELECT romancy.start_workflow('$_')") } qw(quick remaker quick remaker quick);
$session->query_safe('CALL romancy.drain()');
is(join(' ', map { status($_) } @ids), join(' ', ('completed') x 5), 'an index that a member makes anew is used by those after it');
$session->quit;

# A limit that an activity gets between two fetches of a session, and loses
sql(q{SELECT romancy.define_activity('fetched', queue => 'fetched_q')});
sql(q{SELECT romancy.run_canvas(romancy.group(variadic array(SELECT romancy.task('fetched', to_jsonb(g)) FROM generate_series(1, 9) g)))});
sql('CALL romancy.drain()');
my $fetch = q{SELECT count(*) FROM romancy.fetch_activities('fetched_q', 'w', %d, '1 h')};
$session = $node->background_psql('postgres');
is($session->query_safe(sprintf($fetch, 1)), 1, 'a fetch of a queue without limits');
is($session->query_safe(sprintf($fetch, 1)), 1, 'and another one');
sql(q{SELECT romancy.define_activity('fetched', queue => 'fetched_q', max_concurrency => 4)});
is($session->query_safe(sprintf($fetch, 9)), 2, 'a limit that another session sets holds for the next one');
is($session->query_safe(sprintf($fetch, 9)), 0, 'and those after it');
$session->query_safe('BEGIN');
$session->query_safe(q{SELECT romancy.define_activity('fetched', queue => 'fetched_q')});
is($session->query_safe(sprintf($fetch, 1)), 1, 'without it, in this transaction');
$session->query_safe('ROLLBACK');
is($session->query_safe(sprintf($fetch, 9)), 0, 'which is rolled back: the limit holds');
$session->quit;

# Times: each zone writes the same instant in another way
for my $zone ('UTC', 'Asia/Kolkata', 'America/St_Johns', 'Pacific/Kiritimati', '<X>+12', 'Europe/Berlin', '<X>-05:45')
{
	sql("ALTER ROLE postgres SET timezone = '$zone'");
	$id = sql(q{SELECT romancy.start_workflow('hears')});
	sql('CALL romancy.drain()');
	my $message = sql(q{SELECT romancy.publish('news', '1')});
	my $epoch = sql("SELECT extract(epoch FROM published_at) FROM romancy.t_message WHERE id = $message");
	sql('CALL romancy.drain()');
	sql(q{SELECT romancy.send_to('} . $id . q{', 'more', '1')});
	sql('CALL romancy.drain()');
	is(sql("SELECT output = to_jsonb('$epoch'::numeric) FROM romancy.instances WHERE instance_id = '$id'"), 't', "a message's time, written in $zone");
}

done_testing();
