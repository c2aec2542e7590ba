"""A report as plain values: what report.json holds."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ich_ray.reporting.contents import GallerySlice, ModelResult, PseudoLabels, Report
from ich_ray.reporting.headline import cautions, headline
from ich_ray.statistics.operating_points import OperatingPoint

NUM_BINS = 50
"""Of the histogram that stands for the pseudo-labels' probabilities in report.json."""


def to_json(report: Report) -> str:
    """Return report.json: keys sorted, no NaN; the same report gives the same bytes.

    Pictures and single probabilities stay out: a histogram stands for the latter.
    """
    record = {
        "title": report.title,
        "question": report.question,
        "headline": headline(report),
        "cautions": cautions(report),
        "models": {model.name: _model(model) for model in report.models},
        "differences": {f"{d.a}_minus_{d.b}": d.metrics() for d in report.differences},
        "bootstrap_auc": {
            f"{d.a}_minus_{d.b}": d.bootstrap_auc for d in report.differences if d.bootstrap_auc
        },
        "operating_points": [_operating_point(report, point) for point in report.operating_points],
        "paired_calls": [plain(calls) | {"rule": str(calls.rule)} for calls in report.paired_calls],
        "further": report.further,
        "pseudo_labels": _pseudo_labels(report.pseudo_labels),
        "gallery": [_gallery_slice(shown) for shown in report.gallery],
        "corpora": report.corpora,
        "ledger": report.ledger,
        "training": report.training,
        "methods": report.methods,
        "provenance": report.provenance,
        "settings": report.settings,
    }
    return json.dumps(plain(record), sort_keys=True, indent=1, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: numpy and dataclasses unpacked, None for no number.

    >>> plain({"p": np.array([0.5, np.nan], np.float32), "count": np.int64(3)})
    {'p': [0.5, None], 'count': 3}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _model(model: ModelResult) -> dict[str, Any]:
    # A metric without a value keeps its keys, so that a reader need not ask whether it is there.
    undefined = {"estimate": None, "low": None, "high": None}
    return {
        **{metric: value or undefined for metric, value in model.metrics().items()},
        "title": model.title,
        "kind": model.kind,
        "note": model.note,
        "pixel_threshold": model.pixel_threshold,
        "roc": model.roc,
    }


def _operating_point(report: Report, point: OperatingPoint) -> dict[str, Any]:
    positive, negative = point.test.predictive_values(report.prevalence)
    return {
        "model": point.model,
        "rule": str(point.rule),
        "threshold": point.threshold,
        "calls_no_exam": point.calls_no_exam,
        "tuning": point.tuning,
        "test": point.test,
        "sensitivity": point.test.sensitivity,
        "specificity": point.test.specificity,
        "positive_predictive_value": positive,
        "negative_predictive_value": negative,
        "prevalence": report.prevalence,
    }


def _pseudo_labels(labels: PseudoLabels | None) -> dict[str, Any] | None:
    if labels is None:
        return None
    counts, edges = np.histogram(labels.p, NUM_BINS, (0, 1))
    return {
        "cut": labels.cut,
        "top_percent": labels.top_percent,
        "num_positive": labels.num_positive,
        "num_slices": labels.num_slices,
        "teacher": labels.teacher,
        "sources": labels.sources,
        "histogram": {"counts": counts, "edges": edges.round(6)},
    }


def _gallery_slice(shown: GallerySlice) -> dict[str, Any]:
    return {"exam": shown.exam, "slice": shown.slice, "p": shown.p, "caption": shown.caption}
