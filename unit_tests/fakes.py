"""Stand-ins for what engine and sender work with: time, the network, sender threads and stdin.

They obey the same contracts as the real ones and hold no expectation: a test says what it expects.
Nothing here sleeps or opens a socket; `SteppedWorkers` uses threads of which exactly one runs at a
time, in an order that a seed decides.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, TypeVar

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.errors import DestinationError
from destination_bulk_tables.http import Flow, HttpRequest, HttpResponse
from destination_bulk_tables.messages import Message
from destination_bulk_tables.reports import StoreReport
from destination_bulk_tables.transport import Transport, TransportError

T = TypeVar("T")
Answer = Callable[[HttpRequest], HttpResponse]
Fault = Callable[[HttpRequest, Answer], HttpResponse]

EPOCH_S = 1_700_000_000.0
LATENCY_S = 0.01
_MOST_READS = 200_000


def nothing(*_: object) -> None:
    """Where a test does not want to look."""


class FakeClock(Clock):
    """Time that passes only when someone waits; `waits` lists how long."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.elapsed

    def now(self) -> float:
        return EPOCH_S + self.elapsed

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        if stop.is_set():
            return True
        self.waits.append(seconds)
        self.elapsed += seconds
        return False

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.elapsed += seconds


# --- the network


@dataclass(frozen=True)
class Sent:
    """One attempt as it left."""

    request: HttpRequest
    headers: Mapping[str, str]
    at: float
    timeout_s: float

    @property
    def is_write(self) -> bool:
        """Whether it carries rows."""
        return self.request.path.partition("?")[0].endswith("/bulk")


