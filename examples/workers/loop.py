"""The code that both workers have around their work: connect, poll, stop when asked, connect again."""

import os
import random
import signal
import socket
import sys
import threading
import time

import psycopg

NAME = "%s/%d" % (socket.gethostname(), os.getpid())  # the worker_id
stopping = threading.Event()


def message(error):
    """An exception's message, as a call of romancy takes it."""
    return str(error).replace("\0", "")[:10000]


def code(error):
    """The error_code that romancy is told: the server's SQLSTATE, or the exception's name."""
    return getattr(error, "sqlstate", None) or type(error).__name__


def connect(conninfo):
    """Prepares nothing: behind a pool in transaction mode the next call may be another server connection's."""
    return psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)


def cancel_while(conn, waiting):
    """Cancels the call that conn is blocked in; again and again, for it may not have reached the server yet."""
    while waiting.is_set():
        conn.cancel()
        time.sleep(0.1)


def serve(conninfo, sql, args, work):
    """Polls over one connection until it breaks or the worker is to stop."""
    waiting = threading.Event()
    with connect(conninfo) as conn:
        def stop(*_):
            stopping.set()
            threading.Thread(target=cancel_while, args=(conn, waiting), daemon=True).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        while not stopping.is_set():
            waiting.set()
            try:
                tasks = [] if stopping.is_set() else conn.execute(sql, args).fetchone()[0]
            except psycopg.errors.QueryCanceled:
                continue
            finally:
                waiting.clear()
            if tasks:
                work(conn, tasks)


def loop(conninfo, sql, args, work):
    """Calls work(conn, tasks) with what the call sql gives, until SIGTERM or SIGINT: then the work under way ends.

    A lost connection is opened again with a growing pause.
    """
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, lambda *_: stopping.set())
    pause = 0.1
    while not stopping.is_set():
        begun = time.monotonic()
        try:
            serve(conninfo, sql, args, work)
        except psycopg.OperationalError as error:
            if stopping.is_set():
                break
            if time.monotonic() - begun > 60:
                pause = 0.1
            print("connection: %s" % error, file=sys.stderr)
            stopping.wait(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 30)
