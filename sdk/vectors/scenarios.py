"""The scenarios of scenarios.sql in Python, plain and async in turn. A worker, for ROMANCY_TEST_CONNINFO."""

import datetime
import json
import os
import pathlib

import romancy
from romancy import RomancyError

app = romancy.App(os.environ["ROMANCY_TEST_CONNINFO"], queue=os.environ.get("ROMANCY_TEST_QUEUE", "scenarios"))
UTC = datetime.timezone.utc


@app.workflow
def steps(i):
    r = romancy.activity("sq", i)
    romancy.set_value("stage", "squared")
    romancy.set_labels({"kind": "steps"})
    romancy.now(), romancy.random(), romancy.uuid()
    if romancy.patched("v2"):
        romancy.publish("news", r)
    romancy.sleep(0.02)
    return romancy.activity("sq", r, "named")


@app.workflow
def kid(i):
    if i == 99:
        romancy.receive("never")
    return romancy.activity("sq", i)


@app.workflow
async def parallel(i):
    r = await romancy.gather(romancy.spawn("sq", 2), romancy.spawn("sq", 3), romancy.spawn_child(kid, 5))
    c = await romancy.canvas(romancy.chain(romancy.task("sq", 2), romancy.task("sq")))
    await romancy.any([romancy.spawn_timer(0.02)])
    try:
        await romancy.any([romancy.spawn_receive("never")], timeout=0.02)
    except romancy.TimeoutError:
        pass
    return [r, c, await romancy.child(kid, 7)]


@app.workflow
def saga(i):
    romancy.activity("book", i)
    romancy.publish("news", "before")
    romancy.compensate("undo", "by hand")
    raise RomancyError("no", "XX123")


@app.workflow
async def caught(i):
    try:
        await romancy.activity("book", i)
        await romancy.activity("boom", i)
    except romancy.ActivityError:
        return await romancy.compensate()


@app.workflow
def messages(i):
    romancy.subscribe("chat")
    romancy.join_group("crowd")
    try:
        m = romancy.receive("nothing", timeout=0.02)
    except romancy.TimeoutError:
        m = romancy.receive("go")
    romancy.unsubscribe("chat")
    romancy.leave_group("crowd")
    return m.data


@app.workflow
def generations(i):
    if i < 2:
        romancy.recur(i + 1)
    return i


@app.workflow
async def others(i):
    romancy.raise_event("shop.paid", "/shop", {"n": 1})
    started = await romancy.start(kid, 99)
    await romancy.cancel(started, "too late")
    return "started"


@app.workflow
async def web(url):
    r = await romancy.http("post", url + "/status/201", {"a": 1}, {"x-a": "b"}, timeout="30 s")
    romancy.send_event("shop.paid", "/shop", r["body"], ordering_key="o-1")
    try:
        await romancy.http("GET", url + "/status/404")
    except romancy.ActivityError:
        return [r["status"], r["body"]]


@app.workflow
def more(i):
    m = romancy.map("sq", [1, 2, 3, 4, 5], max_parallel=2)
    romancy.sleep(0.01, "nap")
    romancy.sleep_until(datetime.datetime(2001, 1, 1, tzinfo=UTC), "past")
    for wait in (lambda: romancy.receive("nothing", 0.01, "ear"), lambda: romancy.wait_event("no.such", 0.01, "eye")):
        try:
            wait()
        except romancy.TimeoutError:
            pass
    romancy.raise_event("shop.seen", "/shop", {"n": 1}, id="e-%s" % romancy.instance_id(), subject="s",
                        time=datetime.datetime(2026, 1, 1, tzinfo=UTC))
    started = romancy.start(kid, 99, at=datetime.datetime(2126, 1, 1, tzinfo=UTC), priority=3, labels={"l": 1})
    romancy.cancel(started, "too early")
    c = romancy.child(kid, 3, activity_id="own_kid", on_parent_close="abandon", labels={"l": 2}, priority=2)
    romancy.send_to(romancy.instance_id(), "self", b"\0\xff", {"m": 1})
    b = romancy.receive("self").data
    return [m, c, b[1], romancy.scheduled_at() is None, romancy.workflow_name()]


@app.workflow
async def web_parallel(url):
    r = await romancy.gather(romancy.spawn_http("POST", url + "/status/201", {"a": 1}), romancy.spawn("sq", 3),
                             romancy.spawn_http("GET", url + "/status/202", timeout="30 s", activity_id="mine"))
    return [r[0]["status"], r[1], r[2]["status"]]


def hostile(name):
    @app.activity(name=name)
    def square(i):
        return i * i

    @app.workflow(name="W" + name)
    def workflow(n):
        a = square(3)
        h = romancy.gather(romancy.spawn(square, 2), romancy.spawn(square, 4))
        romancy.subscribe(n)
        romancy.join_group(n)
        romancy.publish(n, "x")
        m = romancy.receive(n)
        romancy.set_value(n, a)
        romancy.set_labels({n: n})
        k = romancy.child(kid, 3, activity_id="kid of " + n) if romancy.patched(n) else None
        romancy.compensate(square, 1)
        return [n, a, h, m.data, k]


for name in json.loads((pathlib.Path(__file__).parent / "hostile.json").read_text("utf-8")):
    hostile(name)


@app.workflow
def unfit(i):
    return [lambda: float("nan"), object, lambda: "\0", lambda: romancy.activity("sq", float("nan"))][i]()


@app.workflow
def unfit_error(i):
    raise RomancyError("no \0 good", "X", "co\0de", {"d": "\0"})


@app.activity(name="unfit_activity")
def unfit_activity(i):
    if i == 0:
        return object()
    raise romancy.Terminal("no \0 good", code="co\0de", detail={"d": "\0"})


@app.workflow
def unfit_step(i):
    return unfit_activity(i)


@app.workflow
def leaves(i):
    romancy.publish("news", 1)
    romancy.set_value("left", True)


@app.workflow
def counted(i):
    romancy.publish("news", "first")
    return romancy.transaction(count)


def count(conn):
    conn.execute("insert into counted (who) values (session_user)")
    return 1


@app.workflow
def refused(i):
    return "x" * 2000000


if __name__ == "__main__":
    app.run(concurrency=4)
