#!/usr/bin/python3
"""bench/sdk.py [SYSTEM...]: what bench/sdk runs, in a cluster that test/tools/with-cluster made.

For each system: workflows of three steps per second, with 20 at a time; the time from start to end of one alone; per workflow, the CPU of the
server, its WAL, its transactions, and the statements that the program sends; and the memory of a program that waits for 10,000 messages.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import psycopg

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCALE = float(os.environ.get("BENCH_SCALE", "1"))
MANY, ALONE, TRACED, PARKED = (max(least, int(n * SCALE)) for n, least in ((3000, 40), (200, 20), (50, 10), (10000, 50)))
WORK = tempfile.mkdtemp(dir=os.environ["ROMANCY_WORK"])
CLK = os.sysconf("SC_CLK_TCK")
sql = psycopg.connect("", autocommit=True)


def value(statement, *args):
    return sql.execute(statement, args).fetchone()[0]


def until(statement, *args, limit=600):
    deadline = time.monotonic() + limit
    while not value(statement, *args):
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain: " + statement)
        time.sleep(0.01)


def build(language):
    """The command of the program worker of a language; None: it cannot be built here."""
    if language == "python":
        return ["/usr/bin/python3", ROOT + "/sdk/vectors/worker.py"]
    if language == "typescript":
        modules = os.environ.get("NODE_PATH", "")
        if not os.path.isfile(modules + "/typescript/bin/tsc"):
            return None
        shutil.copytree(ROOT + "/sdk/typescript", WORK + "/ts", symlinks=True)
        os.symlink(modules, WORK + "/ts/node_modules")
        subprocess.run(["node", modules + "/typescript/bin/tsc", "-p", WORK + "/ts"], check=True)
        return ["node", ROOT + "/sdk/vectors/worker.mjs", WORK + "/ts/dist/index.js"]
    if not shutil.which("go"):
        return None
    env = dict(os.environ, GOTOOLCHAIN="local", GOFLAGS="-modcacherw -buildvcs=false")
    if not os.access(env.get("GOCACHE", "/nowhere"), os.W_OK):
        env["GOCACHE"] = WORK + "/gocache"
    done = subprocess.run(["go", "build", "-C", ROOT + "/sdk/go", "-o", WORK + "/worker", "./internal/worker"], env=env)
    return [WORK + "/worker"] if done.returncode == 0 else None


def server_seconds():
    """CPU seconds of the server and of all its processes, those that have ended as well."""
    master = int(open(os.environ["PGDATA"] + "/postmaster.pid").readline())
    ticks = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = open("/proc/%s/stat" % entry).read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(entry) == master:
            ticks += sum(int(f) for f in fields[11:15])
        elif int(fields[1]) == master:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / CLK


def counters(system):
    """(CPU seconds, WAL bytes, transactions)"""
    database = system.database
    with psycopg.connect("", dbname=database, autocommit=True) as conn:
        conn.execute("select pg_stat_force_next_flush()")
    return (server_seconds() + (system.cpu() if hasattr(system, "cpu") else 0), int(value("select pg_current_wal_lsn() - '0/0'")),
            value("select xact_commit from pg_stat_database where datname = %s", database))


def statements():
    """Statements of sessions that log them."""
    return len(re.findall(r"LOG:  (?:statement|execute [^:]*): (?!BEGIN|COMMIT)", open(os.environ["PGLOG"], errors="replace").read()))


def memory(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open("/proc/%d/status" % pid).read()).group(1)) / 1024


class Romancy:
    """A library of sdk/. start(n) gives nothing back before its transaction has ended."""

    def __init__(self, language, command):
        self.role, self.command, self.database = "bench_" + language, command + ["bench", "bench"], "postgres"
        value("select 1 from (select 1) x")
        sql.execute('create role "%s" superuser login' % self.role)
        sql.execute("select romancy.grant_usage('%s')" % self.role)
        self.client = psycopg.connect("", user=self.role, autocommit=True)

    def launch(self, log=False):
        sql.execute("alter role \"%s\" set log_statement = '%s'" % (self.role, "all" if log else "none"))
        env = dict(os.environ, PYTHONPATH=ROOT + "/sdk/python/src", PYTHONDONTWRITEBYTECODE="1", ROMANCY_TEST_CONCURRENCY="20", ROMANCY_TEST_PREFETCH="20",
                   ROMANCY_TEST_CONNINFO="postgres:///postgres?host=%s&port=%s&user=%s" % (os.environ["PGHOST"], os.environ["PGPORT"], self.role))
        self.process = subprocess.Popen(self.command, env=env)
        until("select count(*) = 2 from romancy.workflows where owner = %s and name in ('three', 'parked') and defined", self.role)

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def many(self, n):
        self.client.execute("select count(*) from romancy.start_workflows('three', array(select to_jsonb(g) from generate_series(1, %s::int) g))", (n,))
        until("select count(*) = 0 from romancy.instances where owner = %s and workflow = 'three' and status <> 'completed'", self.role)

    def alone(self):
        begun = time.monotonic()
        one = self.client.execute("select romancy.start_workflow('three', '1')").fetchone()[0]
        self.client.execute("call romancy.await_result(%s::uuid, '1 min', null)", (str(one),))
        return time.monotonic() - begun

    def park(self, n):
        before = memory(self.process.pid)
        self.client.execute("select count(*) from romancy.start_workflows('parked', array(select to_jsonb(g) from generate_series(1, %s::int) g))", (n,))
        until("select count(*) = %s from romancy.instances where owner = %s and workflow = 'parked' and status = 'waiting_for_message'", n, self.role)
        return memory(self.process.pid) - before


DBOS_PROGRAM = '''
import os, sys, time
from dbos import DBOS, DBOSConfig, SetWorkflowID
from concurrent.futures import ThreadPoolExecutor
url = os.environ["BENCH_URL"]
DBOS(config=DBOSConfig(name="bench", system_database_url=url, run_admin_server=False, log_level="ERROR"))

@DBOS.step()
def one(i):
    return i + 1

@DBOS.workflow()
def three(i):
    return one(one(one(i)))

DBOS.launch()
print("ready", flush=True)
pool = ThreadPoolExecutor(20)
for line in sys.stdin:
    n = int(line)
    if n == 1:
        begun = time.monotonic()
        three(1)
        print(time.monotonic() - begun, flush=True)
    else:
        list(pool.map(three, range(n)))
        print("done", flush=True)
os._exit(0)
'''


class Dbos:
    """DBOS of the registry: its program starts and runs the workflows itself."""

    def __init__(self, python):
        self.python, self.role, self.database = python, "bench_dbos", "dbos"
        sql.execute("create role bench_dbos superuser login")
        sql.execute("create database dbos")

    def launch(self, log=False):
        sql.execute("alter role bench_dbos set log_statement = '%s'" % ("all" if log else "none"))
        url = "postgresql://bench_dbos@/dbos?host=%s&port=%s" % (os.environ["PGHOST"], os.environ["PGPORT"])
        self.process = subprocess.Popen([self.python, "-c", DBOS_PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=dict(os.environ, BENCH_URL=url, HOME=WORK))
        while self.process.stdout.readline().strip() != "ready":
            if self.process.poll() is not None:
                raise SystemExit("dbos does not start")

    def stop(self):
        self.process.stdin.close()
        self.process.wait()

    def tell(self, n):
        self.process.stdin.write("%d\n" % n)
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def many(self, n):
        self.tell(n)

    def alone(self):
        return float(self.tell(1))

    def park(self, n):
        return None


ABSURD_PROGRAM = '''
import os, signal
from absurd_sdk import Absurd
app = Absurd(os.environ["BENCH_URL"], queue_name="bench")

@app.register_task(name="three")
def three(params, ctx):
    i = params
    for n in range(3):
        i = ctx.step("one", lambda: i + 1)
    return i

@app.register_task(name="parked")
def parked(params, ctx):
    return ctx.await_event("go:%s" % params)

signal.signal(signal.SIGTERM, lambda *_: app.stop_worker())
print("ready", flush=True)
app.start_worker(concurrency=20)
'''


class Absurd:
    """Absurd of the registry: its functions in the database, and its program, which polls every 250 ms."""

    def __init__(self, bin):
        self.bin, self.role, self.database = bin, "bench_absurd", "absurd"
        sql.execute("create role bench_absurd superuser login")
        sql.execute("create database absurd")
        self.url = "postgresql://bench_absurd@/absurd?host=%s&port=%s" % (os.environ["PGHOST"], os.environ["PGPORT"])
        for command in (["init"], ["create-queue", "bench"]):
            subprocess.run([bin + "/python", bin + "/absurdctl", *command], check=True, stdout=subprocess.DEVNULL,
                           env=dict(os.environ, ABSURD_DATABASE_URL=self.url))
        self.client = psycopg.connect(self.url, user="postgres", autocommit=True)

    def launch(self, log=False):
        sql.execute("alter role bench_absurd set log_statement = '%s'" % ("all" if log else "none"))
        self.process = subprocess.Popen([self.bin + "/python", "-c", ABSURD_PROGRAM], stdout=subprocess.PIPE, text=True,
                                        env=dict(os.environ, BENCH_URL=self.url))
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit("absurd does not start")

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def spawn(self, name, n):
        return [row[0] for row in self.client.execute(
            "select (absurd.spawn_task('bench', %s, to_jsonb(g), '{}')).task_id from generate_series(1, %s::int) g", (name, n))]

    def until(self, name, state, limit=600):
        deadline = time.monotonic() + limit
        while self.client.execute("select exists (select from absurd.t_bench where task_name = %s and state <> %s)", (name, state)).fetchone()[0]:
            if time.monotonic() > deadline:
                raise SystemExit("waited in vain: tasks %s are not %s" % (name, state))
            time.sleep(0.002)

    def many(self, n):
        self.spawn("three", n)
        self.until("three", "completed")

    def alone(self):
        begun = time.monotonic()
        self.many(1)
        return time.monotonic() - begun

    def park(self, n):
        before = memory(self.process.pid)
        self.spawn("parked", n)
        self.until("parked", "sleeping")
        return memory(self.process.pid) - before


TEMPORAL_PROGRAM = '''
import asyncio, datetime, os, sys, time, uuid
from google.protobuf.duration_pb2 import Duration
from temporalio import activity, workflow
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

@activity.defn
async def one(i: int) -> int:
    return i + 1

@workflow.defn(name="three")
class Three:
    @workflow.run
    async def run(self, i: int) -> int:
        for n in range(3):
            i = await workflow.execute_activity(one, i, start_to_close_timeout=datetime.timedelta(minutes=1))
        return i

async def eventually(call, limit=120):
    deadline = time.monotonic() + limit
    while True:
        try:
            return await call()
        except Exception as error:
            if "already" in str(error).lower():
                return
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)

async def main():
    client = await eventually(lambda: Client.connect("127.0.0.1:7233", namespace="bench"))
    await eventually(lambda: client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace="bench", workflow_execution_retention_period=Duration(seconds=86400))))
    run = lambda i: client.execute_workflow(Three.run, i, id=str(uuid.uuid4()), task_queue="bench")
    places = asyncio.Semaphore(20)
    async def placed(i):
        async with places:
            await run(i)
    async def worker():
        return Worker(client, task_queue="bench", workflows=[Three], activities=[one], workflow_runner=UnsandboxedWorkflowRunner(),
                      max_concurrent_workflow_tasks=20, max_concurrent_activities=20)
    async with await worker():
        await eventually(lambda: run(1))
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            n = int(line)
            begun = time.monotonic()
            await asyncio.gather(*(placed(i) for i in range(n)))
            print(time.monotonic() - begun, flush=True)
    os._exit(0)

asyncio.run(main())
'''

TEMPORAL_CONFIG = """
log: {stdout: true, level: error}
persistence:
  defaultStore: default
  visibilityStore: visibility
  numHistoryShards: 4
  datastores:
    default: {sql: {pluginName: postgres12, databaseName: temporal, connectAddr: "127.0.0.1:%(port)s", connectProtocol: tcp, user: bench_temporal, password: x, maxConns: 20, maxIdleConns: 20, maxConnLifetime: 1h}}
    visibility: {sql: {pluginName: postgres12, databaseName: temporal_visibility, connectAddr: "127.0.0.1:%(port)s", connectProtocol: tcp, user: bench_temporal, password: x, maxConns: 5, maxIdleConns: 5, maxConnLifetime: 1h}}
