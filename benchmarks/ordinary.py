"""The ordinary way to write this destination: the CDK's loop, a list, `requests.post(json=...)`.

Written as the published Python destinations are, in their favour where there was a choice: one
keep-alive session, the same batch sizes and requests as the connector's, conversions only for the
columns that need one, a flush at a STATE only as the protocol requires it, Kore.ai's answer not
read beyond its status. It appends; it has no retry, no rate limit and no row accounting.
"""

import json
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jwt
import requests
from airbyte_cdk.destinations import Destination
from airbyte_cdk.models import (  # type: ignore[attr-defined] # how the CDK documents it
    AirbyteConnectionStatus,
    AirbyteMessage,
    ConfiguredAirbyteCatalog,
    ConnectorSpecification,
    DestinationSyncMode,
    Status,
    Type,
)

from benchmarks.conversions import converters


class OrdinaryDestination(Destination):
    """Config: `provider` (qobra, kore or custom_http), `url`, `max_rows`."""

    def spec(self, *_: Any) -> ConnectorSpecification:
        """Accept any config."""
        return ConnectorSpecification(
            connectionSpecification={"type": "object"},
            supported_destination_sync_modes=[DestinationSyncMode.append],
        )

    def check(self, logger: logging.Logger, config: Mapping[str, Any]) -> AirbyteConnectionStatus:
        """Succeed: only `write` is measured."""
        del logger, config
        return AirbyteConnectionStatus(status=Status.SUCCEEDED)

    def write(
        self,
        config: Mapping[str, Any],
        configured_catalog: ConfiguredAirbyteCatalog,
        input_messages: Iterable[AirbyteMessage],
    ) -> Iterable[AirbyteMessage]:
        """Buffer the records of each stream, post full buffers, flush before a STATE."""
        client = Client(config)
        conversions = {
            s.stream.name: converters(s.stream.json_schema, config["provider"], json.dumps)
            for s in configured_catalog.streams
        }
        buffers: dict[str, list[dict[str, Any]]] = {name: [] for name in conversions}
        for message in input_messages:
            if message.type is Type.RECORD and message.record is not None:
                stream, row = message.record.stream, message.record.data
                for column, convert in conversions[stream].items():
                    if row.get(column) is not None:
                        row[column] = convert(row[column])
                buffers[stream].append(row)
                if len(buffers[stream]) >= config["max_rows"]:
                    client.post(stream, buffers[stream])
                    buffers[stream] = []
            elif message.type is Type.STATE:
                client.flush(buffers)
                yield message
        client.flush(buffers)
        client.await_imports()


class Client:
    """The vendor's HTTP interface, one blocking call per batch."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Open the session."""
        self._config = config
        self._session = requests.Session()
        self._imports: list[str] = []

    def flush(self, buffers: dict[str, list[dict[str, Any]]]) -> None:
        """Post and empty what is not empty."""
        for stream, rows in buffers.items():
            if rows:
                self.post(stream, rows)
                buffers[stream] = []

    def post(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Send one batch and raise unless it was accepted."""
        url = self._config["url"]
        if self._config["provider"] == "qobra":
            response = self._session.post(
                f"{url}/v1/tables/{table}/records/bulk",
                json={"items": rows},
                headers={"X-API-Key": "benchmark"},
                timeout=60,
            )
            response.raise_for_status()
            self._imports.append(response.json()["import_id"])
            return
        if self._config["provider"] == "custom_http":
            response = self._session.post(f"{url}/custom/{table}", json={"rows": rows}, timeout=60)
            response.raise_for_status()
            return
        claims = {"appId": "benchmark", "sub": "airbyte"}
        token = jwt.encode(claims, "benchmark-secret-of-32-characters", algorithm="HS256")
        response = self._session.post(
            f"{url}/api/public/tables/{table}/bulk",
            json={"data": rows},
            headers={"auth": token},
            timeout=60,
        )
        response.raise_for_status()

    def await_imports(self) -> None:
        """Ask for each Qobra import until it is finished; raise if it has an error."""
        for import_id in self._imports:
            while True:
                response = self._session.get(
                    f"{self._config['url']}/v1/imports/{import_id}",
                    headers={"X-API-Key": "benchmark"},
                    timeout=60,
                )
                response.raise_for_status()
                data_import = response.json()["data_import"]
                if data_import["status"] == "finished":
                    break
                time.sleep(5)  # noqa: TID251 - as they do
            if any(table["error"] for table in data_import["data_tables_details"]):
                raise RuntimeError(f"import {import_id} failed")


if __name__ == "__main__":
    OrdinaryDestination().run(sys.argv[1:])
