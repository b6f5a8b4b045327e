# The worker that sends HTTP requests, the outbox and the engine's own events serve all roles. Nothing that a role with usage only does makes them act
# with another's rights: no request to a host that another was allowed, no secret of another namespace, no event of another in its hands, no workflow started as another. Each attack is made by
# a role of the same namespace, one that may only start there, and one of another namespace that has the same names. It would catch a check of the definition's
# owner in place of the instance's, and a name that is looked up without its namespace.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RomancyHttp;
use RomancyTest;
use Test::More;

has_http() or plan skip_all => 'this build has no libcurl';

my $node = romancy_node('borrowed', 'autovacuum' => 'off');
my $http = RomancyHttp->new($node);
my $url = $http->url;
sub sql { return $node->safe_psql('postgres', $_[0]) }
# output and errors of a statement as a role
sub as { my ($role, $sql) = @_; my (undef, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql", extra_params => [ '-U', $role ]); return "$out$err" }
sub runs { my ($role, $workflow, $input) = @_; return as($role, "CALL romancy.run_workflow('$workflow', \$\$$input\$\$, timeout => '60 s')") }
sub nothing_sent { my ($what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return is(scalar($http->requests), 0, "$what: no request") }

sql(qq{
	CREATE ROLE shop LOGIN; CREATE ROLE mate LOGIN; CREATE ROLE starter LOGIN; CREATE ROLE stranger LOGIN;
	SELECT romancy.grant_usage('shop'), romancy.grant_usage('mate', namespace => 'shop'), romancy.grant_usage('starter', namespace => 'shop', define => false), romancy.grant_usage('stranger');
	SELECT romancy.allow_http('shop', '$url/*', private => true), romancy.allow_http('stranger', '$url/open/*', private => true);
	GRANT CREATE ON SCHEMA public TO stranger;
	CREATE TABLE public.ran (what text, who name DEFAULT current_user, namespace text); GRANT ALL ON public.ran TO public;
	CREATE FUNCTION public.charge_flow(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity('charge', i, retry => '{"max_attempts": 1}'); END \$\$;
	CREATE FUNCTION public.charge_spawned(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.await(romancy.spawn('charge', i, retry => '{"max_attempts": 1}')); END \$\$;
	CREATE FUNCTION public.charge_child(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.call_workflow('charge_flow', i); END \$\$;
	CREATE FUNCTION public.ad_hoc(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.http('GET', i->>'url', headers => i->'headers', retry => '{"max_attempts": 1}'); END \$\$;
	CREATE FUNCTION public.fails(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'the secret of the shop'; END \$\$;
	CREATE FUNCTION public.told(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO public.ran (what) VALUES (i::text); RETURN '1'; END \$\$;
	CREATE FUNCTION public.tells(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN romancy.activity('public.told', i); END \$\$;
});
is(as('shop', qq{
	SELECT romancy.set_secret('key', 'tiger-in-the-tank', '127.0.0.1') IS NULL;
	SELECT romancy.define_activity('charge', http => '{"url": "$url/echo", "headers": {"Authorization": "Bearer {{secret:key}}"}, "timeout": "10s"}');
	SELECT romancy.define_destination('billing', event_types => array['invoice.*']);
	SELECT romancy.send_event('invoice.sent', '/shop', '"for billing only"', destination => 'billing') IS NULL}) =~ /ERROR/, '', 'the shop defines');
like(runs('shop', 'charge_flow', '{}'), qr/Bearer \[secret\]/, 'and its own request is sent, with its secret');
my ($first) = $http->requests;
is($first->{headers}{authorization}, 'Bearer tiger-in-the-tank', 'which arrives there');
$http->forget;

# ---------------------------------------------------------------- hosts that another was allowed
for my $role (qw(mate starter))
{
	for my $workflow (qw(charge_flow charge_spawned charge_child))
	{
		like(runs($role, $workflow, '{}'), qr/42501: workflows of role "$role" may not send HTTP requests/, "$role runs the shop's activity ($workflow): refused");
	}
	like(runs($role, 'ad_hoc', qq({"url": "$url/echo"})), qr/42501: workflows of role "$role" may not send HTTP requests/, "$role, from a handler: refused");
	like(as($role, q{SELECT romancy.run_canvas(romancy.task('charge', '{}'))}), qr/^[0-9a-f-]{36}$|42501/m, "$role, by a canvas");
}
poll_until($node, q{SELECT count(*) = 0 FROM romancy.instances WHERE owner IN ('mate', 'starter') AND finished_at IS NULL AND status <> 'paused'}, 'all have ended');
is(sql(q{SELECT count(*) FROM romancy.instances WHERE owner IN ('mate', 'starter') AND status = 'completed'}), 0, 'none has completed');
like(as('mate', qq{SELECT romancy.define_activity('own', http => '{"url": "$url/echo"}')}), qr/42501/, 'mate defines a request of its own: refused');
like(as('starter', qq{SELECT romancy.define_activity('own', http => '{"url": "$url/open/x"}')}), qr/42501/, 'starter defines nothing');
# (a definition is refused by its host, a request by its path as well)
unlike(as('stranger', qq{SELECT romancy.define_activity('charge', http => '{"url": "$url/echo"}')}), qr/ERROR/, 'stranger defines a request to the path that the shop was allowed');
like(runs('stranger', 'charge_flow', '{}'), qr/42501: workflows of role "stranger" may not send HTTP requests/, 'it is not sent');
for my $path ('/open/../echo', '/open/%2e%2e/echo', '/open/..%2fecho', '/OPEN/echo', '//open/echo', '/open\\\\..\\\\echo', '/open/x#/../../echo', '@127.0.0.1/open/')
{
	runs('stranger', 'ad_hoc', qq({"url": "$url$path"}));
}
is(join(' ', grep { !m{^/open/} } map { $_->{path} } $http->requests), '', 'stranger, by other spellings: none leaves its own path');
$http->forget;
like(as('mate', q{SELECT romancy.allow_http('mate', '*')}), qr/42501/, 'mate does not allow itself anything');
nothing_sent('all of these');

# ---------------------------------------------------------------- secrets
like(as('stranger', qq{SELECT romancy.define_activity('steal', http => '{"url": "$url/open/echo", "headers": {"Authorization": "{{secret:key}}"}}')}) . runs('stranger', 'ad_hoc', qq({"url": "$url/open/echo", "headers": {"Authorization": "{{secret:key}}"}})),
	qr/there is no secret "key"/, 'a secret of another namespace is none');
for my $name ('shop/key', '1/key', 'shop.key', '../shop/key', "key' OR '1'='1")
{
	like(runs('stranger', 'ad_hoc', qq({"url": "$url/open/echo", "headers": {"Authorization": "{{secret:$name}}"}})), qr/there is no secret|RM012|RM007|22/, "nor by the name $name");
}
like(as('stranger', q{SET romancy.namespace = 'shop'; SELECT romancy.set_secret('key', 'mine', '127.0.0.1')}), qr/42501/, 'nor is it replaced from outside');
like(as($_, q{SELECT romancy.set_secret('key', 'mine', '127.0.0.1')}), qr/42501/, "nor by $_") for qw(mate starter);
like(as($_, q{SELECT * FROM romancy.t_secret}), qr/42501/, "its table is closed to $_") for qw(shop mate starter stranger);
is(join(' ', grep { /tiger/ } map { $_->{headers}{authorization} // '' } $http->requests), '', 'it has been sent nowhere');
$http->forget;

# ---------------------------------------------------------------- the engine's queue of requests
unlike(as('shop', qq{SELECT romancy.define_activity('slow', http => '{"url": "$url/until/later", "timeout": "120s"}');
	SELECT romancy.run_canvas(romancy.task('slow', '{}'))}), qr/ERROR/, 'the shop starts a request');
poll_until(sub { return scalar(grep { $_->{path} eq '/until/later' } $http->requests) }, 'which is under way');
for my $role (qw(shop mate starter stranger))
{
	for my $queue ('@http', '@http_call', '1/@http', '@')
	{
		my $got = as($role, "SELECT count(*) FROM romancy.fetch_activities('$queue', 'thief', 10, '1 h')");
		like($got, qr/RM012|42501|^0$/m, "$role gets no request out of queue $queue");
	}
	like(as($role, q{SELECT romancy.set_queue('@http', max_concurrency => 1)}), qr/RM012|42501/, "$role does not set its limits");
	like(as($role, q{SELECT romancy.pause_queue('@http')}), qr/RM012|42501/, "nor pauses it");
}
$http->let('later');
poll_until($node, q{SELECT count(*) = 2 FROM romancy.instances WHERE owner = 'shop' AND status = 'completed'}, 'and the shop\'s request comes to its end');

# ---------------------------------------------------------------- the outbox
for my $role (qw(mate starter stranger))
{
	for my $call ("fetch_outbox(10, '1 h')", "fetch_outbox(10, '1 h', 'billing')")
	{
		like(as($role, "SELECT count(*) FROM romancy.$call"), qr/^0$|RM001|42501/m, "$role gets no event of the shop's ($call)");
	}
	is(as($role, q{SELECT count(*) FROM romancy.outbox}), 0, "nor sees one");
	like(as($role, q{SELECT romancy.replay_outbox('{"destination": "billing"}')}), qr/^0$|42501|RM001/m, "nor sends one again");
}
like(as('mate', q{SELECT romancy.define_destination('billing', event_types => array['*'])}), qr/42501/, 'mate does not redefine the destination');
like(as('starter', q{SELECT romancy.define_destination('mine', event_types => array['*'])}), qr/42501/, 'starter defines none');
is(as('shop', q{SELECT count(*) FROM romancy.fetch_outbox(10, '1 h', 'billing')}), 1, 'the shop gets its event');

# ---------------------------------------------------------------- the engine's own events
as('stranger', q{SELECT romancy.define_destination('all', event_types => array['*', 'romancy.*', 'invoice.*']),
	romancy.define_workflow('tells', handler => 'public.tells', on_event => 'romancy.workflow.failed')});
like(as('starter', q{SELECT romancy.define_workflow('tells', handler => 'public.tells', on_event => 'romancy.workflow.failed')}), qr/42501/, 'starter defines no workflow on an event');
like(runs('shop', 'fails', '{}'), qr/the secret of the shop/, 'a workflow of the shop fails');
like(as('shop', q{SELECT romancy.raise_event('romancy.workflow.failed', '/forged', '"forged"') IS NULL; SELECT romancy.send_event('invoice.sent', '/shop', '"2"', destination => 'billing') IS NULL}), qr/f/, 'and it raises events of these types');
# what comes after it in its own namespace shows that what is to come has come
like(runs('stranger', 'fails', '{}'), qr/the secret of the shop/, 'one of the stranger\'s own fails');
poll_until($node, q{SELECT count(*) >= 1 FROM public.ran}, 'its own failure is told to it');
is(sql(q{SELECT string_agg(DISTINCT who, ' ') FROM public.ran}), 'stranger', 'to it alone, as itself');
is(sql(q{SELECT count(*) FROM public.ran WHERE what ~ 'forged|"namespace": "shop"'}), 0, 'and nothing of the shop\'s');
is(as('stranger', q{SELECT count(*) FROM romancy.outbox WHERE data::text ~ '"namespace": "shop"' OR source = '/shop'}), 0, 'nor in its outbox');
cmp_ok(as('stranger', q{SELECT count(*) FROM romancy.fetch_outbox(100, '1 h', 'all')}), '>=', 1, 'which has its own');
is(sql(q{SELECT count(*) FROM romancy.instances WHERE workflow = 'tells' AND owner <> 'stranger'}), 0, 'no workflow was started as another');

unlike(slurp_file($node->logfile), qr/TRAP:|PANIC|terminated by signal|XX000/, 'the log is clean');
$http->stop;
$node->stop;
done_testing();
