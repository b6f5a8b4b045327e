"""Mistakes of a newcomer's program, and accidents that it meets: in test sessions, and with a real worker."""

import asyncio
import contextlib
import dataclasses
import datetime
import decimal
import enum
import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import traceback
import typing
import unittest
import uuid

import psycopg

import romancy
import romancy.cli
import romancy.testing
from romancy import App
from romancy.run import require_task
from romancy.values import Signature, plain
from romancy.worker import Worker

CONNINFO = os.environ.get("ROMANCY_TEST_CONNINFO", "")
HERE = os.path.dirname(os.path.abspath(__file__))  # (where no file is named as the library)
app = App(CONNINFO, queue="faults")
done = []


@app.activity
def note(text: str) -> str:
    done.append(text)
    return text


@app.activity(retry={"max_attempts": 2, "initial_interval": "10 ms"})
def leaves(how: str) -> None:
    done.append(how)
    if how == "exit":
        sys.exit("bye")
    if how == "cancelled":
        raise asyncio.CancelledError("stopped")
    raise KeyboardInterrupt


@app.workflow
def tidy(x: int) -> str:
    """A call in finally, where the code waits in the block."""
    note("before")
    try:
        romancy.receive("go")
    finally:
        note("after")
    return "tidy"


@app.workflow
def catches_all(x: int) -> str:
    try:
        romancy.receive("go")
    except:  # noqa: E722
        note("caught")
    return "all"


VERSION = 1


@app.workflow
def hides_change(x: int) -> str:
    try:
        note("one" if VERSION == 1 else "two")
    except Exception:
        return "hidden"
    romancy.receive("go")
    return "done"


@app.workflow
async def hides_change_async(x: int) -> str:
    try:
        await note("one" if VERSION == 1 else "two")
    except Exception:
        return "hidden"
    await romancy.receive("go")
    return "done"


runs = []


def declined(conn: typing.Any) -> None:
    runs.append(1)
    raise ValueError("declined")


@app.workflow
def transaction_fails(x: int) -> dict:
    try:
        romancy.transaction(declined)
    except romancy.ActivityError as error:
        seen = [str(error), error.code]
    romancy.receive("go")
    return {"seen": seen, "note": note("went on")}


@app.workflow
async def transaction_fails_async(x: int) -> dict:
    try:
        await romancy.transaction(declined)
    except romancy.ActivityError as error:
        seen = [str(error), error.code]
    await romancy.receive("go")
    return {"seen": seen, "note": await note("went on")}


@app.workflow
def transaction_typo(x: int) -> None:
    romancy.transaction(lambda conn: conn.execute("select * from no_such_table"), name="typo")


@app.workflow
def exits(how: str) -> None:
    if how == "exit":
        sys.exit("bye")
    raise asyncio.CancelledError("stopped")


@app.workflow
def big_numbers(x: int) -> str:
    note_number(1.5e300)
    note_number(1e23)
    romancy.receive("go")
    return "same"


@app.activity
def note_number(x: float) -> float:
    return x


@app.workflow
async def foreign(x: int) -> None:
    await asyncio.gather(note("a"), note("b"))


@app.workflow
async def sleeps(x: int) -> None:
    await asyncio.sleep(1)


def nested(n: int) -> typing.Any:
    value: typing.Any = []
    for _ in range(n):
        value = [value]
    return value


@app.workflow
def deep(x: int) -> None:
    romancy.set_value("deep", nested(100000))


@app.activity
def deep_result(x: int) -> typing.Any:
    return nested(100000)


@app.workflow
def deep_in_activity(x: int) -> typing.Any:
    return deep_result(x)


@app.workflow
def nothing_to_wait_for(x: int) -> list:
    handles = romancy.gather()
    try:
        romancy.any([])
    except ValueError as error:
        return [handles, str(error)]
    return []


@app.activity
def measures(x: int) -> str:
    romancy.progress(x, 4, "measured")
    return romancy.step_key()


