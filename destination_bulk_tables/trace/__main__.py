"""Makes one HTML page of a trace: `python -m destination_bulk_tables.trace FILE [PAGE]`.

FILE is a file, or an address in an object store, which the environment's credential opens. PAGE is
FILE with .html after it unless named, here for a store; `-` stands for standard input and output.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

import msgspec

from destination_bulk_tables.errors import DestinationError
from destination_bulk_tables.stores import Store, StoreSettings, is_store
from destination_bulk_tables.trace import Line
from destination_bulk_tables.trace.figures import figures_of
from destination_bulk_tables.trace.page import page


def main(arguments: list[str] | None = None) -> int:
    """Write the page and say where it is; 1, and one line on stderr, where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m destination_bulk_tables.trace")
    parser.add_argument("file", help="a trace, as diagnostics.trace_path has it; - reads stdin")
    parser.add_argument("page", nargs="?", help="where to write the page; - writes to stdout")
    options = parser.parse_args(arguments)
    piped, stored = options.file == "-", is_store(options.file)
    name = Path(options.file).name
    target = options.page or ("-" if piped else f"{name if stored else options.file}.html")
    try:
        if stored:
            store = Store(options.file, StoreSettings(), "FILE")
            data = b"".join(store.read(threading.Event()))
        else:
            data = sys.stdin.buffer.read() if piped else Path(options.file).read_bytes()
        lines, skipped = _read(data)
        if not lines:
            sys.stderr.write(f"{options.file} holds no trace of a request.\n")
            return 1
        text = page(figures_of(lines), "a sync" if piped else name, skipped)
        if target == "-":
            sys.stdout.write(text)
        else:
            Path(target).write_text(text, "utf-8")
            sys.stdout.write(f"{len(lines)} requests: {target}\n")
    except DestinationError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.filename or options.file}: {error.strerror}\n")
        return 1
    return 0


def _read(data: bytes) -> tuple[list[Line], int]:
    """The lines of a trace, and how many are none: the last of a killed process may be torn."""
    decode = msgspec.json.Decoder(Line).decode
    lines, skipped = [], 0
    for text in data.splitlines():
        try:
            lines.append(decode(text))
        except (msgspec.DecodeError, UnicodeDecodeError):
            skipped += bool(text.strip())
    return lines, skipped


if __name__ == "__main__":
    sys.exit(main())
