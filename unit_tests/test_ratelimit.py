"""Invariant 6: in any window at most so many requests leave, whatever the attempt is for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from destination_bulk_tables.ratelimit import MARGIN, WindowLimiter

Windows = list[tuple[int, float]]
windows_of = st.lists(st.tuples(st.integers(1, 6), st.floats(0.5, 60)), max_size=3)
gaps = st.lists(st.floats(0, 20), min_size=1, max_size=60)


def drive(limiter: WindowLimiter, gaps_s: list[float]) -> tuple[list[float], list[float]]:
    """Ask under a fake clock until each request may leave: when it was wanted, when it left."""
    now = 0.0
    wanted, left = [], []
    for gap in gaps_s:
        now += gap
        wanted.append(now)
        for _ in range(50):
            wait = limiter.reserve(now)
            if not wait:
                break
            assert wait > 0
            now += max(wait, 1e-9)
        else:
            raise AssertionError("a wait that ends nothing")
        left.append(now)
    return wanted, left


@given(windows=windows_of, gaps_s=gaps)
def test_no_window_holds_more_than_its_requests(windows: Windows, gaps_s: list[float]) -> None:
    """Whichever request a window starts at, it holds at most the allowed number."""
    _, left = drive(WindowLimiter(windows), gaps_s)
    for requests, seconds in windows:
        for first, beyond in zip(left, left[requests:], strict=False):
            assert beyond - first >= seconds


@given(windows=windows_of, gaps_s=gaps)
def test_nobody_waits_longer_than_the_windows_ask(windows: Windows, gaps_s: list[float]) -> None:
    """A request leaves at the first moment at which no window is full."""
    wanted, left = drive(WindowLimiter(windows), gaps_s)
    for i, (want, leave) in enumerate(zip(wanted, left, strict=True)):
        bounds = [left[i - n] + s * MARGIN for n, s in windows if i >= n]
        assert leave <= max([want, *bounds]) + 1e-6


def test_a_refused_request_takes_no_slot() -> None:
    """Asking while the window is full does not push the next slot away."""
    limiter = WindowLimiter([(1, 10.0)])
    assert limiter.reserve(0.0) == 0.0
    waits = [limiter.reserve(5.0), limiter.reserve(5.0)]
    assert waits[0] == waits[1] == 10.0 * MARGIN - 5.0
    assert limiter.reserve(10.0 * MARGIN) == 0.0


def test_without_windows_everything_leaves_at_once() -> None:
    """A vendor without limits is not slowed down."""
    limiter = WindowLimiter([])
    assert [limiter.reserve(0.0) for _ in range(100)] == [0.0] * 100


def test_a_pause_holds_everything_until_its_end() -> None:
    """A Retry-After counts for the whole table, and a shorter one does not end it early."""
    limiter = WindowLimiter([])
    limiter.pause(30.0)
    limiter.pause(10.0)
    assert limiter.reserve(0.0) == 30.0
    assert limiter.reserve(29.0) == 1.0
    assert limiter.reserve(30.0) == 0.0


@given(windows=windows_of, gaps_s=gaps, until=st.floats(0, 100))
def test_a_pause_and_windows_hold_together(
    windows: Windows, gaps_s: list[float], until: float
) -> None:
    """With a pause nothing leaves early, and the windows still hold after it."""
    limiter = WindowLimiter(windows)
    limiter.pause(until)
    _, left = drive(limiter, gaps_s)
    assert left[0] >= until
    for requests, seconds in windows:
        for first, beyond in zip(left, left[requests:], strict=False):
            assert beyond - first >= seconds
