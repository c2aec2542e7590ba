"""Ingest: what is new in a source becomes a version of its corpus, and of its ledger."""

import csv
import io
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext
from ray.util.annotations import RayDeprecationWarning

from ich_ray.config import CorpusConfig, Settings
from ich_ray.distributed.session import code_revision
from ich_ray.errors import ConfigError, InvalidExam, QualityError, Reason, SurroundingsError
from ich_ray.identity import Pseudonyms, content_hash
from ich_ray.settings import resolved
from ich_ray.storage import corpus, ledger
from ich_ray.storage.corpora.layout import Role, Truth
from ich_ray.storage.ledger import Entry
from ich_ray.storage.objects import ListedObject, Store, join
from ich_ray.storage.part_writer import (
    LAYOUTS,
    Finished,
    PartWriter,
    Planned,
    entry_of,
    read_finished,
)
from ich_ray.storage.tables import Table, commit, open_table, read_rows, write_part

HEADERS_PER_BLOCK = 200
BYTES_PER_SLICE = 1_500_000
"""Memory that a worker needs for each slice of a part, at most (512 x 512, 16 bits)."""

WORKER_BYTES = 400_000_000
"""Memory of a worker process before it holds any slice."""

WORKER_DEATHS = 4
"""A part whose worker dies more often than this fails the ingest: a file may kill its decoder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestPlan:
    """What an ingest would do."""

    corpus: str
    known_objects: int
    new_objects: int
    new_bytes: int
    parts: int
    """An estimate: patients are known only after the headers."""

    def line(self) -> str:
        """Return one sentence."""
        return (
            f"{self.corpus}: {self.new_objects} new objects ({self.new_bytes / 1e6:.1f} MB) in "
            f"about {self.parts} parts; {self.known_objects} known"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestSummary:
    """What an ingest did."""

    corpus: str
    version: int
    """Of the slices table; -1 if there is none yet."""

    objects: int = 0
    """New objects of the source."""

    accepted_slices: int = 0
    duplicates: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number; `missing` counts labels without an object."""

    parts: int = 0
    bytes: int = 0
    """Of the parts."""

    up_to_date: bool = False

    def line(self) -> str:
        """Return one sentence."""
        if self.up_to_date:
            return f"{self.corpus}: nothing new, version {self.version}"
        rejected = ", ".join(f"{count} {reason}" for reason, count in self.rejected.items())
        return (
            f"{self.corpus}: version {self.version}, {self.accepted_slices} slices of "
            f"{self.objects} new objects in {self.parts} parts ({self.bytes / 1e6:.1f} MB); "
            f"{self.duplicates} duplicates, rejected: {rejected or 'none'}"
        )


def plan_ingest(settings: Settings, name: str, pseudonyms: Pseudonyms) -> IngestPlan:
    """Say what an ingest would do; reads the listing and the ledger, writes nothing."""
    work = _Work.found(settings, name, pseudonyms)
    slices = [item for item in work.new if work.role(item) in ("slice", "object")]
    return IngestPlan(
        corpus=name,
        known_objects=len(work.listed) - len(work.new),
        new_objects=len(work.new),
        new_bytes=sum(item.size for item in work.new),
        parts=math.ceil(len(slices) / work.config.slices_per_part),
    )


