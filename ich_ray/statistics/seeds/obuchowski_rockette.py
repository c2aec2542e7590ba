"""Figures of recipes that were trained several times: what other trainings and patients would give.

Two things vary. Another seed would have made another network, and another test corpus would hold
other patients; all networks are judged on the same ones, so that their errors go together. This is
the analysis of several readers of several cases: the trainings of a recipe are its readers, drawn
from all that the recipe might give, recipes are the modalities, patients the cases.

Trainings of the same place belong together (a student and its own teacher): what is common to them
cancels in differences. Where nothing is, the analysis holds all the same, with fewer degrees of
freedom than there might be.

Source: Obuchowski and Rockette, Commun Stat Simul 24 (1995) 285-308; degrees of freedom, and
Cov2 - Cov3 never below 0: Hillis, Stat Med 26 (2007) 596-619; Hillis, Berbaum and Metz, Acad Radiol
15 (2008) 647-661; Hillis, Stat Med 33 (2014) 330-360.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import chdtrc, fdtrc
from scipy.stats import norm, t

Figures = Float64[np.ndarray, "recipe seed"]
Errors = Float64[np.ndarray, "recipe seed recipe seed"]
"""Covariance of the figures over patients."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Components:
    """Where figures get their scatter from."""

    error: float
    """Variance of one training's figure over patients (Var)."""

    cov1: float
    """Covariance over patients of trainings of one place, of different recipes."""

    cov2: float
    """Of different trainings of a recipe."""

    cov3: float
    """Of different trainings of different recipes."""

    place: float
    """Variance from place to place that all recipes share (VarR); below 0 where none is seen."""

    seed: float
    """Variance from training to training that is a recipe's own (VarTR); below 0 likewise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scatter:
    """The variance of a mean, or of a difference of means, over trainings and patients."""

    variance: float
    freedom: float
    """Degrees of freedom; infinite where trainings do not vary, or are not asked for."""

    of_seeds: float
    """What trainings add to the variance; 0 where none is seen."""

    of_patients: float
    """What patients add: the variance if no other training were possible."""

    seeds_alone: float
    """The variance if no other patients were: that of the figures as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Equality:
    """The test that all recipes are equal."""

    f: float
    numerator: float
    """Degrees of freedom."""

    denominator: float
    p: float


def components_of(figures: Figures, errors: Errors) -> Components:
    """Return where the scatter of figures comes from.

    Args:
        figures: At least two recipes of at least two trainings.
        errors: Their covariance over patients.
    """
    recipes, _ = figures.shape
    error, cov1, cov2, cov3 = _covariances(errors)
    of_places = figures.shape[0] * float(np.var(figures.mean(axis=0), ddof=1))
    residual = _residual_square(figures)
    return Components(
        error=error,
        cov1=cov1,
        cov2=cov2,
        cov3=cov3,
        place=(of_places - residual) / recipes - cov1 + cov3,
        seed=residual - error + cov1 + max(cov2 - cov3, 0.0),
    )


def equality_of(figures: Figures, errors: Errors) -> Equality:
    """Test whether all recipes are equal, on the trainings and patients of all.

    Args:
        figures: At least two recipes; of one training each, the test is of patients alone, by the
            chi-squared distribution.
        errors: Their covariance over patients.

    Source: Hillis 2014, 2.2.

    >>> figures = np.array([[0.8, 0.9], [0.7, 0.6]])
    >>> found = equality_of(figures, np.zeros((2, 2, 2, 2)))
    >>> round(found.f, 6), found.denominator
    (4.0, 1.0)
    """
    recipes, seeds = figures.shape
    found = _scatter(figures, errors)
    # The variance of a difference of two means is 2 / seeds of the error term.
    error_term = found.variance * seeds / 2
    between = seeds * float(np.var(figures.mean(axis=1), ddof=1))
    f = between / error_term if error_term > 0 else math.inf if between > 0 else 0.0
    return Equality(
        f=f,
        numerator=float(recipes - 1),
        denominator=found.freedom,
        p=_upper_tail(f, recipes - 1, found.freedom),
    )


def mean_scatter(
    figures: Float64[np.ndarray, " seed"], errors: Float64[np.ndarray, "seed seed"]
) -> Scatter:
    """Return the variance of a recipe's mean, by its own trainings."""
    seeds = len(figures)
    error = float(np.trace(errors)) / seeds
    if seeds == 1:
        return _of_patients(error)
    shared = max(float(errors.sum() - np.trace(errors)) / (seeds * (seeds - 1)), 0.0)
    alone = float(np.var(figures, ddof=1))
    return _joined(
        alone=alone / seeds,
        shared=shared,
        of_patients=(error + (seeds - 1) * shared) / seeds,
        freedom=seeds - 1.0,
    )


