"""The calls of a workflow. In an ``async def`` workflow everything that waits is awaited."""

from __future__ import annotations

import base64
import datetime
import inspect
import random as random_module
import uuid as uuid_module
from typing import Any, Callable, Iterable, List, Optional, Sequence, Tuple

import psycopg

from .errors import Cancelled, LeaseLost, TimeoutError, code_of, detail_of, from_database, from_document, is_refusal, message_of
from .run import Event, Run, current_task, require, require_task
from .values import dumps, interval, padded, plain

# (a coroutine that is not awaited at once is scheduled beside others, as spawn() does)
ACTIVITY = ("ActivityScheduled", "ActivityCompleted", "ActivityFailed")
TIMER = ("TimerScheduled", "TimerExpired")
RECEIVE = ("ReceiveScheduled", "ChannelMessageReceived", "MessageTimeout")
CHILD = ("ChildWorkflowCompleted", "ChildWorkflowFailed", "ChildWorkflowScheduled")


class Handle:
    """A step that runs in parallel: give it to gather() or any()."""

    def __init__(self, step: str, convert: Callable[[Any], Any] = lambda v: v):
        self.step, self.convert = step, convert


class Message(dict[str, Any]):
    """A message: its data by itself in ``data`` (bytes, where bytes were sent), with ``id``, ``channel``, ``metadata``, ``sender``
    (an instance) and ``publisher`` (a role)."""

    @property
    def data(self) -> Any:
        binary = self.get("data_binary")
        return self.get("data") if binary is None else base64.b64decode(binary)


def blocking(run: Run, step: str, convert: Callable[[Event], Any]) -> Any:
    """Waits for the last command, as a handler's call waits."""
    def wait_for() -> Optional[dict[str, Any]]:
        # scheduled in an earlier run: it is awaited, not asked for again
        return None if run.commands and run.commands[-1]["id"] == step else {"all": [step]}

    if run.is_async:
        async def wait() -> Any:
            event = run.outcome(step)
            while event is None:
                await run.suspend(wait_for())
                event = run.outcome(step)
            return convert(event)
        return wait()
    event = run.outcome(step)
    if event is None:
        run.suspend(wait_for())
    return convert(event)  # type: ignore[arg-type]


def value_of(convert: Callable[[Any], Any]) -> Callable[[Event], Any]:
    return lambda event: convert(event.value())


def call_activity(name: str, value: Any, activity_id: Optional[str] = None, retry: Any = None,
                  convert: Callable[[Any], Any] = lambda v: v) -> Any:
    run = require("an activity")
    step = activity_id or run.step_id(name)
    run.command("activity", step, ACTIVITY, name, name=name, input=plain(value), retry=retry)
    return blocking(run, step, value_of(convert))


def activity(name: str, input: Any = None, activity_id: Optional[str] = None, retry: Optional[dict[str, Any]] = None) -> Any:
    """Runs an activity by its name: one in the database, of another language, or of a queue."""
    return call_activity(name, input, activity_id, retry)


def map(target: Any, inputs: Iterable[Any], max_parallel: Optional[int] = None) -> Any:  # noqa: A001
    """Runs an activity for each input, at most max_parallel at a time; their results, in order. When some fail the others
    run on; then the first error in order is raised."""
    run = require("map()")
    todo, handles = list(inputs), []  # type: List[Any], List[Handle]
    if max_parallel is not None and max_parallel < 1:
        raise ValueError("max_parallel must be greater than zero")

    def full() -> Optional[dict[str, Any]]:
        """Names what has to end before the next can begin. Replay schedules what was scheduled."""
        if max_parallel is None or _any(s not in run.used for s in run.steps):
            return None
        pending = [h.step for h in handles if run.outcome(h.step) is None]
        return {"any": pending} if len(pending) >= max_parallel else None

    if run.is_async:
        async def work() -> Any:
            for value in todo:
                while (wait_for := full()) is not None:
                    await run.suspend(wait_for)
                handles.append(spawn(target, value))
            return await gather(*handles)
        return work()
    for value in todo:
        wait_for = full()
        if wait_for is not None:
            run.suspend(wait_for)
        handles.append(spawn(target, value))
    return gather(*handles)


