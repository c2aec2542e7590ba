"""One part of a corpus, from fetching its objects to its Parquet file: what one worker does."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from ich_ray.averaging import averaged
from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import Slice
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Entry, Planned, Truth, missing_slice
from ich_ray.storage import corpus, dicom, slice_rows
from ich_ray.storage.allocation import keep_freed_memory, spare_what_is_imported
from ich_ray.storage.corpora.layout import Layout, with_truth
from ich_ray.storage.fetching import depth_of, fetch
from ich_ray.storage.kept_rows import kept_groups, with_kept
from ich_ray.storage.objects import Store
from ich_ray.storage.read_ahead import read_ahead
from ich_ray.storage.tables import Part, write_groups
from ich_ray.storage.urls import join

Mask = UInt8[np.ndarray, "rows columns"]


@dataclass(frozen=True, slots=True)
class Finished:
    """What one part became: its file, if any slice was accepted, and its ledger rows."""

    name: str
    part: Part | None
    entries: tuple[Entry, ...]
    labelled: int = 0
    """Slices that were read and that the table of labels names."""

    kept_rows: int = 0
    """Rows that were taken over from parts that it replaces."""

    def to_json(self) -> str:
        """Return it as text."""
        # Not asdict: it copies each value of each row of the ledger, at ten times the cost.
        return json.dumps(self, default=_fields_of)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Finished":
        """Read what `to_json` wrote."""
        tree: dict[str, Any] = json.loads(text)
        part = None if tree["part"] is None else Part(**tree["part"])
        entries = tuple(Entry(**entry) for entry in tree["entries"])
        return cls(tree["name"], part, entries, tree["labelled"], tree["kept_rows"])


def _fields_of(item: "Finished | Part | Entry") -> dict[str, Any]:
    return {one.name: getattr(item, one.name) for one in fields(item)}


@dataclass(slots=True)
class ReadExam:
    """The objects of one exam, decoded; grows while they are read."""

    slices: dict[str, Slice] = field(default_factory=dict)
    """By key."""

    truths: dict[str, Truth] = field(default_factory=dict)
    """What the table of labels says of each."""

    exam_truth: Truth = field(default_factory=Truth)
    origins: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Slice -> source and etag of the object that held it."""

    masks: dict[str, Mask] = field(default_factory=dict)
    segmented: set[str] = field(default_factory=set)
    """Series of which a segmentation or a mask volume tells every slice."""

    entries: list[Entry] = field(default_factory=list)

    def labelled_slices(self, layout: Layout) -> list[Slice]:
        """Return the slices with their truth, by key."""
        return [
            with_truth(
                item,
                self.truths[key],
                self.masks.get(key),
                zeros=item.series in self.segmented
                or (layout.zero_masks and self.truths[key].label is False),
                exam_truth=self.exam_truth,
            )
            for key, item in self.slices.items()
        ]


@dataclass(slots=True)
class _Found:
    """What became of the objects of a part so far."""

    entries: list[Entry] = field(default_factory=list)
    labelled: int = 0
    kept_rows: int = 0

    def add(self, part: str, entries: Iterable[Entry]) -> None:
        """Add rows of the ledger; what is accepted is in this part."""
        for entry in entries:
            self.entries.append(replace(entry, part=part) if entry.outcome == "accepted" else entry)