@app.workflow
def messages(x: int) -> dict:
    sent = romancy.publish("news", 1)
    to_self = romancy.send_to(romancy.instance_id(), "go", 0)
    ids = romancy.gather(sent, to_self)
    first, own = romancy.receive("go"), romancy.receive("go")
    measures(3)
    started = romancy.start_many(tidy, range(3))
    return {"data": [first.data, own.data], "publisher": [first["publisher"], own["publisher"]],
            "sender": [first["sender"], own.get("sender")],
            "ids": [ids[0] > 0, ids[1] == first["id"]], "started": len(set(started))}


@app.activity
def loses_its_lease(x: int) -> None:
    app.query("select romancy.release_activity(%s::text)", require_task("the test").task["token"])
    for call in (lambda: romancy.progress(1), romancy.scheduled_at, romancy.heartbeat):
        try:
            call()
        except Exception as error:
            done.append((type(error), error.sqlstate))
    raise romancy.Cancelled("enough")


@app.activity(retry={"max_attempts": 1})
def refused(x: int) -> None:
    for call in (lambda: romancy.progress(-1), lambda: romancy.heartbeat("\0")):
        try:
            call()
        except Exception as error:
            done.append((type(error), error.sqlstate))


@app.workflow
async def awaits_in_transaction(x: int) -> list:
    made = note("made")

    async def waits(conn):
        return await made

    def runs_it(conn):
        return asyncio.run(made)
    seen = []
    for function in (runs_it, waits):
        try:
            await romancy.transaction(function)
        except romancy.ActivityError as error:
            seen.append(error.code)
    return seen


class Sessions(unittest.TestCase):
    def setUp(self):
        done.clear()
        runs.clear()

    def run_through(self, workflow, x=1):
        """The result of an instance that is sent "go" when it waits."""
        with romancy.testing.session(app) as s:
            instance = workflow.start(x, conn=s.conn)
            s.run()
            if s.status(instance) == "waiting_for_message":
                instance.signal("go", 1, conn=s.conn)
                s.run()
            return s.result(instance)

    def test_finally_runs_when_the_block_is_left_and_not_when_it_waits(self):
        self.assertEqual(self.run_through(tidy), "tidy")
        self.assertEqual(done, ["before", "after"])

    def test_a_bare_except_does_not_end_a_wait(self):
        self.assertEqual(self.run_through(catches_all), "all")
        self.assertEqual(done, [])

    def test_a_changed_program_is_paused_whatever_it_catches(self):
        global VERSION
        for workflow in (hides_change, hides_change_async):
            with romancy.testing.session(app) as s:
                VERSION = 1
                instance = workflow.start(1, conn=s.conn)
                s.drain(False, 100)
                s.serve()
                VERSION = 2
                try:
                    s.run()
                finally:
                    VERSION = 1
                self.assertEqual(s.status(instance), "paused", workflow.name)

    def test_an_error_of_a_transaction_is_part_of_history(self):
        for workflow in (transaction_fails, transaction_fails_async):
            runs.clear()
            result = self.run_through(workflow)
            self.assertEqual(result, {"seen": ["declined", "ValueError"], "note": "went on"})
            self.assertEqual(len(runs), 1)

    def test_no_call_is_awaited_inside_a_transaction(self):
        self.assertEqual(self.run_through(awaits_in_transaction), ["RuntimeError", "TypeError"])

    def test_a_typo_in_a_statement_is_no_missing_extension(self):
        with self.assertRaises(romancy.ActivityError) as caught:
            self.run_through(transaction_typo)
        self.assertEqual(caught.exception.sqlstate, "42P01")
        self.assertEqual(str(caught.exception), 'relation "no_such_table" does not exist')

    def test_what_is_no_exception_is_an_error_all_the_same(self):
        for how, code in (("exit", "SystemExit"), ("cancelled", "CancelledError")):
            with romancy.testing.session(app) as s:
                instance = exits.start(how, conn=s.conn)
                s.run()
                with self.assertRaises(romancy.ActivityError) as caught:
                    s.result(instance)
                self.assertEqual(caught.exception.code, code)

    def test_an_activity_that_leaves(self):
        one = App(CONNINFO, queue="faults")
        one.activities = app.activities

        @one.workflow
        def calls(how: str) -> None:
            leaves(how)
        for how, code in (("exit", "SystemExit"), ("cancelled", "CancelledError")):
            done.clear()
            with romancy.testing.session(one) as s:
                instance = calls.start(how, conn=s.conn)
                s.run()
                with self.assertRaises(romancy.ActivityError) as caught:
                    s.result(instance)
                self.assertEqual(caught.exception.code, code)
                self.assertEqual(len(done), 2)

    def test_large_numbers_are_the_same_in_history(self):
        self.assertEqual(self.run_through(big_numbers), "same")

    def test_what_asyncio_waits_for_is_refused(self):
        for workflow in (foreign, sleeps):
            with self.assertRaisesRegex(romancy.ActivityError, "a workflow may await romancy's calls only"):
                self.run_through(workflow)

    def test_documents_that_are_nested_too_deeply(self):
        for workflow in (deep, deep_in_activity):
            with self.assertRaisesRegex(romancy.ActivityError, "nested too deeply"):
                self.run_through(workflow)

    def test_nothing_to_wait_for(self):
        self.assertEqual(self.run_through(nothing_to_wait_for), [[], "any() needs at least one handle"])

    def test_a_session_is_where_client_calls_go(self):
        with romancy.testing.session(app) as s:
            instance = tidy.start(1)
            s.run()
            instance.signal("go")
            s.run()
            self.assertEqual(instance.status(), "completed")
        self.assertEqual(app.rows("select 1 from romancy.instances where instance_id = %s::uuid", instance.id), [])

    def test_who_published_and_which_ids(self):
        me = app.query("select current_user::text")[0]
        with romancy.testing.session(app) as s:
            instance = messages.start(1)
            s.run()
            instance.signal("go", 1)
            s.run()
            self.assertEqual(s.result(instance), {"data": [0, 1], "publisher": [me, me], "sender": [str(instance.id), None],
                                                  "ids": [True, True], "started": 3})
            self.assertEqual(instance.progress()["note"], "measured")
            self.assertEqual(app.query("select count(*) from romancy.instances where workflow = 'tidy'")[0], 3)


    def test_the_servers_answers_to_an_activity_are_romancys(self):
        with romancy.testing.session(app) as s:
            app.run_canvas(romancy.task("refused", 1))
            s.run()
            self.assertEqual(done, [(romancy.ActivityError, "22023"), (romancy.ActivityError, "22P05")])
            done.clear()
            app.run_canvas(romancy.task("loses_its_lease", 1))
            s.drain(False, 100)
            s.serve()
            self.assertEqual(done, [(romancy.LeaseLost, "RM009")] * 3)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    at: datetime.datetime


NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, 600000, tzinfo=datetime.timezone.utc)


class Values(unittest.TestCase):
    def both_ways(self, hint, value):
        def function(x):
            pass
        function.__annotations__ = {"x": hint, "return": hint}
        signature = Signature(function)
        packed = signature.pack((value,), {})
        self.assertEqual(signature.unpack(packed)["x"], value)
        self.assertEqual(type(signature.unpack(packed)["x"]), type(value))
        self.assertEqual(signature.result(packed), value)

    def test_what_is_annotated_comes_back(self):
        for hint, value in ((datetime.datetime, NOW), (datetime.time, datetime.time(3, 4)), (datetime.timedelta, datetime.timedelta(1)),
                            (decimal.Decimal, decimal.Decimal("1.10")), (uuid.UUID, uuid.uuid4()), (Colour, Colour.RED),
                            (Point, Point(1, NOW)), (typing.List[Point], [Point(1, NOW)]), (typing.Optional[Point], Point(1, NOW)),
                            (typing.Tuple[int, datetime.datetime], (1, NOW)), (typing.Tuple[Point, ...], (Point(1, NOW),)),
                            (set, {1, 2}), (tuple, (1, 2)), (typing.FrozenSet[int], frozenset((1, 2))),
                            (typing.Dict[int, Point], {1: Point(1, NOW)}), (typing.Dict[uuid.UUID, int], {uuid.uuid4(): 1}),
                            (typing.Sequence[Point], [Point(1, NOW)])):
            with self.subTest(hint=hint):
                self.both_ways(hint, value)

    @unittest.skipIf(sys.version_info < (3, 10), "needs Python 3.10")
    def test_unions_with_a_bar(self):
        self.both_ways(eval("datetime.datetime | None"), NOW)

    def test_a_set_is_the_same_in_every_process(self):
        program = "from romancy.values import plain; print(plain({'a', 'b', 'c', 'd', 'e', 'f'}))"
        texts = {subprocess.run([sys.executable, "-c", program], env=dict(os.environ, PYTHONHASHSEED=str(seed)), cwd=HERE,
                                capture_output=True, text=True, check=True).stdout for seed in range(5)}
        self.assertEqual(len(texts), 1)

    def test_what_json_cannot_hold_is_an_error_of_the_caller(self):
        for value in (float("nan"), float("inf"), b"bytes", object(), nested(100000), "\ud800", lambda: 1):
            with self.assertRaises((TypeError, ValueError)):
                app.start("tidy", value)
        self.assertEqual(plain({Colour.RED: 1}), {"red": 1})


