"""The worker: polls, runs, renews leases, and stops in order."""

from __future__ import annotations

import collections
import logging
import os
import random
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict

import psycopg

from .app import App, Parked, step_workflow
from .errors import Terminal, code_of, message_of
from .values import dumps

log = logging.getLogger("romancy")

PARKED = 10000   # coroutines kept
WAIT = "20 s"    # of one poll


class Connections:
    """A connection for each thread, made again when it has broken."""

    def __init__(self, app: App):
        self.app, self.local = app, threading.local()

    def get(self) -> Any:
        conn = getattr(self.local, "conn", None)
        if conn is None or conn.closed:
            conn = self.local.conn = self.app.connect()
        return conn

    def drop(self) -> None:
        conn = getattr(self.local, "conn", None)
        self.local.conn = None
        if conn is not None:
            conn.close()


class Worker:
    """Takes workflows and activities of an app's queue, up to ``concurrency`` at a time."""

    def __init__(self, app: App, concurrency: int = 10, lease: float = 60.0):
        self.app, self.concurrency, self.lease = app, max(1, concurrency), lease
        self.name = "%s/%d" % (socket.gethostname(), os.getpid())
        self.stopping = threading.Event()
        self.places = threading.Semaphore(self.concurrency)
        self.pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="romancy")
        self.conns = Connections(app)
        self.leases: Dict[str, str] = {}          # token -> the statement that renews it
        self.lock = threading.Lock()
        self.parked: "collections.OrderedDict[str, Parked]" = collections.OrderedDict()
        self.polling: list = []

    # ------------------------------------------------------------ life

    def run(self) -> None:
        """Works until SIGTERM or SIGINT, or stop()."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: threading.Thread(target=self.stop, daemon=True).start())
        threads = [threading.Thread(target=self.renew, daemon=True)]
        if self.app.activities:
            threads.append(threading.Thread(target=self.poll, args=("poll_activities", self.serve_activity), daemon=True))
        if self.app.workflows:
            threads.append(threading.Thread(target=self.poll, args=("poll_workflows", self.serve_workflow), daemon=True))
        for t in threads:
            t.start()
        while not self.stopping.wait(0.5):
            pass
        for t in threads[1:]:
            t.join()
        self.pool.shutdown(wait=True)

    def stop(self) -> None:
        """Takes nothing more; what has begun ends."""
        self.stopping.set()
        while any(self.polling):
            for conn in list(self.polling):
                try:
                    conn.cancel()
                except Exception:  # it has ended meanwhile
                    pass
            time.sleep(0.1)

    # ------------------------------------------------------------ polling

    def poll(self, call: str, serve: Any) -> None:
        pause = 0.1
        while not self.stopping.is_set():
            begun = time.monotonic()
            try:
                self.poll_once(call, serve)
                continue
            except psycopg.errors.QueryCanceled:
                continue
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                log.warning("connection: %s", error)
            except psycopg.Error as error:
                log.error("%s: %s", call, error)
            self.conns.drop()
            if time.monotonic() - begun > 60:
                pause = 0.1
            self.stopping.wait(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 30)

    def poll_once(self, call: str, serve: Any) -> None:
        self.places.acquire()
        free = 1
        while free < self.concurrency and self.places.acquire(blocking=False):
            free += 1
        tasks: list = []
        try:
            conn = self.conns.get()
            self.polling.append(conn)
            try:
                if not self.stopping.is_set():
                    sql = "call romancy.poll_activities(%s::text, %s::text, %s::int, %s::interval, %s::interval, null)" \
                        if call == "poll_activities" else \
                        "call romancy.poll_workflows(%s::text, %s::text, %s::int, %s::interval, %s::interval, null)"
                    # one place is waited with; the others would be kept from the other kind of task
                    for _ in range(free - 1):
                        self.places.release()
                    free = 1
                    tasks = conn.execute(sql, (self.app.queue, self.name, 1, "%f s" % self.lease, WAIT)).fetchone()[0]
            finally:
                self.polling.remove(conn)
        finally:
            for _ in range(free - len(tasks)):
                self.places.release()
        for task in tasks:
            self.pool.submit(self.guard, serve, task)

    def guard(self, serve: Any, task: dict) -> None:
        try:
            serve(task)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("connection: %s", error)  # its lease ends, and another takes it
            self.conns.drop()
        except Exception as error:
            if getattr(error, "sqlstate", None) != "RM009":
                log.exception("a task could not be served")
        finally:
            with self.lock:
                self.leases.pop(task["token"], None)
            self.places.release()

    def keep(self, token: str, sql: str) -> None:
        with self.lock:
            self.leases[token] = sql

    # ------------------------------------------------------------ serving

    def serve_activity(self, task: dict) -> None:
        token = task["token"]
        self.keep(token, "select romancy.heartbeat_activity(%s::text, null, %s::interval)")
        try:
            result = dumps(self.app.run_activity(task))
        except Exception as error:
            log.info("activity %s failed", task["activity"], exc_info=True)
            detail = getattr(error, "detail", None)
            self.conns.get().execute(
                "select romancy.fail_activity(%s::text, %s::text, %s::text, %s::jsonb, %s::boolean)",
                (token, message_of(error), code_of(error), None if detail is None else dumps(detail),
                 isinstance(error, (Terminal, TypeError))))
            return
        self.conns.get().execute("select romancy.complete_activity(%s::text, %s::jsonb)", (token, result))

    def serve_workflow(self, task: dict) -> None:
        if task["workflow"] not in self.app.workflows:
            # another worker of the queue may know it: it gets the instance when the lease ends
            log.warning('this worker has no workflow "%s"', task["workflow"])
            return
        self.keep(task["token"], "select romancy.extend_lease(%s::text, %s::interval)")
        with self.lock:
            parked = self.parked.pop(task["instance_id"], None)
        if parked is not None and not continues(parked, task):
            parked = None
        again = step_workflow(self.app, self.conns.get(), task, parked)
        if again is not None:
            with self.lock:
                self.parked[task["instance_id"]] = again
                while len(self.parked) > PARKED:
                    self.parked.popitem(last=False)

    def renew(self) -> None:
        while not self.stopping.wait(self.lease / 3) or self.leases:
            with self.lock:
                leases = list(self.leases.items())
            for token, sql in leases:
                try:
                    self.conns.get().execute(sql, (token, "%f s" % self.lease))
                except psycopg.Error as error:
                    if error.sqlstate is None or not error.sqlstate.startswith("RM"):
                        self.conns.drop()
            if self.stopping.is_set():
                time.sleep(0.5)


def continues(parked: Parked, task: dict) -> bool:
    """Has history nothing that the kept run has not seen in this order? A retry may have taken steps back."""
    seqs = {e["seq"] for e in task.get("history") or []}
    seen = parked.run.last_seq
    return len(task.get("history") or []) >= 1000 or seen == 0 or seen in seqs


