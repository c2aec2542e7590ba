"""What each fold's model says of its own test patients, and figures of it with intervals.

Read from the predictions that `ich-ray evaluate` has made, and counted here slice by slice: the
slice AUC, the published Dice coefficient, and figures pooled over folds are no part of its report.
Those that are must come out the same.

**The published Dice coefficient** (`dsc_published`). Hssayeni et al., Intracranial Hemorrhage
Segmentation Using a Deep Convolutional Model, Data 5(1):14, 2020, report 0.31 over five folds. The
paper's abstract does not say of what that is the mean. The authors' own code for release 1.0.0 does
(github.com/Murtadha44/-Intracranial-Hemorrhage-Segmentation-Using-Deep-Convolutional-Model-U-Net-,
main.py of commit 1d1cfed, `dice_img` and `class_report`), and this follows it:

- the DSC of each slice whose reference mask is not empty, at the slice's own pixels; slices without
  a bleed do not count, whatever is predicted there, and an empty prediction counts 0;
- a patient's figure is the mean over his slices, the result the mean over the patients who have
  one, each with the model that did not learn from him;
- a pixel is called at p > 0.5, a threshold that no patient's data chose;
- row 21, patient 70, is left out, "chronic ICH": `CHRONIC` here.

Left open, and chosen here: nothing of the U-Net's own making of masks is copied, as its means over
overlapping windows of 160, the closing (10 x 10) and opening (5 x 5) of its masks, and the rim of 5
pixels that is cut off before. Pixels at p = 0.5 exactly are called; there are hardly any. With
patient 70: `dsc_published_all`. The paper's folds are a random list of patients, ours are by hash.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Integer

from ich_ray.distributed.session import Selection
from ich_ray.exam import IGNORED, Slice
from ich_ray.statistics import average_precision, overlap, pixel_histograms, roc, score_levels
from ich_ray.statistics.bootstrap import Interval, interval, resample_weights
from ich_ray.statistics.comparison import exam_score
from ich_ray.statistics.pixel_histograms import SliceHistogram
from ich_ray.storage.corpus import read_exams
from ich_ray.storage.objects import Store
from ich_ray.storage.predictions import decode_map
from ich_ray.storage.tables import Table, iterate_groups
from ich_ray.windows import upsample

CHRONIC = "ct-ich/070"
HALF = int(score_levels.quantise_logits(np.zeros(1, np.float32))[0])
"""Level of p = 0.5."""

METRICS = ("dsc", "pixel_ap", "exam_auc", "slice_auc", "dsc_published", "dsc_published_all")


@dataclass(frozen=True, kw_only=True, slots=True)
class PatientScores:
    """One patient, who has one exam, as the model of his fold sees him."""

    patient: str
    labels: Bool[np.ndarray, " slice"]
    p: Float64[np.ndarray, " slice"]
    pixels: SliceHistogram
    slice_dsc: Float64[np.ndarray, " bleeding"]
    """Of the slices whose reference mask is not empty."""


def read_scores(
    store: Store, selection: Selection, predictions: Table, *, grid: int
) -> Iterator[PatientScores]:
    """Yield the patients of a test selection.

    Args:
        store: Holds the corpus and the predictions.
        selection: The fold.
        predictions: Of its model.
        grid: `input.size`.
    """
    rows = {
        row["slice"]: row
        for file in predictions.files
        for group in iterate_groups(store, file)
        for row in group.to_pylist()
    }
    for url in selection.corpus.files:
        for exam in read_exams(store, url, splits=selection.holds, with_pixels=False):
            yield _patient(exam, rows, grid)


def _patient(exam: Sequence[Slice], rows: Mapping[str, Any], grid: int) -> PatientScores:
    histograms, bleeding = [], []
    for item in exam:
        assert item.mask is not None, item.key
        assert not (item.mask == IGNORED).any(), item.key
        height, width = item.mask.shape
        logits = upsample(decode_map(rows[item.key]), rows=height, columns=width, size=grid)
        found = pixel_histograms.slice_histogram(
            score_levels.quantise_logits(logits), item.mask > 0
        )
        histograms.append(found)
        if found.pos.any():
            bleeding.append(found)
    counts = overlap.overlap_at(pixel_histograms.stack(bleeding), HALF)
    return PatientScores(
        patient=exam[0].patient,
        labels=np.array([item.label for item in exam], np.bool_),
        p=np.array([rows[item.key]["p"] for item in exam], np.float64),
        pixels=pixel_histograms.merge(histograms),
        slice_dsc=overlap.dice(counts.tp, counts.fp, counts.fn),
    )


def figures(
    patients: Sequence[PatientScores], *, chronic: str, resamples: int
) -> dict[str, Interval]:
    """Return each metric with its 95 % interval over resamples of patients.

    Patients are drawn as `ich-ray evaluate` draws them: stratified by whether they bleed, seed 0.
    Scores of several models, where patients are of several folds, are compared as they are.

    Args:
        patients: In any order.
        chronic: The one whom the published figure leaves out.
        resamples: How many.
    """
    patients = sorted(patients, key=lambda one: one.patient)
    bleeds = np.array([one.labels.any() for one in patients])
    drawn = resample_weights(
        seed=0,
        resamples=range(resamples),
        num_clusters=len(patients),
        strata=bleeds.astype(np.int64),
    )
    points = _metrics(patients, np.ones((1, len(patients)), np.int64), chronic)
    samples = _metrics(patients, drawn, chronic)
    return {name: interval(float(points[name][0]), samples[name]) for name in METRICS}


def _metrics(
    patients: Sequence[PatientScores],
    weights: Integer[np.ndarray, "resample patient"],
    chronic: str,
) -> dict[str, Float64[np.ndarray, " resample"]]:
    stack = pixel_histograms.stack([one.pixels for one in patients])
    slices = np.repeat(np.arange(len(patients)), [len(one.p) for one in patients])
    dsc = np.array([one.slice_dsc.mean() if len(one.slice_dsc) else np.nan for one in patients])
    left_out = np.array([one.patient == chronic for one in patients])
    return {
        "dsc": overlap.weighted_dices(overlap.overlap_at(stack, HALF), weights),
        "pixel_ap": average_precision.weighted_average_precisions(stack, weights),
        "exam_auc": roc.weighted_aucs(
            np.array([exam_score(one.p.tolist(), slices=1) for one in patients]),
            np.array([one.labels.any() for one in patients]),
            weights,
        ),
        "slice_auc": roc.weighted_aucs(
            np.concatenate([one.p for one in patients]),
            np.concatenate([one.labels for one in patients]),
            weights[:, slices],
        ),
        "dsc_published": _weighted_mean(np.where(left_out, np.nan, dsc), weights),
        "dsc_published_all": _weighted_mean(dsc, weights),
    }


def _weighted_mean(
    values: Float64[np.ndarray, " patient"], weights: Integer[np.ndarray, "resample patient"]
) -> Float64[np.ndarray, " resample"]:
    """Return the mean over the patients who have a value; NaN in resamples without any."""
    known = ~np.isnan(values)
    count = weights[:, known].sum(axis=1)
    means = np.full(len(weights), np.nan)
    np.divide(weights[:, known] @ values[known], count, out=means, where=count > 0)
    return means
