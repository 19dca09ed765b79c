"""The three verbs and what they are made of. Only here exit codes and TRACE messages are decided.

`spec` and `check` exit 0 whatever they find; `write` exits 0 only when every row is delivered and
every state acknowledged.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from destination_bulk_tables import config as configuration
from destination_bulk_tables.catalog import plan_streams
from destination_bulk_tables.clock import Clock
from destination_bulk_tables.config import Config
from destination_bulk_tables.errors import ConfigError, DestinationError
from destination_bulk_tables.exchange import Exchange
from destination_bulk_tables.form.connection import DOCUMENTATION_URL, connection_specification
from destination_bulk_tables.form.naming import Naming
from destination_bulk_tables.form.published import published
from destination_bulk_tables.form.reading import with_old_names
from destination_bulk_tables.http import Ambiguous, HttpRequest, HttpResponse, Refused, TooLarge
from destination_bulk_tables.known_columns import ask_columns, lacking_columns
from destination_bulk_tables.model import JsonObject, JsonValue, StreamKey
from destination_bulk_tables.progress import StreamCounts
from destination_bulk_tables.providers import FORMS, PROVIDERS
from destination_bulk_tables.rejects import Rejects
from destination_bulk_tables.reports import open_report
from destination_bulk_tables.secrecy import SECRETS, secrets_of
from destination_bulk_tables.stdio import LineWriter, MessageReader
from destination_bulk_tables.sync import Sync, circumstances, require_possible
from destination_bulk_tables.trace import Trace
from destination_bulk_tables.transport import Transport, TransportError

log = logging.getLogger(__name__)

SYNC_MODES = ["append", "overwrite", "append_dedup"]
_CHECK_TIMEOUT_S = 20.0


def specification() -> JsonObject:
    return {
        "documentationUrl": DOCUMENTATION_URL,
        "connectionSpecification": published(connection_specification(FORMS)),
        "supportsIncremental": True,
        "supported_destination_sync_modes": list(SYNC_MODES),
    }


def load_json(path: str, what: str) -> JsonValue:
    """Raises `ConfigError` when the file cannot be read or is not JSON."""

    def single(members: list[tuple[str, JsonValue]]) -> JsonObject:
        """Of two members of one name Python's parser would drop the first."""
        names = Counter(name for name, _ in members)
        if len(names) < len(members):
            [(twice, _)] = names.most_common(1)
            raise ConfigError(
                f"The {what} file has the member {twice!a} twice in one object. Keep one."
            )
        return dict(members)

    try:
        text = Path(path).read_text("utf-8-sig")
        value: JsonValue = json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=single
        )
    except OSError as error:
        raise ConfigError(f"The {what} file cannot be read ({error.strerror}).") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"The {what} file is not valid JSON ({where}).") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The {what} file is not valid JSON.") from error
    return value


def _refuse_constant(name: str) -> object:
    """NaN and Infinity, which Python's parser would take."""
    raise ValueError(name)


def parse_config(raw: JsonValue) -> Config:
    """Raises `ConfigError` that names the setting to change."""
    return configuration.parse(raw, PROVIDERS, is_cloud=is_cloud())


def is_cloud() -> bool:
    """Whether this runs on Airbyte Cloud, where addresses are judged strictly."""
    return os.environ.get("DEPLOYMENT_MODE", "").strip().casefold() == "cloud"


def keep_secrets(raw: JsonValue) -> None:
    """Have nothing printed that is secret in this config, valid or not."""
    SECRETS.replace(secrets_of(raw, with_old_names(connection_specification(FORMS))))


# --- check


def check(raw: JsonValue) -> str | None:
    """Try the credential without writing. None: good; else what is wrong and what to change."""
    naming, address = Naming(), "provider"
    try:
        config = parse_config(raw)
        naming, address = config.naming, f"provider.{config.provider.address_setting}"
        tables = list(dict.fromkeys(filter(None, map(config.table_of, config.tables))))
        clock = Clock()
        transport = _CheckTransport(config.provider.base_url, clock, public_only=is_cloud())
        transport.address = address
        never = threading.Event()
        exchange = Exchange(
            config.provider, transport, clock, never, max_elapsed_s=_CHECK_TIMEOUT_S
        )
        exchange.run(None, config.provider.check(tables))
        return _lacking(config, exchange)
    except DestinationError as error:
        return naming.in_words(error.message)
    except (Refused, TooLarge, Ambiguous) as error:
        return naming.in_words(
            f"The provider's address does not take the check's request ({str(error) or 'too large'}"
            f"). Check that it leads to the provider's API: {address}."
        )
    except Exception as error:
        log.exception("unexpected_error", exc_info=error)
        return (
            f"The check failed in an unexpected way ({type(error).__name__}). Please report it "
            "with the log."
        )


