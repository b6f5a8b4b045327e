#!/usr/bin/python3
"""workflow_worker.py CONNINFO QUEUE: runs workflows whose code is Python.

A workflow is a function in WORKFLOWS: (wf, input) -> output. It may call wf.local() for an
activity that runs right here, wf.activity() for one that romancy runs, wf.sleep() and
wf.receive(); everything else that it does must be the same in every replay.
"""

import datetime
import sys
import time

import psycopg
from psycopg.types.json import Jsonb

from loop import NAME, code, loop, message

LEASE = 60  # seconds; renewed before each call that may take long


class Suspended(BaseException):
    """The instance was given back; BaseException, so that workflow code does not catch it."""


class ActivityError(Exception):
    def __init__(self, error):
        super().__init__(error.get("message"))
        self.code = error.get("code") or error.get("sqlstate")


class Workflow:
    def __init__(self, conn, task):
        self.conn, self.token = conn, task["token"]
        self.counts = {}
        self.history = {}
        after = 0
        while True:
            rows = self.call("select seq, event_type, activity_id, data from romancy.read_history(%s::text, %s::bigint)",
                             self.token, after).fetchall()
            for seq, kind, step, data in rows:
                after = seq
                if step is not None:
                    self.history[step] = (kind, data)
            if len(rows) < 1000:
                break

    def call(self, sql, *args):
        return self.conn.execute(sql, args)

    def step(self, name):
        self.counts[name] = self.counts.get(name, 0) + 1
        return "%s:%d" % (name, self.counts[name])

    def answer(self, step):
        """(True, value) if history answers the step; raises what it holds as an error."""
        if step not in self.history:
            return False, None
        kind, data = self.history[step]
        if kind in ("ActivityFailed", "MessageTimeout"):
            raise ActivityError(data.get("error") or {"message": kind, "sqlstate": "RM006"})
        result = data.get("result")
        return True, result.get("data") if kind == "ChannelMessageReceived" else result

    def local(self, function, value=None, attempts=3):
        """Runs function(value) in this process and records its result: at least once."""
        step = self.step(function.__name__)
        known, result = self.answer(step)
        if known:
            return result
        for attempt in range(1, attempts + 1):
            self.call("select romancy.extend_lease(%s::text, %s::interval)", self.token, "%ds" % LEASE)
            try:
                result = function(value)
                break
            except Exception as error:
                if attempt == attempts:
                    self.call("select romancy.record_failure(%s::text, %s::text, %s::text, %s::text, %s::text)",
                              self.token, step, function.__name__, message(error), code(error))
                    raise ActivityError({"message": message(error), "code": code(error)})
                time.sleep(0.05 * 2 ** attempt)
        self.call("select romancy.record_activity(%s::text, %s::text, %s::text, %s::jsonb, %s::jsonb)",
                  self.token, step, function.__name__, Jsonb(value), Jsonb(result))
        return result

    def activity(self, name, value=None):
        step = self.step(name)
        known, result = self.answer(step)
        if known:
            return result
        self.call("select romancy.suspend_activity(%s::text, %s::text, %s::text, %s::jsonb)",
                  self.token, step, name, Jsonb(value))
        raise Suspended()

    def sleep(self, seconds):
        step = self.step("sleep")
        if not self.answer(step)[0]:
            until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
            self.call("select romancy.suspend_timer(%s::text, %s::text, %s::timestamptz)", self.token, step, until)
            raise Suspended()

    def receive(self, channel, timeout=None):
        step = self.step("receive_" + channel)
        known, result = self.answer(step)
        if known:
            return result
        self.call("select romancy.suspend_receive(%s::text, %s::text, %s::text, %s::interval)", self.token, step,
                  channel, None if timeout is None else "%fs" % timeout)
        raise Suspended()


def greeting(name):
    return "Hello, %s" % name


def greet(wf, value):
    text = wf.local(greeting, value["name"])
    wf.sleep(0.1)
    text = wf.activity("upper", text) if value.get("upper") else text
    return {"text": text}


WORKFLOWS = {"greet": greet}


def run(conn, task):
    """One run of a workflow's code, up to its end or to where it has to wait."""
    token = task["token"]
    try:
        try:
            output = WORKFLOWS[task["workflow"]](Workflow(conn, task), task["input"])
            conn.execute("select romancy.complete_workflow(%s::text, %s::jsonb)", (token, Jsonb(output)))
        except (Suspended, psycopg.OperationalError):
            raise
        except Exception as error:
            if getattr(error, "sqlstate", None) == "RM009":
                raise
            # its own error, or one of a call that was refused: a result that is too large, say
            conn.execute("select romancy.fail_workflow(%s::text, %s::text, %s::text)",
                         (token, message(error), getattr(error, "code", None) or code(error)))
    except Suspended:
        pass
    except psycopg.Error as error:
        if error.sqlstate != "RM009":
            raise                    # the connection


def main():
    def serve(conn, tasks):
        for task in tasks:
            run(conn, task)

    loop(sys.argv[1], "call romancy.poll_workflows(%s::text, %s::text, 1, %s::interval)",
         (sys.argv[2], NAME, "%ds" % LEASE), serve)


if __name__ == "__main__":
    main()
