import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.phantom import SITES, make_exam
from ich_ray.phantom.exam import read_by

BLEEDS = next(
    exam
    for exam in (make_exam(SITES["c"], seed=7, index=i, matrix=128) for i in range(50))
    if (exam.mask > 0).sum() > 2_000
)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@given(st.integers(1, 1_000))
def test_readers_agree_about_bleeds_and_differ_along_their_edges(reader: int) -> None:
    again = read_by(BLEEDS, reader)
    assert 0.6 < dice(again.mask > 0, BLEEDS.mask > 0) < 0.99
    assert (again.subtypes.any(axis=0) == BLEEDS.subtypes.any(axis=0)).all()
    assert (again.stored == BLEEDS.stored).all()


def test_a_reader_is_another_one_and_always_the_same() -> None:
    first, second = (read_by(BLEEDS, reader).mask for reader in (1, 2))
    assert (first != second).any()
    assert (first == read_by(BLEEDS, 1).mask).all()


def test_no_reader_marks_an_exam_without_a_bleed() -> None:
    healthy = next(
        exam
        for exam in (make_exam(SITES["c"], seed=7, index=i, matrix=64) for i in range(50))
        if not exam.mask.any()
    )
    assert not read_by(healthy, 3).mask.any()
