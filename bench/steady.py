"""Tables that do not grow: an hour at half load, with a snapshot that is held for ten minutes, for bench/run.

BENCH_CPU: at most so many processors' time for the half load (a machine that others share). BENCH_SCALE makes the hour shorter, and
with it retention and the times between vacuums and looks at indexes, not the load.
"""

import glob
import os
import subprocess
import tempfile
import time

SCHEMA = """
create schema steady;
create function steady.same(i jsonb) returns jsonb language plpgsql as $$ begin return i; end $$;
create function steady.undo_same(i jsonb) returns jsonb language plpgsql as $$ begin return null; end $$;
create function steady.once(i jsonb) returns jsonb language plpgsql as $$
begin
    if romancy.attempt() = 1 then raise 'not yet'; end if;
    return i;
end $$;
create function steady.never(i jsonb) returns jsonb language plpgsql as $$ begin raise 'no'; end $$;
select romancy.define_activity('steady_undone', 'steady.same(jsonb)', compensation => 'steady.undo_same');
select romancy.define_activity('steady_ext', queue => 'steady_q');
select romancy.define_activity('steady_keyed', queue => 'steady_k');
select romancy.set_queue('steady_k', per_key => 'k', max_concurrency => 10, rate_limit => '1000/s');

create function steady.three(i jsonb) returns jsonb language plpgsql as $$
begin
    perform romancy.activity('steady.same', i);
    perform romancy.activity('steady.same', i);
    return romancy.activity('steady.same', i);
end $$;
create function steady.asks(i jsonb) returns jsonb language plpgsql as $$
begin
    perform romancy.set_value('k', i);
    perform romancy.await_all(array[romancy.spawn('steady_ext', i), romancy.spawn('steady_keyed', i), romancy.spawn('steady.same', i)]);
    return romancy.activity('steady_ext', i);
end $$;
create function steady.meets(i jsonb) returns jsonb language plpgsql as $$
begin
    return (romancy.receive('steady_go', '10 min')).data;
end $$;
create function steady.naps(i jsonb) returns jsonb language plpgsql as $$
begin
    perform romancy.sleep(make_interval(secs => (i->>'k')::int % 30));
    return romancy.activity('steady.once', i, retry => '{"initial_interval": "1 s"}');
end $$;
create function steady.parent(i jsonb) returns jsonb language plpgsql as $$
begin
    return romancy.call_workflow('steady.three', i);
end $$;
create function steady.undoes(i jsonb) returns jsonb language plpgsql as $$
begin
    perform romancy.activity('steady_undone', i);
    perform romancy.activity('steady_undone', i);
    return romancy.activity('steady.never', i, retry => '{"max_attempts": 1}');
end $$;
-- for ever: 25 messages to a generation
create function steady.reads(i jsonb) returns jsonb language plpgsql as $$
begin
    perform romancy.subscribe(i->>'channel', i->>'mode');
    for n in 1 .. 25 loop perform romancy.receive(i->>'channel'); end loop;
    perform romancy.recur(i);
end $$;
create function steady.hears(i jsonb) returns jsonb language plpgsql as $$
begin
    for n in 1 .. 25 loop perform romancy.wait_event('steady.paid'); end loop;
    perform romancy.recur(i);
end $$;

select romancy.start_workflow('steady.reads', '{"channel": "steady_news", "mode": "broadcast"}') from generate_series(1, 3);
select romancy.start_workflow('steady.reads', '{"channel": "steady_work", "mode": "competing"}') from generate_series(1, 3);
select romancy.start_workflow('steady.hears');
select count(romancy.schedule('steady' || g, '@every 2s', 'steady.three', catch_up => '1 min')) from generate_series(1, 20) g;
"""

