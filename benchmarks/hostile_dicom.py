"""Does an ingest of every hostile file that we know end, and end with a row for each of them?

The files are those of `odd-dicom` in the folder that ICH_RAY_REAL_DATA names, the real exams beside
them. One ingest of all takes them through Ray as
any source. Prints the counts by outcome, and last one line of JSON.

    python -m benchmarks.hostile_dicom
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.storage import ledger
from ich_ray.storage.objects import Store

FOLDERS = ("odd-dicom", "ge-head-tilt", "philips-head-phantom", "rsna")


def ingested(sources: Path, root: Path) -> tuple[int, float]:
    """Ingest a folder into a store of its own; return the exit code and the seconds."""
    settings = root / "hostile.toml"
    settings.write_text(
        'identity = "public"\n'
        f'store = {{ root = "{root}/store" }}\n'
        f'[corpora.c]\nlayout = "folder"\nsource = "{sources}"\nmax_rejected_share = 1.0\n'
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "jobs.ingest", str(settings)], check=False)
    return done.returncode, time.monotonic() - started


def main() -> None:
    """Ingest them, and compare the ledger with the listing."""
    data = Path(os.environ["ICH_RAY_REAL_DATA"]).resolve()
    names = Pseudonyms(PUBLIC_KEY)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        sources = root / "sources"
        sources.mkdir()
        for name in FOLDERS:
            _link(data / name, sources / name)
        listed = {names.of(item.key) for item in Store(str(root)).listing(str(sources))}
        code, seconds = ingested(sources, root)
        entries = list(ledger.entries_of(ledger.open_ledger(Store(f"{root}/store"), "c").rows))
    rows = Counter(entry.source for entry in entries)
    outcomes = Counter(str(entry.reason or entry.outcome) for entry in entries)
    for outcome, count in outcomes.most_common():
        print(f"{count:6} {outcome}")
    unaccounted = len(listed ^ rows.keys()) + sum(count - 1 for count in rows.values())
    found = {
        "hostile_objects": len(listed),
        "hostile_unaccounted": unaccounted,
        "hostile_exit_code": code,
        "hostile_seconds": round(seconds, 1),
    }
    print(json.dumps(found))


def _link(folder: Path, into: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            place = into / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)


if __name__ == "__main__":
    main()
