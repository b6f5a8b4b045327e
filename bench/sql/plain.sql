-- Code that one would write by hand for a workflow of three steps: the
-- yardstick. Tables of instances and of history, and one function that does it all.

create schema plain;

create table plain.instance (
    instance_id uuid primary key default gen_random_uuid(),
    workflow    text not null,
    status      text not null,
    owner       text not null default current_user,
    input       jsonb,
    output      jsonb,
    created_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz
);
create index on plain.instance (created_at);

create table plain.history (
    instance_id uuid,
    seq         int,
    event_type  text not null,
    step        text,
    data        jsonb,
    created_at  timestamptz not null default clock_timestamp(),
    primary key (instance_id, seq)
);

-- One transaction per instance.
create function plain.run(input jsonb) returns uuid
language plpgsql as $$
declare
    id uuid;
    result jsonb;
begin
    insert into plain.instance (workflow, status, input) values ('three_steps', 'running', input)
        returning instance_id into id;
    result := bench.step_one(input);
    insert into plain.history values (id, 1, 'ActivityCompleted', 'step_one:1',
        jsonb_build_object('input', input, 'result', result));
    result := bench.step_two(input);
    insert into plain.history values (id, 2, 'ActivityCompleted', 'step_two:1',
        jsonb_build_object('input', input, 'result', result));
    result := bench.step_three(input);
    insert into plain.history values (id, 3, 'ActivityCompleted', 'step_three:1',
        jsonb_build_object('input', input, 'result', result));
    insert into plain.history values (id, 4, 'WorkflowCompleted', null, jsonb_build_object('output', result));
    update plain.instance set status = 'completed', output = result, finished_at = clock_timestamp()
        where instance_id = id;
    return id;
end $$;

-- The same, committing after each step.
create procedure plain.run_commits(input jsonb)
language plpgsql as $$
declare
    id uuid;
    result jsonb;
begin
    insert into plain.instance (workflow, status, input) values ('three_steps', 'running', input)
        returning instance_id into id;
    result := bench.step_one(input);
    insert into plain.history values (id, 1, 'ActivityCompleted', 'step_one:1',
        jsonb_build_object('input', input, 'result', result));
    commit;
    result := bench.step_two(input);
    insert into plain.history values (id, 2, 'ActivityCompleted', 'step_two:1',
        jsonb_build_object('input', input, 'result', result));
    commit;
    result := bench.step_three(input);
    insert into plain.history values (id, 3, 'ActivityCompleted', 'step_three:1',
        jsonb_build_object('input', input, 'result', result));
    insert into plain.history values (id, 4, 'WorkflowCompleted', null, jsonb_build_object('output', result));
    update plain.instance set status = 'completed', output = result, finished_at = clock_timestamp()
        where instance_id = id;
end $$;
