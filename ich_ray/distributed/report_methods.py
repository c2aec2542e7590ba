"""The report's methods: how its figures were made, in sentences."""

from collections.abc import Sequence

from ich_ray.config import EvaluateConfig
from ich_ray.distributed.evaluate import Evaluation
from ich_ray.statistics.permutation import TOSSES
from ich_ray.statistics.pooled_exams import THRESHOLD


def _of_operating_points(found: Evaluation, tuning: Sequence[str]) -> list[str]:
    if not found.operating_points:
        why = "the tuning exams are of one class" if tuning else "no tuning exams were named"
        return [f"No operating points: {why}, or no sensitivity and specificity to reach."]
    caveat = (
        ""
        if found.exams.independent
        else " Both take exams as independent, and some patients have several: they say too much."
    )
    return [
        "Operating points: exam thresholds fixed on the tuning exams, the highest that reaches a "
        "sensitivity there, or the lowest that reaches a specificity, then applied to the test "
        "exams; intervals by Wilson. Right calls of two models are compared by McNemar's test "
        "(mid-p), of positive and of negative exams apart, and the p-values of all these "
        f"comparisons adjusted by Holm; of few exams it can hardly show anything.{caveat}",
    ]


def methods(
    config: EvaluateConfig, found: Evaluation, *, tuned_on: Sequence[str]
) -> tuple[str, ...]:
    """Return the sentences of the report's methods.

    Args:
        config: Of the evaluation.
        found: Its figures.
        tuned_on: What fixed thresholds; empty where nothing did.
    """
    patients = len(found.exams.strata)
    where = (
        f"fixed on the tuning exams ({', '.join(tuned_on)}), by the best DSC, before the test exams"
        if tuned_on
        else "p = 0.5, as no tuning exams were named"
    )
    highest = (
        "highest probability of its slices"
        if config.exam_score_slices == 1
        else f"mean of its {config.exam_score_slices} highest slice probabilities"
    )
    return (
        f"Exams: {len(found.exams.labels)} of {patients} patients; an exam's score is the "
        f"{highest}{', where it has none of its own' if config.predictions else ''}; its truth "
        "what is said of its slices, or of the exam as a whole.",
        "Exam AUC: interval on the logit scale and paired test by DeLong, patients being clusters "
        "(Obuchowski).",
        "Slice AUC likewise; slice F1 and the mean DSC of exams: the linearised variance of a "
        "ratio, patients being clusters, on the logit scale.",
        "DSC and pixel AP: intervals by the symmetric bootstrap-t on the logit scale; how far a "
        "resample lies from all patients counts in its own standard error, by what each patient "
        "adds. Where a few patients have many false alarms of the highest scores, that of pixel AP "
        "is too narrow all the same (simulated: it held the truth 85 times in 100).",
        "Differences of pixel AP: the same, not on the logit scale. Differences of DSC: a "
        "sign-flip test of what each patient adds, as if the two models' predictions of him were "
        f"exchanged at random, {TOSSES} times, and the differences that it does not refute; a "
        "difference that is the same everywhere is divided by the pixels that DSC counts.",
        f"The bootstrap draws patients {config.resamples} times, those who bleed and others apart; "
        "all models see the same resamples. Its percentiles of the AUC, plain and "
        "bias-corrected and accelerated (BCa; without a width at an AUC of 1, without bounds where "
        "all resamples lie on one side), stand beside DeLong's figures. Intervals are of 95 %, "
        "p-values two-sided.",
        "AUC is exact, ties at midranks. Pixel AP and DSC pool all pixels of all exams (micro), "
        "scores quantised to 16 bits of the logit; a slice without a bleed adds only false "
        "positives; a metric that a resample leaves undefined is dropped and counted.",
        f"Lesions and marks of fewer than {config.lesion_voxels} voxels do not count."
        if config.lesion_voxels > 1
        else "Lesions and marks of a single voxel count too (evaluate.lesion_voxels).",
        f"Pixel thresholds: {where}.",
        *_of_operating_points(found, tuned_on),
        *_of_rivals(found),
        *_of_trainings(found),
    )


def _of_trainings(found: Evaluation) -> list[str]:
    over = found.over_trainings
    if over is None or over.num_trainings == 1:
        return [
            "One training of each model: intervals hold the uncertainty of the exams, not that of "
            "the training."
        ]
    return [
        f"Over trainings: {over.num_trainings} of each recipe, by the analysis of variance of "
        "Obuchowski and Rockette, trainings being readers and patients cases, both random, with "
        "Hillis's degrees of freedom; a pair of recipes by its own trainings alone, those of one "
        "place being paired. Covariances over patients: of exam AUC by DeLong, of DSC and pixel AP "
        "by what each patient adds. Intervals of means on the logit scale. All other figures are "
        "of single trainings, and their intervals of the exams alone.",
    ]


def _of_rivals(found: Evaluation) -> list[str]:
    if THRESHOLD not in found.predicted:
        return []
    return ["The plain threshold chose its cuts on the test exams themselves, which favours it."]
