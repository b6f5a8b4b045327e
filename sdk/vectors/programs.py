"""The interpreter of programs.sql in Python: as a plain workflow and as an async one. A worker, for ROMANCY_TEST_CONNINFO."""

import os

import romancy

app = romancy.App(os.environ["ROMANCY_TEST_CONNINFO"], queue=os.environ.get("ROMANCY_TEST_QUEUE", "random"))


@app.workflow
def kid(i):
    return romancy.activity("sq", i)


def perform(body, a):
    """Yields what each call gives: a value in a plain workflow, an awaitable in an async one."""
    for s in body:
        do, n = s["do"], s.get("n")
        if do == "activity":
            a += yield romancy.activity("sq", n)
        elif do == "named":
            a += yield romancy.activity("sq", a % 100, "own_%d" % n)
        elif do == "parallel":
            a += (yield romancy.gather(*[romancy.spawn("sq", g) for g in range(1, n + 1)]))[-1]
        elif do == "map_children":
            a += (yield romancy.gather(*[romancy.spawn_child(kid, g) for g in range(1, n + 1)]))[0]
        elif do == "child":
            a += yield romancy.child(kid, n)
        elif do == "canvas":
            a += yield romancy.canvas(romancy.chain(romancy.task("sq", n), romancy.task("sq")))
        elif do == "publish":
            romancy.publish("news", a)
        elif do == "set":
            romancy.set_value("k%d" % n, a)
        elif do == "labels":
            romancy.set_labels({"l": n})
        elif do == "values":
            romancy.now(), romancy.random(), romancy.uuid()
        elif do == "patched":
            a += romancy.patched("p%d" % n)
        elif do == "sleep":
            yield romancy.sleep(0.001)
        elif do == "timer":
            yield romancy.any([romancy.spawn_timer(0.001)])
        elif do == "receive":
            try:
                yield romancy.receive("c%d" % n, timeout=0.001)
            except romancy.TimeoutError:
                a += 1
        elif do == "book":
            yield romancy.activity("book", n)
        elif do == "register":
            romancy.compensate("undo", n)
        elif do == "compensate":
            a += yield romancy.compensate()
        elif do == "boom":
            yield romancy.activity("boom", n)
        elif do == "raise":
            raise romancy.RomancyError("raised %d" % n, "XX123")
        elif do == "if":
            a = yield from perform(s["then"] if a % 2 == 0 else s["else"], a)
        elif do == "loop":
            for _ in range(n):
                a = yield from perform(s["body"], a)
        elif do == "try":
            try:
                a = yield from perform(s["body"], a)
            except Exception:
                a += 7
    return a


@app.workflow
def random_program(program):
    code, value = perform(program, 0), None
    while True:
        try:
            value = code.send(value)
        except StopIteration as end:
            return end.value


@app.workflow
async def random_async(program):
    code = perform(program, 0)
    waiting = code.send, None
    while True:
        try:
            call, value = waiting
            answer = call(value)
        except StopIteration as end:
            return end.value
        try:
            waiting = code.send, await answer
        except Exception as error:
            waiting = code.throw, error


if __name__ == "__main__":
    app.run(concurrency=4)
