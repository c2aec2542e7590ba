"""A test corpus needs two patients of each class, and says so before anything is resampled."""

import numpy as np
import pytest

from ich_ray.errors import QualityError
from ich_ray.statistics.exam_statistics import ExamFacts, ExamStatistics
from ich_ray.statistics.pooled_exams import compared_exams


def found(labels: dict[str, bool], *, patients: dict[str, str]) -> dict[str, ExamStatistics]:
    return {
        exam: ExamStatistics(
            model="teacher",
            facts=ExamFacts(exam=exam, patient=patients[exam], corpus="c", label=label),
            score=0.5,
            largest_slice=f"{exam}-1",
        )
        for exam, label in labels.items()
    }


def test_two_positive_exams_of_one_patient_are_refused() -> None:
    labels = {"a": True, "b": True, "c": False, "d": False}
    patients = {"a": "p", "b": "p", "c": "q", "d": "r"}
    with pytest.raises(QualityError, match="2 positive exams of 1 patients and 2 negative ones of"):
        compared_exams(found(labels, patients=patients), where="the test selections")


def test_exams_stand_by_key_with_their_patients() -> None:
    labels = {"d": False, "b": True, "a": True, "c": False}
    patients = {"a": "q", "b": "p", "c": "q", "d": "r"}
    seen = compared_exams(found(labels, patients=patients), where="the test selections")
    assert list(seen.keys) == ["a", "b", "c", "d"]
    assert seen.exams.labels.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(seen.exams.patient, [1, 0, 1, 2])