class FakeTransport(Transport):
    """Answers from memory. `faults`: what goes wrong, by the number of the attempt, from 1."""

    def __init__(
        self, clock: FakeClock, answer: Answer, faults: Mapping[int, Fault] | None = None
    ) -> None:
        super().__init__("http://127.0.0.1", clock)
        self.time = clock
        self.answer = answer
        self.faults = dict(faults or {})
        self.sent: list[Sent] = []
        self.pause: Callable[[], None] = nothing
        self.watch: Callable[[], None] = nothing

    def send(
        self, request: HttpRequest, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        self.pause()
        self.sent.append(Sent(request, headers, self.time.elapsed, timeout_s))
        fault = self.faults.get(len(self.sent))
        self.time.advance(LATENCY_S)
        try:
            if fault is not None:
                return fault(request, self.answer)
            return self.answer(request)
        finally:
            self.watch()

    @property
    def writes(self) -> list[Sent]:
        """The attempts that carried rows."""
        return [sent for sent in self.sent if sent.is_write]


def scripted(*answers: HttpResponse | TransportError | Exception) -> Answer:
    """Give these answers one after the other; the last again and again."""
    left = deque(answers)

    def answer(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - whatever is asked
        found = left.popleft() if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    return answer


def status(code: int, body: bytes = b"", **headers: str) -> HttpResponse:
    """A response; `retry_after` becomes a header."""
    return HttpResponse(
        code, {name.replace("_", "-"): text for name, text in headers.items()}, body
    )


def play(flow: Flow[Any], *answers: HttpResponse | Exception) -> tuple[Any, list[HttpRequest]]:
    """Drive a flow with these answers; return its result and its requests."""
    requests = []
    left = list(answers)
    try:
        request = next(flow)
        while True:
            requests.append(request)
            answer = left.pop(0)
            request = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
    except StopIteration as end:
        return end.value, requests


def refuse(request: HttpRequest, answer: Answer) -> HttpResponse:  # noqa: ARG001
    raise TransportError("no", "the connection was refused", "connect")


def cut_before(request: HttpRequest, answer: Answer) -> HttpResponse:  # noqa: ARG001
    raise TransportError("maybe", "the connection broke", "broken")


def cut_after(request: HttpRequest, answer: Answer) -> HttpResponse:
    answer(request)
    raise TransportError("maybe", "the connection broke", "broken")


def time_out_after(request: HttpRequest, answer: Answer) -> HttpResponse:
    answer(request)
    raise TransportError("maybe", "no answer in time", "timeout")


def answer_status(code: int, **headers: str) -> Fault:
    """Answer without applying the request."""
    return lambda request, answer: status(code, b"{}", **headers)  # noqa: ARG005


def apply_then_status(code: int) -> Fault:
    """Apply the request and answer something else."""

    def fault(request: HttpRequest, answer: Answer) -> HttpResponse:
        answer(request)
        return status(code, b"upstream")

    return fault


def garble(cut: Callable[[bytes], bytes]) -> Fault:
    """Apply the request and spoil a good answer's body."""

    def fault(request: HttpRequest, answer: Answer) -> HttpResponse:
        good = answer(request)
        return HttpResponse(good.status, good.headers, cut(good.body))

    return fault


def http_date(seconds_from_start: float) -> str:
    """A moment of a `FakeClock` as an HTTP date."""
    return formatdate(EPOCH_S + seconds_from_start, usegmt=True)


# --- sender threads


class InlineWorkers:
    """Runs each task at once on the calling thread; results wait for `deliver_results`."""

    def __init__(self) -> None:
        self._done: deque[Callable[[], None]] = deque()

    def submit(self, task: Callable[[], T], then: Callable[[T], None]) -> None:
        result = task()
        self._done.append(lambda: then(result))

    def deliver_results(self) -> None:
        while self._done:
            self._done.popleft()()

    @property
    def is_idle(self) -> bool:
        """Whether nothing will happen by itself."""
        return not self._done

    def pause(self) -> None:
        """Where another task could go on; there is none."""

    def finish(self) -> None:
        """Run what is left."""


class SilentWorkers(InlineWorkers):
    """No request is ever answered."""

    def submit(self, task: Callable[[], T], then: Callable[[T], None]) -> None:
        """Keep nothing: it is under way for ever."""


class _Task:
    """A task on its own thread that runs only between `step` and its next pause."""

    def __init__(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self.then = then
        self.result: Any = None
        self.is_done = False
        self._work = work
        self._go, self._paused = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._paused.acquire()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self._go.acquire()
        try:
            self.result = self._work()
        finally:
            self.is_done = True
            self._paused.release()

    def step(self) -> None:
        self._go.release()
        self._paused.acquire()

    def pause(self) -> None:
        self._paused.release()
        self._go.acquire()


class SteppedWorkers:
    """Interleaves tasks request by request and completes them in any order, as a seed says."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._running: list[_Task] = []
        self._done: list[_Task] = []

    def submit(self, task: Callable[[], T], then: Callable[[T], None]) -> None:
        self._running.append(_Task(task, then))

    def deliver_results(self) -> None:
        for _ in range(self._random.randint(1, 4)):
            if self._running:
                self._step(self._random.choice(self._running))
        self._random.shuffle(self._done)
        while self._done and (not self._running or self._random.random() < 0.7):
            task = self._done.pop()
            task.then(task.result)

    def _step(self, task: _Task) -> None:
        task.step()
        if task.is_done:
            self._running.remove(task)
            self._done.append(task)

    @property
    def is_idle(self) -> bool:
        """Whether nothing will happen by itself."""
        return not self._running and not self._done

    def pause(self) -> None:
        """Called on a task's thread: let another one go on first."""
        for task in self._running:
            if task.thread is threading.current_thread():
                task.pause()

    def finish(self) -> None:
        """Run what is left, so that no thread outlives a test."""
        while self._running:
            self._step(self._running[0])


AnyWorkers = InlineWorkers | SteppedWorkers


# --- stdin


@dataclass
class ScriptedSource:
    """Hands out messages one a read; a number is seconds of silence.

    Time passes while the workers are idle.
    """

    script: deque[Message | float]
    clock: FakeClock
    workers: AnyWorkers
    ended: bool = False
    reads: int = 0
    on_read: Callable[[int], None] = field(default=nothing)

    @classmethod
    def of(
        cls, script: Iterable[Message | float], clock: FakeClock, workers: AnyWorkers
    ) -> ScriptedSource:
        return cls(deque(script), clock, workers)

    def read(self, timeout_s: float, *, wants_input: bool) -> Iterator[Message]:
        self.reads += 1
        assert self.reads < _MOST_READS, "the engine turns without getting anywhere"
        assert timeout_s >= 0, "a selector would wait for ever"
        self.on_read(self.reads)
        if wants_input and self.script:
            message = self.script.popleft()
            if isinstance(message, float):
                silence = min(message, max(timeout_s, 0.001))
                if message > silence:
                    self.script.appendleft(message - silence)
                self.clock.advance(silence)
            else:
                yield message
        elif wants_input and not self.ended:
            self.ended = True
        elif self.workers.is_idle:
            self.clock.advance(max(timeout_s, 0.001))


def positions_of(requests: Sequence[Sent], path_end: str) -> list[int]:
    """The numbers of the attempts whose path (without its query) ends so."""
    return [
        number
        for number, sent in enumerate(requests, 1)
        if sent.request.path.partition("?")[0].endswith(path_end)
    ]


class Bucket:
    """Objects by their keys, and the uploads of a report to them.

    `taken`: so many names are there before. `is_slow`: an upload takes place when it is waited for
    or `arrive` is called. `fails`: what ends the next one.
    """

    def __init__(self, taken: int = 0, *, is_slow: bool = False) -> None:
        self.objects: dict[str, bytes] = {}
        self.taken = taken
        self.fails: Exception | None = None
        self._is_slow = is_slow
        self._under_way: list[tuple[Future[None], Callable[[], None]]] = []

    def report(self, clock: FakeClock | None = None) -> StoreReport:
        return StoreReport("s3://bucket/path", "SYNC", self, clock or FakeClock())

    def put(self, key: str, data: bytes) -> bool:
        if self.fails is not None:
            raise self.fails
        if self.taken:
            self.taken -= 1
            return False
        assert key not in self.objects
        self.objects[key] = data
        return True

    def start(self, work: Callable[[], None]) -> Future[None]:
        upload: Future[None] = Future()
        self._under_way.append((upload, work))
        if not self._is_slow:
            self.arrive()
        return upload

    def arrive(self) -> None:
        for upload, work in self._under_way:
            try:
                upload.set_result(work())
            except DestinationError as error:
                upload.set_exception(error)
        self._under_way.clear()

    def wait(self, upload: Future[None]) -> None:
        self.arrive()
        upload.result()
