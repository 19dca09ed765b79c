"""How many requests of a table may be under way: a number that was set, or one that is found.

Found means: twice as many after each round of answers until a sign that it is too much, then one
more at a time; fewer by a quarter on 429, 503, a timeout, or answers that take clearly longer. What
was too much is not tried again for a while, and for longer each time. Only answers to full batches
are compared: a small one is quick whatever else is under way. Engine thread only.

Source: https://github.com/vectordotdev/vector/tree/master/src/sinks/util/adaptive_concurrency
(read 2026-11-28), for the idea: rounds as long as an answer, and no increase that nobody used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MOST = 8
FIRST = 2
_DECREASE = 0.75
_SLOWER = 1.3
_QUICKER = 0.9
_NOISE_S = 0.05  # what our own threads and the network add and take
_HOLD_S = 30.0
_LONGEST_HOLD_S = 600.0
_WEIGHT = 0.3


@dataclass(slots=True)
class Pace:
    """The limit of one table; `most` is what it never exceeds."""

    most: int = MOST
    is_fixed: bool = False
    limit: int = field(init=False)
    _is_starting: bool = True
    _usual_s: float | None = None
    _changed_at: float = float("-inf")
    _too_many: int = MOST  # not tried again until then:
    _held_until: float = float("-inf")
    _hold_s: float = _HOLD_S
    _n_answers: int = 0
    _total_s: float = 0.0
    _was_used: bool = False
    _slow: tuple[int, float] | None = None  # the limit that was slow just now, and its answers

    def __post_init__(self) -> None:
        self.limit = self.most if self.is_fixed else min(FIRST, self.most)

    def push_back(self, started_at: float | None, now: float) -> None:
        """The vendor answered that it is busy, or not at all; the attempt began at `started_at`."""
        if not self.is_fixed and started_at is not None and started_at > self._changed_at:
            self._lower(now)

    def learn(self, answer_s: float, started_at: float, now: float, *, is_used: bool) -> None:
        """A full batch was answered. `is_used`: as many as allowed were under way."""
        if self.is_fixed or started_at < self._changed_at:
            return
        self._n_answers += 1
        self._total_s += answer_s
        self._was_used = self._was_used or is_used
        if self._n_answers >= self.limit:
            self._judge(self._total_s / self._n_answers, now)

    def _judge(self, mean_s: float, now: float) -> None:
        usual_s = mean_s if self._usual_s is None else self._usual_s
        slow, self._slow = self._slow, None
        if slow is not None and mean_s > slow[1] * _QUICKER:
            # fewer are no quicker, so their number is not what slows them
            self.limit, self._usual_s, self._changed_at = slow[0], mean_s, now
            self._held_until = now
        elif self.limit > 1 and mean_s > max(usual_s * _SLOWER, usual_s + _NOISE_S):
            self._slow = (self.limit, mean_s)
            self._lower(now)
            self._changed_at = now + mean_s  # when those that are under way have ended
        else:
            self._usual_s = usual_s + _WEIGHT * (mean_s - usual_s)
            if self._was_used:
                self._raise(now)
        self._begin_round()

    def _raise(self, now: float) -> None:
        most = self.most if now >= self._held_until else min(self.most, self._too_many - 1)
        wanted = self.limit * 2 if self._is_starting else self.limit + 1
        if min(most, wanted) > self.limit:
            self.limit = min(most, wanted)
            self._changed_at = now

    def _lower(self, now: float) -> None:
        self._is_starting = False
        self._too_many = self.limit
        self._held_until = now + self._hold_s
        self._hold_s = min(_LONGEST_HOLD_S, self._hold_s * 2)
        self.limit = max(1, int(self.limit * _DECREASE))
        self._changed_at = now
        self._begin_round()

    def _begin_round(self) -> None:
        self._n_answers, self._total_s, self._was_used = 0, 0.0, False
