"""Do 95 % intervals hold the truth 95 times in 100, and are tests wrong 5 times in 100?

Readers are simulated whose true figures are known: many exams or few, few positives, tied scores,
two exams of a patient that resemble each other, lesions of very different sizes. Each trial draws a
test corpus, and the default methods make their intervals of it. Prints one line a data set and
method, and last one line of JSON: `coverage_min` and `coverage_max` over the intervals of the
report, `type_one_min` and `type_one_max` over its tests, and beside them the paper's paired t-test
over 50 resamples (`paper_t_test_type_one`).

    python -m benchmarks.evaluate_coverage [--trials 2000] [--resamples 1000]
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Integer
from scipy.stats import ttest_rel

from ich_ray import overlap, roc
from ich_ray.bootstrap import difference, interval, resample_weights
from ich_ray.proportions import mcnemar, wilson

NORMAL = NormalDist()
REPLICATES = 50
"""Resamples of the paper's test-retest study (Lin 2.5)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Readers:
    """Two readers of one skill on exams whose scores are normal in each class."""

    title: str
    exams: int
    positive: int
    auc: float
    step: float = 0.0
    """Scores are multiples of it, so that they tie; 0: none do."""

    per_patient: int = 1
    within: float = 0.0
    """Correlation of the scores of one patient's exams."""

    between: float = 0.6
    """Correlation of the two readers."""


READERS = (
    Readers(title="481 exams, 147 positive", exams=481, positive=147, auc=0.94),
    Readers(title="481 exams, tied scores", exams=481, positive=147, auc=0.94, step=0.5),
    Readers(title="80 exams, 35 positive", exams=80, positive=35, auc=0.85),
    Readers(title="300 exams, 20 positive", exams=300, positive=20, auc=0.9),
    Readers(title="100 exams, 10 positive", exams=100, positive=10, auc=0.9),
    Readers(
        title="200 exams, two of a patient",
        exams=200,
        positive=80,
        auc=0.85,
        per_patient=2,
        within=0.7,
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Corpus:
    """One draw: truth, patients, and the scores of both readers."""

    labels: Bool[np.ndarray, " exam"]
    patient: Integer[np.ndarray, " exam"]
    scores: Float64[np.ndarray, "2 exam"]


def draw(readers: Readers, rng: np.random.Generator) -> Corpus:
    """Draw exams; those of a patient are all positive or all negative."""
    patients = readers.exams // readers.per_patient
    patient = np.repeat(np.arange(patients), readers.per_patient)
    labels = patient < readers.positive // readers.per_patient
    apart = np.sqrt(2) * NORMAL.inv_cdf(readers.auc)

    def noise(shared: float, *, of_patient: bool) -> np.ndarray:
        size = patients if of_patient else readers.exams
        both, each = rng.normal(size=size), rng.normal(size=(2, size))
        mixed = np.sqrt(shared) * both + np.sqrt(1 - shared) * each
        return mixed[:, patient] if of_patient else mixed

    scores = (
        apart * labels
        + np.sqrt(readers.within) * noise(readers.between, of_patient=True)
        + np.sqrt(1 - readers.within) * noise(readers.between, of_patient=False)
    )
    if readers.step:
        scores = np.floor(scores / readers.step) * readers.step
    return Corpus(labels=labels, patient=patient, scores=scores)


def true_auc(readers: Readers) -> float:
    """Return the AUC of the whole population, ties at one half."""
    if not readers.step:
        return readers.auc
    apart = np.sqrt(2) * NORMAL.inv_cdf(readers.auc)
    edges = np.arange(-12, 12, readers.step)
    negative, positive = (
        np.diff([NORMAL.cdf(edge - shift) for edge in edges]) for shift in (0.0, apart)
    )
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum())


class Tally:
    """How often each interval held the truth, and each test rejected it."""

    def __init__(self) -> None:
        self.held: dict[str, list[bool]] = defaultdict(list)
        self.rejected: dict[str, list[bool]] = defaultdict(list)

    def interval(self, name: str, low: float, high: float, truth: float) -> None:
        """Note an interval."""
        self.held[name].append(low <= truth <= high)

    def test(self, name: str, p: float) -> None:
        """Note a test of a hypothesis that is true."""
        self.rejected[name].append(p < 0.05)


def exams(readers: Readers, *, trials: int, resamples: int) -> Tally:
    """Make the intervals and tests of exam scores."""
    tally, truth = Tally(), true_auc(readers)
    cut = np.sqrt(2) * NORMAL.inv_cdf(readers.auc) / 2
    sensitivity = NORMAL.cdf(cut)
    for trial in range(trials):
        rng = np.random.default_rng([trial, readers.exams, readers.positive])
        corpus = draw(readers, rng)
        strata = np.bincount(corpus.patient, corpus.labels) > 0
        weights = resample_weights(
            seed=trial,
            resamples=range(resamples),
            num_clusters=len(strata),
            strata=strata.astype(np.int64),
        )[:, corpus.patient]
        a, b = corpus.scores
        sampled = [roc.weighted_aucs(one, corpus.labels, weights) for one in (a, b)]
        points = [roc.auc(one, corpus.labels) for one in (a, b)]
        found = interval(points[0], sampled[0])
        tally.interval("AUC, bootstrap", found.low, found.high, truth)
        gap = difference(points[0] - points[1], sampled[0] - sampled[1])
        tally.interval("AUC difference, bootstrap", gap.low, gap.high, 0.0)
        tally.test("AUC difference, bootstrap", gap.p)
        if readers.per_patient == 1:
            by_delong = roc.delong(a, corpus.labels)
            tally.interval("AUC, DeLong", by_delong.low, by_delong.high, truth)
            of_both = roc.paired_delong(a, b, corpus.labels)
            tally.interval("AUC difference, DeLong", of_both.low, of_both.high, 0.0)
            tally.test("AUC difference, DeLong", of_both.p)
            if not readers.step:
                right = (corpus.scores >= cut) == corpus.labels
                found_rightly = right[:, corpus.labels]
                hits = int(found_rightly[0].sum())
                tally.interval("sensitivity, Wilson", *wilson(hits, readers.positive), sensitivity)
                # Of each class apart, as in the report.
                for kind, members in (("positive", corpus.labels), ("negative", ~corpus.labels)):
                    a_right, b_right = right[:, members]
                    only = int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum())
                    tally.test(f"right calls of {kind} exams, McNemar", mcnemar(*only))
        few = [values[:REPLICATES] for values in sampled]
        tally.test("paper: paired t-test", float(ttest_rel(*few).pvalue))
    return tally


