"""The map step of evaluation: predictions and reference to sufficient statistics per exam.

Runs where the predictions lie; pixels never reach the driver.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt16

from ich_ray.distributed import work
from ich_ray.distributed.gathering import Pooling, Told
from ich_ray.distributed.origin import Origin
from ich_ray.distributed.session import Selection
from ich_ray.exam import IGNORED, Slice
from ich_ray.exam_summary import extents_mm
from ich_ray.statistics.comparison import exam_score
from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.exam_statistics import (
    Counting,
    ExamFacts,
    Subtypes,
    count_exam,
)
from ich_ray.statistics.pooled_exams import BRIGHTEST_BLEED_HU, THRESHOLD
from ich_ray.statistics.score_levels import quantise_logits
from ich_ray.stopwatch import Stopwatch
from ich_ray.storage.corpus import hounsfield, read_exams
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import decode_map
from ich_ray.storage.tables import iterate_groups
from ich_ray.windows import upsample


@dataclass(frozen=True, kw_only=True, slots=True)
class StatisticsOfPart:
    """Computes the statistics of one part of a corpus; a plain value, called by Ray Data."""

    store: Store
    selection: Selection
    number: int
    """Of the selection."""

    predictions: Mapping[str, tuple[str, ...]]
    """Name of the model in the report -> files of its predictions."""

    levels: Mapping[str, int]
    """Model -> its pixel threshold; empty while that is being fixed."""

    counting: Counting
    """What else is counted of the exams, but for the level."""

    grid: int
    """`input.size`."""

    threshold: bool
    """Whether the plain intensity threshold is evaluated beside the models."""

    score_slices: int
    """`evaluate.exam_score_slices`."""

    place: str | None
    """Folder for pixels by patient; None: nobody needs them."""

    origin: Origin
    """Whose work it is."""

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[dict[str, list[Any]]]:
        """Yield one row an exam and model, and their pixels, with the file that they are of."""
        with work.piece_of(self.origin) as watch:
            for url in batch["url"]:
                for found in self.of_part(str(url), watch):
                    yield {"found": [found], "of": [url]}

    def of_part(self, url: str, watch: Stopwatch) -> Iterator[Told]:
        """Yield what is told of every exam that has a reference, for every model."""
        slices = 0
        pooling = self._poolings(url)
        stem = url.rsplit("/", 1)[1].removeprefix("part-")
        rows = {
            name: predictions_of_part(self.store, files, corpus=self.selection.corpus.name, url=url)
            for name, files in self.predictions.items()
        }
        for exam in read_exams(self.store, url, splits=self.selection.holds):
            known = with_reference(exam)
            if not known:
                continue
            slices += len(known)
            facts = facts_of(known, corpus=self.selection.corpus.name)
            for name, of_slice in rows.items():
                counted = counted_slices(known, of_slice, grid=self.grid)
                wanted = replace(self.counting, level=self.levels.get(name))
                score = score_of(counted, slices=self.score_slices)
                exam_of = count_exam(name, facts, counted, score=score, counting=wanted)
                yield from pooling[name].take(exam_of)
            if self.threshold:
                exam_of = count_exam(THRESHOLD, facts, _by_intensity(known), score=0.0)
                yield from pooling[THRESHOLD].take(exam_of)
        for one in pooling.values():
            yield from one.rest()
        work.tell("part compared", watch, part=stem.removesuffix(".parquet"), slices=slices)

    def _poolings(self, url: str) -> dict[str, Pooling]:
        stem = url.rsplit("/", 1)[1].removeprefix("part-").removesuffix(".parquet")
        return {
            name: Pooling(
                model=name,
                slot=slot,
                task=f"{self.number}-{stem}",
                store=self.store,
                place=self.place,
                keeps=name == THRESHOLD,
            )
            for slot, name in enumerate((*self.predictions, THRESHOLD))
        }


def predictions_of_part(
    store: Store,
    files: Sequence[str],
    *,
    corpus: str,
    url: str,
    where: tuple[str, Callable[[Any], bool]] | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Read what a model says of one part of a corpus: it lies in a part of the same name.

    Args:
        store: Reaches them.
        files: Of the model's predictions.
        corpus: Name.
        url: Of the corpus's part.
        where: As of `iterate_groups`: exams to leave out.

    Returns:
        Slice -> its row.
    """
    wanted = f"part-{corpus}-{url.rsplit('/', 1)[1].removeprefix('part-')}"
    return {
        row["slice"]: row
        for file in files
        if file.rsplit("/", 1)[1] == wanted
        for group in iterate_groups(store, file, where=where)
        for row in group.to_pylist()
    }


