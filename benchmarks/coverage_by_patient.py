"""Coverage of intervals over patients: of slices, of exams one by one, of lesions, of surfaces.

Patients are simulated whose true figures are known by formula: slices of a patient resemble each
other, and their scores tie; some patients have two exams; lesions of a patient are found together,
or missed; false alarms come in the exams of few patients. A patient's own slices, lesions and
alarms are many or few by chance, not by how well he is read.

    python -m benchmarks.coverage_by_patient [--trials 1000]
"""

import argparse
import json
import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import beta, norm

from benchmarks.coverage_tally import Tally
from ich_ray.statistics.bootstrap import resample_weights
from ich_ray.statistics.by_exam import exam_overlap_differences, exam_overlaps
from ich_ray.statistics.by_slice import ScoredSlices, slice_differences, slice_figures
from ich_ray.statistics.comparison import Exams
from ich_ray.statistics.masks.froc import LesionPool
from ich_ray.statistics.masks.lesion_detection import detections, lesion_detection
from ich_ray.statistics.masks.surfaces import ExamSurfaces, surface_distances

RESAMPLES = 500
SLICES, THRESHOLD, APART, STEP = 24, 1.0, 1.8, 0.25
"""Slices of an exam, scores at or above which they are called, distance of the classes' means, and
what scores are multiples of."""

POSITIVE = 6.0
"""Positive slices of a bleeding exam, on average."""

MISSED, BETA = 0.15, (5.0, 2.0)
"""Share of the bleeding exams without any mark; how DSC and NSD of the others are spread."""

LESIONS, FOUND, ALARMS = 2.5, (3.5, 1.5), 0.8
"""Lesions of a bleeding exam; spread of the share of a patient's that is found; false alarms an
exam, which a few patients have most of."""


QUANTILES = beta.ppf((np.arange(20_000) + 0.5) / 20_000, *BETA)


@dataclass(frozen=True, kw_only=True, slots=True)
class Patients:
    """How many, and how many of them bleed; every fifth has two exams."""

    patients: int
    bleeding: int

    @property
    def title(self) -> str:
        """For a line of the results."""
        return f"{self.patients} patients, {self.bleeding} bleed"

    @property
    def exams(self) -> Exams:
        """Those of a bleeding patient are all positive."""
        patient = np.repeat(np.arange(self.patients), 1 + (np.arange(self.patients) % 5 == 0))
        return Exams(labels=patient < self.bleeding, patient=patient)


KINDS = (
    Patients(patients=300, bleeding=100),
    Patients(patients=80, bleeding=35),
    Patients(patients=200, bleeding=20),
    Patients(patients=100, bleeding=10),
)


def slices(exams: Exams, rng: np.random.Generator) -> dict[str, ScoredSlices]:
    """Draw the slices of two models of one skill."""
    counts = np.where(exams.labels, 1 + rng.poisson(POSITIVE - 1, len(exams.labels)), 0)
    place = np.arange(SLICES)[None, :]
    labels = (place < np.minimum(counts, SLICES)[:, None]).ravel()
    patient = np.repeat(exams.patient, SLICES)
    everyone = len(exams.strata)
    shared = math.sqrt(0.2) * rng.normal(size=everyone)[patient]
    found = {}
    for name in "ab":
        own = math.sqrt(0.2) * rng.normal(size=everyone)[patient]
        noise = shared + own + math.sqrt(0.6) * rng.normal(size=len(patient))
        scores = np.floor((APART * labels + noise) / STEP) * STEP
        found[name] = ScoredSlices(labels=labels, scores=scores, patient=patient)
    return found


def true_slices(kind: Patients) -> tuple[float, float]:
    """Return AUC and F1 of endless patients, as many bleeding ones among them."""
    edges = np.arange(-60, 60) * STEP
    negative, positive = np.diff(ndtr(edges)), np.diff(ndtr(edges - APART))
    auc = float((positive * (np.cumsum(negative) - negative / 2)).sum())
    # A Poisson number of them is cut off at the slices of an exam: in one of 10^7.
    share = POSITIVE / SLICES * kind.exams.labels.mean()
    called = share * norm.sf(THRESHOLD - APART) + (1 - share) * norm.sf(THRESHOLD)
    return auc, float(2 * share * norm.sf(THRESHOLD - APART) / (called + share))


def of_slices(kind: Patients, tally: Tally, rng: np.random.Generator) -> None:
    """Make the intervals of slice AUC and F1."""
    models, exams = slices(kind.exams, rng), kind.exams
    thresholds = dict.fromkeys(models, THRESHOLD)
    auc, f1 = true_slices(kind)
    one = slice_figures(models, thresholds, exams)[0]
    (gap,) = slice_differences(models, thresholds, exams, [("a", "b")])
    tally.interval("slice AUC", one.auc.low, one.auc.high, auc)
    tally.interval("slice F1", one.f1.low, one.f1.high, f1)
    for name, difference in (("slice AUC", gap.auc), ("slice F1", gap.f1)):
        tally.interval(f"{name} difference", difference.low, difference.high, 0.0)
        tally.test(f"{name} difference", difference.p)


