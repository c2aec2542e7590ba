import numpy as np
import pytest

from ich_ray.statistics.comparison import Exams
from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.exam_statistics import Counting, ExamFacts, ExamStatistics, count_exam
from ich_ray.statistics.masks.mask_figures import MaskFigures, mask_figures
from ich_ray.statistics.pooled_exams import ComparedExams

EXAMS = 30


def statistics(number: int, *, skill: float, masks: bool = True) -> ExamStatistics:
    rng = np.random.default_rng(number)
    bleeds = number % 2 == 0
    true = np.zeros((3, 12, 12), np.bool_)
    if bleeds:
        row, column = rng.integers(1, 6, 2)
        true[1, row : row + 5, column : column + 5] = True
    levels = np.rint(rng.normal(90 + 40 * skill * true, 12)).clip(0).astype(np.uint16)
    slices = [
        CountedSlice(
            key=str(i),
            label=None,
            score=0.5,
            levels=levels[i] if masks else None,
            reference=true[i] if masks else None,
            previous=str(i - 1) if i else None,
            spacing_mm=(1.0, 1.0),
            extent_mm=5.0,
        )
        for i in range(3)
    ]
    facts = ExamFacts(exam=f"{number:02d}", patient=f"p{number // 2}", corpus="c", label=bleeds)
    return count_exam("m", facts, slices, score=0.5, counting=Counting(level=120)).statistics


def seen() -> ComparedExams:
    keys = tuple(f"{i:02d}" for i in range(EXAMS))
    labels = np.arange(EXAMS) % 2 == 0
    return ComparedExams(
        keys=keys, exams=Exams(labels=labels, patient=np.arange(EXAMS, dtype=np.int64) // 2)
    )


def found(**given: float) -> dict[str, dict[str, ExamStatistics]]:
    return {
        name: {f"{i:02d}": statistics(i, skill=skill) for i in range(EXAMS)}
        for name, skill in given.items()
    }


def test_a_better_model_lies_nearer_and_measures_better() -> None:
    figures = mask_figures(found(good=2.0, poor=0.6), seen(), seed=1, resamples=200)
    good, poor = figures.lesions
    assert (good.model, good.num_lesions, good.num_exams) == ("good", 15, EXAMS)
    assert good.num_found == 15
    assert good.num_hits < poor.num_hits  # a poor mask falls to pieces
    near, far = figures.surfaces
    assert near.num_exams == 15
    assert near.nsd_2mm.estimate > far.nsd_2mm.estimate
    right, wrong = figures.volumes
    # 25 pixels of 1 x 1 x 5 mm.
    assert right.reference_ml.tolist() == pytest.approx([0.125] * 15)
    assert abs(right.differences.bias.estimate) < abs(wrong.differences.bias.estimate)


def test_the_same_seed_has_the_same_figures() -> None:
    one, other, third = (
        mask_figures(found(good=1.5), seen(), seed=seed, resamples=100) for seed in (3, 3, 4)
    )
    assert one.lesions[0].sensitivity == other.lesions[0].sensitivity
    assert one.surfaces == other.surfaces
    assert one.surfaces[0].nsd_1mm != third.surfaces[0].nsd_1mm


def test_exams_without_masks_are_left_out_and_nothing_is_said_of_none() -> None:
    some = {
        name: {key: statistics(int(key), skill=1.5, masks=int(key) < 20) for key in exams}
        for name, exams in found(good=1.5).items()
    }
    assert mask_figures(some, seen(), seed=0, resamples=100).lesions[0].num_exams == 20
    none = {"m": {f"{i:02d}": statistics(i, skill=1, masks=False) for i in range(EXAMS)}}
    assert mask_figures(none, seen(), seed=0) == MaskFigures()
