"""Runs tasks on sender threads and hands results back to the engine thread, which it wakes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Workers(Protocol):
    """A pool of sender threads, or a stand-in that runs each task at once."""

    def submit(self, task: Callable[[], T], then: Callable[[T], None]) -> None:
        """Run `task`, which must not raise; `deliver_results` calls `then` with its result."""

    def deliver_results(self) -> None:
        """Call `then` for each finished task, on the calling thread."""


class ThreadWorkers:
    """Sender threads; a byte goes to `wake` for each finished task."""

    def __init__(self, size: int, wake: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="sender")
        self._wake = wake
        self._done: SimpleQueue[tuple[Callable[[Any], None], Future[Any]]] = SimpleQueue()

    def submit(self, task: Callable[[], T], then: Callable[[T], None]) -> None:
        def finished(future: Future[T]) -> None:
            self._done.put((then, future))
            os.write(self._wake, b".")

        self._pool.submit(task).add_done_callback(finished)

    def deliver_results(self) -> None:
        while True:
            try:
                then, future = self._done.get_nowait()
            except Empty:
                return
            then(future.result())
