"""Coverage of intervals over trainings and patients at once, and what one of them alone would say.

Two recipes of one mean skill are trained several times. Each training has a skill of its own; of
each patient all trainings together, those of a recipe, and each by itself think too much or too
little. Beside the intervals of the report stand the usual ones: over patients, of the trainings as
they are, and over trainings (a t-interval over seeds), of the patients as they are.

    python -m benchmarks.coverage_over_trainings [--trials 1000]
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from benchmarks.coverage_tally import Tally
from ich_ray.statistics import average_precision, overlap, pixel_histograms
from ich_ray.statistics.comparison import Exams, Metric, Predicted
from ich_ray.statistics.seeds.covariance import auc_covariance
from ich_ray.statistics.seeds.pooled import (
    PooledDifference,
    PooledMean,
    differences_of,
    means_of,
    over_trainings,
)

TITLES: dict[Metric, str] = {"exam_auc": "exam AUC", "dsc": "DSC", "pixel_ap": "pixel AP"}
LEVELS = np.arange(6)
CALLED = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipes:
    """Two recipes, how often each is trained, and on how many exams all are judged."""

    exams: int
    positive: int
    trainings: int
    varies: float
    """Standard deviation of a training's skill; an AUC of 0.85 then varies by 0.13 of it."""

    pixels: bool = False
    """Whether masks are judged too."""

    @property
    def title(self) -> str:
        """For a line of the results."""
        spread = f"skill varies by {self.varies}" if self.varies else "trainings alike"
        return f"{self.trainings} trainings, {self.exams} exams, {self.positive} positive, {spread}"


RECIPES = (
    *(
        Recipes(exams=exams, positive=positive, trainings=trainings, varies=varies)
        for exams, positive in ((481, 147), (80, 35), (100, 10))
        for trainings, varies in ((3, 0.0), (3, 0.2), (5, 0.2))
    ),
    Recipes(exams=80, positive=35, trainings=2, varies=0.2),
    Recipes(exams=80, positive=40, trainings=3, varies=0.2, pixels=True),
    Recipes(exams=200, positive=20, trainings=5, varies=0.2, pixels=True),
)

APART = 1.47
"""Of the classes' mean scores, in standard deviations: an AUC of 0.85."""


def skills(recipes: Recipes, rng: np.random.Generator) -> np.ndarray:
    """Draw the skill of each training, (recipe, training)."""
    return recipes.varies * rng.normal(size=(2, recipes.trainings))


