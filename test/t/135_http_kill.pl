# The process that sends requests, and the server, are killed (SIGKILL) under load, round after round, while the receiver fails now and then: declared HTTP activities, calls of
# spawn_http, tasks of queues with a push_url, answers and calls with a token. Each step of a workflow whose start committed has one outcome, its own; none of
# another one is sent; all attempts of a step have one key, and each a token of its own. It would catch a request that is lost with its process, or sent before its claim is
# on disk, an outcome that is recorded twice or for another step, a lease that nothing ends, a place of a limit that stays taken, and a worker that does not come back.
# Takes 65 s.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancyLoad;
use RomancyTest;
use Test::More;

has_http() or plan skip_all => 'this build has no libcurl';

my $rounds = $ENV{ROMANCY_HTTP_KILLS} // 6;
my $node = romancy_node('http_kill', 'max_worker_processes' => 12, 'restart_after_crash' => 'on', 'synchronous_commit' => 'on', 'romancy.worker_idle_timeout' => '10s',
	'romancy.sweep_jitter' => 0, map({ ("romancy.${_}_interval" => '1s') } qw(resumption lock_cleanup activity_timeout)));
my $http = RomancyHttp->new($node);
my $url = $http->url;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub try { return eval { sql($_[0]) } // '' }

my $retry = q('{"initial_interval": "10ms", "max_interval": "100ms", "max_attempts": 0, "max_duration": null}');
sql(qq{
	SELECT romancy.allow_http('postgres', '$url/*', private => true), romancy.set_secret('sig', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', '127.0.0.1');
	SELECT romancy.define_activity('declared', http => '{"url": "$url/loaded/declared"}', retry => $retry, max_concurrency => 10),
		romancy.define_activity('called_back', http => '{"url": "$url/loaded/callback", "callback": true}', retry => $retry),
		romancy.define_activity('pushed', queue => 'pushed', retry => $retry), romancy.define_activity('taken', queue => 'taken', retry => $retry);
	SELECT romancy.set_queue('pushed', push_url => '$url/loaded/pushed', max_concurrency => 10, signing_secret => 'sig'), romancy.set_queue('taken', push_url => '$url/loaded/callback');
	CREATE TABLE started (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, instance_id uuid NOT NULL);
	CREATE FUNCTION mixed(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
	DECLARE handles text[] := ARRAY[romancy.spawn_http('POST', '$url/loaded/ad_hoc', i, retry => $retry)];
	BEGIN
		RETURN to_jsonb(cardinality(romancy.await_all(handles || ARRAY(SELECT romancy.spawn(a, i) FROM unnest(ARRAY['declared', 'called_back', 'pushed', 'taken']) a))));
	END \$\$;
	SELECT romancy.define_workflow('mixed', 'mixed(jsonb)');
	CREATE FUNCTION start_one() RETURNS void LANGUAGE plpgsql AS \$\$
	DECLARE next bigint := nextval('started_n_seq');
	BEGIN
		INSERT INTO started OVERRIDING SYSTEM VALUE VALUES (next, romancy.start_workflow('mixed', to_jsonb(next)));
	END \$\$;
});
my $load = RomancyLoad->new($node, map { ("starts$_" => RomancyLoad::transactions('SELECT start_one()')) } 1 .. 2);

# what the receiver has noted, as it comes: all requests, by key; the tokens of attempts, and attempts of tokens; those that it has taken; tokens that are not used yet
my (%attempts, %tokens, %inputs, %taken, %calls);
my ($taken, $place) = (0, 0);
sub look
{
	open my $fh, '<', $http->{log} or die "$http->{log}: $!";
	seek $fh, $place, 0;
	while (my $line = <$fh>)
	{
		last unless $line =~ /\n\z/;
		$place += length $line;
		my $note = JSON::PP::decode_json($line);
		my ($key, $token) = @{ $note->{headers} // next }{qw(idempotency-key romancy-callback)};
		my ($id, $step) = split m{/}, $key;
		if ($note->{ok})
		{
			$taken++;
			$taken{$key} = 1;
			$calls{$token} = $key if $note->{path} =~ /callback/;
			next;
		}
		$attempts{$key}++;
		$tokens{"$key $1"}{$token} = $tokens{$token}{"$key $1"} = 1 if $note->{body} =~ /"attempt": (\d+)/;
		# (a task of a queue is a document with its input in it)
		my ($n) = $note->{body} =~ /^(\d+)$|"input": (\d+)/ ? $1 // $2 : 'no input';
		$inputs{ $step =~ s/:\d+$//r }{$n}{$key} = 1;
	}
	close $fh;
	return;
}
# the receiver calls back; a call that may not have been committed is made again
sub call_back
{
	look();
	my @now = sort keys %calls or return;
	my $list = join ',', map { "('$_', '{\"key\": \"$calls{$_}\"}'::jsonb)" } @now;
	delete @calls{@now} if try("SELECT count(romancy.complete_activity(token, result)) FROM (VALUES $list) v (token, result)") ne '';
	return;
}

my %killed;
for my $round (1 .. $rounds)
{
	my $before = $taken;
	poll_until(sub { $load->keep_running; call_back(); return $taken > $before + 20 }, "round $round: requests are taken");
	if ($round % 2 == 0)
	{
		$node->kill9;
		start_again($node);
		$killed{server}++;
		next;
	}
	my $sender = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'romancy http'};
	my $pid = '';
	poll_until(sub { $load->keep_running; $pid = try($sender); return $pid ne '' && kill 'KILL', $pid }, "round $round: the process is killed");
	# the postmaster has ended the others, too: a lock of the killed one's would keep them for ever if it were killed before that
	poll_until(sub { $load->keep_running; my $now = try($sender); return $now ne '' && $now ne $pid }, "round $round: another one is there");
	$killed{worker}++;
}
$load->stop;
is(join(' ', map { $killed{$_} // 0 } qw(worker server)), join(' ', $rounds - int($rounds / 2), int($rounds / 2)), 'the process that sends, and the server, were killed');

poll_until(sub { call_back(); return try(q{SELECT count(*) FROM romancy.instances WHERE finished_at IS NULL}) eq '0' }, 'all end');
is(sql(q{SELECT count(*) FROM started s FULL JOIN romancy.instances i USING (instance_id) WHERE s.n IS NULL OR i.input IS DISTINCT FROM to_jsonb(s.n) OR i.status <> 'completed' OR i.output <> '5'}), 0,
	'each workflow that was started, and no other, well');
my $outcomes = q{started s, romancy.get_history(s.instance_id) h WHERE h.event_type IN ('ActivityCompleted', 'ActivityFailed')};
is(sql("SELECT count(*) - 5 * (SELECT count(*) FROM started), count(*) - count(DISTINCT (s.instance_id, h.activity_id)), count(*) FILTER (WHERE h.event_type = 'ActivityFailed') FROM $outcomes"), '0|0|0', 'each step has one outcome');
is(sql("SELECT count(*) FROM $outcomes AND coalesce(h.data -> 'result' -> 'body', h.data -> 'result') ->> 'key' IS DISTINCT FROM s.instance_id || '/' || h.activity_id"), 0, 'its own');
look();
my $expected = join ' ', sort split /\n/, sql("SELECT s.instance_id || '/' || h.activity_id FROM $outcomes");
ok(join(' ', sort keys %taken) eq $expected, 'the receiver has taken each');
ok(join(' ', sort keys %attempts) eq $expected, 'and had no other request');
my $numbers = join ' ', sort split /\n/, sql('SELECT n FROM started');
for my $step (sort keys %inputs)
{
	ok(join(' ', sort keys %{ $inputs{$step} }) eq $numbers, "$step: once for each workflow");
	is(scalar(grep { keys %$_ > 1 } values %{ $inputs{$step} }), 0, "$step: all attempts have one key");
}
is(scalar(keys %inputs), 5, 'of five kinds');
is(scalar(grep { keys %$_ > 1 } values %tokens), 0, 'each attempt of a task of a queue has a token of its own');
is(sql(q{SELECT count(*) FROM romancy.activity_tasks}), 0, 'no task is left');
is(sql(q{SELECT coalesce(sum(running), 0) FROM romancy.queues}), 0, 'none is counted as running');
my $again = 0;
$again += $_ - 1 for values %attempts;
note(scalar(keys %attempts), " requests, $again again; killed: ", join(', ', map { "$_ $killed{$_}" } sort keys %killed));

# Of both limits all places are free: ten requests of each are under way, and others when these have ended
$node->append_conf('postgresql.conf', "romancy.http_timeout = '10min'");
$node->reload;
sql(qq{
	SELECT romancy.define_activity('declared', http => '{"url": "$url/until/places"}', retry => $retry, max_concurrency => 10), romancy.set_queue('pushed', push_url => '$url/until/places', max_concurrency => 10, signing_secret => 'sig');
	CREATE FUNCTION of_each(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN to_jsonb(cardinality(romancy.await_all(ARRAY[romancy.spawn('declared', i), romancy.spawn('pushed', i)]))); END \$\$;
	SELECT romancy.start_workflow('of_each', to_jsonb(n)) FROM generate_series(1, 11) n});
sub under_way { return scalar grep { ($_->{path} // '') eq '/until/places' } $http->requests }
poll_until(sub { under_way() == 20 }, 'ten requests of each limit are under way');
$http->let('places');
poll_until($node, q{SELECT count(*) FROM romancy.instances WHERE workflow = 'of_each' AND status = 'completed'}, 'all of them end', expected => 11);
is(under_way(), 22, 'each was sent once');

$http->stop;
$node->stop('fast');
done_testing();
