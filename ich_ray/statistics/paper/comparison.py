"""The published procedure on the exams of a comparison: the headline's two models."""

from collections.abc import Mapping

import numpy as np

from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.statistics.paper.figures import PaperFigures
from ich_ray.statistics.paper.inputs import PaperExams, PaperModel
from ich_ray.statistics.paper.procedure import paper_figures
from ich_ray.statistics.pixel_histograms import stack
from ich_ray.statistics.pooled_exams import ComparedExams, Found
from ich_ray.statistics.tuning import Tuned


def paper_comparison(
    found: Mapping[str, Found],
    seen: ComparedExams,
    tuned: Mapping[str, Tuned],
    pair: tuple[str, str],
    *,
    seed: int,
) -> PaperFigures:
    """Compare two models as Lin & Yuh did.

    Args:
        found: Model -> exam -> statistics, the pixels of each slice among them.
        seen: The exams.
        tuned: Model -> its thresholds.
        pair: First and second model.
        seed: Of the resamples.
    """
    exams = [found[pair[0]][key] for key in seen.keys]
    nothing = (False,) * len(HEMORRHAGE_TYPES)
    subtypes = [one.facts.subtypes for one in exams]
    named = any(one is not None for one in subtypes)
    marked = sum(bool(one.slice_pixels) for one in exams)
    bleeds = any(histogram.pos.any() for one in exams for histogram in one.slice_pixels)
    return paper_figures(
        PaperExams(
            labels=seen.exams.labels,
            subtypes=np.array([one or nothing for one in subtypes], np.bool_) if named else None,
            num_marked=marked if bleeds else 0,
        ),
        (
            _model(pair[0], found[pair[0]], seen, level=tuned[pair[0]].level, pixels=bleeds),
            _model(pair[1], found[pair[1]], seen, level=tuned[pair[1]].level, pixels=bleeds),
        ),
        seed=seed,
    )


def _model(name: str, found: Found, seen: ComparedExams, *, level: int, pixels: bool) -> PaperModel:
    slices = [histogram for key in seen.keys for histogram in found[key].slice_pixels]
    return PaperModel(
        name=name,
        scores=np.array([found[key].score for key in seen.keys], np.float64),
        level=level,
        segmentations=(stack(slices),) if pixels else (),
    )
