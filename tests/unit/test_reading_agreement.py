"""Two readings of the same exams against plain arithmetic on their masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.phantom import SITES, make_exam
from ich_ray.phantom.exam import PhantomExam, read_by
from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.masks.reading_agreement import (
    ReadExam,
    read_exam,
    read_levels,
    reading_agreement,
)

EXAMS = [make_exam(SITES["c"], seed=3, index=i, matrix=64, num_slices=8) for i in range(12)]


def counted(first: PhantomExam, second: PhantomExam) -> ReadExam:
    keys = [f"{first.exam}-{number}" for number in range(len(first.mask))]
    slices = [
        CountedSlice(
            key=key,
            label=True,
            score=0.0,
            levels=read_levels(second.mask[number] > 0),
            reference=first.mask[number] > 0,
            previous=keys[number - 1] if number else None,
            spacing_mm=first.spacing_mm,
            extent_mm=first.thickness_mm,
        )
        for number, key in enumerate(keys)
    ]
    return read_exam(first.exam, first.patient, slices)


@given(st.integers(0, 3), st.integers(0, 3))
def test_agreement_is_that_of_the_masks(one: int, other: int) -> None:
    pairs = [(read_by(exam, one), read_by(exam, other)) for exam in EXAMS]
    found = reading_agreement("a", "b", [counted(a, b) for a, b in pairs], seed=0, resamples=100)
    both = np.array([((a.mask > 0) & (b.mask > 0)).sum() for a, b in pairs])
    either = np.array([(a.mask > 0).sum() + (b.mask > 0).sum() for a, b in pairs])
    marked = either > 0
    assert found.exams == marked.sum()
    assert found.dsc.estimate == pytest.approx(2 * both.sum() / either.sum())
    assert found.mean_dsc.estimate == pytest.approx((2 * both[marked] / either[marked]).mean())
    ml = np.array([np.prod(a.spacing_mm) * a.thickness_mm / 1000 for a, _ in pairs])
    change = np.array([(b.mask > 0).sum() - (a.mask > 0).sum() for a, b in pairs]) * ml
    assert found.volumes.differences.bias.estimate == pytest.approx(change[marked].mean())
    if one == other:
        assert (found.dsc.estimate, found.surfaces.nsd_1mm.estimate) == (1.0, 1.0)
        assert found.volumes.icc.estimate == pytest.approx(1.0)
    else:
        assert found.dsc.low < found.dsc.estimate < found.dsc.high < 1


def test_exams_that_neither_marks_agree_on_nothing() -> None:
    healthy = next(exam for exam in EXAMS if not exam.mask.any())
    found = reading_agreement("a", "b", [counted(healthy, healthy)], seed=0, resamples=100)
    assert found.exams == 0
    assert np.isnan(found.dsc.estimate)
    assert np.isnan(found.surfaces.hd95_mm.estimate)


def test_an_ignored_pixel_is_counted_by_nobody() -> None:
    mask = np.ones((4, 4), np.bool_)
    valid = np.ones((4, 4), np.bool_)
    valid[0] = False
    item = CountedSlice(
        key="s", label=True, score=0.0, levels=read_levels(mask), reference=mask, valid=valid
    )
    found = read_exam("e", "p", [item])
    assert (found.tp, found.fp, found.fn) == (12, 0, 0)
