-- The workflows that are measured, and the activities that they share with the yardstick.

create schema bench;
set search_path = bench;

create table effect (
    id   bigint generated always as identity primary key,
    step text not null,
    n    int not null,
    at   timestamptz not null default clock_timestamp()
);

create table one_row (
    id   bigint generated always as identity primary key,
    step text not null,
    n    int not null,
    at   timestamptz not null default clock_timestamp()
);

create function step_one(input jsonb) returns jsonb language plpgsql as $$
begin
    insert into bench.effect (step, n) values ('one', (input->>'n')::int);
    return '1';
end $$;

create function step_two(input jsonb) returns jsonb language plpgsql as $$
begin
    insert into bench.effect (step, n) values ('two', (input->>'n')::int);
    return '2';
end $$;

create function step_three(input jsonb) returns jsonb language plpgsql as $$
begin
    insert into bench.effect (step, n) values ('three', (input->>'n')::int);
    return '3';
end $$;

create function three_steps(input jsonb) returns jsonb language plpgsql as $$
declare
    result jsonb;
begin
    result := romancy.activity('step_one', input);
    result := romancy.activity('step_two', input);
    result := romancy.activity('step_three', input);
    return result;
end $$;

create function one_step(input jsonb) returns jsonb language plpgsql as $$
begin
    return romancy.activity('step_one', input);
end $$;

create function nothing(input jsonb) returns jsonb language plpgsql as $$
begin
    return input;
end $$;

create function long_sleep(input jsonb) returns jsonb language plpgsql as $$
begin
    perform romancy.sleep('1 year');
    return null;
end $$;

create function sleep_until(input jsonb) returns jsonb language plpgsql as $$
begin
    perform romancy.sleep_until((input->>'until')::timestamptz);
    return null;
end $$;

create function many_steps(input jsonb) returns jsonb language plpgsql as $$
declare
    result jsonb;
begin
    for i in 1 .. (input->>'steps')::int loop
        result := romancy.activity('step_one', jsonb_build_object('n', i));
    end loop;
    return result;
end $$;

select count(romancy.define_activity(name, ('bench.' || name || '(jsonb)')::regprocedure))
from unnest('{step_one,step_two,step_three}'::text[]) name;
select count(romancy.define_workflow(name, ('bench.' || name || '(jsonb)')::regprocedure))
from unnest('{three_steps,one_step,nothing,long_sleep,sleep_until,many_steps}'::text[]) name;

-- The inputs 1 to n, for start_workflows
create function inputs(n int) returns jsonb[] language sql as $$
    select array_agg(jsonb_build_object('n', i) order by i) from generate_series(1, n) i
$$;

-- (j)
create function undo(input jsonb) returns jsonb language plpgsql as $$
begin
    insert into bench.effect (step, n) values ('undo', (input#>>'{input,n}')::int);
    return null;
end $$;

create function step_five(input jsonb) returns jsonb language plpgsql as $$
begin
    return romancy.raise_terminal('fifth step fails');
end $$;

select romancy.define_activity('undone_one', 'bench.step_one(jsonb)', compensation => 'undo');
select romancy.define_activity('undo', 'bench.undo(jsonb)');

create function saga_good(input jsonb) returns jsonb language plpgsql as $$
begin
    for i in 1..5 loop
        perform romancy.activity('undone_one', input);
    end loop;
    return null;
end $$;

create function saga_bad(input jsonb) returns jsonb language plpgsql as $$
begin
    for i in 1..4 loop
        perform romancy.activity('undone_one', input);
    end loop;
    return romancy.activity('bench.step_five', input);
end $$;

create function nap(input jsonb) returns jsonb language plpgsql as $$
begin
    perform pg_sleep(60);
    return null;
end $$;

create function naps(input jsonb) returns jsonb language plpgsql as $$
begin
    return romancy.activity('bench.nap');
end $$;

create function generations(input jsonb) returns jsonb language plpgsql as $$
begin
    if input::int > 0 then
        return romancy.recur(to_jsonb(input::int - 1));
    end if;
    return null;
end $$;
