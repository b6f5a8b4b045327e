"""Tests of workflows without waiting: the worker's work and drain() in turn, in one transaction that is rolled back.

    with romancy.testing.session(app) as session:
        instance = signup.start("eva@example.com", conn=session.conn)
        session.run(advance_time=True)        # thirty days in a moment
        assert session.result(instance) == "expired"
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Iterator, Optional

import psycopg

from .app import App, Instance, execute, step_workflow
from .errors import from_database, from_document


class Session:
    """A transaction in which an app's workflows and activities run."""

    def __init__(self, app: App, conn: Any):
        self.app, self.conn = app, conn

    def run(self, advance_time: bool = False, most: int = 10000) -> int:
        """Runs all that is ready, here and in the database, until nothing is; with advance_time timers count as due, the
        earliest first, once nothing else is ready. An activity's next attempt is waited for. Gives the number of tasks
        and turns."""
        total = 0
        while total < most:
            served = self.serve()
            turns = self.drain(False, most)
            if served + turns == 0 and self.wait_for_retry():
                total += 1
                continue
            if served + turns == 0 and advance_time:
                turns = self.drain(True, 1)
            total += served + turns
            if served + turns == 0:
                return total
        raise RuntimeError("the workflows did not come to rest in %d steps" % most)

    def wait_for_retry(self) -> bool:
        """Waits for the next attempt of an activity of the queue; False: there is none."""
        row = self.conn.execute("select extract(epoch from min(due_at) - clock_timestamp())::float8,"
                                " count(*) filter (where status = 'ready') from romancy.activity_tasks"
                                " where queue = %s::text and status in ('waiting', 'ready')", (self.app.queue,)).fetchone()
        if row[1] > 0:
            return True
        if row[0] is None:
            return False
        time.sleep(max(0.0, row[0]) + 0.001)
        return True

    def drain(self, advance_time: bool, most: int) -> int:
        return int(self.conn.execute("call romancy.drain(%s::int, %s::boolean, null)", (most, advance_time)).fetchone()[0])

    def serve(self) -> int:
        """Takes what the queue has ready, once."""
        n = 0
        for row in self.conn.execute("select to_jsonb(t) from romancy.fetch_workflows(%s::text, 'test', 100) t",
                                     (self.app.queue,)).fetchall():
            step_workflow(self.app, self.conn, row[0])
            n += 1
        for row in self.conn.execute("select to_jsonb(t) from romancy.fetch_activities(%s::text, 'test', 100) t",
                                     (self.app.queue,)).fetchall():
            self.app.serve_activity(row[0], lambda sql, args: execute(self.conn, sql, args))
            n += 1
        return n

    def status(self, instance: Instance) -> str:
        return str(self.conn.execute("select status::text from romancy.instances where instance_id = %s::uuid",
                                     (str(instance.id),)).fetchone()[0])

    def result(self, instance: Instance) -> Any:
        """The output of an instance that has ended; raises its error."""
        row = self.conn.execute("select status::text, output, error from romancy.instances where instance_id = %s::uuid",
                                (str(instance.id),)).fetchone()
        if row[0] in ("failed", "cancelled", "paused"):
            raise from_document(row[2])
        if row[0] != "completed":
            raise AssertionError("the instance has not ended: it is %s" % row[0])
        return instance.workflow.signature.result(row[1]) if instance.workflow else row[1]


@contextlib.contextmanager
def session(app: App, conninfo: Optional[str] = None) -> Iterator[Session]:
    """Defines the app's names and gives a Session; all is rolled back at its end."""
    conn = psycopg.connect(app.conninfo if conninfo is None else conninfo, prepare_threshold=None)
    try:
        try:
            app.define(conn)
        except psycopg.Error as error:
            raise from_database(error) from error
        app._session = conn  # (client calls that name no connection are made in this transaction, too)
        yield Session(app, conn)
    finally:
        app._session = None
        conn.rollback()
        conn.close()