def difference_scatter(figures: Figures, errors: Errors) -> Scatter:
    """Return the variance of the difference of two recipes' means, by their own trainings.

    Other recipes are left out: they may vary more, or less, from training to training.
    """
    assert len(figures) == 2, f"a difference of {len(figures)} recipes"
    return _scatter(figures, errors)


def bounds(estimate: float, scatter: Scatter, *, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of a mean or a difference by Student's t.

    >>> of_five = mean_scatter(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.zeros((5, 5)))
    >>> [round(bound, 3) for bound in bounds(3.0, of_five)]
    [1.037, 4.963]
    """
    half_width = quantile(scatter.freedom, level) * math.sqrt(scatter.variance)
    return estimate - half_width, estimate + half_width


def p_value(estimate: float, scatter: Scatter) -> float:
    """Return the two-sided p-value of no difference; NaN where nothing is known."""
    if scatter.variance == 0:
        return float(estimate == 0)
    away = abs(estimate) / math.sqrt(scatter.variance)
    tail = norm.sf(away) if math.isinf(scatter.freedom) else t.sf(away, scatter.freedom)
    return float(2 * tail)


def quantile(freedom: float, level: float) -> float:
    """Return how many errors an interval reaches to either side."""
    upper = (1 + level) / 2
    return float(norm.ppf(upper) if math.isinf(freedom) else t.ppf(upper, freedom))


def _scatter(figures: Figures, errors: Errors) -> Scatter:
    """Return the variance of the difference of two of the recipes' means."""
    recipes, seeds = figures.shape
    error, cov1, cov2, cov3 = _covariances(errors)
    if seeds == 1:
        return _of_patients(2 * (error - cov1))
    shared = max(cov2 - cov3, 0.0)
    return _joined(
        alone=2 * _residual_square(figures) / seeds,
        shared=2 * shared,
        of_patients=2 * (error - cov1 + (seeds - 1) * shared) / seeds,
        freedom=(recipes - 1.0) * (seeds - 1.0),
    )


def _joined(*, alone: float, shared: float, of_patients: float, freedom: float) -> Scatter:
    """Add what the figures show themselves and what errors have in common; Hillis 2007.

    Each training's own error over patients is seen in the figures as they are already.
    """
    variance = alone + shared
    # Equal models have a covariance like their variances, but for the last digits.
    of_patients = max(of_patients, 0.0)
    return Scatter(
        variance=variance,
        freedom=freedom * (variance / alone) ** 2 if alone > 0 else math.inf,
        of_seeds=max(variance - of_patients, 0.0),
        of_patients=of_patients,
        seeds_alone=alone,
    )


def _of_patients(variance: float) -> Scatter:
    return Scatter(
        variance=max(variance, 0.0),
        freedom=math.inf,
        of_seeds=math.nan,
        of_patients=max(variance, 0.0),
        seeds_alone=math.nan,
    )


def _residual_square(figures: Figures) -> float:
    """Return the mean square of what neither recipe nor place explains, MS(TR)."""
    recipes, seeds = figures.shape
    of_recipes = figures.mean(axis=1, keepdims=True)
    rest = figures - of_recipes - figures.mean(axis=0, keepdims=True) + figures.mean()
    return float((rest * rest).sum() / ((recipes - 1) * (seeds - 1)))


def _covariances(errors: Errors) -> tuple[float, float, float, float]:
    """Return Var, Cov1, Cov2 and Cov3, averages of the covariances of each kind; NaN of none."""
    recipes, seeds = errors.shape[:2]
    same_recipe = np.eye(recipes, dtype=np.bool_)[:, None, :, None]
    same_place = np.eye(seeds, dtype=np.bool_)[None, :, None, :]
    kinds = (
        same_recipe & same_place,
        ~same_recipe & same_place,
        same_recipe & ~same_place,
        ~same_recipe & ~same_place,
    )
    chosen = (errors[np.broadcast_to(kind, errors.shape)] for kind in kinds)
    error, cov1, cov2, cov3 = (float(one.mean()) if len(one) else math.nan for one in chosen)
    return error, cov1, cov2, cov3


def _upper_tail(f: float, numerator: int, denominator: float) -> float:
    if math.isinf(denominator):
        return float(chdtrc(numerator, numerator * f))
    return float(fdtrc(numerator, denominator, f))
