"""A source beside the ledger of its corpus: what is new in it, and what its objects belong to."""

import csv
import io
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ich_ray.config import CorpusConfig, Settings
from ich_ray.errors import ConfigError, Reason, SurroundingsError
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Entry, Planned, Truth, labels_without_object, truth_changed
from ich_ray.storage import corpus
from ich_ray.storage.corpora.layout import Layout, Role
from ich_ray.storage.ingest_log import settle, unsettled
from ich_ray.storage.ledger import Ledger, open_ledger
from ich_ray.storage.objects import ListedObject, Store, join
from ich_ray.storage.part_writer import LAYOUTS, PartWriter
from ich_ray.storage.tables import Table, open_table, read_rows


@dataclass(frozen=True, slots=True)
class Labels:
    """What the labels of a source say; slices are named by their pseudonyms."""

    truths: Mapping[str, Truth]
    expected_keys: Mapping[str, str]
    """Slice -> the key that its object would have."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A listing compared with a ledger."""

    corpus: str
    config: CorpusConfig
    store: Store
    pseudonyms: Pseudonyms
    listed: Sequence[ListedObject]
    new: Sequence[ListedObject]
    """Objects that the ledger does not hold as they are now."""

    changed: frozenset[str]
    """`source` of those among them that the ledger holds otherwise, or could not read."""

    num_gone: int
    """Objects of the ledger that the source no longer holds; their rows are kept."""

    names: Mapping[str, str]
    """Key -> its pseudonym."""

    labels: ListedObject | None
    slices_table: Table | None
    ledger: Ledger

    @property
    def layout(self) -> Layout:
        """Of the source."""
        return LAYOUTS[self.config.layout]

    @property
    def version(self) -> int:
        """Of the slices table; -1 if there is none yet."""
        return -1 if self.slices_table is None else self.slices_table.version

    @property
    def unsettled(self) -> bool:
        """Whether a run died between its two commits: `settle` makes the second."""
        return unsettled(self.ledger.table, self.slices_table)

    def settle(self) -> None:
        """Make the commit that a run died before."""
        assert self.ledger.table is not None
        settle(self.store, self.corpus, self.ledger.table)

    @property
    def part_writer(self) -> PartWriter:
        """What a worker needs to read this source."""
        return PartWriter(self.store, self.corpus, self.config.layout, self.pseudonyms)

    def role(self, item: ListedObject) -> Role:
        """Tell what an object is, by its key alone."""
        return "labels" if item == self.labels else self.layout.role(item.key)

    def read_labels(self) -> Labels:
        """Return what the labels say.

        Raises:
            ConfigError: They contradict themselves, or what was ingested by them.
        """
        if self.labels is None:
            self._refuse_loss()
            return Labels({}, {})
        text = self.store.read_bytes(self.labels.url).decode("utf-8-sig", errors="replace")
        try:
            by_id = self.layout.read_labels(text)
        except ConfigError as error:
            raise ConfigError(f"corpus {self.corpus}: {error}") from None
        names = {slice_id: self.pseudonyms.of(slice_id) for slice_id in by_id}
        truths = {names[slice_id]: truth for slice_id, truth in by_id.items()}
        if self.labels in self.new:
            self._refuse_changes(truths)
        keys = {name: self.layout.expected_key(slice_id) for slice_id, name in names.items()}
        return Labels(truths, keys)

    def _refuse_loss(self) -> None:
        """Exams that are planned anew would lose their labels."""
        if self.ledger.where("role", ["labels"]):
            raise ConfigError(
                f"the table of labels with which corpus {self.corpus} was ingested is gone from "
                f"{self.config.source}; put it back, or set corpora.{self.corpus}.labels"
            )

    def _refuse_changes(self, truths: Mapping[str, Truth]) -> None:
        if self.slices_table is None:
            return
        rows = read_rows(self.store, self.slices_table, ["slice", "label", "subtypes"])
        changed = sum(
            truth_changed(
                truths.get(row["slice"], Truth()), label=row["label"], subtypes=row["subtypes"]
            )
            for row in rows.to_pylist()
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
            if role in ("labels", "manifest"):
                yield self.entry(item, role)
            elif role == "unknown":
                yield self.entry(item, role, Reason.UNKNOWN_FILE)

    def placed_by_key(self, items: Iterable[ListedObject]) -> Iterator[Planned]:
        """Yield the objects whose key says what they belong to."""
        for item in items:
            role = self.role(item)
            if role in ("slice", "mask"):
                place = self.layout.place(item.key)
                assert place is not None
                yield self.placed(item, role, place.patient, place.exam, place.slice)

    def missing(
        self, labels: Labels, planned: Iterable[Planned]
    ) -> tuple[list[Entry], frozenset[str]]:
        """Return rows for labels whose slice the source does not hold, and the rows to drop.

        Args:
            labels: Of the source.
            planned: What is read now.

        Returns:
            (new rows, `source` of rows of the ledger whose slice has come since).
        """
        here = {item.slice for item in planned if item.role == "slice"}
        here |= set(self.ledger.rows["slice"].drop_null().to_pylist())
        absent = labels_without_object(labels.expected_keys, slices=here, keys=self.names)
        now = {self.pseudonyms.of(key) for key in absent}
        told = self.ledger.where("reason", [Reason.MISSING.value])
        before = {row.source for row in told if row.slice is None}
        rows = [
            Entry(
                source=name,
                etag="",
                size=0,
                role="slice",
                outcome="rejected",
                reason=Reason.MISSING.value,
            )
            for name in sorted(now - before)
        ]
        return rows, frozenset(before - now)

    def objects(self, rows: Iterable[Entry]) -> list[ListedObject]:
        """Return the objects of the listing that rows of the ledger are about."""
        wanted = {row.source for row in rows}
        return [item for item in self.listed if self.names[item.key] in wanted]

    def check_still_there(self, refused: Iterable[Entry]) -> None:
        """Tell objects that went away from a source that did.

        Raises:
            SurroundingsError: An object could not be read, and now the source lists nothing.
        """
        unread = any(entry.reason == Reason.UNREADABLE for entry in refused)
        if unread and not self.store.listing(self.config.source):
            raise SurroundingsError(
                f"{self.config.source} vanished while corpus {self.corpus} was read from it; "
                "nothing was committed. Mount or restore it, then run the same command again"
            )

    def kept(self, rows: Iterable[Entry], anew: Collection[str]) -> Iterator[Planned]:
        """Yield what is taken over from the parts that hold it.

        Args:
            rows: Of the ledger.
            anew: Exams that are planned anew.
        """
        keys = {name: key for key, name in self.names.items()}
        for row in rows:
            patient, exam, slice_id, part = row.patient, row.exam, row.slice, row.part
            # Only what was placed lies in a part.
            assert patient is not None, row.source
            assert exam is not None, row.source
            assert slice_id is not None, row.source
            assert part is not None, row.source
            yield Planned(
                key=keys.get(row.source, row.source),
                url="",
                source=row.source,
                etag=row.etag,
                size=row.size,
                role="mask" if row.role == "mask" else "slice",
                patient=patient,
                exam=exam,
                slice=slice_id,
                kept_in=part,
                gone=exam in anew,
            )

    def placed(
        self, item: ListedObject, role: Role, patient: str, exam: str, slice_id: str
    ) -> Planned:
        """Hash what an object belongs to."""
        assert role in ("slice", "mask")
        return Planned(
            key=item.key,
            url=item.url,
            source=self.names[item.key],
            etag=item.etag,
            size=item.size,
            role=role,
            # One string for all slices of an exam: there may be a million objects.
            patient=sys.intern(self.pseudonyms.of(patient)),
            exam=sys.intern(self.pseudonyms.of(exam)),
            slice=self.pseudonyms.of(slice_id),
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
        SurroundingsError: The store failed.
    """
    config = settings.corpora.get(name)
    if config is None:
        known_names = ", ".join(settings.corpora) or "none"
        raise ConfigError(f"there is no corpora.{name} in the settings; known: {known_names}")
    store = Store.from_config(settings.store)
    slices_table = open_table(store, corpus.slices_url(store, name))
    _check_same(name, config, pseudonyms, slices_table)
    held = open_ledger(store, name)
    _check_same(name, config, pseudonyms, held.table)
    listed = store.listing(config.source)
    labels = _labels_object(store, config, listed)
    if labels is not None and labels not in listed:
        listed = [*listed, labels]
    if not any(LAYOUTS[config.layout].role(i.key) not in ("labels", "unknown") for i in listed):
        raise ConfigError(
            f"corpora.{name}.source={config.source} holds nothing of the layout "
            f"{config.layout}; check the source and the layout"
        )
    names = {item.key: pseudonyms.of(item.key) for item in listed}
    etags, unread = held.etags()
    new = [
        item
        for item in listed
        if etags.get(names[item.key]) != item.etag or names[item.key] in unread
    ]
    return Source(
        corpus=name,
        config=config,
        store=store,
        pseudonyms=pseudonyms,
        listed=listed,
        new=new,
        changed=frozenset(names[item.key] for item in new if names[item.key] in etags),
        num_gone=len(etags.keys() - names.values()),
        names=names,
        labels=labels,
        slices_table=slices_table,
        ledger=held,
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
    if table.properties["layout"] != config.layout:
        raise ConfigError(
            f"corpus {name} was ingested from the layout {table.properties['layout']}, not "
            f"{config.layout}; ingest this source under another name"
        )


def _labels_object(
    store: Store, config: CorpusConfig, listed: Sequence[ListedObject]
) -> ListedObject | None:
    if config.labels:
        found = store.describe(config.labels)
        if found is None:
            raise ConfigError(f"labels={config.labels} does not exist; correct corpora.*.labels")
        return next((item for item in listed if item.url == found.url), found)
    by_key = {item.key: item for item in listed}
    for place in LAYOUTS[config.layout].label_files():
        if place in by_key:
            return by_key[place]
        if place.startswith("../"):
            beside = store.describe(join(config.source.rstrip("/").rpartition("/")[0], place[3:]))
            if beside is not None:
                return beside
    return None
