"""The application: definitions, client calls, and the worker."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import threading
import uuid
from typing import Any, Callable, Iterator, List, Optional, Tuple, overload

import psycopg

from . import flow
from .errors import (
    LeaseLost,
    NonDeterminism,
    RomancyError,
    Suspended,
    Terminal,
    check_protocol,
    code_of,
    detail_of,
    from_database,
    is_refusal,
    message_of,
)
from .run import Run, Task, Wait, current, current_task
from .values import Signature, dumps, interval, plain

log = logging.getLogger("romancy")

Json = Any


class Activity:
    """A function that romancy runs as an activity. Called in a workflow it is a step; elsewhere, the function."""

    def __init__(self, app: "App", function: Callable[..., Any], name: Optional[str], options: dict[str, Any]):
        self.app, self.function, self.name = app, function, name or function.__name__
        self.options, self.signature = options, Signature(function)
        self.__name__, self.__doc__ = self.name, function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current.get() is None:
            return self.function(*args, **kwargs)
        return flow.call_activity(self.name, self.signature.pack(args, kwargs), convert=self.signature.result)


class Workflow:
    """A function that romancy runs as a workflow."""

    def __init__(self, app: "App", function: Callable[..., Any], name: Optional[str], options: dict[str, Any]):
        self.app, self.function, self.name = app, function, name or function.__name__
        self.options, self.signature = options, Signature(function)
        self.is_async = inspect.iscoroutinefunction(function)
        self.__name__, self.__doc__ = self.name, function.__doc__

    def start(self, *args: Any, key: Optional[str] = None, id: Any = None, at: Any = None, priority: int = 0,  # noqa: A002
              labels: Optional[dict[str, Any]] = None, conn: Any = None, **kwargs: Any) -> "Instance":
        """Starts an instance; with conn in that connection's transaction, beside the caller's own data."""
        return self.app.start(self, self.signature.pack(args, kwargs), key=key, id=id, at=at, priority=priority,
                              labels=labels, conn=conn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("start the workflow with %s.start(…), or run it as a child with romancy.child(%s, …)"
                        % (self.name, self.name))


class Instance:
    """A workflow instance."""

    def __init__(self, app: "App", instance_id: Any, workflow: Optional[Workflow] = None):
        self.app, self.id, self.workflow = app, uuid.UUID(str(instance_id)), workflow

    def __repr__(self) -> str:
        return "Instance(%s)" % self.id

    def result(self, timeout: Any = None) -> Any:
        """Waits for the end and gives the output; raises the instance's error, TimeoutError past the timeout."""
        row = self.app.query("call romancy.await_result(%s::uuid, %s::interval, null)", self.id, interval(timeout), own=True)
        return self.workflow.signature.result(row[0]) if self.workflow else row[0]

    def cancel(self, reason: Optional[str] = None) -> bool:
        return bool(self.app.query("select romancy.cancel_workflow(%s::uuid, %s::text)", self.id, reason)[0])

    def pause(self) -> bool:
        return bool(self.app.query("select romancy.pause_workflow(%s::uuid)", self.id)[0])

    def resume(self) -> bool:
        return bool(self.app.query("select romancy.resume_workflow(%s::uuid)", self.id)[0])

    def retry(self) -> bool:
        return bool(self.app.query("select romancy.retry_workflow(%s::uuid)", self.id)[0])

    def signal(self, channel: str, data: Any = None, conn: Any = None) -> None:
        """Sends a message that receive(channel) of the instance gets; kept until it does."""
        self.app.query("select romancy.send_to(%s::uuid, %s::text, %s::jsonb)", self.id, channel, dumps(data), conn=conn)

    def status(self) -> str:
        row = self.app.query("select status::text from romancy.instances where instance_id = %s::uuid", self.id)
        if row is None:
            raise RomancyError("there is no instance %s" % self.id, "RM002")
        return str(row[0])

    def progress(self) -> dict[str, Any]:
        row = self.app.query("select to_jsonb(p) from romancy.get_progress(%s::uuid) p", self.id)
        return dict(row[0])

    def value(self, key: str) -> Any:
        return self.app.query("select romancy.get_value(%s::uuid, %s::text)", self.id, key)[0]

    def history(self) -> Iterator[dict[str, Any]]:
        after = 0
        while True:
            rows = self.app.rows("select seq, event_type, activity_id, data, created_at from romancy.get_history(%s::uuid, %s::bigint)",
                                 self.id, after)
            for seq, kind, step, data, at in rows:
                after = seq
                yield {"seq": seq, "event_type": kind, "activity_id": step, "data": data, "created_at": at}
            if len(rows) < 1000:
                return


