"""Exam AUC in groups of exams: by type of bleed, corpus, slice thickness, and readers' truth.

A group of a type has the exams that bleed so and all that do not bleed: another type's bleeds are
neither. Differences in groups are looked at for many groups at once: Holm adjusts their p-values.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.statistics import roc
from ich_ray.statistics.bootstrap import Difference, Interval
from ich_ray.statistics.comparison import Exams
from ich_ray.statistics.exam_statistics import ExamFacts
from ich_ray.statistics.proportions import holm

Kind = Literal["type", "type alone", "corpus", "slice thickness", "category", "truth"]

THIN_MM, THICK_MM = 2.0, 4.0
"""Slices up to the first are thin, above the second thick."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Group:
    """Some exams, and what counts as positive among them."""

    kind: Kind
    name: str
    members: Bool[np.ndarray, " exam"]
    labels: Bool[np.ndarray, " exam"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupFigures:
    """Models in one group of exams."""

    kind: Kind
    name: str
    positive: int
    negative: int
    aucs: Mapping[str, Interval]
    """Model -> exam AUC; empty where fewer than two patients of a class are in the group."""

    difference: Difference | None
    """Of the two models of the headline."""

    p_adjusted: float
    """Of the difference, by Holm over all groups; NaN without one."""


def type_groups(facts: Sequence[ExamFacts], labels: Bool[np.ndarray, " exam"]) -> list[Group]:
    """Return a group for each type of bleed, of all its exams and of those without another type.

    Exams whose types nobody named are in none of them.
    """
    named = np.array([one.subtypes is not None or not one.label for one in facts], np.bool_)
    nothing = (False,) * len(HEMORRHAGE_TYPES)
    types = np.array([one.subtypes or nothing for one in facts], np.bool_)
    groups = []
    for i, name in enumerate(HEMORRHAGE_TYPES):
        alone = types[:, i] & (types.sum(axis=1) == 1)
        kinds: list[tuple[Kind, Bool[np.ndarray, " exam"]]] = [
            ("type", types[:, i] & labels),
            ("type alone", alone & labels),
        ]
        for kind, positive in kinds:
            groups.append(_group(kind, name, named & (positive | ~labels), labels=positive))
    return groups


def corpus_groups(facts: Sequence[ExamFacts], labels: Bool[np.ndarray, " exam"]) -> list[Group]:
    """Return a group for each corpus, where there are several."""
    corpora = np.array([one.corpus for one in facts], np.str_)
    names = np.unique(corpora)
    return [_group("corpus", str(n), corpora == n, labels=labels) for n in names if len(names) > 1]


def thickness_groups(facts: Sequence[ExamFacts], labels: Bool[np.ndarray, " exam"]) -> list[Group]:
    """Return thin, middle and thick exams, where more than one of these is there."""
    mm = np.array([one.thickness_mm or math.nan for one in facts], np.float64)
    parts = {
        f"up to {THIN_MM:g} mm": mm <= THIN_MM,
        f"above {THIN_MM:g} up to {THICK_MM:g} mm": (mm > THIN_MM) & (mm <= THICK_MM),
        f"above {THICK_MM:g} mm": mm > THICK_MM,
    }
    held = {name: members for name, members in parts.items() if members.any()}
    return [
        _group("slice thickness", name, members, labels=labels)
        for name, members in held.items()
        if len(held) > 1
    ]


def break_down(
    groups: Sequence[Group],
    scores: Mapping[str, Float64[np.ndarray, " exam"]],
    exams: Exams,
    *,
    main: tuple[str, str] | None,
) -> list[GroupFigures]:
    """Return the figures of each group.

    Args:
        groups: Of exams; those without any are left out.
        scores: Model -> its score of each exam.
        exams: All of them; patients are clusters in each group too.
        main: The two models whose difference is given, first minus second.

    Source: DeLong et al. 1988, Obuchowski 1997 (patients); Holm 1979.
    """
    found = [_in_group(one, scores, exams, main) for one in groups if one.members.any()]
    known = [i for i, (_, _, less) in enumerate(found) if less is not None]
    adjusted = dict(zip(known, holm([found[i][2].p for i in known]), strict=True))  # type: ignore[union-attr]
    return [
        GroupFigures(
            kind=group.kind,
            name=group.name,
            positive=int((group.labels & group.members).sum()),
            negative=int((~group.labels & group.members).sum()),
            aucs=aucs,
            difference=less,
            p_adjusted=adjusted.get(i, math.nan),
        )
        for i, (group, aucs, less) in enumerate(found)
    ]


def _in_group(
    group: Group,
    scores: Mapping[str, Float64[np.ndarray, " exam"]],
    exams: Exams,
    main: tuple[str, str] | None,
) -> tuple[Group, dict[str, Interval], Difference | None]:
    here, labels = group.members, group.labels[group.members]
    patient = np.unique(exams.patient[here], return_inverse=True)[1].astype(np.int64)
    if min(len(np.unique(patient[of])) for of in (labels, ~labels)) < 2:
        return group, {}, None
    aucs = {
        name: roc.delong(found[here], labels, patient=patient) for name, found in scores.items()
    }
    if main is None:
        return group, aucs, None
    a, b = (scores[name][here] for name in main)
    return group, aucs, roc.paired_delong(a, b, labels, patient=patient)


def _group(
    kind: Kind, name: str, members: Bool[np.ndarray, " exam"], *, labels: Bool[np.ndarray, " exam"]
) -> Group:
    return Group(kind=kind, name=name, members=members, labels=labels)
