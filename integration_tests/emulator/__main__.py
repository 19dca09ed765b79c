"""Command line: `python -m integration_tests.emulator --port 8899 --table qobra:deals:id`.

Prints one line with both URLs, then serves until it gets SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys

from .server import Server
from .settings import parse_switch
from .world import World


def main(arguments: list[str] | None = None) -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(
        prog="emulator", description="Qobra and Kore.ai data tables on one local port."
    )
    parser.add_argument("--port", type=int, default=8899, help="0 takes a free one")
    parser.add_argument(
        "--storage", default=":memory:", help="SQLite file; it is emptied at the start"
    )
    parser.add_argument(
        "--switch", action="append", default=[], metavar="NAME=VALUE", help="see settings.py"
    )
    parser.add_argument("--table", action="append", default=[], metavar="VENDOR:NAME[:ID_FIELD]")
    parser.add_argument(
        "--definition",
        action="append",
        default=[],
        metavar="FILE",
        help="exported Kore.ai definition",
    )
    given = parser.parse_args(arguments)
    try:
        world = World(given.storage, **dict(parse_switch(text) for text in given.switch))
    except ValueError as error:
        parser.error(str(error))
    for text in given.table:
        vendor, name, *id_field = text.split(":")
        world.create_table(
            "kore" if vendor == "kore" else "qobra", name, id_field=(id_field or ["id"])[0]
        )
    for path in given.definition:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            definition = json.load(file)
        world.create_table("kore", definition["name"], definition=definition)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(Server(world, given.port)))
    world.close()


async def _serve(server: Server) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    urls = f"http://127.0.0.1:{server.port} admin API also on http://127.0.0.1:{server.admin_port}"
    sys.stdout.write(f"Qobra and Kore.ai are emulated on {urls}\n")
    sys.stdout.flush()
    await stop.wait()
    await server.stop()


if __name__ == "__main__":
    main()
