"""How long does it take to plan an ingest of a million objects, and in how much memory?

A synthetic listing, behind a file system of its own, goes the way of any object store's: taken
over, hashed and compared with the ledger, which is what `--dry-run` shows. Then each object is
placed, as if its header had been read, one series of each exam is chosen, and all are divided into
parts, named and packed for the workers. What comes from outside, the store's answer and what the
workers read in headers, is made before the clock starts. Prints the dry run's line, each step, and
last one line of JSON: `dry_run_1e6_seconds` is what comes from keys alone, `plan_1e6_seconds` all
of it.

    python -m benchmarks.ingest_planning [--objects 1000000]
"""

import argparse
import json
import math
import resource
import tempfile
import time
from typing import Any, ClassVar

import fsspec

from ich_ray.config import CorpusConfig, Settings, StoreConfig
from ich_ray.distributed.ingest import plan_of
from ich_ray.distributed.ingest_passes import part_block
from ich_ray.garbage import seldom_collected
from ich_ray.growth import growth_of
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.ingest_plan import first_by_key, parts_by_patient
from ich_ray.series import HeaderFacts
from ich_ray.storage.corpora.layout import Place
from ich_ray.storage.source import open_source
from ich_ray.storage.source_series import source_series_plan

SLICES_PER_EXAM = 35
BYTES_PER_OBJECT = 525_000


class SyntheticListing(fsspec.AbstractFileSystem):
    """A bucket in the layout of RSNA 2019 that holds nothing but names."""

    protocol = "synthetic"
    objects: ClassVar[list[dict[str, dict[str, Any]]]] = []
    """The one answer to one request for the listing."""

    def find(self, path: str, **_: Any) -> dict[str, dict[str, Any]]:
        """Return every object, as s3fs would."""
        return self.objects.pop()

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Raise: there are no labels beside the objects."""
        raise FileNotFoundError(path)


def listing_of(num_objects: int) -> dict[str, dict[str, Any]]:
    """Return so many objects by key, as S3 lists them and s3fs returns them."""
    names = sorted(
        f"rsna/ID_{number * 2654435761 % 2**36:09x}.dcm" for number in range(num_objects)
    )
    return {
        name: {
            "name": name,
            "size": BYTES_PER_OBJECT,
            "type": "file",
            "ETag": f'"{hash(name):032x}"',
        }
        for name in names
    }


def header_of(number: int, num_objects: int, key: str) -> tuple[Place, HeaderFacts]:
    """Return what the header of an object says; the keys of an exam lie scattered."""
    position, exam = divmod(number, math.ceil(num_objects / SLICES_PER_EXAM))
    place = Place(f"patient {exam}", f"exam {exam}", key, f"series {exam}")
    return place, HeaderFacts(
        position_mm=5.0 * position, tilt_deg=0.0, thickness_mm=5.0, instance=position + 1
    )


def main() -> None:
    """Plan, and print what it took."""
    parser = argparse.ArgumentParser(description="Plan an ingest of many objects.")
    parser.add_argument("--objects", type=int, default=1_000_000)
    listing = listing_of(parser.parse_args().objects)
    headers = [
        header_of(number, len(listing), name.removeprefix("rsna/"))
        for number, name in enumerate(listing)
    ]
    SyntheticListing.objects = [listing]
    del listing
    fsspec.register_implementation("synthetic", SyntheticListing)
    with tempfile.TemporaryDirectory() as store, seldom_collected():  # as `ingest` has it
        settings = Settings(
            store=StoreConfig(root=store),
            corpora={"c": CorpusConfig(layout="rsna", source="synthetic://rsna")},
        )
        started, cpu = time.monotonic(), time.process_time()

        def told(step: str) -> None:
            seconds, used = time.monotonic() - started, time.process_time() - cpu
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{seconds:6.1f} s, {used:6.1f} CPU s, peak {peak:5.0f} MiB: {step}", flush=True)

        source = open_source(settings, "c", Pseudonyms(PUBLIC_KEY))
        told("listed and compared")
        print(plan_of(settings, source).line())
        told("dry run")
        dry_run_s = time.monotonic() - started
        facts: dict[str, HeaderFacts] = {}
        placed = []
        for item, (place, fact) in zip(source.new, headers, strict=True):
            placed.append(source.placed(item, "slice", place))
            facts[placed[-1].source] = fact
        told("placed")
        near = source.ledger.near(placed, changed=source.changed)
        growth = growth_of(near, placed, changed=source.changed, here=set(source.names.values()))
        first, _ = first_by_key(placed, known=growth.taken)
        plan = source_series_plan(source, first, facts, annotated=(), anew=growth.exams)
        told(f"chose the series of {len(plan.decisions)} exams")
        parts = parts_by_patient(plan.kept, slices_per_part=source.config.slices_per_part)
        told(f"divided into {len(parts)} parts")
        packed = [part_block(source, objects, growth.parts) for objects in parts]
        told(f"packed in {sum(block.nbytes for block in packed) / 1e6:.0f} MB")
        found = {
            "plan_objects": len(plan.kept),
            "dry_run_1e6_seconds": round(dry_run_s * 1e6 / len(source.new), 1),
            "plan_1e6_seconds": round((time.monotonic() - started) * 1e6 / len(plan.kept), 1),
            "plan_1e6_cpu_seconds": round((time.process_time() - cpu) * 1e6 / len(plan.kept), 1),
            "plan_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main()
