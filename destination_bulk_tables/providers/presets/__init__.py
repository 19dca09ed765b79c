"""Vendors of which `custom_http` needs to be told only an address and a credential.

Each `NAME.json` here is one option of the form: `fields` are what it asks for, `settings` a
configuration of custom_http in which `<field>` stands for what was filled in. To add one, see
docs/presets.md. `proven` names the server it was run against; where it is missing the settings were
written from documentation, and the title says so.
"""

from __future__ import annotations

from importlib.resources import files

from destination_bulk_tables.providers.presets.preset import Preset


def _load() -> tuple[Preset, ...]:
    found = [
        Preset(file.name.removesuffix(".json"), file.read_bytes())
        for file in files(__name__).iterdir()
        if file.name.endswith(".json")
    ]
    return tuple(sorted(found, key=lambda preset: (not preset.proven, preset.title.casefold())))


PRESETS = _load()

__all__ = ["PRESETS", "Preset"]
