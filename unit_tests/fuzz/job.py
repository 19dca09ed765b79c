"""A job as a platform runs it: attempts with saved states, each judged while it runs and after.

A source that resumes goes on from the states that were acknowledged; another starts again under a
new generation. The first attempts meet faults, the last two do not, and one of them has to end
well. What is wrong is a line that starts with its kind.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from destination_bulk_tables.errors import (
    ConfigError,
    DestinationError,
    InternalError,
    UnaccountedRows,
)
from destination_bulk_tables.guard import Guard
from destination_bulk_tables.messages import Message, StateMessage
from destination_bulk_tables.model import JsonObject
from destination_bulk_tables.providers.kore import replacing
from unit_tests.fakes import FakeClock
from unit_tests.fuzz.network import Network, make_vendor, rows_of
from unit_tests.fuzz.plan import Plan, StreamPlan, make_plan
from unit_tests.fuzz.tables import Tables, base_of
from unit_tests.syncs import Sync, complete, kore, qobra, records, state
from unit_tests.vendors import KoreVendor, QobraVendor

ATTEMPTS = 5
CLEAN_FROM = 3
BETWEEN_ATTEMPTS_S = 60.0
LATER_S = 4000.0
START_AGAIN = "Start the refresh again"


class Warnings(logging.Handler):
    """Keeps what the package warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def warnings_kept() -> Iterator[Warnings]:
    """Take the package's warnings and print none."""
    logger, handler = logging.getLogger("destination_bulk_tables"), Warnings()
    before = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.propagate, logger.level = before


class Attempt(Sync):
    """One sync of a job: its states may be global."""

    @staticmethod
    def _number(found: Any) -> int:
        body = found.get("global") or found["stream"]
        return int((body.get("shared_state") or body.get("stream_state"))["number"])


@dataclass
class Script:
    """What a source says in one attempt; `covers`: what each state stands for."""

    messages: list[Message | float]
    covers: dict[int, dict[str, int]]
    is_whole: bool


def write_script(
    plan: Plan, rnd: Random, start: dict[str, int], attempt: int, *, is_whole: bool
) -> Script:
    """Interleave the streams' records with states and silences."""
    at = dict(start)
    messages: list[Message | float] = []
    covers: dict[int, dict[str, int]] = {}

    def add_state(stream: StreamPlan) -> None:
        number = len(covers) + 1
        if plan.is_global:
            covers[number] = dict(at)
            body = {
                "type": "GLOBAL",
                "global": {"shared_state": {"number": number}, "stream_states": []},
            }
            messages.append(StateMessage(json.dumps(body).encode(), None))
        else:
            covers[number] = {stream.name: at[stream.name]}
            messages.append(state(number, stream.key))

    while left := [s for s in plan.streams if at[s.name] < len(s.items)]:
        if not is_whole and rnd.random() < 0.15:
            break
        stream = rnd.choice(left)
        first = at[stream.name]
        last = min(len(stream.items), first + rnd.randint(1, 6))
        messages.append(records([stream.row(i, attempt) for i in range(first, last)], stream.key))
        at[stream.name] = last
        if rnd.random() < 0.5:
            add_state(stream)
        if rnd.random() < 0.3:
            messages.append(float(rnd.randint(1, 40)))
    if is_whole:
        for stream in plan.streams[: 1 if plan.is_global else None]:
            add_state(stream)
        messages += [complete(stream.key) for stream in plan.streams]
    return Script(messages, covers, is_whole)


@dataclass
class Report:
    """What became of one job."""

    plan: Plan
    problems: list[str] = field(default_factory=list)
    syncs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    may_double: int = 0  # syncs that said that rows may be doubled

    def add(self, problem: str) -> None:
        """Note something wrong once."""
        if problem not in self.problems:
            self.problems.append(problem)

    @property
    def kinds(self) -> set[str]:
        """The first words of the problems."""
        return {problem.split(":")[0] for problem in self.problems}


