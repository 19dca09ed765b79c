"""Makes one HTML page of a trace: `python -m destination_bulk_tables.trace FILE [PAGE]`.

FILE is a file, or an address in an object store: `--config` names the connector's config, whose
`object_store` opens it, else the environment's credential does. PAGE is FILE with .html after it
unless named, here for a store; `-` stands for standard input and output.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

import msgspec

from destination_bulk_tables.errors import ConfigError, DestinationError
from destination_bulk_tables.stores import Store, StoreSettings, is_store
from destination_bulk_tables.trace import Line
from destination_bulk_tables.trace.figures import figures_of
from destination_bulk_tables.trace.page import page


class _Config(msgspec.Struct):
    object_store: StoreSettings


def main(arguments: list[str] | None = None) -> int:
    """Write the page and say where it is; 1, and one line on stderr, where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m destination_bulk_tables.trace")
    parser.add_argument("file", help="a trace, as diagnostics.trace_path has it; - reads stdin")
    parser.add_argument("page", nargs="?", help="where to write the page; - writes to stdout")
    parser.add_argument("--config", type=Path, help="the connector's config, for its object_store")
    options = parser.parse_args(arguments)
    piped, stored = options.file == "-", is_store(options.file)
    name = Path(options.file).name
    target = options.page or ("-" if piped else f"{name if stored else options.file}.html")
    try:
        if stored:
            store = Store(options.file, _settings(options.config), "FILE", threading.Event())
            data = b"".join(store.read())
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


def _settings(config: Path | None) -> StoreSettings:
    """What a config says about its store; raises `ConfigError` where it says nothing readable."""
    if config is None:
        return StoreSettings()
    try:
        return msgspec.json.decode(config.read_bytes(), type=_Config).object_store
    except msgspec.DecodeError as error:
        message = f"{config} is no config of this connector with an object_store."
        raise ConfigError(message) from error


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
