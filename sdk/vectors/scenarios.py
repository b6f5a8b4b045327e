"""The scenarios of scenarios.sql in Python, plain and async in turn. A worker, for ROMANCY_TEST_CONNINFO."""

import os

import romancy
from romancy import RomancyError

app = romancy.App(os.environ["ROMANCY_TEST_CONNINFO"], queue="scenarios")


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
