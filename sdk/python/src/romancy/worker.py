"""The worker: polls, runs, renews leases, and stops in order."""

from __future__ import annotations

import collections
import json
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
from psycopg.types.json import set_json_loads

from .app import App, Parked, step_workflow

log = logging.getLogger("romancy")

PARKED = 10000   # coroutines kept
WAIT = "20 s"    # of one poll
RENEWAL = {"poll_activities": "select romancy.heartbeat_activity(%s::text, null, %s::interval)",
           "poll_workflows": "select romancy.extend_lease(%s::text, %s::interval)"}


class Unreadable:
    """A document that Python's parser refuses: it is nested too deeply."""

    def __init__(self, text: Any):
        self.text = text.decode() if isinstance(text, bytes) else text


def loads(text: Any) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        return Unreadable(text)


class Connections:
    """A connection for each thread, made again when it has broken."""

    def __init__(self, app: App):
        self.app, self.local = app, threading.local()

    def get(self) -> Any:
        conn = getattr(self.local, "conn", None)
        if conn is None or conn.closed:
            conn = self.local.conn = self.app.connect()
            set_json_loads(loads, conn)
        return conn

    def drop(self) -> None:
        conn = getattr(self.local, "conn", None)
        self.local.conn = None
        if conn is not None:
            conn.close()


