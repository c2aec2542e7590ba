"""How much faster than scikit-learn are our exact metrics over resamples, and are they the same?

- Pixel AP and DSC of two models on 529 slices of 512 x 512 with 16-bit scores, 1,000 resamples of
  the slices: ours from the pixels on, against scikit-learn's `average_precision_score` and
  `f1_score` on the pixels of a resample, of which a few are timed (`speedup_over_sklearn`).
- The same figures on slices small enough for scikit-learn to do every resample, tied scores and
  empty masks among them (`max_abs_diff`).
- The AUC of 481 exams, 1,000 resamples, both in full (`auc_speedup_over_sklearn`, `auc_max_diff`).
- DeLong's variance against the plain matrix of all pairs (`delong_max_diff`).
- 25,000 exams: seconds for 10,000 and 100,000 resamples of the AUC (`large_seconds`).

Prints each figure as it comes, and last one line of JSON.

    python -m benchmarks.evaluate_speed [--rival-resamples 2] [--large 10000 100000]
"""

import argparse
import json
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, UInt16
from sklearn import metrics

from ich_ray.statistics import average_precision, overlap, pixel_histograms, roc, score_levels
from ich_ray.statistics.bootstrap import resample_weights
from ich_ray.statistics.studentized import stratified_errors

NUM_SLICES, MATRIX, NUM_MODELS, NUM_RESAMPLES = 529, 512, 2, 1_000
CHUNK = 100
"""Resamples of one call, as the pool of an evaluation makes them."""

REPEATS = 21
"""Of what takes a hundredth of a second; the median counts."""