def with_reference(exam: list[Slice]) -> list[Slice]:
    """Return the slices of an exam of which a reader said something; none if of none."""
    known = [item for item in exam if item.label is not None]
    # The readers named no slices: all of them were looked at.
    return exam if not known and exam[0].exam_label is not None else known


def counted_slices(
    exam: Sequence[Slice], of_slice: Mapping[str, Mapping[str, Any]], *, grid: int
) -> list[CountedSlice]:
    """Put what a model says of an exam beside its reference.

    Args:
        exam: Slices with a reference.
        of_slice: Slice -> its row of a predictions table.
        grid: `input.size`.
    """
    counted = []
    for item, extent_mm in zip(exam, _extents_mm(exam), strict=True):
        row, levels = of_slice[item.key], None
        if item.mask is not None:
            rows, columns = item.mask.shape
            full = upsample(decode_map(row), rows=rows, columns=columns, size=grid)
            levels = quantise_logits(full)
        of_item = _beside_reference(item, levels, score=float(row["p"]))
        counted.append(replace(of_item, extent_mm=extent_mm))
    return counted


def counted_as(
    exam: Sequence[Slice], levels: Sequence[UInt16[np.ndarray, "rows columns"] | None]
) -> list[CountedSlice]:
    """Put levels of any origin beside the reference of slices; nobody scores them.

    Args:
        exam: Slices with a reference.
        levels: Of the pixels of each; None where there are none.
    """
    return [
        replace(_beside_reference(item, of_item, score=0.0), extent_mm=extent_mm)
        for item, of_item, extent_mm in zip(exam, levels, _extents_mm(exam), strict=True)
    ]


def score_of(exam: Sequence[CountedSlice], *, slices: int) -> float:
    """Return the score of an exam: the mean of so many highest slice probabilities."""
    return exam_score([item.score for item in exam], slices=slices)


def facts_of(exam: Sequence[Slice], *, corpus: str) -> ExamFacts:
    """Return what a corpus knows of an exam beside any model."""
    thick = [s.geometry.thickness_mm for s in exam if s.geometry.thickness_mm is not None]
    return ExamFacts(
        exam=exam[0].exam,
        patient=exam[0].patient,
        corpus=corpus,
        label=exam_label(exam),
        subtypes=exam_subtypes(exam),
        thickness_mm=median(thick) if thick else None,
    )


def intensity_levels(item: Slice) -> UInt16[np.ndarray, "rows columns"]:
    """Return 1 + HU for pixels between 0 HU and the brightest bleed, 0 for all others."""
    hu = np.floor(hounsfield(item))
    inside = (hu >= 0) & (hu < BRIGHTEST_BLEED_HU)
    return np.where(inside, hu + 1, 0).astype(np.uint16)


def reference_of(item: Slice) -> Bool[np.ndarray, "rows columns"]:
    """Return where the reference marks a bleed of any type."""
    assert item.mask is not None, item.key
    return np.asarray((item.mask > 0) & (item.mask != IGNORED), dtype=np.bool_)


def exam_label(exam: Sequence[Slice]) -> bool:
    """Return whether an exam is positive: by its slices, or as a whole where none has a label."""
    labels = [item.label for item in exam if item.label is not None]
    return any(labels) if labels else bool(exam[0].exam_label)


def exam_subtypes(exam: Sequence[Slice]) -> Subtypes | None:
    """Return the types of an exam's bleeds: by its slices, or as a whole where none has any."""
    named = [item.subtypes for item in exam if item.subtypes is not None]
    if not named:
        return exam[0].exam_subtypes
    first, second, third, fourth, fifth = (any(of_type) for of_type in zip(*named, strict=True))
    return first, second, third, fourth, fifth


def _by_intensity(exam: Sequence[Slice]) -> list[CountedSlice]:
    # The driver counts its pixels instead of a score, once the band is known.
    return [
        _beside_reference(item, None if item.mask is None else intensity_levels(item), score=0.0)
        for item in exam
    ]


def _beside_reference(
    item: Slice, levels: UInt16[np.ndarray, "rows columns"] | None, *, score: float
) -> CountedSlice:
    ignored = None if item.mask is None else item.mask == IGNORED
    return CountedSlice(
        key=item.key,
        label=item.label,
        score=score,
        levels=levels,
        reference=None if item.mask is None else reference_of(item),
        valid=None if ignored is None or not ignored.any() else ~ignored,
        previous=item.previous,
        spacing_mm=item.geometry.spacing_mm,
    )


def _extents_mm(exam: Sequence[Slice]) -> list[float | None]:
    geometries = [item.geometry for item in exam]
    return extents_mm([g.position_mm for g in geometries], [g.thickness_mm for g in geometries])
