"""The measurements of slow steps, for bench/run: how they run beside each other, and quick ones beside them."""

import math
import os
import re
import threading

SCHEMA = """
create function bench.pause(input jsonb) returns jsonb language plpgsql as $$
begin
    perform pg_sleep(0.05);
    return 'true';
end $$;
create function bench.one_pause(input jsonb) returns jsonb language plpgsql as $$
begin
    return romancy.activity('bench.pause', input);
end $$;
create function bench.map_pauses(input jsonb) returns jsonb language plpgsql as $$
begin
    return romancy.map('bench.pause', (select jsonb_agg(g) from generate_series(1, input::int) g));
end $$;
create function bench.spawn_pauses(input jsonb) returns jsonb language plpgsql as $$
declare
    steps text[] := '{}';
begin
    for i in 1 .. input::int loop
        steps := steps || romancy.spawn('bench.pause', to_jsonb(i));
    end loop;
    perform romancy.await_all(steps);
    return 'true';
end $$;

-- (p): one in so many fails once. A sequence counts, which is not rolled back
create sequence bench.failing;
create function bench.fails_once(input jsonb) returns jsonb language plpgsql as $$
begin
    insert into bench.effect (step, n) values ('fails', (input->>'n')::int);
    if (input->>'every')::int > 0 and nextval('bench.failing') % (input->>'every')::int = 0 then
        raise 'this one fails once';
    end if;
    return 'true';
end $$;
select romancy.define_activity('fails_once', 'bench.fails_once(jsonb)', retry => '{"initial_interval": "1ms", "jitter": 0}');
create function bench.three_that_fail(input jsonb) returns jsonb language plpgsql as $$
begin
    perform romancy.activity('fails_once', input);
    perform romancy.activity('step_two', input);
    return romancy.activity('step_three', input);
end $$;
create function bench.failing_inputs(n int, every int) returns jsonb[] language sql as $$
    select array_agg(jsonb_build_object('n', i, 'every', every) order by i) from generate_series(1, n) i
$$;
"""

PAUSE = 0.05

# how n pauses are asked for
KINDS = {
    "instances of one commit": "select count(romancy.start_workflow('bench.one_pause', to_jsonb(g))) from generate_series(1, {n}) g;",
    "instances of a commit each": "select romancy.start_workflow('bench.one_pause', '{n}');",
    "map": "select romancy.start_workflow('bench.map_pauses', '{n}');",
    "spawn": "select romancy.start_workflow('bench.spawn_pauses', '{n}');",
    "canvas group": "select romancy.run_canvas(romancy.group(variadic array("
                    "select romancy.task('bench.pause', to_jsonb(g)) from generate_series(1, {n}) g)));",
}


