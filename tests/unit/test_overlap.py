"""Histograms by score level give AP and DSC of every resample, as if each pixel were kept."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics

from ich_ray.errors import QualityError
from ich_ray.statistics import average_precision, overlap, pixel_histograms, score_levels

few = settings(max_examples=30)  # the whole unit tier has ten seconds

Pixels = list[tuple[np.ndarray, np.ndarray]]

SHAPE = (4, 5)


@st.composite
def slices(draw: st.DrawFn) -> Pixels:
    """Levels and masks of up to six slices, many pixels tied, some masks empty."""
    few_levels = st.sampled_from([0, 1, 17, 18, 40_000, 65_535])
    levels = st.one_of(
        arrays.arrays(np.uint16, SHAPE, elements=few_levels),
        arrays.arrays(np.uint16, SHAPE),
    )
    masks = st.one_of(st.just(np.zeros(SHAPE, dtype=np.bool_)), arrays.arrays(np.bool_, SHAPE))
    return draw(st.lists(st.tuples(levels, masks), min_size=1, max_size=6))


def stacked(pixels: Pixels) -> pixel_histograms.HistogramStack:
    return pixel_histograms.stack(
        [pixel_histograms.slice_histogram(levels, mask) for levels, mask in pixels]
    )


def pooled(pixels: Pixels, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel of every slice, as often as its slice is drawn."""
    levels = [np.tile(levels.ravel(), w) for (levels, _), w in zip(pixels, weights, strict=True)]
    truth = [np.tile(mask.ravel(), w) for (_, mask), w in zip(pixels, weights, strict=True)]
    return np.concatenate(levels), np.concatenate(truth)


def resampled_weights(seed: int, *, num_clusters: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (3, num_clusters))


def random_pixels(num_slices: int) -> Pixels:
    rng = np.random.default_rng(1)
    return [
        (rng.integers(0, 2**16, (16, 16)).astype(np.uint16), rng.random((16, 16)) < 0.1)
        for _ in range(num_slices)
    ]


@few
@given(st.lists(st.floats(-20, 20, width=32), min_size=2))
def test_quantising_keeps_the_order_and_is_close(logits: list[float]) -> None:
    ascending = np.sort(np.array(logits, dtype=np.float32))
    levels = score_levels.quantise_logits(ascending)
    assert np.all(np.diff(levels.astype(int)) >= 0)
    kept = score_levels.logit_of_level(levels)
    np.testing.assert_allclose(kept, np.clip(ascending, -16, 16), rtol=0, atol=1 / 2048)


def test_every_level_survives_the_way_to_its_logit_and_back() -> None:
    levels = np.arange(2**16).astype(np.uint16)
    logits = score_levels.logit_of_level(levels)
    assert score_levels.quantise_logits(logits).tolist() == levels.tolist()
    assert score_levels.quantise_logits(logits.astype(np.float64)).tolist() == levels.tolist()


def test_an_even_probability_has_a_level_of_its_own() -> None:
    level = score_levels.quantise_logits(np.array([0.0], dtype=np.float16))
    assert score_levels.probability_of_level(level).tolist() == [0.5]


def test_probabilities_are_the_logistic_of_the_logit() -> None:
    levels = np.array([0, 30_000, 65_535], dtype=np.uint16)
    expected = 1 / (1 + np.exp(16 - levels / 2048))
    np.testing.assert_allclose(score_levels.probability_of_level(levels), expected, rtol=1e-12)


def test_infinite_logits_take_the_last_levels_and_missing_ones_are_an_error() -> None:
    infinite = np.array([-np.inf, np.inf, 1e300])
    assert score_levels.quantise_logits(infinite).tolist() == [0, 65_535, 65_535]
    with pytest.raises(QualityError, match="1 of 2 logits are NaN"):
        score_levels.quantise_logits(np.array([0.0, np.nan]))


def test_ignored_pixels_are_not_counted() -> None:
    levels = np.array([[5, 5, 6, 7]], dtype=np.uint16)
    mask = np.array([[True, False, True, False]])
    found = pixel_histograms.slice_histogram(
        levels, mask, valid=np.array([[True, True, False, False]])
    )
    assert (found.level.tolist(), found.pos.tolist(), found.neg.tolist()) == ([5], [1], [1])


def test_a_slice_ignored_altogether_is_an_empty_histogram() -> None:
    nothing = np.zeros(SHAPE, dtype=np.bool_)
    found = pixel_histograms.slice_histogram(
        np.zeros(SHAPE, dtype=np.uint16), nothing, valid=nothing
    )
    assert len(found.level) == 0
    assert pixel_histograms.stack([found]).num_clusters == 1


