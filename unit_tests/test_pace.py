"""How many requests are under way, with a vendor in simulated time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count, pairwise
from random import Random

import pytest

from destination_bulk_tables.exchange import Tally
from destination_bulk_tables.lanes import Tracked
from destination_bulk_tables.model import Batch, BatchResult, RowBlock, StreamKey
from destination_bulk_tables.pace import MOST, Pace
from unit_tests.syncs import sync

BACKOFF_S = 0.5


class Simulation:
    """Sends requests as the pace allows; `answer_s`: how long one takes beside so many others."""

    def __init__(self, pace: Pace, answer_s: Callable[[int], float], most: int = 99) -> None:
        self.pace, self.answer_s, self.most = pace, answer_s, most
        self.refused = self.sent = 0
        self.highest = 0
        self.now = 0.0

    def run(self, requests: int) -> float:
        """The time that all requests take, and each that was refused once more."""
        paused_until = 0.0
        left, flying = requests, 0
        ends: list[tuple[float, float, bool]] = []
        while left or ends:
            while left and flying < self.pace.limit and self.now >= paused_until:
                flying += 1
                left -= 1
                self.sent += 1
                self.highest = max(self.highest, flying)
                is_refused = flying > self.most
                took_s = 0.01 if is_refused else self.answer_s(flying)
                heapq.heappush(ends, (self.now + took_s, self.now, is_refused))
            if ends and (self.now >= paused_until or not left or ends[0][0] < paused_until):
                self.now, started, is_refused = heapq.heappop(ends)
                if is_refused:
                    self.refused += 1
                    left += 1
                    paused_until = self.now + BACKOFF_S
                    self.pace.push_back(started, self.now)
                else:
                    is_used = flying >= self.pace.limit
                    self.pace.learn(self.now - started, started, self.now, is_used=is_used)
                flying -= 1
            else:
                self.now = max(self.now, paused_until)
        return self.now


def best_fixed_s(answer_s: Callable[[int], float], most: int, requests: int) -> float:
    """The time of the best number that could be set."""
    limits = range(1, min(MOST, most) + 1)
    return min(Simulation(Pace(n, is_fixed=True), answer_s, most).run(requests) for n in limits)


VENDORS = {
    "takes eight": (lambda _: 0.5, 99),
    "answers 429 above three": (lambda _: 0.1, 3),
    "answers 429 above five": (lambda _: 0.1, 5),
    "answers 429 above one": (lambda _: 0.1, 1),
    "queues above three": (lambda n: 0.1 * max(1.0, n / 3), 99),
    "slows down above three": (lambda n: 0.1 * max(1.0, n / 3) ** 2, 99),
    "slows down above three, far away": (lambda n: 0.5 * max(1.0, n / 3) ** 2, 99),
}


@pytest.mark.parametrize("name", VENDORS)
def test_the_pace_comes_near_the_best_number_that_could_be_set(name: str) -> None:
    """At least nine tenths of its speed over 600 requests, and few refusals on the way."""
    answer_s, most = VENDORS[name]
    found = Simulation(Pace(), answer_s, most)
    assert best_fixed_s(answer_s, most, 600) / found.run(600) >= 0.9
    assert found.refused <= 0.02 * found.sent
    assert found.highest <= MOST


class Harsh:
    """Requests that are tried again after a back-off and keep their slot meanwhile.

    `answer`: seconds and whether it was taken, by the time, how many the vendor has at a time, and
    the size.
    """

    def __init__(
        self,
        pace: Pace,
        answer: Callable[[float, int, int, Random], tuple[float, bool]],
        size: Callable[[int], int] = lambda _: 1000,
    ) -> None:
        self.pace, self.answer, self.size = pace, answer, size
        self.refused = self.sent = 0

    def run(self, requests: int) -> float:
        """The time until each was taken."""
        random, numbers = Random(5), count()
        now, waiting, active, begun = 0.0, 0, 0, 0
        # when; then what ends there: (is sent, started, size, tries)
        events: list[tuple[float, int, bool, float, int, int]] = []
        while begun < requests or events:
            while begun < requests and waiting + active < self.pace.limit:
                begun += 1
                waiting += 1
                event = (now, next(numbers), False, now, self.size(begun), 0)
                heapq.heappush(events, event)
            now, _, is_sent, started, size, tries = heapq.heappop(events)
            if not is_sent:
                waiting -= 1
                active += 1
                self.sent += 1
                took_s, is_taken = self.answer(now, active, size, random)
                tries = tries + 1 if not is_taken else -tries
                heapq.heappush(events, (now + took_s, next(numbers), True, now, size, tries))
                continue
            is_used = active >= self.pace.limit
            active -= 1
            if tries > 0:
                self.refused += 1
                waiting += 1
                self.pace.push_back(started, now)
                later = now + random.random() * min(30.0, 0.5 * 2**tries)
                heapq.heappush(events, (later, next(numbers), False, later, size, tries))
            elif not tries:
                self.pace.learn(now - started, started, now, is_used=is_used, n_bytes=size)
        return now


# the vendor, the best number that could be set, and how near to it the pace must come
HARSH: dict[str, tuple[Callable[[float, int, int, Random], tuple[float, bool]], int, float]] = {
    "refuses above three": (lambda _, n, *__: (0.1, True) if n <= 3 else (0.01, False), 3, 0.9),
    "drops connections above four": (
        lambda _, n, *__: (0.1, True) if n <= 4 else (0.001, False),
        4,
        0.9,
    ),
    "is away for ten seconds": (
        lambda t, *_: (0.02, False) if 5 < t < 15 else (0.1, True),
        8,
        0.85,
    ),
    "is away in bursts": (
        lambda t, *_: (0.02, False) if 20 < t % 60 < 25 else (0.1, True),
        8,
        0.75,
    ),
    "loses one of a hundred": (
        lambda *a: (0.05, False) if a[3].random() < 0.01 else (0.1, True),
        8,
        0.7,
    ),
    "takes fewer after a while": (
        lambda t, n, *_: (0.1, True) if n <= (8 if t < 10 else 3) else (0.01, False),
        3,
        0.9,
    ),
    "grows slower": (lambda t, *_: (0.1 + 0.005 * t, True), 8, 0.9),
    "is slow now and then": (lambda *a: (a[3].choice([0.1] * 5 + [0.3]), True), 8, 0.55),
    "is slow by chance": (lambda *a: (0.1 * a[3].lognormvariate(0, 0.6), True), 8, 0.55),
}


@pytest.mark.parametrize("name", HARSH)
def test_the_pace_comes_through_what_real_vendors_do(name: str) -> None:
    """It does not end at a single request where that is not the best number."""
    answer, best, least = HARSH[name]
    found = Harsh(Pace(), answer)
    best_s = Harsh(Pace(best, is_fixed=True), answer).run(3000)
    assert best_s / found.run(3000) >= least
    assert found.pace.limit >= best / 2


@pytest.mark.parametrize(
    "size",
    [
        lambda i: 1000 if i < 300 else 4000,
        lambda i: 1000 if (i // 20) % 2 else 4000,
        lambda i: Random(i).choice([1000, 2000, 4000, 8000]),
    ],
    ids=["grow", "alternate", "differ"],
)
def test_larger_requests_take_longer_and_are_no_congestion(size: Callable[[int], int]) -> None:
    """An answer is compared with those to requests of its size."""
    found = Harsh(Pace(), lambda _, __, size, ___: (size / 10_000, True), size)
    best = Harsh(Pace(8, is_fixed=True), found.answer, size)
    assert best.run(1500) / found.run(1500) >= 0.9


def test_a_request_that_is_tried_again_is_no_load() -> None:
    """What came back while it waited does not show that the vendor takes as many."""
    done = sync("kore", "append", [], slots=0)
    lane = done.lanes[StreamKey(None, "deals")]
    settling = done.engine()._dispatch.settling
    for retries in (1, 0):
        limits = []
        lane.pace = Pace()
        for number in range(2):
            batch = Batch(number, lane.plan.table, RowBlock((), 0, []), "rows")
            other = Batch(9, lane.plan.table, RowBlock((), 0, []), "rows")
            lane.in_flight = {batch.id: batch, other.id: other}
            lane.tracked = {batch.id: Tracked(batch), other.id: Tracked(other)}
            lane.tracked[other.id].tally.retries = retries
            result = BatchResult(batch, requests=1, started_at=float(number))
            settling._learn(lane, result, Tally(answer_s=0.1), number + 0.1)
            limits.append(lane.pace.limit)
        assert limits == ([2, 2] if retries else [2, 4])


def test_answers_of_no_time_are_as_quick_as_usual() -> None:
    """A clock may not tell them from each other."""
    found = Simulation(Pace(), lambda _: 0.0)
    found.run(100)
    assert found.pace.limit == MOST


def test_a_number_that_is_set_is_kept() -> None:
    """Whatever the vendor answers."""
    fixed = Simulation(Pace(6, is_fixed=True), lambda n: 0.1 * n, 3)
    fixed.run(50)
    assert (fixed.pace.limit, fixed.highest) == (6, 6)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_found_number_stays_below_its_bound(most: int) -> None:
    """Quick answers raise it no further."""
    found = Simulation(Pace(most), lambda _: 0.1)
    found.run(200)
    assert (found.pace.limit, found.highest) == (most, most)


def answer(
    pace: Pace, number: int, at: float, *, is_used: bool = True, took_s: float = 0.1
) -> None:
    """Learn of so many full batches that were sent and answered after everything before."""
    for _ in range(number):
        pace.learn(took_s, at, at + took_s, is_used=is_used)


def test_a_new_table_is_given_twice_as_many_after_each_round() -> None:
    """A round has as many answers as were allowed; one less tells nothing yet."""
    pace = Pace()
    for at, limit in ((1.0, 2), (2.0, 4)):
        answer(pace, limit - 1, at)
        assert pace.limit == limit
        answer(pace, 1, at)
        assert pace.limit == 2 * limit


@pytest.mark.parametrize(("took_s", "limit"), [(0.114, 8), (0.116, 5), (0.149, 5)])
def test_answers_that_are_a_little_slower_end_the_doubling(took_s: float, limit: int) -> None:
    """Twice as many would be far too many, where four are nearly that."""
    pace = Pace()
    answer(pace, 2, 1.0)
    answer(pace, 4, 2.0, took_s=took_s)
    assert pace.limit == limit


@pytest.mark.parametrize(("usual_s", "noise_s", "slow_s"), [(0.02, 0.06, 0.09), (1.0, 1.3, 1.31)])
def test_answers_that_are_a_little_slower_are_noise(
    usual_s: float, noise_s: float, slow_s: float
) -> None:
    """Quick ones by what threads and network add, slow ones by a share of their time."""
    for took_s, limit in ((noise_s, 2), (slow_s, 1)):
        pace = Pace()
        answer(pace, 2, 10.0, took_s=usual_s, is_used=False)
        answer(pace, 2, 20.0, took_s=took_s, is_used=False)
        assert pace.limit == limit


@pytest.mark.parametrize(("later_s", "limits"), [(0.91, [4, 5]), (0.9, [2, 3])])
def test_what_was_slow_with_fewer_as_well_is_allowed_again(
    later_s: float, limits: list[int]
) -> None:
    """At once and with more to come; where fewer are a tenth quicker, still fewer are tried."""
    pace = Pace()
    answer(pace, 2, 1.0)
    answer(pace, 4, 10.0, took_s=1.0)
    assert pace.limit == 3
    answer(pace, 3, 20.0, took_s=later_s)
    assert pace.limit == limits[0]
    answer(pace, 4, 30.0, took_s=later_s)
    assert pace.limit == limits[1]


def test_the_usual_follows_a_vendor_that_grows_slower() -> None:
    """Bit by bit, so that each round is compared with what was usual just before."""
    pace = Pace()
    for at, took_s in ((10.0, 1.0), (20.0, 1.2), (30.0, 1.35)):
        answer(pace, 2, at, took_s=took_s, is_used=False)
    assert pace.limit == 2


def test_at_its_bound_a_round_counts_what_is_under_way() -> None:
    """Nothing changed by the round before it."""
    pace = Pace(2)
    answer(pace, 2, 1.0)
    answer(pace, 2, 1.05, took_s=1.0)
    assert pace.limit == 1


def test_a_single_request_that_is_slow_holds_nothing() -> None:
    """There are no fewer, so its time becomes the usual one."""
    pace = Pace(2)
    answer(pace, 2, 1.0)
    pace.push_back(2.0, 3.0)
    answer(pace, 1, 100.0, took_s=0.5, is_used=False)
    answer(pace, 1, 101.0)
    assert pace.limit == 2


def test_one_quick_round_makes_the_usual_no_sign_of_too_much() -> None:
    """What is usual follows slowly: a round that was quick by chance is one of many."""
    pace = Pace()
    for at, took_s in ((10.0, 1.0), (20.0, 0.75), (30.0, 1.15)):
        answer(pace, 2, at, took_s=took_s, is_used=False)
    assert pace.limit == 2


def test_a_refusal_begins_a_round_anew() -> None:
    """What was answered before it says nothing of the lower number."""
    pace = Pace()
    answer(pace, 2, 1.0)
    answer(pace, 4, 2.0)
    answer(pace, 5, 3.0)
    pace.push_back(3.0, 4.0)
    assert pace.limit == 6
    answer(pace, 5, 5.0)
    assert pace.limit == 6
    answer(pace, 1, 5.0)
    assert pace.limit == 7


def test_one_request_is_always_allowed() -> None:
    """Also where a single one was refused, and answers come while that is held against it."""
    pace = Pace(1)
    pace.push_back(1.0, 2.0)
    answer(pace, 3, 3.0)
    assert pace.limit == 1


def test_nothing_is_learnt_from_answers_that_did_not_need_the_limit() -> None:
    """A source that is slower than the vendor leaves the number as it is."""
    pace = Pace()
    for i in range(50):
        pace.learn(0.1, float(i), i + 0.1, is_used=False)
    assert pace.limit == 2


def test_one_burst_of_refusals_counts_once() -> None:
    """Requests that left before the change tell nothing about the new number."""
    pace = Pace()
    for i in range(40):
        pace.learn(0.1, float(i), i + 0.1, is_used=True)
    assert pace.limit == MOST
    for started in (50.0, 50.1, 50.2):
        pace.push_back(started, 51.0)
    assert pace.limit == 6
    pace.push_back(51.5, 52.0)
    assert pace.limit == 4


def test_what_was_too_much_is_tried_again_later() -> None:
    """Not at once, and after the next refusal twice as late."""
    pace = Pace()
    raised: list[float] = []
    now = 0.0
    while now < 400:
        before = pace.limit
        pace.learn(0.1, now, now + 0.1, is_used=True)
        now += 0.1
        if pace.limit > 3 and before <= 3:
            raised.append(now)
            pace.push_back(now + 0.1, now + 0.2)
            assert pace.limit == 3
            now += 0.2
    gaps = [late - early for early, late in pairwise(raised)]
    assert len(gaps) >= 3
    assert all(1.5 * early < late < 2.5 * early for early, late in pairwise(gaps))


def test_a_vendor_that_becomes_slow_for_good_is_given_as_many_as_before() -> None:
    """Fewer are no quicker then, so their number was not the cause."""
    pace = Pace()
    for i in range(400):
        pace.learn(0.1 if i < 40 else 0.5, float(i), i + 0.5, is_used=True)
    assert pace.limit == MOST
