import math
from typing import Any

import numpy as np
import pytest

from ich_ray.statistics import roc
from ich_ray.statistics.breakdown import (
    Group,
    break_down,
    corpus_groups,
    thickness_groups,
    type_groups,
)
from ich_ray.statistics.comparison import Exams
from ich_ray.statistics.exam_statistics import ExamFacts

NOTHING = (False,) * 5


def facts(**given: Any) -> ExamFacts:
    return ExamFacts(**({"exam": "e", "patient": "p", "corpus": "c", "label": False} | given))


def bleeding(*types: int, **given: Any) -> ExamFacts:
    return facts(label=True, subtypes=tuple(i in types for i in range(5)), **given)


def labels_of(found: list[ExamFacts]) -> np.ndarray:
    return np.array([one.label for one in found])


def test_a_type_stands_against_exams_without_any_bleed() -> None:
    found = [bleeding(0), bleeding(0, 4), bleeding(4), facts(subtypes=NOTHING), facts()]
    groups = {(g.kind, g.name): g for g in type_groups(found, labels_of(found))}
    epidural = groups["type", "epidural"]
    assert epidural.members.tolist() == [True, True, False, True, True]
    assert epidural.labels.tolist() == [True, True, False, False, False]
    assert groups["type alone", "epidural"].members.tolist() == [True, False, False, True, True]
    assert groups["type alone", "subdural"].labels.tolist() == [False, False, True, False, False]
    assert len(groups) == 10


def test_a_bleed_whose_type_nobody_named_is_in_no_type_group() -> None:
    found = [facts(label=True), bleeding(1), facts()]
    assert not any(g.members[0] for g in type_groups(found, labels_of(found)))


def test_one_corpus_or_one_thickness_is_no_group() -> None:
    found = [facts(thickness_mm=5.0), facts(thickness_mm=4.5)]
    assert corpus_groups(found, labels_of(found)) == []
    assert thickness_groups(found, labels_of(found)) == []


def test_corpora_and_thicknesses_part_the_exams() -> None:
    mm = [0.6, 2.0, 3.0, 4.0, 5.0, None]
    found = [facts(corpus="ab"[i % 2], thickness_mm=thick) for i, thick in enumerate(mm)]
    labels = labels_of(found)
    assert sum(g.members.astype(int) for g in corpus_groups(found, labels)).tolist() == [1] * 6
    by_name = {g.name: np.flatnonzero(g.members).tolist() for g in thickness_groups(found, labels)}
    assert by_name == {"up to 2 mm": [0, 1], "above 2 up to 4 mm": [2, 3], "above 4 mm": [4]}


def a_group(members: np.ndarray, labels: np.ndarray, name: str = "some") -> Group:
    return Group(kind="truth", name=name, members=members, labels=labels)


def test_a_group_has_the_auc_of_its_own_exams_and_patients() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(60) % 3 == 0
    exams = Exams(labels=labels, patient=np.repeat(np.arange(30), 2))
    scores = {name: rng.normal(labels.astype(float)) for name in ("a", "b")}
    here = np.arange(60) < 40
    (found,) = break_down([a_group(here, labels)], scores, exams, main=("b", "a"))
    assert (found.positive, found.negative) == (14, 26)
    own = roc.delong(scores["a"][here], labels[here], patient=exams.patient[here])
    assert found.aucs["a"] == own
    assert found.difference is not None
    assert found.p_adjusted == found.difference.p


def test_p_values_are_adjusted_for_all_groups() -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(80) % 2 == 0
    exams = Exams(labels=labels, patient=np.arange(80))
    scores = {"a": rng.normal(size=80), "b": rng.normal(2.0 * labels)}
    groups = [a_group(np.arange(80) % 4 < 2, labels), a_group(np.arange(80) % 4 > 1, labels)]
    found = break_down(groups, scores, exams, main=("b", "a"))
    raw = sorted(one.difference.p for one in found if one.difference)
    assert sorted(one.p_adjusted for one in found)[0] == pytest.approx(min(1.0, 2 * raw[0]))


def test_a_group_with_one_patient_of_a_class_has_no_auc() -> None:
    labels = np.array([True, True, True, False, False, False])
    exams = Exams(labels=labels, patient=np.array([0, 0, 1, 2, 3, 4]))
    scores = {"a": np.linspace(0, 1, 6)}
    here = np.array([True, True, False, True, True, True])
    (found,) = break_down([a_group(here, labels)], scores, exams, main=None)
    assert found.aucs == {}
    assert found.difference is None
    assert math.isnan(found.p_adjusted)


def test_a_group_without_exams_is_left_out() -> None:
    exams = Exams(labels=np.array([True, False]), patient=np.arange(2))
    nobody = a_group(np.zeros(2, bool), exams.labels)
    assert break_down([nobody], {"a": np.zeros(2)}, exams, main=None) == []
