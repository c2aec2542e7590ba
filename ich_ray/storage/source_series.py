"""What an ingest keeps of a source beside its slices: decisions over series, reads and boxes."""

from collections.abc import Collection, Mapping, Sequence

from ich_ray.errors import ConfigError
from ich_ray.ingest_plan import Planned
from ich_ray.series import HeaderFacts
from ich_ray.series_plan import NO_OVERRIDES, Decision, Overrides, SeriesPlan, plan_series
from ich_ray.series_plan import read_overrides as parse_overrides
from ich_ray.storage.annotations_table import append_boxes, append_reads
from ich_ray.storage.corpora.layout import LabelsExams
from ich_ray.storage.series_table import append_decisions, known_series
from ich_ray.storage.source import Source, unnamed


def source_series_plan(
    source: Source,
    placed: Sequence[Planned],
    facts: Mapping[str, HeaderFacts],
    *,
    annotated: Collection[str],
) -> SeriesPlan:
    """Choose the series of a source's new objects by the rules, and by the override file.

    Raises:
        ConfigError: The override file is not there, or wrong.
    """
    known = known_series(source.store, source.corpus) if facts else {}
    try:
        return plan_series(
            placed, facts, annotated=annotated, known=known, overrides=_overrides(source)
        )
    except ConfigError as error:
        raise ConfigError(f"corpora.{source.corpus}.series_overrides: {error}") from None


def append_beside(
    source: Source, decisions: Sequence[Decision], properties: Mapping[str, str]
) -> None:
    """Write the tables beside the slices; a second call changes nothing.

    They come before the slices: a run that dies between the two finds its decisions again.
    """
    append_decisions(source.store, source.corpus, decisions, properties)
    if not isinstance(source.layout, LabelsExams):
        return
    for item in source.new:
        role = source.role(item)
        if role not in ("labels", "boxes"):
            continue
        with unnamed(f"corpora.{source.corpus}.source"):
            text = source.store.read_bytes(item.url).decode("utf-8-sig", errors="replace")
        to = source.store, source.corpus
        if role == "labels":
            reads = source.layout.read_reads(text)
            append_reads(*to, reads, source.pseudonyms, properties)
        else:
            boxes = source.layout.read_boxes(text)
            append_boxes(*to, boxes, source.pseudonyms, properties)


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
