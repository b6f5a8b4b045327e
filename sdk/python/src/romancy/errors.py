"""Errors that programs see. Each carries the SQLSTATE of the server."""

from __future__ import annotations

import json
import re
from typing import Any, Optional, Type

import psycopg

from .values import plain


class RomancyError(Exception):
    """An error with its SQLSTATE (``sqlstate``), a code of the program's own (``code``), detail and hint."""

    def __init__(self, message: str, sqlstate: Optional[str] = None, code: Optional[str] = None,
                 detail: Any = None, hint: Optional[str] = None):
        super().__init__(message)
        self.sqlstate, self.code, self.detail, self.hint = sqlstate, code, detail, hint
        if hint and hasattr(self, "add_note"):  # since Python 3.11: an error that ends the program shows it
            self.add_note("HINT: " + hint)


class ActivityError(RomancyError):
    """An activity or a child has failed for good; ``code`` is the name of the exception that it raised."""


class TimeoutError(RomancyError):  # noqa: A001 - the word of the field
    """RM006: what was waited for did not come in time."""


class Cancelled(RomancyError):
    """RM008: the instance was cancelled."""


class NonDeterminism(RomancyError):
    """RM003: the program does other steps than those that history holds. The instance is paused."""


class Terminal(RomancyError):
    """Raised by an activity: it failed, and is not to be tried again."""


class LeaseLost(RomancyError):
    """RM009: another worker has the task now, or its instance is over."""


class MissingExtension(RomancyError):
    """The database has no extension romancy, or one that is too old or too new, or the role may not use it."""


class Suspended(BaseException):
    """Ends a run that has to wait. No Exception, so that a workflow's ``except Exception`` lets it through."""


PROTOCOL = 1  # the version that this library speaks; romancy.protocol() says what the server does

BY_SQLSTATE: dict[str, Type[RomancyError]] = {"RM003": NonDeterminism, "RM006": TimeoutError, "RM008": Cancelled, "RM009": LeaseLost}


def from_document(error: Optional[dict[str, Any]], default: Type[RomancyError] = ActivityError) -> RomancyError:
    """An error as history or a view holds it."""
    error = error or {}
    state = error.get("sqlstate")
    return BY_SQLSTATE.get(state or "", default)(
        error.get("message") or "unknown error", state, error.get("code"), error.get("detail"), error.get("hint"))


def is_refusal(error: psycopg.Error) -> bool:
    """Has the server refused the statement? Otherwise the connection is broken, the server busy, or the lease lost."""
    state = error.sqlstate
    if state is None:  # psycopg's own: values that it cannot send, or a connection that is gone
        return isinstance(error, (psycopg.DataError, psycopg.NotSupportedError))
    return state != "RM009" and state[:2] not in ("08", "40", "53", "55", "57", "58")


def from_database(error: Any, own: bool = False) -> RomancyError:
    """An error of psycopg as one of ours. own: it may be an instance's, and then says nothing of the extension."""
    diag = getattr(error, "diag", None)
    state = getattr(error, "sqlstate", None)
    message = (diag.message_primary if diag and diag.message_primary else str(error))
    detail = diag.message_detail if diag else None
    hint = diag.message_hint if diag else None
    if own or not re.search(r"\bromancy\b", message):
        pass  # a table of the user's that is not there, say
    elif state == "3F000":
        return MissingExtension("this database lacks extension romancy: " + message, state, hint="Run CREATE EXTENSION romancy in it.")
    elif state in ("42883", "42P01"):
        return MissingExtension("extension romancy of this database is too old for this library: " + message, state,
                                hint="Install a newer romancy on the server and run ALTER EXTENSION romancy UPDATE in the database.")
    elif state == "42501" and (not hint or "grant_usage('role')" in hint):
        return MissingExtension("the role may not use romancy: " + message, state,
                                hint="Run SELECT romancy.grant_usage('role') as the extension's owner.")
    code = None if state and state[:2].isalnum() and state != "RM007" else (diag.constraint_name if diag else None)
    return BY_SQLSTATE.get(state or "", ActivityError)(message, state, code, detail, hint)


def check_protocol(oldest: int, newest: int) -> None:
    """Raises an error where the server does not speak this library's protocol."""
    if PROTOCOL > newest:
        raise MissingExtension("extension romancy of this database is too old for this library: it speaks protocol %d, the library %d"
                               % (newest, PROTOCOL), "RM010",
                               hint="Install a newer romancy on the server and run ALTER EXTENSION romancy UPDATE in the database.")
    if PROTOCOL < oldest:
        raise MissingExtension("extension romancy of this database is too new for this library: it speaks no protocol before %d,"
                               " the library %d" % (oldest, PROTOCOL), "RM010", hint="Install a newer version of this library.")


def code_of(error: BaseException) -> str:
    """The error_code that the server is told: a SQLSTATE, or the exception's name."""
    state, code = getattr(error, "sqlstate", None), getattr(error, "code", None)
    if not isinstance(code, str) or isinstance(error, SystemExit):
        code = None  # (exceptions of others have numbers or methods there)
    # (RM007 is what the server makes of a name)
    return clean((code if state == "RM007" and code else state) or code or type(error).__name__, 200)


def message_of(error: BaseException) -> str:
    """An exception's message as a call of romancy takes it."""
    return clean(str(error) or type(error).__name__, 10000)


def detail_of(error: BaseException) -> Any:
    """An exception's detail; None where there is none, or none that JSON can hold."""
    try:
        detail = plain(getattr(error, "detail", None))
        json.dumps(detail, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return detail


def clean(text: Any, most: int) -> str:
    """A text that PostgreSQL can hold."""
    return str(text).replace("\0", "")[:most].encode("utf-8", "replace").decode() or "error"
