"""Several models on the same exams: exam AUC, DSC and pixel AP, resampled together.

Patients are resampled, stratified by whether they bleed: slices of one patient are not
independent, and every model sees the same resample.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64, Integer, Real

from ich_ray.statistics import average_precision, overlap, pixel_histograms, roc
from ich_ray.statistics.bca import aucs_without_each, bca_difference, bca_interval
from ich_ray.statistics.bootstrap import (
    Difference,
    Interval,
    difference,
    interval,
    resample_weights,
)
from ich_ray.statistics.permutation import paired_permutation
from ich_ray.statistics.studentized import (
    stratified_errors,
    studentized_difference,
    studentized_interval,
)

Metric = Literal["exam_auc", "dsc", "pixel_ap"]
PixelMetric = Literal["dsc", "pixel_ap"]
METRICS: tuple[Metric, ...] = get_args(Metric)
PIXEL_METRICS: tuple[PixelMetric, ...] = get_args(PixelMetric)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exams:
    """The exams of a test corpus: their truth, and which patient each belongs to."""

    labels: Bool[np.ndarray, " exam"]
    patient: Integer[np.ndarray, " exam"]
    """0 .. patients - 1."""

    @property
    def independent(self) -> bool:
        """Whether each is of another patient, as tests without resampling take them."""
        return len(self.labels) == len(self.strata)

    @property
    def strata(self) -> Integer[np.ndarray, " patient"]:
        """1 for a patient with a positive exam, else 0."""
        strata = np.zeros(int(self.patient.max()) + 1, np.int64)
        strata[self.patient[self.labels]] = 1
        return strata


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """What one model says of those exams, as sufficient statistics."""

    scores: Float64[np.ndarray, " exam"]
    at_level: overlap.Overlap
    """Of each patient's pixels, at the level."""

    pixels: pixel_histograms.PixelCounts
    """Pixels by score level; a cluster is a patient."""

    level: int
    """Pixels at or above this level are called bleed."""

    @classmethod
    def of_stack(
        cls,
        *,
        scores: Float64[np.ndarray, " exam"],
        stack: pixel_histograms.HistogramStack,
        level: int,
    ) -> "Predicted":
        """Return what a model says whose pixels are all in memory."""
        at_level = overlap.overlap_at(stack, level)
        return cls(scores=scores, at_level=at_level, pixels=stack, level=level)


STUDENT, TEACHER = "semi_supervised", "baseline"
"""Names of the two models that the headline compares, where they are there."""

Subject = tuple[str] | tuple[str, str]
"""A model, or two whose difference it is: first minus second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resampled:
    """Figures of some resamples of the patients, one value a resample."""

    values: Mapping[str, dict[Metric, Float64[np.ndarray, " resample"]]]
    """Model -> metric -> values."""

    errors: Mapping[tuple[Subject, PixelMetric], Float64[np.ndarray, " resample"]]
    """Standard errors, of `errors_of`."""


def errors_of(
    models: Sequence[str], compared: Sequence[tuple[str, str]]
) -> list[tuple[Subject, PixelMetric]]:
    """Return what has errors: models, and the differences that the bootstrap tests."""
    alone: list[tuple[Subject, PixelMetric]] = [((m,), of) for m in models for of in PIXEL_METRICS]
    return [*alone, *((pair, "pixel_ap") for pair in compared)]


def resampled(
    exams: Exams,
    models: Mapping[str, Predicted],
    compared: Sequence[tuple[str, str]],
    *,
    seed: int,
    resamples: range,
) -> Resampled:
    """Return the figures of every model on some resamples of the patients.

    Each resample comes from (seed, its index): chunks may be computed anywhere.

    Args:
        exams: The exams that all models saw.
        models: Their statistics.
        compared: Pairs of models, first minus second.
        seed: Of the resamples.
        resamples: Which ones.
    """
    weights = resample_weights(
        seed=seed, resamples=resamples, num_clusters=len(exams.strata), strata=exams.strata
    )
    values: dict[str, dict[Metric, Float64[np.ndarray, " resample"]]] = {
        name: {"exam_auc": roc.weighted_aucs(model.scores, exams.labels, weights[:, exams.patient])}
        for name, model in models.items()
    }
    errors: dict[tuple[Subject, PixelMetric], Float64[np.ndarray, " resample"]] = {}
    for metric in PIXEL_METRICS:
        influences = {}
        for name, model in models.items():
            values[name][metric], influences[name] = _influences(model, metric, weights)
        for subject, of in errors_of(list(models), compared):
            if of == metric:
                first, *second = (influences[name] for name in subject)
                change = first - second[0] if second else first
                errors[subject, of] = stratified_errors(change, weights, exams.strata)
    return Resampled(values=values, errors=errors)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PixelAp:
    """The pixel AP of one model on all patients, each of them once."""

    estimate: float
    influence: Float64[np.ndarray, " patient"]
    """Its derivative by each patient's weight."""


