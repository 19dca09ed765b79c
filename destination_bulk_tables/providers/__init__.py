"""The providers, in the order the config form offers them."""

from __future__ import annotations

from destination_bulk_tables.provider import ProviderType
from destination_bulk_tables.providers.custom_http import CustomHttp
from destination_bulk_tables.providers.kore import Kore
from destination_bulk_tables.providers.presets import PRESETS
from destination_bulk_tables.providers.qobra import Qobra

PROVIDERS: tuple[ProviderType, ...] = (Qobra, Kore, *PRESETS, CustomHttp)
FORMS = [provider.spec for provider in PROVIDERS]
