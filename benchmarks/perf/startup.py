"""Startup time of ``import efface`` and ``efface --help``, and its ratio to starting Python.

Usage: ``python benchmarks/perf/startup.py``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python": ["-c", "pass"],
    "import efface": ["-c", "import efface"],
    "efface --help": ["-m", "efface", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Wall time of one process, in seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    times = {name: statistics.median(seconds(arguments) for _ in range(7)) for name, arguments in COMMANDS.items()}
    print(
        json.dumps({name: {"seconds": t, "times_python": t / times["python"]} for name, t in times.items()}, indent=2)
    )
