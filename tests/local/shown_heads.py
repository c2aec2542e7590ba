"""Made-up exams of a report's gallery: heads in HU with a bleed, and what two models mark."""

from dataclasses import replace

import numpy as np

from ich_ray.display import BRAIN, grey_levels
from ich_ray.reporting.contents import GallerySlice, ModelResult, Report
from ich_ray.reporting.scrolled_exam import MarkedSlice, scrolled_exam
from tests.local.empty_report import EMPTY

NOT_OUTLINED = 1
"""Place of a slice without a reference."""


def disc(row: float, column: float, radius: float, matrix: int) -> np.ndarray:
    rows, columns = np.ogrid[:matrix, :matrix]
    within: np.ndarray = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return within


def marked_slice(exam: int, place: int, *, matrix: int = 96) -> MarkedSlice:
    """A head that shrinks to both ends of six slices; it bleeds in the middle ones."""
    rng = np.random.default_rng([exam, place])
    size, middle = matrix / 96, matrix / 2
    hu = np.full((matrix, matrix), -1000.0)
    hu[disc(middle, middle, (36 - 2 * abs(place - 3)) * size, matrix)] = 900
    brain = disc(middle, middle, (32 - 2 * abs(place - 3)) * size, matrix)
    hu[brain] = 32
    bleed = disc(middle - 6 * size, middle + 8 * size, 7 * size, matrix)
    bleed &= place in (2, 3, 4)
    hu[bleed] = 65
    hu += rng.normal(0, 3, hu.shape)
    nothing = np.zeros_like(bleed)
    return MarkedSlice(
        number=place + 1,
        hounsfield=hu.astype(np.float32),
        reference=None if place == NOT_OUTLINED else bleed,
        predictions={
            "baseline": disc(middle - 4 * size, middle + 8 * size, 5 * size, matrix)
            if place in (1, 3)
            else nothing,
            "semi_supervised": np.roll(bleed, 2, axis=1),
        },
        p={"baseline": 0.1 * place, "semi_supervised": 0.15 * place},
    )


def shown_head(exam: int, *, slices: int = 6, of: int = 6) -> GallerySlice:
    items = [marked_slice(exam, place) for place in range(slices)]
    still = items[3]
    assert still.reference is not None
    return GallerySlice(
        exam=f"{exam:032x}",
        slice=f"{exam + 77:032x}",
        image=grey_levels(still.hounsfield, BRAIN),
        reference=still.reference,
        predictions=still.predictions,
        p=still.p,
        caption=f"Exam number {exam}",
        exam_slices=scrolled_exam(items, first=3, of=of),
    )


def report_of(*shown: GallerySlice) -> Report:
    models = tuple(
        ModelResult(name=name, title=title, kind="network")
        for name, title in (("baseline", "Teacher"), ("semi_supervised", "Student"))
    )
    return replace(EMPTY, models=models, gallery=shown)
