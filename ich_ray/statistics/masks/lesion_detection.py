"""What models find of the lesions, over exams, with intervals over patients.

The mask at its threshold gives one sensitivity, predictive value and F1; its marks, by their
scores, a sensitivity for each rate of false alarms. Lesions are pooled: an exam with many counts
as many times, and one without counts for its false alarms alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Integer

from ich_ray.statistics.bootstrap import Interval, interval, resample_weights
from ich_ray.statistics.masks.froc import RATES, FrocCurve, LesionPool, froc_curve
from ich_ray.statistics.overlap import share_of

VALUES_AT_ONCE = 2**20
"""Weights in each temporary array of `detections`: 8 MB."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Detections:
    """What is found in each resample."""

    sensitivity: Float64[np.ndarray, " resample"]
    """Share of the lesions that a mark touches."""

    predictive_value: Float64[np.ndarray, " resample"]
    """Share of the marks that touch a lesion, among those that count; NaN without any."""

    f1: Float64[np.ndarray, " resample"]
    """Their harmonic mean; 0 where no lesion is found."""

    alarms: Float64[np.ndarray, " resample"]
    """False alarms an exam."""

    at_rates: Float64[np.ndarray, "resample rate"]
    """Sensitivity at each of `RATES`."""

    mean_at_rates: Float64[np.ndarray, " resample"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LesionDetection:
    """What a model finds of the lesions, with percentile intervals over patients."""

    model: str
    num_exams: int
    num_lesions: int
    num_found: int
    num_hits: int
    """Marks that touch a lesion."""

    num_alarms: int
    sensitivity: Interval
    predictive_value: Interval
    f1: Interval
    alarms: Interval
    """False alarms an exam."""

    at_rates: tuple[Interval, ...]
    """Sensitivity at each of `RATES`."""

    mean_at_rates: Interval
    curve: FrocCurve


def detections(pool: LesionPool, weights: Integer[np.ndarray, "resample patient"]) -> Detections:
    """Return what is found in every resample of the patients.

    The sensitivity at a rate is the highest that a threshold reaches with at most so many false
    alarms an exam; where there are fewer at any threshold, that of all marks.

    Args:
        pool: Lesions and false alarms.
        weights: How often each resample holds each patient, not negative.

    Source: FROC: Bunch et al. 1978; the rates and their mean: van Ginneken et al., Med Image Anal
    14 (2010) 707, the competition performance metric (CPM) of LUNA16 (Setio et al., Med Image Anal
    42 (2017) 1), which draws lines between the thresholds; here the curve is a stair, since no
    threshold lies on such a line. F1: Kuijf et al., IEEE TMI 38 (2019) 2556, pooled over exams.
    """
    at_level = np.searchsorted(-pool.lesion_level, 0, side="left")
    num_alarms = np.bincount(pool.alarm_patient, minlength=len(pool.num_exams))
    num_exams, hits, alarms = (
        (weights @ counts).astype(np.float64)
        for counts in (pool.num_exams, pool.num_hits, num_alarms)
    )
    lesions, found = np.empty((2, len(weights)))
    at_rates = np.empty((len(weights), len(RATES)))
    at_once = max(1, VALUES_AT_ONCE // (1 + len(pool.lesion_level) + len(pool.alarm_level)))
    for start in range(0, len(weights), at_once):
        some = slice(start, start + at_once)
        sums = _running(weights[some], pool.lesion_patient)
        lesions[some], found[some] = sums[:, -1], sums[:, at_level]
        ranks = _ranks(pool, weights[some], np.outer(num_exams[some], RATES))
        at_rates[some] = np.take_along_axis(sums, ranks, axis=1)
    sensitivity, predictive_value = share_of(found, lesions), share_of(hits, hits + alarms)
    at_rates = share_of(at_rates, np.repeat(lesions[:, None], len(RATES), axis=1))
    both = np.where(found > 0, predictive_value, 0.0)
    f1 = share_of(2 * sensitivity * both, np.where(found > 0, sensitivity + both, 1.0))
    return Detections(
        sensitivity=sensitivity,
        predictive_value=predictive_value,
        f1=f1,
        alarms=share_of(alarms, num_exams),
        at_rates=at_rates,
        # Added in this order anywhere: a sum over an axis may choose another.
        mean_at_rates=np.asarray(sum(at_rates.T) / len(RATES)),
    )


def resampled_detections(
    pool: LesionPool,
    *,
    seed: int,
    resamples: range,
    strata: Integer[np.ndarray, " patient"] | None = None,
) -> Detections:
    """Return what is found in some resamples of the patients; chunks may be computed anywhere.

    Args:
        pool: Lesions and false alarms.
        seed: Of the resamples.
        resamples: Which ones.
        strata: As in `bootstrap.resample_weights`.
    """
    num_patients = len(pool.num_exams)
    at_once = max(1, 8 * VALUES_AT_ONCE // num_patients)
    return joined(
        [
            detections(
                pool,
                resample_weights(
                    seed=seed,
                    resamples=resamples[start : start + at_once],
                    num_clusters=num_patients,
                    strata=strata,
                ),
            )
            for start in range(0, len(resamples), at_once)
        ]
    )


def joined(parts: Sequence[Detections]) -> Detections:
    """Put consecutive resamples together."""
    return Detections(
        sensitivity=np.concatenate([part.sensitivity for part in parts]),
        predictive_value=np.concatenate([part.predictive_value for part in parts]),
        f1=np.concatenate([part.f1 for part in parts]),
        alarms=np.concatenate([part.alarms for part in parts]),
        at_rates=np.concatenate([part.at_rates for part in parts]),
        mean_at_rates=np.concatenate([part.mean_at_rates for part in parts]),
    )


def lesion_detection(model: str, pool: LesionPool, samples: Detections) -> LesionDetection:
    """Return what a model finds, with 95 % percentile intervals.

    Args:
        model: Its name.
        pool: Lesions and false alarms of all its exams.
        samples: Resamples of the same pool.

    Source: intervals as LUNA16 has them, of exams there and of patients here.
    """
    whole = detections(pool, np.ones((1, len(pool.num_exams)), np.int64))
    return LesionDetection(
        model=model,
        num_exams=int(pool.num_exams.sum()),
        num_lesions=len(pool.lesion_level),
        num_found=int(np.count_nonzero(pool.lesion_level)),
        num_hits=int(pool.num_hits.sum()),
        num_alarms=len(pool.alarm_level),
        sensitivity=interval(float(whole.sensitivity[0]), samples.sensitivity),
        predictive_value=interval(float(whole.predictive_value[0]), samples.predictive_value),
        f1=interval(float(whole.f1[0]), samples.f1),
        alarms=interval(float(whole.alarms[0]), samples.alarms),
        at_rates=tuple(
            interval(float(estimate), resampled)
            for estimate, resampled in zip(whole.at_rates[0], samples.at_rates.T, strict=True)
        ),
        mean_at_rates=interval(float(whole.mean_at_rates[0]), samples.mean_at_rates),
        curve=froc_curve(pool),
    )


def _running(
    weights: Integer[np.ndarray, "resample patient"], patient: Int64[np.ndarray, " part"]
) -> Int64[np.ndarray, "resample one_more"]:
    """Weights of the first parts, of none to all."""
    sums = np.zeros((len(weights), 1 + len(patient)), np.int64)
    np.cumsum(weights[:, patient], axis=1, out=sums[:, 1:])
    return sums


def _ranks(
    pool: LesionPool,
    weights: Integer[np.ndarray, "resample patient"],
    limits: Float64[np.ndarray, "resample rate"],
) -> Int64[np.ndarray, "resample rate"]:
    """How many of the first lesions are found with no more false alarms than the limits."""
    alarms = _running(weights, pool.alarm_patient)[:, 1:]
    # Behind the last false alarm no level is too low, but that of a lesion that no mark touches.
    levels = np.append(pool.alarm_level, 0)
    too_low = np.stack(
        [
            levels[np.searchsorted(row, limit, side="right")]
            for row, limit in zip(alarms, limits, strict=True)
        ]
    )
    return np.searchsorted(-pool.lesion_level, -too_low, side="left")