class App:
    """Workflows and activities of one program, on one queue.

    ``conninfo``: as psycopg takes it (default: environment variables of libpq). ``queue``: the queue from which its
    workers take activities and workflows. ``namespace``: of the names, where the role has several.
    """

    def __init__(self, conninfo: str = "", queue: str = "default", namespace: Optional[str] = None):
        self.conninfo, self.queue, self.namespace = conninfo, queue, namespace
        self.activities: dict[str, Any] = {}
        self.workflows: dict[str, Any] = {}
        self._conn: Any = None
        self._pid = 0
        self._idle: List[Any] = []        # connections for client calls
        self._session: Any = None         # of a test, in whose transaction client calls are made

    # ------------------------------------------------------------ definitions

    @overload
    def activity(self, function: Callable[..., Any], *, name: Optional[str] = ..., retry: Optional[dict[str, Any]] = ...,
                 compensation: Any = ..., start_to_close: Any = ..., schedule_to_start: Any = ..., heartbeat: Any = ...,
                 max_concurrency: Optional[int] = ..., rate_limit: Optional[str] = ...) -> Any: ...

    @overload
    def activity(self, *, name: Optional[str] = ..., retry: Optional[dict[str, Any]] = ...,
                 compensation: Any = ..., start_to_close: Any = ..., schedule_to_start: Any = ..., heartbeat: Any = ...,
                 max_concurrency: Optional[int] = ..., rate_limit: Optional[str] = ...) -> Callable[[Callable[..., Any]], Any]: ...

    def activity(self, function: Optional[Callable[..., Any]] = None, *, name: Optional[str] = None, retry: Optional[dict[str, Any]] = None,
                 compensation: Any = None, start_to_close: Any = None, schedule_to_start: Any = None, heartbeat: Any = None,
                 max_concurrency: Optional[int] = None, rate_limit: Optional[str] = None) -> Any:
        """Makes a function an activity: run by a worker, at least once, with the server's retries and time limits."""
        options = {"retry": retry, "compensation": compensation, "start_to_close": start_to_close,
                   "schedule_to_start": schedule_to_start, "heartbeat": heartbeat, "max_concurrency": max_concurrency,
                   "rate_limit": rate_limit}

        def decorate(f: Callable[..., Any]) -> Activity:
            made = Activity(self, f, name, options)
            self.activities[made.name] = made
            return made
        return decorate(function) if function is not None else decorate

    @overload
    def workflow(self, function: Callable[..., Any], *, name: Optional[str] = ...,
                 execution_timeout: Any = ..., retention: Any = ..., on_event: Optional[str] = ...) -> Any: ...

    @overload
    def workflow(self, *, name: Optional[str] = ..., execution_timeout: Any = ..., retention: Any = ...,
                 on_event: Optional[str] = ...) -> Callable[[Callable[..., Any]], Any]: ...

    def workflow(self, function: Optional[Callable[..., Any]] = None, *, name: Optional[str] = None,
                 execution_timeout: Any = None, retention: Any = None, on_event: Optional[str] = None) -> Any:
        """Makes a function, plain or ``async``, a workflow: replayed, so it does nothing but by activities."""
        options = {"execution_timeout": execution_timeout, "retention": retention, "on_event": on_event}

        def decorate(f: Callable[..., Any]) -> Workflow:
            made = Workflow(self, f, name, options)
            self.workflows[made.name] = made
            return made
        return decorate(function) if function is not None else decorate

    def define(self, conn: Any = None) -> None:
        """Tells the database what this program defines. A worker does it when it starts.

        Raises MissingExtension where the server does not speak this library's protocol.
        """
        check_protocol(*self.query("select oldest, newest from romancy.protocol()", conn=conn))
        for a in self.activities.values():
            o = a.options
            comp = o["compensation"]
            self.query("select romancy.define_activity(%s::text, queue => %s::text, retry => %s::jsonb, compensation => %s::text,"
                       " start_to_close_timeout => %s::interval, schedule_to_start_timeout => %s::interval,"
                       " heartbeat_timeout => %s::interval, max_concurrency => %s::int, rate_limit => %s::text, description => %s::text)",
                       a.name, self.queue, None if o["retry"] is None else dumps(o["retry"]),
                       getattr(comp, "name", comp), interval(o["start_to_close"]), interval(o["schedule_to_start"]),
                       interval(o["heartbeat"]), o["max_concurrency"], o["rate_limit"], a.__doc__, conn=conn)
        for w in self.workflows.values():
            o = w.options
            self.query("select romancy.define_workflow(%s::text, queue => %s::text, execution_timeout => %s::interval,"
                       " retention => %s::interval, on_event => %s::text, description => %s::text)",
                       w.name, self.queue, interval(o["execution_timeout"]), interval(o["retention"]), o["on_event"],
                       w.__doc__, conn=conn)

    # ------------------------------------------------------------ client calls

    def connect(self) -> Any:
        """A connection as workers use: nothing is prepared, so it works behind a pool in transaction mode."""
        conn = psycopg.connect(self.conninfo, autocommit=True, prepare_threshold=None)
        if self.namespace:
            conn.execute("select set_config('romancy.namespace', %s::text, false)", (self.namespace,))
        return conn

    def client(self) -> Any:
        """A connection of this process, for calls of the program's own."""
        if self._conn is None or self._conn.closed or self._pid != os.getpid():
            self._conn, self._idle, self._pid = self.connect(), [], os.getpid()
        return self._conn

    @contextlib.contextmanager
    def lent(self) -> Iterator[Any]:
        """A connection for one call: a call that waits keeps no other thread from its turn."""
        if self._session is not None:
            with self._session.transaction():
                yield self._session
            return
        if self._pid != os.getpid():
            self._conn, self._idle, self._pid = None, [], os.getpid()
        try:
            conn = self._idle.pop()
        except IndexError:
            conn = None
        if conn is None or conn.closed:
            conn = self.connect()
        try:
            yield conn
        finally:
            if conn.closed:  # its server was started again, say: the others have broken, too, and each would fail a call
                broken, self._idle = self._idle, []
                for other in broken:
                    other.close()
            elif len(self._idle) < 10:
                self._idle.append(conn)
            else:
                conn.close()

    def close(self) -> None:
        """Closes the connections of client calls; a later call opens one again."""
        for conn in [*self._idle, self._conn]:
            if conn is not None and self._pid == os.getpid():
                conn.close()
        self._conn, self._idle = None, []

    def query(self, sql: str, *args: Any, conn: Any = None, own: bool = False) -> Any:
        """Runs a statement and gives its first row; errors are romancy's. own: the error may be an instance's."""
        rows = self.rows(sql, *args, conn=conn, own=own)
        return rows[0] if rows else None

    def rows(self, sql: str, *args: Any, conn: Any = None, own: bool = False) -> List[tuple[Any, ...]]:
        given = [str(a) if isinstance(a, uuid.UUID) else a for a in args]
        try:
            with self.lent() if conn is None else contextlib.nullcontext(conn) as used:
                cur = used.execute(sql, given)
                return list(cur.fetchall()) if cur.description else []
        except psycopg.Error as error:
            state = error.sqlstate or ""
            # (an instance may have failed with any, 40001 or 57014, say)
            instances = own and state != "" and not state.startswith(("08", "57P"))
            if not is_refusal(error) and not state.startswith("RM") and not instances:
                raise
            raise from_database(error, own) from error

    def start(self, workflow: Any, input: Any = None, *, key: Optional[str] = None, id: Any = None, at: Any = None,  # noqa: A002
              priority: int = 0, labels: Optional[dict[str, Any]] = None, conn: Any = None) -> Instance:
        """Starts an instance of a workflow of this program, or of any by its name."""
        name = workflow if isinstance(workflow, str) else workflow.name
        row = self.query("select romancy.start_workflow(%s::text, %s::jsonb, instance_id => %s::uuid, idempotency_key => %s::text,"
                         " start_at => %s::timestamptz, priority => %s::int, labels => %s::jsonb)",
                         name, None if input is None else dumps(input), id if id is None else str(id), key, at, priority,
                         None if labels is None else dumps(labels), conn=conn)
        return Instance(self, row[0], None if isinstance(workflow, str) else workflow)

    def run_canvas(self, signature: dict[str, Any], input: Any = None, *, key: Optional[str] = None,
                   labels: Optional[dict[str, Any]] = None, conn: Any = None) -> Instance:
        """Starts a signature of task(), chain(), group(), chord() as an instance."""
        row = self.query("select romancy.run_canvas(%s::jsonb, %s::jsonb, labels => %s::jsonb, idempotency_key => %s::text)",
                         dumps(signature), None if input is None else dumps(input), None if labels is None else dumps(labels),
                         key, conn=conn)
        return Instance(self, row[0])

    def instance(self, instance_id: Any) -> Instance:
        return Instance(self, instance_id)

    def run(self, concurrency: int = 10, define: bool = True, lease: float = 60.0, prefetch: int = 0) -> None:
        """Works until SIGTERM or SIGINT: takes workflows and activities of the queue, for a lease (seconds) that is renewed.

        concurrency: tasks at a time.
        prefetch: how many more it takes at once, of each of the two, to wait here for a place. They are given back when it stops.
        """
        from .worker import Worker
        if define:
            self.define()
        Worker(self, concurrency, lease, prefetch).run()

    # ------------------------------------------------------------ carrying out

    def run_activity(self, task: dict[str, Any], beat: Callable[[str], str], ask: Callable[[str, Any], Any]) -> Json:
        """Runs the function of an activity's task and gives its result. beat: renews its lease with details, as JSON; ask:
        runs a statement and gives its row."""
        activity = self.activities.get(task["activity"])
        if activity is None:
            raise Terminal('this worker has no activity "%s"' % task["activity"], "RM001")
        token = current_task.set(Task(task, beat, ask))
        try:
            result = activity.function(**activity.signature.unpack(task["input"]))
            if inspect.isawaitable(result):
                import asyncio

                async def wait() -> Any:
                    return await result
                result = asyncio.run(wait())
            return plain(result)
        finally:
            current_task.reset(token)

    def serve_activity(self, task: dict[str, Any], tell: Callable[[str, Any], Any]) -> None:
        """Runs an activity's task and says how it ended. tell: runs a statement and gives its row.

        Raises psycopg's errors of the connection, and LeaseLost.
        """
        token = task["token"]

        def ask(sql: str, args: Any) -> Any:
            try:
                return tell(sql, args)
            except psycopg.Error as error:
                if not is_refusal(error) and error.sqlstate != "RM009":
                    raise
                raise from_database(error) from error

        def beat(details: str) -> str:
            return str(ask("select romancy.heartbeat_activity(%s::text, %s::jsonb)", (token, None if details == "null" else details))[0])

        failure: BaseException
        try:
            result = dumps(self.run_activity(task, beat, ask))
        except LeaseLost:
            raise
        except BaseException as error:  # sys.exit() and a cancelled coroutine are none of Exception's
            if asked_to_end(error):
                raise
            log.info("activity %s failed", task["activity"], exc_info=True)
            failure = error
        else:
            try:
                if not tell("select romancy.complete_activity(%s::text, %s::jsonb)", (token, result))[0]:
                    log.warning("activity %s: its result came when its lease was lost or its instance over", task["activity"])
                return
            except psycopg.Error as error:
                if not is_refusal(error):
                    raise
                failure = from_database(error)  # a result that is too large, say
        detail = detail_of(failure)
        sql = "select romancy.fail_activity(%s::text, %s::text, %s::text, %s::jsonb, %s::boolean)"
        terminal = isinstance(failure, (Terminal, TypeError))
        try:
            tell(sql, (token, message_of(failure), code_of(failure), None if detail is None else dumps(detail), terminal))
        except psycopg.Error as error:
            if not is_refusal(error):
                raise
            # a detail that no document can hold, or that is too large
            tell(sql, (token, message_of(failure)[:1000], "error", None, terminal))


