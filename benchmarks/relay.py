"""A slow link: passes connections on to a port, all of them together at so many bits a second.

    python -m benchmarks.relay PORT BITS_PER_SECOND

It prints its own port on a line of its own, and ends when its parent does. Only what goes to the
port is slowed down: answers are short.
"""

import asyncio
import os
import sys

_PIECE = 16_384


class Link:
    """When the next byte may pass."""

    def __init__(self, bits_per_s: float) -> None:
        """Start with an idle link."""
        self._bytes_per_s = bits_per_s / 8
        self._free_at = 0.0

    async def carry(self, size: int) -> None:
        """Take as long as so many bytes do behind those that wait already."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + size / self._bytes_per_s
        await asyncio.sleep(self._free_at - now)


async def _pass_on(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, link: Link | None
) -> None:
    try:
        while piece := await source.read(_PIECE):
            if link is not None:
                await link.carry(len(piece))
            target.write(piece)
            await target.drain()
    except ConnectionError:
        pass  # the other side is gone, as it is at the end of a run
    finally:
        target.close()


async def _serve(port: int, link: Link) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass_on(reader, back, link), _pass_on(there, writer, None))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_PIECE)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Link(float(sys.argv[2]))))
