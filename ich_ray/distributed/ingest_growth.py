"""What an ingest reads of a source that has grown: all that is new, and all that goes with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from ich_ray.config import ClusterConfig
from ich_ray.distributed import metrics
from ich_ray.distributed.session import configure_data
from ich_ray.errors import Reason
from ich_ray.growth import Growth, growth_of
from ich_ray.ingest_plan import Entry, Planned, first_by_key, parts_by_patient
from ich_ray.series import HeaderFacts
from ich_ray.series_plan import Decision
from ich_ray.storage import ledger
from ich_ray.storage.objects import ListedObject
from ich_ray.storage.part_writer import Finished, entry_of
from ich_ray.storage.source import Source
from ich_ray.storage.source_labels import Labels, check_kept
from ich_ray.storage.source_masks import masks_beside
from ich_ray.storage.source_series import source_series_plan
from ich_ray.storage.tables import Part


@dataclass
class Done:
    """What an ingest has done so far; rows as columns, since there may be a million."""

    rows: list[pa.Table]
    """Of the ledger."""

    dropped: frozenset[str] = frozenset()
    """`source` of rows of the ledger that are about exams as they were."""

    parts: list[Part] = field(default_factory=list)
    replaced: frozenset[str] = frozenset()
    """Names of parts of the corpus."""

    before: Mapping[str, str] = field(default_factory=dict)
    """`source` of unchanged objects that may be read again -> outcome before."""

    decisions: Sequence[Decision] = ()
    series_anew: frozenset[str] = frozenset()
    """Exams whose earlier decisions over series no longer hold."""

    exams_anew: int = 0
    """Exams of the corpus that are planned anew."""

    slices: int = 0
    """Read, not taken over."""

    masks: int = 0
    labelled: int = 0
    duplicates: int = 0
    """Of the new objects."""

    def add(self, finished: Finished, read: Sequence[Entry]) -> None:
        """Count a part, and keep its rows of the ledger; `read` are those of objects read now."""
        self.rows.append(ledger.to_table(finished.entries))
        self.labelled += finished.labelled
        if finished.part is not None:
            self.parts.append(finished.part)
            self.slices += finished.part.rows - finished.kept_rows
        self.masks += sum(e.role == "mask" and e.outcome == "accepted" for e in read)

    def found(self) -> set[str]:
        """Return the slices and the exams that the rows name."""
        columns = [rows[name].drop_null() for rows in self.rows for name in ("slice", "exam")]
        return {name for column in columns for name in column.to_pylist()}


@dataclass
class _Placed:
    """Objects with their places."""

    objects: list[Planned]
    facts: dict[str, HeaderFacts]
    """Of the slices among them that were placed by their headers."""

    refused: list[Entry]


def read_new(
    source: Source,
    labels: Labels,
    done: Done,
    tell: Callable[[str], None],
    *,
    cluster: ClusterConfig,
) -> None:
    """Read what is new in a source and all that goes with it, and write the parts.

    Args:
        source: Compared with its ledger.
        labels: Of the source.
        done: Receives what was done.
        tell: Receives a sentence now and then.
        cluster: Whether the work fits it is checked before each pass.
    """
    # Here and not above: it loads Ray, which a run without anything new does not need.
    from ich_ray.distributed.ingest_passes import write_parts

    configure_data()
    new = _placed(source, source.new, tell, cluster)
    masks = masks_beside(source, new.objects)
    new.objects += (masks.placed[name] for name in masks.moved if name in masks.placed)
    new.refused += (masks.refused[name] for name in masks.moved if name in masks.refused)
    changed = source.changed.union(masks.moved)
    near = source.ledger.near(new.objects, changed=changed, exams=labels.anew)
    here = set(source.names.values())
    growth = growth_of(near, new.objects, changed=changed, here=here, anew=labels.anew)
    old = _placed(source, source.objects(growth.again), tell, cluster)
    beside = [masks.placed[row.source] for row in growth.again if row.source in masks.placed]
    first, duplicates = first_by_key([*new.objects, *old.objects, *beside], known=growth.taken)
    kept, superseded = _kept(source, growth, first)
    check_kept(source, labels, kept)
    # Where something is gone, another series than it was of would lose it.
    done.series_anew = growth.exams - {item.exam for item in kept}
    plan = source_series_plan(
        source,
        first,
        new.facts | old.facts,
        annotated=labels.truths,
        anew=done.series_anew,
    )
    done.decisions = plan.decisions
    done.replaced = growth.parts
    done.before = {row.source: row.outcome for row in near if row.source not in source.changed}
    done.dropped = frozenset(
        row.source for row in near if row.exam in growth.exams and row.reason == Reason.MISSING
    )
    done.exams_anew = len({row.exam for row in growth.again})
    done.duplicates = sum(item.source not in done.before for item in duplicates)
    refused = [*new.refused, *old.refused]
    refused += [entry_of(item, reason) for item, reason in plan.refused]
    metrics.rejected(refused)
    refused += [replace(entry_of(i), outcome="duplicate") for i in (*duplicates, *superseded)]
    done.rows.append(ledger.to_table(refused))
    planned = [labels.on(item) for item in plan.kept]
    parts = parts_by_patient([*planned, *kept], slices_per_part=source.config.slices_per_part)
    taken_over = {item.source for item in kept}
    for part in write_parts(source, parts, tell, replaces=growth.parts, cluster=cluster):
        done.add(part, [entry for entry in part.entries if entry.source not in taken_over])


def _placed(
    source: Source,
    items: Sequence[ListedObject],
    tell: Callable[[str], None],
    cluster: ClusterConfig,
) -> _Placed:
    """Place objects by their keys or headers."""
    from ich_ray.distributed.ingest_passes import read_headers

    by_key = list(source.placed_by_key(items))
    unplaced = [item for item in items if source.role(item) == "object"]
    if not unplaced:
        return _Placed(by_key, {}, [])
    by_header, facts, refused = read_headers(source, unplaced, tell, cluster=cluster)
    return _Placed(by_key + by_header, facts, refused)


def _kept(
    source: Source, growth: Growth, there: Sequence[Planned]
) -> tuple[list[Planned], list[Planned]]:
    """Return what is taken over, and what is gone and stands now under another key."""
    names = {(item.role, item.slice) for item in there}
    kept: list[Planned] = []
    superseded: list[Planned] = []
    for item in source.kept(growth.kept, growth.exams):
        again = item.gone and (item.role, item.slice) in names
        (superseded if again else kept).append(item)
    return kept, superseded
