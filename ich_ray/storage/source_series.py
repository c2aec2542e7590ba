"""What an ingest keeps of a source beside its slices: decisions over series, reads and boxes."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from ich_ray.errors import ConfigError
from ich_ray.ingest_plan import Planned
from ich_ray.series import HeaderFacts
from ich_ray.series_plan import NO_OVERRIDES, Decision, Overrides, SeriesPlan, plan_series
from ich_ray.series_plan import read_overrides as parse_overrides
from ich_ray.storage.annotations_table import boxes_change, reads_change
from ich_ray.storage.corpora.layout import LabelsExams, Role
from ich_ray.storage.series_table import decisions_change, known_series
from ich_ray.storage.source import Source, unnamed
from ich_ray.storage.table_change import Change


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


def changes_beside(
    source: Source, decisions: Sequence[Decision], *, anew: Collection[str]
) -> dict[str, Change]:
    """Write what changes in the tables beside the slices; nobody sees it before the commit.

    Args:
        source: Of the corpus.
        decisions: New ones over series.
        anew: Exams whose earlier decisions no longer hold.

    Returns:
        Name of a table -> what is to be committed.
    """
    store, name = source.store, source.corpus
    changes: dict[str, Change | None] = {}
    if decisions or anew:
        changes["series"] = decisions_change(store, name, decisions, anew=anew)
    layout = source.layout
    new = {source.role(item) for item in source.new}
    if isinstance(layout, LabelsExams) and "labels" in new:
        reads = [read for text in _texts(source, "labels") for read in layout.read_reads(text)]
        changes["reads"] = reads_change(store, name, reads, source.pseudonyms)
    if isinstance(layout, LabelsExams) and "boxes" in new:
        boxes = [box for text in _texts(source, "boxes") for box in layout.read_boxes(text)]
        changes["boxes"] = boxes_change(store, name, boxes, source.pseudonyms)
    return {table: change for table, change in changes.items() if change is not None}


def _texts(source: Source, role: Role) -> Iterator[str]:
    for item in source.listed:
        if source.role(item) == role:
            with unnamed(f"corpora.{source.corpus}.source"):
                data = source.store.read_bytes(item.url)
            yield data.decode("utf-8-sig", errors="replace")


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
