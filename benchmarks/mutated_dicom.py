"""What does ingest make of 20,000 damaged files? Each must end as a slice, a mask or a reason.

Sources are the real objects of the folder that ICH_RAY_REAL_DATA names: uncompressed head CT, one
slice in every transfer syntax, segmentations, and the files that break readers. Each mutated file
follows from the seed and its number alone, and goes through what ingest does to one object: the
header, then the slice or the mask. A process does that, and another watches it: if it dies the
file is a crash, and if it is silent for 130 s a hang. A second run goes on where the first ended.

    python -m benchmarks.mutated_dicom [files] [seed] [folder of the results]
"""

import hashlib
import io
import json
import os
import random
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom

from ich_ray.errors import InvalidExam
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.ingest_plan import Planned
from ich_ray.storage.corpora.folder import Folder
from ich_ray.storage.dicom import read_masks
from ich_ray.storage.objects import Store
from ich_ray.storage.part_writer import PartWriter

FILES, SEED, FOLDER = 20_000, 20, "out/bench-mutated"
SILENT_S = 130.0
"""A worker that says nothing for so long hangs: a guarded decoder has 60 s, twice."""

HEADER_SHARE = 0.8
"""Of the mutations; the others hit anywhere, so mostly pixels."""

VRS = (b"SQ", b"UN", b"OB", b"OW", b"UT", b"DS", b"IS", b"US", b"PN", b"LO", b"ZZ", b"\0\0")
SYNTAXES = tuple(
    f"1.2.840.10008.1.2{end}".encode()
    for end in ("", ".1", ".2", ".5", ".1.99", ".4.50", ".4.57", ".4.70", ".4.80", ".4.90", ".4.91")
)
LENGTHS = (0, 1, 2, 0xFFFF, 0xFFFE, 0x7FFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True)
class Source:
    """A real object, and where its elements are."""

    data: bytes
    elements: tuple[tuple[int, int, int], ...]
    """(offset of the tag, of the value, of the end) of each top-level element."""