@dataclass(frozen=True, slots=True)
class PartWriter:
    """Reads the objects of a part and writes it; picklable, and the same bytes each time."""

    store: Store
    corpus: str
    layout: Layout
    pseudonyms: Pseudonyms
    reader: dicom.Reader = "dicomsdl"
    """Who reads ordinary DICOM objects."""
    average_to_mm: float = 0.0
    """Thickness to which thinner slices are averaged; 0 keeps them."""

    def headers(
        self, objects: Sequence[tuple[str, int, str]]
    ) -> Iterator[Callable[[], dicom.Header]]:
        """Yield, in order, functions that return the header facts of objects.

        They raise InvalidExam of what has no place in a corpus. The first bytes suffice for most.

        Args:
            objects: URL, size and `source` of each.
        """
        dicom.READER.set(self.reader)
        spare_what_is_imported()
        most = min(dicom.HEADER_BYTES, max((size for _, size, _ in objects), default=0))
        depth = depth_of([url for url, _, _ in objects], most)
        starts = read_ahead(self._start_of, objects, depth=depth, announce=self._announce_start)
        for item, start in starts:
            yield partial(self._header, *item, start)

    def _start_of(self, item: tuple[str, int, str]) -> bytes:
        url, size, source = item
        end = dicom.HEADER_BYTES if size > dicom.HEADER_BYTES else None
        return fetch(self.store, url, source, size, end=end)

    def _announce_start(self, item: tuple[str, int, str]) -> None:
        self.store.announce(item[0], end=dicom.HEADER_BYTES)

    def _header(self, url: str, size: int, source: str, start: Callable[[], bytes]) -> dicom.Header:
        whole = size <= dicom.HEADER_BYTES
        with contextlib.suppress(dicom.HeaderIncomplete):
            return dicom.read_header(start(), whole=whole)
        return dicom.read_header(fetch(self.store, url, source, size), whole=True)

    def write(self, name: str, objects: Sequence[Planned]) -> Finished:
        """Write a part, unless it was finished before, and return what became of its objects.

        The part's file comes first and the record of it last: a record names a whole file.
        """
        keep_freed_memory()
        spare_what_is_imported()
        record_url = finished_url(self.store, self.corpus, name)
        finished = read_finished(self.store, self.corpus, name)
        # A part with rejected objects is read again: what refused them may have been repaired.
        if finished is not None and all(e.outcome == "accepted" for e in finished.entries):
            return finished
        found = _Found()
        groups = self._groups(name, objects, found)
        first = next(groups, None)
        part = None
        if first is not None:
            table_url = corpus.slices_url(self.store, self.corpus)
            rows = _chain(first, groups)
            part = write_groups(self.store, table_url, name, corpus.SCHEMA, rows, page_rows=1)
        finished = Finished(name, part, tuple(found.entries), found.labelled, found.kept_rows)
        self.store.write_bytes(record_url, finished.to_json().encode())
        return finished

    def _groups(self, name: str, objects: Sequence[Planned], found: _Found) -> Iterator[pa.Table]:
        """Yield the rows of one exam after the other, whose pixels are held one exam at a time."""
        ordered = sorted(objects, key=lambda item: (item.patient, item.exam, item.key))
        whole: list[Planned] = []
        for _, members in groupby(ordered, key=lambda item: (item.patient, item.exam)):
            exam = list(members)
            kept = [item for item in exam if item.kept_in]
            found.add(name, (entry_of(item) for item in kept))
            if len(kept) == len(exam) and not any(item.gone for item in kept):
                whole += kept
                continue
            read = self.read_exam([item for item in exam if not item.kept_in])
            found.add(name, read.entries)
            found.labelled += sum(truth.label is not None for truth in read.truths.values())
            slices = with_kept(
                self.store,
                self.corpus,
                read.labelled_slices(self.layout),
                kept,
                averages=self.average_to_mm > 0,
            )
            if slices and self.average_to_mm:
                slices = averaged(slices, thickness_mm=self.average_to_mm)
            if slices:
                origins = {o.slice: (o.source, o.etag) for o in kept if o.role == "slice"}
                yield slice_rows.to_table([slices], origins=origins | read.origins)
        for group in kept_groups(self.store, self.corpus, whole):
            found.kept_rows += group.num_rows
            yield group

    def read_exam(self, objects: Sequence[Planned]) -> ReadExam:
        """Decode the objects of one exam; what cannot be used has its reason in the entries."""
        dicom.READER.set(self.reader)
        exam = ReadExam()
        if objects:
            exam.exam_truth = objects[0].exam_truth
        for item, fetched in self._fetched([o for o in objects if o.role == "slice"]):
            try:
                self._read_slices(item, fetched(), exam)
                exam.entries.append(entry_of(item))
            except InvalidExam as refusal:
                exam.entries.append(entry_of(item, refusal.reason))
        for item, fetched in self._fetched([o for o in objects if o.role == "mask"]):
            try:
                self._read_masks(item, fetched, exam)
                exam.entries.append(entry_of(item))
            except InvalidExam as refusal:
                exam.entries.append(entry_of(item, refusal.reason))
        return exam

    def _fetched(self, objects: Sequence[Planned]) -> Iterator[tuple[Planned, Callable[[], bytes]]]:
        largest = max((item.size for item in objects), default=0)
        depth = depth_of([item.url for item in objects], largest)
        return read_ahead(
            lambda item: fetch(self.store, item.url, item.source, item.size),
            objects,
            depth=depth,
            announce=lambda item: self.store.announce(item.url),
        )

    def _read_slices(self, item: Planned, data: bytes, exam: ReadExam) -> None:
        said = dict(item.slices)
        for one in self.layout.read_slices(item.key, data, self.pseudonyms):
            exam.slices[one.key] = one
            exam.truths[one.key] = said.pop(one.key, item.truth)
            exam.origins[one.key] = (item.source, item.etag)
        # What is left are labels of slices that the volume does not have.
        exam.entries.extend(missing_slice(name, item.exam) for name in said)

    def _read_masks(self, item: Planned, fetched: Callable[[], bytes], exam: ReadExam) -> None:
        if not exam.slices:
            raise InvalidExam(Reason.MASK_WITHOUT_SLICE, "no slice of the mask's exam was read")
        found = self.layout.read_masks(item.key, fetched(), exam.slices, self.pseudonyms)
        for key, mask in _fitting(found, exam.slices, exam.truths).items():
            before = exam.masks.get(key)
            exam.masks[key] = mask if before is None else np.where(before == 0, mask, before)
            if self.layout.kind == "hu":
                exam.segmented.add(exam.slices[key].series)


