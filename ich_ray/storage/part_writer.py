"""One part of a corpus, from fetching its objects to its Parquet file: what one worker does."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from ich_ray.errors import InvalidExam, Reason, SurroundingsError
from ich_ray.exam import Slice
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Entry, Planned, Truth
from ich_ray.storage import corpus, dicom
from ich_ray.storage.corpora.ct_ich import CtIch
from ich_ray.storage.corpora.folder import Folder
from ich_ray.storage.corpora.layout import Layout, with_truth
from ich_ray.storage.corpora.rsna import Rsna
from ich_ray.storage.kept_rows import kept_groups, with_kept
from ich_ray.storage.objects import Store, is_local, join
from ich_ray.storage.tables import Part, write_groups

LAYOUTS: dict[str, Layout] = {"rsna": Rsna(), "ct_ich": CtIch(), "folder": Folder()}

Mask = UInt8[np.ndarray, "rows columns"]


@dataclass(frozen=True, slots=True)
class Finished:
    """What one part became: its file, if any slice was accepted, and its ledger rows."""

    name: str
    part: Part | None
    entries: tuple[Entry, ...]
    kept_rows: int = 0
    """Rows that were taken over from parts that it replaces."""

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Finished":
        """Read what `to_json` wrote."""
        tree: dict[str, Any] = json.loads(text)
        part = None if tree["part"] is None else Part(**tree["part"])
        entries = tuple(Entry(**entry) for entry in tree["entries"])
        return cls(tree["name"], part, entries, tree["kept_rows"])


@dataclass(slots=True)
class _Found:
    """What became of the objects of a part so far."""

    entries: list[Entry] = field(default_factory=list)
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
    layout: str
    pseudonyms: Pseudonyms

    def header(self, url: str, size: int, source: str) -> dicom.Header:
        """Return the header facts of an object, from its first bytes where these suffice.

        Raises:
            InvalidExam: It has no place in a corpus.
        """
        if size > dicom.HEADER_BYTES:
            try:
                start = _fetch(self.store, url, source, end=dicom.HEADER_BYTES)
                return dicom.read_header(start, whole=False)
            except dicom.HeaderIncomplete:
                pass
        return dicom.read_header(_fetch(self.store, url, source), whole=True)

    def write(self, name: str, objects: Sequence[Planned]) -> Finished:
        """Write a part, unless it was finished before, and return what became of its objects.

        The part's file comes first and the record of it last: a record names a whole file.
        """
        record_url = finished_url(self.store, self.corpus, name)
        finished = read_finished(self.store, self.corpus, name)
        # A part with rejected objects is read again: what refused them may have been repaired.
        if finished is not None and all(e.outcome == "accepted" for e in finished.entries):
            return finished
        found = _Found()
        table_url = corpus.slices_url(self.store, self.corpus)
        groups = self._groups(name, objects, found)
        first = next(groups, None)
        part = None
        if first is not None:
            part = write_groups(self.store, table_url, name, corpus.SCHEMA, _chain(first, groups))
        finished = Finished(name, part, tuple(found.entries), found.kept_rows)
        self.store.write_bytes(record_url, finished.to_json().encode())
        return finished

    def _groups(self, name: str, objects: Sequence[Planned], found: "_Found") -> Iterator[pa.Table]:
        ordered = sorted(objects, key=lambda item: (item.patient, item.exam, item.key))
        whole: list[Planned] = []
        for _, members in groupby(ordered, key=lambda item: (item.patient, item.exam)):
            exam = list(members)
            kept = [item for item in exam if item.kept_in]
            found.add(name, (entry_of(item) for item in kept))
            if len(kept) == len(exam) and not any(item.gone for item in kept):
                whole += kept
                continue
            slices, entries = self.read_exam([item for item in exam if not item.kept_in])
            found.add(name, entries)
            slices = with_kept(self.store, self.corpus, slices, kept)
            if slices:
                origins = {o.slice: (o.source, o.etag) for o in exam if o.role == "slice"}
                yield corpus.to_table([slices], origins=origins)
        for group in kept_groups(self.store, self.corpus, whole):
            found.kept_rows += group.num_rows
            yield group

    def read_exam(self, objects: Sequence[Planned]) -> tuple[list[Slice], list[Entry]]:
        """Decode the objects of one exam; what cannot be used has its reason in the entries."""
        layout = LAYOUTS[self.layout]
        slices: dict[str, Slice] = {}
        entries = []
        for item in (o for o in objects if o.role == "slice"):
            try:
                data = _fetch(self.store, item.url, item.source)
                slices[item.slice] = layout.read_slice(item.key, data, self.pseudonyms)
                entries.append(entry_of(item))
            except InvalidExam as refusal:
                entries.append(entry_of(item, refusal.reason))
        truths = {o.slice: o.truth for o in objects if o.role == "slice"}
        masks: dict[str, Mask] = {}
        has_segmentation = False
        for item in (o for o in objects if o.role == "mask"):
            try:
                data = _fetch(self.store, item.url, item.source)
                found = layout.read_masks(item.key, data, self.pseudonyms)
                found = _fitting(found, slices, truths)
                for key, mask in found.items():
                    masks[key] = (
                        np.where(masks[key] == 0, mask, masks[key]) if key in masks else mask
                    )
                has_segmentation = has_segmentation or layout.kind == "hu"
                entries.append(entry_of(item))
            except InvalidExam as refusal:
                entries.append(entry_of(item, refusal.reason))
        exam = []
        for key, bare in slices.items():
            truth = truths[key]
            zeros = has_segmentation or (layout.zero_masks and truth.label is False)
            exam.append(with_truth(bare, truth, masks.get(key), zeros=zeros))
        return exam, entries


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


def _fetch(store: Store, url: str, source: str, *, end: int | None = None) -> bytes:
    try:
        return store.read_bytes(url) if end is None else store.read_range(url, 0, end)
    except FileNotFoundError:
        raise InvalidExam(Reason.UNREADABLE, "listed, and then not there") from None
    except SurroundingsError as error:
        # One file without permission is that file's fault; a store that refuses is not.
        if is_local(url) and isinstance(error.__cause__, PermissionError):
            raise InvalidExam(Reason.UNREADABLE, "no permission to read it") from None
        # Not the URL, and no chain to the error that quotes it: names of files name patients.
        # Without a cause, the bucket itself is not there.
        why = type(error.__cause__).__name__ if error.__cause__ else "its bucket is gone"
        raise SurroundingsError(
            f"the object {source} of the source could not be read ({why}); check the "
            "disk or the object store and its credentials, then run the same command again"
        ) from None


def _chain(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest
