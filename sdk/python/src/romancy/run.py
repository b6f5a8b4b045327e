"""One run of a workflow's code: what history answers, and the commands of what it does not.

The code is run from the top; each call has an id, which is counted per name as the server counts for
handlers ("charge:1"), so histories look alike in every language. Calls that are in history are answered from it.
Calls that it lacks are collected as records (done here) and commands (to be scheduled), and sent in one round trip
when the code has to wait or ends. A plain function then unwinds with Suspended and is run again later; a
coroutine may be kept and goes on where it stopped.
"""

from __future__ import annotations

import contextvars
import json
from typing import Any, Callable, Dict, Generator, List, NoReturn, Optional, Tuple

from .errors import NonDeterminism, Suspended, from_document
from .values import same

ANY = object()  # an input that is not compared

current: "contextvars.ContextVar[Optional[Run]]" = contextvars.ContextVar("romancy_run", default=None)

# Events with a step that no call of the program asked for
LIFE_CYCLE = ("CompensationExecuted", "CompensationFailed")
SCHEDULED = ("ActivityScheduled", "TimerScheduled", "ReceiveScheduled", "ChildWorkflowScheduled")
FAILED = ("ActivityFailed", "ChildWorkflowFailed", "MessageTimeout", "AwaitTimeout", "CallFailed")


class Event:
    __slots__ = ("seq", "kind", "data")

    def __init__(self, seq: int, kind: str, data: dict[str, Any]):
        self.seq, self.kind, self.data = seq, kind, data

    def value(self) -> Any:
        """The result of the step, or raises its error."""
        if self.kind in FAILED:
            raise from_document(self.data.get("error"))
        return self.data.get("result")


class Wait:
    """A coroutine yields this when it has to wait."""

    def __init__(self, wait_for: Optional[dict[str, Any]]):
        self.wait_for = wait_for

    def __await__(self) -> Generator[Wait, None, None]:
        yield self


class Run:
    """The state of one run. ``conn``: the worker's connection, for transaction()."""

    def __init__(self, task: dict[str, Any], conn: Any = None, is_async: bool = False):
        self.task, self.conn, self.is_async = task, conn, is_async
        self.counts: Dict[str, int] = {}
        self.steps: Dict[str, Event] = {}        # answered in program order, by id
        self.outcomes: Dict[str, Event] = {}     # of scheduled steps
        self.used: set[Any] = set()
        self.last_seq = 0
        self.records: List[dict[str, Any]] = []
        self.commands: List[dict[str, Any]] = []
        self.over: Optional[BaseException] = None  # what ended this run: no "except" or "finally" of the code changes that
        self.inside = False                        # a transaction()
        self.absorb(task.get("history") or [])

    # ------------------------------------------------------------ history

    def absorb(self, events: List[dict[str, Any]]) -> None:
        for e in events:
            if e["seq"] <= self.last_seq:
                continue
            self.last_seq = e["seq"]
            step, kind = e.get("activity_id"), e["event_type"]
            if step is None or kind in LIFE_CYCLE or kind.startswith("Workflow") and kind != "WorkflowStarted":
                continue
            event = Event(e["seq"], kind, e.get("data") or {})
            first = self.steps.get(step)
            if first is not None and first.kind in SCHEDULED:
                self.outcomes.setdefault(step, event)
            else:
                self.steps[step] = event

    def differs(self, what: str) -> None:
        self.end(NonDeterminism(what, "RM003", hint="Run the former program, or guard the change with patched(); "
                                                    "then call romancy.resume_workflow()."))

    def end(self, error: BaseException) -> NoReturn:
        """Ends the run, however much of the code catches."""
        self.over = error
        raise error

    def step_id(self, name: str) -> str:
        n = self.counts[name] = self.counts.get(name, 0) + 1
        return "%s:%d" % (name, n)

    def known(self, step: str, kinds: Tuple[str, ...], name: Optional[str] = None, input: Any = ANY) -> Optional[Event]:
        """The event that answers a call; None past the end of history. It must be of these kinds, this name, this input."""
        if step in self.used:
            self.differs('activity_id "%s" is used twice' % step)
        self.used.add(step)
        event = self.steps.get(step)
        if event is None:
            left = [s for s in self.steps if s not in self.used]
            if left:
                self.differs('the program asks for "%s"; history holds "%s"' % (step, left[0]))
            return None
        if event.kind not in kinds and event.kind != "CallFailed":
            self.differs('the program asks for another kind of step "%s" than %s, which history holds'
                         % (step, event.kind))
        held = event.data.get("name") or step.rsplit(":", 1)[0]
        if name is not None and held != name:
            self.differs('the program asks for "%s" as "%s"; history holds "%s"' % (name, step, held))
        if input is not ANY and not same(event.data.get("input"), input):
            self.differs('the program asks for "%s" with another input than history holds: %s, %s'
                         % (step, json.dumps(input)[:500], json.dumps(event.data.get("input"))[:500]))
        return event

    def finish(self) -> None:
        """The code has ended: history must not hold more."""
        left = [s for s in self.steps if s not in self.used]
        if left:
            self.differs('the program ends; history goes on with "%s"' % left[0])

    # ------------------------------------------------------------ calls

    def record(self, op: str, step: str, kinds: Tuple[str, ...], label: Optional[str] = None, /, **fields: Any) -> Tuple[bool, Any]:
        """A step that is done here: (known, event's data), or it is collected."""
        event = self.known(step, kinds, label)
        if event is not None:
            return True, event
        self.records.append(dict(op=op, id=step, **fields))
        return False, None

    def command(self, op: str, step: str, kinds: Tuple[str, ...], label: Optional[str] = None, /, **fields: Any) -> Optional[Event]:
        """A step that the server carries out: its event, or None and it is collected."""
        event = self.known(step, kinds, label, fields.get("input") if op in ("activity", "child") else ANY)
        if event is None:
            self.commands.append(dict(op=op, id=step, **{k: v for k, v in fields.items() if v is not None}))
        return event

    def suspend(self, wait_for: Optional[dict[str, Any]]) -> Any:
        """Has to wait: ends the run, or gives the coroutine's awaitable."""
        if self.is_async:
            return Wait(wait_for)
        self.end(Suspended(wait_for))

    def outcome(self, step: str) -> Optional[Event]:
        """The outcome of a step that may take time, or None."""
        event = self.outcomes.get(step)
        if event is None:
            event = self.steps.get(step)
            if event is not None and event.kind in SCHEDULED:
                return None
        return event


class Task:
    """An activity that runs here: what its code may want besides its input."""

    def __init__(self, task: dict[str, Any], beat: Callable[[str], str], ask: Callable[[str, Any], Any]):
        self.task, self.beat, self.ask = task, beat, ask


current_task: "contextvars.ContextVar[Optional[Task]]" = contextvars.ContextVar("romancy_task", default=None)


def require_task(what: str) -> Task:
    task = current_task.get()
    if task is None:
        raise RuntimeError("%s can only be called from a running activity" % what)
    return task


def require(what: str) -> Run:
    run = current.get()
    if run is None:
        raise RuntimeError("%s can only be called from a running workflow" % what)
    if run.over is not None:
        raise run.over
    if run.inside:
        raise RuntimeError("%s cannot be called inside transaction()" % what)
    return run