def spawn(target: Any, *args: Any, activity_id: Optional[str] = None, retry: Optional[dict[str, Any]] = None, **kwargs: Any) -> Handle:
    """Schedules an activity (a function of this program, or a name and its input) in parallel."""
    run = require("spawn()")
    if isinstance(target, str):
        name, value, convert = target, (args[0] if args else None), (lambda v: v)
    else:
        name, value, convert = target.name, target.signature.pack(args, kwargs), target.signature.result
    step = activity_id or run.step_id(name)
    run.command("activity", step, ("ActivityScheduled",), name, name=name, input=plain(value), retry=retry)
    return Handle(step, convert)


def spawn_child(target: Any, *args: Any, activity_id: Optional[str] = None, on_parent_close: Optional[str] = None,
                version: Optional[int] = None, priority: Optional[int] = None, labels: Optional[dict[str, Any]] = None,
                execution_timeout: Any = None, **kwargs: Any) -> Handle:
    """Starts another workflow beside this one. on_parent_close: "cancel" or "abandon"."""
    run = require("spawn_child()")
    name, value, convert = _workflow(target, args, kwargs)
    step = activity_id or run.step_id(name)
    run.command("child", step, CHILD, name, name=name, input=value, on_parent_close=on_parent_close,
                version=version, priority=priority, labels=labels, execution_timeout=interval(execution_timeout))
    return Handle(step, convert)


def child(target: Any, *args: Any, **options: Any) -> Any:
    """Runs another workflow and gives its result; options as spawn_child() takes them."""
    handle = spawn_child(target, *args, **options)
    return blocking(require("child()"), handle.step, value_of(handle.convert))


