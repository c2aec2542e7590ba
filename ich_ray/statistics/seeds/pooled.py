"""Recipes compared over all their trainings: each metric's means and differences, as reported."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from jaxtyping import Float64
from scipy.special import expit

from ich_ray.statistics.bootstrap import Difference, Interval
from ich_ray.statistics.comparison import METRICS, Exams, Metric, Predicted, main_pair, pairs
from ich_ray.statistics.seeds.covariance import figures_and_covariance
from ich_ray.statistics.seeds.obuchowski_rockette import (
    Components,
    Equality,
    Errors,
    Figures,
    Scatter,
    bounds,
    components_of,
    difference_scatter,
    equality_of,
    mean_scatter,
    p_value,
    quantile,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PooledMean:
    """The mean of a recipe's trainings."""

    recipe: str
    metric: Metric
    mean: Interval
    """Over other trainings and other patients."""

    freedom: float
    """Degrees of freedom; null where they are infinite."""

    error_of_seeds: float
    """What the choice of trainings adds to the standard error; null of one training."""

    error_of_patients: float
    """What the choice of patients adds."""

    figures: tuple[float, ...]
    """Of each training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PooledDifference:
    """The mean of recipe a minus that of recipe b."""

    a: str
    b: str
    metric: Metric
    joined: Difference
    """Over other trainings and other patients."""

    freedom: float
    """Degrees of freedom; null where they are infinite."""

    error_of_seeds: float
    """What the choice of trainings adds to the standard error; null of one training."""

    error_of_patients: float
    """What the choice of patients adds."""

    patients_alone: Interval
    """As if no other training were possible."""

    seeds_alone: Interval
    """As if there were no other patients; null bounds of one training."""

    figures: tuple[float, ...]
    """Of each place: the training of a minus that of b."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PooledMetric:
    """What is asked of all recipes at once."""

    metric: Metric
    equality: Equality
    components: Components | None
    """None of one training a recipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OverTrainings:
    """Recipes over their trainings and the test patients (Obuchowski and Rockette 1995)."""

    trainings: Mapping[str, tuple[str, ...]]
    """Recipe -> its models; those of one place belong together."""

    num_trainings: int
    """Of each recipe; of one, everything speaks of patients alone."""

    means: tuple[PooledMean, ...]
    differences: tuple[PooledDifference, ...]
    """Each later recipe minus each earlier one."""

    metrics: tuple[PooledMetric, ...]
    """Empty of one recipe."""

    @property
    def main(self) -> tuple[str, str] | None:
        """Whose difference comes first, as in a headline."""
        return main_pair(list(self.trainings))


def over_trainings(
    exams: Exams, models: Mapping[str, Predicted], trainings: Mapping[str, Sequence[str]]
) -> OverTrainings:
    """Return what recipes show over trainings and patients.

    Intervals of means are made on the scale of the logit, those of differences plainly. A metric
    that is undefined in a training is NaN throughout.

    Args:
        exams: The exams that all models saw.
        models: Statistics of each training.
        trainings: Recipe -> names of its models, as many of each.

    Raises:
        QualityError: Fewer than two patients have an exam of a class.
    """
    members = {name: models[name] for name in chain(*trainings.values())}
    recipes, seeds = list(trainings), len(next(iter(trainings.values())))
    means: list[PooledMean] = []
    differences: list[PooledDifference] = []
    metrics = []
    for metric in METRICS:
        flat, covariance = figures_and_covariance(exams, members, metric)
        figures = flat.reshape(len(recipes), seeds)
        errors = covariance.reshape(figures.shape * 2)
        means += means_of(recipes, metric, figures, errors)
        differences += differences_of(recipes, metric, figures, errors)
        if len(recipes) > 1:
            metrics.append(
                PooledMetric(
                    metric=metric,
                    equality=equality_of(figures, errors),
                    components=components_of(figures, errors) if seeds > 1 else None,
                )
            )
    return OverTrainings(
        trainings={recipe: tuple(of) for recipe, of in trainings.items()},
        num_trainings=seeds,
        means=tuple(means),
        differences=tuple(differences),
        metrics=tuple(metrics),
    )


def means_of(
    recipes: Sequence[str], metric: Metric, figures: Figures, errors: Errors
) -> list[PooledMean]:
    """Return the mean of each recipe.

    Args:
        recipes: Their names.
        metric: What the figures are of.
        figures: Of each training.
        errors: Their covariance over patients.
    """
    return [
        _mean(recipe, metric, figures[i], errors[i, :, i, :]) for i, recipe in enumerate(recipes)
    ]


def differences_of(
    recipes: Sequence[str], metric: Metric, figures: Figures, errors: Errors
) -> list[PooledDifference]:
    """Return each later recipe minus each earlier one; arguments as of `means_of`."""
    found = []
    for a, b in pairs(recipes):
        both = [recipes.index(a), recipes.index(b)]
        of_both = errors[both][:, :, both]
        found.append(_difference(a, b, metric, figures[both], of_both))
    return found


def _mean(
    recipe: str,
    metric: Metric,
    figures: Float64[np.ndarray, " seed"],
    errors: Float64[np.ndarray, "seed seed"],
) -> PooledMean:
    scatter, estimate = mean_scatter(figures, errors), float(figures.mean())
    return PooledMean(
        recipe=recipe,
        metric=metric,
        mean=Interval(estimate, *_on_logit_scale(estimate, scatter)),
        freedom=scatter.freedom,
        error_of_seeds=math.sqrt(scatter.of_seeds),
        error_of_patients=math.sqrt(scatter.of_patients),
        figures=tuple(figures.tolist()),
    )


def _difference(
    a: str, b: str, metric: Metric, figures: Figures, errors: Errors
) -> PooledDifference:
    scatter = difference_scatter(figures, errors)
    each = figures[0] - figures[1]
    estimate = float(each.mean())
    patients = replace(scatter, variance=scatter.of_patients, freedom=math.inf)
    seeds = replace(scatter, variance=scatter.seeds_alone, freedom=len(each) - 1.0)
    return PooledDifference(
        a=a,
        b=b,
        metric=metric,
        joined=Difference(
            estimate, *_within(bounds(estimate, scatter)), p_value(estimate, scatter)
        ),
        freedom=scatter.freedom,
        error_of_seeds=math.sqrt(scatter.of_seeds),
        error_of_patients=math.sqrt(scatter.of_patients),
        patients_alone=Interval(estimate, *_within(bounds(estimate, patients))),
        seeds_alone=Interval(estimate, *_within(bounds(estimate, seeds))),
        figures=tuple(each.tolist()),
    )


def _on_logit_scale(estimate: float, scatter: Scatter) -> tuple[float, float]:
    """Return the bounds of a figure between 0 and 1; at 0 and 1 without width."""
    if math.isnan(estimate):
        return math.nan, math.nan
    if not 0 < estimate < 1:
        return estimate, estimate
    slope = estimate * (1 - estimate)
    half_width = quantile(scatter.freedom, 0.95) * math.sqrt(scatter.variance) / slope
    centre = math.log(estimate / (1 - estimate))
    return float(expit(centre - half_width)), float(expit(centre + half_width))


def _within(ends: tuple[float, float]) -> tuple[float, float]:
    """Return bounds of a difference of figures from 0 to 1; NaN stays NaN."""
    low, high = (float(np.clip(end, -1.0, 1.0)) for end in ends)
    return low, high
