"""Ingest: what is new in a source becomes a version of its corpus, and of its ledger."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa

from ich_ray.config import Settings
from ich_ray.distributed import metrics, records
from ich_ray.distributed.ingest_growth import Done, read_new
from ich_ray.distributed.session import Session, code_revision
from ich_ray.garbage import seldom_collected
from ich_ray.identity import Pseudonyms
from ich_ray.ingest_plan import Entry, slices_about
from ich_ray.ingest_summary import IngestPlan, IngestSummary
from ich_ray.series_plan import deciding_rules
from ich_ray.settings import for_record
from ich_ray.storage import corpus, ledger
from ich_ray.storage.ingest_log import commit_ingest
from ich_ray.storage.layouts import layout_id
from ich_ray.storage.leases import Lease
from ich_ray.storage.source import Source, open_source, write_private_map
from ich_ray.storage.source_labels import missing, read_labels
from ich_ray.storage.source_series import changes_beside, read_annotations
from ich_ray.storage.table_change import Change
from ich_ray.storage.tables import part_path


@seldom_collected()
def plan_ingest(settings: Settings, name: str, pseudonyms: Pseudonyms) -> IngestPlan:
    """Say what an ingest would do; reads the listing and the ledger, writes nothing."""
    return plan_of(settings, open_source(settings, name, pseudonyms))


def plan_of(settings: Settings, source: Source) -> IngestPlan:
    """Say what an ingest of a listing would do."""
    slices = sum(
        slices_about(item.key, item.size)
        for item in source.new
        if source.role(item) in ("slice", "object")
    )
    cpu_hours = slices / 1000 * settings.ingest.cpu_seconds_per_1000_slices / 3600
    return IngestPlan(
        corpus=source.corpus,
        known_objects=len(source.listed) - len(source.new),
        new_objects=len(source.new),
        new_bytes=sum(item.size for item in source.new),
        slices=slices,
        parts=math.ceil(slices / source.config.slices_per_part),
        cpu_hours=cpu_hours,
        cost=cpu_hours * settings.budget.price_per_cpu_hour,
        gone=source.num_gone,
    )


@seldom_collected()
def ingest(  # noqa: PLR0913  (one stage, and who calls it back)
    settings: Settings,
    name: str,
    *,
    pseudonyms: Pseudonyms,
    ensure_ray: Callable[[], None],
    progress: Callable[[str], None] | None = None,
    private_map: Path | None = None,
    writing: Callable[[str], AbstractContextManager[Lease]] | None = None,
) -> IngestSummary:
    """Bring what is new in a source into its corpus, whole or not at all.

    An exam with anything new is planned again from all of its objects, its series too, and the
    parts that hold it are replaced. What is gone from the source stays in the corpus, and is
    counted.

    Args:
        settings: Of the run.
        name: Of the corpus.
        pseudonyms: The key by which identifiers are hashed.
        ensure_ray: Called before the first use of Ray, and not at all if nothing is new.
        progress: Receives a sentence now and then.
        private_map: Local CSV of key and pseudonym, for the owner of the data alone.
        writing: Holds the lease of a URL for a block; None makes one of this process's own.

    Raises:
        ConfigError: The source is empty, the labels are wrong, or the corpus has another key.
        QualityError: Too large a share of the objects was rejected; nothing was committed.
        SurroundingsError: The store failed, or another ingest of this corpus came first.
    """
    source = open_source(settings, name, pseudonyms)
    if private_map is not None:
        write_private_map(private_map, source.names)
    if not source.new and not source.unsettled:
        return _up_to_date(source)
    writing = writing or Session(settings, pseudonyms).writing
    with writing(source.store.url("corpora", name)) as lease:
        # Another run may have committed while this one waited.
        if source.outdated:
            source = open_source(settings, name, pseudonyms)
        while source.unsettled:
            source.settle()
            source = open_source(settings, name, pseudonyms)
        if not source.new:
            return _up_to_date(source)
        return _bring(settings, source, ensure_ray, progress or (lambda _: None), lease)


def _bring(
    settings: Settings,
    source: Source,
    ensure_ray: Callable[[], None],
    tell: Callable[[str], None],
    lease: Lease,
) -> IngestSummary:
    name = source.corpus
    labels = read_labels(source)
    annotations = read_annotations(source)
    done = Done([ledger.to_table(source.known_by_key())])
    objects = (source.role(item) in ("slice", "mask", "object") for item in source.new)
    if labels.anew or any(objects):
        ensure_ray()
        read_new(source, labels, done, tell, cluster=settings.cluster)
    absent, come = missing(source, labels, done.found())
    done.rows.append(ledger.to_table(absent))
    metrics.rejected(absent)
    entries = pa.concat_tables(done.rows)
    dropped = (done.dropped | come) - set(entries["source"].to_pylist())
    if not dropped and source.ledger.says(entries):
        return _up_to_date(source)
    told = {name for name, outcome in done.before.items() if outcome != "accepted"}
    refused = ledger.refused(entries, unless=told)
    source.check_still_there(refused)
    ledger.check_rejected(
        name,
        refused,
        num_objects=len(source.new) + sum(entry.source in done.before for entry in refused),
        limit=source.config.max_rejected_share,
    )
    changes = changes_beside(source, done.decisions, annotations, anew=done.series_anew)
    if done.parts or done.replaced:
        removed = [part_path(part) for part in sorted(done.replaced)]
        changes["slices"] = Change(source.version + 1, done.parts, removed)
    lease.check()
    commit_ingest(
        source.store,
        name,
        source.ledger,
        entries=entries,
        dropped=dropped,
        changes=changes,
        properties=_origin(settings, source),
    )
    version = changes["slices"].version if "slices" in changes else source.version
    _note(source, changes)
    return _summary(source, version, done, refused)


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


def _note(source: Source, changes: Mapping[str, Change]) -> None:
    """Note what the ingest read and wrote, for its record."""
    where = source.pseudonyms.of(source.config.source)
    counts = {"objects": len(source.listed), "new": len(source.new)}
    records.read("source", where, _listing_hash(source), **counts)
    ledger_url = corpus.ledger_url(source.store, source.corpus)
    records.wrote("ledger", ledger_url, source.ledger.version + 1)
    for name, change in changes.items():
        url = source.store.url("corpora", source.corpus, name)
        records.wrote("corpus" if name == "slices" else name, url, change.version)


def _listing_hash(source: Source) -> str:
    """Return the hash of what the source listed: each object's pseudonym and etag."""
    listed = sorted((source.names[item.key], item.etag) for item in source.listed)
    digest = hashlib.sha256()
    for name, etag in listed:
        digest.update(f"{name} {etag}\n".encode())
    return digest.hexdigest()[:16]


def _summary(source: Source, version: int, done: Done, refused: Sequence[Entry]) -> IngestSummary:
    by_reason = ledger.counts(refused)
    chosen, without = deciding_rules(done.decisions)
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
        series_rules=chosen,
        exams_without_series=without,
        missing_slices=sum(
            gap.missing for item in done.decisions if item.choice.kept for gap in item.gaps
        ),
    )


def _up_to_date(source: Source) -> IngestSummary:
    return IngestSummary(
        corpus=source.corpus, version=source.version, up_to_date=True, gone=source.num_gone
    )
