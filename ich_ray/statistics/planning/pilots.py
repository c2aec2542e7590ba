"""How far a difference of two models varies, told from a pilot: what both say of a few exams.

The variance comes from positive and from negative patients, and each part falls as their number
grows: so it is told for corpora of any size and prevalence. Patients are the clusters of all.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Integer

from ich_ray.errors import ConfigError, QualityError
from ich_ray.statistics import roc
from ich_ray.statistics.bootstrap import interval, resample_weights
from ich_ray.statistics.comparison import Exams
from ich_ray.statistics.overlap import Overlap, dices_and_influences
from ich_ray.statistics.planning.power import Pilot
from ich_ray.statistics.studentized import stratified_errors, studentized_positive

LEAST_PATIENTS = 30
"""Of each class in a pilot; fewer tell too little of how a difference varies.

Simulated (AUC 0.90 and 0.86, 400 exams): where the power was 0.66, 95 of 100 pilots with 30
positive patients predicted 0.41 to 0.95, of those with 10 of them 0.28 to 1.00.
"""

DRAWS = 500
"""Resamples of the pilot's patients."""


def auc_pilot(  # noqa: PLR0913  (two models, and how they are resampled)
    a: Float[np.ndarray, " exam"],
    b: Float[np.ndarray, " exam"],
    exams: Exams,
    *,
    prevalence: float | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> Pilot:
    """Tell how far a difference of exam AUCs varies: DeLong's variance, of each class apart.

    Patients of a planned corpus have as many exams as those of the pilot. Where a patient has exams
    of both classes, the correlation of what they add is the same at every prevalence. Of simulated
    pilots of 200 exams, 91 to 95 of 100 intervals held the power.

    Args:
        a: One score per exam, from the first model.
        b: One score per exam, from the second model.
        exams: Of the pilot.
        prevalence: Share of positive exams that is planned; the pilot's own if absent.
        seed: Of the resamples.
        draws: How many of them.

    Raises:
        ConfigError: `prevalence` is not between 0 and 1.
        QualityError: Fewer than LEAST_PATIENTS have an exam of a class, the models rank all exams
            alike, or a score is NaN.

    Source: DeLong et al. 1988 and Obuchowski 1997, as `roc.paired_delong`; Obuchowski and McClish,
    Stat Med 16 (1997) 1529-1542 (sizes of both classes from variances of both).
    """

    def variance(
        chosen: Integer[np.ndarray, " chosen"], patient: Integer[np.ndarray, " chosen"]
    ) -> roc.VarianceParts:
        return roc.variance_parts(a[chosen], exams.labels[chosen], less=b[chosen], patient=patient)

    return _auc_pilot(variance, exams, prevalence, seed=seed, draws=draws)


def auc_pilot_of_one(  # noqa: PLR0913  (a model, an assumption, and how it is resampled)
    scores: Float[np.ndarray, " exam"],
    exams: Exams,
    *,
    correlation: float | None = None,
    prevalence: float | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> Pilot:
    """Tell how far a difference to another model would vary, of which nothing is known yet.

    The other model's placements (of each exam, the share of those of the other class that it is
    rightly placed against) are taken to vary as this one's, and to be correlated with them. All
    depends on that assumption: from 0.5 to 0.75 it halves the size that is needed.

    Args:
        scores: One score per exam, from the model of the pilot.
        exams: Of the pilot.
        correlation: Of the two models' placements, from 0 up to below 1; there is no default.
        prevalence: As of `auc_pilot`.
        seed: Of the resamples.
        draws: How many of them.

    Raises:
        ConfigError: `correlation` is missing or out of range, or `prevalence` is.
        QualityError: As of `auc_pilot`.

    Source: Hanley and McNeil, Radiology 148 (1983) 839-843: s1^2 + s2^2 - 2 r s1 s2, of equal s.
    """
    factor = 2 * (1 - check_correlation(correlation))

    def variance(
        chosen: Integer[np.ndarray, " chosen"], patient: Integer[np.ndarray, " chosen"]
    ) -> roc.VarianceParts:
        parts = roc.variance_parts(scores[chosen], exams.labels[chosen], patient=patient)
        return roc.VarianceParts(*(factor * part for part in parts))

    return _auc_pilot(variance, exams, prevalence, seed=seed, draws=draws)


def check_correlation(correlation: float | None) -> float:
    """Return the correlation that is assumed of one model and another.

    Raises:
        ConfigError: None is, or it is out of range.
    """
    if correlation is None or not 0 <= correlation < 1:
        raise ConfigError(
            "one model tells nothing of how a difference to another varies without the correlation "
            f"of their placements, got {correlation}; predict the pilot with both models, or "
            "assume one of at least 0 and below 1"
        )
    return correlation


def dsc_pilot(
    a: Overlap,
    b: Overlap,
    *,
    prevalence: float | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> Pilot:
    """Tell how far a difference of DSCs varies, from each patient's influence on it.

    At another prevalence the patients of both kinds are weighted to it: false positives of patients
    without a mask count for more where there are more of them.

    A few large bleeds decide a DSC, and a pilot seldom holds the largest: it tells the variance far
    less well than an AUC's, and too small more often than too large. Of simulated pilots with 100
    marked patients the mean prediction was 0.30 where 400 patients showed a difference 20 times in
    100, 0.53 where 45 and 0.82 where 83 times, and 84 to 89 of 100 intervals held that share; with
    35 marked patients the mean was 0.59 where 45.

    Args:
        a: Pixels of each patient, as the first model calls them.
        b: The same of the second model.
        prevalence: Share of patients with a mask that is planned; the pilot's own if absent.
        seed: Of the resamples.
        draws: How many of them.

    Raises:
        ConfigError: `prevalence` is not between 0 and 1.
        QualityError: Fewer than LEAST_PATIENTS have a mask, or have none; the models mark all
            pixels alike; or they were judged by different masks.

    Source: Davison and Hinkley 1997, 2.7 (jackknife), 3.2 (strata); simulated: benchmarks/power.py.
    """
    marked = a.tp + a.fn
    if not np.array_equal(marked, b.tp + b.fn):
        raise QualityError(
            "the two models were judged by different masks; count both on the same reference"
        )
    strata = (marked > 0).astype(np.int64)
    patients = int(strata.sum()), int((strata == 0).sum())
    _check_patients(patients, "with a mask", "without one")
    positive = _share(patients[0] / len(strata) if prevalence is None else prevalence)
    # Patients weigh 1 in all: of any size, a corpus has this variance by its size.
    weight = np.array([(1 - positive) / patients[1], positive / patients[0]])[strata]
    times = np.concatenate(
        [np.ones((1, len(strata)), np.int64), _drawn(strata, seed=seed, draws=draws)]
    )
    changes = (_lost(a, times, weight) - _lost(b, times, weight)) * np.sqrt(weight)
    variances = stratified_errors(changes, times, strata) ** 2
    errors = stratified_errors(_squares(changes, times, strata), times, strata)
    _check_varies(variances[0], "DSC")
    return Pilot(
        metric="DSC",
        unit="patients",
        prevalence=positive,
        patients=patients,
        variance=studentized_positive(
            (float(variances[0]), float(errors[0])), (variances[1:], errors[1:])
        ),
    )


def _lost(
    model: Overlap,
    times: Int64[np.ndarray, "draw patient"],
    weight: Float64[np.ndarray, " patient"],
) -> Float64[np.ndarray, "draw patient"]:
    """Return what each DSC loses without each patient, by a patient's weight.

    A ratio's influence, by the share of the pixels that are left, as the test of comparison.py
    takes it; without it a large bleed would hide how far it pulls the DSC.
    """
    influence = dices_and_influences(model, times * weight)[1]
    held = weight * (2.0 * model.tp + model.fp + model.fn)
    left = 1 - held / np.einsum("dp,p->d", times, held)[:, None]
    lost = np.zeros(left.shape)
    # Nothing is left where a patient was not drawn, and has more than all who were.
    np.divide(influence, left, out=lost, where=left > 0)
    return lost


def _squares(
    changes: Float64[np.ndarray, "draw patient"],
    times: Int64[np.ndarray, "draw patient"],
    strata: Int64[np.ndarray, " patient"],
) -> Float64[np.ndarray, "draw patient"]:
    """Return what each patient adds to the variance, of whose sum it is to first order."""
    squares = np.empty(changes.shape)
    for stratum in (0, 1):
        here = strata == stratum
        size = int(here.sum())
        mean = np.einsum("dp,dp->d", times[:, here], changes[:, here]) / size
        squares[:, here] = size / (size - 1) * (changes[:, here] - mean[:, None]) ** 2
    return squares


_Parts = Callable[
    [Integer[np.ndarray, " chosen"], Integer[np.ndarray, " chosen"]], roc.VarianceParts
]
"""Of some of the exams, perhaps several times, and of whom each then is: the variance."""


def _auc_pilot(
    parts: _Parts, exams: Exams, prevalence: float | None, *, seed: int, draws: int
) -> Pilot:
    patients = (
        len(np.unique(exams.patient[exams.labels])),
        len(np.unique(exams.patient[~exams.labels])),
    )
    _check_patients(patients, "with a positive exam", "with a negative one")
    positive = _share(float(exams.labels.mean()) if prevalence is None else prevalence)
    whole = np.arange(len(exams.labels))
    variances = [_scaled(parts(whole, exams.patient), exams.labels, positive)]
    for times in _drawn(exams.strata, seed=seed, draws=draws):
        of_exam = times[exams.patient]
        chosen = np.repeat(whole, of_exam)
        # A patient who is drawn twice is two patients.
        copy = np.arange(len(chosen)) - np.repeat(np.cumsum(of_exam) - of_exam, of_exam)
        patient = exams.patient[chosen] + len(exams.strata) * copy
        variances.append(_scaled(parts(chosen, patient), exams.labels[chosen], positive))
    _check_varies(variances[0], "exam AUC")
    return Pilot(
        metric="exam AUC",
        unit="exams",
        prevalence=positive,
        patients=patients,
        variance=interval(variances[0], np.array(variances[1:])),
    )


def _scaled(
    parts: roc.VarianceParts, labels: Bool[np.ndarray, " chosen"], prevalence: float
) -> float:
    """Return the variance in a corpus of that prevalence, times its exams."""
    num_positive = int(np.count_nonzero(labels))
    positive, negative = num_positive / prevalence, (len(labels) - num_positive) / (1 - prevalence)
    return max(
        0.0,
        parts.positive * positive
        + parts.negative * negative
        + parts.both * math.sqrt(positive * negative),
    )


def _drawn(
    strata: Int64[np.ndarray, " patient"], *, seed: int, draws: int
) -> Int64[np.ndarray, "draw patient"]:
    return resample_weights(
        seed=seed, resamples=range(draws), num_clusters=len(strata), strata=strata
    )


def _check_varies(variance: float, metric: str) -> None:
    if variance <= 0:
        raise QualityError(
            f"no patient of the pilot changes the difference in {metric}: the models say the same, "
            "or make no error; take other models, or a harder pilot"
        )


def _check_patients(patients: tuple[int, int], positive: str, negative: str) -> None:
    if min(patients) < LEAST_PATIENTS:
        raise QualityError(
            f"the pilot has {patients[0]} patients {positive} and {patients[1]} {negative}; it "
            f"needs {LEAST_PATIENTS} of each to tell how a difference varies, so add patients"
        )


def _share(prevalence: float) -> float:
    if not 0 < prevalence < 1:
        raise ConfigError(f"need 0 < prevalence < 1, got {prevalence}: a share, and no per cent")
    return prevalence
