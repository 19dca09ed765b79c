"""Both vendors' HTTP APIs on one local port, for tests, the demo and benchmarks.

It shares no code with the connector.

In a test: `with Emulator(qobra_import_s=0) as emulator: ...` (a thread); beside one: `with
EmulatorProcess() as emulator: ...` (a process, the same methods over the admin API). From a shell:
`python -m integration_tests.emulator --port 8899`.
"""

from .running import Emulator, EmulatorProcess
from .settings import Settings
from .values import checksum

__all__ = ["Emulator", "EmulatorProcess", "Settings", "checksum"]
