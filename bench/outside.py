"""The measurements of HTTP requests and of events to destinations, for bench/run. The server is that of the tests (one process of Python), which is
often what bounds; so it is measured by curl, too. With TLS it is nginx, which answers by itself."""

import os
import socket
import subprocess
import sys
import tempfile
import time


class Server:
    """test/perl/http_server.py, for as long as a measurement."""

    def __init__(self, root):
        self.folder = tempfile.TemporaryDirectory()
        self.port_file = os.path.join(self.folder.name, "port")
        self.run = subprocess.Popen([sys.executable, os.path.join(root, "test/perl/http_server.py"), self.port_file, os.path.join(self.folder.name, "log")])
        while not os.path.exists(self.port_file):
            if self.run.poll() is not None:
                raise RuntimeError(f"test/perl/http_server.py has ended with {self.run.returncode}")
            time.sleep(0.02)
        with open(self.port_file, encoding="ascii") as f:
            self.url = f"http://127.0.0.1:{f.read().strip()}"

    def let(self, name):
        with open(f"{self.port_file}.{name}", "w", encoding="ascii"):
            pass

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.run.kill()
        self.run.wait()
        self.folder.cleanup()


class Nginx:
    """nginx with TLS, of HTTP/2 (urls["HTTP/2"]) and HTTP/1.1, which answers each request with 204. ROMANCY_NGINX is its program."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        folder = self.folder.name
        self.ca = os.path.join(folder, "ca.crt")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", os.path.join(folder, "key"), "-out", self.ca, "-days", "30",
                        "-subj", "/CN=here", "-batch", "-addext", "subjectAltName = IP:127.0.0.1"], check=True, stderr=subprocess.DEVNULL)
        self.urls = {}
        servers = ""
        for protocol, option in (("HTTP/2", " http2"), ("HTTP/1.1", "")):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            self.urls[protocol] = f"https://127.0.0.1:{port}"
            servers += f"server {{ listen 127.0.0.1:{port} ssl{option}; keepalive_requests 1000000; location / {{ return 204; }} }}\n"
        temporary = "".join(f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(os.path.join(folder, "conf"), "w", encoding="ascii") as f:
            f.write(f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error warn; worker_rlimit_nofile 8000;\n"
                    f"events {{ worker_connections 4000; }}\nhttp {{\n{temporary}access_log off; ssl_certificate {self.ca}; ssl_certificate_key {folder}/key;\n{servers}}}\n")
        self.run = subprocess.Popen([os.environ["ROMANCY_NGINX"], "-p", folder, "-c", os.path.join(folder, "conf"), "-e", os.path.join(folder, "error")])
        while subprocess.run(["curl", "-s", "--cacert", self.ca, *self.urls.values()], stdout=subprocess.DEVNULL, check=False).returncode != 0:
            if self.run.poll() is not None:
                raise RuntimeError(f"nginx has ended with {self.run.returncode}")
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.run.kill()
        self.run.wait()
        self.folder.cleanup()


def register(g):
    bench, metric, median, psql, number = g["bench"], g["metric"], g["median"], g["psql"], g["number"]
    size, percentile, wait_until, setting, root, runs = g["size"], g["percentile"], g["wait_until"], g["setting"], g["ROOT"], g["RUNS"]

    def define(url):
        psql(f"""select romancy.allow_http(current_user::regrole, '{url}/*', private => true);
            create or replace function bench.requests(i jsonb) returns jsonb language plpgsql as $$
            begin return to_jsonb(jsonb_array_length(romancy.map('request', (select jsonb_agg(n) from generate_series(1, (i->>'n')::int) n)))); end $$;
            create or replace function bench.one_request(i jsonb) returns jsonb language plpgsql as $$ begin return romancy.http('GET', i->>'url'); end $$;
            select romancy.define_workflow(f, 'bench.' || f || '(jsonb)') from unnest(array['requests', 'one_request']) f;""")

    def took(sql):
        before = time.monotonic()
        psql(sql)
        return time.monotonic() - before

    def curl(url, n, parallel, *more):
        before = time.monotonic()
        subprocess.run(["curl", "-s", *more, "-Z", "--parallel-max", str(parallel), "-o", "/dev/null", f"{url}?[1-{n}]"], check=True, stderr=subprocess.DEVNULL)
        return n / (time.monotonic() - before)

    def worker():
        return int(number("select pid from romancy.workers where kind = 'http'"))

    def resident(pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    def workflows(n):
        """Workflows of three steps per second, with their starts; what waits is left alone."""
        before = time.monotonic()
        g["load"]("three_steps", n)
        # (by an index: the table has those of earlier measurements, too)
        wait_until("select not exists (select from romancy.t_instance where wake_at is not null and workflow = 'three_steps')", 600, 0.05)
        return n / (time.monotonic() - before)

    def rates(out, url, what, *more):
        """Requests per second to a server, with 1, 50 and 500 under way; more: arguments of curl."""
        define(url)
        psql(f"""select romancy.define_activity('request', http => '{{"method": "GET", "url": "{url}/empty"}}')""")
        psql("call romancy.run_workflow('requests', '{\"n\": 10}')")
        for parallel in (1, 50, 500):
            n = size(10000 if parallel > 1 else 1000, 100)
            setting("romancy.http_max_in_flight", parallel)
            ours, theirs = [], []
            for _ in range(runs):
                ours.append(n / took(f"call romancy.run_workflow('requests', '{{\"n\": {n}}}')"))
                theirs.append(curl(f"{url}/empty", n, min(parallel, 300), *more))
            out.append(metric(f"map over {n} requests{what}, {parallel} under way", median(ours), "requests/s", runs=ours))
            out.append(metric("against curl", median([a / b for a, b in zip(ours, theirs)])))

    @bench("(q) HTTP requests: per second with 1, 50 and 500 under way, and latency, against curl", ["romancy.worker_idle_timeout = 0"])
    def requests_q():
        out = []
        with Server(root) as server:
            rates(out, server.url, "")
            n = size(500, 50)
            ms = []
            for _ in range(n):
                ms.append(1000 * took(f"call romancy.run_workflow('one_request', '{{\"url\": \"{server.url}/empty\"}}')"))
            alone = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{time_total}\n", f"{server.url}/empty?[1-{n}]"], text=True, capture_output=True, check=True)
            theirs = [1000 * float(t) for t in alone.stdout.split()]
            out.append(metric("run_workflow of one request in a new session, p50", percentile(ms, 0.5), "ms"))
            out.append(metric("the same, p99", percentile(ms, 0.99), "ms"))
            out.append(metric("curl alone, p50", percentile(theirs, 0.5), "ms"))
            out.append(metric("the same, p99", percentile(theirs, 0.99), "ms"))
        if "ROMANCY_NGINX" not in os.environ:
            g["say"]("no nginx: TLS is not measured")
            return out
        with Nginx() as server:
            setting("romancy.http_ca_file", server.ca)
            for protocol, url in server.urls.items():
                rates(out, url, f" over TLS, {protocol}", "--cacert", server.ca, "--http2" if protocol == "HTTP/2" else "--http1.1")
        return out

    @bench("(r) a thousand requests under way: what they hold, and what ends them", ["romancy.worker_idle_timeout = 0", "romancy.http_max_in_flight = 1100", "romancy.http_timeout = '10min'"])
    def requests_r():
        n = 1000
        with Server(root) as server:
            define(server.url)
            psql(f"""select romancy.define_activity('request', http => '{{"method": "GET", "url": "{server.url}/hang"}}')""")
            psql(f"call romancy.run_workflow('one_request', '{{\"url\": \"{server.url}/empty\"}}')")
            before = resident(worker())
            workflows(size(2000, 500))
            alone = workflows(size(20000, 1000))

            def begin():
                many = psql(f"select romancy.start_workflow('requests', '{{\"n\": {n}}}')")[0][0]
                wait_until(f"select count(*) = {n} from romancy.activity_tasks where status = 'running' and queue = '@http'", 120)
                return many

            many = begin()
            out = [metric("memory of the worker for each request", (resident(worker()) - before) / n, "kB")]
            out.append(metric("workers with a snapshot", number("select count(*) from pg_stat_activity where backend_type like 'romancy %' and backend_xmin is not null")))
            out.append(metric("locks of the HTTP worker", number(f"select count(*) from pg_locks where pid = {worker()}")))
            beside = workflows(size(20000, 1000))
            ms = []
            for _ in range(20):
                one = psql(f"select romancy.start_workflow('one_request', '{{\"url\": \"{server.url}/hang\"}}')")[0][0]
                wait_until(f"select count(*) = {n + 1} from romancy.activity_tasks where status = 'running' and queue in ('@http', '@call')", 60, 0.01)
                psql(f"select romancy.cancel_workflow('{one}')")
                wait_until(f"select status = 'cancelled' from romancy.instances where instance_id = '{one}'", 60, 0.005)
                ms.append(number(f"select 1000 * extract(epoch from finished_at - (error->>'cancelled_at')::timestamptz) from romancy.instances where instance_id = '{one}'"))
            out.append(metric("a cancel of one to its end, p50", percentile(ms, 0.5), "ms"))
            out.append(metric("the longest of twenty", max(ms), "ms"))
            # the same in another database, which is dropped; then the server is shut down
            psql("create database other")
            subprocess.run(["psql", "-Xqd", "other", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-c", "create extension romancy", "-c",
                            f"select romancy.allow_http(current_user::regrole, '{server.url}/*', private => true), romancy.define_destination('d', url => '{server.url}/hang', event_types => '{{*}}', max_in_flight => {n})",
                            "-c", f"select count(romancy.send_event('t', '/s')) from generate_series(1, {n})"], check=True)
            wait_until(f"\\c other\nselect fetched = {n} from romancy.destinations where name = 'd'", 120)
            out.append(metric("DROP DATABASE with as many under way", took("drop database other"), "s"))
            # without them again: the machine, or the tables, may have changed
            psql(f"select romancy.cancel_workflow('{many}')")
            wait_until("select count(*) = 0 from romancy.activity_tasks where status = 'running' and queue = '@http'", 120)
            out.append(metric("throughput of workflows while they wait, against the mean of before and after", beside / ((alone + workflows(size(20000, 1000))) / 2)))
            begin()
            before = time.monotonic()
            subprocess.run(["pg_ctl", "-m", "fast", "-w", "stop"], check=True, stdout=subprocess.DEVNULL)
            out.append(metric("shutdown", time.monotonic() - before, "s"))
            subprocess.run(["pg_ctl", "-l", os.environ["PGLOG"], "-w", "start"], check=True, stdout=subprocess.DEVNULL)
        return out

    @bench("(z) events from send_event to a receiver in each format, and send_event against a plain INSERT", ["romancy.worker_idle_timeout = 0"])
    def events_z():
        out = []
        with Server(root) as server:
            define(server.url)
            n = size(10000, 200)
            for how in ("structured", "binary", "batch"):
                psql(f"select romancy.define_destination('{how}', url => '{server.url}/empty', format => '{how}', max_in_flight => 50, event_types => '{{{how}}}')")
                rates = []
                for _ in range(runs):
                    before = time.monotonic()
                    psql(f"select count(romancy.send_event('{how}', '/bench', to_jsonb(g))) from generate_series(1, {n}) g")
                    wait_until("select not exists (select from romancy.outbox where status = 'pending')", 600, 0.05)
                    rates.append(n / (time.monotonic() - before))
                out.append(metric(f"events to a receiver, {how}", median(rates), "events/s", runs=rates))
            setting("romancy.enabled", "off")
            psql("create table bench.event (id uuid primary key default gen_random_uuid(), type text, source text, data jsonb, created_at timestamptz default now(), state int default 0); "
                 "create index on bench.event (created_at) where state = 0")
            for clients in (1, 16):
                ratios = []
                for _ in range(runs):
                    plain = g["Pgbench"]("insert into bench.event (type, source, data) values ('plain', '/bench', '{\"n\": 1}');\n", clients, secs=g["seconds"](10)).tps
                    ours = g["Pgbench"]("select romancy.send_event('plain', '/bench', '{\"n\": 1}');\n", clients, secs=g["seconds"](10)).tps
                    ratios.append(ours / plain)
                out.append(metric(f"send_event against an INSERT with two indexes, {clients} clients", median(ratios), runs=ratios))
        return out
