"""Where the connector's time goes: one sync of the 10-column input under cProfile.

Only the engine thread is seen, which is where all per-record work is; the profiler's own cost
inflates what is called often, so the shares are hints and never compared with the other tables.
"""

import pstats
import subprocess
import sys
from pathlib import Path

from benchmarks import inputs, measure

_LINES = 15
# the entry point may leave through os._exit, which would lose what cProfile's own command collects
_PROFILED = """
import cProfile, os, sys
from destination_bulk_tables.run import run
result = sys.argv.pop(1)
profiler, leave = cProfile.Profile(), os._exit
def save(status):
    profiler.disable()
    profiler.dump_stats(result)
    leave(status)
os._exit = save
profiler.enable()
try:
    run()
finally:
    save(0)
"""


def table(folder: Path, url: str) -> str:
    """List the functions with the most time of their own as Markdown; empty if it cannot run."""
    case = measure.Case("ours")
    _, *arguments = measure.arguments(case, folder, url)
    result = folder / "profile"
    result.unlink(missing_ok=True)
    source = inputs.messages(folder, case.shape, case.rows, case.state_every)
    with source.open("rb") as stdin:
        subprocess.run(
            [sys.executable, "-c", _PROFILED, str(result), *arguments],
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    if not result.exists():
        return ""
    stats = pstats.Stats(str(result)).get_stats_profile()
    rows = sorted(stats.func_profiles.items(), key=lambda item: -item[1].tottime)[:_LINES]
    lines = ["| function | calls | own s | with callees s |", "| --- | ---: | ---: | ---: |"]
    for name, row in rows:
        where = f"{'/'.join(Path(row.file_name).parts[-2:])}: {name}" if row.line_number else name
        lines.append(f"| `{where}` | {row.ncalls} | {row.tottime:.2f} | {row.cumtime:.2f} |")
    return f"Qobra append, 300,000 rows, {stats.total_tt:.2f} s profiled.\n\n" + "\n".join(lines)