@few
@given(slices())
def test_merging_slices_counts_their_pixels_together(pixels: Pixels) -> None:
    merged = pixel_histograms.merge([pixel_histograms.slice_histogram(*one) for one in pixels])
    levels, truth = pooled(pixels, np.ones(len(pixels), dtype=int))
    together = pixel_histograms.slice_histogram(levels[None, :], truth[None, :])
    assert merged.level.tolist() == together.level.tolist()
    assert merged.pos.tolist() == together.pos.tolist()
    assert merged.neg.tolist() == together.neg.tolist()


@few
@given(slices())
def test_average_precision_is_that_of_scikit_learn(pixels: Pixels) -> None:
    merged = pixel_histograms.merge([pixel_histograms.slice_histogram(*one) for one in pixels])
    found = average_precision.pixel_average_precision(merged.pos, merged.neg)
    levels, truth = pooled(pixels, np.ones(len(pixels), dtype=int))
    if not truth.any():
        assert math.isnan(found)
        return
    expected = metrics.average_precision_score(truth, levels)
    assert found == pytest.approx(expected, abs=1e-12)


def test_average_precision_of_equal_scores_is_the_share_of_positives() -> None:
    assert average_precision.pixel_average_precision(np.array([3]), np.array([9])) == 0.25


def test_average_precision_without_any_pixel_is_undefined() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    assert math.isnan(average_precision.pixel_average_precision(nothing, nothing))
    empty = pixel_histograms.stack([pixel_histograms.merge([])])
    assert np.isnan(average_precision.weighted_average_precisions(empty, np.ones((2, 1)))).all()


