"""What a seed decides before a job begins: streams, their rows, the vendor's ways, the settings.

Rows carry their origin in `name` (`stream.number.attempt`), so that whatever a table holds can be
traced to the attempt that sent it. Nothing here runs anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal, get_args

from destination_bulk_tables.model import JsonObject, StreamKey
from unit_tests.vendors import Dates, Row

Kind = Literal["append", "dedup", "replace", "refresh", "refresh_dedup"]
VendorName = Literal["kore", "qobra"]
NAMES = ("deals", "calls", "notes")
KINDS: tuple[Kind, ...] = ("append", "dedup", "replace", "refresh", "refresh_dedup")
SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "id": {"type": ["null", "string"]},
        "name": {"type": ["null", "string"]},
        "amount": {"type": ["null", "number"]},
        "version": {"type": ["null", "integer"]},
        "_ab_cdc_deleted_at": {"type": ["null", "string"]},
    },
}
_PER_STREAM = 1000  # amounts tell the rows of all streams apart


@dataclass(frozen=True)
class Item:
    """One record of the source; `number` is shared by rows that are equal in everything."""

    number: int
    key: str | None
    version: int
    amount: int
    is_deletion: bool = False


@dataclass
class StreamPlan:
    """One stream of a job.

    `refresh` is an incremental stream refreshed with removal: it keeps its generation in a retry,
    and its source goes on from what was acknowledged.
    """

    name: str
    kind: Kind
    vendor: VendorName
    items: list[Item]
    old: list[Row]
    later: list[Item] = field(default_factory=list)  # what the source gets after a first success

    def grow(self) -> None:
        """The source has got more rows."""
        self.items, self.later = [*self.items, *self.later], []

    @property
    def key(self) -> StreamKey:
        return StreamKey(None, self.name)

    @property
    def is_replaced(self) -> bool:
        return self.kind in {"replace", "refresh", "refresh_dedup"}

    @property
    def resumes(self) -> bool:
        return self.kind != "replace"

    @property
    def is_dedup(self) -> bool:
        return self.kind in {"dedup", "refresh_dedup"}

    @property
    def is_keyed(self) -> bool:
        """Whether the table keeps one row of a key."""
        return self.vendor == "qobra" or self.is_dedup

    def rank(self, position: int) -> tuple[int, int]:
        """What makes one version of a key newer than another."""
        return (self.items[position].version if self.is_dedup else 0, position)

    def row(self, position: int, attempt: int) -> Row:
        """The record as an attempt sends it."""
        item = self.items[position]
        row: Row = {
            "id": item.key,
            "name": f"{self.name}.{item.number}.{attempt}",
            "amount": item.amount,
            "version": item.version,
        }
        if item.is_deletion:
            row["_ab_cdc_deleted_at"] = "2026-01-02T00:00:00Z"
        return row

    def configured(self, generation: int) -> JsonObject:
        """Its entry in the catalog that a platform writes."""
        return {
            "stream": {"name": self.name, "json_schema": SCHEMA},
            "sync_mode": "full_refresh" if self.kind == "replace" else "incremental",
            "destination_sync_mode": "append_dedup" if self.is_dedup else "append",
            "primary_key": [["id"]],
            "cursor_field": ["version"],
            "generation_id": generation,
            "minimum_generation_id": generation if self.is_replaced else 0,
            "sync_id": 70,
        }


@dataclass
class Plan:
    """One job: everything but what goes wrong while it runs."""

    seed: int
    vendor: VendorName
    streams: list[StreamPlan]
    bad: frozenset[int]  # amounts that the vendor refuses
    switches: dict[str, Any]
    settings: dict[str, Any]
    limit: int  # rows of a request; more are answered with 413
    slots: int
    is_stepped: bool
    max_rows: int
    policy: Literal["fail", "skip"]
    is_global: bool
    fault_share: float
    most_faults: int
    is_foreign: bool
    ends: tuple[str, ...] = field(default=())  # how the platform or the source end early attempts
    few_rows: int | None = None  # a Kore.ai table of more is large

    @property
    def keeps_old_or_new(self) -> bool:
        """Whether replaced tables hold all old or all new rows at every moment."""
        if self.vendor == "kore":
            return self.settings.get("replace_strategy") != "delete_then_insert"
        return False  # judged per load: only one that fits a request

    def describe(self) -> str:
        """One line for a report."""
        streams = ",".join(
            f"{s.name}:{s.kind}:{len(s.items)}rows:{len(s.old)}old" for s in self.streams
        )
        return (
            f"{self.vendor} {streams} slots={self.slots} stepped={self.is_stepped} "
            f"max_rows={self.max_rows} limit={self.limit} policy={self.policy} "
            f"global={self.is_global} bad={sorted(self.bad)} foreign={self.is_foreign} "
            f"faults={self.fault_share}x{self.most_faults} ends={self.ends} "
            f"few={self.few_rows} {self.switches} {self.settings}"
        )


def _items(
    rnd: Random, place: int, *, is_dedup: bool, is_keyed: bool, has_twins: bool
) -> list[Item]:
    count = rnd.choice([0, 3, 6, 6, 12, 12, 24])
    keys = rnd.choice([count + 1, count + 1, 5, 3]) if is_keyed else rnd.choice([count + 1, 5])
    items: list[Item] = []
    out_of_order = rnd.choice([0, 0, 3])
    deletes = rnd.choice([0.0, 0.0, 0.15]) if is_dedup else 0.0
    without_key = rnd.choice([0.0] * 30 + [0.1, 0.1, 1.0])
    twins = rnd.choice([0.0, 0.2, 0.5]) if has_twins and not is_keyed else 0.0
    for number in range(count):
        if items and rnd.random() < twins:
            items.append(rnd.choice(items[-6:]))
            continue
        has_key = not is_keyed or rnd.random() >= without_key
        version = max(0, number - (rnd.randint(0, out_of_order) if out_of_order else 0))
        items.append(
            Item(
                number,
                f"k{number % keys}" if has_key else None,
                version,
                place * _PER_STREAM + number,
                rnd.random() < deletes,
            )
        )
    return items


def _old(rnd: Random, vendor: VendorName, *, shares_keys: bool) -> list[Row]:
    rows: list[Row] = []
    for number in range(rnd.choice([0, 3, 3, 7])):
        is_shared = shares_keys and number == 0
        rows.append(
            {
                "id": "k0" if is_shared else f"o{number}",
                "name": f"old.{number}.0",
                "amount": -1 - number,
                "version": 0,
            }
        )
    return rows if vendor == "kore" else list({row["id"]: row for row in rows}.values())


def make_plan(seed: int, vendor: VendorName | None = None, kind: Kind | None = None) -> Plan:
    """Everything that a seed decides; `vendor` and `kind` narrow it."""
    rnd = Random(seed)
    vendors: tuple[VendorName, ...] = ("kore", "kore", "qobra")
    chosen = rnd.choice([vendor] if vendor else vendors)
    is_foreign = rnd.random() < 0.25
    slots = rnd.choice([1, 1, 2, 2, 3, 8])
    # which of equal rows are in is told by a count, which somebody else must not change
    has_twins = not is_foreign
    streams = []
    for place, name in enumerate(NAMES[: rnd.choice([1, 1, 2, 2, 3])]):
        is_of = rnd.choice([kind] if kind else KINDS)
        is_dedup = is_of in {"dedup", "refresh_dedup"}
        is_keyed = is_dedup or chosen == "qobra"
        items = _items(rnd, place, is_dedup=is_dedup, is_keyed=is_keyed, has_twins=has_twins)
        old = _old(rnd, chosen, shares_keys=is_keyed)
        streams.append(StreamPlan(name, is_of, chosen, items, old))
    amounts = [item.amount for stream in streams for item in stream.items]
    n_bad = rnd.choice([0, 0, 0, 0, 1, 2, 4])
    bad = frozenset(rnd.sample(amounts, min(n_bad, len(amounts))))
    limit, max_rows = rnd.choice([99, 99, 3, 2]), rnd.choice([1, 2, 4, 5, 8, 30])
    if chosen == "qobra" and rnd.random() < 0.8:
        limit = 99  # a load that cannot be sent in one request says so, and that is all
    switches, settings = _kore(rnd) if chosen == "kore" else _qobra(rnd)
    if switches.get("totals") and switches.get("reads"):
        for stream in streams:
            # fewer than a third of the load, which is told from it in a table that can be counted
            most = (len(stream.items) - len(bad) - 1) // 3
            if stream.kind == "refresh" and most > 0 and rnd.random() < 0.5:
                later = rnd.randint(1, most)
                stream.items, stream.later = stream.items[:-later], stream.items[-later:]
    plan = Plan(
        seed=seed,
        vendor=chosen,
        streams=streams,
        bad=bad,
        switches=switches,
        settings=settings,
        limit=limit,
        slots=slots,
        is_stepped=slots > 1 or rnd.random() < 0.3,
        max_rows=max_rows,
        policy="fail" if rnd.random() < (0.15 if bad else 0.4) else "skip",
        is_global=rnd.random() < 0.3,
        fault_share=rnd.choice([0.0, 0.05, 0.1, 0.3, 0.5]),
        most_faults=rnd.choice([1, 2, 3, 6]),
        is_foreign=is_foreign,
        ends=tuple(
            rnd.choice(["", "", "", "", "", "stop", "source fails", "platform fails"])
            for _ in range(3)
        ),
    )
    _vary(plan, Random(f"{seed} more"))
    return plan


def _vary(plan: Plan, rnd: Random) -> None:
    """What came later, from chances of its own: seeds stay what they were in all else."""
    if rnd.random() < 0.2:
        plan.slots, plan.is_stepped = 0, True
    if plan.vendor == "kore" and rnd.random() < 0.7:
        plan.few_rows = 2
        plan.switches |= {
            "dates": rnd.choice([*["plain"] * 3, *get_args(Dates)]),
            "tick_s": rnd.choice([0.3, 1.0, 7.0]),
        }
    for stream in plan.streams:
        if stream.is_keyed and (keys := rnd.choice([0, 1, 2, 3, 8])):
            stream.items = [
                replace(item, key=item.key and f"k{rnd.randrange(keys)}") for item in stream.items
            ]
        if not plan.fault_share and not any(plan.ends) and not plan.is_foreign:
            # a later attempt does not know the versions that an earlier one acknowledged
            back = rnd.choice([0, 5, 30])
            stream.items = [
                replace(item, version=max(0, item.version - rnd.randint(0, back)))
                for item in stream.items
            ]


def _kore(rnd: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    switches: dict[str, Any] = {
        "bulk": rnd.choice(["atomic", "ordered_partial", "skip_bad"]),
        "totals": rnd.random() < 0.9,
        "order": rnd.random() < 0.4,
        "delete_max": rnd.choice([None, None, None, 2, 1]),
        "reads": rnd.random() < 0.97,
    }
    settings: dict[str, Any] = {}
    if rnd.random() < 0.2:
        settings["on_ambiguous_write"] = "fail"
    if rnd.random() < 0.2:
        settings["replace_strategy"] = "delete_then_insert"
    return switches, settings


def _qobra(rnd: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    switches: dict[str, Any] = {
        "shares_id": rnd.random() < 0.6,
        "counts": rnd.choice(["whole", "part"]),
        "window": rnd.choice(["first", "last"]),
        "rejects": rnd.choice(["row", "row", "table"]),
        "delay_s": rnd.choice([0.1, 1.0, 20.0, 90.0]),
        "stack_s": rnd.choice([0.0, 0.0, 5.0]),
        "jitter": rnd.random() < 0.5,
        "unknown_for_s": rnd.choice([0.0, 0.0, 5.0]),
    }
    if switches["stack_s"]:
        # ids of their own that each count or blame the whole of what joined by chance tell nothing
        switches["shares_id"] = True
    settings = {"debounce_seconds": rnd.choice([40, 120])} if rnd.random() < 0.3 else {}
    return switches, settings