def read_sources(root: Path) -> list[Source]:
    """Return the real objects to mutate; the ordinary ones as often as all others together."""
    ordinary = [*_files(root / "rsna" / "stage_2_test"), *_files(root / "ge-head-tilt")]
    ordinary += [*_files(root / "rsna" / "stage_2_train"), *_files(root / "philips-head-phantom")]
    odd = [path for path in _files(root / "odd-dicom") if "fuzz_corpus" not in path.parts[-3]]
    kept = odd + ordinary[:: max(len(ordinary) // len(odd), 1)]
    return [_source(path.read_bytes()) for path in kept if path.stat().st_size < 2_000_000]


def mutated(sources: Sequence[Source], seed: int, number: int) -> bytes:
    """Return one damaged file, the same for the same seed and number."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    chance = random.Random(int.from_bytes(digest, "little"))
    source = chance.choice(sources)
    data = bytearray(source.data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        if not data:
            break
        kind = chance.choice((_flip, _length, _truncate, _splice, _duplicate, _vr, _syntax))
        kind(chance, data, source, sources)
    return bytes(data)


def outcome(writer: PartWriter, path: Path) -> str:
    """Return what ingest makes of one object: accepted, or a reason."""
    size = path.stat().st_size
    try:
        header = next(writer.headers([(str(path), size, "mutated")]))()
    except InvalidExam as refusal:
        return refusal.reason.value
    of = writer.pseudonyms.of
    if header.role == "mask":
        return _mask_outcome(path.read_bytes(), writer.pseudonyms)
    of = writer.pseudonyms.of
    item = Planned(
        key="mutated",
        url=str(path),
        source="mutated",
        etag="",
        size=size,
        role=header.role,
        patient=of(header.patient),
        exam=of(header.exam),
        slice=of(header.slice),
    )
    entries = writer.read_exam([item]).entries
    return (entries[0].reason or entries[0].outcome) if len(entries) == 1 else "unaccounted"


def _mask_outcome(data: bytes, pseudonyms: Pseudonyms) -> str:
    """Decode a segmentation, which ingest does once it has the slices that it lies on."""
    try:
        read_masks(data, pseudonyms)
    except InvalidExam as refusal:
        return refusal.reason.value
    return "accepted"


def work(root: Path, seed: int, first: int, last: int) -> None:
    """Try the files of some numbers, and say before and after each which and what."""
    warnings.simplefilter("ignore")
    sources = read_sources(root)
    writer = PartWriter(Store("unused"), "mutated", Folder(), Pseudonyms(PUBLIC_KEY))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "object")
        for number in range(first, last):
            path.write_bytes(mutated(sources, seed, number))
            print(json.dumps({"begin": number}), flush=True)
            started = time.monotonic()
            found = outcome(writer, path)
            result = {"file": number, "outcome": found, "s": round(time.monotonic() - started, 3)}
            if number % 100 == 0 or number + 1 == last or result["s"] > 1:
                result["rss_mb"] = _peak_mb()
            print(json.dumps(result), flush=True)


def watch(root: Path, seed: int, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Have the files tried by workers; one that dies or hangs is replaced by the next."""
    while first < last:
        arguments = ["worker", str(root), str(seed), str(first), str(last)]
        # Unbuffered: what waits in a buffer of ours, select does not see.
        worker = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.mutated_dicom", *arguments],
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert worker.stdout is not None
        begun = None
        ended = "crash"
        while True:
            ready, _, _ = select.select([worker.stdout], [], [], SILENT_S if begun else 300)
            line = worker.stdout.readline() if ready else b""
            if not line:
                ended = "crash" if ready else "hang"
                break
            found = json.loads(line)
            begun = found.get("begin")
            if begun is None:
                first = found["file"] + 1
                yield found
        worker.kill()
        code = worker.wait()
        if first < last:
            if begun is None:
                raise SystemExit(f"the worker ended with {code} before file {first}")
            yield {"file": begun, "outcome": ended, "s": SILENT_S if ended == "hang" else 0.0}
            first = begun + 1


def summary(results: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Return the figures of a run."""
    outcomes = Counter(str(result["outcome"]) for result in results)
    return {
        "mutated_files": len(results),
        "mutated_crashes": outcomes.pop("crash", 0),
        "hangs": outcomes.pop("hang", 0),
        "unaccounted": outcomes.pop("unaccounted", 0),
        "max_seconds": max((result["s"] for result in results), default=0.0),
        "max_rss_mb": max((result.get("rss_mb", 0) for result in results), default=0),
        "seed": seed,
        "outcomes": dict(outcomes.most_common()),
    }


def main(arguments: Sequence[str]) -> None:
    """Run what is missing, and print the figures."""
    given = dict(enumerate(arguments))
    files, seed = int(given.get(0, FILES)), int(given.get(1, SEED))
    folder = Path(given.get(2, FOLDER))
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"seed-{seed}.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    # The last line may be half of one.
    results = [json.loads(line) for line in lines if line.endswith("}")][:files]
    with kept.open("w") as stream:
        stream.writelines(json.dumps(result) + "\n" for result in results)
        for result in watch(real_data(), seed, len(results), files):
            stream.write(json.dumps(result) + "\n")
            stream.flush()
            results.append(result)
    print(json.dumps(summary(results, seed)))


def real_data() -> Path:
    """Return the folder of real data, or end."""
    if "ICH_RAY_REAL_DATA" not in os.environ:
        raise SystemExit("set ICH_RAY_REAL_DATA to the folder that holds rsna and odd-dicom")
    return Path(os.environ["ICH_RAY_REAL_DATA"])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _source(data: bytes) -> Source:
    elements: list[tuple[int, int, int]] = []
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        for raw in dataset.values():
            if isinstance(raw, pydicom.dataelem.RawDataElement) and raw.value_tell:
                short = (
                    data[raw.value_tell - 2 : raw.value_tell]
                    == raw.length.to_bytes(4, "little")[:2]
                )
                start = raw.value_tell - (8 if short else 12)
                elements.append(
                    (start, raw.value_tell, min(raw.value_tell + raw.length, len(data)))
                )
    except Exception:  # noqa: BLE001, S110  (what no reader reads is mutated blindly)
        pass
    return Source(data, tuple(elements))


def _place(chance: random.Random, data: bytearray, source: Source) -> int:
    header = source.elements[-1][1] if source.elements else len(data)
    end = min(header, len(data)) if chance.random() < HEADER_SHARE else len(data)
    return chance.randrange(end)


def _element(chance: random.Random, source: Source, data: bytearray) -> tuple[int, int, int]:
    if not source.elements:
        start = chance.randrange(len(data))
        return start, start + 8, start + 16
    return chance.choice(source.elements)


def _flip(chance: random.Random, data: bytearray, source: Source, _: Sequence[Source]) -> None:
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        data[_place(chance, data, source)] ^= 1 << chance.randrange(8)


def _length(chance: random.Random, data: bytearray, source: Source, _: Sequence[Source]) -> None:
    _, value, end = _element(chance, source, data)
    size = chance.choice((2, 4))
    length = chance.choice((*LENGTHS, max(end - value + chance.randrange(-9, 9), 0)))
    data[value - size : value] = (length & (1 << 8 * size) - 1).to_bytes(size, "little")


def _truncate(chance: random.Random, data: bytearray, source: Source, _: Sequence[Source]) -> None:
    del data[_place(chance, data, source) :]


def _splice(
    chance: random.Random, data: bytearray, source: Source, sources: Sequence[Source]
) -> None:
    other = chance.choice(sources).data
    start = chance.randrange(max(len(other), 1))
    place = _place(chance, data, source)
    cut = chance.choice((0, 8, 64, 512))
    data[place : place + cut] = other[start : start + chance.choice((8, 64, 512, 4096))]


def _duplicate(chance: random.Random, data: bytearray, source: Source, _: Sequence[Source]) -> None:
    start, value, end = _element(chance, source, data)
    copy = bytearray(data[start:end])
    if len(copy) > value - start and chance.random() < 0.5:
        copy[chance.randrange(value - start, len(copy))] ^= 1 << chance.randrange(8)
    place = chance.choice((start, _element(chance, source, data)[0], len(data)))
    data[place:place] = copy


def _vr(chance: random.Random, data: bytearray, source: Source, _: Sequence[Source]) -> None:
    start = _element(chance, source, data)[0]
    data[start + 4 : start + 6] = chance.choice(VRS)


def _syntax(chance: random.Random, data: bytearray, _: Source, __: Sequence[Source]) -> None:
    found = data.find(b"\x02\x00\x10\x00UI")
    if found >= 0:
        length = int.from_bytes(data[found + 6 : found + 8], "little")
        name = chance.choice(SYNTAXES)
        name += b"\0" * (len(name) % 2)
        data[found + 6 : found + 8 + length] = len(name).to_bytes(2, "little") + name


def _peak_mb() -> int:
    """Return the peak of resident memory of this process and of its child, whichever is more."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    peaks = [0]
    for process in ("self", *children):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peaks.append(int(line.split()[1]) // 1024)
    return max(peaks)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        work(Path(sys.argv[2]), *(int(text) for text in sys.argv[3:6]))
    else:
        main(sys.argv[1:])
