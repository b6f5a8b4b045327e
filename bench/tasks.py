"""The measurements of tasks, for bench/run."""

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

# A hand-written queue: a claim is one update, an end another.
HAND_TAKE = """update bench.jobs set state = 1, taken_at = now(), attempt = attempt + 1 where id in
    (select id from bench.jobs where state = 0 order by priority desc, id for update skip locked limit {n})
    returning id"""
HAND_ONE = HAND_TAKE.format(n=1) + " \\gset\nupdate bench.jobs set state = 2, result = '1' where id = :id;\n"
HAND_BATCH = ("with c as (" + HAND_TAKE + """) select coalesce(array_agg(id), '{{}}') as ids from c \\gset
update bench.jobs set state = 2, result = '1' where id = any (cast(:ids as bigint[]));
""")
ROM_ONE = """select token from romancy.fetch_activities('bench_q', 'w', 1, '60s') \\gset
select romancy.complete_activity(:token, '1');
"""
ROM_BATCH = """select coalesce(array_agg(token), '{{}}') as tokens, coalesce(array_agg('1'::jsonb), '{{}}') as results
    from romancy.fetch_activities('bench_q', 'w', {n}, '60s') \\gset
select romancy.complete_activities(cast(:tokens as text[]), cast(:results as jsonb[]));
"""
HAND_FETCH = "with c as (" + HAND_TAKE + ") select count(*) from c;\n"
ROM_FETCH = "select count(*) from romancy.fetch_activities('bench_q', 'w', {n}, '60s');\n"


