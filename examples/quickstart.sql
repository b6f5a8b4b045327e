-- A tour of romancy in five minutes: paste it into psql, line by line, or
--     psql -f examples/quickstart.sql

create extension if not exists romancy;

-- 1. An activity is a function. Its writes are committed together with the
--    note that it has run, so it takes effect exactly once.
create table mails (id bigint generated always as identity, recipient text, subject text,
                    sent_at timestamptz default clock_timestamp());

create function send_mail(input jsonb) returns jsonb language sql as $$
    insert into mails (recipient, subject) values (input->>'to', input->>'subject')
    returning to_jsonb(id)
$$;

-- 2. A workflow is a function too. The sleep is a row in a table, not a waiting
--    process: it may last for months, and outlives restarts.
create function onboard(input jsonb) returns jsonb language plpgsql as $$
begin
    perform romancy.activity('send_mail', jsonb_build_object('to', input->'email', 'subject', 'Welcome!'));
    perform romancy.sleep(coalesce((input->>'pause')::interval, '3 days'));
    perform romancy.activity('send_mail', jsonb_build_object('to', input->'email', 'subject', 'How is it going?'));
    return '{"mails": 2}';
end $$;

-- 3. Start one and wait for its result, two seconds.
call romancy.run_workflow('onboard', '{"email": "ada@example.com", "pause": "2 s"}');

-- 4. Start one and do not wait. The same key again gives the same instance.
select romancy.start_workflow('onboard', '{"email": "alan@example.com", "pause": "2 s"}', idempotency_key => 'alan') as id;
select romancy.start_workflow('onboard', '{"email": "alan@example.com", "pause": "2 s"}', idempotency_key => 'alan') as id \gset
select workflow, status, input from romancy.instances where instance_id = :'id';
select workflow, kind, since, until from romancy.waiting;
call romancy.await_result(:'id');
select seq, event_type, activity_id, data from romancy.get_history(:'id');
select recipient, subject, sent_at from mails order by id;

-- 5. A start is part of your transaction. Roll back, and it never was.
begin;
select romancy.start_workflow('onboard', '{"email": "nobody@example.com"}');
rollback;
select count(*) from romancy.instances where input->>'email' = 'nobody@example.com';

-- 6. An activity that fails is tried again, with a growing pause that holds no
--    process and no transaction.
create function flaky(input jsonb) returns jsonb language plpgsql as $$
begin
    if romancy.attempt() < 3 then
        raise exception 'attempt % did not get through', romancy.attempt();
    end if;
    return to_jsonb(romancy.attempt());
end $$;

create function try_hard(input jsonb) returns jsonb language sql as $$
    select romancy.activity('flaky', input, retry => '{"initial_interval": "200ms"}')
$$;

call romancy.run_workflow('try_hard');

-- 7. Unit tests need no waiting: drain runs what is ready in your own session,
--    and can make time pass. This is three days in a moment, rolled back.
begin;
select romancy.start_workflow('onboard', '{"email": "grace@example.com"}') as id \gset
call romancy.drain(advance_time => true);
select status, output from romancy.instances where instance_id = :'id';
select recipient, subject from mails where recipient = 'grace@example.com' order by id;
rollback;
