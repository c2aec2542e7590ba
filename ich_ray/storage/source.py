"""A source beside the ledger of its corpus: what is new in it, and what its objects belong to."""

import contextlib
import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ich_ray.config import CorpusConfig, Settings
from ich_ray.errors import ConfigError, Reason, SurroundingsError
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import (
    Planned,
    Truth,
    homes_of,
    is_volume,
    labels_without_object,
    nearest_exam,
    slices_about,
    truth_changed,
)
from ich_ray.storage import corpus, ledger
from ich_ray.storage.corpora.layout import Beside, LabelsExams, Layout, Place, Role
from ich_ray.storage.layouts import layout_id, layout_of
from ich_ray.storage.ledger import Entry
from ich_ray.storage.objects import ListedObject, Store, join
from ich_ray.storage.part_writer import PartWriter, read_finished
from ich_ray.storage.tables import Table, open_table, read_rows


@dataclass(frozen=True, slots=True)
class Labels:
    """What the labels of a source say; slices are named by their pseudonyms."""

    truths: Mapping[str, Truth]
    expected_keys: Mapping[str, str]
    """Slice, or exam -> the key that its object would have."""

    volumes: Mapping[str, Mapping[str, Truth]]
    """Key of a volume -> its slices and what the labels say of each."""

    exams: Mapping[str, Truth] = field(default_factory=dict)
    """What is said of exams as a whole, by their pseudonyms."""

    def on(self, item: Planned) -> Planned:
        """Return an object with what the labels say of it."""
        return replace(
            item,
            truth=self.truths.get(item.slice, Truth()),
            exam_truth=self.exams.get(item.exam, Truth()),
            slices=self.volumes.get(item.key, {}),
        )


