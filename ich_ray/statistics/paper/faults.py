"""What is wrong with the published procedure of Lin & Yuh, with figures of this very comparison."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.comparison import Metric
from ich_ray.statistics.paper.figures import PaperFigures, correlated_slices
from ich_ray.statistics.paper.lin2022 import NUM_MARKED_EXAMS, NUM_SLICES, P_VALUES, REPLICATES
from ich_ray.statistics.paper.retest import false_alarms

NAMES: dict[Metric, str] = {"exam_auc": "exam AUC", "dsc": "DSC", "pixel_ap": "pixel AP"}


def narrow_brackets(found: PaperFigures) -> str:
    """Say what the printed intervals are, and how wide 95 % ones would be."""
    auc = found.metrics["exam_auc"]
    return (
        "The brackets that the paper prints (\N{PLUS-MINUS SIGN}0.001 at an AUC of 0.939 of 481 "
        "exams) cannot be 95 % intervals: Hanley and McNeil give [0.915, 0.963]. They fit the "
        "error of the mean of the resamples, which says nothing of other exams. Here such brackets "
        f"of the exam AUCs are {_widths(auc.printed)} wide, and 95 % of the same resamples lie "
        f"within {_widths(auc.percentiles)}."
    )


def normality_not_shown(found: PaperFigures) -> str:
    """Say what the test of normality is worth."""
    each = [
        f"{_p(metric.difference.normality.p_uncorrected)} and "
        f"{_p(metric.difference.normality.p_lilliefors)} of {NAMES[name]}"
        for name, metric in found.metrics.items()
    ]
    return (
        "The Kolmogorov-Smirnov test takes mean and deviation as known; they were estimated, so "
        "its p-values are far too large, as Lilliefors' correction shows. Not to reject does not "
        f"confirm a normal distribution either. Here p without and with it is {_listed(each)}."
    )


def dependent_slices(found: PaperFigures) -> str:
    """Say what the correlation of slices does to p-values."""
    z = NormalDist().inv_cdf(1 - P_VALUES["dsc"] / 2)
    of_paper = correlated_slices(z, num_slices=NUM_SLICES, num_exams=NUM_MARKED_EXAMS)
    stated = (
        f"{NUM_SLICES} slices of {NUM_MARKED_EXAMS} exams are not independent, and were resampled "
        f"as if they were: at an intraclass correlation of {of_paper.intraclass_correlation} the "
        f"published p of DSC, {P_VALUES['dsc']}, becomes {of_paper.p:.2f}."
    )
    if not found.correlated:
        return stated
    each = [
        f"{_p(corrected.p)} of {NAMES[name]} ({_p(found.metrics[name].difference.found.p)} without)"
        for name, corrected in found.correlated.items()
    ]
    divisor = math.sqrt(found.correlated["dsc"].design_effect)
    return (
        f"{stated} Here, with {found.num_slices:,} slices of {found.num_marked_exams:,} exams, it "
        f"would divide Z by {divisor:.2f} and make p {_listed(each)}."
    )


def resamples_as_observations(found: PaperFigures) -> str:
    """Say what a t-test over resamples finds."""
    stated = (
        f"The paired t-test of the test-retest study takes {REPLICATES} resamples of the same "
        "slices for observations: it calls equal models different "
        f"{100 * false_alarms(REPLICATES):.0f} times in 100, and enough resamples make any "
        "difference significant."
    )
    each = [
        f"{_p(of.segmentations[0].p)} for {NAMES[name]} "
        f"(by Z: {_p(found.metrics[name].difference.found.p)})"
        for name, of in found.retest.items()
    ]
    return f"{stated} Here its p is {_listed(each)}." if each else stated


def chosen_on_test(found: PaperFigures) -> str:
    """Say where the operating point was chosen."""
    first, second = (f"{point.test.specificity.estimate:.3f}" for point in found.operating_points)
    return (
        "The operating point, a sensitivity of 0.920, was chosen on the test exams, on which its "
        "specificity is given: nobody knows such a threshold beforehand. Here, so chosen, the "
        f"specificities are {first} and {second}."
    )


FAULTS: tuple[Callable[[PaperFigures], str], ...] = (
    narrow_brackets,
    normality_not_shown,
    dependent_slices,
    resamples_as_observations,
    chosen_on_test,
)
"""Source: statistics.md, "What is wrong with it"."""


def faults(found: PaperFigures) -> list[str]:
    """Return the known faults as sentences, each with the figure of this comparison."""
    return [fault(found) for fault in FAULTS]


def _widths(of: tuple[Interval, Interval]) -> str:
    first, second = (f"{one.high - one.low:.4f}" for one in of)
    return f"{first} and {second}"


def _p(p: float) -> str:
    if p != p:
        return "undefined"
    return "below 0.001" if p < 0.001 else f"{p:.3f}"


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else parts[0]
