"""The published procedure of Lin & Yuh, to the letter: to lay beside ours, not to believe.

Exams are resampled for the AUC, slices for DSC and pixel AP, both without strata and as if slices
were independent; both models see the same resample. Where the paper says two things,
`lin2022.CONTRADICTIONS` says which is done; what is wrong with it says `faults.py`.

Source: Lin & Yuh, sections 2.4, 2.5 and 3.2, and Supplemental Table 1.
"""

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Int64

from ich_ray.errors import ConfigError
from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.statistics import average_precision, overlap, roc
from ich_ray.statistics.bootstrap import Difference, Interval, interval, resample_weights
from ich_ray.statistics.comparison import PIXEL_METRICS, Metric, PixelMetric
from ich_ray.statistics.operating_points import OperatingPoint, Rule, Scored, operating_point
from ich_ray.statistics.paper.faults import faults
from ich_ray.statistics.paper.figures import (
    PaperDifference,
    PaperFigures,
    PaperMetric,
    SubtypeAuc,
    correlated_slices,
    two_sided,
)
from ich_ray.statistics.paper.inputs import Models, PaperExams, PaperModel, num_slices_of
from ich_ray.statistics.paper.lin2022 import REPLICATES, RESAMPLES, SENSITIVITY
from ich_ray.statistics.paper.normality import normality
from ich_ray.statistics.paper.retest import Retest, Values, retest


