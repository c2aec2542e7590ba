"""The pictures of a report: each from its part of it, or none where that is empty."""

import math
from collections.abc import Callable, Mapping

from ich_ray.reporting.contents import Report
from ich_ray.reporting.figures.bland_altman import bland_altman_panels
from ich_ray.reporting.figures.calibration import reliability_diagram
from ich_ray.reporting.figures.forest import forest
from ich_ray.reporting.figures.froc import froc_curves
from ich_ray.reporting.figures.groups import group_forest
from ich_ray.reporting.figures.over_trainings import trainings_forest
from ich_ray.reporting.figures.precision_recall import precision_recall_curves
from ich_ray.reporting.figures.pseudo_labels import pseudo_label_scores
from ich_ray.reporting.figures.resampled_change import resampled_change_histogram
from ich_ray.reporting.figures.resampled_differences import resampled_differences
from ich_ray.reporting.figures.roc import roc_curves
from ich_ray.reporting.figures.style import MINUS
from ich_ray.reporting.figures.training_loss import training_losses
from ich_ray.reporting.headline import in_reading_order
from ich_ray.reporting.html import data_uri


def pictures_of(report: Report) -> dict[str, str]:
    """Return name -> data URI of every picture that the report has anything to show in."""
    drawn = {name: draw(report) for name, draw in PICTURES.items()}
    return {name: data_uri(svg, "image/svg+xml") for name, svg in drawn.items() if svg}


def _roc(report: Report) -> bytes | None:
    if all(model.roc is None for model in report.models):
        return None
    bands = report.further.bands if report.further else {}
    return roc_curves(report.models, bands, report.operating_points)


def _precision_recall(report: Report) -> bytes | None:
    if report.further is None or not report.further.precision_recall:
        return None
    return precision_recall_curves(report.models, report.further.precision_recall)


def _forest(report: Report) -> bytes | None:
    # A rival is so far off that its difference would squeeze the others into one point.
    kinds = {model.name: model.kind for model in report.models}
    pairs = [d for d in in_reading_order(report) if kinds.get(d.a) == kinds.get(d.b) == "network"]
    titles = [f"{report.title_of(d.a)} {MINUS} {report.title_of(d.b)}" for d in pairs]
    return forest(titles, pairs) if pairs else None


def _resampled_change(report: Report) -> bytes | None:
    change = report.resampled
    if change is None:
        return None
    pair = report.difference(change.a, change.b)
    title = f"{report.title_of(change.a)} {MINUS} {report.title_of(change.b)}"
    return resampled_change_histogram(title, change, pair.exam_auc if pair else None)


def _over_trainings(report: Report) -> bytes | None:
    over = report.over_trainings
    if over is None or not over.differences:
        return None
    return trainings_forest(over.differences, report.title_of)


def _groups(report: Report) -> bytes | None:
    if report.further is None or not any(group.aucs for group in report.further.groups):
        return None
    return group_forest(report.further.groups, report.models)


def _calibration(report: Report) -> bytes | None:
    return reliability_diagram(report.models, report.calibration) if report.calibration else None


def _froc(report: Report) -> bytes | None:
    found = any(one.num_lesions for one in report.lesions)
    return froc_curves(report.models, report.lesions) if found else None


def _bland_altman(report: Report) -> bytes | None:
    found = any(math.isfinite(one.differences.within) for one in report.volumes)
    return bland_altman_panels(report.models, report.volumes) if found else None


def _resampled_differences(report: Report) -> bytes | None:
    if report.paper is None:
        return None
    default = report.difference(report.paper.a, report.paper.b)
    return resampled_differences(report.paper, default)


def _pseudo_labels(report: Report) -> bytes | None:
    return pseudo_label_scores(report.pseudo_labels) if report.pseudo_labels else None


def _training(report: Report) -> bytes | None:
    curves = {report.title_of(name): curve for name, curve in report.training.items() if curve}
    return training_losses(curves) if curves else None


PICTURES: Mapping[str, Callable[[Report], bytes | None]] = {
    "roc": _roc,
    "precision_recall": _precision_recall,
    "forest": _forest,
    "resampled_change": _resampled_change,
    "over_trainings": _over_trainings,
    "groups": _groups,
    "calibration": _calibration,
    "froc": _froc,
    "bland_altman": _bland_altman,
    "resampled_differences": _resampled_differences,
    "pseudo_labels": _pseudo_labels,
    "training": _training,
}
"""By the names that templates use."""
