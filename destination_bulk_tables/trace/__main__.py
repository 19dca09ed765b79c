"""Makes one HTML page of a trace: `python -m destination_bulk_tables.trace FILE [PAGE]`.

PAGE is FILE with .html after it unless named; `-` stands for standard input and output.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from destination_bulk_tables.trace import Line
from destination_bulk_tables.trace.figures import figures_of
from destination_bulk_tables.trace.page import page


def main(arguments: list[str] | None = None) -> int:
    """Write the page and say where it is; 1, and one line on stderr, where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m destination_bulk_tables.trace")
    parser.add_argument("file", help="a trace, as diagnostics.trace_path has it; - reads stdin")
    parser.add_argument("page", nargs="?", help="where to write the page; - writes to stdout")
    options = parser.parse_args(arguments)
    piped = options.file == "-"
    target = options.page or ("-" if piped else f"{options.file}.html")
    try:
        data = sys.stdin.buffer.read() if piped else Path(options.file).read_bytes()
        lines, skipped = _read(data)
        if not lines:
            sys.stderr.write(f"{options.file} holds no trace of a request.\n")
            return 1
        text = page(figures_of(lines), "a sync" if piped else Path(options.file).name, skipped)
        if target == "-":
            sys.stdout.write(text)
        else:
            Path(target).write_text(text, "utf-8")
            sys.stdout.write(f"{len(lines)} requests: {target}\n")
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