def register(run):
    psql, value, wait_until, size, seconds = run["psql"], run["value"], run["wait_until"], run["size"], run["seconds"]
    Pgbench, metric, median, bench, say = run["Pgbench"], run["metric"], run["median"], run["bench"], run["say"]
    number = run["number"]

    def prepare():
        psql(SCHEMA + "select romancy.define_activity('bench_ext', queue => 'bench_q');")

    def waiting(enough):
        """Are there this many waiting tasks in either queue? (counts no more than that)"""
        return all(int(value(f"select count(*) from (select from {q} where state = 0 limit {enough}) x")) >= enough
                   for q in ("romancy.t_task", "bench.jobs"))

    def fill(n):
        """n waiting tasks more in either queue; how long that took, here and there."""
        run["setting"]("romancy.enabled", "on")
        begun = time.monotonic()
        before = int(value("select count(*) from romancy.t_task"))
        for done in range(0, n, 100000):
            part = min(100000, n - done)
            psql("select romancy.run_canvas(romancy.group(variadic array("
                 f"select romancy.task('bench_ext', to_jsonb(g)) from generate_series(1, {part}) g)))")
        wait_until(f"select count(*) >= {before + n} from romancy.t_task", 600, 0.2)
        ours = time.monotonic() - begun
        begun = time.monotonic()
        psql(f"insert into bench.jobs (payload) select to_jsonb(g) from generate_series(1, {n}) g")
        hand = time.monotonic() - begun
        # what is measured are the calls, not the workflows behind them
        run["setting"]("romancy.enabled", "off")
        wait_until("select count(*) = 0 from romancy.workers where kind = 'executor'", 60)
        psql("vacuum analyze romancy.t_task, bench.jobs")
        psql("checkpoint")
        return ours, hand

    def compare(title, ours, hand, clients, per, aim=None):
        """Tasks per second of either script, in turn; per: how many one call takes. Neither runs out of tasks."""
        a, b = [], []
        calls = max(1, seconds(3) * {1: 2500, 10: 700, 100: 120}[per])      # of each client
        enough = calls * clients * per
        for _ in range(run["RUNS"]):
            if not waiting(enough + 1000 * clients):
                fill(max(size(100000, 5000), 2 * enough + 1000 * clients))
            a.append(per * Pgbench(ours, clients, transactions=calls).tps)
            b.append(per * Pgbench(hand, clients, transactions=calls).tps)
        return [metric(f"{title}", median(a), "tasks/s"), metric(f"{title}, hand-written", median(b), "tasks/s"),
                metric(f"{title}, ratio", median(x / y for x, y in zip(a, b)), "", aim=aim)]

    def limited(clients):
        """A queue with limits that are not reached, against one without: tasks per second, in turn."""
        free, held = [], []
        script = ROM_ONE.replace("bench_q", "bench_lim")
        calls = seconds(3) * 2500
        n = calls * clients + 1000
        psql("select romancy.define_activity('bench_lim', queue => 'bench_lim'); "
             "select romancy.set_queue('bench_lim', max_concurrency => 1000, rate_limit => '1000000/s')")
        for i in range(run["RUNS"]):
            run["setting"]("romancy.enabled", "on")
            before = int(value("select count(*) from romancy.t_task where queue like '%/bench_lim'"))
            psql("select romancy.run_canvas(romancy.group(variadic array("
                 f"select romancy.task('bench_lim', to_jsonb(g)) from generate_series(1, {n}) g)))")
            wait_until(f"select count(*) >= {before + n} from romancy.t_task where queue like '%/bench_lim'", 600, 0.2)
            fill(n)
            # the first has fewer dead rows about
            for ours, into in ((ROM_ONE, free), (script, held))[::-1 if i % 2 else 1]:
                into.append(Pgbench(ours, clients, transactions=calls).tps)
        return [metric(f"one at a time under limits, {clients} clients", median(held), "tasks/s"),
                metric("the same, against a queue without limits", median(x / y for x, y in zip(held, free)))]

    @bench("(t) tasks per second: enqueued, fetched, completed, against a SKIP LOCKED queue")
    def queue_t():
        prepare()
        n = size(100000, 5000)
        times = [fill(n) for _ in range(3)]
        ours, hand = (median(t[i] for t in times) for i in (0, 1))
        rows = [metric(f"enqueue, a group of {n}", n / ours, "tasks/s"),
                metric("enqueue, hand-written, one INSERT ... SELECT", n / hand, "tasks/s"),
                metric("enqueue, ratio", hand / ours)]
        for clients in (1, 8):
            what = f"{clients} client" + "s" * (clients > 1)
            rows += compare(f"fetch and complete one at a time, {what}", ROM_ONE, HAND_ONE, clients, 1, aim=2)
        rows += limited(8)
        for n in (10, 100):
            rows += compare(f"fetch and complete {n} at a time, 4 clients", ROM_BATCH.format(n=n), HAND_BATCH.format(n=n), 4, n)
        for n in (1, 10, 100):
            rows += compare(f"fetch {n} at a time, 4 clients", ROM_FETCH.format(n=n), HAND_FETCH.format(n=n), 4, n)
        return rows

    @bench("(u) tasks with 1,000,000 waiting, and under a snapshot held by another session")
    def held_u():
        prepare()
        few = 60000

        def both(scripts):
            return [Pgbench(s, 4, secs=3).tps for s in scripts]

        def round_of():
            """Unheld and held, in turn; ours and the hand-written one."""
            pairs = []
            for _ in range(run["RUNS"]):
                if not waiting(few):
                    fill(2 * few)
                psql("vacuum romancy.t_task, bench.jobs")
                free = both((ROM_ONE, HAND_ONE))
                psql("vacuum romancy.t_task, bench.jobs")
                with run["subprocess"].Popen(["psql", "-Xq"], stdin=run["subprocess"].PIPE, stdout=run["subprocess"].DEVNULL, text=True) as holder:
                    holder.stdin.write("begin isolation level repeatable read; select 1 from romancy.t_task limit 1;\n")
                    holder.stdin.flush()
                    wait_until("select exists (select from pg_stat_activity where state = 'idle in transaction' and backend_xmin is not null)", 10, 0.01)
                    held = both((ROM_ONE, HAND_ONE))
                    holder.stdin.close()
                pairs.append((free, held))
            return pairs

        before = round_of()
        million = size(1000000, 5000)
        fill(million)
        after = round_of()
        of = [median(p[0][i] for p in before) for i in (0, 1)]
        many = [median(p[0][i] for p in after) for i in (0, 1)]
        held = [median(p[1][i] / p[0][i] for p in before + after) for i in (0, 1)]
        return [metric("fetch and complete, few waiting", of[0], "tasks/s"),
                metric("the same, hand-written", of[1], "tasks/s"),
                metric(f"with {million} waiting, against few", many[0] / of[0], "", aim=0.95),
                metric("the same, hand-written", many[1] / of[1]),
                metric("under a held snapshot, against none", held[0], "", aim=0.95),
                metric("the same, hand-written", held[1])]

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

    @bench("(w) from the commit of a task to its fetch by a waiting worker", ["track_commit_timestamp = on"])
    def latency_w():
        prepare()
        run["setting"]("romancy.enabled", "off")        # this session makes the task itself
        times = []
        with run["subprocess"].Popen(["psql", "-XqAt"], stdin=run["subprocess"].PIPE, stdout=run["subprocess"].PIPE, text=True) as poller:
            for i in range(size(500, 20)):
                poller.stdin.write("call romancy.poll_activities('bench_q', 'w', wait => '60s');\n")
                poller.stdin.flush()
                wait_until("select exists (select from pg_stat_activity where query like 'call romancy.poll%' and state = 'active' "
                           "and wait_event_type = 'Extension')", 20, 0.005)
                xid = psql("begin; select romancy.start_workflow('bench.ask', '1') is null; call romancy.drain(); "
                           "select pg_current_xact_id(); commit;")[-1][0]
                poller.stdout.readline()
                times.append(number(f"select 1000 * extract(epoch from max(claimed_at) - pg_xact_commit_timestamp('{xid}'::xid)) from romancy.t_task"))
            poller.stdin.close()
        say("the commit's own flush to disk is part of it")
        return [metric("p50", run["percentile"](times, 0.5), "ms"), metric("p99", run["percentile"](times, 0.99), "ms")]
