"""Ingest: what is new in a source becomes a version of its corpus, and of its ledger."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ich_ray.config import Settings
from ich_ray.distributed.ingest_passes import read_headers, write_parts
from ich_ray.distributed.session import code_revision, configure_data
from ich_ray.identity import Pseudonyms, content_hash
from ich_ray.ingest_plan import Planned, first_by_key, parts_by_patient, slices_about
from ich_ray.series import HeaderFacts
from ich_ray.series_plan import Decision, deciding_rules
from ich_ray.settings import for_record
from ich_ray.storage import corpus, ledger
from ich_ray.storage.layouts import layout_id
from ich_ray.storage.ledger import Entry
from ich_ray.storage.part_writer import Finished, entry_of
from ich_ray.storage.source import Labels, Source, open_source, write_private_map
from ich_ray.storage.source_series import append_beside, source_series_plan
from ich_ray.storage.tables import commit, write_part


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
        """Return one line for a person."""
        return (
            f"ingest {self.corpus}: {self.new_objects} new objects "
            f"({self.new_bytes / 1e6:.1f} MB) in about {self.parts} parts; "
            f"{self.known_objects} known"
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
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number; `missing` counts labels without an object."""

    parts: int = 0
    bytes: int = 0
    """Of the parts."""

    series_rules: Mapping[str, int] = field(default_factory=dict)
    """Rule -> number of exams whose series it chose (ich_ray/series.py)."""

    exams_without_series: Mapping[str, int] = field(default_factory=dict)
    """Rules that dropped every series of an exam -> number of exams."""

    missing_slices: int = 0
    """In gaps of the series that were kept; the table of series says where."""

    up_to_date: bool = False

    def line(self) -> str:
        """Return one line for a person."""
        if self.up_to_date:
            return f"ingest {self.corpus}: up to date, version {self.version}"
        rejected = _counted(self.rejected)
        return (
            f"ingest {self.corpus}: {self.accepted_slices} slices, {self.accepted_masks} masks, "
            f"{self.labelled_slices} labels, {self.duplicates} duplicates, "
            f"rejected: {rejected or 'none'}; {self.objects} new objects in {self.parts} parts "
            f"({self.bytes / 1e6:.1f} MB), version {self.version}{self._series_line()}"
        )

    def _series_line(self) -> str:
        """Say what was decided over series, where there was something to decide."""
        said = ""
        if set(self.series_rules) - {"only_series"}:
            said += f"; series of exams: {_counted(self.series_rules)}"
        if self.exams_without_series:
            said += f"; exams without a usable series: {_counted(self.exams_without_series)}"
        if self.missing_slices:
            said += f"; {self.missing_slices} slices missing in gaps"
        return said


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in numbers.items())