def register(g):
    bench, metric, median, psql, value = g["bench"], g["metric"], g["median"], g["psql"], g["value"]
    setting, wait_until, size, seconds, runs = g["setting"], g["wait_until"], g["size"], g["seconds"], g["RUNS"]
    throughput_of, percentile, say, number = g["finished"], g["percentile"], g["say"], g["number"]
    load, empty, pgbench = g["load"], g["empty"], g["Pgbench"]

    def over():
        wait_until("select not exists (select from romancy.t_instance where wake_at is not null)", 120, 0.1)

    def workers_gone():
        setting("romancy.enabled", "off")
        wait_until("select count(*) = 0 from romancy.workers where kind in ('executor', 'scheduler')", 60, 0.02)

    def pauses(kind, n):
        """Starts n pauses; seconds from the first start to the last end."""
        empty()
        script = KINDS[kind].format(n=n)
        psql(script * n if kind == "instances of a commit each" else script)
        over()
        return number("select extract(epoch from max(finished_at) - min(created_at)) from romancy.t_instance")

    def yardstick(n, executors):
        """Seconds that as many plain sessions as executors take for n pauses: 50 ms are more on a busy machine."""
        each = math.ceil(n / executors)
        return each * executors / pgbench("select pg_sleep(0.05);\n", executors, transactions=each).tps

    @bench("(n) n steps of 50 ms, beside each other: the time against ceil(n / executors) pauses of plain sessions",
           ["romancy.max_workers = 12", "max_worker_processes = 24"])
    def parallel_n():
        psql(SCHEMA)
        out = []
        for executors in (1, 2, 4, 8):
            setting("romancy.executors", executors)
            for n in (4, 8, 15, 16, 17, 32, 64):
                for kind in KINDS:
                    # BENCH_CASES: only these
                    if not re.search(os.environ.get("BENCH_CASES", ""), f"{kind}, n = {n}, {executors} executors"):
                        continue
                    cold, warm = [], []
                    for _ in range(runs):
                        workers_gone()
                        # another body: nothing is known of the step
                        psql("select format('create or replace function bench.pause(input jsonb) returns jsonb language plpgsql as %L', "
                             "prosrc || '--') from pg_proc where oid = 'bench.pause(jsonb)'::regprocedure \\gexec")
                        setting("romancy.enabled", "on")
                        best = yardstick(n, executors)
                        cold.append(pauses(kind, n) / best)
                        warm.append(pauses(kind, n) / ((best + yardstick(n, executors)) / 2))
                    out += [metric(f"{kind}, n = {n}, {executors} executors, cold", median(cold), aim="<= 1.15", runs=cold),
                            metric(f"{kind}, n = {n}, {executors} executors, warm", median(warm), aim="<= 1.15", runs=warm)]
        return out

    @bench("(o) quick workflows beside slow ones: milliseconds from the start to the end, against being alone",
           ["romancy.max_workers = 8", "max_worker_processes = 16", "track_commit_timestamp = on"])
    def beside_o():
        psql(SCHEMA)
        psql("create role bench_other login; select romancy.grant_usage('bench_other'); grant usage on schema bench to bench_other; "
             "grant all on all tables in schema bench to bench_other")
        n = size(1000, 100)
        quick = "select romancy.start_workflow('one_step', '{\"n\": 1}');\n"

        def latencies():
            before = value("select clock_timestamp()")
            pgbench(quick, 1, transactions=n, rate=50)
            wait_until("select not exists (select from romancy.instances where workflow = 'one_step' and finished_at is null)", 60)
            ms = [float(r[0]) for r in psql(f"""
                select 1000 * extract(epoch from pg_xact_commit_timestamp(xmin) - created_at) from romancy.t_instance
                where workflow = 'one_step' and created_at > '{before}'""")]
            return percentile(ms, 0.5), percentile(ms, 0.99)

        def slow(role):
            """A session that starts more slow workflows than four executors can end, for as long as the quick ones run."""
            script = f"set session authorization {role};\nselect romancy.start_workflow('bench.one_pause', '1');\n"
            return threading.Thread(target=lambda: pgbench(script, 1, transactions=2 * n, rate=100))

        def none_slow():
            psql("select count(romancy.terminate_workflow(instance_id)) from romancy.instances where finished_at is null")
            over()

        latencies()
        out = {}
        for _ in range(runs):
            for what, role in (("alone", None), ("beside slow ones of the same owner", "postgres"),
                               ("beside slow ones of another owner", "bench_other")):
                if role:
                    beside = slow(role)
                    beside.start()
                    wait_until("select count(*) >= 50 from romancy.instances where workflow = 'bench.one_pause' and finished_at is null", 60)
                out.setdefault(what, []).append(latencies())
                if role:
                    beside.join()
                    none_slow()
        rows = []
        for i, p in enumerate(("p50", "p99")):
            alone = median([x[i] for x in out["alone"]])
            for what, times in out.items():
                rows.append(metric(f"{what}, {p}", median([x[i] for x in times]), "ms", runs=[round(x[i], 2) for x in times]))
                if what != "alone":
                    rows.append(metric(f"{what}, {p}, against being alone", median([x[i] for x in times]) / alone,
                                       aim="<= 2" if p == "p99" else None))
        return rows

    @bench("(p) throughput with failures: one activity in a thousand, in a hundred, fails once", ["romancy.max_workers = 8"])
    def failures_p():
        psql(SCHEMA)
        setting("romancy.executors", 2)
        n = size(20000, 500)
        rates = {0: [], 1000: [], 100: []}

        def once(every):
            empty()
            workers_gone()
            psql(f"select count(*) from romancy.start_workflows('bench.three_that_fail', bench.failing_inputs({n}, {every}))")
            psql("checkpoint")
            setting("romancy.enabled", "on")
            throughput_of("bench.three_that_fail", n)
            return n / number("select extract(epoch from max(finished_at) - min(started_at)) from romancy.instances")

        once(0)
        for _ in range(runs):
            for every, into in rates.items():
                into.append(once(every))
        rows = [metric("no failure", median(rates[0]), "instances/s", runs=[round(r) for r in rates[0]])]
        for every in (1000, 100):
            each = [a / b for a, b in zip(rates[every], rates[0])]
            rows.append(metric(f"one in {every}, against none", median(each), aim=0.9, runs=[round(x, 3) for x in each]))
        return rows