def paper_figures(
    exams: PaperExams,
    models: Models,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> PaperFigures:
    """Compare two models as Lin & Yuh did.

    Args:
        exams: The exams that both models saw.
        models: First and second, e.g. semi-supervised and baseline.
        seed: Of the resamples and of Lilliefors' p-values.
        resamples: Of the exams, and of the slices. Where a figure is undefined, e.g. an AUC of
            exams of one class, a resample is left out and counted.

    Raises:
        ConfigError: Fewer than two resamples.
        QualityError: The exams are of one class, a score is NaN, no mask holds a bleed, or the
            models were not given the same masks.
    """
    if resamples < 2:
        raise ConfigError(f"the paper's procedure needs 2 or more resamples, got {resamples}")
    num_slices = num_slices_of(exams, models)
    metrics: dict[Metric, PaperMetric] = {
        "exam_auc": _metric(
            _single(_aucs(exams, models, _once(len(exams.labels)))),
            _aucs(exams, models, _drawn(seed, range(resamples), len(exams.labels))),
            seed=seed,
        )
    }
    pixel_metrics = PIXEL_METRICS if num_slices else ()
    for name in pixel_metrics:
        whole = _single(_of_slices(name, models, 0, _once(num_slices)))
        values = _of_slices(name, models, 0, _drawn(seed, range(resamples), num_slices))
        metrics[name] = _metric(whole, values, seed=seed)
    a, b = models
    found = PaperFigures(
        a=a.name,
        b=b.name,
        num_exams=len(exams.labels),
        num_positive=int(exams.labels.sum()),
        num_slices=num_slices,
        num_marked_exams=exams.num_marked if num_slices else 0,
        resamples=resamples,
        metrics=metrics,
        correlated={
            name: correlated_slices(
                metrics[name].difference.z, num_slices=num_slices, num_exams=exams.num_marked
            )
            for name in pixel_metrics
        },
        retest={name: _retest(name, models, num_slices, seed=seed) for name in pixel_metrics},
        operating_points=(_point_on_test(a, exams), _point_on_test(b, exams)),
        subtypes=tuple(_subtype(i, exams, models) for i in range(len(HEMORRHAGE_TYPES)))
        if exams.subtypes is not None
        else (),
        faults=(),
    )
    return replace(found, faults=tuple(faults(found)))


def _once(num_clusters: int) -> Int64[np.ndarray, "resample cluster"]:
    return np.ones((1, num_clusters), np.int64)


def _drawn(seed: int, resamples: range, num_clusters: int) -> Int64[np.ndarray, "resample cluster"]:
    return resample_weights(seed=seed, resamples=resamples, num_clusters=num_clusters)


def _aucs(
    exams: PaperExams,
    models: Models,
    weights: Int64[np.ndarray, "resample exam"],
) -> Values:
    a, b = (roc.weighted_aucs(model.scores, exams.labels, weights) for model in models)
    return a, b


def _of_slices(
    metric: PixelMetric,
    models: Models,
    segmentation: int,
    weights: Int64[np.ndarray, "resample slice"],
) -> Values:
    def of(model: PaperModel) -> Float64[np.ndarray, " resample"]:
        stack = model.segmentations[segmentation]
        if metric == "dsc":
            return overlap.weighted_dices(overlap.overlap_at(stack, model.level), weights)
        return average_precision.weighted_average_precisions(stack, weights)

    return of(models[0]), of(models[1])


def _retest(metric: PixelMetric, models: Models, num_slices: int, *, seed: int) -> Retest:
    """Compare the models over 50 resamples of each segmentation, other ones for each."""
    values = []
    for k in range(len(models[0].segmentations)):
        weights = _drawn(seed, range(REPLICATES * k, REPLICATES * (k + 1)), num_slices)
        values.append(_of_slices(metric, models, k, weights))
    return retest(values)


def _single(values: Values) -> tuple[float, float]:
    a, b = (float(value) for (value,) in values)
    return a, b


def _metric(whole: tuple[float, float], values: Values, *, seed: int) -> PaperMetric:
    a, b = whole
    return PaperMetric(
        printed=(_printed(a, values[0]), _printed(b, values[1])),
        percentiles=(interval(a, values[0]), interval(b, values[1])),
        difference=_difference(a - b, values[0] - values[1], seed=seed),
    )


def _printed(estimate: float, resampled: Float64[np.ndarray, " resample"]) -> Interval:
    """Give a figure the brackets that the paper prints: the error of the mean of the resamples."""
    mean, sd, defined = _mean_and_sd(resampled)
    half_width = 1.96 * sd / math.sqrt(max(defined, 1))
    return Interval(estimate, mean - half_width, mean + half_width, len(resampled) - defined)


def _difference(
    estimate: float, resampled: Float64[np.ndarray, " resample"], *, seed: int
) -> PaperDifference:
    """Test a difference by Z = estimate / sd over the resamples.

    The paper calls the differences of the resamples and the numerator by one name. The estimate on
    all the data is taken for it: printed figures are no means of resamples, since their brackets
    are not centred on them.
    """
    mean, sd, _ = _mean_and_sd(resampled)
    # Without variation p is 1 for equal figures and 0 for others, as in DeLong's test.
    unvaried = math.copysign(math.inf, estimate) if estimate else 0.0
    z = estimate / sd if sd else unvaried
    bounds = interval(estimate, resampled)
    return PaperDifference(
        found=Difference(estimate, bounds.low, bounds.high, two_sided(z), bounds.num_undefined),
        mean=mean,
        sd=sd,
        z=z,
        normality=normality(resampled[~np.isnan(resampled)], seed=seed),
        resampled=resampled,
    )


def _mean_and_sd(resampled: Float64[np.ndarray, " resample"]) -> tuple[float, float, int]:
    """Return mean, standard deviation and number of the defined resamples; NaN of too few."""
    defined = resampled[~np.isnan(resampled)]
    mean = float(defined.mean()) if len(defined) else math.nan
    if len(defined) < 2:
        return mean, math.nan, len(defined)
    # Equal values have a mean that rounding may put beside them, and a deviation from it.
    sd = float(defined.std(ddof=1)) if np.ptp(defined) > 0 else 0.0
    return mean, sd, len(defined)


def _point_on_test(model: PaperModel, exams: PaperExams) -> OperatingPoint:
    """Fix the threshold on the very exams on which it is judged, as the paper does."""
    test = Scored(scores=model.scores, labels=exams.labels)
    return operating_point(model.name, Rule("sensitivity", SENSITIVITY), tuning=test, test=test)


def _subtype(index: int, exams: PaperExams, models: Models) -> SubtypeAuc:
    """Tell exams with one subtype alone from all negative exams.

    Of exams with several the paper says that they would confound; negative exams it does not name.
    """
    assert exams.subtypes is not None
    alone = exams.labels & exams.subtypes[:, index] & (exams.subtypes.sum(axis=1) == 1)
    members = alone | ~exams.labels
    a, b = (
        roc.auc(model.scores[members], exams.labels[members]) if alone.any() else math.nan
        for model in models
    )
    return SubtypeAuc(subtype=HEMORRHAGE_TYPES[index], num_isolated=int(alone.sum()), aucs=(a, b))