def pixel_aps(models: Mapping[str, Predicted]) -> dict[str, PixelAp]:
    """Return the pixel AP of every model on all patients."""
    found = {}
    for name, model in models.items():
        once = np.ones((1, model.pixels.num_clusters))
        (estimate,), (influence,) = _influences(model, "pixel_ap", once)
        found[name] = PixelAp(estimate=float(estimate), influence=influence)
    return found


def joined(parts: Sequence[Resampled]) -> Resampled:
    """Put the figures of consecutive resamples together."""
    first = parts[0]
    return Resampled(
        values={
            name: {metric: np.concatenate([p.values[name][metric] for p in parts]) for metric in of}
            for name, of in first.values.items()
        },
        errors={key: np.concatenate([p.errors[key] for p in parts]) for key in first.errors},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Every figure of some models on the same exams, with what chance may have done to it."""

    intervals: Mapping[str, Mapping[Metric, Interval]]
    """Model -> metric -> figure."""

    differences: Mapping[tuple[str, str], Mapping[Metric, Difference]]
    """First and second model -> metric -> first minus second."""

    bootstrap_auc: Mapping[str, Interval]
    """The exam AUCs again, by the percentiles of the resamples."""

    bootstrap_auc_differences: Mapping[tuple[str, str], Difference]
    bca_auc: Mapping[str, Interval]
    """The same, bias-corrected and accelerated."""

    bca_auc_differences: Mapping[tuple[str, str], Difference]


def compare(  # noqa: PLR0913  (what the cluster has made, and what it is compared by)
    exams: Exams,
    models: Mapping[str, Predicted],
    compared: Sequence[tuple[str, str]],
    samples: Resampled,
    whole_ap: Mapping[str, PixelAp],
    *,
    seed: int,
) -> Compared:
    """Return estimates, 95 % intervals and tests; patients are the clusters of all.

    Of the exam AUC by DeLong. Of a pixel metric by the symmetric bootstrap-t, and so of differences
    of pixel AP. Of differences of DSC by a permutation test, which keeps its level where the
    bootstrap-t is too careful; of AP it does not, where false alarms of a few patients are loud.

    Fewer than two patients with a positive pixel say nothing of others: bounds and p are NaN.

    Args:
        exams: The exams that all models saw.
        models: Their statistics.
        compared: Pairs of models, first minus second.
        samples: Resamples of all models.
        whole_ap: Model -> pixel AP on all patients, of `pixel_aps`.
        seed: Of the permutations.

    Raises:
        QualityError: Fewer than two patients have an exam of a class.
    """
    whole = {
        name: {"dsc": _dsc_by_patient(model), "pixel_ap": _ap_by_patient(model, whole_ap[name])}
        for name, model in models.items()
    }

    def of_pixels(name: str, metric: PixelMetric) -> Interval:
        found = whole[name][metric]
        return studentized_interval(
            (found.estimate, _error(found, exams)),
            (samples.values[name][metric], samples.errors[(name,), metric]),
        )

    def of_ap(a: str, b: str) -> Difference:
        first, second = (whole[name]["pixel_ap"] for name in (a, b))
        error = _error(first, exams, less=second)
        of_a, of_b = (samples.values[name]["pixel_ap"] for name in (a, b))
        return studentized_difference(
            (first.estimate - second.estimate, error),
            (of_a - of_b, samples.errors[(a, b), "pixel_ap"]),
        )

    aucs = {name: roc.auc(model.scores, exams.labels) for name, model in models.items()}
    drawn = {name: samples.values[name]["exam_auc"] for name in models}
    without = {
        name: aucs_without_each(model.scores, exams.labels, exams.patient)
        for name, model in models.items()
    }
    return Compared(
        intervals={
            name: {
                "exam_auc": roc.delong(model.scores, exams.labels, patient=exams.patient),
                **{metric: of_pixels(name, metric) for metric in PIXEL_METRICS},
            }
            for name, model in models.items()
        },
        differences={
            (a, b): {
                "exam_auc": roc.paired_delong(
                    models[a].scores, models[b].scores, exams.labels, patient=exams.patient
                ),
                "dsc": _exchanged(whole[a]["dsc"], whole[b]["dsc"], seed=seed),
                "pixel_ap": of_ap(a, b),
            }
            for a, b in compared
        },
        bootstrap_auc={name: interval(auc, drawn[name]) for name, auc in aucs.items()},
        bootstrap_auc_differences={
            (a, b): difference(aucs[a] - aucs[b], drawn[a] - drawn[b]) for a, b in compared
        },
        bca_auc={
            name: bca_interval(auc, drawn[name], without[name], exams.strata)
            for name, auc in aucs.items()
        },
        bca_auc_differences={
            (a, b): bca_difference(
                aucs[a] - aucs[b], drawn[a] - drawn[b], without[a] - without[b], exams.strata
            )
            for a, b in compared
        },
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ByPatient:
    """A pixel metric on all exams, and what each patient has to do with it."""

    estimate: float
    influence: Float64[np.ndarray, " patient"]
    held: Float64[np.ndarray, " patient"]
    """Pixels that DSC counts: twice those found, those missed, and false ones."""

    num_bleeding: int
    """Patients with a positive pixel."""

    def lost(self) -> Float64[np.ndarray, " patient"]:
        """Return what DSC loses without each patient; NaN for the only one who counts.

        A ratio's influence, by the share of the pixels that are left.
        """
        left = 1 - self.held / max(float(self.held.sum()), 1.0)
        lost = np.full(left.shape, np.nan)
        np.divide(self.influence, left, out=lost, where=left > 0)
        return lost


def _dsc_by_patient(model: Predicted) -> _ByPatient:
    once = np.ones((1, len(model.at_level.tp)))
    (estimate,), (influence,) = overlap.dices_and_influences(model.at_level, once)
    return _of_patients(model, float(estimate), influence)


def _ap_by_patient(model: Predicted, whole: PixelAp) -> _ByPatient:
    return _of_patients(model, whole.estimate, whole.influence)


def _of_patients(
    model: Predicted, estimate: float, influence: Float64[np.ndarray, " patient"]
) -> _ByPatient:
    tp, fp, fn = model.at_level
    return _ByPatient(
        estimate=estimate,
        influence=influence,
        held=2.0 * tp + fp + fn,
        num_bleeding=int(np.count_nonzero(tp + fn)),
    )


def _error(found: _ByPatient, exams: Exams, *, less: _ByPatient | None = None) -> float:
    """Return the standard error of a metric, or of its difference; NaN where one patient bleeds."""
    if found.num_bleeding < 2:
        return math.nan
    change = (found.influence - (less.influence if less else 0.0))[None, :]
    return float(stratified_errors(change, np.ones(change.shape), exams.strata)[0])


def _influences(
    model: Predicted, metric: PixelMetric, weights: Real[np.ndarray, "resample patient"]
) -> tuple[Float64[np.ndarray, " resample"], Float64[np.ndarray, "resample patient"]]:
    if metric == "dsc":
        return overlap.dices_and_influences(model.at_level, weights)
    return average_precision.average_precisions_and_influences(model.pixels, weights)


def _exchanged(a: _ByPatient, b: _ByPatient, *, seed: int) -> Difference:
    held, estimate = a.held + b.held, a.estimate - b.estimate
    if a.num_bleeding < 2:
        return Difference(estimate, math.nan, math.nan, math.nan)
    shares = held / max(float(held.sum()), 1.0)
    return paired_permutation(estimate, a.lost() - b.lost(), shares, seed=seed)


def patient_influences(
    model: Predicted, metric: PixelMetric
) -> tuple[float, Float64[np.ndarray, " patient"]]:
    """Return a pixel metric of a model, and its derivative by the weight of each patient.

    NaN throughout where fewer than two patients have a positive pixel.
    """
    if metric == "dsc":
        found = _dsc_by_patient(model)
    else:
        found = _ap_by_patient(model, pixel_aps({"": model})[""])
    known = found.num_bleeding > 1
    return found.estimate, found.influence if known else np.full(found.influence.shape, np.nan)


def exam_score(slice_probabilities: Sequence[float], *, slices: int) -> float:
    """Return an exam's score: the mean of its highest slice probabilities.

    Args:
        slice_probabilities: Of all slices of the exam, of which there is at least one.
        slices: How many of them count; 1 is the maximum, as in Lin & Yuh.

    >>> exam_score([0.25, 1.0, 0.5], slices=2)
    0.75
    """
    return float(np.mean(sorted(slice_probabilities, reverse=True)[:slices]))


def main_pair(names: Sequence[str]) -> tuple[str, str] | None:
    """Return whose difference the headline gives: student less teacher, else the first pair.

    >>> main_pair(["semi_supervised", "baseline"]), main_pair(["only"])
    (('semi_supervised', 'baseline'), None)
    """
    if STUDENT in names and TEACHER in names:
        return STUDENT, TEACHER
    return next(iter(pairs(names)), None)


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return which differences are reported: each later model minus each earlier one.

    >>> pairs(["baseline", "semi_supervised"])
    [('semi_supervised', 'baseline')]
    """
    return [(b, a) for i, a in enumerate(names) for b in names[i + 1 :]]


def best_count_cut(
    counts: Integer[np.ndarray, "exam cut"], labels: Bool[np.ndarray, " exam"]
) -> int:
    """Return the cut whose pixel counts rank the exams best; of equal ones the first.

    Args:
        counts: Pixels of each exam at or above each cut.
        labels: Truth.
    """
    aucs = [roc.auc(counts[:, i].astype(np.float64), labels) for i in range(counts.shape[1])]
    return int(np.argmax(aucs))