class Client(unittest.TestCase):
    def test_a_call_that_waits_keeps_no_other_from_its_turn(self):
        app.define()
        instance = tidy.start(1)
        errors = []

        def wait():
            try:
                instance.result("60 s")
            except Exception as error:
                errors.append(type(error))
        threads = [threading.Thread(target=wait, daemon=True) for _ in range(12)]
        for t in threads:
            t.start()
        with contextlib.closing(app.connect()) as watch:
            while watch.execute("select count(*) from pg_stat_activity where state = 'active'"
                                " and query like 'call romancy.await_result%'").fetchone()[0] < len(threads):
                self.assertEqual(errors, [])
                time.sleep(0.05)
        self.assertIn(instance.status(), ("pending", "running"))
        self.assertEqual(errors, [])  # (they wait still)
        instance.cancel()
        for t in threads:
            t.join(60)
        self.assertEqual(errors, [romancy.Cancelled] * len(threads))

    def test_connections_that_a_restart_has_broken_fail_one_call(self):
        one = App(CONNINFO)
        with one.lent() as a, one.lent() as b, one.lent() as c:
            pids = [conn.info.backend_pid for conn in (a, b, c)]
        app.query("select pg_terminate_backend(p) from unnest(%s::int[]) p", pids)
        while app.query("select exists (select from pg_stat_activity where pid = any(%s::int[]))", pids)[0]:
            time.sleep(0.05)
        failed = 0
        for _ in range(5):
            try:
                one.query("select 1")
            except psycopg.OperationalError:
                failed += 1
        one.close()
        self.assertEqual(failed, 1)

    def test_the_error_of_an_instance_is_romancys_whatever_it_is(self):
        one = App(CONNINFO, queue="faults_codes")

        @one.workflow(name="faults_codes")
        def codes(x: int) -> None:
            pass
        one.define()
        for code, kind in (("40001", romancy.ActivityError), ("53100", romancy.ActivityError), ("55P03", romancy.ActivityError),
                           ("57014", romancy.ActivityError), ("58030", romancy.ActivityError), ("RM006", romancy.TimeoutError),
                           ("57P01", psycopg.OperationalError), ("08006", psycopg.OperationalError)):
            instance = codes.start(1)
            [task] = one.query("call romancy.poll_workflows('faults_codes', 'test', 1, null, '60 s', null)")[0]
            one.query("select romancy.fail_workflow(%s::text, 'declined', %s::text)", task["token"], code)
            with self.assertRaises(kind) as caught:
                instance.result("60 s")
            self.assertEqual((caught.exception.sqlstate, str(caught.exception).split("\n")[0]), (code, "declined"))
        one.close()

    def test_errors_of_the_server_are_romancys(self):
        with self.assertRaises(romancy.RomancyError):
            app.start("a\0b")
        with self.assertRaisesRegex(romancy.RomancyError, "unsupported Unicode") as caught:
            app.instance(uuid.uuid4()).signal("c", "x\0y")
        self.assertNotIsInstance(caught.exception, romancy.MissingExtension)
        with self.assertRaises(romancy.RomancyError) as caught:
            app.start("no_such_workflow")
        self.assertEqual(caught.exception.sqlstate, "RM001")
        if caught.exception.hint and sys.version_info >= (3, 11):  # shown by a program that ends with it
            self.assertIn("HINT: " + caught.exception.hint, "".join(traceback.format_exception(caught.exception)))
        self.assertTrue(caught.exception.hint)

    def test_an_instance_that_failed_for_a_missing_table(self):
        app.query("create or replace function no_table(i jsonb) returns jsonb language plpgsql as"
                  " $$ begin return to_jsonb((select count(*) from no_such_table)); end $$")
        with self.assertRaises(romancy.ActivityError) as caught:
            app.start("no_table").result("60 s")
        self.assertEqual((caught.exception.sqlstate, str(caught.exception)), ("42P01", 'relation "no_such_table" does not exist'))

    def test_a_refusal_keeps_its_own_hint(self):
        app.query("create or replace function no_table(i jsonb) returns jsonb language sql as 'select i'")
        app.query("create role definer")
        app.query("select romancy.grant_usage('definer')")
        try:
            other = App(CONNINFO + " options='-c romancy.namespace=definer'")
            other.query("select romancy.define_workflow('no_table', 'no_table(jsonb)')")
            with self.assertRaises(romancy.RomancyError) as caught:
                other.start("no_table")
            self.assertEqual(caught.exception.sqlstate, "42501")
            self.assertIn("SET ROLE", caught.exception.hint)
        finally:
            app.query("select romancy.revoke_usage('definer')")
            app.query("drop role definer")


