"""Recipes over their trainings: what the report gives of each metric."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ich_ray.statistics import pixel_histograms, roc
from ich_ray.statistics.bootstrap import Difference
from ich_ray.statistics.comparison import Exams, Predicted, patient_influences
from ich_ray.statistics.seeds.pooled import OverTrainings, over_trainings
from ich_ray.statistics.studentized import stratified_errors

LEVELS = np.arange(8, dtype=np.uint16)


def corpus(*, bleeding: int = 6) -> Exams:
    """Two exams of each of 20 patients, the first of which bleed, in one exam."""
    patient = np.repeat(np.arange(20), 2)
    return Exams(labels=(np.arange(40) % 2 == 0) & (patient < bleeding), patient=patient)


def trained(seed: int, exams: Exams) -> Predicted:
    rng = np.random.default_rng(seed)
    histograms = [
        pixel_histograms.SliceHistogram(
            level=LEVELS,
            pos=(rng.poisson(3 + LEVELS) * stratum).astype(np.uint32),
            neg=rng.poisson(20 - 2 * LEVELS).astype(np.uint32),
        )
        for stratum in exams.strata
    ]
    scores = np.round(rng.normal(size=len(exams.labels)) + exams.labels, 1)
    return Predicted.of_stack(scores=scores, stack=pixel_histograms.stack(histograms), level=4)


def pooled(
    exams: Exams, *, seeds: int, first: int = 0
) -> tuple[OverTrainings, dict[str, Predicted]]:
    trainings = {
        recipe: tuple(f"{recipe}-{i}" for i in range(seeds)) for recipe in ("baseline", "ours")
    }
    names = [name for of in trainings.values() for name in of]
    models = {name: trained(first + i, exams) for i, name in enumerate(names)}
    return over_trainings(exams, models, trainings), models


@given(st.integers(0, 10_000))
def test_of_one_training_each_it_is_delong_s_interval_and_test(first: int) -> None:
    exams = corpus()
    found, models = pooled(exams, seeds=1, first=first)
    one = next(m for m in found.means if (m.recipe, m.metric) == ("ours", "exam_auc"))
    ours, theirs = (models[name].scores for name in ("ours-0", "baseline-0"))
    alone = roc.delong(ours, exams.labels, patient=exams.patient)
    assert (one.mean.estimate, one.mean.low, one.mean.high) == pytest.approx(
        (alone.estimate, alone.low, alone.high), abs=1e-9
    )
    gap = next(d for d in found.differences if d.metric == "exam_auc")
    paired = roc.paired_delong(ours, theirs, exams.labels, patient=exams.patient)
    assert dataclasses.astuple(gap.joined)[:4] == pytest.approx(
        (paired.estimate, paired.low, paired.high, paired.p), abs=1e-9
    )
    assert math.isnan(gap.error_of_seeds)
    assert math.isnan(gap.seeds_alone.low)
    assert found.metrics[0].components is None


def test_figures_are_means_of_the_trainings_and_differences_are_paired_by_place() -> None:
    exams = corpus()
    found, models = pooled(exams, seeds=3)
    aucs = {n: roc_auc_score(exams.labels, model.scores) for n, model in models.items()}
    one = next(m for m in found.means if (m.recipe, m.metric) == ("baseline", "exam_auc"))
    assert one.figures == pytest.approx([aucs[f"baseline-{i}"] for i in range(3)])
    assert one.mean.estimate == pytest.approx(np.mean(one.figures))
    gap = next(d for d in found.differences if d.metric == "exam_auc")
    assert (gap.a, gap.b) == ("ours", "baseline")
    apart = [aucs[f"ours-{i}"] - aucs[f"baseline-{i}"] for i in range(3)]
    assert gap.figures == pytest.approx(apart)
    assert found.main == ("ours", "baseline")
    assert found.num_trainings == 3
    for each in (*(m.mean for m in found.means), *(d.joined for d in found.differences)):
        assert each.low < each.estimate < each.high


def test_errors_over_patients_are_those_of_the_mean_of_all_trainings() -> None:
    exams, free = corpus(), 0
    for first in range(0, 60, 6):
        found, models = pooled(exams, seeds=3, first=first)
        influence = np.mean(
            [
                patient_influences(models[f"ours-{i}"], "pixel_ap")[1]
                - patient_influences(models[f"baseline-{i}"], "pixel_ap")[1]
                for i in range(3)
            ],
            axis=0,
        )
        error = stratified_errors(influence[None], np.ones((1, 20)), exams.strata)[0]
        gap = next(d for d in found.differences if d.metric == "pixel_ap")
        parts = next(m for m in found.metrics if m.metric == "pixel_ap").components
        assert parts is not None
        if parts.cov2 > parts.cov3:
            free += 1
            assert gap.error_of_patients == pytest.approx(error, rel=1e-3)
        else:
            # Hillis: what trainings have in common can only add.
            assert gap.error_of_patients > error
    assert 0 < free < 10


def test_a_single_bleeding_patient_leaves_pixel_metrics_undefined() -> None:
    exams = corpus(bleeding=3)
    models = {f"m{i}": trained(i, exams) for i in range(4)}
    for name, model in models.items():
        alone = np.where(model.pixels.cluster == 0, model.pixels.pos, 0).astype(np.uint32)
        pixels = pixel_histograms.HistogramStack(
            level=model.pixels.level,
            cluster=model.pixels.cluster,
            pos=alone,
            neg=model.pixels.neg,
            num_clusters=model.pixels.num_clusters,
        )
        models[name] = Predicted.of_stack(scores=model.scores, stack=pixels, level=4)
    found = over_trainings(exams, models, {"a": ("m0", "m1"), "b": ("m2", "m3")})
    for gap in found.differences:
        assert math.isnan(gap.joined.low) == (gap.metric != "exam_auc")
    for one in found.means:
        assert math.isnan(one.mean.low) == (one.metric != "exam_auc")
    assert math.isnan(next(m for m in found.metrics if m.metric == "dsc").equality.p)


def test_the_same_network_twice_is_no_difference() -> None:
    exams = corpus()
    one, other = trained(1, exams), trained(2, exams)
    models = {"a0": one, "b0": one, "a1": other, "b1": other}
    found = over_trainings(exams, models, {"a": ("a0", "a1"), "b": ("b0", "b1")})
    for gap in found.differences:
        assert gap.joined == Difference(0.0, 0.0, 0.0, 1.0)


def test_one_recipe_has_means_and_nothing_to_compare() -> None:
    exams = corpus()
    models = {f"m{i}": trained(i, exams) for i in range(3)}
    found = over_trainings(exams, models, {"a": ("m0", "m1", "m2")})
    assert len(found.means) == 3
    assert found.differences == ()
    assert found.metrics == ()
    assert found.main is None
