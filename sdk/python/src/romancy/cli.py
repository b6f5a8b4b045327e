"""The command line tool: romancy list | show | result | cancel | retry | pause | resume | events | schedules | top."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from typing import Any, List, Optional, Sequence

import psycopg

from .app import App
from .errors import RomancyError, from_database

COLOURS = {"completed": "32", "failed": "31", "cancelled": "33", "paused": "35", "running": "36"}


def colour(text: str, status: Optional[str] = None) -> str:
    """A status in its colour, on a terminal only."""
    code = COLOURS.get((status or text).strip())
    if code is None or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return "\033[%sm%s\033[0m" % (code, text)


def cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        return harmless(json.dumps(value, ensure_ascii=False))
    if hasattr(value, "strftime"):
        return str(value.strftime("%Y-%m-%d %H:%M:%S"))
    return harmless(str(value))


def harmless(text: str) -> str:
    """A text without what a terminal would obey: other roles choose names and payloads."""
    return re.sub("[\x00-\x1f\x7f-\x9f]", lambda m: "\\x%02x" % ord(m[0]) if m[0] != "\n" else m[0], text)


def say_json(value: Any) -> None:
    """Prints a document; to a terminal, too, it may hold what a terminal obeys."""
    text = json.dumps(value, default=str, ensure_ascii=False, indent=2)
    print(re.sub("[\x7f-\x9f]", lambda m: "\\u%04x" % ord(m[0]), text))


def table(names: Sequence[str], rows: List[tuple[Any, ...]], as_json: bool) -> None:
    if as_json:
        say_json([dict(zip(names, r)) for r in rows])
        return
    texts = [[cell(v).replace("\n", " ")[:60] for v in row] for row in rows]
    widths = [max([len(n)] + [len(t[i]) for t in texts]) for i, n in enumerate(names)]
    print("  ".join(n.ljust(w) for n, w in zip(names, widths)).rstrip())
    for text in texts:
        padded = [t.ljust(w) for t, w in zip(text, widths)]
        print("  ".join(colour(p, t) if n == "status" else p for p, t, n in zip(padded, text, names)).rstrip())
    print("(%d row%s)" % (len(rows), "" if len(rows) == 1 else "s"))


def run_list(app: App, args: argparse.Namespace) -> None:
    wanted = {k: v for k, v in (("status", args.status), ("workflow", args.workflow), ("search", args.search)) if v}
    names = ["instance_id", "workflow", "status", "owner", "created_at", "finished_at"]
    rows = app.rows("select instance_id, workflow, status, owner, created_at, finished_at"
                    " from romancy.list_instances(%s::jsonb, %s::int)", json.dumps(wanted), args.limit)
    table(names, rows, args.json)


def run_show(app: App, args: argparse.Namespace) -> None:
    row = app.query("select to_jsonb(i) from romancy.instances i where instance_id = %s::uuid", args.id)
    if row is None:
        raise RomancyError("there is no instance %s" % args.id, "RM002")
    wait = app.query("select to_jsonb(w) from romancy.waiting w where instance_id = %s::uuid", args.id)
    shown = dict(row[0], waiting=wait[0] if wait else None)
    if args.json:
        say_json(shown)
        return
    for key, value in shown.items():
        if value is not None:
            text = cell(value)
            print("%-16s %s" % (key, colour(text) if key == "status" else text))
    bar = progress_bar(app, args.id)
    if bar:
        print("%-16s %s" % ("progress", bar))


def progress_bar(app: App, instance_id: str) -> str:
    p = app.query("select total, completed, percent, note from romancy.get_progress(%s::uuid)", instance_id)
    if not p or not p[0]:
        return ""
    width = 30
    full = int(width * min(1.0, (p[1] or 0) / p[0]))
    return "[%s%s] %s/%s %s" % ("#" * full, "-" * (width - full), p[1], p[0], harmless(p[3] or ""))


def run_result(app: App, args: argparse.Namespace) -> None:
    say_json(app.instance(args.id).result(args.timeout))


def run_steer(app: App, args: argparse.Namespace) -> None:
    instance = app.instance(args.id)
    done = instance.cancel(args.reason) if args.command == "cancel" else getattr(instance, args.command)()
    if not done:
        raise RomancyError("the instance is not in a state for that: it is %s" % instance.status())
    print("%s %s" % (args.command, args.id))


def run_events(app: App, args: argparse.Namespace) -> None:
    rows = [(e["seq"], e["created_at"], e["event_type"], e["activity_id"], e["data"]) for e in app.instance(args.id).history()]
    table(["seq", "at", "event", "step", "data"], rows, args.json)


def run_schedules(app: App, args: argparse.Namespace) -> None:
    rows = app.rows("select to_jsonb(s) from romancy.schedules s")
    names = sorted({k for r in rows for k in r[0]})
    table(names, [tuple(r[0].get(n) for n in names) for r in rows], args.json)


def run_top(app: App, args: argparse.Namespace) -> None:
    while True:
        rows = app.rows("select workflow, status::text, count(*), min(created_at) from romancy.instances"
                        " where finished_at is null group by 1, 2 order by 3 desc limit 40")
        if sys.stdout.isatty() and not args.json:
            print("\033[H\033[2J", end="")
        table(["workflow", "status", "instances", "oldest"], rows, args.json)
        if args.once or not sys.stdout.isatty():
            return
        sys.stdout.flush()
        time.sleep(args.every)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="romancy", description="Look at and steer romancy's workflows.")
    p.add_argument("-d", "--dsn", default="", help="connection string (default: the PG* environment variables)")
    p.add_argument("--namespace", help="namespace of the session")
    p.add_argument("--json", action="store_true", help="print JSON")
    # the same after the command
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-d", "--dsn", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    common.add_argument("--namespace", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    commands = p.add_subparsers(dest="command", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, parents=[common])
    c = add("list", "instances, newest first")
    c.add_argument("--status")
    c.add_argument("--workflow")
    c.add_argument("--search")
    c.add_argument("--limit", type=int, default=20)
    c.set_defaults(run=run_list)
    for name, run, text in (("show", run_show, "one instance, and what it waits for"), ("events", run_events, "its history"),
                            ("retry", run_steer, "run a failed one again"), ("pause", run_steer, "pause it"),
                            ("resume", run_steer, "let it go on")):
        c = add(name, text)
        c.add_argument("id")
        c.set_defaults(run=run)
    c = add("result", "wait for the end and print the output")
    c.add_argument("id")
    c.add_argument("--timeout")
    c.set_defaults(run=run_result)
    c = add("cancel", "cancel it")
    c.add_argument("id")
    c.add_argument("--reason")
    c.set_defaults(run=run_steer)
    c = add("schedules", "all schedules")
    c.set_defaults(run=run_schedules)
    c = add("top", "live instances by workflow and status")
    c.add_argument("--every", type=float, default=2.0, help="seconds between two looks")
    c.add_argument("--once", action="store_true")
    c.set_defaults(run=run_top)
    return p


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parser().parse_args(argv)
    app = App(args.dsn, namespace=args.namespace)
    try:
        args.run(app, args)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RomancyError as error:
        shown = error
    except ValueError as error:  # what is no id of an instance
        shown = RomancyError(str(error))
    except psycopg.Error as error:
        shown = from_database(error)
    finally:
        app.close()
    hint = "\nhint: %s" % shown.hint if shown.hint else ""
    print("romancy: %s" % harmless("%s%s" % (str(shown).strip() or "the database gives no reason", hint)), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
