"""Random jobs with random faults: some seeds of each kind of stream in every run.

FUZZ_FIRST and FUZZ_SYNCS choose other seeds and more of them; `python -m unit_tests.fuzz` plays
thousands. A finding names its seed, and `python -m unit_tests.fuzz --first SEED --syncs 1` with the
same vendor and kind plays it again.
"""

from __future__ import annotations

import os
from typing import get_args

import pytest

from unit_tests.fuzz.__main__ import run, tell
from unit_tests.fuzz.job import play, warnings_kept
from unit_tests.fuzz.plan import Kind, VendorName

FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
SYNCS = int(os.environ.get("FUZZ_SYNCS", "80"))


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("vendor", get_args(VendorName))
def test_no_row_is_lost_or_doubled_and_no_table_emptied(vendor: VendorName, kind: Kind) -> None:
    """No early state, no torn table, the newest version of each key, and every job ends well."""
    totals, wrong = run(FIRST, SYNCS, vendor=vendor, kind=kind)
    assert not wrong, "\n".join(map(tell, wrong[:3]))
    assert totals["ends with success"] > SYNCS / 4, (
        "too few succeed to show much (chance, where FUZZ_SYNCS is small)"
    )


def test_streams_of_every_kind_in_one_job() -> None:
    """A job whose streams are appended, deduplicated and replaced in one sync."""
    _, wrong = run(FIRST, SYNCS * 3)
    assert not wrong, "\n".join(map(tell, wrong[:3]))


def test_a_seed_decides_everything() -> None:
    """The same seed plays the same job, to the last request."""
    with warnings_kept() as warnings:
        assert play(5, warnings).log == play(5, warnings).log
