"""The connector as the Airbyte CDK knows it, for whoever drives destinations by their class.

It adds nothing: each verb is that of `commands`, and `run` is the console script's. The CDK's own
loop is not used, because it loses the id of a state, turns big integers into floats, drops bad
lines and does not flush.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from airbyte_cdk.destinations import Destination
from airbyte_cdk.models import (  # type: ignore[attr-defined]  # re-exported without __all__
    AirbyteConnectionStatus,
    AirbyteMessage,
    ConfiguredAirbyteCatalog,
    ConnectorSpecification,
    ConnectorSpecificationSerializer,
    Status,
)

from destination_bulk_tables import commands, run


class DestinationBulkTables(Destination):
    def spec(self, logger: logging.Logger) -> ConnectorSpecification:  # noqa: ARG002 - CDK
        return ConnectorSpecificationSerializer.load(commands.specification())

    def check(self, logger: logging.Logger, config: Mapping[str, Any]) -> AirbyteConnectionStatus:  # noqa: ARG002
        commands.keep_secrets(dict(config))
        problem = commands.check(dict(config))
        if problem is None:
            return AirbyteConnectionStatus(status=Status.SUCCEEDED)
        return AirbyteConnectionStatus(status=Status.FAILED, message=problem)

    def write(
        self,
        config: Mapping[str, Any],
        configured_catalog: ConfiguredAirbyteCatalog,
        input_messages: Iterable[AirbyteMessage],
    ) -> Iterable[AirbyteMessage]:
        """Not offered: through the CDK's models messages lose what must come back unchanged."""
        message = "Use the command destination-bulk-tables write, with the messages on stdin."
        raise NotImplementedError(message)

    def run(self, args: list[str]) -> None:
        run.run(args)
