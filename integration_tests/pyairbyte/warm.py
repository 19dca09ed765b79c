"""Runs PyAirbyte's programs in forks of one process that has imported it, which takes seconds.

Started by PyAirbyte's own Python with the name of a socket; ends with its standard input. An order
is a program's arguments, environment and folder; its three pipes come along, its exit code goes
back. A program runs as its console script does, but for the interpreter's end: what native
libraries do there is not for a fork.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import NoReturn

# what each of its programs imports
_IMPORTED = ("airbyte", "airbyte.cli.pyab", "airbyte.cli.smoke_test_source.run")


def serve(address: str) -> None:
    """Fork for each order."""
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what a fork's collector does not look at stays shared with it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watchers
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([sys.stdin, listening], [], [])[0]:
            order, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _watch(order)
            order.close()


def _watch(order: socket.socket) -> None:
    """Fork the program, wait for its end, and answer with its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, descriptors, _, _ = socket.recv_fds(order, 1 << 18, 3)
    pid = os.fork()
    if pid == 0:
        order.close()
        _run(descriptors, **json.loads(text))
    for number in (0, 1, 2, *descriptors):  # or a reader of its pipes would wait for ours
        os.close(number)
    _, status = os.waitpid(pid, 0)
    order.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(
    descriptors: list[int], arguments: list[str], folder: str, environment: dict[str, str]
) -> NoReturn:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).parent)
    code: object = 1
    try:
        runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 - the border of the process
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve(f"\0{sys.argv[1]}")
