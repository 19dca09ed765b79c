"""Settle with real credentials and a scratch table what the vendors do not document.

    python -m destination_bulk_tables.probe --config config.json --table scratch

Before its first write it says what it will do to the table and asks for the table's name; each step
that writes is announced and confirmed. It uses a handful of rows marked `airbyte-probe`. **Qobra's
table ends empty**, whatever it held: use a scratch table. What is found, also by a run that stops
early, is printed with the settings that follow from it. Not part of a sync.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any, cast

from destination_bulk_tables import commands
from destination_bulk_tables.clock import Clock
from destination_bulk_tables.errors import ConfigError, DestinationError
from destination_bulk_tables.probe.kore import probe_kore
from destination_bulk_tables.probe.qobra import probe_qobra
from destination_bulk_tables.probe.session import Declined, Probe, say
from destination_bulk_tables.transport import Transport, TransportError


def main(arguments: list[str] | None = None) -> int:
    """Run the probe of the configured provider; 1 when it could not be run to its end."""
    options = _options(arguments)
    warnings.simplefilter("ignore")  # PyJWT's about short secrets, which is the vendor's business
    probe: Probe | None = None
    reason = ""
    try:
        raw = commands.load_json(options.config, "config")
        config = commands.parse_config(raw)
        section = cast("dict[str, Any]", cast("dict[str, Any]", raw)["provider"])
        clock = Clock()
        probe = Probe(
            Transport(config.provider.base_url, clock),
            config.provider.headers,
            options.table,
            options.text_column,
            options.number_column,
            clock,
            options.poll,
            options.yes,
        )
        _run(probe, config.provider.name, section, options.window)
    except Declined as declined:
        reason = f"Stopped: {declined}."
    except (DestinationError, TransportError) as error:
        reason = f"Ended: {error}"
    if probe is not None:
        probe.conclude()
    if reason:
        say(f"\n{reason}")
    return 1 if reason else 0


def _run(probe: Probe, provider: str, section: dict[str, Any], window_s: int) -> None:
    match provider:
        case "qobra":
            probe_qobra(probe, section.get("id_field") or "id", window_s)
        case "kore":
            probe_kore(probe, section.get("api_path_prefix") or "/api/public")
        case _:
            raise ConfigError(
                "The probe knows Qobra and Kore.ai; a custom_http API is described by its config."
            )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m destination_bulk_tables.probe")
    parser.add_argument("--config", required=True, help="path of the connector's config")
    parser.add_argument("--table", required=True, help="a scratch table: its rows may be replaced")
    parser.add_argument("--text-column", default="name", help="a text column of it")
    parser.add_argument("--number-column", default="amount", help="a number column of it")
    parser.add_argument("--window", type=int, default=20, help="Qobra: debounce to try (seconds)")
    parser.add_argument("--poll", type=float, default=5.0, help="Qobra: seconds between polls")
    parser.add_argument(
        "--yes", metavar="TABLE", help="do not ask; repeats the name of the scratch table"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
