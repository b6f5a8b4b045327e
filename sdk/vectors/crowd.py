"""Workflows that are killed, stopped and cut off while they run: crowd.py, for ROMANCY_TEST_CONNINFO."""

import os

import romancy

app = romancy.App(os.environ["ROMANCY_TEST_CONNINFO"], queue="crowd")


@app.activity(retry={"max_attempts": 0, "initial_interval": "50 ms"})
def outside(n: int) -> int:
    app.query("insert into crowd_step values (%s::int, 'outside')", n)
    return n


def mark(conn, n, step):
    conn.execute("insert into crowd_step values (%s::int, %s::text)", (n, step))


@app.workflow
async def crowd(n: int) -> int:
    await romancy.transaction(mark, n, "first")
    a, b = await romancy.gather(romancy.spawn(outside, n), romancy.spawn("inside", n))
    await romancy.sleep(0.02)
    await romancy.transaction(mark, n, "second")
    return a + b


@app.workflow
def plain_crowd(n: int) -> int:
    romancy.transaction(mark, n, "first")
    a, b = romancy.gather(romancy.spawn(outside, n), romancy.spawn("inside", n))
    romancy.sleep(0.02)
    romancy.transaction(mark, n, "second")
    return a + b


if __name__ == "__main__":
    app.run(concurrency=8, lease=2)
