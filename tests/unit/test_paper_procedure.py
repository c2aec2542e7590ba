"""The published procedure is what scikit-learn and SciPy give on expanded data, faults included."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from ich_ray.errors import ConfigError, QualityError
from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.reporting.plain_values import plain
from ich_ray.statistics.bootstrap import Interval, resample_weights
from ich_ray.statistics.comparison import PIXEL_METRICS
from ich_ray.statistics.paper import lin2022
from ich_ray.statistics.paper.faults import FAULTS
from ich_ray.statistics.paper.figures import PaperFigures, correlated_slices, two_sided
from ich_ray.statistics.paper.inputs import Models, PaperExams, PaperModel
from ich_ray.statistics.paper.procedure import paper_figures
from ich_ray.statistics.pixel_histograms import HistogramStack, slice_histogram, stack

NUM_EXAMS, NUM_SLICES, SHAPE, LEVEL, SEED = 40, 30, (6, 7), 32_768, 5
A, B = "semi_supervised", "baseline"

MASKS = np.random.default_rng(1).random((NUM_SLICES, *SHAPE)) < 0.2
MASKS[::3] = False


def pixel_levels(seed: int, shift: float) -> np.ndarray:
    """Few levels, so that many pixels are tied."""
    noise = np.random.default_rng(seed).normal(0, 4, MASKS.shape)
    return (LEVEL + 1000 * np.rint(noise + shift * MASKS)).astype(np.uint16)


LEVELS = {A: pixel_levels(2, 5), B: pixel_levels(3, 4)}


def stacked(levels: np.ndarray, masks: np.ndarray = MASKS) -> HistogramStack:
    return stack([slice_histogram(one, mask) for one, mask in zip(levels, masks, strict=True)])


def exams() -> PaperExams:
    """Every other exam is positive; of these the first has two subtypes, the others one in turn."""
    subtypes = np.zeros((NUM_EXAMS, 5), np.bool_)
    positive = np.arange(0, NUM_EXAMS, 2)
    subtypes[positive, positive // 2 % 4] = True
    subtypes[0, 4] = True
    return PaperExams(labels=np.arange(NUM_EXAMS) % 2 == 0, subtypes=subtypes, num_marked=6)


def scores(seed: int, shift: float) -> np.ndarray:
    """Rounded, so that some exams are tied."""
    noise = np.random.default_rng(seed).normal(0, 1, NUM_EXAMS)
    return np.asarray(np.round(noise + shift * exams().labels, 1))


def models() -> Models:
    first, second = (
        PaperModel(
            name=n, scores=scores(s, shift), level=LEVEL, segmentations=(stacked(LEVELS[n]),)
        )
        for n, s, shift in ((A, 4, 1.6), (B, 5, 1.2))
    )
    return first, second


@pytest.fixture(scope="module")
def found() -> PaperFigures:
    return paper_figures(exams(), models(), seed=SEED, resamples=100)


def without_slices() -> Models:
    first, second = (replace(model, segmentations=()) for model in models())
    return first, second


def test_aucs_are_those_of_scikit_learn_on_the_exams_drawn(found: PaperFigures) -> None:
    weights = resample_weights(seed=SEED, resamples=range(4), num_clusters=NUM_EXAMS)
    labels = exams().labels
    for times, difference in zip(
        weights, found.metrics["exam_auc"].difference.resampled[:4], strict=True
    ):
        drawn = np.repeat(np.arange(NUM_EXAMS), times)
        a, b = (metrics.roc_auc_score(labels[drawn], m.scores[drawn]) for m in models())
        assert difference == pytest.approx(a - b, abs=1e-12)


def test_pixel_metrics_are_those_of_scikit_learn_on_the_slices_drawn(found: PaperFigures) -> None:
    weights = resample_weights(seed=SEED, resamples=range(4), num_clusters=NUM_SLICES)
    for row, times in enumerate(weights):
        drawn = np.repeat(np.arange(NUM_SLICES), times)
        truth = MASKS[drawn].ravel()
        levels = {name: LEVELS[name][drawn].ravel() for name in (A, B)}
        dices = {name: metrics.f1_score(truth, levels[name] >= LEVEL) for name in levels}
        aps = {name: metrics.average_precision_score(truth, levels[name]) for name in levels}
        for name, expected in (("dsc", dices), ("pixel_ap", aps)):
            difference = found.metrics[name].difference.resampled[row]
            assert difference == pytest.approx(expected[A] - expected[B], abs=1e-12)


def test_z_is_the_difference_on_all_the_data_over_its_deviation_in_the_resamples(
    found: PaperFigures,
) -> None:
    labels = exams().labels
    a, b = (metrics.roc_auc_score(labels, model.scores) for model in models())
    of = found.metrics["exam_auc"].difference
    assert of.found.estimate == pytest.approx(a - b)
    assert of.z == pytest.approx((a - b) / stats.tstd(of.resampled))
    assert of.found.p == pytest.approx(2 * stats.norm.sf(abs(of.z)))
    assert of.mean == pytest.approx(of.resampled.mean())
    assert (of.found.low, of.found.high) == pytest.approx(np.percentile(of.resampled, [2.5, 97.5]))


def test_normality_is_tested_as_published(found: PaperFigures) -> None:
    for of in found.metrics.values():
        values = of.difference.resampled
        expected = stats.kstest(values, "norm", args=(values.mean(), values.std(ddof=1)))
        assert of.difference.normality.p_uncorrected == pytest.approx(expected.pvalue)


def test_printed_brackets_are_the_standard_error_of_the_mean(found: PaperFigures) -> None:
    weights = resample_weights(seed=SEED, resamples=range(100), num_clusters=NUM_EXAMS)
    drawn = [np.repeat(np.arange(NUM_EXAMS), times) for times in weights]
    labels = exams().labels
    for model, printed, percentiles in zip(
        models(),
        found.metrics["exam_auc"].printed,
        found.metrics["exam_auc"].percentiles,
        strict=True,
    ):
        values = [metrics.roc_auc_score(labels[i], model.scores[i]) for i in drawn]
        half_width = 1.96 * stats.sem(values)
        assert printed.low == pytest.approx(np.mean(values) - half_width)
        assert printed.high == pytest.approx(np.mean(values) + half_width)
        bounds = np.percentile(values, [2.5, 97.5])
        assert (percentiles.low, percentiles.high) == pytest.approx(bounds)
        assert printed.estimate == percentiles.estimate
        assert printed.estimate == pytest.approx(metrics.roc_auc_score(labels, model.scores))


def test_four_times_the_resamples_halve_the_printed_brackets_and_no_95_percent_interval() -> None:
    few, many = (
        paper_figures(exams(), without_slices(), seed=SEED, resamples=n).metrics["exam_auc"]
        for n in (200, 800)
    )

    def width(interval: Interval) -> float:
        return interval.high - interval.low

    assert width(few.printed[0]) / width(many.printed[0]) == pytest.approx(2, rel=0.1)
    assert width(few.percentiles[0]) / width(many.percentiles[0]) == pytest.approx(1, rel=0.2)


def test_the_paper_s_brackets_fit_the_error_of_the_mean_and_no_interval_of_its_exams() -> None:
    # Hanley and McNeil 1982; 41.8 % of 481 exams are positive (section 2.1).
    auc, positive, negative = lin2022.TABLE_1[A]["exam_auc"].value, 201, 280
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positive - 1) * (q1 - auc**2) + (negative - 1) * (q2 - auc**2)
    error = math.sqrt(variance / (positive * negative))
    assert [round(auc + side * 1.96 * error, 3) for side in (-1, 1)] == [0.915, 0.963]
    of_mean = 1.96 * error / math.sqrt(lin2022.RESAMPLES)
    printed = lin2022.TABLE_1[A]["exam_auc"]
    assert [round(auc + side * of_mean, 3) for side in (-1, 1)] == [printed.low, printed.high]


def test_the_operating_point_reaches_its_sensitivity_on_the_test_exams(found: PaperFigures) -> None:
    labels = exams().labels
    for model, point in zip(models(), found.operating_points, strict=True):
        fpr, tpr, thresholds = metrics.roc_curve(labels, model.scores, drop_intermediate=False)
        first = int(np.argmax(tpr >= 0.92))
        assert point.model == model.name
        assert point.threshold == thresholds[first]
        assert point.test.specificity.estimate == pytest.approx(1 - fpr[first])
        assert point.tuning == point.test


def test_a_subtype_is_told_alone_from_all_negative_exams(found: PaperFigures) -> None:
    given, (a, b) = exams(), models()
    assert given.subtypes is not None
    assert [of.subtype for of in found.subtypes] == list(HEMORRHAGE_TYPES)
    # 20 positive exams in four subtypes; the first exam has a second one.
    assert [of.num_isolated for of in found.subtypes] == [4, 5, 5, 5, 0]
    for index, of in enumerate(found.subtypes[:4]):
        alone = given.subtypes[:, index] & ~given.subtypes[:, 4]
        members = alone | ~given.labels
        for model, auc in zip((a, b), of.aucs, strict=True):
            expected = metrics.roc_auc_score(alone[members], model.scores[members])
            assert auc == pytest.approx(expected)
    assert all(math.isnan(auc) for auc in found.subtypes[4].aucs)


def test_a_subtype_of_a_negative_exam_makes_it_no_isolated_case() -> None:
    given = exams()
    assert given.subtypes is not None
    marked = given.subtypes.copy()
    marked[1, 4] = True
    changed = paper_figures(
        replace(given, subtypes=marked), without_slices(), seed=SEED, resamples=2
    )
    assert changed.subtypes[4].num_isolated == 0


def test_without_known_subtypes_there_are_none() -> None:
    given = replace(exams(), subtypes=None)
    assert paper_figures(given, without_slices(), seed=SEED, resamples=2).subtypes == ()


def test_correlated_slices_divide_z(found: PaperFigures) -> None:
    for name in PIXEL_METRICS:
        of = found.correlated[name]
        assert of.slices_per_exam == 5
        assert of.z == pytest.approx(found.metrics[name].difference.z / math.sqrt(1.4))
        assert of.p == pytest.approx(2 * stats.norm.sf(abs(of.z)))


def test_the_published_p_of_dsc_is_not_significant_with_correlated_slices() -> None:
    z = NormalDist().inv_cdf(1 - lin2022.P_VALUES["dsc"] / 2)
    assert two_sided(z) == pytest.approx(0.012)
    found = correlated_slices(z, num_slices=lin2022.NUM_SLICES, num_exams=lin2022.NUM_MARKED_EXAMS)
    assert found.p == pytest.approx(0.16, abs=0.005)


def test_slices_without_correlation_or_company_keep_z() -> None:
    for slices, correlation in ((50, 0.0), (10, 0.9)):
        found = correlated_slices(
            2.0, num_slices=slices, num_exams=10, intraclass_correlation=correlation
        )
        assert found.z == 2.0


def test_clustered_slices_have_the_variance_that_the_design_effect_says() -> None:
    # Means of 20 exams of 25 slices, which share a tenth of their variance.
    rng = np.random.default_rng(6)
    of_exam = rng.normal(0, math.sqrt(0.1), (4000, 20, 1))
    values = of_exam + rng.normal(0, math.sqrt(0.9), (4000, 20, 25))
    found = correlated_slices(1.0, num_slices=500, num_exams=20)
    assert found.design_effect == pytest.approx(500 * values.mean(axis=(1, 2)).var(), rel=0.1)


def test_each_segmentation_is_compared_on_50_resamples_of_its_own() -> None:
    other = np.roll(MASKS, 1, axis=2)
    first, second = (
        replace(model, segmentations=(*model.segmentations, stacked(LEVELS[model.name], other)))
        for model in models()
    )
    found = paper_figures(exams(), (first, second), seed=SEED, resamples=60)
    weights = resample_weights(seed=SEED, resamples=range(50, 100), num_clusters=NUM_SLICES)
    dices = {
        name: [
            metrics.f1_score(
                np.repeat(other, times, axis=0).ravel(),
                np.repeat(LEVELS[name], times, axis=0).ravel() >= LEVEL,
            )
            for times in weights
        ]
        for name in (A, B)
    }
    expected = stats.ttest_rel(dices[A], dices[B])
    one, two = found.retest["dsc"].segmentations
    assert two.t == pytest.approx(expected.statistic)
    assert (one.replicates, two.replicates) == (50, 50)
    assert found.retest["dsc"].together.replicates == 100
    values = found.metrics["dsc"].difference.resampled[:50]
    assert one.t == pytest.approx(stats.ttest_1samp(values, 0).statistic)
    assert found.retest["pixel_ap"].together.difference == pytest.approx(
        np.mean([one.difference for one in found.retest["pixel_ap"].segmentations])
    )


def test_a_resample_of_one_class_is_left_out_and_counted() -> None:
    labels = np.array([True, False, False])
    a, b = (
        PaperModel(name=name, scores=np.array(of), level=0)
        for name, of in ((A, [0.5, 0.25, 0.75]), (B, [0.5, 0.75, 1.0]))
    )
    found = paper_figures(PaperExams(labels=labels), (a, b), seed=SEED, resamples=100)
    drawn = resample_weights(seed=SEED, resamples=range(100), num_clusters=3)
    undefined = int(np.sum((drawn[:, 0] == 0) | (drawn[:, 0] == 3)))
    of = found.metrics["exam_auc"]
    assert 20 < undefined < 60
    assert of.difference.found.num_undefined == undefined
    assert of.printed[0].num_undefined == undefined
    # The second model's AUC is 0 in all resamples: the differences are the first one's AUCs.
    values = of.difference.resampled[~np.isnan(of.difference.resampled)]
    assert of.printed[0].high == pytest.approx(values.mean() + 1.96 * stats.sem(values))
    assert of.difference.found.estimate == 0.5
    assert of.difference.z == pytest.approx(0.5 / stats.tstd(values))


def test_equal_models_differ_in_nothing() -> None:
    first, _ = models()
    found = paper_figures(exams(), (first, replace(first, name=B)), seed=SEED, resamples=10)
    for of in found.metrics.values():
        assert (of.difference.z, of.difference.found.p, of.difference.sd) == (0.0, 1.0, 0.0)
        assert math.isnan(of.difference.normality.p_uncorrected)
    assert found.retest["dsc"].together.p == 1.0


def test_a_difference_that_no_resample_varies_is_certain() -> None:
    labels = np.array([True, False])
    a, b = (
        PaperModel(name=name, scores=np.array(of), level=0)
        for name, of in ((A, [0.25, 0.5]), (B, [0.5, 0.25]))
    )
    found = paper_figures(PaperExams(labels=labels), (a, b), seed=SEED, resamples=20)
    of = found.metrics["exam_auc"].difference
    assert (of.found.estimate, of.z, of.found.p) == (-1.0, -math.inf, 0.0)


def test_slices_that_are_all_alike_have_a_deviation_of_exactly_nothing() -> None:
    # DSC is 4/5 and 6/7 in every resample; the mean of so many differences is rounded.
    mask = np.array([[True, True, True, False]])
    alike = stack([slice_histogram(np.array([[9, 9, 8, 7]], np.uint16), mask)] * 7)
    a, b = (
        replace(model, level=level, segmentations=(alike,))
        for model, level in zip(models(), (9, 7), strict=True)
    )
    of = paper_figures(exams(), (a, b), seed=SEED, resamples=100).metrics["dsc"].difference
    assert of.found.estimate == pytest.approx(0.8 - 6 / 7)
    assert (of.sd, of.z) == (0.0, -math.inf)


def test_without_masks_only_exams_are_compared(found: PaperFigures) -> None:
    alone = paper_figures(exams(), without_slices(), seed=SEED, resamples=100)
    assert list(alone.metrics) == ["exam_auc"]
    assert (alone.num_slices, alone.num_marked_exams) == (0, 0)
    assert not alone.retest
    assert not alone.correlated
    assert alone.metrics["exam_auc"].difference.found == found.metrics["exam_auc"].difference.found
    assert len(alone.faults) == len(FAULTS)


def test_every_fault_is_told_with_a_figure_of_this_comparison(found: PaperFigures) -> None:
    brackets, normal, slices, retested, point = found.faults
    printed = found.metrics["exam_auc"].printed[0]
    assert f"are {printed.high - printed.low:.4f} and" in brackets
    assert f"{found.metrics['dsc'].difference.normality.p_lilliefors:.3f} of DSC" in normal
    assert "0.012, becomes 0.16" in slices
    assert "30 slices of 6 exams, it would divide Z by 1.18" in slices
    assert f"{found.correlated['dsc'].p:.3f} of DSC" in slices
    assert "78 times in 100" in retested
    assert f"(by Z: {found.metrics['dsc'].difference.found.p:.3f})" in retested
    assert f"{found.operating_points[1].test.specificity.estimate:.3f}." in point


def test_figures_depend_on_the_seed_alone(found: PaperFigures) -> None:
    again = paper_figures(exams(), models(), seed=SEED, resamples=100)
    other = paper_figures(exams(), models(), seed=SEED + 1, resamples=100)
    assert plain(again) == plain(found)
    assert other.metrics["dsc"].difference.sd != found.metrics["dsc"].difference.sd


def test_the_record_leaves_single_resamples_out(found: PaperFigures) -> None:
    record = plain(found)["metrics"]["dsc"]["difference"]
    assert "resampled" not in record
    assert record["z"] == found.metrics["dsc"].difference.z


def test_published_figures_are_found_by_the_models_names(found: PaperFigures) -> None:
    assert [str(value) for value in found.published("dsc")] == [
        "0.829 [0.825, 0.833]",
        "0.809 [0.803, 0.812]",
    ]
    assert found.published_p("exam_auc") == 0.009
    assert found.published_p("pixel_ap") is None
    assert found.published_specificities == (0.804, 0.63)
    assert [value and value.value for value in found.published_subtype("subdural")] == [
        0.919,
        0.829,
    ]
    assert found.published_subtype("intraventricular") == (None, None)
    other = replace(found, a="pixel_oracle")
    assert other.published_p("exam_auc") is None
    assert other.published_specificities == (None, 0.63)
    first, _ = other.published("exam_auc")
    assert first == (0.943, 0.942, 0.944)


def test_exams_of_one_class_are_an_error() -> None:
    alone = PaperExams(labels=np.ones(NUM_EXAMS, np.bool_))
    with pytest.raises(QualityError, match="needs both classes, got 40 positive"):
        paper_figures(alone, without_slices(), seed=SEED)


def test_one_resample_is_an_error() -> None:
    with pytest.raises(ConfigError, match="2 or more resamples, got 1"):
        paper_figures(exams(), models(), seed=SEED, resamples=1)


def test_masks_without_a_bleed_are_an_error() -> None:
    empty = np.zeros_like(MASKS)
    a, b = (replace(m, segmentations=(stacked(LEVELS[m.name], empty),)) for m in models())
    with pytest.raises(QualityError, match="1 of 1 segmentations of 30 slices mark no bleed"):
        paper_figures(exams(), (a, b), seed=SEED)


def test_models_with_other_masks_are_not_compared() -> None:
    a, b = models()
    backwards = replace(b, segmentations=(stacked(LEVELS[B][::-1], MASKS[::-1]),))
    fewer = replace(b, segmentations=(stacked(LEVELS[B][:9], MASKS[:9]),))
    for other in (backwards, fewer, replace(b, segmentations=())):
        with pytest.raises(QualityError, match=r"were not given the same masks"):
            paper_figures(exams(), (a, other), seed=SEED)


def test_segmentations_of_other_slices_are_an_error() -> None:
    a, b = (
        replace(m, segmentations=(*m.segmentations, stacked(LEVELS[m.name][:9], MASKS[:9])))
        for m in models()
    )
    with pytest.raises(QualityError, match="not of the same slices"):
        paper_figures(exams(), (a, b), seed=SEED)


@pytest.mark.parametrize("num_marked", [0, NUM_SLICES + 1])
def test_slices_come_from_as_many_exams_as_can_be(num_marked: int) -> None:
    with pytest.raises(QualityError, match=f"30 slices cannot come from {num_marked} exams"):
        paper_figures(replace(exams(), num_marked=num_marked), models(), seed=SEED)
