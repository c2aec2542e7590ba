"""Every measure of ingest: CPU, memory and reruns, pixels, planning, hostile files, kills.

Runs the benchmarks of each one after the other, shows what they print, and puts their figures into
one line of JSON at the end. Each goes on where it was stopped, so this may be run over several
days. Those that read real CT are left out where ICH_RAY_REAL_DATA names none, with a word.

    python -m benchmarks.ingest
"""

import os

from benchmarks.combined import run_all

BENCHMARKS = ("ingest_speed", "ingest_planning", "ingest_kills")
ON_REAL_CT = ("pixel_codecs", "hostile_dicom", "mutated_dicom")


def main() -> None:
    """Run all of them."""
    names = list(BENCHMARKS)
    if "ICH_RAY_REAL_DATA" in os.environ:
        names += ON_REAL_CT
    else:
        print(f"without ICH_RAY_REAL_DATA: {', '.join(ON_REAL_CT)} are left out")
    run_all(names)


if __name__ == "__main__":
    main()