global: {membership: {maxJoinDuration: 30s, broadcastAddress: 127.0.0.1}}
services:
  frontend: {rpc: {grpcPort: 7233, membershipPort: 6933, bindOnLocalHost: true, httpPort: 7243}}
  matching: {rpc: {grpcPort: 7235, membershipPort: 6935, bindOnLocalHost: true}}
  history: {rpc: {grpcPort: 7234, membershipPort: 6934, bindOnLocalHost: true}}
  worker: {rpc: {grpcPort: 7239, membershipPort: 6939, bindOnLocalHost: true}}
clusterMetadata:
  enableGlobalNamespace: false
  failoverVersionIncrement: 10
  masterClusterName: active
  currentClusterName: active
  clusterInformation: {active: {enabled: true, initialFailoverVersion: 1, rpcName: frontend, rpcAddress: "localhost:7233"}}
dcRedirectionPolicy: {policy: noop}
"""


class Temporal(Dbos):
    """Temporal: its server, from the Go module proxy, with this PostgreSQL as its storage, and the Python SDK of the registry."""

    def __init__(self, python, servers):
        self.python, self.servers, self.role, self.database = python, servers, "bench_temporal", "temporal"
        sql.execute("alter system set listen_addresses = '127.0.0.1'")
        subprocess.run(["pg_ctl", "-l", os.environ["PGLOG"], "-w", "restart"], check=True, stdout=subprocess.DEVNULL)
        globals()["sql"] = psycopg.connect("", autocommit=True)
        sql.execute("create role bench_temporal superuser login")
        for database, schema in (("temporal", "temporal"), ("temporal_visibility", "visibility")):
            sql.execute("create database " + database)
            tool = [servers + "/sql", "--plugin", "postgres12", "--ep", "127.0.0.1", "-p", os.environ["PGPORT"], "-u", "bench_temporal", "--db", database]
            subprocess.run(tool + ["setup-schema", "-v", "0.0"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            subprocess.run(tool + ["update-schema", "--schema-name", "postgresql/v12/" + schema], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(WORK + "/temporal.yaml", "w") as config:
            config.write(TEMPORAL_CONFIG % {"port": os.environ["PGPORT"]})

    def launch(self, log=False):
        sql.execute("alter role bench_temporal set log_statement = '%s'" % ("all" if log else "none"))
        with open(WORK + "/temporal.log", "a") as out:
            self.server = subprocess.Popen([self.servers + "/server", "--config-file", WORK + "/temporal.yaml", "--allow-no-auth", "start"], stdout=out, stderr=out)
        self.process = subprocess.Popen([self.python, "-c", TEMPORAL_PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit("temporal does not start: " + open(WORK + "/temporal.log").read()[-2000:])

    def stop(self):
        super().stop()
        self.server.terminate()
        self.server.wait()

    def cpu(self):
        """Of the server that the program talks to, beside PostgreSQL."""
        fields = open("/proc/%d/stat" % self.server.pid).read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLK


def measure(name, system):
    row = {"system": name}
    system.launch()
    system.many(MANY // 10 + 2)
    before, begun = counters(system), time.monotonic()
    system.many(MANY)
    took, after = time.monotonic() - begun, counters(system)
    row["workflows/s"] = "%.0f" % (MANY / took)
    times = sorted(system.alone() for _ in range(ALONE))
    row["alone p50 (ms)"] = "%.1f" % (1000 * statistics.median(times))
    row["alone p99 (ms)"] = "%.1f" % (1000 * times[min(len(times) - 1, int(len(times) * 0.99))])
    row["server CPU (ms)"], row["WAL (kB)"], row["transactions"] = \
        ("%.2f" % x for x in ((after[0] - before[0]) * 1000 / MANY, (after[1] - before[1]) / 1024 / MANY, (after[2] - before[2]) / MANY))
    grown = system.park(PARKED)
    row["MB for %d parked" % PARKED] = "–" if grown is None else "%.0f" % grown
    system.stop()
    system.launch(log=True)
    system.many(5)
    seen = statements()
    system.many(TRACED)
    row["statements"] = "%.1f" % ((statements() - seen) / TRACED)
    system.stop()
    return row


def main():
    wanted = sys.argv[1:] or ["python", "typescript", "go", "dbos", "absurd", "temporal"]
    rows = []
    for name in wanted:
        if name in ("dbos", "absurd", "temporal"):
            bin = os.environ.get("ROMANCY_OTHERS", "") + "/bin"
            module = {"dbos": "dbos", "absurd": "absurd_sdk, absurdctl", "temporal": "temporalio"}[name]
            servers = os.environ.get("ROMANCY_TEMPORAL", "")
            if not os.path.exists(bin + "/python") or subprocess.run([bin + "/python", "-c", "import " + module], capture_output=True).returncode != 0 \
                    or name == "temporal" and not os.path.exists(servers + "/server"):
                print(name + " is not there", file=sys.stderr)
                continue
            rows.append(measure(name, Dbos(bin + "/python") if name == "dbos" else Absurd(bin) if name == "absurd" else Temporal(bin + "/python", servers)))
        else:
            command = build(name)
            if command is None:
                print(name + " cannot be built here", file=sys.stderr)
                continue
            rows.append(measure(name, Romancy(name, command)))
        print(rows[-1], flush=True)
    text = "| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]) + "\n"
    text += "".join("| " + " | ".join(r.values()) + " |\n" for r in rows)
    head = "Workflows of three steps: %d of them, 20 at a time; %d alone; per workflow. %s, %d CPUs, %s.\n\n" % (
        MANY, ALONE, value("select version()").split(" on ")[0], os.cpu_count(), time.strftime("%Y-%m-%d"))
    os.makedirs(ROOT + "/bench/results", exist_ok=True)
    with open(ROOT + "/bench/results/sdk.md", "w") as out:
        out.write("# Libraries\n\n" + head + text)
    print(head + text)


main()
