"""What an ingest keeps of a source beside its slices: decisions over series, reads and boxes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ich_ray.annotations import Box, Read
from ich_ray.errors import ConfigError, SurroundingsError
from ich_ray.ingest_plan import Planned
from ich_ray.series import HeaderFacts
from ich_ray.series_plan import NO_OVERRIDES, Decision, Overrides, SeriesPlan, plan_series
from ich_ray.series_plan import read_overrides as parse_overrides
from ich_ray.storage.annotations_table import boxes_change, reads_change
from ich_ray.storage.corpora.layout import LabelsExams
from ich_ray.storage.objects import ListedObject
from ich_ray.storage.series_table import decisions_change, known_series
from ich_ray.storage.source import Source, unnamed
from ich_ray.storage.table_change import Change

Row = TypeVar("Row", Read, Box)


def source_series_plan(
    source: Source,
    placed: Sequence[Planned],
    facts: Mapping[str, HeaderFacts],
    *,
    annotated: Collection[str],
    anew: Collection[str],
) -> SeriesPlan:
    """Choose the series of exams by the rules, and by the override file.

    Args:
        source: Of the exams.
        placed: Their objects.
        facts: Of the slices that have a series.
        annotated: Slices that labels name.
        anew: Exams of the corpus over whose series is decided again; over others it was decided.

    Raises:
        ConfigError: The override file is not there, or wrong.
    """
    before = known_series(source.store, source.corpus) if facts else {}
    known = {exam: series for exam, series in before.items() if exam not in anew}
    try:
        return plan_series(
            placed, facts, annotated=annotated, known=known, overrides=_overrides(source)
        )
    except ConfigError as error:
        raise ConfigError(f"corpora.{source.corpus}.series_overrides: {error}") from None


@dataclass(frozen=True, slots=True)
class Annotations:
    """What the tables beside the slices are to say; None where nothing of it is new."""

    reads: Sequence[Read] | None = None
    boxes: Sequence[Box] | None = None
    boxes_gone: bool = False
    """Whether a table of boxes is gone from the source: what it said is kept."""


def read_annotations(source: Source) -> Annotations:
    """Read the reads and the boxes of a source, before anything else is.

    Raises:
        ConfigError: One of its tables is wrong.
        SurroundingsError: Boxes changed, and a table of others is gone.
    """
    layout = source.layout
    if not isinstance(layout, LabelsExams):
        return Annotations()
    reads = boxes = None
    if source.labels is not None and source.labels in source.new:
        reads = _said(source, source.labels, layout.read_reads)
    tables = [item for item in source.listed if source.role(item) == "boxes"]
    names = {source.names[item.key] for item in tables}
    gone = any(row.source not in names for row in source.ledger.where("role", ["boxes"]))
    if any(item in source.new for item in tables):
        if gone and names & source.changed:
            raise SurroundingsError(
                f"a table of boxes of corpus {source.corpus} changed, and another one is gone from "
                "its source: which boxes were whose is not told; put it back, then run the same "
                "command again"
            )
        boxes = [box for item in tables for box in _said(source, item, layout.read_boxes)]
    return Annotations(reads, boxes, gone)


def changes_beside(
    source: Source,
    decisions: Sequence[Decision],
    annotations: Annotations,
    *,
    anew: Collection[str],
) -> dict[str, Change]:
    """Write what changes in the tables beside the slices; nobody sees it before the commit.

    Args:
        source: Of the corpus.
        decisions: New ones over series.
        annotations: Of the source.
        anew: Exams whose earlier decisions no longer hold.

    Returns:
        Name of a table -> what is to be committed.
    """
    store, name = source.store, source.corpus
    changes: dict[str, Change | None] = {}
    if decisions or anew:
        changes["series"] = decisions_change(store, name, decisions, anew=anew)
    if annotations.reads is not None:
        changes["reads"] = reads_change(store, name, annotations.reads, source.pseudonyms)
    if annotations.boxes is not None:
        changes["boxes"] = boxes_change(
            store, name, annotations.boxes, source.pseudonyms, keep=annotations.boxes_gone
        )
    return {table: change for table, change in changes.items() if change is not None}


def _said(source: Source, item: ListedObject, read: Callable[[str], list[Row]]) -> list[Row]:
    with unnamed(f"corpora.{source.corpus}.source"):
        data = source.store.read_bytes(item.url)
    try:
        return read(data.decode("utf-8-sig", errors="replace"))
    except ConfigError as error:
        name = source.names[item.key]
        raise ConfigError(f"corpus {source.corpus}, object {name}: {error}") from None


def _overrides(source: Source) -> Overrides:
    url = source.config.series_overrides
    if not url:
        return NO_OVERRIDES
    try:
        with unnamed("the setting"):
            text = source.store.read_bytes(url).decode("utf-8-sig", errors="replace")
    except FileNotFoundError:
        raise ConfigError("there is no such file; correct the setting, or write the file") from None
    return parse_overrides(text, source.pseudonyms.of)
