"""What bench/run measures of tasks."""

import time

SCHEMA = """
create schema if not exists bench;
create table bench.jobs (
    id bigint generated always as identity primary key, state int not null default 0, priority int not null default 0,
    payload jsonb, attempt int not null default 0, taken_at timestamptz, result jsonb);
create index on bench.jobs (priority desc, id) where state = 0;
create function bench.one(i jsonb) returns jsonb language plpgsql as $$ begin return i; end $$;
create function bench.count(i jsonb) returns jsonb language plpgsql as $$ begin return to_jsonb(jsonb_array_length(i)); end $$;
create function bench.map(i jsonb) returns jsonb language plpgsql as $$
begin return to_jsonb(jsonb_array_length(romancy.map('bench.one', (select jsonb_agg(g) from generate_series(1, i::int) g)))); end $$;
create function bench.ask(i jsonb) returns jsonb language plpgsql as $$ begin return romancy.activity('bench_ext', i); end $$;
"""

HAND = """update bench.jobs set state = 1, taken_at = now(), attempt = attempt + 1 where id in
    (select id from bench.jobs where state = 0 order by priority desc, id for update skip locked limit %(n)d)
    returning id \\gset
"""
HAND_ONE = HAND % {"n": 1} + "update bench.jobs set state = 2, result = '1' where id = :id;\n"
ROM_ONE = """call romancy.poll_activities('bench_q', 'w', 1, '60s', '0') \\gset
select case when cast(:tasks as jsonb) <> '[]' then romancy.complete_activity(cast(:tasks as jsonb)->0->>'token', '1') end;
"""


def register(run):
    psql, value, wait_until, size, seconds = run["psql"], run["value"], run["wait_until"], run["size"], run["seconds"]
    Pgbench, metric, median, bench, say = run["Pgbench"], run["metric"], run["median"], run["bench"], run["say"]

    def prepare():
        psql(SCHEMA + "select romancy.define_activity('bench_ext', queue => 'bench_q');")

    def fill(n):
        """n waiting tasks in either queue."""
        psql(f"insert into bench.jobs (payload) select to_jsonb(g) from generate_series(1, {n}) g")
        before = int(value("select count(*) from romancy.t_task where state = 0"))
        psql("select romancy.run_canvas(romancy.group(variadic array("
             f"select romancy.task('bench_ext', to_jsonb(g)) from generate_series(1, {n}) g)))")
        wait_until(f"select count(*) >= {before + n} from romancy.t_task where state = 0", 600, 0.5)
        psql("vacuum analyze")

    def ratio(clients, secs):
        ours, hand = [], []
        for _ in range(run["RUNS"]):
            ours.append(Pgbench(ROM_ONE, clients, secs=secs).tps)
            hand.append(Pgbench(HAND_ONE, clients, secs=secs).tps)
        return median(ours), median(hand), median(a / b for a, b in zip(ours, hand))

    @bench("(t) tasks fetched and completed per second, one at a time, against a SKIP LOCKED queue")
    def queue_t():
        prepare()
        fill(size(200000, 2000))
        rows = []
        for clients in (1, 8, 16):
            ours, hand, both = ratio(clients, seconds(4))
            rows += [metric(f"tasks per second, {clients} clients", ours, "/s"),
                     metric(f"hand-written queue, {clients} clients", hand, "/s"),
                     metric(f"ratio, {clients} clients", both, "", aim=2)]
        return rows

    @bench("(u) the same with many waiting tasks, and under a snapshot held by another session")
    def held_u():
        prepare()
        fill(size(50000, 5000))
        ours = median(Pgbench(ROM_ONE, 4, secs=seconds(3)).tps for _ in range(run["RUNS"]))
        fill(size(1000000, 5000))
        many = median(Pgbench(ROM_ONE, 4, secs=seconds(3)).tps for _ in range(run["RUNS"]))
        with run["subprocess"].Popen(["psql", "-Xq"], stdin=run["subprocess"].PIPE, text=True) as holder:
            holder.stdin.write("begin isolation level repeatable read; select 1 from romancy.t_task limit 1;\n")
            holder.stdin.flush()
            time.sleep(0.5)
            held = median(Pgbench(ROM_ONE, 4, secs=seconds(3)).tps for _ in range(run["RUNS"]))
            holder.stdin.close()
        return [metric("tasks per second, few waiting", ours, "/s"),
                metric("ratio with many waiting", many / ours, "", aim=0.95),
                metric("ratio under a held snapshot", held / many, "", aim=0.95)]

    @bench("(v) parallel activities in the database: map over 1,000, and a group of 100,000")
    def parallel_v():
        prepare()
        rows = []
        for executors in (1, 2):
            run["setting"]("romancy.executors", executors)
            times = []
            for _ in range(run["RUNS"] + 1):
                before = time.monotonic()
                psql(f"call romancy.run_workflow('bench.map', '{size(1000, 50)}', timeout => '60s')")
                times.append(time.monotonic() - before)
            rows.append(metric(f"map over {size(1000, 50)}, {executors} executors", 1000 * median(times[1:]), "ms"))
        n = size(100000, 500)
        before = time.monotonic()
        instance = value("select romancy.run_canvas(romancy.chord(romancy.group(variadic array("
                         f"select romancy.task('bench.one', to_jsonb(g)) from generate_series(1, {n}) g)), romancy.task('bench.count')))")
        psql(f"call romancy.await_result('{instance}', '600s')")
        rows.append(metric(f"a chord over {n} tasks", n / (time.monotonic() - before), "tasks/s"))
        return rows

    @bench("(w) from the commit of a task to its fetch by a waiting worker")
    def latency_w():
        prepare()
        times = []
        for _ in range(size(200, 20)):
            poller = run["subprocess"].Popen(["psql", "-XqAt", "-c", "call romancy.poll_activities('bench_q', 'w', wait => '20s')"],
                                             stdout=run["subprocess"].PIPE, text=True)
            wait_until("select exists (select from pg_stat_activity where query like 'call romancy.poll%' and wait_event_type = 'Extension')", 10, 0.005)
            before = float(value("select extract(epoch from clock_timestamp()) from (select romancy.start_workflow('bench.ask', '1')) x"))
            poller.communicate()
            fetched = float(value("select extract(epoch from max(claimed_at)) from romancy.t_task"))
            times.append(1000 * (fetched - before))
        say("the time includes the instance's first turn, which makes the task")
        return [metric("p50", run["percentile"](times, 0.5), "ms"), metric("p99", run["percentile"](times, 0.99), "ms")]