def asked_to_end(error: BaseException) -> bool:
    """Is this the interrupt of a terminal? It comes to the main thread alone."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


class Parked:
    """A coroutine that waits, with its run."""

    def __init__(self, run: Run, coroutine: Any, last: Optional[Wait] = None):
        self.run, self.coroutine = run, coroutine


def step_workflow(app: App, conn: Any, task: dict[str, Any], parked: Optional[Parked] = None) -> Optional[Parked]:
    """Runs a workflow's code as far as it comes and tells the server; gives the coroutine if it waits.

    Raises psycopg's errors of the connection, and LeaseLost.
    """
    workflow = app.workflows[task["workflow"]]
    run = parked.run if parked else Run(task, conn, workflow.is_async)
    run.task, run.conn = task, conn
    if parked:
        run.absorb(task.get("history") or [])
    while len(task.get("history") or []) >= 1000 and read_more(conn, run):
        pass
    coroutine = parked.coroutine if parked else None
    what, value, coroutine = evaluate(workflow, run, coroutine)
    try:
        if what == "wait":
            send(conn, run, value)
            return Parked(run, coroutine) if coroutine is not None else None
        if run.commands and not (what == "error" and isinstance(value, NonDeterminism)):
            # they are carried out before the end: the code is run again and comes here again
            send(conn, run, {"all": []})
        elif what == "error":
            fail(conn, run, value)
        else:
            finish(conn, run, "select romancy.complete_workflow(%s::text, %s::jsonb)", value)
    except (psycopg.Error, TypeError, ValueError) as error:
        if isinstance(error, psycopg.Error) and not is_refusal(error):
            raise
        # what JSON cannot hold, or the server does not take (a payload that is too large, say), is the workflow's error
        run.records = []
        fail(conn, run, from_database(error) if isinstance(error, psycopg.Error) else error)
    return None


def evaluate(workflow: "Workflow", run: Run, coroutine: Any) -> Tuple[str, Any, Any]:
    """Runs the code as far as it comes: ("wait", wait_for), ("end", output as JSON) or ("error", exception), and its coroutine.

    Raises psycopg's errors of the connection, which a transaction() may meet.
    """
    token = current.set(run)
    try:
        if workflow.is_async:
            if coroutine is None:
                coroutine = workflow.function(**workflow.signature.unpack(run.task["input"]))
            try:
                wait = coroutine.send(None)
            except StopIteration as stop:
                output = stop.value
            else:
                if not isinstance(wait, Wait):
                    raise TypeError("a workflow may await romancy's calls only, not %r" % (wait,))
                if run.over is None:
                    return "wait", wait.wait_for, coroutine
        else:
            output = workflow.function(**workflow.signature.unpack(run.task["input"]))
        if run.over is None:
            run.finish()
            return "end", dumps(output), None
    except BaseException as error:  # the workflow's own error, or one that it did not catch
        if run.over is None:
            if asked_to_end(error):
                raise
            if isinstance(error, RuntimeError) and "event loop" in str(error):
                error = TypeError("a workflow may await romancy's calls only: %s" % error)
            return "error", from_database(error) if isinstance(error, psycopg.Error) else error, None
    finally:
        current.reset(token)
    # what ended the run counts, whatever the code made of it
    if isinstance(run.over, Suspended):
        return "wait", run.over.args[0] if run.over.args else None, None
    if isinstance(run.over, psycopg.Error):
        raise run.over
    return "error", run.over, None


def read_more(conn: Any, run: Run) -> bool:
    rows = conn.execute("select seq, event_type, activity_id, data from romancy.read_history(%s::text, %s::bigint)",
                        (run.task["token"], run.last_seq)).fetchall()
    run.absorb([{"seq": r[0], "event_type": r[1], "activity_id": r[2], "data": r[3]} for r in rows])
    return len(rows) >= 1000


def send(conn: Any, run: Run, wait_for: Optional[dict[str, Any]]) -> None:
    """Gives the instance back: what was done, the commands, and what to wait for, in one round trip."""
    sql = "select "
    args: list[Any] = []
    if run.records:
        sql += "romancy.record(%s::text, %s::jsonb), "
        args += [run.task["token"], dumps(run.records)]
    sql += "romancy.suspend(%s::text, %s::jsonb, %s::jsonb)"
    args += [run.task["token"], dumps(run.commands), None if wait_for is None else dumps(wait_for)]
    execute(conn, sql, args)
    run.records, run.commands = [], []


def execute(conn: Any, sql: str, args: Any) -> Any:
    """Runs a statement and gives its row; in a transaction of the caller's an error takes nothing else back."""
    if conn.autocommit:
        return conn.execute(sql, args).fetchone()
    with conn.transaction():
        return conn.execute(sql, args).fetchone()


def finish(conn: Any, run: Run, sql: str, *args: Any) -> None:
    """Ends the instance, after what was done."""
    if run.records:
        execute(conn, "select romancy.record(%s::text, %s::jsonb), " + sql[len("select "):],
                (run.task["token"], dumps(run.records), run.task["token"]) + args)
    else:
        execute(conn, sql, (run.task["token"],) + args)


def fail(conn: Any, run: Run, error: BaseException) -> None:
    """Ends the instance as failed; RM003 pauses it."""
    if getattr(error, "sqlstate", None) == "RM009":
        raise error
    run.commands = []
    if isinstance(error, NonDeterminism):
        run.records = []
    detail = detail_of(error)
    sql = "select romancy.fail_workflow(%s::text, %s::text, %s::text, %s::jsonb)"
    try:
        finish(conn, run, sql, message_of(error), code_of(error), None if detail is None else dumps(detail))
    except (psycopg.Error, TypeError, ValueError) as refused:
        if isinstance(refused, psycopg.Error) and not is_refusal(refused):
            raise
        # what was done, or the detail, is what no document can hold, or too large
        run.records = []
        finish(conn, run, sql, message_of(error)[:1000], "error", None)
