"""Pixels by score level of many patients, kept where the cluster can read them.

A task that counts exams writes a *bundle*: the entries of its exams, by level. Of all bundles of a
model a *shelf* is made for each range of levels, with the entries of all patients: whoever goes
through the levels holds one shelf at a time, however many patients there are.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, Integer

from ich_ray.statistics.pixel_histograms import HistogramStack, SliceHistogram
from ich_ray.statistics.score_levels import NUM_LEVELS
from ich_ray.storage.objects import Store

LEVELS_PER_BIN = 64
NUM_BINS = NUM_LEVELS // LEVELS_PER_BIN
"""Of a bundle: what a shelf takes of it is a range of bins, read as a range of bytes."""

ENTRY = np.dtype([("level", "<u2"), ("exam", "<u2"), ("pos", "<u4"), ("neg", "<u4")])
MOST_EXAMS = 2**16
"""Of a bundle."""

SHELF_ENTRIES = 2**21
"""Of a shelf, about: 30 MB; 64 levels of 25,000 patients are no more than 1.6 million."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bundle:
    """A file with the entries of some exams."""

    url: str
    exams: tuple[str, ...]
    """Keys, by their number in the file."""

    ends: Int32[np.ndarray, " bin"]
    """Entries up to the end of each bin, levels ascending."""

    def entries(self, bins: range) -> range:
        """Return which entries lie in a range of bins."""
        first, last = (int(self.ends[one - 1]) if one else 0 for one in (bins.start, bins.stop))
        return range(first, last)


def write_bundle(
    store: Store, url: str, exams: Sequence[tuple[str, SliceHistogram]], *, lowest: int = 0
) -> Bundle:
    """Write the histograms of some exams, over what was there.

    Args:
        store: Where the file lies.
        url: Of it.
        exams: Keys and histograms, no more than MOST_EXAMS.
        lowest: Entries of lower levels are left out.
    """
    assert len(exams) <= MOST_EXAMS, len(exams)
    entries = np.empty(sum(len(one.level) for _, one in exams), ENTRY)
    entries["exam"] = np.repeat(np.arange(len(exams)), [len(one.level) for _, one in exams])
    for field in ("level", "pos", "neg"):
        entries[field] = np.concatenate([getattr(one, field) for _, one in exams])
    # 16-bit keys are sorted in linear time.
    entries = entries[np.argsort(entries["level"], kind="stable")]
    entries = entries[np.searchsorted(entries["level"], np.uint16(lowest)) :]
    store.write_bytes(url, entries.tobytes())
    counts = np.bincount(entries["level"] // LEVELS_PER_BIN, minlength=NUM_BINS)
    return Bundle(
        url=url, exams=tuple(key for key, _ in exams), ends=counts.cumsum().astype(np.int32)
    )


def read_bundle(store: Store, bundle: Bundle, bins: range) -> Any:
    """Return the entries of a range of bins, an array of ENTRY, levels ascending."""
    wanted = bundle.entries(bins)
    if not wanted:
        return np.empty(0, ENTRY)
    ends = (wanted.start * ENTRY.itemsize, wanted.stop * ENTRY.itemsize)
    return np.frombuffer(store.read_range(bundle.url, *ends), ENTRY)


def shelf_bins(bundles: Sequence[Bundle], floors: Int64[np.ndarray, " level"]) -> list[range]:
    """Divide the bins that are needed into shelves, the highest levels first.

    Args:
        bundles: Of one model.
        floors: Levels with a positive pixel, descending: nobody asks for lower ones than the last.
    """
    if not len(floors) or not bundles:
        return []
    of_bin = np.sum([np.diff(one.ends, prepend=0) for one in bundles], axis=0)
    shelves, top, held = [], NUM_BINS, 0
    lowest = int(floors[-1]) // LEVELS_PER_BIN
    for one in range(NUM_BINS - 1, lowest - 1, -1):
        if held and held + of_bin[one] > SHELF_ENTRIES:
            shelves.append(range(one + 1, top))
            top, held = one + 1, 0
        held += int(of_bin[one])
    return [*shelves, range(lowest, top)]


def shelf_of(
    store: Store,
    bundles: Sequence[tuple[Bundle, Integer[np.ndarray, " _exam"]]],
    bins: range,
    *,
    num_patients: int,
) -> HistogramStack:
    """Put the entries of all bundles in a range of bins together.

    Args:
        store: Where they lie.
        bundles: With the patient of each of their exams.
        bins: The range.
        num_patients: In all.
    """
    found = [(read_bundle(store, one, bins), patient) for one, patient in bundles]
    entries = np.concatenate([one for one, _ in found])
    cluster = np.concatenate([patient[one["exam"]] for one, patient in found]).astype(np.int32)
    order = np.argsort(entries["level"], kind="stable")
    return HistogramStack(
        level=entries["level"][order],
        cluster=cluster[order],
        pos=entries["pos"][order],
        neg=entries["neg"][order],
        num_clusters=num_patients,
    )


def write_shelf(store: Store, url: str, shelf: HistogramStack) -> None:
    """Write a shelf in 3 to 5 bytes an entry, over what was there: it is read many times."""
    levels, counts = np.unique(shelf.level, return_counts=True)
    positive = np.flatnonzero(shelf.pos)
    arrays = (levels, counts, shelf.cluster, shelf.neg, positive, shelf.pos[positive])
    with store.create(url) as stream:
        for array in arrays:
            np.save(stream, _narrowed(array), allow_pickle=False)


def read_shelf(store: Store, url: str, *, num_patients: int) -> HistogramStack:
    """Return a shelf that was written."""
    stream = io.BytesIO(store.read_bytes(url))
    levels, counts, cluster, neg, positive, of_positive = (
        np.load(stream, allow_pickle=False) for _ in range(6)
    )
    pos = np.zeros(len(neg), np.uint32)
    pos[positive] = of_positive
    return HistogramStack(
        level=np.repeat(levels, counts).astype(np.uint16),
        cluster=cluster,
        pos=pos,
        neg=neg,
        num_clusters=num_patients,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredPixels:
    """The pixels of one model by level and patient, shelf by shelf; a PixelCounts."""

    store: Store
    urls: tuple[str, ...]
    """Of the shelves, the highest levels first."""

    levels: Int64[np.ndarray, " level"]
    """Those with a positive pixel, descending."""

    num_clusters: int
    """Patients."""

    def floors(self) -> Int64[np.ndarray, " level"]:
        """Return the levels that hold a positive pixel, descending."""
        return self.levels

    def shelves(self) -> Iterator[HistogramStack]:
        """Read one shelf after the other."""
        for url in self.urls:
            yield read_shelf(self.store, url, num_patients=self.num_clusters)


def numbered(bundle: Bundle, patient_of: Mapping[str, int]) -> Int64[np.ndarray, " exam"]:
    """Return the number of the patient of each exam of a bundle."""
    return np.array([patient_of[exam] for exam in bundle.exams], np.int64)


def _narrowed(values: Integer[np.ndarray, " value"]) -> Integer[np.ndarray, " value"]:
    """Return whole numbers, not below 0, in as few bytes as hold the largest."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
