"""The probe gives the right answers for two vendors that differ in what is not documented."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from integration_tests.emulator import Emulator
from integration_tests.vendor_configs import Vendor

COLUMNS = {"name": "string", "amount": "number"}
QOBRA = [
    (
        {},
        {
            "beside a bad row the good one is: stored",
            "requests of one load have: one import id",
            "the window counts from: the first request",
            "a repeated id is counted as: 2 rows",
        },
    ),
    (
        {
            "qobra_row_errors": "reject_table",
            "qobra_same_import_id": False,
            "qobra_window": "sliding",
            "qobra_count": "unique_ids",
        },
        {
            "beside a bad row the good one is: not stored",
            "requests of one load have: an id each",
            "the window counts from: the last request",
            "a repeated id is counted as: 1 row",
        },
    ),
]
KORE = [
    (
        {},
        {
            "of good, bad, good is stored: nothing: a refused batch stores no row (status 400)",
            "an unknown column is answered: 400",
            "a query for 200 rows is answered: 200",
            "a filter of 1000 expressions is read: whole",
        },
    ),
    (
        {
            "kore_bulk_mode": "ordered_partial",
            "kore_unknown_column": "ignore",
            "kore_sys_limit": "reject",
            "kore_max_expressions": 100,
            "kore_more_expressions": "match_all",
        },
        {
            "of good, bad, good is stored: the row before the bad one (status 400)",
            "an unknown column is answered: 200",
            "a query for 200 rows is answered: 400",
            "a filter of 1000 expressions is read: not",
        },
    ),
]


def _probe(
    provider: dict[str, object], folder: Path, answers: str | None, yes: str = "scratch"
) -> tuple[int, str]:
    config = folder / "config.json"
    config.write_text(json.dumps({"provider": provider}))
    command = [sys.executable, "-m", "destination_bulk_tables.probe"]
    command += ["--config", str(config), "--table", "scratch", "--window", "2", "--poll", "0.1"]
    command += [] if answers else ["--yes", yes]
    done = subprocess.run(command, input=answers, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout


def _qobra(url: str) -> dict[str, object]:
    return {"provider_type": "qobra", "api_key": "qobra-key-1", "base_url": url}


def _kore(url: str) -> dict[str, object]:
    app = {"auth_type": "jwt_app", "client_id": "cs-demo", "client_secret": "kore-secret-1"}
    return {"provider_type": "kore", "host": url, "authentication": app}


@pytest.mark.parametrize(("switches", "expected"), QOBRA, ids=["usual", "other"])
def test_qobra(switches: dict[str, Any], expected: set[str], tmp_path: Path) -> None:
    """The probe tells both settings of the Qobra switches apart and leaves the table empty."""
    with Emulator(**switches) as emulator:
        emulator.create_table("qobra", "scratch", {"id": "string", **COLUMNS})
        code, text = _probe(_qobra(emulator.url), tmp_path, None)
        assert code == 0
        assert expected <= {line.strip() for line in text.splitlines()}
        assert emulator.count("qobra", "scratch") == 0


@pytest.mark.parametrize(("switches", "expected"), KORE, ids=["usual", "other"])
def test_kore(switches: dict[str, Any], expected: set[str], tmp_path: Path) -> None:
    """The probe tells both settings of the Kore.ai switches apart and deletes its rows."""
    with Emulator(**switches) as emulator:
        emulator.create_table("kore", "scratch", COLUMNS)
        code, text = _probe(_kore(emulator.url), tmp_path, None)
        assert code == 0
        assert expected <= {line.strip() for line in text.splitlines()}
        assert emulator.count("kore", "scratch") == 0


@pytest.mark.parametrize("answer", ["n", "y", "deals", ""])
def test_table_name(answer: str, tmp_path: Path) -> None:
    """Unless the table's name is typed, nothing is written; what was read is still told."""
    with Emulator() as emulator:
        emulator.create_table("kore", "scratch", COLUMNS)
        code, text = _probe(_kore(emulator.url), tmp_path, answer + "\n")
        assert code == 1
        assert "OTHER ROWS" in text
        assert "Stopped: the name was not repeated, so nothing was written." in text
        assert "\n  rows in the table: 0\n" in text
        assert not [r for r in emulator.requests if r.path.endswith("/bulk")]


def test_qobra_says_that_it_empties(tmp_path: Path) -> None:
    """Qobra's warning comes before the first request; a table named by mistake keeps its rows."""
    with Emulator() as emulator:
        emulator.create_table("qobra", "scratch", {"id": "string", **COLUMNS})
        code, text = _probe(_qobra(emulator.url), tmp_path, "yes\n")
        assert code == 1
        assert "DELETES EVERY ROW of Qobra table scratch" in text
        assert not emulator.requests


def test_yes_for_another_table(tmp_path: Path) -> None:
    """`--yes` with another name than the table's writes nothing."""
    with Emulator() as emulator:
        emulator.create_table("qobra", "scratch", {"id": "string", **COLUMNS})
        code, _ = _probe(_qobra(emulator.url), tmp_path, None, yes="other")
        assert (code, emulator.requests) == (1, [])


def test_stop_halfway(tmp_path: Path) -> None:
    """A no at a late step ends the run and prints what was found until then."""
    with Emulator() as emulator:
        emulator.create_table("kore", "scratch", COLUMNS)
        code, text = _probe(_kore(emulator.url), tmp_path, "scratch\ny\nn\n")
        assert code == 1
        assert "Stopped: before the step 'One good and one bad row'." in text
        assert "  an insert of one row is answered: 200, 1 record(s)" in text.partition("Found:")[2]
        assert emulator.count("kore", "scratch") == 1


def test_after_a_stopped_probe(tmp_path: Path) -> None:
    """The row that it left is told, not mistaken for a new one, and deleted."""
    with Emulator() as emulator:
        emulator.create_table("kore", "scratch", COLUMNS)
        _probe(_kore(emulator.url), tmp_path, "scratch\ny\nn\n")
        assert emulator.count("kore", "scratch") == 1
        code, text = _probe(_kore(emulator.url), tmp_path, None)
        assert code == 0
        assert "of them from a probe that was stopped: 1" in text
        assert "the row is found by its text: True" in text
        assert "Delete works" in text
        assert emulator.count("kore", "scratch") == 0


def test_bad_row_that_is_taken(tmp_path: Path) -> None:
    """Where a text fits the number column, nothing is said about refused rows."""
    vendors: list[tuple[Vendor, Any]] = [("kore", _kore), ("qobra", _qobra)]
    for vendor, config in vendors:
        with Emulator(kore_string_in_number="accept") as emulator:
            emulator.create_table(
                vendor,
                "scratch",
                {
                    "id": "string",
                    "name": "string",
                    "amount": "number" if vendor == "kore" else "string",
                },
            )
            code, text = _probe(config(emulator.url), tmp_path, None)
            assert code == 0
            assert "Column amount takes texts, so nothing is known about refused rows" in text
            assert "Refused batches store rows" not in text
            assert "policy 'skip'" not in text
