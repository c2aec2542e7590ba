"""Several segmentations of the same exams, compared where they lie: masks stay off the driver."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import ray.data
from jaxtyping import Bool

from ich_ray.distributed import records, work
from ich_ray.distributed.origin import Origin, here
from ich_ray.distributed.own_exams import READER, READING
from ich_ray.distributed.part_statistics import counted_as, reference_of
from ich_ray.distributed.progress import bar
from ich_ray.distributed.resources import check_fits, options
from ich_ray.distributed.session import Selection, Session, fingerprint, select
from ich_ray.errors import QualityError
from ich_ray.exam import IGNORED, Slice
from ich_ray.reporting.plain_values import plain
from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.masks.reading_agreement import (
    ReadExam,
    read_exam,
    read_levels,
    reading_agreement,
)
from ich_ray.storage.corpus import index_table, read_exams
from ich_ray.storage.objects import Store

FOLDER = "agreements"


def agreements(run: Session, selections: Sequence[str], *, seed: int) -> list[dict[str, Any]]:
    """Return how far each two of some segmentations agree, those that come first as reference.

    What was found before for the same versions of the corpora is read from the store.

    Args:
        run: Whose store holds them.
        selections: Of corpora with the same exams; the masks of each are one segmentation.
        seed: Of the resamples behind intervals.

    Returns:
        A `ReadingAgreement` each, as plain values.

    Raises:
        QualityError: Two have no exam in common.
    """
    opened = dict(zip(selections, select(run, selections), strict=True))
    identity = fingerprint(selections=[one.identity for one in opened.values()], seed=seed)
    url = run.store.url(FOLDER, f"{identity}.json")
    if run.store.exists(url):
        known: list[dict[str, Any]] = json.loads(run.store.read_bytes(url))
        return known
    run.ensure_ray()
    check_fits(run.settings.cluster, READING)
    found = [
        plain(reading_agreement(a, b, _both(run, (a, opened[a]), (b, opened[b])), seed=seed))
        for a, b in combinations(selections, 2)
    ]
    run.store.write_bytes(url, json.dumps(found, indent=1).encode())
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingsOfPart:
    """Counts the exams of one part by both readings; a plain value, called by Ray Data."""

    store: Store
    first: Selection
    others: Mapping[str, tuple[str, ...]]
    """Part of the first -> parts of the second that hold any of its exams."""

    origin: Origin

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[dict[str, list[Any]]]:
        """Yield one row an exam that both hold."""
        with work.piece_of(self.origin):
            for url in batch["url"]:
                for found in self.of_part(str(url)):
                    yield {"found": [found], "of": [url]}

    def of_part(self, url: str) -> Iterator[ReadExam]:
        """Yield the exams of a part that the second reading holds too."""
        second = {
            item.key: item
            for other in self.others[url]
            for exam in read_exams(self.store, other, with_pixels=False)
            for item in exam
        }
        for exam in read_exams(self.store, url, splits=self.first.holds, with_pixels=False):
            both = [item for item in exam if item.key in second and item.mask is not None]
            if both:
                counted = counted_readings(both, [second[item.key] for item in both])
                yield read_exam(exam[0].exam, exam[0].patient, counted)


def counted_readings(first: Sequence[Slice], second: Sequence[Slice]) -> list[CountedSlice]:
    """Put two readings of the same slices beside each other.

    Args:
        first: With masks, in order: the reference.
        second: The same slices. What either reading ignores is counted for neither.
    """
    levels = [None if item.mask is None else read_levels(reference_of(item)) for item in second]
    return [
        replace(one, valid=_valid(one, item))
        for one, item in zip(counted_as(first, levels), second, strict=True)
    ]


def _valid(one: CountedSlice, second: Slice) -> Bool[np.ndarray, "rows columns"] | None:
    if second.mask is None or not (second.mask == IGNORED).any():
        return one.valid
    known = second.mask != IGNORED
    return np.asarray(known if one.valid is None else known & one.valid)


def _both(run: Session, a: tuple[str, Selection], b: tuple[str, Selection]) -> list[ReadExam]:
    (first_name, first), (second_name, second) = a, b
    others = _parts_with(run, first, second)
    if not any(others.values()):
        raise QualityError(
            f"reproduce.segmentations: {second_name} has no exam of {first_name}: segmentations "
            "are of the same exams, with the same identifiers; ingest both under one key"
        )
    job = ReadingsOfPart(store=run.store, first=first, others=others, origin=here().of("reproduce"))
    urls = [{"url": url} for url, there in others.items() if there]
    dataset = ray.data.from_items(urls, override_num_blocks=len(urls)).map_batches(
        job, batch_size=1, batch_format="numpy", **options(READER)
    )
    found: list[ReadExam] = []
    done: set[str] = set()
    with bar(f"{second_name} against {first_name}", total=len(urls), unit="part") as shown:
        for row in records.rows("segmentations", dataset):
            found.append(row["found"])
            done.add(row["of"])
            shown.update(len(done) - shown.n)
    return found


def _parts_with(run: Session, first: Selection, second: Selection) -> dict[str, tuple[str, ...]]:
    """Return part of the first -> parts of the second that hold any of its exams."""
    where: dict[str, set[str]] = {}
    for row in index_table(run.store, second.corpus).select(["exam", "file"]).to_pylist():
        where.setdefault(row["exam"], set()).add(row["file"])
    found: dict[str, set[str]] = {url: set() for url in first.corpus.files}
    columns = ["exam", "file", "patient"]
    for row in index_table(run.store, first.corpus).select(columns).to_pylist():
        if first.holds(row["patient"]):
            found[row["file"]] |= where.get(row["exam"], set())
    return {url: tuple(sorted(there)) for url, there in found.items()}