def scores(recipes: Recipes, skill: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the score of each training and exam, positive exams first, in steps of 0.25."""
    labels = np.arange(recipes.exams) < recipes.positive
    shared = rng.normal(size=(1, 1, recipes.exams))
    of_recipe = rng.normal(size=(2, 1, recipes.exams))
    own = rng.normal(size=(2, recipes.trainings, recipes.exams))
    noise = math.sqrt(0.5) * shared + math.sqrt(0.2) * of_recipe + math.sqrt(0.3) * own
    return np.round(4 * ((APART + skill[..., None]) * labels + noise)) / 4


def masks(
    skill: np.ndarray, bleeds: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw positive and negative pixels by level, (recipe, training, exam, level) each."""
    size, shape = len(bleeds), (*skill.shape, len(bleeds))
    reference = rng.poisson(np.where(bleeds, np.exp(rng.normal(6, 1.2, size)), 0.0))
    found = (
        1.0
        + skill[..., None]
        + rng.normal(0, 0.6, size)
        + rng.normal(0, 0.3, (len(skill), 1, size))
        + rng.normal(0, 0.3, shape)
    )
    at = np.exp(found[..., None] * (LEVELS - 2.5))
    positive = rng.multinomial(np.broadcast_to(reference, shape), at / at.sum(-1, keepdims=True))
    loud = rng.normal(0, 0.7, size) + rng.normal(0, 0.3, shape)
    negative = rng.poisson(3000 * np.exp(loud[..., None] - 1.6 * LEVELS))
    return positive, negative


def stack_of(positive: np.ndarray, negative: np.ndarray) -> pixel_histograms.HistogramStack:
    """Return exams as clusters, (exam, level) each."""
    exams, levels = positive.shape
    return pixel_histograms.HistogramStack(
        level=np.repeat(np.arange(levels, dtype=np.uint16), exams),
        cluster=np.tile(np.arange(exams, dtype=np.int32), levels),
        pos=positive.T.astype(np.uint32).ravel(),
        neg=negative.T.astype(np.uint32).ravel(),
        num_clusters=exams,
    )


def true_figures(recipes: Recipes) -> dict[Metric, float]:
    """Return the mean figure over trainings on endless patients: over skills by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    weights = weights / weights.sum()
    found: dict[Metric, list[float]] = {metric: [] for metric in TITLES}
    bleeds = np.random.default_rng(1).random(60_000) < recipes.positive / recipes.exams
    for node in nodes * recipes.varies:
        found["exam_auc"].append(_auc(APART + node))
        if recipes.pixels:
            drawn = masks(np.full((1, 1), node), bleeds, np.random.default_rng(1))
            whole = stack_of(*(counts[0].sum(axis=1) for counts in drawn))
            once = np.ones((1, 1))
            counts = overlap.overlap_at(whole, CALLED)
            found["dsc"].append(float(overlap.weighted_dices(counts, once)[0]))
            ap = average_precision.weighted_average_precisions(whole, once)
            found["pixel_ap"].append(float(ap[0]))
    return {metric: float(weights @ of) for metric, of in found.items() if of}


def _auc(apart: float) -> float:
    """Return the AUC of the whole population, ties in steps of 0.25 at one half."""
    edges = (np.arange(-60, 60) + 0.5) / 4
    negative, positive = np.diff(ndtr(edges)), np.diff(ndtr(edges - apart))
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum())


def drawn(recipes: Recipes, trial: int) -> tuple[Sequence[PooledMean], Sequence[PooledDifference]]:
    """Draw trainings and patients, and pool them as the report does."""
    rng = np.random.default_rng([trial, recipes.exams, recipes.positive, recipes.trainings])
    skill = skills(recipes, rng)
    labels = np.arange(recipes.exams) < recipes.positive
    said = scores(recipes, skill, rng)
    if not recipes.pixels:
        flat, covariance = auc_covariance(said.reshape(-1, recipes.exams), labels)
        figures = flat.reshape(skill.shape)
        pooled = ("a", "b"), "exam_auc", figures, covariance.reshape(skill.shape * 2)
        return means_of(*pooled), differences_of(*pooled)
    positive, negative = masks(skill, labels, rng)
    models = {
        f"{name}{k}": Predicted.of_stack(
            scores=said[i, k], stack=stack_of(positive[i, k], negative[i, k]), level=CALLED
        )
        for i, name in enumerate("ab")
        for k in range(recipes.trainings)
    }
    names = {n: [f"{n}{k}" for k in range(recipes.trainings)] for n in "ab"}
    corpus = Exams(labels=labels, patient=np.arange(recipes.exams))
    found = over_trainings(corpus, models, names)
    return found.means, found.differences


def trainings(recipes: Recipes, *, trials: int) -> Tally:
    """Make the intervals and tests of means and differences."""
    tally, truth = Tally(), true_figures(recipes)
    for trial in range(trials):
        means, differences = drawn(recipes, trial)
        for one in means:
            if one.recipe == "a" and one.metric in truth:
                name = f"{TITLES[one.metric]} over trainings"
                tally.interval(name, one.mean.low, one.mean.high, truth[one.metric])
        for gap in differences:
            if gap.metric not in truth:
                continue
            name = f"{TITLES[gap.metric]} difference over trainings"
            tally.interval(name, gap.joined.low, gap.joined.high, 0.0)
            tally.test(name, gap.joined.p)
            for of, alone in (("patients", gap.patients_alone), ("trainings", gap.seeds_alone)):
                title = f"alone: {TITLES[gap.metric]} difference, {of}"
                tally.interval(title, alone.low, alone.high, 0.0)
    return tally


def main() -> None:
    """Simulate, and print what was found."""
    parser = argparse.ArgumentParser(description="Coverage of intervals over trainings.")
    parser.add_argument("--trials", type=int, default=1_000)
    options = parser.parse_args()
    for recipes in RECIPES:
        for row in trainings(recipes, trials=options.trials).rows(recipes.title):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