class Worker:
    """Takes workflows and activities of an app's queue, up to ``concurrency`` at a time; ``prefetch`` more of each wait here."""

    def __init__(self, app: App, concurrency: int = 10, lease: float = 60.0, prefetch: int = 0):
        self.app, self.concurrency, self.lease, self.prefetch = app, max(1, concurrency), lease, max(0, prefetch)
        self.name = "%s/%d" % (socket.gethostname(), os.getpid())
        self.stopping = threading.Event()
        self.places = threading.Semaphore(self.concurrency)
        self.pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="romancy")
        self.conns = Connections(app)
        self.leases: Dict[str, str] = {}          # token -> the statement that renews it
        self.lock = threading.Lock()
        self.parked: "collections.OrderedDict[str, Parked]" = collections.OrderedDict()
        self.polling: list[Any] = []
        self.unknown: Dict[str, set[str]] = {call: set() for call in RENEWAL}  # names that it was given and does not have

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
            try:
                self.poll_once(call, serve)
                pause = 0.1
                continue
            except psycopg.errors.QueryCanceled:
                continue
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                log.warning("connection: %s", error)
            except psycopg.Error as error:
                log.error("%s: %s", call, error)
            except Exception:  # whatever it is, the worker goes on
                log.exception("%s", call)
            self.conns.drop()
            self.stopping.wait(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 30)

    def poll_once(self, call: str, serve: Any) -> None:
        # it begins when a place is free, and holds none: the other kind of task may need it
        if not self.place():
            return
        self.places.release()
        known: Any = self.app.activities if call == "poll_activities" else self.app.workflows
        tasks: list[Any] = []
        conn = self.conns.get()
        self.polling.append(conn)
        try:
            if not self.stopping.is_set():
                sql = "call romancy." + call + "(%s::text, %s::text, %s::int, %s::interval, %s::interval, null, %s::text[])"
                unknown = [name for name in self.unknown[call] if name not in known]
                tasks = conn.execute(sql, (self.app.queue, self.name, 1 + self.prefetch, "%f s" % self.lease, WAIT, unknown)).fetchone()[0]
        finally:
            self.polling.remove(conn)
        if isinstance(tasks, Unreadable):
            tasks = self.readable(conn, call, tasks)
        for task in tasks:
            self.keep(task["token"], RENEWAL[call])
        what = "activity" if call == "poll_activities" else "workflow"
        self.leave(call, what, [task for task in tasks if task[what] not in known])
        tasks = [task for task in tasks if task[what] in known]
        for n, task in enumerate(tasks):
            if not self.place():
                self.release([left["token"] for left in tasks[n:]])
                return
            self.pool.submit(self.guard, serve, task)

    def readable(self, conn: Any, call: str, tasks: Unreadable) -> list[Any]:
        """The tasks that this program can read; each of the others has failed, then."""
        sql = "select romancy.fail_activity(%s::text, %s::text, 'Unreadable', null, true)" \
            if call == "poll_activities" else "select romancy.fail_workflow(%s::text, %s::text, 'Unreadable', null)"
        rest = []
        for token, task in conn.execute("select t->>'token', t from jsonb_array_elements(%s::jsonb) t", (tasks.text,)).fetchall():
            if isinstance(task, Unreadable):
                self.tell(sql, (token, "the input, or what history holds, is nested too deeply for this program"))
            else:
                rest.append(task)
        return rest

    def place(self) -> bool:
        """Waits for a place and takes it; false: the worker stops."""
        while not self.stopping.is_set():
            if self.places.acquire(timeout=0.2):
                return True
        return False

    def release(self, tokens: list[str]) -> None:
        """Gives back what was not begun; others can take it at once."""
        with self.lock:
            for token in tokens:
                self.leases.pop(token, None)
        try:
            self.tell("select count(romancy.release_activity(t)) from unnest(%s::text[]) t", (tokens,))
        except psycopg.Error as error:
            log.debug("a task could not be given back: %s", error)

    def leave(self, call: str, what: str, tasks: list[Any]) -> None:
        """Gives back what this worker does not have, no attempt counted: another one of the queue may have it. This one asks for no more
        of these names."""
        for task in tasks:
            if task[what] not in self.unknown[call]:
                self.unknown[call].add(task[what])
                log.warning('this worker has no %s "%s": it leaves that to others', what, task[what])
        if tasks:
            self.release([task["token"] for task in tasks])

    def guard(self, serve: Any, task: dict[str, Any]) -> None:
        try:
            serve(task)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("connection: %s", error)
            self.conns.drop()
            self.give_back(task)
        except BaseException as error:
            if getattr(error, "sqlstate", None) != "RM009":
                log.exception("a task could not be served")
        finally:
            with self.lock:
                self.leases.pop(task["token"], None)
            self.places.release()

    def give_back(self, task: dict[str, Any]) -> None:
        """Lets others have a workflow whose connection has broken soon; had the server got what it was told, nothing happens."""
        if "workflow" not in task:
            return
        with self.lock:
            self.leases.pop(task["token"], None)
        try:
            self.tell("select romancy.extend_lease(%s::text, '500 ms'::interval)", (task["token"],))
        except Exception as error:
            log.debug("a workflow could not be given back: %s", error)

    def tell(self, sql: str, args: Any) -> Any:
        """Runs a statement that may be repeated, and gives its row; over a new connection where the one at hand has broken."""
        for pause in (0.05, 0.5, 2.0, 8.0):
            try:
                return self.conns.get().execute(sql, args).fetchone()
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if getattr(error, "sqlstate", None) == "RM009":
                    raise
                log.warning("connection: %s", error)
                self.conns.drop()
                time.sleep(pause * random.uniform(0.5, 1.5))
        return self.conns.get().execute(sql, args).fetchone()

    def keep(self, token: str, sql: str) -> None:
        with self.lock:
            self.leases[token] = sql

    # ------------------------------------------------------------ serving

    def serve_activity(self, task: dict[str, Any]) -> None:
        self.app.serve_activity(task, self.tell)

    def serve_workflow(self, task: dict[str, Any]) -> None:
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
                if token not in self.leases:
                    continue
                try:
                    self.conns.get().execute(sql, (token, "%f s" % self.lease))
                except psycopg.Error as error:
                    if error.sqlstate is None or not error.sqlstate.startswith("RM"):
                        self.conns.drop()
                except Exception:  # whatever it is, the other leases are renewed
                    log.exception("a lease could not be renewed")
            if self.stopping.is_set():
                time.sleep(0.5)


def continues(parked: Parked, task: dict[str, Any]) -> bool:
    """Has history nothing that the kept run has not seen in this order? A retry may have taken steps back."""
    seqs = {e["seq"] for e in task.get("history") or []}
    seen = parked.run.last_seq
    return len(task.get("history") or []) >= 1000 or seen == 0 or seen in seqs


