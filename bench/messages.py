"""The measurements of messages, for bench/run."""

import json

HANDLERS = """
create function bench.listen(input jsonb) returns jsonb language plpgsql as $$
declare
    m romancy.message;
    n int := (input->>'n')::int;
begin
    perform romancy.subscribe(input->>'channel', input->>'mode');
    for i in 1 .. least(n, 50) loop
        m := romancy.receive(input->>'channel');
        if input ? 'note' then
            perform romancy.activity('bench.note_received', to_jsonb(m.id));
        end if;
        exit when m.data = '"stop"';
    end loop;
    if n > 50 and m.data <> '"stop"' then
        perform romancy.recur(input || jsonb_build_object('n', n - 50));
    end if;
    return null;
end $$;
create table bench.published (message_id bigint primary key);
create table bench.received (message_id bigint primary key);
create function bench.note_received(input jsonb) returns jsonb language plpgsql as $$
begin
    insert into bench.received values (input::bigint);
    return null;
end $$;
create table bench.like_message (id bigint generated always as identity primary key,
    published_at timestamptz not null default clock_timestamp(), channel text, data jsonb, filler text);
create index on bench.like_message (channel, id);
create index on bench.like_message (published_at);
"""


def register(g):
    bench, metric, median, psql, number = g["bench"], g["metric"], g["median"], g["psql"], g["number"]
    size, seconds, wait_until, setting, runs = g["size"], g["seconds"], g["wait_until"], g["setting"], g["RUNS"]
    pgbench, percentile, value = g["Pgbench"], g["percentile"], g["value"]

    def empty():
        psql("truncate romancy.t_message, romancy.t_delivery, romancy.t_subscription, romancy.t_channel")
        g["empty"]()

    def listen(count, mode, n, **more):
        empty()
        task = json.dumps({"channel": "bench", "mode": mode, "n": n, **more})
        psql(f"select count(romancy.start_workflow('bench.listen', '{task}')) from generate_series(1, {count})")
        wait_until(f"select waiting = {count} from romancy.channels where channel = 'bench'", 120)

    def commits():
        """Transactions committed in this database. Workers leave first: what they did is counted then."""
        setting("romancy.enabled", "off")
        wait_until("select count(*) = 0 from romancy.workers where kind in ('executor', 'scheduler')", 60)
        n = number("select xact_commit from pg_stat_database where datname = current_database()")
        setting("romancy.enabled", "on")
        return n

    def over():
        wait_until("select not exists (select from romancy.t_instance where wake_at is not null)", 600, 0.05)

    @bench("(k) publish calls per second, with no subscriber, against a plain INSERT")
    def messages_k():
        psql(HANDLERS)
        setting("romancy.enabled", "off")
        publish = "\\set n random(1, 1000000)\nselect romancy.publish('bench', jsonb_build_object('n', :n::int));\n"
        insert = ("\\set n random(1, 1000000)\ninsert into bench.like_message (channel, data, filler) "
                  "values ('bench', jsonb_build_object('n', :n::int), repeat('x', 32));\n")
        out = []
        for clients in (1, 16, 64):
            rows = []
            for _ in range(runs):
                empty()
                a = pgbench(publish, clients, secs=seconds(6)).tps
                empty()
                b = pgbench(insert, clients, secs=seconds(6)).tps
                rows.append((a, b, a / b))
            out += [metric(f"publish, {clients} clients", median([r[0] for r in rows]), "calls/s"),
                    metric(f"INSERT, {clients} clients", median([r[1] for r in rows]), "calls/s"),
                    metric(f"ratio, {clients} clients", median([r[2] for r in rows]), aim=0.9,
                           runs=[round(r[2], 4) for r in rows])]
        return out

    @bench("(l) messages received per second, and what each costs", ["full_page_writes = off", "autovacuum = off"])
    def messages_l():
        psql(HANDLERS)
        setting("romancy.executors", 2)
        out = []
        for mode in ("broadcast", "competing"):
            for count in (1, 100):
                total = size(10000, 200)
                each = max(2, total // count)
                sent = each if mode == "broadcast" else each * count
                rates, wal, xids, transactions = [], [], [], []
                for _ in range(runs):
                    listen(count, mode, each)
                    commits_before = commits()
                    before = psql("select pg_current_wal_lsn() - '0/0', pg_current_xact_id(), clock_timestamp()")[0]
                    psql(f"select count(romancy.publish('bench', to_jsonb(i))) from generate_series(1, {sent}) i")
                    # each ends when it has had as many as it wants
                    over()
                    after = psql("select pg_current_wal_lsn() - '0/0', pg_current_xact_id(), clock_timestamp()")[0]
                    got = each * count if mode == "broadcast" else sent
                    rates.append(got / number(f"select extract(epoch from '{after[2]}'::timestamptz - '{before[2]}'::timestamptz)"))
                    wal.append((float(after[0]) - float(before[0])) / got)
                    xids.append((float(after[1]) - float(before[1])) / got)
                    transactions.append((commits() - commits_before) / got)
                what = f"{mode}, {count} subscriber" + "s" * (count > 1)
                out += [metric(f"received, {what}", median(rates), "messages/s", runs=[round(r) for r in rates]),
                        metric(f"WAL per message, {what}", median(wal), "bytes"),
                        metric(f"transactions per message, {what}", median(transactions), aim="1",
                               note="all commits in the database, those of the one publisher and of looking at the progress included"),
                        metric(f"transaction ids per message, {what}", median(xids),
                               note="subtransactions of turns included")]
        return out

    @bench("(m) commit of a publish to commit of its receipt, at low load", ["track_commit_timestamp = on"])
    def messages_m():
        psql(HANDLERS)
        setting("romancy.executors", 1)
        n = size(2000, 100)
        p50, p99 = [], []
        for _ in range(runs):
            listen(1, "broadcast", n, note=1)
            psql("truncate bench.published, bench.received")
            pgbench("insert into bench.published select romancy.publish('bench', '1');\n", 1, transactions=n, rate=50)
            wait_until(f"select count(*) = {n} from bench.received", 120)
            ms = [float(r[0]) for r in psql("""
                select 1000 * extract(epoch from pg_xact_commit_timestamp(r.xmin) - pg_xact_commit_timestamp(p.xmin))
                from bench.published p join bench.received r using (message_id)""")]
            p50.append(percentile(ms, 0.5))
            p99.append(percentile(ms, 0.99))
        assert value("select count(*) from bench.published") == str(n)
        return [metric("publish to receipt, p50", median(p50), "ms", aim="< 3", runs=p50),
                metric("the same, p99", median(p99), "ms", runs=p99)]
