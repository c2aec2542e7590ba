"""Do 95 % intervals hold the truth 95 times in 100, and are tests wrong 5 times in 100?

Readers are simulated whose true figures are known: many exams or few, few positives, tied scores,
two exams of a patient that resemble each other, lesions of very different sizes. Each trial draws a
test corpus, and the default methods make their intervals of it. Prints one line a data set and
method, and last one line of JSON: `coverage_min` and `coverage_max` over the intervals of the
report, `type_one_min` and `type_one_max` over its tests, and beside them the paper's paired t-test
over 50 resamples (`paper_t_test_type_one`). What coverage_by_patient.py and
coverage_over_trainings.py simulate is among them, but what the latter prints as `alone`.

    python -m benchmarks.evaluate_coverage [--trials 1000] [--resamples 1000]
"""

import argparse
import json
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Integer
from scipy.stats import ttest_rel

from benchmarks.coverage_by_patient import KINDS, patients
from benchmarks.coverage_over_trainings import RECIPES, trainings
from benchmarks.coverage_tally import Tally
from ich_ray.statistics import average_precision, overlap, pixel_histograms, roc
from ich_ray.statistics.bca import aucs_without_each, bca_difference, bca_interval
from ich_ray.statistics.bootstrap import difference, interval, resample_weights
from ich_ray.statistics.comparison import (
    Exams,
    PixelMetric,
    Predicted,
    compare,
    pixel_aps,
    resampled,
)
from ich_ray.statistics.proportions import mcnemar, wilson

NORMAL = NormalDist()
PAIR = [("a", "b")]
TITLES: dict[PixelMetric, str] = {"pixel_ap": "pixel AP", "dsc": "DSC"}
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
        of_patients = strata.astype(np.int64)
        without = [aucs_without_each(one, corpus.labels, corpus.patient) for one in (a, b)]
        moved = bca_interval(points[0], sampled[0], without[0], of_patients)
        tally.interval("AUC, BCa", moved.low, moved.high, truth)
        moved_gap = bca_difference(
            points[0] - points[1], sampled[0] - sampled[1], without[0] - without[1], of_patients
        )
        tally.interval("AUC difference, BCa", moved_gap.low, moved_gap.high, 0.0)
        tally.test("AUC difference, BCa", moved_gap.p)
        by_delong = roc.delong(a, corpus.labels, patient=corpus.patient)
        tally.interval("AUC, DeLong", by_delong.low, by_delong.high, truth)
        of_both = roc.paired_delong(a, b, corpus.labels, patient=corpus.patient)
        tally.interval("AUC difference, DeLong", of_both.low, of_both.high, 0.0)
        tally.test("AUC difference, DeLong", of_both.p)
        if readers.per_patient == 1 and not readers.step:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesions:
    """Two models on exams whose lesions are of very different sizes, marked more or less well."""

    title: str
    exams: int
    bleeding: float = 0.5
    """Share of the exams."""

    behind: float = 0.0
    """How far the second model's skill is below the first one's."""

    loud: float = 0.0
    """Share of the exams in which a model has many false alarms of the highest scores."""


LESIONS = (
    Lesions(title="320 exams with masks", exams=320),
    Lesions(title="80 exams with masks", exams=80),
    Lesions(title="40 exams with masks", exams=40),
    Lesions(title="20 exams with masks", exams=20),
    Lesions(title="200 exams with masks, 20 bleed", exams=200, bleeding=0.1),
    Lesions(title="100 exams with masks, 3 bleed", exams=100, bleeding=0.03),
    Lesions(title="80 exams with masks, one model behind", exams=80, behind=0.4),
    Lesions(title="20 exams with masks, one model behind", exams=20, behind=0.4),
    Lesions(title="160 exams with masks, loud alarms in 5", exams=160, loud=0.03),
    Lesions(title="80 exams with masks, loud alarms in 2", exams=80, loud=0.03),
)


