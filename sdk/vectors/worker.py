"""The activities, or the workflow, of tests of workers: worker.py activities|workflows|held|bench QUEUE, for ROMANCY_TEST_CONNINFO."""

import os
import sys
import time

import romancy

kind, queue = sys.argv[1:]
app = romancy.App(os.environ["ROMANCY_TEST_CONNINFO"], queue=queue)

if kind == "activities":
    @app.activity(retry={"max_attempts": 1})
    def upper(text: str) -> str:
        return text.upper()

    @app.activity(retry={"initial_interval": "20ms", "max_attempts": 3})
    def work(i: dict) -> dict:
        time.sleep(0.02)
        if i.get("fail", 0) >= romancy.attempt():
            raise ValueError("bad luck with %s" % i["n"])
        if i.get("never"):
            raise romancy.Terminal("this one never works", code="NonRetryable")
        return {"n": i["n"], "attempt": romancy.attempt()}

    @app.activity(retry={"initial_interval": "20ms"})
    def careful(i: None) -> dict:
        before = romancy.last_details()
        romancy.heartbeat({"begun": romancy.attempt()})
        if before is None:
            raise ValueError("begun, not done")
        return dict(before, key=romancy.step_key().split("/")[-1], same=str(romancy.instance_id()) in romancy.step_key())
elif kind == "held":
    @app.activity(retry={"max_attempts": 1})
    def held(i: int) -> int:
        """Ends when the test lets go of a lock."""
        with app.connect() as conn:
            conn.execute("select pg_advisory_xact_lock_shared(42)")
        return i

    @app.activity
    def meant_for() -> int:
        at = romancy.scheduled_at()
        return int(at.timestamp()) if at else 0

    @app.workflow
    def planned(i: None) -> list:
        at = romancy.scheduled_at()
        return [int(at.timestamp()) if at else 0, meant_for()]
elif kind == "bench":
    @app.activity
    def one(i: int) -> int:
        return i + 1

    @app.workflow
    async def three(i: int) -> int:
        return await one(await one(await one(i)))

    @app.workflow
    async def parked(i: int) -> None:
        await romancy.receive("never")
else:
    @app.workflow
    def greet(i: dict) -> dict:
        text = "Hello, " + i["name"]
        romancy.sleep(0.1)
        return {"text": romancy.activity("upper", text) if i.get("upper") else text}

if __name__ == "__main__":
    app.run(concurrency=int(os.environ.get("ROMANCY_TEST_CONCURRENCY", 10)), prefetch=int(os.environ.get("ROMANCY_TEST_PREFETCH", 0)))
