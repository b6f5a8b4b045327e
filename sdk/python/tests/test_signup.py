"""A sign-up service as a new user would write it: plain and async, in a test session and with a real worker."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import unittest

import romancy
import romancy.cli
import romancy.testing
from romancy import App

CONNINFO = os.environ.get("ROMANCY_TEST_CONNINFO", "")
app = App(CONNINFO, queue="signup")
mails = []


@app.activity
def create_account(email: str) -> int:
    return len(email)


@app.activity(retry={"max_attempts": 3, "initial_interval": "10 ms"})
def send_mail(to: str, template: str) -> None:
    mails.append((to, template))
    if to == "flaky@x" and mails.count((to, template)) < 3:
        raise ConnectionError("no route")


@app.activity
def fails(code: str) -> None:
    raise romancy.Terminal("card declined", code=code, detail={"limit": 5})


@app.workflow
def signup(email: str) -> str:
    account = create_account(email)
    send_mail(email, "confirm")
    try:
        romancy.receive("confirmed", timeout="30 days")
    except romancy.TimeoutError:
        return "expired"
    send_mail(email, "welcome")
    return "account %d" % account


@app.workflow
async def fan_out(n: int) -> list:
    romancy.progress(0, n)
    handles = [romancy.spawn(create_account, "x" * i) for i in range(n)]
    results = await romancy.gather(*handles)
    romancy.set_value("results", results)
    romancy.progress(n, n, "done")
    return results


@app.workflow
async def race() -> str:
    timer = romancy.spawn_timer("1 day")
    message = romancy.spawn_receive("m")
    handle, _ = await romancy.any([timer, message])
    first = "timer" if handle is timer else "message"
    try:
        await romancy.any([message if handle is timer else timer], timeout=1)
    except romancy.TimeoutError:
        return first + ", then nothing"
    return first + ", then the other"


@app.workflow
def order(code: str) -> dict:
    a, b, c = romancy.now(), romancy.random(), romancy.uuid()
    romancy.sleep(1)
    assert (a, b, c) == (a, b, c)
    try:
        fails(code)
    except romancy.ActivityError as error:
        kid = romancy.child(signup, "kid@x")
        romancy.publish("orders", {"code": error.code})
        return {"code": error.code, "kid": kid, "a": a, "c": c}
    return {}


@app.workflow
def changed(version: int) -> None:
    create_account("a" if VERSION == 1 else "b")
    romancy.receive("go")


VERSION = 1


class Sessions(unittest.TestCase):
    def setUp(self):
        mails.clear()

    def test_expires_after_thirty_days(self):
        with romancy.testing.session(app) as s:
            instance = signup.start("eva@x", conn=s.conn)
            s.run(advance_time=True)
            self.assertEqual(s.result(instance), "expired")
            self.assertEqual(mails, [("eva@x", "confirm")])

    def test_confirmed(self):
        with romancy.testing.session(app) as s:
            instance = signup.start("eva@x", conn=s.conn)
            s.run()
            self.assertEqual(s.status(instance), "waiting_for_message")
            instance.signal("confirmed", {"ok": True}, conn=s.conn)
            s.run()
            self.assertEqual(s.result(instance), "account 5")
            self.assertEqual(mails, [("eva@x", "confirm"), ("eva@x", "welcome")])

    def test_retries_by_the_server(self):
        with romancy.testing.session(app) as s:
            instance = signup.start("flaky@x", conn=s.conn)
            s.run(advance_time=True)
            self.assertEqual(s.result(instance), "expired")
            self.assertEqual(len(mails), 3)

    def test_fan_out(self):
        with romancy.testing.session(app) as s:
            instance = fan_out.start(7, conn=s.conn)
            s.run()
            self.assertEqual(s.result(instance), list(range(7)))

    def test_race(self):
        with romancy.testing.session(app) as s:
            instance = race.start(conn=s.conn)
            s.run()
            instance.signal("m", 1, conn=s.conn)
            s.run(advance_time=True)
            self.assertEqual(s.result(instance), "message, then nothing")

    def test_error_is_caught_and_values_stay(self):
        with romancy.testing.session(app) as s:
            instance = order.start("CARD", conn=s.conn)
            s.run(advance_time=True)
            result = s.result(instance)
            self.assertEqual((result["code"], result["kid"]), ("CARD", "expired"))

    def test_changed_program_pauses(self):
        global VERSION
        with romancy.testing.session(app) as s:
            VERSION = 1
            instance = changed.start(1, conn=s.conn)
            s.run()
            VERSION = 2
            instance.signal("go", conn=s.conn)
            try:
                s.run(advance_time=True)
            finally:
                VERSION = 1
            self.assertEqual(s.status(instance), "paused")
            with self.assertRaises(romancy.NonDeterminism):
                s.result(instance)


class Missing(unittest.TestCase):
    def error(self, conninfo):
        other = App(CONNINFO + conninfo)
        other.activity(name="any_activity")(lambda x: x)
        with self.assertRaises(romancy.MissingExtension) as caught:
            other.define()
        return caught.exception

    def test_a_database_without_the_extension(self):
        error = self.error(" dbname=template1")
        self.assertIn("lacks extension romancy", str(error))
        self.assertIn("CREATE EXTENSION romancy", error.hint)

    def test_a_role_without_usage(self):
        app.client().execute("create role stranger login")
        try:
            error = self.error(" user=stranger")
            self.assertIn("may not use romancy", str(error))
            self.assertIn("grant_usage", error.hint)
        finally:
            app.client().execute("drop role stranger")


class CommandLine(unittest.TestCase):
    def call(self, *args):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = romancy.cli.main(["-d", CONNINFO, *args])
        return code, out.getvalue()

    def test_list_show_events_cancel(self):
        app.define()
        instance = race.start()
        self.assertIn(str(instance.id), self.call("list", "--workflow", "race")[1])
        self.assertIn(str(instance.id), self.call("--json", "list", "--workflow", "race")[1])
        self.assertIn("race", self.call("show", str(instance.id))[1])
        self.assertEqual(self.call("events", str(instance.id))[0], 0)
        self.assertEqual(self.call("cancel", str(instance.id), "--reason", "tired")[0], 0)
        self.assertEqual(self.call("top", "--once")[0], 0)
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            self.assertEqual(self.call("show", "00000000-0000-0000-0000-000000000000")[0], 1)
        self.assertIn("no instance", errors.getvalue())

    def sql(self, statement):
        return app.client().execute(statement).fetchone()

    def until(self, one, status):
        deadline = time.monotonic() + 60
        while app.instance(one).status() != status and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(app.instance(one).status(), status)

    def json(self, *args):
        code, out = self.call("--json", *args)
        self.assertEqual(code, 0)
        self.assertNotIn("\033", out)
        return json.loads(out)

    def test_each_command(self):
        """An instance in the database, from its start to its end, by the command line alone."""
        app.client().execute("""
            create or replace function cli_boom(i jsonb) returns jsonb language plpgsql as $$ begin
                if not exists (select from cli_mended) then perform romancy.raise_terminal('not yet', error_code => 'NotYet'); end if;
                return i; end $$;
            create table if not exists cli_mended ();
            create or replace function cli_flow(i jsonb) returns jsonb language plpgsql as $$ begin
                perform romancy.set_progress(1, 4, 'on its way');
                perform romancy.receive('go');
                return romancy.activity('cli_boom', i); end $$""")
        one = str(self.sql("select romancy.start_workflow('cli_flow', '[1]')")[0])
        self.until(one, "waiting_for_message")
        self.assertEqual([i["instance_id"] for i in self.json("list", "--workflow", "cli_flow", "--status", "waiting_for_message")], [one])
        self.assertEqual(self.json("list", "--search", "no such name"), [])
        self.assertEqual(self.json("show", one)["waiting"]["kind"], "message")
        code, shown = self.call("show", one)
        self.assertRegex(shown, r"(?m)^progress +\[#######-+\] 1/4 on its way$")
        self.assertNotIn("\033", shown)
        self.assertEqual(self.call("pause", one), (0, "pause %s\n" % one))
        self.until(one, "paused")
        self.assertEqual(self.json("show", one)["status"], "paused")
        self.assertEqual(self.call("resume", one), (0, "resume %s\n" % one))
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            self.assertEqual(self.call("retry", one)[0], 1)
        self.assertNotEqual(errors.getvalue(), "")
        app.instance(one).signal("go")
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            self.assertEqual(self.call("result", one, "--timeout", "60 s")[0], 1)
        self.assertEqual(errors.getvalue(), "romancy: not yet\n")
        app.client().execute("alter table cli_mended add x int; insert into cli_mended values (1)")
        self.assertEqual(self.call("retry", one), (0, "retry %s\n" % one))
        self.assertEqual(self.call("result", one), (0, "[\n  1\n]\n"))
        kinds = [e["event"] for e in self.json("events", one)]
        self.assertIn("ChannelMessageReceived", kinds)
        self.assertEqual(kinds[-1], "WorkflowCompleted")
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            self.assertEqual(self.call("cancel", one)[0], 1)
        self.assertIn("it is completed", errors.getvalue())
        app.client().execute("select romancy.schedule('cli', '@yearly', 'cli_flow')")
        self.assertEqual([s["name"] for s in self.json("schedules")], ["cli"])
        self.assertIn("cli", self.call("schedules")[1])
        self.sql("select romancy.start_workflow('cli_flow', start_at => now() + interval '1 day')")
        self.assertEqual([(r["workflow"], r["status"], r["instances"]) for r in self.json("top", "--once") if r["workflow"] == "cli_flow"],
                         [("cli_flow", "pending", 1)])


class RealWorker(unittest.TestCase):
    def test_a_worker_that_is_killed_and_one_that_is_stopped(self):
        program = [sys.executable, os.path.abspath(__file__), "worker"]
        app.define()
        instances = [signup.start("user%d@x" % i, key="user%d" % i) for i in range(20)]
        again = signup.start("user0@x", key="user0")
        self.assertEqual(again.id, instances[0].id)
        killed = subprocess.Popen(program)
        fan = fan_out.start(20)
        self.assertEqual(fan.result("90 s"), list(range(20)))
        self.assertEqual(fan.value("results"), list(range(20)))
        self.assertEqual(fan.progress()["note"], "done")
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        stopped = subprocess.Popen(program)
        try:
            for i in instances:
                i.signal("confirmed")
            for n, i in enumerate(instances):
                self.assertEqual(i.result("180 s"), "account %d" % len("user%d@x" % n))
        finally:
            stopped.send_signal(signal.SIGTERM)
            self.assertEqual(stopped.wait(60), 0)


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        app.run(concurrency=4, lease=3)
    else:
        unittest.main()