LEVEL = 32_768
"""p = 0.5."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """Slices as a model scores them."""

    levels: list[UInt16[np.ndarray, "rows columns"]]
    masks: list[Bool[np.ndarray, "rows columns"]]


def slices(count: int, matrix: int, *, seed: int, grid: int = 1) -> Scored:
    """Make slices, of which every other one bleeds.

    Args:
        count: How many.
        matrix: Rows, and columns.
        seed: Of the scores; the masks are the same for all.
        grid: Scores are multiples of it: a large one ties them.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:matrix, :matrix]
    levels, masks = [], []
    for number in range(count):
        where = np.random.default_rng(number).uniform(0.25, 0.75, 2) * matrix
        radius = 0.06 * matrix * (number % 2)
        mask = (rows - where[0]) ** 2 + (columns - where[1]) ** 2 < radius**2
        logits = rng.standard_normal((matrix, matrix), np.float32) - 4 + 4 * mask
        levels.append(score_levels.quantise_logits(logits) // grid * grid)
        masks.append(mask)
    return Scored(levels=levels, masks=masks)


def ours(scored: Scored, *, resamples: int) -> Float64[np.ndarray, "2 resample"]:
    """Return pixel AP and DSC of every resample, from the pixels on; their errors are made too."""
    pairs = zip(scored.levels, scored.masks, strict=True)
    stack = pixel_histograms.stack(
        [pixel_histograms.slice_histogram(levels, mask) for levels, mask in pairs]
    )
    at_level = overlap.overlap_at(stack, LEVEL)
    found = []
    for first in range(0, resamples, CHUNK):
        wanted = range(first, min(first + CHUNK, resamples))
        weights = resample_weights(seed=1, resamples=wanted, num_clusters=len(scored.levels))
        figures = (
            average_precision.average_precisions_and_influences(stack, weights),
            overlap.dices_and_influences(at_level, weights),
        )
        for _, influences in figures:
            stratified_errors(influences, weights, np.zeros(len(scored.levels), np.int64))
        found.append([values for values, _ in figures])
    return np.concatenate(found, axis=1)


def theirs(scored: Scored, *, resamples: range) -> Iterator[tuple[float, float]]:
    """Yield scikit-learn's AP and F1, which is the DSC, of each resample's pixels."""
    for index in resamples:
        (weights,) = resample_weights(
            seed=1, resamples=range(index, index + 1), num_clusters=len(scored.levels)
        )
        drawn = np.repeat(np.arange(len(weights)), weights)
        truth = np.concatenate([scored.masks[i].ravel() for i in drawn])
        levels = np.concatenate([scored.levels[i].ravel() for i in drawn])
        with warnings.catch_warnings():
            # No positive pixel: undefined for us, 0 and a warning there.
            warnings.simplefilter("ignore")
            ap = metrics.average_precision_score(truth, levels) if truth.any() else np.nan
            called = levels >= LEVEL
            dsc = metrics.f1_score(truth, called) if (truth | called).any() else np.nan
        yield float(ap), float(dsc)


def pixels(rival_resamples: int) -> dict[str, Any]:
    """Time both on the slices of the issue."""
    models = [slices(NUM_SLICES, MATRIX, seed=seed) for seed in range(NUM_MODELS)]
    began = time.perf_counter()
    found = [ours(model, resamples=NUM_RESAMPLES) for model in models]
    ours_s = time.perf_counter() - began
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    pixels_gib = sum(levels.nbytes * 1.5 for model in models for levels in model.levels) / 2**30
    began = time.perf_counter()
    rival = np.array([*theirs(models[0], resamples=range(rival_resamples))]).T
    each_s = (time.perf_counter() - began) / rival_resamples
    return {
        "ours_seconds": round(ours_s, 2),
        "peak_gib": round(peak_gib, 2),
        "peak_gib_without_pixels": round(peak_gib - pixels_gib, 2),
        "sklearn_seconds_per_resample": round(each_s, 2),
        "speedup_over_sklearn": round(each_s * NUM_MODELS * NUM_RESAMPLES / ours_s),
        "full_size_max_diff": float(np.abs(rival - found[0][:, :rival_resamples]).max()),
    }


def small() -> dict[str, Any]:
    """Compare every resample on small slices: spread-out scores, tied ones, hardly a bleed."""
    worst = 0.0
    for count, grid in ((12, 1), (12, 4096), (3, 2048)):
        scored = slices(count, 48, seed=count + grid, grid=grid)
        expected = np.array([*theirs(scored, resamples=range(200))]).T
        got = ours(scored, resamples=200)
        assert (np.isnan(got) == np.isnan(expected)).all()
        worst = max(worst, float(np.nanmax(np.abs(got - expected))))
    return {"max_abs_diff": worst}


def exams() -> dict[str, Any]:
    """Time and compare the AUC of resampled exams."""
    rng = np.random.default_rng(3)
    labels = np.arange(481) < 147
    scores = np.round(rng.normal(1.5 * labels, 1), 2)
    began = time.perf_counter()
    weights = resample_weights(seed=5, resamples=range(NUM_RESAMPLES), num_clusters=481)
    drawn_s = time.perf_counter() - began
    seconds = []
    # A hundredth of a second alone is at the mercy of whatever else runs.
    for _ in range(REPEATS):
        began = time.perf_counter()
        got = roc.weighted_aucs(scores, labels, weights)
        seconds.append(time.perf_counter() - began)
    ours_s = statistics.median(seconds)
    began = time.perf_counter()
    expected = []
    for of_resample in weights:
        drawn = np.repeat(np.arange(481), of_resample)
        expected.append(metrics.roc_auc_score(labels[drawn], scores[drawn]))
    sklearn_s = time.perf_counter() - began
    return {
        "auc_seconds": round(ours_s, 4),
        "auc_draw_seconds": round(drawn_s, 4),
        "auc_sklearn_seconds": round(sklearn_s, 2),
        "auc_speedup_over_sklearn": round(sklearn_s / ours_s),
        "auc_max_diff": float(np.abs(got - expected).max()),
    }


def _variance_of_all_pairs(
    a: Float64[np.ndarray, " exam"], b: Float64[np.ndarray, " exam"], labels: np.ndarray
) -> float:
    """DeLong's variance of the difference, by the kernel of every pair (DeLong et al. 1988)."""
    difference = sum(
        sign * ((s[labels][:, None] > s[~labels]) + 0.5 * (s[labels][:, None] == s[~labels]))
        for sign, s in ((1, a), (-1, b))
    )
    by_positive, by_negative = difference.mean(axis=1), difference.mean(axis=0)
    return float(
        by_positive.var(ddof=1) / len(by_positive) + by_negative.var(ddof=1) / len(by_negative)
    )


def delong() -> dict[str, Any]:
    """Compare DeLong's error of a difference with that of all pairs."""
    worst = 0.0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        labels = np.arange(200) < 40
        a, b = (np.round(rng.normal(labels, 1), 1) for _ in range(2))
        found = roc.paired_delong(a, b, labels)
        error = (found.high - found.low) / (2 * 1.959963984540054)
        worst = max(worst, abs(error - np.sqrt(_variance_of_all_pairs(a, b, labels))))
    return {"delong_max_diff": float(worst)}


def large(counts: list[int]) -> dict[str, Any]:
    """Time the resamples of 25,000 exams."""
    rng = np.random.default_rng(4)
    labels = np.arange(25_000) % 7 == 0
    scores = rng.normal(1.5 * labels, 1)
    seconds = {}
    for count in counts:
        began = time.perf_counter()
        for first in range(0, count, CHUNK):
            weights = resample_weights(
                seed=6, resamples=range(first, first + CHUNK), num_clusters=25_000
            )
            roc.weighted_aucs(scores, labels, weights)
        seconds[str(count)] = round(time.perf_counter() - began, 1)
    return {"large_seconds": seconds}


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description="Time exact resampled metrics.")
    parser.add_argument("--rival-resamples", type=int, default=2)
    parser.add_argument("--large", type=int, nargs="+", default=[10_000, 100_000])
    options = parser.parse_args()
    result: dict[str, Any] = {}
    # The peak of memory is the process's so far: what it is given for comes first.
    measures: tuple[Callable[[], dict[str, Any]], ...] = (
        lambda: pixels(options.rival_resamples),
        small,
        exams,
        delong,
        lambda: large(options.large),
    )
    for measure in measures:
        found = measure()
        print(json.dumps(found), flush=True)
        result |= found
    print(json.dumps(result))


if __name__ == "__main__":
    main()
