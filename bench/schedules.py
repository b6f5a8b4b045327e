"""The measurements of schedules, for bench/run."""


def register(g):
    bench, metric, median, psql, number = g["bench"], g["metric"], g["median"], g["psql"], g["number"]
    size, percentile, wait_until, setting, empty = g["size"], g["percentile"], g["wait_until"], g["setting"], g["empty"]
    say, runs = g["say"], g["RUNS"]

    def rest():
        setting("romancy.enabled", "off")
        wait_until("select count(*) = 0 from romancy.workers where kind <> 'launcher'", 120)

    def clear():
        rest()
        psql("truncate romancy.t_schedule, romancy.t_schedule_run")
        empty()

    def define(n, cron):
        """n schedules; cron is SQL over g, the schedule's number."""
        for first in range(1, n + 1, 10000):
            psql(f"select count(romancy.schedule('bench' || g, {cron}, 'nothing')) "
                 f"from generate_series({first}, {min(first + 9999, n)}) g")

    def within_a_minute(n):
        """Lateness in ms, of the start and of the first turn, of n schedules whose times lie evenly in one minute."""
        clear()
        lead = 30 + n / 400
        # seconds of the day at which the minute begins
        begin = int(number(f"select ceil(extract(epoch from now() + make_interval(secs => {lead})) / 60) * 60"))
        at = f"(to_timestamp({begin} + g % 60) at time zone 'UTC')"
        define(n, f"to_char({at}, 'FMSS FMMI FMHH24') || ' * * *'")
        if number(f"select extract(epoch from now()) - {begin}") > -5:
            raise RuntimeError(f"{n} schedules were not defined in {lead:.0f} s")
        psql("vacuum analyze romancy.t_schedule; checkpoint")
        setting("romancy.enabled", "on")
        wait_until(f"select count(*) = {n} from romancy.schedules where runs = 1", 1800, 1)
        wait_until("select not exists (select from romancy.t_instance where wake_at is not null)", 1800, 0.5)
        rows = psql("select 1000 * extract(epoch from created_at - scheduled_at), 1000 * extract(epoch from started_at - scheduled_at) "
                    "from romancy.t_instance where workflow = 'nothing'")
        if len(rows) != n:
            raise RuntimeError(f"{len(rows)} runs of {n} schedules")
        late = [float(r[0]) for r in rows]
        turns = [float(r[1]) for r in rows]
        if min(late) < 0:
            raise RuntimeError(f"a run started {-min(late)} ms early")
        return [percentile(late, 0.5), percentile(late, 0.99), percentile(turns, 0.5), percentile(turns, 0.99)]

    def cost(n):
        """Microseconds of a session for a firing, and for a start_workflow with a key and labels; a hundred to a transaction."""
        clear()
        define(n, "'0 0 1 1 *'")
        psql("update romancy.t_schedule set catch_up = null, due_at = now(), next_at = now(), after_at = now() - interval '1 year' - interval '1 day'; "
             "vacuum analyze romancy.t_schedule; checkpoint")
        took = []
        for work in ("while romancy.run_sweep('schedules') > 0 loop commit; end loop;",
                     f"""for i in 1 .. {n // 100} loop
                         perform count(romancy.start_workflow('nothing', idempotency_key => format('schedule:bench%s:2026-11-29T00:00:00Z', i * 100 + g),
                             labels => jsonb_build_object('schedule', 'bench' || i * 100 + g, 'scheduled_at', '2026-11-29T00:00:00Z'))) from generate_series(1, 100) g;
                         commit;
                     end loop;"""):
            before = number("select count(*) from romancy.t_instance")
            rows = psql(f"""select extract(epoch from clock_timestamp()) as a \\gset
                do $$ begin {work} end $$;
                select 1000000 * (extract(epoch from clock_timestamp()) - :a)""")
            done = number("select count(*) from romancy.t_instance") - before
            if done != n // 100 * 100:
                raise RuntimeError(f"{done} instances, not {n}")
            took.append(float(rows[-1][0]) / done)
        return took

    @bench("(s) schedules: how late runs are when 100,000 are due within a minute, and what a firing costs")
    def schedules_s():
        n = size(100000, 1000)
        late = []
        for i in range(max(1, runs // 2)):
            late.append(within_a_minute(n))
            say(f"run {i + 1}: " + ", ".join(f"{ms:.1f} ms" for ms in late[-1]))
        few = size(10000, 1000)
        costs = [cost(few) for _ in range(runs)]
        clear()
        out = [metric(f"{n} schedules due within a minute: a run's start after its time, p50", median([r[0] for r in late]), "ms", runs=[r[0] for r in late]),
               metric("p99", median([r[1] for r in late]), "ms", runs=[r[1] for r in late]),
               metric("its first turn after its time, p50", median([r[2] for r in late]), "ms", runs=[r[2] for r in late]),
               metric("the same, p99", median([r[3] for r in late]), "ms", runs=[r[3] for r in late]),
               metric("a firing, a hundred to a transaction", median([c[0] for c in costs]), "µs", runs=[c[0] for c in costs]),
               metric("start_workflow with a key and labels, likewise", median([c[1] for c in costs]), "µs", runs=[c[1] for c in costs]),
               metric("a firing against start_workflow", median([c[0] / c[1] for c in costs]), runs=[round(c[0] / c[1], 3) for c in costs])]
        return out