class Job:
    """Plays one plan. `run` returns what happened."""

    def __init__(self, plan: Plan, warnings: Warnings) -> None:
        self.plan = plan
        self.clock = FakeClock()
        self.random = Random(plan.seed + 1)
        self.vendor = make_vendor(plan, self.clock)
        self.network = Network(plan, self.vendor, self.clock, self.random)
        self.warnings = warnings
        self.report = Report(plan)
        self.tables = Tables(plan, self.vendor, self.network)
        self.saved = {stream.name: 0 for stream in plan.streams}
        self.generation = 2

    def run(self) -> Report:
        """Run attempts until one succeeds; a refresh that must be started again is."""
        attempt = 0
        is_refreshed = False
        sent = 0  # a number for each attempt, whatever the platform calls it
        error: DestinationError | None = None
        while attempt < ATTEMPTS:
            is_clean = attempt >= CLEAN_FROM or is_refreshed
            how = "" if is_clean else self.plan.ends[attempt]
            error = self._attempt(attempt, sent, how, is_clean=is_clean)
            sent += 1
            self.clock.advance(BETWEEN_ATTEMPTS_S)
            if isinstance(self.vendor, KoreVendor):
                self.vendor.elapsed += BETWEEN_ATTEMPTS_S
            self.network.apply_late()
            if is_refreshed and not self._may_fail(error):
                self.report.add(f"STUCK: a fresh refresh fails: {type(error).__name__}: {error}")
            if is_refreshed:
                break
            if error is not None and START_AGAIN in error.message:
                is_refreshed, attempt = True, 0
                self._start_again()
                continue
            if error is None and how != "platform fails":
                break
            if isinstance(error, ConfigError) and self._may_fail(error):
                break  # a platform does not repeat it
            attempt += 1
            self._prepare_retry(has_loaded=error is None)
        else:
            if not self._may_fail(error):
                self.report.add(f"STUCK: the last attempt fails: {type(error).__name__}: {error}")
        self.report.met = self.network.met
        return self.report

    def _prepare_retry(self, *, has_loaded: bool) -> None:
        """What platform and source do before the next attempt."""
        for stream in self.plan.streams:
            if has_loaded:
                stream.grow()
            if not stream.resumes:
                self.saved[stream.name] = 0
                self.generation += 1

    def _start_again(self) -> None:
        """What a person does, some time later: refresh the streams with removal."""
        self.clock.advance(LATER_S)
        self.generation += 10
        for stream in self.plan.streams:
            if stream.is_replaced:
                self.saved[stream.name] = 0

    def _may_fail(self, error: DestinationError | None) -> bool:
        """Whether a job without faults may end so, for what its rows and rights are."""
        plan = self.plan
        if error is None:  # it was the platform that failed the attempt
            return True
        keyless = any(item.key is None for s in plan.streams if s.is_keyed for item in s.items)
        deletions = any(item.is_deletion for s in plan.streams for item in s.items)
        is_read = plan.vendor == "qobra" or plan.switches["reads"]
        refuses = plan.bad or keyless or (deletions and plan.vendor == "qobra")
        if isinstance(error, ConfigError):
            # rows that all were deleted again do not empty a table either
            is_left = not (deletions and "none is left" in error.message)
            return bool(refuses) or not is_read or not is_left or "one request" in error.message
        if plan.vendor == "qobra":
            return False
        # a table that nobody can count cannot be proven, nor that of a refused row no copy is in
        are_twins = any(len(set(s.items)) < len(s.items) for s in plan.streams)
        unknown = plan.bad and are_twins
        return not is_read or not plan.switches["totals"] or bool(unknown)

    def _attempt(
        self, attempt: int, sent: int, how: str, *, is_clean: bool
    ) -> DestinationError | None:
        plan, rnd, report = self.plan, self.random, self.report
        start = dict(self.saved)
        script = write_script(plan, rnd, start, sent, is_whole=how != "source fails")
        self.network.left = 0 if is_clean else plan.most_faults
        self.network.is_foreign = plan.is_foreign and not is_clean
        self.warnings.texts.clear()
        self.tables.begin(start, sent, script.covers)
        sync = self._sync(script, attempt, sent)
        stop_at = rnd.randint(1, 12) if how == "stop" else 0
        sync.on_request = lambda done: self._look(done, stop_at)
        sync.on_state = self._acknowledged
        sync.transport.answer = self.network.answer
        faults = len(self.network.faults)
        report.syncs += 1
        try:
            sync.run()
        except AssertionError as error:
            report.add(f"ASSERT: attempt {sent}: {(str(error) or repr(error)).splitlines()[0]}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            report.add(f"CRASH: attempt {sent}: {error!r}")
        may_double = any("duplicates=possible" in text for text in self.warnings.texts)
        report.may_double += may_double
        self._judge(sync, script, sent, may_double=may_double)
        if sync.error:
            report.errors[sync.error.message[:70]] += 1
        report.ends[type(sync.error).__name__ if sync.error else "success"] += 1
        report.log.append(
            f"attempt {sent} ({attempt}{', ' + how if how else ''}): from {start}, "
            f"states {sync.acknowledged} of {len(script.covers)}, "
            f"faults {self.network.faults[faults:]}, "
            f"ends with {sync.error!r}, tables {self.tables.shown()}, "
            f"warned {[text[:90] for text in self.warnings.texts][:12]}"
        )
        return sync.error

    def _sync(self, script: Script, attempt: int, sent: int) -> Attempt:
        plan = self.plan
        configured: list[Any] = [s.configured(self.generation) for s in plan.streams]
        catalog: JsonObject = {"streams": configured}
        return Attempt(
            kore(**plan.settings) if plan.vendor == "kore" else qobra(**plan.settings),
            self.vendor,
            self.clock,
            catalog,
            script.messages,
            slots=plan.slots,
            seed=plan.seed + sent if plan.is_stepped else None,
            policy=plan.policy,
            max_rows=plan.max_rows,
            guard=Guard(attempt=attempt),
        )

    # --- while it runs

    def _look(self, sync: Sync, stop_at: int) -> None:
        if stop_at and len(sync.transport.sent) == stop_at:
            sync.stop.set()
        if self.plan.vendor == "qobra":
            carried = sync.transport.sent[-1].request
            self.tables.note_load(carried.path, len(rows_of(carried)))
        self.tables.rejected_now = self._rejected(sync)
        for problem in self.tables.torn():
            self.report.add(problem)

    def _acknowledged(self, number: int, sync: Sync) -> None:
        self.tables.rejected_now = self._rejected(sync)
        for problem in self.tables.early(number):
            self.report.add(problem)
        for name, position in self.tables.covers[number].items():
            self.saved[name] = max(self.saved[name], position)

    def _rejected(self, sync: Sync) -> Counter[str]:
        names = (json.loads(row.row).get("name") for row in sync.rejects.rows)
        return Counter(base_of(name) for name in names if name)

    # --- when it has ended

    def _judge(self, sync: Attempt, script: Script, sent: int, *, may_double: bool) -> None:
        report, error = self.report, sync.error
        self.tables.rejected_now = self._rejected(sync)
        if not self._in_order(sync.acknowledged, script):
            report.add(f"ORDER: attempt {sent}: states left as {sync.acknowledged}")
        if error is None and len(sync.acknowledged) != len(script.covers):
            report.add(f"STATES: attempt {sent}: {sync.acknowledged} of {len(script.covers)}")
        if error is None and not script.is_whole:
            report.add(f"STATUS: attempt {sent} succeeded without the source's COMPLETE")
        if error is not None and self.tables.has_released:
            report.add(f"EARLY: attempt {sent}: states of replaced streams left, then {error!r}")
        if isinstance(error, InternalError) and not isinstance(error, UnaccountedRows):
            report.add(f"INTERNAL: attempt {sent}: {error}")
        found = list(self.tables.judge(is_success=error is None, may_double=may_double))
        if error is None and isinstance(self.vendor, QobraVendor):
            self.clock.advance(LATER_S)  # whatever is still under way in the background
            later = self.tables.judge(is_success=True, may_double=may_double)
            found += [f"LATER {problem}" for problem in later if problem not in found]
        for problem in found:
            report.add(f"{problem} (attempt {sent})")

    def _in_order(self, numbers: list[int], script: Script) -> bool:
        """Whether the states of each scope left in the order they came."""
        for stream in self.plan.streams:
            own = [n for n in numbers if stream.name in script.covers[n]]
            if own != sorted(own):
                return False
        return len(set(numbers)) == len(numbers)


def play(seed: int, warnings: Warnings, **narrowed: Any) -> Report:
    """Play the job of a seed."""
    plan, most = make_plan(seed, **narrowed), replacing.FEW_ROWS
    if plan.few_rows is not None:
        replacing.FEW_ROWS = plan.few_rows
    try:
        return Job(plan, warnings).run()
    finally:
        replacing.FEW_ROWS = most
