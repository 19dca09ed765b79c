"""The console script: arguments, signals, exit code. It does not import the slow Airbyte CDK."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any

from destination_bulk_tables import commands
from destination_bulk_tables.clock import Clock
from destination_bulk_tables.errors import DestinationError, InternalError
from destination_bulk_tables.model import JsonValue
from destination_bulk_tables.output import LogLines, Output, TerminalLines
from destination_bulk_tables.secrecy import SECRETS
from destination_bulk_tables.stdio import LineWriter

_STDIN, _STDOUT = 0, 1
HARD_STOP_S = 12  # whatever hangs, the process is gone this long after the first signal


def run(arguments: Sequence[str] | None = None) -> None:
    args = _parse(sys.argv[1:] if arguments is None else arguments)
    stop = threading.Event()

    def handle(*_: object) -> None:
        if not stop.is_set():  # a second signal does not begin anew
            stop.set()
            signal.setitimer(signal.ITIMER_REAL, HARD_STOP_S)  # its default action ends the process

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    code = _main(args, stop)
    # sender threads may still wait for an answer that does not matter any more
    os._exit(code)


def _main(args: Any, stop: threading.Event) -> int:
    output = Output(LineWriter(_STDOUT, stop))
    lines: logging.Handler = LogLines(output)
    if args.verb == "preview":
        lines = logging.NullHandler()  # for people, and it repeats the warnings itself
    elif args.verb == "replay":
        lines = TerminalLines(logging.WARNING)
    logging.basicConfig(level=_level(), handlers=[lines], force=True)
    # Airbyte shows stderr as errors, and no warning of a library is for the user
    warnings.simplefilter("ignore")
    try:
        return _verb(args, output, stop)
    except DestinationError as error:
        failure = error
    except Exception as error:
        logging.getLogger(__name__).exception("unexpected_error")
        message = (
            f"An unexpected error ended the sync ({type(error).__name__}). Please report it with "
            "the log."
        )
        failure = InternalError(message)
    # when nobody reads any more, the exit code says it
    with contextlib.suppress(DestinationError, OSError):
        output.error(failure)
    return 1


def _verb(args: Any, output: Output, stop: threading.Event) -> int:
    if args.verb == "spec":
        output.message({"type": "SPEC", "spec": commands.specification()})
        return 0
    try:
        raw_config = commands.load_json(args.config, "config")
    except DestinationError as error:
        if args.verb != "check":
            raise
        _status(output, error.message)
        return 0
    commands.keep_secrets(raw_config)
    if args.verb == "check":
        _status(output, commands.check(raw_config))
        return 0
    raw_catalog = commands.load_json(args.catalog, "catalog")
    if args.verb == "preview":
        return _preview(args, raw_config, raw_catalog)
    if args.verb == "replay":
        return _replay(args, raw_config, raw_catalog, stop)
    commands.write(raw_config, raw_catalog, _STDIN, output.writer, stop, Clock())
    return 0


def _preview(args: Any, raw_config: JsonValue, raw_catalog: JsonValue) -> int:
    """Print what a sync would do; 1 where it would fail. A terminal as input is no input."""
    from destination_bulk_tables import preview, preview_report  # noqa: PLC0415 - no sync needs it

    clock = Clock()
    try:
        found = preview.rehearse(
            raw_config,
            raw_catalog,
            None if os.isatty(_STDIN) else _STDIN,
            clock,
            rows=args.rows,
            reads=not args.offline,
        )
        body_bytes = None if args.whole else preview_report.BODY_BYTES
        report = preview_report.as_json(found, clock.now(), body_bytes)
    except DestinationError as error:
        report = {"would_fail": True, "problem": error.message}
    text = json.dumps(report, indent=2) + "\n" if args.json else preview_report.as_text(report)
    sys.stdout.write(text)
    sys.stdout.flush()
    return int(bool(report["would_fail"]))


def _replay(args: Any, raw_config: JsonValue, raw_catalog: JsonValue, stop: threading.Event) -> int:
    """Send a report's rows again and print what became of them; 1 where it did not get to the end.

    What the vendor rejects again is no failure: it is in the new report.
    """
    from destination_bulk_tables import replay  # noqa: PLC0415 - as above

    try:
        done = replay.replay(raw_config, raw_catalog, args.report, args.rejects, stop, Clock())
        report = replay.as_json(done)
    except DestinationError as error:
        report = {"problem": SECRETS.mask(error.message)}
    text = json.dumps(report, indent=2) + "\n" if args.json else replay.as_text(report)
    sys.stdout.write(text)
    sys.stdout.flush()
    return int("problem" in report)


def _status(output: Output, problem: str | None) -> None:
    status = (
        {"status": "SUCCEEDED"} if problem is None else {"status": "FAILED", "message": problem}
    )
    output.message({"type": "CONNECTION_STATUS", "connectionStatus": status})


def _level() -> str:
    level = os.environ.get("LOG_LEVEL", "INFO").upper()
    return level if level in logging.getLevelNamesMapping() else "INFO"


def _parse(arguments: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(prog="destination-bulk-tables")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("spec", help="print the specification of the config")
    for verb, text in {
        "check": "try the config without writing",
        "write": "sync the messages on stdin",
        "preview": "say what a sync of the messages on stdin would do; nothing is written",
        "replay": "send the rows of a report of rejected rows again; nothing is replaced",
    }.items():
        sub = verbs.add_parser(verb, help=text)
        sub.add_argument("--config", required=True, help="path of the config (JSON)")
        if verb != "check":
            sub.add_argument(
                "--catalog", required=True, help="path of the configured catalog (JSON)"
            )
        if verb == "preview":
            sub.add_argument("--rows", type=int, help="take at most so many records per stream")
            sub.add_argument("--whole", action="store_true", help="do not cut the request's body")
            sub.add_argument("--offline", action="store_true", help="send nothing, not even a read")
        if verb == "replay":
            sub.add_argument("--report", required=True, help="a report: file, folder, store")
            sub.add_argument("--rejects", help="where rows go that are rejected again")
        if verb in {"preview", "replay"}:
            sub.add_argument("--json", action="store_true", help="print a JSON document")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run()
