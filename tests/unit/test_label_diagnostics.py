"""Pseudo-labels in figures, by hand, by scikit-learn and SciPy, and by what must hold for all."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from ich_ray.exam import IGNORED
from ich_ray.label_diagnostics import (
    LOGIT_EDGES,
    UNKNOWN,
    ExamVolume,
    LabelledSlices,
    against_hidden,
    logits,
    num_within,
    patient_shares,
    score_histograms,
    volumes_of,
)
from ich_ray.label_drift import QUANTILES, agreement, common, drift, rank_correlation
from ich_ray.ranker import Cuts, Ranking
from tests.unit.test_architecture import ROOT, imports_of

DIAGNOSTICS = {
    *("ich_ray.label_diagnostics", "ich_ray.label_drift", "ich_ray.distributed.label_diagnostics"),
    *("ich_ray.distributed.label_volumes", "ich_ray.reporting.diagnostics_contents"),
    *("ich_ray.reporting.figures.diagnostics", "ich_ray.reporting.diagnostics_page"),
}
PERCENTILES = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 50.0)
counts = st.lists(st.integers(0, 40), min_size=1, max_size=30)


def keys_of(number: int) -> np.ndarray:
    return np.array([f"{i:08x}" for i in np.random.default_rng(7).permutation(number)], np.bytes_)


def slices_of(seed: int, *, number: int = 400, levels: int = 0) -> LabelledSlices:
    """A ranking that is right more often than not; with `levels` its probabilities are tied."""
    rng = np.random.default_rng(seed)
    hidden = (rng.random(number) < 0.2).astype(np.int8)
    p = expit(rng.normal(2.0 * hidden - 2, 1.0)).astype(np.float32)
    if levels:
        p = (np.round(p * levels) / levels).astype(np.float32)
    names = np.array([f"p{i:03d}" for i in np.sort(rng.integers(0, 40, number))], np.bytes_)
    label = rng.choice(np.array([0, 1, IGNORED], np.uint8), number)
    return LabelledSlices(
        key=keys_of(number), exam=names, patient=names, label=label, p=p, hidden=hidden
    )


def patients_with(held: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(held)), held)


@given(counts)
def test_patients_with_most_positives_hold_at_least_their_equal_share(held: list[int]) -> None:
    patient = patients_with(held)
    found = patient_shares(patient, np.ones(len(patient), np.bool_))
    with_any = sum(count > 0 for count in held)
    assert (found.positives, found.with_positive) == (sum(held), with_any)
    if with_any:
        for top, share in found.top_shares.items():
            assert share == pytest.approx(sum(sorted(held)[::-1][:top]) / sum(held))
            assert share >= min(top, with_any) / with_any - 1e-12
        assert 1 - 1e-9 <= found.effective <= with_any + 1e-9
        assert found.cumulative[0] == 0
        assert found.cumulative[-1] == pytest.approx(1)
        assert np.all(np.diff(found.cumulative) >= -1e-12)


@given(counts)
def test_every_patient_is_in_one_bin_of_the_histogram(held: list[int]) -> None:
    positive = patients_with(held)
    patient = np.concatenate([positive, np.arange(len(held))])
    chosen = np.arange(len(patient)) < len(positive)
    found = patient_shares(patient, chosen)
    assert found.patients == len(held) == sum(number for _, _, number in found.bins)
    for low, high, number in found.bins:
        assert number == sum(low <= count <= high for count in held)


def test_patients_with_equal_parts_are_all_effective_and_one_patient_is_one() -> None:
    equal = patients_with([4] * 6)
    assert patient_shares(equal, np.ones(24, np.bool_)).effective == pytest.approx(6)
    assert patient_shares(np.zeros(9), np.ones(9, np.bool_)).effective == pytest.approx(1)


def test_without_a_positive_no_patient_holds_any() -> None:
    found = patient_shares(np.array(["a", "b"]), np.zeros(2, np.bool_))
    assert (found.effective, found.with_positive, set(found.top_shares.values())) == (0, 0, {0.0})


def test_volumes_count_what_is_empty_and_what_is_not_known() -> None:
    millilitres = [None, 0.0, 0.05, 1.0, 2.9, 3.0, 500.0]
    exams = [
        ExamVolume(exam=str(i), positive_slices=1, volume_ml=ml) for i, ml in enumerate(millilitres)
    ]
    found = volumes_of(exams)
    assert (found.exams, found.unknown, found.empty) == (7, 1, 1)
    assert found.bins == (1, 0, 0, 2, 1, 0, 0, 1)
    assert found.quartiles_ml == (1.0, 2.9, 3.0)
    assert found.total_ml == pytest.approx(506.95)
    assert math.isnan(volumes_of([]).quartiles_ml[1])


@given(st.integers(0, 50))
def test_every_slice_is_in_one_bin_of_the_scores_also_at_0_and_1(seed: int) -> None:
    slices = slices_of(seed)
    p = np.concatenate([slices.p, np.array([0, 1], np.float32)])
    label = np.concatenate([slices.label, np.array([0, 1], np.uint8)])
    found = score_histograms(p, label)
    assert len(found.all) == len(LOGIT_EDGES) - 1
    assert found.all.sum() == len(p)
    assert found.positive.sum() == (label == 1).sum()
    assert found.ignored.sum() == (label == IGNORED).sum()


@pytest.mark.parametrize("levels", [0, 10])
@pytest.mark.parametrize("seed", range(5))
def test_precision_and_recall_are_those_of_scikit_learn_at_the_ranker_s_own_cut(
    seed: int, levels: int
) -> None:
    slices = slices_of(seed, levels=levels)
    truth = slices.hidden == 1
    found = against_hidden(slices, PERCENTILES)
    assert found is not None
    ranking = Ranking.of([slices.p])
    keys = slices.key.astype(str)
    for row in found.percentiles:
        cut = ranking.cut(ranking.num_positive(row.percent), [Part(slices)])
        chosen = Cuts(cut).labels(slices.p, keys) == 1
        assert row.precision.estimate == pytest.approx(precision_score(truth, chosen))
        assert row.recall.estimate == pytest.approx(recall_score(truth, chosen))
        assert row.precision.low <= row.precision.estimate <= row.precision.high
    assert found.auc == pytest.approx(roc_auc_score(truth, slices.p))
    labelled = slices.label == 1
    assert found.precision.estimate == pytest.approx(precision_score(truth, labelled))
    assert found.recall.estimate == pytest.approx(recall_score(truth, labelled))


class Part:
    """The slices as the ranker's only shard."""

    def __init__(self, slices: LabelledSlices) -> None:
        self.slices = slices

    def probabilities(self) -> np.ndarray:
        return self.slices.p

    def keys(self, rows: np.ndarray) -> np.ndarray:
        return self.slices.key[rows].astype(str)


