"""What the published procedure of Lin & Yuh says of two models: plain values, faults included.

Nothing here is to be believed by itself: `faults.py` says why, the default is
`../comparison.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from ich_ray.statistics.bootstrap import Difference, Interval
from ich_ray.statistics.comparison import Metric, PixelMetric
from ich_ray.statistics.operating_points import OperatingPoint
from ich_ray.statistics.paper import lin2022
from ich_ray.statistics.paper.lin2022 import Printed
from ich_ray.statistics.paper.normality import Normality
from ich_ray.statistics.paper.retest import Retest

INTRACLASS_CORRELATION = 0.1
"""Of slices of one exam, assumed to show what their independence is worth."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PaperDifference:
    """First model minus second over the resamples, and the paper's test."""

    found: Difference
    """Estimate on all the data; bounds: the 2.5th and 97.5th percentile; p of Z."""

    mean: float
    """Over the resamples."""

    sd: float
    """Over the resamples, with one degree of freedom less."""

    z: float
    """Estimate / sd; NaN with fewer than 2 defined resamples."""

    normality: Normality
    """Of the resamples."""

    resampled: Float64[np.ndarray, " resample"] = field(metadata={"record": False})
    """NaN where undefined."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PaperMetric:
    """A metric of both models."""

    printed: tuple[Interval, Interval]
    """First and second model: the figure on all the data, with the brackets that the paper prints,
    mean of the resamples +- 1.96 sd / sqrt(resamples): the error of that mean, which more resamples
    make as small as one likes. They may leave the figure out."""

    percentiles: tuple[Interval, Interval]
    """The figure with the 2.5th and 97.5th percentile of the same resamples."""

    difference: PaperDifference


@dataclass(frozen=True, kw_only=True, slots=True)
class SubtypeAuc:
    """Exam AUC of exams with one subtype alone against all negative exams."""

    subtype: str
    num_isolated: int
    """Positive exams with this subtype and no other."""

    aucs: tuple[float, float]
    """First and second model; NaN without such exams."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorrelatedSlices:
    """What Z and its p-value become if slices of one exam resemble each other."""

    intraclass_correlation: float
    slices_per_exam: float
    design_effect: float
    """By which the variance grows."""

    z: float
    p: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PaperFigures:
    """The published procedure on two models, first minus second."""

    a: str
    b: str
    num_exams: int
    num_positive: int
    num_slices: int
    """With masks; 0 where there are none."""

    num_marked_exams: int
    """That these slices come from."""

    resamples: int
    metrics: Mapping[Metric, PaperMetric]
    """Exam AUC; DSC and pixel AP where there are slices."""

    correlated: Mapping[PixelMetric, CorrelatedSlices]
    retest: Mapping[PixelMetric, Retest]
    operating_points: tuple[OperatingPoint, OperatingPoint]
    """Chosen on the test exams, on which they are judged: `tuning` is `test`."""

    subtypes: tuple[SubtypeAuc, ...]
    """In the order of HEMORRHAGE_TYPES; empty where subtypes are not known."""

    faults: tuple[str, ...]
    """What is known to be wrong with all this, in sentences, with figures of this comparison."""

    @property
    def contradictions(self) -> tuple[str, ...]:
        """Where the paper contradicts itself, and what is done here."""
        return lin2022.CONTRADICTIONS

    @property
    def published_on(self) -> str:
        """On what the published figures were measured."""
        return lin2022.TEST_CORPUS

    def published(self, metric: Metric) -> tuple[Printed | None, Printed | None]:
        """Return what table 1 prints for models of these names."""
        first, second = (lin2022.TABLE_1.get(name, {}).get(metric) for name in (self.a, self.b))
        return first, second

    def published_p(self, metric: Metric) -> float | None:
        """Return the published p-value where these are the two models that it compares."""
        same = {self.a, self.b} == set(lin2022.SPECIFICITY)
        return lin2022.P_VALUES.get(metric) if same else None

    @property
    def published_specificities(self) -> tuple[float | None, float | None]:
        """Those at sensitivity 0.920 of models of these names."""
        return lin2022.SPECIFICITY.get(self.a), lin2022.SPECIFICITY.get(self.b)

    def published_subtype(self, subtype: str) -> tuple[Printed | None, Printed | None]:
        """Return what is printed of an isolated subtype for models of these names."""
        printed = lin2022.SUPPLEMENT_TABLE_1.get(subtype, {})
        return printed.get(self.a), printed.get(self.b)


def correlated_slices(
    z: float,
    *,
    num_slices: int,
    num_exams: int,
    intraclass_correlation: float = INTRACLASS_CORRELATION,
) -> CorrelatedSlices:
    """Correct a Z that took slices as independent for their correlation within exams.

    Exams of unequal size make it worse than the mean size, which is taken, says.

    Args:
        z: Of slices taken as independent.
        num_slices: In all.
        num_exams: That they come from, at least one.
        intraclass_correlation: Of what slices of one exam add to the difference, within [0, 1].

    Source: Kish 1965, 5.4: the variance grows by 1 + (m - 1) icc, m slices an exam.

    >>> found = correlated_slices(2.512, num_slices=529, num_exams=23)
    >>> round(found.design_effect, 3), round(found.p, 2)
    (3.2, 0.16)
    """
    slices_per_exam = num_slices / num_exams
    design_effect = 1 + (slices_per_exam - 1) * intraclass_correlation
    corrected = z / math.sqrt(design_effect)
    return CorrelatedSlices(
        intraclass_correlation=intraclass_correlation,
        slices_per_exam=slices_per_exam,
        design_effect=design_effect,
        z=corrected,
        p=two_sided(corrected),
    )


def two_sided(z: float) -> float:
    """Return twice the probability that a standard normal variable is above |z|.

    >>> round(two_sided(1.959964), 4)
    0.05
    """
    return math.erfc(abs(z) / math.sqrt(2))
