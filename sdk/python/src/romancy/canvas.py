"""Signatures of canvases: plain documents, to be put together, stored, and run with App.run_canvas() or canvas()."""

from __future__ import annotations

from typing import Any, Optional

from .values import interval, plain


def task(target: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """One task: an activity of this program with its arguments, or a name and its input."""
    name = target if isinstance(target, str) else target.name
    if not args and not kwargs:
        return {"task": name}
    value = args[0] if isinstance(target, str) else target.signature.pack(args, kwargs)
    return {"task": name, "input": plain(value)}


def chain(*signatures: dict[str, Any]) -> dict[str, Any]:
    """One after the other, each with the result before it."""
    return {"chain": list(signatures)}


def group(*signatures: dict[str, Any]) -> dict[str, Any]:
    """All in parallel; a list of results."""
    return {"group": list(signatures)}


def chord(header: Any, body: dict[str, Any]) -> dict[str, Any]:
    """A group, or a list of signatures, then a callback with its results."""
    return {"chord": {"header": header, "body": body}}


def options(signature: dict[str, Any], *, retry: Optional[dict[str, Any]] = None, priority: Optional[int] = None,
            on_error: Optional[dict[str, Any]] = None,
            immutable: Optional[bool] = None, on_success: Optional[dict[str, Any]] = None, delay: Any = None, timeout: Any = None,
            expires: Any = None) -> dict[str, Any]:
    """The signature with options, as romancy.options() takes them."""
    given = {"retry": retry, "priority": priority, "on_error": on_error, "immutable": immutable, "on_success": on_success,
             "delay": interval(delay), "timeout": interval(timeout), "expires": interval(expires)}
    return dict(signature, options=dict(signature.get("options", {}), **{k: v for k, v in given.items() if v is not None}))