# A unit: 19 instances, 10 tasks of programs, and messages
UNIT = """\\set k random(1, 1000000)
select romancy.start_workflow('steady.meets', jsonb_build_object('k', :k::int)) as id \\gset
select count(*) from romancy.start_workflows('steady.three', array_fill(jsonb_build_object('k', :k::int), array[10]), array(select gen_random_uuid()::text from generate_series(1, 10)));
select count(*) from romancy.start_workflows('steady.asks', array_fill(jsonb_build_object('k', :k::int % 1000), array[2]));
select count(*) from romancy.start_workflows('steady.naps', array_fill(jsonb_build_object('k', :k::int), array[2]), labels => jsonb_build_object('k', :k::int));
select romancy.start_workflow('steady.parent', jsonb_build_object('k', :k::int));
select romancy.start_workflow('steady.undoes', jsonb_build_object('k', :k::int));
select romancy.run_canvas(romancy.chord(romancy.group(variadic array(select romancy.task('steady_ext', to_jsonb(g)) from generate_series(1, 3) g)), romancy.task('steady.same')));
select romancy.publish('steady_news', '1'), romancy.publish('steady_work', '1');
select romancy.raise_event('steady.paid', 'bench', '1', id => gen_random_uuid()::text);
select romancy.send_to(:id, 'steady_go', '1');
"""
PROGRAM = """call romancy.poll_activities('{queue}', 'w', 50, '60s', '1s') \\gset
select romancy.complete_activities(array(select t->>'token' from jsonb_array_elements(:tasks::jsonb) t), array(select t->'input' from jsonb_array_elements(:tasks::jsonb) t));
"""
SIZES = """
select c.relname, c.relkind, pg_relation_size(c.oid) from pg_class c join pg_namespace n on n.oid = relnamespace
where nspname = 'romancy' and relkind in ('r', 'i')
union all
select m.relname || ' ' || case c.relkind when 't' then '(toast)' else '(toast index)' end, c.relkind, pg_relation_size(c.oid)
from pg_class m join pg_namespace n on n.oid = m.relnamespace join pg_class c on c.oid = m.reltoastrelid
    or c.oid in (select indexrelid from pg_index where indrelid = m.reltoastrelid)
where nspname = 'romancy' and m.relkind = 'r'
"""
MB = 1 << 20


