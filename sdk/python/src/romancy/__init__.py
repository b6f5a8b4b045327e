"""Durable workflows in PostgreSQL.

    from romancy import App, receive, sleep

    app = App("postgresql://…", queue="signup")
"""

from .app import App, Instance
from .canvas import chain, chord, group, options, task
from .errors import ActivityError, Cancelled, LeaseLost, MissingExtension, NonDeterminism, RomancyError, Terminal, TimeoutError
from .flow import (
    Handle,
    Message,
    activity,
    any,
    attempt,
    cancel,
    canvas,
    child,
    compensate,
    gather,
    heartbeat,
    http,
    instance_id,
    is_replaying,
    join_group,
    last_details,
    leave_group,
    map,
    now,
    patched,
    progress,
    publish,
    raise_event,
    random,
    receive,
    recur,
    scheduled_at,
    send_event,
    send_to,
    set_labels,
    set_value,
    sleep,
    sleep_until,
    spawn,
    spawn_canvas,
    spawn_child,
    spawn_http,
    spawn_receive,
    spawn_timer,
    start,
    start_many,
    step_key,
    subscribe,
    transaction,
    unsubscribe,
    uuid,
    wait_event,
    workflow_name,
)

__version__ = "0.1.0"
__all__ = [
    "App", "Instance", "Handle", "Message",
    "activity", "any", "attempt", "cancel", "canvas", "child", "compensate", "gather", "heartbeat", "http", "instance_id", "is_replaying",
    "join_group", "last_details", "leave_group", "map", "now", "patched", "progress", "publish", "raise_event", "random",
    "receive", "recur", "send_event",
    "scheduled_at", "send_to", "set_labels", "set_value", "sleep", "sleep_until", "spawn", "spawn_canvas", "spawn_child", "spawn_http",
    "spawn_receive", "spawn_timer",
    "start", "start_many", "step_key", "subscribe", "transaction", "unsubscribe", "uuid", "wait_event", "workflow_name",
    "chain", "chord", "group", "options", "task",
    "ActivityError", "Cancelled", "LeaseLost", "MissingExtension", "NonDeterminism", "RomancyError", "Terminal", "TimeoutError",
]