class CommandLine(unittest.TestCase):
    def call(self, *args):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = romancy.cli.main(["-d", CONNINFO, *args])
            except SystemExit as error:
                code = error.code
        return code, out.getvalue(), err.getvalue()

    def test_options_stand_before_and_after_the_command(self):
        for args in (("--json", "list"), ("list", "--json"), ("schedules", "--json"), ("top", "--once", "--json")):
            code, out, err = self.call(*args)
            self.assertEqual((code, out[:1]), (0, "["), args)

    def test_what_names_hold_does_not_reach_the_terminal(self):
        app.query('create or replace function "evil\x1b[2Jname\x07"(i jsonb) returns jsonb language sql as $$ select i $$')
        app.query("select romancy.define_workflow(%s::text, %s::text)", "evil\x1b[2Jname\x07", '"evil\x1b[2Jname\x07"(jsonb)')
        instance = app.start("evil\x1b[2Jname\x07", {"x\x1b[31m": "\x9b31m"})
        instance.result("60 s")
        for args in (("list",), ("show", str(instance.id)), ("events", str(instance.id))):
            code, out, err = self.call(*args)
            self.assertEqual(code, 0, err)
            self.assertNotRegex(out, "[\x1b\x07\x9b]", args)

    def test_mistakes_are_said_in_a_line(self):
        for args in (("show", "no-uuid"), ("list", "--status", "nosuch"), ("events", str(uuid.uuid4())), ("result", str(uuid.uuid4())),
                     ("result", "x"), ("cancel", str(uuid.uuid4())), ("list", "--limit", "-1")):
            code, out, err = self.call(*args)
            self.assertEqual(code, 1, (args, out))
            self.assertRegex(err, r"\Aromancy: .", args)
            self.assertNotIn("Traceback", err)
        code, out, err = self.call("-d", "host=/nonexistent", "list")
        self.assertEqual(code, 1)
        self.assertRegex(err, r"\Aromancy: .")

    def tool(self, *args, **options):
        return subprocess.Popen([sys.executable, "-m", "romancy.cli", "-d", CONNINFO, *args], cwd=HERE, **options)

    def test_an_interrupt_and_a_closed_pipe_end_it_quietly(self):
        app.define()
        instance = tidy.start(1)
        for args in (("result", str(instance.id)), ("top", "--every", "0.1")):
            ours, theirs = pty.openpty()
            p = self.tool(*args, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, text=True)
            os.close(theirs)
            if args[0] == "top":
                seen = b""
                while b"rows)" not in seen and b"row)" not in seen:
                    seen += os.read(ours, 4096)
            else:
                waits = "select exists (select from pg_stat_activity where state = 'active' and query like 'call romancy.await_result%%')"
                while not app.query(waits + " and %s::text is not null", "")[0]:
                    self.assertIsNone(p.poll(), args)
                    time.sleep(0.05)
            p.send_signal(signal.SIGINT)
            err = p.communicate(timeout=60)[1]
            os.close(ours)
            self.assertEqual((p.returncode, err), (130, ""), args)
        instance.cancel()
        reader, writer = os.pipe()
        p = self.tool("list", stdout=writer, stderr=subprocess.PIPE, text=True)
        os.close(reader)
        os.close(writer)
        self.assertNotIn("Traceback", p.communicate(timeout=60)[1])


