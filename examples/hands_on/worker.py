#!/usr/bin/python3
"""worker.py CONNINFO NUMBER: does the project's tasks; prints how many statements it sent.

It is the reference worker cut down to what this example needs. The first attempt of task 31
kills it (DIE=1), as an unlucky program would die.
"""

import os
import signal
import sys
import time

import psycopg
from psycopg.types.json import Jsonb

statements = 0
stopping = False


def main():
    global statements, stopping
    conn = psycopg.connect(sys.argv[1], autocommit=True, prepare_threshold=None)

    def execute(sql, *args):
        global statements
        statements += 1
        return conn.execute(sql, args)

    def stop(*_):
        global stopping
        stopping = True
        conn.cancel()

    signal.signal(signal.SIGTERM, stop)
    while not stopping:
        try:
            tasks = execute("call romancy.poll_activities('hands', %s::text, 1, '2s', '1h')", sys.argv[2]).fetchone()[0]
        except psycopg.errors.QueryCanceled:
            break
        for task in tasks:
            value = task["input"]
            time.sleep(value["ms"] / 1000)
            if os.environ.get("DIE") and value["n"] == 31 and task["attempt"] == 1:
                with open(sys.argv[3], "w") as f:
                    f.write("%d\n" % statements)
                os.kill(os.getpid(), signal.SIGKILL)
            if value["fail"] >= task["attempt"]:
                execute("select romancy.fail_activity(%s::text, 'bad luck', 'ValueError')", task["token"])
            else:
                execute("select romancy.complete_activity(%s::text, %s::jsonb)", task["token"],
                        Jsonb({"n": value["n"], "worker": sys.argv[2]}))
    with open(sys.argv[3], "w") as f:
        f.write("%d\n" % statements)


main()
