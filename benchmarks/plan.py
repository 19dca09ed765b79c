"""Which cases one run measures, and the six targets they are judged by.

A target compares two cases of the same round, and the median over the rounds is what counts.
Per-record CPU is CPU less that of the same command's empty sync in the same round.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.measure import Case, Sample

PROVIDERS = ("qobra", "kore")
Round = dict[Case, Sample]
OURS, ORDINARY, RIVAL, FLOOR = (Case(name) for name in ("ours", "ordinary", "rival", "floor"))
SPEC = replace(OURS, rows=0, is_spec=True)


def both(case: Case) -> tuple[Case, Case]:
    """Take the case to Qobra and to Kore.ai."""
    return replace(case, provider="qobra"), replace(case, provider="kore")


def million(case: Case) -> Case:
    """Make it a million rows, in batches large enough for Kore.ai's 600 requests a minute."""
    return replace(case, rows=1_000_000, max_rows=5_000)


def start_up(case: Case) -> Case:
    """Name the empty sync of the same command."""
    is_floor = case.contender == "floor"
    return Case(case.contender, case.provider, mode="append" if is_floor else case.mode, rows=0)


def cases(*, is_quick: bool) -> list[Case]:
    """All cases, each after the empty sync its CPU is compared with."""
    plan = list(_plan())
    if is_quick:
        shapes = {"mixed", "converted", "huge"}
        plan = [
            case
            for case in plan
            if case.rows <= 300_000
            and case.shape in shapes
            and case.contender != "rival"
            and case.delay_ms != 20
        ]
    empty = [start_up(case) for case in plan]
    return list(dict.fromkeys([SPEC, *empty, *plan]))


def _plan() -> Iterator[Case]:
    yield FLOOR
    for contender in (ORDINARY, RIVAL, OURS):
        yield from both(contender)
    yield replace(OURS, mode="append_dedup")
    yield from both(replace(OURS, mode="overwrite"))
    yield from both(replace(OURS, state_every=100))
    for shape in ("narrow", "wide", "converted"):
        yield replace(FLOOR, shape=shape)
        for contender in (ORDINARY, RIVAL, OURS):
            yield from both(replace(contender, shape=shape))
    for delay_ms in (20, 100):
        for contender in (ORDINARY, RIVAL, OURS):
            yield from both(replace(contender, delay_ms=delay_ms))
    yield from both(replace(OURS, delay_ms=100, slots=4))
    yield million(FLOOR)
    for case in (OURS, replace(OURS, mode="overwrite")):
        yield from both(million(case))
    for provider in PROVIDERS:
        yield from (_keyed(provider), replace(_keyed(provider), mode="append_dedup"))
    yield from both(replace(OURS, max_rows=5_000))
    yield from both(replace(OURS, shape="huge", rows=2_000, state_every=100))


def _keyed(provider: str) -> Case:
    """Rows with 25 % repeated keys; at Kore.ai few enough for one minute's 600 requests."""
    case = replace(million(OURS), shape="keyed", provider=provider)
    return case if provider == "qobra" else replace(case, rows=300_000)


def net_cpu_s(round_: Round, case: Case) -> float:
    """CPU of one case without start-up."""
    return round_[case].cpu_s - round_[start_up(case)].cpu_s


def _cpu(ours: Case, other: Case) -> Callable[[Round], float]:
    return lambda round_: net_cpu_s(round_, ours) / net_cpu_s(round_, other)


def _wall(ours: Case, other: Case) -> Callable[[Round], float]:
    return lambda round_: round_[ours].wall_s / round_[other].wall_s


def _rss(case: Case) -> Callable[[Round], float]:
    return lambda round_: round_[case].rss_mb


@dataclass(frozen=True, slots=True)
class Target:
    """One measurable sentence of a target: `value` of a round is at most `limit`."""

    name: str
    needs: tuple[Case, ...]
    value: Callable[[Round], float]
    limit: float
    unit: str = ""

    def measured(self, rounds: list[Round]) -> float | None:
        """Take the median of all rounds that hold what it needs; None where none does."""
        needs = {*self.needs, *map(start_up, self.needs)}
        values = [self.value(round_) for round_ in rounds if needs <= round_.keys()]
        return median(values) if values else None


def targets() -> Iterator[Target]:
    """Yield them in the order of their numbers."""
    for provider in PROVIDERS:
        ours, ordinary = (replace(case, provider=provider) for case in (OURS, ORDINARY))

        def compare(name: str, a: Case, b: Case, limit: float) -> Target:
            return Target(name.format(provider), (a, b), _cpu(a, b), limit)  # noqa: B023

        yield compare("1 {}: CPU per record / ordinary, 10 columns", ours, ordinary, 1 / 5)
        a, b = (replace(case, shape="converted") for case in (ours, ordinary))
        yield compare("1 {}: CPU per record / ordinary, conversions", a, b, 1 / 3)
        # Kore.ai has no boolean column, so only the narrow rows go to it as they came
        shape = "mixed" if provider == "qobra" else "narrow"
        a, b = replace(ours, shape=shape), replace(FLOOR, shape=shape)
        yield compare(f"1 {{}}: CPU per record / floor, {shape} (pass-through)", a, b, 1.7)
        a, b = (replace(case, delay_ms=100) for case in (ours, ordinary))
        yield Target(f"2 {provider}: wall / ordinary, 100 ms per POST", (a, b), _wall(a, b), 1 / 3)
        a = replace(a, slots=4)
        yield Target(
            f"2 {provider}: wall / ordinary, 100 ms per POST, 4 slots", (a, b), _wall(a, b), 1 / 3
        )
        yield Target(
            f"2 {provider}: slots left idle, 100 ms per POST",
            (a,),
            lambda round_, a=a: (a.slots or 2) - round_[a].most_in_flight,  # type: ignore[misc]
            0,
        )
        small, large = replace(ours, max_rows=5_000), million(ours)
        yield Target(f"3 {provider}: peak RSS, 1,000,000 rows", (large,), _rss(large), 200, " MB")
        yield Target(
            f"3 {provider}: RSS 1,000,000 / 300,000 rows",
            (large, small),
            lambda round_, a=large, b=small: round_[a].rss_mb / round_[b].rss_mb,  # type: ignore[misc]
            1.10,
        )
        huge = replace(ours, shape="huge", rows=2_000, state_every=100)
        yield Target(f"3 {provider}: peak RSS, 100 KB rows", (huge,), _rss(huge), 300, " MB")
        spooled = replace(large, mode="overwrite")
        yield Target(f"3 {provider}: peak RSS, overwrite", (spooled,), _rss(spooled), 200, " MB")
        often = replace(ours, state_every=100)
        yield compare("4 {}: CPU, STATE every 100 / 10,000", often, ours, 1.15)
        yield Target(
            f"4 {provider}: requests, STATE every 100 / 10,000",
            (often, ours),
            lambda round_, a=often, b=ours: round_[a].requests / round_[b].requests,  # type: ignore[misc]
            1.0,
        )
        yield compare("5 {}: CPU, 1,000,000 / 300,000 rows", large, small, 3.33 * 1.10)
        keyed = _keyed(provider)
        dedup = replace(keyed, mode="append_dedup")
        yield compare("6 {}: CPU, append_dedup / append, 25 % repeated keys", dedup, keyed, 2.0)