def lesions(num_exams: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw pixels by level of exams: lesions of very different sizes, marked more or less well.

    Returns:
        Positive and negative pixels, (model, exam, level) each; the models are of one skill.
    """
    levels = np.arange(6)
    bleeds = rng.random(num_exams) < 0.5
    size = np.where(bleeds, np.exp(rng.normal(6, 1.2, num_exams)), 0.0)
    reference = rng.poisson(size)
    shared = rng.normal(0, 0.6, num_exams)
    positive, negative = [], []
    for _ in range(2):
        skill = 1.0 + shared + rng.normal(0, 0.4, num_exams)
        at = np.exp(skill[:, None] * (levels - 2.5))
        positive.append(rng.multinomial(reference, at / at.sum(axis=1, keepdims=True)))
        alarms = 3000 * np.exp(rng.normal(0, 0.7, num_exams)[:, None] - 1.6 * levels)
        negative.append(rng.poisson(alarms))
    return np.array(positive), np.array(negative)


def stack_of(positive: np.ndarray, negative: np.ndarray) -> overlap.HistogramStack:
    """Return exams as clusters."""
    levels = np.arange(positive.shape[1], dtype=np.uint16)
    return overlap.stack(
        [
            overlap.SliceHistogram(level=levels, pos=p.astype(np.uint32), neg=n.astype(np.uint32))
            for p, n in zip(positive, negative, strict=True)
        ]
    )


def pixels(num_exams: int, *, trials: int, resamples: int) -> Tally:
    """Make the intervals and tests of pixel AP and DSC, whose clusters are exams."""
    tally, level = Tally(), 4
    metrics: dict[str, Callable[[overlap.HistogramStack, np.ndarray], np.ndarray]] = {
        "pixel AP": overlap.weighted_average_precisions,
        "DSC": lambda stack, weights: overlap.weighted_dices(
            overlap.overlap_at(stack, level), weights
        ),
    }
    whole = [
        counts[0].sum(axis=0, keepdims=True)
        for counts in lesions(400_000, np.random.default_rng(1))
    ]
    population = stack_of(*whole)
    truth = {
        name: float(metric(population, np.ones((1, 1)))[0]) for name, metric in metrics.items()
    }
    for trial in range(trials):
        positive, negative = lesions(num_exams, np.random.default_rng([trial, num_exams]))
        strata = (positive[0].sum(axis=1) > 0).astype(np.int64)
        weights = resample_weights(
            seed=trial, resamples=range(resamples), num_clusters=num_exams, strata=strata
        )
        ones = np.ones((1, num_exams))
        models = [stack_of(*counts) for counts in zip(positive, negative, strict=True)]
        for name, metric in metrics.items():
            sampled = [metric(model, weights) for model in models]
            points = [float(metric(model, ones)[0]) for model in models]
            found = interval(points[0], sampled[0])
            tally.interval(f"{name}, bootstrap", found.low, found.high, truth[name])
            gap = difference(points[0] - points[1], sampled[0] - sampled[1])
            tally.interval(f"{name} difference, bootstrap", gap.low, gap.high, 0.0)
            tally.test(f"{name} difference, bootstrap", gap.p)
    return tally


def main() -> None:
    """Simulate, and print what was found."""
    parser = argparse.ArgumentParser(description="Coverage of intervals, and errors of tests.")
    parser.add_argument("--trials", type=int, default=2_000)
    parser.add_argument("--resamples", type=int, default=1_000)
    options = parser.parse_args()
    tallies = {
        readers.title: exams(readers, trials=options.trials, resamples=options.resamples)
        for readers in READERS
    }
    for count in (320, 160, 80, 20):
        tallies[f"{count} exams with masks"] = pixels(
            count, trials=options.trials, resamples=options.resamples
        )
    coverage: dict[str, float] = {}
    type_one: dict[str, float] = {}
    paper: list[float] = []
    for title, tally in tallies.items():
        for name, held in tally.held.items():
            coverage[f"{title}: {name}"] = round(float(np.mean(held)), 4)
            print(json.dumps({"data": title, "interval": name, "coverage": np.mean(held)}))
        for name, rejected in tally.rejected.items():
            print(json.dumps({"data": title, "test": name, "type_one": np.mean(rejected)}))
            if name.startswith("paper"):
                paper.append(round(float(np.mean(rejected)), 4))
            else:
                type_one[f"{title}: {name}"] = round(float(np.mean(rejected)), 4)
    result: dict[str, Any] = {
        "trials": options.trials,
        "coverage_min": min(coverage.values()),
        "coverage_max": max(coverage.values()),
        "coverage_outside": {k: v for k, v in coverage.items() if not 0.93 <= v <= 0.97},
        "type_one_min": min(type_one.values()),
        "type_one_max": max(type_one.values()),
        "type_one_outside": {k: v for k, v in type_one.items() if not 0.035 <= v <= 0.065},
        "paper_t_test_type_one": paper,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
