"""What the table of labels of a source says, and which of its labels have no slice."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ich_ray.errors import ConfigError, Reason
from ich_ray.ingest_plan import (
    Entry,
    Planned,
    Truth,
    is_volume,
    labels_without_object,
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

    def on(self, item: Planned) -> Planned:
        """Return an object with what the labels say of it."""
        return replace(
            item,
            truth=self.truths.get(item.slice, Truth()),
            exam_truth=self.exams.get(item.exam, Truth()),
            slices=self.volumes.get(item.key, {}),
        )


def read_labels(source: Source) -> Labels:
    """Return what the labels of a source say.

    Raises:
        ConfigError: They contradict themselves, or what was ingested by them, or are gone.
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
    if source.labels in source.new:
        _refuse_changes(source, truths, exams)
    keys = {name: layout.expected_key(slice_id) for slice_id, name in names.items()}
    volumes: dict[str, dict[str, Truth]] = defaultdict(dict)
    for name, key in keys.items():
        if is_volume(key):
            volumes[key][name] = truths[name]
    return Labels(truths, keys, volumes, exams)


def _refuse_loss(source: Source) -> None:
    """Exams that are planned anew would lose their labels."""
    if source.ledger.where("role", ["labels"]):
        raise ConfigError(
            f"the table of labels with which corpus {source.corpus} was ingested is gone from its "
            f"source; put it back, or set corpora.{source.corpus}.labels"
        )


def _refuse_changes(
    source: Source, truths: Mapping[str, Truth], exams: Mapping[str, Truth]
) -> None:
    # An average has the labels of its slices together: no row of the labels is its own.
    if source.slices_table is None or source.config.average_to_mm:
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
        for row in read_rows(source.store, source.slices_table, columns).to_pylist()
    )
    if changed:
        raise ConfigError(
            f"the labels of {changed} slices of corpus {source.corpus} changed since their "
            "ingest, and a corpus keeps its rows; ingest them under another name"
        )


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
    rows = source.ledger.rows
    here = set(found).union(
        rows["slice"].drop_null().to_pylist(), rows["exam"].unique().to_pylist()
    )
    # The archive's folders stand before the names that labels know.
    keys = source.names.keys() | {key.rpartition("/")[2] for key in source.names}
    absent = labels_without_object(labels.expected_keys, slices=here, keys=keys)
    # Many labels may name slices of one absent volume.
    now = {source.pseudonyms.of(key) for key in dict.fromkeys(absent)}
    told = source.ledger.where("reason", [Reason.MISSING.value])
    # Those with a slice are about volumes that are there, and go with their exams.
    before = {row.source for row in told if row.slice is None}
    new = [
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
    return new, frozenset(before - now)