def shares(exams: Exams, rng: np.random.Generator) -> np.ndarray:
    """Draw a share of each exam, two models: of patients who bleed, alike in their exams."""
    everyone = len(exams.strata)
    shared = rng.normal(size=everyone)[exams.patient]
    own = rng.normal(size=(2, everyone))[:, exams.patient]
    noise = rng.normal(size=(2, len(exams.patient)))
    ranks = ndtr(math.sqrt(0.4) * shared + math.sqrt(0.3) * own + math.sqrt(0.3) * noise)
    beyond = np.clip((ranks - MISSED) / (1 - MISSED), 0.0, 1.0)
    return np.where(ranks < MISSED, 0.0, QUANTILES[(beyond * (len(QUANTILES) - 1)).astype(int)])


def of_exams(kind: Patients, tally: Tally, rng: np.random.Generator, weights: np.ndarray) -> None:
    """Make the intervals of figures of exams one by one: mean DSC, mean NSD, median HD95."""
    exams = kind.exams
    drawn = np.where(exams.labels, shares(exams, rng), math.nan)
    truth = (1 - MISSED) * BETA[0] / sum(BETA)
    models = dict(zip("ab", drawn, strict=True))
    mean = exam_overlaps(models, exams)[0].mean_dsc
    (gap,) = exam_overlap_differences(models, exams, [("a", "b")])
    tally.interval("mean DSC of exams", mean.low, mean.high, truth)
    tally.interval("mean DSC of exams, difference", gap.mean_dsc.low, gap.mean_dsc.high, 0.0)
    tally.test("mean DSC of exams, difference", gap.mean_dsc.p)
    # The better the surfaces agree, the smaller is their distance; none where nothing is marked.
    surfaces = [
        ExamSurfaces(
            bleeds=bool(bleeds),
            marked=bool(share > 0),
            hd95_mm=(20 * (1 - float(share)) if share > 0 else math.inf) if bleeds else math.nan,
            nsd_1mm=float(share),
            nsd_2mm=float(share),
        )
        for bleeds, share in zip(exams.labels, drawn[0], strict=True)
    ]
    found = surface_distances("a", surfaces, exams.patient, weights)
    tally.interval("NSD", found.nsd_1mm.low, found.nsd_1mm.high, truth)
    half = QUANTILES[int((0.5 - MISSED) / (1 - MISSED) * len(QUANTILES))]
    tally.interval("HD95, median", found.hd95_mm.low, found.hd95_mm.high, 20 * (1 - half))


def lesion_pool(exams: Exams, rng: np.random.Generator) -> LesionPool:
    """Draw lesions and false alarms."""
    size = len(exams.strata)
    num_exams = np.bincount(exams.patient, minlength=size)
    lesions = exams.strata * num_exams + rng.poisson((LESIONS - 1) * exams.strata * num_exams)
    lesion_patient = np.repeat(np.arange(size), lesions)
    found = rng.random(len(lesion_patient)) < rng.beta(*FOUND, size)[lesion_patient]
    level = np.where(found, rng.integers(1, 60_000, len(found)), 0)
    alarms = rng.poisson(ALARMS * num_exams * rng.gamma(0.5, 2.0, size))
    alarm_patient = np.repeat(np.arange(size), alarms)
    alarm_level = rng.integers(1, 60_000, len(alarm_patient))
    order, of_alarms = np.argsort(-level, kind="stable"), np.argsort(-alarm_level, kind="stable")
    return LesionPool(
        lesion_level=level[order],
        lesion_patient=lesion_patient[order],
        alarm_level=alarm_level[of_alarms],
        alarm_patient=alarm_patient[of_alarms],
        num_hits=np.bincount(lesion_patient, found, minlength=size).astype(np.int64),
        num_exams=num_exams,
    )


def of_lesions(kind: Patients, tally: Tally, rng: np.random.Generator, weights: np.ndarray) -> None:
    """Make the intervals of what is found of lesions, and of false alarms."""
    pool = lesion_pool(kind.exams, rng)
    found = lesion_detection("a", pool, detections(pool, weights))
    sensitivity = FOUND[0] / sum(FOUND)
    hits = sensitivity * LESIONS * kind.exams.labels.mean()
    value = hits / (hits + ALARMS)
    f1 = 2 * sensitivity * value / (sensitivity + value)
    for name, one, truth in (
        ("lesion sensitivity", found.sensitivity, sensitivity),
        ("false alarms an exam", found.alarms, ALARMS),
        ("lesion predictive value", found.predictive_value, value),
        ("lesion F1", found.f1, f1),
    ):
        tally.interval(name, one.low, one.high, truth)


def patients(kind: Patients, *, trials: int) -> Tally:
    """Make all intervals; the resamples are the same in each trial, the patients others."""
    tally = Tally()
    strata = kind.exams.strata
    weights = resample_weights(
        seed=0, resamples=range(RESAMPLES), num_clusters=len(strata), strata=strata
    )
    for trial in range(trials):
        rng = np.random.default_rng([trial, kind.patients, kind.bleeding])
        of_slices(kind, tally, rng)
        of_exams(kind, tally, rng, weights)
        of_lesions(kind, tally, rng, weights)
    return tally


def main() -> None:
    """Simulate, and print what was found."""
    parser = argparse.ArgumentParser(description="Coverage of intervals over patients.")
    parser.add_argument("--trials", type=int, default=1_000)
    options = parser.parse_args()
    for kind in KINDS:
        for row in patients(kind, trials=options.trials).rows(kind.title):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