def lesions(
    kind: Lesions, rng: np.random.Generator, *, num_exams: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw pixels by level.

    Args:
        kind: Of what.
        rng: Of the draw.
        num_exams: How many, if not as many as the kind has.

    Returns:
        Positive and negative pixels, (model, exam, level) each.
    """
    size = num_exams or kind.exams
    levels = np.arange(6)
    bleeds = rng.random(size) < kind.bleeding
    reference = rng.poisson(np.where(bleeds, np.exp(rng.normal(6, 1.2, size)), 0.0))
    shared = rng.normal(0, 0.6, size)
    positive, negative = [], []
    for lacks in (0.0, kind.behind):
        skill = 1.0 - lacks + shared + rng.normal(0, 0.4, size)
        at = np.exp(skill[:, None] * (levels - 2.5))
        positive.append(rng.multinomial(reference, at / at.sum(axis=1, keepdims=True)))
        alarms = rng.poisson(3000 * np.exp(rng.normal(0, 0.7, size)[:, None] - 1.6 * levels))
        loud = rng.random(size) < kind.loud
        alarms[:, -1] += rng.poisson(np.where(loud, np.exp(rng.normal(6, 1.5, size)), 0.0))
        negative.append(alarms)
    return np.array(positive), np.array(negative)


def stack_of(positive: np.ndarray, negative: np.ndarray) -> pixel_histograms.HistogramStack:
    """Return exams as clusters."""
    levels = np.arange(positive.shape[1], dtype=np.uint16)
    return pixel_histograms.stack(
        [
            pixel_histograms.SliceHistogram(
                level=levels, pos=p.astype(np.uint32), neg=n.astype(np.uint32)
            )
            for p, n in zip(positive, negative, strict=True)
        ]
    )


def models_of(positive: np.ndarray, negative: np.ndarray) -> dict[str, Predicted]:
    """Return both models; nothing is asked of their exam scores."""
    return {
        name: Predicted.of_stack(
            scores=np.arange(positive.shape[1], dtype=np.float64),
            stack=stack_of(p, n),
            level=4,
        )
        for name, p, n in zip("ab", positive, negative, strict=True)
    }


def pixels(kind: Lesions, *, trials: int, resamples: int) -> Tally:
    """Make the intervals and tests of pixel AP and DSC as the report does."""
    tally = Tally()
    whole = [
        counts.sum(axis=1, keepdims=True)
        for counts in lesions(kind, np.random.default_rng(1), num_exams=400_000)
    ]
    once = np.ones((1, 1))
    truth: dict[str, dict[str, float]] = {}
    for name, model in models_of(*whole).items():
        truth[name] = {
            "pixel_ap": float(average_precision.weighted_average_precisions(model.pixels, once)[0]),
            "dsc": float(overlap.weighted_dices(model.at_level, once)[0]),
        }
    for trial in range(trials):
        counts = lesions(kind, np.random.default_rng([trial, kind.exams]))
        bleeds = counts[0][0].sum(axis=1) > 0
        corpus = Exams(labels=bleeds, patient=np.arange(kind.exams))
        if min(bleeds.sum(), (~bleeds).sum()) < 2:
            # The report refuses them.
            continue
        models = models_of(*counts)
        samples = resampled(corpus, models, PAIR, seed=trial, resamples=range(resamples))
        found = compare(corpus, models, PAIR, samples, pixel_aps(models), seed=trial)
        for metric, title in TITLES.items():
            one = found.intervals["a"][metric]
            tally.interval(title, one.low, one.high, truth["a"][metric])
            gap = found.differences["a", "b"][metric]
            apart = truth["a"][metric] - truth["b"][metric]
            tally.interval(f"{title} difference", gap.low, gap.high, apart)
            if not kind.behind:
                tally.test(f"{title} difference", gap.p)
    return tally


def main() -> None:
    """Simulate, and print what was found."""
    parser = argparse.ArgumentParser(description="Coverage of intervals, and errors of tests.")
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--resamples", type=int, default=1_000)
    options = parser.parse_args()
    tallies = {
        readers.title: exams(readers, trials=options.trials, resamples=options.resamples)
        for readers in READERS
    }
    for kind in LESIONS:
        tallies[kind.title] = pixels(kind, trials=options.trials, resamples=options.resamples)
    for group in KINDS:
        tallies[group.title] = patients(group, trials=options.trials)
    for recipes in RECIPES:
        tallies[recipes.title] = trainings(recipes, trials=options.trials)
    coverage: dict[str, float] = {}
    type_one: dict[str, float] = {}
    paper: list[float] = []
    for title, tally in tallies.items():
        for row in tally.rows(title):
            print(json.dumps(row))
            interval_name, test_name = row.get("interval", ""), row.get("test", "")
            if interval_name and not interval_name.startswith("alone"):
                coverage[f"{title}: {interval_name}"] = round(row["coverage"], 4)
            elif test_name.startswith("paper"):
                paper.append(round(row["type_one"], 4))
            elif test_name:
                type_one[f"{title}: {test_name}"] = round(row["type_one"], 4)
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
