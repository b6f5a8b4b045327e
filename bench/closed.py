"""The measurement of callers that wait for their workflow, for bench/run."""


def register(g):
    bench, metric, median, seconds = g["bench"], g["metric"], g["median"], g["seconds"]
    percentile, setting, empty = g["percentile"], g["setting"], g["empty"]
    say, runs, Pgbench, plain = g["say"], g["RUNS"], g["Pgbench"], g["PLAIN"]
    call = """\\set n random(1, 1000000)
call romancy.run_workflow('three_steps', jsonb_build_object('n', :n::int));
"""

    @bench("(A) closed loop: callers that wait for a workflow of three steps", ["track_functions = none"])
    def closed_A():
        setting("romancy.executors", 2)
        Pgbench(call, 1, transactions=100)      # the version is known to be quick
        out = []
        for clients in (1, 8, 64):
            rows = []
            for _ in range(runs):
                row = {}
                for name, script, eager in (("hand", plain, "on"), ("handed over", call, "off"), ("eager", call, "on")):
                    empty()
                    setting("romancy.eager_runs", eager)
                    run = Pgbench(script, clients, secs=seconds(6), log=True)
                    row[name] = (run.tps, percentile(run.latencies, 0.5), percentile(run.latencies, 0.99))
                rows.append(row)
                say(f"{clients} clients: " + ", ".join(f"{k} {v[0]:.0f}/s" for k, v in row.items()))
            for name, label in (("hand", "hand-written function"), ("handed over", "run_workflow by executors"),
                                ("eager", "run_workflow in its session")):
                out += [metric(f"{label}, {clients} clients", median([r[name][0] for r in rows]), "calls/s",
                               runs=[round(r[name][0], 1) for r in rows]),
                        metric(f"{label}, {clients} clients, p50", median([r[name][1] for r in rows]), "ms"),
                        metric(f"{label}, {clients} clients, p99", median([r[name][2] for r in rows]), "ms")]
            for name, label in (("handed over", "by executors"), ("eager", "in its session")):
                out.append(metric(f"ratio to the hand-written function, {label}, {clients} clients",
                                  median([r[name][0] / r["hand"][0] for r in rows]), aim=1.0 if name == "eager" else None,
                                  runs=[round(r[name][0] / r["hand"][0], 4) for r in rows]))
        return out
