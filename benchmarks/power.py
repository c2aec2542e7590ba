"""Does a corpus show a difference as often as a pilot of 200 exams predicts?

Readers are simulated whose true figures are known. Each trial draws a pilot, and of it the power of
a corpus of some size at the true difference; then it draws such a corpus, and tests as the report
does. Prints a line a case: `shown`, the share of the corpora with p < 0.05; `predicted`, the mean
over the pilots, and the range of 95 % of them; `held`, how often a pilot's interval held `shown`.

    python -m benchmarks.power [--trials 1000] [--draws 500]
"""

import argparse
import json
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from benchmarks.evaluate_coverage import Lesions, lesions, models_of
from ich_ray.statistics import overlap, roc
from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.comparison import Exams, Predicted, _dsc_by_patient, _exchanged
from ich_ray.statistics.planning.pilots import auc_pilot, dsc_pilot
from ich_ray.statistics.planning.power import power

NORMAL = NormalDist()
PILOT = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Readers:
    """Two readers of exams whose scores are normal in each class."""

    title: str
    aucs: tuple[float, float]
    size: int = 400
    """Of the planned corpus."""

    positive: tuple[float, float] = (0.4, 0.4)
    """Share of the exams, in the pilot and as planned."""

    between: float = 0.6
    """Correlation of the two readers."""

    per_patient: int = 1
    """Exams; a patient's resemble each other, and each is positive or not by itself."""


READERS = (
    Readers(title="AUC 0.90 and 0.88", aucs=(0.90, 0.88)),
    Readers(title="AUC 0.90 and 0.86", aucs=(0.90, 0.86)),
    Readers(title="AUC 0.90 and 0.85", aucs=(0.90, 0.85)),
    Readers(title="AUC 0.95 and 0.92", aucs=(0.95, 0.92)),
    Readers(title="other prevalence", aucs=(0.90, 0.85), positive=(0.4, 0.15)),
    Readers(title="10 positive of 100", aucs=(0.90, 0.80), size=100, positive=(0.4, 0.1)),
    Readers(title="two exams of a patient", aucs=(0.90, 0.86), per_patient=2),
)


def drawn(
    readers: Readers, rng: np.random.Generator, *, size: int, positive: float
) -> tuple[Exams, np.ndarray]:
    """Draw exams and both readers' scores."""
    patient = np.repeat(np.arange(size // readers.per_patient), readers.per_patient)
    labels = np.zeros(size, bool)
    labels[rng.permutation(size)[: round(size * positive)]] = True
    shared, own = (rng.normal(size=(3, size)) for _ in range(2))
    of_patient = shared[:, patient]
    noise = np.sqrt(0.5) * (of_patient + own) if readers.per_patient > 1 else own
    mixed = np.sqrt(readers.between) * noise[0] + np.sqrt(1 - readers.between) * noise[1:]
    apart = np.sqrt(2) * np.array([[NORMAL.inv_cdf(auc)] for auc in readers.aucs])
    return Exams(labels=labels, patient=patient), mixed + apart * labels


def of_auc(readers: Readers, trial: int, draws: int) -> tuple[Interval, bool]:
    """Return what a pilot predicts, and whether a corpus shows the difference."""
    difference = readers.aucs[0] - readers.aucs[1]
    rng = np.random.default_rng([trial, 1])
    exams, (a, b) = drawn(readers, rng, size=PILOT, positive=readers.positive[0])
    pilot = auc_pilot(a, b, exams, prevalence=readers.positive[1], seed=trial, draws=draws)
    exams, (a, b) = drawn(readers, rng, size=readers.size, positive=readers.positive[1])
    found = roc.paired_delong(a, b, exams.labels, patient=exams.patient)
    return power(pilot, difference, size=readers.size), found.p < 0.05


BLEEDS = (
    Lesions(title="DSC, skill 0.10 behind", exams=400, behind=0.10),
    Lesions(title="DSC, skill 0.15 behind", exams=400, behind=0.15),
    Lesions(title="DSC, skill 0.25 behind", exams=400, behind=0.25),
    Lesions(title="DSC, skill 0.25 behind, 30 % bleed", exams=400, bleeding=0.3, behind=0.25),
    Lesions(title="DSC, skill 0.30 behind, loud alarms", exams=400, behind=0.3, loud=0.03),
)


def drawn_lesions(kind: Lesions, seed: list[int], size: int) -> tuple[Predicted, Predicted]:
    """Draw what both models make of so many patients."""
    models = models_of(*lesions(kind, np.random.default_rng(seed), num_exams=size))
    return models["a"], models["b"]


def counted(models: tuple[Predicted, Predicted]) -> list[overlap.Overlap]:
    """Return the pixels of each patient as the models call them."""
    return [model.at_level for model in models]


def true_difference(kind: Lesions) -> float:
    """Return the difference of DSCs, all pixels of many patients pooled."""
    whole = [
        counts.sum(axis=1, keepdims=True)
        for counts in lesions(kind, np.random.default_rng(1), num_exams=400_000)
    ]
    a, b = (
        overlap.dice(*(int(part.sum()) for part in model.at_level))
        for model in models_of(*whole).values()
    )
    return float(a - b)


def of_dsc(kind: Lesions, difference: float, trial: int, draws: int) -> tuple[Interval, bool]:
    """Return what a pilot predicts, and whether a corpus shows the difference."""
    pilot = dsc_pilot(
        *counted(drawn_lesions(kind, [trial, 1], PILOT)),
        prevalence=kind.bleeding,
        seed=trial,
        draws=draws,
    )
    a, b = (_dsc_by_patient(one) for one in drawn_lesions(kind, [trial, 2], kind.exams))
    return power(pilot, difference, size=kind.exams), _exchanged(a, b, seed=trial).p < 0.05


def line(title: str, difference: float, found: list[tuple[Interval, bool]]) -> dict[str, object]:
    """Return the figures of a case."""
    shown = float(np.mean([shown for _, shown in found]))
    estimates = [predicted.estimate for predicted, _ in found]
    return {
        "case": title,
        "difference": round(difference, 4),
        "shown": round(shown, 3),
        "predicted": round(float(np.mean(estimates)), 3),
        "range": [round(float(end), 3) for end in np.quantile(estimates, [0.025, 0.5, 0.975])],
        "held": round(float(np.mean([low.low <= shown <= low.high for low, _ in found])), 3),
    }


def main() -> None:
    """Simulate, and print what was found."""
    parser = argparse.ArgumentParser(description="Predicted power against simulated corpora.")
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--draws", type=int, default=500)
    options = parser.parse_args()
    trials = range(options.trials)
    for readers in READERS:
        found = [of_auc(readers, trial, options.draws) for trial in trials]
        print(json.dumps(line(readers.title, readers.aucs[0] - readers.aucs[1], found)))
    for kind in BLEEDS:
        apart = true_difference(kind)
        found = [of_dsc(kind, apart, trial, options.draws) for trial in trials]
        print(json.dumps(line(kind.title, apart, found)))


if __name__ == "__main__":
    main()