def register(g):
    bench, metric, psql, number, setting = g["bench"], g["metric"], g["psql"], g["number"], g["setting"]
    wait_until, say, scale = g["wait_until"], g["say"], g["SCALE"]

    class Load:
        """pgbench with a script until it is stopped."""

        def __init__(self, script, clients=1, rate=None):
            self.file = tempfile.NamedTemporaryFile("w", suffix=".sql")
            self.file.write(script)
            self.file.flush()
            self.process = subprocess.Popen(["pgbench", "-n", "-M", "prepared", "-f", self.file.name, "-c", str(clients), "-T", "100000"]
                                            + (["-R", str(rate)] if rate else []), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

        def stop(self):
            if self.process.poll() is not None:
                raise RuntimeError("pgbench ended: " + self.process.stderr.read()[-2000:])
            self.process.terminate()
            self.process.wait()

    def processor():
        """Seconds of processor time of the server, with those of its processes that have ended."""
        with open(os.path.join(os.environ["PGDATA"], "postmaster.pid"), encoding="utf-8") as f:
            postmaster = f.readline().strip()
        total = 0
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(path, encoding="utf-8", errors="replace") as f:
                    pid = path.split("/")[2]
                    field = f.read().rsplit(") ", 1)[1].split()
            except OSError:
                continue
            if pid == postmaster:
                total += sum(map(int, field[11:15]))
            elif field[1] == postmaster:
                total += sum(map(int, field[11:13]))
        return total / os.sysconf("SC_CLK_TCK")

    def scaled(seconds):
        """A time that belongs to the hour, as a setting."""
        return f"{max(1, round(seconds * min(1, scale)))}s"

    def sizes():
        return {r[0]: int(r[2]) for r in psql(SIZES)}

    def show(when, now):
        big = sorted(now.items(), key=lambda x: -x[1])
        say(f"{when}: {sum(now.values()) / MB:.0f} MB; " + ", ".join(f"{name} {size / MB:.1f}" for name, size in big if size >= MB))
        say("dead rows: " + ", ".join(f"{r[0]} {r[1]}" for r in psql(
            "select relname, n_dead_tup from pg_stat_user_tables where schemaname = 'romancy' and n_dead_tup > 1000 order by n_dead_tup desc limit 8")))

    def ended():
        """Units: each has one of these."""
        return number("select coalesce(sum(completed), 0) from romancy.stat_workflows where workflow = 'steady.parent'")

    @bench("(B) an hour at half load, a snapshot held for ten minutes: sizes at the end against minute ten",
           ["romancy.executors = 2", f"romancy.retention = '{scaled(240)}'", "romancy.retention_interval = '10s'", f"romancy.message_retention = '{scaled(240)}'",
            "romancy.channel_cleanup_interval = '10s'", "romancy.log_failures = off", "checkpoint_timeout = '5min'",
            f"autovacuum_naptime = '{scaled(60)}'", f"romancy.reindex_interval = '{scaled(300)}'"])
    def steady_B():
        psql(SCHEMA)
        programs = [Load(PROGRAM.format(queue=q), 1) for q in ("steady_q", "steady_k")]

        # full load: six clients start units as fast as they can, and pause while something is due
        full = Load(UNIT + "select pg_sleep(0.01) from romancy.t_instance where wake_at < now() limit 1;\n", 6)
        time.sleep(5)
        done, cpu, begun = ended(), processor(), time.monotonic()
        time.sleep(max(5, 30 * scale))
        took = time.monotonic() - begun
        rate = (ended() - done) / took
        each = (processor() - cpu) / took / rate
        full.stop()
        half = rate / 2
        if os.environ.get("BENCH_CPU"):
            half = min(half, float(os.environ["BENCH_CPU"]) / each)
        say(f"full load {rate:.1f} units per second, {1000 * each:.1f} ms of processor time for a unit; offered {half:.2f}")
        wait_until("select count(*) < 1000 from romancy.t_instance where wake_at < now()", 600)

        load = Load(UNIT, 2, f"{half:.3f}")
        minute = 60 * scale
        begun = time.monotonic()
        done, cpu = ended(), processor()
        holder = None
        seen = {}
        for i in range(1, 61):
            time.sleep(max(0, begun + i * minute - time.monotonic()))
            seen[i] = sizes()
            if i % 5 == 0:
                show(f"minute {i}", seen[i])
            if i == 20:
                holder = subprocess.Popen(["psql", "-Xq"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
                holder.stdin.write("begin isolation level repeatable read; select count(*) from romancy.t_control;\n")
                holder.stdin.flush()
            if i == 30:
                holder.communicate("commit;\n")
        took = time.monotonic() - begun
        offered = (ended() - done) / took
        used = (processor() - cpu) / took
        load.stop()
        for program in programs:
            program.stop()
        out = [metric("full load", rate, "units/s"), metric("ended in the hour", offered, "units/s"), metric("processors used", used, "")]
        for when, title in ((20, "before the snapshot"), (30, "at its end"), (60, "at the end")):
            out.append(metric(f"all tables and indexes, {title}, against minute ten", sum(seen[when].values()) / sum(seen[10].values())))
        for name in sorted(seen[60], key=lambda x: -seen[60][x]):
            if seen[60][name] >= MB:
                a, b, c, d = (max(seen[i].get(name, 0), MB // 4) for i in (10, 20, 30, 60))
                out.append(metric(f"{name}, at the end against minute ten", d / a, "", aim="<= 1.2", better="less",
                                  note=f"{a / MB:.1f} MB in minute 10, {b / MB:.1f} in 20, {c / MB:.1f} in 30, {d / MB:.1f} in 60"))
        return out
