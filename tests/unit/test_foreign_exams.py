"""Rows that other software wrote -> exams, or where they are wrong; exams are never named."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.errors import ConfigError
from ich_ray.foreign_cells import Role, columns_of, label_of, name_of, score_of
from ich_ray.foreign_exams import Row, exams_of

SECRET = "Doe^Jane"


def rows(*cells: Sequence[Any]) -> list[Row]:
    """Of exam, slice, value, patient and map; what is left out is None."""
    return [
        Row(f"data row {n}", *(list(row) + [None] * (5 - len(row))))
        for n, row in enumerate(cells, 1)
    ]


def refused(role: Role, *cells: Sequence[Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        exams_of(rows(*cells), role)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_an_exam_has_a_row_of_its_own_or_rows_of_slices() -> None:
    found = exams_of(rows(("a", "", "0.5"), ("b", "1", "0.25"), ("b", "2", "1")), "predictions")
    assert list(found) == ["a", "b"]
    assert (found["a"].value, found["a"].slices) == (0.5, {})
    assert (found["b"].value, found["b"].slices) == (None, {"1": 0.25, "2": 1.0})
    assert found["b"].where == "data row 2"


def test_an_exam_has_both_in_any_order() -> None:
    found = exams_of(rows(("a", 1, 0.25), ("a", None, 0.75), ("a", 2, 0.5)), "predictions")
    assert (found["a"].value, found["a"].slices) == (0.75, {"1": 0.25, "2": 0.5})


def test_an_exam_without_patient_is_its_own() -> None:
    cells = (("a", "", 1), ("b", "", 0, "p"), ("c", "1", 0, "p"), ("c", "2", 0))
    found = exams_of(rows(*cells), "reference")
    assert [exam.patient for exam in found.values()] == ["a", "p", "p"]


def test_a_map_may_stand_in_any_row_of_its_exam() -> None:
    cells = (("a", "", "", None, "a.nii"), ("a", "1", "0.5", None, "a.nii"), ("a", "2", "0.5"))
    found = exams_of(rows(*cells), "predictions")
    assert (found["a"].map, found["a"].value) == ("a.nii", None)
    assert found["a"].slices == {"1": 0.5, "2": 0.5}


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([("", "", 1)], "data row 1, column exam: it is empty"),
        ([(SECRET, "", "")], "data row 1, column label: it is empty; a row needs a label, a map"),
        ([(SECRET, "1", "", "p", "a.nii")], "data row 1, column label.*each row of a slice needs"),
        ([(SECRET, "", 1), (SECRET, "", 1)], "data row 2: its exam has a row .* data row 1; keep"),
        ([(SECRET, "1", 1), (SECRET, 1.0, 1)], "data row 2, column slice: .* this slice already"),
        ([(SECRET, "1", 1, "p"), (SECRET, "2", 1, "q")], "data row 2, column patient: .*another"),
        (
            [(SECRET, "1", 1, "p", "a.nii"), (SECRET, "2", 1, "p", "b.nii")],
            "data row 2, column map: .*another map",
        ),
        ([(SECRET, "", 2)], "data row 1, column label: it is neither 0 nor 1"),
        ([(SECRET, "", SECRET)], "data row 1, column label: it is not a number; write 0 or 1"),
        ([(SECRET, "", "NaN")], "data row 1, column label: it is NaN"),
        ([], "it has no rows"),
    ],
)
def test_what_is_wrong_is_said_by_row_and_column(cells: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        exams_of(rows(*cells), "reference")
    refused("reference", *cells)


def test_a_row_whose_slice_was_forgotten_is_no_score_of_its_exam() -> None:
    regular = [("a", "1", 0.5), ("a", "2", 0.5), ("b", "1", 0.5), ("c", "", 0.5)]
    assert exams_of(rows(*regular), "predictions")["a"].value is None
    said = refused("predictions", *regular, (SECRET, "1", 0.5), (SECRET, "", 0.5))
    assert said.startswith("data row 6, column slice: it is empty beside slices of the same exam")
    assert "2 of 3 exams with slices have no row" in said
    # A row that names a map alone is no slice's.
    with_map = [*regular, ("b", "", "", None, "b.nii")]
    assert exams_of(rows(*with_map), "predictions")["b"].map == "b.nii"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("1.01", "outside 0 to 1.*percent"),
        (-0.01, "outside 0 to 1"),
        ("1e400", "outside 0 to 1"),
        ("nan", "NaN"),
        (float("nan"), "NaN"),
        (float("inf"), "not a number"),
        ("0,93", "not a number.*decimal point"),
        ("0_9", "not a number"),
        ("high", "not a number"),
        (True, "not a number"),
    ],
)
def test_a_score_is_a_probability(cell: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        score_of(cell)


@given(st.floats(0, 1))
def test_a_score_is_the_same_as_number_and_as_text(p: float) -> None:
    assert score_of(p) == score_of(repr(p)) == score_of(f" {p!r} ") == p


@pytest.mark.parametrize("cell", ["1", 1, 1.0, "1.0", "true", "TRUE", True])
def test_what_means_a_hemorrhage(cell: Any) -> None:
    assert label_of(cell) == 1.0


@pytest.mark.parametrize("cell", ["0", 0, 0.0, "0.0", "false", "False", False])
def test_what_means_none(cell: Any) -> None:
    assert label_of(cell) == 0.0


@pytest.mark.parametrize("cell", ["yes", 0.5, -1, "01x"])
def test_anything_else_is_no_label(cell: Any) -> None:
    with pytest.raises(ConfigError, match=r"0 or 1|neither 0 nor 1"):
        label_of(cell)


@given(st.integers(0, 10**9))
def test_a_number_is_one_name_however_a_table_holds_it(number: int) -> None:
    names = {name_of(cell) for cell in (number, float(number), str(number), f"{number}.0")}
    assert names == {str(number)}


def test_leading_zeros_and_points_of_a_name_are_kept() -> None:
    assert [name_of(cell) for cell in ("007", "1.2.840.0", "3.50")] == ["007", "1.2.840.0", "3.50"]


@pytest.mark.parametrize(
    ("header", "role", "said"),
    [
        (["exam_id", "score"], "predictions", "no column exam, and column 1 is called almost so"),
        (["Exam", "score"], "predictions", "no column exam, and column 1"),
        (["exam", "model", "scores"], "predictions", "no column score, and column 3"),
        (["exam", "p"], "predictions", r"no column score; the header.*exam, score \(or map\)"),
        (["exam", "score"], "reference", r"no column label; the header.*exam, label \(or map\)"),
        ([SECRET, "0.5"], "predictions", "no column exam; the header, the first line"),
        (["exam", "label", "PatientID"], "reference", "no column patient, and column 3"),
        (["exam", "score", "slices"], "predictions", "no column slice, and column 3"),
        (["exam", "score", "exam"], "predictions", "two columns exam"),
    ],
)
def test_a_missing_column_is_named_and_the_nearest_by_its_number(
    header: list[str], role: Role, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        columns_of(header, role)
    assert not any(name in str(caught.value) for name in (SECRET, "exam_id", "PatientID"))


def test_other_columns_are_left_alone() -> None:
    header = [" exam", "model", "patient_age", "score ", "time_s"]
    assert columns_of(header, "predictions") == {"exam": 0, "score": 3}
    assert columns_of(["exam", "map", "patient"], "predictions") == {"exam": 0, "map": 1}
    assert columns_of(["exam", "map", "patient"], "reference")["patient"] == 2
