"""A pilot tells the variance of a difference: by hand, by the tests it plans, and by simulation."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from ich_ray.errors import ConfigError, QualityError
from ich_ray.statistics import roc
from ich_ray.statistics.bootstrap import resample_weights
from ich_ray.statistics.comparison import Exams
from ich_ray.statistics.overlap import Overlap, weighted_dices
from ich_ray.statistics.permutation import paired_permutation
from ich_ray.statistics.planning.pilots import (
    LEAST_PATIENTS,
    auc_pilot,
    auc_pilot_of_one,
    dsc_pilot,
)
from ich_ray.statistics.planning.power import power

Z = 1.959963984540054


def readers(
    seed: int, size: int, *, aucs: tuple[float, float] = (0.9, 0.86), positive: float = 0.4
) -> tuple[np.ndarray, np.ndarray, Exams]:
    """Scores normal in each class, of two readers who resemble each other."""
    rng = np.random.default_rng(seed)
    labels = np.arange(size) < round(size * positive)
    apart = np.sqrt(2) * np.array([[NormalDist().inv_cdf(auc)] for auc in aucs])
    scores = math.sqrt(0.6) * rng.normal(size=size) + math.sqrt(0.4) * rng.normal(size=(2, size))
    a, b = scores + apart * labels
    return a, b, Exams(labels=labels, patient=np.arange(size))


def error_of(a: np.ndarray, b: np.ndarray, exams: Exams) -> float:
    found = roc.paired_delong(a, b, exams.labels, patient=exams.patient)
    return (found.high - found.estimate) / Z


def grouped(exams: Exams, patients: int) -> Exams:
    patient = np.random.default_rng(3).permutation(np.arange(len(exams.labels)) % patients)
    return Exams(labels=exams.labels, patient=patient)


@pytest.mark.parametrize("patients", [200, 90])
def test_a_corpus_like_the_pilot_has_the_error_of_its_test(patients: int) -> None:
    a, b, exams = readers(1, 200)
    exams = grouped(exams, patients)
    found = auc_pilot(a, b, exams, draws=20)
    assert math.sqrt(found.variance.estimate / 200) == pytest.approx(error_of(a, b, exams))
    assert (found.prevalence, found.unit) == (0.4, "exams")


def test_classes_are_scaled_apart() -> None:
    a, b, exams = readers(2, 200)
    parts = roc.variance_parts(a, exams.labels, less=b)
    found = auc_pilot(a, b, exams, prevalence=0.1, draws=20)
    expected = parts.positive * 80 / 40 + parts.negative * 120 / 360
    assert found.variance.estimate / 400 == pytest.approx(expected)


def test_parts_of_a_variance_are_those_of_delong() -> None:
    a, b, exams = readers(3, 120)
    exams = grouped(exams, 50)
    parts = roc.variance_parts(a, exams.labels, less=b, patient=exams.patient)
    assert math.sqrt(sum(parts)) == pytest.approx(error_of(a, b, exams))
    assert parts.both != 0
    alone = roc.variance_parts(a, exams.labels)
    won = (np.sign(a[exams.labels][:, None] - a[~exams.labels][None, :]) + 1) / 2
    assert alone.positive == pytest.approx(won.mean(axis=1).var(ddof=1) / 48)
    assert alone.negative == pytest.approx(won.mean(axis=0).var(ddof=1) / 72)
    assert alone.both == pytest.approx(0)


def test_each_resample_is_a_pilot_of_the_patients_drawn() -> None:
    a, b, exams = readers(4, 150)
    exams = grouped(exams, 70)
    (times,) = resample_weights(seed=5, resamples=range(1), num_clusters=70, strata=exams.strata)
    rows, whose = [], []
    for copy, patient in enumerate(np.repeat(np.arange(70), times)):
        members = np.flatnonzero(exams.patient == patient)
        rows.extend(members)
        whose.extend([copy] * len(members))
    drawn = Exams(labels=exams.labels[rows], patient=np.array(whose))
    expected = auc_pilot(a[rows], b[rows], drawn, prevalence=0.4, draws=1)
    found = auc_pilot(a, b, exams, prevalence=0.4, seed=5, draws=1)
    assert found.variance.low == found.variance.high == pytest.approx(expected.variance.estimate)


def test_one_model_tells_what_two_of_it_with_the_assumed_correlation_would() -> None:
    a, b, exams = readers(6, 4_000, aucs=(0.9, 0.9))
    placed = [(np.sign(s[exams.labels][:, None] - s[~exams.labels]) + 1) / 2 for s in (a, b)]
    alike = float(np.corrcoef(placed[0].mean(axis=1), placed[1].mean(axis=1))[0, 1])
    both = auc_pilot(a, b, exams, draws=1).variance.estimate
    one = auc_pilot_of_one(a, exams, correlation=alike, draws=1).variance.estimate
    assert one == pytest.approx(both, rel=0.1)
    apart = auc_pilot_of_one(a, exams, correlation=0.0, draws=1).variance.estimate
    assert apart == pytest.approx(one / (1 - alike))


def test_one_model_without_an_assumption_is_refused() -> None:
    a, _, exams = readers(7, 100)
    with pytest.raises(ConfigError, match="without the correlation of their placements, got None"):
        auc_pilot_of_one(a, exams)
    for correlation in (1.0, -0.1):
        with pytest.raises(ConfigError, match="assume one of at least 0 and below 1"):
            auc_pilot_of_one(a, exams, correlation=correlation)


def lesions(seed: int, size: int, *, behind: float = 0.0, marked: float = 0.5) -> list[Overlap]:
    """Bleeds of sizes that differ, found by two models in part, and false alarms."""
    rng = np.random.default_rng(seed)
    pixels = np.where(np.arange(size) < marked * size, rng.gamma(2.0, 200.0, size), 0).astype(int)
    shared = rng.normal(0.8, 0.5, size)
    found = []
    for lacks in (0.0, behind):
        skill = shared - lacks + rng.normal(0, 0.4, size)
        tp = rng.binomial(pixels, 1 / (1 + np.exp(-skill)))
        fp = rng.poisson(40 * np.exp(rng.normal(0, 0.5, size)))
        found.append(Overlap(tp=tp, fp=fp, fn=pixels - tp))
    return found


def difference_of(models: list[Overlap], weights: np.ndarray) -> np.ndarray:
    a, b = (weighted_dices(model, weights) for model in models)
    return np.asarray(a - b)


def jackknifed(models: list[Overlap]) -> tuple[float, float]:
    """The variance of a difference times the patients, and its error, by leaving each one out."""
    size = len(models[0].tp)
    left_out = difference_of(models, np.ones((size, size)) - np.eye(size))
    marked = models[0].tp + models[0].fn > 0
    variance, of_variance = 0.0, 0.0
    for kind in (marked, ~marked):
        many = kind.sum()
        squares = many / (many - 1) * (left_out[kind] - left_out[kind].mean()) ** 2
        variance += squares.sum()
        of_variance += many * squares.var(ddof=1)
    return size * variance, size * math.sqrt(of_variance)


def test_a_dsc_varies_as_leaving_each_patient_out_says() -> None:
    models = lesions(1, 120)
    found = dsc_pilot(*models, draws=20)
    assert found.variance.estimate == pytest.approx(jackknifed(models)[0], rel=1e-5)
    assert (found.prevalence, found.patients, found.unit) == (0.5, (60, 60), "patients")


def test_what_a_dsc_leaves_open_is_told_by_the_bootstrap_t_of_its_logarithm() -> None:
    models = lesions(2, 80, marked=0.4)
    variance, error = jackknifed(models)
    marked = (models[0].tp + models[0].fn > 0).astype(int)
    distances = []
    for times in resample_weights(seed=3, resamples=range(59), num_clusters=80, strata=marked):
        drawn = [Overlap(*(np.repeat(part, times) for part in model)) for model in models]
        of_draw, error_of_draw = jackknifed(drawn)
        distances.append(abs(math.log(of_draw / variance)) * of_draw / error_of_draw)
    # Of 59, the 57th is not passed by 95 %.
    width = sorted(distances)[56] * error / variance
    found = dsc_pilot(*models, seed=3, draws=59).variance
    assert math.log(found.high / found.estimate) == pytest.approx(width, rel=1e-5)
    assert math.log(found.estimate / found.low) == pytest.approx(width, rel=1e-5)


def test_a_dsc_at_another_prevalence_is_that_of_such_a_corpus() -> None:
    small, large = lesions(2, 4_000, marked=0.5), lesions(3, 40_000, marked=0.1)
    planned = dsc_pilot(*small, prevalence=0.1, draws=1).variance.estimate
    assert planned == pytest.approx(dsc_pilot(*large, draws=1).variance.estimate, rel=0.1)
    assert planned > 1.5 * dsc_pilot(*small, draws=1).variance.estimate


def test_the_size_of_a_pilot_does_not_change_what_it_says() -> None:
    models = lesions(4, 200)
    thrice = [Overlap(*(np.tile(part, 3) for part in model)) for model in models]
    once, more = (dsc_pilot(*both, draws=200).variance for both in (models, thrice))
    assert more.estimate == pytest.approx(once.estimate, rel=0.03)
    assert more.high / more.low < 0.8 * once.high / once.low


def test_answers_come_from_the_seed() -> None:
    a, b, exams = readers(8, 100)
    models = lesions(5, 100)
    for make in (
        lambda seed: auc_pilot(a, b, exams, seed=seed, draws=40),
        lambda seed: dsc_pilot(*models, seed=seed, draws=40),
    ):
        first, other = make(1), make(2)
        assert first == make(1)
        assert first.variance.high != other.variance.high
        assert first.variance.estimate == other.variance.estimate


def test_a_pilot_of_few_patients_says_how_many_it_needs() -> None:
    a, b, exams = readers(9, 70)
    with pytest.raises(
        QualityError, match="28 patients with a positive exam and 42 with a negative one; it needs"
    ):
        auc_pilot(a, b, exams)
    twice = Exams(labels=np.tile(exams.labels, 2), patient=np.tile(exams.patient, 2))
    with pytest.raises(QualityError, match="28 patients with a positive exam"):
        auc_pilot(np.tile(a, 2), np.tile(b, 2), twice)
    with pytest.raises(
        QualityError, match=f"29 patients with a mask .*it needs {LEAST_PATIENTS} of each"
    ):
        dsc_pilot(*lesions(6, 58))
    assert dsc_pilot(*lesions(6, 60), draws=5).patients == (30, 30)


def test_a_pilot_that_tells_no_variance_is_refused() -> None:
    a, _, exams = readers(10, 100)
    with pytest.raises(
        QualityError, match="no patient of the pilot changes the difference in exam"
    ):
        auc_pilot(a, 2 * a, exams)
    with pytest.raises(QualityError, match="no patient of the pilot changes the difference in DSC"):
        dsc_pilot(*[lesions(7, 100)[0]] * 2)


def test_models_with_different_masks_are_refused() -> None:
    with pytest.raises(QualityError, match="judged by different masks"):
        dsc_pilot(lesions(8, 100)[0], lesions(9, 100)[1])


@pytest.mark.parametrize("prevalence", [0.0, 1.0, 30.0])
def test_a_prevalence_is_a_share(prevalence: float) -> None:
    a, b, exams = readers(11, 100)
    with pytest.raises(ConfigError, match="0 < prevalence < 1, got"):
        auc_pilot(a, b, exams, prevalence=prevalence)
    with pytest.raises(ConfigError, match="0 < prevalence < 1, got"):
        dsc_pilot(*lesions(10, 100), prevalence=prevalence)


def test_corpora_show_a_difference_of_aucs_as_often_as_pilots_predict() -> None:
    """1,000 trials of `python -m benchmarks.power`: see its commit."""
    predicted = [
        power(auc_pilot(*readers(seed, 200), draws=1), 0.04, size=400).estimate
        for seed in range(100)
    ]
    shown = []
    for seed in range(1_000, 1_400):
        a, b, exams = readers(seed, 400)
        shown.append(roc.paired_delong(a, b, exams.labels).p < 0.05)
    assert np.mean(predicted) == pytest.approx(np.mean(shown), abs=0.06)


def test_corpora_show_a_difference_of_dscs_as_often_as_pilots_predict() -> None:
    (apart,) = difference_of(lesions(0, 200_000, behind=0.13), np.ones((1, 200_000)))
    predicted = [
        power(dsc_pilot(*lesions(seed, 200, behind=0.13), draws=1), apart, size=400).estimate
        for seed in range(60)
    ]
    shown = []
    for seed in range(1_000, 1_150):
        models = lesions(seed, 400, behind=0.13)
        (estimate,) = difference_of(models, np.ones((1, 400)))
        left_out = difference_of(models, np.ones((400, 400)) - np.eye(400))
        held = sum(2.0 * model.tp + model.fp + model.fn for model in models)
        found = paired_permutation(
            float(estimate), estimate - left_out, held / held.sum(), seed=seed, tosses=1_000
        )
        shown.append(found.p < 0.05)
    assert 0.3 < np.mean(shown) < 0.9
    assert np.mean(predicted) == pytest.approx(np.mean(shown), abs=0.08)
