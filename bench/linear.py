"""Where cost must not grow faster than the work, for bench/run: each thing with n and with 2n.

BENCH_CASES, a regular expression, chooses among them.
"""

import os
import re
import time

SCHEMA = """
create function bench.one(i jsonb) returns jsonb language plpgsql as $$ begin return i; end $$;
create function bench.undo_one(i jsonb) returns jsonb language plpgsql as $$ begin return null; end $$;
select romancy.define_activity('bench_undone', 'bench.one(jsonb)', compensation => 'bench.undo_one');
select romancy.define_activity('bench_ext', queue => 'bench_q');
select romancy.define_activity('bench_keyed', queue => 'bench_keyed');
select romancy.set_queue('bench_keyed', per_key => 'k');
select romancy.define_workflow('bench_program', queue => 'bench_p');
create function bench.map(i jsonb) returns jsonb language plpgsql as $$
begin return to_jsonb(jsonb_array_length(romancy.map('bench.one', (select jsonb_agg(g) from generate_series(1, i::int) g)))); end $$;
create function bench.children(i jsonb) returns jsonb language plpgsql as $$
declare
    handles text[];
begin
    handles := array(select romancy.spawn_workflow('bench.one', to_jsonb(g)) from generate_series(1, i::int) g);
    return to_jsonb(cardinality(romancy.await_all(handles)));
end $$;
create function bench.steps(i jsonb) returns jsonb language plpgsql as $$
begin
    for n in 1 .. i::int loop
        perform romancy.activity('bench.one', '1');
        if n % 100 = 0 then perform romancy.sleep('0 s'); end if;
    end loop;
    return null;
end $$;
create function bench.saga(i jsonb) returns jsonb language plpgsql as $$
begin
    for n in 1 .. i::int loop perform romancy.activity('bench_undone', '1'); end loop;
    raise 'undo it';
end $$;
-- (takes its messages once there is one in channel go)
create function bench.mailbox(i jsonb) returns jsonb language plpgsql as $$
begin
    perform romancy.subscribe('bench', 'broadcast');
    if i ? 'first' then perform romancy.receive('go'); end if;
    for n in 1 .. least(500, (i->>'n')::int) loop perform romancy.receive('bench'); end loop;
    if (i->>'n')::int > 500 then
        perform romancy.recur(jsonb_build_object('n', (i->>'n')::int - 500));
    end if;
    return null;
end $$;
create function bench.receiver(i jsonb) returns jsonb language plpgsql as $$
begin
    perform romancy.subscribe('bench', 'broadcast');
    return (romancy.receive('bench')).data;
end $$;
create procedure bench.record(n int) language plpgsql as $$
declare
    tok text;
begin
    select token into strict tok from romancy.fetch_workflows('bench_p', 'w', 1, '1 h');
    commit;
    for i in 1 .. n loop
        perform romancy.record_activity(tok, 's:' || i, 'one', to_jsonb(i), to_jsonb(i));
        commit;
    end loop;
    perform romancy.complete_workflow(tok);
end $$;
create procedure bench.work_off(n int, queue text) language plpgsql as $$
declare
    tok text;
begin
    for i in 1 .. n loop
        select token into strict tok from romancy.fetch_activities(queue, 'w', 1, '1 h');
        perform romancy.complete_activity(tok, '1');
        commit;
    end loop;
end $$;
"""


def register(g):
    psql, value, wait_until, size, setting = g["psql"], g["value"], g["wait_until"], g["size"], g["setting"]
    metric, median, bench = g["metric"], g["median"], g["bench"]
    over = "select not exists (select from romancy.t_instance where wake_at is not null)"

    def clean():
        setting("romancy.enabled", "off")
        wait_until("select count(*) = 0 from romancy.workers where kind in ('executor', 'scheduler')", 60)
        psql("truncate romancy.t_message, romancy.t_delivery, romancy.t_subscription, romancy.t_channel, romancy.t_task, "
             "romancy.t_canvas_join, romancy.t_canvas_result, romancy.t_canvas_chain")
        g["empty"]()
        setting("romancy.enabled", "on")

    def timed(sql, until=over):
        begun = time.monotonic()
        psql(sql)
        wait_until(until, 1800, 0.01)
        return time.monotonic() - begun

    def start(workflow, status="completed"):
        def run(n):
            took = timed(f"select romancy.start_workflow('{workflow}', '{n}')")
            if value(f"select count(*) from romancy.instances where workflow = '{workflow}' and status = '{status}'") != "1":
                raise RuntimeError(f"{workflow}: " + str(psql(f"select status, error from romancy.instances where workflow = '{workflow}'")))
            return took
        return run

    def record(n):
        psql("select romancy.start_workflow('bench_program')")
        wait_until("select exists (select from romancy.t_task where state = 0)", 60, 0.01)
        return timed(f"call bench.record({n})")

    def canvas(signature):
        return timed(f"select romancy.run_canvas({signature})")

    def tasks(n, activity, queue, given):
        """A group of tasks is worked off; enqueueing it is not measured. No vacuum comes meanwhile."""
        psql(f"select romancy.run_canvas(romancy.group(variadic array(select romancy.task('{activity}', {given}) from generate_series(1, {n}) g)))")
        wait_until(f"select count(*) = {n} from romancy.t_task", 600)
        return timed(f"call bench.work_off({n}, '{queue}')")

    def mailbox(n):
        psql(f"select romancy.start_workflow('bench.mailbox', '{{\"n\": {n}, \"first\": 1}}')")
        wait_until("select exists (select from romancy.channels where channel = 'bench')", 60, 0.01)
        one = value("select instance_id from romancy.instances where workflow = 'bench.mailbox'")
        psql(f"select count(romancy.publish('bench', to_jsonb(i))) from generate_series(1, {n}) i")
        return timed(f"select romancy.send_to('{one}', 'go')")

    def receivers(n):
        psql(f"select count(*) from romancy.start_workflows('bench.receiver', array_fill('1'::jsonb, array[{n}]))")
        wait_until(f"select count(*) = {n} from romancy.t_instance where status = 'waiting_for_message'", 900, 0.2)
        return timed("select romancy.publish('bench', '1')")

    def retention(n):
        psql(f"select count(*) from romancy.start_workflows('nothing', array_fill('1'::jsonb, array[{n}]))")
        wait_until(over, 600)
        psql("update romancy.t_instance set created_at = created_at - interval '2 d', finished_at = finished_at - interval '2 d'; "
             "alter system set romancy.retention_interval = '1s'; alter system set romancy.retention = '1d'; select pg_reload_conf()")
        took = timed("select 1", "select count(*) = 0 from romancy.t_instance")
        psql("alter system reset romancy.retention_interval; alter system reset romancy.retention; select pg_reload_conf()")
        return took

    cases = {
        "steps that a program records": (6000, record),
        "a chain": (3000, lambda n: canvas(f"romancy.chain(variadic array(select romancy.task('bench.one', '1') from generate_series(1, {n})))")),
        "a group of tasks, one at a time": (20000, lambda n: tasks(n, "bench_ext", "bench_q", "'1'")),
        "the same in a queue of 1,000 keys": (20000, lambda n: tasks(n, "bench_keyed", "bench_keyed", "jsonb_build_object('k', g % 1000)")),
        "the same, one key": (10000, lambda n: tasks(n, "bench_keyed", "bench_keyed", "jsonb_build_object('k', 1)")),
        "map": (50000, start("bench.map")),
        "children": (5000, start("bench.children")),
        "messages in one mailbox": (50000, mailbox),
        "waiting receivers of one channel": (50000, receivers),
        "compensations of a saga": (5000, start("bench.saga", "failed")),
        "instances that retention deletes": (100000, retention),
        "steps of an instance with a wait after each 100": (10000, start("bench.steps")),
    }

    @bench("(y) n and 2n: where cost must not grow faster than the work", ["fsync = off", "autovacuum = off", "romancy.max_history_events = 1000000"])
    def linear_y():
        psql(SCHEMA)
        setting("romancy.executors", 2)
        rows = []
        for name, (full, run) in cases.items():
            if not re.search(os.environ.get("BENCH_CASES", ""), name):
                continue
            n = size(full, 200)
            ratios, times = [], []
            for _ in range(g["RUNS"]):
                clean()
                once = run(n)
                clean()
                twice = run(2 * n)
                times.append(twice)
                ratios.append(twice / once)
            rows += [metric(f"{name}, {2 * n}", median(times), "s", runs=[round(t, 3) for t in times]),
                     metric(f"{name}, {2 * n} against {n}", median(ratios), "", aim="<= 2.2", runs=[round(r, 3) for r in ratios])]
        return rows