def ingest(  # noqa: PLR0913  (one stage, and who calls it back)
    settings: Settings,
    name: str,
    *,
    pseudonyms: Pseudonyms,
    ensure_ray: Callable[[], None],
    progress: Callable[[str], None] | None = None,
    private_map: Path | None = None,
) -> IngestSummary:
    """Append what is new in a source to its corpus, whole or not at all.

    Args:
        settings: Of the run.
        name: Of the corpus.
        pseudonyms: The key by which identifiers are hashed.
        ensure_ray: Called before the first use of Ray, and not at all if nothing is new.
        progress: Receives a sentence now and then.
        private_map: Local CSV of key and pseudonym, for the owner of the data alone.

    Raises:
        ConfigError: The source is empty, the labels are wrong, or the corpus has another key.
        QualityError: Too large a share of the objects was rejected; nothing was committed.
        SurroundingsError: The store failed.
    """
    tell = progress or (lambda _: None)
    work = _Work.found(settings, name, pseudonyms)
    if private_map is not None:
        _write_private_map(private_map, work)
    if not work.new and not work.recovered:
        return IngestSummary(corpus=name, version=work.version, up_to_date=True)
    labels = work.read_labels()
    entries = [*work.recovered, *work.settled()]
    planned: list[Planned] = []
    finished: list[Finished] = []
    if any(work.role(item) in ("slice", "mask", "object") for item in work.new):
        ensure_ray()
        context = DataContext.get_current()
        context.enable_progress_bars = False
        # Else our own errors arrive as text within Ray's.
        context.raise_original_map_exception = True
        planned, refused = work.plan(labels, tell)
        finished = list(_write_parts(work, _parts(planned, work.config), tell))
        entries += [*refused, *(entry for part in finished for entry in part.entries)]
    entries += work.missing(labels, planned)
    _gate(work, entries)
    return work.commit(finished, entries)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A source compared with its ledger."""

    name: str
    settings: Settings
    pseudonyms: Pseudonyms
    listed: Sequence[ListedObject]
    new: Sequence[ListedObject]
    sources: Mapping[str, str]
    """Key -> its pseudonym."""

    labels: ListedObject | None
    slices_table: Table | None
    known: Sequence[Entry]
    recovered: Sequence[Entry]
    """Rows of parts that were committed before a crash kept them from the ledger."""

    @classmethod
    def found(cls, settings: Settings, name: str, pseudonyms: Pseudonyms) -> "_Work":
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
        listed = store.listing(config.source)
        labels = _labels_object(store, config, listed)
        if labels is not None and labels not in listed:
            listed = [*listed, labels]
        if not any(LAYOUTS[config.layout].role(i.key) not in ("labels", "unknown") for i in listed):
            raise ConfigError(
                f"corpora.{name}.source={config.source} holds nothing of the layout "
                f"{config.layout}; check the source and the layout"
            )
        sources = {item.key: pseudonyms.of(item.key) for item in listed}
        done = {(entry.source, entry.etag) for entry in [*known, *recovered]}
        return cls(
            name=name,
            settings=settings,
            pseudonyms=pseudonyms,
            listed=listed,
            new=[item for item in listed if (sources[item.key], item.etag) not in done],
            sources=sources,
            labels=labels,
            slices_table=slices_table,
            known=known,
            recovered=recovered,
        )

    @property
    def config(self) -> CorpusConfig:
        return self.settings.corpora[self.name]

    @property
    def store(self) -> Store:
        return Store.from_config(self.settings.store)

    @property
    def version(self) -> int:
        return -1 if self.slices_table is None else self.slices_table.version

    @property
    def writer(self) -> PartWriter:
        return PartWriter(self.store, self.name, self.config.layout, self.pseudonyms)

    def role(self, item: ListedObject) -> Role:
        return "labels" if item == self.labels else LAYOUTS[self.config.layout].role(item.key)

    def read_labels(self) -> "_Labels":
        """Return what the labels say; refuse labels that changed after an ingest."""
        if self.labels is None:
            return _Labels({}, {})
        layout = LAYOUTS[self.config.layout]
        text = self.store.read_bytes(self.labels.url).decode("utf-8-sig", errors="replace")
        try:
            by_id = layout.read_labels(text)
        except ConfigError as error:
            raise ConfigError(f"corpus {self.name}: {error}") from None
        names = {slice_id: self.pseudonyms.of(slice_id) for slice_id in by_id}
        truths = {names[slice_id]: truth for slice_id, truth in by_id.items()}
        if self.slices_table is not None and self.labels in self.new:
            rows = read_rows(self.store, self.slices_table, ["slice", "label", "subtypes"])
            changed = sum(_differs(row, truths) for row in rows.to_pylist())
            if changed:
                raise ConfigError(
                    f"the labels of {changed} slices of corpus {self.name} changed since their "
                    "ingest, and a corpus keeps its rows; ingest them under another name"
                )
        keys = {name: layout.expected_key(slice_id) for slice_id, name in names.items()}
        return _Labels(truths, keys)

    def settled(self) -> Iterator[Entry]:
        """Yield the rows of what is known by its key alone."""
        for item in self.new:
            role = self.role(item)
            if role in ("labels", "manifest"):
                yield self.entry(item, role)
            elif role == "unknown":
                yield self.entry(item, role, Reason.UNKNOWN_FILE)

    def missing(self, labels: "_Labels", planned: Sequence[Planned]) -> Iterator[Entry]:
        """Yield a row for every label whose slice the source does not hold.

        Where no label at all finds its slice, they are the labels of another folder, such as
        those of the training slices beside the test's.
        """
        if self.labels not in self.new:
            return
        here = {item.slice for item in planned if item.role == "slice"}
        here |= {e.slice for e in [*self.known, *self.recovered] if e.slice is not None}
        absent = [
            key
            for name, key in labels.expected_keys.items()
            if name not in here and key not in self.sources
        ]
        if len(absent) == len(labels.truths):
            return
        already = {entry.source for entry in self.known if entry.reason == Reason.MISSING}
        for source in (self.pseudonyms.of(key) for key in absent):
            if source not in already:
                yield Entry(
                    source=source,
                    etag="",
                    size=0,
                    role="slice",
                    outcome="rejected",
                    reason=Reason.MISSING.value,
                )

    def plan(
        self, labels: "_Labels", tell: Callable[[str], None]
    ) -> tuple[list[Planned], list[Entry]]:
        """Place every new object; return those to read, and the rows of those that are not."""
        by_key = self._placed_by_key()
        refused: list[Entry] = []
        unplaced = [item for item in self.new if self.role(item) == "object"]
        if unplaced:
            placed, refused = _read_headers(self, unplaced, tell)
            by_key = {**by_key, **placed}
        done = [e for e in [*self.known, *self.recovered] if e.outcome == "accepted"]
        seen = {(e.role, e.slice) for e in done}
        planned = []
        for _, item in sorted(by_key.items()):
            # A mask of CT-ICH has the name of its slice, a segmentation its own.
            if (item.role, item.slice) in seen:
                refused.append(replace(entry_of(item), outcome="duplicate"))
                continue
            seen.add((item.role, item.slice))
            planned.append(replace(item, truth=labels.truths.get(item.slice, Truth())))
        return planned, refused

    def _placed_by_key(self) -> dict[str, Planned]:
        layout = LAYOUTS[self.config.layout]
        placed = {}
        for item in self.new:
            role = self.role(item)
            if role in ("slice", "mask"):
                place = layout.place(item.key)
                assert place is not None
                placed[item.key] = self.planned(item, role, place.patient, place.exam, place.slice)
        return placed

    def planned(
        self, item: ListedObject, role: Role, patient: str, exam: str, slice_id: str
    ) -> Planned:
        """Hash what an object belongs to."""
        assert role in ("slice", "mask")
        return Planned(
            key=item.key,
            url=item.url,
            source=self.sources[item.key],
            etag=item.etag,
            size=item.size,
            role=role,
            patient=self.pseudonyms.of(patient),
            exam=self.pseudonyms.of(exam),
            slice=self.pseudonyms.of(slice_id),
        )

    def entry(self, item: ListedObject, role: Role, reason: Reason | None = None) -> Entry:
        """Return the row of an object that was not decoded."""
        return Entry(
            source=self.sources[item.key],
            etag=item.etag,
            size=item.size,
            role=role,
            outcome="accepted" if reason is None else "rejected",
            reason=None if reason is None else reason.value,
        )

    def commit(self, finished: Sequence[Finished], entries: Sequence[Entry]) -> IngestSummary:
        """Commit the slices, then the ledger; a crash between the two is repaired by the next."""
        parts = [item.part for item in finished if item.part is not None]
        transaction = content_hash(
            {"corpus": self.name, "objects": [[self.sources[i.key], i.etag] for i in self.new]}
        )
        properties = self.properties()
        version = self.version
        if parts:
            version = commit(
                self.store,
                corpus.slices_url(self.store, self.name),
                schema=corpus.SCHEMA,
                parts=parts,
                properties=properties,
                transaction=f"ingest-{transaction}",
            )
        url = corpus.ledger_url(self.store, self.name)
        commit(
            self.store,
            url,
            schema=ledger.SCHEMA,
            parts=[write_part(self.store, url, transaction, ledger.to_table(entries), None)],
            properties={**properties, "slices_version": str(version)},
            transaction=f"ledger-{transaction}",
        )
        rejected = {reason.value: len(found) for reason, found in ledger.counts(entries).items()}
        return IngestSummary(
            corpus=self.name,
            version=version,
            objects=len(self.new),
            accepted_slices=sum(part.rows for part in parts),
            duplicates=sum(entry.outcome == "duplicate" for entry in entries),
            rejected=rejected,
            parts=len(parts),
            bytes=sum(part.size for part in parts),
        )

    def properties(self) -> dict[str, str]:
        """Where the rows of this commit come from."""
        layout = LAYOUTS[self.config.layout]
        window: dict[str, str] = {}
        if layout.window is not None:
            window = {"center": str(layout.window[0]), "width": str(layout.window[1])}
        return {
            "schema_version": corpus.SCHEMA_VERSION,
            "code_revision": code_revision(),
            "settings": json.dumps(resolved(self.settings), sort_keys=True),
            "inputs": json.dumps({"source": self.config.source, "objects": len(self.new)}),
            "stage": "ingest",
            "layout": self.config.layout,
            "kind": layout.kind,
            "key_fingerprint": self.pseudonyms.fingerprint,
            **window,
        }


@dataclass(frozen=True, slots=True)
class _Labels:
    truths: Mapping[str, Truth]
    expected_keys: Mapping[str, str]
    """Pseudonym of a slice -> the key that its object would have."""


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


def _differs(row: Mapping[str, Any], truths: Mapping[str, Truth]) -> bool:
    truth = truths.get(row["slice"], Truth())
    if truth.label is None:
        # The corpus may know a label from a mask; a row that vanished from the labels is a change.
        return row["subtypes"] is not None
    subtypes = None if truth.subtypes is None else list(truth.subtypes)
    return bool((row["label"], row["subtypes"]) != (truth.label, subtypes))


_HEADERS = pa.schema(
    [
        ("index", pa.int64()),
        ("url", pa.string()),
        ("size", pa.int64()),
        ("source", pa.string()),
    ]
)
_FACTS = pa.schema(
    [
        ("index", pa.int64()),
        ("role", pa.string()),
        ("patient", pa.string()),
        ("exam", pa.string()),
        ("slice", pa.string()),
        ("reason", pa.string()),
    ]
)


def _read_headers(
    work: _Work, items: Sequence[ListedObject], tell: Callable[[str], None]
) -> tuple[dict[str, Planned], list[Entry]]:
    blocks = [
        pa.Table.from_pylist(
            [
                {
                    "index": index,
                    "url": items[index].url,
                    "size": items[index].size,
                    "source": work.sources[items[index].key],
                }
                for index in range(start, min(start + HEADERS_PER_BLOCK, len(items)))
            ],
            schema=_HEADERS,
        )
        for start in range(0, len(items), HEADERS_PER_BLOCK)
    ]
    placed: dict[str, Planned] = {}
    refused: list[Entry] = []
    for facts in _mapped(blocks, partial(_facts, writer=work.writer), num_slices=1):
        for row in facts.to_pylist():
            item = items[row["index"]]
            if row["reason"] is not None:
                refused.append(work.entry(item, "object", Reason(row["reason"])))
                continue
            placed[item.key] = work.planned(
                item, row["role"], row["patient"], row["exam"], row["slice"]
            )
        tell(f"{work.name}: headers of {len(placed) + len(refused)} of {len(items)} objects")
    return placed, refused


def _facts(batch: pa.Table, *, writer: PartWriter) -> pa.Table:
    rows = []
    for row in batch.to_pylist():
        facts: dict[str, Any] = {"index": row["index"]}
        try:
            header = writer.header(row["url"], row["size"], row["source"])
            facts |= {
                "role": header.role,
                "patient": header.patient,
                "exam": header.exam,
                "slice": header.slice,
            }
        except InvalidExam as refusal:
            facts["reason"] = refusal.reason.value
        rows.append(facts)
    return pa.Table.from_pylist(rows, schema=_FACTS)


def _parts(planned: Sequence[Planned], config: CorpusConfig) -> list[list[Planned]]:
    """Divide objects into parts by patient, never a patient over two."""
    by_patient: dict[str, list[Planned]] = {}
    for item in planned:
        by_patient.setdefault(item.patient, []).append(item)
    parts: list[list[Planned]] = []
    room = 0
    for patient in sorted(by_patient):
        slices = sum(item.role == "slice" for item in by_patient[patient])
        if not parts or slices > room:
            parts.append([])
            room = config.slices_per_part
        parts[-1].extend(by_patient[patient])
        room -= slices
    return parts


def _part_name(work: _Work, objects: Sequence[Planned]) -> str:
    content = {
        "schema": corpus.SCHEMA_VERSION,
        "layout": work.config.layout,
        "key": work.pseudonyms.fingerprint,
        "objects": sorted(
            [item.source, item.etag, item.truth.label, list(item.truth.subtypes or ())]
            for item in objects
        ),
    }
    return content_hash(content)


_PART = pa.schema([("name", pa.string()), ("objects", pa.string())])


def _write_parts(
    work: _Work, parts: Sequence[Sequence[Planned]], tell: Callable[[str], None]
) -> Iterator[Finished]:
    blocks = [
        pa.Table.from_pylist(
            [
                {
                    "name": _part_name(work, objects),
                    "objects": json.dumps([asdict(item) for item in objects]),
                }
            ],
            schema=_PART,
        )
        for objects in parts
    ]
    largest = max((len(objects) for objects in parts), default=0)
    done = 0
    for batch in _mapped(blocks, partial(_written, writer=work.writer), num_slices=largest):
        for text in batch["finished"].to_pylist():
            done += 1
            tell(f"{work.name}: part {done} of {len(parts)}")
            yield Finished.from_json(text)


def _written(batch: pa.Table, *, writer: PartWriter) -> pa.Table:
    finished = [
        writer.write(row["name"], [_planned_from(tree) for tree in json.loads(row["objects"])])
        for row in batch.to_pylist()
    ]
    return pa.table({"finished": [item.to_json() for item in finished]})


def _planned_from(tree: dict[str, Any]) -> Planned:
    label, subtypes = tree["truth"]["label"], tree["truth"]["subtypes"]
    truth = Truth(label, None if subtypes is None else tuple(subtypes))
    return Planned(**{**tree, "truth": truth})


def _mapped(
    blocks: Sequence[pa.Table], function: Callable[[pa.Table], pa.Table], *, num_slices: int
) -> Iterator[pa.Table]:
    """Map a function over blocks, one task a block: keys travel through Ray, pixels never."""
    if not blocks:
        return
    # Declared, since a task that the system kills for its memory is tried again for ever; and
    # never more than the cluster has, since such a task would wait for ever.
    most = int(ray.cluster_resources().get("memory", 0) // 2)
    memory = min(WORKER_BYTES + num_slices * BYTES_PER_SLICE, most)
    with warnings.catch_warnings():
        # Ray tries a task whose worker died again for ever; a file that kills its decoder would
        # never end. 2.60 bounds that by this argument only, and announces to rename it.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        results = ray.data.from_arrow(list(blocks)).map_batches(
            function,
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=1,
            memory=memory,
            max_retries=WORKER_DEATHS,
        )
    try:
        yield from results.iter_batches(batch_size=None, batch_format="pyarrow")
    except ray.exceptions.RayTaskError as error:
        raise _cause(error) from error
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise SurroundingsError(
            f"the worker of one part died {WORKER_DEATHS + 1} times: out of memory, or a file that "
            "kills its decoder; lower slices_per_part to find it, or add memory, then run again"
        ) from error


def _cause(error: ray.exceptions.RayTaskError) -> BaseException:
    """Return our own error from within Ray's, if it was one: callers want the plain class."""
    for kind in (ConfigError, SurroundingsError):
        if isinstance(error.cause, kind):
            return kind(str(error.cause))
    return error


def _gate(work: _Work, entries: Sequence[Entry]) -> None:
    """Fail if too large a share of the source's new objects was rejected."""
    reasons = ledger.counts(entries)
    reasons.pop(Reason.MISSING, None)
    rejected = sum(len(sources) for sources in reasons.values())
    limit = work.config.max_rejected_share
    if work.new and rejected > limit * len(work.new):
        found = "; ".join(
            f"{len(sources)} {reason.value} (e.g. {', '.join(sorted(sources)[:3])})"
            for reason, sources in reasons.items()
        )
        raise QualityError(
            f"corpus {work.name}: {rejected} of {len(work.new)} new objects were rejected, more "
            f"than max_rejected_share={limit:g}: {found}. Nothing was committed. Find the objects "
            "by --private-map FILE; repair or remove them, or raise max_rejected_share"
        )


def _write_private_map(path: Path, work: _Work) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("source", "key"))
    writer.writerows(sorted((source, key) for key, source in work.sources.items()))
    # For the owner alone: the file names patients.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8", newline="") as stream:
        stream.write(text.getvalue())