@given(st.integers(2, 10_000), st.sampled_from(PERCENTILES))
def test_the_top_percent_are_as_many_as_the_ranker_takes(slices: int, percent: float) -> None:
    ranking = Ranking(np.linspace(0, 1, slices, dtype=np.float32))
    assert num_within(slices, percent) == ranking.num_positive(percent)


def test_slices_without_a_hidden_label_keep_their_place_and_count_as_nothing() -> None:
    p = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    slices = LabelledSlices(
        key=keys_of(4),
        exam=keys_of(4),
        patient=keys_of(4),
        label=np.array([1, 1, 0, 0], np.uint8),
        p=p,
        hidden=np.array([UNKNOWN, 1, 0, 1], np.int8),
    )
    found = against_hidden(slices, (50.0,))
    assert found is not None
    (half,) = found.percentiles
    assert (half.precision.successes, half.precision.trials) == (1, 1)
    assert (half.recall.successes, half.recall.trials) == (1, 2)
    assert (found.slices, found.positive) == (3, 2)
    assert (found.false_negative.successes, found.false_negative.trials) == (1, 2)


def test_without_hidden_labels_nothing_is_said_and_with_one_class_no_auc() -> None:
    slices = slices_of(0)
    columns = {n: getattr(slices, n) for n in ("key", "exam", "patient", "label", "p")}
    silent = LabelledSlices(**columns, hidden=np.full(len(slices.p), UNKNOWN, np.int8))
    assert against_hidden(silent, PERCENTILES) is None
    healthy = against_hidden(
        LabelledSlices(**columns, hidden=np.zeros(len(slices.p), np.int8)), PERCENTILES
    )
    assert healthy is not None
    assert healthy.auc is None
    assert math.isnan(healthy.recall.estimate)


@given(st.integers(0, 30))
def test_a_table_agrees_with_itself_wholly_in_any_order(seed: int) -> None:
    slices = slices_of(seed)
    order = np.random.default_rng(seed).permutation(len(slices.p))
    found = agreement(
        (slices.key, slices.label, slices.p),
        (slices.key[order], slices.label[order], slices.p[order]),
    )
    assert (found.jaccard, found.flipped) == (1.0, (0.0, 0.0))
    assert found.spearman == pytest.approx(1)
    assert found.transitions.sum() == np.trace(found.transitions) == len(slices.p)
    assert found.joint.sum() == np.trace(found.joint) == len(slices.p)


