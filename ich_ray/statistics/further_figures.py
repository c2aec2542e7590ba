"""What is told of models beside the three metrics of the headline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from ich_ray.statistics.breakdown import (
    Group,
    GroupFigures,
    break_down,
    corpus_groups,
    thickness_groups,
    type_groups,
)
from ich_ray.statistics.by_exam import (
    ExamOverlap,
    ExamOverlapDifference,
    dices,
    exam_overlap_differences,
    exam_overlaps,
)
from ich_ray.statistics.by_slice import (
    SliceDifferences,
    SliceFigures,
    slice_differences,
    slice_figures,
)
from ich_ray.statistics.comparison import main_pair, pairs
from ich_ray.statistics.counted_model import CountedModel
from ich_ray.statistics.pooled_exams import ComparedExams, calls_of, scored_slices, scores_of
from ich_ray.statistics.precision_recall import PrecisionRecall, precision_recall
from ich_ray.statistics.roc_band import RocBand, roc_band
from ich_ray.statistics.tuning import Tuned


@dataclass(frozen=True, kw_only=True, slots=True)
class FurtherFigures:
    """One entry a model or a pair of models, in the order in which these are compared."""

    slices: tuple[SliceFigures, ...]
    """Empty where no slice has a label."""

    slice_differences: tuple[SliceDifferences, ...]
    overlaps: tuple[ExamOverlap, ...]
    """Empty where no reference marks anything."""

    overlap_differences: tuple[ExamOverlapDifference, ...]
    groups: tuple[GroupFigures, ...]
    """Those with a positive exam."""

    compared: tuple[str, str] | None
    """Whose difference the groups give, first minus second."""

    exam_dsc: Mapping[str, Float64[np.ndarray, " exam"]] = field(metadata={"record": False})
    """Of each exam; NaN where its reference marks nothing."""

    bands: Mapping[str, RocBand]
    precision_recall: Mapping[str, PrecisionRecall]


def further_figures(
    found: Mapping[str, CountedModel],
    seen: ComparedExams,
    tuned: Mapping[str, Tuned],
    *,
    groups: Sequence[Group] = (),
    seed: int,
) -> FurtherFigures:
    """Return the further figures of models on the same exams.

    Args:
        found: Model -> its exams and pooled pixels.
        seen: The exams.
        tuned: Model -> its thresholds.
        groups: Of exams, beside those of type, corpus and slice thickness.
        seed: Of resamples.
    """
    compared = pairs(list(found))
    slices = {name: scored_slices(of.exams) for name, of in found.items()}
    thresholds = {name: tuned[name].slice_threshold for name in found}
    overlaps = {name: dices(calls_of(of.exams, seen)) for name, of in found.items()}
    first = next(iter(found.values())).exams
    has_slices = bool(len(slices[next(iter(found))].labels))
    marked = any(np.isfinite(one).any() for one in overlaps.values())
    scores = {name: scores_of(of.exams, seen) for name, of in found.items()}
    facts = [first[key].facts for key in seen.keys]
    labels = seen.exams.labels
    every = [
        *type_groups(facts, labels),
        *corpus_groups(facts, labels),
        *thickness_groups(facts, labels),
        *groups,
    ]
    curves = {name: precision_recall(of.pixels.stack()) for name, of in found.items()}
    return FurtherFigures(
        slices=tuple(slice_figures(slices, thresholds, seen.exams)) if has_slices else (),
        slice_differences=tuple(slice_differences(slices, thresholds, seen.exams, compared))
        if has_slices
        else (),
        overlaps=tuple(exam_overlaps(overlaps, seen.exams)) if marked else (),
        overlap_differences=tuple(exam_overlap_differences(overlaps, seen.exams, compared))
        if marked
        else (),
        groups=tuple(
            break_down(
                [one for one in every if (one.labels & one.members).any()],
                scores,
                seen.exams,
                main=main_pair(list(found)),
            )
        ),
        compared=main_pair(list(found)),
        exam_dsc=overlaps,
        bands={name: roc_band(of, seen.exams, seed=seed) for name, of in scores.items()},
        precision_recall={name: curve for name, curve in curves.items() if curve is not None},
    )
