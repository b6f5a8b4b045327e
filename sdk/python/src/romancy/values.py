"""Inputs and results as JSON, and back by a function's annotations."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import re
import types
import typing
import uuid
from typing import Any, Callable

UNIONS = (typing.Union, getattr(types, "UnionType", typing.Union))


def plain(value: Any) -> Any:
    """A value as what JSON can hold: dataclasses and Pydantic models as objects, times and uuids as text."""
    try:
        return _plain(value)
    except RecursionError:
        raise ValueError(DEEP) from None


DEEP = "the value is nested too deeply for JSON, or holds itself"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k.value if isinstance(k, enum.Enum) else k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        # (in an order that is the same in every process)
        return sorted((_plain(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, enum.Enum):
        return _plain(value.value)
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
    try:
        text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError(DEEP) from None
    text.encode()  # (half of a surrogate pair is a ValueError)
    return text


def same(held: Any, asked: Any) -> bool:
    """Is a document of history the one that the program has? (1e23 comes back as an integer, which is not quite that number.)"""
    if isinstance(held, dict) and isinstance(asked, dict):
        return held.keys() == asked.keys() and all(same(v, asked[k]) for k, v in held.items())
    if isinstance(held, list) and isinstance(asked, list):
        return len(held) == len(asked) and all(map(same, held, asked))
    if isinstance(held, float) or isinstance(asked, float):
        try:
            return float(held) == float(asked)
        except (TypeError, ValueError, OverflowError):
            return False
    return bool(held == asked)


def typed(value: Any, hint: Any) -> Any:
    """A JSON value as the annotated type, where that is one of those that plain() writes."""
    if value is None or hint is None or hint is Any or hint is inspect.Parameter.empty:
        return value
    origin = typing.get_origin(hint) or hint
    args = typing.get_args(hint)
    if origin in UNIONS:
        rest = [a for a in args if a is not type(None)]
        return typed(value, rest[0]) if len(rest) == 1 else value
    if isinstance(value, list) and isinstance(origin, type) and issubclass(origin, collections.abc.Collection):
        if origin is tuple and args and args[-1] is not Ellipsis:
            made = [typed(v, h) for v, h in zip(value, args)] + value[len(args):]
        else:
            made = [typed(v, args[0] if args else None) for v in value]
        return origin(made) if origin in (tuple, set, frozenset) else set(made) if origin is collections.abc.Set else made
    if isinstance(value, dict) and len(args) == 2:
        return {typed_key(k, args[0]): typed(v, args[1]) for k, v in value.items()}
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
    if hint in (datetime.date, datetime.time):
        return hint.fromisoformat(value)
    if hint is datetime.timedelta:
        return datetime.timedelta(seconds=value)
    if hint in (uuid.UUID, decimal.Decimal):
        return hint(value)
    return value


def typed_key(key: str, hint: Any) -> Any:
    """A key of an object as the annotated type."""
    return hint(key) if hint in (int, float) else typed(key, hint)


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
