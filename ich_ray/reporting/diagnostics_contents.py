"""What the diagnostics of pseudo-labels tell: plain values, the input of their page and record."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ich_ray.label_diagnostics import (
    LEAST,
    LOGIT_EDGES,
    VOLUME_EDGES_ML,
    ExamVolume,
    HiddenLabels,
    PatientShares,
    ScoreHistograms,
    Volumes,
)
from ich_ray.label_drift import CLASSES, JOINT_EDGES, QUANTILES, Agreement, Drift
from ich_ray.reporting.plain_values import plain

NOTICE = (
    "A diagnostic that never feeds back: hidden labels are read for these figures alone. Nothing "
    "that ranks, labels or trains reads them, nor this file."
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Diagnostics:
    """Everything that is told of one table of pseudo-labels."""

    name: str
    mode: str
    cut: float
    """Probability at which the ranking is cut."""

    exams: int
    slices: int
    positive: int
    ignored: int
    patients: PatientShares
    volumes: Volumes
    exam_volumes: Sequence[ExamVolume]
    """Of each exam with a positive slice."""

    scores: ScoreHistograms
    against: tuple[str, Agreement] | None
    """Name of the other round, and how far it agrees with this one, which comes first."""

    students: Mapping[str, Drift]
    """Name of a model that has learned from these pseudo-labels -> how it differs."""

    hidden: HiddenLabels | None
    notes: Sequence[str]
    """What could not be compared, and what a reader should bear in mind."""

    provenance: Mapping[str, str]


def to_json(found: Diagnostics) -> str:
    """Return diagnostics.json: keys sorted, no NaN; the same diagnostics give the same bytes."""
    record = {
        "pseudo_labels": found.name,
        "mode": found.mode,
        "cut": found.cut,
        "exams": found.exams,
        "slices": found.slices,
        "positive": found.positive,
        "ignored": found.ignored,
        "patients": found.patients,
        "volumes": {
            "summary": found.volumes,
            "edges_ml": VOLUME_EDGES_ML,
            "exams": found.exam_volumes,
        },
        "scores": {"logit_edges": LOGIT_EDGES, "slices": found.scores},
        "agreement": _agreement(found.against),
        "drift": {
            "students": found.students,
            "quantiles": QUANTILES,
            "clipped_to": (LEAST, 1 - LEAST),
            "joint_logit_edges": JOINT_EDGES,
        },
        "hidden_labels": {"notice": NOTICE, "found": found.hidden},
        "notes": found.notes,
        "provenance": found.provenance,
    }
    return json.dumps(plain(record), sort_keys=True, indent=1, allow_nan=False) + "\n"


def _agreement(against: tuple[str, Agreement] | None) -> dict[str, object] | None:
    if against is None:
        return None
    name, found = against
    to_positive, to_negative = found.flipped
    return {
        "other": name,
        "found": found,
        "flipped_to_positive": to_positive,
        "flipped_to_negative": to_negative,
        "labels": CLASSES,
        "joint_logit_edges": JOINT_EDGES,
    }
