"""Ingest: what is new in a source becomes a version of its corpus, and of its ledger."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from ich_ray.config import Settings
from ich_ray.distributed.session import code_revision, configure_data
from ich_ray.growth import Growth, growth_of
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Entry, Planned, Truth, first_by_key, parts_by_patient
from ich_ray.settings import resolved
from ich_ray.storage import corpus, ledger
from ich_ray.storage.ingest_log import Change, commit_ingest
from ich_ray.storage.objects import ListedObject
from ich_ray.storage.part_writer import Finished, entry_of
from ich_ray.storage.source import Labels, Source, open_source, write_private_map
from ich_ray.storage.tables import Part


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestPlan:
    """What an ingest would do."""

    corpus: str
    known_objects: int
    new_objects: int
    new_bytes: int
    parts: int
    """An estimate: patients are known only after the headers."""

    cpu_hours: float
    """An estimate, from the number of slices and `ingest.cpu_seconds_per_1000_slices`."""

    cost: float
    """Of these hours, by `ingest.price_per_cpu_hour`."""

    gone: int
    """Objects of the corpus that the source no longer holds; their slices are kept."""

    def line(self) -> str:
        """Return one line for a person."""
        return (
            f"ingest {self.corpus}: {self.new_objects} new objects "
            f"({self.new_bytes / 1e6:.1f} MB) in about {self.parts} parts, "
            f"{self.cpu_hours:.2g} CPU hours, cost {self.cost:.2g}; "
            f"{self.known_objects} known, {self.gone} gone from the source"
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
    accepted_masks: int = 0
    """Objects: a segmentation of many slices is one."""

    labelled_slices: int = 0
    """Accepted slices that the table of labels names."""

    duplicates: int = 0
    """Of the new objects."""

    rejected: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number; `missing` counts labels without an object."""

    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Reason -> pseudonyms of some objects; --private-map tells whose they are."""

    parts: int = 0
    bytes: int = 0
    """Of the parts."""

    exams_anew: int = 0
    """Exams of the corpus that were planned anew, since something of them is new."""

    gone: int = 0
    """Objects of the corpus that the source no longer holds; their slices are kept."""

    up_to_date: bool = False

    def line(self) -> str:
        """Return one line for a person, and one more for each reason of rejection."""
        gone = f"; {self.gone} objects gone from the source are kept" if self.gone else ""
        if self.up_to_date:
            return f"ingest {self.corpus}: up to date, version {self.version}{gone}"
        rejected = ", ".join(f"{count} {reason}" for reason, count in self.rejected.items())
        anew = f"; {self.exams_anew} exams planned anew" if self.exams_anew else ""
        examples = "".join(
            f"\n  {reason}: {self.rejected[reason]}, e.g. {', '.join(sources)}"
            for reason, sources in self.examples.items()
        )
        return (
            f"ingest {self.corpus}: {self.accepted_slices} slices, {self.accepted_masks} masks, "
            f"{self.labelled_slices} labels, {self.duplicates} duplicates, "
            f"rejected: {rejected or 'none'}; {self.objects} new objects in {self.parts} parts "
            f"({self.bytes / 1e6:.1f} MB), version {self.version}{anew}{gone}{examples}"
        )


def plan_ingest(settings: Settings, name: str, pseudonyms: Pseudonyms) -> IngestPlan:
    """Say what an ingest would do; reads the listing and the ledger, writes nothing."""
    return plan_of(settings, open_source(settings, name, pseudonyms))


def plan_of(settings: Settings, source: Source) -> IngestPlan:
    """Say what an ingest of a listing would do."""
    slices = [item for item in source.new if source.role(item) in ("slice", "object")]
    cpu_hours = len(slices) / 1000 * settings.ingest.cpu_seconds_per_1000_slices / 3600
    return IngestPlan(
        corpus=source.corpus,
        known_objects=len(source.listed) - len(source.new),
        new_objects=len(source.new),
        new_bytes=sum(item.size for item in source.new),
        parts=math.ceil(len(slices) / source.config.slices_per_part),
        cpu_hours=cpu_hours,
        cost=cpu_hours * settings.ingest.price_per_cpu_hour,
        gone=source.num_gone,
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
    """Bring what is new in a source into its corpus, whole or not at all.

    An exam with anything new is planned again from all of its objects, and the parts that hold it
    are replaced. What is gone from the source stays in the corpus, and is counted.

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
        SurroundingsError: The store failed, or another ingest of this corpus came first.
    """
    tell = progress or (lambda _: None)
    source = open_source(settings, name, pseudonyms)
    if source.unsettled:
        source.settle()
        source = open_source(settings, name, pseudonyms)
    if private_map is not None:
        write_private_map(private_map, source.names)
    if not source.new:
        return _up_to_date(source)
    labels = source.read_labels()
    done = Done([ledger.to_table(source.known_by_key())])
    planned: list[Planned] = []
    if any(source.role(item) in ("slice", "mask", "object") for item in source.new):
        ensure_ray()
        planned = _carried_out(source, labels, done, tell)
    missing, dropped = source.missing(labels, planned)
    done.rows.append(ledger.to_table(missing))
    entries = pa.concat_tables(done.rows)
    if not dropped and source.ledger.says(entries):
        return _up_to_date(source)
    refused = ledger.refused(entries, unless=done.unchanged)
    source.check_still_there(refused)
    limit = source.config.max_rejected_share
    ledger.check_rejected(name, refused, num_objects=len(source.new), limit=limit)
    version = commit_ingest(
        source.store,
        name,
        source.ledger,
        slices_version=source.version,
        entries=entries,
        dropped=dropped,
        change=Change(done.parts, sorted(done.replaced)),
        properties=_origin(settings, source),
    )
    return _summary(source, version, done, refused)


@dataclass
class Done:
    """What an ingest has done so far; rows as columns, since there may be a million."""

    rows: list[pa.Table]
    """Of the ledger."""

    parts: list[Part] = field(default_factory=list)
    replaced: frozenset[str] = frozenset()
    """Names of parts of the corpus."""

    unchanged: frozenset[str] = frozenset()
    """`source` of objects that were read again, with others of their exam, or taken over."""

    exams_anew: int = 0
    """Exams of the corpus that are planned anew."""

    slices: int = 0
    """Read, not taken over."""

    masks: int = 0
    labelled: int = 0
    duplicates: int = 0
    """Of the new objects."""

    def add(self, finished: Finished, read: Sequence[Entry], labels: Labels) -> None:
        """Count a part, and keep its rows of the ledger; `read` are those of objects read now."""
        self.rows.append(ledger.to_table(finished.entries))
        if finished.part is not None:
            self.parts.append(finished.part)
            self.slices += finished.part.rows - finished.kept_rows
        accepted = [entry for entry in read if entry.outcome == "accepted"]
        self.masks += sum(entry.role == "mask" for entry in accepted)
        slices = (e.slice for e in accepted if e.role == "slice")
        self.labelled += sum(
            labels.truths.get(key or "", Truth()).label is not None for key in slices
        )


def _carried_out(
    source: Source, labels: Labels, done: Done, tell: Callable[[str], None]
) -> list[Planned]:
    """Read what is new and all that goes with it, write the parts, and return what was read."""
    # Here and not above: it loads Ray, which a run without anything new does not need.
    from ich_ray.distributed.ingest_passes import write_parts

    configure_data()
    placed, refused = _placed(source, source.new, tell)
    here = set(source.names.values())
    near = source.ledger.near(placed, changed=source.changed)
    growth = growth_of(near, placed, changed=source.changed, here=here)
    unchanged, refused_again = _placed(source, source.objects(growth.again), tell)
    first, duplicates = first_by_key([*placed, *unchanged], known=growth.accepted)
    planned = [replace(item, truth=labels.truths.get(item.slice, Truth())) for item in first]
    kept, superseded = _kept(source, growth, planned)
    done.replaced = growth.parts
    done.unchanged = frozenset(row.source for row in (*growth.again, *growth.kept))
    done.exams_anew = len({row.exam for row in growth.again})
    done.duplicates = sum(item.source not in done.unchanged for item in duplicates)
    copies = (replace(entry_of(item), outcome="duplicate") for item in (*duplicates, *superseded))
    done.rows.append(ledger.to_table([*refused, *refused_again, *copies]))
    parts = parts_by_patient([*planned, *kept], slices_per_part=source.config.slices_per_part)
    taken_over = {item.source for item in kept}
    for part in write_parts(source, parts, tell, replaces=growth.parts):
        done.add(part, [e for e in part.entries if e.source not in taken_over], labels)
    return planned


def _placed(
    source: Source, items: Sequence[ListedObject], tell: Callable[[str], None]
) -> tuple[list[Planned], list[Entry]]:
    """Place objects by their keys or headers; return the rows of those that have no place."""
    from ich_ray.distributed.ingest_passes import read_headers

    placed = list(source.placed_by_key(items))
    refused: list[Entry] = []
    unplaced = [item for item in items if source.role(item) == "object"]
    if unplaced:
        by_header, refused = read_headers(source, unplaced, tell)
        placed += by_header
    return placed, refused


def _kept(
    source: Source, growth: Growth, planned: Sequence[Planned]
) -> tuple[list[Planned], list[Planned]]:
    """Return what is taken over, and what is gone and stands now under another key."""
    there = {(item.role, item.slice) for item in planned}
    kept: list[Planned] = []
    superseded: list[Planned] = []
    for item in source.kept(growth.kept, growth.exams):
        again = item.gone and (item.role, item.slice) in there
        (superseded if again else kept).append(item)
    return kept, superseded


def _origin(settings: Settings, source: Source) -> dict[str, str]:
    """Return where the rows of a commit come from: its properties."""
    window: dict[str, str] = {}
    if source.layout.window is not None:
        center, width = source.layout.window
        window = {"center": str(center), "width": str(width)}
    return {
        "schema_version": corpus.SCHEMA_VERSION,
        "code_revision": code_revision(),
        "settings": json.dumps(resolved(settings), sort_keys=True),
        "inputs": json.dumps({"source": source.config.source, "objects": len(source.new)}),
        "stage": "ingest",
        "layout": source.config.layout,
        "kind": source.layout.kind,
        "key_fingerprint": source.pseudonyms.fingerprint,
        **window,
    }


def _summary(source: Source, version: int, done: Done, refused: Sequence[Entry]) -> IngestSummary:
    by_reason = ledger.counts(refused)
    return IngestSummary(
        corpus=source.corpus,
        version=version,
        objects=len(source.new),
        accepted_slices=done.slices,
        accepted_masks=done.masks,
        labelled_slices=done.labelled,
        duplicates=done.duplicates,
        rejected={reason.value: len(found) for reason, found in by_reason.items()},
        examples={
            reason.value: tuple(sorted(found)[: ledger.EXAMPLES])
            for reason, found in by_reason.items()
        },
        parts=len(done.parts),
        bytes=sum(part.size for part in done.parts),
        exams_anew=done.exams_anew,
        gone=source.num_gone,
    )


def _up_to_date(source: Source) -> IngestSummary:
    return IngestSummary(
        corpus=source.corpus, version=source.version, up_to_date=True, gone=source.num_gone
    )
