"""A source beside the ledger of its corpus: what is new in it, and what its objects belong to."""

import contextlib
import csv
import io
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ich_ray.config import CorpusConfig, Settings
from ich_ray.errors import ConfigError, Reason, SurroundingsError
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Entry, Planned, slices_about
from ich_ray.storage import corpus
from ich_ray.storage.corpora.layout import Layout, Place, Role
from ich_ray.storage.ingest_log import settle, unsettled
from ich_ray.storage.layouts import layout_id, layout_of
from ich_ray.storage.ledger import Ledger, open_ledger
from ich_ray.storage.objects import ListedObject, Store
from ich_ray.storage.part_writer import PartWriter
from ich_ray.storage.tables import Table, open_table
from ich_ray.storage.urls import join


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

    @cached_property
    def layout(self) -> Layout:
        """Of the source."""
        return layout_of(self.config)

    @property
    def version(self) -> int:
        """Of the slices table; -1 if there is none yet."""
        return -1 if self.slices_table is None else self.slices_table.version

    @property
    def unsettled(self) -> bool:
        """Whether a run died between its commits: `settle` makes those that are left."""
        return unsettled(self.store, self.corpus, self.ledger.table, self.version)

    @property
    def outdated(self) -> bool:
        """Whether another run has committed since the ledger was read."""
        return open_ledger(self.store, self.corpus).version != self.ledger.version

    def settle(self) -> None:
        """Make the commits that a run died before."""
        assert self.ledger.table is not None
        settle(self.store, self.corpus, self.ledger.table)

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

    def known_by_key(self) -> Iterator[Entry]:
        """Yield the rows of new objects that nobody need open."""
        for item in self.new:
            role = self.role(item)
            if role in ("labels", "boxes", "manifest"):
                yield self.entry(item, role)
            elif role == "unknown":
                yield self.entry(item, role, Reason.UNKNOWN_FILE)

    def placed_by_key(self, items: Iterable[ListedObject]) -> Iterator[Planned]:
        """Yield the objects whose key says what they belong to."""
        for item in items:
            role = self.role(item)
            if role in ("slice", "mask"):
                place = self.layout.place(item.key)
                if isinstance(place, Place):
                    yield self.placed(item, role, place)

    def objects(self, rows: Iterable[Entry]) -> list[ListedObject]:
        """Return the objects of the listing that rows of the ledger are about."""
        wanted = {row.source for row in rows}
        if not wanted:
            return []
        return [item for item in self.listed if self.names[item.key] in wanted]

    def check_still_there(self, refused: Iterable[Entry]) -> None:
        """Tell objects that went away from a source that did.

        Raises:
            SurroundingsError: An object could not be read, and now the source lists nothing.
        """
        if not any(entry.reason == Reason.UNREADABLE for entry in refused):
            return
        with unnamed(f"corpora.{self.corpus}.source"):
            left = self.store.listing(self.config.source)
        if not left:
            raise SurroundingsError(
                f"corpora.{self.corpus}.source vanished while it was read; nothing was committed. "
                "Mount or restore it, then run the same command again"
            )

    def kept(self, rows: Collection[Entry], anew: Collection[str]) -> Iterator[Planned]:
        """Yield what is taken over from the parts that hold it.

        Args:
            rows: Of the ledger.
            anew: Exams that are planned anew.
        """
        wanted = {row.source for row in rows}
        keys = {name: key for key, name in self.names.items() if name in wanted}
        for row in rows:
            patient, exam, slice_id, part = row.patient, row.exam, row.slice, row.part
            # Only what was placed lies in a part.
            assert patient is not None, row.source
            assert exam is not None, row.source
            assert slice_id is not None, row.source
            assert part is not None, row.source
            key = keys.get(row.source, row.source)
            yield Planned(
                key=key,
                url="",
                source=row.source,
                etag=row.etag,
                size=row.size,
                role="mask" if row.role == "mask" else "slice",
                patient=patient,
                exam=exam,
                slice=slice_id,
                num_slices=slices_about(key, row.size),
                kept_in=part,
                gone=exam in anew,
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
            patient=self.pseudonyms.shared(place.patient),
            exam=self.pseudonyms.shared(place.exam),
            slice=self.pseudonyms.of(place.slice),
            series=self.pseudonyms.shared(place.series) if place.series else "",
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
        SurroundingsError: The store failed.
    """
    config = settings.corpora.get(name)
    if config is None:
        known_names = ", ".join(settings.corpora) or "none"
        raise ConfigError(f"there is no corpora.{name} in the settings; known: {known_names}")
    store = Store.from_config(settings.store)
    # The ledger first: a commit to it after this fails the run's own, so that all other tables
    # may be read later and still be those that belong to it.
    held = open_ledger(store, name)
    _check_same(name, config, pseudonyms, held.table)
    slices_table = open_table(store, corpus.slices_url(store, name))
    _check_same(name, config, pseudonyms, slices_table)
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
    averaged = float(table.properties.get("average_to_mm", "0"))
    if averaged != config.average_to_mm:
        raise ConfigError(
            f"corpus {name} was ingested with average_to_mm={averaged:g}, not "
            f"{config.average_to_mm:g}; ingest this source under another name"
        )
    if table.properties["layout"] != layout_id(config):
        raise ConfigError(
            f"corpus {name} was ingested from the layout {table.properties['layout']}, not "
            f"{layout_id(config)}; ingest this source, or with these settings of its masks, "
            "under another name"
        )


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