def test_agreement_of_two_rounds_by_hand() -> None:
    first = (
        np.array([b"a", b"b", b"c", b"d", b"e"]),
        np.array([1, 1, 0, IGNORED, 0], np.uint8),
        np.array([0.9, 0.8, 0.3, 0.4, 0.1], np.float32),
    )
    second = (
        np.array([b"f", b"d", b"c", b"b", b"a"]),
        np.array([1, 1, 1, 0, 1], np.uint8),
        np.array([0.2, 0.7, 0.6, 0.3, 0.95], np.float32),
    )
    found = agreement(first, second)
    assert (found.slices, found.only_first, found.only_second) == (4, 1, 1)
    assert found.jaccard == pytest.approx(1 / 4)
    assert found.flipped == (0.25, 0.25)
    # Rows and columns: positive, ignored, negative.
    assert found.transitions.tolist() == [[1, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert found.spearman == pytest.approx(
        spearmanr([0.9, 0.8, 0.3, 0.4], [0.95, 0.3, 0.6, 0.7])[0]
    )


def test_rounds_without_a_common_slice_or_a_positive_have_no_jaccard() -> None:
    one = (np.array([b"a"]), np.array([0], np.uint8), np.array([0.1], np.float32))
    other = (np.array([b"b"]), np.array([1], np.uint8), np.array([0.9], np.float32))
    assert agreement(one, other).slices == 0
    assert math.isnan(agreement(one, other).flipped[0])
    assert math.isnan(agreement(one, one).jaccard)
    assert math.isnan(agreement(one, one).spearman)


@given(st.integers(0, 50), st.sampled_from([0, 8]))
def test_a_rank_correlation_is_pearson_s_of_midranks(seed: int, levels: int) -> None:
    a, b = slices_of(seed, levels=levels).p, slices_of(seed + 100, levels=levels).p
    expected = np.corrcoef(rankdata(a), rankdata(b))[0, 1]
    assert rank_correlation(a, b) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.integers(0, 60), unique=True), st.lists(st.integers(0, 60), unique=True))
def test_common_keys_are_found_in_both(a: list[int], b: list[int]) -> None:
    first, second = (np.array([f"{n:02d}" for n in of], "S2") for of in (a, b))
    rows, others = common(first, second)
    assert first[rows].tolist() == second[others].tolist()
    assert len(rows) == len(set(a) & set(b))


@given(st.floats(-2, 2), st.integers(0, 30))
def test_a_student_that_adds_to_every_logit_is_shifted_by_that(added: float, seed: int) -> None:
    slices = slices_of(seed)
    before = logits(slices.p)
    student = expit(before + added).astype(np.float32)
    found = drift(slices.p, student, slices.label)
    assert found.mean_shift == pytest.approx(added, abs=1e-3)
    assert found.shift_of_positive == pytest.approx(added, abs=1e-3)
    assert found.spread == pytest.approx(0, abs=1e-3)
    assert np.allclose(found.student_quantiles - found.teacher_quantiles, added, atol=1e-3)
    assert len(found.teacher_quantiles) == len(QUANTILES)
    assert found.up == ((slices.p < 0.5) & (student >= 0.5)).mean()
    assert min(found.up, found.down) == 0


def test_crossings_are_counted_each_way() -> None:
    teacher = np.array([0.4, 0.6, 0.6, 0.1], np.float32)
    student = np.array([0.5, 0.4, 0.7, 0.2], np.float32)
    found = drift(teacher, student, np.zeros(4, np.uint8))
    assert (found.up, found.down) == (0.25, 0.25)
    assert math.isnan(found.shift_of_positive)
    assert found.spearman == pytest.approx(spearmanr(teacher, student)[0])


def test_nothing_but_the_diagnostics_themselves_knows_of_them() -> None:
    for path in [*ROOT.glob("ich_ray/**/*.py"), *ROOT.glob("jobs/**/*.py")]:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        known = {name for name in imports_of(path.read_text()) if name.startswith("ich_ray")}
        if module not in {*DIAGNOSTICS, "jobs.diagnose"}:
            assert not {
                n for n in known if any(n == d or n.startswith(f"{d}.") for d in DIAGNOSTICS)
            }