@few
@given(slices(), st.integers(0, 99))
def test_weighted_average_precisions_are_those_of_scikit_learn(pixels: Pixels, seed: int) -> None:
    weights = resampled_weights(seed, num_clusters=len(pixels))
    found = average_precision.weighted_average_precisions(stacked(pixels), weights)
    levels, truth = pooled(pixels, np.ones(len(pixels), dtype=int))
    for ap, weight in zip(found, weights, strict=True):
        expanded_levels, expanded_truth = pooled(pixels, weight)
        if not expanded_truth.any():
            assert math.isnan(ap)
            continue
        expanded = metrics.average_precision_score(expanded_truth, expanded_levels)
        by_pixel = np.repeat(weight, levels.size // len(pixels))
        weighted = metrics.average_precision_score(truth, levels, sample_weight=by_pixel)
        assert ap == pytest.approx(expanded, abs=1e-12)
        assert ap == pytest.approx(weighted, abs=1e-12)


def test_average_precision_does_not_depend_on_the_unit_of_the_weights() -> None:
    histograms, weights = stacked(random_pixels(6)), resampled_weights(2, num_clusters=6)
    whole = average_precision.weighted_average_precisions(histograms, weights)
    fractions = average_precision.weighted_average_precisions(histograms, weights / 4096)
    assert fractions.tolist() == whole.tolist()


@pytest.mark.parametrize("values_at_once", [1, 7, 1000])
def test_average_precisions_do_not_depend_on_the_blocks(
    monkeypatch: pytest.MonkeyPatch, values_at_once: int
) -> None:
    pixels, weights = random_pixels(6), resampled_weights(2, num_clusters=6)
    in_one = average_precision.weighted_average_precisions(stacked(pixels), weights)
    monkeypatch.setattr(average_precision, "VALUES_AT_ONCE", values_at_once)
    monkeypatch.setattr(average_precision, "LEAST_LEVELS", 1)
    in_blocks = average_precision.weighted_average_precisions(stacked(pixels), weights)
    assert in_blocks.tolist() == in_one.tolist()


def test_average_precisions_do_not_depend_on_the_division_of_the_resamples() -> None:
    histograms, weights = stacked(random_pixels(6)), resampled_weights(2, num_clusters=6)
    together = average_precision.weighted_average_precisions(histograms, weights)
    apart = [
        average_precision.weighted_average_precisions(histograms, row[None, :])[0]
        for row in weights
    ]
    assert apart == together.tolist()


@few
@given(slices(), st.integers(0, 2**16 - 1))
def test_overlap_counts_the_pixels_at_or_above_the_level(pixels: Pixels, level: int) -> None:
    found = overlap.overlap_at(stacked(pixels), level)
    for cluster, (levels, mask) in enumerate(pixels):
        called = levels >= level
        assert found.tp[cluster] == np.count_nonzero(called & mask)
        assert found.fp[cluster] == np.count_nonzero(called & ~mask)
        assert found.fn[cluster] == np.count_nonzero(~called & mask)


@few
@given(slices(), st.integers(0, 99))
def test_weighted_dices_are_the_f1_of_the_pooled_pixels(pixels: Pixels, seed: int) -> None:
    weights = resampled_weights(seed, num_clusters=len(pixels))
    found = overlap.weighted_dices(overlap.overlap_at(stacked(pixels), 18), weights)
    for dsc, weight in zip(found, weights, strict=True):
        levels, truth = pooled(pixels, weight)
        if not (truth.any() or (levels >= 18).any()):
            assert math.isnan(dsc)
            continue
        assert dsc == pytest.approx(metrics.f1_score(truth, levels >= 18), abs=1e-12)


def test_dice_of_empty_masks_is_undefined_and_of_a_missed_one_zero() -> None:
    assert math.isnan(overlap.dice(0, 0, 0))
    assert overlap.dice(0, 5, 0) == 0
    assert overlap.dice(0, 0, 5) == 0
    assert overlap.dice(5, 0, 0) == 1


def test_an_empty_slice_takes_part_in_dice_by_its_false_positives_alone() -> None:
    both = overlap.Overlap(tp=np.array([4, 0]), fp=np.array([0, 2]), fn=np.array([0, 0]))
    assert overlap.weighted_dices(both, np.array([[1, 0], [1, 1]])).tolist() == [1.0, 0.8]


@few
@given(slices())
def test_no_level_beats_the_best_one_and_equals_lie_below(pixels: Pixels) -> None:
    histograms = stacked(pixels)
    if not any(mask.any() for _, mask in pixels):
        with pytest.raises(QualityError, match=f"none of {len(pixels)} clusters"):
            overlap.best_dice_level(histograms)
        return
    best = overlap.best_dice_level(histograms)
    once = np.ones((1, len(pixels)), dtype=int)

    def dsc(level: int) -> float:
        return float(overlap.weighted_dices(overlap.overlap_at(histograms, level), once)[0])

    for level in np.unique(histograms.level).tolist():
        assert dsc(level) < dsc(best) or (level <= best and dsc(level) == dsc(best))


@few
@given(slices(), st.integers(0, 99))
def test_influences_are_derivatives_by_the_weights(pixels: Pixels, seed: int) -> None:
    histograms, step = stacked(pixels), 1e-6
    at_level = overlap.overlap_at(histograms, 18)
    weights = resampled_weights(seed, num_clusters=len(pixels)).astype(np.float64) + 0.5
    for found, figure in (
        (
            average_precision.average_precisions_and_influences(histograms, weights),
            lambda w: average_precision.weighted_average_precisions(histograms, w),
        ),
        (
            overlap.dices_and_influences(at_level, weights),
            lambda w: overlap.weighted_dices(at_level, w),
        ),
    ):
        values, influences = found
        np.testing.assert_array_equal(values, figure(weights))
        for cluster in range(len(pixels)):
            more, less = weights.copy(), weights.copy()
            more[:, cluster] += step
            less[:, cluster] -= step
            slope = (figure(more) - figure(less)) / (2 * step)
            np.testing.assert_allclose(influences[:, cluster], slope, atol=1e-7)


@pytest.mark.parametrize("values_at_once", [1, 7, 1000])
def test_influences_add_up_to_nothing_in_blocks_too(
    monkeypatch: pytest.MonkeyPatch, values_at_once: int
) -> None:
    pixels, weights = random_pixels(6), resampled_weights(2, num_clusters=6)
    _, in_one = average_precision.average_precisions_and_influences(stacked(pixels), weights)
    monkeypatch.setattr(average_precision, "VALUES_AT_ONCE", values_at_once)
    monkeypatch.setattr(average_precision, "LEAST_LEVELS", 1)
    _, in_blocks = average_precision.average_precisions_and_influences(stacked(pixels), weights)
    np.testing.assert_allclose(in_blocks, in_one, atol=1e-12)
    np.testing.assert_allclose((in_blocks * weights).sum(axis=1), 0, atol=1e-12)
    assert (np.abs(in_one).max(axis=1) > 1e-3).all()


def test_without_a_positive_pixel_there_is_no_influence() -> None:
    nothing = [(np.full(SHAPE, 7, np.uint16), np.zeros(SHAPE, np.bool_))] * 2
    values, influences = average_precision.average_precisions_and_influences(
        stacked(nothing), np.ones((1, 2))
    )
    assert np.isnan(values).all()
    assert np.isnan(influences).all()