@dataclass(frozen=True, kw_only=True)
class Source:
    """A listing compared with a ledger."""

    corpus: str
    config: CorpusConfig
    store: Store
    pseudonyms: Pseudonyms
    listed: Sequence[ListedObject]
    new: Sequence[ListedObject]
    names: Mapping[str, str]
    """Key -> its pseudonym."""

    labels: ListedObject | None
    slices_table: Table | None
    known: Sequence[Entry]
    recovered: Sequence[Entry]
    """Rows of parts that were committed before a crash kept them from the ledger."""

    @property
    def layout(self) -> Layout:
        """Of the source."""
        return layout_of(self.config)

    @property
    def version(self) -> int:
        """Of the slices table; -1 if there is none yet."""
        return -1 if self.slices_table is None else self.slices_table.version

    @property
    def part_writer(self) -> PartWriter:
        """What a worker needs to read this source."""
        return PartWriter(
            self.store,
            self.corpus,
            self.layout,
            self.pseudonyms,
            reader=self.config.reader,
            average_to_mm=self.config.average_to_mm,
        )

    def role(self, item: ListedObject) -> Role:
        """Tell what an object is, by its key alone."""
        return "labels" if item == self.labels else self.layout.role(item.key)

    def accepted(self) -> set[tuple[str, str | None]]:
        """Return (role, slice) of what the corpus holds."""
        before = [*self.known, *self.recovered]
        return {(e.role, e.slice) for e in before if e.outcome == "accepted"}

    def read_labels(self) -> Labels:
        """Return what the labels say.

        Raises:
            ConfigError: They contradict themselves, or what was ingested by them.
        """
        if self.labels is None:
            return Labels({}, {}, {})
        with unnamed(f"corpora.{self.corpus}.labels"):
            text = self.store.read_bytes(self.labels.url).decode("utf-8-sig", errors="replace")
        by_exam: Mapping[str, Truth] = {}
        try:
            by_id = self.layout.read_labels(text)
            if isinstance(self.layout, LabelsExams):
                by_exam = self.layout.exam_truths(self.layout.read_reads(text))
        except ConfigError as error:
            raise ConfigError(f"corpus {self.corpus}: {error}") from None
        names = {name: self.pseudonyms.of(name) for name in (*by_id, *by_exam)}
        truths = {names[slice_id]: truth for slice_id, truth in by_id.items()}
        exams = {names[exam]: truth for exam, truth in by_exam.items()}
        if self.labels in self.new:
            self._refuse_changes(truths, exams)
        keys = {name: self.layout.expected_key(slice_id) for slice_id, name in names.items()}
        volumes: dict[str, dict[str, Truth]] = defaultdict(dict)
        for name, key in keys.items():
            if is_volume(key):
                volumes[key][name] = truths[name]
        return Labels(truths, keys, volumes, exams)

    def _refuse_changes(self, truths: Mapping[str, Truth], exams: Mapping[str, Truth]) -> None:
        # An average has the labels of its slices together: no row of the labels is its own.
        if self.slices_table is None or self.config.average_to_mm:
            return
        columns = ["slice", "label", "subtypes", "exam", "exam_label", "exam_subtypes"]
        changed = sum(
            truth_changed(
                truths.get(row["slice"], Truth()), label=row["label"], subtypes=row["subtypes"]
            )
            or truth_changed(
                exams.get(row["exam"], Truth()),
                label=row["exam_label"],
                subtypes=row["exam_subtypes"],
            )
            for row in read_rows(self.store, self.slices_table, columns).to_pylist()
        )
        if changed:
            raise ConfigError(
                f"the labels of {changed} slices of corpus {self.corpus} changed since their "
                "ingest, and a corpus keeps its rows; ingest them under another name"
            )

    def known_by_key(self) -> Iterator[Entry]:
        """Yield the rows of new objects that nobody need open."""
        for item in self.new:
            role = self.role(item)
            if role in ("labels", "boxes", "manifest"):
                yield self.entry(item, role)
            elif role == "unknown":
                yield self.entry(item, role, Reason.UNKNOWN_FILE)

    def placed_by_key(self) -> Iterator[Planned]:
        """Yield the new objects whose key says what they belong to."""
        for item in self.new:
            role = self.role(item)
            if role in ("slice", "mask"):
                place = self.layout.place(item.key)
                if isinstance(place, Place):
                    yield self.placed(item, role, place)

    def placed_beside(self, placed: Iterable[Planned]) -> tuple[list[Planned], list[Entry]]:
        """Place new masks with the slices they lie beside; return the rows of those with none.

        Args:
            placed: The new slices, whose exams are known.
        """
        homes = homes_of(item for item in placed if item.role == "slice")
        found: list[Planned] = []
        refused: list[Entry] = []
        for item in self.new:
            place = self.layout.place(item.key) if self.role(item) == "mask" else None
            if isinstance(place, Beside):
                exam = nearest_exam(place.folder, homes, climb=place.climb)
                if exam is None:
                    refused.append(self.entry(item, "mask", Reason.MASK_WITHOUT_SLICE))
                else:
                    hashed = self.placed(item, "mask", Place("", "", item.key))
                    found.append(replace(hashed, patient=exam[0], exam=exam[1]))
        return found, refused

    def missing(self, labels: Labels, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield a row for every new label whose slice or exam the source does not hold.

        Args:
            labels: Of the source.
            entries: Of its new objects, accepted or not.
        """
        if self.labels not in self.new:
            return
        # The archive's folders stand before the names that labels know.
        keys = self.names.keys() | {key.rpartition("/")[2] for key in self.names}
        held = [*self.known, *self.recovered, *entries]
        here = {name for entry in held for name in (entry.slice, entry.exam) if name is not None}
        already = {entry.source for entry in self.known if entry.reason == Reason.MISSING}
        absent = labels_without_object(labels.expected_keys, slices=here, keys=keys)
        # Many labels may name slices of one absent volume.
        for name in (self.pseudonyms.of(key) for key in dict.fromkeys(absent)):
            if name not in already:
                yield Entry(
                    source=name,
                    etag="",
                    size=0,
                    role="slice",
                    outcome="rejected",
                    reason=Reason.MISSING.value,
                )

    def placed(self, item: ListedObject, role: Role, place: Place) -> Planned:
        """Hash what an object belongs to."""
        assert role in ("slice", "mask")
        return Planned(
            key=item.key,
            url=item.url,
            source=self.names[item.key],
            etag=item.etag,
            size=item.size,
            role=role,
            patient=self.pseudonyms.of(place.patient),
            exam=self.pseudonyms.of(place.exam),
            slice=self.pseudonyms.of(place.slice),
            series=self.pseudonyms.of(place.series) if place.series else "",
            num_slices=slices_about(item.key, item.size),
        )

    def entry(self, item: ListedObject, role: Role, reason: Reason | None = None) -> Entry:
        """Return the row of an object that was not decoded."""
        return Entry(
            source=self.names[item.key],
            etag=item.etag,
            size=item.size,
            role=role,
            outcome="accepted" if reason is None else "rejected",
            reason=None if reason is None else reason.value,
        )


def open_source(settings: Settings, name: str, pseudonyms: Pseudonyms) -> Source:
    """List the source of a corpus and compare it with the ledger; writes nothing.

    Raises:
        ConfigError: There is no such source, it is empty, or the corpus has another key.
        SurroundingsError: The store failed, or lost the record of a part.
    """
    config = settings.corpora.get(name)
    if config is None:
        known_names = ", ".join(settings.corpora) or "none"
        raise ConfigError(f"there is no corpora.{name} in the settings; known: {known_names}")
    store = Store.from_config(settings.store)
    slices_table = open_table(store, corpus.slices_url(store, name))
    _check_same(name, config, pseudonyms, slices_table)
    ledger_table, known = ledger.read_ledger(store, name)
    _check_same(name, config, pseudonyms, ledger_table)
    recovered = _recovered(store, name, slices_table, known)
    with unnamed(f"corpora.{name}.source"):
        listed = store.listing(config.source)
    with unnamed(f"corpora.{name}.labels"):
        labels = _labels_object(store, config, listed)
    if labels is not None and labels not in listed:
        listed = [*listed, labels]
    layout = layout_of(config)
    if not any(layout.role(i.key) not in ("labels", "unknown") for i in listed):
        raise ConfigError(
            f"corpora.{name}.source holds nothing of the layout {config.layout}; "
            "check the source and the layout"
        )
    names = {item.key: pseudonyms.of(item.key) for item in listed}
    done = {(entry.source, entry.etag) for entry in [*known, *recovered]}
    return Source(
        corpus=name,
        config=config,
        store=store,
        pseudonyms=pseudonyms,
        listed=listed,
        new=[item for item in listed if (names[item.key], item.etag) not in done],
        names=names,
        labels=labels,
        slices_table=slices_table,
        known=known,
        recovered=recovered,
    )


def write_private_map(path: Path, names: Mapping[str, str]) -> None:
    """Write the pseudonym and the key of every object as CSV, for the data's owner alone."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("source", "key"))
    writer.writerows(sorted((name, key) for key, name in names.items()))
    # For the owner alone: the file names patients.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8", newline="") as stream:
        stream.write(text.getvalue())


def _check_same(
    name: str, config: CorpusConfig, pseudonyms: Pseudonyms, table: Table | None
) -> None:
    """Refuse to append rows that could not be read together with those that are there."""
    if table is None:
        return
    corpus.check_schema(name, table)
    there = table.properties["key_fingerprint"]
    if there != pseudonyms.fingerprint:
        raise ConfigError(
            f"corpus {name} has pseudonyms of key {there}, this run has key "
            f"{pseudonyms.fingerprint}; set identity or ICH_RAY_HMAC_KEY as at its first ingest"
        )
    averaged = float(table.properties.get("average_to_mm", "0"))
    if averaged != config.average_to_mm:
        raise ConfigError(
            f"corpus {name} was ingested with average_to_mm={averaged:g}, not "
            f"{config.average_to_mm:g}; ingest this source under another name"
        )
    if table.properties["layout"] != layout_id(config):
        raise ConfigError(
            f"corpus {name} was ingested from the layout {table.properties['layout']}, not "
            f"{layout_id(config)}; ingest this source, or with these nifti settings, under "
            "another name"
        )


def _recovered(
    store: Store, name: str, slices_table: Table | None, known: Sequence[Entry]
) -> list[Entry]:
    if slices_table is None:
        return []
    recorded = {entry.part for entry in known}
    entries: list[Entry] = []
    for url in slices_table.files:
        part = url.rsplit("/", 1)[1].removeprefix("part-").removesuffix(".parquet")
        if part not in recorded:
            finished = read_finished(store, name, part)
            if finished is None:
                raise SurroundingsError(
                    f"corpus {name} holds the part {part}, and neither the ledger nor the record "
                    "of its ingest names it; restore the folder, or ingest under another name"
                )
            entries.extend(finished.entries)
    return entries


@contextlib.contextmanager
def unnamed(setting: str) -> Iterator[None]:
    """Name a setting instead of its value where the store fails: a prefix may name a patient."""
    try:
        yield
    except SurroundingsError as error:
        kind = type(error.__cause__).__name__ if error.__cause__ else "it is not there"
        raise SurroundingsError(
            f"{setting} could not be read ({kind}); check that it exists, the disk or the object "
            "store and its credentials, then run the same command again"
        ) from None


def _labels_object(
    store: Store, config: CorpusConfig, listed: Sequence[ListedObject]
) -> ListedObject | None:
    if config.labels:
        found = store.describe(config.labels)
        if found is None:
            raise ConfigError("the table of labels does not exist; correct corpora.*.labels")
        return next((item for item in listed if item.url == found.url), found)
    by_key = {item.key: item for item in listed}
    for place in layout_of(config).label_files():
        if place in by_key:
            return by_key[place]
        if place.startswith("../"):
            beside = store.describe(join(config.source.rstrip("/").rpartition("/")[0], place[3:]))
            if beside is not None:
                return beside
    return None
