"""What tuning exams fix of a model, before its test exams are looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ich_ray.statistics import score_levels
from ich_ray.statistics.by_slice import NO_TUNING, best_f1_threshold
from ich_ray.statistics.counted_model import CountedModel
from ich_ray.statistics.operating_points import OperatingPoint, Rule, Scored, operating_point
from ich_ray.statistics.pooled_exams import best_level, scored, scored_slices


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """Thresholds of one model."""

    level: int
    """Pixels at or above it are called bleed: of the best DSC."""

    slice_threshold: float
    """Slices at or above it are called positive: of the best F1."""

    exams: Scored
    """The tuning exams themselves, which fix operating points."""


UNTUNED_LEVEL = int(score_levels.quantise_logits(np.zeros(1, np.float32))[0])
"""p = 0.5."""


def tune(found: CountedModel, *, where: Sequence[str]) -> Tuned:
    """Fix the thresholds of a model; p = 0.5 where no tuning exam has a mask, or slices.

    Args:
        found: What it says of the tuning exams.
        where: Their selections; empty where there are none.

    Raises:
        QualityError: Tuning exams have masks, and none of them a positive pixel.
    """
    return Tuned(
        level=best_level(found, where=where) if found.pixels.num_pixels else UNTUNED_LEVEL,
        slice_threshold=best_f1_threshold(scored_slices(found.exams)) if where else NO_TUNING,
        exams=scored(found.exams),
    )


def points_of(
    model: str, tuned: Tuned, test: Scored, rules: Sequence[Rule]
) -> list[OperatingPoint]:
    """Fix exam thresholds on the tuning exams; none where these are of one class."""
    if not tuned.exams.both_classes:
        return []
    return [operating_point(model, rule, tuning=tuned.exams, test=test) for rule in rules]
