"""Airbyte's standard tests for a destination, in-process, with the emulator as the vendor.

The scenarios are those of acceptance-test-config.yml. The suite's own image tests need a docker
engine and are deselected; integration_tests/image has ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from airbyte_cdk.test.standard_tests import DestinationTestSuiteBase
from airbyte_cdk.test.standard_tests._job_runner import run_test_job
from airbyte_cdk.test.standard_tests._spec_lint import assert_spec_is_valid, get_single_spec
from airbyte_cdk.test.standard_tests.pytest_hooks import (
    pytest_generate_tests as pytest_generate_tests,  # noqa: PLC0414 - makes a scenario a test
)

from destination_bulk_tables import DestinationBulkTables
from integration_tests.emulator import Emulator

PORT = 21899  # as in integration_tests/configs; the system hands out none so low
pytestmark = pytest.mark.xdist_group("standard")  # one worker has the port


@pytest.fixture(scope="module", autouse=True)
def _emulator() -> Iterator[None]:
    """Run both vendors at the address of the configs."""
    with Emulator(port=PORT):
        yield


class TestStandard(DestinationTestSuiteBase):
    """The suite finds a connector by its folder's name; these names make any folder do."""

    connector = DestinationBulkTables
    connector_name = "destination-bulk-tables"

    def test_spec_is_valid(self) -> None:
        """The spec passes the lint that the suite itself applies to the image only."""
        result = run_test_job(self.connector, "spec", connector_root=self.get_connector_root_dir())
        spec = get_single_spec(result, connector_name=self.connector_name)
        assert_spec_is_valid(spec, connector_name=self.connector_name)
