"""How many requests of a table may be under way: a number that was set, or one that is found.

Found means: twice as many after each round of answers until a sign that it may be too much, then
one more at a time; fewer by a quarter on 429, 503, a broken connection, a timeout, or answers that
take clearly longer. A number that was never fine is to blame for that, and is not tried again for a
while, and for longer each time; one that was fine before only when it fails again and again, since
what happened may pass, as does an outage, in which fewer are refused as well. Only answers to full
batches are compared, each with those of its size: a small one is quick whatever else is under way.
Engine thread only.

Source: https://github.com/vectordotdev/vector/tree/master/src/sinks/util/adaptive_concurrency
(read 2026-11-28), for the idea: rounds as long as an answer, and no increase that nobody used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MOST = 8
FIRST = 2
_DECREASE = 0.75
_SLOWER = 0.3
_QUICKER = 0.9
_NOISE_S = 0.05  # what our own threads and the network add and take
_TICK_S = 1e-6  # no answer is quicker
_HOLD_S = 30.0
_LONGEST_HOLD_S = 600.0
_WEIGHT = 0.3
_FORGETTING = 0.03
_STRIKES = 3  # so often in a row a limit that was fine before is too much, to be to blame
_CERTAIN = 3.0  # standard errors of a round's mean


@dataclass(slots=True)
class Pace:
    """The limit of one table; `most` is what it never exceeds."""

    most: int = MOST
    is_fixed: bool = False
    limit: int = field(init=False)
    _is_starting: bool = True
    # seconds that an answer takes, by the size of its request, and how far single ones are from it
    _usual: dict[int, float] = field(default_factory=dict)
    _spread: float = 0.0
    _changed_at: float = float("-inf")
    _most_fine: int = 0  # the highest limit that a round of answers was fine with
    _suspect: int = MOST  # the limit that was too much so many times, and not fine since:
    _strikes: int = 0
    _too_many: int = MOST  # not tried again until then:
    _held_until: float = float("-inf")
    _hold_s: float = _HOLD_S
    _is_refused: bool = False  # no answer has come since the limit was lowered
    _answers: list[tuple[int, float]] = field(default_factory=list)  # of this round: size, seconds
    _was_used: bool = False
    _slow: tuple[int, float] | None = None  # the limit that was slow just now, and how slow

    def __post_init__(self) -> None:
        self.limit = self.most if self.is_fixed else min(FIRST, self.most)

    def push_back(self, started_at: float | None, now: float) -> None:
        """The vendor answered that it is busy, or not at all; the attempt began at `started_at`."""
        if self.is_fixed or started_at is None or started_at <= self._changed_at:
            return
        if self._is_refused and self.limit <= self._most_fine:
            # fewer get no answer either, which were fine before: it may not be their number
            self._set(self._fewer(), now)
        else:
            self._lower(now, strikes=_STRIKES)
            self._is_refused = True

    def learn(
        self, answer_s: float, started_at: float, now: float, *, is_used: bool, n_bytes: int = 0
    ) -> None:
        """A full batch was answered. `is_used`: as many as allowed were under way."""
        if self.is_fixed or started_at < self._changed_at:
            return
        self._is_refused = False
        self._answers.append((n_bytes.bit_length(), answer_s))
        self._was_used = self._was_used or is_used
        if len(self._answers) >= self.limit:
            self._judge(now)

    def _judge(self, now: float) -> None:
        means = self._means()
        expected = [self._usual.get(size, means[size]) for size, _ in self._answers]
        n_answers = len(expected)
        mean_s = sum([answer_s for _, answer_s in self._answers]) / n_answers
        usual_s = max(sum(expected) / n_answers, _TICK_S)
        slowness = mean_s / usual_s
        chance = _CERTAIN * self._spread / n_answers**0.5
        slow, self._slow = self._slow, None
        if slow is not None and slowness > slow[1] * _QUICKER:
            # fewer are no quicker, so their number is not what slows them
            self._usual.update(means)
            self._held_until = now
            self._set(slow[0], now)
        elif self.limit > 1 and slowness > 1 + max(_SLOWER, _NOISE_S / usual_s, chance):
            self._slow = (self.limit, slowness)
            self._lower(now, strikes=1 if chance < _SLOWER else _STRIKES)
            self._changed_at = now + mean_s  # when those that are under way have ended
        else:
            self._learn_usual(means, expected)
            if slowness > 1 + max(_SLOWER / 2, chance):
                self._is_starting = False  # near the limit: twice as many would be far beyond it
            if self._was_used:
                if self.limit >= self._too_many:
                    self._hold_s = _HOLD_S
                if self.limit >= self._suspect:
                    self._strikes = 0
                self._most_fine = max(self._most_fine, self.limit)
                self._raise(now)
            self._begin_round()

    def _means(self) -> dict[int, float]:
        """Seconds that the answers of this round took, by size."""
        sizes: dict[int, list[float]] = {}
        for size, answer_s in self._answers:
            sizes.setdefault(size, []).append(answer_s)
        return {size: sum(seconds) / len(seconds) for size, seconds in sizes.items()}

    def _learn_usual(self, means: dict[int, float], expected: list[float]) -> None:
        off = [
            abs(answer_s - usual_s) / max(usual_s, _TICK_S)
            for (_, answer_s), usual_s in zip(self._answers, expected, strict=True)
        ]
        change = sum(off) / len(off) - self._spread
        # a few rounds without a slow answer do not make a vendor regular
        self._spread += (_WEIGHT if change > 0 else _FORGETTING) * change
        for size, mean_s in means.items():
            usual_s = self._usual.get(size, mean_s)
            self._usual[size] = usual_s + _WEIGHT * (mean_s - usual_s)

    def _raise(self, now: float) -> None:
        most = self.most if now >= self._held_until else min(self.most, self._too_many - 1)
        wanted = self.limit * 2 if self._is_starting else self.limit + 1
        if min(most, wanted) > self.limit:
            self._set(min(most, wanted), now)

    def _lower(self, now: float, strikes: int) -> None:
        self._is_starting = False
        self._strikes = self._strikes + 1 if self.limit == self._suspect else 1
        self._suspect = self.limit
        if self.limit > self._most_fine or self._strikes >= strikes:
            if self.limit < self._too_many:  # another number than the last
                self._hold_s = _HOLD_S
            self._too_many = self.limit
            self._held_until = now + self._hold_s
            self._hold_s = min(_LONGEST_HOLD_S, self._hold_s * 2)
        self._set(self._fewer(), now)

    def _fewer(self) -> int:
        return max(1, int(self.limit * _DECREASE))

    def _set(self, limit: int, now: float) -> None:
        self.limit, self._changed_at = limit, now
        self._begin_round()

    def _begin_round(self) -> None:
        self._answers, self._was_used = [], False