def _workflow(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tuple[str, Any, Callable[[Any], Any]]:
    if isinstance(target, str):
        return target, plain(args[0]) if args else None, lambda v: v
    return target.name, target.signature.pack(args, kwargs), target.signature.result


def http(method: str, url: str, body: Any = None, headers: Optional[dict[str, Any]] = None, timeout: Any = None,
         activity_id: Optional[str] = None, retry: Optional[dict[str, Any]] = None) -> Any:
    """Has the server send an HTTP request, at least once with one Idempotency-Key; gives {"status", "headers", "body"}.

    body: sent as JSON (None: none). timeout: of each attempt. A status that is not 2xx raises ActivityError.
    """
    run = require("http()")
    return blocking(run, _request(run, ACTIVITY, method, url, body, headers, timeout, activity_id, retry), value_of(lambda v: v))


def spawn_http(method: str, url: str, body: Any = None, headers: Optional[dict[str, Any]] = None, timeout: Any = None,
               activity_id: Optional[str] = None, retry: Optional[dict[str, Any]] = None) -> Handle:
    """Has the server send an HTTP request in parallel."""
    return Handle(_request(require("spawn_http()"), ("ActivityScheduled",), method, url, body, headers, timeout, activity_id, retry))


def _request(run: Run, kinds: Tuple[str, ...], method: str, url: str, body: Any, headers: Optional[dict[str, Any]], timeout: Any,
             activity_id: Optional[str], retry: Optional[dict[str, Any]]) -> str:
    step = activity_id or run.step_id("http")
    event = run.command("http", step, kinds, method=method, url=url, body=plain(body), headers=headers,
                        timeout=interval(timeout), retry=retry)
    held = event.data.get("input") if event is not None else None
    if held is not None:
        # (the server keeps a URL's host in its own spelling)
        path = url.split("://", 1)[-1].partition("/")[2]
        if (held.get("method"), held.get("body"), held.get("headers")) != (method.upper(), plain(body), headers) \
                or not held.get("url", "").endswith(path):
            run.differs('the program asks for "%s" as %s %s; history holds %s %s, or with another body or headers'
                        % (step, method, url, held.get("method"), held.get("url")))
    return step


def spawn_timer(duration: Any) -> Handle:
    run = require("spawn_timer()")
    step = run.step_id("spawn_timer")
    run.command("timer", step, ("TimerScheduled",), duration=interval(duration))
    return Handle(step)


def spawn_receive(channel: str) -> Handle:
    run = require("spawn_receive()")
    step = run.step_id("receive_" + channel)
    run.command("receive", step, ("ReceiveScheduled",), channel=channel)
    return Handle(step, Message)


def sleep(duration: Any, activity_id: Optional[str] = None) -> Any:
    """Seconds, a timedelta, or a text such as "3 days". Durable: no process waits."""
    run = require("sleep()")
    step = activity_id or run.step_id("sleep")
    run.command("timer", step, TIMER, duration=interval(duration))
    return blocking(run, step, lambda event: None)


def sleep_until(until: datetime.datetime, activity_id: Optional[str] = None) -> Any:
    run = require("sleep_until()")
    step = activity_id or run.step_id("sleep_until")
    run.command("timer", step, TIMER, until=until.isoformat())
    return blocking(run, step, lambda event: None)


def receive(channel: str, timeout: Any = None, activity_id: Optional[str] = None) -> Any:
    """The oldest message of a channel that was sent to this instance (or published, once subscribed)."""
    run = require("receive()")
    step = activity_id or run.step_id("receive_" + channel)
    run.command("receive", step, RECEIVE, channel=channel, timeout=interval(timeout))
    return blocking(run, step, value_of(Message))


def wait_event(type: str, timeout: Any = None, activity_id: Optional[str] = None) -> Any:
    """A CloudEvent of a type."""
    run = require("wait_event()")
    step = activity_id or run.step_id("receive_" + type)
    run.command("event", step, ("EventReceived", "ChannelMessageReceived", "MessageTimeout"), type=type,
                timeout=interval(timeout))
    return blocking(run, step, value_of(lambda v: v))


def gather(*handles: Handle) -> Any:
    """The results of all, in their order; raises the first error in that order."""
    run = require("gather()")

    def results() -> List[Any]:
        return [h.convert(run.outcome(h.step).value()) for h in handles]  # type: ignore[union-attr]

    def pending() -> bool:
        return _any(run.outcome(h.step) is None for h in handles)

    wait_for = {"all": [h.step for h in handles]}
    if run.is_async:
        async def wait() -> List[Any]:
            while pending():
                await run.suspend(wait_for)
            return results()
        return wait()
    if pending():
        run.suspend(wait_for)
    return results()


_any = any


def any(handles: Sequence[Handle], timeout: Any = None) -> Any:  # noqa: A001
    """(handle, result) of the first that ends; TimeoutError past the timeout. The others go on."""
    run = require("any()")
    if not handles:
        raise ValueError("any() needs at least one handle")
    step = run.step_id("await_any")
    over = run.steps.get(step)
    if over is not None:
        run.used.add(step)
    wait_for = {"any": [h.step for h in handles], "id": step}
    if timeout is not None:
        wait_for["timeout"] = interval(timeout)

    def first() -> Optional[Tuple[Handle, Any]]:
        ended = [(run.outcome(h.step).seq, h) for h in handles if run.outcome(h.step) is not None]  # type: ignore[union-attr]
        timed_out = run.steps.get(step)
        if timed_out is not None:
            run.used.add(step)
            raise from_document(timed_out.data.get("error"), TimeoutError)
        if not ended:
            return None
        handle = min(ended, key=lambda e: e[0])[1]
        return handle, handle.convert(run.outcome(handle.step).value())  # type: ignore[union-attr]

    if run.is_async:
        async def wait() -> Tuple[Handle, Any]:
            found = first()
            while found is None:
                await run.suspend(wait_for)
                found = first()
            return found
        return wait()
    found = first()
    if found is None:
        run.suspend(wait_for)
    return found


# ---------------------------------------------------------------- done here

def now() -> datetime.datetime:
    """The time, recorded: the same in every replay."""
    run = require("now()")
    value = datetime.datetime.now(datetime.timezone.utc)
    known, event = run.record("now", run.step_id("workflow_now"), ("ValueRecorded",), value=value.isoformat())
    return datetime.datetime.fromisoformat(padded(event.value())) if known else value


def random() -> float:
    run = require("random()")
    value = random_module.random()
    known, event = run.record("random", run.step_id("workflow_random"), ("ValueRecorded",), value=value)
    return event.value() if known else value


def uuid() -> uuid_module.UUID:
    run = require("uuid()")
    value = uuid_module.uuid4()
    known, event = run.record("uuid", run.step_id("workflow_uuid"), ("ValueRecorded",), value=str(value))
    return uuid_module.UUID(event.value()) if known else value


def patched(change: str) -> bool:
    """True for instances that reach this point first under the new code."""
    run = require("patched()")
    step = run.step_id("patched_" + change)
    if step in run.steps:
        run.used.add(step)
        return True
    if _any(s not in run.used for s in run.steps):
        return False
    run.used.add(step)
    run.records.append({"op": "patched", "id": step, "change": change})
    return True


def set_value(key: str, value: Any) -> None:
    """Others read it with get_value()."""
    run = require("set_value()")
    run.record("set_value", run.step_id("set_value"), ("ValueSet",), key, key=key, value=plain(value))


def set_labels(labels: dict[str, Any]) -> None:
    run = require("set_labels()")
    run.record("set_labels", run.step_id("set_labels"), ("LabelsSet",), labels=labels)


def progress(done: int, total: Optional[int] = None, note: Optional[str] = None) -> None:
    """How far the workflow is; others see it with get_progress(). In an activity, too."""
    task = current_task.get()
    if task is not None:
        task.ask("select romancy.report_progress(%s::text, %s::bigint, %s::bigint, %s::text)", (task.task["token"], done, total, note))
        return
    run = require("progress()")
    if not _any(s not in run.used for s in run.steps):
        report = {"op": "progress", "done": done, "total": total, "note": note}
        run.records.append({k: v for k, v in report.items() if v is not None})


def compensate(target: Any = None, *args: Any, **kwargs: Any) -> Any:
    """With an activity: registers it to undo what was done. Without: runs now what is registered."""
    run = require("compensate()")
    if target is not None:
        name = target if isinstance(target, str) else target.name
        value = (args[0] if args else None) if isinstance(target, str) else target.signature.pack(args, kwargs)
        run.record("register_compensation", run.step_id("register_compensation"), ("CompensationRegistered",), name,
                   activity=name, input=plain(value))
        return None
    step = run.step_id("compensate")
    run.command("compensate", step, ("Compensated",))
    return blocking(run, step, value_of(lambda v: v))


# ---------------------------------------------------------------- carried out by the server, at once

def payload(data: Any) -> dict[str, Any]:
    """The keys of a command for what a message or an event carries: JSON, or bytes."""
    if isinstance(data, (bytes, bytearray)):
        return {"data_binary": base64.b64encode(data).decode()}
    return {"data": plain(data)}


def publish(channel: str, data: Any = None, metadata: Optional[dict[str, Any]] = None) -> Handle:
    """Sends a message to a channel's subscribers. The handle's result is the message's id, for a workflow that wants to know it."""
    run = require("publish()")
    step = run.step_id("publish_" + channel)
    run.command("publish", step, ("MessagePublished",), channel=channel, metadata=metadata, **payload(data))
    return Handle(step)


def send_to(instance_id: Any, channel: str, data: Any = None, metadata: Optional[dict[str, Any]] = None) -> Handle:
    """Sends a message to one instance; a handle as publish() gives it."""
    run = require("send_to()")
    step = run.step_id("send_to_%s_%s" % (instance_id, channel))
    run.command("send_to", step, ("MessageSent",), instance_id=str(instance_id), channel=channel, metadata=metadata, **payload(data))
    return Handle(step)


def subscribe(channel: str, mode: str = "broadcast") -> None:
    run = require("subscribe()")
    run.command("subscribe", run.step_id("subscribe_" + channel), ("ChannelSubscribed",), channel=channel, mode=mode)


def unsubscribe(channel: str) -> None:
    run = require("unsubscribe()")
    run.command("unsubscribe", run.step_id("unsubscribe_" + channel), ("ChannelUnsubscribed",), channel=channel)


def join_group(name: str) -> None:
    run = require("join_group()")
    run.command("join_group", run.step_id("join_group_" + name), ("GroupJoined",), name=name)


def leave_group(name: str) -> None:
    run = require("leave_group()")
    run.command("leave_group", run.step_id("leave_group_" + name), ("GroupLeft",), name=name)


def raise_event(type: str, source: str, data: Any = None, *, id: Optional[str] = None, subject: Optional[str] = None,  # noqa: A002
                time: Optional[datetime.datetime] = None, datacontenttype: Optional[str] = None,
                extensions: Optional[dict[str, Any]] = None, instance_id: Any = None) -> Handle:
    """A CloudEvent comes in: wakes wait_event(), starts workflows with that on_event. The handle's result is the event's id."""
    run = require("raise_event()")
    step = run.step_id("raise_event_" + type)
    run.command("raise_event", step, ("EventRaised",), type=type, source=source, **payload(data),
                event_id=id, subject=subject, event_time=None if time is None else time.isoformat(), datacontenttype=datacontenttype,
                extensions=extensions,
                instance_id=None if instance_id is None else str(instance_id))
    return Handle(step)


def send_event(type: str, source: str, data: Any = None, *, id: Optional[str] = None, subject: Optional[str] = None,  # noqa: A002
               datacontenttype: Optional[str] = None, extensions: Optional[dict[str, Any]] = None, destination: Optional[str] = None,
               ordering_key: Optional[str] = None) -> Handle:
    """A CloudEvent goes out, by the outbox, to a destination or to all that ask for its type. The handle's result is the event's id."""
    run = require("send_event()")
    step = run.step_id("send_event_" + type)
    run.command("send_event", step, ("EventSent",), type=type, source=source, **payload(data),
                event_id=id, subject=subject, datacontenttype=datacontenttype, extensions=extensions,
                destination=destination, ordering_key=ordering_key)
    return Handle(step)


def start_many(target: Any, inputs: Iterable[Any]) -> Any:
    """Starts an instance of a workflow for each input, all in one round trip. Gives their ids, in order."""
    run = require("start_many()")
    handles = []
    for value in inputs:
        name, packed, _ = _workflow(target, (value,), {})
        step = run.step_id("start_workflow")
        run.command("start", step, ("WorkflowStarted",), name=name, input=packed)
        handles.append(Handle(step, uuid_module.UUID))
    return gather(*handles)


def start(target: Any, *args: Any, key: Optional[str] = None, id: Any = None, at: Optional[datetime.datetime] = None,  # noqa: A002
          priority: Optional[int] = None, labels: Optional[dict[str, Any]] = None,
          version: Optional[int] = None, execution_timeout: Any = None, **kwargs: Any) -> Any:
    """Starts another workflow, which is no child: it goes on by itself. Gives its id."""
    run = require("start()")
    name, value, _ = _workflow(target, args, kwargs)
    step = run.step_id("start_workflow")
    run.command("start", step, ("WorkflowStarted",), name=name, input=value, idempotency_key=key, priority=priority,
                instance_id=None if id is None else str(id), start_at=None if at is None else at.isoformat(), labels=labels,
                version=version, execution_timeout=interval(execution_timeout))
    return blocking(run, step, value_of(uuid_module.UUID))


def cancel(instance_id: Any, reason: Optional[str] = None) -> Any:
    """Cancels another instance; true if it was live."""
    run = require("cancel()")
    step = run.step_id("cancel_workflow")
    run.command("cancel", step, ("CancelRequested",), instance_id=str(instance_id), reason=reason)
    return blocking(run, step, value_of(bool))


def canvas(signature: dict[str, Any], input: Any = None, activity_id: Optional[str] = None) -> Any:
    """Runs a signature of task(), chain(), group(), chord() and gives its result."""
    handle = spawn_canvas(signature, input, activity_id)
    return blocking(require("canvas()"), handle.step, value_of(handle.convert))


def spawn_canvas(signature: dict[str, Any], input: Any = None, activity_id: Optional[str] = None) -> Handle:
    """Starts a signature in parallel."""
    run = require("spawn_canvas()")
    step = activity_id or run.step_id("canvas")
    run.command("canvas", step, CHILD, "canvas", signature=signature, input=plain(input))
    return Handle(step)


def recur(input: Any = None) -> Any:
    """Ends this instance and goes on in a new one with another input. Does not return."""
    run = require("recur()")
    run.command("recur", run.step_id("recur"), ("WorkflowRecurred",), input=plain(input))
    return run.suspend(None)


def scheduled_at() -> Optional[datetime.datetime]:
    """The time that a schedule's run is for; None in other instances. In an activity, too."""
    task = current_task.get()
    if task is not None:
        value = task.ask("select to_jsonb(romancy.scheduled_at(%s::text))", (task.task["token"],))[0]
    else:
        value = require("scheduled_at()").task.get("scheduled_at")
    return None if value is None else datetime.datetime.fromisoformat(padded(value))


def workflow_name() -> str:
    return str(require("workflow_name()").task["workflow"])


def attempt() -> int:
    """In an activity, the number of this attempt. In a workflow: how often a worker has taken this instance without
    giving it back, and this time."""
    task = current_task.get()
    return int((task or require("attempt()")).task.get("attempt", 1))


def instance_id() -> uuid_module.UUID:
    task = current_task.get()
    return uuid_module.UUID((task or require("instance_id()")).task["instance_id"])


def step_key() -> str:
    """In an activity: what identifies the step to others, the same on every attempt."""
    return str(require_task("step_key()").task["step_key"])


def heartbeat(details: Any = None) -> None:
    """In an activity: renews the lease and keeps the details for the next attempt. Raises Cancelled when the
    result is not wanted any more, LeaseLost when another worker has the task."""
    state = require_task("heartbeat()").beat(dumps(details))
    if state == "cancel_requested":
        raise Cancelled("the instance of this activity is over", "RM008")
    if state == "lost":
        raise LeaseLost("another worker has this activity now", "RM009")


def last_details() -> Any:
    """In an activity: what an attempt before this one gave to heartbeat() last."""
    return require_task("last_details()").task.get("last_details")


def is_replaying() -> bool:
    run = require("is_replaying()")
    return _any(s not in run.used for s in run.steps)


def transaction(function: Callable[..., Any], *args: Any, name: Optional[str] = None, **kwargs: Any) -> Any:
    """Runs function(conn, …) in a transaction of the worker's connection, with its record: exactly once.

    Calls that the code has scheduled before it (spawn(), publish(), …) are carried out first.
    """
    run = require("transaction()")
    name = name or function.__name__
    step = run.step_id(name)
    event = run.known(step, ACTIVITY, name)
    if not run.is_async:
        if event is not None:
            return event.value()
        if run.commands:
            run.suspend({"all": []})
        done, result = _transact(run, step, name, function, args, kwargs)
        return result if done else run.suspend({"all": []})

    async def act() -> Any:
        if event is not None:
            return event.value()
        if run.commands:
            await run.suspend({"all": []})
        done, result = _transact(run, step, name, function, args, kwargs)
        while not done and run.outcome(step) is None:
            await run.suspend({"all": []})
        return result if done else run.outcome(step).value()  # type: ignore[union-attr]
    return act()


def _transact(run: Run, step: str, name: str, function: Callable[..., Any], args: tuple[Any, ...],
              kwargs: dict[str, Any]) -> Tuple[bool, Any]:
    """Runs the transaction: (True, result), or (False, None): it failed. The failure is recorded then, so that the code sees in
    every run what it saw in the first, and it is taken from history in the first, too."""
    conn = run.conn
    record = {"op": "activity", "id": step, "name": name, "input": plain(list(args)) or None}
    run.inside = True
    try:
        with conn.transaction():
            result = function(conn, *args, **kwargs)
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError("transaction() runs a plain function, which waits for nothing, and no coroutine")
            result = plain(result)
            records = run.records + [dict(record, result=result)]
            conn.execute("select romancy.record(%s::text, %s::jsonb)", (run.task["token"], dumps(records)))
    except Exception as error:
        if isinstance(error, psycopg.Error) and not is_refusal(error):
            run.end(error)
        failure = from_database(error) if isinstance(error, psycopg.Error) else error
        run.records.append(dict(record, error={"message": message_of(failure), "code": code_of(failure), "detail": detail_of(failure)}))
        return False, None
    finally:
        run.inside = False
    run.records = []
    return True, result
