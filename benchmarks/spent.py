"""Runs a command and writes what it cost: `python -m benchmarks.spent FILE COMMAND...`.

Between the harness and what it measures, because the kernel begins a process's peak memory with
that of the process it was forked from, and a harness may hold anything. This one holds nothing.
"""

import json
import os
import sys
import time


def main() -> int:
    """Give standard input and output to the command; its exit code."""
    target, *command = sys.argv[1:]
    started = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    spent = {
        "wall_s": time.perf_counter() - started,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "rss_mb": usage.ru_maxrss * 1024 / 1e6,
    }
    with open(target, "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib costs memory
        json.dump(spent, file)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
