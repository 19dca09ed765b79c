"""Starts the connector hundreds of times in seconds, forked from a process that has imported it.

What runs is the console script's own function, on real pipes, as a process of its own that can be
killed. Waits of the package can be scaled for a run, as `scenario.QUICK` does, because an
enumeration of faults would otherwise consist of backoff. This module starts and ends processes; it
knows nothing of what they are asked to do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn, Self

_ROOT = Path(__file__).parents[1]
_NUMBER = 16  # bytes of a reported number: a quick end would else read as one with the pid


class ForkedProcess:
    """A forked connector; mirrors what tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, report: int) -> None:
        self.pid = pid
        self._report = report
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None

    def send_signal(self, number: int) -> None:
        """Signal it, if it is still there."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, if it is still there."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; negative: the signal that ended it. Raises `TimeoutError`."""
        if self.returncode is None:
            ready, _, _ = select.select([self._report], [], [], timeout)
            if not ready:
                raise TimeoutError
            self.returncode = os.waitstatus_to_exitcode(int(os.read(self._report, _NUMBER)))
            os.close(self._report)
        return self.returncode


class Nursery:
    """The process that has imported the package."""

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "integration_tests.forked", str(theirs.fileno())],
                cwd=_ROOT,
                pass_fds=[theirs.fileno()],
            )
        self._socket = ours
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait(60)

    def start(
        self,
        arguments: Sequence[str],
        pipes: tuple[int, int, int],
        *,
        scaled: Mapping[str, Any],
        environment: Mapping[str, str],
    ) -> ForkedProcess:
        """Fork a connector on these file descriptors, which stay the caller's."""
        report, theirs = os.pipe()
        order = {"arguments": arguments, "scaled": scaled, "environment": environment}
        socket.send_fds(self._socket, [json.dumps(order).encode()], [*pipes, theirs])
        os.close(theirs)
        return ForkedProcess(int(os.read(report, _NUMBER)), report)

    def open(
        self,
        arguments: Sequence[str],
        stdin: Any,
        stdout: int,
        stderr: int,
        environment: Mapping[str, str],
    ) -> ForkedProcess:
        """Fork a connector as `subprocess.Popen` starts one: pipes where it is asked for them."""
        into: int | None = None
        out: int | None = None
        with contextlib.ExitStack() as theirs:
            if stdin == subprocess.PIPE:
                stdin, into = os.pipe()
                theirs.callback(os.close, stdin)
            elif stdin == subprocess.DEVNULL:
                stdin = theirs.enter_context(Path(os.devnull).open("rb"))
            if stdout == subprocess.PIPE:
                out, stdout = os.pipe()
                theirs.callback(os.close, stdout)
            number = stdin if isinstance(stdin, int) else stdin.fileno()
            pipes = (number, stdout, stderr)
            process = self.start(arguments, pipes, scaled={}, environment=environment)
        process.stdin = None if into is None else os.fdopen(into, "wb")
        process.stdout = None if out is None else os.fdopen(out, "rb")
        return process


def _serve(orders: socket.socket) -> None:
    """Fork one connector per order until the other end is closed."""
    from destination_bulk_tables import run  # noqa: PLC0415 - what tests import must not cost this

    _warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watchers
    while True:
        text, descriptors, _, _ = socket.recv_fds(orders, 1 << 18, 4)
        if not text:
            return
        if os.fork():
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        orders.close()
        _watch(run.run, json.loads(text), descriptors)


def _warm_up() -> None:
    """Import what the package imports late, and read a config, once for all that are forked."""
    from destination_bulk_tables import commands  # noqa: PLC0415 - as in `_serve`
    from integration_tests.vendor_configs import config_for  # noqa: PLC0415

    for name in ("jwt", "jsonschema", "encodings.idna"):
        importlib.import_module(name)
    for vendor in ("kore", "qobra"):
        commands.parse_config(config_for(vendor, "http://127.0.0.1:1"))
    gc.collect()
    gc.freeze()  # what a fork's collector does not look at stays shared with it


def _watch(run: Any, order: dict[str, Any], descriptors: list[int]) -> None:
    """Fork the connector, report its pid, wait for its end, report that."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        for number, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, number)
        for descriptor in descriptors:
            os.close(descriptor)
        os.environ.update(order["environment"])
        tempfile.tempdir = None  # that of the nursery was asked for while it warmed up
        for name, value in order["scaled"].items():
            _scale(name, value)
        _run(run, order["arguments"])
    for descriptor in descriptors[:3]:
        os.close(descriptor)
    os.write(descriptors[3], str(pid).zfill(_NUMBER).encode())
    _, status = os.waitpid(pid, 0)
    os.write(descriptors[3], str(status).zfill(_NUMBER).encode())
    os._exit(0)


def _run(run: Any, arguments: list[str]) -> NoReturn:
    """Run the console script's function, and end as an interpreter does where it returns."""
    code: Any = 1
    try:
        run(arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - the border of the process
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _scale(name: str, value: Any) -> None:
    """Set `module:attribute.path`; an unknown name is an error, so that none is scaled in vain."""
    module, _, path = name.partition(":")
    target: Any = importlib.import_module(module)
    *parents, last = path.split(".")
    for parent in parents:
        target = getattr(target, parent)
    getattr(target, last)
    if dataclasses.is_dataclass(target):
        object.__setattr__(target, last, value)  # limits are frozen
    else:
        setattr(target, last, value)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