@contextlib.contextmanager
def working(one, **options):
    """A worker of the app, in a thread."""
    worker = Worker(one, **options)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(90)
        assert not thread.is_alive()


class RealWorker(unittest.TestCase):
    def test_tasks_that_this_worker_cannot_take_hold_no_place(self):
        own, other = App(CONNINFO, queue="faults_places"), App(CONNINFO, queue="faults_places")
        attempts = []
        own.activity(name="faults_own")(lambda x: x)

        @own.workflow(name="faults_own_workflow")
        def own_workflow(x: int) -> int:
            return romancy.activity("faults_own", x)
        other.activity(name="faults_strange", retry={"max_attempts": 1})(lambda x: attempts.append(romancy.attempt()))
        own.define()
        other.define()
        own.query("select romancy.define_workflow('faults_nobodys', queue => 'faults_places')")
        strange = [own.run_canvas(romancy.options(romancy.task("faults_strange", n), priority=9)) for n in range(150)]
        turns = own.rows("select * from romancy.start_workflows('faults_nobodys', array_fill('1'::jsonb, array[1000]), priority => 9)")
        waiting = "select count(*) from romancy.t_task where state = 0 and priority = 9 and queue like '%%/faults_places'"

        def all_wait() -> None:
            deadline = time.monotonic() + 120
            while own.query(waiting)[0] < 1150:
                self.assertLess(time.monotonic(), deadline, "not all of them wait")
                time.sleep(0.02)
        all_wait()
        ours = [own.run_canvas(romancy.task("faults_own", 1)), own_workflow.start(1)]
        with working(own, concurrency=2, lease=30):
            for instance in ours:
                self.assertEqual(instance.result("60 s"), 1)
        # it has given all of them back
        all_wait()
        self.assertEqual(own.query("select max(attempt) from romancy.activity_tasks where queue = 'faults_places'"), (0,))
        with working(other, concurrency=10, lease=30):
            for instance in strange:
                instance.result("60 s")
        self.assertEqual(attempts, [1] * 150)
        own.query("select count(romancy.cancel_workflow(id)) from unnest(%s::uuid[]) id", [str(row[0]) for row in turns])

    def test_documents_and_tasks_that_this_worker_cannot_take_do_no_harm(self):
        other = App(CONNINFO, queue="faults")
        other.activity(name="of_another_program")(lambda x: "done elsewhere")

        @other.workflow(name="faults_other")
        def of_another_program(x: int) -> str:
            return str(romancy.activity("of_another_program", x))
        other.define()
        app.define()
        # a document that Python's parser refuses; it is before all others
        bad = app.query("select romancy.start_workflow('tidy', (repeat('[', 3000) || repeat(']', 3000))::jsonb, priority => 9)")[0]
        left = of_another_program.start(1)
        one = tidy.start(1)
        p = subprocess.Popen([sys.executable, os.path.abspath(__file__), "worker"])
        q = None
        try:
            one.signal("go")
            self.assertEqual(one.result("90 s"), "tidy")
            q = subprocess.Popen([sys.executable, os.path.abspath(__file__), "other"])
            self.assertEqual(left.result("90 s"), "done elsewhere")
            left = app.instance(bad)
            left.cancel()
        finally:
            for process in (p, q):
                if process is not None:
                    process.send_signal(signal.SIGTERM)
                    self.assertEqual(process.wait(90), 0)


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        app.run(concurrency=4, lease=3)
    elif sys.argv[1:] == ["other"]:
        other = App(CONNINFO, queue="faults")
        other.activity(name="of_another_program")(lambda x: "done elsewhere")

        @other.workflow(name="faults_other")
        def of_another_program(x: int) -> str:
            return str(romancy.activity("of_another_program", x))
        other.run(concurrency=4, lease=3)
    else:
        unittest.main()
