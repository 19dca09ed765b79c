"""The probe gives the right answers for two vendors that differ in what is not documented."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from integration_tests.emulator import Emulator

COLUMNS = {"name": "string", "amount": "number"}
QOBRA = [
    (
        {},
        {
            "beside a bad row the good one is: stored",
            "requests of one load have: one import id",
            "the window counts from: the first request",
            "a repeated id is counted as: [2]",
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
            "a repeated id is counted as: [1]",
        },
    ),
]
KORE = [
    (
        {},
        {
            "of good, bad, good is stored: nothing (atomic) (status 400)",
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
            "of good, bad, good is stored: the rows before the bad one (status 400)",
            "an unknown column is answered: 200",
            "a query for 200 rows is answered: 400",
            "a filter of 1000 expressions is read: not",
        },
    ),
]


def _probe(provider: dict[str, object], folder: Path, answers: str | None) -> tuple[int, str]:
    config = folder / "config.json"
    config.write_text(json.dumps({"provider": provider}))
    command = [sys.executable, "-W", "ignore", "-m", "destination_bulk_tables.probe"]
    command += ["--config", str(config), "--table", "scratch", "--window", "2", "--poll", "0.1"]
    command += [] if answers else ["--yes"]
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


def test_no_is_no(tmp_path: Path) -> None:
    """Without a yes nothing is written."""
    with Emulator() as emulator:
        emulator.create_table("kore", "scratch", COLUMNS)
        code, text = _probe(_kore(emulator.url), tmp_path, "n\n")
        assert code == 1
        assert "Ended before this step." in text
        assert not [r for r in emulator.requests if r.path.endswith("/bulk")]