def _lacking(config: Config, exchange: Exchange) -> str | None:
    """What to tell of columns that `tables` names and a table lacks; only a log where rows may."""
    for entry in config.tables:
        table = config.table_of(entry)
        sent = entry.sent
        if not table or not sent:
            continue
        known = ask_columns(table, config.provider, exchange)
        lacking = None if known is None else lacking_columns(table, sent, known)
        if lacking and config.rejected_records.policy == "fail":
            return config.naming.in_words(lacking)
        if lacking:
            log.warning("columns_missing %s", lacking)
    return None


class _CheckTransport(Transport):
    """One attempt each: a person waits for the answer, and each way to fail has its own message.

    `address`: the setting that holds the provider's.
    """

    address = "provider"

    def send(
        self, request: HttpRequest, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        try:
            return super().send(request, headers, min(timeout_s, _CHECK_TIMEOUT_S))
        except TransportError as error:
            what = self.address if request.url is None else "provider.authentication.token_url"
            message = {
                "dns": f"The host name in {what} does not resolve. Check it for a typo.",
                "tls": (
                    f"The TLS certificate of the address in {what} is not valid for it or not "
                    "signed by whom this machine trusts, or it does not speak TLS: "
                    f"{error.reason}."
                ),
                "connect": (
                    f"The address in {what} cannot be reached ({error.reason}). Check host, port "
                    "and firewall."
                ),
                "timeout": (
                    f"The address in {what} did not answer within {_CHECK_TIMEOUT_S:.0f} s."
                ),
                "broken": (
                    f"The address in {what} closed the connection without an answer. Check host "
                    "and port."
                ),
            }[error.kind]
            raise ConfigError(message) from error


# --- write


def write(
    raw_config: JsonValue,
    raw_catalog: JsonValue,
    stdin: int,
    emit: LineWriter,
    stop: threading.Event,
    clock: Clock,
) -> None:
    """Run one sync. Raises the `DestinationError` that ended it."""
    if os.environ.get("DATA_CHANNEL_MEDIUM", "").upper() == "SOCKET":
        message = "Socket mode is not supported: run this destination with its input on stdin."
        raise ConfigError(message)
    config = parse_config(raw_config)
    with config.naming.speaking():
        run_sync(config, raw_catalog, stdin, emit.write, stop, clock)


def run_sync(
    config: Config,
    raw_catalog: JsonValue,
    stdin: int,
    emit: Callable[[Sequence[bytes]], None],
    stop: threading.Event,
    clock: Clock,
) -> dict[StreamKey, StreamCounts]:
    """Run one sync with a config that may be read; what became of the rows of each stream."""
    plans = plan_streams(raw_catalog, config)
    require_possible(plans.values(), config)
    # before the report is made, because it may end the sync: the environment's proxy, certificates
    transport = Transport(config.provider.base_url, clock, public_only=is_cloud())
    rejected = config.rejected_records
    report = (
        open_report(rejected.report_path, config.object_store, clock, stop)
        if rejected.report_path is not None
        else None
    )
    rejects = Rejects(rejected, report, clock, circumstances(plans.values()))
    trace = (
        Trace(config.trace_path, config.object_store, clock, stop) if config.trace_path else None
    )
    sync = Sync(config, plans, rejects, transport, clock, emit, stop, trace)
    reader = MessageReader(
        stdin, sync.wake, sync.row_types, sync.timed, keeps_lines=sync.keeps_lines
    )
    try:
        sync.run(reader)
    finally:
        rejects.close()
        sync.close()
        if trace is not None:
            trace.close()
    return sync.counts
