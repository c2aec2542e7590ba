"""Several benchmarks one after the other, and their figures in one line of JSON."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any


def figures_of(name: str) -> dict[str, Any]:
    """Run one benchmark, show what it prints, and return its last line of JSON."""
    command = [sys.executable, "-u", "-m", f"benchmarks.{name}"]
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{name}: {line}", end="", flush=True)
            # Ray may have a last word about a worker.
            last = line if line.startswith("{") else last
    if process.returncode:
        raise SystemExit(f"benchmarks.{name} failed with {process.returncode}; run it alone")
    found: dict[str, Any] = json.loads(last)
    return found


def run_all(names: Sequence[str]) -> None:
    """Run benchmarks, and print all of their figures last."""
    result: dict[str, Any] = {}
    for name in names:
        found = figures_of(name)
        doubled = result.keys() & found.keys()
        assert not doubled, doubled
        result |= found
    print(json.dumps(result))
