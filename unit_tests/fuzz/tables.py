"""What the tables of a job must hold: at every request, with every state, and at each end.

Judges rows by their origin. What cannot be promised is left out by name and nothing else is: rows
that were applied when nobody could expect them any more (`Network.late`), rows that a vendor or a
rule refused, keys of which a version was refused, rows that somebody else deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from unit_tests.fuzz.network import Network
from unit_tests.fuzz.plan import Plan, StreamPlan
from unit_tests.vendors import KoreVendor, QobraVendor, Row


def base_of(name: str) -> str:
    """A row's origin without the attempt."""
    return name.rpartition(".")[0]


class Tables:
    """Judges one job's tables; `begin` tells of each attempt."""

    def __init__(self, plan: Plan, vendor: KoreVendor | QobraVendor, network: Network) -> None:
        self._plan = plan
        self._vendor = vendor
        self._network = network
        self.rejected_now: Counter[str] = Counter()  # by this attempt
        self._rejected_before: Counter[str] = Counter()
        self.covers: dict[int, dict[str, int]] = {}
        self.has_released = False
        self._start: dict[str, int] = {}
        self._attempt = 0
        self._baseline: dict[str, Counter[str]] = {}
        self._is_debounced: set[str] = set()
        self._doubled_before: dict[str, Counter[str]] = {}

    def begin(self, start: dict[str, int], attempt: int, covers: dict[int, dict[str, int]]) -> None:
        """An attempt begins: its sources start there."""
        self._start, self._attempt, self.covers = start, attempt, covers
        self._rejected_before += self.rejected_now
        self.rejected_now = Counter()
        self.has_released = False
        self._is_debounced.clear()
        self._baseline = {s.name: self._names(s) for s in self._plan.streams if s.is_replaced}
        self._doubled_before = {s.name: self._names(s) for s in self._plan.streams}

    def shown(self) -> dict[str, list[str]]:
        """What the tables hold."""
        return {s.name: [str(row.get("name")) for row in self._rows(s)] for s in self._plan.streams}

    def note_load(self, path: str, rows: int) -> None:  # noqa: ARG002
        """Qobra: a load of several requests is imported in parts when it ends early."""
        if "debounce=" in path:
            self._is_debounced.add(path.partition("/tables/")[2].partition("/")[0])

    def _rows(self, stream: StreamPlan) -> list[Row]:
        return self._vendor.rows(stream.name)

    def _names(self, stream: StreamPlan) -> Counter[str]:
        return Counter(str(row.get("name")) for row in self._rows(stream))

    # --- what should be there

    def _sent(self, stream: StreamPlan) -> range:
        return range(self._start[stream.name], len(stream.items))

    def _base(self, stream: StreamPlan, position: int) -> str:
        return f"{stream.name}.{stream.items[position].number}"

    def _versions(self, stream: StreamPlan, positions: range) -> dict[str, list[int]]:
        """The positions of each key, oldest version first."""
        found: dict[str, list[int]] = {}
        for position in sorted(positions, key=stream.rank):
            key = stream.items[position].key
            if key is not None:
                found.setdefault(key, []).append(position)
        return found

    def _is_spoilt(self, stream: StreamPlan, key: str) -> bool:
        """Whether a version of a key was refused, so that any other may be in the table."""
        positions = (i for i, item in enumerate(stream.items) if item.key == key)
        rejected = self.rejected_now if stream.is_replaced else self._rejected
        return any(rejected[self._base(stream, i)] for i in positions)

    @property
    def _rejected(self) -> Counter[str]:
        return self._rejected_before + self.rejected_now

    def _whole(self, stream: StreamPlan) -> Counter[str] | None:
        """The rows that this attempt's load puts into a table; None: a version was refused."""
        sent = self._sent(stream)
        if stream.is_keyed:
            versions = self._versions(stream, sent)
            winners = [
                found[-1]
                for key, found in versions.items()
                if not stream.items[found[-1]].is_deletion
                and not any(stream.items[i].amount in self._plan.bad for i in found)
                and not self._is_spoilt(stream, key)
            ]
            return Counter(self._tagged(stream, i) for i in winners)
        rows = Counter(self._tagged(stream, i) for i in sent)
        for name in list(rows):
            rows[name] -= self.rejected_now[base_of(name)]
        bad = {self._tagged(stream, i) for i in sent if stream.items[i].amount in self._plan.bad}
        return Counter({name: n for name, n in rows.items() if n > 0 and name not in bad})

    def _tagged(self, stream: StreamPlan, position: int) -> str:
        return f"{self._base(stream, position)}.{self._attempt}"

    # --- at every request

    def torn(self) -> Iterator[str]:
        """Tables to replace that hold neither all old nor all new rows."""
        for stream in self._plan.streams:
            if not stream.is_replaced or stream.name in self._is_debounced:
                continue
            if self._plan.vendor == "kore" and not self._plan.keeps_old_or_new:
                continue
            held, old, new = self._names(stream), self._baseline[stream.name], self._whole(stream)
            old = old - self._network.removed
            if self._plan.vendor == "qobra":
                # by key: an import may put an old version back, or a newer in its place
                if old and not held and new:
                    yield f"TORN: {stream.name} is empty"
                continue
            if old <= held or (new is not None and new <= held):
                continue
            missing = sorted((old - held).elements())[:3]
            yield f"TORN: {stream.name} holds neither its old nor its new rows: without {missing}"

    # --- with every state

    def early(self, number: int) -> Iterator[str]:
        """What a state promises and the tables do not hold."""
        covered = self.covers[number]
        for name in covered:
            stream = next(s for s in self._plan.streams if s.name == name)
            if stream.is_replaced:
                self.has_released = True
        if any(s.is_replaced for s in self._plan.streams if s.name in covered):
            for stream in self._plan.streams:
                if stream.is_replaced and (new := self._whole(stream)):
                    missing = new - self._names(stream)
                    if missing and not self._start[stream.name]:
                        some = sorted(missing)[:3]
                        yield f"EARLY: state {number} left, {stream.name} not replaced: {some}"
        for stream in self._plan.streams:
            if stream.name in covered and not stream.is_replaced:
                yield from self._lost(stream, covered[stream.name], f"EARLY: state {number}: ")

    def _lost(self, stream: StreamPlan, until: int, before: str) -> Iterator[str]:
        if stream.is_keyed:
            yield from self._lost_keys(stream, until, before)
            return
        wanted = Counter(self._base(stream, i) for i in range(until))
        held = Counter(base_of(str(row.get("name"))) for row in self._rows(stream))
        lost = wanted - held - self._rejected
        if lost:
            yield f"{before}LOST rows of {stream.name}: {sorted(lost)[:5]}"

    def _lost_keys(self, stream: StreamPlan, until: int, before: str) -> Iterator[str]:
        start = self._start[stream.name]
        held: dict[str, list[tuple[int, int]]] = {}
        for row in self._rows(stream):
            position = self._position(stream, str(row.get("name")))
            if position is not None:
                held.setdefault(str(row["id"]), []).append(stream.rank(position))
        earlier = self._versions(stream, range(until))
        recent = self._versions(stream, range(min(start, until), until))
        underway = self._versions(stream, range(until, len(stream.items)))
        for key, versions in earlier.items():
            # a version that another attempt acknowledged is not remembered
            best = recent.get(key, versions)[-1]
            if self._is_spoilt(stream, key):
                continue
            if key in underway and stream.is_dedup:
                continue  # it may be between its delete and its insert
            newest = max(held.get(key, [(-1, -1)]))
            if stream.items[best].is_deletion:
                if newest != (-1, -1) and newest < stream.rank(best) and not self._is_late(stream):
                    yield f"{before}UNDEAD key {key} of {stream.name}"
            elif newest < stream.rank(best):
                yield f"{before}LOST key {key} of {stream.name}: {self._base(stream, best)}"

    def _position(self, stream: StreamPlan, name: str) -> int | None:
        owner, _, number = base_of(name).rpartition(".")
        if owner != stream.name:
            return None
        return next((i for i, item in enumerate(stream.items) if item.number == int(number)), None)

    def _is_late(self, stream: StreamPlan) -> bool:
        return any(name.startswith(f"{stream.name}.") for name in self._network.late)

    # --- at the end of an attempt

    def judge(self, *, is_success: bool, may_double: bool) -> Iterator[str]:
        """What is wrong with the tables now."""
        for stream in self._plan.streams:
            if stream.is_replaced:
                if is_success:
                    yield from self._judge_replaced(stream, may_double=may_double)
                elif self._network.plan.keeps_old_or_new:
                    yield from self.torn()
                continue
            if is_success:
                yield from self._lost(stream, len(stream.items), "")
            if stream.is_dedup and is_success:
                yield from self._judge_newest(stream)
            if not may_double:
                yield from self._doubled(stream)
            yield from self._old_gone(stream)

    def _judge_replaced(self, stream: StreamPlan, *, may_double: bool) -> Iterator[str]:
        held = self._names(stream)
        new = self._whole(stream) or Counter()
        start = self._start[stream.name]
        if start:
            # the rest of a load: the rows of the earlier attempt must be there
            bases = {base_of(name) for name in held}
            versions = self._versions(stream, range(start))
            wanted = (
                [v[-1] for k, v in versions.items() if not self._is_spoilt(stream, k)]
                if stream.is_keyed
                else [i for i in range(start) if not self._rejected[self._base(stream, i)]]
            )
            lost = [
                self._base(stream, i)
                for i in wanted
                if not stream.items[i].is_deletion and self._base(stream, i) not in bases
            ]
            if lost:
                yield f"WIPED: {stream.name} lost what an earlier attempt loaded: {lost[:4]}"
            return
        missing = new - held
        if missing:
            yield f"LOST rows of replaced {stream.name}: {sorted(missing)[:5]}"
        own = Counter({n: c for n, c in held.items() if not n.startswith("foreign.")})
        allowed = self._allowed(stream)
        extra = own - new
        for name in list(extra):
            # Qobra: a request of an attempt that was stopped may be in the import of this one
            joined = self._plan.vendor == "qobra" and self.rejected_now[base_of(name)]
            is_allowed = name in allowed and extra[name] <= allowed[name]
            if name in self._network.late or joined or is_allowed:
                del extra[name]
        stale = sorted(n for n in extra if n not in new)
        doubled = sorted(n for n in extra if n in new)
        if len(new) == 0 and stream.items[start:] and self._all_refused(stream):
            if self._baseline[stream.name] - held - self._network.removed:
                yield f"WIPED: {stream.name} was replaced by nothing: all its rows were refused"
            return
        if stale:
            yield f"STALE: replaced {stream.name} still holds {stale[:5]}"
        if doubled and not may_double:
            yield f"DOUBLED rows of replaced {stream.name}: {doubled[:5]}"

    def _all_refused(self, stream: StreamPlan) -> bool:
        items = [stream.items[i] for i in self._sent(stream)]
        if any(item.is_deletion for item in items):
            return False
        return all(self.rejected_now[self._base(stream, i)] for i in self._sent(stream))

    def _allowed(self, stream: StreamPlan) -> Counter[str]:
        """Versions that may be in a table because another of their key was refused."""
        found: Counter[str] = Counter()
        for position in self._sent(stream):
            key = stream.items[position].key
            is_bad = stream.items[position].amount in self._plan.bad
            if stream.is_keyed and key is not None:
                spoilt = self._is_spoilt(stream, key) or any(
                    item.amount in self._plan.bad for item in stream.items if item.key == key
                )
                found[self._tagged(stream, position)] += spoilt
            elif is_bad:
                found[self._tagged(stream, position)] += 0
        return found

    def _judge_newest(self, stream: StreamPlan) -> Iterator[str]:
        start = self._start[stream.name]
        everything = self._versions(stream, range(len(stream.items)))
        recent = self._versions(stream, range(start, len(stream.items)))
        held: dict[str, list[str]] = {}
        for row in self._rows(stream):
            if str(row.get("name")) not in self._network.late:
                held.setdefault(str(row["id"]), []).append(base_of(str(row.get("name"))))
        for key, versions in everything.items():
            if self._is_spoilt(stream, key):
                continue
            best = {versions[-1], recent.get(key, versions)[-1]}
            right = [[] if stream.items[i].is_deletion else [self._base(stream, i)] for i in best]
            found = [base for base in held.get(key, []) if base.startswith(f"{stream.name}.")]
            if self._network.late and any(not base for base in right):
                continue
            if found not in right and not (not found and self._is_late(stream)):
                yield f"VERSION: key {key} of {stream.name}: {found}, should be {right}"

    def _doubled(self, stream: StreamPlan) -> Iterator[str]:
        """Rows of one attempt that are there more often than it sent them."""
        sent = Counter(self._tagged(stream, i) for i in self._sent(stream))
        held = Counter(
            {
                name: count
                for name, count in self._names(stream).items()
                if name.endswith(f".{self._attempt}") and name.startswith(f"{stream.name}.")
            }
        )
        more = held - sent
        doubled = sorted(name for name in more if name not in self._network.late)
        if doubled:
            yield f"DOUBLED rows of {stream.name}: {doubled[:5]}"

    def _old_gone(self, stream: StreamPlan) -> Iterator[str]:
        """Rows that were there before and have a key of their own stay in an append."""
        keys = {item.key for item in stream.items}
        old = Counter(
            str(row.get("name"))
            for row in stream.old
            if not stream.is_keyed or row["id"] not in keys
        )
        gone = old - self._names(stream) - self._network.removed
        if gone:
            yield f"GONE: {stream.name} lost rows of others: {sorted(gone)[:3]}"