def plan_ingest(settings: Settings, name: str, pseudonyms: Pseudonyms) -> IngestPlan:
    """Say what an ingest would do; reads the listing and the ledger, writes nothing."""
    source = open_source(settings, name, pseudonyms)
    slices = [item for item in source.new if source.role(item) in ("slice", "object")]
    return IngestPlan(
        corpus=name,
        known_objects=len(source.listed) - len(source.new),
        new_objects=len(source.new),
        new_bytes=sum(item.size for item in source.new),
        parts=math.ceil(
            sum(slices_about(item.key, item.size) for item in slices)
            / source.config.slices_per_part
        ),
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
    source = open_source(settings, name, pseudonyms)
    if private_map is not None:
        write_private_map(private_map, source.names)
    if not source.new and not source.recovered:
        return IngestSummary(corpus=name, version=source.version, up_to_date=True)
    labels = source.read_labels()
    entries = [*source.recovered, *source.known_by_key()]
    finished: list[Finished] = []
    decisions: list[Decision] = []
    if any(source.role(item) in ("slice", "mask", "object") for item in source.new):
        ensure_ray()
        configure_data()
        planned, refused, decisions = _placed(source, labels, tell)
        parts = parts_by_patient(planned, slices_per_part=source.config.slices_per_part)
        finished = list(write_parts(source, parts, tell))
        entries += [*refused, *(entry for part in finished for entry in part.entries)]
    entries += source.missing(labels, list(entries))
    ledger.check_rejected(
        name, entries, num_objects=len(source.new), limit=source.config.max_rejected_share
    )
    origin = _origin(settings, source)
    append_beside(source, decisions, origin)
    version = _commit(source, finished, entries, origin)
    return _with_series(_summary(source, version, finished, entries), decisions)


def _placed(
    source: Source, labels: Labels, tell: Callable[[str], None]
) -> tuple[list[Planned], list[Entry], list[Decision]]:
    """Place every new object; return those to read, the rows of others, and why, by series."""
    placed = list(source.placed_by_key())
    facts: dict[str, HeaderFacts] = {}
    refused: list[Entry] = []
    unplaced = [item for item in source.new if source.role(item) == "object"]
    if unplaced:
        by_header, facts, refused = read_headers(source, unplaced, tell)
        placed += by_header
    beside, without = source.placed_beside(placed)
    placed, refused = placed + beside, refused + without
    first, duplicates = first_by_key(placed, known=source.accepted())
    refused += [replace(entry_of(item), outcome="duplicate") for item in duplicates]
    plan = source_series_plan(source, first, facts, annotated=labels.truths)
    refused += [entry_of(item, reason) for item, reason in plan.refused]
    return [labels.on(item) for item in plan.kept], refused, plan.decisions


def _commit(
    source: Source,
    finished: Sequence[Finished],
    entries: Sequence[Entry],
    properties: Mapping[str, str],
) -> int:
    """Commit the slices, then the ledger; a crash between the two is repaired by the next.

    Returns:
        The version of the slices.
    """
    parts = [item.part for item in finished if item.part is not None]
    transaction = content_hash(
        {"corpus": source.corpus, "objects": [[source.names[i.key], i.etag] for i in source.new]}
    )
    version = source.version
    if parts:
        version = commit(
            source.store,
            corpus.slices_url(source.store, source.corpus),
            schema=corpus.SCHEMA,
            parts=parts,
            properties=properties,
            transaction=f"ingest-{transaction}",
        )
    url = corpus.ledger_url(source.store, source.corpus)
    commit(
        source.store,
        url,
        schema=ledger.SCHEMA,
        parts=[write_part(source.store, url, transaction, ledger.to_table(entries), None)],
        properties={**properties, "slices_version": str(version)},
        transaction=f"ledger-{transaction}",
    )
    return version


def _origin(settings: Settings, source: Source) -> dict[str, str]:
    """Return where the rows of a commit come from: its properties."""
    window: dict[str, str] = {}
    if source.layout.window is not None:
        center, width = source.layout.window
        window = {"center": str(center), "width": str(width)}
    return {
        "schema_version": corpus.SCHEMA_VERSION,
        "code_revision": code_revision(),
        "settings": json.dumps(for_record(settings, source.pseudonyms), sort_keys=True),
        "inputs": json.dumps(
            {
                "source": source.pseudonyms.of(source.config.source),
                "objects": len(source.new),
            }
        ),
        "stage": "ingest",
        "layout": layout_id(source.config),
        "average_to_mm": str(source.config.average_to_mm),
        "kind": source.layout.kind,
        "key_fingerprint": source.pseudonyms.fingerprint,
        **window,
    }


def _with_series(summary: IngestSummary, decisions: Sequence[Decision]) -> IngestSummary:
    chosen, without = deciding_rules(decisions)
    kept = [item for item in decisions if item.choice.kept]
    missing = sum(gap.missing for item in kept for gap in item.gaps)
    return replace(
        summary, series_rules=chosen, exams_without_series=without, missing_slices=missing
    )


def _summary(
    source: Source,
    version: int,
    finished: Sequence[Finished],
    entries: Sequence[Entry],
) -> IngestSummary:
    parts = [item.part for item in finished if item.part is not None]
    written = [e for item in finished for e in item.entries if e.outcome == "accepted"]
    rejected = {reason.value: len(found) for reason, found in ledger.counts(entries).items()}
    return IngestSummary(
        corpus=source.corpus,
        version=version,
        objects=len(source.new),
        accepted_slices=sum(part.rows for part in parts),
        accepted_masks=sum(e.role == "mask" for e in written),
        labelled_slices=sum(item.labelled for item in finished),
        duplicates=sum(entry.outcome == "duplicate" for entry in entries),
        rejected=rejected,
        parts=len(parts),
        bytes=sum(part.size for part in parts),
    )
