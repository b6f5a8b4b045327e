"""Inputs and results as JSON, and back by a function's annotations."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import re
import typing
import uuid
from typing import Any, Callable


def plain(value: Any) -> Any:
    """A value as what JSON can hold: dataclasses and Pydantic models as objects, times and uuids as text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    raise TypeError("%s is no value that JSON can hold" % type(value).__name__)


def padded(time: str) -> str:
    """A time as PostgreSQL writes it, as fromisoformat() of Python 3.9 reads it: with six digits of a second or none."""
    match = re.fullmatch(r"(.*:\d\d)\.(\d+)(.*)", time)
    if match:
        time = match.group(1) + "." + match.group(2).ljust(6, "0")[:6] + match.group(3)
    time = time.replace("Z", "+00:00")
    return time + ":00" if re.search(r"[+-]\d\d$", time[10:]) else time


def dumps(value: Any) -> str:
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text.encode()  # (half of a surrogate pair is a ValueError)
    return text


def typed(value: Any, hint: Any) -> Any:
    """A JSON value as the annotated type, where that is one of those that plain() writes."""
    if value is None or hint is None or hint is Any or hint is inspect.Parameter.empty:
        return value
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin is typing.Union:
        rest = [a for a in args if a is not type(None)]
        return typed(value, rest[0]) if len(rest) == 1 else value
    if origin in (list, tuple, set) and args and isinstance(value, list):
        made = [typed(v, args[0]) for v in value]
        return made if origin is list else origin(made)
    if origin is dict and len(args) == 2 and isinstance(value, dict):
        return {k: typed(v, args[1]) for k, v in value.items()}
    if not isinstance(hint, type):
        return value
    if hasattr(hint, "model_validate"):
        return hint.model_validate(value)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        hints = typing.get_type_hints(hint)
        return hint(**{f.name: typed(value[f.name], hints.get(f.name))
                       for f in dataclasses.fields(hint) if f.init and f.name in value})
    if issubclass(hint, enum.Enum):
        return hint(value)
    if hint is datetime.datetime:
        return datetime.datetime.fromisoformat(padded(value))
    if hint is datetime.date:
        return datetime.date.fromisoformat(value)
    if hint is datetime.timedelta:
        return datetime.timedelta(seconds=value)
    if hint in (uuid.UUID, decimal.Decimal):
        return hint(value)
    return value


class Signature:
    """How a function's arguments become one JSON input: one parameter's value by itself, several as an object."""

    def __init__(self, function: Callable[..., Any]):
        self.signature = inspect.signature(function)
        try:
            self.hints = typing.get_type_hints(function)
        except Exception:  # an annotation that names what is not there
            self.hints = {}
        self.names = list(self.signature.parameters)
        self.single = len(self.names) == 1 and \
            self.signature.parameters[self.names[0]].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bound = self.signature.bind(*args, **kwargs)
        if not self.names:
            return None
        if self.single:
            bound.apply_defaults()
            return plain(bound.arguments[self.names[0]])
        return plain(dict(bound.arguments))

    def unpack(self, value: Any) -> dict[str, Any]:
        """The keyword arguments of an input."""
        if not self.names:
            return {}
        if self.single:
            if value is None and self.signature.parameters[self.names[0]].default is not inspect.Parameter.empty:
                return {}
            return {self.names[0]: typed(value, self.hints.get(self.names[0]))}
        if not isinstance(value, dict):
            raise TypeError("an object with %s is expected as input" % ", ".join(self.names))
        return {k: typed(v, self.hints.get(k)) for k, v in value.items()}

    def result(self, value: Any) -> Any:
        return typed(value, self.hints.get("return"))


def interval(value: Any) -> Any:
    """Seconds, a timedelta or a text of PostgreSQL's ("3 days") as an interval's text; None stays."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    return "%.6f s" % value
