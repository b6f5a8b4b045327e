#!/usr/bin/python3
"""activity_worker.py CONNINFO QUEUE [TASKS]: runs the activities of a queue.

An activity is a function in ACTIVITIES: input -> result, both as JSON can say them.
"""

import json
import sys
import threading
import time

import psycopg
from psycopg.types.json import Jsonb

from loop import NAME, code, connect, loop, message

LEASE = 30  # seconds; renewed at a third of it


class NonRetryable(Exception):
    """Ends the activity for good."""


class Cancelled(Exception):
    """The instance has ended: the result is not needed."""


class Task:
    """An activity gets this besides its input."""

    def __init__(self, task):
        self.attempt, self.last_details = task["attempt"], task["last_details"]
        self.token, self.activity, self.input = task["token"], task["activity"], task["input"]
        self.details = None          # set by the activity: the next attempt gets it
        self.state = "ok"

    def check(self):
        """Raises when the work is no longer wanted; long activities call it now and then."""
        if self.state == "cancel_requested":
            raise Cancelled()
        if self.state == "lost":
            raise Cancelled("lease lost")


def upper(value, task):
    return str(value).upper()


def work(value, task):
    """Some tens of milliseconds of work that now and then fails."""
    time.sleep(value.get("ms", 20) / 1000)
    if value.get("fail", 0) >= task.attempt:
        raise ValueError("bad luck with %s" % value.get("n"))
    if value.get("never"):
        raise NonRetryable("this one never works")
    return {"n": value.get("n"), "attempt": task.attempt}


ACTIVITIES = {"upper": upper, "work": work}


def renew(conninfo, tasks, done):
    """Renews the leases of the tasks in hand, over a connection of its own."""
    conn = None
    while not done.wait(LEASE / 3):
        for task in list(tasks):
            try:
                conn = conn or connect(conninfo)
                details = None if task.details is None else Jsonb(task.details)
                task.state = conn.execute("select romancy.heartbeat_activity(%s::text, %s::jsonb)",
                                          (task.token, details)).fetchone()[0]
            except psycopg.Error:
                conn = None          # the next round tries again; the lease outlasts two
    if conn:
        conn.close()


def run(conn, task):
    """Runs one task and reports its end."""
    try:
        function = ACTIVITIES.get(task.activity)
        if function is None:
            raise NonRetryable("this worker has no activity %s" % task.activity)
        result = json.dumps(function(task.input, task))
    except Cancelled:
        return
    except Exception as error:
        fail(conn, task, error)
        return
    try:
        conn.execute("select romancy.complete_activity(%s::text, %s::jsonb)", (task.token, result))
    except psycopg.OperationalError:
        raise                        # the connection; the task is another's when its lease ends
    except psycopg.Error as error:
        fail(conn, task, error)      # a result that is not accepted: too large, say


def fail(conn, task, error):
    conn.execute("select romancy.fail_activity(%s::text, %s::text, %s::text, null, %s::boolean)",
                 (task.token, message(error), code(error), isinstance(error, NonRetryable)))


def main():
    conninfo, queue = sys.argv[1], sys.argv[2]
    max_tasks = int(sys.argv[3]) if len(sys.argv) > 3 else 1

    def serve(conn, tasks):
        mine = [Task(task) for task in tasks]
        done = threading.Event()
        renewer = threading.Thread(target=renew, args=(conninfo, mine, done), daemon=True)
        renewer.start()
        try:
            while mine:
                run(conn, mine[0])
                mine.pop(0)
        finally:
            done.set()
            renewer.join()

    loop(conninfo, "call romancy.poll_activities(%s::text, %s::text, %s::int, %s::interval)",
         (queue, NAME, max_tasks, "%ds" % LEASE), serve)


if __name__ == "__main__":
    main()
