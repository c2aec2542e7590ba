"""What the table of labels of a source says, and which of its labels have no slice."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from ich_ray.errors import ConfigError, Reason
from ich_ray.ingest_plan import (
    Entry,
    Planned,
    Truth,
    is_volume,
    labels_without_object,
    missing_slice,
    truth_changed,
)
from ich_ray.storage.corpora.layout import LabelsExams
from ich_ray.storage.source import Source, unnamed
from ich_ray.storage.tables import read_rows


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

    anew: frozenset[str] = frozenset()
    """Exams of the corpus of which the labels say something that they did not say before."""

    since: frozenset[str] = frozenset()
    """`source` of objects of the corpus that had no label before."""

    def on(self, item: Planned) -> Planned:
        """Return an object with what the labels say of it."""
        return item._replace(
            truth=self.truths.get(item.slice, Truth()),
            exam_truth=self.exams.get(item.exam, Truth()),
            slices=self.volumes.get(item.key, {}),
        )


def read_labels(source: Source) -> Labels:
    """Return what the labels of a source say.

    Raises:
        ConfigError: They contradict themselves, or those of an earlier ingest, or are gone.
    """
    if source.labels is None:
        _refuse_loss(source)
        return Labels({}, {}, {})
    with unnamed(f"corpora.{source.corpus}.labels"):
        text = source.store.read_bytes(source.labels.url).decode("utf-8-sig", errors="replace")
    layout = source.layout
    by_exam: Mapping[str, Truth] = {}
    try:
        by_id = layout.read_labels(text)
        if isinstance(layout, LabelsExams):
            by_exam = layout.exam_truths(layout.read_reads(text))
    except ConfigError as error:
        raise ConfigError(f"corpus {source.corpus}: {error}") from None
    names = {name: source.pseudonyms.of(name) for name in (*by_id, *by_exam)}
    truths = {names[slice_id]: truth for slice_id, truth in by_id.items()}
    exams = {names[exam]: truth for exam, truth in by_exam.items()}
    keys = {name: layout.expected_key(slice_id) for slice_id, name in names.items()}
    volumes: dict[str, dict[str, Truth]] = defaultdict(dict)
    for name, key in keys.items():
        if is_volume(key):
            volumes[key][name] = truths[name]
    labels = Labels(truths, keys, volumes, exams)
    if source.ledger.table is None or source.labels not in source.new:
        return labels
    anew, since = _planned_anew(source, labels)
    return replace(labels, anew=anew, since=since)


def _refuse_loss(source: Source) -> None:
    """Exams that are planned anew would lose their labels."""
    if source.ledger.where("role", ["labels"]):
        raise ConfigError(
            f"the table of labels with which corpus {source.corpus} was ingested is gone from its "
            f"source; put it back, or set corpora.{source.corpus}.labels"
        )


def check_kept(source: Source, labels: Labels, kept: Iterable[Planned]) -> None:
    """Refuse labels of rows that are taken over as they are.

    Raises:
        ConfigError: Labels came for slices whose objects are gone.
    """
    gone = sum(item.gone and item.source in labels.since for item in kept)
    if gone:
        raise ConfigError(
            f"labels came for {gone} slices of corpus {source.corpus} whose objects are gone from "
            "its source; put the objects back, or take these labels out"
        )


def _planned_anew(source: Source, labels: Labels) -> tuple[frozenset[str], frozenset[str]]:
    """Return `Labels.anew` and `Labels.since` of labels which have changed.

    Raises:
        ConfigError: They contradict the labels by which slices were ingested.
    """
    rows = source.ledger.rows
    rows = rows.filter(pc.is_valid(rows["exam"]))
    named = pc.is_in(rows["slice"], value_set=pa.array(list(labels.truths), pa.string()))
    if source.config.average_to_mm:
        # An average has the labels of its slices together: no row tells theirs.
        told = pc.is_in(rows["exam"], value_set=pa.array(list(labels.exams), pa.string()))
        volumes = [source.pseudonyms.of(key) for key in labels.volumes]
        told = pc.or_(told, pc.is_in(rows["source"], value_set=pa.array(volumes, pa.string())))
        return frozenset(rows["exam"].filter(pc.or_(named, told)).to_pylist()), frozenset()
    reason = pc.fill_null(rows["reason"], "")
    # Labels decide over the series of an exam.
    other = pc.and_(named, pc.equal(reason, Reason.OTHER_SERIES.value))
    # Of slices that a volume does not have.
    absent = rows.filter(pc.equal(reason, Reason.MISSING.value))
    taken_back = [
        exam
        for name, exam in zip(absent["slice"].to_pylist(), absent["exam"].to_pylist(), strict=True)
        if name not in labels.truths
    ]
    heard = set(absent["slice"].to_pylist())
    since, anew = _labelled_since(source, labels, heard)
    unheard = [
        source.pseudonyms.of(key)
        for key, said in labels.volumes.items()
        if not heard >= said.keys()
    ]
    whose = pc.is_in(rows["source"], value_set=pa.array(unheard, pa.string()))
    whose = pc.and_(whose, pc.equal(rows["outcome"], "accepted"))
    anew |= {*taken_back, *rows["exam"].filter(pc.or_(other, whose)).to_pylist()}
    return frozenset(anew), frozenset(since)


def _labelled_since(source: Source, labels: Labels, heard: set[str]) -> tuple[set[str], set[str]]:
    """Return the objects of slices that had no label, and their exams.

    `heard` receives the slices of the corpus.
    """
    since: set[str] = set()
    anew: set[str] = set()
    if source.slices_table is None:
        return since, anew
    columns = ["source", "exam", "slice", "label", "subtypes", "exam_label", "exam_subtypes"]
    changed = 0
    rows = read_rows(source.store, source.slices_table, columns)
    for batch in rows.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            heard.add(row["slice"])
            of_slice = truth_changed(
                labels.truths.get(row["slice"], Truth()),
                label=row["label"],
                subtypes=row["subtypes"],
            )
            of_exam = truth_changed(
                labels.exams.get(row["exam"], Truth()),
                label=row["exam_label"],
                subtypes=row["exam_subtypes"],
            )
            # A label without types is a mask's.
            if (of_slice and row["subtypes"]) or (of_exam and row["exam_subtypes"]):
                changed += 1
            elif of_slice or of_exam:
                since.add(row["source"])
                anew.add(row["exam"])
    if changed:
        raise ConfigError(
            f"the labels of {changed} slices of corpus {source.corpus} changed since their "
            "ingest, and a corpus keeps its rows; ingest them under another name"
        )
    return since, anew


def missing(
    source: Source, labels: Labels, found: Iterable[str]
) -> tuple[list[Entry], frozenset[str]]:
    """Return rows for labels whose slice or exam the source does not hold, and rows to drop.

    Args:
        source: Of the labels.
        labels: What they say.
        found: Slices and exams of the objects that are read now.

    Returns:
        (new rows, `source` of rows of the ledger whose slice has come since).
    """
    told = source.ledger.where("reason", [Reason.MISSING.value])
    if not labels.expected_keys and not told:
        return [], frozenset()
    rows = source.ledger.rows
    # What has changed may be another slice now: it is among those found.
    was = pc.is_in(rows["source"], value_set=pa.array(list(source.changed), pa.string()))
    rows = rows.filter(pc.invert(was))
    here = set(found).union(
        rows["slice"].drop_null().to_pylist(), rows["exam"].unique().drop_null().to_pylist()
    )
    # The archive's folders stand before the names that labels know.
    keys = source.names.keys() | {key.rpartition("/")[2] for key in source.names}
    absent = labels_without_object(labels.expected_keys, slices=here, keys=keys)
    # Many labels may name slices of one absent volume.
    now = {source.pseudonyms.of(key) for key in dict.fromkeys(absent)}
    # Those with a slice are about volumes that are there, and go with their exams.
    before = {row.source for row in told if row.slice is None}
    new = [missing_slice(name) for name in sorted(now - before)]
    return new, frozenset(before - now)
