-- Names belong to a namespace: a role that has usage, and nothing else, gains no rights, no
-- messages and no influence by taking names that others use. It would catch a name that is looked up
-- without its namespace, and a session or an instance that is in the wrong one.
BEGIN;
SELECT no_plan();

CREATE ROLE shop;
CREATE ROLE intruder;
CREATE ROLE member IN ROLE shop;
SELECT romancy.grant_usage('shop'), romancy.grant_usage('intruder');
GRANT CREATE, USAGE ON SCHEMA public TO shop, intruder, member;

-- The result of a role's statement: the first column of its first row, or SQLSTATE and message
CREATE FUNCTION as_role(role name, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text;
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE sql INTO r;
	PERFORM set_config('role', 'none', true);
	RETURN r;
EXCEPTION WHEN OTHERS THEN RETURN sqlstate || ' ' || sqlerrm;
END $$;
CREATE FUNCTION state_of(role name, sql text) RETURNS text LANGUAGE sql AS $$ SELECT left(as_role(role, sql), 5) $$;

CREATE TABLE ran (who name, what text);
GRANT ALL ON ran TO PUBLIC;

-- ------------------------------------------------------------ definitions
CREATE SCHEMA super;
CREATE FUNCTION super.send_mail(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user, 'send_mail'); RETURN '"sent"'; END $$;
CREATE FUNCTION super.tour(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 hour'); RETURN romancy.activity('send_mail'); END $$;
CREATE FUNCTION super.qualified(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.sleep('1 hour'); RETURN romancy.activity('super.send_mail'); END $$;
SET search_path = super, public;
SELECT romancy.start_workflow('tour') AS tour \gset
SELECT romancy.start_workflow('qualified') AS qualified \gset
CALL romancy.drain();

SET ROLE intruder;
CREATE FUNCTION evil(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user, 'evil'); RETURN '"evil"'; END $$;
SELECT romancy.define_activity('send_mail', handler => 'evil(jsonb)');
SELECT romancy.define_activity('super.send_mail', queue => 'nowhere');
SELECT romancy.define_workflow('tour', handler => 'evil(jsonb)');
RESET ROLE;
CALL romancy.drain(advance_time => true);
SELECT results_eq('SELECT what FROM ran ORDER BY 1', $$ VALUES ('send_mail'), ('send_mail') $$, 'a running workflow calls its own activities, not those that another defined meanwhile');
SELECT is((SELECT string_agg(output #>> '{}', ' ') FROM romancy.instances), 'sent sent', 'and has their results');
SELECT romancy.start_workflow('tour') AS tour2 \gset
SELECT is((SELECT version FROM romancy.instances WHERE instance_id = :'tour2'), (SELECT version FROM romancy.instances WHERE instance_id = :'tour'), 'the next start is of its own, too');
SELECT is(w.handler, 'super.tour(jsonb)', 'with its own handler') FROM romancy.t_workflow w JOIN romancy.t_instance i USING (def_id) WHERE i.instance_id = :'tour2';
SELECT is(romancy.define_workflow('tour', handler => 'super.tour(jsonb)'), 1, 'a name that another has is free here');
SELECT is((SELECT array_agg(namespace || ' ' || owner ORDER BY namespace) FROM romancy.workflows WHERE name = 'tour' AND defined),
	ARRAY['intruder intruder', 'postgres postgres'], 'each namespace has its own');
SELECT lives_ok($$ SELECT romancy.drop_workflow('tour') $$, 'dropping one');
SELECT is((SELECT array_agg(namespace) FROM romancy.workflows WHERE name = 'tour' AND defined), ARRAY['intruder'], 'leaves the other');
RESET search_path;

-- ------------------------------------------------------------ messages
-- Each pair of roles has its own: a subscriber of the other's kind does not pin a channel's mode,
-- nor read, nor take; an id of an event suppresses nothing; a group has no other role's members.
SET ROLE shop;
CREATE FUNCTION s_broadcast(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.subscribe('news', 'broadcast'); RETURN (romancy.receive('news')).data; END $$;
CREATE FUNCTION s_event(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN (romancy.wait_event('order.paid')).data; END $$;
CREATE FUNCTION s_approval(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.join_group('approvals'); RETURN (romancy.receive('decision')).data; END $$;
RESET ROLE;
SET ROLE intruder;
CREATE FUNCTION i_competing(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.subscribe('news', 'competing'); RETURN (romancy.receive('news')).data; END $$;
CREATE FUNCTION i_broadcast(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM romancy.subscribe('orders', 'broadcast'); RETURN (romancy.receive('orders')).data; END $$;
CREATE FUNCTION i_members(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb((SELECT count(*) FROM romancy.group_members('approvals'))); END $$;
SELECT romancy.start_workflow('i_competing') AS i_competing, romancy.start_workflow('i_broadcast') AS i_broadcast \gset
CALL romancy.drain();
RESET ROLE;
SET ROLE shop;
SELECT romancy.start_workflow('s_broadcast') AS s_broadcast, romancy.start_workflow('s_event') AS s_event, romancy.start_workflow('s_approval') AS s_approval \gset
CALL romancy.drain();
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'s_broadcast'), 'waiting_for_message', 'another''s mode of a channel of that name is not in the way');
SELECT romancy.publish('orders', '"secret"');
RESET ROLE;
SELECT is(as_role('intruder', $$ SELECT romancy.raise_event('order.paid', 'bank', '"forged"', id => '1') $$), '1', 'an event of the intruder''s');
SELECT romancy.publish('news', '"forged"');
SET ROLE intruder;
SELECT romancy.publish('news', '"forged"');
SELECT romancy.start_workflow('i_members') AS i_members \gset
CALL romancy.drain();
RESET ROLE;
SET ROLE shop;
CALL romancy.drain();
RESET ROLE;
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'s_broadcast'), 'waiting_for_message', 'receives nothing that others publish');
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'s_event'), 'waiting_for_message', 'nor their events');
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'i_broadcast'), 'waiting_for_message', 'a broadcast subscriber reads only its own namespace''s');
SELECT is((SELECT output FROM romancy.instances WHERE instance_id = :'i_members'), '0', 'a group has the members of its namespace, in a handler');
SELECT is(as_role('intruder', $$ SELECT count(*) FROM romancy.group_members('approvals') $$), '0', 'and outside');
SELECT is(as_role('shop', $$ SELECT count(*) FROM romancy.group_members('approvals') $$), '1', 'its own see them');
SELECT is(state_of('intruder', format($$ SELECT romancy.send_to(%L, 'decision', '"approved"') $$, :'s_approval')), 'RM002', 'no message is sent to an instance of another namespace');
SELECT is(as_role('intruder', format($$ SELECT romancy.raise_event('decision', 's', '"approved"', instance_id => %L) IS NOT NULL $$, :'s_approval')), 'true', 'an event for it is ignored');
SELECT is(as_role('shop', $$ SELECT romancy.raise_event('order.paid', 'bank', '"real"', id => '1') $$), '1', 'the real event, of an id that the intruder used');
SELECT isnt(as_role('shop', $$ SELECT romancy.publish('news', '"own"') $$), NULL, 'the real message');
SET ROLE shop;
CALL romancy.drain();
SELECT is((SELECT output FROM romancy.instances WHERE instance_id = :'s_event'), '"real"', 'arrives');
SELECT is((SELECT output FROM romancy.instances WHERE instance_id = :'s_broadcast'), '"own"', 'arrives, too');
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'s_approval'), 'waiting_for_message', 'and no approval is forged');
RESET ROLE;
SET ROLE intruder;
SELECT romancy.define_workflow('starts', handler => 'evil(jsonb)', on_event => 'order.paid');
RESET ROLE;
SELECT isnt(as_role('shop', $$ SELECT romancy.raise_event('order.paid', 'bank', '"secret"') $$), NULL, 'an event');
SELECT is((SELECT count(*) FROM romancy.instances WHERE workflow = 'starts'), 0::bigint, 'starts no workflow of another namespace');

-- ------------------------------------------------------------ queues
SET ROLE shop;
SELECT romancy.define_activity('pick', queue => 'depot');
CREATE FUNCTION s_pick(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('pick', $1); END $$;
SELECT romancy.start_workflow('s_pick', '1') AS s_pick \gset
CALL romancy.drain();
RESET ROLE;
SELECT is(as_role('intruder', $$ SELECT romancy.pause_queue('depot') $$), '', 'the intruder pauses its own queue of that name');
SELECT is(as_role('intruder', $$ SELECT romancy.set_queue('depot', 1, '1/h', per_key => 'x') $$), '', 'and limits it');
SELECT is(as_role('intruder', $$ SELECT count(*) FROM romancy.fetch_activities('depot', 'w') $$), '0', 'it gets nothing there');
SELECT is((SELECT string_agg(namespace || ' ' || paused, ', ' ORDER BY namespace) FROM romancy.queues WHERE name = 'depot'), 'intruder true, shop false', 'the other''s is not paused');
SELECT is(as_role('shop', $$ SELECT romancy.set_queue('depot', 5) $$), '', 'whose owner sets what he likes');
SELECT is(as_role('shop', $$ SELECT romancy.complete_activity(token, '"picked"') FROM romancy.fetch_activities('depot', 'w') $$), 'true', 'and fetches');
SELECT is((SELECT queue FROM romancy.pollers WHERE owner = 'shop'), 'depot', 'names are shown as they are') WHERE current_setting('shared_preload_libraries') ~ 'romancy';
SELECT is((SELECT count(*) FROM romancy.activity_tasks WHERE queue = 'depot'), 0::bigint, 'nothing is left');
SET ROLE shop;
CALL romancy.drain();
RESET ROLE;
SELECT is((SELECT output FROM romancy.instances WHERE instance_id = :'s_pick'), '"picked"', 'it goes on');

-- ------------------------------------------------------------ which one a session is in
SELECT is(as_role('shop', 'SELECT namespace FROM romancy.namespaces WHERE is_current'), 'shop', 'one grant: that one');
SELECT is(as_role('member', 'SELECT romancy.t_namespace_current()'), 'shop', 'a member of a role is in the role''s');
SELECT is(as_role('postgres', 'SELECT romancy.t_namespace_current()'), 'postgres', 'a superuser is in the one of his name');
SELECT romancy.grant_usage('shop', namespace => 'annex');
SELECT is(as_role('shop', 'SELECT romancy.t_namespace_current()'), 'shop', 'several: the one of the role''s name');
SELECT is(as_role('member', 'SELECT romancy.start_workflow(''evil'')'), 'RM012 several namespaces are granted to role "member"', 'several and none of its name: an error');
SET romancy.namespace = 'annex';
SELECT is(as_role('member', 'SELECT romancy.t_namespace_current()'), 'annex', 'the setting says which');
SELECT is(as_role('intruder', 'SELECT romancy.start_workflow(''evil'')'), '42501 namespace "annex" is not granted to role "intruder"', 'only one that was granted');
SET romancy.namespace = 'nowhere';
SELECT is(state_of('postgres', 'SELECT romancy.start_workflow(''evil'')'), '42501', 'and that exists');
RESET romancy.namespace;
SELECT romancy.revoke_usage('shop', 'annex');
SELECT is(as_role('member', 'SELECT romancy.t_namespace_current()'), 'shop', 'taken back');
REVOKE shop FROM member;
SELECT romancy.grant_usage('member', namespace => 'annex', define => false);
SELECT is(as_role('member', 'SELECT romancy.t_namespace_current()'), 'annex', 'a membership that ends takes its grants along');
SELECT is(as_role('intruder', 'SELECT count(*) FROM romancy.namespaces'), '1', 'a role sees its own grants');
SELECT is(state_of('intruder', 'SELECT romancy.grant_usage(''intruder'', namespace => ''shop'')'), '42501', 'and grants itself none');

-- ------------------------------------------------------------ define => false
SELECT is(state_of('member', sql), '42501', 'without define: ' || sql) FROM unnest(ARRAY[
	'SELECT romancy.define_workflow(''w'', handler => ''evil(jsonb)'')', 'SELECT romancy.define_activity(''w'', handler => ''evil(jsonb)'')',
	'SELECT romancy.drop_workflow(''w'')', 'SELECT romancy.drop_activity(''w'')', 'SELECT romancy.set_queue(''q'', 1)', 'SELECT romancy.pause_queue(''q'')',
	'SELECT romancy.resume_queue(''q'')']) AS sql;
SELECT is(as_role('member', 'SELECT romancy.cancel_workflow(romancy.start_workflow(''evil''))'), 'true', 'it starts and steers');

-- ------------------------------------------------------------ superusers
SELECT romancy.grant_usage('shop', namespace => 'postgres');
SELECT is(as_role('postgres', 'SELECT romancy.start_workflow(''super.tour'')'), '42501 superuser "postgres" cannot run workflows in namespace "postgres"', 'a superuser starts nothing where others define');
SELECT is(as_role('postgres', 'SELECT count(*) FROM romancy.start_workflows(''super.tour'', ARRAY[NULL::jsonb])'), '42501 superuser "postgres" cannot run workflows in namespace "postgres"', 'nor in bulk');
CALL romancy.drain(advance_time => true);
SELECT is((SELECT status || ' ' || (error ->> 'sqlstate') FROM romancy.instances WHERE instance_id = :'tour2'), 'paused 42501', 'what he has running is paused');
SELECT romancy.grant_usage('shop', namespace => 'postgres', define => false);
SELECT romancy.resume_workflow(:'tour2');
CALL romancy.drain(advance_time => true);
SELECT is((SELECT status FROM romancy.instances WHERE instance_id = :'tour2'), 'completed', 'until they define no more');

-- ------------------------------------------------------------ a role dropped and made anew has none of the old one's grants
CREATE ROLE shortlived;
SELECT romancy.grant_usage('shortlived', namespace => 'shop');
DROP OWNED BY shortlived;
DROP ROLE shortlived;
CREATE ROLE shortlived;
SELECT romancy.grant_usage('shortlived');
SELECT results_eq($$ SELECT namespace FROM romancy.namespaces WHERE role = 'shortlived' $$, $$ VALUES ('shortlived') $$, 'a role of a name that was dropped has only what it was granted');

-- ------------------------------------------------------------ idempotency keys
SELECT romancy.grant_usage('shop', namespace => 'annex');
SELECT as_role('shop', 'SELECT romancy.start_workflow(''evil'', idempotency_key => ''k'')') AS first \gset
SET romancy.namespace = 'annex';
SELECT isnt(as_role('shop', 'SELECT romancy.start_workflow(''evil'', idempotency_key => ''k'')'), :'first', 'a key of one namespace is none of another');
RESET romancy.namespace;

-- ------------------------------------------------------------ workflow code outside, in a session of another namespace
CREATE FUNCTION undo_in(i uuid) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(e.step || ' ' || (e.detail ->> 'compensation'), ', ' ORDER BY e.step)
	FROM romancy.t_history h, unnest(romancy.t_events_unpack(h.events)) e WHERE h.instance_id = i AND e.detail ? 'compensation' $$;
SET ROLE shop;
SELECT romancy.define_activity('pay', queue => 'x', compensation => 'refund_shop'), romancy.define_workflow('code', queue => 'oq');
SELECT romancy.start_workflow('code') AS code \gset
CALL romancy.drain();
SELECT token FROM romancy.fetch_workflows('oq', 'w', lease => '1 h') \gset
SET romancy.namespace = 'annex';
SELECT romancy.define_activity('pay', queue => 'x', compensation => 'refund_annex');
SELECT romancy.record_activity(:'token', 'pay:1', 'pay', '1', '1');
SELECT romancy.record(:'token', '[{"op": "activity", "id": "pay:2", "name": "pay", "input": 1, "result": 1}]');
RESET romancy.namespace;
RESET ROLE;
SELECT is(undo_in(:'code'), 'pay:1 refund_shop, pay:2 refund_shop', 'what undoes a recorded step is what the instance''s namespace says');

-- ------------------------------------------------------------ views and statistics
SET ROLE shop;
CREATE FUNCTION s_count(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN romancy.activity('counted'); END $$;
CREATE FUNCTION s_counted(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '1'; END $$;
SELECT romancy.define_activity('counted', handler => 's_counted(jsonb)'), romancy.define_activity('mail', queue => 'post');
SELECT romancy.start_workflow('s_count');
SET romancy.namespace = 'annex';
SELECT romancy.define_activity('counted', handler => 's_counted(jsonb)'), romancy.define_activity('mail', queue => 'post');
SELECT romancy.start_workflow('s_count'), romancy.run_canvas(romancy.task('mail'));
CALL romancy.drain();
RESET romancy.namespace;
SELECT results_eq($$ SELECT namespace, activity, queue FROM romancy.activity_tasks WHERE activity = 'mail' $$, $$ VALUES ('annex', 'mail', 'post') $$, 'a task is shown in its namespace');
SELECT results_eq($$ SELECT DISTINCT namespace FROM romancy.waiting WHERE instance_id IN (SELECT instance_id FROM romancy.activity_tasks WHERE activity = 'mail') $$, $$ VALUES ('annex') $$, 'and what waits for it');
SELECT results_eq($$ SELECT namespace FROM romancy.versions WHERE workflow = 's_count' ORDER BY 1 $$, $$ VALUES ('annex'), ('shop') $$, 'versions of a name in two namespaces are two');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
