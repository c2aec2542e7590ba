"""The map step of evaluation: predictions and reference to sufficient statistics per exam.

Runs where the predictions lie; pixels never reach the driver.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt16

from ich_ray.distributed import work
from ich_ray.distributed.origin import Origin
from ich_ray.distributed.session import Selection
from ich_ray.exam import IGNORED, Slice
from ich_ray.statistics.comparison import exam_score
from ich_ray.statistics.pixel_histograms import SliceHistogram, merge, slice_histogram
from ich_ray.statistics.score_levels import quantise_logits
from ich_ray.stopwatch import Stopwatch
from ich_ray.storage.corpus import hounsfield, read_exams
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import decode_map
from ich_ray.storage.tables import iterate_groups
from ich_ray.windows import upsample

THRESHOLD = "intensity_threshold"
BRIGHTEST_BLEED_HU = 95
"""The plain threshold takes brighter pixels for bone: level 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamStatistics:
    """One model on one exam."""

    exam: str
    patient: str
    model: str
    label: bool
    score: float
    """Mean of the highest slice probabilities."""

    pixels: SliceHistogram
    """Of slices with a reference mask."""

    positive_pixels: SliceHistogram
    """Of those whose reference holds a bleed."""

    largest_slice: str
    """The slice with most reference pixels, or the one with the highest probability."""


def to_row(found: ExamStatistics) -> dict[str, Any]:
    """Return statistics as plain values and bytes, to pass through Ray Data."""
    row: dict[str, Any] = {
        name: getattr(found, name)
        for name in ("exam", "patient", "model", "label", "score", "largest_slice")
    }
    for name in ("pixels", "positive_pixels"):
        histogram: SliceHistogram = getattr(found, name)
        for column in ("level", "pos", "neg"):
            row[f"{name}_{column}"] = getattr(histogram, column).tobytes()
    return row


def from_row(row: Mapping[str, Any]) -> ExamStatistics:
    """Return what `to_row` was given."""
    histograms = {
        name: SliceHistogram(
            level=np.frombuffer(row[f"{name}_level"], np.uint16),
            pos=np.frombuffer(row[f"{name}_pos"], np.uint32),
            neg=np.frombuffer(row[f"{name}_neg"], np.uint32),
        )
        for name in ("pixels", "positive_pixels")
    }
    return ExamStatistics(
        exam=str(row["exam"]),
        patient=str(row["patient"]),
        model=str(row["model"]),
        label=bool(row["label"]),
        score=float(row["score"]),
        largest_slice=str(row["largest_slice"]),
        **histograms,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StatisticsOfPart:
    """Computes the statistics of one part of a corpus; a plain value, called by Ray Data."""

    store: Store
    selection: Selection
    predictions: Mapping[str, tuple[str, ...]]
    """Name of the model in the report -> files of its predictions."""

    grid: int
    """`input.size`."""

    threshold: bool
    """Whether the plain intensity threshold is evaluated beside the models."""

    score_slices: int
    """`evaluate.exam_score_slices`."""

    origin: Origin
    """Whose work it is."""

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[dict[str, list[Any]]]:
        """Yield one row an exam and model, with the file that it is of."""
        with work.piece_of(self.origin) as watch:
            for url in batch["url"]:
                for found in self.of_part(str(url), watch):
                    yield {key: [value] for key, value in (to_row(found) | {"of": url}).items()}

    def of_part(self, url: str, watch: Stopwatch) -> Iterator[ExamStatistics]:
        """Yield the statistics of every exam that has a reference, for every model."""
        slices = 0
        stem = url.rsplit("/", 1)[1].removeprefix("part-")
        rows = {name: self._rows(files, stem) for name, files in self.predictions.items()}
        for exam in read_exams(self.store, url, splits=self.selection.holds):
            known = with_reference(exam)
            if not known:
                continue
            slices += len(known)
            for name, of_slice in rows.items():
                yield model_statistics(
                    name, known, of_slice, grid=self.grid, score_slices=self.score_slices
                )
            if self.threshold:
                yield self._of_threshold(known)
        work.tell("part compared", watch, part=stem.removesuffix(".parquet"), slices=slices)

    def _rows(self, files: tuple[str, ...], stem: str) -> dict[str, Mapping[str, Any]]:
        """Read a model's predictions of one part: they lie in a part of the same name."""
        wanted = f"part-{self.selection.corpus.name}-{stem}"
        return {
            row["slice"]: row
            for file in files
            if file.rsplit("/", 1)[1] == wanted
            for group in iterate_groups(self.store, file)
            for row in group.to_pylist()
        }

    def _of_threshold(self, exam: list[Slice]) -> ExamStatistics:
        levels = {item.key: intensity_levels(item) for item in exam if item.mask is not None}
        # The driver counts its pixels instead, once the band is known.
        return _statistics(THRESHOLD, exam, levels, dict.fromkeys((s.key for s in exam), 0.0), 0.0)


def with_reference(exam: list[Slice]) -> list[Slice]:
    """Return the slices of an exam of which a reader said something; none if of none."""
    known = [item for item in exam if item.label is not None]
    # The readers named no slices: all of them were looked at.
    return exam if not known and exam[0].exam_label is not None else known


def model_statistics(
    name: str,
    exam: list[Slice],
    of_slice: Mapping[str, Mapping[str, Any]],
    *,
    grid: int,
    score_slices: int,
) -> ExamStatistics:
    """Compare what a model says of an exam with its reference.

    Args:
        name: Of the model.
        exam: Slices with a reference.
        of_slice: Slice -> its row of a predictions table.
        grid: `input.size`.
        score_slices: Highest slice probabilities whose mean is the exam's score.
    """
    levels = {}
    for item in exam:
        if item.mask is not None:
            row = of_slice[item.key]
            rows, columns = item.mask.shape
            full = upsample(decode_map(row), rows=rows, columns=columns, size=grid)
            levels[item.key] = quantise_logits(full)
    scores = {item.key: float(of_slice[item.key]["p"]) for item in exam}
    score = exam_score(list(scores.values()), slices=score_slices)
    return _statistics(name, exam, levels, scores, score)


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


def _statistics(
    name: str,
    exam: list[Slice],
    levels: Mapping[str, UInt16[np.ndarray, "rows columns"]],
    scores: Mapping[str, float],
    score: float,
) -> ExamStatistics:
    histograms, positive, area = [], [], {}
    for item in exam:
        if item.mask is None:
            continue
        reference = reference_of(item)
        valid = None if not (item.mask == IGNORED).any() else item.mask != IGNORED
        histograms.append(slice_histogram(levels[item.key], reference, valid=valid))
        area[item.key] = int(reference.sum())
        if area[item.key]:
            positive.append(histograms[-1])
    largest = max(exam, key=lambda item: (area.get(item.key, 0), scores[item.key], item.key))
    return ExamStatistics(
        exam=exam[0].exam,
        patient=exam[0].patient,
        model=name,
        label=exam_label(exam),
        score=score,
        pixels=merge(histograms),
        positive_pixels=merge(positive),
        largest_slice=largest.key,
    )
