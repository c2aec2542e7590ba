"""Every measure of ingest: CPU, memory and reruns, pixels, planning, hostile files, kills.

Runs the benchmarks of each one after the other, shows what they print, and puts their figures into
one line of JSON at the end. Each goes on where it was stopped, so this may be run over several
days. Those that read real CT are left out where ICH_RAY_REAL_DATA names none, with a word.

    python -m benchmarks.ingest
"""

import json
import os
import subprocess
import sys
from typing import Any

BENCHMARKS = ("ingest_speed", "ingest_planning", "ingest_kills")
ON_REAL_CT = ("pixel_codecs", "hostile_dicom", "mutated_dicom")


def figures_of(name: str) -> dict[str, Any]:
    """Run one benchmark, show what it prints, and return its last line."""
    command = [sys.executable, "-u", "-m", f"benchmarks.{name}"]
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{name}: {line}", end="", flush=True)
            last = line.strip() or last
    if process.returncode:
        raise SystemExit(f"benchmarks.{name} failed with {process.returncode}; run it alone")
    found: dict[str, Any] = json.loads(last)
    return found


def main() -> None:
    """Run all of them."""
    names = list(BENCHMARKS)
    if "ICH_RAY_REAL_DATA" in os.environ:
        names += ON_REAL_CT
    else:
        print(f"without ICH_RAY_REAL_DATA: {', '.join(ON_REAL_CT)} are left out")
    result: dict[str, Any] = {}
    for name in names:
        found = figures_of(name)
        doubled = result.keys() & found.keys()
        assert not doubled, doubled
        result |= found
    print(json.dumps(result))


if __name__ == "__main__":
    main()