def entry_of(item: Planned, reason: Reason | None = None) -> Entry:
    """Return the ledger row of an object that was read, accepted unless a reason is given."""
    accepted = reason is None
    return Entry(
        source=item.source,
        etag=item.etag,
        size=item.size,
        role=item.role,
        outcome="accepted" if accepted else "rejected",
        reason=None if reason is None else reason.value,
        patient=item.patient,
        exam=item.exam,
        slice=item.slice,
    )


def finished_url(store: Store, corpus_name: str, part_name: str) -> str:
    """Return where the record of a finished part lies, beside the tables."""
    return store.url("corpora", corpus_name, "parts", f"{part_name}.json")


def read_finished(store: Store, corpus_name: str, part_name: str) -> Finished | None:
    """Return the record of a part, if it was finished and its file is still whole."""
    try:
        finished = Finished.from_json(store.read_bytes(finished_url(store, corpus_name, part_name)))
        if finished.part is not None:
            url = join(corpus.slices_url(store, corpus_name), finished.part.path)
            if store.size(url) != finished.part.size:
                return None
    except FileNotFoundError:
        return None
    return finished


def _fitting(
    masks: dict[str, Mask], slices: dict[str, Slice], truths: dict[str, Truth]
) -> dict[str, Mask]:
    """Return the masks of slices that are here; refuse the object if one contradicts its slice."""
    here = {key: mask for key, mask in masks.items() if key in slices}
    if not here:
        raise InvalidExam(Reason.MASK_WITHOUT_SLICE, "none of the mask's slices is in the exam")
    for key, mask in here.items():
        if mask.shape != slices[key].stored.shape:
            raise InvalidExam(Reason.MASK_MISMATCH, "mask and slice differ in rows or columns")
        if truths[key].label is False and mask.any():
            raise InvalidExam(
                Reason.MASK_MISMATCH, "a mask marks a slice that is labelled negative"
            )
    return here


def _chain(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest
