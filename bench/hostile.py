"""Measurements of two namespaces side by side, one of them hostile."""

import threading

SCHEMA = """
create role bench_shop login;
create role bench_hostile login;
select romancy.grant_usage('bench_shop'), romancy.grant_usage('bench_hostile');
grant usage on schema bench to bench_shop, bench_hostile;
grant all on all tables in schema bench to bench_shop, bench_hostile;
grant all on all sequences in schema bench to bench_shop, bench_hostile;

create function bench.endless(input jsonb) returns jsonb language plpgsql as $$
begin
    loop perform pg_sleep(1); end loop;
end $$;
create function bench.endlessly(input jsonb) returns jsonb language plpgsql as $$
begin
    return romancy.activity('bench.endless');
end $$;
create function bench.huge_error(input jsonb) returns jsonb language plpgsql as $$
begin
    raise '%', repeat('x', 200000);
end $$;
create function bench.reads(input jsonb) returns jsonb language plpgsql as $$
begin
    perform romancy.subscribe('news');
    loop perform romancy.receive('news'); end loop;
end $$;

set session authorization bench_shop;
select romancy.define_activity(name, ('bench.' || name || '(jsonb)')::regprocedure)
from unnest('{step_one,step_two,step_three}'::text[]) name;
select romancy.define_workflow(name, ('bench.' || name || '(jsonb)')::regprocedure)
from unnest('{one_step,three_steps}'::text[]) name;
set session authorization bench_hostile;
select romancy.define_activity('flood', queue => 'flood');
select romancy.set_queue('flood', per_key => 'k', max_concurrency => 1);
"""

# The statements that the hostile role repeats, and how often a second
FLOODS = {
    "instances": ("select count(*) from romancy.start_workflows('bench.nothing', array(select to_jsonb(g) from generate_series(1, 100) g));", 5),
    "tasks with distinct keys": ("select romancy.run_canvas(romancy.group(variadic array(select romancy.task('flood', jsonb_build_object('k', gen_random_uuid())) "
                                 "from generate_series(1, 100)))); select count(*) from romancy.fetch_activities('flood', 'w', 100, '1h');", 2),
    "messages to subscribers": ("select romancy.publish('news', '1');", 2),
    "events": ("select romancy.raise_event('paid', 'hostile', '1', id => gen_random_uuid()::text);", 50),
    "huge errors": ("select romancy.start_workflow('bench.huge_error');", 10),
}


def register(g):
    bench, metric, median, psql, value = g["bench"], g["metric"], g["median"], g["psql"], g["value"]
    wait_until, size, runs, number = g["wait_until"], g["size"], g["RUNS"], g["number"]
    percentile, pgbench, empty = g["percentile"], g["Pgbench"], g["empty"]

    @bench("(x) two namespaces side by side, one of them hostile: the other, against being alone",
           ["romancy.max_workers = 8", "romancy.executors = 4", "max_worker_processes = 16", "track_commit_timestamp = on"])
    def hostile_x():
        psql(SCHEMA)
        n = size(1000, 100)
        many = size(20000, 500)
        started = [0]

        def latencies():
            """Milliseconds from the commit of a start, 50 a second, to the commit of its end: p50, p99."""
            before = value("select clock_timestamp()")
            pgbench("set session authorization bench_shop;\nselect romancy.start_workflow('one_step', '{\"n\": 1}');\n",
                    1, transactions=n, rate=50)
            started[0] += n
            wait_until("select not exists (select from romancy.instances where owner = 'bench_shop' and finished_at is null)", 300)
            ms = [float(r[0]) for r in psql(f"""
                select 1000 * extract(epoch from pg_xact_commit_timestamp(xmin) - created_at) from romancy.t_instance
                where owner = 'bench_shop' and created_at > '{before}'""")]
            return percentile(ms, 0.5), percentile(ms, 0.99)

        def throughput():
            """Instances per second of one bulk start, from its commit to the last end."""
            before = value("select clock_timestamp()")
            psql(f"set session authorization bench_shop; select count(*) from romancy.start_workflows('three_steps', bench.inputs({many}))")
            started[0] += many
            wait_until("select not exists (select from romancy.instances where owner = 'bench_shop' and finished_at is null)", 900, 0.2)
            return many / number("select extract(epoch from max(finished_at) - min(created_at)) from romancy.instances "
                                 f"where owner = 'bench_shop' and created_at > '{before}'")

        def flood(stop, script, rate):
            while not stop.is_set():
                pgbench(f"set session authorization bench_hostile;\n{script}\n", 1, transactions=2 * rate, rate=rate)

        def measure():
            return throughput(), *latencies()

        def attacked():
            stop = threading.Event()
            psql("set session authorization bench_hostile; "
                 f"select count(*) from romancy.start_workflows('bench.reads', array_fill('1'::jsonb, array[{size(1000, 50)}]))")
            wait_until(f"select count(*) = {size(1000, 50)} from romancy.instances where workflow = 'bench.reads' and status = 'waiting_for_message'", 300)
            psql("set session authorization bench_hostile; "
                 f"select count(*) from romancy.start_workflows('bench.endlessly', array_fill('1'::jsonb, array[{size(100, 10)}]))")
            threads = [threading.Thread(target=flood, args=(stop, *what)) for what in FLOODS.values()]
            for thread in threads:
                thread.start()
            try:
                return measure()
            finally:
                stop.set()
                for thread in threads:
                    thread.join()

        def seen():
            """Rows of others that a session of the shop's sees."""
            return number("set session authorization bench_shop; select (select count(*) from romancy.instances where owner <> 'bench_shop')"
                          " + (select count(*) from romancy.activity_tasks) + (select count(*) from romancy.channels) + (select count(*) from romancy.queues)"
                          " + (select count(*) from romancy.waiting) + (select count(*) from romancy.stat_workflows where owner <> 'bench_shop')")

        measure()
        alone, beside, lost, visible = [], [], 0, 0
        for _ in range(runs):
            for result, how in ((alone, measure), (beside, attacked)):
                empty()
                started[0] = 0
                result.append(how())
                completed = number("select count(*) from romancy.instances where owner = 'bench_shop' and status = 'completed'")
                lost += started[0] - completed
                visible += seen()
                psql("select count(romancy.terminate_workflow(instance_id)) from romancy.instances where finished_at is null")
                wait_until("select not exists (select from romancy.t_instance where wake_at is not null)", 300)
        rows = []
        for i, (what, unit) in enumerate((("throughput", "instances/s"), ("latency, p50", "ms"), ("latency, p99", "ms"))):
            for how, results in (("alone", alone), ("beside the hostile one", beside)):
                rows.append(metric(f"{what}, {how}", median([r[i] for r in results]), unit, runs=[round(r[i], 2) for r in results]))
            each = [b[i] / a[i] for a, b in zip(alone, beside)]
            rows.append(metric(f"{what}, against being alone", median(each), runs=[round(x, 3) for x in each]))
        rows.append(metric("instances lost", lost, aim="0"))
        rows.append(metric("rows of the hostile one that the other sees", visible, aim="0"))
        return rows
